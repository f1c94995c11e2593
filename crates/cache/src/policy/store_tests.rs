use super::*;
use crate::policy::testing::{date as at, exchange, kept, meta, request, response, rfc9111};

const MINUTE: (&str, &str) = ("Cache-Control", "max-age=60");

fn text(keep: &Keep) -> String {
    String::from_utf8(keep.head.clone()).unwrap()
}

#[test]
fn what_forbids_storing() {
    let safe = CacheRule::default();
    for (fields, why) in [
        (
            &[("Cache-Control", "max-age=60, no-store")][..],
            Why::NoStore,
        ),
        (&[("Cache-Control", "private, max-age=60")], Why::Private),
        (&[MINUTE, ("Vary", "*")], Why::VaryStar),
        (&[MINUTE, ("Vary", "a"), ("Vary", "b, *")], Why::VaryStar),
        (&[MINUTE, ("Vary", "a b")], Why::VaryStar),
        (
            &[
                MINUTE,
                ("Vary", "Accept-Encoding"),
                ("Content-Encoding", "dcb"),
            ],
            Why::Coding,
        ),
        (&[("Cache-Control", "max-age=0")], Why::ZeroLifetime),
        (&[MINUTE, ("Age", "60")], Why::ZeroLifetime),
        (&[("Cache-Control", "max-age=60, no-cache")], Why::NoCache),
        (&[("Expires", "0")], Why::ZeroLifetime),
        (&[MINUTE, ("Content-Length", "99999999999")], Why::TooLarge),
        (
            &[
                MINUTE,
                ("Content-Length", "5"),
                ("Transfer-Encoding", "chunked"),
            ],
            Why::Suspicious,
        ),
    ] {
        for rule in [&safe, &rfc9111()] {
            assert_eq!(kept(rule, &[], 200, fields).unwrap_err(), why, "{fields:?}");
        }
    }
    assert_eq!(
        kept(&safe, &[("Cache-Control", "no-store")], 200, &[MINUTE]).unwrap_err(),
        Why::RequestNoStore
    );
    let head = exchange(
        &safe,
        &request("HEAD", "/", &[]),
        &response(200, &[MINUTE]),
        store,
    );
    assert_eq!(head.unwrap_err(), Why::Method);
}

/// CA-05.
#[test]
fn ca_05_authorization_and_cookies() {
    let secret = [("Authorization", "Basic eDp5")];
    for rule in [&CacheRule::default(), &rfc9111()] {
        assert_eq!(
            kept(rule, &secret, 200, &[MINUTE]).unwrap_err(),
            Why::Authorization
        );
        assert_eq!(
            kept(
                rule,
                &secret,
                200,
                &[("Cache-Control", "max-age=60, proxy-revalidate")]
            )
            .unwrap_err(),
            Why::Authorization
        );
        assert_eq!(
            kept(
                rule,
                &secret,
                200,
                &[
                    ("Cache-Control", "max-age=60, s-maxage=x"),
                    ("ETag", "\"a\"")
                ]
            )
            .unwrap_err(),
            Why::Authorization
        );
        for allows in ["public", "must-revalidate", "s-maxage=60"] {
            let line = format!("max-age=60, {allows}");
            assert!(
                kept(rule, &secret, 200, &[("Cache-Control", &line)]).is_ok(),
                "{allows}"
            );
        }
        // A time of the operator's does not undo it.
        let forced = CacheRule {
            ttl: Some(Duration::from_secs(5)),
            ttl_override: Some(Duration::from_secs(5)),
            ..rule.clone()
        };
        assert_eq!(
            kept(&forced, &secret, 200, &[MINUTE]).unwrap_err(),
            Why::Authorization
        );
        assert_eq!(
            kept(&forced, &[], 200, &[("Cache-Control", "private")]).unwrap_err(),
            Why::Private
        );
        assert_eq!(
            kept(&forced, &[], 200, &[("Cache-Control", "no-store")]).unwrap_err(),
            Why::NoStore
        );
    }
    let cookie = [MINUTE, ("Set-Cookie", "a=b"), ("set-cookie2", "c=d")];
    assert_eq!(
        kept(&CacheRule::default(), &[], 200, &cookie).unwrap_err(),
        Why::SetCookie
    );
    assert_eq!(
        kept(
            &CacheRule::default(),
            &[],
            200,
            &[MINUTE, ("Set-Cookie2", "a=b")]
        )
        .unwrap_err(),
        Why::SetCookie
    );
    assert!(text(&kept(&rfc9111(), &[], 200, &cookie).unwrap()).contains("Set-Cookie: a=b\r\n"));
    let strips = CacheRule {
        strip_set_cookie: true,
        ..CacheRule::default()
    };
    assert!(
        !text(&kept(&strips, &[], 200, &cookie).unwrap())
            .to_ascii_lowercase()
            .contains("set-cookie")
    );
    let named = [
        ("Cache-Control", "max-age=60, private=\"set-cookie\""),
        ("Set-Cookie", "a=b"),
    ];
    assert!(!text(&kept(&CacheRule::default(), &[], 200, &named).unwrap()).contains("Set-Cookie"));
}

