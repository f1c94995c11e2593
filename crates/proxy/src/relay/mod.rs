//! The relay: one attempt's two directions, as a state machine that moves bytes until both would wait.
//!
//! Request upwards, response downwards, at the same time: an origin may answer early, a client may be slow either way.
//! Bytes in flight are bounded: at most one block per direction is held, and nothing is read from one side while the other
//! has not taken the block before it.
//!
//! This file has the machine and its state; the steps are beside it. Upwards: `request_body` takes from the client,
//! `to_server` sends. Downwards: `response_head`, then `response_body` take from the server, `to_client` sends. `wait` says
//! what is waited for when neither can go on. `under_way` is a request that was sent before.

mod behind;
mod request_body;
mod response_body;
mod response_head;
mod to_client;
mod to_server;
mod under_way;
mod wait;

use std::task::Poll;

use behind::Behind;
use narthex_cache::store::Writer;
use narthex_message::head::Version;
use narthex_message::{Body, Head, Method, ResponseFacts};
use narthex_mux::MuxStream;
use narthex_net::rt;
use narthex_net::scratch::BULK;
use narthex_net::stream::Stream;
use narthex_wire::grpc_web::TextDecoder;
use narthex_wire::h1::scan::HeadLimits;

use crate::account::Account;
use crate::fail::Failure;
use crate::grpc_web::Form;
use crate::request_head::Asked;
use crate::spool::Spool;
use crate::work::Work;

pub(crate) use request_body::Source;
use response_body::Sink;
pub(crate) use under_way::UnderWay;

/// Bytes moved before other connections of the core get their turn.
pub(crate) const FAIR_SHARE: usize = 1024 * 1024;

/// A body of which no more than this is missing, or than has come, is brought in for the cache although its client has left.
const NEARLY: u64 = 256 * 1024;

/// Room in a buffer that is kept for the end of a body: the last chunk and its trailers, and what our framing is longer than
/// the origin's.
pub(crate) fn spool_reserve(bounds: &Bounds) -> usize {
    bounds.trailer_limits.head.saturating_add(4 * 1024)
}

/// A listener's bounds. Times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) client_body_idle: u64,
    pub(crate) client_send_idle: u64,
    pub(crate) min_rate: u64,
    pub(crate) min_rate_after: u64,
    pub(crate) informational: u32,
    pub(crate) chunk_extension: usize,
    pub(crate) response_limits: HeadLimits,
    pub(crate) trailer_limits: HeadLimits,
}

/// What the route and the upstream bound. Times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptBounds {
    pub(crate) response: u64,
    pub(crate) upstream_idle: u64,
    /// Largest request body.
    pub(crate) body_max: u64,
    /// Request body bytes kept for another attempt; 0 keeps none.
    pub(crate) replay_max: usize,
    /// When a head must have come, however far the request is: the client's own bound; `u64::MAX` is none.
    pub(crate) deadline: u64,
    /// A call of gRPC, whose sides speak when they have something to say: how long both may be silent. 0: it is none.
    pub(crate) call_idle: u64,
}

/// What becomes of a response whose head has arrived.
pub(crate) struct Begun {
    /// How the client is told the length.
    pub(crate) framing: Body,
    /// The body is not forwarded: something else was written in its place.
    pub(crate) replaced: bool,
    /// Its body is translated for a client of gRPC-Web.
    pub(crate) web: Option<Form>,
    /// Bytes of the head that have gone to the client already.
    pub(crate) sent: usize,
    /// An object of the cache that gets the body, too.
    pub(crate) fill: Option<Writer>,
}

/// Makes the head that goes to the client; appends it to `out`.
pub(crate) trait Downstream {
    /// An informational response (never 101) is passed on.
    fn informational(&mut self, head: Head<'_>, facts: &ResponseFacts, out: &mut Vec<u8>);
    /// Those lines of the request's trailers that a server gets.
    fn trailers(&self, request: &Work, out: &mut Vec<u8>);
    /// `100 Continue` of our own.
    fn go_on(&mut self, out: &mut Vec<u8>);
    /// The final response, or 101. `request` is the exchange's memory with the request in it; `upload_done`: the whole
    /// request has been taken from the client.
    fn begin(
        &mut self,
        request: &Work,
        head: Head<'_>,
        facts: &ResponseFacts,
        upload_done: bool,
        edits: &mut narthex_message::Edits,
        out: &mut Vec<u8>,
    ) -> Begun;
    /// Others wait for this answer, and its head has not come.
    fn is_awaited(&self) -> bool {
        false
    }
}

/// How a relay ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The response is complete.
    Complete,
    /// The origin's part is complete; what is left waits in the buffer for the client.
    Buffered,
    /// `101`: from here on both sides speak another protocol.
    Switched,
}

