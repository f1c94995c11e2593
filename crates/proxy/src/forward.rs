//! Forwarding: pick a server, check out a connection, send, maybe try again.
//!
//! An attempt is repeated only if nothing of it can have had an effect: the connect failed, or the request is idempotent
//! and no byte of a response came, or a reused connection took no byte of it. The body must still be at hand.

use std::rc::Rc;
use std::task::Poll;

use narthex_config::model::{ForwardedStyle, RouteSettings, UpstreamHost};
use narthex_message::field::BELIEVED;
use narthex_message::head::Version;
use narthex_message::{Body, Method, RequestFacts, validate};
use narthex_net::proxy_header;
use narthex_net::rt;
use narthex_upstream::{ConnectErrorKind, Connection, CoreCluster, Lease, Report, Tried};
use narthex_wire::h1::chunk;
use narthex_wire::h1::encode::{self, Keep};

use crate::buffer::{self, Waiting};
use crate::connection::Next;
use crate::downstream::ToClient;
use crate::fail::Failure;
use crate::handle::{Exchange, Upload};
use crate::identity;
use crate::relay::{AttemptBounds, Ended, Relay, Source};
use crate::runtime::millis;
use crate::spool::Spool;
use crate::tunnel;

/// What an attempt begins with, and what it leaves behind.
struct Attempt {
    /// What is left of the request's body.
    source: Source,
    /// Bytes of it that were taken from the client.
    received: u64,
    /// Part of the answer has reached the client: nothing can be said any more.
    answered: bool,
    /// Another attempt can send the same body.
    replayable: bool,
    /// The client's connection can carry another request.
    keep: bool,
    /// What of the answer still waits for the client.
    unfed: Option<Unfed>,
}

/// An answer that the origin has given and the client has not taken.
struct Unfed {
    /// First byte of `work.down` that waits.
    down_at: usize,
    /// What comes behind it.
    spool: Box<Spool>,
}

