//! Trailers of requests (RFC 9110 6.5): from either version to either version, through buffers and repetitions; what must not pass
//! so, and what must not be smuggled so. Those of answers over HTTP/2 whose length is nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use narthex_e2e::kit::h2::origin::H2Origin;
use narthex_e2e::kit::h2::{Block, Frame, Peer, code};
use narthex_e2e::kit::http::Fields;
use narthex_e2e::kit::origin::{Origin, Step};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};
use narthex_e2e::with_1_2_and_8_workers;

/// A server of either version behind a proxy.
enum Server {
    Http1(Rig),
    Http2(Proxy, H2Origin),
}

/// What it saw.
struct Saw {
    fields: Fields,
    body: Vec<u8>,
    trailers: Fields,
}

impl Server {
    fn both(listen: &str, upstream: &str, site: &str) -> [Self; 2] {
        let rig = Rig::full(Origin::start(), listen, upstream, site);
        let origin = H2Origin::echo();
        let proxy = Proxy::start(&Proxy::config(
            listen,
            &format!(
                "upstream \"u\" {{\n server \"{}\"\n protocol \"h2\"\n{upstream}\n}}\nsite \"*\" {{\n{site}\n}}",
                origin.addr()
            ),
        ));
        [Self::Http1(rig), Self::Http2(proxy, origin)]
    }

    fn proxy(&self) -> &Proxy {
        match self {
            Self::Http1(rig) => &rig.proxy,
            Self::Http2(proxy, _) => proxy,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Http1(_) => "h1",
            Self::Http2(..) => "h2",
        }
    }

    /// The last request that came whole; all of them, until now.
    fn saw(&self) -> (Option<Saw>, usize) {
        match self {
            Self::Http1(rig) => {
                let all: Vec<_> = rig
                    .origin
                    .take(0)
                    .into_iter()
                    .filter(|s| s.complete)
                    .collect();
                let garbage: Vec<_> = all.iter().filter_map(|s| s.garbage.clone()).collect();
                assert!(garbage.is_empty(), "{garbage:?}");
                let n = all.len();
                let last = all.into_iter().next_back().map(|s| Saw {
                    fields: s.fields,
                    body: s.body,
                    trailers: s.trailers,
                });
                (last, n)
            }
            Self::Http2(_, origin) => {
                let all = origin.records.all();
                let n = all.len();
                let last = all.into_iter().next_back().map(|(_, _, s)| Saw {
                    fields: s.head.unwrap_or_default(),
                    body: s.body,
                    trailers: s.trailers.unwrap_or_default(),
                });
                (last, n)
            }
        }
    }
}

/// A client of HTTP/1.1 sends this body in chunks with these trailer lines; the status of the answer.
fn send_1(proxy: &Proxy, method: &str, fields: &str, body: &str, trailers: &str) -> u16 {
    let chunk = if body.is_empty() {
        String::new()
    } else {
        format!("{:x}\r\n{body}\r\n", body.len())
    };
    let mut c = proxy.connect();
    c.send(format!(
        "{method} /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{fields}\r\n{chunk}0\r\n{trailers}\r\n"
    ));
    c.read_response(method).map_or(0, |r| r.status)
}

/// One of HTTP/2: head, DATA if there is a body, trailers. The status of the answer, and the code of a reset.
fn send_2(proxy: &Proxy, head: Block, body: &str, trailers: Block) -> (u16, Option<u32>) {
    let mut peer = Peer::connect(proxy.addr());
    let id = peer.open(head, false);
    if !body.is_empty() {
        peer.body(id, body.as_bytes(), false);
    }
    peer.frame(&Frame::headers(id, trailers, true));
    let answer = peer.answer(id);
    (answer.status(), answer.reset)
}

