//! The one validator: run on every head after decoding, whatever protocol it came in. What it returns is the only truth
//! about a message's length and about the fate of its connection.

use crate::authority;
use crate::field::{FieldId, FieldSet, NOT_NOMINABLE};
use crate::head::{Head, Span, Version};
use crate::reject::Reject;

/// A request method. Methods are case-sensitive (RFC 9110 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Connect,
    Trace,
    Other,
}

impl Method {
    /// Of these bytes.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    /// The name, if it is a known one.
    #[inline]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Other => return None,
        })
    }

    /// May a request be sent twice without further effect (RFC 9110 9.2.2)?
    #[inline]
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace
        )
    }
}

/// Port of `http`, if none is named.
const HTTP: u16 = 80;
/// Port of `https`.
const HTTPS: u16 = 443;

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// No body.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunked, or a stream of HTTP/2: ends by itself.
    Chunked,
    /// Until the connection ends; responses only.
    UntilClose,
}

impl Body {
    /// Is there no byte of it?
    #[inline]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The form of a request target (RFC 9112 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`.
    Origin,
    /// `http://host/path`: the authority is that of the target.
    Absolute,
    /// `OPTIONS *`.
    Asterisk,
}

/// What a request's head means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFacts {
    /// Method.
    pub method: Method,
    /// Form of the target.
    pub form: Form,
    /// Host and port as asked: in the target if that is absolute, else the `Host` field.
    pub authority: Span,
    /// Path and query, in the head's bytes. Of an absolute target the path may be empty: `/` is meant, or `*` (see
    /// [`RequestFacts::asks_server`]).
    pub path: Span,
    /// Length of the body.
    pub body: Body,
    /// The client will use the connection again.
    pub keep_alive: bool,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
    /// `Connection: upgrade` with an `Upgrade` field: its value. Of an extended CONNECT: its `:protocol`; then the bytes that
    /// follow are the tunnel's, not a body.
    pub upgrade: Option<Span>,
    /// `Connection` nominates fields to be dropped.
    pub nominates: bool,
    /// `TE: trailers`.
    pub trailers: bool,
    /// Version.
    pub version: Version,
}

impl RequestFacts {
    /// Is it about the server as a whole: `OPTIONS *`, or its absolute form `OPTIONS http://host` (RFC 9112 3.2.4)?
    pub fn asks_server(&self) -> bool {
        match self.form {
            Form::Asterisk => true,
            Form::Absolute => self.method == Method::Options && self.path.is_empty(),
            Form::Origin => false,
        }
    }
}

/// Reads a request's head. An error is final: the connection is closed after the answer.
#[inline(always)]
pub fn request(head: Head<'_>) -> Result<RequestFacts, Reject> {
    let version = head.index.version;
    let method = Method::of(head.method());
    // CONNECT and TRACE have no place in front of an origin (RFC 9110 9.3.6, 9.3.8).
    match method {
        Method::Connect => return Err(Reject::Connect),
        Method::Trace => return Err(Reject::Trace),
        _ => {}
    }
    let target = split_target(head, method)?;
    let authority = authority(head, &target, version)?;
    let body = if version == Version::Http2 {
        if let Err(malformed) = http2(head) {
            return Err(malformed.into());
        }
        request_body_2(head)?
    } else {
        request_body(head, version)?
    };
    let connection = connection(head)?;
    Ok(RequestFacts {
        method,
        form: target.form,
        authority,
        path: target.path,
        body,
        keep_alive: connection.persists(version),
        expects_continue: expectation(head, version, body)?,
        upgrade: match version {
            Version::Http11 if connection.upgrade => span_of(head, FieldId::Upgrade),
            Version::Http2 if !head.index.protocol.is_empty() => Some(head.index.protocol),
            _ => None,
        },
        nominates: connection.nominates,
        trailers: (connection.te || version == Version::Http2)
            && head
                .all(FieldId::Te)
                .any(|v| tokens(v).any(|t| t.eq_ignore_ascii_case(b"trailers"))),
        version,
    })
}

struct Target {
    form: Form,
    path: Span,
    authority: Option<Span>,
    /// The port that the scheme implies.
    port: u16,
}

