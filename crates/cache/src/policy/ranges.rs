//! Which bytes a request wants (RFC 9110 14), of a whole object or of a stored part.

use narthex_message::validate::tokens;
use narthex_message::{FieldId, Head, Method};

use super::lines::{decimal, value_in};
use super::precondition::strongly_equal;
use super::{Meta, Ranges, date};

/// Ranges that are answered, after joining (CA-09).
pub const MAX_RANGES: usize = 16;
/// Ranges that are looked at: a line of the largest head has no more that could matter.
const MAX_SPECS: usize = 4096;

/// One range as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// First and last byte.
    FromTo(u64, u64),
    /// From this byte to the end.
    From(u64),
    /// This many bytes at the end.
    Suffix(u64),
}

impl Spec {
    fn read(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|b| *b == b'-')?;
        let (first, last) = (text.get(..dash)?, text.get(dash + 1..)?);
        Some(match (first.is_empty(), last.is_empty()) {
            (true, true) => return None,
            (true, false) => Self::Suffix(position(last)?),
            (false, true) => Self::From(position(first)?),
            (false, false) => {
                let (first, last) = (position(first)?, position(last)?);
                if first > last {
                    return None;
                }
                Self::FromTo(first, last)
            }
        })
    }

    /// The bytes that it means, of a representation of this length.
    fn within(self, length: u64) -> Option<(u64, u64)> {
        let end = length.checked_sub(1)?;
        match self {
            Self::FromTo(first, last) => (first < length).then(|| (first, last.min(end))),
            Self::From(first) => (first < length).then_some((first, end)),
            Self::Suffix(0) => None,
            Self::Suffix(count) => Some((length.saturating_sub(count), end)),
        }
    }
}

/// Digits; more than fit mean the largest number.
fn position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |n, b| {
        n.saturating_mul(10).saturating_add(u64::from(b - b'0'))
    }))
}

/// The ranges of `Range`, if every one of them is one: a broken line means nothing at all (RFC 9110 14.2).
fn specs(request: Head<'_>) -> Option<Vec<Spec>> {
    if request.index.repeated.has(FieldId::Range) || Method::of(request.method()) != Method::Get {
        return None;
    }
    let value = request.get(FieldId::Range)?;
    let (unit, set) = value.split_at_checked(value.iter().position(|b| *b == b'=')?)?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for text in tokens(set.get(1..)?) {
        if text.is_empty() {
            continue;
        }
        if specs.len() == MAX_SPECS {
            return None;
        }
        specs.push(Spec::read(text)?);
    }
    (!specs.is_empty()).then_some(specs)
}

/// Does `If-Range` hold, or is there none (RFC 9110 13.1.5)?
fn if_range(request: Head<'_>, meta: &Meta, stored_head: &[u8]) -> bool {
    let Some(value) = request.get(FieldId::IfRange) else {
        return true;
    };
    if request.index.repeated.has(FieldId::IfRange) {
        return false;
    }
    if strongly_equal(value, meta.etag.of(stored_head)) {
        return true;
    }
    // A date is a strong validator only if nothing can have changed again within it (RFC 9110 8.8.2.2; a minute, as it was,
    // because `Date` may be ours).
    let strong = meta
        .last_modified_s
        .filter(|changed| changed.saturating_add(60) <= meta.date_s);
    strong.is_some() && date::parse(value, meta.received_ms / 1000) == strong
}

/// What of the body is wanted, of a representation of this length. Of a stored part ask [`part_ranges`].
pub fn ranges(request: Head<'_>, meta: &Meta, stored_head: &[u8], length: u64) -> Ranges {
    if !request.index.present.has(FieldId::Range) || meta.status != 200 {
        return Ranges::Whole;
    }
    let Some(specs) = specs(request) else {
        return Ranges::Whole;
    };
    if !if_range(request, meta, stored_head) {
        return Ranges::Whole;
    }
    // Of nothing the last bytes are nothing, and nothing cannot be written as a range.
    if length == 0 && specs.iter().any(|s| matches!(s, Spec::Suffix(1..))) {
        return Ranges::Whole;
    }
    joined(specs.iter().filter_map(|spec| spec.within(length)))
}

