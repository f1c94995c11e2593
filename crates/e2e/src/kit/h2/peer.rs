//! One side of a connection: sends what it is told, and keeps a strict account of what the other side does. What a good peer
//! does by itself (acknowledge, give credit) it does too, unless told not to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use super::frame::{flag, kind};
use super::hpack::Decoder;
use super::link::Link;
use super::{Frame, PREFACE, setting};
use crate::kit::attack::End;
use crate::kit::http::Fields;
use crate::kit::tls::Tls;
use crate::kit::{Fnv, PATIENCE, pause, show};

/// Window of RFC 9113 before anybody says otherwise.
const WINDOW: i64 = 65_535;
/// Body bytes kept of one stream.
const KEEP: usize = 1 << 20;

/// What a read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// A frame; it has been taken into account.
    Frame(Frame),
    /// The connection is over.
    End(End),
    /// Nothing for as long as was to be waited.
    Quiet,
}

/// What the other side has sent on a stream.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// Interim (1xx) heads.
    pub interim: Vec<Fields>,
    /// The head, with its pseudo-fields.
    pub head: Option<Fields>,
    /// The first MiB of the body.
    pub body: Vec<u8>,
    /// Length of the whole body.
    pub body_len: u64,
    /// Hash of the whole body.
    pub hash: Fnv,
    /// The second head.
    pub trailers: Option<Fields>,
    /// END_STREAM came.
    pub ended: bool,
    /// RST_STREAM came, with this code.
    pub reset: Option<u32>,
    /// What we may send.
    window: i64,
    /// What it may send.
    credit: i64,
    /// What it has sent since we gave credit.
    owed: u32,
}

