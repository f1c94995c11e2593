//! gRPC-Web from clients of both versions to a server of gRPC by its own library: binary and Base64, unary and streams, failures of
//! ours in the same form, and what is broken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use narthex_e2e::kit::attack::Response;
use narthex_e2e::kit::grpc::GrpcServer;
use narthex_e2e::kit::h2::{Block, Frame, H2Origin, Peer};
use narthex_e2e::kit::h2peer::{Ask, ask, body};
use narthex_e2e::kit::http::Fields;
use narthex_e2e::kit::proxy::{Proxy, free_port};
use narthex_e2e::kit::ws::base64;
use narthex_e2e::kit::{PATIENCE, eventually};
use narthex_e2e::with_1_2_and_8_workers;

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

fn proxy(place: &str, site: &str) -> Proxy {
    Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n server \"{place}\"\n protocol \"h2\"\n}}\nsite \"*\" {{\n grpc-web\n {site}\n proxy \"u\"\n}}"
        ),
    ))
}

/// A message as gRPC frames it.
fn message(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0][..], &len, bytes].concat()
}

/// Each group of four letters by itself, as clients read it.
fn unbase64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(text.len().is_multiple_of(4), "{}", text.escape_ascii());
    for four in text.chunks(4) {
        let padding = match four {
            [_, _, b'=', b'='] => 2,
            [.., b'='] => 1,
            _ => 0,
        };
        let n = four.iter().fold(0_u32, |n, b| {
            let at = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => 0,
                _ => panic!("{} in {}", b, text.escape_ascii()),
            };
            n << 6 | u32::from(at)
        });
        out.extend_from_slice(&n.to_be_bytes()[1..4 - padding]);
    }
    out
}

/// What a client of gRPC-Web makes of an answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    content_type: String,
    head: Vec<(String, String)>,
    messages: Vec<Vec<u8>>,
    /// Of the last frame.
    trailers: Option<Vec<(String, String)>>,
    /// What is no whole frame.
    rest: Vec<u8>,
}

