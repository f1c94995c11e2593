//! Access logs in the operator's own shape: a compiled list of parts.

use super::escape;
use super::format::TimeTexts;
use super::record::Record;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// Verbatim; controls other than a tab become spaces, so that a record stays one line.
    Text(String),
    /// A value.
    Field(FieldKind),
}

/// A value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// RFC 3339 with milliseconds.
    Time,
    /// `06/Nov/1994:08:49:37 +0000`.
    TimeClf,
    /// Unix time, seconds with milliseconds.
    TimeMsec,
    /// Client's address.
    ClientIp,
    /// Client's port.
    ClientPort,
    /// Authenticated user.
    User,
    /// Method.
    Method,
    /// `http` or `https`.
    Scheme,
    /// Host and port as asked.
    Authority,
    /// The authority without its port.
    Host,
    /// Path.
    Path,
    /// Query without `?`.
    Query,
    /// Path and, if there is one, `?query`.
    Uri,
    /// `HTTP/1.1`.
    Protocol,
    /// Status.
    Status,
    /// Bytes of response body.
    BytesSent,
    /// Bytes of request body.
    BytesReceived,
    /// Milliseconds with microseconds.
    DurationMs,
    /// The last attempt's milliseconds.
    UpstreamMs,
    /// Upstream's name.
    Upstream,
    /// Server's name.
    Server,
    /// Attempts made.
    Attempts,
    /// How the cache had part in it.
    Cache,
    /// Request's identity.
    RequestId,
    /// Site's name.
    Site,
    /// Route's name.
    Route,
    /// How it ended.
    Outcome,
    /// Whose fault it was.
    Fault,
    /// Why.
    Reason,
    /// `User-Agent`.
    UserAgent,
    /// `Referer`.
    Referer,
    /// The value at this place in [`Record::extras`]: headers, cookies, captures.
    Extra(usize),
}

/// How a template's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// `\xHH`; what is absent is `-`.
    Hex,
    /// As contents of a JSON string; an absent text is empty, an absent number `null`.
    Json,
}

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<TemplatePart>,
    escape: Escape,
}

impl Template {
    /// A template that begins with `{` is JSON, any other is text.
    pub fn new(parts: Vec<TemplatePart>) -> Self {
        let json = matches!(parts.first(), Some(TemplatePart::Text(text)) if text.trim_start().starts_with('{'));
        Self::with_escape(parts, if json { Escape::Json } else { Escape::Hex })
    }

    /// With the escaping said.
    pub fn with_escape(mut parts: Vec<TemplatePart>, escape: Escape) -> Self {
        for part in &mut parts {
            if let TemplatePart::Text(text) = part {
                *text = text.replace(|letter: char| letter.is_control() && letter != '\t', " ");
            }
        }
        Self { parts, escape }
    }

    /// How values are written.
    pub fn escape(&self) -> Escape {
        self.escape
    }

    pub(super) fn write(&self, record: &Record<'_>, time: &mut TimeTexts, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => out.extend_from_slice(text.as_bytes()),
                TemplatePart::Field(kind) => self.field(*kind, record, time, out),
            }
        }
    }

    fn field(&self, kind: FieldKind, record: &Record<'_>, time: &mut TimeTexts, out: &mut Vec<u8>) {
        match kind {
            FieldKind::Time => time.rfc3339_ms(record.time_ms, out),
            FieldKind::TimeClf => out.extend_from_slice(time.clf(record.time_ms)),
            FieldKind::TimeMsec => escape::thousandths(record.time_ms, out),
            FieldKind::ClientIp => match record.client {
                Some(address) => escape::address(address, out),
                None => out.extend_from_slice(b"unix:"),
            },
            FieldKind::ClientPort => escape::number(record.client_port.into(), out),
            FieldKind::Status => escape::number(record.status.into(), out),
            FieldKind::BytesSent => escape::number(record.bytes_sent, out),
            FieldKind::BytesReceived => escape::number(record.bytes_received, out),
            FieldKind::Attempts => escape::number(record.attempts.into(), out),
            FieldKind::DurationMs => escape::thousandths(record.duration_us, out),
            FieldKind::UpstreamMs => match (record.upstream_us, self.escape) {
                (Some(micros), _) => escape::thousandths(micros, out),
                (None, Escape::Hex) => out.push(b'-'),
                (None, Escape::Json) => out.extend_from_slice(b"null"),
            },
            FieldKind::Uri => {
                self.text(record.path, out);
                if let Some(query) = record.query {
                    out.push(b'?');
                    self.escaped(query, out);
                }
            }
            FieldKind::Query => self.text(record.query.unwrap_or_default(), out),
            FieldKind::Host => self.text(without_port(record.authority), out),
            FieldKind::User => self.text(record.user, out),
            FieldKind::Method => self.text(record.method, out),
            FieldKind::Scheme => self.text(record.scheme.as_bytes(), out),
            FieldKind::Authority => self.text(record.authority, out),
            FieldKind::Path => self.text(record.path, out),
            FieldKind::Protocol => self.text(record.protocol.as_bytes(), out),
            FieldKind::Upstream => self.text(record.upstream.as_bytes(), out),
            FieldKind::Server => self.text(record.server.as_bytes(), out),
            FieldKind::Cache => self.text(record.cache.as_bytes(), out),
            FieldKind::RequestId => self.text(record.request_id, out),
            FieldKind::Site => self.text(record.site.as_bytes(), out),
            FieldKind::Route => self.text(record.route.as_bytes(), out),
            FieldKind::Outcome => self.text(record.outcome.as_bytes(), out),
            FieldKind::Fault => self.text(record.fault.as_bytes(), out),
            FieldKind::Reason => self.text(record.reason.as_bytes(), out),
            FieldKind::UserAgent => self.text(record.user_agent, out),
            FieldKind::Referer => self.text(record.referer, out),
            FieldKind::Extra(at) => {
                self.text(record.extras.get(at).copied().unwrap_or_default(), out);
            }
        }
    }

    fn text(&self, value: &[u8], out: &mut Vec<u8>) {
        if value.is_empty() && self.escape == Escape::Hex {
            out.push(b'-');
        } else {
            self.escaped(value, out);
        }
    }

    fn escaped(&self, value: &[u8], out: &mut Vec<u8>) {
        match self.escape {
            Escape::Hex => escape::hex(value, out),
            Escape::Json => escape::json(value, out),
        }
    }
}

/// `[::1]:80` is `[::1]`, `a:80` is `a`.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority
        .iter()
        .rposition(|byte| matches!(byte, b':' | b']'))
    {
        Some(at) if authority.get(at) == Some(&b':') => authority.get(..at).unwrap_or_default(),
        _ => authority,
    }
}
