//! The exchange: expectations, upgrades, pipelining, early answers, and who may use a connection next (H1-24 to H1-40).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "request bytes are written to be read"
)]

use std::time::Duration;

use narthex_e2e::kit::attack::{End, Why};
use narthex_e2e::kit::craft::{EVIL, bare, cases, get, post, request, sized};
use narthex_e2e::kit::origin::{Ended, Origin, Script, Step, answer, echo};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::table::{Table, exchange, fresh_id};

narthex_e2e::with_1_2_and_8_workers! {
    h1_34_pool_poisoning,
}

fn send(s: &str) -> Step {
    Step::Send(s.as_bytes().to_vec())
}

/// CVE-2024-56202 (ATS).
#[test]
fn h1_24_expect_100_continue() {
    let rig = Rig::plain();
    // A client that waits for 100 gets it, then its body is taken.
    for spelled in ["100-continue", "100-Continue", "100-CONTINUE"] {
        let mut c = rig.connect();
        c.send(post(
            &format!("Expect: {spelled}\r\nContent-Length: 3\r\n"),
            "",
        ));
        let (_, status, _) = c.read_head().unwrap();
        assert_eq!(status, 100, "{spelled}");
        c.send("abc");
        c.send(get("/next", ""));
        assert_eq!(c.read_response("POST").unwrap().status, 200);
        assert_eq!(c.read_response("GET").unwrap().status, 200);
        let seen = rig.origin.take(2);
        assert_eq!(seen[0].body, b"abc");
        assert_eq!(seen[1].target, "/next");
    }
    // A client that doesn't wait.
    let mut t = Table::new(&rig);
    t.accept(post("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc") + &get("/next", ""));
    t.accept(
        post(
            "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
        ) + &get("/n", ""),
    );
    t.accept(get("/", "Expect: 100-continue\r\n") + &get("/next", ""));
    for value in [
        "x",
        "x 100-continue",
        "100-continue, x",
        "100-continue;q=1",
        "100",
        "101-continue",
        "100 continue",
        "\"100-continue\"",
    ] {
        t.reject(post(
            &format!("Expect: {value}\r\nContent-Length: 3\r\n"),
            &format!("abc{EVIL}"),
        ));
    }
    t.reject(post(
        "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 0\r\n",
        EVIL,
    ));
    t.finish();
}

/// The origin answers finally without 100: the answer goes through, and neither connection is used in a doubtful state.
#[test]
fn h1_24_final_answer_instead_of_100() {
    let rig = Rig::plain();
    for status in [200, 401, 413, 417] {
        rig.origin.on("/early", [Step::Echo(status)]);
        let mut c = rig.connect();
        c.send(request(
            "POST",
            "/early",
            "Expect: 100-continue\r\nContent-Length: 70\r\n",
            "",
        ));
        let r = c.read_response("POST").unwrap();
        assert_eq!(r.status, status);
        // If the connection lives, what follows is the body, and a request after it is another request.
        c.send(EVIL);
        c.half_close();
        for r in c.read_all(&[]).responses {
            assert_ne!(
                r.fields.get("x-id").as_deref(),
                Some("evil"),
                "the body was taken for a request"
            );
        }
        rig.alive();
    }
    assert!(rig.origin.seen().iter().all(|s| s.target != "/evil"));
}