/// One attempt.
pub(crate) struct Relay<'a, D> {
    pub(crate) client: &'a Stream,
    pub(crate) upstream: &'a Stream,
    /// The server speaks HTTP/2: heads and ends go by this.
    pub(crate) h2: Option<&'a MuxStream>,
    /// The client speaks HTTP/2: its message ends by this.
    pub(crate) client_h2: Option<&'a MuxStream>,
    pub(crate) work: &'a mut Work,
    pub(crate) downstream: D,
    pub(crate) bounds: &'a Bounds,
    pub(crate) own: AttemptBounds,
    pub(crate) method: Method,
    pub(crate) client_version: Version,
    /// The client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// The change of protocol that we have asked for.
    pub(crate) upgrading: Option<Box<Asked>>,
    /// The server was asked for a tunnel by extended CONNECT.
    pub(crate) by_connect: bool,
    /// The client asks for a tunnel by extended CONNECT.
    pub(crate) connects: bool,
    /// The client takes trailers.
    pub(crate) client_trailers: bool,
    /// Answers that another attempt may better.
    pub(crate) retry_statuses: &'a [u16],
    /// Takes the answer faster than the client does.
    pub(crate) spool: Option<Box<Spool>>,
    /// Takes the client's place if it leaves while others wait for the same answer.
    pub(crate) nobody: Option<&'a Stream>,
    /// There has been no client: only what the cache takes is brought in.
    pub(crate) unseen: bool,
    /// The client has left, and the answer is brought in without it.
    pub(crate) lost: bool,
    /// Gets the body, too.
    fill: Option<Writer>,
    /// The client is slower than the object fills, and reads what it lacks from there.
    behind: Option<Box<Behind>>,

    pub(crate) source: Source,
    /// Reads a request's body that is Base64: by gRPC-Web.
    pub(crate) decoder: Option<TextDecoder>,
    /// The client calls by gRPC-Web.
    pub(crate) by_web: bool,
    /// What a body that was taken before is followed by.
    pub(crate) up_behind: Vec<u8>,
    /// A body in chunks is complete, and its end has not been written.
    owes_end: bool,
    /// Trailers on their way; empty between calls.
    trailers: Vec<u8>,
    up_at: usize,
    up_broken: bool,
    /// The server's stream has been told that the request is complete.
    up_ended: bool,
    /// Bytes that the kernel took for the server.
    pub(crate) sent: u64,
    /// Request body bytes taken from the client.
    pub(crate) received: u64,
    replayable: bool,

    sink: Sink,
    down_at: usize,
    framing: Body,
    /// The answer is translated.
    web: Option<Form>,
    replaced: bool,
    informational: u32,
    heard: bool,
    /// When the final response's head came, in microseconds.
    head_us: u64,
    /// The final response's head.
    pub(crate) facts: Option<ResponseFacts>,
    /// Bytes given to the client's socket, heads included.
    pub(crate) delivered: u64,
    /// Response body bytes.
    pub(crate) body_bytes: u64,
    clean: bool,
    ended_by_close: bool,

    started: u64,
    last_up: u64,
    last_down: u64,
    last_heard: u64,
    unsent: usize,
    upload_ended: u64,
    moved: usize,
}

impl<'a, D: Downstream> Relay<'a, D> {
    /// `work.up` holds the head (and what is at hand of the body was not yet taken from `work.input`).
    #[allow(clippy::too_many_arguments)] // one call; a builder would hide what an attempt consists of
    pub(crate) fn new(
        client: &'a Stream,
        upstream: &'a Stream,
        work: &'a mut Work,
        downstream: D,
        bounds: &'a Bounds,
        own: AttemptBounds,
        method: Method,
        client_version: Version,
        source: Source,
    ) -> Self {
        let now = rt::now_ms();
        let upload_ended = if matches!(source, Source::Done) {
            now
        } else {
            0
        };
        Self {
            client,
            upstream,
            h2: None,
            client_h2: None,
            work,
            downstream,
            bounds,
            own,
            method,
            client_version,
            expects_continue: false,
            upgrading: None,
            by_connect: false,
            connects: false,
            client_trailers: false,
            retry_statuses: &[],
            spool: None,
            nobody: None,
            unseen: false,
            lost: false,
            fill: None,
            behind: None,
            source,
            decoder: None,
            by_web: false,
            up_behind: Vec::new(),
            owes_end: false,
            trailers: Vec::new(),
            up_at: 0,
            up_broken: false,
            up_ended: false,
            sent: 0,
            received: 0,
            replayable: true,
            sink: Sink::Head,
            down_at: 0,
            framing: Body::None,
            web: None,
            replaced: false,
            informational: 0,
            heard: false,
            head_us: 0,
            facts: None,
            delivered: 0,
            body_bytes: 0,
            clean: true,
            ended_by_close: false,
            started: now,
            last_up: now,
            last_down: now,
            last_heard: now,
            unsent: usize::MAX,
            upload_ended,
            moved: 0,
        }
    }

