//! Normal forms of selecting fields (RFC 9111 4.1): what is written otherwise and means the same becomes the same.

use narthex_config::model::CacheProfile;

/// An element and what stands behind `;q=`, if anything does. Other parameters belong to the element.
pub(super) fn split_quality(element: &[u8]) -> (&[u8], Option<&[u8]>) {
    for (at, b) in element.iter().enumerate().rev() {
        if *b != b';' {
            continue;
        }
        let parameter = element.get(at + 1..).unwrap_or_default().trim_ascii();
        if let [b'q' | b'Q', b'=', value @ ..] = parameter {
            return (
                element.get(..at).unwrap_or_default().trim_ascii(),
                Some(value),
            );
        }
    }
    (element, None)
}

/// In thousandths (RFC 9110 12.4.2); `None` if it is none.
pub(super) fn quality(value: Option<&[u8]>) -> Option<u16> {
    let Some(value) = value else {
        return Some(1000);
    };
    let (whole, fraction) = value.split_first()?;
    let digits = match fraction {
        [] => fraction,
        [b'.', digits @ ..] => digits,
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut n = match whole {
        b'0' => 0,
        b'1' => 1,
        _ => return None,
    };
    for place in 0..3 {
        n = n * 10 + digits.get(place).map_or(0, |b| u16::from(b - b'0'));
    }
    (n <= 1000).then_some(n)
}

const ZSTD: u8 = 1;
const BR: u8 = 2;
pub(super) const GZIP: u8 = 4;
const DEFLATE: u8 = 8;
const IDENTITY: u8 = 16;
const ALL: u8 = ZSTD | BR | GZIP | DEFLATE | IDENTITY;

/// Which codings a client takes, of those that matter. Junk means nothing, so that a line of it is a client that takes what is
/// not coded (CA-06). Preferences among them are not told apart: each gets what it takes.
pub(super) fn encodings<'a>(lines: impl Iterator<Item = &'a [u8]>) -> u8 {
    let (mut taken, mut refused, mut others) = (0, 0, None);
    for element in lines.flat_map(|line| line.split(|b| *b == b',')) {
        let (coding, q) = split_quality(element.trim_ascii());
        let Some(q) = quality(q) else { continue };
        let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
        let bit = match coding.len() {
            1 if coding == b"*" => {
                others.get_or_insert(q > 0);
                continue;
            }
            2 if is(b"br") => BR,
            4 if is(b"gzip") => GZIP,
            4 if is(b"zstd") => ZSTD,
            6 if is(b"x-gzip") => GZIP,
            7 if is(b"deflate") => DEFLATE,
            8 if is(b"identity") => IDENTITY,
            _ => continue,
        };
        if q > 0 {
            taken |= bit;
        } else {
            refused |= bit;
        }
    }
    // What is not named is as `*` says; without that only the identity is taken.
    let unnamed = match others {
        Some(true) => ALL,
        Some(false) => 0,
        None => IDENTITY,
    };
    (taken | unnamed & !refused) & ALL
}

/// `Accept-Language`: case and white space never matter; in `rfc9111` neither does the order of equals (RFC 9110 12.5.4 gives it
/// no meaning, though some origins do).
pub(super) fn languages<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    profile: CacheProfile,
    out: &mut Vec<u8>,
) {
    let mut wanted: Vec<(Option<u16>, Vec<u8>)> = Vec::new();
    for element in lines.flat_map(|line| line.split(|b| *b == b',')) {
        let element = element.trim_ascii();
        if element.is_empty() {
            continue;
        }
        let (range, q) = split_quality(element);
        match quality(q) {
            Some(q) => wanted.push((Some(q), range.to_ascii_lowercase())),
            None => wanted.push((None, element.to_ascii_lowercase())),
        }
    }
    if profile == CacheProfile::Rfc9111 {
        wanted.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    }
    for (q, range) in wanted {
        super::put(out, &range);
        out.extend_from_slice(&q.unwrap_or(u16::MAX).to_be_bytes());
    }
}

/// Any other field: its lines as one list (RFC 9110 5.3). In `rfc9111` white space around commas does not count, except in quotes.
pub(super) fn list<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    profile: CacheProfile,
    out: &mut Vec<u8>,
) {
    for (nth, line) in lines.enumerate() {
        if nth > 0 {
            out.extend_from_slice(if profile == CacheProfile::Safe {
                b", "
            } else {
                b","
            });
        }
        if profile == CacheProfile::Safe {
            out.extend_from_slice(line);
        } else {
            squeezed(line, out);
        }
    }
}

fn squeezed(mut line: &[u8], out: &mut Vec<u8>) {
    loop {
        let end = crate::policy::cache_control::element_end(line);
        out.extend_from_slice(line.get(..end).unwrap_or_default().trim_ascii());
        if end == line.len() {
            return;
        }
        out.push(b',');
        line = line.get(end + 1..).unwrap_or_default();
    }
}
