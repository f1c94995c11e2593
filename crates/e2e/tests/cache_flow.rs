//! The cache and a request, end to end: who is answered from where, who waits for whom, what becomes of a fetch whose client
//! leaves, and what is never stored.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::{Client, Response};
use narthex_e2e::kit::craft::{get, post, request};
use narthex_e2e::kit::origin::{Origin, Step, answer};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};

/// An origin whose answers are cached by this rule.
fn rig(rule: &str) -> Rig {
    Rig::of("", &format!("{rule}\nproxy \"u\""))
}

/// An answer with these fields and this body.
fn stored(fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{fields}\r\n{body}")
        .into_bytes()
}

const FRESH: &str = "Cache-Control: max-age=100\r\n";

#[track_caller]
fn ask(rig: &Rig, path: &str, fields: &str) -> Response {
    rig.connect().ask(get(path, fields))
}

/// `Cache-Status` of an answer.
#[track_caller]
fn status(r: &Response) -> String {
    r.fields
        .get("cache-status")
        .unwrap_or_else(|| panic!("no Cache-Status: {:?}", r.fields))
}

fn is_hit(r: &Response) -> bool {
    let status = status(r);
    status.contains("; hit") || status.contains("collapsed")
}

#[test]
fn the_second_request_is_a_hit() {
    let rig = rig("cache");
    rig.origin.on("/a", answer(stored(FRESH, "one")));
    let first = ask(&rig, "/a", "");
    assert_eq!((first.status, first.text().as_str()), (200, "one"));
    assert!(
        status(&first).contains("fwd=uri-miss"),
        "{}",
        status(&first)
    );
    assert!(status(&first).contains("stored"), "{}", status(&first));
    let mut client = rig.connect();
    for _ in 0..3 {
        let r = client.ask(get("/a", ""));
        assert_eq!((r.status, r.text().as_str()), (200, "one"));
        assert!(is_hit(&r), "{}", status(&r));
        assert_eq!(r.fields.get("age").as_deref(), Some("0"));
        assert_eq!(r.fields.get("content-type").as_deref(), Some("text/plain"));
        assert!(r.fields.has("date"));
    }
    assert_eq!(rig.origin.take(1).len(), 1);
    // A HEAD is answered by the same object, without its body.
    let head = client.ask(request("HEAD", "/a", "", ""));
    assert_eq!((head.status, head.body_len), (200, 0));
    assert_eq!(head.fields.get("content-length").as_deref(), Some("3"));
    assert!(is_hit(&head));
    assert!(rig.origin.take(0).is_empty());
}

