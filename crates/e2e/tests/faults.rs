//! Faulty origins and slow clients (OP-01 to OP-04, SL-01, SL-02): truncation is always visible, nothing is sent twice
//! that must not be, deadlines hold.
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

use std::collections::HashMap;
use std::time::Duration;

use narthex_e2e::kit::attack::{End, Why};
use narthex_e2e::kit::craft::{get, request, sized};
use narthex_e2e::kit::origin::{Origin, Personality, Script, Step};
use narthex_e2e::kit::proxy::{Proxy, free_port};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::table::fresh_id;
use narthex_e2e::kit::{PATIENCE, eventually};

narthex_e2e::with_1_2_and_8_workers! {
    keep_alive_race,
    retries_are_safe,
    failover_and_recovery,
    backup_servers,
}

fn send(s: &str) -> Step {
    Step::Send(s.as_bytes().to_vec())
}

/// OP-01: at 0, 1, 50 and 99 percent, by FIN and by RST.
#[test]
fn backend_death_mid_body_is_visible() {
    let rig = Rig::plain();
    let body = "x".repeat(10_000);
    for percent in [0, 1, 50, 99] {
        let part = &body[..body.len() * percent / 100];
        for reset in [false, true] {
            let last = if reset { Step::Reset } else { Step::Close };
            for head in [
                "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n".to_owned(),
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                    body.len()
                ),
            ] {
                rig.origin.on(
                    "/dies",
                    [
                        Step::ReadBody,
                        send(&head),
                        send(part),
                        Step::Pause(Duration::from_millis(5)),
                        last.clone(),
                    ],
                );
                let mut c = rig.connect();
                c.send(get("/dies", ""));
                match c.read_response("GET") {
                    Err(f) => assert!(
                        matches!(f.why, Why::BodyCut | Why::Reset | Why::HeadCut | Why::Eof),
                        "{percent}% {reset}: {f}"
                    ),
                    // Nothing may have been passed on yet.
                    Ok(r) => assert!(
                        r.status == 502 && percent <= 1,
                        "{percent}% {reset}: a cut body looked whole: {}",
                        r.status
                    ),
                }
                rig.alive();
            }
        }
    }
    // HTTP/1.0 clients see it, too, when the length was told; a body until close can't be told from a cut one but by RST.
    rig.origin.on(
        "/dies",
        [
            send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"),
            Step::Close,
        ],
    );
    let mut c = rig.connect();
    c.send("GET /dies HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(c.read_response("GET").is_err());
}

/// Death before any answer: 502, whatever died and however.
#[test]
fn backend_death_before_the_answer() {
    let rig = Rig::plain();
    for (name, script) in [
        ("fin", vec![Step::ReadBody, Step::Close]),
        ("rst", vec![Step::ReadBody, Step::Reset]),
        (
            "fin inside the head",
            vec![
                Step::ReadBody,
                send("HTTP/1.1 200 OK\r\nContent-Le"),
                Step::Close,
            ],
        ),
        (
            "rst inside the head",
            vec![
                Step::ReadBody,
                send("HTTP/1.1 2"),
                Step::Pause(Duration::from_millis(5)),
                Step::Reset,
            ],
        ),
        (
            "fin after an interim answer",
            vec![Step::ReadBody, send("HTTP/1.1 103 E\r\n\r\n"), Step::Close],
        ),
    ] {
        rig.origin.on("/dies", script);
        for bytes in [get("/dies", ""), sized("/dies", "", "body")] {
            let r = rig.connect().ask(&bytes);
            assert_eq!(r.status, 502, "{name}");
            assert!(r.fields.has("narthex-reason"), "{:?}", r.fields);
        }
        rig.alive();
    }
}

#[test]
fn refused_and_unreachable_origins() {
    let nobody = free_port();
    let config = Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"127.0.0.1:{nobody}\"; timeout connect=\"300ms\" }}\nsite \"*\" {{ proxy \"u\" }}"
        ),
    );
    let proxy = Proxy::start(&config);
    for _ in 0..3 {
        let r = proxy.connect().ask(get("/", ""));
        assert!(matches!(r.status, 502 | 503), "{}", r.status);
    }
}

