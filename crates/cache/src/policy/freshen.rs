//! What a 304 or the answer to a HEAD does to what is stored (RFC 9111 3.2, 4.3.4, 4.3.5).

use narthex_message::field::HOP_BY_HOP;
use narthex_message::validate::is_nominated;
use narthex_message::{FieldId, FieldSet, Head};

use super::lines::Lines;
use super::precondition::{is_weak, opaque};
use super::store::{Extent, keep};
use super::{Exchanged, Keep, Meta, Why, date};

/// Never taken from a 304 or a HEAD: they describe the body that is stored, or name it.
const OF_THE_BODY: FieldSet = FieldSet::of(&[
    FieldId::ContentEncoding,
    FieldId::ContentLength,
    FieldId::ContentRange,
    FieldId::ETag,
]);

fn describes_body(id: FieldId, name: &[u8]) -> bool {
    OF_THE_BODY.has(id) || (id == FieldId::Other && name.eq_ignore_ascii_case(b"content-md5"))
}

/// A 304 to our conditional request: the stored head made new (RFC 9111 3.2, 4.3.4). `Err`: it is not about this object, or what
/// is stored may not be kept any longer.
///
/// We ask with the one validator that is stored, so that the answer is about this object. A 304 that names another entity tag
/// than it was asked about contradicts itself; the tag is not believed, the rest is.
pub fn freshen(stored: Head<'_>, meta: &Meta, exchanged: &Exchanged<'_>) -> Result<Keep, Why> {
    if exchanged.response.index.status != 304 {
        return Err(Why::Validator);
    }
    if exchanged.asked.no_store {
        return Err(Why::RequestNoStore);
    }
    let response = exchanged.response;
    match (stored.get(FieldId::ETag), response.get(FieldId::ETag)) {
        (Some(_), _) => {}
        // Asked by date only: a strong tag that we do not know names something else.
        (None, Some(theirs)) if !is_weak(theirs) => return Err(Why::Validator),
        (None, _) => {
            if let (Some(ours), Some(theirs)) = (meta.last_modified_s, last_modified(exchanged))
                && ours != theirs
            {
                return Err(Why::Validator);
            }
        }
    }
    merged(stored, meta, exchanged)
}

fn last_modified(exchanged: &Exchanged<'_>) -> Option<u64> {
    date::parse(
        exchanged.response.get(FieldId::LastModified)?,
        exchanged.received_ms / 1000,
    )
}

/// What the answer to a HEAD does to a stored GET.
#[derive(Debug)]
pub enum ByHead {
    /// It is the same representation: the head is made new.
    Update(Box<Keep>),
    /// It is another one: what is stored is of no use.
    Invalidate,
    /// It says nothing about it.
    Nothing,
}

/// The answer to a HEAD whose GET is stored (RFC 9111 4.3.5).
pub fn freshen_by_head(stored: Head<'_>, meta: &Meta, exchanged: &Exchanged<'_>) -> ByHead {
    let response = exchanged.response;
    match response.index.status {
        200 => {}
        404 | 410 => return ByHead::Invalidate,
        _ => return ByHead::Nothing,
    }
    if !matches!(meta.status, 200 | 206) {
        return ByHead::Invalidate;
    }
    let tags_differ = match (stored.get(FieldId::ETag), response.get(FieldId::ETag)) {
        (Some(ours), Some(theirs)) => opaque(ours) != opaque(theirs),
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let dates_differ = match (meta.last_modified_s, last_modified(exchanged)) {
        (ours, Some(theirs)) => ours != Some(theirs),
        (_, None) => false,
    };
    let lengths_differ = match (meta.length, exchanged.facts.announced) {
        (Some(ours), Some(theirs)) => ours != theirs,
        _ => false,
    };
    let coding = |head: Head<'_>| {
        head.get(FieldId::ContentEncoding)
            .map(<[u8]>::to_ascii_lowercase)
    };
    if tags_differ || dates_differ || lengths_differ || coding(stored) != coding(response) {
        return ByHead::Invalidate;
    }
    if exchanged.asked.no_store {
        return ByHead::Nothing;
    }
    match merged(stored, meta, exchanged) {
        Ok(keep) => ByHead::Update(Box::new(keep)),
        Err(_) => ByHead::Invalidate,
    }
}

