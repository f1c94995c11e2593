//! WebSocket and event streams, over HTTP/1.1 and over HTTP/2 (RFC 8441): real frames, both ways, to an origin of HTTP/1.1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::h2::cost::rss_kib;
use narthex_e2e::kit::h2::{Block, Frame, Got, H2Origin, Peer, setting};
use narthex_e2e::kit::h2peer::RawServer;
use narthex_e2e::kit::origin::{Origin, Step};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::sock::{Place, Sock};
use narthex_e2e::kit::ws::{
    OverSocket, OverStream, Pipe, Ws, WsOrigin, accept, closing, end_stream, op,
};
use narthex_e2e::kit::{PATIENCE, pause};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn config(origin: &WsOrigin, site: &str) -> String {
    let upstream = format!("upstream \"u\" {{ server \"{}\" }}", origin.addr());
    Proxy::config(
        "",
        &format!("{upstream}\nsite \"*\" {{\n{site}\nproxy \"u\"\n}}"),
    )
}

fn start(site: &str) -> (Proxy, WsOrigin) {
    let origin = WsOrigin::start();
    (Proxy::start(&config(&origin, site)), origin)
}

fn handshake(fields: &str) -> String {
    get(
        "/ws",
        &format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{fields}"
        ),
    )
}

/// Over HTTP/1.1.
#[track_caller]
fn h1(proxy: &Proxy) -> Ws<OverSocket> {
    let sock = Sock::connect(&Place::Tcp(proxy.addr()), PATIENCE).unwrap();
    let mut client = Client::over(sock.try_clone().unwrap());
    client.send(handshake(""));
    let answer = client.read_response("GET").unwrap();
    assert_eq!(answer.status, 101, "{}", answer.text());
    assert_eq!(answer.fields.get("sec-websocket-accept"), Some(accept(KEY)));
    let come = client.pending().to_vec();
    Ws::client(OverSocket(sock), come)
}

fn connect(path: &str) -> Block {
    Block::request_to("CONNECT", "http", "a", path)
        .field(":protocol", "websocket")
        .field("sec-websocket-version", "13")
}

/// Over HTTP/2.
#[track_caller]
fn h2(peer: &mut Peer) -> Ws<OverStream<'_>> {
    assert_eq!(
        peer.said.get(&setting::ENABLE_CONNECT_PROTOCOL),
        Some(&1),
        "extended CONNECT is announced"
    );
    let id = peer.open(connect("/ws"), false);
    peer.until(|p| p.streams[&id].head.is_some() || p.streams[&id].is_over());
    let answer = peer.stream(id).clone();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(!answer.ended);
    assert_eq!(answer.field("sec-websocket-accept"), None, "RFC 8441, 5");
    Ws::client(OverStream::new(peer, id), Vec::new())
}

/// What every WebSocket must do.
fn converse(ws: &mut Ws<impl Pipe>) {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 300_000] {
        let text = "x".repeat(length);
        assert!(ws.say(&text));
        assert_eq!(ws.hear(), text);
    }
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i * 7) as u8).collect();
    ws.send(op::BINARY, true, &bytes);
    assert_eq!(ws.message(), Some((op::BINARY, bytes)));
    // In pieces, with a ping between them.
    ws.send(op::TEXT, false, b"one ");
    ws.send(op::CONTINUATION, false, b"two ");
    ws.send(op::PING, true, b"between");
    ws.send(op::CONTINUATION, true, b"three");
    assert_eq!(ws.message(), Some((op::PONG, b"between".to_vec())));
    assert_eq!(ws.hear(), "one two three");
    ws.say("parts 3");
    let kinds: Vec<_> = (0..3)
        .map(|_| ws.frame(PATIENCE).unwrap())
        .map(|f| (f.op, f.fin))
        .collect();
    assert_eq!(
        kinds,
        [
            (op::TEXT, false),
            (op::CONTINUATION, false),
            (op::CONTINUATION, true)
        ],
        "as they were"
    );
    ws.say("ping");
    assert_eq!(ws.hear(), "pong");
}

/// Both ends of a Close, each way.
fn close_by_us(ws: &mut Ws<impl Pipe>) {
    ws.send(op::CLOSE, true, &closing(4001, "enough"));
    assert_eq!(ws.message(), Some((op::CLOSE, closing(4001, "enough"))));
    ws.ends();
}
fn close_by_origin(ws: &mut Ws<impl Pipe>) {
    ws.say("close 3999");
    assert_eq!(ws.message(), Some((op::CLOSE, closing(3999, "as told"))));
    ws.send(op::CLOSE, true, &closing(3999, ""));
    assert_eq!(ws.message(), Some((op::CLOSE, closing(3999, ""))));
    ws.ends();
}

