use super::*;
use crate::policy::testing::request;
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    https: bool,
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
}

fn url(https: bool, host: &str, port: u16, target: &str) -> Url {
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(p, q)| (p, Some(q)));
    Url {
        https,
        host: host.into(),
        port,
        path: path.into(),
        query: query.map(Into::into),
    }
}

fn key_with(url: &Url, fields: &[(&str, &str)], rule: &CacheKey) -> Vec<u8> {
    let made = request("GET", "/", fields);
    let mut out = b"left over".to_vec();
    let parts = Parts {
        https: url.https,
        host: &url.host,
        port: url.port,
        path: url.path.as_bytes(),
        query: url.query.as_deref().map(str::as_bytes),
        request: made.head(),
    };
    build(&parts, rule, &mut out);
    out
}

fn key(target: &str, rule: &CacheKey) -> Vec<u8> {
    key_with(&url(true, "a.example", 443, target), &[], rule)
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// CA-01, CA-03: what is another resource has another key.
#[test]
fn ca_01_ca_03_every_part_counts() {
    let rule = CacheKey::default();
    let mut urls = vec![];
    for https in [false, true] {
        for host in ["a.example", "b.example", "a.example.", ""] {
            for port in [80, 443, 8443, 0] {
                for target in [
                    "/",
                    "/?",
                    "/a",
                    "/A",
                    "/a/",
                    "//a",
                    "/a;b",
                    "/a%2fb",
                    "/a%2Fb",
                    "/a/b",
                    "/a?b",
                    "/a?b=",
                    "/a?b&",
                    "/a?&b",
                    "/a?b=1&c=2",
                    "/a?c=2&b=1",
                    "/a?b=1&b=2",
                    "/a?b=2&b=1",
                    "/a?utm_source=x",
                    "/a?%62",
                    "/a?b+c",
                    "/a?b%20c",
                    "/a??",
                    "/a?b?c",
                    "/a.css",
                    "/a/x.css",
                    "/a;x.css",
                    "/a%0ax.css",
                    "/static/..%2fa",
                    "/a%3fb",
                    "/aexample",
                    "/443",
                ] {
                    urls.push(url(https, host, port, target));
                }
            }
        }
    }
    let mut keys: Vec<_> = urls.iter().map(|u| key_with(u, &[], &rule)).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), urls.len());
}

/// CA-02: what is not asked for by the rule is in no key.
#[test]
fn ca_02_fields_do_not_split_the_key() {
    let rule = CacheKey::default();
    let plain = url(true, "a.example", 443, "/");
    let fields = [
        ("X-Forwarded-Host", "evil"),
        ("Cookie", "a=b"),
        ("User-Agent", "x"),
        ("Accept-Language", "de"),
    ];
    assert_eq!(
        key_with(&plain, &[], &rule),
        key_with(&plain, &fields, &rule)
    );
}

#[test]
fn queries_by_rule() {
    let rule = |query, sort_query, strip_tracking| CacheKey {
        query,
        sort_query,
        strip_tracking,
        ..CacheKey::default()
    };
    let same = |rule: &CacheKey, a: &str, b: &str, want: bool| {
        assert_eq!(key(a, rule) == key(b, rule), want, "{a} {b} {rule:?}");
    };
    let none = rule(CacheQuery::None, false, false);
    same(&none, "/a", "/a?x=1", true);
    same(&none, "/a?", "/a", true);
    same(&none, "/a", "/b", false);
    let only = rule(CacheQuery::Only(strings(&["id", "p q"])), false, false);
    same(&only, "/?id=1&x=2", "/?y&id=1", true);
    same(&only, "/?id=1", "/?id=2", false);
    same(&only, "/?id=1&id=2", "/?id=2&id=1", false);
    same(&only, "/?x", "/", true);
    same(&only, "/?id", "/", false);
    same(&only, "/?id", "/?id=", false);
    // Names compare as the origin decodes them.
    same(&only, "/?%69d=1", "/", false);
    same(&only, "/?p+q=1", "/?p+q=2", false);
    same(&only, "/?ID=1", "/", true);
    let except = rule(CacheQuery::Except(strings(&["t"])), false, false);
    same(&except, "/?a=1&t=5", "/?t=6&a=1", true);
    same(&except, "/?a=1&t=5", "/?a=2&t=5", false);
    same(&except, "/?%74=5&a", "/?a", true);
    let sorted = rule(CacheQuery::All, true, false);
    same(&sorted, "/?b=1&a=2", "/?a=2&b=1", true);
    same(&sorted, "/?a=1&a=2", "/?a=2&a=1", false);
    same(&sorted, "/?", "/", false);
    same(&sorted, "/?a", "/?a=", false);
    let tracking = rule(CacheQuery::All, false, true);
    same(
        &tracking,
        "/?utm_source=x&a=1&gclid=y&fbclid=z",
        "/?a=1",
        true,
    );
    same(&tracking, "/?utm_source=x", "/", true);
    same(&tracking, "/?utmost=x", "/", false);
    same(&tracking, "/?gclidx=1", "/", false);
}

