//! Requests over HTTP/2 that are none (catalogue H2-01 to H2-09, H2-13): what is malformed never reaches an origin, whatever
//! becomes of it after the downgrade.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use narthex_e2e::kit::PATIENCE;
use narthex_e2e::kit::h2::peer::Stream;
use narthex_e2e::kit::h2::{Block, Frame, Peer, code};
use narthex_e2e::kit::origin::{Seen, Step, echo};
use narthex_e2e::kit::rig::Rig;

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Answered by the origin, which saw a whole request.
    Fine,
    /// RST_STREAM with PROTOCOL_ERROR.
    Malformed,
    /// The same, or 400.
    Refused,
}

/// Runs requests on a rig, and collects what is wrong.
struct Judge<'r> {
    rig: &'r Rig,
    peer: Peer,
    rows: usize,
    failures: Vec<String>,
}

impl<'r> Judge<'r> {
    fn new(rig: &'r Rig) -> Self {
        let peer = Peer::connect(rig.proxy.addr());
        Self {
            rig,
            peer,
            rows: 0,
            failures: Vec::new(),
        }
    }

    /// A block that ends the stream.
    fn head(&mut self, want: Want, what: &str, block: Block) {
        self.row(want, what, |id| vec![Frame::headers(id, &block, true)]);
    }

    /// A whole request.
    fn row(&mut self, want: Want, what: &str, frames: impl Fn(u32) -> Vec<Frame>) {
        self.rows += 1;
        // What it provokes is counted; that is for other tests.
        if self.rows.is_multiple_of(15) || self.peer.over.is_some() || !self.peer.goaways.is_empty()
        {
            self.peer = Peer::connect(self.rig.proxy.addr());
        }
        self.rig.origin.take(0);
        let id = self.peer.fresh();
        let before = self.peer.stream(id).is_over();
        assert!(!before);
        self.peer.frames(&frames(id));
        let over = self.peer.until(|p| p.streams[&id].is_over());
        let answer = self.peer.stream(id).clone();
        let mut wrong = Vec::new();
        if !over {
            wrong.push(format!("no end: {answer:?}"));
        }
        let right = match want {
            Want::Fine => {
                answer.status() == 200 && answer.reset.is_none_or(|r| r == code::NO_ERROR)
            }
            Want::Malformed => answer.head.is_none() && answer.reset == Some(code::PROTOCOL),
            Want::Refused => {
                answer.status() == 400
                    || answer.head.is_none() && answer.reset == Some(code::PROTOCOL)
            }
        };
        if over && !right {
            wrong.push(format!(
                "status {}, reset {:?}, {}",
                answer.status(),
                answer.reset,
                answer.text()
            ));
        }
        if !self.peer.pings() {
            wrong.push(format!(
                "the connection: {:?} {:?}",
                self.peer.over, self.peer.goaways
            ));
        }
        wrong.append(&mut self.peer.faults);
        wrong.extend(self.at_origin(want));
        if !wrong.is_empty() {
            self.failures
                .push(format!("{what} (must be {want:?}): {}", wrong.join("; ")));
        }
    }

    /// What is wrong with what the origin saw: a whole request that must not be, or a connection that goes on after half of one.
    fn at_origin(&self, want: Want) -> Option<String> {
        let seen = self.rig.origin.take(usize::from(want == Want::Fine));
        // The request before, if it said that nothing comes, may arrive late.
        let empty =
            |s: &Seen| s.header("content-length").as_deref() == Some("0") && s.body_len == 0;
        if want == Want::Fine {
            let right =
                seen.last().is_some_and(|s| s.complete) && seen.iter().rev().skip(1).all(empty);
            return (!right).then(|| format!("the origin saw {seen:?}"));
        }
        for half in seen {
            let ended = self.rig.origin.wait_end(half.conn).is_some();
            // A length of 0 is complete before anybody knows better.
            if half.complete && !empty(&half) || !ended {
                return Some(format!(
                    "the origin saw {half:?}, connection ended: {ended}"
                ));
            }
        }
        None
    }

