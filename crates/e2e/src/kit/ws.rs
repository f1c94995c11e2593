//! WebSocket (RFC 6455) from outside: frames as they are, over whatever carries bytes; and an origin that says back what it is told.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::h2::{Frame, Got, Peer};
use super::sock::Sock;

/// Opcodes.
pub mod op {
    /// Goes on with a message.
    pub const CONTINUATION: u8 = 0;
    /// UTF-8.
    pub const TEXT: u8 = 1;
    /// Bytes.
    pub const BINARY: u8 = 2;
    /// The end, with a code.
    pub const CLOSE: u8 = 8;
    /// Are you there?
    pub const PING: u8 = 9;
    /// Yes.
    pub const PONG: u8 = 10;
}

/// What carries a WebSocket's bytes.
pub trait Pipe {
    /// Sends all of them; false when that was not possible.
    fn send(&mut self, bytes: &[u8]) -> bool;
    /// Some bytes: nothing at the end, `None` when none came in time.
    fn receive(&mut self, limit: Duration) -> Option<Vec<u8>>;
}

/// A tunnel of HTTP/1.1: a socket.
pub struct OverSocket(pub Sock);

impl Pipe for OverSocket {
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }
    fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let mut space = vec![0; 65_536];
        self.0.set_read_timeout(Some(limit)).expect("timeout");
        match self.0.read(&mut space) {
            Ok(n) => {
                space.truncate(n);
                Some(space)
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Some(Vec::new()),
            Err(_) => None,
        }
    }
}

/// A tunnel of HTTP/2: a stream.
pub struct OverStream<'p> {
    /// Its connection.
    pub peer: &'p mut Peer,
    /// Its number.
    pub id: u32,
    taken: u64,
}

impl<'p> OverStream<'p> {
    /// The tunnel on this stream.
    pub fn new(peer: &'p mut Peer, id: u32) -> Self {
        Self { peer, id, taken: 0 }
    }
}

impl Pipe for OverStream<'_> {
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.peer.body(self.id, bytes, false)
    }
    fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        loop {
            let stream = self.peer.stream(self.id);
            if !stream.body.is_empty() {
                self.taken += stream.body.len() as u64;
                return Some(std::mem::take(&mut stream.body));
            }
            if stream.is_over() {
                return Some(Vec::new());
            }
            match self
                .peer
                .poll(end.saturating_duration_since(Instant::now()))
            {
                Got::Frame(_) => {}
                Got::End(_) => return Some(Vec::new()),
                Got::Quiet => return None,
            }
        }
    }
}

/// One frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsFrame {
    /// The last of its message.
    pub fin: bool,
    /// See [`op`].
    pub op: u8,
    /// Unmasked.
    pub payload: Vec<u8>,
}