fn trailers_reach_the_server() {
    for site in ["proxy \"u\"", "buffer request=\"64KiB\"\nproxy \"u\""] {
        for server in Server::both("", "", site) {
            let what = |client: &str| format!("{client} to {}, {site}", server.name());
            let proxy = server.proxy();
            for body in ["", "hello"] {
                let what = what(&format!("h1 {body:?}"));
                let status = send_1(proxy, "POST", "", body, "X-Sum: 7\r\nx-other:  b  c \r\n");
                assert_eq!(status, 200, "{what}");
                let saw = server.saw().0.expect("a request");
                assert_eq!(saw.body, body.as_bytes(), "{what}");
                assert_eq!(saw.trailers.get("x-sum").as_deref(), Some("7"), "{what}");
                assert_eq!(
                    saw.trailers.get("x-other").as_deref(),
                    Some("b  c"),
                    "{what}"
                );
            }
            let post = || Block::post("/t");
            let sized = |n: &str| post().field("content-length", n);
            for (name, head, body) in [
                ("no length", post(), "hello"),
                ("no length, no body", post(), ""),
                ("length", sized("5"), "hello"),
                (
                    "length, announced",
                    sized("5").field("trailer", "x-sum"),
                    "hello",
                ),
                ("length 0", sized("0"), ""),
            ] {
                let what = what(&format!("h2, {name}"));
                let trailers = Block::new().field("x-sum", "7").field("x-other", "b  c");
                let answer = send_2(proxy, head, body, trailers);
                assert_eq!(answer, (200, None), "{what}");
                let saw = server.saw().0.expect("a request");
                assert_eq!(saw.body, body.as_bytes(), "{what}");
                // A length has no place for trailers in HTTP/1.1, and is not given up for what may never come.
                let lost = name == "length" && server.name() == "h1" && !site.contains("buffer");
                let sum = (!lost).then_some("7");
                assert_eq!(saw.trailers.get("x-sum").as_deref(), sum, "{what}");
                let length = saw.fields.get("content-length");
                if lost || server.name() == "h2" && name.starts_with("length") {
                    assert_eq!(length, Some(body.len().to_string()), "{what}");
                }
            }
        }
    }
}

/// Without trailers nothing changes: a length stays one, and nothing is waited for.
fn bodies_without_trailers_keep_their_length() {
    for site in ["proxy \"u\"", "buffer request=\"64KiB\"\nproxy \"u\""] {
        for server in Server::both("", "", site) {
            for body in ["hello", ""] {
                let mut peer = Peer::connect(server.proxy().addr());
                let head = Block::post("/t").field("content-length", body.len().to_string());
                let id = peer.open(head, body.is_empty());
                if !body.is_empty() {
                    // The end comes by itself.
                    peer.body(id, body.as_bytes(), false);
                    peer.frame(&Frame::data(id, b"", true));
                }
                assert_eq!(peer.answer(id).status(), 200);
                let saw = server.saw().0.expect("a request");
                assert_eq!(saw.body, body.as_bytes());
                assert!(saw.trailers.0.is_empty());
                let length = saw.fields.get("content-length");
                assert_eq!(
                    length,
                    Some(body.len().to_string()),
                    "{}, {site}",
                    server.name()
                );
            }
        }
    }
}

/// A request that is sent again has its trailers again.
fn trailers_are_repeated_with_the_request() {
    for site in ["proxy \"u\"", "buffer request=\"64KiB\"\nproxy \"u\""] {
        let retry = "retry attempts=2 budget=\"100%\" on=\"connect,reset\"\neject #false";
        let rig = Rig::full(Origin::start(), "", retry, site);
        for body in ["", "hello"] {
            rig.origin.next([Step::ReadBody, Step::Close]);
            let status = send_1(&rig.proxy, "PUT", "", body, "X-Sum: 7\r\n");
            assert_eq!(status, 200, "{site}, {body:?}");
            let seen = rig.origin.take(2);
            assert_eq!(seen.len(), 2, "{site}, {body:?}");
            for s in seen {
                assert!(s.complete && s.garbage.is_none(), "{s:?}");
                assert_eq!(s.body, body.as_bytes());
                assert_eq!(s.trailers.get("x-sum").as_deref(), Some("7"), "{site}");
            }
        }
    }
}

