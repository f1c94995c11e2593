//! Whatever a peer sends: no panic, bounded memory, the same however it arrives, and a connection that ends says why.

use super::frame::{self, MAX_31, PREFACE, kind};
use super::*;
use proptest::prelude::*;

/// What happened, bytes of one body put together.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    events: Vec<String>,
    fatal: Option<(ErrorCode, &'static str)>,
    /// Types, flags and streams of what came out, without what depends on when credit was given.
    out: Vec<(u8, u8, StreamId, Vec<u8>)>,
}

fn connection(role: Role) -> Connection {
    let mut conn = Connection::new(role, Bounds::default(), 0);
    if role == Role::Client {
        for i in 0..4 {
            conn.open(&[0x82, 0x86, 0x84, 0x41, 1, b'a'], i % 2 == 0, i == 2, 0);
        }
    }
    conn
}

fn frames(out: &[u8]) -> Vec<(u8, u8, StreamId, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = out.strip_prefix(PREFACE).unwrap_or(out);
    while let Some((header, after)) = rest.split_first_chunk::<9>() {
        let header = frame::Header::read(header);
        let (payload, after) = after.split_at(header.len);
        if header.kind != kind::WINDOW_UPDATE {
            found.push((header.kind, header.flags, header.stream, payload.to_vec()));
        }
        rest = after;
    }
    found
}

/// Feeds `bytes` in pieces. The session answers every request once its body has ended, and gives up what is reset.
fn run(role: Role, bytes: &[u8], mut pieces: impl FnMut() -> usize) -> Seen {
    let mut conn = connection(role);
    let mut seen = Seen::default();
    let mut rest = bytes;
    let mut body: Option<(StreamId, usize)> = None;
    'all: while !rest.is_empty() {
        let (now, after) = rest.split_at(pieces().clamp(1, rest.len()));
        rest = after;
        let mut now = now;
        loop {
            let received = match conn.receive(now, 0) {
                Ok(received) => received,
                Err(fatal) => {
                    seen.fatal = Some((fatal.code, fatal.why));
                    break 'all;
                }
            };
            now = &now[received.taken..];
            let Some(event) = received.event else {
                if received.taken == 0 {
                    assert!(now.is_empty());
                    break;
                }
                continue;
            };
            if let Event::Data { stream, bytes, end } = event {
                conn.consumed(stream, bytes.len());
                let sum = body.take().map_or(0, |b| b.1) + bytes.len();
                body = Some((stream, sum));
                if !end {
                    continue;
                }
            }
            if let Some((stream, sum)) = body.take() {
                seen.events.push(format!("body {stream} {sum}"));
            }
            match event {
                Event::Data { .. } => {}
                other => seen.events.push(format!("{other:?}")),
            }
            let done = match event {
                Event::Head {
                    stream, end: true, ..
                }
                | Event::Data {
                    stream, end: true, ..
                }
                | Event::Trailers { stream, .. } => {
                    conn.head(stream, &[0x88], true, 0);
                    Some(stream)
                }
                Event::Reset { stream, .. } => Some(stream),
                _ => None,
            };
            if let Some(stream) = done {
                assert!(role == Role::Client || conn.is_over(stream));
                conn.release(stream);
            }
        }
        let held =
            conn.partial.capacity() + conn.block.bytes.capacity() + conn.decoded.bytes.capacity();
        assert!(held < 600 << 10, "{held}");
        assert!(conn.streams() <= 100 && conn.recent.len() <= 1024 && conn.early.len() <= 16);
    }
    if let Some((stream, sum)) = body.take() {
        seen.events.push(format!("body {stream} {sum}"));
    }
    seen.out = frames(&conn.out);
    if let Some((code, _)) = seen.fatal {
        // The last thing said is why.
        let (kind, _, _, payload) = seen.out.last().unwrap();
        assert_eq!(*kind, kind::GOAWAY);
        assert_eq!(frame::word(&payload[4..]), Some(code.0));
        // And nothing is taken after it.
        assert!(conn.receive(&[0; 9], 0).is_err());
    }
    seen
}

