//! The relay: one attempt's two directions, as a state machine that moves bytes until both would wait.
//!
//! Request upwards, response downwards, at the same time: an origin may answer early, a client may be slow either way.
//! Bytes in flight are bounded: at most one block per direction is held, and nothing is read from one side while the other
//! has not taken the block before it.

use std::io;
use std::task::Poll;

use narthex_message::head::Version;
use narthex_message::validate;
use narthex_message::{BadResponse, Body, FieldId, Head, Method, Reject, ResponseFacts};
use narthex_net::rt;
use narthex_net::scratch::{self, BULK, HEADROOM};
use narthex_net::stream::Stream;
use narthex_wire::h1::chunk::{self, ChunkDecoder, Step};
use narthex_wire::h1::scan::{self, HeadLimits, Progress};

use crate::fail::Failure;
use crate::spool::{BodyReader, Spool};
use crate::trailer;
use crate::work::Work;

/// Bytes moved before other connections of the core get their turn.
const FAIR_SHARE: usize = 1024 * 1024;

/// Room in a buffer that is kept for the end of a body: the last chunk and its trailers.
const SPOOL_RESERVE: usize = 12 * 1024;

/// Time bounds of a relay, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) response: u64,
    pub(crate) upstream_idle: u64,
    pub(crate) client_body_idle: u64,
    pub(crate) client_send_idle: u64,
    pub(crate) min_rate: u64,
    pub(crate) min_rate_after: u64,
    /// Largest request body.
    pub(crate) body_max: u64,
    /// Request body bytes kept for another attempt; 0 keeps none.
    pub(crate) replay_max: usize,
    pub(crate) informational: u32,
    pub(crate) chunk_extension: usize,
    pub(crate) response_limits: HeadLimits,
    pub(crate) trailer_limits: HeadLimits,
}

/// What becomes of a response whose head has arrived.
pub(crate) struct Begun {
    /// How the client is told the length.
    pub(crate) framing: Body,
    /// The body is not forwarded: something else was written in its place.
    pub(crate) replaced: bool,
}

/// Makes the head that goes to the client; appends it to `out`.
pub(crate) trait Downstream {
    /// An informational response (never 101) is passed on.
    fn informational(&mut self, head: Head<'_>, facts: &ResponseFacts, out: &mut Vec<u8>);
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
}

/// The request body's source.
pub(crate) enum Source {
    /// All of it has been taken.
    Done,
    /// This many bytes are left.
    Length(u64),
    /// Chunked.
    Chunked(ChunkDecoder),
    /// The trailer section is arriving.
    Trailers,
    /// Taken whole before the attempt.
    Spooled(Box<BodyReader>),
}

impl Source {
    /// Of a request's framing.
    pub(crate) fn of(body: Body, chunk_extension: usize) -> Self {
        match body {
            Body::None | Body::UntilClose | Body::Length(0) => Self::Done,
            Body::Length(n) => Self::Length(n),
            Body::Chunked => Self::Chunked(ChunkDecoder::new(chunk_extension)),
        }
    }
}

enum Sink {
    /// Waiting for a (final) head.
    Head,
    Length(u64),
    Chunked(ChunkDecoder),
    Trailers,
    UntilClose,
    Done,
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
    pub(crate) work: &'a mut Work,
    pub(crate) downstream: D,
    pub(crate) bounds: Bounds,
    pub(crate) method: Method,
    pub(crate) client_version: Version,
    /// The client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// The change of protocol that we have asked for.
    pub(crate) upgrading: Option<Vec<u8>>,
    /// The client takes trailers.
    pub(crate) client_trailers: bool,
    /// Answers that another attempt may better.
    pub(crate) retry_statuses: Vec<u16>,
    /// Takes the answer faster than the client does.
    pub(crate) spool: Option<Box<Spool>>,

    pub(crate) source: Source,
    up_at: usize,
    up_broken: bool,
    /// Bytes that the kernel took for the server.
    pub(crate) sent: u64,
    /// Request body bytes taken from the client.
    pub(crate) received: u64,
    replayable: bool,

