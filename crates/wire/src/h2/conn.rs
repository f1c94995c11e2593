//! A connection: both roles' states and the way in and out.

use super::error::{ErrorCode, Fatal, Oversize};
use crate::h1::scan::HeadLimits;
use narthex_message::Index;

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
    /// Receive window of a stream, bytes, at first and at most.
    pub stream_window: (u32, u32),
    /// Receive window of the connection, bytes, at first and at most.
    pub connection_window: (u32, u32),
    /// Size of a head: the limits of HTTP/1.
    pub head: HeadLimits,
    /// Extended CONNECT is offered (RFC 8441); else `:protocol` is malformed.
    pub extended_connect: bool,
    /// What `:scheme` must be: `Some(true)` is `https`; `None` is either.
    pub secure: Option<bool>,
    /// A stream that wants to send and may not, or that waits for the peer's body, may be without `stall_bytes` of progress for
    /// this long.
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

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Bytes for the peer. The session takes them from the front, or all.
    pub out: Vec<u8>,
}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl Connection {
    /// A fresh one. Its SETTINGS (and, as a client, the preface) are in `out`.
    pub fn new(role: Role, bounds: Bounds, now: u64) -> Self {
        unimplemented!()
    }

    /// Takes what it can of `bytes`; one event at a time. To be called again with the rest while `taken > 0 || event.is_some()`.
    /// DATA is handed out as it comes; of other frames and unfinished header blocks a bounded copy is kept.
    pub fn receive<'b>(&mut self, bytes: &'b [u8], now: u64) -> Result<Received<'b>, Fatal> {
        unimplemented!()
    }

    /// After [`Event::Head`] or [`Event::Trailers`], before the next `receive`: swaps in what was decoded. The memory that was
    /// there is used for the next head.
    pub fn take_head(&mut self, bytes: &mut Vec<u8>, index: &mut Index) {
        unimplemented!()
    }

    /// Sends an encoded block ([`super::encode`]): a response's head, informational ones too, or trailers (`end`). Client: trailers
    /// only. False if the stream cannot send any more.
    pub fn head(&mut self, stream: StreamId, block: &[u8], end: bool, now: u64) -> bool {
        unimplemented!()
    }

    /// Sends as many of `bytes` as the windows, `out`'s bound and more urgent streams allow; `end` counts when all were taken.
    /// 0 with bytes left: `next_writable` will name the stream when there is room.
    pub fn data(&mut self, stream: StreamId, bytes: &[u8], end: bool, now: u64) -> usize {
        unimplemented!()
    }

    /// Ends the message that we send, if it has not ended.
    pub fn end(&mut self, stream: StreamId, now: u64) {
        unimplemented!()
    }

    /// How many bytes `data` would take now; 0 also if the stream is over.
    pub fn writable(&self, stream: StreamId) -> usize {
        unimplemented!()
    }

    /// Of the streams whose `data` was refused and that could write now, the most urgent (RFC 9218); each once.
    pub fn next_writable(&mut self) -> Option<StreamId> {
        unimplemented!()
    }

    /// The session is done with `n` bytes of [`Event::Data`]: gives the peer credit, in due time.
    pub fn consumed(&mut self, stream: StreamId, n: usize) {
        unimplemented!()
    }

    /// Ends the stream both ways, if it is not over.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        unimplemented!()
    }

    /// The session's work for this stream is over: its place is free. If the stream is not over, it is reset: with NO_ERROR if our
    /// answer is complete and only the peer's body is not (RFC 9113 8.1), else with CANCEL. Once per stream.
    pub fn release(&mut self, stream: StreamId) {
        unimplemented!()
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
        unimplemented!()
    }

    /// Client: how many streams may be opened now.
    pub fn may_open(&self) -> usize {
        unimplemented!()
    }

    /// The server offers extended CONNECT (RFC 8441).
    pub fn peer_has_extended_connect(&self) -> bool {
        unimplemented!()
    }

    /// First step of an end: GOAWAY with the highest id. Streams may still come.
    pub fn drain(&mut self) {
        unimplemented!()
    }

    /// Second step: GOAWAY with the last stream taken. New ones are refused.
    pub fn goaway(&mut self, code: ErrorCode) {
        unimplemented!()
    }

    /// No new streams: a GOAWAY of either side, or no numbers left.
    pub fn is_going(&self) -> bool {
        unimplemented!()
    }

    /// Sends a PING; [`Event::Pong`] comes of it.
    pub fn ping(&mut self, payload: [u8; 8]) {
        unimplemented!()
    }

    /// Resets what stands still: to be called at the time of [`Connection::next_tick`], until `None`.
    pub fn tick(&mut self, now: u64) -> Option<Event<'static>> {
        unimplemented!()
    }

    /// When `tick` has something to look at; `None` without streams.
    pub fn next_tick(&self) -> Option<u64> {
        unimplemented!()
    }

    /// Streams that are not released.
    pub fn streams(&self) -> usize {
        unimplemented!()
    }

    /// Requests taken (server) or sent (client) so far.
    pub fn requests(&self) -> u64 {
        unimplemented!()
    }

    /// The body we send has ended, and the one we receive.
    pub fn is_over(&self, stream: StreamId) -> bool {
        unimplemented!()
    }

    /// RFC 9218: a response's own `priority` overrides the request's.
    pub fn set_priority(&mut self, stream: StreamId, value: &[u8]) {
        unimplemented!()
    }
}
