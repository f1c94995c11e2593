//! The reference parser: the grammar of RFC 9110 and 9112 with Narthex's decisions (reject where the RFC lets a recipient
//! choose between repair and rejection), written to be read rather than to be fast. Pure, total, bounded by its input.
//!
//! [`read`] takes everything a client sent on one connection and says which requests a correct proxy accepts, and how it
//! ends. Tests compare the proxy with it; a fuzzer may, too.

use super::canon::canonical_target;
use super::http::{Fields, decimal, field_line, hex, is_tchar, is_token, is_value_byte, trim_ows};

/// Size bounds that belong to the answer (defaults of the product).
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Longest request line.
    pub request_line: usize,
    /// Longest field line.
    pub field: usize,
    /// Whole head, +32 per field.
    pub head: usize,
    /// Most fields.
    pub fields: usize,
    /// Longest chunk extension of a line.
    pub chunk_extension: usize,
    /// Trailer section.
    pub trailers: usize,
    /// Most trailer fields.
    pub trailer_fields: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            request_line: 8 << 10,
            field: 8 << 10,
            head: 32 << 10,
            fields: 100,
            chunk_extension: 256,
            trailers: 8 << 10,
            trailer_fields: 32,
        }
    }
}

/// A request that must be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method token.
    pub method: Vec<u8>,
    /// Request target as sent.
    pub target: Vec<u8>,
    /// `1` of `HTTP/1.1`.
    pub minor: u8,
    /// Field lines, values trimmed.
    pub fields: Fields,
    /// Body without its framing.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
}

/// How the connection ends for the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Exactly on a message boundary.
    Clean,
    /// The last accepted request asked for (or implies) the end; whatever follows is not looked at.
    Closed,
    /// More bytes are needed.
    Incomplete {
        /// The head of the unfinished message was complete and acceptable.
        in_body: bool,
    },
    /// What follows is refused with one of these statuses, and the connection closed.
    Reject {
        /// Acceptable statuses.
        status: &'static [u16],
        /// The head was acceptable; the body (or trailer) is not.
        in_body: bool,
        /// One word, for failure messages.
        why: &'static str,
    },
}

/// What a correct proxy does with a byte stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Accepted requests in order.
    pub requests: Vec<Request>,
    /// How it ends.
    pub end: End,
}

/// Why the current message was not accepted.
enum Stop {
    More {
        in_body: bool,
    },
    Reject {
        status: &'static [u16],
        in_body: bool,
        why: &'static str,
    },
}

const BAD: &[u16] = &[400];
/// Well-formed, and refused for what it asks.
const NOT_DONE: &[u16] = &[400, 405, 501];

fn bad(why: &'static str) -> Stop {
    Stop::Reject {
        status: BAD,
        in_body: false,
        why,
    }
}

fn refuse(status: &'static [u16], why: &'static str) -> Stop {
    Stop::Reject {
        status,
        in_body: false,
        why,
    }
}

/// Reads with the default bounds.
pub fn read(bytes: &[u8]) -> Outcome {
    read_with(bytes, &Bounds::default())
}

/// Reads a whole connection's bytes.
pub fn read_with(bytes: &[u8], bounds: &Bounds) -> Outcome {
    let mut requests = Vec::new();
    let mut at = 0;
    loop {
        // RFC 9112, 2.2: an empty line before a request line is ignored (one; more is abuse).
        let rest = bytes.get(at..).unwrap_or_default();
        let skip = if rest.starts_with(b"\r\n") { 2 } else { 0 };
        let rest = rest.get(skip..).unwrap_or_default();
        if rest.is_empty() {
            return Outcome {
                requests,
                end: End::Clean,
            };
        }
        match message(rest, bounds) {
            Ok((request, used)) => {
                let last = ends_connection(&request);
                requests.push(request);
                at += skip + used;
                if last {
                    return Outcome {
                        requests,
                        end: End::Closed,
                    };
                }
            }
            Err(Stop::More { in_body }) => {
                return Outcome {
                    requests,
                    end: End::Incomplete { in_body },
                };
            }
            Err(Stop::Reject {
                status,
                in_body,
                why,
            }) => {
                return Outcome {
                    requests,
                    end: End::Reject {
                        status,
                        in_body,
                        why,
                    },
                };
            }
        }
    }
}