    #[track_caller]
    fn done(mut self, at_least: usize) {
        assert!(self.rows >= at_least, "{} rows", self.rows);
        let answer = Peer::connect(self.rig.proxy.addr()).ask(Block::get("/after"));
        if answer.status() != 200 {
            self.failures.push(format!("afterwards: {answer:?}"));
        }
        assert!(
            self.failures.is_empty(),
            "{} of {} wrong:\n{}\n{}",
            self.failures.len(),
            self.rows,
            self.failures.join("\n"),
            self.rig.proxy.stderr()
        );
        self.rig.alive();
    }
}

/// H2-01: lengths that are announced and those that are sent, in every place where a stream can end.
#[test]
fn h2_01_content_length() {
    let rig = Rig::plain();
    let mut judge = Judge::new(&rig);
    let lengths: [(&str, &[&str], Want); 9] = [
        ("right", &["5"], Want::Fine),
        ("none", &[], Want::Fine),
        ("too long", &["6"], Want::Malformed),
        ("too short", &["4"], Want::Malformed),
        ("zero", &["0"], Want::Malformed),
        ("huge", &["9223372036854775807"], Want::Malformed),
        ("two that differ", &["5", "6"], Want::Malformed),
        ("two that differ, turned", &["6", "5"], Want::Malformed),
        ("no number", &["+5"], Want::Malformed),
    ];
    for (name, lengths, want) in lengths {
        let block = || {
            let fields = Block::post("/p").field("x-id", "cl");
            lengths
                .iter()
                .fold(fields, |b, l| b.field("content-length", l))
        };
        let head = |id| Frame::headers(id, block(), false);
        judge.row(want, &format!("{name}, END on DATA"), |id| {
            vec![head(id), Frame::data(id, "hello", true)]
        });
        judge.row(want, &format!("{name}, END on the second DATA"), |id| {
            vec![
                head(id),
                Frame::data(id, "he", false),
                Frame::data(id, "llo", true).padded(9),
            ]
        });
        judge.row(want, &format!("{name}, END on an empty DATA"), |id| {
            vec![
                head(id),
                Frame::data(id, "hello", false),
                Frame::data(id, "", true),
            ]
        });
        judge.row(want, &format!("{name}, END on trailers"), |id| {
            let trailers = Block::new().field("x-t", "v");
            vec![
                head(id),
                Frame::data(id, "hello", false),
                Frame::headers(id, trailers, true),
            ]
        });
        // Nothing is sent at all.
        let want = match name {
            "none" | "zero" => Want::Fine,
            _ => Want::Malformed,
        };
        judge.row(want, &format!("{name}, END on HEADERS"), |id| {
            vec![Frame::headers(id, block(), true)]
        });
        judge.row(
            want,
            &format!("{name}, nothing, END on an empty DATA"),
            |id| vec![head(id), Frame::data(id, "", true)],
        );
        judge.row(want, &format!("{name}, nothing, END on trailers"), |id| {
            vec![
                head(id),
                Frame::headers(id, Block::new().field("x-t", "v"), true),
            ]
        });
    }
    for value in [
        "-0",
        "0x5",
        "5,5",
        "5, 6",
        "",
        " ",
        "5 5",
        "1_0",
        "18446744073709551621",
    ] {
        judge.row(
            Want::Malformed,
            &format!("content-length `{value}`"),
            |id| {
                let block = Block::post("/p").field("content-length", value);
                vec![
                    Frame::headers(id, block, false),
                    Frame::data(id, "hello", true),
                ]
            },
        );
    }
    judge.done(70);
}

/// H2-01 from the other side: an answer of HTTP/1 that is shorter than it says is no whole answer in HTTP/2.
#[test]
fn h2_01_answers_that_are_cut() {
    let rig = Rig::plain();
    let cut = |head: &str| [Step::Send(head.as_bytes().to_vec()), Step::Close];
    rig.origin
        .on(
            "/length",
            cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        )
        .on(
            "/chunked",
            cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        );
    for path in ["/length", "/chunked"] {
        let mut peer = Peer::connect(rig.proxy.addr());
        let answer = peer.ask(Block::get(path));
        assert!(
            !answer.ended && answer.reset.is_some(),
            "{path}: {answer:?}"
        );
        assert_ne!(answer.reset, Some(code::NO_ERROR), "{path}");
        assert!(peer.pings());
        peer.assert_clean();
    }
}