#[test]
fn h1_24_http_1_0_never_gets_an_interim_answer() {
    let rig = Rig::plain();
    rig.origin.on(
        "/103",
        answer(
            "HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
    );
    let t = exchange(
        &rig,
        "POST /103 HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        false,
    );
    assert_eq!(t.statuses(), vec![200]);
    assert!(
        t.responses[0].interim.is_empty(),
        "{:?}",
        t.responses[0].interim
    );
}

/// CVE-2026-2833 (Pingora), CVE-2024-23326 (Envoy): nothing is piped before 101.
#[test]
fn h1_25_upgrade_smuggling() {
    let rig = Rig::plain();
    for (n, upgrade) in ["foo", "websocket", "h2c", "TLS/1.0", "websocket, foo"]
        .into_iter()
        .enumerate()
    {
        for status in [200, 400, 404, 426] {
            let path = format!("/up{n}-{status}");
            rig.origin.on(&path, echo(status));
            rig.origin.take(0);
            let mut c = rig.connect();
            c.send(
                get(
                    &path,
                    &format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"),
                ) + &get("/second", ""),
            );
            assert_eq!(c.read_response("GET").unwrap().status, status, "{upgrade}");
            // What followed is a request of its own, validated like any other, or the connection is closed.
            c.half_close();
            let rest = c.read_all(&[]);
            assert!(rest.responses.len() <= 1);
            let seen = rig.origin.take(1 + rest.responses.len());
            assert_eq!(
                seen.len(),
                1 + rest.responses.len(),
                "{upgrade} {status}: {seen:?}"
            );
            assert!(seen.iter().all(|s| s.garbage.is_none()));
        }
    }
    // Bytes after the request that are no request: refused, not piped.
    let mut c = rig.connect();
    c.send(get("/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n") + "\x01\x05hello\r\n\r\n");
    assert_eq!(c.read_response("GET").unwrap().status, 200);
    let t = c.read_all(&[]);
    assert!(
        t.statuses().iter().all(|s| *s == 400) && t.end != End::Open,
        "{t:?}"
    );
    for c in rig.origin.conns() {
        assert!(
            !c.raw.windows(5).any(|w| w == b"hello"),
            "tunnel bytes reached the origin without 101"
        );
    }
}

/// Protocols that the route doesn't allow are not asked for at all.
#[test]
fn h1_25_only_allowed_protocols_are_forwarded() {
    let rig = Rig::plain();
    for upgrade in ["foo", "TLS/1.0", "HTTP/2.0", "h2c", "H2C", "irc/6.9"] {
        rig.connect().ask(get(
            "/",
            &format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n"),
        ));
        let seen = rig.one();
        assert!(!seen.fields.has("upgrade"), "{upgrade}: {:?}", seen.fields);
        assert!(
            !seen.fields.has_token("connection", "upgrade"),
            "{upgrade}: {:?}",
            seen.fields
        );
    }
}

/// The 2020 family (h2csmuggler); CVE-2022-41721 (Go).
#[test]
fn h1_26_h2c_upgrade() {
    let rig = Rig::of("", "upgrade \"websocket\"\nproxy \"u\"");
    for connection in [
        "Upgrade, HTTP2-Settings",
        "upgrade,http2-settings",
        "Upgrade",
        "HTTP2-Settings",
    ] {
        for upgrade in ["h2c", "H2C", "h2c, websocket", "websocket, h2c"] {
            let fields = format!(
                "Connection: {connection}\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
            );
            let r = rig.connect().ask(get("/", &fields));
            assert_eq!(r.status, 200);
            let seen = rig.one();
            assert!(!seen.fields.has("http2-settings"), "{:?}", seen.fields);
            for v in seen.fields.all("upgrade") {
                assert!(
                    !v.to_ascii_lowercase().windows(3).any(|w| w == b"h2c"),
                    "{:?}",
                    seen.fields
                );
            }
        }
    }
    // An origin that agrees to what nobody asked for is not believed.
    rig.origin.on(
        "/agree",
        [
            send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
            Step::Reflect,
        ],
    );
    let r = rig
        .connect()
        .ask(get("/agree", "Connection: Upgrade\r\nUpgrade: h2c\r\n"));
    assert_eq!(r.status, 502);
}

/// CVE-2026-71324 (Traefik), CVE-2025-64763 (Envoy).
#[test]
fn h1_27_connect_is_refused() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for target in [
        "a:80",
        "evil:443",
        "127.0.0.1:22",
        "/",
        "http://a/",
        "*",
        "a",
        "[::1]:80",
    ] {
        for fields in [
            "Host: a\r\n",
            "Host: a\r\nContent-Length: 3\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nConnection: keep-alive\r\n",
        ] {
            t.reject(format!("CONNECT {target} HTTP/1.1\r\n{fields}\r\n{EVIL}"));
        }
    }
    t.reject(format!("CONNECT a:80 HTTP/1.0\r\n\r\n{EVIL}"));
    t.finish();
}

#[test]
fn h1_27_trace_is_refused() {
    let rig = Rig::plain();
    for fields in ["", "Cookie: secret\r\n", "Max-Forwards: 0\r\n"] {
        let r = rig.connect().ask(request("TRACE", "/", fields, ""));
        assert_eq!(r.status, 405);
        assert!(!r.text().contains("secret"));
    }
    assert!(rig.origin.seen().is_empty());
    // Methods are case-sensitive: this one is not TRACE, and nobody's business but the origin's.
    assert_eq!(rig.connect().ask(request("trace", "/", "", "")).status, 200);
}

