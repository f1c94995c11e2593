//! Everything a template may ask for.

use std::net::IpAddr;

use narthex_config::model::TlsVar;
use narthex_message::{Edits, Head};

/// Everything a template may ask for: borrowed, built by whoever renders. Nothing is computed until a template asks.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// Client address, after trusted proxies and PROXY protocol; `None` over a unix socket.
    pub client_ip: Option<IpAddr>,
    /// Client port; 0 if there is none.
    pub client_port: u16,
    /// The socket's other end.
    pub peer_ip: Option<IpAddr>,
    /// The listener's name.
    pub listener: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Method.
    pub method: &'a str,
    /// Canonical host without port.
    pub host: &'a str,
    /// Host with port, as asked.
    pub authority: &'a str,
    /// Canonical path.
    pub path: &'a str,
    /// Query without `?`; `None` if there is none, which differs from an empty one.
    pub query: Option<&'a [u8]>,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// The client's connection, if it is encrypted.
    pub tls: Option<TlsValues<'a>>,
    /// Request id.
    pub request_id: &'a str,
    /// The site's name.
    pub site: &'a str,
    /// The route's name.
    pub route: &'a str,
    /// The upstream's name.
    pub upstream: &'a str,
    /// Address of the last attempt.
    pub server: &'a str,
    /// Unix time, milliseconds.
    pub wall_ms: u64,
    /// The request and what is done to it. [`crate::Chain::request`] reads the edits it is given instead of these.
    pub request: Option<(Head<'a>, &'a Edits)>,
    /// Status and head of the response, and what is done to it. [`crate::Chain::response`] reads the edits it is given
    /// instead of these.
    pub response: Option<(u16, Head<'a>, &'a Edits)>,
    /// What the route's path captured, by name; percent-encoded as the path is.
    pub captures: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// What is known of an encrypted connection. What is not known is empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsValues<'a> {
    /// `TLSv1.3`.
    pub version: &'a str,
    /// The suite.
    pub suite: &'a str,
    /// The name that was asked for.
    pub sni: &'a str,
    /// Of the client's verified certificate.
    pub subject: &'a str,
    /// Of the client's verified certificate.
    pub issuer: &'a str,
    /// Of the client's verified certificate.
    pub serial: &'a str,
    /// Of the client's verified certificate.
    pub fingerprint: &'a str,
}

impl<'a> TlsValues<'a> {
    /// One of them.
    pub fn get(&self, which: TlsVar) -> &'a str {
        match which {
            TlsVar::Version => self.version,
            TlsVar::Suite => self.suite,
            TlsVar::Sni => self.sni,
            TlsVar::Subject => self.subject,
            TlsVar::Issuer => self.issuer,
            TlsVar::Serial => self.serial,
            TlsVar::Fingerprint => self.fingerprint,
        }
    }
}
