//! The cache while things go wrong: who fetches leaves or stands still, the origin fails, the process changes. Each time everybody
//! else gets a right answer, and nothing is left behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::{Client, End};
use narthex_e2e::kit::cached::{FRESH, ask, is_hit, rig, stored};
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::h2peer::{self, Ask, RawServer, frame};
use narthex_e2e::kit::origin::{Origin, Step, answer};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};

/// A chunked head, half a body, a gate, the other half.
fn halves(gate: &str) -> Vec<Step> {
    let first =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n4\r\nhalf\r\n");
    vec![
        Step::ReadBody,
        Step::Send(first.into_bytes()),
        Step::Gate(gate.into()),
        Step::Send(b"4\r\nrest\r\n0\r\n\r\n".to_vec()),
    ]
}

/// Nothing is asked of the origin any more.
#[track_caller]
fn is_calm(rig: &Rig) {
    let busy = || {
        let metrics = rig.proxy.metrics();
        let lines = metrics
            .lines()
            .filter(|l| l.starts_with("narthex_server_requests_in_flight"));
        lines
            .filter(|l| !l.ends_with(" 0"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(eventually(PATIENCE, || busy().is_empty()), "{:?}", busy());
}

/// A follower that knows no chunks gets an answer that ends with its connection.
#[test]
fn a_follower_of_http10() {
    let rig = rig("cache");
    rig.origin.on("/t", halves("rest"));
    let mut first = rig.connect();
    first.send(get("/t", ""));
    first.read_past(b"half");
    let mut second = rig.connect();
    second.send("GET /t HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    second.read_past(b"half");
    rig.origin.open("rest");
    let (rest, end) = second.rest();
    assert_eq!((rest.as_slice(), end), (&b"rest"[..], End::Eof));
    assert_eq!(ask(&rig, "/t", "").text(), "halfrest");
    is_calm(&rig);
}

/// The end of a body comes while others begin to read it, again and again.
#[test]
fn a_body_ends_while_others_begin() {
    let rig = rig("cache");
    for round in 0..60 {
        let path = format!("/{round}");
        let script: Vec<Step> = [
            Step::ReadBody,
            Step::Send(
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n")
                    .into_bytes(),
            ),
        ]
        .into_iter()
        .chain((0..8).map(|_| Step::Send(b"4\r\nbody\r\n".to_vec())))
        .chain([Step::Send(b"0\r\n\r\n".to_vec())])
        .collect();
        rig.origin.on(&path, script);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = rig.connect();
                    for _ in 0..4 {
                        assert_eq!(client.ask(get(&path, "")).text(), "body".repeat(8));
                    }
                });
            }
        });
    }
    is_calm(&rig);
}

/// One who asks first and then reads nothing keeps nobody waiting.
#[test]
fn a_slow_first_client_keeps_nobody_waiting() {
    let rig = rig("cache");
    let body = "0123456".repeat(2_000_000);
    for (path, framed) in [("/length", true), ("/chunks", false)] {
        let mut bytes = stored(FRESH, &body);
        if !framed {
            bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes();
        }
        rig.origin.on(path, answer(bytes));
        let mut slow = rig.connect();
        slow.send(get(path, ""));
        assert!(!slow.silent_for(PATIENCE));
        let begun = Instant::now();
        let r = ask(&rig, path, "");
        assert_eq!(r.body_len, body.len() as u64, "{path}");
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            begun.elapsed()
        );
        assert!(is_hit(&ask(&rig, path, "")));
        assert_eq!(rig.origin.take(1).len(), 1);
        // And it gets all of it when it reads at last.
        let late = slow.read_response("GET").unwrap();
        assert_eq!(
            (late.body_len, late.hash == r.hash),
            (r.body_len, true),
            "{path}"
        );
        assert!(is_hit(&slow.ask(get(path, ""))));
    }
    is_calm(&rig);
}

/// Whoever leaves, at whatever moment: those who stay are served, and nothing is left.
#[test]
fn clients_leave_at_every_moment() {
    let rig = rig("cache");
    for (n, (leader, follower)) in [(true, false), (false, true), (true, true)]
        .into_iter()
        .enumerate()
    {
        for (m, head) in [false, true].into_iter().enumerate() {
            let path = format!("/{n}{m}");
            let gate = format!("g{n}{m}");
            let mut script = halves(&gate);
            if !head {
                script = vec![
                    Step::ReadBody,
                    Step::Gate(gate.clone()),
                    Step::Send(stored(FRESH, "halfrest")),
                ];
            }
            rig.origin.on(&path, script);
            let mut clients: Vec<Client> = (0..3).map(|_| rig.connect()).collect();
            for client in &mut clients {
                client.send(get(&path, ""));
                if head {
                    client.read_past(b"half");
                }
            }
            assert!(
                rig.origin
                    .wait_for(PATIENCE, |seen| seen.iter().any(|s| s.path() == path))
            );
            rig.alive();
            let mut stays = clients.pop().unwrap();
            let mut follows = clients.pop().unwrap();
            let mut leads = clients.pop().unwrap();
            if leader {
                leads.reset();
            }
            if follower {
                follows.reset();
            }
            rig.alive();
            rig.origin.open(&gate);
            stays.read_past(b"rest");
            assert_eq!(ask(&rig, &path, "").text(), "halfrest");
            is_calm(&rig);
        }
    }
    // All of them.
    rig.origin.on("/all", halves("all"));
    let mut clients: Vec<Client> = (0..3).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(get("/all", ""));
        client.read_past(b"half");
    }
    clients.iter_mut().for_each(Client::reset);
    rig.origin.on("/all", answer(stored(FRESH, "anew")));
    is_calm(&rig);
    assert!(eventually(PATIENCE, || ask(&rig, "/all", "").text() == "anew"));
}