/// 16 MiB in one frame, there and back; the proxy holds little of it.
fn large(ws: &mut Ws<impl Pipe>, pid: u32) {
    let bytes: Vec<u8> = (0..16_u32 << 20).map(|i| (i ^ i >> 8) as u8).collect();
    let before = rss_kib(pid);
    assert!(ws.send(op::BINARY, true, &bytes));
    let (kind, back) = ws.message().expect("16 MiB");
    assert!(kind == op::BINARY && back == bytes, "{} bytes", back.len());
    let after = rss_kib(pid);
    assert!(after < before + (12 << 10), "{before} KiB, then {after}");
}

#[test]
fn over_http_1() {
    let (proxy, origin) = start("");
    converse(&mut h1(&proxy));
    close_by_us(&mut h1(&proxy));
    close_by_origin(&mut h1(&proxy));
    let mut ws = h1(&proxy);
    ws.say("drop");
    ws.ends();
    assert!(origin.seen()[0].contains("Sec-WebSocket-Version: 13"));
}

#[test]
fn over_http_2() {
    let (proxy, origin) = start("");
    let mut peer = Peer::connect(proxy.addr());
    converse(&mut h2(&mut peer));
    close_by_us(&mut h2(&mut peer));
    close_by_origin(&mut h2(&mut peer));
    let mut ws = h2(&mut peer);
    ws.say("drop");
    ws.ends();
    assert!(peer.pings(), "a tunnel's end is not the connection's");
    peer.assert_clean();
    for head in origin.seen() {
        let lower = head.to_ascii_lowercase();
        assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
        for field in [
            "upgrade: websocket",
            "sec-websocket-key: ",
            "sec-websocket-version: 13",
            "host: a",
        ] {
            assert!(lower.contains(field), "{field} is not in {head}");
        }
        assert!(!lower.contains(":protocol"), "{head}");
    }
}

#[test]
fn large_messages() {
    let (proxy, _origin) = start("");
    large(&mut h1(&proxy), proxy.pid());
    let mut peer = Peer::connect(proxy.addr());
    large(&mut h2(&mut peer), proxy.pid());
    peer.assert_clean();
}

/// Tunnels share a connection with each other and with requests.
#[test]
fn many_tunnels_on_one_connection() {
    let (proxy, _origin) = start("");
    let mut peer = Peer::connect(proxy.addr());
    let ids: Vec<u32> = (0..20).map(|_| peer.open(connect("/ws"), false)).collect();
    for id in &ids {
        assert!(peer.until(|p| p.streams[id].status() == 200));
    }
    for round in 0..5 {
        for id in &ids {
            let mut ws = Ws::client(OverStream::new(&mut peer, *id), Vec::new());
            let text = format!("{round} on {id}");
            ws.say(&text);
            assert_eq!(ws.hear(), text);
        }
        assert_eq!(peer.ask(Block::get("/plain")).status(), 426);
    }
    for id in &ids {
        end_stream(&mut peer, *id);
        peer.until(|p| p.streams[id].is_over());
        assert!(
            peer.stream(*id).is_over(),
            "{id}: our end is the origin's, and so the tunnel's"
        );
    }
    peer.assert_clean();
}

#[test]
fn idle_tunnels_end_and_busy_ones_do_not() {
    let (proxy, _origin) = start("tunnel idle=\"400ms\"");
    let mut peer = Peer::connect(proxy.addr());
    let mut first = h1(&proxy);
    let mut second = h2(&mut peer);
    for _ in 0..8 {
        pause(Duration::from_millis(100));
        first.say("here");
        second.say("here");
        assert_eq!(
            (first.hear(), second.hear()),
            ("here".to_owned(), "here".to_owned())
        );
    }
    first.ends();
    second.ends();
    assert!(
        peer.streams.values().all(|s| s.is_over()),
        "it is over, not merely silent"
    );
    assert!(peer.pings());
}

/// A reload, also one that takes the route away, ends no tunnel.
#[test]
fn tunnels_survive_reloads() {
    let (proxy, origin) = start("");
    let mut peer = Peer::connect(proxy.addr());
    let mut first = h1(&proxy);
    let mut second = h2(&mut peer);
    for site in [
        "header response { set \"X-A\" \"b\" }",
        "route path=\"/ws\" { respond 404 }",
        "",
    ] {
        proxy.reload_ok(&config(&origin, site));
        for _ in 0..3 {
            first.say("still");
            second.say("there");
            assert_eq!(
                (first.hear(), second.hear()),
                ("still".to_owned(), "there".to_owned())
            );
        }
    }
    peer.assert_clean();
}