/// RFC 9110 7.6.2: `OPTIONS` is counted down, and answered where the count is used up.
#[test]
fn h1_27_max_forwards() {
    let rig = Rig::of(
        "",
        "route path=\"/denied\" { deny \"0.0.0.0/0\"; proxy \"u\" }\nproxy \"u\"",
    );
    for (target, fields, want) in [
        ("/", "Max-Forwards: 5\r\n", Some("4")),
        ("/", "max-forwards: 1\r\n", Some("0")),
        ("*", "MAX-FORWARDS: 010\r\n", Some("9")),
        ("/", "Max-Forwards: 7\r\nMax-Forwards: 3\r\n", Some("2")),
        // No number: no limit.
        ("/", "Max-Forwards: x\r\n", Some("x")),
        ("/", "Max-Forwards: -1\r\n", Some("-1")),
        ("/", "", None),
    ] {
        let r = rig.connect().ask(request("OPTIONS", target, fields, ""));
        assert_eq!(r.status, 200, "{fields}");
        let seen = rig.one();
        assert_eq!(seen.target, target);
        assert_eq!(seen.header("max-forwards").as_deref(), want, "{fields}");
    }
    for (target, fields) in [
        ("/", "Max-Forwards: 0\r\n"),
        ("*", "max-forwards:00\r\n"),
        ("/", "Max-Forwards: 4\r\nMAX-FORWARDS: 0\r\n"),
    ] {
        let mut c = rig.connect();
        assert_eq!(c.ask(request("OPTIONS", target, fields, "")).status, 204);
        // The connection goes on.
        assert_eq!(c.ask(get("/next", "")).status, 200);
        assert_eq!(rig.one().target, "/next", "{fields}");
    }
    // Who is not let in learns nothing; other methods do not count.
    let r = rig
        .connect()
        .ask(request("OPTIONS", "/denied", "Max-Forwards: 0\r\n", ""));
    assert_eq!(r.status, 403);
    assert_eq!(
        rig.connect().ask(get("/", "Max-Forwards: 0\r\n")).status,
        200
    );
    assert_eq!(rig.one().header("max-forwards").as_deref(), Some("0"));
}

/// RFC 9112 3.2.4: the last proxy makes `*` of an absolute target without path and query.
#[test]
fn h1_22_options_of_the_server() {
    let rig = Rig::plain();
    for (target, want) in [
        ("*", "*"),
        ("http://a", "*"),
        ("HTTP://A:80", "*"),
        ("https://a", "*"),
        ("http://a/", "/"),
        ("http://a?q", "/?q"),
        ("http://a?", "/?"),
        ("/", "/"),
    ] {
        let r = rig.connect().ask(request("OPTIONS", target, "", ""));
        assert_eq!(r.status, 200, "{target}");
        assert_eq!(rig.one().target, want, "{target}");
    }
    rig.connect().ask(request("GET", "http://a", "", ""));
    assert_eq!(rig.one().target, "/");
}

/// VSV15, CVE-2022-23959 (Varnish), CVE-2024-38311 (ATS).
#[test]
fn h1_28_pipelining() {
    let rig = Rig::plain();
    for k in [1, 2, 50, 99, 100] {
        rig.origin.take(0);
        let mut bytes = String::new();
        let ids: Vec<String> = (1..=100).map(|_| fresh_id()).collect();
        for (n, id) in (1..=100).zip(&ids) {
            let colon = if n == k { " :" } else { ":" };
            bytes += &format!("GET /{n} HTTP/1.1\r\nHost{colon} a\r\nX-Id: {id}\r\n\r\n");
        }
        let t = exchange(&rig, bytes, false);
        assert_eq!(
            t.responses.len(),
            k,
            "answers before and with the malformed request {k}: {:?}",
            t.statuses()
        );
        for (r, id) in t.responses.iter().zip(&ids).take(k - 1) {
            assert_eq!(
                (r.status, r.fields.get("x-id").as_ref()),
                (200, Some(id)),
                "in order"
            );
        }
        assert_eq!(t.responses.last().unwrap().status, 400);
        assert_ne!(t.end, End::Open);
        assert_eq!(rig.origin.take(k - 1).len(), k - 1);
    }
}