/// One frame as bytes; a client's is masked.
pub fn frame(op: u8, fin: bool, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut out = vec![op | if fin { 0x80 } else { 0 }];
    match payload.len() {
        n @ 0..126 => out.push(mask_bit | n as u8),
        n @ 126..65_536 => {
            out.push(mask_bit | 0x7e);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(mask_bit | 0x7f);
            out.extend((n as u64).to_be_bytes());
        }
    }
    if !masked {
        out.extend(payload);
        return out;
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

/// A Close's payload.
pub fn closing(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// One side of a WebSocket.
pub struct Ws<P> {
    /// What carries it.
    pub pipe: P,
    /// The pipe has ended.
    pub over: bool,
    buf: Vec<u8>,
    client: bool,
}

impl<P: Pipe> Ws<P> {
    /// The client's side; these bytes have come already.
    pub fn client(pipe: P, come: Vec<u8>) -> Self {
        let client = true;
        Self {
            pipe,
            over: false,
            buf: come,
            client,
        }
    }

    /// Sends a frame.
    pub fn send(&mut self, op: u8, fin: bool, payload: &[u8]) -> bool {
        self.pipe.send(&frame(op, fin, payload, self.client))
    }
    /// Sends a message in one frame.
    pub fn say(&mut self, text: &str) -> bool {
        self.send(op::TEXT, true, text.as_bytes())
    }

    /// The next frame; `None` at the end, or when nothing comes.
    pub fn frame(&mut self, limit: Duration) -> Option<WsFrame> {
        loop {
            if let Some((frame, n)) = self.parse() {
                self.buf.drain(..n);
                return Some(frame);
            }
            match self.pipe.receive(limit) {
                Some(bytes) if bytes.is_empty() => {
                    self.over = true;
                    return None;
                }
                Some(bytes) => self.buf.extend(bytes),
                None => return None,
            }
        }
    }

    fn parse(&self) -> Option<(WsFrame, usize)> {
        let [first, second] = *self.buf.first_chunk()?;
        assert_eq!(first & 0x70, 0, "no extension was agreed on");
        assert_eq!(
            second & 0x80 != 0,
            !self.client,
            "clients mask, servers do not"
        );
        let (n, mut at) = match second & 0x7f {
            126 => (
                u16::from_be_bytes(self.buf.get(2..4)?.try_into().ok()?) as usize,
                4,
            ),
            127 => (
                u64::from_be_bytes(self.buf.get(2..10)?.try_into().ok()?) as usize,
                10,
            ),
            n => (usize::from(n), 2),
        };
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            mask = self.buf.get(at..at + 4)?.try_into().ok()?;
            at += 4;
        }
        let raw = self.buf.get(at..at + n)?;
        let payload = raw
            .iter()
            .zip(mask.iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect();
        let frame = WsFrame {
            fin: first & 0x80 != 0,
            op: first & 0x0f,
            payload,
        };
        Some((frame, at + n))
    }

    /// The next whole message, of which kind; `CLOSE` and `PONG` come as they are, and a PING is answered.
    pub fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let (mut kind, mut whole) = (op::CONTINUATION, Vec::new());
        loop {
            let f = self.frame(PATIENCE * 3)?;
            match f.op {
                op::PING => drop(self.send(op::PONG, true, &f.payload)),
                op::PONG | op::CLOSE => return Some((f.op, f.payload)),
                _ => {
                    if f.op != op::CONTINUATION {
                        assert!(whole.is_empty(), "a message within a message");
                        kind = f.op;
                    }
                    whole.extend(f.payload);
                    if f.fin {
                        return Some((kind, whole));
                    }
                }
            }
        }
    }
    /// Nothing more comes, because the tunnel has ended.
    #[track_caller]
    pub fn ends(&mut self) {
        let more = self.frame(PATIENCE);
        assert!(
            more.is_none() && self.over,
            "{more:?}, ended: {}",
            self.over
        );
    }
    /// The next message as text.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        let (_, bytes) = self.message().expect("a message");
        String::from_utf8(bytes).expect("text")
    }
}

/// An origin of WebSockets over HTTP/1.1. It says back what it is told, but `close CODE` (it closes), `parts N` (a message in so
/// many frames), `ping` (it pings, and says `pong` when that is answered), `drop` (it goes without a word).
pub struct WsOrigin {
    addr: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// The heads that it was sent.
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl WsOrigin {
    /// On a free port; its threads end with the test.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("origin");
        let addr = listener.local_addr().expect("address");
        let (open, heads) = (Arc::default(), Arc::default());
        let (kept, noted): (Arc<Mutex<Vec<TcpStream>>>, Arc<Mutex<Vec<String>>>) =
            (Arc::clone(&open), Arc::clone(&heads));
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let second = tcp.try_clone().expect("socket");
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(second);
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || serve(tcp, &noted));
            }
        });
        Self { addr, open, heads }
    }
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
    /// Heads so far.
    pub fn seen(&self) -> Vec<String> {
        self.heads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for WsOrigin {
    fn drop(&mut self) {
        for tcp in self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }
}

fn serve(mut tcp: TcpStream, heads: &Mutex<Vec<String>>) {
    let _ = tcp.set_nodelay(true);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(tcp.read(&mut byte), Ok(1)) || head.len() > 65_536 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    heads
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head.clone());
    let field = |name: &str| {
        let line = head.lines().find_map(|l| {
            l.split_once(':')
                .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        });
        line.map(|(_, v)| v.trim().to_owned())
    };
    let asked = field("upgrade").is_some_and(|u| u.eq_ignore_ascii_case("websocket"));
    let Some(key) = field("sec-websocket-key").filter(|_| asked) else {
        let _ = tcp.write_all(
            b"HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        );
        let _ = tcp.shutdown(Shutdown::Both);
        return;
    };
    let protocol = field("sec-websocket-protocol").map_or_else(String::new, |p| {
        format!(
            "Sec-WebSocket-Protocol: {}\r\n",
            p.split(',').next().unwrap_or_default().trim()
        )
    });
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n{protocol}\r\n",
        accept(&key)
    );
    if tcp.write_all(answer.as_bytes()).is_err() {
        return;
    }
    let mut ws = Ws {
        pipe: OverSocket(Sock::Tcp(tcp)),
        over: false,
        buf: Vec::new(),
        client: false,
    };
    while let Some((kind, said)) = ws.message() {
        let text = String::from_utf8_lossy(&said);
        let go_on = match (kind, text.split_once(' ')) {
            (op::CLOSE, _) => {
                ws.send(op::CLOSE, true, &said);
                false
            }
            (op::PONG, _) => ws.send(op::TEXT, true, b"pong"),
            (op::TEXT, Some(("close", code))) => ws.send(
                op::CLOSE,
                true,
                &closing(code.parse().unwrap_or(1000), "as told"),
            ),
            (op::TEXT, Some(("parts", n))) => {
                let n: usize = n.parse().unwrap_or(1);
                (0..n).all(|i| {
                    let kind = if i == 0 { op::TEXT } else { op::CONTINUATION };
                    ws.send(kind, i + 1 == n, format!("{i},").as_bytes())
                })
            }
            (op::TEXT, None) if text == "ping" => ws.send(op::PING, true, b"origin"),
            (op::TEXT, None) if text == "drop" => false,
            _ => ws.send(kind, true, &said),
        };
        if !go_on {
            break;
        }
    }
    let _ = ws.pipe.0.shutdown(Shutdown::Both);
}

/// What a server says to a client's key (RFC 6455, 4.2.2).
pub fn accept(key: &str) -> String {
    base64(&sha1(
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    ))
}

/// FIPS 180-4, in its own letters.
#[expect(clippy::many_single_char_names, reason = "as the standard has them")]
fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut h: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((bytes.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut w = [0_u32; 80];
        for i in 0..80 {
            w[i] = match i {
                0..16 => u32::from_be_bytes(block[4 * i..4 * i + 4].try_into().expect("four")),
                _ => (w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1),
            };
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (i, word) in w.iter().enumerate() {
            let (f, k) = match i {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(f)
                .wrapping_add(e)
                .wrapping_add(k)
                .wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, part) in h.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    for (four, word) in out.chunks_exact_mut(4).zip(h) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    out
}

/// RFC 4648, padded.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let whole =
            three.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let letter = LETTERS[(whole >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= three.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    out
}

/// Closes a stream of HTTP/2 from our side.
pub fn end_stream(peer: &mut Peer, id: u32) {
    peer.frame(&Frame::data(id, [], true));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(
            frame(op::TEXT, true, b"Hello", true),
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
        );
    }
}