#[test]
fn headers_and_cookies() {
    let rule = CacheKey {
        headers: strings(&["X-Tenant", "Accept-Encoding"]),
        cookies: strings(&["lang", "s"]),
        ..CacheKey::default()
    };
    let at = url(true, "a.example", 443, "/");
    let cases: &[&[(&str, &str)]] = &[
        &[],
        &[("X-Tenant", "")],
        &[("X-Tenant", "a")],
        &[("X-Tenant", "b")],
        &[("X-Tenant", "a"), ("X-Tenant", "b")],
        &[("Accept-Encoding", "gzip")],
        &[("Accept-Encoding", "")],
        &[("Cookie", "lang=de")],
        &[("Cookie", "s=de")],
        &[("Cookie", "lang=de; s=x")],
        &[("Cookie", "lang=de; lang=en")],
        &[("Cookie", "lang=en; lang=de")],
        &[("Cookie", "lang=")],
    ];
    let mut keys: Vec<_> = cases
        .iter()
        .map(|fields| key_with(&at, fields, &rule))
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), cases.len());
    let k = |fields: &[(&str, &str)]| key_with(&at, fields, &rule);
    assert_eq!(
        k(&[("Cookie", "x=1; lang=de")]),
        k(&[("Cookie", "lang=de"), ("Cookie", "y=2")])
    );
    assert_eq!(
        k(&[("x-tenant", "a"), ("X-Other", "1")]),
        k(&[("X-Tenant", "a")])
    );
}

#[test]
fn devices_and_languages() {
    let rule = CacheKey {
        device: true,
        languages: strings(&["en", "de", "pt-BR"]),
        ..CacheKey::default()
    };
    let at = url(true, "a.example", 443, "/");
    let device = |agent: &str| key_with(&at, &[("User-Agent", agent)], &rule);
    let desktop = device("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0");
    let phone = device("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Mobile/15E148");
    let tablet = device("Mozilla/5.0 (iPad; CPU OS 19_0 like Mac OS X) Mobile/15E148");
    assert_eq!(
        phone,
        device("Mozilla/5.0 (Linux; Android 15; Pixel 9) Mobile Safari/537.36")
    );
    assert_eq!(
        tablet,
        device("Mozilla/5.0 (Linux; Android 15; SM-X900) Safari/537.36")
    );
    assert_eq!(desktop, device(""));
    assert!(desktop != phone && phone != tablet && tablet != desktop);

    let made = |accept: &str| request("GET", "/", &[("Accept-Language", accept)]);
    for (accept, want) in [
        ("de", Some("de")),
        ("de, en", Some("en")),
        ("de, en;q=0.9", Some("de")),
        ("EN-gb", Some("en")),
        ("pt", Some("pt-BR")),
        ("fr, *;q=0.1", Some("en")),
        ("fr, *;q=0.1, en;q=0", Some("de")),
        ("fr", None),
        ("", None),
        ("de;q=2, en;q=0.1", Some("en")),
        ("deu", None),
    ] {
        assert_eq!(
            classes::language(made(accept).head(), &rule.languages),
            want,
            "{accept}"
        );
    }
}

fn variant_of(names: &[&str], fields: &[(&str, &str)], profile: CacheProfile) -> Vec<u8> {
    let names: Vec<Box<[u8]>> = names.iter().map(|n| n.as_bytes().into()).collect();
    let rule = CacheRule {
        profile,
        ..CacheRule::default()
    };
    let made = request("GET", "/", fields);
    let mut out = b"left over".to_vec();
    variant(&names, made.head(), &rule, &mut out);
    out
}

