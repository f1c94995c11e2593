//! What is known about a request when it has ended.

use std::net::IpAddr;

/// One request. Everything is borrowed; an empty text means that there is none.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When the request ended, Unix milliseconds.
    pub time_ms: u64,
    /// The client's address, after trusted proxies; `None` on a unix socket.
    pub client: Option<IpAddr>,
    /// The client's port, 0 if not known.
    pub client_port: u16,
    /// Authenticated user.
    pub user: &'a [u8],
    /// Method as sent.
    pub method: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and port as asked.
    pub authority: &'a [u8],
    /// Path as asked, without query.
    pub path: &'a [u8],
    /// What followed `?`; `None` if there was none.
    pub query: Option<&'a [u8]>,
    /// The client's connection, if it was encrypted.
    pub tls: Option<TlsRecord<'a>>,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// Status sent; 0 if none was.
    pub status: u16,
    /// Bytes of response body sent.
    pub bytes_sent: u64,
    /// Bytes of request body received.
    pub bytes_received: u64,
    /// From the first byte of the request to the last of the response, microseconds.
    pub duration_us: u64,
    /// The upstream's name.
    pub upstream: &'a str,
    /// The server of the last attempt.
    pub server: &'a str,
    /// Attempts made.
    pub attempts: u32,
    /// From the last attempt's start to the end of its response, microseconds; `None` without an attempt.
    pub upstream_us: Option<u64>,
    /// How the cache had part in it, one word: `hit`, `miss`, `pass` ...; empty if it had none.
    pub cache: &'static str,
    /// The request's identity, as in `X-Request-Id`.
    pub request_id: &'a [u8],
    /// The site's name.
    pub site: &'a str,
    /// The route's name.
    pub route: &'a str,
    /// How it ended, one word: `ok`, `client-abort`, `upstream-timeout`, `limited` ...
    pub outcome: &'static str,
    /// Whose fault it was: `none`, `client`, `origin` or `proxy`.
    pub fault: &'static str,
    /// Why, in one word, if there is more to say than the outcome does.
    pub reason: &'a str,
    /// `User-Agent`.
    pub user_agent: &'a [u8],
    /// `Referer`.
    pub referer: &'a [u8],
    /// Values that only a template asks for ([`FieldKind::Extra`](super::FieldKind::Extra)), in the template's order.
    pub extras: &'a [&'a [u8]],
}

/// How a client's connection was encrypted.
#[derive(Debug, Clone, Copy)]
pub struct TlsRecord<'a> {
    /// `TLSv1.3`.
    pub version: &'a str,
    /// `TLS13_AES_256_GCM_SHA384`.
    pub suite: &'a str,
    /// The name that was asked for.
    pub sni: &'a str,
    /// An earlier session was resumed.
    pub resumed: bool,
    /// Subject of the client's verified certificate.
    pub client: &'a str,
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self {
            time_ms: 0,
            client: None,
            client_port: 0,
            user: b"",
            method: b"",
            scheme: "",
            authority: b"",
            path: b"",
            query: None,
            tls: None,
            protocol: "",
            status: 0,
            bytes_sent: 0,
            bytes_received: 0,
            duration_us: 0,
            upstream: "",
            server: "",
            attempts: 0,
            upstream_us: None,
            cache: "",
            request_id: b"",
            site: "",
            route: "",
            outcome: "ok",
            fault: "none",
            reason: "",
            user_agent: b"",
            referer: b"",
            extras: &[],
        }
    }
}