#[test]
fn hosts_paths_and_queries_are_apart() {
    let rig = rig("cache");
    rig.origin.otherwise([Step::ReadBody, Step::Echo(200)]);
    for target in ["/q", "/q?a=1", "/q?a=2", "/Q", "/q/"] {
        rig.origin.on(
            target.split('?').next().unwrap(),
            answer(stored(FRESH, target)),
        );
    }
    // The script is by path: the query is told by the first answer alone, so bodies differ by path only.
    for path in ["/q", "/Q", "/q/"] {
        rig.origin.on(path, answer(stored(FRESH, path)));
    }
    let mut fetched = 0;
    for target in ["/q", "/Q", "/q/", "/q?a=1", "/q?a=2"] {
        assert!(!is_hit(&ask(&rig, target, "")), "{target}");
        assert!(is_hit(&ask(&rig, target, "")), "{target}");
        fetched += 1;
    }
    let other = rig
        .connect()
        .ask("GET /q HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert!(!is_hit(&other));
    assert_eq!(rig.origin.take(fetched + 1).len(), fetched + 1);
}

#[test]
fn what_may_not_be_stored_is_not() {
    let rig = rig("cache");
    for (path, fields) in [
        ("/no-store", "Cache-Control: no-store\r\n"),
        ("/private", "Cache-Control: private, max-age=100\r\n"),
        (
            "/cookie",
            "Cache-Control: max-age=100\r\nSet-Cookie: a=b\r\n",
        ),
        ("/silent", ""),
        ("/star", "Cache-Control: max-age=100\r\nVary: *\r\n"),
    ] {
        rig.origin.on(path, answer(stored(fields, "x")));
        for _ in 0..2 {
            let r = ask(&rig, path, "");
            assert!(!is_hit(&r), "{path}: {}", status(&r));
            assert_eq!(r.status, 200);
        }
        assert_eq!(rig.origin.take(2).len(), 2, "{path}");
    }
    // Authorization, and the answer does not allow it.
    rig.origin.on("/auth", answer(stored(FRESH, "x")));
    ask(&rig, "/auth", "Authorization: Basic eA==\r\n");
    assert!(!is_hit(&ask(&rig, "/auth", "")));
    // A body makes a GET one that nobody else's answer fits.
    rig.origin.on("/fat", answer(stored(FRESH, "x")));
    ask(&rig, "/fat", "");
    let fat = rig
        .connect()
        .ask(request("GET", "/fat", "Content-Length: 1\r\n", "b"));
    assert!(!is_hit(&fat), "{}", status(&fat));
}

#[test]
fn many_on_a_cold_key_are_one_fetch() {
    let rig = rig("cache");
    rig.origin.on(
        "/cold",
        [
            Step::ReadBody,
            Step::Gate("go".into()),
            Step::Send(stored(FRESH, "cold")),
        ],
    );
    let mut clients: Vec<Client> = (0..200).map(|_| rig.connect()).collect();
    for client in &mut clients {
        assert!(client.send(get("/cold", "")));
    }
    assert!(rig.origin.wait_heads(1));
    rig.origin.open("go");
    let mut collapsed = 0;
    for client in &mut clients {
        let r = client.read_response("GET").unwrap();
        assert_eq!((r.status, r.text().as_str()), (200, "cold"));
        collapsed += usize::from(is_hit(&r));
    }
    assert_eq!(collapsed, 199);
    assert_eq!(rig.origin.take(1).len(), 1);
}

/// Followers get the bytes that have come, before the rest is there.
#[test]
fn followers_read_while_it_fills() {
    let rig = rig("cache");
    rig.origin.on(
        "/slow",
        [
            Step::ReadBody,
            Step::Send(
                format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n{FRESH}\r\nhalf").into_bytes(),
            ),
            Step::Gate("rest".into()),
            Step::Send(b"rest".to_vec()),
        ],
    );
    let mut first = rig.connect();
    first.send(get("/slow", ""));
    first.read_past(b"half");
    let mut second = rig.connect();
    second.send(get("/slow", ""));
    second.read_past(b"half");
    rig.origin.open("rest");
    assert_eq!(first.read_exactly(4), b"rest");
    assert_eq!(second.read_exactly(4), b"rest");
    let r = second.ask(get("/slow", ""));
    assert!(is_hit(&r));
    assert_eq!(r.text(), "halfrest");
    assert_eq!(rig.origin.take(1).len(), 1);
}

/// As above, of a body that says its length only by its end.
#[test]
fn a_chunked_body_is_followed_and_then_has_a_length() {
    let rig = rig("cache");
    rig.origin.on(
        "/chunks",
        [
            Step::ReadBody,
            Step::Send(
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n4\r\nhalf\r\n"
                )
                .into_bytes(),
            ),
            Step::Gate("rest".into()),
            Step::Send(b"4\r\nrest\r\n0\r\n\r\n".to_vec()),
        ],
    );
    let mut first = rig.connect();
    first.send(get("/chunks", ""));
    first.read_past(b"half");
    let mut second = rig.connect();
    second.send(get("/chunks", ""));
    assert!(eventually(PATIENCE, || {
        // Nothing tells that it waits; its answer's head does.
        !second.silent_for(Duration::from_millis(1))
    }));
    rig.origin.open("rest");
    let r = second.read_response("GET").unwrap();
    assert_eq!(r.text(), "halfrest");
    let r = ask(&rig, "/chunks", "");
    assert_eq!(r.text(), "halfrest");
    assert_eq!(r.fields.get("content-length").as_deref(), Some("8"));
    assert!(is_hit(&r));
}

