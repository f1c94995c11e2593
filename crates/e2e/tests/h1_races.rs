//! Both directions of an exchange at once, and ends that come at the wrong moment: what one side does must not reach the
//! other side's bytes, and nobody else's.
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

use std::fs;
use std::time::Duration;

use narthex_e2e::kit::attack::End;
use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::origin::{Origin, Script, Step};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};
use rustix::process::Signal;

fn send(s: &str) -> Step {
    Step::Send(s.as_bytes().to_vec())
}

/// Stops the proxy; it has stopped, with every thread, when this returns.
fn freeze(proxy: &Proxy) {
    proxy.signal(Signal::STOP);
    let threads = format!("/proc/{}/task", proxy.pid());
    let is_stopped = |stat: String| {
        let state = stat.rsplit(')').next().unwrap_or_default();
        state.trim_start().starts_with('T')
    };
    let stopped = eventually(PATIENCE, || {
        fs::read_dir(&threads).unwrap().all(|thread| {
            let stat = thread.unwrap().path().join("stat");
            fs::read_to_string(stat).is_ok_and(is_stopped)
        })
    });
    assert!(stopped, "SIGSTOP did not stop it");
}

/// H1-13: both sides stop inside their trailer sections, then go on, in either order. Each gets the other's whole message and
/// no byte of its own.
#[test]
fn h1_13_trailers_of_both_directions_at_once() {
    let rig = Rig::plain();
    for origin_first in [true, false] {
        let gate = format!("go-{origin_first}");
        let (before, after) = if origin_first {
            (vec![], vec![Step::ReadBody])
        } else {
            (vec![Step::ReadBody], vec![])
        };
        let script = [
            // The chunk and half of the trailers came in one packet.
            vec![
                Step::ReadSome(2),
                send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Do"),
            ],
            before,
            vec![Step::Gate(gate.clone()), send("wn: d\r\n\r\n")],
            after,
        ];
        rig.origin.on("/t", script.concat());
        let mut c = rig.connect();
        c.send(request(
            "POST",
            "/t",
            "Transfer-Encoding: chunked\r\nConnection: TE\r\nTE: trailers\r\n",
            "2\r\nhi\r\n0\r\nX-U",
        ));
        let head = c.read_past(b"\r\n\r\n");
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{head:?}");
        c.read_past(b"3\r\nabc\r\n");
        let (mut answer, mut seen) = (Vec::new(), Vec::new());
        for origin_goes_on in [origin_first, !origin_first] {
            if origin_goes_on {
                rig.origin.open(&gate);
                answer = c.read_past(b"\r\n\r\n");
            } else {
                c.send("p: u\r\n\r\n");
                // An answer that is complete before its request ends the exchange.
                if !origin_first {
                    seen = rig.origin.take(1);
                }
            }
        }
        assert_eq!(
            String::from_utf8_lossy(&answer),
            "0\r\nX-Down: d\r\n\r\n",
            "origin first: {origin_first}"
        );
        for s in seen {
            assert!(s.complete && s.garbage.is_none(), "{s:?}");
            assert_eq!(s.body, b"hi");
            assert!(!s.trailers.has("x-down"), "{:?}", s.trailers);
        }
        rig.alive();
        rig.origin.take(0);
    }
}

