//! A tunnel: bytes both ways after a change of protocol, with one bounded block in flight per direction.

use std::io;
use std::task::Poll;

use narthex_net::rt;
use narthex_net::scratch;
use narthex_net::stream::Stream;

use crate::account::Account;
use crate::work::Work;

/// A direction that waits for more keeps no larger buffer than this. Bytes.
const KEEP: usize = 16 * 1024;

/// Bytes that went through.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Ended by us, for the memory that it held.
    pub(crate) shed: bool,
}

struct Direction<'a> {
    from: &'a Stream,
    to: &'a Stream,
    pending: Vec<u8>,
    at: usize,
    read_ended: bool,
    done: bool,
    moved: u64,
}

impl<'a> Direction<'a> {
    fn new(from: &'a Stream, to: &'a Stream, pending: Vec<u8>) -> Self {
        Self {
            from,
            to,
            pending,
            at: 0,
            read_ended: false,
            done: false,
            moved: 0,
        }
    }

    /// Moves what can be moved; `Ok(true)` if anything was. An error ends the tunnel: `from` is gone, and with it the other
    /// direction's end. If it is `to` that takes nothing any more, only this direction is over: what `to` has said before
    /// may still be on its way.
    fn step(&mut self) -> io::Result<bool> {
        let mut progress = false;
        loop {
            if self.done {
                return Ok(progress);
            }
            if self.at < self.pending.len() {
                match self
                    .to
                    .try_send(self.pending.get(self.at..).unwrap_or_default())
                {
                    Ok(n) => {
                        self.at += n;
                        self.moved += n as u64;
                        progress = true;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(progress),
                    Err(_) => {
                        self.pending = Vec::new();
                        self.at = 0;
                        self.done = true;
                        return Ok(true);
                    }
                }
                if self.at < self.pending.len() {
                    return Ok(progress);
                }
                self.pending.clear();
                self.at = 0;
            }
            if self.read_ended {
                // Half-closed: the other direction may go on.
                self.to.shutdown_write();
                self.done = true;
                return Ok(true);
            }
            let pending = &mut self.pending;
            let got = scratch::with(|buffer| {
                let n = self.from.try_recv(buffer)?;
                pending.extend_from_slice(buffer.get(..n).unwrap_or_default());
                Ok::<_, io::Error>(n)
            });
            match got {
                Ok(0) => self.read_ended = true,
                Ok(_) => progress = true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(progress),
                Err(e) => return Err(e),
            }
            if progress && self.moved % (1 << 20) > (1 << 19) {
                return Ok(true);
            }
        }
    }

    /// Bytes of memory.
    fn held(&self) -> usize {
        self.pending.capacity()
    }

    fn wait(&mut self) {
        if self.pending.is_empty() && self.pending.capacity() > KEEP {
            self.pending = Vec::new();
        }
        if self.done {
            return;
        }
        if self.at < self.pending.len() {
            let _ = self.to.poll_writable();
        } else if !self.read_ended {
            let _ = self.from.poll_readable();
        }
    }
}

/// Runs until both directions have ended, one breaks, or nothing moves for `idle_ms`.
pub(crate) async fn run(
    client: &Stream,
    upstream: &Stream,
    work: &mut Work,
    idle_ms: u64,
    account: &Account<'_>,
) -> Ended {
    let mut up = Direction::new(client, upstream, work.rest().to_vec());
    let mut down = Direction::new(upstream, client, std::mem::take(&mut work.response));
    let mut last = rt::now_ms();
    let mut shed = false;
    std::future::poll_fn(|cx| {
        if account.is_condemned() {
            shed = true;
            return Poll::Ready(());
        }
        for round in 0.. {
            let (Ok(a), Ok(b)) = (up.step(), down.step()) else {
                return Poll::Ready(());
            };
            if up.done && down.done {
                return Poll::Ready(());
            }
            if !a && !b {
                break;
            }
            last = rt::now_ms();
            if round >= 8 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        up.wait();
        down.wait();
        // A side that has ended its direction is not read any more: whether it still lives must be asked for.
        if up.done && client.poll_dead().is_ready() || down.done && upstream.poll_dead().is_ready()
        {
            return Poll::Ready(());
        }
        let held = work.held() + up.held() + down.held() + client.held() + upstream.held();
        account.charge(held, cx);
        if idle_ms > 0 && rt::poll_deadline(last.saturating_add(idle_ms)).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
    Ended {
        up: up.moved,
        down: down.moved,
        shed,
    }
}