/// What an origin does not agree to is an ordinary answer.
#[test]
fn refusals_are_answers() {
    let rig = Rig::plain();
    for status in [200, 400, 403, 426] {
        rig.origin.on("/ws", narthex_e2e::kit::origin::echo(status));
        let mut peer = Peer::connect(rig.proxy.addr());
        let id = peer.open(connect("/ws"), false);
        peer.until(|p| p.streams[&id].head.is_some() || p.streams[&id].is_over());
        let got = peer.stream(id).status();
        // 200 would say that there is a tunnel.
        let wanted = if status == 200 { 502 } else { status };
        assert_eq!(got, wanted, "{:?}", peer.stream(id));
        assert!(peer.pings());
    }
}

fn events() -> Rig {
    let rig = Rig::full(Origin::start(), "", "", "proxy \"u\"");
    let event = |n: u8| format!("data: event {n}\n\n");
    let chunk = |text: &str| Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes());
    rig.origin.on(
        "/events",
        [
            Step::Send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            ),
            chunk(&event(1)),
            Step::Gate("second".into()),
            chunk(&event(2)),
            Step::Gate("end".into()),
            Step::Send(b"0\r\n\r\n".to_vec()),
        ],
    );
    rig
}

/// Server-sent events arrive when they are sent.
#[test]
fn events_are_not_held_back() {
    let rig = events();
    let mut client = rig.connect();
    client.send(get("/events", ""));
    assert_eq!(client.read_head().unwrap().1, 200);
    client.read_past(b"event 1\n\n");
    let mut peer = Peer::connect(rig.proxy.addr());
    let id = peer.open(Block::get("/events"), true);
    let first = peer.until(|p| p.streams[&id].text() == "data: event 1\n\n");
    assert!(first, "{:?}", peer.stream(id));
    rig.origin.open("second");
    client.read_past(b"event 2\n\n");
    assert!(peer.until(|p| p.streams[&id].text().ends_with("event 2\n\n")));
    assert!(!peer.stream(id).ended);
    rig.origin.open("end");
    assert!(peer.answer(id).ended);
    peer.assert_clean();
}

/// A server of HTTP/2 that offers tunnels (RFC 8441), or does not: what it is told on one, it says back, in lower case.
fn h2_server(offers: u32, status: u16) -> H2Origin {
    H2Origin::start(None, move |link, conn, records| {
        let Some(mut peer) = Peer::serve(link, &[(setting::ENABLE_CONNECT_PROTOCOL, offers)])
        else {
            return;
        };
        let mut told = std::collections::BTreeMap::new();
        while let Got::Frame(_) = peer.read() {
            let ids: Vec<u32> = peer.streams.keys().copied().collect();
            for id in ids {
                let stream = peer.stream(id).clone();
                let Some(head) = &stream.head else { continue };
                let tunnel = head.has(":protocol");
                let said = told.entry(id).or_insert_with(|| {
                    records.add(conn, id, stream.clone());
                    let code = if tunnel { status } else { 200 };
                    let end = code != 200 || !tunnel;
                    let head = Block::status(code).field("x-here", "1");
                    peer.frame(&Frame::headers(
                        id,
                        head.field("sec-websocket-protocol", "chat"),
                        end,
                    ));
                    if end { usize::MAX } else { 0 }
                });
                if *said != usize::MAX && stream.body.len() > *said {
                    let back = stream.body[*said..].to_ascii_lowercase();
                    *said = stream.body.len();
                    peer.body(id, &back, false);
                }
                if *said != usize::MAX && stream.ended {
                    *said = usize::MAX;
                    peer.frame(&Frame::data(id, b"bye", true));
                }
            }
        }
    })
}

fn to_h2(origin: &H2Origin) -> Proxy {
    Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\"; protocol \"h2\"; timeout connect=\"1s\" }}\nsite \"*\" {{ proxy \"u\" }}",
            origin.addr()
        ),
    ))
}