/// RFC 9112, 9.3.
fn ends_connection(r: &Request) -> bool {
    let close = r.fields.has_token("connection", "close");
    close || (r.minor == 0 && !r.fields.has_token("connection", "keep-alive"))
}

/// A cursor over what is left.
struct Cursor<'a> {
    rest: &'a [u8],
    used: usize,
}

impl<'a> Cursor<'a> {
    /// Up to the next CRLF. A bare CR, a bare LF or a NUL is an error as soon as it is seen.
    fn line(&mut self, in_body: bool, limit: usize, over: &Stop2) -> Result<&'a [u8], Stop> {
        let reject = |why| Stop::Reject {
            status: BAD,
            in_body,
            why,
        };
        for (i, b) in self.rest.iter().enumerate() {
            match b {
                b'\r' => match self.rest.get(i + 1) {
                    Some(b'\n') => {
                        let (line, rest) = (self.rest.get(..i), self.rest.get(i + 2..));
                        self.rest = rest.unwrap_or_default();
                        self.used += i + 2;
                        return if i > limit {
                            Err(over.stop(in_body))
                        } else {
                            Ok(line.unwrap_or_default())
                        };
                    }
                    Some(_) => return Err(reject("bare-cr")),
                    None => break,
                },
                b'\n' => return Err(reject("bare-lf")),
                0 => return Err(reject("nul")),
                _ => {}
            }
        }
        if self.rest.len() > limit.saturating_add(1) {
            Err(over.stop(in_body))
        } else {
            Err(Stop::More { in_body })
        }
    }

    fn bytes(&mut self, n: u64) -> Result<&'a [u8], Stop> {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or(Stop::More { in_body: true })?;
        self.rest = rest;
        self.used += n;
        Ok(head)
    }
}

/// What a line that is too long is answered with.
struct Stop2 {
    status: &'static [u16],
    why: &'static str,
}

impl Stop2 {
    fn stop(&self, in_body: bool) -> Stop {
        Stop::Reject {
            status: self.status,
            in_body,
            why: self.why,
        }
    }
}

fn message(bytes: &[u8], bounds: &Bounds) -> Result<(Request, usize), Stop> {
    let mut c = Cursor {
        rest: bytes,
        used: 0,
    };
    let line = c.line(
        false,
        // Its line end counts.
        bounds.request_line.saturating_sub(2),
        &Stop2 {
            status: &[414, 400],
            why: "request-line-size",
        },
    )?;
    let (method, target, minor) = request_line(line)?;
    let fields = header_section(&mut c, bounds, line.len())?;
    check_head(method, target, minor, &fields)?;
    let (body, trailers) = body(&mut c, minor, &fields, bounds)?;
    let request = Request {
        method: method.to_vec(),
        target: target.to_vec(),
        minor,
        fields,
        body,
        trailers,
    };
    Ok((request, c.used))
}

/// RFC 9112, 3: exactly two single spaces.
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], u8), Stop> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse(&[400, 505], "request-line"));
    };
    if !is_token(method) {
        return Err(bad("method"));
    }
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Err(refuse(&[400, 505], "version")),
    };
    check_target(method, target)?;
    Ok((method, target, minor))
}

