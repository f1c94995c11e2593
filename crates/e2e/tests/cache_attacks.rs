//! Attacks on the cache, one class after another: what one client says must not reach another, and what one does must not keep
//! the others from being served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::cached::{FRESH, ask, is_hit, rig, status, stored};
use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::origin::{Origin, Step, answer};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::sock::Sock;
use narthex_e2e::kit::stand_in::{self, Asked, Shared, StandIn};
use narthex_e2e::kit::{PATIENCE, eventually};

/// Says back everything that it was told, and that it may be stored.
fn reflect(_: &Shared<()>, asked: &Asked, sock: &mut Sock) -> io::Result<()> {
    let said = format!("{}\n{:?}", asked.target, asked.fields);
    stand_in::answer(sock, 200, FRESH, &said)
}

/// A proxy with this in its configuration and site, before a played origin.
fn before(origin: SocketAddr, more: &str, site: &str) -> Proxy {
    Proxy::start(&Proxy::config(
        "",
        &format!(
            "{more}\nupstream \"u\" {{ server \"{origin}\" }}\nsite \"*\" {{\n{site}\nproxy \"u\"\n}}"
        ),
    ))
}

/// CA-01: nothing of what makes a resource another one is left out of the key.
#[test]
fn scheme_host_and_port_are_in_the_key() {
    let (_origin, at) = StandIn::tcp((), reflect);
    let proxy = before(at, "trusted-proxies \"127.0.0.0/8\"", "cache");
    let mut seen: HashMap<String, String> = HashMap::new();
    for round in 0..2 {
        for host in ["a", "b", "a.a", "a:81", "a:443", "aa"] {
            for scheme in ["http", "https"] {
                let r = proxy.connect().ask(format!(
                    "GET /x HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: {scheme}\r\n\r\n"
                ));
                assert_eq!((r.status, is_hit(&r)), (200, round > 0), "{host} {scheme}");
                let said = seen.entry(format!("{scheme}://{host}")).or_insert(r.text());
                assert_eq!(*said, r.text());
                assert!(said.contains(&format!("\"host\": \"{host}\"")), "{said}");
            }
        }
    }
}

/// Fields that frameworks take the target, the host or the scheme from, and that an attacker tries one by one.
const UNKEYED: &str = "
    Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-Proto X-Forwarded-Scheme
    X-Forwarded-Server X-Forwarded-Ssl X-Forwarded-Uri X-Original-URL X-Rewrite-URL X-Real-IP X-Request-Id
    Front-End-Https X-Amz-Website-Redirect-Location X-Base-Url X-Client-Host    
    X-Custom-IP-Authorization X-Forward-For X-Forward-Host X-Forward-Proto X-Forwarded X-Forwarded-Base-Url X-Forwarded-By
    X-Forwarded-Context X-Forwarded-Method X-Forwarded-Path X-Forwarded-Protocol X-Forwarded-Request-Uri X-Forwarded-Root
    X-Forwarded-Url X-Forwarder-For X-Frontend-Scheme X-Host X-Host-Override X-HTTP-DestinationURL X-HTTP-Host-Override
    X-HTTP-Method X-HTTP-Method-Override X-HTTP-Path-Override X-Method-Override X-Middleware-Prefetch X-Middleware-Rewrite
    X-Middleware-Subrequest X-Original-Host X-Original-Method X-Original-Path X-Original-Uri X-Originating-IP X-Override-URL
    X-Proto X-Proxy-Url X-ProxyUser-Ip X-Remote-Addr X-Remote-IP X-Request-Uri X-Requested-Path X-Rewrite-Path
    X-Rewrite-Uri X-Scheme X-Server-Name X-Site-Url X-True-IP X-Url X-Url-Scheme X-WP-Nonce  
          X-Backend-Host X-Backend X-Cache-Key X-Cdn-Host X-Config X-Context-Path
    X-Debug X-Debug-Token X-Destination X-Dev X-DNS-Host X-Domain X-Edge-Location X-Endpoint X-Env X-Gateway-Host
    X-Hostname X-Ingress-Host X-Internal X-Location X-Origin-Host X-Original-Scheme X-Path X-Prefix X-Proxy-Host
    X-Redirect X-Root X-Route X-Script-Name X-Template X-Theme X-Upstream X-Upstream-Host X-Web-Host
    Base-Url Http-Host Request-Uri Uri Url Proxy-Host Proxy-Url Redirect Referer-Host Destination
    X_Forwarded_Host X-Forwarded_Host X.Forwarded.Host";