#[inline]
fn split_target(head: Head<'_>, method: Method) -> Result<Target, Reject> {
    let span = head.index.target;
    let target = head.target();
    match target.first() {
        Some(b'/') => Ok(Target {
            form: Form::Origin,
            path: span,
            authority: None,
            port: HTTP,
        }),
        Some(b'*') if target.len() == 1 && method == Method::Options => Ok(Target {
            form: Form::Asterisk,
            path: span,
            authority: None,
            port: HTTP,
        }),
        Some(b'h' | b'H') if head.index.version != Version::Http2 => absolute(span, target),
        _ => Err(Reject::Target),
    }
}

/// `http://authority/path?query`; the scheme is that of the listener's transport, which the caller knows to be plain.
fn absolute(span: Span, target: &[u8]) -> Result<Target, Reject> {
    let (scheme, port) = match target {
        t if starts_with_ignore_case(t, b"http://") => (7, HTTP),
        t if starts_with_ignore_case(t, b"https://") => (8, HTTPS),
        _ => return Err(Reject::Target),
    };
    let rest = target.get(scheme..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|&b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    if end == 0 || rest.get(end) == Some(&b'#') {
        return Err(Reject::Target);
    }
    let from = span.start as usize + scheme;
    Ok(Target {
        form: Form::Absolute,
        path: Span::new(from + end, span.end as usize),
        authority: Some(Span::new(from, from + end)),
        port,
    })
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes
        .get(..prefix.len())
        .is_some_and(|b| b.eq_ignore_ascii_case(prefix))
}

fn span_of(head: Head<'_>, id: FieldId) -> Option<Span> {
    head.index
        .fields
        .iter()
        .find(|f| f.id == id)
        .map(|f| f.value)
}

/// RFC 9112 3.2: exactly one `Host` in HTTP/1.1; with an absolute target both must say the same.
#[inline]
fn authority(head: Head<'_>, target: &Target, version: Version) -> Result<Span, Reject> {
    if head.index.repeated.has(FieldId::Host) {
        let mut hosts = head.all(FieldId::Host);
        let first = hosts.next().unwrap_or_default();
        // `:authority` and another `host` (RFC 9113 8.3.1); the decoder has dropped one that says the same.
        return Err(if version == Version::Http2 && hosts.any(|h| h != first) {
            Reject::HostMismatch
        } else {
            Reject::HostRepeated
        });
    }
    let first = if head.index.present.has(FieldId::Host) {
        span_of(head, FieldId::Host)
    } else {
        None
    };
    match (target.authority, first) {
        (Some(named), Some(host)) => {
            if !is_same_authority(named.of(head.bytes), host.of(head.bytes), target.port) {
                return Err(Reject::HostMismatch);
            }
            Ok(named)
        }
        (None, Some(host)) => Ok(host),
        // RFC 9112 3.2: 400 for any HTTP/1.1 request that lacks Host, whatever its target's form.
        (target, None) if version == Version::Http10 => Ok(target.unwrap_or_default()),
        (_, None) => Err(Reject::HostMissing),
    }
}

/// Do both name the same host and port, in whatever spelling (RFC 9110 4.2.3)?
pub fn is_same_authority(a: &[u8], b: &[u8], default_port: u16) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    match (authority::parse(a), authority::parse(b)) {
        (Ok(a), Ok(b)) => a.host == b.host && a.port_or(default_port) == b.port_or(default_port),
        _ => false,
    }
}

/// RFC 9112 6: one place computes a request's length.
#[inline]
fn request_body(head: Head<'_>, version: Version) -> Result<Body, Reject> {
    let length = content_length(head).map_err(|repeated| {
        if repeated {
            Reject::ContentLengthRepeated
        } else {
            Reject::ContentLength
        }
    })?;
    if !head.index.present.has(FieldId::TransferEncoding) {
        return Ok(length.map_or(Body::None, Body::Length));
    }
    if version == Version::Http10 {
        return Err(Reject::TransferEncodingIn10);
    }
    if head.index.present.has(FieldId::ContentLength) {
        return Err(Reject::LengthAndCoding);
    }
    let mut codings = head.all(FieldId::TransferEncoding);
    let only = codings.next().unwrap_or_default();
    if codings.next().is_some() {
        return Err(Reject::TransferEncoding);
    }
    if only.eq_ignore_ascii_case(b"chunked") {
        return Ok(Body::Chunked);
    }
    // A clean token that is not `chunked` is a coding we do not have (501); everything else is an attempt at one.
    if !only.is_empty() && only.iter().all(u8::is_ascii_alphabetic) && !resembles_chunked(only) {
        return Err(Reject::TransferCoding);
    }
    Err(Reject::TransferEncoding)
}

