//! A request that is sent, or partly, before its relay begins: its body is none, or was taken whole.

use std::io;
use std::task::Context;

use narthex_net::rt;
use narthex_net::stream::Stream;

use super::{Downstream, FAIR_SHARE, Relay, Source};
use crate::fail::Failure;

/// What has been sent of a request, and what has not.
pub(crate) struct UnderWay {
    /// The head; what follows it is in `source`.
    head: Vec<u8>,
    head_at: usize,
    source: Source,
    /// The server takes no more.
    broken: bool,
    sent: u64,
    last_up: u64,
    /// When the last byte was taken, in milliseconds; 0: not yet.
    ended: u64,
    begun_us: u64,
}

impl UnderWay {
    /// Nothing has been sent.
    pub(crate) fn new(head: Vec<u8>, source: Source) -> Self {
        Self {
            head,
            head_at: 0,
            source,
            broken: false,
            sent: 0,
            last_up: rt::now_ms(),
            ended: 0,
            begun_us: rt::now_us(),
        }
    }

    /// Sends what the server's socket takes; waits for room if it does not take all.
    pub(crate) fn send(&mut self, to: &Stream, cx: &mut Context<'_>) -> Result<(), Failure> {
        let before = self.sent;
        while !self.broken && self.ended == 0 {
            if self.sent.saturating_sub(before) > FAIR_SHARE as u64 {
                cx.waker().wake_by_ref();
                break;
            }
            let mut moved = false;
            if let Source::Spooled(reader) = &mut self.source {
                let progress = reader.poll_progress(cx);
                moved = progress.is_ready();
                if let std::task::Poll::Ready(Err(_)) = progress {
                    return Err(Failure::Spool);
                }
            }
            let from_head = self.head_at < self.head.len();
            let piece = match &self.source {
                _ if from_head => self.head.get(self.head_at..).unwrap_or_default(),
                Source::Spooled(reader) if !reader.is_empty() => reader.front(),
                _ => {
                    self.source = Source::Done;
                    self.ended = rt::now_ms();
                    break;
                }
            };
            if piece.is_empty() {
                // It is being read from the file.
                if moved {
                    continue;
                }
                break;
            }
            match to.try_send(piece) {
                Ok(n) => {
                    match &mut self.source {
                        Source::Spooled(reader) if !from_head => reader.consume(n),
                        _ => self.head_at += n,
                    }
                    self.sent = self.sent.saturating_add(n as u64);
                    self.last_up = rt::now_ms();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let _ = to.poll_writable();
                    break;
                }
                // The server may have answered before it closed: what it said is still to be read.
                Err(_) => self.broken = true,
            }
        }
        Ok(())
    }

    /// Does the server take no more?
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Was anything taken?
    pub(crate) fn is_begun(&self) -> bool {
        self.sent > 0
    }

    /// When the whole request had been taken, in milliseconds.
    pub(crate) fn ended(&self) -> Option<u64> {
        (self.ended > 0).then_some(self.ended)
    }

    /// When the server last took anything, in milliseconds.
    pub(crate) fn last_up(&self) -> u64 {
        self.last_up
    }

    /// When it was begun, in microseconds.
    pub(crate) fn begun_us(&self) -> u64 {
        self.begun_us
    }

    /// For how long the server has owed an answer, in microseconds.
    pub(crate) fn silent_us(&self) -> u64 {
        let since = |ended: u64| self.begun_us.max(ended.saturating_mul(1_000));
        self.ended()
            .map_or(0, |ended| rt::now_us().saturating_sub(since(ended)))
    }

    /// Bytes of memory.
    pub(crate) fn held(&self) -> usize {
        let ahead = match &self.source {
            Source::Spooled(reader) => reader.held(),
            _ => 0,
        };
        self.head.capacity() + ahead
    }
}

impl<D: Downstream> Relay<'_, D> {
    /// Goes on from here.
    pub(crate) fn resume(&mut self, from: UnderWay) {
        self.work.up = from.head;
        self.up_at = from.head_at;
        if self.up_at >= self.work.up.len() {
            self.work.up.clear();
            self.up_at = 0;
        }
        self.source = from.source;
        self.up_broken = from.broken;
        self.sent = from.sent;
        self.last_up = from.last_up;
        self.upload_ended = from.ended;
    }
}