/// CA-06: an error that a client can provoke is not stored in `safe`, and one that depends on no key is never.
#[test]
fn ca_06_errors() {
    let negative = CacheRule {
        negative: (400..600).map(|s| (s, Duration::from_secs(7))).collect(),
        ..CacheRule::default()
    };
    for status in [400, 405, 411, 412, 413, 414, 416, 417, 421, 425, 431, 501] {
        for rule in [&CacheRule::default(), &negative] {
            assert_eq!(
                kept(rule, &[], status, &[MINUTE]).unwrap_err(),
                Why::Status,
                "{status}"
            );
        }
    }
    for status in [411, 412, 413, 416, 417, 421, 425, 431] {
        assert_eq!(
            kept(&rfc9111(), &[], status, &[MINUTE]).unwrap_err(),
            Why::Status,
            "{status}"
        );
    }
    for status in [404, 410, 451, 500, 502, 503, 504, 599] {
        assert_eq!(
            kept(&CacheRule::default(), &[], status, &[MINUTE]).unwrap_err(),
            Why::Status,
            "{status}"
        );
        assert_eq!(
            kept(&negative, &[], status, &[]).unwrap().meta.lifetime_s,
            7,
            "{status}"
        );
        assert_eq!(
            kept(&negative, &[], status, &[MINUTE])
                .unwrap()
                .meta
                .lifetime_s,
            60,
            "{status}"
        );
        assert_eq!(
            kept(&rfc9111(), &[], status, &[MINUTE])
                .unwrap()
                .meta
                .lifetime_s,
            60,
            "{status}"
        );
    }
}

