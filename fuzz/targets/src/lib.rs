//! What the fuzzers run: every target is a function of bytes that panics when a promise is broken.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; `tests/replay.rs` runs them on stable over `fuzz/corpus`.

mod cache;
mod chunked;
mod config;
mod differential;
mod engine;
mod grpc_web;
mod h2;
mod head;
mod proxy_header;
mod url;

pub use cache::{cache_key, cache_policy};
pub use chunked::chunked;
pub use config::config;
pub use differential::differential;
pub use grpc_web::grpc_web;
pub use h2::{h2_client, h2_server, hpack};
pub use head::head;
pub use proxy_header::proxy_header;
pub use url::url;

use narthex_wire::h1::scan::HeadLimits;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("head", head),
    ("chunked", chunked),
    ("proxy_header", proxy_header),
    ("config", config),
    ("url", url),
    ("differential", differential),
    ("hpack", hpack),
    ("h2_server", h2_server),
    ("h2_client", h2_client),
    ("cache_policy", cache_policy),
    ("cache_key", cache_key),
    ("grpc_web", grpc_web),
];

/// The product's defaults for a request.
pub const LIMITS: HeadLimits = HeadLimits {
    line: 8 << 10,
    field: 8 << 10,
    head: 32 << 10,
    fields: 100,
};

/// Places to cut `len` bytes at, taken from a seed: ascending, each between 1 and `len`, the last `len` itself.
fn cuts(mut seed: u64, len: usize) -> Vec<usize> {
    let mut at = 0;
    let mut out = Vec::new();
    while at < len {
        // xorshift64*: short and long steps, both often.
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        let random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        let most = if random & 1 == 0 { 4 } else { 64 };
        at = (at + 1 + (random >> 1) as usize % most).min(len);
        out.push(at);
    }
    out
}

/// A seed of the bytes themselves, so that an input needs no part for it.
fn seed(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    }) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_ascend_to_the_end() {
        for len in [0, 1, 2, 77, 1000] {
            let cuts = cuts(seed(&[len as u8]), len);
            assert!(cuts.windows(2).all(|w| w[0] < w[1]));
            assert_eq!(cuts.last().copied(), (len > 0).then_some(len));
        }
    }
}
