//! gRPC through the proxy, by its own library on both sides; what the proxy says to its clients; checks by its health service.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Instant;

use narthex_e2e::kit::grpc::{GrpcServer, play};
use narthex_e2e::kit::h2peer::{Ask, H2Origin, RawServer, Reply, ask, body};
use narthex_e2e::kit::proxy::{Proxy, free_port};
use narthex_e2e::kit::{PATIENCE, eventually};
use narthex_e2e::with_1_2_and_8_workers;

fn proxy(place: &str, upstream: &str) -> Proxy {
    Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n server \"{place}\"\n protocol \"h2\"\n {upstream}\n}}\nsite \"*\" {{ route path=\"/t.T/*\" {{ proxy \"u\" }} }}"
        ),
    ))
}

fn every_kind_of_call() {
    let server = GrpcServer::start();
    let proxy = proxy(&server.place(), "");
    for scenario in [
        "unary",
        "many",
        "fails",
        "server_stream",
        "client_stream",
        "both",
        "deadline",
    ] {
        play(proxy.addr(), &[scenario]);
    }
}

fn a_call_may_be_silent() {
    let server = GrpcServer::start();
    let proxy = Proxy::start(&Proxy::config(
        "timeout body=\"300ms\"\n min-rate \"1MiB/s\" after=\"200ms\"",
        &format!(
            "upstream \"u\" {{\n server \"{}\"\n protocol \"h2\"\n timeout body=\"300ms\"\n}}\nsite \"*\" {{ proxy \"u\" }}",
            server.place()
        ),
    ));
    play(proxy.addr(), &["silent"]);
}

fn failures_of_the_proxy_are_statuses_of_grpc() {
    let server = GrpcServer::start();
    let slow = proxy(&server.place(), "timeout response=\"300ms\"");
    play(slow.addr(), &["proxy_timeout"]);
    let dead = proxy(&format!("127.0.0.1:{}", free_port()), "");
    play(dead.addr(), &["unavailable", "connect-refused"]);
    let closing = RawServer::start(|c| {
        c.request();
    });
    let closing = proxy(&closing.place(), "");
    play(closing.addr(), &["unavailable", "origin-closed"]);
    let nowhere = Proxy::start(&Proxy::config(
        "",
        "site \"*\" { route path=\"/x\" { respond 204 } }",
    ));
    play(nowhere.addr(), &["unimplemented"]);
}

with_1_2_and_8_workers!(
    every_kind_of_call,
    a_call_may_be_silent,
    failures_of_the_proxy_are_statuses_of_grpc
);

fn call(path: &str) -> Ask {
    Ask::new("POST", path, &[0, 0, 0, 0, 0])
        .with("content-type", "application/grpc")
        .with("te", "trailers")
}

#[track_caller]
fn assert_status(reply: &Reply, code: &str) {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.field("grpc-status"), Some(code), "{reply:?}");
    assert_eq!(reply.field("content-type"), Some("application/grpc"));
    assert!(reply.field("grpc-message").is_some());
    assert!(reply.body.is_empty() && reply.trailers.is_none());
    assert_eq!(reply.broken, None);
}

/// A server that takes everything and answers nothing.
fn silent() -> RawServer {
    RawServer::start(|c| {
        c.send(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        while c.frame().is_some() {}
    })
}

#[test]
fn a_clients_deadline_bounds_the_attempt() {
    let server = silent();
    let proxy = proxy(&server.place(), "timeout response=\"20s\"\n eject errors=1");
    for timeout in ["200m", "200000u", "20000000n"] {
        let began = Instant::now();
        let reply = ask(proxy.addr(), call("/t.T/A").with("grpc-timeout", timeout));
        // Long before the upstream's own time is over.
        assert!(
            began.elapsed() < PATIENCE,
            "{timeout}: {:?}",
            began.elapsed()
        );
        assert_status(&reply, "4");
        assert_eq!(reply.field("narthex-reason"), Some("response-timeout"));
    }
    // What a client is in a hurry about is not the server's fault.
    let status = proxy.metrics();
    assert!(!status.contains("narthex_upstream_server_ejections_total{upstream=\"u\"} 1"));
    let log = proxy.access_log_of(3);
    assert!(log.iter().all(|r| r["status"] == 504), "{log:?}");
}

#[test]
fn others_get_statuses_of_http() {
    let dead = proxy(&format!("127.0.0.1:{}", free_port()), "");
    let web = Ask::new("POST", "/t.T/A", b"").with("content-type", "application/grpc-web");
    assert_eq!(ask(dead.addr(), web).status, 502);
    assert_eq!(ask(dead.addr(), Ask::get("/t.T/A")).status, 502);
    assert_status(&ask(dead.addr(), call("/t.T/A")), "14");
    let mut h1 = dead.connect();
    let reply = h1.ask("POST /t.T/A HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reply.status, 502);
}

#[test]
fn a_message_that_is_too_large_is_told_so() {
    let origin = H2Origin::start(100);
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\"; protocol \"h2\" }}\nsite \"*\" {{ body max=\"1KiB\"; proxy \"u\" }}",
            origin.place()
        ),
    ));
    let large = Ask {
        body: body(5_000),
        ..call("/echo")
    };
    assert_status(&ask(proxy.addr(), large), "8");
}

#[test]
fn servers_are_checked_by_their_health_service() {
    let mut servers = [GrpcServer::start(), GrpcServer::start()];
    for server in &mut servers {
        server.set_health("t.T", "SERVING");
    }
    let [mut first, second] = servers;
    let proxy = proxy(
        &first.place(),
        &format!(
            "server \"{}\"\n health-check \"grpc\" service=\"t.T\" interval=\"50ms\" recovery=\"50ms\" healthy=1 unhealthy=1",
            second.place()
        ),
    );
    let place = first.place();
    // Ten calls, and how many of them the first had.
    let calls = || {
        let before = proxy.access_log().len();
        for _ in 0..10 {
            assert_eq!(ask(proxy.addr(), call("/t.T/Unary")).status, 200);
        }
        let log = proxy.access_log_of(before + 10);
        let at_first = |r: &&serde_json::Value| r["server"] == place.as_str();
        log[before..].iter().filter(at_first).count()
    };
    assert!(eventually(PATIENCE, || calls() > 0), "{}", proxy.stderr());
    first.set_health("t.T", "NOT_SERVING");
    let told = || proxy.stderr().contains("NOT_SERVING");
    assert!(eventually(PATIENCE, told), "{}", proxy.stderr());
    assert!(eventually(PATIENCE, || calls() == 0), "{}", proxy.stderr());
    first.set_health("t.T", "SERVING");
    assert!(eventually(PATIENCE, || calls() > 0), "{}", proxy.stderr());
}

#[test]
fn a_service_that_nobody_knows_is_not_well() {
    let server = GrpcServer::start();
    let proxy = proxy(
        &server.place(),
        "health-check \"grpc\" service=\"nobody\" interval=\"50ms\" healthy=1 unhealthy=1",
    );
    let told = eventually(PATIENCE, || {
        proxy
            .stderr()
            .contains("the server does not know this service")
    });
    assert!(told, "{}", proxy.stderr());
}
