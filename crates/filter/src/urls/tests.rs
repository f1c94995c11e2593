//! What of a response is rewritten, and what is left alone.

use proptest::prelude::*;

use super::*;
use crate::testing::{Message, lines};

const HOSTS: [&str; 6] = [
    "app.internal.corp:8080",
    "app.internal.corp",
    "10.0.0.5:8080",
    "[fd00::5]:8080",
    "[fd00::5]",
    "localhost:8080",
];

fn map<'a>(public_prefix: &'a str, upstream_prefix: &'a str) -> UrlMap<'a> {
    UrlMap {
        server_hosts: &HOSTS,
        public_scheme: "https",
        public_authority: "www.shop.example:8443",
        public_prefix,
        upstream_prefix,
    }
}

fn url(map: &UrlMap<'_>, value: &str) -> String {
    map.url(value.as_bytes())
        .map_or_else(|| value.to_owned(), |v| String::from_utf8(v).unwrap())
}

fn cookie(map: &UrlMap<'_>, value: &str) -> String {
    map.cookie(value.as_bytes())
        .map_or_else(|| value.to_owned(), |v| String::from_utf8(v).unwrap())
}

#[test]
fn every_name_of_the_origin() {
    let map = map("", "");
    for (value, want) in [
        (
            "http://app.internal.corp:8080/x?y=1#z",
            "https://www.shop.example:8443/x?y=1#z",
        ),
        (
            "http://app.internal.corp/x",
            "https://www.shop.example:8443/x",
        ),
        (
            "http://app.internal.corp:80/x",
            "https://www.shop.example:8443/x",
        ),
        (
            "https://app.internal.corp:443/x",
            "https://www.shop.example:8443/x",
        ),
        (
            "HTTP://APP.Internal.Corp.:08080/x",
            "https://www.shop.example:8443/x",
        ),
        ("http://10.0.0.5:8080", "https://www.shop.example:8443"),
        ("http://10.0.0.5:8080?a", "https://www.shop.example:8443?a"),
        ("http://10.0.0.5:8080#a", "https://www.shop.example:8443#a"),
        ("http://[fd00::5]:8080/", "https://www.shop.example:8443/"),
        ("http://[FD00:0::0005]/", "https://www.shop.example:8443/"),
        (
            "http://user:pw@app.internal.corp/x",
            "https://www.shop.example:8443/x",
        ),
        (
            "http:\\\\app.internal.corp\\x",
            "https://www.shop.example:8443\\x",
        ),
        ("ws://localhost:8080/s", "wss://www.shop.example:8443/s"),
        ("wss://localhost:8080/s", "wss://www.shop.example:8443/s"),
        ("//app.internal.corp:8080/x", "//www.shop.example:8443/x"),
        ("//app.internal.corp/x", "//www.shop.example:8443/x"),
        ("//10.0.0.5/x", "//www.shop.example:8443/x"),
    ] {
        assert_eq!(url(&map, value), want, "{value}");
    }
}

#[test]
fn strangers_stay() {
    let map = map("", "");
    for value in [
        "http://other.example/x",
        "https://www.shop.example:8443/x",
        "http://app.internal.corp:9999/x",
        "http://10.0.0.5/x",
        "http://10.0.0.55:8080/x",
        "http://app.internal.corp.evil.example/",
        "http://xapp.internal.corp/",
        "http://app.internal.corp@other.example/",
        "http://other.example/?u=http://app.internal.corp/",
        "http://[fd00::6]:8080/",
        "http://app.internal.corp:80x/",
        "http://",
        "//",
        "ftp://app.internal.corp/x",
        "mailto:a@app.internal.corp",
        "/x",
        "//other.example/x",
        "x/y",
        "../x",
        "?q",
        "#f",
        "",
    ] {
        assert_eq!(url(&map, value), value, "{value}");
    }
}