    /// Runs to the end of the exchange.
    pub(crate) async fn run(&mut self, account: &Account<'_>) -> Result<Ended, Failure> {
        std::future::poll_fn(|cx| account.poll(self, cx, Self::poll, Self::held)).await
    }

    /// Bytes of memory of both directions.
    #[inline]
    fn held(&self) -> usize {
        let mut held = self.work.held() + self.client.held() + self.upstream.held();
        if let Source::Spooled(reader) = &self.source {
            held += reader.held();
        }
        if let Some(spool) = &self.spool {
            held += spool.held();
        }
        held
    }

    /// May the upstream connection carry another request? Only if both directions ended on a message boundary.
    pub(crate) fn is_upstream_clean(&self) -> bool {
        self.clean
            && !self.up_broken
            && !self.ended_by_close
            && matches!(self.source, Source::Done)
            && self.up_at >= self.work.up.len()
            && matches!(self.sink, Sink::Done)
            && self.facts.is_some_and(|f| f.keep_alive)
    }

    /// Has the client's whole request been taken?
    pub(crate) fn is_upload_done(&self) -> bool {
        matches!(self.source, Source::Done | Source::Spooled(_))
    }

    /// Has the server not said one byte?
    pub(crate) fn is_silent(&self) -> bool {
        !self.heard
    }

    /// How long the server took to its response's head, or was silent until it was given up, from `begun_us` or, if that is
    /// later, from the request's end. Unknown of an answer that came before that, and of attempts that ended otherwise.
    pub(crate) fn latency_us(&self, begun_us: u64, result: Result<Ended, Failure>) -> Option<u64> {
        let end = match result {
            _ if self.upload_ended == 0 => return None,
            _ if self.facts.is_some() => self.head_us,
            Err(Failure::UpstreamTimeout) => rt::now_us(),
            _ => return None,
        };
        Some(end.saturating_sub(begun_us.max(self.upload_ended.saturating_mul(1_000))))
    }

    /// What waits for the client: the first byte of `work.down` that has not been sent, and the buffer.
    pub(crate) fn take_waiting(&mut self) -> (usize, Option<Box<Spool>>) {
        (self.down_at, self.spool.take())
    }