#[test]
fn lifetimes() {
    let (past, soon, changed) = (at(-100), at(100), at(-1000));
    let life = |rule: &CacheRule, status, fields: &[(&str, &str)]| {
        kept(rule, &[], status, fields).map(|k| (k.meta.lifetime_s, k.meta.heuristic))
    };
    let now = at(0);
    let date = ("Date", &*now);
    let (safe, all) = (CacheRule::default(), rfc9111());
    for rule in [&safe, &all] {
        assert_eq!(
            life(rule, 200, &[date, ("Expires", &soon)]),
            Ok((100, false))
        );
        assert_eq!(life(rule, 200, &[("Expires", &soon)]), Ok((100, false)));
        assert_eq!(
            life(rule, 200, &[("Date", "foo"), ("Expires", &soon)]),
            Ok((100, false))
        );
        assert_eq!(
            life(
                rule,
                200,
                &[("Expires", &soon), ("Expires", &past), ("ETag", "\"a\"")]
            ),
            Ok((0, false))
        );
        assert_eq!(
            life(rule, 200, &[MINUTE, ("Expires", &past)]),
            Ok((60, false))
        );
        assert_eq!(
            life(
                rule,
                200,
                &[
                    ("Cache-Control", "s-maxage=7, max-age=9"),
                    ("Expires", &past)
                ]
            ),
            Ok((7, false))
        );
        // RFC 9213: the targeted field alone counts; one that cannot be read does not.
        assert_eq!(
            life(
                rule,
                200,
                &[
                    ("CDN-Cache-Control", "max-age=5"),
                    ("Cache-Control", "no-store")
                ]
            ),
            Ok((5, false))
        );
        assert_eq!(
            life(
                rule,
                200,
                &[("CDN-Cache-Control", "max-age=5, max-age=6"), MINUTE]
            ),
            Ok((6, false))
        );
        assert_eq!(
            life(rule, 200, &[("CDN-Cache-Control", "max-age=5,"), MINUTE]),
            Ok((60, false))
        );
        assert_eq!(
            life(rule, 200, &[("CDN-Cache-Control", "Max-Age=5"), MINUTE]),
            Ok((60, false))
        );
        assert_eq!(
            life(rule, 200, &[("CDN-Cache-Control", ""), MINUTE]),
            Ok((60, false))
        );
        assert_eq!(
            life(rule, 200, &[("CDN-Cache-Control", "no-store"), MINUTE]),
            Err(Why::NoStore)
        );
        assert_eq!(
            life(
                rule,
                200,
                &[
                    ("CDN-Cache-Control", "max-age=5"),
                    ("CDN-Cache-Control", "private"),
                    MINUTE
                ]
            ),
            Err(Why::Private)
        );
        assert_eq!(
            life(rule, 200, &[("CDN-Cache-Control", "max-age=\"5\""), MINUTE]),
            Err(Why::ZeroLifetime)
        );
        assert_eq!(life(rule, 302, &[MINUTE]), Ok((60, false)));
        assert_eq!(life(rule, 302, &[]), Err(Why::Status));
        assert_eq!(life(rule, 200, &[]), Err(Why::NoLifetime));
        assert_eq!(life(rule, 304, &[MINUTE]), Err(Why::Status));
    }
    // Guesses.
    let modified = [date, ("Last-Modified", &*changed)];
    assert_eq!(life(&safe, 200, &modified), Err(Why::NoLifetime));
    assert_eq!(life(&all, 200, &modified), Ok((100, true)));
    assert_eq!(
        life(
            &all,
            200,
            &[date, ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")]
        ),
        Ok((604_800, true))
    );
    assert_eq!(life(&all, 201, &modified), Err(Why::Status));
    assert_eq!(
        life(
            &all,
            599,
            &[
                date,
                ("Last-Modified", &changed),
                ("Cache-Control", "public")
            ]
        ),
        Ok((100, true))
    );
    assert_eq!(life(&all, 200, &[("ETag", "\"a\"")]), Ok((0, true)));
    assert_eq!(
        life(
            &all,
            200,
            &[
                ("CDN-Cache-Control", "public"),
                ("Expires", &soon),
                ("Last-Modified", &changed)
            ]
        ),
        Ok((100, true))
    );
}

#[test]
fn times_of_the_rule() {
    let s = |n| Some(Duration::from_secs(n));
    let rule = CacheRule {
        ttl: s(10),
        ..CacheRule::default()
    };
    let life = |rule: &CacheRule, status, fields: &[(&str, &str)]| {
        kept(rule, &[], status, fields).map(|k| k.meta.lifetime_s)
    };
    assert_eq!(life(&rule, 200, &[]), Ok(10));
    assert_eq!(life(&rule, 200, &[MINUTE]), Ok(60));
    assert_eq!(life(&rule, 302, &[]), Err(Why::Status));
    assert_eq!(life(&rule, 404, &[]), Err(Why::Status));
    // An error is no answer that the operator's time is for.
    let all = CacheRule {
        ttl: s(10),
        ..rfc9111()
    };
    assert_eq!(life(&all, 404, &[]), Err(Why::NoLifetime));
    assert_eq!(life(&all, 200, &[]), Ok(10));
    // The operator's time begins when it comes.
    assert_eq!(life(&rule, 200, &[("Age", "1000")]), Ok(1010));
    let rule = CacheRule {
        ttl_override: s(5),
        ..CacheRule::default()
    };
    assert_eq!(life(&rule, 200, &[MINUTE]), Ok(5));
    assert_eq!(life(&rule, 200, &[("Cache-Control", "max-age=0")]), Ok(5));
    assert_eq!(life(&rule, 200, &[]), Ok(5));
    assert_eq!(life(&rule, 302, &[MINUTE]), Ok(5));
    assert_eq!(
        kept(
            &rule,
            &[],
            200,
            &[("Cache-Control", "no-cache"), ("ETag", "\"a\"")]
        )
        .map(|k| k.meta.no_cache),
        Ok(true)
    );
    let rule = CacheRule {
        ttl_max: s(20),
        ttl: s(30),
        ..CacheRule::default()
    };
    assert_eq!(life(&rule, 200, &[MINUTE]), Ok(20));
    assert_eq!(life(&rule, 200, &[]), Ok(20));
    assert_eq!(life(&rule, 200, &[("Cache-Control", "max-age=3")]), Ok(3));
    let rule = CacheRule {
        negative: vec![(302, Duration::from_secs(4))],
        ..CacheRule::default()
    };
    assert_eq!(life(&rule, 302, &[]), Ok(4));
}

#[test]
fn windows() {
    let s = |n| Some(Duration::from_secs(n));
    let rule = CacheRule {
        stale_while_revalidate: s(30),
        stale_if_error: s(300),
        ..CacheRule::default()
    };
    let windows = |rule: &CacheRule, line: &str| {
        let m = kept(
            rule,
            &[],
            200,
            &[("Cache-Control", line), ("ETag", "\"a\"")],
        )
        .unwrap()
        .meta;
        (m.while_revalidate_s, m.if_error_s, m.must_revalidate)
    };
    assert_eq!(windows(&rule, "max-age=1"), (30, 300, false));
    assert_eq!(
        windows(
            &rule,
            "max-age=1, stale-while-revalidate=5, stale-if-error=0"
        ),
        (5, 0, false)
    );
    for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=1"] {
        assert_eq!(
            windows(
                &rule,
                &format!("max-age=1, stale-while-revalidate=5, {forbids}")
            ),
            (0, 0, true),
            "{forbids}"
        );
    }
    assert_eq!(windows(&CacheRule::default(), "max-age=1"), (0, 0, false));
    // Stale at once, but served so.
    let m = kept(
        &CacheRule::default(),
        &[],
        200,
        &[("Cache-Control", "max-age=0, stale-while-revalidate=5")],
    )
    .unwrap()
    .meta;
    assert_eq!((m.lifetime_s, m.while_revalidate_s), (0, 5));
}

