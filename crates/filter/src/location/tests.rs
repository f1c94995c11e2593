//! Redirect targets: what they are for honest requests, and that no request leads elsewhere.

use narthex_message::authority;
use proptest::prelude::*;

use super::*;
use crate::testing::{none, template, values};

fn made(source: &str, values: &Values<'_>) -> Option<String> {
    let mut out = Vec::new();
    let some = location(&template(source), values, &mut out);
    assert_eq!(some, !out.is_empty());
    some.then(|| String::from_utf8(out).unwrap())
}

fn with_capture(source: &str, rest: &str) -> Option<String> {
    let captures = |name: &str| (name == "rest").then_some(rest);
    made(source, &values(&captures))
}

fn with_query(source: &str, query: &str) -> Option<String> {
    let mut v = values(&none);
    v.query = Some(query.as_bytes());
    made(source, &v)
}

#[test]
fn honest() {
    let v = values(&none);
    for (source, want) in [
        ("/new", "/new"),
        ("https://{host}{uri}", "https://shop.example/a/b?x=1&y=%2F"),
        ("https://{authority}{path}", "https://shop.example:8443/a/b"),
        (
            "{scheme}://www.{host}{uri}#top",
            "https://www.shop.example/a/b?x=1&y=%2F#top",
        ),
        (
            "https://{host}:9443{uri}",
            "https://shop.example:9443/a/b?x=1&y=%2F",
        ),
        (
            "https://[2001:db8::1]:8443{uri}",
            "https://[2001:db8::1]:8443/a/b?x=1&y=%2F",
        ),
        ("//cdn.example{path}", "//cdn.example/a/b"),
        ("/p?{query}", "/p?x=1&y=%2F"),
        ("/p?a={query.x}&b={query.y}", "/p?a=1&b=/"),
        (
            "https://id.example/login?next={uri}",
            "https://id.example/login?next=/a/b%3Fx%3D1%26y%3D%252F",
        ),
        ("{uri}", "/a/b?x=1&y=%2F"),
        ("/caf\u{e9} x", "/caf%C3%A9%20x"),
        ("https://{site}.example{path}", "https://shop.example/a/b"),
        ("?only=query", "?only=query"),
    ] {
        assert_eq!(made(source, &v).as_deref(), Some(want), "{source}");
    }
    assert_eq!(
        with_capture("/new/{rest}", "x/y%20z").unwrap(),
        "/new/x/y%20z"
    );
    assert_eq!(
        with_capture("/n?id={rest}", "a%26b&c=d").unwrap(),
        "/n?id=a%26b%26c%3Dd"
    );
    assert_eq!(
        with_capture("https://{rest}.example.com/", "eu-1").unwrap(),
        "https://eu-1.example.com/"
    );
    assert_eq!(
        with_capture("https://api-{rest}/", "eu").unwrap(),
        "https://api-eu/"
    );
    assert_eq!(
        with_capture("https://www.{rest}/x", "example.com").unwrap(),
        "https://www.example.com/x"
    );
    assert_eq!(
        with_capture("https://example.com{rest}", "/x").unwrap(),
        "https://example.com/x"
    );
}

#[test]
fn ipv6_hosts_pass() {
    let mut v = values(&none);
    (v.host, v.authority) = ("[2001:db8::1]", "[2001:db8::1]:81");
    assert_eq!(
        made("https://{host}{path}", &v).unwrap(),
        "https://[2001:db8::1]/a/b"
    );
    assert_eq!(
        made("https://{authority}{path}", &v).unwrap(),
        "https://[2001:db8::1]:81/a/b"
    );
}

#[test]
fn ac10_a_path_stays_on_this_site() {
    let mut v = values(&none);
    v.query = None;
    v.path = "//evil.example/x";
    for source in ["{path}", "{uri}", "/{path}"] {
        assert_eq!(made(source, &v).unwrap(), "/evil.example/x", "{source}");
    }
    assert_eq!(
        with_capture("/{rest}", "/evil.example").unwrap(),
        "/evil.example"
    );
    assert_eq!(
        with_capture("//{rest}", "evil.example").unwrap(),
        "/evil.example"
    );
    assert_eq!(
        with_capture("{rest}", "//evil.example").unwrap(),
        "/evil.example"
    );
    assert_eq!(
        with_capture("{rest}", "https://evil.example").unwrap(),
        "/https://evil.example"
    );
    for (query, want) in [
        ("n=//evil.example", "/evil.example"),
        ("n=/%5Cevil.example", "/%5Cevil.example"),
        ("n=%5C%5Cevil.example", "/%5C%5Cevil.example"),
        ("n=https://evil.example", "/https://evil.example"),
        ("n=?x", "/?x"),
        ("n=%23x", "/#x"),
        ("n=x", "/x"),
        ("n=javascript:alert(1)", "/javascript:alert(1)"),
        ("n=%09//evil.example", "/%09//evil.example"),
        ("n=/ok?a=b%26c=d%23e", "/ok?a=b&c=d#e"),
    ] {
        assert_eq!(with_query("{query.n}", query).unwrap(), want, "{query}");
    }
    assert_eq!(
        with_query("/{query.n}", "n=/evil.example").unwrap(),
        "/%2Fevil.example"
    );
}

