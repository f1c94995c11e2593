//! The rules of RFC 9113 and of docs/http2.md at their bounds and one beyond, frame by frame.

use super::frame::{self, PREFACE, flag, kind, setting};
use super::hpack::encode as hpack;
use super::*;
use narthex_message::{Body, FieldId, Head, Index, Reject, validate};

const ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];

/// Ours.
struct Ours {
    conn: Connection,
    now: u64,
    /// What happened, as words.
    events: Vec<String>,
    body: Vec<u8>,
    head: (Vec<u8>, Index),
    /// Frames that came out: type, flags, stream, payload.
    out: Vec<(u8, u8, StreamId, Vec<u8>)>,
}

fn frame(kind: u8, flags: u8, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(kind, flags, stream, payload, &mut out);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        hpack::string(name.as_bytes(), &mut out);
        hpack::string(value.as_bytes(), &mut out);
    }
    out
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a"),
];
const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a"),
];

fn with(base: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]) -> Vec<u8> {
    block(&[base, more].concat())
}

fn headers(stream: StreamId, block: &[u8], end: bool) -> Vec<u8> {
    frame(
        kind::HEADERS,
        flag::END_HEADERS | if end { flag::END_STREAM } else { 0 },
        stream,
        block,
    )
}

fn get(stream: StreamId) -> Vec<u8> {
    headers(stream, &block(&GET), true)
}

fn post(stream: StreamId) -> Vec<u8> {
    headers(stream, &block(&POST), false)
}

fn data(stream: StreamId, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(
        kind::DATA,
        if end { flag::END_STREAM } else { 0 },
        stream,
        bytes,
    )
}

fn window_update(stream: StreamId, n: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &n.to_be_bytes())
}

fn rst(stream: StreamId) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::settings(pairs, &mut out);
    out
}

impl Ours {
    fn new(role: Role, bounds: Bounds) -> Self {
        Self {
            conn: Connection::new(role, bounds, 0),
            now: 0,
            events: Vec::new(),
            body: Vec::new(),
            head: (Vec::new(), Index::default()),
            out: Vec::new(),
        }
    }

    /// A server whose client has said hello.
    fn server() -> Self {
        Self::server_with(Bounds::default())
    }

    fn server_with(bounds: Bounds) -> Self {
        let mut ours = Self::new(Role::Server, bounds);
        ours.take(PREFACE).unwrap();
        ours.take(&settings(&[])).unwrap();
        ours.take(ACK).unwrap();
        ours.drain();
        ours.events.clear();
        ours.out.clear();
        ours
    }

    /// A client whose server has said hello, with one request under way.
    fn client(head_request: bool) -> Self {
        let mut ours = Self::new(Role::Client, Bounds::default());
        ours.take(&settings(&[])).unwrap();
        ours.take(ACK).unwrap();
        assert_eq!(ours.conn.open(&block(&GET), true, head_request, 0), Some(1));
        ours.drain();
        ours.events.clear();
        ours.out.clear();
        ours
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        let mut rest = bytes;
        loop {
            let received = self.conn.receive(rest, self.now)?;
            rest = &rest[received.taken..];
            match received.event {
                None if received.taken == 0 => {
                    assert!(rest.is_empty(), "stands still");
                    return Ok(());
                }
                None => {}
                Some(event) => self.event(event),
            }
        }
    }

    fn event(&mut self, event: Event<'_>) {
        self.events.push(match event {
            Event::Head {
                stream,
                end,
                oversize,
            } => {
                self.conn.take_head(&mut self.head.0, &mut self.head.1);
                assert_eq!(self.head.1.ended, end);
                let end = if end { " end" } else { "" };
                oversize.map_or(format!("head {stream}{end}"), |o| {
                    format!("head {stream}{end} {:?}", Reject::from(o))
                })
            }
            Event::Data { stream, bytes, end } => {
                self.body.extend_from_slice(bytes);
                self.conn.consumed(stream, bytes.len());
                format!(
                    "data {stream} {}{}",
                    bytes.len(),
                    if end { " end" } else { "" }
                )
            }
            Event::Trailers { stream, .. } => {
                self.conn.take_head(&mut self.head.0, &mut self.head.1);
                format!("trailers {stream}")
            }
            Event::Reset {
                stream,
                code,
                remote,
            } => format!(
                "reset {stream} {} by {}",
                code.word(),
                if remote { "peer" } else { "us" }
            ),
            Event::GoAway { last, code } => format!("goaway {last} {}", code.word()),
            Event::Settings => "settings".to_owned(),
            Event::Pong { payload } => format!("pong {}", payload[0]),
        });
    }

    /// Reads what came out.
    fn drain(&mut self) {
        let out = std::mem::take(&mut self.conn.out);
        let mut rest = out.strip_prefix(PREFACE).unwrap_or(&out);
        while let Some((header, after)) = rest.split_first_chunk::<9>() {
            let header = frame::Header::read(header);
            let (payload, after) = after.split_at(header.len);
            self.out
                .push((header.kind, header.flags, header.stream, payload.to_vec()));
            rest = after;
        }
        assert!(rest.is_empty());
    }

    /// What the peer is told of faults: `rst stream code`, `goaway code`.
    fn said(&mut self) -> Vec<String> {
        self.drain();
        let code = |p: &[u8]| ErrorCode(frame::word(p).unwrap()).word();
        self.out
            .drain(..)
            .filter_map(|(kind, _, stream, payload)| match kind {
                kind::RST_STREAM => Some(format!("rst {stream} {}", code(&payload))),
                kind::GOAWAY => Some(format!("goaway {}", code(&payload[4..]))),
                _ => None,
            })
            .collect()
    }

    fn answer(&mut self, stream: StreamId) {
        let mut block = Vec::new();
        encode::status(204, &mut block);
        assert!(self.conn.head(stream, &block, true, self.now));
        self.conn.release(stream);
    }
}

/// What comes of these bytes: events, then what the peer is told.
fn outcome(mut ours: Ours, frames: &[Vec<u8>]) -> String {
    let bytes = frames.concat();
    let _ = ours.take(&bytes);
    let mut all = ours.events.clone();
    all.extend(ours.said());
    all.join(", ")
}

/// The same whole, byte by byte, and in all other pieces of one size.
fn check(role: fn() -> Ours, name: &str, frames: &[Vec<u8>], expected: &str) {
    assert_eq!(outcome(role(), frames), expected, "{name}");
    // DATA is handed out in other pieces then.
    if frames.iter().any(|f| f.len() > 10 && f[3] == kind::DATA) {
        return;
    }
    let bytes = frames.concat();
    for size in [1, 2, 7, 10] {
        let mut ours = role();
        for piece in bytes.chunks(size) {
            if ours.take(piece).is_err() {
                break;
            }
        }
        let mut all = ours.events.clone();
        all.extend(ours.said());
        assert_eq!(all.join(", "), expected, "{name} in pieces of {size}");
    }
}

const RST_PROTOCOL: &str = "rst 1 protocol-error";

