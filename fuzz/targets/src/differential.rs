//! The engine against two others: the reference parser, which must agree on every request and on whether there is a fault, and
//! `httparse`, which must accept whatever the engine accepts and see the same fields.

use narthex_e2e::kit::model;
use narthex_message::{Head, Index};
use narthex_wire::h1::scan::{self, Progress};

use crate::LIMITS;
use crate::engine::{self, End};

/// The target.
pub fn differential(data: &[u8]) {
    against_reference(data);
    against_httparse(data);
}

fn against_reference(data: &[u8]) {
    let (ours, end) = engine::read(data);
    let theirs = model::read(data);
    if about_extensions(&end, &theirs.end) {
        return;
    }
    let say = || {
        format!(
            "engine: {} requests, {end:?}\nreference: {} requests, {:?}\nof {}",
            ours.len(),
            theirs.requests.len(),
            theirs.end,
            data.escape_ascii()
        )
    };
    for (a, b) in ours.iter().zip(&theirs.requests) {
        assert_eq!(a.method, b.method, "{}", say());
        assert_eq!(a.target, b.target, "{}", say());
        assert_eq!(a.fields, b.fields.0, "{}", say());
        assert_eq!(a.body, b.body, "{}", say());
    }
    assert_eq!(ours.len(), theirs.requests.len(), "{}", say());
    // Which of several faults is named is the engine's choice, and one of the two may see a fault before its line is complete;
    // that the connection is refused, and where, is not.
    let agree = match (&end, &theirs.end) {
        (End::Clean, model::End::Clean | model::End::Closed) => true,
        (End::Clean, _) | (_, model::End::Clean | model::End::Closed) => false,
        _ => true,
    };
    assert!(agree, "{}", say());
}

/// Chunk extensions are dropped unread by both. The engine refuses bytes that could hide a line end and counts the rest, the
/// reference reads their grammar: they may differ there, and nowhere else.
fn about_extensions(ours: &End, theirs: &model::End) -> bool {
    matches!(ours, End::Reject(_, "chunk-extension"))
        || matches!(
            theirs,
            model::End::Reject {
                why: "chunk-extension" | "chunk-line-size",
                ..
            }
        )
}

fn against_httparse(data: &[u8]) {
    let mut index = Index::default();
    let Ok(Progress::Complete(end)) = scan::request(data, &mut index, &LIMITS) else {
        return;
    };
    let head = Head::new(data, &index);
    let mut space = [httparse::EMPTY_HEADER; 128];
    let mut peer = httparse::Request::new(&mut space);
    let result = peer.parse(data);
    assert_eq!(
        result,
        Ok(httparse::Status::Complete(end)),
        "accepted by us: {}",
        data.escape_ascii()
    );
    assert_eq!(peer.method.map(str::as_bytes), Some(head.method()));
    assert_eq!(peer.path.map(str::as_bytes), Some(head.target()));
    let theirs: Vec<(&[u8], &[u8])> = peer
        .headers
        .iter()
        .map(|h| (h.name.as_bytes(), h.value))
        .collect();
    let ours: Vec<(&[u8], &[u8])> = head.fields().map(|(_, n, v)| (n, v)).collect();
    assert_eq!(ours, theirs, "{}", data.escape_ascii());
}