/// H1-31: an interim answer that is half out when the exchange fails is followed by nothing: an answer of ours would be read
/// as its end.
#[test]
fn h1_31_a_half_sent_interim_answer_is_not_followed_by_ours() {
    // More than the kernel holds for a client that reads nothing.
    let interim = format!("HTTP/1.1 103 E\r\nX: {}\r\n\r\n", "y".repeat(30_000));
    for (name, route, last) in [
        ("the client does not read", "", Step::AwaitEnd),
        (
            "the server dies",
            "buffer response=\"64KiB\"\n",
            Step::Reset,
        ),
    ] {
        let rig = Rig::of(
            "timeout send=\"300ms\"\nlimits informational=1000 response-head=\"64KiB\" response-fields=100",
            &format!("{route}proxy \"u\""),
        );
        rig.origin.on(
            "/hints",
            [
                Step::SendMany {
                    block: interim.clone().into_bytes(),
                    times: 400,
                },
                last,
            ],
        );
        let mut c = rig.connect();
        c.sock().small_receive_buffer(16 << 10);
        c.send(get("/hints", ""));
        assert!(
            rig.origin.wait_end(0).is_some(),
            "{name}: the attempt is given up"
        );
        let (bytes, end) = c.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.starts_with("HTTP/1.1 103 E\r\n"),
            "{name}: nothing came"
        );
        // An answer of ours may stand behind a whole interim one, if the kernel happened to have taken it to its end.
        for (at, _) in text.match_indices("HTTP/1.1 ").skip(1) {
            let (before, from) = text.split_at(at);
            assert!(
                before.ends_with("\r\n\r\n"),
                "{name}: a half interim answer was followed by {:?}",
                from.chars().take(80).collect::<String>()
            );
        }
        // Such an answer is whole, and its connection may go on.
        let answered = text.contains("HTTP/1.1 502 ");
        assert!(end != End::Open || answered, "{name}");
        rig.alive();
    }
}

/// A chunked body without a byte in it is a body: another attempt says its end, too.
#[test]
fn op_03_an_empty_chunked_body_is_sent_again_whole() {
    let rig = Rig::full(
        Origin::start(),
        "",
        "retry attempts=2 budget=\"100%\" on=\"connect,reset\"\neject #false\ntimeout response=\"2s\"",
        "proxy \"u\"",
    );
    for (body, trailers) in [
        ("0\r\n\r\n", "none"),
        ("0\r\nX-A: b\r\n\r\n", "some"),
        ("1\r\nz\r\n0\r\n\r\n", "none, and a byte"),
    ] {
        rig.origin.take(0);
        rig.origin.next([Step::ReadBody, Step::Reset]);
        let r = rig.connect().ask(request(
            "PUT",
            "/again",
            "Transfer-Encoding: chunked\r\n",
            body,
        ));
        assert_eq!(r.status, 200, "trailers: {trailers}");
        let seen = rig.origin.take(2);
        assert_eq!(seen.len(), 2, "trailers: {trailers}");
        assert!(seen.iter().all(|s| s.complete && s.garbage.is_none()));
        assert_eq!(seen[0].body, seen[1].body);
    }
}

/// A client that pipelines leaves the core to others between its requests, although none of them makes it wait.
#[test]
fn pipelining_does_not_hold_a_core() {
    let config = Proxy::config(
        "connections requests=1000000",
        "site \"*\" { respond 200 \"ok\" }",
    );
    let proxy = Proxy::start(&config.replace("workers 2", "workers 1"));
    let (mut many, mut one) = (proxy.connect(), proxy.connect());
    // Both are known to the core, and idle.
    assert_eq!(many.ask(get("/many", "")).status, 200);
    assert_eq!(one.ask(get("/one", "")).status, 200);
    let n = 2_000;
    // While the core sleeps, both send: it finds two connections readable, the busy one first.
    freeze(&proxy);
    many.send(get("/many", "").repeat(n));
    one.send(get("/one", ""));
    proxy.signal(Signal::CONT);
    for _ in 0..n {
        assert_eq!(many.read_response("GET").unwrap().status, 200);
    }
    assert_eq!(one.read_response("GET").unwrap().status, 200);
    let log = proxy.access_log_of(n + 3);
    let place = log.iter().rposition(|r| r["path"] == "/one").unwrap();
    assert!(
        place < n / 4,
        "served after {place} of another connection's requests"
    );
}