#[test]
fn h2_01_content_length_against_data() {
    let p = |n: &'static str| headers(1, &with(&POST, &[("content-length", n)]), false);
    let trailers = || headers(1, &block(&[("x-sum", "1")]), true);
    for (name, frames, expected) in [
        (
            "equal",
            vec![p("5"), data(1, b"hello", true)],
            "head 1, data 1 5 end",
        ),
        (
            "equal, then empty",
            vec![p("5"), data(1, b"hello", false), data(1, b"", true)],
            "head 1, data 1 5, data 1 0 end",
        ),
        (
            "equal, then trailers",
            vec![p("5"), data(1, b"hello", false), trailers()],
            "head 1, data 1 5, trailers 1",
        ),
        (
            "more than sent",
            vec![p("6"), data(1, b"hello", true)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "less than sent",
            vec![p("4"), data(1, b"hello", true)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "less than sent, open",
            vec![p("4"), data(1, b"hello", false)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "more, empty DATA",
            vec![p("6"), data(1, b"hello", false), data(1, b"", true)],
            "head 1, data 1 5, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "more, trailers",
            vec![p("6"), data(1, b"hello", false), trailers()],
            "head 1, data 1 5, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "more, only trailers",
            vec![p("6"), trailers()],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "5 and END_STREAM",
            vec![headers(1, &with(&POST, &[("content-length", "5")]), true)],
            RST_PROTOCOL,
        ),
        (
            "0 and END_STREAM",
            vec![headers(1, &with(&POST, &[("content-length", "0")]), true)],
            "head 1 end",
        ),
        (
            "two",
            vec![headers(
                1,
                &with(&POST, &[("content-length", "5"), ("content-length", "6")]),
                false,
            )],
            RST_PROTOCOL,
        ),
        (
            "two equal",
            vec![headers(
                1,
                &with(&POST, &[("content-length", "5"), ("content-length", "5")]),
                false,
            )],
            RST_PROTOCOL,
        ),
        ("a sign", vec![p("+5")], RST_PROTOCOL),
        ("a list", vec![p("5,5")], RST_PROTOCOL),
        ("empty", vec![p("")], RST_PROTOCOL),
    ] {
        check(Ours::server, name, &frames, expected);
    }
}

#[test]
fn h2_01_content_length_of_responses() {
    let r = |status: &'static str, n: &'static str, end: bool| {
        headers(
            1,
            &block(&[(":status", status), ("content-length", n)]),
            end,
        )
    };
    const WRONG: &str = "reset 1 protocol-error by us, rst 1 protocol-error";
    let client = || Ours::client(false);
    for (name, frames, expected) in [
        (
            "equal",
            vec![r("200", "5", false), data(1, b"hello", true)],
            "head 1, data 1 5 end".to_owned(),
        ),
        (
            "more",
            vec![r("200", "6", false), data(1, b"hello", true)],
            format!("head 1, {WRONG}"),
        ),
        (
            "less",
            vec![r("200", "4", false), data(1, b"hello", true)],
            format!("head 1, {WRONG}"),
        ),
        (
            "5 and END_STREAM",
            vec![r("200", "5", true)],
            WRONG.to_owned(),
        ),
        (
            "304 keeps it",
            vec![r("304", "5", true)],
            "head 1 end".to_owned(),
        ),
        (
            "304 with a body",
            vec![r("304", "5", false), data(1, b"hello", true)],
            format!("head 1, {WRONG}"),
        ),
        (
            "204 with a body",
            vec![
                headers(1, &block(&[(":status", "204")]), false),
                data(1, b"x", true),
            ],
            format!("head 1, {WRONG}"),
        ),
        (
            "DATA before a head",
            vec![data(1, b"x", false)],
            WRONG.to_owned(),
        ),
        (
            "DATA after 103",
            vec![
                headers(1, &block(&[(":status", "103")]), false),
                data(1, b"x", false),
            ],
            format!("head 1, {WRONG}"),
        ),
        (
            "103 that ends",
            vec![headers(1, &block(&[(":status", "103")]), true)],
            WRONG.to_owned(),
        ),
        (
            "101",
            vec![headers(1, &block(&[(":status", "101")]), false)],
            WRONG.to_owned(),
        ),
        (
            "no status",
            vec![headers(1, &block(&[("x", "y")]), true)],
            WRONG.to_owned(),
        ),
        (
            "a method",
            vec![headers(
                1,
                &block(&[(":status", "200"), (":method", "GET")]),
                true,
            )],
            WRONG.to_owned(),
        ),
        (
            "connection",
            vec![headers(
                1,
                &block(&[(":status", "200"), ("connection", "close")]),
                true,
            )],
            WRONG.to_owned(),
        ),
        (
            "te",
            vec![headers(
                1,
                &block(&[(":status", "200"), ("te", "trailers")]),
                true,
            )],
            WRONG.to_owned(),
        ),
        (
            "103, 200 and trailers",
            vec![
                headers(1, &block(&[(":status", "103")]), false),
                headers(1, &block(&[(":status", "200")]), false),
                data(1, b"x", false),
                headers(1, &block(&[("x-sum", "1")]), true),
            ],
            "head 1, head 1, data 1 1, trailers 1".to_owned(),
        ),
    ] {
        check(client, name, &frames, &expected);
    }
    check(
        || Ours::client(true),
        "HEAD",
        &[r("200", "5", true)],
        "head 1 end",
    );
    check(
        || Ours::client(true),
        "HEAD with a body",
        &[r("200", "5", false), data(1, b"hello", true)],
        &format!("head 1, {WRONG}"),
    );
}

#[test]
fn h2_02_to_06_malformed_requests() {
    let cases: &[(&str, Vec<u8>)] = &[
        (
            "transfer-encoding",
            with(&POST, &[("transfer-encoding", "chunked")]),
        ),
        ("connection", with(&GET, &[("connection", "close")])),
        ("keep-alive", with(&GET, &[("keep-alive", "timeout=5")])),
        (
            "proxy-connection",
            with(&GET, &[("proxy-connection", "close")]),
        ),
        ("upgrade", with(&GET, &[("upgrade", "h2c")])),
        ("te: gzip", with(&GET, &[("te", "gzip")])),
        (
            "te: trailers, gzip",
            with(&GET, &[("te", "trailers, gzip")]),
        ),
        ("upper case", with(&GET, &[("Name", "x")])),
        (
            "Transfer-Encoding",
            with(&GET, &[("Transfer-Encoding", "chunked")]),
        ),
        (
            "name with a space",
            with(&GET, &[("transfer-encoding ", "chunked")]),
        ),
        ("name with a space inside", with(&GET, &[("na me", "x")])),
        ("name with a colon", with(&GET, &[("na:me", "x")])),
        ("name with CR LF", with(&GET, &[("a\r\nb", "x")])),
        ("empty name", with(&GET, &[("", "x")])),
        (
            "CR LF",
            with(&GET, &[("foo", "a\r\nTransfer-Encoding: chunked")]),
        ),
        ("LF", with(&GET, &[("foo", "a\nb")])),
        ("NUL", with(&GET, &[("foo", "a\0b")])),
        ("space in front", with(&GET, &[("foo", " a")])),
        ("tab behind", with(&GET, &[("foo", "a\t")])),
        (
            "method with CR LF",
            block(&[
                (":method", "GET / HTTP/1.1\r\nX: y"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ]),
        ),
        (
            "method with a space",
            block(&[
                (":method", "GET /evil"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ]),
        ),
        (
            "path with a space",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/x y"),
                (":authority", "a"),
            ]),
        ),
        (
            "path with CR LF",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/x HTTP/1.1\r\nX: y"),
                (":authority", "a"),
            ]),
        ),
        (
            "empty path",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", ""),
                (":authority", "a"),
            ]),
        ),
        (
            "scheme",
            block(&[
                (":method", "GET"),
                (":scheme", "http://evil/?"),
                (":path", "/"),
                (":authority", "a"),
            ]),
        ),
        (
            "mixed case scheme",
            block(&[
                (":method", "GET"),
                (":scheme", "HttPS"),
                (":path", "/"),
                (":authority", "a"),
            ]),
        ),
        ("two paths", with(&GET, &[(":path", "/")])),
        ("two methods", with(&[(":method", "GET")], &GET)),
        (
            "path behind a field",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                ("x", "y"),
                (":path", "/"),
            ]),
        ),
        ("status", with(&GET, &[(":status", "200")])),
        ("unknown", with(&GET, &[(":foo", "x")])),
        ("just a colon", with(&GET, &[(":", "x")])),
        ("no method", block(&GET[1..])),
        (
            "no scheme",
            block(&[(":method", "GET"), (":path", "/"), (":authority", "a")]),
        ),
        (
            "no path",
            block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
        ),
        ("nothing", Vec::new()),
        (
            "protocol without CONNECT",
            with(&GET, &[(":protocol", "websocket")]),
        ),
        (
            "CONNECT with a path",
            block(&[(":method", "CONNECT"), (":path", "/"), (":authority", "a")]),
        ),
        (
            "CONNECT without authority",
            block(&[(":method", "CONNECT")]),
        ),
    ];
    for (name, block) in cases {
        check(Ours::server, name, &[headers(1, block, true)], RST_PROTOCOL);
    }
    for (name, block) in [
        ("pseudo-field in trailers", block(&[(":path", "/")])),
        (
            "transfer-encoding in trailers",
            block(&[("transfer-encoding", "chunked")]),
        ),
    ] {
        check(
            Ours::server,
            name,
            &[post(1), headers(1, &block, true)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        );
    }
}

