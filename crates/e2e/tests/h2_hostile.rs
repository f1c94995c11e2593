//! Servers that speak HTTP/2 and mean harm, or do not know better (catalogue H2-10): what they do ends their connection, or one
//! exchange, and is no answer to anybody; the proxy lives, and other upstreams do not notice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::craft::{get, sized};
use narthex_e2e::kit::h2::hpack::NEWEST;
use narthex_e2e::kit::h2::{Block, Frame, Got, H2Origin, Peer, code, setting};
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;

/// A hostile upstream at `/h2`, a good one of HTTP/1.1 for everything else.
struct Hostile {
    proxy: Proxy,
    _good: Origin,
    _bad: H2Origin,
}

fn config(bad: &H2Origin, good: &Origin, upstream: &str) -> String {
    Proxy::config(
        "",
        &format!(
            "upstream \"bad\" {{ server \"{}\"\nprotocol \"h2\"\nretry attempts=0\n{upstream}\n}}\n\
             site \"*\" {{ route path=\"/h2/*\" {{ proxy \"bad\" }}\nproxy \"{}\" }}",
            bad.addr(),
            good.place()
        ),
    )
}

impl Hostile {
    /// What the server does once a request has come on stream 1.
    #[track_caller]
    fn start(
        settings: &'static [(u16, u32)],
        then: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        let bad = H2Origin::start(None, move |link, _, _| {
            let Some(mut peer) = Peer::serve(link, settings) else {
                return;
            };
            peer.until(|p| p.streams.get(&1).is_some_and(|s| s.head.is_some()));
            then(&mut peer);
            while matches!(peer.poll(Duration::from_secs(5)), Got::Frame(_)) {}
        });
        let good = Origin::start();
        let proxy = Proxy::start(&config(&bad, &good, "timeout response=\"2s\""));
        Self {
            proxy,
            _good: good,
            _bad: bad,
        }
    }

    /// One request over HTTP/1.1, and one over HTTP/2: statuses, 0 when there was no whole answer.
    fn ask(&self) -> [u16; 2] {
        let mut client = self.proxy.connect();
        client.send(get("/h2/x", ""));
        let first = client.read_response("GET").map_or(0, |r| r.status);
        let mut peer = Peer::connect(self.proxy.addr());
        let second = peer.ask(Block::get("/h2/x"));
        assert!(peer.pings(), "the client's connection is not the server's");
        peer.assert_clean();
        [first, if second.ended { second.status() } else { 0 }]
    }

    fn others_are_served(&self) {
        assert_eq!(
            Client::connect(self.proxy.addr())
                .ask(get("/good", ""))
                .status,
            200
        );
        self.proxy.assert_sane();
    }
}

type Deed = fn(&mut Peer);

fn put(p: &mut Peer, frame: Frame) {
    p.frame(&frame);
}

fn respond(p: &mut Peer, block: Block, end: bool) {
    p.frame(&Frame::headers(1, block, end));
}