impl Stream {
    /// The final status, 0 when there is none.
    pub fn status(&self) -> u16 {
        let value = self.head.as_ref().and_then(|h| h.get(":status"));
        value.and_then(|v| v.parse().ok()).unwrap_or(0)
    }
    /// A field of the head.
    pub fn field(&self, name: &str) -> Option<String> {
        self.head.as_ref().and_then(|h| h.get(name))
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// Ended or reset.
    pub fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

/// One side of a connection.
pub struct Peer {
    link: Link,
    server: bool,
    buf: Vec<u8>,
    decoder: Decoder,
    /// A block that is not at its end: stream, END_STREAM, bytes.
    block: Option<(u32, bool, Vec<u8>)>,
    /// What came, by stream.
    pub streams: BTreeMap<u32, Stream>,
    /// Every GOAWAY: last stream, code.
    pub goaways: Vec<(u32, u32)>,
    /// What the other side's SETTINGS say.
    pub said: BTreeMap<u16, u32>,
    /// Acknowledgements of our SETTINGS.
    pub acks: usize,
    /// Payloads of acknowledged PINGs.
    pub pongs: Vec<Vec<u8>>,
    /// How many frames of each kind came.
    pub count: BTreeMap<u8, u64>,
    /// Rules that the other side broke.
    pub faults: Vec<String>,
    /// How the connection ended.
    pub over: Option<End>,
    /// SETTINGS and PING are acknowledged.
    pub acknowledges: bool,
    /// Credit is given for what came.
    pub refills: bool,
    /// Longest silence.
    pub patience: Duration,
    /// Settings of ours that are not acknowledged.
    pending: VecDeque<Vec<(u16, u32)>>,
    our_window: i64,
    our_frame: usize,
    /// What the connection may still bring, and what we may still send on it.
    credit: i64,
    owed: u32,
    window: i64,
    next: u32,
}

impl Peer {
    fn over(link: Link, server: bool) -> Self {
        Self {
            link,
            server,
            buf: Vec::new(),
            decoder: Decoder::default(),
            block: None,
            streams: BTreeMap::new(),
            goaways: Vec::new(),
            said: BTreeMap::new(),
            acks: 0,
            pongs: Vec::new(),
            count: BTreeMap::new(),
            faults: Vec::new(),
            over: None,
            acknowledges: true,
            refills: true,
            patience: PATIENCE,
            pending: VecDeque::new(),
            our_window: WINDOW,
            our_frame: 16_384,
            credit: WINDOW,
            owed: 0,
            window: WINDOW,
            next: if server { 2 } else { 1 },
        }
    }

    /// A client that has said nothing yet.
    pub fn silent(link: Link) -> Self {
        Self::over(link, false)
    }
    /// A client with prior knowledge: preface and these settings are out, the server's are in.
    #[track_caller]
    pub fn with_settings(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::greet(Link::plain(addr), settings)
    }
    /// The same with no settings.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::with_settings(addr, &[])
    }
    /// Over TLS, by ALPN.
    #[track_caller]
    pub fn tls(addr: SocketAddr, name: &str, tls: &Tls) -> Self {
        let link = Link::tls(addr, name, tls);
        let (link, alpn) = link.unwrap_or_else(|e| panic!("handshake with {addr}: {e}"));
        assert_eq!(alpn.as_deref(), Some("h2"), "ALPN");
        Self::greet(link, &[])
    }
    /// Over any link: preface and settings, and both acknowledged.
    #[track_caller]
    pub fn greet(link: Link, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::over(link, false);
        peer.send(PREFACE);
        peer.settings(settings);
        let done = peer.until(|p| p.acks > 0 && p.count.contains_key(&kind::SETTINGS));
        assert!(
            done,
            "no SETTINGS from the server: {:?} {:?}",
            peer.over, peer.goaways
        );
        peer
    }
    /// A server over an accepted link: the preface is in, these settings are out.
    pub fn serve(link: Link, settings: &[(u16, u32)]) -> Option<Self> {
        let mut peer = Self::over(link, true);
        peer.settings(settings);
        while peer.buf.len() < PREFACE.len() {
            if !matches!(peer.fill(PATIENCE), Ok(true)) {
                return None;
            }
        }
        if !peer.buf.starts_with(PREFACE) {
            return None;
        }
        peer.buf.drain(..PREFACE.len());
        Some(peer)
    }

    /// The link below.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    // ---- out

    /// Sends bytes; says whether all went out. The other side may be gone, which is not an error of the attack.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.link.write_all(bytes.as_ref()).is_ok() && self.link.flush().is_ok()
    }
    /// Sends bytes in pieces with a pause after each.
    pub fn send_paced(&mut self, bytes: &[u8], piece: usize, gap: Duration) -> bool {
        bytes.chunks(piece.max(1)).all(|part| {
            let sent = self.send(part);
            pause(gap);
            sent
        })
    }
    /// Sends frames as they are, in one go.
    pub fn frames<'f>(&mut self, frames: impl IntoIterator<Item = &'f Frame>) -> bool {
        let bytes = super::frame::run(frames);
        self.send(bytes)
    }
    /// Sends one frame as it is.
    pub fn frame(&mut self, frame: &Frame) -> bool {
        self.send(frame.bytes())
    }
    /// Sends SETTINGS and remembers them until they are acknowledged.
    pub fn settings(&mut self, settings: &[(u16, u32)]) -> bool {
        self.pending.push_back(settings.to_vec());
        self.frame(&Frame::settings(settings))
    }
    /// Number of a new stream.
    pub fn fresh(&mut self) -> u32 {
        let id = self.next;
        self.next += 2;
        id
    }
    /// Begins a stream with this block.
    pub fn open(&mut self, block: impl AsRef<[u8]>, end: bool) -> u32 {
        let id = self.fresh();
        self.stream(id);
        self.frame(&Frame::headers(id, block, end));
        id
    }
    /// Sends body bytes as the windows allow, reading meanwhile. False when the stream or the connection is over before that.
    pub fn body(&mut self, id: u32, mut bytes: &[u8], end: bool) -> bool {
        let mut sent = 0_u32;
        loop {
            let largest = self.said.get(&setting::MAX_FRAME_SIZE).copied();
            let room = self.window.min(self.stream(id).window);
            let room = room.clamp(0, i64::from(largest.unwrap_or(16_384))) as usize;
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            if !now.is_empty() || bytes.is_empty() {
                self.window -= signed(now.len());
                self.stream(id).window -= signed(now.len());
                if !self.frame(&Frame::data(id, now, end && rest.is_empty())) {
                    return false;
                }
                bytes = rest;
                if bytes.is_empty() {
                    return true;
                }
                // Credit that came meanwhile must not fill the socket. A look costs a millisecond.
                sent += 1;
                if sent.is_multiple_of(64) {
                    while matches!(self.poll(Duration::ZERO), Got::Frame(_)) {}
                }
            } else if !matches!(self.read(), Got::Frame(_)) {
                return false;
            }
            if self.stream(id).is_over() && !self.server {
                return false;
            }
        }
    }
    /// Room to send on a stream now.
    pub fn room(&mut self, id: u32) -> i64 {
        self.window.min(self.stream(id).window)
    }
    /// Ends our direction.
    pub fn half_close(&self) {
        self.link.shutdown(Shutdown::Write);
    }

    // ---- in

    fn fill(&mut self, limit: Duration) -> std::io::Result<bool> {
        self.link.read_within(limit);
        let mut space = vec![0; 65_536];
        let n = self.link.read(&mut space)?;
        self.buf.extend_from_slice(&space[..n]);
        Ok(n > 0)
    }

    /// The next frame, waiting as long as patience goes.
    pub fn read(&mut self) -> Got {
        self.poll(self.patience)
    }
    /// The next frame within `limit`.
    pub fn poll(&mut self, limit: Duration) -> Got {
        let end = Instant::now() + limit;
        loop {
            if let Some((frame, n)) = Frame::parse(&self.buf) {
                self.buf.drain(..n);
                self.note(&frame);
                return Got::Frame(frame);
            }
            if let Some(end) = self.over {
                return Got::End(end);
            }
            if self.buf.len() > 9 + self.our_frame {
                self.faults
                    .push(format!("not a frame: {}", show(&self.buf)));
                return Got::Quiet;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.fill(left) {
                Ok(true) => {}
                Ok(false) => self.over = Some(End::Eof),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if left.is_zero() || Instant::now() >= end {
                        return Got::Quiet;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => self.over = Some(End::Eof),
                Err(_) => self.over = Some(End::Reset),
            }
        }
    }
    /// Reads until this is so; false when the connection ends or falls silent before.
    pub fn until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + self.patience;
        loop {
            if done(self) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if !matches!(self.poll(left), Got::Frame(_)) {
                return done(self);
            }
        }
    }
    /// Reads until the connection ends, at most `limit` altogether.
    pub fn read_to_end(&mut self, limit: Duration) -> End {
        let end = Instant::now() + limit;
        loop {
            match self.poll(end.saturating_duration_since(Instant::now())) {
                Got::Frame(_) => {}
                Got::End(end) => return end,
                Got::Quiet => return End::Open,
            }
        }
    }
    /// What came on a stream so far.
    pub fn stream(&mut self, id: u32) -> &mut Stream {
        let window = self.said.get(&setting::INITIAL_WINDOW_SIZE).copied();
        let (window, credit) = (window.map_or(WINDOW, i64::from), self.our_window);
        self.streams.entry(id).or_insert_with(|| Stream {
            window,
            credit,
            ..Stream::default()
        })
    }
    /// Waits for a stream's end. A reset is an answer, too.
    #[track_caller]
    pub fn answer(&mut self, id: u32) -> Stream {
        let over = self.until(|p| p.streams.get(&id).is_some_and(Stream::is_over));
        assert!(
            over,
            "stream {id} has no end: {:?}, connection {:?}, GOAWAY {:?}, faults {:?}",
            self.streams.get(&id),
            self.over,
            self.goaways,
            self.faults
        );
        self.streams[&id].clone()
    }
    /// A request without a body, and its answer.
    #[track_caller]
    pub fn ask(&mut self, block: impl AsRef<[u8]>) -> Stream {
        let id = self.open(block, true);
        self.answer(id)
    }
    /// Does a PING come back?
    pub fn pings(&mut self) -> bool {
        let what = (self.pongs.len() as u64 ^ 0x5eed_0000_0000_0000).to_be_bytes();
        self.frame(&Frame::ping(what));
        self.until(|p| p.pongs.iter().any(|p| p == &what))
    }
    /// The other side has kept every rule so far.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
    }

    // ---- the account

    fn fault(&mut self, what: String) {
        // One is enough to fail; a flood of them is of no use.
        if self.faults.len() < 20 {
            self.faults.push(what);
        }
    }

    fn note(&mut self, f: &Frame) {
        *self.count.entry(f.kind).or_default() += 1;
        if f.payload.len() > self.our_frame {
            self.fault(format!("larger than we allow: {f:?}"));
        }
        if self.block.is_some() && f.kind != kind::CONTINUATION {
            self.fault(format!("between HEADERS and CONTINUATION: {f:?}"));
        }
        match f.kind {
            kind::DATA => self.data(f),
            kind::HEADERS => match f.content() {
                Err(why) => self.fault(format!("{why}: {f:?}")),
                Ok(content) => {
                    let content = content.to_vec();
                    self.block = Some((f.stream, f.has(flag::END_STREAM), content));
                    self.block_end(f);
                }
            },
            kind::CONTINUATION => match self.block.as_mut() {
                Some((id, _, block)) if *id == f.stream => {
                    block.extend_from_slice(&f.payload);
                    self.block_end(f);
                }
                _ => self.fault(format!("nothing to go on with: {f:?}")),
            },
            kind::RST_STREAM => {
                if f.payload.len() != 4 || !self.streams.contains_key(&f.stream) {
                    self.fault(format!("wrong: {f:?}"));
                }
                self.stream(f.stream).reset = Some(f.u32_at(0));
            }
            kind::SETTINGS if f.has(flag::ACK) => self.acknowledged(f),
            kind::SETTINGS => self.settings_came(f),
            kind::PING if f.has(flag::ACK) => self.pongs.push(f.payload.clone()),
            kind::PING => {
                if f.payload.len() != 8 || f.stream != 0 {
                    self.fault(format!("wrong: {f:?}"));
                }
                if self.acknowledges {
                    self.frame(&f.clone().flags(flag::ACK));
                }
            }
            kind::GOAWAY => self.goaways.push((f.u32_at(0), f.u32_at(4))),
            kind::WINDOW_UPDATE => {
                let more = i64::from(f.u32_at(0));
                if more == 0 || f.payload.len() != 4 {
                    self.fault(format!("wrong: {f:?}"));
                }
                let window = match f.stream {
                    0 => &mut self.window,
                    id => &mut self.stream(id).window,
                };
                *window += more;
                if *window > i64::from(i32::MAX) {
                    self.fault(format!("a window that overflows: {f:?}"));
                }
            }
            kind::PUSH_PROMISE if !self.server => self.fault(format!("a push: {f:?}")),
            kind::PRIORITY | kind::PRIORITY_UPDATE if self.server => {}
            _ => self.fault(format!("unexpected: {f:?}")),
        }
    }

    fn settings_came(&mut self, f: &Frame) {
        if !f.payload.len().is_multiple_of(6) || f.stream != 0 {
            self.fault(format!("wrong: {f:?}"));
        }
        for (id, value) in f.pairs() {
            let before = self.said.insert(id, value);
            if id == setting::INITIAL_WINDOW_SIZE {
                let delta = i64::from(value) - before.map_or(WINDOW, i64::from);
                for s in self.streams.values_mut() {
                    s.window += delta;
                }
            }
        }
        if self.acknowledges {
            self.frame(&Frame::settings_ack());
        }
    }

    fn acknowledged(&mut self, f: &Frame) {
        self.acks += 1;
        let Some(settings) = self.pending.pop_front() else {
            return self.fault(format!("acknowledges what was not sent: {f:?}"));
        };
        for (id, value) in settings {
            match id {
                setting::INITIAL_WINDOW_SIZE => {
                    let delta = i64::from(value) - self.our_window;
                    self.our_window = i64::from(value);
                    for s in self.streams.values_mut() {
                        s.credit += delta;
                    }
                }
                setting::MAX_FRAME_SIZE => self.our_frame = value as usize,
                setting::HEADER_TABLE_SIZE => self.decoder.allowed = value as usize,
                _ => {}
            }
        }
    }

    /// Credit that we have given (by a frame of the test's own).
    pub fn granted(&mut self, id: u32, more: u32) {
        match id {
            0 => self.credit += i64::from(more),
            id => self.stream(id).credit += i64::from(more),
        }
    }
    /// Gives credit for a stream, or the connection (0).
    pub fn grant(&mut self, id: u32, more: u32) -> bool {
        self.granted(id, more);
        self.frame(&Frame::window(id, more))
    }

    fn data(&mut self, f: &Frame) {
        let n = f.payload.len();
        let content = match f.content() {
            Ok(content) => content.to_vec(),
            Err(why) => return self.fault(format!("{why}: {f:?}")),
        };
        if self
            .streams
            .get(&f.stream)
            .is_none_or(|s| s.head.is_none() || s.is_over())
        {
            self.fault(format!("DATA outside of a body: {f:?}"));
        }
        self.credit -= signed(n);
        self.owed += n as u32;
        let end = f.has(flag::END_STREAM);
        let s = self.stream(f.stream);
        s.credit -= signed(n);
        s.owed += n as u32;
        s.body_len += content.len() as u64;
        s.hash.add(&content);
        let room = KEEP.saturating_sub(s.body.len()).min(content.len());
        s.body.extend_from_slice(&content[..room]);
        s.ended |= end;
        let (credit, owed) = (s.credit, s.owed);
        if credit < 0 || self.credit < 0 {
            self.fault(format!(
                "beyond the window ({credit}, {}): {f:?}",
                self.credit
            ));
        }
        if self.refills && !end && owed >= 16_384 {
            self.stream(f.stream).owed = 0;
            self.grant(f.stream, owed);
        }
        if self.refills && self.owed >= 16_384 {
            let owed = std::mem::take(&mut self.owed);
            self.grant(0, owed);
        }
    }

    fn block_end(&mut self, f: &Frame) {
        if !f.has(flag::END_HEADERS) {
            return;
        }
        let Some((id, end, block)) = self.block.take() else {
            return;
        };
        let fields = match self.decoder.block(&block) {
            Ok(fields) => fields,
            Err(why) => return self.fault(format!("HPACK: {why}: {}", show(&block))),
        };
        if let Some(why) = wrong_fields(&fields) {
            self.fault(format!("{why} in {fields:?}"));
        }
        if !self.server && !self.streams.contains_key(&id) || id % 2 == 0 {
            self.fault(format!("a stream that nobody began: {f:?}"));
        }
        let s = self.stream(id);
        let fault = s.is_over() || s.trailers.is_some() || (s.head.is_some() && !end);
        s.ended |= end;
        let interim = fields.get(":status").is_some_and(|v| v.starts_with('1'));
        if interim && !end {
            s.interim.push(fields);
        } else if s.head.is_none() {
            s.head = Some(fields);
        } else {
            s.trailers = Some(fields);
        }
        if fault {
            self.fault(format!("a head out of place: {f:?}"));
        }
    }
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).expect("a length")
}

/// RFC 9113, 8.2 and 8.3: what no list of fields may hold, of whatever side.
fn wrong_fields(fields: &Fields) -> Option<String> {
    let mut regular = false;
    for (name, value) in &fields.0 {
        let bare = name.strip_prefix(b":");
        if bare.is_some() && regular {
            return Some(format!("late {}", show(name)));
        }
        regular |= bare.is_none();
        let named = bare.unwrap_or(name);
        if !crate::kit::http::is_token(named) || named.iter().any(u8::is_ascii_uppercase) {
            return Some(format!("name {}", show(name)));
        }
        let edge = |b: Option<&u8>| b.is_some_and(|b| *b == b' ' || *b == b'\t');
        if value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))
            || edge(value.first())
            || edge(value.last())
        {
            return Some(format!("value {}", show(value)));
        }
        let hop = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ];
        if hop.iter().any(|h| h.as_bytes() == name) || (name == b"te" && value != b"trailers") {
            return Some(format!("field {}", show(name)));
        }
    }
    None
}
