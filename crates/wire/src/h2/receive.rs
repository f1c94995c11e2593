//! What comes in: bytes to frames, DATA in place, everything else whole.

use super::budget::most;
use super::conn::{Connection, Event, Received, Role, StreamId};
use super::error::{ErrorCode, Fatal};
use super::frame::{self, HEADER, Header, PREFACE, flag, kind};
use super::stream::Reset;

/// Memory for unfinished frames that is kept while none is under way.
const KEPT: usize = 4 << 10;

/// Where in the peer's bytes we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// In a client's preface, behind so many bytes.
    Preface(usize),
    /// At a frame's header, or in a frame that is collected.
    Frame,
    /// In a payload that is of no interest.
    Skip(usize),
    /// In DATA.
    Data(Data),
}

/// A DATA frame under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Data {
    stream: StreamId,
    /// Its first byte, the length of the padding, is still to come.
    padded: bool,
    left: usize,
    padding: usize,
    end: bool,
}

impl Connection {
    /// Takes what it can of `bytes`; one event at a time. To be called again with the rest while `taken > 0 || event.is_some()`.
    /// DATA is handed out as it comes; of other frames and unfinished header blocks a bounded copy is kept.
    pub fn receive<'b>(&mut self, bytes: &'b [u8], now: u64) -> Result<Received<'b>, Fatal> {
        let mut rest = bytes;
        loop {
            if let Some(fatal) = self.fatal {
                return Err(fatal);
            }
            if let Some(event) = self.pending.pop_front() {
                return Ok(Received {
                    taken: bytes.len() - rest.len(),
                    event: Some(event),
                });
            }
            let before = rest.len();
            let event = match self.input {
                Input::Frame => {
                    rest = self.frame(rest, now)?;
                    None
                }
                Input::Data(data) => {
                    let (after, event) = self.body(data, rest, now)?;
                    rest = after;
                    event
                }
                Input::Skip(left) => {
                    let n = left.min(rest.len());
                    rest = rest.get(n..).unwrap_or_default();
                    self.input = if n == left {
                        Input::Frame
                    } else {
                        Input::Skip(left - n)
                    };
                    None
                }
                Input::Preface(seen) => {
                    rest = self.preface(seen, rest)?;
                    None
                }
            };
            let stands = rest.len() == before && self.pending.is_empty() && self.fatal.is_none();
            // An empty DATA takes no more bytes, but leaves its state.
            if event.is_some() || (stands && (rest.is_empty() || !self.may_go_on(rest))) {
                return Ok(Received {
                    taken: bytes.len() - rest.len(),
                    event,
                });
            }
        }
    }

    /// Is there something that can be done with what is left, or with nothing?
    fn may_go_on(&self, rest: &[u8]) -> bool {
        matches!(self.input, Input::Frame) && !rest.is_empty()
    }

    fn preface<'b>(&mut self, seen: usize, rest: &'b [u8]) -> Result<&'b [u8], Fatal> {
        let expected = PREFACE.get(seen..).unwrap_or_default();
        let n = expected.len().min(rest.len());
        if expected.get(..n) != rest.get(..n) {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "no preface"));
        }
        self.input = if n == expected.len() {
            Input::Frame
        } else {
            Input::Preface(seen + n)
        };
        Ok(rest.get(n..).unwrap_or_default())
    }

    /// Takes a frame, or a part of one.
    fn frame<'b>(&mut self, rest: &'b [u8], now: u64) -> Result<&'b [u8], Fatal> {
        if self.partial.is_empty() {
            if let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
                let header = Header::read(header);
                if !self.begin(header, now)? {
                    return Ok(after);
                }
                if let Some((payload, after)) = after.split_at_checked(header.len) {
                    self.settle();
                    self.whole(header, payload, now)?;
                    return Ok(after);
                }
            }
            if rest.is_empty() {
                return Ok(rest);
            }
            self.partial_since.get_or_insert(now);
            self.partial.extend_from_slice(rest);
            return Ok(&[]);
        }
        self.more_of_partial(rest, now)
    }

    /// Nothing is unfinished, but perhaps a block.
    fn settle(&mut self) {
        if self.block.stream == 0 && self.peer.settings {
            self.partial_since = None;
        }
    }

    #[cold]
    fn more_of_partial<'b>(&mut self, rest: &'b [u8], now: u64) -> Result<&'b [u8], Fatal> {
        let mut rest = rest;
        if let Some(missing) = HEADER.checked_sub(self.partial.len()).filter(|m| *m > 0) {
            let (now_here, after) = rest.split_at(missing.min(rest.len()));
            self.partial.extend_from_slice(now_here);
            rest = after;
            let Some(header) = self.partial.first_chunk::<HEADER>() else {
                return Ok(rest);
            };
            let header = Header::read(header);
            if !self.begin(header, now)? {
                self.partial.clear();
                self.settle();
                return Ok(rest);
            }
        }
        let Some(header) = self.partial.first_chunk::<HEADER>() else {
            return Ok(rest);
        };
        let header = Header::read(header);
        let missing = (HEADER + header.len).saturating_sub(self.partial.len());
        let (now_here, after) = rest.split_at(missing.min(rest.len()));
        self.partial.extend_from_slice(now_here);
        if now_here.len() == missing {
            let mut partial = std::mem::take(&mut self.partial);
            self.settle();
            let done = self.whole(header, partial.get(HEADER..).unwrap_or_default(), now);
            if partial.capacity() <= KEPT {
                partial.clear();
                self.partial = partial;
            }
            done?;
        }
        Ok(after)
    }

    /// A frame's header has come: what can be said before its payload. True if the payload is to be collected; else the state says
    /// what becomes of it.
    fn begin(&mut self, header: Header, now: u64) -> Result<bool, Fatal> {
        if header.len > frame::MAX_PAYLOAD {
            return Err(self.die(ErrorCode::FRAME_SIZE_ERROR, "a frame larger than allowed"));
        }
        if !self.peer.settings && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "the first frame is no SETTINGS"));
        }
        if self.block.stream != 0
            && (header.kind != kind::CONTINUATION || header.stream != self.block.stream)
        {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "a frame in a header block"));
        }
        let exact = match header.kind {
            kind::RST_STREAM | kind::WINDOW_UPDATE => Some(4),
            kind::PING => Some(8),
            kind::SETTINGS if header.has(flag::ACK) => Some(0),
            _ => None,
        };
        if exact.is_some_and(|n| n != header.len) {
            return Err(self.die(ErrorCode::FRAME_SIZE_ERROR, "a frame of the wrong size"));
        }
        match header.kind {
            kind::DATA => {
                self.begin_data(header, now)?;
                Ok(false)
            }
            kind::HEADERS
            | kind::PRIORITY
            | kind::RST_STREAM
            | kind::SETTINGS
            | kind::PUSH_PROMISE
            | kind::PING
            | kind::GOAWAY
            | kind::WINDOW_UPDATE
            | kind::CONTINUATION
            | kind::PRIORITY_UPDATE => Ok(true),
            _ => {
                self.noise(now)?;
                self.input = Input::Skip(header.len);
                Ok(false)
            }
        }
    }

    /// A frame that changes nothing.
    pub(super) fn noise(&mut self, now: u64) -> Result<(), Fatal> {
        if self.budgets.noise.spend(now, most::NOISE, u32::MAX) {
            Ok(())
        } else {
            Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "frames that change nothing"))
        }
    }

    /// A frame that is empty and ends nothing, or one that is neither.
    pub(super) fn empty(&mut self, is_empty: bool) -> Result<(), Fatal> {
        self.budgets.empty = if is_empty { self.budgets.empty + 1 } else { 0 };
        if self.budgets.empty > most::EMPTY {
            return Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "empty frames"));
        }
        Ok(())
    }

    fn begin_data(&mut self, header: Header, now: u64) -> Result<(), Fatal> {
        if header.stream == 0 {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "DATA of no stream"));
        }
        let padded = header.has(flag::PADDED);
        if padded && header.len == 0 {
            return Err(self.die(ErrorCode::FRAME_SIZE_ERROR, "padding without its length"));
        }
        if self.is_idle(header.stream) {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "DATA of an idle stream"));
        }
        if !self.window.take(header.len) {
            return Err(self.die(ErrorCode::FLOW_CONTROL_ERROR, "more than the window allows"));
        }
        let end = header.has(flag::END_STREAM);
        // With padding, it is known later.
        if !padded {
            self.empty(header.len == 0 && !end)?;
        }
        let mut fault = None;
        match self.streams.get_mut(header.stream) {
            Some(s) if s.can_receive() => {
                if self.role == Role::Client && !s.answered {
                    fault = Some(ErrorCode::PROTOCOL_ERROR);
                } else if !s.window.take(header.len) {
                    fault = Some(ErrorCode::FLOW_CONTROL_ERROR);
                } else if !padded && !s.fits(header.len, end) {
                    fault = Some(ErrorCode::PROTOCOL_ERROR);
                }
            }
            // It was under way when we reset it.
            Some(s) if s.reset == Some(Reset::Local) => {}
            // Half closed, or reset by the peer itself.
            Some(_) => fault = Some(ErrorCode::STREAM_CLOSED),
            None => self.late(header.stream, now)?,
        }
        if let Some(code) = fault {
            self.fault(header.stream, code, now)?;
        }
        self.input = Input::Data(Data {
            stream: header.stream,
            padded,
            left: header.len,
            padding: 0,
            end,
        });
        Ok(())
    }

    /// A stream that has not been used yet, by whose turn it is to use it.
    pub(super) fn is_idle(&self, stream: StreamId) -> bool {
        let ours = stream & 1 == 1;
        match self.role {
            Role::Server => !ours || stream > self.last,
            Role::Client => !ours || stream >= self.next,
        }
    }

    /// A frame for a stream that is gone. What was under way when we reset it is no fault, nor what nobody remembers.
    fn late(&mut self, stream: StreamId, now: u64) -> Result<(), Fatal> {
        if let Some((_, false)) = self.recent.iter().rev().find(|r| r.0 == stream) {
            self.provoked(now)?;
            self.control(
                kind::RST_STREAM,
                0,
                stream,
                &ErrorCode::STREAM_CLOSED.0.to_be_bytes(),
            );
        }
        Ok(())
    }

    /// We reset something because of what the peer did (CVE-2025-8671).
    pub(super) fn provoked(&mut self, now: u64) -> Result<(), Fatal> {
        if self
            .budgets
            .provoked
            .spend(now, most::PROVOKED, most::PROVOKED_IN_ALL)
        {
            Ok(())
        } else {
            Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "faults in streams"))
        }
    }

    /// A stream error (RFC 9113 5.4.2) of a stream that the session has.
    pub(super) fn fault(
        &mut self,
        stream: StreamId,
        code: ErrorCode,
        now: u64,
    ) -> Result<(), Fatal> {
        self.provoked(now)?;
        let over = self.is_over(stream);
        if over {
            self.control(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
            if let Some(s) = self.streams.get_mut(stream) {
                s.reset = Some(Reset::Local);
            }
            return Ok(());
        }
        self.reset(stream, code);
        self.pending.push_back(Event::Reset {
            stream,
            code,
            remote: false,
        });
        Ok(())
    }

    /// Bytes of a DATA frame.
    fn body<'b>(
        &mut self,
        data: Data,
        rest: &'b [u8],
        now: u64,
    ) -> Result<(&'b [u8], Option<Event<'b>>), Fatal> {
        let mut data = data;
        let mut rest = rest;
        if data.padded {
            let Some((&pad, after)) = rest.split_first() else {
                return Ok((rest, None));
            };
            rest = after;
            data.padded = false;
            data.padding = usize::from(pad);
            data.left = match (data.left - 1).checked_sub(data.padding) {
                Some(left) => left,
                None => {
                    return Err(
                        self.die(ErrorCode::PROTOCOL_ERROR, "padding larger than its frame")
                    );
                }
            };
            self.padding(data.stream, data.padding + 1);
            let stream = self.streams.get(data.stream);
            if stream.is_some_and(|s| s.can_receive() && !s.fits(data.left, data.end)) {
                self.fault(data.stream, ErrorCode::PROTOCOL_ERROR, now)?;
            }
            self.empty(data.left == 0 && !data.end)?;
        }
        let (now_here, after) = rest.split_at(data.left.min(rest.len()));
        rest = after;
        data.left -= now_here.len();
        let mut whole = data.left == 0;
        if whole {
            let skipped = data.padding.min(rest.len());
            rest = rest.get(skipped..).unwrap_or_default();
            data.padding -= skipped;
            whole = data.padding == 0;
        }
        self.input = if whole {
            Input::Frame
        } else {
            Input::Data(data)
        };
        let event = self.deliver(data, now_here, whole && data.end);
        Ok((rest, event))
    }

    /// Padding has been received and is done with.
    fn padding(&mut self, stream: StreamId, n: usize) {
        if let Some(s) = self.streams.get_mut(stream).filter(|s| s.can_receive()) {
            s.held += n;
            self.consumed(stream, n);
        } else {
            self.credit(n);
        }
    }

    /// Body bytes of a stream; `end` behind them.
    fn deliver<'b>(&mut self, data: Data, bytes: &'b [u8], end: bool) -> Option<Event<'b>> {
        let stream = data.stream;
        let Some(s) = self.streams.get_mut(stream).filter(|s| s.can_receive()) else {
            self.credit(bytes.len());
            return None;
        };
        let n = bytes.len() as u64;
        s.expected = s.expected.map(|e| e.saturating_sub(n));
        s.held += bytes.len();
        s.received = end;
        (end || n > 0).then_some(Event::Data { stream, bytes, end })
    }

    /// A whole frame that is not DATA.
    fn whole(&mut self, header: Header, payload: &[u8], now: u64) -> Result<(), Fatal> {
        match header.kind {
            kind::HEADERS => self.headers(header, payload, now),
            kind::CONTINUATION => self.continuation(header, payload, now),
            kind::PRIORITY => self.priority(header, payload, now),
            kind::RST_STREAM => self.rst_stream(header, payload, now),
            kind::SETTINGS => self.settings(header, payload, now),
            kind::PING => self.pinged(header, payload, now),
            kind::GOAWAY => self.goaway_came(header, payload, now),
            kind::WINDOW_UPDATE => self.window_update(header, payload, now),
            kind::PRIORITY_UPDATE => self.priority_update(header, payload, now),
            // ENABLE_PUSH is 0, and clients never push.
            _ => Err(self.die(ErrorCode::PROTOCOL_ERROR, "PUSH_PROMISE")),
        }
    }
}
