//! Forwarding: pick a server, check out a connection, send, maybe try again.
//!
//! An attempt is repeated only if nothing of it can have had an effect: the connect failed, or the request is idempotent
//! and no byte of a response came, or a reused connection took no byte of it. The body must still be at hand.

use std::rc::Rc;
use std::task::Poll;

use narthex_message::Method;
use narthex_net::rt;
use narthex_upstream::{ConnectErrorKind, Connection, CoreCluster, Lease, Report, Tried, Wish};

use crate::attempt::Attempt;
use crate::connection::Next;
use crate::fail::Failure;
use crate::handle::{Exchange, Upload};
use crate::relay::{Ended, Source};

impl Exchange<'_> {
    /// Forwards to an upstream and brings its answer back.
    pub(crate) async fn forward(&mut self, upstream: usize) -> Next {
        let Some(cluster) = self.rt.clusters.get(upstream).map(|(c, _)| Rc::clone(c)) else {
            return self.fail(Failure::NoServer).await;
        };
        self.story.upstream = Some(upstream);
        let Some(facts) = self.facts else {
            return Next::Close;
        };
        let extension = self.plan().map_or(0, |p| p.bounds.chunk_extension);
        self.buffered = match self.buffer_request().await {
            Ok(buffered) => buffered,
            Err(failure) => {
                self.upload = Upload::Partly;
                return self.fail(failure).await;
            }
        };
        if let Some(body) = &self.buffered {
            self.account.set_base(body.held());
            self.upload = Upload::Whole;
        }
        let mut attempt = Attempt {
            source: Source::of(facts.body, extension),
            received: 0,
            answered: false,
            replayable: false,
            keep: false,
            unfed: None,
        };
        let affinity = self.affinity(&cluster);
        let mut tried = Tried::NONE;
        // After a reused connection died under a request, the next attempt is on a new one (RFC 9112 9.3.1).
        let mut fresh_only = false;
        loop {
            let wish = Wish {
                tried: &tried,
                random: self.proxy.random(),
                key: affinity.key,
                server: affinity.tag,
            };
            let Ok(lease) = cluster.pick(&wish) else {
                return self.fail(Failure::NoServer).await;
            };
            tried.add(&lease);
            self.chosen(&lease, &affinity);
            self.story.attempts += 1;
            self.story.attempt_us = rt::now_us();
            self.story.attempt_ended_us = 0;
            self.story.endpoint = Some(lease.handle());
            let connection = match self.connect(&lease, fresh_only).await {
                Ok(connection) => connection,
                Err(failure) => {
                    let retry = lease.settings().retry.on_connect
                        && matches!(failure, Failure::Connect(kind) if blames(kind));
                    if retry && self.may_retry(&lease, &cluster) {
                        continue;
                    }
                    return self.fail(failure).await;
                }
            };
            if let Some(body) = &self.buffered {
                attempt.source = Source::Spooled(Box::new(body.reader()));
            }
            let reused = connection.reused;
            let result = self.attempt(&lease, connection, &mut attempt).await;
            if self.buffered.is_none() {
                self.story.received = attempt.received;
                if !facts.body.is_empty() {
                    self.upload = match attempt.source {
                        Source::Done => Upload::Whole,
                        _ if attempt.received > 0 => Upload::Partly,
                        _ => self.upload,
                    };
                }
            }
            match result {
                Ok(Ended::Complete | Ended::Buffered) => {
                    if let Some(unfed) = attempt.unfed.take() {
                        // However slow the client is, it is no load of the server's any more.
                        drop(lease);
                        let before = self.story.sent;
                        if let Err(failure) = self.feed_client(unfed).await {
                            let answered = attempt.answered || self.story.sent > before;
                            return self.give_up(failure, answered).await;
                        }
                    }
                    return if attempt.keep {
                        Next::Keep
                    } else {
                        self.after_answer(&attempt.source)
                    };
                }
                Ok(Ended::Switched) => return Next::Close,
                Err(failure) => {
                    // The race of keep-alive is nobody's fault.
                    let raced = reused && matches!(failure, Failure::UpstreamClosed { .. });
                    if let (Some(report), false) = (failure.report(), raced) {
                        lease.report(report);
                    }
                    if !attempt.answered
                        && attempt.replayable
                        && is_repeatable(
                            failure,
                            facts.method,
                            raced,
                            lease.settings().retry.on_reset,
                        )
                        && ((raced && !fresh_only) || self.may_retry(&lease, &cluster))
                    {
                        // The first race costs nothing of the budget: it is ours, for keeping the connection.
                        fresh_only |= raced;
                        self.work.down.clear();
                        continue;
                    }
                    return self.give_up(failure, attempt.answered).await;
                }
            }
        }
    }

    /// The answer is complete and the last. The request may not be; and a client that did not ask for the end may have sent
    /// another, which we will not read (RFC 9112 9.6).
    fn after_answer(&self, source: &Source) -> Next {
        let expected = self.facts.is_some_and(|f| !f.keep_alive);
        if expected && matches!(source, Source::Done) && self.work.rest().is_empty() {
            Next::Close
        } else {
            Next::Linger
        }
    }

    fn may_retry(&self, lease: &Lease, cluster: &CoreCluster) -> bool {
        self.story.attempts <= lease.settings().retry.attempts && cluster.may_retry()
    }

    /// An answer that has begun cannot be taken back: its connection ends so that it cannot look complete.
    async fn give_up(&mut self, failure: Failure, answered: bool) -> Next {
        if !answered {
            return self.fail(failure).await;
        }
        self.story.failure = Some(failure);
        Next::Reset
    }

    async fn connect(&mut self, lease: &Lease, fresh_only: bool) -> Result<Connection, Failure> {
        if !fresh_only && let Some(connection) = lease.try_idle() {
            return Ok(connection);
        }
        let mut connecting = std::pin::pin!(lease.connect());
        // A client that goes away meanwhile leaves the queue, and its request is not sent.
        let connected = std::future::poll_fn(|cx| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if self.account.is_condemned() {
                return Poll::Ready(Err(Failure::Shed));
            }
            connecting.as_mut().poll(cx).map(Ok)
        });
        match connected.await {
            Err(failure) => Err(failure),
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                if error.blames_server() {
                    lease.report(Report::ConnectFailed);
                }
                tracing::debug!(server = lease.name(), %error, "connect failed");
                Err(Failure::Connect(error.kind))
            }
        }
    }
}

/// A connect failure that another server may not have.
fn blames(kind: ConnectErrorKind) -> bool {
    !matches!(kind, ConnectErrorKind::QueueTimeout)
}

/// May this request be sent once more?
fn is_repeatable(failure: Failure, method: Method, raced: bool, on_reset: bool) -> bool {
    match failure {
        Failure::UpstreamClosed { sent: false } | Failure::UpstreamStatus(_) => true,
        Failure::UpstreamClosed { sent: true } => method.is_idempotent() && (raced || on_reset),
        _ => false,
    }
}