/// One who stands still before its head is not waited for longer than the rule says, and later ones do not wait at all.
#[test]
fn a_stuck_fetch_is_not_waited_for() {
    let rig = rig("cache lock-wait=\"300ms\" lock-age=\"600ms\"");
    rig.origin.next([
        Step::ReadBody,
        Step::Gate("never".into()),
        Step::Send(stored(FRESH, "late")),
    ]);
    let mut stuck = rig.connect();
    stuck.send(get("/t", ""));
    assert!(rig.origin.wait_heads(1));
    rig.origin
        .on("/t", answer(stored("Cache-Control: max-age=1\r\n", "soon")));
    let begun = Instant::now();
    assert_eq!(ask(&rig, "/t", "").text(), "soon");
    assert!(begun.elapsed() < Duration::from_secs(3));
    rig.origin.open("never");
    assert_eq!(stuck.read_response("GET").unwrap().text(), "late");
    is_calm(&rig);
}

/// An attempt that fails, and another that does not: the answer is stored, for all.
#[test]
fn a_retried_fetch_is_stored() {
    for more in ["", "buffer response=\"64KiB\"\n"] {
        let rig = Rig::full(
            Origin::start(),
            "",
            "retry attempts=2 budget=\"100%\" on=\"connect,reset,503\"",
            &format!("{more}cache\nproxy \"u\""),
        );
        rig.origin.next([Step::ReadBody, Step::Reset]);
        rig.origin.on("/t", answer(stored(FRESH, "good")));
        assert_eq!(ask(&rig, "/t", "").text(), "good");
        assert!(is_hit(&ask(&rig, "/t", "")));
        // A body that fails is not half of one and half of another.
        rig.origin.next([
            Step::ReadBody,
            Step::Send(
                format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n{FRESH}\r\nhalf").into_bytes(),
            ),
            Step::Reset,
        ]);
        rig.origin.on("/u", answer(stored(FRESH, "good")));
        let mut client = rig.connect();
        client.send(get("/u", ""));
        let _ = client.read_response("GET");
        assert_eq!(ask(&rig, "/u", "").text(), "good");
        is_calm(&rig);
    }
}

/// A buffered answer fills an object, too, and its client may be slow.
#[test]
fn a_buffered_answer_is_stored() {
    let rig = rig("buffer response=\"64KiB\"\ncache");
    let body = "b".repeat(3_000_000);
    rig.origin.on("/t", answer(stored(FRESH, &body)));
    let mut slow = rig.connect();
    slow.send(get("/t", ""));
    slow.read_past(b"\r\n\r\n");
    assert_eq!(slow.read_exactly(body.len()).len(), body.len());
    let r = ask(&rig, "/t", "");
    assert!(is_hit(&r) && r.body_len == body.len() as u64);
    is_calm(&rig);
}

/// An answer that only the end of its connection ends, and one with interim answers before it.
#[test]
fn answers_of_every_framing_are_stored_whole() {
    let rig = rig("cache");
    let head = |framing: &str| format!("HTTP/1.1 200 OK\r\n{framing}{FRESH}\r\n").into_bytes();
    for (n, script) in [
        vec![
            Step::Send(head("Connection: close\r\n")),
            Step::Send(b"halfrest".to_vec()),
            Step::Close,
        ],
        vec![
            Step::Send(head("Connection: close\r\nContent-Length: 8\r\n")),
            Step::Send(b"halfrest".to_vec()),
            Step::Close,
        ],
        vec![
            Step::Send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec()),
            Step::Send(stored(FRESH, "halfrest")),
        ],
        vec![
            Step::Send(head("Transfer-Encoding: chunked\r\nTrailer: X-T\r\n")),
            Step::Send(b"8\r\nhalfrest\r\n0\r\nX-T: t\r\n\r\n".to_vec()),
        ],
        vec![
            Step::Send(format!("HTTP/1.0 200 OK\r\n{FRESH}\r\nhalfrest").into_bytes()),
            Step::Close,
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{n}");
        rig.origin
            .on(&path, [vec![Step::ReadBody], script].concat());
        for (m, version) in ["1.1", "1.0", "1.1"].iter().enumerate() {
            let r = rig.connect().ask(format!(
                "GET {path} HTTP/{version}\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n"
            ));
            assert_eq!(r.text(), "halfrest", "{n}");
            assert_eq!(is_hit(&r), m > 0, "{n}");
        }
        let r = h2peer::ask(rig.proxy.addr(), Ask::get(&path));
        assert_eq!(
            (r.status, r.body.as_slice()),
            (200, &b"halfrest"[..]),
            "{n}"
        );
        assert!(r.broken.is_none());
    }
    is_calm(&rig);
}

