//! A template: text with variables, parsed once when the configuration is loaded; never re-parsed at run time.

use serde::Serialize;

/// Text with variables.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Template {
    /// As written.
    pub source: String,
    /// Parsed.
    pub parts: Vec<Part>,
}

impl Serialize for Template {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.source)
    }
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Verbatim.
    Text(String),
    /// `{name}`; `{{` and `}}` stand for braces.
    Var(Var),
}

/// What is known of a client's connection, if it is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVar {
    /// `{tls.version}`: `TLSv1.3`.
    Version,
    /// `{tls.suite}`.
    Suite,
    /// `{tls.sni}`: the name that was asked for.
    Sni,
    /// `{tls.client.subject}`: of the verified certificate of the client; empty without one, as are those that follow.
    Subject,
    /// `{tls.client.issuer}`.
    Issuer,
    /// `{tls.client.serial}`: hexadecimal.
    Serial,
    /// `{tls.client.fingerprint}`: SHA-256, hexadecimal.
    Fingerprint,
}

/// A variable. Spelling in a file is given for each.
#[derive(Debug, Clone, PartialEq)]
pub enum Var {
    /// `{client.ip}`: after trusted proxies and PROXY protocol.
    ClientIp,
    /// `{client.port}`.
    ClientPort,
    /// `{peer.ip}`: the socket's other end.
    PeerIp,
    /// `{listener}`: its name.
    Listener,
    /// `{scheme}`.
    Scheme,
    /// `{method}`.
    Method,
    /// `{host}`: without port.
    Host,
    /// `{authority}`: with port, as asked.
    Authority,
    /// `{path}`: canonical, without query.
    Path,
    /// `{query}`: without `?`, may be empty.
    Query,
    /// `{uri}`: path and, if there is one, `?query`.
    Uri,
    /// `{protocol}`: `HTTP/1.1`.
    Protocol,
    /// `{tls.version}` and others: empty without TLS.
    Tls(TlsVar),
    /// `{request.id}`.
    RequestId,
    /// `{request.header.NAME}`: first value.
    RequestHeader(String),
    /// `{cookie.NAME}`.
    Cookie(String),
    /// `{query.NAME}`: percent-decoded.
    QueryParam(String),
    /// `{capture}`: a name captured by the route's path.
    Capture(String),
    /// `{site}`.
    Site,
    /// `{route}`.
    Route,
    /// `{upstream}`.
    Upstream,
    /// `{server}`: address of the last attempt.
    Server,
    /// `{status}`: response side and access log only.
    Status,
    /// `{response.header.NAME}`: response side and access log only.
    ResponseHeader(String),
    /// `{time}`: RFC 3339, UTC.
    Time,
    /// `{time.msec}`: Unix time with milliseconds.
    TimeMsec,
    /// `{duration.ms}`: access log only.
    DurationMs,
    /// `{upstream.duration.ms}`: access log only.
    UpstreamMs,
    /// `{bytes.sent}`: access log only.
    BytesSent,
    /// `{bytes.received}`: access log only.
    BytesReceived,
    /// `{attempts}`: access log only.
    Attempts,
    /// `{cache}`: how the cache had part in it, one word; access log only.
    Cache,
    /// `{outcome}`: how it ended, one word; access log only.
    Outcome,
    /// `{fault}`: whose fault; access log only.
    Fault,
}