/// CA-06, CA-08: whatever a client writes, there are few variants by coding.
#[test]
fn ca_08_encodings_are_few() {
    let of = |accept: &str| {
        variant_of(
            &["accept-encoding"],
            &[("Accept-Encoding", accept)],
            CacheProfile::Safe,
        )
    };
    for (a, b) in [
        (
            "gzip, deflate, br, zstd",
            "zstd;q=1.0,br,deflate;q=0.1,gzip",
        ),
        ("gzip", "x-gzip"),
        ("gzip", "GZIP;q=0.001"),
        ("gzip, br;q=0", "gzip"),
        ("identity", ""),
        ("foo, bar;q=1", "identity"),
        ("\"gzip", "identity"),
        ("gzip;q=2", "identity"),
        ("*", "gzip, br, zstd, deflate, identity"),
        ("*;q=0, gzip", "gzip, identity;q=0"),
        ("gzip;q=0, *", "br, zstd, deflate"),
    ] {
        assert_eq!(of(a), of(b), "{a} | {b}");
    }
    for (a, b) in [
        ("gzip", "br"),
        ("gzip", "gzip, br"),
        ("gzip, identity;q=0", "gzip"),
        ("", "gzip"),
        ("gzip, deflate", "gzip"),
    ] {
        assert_ne!(of(a), of(b), "{a} | {b}");
    }
    // Nothing said is not the same as only what is not coded.
    assert_ne!(
        variant_of(&["accept-encoding"], &[], CacheProfile::Safe),
        of("identity")
    );
}

#[test]
fn other_fields() {
    let foo = |profile, fields: &[(&str, &str)]| variant_of(&["foo"], fields, profile);
    for profile in [CacheProfile::Safe, CacheProfile::Rfc9111] {
        assert_eq!(
            foo(profile, &[("Foo", "1, 2")]),
            foo(profile, &[("Foo", "1"), ("foo", "2")])
        );
        assert_ne!(foo(profile, &[("Foo", "1")]), foo(profile, &[("Foo", "2")]));
        assert_ne!(foo(profile, &[("Foo", "")]), foo(profile, &[]));
        assert_ne!(
            foo(profile, &[("Foo", "a, b")]),
            foo(profile, &[("Foo", "b, a")])
        );
    }
    let wide = foo(CacheProfile::Rfc9111, &[("Foo", "1, 2")]);
    assert_eq!(wide, foo(CacheProfile::Rfc9111, &[("Foo", "1,2")]));
    assert_eq!(wide, foo(CacheProfile::Rfc9111, &[("Foo", " 1 ,\t2 ")]));
    assert_ne!(
        foo(CacheProfile::Rfc9111, &[("Foo", "\"1, 2\"")]),
        foo(CacheProfile::Rfc9111, &[("Foo", "\"1,2\"")])
    );
    assert_ne!(
        foo(CacheProfile::Safe, &[("Foo", "1, 2")]),
        foo(CacheProfile::Safe, &[("Foo", "1,2")])
    );
    assert_ne!(
        variant_of(&["a", "b"], &[("A", "1")], CacheProfile::Safe),
        variant_of(&["a", "b"], &[("B", "1")], CacheProfile::Safe)
    );
    // HTTP/2 may split cookies into lines; they stay as they came.
    assert_ne!(
        variant_of(
            &["cookie"],
            &[("Cookie", "a=1, b=2")],
            CacheProfile::Rfc9111
        ),
        variant_of(&["cookie"], &[("Cookie", "a=1,b=2")], CacheProfile::Rfc9111)
    );
}

#[test]
fn languages() {
    let of = |profile, accept: &str| {
        variant_of(
            &["accept-language"],
            &[("Accept-Language", accept)],
            profile,
        )
    };
    for profile in [CacheProfile::Safe, CacheProfile::Rfc9111] {
        for same in ["eN, De", " en ,   de", "en;q=1,de ; q=1.000", "en,,de"] {
            assert_eq!(of(profile, "en, de"), of(profile, same), "{same}");
        }
        assert_ne!(of(profile, "en, de;q=0.9"), of(profile, "en, de;q=0.8"));
        assert_ne!(of(profile, "en"), of(profile, "en, de"));
    }
    assert_eq!(
        of(CacheProfile::Rfc9111, "en, de"),
        of(CacheProfile::Rfc9111, "de, en")
    );
    assert_ne!(
        of(CacheProfile::Safe, "en, de"),
        of(CacheProfile::Safe, "de, en")
    );
    assert_ne!(
        of(CacheProfile::Rfc9111, "en, de;q=0.5"),
        of(CacheProfile::Rfc9111, "de, en;q=0.5")
    );
}

fn urls() -> impl Strategy<Value = Url> {
    (
        any::<bool>(),
        "[a-b.]{0,3}",
        0u16..3,
        "/[a-b/\u{0}\u{1}]{0,3}",
        proptest::option::of("[a-b&=\u{1}]{0,4}"),
    )
        .prop_map(|(https, host, port, path, query)| Url {
            https,
            host,
            port,
            path,
            query,
        })
}