#[test]
fn the_public_name_with_the_wrong_scheme() {
    let hosts = ["shop.example"];
    let mut map = UrlMap {
        server_hosts: &hosts,
        public_scheme: "https",
        public_authority: "shop.example",
        public_prefix: "",
        upstream_prefix: "",
    };
    assert_eq!(url(&map, "http://shop.example/x"), "https://shop.example/x");
    assert_eq!(
        url(&map, "https://shop.example/x"),
        "https://shop.example/x"
    );
    map.public_scheme = "http";
    assert_eq!(
        url(&map, "https://shop.example/x"),
        "https://shop.example/x",
        "or a redirect to https is a loop"
    );
    map.public_prefix = "/p";
    assert_eq!(
        url(&map, "https://shop.example/x"),
        "https://shop.example/p/x"
    );
}

#[test]
fn prefixes() {
    for (public, upstream, value, want) in [
        ("/api", "", "/x", "/api/x"),
        ("/api", "", "/", "/api/"),
        ("/api", "", "/api/x", "/api/x"),
        ("/api", "", "/apix", "/api/apix"),
        ("/api", "", "//other.example/x", "//other.example/x"),
        (
            "/api",
            "",
            "http://10.0.0.5:8080",
            "https://www.shop.example:8443/api/",
        ),
        (
            "/api",
            "",
            "http://10.0.0.5:8080?q",
            "https://www.shop.example:8443/api/?q",
        ),
        ("", "/v1", "/v1/x?a=/v1/", "/x?a=/v1/"),
        ("", "/v1", "/v1", "/"),
        ("", "/v1", "/v1?a", "/?a"),
        ("", "/v1", "/v10/x", "/v10/x"),
        ("", "/v1", "/other", "/other"),
        ("/api", "/v1", "/v1/x", "/api/x"),
        ("/api", "/v1", "/x", "/x"),
        ("/api/", "/v1/", "/v1/x", "/api/x"),
        (
            "/api",
            "/v1",
            "http://10.0.0.5:8080/v1/x#f",
            "https://www.shop.example:8443/api/x#f",
        ),
        ("/api", "/v1", "x", "x"),
    ] {
        assert_eq!(
            url(&map(public, upstream), value),
            want,
            "{public} {upstream} {value}"
        );
    }
}

#[test]
fn ac10_cutting_never_opens_a_redirect() {
    assert_eq!(url(&map("", "/v1"), "/v1//evil.example"), "/evil.example");
    assert_eq!(url(&map("", "/v1"), "/v1/\\evil.example"), "/evil.example");
    assert_eq!(
        url(&map("", "/v1"), "http://10.0.0.5:8080/v1//x"),
        "https://www.shop.example:8443//x"
    );
    let mut nameless = map("", "");
    nameless.public_authority = "";
    assert_eq!(
        url(&nameless, "http://10.0.0.5:8080//evil.example"),
        "/evil.example"
    );
    assert_eq!(
        url(&nameless, "http://10.0.0.5:8080\\\\evil.example"),
        "/evil.example"
    );
    assert_eq!(url(&nameless, "http://10.0.0.5:8080"), "/");
    assert_eq!(url(&nameless, "http://10.0.0.5:8080?a"), "/?a");
}