/// RFC 9112, 3.2.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), Stop> {
    if target.is_empty() || !target.iter().all(|b| (0x21..0x7f).contains(b)) {
        return Err(bad("target-bytes"));
    }
    if method == b"CONNECT" {
        return Err(refuse(NOT_DONE, "connect"));
    }
    if method == b"TRACE" {
        return Err(refuse(NOT_DONE, "trace"));
    }
    if target == b"*" {
        return if method == b"OPTIONS" {
            Ok(())
        } else {
            Err(bad("asterisk"))
        };
    }
    let path = if target.starts_with(b"/") {
        target
    } else {
        absolute(target).ok_or_else(|| bad("target-form"))?.1
    };
    // `http://a?q` has an empty path.
    let whole = if path.starts_with(b"/") {
        path.to_vec()
    } else {
        [b"/", path].concat()
    };
    canonical_target(&whole)
        .map(drop)
        .ok_or_else(|| bad("path"))
}

/// `http://authority/path`: the authority and the rest.
pub fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let lower = target.to_ascii_lowercase();
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|s| lower.starts_with(s))?;
    let rest = target.get(scheme.len()..)?;
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    authority_ok(authority).then_some((authority, path))
}

/// One host and one port, the scheme's own if none is named (RFC 9110 4.2.3).
fn same_authority(target: &[u8], a: &[u8], b: &[u8]) -> bool {
    let https = target.to_ascii_lowercase().starts_with(b"https:");
    let whole = |authority: &[u8]| {
        let text = String::from_utf8_lossy(authority).to_ascii_lowercase();
        let cut = text.rfind(':').filter(|at| !text.ends_with(']') && *at > 0);
        let (host, port) = match cut {
            Some(at) => (text[..at].to_owned(), text[at + 1..].to_owned()),
            None => (text, String::new()),
        };
        let port = match (port.parse::<u16>(), https) {
            (Ok(port), _) => port,
            (Err(_), true) => 443,
            (Err(_), false) => 80,
        };
        let host = match host.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>() {
            Ok(v6) => v6.to_string(),
            Err(_) => host.strip_suffix('.').unwrap_or(&host).to_owned(),
        };
        (host, port)
    };
    whole(a) == whole(b)
}

/// RFC 3986 host and port, without userinfo, percent-encoding or anything a proxy could read in two ways.
pub fn authority_ok(a: &[u8]) -> bool {
    if let Some(v6) = a.strip_prefix(b"[") {
        let Some(close) = v6.iter().position(|b| *b == b']') else {
            return false;
        };
        let (addr, rest) = v6.split_at(close);
        let literal = std::str::from_utf8(addr)
            .ok()
            .and_then(|s| s.parse::<std::net::Ipv6Addr>().ok());
        return literal.is_some() && port_ok(rest.get(1..).unwrap_or_default());
    }
    let end = a.iter().position(|b| *b == b':').unwrap_or(a.len());
    let (host, port) = a.split_at(end);
    let name = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(b);
    a.len() <= 255 && !host.is_empty() && host.iter().all(name) && labels_ok(host) && port_ok(port)
}

/// No empty label, but for the one after a final dot.
fn labels_ok(host: &[u8]) -> bool {
    let host = host.strip_suffix(b".").unwrap_or(host);
    host.split(|b| *b == b'.').all(|l| !l.is_empty())
}

fn port_ok(rest: &[u8]) -> bool {
    let Some(port) = rest.strip_prefix(b":") else {
        return rest.is_empty();
    };
    port.is_empty() || decimal(port).is_some_and(|p| p <= 65535 && port.len() <= 5)
}

fn header_section(c: &mut Cursor<'_>, bounds: &Bounds, line: usize) -> Result<Fields, Stop> {
    let over = Stop2 {
        status: &[431],
        why: "field-size",
    };
    let mut fields = Fields::default();
    // Line ends count, and 32 bytes for each field.
    let mut size = line + 2;
    loop {
        let line = c.line(false, bounds.field, &over)?;
        if line.is_empty() {
            return if size + 2 > bounds.head {
                Err(refuse(&[431], "head-size"))
            } else {
                Ok(fields)
            };
        }
        fields.0.push(field(line).map_err(bad)?);
        size += line.len() + 2 + 32;
        if fields.0.len() > bounds.fields || size > bounds.head {
            return Err(refuse(&[431], "head-size"));
        }
    }
}

