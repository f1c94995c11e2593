//! Bodies: streaming in constant memory, trailers, buffering, slow peers.
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

use narthex_e2e::kit::attack::{Client, Framing};
use narthex_e2e::kit::craft::{get, request, sized};
use narthex_e2e::kit::origin::{Ended, Origin, Step, answer};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::sock::Place;
use narthex_e2e::kit::{Fnv, PATIENCE, full};

/// Size of the large transfers.
fn large() -> usize {
    if full() { 10 << 30 } else { 256 << 20 }
}

/// Most that the resident set may grow by while a large body passes.
const GROWTH_KIB: u64 = 32 << 10;

fn block() -> Vec<u8> {
    (0..1 << 20)
        .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn hash_of(blocks: usize) -> Fnv {
    let block = block();
    let mut h = Fnv::default();
    (0..blocks).for_each(|_| h.add(&block));
    h
}

#[test]
fn large_download_in_constant_memory() {
    let rig = Rig::plain();
    let blocks = large() >> 20;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        blocks << 20
    );
    rig.origin.on(
        "/large",
        [
            Step::Send(head.into_bytes()),
            Step::SendMany {
                block: block(),
                times: blocks,
            },
        ],
    );
    rig.alive();
    let before = rig.proxy.rss_kib();
    let mut c = rig.connect();
    c.keep = 0;
    let r = c.ask(get("/large", ""));
    let after = rig.proxy.rss_kib();
    assert_eq!(
        (r.body_len, r.hash),
        ((blocks << 20) as u64, hash_of(blocks))
    );
    assert!(
        after < before + GROWTH_KIB,
        "{before} KiB before, {after} KiB after"
    );
    assert_eq!(
        c.ask(get("/x", "")).status,
        200,
        "the connection is good for more"
    );
}

#[test]
fn large_upload_in_constant_memory() {
    let rig = Rig::plain();
    let blocks = large() >> 20;
    rig.alive();
    let before = rig.proxy.rss_kib();
    let block = block();
    for chunked in [false, true] {
        rig.origin.take(0);
        let mut c = rig.connect();
        let framing = if chunked {
            "Transfer-Encoding: chunked\r\n".to_owned()
        } else {
            format!("Content-Length: {}\r\n", blocks << 20)
        };
        c.send(request("PUT", "/up", &framing, ""));
        for _ in 0..blocks {
            if chunked {
                c.send(format!("{:x}\r\n", block.len()));
            }
            assert!(c.send(&block));
            if chunked {
                c.send("\r\n");
            }
        }
        if chunked {
            c.send("0\r\n\r\n");
        }
        assert_eq!(c.read_response("PUT").unwrap().status, 200);
        let seen = rig.one();
        assert_eq!(
            (seen.body_len, seen.hash),
            ((blocks << 20) as u64, hash_of(blocks)),
            "chunked: {chunked}"
        );
    }
    let after = rig.proxy.rss_kib();
    assert!(
        after < before + GROWTH_KIB,
        "{before} KiB before, {after} KiB after"
    );
}

/// A client that doesn't read holds the origin back: memory stays bounded (streaming is the default).
#[test]
fn backpressure_to_the_origin() {
    let rig = Rig::plain();
    let size = 64_usize << 20;
    rig.origin.on(
        "/big",
        [
            Step::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes()),
            Step::SendMany {
                block: block(),
                times: size >> 20,
            },
            Step::Reached("sent".into()),
        ],
    );
    rig.alive();
    let before = rig.proxy.rss_kib();
    let mut held: Vec<_> = (0..4)
        .map(|_| {
            let mut c = rig.connect();
            c.sock().small_receive_buffer(4096);
            c.send(get("/big", ""));
            // The head has come, the rest is not read.
            c.read_head().unwrap();
            c
        })
        .collect();
    rig.alive();
    let during = rig.proxy.rss_kib();
    assert!(
        during < before + GROWTH_KIB,
        "{before} KiB before, {during} KiB with four stalled clients"
    );
    // Going away ends the origins' work.
    held.clear();
    assert!(rig.origin.wait_conns(PATIENCE, |cs| {
        cs.iter()
            .filter(|c| matches!(c.ended, Some(Ended::Reset | Ended::Fin)))
            .count()
            >= 4
    }));
}

