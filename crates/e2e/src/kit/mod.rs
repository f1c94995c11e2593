//! The kit: an origin that records and misbehaves ([`origin`]), a client that sends exactly the bytes it is told
//! ([`attack`]), a reference parser ([`model`]), the proxy under test ([`proxy`]) and the glue between them ([`rig`]). For
//! faults under load: paced load with a tally ([`load`]), origins that can be killed ([`chaos`]), the number of workers
//! ([`workers`]) and rows for the scorecard ([`card`]). Name servers are [`dns`], which says what it is told to say, and
//! [`named`], which is none of ours. For discovery besides: a real etcd ([`etcd`]), a real Docker engine and one that is
//! played ([`docker`]), a played Consul ([`consul`]). For certificates: a real authority ([`pebble`]). HTTP/2 has a kit of its
//! own: [`h2`]; other peers of it are [`h2peer`], those of gRPC [`grpc`]. An origin of large files that are computed is [`ranged`].

pub mod attack;
pub mod browser;
pub mod cached;
pub mod canon;
pub mod card;
pub mod chaos;
pub mod consul;
pub mod craft;
pub mod derived;
pub mod dns;
pub mod docker;
pub mod etcd;
pub mod found;
pub mod grpc;
pub mod h2;
pub mod h2peer;
pub mod http;
pub mod load;
pub mod model;
pub mod named;
pub mod on_disk;
pub mod origin;
pub mod pebble;
pub mod proxy;
pub mod ranged;
pub mod relay;
pub mod rig;
pub mod sock;
pub mod stand_in;
pub mod table;
pub mod tls;
pub mod workers;
pub mod ws;

use std::time::{Duration, Instant};

/// How long a test waits for an event that must happen; generous, because machines are slow and a failure is rare.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for `done` to become true, asking again every few milliseconds, at most `limit`.
///
/// Only for conditions outside this process that nobody announces (a file that grows, a port that opens).
pub fn eventually(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        pause(Duration::from_millis(5));
    }
}

/// Lets time pass: the pace of a slow peer is part of an attack, not a way to wait for something.
#[expect(
    clippy::disallowed_methods,
    reason = "a slow peer is slow by the clock"
)]
pub fn pause(d: Duration) {
    std::thread::sleep(d);
}

/// Bytes as readable text for a failure message: printable ASCII as is, the rest escaped, at most 600 bytes.
pub fn show(bytes: &[u8]) -> String {
    let cut = bytes.get(..600).unwrap_or(bytes);
    let more = if cut.len() < bytes.len() {
        format!("... ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    format!("{}{more}", cut.escape_ascii())
}

/// FNV-1a, to compare long bodies without keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    /// Hash of one piece.
    pub fn of(bytes: &[u8]) -> Self {
        let mut h = Self::default();
        h.add(bytes);
        h
    }
}

/// A small deterministic generator (`SplitMix64`), so that a sweep is the same on every machine.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `n` (which must not be 0).
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n as u64) as usize
    }
}

/// Is the long form of the sweeps asked for (`NARTHEX_E2E_FULL=1`)?
pub fn full() -> bool {
    std::env::var_os("NARTHEX_E2E_FULL").is_some_and(|v| v == "1")
}

/// Lets this process open as many files as it may. Long forms hold both ends of hundreds of connections, each end twice.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("limit of open files");
}
