//! A connection: both roles' states and the way in and out.

use super::budget::{Budgets, Waiting, most};
use super::error::{ErrorCode, Fatal, Oversize};
use super::flow::Receive;
use super::frame::{self, flag, kind, setting};
use super::head::Decoded;
use super::hpack::Decoder;
use super::priority::Priority;
use super::receive::Input;
use super::stream::{Reset, Stream, Streams};
use crate::h1::scan::HeadLimits;
use narthex_message::Index;
use std::collections::VecDeque;

/// A stream's number: 31 bits, odd.
pub type StreamId = u32;

/// Which side we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We answer.
    Server,
    /// We ask.
    Client,
}

/// What a connection may cost. Times are milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Streams at once that the peer may have (server); it is told so.
    pub streams: u32,
    /// Receive window of a stream, bytes, at first and at most. Not below 65,535, which a peer may use before it knows.
    pub stream_window: (u32, u32),
    /// By how much all streams' windows together may be larger than at first, bytes.
    pub growth: u32,
    /// Receive window of the connection, bytes, at first and at most.
    pub connection_window: (u32, u32),
    /// Size of a head: the limits of HTTP/1.
    pub head: HeadLimits,
    /// Extended CONNECT is offered (RFC 8441); else `:protocol` is malformed.
    pub extended_connect: bool,
    /// What `:scheme` must be: `Some(true)` is `https`; `None` is either.
    pub secure: Option<bool>,
    /// A stream that wants to send and may not (its window, or the connection's, is shut) may be without `stall_bytes` of progress
    /// for this long; so may an unfinished header block be unfinished.
    pub stall_ms: u64,
    /// See there.
    pub stall_bytes: u32,
    /// Bytes in `out` beyond which DATA waits.
    pub out: usize,
}

impl Default for Bounds {
    /// The product's defaults.
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: (256 << 10, 1 << 20),
            growth: u32::MAX,
            connection_window: (1 << 20, 4 << 20),
            head: HeadLimits {
                line: 8 << 10,
                field: 8 << 10,
                head: 32 << 10,
                fields: 100,
            },
            extended_connect: true,
            secure: None,
            stall_ms: 30_000,
            stall_bytes: 16 << 10,
            out: 128 << 10,
        }
    }
}

/// What `receive` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'b> {
    /// Bytes taken from the front.
    pub taken: usize,
    /// What happened, if anything.
    pub event: Option<Event<'b>>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'b> {
    /// A head has been decoded: [`Connection::take_head`] gives it. Server: a new request, ours until [`Connection::release`].
    /// Client: a response, final or informational (`index.status`).
    Head {
        /// Stream.
        stream: StreamId,
        /// The message ends here (`index.ended` too).
        end: bool,
        /// Too large: to be answered so. The index has what fitted.
        oversize: Option<Oversize>,
    },
    /// Bytes of a body. Perhaps none, at the end. Each must be given back with [`Connection::consumed`].
    Data {
        /// Stream.
        stream: StreamId,
        /// The bytes, in place.
        bytes: &'b [u8],
        /// The message ends behind them; its `content-length` has been checked.
        end: bool,
    },
    /// A trailer section has been decoded, which ends the message: [`Connection::take_head`] gives it.
    Trailers {
        /// Stream.
        stream: StreamId,
        /// Too large. The index has what fitted.
        oversize: Option<Oversize>,
    },
    /// The stream is over, both ways. Nothing more is sent on it; it must still be released.
    Reset {
        /// Stream.
        stream: StreamId,
        /// REFUSED_STREAM: the server has not touched the request (also for streams above its GOAWAY).
        code: ErrorCode,
        /// The peer said so; else we, for what it did.
        remote: bool,
    },
    /// The peer takes (server: starts) no new streams. Those up to `last` go on.
    GoAway {
        /// The last stream that it has taken.
        last: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// The peer's settings have arrived: [`Connection::may_open`] and windows may have changed.
    Settings,
    /// The answer to [`Connection::ping`].
    Pong {
        /// What was sent.
        payload: [u8; 8],
    },
}

/// Our end of a window that nobody has changed (RFC 9113 6.9.2).
const INITIAL_WINDOW: u32 = 65_535;
/// Streams that we reset or saw end, remembered: what is still under way for them is no fault.
const RECENT: usize = 1024;
/// Streams that a server may be assumed to allow before it has said so (RFC 9113 6.5.2).
const ASSUMED_STREAMS: u32 = 100;
/// Priorities that came before their streams.
const EARLY_PRIORITIES: usize = 16;

/// What the peer has said.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) initial_window: u32,
    pub(super) max_payload: usize,
    pub(super) max_streams: u32,
    pub(super) extended_connect: bool,
    /// Its decoder's table is smaller than the default: our next block says that we use none (RFC 7541 4.2).
    pub(super) table_update: bool,
    /// Its SETTINGS have come; it has acknowledged ours.
    pub(super) settings: bool,
    pub(super) acknowledged: bool,
    /// It has said what is urgent, or that it will (RFC 9218). Streams of one that does not share, as they did in RFC 7540: one
    /// after the other, a large answer would keep all later ones waiting for its end.
    pub(super) prioritizes: bool,
}