#[test]
fn must_understand() {
    let line = ("Cache-Control", "max-age=60, no-store, must-understand");
    for rule in [CacheRule::default(), rfc9111()] {
        assert!(kept(&rule, &[], 200, &[line]).is_ok());
    }
    assert_eq!(
        kept(&rfc9111(), &[], 599, &[line]).unwrap_err(),
        Why::MustUnderstand
    );
    assert_eq!(
        kept(&rfc9111(), &[], 299, &[line]).unwrap_err(),
        Why::MustUnderstand
    );
}

#[test]
fn ages() {
    let age = |fields: &[(&str, &str)]| {
        let made = response(200, fields);
        lifetime::Times::of(
            made.head(),
            crate::policy::testing::NOW - 2000,
            crate::policy::testing::NOW,
        )
        .initial_age_s
    };
    let old = at(-50);
    assert_eq!(age(&[]), 2);
    assert_eq!(age(&[("Age", "0")]), 2);
    assert_eq!(age(&[("Age", "10")]), 12);
    assert_eq!(age(&[("Date", &old), ("Age", "10")]), 50);
    assert_eq!(age(&[("Date", &old), ("Age", "100")]), 102);
    assert_eq!(age(&[("Age", "99999999999999999999")]), FOREVER_S);
    // The first member counts.
    for (first, aged) in [
        ("0,7200", 2),
        ("7200, 0", 7202),
        (", 7200", 7202),
        ("7200 ;a=\"b;c\", 0", 7202),
    ] {
        assert_eq!(age(&[("Age", first)]), aged, "{first}");
    }
    assert_eq!(age(&[("Age", "0"), ("Age", "7200")]), 2);
    assert_eq!(age(&[("Age", "7200"), ("Age", "0")]), 7202);
    // What is no number is as if it were not there.
    for broken in [
        "abc", "-7200", "7200.0", "", ",", ";", "+1", "1 2", "a, 7200",
    ] {
        assert_eq!(age(&[("Age", broken)]), 2, "{broken}");
    }
    assert_eq!(age(&[("Date", &old), ("Age", "abc")]), 50);
}

