//! Forwarding: pick a server, check out a connection, send, maybe try again.
//!
//! An attempt is repeated only if nothing of it can have had an effect: the connect failed, or the request is idempotent
//! and no byte of a response came, or a reused connection took no byte of it. The body must still be at hand.

use std::rc::Rc;
use std::task::Poll;

use narthex_config::model::{Priority, Retry};
use narthex_message::Method;
use narthex_net::rt;
use narthex_upstream::{
    Admission, ConnectError, ConnectErrorKind, Connection, CoreCluster, Lease, Report, Reserved,
    Tried, Wish,
};

use narthex_wire::grpc_web::TextDecoder;

use crate::attempt::{Attempt, Limit};
use crate::connection::Next;
use crate::fail::Failure;
use crate::handle::{Exchange, Upload};
use crate::hedge::Stage;
use crate::relay::{Ended, Source};
use crate::runtime::millis;

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
        // What is not usual is boxed here: the future of a usual request does not carry its state.
        if self.is_to_be_buffered() {
            self.buffered = match Box::pin(self.buffer_request()).await {
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
        }
        let mut attempt = Attempt::of(Source::of(facts.body, self.goes_on(), extension));
        if self.is_web_text() && self.buffered.is_none() {
            attempt.decoder = Some(TextDecoder::default());
        }
        self.admission = match cluster.try_admit() {
            Some(admission) => admission,
            None => match Box::pin(self.admit(&cluster)).await {
                Ok(admission) => admission,
                Err(failure) => return self.fail(failure).await,
            },
        };
        let affinity = self.affinity(&cluster);
        let mut tries = Tries::default();
        if let Some(ms) = self.grpc_timeout() {
            // 0 would be none.
            tries.ends = rt::now_ms().saturating_add(ms).max(1);
            tries.asked = true;
        }
        loop {
            let wish = Wish {
                tried: &tries.tried,
                random: self.proxy.random(),
                key: affinity.key,
                server: affinity.tag,
            };
            let Ok(mut lease) = cluster.pick(&wish) else {
                self.admission = Admission::default();
                return self.fail(Failure::NoServer).await;
            };
            tries.begin(&lease);
            self.chosen(&cluster, &lease, &affinity);
            self.story.attempts += 1;
            self.story.attempt_us = rt::now_us();
            self.story.attempt_ended_us = 0;
            self.story.endpoint = Some(lease.handle());
            let entered = lease.try_enter();
            let new_only = self.wants_new(&lease, &tries);
            let idle = if entered && !new_only {
                lease.try_idle()
            } else {
                None
            };
            let mut connected = match idle {
                Some(connection) => Ok(connection),
                None => Box::pin(self.connect(&lease, &tries, entered, new_only)).await,
            };
            if lease.settings().hedge.is_some() {
                connected = match connected {
                    Ok(connection)
                        if connection.h2.is_none() && self.is_hedgeable(&tries, &affinity) =>
                    {
                        let stage = Stage {
                            cluster: &cluster,
                            affinity: &affinity,
                            tries: &mut tries,
                            attempt: &mut attempt,
                        };
                        // Boxed: a request without it does not carry its state.
                        let hedged = Box::pin(self.hedge(lease, connection, stage)).await;
                        lease = hedged.0;
                        hedged.1
                    }
                    other => other,
                };
            }
            let connection = match connected {
                Ok(connection) => connection,
                Err(failure) => {
                    let retry = lease.settings().retry.on_connect
                        && matches!(failure, Failure::Connect(kind) if blames(kind, &lease));
                    if retry && self.may_retry(&lease, &cluster, &tries, None) {
                        continue;
                    }
                    drop(lease);
                    self.admission = Admission::default();
                    return self.fail(failure).await;
                }
            };
            let mut reserved = None;
            if attempt.under_way.is_none() {
                if let Some(body) = &self.buffered {
                    attempt.source = Source::Spooled(Box::new(body.reader()));
                }
                (attempt.limit, reserved) = self.limit(&lease, &cluster, &tries, facts.method);
            }
            let reused = connection.reused;
            let result = self.attempt(&lease, connection, &mut attempt).await;
            if result.is_ok() {
                reserved = None;
            }
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
                        self.admission = Admission::default();
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
                    let raced = blame(&lease, failure, reused, attempt.limit);
                    let retry = &lease.settings().retry;
                    if !attempt.answered
                        && attempt.replayable
                        && is_repeatable(failure, facts.method, raced, attempt.silent, retry)
                        && ((raced && !tries.fresh_only)
                            || self.may_retry(&lease, &cluster, &tries, reserved))
                    {
                        // The first race costs nothing of the budget: it is ours, for keeping the connection.
                        tries.fresh_only |= raced;
                        self.work.down.clear();
                        continue;
                    }
                    // A client that takes its time with our answer is no load of the server's.
                    drop(lease);
                    self.admission = Admission::default();
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

    fn may_retry(
        &self,
        lease: &Lease,
        cluster: &CoreCluster,
        tries: &Tries,
        reserved: Option<Reserved<'_>>,
    ) -> bool {
        if self.story.attempts > lease.settings().retry.attempts || tries.left() == 0 {
            return false;
        }
        match reserved {
            Some(reserved) => {
                reserved.spend();
                true
            }
            None => cluster.may_retry(),
        }
    }

    /// How long this attempt may be silent, besides what the upstream's `timeout response` says; and the attempt after it, if it
    /// may be given up for another: of many that are silent at the same time, none may find the budget spent by the others.
    #[inline]
    pub(crate) fn limit<'c>(
        &self,
        lease: &Lease,
        cluster: &'c CoreCluster,
        tries: &Tries,
        method: Method,
    ) -> (Limit, Option<Reserved<'c>>) {
        let unbounded = tries.ends == 0 && lease.settings().retry.try_timeout.is_zero();
        if unbounded {
            // The usual case: nothing bounds it but the upstream's own time.
            return (Limit::NONE, None);
        }
        self.bounded(lease, cluster, tries, method)
    }

    #[cold]
    fn bounded<'c>(
        &self,
        lease: &Lease,
        cluster: &'c CoreCluster,
        tries: &Tries,
        method: Method,
    ) -> (Limit, Option<Reserved<'c>>) {
        let settings = lease.settings();
        let retry = &settings.retry;
        let left = tries.left();
        let mut limit = Limit {
            ms: left.max(1),
            // What is left may be so little that no server could have answered.
            hurried: (self.story.attempts > 1 || tries.asked)
                && left < millis(settings.timeouts.response),
            asked: tries.asked,
        };
        let alone = millis(retry.try_timeout);
        // The last attempt has all the time there is.
        if alone == 0
            || alone > limit.ms
            || !retry.on_timeout
            || !method.is_idempotent()
            || self.story.attempts > retry.attempts
        {
            return (limit, None);
        }
        let reserved = cluster.reserve_retry();
        if reserved.is_some() {
            limit = Limit {
                ms: alone,
                hurried: false,
                asked: false,
            };
        }
        (limit, reserved)
    }

    /// An answer that has begun cannot be taken back: its connection ends so that it cannot look complete.
    async fn give_up(&mut self, failure: Failure, answered: bool) -> Next {
        if !answered {
            return self.fail(failure).await;
        }
        self.story.failure = Some(failure);
        Next::Reset
    }

    /// Who waits less, by the route.
    pub(crate) fn priority(&self) -> Priority {
        self.route_config()
            .map_or_else(Priority::default, |r| r.settings.priority)
    }

    /// A place among the upstream's requests.
    async fn admit(&mut self, cluster: &CoreCluster) -> Result<Admission, Failure> {
        self.while_wanted(0, cluster.admit(self.priority())).await
    }

    /// No connection that was used before will do.
    fn wants_new(&self, lease: &Lease, tries: &Tries) -> bool {
        let once = self.facts.is_some_and(|f| !f.method.is_idempotent());
        tries.fresh_only || once && lease.is_racy()
    }

    /// Waits for a connection; `entered`: the request has its place at the server, where there was none to be had at once.
    async fn connect(
        &mut self,
        lease: &Lease,
        tries: &Tries,
        entered: bool,
        new_only: bool,
    ) -> Result<Connection, Failure> {
        let priority = self.priority();
        let connecting = async {
            if !entered {
                lease.enter(priority).await?;
                if !new_only && let Some(connection) = lease.try_idle() {
                    return Ok(connection);
                }
            }
            lease.connect(priority).await
        };
        let connected = self.while_wanted(tries.ends, connecting).await;
        if let Err(failure) = connected {
            blame_connect(lease, failure);
        }
        connected
    }

    /// What may take its time, until `ends` (milliseconds; 0: for ever). A client that goes away meanwhile leaves the queue,
    /// and its request is not sent.
    async fn while_wanted<T>(
        &self,
        ends: u64,
        work: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if self.account.is_condemned() {
                return Poll::Ready(Err(Failure::Shed));
            }
            let worked = work.as_mut().poll(cx).map_err(|error| {
                tracing::debug!(%error, "no connection");
                Failure::Connect(error.kind)
            });
            if worked.is_ready() {
                return worked;
            }
            rt::poll_deadline(ends).map(|()| Err(Failure::UpstreamTimeout))
        })
        .await
    }
}