/// Bodies between pipelined requests, and the split of bytes over packets, change nothing.
#[test]
fn h1_28_pipelining_in_pieces() {
    let rig = Rig::plain();
    let mut bytes = String::new();
    for n in 0..20 {
        bytes += &match n % 4 {
            0 => get(&format!("/{n}"), ""),
            1 => sized(&format!("/{n}"), "", &"b".repeat(n * 7)),
            2 => request(
                "POST",
                &format!("/{n}"),
                "Transfer-Encoding: chunked\r\n",
                "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n",
            ),
            _ => request("HEAD", &format!("/{n}"), "", ""),
        };
    }
    let bytes = bytes.into_bytes();
    let methods: Vec<&str> = (0..20)
        .map(|n| if n % 4 == 3 { "HEAD" } else { "GET" })
        .collect();
    for piece in [1, 2, 3, 7, 64, 1000, bytes.len()] {
        rig.origin.take(0);
        let mut c = rig.connect();
        c.send_paced(
            &bytes,
            piece,
            Duration::from_micros(if piece == 1 { 100 } else { 300 }),
        );
        c.half_close();
        let t = c.read_all(&methods);
        assert_eq!(
            t.statuses(),
            vec![200; 20],
            "in pieces of {piece}: {:?}",
            t.fault
        );
        let seen = rig.origin.take(20);
        let targets: Vec<String> = seen.iter().map(|s| s.target.clone()).collect();
        let want: Vec<String> = (0..20).map(|n| format!("/{n}")).collect();
        assert_eq!(targets, want, "in pieces of {piece}");
        assert_eq!(seen[2].body, b"abcde");
    }
}

/// CVE-2025-4366 (Pingora): an answer made before the body was read.
#[test]
fn h1_29_early_answer_with_unread_body() {
    let rig = Rig::of(
        "",
        "body max=\"1MiB\"\n\
         route path=\"/redirect\" { redirect \"/elsewhere\" status=308 }\n\
         route path=\"/fixed\" { respond 200 \"hi\" }\n\
         route path=\"/denied\" { deny \"0.0.0.0/0\"; proxy \"u\" }\n\
         proxy \"u\"",
    );
    rig.origin
        .on("/401", [Step::Echo(401)])
        .on("/200", [Step::Echo(200)]);
    for (path, status) in [
        ("/redirect", 308),
        ("/fixed", 200),
        ("/denied", 403),
        ("/401", 401),
        ("/200", 200),
    ] {
        for kind in ["length", "chunked", "unfinished length", "unfinished chunk"] {
            let (fields, body) = match kind {
                "length" => (
                    format!("Content-Length: {}\r\n", EVIL.len()),
                    EVIL.to_owned(),
                ),
                "chunked" => (
                    "Transfer-Encoding: chunked\r\n".into(),
                    format!("{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len()),
                ),
                "unfinished length" => (
                    format!("Content-Length: {}\r\n", EVIL.len() + 10),
                    EVIL.to_owned(),
                ),
                _ => (
                    "Transfer-Encoding: chunked\r\n".into(),
                    format!("{:x}\r\n{EVIL}", EVIL.len() + 10),
                ),
            };
            let mut c = rig.connect();
            c.send(request("POST", path, &fields, &body));
            let r = c
                .read_response("POST")
                .unwrap_or_else(|f| panic!("{path}, {kind}: {f}"));
            assert_eq!(r.status, status, "{path}, {kind}");
            c.send(get("/after", ""));
            c.half_close();
            // A whole body may have been drained; then the next request is answered. Never is the body a request.
            let t = c.read_all(&[]);
            let most = usize::from(!kind.starts_with("unfinished"));
            assert!(
                t.responses.len() <= most + 1,
                "{path}, {kind}: {:?}",
                t.statuses()
            );
            if !kind.starts_with("unfinished") {
                for r in &t.responses {
                    assert_eq!(r.status, 200, "{path}, {kind}: {:?}", t.statuses());
                }
            }
            rig.alive();
        }
    }
    assert!(
        rig.origin.seen().iter().all(|s| s.path() != "/evil"),
        "a body was taken for a request"
    );
}

/// A large upload to an origin that refuses at once: the client gets the answer, not a reset.
#[test]
fn h1_29_early_refusal_of_a_large_upload() {
    let rig = Rig::plain();
    rig.origin
        .on("/no", [Step::Echo(403), Step::AwaitEnd])
        .on("/rst", [Step::Echo(403), Step::Close]);
    for (path, want) in [("/no", &[403][..]), ("/rst", &[403, 502])] {
        let mut c = rig.connect();
        c.send(request(
            "POST",
            path,
            "Content-Length: 300000\r\n",
            &"x".repeat(30_000),
        ));
        let r = c.read_response("POST").expect("an answer");
        assert!(want.contains(&r.status), "{path}: {}", r.status);
        let _ = c.send("y".repeat(270_000));
        c.send(EVIL);
        c.half_close();
        assert!(
            c.read_all(&[])
                .responses
                .iter()
                .all(|r| r.fields.get("x-id").as_deref() == Some("evil")),
            "{path}"
        );
        rig.alive();
    }
}

/// An origin that refuses and closes while the upload runs: its reset breaks our send, and its answer, which came before,
/// is still there to be read.
#[test]
fn h1_29_refusal_before_a_reset_is_passed_on() {
    let rig = Rig::plain();
    rig.origin.on("/rst", [Step::Echo(403), Step::Close]);
    for round in 0..20 {
        let mut c = rig.connect();
        c.send(request("POST", "/rst", "Content-Length: 4000000\r\n", ""));
        // Refused in the middle: what counts is the answer.
        let _ = c.send("y".repeat(4_000_000));
        let r = c.read_response("POST").expect("an answer");
        assert_eq!(r.status, 403, "round {round}");
    }
    rig.alive();
}

/// RFC 9110 9.3.2: no content in any answer to HEAD, a refusal's neither, wherever it is refused.
#[test]
fn h1_30_refused_head_has_no_content() {
    let rig = Rig::of(
        "limits request-line=\"1KiB\"",
        "body max=\"1B\"\n\
         route path=\"/denied\" { deny \"0.0.0.0/0\"; proxy \"u\" }\n\
         route path=\"/fixed\" { respond 200 \"hi\" }\nproxy \"u\"",
    );
    for (line, fields, status) in [
        ("HEAD / HTTP/1.1", "Host : a\r\n", 400),
        ("HEAD / HTTP/1.1", "Host: a\r\nX: a\0b\r\n", 400),
        ("\r\nHEAD / HTTP/1.1", "Host : a\r\n", 400),
        ("HEAD / HTTP/1.1", "", 400),
        ("HEAD /a#b HTTP/1.1", "Host: a\r\n", 400),
        ("HEAD /%00 HTTP/1.1", "Host: a\r\n", 400),
        ("HEAD / HTTP/3.0", "Host: a\r\n", 505),
        ("HEAD / HTTP/1.1", "Host: a\r\nExpect: x\r\n", 417),
        ("HEAD / HTTP/1.1", "Host: a\r\nContent-Length: 2\r\n", 413),
        (
            "HEAD / HTTP/1.1",
            "Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            400,
        ),
        ("HEAD /denied HTTP/1.1", "Host: a\r\n", 403),
        ("HEAD /fixed HTTP/1.1", "Host: a\r\n", 200),
    ] {
        let mut c = rig.connect();
        c.send(bare(line, fields, ""));
        c.half_close();
        let (bytes, _) = c.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}, {fields}: {text}"
        );
        assert!(text.contains("\r\nContent-Length: "), "{line}: {text}");
        assert!(text.ends_with("\r\n\r\n"), "{line}, {fields}: {text}");
    }
    // Not that method.
    let r = rig
        .connect()
        .ask(bare("head / HTTP/1.1", "Host : a\r\n", ""));
    assert!(!r.body.is_empty());
}

