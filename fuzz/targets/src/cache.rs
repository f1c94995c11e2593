//! The cache's decisions: whatever a client and an origin say, they hold together; and a key tells apart what is apart.

use std::time::Duration;

use narthex_cache::key::{self, Parts};
use narthex_cache::policy::{self, Asked, Choice, Exchanged, Keep, Ranges};
use narthex_config::model::{CacheKey, CacheProfile, CacheRule};
use narthex_message::field::HOP_BY_HOP;
use narthex_message::validate;
use narthex_message::{FieldId, Head, Index, Method};
use narthex_wire::h1::scan::{self, Progress};

use crate::LIMITS;

const NOW_MS: u64 = 1_800_000_000_000;

/// A request's head and a response's.
pub fn cache_policy(data: &[u8]) {
    let _ = policy::date::parse(data, NOW_MS / 1000);
    let mut request = Index::default();
    let Ok(Progress::Complete(end)) = scan::request(data, &mut request, &LIMITS) else {
        return;
    };
    let answer = data.get(end..).unwrap_or_default();
    let mut response = Index::default();
    let Ok(Progress::Complete(_)) = scan::response(answer, &mut response, &LIMITS) else {
        return;
    };
    for profile in [CacheProfile::Safe, CacheProfile::Rfc9111] {
        for ttl in [None, Some(Duration::from_mins(1))] {
            let rule = CacheRule {
                profile,
                ttl,
                stale_if_error: ttl,
                ..CacheRule::default()
            };
            exchange(
                Head::new(data, &request),
                Head::new(answer, &response),
                &rule,
            );
        }
    }
}

fn exchange(request: Head<'_>, response: Head<'_>, rule: &CacheRule) {
    let Ok(facts) = validate::request(request) else {
        return;
    };
    let asked: Asked = policy::asks(request, &facts).unwrap_or_default();
    let Ok(answer) = validate::response(response, facts.method) else {
        return;
    };
    let exchanged = Exchanged {
        request,
        asked: &asked,
        response,
        facts: &answer,
        rule,
        sent_ms: NOW_MS - 10,
        received_ms: NOW_MS,
    };
    let Ok(kept) = policy::store(&exchanged) else {
        return;
    };
    assert!(facts.method != Method::Head);
    assert!(rule.profile == CacheProfile::Rfc9111 || response.index.status < 400);
    stored(&kept, rule);
    asked_again(request, &asked, &kept);
    renewed(&exchanged, &kept);
}

/// What is stored can be read again, and says nothing of a connection.
fn stored(kept: &Keep, rule: &CacheRule) {
    let mut index = Index::default();
    let scanned = scan::response(&kept.head, &mut index, &LIMITS);
    // It may have become longer than what came by a `Date`.
    if kept.head.len() < LIMITS.head && index.fields.len() < LIMITS.fields {
        assert_eq!(scanned, Ok(Progress::Complete(kept.head.len())));
        let head = Head::new(&kept.head, &index);
        assert!(!index.present.intersects(HOP_BY_HOP));
        assert!(!index.present.has(FieldId::ContentLength) && !index.present.has(FieldId::Age));
        assert!(index.present.has(FieldId::Date));
        assert!(
            rule.profile == CacheProfile::Rfc9111 || !index.present.has(FieldId::SetCookie),
            "a cookie is stored"
        );
        let tag = kept.meta.etag.of(&kept.head);
        assert!(tag.is_empty() || head.get(FieldId::ETag) == Some(tag));
    }
    assert!(kept.vary.is_sorted() && kept.vary.iter().all(|name| **name != *b"*"));
    assert!(kept.tags.len() <= policy::MAX_TAGS);
}

