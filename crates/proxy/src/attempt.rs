//! One attempt at one server: what is sent, what came of it, and a tunnel if the protocol was switched.

use std::rc::Rc;

use narthex_config::model::RouteSettings;
use narthex_message::{BadResponse, Body, Method, Version};
use narthex_net::rt;
use narthex_upstream::{Connection, Lease, Report, Settings};
use narthex_wire::grpc_web::TextDecoder;
use narthex_wire::h1::chunk;

use crate::buffer::{self, Waiting};
use crate::downstream::ToClient;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::relay::{AttemptBounds, Ended, Relay, Source, UnderWay, spool_reserve};
use crate::runtime::millis;
use crate::spool::Spool;
use crate::tunnel;
use crate::work::Work;

/// What an attempt begins with, and what it leaves behind.
pub(crate) struct Attempt {
    /// What is left of the request's body.
    pub(crate) source: Source,
    /// Reads it, if it is Base64.
    pub(crate) decoder: Option<TextDecoder>,
    /// The request, if it has been sent already.
    pub(crate) under_way: Option<Box<UnderWay>>,
    /// How long the server may be silent.
    pub(crate) limit: Limit,
    /// Bytes of it that were taken from the client.
    pub(crate) received: u64,
    /// Part of the answer has reached the client: nothing can be said any more.
    pub(crate) answered: bool,
    /// Another attempt can send the same body.
    pub(crate) replayable: bool,
    /// Not a byte of an answer came.
    pub(crate) silent: bool,
    /// The client's connection can carry another request.
    pub(crate) keep: bool,
    /// What of the answer still waits for the client.
    pub(crate) unfed: Option<Unfed>,
}

/// A bound on an attempt, besides the upstream's.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    /// From the request's end to the response's head, in milliseconds.
    pub(crate) ms: u64,
    /// Earlier attempts, or the client's own bound, leave little time: that it is too short is not the server's fault.
    pub(crate) hurried: bool,
    /// It is the client's own: it does not wait for the request's end.
    pub(crate) asked: bool,
}

impl Limit {
    /// Nothing but the upstream's.
    pub(crate) const NONE: Self = Self {
        ms: u64::MAX,
        hurried: false,
        asked: false,
    };
}

/// An answer that the origin has given and the client has not taken.
pub(crate) struct Unfed {
    /// First byte of `work.down` that waits.
    down_at: usize,
    /// What comes behind it.
    spool: Box<Spool>,
}

impl Attempt {
    /// Nothing has been sent yet.
    pub(crate) fn of(source: Source) -> Self {
        Self {
            source,
            decoder: None,
            under_way: None,
            limit: Limit::NONE,
            received: 0,
            answered: false,
            replayable: false,
            silent: true,
            keep: false,
            unfed: None,
        }
    }
}