/// Response-queue poisoning by bodies where none may be.
#[test]
fn h1_30_head_204_304() {
    let rig = Rig::plain();
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Id: poison\r\n\r\npoison";
    for (method, head) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("HEAD", "HTTP/1.1 404 No\r\nContent-Length: 60\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not\r\nContent-Length: 60\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        for surplus in ["", poison, "0\r\n\r\n", "x"] {
            rig.origin
                .on("/bodiless", answer(format!("{head}{surplus}")));
            let mut c = rig.connect();
            c.send(request(method, "/bodiless", "", ""));
            let r = c
                .read_response(method)
                .unwrap_or_else(|f| panic!("{method} {head:?} {surplus:?}: {f}"));
            assert!(
                matches!(r.status, 200 | 204 | 304 | 404 | 502),
                "{}",
                r.status
            );
            for _ in 0..3 {
                rig.alive();
            }
            c.send(get("/after", ""));
            c.half_close();
            for r in c.read_all(&[]).responses {
                assert_ne!(
                    r.fields.get("x-id").as_deref(),
                    Some("poison"),
                    "{method} {head:?}"
                );
            }
        }
    }
    // A 204 with a length is repaired or refused, never passed on as it is (the client parser of this kit objects).
    for head in [
        "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        rig.origin.on("/204", answer(head));
        let mut c = rig.connect();
        let r = c.ask(get("/204", ""));
        assert!(matches!(r.status, 204 | 502));
        rig.alive();
    }
}