/// "Spoon feeding": the answer is taken at once and the origin released, however slow the client is.
#[test]
fn response_buffering_releases_the_origin() {
    // Far more than the kernel's socket buffers hold.
    let size = 32_usize << 20;
    for setting in [
        "buffer response=\"48MiB\"",
        "buffer response=\"64KiB\" disk=\"64MiB\" directory=\"@DIR@\"",
    ] {
        let rig = Rig::of("", &format!("{setting}\nproxy \"u\""));
        let body: Vec<u8> = block().into_iter().cycle().take(size).collect();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        rig.origin.on(
            "/page",
            [
                Step::Send([head.as_bytes(), &body].concat()),
                Step::Reached("released".into()),
            ],
        );
        let mut c = rig.connect();
        c.sock().small_receive_buffer(64 << 10);
        c.send(get("/page", ""));
        assert!(
            rig.origin.wait_gate("released"),
            "the origin waits for a client that reads nothing ({setting})"
        );
        // Its connection serves others meanwhile.
        rig.alive();
        c.keep = 0;
        let r = c.read_response("GET").unwrap();
        assert_eq!(
            (r.body_len, r.hash),
            (size as u64, Fnv::of(&body)),
            "{setting}"
        );
    }
}

/// A buffered request reaches the origin only when it is whole.
#[test]
fn request_buffering_waits_for_the_whole_body() {
    let rig = Rig::of(
        "",
        "buffer request=\"64KiB\" disk=\"8MiB\" directory=\"@DIR@\"\nproxy \"u\"",
    );
    for size in [10_usize, 1000, 200_000] {
        for chunked in [false, true] {
            rig.origin.take(0);
            let heads = rig.origin.seen().len();
            let body = "b".repeat(size);
            let (framing, body) = if chunked {
                (
                    "Transfer-Encoding: chunked\r\n".to_owned(),
                    format!("{size:x}\r\n{body}\r\n0\r\n\r\n"),
                )
            } else {
                (format!("Content-Length: {size}\r\n"), body)
            };
            let (first, last) = body.split_at(body.len() - 8);
            let mut c = rig.connect();
            c.send(request("POST", "/b", &framing, first));
            // Another request overtakes the unfinished one, so the proxy has had its turn.
            rig.alive();
            rig.alive();
            assert_eq!(
                rig.origin.seen().len(),
                heads + 2,
                "an unfinished request reached the origin"
            );
            c.send(last);
            assert_eq!(c.read_response("POST").unwrap().status, 200);
            let seen = rig.origin.take(3);
            assert_eq!(seen.last().unwrap().body_len, size as u64);
        }
    }
    // One that is given up never reaches it at all.
    let heads = rig.origin.seen().len();
    let mut c = rig.connect();
    c.send(request("POST", "/never", "Content-Length: 100\r\n", "some"));
    c.reset();
    rig.alive();
    assert_eq!(rig.origin.seen().len(), heads + 1);
}

/// A body that fills the buffer to its last byte fits; the end of a chunked one needs no room.
#[test]
fn request_buffering_takes_exactly_what_it_promises() {
    let rig = Rig::of("", "buffer request=\"64KiB\"\nproxy \"u\"");
    let full = 64 << 10;
    for (size, more, status) in [
        (full, "", 200),
        (full, "1\r\nx\r\n", 413),
        (full - 1, "1\r\nx\r\n", 200),
        (full + 1, "", 413),
    ] {
        let body = "b".repeat(size);
        for end in ["0\r\n\r\n", "0\r\nX-T: v\r\n\r\n"] {
            let mut c = rig.connect();
            c.send(request("POST", "/b", "Transfer-Encoding: chunked\r\n", ""));
            c.send(format!("{size:x}\r\n{body}\r\n"));
            // The buffer is full before the end comes.
            rig.alive();
            c.send(format!("{more}{end}"));
            let r = c.read_response("POST").unwrap();
            assert_eq!(r.status, status, "{size} {more:?} {end:?}");
        }
    }
    let mut c = rig.connect();
    c.send(request(
        "POST",
        "/b",
        &format!("Content-Length: {full}\r\n"),
        &"b".repeat(full),
    ));
    assert_eq!(c.read_response("POST").unwrap().status, 200);
    let mut c = rig.connect();
    c.send(request(
        "POST",
        "/b",
        &format!("Content-Length: {}\r\n", full + 1),
        "",
    ));
    c.send("b".repeat(full + 1));
    assert_eq!(c.read_response("POST").unwrap().status, 413);
}

