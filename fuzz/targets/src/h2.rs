//! HTTP/2: header blocks and connections of both roles. The same however the bytes arrive; a head that is handed out is one that
//! HTTP/1 could have been sent; a connection that ends has said so.

use narthex_message::{Edits, Head, Index, validate};
use narthex_wire::h1::encode::Keep;
use narthex_wire::h2::frame::PREFACE;
use narthex_wire::h2::head::{Builder, Decoded, Kind, Rules};
use narthex_wire::h2::hpack::Decoder;
use narthex_wire::h2::{Bounds, Connection, Event, Fatal, Role, StreamId, encode};

use crate::{LIMITS, cuts, seed};

/// Blocks of one connection: each begins with its length. What is decoded is clean, and the same after our encoder and back.
pub fn hpack(data: &[u8]) {
    let rules = Rules {
        limits: &LIMITS,
        extended_connect: true,
        secure: None,
    };
    let mut decoder = Decoder::new();
    let mut decoded = Decoded::default();
    let mut rest = data;
    while let Some((&len, after)) = rest.split_first() {
        let (block, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        let kind = match len % 3 {
            0 => Kind::Request,
            1 => Kind::Response,
            _ => Kind::Trailers,
        };
        let mut builder = Builder::new(kind, rules, &mut decoded);
        if decoder.block(block, &mut builder).is_err() {
            return;
        }
        if builder.finish(false).is_ok() {
            lines_are_whole(&decoded.bytes, &decoded.index);
            round_trip(&decoded);
        }
    }
}

/// Every field is a line `name: value CRLF` in the bytes, with nothing in it that could end it early.
fn lines_are_whole(bytes: &[u8], index: &Index) {
    for field in &index.fields {
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        let line = bytes
            .get(field.name.start as usize..field.end as usize)
            .unwrap_or_default();
        let expected = [name, b": ", value, b"\r\n"].concat();
        assert_eq!(line, expected);
        assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_whitespace));
        assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    }
}

fn round_trip(decoded: &Decoded) {
    let head = Head::new(&decoded.bytes, &decoded.index);
    let mut block = Vec::new();
    encode::fields(head, Keep::response(false), &Edits::default(), &mut block);
    let mut again = Decoded::default();
    let wide = narthex_wire::h1::scan::HeadLimits {
        field: usize::MAX,
        head: usize::MAX / 8,
        ..LIMITS
    };
    let rules = Rules {
        limits: &wide,
        extended_connect: true,
        secure: None,
    };
    let mut builder = Builder::new(Kind::Trailers, rules, &mut again);
    assert_eq!(Decoder::new().block(&block, &mut builder), Ok(()));
    assert!(builder.finish(false).is_ok(), "our own block is refused");
    let back = Head::new(&again.bytes, &again.index);
    // What is kept of them, in the same order.
    let mut fields = head.fields();
    for (id, name, value) in back.fields() {
        assert!(
            fields.any(|f| f.0 == id && f.1.eq_ignore_ascii_case(name) && f.2 == value),
            "a field that was not there"
        );
    }
}

/// A server, what a client sends behind its preface and first SETTINGS.
pub fn h2_server(data: &[u8]) {
    both_ways(Role::Server, data);
}

/// A client with requests under way, what a server sends behind its first SETTINGS.
pub fn h2_client(data: &[u8]) {
    both_ways(Role::Client, data);
}

fn both_ways(role: Role, data: &[u8]) {
    let mut bytes = Vec::new();
    if role == Role::Server {
        bytes.extend_from_slice(PREFACE);
    }
    // Empty SETTINGS.
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(data);
    let whole = Session::run(role, &bytes, &[bytes.len()]);
    let pieces = Session::run(role, &bytes, &cuts(seed(data), bytes.len()));
    assert_eq!(whole.log, pieces.log, "whole and in pieces");
    assert_eq!(whole.fatal, pieces.fatal, "whole and in pieces");
}

/// One end of a connection.
struct Session {
    role: Role,
    conn: Connection,
    log: Vec<String>,
    /// Body bytes of the stream that they came for last.
    body: Option<(StreamId, usize)>,
    fatal: Option<Fatal>,
}

impl Session {
    fn run(role: Role, bytes: &[u8], cuts: &[usize]) -> Self {
        let mut session = Self {
            role,
            conn: Connection::new(role, Bounds::default(), 0),
            log: Vec::new(),
            body: None,
            fatal: None,
        };
        if role == Role::Client {
            for head_request in [false, true, false] {
                session
                    .conn
                    .open(&[0x82, 0x86, 0x84, 0x41, 1, b'a'], true, head_request, 0);
            }
        }
        let mut from = 0;
        for &cut in cuts {
            let mut piece = bytes.get(from..cut).unwrap_or_default();
            from = cut;
            loop {
                match session.conn.receive(piece, 0) {
                    Ok(received) => {
                        piece = piece.get(received.taken..).unwrap_or_default();
                        match received.event {
                            Some(event) => session.event(event),
                            None if received.taken == 0 => break,
                            None => {}
                        }
                    }
                    Err(fatal) => {
                        session.end(fatal);
                        return session;
                    }
                }
            }
            assert!(piece.is_empty(), "bytes are left");
        }
        session.flush();
        session
    }

    fn end(&mut self, fatal: Fatal) {
        self.flush();
        self.fatal = Some(fatal);
        let code = fatal.code.0.to_be_bytes();
        assert!(self.conn.out.ends_with(&code), "no GOAWAY");
    }

    fn flush(&mut self) {
        if let Some(body) = self.body.take() {
            self.log.push(format!("{body:?}"));
        }
    }

    fn event(&mut self, event: Event<'_>) {
        if let Event::Data { stream, bytes, end } = event {
            self.conn.consumed(stream, bytes.len());
            if self.body.is_some_and(|b| b.0 != stream) {
                self.flush();
            }
            self.body.get_or_insert((stream, 0)).1 += bytes.len();
            if end {
                self.flush();
                self.answer(stream);
            }
            return;
        }
        self.flush();
        self.log.push(format!("{event:?}"));
        match event {
            Event::Head { stream, end, .. } => {
                self.head();
                if end {
                    self.answer(stream);
                }
            }
            Event::Trailers { stream, .. } => self.answer(stream),
            Event::Reset { stream, .. } => self.conn.release(stream),
            _ => {}
        }
    }

    fn head(&mut self) {
        let (mut bytes, mut index) = (Vec::new(), Index::default());
        self.conn.take_head(&mut bytes, &mut index);
        lines_are_whole(&bytes, &index);
        let head = Head::new(&bytes, &index);
        match self.role {
            Role::Server => self.log.push(format!("{:?}", validate::request(head))),
            Role::Client => {
                let facts = validate::response(head, validate::Method::Get);
                self.log.push(format!("{facts:?}"));
            }
        }
    }

    fn answer(&mut self, stream: StreamId) {
        if self.role == Role::Server {
            self.conn.head(stream, &[0x88], true, 0);
            assert!(self.conn.is_over(stream));
        }
        self.conn.release(stream);
    }
}
