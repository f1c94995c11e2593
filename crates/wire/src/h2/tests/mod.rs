//! The rules of RFC 9113 and of docs/http2.md at their bounds and one beyond, frame by frame.

use super::frame::{self, PREFACE, flag, kind, setting};
use super::hpack::encode as hpack;
use super::*;
use narthex_message::{Body, FieldId, Head, Index, Reject, validate};

mod floods;
mod flow;
mod frames;
mod messages;

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