#[test]
fn ac10_a_host_is_never_lengthened() {
    for (source, rest, want) in [
        (
            "https://example.com{rest}",
            ".evil.example",
            "https://example.com/.evil.example",
        ),
        (
            "https://example.com{rest}",
            "@evil.example",
            "https://example.com/@evil.example",
        ),
        (
            "https://example.com{rest}",
            ":80@evil.example",
            "https://example.com/:80@evil.example",
        ),
        (
            "https://example.com:{rest}/",
            "80@evil.example",
            "https://example.com:80%40evil.example/",
        ),
        (
            "https://{rest}.example.com/",
            "evil.example/x",
            "https://evil.example%2Fx.example.com/",
        ),
        (
            "https://{rest}.example.com/",
            "evil%2F",
            "https://evil%252F.example.com/",
        ),
        (
            "https://api-{rest}/",
            ".evil.example",
            "https://api-/.evil.example/",
        ),
    ] {
        assert_eq!(with_capture(source, rest).unwrap(), want, "{source} {rest}");
    }
    assert_eq!(
        with_query("https://{query.h}.example.com/", "h=evil.example%23").unwrap(),
        "https://evil.example%23.example.com/"
    );
    assert_eq!(
        with_query("https://example.com{query.h}", "h=%5C@evil").unwrap(),
        "https://example.com/%5C@evil"
    );
}

#[test]
fn ac10_no_host_no_location() {
    assert_eq!(with_query("https://{query.h}/{path}", ""), None);
    assert_eq!(with_query("https://{query.h}", ""), None);
    assert_eq!(with_query("https://{query.h}?a", ""), None);
    let mut v = values(&none);
    (v.host, v.path) = ("", "/evil.example/");
    assert_eq!(made("https://{host}{uri}", &v), None);
    assert_eq!(made("https://{host}#f", &v), None);
    assert_eq!(made("", &v), None);
}

#[test]
fn line_breaks_are_encoded() {
    assert_eq!(
        with_query("/{query.n}", "n=a%0d%0aSet-Cookie:%20x").unwrap(),
        "/a%0D%0ASet-Cookie:%20x"
    );
    assert_eq!(with_query("/?{query.n}", "n=%0d%0a").unwrap(), "/?%0D%0A");
    assert_eq!(
        with_query("{query.n}", "n=%0d%0a//evil").unwrap(),
        "/%0D%0A//evil"
    );
    assert_eq!(
        with_query("/#{query.n}", "n=%00\u{e9}").unwrap(),
        "/#%00%C3%A9"
    );
}

#[test]
fn too_long() {
    let long = format!("/{}", "x".repeat(crate::url::MAX_URL));
    let mut v = values(&none);
    v.path = &long;
    assert_eq!(made("{path}", &v), None);
}

fn host_of(location: &str) -> String {
    let rest = location.strip_prefix("https://").unwrap();
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    authority::parse(&rest.as_bytes()[..end])
        .unwrap()
        .host
        .into_owned()
}

proptest! {
    #[test]
    fn ac10_whatever_the_client_sends(
        // What the validator lets through of a path and a query.
        path in "/[!-\"$->@-\\[\\]-~/%]{0,20}",
        query in "n=(//|/%5C|https://|%0d%0a|%09|[!-\"$-~]){0,12}",
        rest in "(/|//|\\.|@|:|%2F|[a-z;=&]){0,10}",
        template_at in 0usize..10,
    ) {
        let local = [
            "{path}", "{uri}", "/{rest}", "{rest}", "{query.n}", "/x{path}", "/x?y={uri}&z={query.n}", "//{rest}", "/{query.n}",
            "{query.n}{rest}",
        ];
        let absolute = [
            "https://example.com{path}", "https://example.com{uri}", "https://example.com{rest}", "https://example.com{query.n}",
            "https://example.com/{query.n}", "https://example.com?{query}", "https://example.com#{rest}",
            "https://example.com/{rest}", "https://example.com/x?y={rest}", "https://example.com?{rest}",
        ];
        let captures = |_: &str| Some(rest.as_str());
        let mut v = values(&captures);
        v.path = &path;
        v.query = Some(query.as_bytes());
        if let Some(got) = made(local[template_at], &v) {
            let bytes = got.as_bytes();
            prop_assert!(bytes[0] == b'/' && !matches!(bytes.get(1), Some(b'/' | b'\\')), "{}", got);
            prop_assert!(bytes.iter().all(|b| matches!(b, 0x21..=0x7E) && !b"\"<>\\^`{|}".contains(b)), "{}", got);
        }
        let got = made(absolute[template_at], &v).unwrap();
        prop_assert_eq!(host_of(&got), "example.com", "{}", got);
        prop_assert!(got.bytes().all(|b| matches!(b, 0x21..=0x7E)), "{}", got);
    }
}