/// RFC 9112 9.6: who is told `close` may have sent another request already; closing with that unread would reset the
/// connection and could take the answer with it.
#[test]
fn the_last_answer_survives_a_pipelined_request() {
    let rig = Rig::of("connections requests=1", "proxy \"u\"");
    let gate: Script = [Step::ReadBody, Step::Gate("go".into()), Step::Echo(200)].into();
    rig.origin.on("/first", gate);
    let mut c = rig.connect();
    c.send(get("/first", ""));
    assert!(rig.origin.wait_heads(1));
    // In the kernel, unread, when the answer is sent.
    c.send(get("/second", ""));
    rig.origin.open("go");
    let r = c.read_response("GET").unwrap();
    assert!(r.status == 200 && r.says_close());
    c.half_close();
    assert_eq!(c.rest(), (Vec::new(), End::Eof));
    assert_eq!(rig.origin.seen().len(), 1);
}

/// An answer that is under way is not cut because the server leaves the rest of the request unread.
#[test]
fn an_early_answer_outlives_an_upload_that_nobody_reads() {
    let rig = Rig::full(Origin::start(), "", "timeout body=\"300ms\"", "proxy \"u\"");
    let n = 20;
    rig.origin.on(
        "/early",
        [
            send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n")),
            Step::SendSlow {
                bytes: vec![b'x'; n],
                piece: 1,
                gap: Duration::from_millis(60),
            },
            Step::AwaitEnd,
        ],
    );
    let mut c = rig.connect();
    c.send(request(
        "POST",
        "/early",
        "Content-Length: 100000000\r\n",
        "",
    ));
    let mut writer = c.sock().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            use std::io::Write;
            let block = vec![b'b'; 1 << 20];
            while writer.write_all(&block).is_ok() {}
        });
        let r = c.read_response("POST");
        let _ = c.sock().shutdown(std::net::Shutdown::Both);
        let r = r.unwrap();
        assert_eq!((r.status, r.body_len), (200, n as u64));
    });
}

/// A client that goes away while its request waits for a connection gives up its place; its request is not sent.
#[test]
fn op_25_a_dead_client_leaves_the_queue() {
    let origin = Origin::start();
    let text = Rig::text(
        &origin,
        "",
        "connections max=1 queue=1 queue-timeout=\"30s\"",
        "route path=\"/marker\" { respond 200 \"here\" }\nroute path=\"/*\" { proxy \"u\" }",
    );
    let proxy = Proxy::start(&text.replace("workers 2", "workers 1"));
    // One core takes events as they come: what was sent before this has been seen when it is answered.
    let settle = || assert_eq!(proxy.connect().ask(get("/marker", "")).text(), "here");
    origin.on(
        "/first",
        [Step::ReadBody, Step::Gate("go".into()), Step::Echo(200)],
    );
    let mut first = proxy.connect();
    first.send(get("/first", ""));
    assert!(origin.wait_heads(1));
    for fields in ["", "Content-Length: 4\r\n"] {
        let mut gone = proxy.connect();
        gone.send(request("POST", "/gone", fields, ""));
        settle();
        gone.reset();
        settle();
    }
    let mut third = proxy.connect();
    third.send(get("/third", ""));
    settle();
    origin.open("go");
    assert_eq!(first.read_response("GET").unwrap().status, 200);
    let r = third.read_response("GET").unwrap();
    assert_eq!(r.status, 200, "{:?}", r.fields.get("narthex-reason"));
    assert!(origin.seen().iter().all(|s| s.path() != "/gone"));
    let log = proxy.access_log_of(8);
    let ends: Vec<_> = log.iter().filter(|r| r["path"] == "/gone").collect();
    assert_eq!(ends.len(), 2);
    assert!(
        ends.iter().all(|r| r["outcome"] == "client-abort"),
        "{ends:?}"
    );
}