/// Trailers larger than what is left of a buffer that is in use arrive whole.
#[test]
fn response_buffering_has_room_for_the_trailers() {
    let origin = Origin::start();
    let proxy = Proxy::start(&format!(
        "version 1\nworkers 1\nlisten \"127.0.0.1:@PORT@\"\nlisten \"unix:@DIR@/in.sock\" {{ limits trailers=\"64KiB\" }}\n\
         upstream \"u\" {{ server \"{}\" }}\nsite \"*\" {{ buffer response=\"64KiB\"; proxy \"u\" }}\n",
        origin.place()
    ));
    // A unix socket takes some 210 KiB of what is not read; the rest of the body is in the buffer when the trailers come.
    let size = 250_000;
    let trailer = "t".repeat(60_000);
    origin.on(
        "/t",
        [
            Step::ReadBody,
            Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            Step::Send(format!("{size:x}\r\n{}\r\n", "b".repeat(size)).into_bytes()),
            Step::Send(format!("0\r\nX-T: {trailer}\r\n\r\n").into_bytes()),
        ],
    );
    let mut c = Client::to(&Place::from(proxy.dir().join("in.sock").as_path()));
    c.send(get("/t", "TE: trailers\r\nConnection: TE\r\n"));
    assert!(origin.wait_heads(1));
    for _ in 0..5 {
        assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
    }
    let r = c.read_response("GET").unwrap();
    assert_eq!((r.status, r.body_len), (200, size as u64));
    assert_eq!(r.trailers.get("x-t"), Some(trailer));
}

