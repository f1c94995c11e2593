//! Large representations in slices: which ones a request needs, what of each, and whether an answer is the slice it was asked for.
//!
//! A slice is a part of fixed place and size, kept as an object of its own. Slices of one answer are of one version: the same strong
//! entity tag, or, without any tag, the same `Last-Modified` that cannot change unseen; and the same length.

use narthex_message::validate::tokens;
use narthex_message::{Body, FieldId, FieldSet, Head, ResponseFacts};

use super::lines::decimal;
use super::precondition::strongly_equal;
use super::ranges::{self, content_range};
use super::{Exchanged, Keep, Meta, Why, date};

/// What is longer is not kept in slices: a stored length has 48 bits.
pub const LENGTH_MAX: u64 = 1 << 47;
/// So many seconds after its last change a date tells versions apart (RFC 9110 8.8.2.2; a minute, since `Date` may be ours).
const SETTLED_S: u64 = 60;

/// One slice: its place among the others, and the bytes of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The first is 0.
    pub number: u64,
    /// Bytes of each but the last one. More than 0.
    pub size: u64,
}

impl Slice {
    /// The one that this byte is in.
    pub fn of(at: u64, size: u64) -> Self {
        let size = size.max(1);
        Self {
            number: at / size,
            size,
        }
    }

    /// Its first byte.
    pub fn first(self) -> u64 {
        self.number.saturating_mul(self.size)
    }

    /// Its last byte, as far as there are so many.
    pub fn last(self) -> u64 {
        self.first().saturating_add(self.size - 1)
    }

    /// Appends the value of `Range` that asks for it.
    pub fn write_range(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"bytes=");
        decimal(out, self.first());
        out.push(b'-');
        decimal(out, self.last());
    }
}

/// What of a slice goes into an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which slice.
    pub slice: Slice,
    /// First byte, of the whole representation.
    pub from: u64,
    /// The byte after the last.
    pub to: u64,
}

/// The pieces that the bytes from `first` to `last` are made of, in order, of slices of this size.
pub fn pieces(first: u64, last: u64, size: u64) -> impl Iterator<Item = Piece> {
    let end = last.saturating_add(1);
    let mut at = first;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let slice = Slice::of(at, size);
        let piece = Piece {
            slice,
            from: at,
            to: end.min(slice.last().saturating_add(1)),
        };
        // at the very end of all numbers there is nothing more
        at = if piece.to > at { piece.to } else { end };
        Some(piece)
    })
}

/// The first byte that a request seems to want: the slice with it is looked for first. `length`: of the whole, if somebody knows.
/// What it really wants is known when a slice's head is.
pub fn first_byte(request: Head<'_>, length: Option<u64>) -> u64 {
    ranges::first_byte(request, length).unwrap_or(0)
}

/// As if all of it were stored: what of a slice's meaning is the whole representation's.
pub fn as_whole(meta: &Meta) -> Meta {
    Meta {
        status: 200,
        part: None,
        ..*meta
    }
}

/// An answer to the question for a slice: is it that, and to be kept? [`Why::NoRanges`]: it is not, and to ask for others would be of
/// no use.
pub fn keep_slice(exchanged: &Exchanged<'_>, slice: Slice) -> Result<Keep, Why> {
    let response = exchanged.response;
    let keep = super::store(exchanged).map_err(|why| match why {
        Why::PartialContent => Why::NoRanges,
        why => why,
    })?;
    // What it says itself: nothing is made good here.
    let said = response
        .get(FieldId::ContentRange)
        .and_then(content_range)
        .filter(|_| response.index.status == 206);
    let Some((first, last, Some(length))) = said else {
        return Err(Why::NoRanges);
    };
    let is_it = keep.meta.part == Some((first, last))
        && keep.meta.length == Some(length)
        && length <= LENGTH_MAX
        && first == slice.first()
        && last == slice.last().min(length - 1);
    let is_alone = first == 0 && last == length - 1;
    if is_it && !is_coded(response) && (is_alone || is_versioned(&keep.meta, &keep.head)) {
        Ok(keep)
    } else {
        Err(Why::NoRanges)
    }
}