/// RFC 9113 8.1: the stream says where a body ends; a `content-length` is only checked against it.
fn request_body_2(head: Head<'_>) -> Result<Body, Reject> {
    // The bytes of a tunnel are no body.
    if !head.index.protocol.is_empty() {
        return Ok(Body::None);
    }
    let length = content_length(head).map_err(|_| Reject::ContentLength)?;
    match (head.index.ended, length) {
        (true, None) => Ok(Body::None),
        (true, Some(1..)) => Err(Reject::ContentLength),
        (_, Some(n)) => Ok(Body::Length(n)),
        (false, None) => Ok(Body::Chunked),
    }
}

/// What makes a message of HTTP/2 malformed (RFC 9113 8.1.1) beside the order of its pseudo-fields: a reset, never an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // `word` says what each is
pub enum Malformed {
    PseudoField,
    FieldName,
    FieldValue,
    ConnectionField,
    TransferEncoding,
    Te,
    ContentLength,
    Method,
    Scheme,
    Path,
    Status,
    Trailer,
}

impl Malformed {
    /// The reason word.
    pub fn word(self) -> &'static str {
        match self {
            Self::PseudoField => "pseudo-field",
            Self::FieldName => "field-name",
            Self::FieldValue => "field-value",
            Self::ConnectionField => "connection-field",
            Self::TransferEncoding => "transfer-encoding",
            Self::Te => "te",
            Self::ContentLength => "content-length",
            Self::Method => "method",
            Self::Scheme => "scheme",
            Self::Path => "path",
            Self::Status => "status",
            Self::Trailer => "trailer",
        }
    }
}

impl From<Malformed> for Reject {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::FieldName | Malformed::PseudoField => Self::FieldName,
            Malformed::FieldValue | Malformed::Te | Malformed::Status => Self::FieldValue,
            Malformed::ConnectionField => Self::ConnectionField,
            Malformed::TransferEncoding => Self::TransferEncoding,
            Malformed::ContentLength => Self::ContentLength,
            Malformed::Method => Self::Method,
            Malformed::Scheme | Malformed::Path => Self::Target,
            Malformed::Trailer => Self::Trailer,
        }
    }
}

/// Fields that HTTP/2 has no use for, and no place (RFC 9113 8.2.2).
const NOT_IN_HTTP2: FieldSet = FieldSet::of(&[
    FieldId::Connection,
    FieldId::KeepAlive,
    FieldId::ProxyConnection,
    FieldId::TransferEncoding,
    FieldId::Upgrade,
]);

/// What HTTP/2 forbids in the fields of any head or trailer section (RFC 9113 8.2.2), and the length that the message claims
/// to have. Bytes of names and values have been checked by the decoder.
pub fn http2(head: Head<'_>) -> Result<Option<u64>, Malformed> {
    let present = head.index.present;
    if present.intersects(NOT_IN_HTTP2) {
        return Err(if present.has(FieldId::TransferEncoding) {
            Malformed::TransferEncoding
        } else {
            Malformed::ConnectionField
        });
    }
    if present.has(FieldId::Te)
        && !head
            .all(FieldId::Te)
            .all(|v| v.eq_ignore_ascii_case(b"trailers"))
    {
        return Err(Malformed::Te);
    }
    content_length(head).map_err(|_| Malformed::ContentLength)
}

/// May this byte stand in a field name of HTTP/2 (RFC 9113 8.2.1)? A token's, in lower case.
#[inline]
pub const fn is_lower_token_byte(b: u8) -> bool {
    TOKEN[b as usize] && !b.is_ascii_uppercase()
}

fn resembles_chunked(token: &[u8]) -> bool {
    token.to_ascii_lowercase().windows(5).any(|w| w == b"chunk")
}

