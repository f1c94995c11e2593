//! Templates to bytes. A template was parsed when the configuration was loaded; what a variable holds is inserted and
//! never looked at again, so that a client can't write a template.

use std::io::Write;
use std::net::IpAddr;

use narthex_config::model::{Part, Template, Var};
use narthex_message::{Edits, FieldId, Head, cookie, query};
use narthex_observe::clock;

use crate::values::Values;

/// Most bytes that one rendering adds. A piece that would exceed it is left out.
pub const MAX_RENDERED: usize = 1 << 20;

/// Appends `template` with its variables filled in. Never fails: what isn't known is empty, and so are the variables
/// that only an access log knows.
pub fn render(template: &Template, values: &Values<'_>, out: &mut Vec<u8>) {
    View::of(values).render(template, out);
}

/// [`Values`] as one step sees them: with the edits and the path that the steps before it left.
#[derive(Clone, Copy)]
pub(crate) struct View<'v, 'a> {
    pub(crate) values: &'v Values<'a>,
    pub(crate) request: Option<(Head<'v>, &'v Edits)>,
    pub(crate) response: Option<(u16, Head<'v>, &'v Edits)>,
    pub(crate) path: &'v str,
    pub(crate) query: Option<&'v [u8]>,
}

impl<'v, 'a> View<'v, 'a> {
    /// As they are.
    pub(crate) fn of(values: &'v Values<'a>) -> Self {
        Self {
            values,
            request: values.request,
            response: values.response,
            path: values.path,
            query: values.query,
        }
    }

    pub(crate) fn render(&self, template: &Template, out: &mut Vec<u8>) {
        let start = out.len();
        for part in &template.parts {
            let before = out.len();
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Var(var) => self.write(var, out),
            }
            if out.len().saturating_sub(start) > MAX_RENDERED {
                out.truncate(before);
            }
        }
    }

    /// Appends what one variable holds.
    pub(crate) fn write(&self, var: &Var, out: &mut Vec<u8>) {
        let v = self.values;
        match var {
            Var::ClientIp => ip(v.client_ip, out),
            Var::ClientPort if v.client_ip.is_some() => number(u64::from(v.client_port), out),
            Var::PeerIp => ip(v.peer_ip, out),
            Var::Listener => text(v.listener, out),
            Var::Scheme => text(v.scheme, out),
            Var::Method => text(v.method, out),
            Var::Host => text(v.host, out),
            Var::Authority => text(v.authority, out),
            Var::Path => text(self.path, out),
            Var::Query => out.extend_from_slice(self.query.unwrap_or_default()),
            Var::Uri => self.uri(out),
            Var::Protocol => text(v.protocol, out),
            Var::Tls(which) => text(v.tls.map_or("", |tls| tls.get(*which)), out),
            Var::RequestId => text(v.request_id, out),
            Var::RequestHeader(name) => header(self.request, name, out),
            Var::Cookie(name) => self.cookie(name, out),
            Var::QueryParam(name) => self.query_param(name, out),
            Var::Capture(name) => text((v.captures)(name).unwrap_or_default(), out),
            Var::Site => text(v.site, out),
            Var::Route => text(v.route, out),
            Var::Upstream => text(v.upstream, out),
            Var::Server => text(v.server, out),
            Var::Status => {
                if let Some((status, ..)) = self.response {
                    number(u64::from(status), out);
                }
            }
            Var::ResponseHeader(name) => {
                header(self.response.map(|(_, h, e)| (h, e)), name, out);
            }
            Var::Time => out.extend_from_slice(&clock::rfc3339(v.wall_ms / 1000)),
            Var::TimeMsec => seconds(v.wall_ms, out),
            Var::ClientPort
            | Var::DurationMs
            | Var::UpstreamMs
            | Var::BytesSent
            | Var::BytesReceived
            | Var::Attempts
            | Var::Cache
            | Var::Outcome
            | Var::Fault => {}
        }
    }

    fn uri(&self, out: &mut Vec<u8>) {
        text(self.path, out);
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }

    fn query_param(&self, name: &str, out: &mut Vec<u8>) {
        if let Some(value) = self.query.and_then(|q| query::first(q, name)) {
            out.extend_from_slice(&value);
        }
    }

    /// The first value over all `Cookie` lines that are left, original and added.
    fn cookie(&self, name: &str, out: &mut Vec<u8>) {
        let Some((head, edits)) = self.request else {
            return;
        };
        let original = head
            .all(FieldId::Cookie)
            .filter(|_| !edits.removed().has(FieldId::Cookie));
        let added = edits
            .lines()
            .filter(|(id, _)| *id == FieldId::Cookie)
            .map(|(_, line)| line_value(line));
        if let Some(value) = cookie::first(original.chain(added), name) {
            out.extend_from_slice(value);
        }
    }
}

/// The value in a line `Name: value CRLF`.
pub(crate) fn line_value(line: &[u8]) -> &[u8] {
    let at = line
        .iter()
        .position(|b| *b == b':')
        .map_or(line.len(), |i| i + 1);
    line.get(at..).unwrap_or_default().trim_ascii()
}

fn header(side: Option<(Head<'_>, &Edits)>, name: &str, out: &mut Vec<u8>) {
    if let Some(value) = side.and_then(|(head, edits)| edits.get(head, name.as_bytes())) {
        out.extend_from_slice(value);
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

/// An IPv4 address that came mapped into IPv6 is written as IPv4.
fn ip(ip: Option<IpAddr>, out: &mut Vec<u8>) {
    if let Some(ip) = ip {
        // Writing to a vector can't fail.
        let _ = write!(out, "{}", ip.to_canonical());
    }
}

fn number(n: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{n}");
}

/// Milliseconds as seconds with three decimals.
fn seconds(ms: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{}.{:03}", ms / 1000, ms % 1000);
}

#[cfg(test)]
mod tests;
