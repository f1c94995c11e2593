//! The request's body: taken from the client, counted against its bound, framed anew for the server.

use std::io;

use narthex_message::{Body, Reject};
use narthex_mux::MuxStream;
use narthex_net::rt;
use narthex_net::scratch::{self, HEADROOM};
use narthex_wire::h1::chunk::{self, ChunkDecoder, Step};
use narthex_wire::h2;

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
    Chunked(Box<ChunkDecoder>),
    /// Bytes as they are, until the client's stream ends: HTTP/2.
    Stream,
    /// The trailer section is arriving.
    Trailers,
    /// Taken whole before the attempt.
    Spooled(Box<BodyReader>),
}

impl Source {
    /// Of a request's framing.
    /// `goes_on`: a stream of HTTP/2 that has not ended with its head, whatever length was announced.
    pub(crate) fn of(body: Body, goes_on: bool, chunk_extension: usize) -> Self {
        match body {
            Body::Length(_) | Body::Chunked if goes_on => Self::Stream,
            Body::None | Body::UntilClose | Body::Length(0) => Self::Done,
            Body::Length(n) => Self::Length(n),
            Body::Chunked => Self::Chunked(Box::new(ChunkDecoder::new(chunk_extension))),
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
        self.say_end();
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
                    trailer::take_from(
                        self.client_h2,
                        &self.bounds.trailer_limits,
                        &mut self.work.request_trailers,
                    )
                    .map_err(Failure::Reject)?;
                    self.end_up();
                    self.say_end();
                    return Ok(true);
                }
                Ok(0) => return Err(Failure::ClientGone),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(Failure::ClientGone),
            };
            self.last_up = rt::now_ms();
            let block = buffer.get(..n).unwrap_or_default();
            let taken = if let (Source::Length(left), None) = (&self.source, &self.decoder) {
                let left = *left;
                let mine = usize::try_from(left).map_or(n, |left| left.min(n));
                let (mine, _) = block.split_at(mine);
                self.count_body(mine)?;
                self.send_up(mine);
                self.length_taken(mine.len() as u64);
                mine.len()
            } else if matches!(self.source, Source::Stream)
                && self.h2.is_some()
                && self.decoder.is_none()
            {
                self.count_body(block)?;
                self.send_up(block);
                n
            } else {
                let taken = self.feed_up(block)?;
                self.say_end();
                taken
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
                    if self.decoder.is_some() {
                        self.push_up(data)?;
                    } else {
                        self.work.up.extend_from_slice(data);
                    }
                    self.length_taken(n as u64);
                    at += n;
                }
                Source::Stream => {
                    self.count_body(rest)?;
                    self.push_up(rest)?;
                    at += rest.len();
                }
                Source::Chunked(decoder) => match decoder.step(rest).map_err(Failure::Reject)? {
                    Step::Framing { consumed } => at += consumed,
                    Step::Data { skip, data } => {
                        let piece = rest.get(skip..skip + data).unwrap_or_default();
                        self.count_body(piece)?;
                        self.push_up(piece)?;
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
                        self.end_up();
                    }
                }
            }
        }
        Ok(at)
    }

    /// Bytes of a body whose length is not known before: in chunks, or as they are on a stream.
    fn push_up(&mut self, data: &[u8]) -> Result<(), Failure> {
        if let Some(decoder) = &mut self.decoder {
            // To a server of HTTP/2, always.
            let from = self.work.up.len();
            decoder
                .feed(data, &mut self.work.up)
                .map_err(|_| Failure::Reject(Reject::WebText))?;
            let up = std::mem::take(&mut self.work.up);
            self.keep_body(up.get(from..).unwrap_or_default());
            self.work.up = up;
            return Ok(());
        }
        if self.h2.is_some() {
            self.work.up.extend_from_slice(data);
            return Ok(());
        }
        chunk::size_line(data.len(), &mut self.work.up);
        self.work.up.extend_from_slice(data);
        self.work.up.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Such a body is complete. To a server of HTTP/2 that is said when all of it has been sent.
    fn end_up(&mut self) {
        self.owes_end = self.h2.is_none();
        self.source_done();
    }

    /// Says the end of a body in chunks, if it has come. By itself: trailers are judged by the head, which is not at hand while the
    /// body is taken from what came with it.
    fn say_end(&mut self) {
        if std::mem::take(&mut self.owes_end) {
            self.work.up.extend_from_slice(b"0\r\n");
            self.downstream.trailers(self.work, &mut self.trailers);
            self.work.up.append(&mut self.trailers);
            self.work.up.extend_from_slice(b"\r\n");
        }
    }

    /// The request is complete, and so is what the server's stream gets of it.
    pub(super) fn end_stream_up(&mut self, stream: &MuxStream) -> Result<(), Failure> {
        if self.decoder.is_some_and(|d| d.finish().is_err()) {
            return Err(Failure::Reject(Reject::WebText));
        }
        let mut block = Vec::new();
        if !self.work.request_trailers.is_empty() {
            self.downstream.trailers(self.work, &mut self.trailers);
            h2::encode::lines(&self.trailers, &mut block);
            self.trailers.clear();
        }
        stream.finish(&block);
        Ok(())
    }

    fn length_taken(&mut self, n: u64) {
        if let Source::Length(left) = &mut self.source {
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.source_done();
            }
        }
    }

    /// Counts body bytes against the route's bound, and keeps them for another attempt, if they go as they are.
    fn count_body(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received > self.own.body_max {
            return Err(Failure::BodyTooLarge);
        }
        if self.decoder.is_none() {
            self.keep_body(bytes);
        }
        Ok(())
    }

    /// Keeps bytes for another attempt while they fit.
    fn keep_body(&mut self, bytes: &[u8]) {
        if self.own.replay_max > 0 && self.replayable {
            if self.work.replay.len() + bytes.len() > self.own.replay_max {
                self.replayable = false;
                self.work.replay = Vec::new();
            } else {
                self.work.replay.extend_from_slice(bytes);
            }
        }
    }

    pub(super) fn source_done(&mut self) {
        self.source = Source::Done;
        self.upload_ended = rt::now_ms();
    }
}
