//! Spoon feeding: a request taken whole before an attempt begins, an answer taken from the origin at once and fed to a slow
//! client from here. Memory first, then a bounded file (see [`crate::spool`]).

use std::io;
use std::task::Poll;

use narthex_config::model::Buffering;
use narthex_message::{Body, Reject};
use narthex_net::rt;
use narthex_net::scratch;
use narthex_net::stream::Stream;
use narthex_wire::grpc_web::TextDecoder;
use narthex_wire::h1::chunk::{ChunkDecoder, Step};

use crate::account::Account;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::relay::{Bounds, FAIR_SHARE};
use crate::spool::{BodyBuilder, Spool, SpooledBody};
use crate::trailer;
use crate::work::Work;
use narthex_mux::MuxStream;

/// Bytes read at a time when the buffer is full and only the end of the body may still come.
const FRAMING: usize = 4 * 1024;

/// How much of a body is still to come, in the client's framing.
enum Left {
    Length(u64),
    Chunked(ChunkDecoder),
    Trailers,
    /// Bytes as they are, until the client's stream ends: HTTP/2.
    Stream,
    Nothing,
}

/// A request body that is being taken.
struct Taking<'a> {
    client: &'a Stream,
    h2: Option<&'a MuxStream>,
    work: &'a mut Work,
    builder: BodyBuilder,
    left: Left,
    /// Reads it, if it is Base64.
    decoder: Option<TextDecoder>,
    bounds: Bounds,
    body_max: u64,
    expects_continue: bool,
    received: u64,
    started: u64,
    last: u64,
}

impl Exchange<'_> {
    /// Is there a body that the route wants whole?
    #[inline]
    pub(crate) fn is_to_be_buffered(&self) -> bool {
        self.facts
            .is_some_and(|f| !f.body.is_empty() || self.goes_on())
            && self
                .route_config()
                .is_some_and(|r| r.settings.buffer_request.is_some())
    }

    /// Takes the whole body, if the route asks for it and there is one.
    pub(crate) async fn buffer_request(&mut self) -> Result<Option<SpooledBody>, Failure> {
        let (Some(facts), Some(route), Some(plan)) = (self.facts, self.route_config(), self.plan())
        else {
            return Ok(None);
        };
        let Some(rule) = route
            .settings
            .buffer_request
            .clone()
            .filter(|_| !facts.body.is_empty() || self.goes_on())
        else {
            return Ok(None);
        };
        let bounds = plan.bounds;
        let body_max = route.settings.body_max.unwrap_or(u64::MAX);
        let now = rt::now_ms();
        let goes_on = self.goes_on();
        let decoder = self.is_web_text().then(TextDecoder::default);
        let mut taking = Taking {
            client: &self.client.stream,
            h2: self.client.h2.as_deref(),
            work: &mut self.work,
            builder: BodyBuilder::new(rule.memory, rule.disk, &rule.directory),
            left: match facts.body {
                Body::Length(_) | Body::Chunked if goes_on => Left::Stream,
                Body::Length(n) => Left::Length(n),
                Body::Chunked => Left::Chunked(ChunkDecoder::new(bounds.chunk_extension)),
                Body::None | Body::UntilClose => Left::Nothing,
            },
            decoder,
            bounds,
            body_max,
            expects_continue: facts.expects_continue,
            received: 0,
            started: now,
            last: now,
        };
        let account = &self.account;
        let taken =
            std::future::poll_fn(|cx| account.poll(&mut taking, cx, Taking::poll, Taking::held))
                .await;
        self.story.received = taking.received;
        if let Ok(body) = &taken {
            tracing::trace!(
                bytes = body.len(),
                spilled = body.spilled_bytes(),
                "a request body was taken whole"
            );
        }
        taken.map(Some)
    }
}