/// CA-02: what one client puts into any of a hundred fields is in nobody else's answer.
#[test]
fn no_field_poisons_the_answer_of_others() {
    let (_origin, at) = StandIn::tcp((), reflect);
    let proxy = before(at, "", "cache");
    let mut poisoned = Vec::new();
    for (n, name) in UNKEYED.split_whitespace().enumerate() {
        let canary = format!("canary{n}");
        let _ = proxy.connect().ask(format!(
            "GET /{n} HTTP/1.1\r\nHost: a\r\n{name}: {canary}\r\n\r\n"
        ));
        let r = proxy
            .connect()
            .ask(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(r.status, 200);
        if r.text().contains(&canary) {
            poisoned.push(name);
        }
        let r = proxy
            .connect()
            .ask(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(is_hit(&r), "{name} keeps others from the cache");
    }
    assert!(poisoned.is_empty(), "{poisoned:?}");
}

/// As above, where the rule has put the field into the key: then it is cached, apart.
#[test]
fn a_field_in_the_key_is_cached() {
    let (_origin, at) = StandIn::tcp((), reflect);
    let proxy = before(at, "", "cache { key { header \"X-Host\" } }");
    for round in 0..2 {
        for host in ["one", "two"] {
            let r = proxy.connect().ask(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nx-HOST: {host}\r\n\r\n"
            ));
            assert!(r.text().contains(&format!("\"x-host\": \"{host}\"")));
            assert_eq!(is_hit(&r), round > 0);
        }
    }
}

/// Targets that are easily taken for one another.
const ALIKE: &[&str] = &[
    "/a/b",
    "/A/b",
    "/a/B",
    "/a//b",
    "//a/b",
    "/a/b/",
    "/a/b//",
    "/a/./b",
    "/a/b/.",
    "/a/b/..",
    "/a/../a/b",
    "/a/%2e%2e/a/b",
    "/a/b/%2e",
    "/a%2fb",
    "/a%2Fb",
    "/a%252fb",
    "/a/%62",
    "/%61/b",
    "/a/b%20",
    "/a/b+",
    "/a/b%2b",
    "/a/b%23",
    "/a/b%23x",
    "/a/b%3f",
    "/a/b%3fx=1",
    "/a/b%3Fx=1",
    "/a/b%25",
    "/a/b;",
    "/a/b;x",
    "/a;x/b",
    "/a/b;x=1",
    "/a/b?",
    "/a/b??",
    "/a/b?x",
    "/a/b?x=",
    "/a/b?x=1",
    "/a/b?X=1",
    "/a/b?x=%31",
    "/a/b?%78=1",
    "/a/b?x=1&",
    "/a/b?&x=1",
    "/a/b?x=1&y=2",
    "/a/b?y=2&x=1",
    "/a/b?x=1;y=2",
    "/a/b?x=1&x=2",
    "/a/b?x=2&x=1",
    "/a/b?x=1&utm_source=1",
    "/a/b?utm_source=1",
    "/a/b?x=1%26y=2",
    "/a/b?x=a+b",
    "/a/b?x=a%20b",
    "/a/b/?x=1",
    "/a/b?x=1?",
    "/a/b?/x=1",
    "/a/b,x",
    "/a/b:80",
    "/a/b@x",
    "/a/b.",
    "/a/b%2e",
    "/a/b~",
    "/a/b%7e",
    "/a/b.css",
    "/a/b/x.css",
    "/a/b%0ax.css",
    "/a/b%00",
    "/a/b%09",
    "/a/b%5c",
    "/a/b!",
    "/a/b%21",
    "/a/b$",
    "/a/b'",
    "/a/b(",
];

/// CA-03: no two targets that the origin sees as different are one to the cache.
#[test]
fn no_two_targets_collide() {
    let (_origin, at) = StandIn::tcp((), reflect);
    let (cached, plain) = (before(at, "", "cache"), before(at, "", ""));
    let target = |proxy: &Proxy, target: &str, host: &str| {
        let r = proxy
            .connect()
            .ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let text = r.text();
        let seen = text.lines().next().unwrap_or_default().to_owned();
        let at = text.find("\"host\": ").unwrap_or(0);
        let host = text[at..].split(',').next().unwrap_or_default().to_owned();
        (
            r.status,
            if r.status == 200 {
                (seen, host)
            } else {
                Default::default()
            },
        )
    };
    let hosts = ["a", "A", "a:80", "a:81", "a:8080", "b", "a:0080"];
    for round in 0..2 {
        for alike in ALIKE {
            assert_eq!(
                target(&cached, alike, "a"),
                target(&plain, alike, "a"),
                "{alike} {round}"
            );
        }
        for host in hosts {
            assert_eq!(
                target(&cached, "/h", host),
                target(&plain, "/h", host),
                "{host} {round}"
            );
        }
    }
    assert!(ALIKE.len() > 60);
}

/// CA-04: a page of one user under a name that looks public is not kept for another.
#[test]
fn a_page_under_another_name_is_not_kept() {
    fn account(_: &Shared<()>, asked: &Asked, sock: &mut Sock) -> io::Result<()> {
        let secret = if asked.fields.contains_key("cookie") {
            "secret"
        } else {
            "log in"
        };
        let said = [
            "",
            "Cache-Control: private, max-age=100\r\n",
            "Cache-Control: no-store\r\n",
            "Cache-Control: max-age=100\r\nSet-Cookie: s=2\r\n",
        ];
        let kind = asked.target.bytes().next_back().unwrap_or(b'0') - b'0';
        stand_in::answer(sock, 200, said[usize::from(kind)], secret)
    }
    let (_origin, at) = StandIn::tcp((), account);
    // Where the operator gives answers that say nothing a lifetime, silence is leave.
    for (rule, kinds) in [("cache", 0..4), ("cache ttl=\"100s\"", 1..4)] {
        let proxy = before(at, "", rule);
        for kind in kinds {
            for delimiter in [
                "/", ";", "%0a", "%00", "%23", "%3f", "?", "%2f", "/..%2f", ",", "!", "~", "%09",
                "%5c", "//",
            ] {
                for name in ["x.css", "x.js", "favicon.ico", "x.jpg"] {
                    let target = format!("/account{delimiter}{name}?{kind}");
                    let mine = proxy.connect().ask(format!(
                        "GET {target} HTTP/1.1\r\nHost: a\r\nCookie: session=1\r\n\r\n"
                    ));
                    let theirs = proxy
                        .connect()
                        .ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    assert!(
                        !is_hit(&theirs) && !theirs.text().contains("secret"),
                        "{rule} {target}"
                    );
                    assert!(mine.status == 400 || mine.text() == "secret", "{target}");
                }
            }
        }
    }
}

/// CA-05: the answer to somebody who has proved who they are is theirs, unless it says otherwise; and nobody gets another's cookie.
#[test]
fn authorised_answers_and_cookies_are_not_shared() {
    let rig = rig("cache ttl-override=\"100s\"");
    let auth = "Authorization: Bearer mine\r\n";
    for (n, (fields, shared)) in [
        ("", false),
        (FRESH, false),
        ("Cache-Control: public\r\n", true),
        ("Cache-Control: s-maxage=100\r\n", true),
        ("Cache-Control: must-revalidate, max-age=100\r\n", true),
        ("Cache-Control: public, private\r\n", false),
        ("Cache-Control: public, no-store\r\n", false),
        (
            "Cache-Control: public, max-age=100\r\nSet-Cookie: a=b\r\n",
            false,
        ),
        (
            "Cache-Control: public, max-age=100\r\nset-cookie2: a=b\r\n",
            false,
        ),
        ("Cache-Control: public, max-age=100\r\nVary: *\r\n", false),
        ("Cache-Control: s-maxage=0\r\n", false),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        rig.origin.on(&path, answer(stored(fields, "mine")));
        assert_eq!(ask(&rig, &path, auth).text(), "mine");
        rig.origin.on(&path, answer(stored(fields, "theirs")));
        let r = ask(&rig, &path, "");
        assert_eq!(
            (is_hit(&r), r.text() == "mine"),
            (shared, shared),
            "{fields}"
        );
    }
}

/// One who sends a wrong `Authorization`, or wants nothing stored, does not keep the others from the cache: what is stored stays, and
/// those who wait find each other again.
#[test]
fn one_client_cannot_keep_the_others_from_the_cache() {
    for mean in ["Authorization: x\r\n", "Cache-Control: no-store\r\n"] {
        let rig = rig("cache");
        rig.origin.on("/kept", answer(stored(FRESH, "kept")));
        ask(&rig, "/kept", "");
        for more in [
            "Cache-Control: no-cache\r\n",
            "Cache-Control: max-age=0\r\n",
        ] {
            ask(&rig, "/kept", &format!("{mean}{more}"));
            assert!(is_hit(&ask(&rig, "/kept", "")), "{mean}{more}");
        }
        rig.origin.take(3);
        rig.origin.on(
            "/cold",
            [
                Step::ReadBody,
                Step::Gate("go".into()),
                Step::Send(stored(FRESH, "cold")),
            ],
        );
        let mut attacker = rig.connect();
        attacker.send(get("/cold", mean));
        assert!(
            rig.origin
                .wait_for(PATIENCE, |seen| seen.iter().any(|s| s.path() == "/cold"))
        );
        let mut clients: Vec<Client> = (0..30).map(|_| rig.connect()).collect();
        for client in &mut clients {
            client.send(get("/cold", ""));
        }
        rig.alive();
        rig.origin.open("go");
        for client in &mut clients {
            assert_eq!(client.read_response("GET").unwrap().text(), "cold");
        }
        let asked = rig
            .origin
            .take(2)
            .iter()
            .filter(|s| s.path() == "/cold")
            .count();
        assert!(asked <= 3, "{asked} requests for one object: {mean}");
        assert!(is_hit(&ask(&rig, "/cold", "")));
    }
}

/// CA-06: an answer that one client's request has broken is not stored, whatever it says of itself.
#[test]
fn a_broken_answer_is_not_kept() {
    fn moody(_: &Shared<()>, asked: &Asked, sock: &mut Sock) -> io::Result<()> {
        let said = asked.fields.get("x-bad").and_then(|s| s.parse().ok());
        let odd = |name: &str, usual: &str| asked.fields.get(name).is_some_and(|v| v != usual);
        let status = match said {
            Some(status) => status,
            None if odd("x-http-method-override", "GET") || odd("x-method-override", "GET") => 404,
            None if asked.fields.values().any(|v| v.len() > 8_000) => 400,
            None if odd("upgrade", "websocket") || odd("te", "trailers") => 501,
            None if asked.fields.contains_key("range") => 416,
            None if asked.fields.contains_key("expect") => 417,
            None => 200,
        };
        stand_in::answer(
            sock,
            status,
            "Cache-Control: public, max-age=100, s-maxage=100\r\n",
            "x",
        )
    }
    let (_origin, at) = StandIn::tcp((), moody);
    let proxy = before(at, "", "cache");
    let mut attacks: Vec<String> = [
        400, 401, 403, 404, 405, 406, 407, 408, 410, 411, 412, 413, 414, 415, 416, 417, 421, 425,
        426, 428, 429, 431, 500, 501, 502, 503, 504, 505,
    ]
    .iter()
    .map(|status| format!("X-Bad: {status}\r\n"))
    .collect();
    attacks.push(format!("X-Large: {}\r\n", "x".repeat(20_000)));
    attacks.extend(
        (0..20)
            .map(|n| format!("X-Much-{n}: {}\r\n", "y".repeat(1_000)))
            .collect::<Vec<_>>(),
    );
    attacks.extend(
        [
            "X-Meta: a\u{7}b\r\n",
            "X-Meta: a\u{0}b\r\n",
            "X-Meta\u{1}: a\r\n",
            "X-HTTP-Method-Override: DELETE\r\n",
            "X-HTTP-Method-Override: HEAD\r\n",
            "X-Method-Override: POST\r\n",
            "Range: bytes=99999-\r\n",
            "Range: cow\r\n",
            "Range: bytes=0-0\r\n",
            "Accept-Encoding: \r\n",
            "Accept-Encoding: ,,,;q=x, */;q=9\r\n",
            "Accept-Encoding: gzip;q=0, identity;q=0, *;q=0\r\n",
            "Upgrade: h2c\r\nConnection: upgrade\r\n",
            "Upgrade: x\r\n",
            "TE: gzip\r\nConnection: TE\r\n",
            "Expect: 100-continue\r\n",
            "Expect: cow\r\n",
            "If-Match: \"x\"\r\n",
            "If-Unmodified-Since: Wed, 01 Jan 1975 00:00:00 GMT\r\n",
            "If-Range: \"x\"\r\nRange: bytes=0-0\r\n",
            "Content-Length: 0\r\n",
            "Connection: Cache-Control, Host\r\n",
        ]
        .map(str::to_owned),
    );
    for (n, attack) in attacks.iter().enumerate() {
        let mut attacker = proxy.connect();
        attacker.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n{attack}\r\n"));
        let _ = attacker.read_response("GET");
        for hit in [false, true] {
            let r = proxy
                .connect()
                .ask(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(r.status, 200, "after {attack:?}");
            assert!(is_hit(&r) || !hit, "after {attack:?}: {}", status(&r));
        }
    }
}

/// CA-07: a body makes a GET one of its own, however it is framed.
#[test]
fn a_body_is_neither_stored_nor_served() {
    let rig = rig("cache");
    for (n, (fields, body)) in [
        ("Content-Length: 1\r\n", "x"),
        ("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        rig.origin.on(&path, answer(stored(FRESH, "fat")));
        let fat = |rig: &Rig| rig.connect().ask(request("GET", &path, fields, body));
        assert_eq!(fat(&rig).text(), "fat");
        rig.origin.on(&path, answer(stored(FRESH, "thin")));
        assert_eq!(ask(&rig, &path, "").text(), "thin");
        rig.origin.on(&path, answer(stored(FRESH, "fat")));
        let r = fat(&rig);
        assert!(!is_hit(&r) && r.text() == "fat", "{fields}");
        assert_eq!(ask(&rig, &path, "").text(), "thin");
    }
}

/// CA-08: ten thousand variants of one answer are no more than are allowed, and no memory; those that people ask for stay.
#[test]
fn variants_are_bounded() {
    const VARIANTS: usize = 10_000;
    let rig = rig("cache");
    let body = "v".repeat(16 * 1024);
    rig.origin.otherwise(answer(stored(
        &format!("{FRESH}Vary: X-Kind, Accept-Encoding\r\n"),
        &body,
    )));
    let mut client = rig.connect();
    client.ask(get("/v", "X-Kind: real\r\n"));
    let before = rig.proxy.rss_kib();
    for n in 0..VARIANTS {
        let r = client.ask(get("/v", &format!("X-Kind: {n}\r\n")));
        assert_eq!(r.status, 200);
        if n % 20 == 0 {
            assert!(is_hit(&ask(&rig, "/v", "X-Kind: real\r\n")), "{n}");
        }
        if r.says_close() {
            client = rig.connect();
        }
    }
    let grown = rig.proxy.rss_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    assert!(is_hit(&ask(&rig, "/v", "X-Kind: real\r\n")));
    assert!(!is_hit(&ask(&rig, "/v", "X-Kind: 0\r\n")));
    // What means the same is one variant.
    for junk in ["gzip", "gzip, cow", "GZIP;q=0.5", "cow;q=0,gzip", "gzip,,"] {
        let r = ask(
            &rig,
            "/v",
            &format!("X-Kind: 0\r\nAccept-Encoding: {junk}\r\n"),
        );
        assert!(status(&r).contains("vary-miss") || is_hit(&r), "{junk}");
    }
}

/// CA-09: ranges that are many, wrong, or larger than a number.
#[test]
fn hostile_ranges() {
    let rig = rig("cache");
    rig.origin.on("/r", answer(stored(FRESH, "0123456789")));
    ask(&rig, "/r", "");
    let many = |n: usize, spec: fn(usize) -> String| (0..n).map(spec).collect::<Vec<_>>().join(",");
    for (ranges, status, length) in [
        (many(1_000, |_| "0-".into()), 206, 10),
        (many(1_000, |n| format!("{n}-{n}")), 206, 10),
        (many(5, |n| format!("{}-{}", n * 2, n * 2)), 206, 0),
        ("9-1".into(), 200, 10),
        ("-9223372036854775808".into(), 206, 10),
        ("-18446744073709551616".into(), 206, 10),
        ("0-18446744073709551615".into(), 206, 10),
        ("18446744073709551615-18446744073709551615".into(), 416, 0),
        ("9223372036854775807-".into(), 416, 0),
        ("-0".into(), 416, 0),
        ("-".into(), 200, 10),
        ("0-0,x".into(), 200, 10),
        ("+1-2".into(), 200, 10),
        ("0x1-2".into(), 200, 10),
        ("10-10".into(), 416, 0),
        ("9-99999999999999999999999999".into(), 206, 1),
    ] {
        let r = ask(&rig, "/r", &format!("Range: bytes={ranges}\r\n"));
        assert_eq!(r.status, status, "{ranges:.60}");
        assert!(
            length == 0 || r.body_len == length,
            "{ranges:.60}: {}",
            r.body_len
        );
        assert!(r.body_len < 2_000, "{ranges:.60}");
    }
    // Two lines are no range, and what came of one is not the whole.
    let r = ask(&rig, "/r", "Range: bytes=0-0\r\nRange: bytes=1-1\r\n");
    assert!(r.status == 200 && r.body_len == 10 || r.status == 400);
    rig.origin.on("/part", answer("HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=100\r\nContent-Range: bytes 0-0/10\r\nContent-Length: 1\r\n\r\n0"));
    ask(&rig, "/part", "Range: bytes=0-0\r\n");
    rig.origin.on("/part", answer(stored(FRESH, "0123456789")));
    let r = ask(&rig, "/part", "");
    assert_eq!((r.status, r.body_len), (200, 10));
    // The boundary is another one in every process.
    let kind = |rig: &Rig| {
        ask(rig, "/r", "Range: bytes=0-0,5-5\r\n")
            .fields
            .get("content-type")
            .unwrap()
    };
    let other = narthex_e2e::kit::cached::rig("cache");
    other.origin.on("/r", answer(stored(FRESH, "0123456789")));
    assert_ne!(kind(&rig), kind(&other));
    assert_eq!(kind(&rig), kind(&rig));
}

/// CA-10: what did not come whole is not kept, and what was there before is.
#[test]
fn what_is_cut_is_not_kept() {
    let rig = rig("cache");
    let head = |framing: &str| format!("HTTP/1.1 200 OK\r\n{framing}\r\n{FRESH}\r\n").into_bytes();
    for (n, (framing, body, end)) in [
        ("Content-Length: 100", &b"half"[..], Step::Close),
        ("Content-Length: 100", b"half", Step::Reset),
        ("Content-Length: 100", b"", Step::Close),
        ("Transfer-Encoding: chunked", b"4\r\nhalf\r\n", Step::Close),
        (
            "Transfer-Encoding: chunked",
            b"4\r\nhalf\r\n0\r\n",
            Step::Close,
        ),
        (
            "Transfer-Encoding: chunked",
            b"4\r\nhalf\r\nzz\r\n",
            Step::Close,
        ),
        (
            "Transfer-Encoding: chunked",
            b"4\r\nhalf\r\nFFFFFFFFFFFFFFFFF\r\n",
            Step::Close,
        ),
        (
            "Transfer-Encoding: chunked",
            b"4\r\nhalf\r\n0\r\nBad Trailer\r\n\r\n",
            Step::Close,
        ),
        ("Transfer-Encoding: chunked", b"ff\r\nhalf", Step::Reset),
        ("Connection: close", b"half", Step::Reset),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        let script = [
            Step::ReadBody,
            Step::Send(head(framing)),
            Step::Send(body.to_vec()),
            end,
        ];
        rig.origin.on(&path, script.to_vec());
        let mut client = rig.connect();
        client.send(get(&path, ""));
        assert!(
            !client.read_response("GET").is_ok_and(|r| r.status == 200),
            "{framing} {n}"
        );
        rig.origin.on(&path, answer(stored(FRESH, "whole")));
        let r = ask(&rig, &path, "");
        assert!(!is_hit(&r) && r.text() == "whole", "{framing} {n}");
        // A reload that is cut leaves what was there.
        rig.origin.on(&path, script.to_vec());
        let mut client = rig.connect();
        client.send(get(&path, "Cache-Control: no-cache\r\n"));
        let _ = client.read_response("GET");
        let r = ask(&rig, &path, "");
        assert!(
            is_hit(&r) && r.text() == "whole",
            "{framing} {n}: {}",
            status(&r)
        );
    }
}

/// CA-11: however many come at once, the origin is asked once; and what may not be stored, or is answered by a page of ours, is not
/// fetched by one after another.
#[test]
fn a_crowd_is_one_request_and_never_a_queue() {
    // Each has a socket here and one in the proxy.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let clients = if most.is_none_or(|most| most > 11_000) {
        10_000
    } else {
        2_000
    };
    let origin = Origin::start();
    let text = Rig::text(&origin, "", "", "cache lock-wait=\"120s\"\nproxy \"u\"");
    let most = "connections max=30000 per-client=0";
    let proxy = Proxy::start(&format!("{text}\n{most}\n"));
    let rig = Rig { proxy, origin };

    rig.origin.on(
        "/cold",
        [
            Step::ReadBody,
            Step::Gate("go".into()),
            Step::Send(stored(FRESH, "cold")),
        ],
    );
    let mut crowd: Vec<Client> = (0..clients).map(|_| rig.connect()).collect();
    for client in &mut crowd {
        assert!(client.send(get("/cold", "")));
    }
    assert!(rig.origin.wait_heads(1));
    rig.origin.open("go");
    for client in &mut crowd {
        assert_eq!(client.read_response("GET").unwrap().text(), "cold");
    }
    assert_eq!(rig.origin.take(1).len(), 1);
}

#[test]
fn what_a_page_of_ours_answers_is_no_queue() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("page.html"), "ours").unwrap();
    let page = dir.path().join("page.html").display().to_string();
    let rig = rig(&format!(
        "cache\nerror-page 404 file=\"{page}\" intercept=#true"
    ));
    let pause = Duration::from_millis(300);
    rig.origin.on(
        "/none",
        [
            Step::ReadBody,
            Step::Pause(pause),
            Step::Send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ],
    );
    let begun = Instant::now();
    let mut crowd: Vec<Client> = (0..40).map(|_| rig.connect()).collect();
    for client in &mut crowd {
        client.send(get("/none", ""));
    }
    for client in &mut crowd {
        let r = client.read_response("GET").unwrap();
        assert_eq!((r.status, r.text().as_str()), (404, "ours"));
    }
    assert!(begun.elapsed() < pause * 3, "{:?}", begun.elapsed());
}

