//! Hedging: a request that may be sent twice, and whose server has not begun to answer in time, is sent to another server as
//! well. Whichever is first with the head of an answer that can be passed on is heard to the end by the relay, which finds the
//! request sent already; the other's connection is closed.
//!
//! What has come is looked at and not taken, so that the relay finds all of it, too. The stage ends as soon as one of the two is
//! left, for whatever reason: the relay can wait for one as well as this can.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use narthex_config::model::Priority;
use narthex_message::{BadResponse, Head, Index, Method, validate};
use narthex_net::rt;
use narthex_net::scratch;
use narthex_upstream::{ConnectError, Connection, CoreCluster, Lease, NoHedge, Wish};
use narthex_wire::h1::scan::{self, HeadLimits, Progress};

use crate::affinity::Affinity;
use crate::attempt::{Attempt, Limit};
use crate::fail::Failure;
use crate::forward::{self, Tries};
use crate::handle::Exchange;
use crate::metrics::HedgeEnd;
use crate::relay::{Source, UnderWay};
use crate::runtime::millis;

/// A head that is not complete in so many bytes is the relay's to judge.
const LOOK: usize = 16 * 1024;

/// What a hedged attempt works with.
pub(crate) struct Stage<'a> {
    pub(crate) cluster: &'a CoreCluster,
    pub(crate) affinity: &'a Affinity,
    pub(crate) tries: &'a mut Tries,
    pub(crate) attempt: &'a mut Attempt,
}

/// One of the two attempts.
struct Leg {
    lease: Lease,
    connection: Connection,
    request: UnderWay,
    limit: Limit,
    /// A byte of an answer has come.
    heard: bool,
}

/// What an answer's head is judged by.
#[derive(Clone, Copy)]
struct Rules {
    method: Method,
    limits: HeadLimits,
    informational: u32,
}

/// How connecting to the second server ended.
enum Reached {
    /// It did not: the first has answered.
    Needless,
    Connected(Connection),
    Not(Failure),
}

/// Who is left, and why the other is not waited for: it failed, or it was slower.
enum Left {
    First(Option<Failure>),
    Second(Option<Failure>),
}

