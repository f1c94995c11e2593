//! Heads for tests, made from pairs.

use narthex_message::{Body, FieldId, Head, Method, RequestFacts, ResponseFacts, Span};

use super::lines::Lines;
use super::{Asked, Exchanged, Keep, Meta, Why, asks, store};
use narthex_config::model::{CacheProfile, CacheRule};

/// When everything in the tests comes: 2026-11-28 19:30:00.
pub const NOW: u64 = 1_795_894_200_000;

/// A head and its memory.
pub struct Made(pub Lines);

impl Made {
    pub fn head(&self) -> Head<'_> {
        self.0.head()
    }
}

pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Made {
    let mut lines = Lines::default();
    lines.bytes.extend_from_slice(method.as_bytes());
    lines.index.method = Span::new(0, method.len());
    lines.bytes.push(b' ');
    let from = lines.bytes.len();
    lines.bytes.extend_from_slice(target.as_bytes());
    lines.index.target = Span::new(from, lines.bytes.len());
    lines.bytes.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in [("Host", "example.com")].iter().chain(fields) {
        lines.push(
            FieldId::of(name.as_bytes()),
            name.as_bytes(),
            value.trim().as_bytes(),
        );
    }
    Made(lines)
}

pub fn request_facts(head: Head<'_>) -> RequestFacts {
    let mut facts = narthex_message::validate::request(head).unwrap_or(RequestFacts {
        method: Method::of(head.method()),
        form: narthex_message::Form::Origin,
        authority: Span::default(),
        path: head.index.target,
        body: Body::None,
        keep_alive: true,
        expects_continue: false,
        upgrade: None,
        nominates: false,
        trailers: false,
        version: narthex_message::Version::Http11,
    });
    facts.method = Method::of(head.method());
    facts
}

pub fn response(status: u16, fields: &[(&str, &str)]) -> Made {
    let mut lines = Lines::response(status, b"Reason", 0);
    for (name, value) in fields {
        lines.push(
            FieldId::of(name.as_bytes()),
            name.as_bytes(),
            value.trim().as_bytes(),
        );
    }
    Made(lines)
}

/// A stored head, read back: what a store has to do before `freshen`.
pub fn indexed(stored: &[u8]) -> Made {
    let text = std::str::from_utf8(stored).unwrap();
    let mut rows = text.split("\r\n");
    let status = rows
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let fields: Vec<_> = rows
        .filter(|r| !r.is_empty())
        .map(|r| r.split_once(": ").unwrap())
        .collect();
    response(status, &fields)
}

pub fn facts(head: Head<'_>) -> ResponseFacts {
    narthex_message::validate::response(head, Method::Get).unwrap()
}

pub fn rfc9111() -> CacheRule {
    CacheRule {
        profile: CacheProfile::Rfc9111,
        ..CacheRule::default()
    }
}

pub fn meta() -> Meta {
    Meta {
        status: 200,
        received_ms: NOW,
        initial_age_s: 0,
        lifetime_s: 60,
        while_revalidate_s: 0,
        if_error_s: 0,
        must_revalidate: false,
        no_cache: false,
        immutable: false,
        no_transform: false,
        heuristic: false,
        etag: Span::default(),
        last_modified_s: None,
        date_s: NOW / 1000,
        length: None,
        part: None,
    }
}

/// An HTTP date so many seconds from [`NOW`].
pub fn date(seconds: i64) -> String {
    let at = (NOW / 1000).saturating_add_signed(seconds);
    String::from_utf8(narthex_observe::clock::http_date(at).to_vec()).unwrap()
}

/// Everything of one exchange, at [`NOW`].
pub fn exchange(
    rule: &CacheRule,
    ask: &Made,
    answer: &Made,
    then: impl FnOnce(&Exchanged<'_>) -> Result<Keep, Why>,
) -> Result<Keep, Why> {
    let asked: Asked = asks(ask.head(), &request_facts(ask.head())).unwrap_or_default();
    then(&Exchanged {
        request: ask.head(),
        asked: &asked,
        response: answer.head(),
        facts: &facts(answer.head()),
        rule,
        sent_ms: NOW,
        received_ms: NOW,
    })
}

/// `store` for a GET with these fields and an answer with those.
pub fn kept(
    rule: &CacheRule,
    ask: &[(&str, &str)],
    status: u16,
    fields: &[(&str, &str)],
) -> Result<Keep, Why> {
    exchange(
        rule,
        &request("GET", "/", ask),
        &response(status, fields),
        store,
    )
}
