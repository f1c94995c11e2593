//! Header operations on a list of edits.

use narthex_config::model::{HeaderAction, HeaderOp, Part};
use narthex_message::field::{FRAMING, HOP_BY_HOP};
use narthex_message::{Edits, FieldId, FieldSet, Head};

use crate::template::View;

/// Longest value that a header operation writes, bytes. A longer one is left out.
pub(crate) const MAX_VALUE: usize = 64 << 10;

/// Which message is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// What the proxy alone writes into a request; a rule's own would be doubled or contradicted.
const REQUEST_OWNED: FieldSet = FieldSet::of(&[
    FieldId::Host,
    FieldId::Expect,
    FieldId::Forwarded,
    FieldId::XForwardedFor,
    FieldId::XForwardedHost,
    FieldId::XForwardedPort,
    FieldId::XForwardedProto,
    FieldId::XRealIp,
]);

/// May a rule touch this field? Framing and hop-by-hop fields are written from the message, never by a rule. The
/// configuration has refused these names already; this is the second lock.
pub(crate) fn may_touch(name: &str, side: Side) -> bool {
    let id = FieldId::of(name.as_bytes());
    match side {
        _ if HOP_BY_HOP.has(id) => false,
        Side::Request => !FRAMING.has(id) && !REQUEST_OWNED.has(id),
        Side::Response => !FRAMING.has(id) || id == FieldId::Host,
    }
}

/// The operations that may be, of those that are written.
pub(crate) fn checked(ops: &[HeaderOp], side: Side) -> Vec<HeaderOp> {
    debug_assert!(
        ops.iter().all(|op| may_touch(&op.name, side)),
        "the configuration lets no rule touch a framing, hop-by-hop or proxy-owned field"
    );
    ops.iter()
        .filter(|op| may_touch(&op.name, side))
        .cloned()
        .collect()
}

/// Runs `ops` in order; each sees what those before it did.
pub(crate) fn apply(ops: &[HeaderOp], side: Side, view: &View<'_, '_>, edits: &mut Edits) {
    let head = match side {
        Side::Request => view.request.map(|(head, _)| head),
        Side::Response => view.response.map(|(_, head, _)| head),
    };
    let mut value = Vec::new();
    for op in ops {
        if op.action == HeaderAction::Remove {
            edits.remove(&op.name);
            continue;
        }
        if op.action == HeaderAction::Default && is_present(head, edits, &op.name) {
            continue;
        }
        value.clear();
        live(view, side, edits).render(&op.value, &mut value);
        write(op, trim(&value), edits);
    }
}

/// `view` with the edits as they are now.
fn live<'e, 'a>(view: &View<'e, 'a>, side: Side, edits: &'e Edits) -> View<'e, 'a> {
    let mut live = *view;
    match side {
        Side::Request => live.request = view.request.map(|(head, _)| (head, edits)),
        Side::Response => live.response = view.response.map(|(s, head, _)| (s, head, edits)),
    }
    live
}

fn is_present(head: Option<Head<'_>>, edits: &Edits, name: &str) -> bool {
    head.is_some_and(|head| edits.get(head, name.as_bytes()).is_some())
}

/// A value that no field may have never reaches the wire; `set` still removes what was there, so that a client can't
/// keep its own by breaking ours. Variables that hold nothing make no line, rather than an empty one.
fn write(op: &HeaderOp, value: &[u8], edits: &mut Edits) {
    if op.action != HeaderAction::Add {
        edits.remove(&op.name);
    }
    let nothing = value.is_empty() && op.value.parts.iter().any(|p| matches!(p, Part::Var(_)));
    if !nothing && value.len() <= MAX_VALUE {
        edits.add(&op.name, value);
    }
}

/// Without spaces and tabs around it. Line breaks stay, so that they are seen and refused.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_rule_may_touch() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "CONNECTION",
            "Upgrade",
            "TE",
            "Trailer",
            "Keep-Alive",
            "Proxy-Connection",
            "HTTP2-Settings",
            "Proxy-Authorization",
            "Proxy-Authenticate",
        ] {
            assert!(!may_touch(name, Side::Request), "{name}");
            assert!(!may_touch(name, Side::Response), "{name}");
        }
        for name in [
            "Host",
            "Expect",
            "X-Forwarded-For",
            "x-real-ip",
            "Forwarded",
            "X-Forwarded-Port",
        ] {
            assert!(!may_touch(name, Side::Request), "{name}");
            assert!(may_touch(name, Side::Response), "{name}");
        }
        for name in [
            "X-Frame-Options",
            "Cookie",
            "Set-Cookie",
            "Server",
            "X-Forwarded-Prefix",
            "Authorization",
        ] {
            assert!(may_touch(name, Side::Request), "{name}");
            assert!(may_touch(name, Side::Response), "{name}");
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "no rule touch"))]
    fn the_second_lock() {
        let op = HeaderOp {
            action: HeaderAction::Set,
            name: "Content-Length".into(),
            value: narthex_config::model::Template::default(),
        };
        assert!(checked(&[op], Side::Request).is_empty());
    }

    #[test]
    fn trimming_leaves_line_breaks() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"a\r\n"), b"a\r\n");
    }
}