/// What the attempts of one request have in common.
#[derive(Default)]
pub(crate) struct Tries {
    pub(crate) tried: Tried,
    /// After a reused connection died under a request, the next attempt is on a new one (RFC 9112 9.3.1).
    pub(crate) fresh_only: bool,
    /// There has been a second attempt beside another.
    pub(crate) hedged: bool,
    /// When the head of a response must have come, whatever attempt brings it (milliseconds); 0: there is no such time.
    pub(crate) ends: u64,
    /// The client has said so.
    pub(crate) asked: bool,
}

impl Tries {
    /// Notes an attempt; time runs from the first.
    fn begin(&mut self, lease: &Lease) {
        let within = lease.settings().retry.within;
        if self.tried.is_empty() && !within.is_zero() {
            let ends = rt::now_ms().saturating_add(millis(within));
            self.ends = if self.ends == 0 {
                ends
            } else {
                self.ends.min(ends)
            };
        }
        self.tried.add(lease);
    }

    /// Milliseconds that are left for another attempt.
    pub(crate) fn left(&self) -> u64 {
        if self.ends == 0 {
            return u64::MAX;
        }
        self.ends.saturating_sub(rt::now_ms())
    }
}

/// Says of a server what its attempt's failure says of it. True: a reused connection has died of the race of keep-alive, which
/// is nobody's fault.
pub(crate) fn blame(lease: &Lease, failure: Failure, reused: bool, limit: Limit) -> bool {
    let raced = reused && matches!(failure, Failure::UpstreamClosed { .. });
    if raced {
        lease.raced();
    }
    if let (Some(report), false) = (failure.report(), raced)
        && !(limit.hurried && is_timeout(failure))
    {
        lease.report(report);
    }
    raced
}