/// A frame that may be right or wrong, of few streams, so that they meet.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![8 => 0u32..12, 1 => Just(MAX_31)];
    let block = prop_oneof![
        4 => Just(vec![0x82, 0x86, 0x84, 0x41, 1, b'a']),
        2 => Just(vec![0x83, 0x86, 0x84, 0x41, 1, b'a', 0x5c, 1, b'3']),
        2 => Just(vec![0x88]),
        1 => Just(vec![0x88, 0x5c, 1, b'3']),
        1 => Just(vec![0x40, 1, b'x', 1, b'y', 0xbe]),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let small = prop::collection::vec(any::<u8>(), 0..12);
    let word = prop_oneof![Just(0u32), Just(1), Just(MAX_31), 0u32..100_000];
    prop_oneof![
        6 => (stream.clone(), any::<u8>(), block.clone()).prop_map(|(s, f, p)| (kind::HEADERS, f & 0x05, s, p)),
        1 => (stream.clone(), any::<u8>(), block.clone()).prop_map(|(s, f, p)| (kind::HEADERS, f & 0x2d, s, p)),
        3 => (stream.clone(), any::<u8>(), small.clone()).prop_map(|(s, f, p)| (kind::DATA, f & 0x09, s, p)),
        2 => (stream.clone(), Just(0x1), Just(b"abc".to_vec())).prop_map(|(s, f, p)| (kind::DATA, f, s, p)),
        1 => (stream.clone(), any::<u8>(), block).prop_map(|(s, f, p)| (kind::CONTINUATION, f & 4, s, p)),
        1 => (stream.clone(), word.clone()).prop_map(|(s, w)| (kind::WINDOW_UPDATE, 0, s, w.to_be_bytes().to_vec())),
        1 => (stream.clone(), word).prop_map(|(s, w)| (kind::RST_STREAM, 0, s, w.to_be_bytes().to_vec())),
        1 => prop::collection::vec((0u16..10, prop_oneof![Just(0u32), Just(1), Just(65535), Just(1 << 20)]), 0..3).prop_map(|pairs| {
            let payload = pairs.iter().flat_map(|(id, v)| [&id.to_be_bytes()[..], &v.to_be_bytes()].concat()).collect();
            (kind::SETTINGS, 0, 0, payload)
        }),
        1 => any::<bool>().prop_map(|ack| (kind::PING, u8::from(ack), 0, vec![0; 8])),
        1 => (0u8..0x12, any::<u8>(), stream, small).prop_map(|(k, f, s, p)| (k, f, s, p)),
    ]
    .prop_map(|(kind, flags, stream, payload)| {
        let mut out = Vec::new();
        frame::write(kind, flags, stream, &payload, &mut out);
        out
    })
}