/// RFC 9112, 5, without folding and without whitespace before the colon.
fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err("obs-fold");
    }
    let colon = line.iter().position(|b| *b == b':').ok_or("no-colon")?;
    let name = line.get(..colon).unwrap_or_default();
    if !name.iter().copied().all(is_tchar) || name.is_empty() {
        return Err("field-name");
    }
    field_line(line).ok_or("field-value")
}

/// Everything about a head that needs more than one line to see.
fn check_head(method: &[u8], target: &[u8], minor: u8, fields: &Fields) -> Result<(), Stop> {
    check_host(target, minor, fields)?;
    let (te, cl) = (
        fields.all("transfer-encoding"),
        fields.all("content-length"),
    );
    if te.len() > 1 || cl.len() > 1 || (!te.is_empty() && !cl.is_empty()) {
        return Err(bad("framing"));
    }
    if let Some(v) = cl.first() {
        // Digits that do not fit are a size, whatever else they are.
        let digits = !v.is_empty() && v.iter().all(u8::is_ascii_digit);
        let status: &[u16] = if digits { &[400, 413] } else { BAD };
        decimal(v).ok_or_else(|| refuse(status, "content-length"))?;
    }
    if let Some(v) = te.first() {
        if minor == 0 {
            return Err(bad("te-in-1.0"));
        }
        if !v.eq_ignore_ascii_case(b"chunked") {
            return Err(refuse(&[400, 501], "transfer-coding"));
        }
    }
    let list = |v: &&[u8]| {
        v.split(|b| *b == b',')
            .map(|t| t.trim_ascii().to_vec())
            .collect::<Vec<_>>()
    };
    if fields
        .all("connection")
        .iter()
        .flat_map(list)
        .any(|t| !t.iter().copied().all(is_tchar))
    {
        return Err(bad("connection"));
    }
    let expect = fields.all("expect");
    if !matches!(expect.as_slice(), [])
        && !matches!(expect.as_slice(), [v] if v.eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(refuse(&[417, 400], "expect"));
    }
    let _ = method;
    Ok(())
}

/// RFC 9112, 3.2 and 7.2 of RFC 9110.
fn check_host(target: &[u8], minor: u8, fields: &Fields) -> Result<(), Stop> {
    let hosts = fields.all("host");
    if hosts.len() > 1 || (hosts.is_empty() && minor == 1) {
        return Err(bad("host-count"));
    }
    let Some(host) = hosts.first() else {
        return Ok(());
    };
    if !authority_ok(host) {
        return Err(bad("host"));
    }
    match absolute(target) {
        Some((authority, _)) if !same_authority(target, authority, host) => {
            Err(bad("authority-mismatch"))
        }
        _ => Ok(()),
    }
}

fn body(
    c: &mut Cursor<'_>,
    minor: u8,
    fields: &Fields,
    bounds: &Bounds,
) -> Result<(Vec<u8>, Fields), Stop> {
    let _ = minor;
    if fields.has("transfer-encoding") {
        return chunked(c, bounds);
    }
    let length = fields
        .all("content-length")
        .first()
        .and_then(|v| decimal(v))
        .unwrap_or(0);
    Ok((c.bytes(length)?.to_vec(), Fields::default()))
}

/// RFC 9112, 7.1; only CRLF ends a line, extensions are checked and dropped.
fn chunked(c: &mut Cursor<'_>, bounds: &Bounds) -> Result<(Vec<u8>, Fields), Stop> {
    let over = Stop2 {
        status: &[400, 413, 431],
        why: "chunk-line-size",
    };
    let reject = |why| Stop::Reject {
        status: BAD,
        in_body: true,
        why,
    };
    let mut body = Vec::new();
    loop {
        // The size may have 16 digits; what follows is the extension.
        let line = c.line(true, 16 + bounds.chunk_extension, &over)?;
        let end = line
            .iter()
            .position(|b| !b.is_ascii_hexdigit())
            .unwrap_or(line.len());
        let (size, extension) = line.split_at(end);
        let size = hex(size).ok_or_else(|| reject("chunk-size"))?;
        if !extensions_ok(extension) {
            return Err(reject("chunk-extension"));
        }
        if extension.len() > bounds.chunk_extension {
            return Err(over.stop(true));
        }
        if size == 0 {
            return Ok((body, trailer_section(c, bounds)?));
        }
        body.extend_from_slice(c.bytes(size)?);
        match c.rest {
            [b'\r', b'\n', ..] => drop(c.bytes(2)?),
            [] | [b'\r'] => return Err(Stop::More { in_body: true }),
            _ => return Err(reject("chunk-end")),
        }
    }
}