#[test]
fn an_origin_that_never_answers() {
    let rig = Rig::full(
        Origin::start(),
        "",
        "timeout response=\"300ms\"\nretry attempts=0",
        "proxy \"u\"",
    );
    rig.origin.on("/hang", [Step::ReadBody, Step::AwaitEnd]);
    let r = rig.connect().ask(get("/hang", ""));
    assert_eq!(r.status, 504);
    assert!(
        rig.origin.wait_end(0).is_some(),
        "a timed-out attempt's connection is closed"
    );
    rig.alive();
}

/// SL-01: the deadline for a head is absolute; activity does not extend it.
#[test]
fn slow_head() {
    let rig = Rig::of(
        "timeout header=\"400ms\" keep-alive=\"300ms\"",
        "proxy \"u\"",
    );
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(90));
    let mut c = rig.connect();
    let all = c.send_paced(head.as_bytes(), 1, Duration::from_millis(10));
    let t = c.read_all(&[]);
    assert!(!all || t.end != End::Open);
    assert!(t.statuses().iter().all(|s| *s == 408), "{:?}", t.statuses());
    assert!(
        !t.statuses().is_empty() || !all,
        "a slow head deserves an answer"
    );
    // Nothing at all, and an idle connection: closed in silence.
    let mut c = rig.connect();
    let t = c.read_all(&[]);
    assert!(
        t.end != End::Open && t.statuses().iter().all(|s| *s == 408),
        "{t:?}"
    );
    let mut c = rig.connect();
    assert_eq!(c.ask(get("/", "")).status, 200);
    let t = c.read_all(&[]);
    assert_eq!(
        (t.statuses(), t.end),
        (vec![], End::Eof),
        "idle keep-alive ends without an answer"
    );
    assert!(rig.origin.seen().iter().all(|s| s.target == "/"));
}

/// SL-02: a body that pauses too long, or drips.
#[test]
fn slow_body() {
    let rig = Rig::of(
        "timeout body=\"300ms\"\nmin-rate \"1KiB/s\" after=\"500ms\"",
        "proxy \"u\"",
    );
    let mut c = rig.connect();
    c.send(request("POST", "/pause", "Content-Length: 100\r\n", "some"));
    let t = c.read_all(&[]);
    assert!(
        t.statuses().iter().all(|s| *s == 408) && t.end != End::Open,
        "{t:?}"
    );
    let mut c = rig.connect();
    c.send(request("POST", "/drip", "Content-Length: 100000\r\n", ""));
    c.send_paced(&[b'x'; 300], 1, Duration::from_millis(10));
    let t = c.read_all(&[]);
    assert!(
        t.statuses().iter().all(|s| *s == 408) && t.end != End::Open,
        "{t:?}"
    );
    rig.alive();
    assert!(
        rig.origin
            .seen()
            .iter()
            .all(|s| s.target == "/alive" || !s.complete)
    );
}