/// What turns out to be too large is sent to all who follow, whole, and not kept.
#[test]
fn an_object_grows_too_large_under_its_readers() {
    let rig = rig("cache object-max=\"64KiB\"");
    let block = format!("10000\r\n{}\r\n", "x".repeat(65_536)).into_bytes();
    rig.origin.on(
        "/t",
        [
            Step::ReadBody,
            Step::Send(
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n1\r\na\r\n")
                    .into_bytes(),
            ),
            Step::Gate("go".into()),
            Step::SendMany { block, times: 40 },
            Step::Send(b"0\r\n\r\n".to_vec()),
        ],
    );
    let mut clients: Vec<Client> = (0..5).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(get("/t", ""));
    }
    assert!(eventually(PATIENCE, || clients
        .iter_mut()
        .all(
            |c| !c.pending().is_empty() || !c.silent_for(Duration::from_millis(5))
        )));
    rig.origin.open("go");
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                assert_eq!(
                    client.read_response("GET").unwrap().body_len,
                    40 * 65_536 + 1
                )
            });
        }
    });
    assert_eq!(rig.origin.take(1).len(), 1);
    assert!(!is_hit(&ask(&rig, "/t", "")));
    is_calm(&rig);
}

/// A store that has room for nothing, and a site whose quota is as small.
#[test]
fn a_tiny_store() {
    let origin = Origin::start();
    let body = "t".repeat(100_000);
    origin.otherwise(answer(stored(FRESH, &body)));
    for (top, rule) in [
        ("cache memory=\"64KiB\"", "cache"),
        ("", "cache quota=\"64KiB\""),
    ] {
        let text = format!(
            "{}\n{top}\n",
            Rig::text(&origin, "", "", &format!("{rule}\nproxy \"u\""))
        );
        let proxy = Proxy::start(&text);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let proxy = &proxy;
                let body = &body;
                scope.spawn(move || {
                    let mut client = proxy.connect();
                    for m in 0..20 {
                        assert_eq!(
                            client.ask(get(&format!("/{}", (n * m) % 7), "")).body_len,
                            body.len() as u64
                        );
                    }
                });
            }
        });
    }
}

/// A server of HTTP/2 that resets in the middle, and one that ends with trailers.
#[test]
fn a_server_of_http2() {
    let literal = |name: &str, value: &str| {
        let mut out = vec![0, name.len() as u8];
        out.extend_from_slice(name.as_bytes());
        out.push(value.len() as u8);
        out.extend_from_slice(value.as_bytes());
        out
    };
    let asked = AtomicUsize::new(0);
    let server = RawServer::start(move |conn| {
        conn.send(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        while let Some(stream) = conn.request() {
            let mut head = vec![0x88];
            head.extend(literal("cache-control", "max-age=100"));
            conn.send(&frame(1, 4, stream, &head));
            conn.send(&frame(0, 0, stream, b"half"));
            if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                conn.send(&frame(3, 0, stream, &[0, 0, 0, 2]));
            } else {
                conn.send(&frame(0, 0, stream, b"rest"));
                conn.send(&frame(1, 5, stream, &literal("x-trailer", "t")));
            }
        }
    });
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n server \"{}\"\n protocol \"h2\"\n}}\nsite \"*\" {{ cache; proxy \"u\" }}",
            server.place()
        ),
    ));
    let mut client = proxy.connect();
    client.send(get("/t", ""));
    assert!(!client.read_response("GET").is_ok_and(|r| r.status == 200));
    for n in 0..3 {
        let r = proxy.connect().ask(get("/t", ""));
        assert_eq!((r.text().as_str(), is_hit(&r)), ("halfrest", n > 0));
        let r = h2peer::ask(proxy.addr(), Ask::get("/t"));
        assert_eq!(r.body, b"halfrest");
    }
}