#[test]
fn the_stored_head() {
    let keep = kept(
        &rfc9111(),
        &[],
        200,
        &[
            ("Connection", "a, Cache-Control, close"),
            ("A", "1"),
            ("Cache-Control", "max-age=60, no-cache=\"b\""),
            ("B", "2"),
            ("Keep-Alive", "x"),
            ("Proxy-Authenticate", "x"),
            ("Proxy-Authentication-Info", "x"),
            ("Proxy-Connection", "x"),
            ("TE", "x"),
            ("Trailer", "x"),
            ("Upgrade", "x"),
            ("Age", "3"),
            ("Content-Length", "5"),
            ("Content-Range", "junk"),
            ("C", "3"),
            ("c", "4"),
            ("ETag", "W/\"e\""),
        ],
    )
    .unwrap();
    let now = at(0);
    assert_eq!(
        text(&keep),
        format!(
            "HTTP/1.1 200 Reason\r\nCache-Control: max-age=60, no-cache=\"b\"\r\nContent-Range: junk\r\nC: 3\r\nc: 4\r\nETag: W/\"e\"\r\nDate: {now}\r\n\r\n"
        )
    );
    assert_eq!(keep.meta.etag.of(&keep.head), b"W/\"e\"");
    assert_eq!((keep.meta.length, keep.meta.initial_age_s), (Some(5), 3));
    // Two entity tags are none.
    let two = kept(
        &rfc9111(),
        &[],
        200,
        &[MINUTE, ("ETag", "\"a\""), ("ETag", "\"b\"")],
    )
    .unwrap();
    assert!(two.meta.etag.is_empty());
}