fn facts(block: &[u8], end: bool) -> Result<(validate::RequestFacts, Ours), Reject> {
    let mut ours = Ours::server();
    ours.take(&headers(1, block, end)).unwrap();
    assert_eq!(ours.events.len(), 1, "{:?}", ours.said());
    validate::request(Head::new(&ours.head.0, &ours.head.1)).map(|f| (f, ours))
}

#[test]
fn h2_07_authority_and_host() {
    for (hosts, expected) in [
        (&[(":authority", "a")][..], Ok(())),
        (&[("host", "a")], Ok(())),
        (&[(":authority", "a"), ("host", "a")], Ok(())),
        (&[(":authority", "a"), ("host", "A:80")], Ok(())),
        (&[(":authority", "a"), ("host", "a.")], Ok(())),
        (
            &[(":authority", "a"), ("host", "b")],
            Err(Reject::HostMismatch),
        ),
        (
            &[(":authority", "a"), ("host", "a"), ("host", "b")],
            Err(Reject::HostMismatch),
        ),
        (
            &[(":authority", "a"), ("host", "a:81")],
            Err(Reject::HostMismatch),
        ),
        (&[("host", "a"), ("host", "a")], Err(Reject::HostRepeated)),
        (&[], Err(Reject::HostMissing)),
    ] {
        let block = block(&[&GET[..3], hosts].concat());
        let got = facts(&block, true).map(|(f, ours)| {
            assert_eq!(f.authority.of(&ours.head.0), b"a");
            let index = &ours.head.1;
            assert_eq!(
                index
                    .fields
                    .iter()
                    .filter(|f| f.id == FieldId::Host)
                    .count(),
                1
            );
        });
        assert_eq!(got, expected, "{hosts:?}");
    }
}

#[test]
fn h2_08_cookie_crumbs() {
    let (_, ours) = facts(
        &with(
            &GET,
            &[
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("x", "y"),
                ("cookie", ""),
                ("cookie", "c=3"),
            ],
        ),
        true,
    )
    .unwrap();
    let head = Head::new(&ours.head.0, &ours.head.1);
    assert_eq!(
        head.all(FieldId::Cookie).collect::<Vec<_>>(),
        [&b"a=1; b=2; ; c=3"[..]]
    );
    assert_eq!(head.named(b"x").next(), Some(&b"y"[..]));
    // Adjoining ones, as everybody sends them: lines stay contiguous.
    let (_, ours) = facts(
        &with(
            &GET,
            &[
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("cookie", "c=3"),
                ("x", "y"),
            ],
        ),
        true,
    )
    .unwrap();
    let last = ours.head.1.fields.windows(2).last().unwrap().to_vec();
    assert_eq!(last[0].value.of(&ours.head.0), b"a=1; b=2; c=3");
    assert_eq!(last[0].end, last[1].name.start);
    // Counted singly: `:authority` and 99 are allowed, one more is not.
    for (crumbs, expected) in [
        (99, "head 1 end"),
        (100, "head 1 end TooManyFields"),
        (390, "head 1 end TooManyFields"),
    ] {
        let fields = vec![("cookie", "a"); crumbs];
        let frames = [headers(1, &with(&GET, &fields), true)];
        check(Ours::server, "crumbs", &frames, expected);
    }
    let fields = vec![("cookie", "a"); 4000];
    let mut bytes = Vec::new();
    frame::block(1, None, &with(&GET, &fields), true, 16384, &mut bytes);
    check(
        Ours::server,
        "4000 crumbs",
        &[bytes],
        "goaway enhance-your-calm",
    );
}

