//! TLS of the proxy: which policy and which certificates each listener has, and which site may be asked over which connection.
//!
//! [`tables`] are built from the configuration and swapped with it. What outlives a reload is in [`TlsShared`]: the keys of
//! tickets, what certificate authorities ask for, and the certificates that the `acme` room obtains.

mod files;
mod guard;
mod handshake;
pub(crate) mod hsts;
pub(crate) mod identity;
mod metrics;
mod shared;
mod tables;

pub(crate) use files::encryptions;
pub use files::{Finding, examine};
pub(crate) use guard::Guard;
pub(crate) use handshake::{Session, accept};
pub(crate) use metrics::HandshakeMetrics;
pub use shared::TlsShared;
pub use tables::Refreshed;
pub(crate) use tables::Tables;
