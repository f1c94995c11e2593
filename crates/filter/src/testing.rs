//! What the tests of this room share: a template parser of their own, heads from text, values to start from.

use std::net::{IpAddr, Ipv4Addr};

use narthex_config::model::{Part, Template, Var};
use narthex_message::{Edits, Field, FieldId, Head, Index, Span};

use crate::values::Values;

/// A template as the configuration would parse it, for the variables that the tests use.
pub(crate) fn template(source: &str) -> Template {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let (name, tail) = after.split_once('}').unwrap();
        parts.push(Part::Var(var(name)));
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Template {
        source: source.to_owned(),
        parts,
    }
}

fn var(name: &str) -> Var {
    let member = |family: &str| name.strip_prefix(family).map(str::to_owned);
    if let Some(name) = member("request.header.") {
        return Var::RequestHeader(name);
    }
    if let Some(name) = member("response.header.") {
        return Var::ResponseHeader(name);
    }
    if let Some(name) = member("cookie.") {
        return Var::Cookie(name);
    }
    if let Some(name) = member("query.") {
        return Var::QueryParam(name);
    }
    match name {
        "client.ip" => Var::ClientIp,
        "client.port" => Var::ClientPort,
        "peer.ip" => Var::PeerIp,
        "listener" => Var::Listener,
        "scheme" => Var::Scheme,
        "method" => Var::Method,
        "host" => Var::Host,
        "authority" => Var::Authority,
        "path" => Var::Path,
        "query" => Var::Query,
        "uri" => Var::Uri,
        "protocol" => Var::Protocol,
        "request.id" => Var::RequestId,
        "site" => Var::Site,
        "route" => Var::Route,
        "upstream" => Var::Upstream,
        "server" => Var::Server,
        "status" => Var::Status,
        "time" => Var::Time,
        "time.msec" => Var::TimeMsec,
        "duration.ms" => Var::DurationMs,
        "outcome" => Var::Outcome,
        _ => Var::Capture(name.to_owned()),
    }
}

/// Field lines, and the index over them.
pub(crate) struct Message {
    bytes: Vec<u8>,
    index: Index,
}

impl Message {
    pub(crate) fn new(fields: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        let mut index = Index::default();
        for (name, value) in fields {
            let start = bytes.len();
            bytes.extend_from_slice(name.as_bytes());
            let name_end = bytes.len();
            bytes.extend_from_slice(b": ");
            let value_start = bytes.len();
            bytes.extend_from_slice(value);
            let value_end = bytes.len();
            bytes.extend_from_slice(b"\r\n");
            index.push(Field {
                id: FieldId::of(name.as_bytes()),
                sloppy: false,
                name: Span::new(start, name_end),
                value: Span::new(value_start, value_end),
                end: bytes.len() as u32,
            });
        }
        Self { bytes, index }
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head::new(&self.bytes, &self.index)
    }
}

/// The lines that edits add, as text.
pub(crate) fn lines(edits: &Edits) -> Vec<String> {
    edits
        .lines()
        .map(|(_, line)| String::from_utf8_lossy(line).trim_end().to_owned())
        .collect()
}

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// No capture.
pub(crate) fn none<'a>(_: &str) -> Option<&'a str> {
    None
}

/// A plain request.
pub(crate) fn values<'a>(captures: &'a dyn Fn(&str) -> Option<&'a str>) -> Values<'a> {
    Values {
        client_ip: Some(CLIENT),
        client_port: 4711,
        peer_ip: Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))),
        listener: "web",
        scheme: "https",
        method: "GET",
        host: "shop.example",
        authority: "shop.example:8443",
        path: "/a/b",
        query: Some(b"x=1&y=%2F"),
        protocol: "HTTP/1.1",
        tls: None,
        request_id: "id-1",
        site: "shop",
        route: "/a/*",
        upstream: "app",
        server: "10.0.0.1:80",
        wall_ms: 784_111_777_042,
        request: None,
        response: None,
        captures,
    }
}