#[test]
fn h2_09_extended_connect() {
    const CONNECT: [(&str, &str); 5] = [
        (":method", "CONNECT"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a"),
        (":protocol", "websocket"),
    ];
    let (facts_of, ours) = facts(&with(&CONNECT, &[("content-length", "5")]), false).unwrap();
    assert_eq!(facts_of.method, validate::Method::Get);
    assert_eq!(facts_of.body, Body::None);
    assert_eq!(
        facts_of.upgrade.map(|u| u.of(&ours.head.0)),
        Some(&b"websocket"[..])
    );
    assert_eq!(facts_of.path.of(&ours.head.0), b"/chat");
    let off = || {
        Ours::server_with(Bounds {
            extended_connect: false,
            ..Bounds::default()
        })
    };
    check(
        off,
        "not offered",
        &[headers(1, &block(&CONNECT), false)],
        RST_PROTOCOL,
    );
    let connect = block(&[(":method", "CONNECT"), (":authority", "a:443")]);
    assert_eq!(facts(&connect, false).err(), Some(Reject::Connect));
}

#[test]
fn bodies_of_requests() {
    for (fields, end, expected) in [
        (&[][..], true, Body::None),
        (&[], false, Body::Chunked),
        (&[("content-length", "7")], false, Body::Length(7)),
        (&[("content-length", "0")], true, Body::Length(0)),
    ] {
        let (facts, _) = facts(&with(&POST, fields), end).unwrap();
        assert_eq!(facts.body, expected);
        assert!(facts.keep_alive && facts.upgrade.is_none());
    }
    let (facts, _) = facts(&with(&GET, &[("te", "trailers")]), true).unwrap();
    assert!(facts.trailers);
}

/// The known cases of h2spec, sections 3 to 8, and others like them.
#[test]
fn h2_11_frames_that_break_the_rules() {
    let closed = || {
        let mut ours = Ours::server();
        ours.take(&get(1)).unwrap();
        ours.answer(1);
        ours.drain();
        ours.out.clear();
        ours.events.clear();
        ours
    };
    let go = |code: &str| format!("goaway {code}");
    let big = vec![0; 16385];
    let half = |more: Vec<u8>| vec![get(1), more];
    let cases: Vec<(&str, Vec<Vec<u8>>, String)> = vec![
        (
            "4.1 unknown type",
            vec![
                frame(0xbe, 0xff, 0, &[0; 20]),
                frame(kind::PING, 0, 0, &[0; 8]),
            ],
            String::new(),
        ),
        (
            "4.1 reserved bit",
            vec![frame(kind::PING, 0, 0x8000_0000, &[0; 8])],
            String::new(),
        ),
        (
            "4.1 undefined flags",
            vec![frame(kind::PING, 0xfe, 0, &[0; 8])],
            String::new(),
        ),
        (
            "4.2 DATA too large",
            vec![post(1), frame(kind::DATA, 0, 1, &big)],
            format!("head 1, {}", go("frame-size-error")),
        ),
        (
            "4.2 HEADERS too large",
            vec![frame(kind::HEADERS, 4, 1, &big)],
            go("frame-size-error"),
        ),
        (
            "4.2 unknown too large",
            vec![frame(0xbe, 0, 1, &big)],
            go("frame-size-error"),
        ),
        (
            "4.3 no index",
            vec![frame(kind::HEADERS, 5, 1, &[0xff, 0xff])],
            go("compression-error"),
        ),
        (
            "4.3 another stream inside",
            vec![frame(kind::HEADERS, 1, 1, &block(&GET)), get(3)],
            go("protocol-error"),
        ),
        (
            "4.3 a PING inside",
            vec![
                frame(kind::HEADERS, 1, 1, &block(&GET)),
                frame(kind::PING, 0, 0, &[0; 8]),
            ],
            go("protocol-error"),
        ),
        (
            "4.3 unknown inside",
            vec![
                frame(kind::HEADERS, 1, 1, &block(&GET)),
                frame(0xbe, 0, 1, &[]),
            ],
            go("protocol-error"),
        ),
        (
            "5.1 idle: DATA",
            vec![data(1, b"x", true)],
            go("protocol-error"),
        ),
        ("5.1 idle: RST_STREAM", vec![rst(1)], go("protocol-error")),
        (
            "5.1 idle: WINDOW_UPDATE",
            vec![window_update(1, 100)],
            go("protocol-error"),
        ),
        (
            "5.1 idle: CONTINUATION",
            vec![frame(kind::CONTINUATION, 4, 1, &block(&GET))],
            go("protocol-error"),
        ),
        (
            "5.1 half closed: DATA",
            half(data(1, b"x", true)),
            "head 1 end, reset 1 stream-closed by us, rst 1 stream-closed".into(),
        ),
        (
            "5.1 half closed: HEADERS",
            half(get(1)),
            "head 1 end, reset 1 stream-closed by us, rst 1 stream-closed".into(),
        ),
        (
            "5.1 half closed: CONTINUATION",
            half(frame(kind::CONTINUATION, 4, 1, &[])),
            "head 1 end, goaway protocol-error".into(),
        ),
        (
            "5.1.1 even",
            vec![headers(2, &block(&GET), true)],
            go("protocol-error"),
        ),
        (
            "5.1.1 lower",
            vec![get(5), get(3)],
            format!("head 5 end, {}", go("protocol-error")),
        ),
        (
            "5.3.1 HEADERS on itself",
            vec![frame(
                kind::HEADERS,
                0x25,
                1,
                &[&[0, 0, 0, 1, 9][..], &block(&GET)].concat(),
            )],
            RST_PROTOCOL.into(),
        ),
        (
            "5.3.1 PRIORITY on itself",
            vec![frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 9])],
            go("protocol-error"),
        ),
        (
            "5.4.1 GOAWAY behind an error",
            vec![frame(kind::PING, 0, 0, &[0; 7]), get(1)],
            go("frame-size-error"),
        ),
        (
            "6.1 DATA of 0",
            vec![data(0, b"x", false)],
            go("protocol-error"),
        ),
        (
            "6.1 padding as long as the frame",
            vec![post(1), frame(kind::DATA, 9, 1, &[5, 0, 0, 0, 0])],
            format!("head 1, {}", go("protocol-error")),
        ),
        (
            "6.1 padding without length",
            vec![post(1), frame(kind::DATA, 9, 1, &[])],
            format!("head 1, {}", go("frame-size-error")),
        ),
        (
            "6.2 HEADERS of 0",
            vec![headers(0, &block(&GET), true)],
            go("protocol-error"),
        ),
        (
            "6.2 padding too long",
            vec![frame(kind::HEADERS, 0xd, 1, &[9, 0x82])],
            go("protocol-error"),
        ),
        (
            "6.2 priority cut off",
            vec![frame(kind::HEADERS, 0x25, 1, &[0, 0, 0])],
            go("frame-size-error"),
        ),
        (
            "6.3 PRIORITY of 0",
            vec![frame(kind::PRIORITY, 0, 0, &[0; 5])],
            go("protocol-error"),
        ),
        (
            "6.3 PRIORITY too short",
            vec![post(1), frame(kind::PRIORITY, 0, 1, &[0; 4])],
            "head 1, reset 1 frame-size-error by us, rst 1 frame-size-error".into(),
        ),
        ("6.4 RST_STREAM of 0", vec![rst(0)], go("protocol-error")),
        (
            "6.4 RST_STREAM too short",
            vec![post(1), frame(kind::RST_STREAM, 0, 1, &[0; 3])],
            format!("head 1, {}", go("frame-size-error")),
        ),
        (
            "6.5 ACK with payload",
            vec![frame(kind::SETTINGS, 1, 0, &[0; 6])],
            go("frame-size-error"),
        ),
        (
            "6.5 SETTINGS of a stream",
            vec![frame(kind::SETTINGS, 0, 1, &[])],
            go("protocol-error"),
        ),
        (
            "6.5 SETTINGS too short",
            vec![frame(kind::SETTINGS, 0, 0, &[0; 5])],
            go("frame-size-error"),
        ),
        (
            "6.5.2 ENABLE_PUSH 2",
            vec![settings(&[(setting::ENABLE_PUSH, 2)])],
            go("protocol-error"),
        ),
        (
            "6.5.2 window",
            vec![settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)])],
            go("flow-control-error"),
        ),
        (
            "6.5.2 frame size below",
            vec![settings(&[(setting::MAX_FRAME_SIZE, 16383)])],
            go("protocol-error"),
        ),
        (
            "6.5.2 frame size 0",
            vec![settings(&[(setting::MAX_FRAME_SIZE, 0)])],
            go("protocol-error"),
        ),
        (
            "6.5.2 frame size above",
            vec![settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)])],
            go("protocol-error"),
        ),
        (
            "6.5.2 unknown setting",
            vec![settings(&[(0xff, 7)])],
            "settings".into(),
        ),
        (
            "6.6 PUSH_PROMISE",
            vec![frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])],
            go("protocol-error"),
        ),
        (
            "6.7 PING of a stream",
            vec![frame(kind::PING, 0, 1, &[0; 8])],
            go("protocol-error"),
        ),
        (
            "6.7 PING too short",
            vec![frame(kind::PING, 0, 0, &[0; 6])],
            go("frame-size-error"),
        ),
        (
            "6.8 GOAWAY of a stream",
            vec![frame(kind::GOAWAY, 0, 1, &[0; 8])],
            go("protocol-error"),
        ),
        (
            "6.8 GOAWAY too short",
            vec![frame(kind::GOAWAY, 0, 0, &[0; 7])],
            go("frame-size-error"),
        ),
        (
            "6.9 increment of 0",
            vec![window_update(0, 0)],
            go("protocol-error"),
        ),
        (
            "6.9 increment of 0, stream",
            vec![post(1), window_update(1, 0)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error".into(),
        ),
        (
            "6.9 too short",
            vec![frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])],
            go("frame-size-error"),
        ),
        (
            "6.9.1 overflow",
            vec![window_update(0, 0x7fff_ffff)],
            go("flow-control-error"),
        ),
        (
            "6.9.1 overflow, stream",
            vec![post(1), window_update(1, 0x7fff_ffff)],
            "head 1, reset 1 flow-control-error by us, rst 1 flow-control-error".into(),
        ),
        (
            "6.10 CONTINUATION after the end",
            vec![get(1), frame(kind::CONTINUATION, 4, 1, &[])],
            format!("head 1 end, {}", go("protocol-error")),
        ),
        (
            "6.10 CONTINUATION of 0",
            vec![
                frame(kind::HEADERS, 1, 1, &block(&GET)),
                frame(kind::CONTINUATION, 4, 0, &[]),
            ],
            go("protocol-error"),
        ),
        (
            "6.10 several",
            vec![
                frame(kind::HEADERS, 1, 1, &block(&GET[..1])),
                frame(kind::CONTINUATION, 0, 1, &block(&GET[1..2])),
                frame(kind::CONTINUATION, 4, 1, &block(&GET[2..])),
            ],
            "head 1 end".into(),
        ),
        (
            "8.1 second HEADERS without an end",
            vec![post(1), headers(1, &block(&[("x", "y")]), false)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error".into(),
        ),
        (
            "8.1 trailers",
            vec![
                post(1),
                data(1, b"x", false),
                headers(1, &block(&[("x", "y")]), true),
            ],
            "head 1, data 1 1, trailers 1".into(),
        ),
        (
            "9218 PRIORITY_UPDATE of a stream",
            vec![frame(kind::PRIORITY_UPDATE, 0, 1, b"\0\0\0\x01u=1")],
            go("protocol-error"),
        ),
        (
            "9218 PRIORITY_UPDATE of nothing",
            vec![frame(kind::PRIORITY_UPDATE, 0, 0, &[0; 4])],
            go("protocol-error"),
        ),
        (
            "9218 PRIORITY_UPDATE too short",
            vec![frame(kind::PRIORITY_UPDATE, 0, 0, &[0; 3])],
            go("frame-size-error"),
        ),
        (
            "HPACK: size update too large",
            vec![frame(kind::HEADERS, 5, 1, &[0x3f, 0xe2, 0x1f])],
            go("compression-error"),
        ),
        (
            "HPACK: size update at the end",
            vec![frame(
                kind::HEADERS,
                5,
                1,
                &[&block(&GET)[..], &[0x20]].concat(),
            )],
            go("compression-error"),
        ),
        (
            "HPACK: three size updates",
            vec![frame(
                kind::HEADERS,
                5,
                1,
                &[&[0x20, 0x20, 0x20][..], &block(&GET)].concat(),
            )],
            go("compression-error"),
        ),
        (
            "HPACK: two size updates",
            vec![frame(
                kind::HEADERS,
                5,
                1,
                &[&[0x20, 0x3f, 0xe1, 0x1f][..], &block(&GET)].concat(),
            )],
            "head 1 end".into(),
        ),
        (
            "HPACK: index 0",
            vec![frame(kind::HEADERS, 5, 1, &[0x80])],
            go("compression-error"),
        ),
        (
            "HPACK: cut off",
            vec![frame(kind::HEADERS, 5, 1, &[0x82, 0x00, 0x05, b'a'])],
            go("compression-error"),
        ),
        (
            "HPACK: an endless integer",
            vec![frame(
                kind::HEADERS,
                5,
                1,
                &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            )],
            go("compression-error"),
        ),
    ];
    for (name, frames, expected) in &cases {
        check(Ours::server, name, frames, expected);
    }
    for (name, frames, expected) in [
        (
            "5.1 closed: DATA",
            vec![data(1, b"x", true)],
            "rst 1 stream-closed",
        ),
        ("5.1 closed: HEADERS", vec![get(1)], "goaway stream-closed"),
        ("5.1 closed: RST_STREAM", vec![rst(1)], ""),
        ("5.1 closed: WINDOW_UPDATE", vec![window_update(1, 1)], ""),
    ] {
        check(closed, name, &frames, expected);
    }
    for (name, bytes, expected) in [
        (
            "3.4 no preface",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "goaway protocol-error",
        ),
        (
            "3.4 no SETTINGS",
            [&PREFACE[..], &get(1)].concat(),
            "goaway protocol-error",
        ),
        (
            "3.4 ACK first",
            [&PREFACE[..], ACK].concat(),
            "goaway protocol-error",
        ),
    ] {
        let new = || Ours::new(Role::Server, Bounds::default());
        check(new, name, &[bytes], expected);
    }
}