/// `Ok(None)` without the field; `Err(true)` if it is repeated, `Err(false)` if it is no number.
#[inline]
fn content_length(head: Head<'_>) -> Result<Option<u64>, bool> {
    if head.index.repeated.has(FieldId::ContentLength) {
        return Err(true);
    }
    let Some(value) = head.get(FieldId::ContentLength) else {
        return Ok(None);
    };
    decimal(value).map(Some).ok_or(false)
}

/// `1*DIGIT`, at most 20 digits, at most 2^63 - 1 (RFC 9110 8.6).
#[inline]
pub fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 20 {
        return None;
    }
    let mut n = 0u64;
    for &b in value {
        if !b.is_ascii_digit() {
            return None;
        }
        n = n.checked_mul(10)?.checked_add(u64::from(b - b'0'))?;
    }
    if n > i64::MAX as u64 { None } else { Some(n) }
}

#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    te: bool,
    nominates: bool,
}

impl Connection {
    fn persists(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
            Version::Http2 => true,
        }
    }
}

#[inline]
fn connection(head: Head<'_>) -> Result<Connection, Reject> {
    if head.index.present.has(FieldId::Connection) {
        connection_of(head)
    } else {
        Ok(Connection::default())
    }
}

fn connection_of(head: Head<'_>) -> Result<Connection, Reject> {
    let mut c = Connection::default();
    for value in head.all(FieldId::Connection) {
        for token in tokens(value) {
            match token.len() {
                0 => {}
                5 if token.eq_ignore_ascii_case(b"close") => c.close = true,
                10 if token.eq_ignore_ascii_case(b"keep-alive") => c.keep_alive = true,
                7 if token.eq_ignore_ascii_case(b"upgrade") => c.upgrade = true,
                2 if token.eq_ignore_ascii_case(b"te") => c.te = true,
                _ if token.iter().all(|&b| is_token_byte(b)) => c.nominates = true,
                _ => return Err(Reject::ConnectionField),
            }
        }
    }
    Ok(c)
}

/// Does some `Connection` field nominate `name`, and may it (RFC 9110 7.6.1)?
pub fn is_nominated(head: Head<'_>, id: FieldId, name: &[u8]) -> bool {
    if NOT_NOMINABLE.has(id) {
        return false;
    }
    head.all(FieldId::Connection)
        .any(|v| tokens(v).any(|t| t.eq_ignore_ascii_case(name)))
}

/// The elements of a comma-separated list, trimmed.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}

/// RFC 9110 10.1.1. HTTP/1.0 has no expectations; an expectation without a body is void.
#[inline]
fn expectation(head: Head<'_>, version: Version, body: Body) -> Result<bool, Reject> {
    let Some(value) = head.get(FieldId::Expect) else {
        return Ok(false);
    };
    if head.index.repeated.has(FieldId::Expect) || !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(Reject::Expectation);
    }
    Ok(version != Version::Http10 && !body.is_empty())
}

/// What is wrong with an origin's answer: always its fault, never forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BadResponse {
    StatusLine,
    Field,
    BareLineEnd,
    HeadTooLarge,
    TooManyFields,
    ContentLength,
    TransferEncoding,
    UnexpectedSwitch,
    TooManyInformational,
    Chunk,
    Trailer,
    Surplus,
    Version,
}

impl BadResponse {
    /// The reason word.
    pub fn word(self) -> &'static str {
        match self {
            Self::StatusLine => "origin-status-line",
            Self::Field => "origin-field",
            Self::BareLineEnd => "origin-bare-line-end",
            Self::HeadTooLarge => "origin-head-too-large",
            Self::TooManyFields => "origin-too-many-fields",
            Self::ContentLength => "origin-content-length",
            Self::TransferEncoding => "origin-transfer-encoding",
            Self::UnexpectedSwitch => "origin-unexpected-101",
            Self::TooManyInformational => "origin-too-many-1xx",
            Self::Chunk => "origin-chunk",
            Self::Trailer => "origin-trailer",
            Self::Surplus => "origin-surplus",
            Self::Version => "origin-version",
        }
    }
}