/// The same request finds what was stored for it.
fn asked_again(request: Head<'_>, asked: &Asked, kept: &Keep) {
    let meta = &kept.meta;
    for later in [0, 30_000, u64::MAX / 2] {
        let now = NOW_MS + later;
        match policy::choose(meta, asked, false, now) {
            Choice::Fresh { age_s } => assert!(age_s < meta.lifetime_s && !meta.no_cache),
            Choice::Stale { .. } => assert!(!meta.must_revalidate && !meta.no_cache),
            Choice::Ask(_) => {}
        }
        for profile in [CacheProfile::Safe, CacheProfile::Rfc9111] {
            let failed = policy::Failed::Silent;
            if policy::serves_on_error(meta, asked, failed, profile, now).is_some() {
                assert!(!meta.must_revalidate && !meta.no_cache);
            }
        }
    }
    let _ = policy::precondition(request, meta, &kept.head);
    let length = meta.length.unwrap_or(1000);
    let (least, most) = meta.part.unwrap_or((0, length.saturating_sub(1)));
    let wanted = match meta.part {
        Some(_) => policy::part_ranges(request, meta, &kept.head),
        None => Some(policy::ranges(request, meta, &kept.head, length)),
    };
    let inside = |(a, b): (u64, u64)| assert!(least <= a && a <= b && b <= most);
    match wanted {
        Some(Ranges::One(a, b)) => inside((a, b)),
        Some(Ranges::Many(many)) => {
            assert!((2..=policy::MAX_RANGES).contains(&many.len()));
            many.into_iter().for_each(inside);
        }
        _ => {}
    }
    let mut lines = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    policy::conditional(meta, &kept.head, &mut lines);
    policy::completing(meta, &kept.head, &mut lines);
    lines.extend_from_slice(b"\r\n");
    if lines.len() < LIMITS.head {
        let scanned = scan::request(&lines, &mut Index::default(), &LIMITS);
        assert!(!matches!(scanned, Ok(Progress::Partial)), "a line is cut");
    }
}

/// A 304 that repeats the answer's head changes no line of it.
fn renewed(exchanged: &Exchanged<'_>, kept: &Keep) {
    let mut index = Index::default();
    if scan::response(&kept.head, &mut index, &LIMITS).is_err() {
        return;
    }
    let not_modified = Index {
        status: 304,
        fields: exchanged.response.index.fields.clone(),
        ..Index::default()
    };
    let not_modified = Index {
        present: exchanged.response.index.present,
        repeated: exchanged.response.index.repeated,
        ..not_modified
    };
    let again = Exchanged {
        response: Head::new(exchanged.response.bytes, &not_modified),
        ..*exchanged
    };
    if let Ok(renewed) = policy::freshen(Head::new(&kept.head, &index), &kept.meta, &again) {
        assert_eq!(renewed.meta.length, kept.meta.length);
        assert_eq!(renewed.meta.lifetime_s, kept.meta.lifetime_s);
        assert_eq!(renewed.vary, kept.vary);
        let sorted = |head: &[u8]| {
            let mut lines: Vec<_> = head.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&renewed.head), sorted(&kept.head));
    }
}

/// Two keys, made of what stands between NUL bytes.
pub fn cache_key(data: &[u8]) {
    let mut pieces = data.split(|b| *b == 0);
    let mut next = || pieces.next().unwrap_or_default();
    let parts: Vec<_> = (0..2).map(|_| (next(), next(), next(), next())).collect();
    let index = Index::default();
    let rule = CacheKey::default();
    let keys: Vec<_> = parts
        .iter()
        .map(|(flags, host, path, query)| {
            let parts = Parts {
                https: flags.first() == Some(&b's'),
                host: std::str::from_utf8(host).unwrap_or("invalid"),
                port: flags.len() as u16,
                path,
                query: (!query.is_empty()).then_some(*query),
                request: Head::new(b"", &index),
            };
            let mut key = Vec::new();
            key::build(&parts, &rule, &mut key);
            let what = (parts.https, parts.host, parts.port, parts.path, parts.query);
            (what, key)
        })
        .collect();
    if let [(a, first), (b, second)] = keys.as_slice() {
        assert_eq!(a == b, first == second);
    }
}