/// A header block under way.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    /// 0 when none is.
    pub(super) stream: StreamId,
    pub(super) end: bool,
    pub(super) depends_on_itself: bool,
    pub(super) continuations: u32,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Bytes for the peer. The session takes them from the front, or swaps in an empty buffer; it never adds.
    pub out: Vec<u8>,
    pub(super) role: Role,
    pub(super) bounds: Bounds,
    pub(super) input: Input,
    /// A frame that is not whole yet, header included. DATA is never here.
    pub(super) partial: Vec<u8>,
    /// Since when a frame or block is not whole.
    pub(super) partial_since: Option<u64>,
    pub(super) block: Block,
    pub(super) decoder: Decoder,
    pub(super) decoded: Decoded,
    pub(super) streams: Streams,
    /// Gone streams: number, and whether we reset it.
    pub(super) recent: VecDeque<(StreamId, bool)>,
    pub(super) early: Vec<(StreamId, Priority)>,
    pub(super) window: Receive,
    /// What is left of the streams' growth.
    growth: u32,
    pub(super) send: i64,
    pub(super) peer: Peer,
    /// Server: the highest that came. Client: the next to open.
    pub(super) last: StreamId,
    pub(super) next: StreamId,
    pub(super) drained: bool,
    pub(super) gone: Option<StreamId>,
    pub(super) peer_gone: Option<StreamId>,
    pub(super) pings: u32,
    pub(super) budgets: Budgets,
    pub(super) waiting: Waiting,
    pub(super) pending: VecDeque<Event<'static>>,
    pub(super) fatal: Option<Fatal>,
    pub(super) requests: u64,
    pub(super) turn: u64,
    /// Streams that want to write, and bytes that those named are expected to.
    pub(super) wanting: usize,
    pub(super) granted: usize,
    /// `next_writable` is being asked, and has not said `None`.
    pub(super) naming: bool,
    /// The connection as a whole: since when somebody wants and nothing is sent.
    pub(super) stalled: Option<u64>,
    pub(super) progress: u64,
    /// Bytes of DATA that were sent, ever.
    pub(super) sent: u64,
}