impl Taking<'_> {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<SpooledBody, Failure>> {
        let before = self.received;
        loop {
            if self.received.saturating_sub(before) > FAIR_SHARE as u64 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let files = match self.builder.poll_progress(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(spool_failed(&error))),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            if matches!(self.left, Left::Nothing) {
                if self.decoder.is_some_and(|d| d.finish().is_err()) {
                    return Poll::Ready(Err(Failure::Reject(Reject::WebText)));
                }
                return self
                    .builder
                    .poll_finish(cx)
                    .map(|body| body.map_err(|e| spool_failed(&e)));
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) if files => {}
                Ok(false) => return self.wait(),
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        }
    }

    /// Bytes of memory.
    fn held(&self) -> usize {
        self.work.held() + self.client.held() + self.builder.held()
    }

    fn wait(&self) -> Poll<Result<SpooledBody, Failure>> {
        let now = rt::now_ms();
        let elapsed = now.saturating_sub(self.started);
        let slow = elapsed >= self.bounds.min_rate_after
            && self.bounds.min_rate > 0
            && self.received < self.bounds.min_rate.saturating_mul(elapsed / 1_000);
        let deadline = self
            .last
            .saturating_add(self.bounds.client_body_idle)
            .max(1);
        let takes = self.builder.room() > 0 || self.builder.is_full();
        if slow || (takes && rt::poll_deadline(deadline).is_ready()) {
            return Poll::Ready(Err(Failure::ClientSlowBody));
        }
        let _ = rt::poll_deadline(now.saturating_add(1_000));
        if takes {
            let _ = self.client.poll_readable();
        }
        Poll::Pending
    }

    /// Takes what is there; false if nothing can be taken now.
    fn step(&mut self) -> Result<bool, Failure> {
        let mut room = self.builder.room();
        if room == 0 {
            if !self.builder.is_full() {
                return Ok(false);
            }
            if matches!(self.left, Left::Length(_)) {
                return Err(Failure::BodyTooLarge);
            }
            // What comes may be the end and its trailers, which need no room.
            room = FRAMING;
        }
        if self.work.taken < self.work.input.len() {
            self.expects_continue = false;
            let input = std::mem::take(&mut self.work.input);
            let end = input.len().min(self.work.taken.saturating_add(room));
            let used = self.feed(input.get(self.work.taken..end).unwrap_or_default());
            self.work.input = input;
            self.work.taken += used?;
            return Ok(true);
        }
        if self.expects_continue {
            self.expects_continue = false;
            // Twenty-five bytes to a client that waits for them: the socket has room, or the client gets no hint.
            match &self.h2 {
                Some(stream) => stream.go_on(),
                None => {
                    let _ = self.client.try_send(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
            }
        }
        scratch::with(|buffer| {
            let area = buffer.len().min(room);
            let Some(area) = buffer.get_mut(..area) else {
                return Ok(false);
            };
            let n = match self.client.try_recv(area) {
                Ok(0) if matches!(self.left, Left::Stream) => {
                    trailer::take_from(
                        self.h2,
                        &self.bounds.trailer_limits,
                        &mut self.work.request_trailers,
                    )
                    .map_err(Failure::Reject)?;
                    self.left = Left::Nothing;
                    return Ok(true);
                }
                Ok(0) => return Err(Failure::ClientGone),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(Failure::ClientGone),
            };
            self.last = rt::now_ms();
            let block = area.get(..n).unwrap_or_default();
            let used = self.feed(block)?;
            if used < n {
                self.work.input.truncate(self.work.taken);
                self.work
                    .input
                    .extend_from_slice(block.get(used..).unwrap_or_default());
            }
            Ok(true)
        })
    }

    /// Takes what belongs to the body; returns how much.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            match &mut self.left {
                Left::Nothing => break,
                Left::Length(left) => {
                    let n = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= n as u64;
                    if *left == 0 {
                        self.left = Left::Nothing;
                    }
                    self.push(rest.get(..n).unwrap_or_default())?;
                    at += n;
                }
                Left::Stream => {
                    self.push(rest)?;
                    at += rest.len();
                }
                Left::Chunked(decoder) => match decoder.step(rest).map_err(Failure::Reject)? {
                    Step::Framing { consumed } => at += consumed,
                    Step::Data { skip, data } => {
                        self.push(rest.get(skip..skip + data).unwrap_or_default())?;
                        at += skip + data;
                    }
                    Step::Trailers { consumed } => {
                        at += consumed;
                        self.work.request_trailers.clear();
                        self.left = Left::Trailers;
                    }
                },
                Left::Trailers => {
                    let (taken, done) = trailer::take(
                        &mut self.work.request_trailers,
                        rest,
                        &self.bounds.trailer_limits,
                    )
                    .map_err(Failure::Reject)?;
                    at += taken;
                    if done {
                        self.left = Left::Nothing;
                    }
                }
            }
        }
        Ok(at)
    }

    fn push(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.received = self.received.saturating_add(data.len() as u64);
        if self.received > self.body_max || data.len() > self.builder.room() {
            return Err(Failure::BodyTooLarge);
        }
        let Some(decoder) = &mut self.decoder else {
            self.builder.push(data);
            return Ok(());
        };
        let mut plain = Vec::new();
        decoder
            .feed(data, &mut plain)
            .map_err(|_| Failure::Reject(Reject::WebText))?;
        self.builder.push(&plain);
        Ok(())
    }
}