/// What a response's head means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFacts {
    /// 100..=599 (999 is refused).
    pub status: u16,
    /// Length of the body.
    pub body: Body,
    /// The length that the answer to a GET would have had: HEAD and 304 keep it.
    pub announced: Option<u64>,
    /// The server will use the connection again.
    pub keep_alive: bool,
    /// `Connection` nominates fields to be dropped.
    pub nominates: bool,
    /// `Keep-Alive: timeout=N` in seconds.
    pub keep_alive_hint: Option<u64>,
    /// Both `Content-Length` and `Transfer-Encoding`: never stored, connection never reused.
    pub suspicious: bool,
}

/// Reads a response's head. RFC 9112 6.3: HEAD, 1xx, 204 and 304 have no body whatever their fields say.
#[inline(always)]
pub fn response(head: Head<'_>, request_method: Method) -> Result<ResponseFacts, BadResponse> {
    let status = head.index.status;
    let connection = connection(head).map_err(|_| BadResponse::Field)?;
    let version = head.index.version;
    let announced = content_length(head).map_err(|_| BadResponse::ContentLength)?;
    let coded = head.index.present.has(FieldId::TransferEncoding);
    let mut keep_alive = connection.persists(version);
    let bodyless = request_method == Method::Head || status < 200 || status == 204 || status == 304;
    let body = if bodyless {
        Body::None
    } else if version == Version::Http2 {
        if coded {
            return Err(BadResponse::TransferEncoding);
        }
        match (head.index.ended, announced) {
            (true, Some(1..)) => return Err(BadResponse::ContentLength),
            (true, _) => Body::Length(0),
            (false, Some(n)) => Body::Length(n),
            (false, None) => Body::Chunked,
        }
    } else if coded {
        let mut codings = head.all(FieldId::TransferEncoding);
        let only = codings.next().unwrap_or_default();
        if codings.next().is_some()
            || !only.eq_ignore_ascii_case(b"chunked")
            || version == Version::Http10
        {
            return Err(BadResponse::TransferEncoding);
        }
        Body::Chunked
    } else {
        announced.map_or(Body::UntilClose, Body::Length)
    };
    let suspicious = coded && announced.is_some();
    if body == Body::UntilClose || suspicious {
        keep_alive = false;
    }
    let keep_alive_hint = if head.index.present.has(FieldId::KeepAlive) {
        keep_alive_timeout(head)
    } else {
        None
    };
    let nominates = connection.nominates;
    let announced = if status < 200 || status == 204 || coded {
        None
    } else {
        announced
    };
    Ok(ResponseFacts {
        status,
        body,
        announced,
        keep_alive,
        nominates,
        keep_alive_hint,
        suspicious,
    })
}

fn keep_alive_timeout(head: Head<'_>) -> Option<u64> {
    head.all(FieldId::KeepAlive).flat_map(tokens).find_map(|t| {
        starts_with_ignore_case(t, b"timeout=")
            .then(|| decimal(t.get(8..).unwrap_or_default()))
            .flatten()
    })
}

/// May this byte stand in a token (RFC 9110 5.6.2)?
#[inline]
pub const fn is_token_byte(b: u8) -> bool {
    TOKEN[b as usize]
}

static TOKEN: [bool; 256] = token_table();

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut b = 0usize;
    while b < 256 {
        let c = b as u8;
        table[b] = c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        b += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"00000000000000000042"), Some(42));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in [
            "",
            "+5",
            "-0",
            "0x5",
            "5,5",
            "5 5",
            "1_0",
            "9223372036854775808",
            "18446744073709551617",
            "000000000000000000042",
        ] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn responses_of_http2() {
        for (status, ended, method, body) in [
            (200, true, Method::Get, Body::Length(0)),
            (200, false, Method::Get, Body::Chunked),
            (200, true, Method::Head, Body::None),
            (204, true, Method::Get, Body::None),
            (304, true, Method::Get, Body::None),
            (103, false, Method::Get, Body::None),
        ] {
            let index = crate::Index {
                status,
                ended,
                version: Version::Http2,
                ..crate::Index::default()
            };
            let facts = response(Head::new(b"", &index), method).unwrap();
            assert_eq!((facts.body, facts.keep_alive), (body, true), "{status}");
            assert!(!facts.suspicious && !facts.nominates);
        }
    }
}