impl Connection {
    /// A fresh one. Its SETTINGS (and, as a client, the preface) are in `out`.
    pub fn new(role: Role, bounds: Bounds, now: u64) -> Self {
        let mut bounds = bounds;
        for window in [&mut bounds.stream_window, &mut bounds.connection_window] {
            window.0 = window.0.clamp(INITIAL_WINDOW, frame::MAX_31);
            window.1 = window.1.clamp(window.0, frame::MAX_31);
        }
        let mut out = Vec::new();
        let list = u32::try_from(bounds.head.head).unwrap_or(u32::MAX);
        match role {
            Role::Server => {
                let settings = [
                    (setting::MAX_CONCURRENT_STREAMS, bounds.streams),
                    (setting::INITIAL_WINDOW_SIZE, bounds.stream_window.0),
                    (setting::MAX_HEADER_LIST_SIZE, list),
                    (setting::NO_RFC7540_PRIORITIES, 1),
                    (setting::ENABLE_CONNECT_PROTOCOL, 1),
                ];
                let all = settings.len() - usize::from(!bounds.extended_connect);
                frame::settings(settings.get(..all).unwrap_or_default(), &mut out);
            }
            Role::Client => {
                out.extend_from_slice(frame::PREFACE);
                let settings = [
                    (setting::ENABLE_PUSH, 0),
                    (setting::INITIAL_WINDOW_SIZE, bounds.stream_window.0),
                    (setting::MAX_HEADER_LIST_SIZE, list),
                ];
                frame::settings(&settings, &mut out);
            }
        }
        let more = bounds.connection_window.0 - INITIAL_WINDOW;
        if more > 0 {
            frame::write(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes(), &mut out);
        }
        Self {
            out,
            role,
            input: if role == Role::Server {
                Input::Preface(0)
            } else {
                Input::Frame
            },
            partial: Vec::new(),
            partial_since: Some(now),
            block: Block::default(),
            decoder: Decoder::new(),
            decoded: Decoded::default(),
            streams: Streams::default(),
            recent: VecDeque::new(),
            early: Vec::new(),
            window: Receive::new(bounds.connection_window.0, bounds.connection_window.1),
            growth: bounds.growth,
            send: i64::from(INITIAL_WINDOW),
            peer: Peer {
                initial_window: INITIAL_WINDOW,
                max_payload: frame::MAX_PAYLOAD,
                max_streams: ASSUMED_STREAMS,
                extended_connect: false,
                table_update: false,
                settings: false,
                acknowledged: false,
                prioritizes: false,
            },
            last: 0,
            next: 1,
            drained: false,
            gone: None,
            peer_gone: None,
            pings: 0,
            budgets: Budgets::default(),
            waiting: Waiting::default(),
            pending: VecDeque::new(),
            fatal: None,
            requests: 0,
            turn: 0,
            wanting: 0,
            granted: 0,
            naming: false,
            stalled: None,
            progress: 0,
            sent: 0,
            bounds,
        }
    }

    /// After [`Event::Head`] or [`Event::Trailers`], before the next `receive`: swaps in what was decoded. The memory that was
    /// there is used for the next head.
    pub fn take_head(&mut self, bytes: &mut Vec<u8>, index: &mut Index) {
        std::mem::swap(bytes, &mut self.decoded.bytes);
        std::mem::swap(index, &mut self.decoded.index);
    }

    /// The session is done with `n` bytes of [`Event::Data`]: gives the peer credit, in due time.
    pub fn consumed(&mut self, stream: StreamId, n: usize) {
        let Some(s) = self.streams.get_mut(stream) else {
            return;
        };
        let n = n.min(s.held);
        s.held -= n;
        let said = if s.can_receive() {
            s.window.give_within(n, &mut self.growth)
        } else {
            None
        };
        if let Some(said) = said {
            self.control(kind::WINDOW_UPDATE, 0, stream, &said.to_be_bytes());
        }
        self.credit(n);
    }

    /// Gives credit of the connection.
    pub(super) fn credit(&mut self, n: usize) {
        if let Some(said) = self.window.give(n) {
            self.control(kind::WINDOW_UPDATE, 0, 0, &said.to_be_bytes());
        }
    }

