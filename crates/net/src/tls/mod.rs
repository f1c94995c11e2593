//! TLS on a core: a [`crate::stream::Stream`] that encrypts.
//!
//! [`accept()`] is for who comes to us, [`connect`] for servers; both give a stream on which everybody reads and writes as on a
//! plain one. Who decides what is in `docs/tls.md`.

mod accept;
pub mod challenges;
pub mod client;
mod hello;
mod names;
pub mod on_demand;
pub mod problem;
mod scratch;
pub mod server;
mod session;
pub(crate) mod stream;
pub mod tickets;
mod turn;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub use accept::{Handshake, HandshakeError, accept};
pub use client::{ClientTls, Connected, connect};
pub use problem::Problem;
pub use server::{PolicyId, ServerTls};
pub use turn::pending;

/// Name of HTTP/2 in ALPN.
pub const H2: &[u8] = b"h2";
/// Name of HTTP/1.1 in ALPN.
pub const HTTP_11: &[u8] = b"http/1.1";
/// Name in ALPN under which a certificate authority asks for a proof (RFC 8737).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Version of TLS that was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// TLS 1.2, RFC 5246.
    Tls12,
    /// TLS 1.3, RFC 8446.
    Tls13,
}

impl Version {
    /// As it is logged.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// aws-lc-rs, with its order of suites and groups: X25519MLKEM768 first.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(test)]
mod tests;