impl Exchange<'_> {
    /// May this attempt have another beside it? A client that a cookie sends to its server has nothing to expect of others.
    pub(crate) fn is_hedgeable(&self, tries: &Tries, affinity: &Affinity) -> bool {
        let may = |f: narthex_message::RequestFacts| {
            f.method.is_idempotent()
                && f.upgrade.is_none()
                && (f.body.is_empty() && !self.goes_on() || self.buffered.is_some())
                && self.work.request_trailers.is_empty()
        };
        !tries.hedged && affinity.tag.is_none() && self.facts.is_some_and(may)
    }

    /// Sends the request on this connection, and to another server if there is no answer in time. Leaves who is to be heard,
    /// with the request under way there.
    pub(crate) async fn hedge(
        &mut self,
        lease: Lease,
        connection: Connection,
        mut stage: Stage<'_>,
    ) -> (Lease, Result<Connection, Failure>) {
        if self.story.attempts == 1 {
            stage.cluster.earn_hedge();
        }
        let mut first = self.begin(lease, connection, &stage);
        match self.until_due(&mut first).await {
            Ok(true) => {}
            Ok(false) => return first.hand_over(stage.attempt),
            Err(failure) => return (first.lease, Err(failure)),
        }
        let wish = Wish {
            key: stage.affinity.key,
            ..Wish::any(&stage.tries.tried, self.proxy.random())
        };
        if stage.tries.left() == 0 {
            return first.hand_over(stage.attempt);
        }
        // Its place among the upstream's requests is needed for as long as there are two.
        let (second, _admission) = match stage.cluster.hedge(&wish) {
            Ok(chosen) => chosen,
            Err(why) => {
                self.count(match why {
                    NoHedge::OverBudget => HedgeEnd::OverBudget,
                    NoHedge::NoServer => HedgeEnd::NoServer,
                });
                return first.hand_over(stage.attempt);
            }
        };
        stage.tries.tried.add(&second);
        stage.tries.hedged = true;
        self.story.attempts += 1;
        self.race(first, second, &mut stage).await
    }

    /// Both at once, until one is left.
    async fn race(
        &mut self,
        first: Leg,
        second: Lease,
        stage: &mut Stage<'_>,
    ) -> (Lease, Result<Connection, Failure>) {
        let mut first = Some(first);
        let reached = {
            let connecting = reach(&second, self.priority(), stage.tries.fresh_only);
            self.while_connecting(&mut first, pin!(connecting), stage.tries.ends)
                .await
        };
        let connection = match (reached, first.take()) {
            (Ok(Reached::Connected(connection)), running) => {
                first = running;
                connection
            }
            (Ok(Reached::Needless), Some(first)) => {
                second.given_up(0);
                self.count(HedgeEnd::Lost);
                return first.hand_over(stage.attempt);
            }
            (Ok(Reached::Not(failure)), running) => {
                forward::blame_connect(&second, failure);
                self.count(HedgeEnd::Failed);
                return match running {
                    Some(first) => first.hand_over(stage.attempt),
                    None => (second, Err(failure)),
                };
            }
            (Ok(Reached::Needless), None) => return (second, Err(Failure::NoServer)),
            (Err(failure), _) => {
                self.count(HedgeEnd::Abandoned);
                return (second, Err(failure));
            }
        };
        let mut second = self.begin(second, connection, stage);
        let Some(mut first) = first else {
            return self.turn_to(second, stage);
        };
        match self.first_of(&mut first, &mut second).await {
            Ok(Left::First(failure)) => {
                self.count(if failure.is_some() {
                    HedgeEnd::Failed
                } else {
                    HedgeEnd::Lost
                });
                second.end(failure);
                first.hand_over(stage.attempt)
            }
            Ok(Left::Second(failure)) => {
                first.end(failure);
                self.turn_to(second, stage)
            }
            Err(failure) => {
                self.count(HedgeEnd::Abandoned);
                (first.lease, Err(failure))
            }
        }
    }

    /// The second is the one to be heard: it is what the request's record and its cookie say.
    fn turn_to(&mut self, leg: Leg, stage: &mut Stage<'_>) -> (Lease, Result<Connection, Failure>) {
        self.count(HedgeEnd::Won);
        self.chosen(stage.cluster, &leg.lease, stage.affinity);
        self.story.endpoint = Some(leg.lease.handle());
        self.story.attempt_us = leg.request.begun_us();
        leg.hand_over(stage.attempt)
    }

    fn count(&self, end: HedgeEnd) {
        let upstream = self.story.upstream.and_then(|u| self.rt.clusters.get(u));
        if let Some(hedges) = upstream.and_then(|(_, metrics)| metrics.hedges.as_ref()) {
            hedges.ended(self.proxy.core, end);
        }
    }

    /// Makes the request for this server.
    fn begin(&mut self, lease: Lease, connection: Connection, stage: &Stage<'_>) -> Leg {
        self.write_head(&lease, &connection);
        let head = std::mem::take(&mut self.work.up);
        let source = self.buffered.as_ref().map_or(Source::Done, |body| {
            Source::Spooled(Box::new(body.reader()))
        });
        let method = self.facts.map_or(Method::Other, |f| f.method);
        Leg {
            limit: self.limit(&lease, stage.cluster, stage.tries, method).0,
            lease,
            connection,
            request: UnderWay::new(head, source),
            heard: false,
        }
    }

    /// Sends, and waits for a byte of the answer; true: there was none in time.
    async fn until_due(&self, leg: &mut Leg) -> Result<bool, Failure> {
        let settings = leg.lease.settings();
        let after = settings
            .hedge
            .as_ref()
            .map_or(u64::MAX, |h| millis(h.after));
        let (after, most) = (after.max(1), leg.response_ms());
        let wait = |leg: &mut Leg, cx: &mut Context<'_>| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            let stream = &leg.connection.stream;
            leg.request.send(stream, cx)?;
            let heard = stream.poll_readable().is_ready();
            if heard || leg.request.is_broken() {
                return Poll::Ready(Ok(false));
            }
            match leg.request.ended() {
                Some(ended) => rt::poll_deadline(ended.saturating_add(after.min(most)))
                    .map(|()| Ok(after < most)),
                None => rt::poll_deadline(leg.stalled_at()).map(|()| Ok(false)),
            }
        };
        std::future::poll_fn(|cx| {
            let held = |leg: &Leg| self.work.held() + leg.request.held();
            self.account.poll(leg, cx, wait, held)
        })
        .await
    }

    /// Connects to the second server while the first may still answer. A first that fails is taken away.
    async fn while_connecting(
        &self,
        first: &mut Option<Leg>,
        mut connecting: Pin<&mut impl Future<Output = Result<Connection, ConnectError>>>,
        ends: u64,
    ) -> Result<Reached, Failure> {
        let Some(rules) = self.rules() else {
            return Err(Failure::NoServer);
        };
        let mut index = Index::default();
        let mut step = |first: &mut Option<Leg>, cx: &mut Context<'_>| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if let Some(Poll::Ready(seen)) = first.as_mut().map(|l| l.poll(rules, &mut index, cx)) {
                match seen {
                    Ok(()) => return Poll::Ready(Ok(Reached::Needless)),
                    Err(failure) => {
                        if let Some(leg) = first.take() {
                            leg.end(Some(failure));
                        }
                    }
                }
            }
            match connecting.as_mut().poll(cx) {
                Poll::Ready(Ok(connection)) => Poll::Ready(Ok(Reached::Connected(connection))),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "no connection for a second attempt");
                    Poll::Ready(Ok(Reached::Not(Failure::Connect(error.kind))))
                }
                Poll::Pending => {
                    rt::poll_deadline(ends).map(|()| Ok(Reached::Not(Failure::UpstreamTimeout)))
                }
            }
        };
        std::future::poll_fn(|cx| {
            let held = |first: &Option<Leg>| {
                self.work.held() + first.as_ref().map_or(0, |l| l.request.held())
            };
            self.account.poll(first, cx, &mut step, held)
        })
        .await
    }

    /// Waits until one of the two has answered, or failed.
    async fn first_of(&self, first: &mut Leg, second: &mut Leg) -> Result<Left, Failure> {
        let Some(rules) = self.rules() else {
            return Err(Failure::NoServer);
        };
        let mut index = Index::default();
        let mut step = |(first, second): &mut (&mut Leg, &mut Leg), cx: &mut Context<'_>| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if let Poll::Ready(seen) = first.poll(rules, &mut index, cx) {
                return Poll::Ready(Ok(match seen {
                    Ok(()) => Left::First(None),
                    Err(failure) => Left::Second(Some(failure)),
                }));
            }
            second.poll(rules, &mut index, cx).map(|seen| {
                Ok(match seen {
                    Ok(()) => Left::Second(None),
                    Err(failure) => Left::First(Some(failure)),
                })
            })
        };
        let mut both = (first, second);
        std::future::poll_fn(|cx| {
            let held = |(first, second): &(&mut Leg, &mut Leg)| {
                self.work.held() + first.request.held() + second.request.held()
            };
            self.account.poll(&mut both, cx, &mut step, held)
        })
        .await
    }

    fn rules(&self) -> Option<Rules> {
        let plan = self.plan()?;
        Some(Rules {
            method: self.facts?.method,
            limits: plan.bounds.response_limits,
            informational: plan.bounds.informational,
        })
    }
}