/// CA-12: a HEAD that finds a stale object, or none, neither shrinks it nor keeps it from others.
#[test]
fn head_get_and_304_do_not_mix() {
    let rig = rig("cache");
    let fields = "Cache-Control: max-age=0\r\nETag: \"1\"\r\n";
    rig.origin.on("/s", answer(stored(fields, "body")));
    ask(&rig, "/s", "");
    rig.origin.take(1);
    // A HEAD that finds it stale is asked as one: it tells of the object, and is none.
    rig.origin.next(answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: \"2\"\r\n{FRESH}\r\n"
    )));
    let head = rig.connect().ask(request("HEAD", "/s", "", ""));
    assert_eq!((head.status, head.body_len), (200, 0));
    assert_eq!(rig.origin.take(1)[0].method, "HEAD");
    rig.origin.on("/s", answer(stored(FRESH, "anew")));
    assert!(eventually(PATIENCE, || is_hit(&ask(&rig, "/s", ""))));
    assert_eq!(ask(&rig, "/s", "").text(), "anew");
    // A 304 that nobody asked for has nothing to be stored from.
    rig.origin.next(answer(
        "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=100\r\nETag: \"x\"\r\n\r\n",
    ));
    let mut client = rig.connect();
    client.send(get("/304", ""));
    let _ = client.read_response("GET");
    rig.origin.on("/304", answer(stored(FRESH, "whole")));
    assert_eq!(ask(&rig, "/304", "").text(), "whole");
    // Nor has the answer to a HEAD.
    rig.origin.on(
        "/h",
        answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{FRESH}\r\n"
        )),
    );
    assert_eq!(rig.connect().ask(request("HEAD", "/h", "", "")).status, 200);
    rig.origin.on("/h", answer(stored(FRESH, "whole")));
    assert_eq!(ask(&rig, "/h", "").text(), "whole");
    // 204 is stored, and has no length.
    rig.origin.on(
        "/204",
        answer(format!("HTTP/1.1 204 No Content\r\n{FRESH}\r\n")),
    );
    for hit in [false, true] {
        let mut client = rig.connect();
        let r = client.ask(get("/204", ""));
        assert_eq!(
            (r.status, is_hit(&r), r.fields.has("content-length")),
            (204, hit, false)
        );
        assert!(!r.fields.has("transfer-encoding"));
        assert_eq!(client.ask(get("/alive", "")).status, 200);
    }
}

