//! When neither direction can go on: what a relay waits for, and how long.

use std::task::Poll;

use narthex_net::rt;

use super::{Downstream, Ended, Relay, Sink, Source};
use crate::fail::Failure;

impl<D: Downstream> Relay<'_, D> {
    /// Registers for what would let us go on, and for the deadline that applies.
    pub(super) fn wait(&mut self) -> Poll<Result<Ended, Failure>> {
        let now = rt::now_ms();
        let mut nearest = (u64::MAX, Failure::UpstreamTimeout);
        let mut until = |deadline: u64, failure: Failure| {
            if deadline < nearest.0 {
                nearest = (deadline, failure);
            }
        };
        // Of a call: when both sides have been silent for too long.
        let moved = self.last_up.max(self.last_down).max(self.last_heard);
        let call_ends = moved.saturating_add(self.own.call_idle);
        let is_call = self.own.call_idle > 0;
        if self.facts.is_none() {
            until(self.own.deadline, Failure::UpstreamTimeout);
        }
        if !self.up_broken {
            let unsent = self.up_at < self.work.up.len()
                || matches!(&self.source, Source::Spooled(reader) if !reader.front().is_empty());
            if unsent {
                let _ = self.upstream.poll_writable();
                // A server that answers already may leave the rest unread: then its answer's pauses count.
                if self.facts.is_none() {
                    until(
                        self.last_up.saturating_add(self.own.upstream_idle),
                        Failure::UpstreamStalled,
                    );
                }
            } else if !matches!(self.source, Source::Done | Source::Spooled(_)) {
                let _ = self.client.poll_readable();
                // Clients of gRPC-Web say all they have to say at once.
                let is_call = is_call && !self.by_web;
                let idle_ends = if is_call {
                    call_ends
                } else {
                    self.last_up.saturating_add(self.bounds.client_body_idle)
                };
                until(idle_ends, Failure::ClientSlowBody);
                if self.bounds.min_rate > 0 && !is_call {
                    let grace_ends = self.started.saturating_add(self.bounds.min_rate_after);
                    if now >= grace_ends && self.is_too_slow(now) {
                        return Poll::Ready(Err(Failure::ClientSlowBody));
                    }
                    // Looked at again at the grace's end, then every second.
                    if now < grace_ends {
                        until(grace_ends, Failure::ClientSlowBody);
                    } else {
                        let _ = rt::poll_deadline(now.saturating_add(1_000));
                    }
                }
            }
        }
        if self.is_backed_up() {
            let _ = self.client.poll_writable();
            until(
                self.last_down.saturating_add(self.bounds.client_send_idle),
                Failure::ClientSlowRead,
            );
        }
        if !matches!(self.sink, Sink::Done) && self.down_room() > 0 {
            let _ = self.upstream.poll_readable();
            if self.facts.is_some() {
                let idle_ends = if is_call {
                    call_ends
                } else {
                    self.last_heard.saturating_add(self.own.upstream_idle)
                };
                until(idle_ends, Failure::UpstreamStalled);
            } else if self.upload_ended > 0 {
                until(
                    self.upload_ended.saturating_add(self.own.response),
                    Failure::UpstreamTimeout,
                );
            }
        }
        if self.lost {
            // Nobody tells when the last follower has left.
            let _ = rt::poll_deadline(now.saturating_add(1_000));
        }
        if self.client.poll_dead().is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        if nearest.0 != u64::MAX && rt::poll_deadline(nearest.0.max(1)).is_ready() {
            // The end of the grace is no failure by itself.
            if nearest.1 == Failure::ClientSlowBody
                && (!is_call || self.by_web)
                && !self.is_too_slow(now)
                && now < self.last_up.saturating_add(self.bounds.client_body_idle)
            {
                let _ = rt::poll_deadline(now.saturating_add(1_000));
                return Poll::Pending;
            }
            // What holds up a server's stream is not the server: others of its connection have their turn.
            if nearest.1 == Failure::UpstreamStalled
                && self.facts.is_none()
                && self.upstream.is_held_up()
            {
                self.last_up = now;
                let _ = rt::poll_deadline(now.saturating_add(self.own.upstream_idle));
                return Poll::Pending;
            }
            // A slow reader empties the kernel's buffer long before the socket is called writable again.
            if nearest.1 == Failure::ClientSlowRead && self.client_still_reads() {
                let _ =
                    rt::poll_deadline(self.last_down.saturating_add(self.bounds.client_send_idle));
                return Poll::Pending;
            }
            return Poll::Ready(Err(nearest.1));
        }
        Poll::Pending
    }

    /// Has the client taken bytes since this was last asked?
    fn client_still_reads(&mut self) -> bool {
        let unsent = self.client.unsent().unwrap_or(0);
        let progress =
            unsent < std::mem::replace(&mut self.unsent, unsent) || self.client.is_held_up();
        if progress {
            self.last_down = rt::now_ms();
        }
        progress
    }

    fn is_too_slow(&self, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.started);
        elapsed >= self.bounds.min_rate_after
            && self.bounds.min_rate > 0
            && self.received < self.bounds.min_rate.saturating_mul(elapsed / 1_000)
    }
}