impl Leg {
    /// Sends on and looks at what came. Ready when it answers acceptably, or has failed.
    fn poll(
        &mut self,
        rules: Rules,
        index: &mut Index,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        self.request.send(&self.connection.stream, cx)?;
        if let Some(seen) = self.look(rules, index) {
            return Poll::Ready(seen);
        }
        let _ = self.connection.stream.poll_readable();
        let (deadline, failure) = match self.request.ended() {
            Some(ended) => (
                ended.saturating_add(self.response_ms()),
                Failure::UpstreamTimeout,
            ),
            None => (self.stalled_at(), Failure::UpstreamStalled),
        };
        rt::poll_deadline(deadline).map(|()| Err(failure))
    }

    /// What has come of the answer, if that can be judged; nothing of it is taken.
    fn look(&mut self, rules: Rules, index: &mut Index) -> Option<Result<(), Failure>> {
        let stream = &self.connection.stream;
        let sent = self.request.is_begun();
        let closed = move |heard: bool| {
            Some(Err(if heard {
                Failure::UpstreamTruncated
            } else {
                Failure::UpstreamClosed { sent }
            }))
        };
        if !stream.is_readable() {
            return if self.request.is_broken() {
                closed(self.heard)
            } else {
                None
            };
        }
        scratch::with(|buffer| {
            let area = buffer.get_mut(..LOOK).unwrap_or_default();
            // Before it is looked: whoever has ended then has said all there is to see.
            let ended = stream.is_read_ended();
            match stream.try_peek(area) {
                Ok(0) => closed(self.heard),
                Ok(n) => {
                    self.heard = true;
                    let retry = &self.lease.settings().retry.on_status;
                    match judge(area.get(..n).unwrap_or_default(), rules, retry, index) {
                        Some(seen) => Some(seen),
                        None if n >= LOOK => Some(Ok(())),
                        None if ended => closed(true),
                        None => {
                            // What has been seen announces nothing any more.
                            stream.seen();
                            None
                        }
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.request.is_broken() {
                        closed(self.heard)
                    } else {
                        None
                    }
                }
                Err(_) => closed(self.heard),
            }
        })
    }

    /// How long the server may take to its response's head, from the request's end. Milliseconds.
    fn response_ms(&self) -> u64 {
        self.lease.settings().ms.response.min(self.limit.ms)
    }

    /// When it has not taken anything for too long.
    fn stalled_at(&self) -> u64 {
        let idle = self.lease.settings().ms.body_idle;
        self.request.last_up().saturating_add(idle)
    }

    /// It is not waited for any longer: it failed, or the other was faster.
    fn end(self, failure: Option<Failure>) {
        let silent_us = self.request.silent_us();
        let Some(failure) = failure else {
            return self.lease.given_up(silent_us);
        };
        if failure == Failure::UpstreamTimeout {
            self.lease.latency(silent_us, None);
        }
        forward::blame(&self.lease, failure, self.connection.reused, self.limit);
    }

    /// The relay goes on with it.
    fn hand_over(self, attempt: &mut Attempt) -> (Lease, Result<Connection, Failure>) {
        if self.heard {
            // Seen, and still there to be read.
            self.connection.stream.unseen();
        }
        attempt.limit = self.limit;
        attempt.under_way = Some(Box::new(self.request));
        (self.lease, Ok(self.connection))
    }
}

/// Can this beginning of an answer be passed on? Not yet known if its head is not complete.
fn judge(
    mut bytes: &[u8],
    rules: Rules,
    retry_statuses: &[u16],
    index: &mut Index,
) -> Option<Result<(), Failure>> {
    let invalid = |bad: BadResponse| Some(Err(Failure::UpstreamInvalid(bad)));
    for _ in 0..=rules.informational {
        index.clear();
        let end = match scan::response(bytes, index, &rules.limits) {
            Ok(Progress::Complete(end)) => end,
            Ok(Progress::Partial) => return None,
            Err(bad) => return invalid(bad),
        };
        let (head, rest) = bytes.split_at_checked(end)?;
        let facts = match validate::response(Head::new(head, index), rules.method) {
            Ok(facts) => facts,
            Err(bad) => return invalid(bad),
        };
        match facts.status {
            101 => return invalid(BadResponse::UnexpectedSwitch),
            100..200 => bytes = rest,
            status if retry_statuses.contains(&status) => {
                return Some(Err(Failure::UpstreamStatus(status)));
            }
            _ => return Some(Ok(())),
        }
    }
    invalid(BadResponse::TooManyInformational)
}

/// A place at the server and a connection to it, now or in its queues.
async fn reach(
    lease: &Lease,
    priority: Priority,
    new_only: bool,
) -> Result<Connection, ConnectError> {
    lease.enter(priority).await?;
    let idle = if new_only { None } else { lease.try_idle() };
    match idle {
        Some(connection) => Ok(connection),
        None => lease.connect(priority).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        method: Method::Get,
        limits: HeadLimits {
            line: 100,
            field: 100,
            head: 200,
            fields: 5,
        },
        informational: 2,
    };

    /// `None`: not yet known.
    fn seen(bytes: &str) -> Option<Result<(), Failure>> {
        judge(bytes.as_bytes(), RULES, &[503], &mut Index::default())
    }

    #[test]
    fn a_head_is_judged_when_it_is_complete() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        let head = whole.len() - 3;
        for end in 0..=whole.len() {
            let known = (end >= head).then_some(Ok(()));
            assert_eq!(seen(&whole[..end]), known, "{end}");
        }
        for status in [204, 304, 404, 500, 502] {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(seen(&head), Some(Ok(())), "{status}");
        }
    }

    #[test]
    fn interim_heads_are_passed_over_up_to_their_bound() {
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(seen(interim), None);
        assert_eq!(seen(&[interim, interim, last].concat()), Some(Ok(())));
        let many = [interim, interim, interim, last].concat();
        let bad = Failure::UpstreamInvalid(BadResponse::TooManyInformational);
        assert_eq!(seen(&many), Some(Err(bad)));
    }

    #[test]
    fn what_cannot_be_passed_on_has_failed() {
        let failed = |bytes: &str| matches!(seen(bytes), Some(Err(Failure::UpstreamInvalid(_))));
        assert!(failed("HTTP/1.1 2x0 OK\r\n\r\n"));
        assert!(failed("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
        assert!(failed(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
        ));
        assert!(failed(&format!(
            "HTTP/1.1 200 OK\r\nA: {}\r\n\r\n",
            "a".repeat(200)
        )));
        assert_eq!(
            seen("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
            Some(Err(Failure::UpstreamStatus(503)))
        );
    }
}