/// Says of a server what it means that it could not be reached.
pub(crate) fn blame_connect(lease: &Lease, failure: Failure) {
    let blamed = match failure {
        Failure::Connect(kind) => kind.blames_server(),
        // A server that lets us wait for its first word; not one that others keep busy.
        Failure::UpstreamTimeout => lease.is_dialing(),
        _ => false,
    };
    if blamed {
        lease.report(Report::ConnectFailed);
    }
}

/// A connect failure that another server may not have.
fn blames(kind: ConnectErrorKind, lease: &Lease) -> bool {
    match kind {
        ConnectErrorKind::QueueTimeout
        | ConnectErrorKind::Overload
        | ConnectErrorKind::Exhausted => false,
        // The only server has no more room for the second question than for the first.
        ConnectErrorKind::Limit => !lease.is_alone(),
        _ => true,
    }
}

/// May this request be sent once more? `silent`: not a byte of an answer came.
fn is_repeatable(
    failure: Failure,
    method: Method,
    raced: bool,
    silent: bool,
    retry: &Retry,
) -> bool {
    match failure {
        Failure::UpstreamClosed { sent: false } | Failure::UpstreamStatus(_) => true,
        Failure::UpstreamClosed { sent: true } => {
            method.is_idempotent() && (raced || retry.on_reset)
        }
        _ => is_timeout(failure) && silent && method.is_idempotent() && retry.on_timeout,
    }
}

fn is_timeout(failure: Failure) -> bool {
    matches!(failure, Failure::UpstreamTimeout | Failure::UpstreamStalled)
}