/// The configuration changes, or the process, while objects fill.
#[test]
fn a_reload_and_an_upgrade_in_the_middle() {
    let origin = Origin::start();
    for n in 0..2 {
        origin.on(&format!("/{n}"), halves(&format!("g{n}")));
    }
    let mut rig = Rig::full(origin, "", "", "cache\nproxy \"u\"");
    for n in 0..2 {
        let path = format!("/{n}");
        let mut clients: Vec<Client> = (0..3).map(|_| rig.connect()).collect();
        for client in &mut clients {
            client.send(get(&path, ""));
            client.read_past(b"half");
        }
        if n == 0 {
            let text = Rig::text(
                &rig.origin,
                "",
                "",
                "cache ttl=\"1s\"\nheader response { set \"X-New\" \"yes\" }\nproxy \"u\"",
            );
            rig.proxy.reload_ok(&text);
        } else {
            rig.proxy.upgrade_ok();
        }
        rig.origin.open(&format!("g{n}"));
        for client in &mut clients {
            client.read_past(b"rest");
            client.read_past(b"0\r\n\r\n");
        }
        assert_eq!(ask(&rig, &path, "").text(), "halfrest");
    }
}

/// A fetch that nobody waits for does not keep a process that ends.
#[test]
fn a_process_ends_under_a_fetch_of_its_own() {
    let mut rig = rig("cache");
    rig.origin.next(answer(stored(
        "Cache-Control: max-age=0, stale-while-revalidate=100\r\n",
        "old",
    )));
    ask(&rig, "/t", "");
    rig.origin.on(
        "/t",
        [
            Step::ReadBody,
            Step::Pause(Duration::from_secs(2)),
            Step::Send(stored(FRESH, "new")),
        ],
    );
    assert_eq!(ask(&rig, "/t", "").text(), "old");
    assert!(rig.origin.wait_heads(2));
    let begun = Instant::now();
    assert!(rig.proxy.stop().success());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

/// A range of what is too large to be kept does not bring in all of it, however it is framed.
#[test]
fn a_range_of_something_huge_is_not_a_fetch_of_it() {
    const BLOCK: usize = 1 << 20;
    const TIMES: usize = 200;
    let rig = rig("cache object-max=\"1MiB\"");
    let whole = (BLOCK * TIMES) as u64;
    let chunk = [
        format!("{BLOCK:x}\r\n").into_bytes(),
        vec![b'x'; BLOCK],
        b"\r\n".to_vec(),
    ]
    .concat();
    for (path, framing, block) in [
        (
            "/length",
            format!("Content-Length: {whole}"),
            vec![b'x'; BLOCK],
        ),
        ("/chunks", "Transfer-Encoding: chunked".to_owned(), chunk),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n{FRESH}\r\n").into_bytes();
        // The fetch behind the client; then the client's own request.
        rig.origin.next([
            Step::ReadBody,
            Step::Send(head),
            Step::SendMany {
                block,
                times: TIMES,
            },
            Step::Reached(format!("all of {path}")),
        ]);
        rig.origin.on(
            path,
            answer("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/1000000000\r\nContent-Length: 1\r\n\r\nx"),
        );
        let mut client = rig.connect();
        client.send(get(path, "Range: bytes=0-0\r\n"));
        if path == "/length" {
            assert_eq!(client.read_response("GET").unwrap().status, 206);
        } else {
            // What has no length yet is sent as a whole, while it comes.
            assert!(!client.silent_for(PATIENCE));
            client.reset();
        }
        is_calm(&rig);
        assert!(
            rig.origin
                .wait_conns(PATIENCE, |conns| conns.iter().any(|c| c.ended.is_some()))
        );
    }
    let conns = rig.origin.conns();
    assert!(
        conns.iter().filter(|c| c.ended.is_some()).count() >= 2,
        "{:?}",
        conns.iter().map(|c| c.ended).collect::<Vec<_>>()
    );
}

/// A head that is as large as it may be keeps all its fields when it is sent from the cache.
#[test]
fn a_head_at_its_limit_loses_nothing() {
    let rig = rig("cache\nheader response { set \"X-New\" \"yes\" }");
    for n in 80..=128 {
        let path = format!("/{n}");
        let many = (0..n)
            .map(|i| format!("X-{i}: v\r\n"))
            .collect::<Vec<_>>()
            .concat();
        rig.origin.on(
            &path,
            answer(format!(
                "HTTP/1.1 200 OK\r\n{FRESH}{many}Content-Length: 1\r\nX-Last: kept\r\n\r\nx"
            )),
        );
        let first = ask(&rig, &path, "");
        let second = ask(&rig, &path, "");
        assert_eq!(first.status, second.status, "{n}");
        if first.status == 200 {
            assert!(is_hit(&second), "{n}");
            assert_eq!(second.fields.get("x-last").as_deref(), Some("kept"), "{n}");
            let r = h2peer::ask(rig.proxy.addr(), Ask::get(&path));
            assert_eq!(r.field("x-last"), Some("kept"), "{n}");
        }
    }
}