    /// Can the request be sent again, as far as its body goes?
    pub(crate) fn is_replayable(&self) -> bool {
        self.received == 0 || (self.replayable && self.own.replay_max > 0)
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<Ended, Failure>> {
        loop {
            if self.lost && !self.is_wanted() || self.unseen && self.is_for_nobody() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            match self.poll_both(cx) {
                Poll::Ready(Err(failure)) => {
                    // It would count as one who reads the object.
                    self.behind = None;
                    if !self.goes_on_after(failure) {
                        return Poll::Ready(Err(failure));
                    }
                    self.leave_client();
                }
                Poll::Ready(Ok(_)) if self.lost => return Poll::Ready(Err(Failure::ClientGone)),
                other => return other,
            }
        }
    }

    /// The client has failed: is the answer brought in for others?
    #[inline]
    fn goes_on_after(&self, failure: Failure) -> bool {
        self.nobody.is_some() && self.is_wanted_by_others(failure)
    }

    #[cold]
    fn is_wanted_by_others(&self, failure: Failure) -> bool {
        let clients = matches!(failure, Failure::ClientGone | Failure::ClientSlowRead);
        clients && !self.lost && self.is_wanted() && self.is_upload_done()
    }

    /// Others wait for the answer, or it is nearly here. Of one whose head was not for the cache nobody else knows.
    #[cold]
    fn is_wanted(&self) -> bool {
        match &self.fill {
            Some(fill) => fill.is_followed() || self.is_nearly_here(),
            None => self.facts.is_none() && self.downstream.is_awaited(),
        }
    }

    /// The cache has not taken it after all, and more would come than a kept connection is worth.
    #[cold]
    fn is_for_nobody(&self) -> bool {
        let much = match self.sink {
            Sink::Head | Sink::Done => false,
            Sink::Length(left) => left > NEARLY,
            _ => self.body_bytes > NEARLY,
        };
        let fill = self.fill.as_ref();
        much && fill.is_none_or(|fill| !fill.is_kept() && !fill.is_followed())
    }

    /// So little is missing of the body that it is not thrown away.
    fn is_nearly_here(&self) -> bool {
        matches!(self.sink, Sink::Length(left) if left <= NEARLY.max(self.body_bytes))
    }

    /// Nobody takes the client's place.
    #[cold]
    fn leave_client(&mut self) {
        if let Some(nobody) = self.nobody.take() {
            self.client = nobody;
            self.lost = true;
            self.work.down.clear();
            self.down_at = 0;
            self.spool = None;
        }
    }

    fn poll_both(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<Ended, Failure>> {
        self.moved = 0;
        loop {
            let files = match self.poll_files(cx) {
                Ok(progress) => progress,
                Err(failure) => return Poll::Ready(Err(failure)),
            };
            let up = match self.step_up() {
                Ok(progress) => progress,
                Err(failure) => return Poll::Ready(Err(failure)),
            };
            let down = match self.step_down() {
                Ok(progress) => progress,
                Err(failure) => return Poll::Ready(Err(failure)),
            };
            if matches!(self.sink, Sink::Done) {
                if let Some(fill) = self.fill.take() {
                    fill.finish();
                }
                let delivered = self.down_at >= self.work.down.len()
                    && self.behind.is_none()
                    && self.spool.as_ref().is_none_or(|s| s.is_empty());
                if delivered {
                    let switched = self.facts.is_some_and(|f| f.status == 101);
                    return Poll::Ready(Ok(if switched {
                        Ended::Switched
                    } else {
                        Ended::Complete
                    }));
                }
                if self.spool.is_some() && self.facts.is_some_and(|f| f.status != 101) {
                    return Poll::Ready(Ok(Ended::Buffered));
                }
            }
            if !up && !down && !files {
                return self.wait();
            }
            if self.moved > FAIR_SHARE {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Drives the files behind buffered bodies; true if there may be more to send, or room for more.
    fn poll_files(&mut self, cx: &mut std::task::Context<'_>) -> Result<bool, Failure> {
        let mut progress = false;
        if let Source::Spooled(reader) = &mut self.source
            && let Poll::Ready(done) = reader.poll_progress(cx)
        {
            done.map_err(|_| Failure::Spool)?;
            progress = true;
        }
        if let Some(spool) = &mut self.spool
            && let Poll::Ready(done) = spool.poll_progress(cx)
        {
            done.map_err(|_| Failure::Spool)?;
            progress = true;
        }
        Ok(progress)
    }

    fn step_down(&mut self) -> Result<bool, Failure> {
        let mut progress = false;
        if self.is_backed_up() {
            progress = self.flush_down()? | self.flush_spool()? | self.catch_up()?;
            if self.is_backed_up() && self.down_room() == 0 && !self.falls_behind() {
                return Ok(progress);
            }
        }
        match self.sink {
            Sink::Done => Ok(progress),
            Sink::Head => Ok(self.read_any_head()? || progress),
            _ => Ok(self.read_body()? || progress),
        }
    }

    /// Where the next bytes for the client would have to wait.
    fn is_backed_up(&self) -> bool {
        self.down_at < self.work.down.len()
            || self.behind.is_some()
            || self.spool.as_ref().is_some_and(|s| !s.is_empty())
    }

    /// How many bytes may be read from the origin now.
    fn down_room(&self) -> usize {
        if let Some(behind) = &self.behind {
            return self.room_behind(behind);
        }
        match &self.spool {
            // Our own framing is never longer than the origin's, but for the end of a chunked body and its trailers.
            Some(spool) => spool
                .room()
                .saturating_sub(spool_reserve(self.bounds))
                .min(BULK),
            None if self.down_at < self.work.down.len() => 0,
            None => BULK,
        }
    }
}

#[cfg(test)]
mod tests;