/// `*( ";" BWS name [ BWS "=" BWS value ] BWS )`: RFC 9112, 7.1.1, but for whitespace between size and `;`.
fn extensions_ok(mut ext: &[u8]) -> bool {
    // Whitespace is only allowed around `;` and `=`.
    if matches!(ext.last(), Some(b' ' | b'\t')) {
        return false;
    }
    while !ext.is_empty() {
        let Some(rest) = ext.strip_prefix(b";").map(skip_ows) else {
            return false;
        };
        let end = rest
            .iter()
            .position(|b| !is_tchar(*b))
            .unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        if name.is_empty() {
            return false;
        }
        let rest = skip_ows(rest);
        ext = match rest.strip_prefix(b"=").map(skip_ows) {
            None => rest,
            Some(value) => match extension_value(value) {
                Some(rest) => skip_ows(rest),
                None => return false,
            },
        };
    }
    true
}

fn skip_ows(mut v: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = v {
        v = rest;
    }
    v
}

/// `qdtext` without `obs-text`: nobody has a use for it here.
fn quotable(b: u8) -> bool {
    is_value_byte(b) && b < 0x80
}

/// A token or a quoted string; returns what follows it.
fn extension_value(v: &[u8]) -> Option<&[u8]> {
    let Some(mut q) = v.strip_prefix(b"\"") else {
        let end = v.iter().position(|b| !is_tchar(*b)).unwrap_or(v.len());
        return if end == 0 { None } else { v.get(end..) };
    };
    loop {
        match q {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b, rest @ ..] if quotable(*b) => q = rest,
            [b, rest @ ..] if *b != b'\\' && quotable(*b) => q = rest,
            _ => return None,
        }
    }
}

/// Names that mean something before the body and must not come after it (RFC 9110, 6.5.1).
pub const NEVER_IN_TRAILERS: &[&str] = &[
    "transfer-encoding",
    "content-length",
    "host",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "authorization",
    "proxy-authorization",
    "cookie",
    "cache-control",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "content-encoding",
    "content-type",
    "content-range",
    "keep-alive",
    "proxy-connection",
];

fn trailer_section(c: &mut Cursor<'_>, bounds: &Bounds) -> Result<Fields, Stop> {
    let over = Stop2 {
        status: &[400, 431, 413],
        why: "trailer-size",
    };
    let mut fields = Fields::default();
    let mut size = 0;
    loop {
        let line = c.line(true, bounds.field.min(bounds.trailers), &over)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let f = field(line).map_err(|why| Stop::Reject {
            status: BAD,
            in_body: true,
            why,
        })?;
        if NEVER_IN_TRAILERS
            .iter()
            .any(|n| f.0.eq_ignore_ascii_case(n.as_bytes()))
        {
            return Err(Stop::Reject {
                status: BAD,
                in_body: true,
                why: "trailer-name",
            });
        }
        size += line.len() + 2;
        fields.0.push(f);
        if size > bounds.trailers || fields.0.len() > bounds.trailer_fields {
            return Err(over.stop(true));
        }
    }
}

/// Names that a proxy consumes, replaces or owns: never compared end to end.
pub fn is_end_to_end(name: &[u8]) -> bool {
    const OURS: &[&str] = &[
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "host",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-real-ip",
        "x-request-id",
        "via",
        "proxy-authorization",
        "proxy-authenticate",
        "http2-settings",
    ];
    !name.iter().any(|b| matches!(b, b'_' | b'.'))
        && !OURS.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
}