/// It was asked for without a coding. With one, ranges are of the coded bytes, which a server may make anew each time.
fn is_coded(response: Head<'_>) -> bool {
    response
        .all(FieldId::ContentEncoding)
        .flat_map(tokens)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// Can another slice be known to be of the same version?
fn is_versioned(meta: &Meta, head: &[u8]) -> bool {
    let tag = meta.etag.of(head);
    strongly_equal(tag, tag) || tag.is_empty() && is_settled(meta)
}

/// It had not been changed for long enough when it was sent that its date tells it from other versions.
fn is_settled(meta: &Meta) -> bool {
    meta.last_modified_s
        .is_some_and(|changed| changed.saturating_add(SETTLED_S) <= meta.date_s)
}

/// An origin's answer, is it the rest of one whose first bytes were of slices with this meaning and head: from `first` to `last`, and
/// of the same version?
pub fn continues(
    response: Head<'_>,
    facts: &ResponseFacts,
    version: (&Meta, &[u8]),
    (first, last): (u64, u64),
) -> bool {
    let (meta, head) = version;
    let repeated = response.index.repeated;
    let lines = FieldSet::of(&[FieldId::ContentRange, FieldId::ETag, FieldId::LastModified]);
    let tag = response.get(FieldId::ETag).unwrap_or_default();
    let ours = meta.etag.of(head);
    let is_same = if ours.is_empty() && tag.is_empty() {
        let changed = response.get(FieldId::LastModified);
        let changed = changed.and_then(|value| date::parse(value, meta.received_ms / 1000));
        changed.is_some() && changed == meta.last_modified_s && is_settled(meta)
    } else {
        strongly_equal(ours, tag)
    };
    let said = response.get(FieldId::ContentRange).and_then(content_range);
    facts.status == 206
        && !repeated.intersects(lines)
        && said == Some((first, last, meta.length))
        && facts.body == Body::Length(last.saturating_sub(first).saturating_add(1))
        && !is_coded(response)
        && is_same
}

/// Two slices, meaning and head of each: are they of one version?
pub fn same_version(a: (&Meta, &[u8]), b: (&Meta, &[u8])) -> bool {
    let (ours, theirs) = (a.0.etag.of(a.1), b.0.etag.of(b.1));
    if a.0.length != b.0.length || a.0.length.is_none() {
        return false;
    }
    if ours.is_empty() && theirs.is_empty() {
        return a.0.last_modified_s == b.0.last_modified_s && is_settled(a.0) && is_settled(b.0);
    }
    strongly_equal(ours, theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{date, exchange, request, response, rfc9111};
    use narthex_config::model::CacheRule;
    use proptest::prelude::*;

    const S: u64 = 100;

    fn first_of(range: &str, length: Option<u64>) -> u64 {
        let fields = [("Range", range)];
        first_byte(request("GET", "/", &fields).head(), length)
    }

    #[test]
    fn where_to_begin() {
        for (range, length, want) in [
            ("bytes=0-", None, 0),
            ("bytes=250-", None, 250),
            ("bytes=250-260", None, 250),
            ("bytes=250-260,0-1", None, 250),
            ("bytes=-5", None, 0),
            ("bytes=-5,250-", None, 0),
            ("bytes=-5", Some(1000), 995),
            ("bytes=-5", Some(3), 0),
            ("bytes=250-", Some(1000), 250),
            ("bytes=1000-", Some(1000), 0),
            ("bytes=1000-,7-8", Some(1000), 7),
            ("bytes=9-1", None, 0),
            ("lines=7-8", None, 0),
            ("bytes=99999999999999999999999-", None, u64::MAX),
        ] {
            assert_eq!(first_of(range, length), want, "{range} of {length:?}");
        }
        assert_eq!(first_byte(request("GET", "/", &[]).head(), Some(9)), 0);
        let head = request("HEAD", "/", &[("Range", "bytes=250-")]);
        assert_eq!(first_byte(head.head(), None), 0);
    }

    proptest! {
        /// The pieces are the bytes: none missing, none twice, each within its slice.
        #[test]
        fn pieces_are_the_bytes(first in 0u64..5_000, count in 1u64..3_000, size in 1u64..700) {
            let last = first + count - 1;
            let mut at = first;
            let mut before = None;
            for piece in pieces(first, last, size) {
                prop_assert_eq!(piece.from, at);
                prop_assert!(piece.to > piece.from);
                prop_assert!(piece.slice.first() <= piece.from && piece.to - 1 <= piece.slice.last());
                if let Some(before) = before {
                    prop_assert_eq!(piece.slice.number, before + 1);
                }
                before = Some(piece.slice.number);
                at = piece.to;
            }
            prop_assert_eq!(at, last + 1);
        }

        /// However large the numbers are: few pieces come to an end, and none is empty.
        #[test]
        fn no_number_is_too_large(first in any::<u64>(), count in 0u64..1_000, size in 64u64..(64 << 20)) {
            let last = first.saturating_add(count);
            let all: Vec<Piece> = pieces(first, last, size).collect();
            prop_assert!(all.len() <= 17);
            prop_assert!(all.iter().all(|piece| piece.from < piece.to));
            let slice = Slice::of(first, size);
            prop_assert!(slice.first() <= first && first <= slice.last());
        }

        /// From a range to the pieces: what is asked of the slices is what is asked of the whole.
        #[test]
        fn a_range_is_its_pieces(a in 0u64..2_000, b in 0u64..2_000, length in 1u64..1_500, kind in 0..3) {
            let (from, to) = (a.min(b), a.max(b));
            let range = match kind {
                0 => format!("bytes={from}-{to}"),
                1 => format!("bytes={from}-"),
                _ => format!("bytes=-{to}"),
            };
            let asked = request("GET", "/", &[("Range", &*range)]);
            let meta = crate::policy::testing::meta();
            let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            match ranges::ranges(asked.head(), &meta, b"", length) {
                crate::policy::Ranges::One(first, last) => {
                    let made: Vec<u8> = pieces(first, last, S)
                        .flat_map(|piece| {
                            let slice = body.chunks(S as usize).nth(piece.slice.number as usize).unwrap();
                            let start = piece.slice.first();
                            slice[(piece.from - start) as usize..(piece.to - start) as usize].to_vec()
                        })
                        .collect();
                    prop_assert_eq!(&made[..], &body[first as usize..=last as usize]);
                    // And the guess was right.
                    prop_assert_eq!(first_byte(asked.head(), Some(length)), first);
                }
                crate::policy::Ranges::Unsatisfiable => {
                    prop_assert!(kind < 2 && from >= length || kind == 2 && to == 0);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    fn answered(number: u64, status: u16, fields: &[(&str, &str)]) -> Result<Keep, Why> {
        let slice = Slice { number, size: S };
        let mut range = Vec::new();
        slice.write_range(&mut range);
        let range = String::from_utf8(range).unwrap();
        exchange(
            &rfc9111(),
            &request("GET", "/", &[("Range", &range)]),
            &response(status, fields),
            |exchanged| keep_slice(exchanged, slice),
        )
    }

    #[test]
    fn what_is_a_slice() {
        let with =
            |range: &'static str, length: &'static str, more: &[(&'static str, &'static str)]| {
                let mut fields = vec![
                    ("Content-Range", range),
                    ("Content-Length", length),
                    ("Cache-Control", "max-age=60"),
                ];
                fields.extend_from_slice(more);
                fields
            };
        let tag = &[("ETag", "\"a\"")][..];
        let good =
            |number, fields: &[(&str, &str)]| answered(number, 206, fields).map(|k| k.meta.part);
        assert_eq!(
            good(0, &with("bytes 0-99/250", "100", tag)),
            Ok(Some((0, 99)))
        );
        assert_eq!(
            good(2, &with("bytes 200-249/250", "50", tag)),
            Ok(Some((200, 249)))
        );
        assert_eq!(
            good(
                0,
                &with(
                    "bytes 0-99/250",
                    "100",
                    &[("ETag", "\"a\""), ("Content-Encoding", "identity")]
                )
            ),
            Ok(Some((0, 99)))
        );
        // One slice is all of it: nothing has to fit to it.
        assert_eq!(
            good(0, &with("bytes 0-49/50", "50", &[])),
            Ok(Some((0, 49)))
        );
        for (number, fields) in [
            // another place, another end, another length
            (1, with("bytes 0-99/250", "100", tag)),
            (0, with("bytes 0-98/250", "99", tag)),
            (0, with("bytes 0-149/250", "150", tag)),
            (2, with("bytes 200-248/250", "49", tag)),
            (2, with("bytes 200-299/*", "100", tag)),
            (0, with("bytes 0-99/250", "99", tag)),
            (2, with("bytes 200-249/250", "40", tag)),
            (0, with("bytes 0-99/140737488355329", "100", tag)),
            (0, with("bytes */250", "100", tag)),
            (0, with("lines 0-99/250", "100", tag)),
            // nothing to tell versions by
            (0, with("bytes 0-99/250", "100", &[])),
            (0, with("bytes 0-99/250", "100", &[("ETag", "W/\"a\"")])),
            (0, with("bytes 0-99/250", "100", &[("ETag", "a")])),
            (
                0,
                with(
                    "bytes 0-99/250",
                    "100",
                    &[("ETag", "\"a\""), ("ETag", "\"b\"")],
                ),
            ),
            // another representation
            (
                0,
                with(
                    "bytes 0-99/250",
                    "100",
                    &[("ETag", "\"a\""), ("Content-Encoding", "gzip")],
                ),
            ),
            (
                0,
                with(
                    "bytes 0-99/250",
                    "100",
                    &[
                        ("ETag", "\"a\""),
                        ("Content-Type", "multipart/byteranges; boundary=x"),
                    ],
                ),
            ),
        ] {
            assert_eq!(
                good(number, &fields),
                Err(Why::NoRanges),
                "{number} {fields:?}"
            );
        }
        let whole = [
            ("Content-Length", "250"),
            ("Cache-Control", "max-age=60"),
            ("ETag", "\"a\""),
        ];
        assert_eq!(answered(0, 200, &whole).unwrap_err(), Why::NoRanges);
        // Whether it may be kept is the ordinary policy's to say.
        let private = with(
            "bytes 0-99/250",
            "100",
            &[("ETag", "\"a\""), ("Cache-Control", "private")],
        );
        assert_eq!(good(0, &private), Err(Why::Private));
    }

    #[test]
    fn a_date_tells_versions_apart_if_it_is_old_enough() {
        let (old, fresh) = (date(-3600), date(-10));
        let with = |changed: &str| {
            answered(
                0,
                206,
                &[
                    ("Content-Range", "bytes 0-99/250"),
                    ("Content-Length", "100"),
                    ("Cache-Control", "max-age=60"),
                    ("Last-Modified", changed),
                ],
            )
        };
        assert!(with(&old).is_ok());
        assert_eq!(with(&fresh).unwrap_err(), Why::NoRanges);
    }

    #[test]
    fn versions() {
        let of = |tag: &str, changed: Option<u64>, length| {
            let head = tag.as_bytes().to_vec();
            let meta = Meta {
                etag: narthex_message::Span::new(0, head.len()),
                last_modified_s: changed,
                length,
                ..crate::policy::testing::meta()
            };
            (meta, head)
        };
        let same =
            |a: &(Meta, Vec<u8>), b: &(Meta, Vec<u8>)| same_version((&a.0, &a.1), (&b.0, &b.1));
        let tagged = of("\"a\"", Some(5), Some(250));
        let dated = of("", Some(5), Some(250));
        assert!(same(&tagged, &of("\"a\"", Some(9), Some(250))));
        assert!(same(&dated, &of("", Some(5), Some(250))));
        for (a, b) in [
            (&tagged, of("\"b\"", Some(5), Some(250))),
            (&tagged, of("W/\"a\"", Some(5), Some(250))),
            (&tagged, of("", Some(5), Some(250))),
            (&tagged, of("\"a\"", Some(5), Some(251))),
            (&tagged, of("\"a\"", Some(5), None)),
            (&dated, of("", Some(6), Some(250))),
            (&dated, of("", None, Some(250))),
            (&dated, of("", Some(5), Some(251))),
        ] {
            assert!(!same(a, &b) && !same(&b, a), "{a:?} {b:?}");
        }
        let weak = of("W/\"a\"", Some(5), Some(250));
        assert!(!same(&weak, &weak.clone()));
        let none = of("", None, Some(250));
        assert!(!same(&none, &none.clone()));
    }

    #[test]
    fn what_goes_on() {
        let head = b"\"a\"".to_vec();
        let meta = Meta {
            etag: narthex_message::Span::new(0, head.len()),
            length: Some(250),
            ..crate::policy::testing::meta()
        };
        let goes_on = |status, fields: &[(&str, &str)]| {
            let made = response(status, fields);
            let facts = crate::policy::testing::facts(made.head());
            continues(made.head(), &facts, (&meta, &head), (120, 249))
        };
        let good = [
            ("Content-Range", "bytes 120-249/250"),
            ("Content-Length", "130"),
            ("ETag", "\"a\""),
        ];
        assert!(goes_on(206, &good));
        assert!(!goes_on(200, &good));
        for (at, other) in [
            (0, ("Content-Range", "bytes 121-249/250")),
            (0, ("Content-Range", "bytes 120-249/251")),
            (0, ("Content-Range", "bytes 120-249/*")),
            (1, ("Content-Length", "129")),
            (1, ("Transfer-Encoding", "chunked")),
            (2, ("ETag", "\"b\"")),
            (2, ("ETag", "W/\"a\"")),
            (2, ("X", "y")),
        ] {
            let mut fields = good.to_vec();
            fields[at] = other;
            assert!(!goes_on(206, &fields), "{other:?}");
        }
        let mut coded = good.to_vec();
        coded.push(("Content-Encoding", "gzip"));
        assert!(!goes_on(206, &coded));
    }

    #[test]
    fn seen_as_a_whole() {
        let keep = exchange(
            &CacheRule::default(),
            &request("GET", "/", &[("Range", "bytes=100-199")]),
            &response(
                206,
                &[
                    ("Content-Range", "bytes 100-199/250"),
                    ("Content-Length", "100"),
                    ("Cache-Control", "max-age=60"),
                    ("ETag", "\"a\""),
                ],
            ),
            |exchanged| keep_slice(exchanged, Slice { number: 1, size: S }),
        )
        .unwrap();
        let whole = as_whole(&keep.meta);
        assert_eq!(
            (whole.status, whole.part, whole.length),
            (200, None, Some(250))
        );
        assert_eq!(whole.etag, keep.meta.etag);
    }
}
