//! Downwards: what the client's socket takes of the answer, and what waits for it.

use std::io;

use narthex_net::rt;

use super::{Downstream, FAIR_SHARE, Relay};
use crate::fail::Failure;

impl<D: Downstream> Relay<'_, D> {
    /// Feeds the client from the buffer, once the head is out.
    pub(super) fn flush_spool(&mut self) -> Result<bool, Failure> {
        if self.down_at < self.work.down.len() {
            return Ok(false);
        }
        let mut progress = false;
        while let Some(spool) = &mut self.spool {
            let piece = spool.front();
            if piece.is_empty() {
                break;
            }
            match self.client.try_send(piece) {
                Ok(n) => {
                    spool.consume(n);
                    self.took_down(n);
                    progress = true;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Failure::ClientGone),
            }
            if self.moved > FAIR_SHARE {
                break;
            }
        }
        Ok(progress)
    }

    pub(super) fn flush_down(&mut self) -> Result<bool, Failure> {
        let pending = self.work.down.get(self.down_at..).unwrap_or_default();
        if pending.is_empty() {
            return Ok(false);
        }
        match self.client.try_send(pending) {
            Ok(n) => {
                self.down_at += n;
                self.took_down(n);
                if self.down_at >= self.work.down.len() {
                    self.work.down.clear();
                    self.down_at = 0;
                }
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(_) => Err(Failure::ClientGone),
        }
    }

    /// Sends straight from the scratch buffer; only what the kernel does not take is copied.
    pub(super) fn send_down(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.is_backed_up() {
            self.keep_down(bytes);
            return Ok(());
        }
        match self.client.try_send(bytes) {
            Ok(n) => {
                self.took_down(n);
                self.keep_down(bytes.get(n..).unwrap_or_default());
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.keep_down(bytes);
                Ok(())
            }
            Err(_) => Err(Failure::ClientGone),
        }
    }

    /// Keeps what the client's socket has not taken.
    #[inline]
    fn keep_down(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.behind.is_some() {
            // The object has them.
            self.moved += bytes.len();
            return;
        }
        match &mut self.spool {
            Some(spool) => {
                spool.push(bytes);
                // A buffer takes as fast as the origin gives: that is moving, too.
                self.moved += bytes.len();
            }
            None => self.work.down.extend_from_slice(bytes),
        }
    }

    /// Runs `make`, which puts bytes for the client in `work.down`, and sends them behind what waits already.
    pub(super) fn emit(
        &mut self,
        make: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.spool.is_none() {
            make(self)?;
            self.flush_down()?;
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.work.down);
        let at = std::mem::take(&mut self.down_at);
        let made = make(self);
        let produced = std::mem::replace(&mut self.work.down, waiting);
        self.down_at = at;
        made?;
        self.send_down(&produced)
    }

    fn took_down(&mut self, n: usize) {
        self.delivered = self.delivered.saturating_add(n as u64);
        self.moved += n;
        self.last_down = rt::now_ms();
        self.unsent = usize::MAX;
    }
}