#[test]
fn h2_10_servers_are_hostile_too() {
    let client = || Ours::client(false);
    for (name, frames, expected) in [
        (
            "PUSH_PROMISE",
            vec![frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])],
            "goaway protocol-error",
        ),
        (
            "ENABLE_PUSH",
            vec![settings(&[(setting::ENABLE_PUSH, 1)])],
            "goaway protocol-error",
        ),
        (
            "a frame size of 0",
            vec![settings(&[(setting::MAX_FRAME_SIZE, 0)])],
            "goaway protocol-error",
        ),
        (
            "HEADERS of an even stream",
            vec![headers(2, &block(&[(":status", "200")]), true)],
            "goaway protocol-error",
        ),
        (
            "HEADERS of an idle stream",
            vec![headers(3, &block(&[(":status", "200")]), true)],
            "goaway protocol-error",
        ),
        (
            "DATA of an idle stream",
            vec![data(3, b"x", true)],
            "goaway protocol-error",
        ),
        (
            "PRIORITY_UPDATE",
            vec![frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1")],
            "goaway protocol-error",
        ),
        (
            "no streams and GOAWAY",
            vec![
                settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]),
                frame(kind::GOAWAY, 0, 0, &[0; 8]),
            ],
            "settings, goaway 0 no-error, reset 1 refused-stream by peer",
        ),
        (
            "refused",
            vec![frame(kind::RST_STREAM, 0, 1, &7u32.to_be_bytes())],
            "reset 1 refused-stream by peer",
        ),
        (
            "GOAWAY above",
            vec![frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])],
            "goaway 1 no-error",
        ),
    ] {
        check(client, name, &frames, expected);
    }
    let mut ours = client();
    ours.take(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]))
        .unwrap();
    assert_eq!(ours.conn.may_open(), 0);
    assert_eq!(ours.conn.open(&block(&GET), true, false, 0), None);
    ours.conn.release(1);
    assert_eq!(ours.conn.open(&block(&GET), true, false, 0), Some(3));
    // Released before its answer: what is under way is ignored, and decoded.
    ours.events.clear();
    ours.take(
        &[
            headers(1, &block(&[(":status", "200")]), false),
            data(1, b"x", true),
        ]
        .concat(),
    )
    .unwrap();
    assert!(ours.events.is_empty());
    assert_eq!(ours.said(), ["rst 1 cancel"]);
}

