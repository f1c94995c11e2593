//! HTTP/2 to servers, and between the versions: bodies, trailers, bounds of streams, ends, and servers that break the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use narthex_e2e::kit::h2peer::{
    Ask, H2Origin, RawConn, RawServer, Reply, ask, ask_all, body, frame,
};
use narthex_e2e::kit::origin::{Origin, Step, answer};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::{Fnv, eventually};
use narthex_e2e::{kit::PATIENCE, with_1_2_and_8_workers};

/// SETTINGS without a word.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn proxy(place: &str, upstream: &str) -> Proxy {
    Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n server \"{place}\"\n protocol \"h2\"\n {upstream}\n}}\nsite \"*\" {{ proxy \"u\" }}"
        ),
    ))
}

/// The answer of an HTTP/1.1 client, in the form of the other's.
fn ask_h1(proxy: &Proxy, a: &Ask) -> Reply {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: a\r\nConnection: close, te\r\n",
        a.method, a.path
    );
    for (name, value) in &a.fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !a.body.is_empty() {
        let _ = write!(head, "Content-Length: {}\r\n", a.body.len());
    }
    head += "\r\n";
    let mut client = proxy.connect();
    client.keep = 8 << 20;
    client.send([head.as_bytes(), &a.body].concat());
    let response = client.read_response(a.method).expect("an answer");
    let map = |fields: &narthex_e2e::kit::http::Fields| {
        let mut map = http::HeaderMap::new();
        for (name, value) in &fields.0 {
            map.append(
                http::HeaderName::from_bytes(name).unwrap(),
                http::HeaderValue::from_bytes(value).unwrap(),
            );
        }
        map
    };
    Reply {
        status: response.status,
        fields: map(&response.fields),
        body: response.body,
        trailers: (!response.trailers.0.is_empty()).then(|| map(&response.trailers)),
        broken: None,
    }
}

/// Both kinds of client.
fn both(proxy: &Proxy, a: &Ask) -> [Reply; 2] {
    [ask(proxy.addr(), a.clone()), ask_h1(proxy, a)]
}

fn bodies_and_trailers_pass() {
    let origin = H2Origin::start(100);
    let proxy = proxy(&origin.place(), "");
    for len in [0, 1, 10_000, 700_000, 2_000_000] {
        let sent = body(len);
        let plain = Ask::new("POST", "/echo", &sent);
        for a in [
            plain.clone(),
            plain.clone().with("x-length", "1"),
            plain.clone().with("x-trailers", "1").with("te", "trailers"),
            plain
                .clone()
                .with("x-trailers", "1")
                .with("te", "trailers")
                .with("x-length", "1"),
        ] {
            let trailers = a.fields.iter().any(|(n, _)| *n == "x-trailers");
            for (h1, reply) in both(&proxy, &a).into_iter().enumerate() {
                let what = format!("{len} bytes, {:?}, client {h1}", a.fields);
                assert_eq!(reply.status, 200, "{what}");
                assert_eq!(reply.broken, None, "{what}");
                assert_eq!(
                    reply.field("x-hash"),
                    Some(&*Fnv::of(&sent).0.to_string()),
                    "{what}"
                );
                assert_eq!(
                    Fnv::of(&reply.body),
                    Fnv::of(&sent),
                    "{what}: {}",
                    reply.body.len()
                );
                // What has a length in HTTP/1.1 has no place for trailers.
                if trailers && (len > 0 && h1 == 0 || a.fields.len() == 2) {
                    let end = reply.trailers.as_ref().and_then(|t| t.get("x-end"));
                    assert_eq!(
                        end.map(|v| v.to_str().unwrap()),
                        Some(&*Fnv::of(&sent).0.to_string()),
                        "{what}"
                    );
                    assert_eq!(reply.field("x-te"), Some("trailers"), "{what}");
                }
            }
        }
    }
    let sent = proxy.access_log_of(40);
    assert!(sent.iter().all(|r| r["status"] == 200));
}

fn a_client_of_http2_has_servers_of_http11() {
    let origin = Origin::start();
    origin.on(
        "/trailers",
        answer(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n5\r\nhello\r\n0\r\nx-end: 7\r\n\r\n",
        ),
    );
    origin.on(
        "/cut",
        [
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()),
            Step::Close,
        ],
    );
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!("site \"*\" {{ proxy \"{}\" }}", origin.place()),
    ));
    for len in [1, 70_000, 1_500_000] {
        let sent = body(len);
        let reply = ask(proxy.addr(), Ask::new("POST", "/x", &sent));
        assert_eq!((reply.status, reply.broken), (200, None));
        let seen = origin.take(1).remove(0);
        assert_eq!((seen.body_len, seen.hash), (len as u64, Fnv::of(&sent)));
    }
    let reply = ask(proxy.addr(), Ask::get("/trailers").with("te", "trailers"));
    assert_eq!(reply.body, b"hello");
    assert_eq!(reply.trailers.unwrap().get("x-end").unwrap(), "7");
    let head = ask(proxy.addr(), Ask::new("HEAD", "/x", b""));
    assert_eq!((head.status, head.body.len(), head.broken), (200, 0, None));
    let cut = ask(proxy.addr(), Ask::get("/cut"));
    assert_eq!(cut.body, b"abc");
    assert!(cut.broken.is_some());
}