/// The stored lines, those of the new head in their place, judged anew.
fn merged(stored: Head<'_>, meta: &Meta, exchanged: &Exchanged<'_>) -> Result<Keep, Why> {
    let new = exchanged.response;
    let nominates = new.index.present.has(FieldId::Connection);
    let taken = |id: FieldId, name: &[u8]| {
        !HOP_BY_HOP.has(id)
            && !describes_body(id, name)
            && !(nominates && is_nominated(new, id, name))
    };
    let mut lines = Lines::response(
        meta.status,
        stored.index.reason.of(stored.bytes),
        stored.bytes.len() + 256,
    );
    for (id, name, value) in stored.fields() {
        // Without a `Date` of its own the new head was made when it came.
        let replaced = id == FieldId::Date
            || (!describes_body(id, name)
                && match id {
                    FieldId::Other => new.named(name).next().is_some(),
                    _ => new.index.present.has(id),
                }
                && taken(id, name));
        if !replaced {
            lines.push(id, name, value);
        }
    }
    for (id, name, value) in new.fields() {
        if taken(id, name) {
            lines.push(id, name, value);
        }
    }
    let extent = Extent {
        length: meta.length,
        part: meta.part,
    };
    keep(exchanged, lines.head(), extent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{date as at, exchange, indexed, kept, request, response, rfc9111};

    const STORED: &[(&str, &str)] = &[
        ("Cache-Control", "max-age=60"),
        ("ETag", "\"a\""),
        ("Content-Type", "text/plain"),
        ("Content-Encoding", "br"),
        ("X-A", "1"),
        ("X-A", "2"),
        ("X-B", "3"),
        ("Content-Length", "5"),
        ("Content-MD5", "x"),
        ("Age", "7"),
    ];

    fn by(stored: &[(&str, &str)], new: &[(&str, &str)]) -> Result<Keep, Why> {
        let keep = kept(&rfc9111(), &[], 200, stored).unwrap();
        let stored = indexed(&keep.head);
        exchange(
            &rfc9111(),
            &request("GET", "/", &[]),
            &response(304, new),
            |x| freshen(stored.head(), &keep.meta, x),
        )
    }

    #[test]
    fn which_lines_are_made_new() {
        let keep = by(
            STORED,
            &[
                ("Cache-Control", "max-age=90"),
                ("X-A", "4"),
                ("Content-Type", "text/html"),
                ("Content-Encoding", "gzip"),
                ("Content-Length", "9"),
                ("Content-MD5", "y"),
                ("Content-Range", "z"),
                ("ETag", "\"a\""),
                ("Connection", "X-C"),
                ("X-C", "5"),
                ("X-D", "6"),
                ("Keep-Alive", "x"),
            ],
        )
        .unwrap();
        let now = at(0);
        assert_eq!(
            String::from_utf8(keep.head.clone()).unwrap(),
            format!(
                "HTTP/1.1 200 Reason\r\nETag: \"a\"\r\nContent-Encoding: br\r\nX-B: 3\r\nContent-MD5: x\r\nCache-Control: max-age=90\r\nX-A: 4\r\nContent-Type: text/html\r\nX-D: 6\r\nDate: {now}\r\n\r\n"
            )
        );
        assert_eq!(
            (
                keep.meta.lifetime_s,
                keep.meta.length,
                keep.meta.status,
                keep.meta.initial_age_s
            ),
            (90, Some(5), 200, 0)
        );
        assert_eq!(keep.meta.etag.of(&keep.head), b"\"a\"");
    }

    #[test]
    fn what_is_kept_if_nothing_is_said() {
        // CA-12: a 304 makes no empty object, and an old `Date` no old answer.
        let old = at(-10_000);
        let keep = by(
            &[
                ("Cache-Control", "max-age=60"),
                ("Date", &old),
                ("Last-Modified", &old),
                ("Vary", "X"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!((keep.meta.lifetime_s, keep.meta.initial_age_s), (60, 0));
        assert_eq!(keep.vary.len(), 1);
    }

    #[test]
    fn whose_it_is() {
        let (old, other) = (at(-10_000), at(-5_000));
        let dated = [("Cache-Control", "max-age=60"), ("Last-Modified", &*old)];
        assert!(by(&dated, &[("Last-Modified", &old)]).is_ok());
        assert_eq!(
            by(&dated, &[("Last-Modified", &other)]).unwrap_err(),
            Why::Validator
        );
        assert_eq!(
            by(&dated, &[("ETag", "\"x\"")]).unwrap_err(),
            Why::Validator
        );
        assert!(by(&dated, &[("ETag", "W/\"x\"")]).is_ok());
        // It was asked about our tag, and said that it is current.
        assert_eq!(
            by(STORED, &[("ETag", "\"b\"")]).map(|k| k.meta.etag.of(&k.head) == b"\"a\""),
            Ok(true)
        );
        assert_eq!(
            by(STORED, &[("Cache-Control", "no-store")]).unwrap_err(),
            Why::NoStore
        );
        assert_eq!(
            by(STORED, &[("Cache-Control", "private")]).unwrap_err(),
            Why::Private
        );
    }

    fn head(stored: &[(&str, &str)], status: u16, new: &[(&str, &str)]) -> ByHead {
        let keep = kept(&rfc9111(), &[], 200, stored).unwrap();
        let stored = indexed(&keep.head);
        let mut result = ByHead::Nothing;
        let _ = exchange(
            &rfc9111(),
            &request("HEAD", "/", &[]),
            &response(status, new),
            |x| {
                result = freshen_by_head(stored.head(), &keep.meta, x);
                Err(Why::Method)
            },
        );
        result
    }

    #[test]
    fn heads() {
        let same = [
            ("Cache-Control", "max-age=90"),
            ("ETag", "\"a\""),
            ("Content-Encoding", "br"),
            ("Content-Length", "5"),
        ];
        assert!(
            matches!(head(STORED, 200, &same), ByHead::Update(k) if k.meta.lifetime_s == 90 && k.meta.length == Some(5))
        );
        assert!(matches!(
            head(STORED, 200, &[("Content-Encoding", "br")]),
            ByHead::Update(_)
        ));
        for other in [
            &[("Content-Encoding", "br"), ("ETag", "\"b\"")][..],
            &[("Content-Encoding", "br"), ("Content-Length", "6")],
            &[("Content-Encoding", "gzip")],
            &[
                ("Content-Encoding", "br"),
                ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ],
            &[("Content-Encoding", "br"), ("Cache-Control", "no-store")],
        ] {
            assert!(
                matches!(head(STORED, 200, other), ByHead::Invalidate),
                "{other:?}"
            );
        }
        assert!(matches!(head(STORED, 410, &[]), ByHead::Invalidate));
        for status in [204, 301, 403, 500, 503] {
            assert!(
                matches!(head(STORED, status, &[]), ByHead::Nothing),
                "{status}"
            );
        }
    }
}
