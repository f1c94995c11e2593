//! The request's body: taken from the client, counted against its bound, framed anew for the server.

use std::io;

use narthex_message::Body;
use narthex_message::head::Version;
use narthex_net::rt;
use narthex_net::scratch::{self, HEADROOM};
use narthex_wire::h1::chunk::{self, ChunkDecoder, Step};

use super::{Downstream, Relay};
use crate::fail::Failure;
use crate::spool::BodyReader;
use crate::trailer;

/// The request body's source.
pub(crate) enum Source {
    /// All of it has been taken.
    Done,
    /// This many bytes are left.
    Length(u64),
    /// Chunked.
    Chunked(ChunkDecoder),
    /// Bytes as they are, until the client's stream ends: HTTP/2.
    Stream,
    /// The trailer section is arriving.
    Trailers,
    /// Taken whole before the attempt.
    Spooled(Box<BodyReader>),
}

impl Source {
    /// Of a request's framing.
    pub(crate) fn of(body: Body, version: Version, chunk_extension: usize) -> Self {
        match body {
            Body::Chunked if version == Version::Http2 => Self::Stream,
            Body::None | Body::UntilClose | Body::Length(0) => Self::Done,
            Body::Length(n) => Self::Length(n),
            Body::Chunked => Self::Chunked(ChunkDecoder::new(chunk_extension)),
        }
    }
}

impl<D: Downstream> Relay<'_, D> {
    /// Takes body bytes that came with the head.
    pub(super) fn take_at_hand(&mut self) -> Result<(), Failure> {
        // A client that sends without waiting is not told to go on.
        self.expects_continue = false;
        let input = std::mem::take(&mut self.work.input);
        let from = self.work.taken;
        let taken = self.feed_up(input.get(from..).unwrap_or_default());
        self.work.input = input;
        self.work.taken = from + taken?;
        Ok(())
    }

    /// Reads body bytes from the client and passes them on.
    pub(super) fn pull(&mut self) -> Result<bool, Failure> {
        scratch::with(|buffer| {
            let Some(buffer) = buffer.get_mut(HEADROOM..) else {
                return Ok(false);
            };
            let n = match self.client.try_recv(buffer) {
                Ok(0) if matches!(self.source, Source::Stream) => {
                    self.end_up();
                    return Ok(true);
                }
                Ok(0) => return Err(Failure::ClientGone),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(Failure::ClientGone),
            };
            self.last_up = rt::now_ms();
            let block = buffer.get(..n).unwrap_or_default();
            let taken = if let Source::Length(left) = self.source {
                let mine = usize::try_from(left).map_or(n, |left| left.min(n));
                let (mine, _) = block.split_at(mine);
                self.count_body(mine)?;
                self.send_up(mine);
                self.length_taken(mine.len() as u64);
                mine.len()
            } else {
                self.feed_up(block)?
            };
            // What follows the body is the next request.
            if taken < n {
                self.work.input.truncate(self.work.taken);
                self.work
                    .input
                    .extend_from_slice(block.get(taken..).unwrap_or_default());
            }
            Ok(true)
        })
    }

    /// Takes what belongs to this body from `bytes`, puts it in `work.up` in our own framing; returns how much it took.
    fn feed_up(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            match &mut self.source {
                Source::Done | Source::Spooled(_) => break,
                Source::Length(left) => {
                    let n = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    let data = rest.get(..n).unwrap_or_default();
                    self.count_body(data)?;
                    self.work.up.extend_from_slice(data);
                    self.length_taken(n as u64);
                    at += n;
                }
                Source::Stream => {
                    self.count_body(rest)?;
                    self.push_up(rest);
                    at += rest.len();
                }
                Source::Chunked(decoder) => match decoder.step(rest).map_err(Failure::Reject)? {
                    Step::Framing { consumed } => at += consumed,
                    Step::Data { skip, data } => {
                        let piece = rest.get(skip..skip + data).unwrap_or_default();
                        self.count_body(piece)?;
                        self.push_up(piece);
                        at += skip + data;
                    }
                    Step::Trailers { consumed } => {
                        at += consumed;
                        self.work.request_trailers.clear();
                        self.source = Source::Trailers;
                    }
                },
                Source::Trailers => {
                    let (taken, done) = trailer::take(
                        &mut self.work.request_trailers,
                        rest,
                        &self.bounds.trailer_limits,
                    )
                    .map_err(Failure::Reject)?;
                    at += taken;
                    if done {
                        // A request's trailers are dropped: an HTTP/1.1 origin has not said that it wants them.
                        self.end_up();
                    }
                }
            }
        }
        Ok(at)
    }

    /// Bytes of a body whose length is not known before: in chunks, or as they are on a stream.
    fn push_up(&mut self, data: &[u8]) {
        if self.h2.is_some() {
            self.work.up.extend_from_slice(data);
            return;
        }
        chunk::size_line(data.len(), &mut self.work.up);
        self.work.up.extend_from_slice(data);
        self.work.up.extend_from_slice(b"\r\n");
    }

    /// Such a body is complete.
    fn end_up(&mut self) {
        if self.h2.is_none() {
            self.work.up.extend_from_slice(chunk::LAST_CHUNK);
        }
        self.source_done();
    }

    fn length_taken(&mut self, n: u64) {
        if let Source::Length(left) = &mut self.source {
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.source_done();
            }
        }
    }

    /// Counts body bytes against the route's bound, and keeps them for another attempt while they fit.
    fn count_body(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received > self.own.body_max {
            return Err(Failure::BodyTooLarge);
        }
        if self.own.replay_max > 0 && self.replayable {
            if self.work.replay.len() + bytes.len() > self.own.replay_max {
                self.replayable = false;
                self.work.replay = Vec::new();
            } else {
                self.work.replay.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    pub(super) fn source_done(&mut self) {
        self.source = Source::Done;
        self.upload_ended = rt::now_ms();
    }
}