/// H2-02 and H2-03: fields of HTTP/1's connections, in heads and in trailers.
#[test]
fn h2_02_h2_03_connection_fields() {
    let rig = Rig::plain();
    let mut judge = Judge::new(&rig);
    let fields = [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("Transfer-Encoding", "chunked"),
        ("transfer-encoding ", "chunked"),
        (" transfer-encoding", "chunked"),
        ("transfer-encoding\t", "chunked"),
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("connection", "x-id"),
        ("connection", ""),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
    ];
    for (name, value) in fields {
        judge.head(
            Want::Malformed,
            &format!("{name}: {value}"),
            Block::get("/f").field(name, value),
        );
        judge.row(
            Want::Malformed,
            &format!("{name}: {value}, with a body"),
            |id| {
                let block = Block::post("/f").field(name, value);
                vec![
                    Frame::headers(id, block, false),
                    Frame::data(id, "0\r\n\r\n", true),
                ]
            },
        );
        judge.row(
            Want::Malformed,
            &format!("{name}: {value}, as a trailer"),
            |id| {
                let trailers = Block::new().field(name, value);
                vec![
                    Frame::headers(id, Block::post("/f"), false),
                    Frame::data(id, "x", false),
                    Frame::headers(id, trailers, true),
                ]
            },
        );
    }
    judge.head(
        Want::Fine,
        "te: trailers",
        Block::get("/f").field("te", "trailers"),
    );
    judge.head(
        Want::Malformed,
        "by an index",
        Block::get("/f").named(57, "chunked"),
    );
    judge.done(56);
}

/// H2-04: what would be a line of its own after the downgrade.
#[test]
fn h2_04_bytes_in_names_and_values() {
    let rig = Rig::plain();
    let mut judge = Judge::new(&rig);
    let names: [&[u8]; 18] = [
        b"",
        b"Name",
        b"naMe",
        b"na me",
        b"na:me",
        b"na\rme",
        b"na\nme",
        b"na\r\nme",
        b"na\0me",
        b"name ",
        b" name",
        b"na\tme",
        b"n\x7fme",
        b"n\x80me",
        b"n\xffme",
        b"(x)",
        b"na\"me",
        b"x: y\r\ntransfer-encoding",
    ];
    let values: [&[u8]; 12] = [
        b"a\r\nTransfer-Encoding: chunked",
        b"a\nb",
        b"a\rb",
        b"a\0b",
        b"\r\n",
        b"\n",
        b"\0",
        b" a",
        b"a ",
        b"\ta",
        b"a\t",
        b"a\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for huffman in [false, true] {
        let get = || Block::get("/v").huffman(huffman);
        for name in names {
            let what = format!("name `{}`, Huffman {huffman}", name.escape_ascii());
            judge.head(Want::Malformed, &what, get().field(name, "v"));
            judge.head(
                Want::Malformed,
                &format!("{what}, inserted"),
                get().insert(name, "v"),
            );
        }
        for value in values {
            let what = format!("value `{}`, Huffman {huffman}", value.escape_ascii());
            judge.head(Want::Malformed, &what, get().field("x", value));
            judge.head(
                Want::Malformed,
                &format!("cookie, {what}"),
                get().field("cookie", value),
            );
            judge.row(Want::Malformed, &format!("trailer, {what}"), |id| {
                let trailers = Block::new().huffman(huffman).field("x", value);
                vec![
                    Frame::headers(id, Block::post("/v"), false),
                    Frame::headers(id, trailers, true),
                ]
            });
        }
    }
    for byte in (1_u8..0x20).filter(|b| *b != b'\t').chain([0x7f]) {
        let value = [b'a', byte, b'b'];
        judge.head(
            Want::Malformed,
            &format!("byte {byte:#x}"),
            Block::get("/v").field("x", value),
        );
    }
    judge.head(
        Want::Fine,
        "a tab inside",
        Block::get("/v").field("x", "a\tb"),
    );
    judge.head(
        Want::Fine,
        "an empty value",
        Block::get("/v").field("x", ""),
    );
    judge.done(150);
}