#[test]
fn h2_12_refused_blocks_are_decoded() {
    let mut ours = Ours::server();
    // Malformed, and it inserts `x: y`; the next one refers to it.
    let mut bad = block(&[(":foo", "x")]);
    bad.extend_from_slice(&[0x40, 1, b'x', 1, b'y']);
    let mut good = block(&GET);
    good.push(0x80 | 62);
    ours.take(&[headers(1, &bad, true), headers(3, &good, true)].concat())
        .unwrap();
    assert_eq!(ours.events, ["head 3 end"]);
    let head = Head::new(&ours.head.0, &ours.head.1);
    assert_eq!(head.named(b"x").next(), Some(&b"y"[..]));
}

#[test]
fn oversize_is_answered_and_four_times_is_not() {
    let limits = Bounds::default().head;
    let long = |n: usize| "v".repeat(n);
    let path = |n: usize| -> Vec<u8> {
        let path = format!("/{}", long(n - 1));
        block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", &path),
            (":authority", "a"),
        ])
    };
    let field = |n: usize| -> Vec<u8> {
        let value = long(n - 3);
        block(&[GET.as_slice(), &[("x", value.as_str())]].concat())
    };
    let many = |n: usize, len: usize| -> Vec<u8> {
        let value = long(len);
        block(&[GET.as_slice(), &vec![("x", value.as_str()); n]].concat())
    };
    for (name, block, expected) in [
        ("path at the bound", path(limits.line), "head 1 end"),
        (
            "path beyond",
            path(limits.line + 1),
            "head 1 end TargetTooLong",
        ),
        ("field at the bound", field(limits.field), "head 1 end"),
        (
            "field beyond",
            field(limits.field + 1),
            "head 1 end FieldTooLong",
        ),
        ("99 fields", many(99, 1), "head 1 end"),
        ("100 fields", many(100, 1), "head 1 end TooManyFields"),
        ("head beyond", many(9, 4000), "head 1 end HeadTooLarge"),
        ("four times", many(36, 4000), "goaway enhance-your-calm"),
    ] {
        // In as many frames as it needs.
        let mut bytes = Vec::new();
        frame::block(1, None, &block, true, 16384, &mut bytes);
        check(Ours::server, name, &[bytes], expected);
    }
}

/// Sends `one(i)` over and over: how many went before the connection was ended, and with what.
fn flood(
    mut ours: Ours,
    most: usize,
    mut one: impl FnMut(&mut Ours, usize) -> Vec<u8>,
) -> (usize, &'static str) {
    for i in 0..most {
        let bytes = one(&mut ours, i);
        if let Err(fatal) = ours.take(&bytes) {
            assert_eq!(
                ours.said().last().unwrap(),
                &format!("goaway {}", fatal.code.word())
            );
            return (i, fatal.code.word());
        }
        ours.drain();
        ours.out.clear();
    }
    (most, "")
}

const CALM: &str = "enhance-your-calm";

#[test]
fn rs_01_rapid_reset() {
    let pair = |ours: &mut Ours, i: usize| {
        let id = 2 * i as u32 + 1;
        // The session gives up at once.
        if i > 0 {
            ours.conn.release(id - 2);
        }
        [get(id), rst(id)].concat()
    };
    assert_eq!(flood(Ours::server(), 10_000, pair), (100, CALM));
    // Slowly: a thousand in all.
    let slowly = |ours: &mut Ours, i: usize| {
        ours.now += 200;
        pair(ours, i)
    };
    assert_eq!(flood(Ours::server(), 10_000, slowly), (1000, CALM));
    // What the session still works on counts against the limit, however it was reset.
    let mut ours = Ours::server();
    for i in 0..100 {
        ours.take(&[get(2 * i + 1), rst(2 * i + 1)].concat())
            .unwrap();
    }
    ours.take(&get(201)).unwrap();
    assert_eq!(ours.said(), ["rst 201 refused-stream"]);
    assert_eq!(ours.conn.streams(), 100);
    // Answered first: nobody's loss.
    let answered = |ours: &mut Ours, i: usize| {
        let id = 2 * i as u32 + 1;
        ours.take(&post(id)).unwrap();
        ours.answer(id);
        rst(id)
    };
    assert_eq!(flood(Ours::server(), 100, answered).1, "");
}

#[test]
fn rs_02_made_you_reset() {
    type Primitive = fn(u32) -> Vec<u8>;
    let primitives: [(&str, Primitive); 6] = [
        ("increment of 0", |id| {
            [post(id), window_update(id, 0)].concat()
        }),
        ("overflow", |id| {
            [post(id), window_update(id, 0x7fff_ffff)].concat()
        }),
        ("PRIORITY of a bad length", |id| {
            [post(id), frame(kind::PRIORITY, 0, id, &[0; 4])].concat()
        }),
        ("PRIORITY on itself", |id| {
            let mut payload = id.to_be_bytes().to_vec();
            payload.push(1);
            [post(id), frame(kind::PRIORITY, 0, id, &payload)].concat()
        }),
        ("HEADERS half closed", |id| [get(id), get(id)].concat()),
        ("DATA half closed", |id| {
            [get(id), data(id, b"x", true)].concat()
        }),
    ];
    for (name, primitive) in primitives {
        let one = |ours: &mut Ours, i: usize| {
            let id = 2 * i as u32 + 1;
            if i > 0 {
                ours.conn.release(id - 2);
            }
            primitive(id)
        };
        assert_eq!(flood(Ours::server(), 10_000, one), (50, CALM), "{name}");
        let slowly = |ours: &mut Ours, i: usize| {
            ours.now += 500;
            one(ours, i)
        };
        assert_eq!(flood(Ours::server(), 10_000, slowly), (500, CALM), "{name}");
    }
}