/// What filters remove or set, names that are ours, and look-alikes of both have no way around in trailers.
fn trailers_are_no_way_around_filters() {
    let site = "header request { remove \"X-Secret\"; set \"X-User\" \"nobody\" }\nproxy \"u\"";
    for server in Server::both("", "", site) {
        let lines = [
            ("x-secret", "1"),
            ("x_secret", "1"),
            ("x-user", "root"),
            ("x_user", "root"),
            ("x_any", "1"),
            ("x-named", "1"),
            ("x-good", "1"),
        ];
        let text: String = lines
            .iter()
            .flat_map(|(n, v)| [n, ": ", v, "\r\n"])
            .collect();
        let status = send_1(
            server.proxy(),
            "POST",
            "Connection: x-named\r\n",
            "a",
            &text,
        );
        assert_eq!(status, 200);
        let check = |client: &str, named: bool| {
            let saw = server.saw().0.expect("a request");
            for (name, _) in lines {
                let passes = name == "x-good" || named && name == "x-named";
                let what = format!("{client} to {}: {name}", server.name());
                assert_eq!(saw.trailers.has(name), passes, "{what}: {:?}", saw.trailers);
            }
            assert_eq!(saw.fields.get("x-user").as_deref(), Some("nobody"));
        };
        check("h1", false);
        let block = lines.iter().fold(Block::new(), |b, (n, v)| b.field(n, v));
        assert_eq!(
            send_2(server.proxy(), Block::post("/t"), "a", block),
            (200, None)
        );
        check("h2", true);
    }
}

with_1_2_and_8_workers!(
    trailers_reach_the_server,
    bodies_without_trailers_keep_their_length,
    trailers_are_repeated_with_the_request,
    trailers_are_no_way_around_filters
);

/// Names of framing, routing and identity; line breaks; what is too large: no server takes such a request for a whole one.
#[test]
fn h2_smuggling_by_trailers() {
    for site in ["proxy \"u\"", "buffer request=\"64KiB\"\nproxy \"u\""] {
        for server in Server::both("", "", site) {
            let before = server.saw().1;
            let many = || (0..40).fold(Block::new(), |b, i| b.field(format!("x-{i}"), "v"));
            let malformed = Some(code::PROTOCOL);
            for (what, block, status, reset) in [
                ("host", Block::new().field("host", "evil"), 400, None),
                (
                    "length",
                    Block::new().field("content-length", "3"),
                    400,
                    None,
                ),
                (
                    "look-alike",
                    Block::new().field("content_length", "3"),
                    400,
                    None,
                ),
                ("cookie", Block::new().field("cookie", "a=b"), 400, None),
                (
                    "authorization",
                    Block::new().field("authorization", "x"),
                    400,
                    None,
                ),
                (
                    "forwarded",
                    Block::new().field("x-forwarded-for", "::1"),
                    400,
                    None,
                ),
                (
                    "forwarded_",
                    Block::new().field("x_forwarded_for", "::1"),
                    400,
                    None,
                ),
                ("trailer", Block::new().field("trailer", "x"), 400, None),
                ("many", many(), 400, None),
                (
                    "large",
                    Block::new().field("x", "y".repeat(9_000)),
                    400,
                    None,
                ),
                (
                    "coding",
                    Block::new().field("transfer-encoding", "chunked"),
                    0,
                    malformed,
                ),
                (
                    "connection",
                    Block::new().field("connection", "x"),
                    0,
                    malformed,
                ),
                ("pseudo", Block::new().field(":path", "/evil"), 0, malformed),
                (
                    "line break",
                    Block::new().field("x", "a\r\nContent-Length: 3"),
                    0,
                    malformed,
                ),
                (
                    "its end",
                    Block::new().field("x", "a\r\n\r\nGET / HTTP/1.1"),
                    0,
                    malformed,
                ),
                ("name", Block::new().field("x: y\r\nz", "a"), 0, malformed),
            ] {
                for (form, head) in [
                    ("no length", Block::post("/t")),
                    (
                        "announced",
                        Block::post("/t")
                            .field("content-length", "1")
                            .field("trailer", "x"),
                    ),
                ] {
                    let what = format!("{what}, {form}, to {}, {site}", server.name());
                    let answer = send_2(server.proxy(), head, "a", block.clone());
                    assert_eq!(answer, (status, reset), "{what}");
                }
            }
            // A body is not as long as was said, whatever ends it.
            for (n, body) in [("2", "a"), ("1", ""), ("0", "a")] {
                let head = Block::post("/t")
                    .field("content-length", n)
                    .field("trailer", "x");
                let answer = send_2(server.proxy(), head, body, Block::new().field("x", "y"));
                assert_eq!(answer, (0, malformed), "{n} and {body:?}");
            }
            let last = server.saw();
            let whole = match &server {
                Server::Http1(_) => last.1,
                Server::Http2(..) => last.1 - before,
            };
            assert_eq!(whole, 0, "to {}, {site}", server.name());
            // Whoever comes next is not answered what others provoked.
            assert_eq!(send_1(server.proxy(), "POST", "", "a", ""), 200);
        }
    }
}