fn spool_failed(error: &io::Error) -> Failure {
    narthex_observe::warn_throttled!(%error, "buffering a body failed; check the buffer directory and its space");
    Failure::Spool
}

/// A buffer for an answer, as the route asks; `reserve` bytes of it are kept for the answer's end, see
/// [`crate::relay::spool_reserve`].
pub(crate) fn response_spool(rule: &Buffering, reserve: usize) -> Box<Spool> {
    let least = (reserve as u64).saturating_mul(2);
    Box::new(Spool::new(
        rule.memory.max(least),
        rule.disk,
        &rule.directory,
    ))
}

/// What is left of an answer when the origin has been released.
pub(crate) struct Waiting<'a> {
    /// Goes first.
    pub(crate) head: &'a [u8],
    pub(crate) spool: &'a mut Spool,
    /// Bytes of memory that the exchange holds beside the spool.
    pub(crate) memory: usize,
}

/// Feeds what is left of an answer to its client, after the origin has been released. Returns the bytes sent.
pub(crate) async fn feed(
    client: &Stream,
    waiting: Waiting<'_>,
    idle_ms: u64,
    account: &Account<'_>,
) -> (u64, Result<(), Failure>) {
    let Waiting {
        head,
        spool,
        memory,
    } = waiting;
    let mut sent = 0u64;
    let mut at = 0;
    let mut last = rt::now_ms();
    let mut unsent = usize::MAX;
    let mut step = |spool: &mut Spool, cx: &mut std::task::Context<'_>| {
        let mut budget = FAIR_SHARE;
        loop {
            let files = match spool.poll_progress(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(spool_failed(&error))),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            let from_head = at < head.len();
            let piece = if from_head {
                head.get(at..).unwrap_or_default()
            } else {
                spool.front()
            };
            if piece.is_empty() {
                if spool.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                if files {
                    continue;
                }
                return Poll::Pending;
            }
            match client.try_send(piece) {
                Ok(n) => {
                    if from_head {
                        at += n;
                    } else {
                        spool.consume(n);
                    }
                    sent += n as u64;
                    last = rt::now_ms();
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if client.poll_dead().is_ready() {
                        return Poll::Ready(Err(Failure::ClientGone));
                    }
                    let _ = client.poll_writable();
                    if rt::poll_deadline(last.saturating_add(idle_ms)).is_pending() {
                        return Poll::Pending;
                    }
                    let held = client.unsent().unwrap_or(0);
                    if held >= std::mem::replace(&mut unsent, held) && !client.is_held_up() {
                        return Poll::Ready(Err(Failure::ClientSlowRead));
                    }
                    last = rt::now_ms();
                }
                Err(_) => return Poll::Ready(Err(Failure::ClientGone)),
            }
        }
    };
    let result = std::future::poll_fn(|cx| {
        account.poll(&mut *spool, cx, &mut step, |spool| memory + spool.held())
    })
    .await;
    (sent, result)
}
