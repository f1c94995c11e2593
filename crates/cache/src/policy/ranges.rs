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

/// The first byte of the first range, if there is one: of a representation of this length, or, if that is not known, as far as the
/// request says it.
pub(super) fn first_byte(request: Head<'_>, length: Option<u64>) -> Option<u64> {
    let specs = specs(request)?;
    let Some(length) = length else {
        return match specs.first()? {
            Spec::FromTo(first, _) | Spec::From(first) => Some(*first),
            Spec::Suffix(_) => None,
        };
    };
    match joined(specs.iter().filter_map(|spec| spec.within(length))) {
        Ranges::One(first, _) => Some(first),
        Ranges::Many(parts) => parts.first().map(|(first, _)| *first),
        Ranges::Whole | Ranges::Unsatisfiable => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{date as at, meta, request};
    use narthex_message::Span;
    use proptest::prelude::*;

    fn of(range: &str, length: u64) -> Ranges {
        ranges(
            request("GET", "/", &[("Range", range)]).head(),
            &meta(),
            b"",
            length,
        )
    }

    #[test]
    fn one() {
        for (range, want) in [
            ("bytes=0-0", Ranges::One(0, 0)),
            ("bytes=0-", Ranges::One(0, 99)),
            ("BYTES=5-7", Ranges::One(5, 7)),
            ("bytes=5-1000", Ranges::One(5, 99)),
            ("bytes=-5", Ranges::One(95, 99)),
            ("bytes=-500", Ranges::One(0, 99)),
            ("bytes= 5-7 , ", Ranges::One(5, 7)),
            ("bytes=99-", Ranges::One(99, 99)),
            ("bytes=100-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=100-,-0", Ranges::Unsatisfiable),
            ("bytes=100-,0-1", Ranges::One(0, 1)),
            ("bytes=0-99999999999999999999999", Ranges::One(0, 99)),
            ("bytes=99999999999999999999999-", Ranges::Unsatisfiable),
            ("bytes=-99999999999999999999999", Ranges::One(0, 99)),
            ("bytes=0-5,5-9,10-20", Ranges::One(0, 20)),
        ] {
            assert_eq!(of(range, 100), want, "{range}");
        }
    }

    /// CA-09: what is no range means nothing, and what is too much means everything.
    #[test]
    fn ca_09_whole() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=9-1",
            "bytes=0-1,9-1",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-2-3",
            "bytes=--5",
            "bytes=-9223372036854775808-",
            "bytes=+1-2",
            "bytes=0x1-2",
            "lines=0-1",
            "bytes 0-1",
            "bytes =0-1",
            "bytes=1 - 2",
            "bytes=0-1;2-3",
        ] {
            assert_eq!(of(range, 100), Ranges::Whole, "{range}");
        }
        let many = |n: u64| {
            (0..n)
                .map(|k| format!("{}-{}", k * 2, k * 2))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert!(
            matches!(of(&format!("bytes={}", many(16)), 100), Ranges::Many(m) if m.len() == 16)
        );
        assert_eq!(of(&format!("bytes={}", many(17)), 100), Ranges::Whole);
        assert_eq!(
            of(&format!("bytes={},0-", many(17)), 100),
            Ranges::One(0, 99)
        );
        assert_eq!(
            of(&format!("bytes={}", vec!["0-"; 1000].join(",")), 100),
            Ranges::One(0, 99)
        );
        assert_eq!(
            of(&format!("bytes={}", vec!["0-"; 5000].join(",")), 100),
            Ranges::Whole
        );
        // HEAD has no ranges, nor has what is no 200; two lines contradict each other.
        let two = request(
            "GET",
            "/",
            &[("Range", "bytes=0-1"), ("Range", "bytes=0-1")],
        );
        assert_eq!(ranges(two.head(), &meta(), b"", 100), Ranges::Whole);
        let head = request("HEAD", "/", &[("Range", "bytes=0-1")]);
        assert_eq!(ranges(head.head(), &meta(), b"", 100), Ranges::Whole);
        let get = request("GET", "/", &[("Range", "bytes=0-1")]);
        assert_eq!(
            ranges(
                get.head(),
                &Meta {
                    status: 404,
                    ..meta()
                },
                b"",
                100
            ),
            Ranges::Whole
        );
        // Of nothing.
        assert_eq!(of("bytes=0-", 0), Ranges::Unsatisfiable);
        assert_eq!(of("bytes=-5", 0), Ranges::Whole);
    }

    #[test]
    fn many() {
        assert_eq!(
            of("bytes=50-59,0-9", 100),
            Ranges::Many(vec![(50, 59), (0, 9)])
        );
        assert_eq!(
            of("bytes=50-59,0-9,10-12,-1", 100),
            Ranges::Many(vec![(50, 59), (0, 12), (99, 99)])
        );
    }

    #[test]
    fn if_range_holds_or_not() {
        let (old, fresh) = (at(-1000), at(-10));
        let tag = b"\"a\"";
        let ask = |value: &str, head: &[u8], changed: Option<i64>| {
            let m = Meta {
                etag: Span::new(0, head.len()),
                last_modified_s: changed.map(|s| (meta().date_s).saturating_add_signed(s)),
                ..meta()
            };
            ranges(
                request("GET", "/", &[("Range", "bytes=0-1"), ("If-Range", value)]).head(),
                &m,
                head,
                100,
            ) == Ranges::One(0, 1)
        };
        assert!(ask("\"a\"", tag, None));
        assert!(!ask("\"b\"", tag, None));
        assert!(!ask("W/\"a\"", tag, None));
        assert!(!ask("W/\"a\"", b"W/\"a\"", None));
        assert!(!ask("a", b"a", None));
        assert!(!ask("", b"", None));
        assert!(ask(&old, b"", Some(-1000)));
        assert!(!ask(&at(-999), b"", Some(-1000)));
        // Changed within the minute of its `Date`: it may have changed again.
        assert!(!ask(&fresh, b"", Some(-10)));
        assert!(!ask("x", b"", None));
    }

    #[test]
    fn of_a_part() {
        let part = |range: Option<&str>, part, length| {
            let fields: Vec<_> = range.iter().map(|r| ("Range", *r)).collect();
            part_ranges(
                request("GET", "/", &fields).head(),
                &Meta {
                    status: 206,
                    part: Some(part),
                    length,
                    ..meta()
                },
                b"",
            )
        };
        assert_eq!(
            part(Some("bytes=4-9"), (4, 9), Some(20)),
            Some(Ranges::One(4, 9))
        );
        assert_eq!(
            part(Some("bytes=5-6,8-8"), (4, 9), Some(20)),
            Some(Ranges::Many(vec![(5, 6), (8, 8)]))
        );
        assert_eq!(part(Some("bytes=3-6"), (4, 9), Some(20)), None);
        assert_eq!(part(Some("bytes=5-10"), (4, 9), Some(20)), None);
        assert_eq!(
            part(Some("bytes=5-10"), (4, 9), Some(10)),
            Some(Ranges::One(5, 9))
        );
        assert_eq!(
            part(Some("bytes=5-"), (4, 9), Some(10)),
            Some(Ranges::One(5, 9))
        );
        assert_eq!(
            part(Some("bytes=-6"), (4, 9), Some(10)),
            Some(Ranges::One(4, 9))
        );
        assert_eq!(part(Some("bytes=-7"), (4, 9), Some(10)), None);
        assert_eq!(
            part(Some("bytes=10-"), (4, 9), Some(10)),
            Some(Ranges::Unsatisfiable)
        );
        assert_eq!(
            part(Some("bytes=5-6"), (4, 9), None),
            Some(Ranges::One(5, 6))
        );
        assert_eq!(part(Some("bytes=5-"), (4, 9), None), None);
        assert_eq!(part(Some("bytes=-1"), (4, 9), None), None);
        assert_eq!(part(Some("junk"), (0, 9), Some(10)), None);
        assert_eq!(part(None, (0, 9), Some(10)), None);
    }

    #[test]
    fn put_together() {
        let m = |part, length| Meta {
            status: 206,
            etag: Span::new(0, 3),
            part: Some(part),
            length,
            ..meta()
        };
        let head: &[u8] = b"\"a\"";
        assert_eq!(
            combine((&m((0, 4), Some(10)), head), (&m((5, 9), Some(10)), head)),
            Some((0, 9))
        );
        assert_eq!(
            combine((&m((3, 9), Some(10)), head), (&m((0, 4), Some(10)), head)),
            Some((0, 9))
        );
        assert_eq!(
            combine((&m((0, 4), Some(10)), head), (&m((6, 9), Some(10)), head)),
            None
        );
        assert_eq!(
            combine((&m((0, 4), Some(10)), head), (&m((5, 9), Some(11)), head)),
            None
        );
        assert_eq!(
            combine(
                (&m((0, 4), Some(10)), head),
                (&m((5, 9), Some(10)), b"\"b\"")
            ),
            None
        );
        assert_eq!(
            combine(
                (&m((0, 4), Some(10)), b"   "),
                (&m((5, 9), Some(10)), b"   ")
            ),
            None
        );
        assert_eq!(
            combine(
                (
                    &Meta {
                        part: None,
                        ..m((0, 4), None)
                    },
                    head
                ),
                (&m((5, 9), None), head)
            ),
            None
        );
        let lines = |m: &Meta, head: &[u8]| {
            let mut out = Vec::new();
            completing(m, head, &mut out).then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(
            lines(&m((0, 4), Some(10)), head).as_deref(),
            Some("Range: bytes=5-\r\nIf-Range: \"a\"\r\n")
        );
        assert_eq!(
            lines(&m((5, 9), Some(10)), head).as_deref(),
            Some("Range: bytes=0-4\r\nIf-Range: \"a\"\r\n")
        );
        assert_eq!(lines(&m((2, 4), Some(10)), head), None);
        assert_eq!(lines(&m((0, 4), None), head), None);
        assert_eq!(lines(&m((0, 4), Some(10)), b"W/\""), None);
    }

    #[test]
    fn content_ranges_are_read_as_written() {
        for (first, last, length) in [
            (0, 0, Some(1)),
            (4, 9, None),
            (0, i64::MAX as u64 - 1, Some(i64::MAX as u64)),
        ] {
            let mut out = Vec::new();
            write_content_range(&mut out, first, last, length);
            assert_eq!(content_range(&out), Some((first, last, length)));
        }
    }

    proptest! {
        /// Against a set of bytes.
        #[test]
        fn the_right_bytes(specs in proptest::collection::vec((0u8..3, 0u64..40, 0u64..40), 1..8), length in 0u64..40) {
            let mut text = Vec::new();
            let (mut wanted, mut broken, mut empty_suffix) = (std::collections::BTreeSet::new(), false, false);
            for (kind, a, b) in specs {
                text.push(match kind { 0 => format!("{a}-{b}"), 1 => format!("{a}-"), _ => format!("-{a}") });
                match kind {
                    0 => { broken |= a > b; wanted.extend((a..=b).filter(|n| *n < length)); }
                    1 => wanted.extend(a..length),
                    _ => { empty_suffix |= length == 0 && a > 0; wanted.extend(length.saturating_sub(a)..length); }
                }
            }
            let got = of(&format!("bytes={}", text.join(", ")), length);
            if broken || empty_suffix {
                prop_assert_eq!(got, Ranges::Whole);
            } else {
                let bytes: Vec<u64> = match got {
                    Ranges::Whole => { prop_assert!(false, "whole"); vec![] }
                    Ranges::Unsatisfiable => vec![],
                    Ranges::One(a, b) => (a..=b).collect(),
                    Ranges::Many(many) => { prop_assert!(many.len() > 1); many.into_iter().flat_map(|(a, b)| a..=b).collect() }
                };
                // Each byte once, none that was not asked for.
                let set: std::collections::BTreeSet<_> = bytes.iter().copied().collect();
                prop_assert_eq!(set.len(), bytes.len());
                prop_assert_eq!(set, wanted);
            }
        }

        #[test]
        fn never_panics(text in "(bytes=)?[0-9, a=-]{0,30}", length in any::<u64>()) {
            let _ = of(&text, length);
            let _ = content_range(text.as_bytes());
        }
    }
}