/// What a HEAD or 304 says about the length is passed on.
#[test]
fn h1_30_head_keeps_its_length() {
    let rig = Rig::plain();
    rig.origin.on(
        "/h",
        answer("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-Id: h\r\n\r\n"),
    );
    let mut c = rig.connect();
    for _ in 0..3 {
        c.send(request("HEAD", "/h", "", ""));
        let r = c.read_response("HEAD").unwrap();
        assert_eq!(
            (r.status, r.fields.get("content-length").as_deref()),
            (200, Some("1234"))
        );
    }
    assert_eq!(c.ask(get("/x", "")).status, 200);
}

#[test]
fn h1_31_interim_answers() {
    let rig = Rig::plain();
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    rig.origin
        .on("/103", answer(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 P\r\n\r\n{ok}")))
        .on("/flood", [send(&"HTTP/1.1 103 E\r\nX: y\r\n\r\n".repeat(10_000)), send(ok)])
        .on("/101", [send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n"), Step::Reflect])
        .on("/1xx-length", answer(format!("HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n{ok}")));
    let mut c = rig.connect();
    let r = c.ask(get("/103", ""));
    assert_eq!(
        (r.status, r.interim.len()),
        (200, 2),
        "all interim answers are passed on"
    );
    assert_eq!(r.interim[0].1.get("link").as_deref(), Some("</a>"));
    assert_eq!(c.ask(get("/x", "")).status, 200);

    let mut c = rig.connect();
    c.send(get("/flood", ""));
    let r = c.read_response("GET");
    if let Ok(r) = &r {
        assert_eq!(
            r.status, 502,
            "a flood of interim answers is the origin's fault"
        );
        assert!(r.interim.len() <= 16);
    } else {
        panic!("flood: {r:?}");
    }
    rig.alive();

    let mut c = rig.connect();
    c.send(get("/101", "") + EVIL);
    let r = c.read_response("GET").unwrap();
    assert_eq!(r.status, 502, "nobody asked for 101");
    assert!(
        rig.origin
            .seen()
            .iter()
            .all(|s| s.target != "/evil" || s.seq == 0)
    );

    let mut c = rig.connect();
    c.send(get("/1xx-length", ""));
    let r = c.read_response("GET").unwrap();
    assert!(matches!(r.status, 200 | 502));
    rig.alive();

    let mut c = rig.connect();
    c.send("GET /103 HTTP/1.0\r\nHost: a\r\n\r\n");
    let r = c.read_response("GET").unwrap();
    assert_eq!(
        (r.status, r.interim.len()),
        (200, 0),
        "HTTP/1.0 knows no interim answers"
    );
}

/// CVE-2026-71324; CVE-2026-1642 (nginx): bytes nobody asked for never become an answer.
fn h1_34_pool_poisoning() {
    let rig = Rig::plain();
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Id: poison\r\n\r\npoison";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let scripts: Vec<(&str, Script)> = vec![
        ("two answers at once", answer(format!("{ok}{poison}"))),
        (
            "two answers apart",
            vec![
                Step::ReadBody,
                send(ok),
                Step::Gate("two answers apart".into()),
                send(poison),
                Step::Reached("two answers apart, said".into()),
            ]
            .into(),
        ),
        ("surplus after length", answer(format!("{ok}x"))),
        (
            "surplus after chunks",
            answer(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{poison}"
            )),
        ),
        (
            "408 while idle",
            vec![
                Step::ReadBody,
                send(ok),
                Step::Gate("408 while idle".into()),
                send("HTTP/1.1 408 Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
                Step::Reached("408 while idle, said".into()),
                Step::Close,
            ]
            .into(),
        ),
    ];
    for (name, script) in scripts {
        rig.origin.on("/poison", script);
        let r = rig.connect().ask(get("/poison", ""));
        assert!(matches!(r.status, 200 | 502), "{name}");
        rig.origin.open(name);
        // What crosses the next request on its way nobody can tell from an answer: it must have been said before.
        if matches!(name, "two answers apart" | "408 while idle") {
            assert!(rig.origin.wait_gate(&format!("{name}, said")));
        }
        for _ in 0..10 {
            rig.alive();
        }
    }
    // The origin talks first, before any request: then every answer is one behind, and must not reach another client.
    rig.origin.greet(poison.as_bytes());
    rig.origin.cut(false);
    for _ in 0..6 {
        let id = fresh_id();
        rig.origin.take(0);
        let r = rig.connect().ask(format!(
            "GET /x HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\nConnection: close\r\n\r\n"
        ));
        let got = r.fields.get("x-id").unwrap_or_default();
        assert!(
            r.status == 502 || got == id || got == "poison",
            "the answer for {got} reached the sender of {id}"
        );
        if got == "poison" {
            // The answer that nobody waits for ends the connection. One that crosses the next request on its way cannot be told
            // from that request's own, by anybody.
            let seen = rig.origin.take(1);
            let conn = seen.last().map(|s| s.conn).unwrap();
            assert!(rig.origin.wait_end(conn).is_some(), "{id}");
        }
    }
}

/// Every decision is made per request, not per connection.
#[test]
fn h1_35_connection_state() {
    let origin = Origin::start();
    let internal = Origin::named("internal", narthex_e2e::kit::origin::Personality::Strict);
    let config = narthex_e2e::kit::proxy::Proxy::config(
        "",
        &format!(
            "site \"public.test\" {{ route path=\"/admin/*\" {{ respond 403 \"no\" }}; proxy \"{}\" }}\n\
             site \"internal.test\" {{ deny \"0.0.0.0/0\"; proxy \"{}\" }}",
            origin.place(),
            internal.place()
        ),
    );
    let proxy = narthex_e2e::kit::proxy::Proxy::start(&config);
    let mut c = proxy.connect();
    let ask = |c: &mut narthex_e2e::kit::attack::Client, host: &str, path: &str| {
        c.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .status
    };
    assert_eq!(ask(&mut c, "public.test", "/"), 200);
    assert_eq!(ask(&mut c, "internal.test", "/"), 403);
    assert_eq!(ask(&mut c, "public.test", "/admin/x"), 403);
    assert_eq!(ask(&mut c, "public.test", "/"), 200);
    assert!(internal.seen().is_empty());
}

/// A request that timed out ends its connection: a late body is nobody's request.
#[test]
fn h1_36_pause() {
    let rig = Rig::full(
        Origin::start(),
        "timeout header=\"500ms\" body=\"300ms\"",
        "timeout response=\"400ms\"",
        "proxy \"u\"",
    );
    rig.origin.on("/hang", [Step::AwaitEnd]);
    // The body never comes.
    let mut c = rig.connect();
    c.send(request(
        "POST",
        "/late",
        &format!("Content-Length: {}\r\n", EVIL.len()),
        "",
    ));
    let t = c.read_all(&[]);
    assert!(t.statuses().iter().all(|s| *s == 408), "{:?}", t.statuses());
    assert_ne!(t.end, End::Open);
    // The origin never answers.
    let mut c = rig.connect();
    c.send(request(
        "POST",
        "/hang",
        &format!("Content-Length: {}\r\n", EVIL.len()),
        "x",
    ));
    let t = c.read_all(&[]);
    assert!(
        t.statuses().iter().all(|s| matches!(s, 408 | 504)),
        "{:?}",
        t.statuses()
    );
    assert_ne!(t.end, End::Open);
    c.send(EVIL);
    rig.alive();
    assert!(rig.origin.seen().iter().all(|s| s.target != "/evil"));
}

/// CVE-2025-30346 (Varnish): the same on every endpoint of our own.
#[test]
fn h1_37_client_side_desync() {
    let rig = Rig::of(
        "health live=\"/livez\" ready=\"/readyz\"",
        "route path=\"/fixed\" { respond 200 \"hi\" }\nroute path=\"/r\" { redirect \"/x\" }\nproxy \"u\"",
    );
    for path in ["/livez", "/readyz", "/fixed", "/r", "/%zz"] {
        for method in ["GET", "POST"] {
            let mut c = rig.connect();
            c.send(request(
                method,
                path,
                &format!("Content-Length: {}\r\n", EVIL.len()),
                EVIL,
            ));
            c.send(get("/after", "Connection: close\r\n"));
            let t = c.read_all(&[]);
            assert!(
                !t.responses.is_empty() && t.responses.len() <= 2,
                "{path}: {:?}",
                t.statuses()
            );
            assert_ne!(t.end, End::Open, "{path}");
        }
    }
    assert!(rig.origin.seen().iter().all(|s| s.target != "/evil"));
}

/// Nothing of an answer beyond its framed length is passed on.
#[test]
fn h1_38_request_tunnelling() {
    let rig = Rig::plain();
    let nested = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Nested: 1\r\n\r\nnested";
    rig.origin.on(
        "/t",
        [
            Step::ReadBody,
            send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc{nested}"
            )),
            Step::Close,
        ],
    );
    rig.origin.on(
        "/h",
        [
            Step::ReadBody,
            send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{nested}"
            )),
            Step::Close,
        ],
    );
    for (method, path) in [("GET", "/t"), ("HEAD", "/h"), ("HEAD", "/t")] {
        let mut c = rig.connect();
        c.send(request(method, path, "", ""));
        c.half_close();
        let t = c.read_all(&[method]);
        assert_eq!(t.responses.len(), 1, "{method} {path}: {:?}", t.statuses());
        assert!(t.fault.is_none(), "{:?}", t.fault);
        assert!(!t.responses[0].text().contains("nested"));
    }
}