    sink: Sink,
    down_at: usize,
    framing: Body,
    replaced: bool,
    informational: u32,
    heard: bool,
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
        bounds: Bounds,
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
            work,
            downstream,
            bounds,
            method,
            client_version,
            expects_continue: false,
            upgrading: None,
            client_trailers: false,
            retry_statuses: Vec::new(),
            spool: None,
            source,
            up_at: 0,
            up_broken: false,
            sent: 0,
            received: 0,
            replayable: true,
            sink: Sink::Head,
            down_at: 0,
            framing: Body::None,
            replaced: false,
            informational: 0,
            heard: false,
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
    pub(crate) async fn run(&mut self) -> Result<Ended, Failure> {
        std::future::poll_fn(|cx| self.poll(cx)).await
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

    /// What waits for the client: the first byte of `work.down` that has not been sent, and the buffer.
    pub(crate) fn take_waiting(&mut self) -> (usize, Option<Box<Spool>>) {
        (self.down_at, self.spool.take())
    }

    /// Can the request be sent again, as far as its body goes?
    pub(crate) fn is_replayable(&self) -> bool {
        self.received == 0 || (self.replayable && self.bounds.replay_max > 0)
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<Ended, Failure>> {
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
                let delivered = self.down_at >= self.work.down.len()
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

    /// Where the next bytes for the client would have to wait.
    fn is_backed_up(&self) -> bool {
        self.down_at < self.work.down.len() || self.spool.as_ref().is_some_and(|s| !s.is_empty())
    }

    /// How many bytes may be read from the origin now.
    fn down_room(&self) -> usize {
        match &self.spool {
            // Our own framing is never longer than the origin's, but for the end of a chunked body and its trailers.
            Some(spool) => spool.room().saturating_sub(SPOOL_RESERVE).min(BULK),
            None if self.down_at < self.work.down.len() => 0,
            None => BULK,
        }
    }

    // === waiting ===

    /// Registers for what would let us go on, and for the deadline that applies.
    fn wait(&mut self) -> Poll<Result<Ended, Failure>> {
        let now = rt::now_ms();
        let mut nearest = (u64::MAX, Failure::UpstreamTimeout);
        let mut until = |deadline: u64, failure: Failure| {
            if deadline < nearest.0 {
                nearest = (deadline, failure);
            }
        };
        if !self.up_broken {
            let unsent = self.up_at < self.work.up.len()
                || matches!(&self.source, Source::Spooled(reader) if !reader.front().is_empty());
            if unsent {
                let _ = self.upstream.registration().poll_ready(rt::Interest::Write);
                until(
                    self.last_up.saturating_add(self.bounds.upstream_idle),
                    Failure::UpstreamStalled,
                );
            } else if !matches!(self.source, Source::Done | Source::Spooled(_)) {
                let _ = self.client.registration().poll_ready(rt::Interest::Read);
                until(
                    self.last_up.saturating_add(self.bounds.client_body_idle),
                    Failure::ClientSlowBody,
                );
                if self.bounds.min_rate > 0 {
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
            let _ = self.client.registration().poll_ready(rt::Interest::Write);
            until(
                self.last_down.saturating_add(self.bounds.client_send_idle),
                Failure::ClientSlowRead,
            );
        }
        if !matches!(self.sink, Sink::Done) && self.down_room() > 0 {
            let _ = self.upstream.registration().poll_ready(rt::Interest::Read);
            if self.facts.is_some() {
                until(
                    self.last_heard.saturating_add(self.bounds.upstream_idle),
                    Failure::UpstreamStalled,
                );
            } else if self.upload_ended > 0 {
                until(
                    self.upload_ended.saturating_add(self.bounds.response),
                    Failure::UpstreamTimeout,
                );
            }
        }
        if self.client.poll_dead().is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        if nearest.0 != u64::MAX && rt::poll_deadline(nearest.0.max(1)).is_ready() {
            // The end of the grace is no failure by itself.
            if nearest.1 == Failure::ClientSlowBody
                && !self.is_too_slow(now)
                && now < self.last_up.saturating_add(self.bounds.client_body_idle)
            {
                let _ = rt::poll_deadline(now.saturating_add(1_000));
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
        let progress = unsent < std::mem::replace(&mut self.unsent, unsent);
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

    // === upwards ===

    fn step_up(&mut self) -> Result<bool, Failure> {
        if self.up_broken {
            return Ok(false);
        }
        let mut progress = false;
        if self.up_at < self.work.up.len() {
            // Head and what there is of the body leave together.
            if self.sent == 0
                && self.up_at == 0
                && !matches!(self.source, Source::Done | Source::Spooled(_))
            {
                if self.work.taken < self.work.input.len() {
                    self.take_at_hand()?;
                }
                if matches!(self.source, Source::Length(_))
                    && self.client.registration().is_readable()
                {
                    self.pull()?;
                }
            }
            if !self.work.up.is_empty() && !self.flush_up() {
                return Ok(false);
            }
            progress = true;
        }
        if matches!(self.source, Source::Done) || self.up_broken {
            return Ok(progress);
        }
        if matches!(self.source, Source::Spooled(_)) {
            return Ok(self.send_spooled() || progress);
        }
        if self.work.taken < self.work.input.len() {
            self.take_at_hand()?;
            return Ok(true);
        }
        if self.expects_continue {
            self.expects_continue = false;
            if matches!(self.sink, Sink::Head) {
                self.work
                    .down
                    .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
        Ok(self.pull()? || progress)
    }

    /// True when everything pending is with the kernel.
    fn flush_up(&mut self) -> bool {
        let pending = self.work.up.get(self.up_at..).unwrap_or_default();
        match self.upstream.try_send(pending) {
            Ok(n) => {
                self.up_at += n;
                self.took_up(n);
                if self.up_at < self.work.up.len() {
                    return false;
                }
                self.work.up.clear();
                self.up_at = 0;
                true
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                // The server may have answered before it closed: what it said is still to be read.
                self.up_broken = true;
                false
            }
        }
    }

    fn took_up(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n as u64);
        self.moved += n;
        self.last_up = rt::now_ms();
        if matches!(self.source, Source::Done) {
            self.upload_ended = self.last_up;
        }
    }

    /// Sends what is at hand of a body that was taken before.
    fn send_spooled(&mut self) -> bool {
        let Source::Spooled(reader) = &mut self.source else {
            return false;
        };
        if reader.is_empty() {
            self.source_done();
            return true;
        }
        let piece = reader.front();
        if piece.is_empty() {
            return false;
        }
        match self.upstream.try_send(piece) {
            Ok(n) => {
                reader.consume(n);
                self.took_up(n);
                true
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.up_broken = true;
                false
            }
        }
    }

    fn source_done(&mut self) {
        self.source = Source::Done;
        self.upload_ended = rt::now_ms();
    }

    /// Takes body bytes that came with the head.
    fn take_at_hand(&mut self) -> Result<(), Failure> {
        // A client that sends without waiting is not told to go on.
        self.expects_continue = false;
        let input = std::mem::take(&mut self.work.input);
        let from = self.work.taken;
        let taken = self.feed_up(input.get(from..).unwrap_or_default());
        self.work.input = input;
        self.work.taken = from + taken?;
        Ok(())
    }

    /// Reads body bytes from the client and passes them on.
    fn pull(&mut self) -> Result<bool, Failure> {
        scratch::with(|buffer| {
            let Some(buffer) = buffer.get_mut(HEADROOM..) else {
                return Ok(false);
            };
            let n = match self.client.try_recv(buffer) {
                Ok(0) => return Err(Failure::ClientGone),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(Failure::ClientGone),
            };
            self.last_up = rt::now_ms();
            let block = buffer.get(..n).unwrap_or_default();
            let taken = if let Source::Length(left) = self.source {
                let mine = usize::try_from(left).map_or(n, |left| left.min(n));
                let (mine, _) = block.split_at(mine);
                self.count_body(mine)?;
                self.send_up(mine);
                self.length_taken(mine.len() as u64);
                mine.len()
            } else {
                self.feed_up(block)?
            };
            // What follows the body is the next request.
            if taken < n {
                self.work.input.truncate(self.work.taken);
                self.work
                    .input
                    .extend_from_slice(block.get(taken..).unwrap_or_default());
            }
            Ok(true)
        })
    }

    /// Sends what is pending and then `bytes`, straight from the scratch buffer; only what the kernel does not take is
    /// copied.
    fn send_up(&mut self, bytes: &[u8]) {
        let pending = self.work.up.get(self.up_at..).unwrap_or_default();
        let held = pending.len();
        let result = if held == 0 {
            self.upstream.try_send(bytes)
        } else {
            self.upstream.try_send_two(pending, bytes)
        };
        match result {
            Ok(n) => {
                self.took_up(n);
                if n < held {
                    self.up_at += n;
                    self.work.up.extend_from_slice(bytes);
                } else {
                    self.work.up.clear();
                    self.up_at = 0;
                    self.work
                        .up
                        .extend_from_slice(bytes.get(n - held..).unwrap_or_default());
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.work.up.extend_from_slice(bytes)
            }
            Err(_) => self.up_broken = true,
        }
    }

    fn length_taken(&mut self, n: u64) {
        if let Source::Length(left) = &mut self.source {
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.source_done();
            }
        }
    }

    /// Counts body bytes against the route's bound, and keeps them for another attempt while they fit.
    fn count_body(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received > self.bounds.body_max {
            return Err(Failure::BodyTooLarge);
        }
        if self.bounds.replay_max > 0 && self.replayable {
            if self.work.replay.len() + bytes.len() > self.bounds.replay_max {
                self.replayable = false;
                self.work.replay = Vec::new();
            } else {
                self.work.replay.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// Takes what belongs to this body from `bytes`, puts it in `work.up` in our own framing; returns how much it took.
    fn feed_up(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            match &mut self.source {
                Source::Done | Source::Spooled(_) => break,
                Source::Length(left) => {
                    let n = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    let data = rest.get(..n).unwrap_or_default();
                    self.count_body(data)?;
                    self.work.up.extend_from_slice(data);
                    self.length_taken(n as u64);
                    at += n;
                }
                Source::Chunked(decoder) => match decoder.step(rest).map_err(Failure::Reject)? {
                    Step::Framing { consumed } => at += consumed,
                    Step::Data { skip, data } => {
                        let piece = rest.get(skip..skip + data).unwrap_or_default();
                        self.count_body(piece)?;
                        chunk::size_line(data, &mut self.work.up);
                        self.work.up.extend_from_slice(piece);
                        self.work.up.extend_from_slice(b"\r\n");
                        at += skip + data;
                    }
                    Step::Trailers { consumed } => {
                        at += consumed;
                        self.work.request_trailers.clear();
                        self.source = Source::Trailers;
                    }
                },
                Source::Trailers => {
                    let (taken, done) = trailer::take(
                        &mut self.work.request_trailers,
                        rest,
                        &self.bounds.trailer_limits,
                    )
                    .map_err(Failure::Reject)?;
                    at += taken;
                    if done {
                        // A request's trailers are dropped: an HTTP/1.1 origin has not said that it wants them.
                        self.work.up.extend_from_slice(chunk::LAST_CHUNK);
                        self.source_done();
                    }
                }
            }
        }
        Ok(at)
    }

    // === downwards ===

    fn step_down(&mut self) -> Result<bool, Failure> {
        let mut progress = false;
        if self.is_backed_up() {
            progress = self.flush_down()? | self.flush_spool()?;
            if self.is_backed_up() && self.down_room() == 0 {
                return Ok(progress);
            }
        }
        match self.sink {
            Sink::Done => Ok(progress),
            Sink::Head => Ok(self.read_head()? || progress),
            _ => Ok(self.read_body()? || progress),
        }
    }

    /// Feeds the client from the buffer, once the head is out.
    fn flush_spool(&mut self) -> Result<bool, Failure> {
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

    fn flush_down(&mut self) -> Result<bool, Failure> {
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

    fn took_down(&mut self, n: usize) {
        self.delivered = self.delivered.saturating_add(n as u64);
        self.moved += n;
        self.last_down = rt::now_ms();
        self.unsent = usize::MAX;
    }

    /// Sends straight from the scratch buffer; only what the kernel does not take is copied.
    fn send_down(&mut self, bytes: &[u8]) -> Result<(), Failure> {
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
    fn keep_down(&mut self, bytes: &[u8]) {
        match &mut self.spool {
            Some(spool) => spool.push(bytes),
            None => self.work.down.extend_from_slice(bytes),
        }
    }

    /// Runs `make`, which puts bytes for the client in `work.down`, and sends them behind what waits already.
    fn emit(&mut self, make: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
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

    fn read_head(&mut self) -> Result<bool, Failure> {
        scratch::with(|buffer| {
            let Some(area) = buffer.get_mut(HEADROOM..HEADROOM + self.down_room()) else {
                return Ok(false);
            };
            if area.is_empty() {
                return Ok(false);
            }
            let n = match self.upstream.try_recv(area) {
                Ok(0) => return Err(self.closed_in_head()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // A server that took no bytes and says nothing.
                    return if self.up_broken {
                        Err(self.closed_in_head())
                    } else {
                        Ok(false)
                    };
                }
                Err(_) => return Err(self.closed_in_head()),
            };
            self.heard = true;
            self.last_heard = rt::now_ms();
            if self.work.response.is_empty() {
                let block = area.get(..n).unwrap_or_default();
                match self.scan(block)? {
                    Some(end) if self.work.response_index.status >= 200 => {
                        self.begin_in_place(buffer, end, n)?
                    }
                    complete => {
                        // Read anew from the copy: an informational head is followed by another.
                        if complete.is_some() {
                            self.work.response_index.clear();
                        }
                        self.work.response.extend_from_slice(
                            buffer.get(HEADROOM..HEADROOM + n).unwrap_or_default(),
                        );
                        self.head_from_copy()?;
                    }
                }
            } else {
                self.work
                    .response
                    .extend_from_slice(area.get(..n).unwrap_or_default());
                self.head_from_copy()?;
            }
            Ok(true)
        })
    }

    fn closed_in_head(&self) -> Failure {
        if self.heard {
            Failure::UpstreamTruncated
        } else {
            Failure::UpstreamClosed {
                sent: self.sent > 0,
            }
        }
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        match scan::response(
            bytes,
            &mut self.work.response_index,
            &self.bounds.response_limits,
        ) {
            Ok(Progress::Complete(end)) => Ok(Some(end)),
            Ok(Progress::Partial) => Ok(None),
            Err(bad) => Err(Failure::UpstreamInvalid(bad)),
        }
    }

    /// The usual way: the whole head, and perhaps the body, in one block of the scratch buffer. The client's head is written
    /// in front of the body that is already there, and both leave in one send.
    fn begin_in_place(
        &mut self,
        buffer: &mut [u8],
        head_end: usize,
        n: usize,
    ) -> Result<(), Failure> {
        let head_bytes = buffer
            .get(HEADROOM..HEADROOM + head_end)
            .unwrap_or_default();
        self.begin(head_bytes)?;
        let body = HEADROOM + head_end..HEADROOM + n;
        if let (Sink::Length(left), false) = (&mut self.sink, self.replaced) {
            let here = usize::try_from(*left).map_or(body.len(), |left| left.min(body.len()));
            *left -= here as u64;
            if here < body.len() {
                self.clean = false;
            }
            if *left == 0 {
                self.sink = Sink::Done;
            }
            self.body_bytes += here as u64;
            let head_len = self.work.down.len() - self.down_at;
            if let Some(start) = body.start.checked_sub(head_len)
                && let Some(place) = buffer.get_mut(start..body.start)
                && self.down_at == 0
            {
                place.copy_from_slice(&self.work.down);
                self.work.down.clear();
                return self.send_down(buffer.get(start..body.start + here).unwrap_or_default());
            }
            self.work.down.extend_from_slice(
                buffer
                    .get(body.start..body.start + here)
                    .unwrap_or_default(),
            );
            return Ok(());
        }
        self.feed_down(buffer.get(body).unwrap_or_default())
    }

    /// The other way: a head that came in pieces, or with informational ones before it.
    fn head_from_copy(&mut self) -> Result<(), Failure> {
        loop {
            let response = std::mem::take(&mut self.work.response);
            let scanned = self.scan(&response);
            let Some(end) = scanned? else {
                self.work.response = response;
                return Ok(());
            };
            let result = self.begin(response.get(..end).unwrap_or_default());
            let rest = response.get(end..).unwrap_or_default();
            result?;
            if matches!(self.sink, Sink::Head) {
                self.work.response.extend_from_slice(rest);
                self.work.response_index.clear();
                if self.work.response.is_empty() {
                    return Ok(());
                }
                continue;
            }
            if self.facts.is_some_and(|f| f.status == 101) {
                self.work.response.extend_from_slice(rest);
                return Ok(());
            }
            return self.feed_down(rest);
        }
    }

    /// A head is complete: reads what it means, writes the client's.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let index = std::mem::take(&mut self.work.response_index);
        let result = self.begin_with(Head::new(bytes, &index));
        self.work.response_index = index;
        result
    }

    fn begin_with(&mut self, head: Head<'_>) -> Result<(), Failure> {
        let facts = validate::response(head, self.method).map_err(Failure::UpstreamInvalid)?;
        if facts.status == 101 {
            return self.switch(head, facts);
        }
        if facts.status < 200 {
            self.informational += 1;
            if self.informational > self.bounds.informational {
                return Err(Failure::UpstreamInvalid(BadResponse::TooManyInformational));
            }
            if self.client_version == Version::Http11 {
                self.expects_continue &= facts.status != 100;
                self.downstream
                    .informational(head, &facts, &mut self.work.down);
            }
            return Ok(());
        }
        if self.retry_statuses.contains(&facts.status)
            && self.delivered == 0
            && self.is_replayable()
        {
            return Err(Failure::UpstreamStatus(facts.status));
        }
        let upload_done = self.is_upload_done();
        let begun = self.write_head(head, &facts, upload_done);
        self.framing = begun.framing;
        self.replaced = begun.replaced;
        self.facts = Some(facts);
        self.sink = match facts.body {
            Body::None | Body::Length(0) => Sink::Done,
            Body::Length(n) => Sink::Length(n),
            Body::Chunked => Sink::Chunked(ChunkDecoder::new(self.bounds.chunk_extension)),
            Body::UntilClose => Sink::UntilClose,
        };
        if self.replaced {
            // The origin's body is not wanted: its connection is given up unless there was none.
            self.clean &= matches!(self.sink, Sink::Done);
            self.sink = Sink::Done;
        }
        Ok(())
    }

    fn switch(&mut self, head: Head<'_>, facts: ResponseFacts) -> Result<(), Failure> {
        let agreed = head.get(FieldId::Upgrade);
        let asked = self.upgrading.as_deref();
        if asked.is_none()
            || !agreed
                .zip(asked)
                .is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
        {
            return Err(Failure::UpstreamInvalid(BadResponse::UnexpectedSwitch));
        }
        self.write_head(head, &facts, true);
        self.facts = Some(facts);
        self.clean = false;
        self.sink = Sink::Done;
        Ok(())
    }

    fn write_head(&mut self, head: Head<'_>, facts: &ResponseFacts, upload_done: bool) -> Begun {
        let mut edits = std::mem::take(&mut self.work.response_edits);
        let mut out = std::mem::take(&mut self.work.down);
        let begun =
            self.downstream
                .begin(self.work, head, facts, upload_done, &mut edits, &mut out);
        self.work.down = out;
        self.work.response_edits = edits;
        begun
    }

    fn read_body(&mut self) -> Result<bool, Failure> {
        scratch::with(|buffer| {
            let room = self.down_room();
            if room == 0 {
                return Ok(false);
            }
            let Some(area) = buffer.get_mut(HEADROOM..HEADROOM + room) else {
                return Ok(false);
            };
            let n = match self.upstream.try_recv(area) {
                Ok(0) => return self.emit(Self::closed_in_body).map(|()| true),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(Failure::UpstreamTruncated),
            };
            self.last_heard = rt::now_ms();
            let block = area.get(..n).unwrap_or_default();
            if let Sink::Length(left) = &mut self.sink {
                let here = usize::try_from(*left).map_or(n, |left| left.min(n));
                *left -= here as u64;
                if *left == 0 {
                    self.sink = Sink::Done;
                }
                self.clean &= here == n;
                self.body_bytes += here as u64;
                self.send_down(block.get(..here).unwrap_or_default())?;
            } else {
                self.emit(|this| this.feed_down(block))?;
            }
            Ok(true)
        })
    }

    fn closed_in_body(&mut self) -> Result<(), Failure> {
        self.ended_by_close = true;
        if !matches!(self.sink, Sink::UntilClose) {
            return Err(Failure::UpstreamTruncated);
        }
        if self.framing == Body::Chunked {
            self.work.down.extend_from_slice(chunk::LAST_CHUNK);
        }
        self.sink = Sink::Done;
        Ok(())
    }

    /// Puts body bytes in `work.down` in the client's framing.
    fn feed_down(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let bad = |_: Reject| Failure::UpstreamInvalid(BadResponse::Chunk);
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            match &mut self.sink {
                Sink::Head | Sink::Done => {
                    self.clean = false;
                    break;
                }
                Sink::Length(left) => {
                    let n = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= n as u64;
                    if *left == 0 {
                        self.sink = Sink::Done;
                    }
                    self.body_bytes += n as u64;
                    self.work
                        .down
                        .extend_from_slice(rest.get(..n).unwrap_or_default());
                    at += n;
                }
                Sink::UntilClose => {
                    self.push_down(rest);
                    break;
                }
                Sink::Chunked(decoder) => match decoder.step(rest).map_err(bad)? {
                    Step::Framing { consumed } => at += consumed,
                    Step::Data { skip, data } => {
                        self.push_down(rest.get(skip..skip + data).unwrap_or_default());
                        at += skip + data;
                    }
                    Step::Trailers { consumed } => {
                        at += consumed;
                        self.work.response_trailers.clear();
                        self.sink = Sink::Trailers;
                    }
                },
                Sink::Trailers => {
                    let (taken, done) = trailer::take(
                        &mut self.work.response_trailers,
                        rest,
                        &self.bounds.trailer_limits,
                    )
                    .map_err(|_| Failure::UpstreamInvalid(BadResponse::Trailer))?;
                    at += taken;
                    if done {
                        self.end_chunked();
                    }
                }
            }
        }
        Ok(())
    }

    /// Body bytes in the client's framing.
    fn push_down(&mut self, data: &[u8]) {
        self.body_bytes += data.len() as u64;
        if self.framing == Body::Chunked {
            chunk::size_line(data.len(), &mut self.work.down);
            self.work.down.extend_from_slice(data);
            self.work.down.extend_from_slice(b"\r\n");
        } else {
            self.work.down.extend_from_slice(data);
        }
    }

    fn end_chunked(&mut self) {
        self.sink = Sink::Done;
        if self.framing != Body::Chunked {
            return;
        }
        self.work.down.extend_from_slice(b"0\r\n");
        if self.client_trailers {
            trailer::copy(
                &self.work.response_trailers,
                &self.bounds.trailer_limits,
                &mut self.work.down,
            );
        }
        self.work.down.extend_from_slice(b"\r\n");
    }
}