proptest! {
    /// A key is an injection: equal keys, equal parts.
    #[test]
    fn ca_03_injective(a in urls(), b in urls(), (x, y) in ("[a-b]{0,2}", "[a-b]{0,2}"), (v, w) in ("[a-b]{0,2}", "[a-b]{0,2}")) {
        let plain = CacheKey::default();
        prop_assert_eq!(a == b, key_with(&a, &[], &plain) == key_with(&b, &[], &plain));
        let rule = CacheKey { headers: strings(&["x", "y"]), cookies: strings(&["c"]), ..plain };
        let (one, two) = (format!("c={v}"), format!("c={w}"));
        let left = key_with(&a, &[("X", &x), ("Y", &y), ("Cookie", &one)], &rule);
        let right = key_with(&b, &[("X", &v), ("Y", &w), ("Cookie", &two)], &rule);
        prop_assert_eq!(left == right, a == b && x == v && y == w && v == w);
    }

    /// With sorting, keys are equal when the pairs are the same by name; a naive model keeps a list for each name.
    #[test]
    fn sorted_queries(a in "[ab]=[12](&[ab]=[12]){0,3}", b in "[ab]=[12](&[ab]=[12]){0,3}") {
        let by_name = |q: &str| {
            let mut map = std::collections::BTreeMap::<String, Vec<String>>::new();
            for pair in q.split('&') {
                let (name, value) = pair.split_once('=').unwrap();
                map.entry(name.to_owned()).or_default().push(value.to_owned());
            }
            map
        };
        let rule = CacheKey { sort_query: true, ..CacheKey::default() };
        prop_assert_eq!(by_name(&a) == by_name(&b), key(&format!("/?{a}"), &rule) == key(&format!("/?{b}"), &rule));
    }

    /// Length prefixes, at the places where they grow.
    #[test]
    fn lengths(a in 0usize..40_000, b in 0usize..40_000) {
        let written = |n| { let mut out = Vec::new(); put_number(&mut out, n); out };
        let (x, y) = (written(a), written(b));
        prop_assert_eq!(a == b, x == y);
        prop_assert!(a == b || !x.starts_with(&y));
    }

    #[test]
    fn variants_never_panic(value in "[ -~]{0,30}") {
        for profile in [CacheProfile::Safe, CacheProfile::Rfc9111] {
            let fields = [("Accept-Encoding", &*value), ("Accept-Language", &*value), ("Foo", &*value), ("Cookie", &*value)];
            let _ = variant_of(&["accept-encoding", "accept-language", "cookie", "foo"], &fields, profile);
        }
    }
}

/// No request has the key of a slice, and no two slices have the same: whatever a key ends with.
#[test]
fn slices_have_keys_of_their_own() {
    let rule = CacheKey::default();
    let mut keys = std::collections::BTreeSet::new();
    let wholes: Vec<Vec<u8>> = [
        "/a",
        "/a?x",
        "/a\u{1}",
        "/a?\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}",
    ]
    .iter()
    .map(|target| key(target, &rule))
    .chain([key_with(&url(false, "a.example", 443, "/a"), &[], &rule)])
    .collect();
    let mut count = 0;
    for whole in &wholes {
        assert!(!is_slice(whole));
        assert!(keys.insert(whole.clone()));
        // what a longer key might end with
        for size in [65_536u64, 65_537, 0x0101_0101_0101_0101] {
            for number in [0, 1, 255, 256, 0x0101_0101_0101_0101, NO_SLICES] {
                let mut out = b"left over".to_vec();
                slice(whole, size, number, &mut out);
                assert!(is_slice(&out));
                assert_eq!(origin(&out), origin(whole));
                for other in &wholes {
                    assert_eq!(is_slice_of(&out, other), other == whole);
                }
                assert!(!is_slice_of(whole, whole));
                assert!(keys.insert(out), "{whole:?} {size} {number}");
                count += 1;
            }
        }
    }
    assert_eq!(keys.len(), count + wholes.len());
    let mut tags = std::collections::BTreeSet::new();
    for (whole, length, etag, changed) in [
        (0, Some(5), &b"\"a\""[..], None),
        (1, Some(5), b"\"a\"", None),
        (0, Some(6), b"\"a\"", None),
        (0, Some(5), b"\"b\"", None),
        (0, Some(5), b"", Some(7)),
        (0, Some(5), b"", Some(8)),
        (0, None, b"", None),
    ] {
        assert!(tags.insert(version_tag(&wholes[whole], length, etag, changed)));
    }
    // Beside an entity tag a date says nothing.
    let tagged = |changed| version_tag(b"k", Some(5), b"\"a\"", changed);
    assert_eq!(tagged(None), tagged(Some(7)));
}