fn answers_without_a_body() {
    let origin = H2Origin::start(100);
    let proxy = proxy(&origin.place(), "");
    for (path, status) in [("/204", 204), ("/304", 304)] {
        for reply in both(&proxy, &Ask::get(path)) {
            assert_eq!(
                (reply.status, reply.body.len(), reply.broken),
                (status, 0, None)
            );
        }
    }
    for reply in both(&proxy, &Ask::new("HEAD", "/bytes/5000", b"")) {
        assert_eq!(
            (reply.status, reply.body.len(), &reply.broken),
            (200, 0, &None)
        );
        assert_eq!(reply.field("content-length"), Some("5000"));
        assert_eq!(reply.field("x-method"), Some("HEAD"));
    }
}

fn many_requests_share_few_connections() {
    let origin = H2Origin::start(50);
    let proxy = proxy(&origin.place(), "");
    // All of one client's connection, which is one core's.
    let asks = vec![Ask::get("/crowd/100"); 100];
    for reply in ask_all(proxy.addr(), &asks) {
        assert_eq!(reply.unwrap().status, 200);
    }
    let counts = &origin.counts;
    assert_eq!(counts.crowd.load(Ordering::SeqCst), 100);
    assert!(counts.streams.load(Ordering::SeqCst) <= 50);
    assert_eq!(counts.connections.load(Ordering::SeqCst), 2);
}

fn a_server_of_one_stream_is_asked_in_turn() {
    let origin = H2Origin::start(1);
    let proxy = proxy(&origin.place(), "connections max=2 queue=200");
    let asks = vec![Ask::new("POST", "/echo", &body(3_000)); 60];
    for reply in ask_all(proxy.addr(), &asks) {
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.body.len()), (200, 3_000));
    }
    let counts = &origin.counts;
    assert_eq!(counts.streams.load(Ordering::SeqCst), 1);
    assert_eq!(counts.requests.load(Ordering::SeqCst), 60);
    assert!(counts.connections.load(Ordering::SeqCst) <= 2);
}

fn what_a_server_refuses_is_sent_again() {
    let origin = H2Origin::start(100);
    let proxy = proxy(&origin.place(), "");
    for (i, a) in [
        Ask::get("/refuse-once/a"),
        Ask::new("POST", "/refuse-once/b", b""),
        Ask::new("POST", "/refuse-once/c", &body(5_000)),
    ]
    .into_iter()
    .enumerate()
    {
        let h2 = ask(proxy.addr(), a.clone());
        assert_eq!(h2.status, 200, "{i}");
        assert_eq!(h2.field("x-hash"), Some(&*Fnv::of(&a.body).0.to_string()));
        let again = Ask {
            path: format!("{}-h1", a.path),
            ..a
        };
        let h1 = ask_h1(&proxy, &again);
        assert_eq!(h1.status, 200, "{i} of HTTP/1.1");
        assert_eq!(
            h1.field("x-hash"),
            Some(&*Fnv::of(&again.body).0.to_string())
        );
    }
}

fn what_a_goaway_leaves_out_is_sent_again() {
    let server = RawServer::start(|c| {
        c.send(SETTINGS);
        if c.number % 2 == 1 {
            return c.serve();
        }
        // The first is answered, the second above the last that it says it has taken.
        if let Some(first) = c.request() {
            c.ok(first);
            c.request();
            c.send(&frame(7, 0, 0, &[first.to_be_bytes(), [0; 4]].concat()));
            while c.frame().is_some() {}
        }
    });
    let proxy = proxy(&server.place(), "");
    for method in ["GET", "POST"] {
        for _ in 0..2 {
            let reply = ask(proxy.addr(), Ask::new(method, "/", b""));
            assert_eq!((reply.status, reply.broken), (200, None), "{method}");
        }
    }
    let log = proxy.access_log_of(4);
    assert!(log.iter().all(|r| r["status"] == 200), "{log:?}");
}