#[test]
fn refresh() {
    let map = map("", "");
    let (from, to) = ("http://10.0.0.5:8080/x", "https://www.shop.example:8443/x");
    for around in [
        "5; url=@",
        "5;url=@",
        "0;URL=@",
        "5 ; Url = @",
        "5, url=@",
        "5 @",
        "5;@",
        "5; @",
        "5;url='@'",
        "5; url=\"@\"",
        "5; url=\"@\" tail",
        "5; url='@",
        "2.5; url=@",
        " 5 url=@",
        ";url=@",
        "5;\turl\t=\t@",
    ] {
        let value = around.replace('@', from);
        let got = map
            .refresh(value.as_bytes())
            .map(|v| String::from_utf8(v).unwrap());
        assert_eq!(got, Some(around.replace('@', to)), "{value}");
    }
    for value in [
        "5",
        "",
        "5;",
        "5; url=",
        "5; url=\"",
        "5; url=/x",
        "5; url=http://other.example/",
        "x",
        "5x",
    ] {
        assert_eq!(map.refresh(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn cookie_domains() {
    let map = map("", "");
    for (value, want) in [
        (
            "a=b; Domain=app.internal.corp; Path=/",
            "a=b; Domain=www.shop.example; Path=/",
        ),
        (
            "a=b;domain=.APP.internal.corp",
            "a=b;domain=www.shop.example",
        ),
        (
            "a=b; DOMAIN = \"app.internal.corp\" ;Secure",
            "a=b; DOMAIN =www.shop.example;Secure",
        ),
        (
            "a=b; Domain=app.internal.corp.",
            "a=b; Domain=www.shop.example",
        ),
        ("a=b; Domain=internal.corp; Secure", "a=b; Secure"),
        ("a=b; Domain=.corp", "a=b"),
        ("a=b; Domain=10.0.0.5", "a=b; Domain=www.shop.example"),
        ("a=b; Domain=fd00::5", "a=b; Domain=www.shop.example"),
        (
            "a=b; Domain=localhost; HttpOnly",
            "a=b; Domain=www.shop.example; HttpOnly",
        ),
        (
            "a=b; Domain=internal.corp; domain=localhost",
            "a=b; domain=www.shop.example",
        ),
    ] {
        assert_eq!(cookie(&map, value), want, "{value}");
    }
    for value in [
        "a=b",
        "a=b; Domain",
        "a=b; Domain=",
        "a=b; Domain=.",
        "a=b; Domain=shop.example",
        "a=b; Domain=.shop.example",
        "a=b; Domain=www.shop.example",
        "a=b; Domain=other.example",
        "a=b; Domain=rp",
        "a=b; Domain=0.0.5",
        "Domain=app.internal.corp",
        "a=\"Domain=app.internal.corp\"",
        "a=b; X-Domain=app.internal.corp",
        "",
    ] {
        assert_eq!(cookie(&map, value), value, "{value}");
    }
}

#[test]
fn cookie_domain_for_hosts_that_take_none() {
    for public in ["localhost:8080", "192.0.2.1", "[::1]:80", ""] {
        let mut map = map("", "");
        map.public_authority = public;
        assert_eq!(
            cookie(&map, "a=b; Domain=app.internal.corp; Path=/"),
            "a=b; Path=/",
            "{public}"
        );
    }
}

#[test]
fn cookie_paths() {
    for (public, upstream, path, want) in [
        ("/api", "", "/", "/api"),
        ("/api", "", "/x", "/api/x"),
        ("/api", "", "/x/", "/api/x/"),
        ("/api", "", "/api/x", "/api/x"),
        ("", "/v1", "/v1", "/"),
        ("", "/v1", "/v1/", "/"),
        ("", "/v1", "/v1/x", "/x"),
        ("", "/v1", "/v1//x", "/x"),
        ("", "/v1", "/", "/"),
        ("", "/v1", "/v10", "/v10"),
        ("", "/v1/app", "/v1", "/"),
        ("/api", "/v1", "/v1/x", "/api/x"),
        ("/api", "/v1", "/v1", "/api"),
        ("/api", "/v1", "/", "/api"),
        ("/api", "/v1", "/other", "/other"),
        ("/api", "", "x", "x"),
        ("", "", "/x", "/x"),
    ] {
        let value = format!("a=b; Path={path}; Secure");
        assert_eq!(
            cookie(&map(public, upstream), &value),
            format!("a=b; Path={want}; Secure"),
            "{public} {upstream} {path}"
        );
    }
    assert_eq!(
        cookie(&map("/api", ""), "a=b;PATH= \"/x\""),
        "a=b;PATH=/api/x"
    );
    assert_eq!(
        cookie(&map("/api", ""), "__Host-a=b; Path=/; Secure"),
        "__Host-a=b; Path=/; Secure"
    );
    assert_eq!(
        cookie(&map("/api", ""), "__Secure-a=b; Path=/; Secure"),
        "__Secure-a=b; Path=/api; Secure"
    );
}

#[test]
fn lines_stay_in_order_and_ours_stay_ours() {
    let message = Message::new(&[
        ("location", b"http://10.0.0.5:8080/x"),
        ("Content-Location", b"/other"),
        ("Set-Cookie", b"a=1"),
        ("Set-Cookie", b"b=2; Domain=app.internal.corp"),
        ("Set-Cookie", b"c=3"),
        ("Refresh", b"5; url=http://10.0.0.5:8080/"),
    ]);
    let mut edits = Edits::default();
    edits.add("Set-Cookie", b"sticky=1; Domain=app.internal.corp");
    rewrite_urls(message.head(), &mut edits, &map("", ""));
    assert_eq!(
        lines(&edits),
        [
            "Location: https://www.shop.example:8443/x",
            "Refresh: 5; url=https://www.shop.example:8443/",
            "Set-Cookie: a=1",
            "Set-Cookie: b=2; Domain=www.shop.example",
            "Set-Cookie: c=3",
            "Set-Cookie: sticky=1; Domain=app.internal.corp",
        ]
    );
    assert!(edits.removed().has(FieldId::SetCookie));
    assert!(!edits.removed().has(FieldId::ContentLocation));
}

#[test]
fn nothing_to_do_does_nothing() {
    let message = Message::new(&[
        ("Location", b"/x"),
        ("Set-Cookie", b"a=b"),
        ("X", b"http://10.0.0.5:8080/"),
    ]);
    let mut edits = Edits::default();
    rewrite_urls(message.head(), &mut edits, &map("", ""));
    assert!(edits.is_empty());
    let message = Message::new(&[("Location", b"http://10.0.0.5:8080/")]);
    edits.set("Location", b"http://10.0.0.5:8080/ours");
    rewrite_urls(message.head(), &mut edits, &map("", ""));
    assert_eq!(lines(&edits), ["Location: http://10.0.0.5:8080/ours"]);
}

proptest! {
    #[test]
    fn any_bytes(
        value in proptest::collection::vec(any::<u8>(), 0..60),
        public in prop_oneof![Just(""), Just("/api")],
        upstream in prop_oneof![Just(""), Just("/v1")],
    ) {
        let map = map(public, upstream);
        let _ = (map.url(&value), map.refresh(&value), map.cookie(&value));
    }

    #[test]
    fn no_name_leaks_and_twice_is_once(
        scheme in prop_oneof![Just("http:"), Just("HTTPS:"), Just("ws:"), Just("")],
        slashes in "[/\\\\]{2}",
        host in 0usize..6,
        tail in "([/?#\\\\][a-z/.]{0,8})?",
    ) {
        let map = map("", "");
        // A name without port stands for the scheme's own port; any scheme will do.
        let value = format!("{scheme}{slashes}{}{tail}", HOSTS[host]);
        let once = url(&map, &value);
        prop_assert!(!once.contains(HOSTS[host]), "{} -> {}", value, once);
        prop_assert!(once.contains("www.shop.example:8443"));
        prop_assert_eq!(url(&map, &once), once);
    }

    #[test]
    fn a_path_stays_on_this_site(value in "/(v1|api)?[/\\\\.a-z]{0,12}", public in prop_oneof![Just(""), Just("/api")]) {
        let map = map(public, "/v1");
        if let Some(new) = map.url(value.as_bytes()) {
            prop_assert!(new[0] == b'/' && !matches!(new.get(1), Some(b'/' | b'\\')), "{}", value);
        }
    }

    #[test]
    fn cookies_keep_their_pair(pair in "[a-z]{1,5}=[!-:<-~]{0,10}", attributes in "(; ?(Domain|path|Secure|=|/|app.internal.corp|\"| ){0,4}){0,4}") {
        let map = map("/api", "/v1");
        let value = format!("{pair}{attributes}");
        let got = cookie(&map, &value);
        prop_assert_eq!(got.split(';').next(), Some(pair.as_str()));
        prop_assert_eq!(cookie(&map, &got), got);
    }
}