/// To a server of HTTP/2, from clients of both versions.
#[test]
fn servers_of_http2_are_asked_for_tunnels() {
    let origin = h2_server(1, 200);
    let proxy = to_h2(&origin);
    for round in 0..3 {
        let mut client = proxy.connect();
        client.send(handshake("Sec-WebSocket-Protocol: chat\r\n"));
        let (minor, status, fields) = client.read_head().unwrap();
        assert_eq!((minor, status), (1, 101), "{round}: {fields:?}");
        assert_eq!(fields.get("sec-websocket-accept"), Some(accept(KEY)));
        assert_eq!(fields.get("upgrade").as_deref(), Some("websocket"));
        assert_eq!(fields.get("connection").as_deref(), Some("Upgrade"));
        assert_eq!(
            fields.get("sec-websocket-protocol").as_deref(),
            Some("chat")
        );
        client.send("HELLO");
        assert_eq!(client.read_exactly(5), b"hello");
        let large = "A".repeat(300_000);
        client.send(&large);
        assert_eq!(
            client.read_exactly(large.len()),
            large.to_ascii_lowercase().as_bytes()
        );
        client.half_close();
        assert_eq!(client.read_exactly(3), b"bye");

        let mut peer = Peer::connect(proxy.addr());
        let id = peer.open(connect("/ws"), false);
        assert!(peer.until(|p| p.streams[&id].head.is_some()));
        assert_eq!(peer.stream(id).status(), 200);
        peer.body(id, b"HELLO", false);
        assert!(peer.until(|p| p.streams[&id].body == b"hello"));
        peer.body(id, b"", true);
        let answer = peer.answer(id);
        assert_eq!((answer.text().as_str(), answer.reset), ("hellobye", None));
        // Others use the same connection.
        assert_eq!(proxy.connect().ask(get("/n", "")).status, 200);
    }
    let seen = origin.records.all();
    let tunnels: Vec<_> = seen
        .iter()
        .filter(|(_, _, s)| s.field(":protocol").is_some())
        .collect();
    assert_eq!(tunnels.len(), 6);
    for (_, _, asked) in tunnels {
        for (name, value) in [
            (":method", Some("CONNECT")),
            (":protocol", Some("websocket")),
            (":path", Some("/ws")),
            (":scheme", Some("http")),
            ("sec-websocket-version", Some("13")),
            ("sec-websocket-key", None),
            ("connection", None),
            ("upgrade", None),
            ("content-length", None),
        ] {
            assert_eq!(asked.field(name).as_deref(), value, "{name}");
        }
    }
}

/// One that refuses is heard; one that offers none is asked by a plain GET, and its answer is no tunnel.
#[test]
fn servers_of_http2_that_give_no_tunnels() {
    let refuses = h2_server(1, 403);
    let proxy = to_h2(&refuses);
    let answer = proxy.connect().ask(handshake(""));
    assert_eq!(
        (answer.status, answer.fields.get("x-here").as_deref()),
        (403, Some("1"))
    );
    assert_eq!(
        Peer::connect(proxy.addr()).ask(connect("/ws")).status(),
        403
    );
    let without = h2_server(0, 200);
    let proxy = to_h2(&without);
    let answer = proxy.connect().ask(handshake(""));
    assert_eq!(
        (answer.status, answer.fields.get("sec-websocket-accept")),
        (200, None)
    );
    assert_eq!(
        Peer::connect(proxy.addr()).ask(connect("/ws")).status(),
        502
    );
    let seen = without.records.all();
    assert!(
        seen.iter()
            .all(|(_, _, s)| s.field(":method").as_deref() == Some("GET"))
    );
}

/// A handshake without a key, or with one that is none, is no WebSocket (RFC 6455 4.2.1); a server that does not say what it offers is
/// not waited for longer than for a connection.
#[test]
fn no_tunnel_without_a_key_or_an_offer() {
    let origin = h2_server(1, 200);
    let proxy = to_h2(&origin);
    for key in [
        "",
        "Sec-WebSocket-Key: dGhl\r\n",
        "Sec-WebSocket-Key: ?\r\n",
    ] {
        let mut client = proxy.connect();
        let answer = client.ask(get(
            "/ws",
            &format!(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{key}"
            ),
        ));
        assert_eq!(answer.status, 200, "{key}");
        assert_eq!(answer.fields.get("sec-websocket-accept"), None);
    }
    let seen = origin.records.all();
    assert!(
        seen.iter()
            .all(|(_, _, s)| s.field(":method").as_deref() == Some("GET"))
    );
    let silent = RawServer::start(|c| {
        let Some(stream) = c.request() else { return };
        c.send(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        c.ok(stream);
        c.serve();
    });
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\"; protocol \"h2\"; timeout connect=\"300ms\" }}\nsite \"*\" {{ proxy \"u\" }}",
            silent.place()
        ),
    ));
    let answer = proxy.connect().ask(handshake(""));
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}