fn pseudo(method: &str, scheme: &str, authority: &str, path: &str) -> Block {
    Block::request_to(method, scheme, authority, path)
}

/// H2-05: what a request line would become.
#[test]
fn h2_05_injection_by_pseudo_fields() {
    let rig = Rig::plain();
    let mut judge = Judge::new(&rig);
    let evil = " HTTP/1.1\r\nHost: a\r\n\r\nGET /evil";
    for (part, values) in [
        (
            "method",
            &[
                "GET /evil HTTP/1.1\r\nX: y",
                "GET ",
                " GET",
                "G ET",
                "GET\r\n",
                "GET\0",
                "G(T",
                "",
            ][..],
        ),
        (
            "scheme",
            &["http://evil/?", "ht tp", "http\r\n", "", "ftp:", "http\0"],
        ),
        (
            "authority",
            &[
                "a b",
                "a\r\nX: y",
                "a\0",
                "a/evil",
                "a, b",
                "u@a",
                "a:99999",
                "a:80:90",
                "[::1",
                "a?b",
                "a#b",
                "a%00",
            ],
        ),
        (
            "path",
            &[
                "",
                "evil",
                "/x HTTP/1.1\r\nX: y",
                "/a b",
                "/a\r\n",
                "/a\n",
                "/a\0",
                "/a\t",
                "/a#b",
                "*",
                "http://b/",
                "/a\x7f",
                evil,
            ],
        ),
    ] {
        for value in values {
            let pick = |name, usual| if name == part { *value } else { usual };
            let block = pseudo(
                pick("method", "GET"),
                pick("scheme", "http"),
                pick("authority", "a"),
                pick("path", "/"),
            );
            judge.head(
                Want::Refused,
                &format!(":{part} `{}`", value.escape_debug()),
                block,
            );
        }
    }
    judge.done(39);
}

/// H2-06: which there must be, once, first.
#[test]
fn h2_06_which_pseudo_fields() {
    let rig = Rig::plain();
    let mut judge = Judge::new(&rig);
    let all = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ];
    let but = |left_out: &str| {
        let kept = all.iter().filter(|f| f.0 != left_out);
        kept.fold(Block::new(), |b, (n, v)| b.field(n, v))
    };
    for name in [":method", ":scheme", ":path"] {
        judge.head(Want::Malformed, &format!("no {name}"), but(name));
    }
    judge.head(
        Want::Fine,
        "host and no :authority",
        but(":authority").field("host", "a"),
    );
    judge.head(Want::Refused, "no host at all", but(":authority"));
    for (name, value) in all {
        judge.head(
            Want::Malformed,
            &format!("two {name}"),
            but("").field(name, value),
        );
        judge.head(
            Want::Malformed,
            &format!("two {name} that differ"),
            but("").field(name, "POST"),
        );
        let late = but(name).field("x", "y").field(name, value);
        judge.head(Want::Malformed, &format!("late {name}"), late);
        judge.row(Want::Malformed, &format!("{name} in trailers"), |id| {
            let trailers = Block::new().field(name, value);
            vec![
                Frame::headers(id, Block::post("/"), false),
                Frame::data(id, "x", false),
                Frame::headers(id, trailers, true),
            ]
        });
    }
    for name in [":status", ":foo", ":", ":protocol", ":Path", ":version"] {
        judge.head(Want::Malformed, name, but("").field(name, "200"));
    }
    judge.head(Want::Malformed, "nothing at all", Block::new());
    judge.head(Want::Fine, "in another order", {
        all.iter()
            .rev()
            .fold(Block::new(), |b, (n, v)| b.field(n, v))
    });
    judge.done(28);
}