/// OP-04: the origin closes a kept connection just as we use it. GET never fails; a POST that was sent is not sent again.
fn keep_alive_race() {
    let rig = Rig::plain();
    rig.origin
        .otherwise([Step::ReadBody, Step::Echo(200), Step::Close]);
    let mut c = rig.connect();
    for n in 0..300 {
        let r = c.ask(get(&format!("/{n}"), ""));
        assert_eq!(
            r.status, 200,
            "GET {n} failed although it could be sent again"
        );
    }
    for n in 0..20_u64 {
        rig.origin.otherwise([
            Step::ReadBody,
            Step::Echo(200),
            Step::Pause(Duration::from_micros(n * 50)),
            Step::Close,
        ]);
        for _ in 0..5 {
            let r = c.ask(get("/race", ""));
            assert_eq!(
                r.status,
                200,
                "{:?}: {:?}",
                r.fields.get("narthex-reason"),
                rig.proxy.access_log_of(300).last()
            );
        }
    }
    // POSTs may fail in the race, but none arrives twice.
    let mut ids = Vec::new();
    for _ in 0..200 {
        let id = fresh_id();
        let mut c = rig.connect();
        c.send(format!("POST /post HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"));
        let r = c.read_response("POST").unwrap();
        assert!(matches!(r.status, 200 | 502), "{}", r.status);
        ids.push((id, r.status));
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for s in rig.origin.seen().iter().filter(|s| s.complete) {
        *counts.entry(s.id().unwrap_or_default()).or_default() += 1;
    }
    for (id, status) in ids {
        let n = counts.get(&id).copied().unwrap_or(0);
        assert!(
            n <= 1 && (status != 200 || n == 1),
            "POST {id} arrived {n} times"
        );
    }
}

/// OP-03: an idempotent request whose connection died is tried again; a POST is not.
fn retries_are_safe() {
    let rig = Rig::full(
        Origin::start(),
        "",
        "retry attempts=2 budget=\"100%\" on=\"connect,reset\"\neject #false",
        "proxy \"u\"",
    );
    let die: Script = [Step::ReadBody, Step::Reset].into();
    for (method, body) in [
        ("GET", ""),
        ("HEAD", ""),
        ("PUT", "abc"),
        ("DELETE", ""),
        ("OPTIONS", ""),
    ] {
        rig.origin.take(0);
        rig.origin.next(die.clone());
        let mut c = rig.connect();
        c.send(request(
            method,
            "/again",
            &format!("Content-Length: {}\r\n", body.len()),
            body,
        ));
        assert_eq!(c.read_response(method).unwrap().status, 200, "{method}");
        let seen = rig.origin.take(2);
        assert_eq!(seen.len(), 2, "{method}");
        assert_eq!(seen[1].body, body.as_bytes());
    }
    for method in ["POST", "PATCH", "FOO"] {
        rig.origin.take(0);
        rig.origin.next(die.clone());
        let r = rig
            .connect()
            .ask(request(method, "/once", "Content-Length: 3\r\n", "abc"));
        assert_eq!(r.status, 502, "{method}");
        assert_eq!(rig.origin.take(1).len(), 1, "{method} was sent twice");
    }
    // Once a byte of the answer has come, nothing is tried again.
    rig.origin.take(0);
    rig.origin.next([
        Step::ReadBody,
        send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        Step::Pause(Duration::from_millis(20)),
        Step::Reset,
    ]);
    let mut c = rig.connect();
    c.send(get("/begun", ""));
    assert!(c.read_response("GET").is_err());
    assert_eq!(rig.origin.take(1).len(), 1);
}

/// OP-03: a status that is tried again is, if the request may be sent twice; the last attempt's answer is passed on.
#[test]
fn statuses_are_tried_again_when_asked_for() {
    let rig = Rig::full(
        Origin::start(),
        "",
        "retry attempts=1 budget=\"100%\" on=\"connect,reset,503\"\neject #false",
        "proxy \"u\"",
    );
    let busy: Script = [
        Step::ReadBody,
        send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"),
    ]
    .into();
    for (method, status, requests) in [("GET", 200, 2), ("PUT", 200, 2), ("POST", 503, 1)] {
        rig.origin.take(0);
        rig.origin.next(busy.clone());
        let mut c = rig.connect();
        c.send(request(method, "/busy", "Content-Length: 3\r\n", "abc"));
        let r = c.read_response(method).unwrap();
        assert_eq!(r.status, status, "{method}");
        let seen = rig.origin.take(requests);
        assert_eq!(seen.len(), requests, "{method}");
        assert!(seen.iter().all(|s| s.body == b"abc"), "{method}");
    }
    rig.origin.next(busy.clone());
    rig.origin.next(busy);
    assert_eq!(rig.connect().ask(get("/busy", "")).status, 503);
}

/// Ten origins that are killed and come back while requests pass: no POST arrives twice, no GET fails.
#[test]
fn no_duplicate_post_with_killed_origins() {
    let mut origins: Vec<Origin> = (0..10)
        .map(|n| Origin::named(&format!("o{n}"), Personality::Strict))
        .collect();
    let servers: String = origins
        .iter()
        .map(|o| format!("server \"{}\"", o.place()))
        .collect::<Vec<_>>()
        .join("; ");
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ {servers}; balance \"round-robin\"; retry attempts=3 budget=\"100%\" on=\"connect,reset\" }}\nsite \"*\" {{ proxy \"u\" }}"
        ),
    ));
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut answers: Vec<(String, u16)> = Vec::new();
    let collect = |o: &Origin, counts: &mut HashMap<String, usize>| {
        for s in o.seen().iter().filter(|s| s.method == "POST") {
            *counts.entry(s.id().unwrap_or_default()).or_default() += 1;
        }
    };
    for round in 0..30 {
        for n in 0..10 {
            let id = fresh_id();
            let mut c = proxy.connect();
            c.send(format!("POST /p HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"));
            if n == 5 {
                // Killed while this one is under way.
                let at = round % origins.len();
                let old = origins.remove(at);
                let name = format!("o{at}");
                let addr = old.addr();
                old.cut(round % 2 == 0);
                collect(&old, &mut counts);
                old.kill();
                origins.insert(at, Origin::at(addr, &name, Personality::Strict));
            }
            if let Ok(r) = c.read_response("POST") {
                answers.push((id, r.status));
            }
        }
        assert_eq!(
            proxy
                .connect()
                .ask(get("/get", "Connection: close\r\n"))
                .status,
            200,
            "GET in round {round}"
        );
    }
    for o in &origins {
        collect(o, &mut counts);
    }
    for (id, n) in &counts {
        assert!(*n <= 1, "POST {id} arrived {n} times");
    }
    let good = answers.iter().filter(|(_, s)| *s == 200).count();
    assert!(good >= 250, "only {good} of 300 POSTs were answered");
}

