//! The head scanner, for requests, responses and trailers: the same result however the bytes arrive, spans that hold, and
//! what it accepts can be written and read again.

use narthex_message::field::{FRAMING, HOP_BY_HOP};
use narthex_message::validate::{self, BadResponse, Method};
use narthex_message::{Edits, Head, Index, Reject};
use narthex_wire::h1::encode::{self, Keep};
use narthex_wire::h1::scan::{self, HeadLimits, Progress};

use crate::{LIMITS, cuts, seed};

type Scan<E> = fn(&[u8], &mut Index, &HeadLimits) -> Result<Progress, E>;

/// The target.
pub fn head(data: &[u8]) {
    if let Some(index) = one_way(data, scan::request as Scan<Reject>) {
        let head = Head::new(data, &index);
        sound(head);
        if let Ok(facts) = validate::request(head) {
            again(head, facts.nominates);
        }
    }
    if let Some(index) = one_way(data, scan::response as Scan<BadResponse>) {
        let head = Head::new(data, &index);
        sound(head);
        assert!((100..1000).contains(&index.status));
        for method in [Method::Get, Method::Head, Method::Connect] {
            let _ = validate::response(head, method);
        }
    }
    if let Some(index) = one_way(data, scan::trailers as Scan<Reject>) {
        sound(Head::new(data, &index));
    }
}

/// Scans whole and in pieces; both must say the same. The index, if the head is complete.
fn one_way<E: PartialEq + std::fmt::Debug>(data: &[u8], scan: Scan<E>) -> Option<Index> {
    let mut whole = Index::default();
    let result = scan(data, &mut whole, &LIMITS);
    let mut index = Index::default();
    let mut last = Ok(Progress::Partial);
    for cut in cuts(seed(data), data.len()) {
        last = scan(data.get(..cut)?, &mut index, &LIMITS);
        if last != Ok(Progress::Partial) {
            break;
        }
    }
    if data.is_empty() {
        return None;
    }
    match (&result, &last) {
        // Which of several faults is seen first may depend on the pieces; that there is one may not.
        (Err(_), Err(_)) => {}
        (whole, pieces) => assert_eq!(whole, pieces, "whole and in pieces"),
    }
    let Ok(Progress::Complete(end)) = result else {
        return None;
    };
    assert!(end <= data.len());
    assert_eq!(
        format!("{whole:?}"),
        format!("{index:?}"),
        "the index, whole and in pieces"
    );
    Some(whole)
}

/// Spans are in order, inside, and of the right bytes.
fn sound(head: Head<'_>) {
    let mut at = 0;
    for field in &head.index.fields {
        assert!(at <= field.name.start && field.name.start < field.name.end);
        assert!(field.name.end <= field.value.start && field.value.start <= field.value.end);
        assert!(field.value.end <= field.end && field.end as usize <= head.bytes.len());
        let (name, value) = (field.name.of(head.bytes), field.value.of(head.bytes));
        assert!(name.iter().all(|b| validate::is_token_byte(*b)));
        assert!(
            value
                .iter()
                .all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f))
        );
        assert_eq!(value, value.trim_ascii(), "white space around a value");
        assert!(
            head.bytes
                .get(..field.end as usize)
                .is_some_and(|b| b.ends_with(b"\r\n"))
        );
        at = field.end;
    }
}

/// What is accepted can be written out for an origin and accepted again: the same fields in the same order, but for those
/// that must not pass.
fn again(head: Head<'_>, nominates: bool) {
    let mut out = b"GET / HTTP/1.1\r\n".to_vec();
    let keep = Keep::request(nominates, false);
    encode::fields(head, keep, &Edits::default(), &mut out);
    out.extend_from_slice(b"\r\n");
    let mut index = Index::default();
    let loose = HeadLimits {
        head: LIMITS.head + 64,
        ..LIMITS
    };
    let result = scan::request(&out, &mut index, &loose);
    assert_eq!(
        result,
        Ok(Progress::Complete(out.len())),
        "{}",
        out.escape_ascii()
    );
    let written = Head::new(&out, &index);
    let mut given = head.fields();
    for (id, name, value) in written.fields() {
        assert!(
            !FRAMING.has(id) && !HOP_BY_HOP.has(id),
            "{}",
            name.escape_ascii()
        );
        assert!(!name.contains(&b'_'), "{}", name.escape_ascii());
        assert!(
            given.any(|(_, n, v)| (n, v) == (name, value)),
            "{} was not given, or not in this order",
            name.escape_ascii()
        );
    }
}
