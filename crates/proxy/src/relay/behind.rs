//! A client that is slower than the object that its answer fills: it goes on as one who reads the object, so that those who
//! follow are not as slow as who came first.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use narthex_cache::Object;
use narthex_cache::store::Read;
use narthex_net::scratch::{self, BULK};

use super::{Downstream, FAIR_SHARE, Relay, Sink};
use crate::fail::Failure;

/// So far behind a client may be if the object is not kept: then its bytes are there for this client alone.
const MOST: u64 = 4 * 1024 * 1024;

/// Where the client is.
pub(super) struct Behind {
    object: Arc<Object>,
    /// The first byte of the body that it has not been given.
    at: u64,
    /// What the object could not take. At most what is read at once.
    tail: Vec<u8>,
}

impl Behind {
    /// Bytes that follow those of the object.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }
}

impl<D: Downstream> Relay<'_, D> {
    /// The client does not take what has come: from now on it reads from the object. False: there is none.
    #[cold]
    pub(super) fn falls_behind(&mut self) -> bool {
        if self.behind.is_some()
            || self.spool.is_some()
            || matches!(self.sink, Sink::Head | Sink::Done)
        {
            return false;
        }
        let Some(fill) = self.fill.as_mut().filter(|f| !f.object().body.is_cut()) else {
            return false;
        };
        fill.hold(Some(self.body_bytes));
        self.behind = Some(Box::new(Behind {
            object: Arc::clone(fill.object()),
            at: self.body_bytes,
            tail: Vec::new(),
        }));
        self.down_room() > 0
    }

    /// How many bytes may be read from the origin for the object.
    pub(super) fn room_behind(&self, behind: &Behind) -> usize {
        match &self.fill {
            Some(fill) if fill.is_kept() => BULK,
            Some(_) if self.body_bytes.saturating_sub(behind.at) < MOST => BULK,
            _ => 0,
        }
    }

    /// Gives the client what it takes of the object, until it has all that there is.
    pub(super) fn catch_up(&mut self) -> Result<bool, Failure> {
        let mut progress = false;
        while self.down_at >= self.work.down.len()
            && self.moved <= FAIR_SHARE
            && let Some(mut behind) = self.behind.take()
        {
            progress = true;
            let lacks = self.body_bytes.saturating_sub(behind.at);
            if lacks <= behind.tail.len() as u64 {
                self.caught_up(&behind.tail);
            } else {
                behind.at += self.read_behind(&behind)?;
                if let Some(fill) = &mut self.fill {
                    fill.hold(Some(behind.at));
                }
                self.behind = Some(behind);
            }
            self.flush_down()?;
        }
        Ok(progress)
    }

    fn read_behind(&mut self, behind: &Behind) -> Result<u64, Failure> {
        scratch::with(|buffer| {
            let area = buffer.get_mut(..BULK).unwrap_or_default();
            // It is there: nobody has to be woken.
            let mut cx = Context::from_waker(Waker::noop());
            match behind.object.body.poll_read(behind.at, area, &mut cx) {
                Poll::Ready(Read::Bytes(n)) => {
                    self.frame_down(area.get(..n).unwrap_or_default());
                    Ok(n as u64)
                }
                _ => Err(Failure::UpstreamTruncated),
            }
        })
    }

    fn caught_up(&mut self, tail: &[u8]) {
        if let Some(fill) = &mut self.fill {
            fill.hold(None);
        }
        if !tail.is_empty() {
            self.frame_down(tail);
        }
        if matches!(self.sink, Sink::Done) {
            self.write_end();
        }
    }
}
