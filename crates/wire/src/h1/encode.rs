//! Writers: every outgoing message is made from the model. Framing, hop-by-hop and proxy-owned fields are written anew; other
//! field lines are copied in contiguous runs, and only bytes that the scanner has accepted.

use narthex_message::field::{HOP_BY_HOP, PROXY_OWNED};
use narthex_message::validate::is_nominated;
use narthex_message::{Body, Edits, Field, FieldId, FieldSet, Head, Span};

/// Never copied from a request.
const DROP_FROM_REQUEST: FieldSet = HOP_BY_HOP.union(PROXY_OWNED).union(FieldSet::of(&[
    FieldId::ContentLength,
    FieldId::Host,
    FieldId::Expect,
    FieldId::Trailer,
]));

/// Never copied from a response.
const DROP_FROM_RESPONSE: FieldSet = FieldSet::of(&[
    FieldId::Connection,
    FieldId::KeepAlive,
    FieldId::ProxyConnection,
    FieldId::Te,
    FieldId::TransferEncoding,
    FieldId::Upgrade,
    FieldId::Http2Settings,
    FieldId::ContentLength,
    FieldId::Trailer,
]);

/// Which lines of the original are kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    drop: FieldSet,
    nominated: bool,
    underscores: bool,
    sloppy: bool,
}

impl Keep {
    /// Of a request. `nominated`: `Connection` names further fields; `underscores`: names with `_` are passed on.
    #[inline]
    pub fn request(nominated: bool, underscores: bool) -> Self {
        Self {
            drop: DROP_FROM_REQUEST,
            nominated,
            underscores,
            sloppy: true,
        }
    }

    /// Of a response.
    #[inline]
    pub fn response(nominated: bool) -> Self {
        Self {
            drop: DROP_FROM_RESPONSE,
            nominated,
            underscores: true,
            sloppy: false,
        }
    }

    /// Passes on these, in their own spelling; look-alikes of them are dropped still.
    #[must_use]
    #[inline]
    pub fn with(mut self, more: FieldSet) -> Self {
        self.drop = self.drop.without(more);
        self
    }

    /// Also drops these.
    #[must_use]
    #[inline]
    pub fn without(mut self, more: FieldSet) -> Self {
        self.drop = self.drop.union(more);
        self
    }

    fn keeps(self, head: Head<'_>, field: &Field, edits: &Edits) -> bool {
        if self.drop.has(field.id) {
            return false;
        }
        let name = field.name.of(head.bytes);
        // A look-alike of a field that we set or remove would pass for ours.
        if self.sloppy
            && field.sloppy
            && (!self.keeps_sloppy(name) || edits.resembles_removed(name))
        {
            return false;
        }
        !(self.nominated && is_nominated(head, field.id, name)) && !edits.removes(field.id, name)
    }

    /// A name with `_` is dropped unless asked for; one that reads like a name of ours in a sloppy server, always.
    fn keeps_sloppy(self, name: &[u8]) -> bool {
        let like = FieldId::resembling(name);
        (self.underscores || !name.contains(&b'_'))
            && !self.drop.has(like)
            && !PROXY_OWNED.has(like)
    }
}

/// Calls `with` for every field of `head` that is kept.
#[inline]
pub fn each_kept(head: Head<'_>, keep: Keep, edits: &Edits, mut with: impl FnMut(&Field)) {
    let plain =
        !keep.nominated && !edits.removes_others() && !(keep.sloppy && head.index.any_sloppy);
    let drop = keep.drop.union(edits.removed());
    for field in &head.index.fields {
        let kept = if plain {
            !drop.has(field.id)
        } else {
            keep.keeps(head, field, edits)
        };
        if kept {
            with(field);
        }
    }
}

/// Copies the kept field lines of `head`, then the lines that `edits` adds.
pub fn fields(head: Head<'_>, keep: Keep, edits: &Edits, out: &mut Vec<u8>) {
    let mut run = Span::default();
    each_kept(head, keep, edits, |field| {
        if run.end != field.name.start {
            out.extend_from_slice(run.of(head.bytes));
            run.start = field.name.start;
        }
        run.end = field.end;
    });
    out.extend_from_slice(run.of(head.bytes));
    for (_, line) in edits.lines() {
        out.extend_from_slice(line);
    }
}

/// `name: value CRLF`, of pieces that are known to be clean.
#[inline]
pub fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// As [`line()`], of a name that has its colon and its space already, and a value of 32 bytes, mostly: a request's identity, which
/// is written twice for every request.
#[inline]
pub fn id_line(start: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(start);
    match <&[u8; 32]>::try_from(value) {
        Ok(usual) => out.extend_from_slice(usual),
        Err(_) => out.extend_from_slice(value),
    }
    out.extend_from_slice(b"\r\n");
}