fn hello(role: Role, rest: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if role == Role::Server {
        bytes.extend_from_slice(PREFACE);
    }
    frame::settings(&[], &mut bytes);
    bytes.extend(rest);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn frames_right_and_wrong(server: bool, frames in prop::collection::vec(any_frame(), 0..40), cuts in prop::collection::vec(1usize..40, 1..20)) {
        let role = if server { Role::Server } else { Role::Client };
        let bytes = hello(role, frames.concat());
        let whole = run(role, &bytes, || usize::MAX);
        let mut cuts = cuts.iter().cycle();
        let pieces = run(role, &bytes, || *cuts.next().unwrap());
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn any_bytes(server: bool, bytes: Vec<u8>, size in 1usize..20) {
        let role = if server { Role::Server } else { Role::Client };
        let bytes = hello(role, bytes);
        prop_assert_eq!(run(role, &bytes, || usize::MAX), run(role, &bytes, || size));
    }
}

/// What happens to answers that are under way.
#[derive(Debug, Clone)]
enum Op {
    /// A request, perhaps with a priority; its answer's head is sent.
    Ask(Option<&'static str>),
    /// One of the streams has more to send.
    Offer(usize, usize),
    /// Its window, or the connection's, opens.
    Window(Option<usize>, u32),
    /// All windows change.
    Initial(u32),
    /// The socket takes some of what waits.
    Take(usize),
    /// The end of a turn: those that are named write, but for those that do not come to it.
    Turn(u8),
    /// A stream is given up.
    Release(usize),
    /// Or reset by the peer.
    Reset(usize),
}

fn any_op() -> impl Strategy<Value = Op> {
    let priority = prop_oneof![
        3 => Just(None),
        1 => prop_oneof![Just("u=0"), Just("u=5"), Just("i"), Just("u=3")].prop_map(Some),
    ];
    prop_oneof![
        2 => priority.prop_map(Op::Ask),
        4 => (0usize..6, 1usize..100_000).prop_map(|(s, n)| Op::Offer(s, n)),
        3 => (prop::option::of(0usize..6), 1u32..60_000).prop_map(|(s, n)| Op::Window(s, n)),
        1 => prop_oneof![Just(0u32), Just(1), Just(65_535), Just(1 << 20)].prop_map(Op::Initial),
        3 => (1usize..200_000).prop_map(Op::Take),
        4 => any::<u8>().prop_map(Op::Turn),
        1 => (0usize..6).prop_map(Op::Release),
        1 => (0usize..6).prop_map(Op::Reset),
    ]
}

/// Answers under way: what each has left, and whether it waits to be named.
#[derive(Default)]
struct Answers {
    open: Vec<(StreamId, usize, bool)>,
    next: StreamId,
}

impl Answers {
    /// As an exchange does: it sends what it can, and waits for its name if that is not all.
    fn write(conn: &mut Connection, answer: &mut (StreamId, usize, bool)) {
        let body = vec![0; answer.1];
        let n = conn.data(answer.0, &body, false, 0);
        answer.1 -= n;
        answer.2 = answer.1 > 0;
        // Who may not go on is not told that it may.
        assert!(!answer.2 || conn.writable(answer.0) == 0);
    }

    /// The session's end of a turn. `skip`: bits of those that do not come to it.
    fn turn(&mut self, conn: &mut Connection, skip: u8) {
        let mut named = Vec::new();
        while let Some(id) = conn.next_writable() {
            named.push(id);
        }
        for (i, id) in named.into_iter().enumerate() {
            let answer = self.open.iter_mut().find(|o| o.0 == id).unwrap();
            assert!(answer.2, "named, and did not wait");
            if skip & (1 << (i % 8)) == 0 && conn.writable(id) > 0 {
                Self::write(conn, answer);
            }
        }
    }

    fn apply(&mut self, conn: &mut Connection, op: Op) {
        let nth = |i: usize| self.open.get(i % self.open.len().max(1)).map(|o| o.0);
        let frame = |conn: &mut Connection, bytes: &[u8]| {
            let mut rest = bytes;
            loop {
                let received = conn.receive(rest, 0).unwrap();
                rest = &rest[received.taken..];
                if received.taken == 0 && received.event.is_none() {
                    return;
                }
            }
        };
        let mut bytes = Vec::new();
        match op {
            Op::Ask(priority) if self.open.len() < 6 => {
                let mut block = vec![0x82, 0x86, 0x84, 0x41, 1, b'a'];
                if let Some(value) = priority {
                    block.push(0);
                    for text in ["priority", value] {
                        block.push(text.len() as u8);
                        block.extend_from_slice(text.as_bytes());
                    }
                }
                self.next += 2;
                let id = self.next - 1;
                frame::write(kind::HEADERS, 5, id, &block, &mut bytes);
                frame(conn, &bytes);
                assert!(conn.head(id, &[0x88], false, 0));
                self.open.push((id, 0, false));
            }
            Op::Ask(_) => {}
            Op::Offer(i, n) => {
                let len = self.open.len().max(1);
                if let Some(answer) = self.open.get_mut(i % len).filter(|a| !a.2) {
                    answer.1 += n;
                    Self::write(conn, answer);
                }
            }
            Op::Window(which, n) => {
                let id = match which {
                    None => Some(0),
                    Some(i) => nth(i),
                };
                if let Some(id) = id {
                    frame::write(kind::WINDOW_UPDATE, 0, id, &n.to_be_bytes(), &mut bytes);
                    frame(conn, &bytes);
                }
            }
            Op::Initial(n) => {
                frame::settings(&[(frame::setting::INITIAL_WINDOW_SIZE, n)], &mut bytes);
                frame(conn, &bytes);
            }
            Op::Take(n) => {
                let n = n.min(conn.out.len());
                conn.out.drain(..n);
            }
            Op::Turn(skip) => self.turn(conn, skip),
            Op::Release(i) | Op::Reset(i) => {
                let Some(id) = nth(i) else { return };
                if matches!(op, Op::Reset(_)) {
                    frame::write(kind::RST_STREAM, 0, id, &[0, 0, 0, 8], &mut bytes);
                    frame(conn, &bytes);
                    assert_eq!(conn.data(id, b"x", false, 0), 0);
                }
                conn.release(id);
                self.open.retain(|o| o.0 != id);
            }
        }
        let wanting = conn.streams.iter().filter(|s| s.wants).count();
        let granted: usize = conn.streams.iter().map(|s| s.granted).sum();
        assert_eq!((conn.wanting, conn.granted), (wanting, granted));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Nobody waits for ever: whatever happened, once windows are open and the socket takes what there is, all goes out, though
    /// each that was refused moves only when it is named.
    #[test]
    fn answers_come_to_their_end(ops in prop::collection::vec(any_op(), 1..80)) {
        let mut conn = Connection::new(Role::Server, Bounds::default(), 0);
        let mut answers = Answers::default();
        let mut rest: &[u8] = &hello(Role::Server, Vec::new());
        while !rest.is_empty() {
            let received = conn.receive(rest, 0).unwrap();
            rest = &rest[received.taken..];
        }
        let mut settings = 0;
        for op in ops {
            // More are a flood.
            settings += usize::from(matches!(op, Op::Initial(_)));
            if settings < 8 || !matches!(op, Op::Initial(_)) {
                answers.apply(&mut conn, op);
            }
        }
        answers.apply(&mut conn, Op::Initial(1 << 20));
        answers.apply(&mut conn, Op::Window(None, 1 << 30));
        for i in 0..answers.open.len() {
            answers.apply(&mut conn, Op::Window(Some(i), 1 << 29));
        }
        for _ in 0..400 {
            answers.apply(&mut conn, Op::Turn(0));
            answers.apply(&mut conn, Op::Take(usize::MAX));
        }
        prop_assert!(answers.open.iter().all(|o| o.1 == 0), "{:?}", answers.open);
    }
}