#[test]
fn rs_03_answers_that_nobody_reads() {
    // Nobody takes `out`: within the budget of PINGs, for hours.
    let mut ours = Ours::server();
    let mut n = 0;
    let fatal = loop {
        ours.now += 600;
        if let Err(fatal) = ours.take(&frame(kind::PING, 0, 0, &[0; 8])) {
            break fatal;
        }
        n += 1;
    };
    assert_eq!((n, fatal.code), (1000, ErrorCode::ENHANCE_YOUR_CALM));
    assert!(ours.conn.out.len() < 64 << 10);
}

#[test]
fn rs_04_floods_of_control_frames() {
    let same = |bytes: Vec<u8>| move |_: &mut Ours, _: usize| bytes.clone();
    // One SETTINGS and its acknowledgement have been seen.
    assert_eq!(flood(Ours::server(), 1000, same(settings(&[]))), (8, CALM));
    assert_eq!(flood(Ours::server(), 1000, same(ACK.to_vec())), (8, CALM));
    assert_eq!(
        flood(Ours::server(), 1000, same(frame(kind::PING, 0, 0, &[0; 8]))),
        (20, CALM)
    );
    assert_eq!(
        flood(Ours::server(), 1000, same(frame(kind::PING, 1, 0, &[0; 8]))),
        (20, CALM)
    );
    assert_eq!(
        flood(
            Ours::server(),
            1000,
            same(frame(kind::PRIORITY, 0, 1, &[0; 5]))
        ),
        (100, CALM)
    );
    assert_eq!(
        flood(Ours::server(), 1000, same(frame(0xbe, 0, 0, b"x"))),
        (100, CALM)
    );
    assert_eq!(
        flood(
            Ours::server(),
            1000,
            same(frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"))
        ),
        (100, CALM)
    );
    assert_eq!(
        flood(Ours::server(), 1000, same(window_update(0, 1))),
        (100, CALM)
    );
    // A stream allows for ten more of each.
    let with_stream = || {
        let mut ours = Ours::server();
        ours.take(&get(1)).unwrap();
        ours
    };
    assert_eq!(
        flood(with_stream(), 1000, same(frame(0xbe, 0, 0, b"x"))),
        (110, CALM)
    );
    assert_eq!(
        flood(with_stream(), 1000, same(window_update(1, 1))),
        (110, CALM)
    );
    // In time, everything is allowed that is not a flood.
    let slowly = |ours: &mut Ours, _: usize| {
        ours.now += 1300;
        [
            settings(&[]),
            frame(kind::PING, 0, 0, &[0; 8]),
            frame(0xbe, 0, 0, b"x"),
        ]
        .concat()
    };
    assert_eq!(flood(Ours::server(), 1000, slowly), (1000, ""));
}

#[test]
fn rs_05_empty_frames() {
    let start = || {
        let mut ours = Ours::server();
        ours.take(&post(1)).unwrap();
        ours
    };
    assert_eq!(flood(start(), 1000, |_, _| data(1, b"", false)), (10, CALM));
    // Nothing but padding is empty as well.
    assert_eq!(
        flood(start(), 1000, |_, _| frame(kind::DATA, 8, 1, &[2, 0, 0])),
        (10, CALM)
    );
    assert_eq!(
        flood(start(), 1000, |_, i| data(
            1,
            if i % 10 == 9 { b"x" } else { b"" },
            false
        )),
        (1000, "")
    );
}

#[test]
fn rs_06_continuation() {
    let mut ours = Ours::server();
    ours.take(&frame(kind::HEADERS, 1, 1, &block(&GET)))
        .unwrap();
    let one = |_: &mut Ours, _: usize| frame(kind::CONTINUATION, 0, 1, &block(&[("x", "y")]));
    assert_eq!(flood(ours, 1000, one), (8, CALM));
    // It does not end: it is not waited for.
    let mut ours = Ours::server();
    ours.take(&frame(kind::HEADERS, 1, 1, &block(&GET)))
        .unwrap();
    assert_eq!(ours.conn.next_tick(), Some(30_000));
    assert_eq!(ours.conn.tick(29_999), None);
    assert_eq!(ours.conn.fatal(), None);
    assert_eq!(ours.conn.tick(30_000), None);
    assert_eq!(
        ours.conn.fatal().map(|f| f.code),
        Some(ErrorCode::ENHANCE_YOUR_CALM)
    );
}

#[test]
fn rs_07_hpack_bombs() {
    // A large entry, referred to over and over; small ones; crumbs.
    let large = "v".repeat(3000);
    for (name, value, references) in [
        ("x", large.as_str(), 16_000),
        ("x", "", 16_000),
        ("cookie", "a=b", 16_000),
    ] {
        let mut ours = Ours::server();
        let mut first = block(&GET);
        first.push(0x40);
        hpack::string(name.as_bytes(), &mut first);
        hpack::string(value.as_bytes(), &mut first);
        ours.take(&headers(1, &first, true)).unwrap();
        let mut bomb = block(&GET);
        bomb.extend(std::iter::repeat_n(0x80 | 62, references));
        let fatal = ours.take(&headers(3, &bomb, true)).unwrap_err();
        assert_eq!(fatal.code, ErrorCode::ENHANCE_YOUR_CALM);
        assert!(ours.conn.decoded.bytes.capacity() < 300 << 10);
    }
}

#[test]
fn rs_08_table_size_flips() {
    let mut ours = Ours::server();
    for _ in 0..3 {
        ours.take(&settings(&[
            (setting::HEADER_TABLE_SIZE, 0),
            (setting::HEADER_TABLE_SIZE, u32::MAX),
        ]))
        .unwrap();
    }
    ours.take(&get(1)).unwrap();
    ours.take(&get(3)).unwrap();
    ours.drain();
    ours.out.clear();
    let mut status = Vec::new();
    encode::status(200, &mut status);
    ours.conn.head(1, &status, true, 0);
    ours.conn.head(3, &status, true, 0);
    ours.drain();
    // We use no table, and say so once.
    assert_eq!(ours.out[0].3, [0x20, 0x88]);
    assert_eq!(ours.out[1].3, [0x88]);
}

#[test]
fn rs_09_windows_that_do_not_open() {
    let body = vec![0; 100_000];
    let start = |window: u32| {
        let mut ours = Ours::server();
        ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, window)]))
            .unwrap();
        ours.take(&get(1)).unwrap();
        ours.conn.head(1, &[0x88], false, 0);
        ours
    };
    // Shut from the beginning; an increment now and then is no progress.
    let mut ours = start(0);
    assert_eq!(ours.conn.data(1, &body, true, 0), 0);
    for now in 1..30u64 {
        ours.take(&window_update(1, 1)).unwrap();
        assert_eq!(ours.conn.next_writable(), Some(1));
        assert_eq!(ours.conn.data(1, &body, true, now * 1000), 1);
        assert_eq!(ours.conn.tick(now * 1000), None);
    }
    assert_eq!(ours.conn.next_tick(), Some(30_000));
    let reset = Event::Reset {
        stream: 1,
        code: ErrorCode::CANCEL,
        remote: false,
    };
    assert_eq!(ours.conn.tick(30_000), Some(reset));
    assert_eq!(ours.conn.tick(30_000), None);
    assert_eq!(ours.said(), ["rst 1 cancel"]);
    // 16 KiB is progress.
    let mut ours = start(0);
    assert_eq!(ours.conn.data(1, &body, true, 0), 0);
    ours.take(&window_update(1, 16 << 10)).unwrap();
    assert_eq!(ours.conn.data(1, &body, true, 29_000), 16 << 10);
    assert_eq!(ours.conn.tick(30_000), None);
    assert_eq!(ours.conn.tick(59_000), Some(reset));
    // The connection's window, of which nothing comes.
    let mut ours = start(1 << 20);
    assert_eq!(ours.conn.data(1, &body, true, 0), 65_535);
    assert_eq!(ours.conn.tick(30_000), Some(reset));
    // A window made smaller than what is under way.
    let mut ours = start(1000);
    assert_eq!(ours.conn.data(1, &body, true, 0), 1000);
    ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]))
        .unwrap();
    ours.take(&window_update(1, 1000)).unwrap();
    assert_eq!(ours.conn.data(1, &body, true, 0), 0);
    ours.take(&window_update(1, 1)).unwrap();
    assert_eq!(ours.conn.data(1, &body, true, 0), 1);
}