/// In the order asked for, joined where they touch.
fn joined(wanted: impl Iterator<Item = (u64, u64)>) -> Ranges {
    let mut sorted: Vec<(u64, u64, usize)> =
        wanted.enumerate().map(|(at, (a, b))| (a, b, at)).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u64, u64, usize)> = Vec::new();
    for (first, last, at) in sorted {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => {
                before.1 = before.1.max(last);
                before.2 = before.2.min(at);
            }
            _ => merged.push((first, last, at)),
        }
    }
    merged.sort_unstable_by_key(|(_, _, at)| *at);
    match *merged.as_slice() {
        [] => Ranges::Unsatisfiable,
        [(first, last, _)] => Ranges::One(first, last),
        ref many if many.len() > MAX_RANGES => Ranges::Whole,
        ref many => Ranges::Many(many.iter().map(|(a, b, _)| (*a, *b)).collect()),
    }
}

/// What of a stored part answers a request: every byte of it lies in the part. `None`: the origin must be asked
/// ([`super::Why::Part`]). Without a known length only positions are understood, not ends.
pub fn part_ranges(request: Head<'_>, meta: &Meta, stored_head: &[u8]) -> Option<Ranges> {
    let (from, to) = meta.part?;
    let specs = specs(request)?;
    if !if_range(request, meta, stored_head) {
        return None;
    }
    let mut wanted = Vec::new();
    for spec in specs {
        let range = match (spec, meta.length) {
            (spec, Some(length)) => match spec.within(length) {
                Some(range) => range,
                None => continue,
            },
            (Spec::FromTo(first, last), None) => (first, last),
            (_, None) => return None,
        };
        if range.0 < from || range.1 > to {
            return None;
        }
        wanted.push(range);
    }
    match joined(wanted.into_iter()) {
        Ranges::Whole => None,
        ranges => Some(ranges),
    }
}

/// `bytes 0-4/10`: first and last byte, and the whole length if it is told. `bytes */10` is none.
pub fn content_range(value: &[u8]) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = value.split_at_checked(value.iter().position(|b| *b == b' ')?)?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let rest = rest.trim_ascii();
    let (range, length) = rest.split_at_checked(rest.iter().position(|b| *b == b'/')?)?;
    let (first, last) = range.split_at_checked(range.iter().position(|b| *b == b'-')?)?;
    let number = narthex_message::validate::decimal;
    let (first, last) = (number(first)?, number(last.get(1..)?)?);
    let length = match length.get(1..)? {
        b"*" => None,
        digits => Some(number(digits)?),
    };
    (first <= last && length.is_none_or(|length| last < length)).then_some((first, last, length))
}

/// Writes `bytes 0-4/10`.
pub fn write_content_range(out: &mut Vec<u8>, first: u64, last: u64, length: Option<u64>) {
    out.extend_from_slice(b"bytes ");
    decimal(out, first);
    out.push(b'-');
    decimal(out, last);
    out.push(b'/');
    match length {
        Some(length) => decimal(out, length),
        None => out.push(b'*'),
    }
}

/// Two parts of one representation that can be put together (RFC 9111 3.4): same strong entity tag, same length, touching. First
/// and last byte of both; the head is that of the newer one.
pub fn combine(a: (&Meta, &[u8]), b: (&Meta, &[u8])) -> Option<(u64, u64)> {
    let (a_first, a_last) = a.0.part?;
    let (b_first, b_last) = b.0.part?;
    let coding = |head| value_in(head, b"content-encoding");
    if !strongly_equal(a.0.etag.of(a.1), b.0.etag.of(b.1))
        || a.0.length != b.0.length
        || coding(a.1) != coding(b.1)
    {
        return None;
    }
    let touch = a_first <= b_last.saturating_add(1) && b_first <= a_last.saturating_add(1);
    touch.then(|| (a_first.min(b_first), a_last.max(b_last)))
}

/// The lines that ask for what a stored part lacks at its end or its beginning: `Range` and `If-Range`. `false`: the part has no
/// strong entity tag, so that nothing could be put together with it; or it lacks both ends, or nothing is known of the length.
pub fn completing(meta: &Meta, stored_head: &[u8], out: &mut Vec<u8>) -> bool {
    let tag = meta.etag.of(stored_head);
    let (Some((first, last)), Some(length)) = (meta.part, meta.length) else {
        return false;
    };
    if !strongly_equal(tag, tag) {
        return false;
    }
    let (at_start, at_end) = (first == 0, last.saturating_add(1) >= length);
    match (at_start, at_end) {
        (true, false) => {
            out.extend_from_slice(b"Range: bytes=");
            decimal(out, last + 1);
            out.push(b'-');
        }
        (false, true) => {
            out.extend_from_slice(b"Range: bytes=0-");
            decimal(out, first - 1);
        }
        _ => return false,
    }
    out.extend_from_slice(b"\r\nIf-Range: ");
    out.extend_from_slice(tag);
    out.extend_from_slice(b"\r\n");
    true
}
