//! The encoder: representations that change nobody's table. Never refers to a dynamic entry, so it can be anywhere.

use super::huffman;
use narthex_message::FieldId;

/// Literals that must stay literals on their way (RFC 7541 7.1.3).
fn is_secret(id: FieldId) -> bool {
    matches!(
        id,
        FieldId::Authorization | FieldId::ProxyAuthorization | FieldId::Cookie | FieldId::SetCookie
    )
}

/// An entry of the static table, name and value.
#[inline]
pub fn indexed(index: u8, out: &mut Vec<u8>) {
    out.push(0x80 | index);
}

/// Value literal, name from the static table.
#[inline]
pub fn with_name(index: u8, value: &[u8], out: &mut Vec<u8>) {
    integer(usize::from(index), 4, 0, out);
    string(value, out);
}

/// A field. The name may be in any case.
pub fn field(id: FieldId, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    if id == FieldId::AcceptEncoding && value == b"gzip, deflate" {
        return indexed(16, out);
    }
    let flags = if is_secret(id) { 0x10 } else { 0 };
    match static_name(id, name) {
        0 => {
            out.push(flags);
            lower(name, out);
        }
        index => integer(usize::from(index), 4, flags, out),
    }
    string(value, out);
}

/// Index of a name in the static table; 0 if it is not there.
#[inline]
fn static_name(id: FieldId, name: &[u8]) -> u8 {
    if id != FieldId::Other {
        return by_id(id);
    }
    let (index, known): (u8, &[u8]) = match name.len() {
        4 if name.first().is_some_and(|b| b.eq_ignore_ascii_case(&b'f')) => (37, b"from"),
        4 => (45, b"link"),
        5 => (22, b"allow"),
        12 => (47, b"max-forwards"),
        13 => (18, b"accept-ranges"),
        14 => (15, b"accept-charset"),
        15 => (17, b"accept-language"),
        16 => (27, b"content-language"),
        19 => (25, b"content-disposition"),
        25 => (56, b"strict-transport-security"),
        27 => (20, b"access-control-allow-origin"),
        _ => return 0,
    };
    if name.eq_ignore_ascii_case(known) {
        index
    } else {
        0
    }
}

fn by_id(id: FieldId) -> u8 {
    use FieldId as F;
    match id {
        F::AcceptEncoding => 16,
        F::Accept => 19,
        F::Age => 21,
        F::Authorization => 23,
        F::CacheControl => 24,
        F::ContentEncoding => 26,
        F::ContentLength => 28,
        F::ContentLocation => 29,
        F::ContentRange => 30,
        F::ContentType => 31,
        F::Cookie => 32,
        F::Date => 33,
        F::ETag => 34,
        F::Expect => 35,
        F::Expires => 36,
        F::Host => 38,
        F::IfMatch => 39,
        F::IfModifiedSince => 40,
        F::IfNoneMatch => 41,
        F::IfRange => 42,
        F::IfUnmodifiedSince => 43,
        F::LastModified => 44,
        F::Location => 46,
        F::ProxyAuthenticate => 48,
        F::ProxyAuthorization => 49,
        F::Range => 50,
        F::Referer => 51,
        F::Refresh => 52,
        F::RetryAfter => 53,
        F::Server => 54,
        F::SetCookie => 55,
        F::UserAgent => 58,
        F::Vary => 59,
        F::Via => 60,
        F::WwwAuthenticate => 61,
        _ => 0,
    }
}

/// A name as a string literal in lower case.
fn lower(name: &[u8], out: &mut Vec<u8>) {
    let mut folded = [0u8; 64];
    match folded.get_mut(..name.len()) {
        Some(place) => {
            place.copy_from_slice(name);
            place.make_ascii_lowercase();
            string(place, out);
        }
        None => string(&name.to_ascii_lowercase(), out),
    }
}

/// Shorter strings are not worth the work: a sixth of all that a small answer costs, for some 50 bytes of it.
const HUFFMAN_FROM: usize = 64;

/// A string literal, Huffman coded if that is much shorter.
#[inline]
pub fn string(text: &[u8], out: &mut Vec<u8>) {
    if text.len() < HUFFMAN_FROM || !coded_string(text, out) {
        integer(text.len(), 7, 0, out);
        out.extend_from_slice(text);
    }
}

/// False: it would not be shorter.
#[cold]
fn coded_string(text: &[u8], out: &mut Vec<u8>) -> bool {
    let coded = huffman::encoded_len(text);
    if coded >= text.len() {
        return false;
    }
    integer(coded, 7, 0x80, out);
    huffman::encode(text, out);
    true
}

/// An integer behind `flags` (RFC 7541 5.1).
#[inline]
pub fn integer(value: usize, prefix: u32, flags: u8, out: &mut Vec<u8>) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut left = value - mask;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}