/// H2-07: one name of the host, or the same twice.
#[test]
fn h2_07_authority_and_host() {
    let rig = Rig::plain();
    let mut judge = Judge::new(&rig);
    let both =
        |authority: &str, host: &str| pseudo("GET", "http", authority, "/").field("host", host);
    for (authority, host) in [
        ("a", "b"),
        ("a:80", "a:81"),
        ("a", ""),
        ("a", "a, b"),
        ("a", "a b"),
    ] {
        judge.head(
            Want::Refused,
            &format!("{authority} and {host}"),
            both(authority, host),
        );
    }
    judge.head(
        Want::Refused,
        "two hosts",
        both("a", "a").field("host", "b"),
    );
    for (authority, host) in [("a", "a"), ("A", "a"), ("a", "A")] {
        judge.head(
            Want::Fine,
            &format!("{authority} and {host}"),
            both(authority, host),
        );
    }
    let seen = {
        rig.origin.take(0);
        let mut peer = Peer::connect(rig.proxy.addr());
        assert_eq!(
            peer.ask(both("example.org", "example.org").field("x-id", "h"))
                .status(),
            200
        );
        rig.one()
    };
    assert_eq!(
        seen.fields.all("host"),
        [b"example.org"],
        "one of them goes on"
    );
    judge.done(9);
}

/// H2-08: crumbs are one cookie for an origin, and count singly.
#[test]
fn h2_08_cookie_crumbs() {
    let rig = Rig::plain();
    let mut peer = Peer::connect(rig.proxy.addr());
    let crumbs = |n: usize| {
        (0..n).fold(Block::get("/c"), |b, i| {
            b.field("cookie", format!("c{i}=v"))
        })
    };
    assert_eq!(peer.ask(crumbs(3).field("x-id", "c")).status(), 200);
    let seen = rig.one();
    assert_eq!(seen.fields.all("cookie"), [b"c0=v; c1=v; c2=v"]);
    let with_empty = Block::get("/c")
        .field("cookie", "a=1")
        .field("cookie", "")
        .field("cookie", "b=2");
    assert_eq!(peer.ask(with_empty).status(), 200);
    let seen = rig.one();
    let cookie = seen.header("cookie").unwrap();
    assert!(
        cookie.starts_with("a=1") && cookie.ends_with("b=2"),
        "{cookie}"
    );
    // `limits fields` is 100: of HTTP/2 as of HTTP/1, `Host` is one of them.
    assert_eq!(peer.ask(crumbs(99)).status(), 200);
    assert_eq!(peer.ask(crumbs(100)).status(), 431);
    let many = |p: &mut Peer, n: usize| {
        let id = p.fresh();
        p.stream(id);
        p.frames(&Frame::header_pieces(id, crumbs(n).as_ref(), true, 16_000));
        p.until(|p| p.streams[&id].is_over() || !p.goaways.is_empty());
        (p.stream(id).status(), p.goaways.first().map(|g| g.1))
    };
    assert_eq!(many(&mut peer, 300), (431, None));
    assert!(peer.pings());
    // More than four times of what a head may be.
    let calm = Some(code::ENHANCE_YOUR_CALM);
    assert_eq!(many(&mut peer, 4000), (0, calm));
    peer.assert_clean();
}

/// H2-09: no tunnel for a protocol that no route speaks of, and nothing into a tunnel before the origin agrees.
#[test]
fn h2_09_extended_connect() {
    let rig = Rig::plain();
    let connect = |protocol: &str, path: &str| {
        Block::request_to("CONNECT", "http", "a", path)
            .field(":protocol", protocol)
            .field("sec-websocket-version", "13")
    };
    let refused = |answer: &Stream| answer.reset.is_some() || answer.status() >= 400;
    for block in [
        connect("foo", "/ws"),
        connect("connect-udp", "/ws"),
        connect("", "/ws"),
        connect("websocket\r\nX: y", "/ws"),
        connect("websocket", "ws"),
        // Extended or not: a scheme and a path, or neither.
        Block::new()
            .field(":method", "CONNECT")
            .field(":protocol", "websocket")
            .field(":authority", "a"),
        Block::new()
            .field(":method", "CONNECT")
            .field(":authority", "a:443"),
        Block::request("CONNECT", "/"),
        Block::get("/ws").field(":protocol", "websocket"),
    ] {
        let mut peer = Peer::connect(rig.proxy.addr());
        let id = peer.open(&block, false);
        peer.frame(&Frame::data(id, "SECRET", false));
        let done = peer.until(|p| p.streams[&id].head.is_some() || p.streams[&id].is_over());
        let answer = peer.stream(id).clone();
        assert!(done && refused(&answer), "{block:?}: {answer:?}");
        assert!(peer.pings());
    }
    rig.origin
        .on("/ws", [Step::Gate("go".into()), Step::Echo(403)]);
    let mut peer = Peer::connect(rig.proxy.addr());
    let id = peer.open(connect("websocket", "/ws"), false);
    peer.frame(&Frame::data(id, "SECRET", false));
    rig.origin
        .wait_for(PATIENCE, |seen| seen.iter().any(|s| s.path() == "/ws"));
    assert!(peer.pings());
    rig.origin.open("go");
    let answer = peer.answer(id);
    assert!(refused(&answer), "{answer:?}");
    let leaked = |c: &narthex_e2e::kit::origin::Conn| c.raw.windows(6).any(|w| w == b"SECRET");
    assert!(
        !rig.origin.conns().iter().any(leaked),
        "tunnel bytes without a tunnel"
    );
    rig.alive();
}