/// Nothing of this is an answer: 502 (or, when the head has gone out, a cut body), and everybody else is served.
#[test]
fn h2_10_what_is_no_answer() {
    let deeds: &[(&str, Deed)] = &[
        ("DATA before the head", |p| {
            put(p, Frame::data(1, "x", true))
        }),
        ("DATA for a stream that nobody asked for", |p| {
            put(p, Frame::data(77, "x", true))
        }),
        ("HEADERS of a stream that nobody asked for", |p| {
            put(p, Frame::headers(77, Block::status(200), true))
        }),
        ("an even stream", |p| {
            put(p, Frame::headers(2, Block::status(200), true))
        }),
        ("PUSH_PROMISE", |p| {
            put(p, Frame::push_promise(1, 2, Block::get("/pushed")))
        }),
        ("no :status", |p| {
            respond(p, Block::new().field("x", "y"), true)
        }),
        ("two :status", |p| {
            respond(p, Block::status(200).field(":status", "200"), true)
        }),
        ("a :status of letters", |p| {
            respond(p, Block::new().field(":status", "abc"), true)
        }),
        ("a :status of 99", |p| {
            respond(p, Block::new().field(":status", "99"), true)
        }),
        ("a :status of 101", |p| respond(p, Block::status(101), true)),
        ("a late :status", |p| {
            respond(
                p,
                Block::new().field("x", "y").field(":status", "200"),
                true,
            )
        }),
        (":path in an answer", |p| {
            respond(p, Block::status(200).field(":path", "/"), true)
        }),
        ("an upper-case name", |p| {
            respond(p, Block::status(200).field("Bad", "x"), true)
        }),
        ("connection", |p| {
            respond(p, Block::status(200).field("connection", "close"), true)
        }),
        ("transfer-encoding", |p| {
            respond(
                p,
                Block::status(200).field("transfer-encoding", "chunked"),
                true,
            )
        }),
        ("a line break", |p| {
            respond(
                p,
                Block::status(200).field("x", "a\r\nset-cookie: evil=1"),
                true,
            )
        }),
        ("a NUL", |p| {
            respond(p, Block::status(200).field("x", "a\0b"), true)
        }),
        ("more than its length", |p| {
            respond(p, Block::status(200).field("content-length", "1"), false);
            p.frame(&Frame::data(1, "too much", true));
        }),
        ("less than its length", |p| {
            respond(p, Block::status(200).field("content-length", "10"), true)
        }),
        ("two lengths", |p| {
            respond(
                p,
                Block::status(200)
                    .field("content-length", "0")
                    .field("content-length", "1"),
                true,
            )
        }),
        ("an interim answer that is the end", |p| {
            respond(p, Block::status(103), true)
        }),
        ("entry 0", |p| {
            respond(p, Block::status(200).indexed(0), true)
        }),
        ("an entry that is not there", |p| {
            respond(p, Block::status(200).indexed(NEWEST), true)
        }),
        ("WINDOW_UPDATE of 0", |p| put(p, Frame::window(0, 0))),
        ("a window that overflows", |p| {
            put(p, Frame::window(0, i32::MAX as u32))
        }),
        ("MAX_FRAME_SIZE 0", |p| {
            p.settings(&[(setting::MAX_FRAME_SIZE, 0)]);
        }),
        ("ENABLE_PUSH by a server", |p| {
            p.settings(&[(setting::ENABLE_PUSH, 1)]);
        }),
        ("a frame too large", |p| {
            put(p, Frame::data(1, vec![0; 16_385], true))
        }),
        ("half a block", |p| {
            p.frame(&Frame::headers_begin(1, Block::status(200), true));
            p.frame(&Frame::ping([0; 8]));
        }),
        ("CONTINUATION without an end", |p| {
            p.frame(&Frame::headers_begin(1, Block::status(200), true));
            for _ in 0..200 {
                p.frame(&Frame::continuation(
                    1,
                    Block::new().field("x", "v".repeat(10_000)),
                    false,
                ));
            }
        }),
        ("a bomb", |p| {
            let block = Block::status(200)
                .insert("x", "v".repeat(4000))
                .indexed_times(NEWEST, 12_000);
            respond(p, block, true);
        }),
        ("an endless run of interim answers", |p| {
            for _ in 0..20_000 {
                if !p.frame(&Frame::headers(
                    1,
                    Block::status(103).field("link", "</a>"),
                    false,
                )) {
                    break;
                }
            }
        }),
        ("a refusal", |p| {
            put(p, Frame::reset(1, code::REFUSED_STREAM))
        }),
        ("a reset", |p| put(p, Frame::reset(1, code::INTERNAL))),
        ("GOAWAY for all", |p| {
            put(p, Frame::goaway(0, code::ENHANCE_YOUR_CALM))
        }),
        ("HTTP/1.1", |p| {
            p.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }),
        ("silence", |_| {}),
        ("an end", |p| p.half_close()),
    ];
    let mut wrong = Vec::new();
    for (what, deed) in deeds {
        let hostile = Hostile::start(&[], *deed);
        let begun = Instant::now();
        let statuses = hostile.ask();
        for status in statuses {
            if !(status == 0 || (500..=504).contains(&status)) {
                wrong.push(format!("{what}: {statuses:?}"));
            }
        }
        if begun.elapsed() > Duration::from_secs(9) {
            wrong.push(format!("{what}: took {:?}", begun.elapsed()));
        }
        hostile.others_are_served();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Unusual, and right.
#[test]
fn h2_10_what_is_an_answer() {
    let deeds: &[(&str, &'static [(u16, u32)], Deed)] = &[
        ("padding", &[], |p| {
            p.frame(&Frame::headers(1, Block::status(200), false).padded(200));
            p.frame(&Frame::data(1, "hi", true).padded(100));
        }),
        ("trailers", &[], |p| {
            respond(p, Block::status(200), false);
            p.frame(&Frame::headers(1, Block::new().field("x-t", "v"), true));
        }),
        ("pieces", &[], |p| {
            for f in Frame::header_pieces(1, Block::status(200).field("x", "y").as_ref(), true, 7) {
                p.frame(&f);
            }
        }),
        ("a table in use", &[], |p| {
            let block = Block::new()
                .size(100)
                .insert(":status", "200")
                .insert("x-a", "b")
                .indexed(NEWEST);
            respond(p, block, true);
        }),
        ("frames that nobody knows", &[], |p| {
            p.frame(&Frame::new(0x99, 0xff, 0, [0; 20]));
            respond(p, Block::status(200), true);
        }),
        (
            "an answer before the end of a frame of credit",
            &[(setting::INITIAL_WINDOW_SIZE, 0)],
            |p| {
                respond(p, Block::status(200), true);
            },
        ),
        (
            "one stream at a time",
            &[(setting::MAX_CONCURRENT_STREAMS, 1)],
            |p| respond(p, Block::status(200), true),
        ),
        ("GOAWAY behind the answer", &[], |p| {
            p.frame(&Frame::goaway(1, 0));
            respond(p, Block::status(200), true);
        }),
    ];
    for (what, settings, deed) in deeds {
        let hostile = Hostile::start(settings, *deed);
        let mut client = hostile.proxy.connect();
        client.send(get("/h2/x", ""));
        let answer = client.read_response("GET");
        assert!(
            answer.as_ref().is_ok_and(|r| r.status == 200),
            "{what}: {answer:?}\n{}",
            hostile.proxy.stderr()
        );
        hostile.others_are_served();
    }
}

/// A good server: requests of both versions, bodies both ways, many at once.
#[test]
fn a_good_server() {
    let (good, bad) = (Origin::start(), H2Origin::echo());
    let proxy = Proxy::start(&config(&bad, &good, ""));
    let mut client = proxy.connect();
    for _ in 0..5 {
        let answer = client.ask(sized("/h2/up", "", &"b".repeat(100_000)));
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().contains("POST /h2/up len=100000"),
            "{}",
            answer.text()
        );
    }
    let mut peer = Peer::connect(proxy.addr());
    let ids: Vec<u32> = (0..60)
        .map(|n| peer.open(Block::get(&format!("/h2/{n}")), true))
        .collect();
    for (n, id) in ids.iter().enumerate() {
        let answer = peer.answer(*id);
        assert_eq!(answer.text(), format!("GET /h2/{n} len=0\n"));
    }
    peer.assert_clean();
    let seen = bad.records.all();
    assert_eq!(seen.len(), 65);
    for (_, _, request) in &seen {
        assert_eq!(request.field(":scheme").as_deref(), Some("http"));
        assert_eq!(request.field(":authority").as_deref(), Some("a"));
        assert_eq!(request.field("host"), None);
    }
}
