//! What a request wants of a cache.

use narthex_message::{FieldId, FieldSet, Head, Method, RequestFacts};

use super::{Asked, Why, cache_control};

/// Fields of a request that say anything to a cache. A request without them is decided by one comparison.
const SPEAKING: FieldSet = FieldSet::of(&[
    FieldId::Authorization,
    FieldId::CacheControl,
    FieldId::IfMatch,
    FieldId::IfModifiedSince,
    FieldId::IfNoneMatch,
    FieldId::IfUnmodifiedSince,
    FieldId::Pragma,
    FieldId::Range,
]);

/// Evaluated by the origin only (RFC 9111 4.3.2).
const ORIGINS_CONDITIONS: FieldSet = FieldSet::of(&[FieldId::IfMatch, FieldId::IfUnmodifiedSince]);

/// What a request asks of a cache; why it may have nothing to do with one.
#[inline]
pub fn asks(request: Head<'_>, facts: &RequestFacts) -> Result<Asked, Why> {
    let head = match facts.method {
        Method::Get => false,
        Method::Head => true,
        _ => return Err(Why::Method),
    };
    if facts.upgrade.is_some() {
        return Err(Why::Upgrade);
    }
    if !facts.body.is_empty() {
        return Err(Why::RequestBody);
    }
    let asked = Asked {
        head,
        ..Asked::default()
    };
    if request.index.present.intersects(SPEAKING) {
        said(request, asked)
    } else {
        Ok(asked)
    }
}

fn said(request: Head<'_>, mut asked: Asked) -> Result<Asked, Why> {
    let present = request.index.present;
    if present.intersects(ORIGINS_CONDITIONS) {
        return Err(Why::Condition);
    }
    asked.authorization = present.has(FieldId::Authorization);
    asked.conditional = present.has(FieldId::IfNoneMatch) || present.has(FieldId::IfModifiedSince);
    // A range is defined for GET alone (RFC 9110 14.2).
    asked.range = present.has(FieldId::Range) && !asked.head;
    if present.has(FieldId::CacheControl) {
        cache_control::of_request(request.all(FieldId::CacheControl), &mut asked);
    } else if present.has(FieldId::Pragma) {
        // Of HTTP/1.0, and only where `Cache-Control` says nothing (RFC 9111 5.4).
        asked.no_cache = request
            .all(FieldId::Pragma)
            .flat_map(cache_control::Directives)
            .any(|(name, _)| name.eq_ignore_ascii_case(b"no-cache"));
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{request, request_facts};
    use narthex_message::Body;

    fn ask(method: &str, fields: &[(&str, &str)]) -> Result<Asked, Why> {
        let made = request(method, "/", fields);
        asks(made.head(), &request_facts(made.head()))
    }

    #[test]
    fn who_is_asked() {
        assert_eq!(ask("GET", &[]), Ok(Asked::default()));
        assert!(ask("HEAD", &[("Range", "bytes=0-1")]).unwrap().head);
        assert!(!ask("HEAD", &[("Range", "bytes=0-1")]).unwrap().range);
        for method in [
            "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "PURGE", "QUERY",
        ] {
            assert_eq!(ask(method, &[]), Err(Why::Method), "{method}");
        }
        assert_eq!(
            ask("GET", &[("Content-Length", "1")]),
            Err(Why::RequestBody)
        );
        assert_eq!(ask("GET", &[("Content-Length", "0")]), Ok(Asked::default()));
        assert_eq!(
            ask(
                "GET",
                &[("Connection", "upgrade"), ("Upgrade", "websocket")]
            ),
            Err(Why::Upgrade)
        );
        assert_eq!(ask("GET", &[("If-Match", "*")]), Err(Why::Condition));
        assert_eq!(
            ask("GET", &[("If-Unmodified-Since", "x")]),
            Err(Why::Condition)
        );
        let made = request("GET", "/", &[]);
        let facts = RequestFacts {
            body: Body::Chunked,
            ..request_facts(made.head())
        };
        assert_eq!(asks(made.head(), &facts), Err(Why::RequestBody));
    }

    #[test]
    fn what_is_said() {
        let a = ask(
            "GET",
            &[
                ("If-None-Match", "\"a\""),
                ("Range", "bytes=0-1"),
                ("Authorization", "x"),
            ],
        )
        .unwrap();
        assert!(a.conditional && a.range && a.authorization && !a.no_cache);
        assert!(
            ask("GET", &[("If-Modified-Since", "x")])
                .unwrap()
                .conditional
        );
        assert!(!ask("GET", &[("If-Range", "x")]).unwrap().conditional);
        assert!(ask("GET", &[("Pragma", "x, No-Cache")]).unwrap().no_cache);
        assert!(!ask("GET", &[("Pragma", "foo")]).unwrap().no_cache);
        assert!(
            !ask("GET", &[("Pragma", "no-cache"), ("Cache-Control", "x")])
                .unwrap()
                .no_cache
        );
        let a = ask(
            "GET",
            &[
                ("Cache-Control", "max-age=5"),
                ("Cache-Control", "max-age=3, only-if-cached"),
            ],
        )
        .unwrap();
        assert_eq!((a.max_age, a.only_if_cached), (Some(3), true));
    }
}