/// CA-13: who is not allowed to purge does not.
#[test]
fn a_client_cannot_purge() {
    let rig = rig("cache");
    rig.origin.on("/p", answer(stored(FRESH, "p")));
    ask(&rig, "/p", "");
    rig.origin
        .on("/p", answer("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"));
    for method in [
        "PURGE",
        "BAN",
        "REFRESH",
        "purge",
        "FASTLYPURGE",
        "PURGEALL",
    ] {
        let r = rig
            .connect()
            .ask(request(method, "/p", "X-Purge-Method: regex\r\n", ""));
        assert!(matches!(r.status, 405 | 501), "{method} {}", r.status);
        assert!(is_hit(&ask(&rig, "/p", "")), "{method}");
    }
}

/// CA-15: keys as long as a head may be, and such that end at every length.
#[test]
fn long_keys() {
    let rig = rig("cache");
    rig.origin.otherwise(answer(stored(FRESH, "long")));
    let mut client = rig.connect();
    for length in [1, 126, 127, 128, 129, 255, 256, 4_000, 6_000] {
        for target in [
            format!("/{}", "a".repeat(length)),
            format!("/?{}", "a".repeat(length)),
            format!("/?{length}{}", "a&".repeat(length / 2)),
        ] {
            assert!(!is_hit(&client.ask(get(&target, ""))), "{length}");
            assert!(is_hit(&client.ask(get(&target, ""))), "{length}");
        }
    }
}