/// There are no sub-requests yet (ESI, SSI): what such a page holds is passed on as it is.
#[test]
fn h1_39_no_sub_requests() {
    let rig = Rig::plain();
    let page = "<esi:include src=\"/evil\"/><!--#include virtual=\"/evil\" -->";
    rig.origin.on(
        "/page",
        answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        )),
    );
    assert_eq!(rig.connect().ask(get("/page", "")).text(), page);
    assert_eq!(rig.origin.take(1).len(), 1);
    rig.alive();
    assert!(rig.origin.seen().iter().all(|s| s.target != "/evil"));
}

/// A client that ends only its own direction still gets its answer.
#[test]
fn half_close_is_answered() {
    let rig = Rig::plain();
    rig.origin.on(
        "/slow",
        [Step::Pause(Duration::from_millis(100)), Step::Echo(200)],
    );
    for bytes in [
        get("/slow", ""),
        sized("/slow", "", "body"),
        get("/a", "") + &get("/slow", ""),
    ] {
        let n = bytes.matches("HTTP/1.1\r\n").count();
        let t = exchange(&rig, bytes, true);
        assert_eq!((t.statuses(), t.end), (vec![200; n], End::Eof));
    }
}

/// A client that goes away cancels its attempt; the origin notices.
#[test]
fn client_abort_cancels_the_attempt() {
    let rig = Rig::plain();
    rig.origin.otherwise([Step::AwaitEnd]);
    let requests = [
        request("POST", "/upload", "Content-Length: 100000\r\n", "some"),
        request(
            "POST",
            "/upload",
            "Transfer-Encoding: chunked\r\n",
            "4\r\nsome\r\n",
        ),
        get("/wait", ""),
    ];
    for (n, bytes) in requests.iter().enumerate() {
        let mut c = rig.connect();
        c.send(bytes);
        assert!(rig.origin.wait_heads(n + 1));
        c.reset();
        let conn = rig.origin.seen()[n].conn;
        let how = rig.origin.wait_end(conn);
        assert!(
            matches!(how, Some(Ended::Fin | Ended::Reset)),
            "{bytes}: {how:?}"
        );
    }
    assert!(
        rig.origin.seen().iter().take(2).all(|s| !s.complete),
        "a cut body never looks whole"
    );
}