/// A request without a body for a server that may overlook one: its connection is not used again (CL.0).
#[test]
fn a_stream_that_goes_on_is_a_body() {
    let rig = Rig::plain();
    for method in ["GET", "DELETE", "OPTIONS"] {
        let head = Block::request(method, "/t").field("content-length", "0");
        let answer = send_2(&rig.proxy, head, "", Block::new().field("x-t", "v"));
        assert_eq!(answer, (200, None), "{method}");
        let before = rig.one();
        assert_eq!(before.trailers.get("x-t").as_deref(), Some("v"), "{method}");
        rig.alive();
        let after = rig.one();
        assert_ne!(before.conn, after.conn, "{method}");
    }
    let strict = Rig::of("", "reject-body-on-get #true\nproxy \"u\"");
    let head = Block::get("/t").field("content-length", "0");
    let answer = send_2(&strict.proxy, head, "", Block::new().field("x-t", "v"));
    assert_eq!(answer.0, 400);
}

/// An answer of no length, and trailers behind it.
#[test]
fn answers_of_length_0_have_trailers() {
    let origin = H2Origin::start(None, |link, _, _| {
        let Some(mut peer) = Peer::serve(link, &[]) else {
            return;
        };
        for id in (1..).step_by(2) {
            if !peer.until(|p| p.streams.get(&id).is_some_and(|s| s.ended)) {
                return;
            }
            let head = Block::status(200).field("content-length", "0");
            peer.frame(&Frame::headers(id, head, false));
            peer.frame(&Frame::headers(id, Block::new().field("x-sum", "7"), true));
        }
    });
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n server \"{}\"\n protocol \"h2\"\n}}\nsite \"*\" {{ proxy \"u\" }}",
            origin.addr()
        ),
    ));
    let mut peer = Peer::connect(proxy.addr());
    let answer = peer.ask(Block::get("/").field("te", "trailers"));
    assert_eq!(answer.field("content-length").as_deref(), Some("0"));
    let sum = answer.trailers.and_then(|t| t.get("x-sum"));
    assert_eq!(sum.as_deref(), Some("7"));
    for (te, sum) in [
        ("Connection: TE\r\nTE: trailers\r\n", Some("7")),
        ("", None),
    ] {
        let mut c = proxy.connect();
        let answer = c.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{te}\r\n"));
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(answer.trailers.get("x-sum").as_deref(), sum);
    }
    let done = || proxy.access_log().len() >= 3;
    assert!(eventually(PATIENCE, done), "{}", proxy.stderr());
}