/// The client that fetches for others leaves: they get all of it.
#[test]
fn a_fetch_goes_on_for_those_who_follow() {
    let rig = rig("cache");
    rig.origin.on(
        "/left",
        [
            Step::ReadBody,
            Step::Send(
                format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n{FRESH}\r\nhalf").into_bytes(),
            ),
            Step::Gate("rest".into()),
            Step::Send(b"rest".to_vec()),
        ],
    );
    let mut first = rig.connect();
    first.send(get("/left", ""));
    first.read_past(b"half");
    let mut second = rig.connect();
    second.send(get("/left", ""));
    second.read_past(b"half");
    first.reset();
    rig.alive();
    rig.origin.open("rest");
    assert_eq!(second.read_exactly(4), b"rest");
    assert!(is_hit(&ask(&rig, "/left", "")));
}

/// An answer that may not be stored lets everybody go at once, and those after them do not wait for each other.
#[test]
fn nobody_waits_in_line_for_what_cannot_be_stored() {
    const CLIENTS: usize = 40;
    let pause = Duration::from_millis(100);
    let rig = rig("cache");
    rig.origin.on(
        "/un",
        [
            Step::ReadBody,
            Step::Pause(pause),
            Step::Send(stored("Cache-Control: no-store\r\n", "u")),
        ],
    );
    for round in 0..2 {
        let begun = Instant::now();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| rig.connect()).collect();
        for client in &mut clients {
            client.send(get("/un", ""));
        }
        for client in &mut clients {
            assert_eq!(client.read_response("GET").unwrap().text(), "u");
        }
        // In line it would be forty pauses.
        assert!(begun.elapsed() < pause * (CLIENTS as u32) / 2, "{round}");
    }
}

#[test]
fn a_body_that_is_cut_is_not_stored() {
    let rig = rig("cache");
    rig.origin.next([
        Step::ReadBody,
        Step::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n{FRESH}\r\nhalf").into_bytes()),
        Step::Gate("cut".into()),
        Step::Close,
    ]);
    let mut first = rig.connect();
    first.send(get("/cut", ""));
    first.read_past(b"half");
    let mut second = rig.connect();
    second.send(get("/cut", ""));
    second.read_past(b"half");
    rig.origin.open("cut");
    assert!(second.rest().0.is_empty());
    rig.origin.on("/cut", answer(stored(FRESH, "whole")));
    let r = ask(&rig, "/cut", "");
    assert!(!is_hit(&r));
    assert_eq!(r.text(), "whole");
}