/// Passive marking: after one of three dies, requests go to the others; when it is back, it is used again.
fn failover_and_recovery() {
    let mut origins: Vec<Origin> = (0..3)
        .map(|n| Origin::named(&format!("o{n}"), Personality::Strict))
        .collect();
    let servers: String = origins
        .iter()
        .map(|o| format!("server \"{}\"", o.place()))
        .collect::<Vec<_>>()
        .join("; ");
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ {servers}; balance \"round-robin\"; health-check \"/healthz\" interval=\"50ms\" healthy=1 unhealthy=1; eject errors=3 for=\"100ms\" }}\nsite \"*\" {{ proxy \"u\" }}"
        ),
    ));
    let who = || {
        let r = proxy.connect().ask(get("/", "Connection: close\r\n"));
        assert_eq!(r.status, 200);
        r.fields.get("x-origin").unwrap_or_default()
    };
    let all: std::collections::HashSet<String> = (0..30).map(|_| who()).collect();
    assert_eq!(all.len(), 3, "round robin reaches everyone: {all:?}");
    let dead = origins.remove(1);
    let addr = dead.addr();
    dead.kill();
    for n in 0..60 {
        assert_ne!(who(), "o1", "request {n}");
    }
    origins.push(Origin::at(addr, "o1", Personality::Strict));
    assert!(
        eventually(PATIENCE, || who() == "o1"),
        "a recovered origin is used again"
    );
}

/// Backup servers are used only when no other is available.
fn backup_servers() {
    let main = Origin::named("main", Personality::Strict);
    let backup = Origin::named("backup", Personality::Strict);
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\"; server \"{}\" backup=#true; health-check \"/healthz\" interval=\"50ms\" healthy=1 unhealthy=1; eject errors=3 for=\"100ms\" }}\nsite \"*\" {{ proxy \"u\" }}",
            main.place(),
            backup.place()
        ),
    ));
    let who = || {
        proxy
            .connect()
            .ask(get("/", "Connection: close\r\n"))
            .fields
            .get("x-origin")
    };
    for _ in 0..10 {
        assert_eq!(who().as_deref(), Some("main"));
    }
    main.kill();
    assert!(eventually(PATIENCE, || who().as_deref() == Some("backup")));
}