impl Answer {
    fn of(status: u16, head: Vec<(String, String)>, body: &[u8]) -> Self {
        let content_type = head.iter().find(|(n, _)| n == "content-type");
        let content_type = content_type.map(|(_, v)| v.clone()).unwrap_or_default();
        let plain = if content_type.starts_with(TEXT) {
            unbase64(body)
        } else {
            body.to_vec()
        };
        let mut answer = Self {
            status,
            content_type,
            head,
            messages: Vec::new(),
            trailers: None,
            rest: Vec::new(),
        };
        let mut rest = plain.as_slice();
        while let Some((&[kind, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
            let Some((frame, after)) =
                after.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize)
            else {
                break;
            };
            assert!(answer.trailers.is_none(), "something behind the trailers");
            match kind {
                0 => answer.messages.push(frame.to_vec()),
                0x80 => {
                    let text = std::str::from_utf8(frame).unwrap();
                    let lines = text.split_terminator("\r\n");
                    let pair = |l: &str| {
                        let (name, value) = l.split_once(": ").unwrap();
                        (name.to_owned(), value.to_owned())
                    };
                    answer.trailers = Some(lines.map(pair).collect());
                }
                kind => panic!("a frame of kind {kind}"),
            }
            rest = after;
        }
        answer.rest = rest.to_vec();
        answer
    }

    /// From the head or the last frame.
    fn field(&self, name: &str) -> Option<&str> {
        let all = self.head.iter().chain(self.trailers.iter().flatten());
        all.into_iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// All is well, and these are the messages.
    #[track_caller]
    fn assert_ok(&self, what: &str, messages: &[Vec<u8>]) {
        assert_eq!(self.status, 200, "{what}: {self:?}");
        assert_eq!(self.field("grpc-status"), Some("0"), "{what}");
        assert!(self.trailers.is_some(), "{what}");
        assert!(
            self.messages == messages,
            "{what}: {} messages",
            self.messages.len()
        );
        assert!(self.rest.is_empty(), "{what}");
    }
}

fn pairs(fields: &Fields) -> Vec<(String, String)> {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let pair = |(n, v): &(Vec<u8>, Vec<u8>)| (text(n).to_ascii_lowercase(), text(v));
    fields.0.iter().map(pair).collect()
}

/// A client of either version.
#[derive(Debug, Clone, Copy)]
enum Client {
    Http1,
    /// HTTP/1.1 with a body in chunks of so many bytes.
    Chunked(usize),
    Http2,
}

const CLIENTS: [Client; 4] = [
    Client::Http1,
    Client::Chunked(1_000),
    Client::Chunked(7),
    Client::Http2,
];

impl Client {
    fn call(
        self,
        proxy: &Proxy,
        method: &str,
        fields: &[(&'static str, &str)],
        body: &[u8],
    ) -> Answer {
        let path = format!("/t.T/{method}");
        if let Self::Http2 = self {
            let mut request = Ask::new("POST", &path, body);
            for (name, value) in fields {
                request = request.with(name, value);
            }
            let reply = ask(proxy.addr(), request);
            assert_eq!(reply.broken, None);
            assert!(
                reply.trailers.is_none(),
                "trailers as such: {:?}",
                reply.trailers
            );
            let pair = |(n, v): (&http::HeaderName, &http::HeaderValue)| {
                (n.to_string(), v.to_str().unwrap().to_owned())
            };
            return Answer::of(
                reply.status,
                reply.fields.iter().map(pair).collect(),
                &reply.body,
            );
        }
        let response = self.http1(proxy, &path, fields, body);
        assert!(response.trailers.0.is_empty());
        Answer::of(response.status, pairs(&response.fields), &response.body)
    }

    fn http1(
        self,
        proxy: &Proxy,
        path: &str,
        fields: &[(&'static str, &str)],
        body: &[u8],
    ) -> Response {
        let mut head =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n");
        for (name, value) in fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let mut c = proxy.connect();
        c.keep = 8 << 20;
        match self {
            Self::Chunked(n) => {
                let mut wire = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
                for piece in body.chunks(n) {
                    wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    wire.extend_from_slice(piece);
                    wire.extend_from_slice(b"\r\n");
                }
                wire.extend_from_slice(b"0\r\n\r\n");
                c.send(wire);
            }
            _ => {
                let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                c.send([head.as_bytes(), body].concat());
            }
        }
        c.read_response("POST").expect("an answer")
    }
}

fn every_form_of_a_call() {
    let server = GrpcServer::start();
    for site in ["", "buffer request=\"4MiB\" response=\"4MiB\""] {
        let proxy = proxy(&server.place(), site);
        for client in CLIENTS {
            let large = if matches!(client, Client::Chunked(7)) {
                1_000
            } else {
                1 << 20
            };
            for sent in [vec![], b"hello".to_vec(), body(large)] {
                let bytes = message(&sent);
                let (front, back) = bytes.split_at(bytes.len() / 2);
                for (form, content) in [
                    (BINARY, bytes.clone()),
                    (TEXT, base64(&bytes).into_bytes()),
                    (TEXT, (base64(front) + &base64(back)).into_bytes()),
                ] {
                    let what = format!("{client:?}, {form}, {} bytes, {site}", sent.len());
                    let fields = [
                        ("content-type", form),
                        ("x-grpc-web", "1"),
                        ("x-given", "g"),
                        ("x-given-bin", "AAH/"),
                    ];
                    let answer = client.call(&proxy, "Unary", &fields, &content);
                    answer.assert_ok(&what, std::slice::from_ref(&sent));
                    assert_eq!(answer.field("x-initial"), Some("g"), "{what}");
                    let trailers = answer.trailers.as_ref().unwrap();
                    let has = |n: &str, v: &str| trailers.contains(&(n.to_owned(), v.to_owned()));
                    assert!(
                        has("x-trailing", "t") && has("x-trailing-bin", "AAH/"),
                        "{what}"
                    );
                    let kind = if form == TEXT {
                        "application/grpc-web-text+proto"
                    } else {
                        BINARY
                    };
                    assert_eq!(answer.content_type, kind, "{what}");
                }
                // A client may ask in one form and want the other.
                for (asked, wanted, content) in [
                    (BINARY, TEXT, bytes.clone()),
                    (TEXT, BINARY, base64(&bytes).into_bytes()),
                ] {
                    let fields = [("content-type", asked), ("accept", wanted)];
                    let answer = client.call(&proxy, "Unary", &fields, &content);
                    answer.assert_ok(asked, std::slice::from_ref(&sent));
                    assert!(answer.content_type.starts_with(wanted));
                }
            }
        }
    }
}

fn streams_of_servers() {
    let server = GrpcServer::start();
    let proxy = proxy(&server.place(), "");
    for client in CLIENTS {
        for form in [BINARY, TEXT] {
            let content = |m: &[u8]| match form {
                TEXT => base64(&message(m)).into_bytes(),
                _ => message(m),
            };
            let fields = [("content-type", form)];
            let all: Vec<_> = (0..500).map(|i| i.to_string().into_bytes()).collect();
            let answer = client.call(&proxy, "ServerStream", &fields, &content(b"500"));
            answer.assert_ok(&format!("{client:?}, {form}"), &all);
            let broken = client.call(&proxy, "BrokenStream", &fields, &content(b""));
            assert_eq!(broken.messages, [b"0"]);
            assert_eq!(broken.field("grpc-status"), Some("15"), "{broken:?}");
            assert_eq!(broken.field("grpc-message"), Some("after one"));
            let failed = client.call(&proxy, "Fail", &fields, &content(b""));
            assert_eq!(failed.field("grpc-status"), Some("9"), "{failed:?}");
            assert_eq!(failed.field("x-why-bin"), Some("AAH/"));
            assert!(failed.messages.is_empty());
            let late = [("content-type", form), ("grpc-timeout", "200m")];
            let late = client.call(&proxy, "Slow", &late, &content(b""));
            assert_eq!(
                (late.status, late.field("grpc-status")),
                (200, Some("4")),
                "{late:?}"
            );
        }
    }
}

fn failures_of_ours_are_in_the_form_of_the_client() {
    let dead = proxy(&format!("127.0.0.1:{}", free_port()), "");
    for client in CLIENTS {
        for form in [BINARY, TEXT] {
            let fields = [("content-type", form)];
            let content = if form == TEXT {
                "AAAAAAA="
            } else {
                "\0\0\0\0\0"
            };
            let answer = client.call(&dead, "Unary", &fields, content.as_bytes());
            assert_eq!(answer.status, 200);
            assert_eq!(answer.field("grpc-status"), Some("14"));
            assert!(
                answer
                    .field("grpc-message")
                    .unwrap()
                    .contains("connect-refused")
            );
            assert!(
                answer.content_type.starts_with(form) && answer.content_type.ends_with("+proto")
            );
            assert!(answer.messages.is_empty() && answer.trailers.is_none());
        }
    }
    // The connection is none the worse for it.
    let mut c = dead.connect();
    for _ in 0..3 {
        let reply = c.ask("POST /t.T/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0");
        assert_eq!(reply.fields.get("grpc-status").as_deref(), Some("14"));
        assert_eq!(reply.fields.get("content-length").as_deref(), Some("0"));
    }
    let log = dead.access_log_of(CLIENTS.len() * 2 + 3);
    assert!(log.iter().all(|r| r["status"] == 502), "{log:?}");
}

fn text_that_is_none_is_refused() {
    let server = GrpcServer::start();
    for site in ["", "buffer request=\"1MiB\""] {
        let proxy = proxy(&server.place(), site);
        let long = "A".repeat(30_000);
        for client in CLIENTS {
            for content in [
                "A",
                "AAAAAAA",
                "AAAAAAA!",
                "AAAA AAA=",
                "AAAAAAA=\r\n",
                "====",
                "AAAAAAB=",
                &format!("{long}A"),
                &format!("{long}.{long}"),
            ] {
                let fields = [("content-type", TEXT)];
                let answer = client.call(&proxy, "Unary", &fields, content.as_bytes());
                let what = format!("{client:?}, {} letters, {site}", content.len());
                // Of what is not buffered a server may have had a whole message, and answered it, before the rest came.
                if content.len() > long.len()
                    && site.is_empty()
                    && answer.field("grpc-status") == Some("0")
                {
                    continue;
                }
                assert_eq!(
                    (answer.status, answer.field("grpc-status")),
                    (200, Some("13")),
                    "{what}"
                );
                assert_eq!(
                    answer.field("narthex-reason"),
                    Some("grpc-web-text"),
                    "{what}"
                );
            }
        }
        let answer = Client::Http2.call(&proxy, "Unary", &[("content-type", TEXT)], b"AAAAAAA=");
        answer.assert_ok("afterwards", &[vec![]]);
    }
}

with_1_2_and_8_workers!(
    every_form_of_a_call,
    streams_of_servers,
    failures_of_ours_are_in_the_form_of_the_client,
    text_that_is_none_is_refused
);

/// Each message goes when it comes, in whole groups of letters.
#[test]
fn messages_are_not_held_back() {
    let go_on = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go_on);
    let origin = H2Origin::start(None, move |link, _, records| {
        let Some(mut peer) = Peer::serve(link, &[]) else {
            return;
        };
        for id in (1..).step_by(2) {
            if !peer.until(|p| p.streams.get(&id).is_some_and(|s| s.ended)) {
                return;
            }
            records.add(0, id, peer.stream(id).clone());
            let head = Block::status(200).field("content-type", "application/grpc");
            peer.frame(&Frame::headers(id, head, false));
            peer.frame(&Frame::data(id, message(b"one"), false));
            eventually(PATIENCE, || gate.load(Ordering::SeqCst));
            peer.frame(&Frame::data(id, message(b"two"), false));
            let trailers = Block::new().field("grpc-status", "0");
            peer.frame(&Frame::headers(id, trailers, true));
        }
    });
    let proxy = proxy(&origin.addr().to_string(), "");
    let one = base64(&message(b"one"));
    let end = base64(&message(b"two")) + &base64(b"\x80\0\0\0\x10grpc-status: 0\r\n");

    let mut c = proxy.connect();
    c.send(format!(
        "POST /t.T/A HTTP/1.1\r\nHost: a\r\nContent-Type: {TEXT}\r\nAccept: {TEXT}\r\nX-Kept: 1\r\nContent-Length: 8\r\n\r\nAAAAAAA="
    ));
    c.read_past(b"\r\n\r\n");
    let first = c.read_past(format!("\r\n{one}\r\n").as_bytes());
    assert_eq!(first, format!("{:x}\r\n{one}\r\n", one.len()).as_bytes());
    go_on.store(true, Ordering::SeqCst);
    let rest = String::from_utf8(c.read_past(b"0\r\n\r\n")).unwrap();
    let text: String = rest.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(text, end);

    go_on.store(false, Ordering::SeqCst);
    let mut peer = Peer::connect(proxy.addr());
    let block = Block::post("/t.T/A").field("content-type", TEXT);
    let id = peer.open(block, false);
    peer.body(id, b"AAAAAAA=", true);
    assert!(peer.until(|p| p.streams[&id].body == one.as_bytes()));
    go_on.store(true, Ordering::SeqCst);
    let answer = peer.answer(id);
    assert_eq!(answer.text(), one + &end);
    assert_eq!(answer.trailers, None);

    // What the server was asked.
    let (_, _, asked) = origin.records.all().remove(0);
    assert_eq!(asked.body, [0; 5]);
    for (name, value) in [
        ("content-type", Some("application/grpc")),
        ("te", Some("trailers")),
        ("accept", None),
        ("content-length", None),
        ("x-kept", Some("1")),
    ] {
        assert_eq!(asked.field(name).as_deref(), value, "{name}");
    }
}

/// What is no call by gRPC-Web, or no answer of gRPC, passes as it is.
#[test]
fn others_pass_as_they_are() {
    let origin = H2Origin::echo();
    let place = origin.addr().to_string();
    let with = proxy(&place, "");
    let without = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{place}\"; protocol \"h2\" }}\nsite \"*\" {{ proxy \"u\" }}"
        ),
    ));
    let seen = || origin.records.all().pop().unwrap().2;
    for (proxy, method, kind, translated) in [
        (&without, "POST", TEXT, false),
        (&with, "PUT", TEXT, false),
        (&with, "POST", "application/grpc-web-textual", false),
        (&with, "POST", "text/plain", false),
        (&with, "POST", TEXT, true),
    ] {
        let request = Ask::new(method, "/x", b"AAAAAAA=").with("content-type", kind);
        let reply = ask(proxy.addr(), request);
        assert_eq!(reply.status, 200);
        let request = seen();
        let (kind, len) = if translated {
            ("application/grpc", 5)
        } else {
            (kind, 8)
        };
        assert_eq!(request.field("content-type").as_deref(), Some(kind));
        assert_eq!(request.body.len(), len);
        // The origin does not speak gRPC.
        assert_eq!(reply.body, format!("{method} /x len={len}\n").into_bytes());
    }
}

/// A body's bound is for what was sent; a server that breaks off is seen to do so.
#[test]
fn bounds_and_ends() {
    let server = GrpcServer::start();
    let small = proxy(&server.place(), "body max=\"1KiB\"");
    let text = base64(&message(&[0; 2_000]));
    for client in CLIENTS {
        let answer = client.call(&small, "Unary", &[("content-type", TEXT)], text.as_bytes());
        assert_eq!(answer.field("grpc-status"), Some("8"), "{client:?}");
    }
    let breaking = H2Origin::start(None, |link, _, _| {
        let Some(mut peer) = Peer::serve(link, &[]) else {
            return;
        };
        for id in (1..).step_by(2) {
            if !peer.until(|p| p.streams.get(&id).is_some_and(|s| s.ended)) {
                return;
            }
            let head = Block::status(200).field("content-type", "application/grpc");
            peer.frame(&Frame::headers(id, head, false));
            peer.frame(&Frame::data(id, message(b"one"), false));
            peer.frame(&Frame::reset(id, 2));
        }
    });
    let proxy = proxy(&breaking.addr().to_string(), "");
    let reply = ask(
        proxy.addr(),
        Ask::new("POST", "/t.T/A", &[0; 5]).with("content-type", BINARY),
    );
    assert!(reply.broken.is_some(), "{reply:?}");
    let mut c = proxy.connect();
    c.send("POST /t.T/A HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0");
    assert!(c.read_response("POST").is_err());
}