    /// Ends the stream both ways, if it is not over.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        let Some(s) = self.streams.get_mut(stream) else {
            return;
        };
        if s.is_over() {
            return;
        }
        s.reset = Some(Reset::Local);
        self.unwant(stream);
        self.control(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    /// The session's work for this stream is over: its place is free. If the stream is not over, it is reset: with NO_ERROR if our
    /// answer is complete and only the peer's body is not (RFC 9113 8.1), else with CANCEL. Once per stream.
    pub fn release(&mut self, stream: StreamId) {
        if let Some(s) = self.streams.get(stream)
            && !s.is_over()
        {
            let code = if self.role == Role::Server && s.sent {
                ErrorCode::NO_ERROR
            } else {
                ErrorCode::CANCEL
            };
            self.reset(stream, code);
        }
        self.unwant(stream);
        if let Some(s) = self.streams.remove(stream) {
            self.remember(stream, s.reset == Some(Reset::Local));
            let grown = s.window.size().saturating_sub(self.bounds.stream_window.0);
            self.growth = self.growth.saturating_add(grown);
            self.credit(s.held);
        }
    }

    /// A stream is gone.
    pub(super) fn remember(&mut self, stream: StreamId, ours: bool) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((stream, ours));
    }

    /// RFC 9218: a response's own `priority` overrides the request's.
    pub fn set_priority(&mut self, stream: StreamId, value: &[u8]) {
        if let Some(s) = self.streams.get_mut(stream) {
            s.priority = s.priority.updated(value);
        }
    }

    /// A priority that came before its stream, and the stream's first.
    pub(super) fn first_priority(&mut self, stream: StreamId, field: Priority) -> Priority {
        // What was said of the stream apart is preferred to its field (RFC 9218 7).
        match self.early.iter().position(|e| e.0 == stream) {
            Some(at) => self.early.swap_remove(at).1,
            None => field,
        }
    }

    /// PRIORITY_UPDATE.
    pub(super) fn prioritize(&mut self, stream: StreamId, value: &[u8]) {
        if let Some(s) = self.streams.get_mut(stream) {
            s.priority = Priority::default().updated(value);
        } else if stream > self.last {
            self.early.retain(|e| e.0 != stream && e.0 > self.last);
            if self.early.len() < EARLY_PRIORITIES {
                self.early
                    .push((stream, Priority::default().updated(value)));
            }
        }
    }

    /// A new stream.
    pub(super) fn start(&mut self, id: StreamId) -> Stream {
        self.turn += 1;
        self.budgets.sent += 1;
        self.requests += 1;
        Stream {
            id,
            reset: None,
            received: false,
            sent: false,
            answered: false,
            bodyless: false,
            head_request: false,
            window: Receive::new(self.bounds.stream_window.0, self.bounds.stream_window.1),
            send: i64::from(self.peer.initial_window),
            held: 0,
            expected: None,
            priority: Priority::default(),
            turn: self.turn,
            wants: false,
            granted: 0,
            stalled: None,
            progress: 0,
            seen_sent: self.sent,
        }
    }

    /// Client: sends a request's head. `None` if no more streams may be opened now, or ever ([`Connection::is_going`]).
    /// `head_request`: its response has no body whatever its fields say.
    pub fn open(
        &mut self,
        block: &[u8],
        end: bool,
        head_request: bool,
        now: u64,
    ) -> Option<StreamId> {
        if self.may_open() == 0 {
            return None;
        }
        let id = self.next;
        self.next += 2;
        self.budgets.noise.earn(now, most::NOISE_PER_STREAM);
        let mut stream = self.start(id);
        stream.head_request = head_request;
        self.streams.insert(stream);
        self.head(id, block, end, now);
        Some(id)
    }

    /// Client: how many streams may be opened now.
    pub fn may_open(&self) -> usize {
        if self.role == Role::Server || self.is_going() {
            return 0;
        }
        let most = self.peer.max_streams.min(self.bounds.streams) as usize;
        most.saturating_sub(self.streams.len())
    }

    /// The peer has said what it allows: its first SETTINGS have come.
    pub fn is_settled(&self) -> bool {
        self.peer.settings
    }

    /// The server offers extended CONNECT (RFC 8441).
    pub fn peer_has_extended_connect(&self) -> bool {
        self.peer.extended_connect
    }

    /// First step of an end: GOAWAY with the highest id. Streams may still come.
    pub fn drain(&mut self) {
        if self.role == Role::Server && !self.drained && self.gone.is_none() {
            self.drained = true;
            let before = self.out.len();
            frame::goaway(frame::MAX_31, ErrorCode::NO_ERROR, &mut self.out);
            self.waiting.wrote(before, self.out.len());
        }
    }

    /// Second step: GOAWAY with the last stream taken. New ones are refused.
    pub fn goaway(&mut self, code: ErrorCode) {
        if self.gone.is_none() {
            self.gone = Some(self.last);
            let before = self.out.len();
            frame::goaway(self.last, code, &mut self.out);
            self.waiting.wrote(before, self.out.len());
        }
    }

    /// No new streams: a GOAWAY of either side, a fault, or no numbers left.
    pub fn is_going(&self) -> bool {
        self.gone.is_some()
            || self.peer_gone.is_some()
            || self.fatal.is_some()
            || self.next > frame::MAX_31
    }

    /// The connection is over, and why; `receive` says so too.
    pub fn fatal(&self) -> Option<Fatal> {
        self.fatal
    }

    /// Sends a PING; [`Event::Pong`] comes of it.
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.pings = self.pings.saturating_add(1);
        self.control(kind::PING, 0, 0, &payload);
    }

    /// Resets what stands still: to be called at the time of [`Connection::next_tick`], until `None`; then look at
    /// [`Connection::fatal`].
    pub fn tick(&mut self, now: u64) -> Option<Event<'static>> {
        let late = |since: Option<u64>| {
            since.is_some_and(|s| now.saturating_sub(s) >= self.bounds.stall_ms)
        };
        if self.fatal.is_none() && late(self.partial_since) {
            self.die(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a frame or header block that does not end",
            );
            return None;
        }
        let all = late(self.stalled);
        // One that its own window holds up; or, if nothing moves at all, any that wants.
        let id = self
            .streams
            .iter()
            .find(|s| s.wants && (all || (s.send <= 0 && late(s.stalled))))
            .map(|s| s.id)?;
        self.reset(id, ErrorCode::CANCEL);
        Some(Event::Reset {
            stream: id,
            code: ErrorCode::CANCEL,
            remote: false,
        })
    }

    /// When `tick` has something to look at.
    pub fn next_tick(&self) -> Option<u64> {
        if self.fatal.is_some() {
            return None;
        }
        self.streams
            .iter()
            .filter(|s| s.wants && s.send <= 0)
            .filter_map(|s| s.stalled)
            .chain(self.stalled)
            .chain(self.partial_since)
            .min()
            .map(|since| since.saturating_add(self.bounds.stall_ms))
    }

    /// The peer's socket has taken much of what was sent before: nothing stands still yet.
    pub fn moved(&mut self, now: u64) {
        for s in self.streams.iter_mut().filter(|s| s.stalled.is_some()) {
            (s.stalled, s.progress) = (Some(now), 0);
        }
        if self.stalled.is_some() {
            (self.stalled, self.progress) = (Some(now), 0);
        }
    }

    /// How long it may stand still, in milliseconds, and what counts as progress, in bytes.
    pub fn patience(&self) -> (u64, u64) {
        (self.bounds.stall_ms, u64::from(self.bounds.stall_bytes))
    }

    /// Streams that are not released.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Requests taken (server) or sent (client) so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The body we send has ended, and the one we receive; or it was reset, or released.
    pub fn is_over(&self, stream: StreamId) -> bool {
        self.streams.get(stream).is_none_or(Stream::is_over)
    }

    /// Ends the connection: GOAWAY is written, everything after is refused.
    pub(super) fn die(&mut self, code: ErrorCode, why: &'static str) -> Fatal {
        if let Some(fatal) = self.fatal {
            return fatal;
        }
        let fatal = Fatal { code, why };
        self.fatal = Some(fatal);
        frame::goaway(self.gone.unwrap_or(self.last), code, &mut self.out);
        fatal
    }

    /// Writes a control frame; they are counted while they wait.
    pub(super) fn control(&mut self, kind: u8, flags: u8, stream: StreamId, payload: &[u8]) {
        if self.fatal.is_some() {
            return;
        }
        let before = self.out.len();
        frame::write(kind, flags, stream, payload, &mut self.out);
        if !self.waiting.wrote_control(before, self.out.len()) {
            self.die(
                ErrorCode::ENHANCE_YOUR_CALM,
                "it does not read what it asks for",
            );
        }
    }

    /// Acknowledges SETTINGS.
    pub(super) fn acknowledge(&mut self) {
        self.control(kind::SETTINGS, flag::ACK, 0, &[]);
    }
}
