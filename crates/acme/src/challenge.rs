//! How a name is proven to be ours (RFC 8555 section 8, RFC 8737), and where the answers are put.

pub mod dns01;
mod update;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use rustls::sign::CertifiedKey;
pub use update::{Algorithm, Tsig};

/// The kinds that we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file under `/.well-known/acme-challenge/`, on port 80.
    Http01,
    /// A certificate for the protocol `acme-tls/1`, on port 443.
    TlsAlpn01,
    /// A TXT record; the only kind for wildcards.
    Dns01,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Http01 => "http-01",
            Kind::TlsAlpn01 => "tls-alpn-01",
            Kind::Dns01 => "dns-01",
        })
    }
}

/// Where the data plane finds answers. What is put there is answered until it is taken away again, and nothing else is.
pub trait Answers: Send + Sync + 'static {
    /// A token that is asked for under this host, and what to answer.
    fn put_token(&self, host: &str, token: &str, answer: &str);
    /// No longer.
    fn take_token(&self, host: &str, token: &str);
    /// The certificate for a handshake of `acme-tls/1` with this name. It has a critical extension that only authorities know:
    /// whoever checks it as a certificate of a server refuses it.
    fn put_certificate(&self, name: &str, certificate: Arc<CertifiedKey>);
    /// No longer.
    fn take_certificate(&self, name: &str);
}
