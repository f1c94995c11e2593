//! Upwards: what the server's socket takes of the request, and what waits for it.

use std::io;

use narthex_net::rt;

use super::{Downstream, Relay, Sink, Source};
use crate::fail::Failure;

impl<D: Downstream> Relay<'_, D> {
    pub(super) fn step_up(&mut self) -> Result<bool, Failure> {
        if self.up_broken {
            return Ok(false);
        }
        let mut progress = false;
        if self.up_at < self.work.up.len() {
            // Head and what there is of the body leave together: if anything leaves. A server that takes not a byte (a used
            // connection may be full from before) must not have us read on.
            if self.sent == 0
                && self.up_at == 0
                && self.upstream.is_writable()
                && !matches!(self.source, Source::Done | Source::Spooled(_))
            {
                if self.work.taken < self.work.input.len() {
                    self.take_at_hand()?;
                }
                if matches!(self.source, Source::Length(_)) && self.client.is_readable() {
                    self.pull()?;
                }
            }
            if !self.work.up.is_empty() && !self.flush_up() {
                return Ok(false);
            }
            progress = true;
        }
        let ended = self.up_ended || self.by_connect;
        if let (Some(stream), Source::Done, false) = (self.h2, &self.source, ended) {
            self.up_ended = true;
            self.end_stream_up(stream)?;
        }
        if matches!(self.source, Source::Done) || self.up_broken {
            // Nothing is left to come back for: the way down is looked at after this.
            return Ok(false);
        }
        if matches!(self.source, Source::Spooled(_)) {
            return Ok(self.send_spooled() || progress);
        }
        if self.work.taken < self.work.input.len() {
            self.take_at_hand()?;
            return Ok(true);
        }
        if self.expects_continue {
            self.expects_continue = false;
            if matches!(self.sink, Sink::Head) {
                self.downstream.go_on(&mut self.work.down);
            }
        }
        Ok(self.pull()? || progress)
    }

    /// True when everything pending is with the kernel.
    fn flush_up(&mut self) -> bool {
        let pending = self.work.up.get(self.up_at..).unwrap_or_default();
        match self.upstream.try_send(pending) {
            Ok(n) => {
                self.up_at += n;
                self.took_up(n);
                if self.up_at < self.work.up.len() {
                    return false;
                }
                self.work.up.clear();
                self.up_at = 0;
                true
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                // The server may have answered before it closed: what it said is still to be read.
                self.up_broken = true;
                false
            }
        }
    }

    /// Sends what is pending and then `bytes`, straight from the scratch buffer; only what the kernel does not take is
    /// copied.
    pub(super) fn send_up(&mut self, bytes: &[u8]) {
        let pending = self.work.up.get(self.up_at..).unwrap_or_default();
        let held = pending.len();
        let result = if held == 0 {
            self.upstream.try_send(bytes)
        } else {
            self.upstream.try_send_two(pending, bytes)
        };
        match result {
            Ok(n) => {
                self.took_up(n);
                if n < held {
                    self.up_at += n;
                    self.work.up.extend_from_slice(bytes);
                } else {
                    self.work.up.clear();
                    self.up_at = 0;
                    self.work
                        .up
                        .extend_from_slice(bytes.get(n - held..).unwrap_or_default());
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.work.up.extend_from_slice(bytes)
            }
            Err(_) => self.up_broken = true,
        }
    }

    /// Sends what is at hand of a body that was taken before.
    fn send_spooled(&mut self) -> bool {
        let Source::Spooled(reader) = &mut self.source else {
            return false;
        };
        if reader.is_empty() {
            self.work.up.append(&mut self.up_behind);
            self.source_done();
            return true;
        }
        let piece = reader.front();
        if piece.is_empty() {
            return false;
        }
        match self.upstream.try_send(piece) {
            Ok(n) => {
                reader.consume(n);
                self.took_up(n);
                true
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.up_broken = true;
                false
            }
        }
    }

    fn took_up(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n as u64);
        self.moved += n;
        self.last_up = rt::now_ms();
        if matches!(self.source, Source::Done) {
            self.upload_ended = self.last_up;
        }
    }
}
