//! Conditions of a request, answered from what is stored (RFC 9110 13), and the ones we make (RFC 9111 4.3.1).

use narthex_message::{FieldId, Head};

use super::cache_control::element_end;
use super::lines::value_in;
use super::{Meta, Precondition, date};

/// Is it a weak entity tag?
pub(super) fn is_weak(tag: &[u8]) -> bool {
    tag.starts_with(b"W/")
}

/// The tag without its weakness: what the weak comparison compares (RFC 9110 8.8.3.2).
pub(super) fn opaque(tag: &[u8]) -> &[u8] {
    match tag.strip_prefix(b"W/") {
        Some(rest) if rest.starts_with(b"\"") => rest,
        _ => tag,
    }
}

/// The strong comparison (RFC 9110 8.8.3.2): both are quoted, and neither is weak.
pub(super) fn strongly_equal(a: &[u8], b: &[u8]) -> bool {
    a == b && a.len() > 1 && a.starts_with(b"\"") && a.ends_with(b"\"")
}

/// The answer to a conditional request, from what is stored: never [`Precondition::Failed`]. `If-Match` and
/// `If-Unmodified-Since` are the origin's to judge (RFC 9111 4.3.2), [`super::asks()`] passes them.
pub fn precondition(request: Head<'_>, meta: &Meta, stored_head: &[u8]) -> Precondition {
    let present = request.index.present;
    // Without the condition it would be another answer than a success: the condition does not count (RFC 9110 13.2.1).
    if !(200..300).contains(&meta.status) {
        return Precondition::Holds;
    }
    let unchanged = if present.has(FieldId::IfNoneMatch) {
        // Then the date does not count, whatever comes of the tags.
        let tag = meta.etag.of(stored_head);
        request
            .all(FieldId::IfNoneMatch)
            .any(|line| names(line, tag))
    } else if present.has(FieldId::IfModifiedSince) {
        unmodified(request, meta)
    } else {
        false
    };
    if unchanged {
        Precondition::NotModified
    } else {
        Precondition::Holds
    }
}

/// Does a line of `If-None-Match` name this entity tag, by the weak comparison? `*` names any.
fn names(mut line: &[u8], tag: &[u8]) -> bool {
    if line == b"*" {
        return true;
    }
    while !line.is_empty() && !tag.is_empty() {
        let end = element_end(line);
        let element = line.get(..end).unwrap_or_default().trim_ascii();
        if opaque(element) == opaque(tag) {
            return true;
        }
        line = line.get(end + 1..).unwrap_or_default();
    }
    false
}

/// RFC 9110 13.1.3, RFC 9111 4.3.2: without `Last-Modified` what is stored is as old as its `Date`.
fn unmodified(request: Head<'_>, meta: &Meta) -> bool {
    if request.index.repeated.has(FieldId::IfModifiedSince) {
        return false;
    }
    let since = request
        .get(FieldId::IfModifiedSince)
        .and_then(|v| date::parse(v, meta.received_ms / 1000));
    since.is_some_and(|since| meta.last_modified_s.unwrap_or(meta.date_s) <= since)
}

