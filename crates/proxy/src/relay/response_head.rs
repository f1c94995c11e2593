//! The response's head: informational ones before it, the change of protocol, and the final one.

use std::io;

use narthex_message::head::Version;
use narthex_message::validate;
use narthex_message::{BadResponse, Body, FieldId, Head, Index, ResponseFacts};
use narthex_mux::MuxStream;
use narthex_net::rt;
use narthex_net::scratch::{self, HEADROOM};
use narthex_wire::h1::chunk::ChunkDecoder;
use narthex_wire::h1::scan::{self, Progress};
use narthex_wire::h2::ErrorCode;

use super::{Begun, Downstream, Relay, Sink};
use crate::fail::Failure;

impl<D: Downstream> Relay<'_, D> {
    pub(super) fn read_any_head(&mut self) -> Result<bool, Failure> {
        match self.h2 {
            Some(stream) => self.take_heads(stream),
            None => self.read_head(),
        }
    }

    /// Heads that an HTTP/2 server has sent are decoded already.
    fn take_heads(&mut self, stream: &MuxStream) -> Result<bool, Failure> {
        let mut progress = false;
        while matches!(self.sink, Sink::Head) {
            let Some(head) = stream.take_head() else {
                return match stream.ended_by() {
                    Some(ErrorCode::REFUSED_STREAM) => Err(Failure::UpstreamClosed { sent: false }),
                    Some(_) => Err(self.closed_in_head()),
                    None => Ok(progress),
                };
            };
            self.heard = true;
            self.last_heard = rt::now_ms();
            if let Some(oversize) = head.oversize {
                return Err(Failure::UpstreamInvalid(oversize.into()));
            }
            self.begin_with(Head::new(&head.bytes, &head.index))?;
            progress = true;
        }
        Ok(progress)
    }

    fn read_head(&mut self) -> Result<bool, Failure> {
        if self.upstream.is_drained() && !self.up_broken {
            return Ok(false);
        }
        scratch::with(|buffer| {
            let Some(area) = buffer.get_mut(HEADROOM..HEADROOM + self.down_room()) else {
                return Ok(false);
            };
            if area.is_empty() {
                return Ok(false);
            }
            let n = match self.upstream.try_recv(area) {
                Ok(0) => return Err(self.closed_in_head()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // A server that took no bytes and says nothing.
                    return if self.up_broken {
                        Err(self.closed_in_head())
                    } else {
                        Ok(false)
                    };
                }
                Err(_) => return Err(self.closed_in_head()),
            };
            self.heard = true;
            self.last_heard = rt::now_ms();
            if self.work.response.is_empty() {
                let block = area.get(..n).unwrap_or_default();
                let mut index = self.work.take_response_index();
                match self.scan(block, &mut index)? {
                    Some(end) if index.status >= 200 => {
                        self.begin_in_place(buffer, &index, end, n)?;
                        self.work.response_index = Some(index);
                    }
                    complete => {
                        // Read anew from the copy: an informational head is followed by another.
                        if complete.is_some() {
                            index.clear();
                        }
                        self.work.response_index = Some(index);
                        self.work.response.extend_from_slice(
                            buffer.get(HEADROOM..HEADROOM + n).unwrap_or_default(),
                        );
                        self.head_from_copy()?;
                    }
                }
            } else {
                self.work
                    .response
                    .extend_from_slice(area.get(..n).unwrap_or_default());
                self.head_from_copy()?;
            }
            Ok(true)
        })
    }

    fn closed_in_head(&self) -> Failure {
        if self.heard {
            Failure::UpstreamTruncated
        } else {
            Failure::UpstreamClosed {
                sent: self.sent > 0,
            }
        }
    }

    #[inline(always)]
    fn scan(&self, bytes: &[u8], index: &mut Index) -> Result<Option<usize>, Failure> {
        match scan::response(bytes, index, &self.bounds.response_limits) {
            Ok(Progress::Complete(end)) => Ok(Some(end)),
            Ok(Progress::Partial) => Ok(None),
            Err(bad) => Err(Failure::UpstreamInvalid(bad)),
        }
    }

    /// The usual way: the whole head, and perhaps the body, in one block of the scratch buffer. The client's head is written
    /// in front of the body that is already there, and both leave in one send.
    #[inline(always)]
    fn begin_in_place(
        &mut self,
        buffer: &mut [u8],
        index: &Index,
        head_end: usize,
        n: usize,
    ) -> Result<(), Failure> {
        let head_bytes = buffer
            .get(HEADROOM..HEADROOM + head_end)
            .unwrap_or_default();
        self.begin_with(Head::new(head_bytes, index))?;
        let body = HEADROOM + head_end..HEADROOM + n;
        if let (Sink::Length(left), false) = (&mut self.sink, self.replaced) {
            let here = usize::try_from(*left).map_or(body.len(), |left| left.min(body.len()));
            *left -= here as u64;
            if here < body.len() {
                self.clean = false;
            }
            if *left == 0 {
                self.sink = Sink::Done;
            }
            self.took_body(
                buffer
                    .get(body.start..body.start + here)
                    .unwrap_or_default(),
            );
            let head_len = self.work.down.len() - self.down_at;
            if let Some(start) = body.start.checked_sub(head_len)
                && let Some(place) = buffer.get_mut(start..body.start)
                && self.down_at == 0
            {
                place.copy_from_slice(&self.work.down);
                self.work.down.clear();
                return self.send_down(buffer.get(start..body.start + here).unwrap_or_default());
            }
            self.work.down.extend_from_slice(
                buffer
                    .get(body.start..body.start + here)
                    .unwrap_or_default(),
            );
            return Ok(());
        }
        self.feed_down(buffer.get(body).unwrap_or_default())
    }

    /// The other way: a head that came in pieces, or with informational ones before it.
    fn head_from_copy(&mut self) -> Result<(), Failure> {
        loop {
            let response = std::mem::take(&mut self.work.response);
            let mut index = self.work.take_response_index();
            let scanned = self.scan(&response, &mut index);
            let Some(end) = scanned? else {
                self.work.response = response;
                self.work.response_index = Some(index);
                return Ok(());
            };
            self.begin_with(Head::new(response.get(..end).unwrap_or_default(), &index))?;
            let rest = response.get(end..).unwrap_or_default();
            if matches!(self.sink, Sink::Head) {
                self.work.response.extend_from_slice(rest);
                index.clear();
                self.work.response_index = Some(index);
                if self.work.response.is_empty() {
                    return Ok(());
                }
                continue;
            }
            self.work.response_index = Some(index);
            if self.facts.is_some_and(|f| f.status == 101) {
                self.work.response.extend_from_slice(rest);
                return Ok(());
            }
            return self.feed_down(rest);
        }
    }

    /// A head is complete: reads what it means, writes the client's.
    fn begin_with(&mut self, head: Head<'_>) -> Result<(), Failure> {
        let facts = validate::response(head, self.method).map_err(Failure::UpstreamInvalid)?;
        if facts.status == 101 {
            return self.switch(head, facts);
        }
        if facts.status < 200 {
            self.informational += 1;
            if self.informational > self.bounds.informational {
                return Err(Failure::UpstreamInvalid(BadResponse::TooManyInformational));
            }
            if self.client_version != Version::Http10 {
                self.expects_continue &= facts.status != 100;
                self.downstream
                    .informational(head, &facts, &mut self.work.down);
            }
            return Ok(());
        }
        if self.by_connect && (200..300).contains(&facts.status) {
            // There is a tunnel (RFC 8441 5); to the client that is the change of protocol.
            self.switched(
                head,
                ResponseFacts {
                    status: 101,
                    ..facts
                },
            );
            return Ok(());
        }
        if self.connects && (200..300).contains(&facts.status) {
            // To the client it would say that there is a tunnel (RFC 8441 5).
            return Err(Failure::UpstreamInvalid(BadResponse::UnexpectedSwitch));
        }
        if self.retry_statuses.contains(&facts.status)
            && self.delivered == 0
            && self.is_replayable()
        {
            return Err(Failure::UpstreamStatus(facts.status));
        }
        let upload_done = self.is_upload_done();
        let begun = self.write_head(head, &facts, upload_done);
        self.framing = begun.framing;
        self.replaced = begun.replaced;
        self.fill = begun.fill;
        self.web = begun.web;
        self.facts = Some(facts);
        self.head_us = rt::now_us();
        self.sink = match facts.body {
            // Its length has been checked when the stream has ended, and trailers may follow.
            Body::Length(_) | Body::Chunked if self.h2.is_some() && !head.index.ended => {
                Sink::Stream
            }
            Body::None | Body::Length(0) => Sink::Done,
            Body::Length(n) => Sink::Length(n),
            Body::Chunked => {
                Sink::Chunked(Box::new(ChunkDecoder::new(self.bounds.chunk_extension)))
            }
            Body::UntilClose => Sink::UntilClose,
        };
        if self.replaced {
            // The origin's body is not wanted: its connection is given up unless there was none.
            self.clean &= matches!(self.sink, Sink::Done);
            self.sink = Sink::Done;
        }
        Ok(())
    }

    fn switch(&mut self, head: Head<'_>, facts: ResponseFacts) -> Result<(), Failure> {
        let agreed = head.get(FieldId::Upgrade);
        let as_asked = self.upgrading.as_ref().is_some_and(|asked| {
            let proof = head.named(b"sec-websocket-accept").next();
            agreed.is_some_and(|a| a.eq_ignore_ascii_case(&asked.protocol))
                && asked
                    .proof
                    .as_ref()
                    .is_none_or(|p| proof == Some(p.as_bytes()))
        });
        if !as_asked {
            return Err(Failure::UpstreamInvalid(BadResponse::UnexpectedSwitch));
        }
        self.switched(head, facts);
        Ok(())
    }

    fn switched(&mut self, head: Head<'_>, facts: ResponseFacts) {
        self.write_head(head, &facts, true);
        self.facts = Some(facts);
        self.clean = false;
        self.sink = Sink::Done;
    }

    #[inline(always)]
    fn write_head(&mut self, head: Head<'_>, facts: &ResponseFacts, upload_done: bool) -> Begun {
        let mut edits = self.work.take_response_edits();
        let mut out = std::mem::take(&mut self.work.down);
        let begun =
            self.downstream
                .begin(self.work, head, facts, upload_done, &mut edits, &mut out);
        self.work.down = out;
        self.work.response_edits = Some(edits);
        self.delivered = self.delivered.saturating_add(begun.sent as u64);
        begun
    }
}