/// H2-13: an upload that is given up leaves no connection to an origin that goes on with it.
#[test]
fn h2_13_cancelled_uploads() {
    for (path, answered) in [("/early", true), ("/late", false)] {
        for announced in [true, false] {
            let rig = Rig::plain();
            rig.origin
                .on("/early", [Step::Echo(200), Step::ReadBody])
                .on("/late", echo(200));
            let mut peer = Peer::connect(rig.proxy.addr());
            let mut block = Block::post(path).field("x-id", "cut");
            if announced {
                block = block.field("content-length", "100000");
            }
            let id = peer.open(block, false);
            peer.frame(&Frame::data(
                id,
                "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
                false,
            ));
            assert!(
                rig.origin
                    .wait_for(PATIENCE, |seen| seen.iter().any(|s| s.body_len > 0))
            );
            if answered {
                assert!(peer.until(|p| p.streams[&id].status() == 200));
            }
            peer.frame(&Frame::reset(id, code::CANCEL));
            let seen = rig.origin.take(0);
            let (conn, seq) = (seen[0].conn, seen[0].seq);
            assert!(
                rig.origin.wait_end(conn).is_some(),
                "{path}: the connection lives on"
            );
            for _ in 0..3 {
                assert_eq!(peer.ask(Block::get("/next")).status(), 200);
            }
            let all = rig.origin.seen();
            let reused = all.iter().any(|s| s.conn == conn && s.seq > seq);
            let evil = all.iter().any(|s| s.path() == "/evil");
            assert!(!reused && !evil, "{path}: {all:?}");
            peer.assert_clean();
            rig.alive();
        }
    }
}

/// What is well-formed comes through as it was, also when it is sent byte by byte.
#[test]
fn what_is_right_arrives() {
    let rig = Rig::plain();
    let mut peer = Peer::connect(rig.proxy.addr());
    let block = Block::post("/p?q=%20x")
        .field("x-id", "w")
        .field("x-a", "1")
        .field("x-a", "2");
    let id = peer.fresh();
    peer.stream(id);
    let mut bytes = Frame::headers(id, block, false).padded(5).bytes();
    bytes.extend(Frame::data(id, "hello", false).padded(7).bytes());
    bytes.extend(Frame::headers(id, Block::new().field("x-t", "v"), true).bytes());
    peer.send_paced(&bytes, 1, std::time::Duration::ZERO);
    let answer = peer.answer(id);
    assert_eq!(
        (answer.status(), answer.field("x-id").as_deref()),
        (200, Some("w"))
    );
    let seen = rig.one();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/p?q=%20x")
    );
    assert_eq!((seen.body.as_slice(), seen.complete), (&b"hello"[..], true));
    assert_eq!(seen.fields.all("x-a"), [b"1", b"2"]);
    assert!(!seen.fields.has("content-length"), "nobody knew");
    assert_eq!(peer.ask(Block::request("HEAD", "/h")).body_len, 0);
    peer.assert_clean();
}