/// The framing fields of a body, if it has any.
#[inline]
pub fn framing(body: Body, out: &mut Vec<u8>) {
    match body {
        Body::None | Body::UntilClose => {}
        Body::Length(n) => content_length(n, out),
        Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// `Content-Length: n`.
pub fn content_length(n: u64, out: &mut Vec<u8>) {
    const NAME: &[u8] = b"Content-Length: ";
    let mut line = [0; 64];
    if let Some(end) = line.last_chunk_mut() {
        *end = *b"\r\n";
    }
    let digits = digits(n, &mut line, 62);
    let start = digits.saturating_sub(NAME.len());
    if let Some(place) = line.get_mut(start..digits) {
        place.copy_from_slice(NAME);
    }
    out.extend_from_slice(line.get(start..).unwrap_or_default());
}

/// A number in digits.
pub fn decimal(n: u64, out: &mut Vec<u8>) {
    let mut text = [0; 64];
    let at = digits(n, &mut text, 64);
    out.extend_from_slice(text.get(at..).unwrap_or_default());
}

/// Writes the digits of a number so that they end at `end`; says where they begin. There are at most 20.
#[inline]
fn digits(mut n: u64, text: &mut [u8; 64], end: usize) -> usize {
    let mut at = end;
    loop {
        at = at.wrapping_sub(1);
        // Never out of range; so it can be seen.
        text[at & 63] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return at;
        }
    }
}

/// `HTTP/1.1 NNN reason CRLF`; the status has three digits.
#[inline]
pub fn status_line(status: u16, reason: &[u8], out: &mut Vec<u8>) {
    let digit = |n: u16| b'0' + (n % 10) as u8;
    let mut start = *b"HTTP/1.1 000 ";
    let [.., a, b, c, _] = &mut start;
    (*a, *b, *c) = (digit(status / 100), digit(status / 10), digit(status));
    out.reserve(start.len() + reason.len() + 2);
    out.extend_from_slice(&start);
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a status that we answer ourselves (RFC 9110 15).
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::scan::{self, HeadLimits};
    use narthex_message::Index;

    const LIMITS: HeadLimits = HeadLimits {
        line: 8192,
        field: 8192,
        head: 32768,
        fields: 100,
    };

    fn copy(input: &str, keep: Keep, edits: &Edits) -> String {
        let mut index = Index::default();
        scan::request(input.as_bytes(), &mut index, &LIMITS).unwrap();
        let mut out = Vec::new();
        fields(Head::new(input.as_bytes(), &index), keep, edits, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn runs_are_copied_and_ours_are_not() {
        let input = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nX-Forwarded-For: evil\r\nx_forwarded_for: evil\r\nX.Real.IP: evil\r\nC_D: 3\r\nConnection: close\r\nE: 4\r\n\r\n";
        assert_eq!(
            copy(input, Keep::request(false, false), &Edits::default()),
            "A: 1\r\nB: 2\r\nE: 4\r\n"
        );
        assert_eq!(
            copy(input, Keep::request(false, true), &Edits::default()),
            "A: 1\r\nB: 2\r\nC_D: 3\r\nE: 4\r\n"
        );
    }

    #[test]
    fn nominated_fields_go_unless_they_may_not() {
        let input = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a, Cookie ,X-B\r\nX-A: 1\r\nCookie: c\r\nX-b: 2\r\nX-C: 3\r\n\r\n";
        assert_eq!(
            copy(input, Keep::request(true, false), &Edits::default()),
            "Cookie: c\r\nX-C: 3\r\n"
        );
    }

    #[test]
    fn edits_are_applied_once() {
        let input =
            "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: u\r\nX-A: 1\r\nX-a: 2\r\nX-B: 3\r\n\r\n";
        let mut edits = Edits::default();
        edits.remove("User-Agent");
        edits.set("X-A", b"9");
        assert_eq!(
            copy(input, Keep::request(false, false), &edits),
            "X-B: 3\r\nX-A: 9\r\n"
        );
    }

    #[test]
    fn a_line_is_the_same_begun_or_whole() {
        for value in [&b"x"[..], &[b'0'; 32], &[b'a'; 33], b""] {
            let (mut whole, mut begun) = (Vec::new(), Vec::new());
            line("X-Id", value, &mut whole);
            id_line(b"X-Id: ", value, &mut begun);
            assert_eq!(whole, begun);
        }
    }

    #[test]
    fn numbers() {
        for n in [0, 7, 10, 99, 100, u64::MAX] {
            let mut out = Vec::new();
            decimal(n, &mut out);
            assert_eq!(out, n.to_string().into_bytes());
        }
    }
}