#[test]
fn conditions_and_ranges_are_answered_from_what_is_stored() {
    let rig = rig("cache");
    let fields = format!("{FRESH}ETag: \"v1\"\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n");
    rig.origin.on("/r", answer(stored(&fields, "0123456789")));
    // Also when nothing is stored yet: the origin is asked for all of it.
    let r = ask(&rig, "/r", "Range: bytes=2-4\r\n");
    assert_eq!((r.status, r.text().as_str()), (206, "234"));
    assert_eq!(
        r.fields.get("content-range").as_deref(),
        Some("bytes 2-4/10")
    );
    assert!(!rig.origin.take(1)[0].header("range").is_some());
    for (range, status, text, said) in [
        ("bytes=0-0", 206, "0", Some("bytes 0-0/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=8-", 206, "89", Some("bytes 8-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("lines=1-2", 200, "0123456789", None),
    ] {
        let r = ask(&rig, "/r", &format!("Range: {range}\r\n"));
        assert_eq!((r.status, r.text().as_str()), (status, text), "{range}");
        assert_eq!(r.fields.get("content-range").as_deref(), said, "{range}");
    }
    let r = ask(&rig, "/r", "Range: bytes=0-1,5-6\r\n");
    assert_eq!(r.status, 206);
    let kind = r.fields.get("content-type").unwrap();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let text = r.text();
    assert_eq!(text.matches(boundary).count(), 3, "{text}");
    assert!(text.contains("bytes 0-1/10\r\n\r\n01\r\n") && text.contains("\r\n\r\n56\r\n"));
    let r = ask(&rig, "/r", "If-None-Match: \"v1\"\r\n");
    assert_eq!((r.status, r.body_len), (304, 0));
    assert_eq!(r.fields.get("etag").as_deref(), Some("\"v1\""));
    assert!(!r.fields.has("content-type"));
    let since = "If-Modified-Since: Wed, 01 Jan 2025 00:00:00 GMT\r\n";
    assert_eq!(ask(&rig, "/r", since).status, 304);
    assert_eq!(ask(&rig, "/r", "If-None-Match: \"v2\"\r\n").status, 200);
    let r = ask(&rig, "/r", "Range: bytes=0-1\r\nIf-Range: \"v2\"\r\n");
    assert_eq!((r.status, r.body_len), (200, 10));
    assert!(rig.origin.take(0).is_empty());
}

#[test]
fn what_is_stale_is_asked_about_and_made_new() {
    let rig = rig("cache");
    let fields = "Cache-Control: max-age=0, must-revalidate\r\nETag: \"v1\"\r\nX-Time: first\r\n";
    rig.origin.next(answer(stored(fields, "body")));
    ask(&rig, "/s", "");
    rig.origin.next(answer(
        "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=100\r\nETag: \"v1\"\r\nX-Time: second\r\n\r\n",
    ));
    let r = ask(&rig, "/s", "");
    assert_eq!(
        (r.status, r.text().as_str()),
        (200, "body"),
        "{}",
        status(&r)
    );
    assert_eq!(r.fields.get("x-time").as_deref(), Some("second"));
    let seen = rig.origin.take(2);
    assert_eq!(seen[1].header("if-none-match").as_deref(), Some("\"v1\""));
    let r = ask(&rig, "/s", "");
    assert!(is_hit(&r), "{}", status(&r));
    assert_eq!(r.text(), "body");
}

/// Interim answers are for those whose request went to the origin, and leave nothing in what is stored.
#[test]
fn interim_answers_are_passed_on_and_not_stored() {
    let rig = rig("cache");
    let hints = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nCache-Control: no-store\r\nETag: \"of the hint\"\r\n\r\n";
    let said = |rest: &[u8]| answer([hints.as_bytes(), rest].concat());
    rig.origin.on("/hints", said(&stored(FRESH, "final"))).on(
        "/stale",
        said(&stored(
            "Cache-Control: max-age=0\r\nETag: \"e\"\r\n",
            "final",
        )),
    );
    let first = ask(&rig, "/hints", "");
    let statuses: Vec<_> = first.interim.iter().map(|(status, _)| *status).collect();
    assert_eq!((statuses.as_slice(), first.status), (&[102, 103][..], 200));
    assert_eq!(
        first.interim[1].1.get("link").as_deref(),
        Some("</a.css>; rel=preload")
    );
    assert!(status(&first).contains("stored"), "{}", status(&first));
    let hit = ask(&rig, "/hints", "");
    assert!(is_hit(&hit) && hit.interim.is_empty(), "{}", status(&hit));
    for r in [&first, &hit] {
        assert_eq!(r.text(), "final");
        assert!(!r.fields.has("link") && !r.fields.has("etag"));
        let control = r.fields.get("cache-control");
        assert_eq!(control.as_deref(), Some("max-age=100"));
    }
    // Nor does one before a 304 make anything new.
    ask(&rig, "/stale", "");
    let now = "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nCache-Control: max-age=100\r\n\r\n";
    rig.origin.on("/stale", said(now.as_bytes()));
    let asked = ask(&rig, "/stale", "");
    assert_eq!((asked.status, asked.text().as_str()), (200, "final"));
    let hit = ask(&rig, "/stale", "");
    assert!(is_hit(&hit) && hit.interim.is_empty(), "{}", status(&hit));
    assert_eq!(hit.fields.get("etag").as_deref(), Some("\"e\""));
    assert!(!hit.fields.has("link"));
    assert_eq!(rig.origin.take(3).len(), 3);
}

#[test]
fn stale_while_it_is_asked_anew() {
    let rig = rig("cache");
    rig.origin.next(answer(stored(
        "Cache-Control: max-age=0, stale-while-revalidate=100\r\n",
        "old",
    )));
    ask(&rig, "/swr", "");
    rig.origin.on(
        "/swr",
        [
            Step::ReadBody,
            Step::Gate("new".into()),
            Step::Send(stored(FRESH, "new")),
        ],
    );
    // All of them at once, and one request behind them.
    for _ in 0..5 {
        let r = ask(&rig, "/swr", "");
        assert_eq!(r.text(), "old");
        assert!(is_hit(&r), "{}", status(&r));
    }
    assert!(rig.origin.wait_heads(2));
    rig.origin.open("new");
    assert!(eventually(PATIENCE, || ask(&rig, "/swr", "").text() == "new"));
    assert_eq!(rig.origin.take(2).len(), 2);
}

#[test]
fn stale_if_the_origin_fails() {
    let rig = rig("cache");
    rig.origin.next(answer(stored(
        "Cache-Control: max-age=0, stale-if-error=100\r\n",
        "old",
    )));
    ask(&rig, "/sie", "");
    rig.origin.on(
        "/sie",
        answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
    );
    let r = ask(&rig, "/sie", "");
    assert_eq!(
        (r.status, r.text().as_str()),
        (200, "old"),
        "{}",
        status(&r)
    );
    rig.origin.on("/sie", [Step::ReadBody, Step::Reset]);
    let r = ask(&rig, "/sie", "");
    assert_eq!((r.status, r.text().as_str()), (200, "old"));
    // Without leave it is the origin's failure.
    rig.origin.on(
        "/no",
        answer(stored("Cache-Control: max-age=0\r\nETag: \"a\"\r\n", "old")),
    );
    ask(&rig, "/no", "");
    rig.origin.on("/no", [Step::ReadBody, Step::Reset]);
    assert_eq!(ask(&rig, "/no", "").status, 502);
}

#[test]
fn an_unsafe_request_makes_it_forgotten() {
    let rig = rig("cache");
    for path in ["/page", "/other"] {
        rig.origin.on(path, answer(stored(FRESH, path)));
        ask(&rig, path, "");
        assert!(is_hit(&ask(&rig, path, "")));
    }
    rig.origin
        .next(answer("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
    rig.connect()
        .ask(post("", "x").replace("POST /", "POST /page"));
    assert!(is_hit(&ask(&rig, "/page", "")), "an error changes nothing");
    rig.origin.next(answer(
        "HTTP/1.1 200 OK\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
    ));
    let r = rig
        .connect()
        .ask(request("POST", "/page", "Content-Length: 1\r\n", "x"));
    assert_eq!(r.status, 200);
    for path in ["/page", "/other"] {
        assert!(!is_hit(&ask(&rig, path, "")), "{path}");
    }
}

#[test]
fn only_if_cached() {
    let rig = rig("cache");
    rig.origin.on("/o", answer(stored(FRESH, "o")));
    let only = "Cache-Control: only-if-cached\r\n";
    assert_eq!(ask(&rig, "/o", only).status, 504);
    ask(&rig, "/o", "");
    assert_eq!(ask(&rig, "/o", only).text(), "o");
    assert_eq!(rig.origin.take(1).len(), 1);
}

#[test]
fn variants_are_apart() {
    let rig = rig("cache");
    rig.origin
        .otherwise(answer(stored(&format!("{FRESH}Vary: X-Kind\r\n"), "v")));
    for kind in ["a", "b"] {
        let fields = format!("X-Kind: {kind}\r\n");
        assert!(!is_hit(&ask(&rig, "/v", &fields)), "{kind}");
        assert!(is_hit(&ask(&rig, "/v", &fields)), "{kind}");
    }
    let r = ask(&rig, "/v", "");
    assert!(status(&r).contains("fwd=vary-miss"), "{}", status(&r));
    assert_eq!(rig.origin.take(3).len(), 3);
}

#[test]
fn the_rule_is_obeyed() {
    let rig = rig(
        "cache ttl=\"100s\" status-field=#false {\n key { query only=\"id\" }\n negative 404 ttl=\"100s\"\n bypass { cookie \"session\" }\n}",
    );
    rig.origin.on("/t", answer(stored("", "t")));
    ask(&rig, "/t?id=1&x=1", "");
    let r = ask(&rig, "/t?x=2&id=1", "");
    assert!(r.fields.has("age") && !r.fields.has("cache-status"));
    assert!(
        !ask(&rig, "/t?id=1", "Cookie: session=1\r\n")
            .fields
            .has("age")
    );
    rig.origin.on(
        "/none",
        answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    );
    ask(&rig, "/none", "");
    let r = ask(&rig, "/none", "");
    assert_eq!((r.status, r.fields.has("age")), (404, true));
}

/// What is stored is the origin's answer; what a client gets has passed the filters of today.
#[test]
fn a_reload_changes_hits_and_keeps_them() {
    let origin = Origin::start();
    origin.on(
        "/f",
        answer(stored(
            &format!("{FRESH}Server: secret\r\nX-Powered-By: php\r\n"),
            "f",
        )),
    );
    let rig = Rig::full(origin, "", "", "cache\nproxy \"u\"");
    ask(&rig, "/f", "");
    let r = ask(&rig, "/f", "");
    assert!(is_hit(&r) && !r.fields.has("x-powered-by") && !r.fields.has("server"));
    let text = Rig::text(
        &rig.origin,
        "",
        "",
        "cache\nheader response { set \"X-New\" \"yes\" }\nproxy \"u\"",
    );
    rig.proxy.reload_ok(&text);
    let r = ask(&rig, "/f", "");
    assert!(is_hit(&r), "{}", status(&r));
    assert_eq!(r.fields.get("x-new").as_deref(), Some("yes"));
    assert_eq!(rig.origin.take(1).len(), 1);
}

/// Large bodies, of which nothing is copied, reach slow and fast readers whole.
#[test]
fn large_bodies_arrive_whole() {
    let rig = rig("cache");
    let mut body = String::new();
    for i in 0..300_000 {
        let _ = write!(body, "{i:07}");
    }
    rig.origin.on("/large", answer(stored(FRESH, &body)));
    let first = ask(&rig, "/large", "");
    assert_eq!(first.body_len, body.len() as u64);
    for _ in 0..3 {
        let r = ask(&rig, "/large", "");
        assert!(is_hit(&r));
        assert_eq!(
            (r.body_len, r.hash == first.hash),
            (body.len() as u64, true)
        );
    }
    let r = ask(&rig, "/large", "Range: bytes=700000-700006\r\n");
    assert_eq!(r.text(), "0100000");
}

/// The head of an answer alone, as a HEAD gets it.
fn head_of(fields: &str) -> Vec<u8> {
    let mut bytes = stored(fields, "one");
    bytes.truncate(bytes.len() - 3);
    bytes
}

#[test]
fn a_head_is_never_stored_as_a_get() {
    let rig = rig("cache profile=\"rfc9111\" stale-while-revalidate=\"1h\"");
    let stale = "ETag: \"a\"\r\nCache-Control: max-age=0\r\n";
    for (path, fields) in [("/cold", FRESH), ("/stale", stale)] {
        rig.origin.on(path, answer(stored(fields, "one")));
        if path == "/stale" {
            assert_eq!(ask(&rig, path, "").text(), "one");
        }
        rig.origin.on(path, answer(head_of(fields)));
        let head = rig.connect().ask(request("HEAD", path, "", ""));
        assert_eq!((head.status, head.body_len), (200, 0), "{path}");
        rig.origin.on(path, answer(stored(fields, "one")));
        for _ in 0..3 {
            assert_eq!(ask(&rig, path, "").text(), "one", "{path}");
        }
    }
}

#[test]
fn the_answer_to_a_head_makes_a_stale_object_new_or_takes_it_out() {
    const STALE: &str = "ETag: \"a\"\r\nCache-Control: max-age=0\r\nX-A: 1\r\n";
    for (said, fetches) in [
        ("ETag: \"a\"\r\nCache-Control: max-age=100\r\nX-A: 2\r\n", 0),
        ("ETag: \"b\"\r\nCache-Control: max-age=100\r\nX-A: 2\r\n", 1),
    ] {
        let rig = rig("cache profile=\"rfc9111\"");
        rig.origin.on("/a", answer(stored(STALE, "one")));
        ask(&rig, "/a", "");
        rig.origin.on("/a", answer(head_of(said)));
        let told = rig.connect().ask(request("HEAD", "/a", "", ""));
        assert_eq!(told.fields.get("x-a").as_deref(), Some("2"));
        let seen = rig.origin.take(2);
        assert_eq!(seen.len(), 2);
        rig.origin.on("/a", answer(stored(said, "two")));
        let after = ask(&rig, "/a", "");
        assert_eq!(after.fields.get("x-a").as_deref(), Some("2"));
        let (body, seen) = (after.text(), rig.origin.take(fetches));
        assert_eq!(
            (body.as_str(), seen.len()),
            (if fetches == 0 { "one" } else { "two" }, fetches)
        );
        // What was taken out is not asked about.
        assert!(seen.iter().all(|s| !s.fields.has("if-none-match")));
    }
}

#[test]
fn the_answer_to_a_post_answers_gets_if_it_says_that_it_is_theirs() {
    let place = |path: &str| format!("{FRESH}Content-Location: {path}\r\n");
    for (rule, path, fields, hits) in [
        ("cache profile=\"rfc9111\"", "/a", place("/a"), true),
        ("cache profile=\"rfc9111\"", "/a", place("/b"), false),
        (
            "cache profile=\"rfc9111\"",
            "/a?x=1",
            place("/a?x=2"),
            false,
        ),
        ("cache profile=\"rfc9111\"", "/a?x=1", place("?x=1"), true),
        ("cache profile=\"rfc9111\"", "/a", FRESH.to_owned(), false),
        ("cache", "/a", place("/a"), false),
    ] {
        let rig = rig(rule);
        rig.origin.on("/a", answer(stored(&fields, "one")));
        let send = |path: &str, fields: &str| {
            let fields = format!("Content-Length: 1\r\n{fields}");
            rig.connect().ask(request("POST", path, &fields, "x"))
        };
        assert_eq!(send(path, "").text(), "one");
        let got = ask(&rig, path, "");
        assert_eq!(is_hit(&got), hits, "{rule} {path} {fields}");
        assert_eq!(got.text(), "one");
        // What is asked with a secret is not for others, and `no-store` is obeyed.
        for secret in ["Authorization: a\r\n", "Cache-Control: no-store\r\n"] {
            send(path, secret);
            assert!(!is_hit(&ask(&rig, path, "")), "{secret}");
        }
    }
}

/// What is stale is asked about before a part of it, or that it has not changed, is told; if the origin fails, neither is.
#[test]
fn a_part_of_what_is_stale_waits_for_the_origin() {
    let old = stored(
        "Cache-Control: max-age=10\r\nAge: 20\r\nETag: \"1\"\r\n",
        "old bytes",
    );
    let new = stored("Cache-Control: max-age=100\r\nETag: \"2\"\r\n", "new bytes");
    for fields in ["Range: bytes=0-2\r\n", "If-None-Match: \"1\"\r\n"] {
        let rig = rig("cache");
        rig.origin.on("/s", answer(&old));
        ask(&rig, "/s", "");
        rig.origin.on("/s", answer(&new));
        let r = ask(&rig, "/s", fields);
        assert!(
            r.text().starts_with("new"),
            "{fields}: {} {}",
            r.status,
            r.text()
        );
        let rig = Rig::of("", "cache\nproxy \"u\"");
        rig.origin.on("/s", answer(&old));
        ask(&rig, "/s", "");
        rig.origin.on("/s", [Step::ReadBody, Step::Close]);
        assert_eq!(ask(&rig, "/s", fields).status, 502, "{fields}");
    }
    // Good again, or allowed.
    let rig = rig("cache stale-if-error=\"1m\"");
    rig.origin.on("/s", answer(&old));
    ask(&rig, "/s", "");
    rig.origin.on(
        "/s",
        answer("HTTP/1.1 304 Not Modified\r\nAge: 20\r\nETag: \"1\"\r\n\r\n"),
    );
    let r = ask(&rig, "/s", "Range: bytes=0-2\r\n");
    assert_eq!((r.status, r.text().as_str()), (206, "old"));
    rig.origin.on("/s", [Step::ReadBody, Step::Close]);
    let r = ask(&rig, "/s", "Range: bytes=4-\r\n");
    assert_eq!((r.status, r.text().as_str()), (206, "bytes"));
    assert!(status(&r).contains("detail=stale"), "{}", status(&r));
}