#[test]
fn vary_and_tags() {
    let keep = kept(
        &CacheRule::default(),
        &[],
        200,
        &[
            MINUTE,
            ("Vary", "Foo,, accept-ENCODING"),
            ("Vary", "foo"),
            ("Surrogate-Key", "b a  c"),
            ("Cache-Tag", "x,b, y"),
            ("Content-Encoding", "br"),
        ],
    )
    .unwrap();
    let texts = |v: &[Box<[u8]>]| {
        v.iter()
            .map(|b| String::from_utf8(b.to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(&keep.vary), ["accept-encoding", "foo"]);
    assert_eq!(texts(&keep.tags), ["a", "b", "c", "x", "y"]);
    let many: Vec<_> = (0..200).map(|n| format!("t{n}")).collect();
    let (many, long) = (many.join(" "), "x".repeat(MAX_TAG + 1));
    let rule = CacheRule::default();
    let made = response(
        200,
        &[MINUTE, ("Surrogate-Key", &many), ("Cache-Tag", &long)],
    );
    assert!(loses_tags(made.head(), &rule.tags_from));
    assert_eq!(tags(made.head(), &rule.tags_from).len(), MAX_TAGS);
    assert!(!loses_tags(
        response(200, &[("Cache-Tag", "a")]).head(),
        &rule.tags_from
    ));
    let wide: Vec<_> = (0..40).map(|n| format!("f{n}")).collect();
    assert_eq!(
        kept(&rule, &[], 200, &[MINUTE, ("Vary", &wide.join(","))]).unwrap_err(),
        Why::VaryStar
    );
}

/// CA-09: a part is stored as what it is, or not at all.
#[test]
fn ca_09_parts() {
    let ask = [("Range", "bytes=4-9")];
    let part = |rule: &CacheRule, ask: &[(&str, &str)], fields: &[(&str, &str)]| {
        let mut all = vec![MINUTE];
        all.extend_from_slice(fields);
        kept(rule, ask, 206, &all).map(|k| (k.meta.part, k.meta.length))
    };
    for rule in [&CacheRule::default(), &rfc9111()] {
        let fits = |range, length| {
            part(
                rule,
                &ask,
                &[("Content-Range", range), ("Content-Length", length)],
            )
        };
        assert_eq!(fits("bytes 4-9/20", "6"), Ok((Some((4, 9)), Some(20))));
        assert_eq!(fits("Bytes 4-9/*", "6"), Ok((Some((4, 9)), None)));
        for (range, length) in [
            ("bytes 4-9/20", "7"),
            ("bytes 4-9/20", "5"),
            ("bytes 4-9/10", "0"),
            ("bytes 9-4/20", "6"),
            ("bytes 4-9/9", "6"),
            ("bytes */20", "6"),
            ("lines 4-9/20", "6"),
            ("bytes 4-9", "6"),
            ("bytes=4-9/20", "6"),
            ("bytes -9/20", "10"),
            ("bytes 0-99999999999999999999/*", "6"),
            ("", "6"),
        ] {
            assert_eq!(
                fits(range, length),
                Err(Why::PartialContent),
                "{range} {length}"
            );
        }
        assert_eq!(
            part(
                rule,
                &[],
                &[("Content-Range", "bytes 4-9/20"), ("Content-Length", "6")]
            ),
            Err(Why::PartialContent)
        );
        assert_eq!(
            part(rule, &ask, &[("Content-Length", "6")]),
            Err(Why::PartialContent)
        );
        assert_eq!(
            part(
                rule,
                &ask,
                &[
                    ("Content-Range", "bytes 4-9/20"),
                    ("Content-Range", "bytes 4-9/20"),
                    ("Content-Length", "6")
                ]
            ),
            Err(Why::PartialContent)
        );
        assert_eq!(
            part(
                rule,
                &ask,
                &[
                    ("Content-Type", "multipart/byteranges; boundary=x"),
                    ("Content-Range", "bytes 4-9/20"),
                    ("Content-Length", "6")
                ]
            ),
            Err(Why::PartialContent)
        );
    }
    let short = [("Content-Range", "bytes 4-9/10"), ("Content-Length", "5")];
    assert_eq!(part(&rfc9111(), &ask, &short), Ok((Some((4, 8)), Some(9))));
    assert_eq!(
        part(&CacheRule::default(), &ask, &short),
        Err(Why::PartialContent)
    );
    let keep = kept(
        &rfc9111(),
        &ask,
        206,
        &[
            MINUTE,
            ("Content-Range", "bytes 4-9/20"),
            ("Content-Length", "6"),
        ],
    )
    .unwrap();
    assert!(!text(&keep).contains("Content-Range"));
}

#[test]
fn posts() {
    let ask = request("POST", "/", &[]);
    let post = |rule: &CacheRule, status, fields: &[(&str, &str)], same| {
        exchange(rule, &ask, &response(status, fields), |x| {
            store_post(x, same)
        })
        .map(|_| ())
    };
    assert_eq!(post(&rfc9111(), 200, &[MINUTE], true), Ok(()));
    assert_eq!(post(&rfc9111(), 200, &[MINUTE], false), Err(Why::Method));
    assert_eq!(post(&rfc9111(), 201, &[MINUTE], true), Err(Why::Method));
    assert_eq!(
        post(&CacheRule::default(), 200, &[MINUTE], true),
        Err(Why::Method)
    );
    let changed = at(-1000);
    assert_eq!(
        post(&rfc9111(), 200, &[("Last-Modified", &changed)], true),
        Err(Why::NoLifetime)
    );
}

#[test]
fn usefulness() {
    let m = Meta {
        lifetime_s: 0,
        ..meta()
    };
    assert_eq!(useful(&m), Err(Why::ZeroLifetime));
    assert_eq!(
        useful(&Meta {
            last_modified_s: Some(0),
            ..m
        }),
        Ok(())
    );
    assert_eq!(useful(&Meta { if_error_s: 1, ..m }), Ok(()));
    assert_eq!(
        useful(&Meta {
            if_error_s: 1,
            no_cache: true,
            ..m
        }),
        Err(Why::NoCache)
    );
}