/// A cut chunked upload must not reach the origin as a whole one.
#[test]
fn client_fin_inside_a_body_is_not_an_end() {
    let rig = Rig::plain();
    for bytes in [
        request("POST", "/x", "Content-Length: 10\r\n", "some"),
        request(
            "POST",
            "/x",
            "Transfer-Encoding: chunked\r\n",
            "4\r\nsome\r\n",
        ),
        request(
            "POST",
            "/x",
            "Transfer-Encoding: chunked\r\n",
            "4\r\nsome\r\n0\r\n",
        ),
        request("POST", "/x", "Transfer-Encoding: chunked\r\n", "4\r\nso"),
    ] {
        let t = exchange(&rig, bytes, true);
        assert!(
            t.statuses().iter().all(|s| matches!(s, 400 | 408)),
            "{:?}",
            t.statuses()
        );
        assert_ne!(t.end, End::Open);
    }
    rig.alive();
    assert!(
        rig.origin
            .seen()
            .iter()
            .all(|s| s.target == "/alive" || !s.complete)
    );
}

#[test]
fn the_last_answer_of_a_connection_says_so() {
    let rig = Rig::of("connections requests=3", "proxy \"u\"");
    let mut c = rig.connect();
    let closing: Vec<bool> = (0..3).map(|_| c.ask(get("/", "")).says_close()).collect();
    assert_eq!(closing, [false, false, true]);
    assert_eq!(c.read_response("GET").unwrap_err().why, Why::Eof);
    for fields in cases("Connection").map(|n| format!("{n}: Close\r\n")) {
        let t = exchange(&rig, get("/", &fields), false);
        assert!(t.responses[0].says_close() && t.end == End::Eof);
    }
}