#[test]
fn what_we_hold_is_bounded_by_windows() {
    // Nothing is given back: a stream's window, then no more.
    let mut ours = Ours::server();
    let mut taken = 0;
    ours.take(&post(1)).unwrap();
    let piece = data(1, &[0; 16 << 10], false);
    while !ours.conn.is_over(1) {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let received = ours.conn.receive(rest, 0).unwrap();
            rest = &rest[received.taken..];
            if let Some(Event::Data { bytes, .. }) = received.event {
                taken += bytes.len();
            }
        }
    }
    let fault = ours.said();
    assert_eq!(taken, 256 << 10);
    assert_eq!(fault, ["rst 1 flow-control-error"]);
    // Given back: credit, for the stream and for the connection; padding by itself.
    let mut ours = Ours::server();
    ours.take(&post(1)).unwrap();
    for _ in 0..1000 {
        let mut padded = vec![255];
        padded.extend_from_slice(&[0; 1000]);
        ours.take(&frame(kind::DATA, flag::PADDED, 1, &padded))
            .unwrap();
        ours.take(&data(1, &[0; 16 << 10], false)).unwrap();
        ours.drain();
    }
    let given = |stream| -> u32 {
        ours.out
            .iter()
            .filter(|f| f.0 == kind::WINDOW_UPDATE && f.2 == stream)
            .map(|f| frame::word(&f.3).unwrap())
            .sum()
    };
    assert!(given(1) > 16_000_000 && given(0) > 16_000_000);
    // Released with bytes that nobody took: the connection has them back.
    assert_eq!(ours.conn.streams(), 1);
}

#[test]
fn urgent_streams_first_and_equal_ones_in_turn() {
    let body = vec![0; 1 << 20];
    let mut ours = Ours::server();
    ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]))
        .unwrap();
    let request = |id, priority| headers(id, &with(&GET, &[("priority", priority)]), true);
    for (id, priority) in [(1, "u=5"), (3, "u=3, i"), (5, "u=3, i"), (7, "u=0")] {
        ours.take(&request(id, priority)).unwrap();
        ours.conn.head(id, &[0x88], false, 0);
    }
    // Nobody may: the connection's window is used up by another.
    ours.take(&get(9)).unwrap();
    ours.conn.head(9, &[0x88], false, 0);
    assert_eq!(ours.conn.data(9, &body, false, 0), 65_535);
    ours.conn.release(9);
    for id in [1, 3, 5, 7] {
        assert_eq!(ours.conn.data(id, &body, false, 0), 0);
    }
    ours.conn.out.clear();
    assert_eq!(ours.conn.next_writable(), None);
    ours.take(&window_update(0, 1 << 29)).unwrap();
    ours.conn.out.clear();
    // The most urgent fills what there is.
    assert_eq!(ours.conn.next_writable(), Some(7));
    assert_eq!(ours.conn.next_writable(), None);
    assert_eq!(ours.conn.data(7, &body, false, 0), 128 << 10);
    ours.conn.out.clear();
    assert_eq!(ours.conn.next_writable(), Some(7));
    // It has no more; the next ones take turns.
    assert_eq!(ours.conn.data(7, b"x", true, 0), 1);
    let mut order = Vec::new();
    for _ in 0..2 {
        ours.conn.out.clear();
        let mut named = Vec::new();
        while let Some(id) = ours.conn.next_writable() {
            named.push(id);
        }
        for id in named {
            order.push((id, ours.conn.data(id, &body, false, 0)));
        }
    }
    assert_eq!(
        order[..3],
        [(3, 16 << 10), (5, 16 << 10), (1, (96 << 10) - 18)]
    );
    // PRIORITY_UPDATE changes its mind.
    ours.take(&frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=0"))
        .unwrap();
    ours.conn.out.clear();
    assert_eq!(ours.conn.next_writable(), Some(1));
}

#[test]
fn an_end_in_two_steps() {
    let mut ours = Ours::server();
    ours.take(&get(1)).unwrap();
    ours.conn.drain();
    ours.take(&get(3)).unwrap();
    ours.conn.goaway(ErrorCode::NO_ERROR);
    // Beyond it: nothing is taken, nothing is a fault.
    ours.take(&[post(5), data(5, b"x", true)].concat()).unwrap();
    assert_eq!(ours.events, ["head 1 end", "head 3 end"]);
    ours.drain();
    let lasts: Vec<_> = ours
        .out
        .iter()
        .filter(|f| f.0 == kind::GOAWAY)
        .map(|f| frame::word(&f.3).unwrap())
        .collect();
    assert_eq!(lasts, [0x7fff_ffff, 3]);
    ours.answer(1);
    ours.answer(3);
    assert!(ours.conn.is_going() && ours.conn.streams() == 0);
}

#[test]
fn rs_10_streams_above_the_limit() {
    let bounds = Bounds {
        streams: 3,
        ..Bounds::default()
    };
    let mut ours = Ours::server_with(bounds);
    for id in [1, 3, 5, 7] {
        ours.take(&post(id)).unwrap();
    }
    assert_eq!(ours.events, ["head 1", "head 3", "head 5"]);
    assert_eq!(ours.said(), ["rst 7 refused-stream"]);
    // Again and again.
    assert_eq!(flood(ours, 1000, |_, i| post(9 + 2 * i as u32)), (49, CALM));
}

#[test]
fn rs_11_fields_without_a_name() {
    let mut ours = Ours::server();
    let fields = vec![("", ""); 50];
    ours.take(&headers(1, &with(&GET, &fields), true)).unwrap();
    assert_eq!(ours.said(), [RST_PROTOCOL]);
}

#[test]
fn a_released_stream_is_reset_as_it_should_be() {
    let mut ours = Ours::server();
    ours.take(&[post(1), post(3), get(5)].concat()).unwrap();
    // Answered, its body not needed; given up; answered.
    ours.answer(1);
    ours.conn.release(3);
    ours.answer(5);
    assert_eq!(ours.said(), ["rst 1 no-error", "rst 3 cancel"]);
    // What is under way for them is no fault, and its credit comes back.
    ours.take(&[data(1, b"x", true), data(3, b"x", false), rst(3)].concat())
        .unwrap();
    assert_eq!(ours.said(), Vec::<String>::new());
}
