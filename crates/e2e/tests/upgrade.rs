//! Tunnels: WebSocket and what else a route allows. Not one byte passes before the origin's 101.
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

use narthex_e2e::kit::PATIENCE;
use narthex_e2e::kit::attack::{Client, End, Why};
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::origin::{Ended, Origin, Step};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::sock::Place;

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn switch(to: &str) -> Step {
    Step::Send(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {to}\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").into_bytes())
}

#[test]
fn websocket_passes_bytes_both_ways() {
    let rig = Rig::plain();
    rig.origin.on(
        "/ws",
        [
            switch("websocket"),
            Step::Send(b"hello from the origin".to_vec()),
            Step::Reflect,
        ],
    );
    let mut c = rig.connect();
    c.send(get("/ws", HANDSHAKE));
    let r = c.read_response("GET").unwrap();
    assert_eq!(r.status, 101);
    assert!(
        r.fields.has_token("connection", "upgrade") && r.fields.has_token("upgrade", "websocket"),
        "{:?}",
        r.fields
    );
    assert!(r.fields.has("sec-websocket-accept"));
    assert_eq!(c.read_exactly(21), b"hello from the origin");
    for n in 0..20 {
        let bytes: Vec<u8> = (0..=n * 1000).map(|i| (i * 7) as u8).collect();
        c.send(&bytes);
        assert_eq!(c.read_exactly(bytes.len()), bytes);
    }
    let seen = rig.one();
    assert_eq!(seen.header("upgrade").as_deref(), Some("websocket"));
    assert!(seen.fields.has_token("connection", "upgrade"));
    c.close();
    assert!(
        matches!(
            rig.origin.wait_end(seen.conn),
            Some(Ended::Fin | Ended::Reset)
        ),
        "the tunnel's other half ends too"
    );
    rig.alive();
    assert!(
        rig.origin
            .seen()
            .iter()
            .skip(1)
            .all(|s| s.conn != seen.conn),
        "a tunnel's connection never returns to the pool"
    );
}

/// Bytes that a client sends early are held until 101, then passed on in order.
#[test]
fn early_bytes_wait_for_101() {
    let rig = Rig::plain();
    rig.origin.on(
        "/ws",
        [Step::Gate("go".into()), switch("websocket"), Step::Reflect],
    );
    let mut c = rig.connect();
    c.send(get("/ws", HANDSHAKE) + "early bytes");
    assert!(rig.origin.wait_heads(1));
    rig.alive();
    let conn = rig.origin.seen()[0].conn;
    let raw = rig.origin.conns()[conn].raw.clone();
    assert!(
        raw.ends_with(b"\r\n\r\n"),
        "bytes reached the origin before its 101"
    );
    rig.origin.open("go");
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    assert_eq!(c.read_exactly(11), b"early bytes");
}

/// The origin must agree to what was asked for.
#[test]
fn the_protocols_must_agree() {
    // What comes early is no head, and the wait for the rest of it is shorter than the client's.
    let rig = Rig::of("timeout header=\"1s\"", "proxy \"u\"");
    for (path, first) in [
        ("/other", switch("foo")),
        (
            "/none",
            Step::Send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n".to_vec()),
        ),
        (
            "/no-connection",
            Step::Send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n".to_vec()),
        ),
    ] {
        rig.origin.on(path, [first, Step::Reflect]);
        let mut c = rig.connect();
        c.send(get(path, HANDSHAKE) + "SECRET");
        assert_eq!(c.read_response("GET").unwrap().status, 502, "{path}");
        assert_ne!(c.rest().1, End::Open);
    }
    rig.alive();
    for c in rig.origin.conns() {
        assert!(
            !c.raw.windows(6).any(|w| w == b"SECRET"),
            "tunnel bytes without a tunnel"
        );
    }
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let rig = Rig::plain();
    let mut c = rig.connect();
    for status in [200, 400, 403, 426] {
        rig.origin.on("/ws", narthex_e2e::kit::origin::echo(status));
        assert_eq!(c.ask(get("/ws", HANDSHAKE)).status, status);
        assert_eq!(
            c.ask(get("/next", "")).status,
            200,
            "the connection goes on after {status}"
        );
    }
}

/// Either side may end; the other is told, and what was sent before still arrives.
#[test]
fn tunnels_end_from_both_sides() {
    let rig = Rig::plain();
    rig.origin.on(
        "/bye",
        [
            switch("websocket"),
            Step::Send(b"last words".to_vec()),
            Step::Close,
        ],
    );
    let mut c = rig.connect();
    c.send(get("/bye", HANDSHAKE));
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    assert_eq!(c.read_exactly(10), b"last words");
    assert_eq!(c.rest(), (vec![], End::Eof));

    rig.origin.on("/half", [switch("websocket"), Step::Reflect]);
    let mut c = rig.connect();
    c.send(get("/half", HANDSHAKE));
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    c.send("some");
    c.half_close();
    assert_eq!(c.read_exactly(4), b"some");
    assert_ne!(c.rest().1, End::Open);
}

#[test]
fn idle_tunnels_end() {
    let rig = Rig::of("", "tunnel idle=\"300ms\"\nproxy \"u\"");
    rig.origin.on("/ws", [switch("websocket"), Step::Reflect]);
    let mut c = rig.connect();
    c.send(get("/ws", HANDSHAKE));
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    c.send("x");
    assert_eq!(c.read_exactly(1), b"x");
    assert_ne!(c.rest().1, End::Open);
}

#[test]
fn routes_choose_their_protocols() {
    let rig = Rig::of(
        "",
        "route path=\"/irc\" { upgrade \"irc/6.9\"; proxy \"u\" }\nproxy \"u\"",
    );
    rig.origin.on("/irc", [switch("irc/6.9"), Step::Reflect]);
    let mut c = rig.connect();
    c.send(get("/irc", "Connection: Upgrade\r\nUpgrade: irc/6.9\r\n"));
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    c.send("PING");
    assert_eq!(c.read_exactly(4), b"PING");
}

/// A tunnel asked for by POST or HTTP/1.0 is none.
#[test]
fn http_1_0_never_upgrades() {
    let rig = Rig::plain();
    let mut c = rig.connect();
    c.send(format!("GET /ws HTTP/1.0\r\nHost: a\r\n{HANDSHAKE}\r\n"));
    let r = c.read_response("GET").unwrap();
    assert_eq!(r.status, 200);
    assert!(!rig.one().fields.has("upgrade"));
    assert_eq!(c.read_response("GET").unwrap_err().why, Why::Eof);
}

/// A dead origin ends the handshake with 502.
#[test]
fn death_during_the_handshake() {
    let rig = Rig::full(
        Origin::start(),
        "",
        "timeout response=\"300ms\"\nretry attempts=0",
        "proxy \"u\"",
    );
    rig.origin
        .on("/dies", [Step::Reset])
        .on("/hangs", [Step::AwaitEnd]);
    assert_eq!(rig.connect().ask(get("/dies", HANDSHAKE)).status, 502);
    assert_eq!(rig.connect().ask(get("/hangs", HANDSHAKE)).status, 504);
    assert!(
        rig.origin
            .wait_conns(PATIENCE, |cs| cs.iter().all(|c| c.ended.is_some()))
    );
}

/// One side ends its direction and is then reset while the other says nothing: the tunnel is over, not idle.
#[test]
fn a_half_closed_tunnel_whose_side_dies_is_over() {
    let origin = Origin::start();
    let text = Rig::text(
        &origin,
        "",
        "",
        "tunnel idle=\"1h\"\nroute path=\"/marker\" { respond 200 \"here\" }\nroute path=\"/*\" { proxy \"u\" }",
    );
    let proxy = Proxy::start(&text.replace("workers 2", "workers 1"));
    origin
        .on("/silent", [switch("websocket"), Step::Gate("never".into())])
        .on(
            "/dies",
            [
                switch("websocket"),
                Step::HalfClose,
                Step::Gate("die".into()),
                Step::Reset,
            ],
        );
    let mut c = proxy.connect();
    c.send(get("/silent", HANDSHAKE));
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    c.half_close();
    // One core takes events as they come: the end has been seen when this is answered.
    assert_eq!(proxy.connect().ask(get("/marker", "")).text(), "here");
    c.reset();
    assert_eq!(proxy.access_log_of(2).len(), 2, "the client is gone");

    let mut c = proxy.connect();
    c.send(get("/dies", HANDSHAKE));
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    assert_eq!(c.rest(), (Vec::new(), End::Eof));
    origin.open("die");
    assert_eq!(proxy.access_log_of(3).len(), 3, "the origin is gone");
}

/// A server that has said its last and is gone: what it said is delivered, though nothing can be sent to it any more.
#[test]
fn last_words_reach_a_slow_client() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::unix(&dir.path().join("o.sock"), "unix");
    // More than the client's socket takes, less than all buffers on the way. Unix sockets have fixed ones.
    let words: Vec<u8> = (0..400_000_usize).map(|i| (i * 7) as u8).collect();
    origin.on(
        "/ws",
        [switch("websocket"), Step::Send(words.clone()), Step::Close],
    );
    let text = format!(
        "version 1\nworkers 2\nlisten \"127.0.0.1:@PORT@\"\nlisten \"unix:@DIR@/in.sock\"\n\
         upstream \"u\" {{ server \"{}\" }}\nsite \"*\" {{ proxy \"u\" }}\n",
        origin.place()
    );
    let proxy = Proxy::start(&text);
    let place = Place::from(proxy.dir().join("in.sock").as_path());
    let mut c = Client::to(&place);
    c.send(get("/ws", HANDSHAKE));
    assert_eq!(c.read_response("GET").unwrap().status, 101);
    assert!(origin.wait_end(0).is_some());
    // Nobody takes this any more.
    c.send("late");
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
    let got = c.read_exactly(words.len());
    assert!(got == words, "{} bytes", got.len());
}