impl Exchange<'_> {
    /// Forwards to an upstream and brings its answer back.
    pub(crate) async fn forward(&mut self, upstream: usize) -> Next {
        let Some((cluster, _)) = self
            .rt
            .clusters
            .get(upstream)
            .map(|(c, m)| (Rc::clone(c), m.clone()))
        else {
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
        let mut tried = Tried::NONE;
        // After a reused connection died under a request, the next attempt is on a new one (RFC 9112 9.3.1).
        let mut fresh_only = false;
        loop {
            let Ok(lease) = cluster.pick(&tried, self.proxy.random()) else {
                return self.fail(Failure::NoServer).await;
            };
            tried.add(&lease);
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

    /// One try at one server.
    async fn attempt(
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
        let source = std::mem::replace(&mut attempt.source, Source::Done);
        let received = attempt.received;
        let settings = lease.settings();
        let idempotent = facts.method.is_idempotent();
        let own = AttemptBounds {
            response: millis(settings.timeouts.response),
            upstream_idle: millis(settings.timeouts.body_idle),
            body_max: self
                .route_config()
                .and_then(|r| r.settings.body_max)
                .unwrap_or(u64::MAX),
            replay_max: if idempotent && settings.retry.attempts > 0 && !facts.body.is_empty() {
                settings.retry.body_max as usize
            } else {
                0
            },
        };

        let upgrading = self.write_head(lease, &connection);
        let mut work = std::mem::replace(&mut self.work, self.proxy.take_work());
        work.response.clear();
        work.response_index.clear();
        let replayed = std::mem::take(&mut work.replay);
        let whole = matches!(source, Source::Done);
        if !replayed.is_empty() || (whole && facts.body == Body::Chunked) {
            append_replay(&replayed, facts.body, whole, &mut work.up);
            work.replay = replayed;
        }
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
        relay.received = received;
        relay.expects_continue = facts.expects_continue && received == 0 && self.buffered.is_none();
        relay.upgrading = upgrading;
        if idempotent && self.story.attempts <= settings.retry.attempts {
            relay.retry_statuses = &settings.retry.on_status;
        }
        relay.client_trailers = facts.trailers;
        relay.spool = self
            .route_config()
            .and_then(|r| r.settings.buffer_response.as_ref())
            .map(buffer::response_spool);
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
        attempt.keep = relay.downstream.keep && relay.is_upload_done() && result.is_ok();
        attempt.received = relay.received;
        attempt.source = std::mem::replace(&mut relay.source, Source::Done);
        let (delivered, body_bytes) = (relay.delivered, relay.body_bytes);
        self.proxy
            .give_back_unused(std::mem::replace(&mut self.work, work));
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
                if clean && settings.proxy_protocol.is_none() && !is_body_overlooked(&facts) =>
            {
                lease.release(connection, hint);
            }
            Ok(Ended::Switched) => self.tunnel(connection).await,
            // An origin that is not used again is let go before its client is fed.
            _ => drop(connection),
        }
        if let (Ok(Ended::Buffered), Some(spool)) = (result, spool) {
            attempt.unfed = Some(Unfed { down_at, spool });
        }
        result
    }

    /// The origin's part is done: the client takes the rest at its own pace.
    async fn feed_client(&mut self, unfed: Unfed) -> Result<(), Failure> {
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

    /// Writes the request's head for this server into `work.up`. The protocol, if a change is asked for.
    fn write_head(&mut self, lease: &Lease, connection: &Connection) -> Option<Vec<u8>> {
        let mut out = std::mem::take(&mut self.work.up);
        out.clear();
        let upgrading = self.write_head_to(lease, connection, &mut out);
        self.work.up = out;
        upgrading
    }

    fn write_head_to(
        &self,
        lease: &Lease,
        connection: &Connection,
        out: &mut Vec<u8>,
    ) -> Option<Vec<u8>> {
        let (Some(facts), Some(route)) = (self.facts, self.route_config()) else {
            return None;
        };
        let settings = &route.settings;
        let head = self.head();
        if let (Some(version), true) = (lease.settings().proxy_protocol, connection.fresh()) {
            self.write_proxy_header(version, out);
        }
        out.extend_from_slice(head.method());
        out.push(b' ');
        self.write_target(out);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        self.write_host(settings, lease, out);
        out.extend_from_slice(b"\r\n");
        let mut keep = Keep::request(facts.nominates, settings.underscore_headers);
        if self.identity.trusted_peer
            && matches!(
                settings.forwarded,
                ForwardedStyle::XForwarded | ForwardedStyle::Both
            )
        {
            keep = keep.with(BELIEVED);
        }
        encode::fields(head, keep, &self.work.edits, out);
        identity::write_forwarding(
            settings.forwarded,
            &self.identity,
            self.client.peer,
            facts.authority.of(&self.work.input),
            head,
            out,
        );
        let id = &self.rt.runtime.config.request_id;
        if id.enabled {
            encode::line(&id.header, self.id(), out);
        }
        out.extend_from_slice(match facts.version {
            Version::Http11 => b"Via: 1.1 narthex\r\n",
            Version::Http10 => b"Via: 1.0 narthex\r\n",
        });
        let upgrade = facts
            .upgrade
            .and_then(|u| allowed_upgrade(u.of(&self.work.input), settings))
            .filter(|_| facts.body.is_empty());
        if let Some(protocol) = upgrade {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
            out.extend_from_slice(protocol);
            out.extend_from_slice(b"\r\n");
        }
        // A body that was announced is announced again, in our own framing (RFC 9112 6); an empty one keeps its zero.
        let body = self
            .buffered
            .as_ref()
            .map_or(facts.body, |b| Body::Length(b.len()));
        encode::framing(body, out);
        out.extend_from_slice(b"\r\n");
        upgrade.map(<[u8]>::to_vec)
    }

    fn write_target(&self, out: &mut Vec<u8>) {
        let path = match &self.target.path {
            Some(changed) => changed.as_bytes(),
            None => self.path.bytes(&self.work),
        };
        out.extend_from_slice(path);
        let query = match &self.target.query {
            Some(changed) => changed.as_deref(),
            None => self.query.map(|q| q.of(&self.work.input)),
        };
        if let Some(query) = query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }

    fn write_host(&self, settings: &RouteSettings, lease: &Lease, out: &mut Vec<u8>) {
        match &settings.host {
            UpstreamHost::Keep => self.write_own_host(lease, out),
            UpstreamHost::Server => out.extend_from_slice(server_host(lease).as_bytes()),
            UpstreamHost::Set(template) => {
                let mut host = Vec::new();
                self.with_values(None, |values| {
                    narthex_filter::template::render(template, values, &mut host)
                });
                if narthex_message::authority::parse(&host).is_ok() {
                    out.extend_from_slice(&host)
                } else {
                    self.write_own_host(lease, out)
                }
            }
        }
    }

    /// The host as asked, canonical, with its port as given.
    fn write_own_host(&self, lease: &Lease, out: &mut Vec<u8>) {
        let raw = self
            .facts
            .map_or(&[][..], |f| f.authority.of(&self.work.input));
        if raw.is_empty() {
            out.extend_from_slice(server_host(lease).as_bytes());
            return;
        }
        let host = self.host.bytes(&self.work);
        out.extend_from_slice(host);
        // The same length: there is no port.
        if raw.len() != host.len()
            && let Ok(parsed) = narthex_message::authority::parse(raw)
            && let Some(port) = parsed.port
        {
            out.push(b':');
            encode::decimal(u64::from(port), out);
        }
    }

    fn write_proxy_header(&self, version: u8, out: &mut Vec<u8>) {
        use narthex_net::accept::Peer;
        let destination = self
            .rt
            .runtime
            .config
            .listeners
            .get(self.listener)
            .and_then(|l| match &l.address {
                narthex_config::model::Address::Tcp(a) => Some(*a),
                _ => None,
            });
        match (self.client.peer, destination, version) {
            (Peer::Tcp(source), Some(to), 1) => proxy_header::encode_v1(source, to, out),
            (Peer::Tcp(source), Some(to), _) => proxy_header::encode_v2(source, to, out),
            (_, _, 1) => proxy_header::encode_v1_unknown(out),
            _ => proxy_header::encode_v2_unknown(out),
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

/// May a server overlook this body, and take it for the next request (CL.0)? It would answer that on the same connection,
/// at any time, to whoever is served there then. RFC 9110 9.3.1 warns of bodies where none is usual.
fn is_body_overlooked(facts: &RequestFacts) -> bool {
    !facts.body.is_empty()
        && matches!(
            facts.method,
            Method::Get | Method::Head | Method::Delete | Method::Options
        )
}

/// The body bytes of an earlier attempt, in this attempt's framing.
fn append_replay(bytes: &[u8], body: Body, whole: bool, out: &mut Vec<u8>) {
    if body == Body::Chunked {
        // A chunk of no bytes would be the last.
        if !bytes.is_empty() {
            chunk::size_line(bytes.len(), out);
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        if whole {
            out.extend_from_slice(chunk::LAST_CHUNK);
        }
    } else {
        out.extend_from_slice(bytes);
    }
}

/// The first protocol of the list that the route allows.
fn allowed_upgrade<'a>(value: &'a [u8], settings: &RouteSettings) -> Option<&'a [u8]> {
    validate::tokens(value).find(|t| {
        settings
            .upgrade
            .iter()
            .any(|a| a.as_bytes().eq_ignore_ascii_case(t))
    })
}

/// Name and port of a server, as a `Host`.
fn server_host(lease: &Lease) -> String {
    match lease.target() {
        narthex_net::dial::Target::Tcp(_) => lease.name().to_owned(),
        narthex_net::dial::Target::Unix(_) => "localhost".to_owned(),
    }
}
