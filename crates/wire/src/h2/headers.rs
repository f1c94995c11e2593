//! HEADERS and CONTINUATION: blocks, and what becomes of their streams.

use super::budget::most;
use super::conn::{Connection, Event, Role, StreamId};
use super::error::{ErrorCode, Fatal};
use super::frame::{self, Header, MAX_31, flag, kind};
use super::head::{self, Builder, Kind, Outcome, Rules};
use super::hpack::Fault;
use super::priority::Priority;
use super::stream::Reset;
use narthex_message::Malformed;

/// Memory for unfinished blocks that is kept while none is under way.
const KEPT: usize = 4 << 10;

/// What a block is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// A new request.
    Request,
    /// A response, of a stream of ours.
    Response,
    /// What follows a message's head.
    Trailers,
    /// Nobody any more: decoded, because both sides' tables must stay the same.
    Nobody,
    /// Nobody: the stream gets a reset.
    Fault(ErrorCode),
}

/// A block that is whole.
#[derive(Debug, Clone, Copy)]
struct Whole<'p> {
    stream: StreamId,
    bytes: &'p [u8],
    end: bool,
    depends_on_itself: bool,
}

impl Connection {
    pub(super) fn headers(
        &mut self,
        header: Header,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Fatal> {
        let stream = header.stream;
        if stream & 1 == 0 {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "HEADERS of no request"));
        }
        if header.has(flag::PADDED) && payload.is_empty() {
            return Err(self.die(ErrorCode::FRAME_SIZE_ERROR, "padding without its length"));
        }
        let Some(mut fragment) = frame::unpadded(header, payload) else {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "padding larger than its frame"));
        };
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            let Some((priority, after)) = fragment.split_at_checked(5) else {
                return Err(self.die(ErrorCode::FRAME_SIZE_ERROR, "a priority cut off"));
            };
            depends_on_itself = frame::word(priority).is_some_and(|w| w & MAX_31 == stream);
            fragment = after;
        }
        let end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            self.empty(false)?;
            return self.block_came(
                Whole {
                    stream,
                    bytes: fragment,
                    end,
                    depends_on_itself,
                },
                now,
            );
        }
        self.empty(fragment.is_empty())?;
        self.partial_since.get_or_insert(now);
        let block = &mut self.block;
        block.stream = stream;
        block.end = end;
        block.depends_on_itself = depends_on_itself;
        block.continuations = 0;
        block.bytes.clear();
        block.bytes.extend_from_slice(fragment);
        Ok(())
    }

    pub(super) fn continuation(
        &mut self,
        header: Header,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Fatal> {
        if self.block.stream == 0 {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "a CONTINUATION of nothing"));
        }
        let end = header.has(flag::END_HEADERS);
        self.empty(payload.is_empty() && !end)?;
        self.block.continuations += 1;
        if self.block.continuations > most::CONTINUATIONS {
            return Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "CONTINUATION without an end"));
        }
        self.block.bytes.extend_from_slice(payload);
        if !end {
            return Ok(());
        }
        let mut block = std::mem::take(&mut self.block);
        self.partial_since = None;
        let done = self.block_came(
            Whole {
                stream: block.stream,
                bytes: &block.bytes,
                end: block.end,
                depends_on_itself: block.depends_on_itself,
            },
            now,
        );
        if block.bytes.capacity() <= KEPT {
            block.bytes.clear();
            self.block.bytes = block.bytes;
        }
        done
    }

    /// Whose a block is. The stream's number is odd.
    fn whose(&mut self, whole: &Whole<'_>) -> Result<For, Fatal> {
        let stream = whole.stream;
        if let Some(s) = self.streams.get(stream) {
            return Ok(if s.reset == Some(Reset::Local) {
                For::Nobody
            } else if s.received || s.reset.is_some() {
                For::Fault(ErrorCode::STREAM_CLOSED)
            } else if self.role == Role::Client && !s.answered {
                For::Response
            } else if whole.end {
                For::Trailers
            } else {
                // A second head.
                For::Fault(ErrorCode::PROTOCOL_ERROR)
            });
        }
        if self.role == Role::Client {
            if self.is_idle(stream) {
                return Err(self.die(ErrorCode::PROTOCOL_ERROR, "a response to no request"));
            }
            return Ok(For::Nobody);
        }
        if stream > self.last {
            return Ok(For::Request);
        }
        match self.recent.iter().rev().find(|r| r.0 == stream) {
            Some((_, true)) => Ok(For::Nobody),
            Some((_, false)) => {
                Err(self.die(ErrorCode::STREAM_CLOSED, "HEADERS of a closed stream"))
            }
            None => Err(self.die(ErrorCode::PROTOCOL_ERROR, "a stream below the last one")),
        }
    }

    fn block_came(&mut self, whole: Whole<'_>, now: u64) -> Result<(), Fatal> {
        let whose = self.whose(&whole)?;
        let kind = match whose {
            For::Request => Kind::Request,
            For::Response => Kind::Response,
            _ => Kind::Trailers,
        };
        let outcome = self.decode(kind, whole)?;
        match whose {
            For::Request => self.request(whole, outcome, now),
            For::Response => self.response(whole, outcome, now),
            For::Trailers => self.trailers(whole, outcome, now),
            For::Nobody => self.noise(now),
            For::Fault(code) => self.fault(whole.stream, code, now),
        }
    }

    fn decode(
        &mut self,
        kind: Kind,
        whole: Whole<'_>,
    ) -> Result<Result<Outcome, Malformed>, Fatal> {
        let rules = Rules {
            limits: &self.bounds.head,
            extended_connect: self.bounds.extended_connect,
            secure: self.bounds.secure,
        };
        let mut builder = Builder::new(kind, rules, &mut self.decoded);
        match self.decoder.block(whole.bytes, &mut builder) {
            Ok(()) => {
                let outcome = builder.finish(whole.end);
                Ok(if whole.depends_on_itself {
                    Err(Malformed::PseudoField)
                } else {
                    outcome
                })
            }
            Err(Fault::Compression(why)) => Err(self.die(ErrorCode::COMPRESSION_ERROR, why)),
            Err(Fault::Calm(why)) => Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, why)),
        }
    }

    /// Resets a stream that nobody has.
    fn refuse(&mut self, stream: StreamId, code: ErrorCode) {
        self.remember(stream, true);
        self.control(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    fn request(
        &mut self,
        whole: Whole<'_>,
        outcome: Result<Outcome, Malformed>,
        now: u64,
    ) -> Result<(), Fatal> {
        let id = whole.stream;
        self.last = id;
        if self.gone.is_some() {
            // Above the GOAWAY that it has, or will have: ignored (RFC 9113 6.8), and what follows on it too.
            self.remember(id, true);
            return self.noise(now);
        }
        self.budgets.noise.earn(now, most::NOISE_PER_STREAM);
        let Ok(outcome) = outcome else {
            self.provoked(now)?;
            self.refuse(id, ErrorCode::PROTOCOL_ERROR);
            return Ok(());
        };
        if whole.end && outcome.content_length.is_some_and(|n| n > 0) {
            self.provoked(now)?;
            self.refuse(id, ErrorCode::PROTOCOL_ERROR);
            return Ok(());
        }
        if self.streams.len() >= self.bounds.streams as usize {
            // It may not know the limit yet; nor does it know of places that it has given up and that are not free yet (their
            // resets are counted).
            let kept = self.streams.iter().filter(|s| !s.is_over()).count();
            if self.peer.acknowledged && kept >= self.bounds.streams as usize {
                self.provoked(now)?;
            } else if !self
                .budgets
                .refusals
                .spend(now, most::EARLY_REFUSALS, most::RESETS_IN_ALL)
            {
                return Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "streams above the limit"));
            }
            self.refuse(id, ErrorCode::REFUSED_STREAM);
            return Ok(());
        }
        let said = head::priority(&self.decoded);
        self.peer.prioritizes |= said.is_some();
        let said = said.map_or_else(Priority::default, |v| Priority::default().updated(v));
        let priority = self.first_priority(id, said);
        let mut stream = self.start(id);
        stream.priority = priority;
        stream.received = whole.end;
        // The bytes of a tunnel have no length.
        stream.expected = outcome
            .content_length
            .filter(|_| self.decoded.index.protocol.is_empty());
        self.streams.insert(stream);
        self.pending.push_back(Event::Head {
            stream: id,
            end: whole.end,
            oversize: outcome.oversize,
        });
        Ok(())
    }

    fn response(
        &mut self,
        whole: Whole<'_>,
        outcome: Result<Outcome, Malformed>,
        now: u64,
    ) -> Result<(), Fatal> {
        let status = self.decoded.index.status;
        let Some(s) = self.streams.get_mut(whole.stream) else {
            return Ok(());
        };
        let Ok(outcome) = outcome else {
            return self.fault(whole.stream, ErrorCode::PROTOCOL_ERROR, now);
        };
        if status < 200 {
            // RFC 9113 8.1: an informational one ends nothing.
            if whole.end {
                return self.fault(whole.stream, ErrorCode::PROTOCOL_ERROR, now);
            }
        } else {
            s.answered = true;
            s.bodyless = s.head_request || status == 204 || status == 304;
            s.expected = outcome.content_length.filter(|_| !s.bodyless);
            if whole.end && s.expected.is_some_and(|n| n > 0) {
                return self.fault(whole.stream, ErrorCode::PROTOCOL_ERROR, now);
            }
            s.received = whole.end;
        }
        self.pending.push_back(Event::Head {
            stream: whole.stream,
            end: whole.end,
            oversize: outcome.oversize,
        });
        Ok(())
    }

    fn trailers(
        &mut self,
        whole: Whole<'_>,
        outcome: Result<Outcome, Malformed>,
        now: u64,
    ) -> Result<(), Fatal> {
        let Some(s) = self.streams.get_mut(whole.stream) else {
            return Ok(());
        };
        let (Ok(outcome), None | Some(0)) = (outcome, s.expected) else {
            return self.fault(whole.stream, ErrorCode::PROTOCOL_ERROR, now);
        };
        s.received = true;
        self.pending.push_back(Event::Trailers {
            stream: whole.stream,
            oversize: outcome.oversize,
        });
        Ok(())
    }
}