/// H1-06: a body where none is usual may be a request to a server that does not look for it. Its answer, however late, must
/// not reach anybody else: such a connection is not used again.
#[test]
fn h1_06_a_late_answer_to_a_hidden_request() {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\nX-Id: hidden\r\n\r\n";
    let sized = (
        format!("Content-Length: {}\r\n", hidden.len()),
        hidden.to_owned(),
    );
    let chunks = (
        "Transfer-Encoding: chunked\r\n".to_owned(),
        format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
    );
    for setting in ["", "buffer request=\"64KiB\"\n"] {
        for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
            for (fields, body) in [&sized, &chunks] {
                let origin = Origin::start();
                origin
                    .on("/static", [Step::Echo(200), Step::IgnoreBody])
                    .on("/hidden", [Step::Gate("never".into()), Step::Echo(200)]);
                let text = Rig::text(&origin, "", "", &format!("{setting}proxy \"u\""));
                let proxy = Proxy::start(&text.replace("workers 2", "workers 1"));
                let mut attacker = proxy.connect();
                attacker.send(request(method, "/static", fields, body));
                assert_eq!(attacker.read_response(method).unwrap().status, 200);
                // The hidden request is under way, or its connection is gone; the victim's goes past it.
                let mut victim = proxy.connect();
                victim.send("GET /victim HTTP/1.1\r\nHost: a\r\nX-Id: victim\r\n\r\n");
                let r = victim.read_response("GET").unwrap();
                assert_eq!(
                    (r.status, r.fields.get("x-id").as_deref()),
                    (200, Some("victim")),
                    "{method} {fields} {setting}"
                );
            }
        }
    }
}

/// What the origin sent before it broke still arrives, although nothing can be told to it any more.
#[test]
fn a_tunnel_whose_origin_broke_gives_what_came_before() {
    let origin = Origin::start();
    let text = Rig::text(&origin, "", "", "upgrade \"foo\"\nproxy \"u\"");
    let proxy = Proxy::start(&text);
    let last = vec![b'z'; 20_000];
    origin.on(
        "/ws",
        [
            send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nhello"),
            Step::Gate("go".into()),
            Step::Send(last.clone()),
            Step::Reset,
        ],
    );
    let mut c = proxy.connect();
    c.send(get("/ws", "Connection: Upgrade\r\nUpgrade: foo\r\n"));
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    assert_eq!(c.read_exactly(5), b"hello");
    // While the proxy sleeps, the origin sends and breaks, and the client sends, too.
    freeze(&proxy);
    origin.open("go");
    assert!(origin.wait_end(0).is_some());
    c.send("ping");
    proxy.signal(Signal::CONT);
    let (bytes, end) = c.rest();
    assert_eq!(bytes.len(), last.len());
    assert_ne!(end, End::Open);
}

/// A buffered answer is no load of its server any more, however slowly its client takes it.
#[test]
fn a_server_is_not_busy_with_answers_that_it_has_given() {
    let (a, b) = (Origin::start(), Origin::start());
    let size = 16_usize << 20;
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    for origin in [&a, &b] {
        origin.on(
            "/large",
            [Step::Send(bytes.clone()), Step::Reached("given".into())],
        );
    }
    let config = Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\"; server \"{}\"; balance \"least-requests\" }}\n\
             site \"*\" {{ buffer response=\"32MiB\"; proxy \"u\" }}",
            a.place(),
            b.place()
        ),
    );
    let proxy = Proxy::start(&config.replace("workers 2", "workers 1"));
    let mut slow = proxy.connect();
    slow.sock().small_receive_buffer(16 << 10);
    slow.send(get("/large", ""));
    slow.read_head().unwrap();
    let (busy, other) = if a.seen().is_empty() {
        (&b, &a)
    } else {
        (&a, &b)
    };
    assert!(busy.wait_gate("given"));
    // Once the last byte has been taken, both are equally idle, and both are asked.
    let both = eventually(PATIENCE, || {
        assert_eq!(proxy.connect().ask(get("/small", "")).status, 200);
        busy.seen().len() > 1 && !other.seen().is_empty()
    });
    assert!(both, "{} and {}", busy.seen().len(), other.seen().len());
}
