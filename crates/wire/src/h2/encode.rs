//! Writers of header blocks: from the model, as `h1/encode.rs` does. Stateless: the static table and literals that nobody has to
//! remember, so a block can be written wherever and whenever there is room.

use super::hpack::encode::{field, indexed, with_name};
use crate::h1::encode::{self as h1, Keep};
use narthex_message::{Edits, FieldId, Head};

/// Pseudo-fields of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `:method`; `CONNECT` if there is a protocol.
    pub method: &'a [u8],
    /// `:scheme`.
    pub scheme: &'a [u8],
    /// `:authority`.
    pub authority: &'a [u8],
    /// `:path`.
    pub path: &'a [u8],
    /// `:protocol`, of an extended CONNECT.
    pub protocol: Option<&'a [u8]>,
}

/// The pseudo-fields of a request. Always first.
pub fn request(request: &Request<'_>, out: &mut Vec<u8>) {
    match request.method {
        b"GET" => indexed(2, out),
        b"POST" => indexed(3, out),
        other => with_name(2, other, out),
    }
    match request.scheme {
        b"http" => indexed(6, out),
        b"https" => indexed(7, out),
        other => with_name(6, other, out),
    }
    with_name(1, request.authority, out);
    match request.path {
        b"/" => indexed(4, out),
        b"/index.html" => indexed(5, out),
        other => with_name(4, other, out),
    }
    if let Some(protocol) = request.protocol {
        field(FieldId::Other, b":protocol", protocol, out);
    }
}

/// `:status`. Always first. The status has three digits.
pub fn status(status: u16, out: &mut Vec<u8>) {
    match status {
        200 => indexed(8, out),
        204 => indexed(9, out),
        206 => indexed(10, out),
        304 => indexed(11, out),
        400 => indexed(12, out),
        404 => indexed(13, out),
        500 => indexed(14, out),
        other => {
            let digit = |n: u16| b'0' + (n % 10) as u8;
            with_name(
                8,
                &[digit(other / 100), digit(other / 10), digit(other)],
                out,
            );
        }
    }
}

/// Is this a block that begins with an informational status, as [`status`] writes it?
#[inline]
pub(super) fn is_informational(block: &[u8]) -> bool {
    // Not in the static table: a literal, in Huffman codes if that is shorter. The code of `1` is 00001.
    match block {
        [0x08, 0x82, codes, ..] => codes >> 3 == 1,
        [0x08, 0x03, digit, ..] => *digit == b'1',
        _ => false,
    }
}

/// One field. The name may be in any case; name and value are known to be clean.
pub fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    field(FieldId::of(name.as_bytes()), name.as_bytes(), value, out);
}

/// `content-length`.
pub fn content_length(n: u64, out: &mut Vec<u8>) {
    let mut text = [0u8; 20];
    let (mut at, mut left) = (text.len(), n);
    for place in text.iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        left /= 10;
        at -= 1;
        if left == 0 {
            break;
        }
    }
    with_name(28, text.get(at..).unwrap_or_default(), out);
}

/// The kept fields of `head`, then those that `edits` adds.
pub fn fields(head: Head<'_>, keep: Keep, edits: &Edits, out: &mut Vec<u8>) {
    h1::each_kept(head, keep, edits, |f| {
        field(f.id, f.name.of(head.bytes), f.value.of(head.bytes), out);
    });
    for (_, line) in edits.lines() {
        one_line(line, out);
    }
}

/// Whole lines, `name: value CRLF` each, as writers of HTTP/1 make them: as fields. What is no such line is left out.
pub fn lines(lines: &[u8], out: &mut Vec<u8>) {
    for line in lines.split(|&b| b == b'\n') {
        one_line(line, out);
    }
}

/// `name: value`, with or without its end.
fn one_line(line: &[u8], out: &mut Vec<u8>) {
    let Some(colon) = line.iter().position(|&b| b == b':') else {
        return;
    };
    let (name, value) = line.split_at(colon);
    if !name.is_empty() {
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        field(FieldId::of(name), name, value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn informational_ones_are_known_by_their_first_bytes() {
        for code in 100..600 {
            let mut block = Vec::new();
            status(code, &mut block);
            assert_eq!(is_informational(&block), code < 200, "{code}");
        }
        assert!(!is_informational(&[]));
    }

    #[test]
    fn lengths() {
        for n in [0, 7, 10, 12_345, u64::MAX] {
            let (mut ours, mut expected) = (Vec::new(), Vec::new());
            content_length(n, &mut ours);
            line("Content-Length", n.to_string().as_bytes(), &mut expected);
            assert_eq!(ours, expected);
        }
    }

    #[test]
    fn lines_of_http1_become_fields() {
        let (mut ours, mut expected) = (Vec::new(), Vec::new());
        lines(b"Via: 2 narthex\r\nX-A: b: c\r\nno line\r\n\r\n", &mut ours);
        line("via", b"2 narthex", &mut expected);
        line("x-a", b"b: c", &mut expected);
        assert_eq!(ours, expected);
    }
}
