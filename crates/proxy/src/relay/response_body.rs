//! The response's body: taken from the server, in the framing that the client was told.

use std::io;

use narthex_message::{BadResponse, Body, Reject};
use narthex_net::rt;
use narthex_net::scratch::{self, HEADROOM};
use narthex_wire::grpc_web;
use narthex_wire::h1::chunk::{self, ChunkDecoder, Step};

use super::{Downstream, Relay};
use crate::fail::Failure;
use crate::grpc_web::Form;
use crate::trailer;

/// Where in the response the origin is.
pub(super) enum Sink {
    /// Waiting for a (final) head.
    Head,
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    Trailers,
    UntilClose,
    /// Bytes as they are, until the server's stream ends: HTTP/2.
    Stream,
    Done,
}

impl<D: Downstream> Relay<'_, D> {
    pub(super) fn read_body(&mut self) -> Result<bool, Failure> {
        scratch::with(|buffer| {
            let room = self.down_room();
            if room == 0 {
                return Ok(false);
            }
            let Some(area) = buffer.get_mut(HEADROOM..HEADROOM + room) else {
                return Ok(false);
            };
            let n = match self.upstream.try_recv(area) {
                Ok(0) => return self.emit(Self::closed_in_body).map(|()| true),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(Failure::UpstreamTruncated),
            };
            self.last_heard = rt::now_ms();
            let block = area.get(..n).unwrap_or_default();
            if let Sink::Length(left) = &mut self.sink {
                let here = usize::try_from(*left).map_or(n, |left| left.min(n));
                *left -= here as u64;
                if *left == 0 {
                    self.sink = Sink::Done;
                }
                self.clean &= here == n;
                let block = block.get(..here).unwrap_or_default();
                self.took_body(block);
                self.send_down(block)?;
            } else if matches!(self.sink, Sink::Stream)
                && self.framing != Body::Chunked
                && self.web != Some(Form::Text)
            {
                self.took_body(block);
                self.send_down(block)?;
            } else {
                self.emit(|this| this.feed_down(block))?;
            }
            Ok(true)
        })
    }

    fn closed_in_body(&mut self) -> Result<(), Failure> {
        self.ended_by_close = true;
        if matches!(self.sink, Sink::Stream) {
            return self.end_stream();
        }
        if !matches!(self.sink, Sink::UntilClose) {
            return Err(Failure::UpstreamTruncated);
        }
        self.work.response_trailers.clear();
        self.end_chunked();
        Ok(())
    }

    /// Puts body bytes in `work.down` in the client's framing.
    pub(super) fn feed_down(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let bad = |_: Reject| Failure::UpstreamInvalid(BadResponse::Chunk);
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            match &mut self.sink {
                Sink::Head | Sink::Done => {
                    self.clean = false;
                    break;
                }
                Sink::Length(left) => {
                    let n = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= n as u64;
                    if *left == 0 {
                        self.sink = Sink::Done;
                    }
                    let data = rest.get(..n).unwrap_or_default();
                    self.took_body(data);
                    if self.behind.is_none() {
                        self.work.down.extend_from_slice(data);
                    }
                    at += n;
                }
                Sink::UntilClose | Sink::Stream => {
                    self.push_down(rest);
                    break;
                }
                Sink::Chunked(decoder) => match decoder.step(rest).map_err(bad)? {
                    Step::Framing { consumed } => at += consumed,
                    Step::Data { skip, data } => {
                        self.push_down(rest.get(skip..skip + data).unwrap_or_default());
                        at += skip + data;
                    }
                    Step::Trailers { consumed } => {
                        at += consumed;
                        self.work.response_trailers.clear();
                        self.sink = Sink::Trailers;
                    }
                },
                Sink::Trailers => {
                    let (taken, done) = trailer::take(
                        &mut self.work.response_trailers,
                        rest,
                        &self.bounds.trailer_limits,
                    )
                    .map_err(|_| Failure::UpstreamInvalid(BadResponse::Trailer))?;
                    at += taken;
                    if done {
                        self.end_chunked();
                    }
                }
            }
        }
        Ok(())
    }

    /// An HTTP/2 server's answer is complete; perhaps with trailers.
    fn end_stream(&mut self) -> Result<(), Failure> {
        trailer::take_from(
            self.h2,
            &self.bounds.trailer_limits,
            &mut self.work.response_trailers,
        )
        .map_err(|_| Failure::UpstreamInvalid(BadResponse::Trailer))?;
        self.end_web();
        self.end_chunked();
        Ok(())
    }

    /// Bytes of the body have come; an object of the cache that they are for gets them, too.
    #[inline]
    pub(super) fn took_body(&mut self, data: &[u8]) {
        self.body_bytes += data.len() as u64;
        if self.fill.is_some() {
            self.fill_object(data);
        } else if let Some(behind) = &mut self.behind {
            behind.keep(data);
        }
    }

    fn fill_object(&mut self, data: &[u8]) {
        if let Some(fill) = &mut self.fill
            && fill.push(data).is_err()
        {
            if let Some(behind) = &mut self.behind {
                if fill.object().body.is_cut() {
                    // It takes no more: what it has not taken is kept here.
                    let lacks = self.body_bytes.saturating_sub(fill.object().body.len());
                    let lacks = usize::try_from(lacks).unwrap_or(data.len());
                    let from = data.len().saturating_sub(lacks);
                    behind.keep(data.get(from..).unwrap_or_default());
                    self.fill = None;
                }
            } else if !fill.is_followed() {
                // Too large to be kept, and nobody reads it.
                self.fill = None;
            }
        }
        // Whoever hears the last byte may ask again: it is there then.
        if matches!(self.sink, Sink::Done)
            && let Some(fill) = self.fill.take()
        {
            fill.finish();
        }
    }

    /// To a client of gRPC-Web trailers are the body's last frame.
    fn end_web(&mut self) {
        if self.web.is_none() || self.work.response_trailers.is_empty() {
            return;
        }
        let (mut lines, mut frame) = (Vec::new(), Vec::new());
        trailer::copy(
            &self.work.response_trailers,
            &self.bounds.trailer_limits,
            &mut lines,
        );
        grpc_web::trailer_frame(&lines, &mut frame);
        self.push_down(&frame);
        self.work.response_trailers.clear();
    }

    /// Body bytes in the client's form and framing.
    fn push_down(&mut self, data: &[u8]) {
        if self.web == Some(Form::Text) {
            let mut text = Vec::new();
            grpc_web::encode_text(data, &mut text);
            self.put_down(&text);
        } else {
            self.put_down(data);
        }
    }

    fn put_down(&mut self, data: &[u8]) {
        self.took_body(data);
        if self.behind.is_none() {
            self.frame_down(data);
        }
    }

    /// As above, of bytes that have been counted.
    pub(super) fn frame_down(&mut self, data: &[u8]) {
        if self.framing == Body::Chunked {
            chunk::size_line(data.len(), &mut self.work.down);
            self.work.down.extend_from_slice(data);
            self.work.down.extend_from_slice(b"\r\n");
        } else {
            self.work.down.extend_from_slice(data);
        }
    }

    fn end_chunked(&mut self) {
        self.sink = Sink::Done;
        if self.behind.is_none() {
            self.write_end();
        }
    }

    /// The end, in the client's framing.
    pub(super) fn write_end(&mut self) {
        if self.framing != Body::Chunked {
            return;
        }
        self.work.down.extend_from_slice(b"0\r\n");
        if self.client_trailers {
            trailer::copy(
                &self.work.response_trailers,
                &self.bounds.trailer_limits,
                &mut self.work.down,
            );
        }
        self.work.down.extend_from_slice(b"\r\n");
    }
}