/// CA-16: what an origin sends beyond its answer is stored for nobody, and a doubtful length is not kept.
#[test]
fn a_smuggled_answer_is_not_kept() {
    let rig = rig("cache");
    let evil = String::from_utf8(stored(FRESH, "evil")).unwrap();
    for (n, first) in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{FRESH}\r\ngood{evil}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n4\r\ngood\r\n0\r\n\r\n{evil}"),
        format!("HTTP/1.1 204 No Content\r\n{FRESH}\r\n{evil}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n4\r\ngood\r\n0\r\n\r\n{evil}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 9\r\n{FRESH}\r\ngood{evil}"),
        format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n{FRESH}\r\ngood{evil}"),
    ]
    .into_iter()
    .enumerate()
    {
        rig.origin.on(&format!("/first{n}"), answer(first));
        rig.origin.on(&format!("/second{n}"), answer(stored(FRESH, "second")));
        let mut client = rig.connect();
        client.send(get(&format!("/first{n}"), ""));
        let _ = client.read_response("GET");
        for _ in 0..2 {
            for path in ["/first", "/second"] {
                let mut client = rig.connect();
                client.send(get(&format!("{path}{n}"), ""));
                if let Ok(r) = client.read_response("GET") {
                    assert_ne!(r.text(), "evil", "{path}{n}");
                }
            }
            assert_eq!(ask(&rig, &format!("/second{n}"), "").text(), "second");
        }
    }
    // Both lengths: sent on perhaps, kept not.
    rig.origin.on("/both", answer(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n4\r\ngood\r\n0\r\n\r\n")));
    for _ in 0..2 {
        let r = ask(&rig, "/both", "");
        assert!(!is_hit(&r), "{}", status(&r));
    }
}

/// CA-17: where a rule puts a user's cookie into the key, one does not learn from the time what another has asked for.
#[test]
fn a_partition_is_private() {
    let rig = rig("cache { key { cookie \"user\" } }");
    rig.origin.on("/t", answer(stored(FRESH, "t")));
    for user in ["one", "two", "one; user=two"] {
        let cookie = format!("Cookie: user={user}\r\n");
        assert!(!is_hit(&ask(&rig, "/t", &cookie)), "{user}");
        assert!(is_hit(&ask(&rig, "/t", &cookie)), "{user}");
    }
    assert!(!is_hit(&ask(&rig, "/t", "")));
}

/// An answer that varies by what filters or the proxy itself say of each client is not another client's, though no client sends
/// such a field (RFC 9440 2.4 for `Client-Cert`).
#[test]
fn what_the_proxy_says_of_clients_tells_answers_apart() {
    let rig = rig("cache\nheader request { set \"X-Who\" \"{request.header.X-In}\" }");
    for (path, vary) in [
        ("/who", "X-Who"),
        ("/cert", "Client-Cert"),
        ("/ip", "X-Real-IP"),
    ] {
        rig.origin.on(
            path,
            answer(stored(&format!("{FRESH}Vary: {vary}\r\n"), "x")),
        );
    }
    for client in ["a", "b"] {
        let fields = format!("X-In: {client}\r\n");
        assert!(!is_hit(&ask(&rig, "/who", &fields)), "{client}");
        assert!(is_hit(&ask(&rig, "/who", &fields)), "{client}");
        for path in ["/cert", "/ip"] {
            assert!(!is_hit(&ask(&rig, path, &fields)), "{path}, {client}");
        }
    }
}