fn a_reset_inside_an_answer_does_not_look_complete() {
    let origin = H2Origin::start(100);
    let proxy = proxy(&origin.place(), "");
    for a in [
        Ask::get("/reset/20000"),
        Ask::get("/reset/20000").with("x-length", "1"),
    ] {
        let h2 = ask(proxy.addr(), a.clone());
        assert_eq!(h2.status, 200);
        assert!(
            h2.broken.is_some(),
            "{:?}: {} bytes",
            a.fields,
            h2.body.len()
        );
        let mut client = proxy.connect();
        let length = if a.fields.is_empty() {
            ""
        } else {
            "x-length: 1\r\n"
        };
        client.send(format!(
            "GET /reset/20000 HTTP/1.1\r\nHost: a\r\n{length}\r\n"
        ));
        assert!(client.read_response("GET").is_err(), "{:?}", a.fields);
    }
    // The connection to the server goes on.
    assert_eq!(ask(proxy.addr(), Ask::get("/")).status, 200);
    let before = origin.counts.connections.load(Ordering::SeqCst);
    assert!(before <= narthex_e2e::kit::workers::now());
}

/// What a server does wrong, and what its client gets then.
struct Wrong {
    name: &'static str,
    bytes: fn(u32) -> Vec<u8>,
    /// The connection is given up; else the request alone is.
    fatal: bool,
}