impl Exchange<'_> {
    /// One try at one server.
    pub(crate) async fn attempt(
        &mut self,
        lease: &Lease,
        connection: Connection,
        attempt: &mut Attempt,
    ) -> Result<Ended, Failure> {
        let rt = Rc::clone(&self.rt);
        let (Some(facts), Some(plan)) = (self.facts, rt.runtime.listeners.get(self.listener))
        else {
            return Err(Failure::NoServer);
        };
        let by_stream = connection.h2.is_some();
        let mut by_connect = false;
        if let Some(stream) = &connection.h2 {
            let tunnel = match facts.upgrade {
                // Boxed: a request without it does not carry its state.
                Some(_) => {
                    let within = millis(lease.settings().timeouts.connect);
                    Box::pin(self.tunnel_by(stream, within)).await
                }
                None => None,
            };
            if !self.open_stream(lease, stream, tunnel.as_ref()) {
                return Err(Failure::UpstreamClosed { sent: false });
            }
            by_connect = tunnel.is_some();
        } else if self.web.is_some() {
            // A server that might have agreed to HTTP/2 and did not.
            return Err(Failure::UpstreamInvalid(BadResponse::Version));
        }
        let received = attempt.received;
        let body = self.body_upwards(by_stream);
        let source = self.source_of(attempt, body, by_stream);
        let settings = lease.settings();
        let route = (rt.runtime.config.sites)
            .get(self.site.unwrap_or(usize::MAX))
            .and_then(|site| site.routes.get(self.route?))
            .map(|route| &route.settings);
        let own = self.bounds_of(settings, route, attempt.limit, by_stream);

        let under_way = attempt.under_way.take();
        let fresh = under_way.is_none();
        let begun_us = under_way.as_ref().map_or_else(rt::now_us, |u| u.begun_us());
        let upgrading = if fresh && !by_stream {
            self.write_head(lease, &connection)
        } else {
            None
        };
        let stand_in = self.work.stand_in.take().unwrap_or_default();
        let mut work = std::mem::replace(&mut self.work, stand_in);
        work.response.clear();
        if let Some(index) = &mut work.response_index {
            index.clear();
        }
        work.response_trailers.clear();
        let plain = body == Body::None && matches!(source, Source::Done) && work.replay.is_empty();
        let behind = if plain {
            Vec::new()
        } else {
            self.bring_body(fresh, &source, body, by_stream, &mut work)
        };
        let to_client = ToClient {
            exchange: self,
            lease,
            keep: false,
        };
        let mut relay = Relay::new(
            &self.client.stream,
            &connection.stream,
            &mut work,
            to_client,
            &plan.bounds,
            own,
            facts.method,
            facts.version,
            source,
        );
        if let Some(under_way) = under_way {
            relay.resume(*under_way);
        }
        if !behind.is_empty() {
            relay.up_behind = behind;
        }
        if attempt.decoder.is_some() {
            relay.decoder = attempt.decoder.take();
        }
        relay.by_web = self.web.is_some();
        relay.client_h2 = self.client.h2.as_deref();
        if let Some(stream) = &connection.h2 {
            relay.h2 = Some(&***stream);
            // The head.
            relay.sent = 1;
        }
        relay.received = received;
        relay.expects_continue = facts.expects_continue && received == 0 && self.buffered.is_none();
        relay.upgrading = upgrading;
        relay.by_connect = by_connect;
        relay.connects = facts.version == Version::Http2 && facts.upgrade.is_some();
        if facts.method.is_idempotent() && self.story.attempts <= settings.retry.attempts {
            relay.retry_statuses = &settings.retry.on_status;
        }
        relay.client_trailers = facts.trailers;
        if let Some(rule) = route.and_then(|r| r.buffer_response.as_ref()) {
            relay.spool = Some(buffer::response_spool(rule, spool_reserve(&plan.bounds)));
        }
        if let Some(caching) = &self.caching {
            relay.nobody = Some(&self.proxy.nobody);
            relay.unseen = caching.is_behind();
        }
        let result = relay.run(&self.account).await;

        let clean = relay.is_upstream_clean();
        let hint = relay
            .facts
            .and_then(|f| f.keep_alive_hint)
            .map(|s| s.saturating_mul(1_000));
        let status = relay.facts.map(|f| f.status);
        let (down_at, spool) = relay.take_waiting();
        // An interim answer that is half out cannot be followed by one of ours either, wherever its other half waits.
        let halved = down_at > 0 || spool.as_ref().is_some_and(|s| !s.is_empty());
        attempt.answered = relay.delivered > 0 && (status.is_some() || halved);
        attempt.replayable = relay.is_replayable();
        attempt.silent = relay.is_silent();
        if let Some(us) = relay.latency_us(begun_us, result) {
            lease.latency(us, status);
        }
        attempt.keep = relay.downstream.keep && relay.is_upload_done() && result.is_ok();
        attempt.received = relay.received;
        attempt.source = std::mem::replace(&mut relay.source, Source::Done);
        attempt.decoder = relay.decoder.take();
        let (delivered, body_bytes) = (relay.delivered, relay.body_bytes);
        let stand_in = std::mem::replace(&mut self.work, work);
        self.work.stand_in = Some(stand_in);
        self.story.attempt_ended_us = rt::now_us();
        self.story.sent += delivered;
        self.story.body_sent = body_bytes;
        if let Some(status) = status {
            self.story.status = status;
        }
        if let (Ok(_), Some(status)) = (result, status) {
            lease.report(if status >= 500 {
                Report::Status(status)
            } else {
                Report::Ok
            });
        }
        match result {
            // A connection that announced one client must not carry another's requests.
            Ok(Ended::Complete | Ended::Buffered)
                if clean
                    && settings.proxy_protocol.is_none()
                    && !is_body_overlooked(facts.method, body) =>
            {
                lease.release(connection, hint);
            }
            // Boxed, as above.
            Ok(Ended::Switched) => Box::pin(self.tunnel(connection)).await,
            // An origin that is not used again is let go before its client is fed.
            _ => drop(connection),
        }
        if let (Ok(Ended::Buffered), Some(spool)) = (result, spool) {
            attempt.unfed = Some(Unfed { down_at, spool });
        }
        result
    }

    /// What is to be sent of the request's body.
    #[inline]
    fn source_of(&self, attempt: &mut Attempt, body: Body, by_stream: bool) -> Source {
        match (std::mem::replace(&mut attempt.source, Source::Done), body) {
            // A server of HTTP/1 that was told a length has the whole request with its last byte.
            (Source::Stream, Body::Length(n)) if !by_stream => {
                Source::of(Body::Length(n.saturating_sub(attempt.received)), false, 0)
            }
            (Source::Length(_), _) if by_stream && self.goes_on() => Source::Stream,
            (source, _) => source,
        }
    }

    #[inline]
    fn bounds_of(
        &self,
        settings: &Settings,
        route: Option<&RouteSettings>,
        limit: Limit,
        by_stream: bool,
    ) -> AttemptBounds {
        // What a server of HTTP/2 has refused can be sent again, whatever it is.
        let replays = self
            .facts
            .is_some_and(|f| !f.body.is_empty() && (by_stream || f.method.is_idempotent()));
        AttemptBounds {
            response: settings.ms.response.min(limit.ms),
            upstream_idle: settings.ms.body_idle,
            body_max: route.and_then(|r| r.body_max).unwrap_or(u64::MAX),
            replay_max: if replays && settings.retry.attempts > 0 {
                settings.retry.body_max as usize
            } else {
                0
            },
            deadline: if limit.asked {
                rt::now_ms().saturating_add(limit.ms)
            } else {
                u64::MAX
            },
            call_idle: match route {
                Some(route) if self.calls_grpc() => millis(route.tunnel_idle),
                _ => 0,
            },
        }
    }

    /// Puts into `work.up` what is at hand of a body: of an attempt before this one, or taken whole. What follows the rest.
    #[inline(never)]
    fn bring_body(
        &self,
        fresh: bool,
        source: &Source,
        body: Body,
        by_stream: bool,
        work: &mut Work,
    ) -> Vec<u8> {
        let replayed = std::mem::take(&mut work.replay);
        let whole = matches!(source, Source::Done);
        let mut behind = Vec::new();
        let taken = whole || matches!(source, Source::Spooled(_));
        if fresh && taken && body == Body::Chunked && !by_stream {
            self.end_chunks(work, &mut behind);
        }
        if fresh && (!replayed.is_empty() || (whole && body == Body::Chunked)) {
            if by_stream {
                work.up.extend_from_slice(&replayed);
            } else {
                append_replay(&replayed, body, whole.then_some(&behind), &mut work.up);
            }
            work.replay = replayed;
        }
        if let (Source::Spooled(reader), Some(buffered)) = (source, &self.buffered)
            && !behind.is_empty()
            && !reader.is_empty()
        {
            // All of it is one chunk.
            chunk::size_line(
                usize::try_from(buffered.len()).unwrap_or(usize::MAX),
                &mut work.up,
            );
            behind.splice(..0, *b"\r\n");
        }
        behind
    }

    /// The origin's part is done: the client takes the rest at its own pace.
    pub(crate) async fn feed_client(&mut self, unfed: Unfed) -> Result<(), Failure> {
        let Unfed { down_at, mut spool } = unfed;
        let idle = self.plan().map_or(0, |p| p.bounds.client_send_idle);
        let head = self.work.down.get(down_at..).unwrap_or_default();
        let memory = self.work.held();
        let waiting = Waiting {
            head,
            spool: &mut spool,
            memory,
        };
        let (sent, result) = buffer::feed(&self.client.stream, waiting, idle, &self.account).await;
        self.story.sent += sent;
        if let Some(error) = spool.take_disk_error() {
            narthex_observe::warn_throttled!(%error, "an answer was buffered in memory only; check the buffer directory and its space");
        }
        tracing::trace!(
            spilled = spool.spilled_bytes(),
            sent,
            "a buffered answer was fed"
        );
        result
    }

    /// After `101`: bytes both ways until both ends are done.
    async fn tunnel(&mut self, connection: Connection) {
        let idle = self
            .route_config()
            .map_or(0, |r| millis(r.settings.tunnel_idle));
        let ended = tunnel::run(
            &self.client.stream,
            &connection.stream,
            &mut self.work,
            idle,
            &self.account,
        )
        .await;
        if ended.shed {
            self.story.failure = Some(Failure::Shed);
        }
        self.story.received += ended.up;
        self.story.body_sent += ended.down;
        self.story.sent += ended.down;
    }
}

/// May a server overlook this body, and take it for the next request (CL.0)? It would answer that on the same connection,
/// at any time, to whoever is served there then. RFC 9110 9.3.1 warns of bodies where none is usual.
fn is_body_overlooked(method: Method, body: Body) -> bool {
    !body.is_empty()
        && matches!(
            method,
            Method::Get | Method::Head | Method::Delete | Method::Options
        )
}

/// The body bytes of an earlier attempt, in this attempt's framing. `end`: of the chunks, if they are all.
fn append_replay(bytes: &[u8], body: Body, end: Option<&Vec<u8>>, out: &mut Vec<u8>) {
    if body == Body::Chunked {
        // A chunk of no bytes would be the last.
        if !bytes.is_empty() {
            chunk::size_line(bytes.len(), out);
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(end.map_or(&[], Vec::as_slice));
    } else {
        out.extend_from_slice(bytes);
    }
}