/// The lines by which the origin is asked whether what is stored is still good; `false`: there is none, all is asked for. The
/// client's own conditions do not go with them.
pub fn conditional(meta: &Meta, stored_head: &[u8], out: &mut Vec<u8>) -> bool {
    let tag = meta.etag.of(stored_head);
    let changed = meta
        .last_modified_s
        .and_then(|_| value_in(stored_head, b"last-modified"));
    let mut line = |name: &[u8], value: &[u8]| {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    if !tag.is_empty() {
        line(b"If-None-Match: ", tag);
    }
    if let Some(changed) = changed {
        line(b"If-Modified-Since: ", changed);
    }
    !tag.is_empty() || changed.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{self, NOW, date as at, kept, meta, request, rfc9111};
    use narthex_message::Span;

    fn judged(tag: &str, changed: Option<i64>, fields: &[(&str, &str)]) -> Precondition {
        let head = format!("ETag: {tag}");
        let m = Meta {
            etag: Span::new(6, head.len()),
            last_modified_s: changed.map(|s| (NOW / 1000).saturating_add_signed(s)),
            ..meta()
        };
        precondition(request("GET", "/", fields).head(), &m, head.as_bytes())
    }

    #[test]
    fn if_none_match() {
        for (tag, lines, same) in [
            ("\"a\"", &["\"a\""][..], true),
            ("\"a\"", &["W/\"a\""], true),
            ("W/\"a\"", &["\"a\""], true),
            ("W/\"a\"", &["W/\"a\""], true),
            ("\"a\"", &["\"b\""], false),
            ("\"a\"", &["\"b\", \"a\""], true),
            ("\"a\"", &["\"b\"", "\"a\""], true),
            ("\"a\"", &[",, \"b\",\"a\" ,"], true),
            ("\"a\"", &["*"], true),
            ("", &["*"], true),
            ("\"a\"", &["*, \"b\""], false),
            ("\"a\"", &["a"], false),
            ("a", &["a"], true),
            ("a", &["\"a\""], false),
            ("w/\"a\"", &["w/\"a\""], true),
            ("w/\"a\"", &["\"a\""], false),
            ("\"a,b\"", &["\"x\", \"a,b\""], true),
            ("\"b\"", &["\"a,\"b\"\""], false),
            ("", &["\"\""], false),
            ("\"a\"", &[""], false),
            ("\"a\u{fc}\"", &["\"a\u{fc}\""], true),
        ] {
            let fields: Vec<_> = lines.iter().map(|l| ("If-None-Match", *l)).collect();
            let want = if same {
                Precondition::NotModified
            } else {
                Precondition::Holds
            };
            assert_eq!(judged(tag, None, &fields), want, "{tag} {lines:?}");
        }
    }

    #[test]
    fn if_modified_since() {
        let (before, same, after) = (at(-60), at(-50), at(-10));
        let since = |changed, text: &str| judged("", changed, &[("If-Modified-Since", text)]);
        assert_eq!(since(Some(-50), &before), Precondition::Holds);
        assert_eq!(since(Some(-50), &same), Precondition::NotModified);
        assert_eq!(since(Some(-50), &after), Precondition::NotModified);
        assert_eq!(since(Some(-50), "yesterday"), Precondition::Holds);
        // Without a date of its own: as old as its `Date`.
        assert_eq!(since(None, &after), Precondition::Holds);
        assert_eq!(since(None, &at(0)), Precondition::NotModified);
        // The tags come first, whatever the date says.
        let both = |tag: &str| {
            judged(
                "\"a\"",
                Some(-50),
                &[("If-None-Match", tag), ("If-Modified-Since", &after)],
            )
        };
        assert_eq!(both("\"b\""), Precondition::Holds);
        assert_eq!(both("\"a\""), Precondition::NotModified);
        assert_eq!(
            judged(
                "",
                Some(-50),
                &[("If-Modified-Since", &after), ("If-Modified-Since", &after)]
            ),
            Precondition::Holds
        );
    }

    #[test]
    fn only_of_successes() {
        let made = request("GET", "/", &[("If-None-Match", "*")]);
        for (status, want) in [
            (200, Precondition::NotModified),
            (206, Precondition::NotModified),
            (404, Precondition::Holds),
            (301, Precondition::Holds),
        ] {
            assert_eq!(
                precondition(made.head(), &Meta { status, ..meta() }, b""),
                want,
                "{status}"
            );
        }
    }

    #[test]
    fn what_we_ask_with() {
        let lines = |fields: &[(&str, &str)]| {
            let mut all = vec![("Cache-Control", "max-age=60")];
            all.extend_from_slice(fields);
            let keep = kept(&rfc9111(), &[], 200, &all).unwrap();
            let mut out = Vec::new();
            let any = conditional(&keep.meta, &keep.head, &mut out);
            assert_eq!(any, !out.is_empty());
            String::from_utf8(out).unwrap()
        };
        let old = "Sunday, 06-Nov-94 08:49:37 GMT";
        assert_eq!(lines(&[]), "");
        assert_eq!(lines(&[("ETag", "W/\"a\"")]), "If-None-Match: W/\"a\"\r\n");
        assert_eq!(
            lines(&[("Last-Modified", old)]),
            format!("If-Modified-Since: {old}\r\n")
        );
        assert_eq!(
            lines(&[("Last-Modified", "x"), ("ETag", "\"a\"")]),
            "If-None-Match: \"a\"\r\n"
        );
        assert_eq!(
            lines(&[("ETag", "\"a\""), ("Last-Modified", old)]),
            format!("If-None-Match: \"a\"\r\nIf-Modified-Since: {old}\r\n")
        );
        assert_eq!(
            lines(&[("X-Last-Modified", old), ("Last-Modified-X", old)]),
            ""
        );
        assert_eq!(
            testing::indexed(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n")
                .head()
                .named(b"a")
                .next(),
            Some(&b"b"[..])
        );
    }
}