/// The fields of a request that must reach the origin unchanged, names in lower case.
pub fn end_to_end(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    let nominated: Vec<Vec<u8>> = fields
        .all("connection")
        .iter()
        .flat_map(|v| v.split(|b| *b == b','))
        .map(|t| trim_ows(t).to_ascii_lowercase())
        .collect();
    fields
        .0
        .iter()
        .map(|(n, v)| (n.to_ascii_lowercase(), v.clone()))
        .filter(|(n, _)| is_end_to_end(n) && !nominated.contains(n))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: &str = "Host: a\r\n";

    fn end(s: &str) -> End {
        read(s.as_bytes()).end
    }

    #[track_caller]
    fn accepts(s: &str, n: usize) -> Outcome {
        let o = read(s.as_bytes());
        assert!(
            !matches!(o.end, End::Reject { .. } | End::Incomplete { .. }),
            "{s:?}: {:?}",
            o.end
        );
        assert_eq!(o.requests.len(), n, "{s:?}");
        o
    }

    #[test]
    fn accepts_what_is_right() {
        accepts(&format!("GET / HTTP/1.1\r\n{H}\r\n"), 1);
        accepts(
            &format!("GET / HTTP/1.1\r\n{H}\r\nGET /b HTTP/1.1\r\n{H}\r\n"),
            2,
        );
        accepts(
            &format!(
                "\r\nPOST / HTTP/1.1\r\n{H}Content-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\n{H}\r\n"
            ),
            2,
        );
        accepts(&format!("OPTIONS * HTTP/1.1\r\n{H}\r\n"), 1);
        accepts("GET http://a/x HTTP/1.1\r\nHost: A\r\n\r\n", 1);
        accepts("GET / HTTP/1.0\r\n\r\nleft over", 1);
        let o = accepts(
            &format!(
                "POST / HTTP/1.1\r\n{H}Transfer-Encoding: Chunked\r\n\r\n3;a=\"b\\\"\";c\r\nabc\r\n0\r\nT: v\r\n\r\n"
            ),
            1,
        );
        assert_eq!(o.requests[0].body, b"abc");
        assert_eq!(o.requests[0].trailers.get("t").as_deref(), Some("v"));
    }

    #[test]
    fn rejects_what_can_be_read_in_two_ways() {
        for s in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\nx\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n",
        ] {
            assert!(matches!(end(s), End::Reject { .. }), "{s:?}: {:?}", end(s));
        }
    }

    #[test]
    fn asks_for_more_until_the_end() {
        let whole = format!(
            "POST /a HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n"
        );
        for n in 1..whole.len() {
            let o = read(&whole.as_bytes()[..n]);
            assert!(
                o.requests.is_empty() && matches!(o.end, End::Incomplete { .. }),
                "{n}: {o:?}"
            );
        }
        accepts(&whole, 1);
    }

    #[test]
    fn never_panics_on_noise() {
        let mut rng = super::super::Rng(7);
        let seed = format!(
            "POST http://a:80/%41?x HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nT: v\r\n\r\n"
        );
        for _ in 0..20_000 {
            let mut b = seed.clone().into_bytes();
            for _ in 0..=rng.below(4) {
                let at = rng.below(b.len());
                b[at] = rng.next_u64() as u8;
            }
            let cut = rng.below(b.len());
            let _ = read(&b);
            let _ = read(b.get(cut..).unwrap_or_default());
        }
    }

    #[test]
    fn nominated_fields_are_not_end_to_end() {
        let f = Fields(vec![
            (b"Connection".to_vec(), b"close, X-Gone".to_vec()),
            (b"X-Gone".to_vec(), b"1".to_vec()),
            (b"X-Stays".to_vec(), b"2".to_vec()),
        ]);
        assert_eq!(end_to_end(&f), vec![(b"x-stays".to_vec(), b"2".to_vec())]);
    }
}