/// Trailers to the origin and to a client that asks for them; never to one that doesn't.
#[test]
fn trailers_both_ways() {
    let rig = Rig::plain();
    rig.origin.on("/t", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n"));
    for (te, want) in [
        ("Connection: TE\r\nTE: trailers\r\n", true),
        ("Connection: te\r\nTE: gzip, trailers\r\n", true),
        ("", false),
    ] {
        let mut c = rig.connect();
        let r = c.ask(get("/t", te));
        assert_eq!((r.framing, r.text().as_str()), (Framing::Chunked, "abc"));
        assert_eq!(r.trailers.has("x-sum"), want, "{te:?}: {:?}", r.trailers);
        assert_eq!(c.ask(get("/n", "")).status, 200);
    }
    // An origin's trailers obey the same rules.
    for line in [
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Set-Cookie\x00: a",
        "X : y",
    ] {
        rig.origin.on("/bad", answer(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{line}\r\n\r\n")));
        let mut c = rig.connect();
        c.send(get("/bad", "Connection: TE\r\nTE: trailers\r\n"));
        if let Ok(r) = c.read_response("GET") {
            assert!(r.trailers.0.is_empty(), "{line}: {:?}", r.trailers);
        }
        rig.alive();
    }
}

/// Chunk by chunk, an answer in progress reaches the client before it is complete (server-sent events).
#[test]
fn answers_are_not_held_back() {
    let rig = Rig::plain();
    rig.origin.on(
        "/events",
        [
            Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n9\r\ndata: 1\n\n\r\n".to_vec()),
            Step::Gate("more".into()),
            Step::Send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n".to_vec()),
        ],
    );
    let mut c = rig.connect();
    c.send(get("/events", ""));
    c.read_past(b"data: 1\n\n");
    rig.origin.open("more");
    c.read_past(b"data: 2\n\n");
}

/// And so does an upload reach the origin before it is complete.
#[test]
fn uploads_are_not_held_back() {
    let rig = Rig::plain();
    for framing in ["Content-Length: 8\r\n", "Transfer-Encoding: chunked\r\n"] {
        let chunked = framing.starts_with('T');
        let path = if chunked { "/c" } else { "/l" };
        rig.origin.on(
            path,
            [
                Step::ReadSome(4),
                Step::Reached(path.into()),
                Step::ReadBody,
                Step::Echo(200),
            ],
        );
        let mut c = rig.connect();
        c.send(request(
            "POST",
            path,
            framing,
            if chunked { "4\r\nsome\r\n" } else { "some" },
        ));
        assert!(rig.origin.wait_gate(path), "{framing}");
        c.send(if chunked {
            "4\r\nmore\r\n0\r\n\r\n"
        } else {
            "more"
        });
        assert_eq!(c.read_response("POST").unwrap().status, 200);
        assert_eq!(rig.origin.seen().last().unwrap().body, b"somemore");
    }
}

/// Bodies in pieces of every size arrive unchanged.
#[test]
fn bodies_in_pieces() {
    let rig = Rig::plain();
    let text: String = (0..3000)
        .map(|i| char::from(b'a' + (i % 26) as u8))
        .collect();
    let mut chunks = String::new();
    let mut rest = text.as_str();
    for n in (1..).map(|n| n % 97 + 1) {
        let (head, tail) = rest.split_at(n.min(rest.len()));
        chunks = format!("{chunks}{:x}\r\n{head}\r\n", head.len());
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    chunks += "0\r\n\r\n";
    for piece in [1, 2, 3, 13, 997] {
        for bytes in [
            sized("/p", "", &text),
            request("POST", "/p", "Transfer-Encoding: chunked\r\n", &chunks),
        ] {
            let mut c = rig.connect();
            c.send_paced(bytes.as_bytes(), piece, Duration::from_micros(20));
            assert_eq!(c.read_response("POST").unwrap().status, 200);
            assert_eq!(rig.one().body, text.as_bytes(), "pieces of {piece}");
        }
        rig.origin.on(
            "/slow",
            [
                Step::ReadBody,
                Step::SendSlow {
                    bytes: format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
                        .into_bytes(),
                    piece,
                    gap: Duration::from_micros(20),
                },
            ],
        );
        assert_eq!(
            rig.connect().ask(get("/slow", "")).text(),
            text,
            "answer in pieces of {piece}"
        );
        rig.origin.take(1);
    }
}

/// An origin on a unix socket, and one on IPv6.
#[test]
fn other_kinds_of_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let unix = Origin::unix(&dir.path().join("o.sock"), "unix");
    let rig = Rig::full(unix, "", "", "proxy \"u\"");
    assert_eq!(
        rig.connect()
            .ask(get("/", ""))
            .fields
            .get("x-origin")
            .as_deref(),
        Some("unix")
    );
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let v6 = Origin::at(
            "[::1]:0".parse().unwrap(),
            "v6",
            narthex_e2e::kit::origin::Personality::Strict,
        );
        let rig = Rig::full(v6, "", "", "proxy \"u\"");
        assert_eq!(
            rig.connect()
                .ask(get("/", ""))
                .fields
                .get("x-origin")
                .as_deref(),
            Some("v6")
        );
    }
}

/// A client that reads slowly but steadily is served to the end; one that stops reading is not waited for.
#[test]
fn slow_readers() {
    let rig = Rig::of("timeout send=\"400ms\"", "proxy \"u\"");
    let size = 24_usize << 20;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    rig.origin.on(
        "/big",
        [
            Step::Send(head.into_bytes()),
            Step::SendMany {
                block: block(),
                times: size >> 20,
            },
        ],
    );
    let mut steady = rig.connect();
    steady.sock().small_receive_buffer(256 << 10);
    steady.send(get("/big", ""));
    // About 1 MiB each 50 ms: many times the allowed pause in all, and never one of it.
    let mut got = 0;
    while got < size {
        got += steady.read_exactly((1 << 20).min(size - got)).len();
        narthex_e2e::kit::pause(Duration::from_millis(50));
    }
    let mut stalled = rig.connect();
    stalled.sock().small_receive_buffer(4096);
    stalled.send(get("/big", ""));
    stalled.read_head().unwrap();
    let conn = rig.origin.seen().last().unwrap().conn;
    assert!(
        rig.origin.wait_end(conn).is_some(),
        "a client that reads nothing holds its origin for ever"
    );
}
