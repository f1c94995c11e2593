//! The memory cap: whoever makes the proxy hold most goes first, and nobody else notices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::craft::{get, request, sized};
use narthex_e2e::kit::origin::{Origin, Step, echo};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};

const MIB: usize = 1 << 20;

/// A proxy that may use 128 MiB, and a route on which one exchange alone would take far more.
fn rig(site: &str) -> Rig {
    let origin = Origin::start();
    let text = Rig::text(&origin, "", "", &format!("{site}\nproxy \"u\""));
    let proxy = Proxy::start(&format!("{text}\nmemory max=\"128MiB\"\n"));
    Rig { proxy, origin }
}

/// The value of a metric's series, as the proxy says it.
fn metric(rig: &Rig, series: &str) -> u64 {
    let text = rig
        .proxy
        .admin("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .text();
    let line = text.lines().find(|l| l.starts_with(series));
    let line = line.unwrap_or_else(|| panic!("no {series} in {text}"));
    line[series.len()..].trim().parse().unwrap()
}

/// Is a request on a new connection answered 200?
fn serves(rig: &Rig) -> bool {
    let mut c = rig.connect();
    c.send(get("/", "Connection: close\r\n"));
    c.read_response("GET").is_ok_and(|r| r.status == 200)
}

/// Requests under way: some wait for the origin, some have sent half of a body that the proxy holds.
struct Others {
    waiting: Vec<Client>,
    sending: Vec<Client>,
}

impl Others {
    fn begin(rig: &Rig, buffered: bool) -> Self {
        rig.origin
            .on("/wait", [Step::Gate("over".into()), Step::Echo(200)]);
        rig.origin.on("/half", echo(200));
        let waiting = (0..4)
            .map(|_| {
                let mut c = rig.connect();
                c.send(get("/wait", ""));
                c
            })
            .collect();
        assert!(rig.origin.wait_heads(4));
        let sending = (0..if buffered { 2 } else { 0 })
            .map(|_| {
                let mut c = rig.connect();
                let length = format!("Content-Length: {MIB}\r\n");
                c.send(request("POST", "/half", &length, &"b".repeat(MIB / 2)));
                c
            })
            .collect();
        Self { waiting, sending }
    }

    fn succeed(mut self, rig: &Rig) {
        rig.origin.open("over");
        for c in &mut self.waiting {
            assert_eq!(c.read_response("GET").unwrap().status, 200);
        }
        for c in &mut self.sending {
            assert!(c.send("b".repeat(MIB / 2)));
            assert_eq!(c.read_response("POST").unwrap().status, 200);
        }
    }
}

/// What is told of an exchange that was ended for its memory, and that the process is calm again.
fn told(rig: &Rig, path: &str) {
    assert!(
        eventually(PATIENCE, || serves(rig)),
        "nobody is served any more: {}",
        rig.proxy.stderr()
    );
    assert!(eventually(PATIENCE, || metric(rig, "narthex_memory_stage") == 0));
    assert!(metric(rig, "narthex_memory_buffered_bytes") < 16_000_000);
    assert_eq!(metric(rig, "narthex_memory_cap_bytes"), 134_217_728);
    assert_eq!(
        metric(rig, "narthex_memory_shed_total{what=\"abort\"}"),
        1,
        "{}",
        rig.proxy.stderr()
    );
    // The records of the others may be written first.
    eventually(PATIENCE, || {
        let records = rig.proxy.access_log();
        records.iter().any(|r| r["outcome"] == "shed")
    });
    let records = rig.proxy.access_log();
    let shed: Vec<_> = records.iter().filter(|r| r["outcome"] == "shed").collect();
    assert_eq!(shed.len(), 1, "{records:?}");
    assert_eq!(
        (&shed[0]["reason"], &shed[0]["fault"], &shed[0]["path"]),
        (&"memory".into(), &"proxy".into(), &path.into())
    );
    let failures = "narthex_failures_total{fault=\"proxy\",reason=\"memory\"}";
    assert_eq!(metric(rig, failures), 1);
    let status = rig.proxy.admin(
        "GET /status HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
    );
    let status: serde_json::Value = serde_json::from_str(&status.text()).unwrap();
    assert_eq!(status["memory"]["stage"], "calm", "{status}");
    assert_eq!(status["memory"]["cap"], 134_217_728);
    assert!(status["memory"]["resident"].as_u64().unwrap() > 1_000_000);
    rig.proxy.assert_sane();
}

/// A body that is buffered whole, as far as it would go: its sender is ended, not those who hold less.
#[test]
fn an_upload_that_fills_memory_is_ended_alone() {
    let rig = rig("body max=\"1GiB\"\nbuffer request=\"1GiB\"");
    let others = Others::begin(&rig, true);
    let mut attacker = rig.connect();
    attacker.send(request(
        "POST",
        "/much",
        "Content-Length: 1000000000\r\n",
        "",
    ));
    let block = vec![b'x'; MIB];
    let taken = (0..900).take_while(|_| attacker.send(&block)).count();
    assert!(taken < 900, "the proxy has taken it all");
    others.succeed(&rig);
    told(&rig, "/much");
    assert!(
        rig.origin.seen().iter().all(|s| s.path() != "/much"),
        "a body that was ended reached the origin"
    );
}

/// An answer that is buffered for a client who does not read.
#[test]
fn an_answer_that_fills_memory_is_ended_alone() {
    let rig = rig("buffer response=\"1GiB\"");
    let others = Others::begin(&rig, false);
    rig.origin.on(
        "/much",
        [
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 943718400\r\n\r\n".to_vec()),
            Step::SendMany {
                block: vec![b'x'; MIB],
                times: 900,
            },
        ],
    );
    let mut attacker = rig.connect();
    attacker.sock().small_receive_buffer(64 << 10);
    attacker.send(get("/much", ""));
    assert!(eventually(PATIENCE, || {
        metric(&rig, "narthex_memory_shed_total{what=\"abort\"}") > 0
    }));
    attacker.keep = 0;
    assert!(
        attacker.read_response("GET").is_err(),
        "an answer that was ended looks whole"
    );
    others.succeed(&rig);
    told(&rig, "/much");
}

/// Above the cap with nothing that could be aborted: nobody new, no idle connection, and no request is ended.
#[test]
fn before_anybody_is_aborted_the_idle_go() {
    let rig = rig("");
    let mut idle = rig.connect();
    assert_eq!(idle.ask(get("/", "")).status, 200);
    let others = Others::begin(&rig, false);
    let text = Rig::text(&rig.origin, "", "", "proxy \"u\"");
    // A page of a configuration is memory, too, and nobody's who could be ended.
    let page = "p".repeat(60_000);
    let pages = (0..250).map(|n| format!("route path=\"/{n}\" {{ respond 200 \"{page}\" }}"));
    let pages = pages.collect::<Vec<_>>().join("\n");
    let heavy = Rig::text(&rig.origin, "", "", &format!("{pages}\nproxy \"u\""));
    rig.proxy
        .reload_ok(&format!("{heavy}\nmemory max=\"16MiB\"\n"));
    let (rest, _) = idle.rest();
    assert!(rest.is_empty());
    assert!(!serves(&rig));
    rig.origin.open("over");
    for mut c in others.waiting {
        let r = c.read_response("GET").unwrap();
        assert!(r.status == 200 && r.says_close(), "{}", r.status);
    }
    let shed = |what| {
        metric(
            &rig,
            &format!("narthex_memory_shed_total{{what=\"{what}\"}}"),
        )
    };
    assert!(shed("refuse") >= 1 && shed("idle") >= 1);
    assert_eq!((shed("keep-alive"), shed("abort")), (4, 0));
    rig.proxy
        .reload_ok(&format!("{text}\nmemory max=\"1GiB\"\n"));
    assert!(eventually(PATIENCE, || serves(&rig)));
    let mut c = rig.connect();
    assert_eq!(c.ask(sized("/", "", "abc")).status, 200);
    assert_eq!(c.ask(get("/", "")).status, 200);
}