const WRONG: &[Wrong] = &[
    Wrong {
        name: "MAX_FRAME_SIZE of 0",
        bytes: |_| frame(4, 0, 0, &[0, 5, 0, 0, 0, 0]),
        fatal: true,
    },
    Wrong {
        name: "INITIAL_WINDOW_SIZE beyond 31 bits",
        bytes: |_| frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        fatal: true,
    },
    Wrong {
        name: "no streams allowed, and GOAWAY",
        bytes: |_| {
            let mut all = frame(4, 0, 0, &[0, 3, 0, 0, 0, 0]);
            all.extend(frame(7, 0, 0, &[0; 8]));
            all
        },
        fatal: true,
    },
    Wrong {
        name: "WINDOW_UPDATE of 0 of the connection",
        bytes: |_| frame(8, 0, 0, &[0; 4]),
        fatal: true,
    },
    Wrong {
        name: "WINDOW_UPDATE of 0 of the stream",
        bytes: |s| frame(8, 0, s, &[0; 4]),
        fatal: false,
    },
    Wrong {
        name: "DATA of a stream that nobody has opened",
        bytes: |s| frame(0, 0, s + 100, b"x"),
        fatal: true,
    },
    Wrong {
        name: "DATA before the head",
        bytes: |s| frame(0, 0, s, b"x"),
        fatal: false,
    },
    Wrong {
        name: "PUSH_PROMISE",
        bytes: |s| frame(5, 4, s, &[0, 0, 0, 2, 0x82]),
        fatal: true,
    },
    Wrong {
        name: "HEADERS of a stream of its own",
        bytes: |_| frame(1, 5, 2, &[0x88]),
        fatal: true,
    },
    Wrong {
        name: "HPACK of nonsense",
        bytes: |s| frame(1, 5, s, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        fatal: true,
    },
    Wrong {
        name: "a head of 200 KiB",
        bytes: |s| {
            let mut block = vec![0x88];
            for _ in 0..200 {
                block.extend_from_slice(&[0, 1, b'a', 0x7f, 0x81, 0x07]);
                block.extend_from_slice(&[b'v'; 1024]);
            }
            let mut all = Vec::new();
            let pieces: Vec<_> = block.chunks(16_000).collect();
            for (i, piece) in pieces.iter().enumerate() {
                let last = if i + 1 == pieces.len() { 4 } else { 0 };
                let kind = if i == 0 { 1 } else { 9 };
                all.extend(frame(kind, last | u8::from(i == 0), s, piece));
            }
            all
        },
        fatal: true,
    },
    Wrong {
        name: "CONTINUATION without an end",
        bytes: |s| {
            let mut all = frame(1, 0, s, &[0x88]);
            for _ in 0..5_000 {
                all.extend(frame(9, 0, s, b""));
            }
            all
        },
        fatal: true,
    },
    Wrong {
        name: "no status",
        bytes: |s| frame(1, 5, s, &[0, 1, b'a', 1, b'b']),
        fatal: false,
    },
    Wrong {
        name: "a name with a line end",
        bytes: |s| frame(1, 5, s, b"\x88\0\x04a\r\nb\x01c"),
        fatal: false,
    },
    Wrong {
        name: "a value with a line end",
        bytes: |s| frame(1, 5, s, b"\x88\0\x01a\x04b\r\nc"),
        fatal: false,
    },
    Wrong {
        name: "transfer-encoding",
        bytes: |s| frame(1, 5, s, b"\x88\0\x11transfer-encoding\x07chunked"),
        fatal: false,
    },
    Wrong {
        name: "connection",
        bytes: |s| frame(1, 5, s, b"\x88\0\x0aconnection\x05close"),
        fatal: false,
    },
    Wrong {
        name: "more than its length",
        bytes: |s| {
            let mut all = frame(1, 4, s, b"\x88\0\x0econtent-length\x012");
            all.extend(frame(0, 1, s, b"abc"));
            all
        },
        fatal: false,
    },
    Wrong {
        name: "less than its length",
        bytes: |s| {
            let mut all = frame(1, 4, s, b"\x88\0\x0econtent-length\x019");
            all.extend(frame(0, 1, s, b"abc"));
            all
        },
        fatal: false,
    },
    Wrong {
        name: "a length and no body",
        bytes: |s| frame(1, 5, s, b"\x88\0\x0econtent-length\x019"),
        fatal: false,
    },
    Wrong {
        name: "100 informational heads",
        bytes: |s| frame(1, 4, s, b"\x08\x03103").repeat(100),
        fatal: false,
    },
    Wrong {
        name: "101",
        bytes: |s| frame(1, 4, s, b"\x08\x03101"),
        fatal: false,
    },
    Wrong {
        name: "SETTINGS by the thousand",
        bytes: |_| SETTINGS.repeat(1_000),
        fatal: true,
    },
    Wrong {
        name: "PING by the thousand",
        bytes: |_| frame(6, 0, 0, &[0; 8]).repeat(1_000),
        fatal: true,
    },
    Wrong {
        name: "empty DATA by the thousand",
        bytes: |s| {
            let mut all = frame(1, 4, s, &[0x88]);
            all.extend(frame(0, 0, s, b"").repeat(1_000));
            all
        },
        fatal: true,
    },
    Wrong {
        name: "a frame of 16 MiB",
        bytes: |s| {
            let mut all = vec![0xff, 0xff, 0xff, 0, 0];
            all.extend_from_slice(&s.to_be_bytes());
            all
        },
        fatal: true,
    },
    Wrong {
        name: "HTTP/1.1",
        bytes: |_| b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
        fatal: true,
    },
];

/// H2-10: servers are hostile. Who asks gets an answer or sees that there is none; the others' do not suffer.
fn h2_10_hostile_servers() {
    let which = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(Mutex::new(Vec::<usize>::new()));
    let (now, ends) = (Arc::clone(&which), Arc::clone(&ended));
    let server = RawServer::start(move |c: &mut RawConn| {
        c.send(SETTINGS);
        while let Some(stream) = c.request() {
            let i = now.load(Ordering::SeqCst);
            match WRONG.get(i) {
                Some(wrong) => c.send(&(wrong.bytes)(stream)),
                None => c.ok(stream),
            }
        }
        ends.lock().unwrap().push(now.load(Ordering::SeqCst));
    });
    let proxy = proxy(
        &server.place(),
        "retry attempts=0\n timeout response=\"5s\"",
    );
    for (i, wrong) in WRONG.iter().enumerate() {
        for h1 in [false, true] {
            which.store(i, Ordering::SeqCst);
            let a = Ask::get("/wrong");
            if h1 {
                let mut client = proxy.connect();
                client.send("GET /wrong HTTP/1.1\r\nHost: a\r\n\r\n");
                if let Ok(response) = client.read_response("GET") {
                    assert_eq!(response.status, 502, "{}", wrong.name);
                }
            } else {
                let reply = ask_all(proxy.addr(), &[a]).pop().unwrap();
                if let Ok(reply) = reply {
                    assert!(
                        reply.status == 502 || reply.broken.is_some(),
                        "{}: {reply:?}",
                        wrong.name
                    );
                }
            }
            if wrong.fatal {
                let closed = eventually(PATIENCE, || ended.lock().unwrap().contains(&i));
                assert!(closed, "{}: the connection goes on", wrong.name);
                ended.lock().unwrap().clear();
            }
            which.store(WRONG.len(), Ordering::SeqCst);
            assert_eq!(
                ask(proxy.addr(), Ask::get("/")).status,
                200,
                "after {}",
                wrong.name
            );
        }
    }
    let log = proxy.access_log_of(WRONG.len() * 4);
    let timeouts: Vec<_> = log.iter().filter(|r| r["status"] == 504).collect();
    assert!(timeouts.is_empty(), "{timeouts:?}");
}

with_1_2_and_8_workers!(
    bodies_and_trailers_pass,
    a_client_of_http2_has_servers_of_http11,
    answers_without_a_body,
    many_requests_share_few_connections,
    a_server_of_one_stream_is_asked_in_turn,
    what_a_server_refuses_is_sent_again,
    what_a_goaway_leaves_out_is_sent_again,
    a_reset_inside_an_answer_does_not_look_complete,
    h2_10_hostile_servers,
);
