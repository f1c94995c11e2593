//! The TLS kind of a [`crate::stream::Stream`]: a socket under rustls.
//!
//! What comes in is received into the core's scratch, decrypted there, and put where the caller wants it. What goes out is
//! encrypted into the core's scratch and sent at once. Only what is left over is kept: the beginning of a record, plaintext that
//! did not fit, ciphertext that the kernel did not take. Each is freed when it is empty, so an idle connection owns no buffers.
//!
//! Ciphertext that waits belongs to bytes that the caller has not been told are gone: he offers them again, as after any short
//! write, and they are not encrypted a second time.

use std::cell::RefCell;
use std::io;
use std::task::Poll;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::scratch::{self, BATCH, RECEIVE};
use crate::rt::{Interest, TaskKey, current_core};
use crate::socket::Socket;

/// Plaintext of a full record.
const RECORD: usize = 16 * 1024;
/// Least that is received at once: the largest record, so that what does not fit the caller's buffer is at most one.
const MIN_RECEIVE: usize = RECORD + 512;
/// Receives in one call that bring nothing for the caller (tickets, key updates, empty records) before others have their turn.
const ROUNDS: usize = 4;
const RECORD_HEADER: usize = 5;

/// rustls's side of a connection.
pub(super) enum Conn {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// How the peer's direction has ended.
#[derive(Debug, Clone)]
enum End {
    /// With `close_notify`: everything has been said.
    Closed,
    /// Without: what was said may not be all.
    Truncated,
    /// The peer broke the protocol.
    Failed(rustls::Error),
}

impl End {
    fn report(&self) -> io::Result<usize> {
        match self {
            Self::Closed => Ok(0),
            Self::Truncated => Err(io::ErrorKind::UnexpectedEof.into()),
            Self::Failed(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e.clone())),
        }
    }
}

/// Ciphertext up to `end` is whole records; the last of them carries `plain` bytes of the caller.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: usize,
    plain: usize,
}

struct Inner {
    conn: Conn,
    /// Received, not a whole record (or handshake message) yet.
    cipher: Vec<u8>,
    /// Decrypted, not taken yet, from `plain_at` on.
    plain: Vec<u8>,
    plain_at: usize,
    /// Encrypted, not sent yet, from `out_at` on.
    out: Vec<u8>,
    out_at: usize,
    marks: Vec<Mark>,
    /// Bytes of the caller whose records have been sent and that he has not been told of.
    credit: usize,
    end: Option<End>,
    /// `close_notify` has been made: nothing more is written.
    closing: bool,
    reset: bool,
    /// What is in `plain` is no news.
    seen: bool,
    /// Much was received that was for nobody: others have their turn first.
    tired: bool,
    /// Who is to hear of the next event while the connection is idle.
    watcher: TaskKey,
}

/// A socket under TLS. Calls mean what they mean for [`crate::stream::Stream`].
pub(crate) struct TlsStream {
    socket: Socket,
    inner: RefCell<Inner>,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.socket).finish()
    }
}

/// Where plaintext goes: to the caller as far as it fits, then into the connection.
struct Sink<'a> {
    buf: &'a mut [u8],
    n: usize,
    rest: &'a mut Vec<u8>,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = self.buf.get_mut(self.n..).unwrap_or_default();
        let fits = if self.rest.is_empty() {
            bytes.len().min(room.len())
        } else {
            0
        };
        let (now, later) = bytes.split_at(fits);
        if let Some(room) = room.get_mut(..fits) {
            room.copy_from_slice(now);
            self.n += fits;
        }
        self.rest.extend_from_slice(later);
    }
}

/// What is wanted once the protocol itself has nothing left to do.
enum Job<'a> {
    Nothing,
    /// Encrypt these bytes.
    Encrypt(&'a [u8], &'a mut [u8]),
    CloseNotify(&'a mut [u8]),
}

enum Step {
    /// There may be more to do.
    Again,
    /// The peer has said `close_notify`.
    PeerClosed,
    /// Nothing more without more bytes; so much ciphertext was written for the job.
    Done(Option<usize>),
    /// The record layer will encrypt no more.
    Exhausted,
    Failed(rustls::Error),
}

fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    sink: &mut Sink<'_>,
    out: &mut Vec<u8>,
    job: &mut Job<'_>,
) -> (usize, Step) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(e) => return (discard, Step::Failed(e)),
    };
    let next = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    sink.put(record.payload);
                }
                Some(Err(e)) => break Step::Failed(e),
                None => break Step::Again,
            }
        },
        ConnectionState::EncodeTlsData(mut data) => encode(&mut data, out),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Again
        }
        ConnectionState::PeerClosed => Step::PeerClosed,
        ConnectionState::WriteTraffic(mut traffic) => {
            let done = match std::mem::replace(job, Job::Nothing) {
                Job::Nothing => return (discard, Step::Done(None)),
                Job::Encrypt(plain, room) => traffic.encrypt(plain, room),
                Job::CloseNotify(room) => traffic.queue_close_notify(room),
            };
            match done {
                Ok(n) => Step::Done(Some(n)),
                Err(EncryptError::EncryptExhausted) => Step::Exhausted,
                // The scratch has room for a batch and more.
                Err(e @ EncryptError::InsufficientSize(_)) => {
                    Step::Failed(rustls::Error::General(e.to_string()))
                }
            }
        }
        ConnectionState::ReadEarlyData(_) => {
            Step::Failed(rustls::Error::General("early data is not offered".into()))
        }
        _ => Step::Done(None),
    };
    (discard, next)
}

fn encode<D>(data: &mut rustls::unbuffered::EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> Step {
    let start = out.len();
    let mut size = 0;
    loop {
        out.resize(start + size, 0);
        match data.encode(out.get_mut(start..).unwrap_or_default()) {
            Ok(n) => {
                out.truncate(start + n);
                return Step::Again;
            }
            Err(EncodeError::InsufficientSize(e)) if e.required_size > size => {
                size = e.required_size;
            }
            Err(e) => {
                out.truncate(start);
                return Step::Failed(rustls::Error::General(e.to_string()));
            }
        }
    }
}

impl Inner {
    fn is_pending(&self) -> bool {
        self.out_at < self.out.len()
    }

    fn held(&self) -> &[u8] {
        self.plain.get(self.plain_at..).unwrap_or_default()
    }

    fn take_held(&mut self, buf: &mut [u8]) -> usize {
        let held = self.held();
        let n = held.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), held.get(..n)) {
            to.copy_from_slice(from);
        }
        self.plain_at += n;
        if self.plain_at >= self.plain.len() {
            self.plain = Vec::new();
            self.plain_at = 0;
        }
        n
    }

    fn conn_step(
        &mut self,
        window: &mut [u8],
        buf: &mut [u8],
        n: &mut usize,
        job: &mut Job<'_>,
    ) -> (usize, Step) {
        let mut sink = Sink {
            buf,
            n: *n,
            rest: &mut self.plain,
        };
        let stepped = match &mut self.conn {
            Conn::Server(conn) => step(
                conn.process_tls_records(window),
                &mut sink,
                &mut self.out,
                job,
            ),
            Conn::Client(conn) => step(
                conn.process_tls_records(window),
                &mut sink,
                &mut self.out,
                job,
            ),
        };
        *n = sink.n;
        stepped
    }

    /// Lets rustls do all that can be done with these bytes. Gives how many of them it is done with, how many bytes were put into
    /// `buf`, and what came of the job.
    fn process(
        &mut self,
        bytes: &mut [u8],
        buf: &mut [u8],
        job: &mut Job<'_>,
    ) -> (usize, usize, Option<usize>) {
        let (mut at, mut n) = (0, 0);
        while !self.is_failed() {
            let window = bytes.get_mut(at..).unwrap_or_default();
            let (discard, step) = self.conn_step(window, buf, &mut n, job);
            match step {
                Step::Again => {}
                Step::PeerClosed => {
                    self.end.get_or_insert(End::Closed);
                }
                Step::Done(made) => return (at + discard, n, made),
                Step::Exhausted => {
                    // rustls has said close_notify.
                    self.closing = true;
                    return (at + discard, n, None);
                }
                Step::Failed(e) => {
                    // Behind what rustls has to say about it nothing is processed any more: it must not be asked to.
                    while self.wants_write() {
                        let window = bytes.get_mut(at..).unwrap_or_default();
                        self.conn_step(window, buf, &mut n, &mut Job::Nothing);
                    }
                    self.end = Some(End::Failed(e));
                }
            }
            at += discard;
        }
        (bytes.len(), n, None)
    }

    fn is_failed(&self) -> bool {
        matches!(self.end, Some(End::Failed(_)))
    }

    fn wants_write(&self) -> bool {
        match &self.conn {
            Conn::Server(conn) => conn.wants_write(),
            Conn::Client(conn) => conn.wants_write(),
        }
    }

    /// As [`Inner::process`], with the bytes that are kept.
    fn process_kept(&mut self, job: &mut Job<'_>) -> Option<usize> {
        let mut kept = std::mem::take(&mut self.cipher);
        let (used, _, made) = self.process(&mut kept, &mut [], job);
        if used >= kept.len() {
            return made;
        }
        kept.drain(..used);
        self.cipher = kept;
        made
    }

    /// So many bytes of `out` have gone.
    fn sent(&mut self, n: usize) {
        self.out_at += n;
        let at = self.out_at;
        let whole = self.marks.iter().take_while(|m| m.end <= at).count();
        self.credit += self.marks.drain(..whole).map(|m| m.plain).sum::<usize>();
        if self.out_at >= self.out.len() {
            self.out = Vec::new();
            self.out_at = 0;
            self.marks = Vec::new();
        }
    }

    /// Keeps what the kernel did not take. `pieces` are the plaintexts of `cipher`, each with the length of its records.
    fn keep(&mut self, cipher: &[u8], pieces: &[(usize, usize)]) {
        let mut start = self.out.len();
        let mut rest = cipher;
        for (plain, length) in pieces {
            let (piece, after) = rest.split_at(rest.len().min(*length));
            rest = after;
            let ends = record_ends(piece);
            let records = plain.div_ceil(RECORD);
            // What the protocol itself had to say comes first and carries nothing.
            let own = ends.len().saturating_sub(records);
            let mut left = *plain;
            for (i, end) in ends.into_iter().enumerate() {
                let carried = if i < own { 0 } else { left.min(RECORD) };
                left -= carried;
                self.marks.push(Mark {
                    end: start + end,
                    plain: carried,
                });
            }
            start += piece.len();
        }
        self.out.extend_from_slice(cipher);
    }
}

/// Where the records of `bytes` end.
fn record_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some([_, _, _, a, b]) = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<RECORD_HEADER>())
    {
        at += RECORD_HEADER + usize::from(u16::from_be_bytes([*a, *b]));
        ends.push(at.min(bytes.len()));
    }
    ends
}

fn would_block<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

fn is_would_block(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock
}

impl TlsStream {
    /// `received` is what has been read from the socket already.
    pub(super) fn new(socket: Socket, conn: Conn, received: &[u8]) -> Self {
        Self {
            socket,
            inner: RefCell::new(Inner {
                conn,
                cipher: received.to_vec(),
                plain: Vec::new(),
                plain_at: 0,
                out: Vec::new(),
                out_at: 0,
                marks: Vec::new(),
                credit: 0,
                end: None,
                closing: false,
                reset: false,
                seen: false,
                tired: false,
                watcher: TaskKey::NONE,
            }),
        }
    }

    /// Bytes of memory in buffers.
    #[cfg(test)]
    pub(crate) fn buffered(&self) -> usize {
        let inner = self.inner.borrow();
        let bytes = inner.cipher.capacity() + inner.plain.capacity() + inner.out.capacity();
        bytes + inner.marks.capacity()
    }

    pub(super) fn is_server(&self) -> bool {
        matches!(self.inner.borrow().conn, Conn::Server(_))
    }

    pub(super) fn with_common<T>(&self, f: impl FnOnce(&rustls::CommonState) -> T) -> T {
        match &self.inner.borrow().conn {
            Conn::Server(conn) => f(conn),
            Conn::Client(conn) => f(conn),
        }
    }

    /// One step of the handshake: what is there is worked on, what is to be said is sent. True when it is over.
    pub(super) fn handshake(&self) -> Result<bool, HandshakeEnd> {
        let inner = &mut *self.inner.borrow_mut();
        inner.process_kept(&mut Job::Nothing);
        if self.is_handshaking(inner)
            && inner.end.is_none()
            && self.socket.registration().is_readable()
        {
            match self.receive(inner, &mut []) {
                Ok(_) => {}
                Err(e) if is_would_block(&e) => {}
                Err(e) => return Err(HandshakeEnd::Io(e)),
            }
        }
        let flushed = self.flush(inner);
        match &inner.end {
            Some(End::Failed(e)) => return Err(HandshakeEnd::Tls(e.clone())),
            Some(_) if self.is_handshaking(inner) => return Err(HandshakeEnd::Closed),
            _ => {}
        }
        flushed.map_err(HandshakeEnd::Io)?;
        Ok(!self.is_handshaking(inner))
    }

    #[inline]
    fn is_handshaking(&self, inner: &Inner) -> bool {
        match &inner.conn {
            Conn::Server(conn) => conn.is_handshaking(),
            Conn::Client(conn) => conn.is_handshaking(),
        }
    }

    /// Receives once. Gives how many bytes were put into `buf`; more may be held.
    fn receive(&self, inner: &mut Inner, buf: &mut [u8]) -> io::Result<usize> {
        if !self.socket.registration().is_readable() {
            return would_block();
        }
        scratch::incoming(|scratch| {
            let kept = inner.cipher.len();
            let room = RECEIVE.saturating_sub(kept);
            if room == 0 {
                // A handshake message in crumbs.
                inner.end = Some(End::Failed(rustls::Error::General(
                    "an incomplete message takes too much room".into(),
                )));
                return Ok(0);
            }
            let wanted = buf.len().saturating_sub(kept).max(MIN_RECEIVE).min(room);
            if let Some(front) = scratch.get_mut(..kept) {
                front.copy_from_slice(&inner.cipher);
            }
            let got = self
                .socket
                .try_recv(scratch.get_mut(kept..kept + wanted).unwrap_or_default())?;
            if got == 0 {
                inner.end.get_or_insert(End::Truncated);
                return Ok(0);
            }
            let bytes = scratch.get_mut(..kept + got).unwrap_or_default();
            inner.cipher.clear();
            let (used, n, _) = inner.process(bytes, buf, &mut Job::Nothing);
            let left = bytes.get(used..).unwrap_or_default();
            if left.is_empty() {
                inner.cipher = Vec::new();
            } else {
                inner.cipher.extend_from_slice(left);
            }
            inner.seen = false;
            Ok(n)
        })
    }

    /// Sends what waits; true if nothing waits any more.
    fn flush(&self, inner: &mut Inner) -> io::Result<bool> {
        while inner.is_pending() {
            let bytes = inner.out.get(inner.out_at..).unwrap_or_default();
            match self.socket.try_send(bytes) {
                Ok(n) => inner.sent(n),
                Err(e) if is_would_block(&e) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// As [`TlsStream::flush`], where a failure is somebody else's news.
    fn flush_quietly(&self, inner: &mut Inner) {
        if inner.is_pending() && self.flush(inner).is_ok_and(|all| all) && inner.closing {
            self.socket.shutdown_write();
        }
    }

    #[inline]
    pub(crate) fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let inner = &mut *self.inner.borrow_mut();
        inner.seen = false;
        for _ in 0..ROUNDS {
            if !inner.held().is_empty() {
                return Ok(inner.take_held(buf));
            }
            if let Some(end) = &inner.end {
                return end.report();
            }
            let n = self.receive(inner, buf)?;
            self.flush_quietly(inner);
            if n > 0 {
                return Ok(n);
            }
        }
        if !inner.held().is_empty() {
            return Ok(inner.take_held(buf));
        }
        if let Some(end) = &inner.end {
            return end.report();
        }
        inner.tired = true;
        would_block()
    }

    pub(crate) fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.held().len() < buf.len() && inner.end.is_none() {
            self.socket.registration().assume(Interest::Read);
            match self.receive(inner, &mut []) {
                Ok(_) => self.flush_quietly(inner),
                Err(e) if is_would_block(&e) => {}
                Err(e) if inner.held().is_empty() => return Err(e),
                Err(_) => {}
            }
        }
        let held = inner.held();
        if held.is_empty() {
            return inner.end.as_ref().map_or_else(would_block, End::report);
        }
        let n = held.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), held.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    /// Writes what fits now of `first` and then `second`: encrypted behind one another, in one system call.
    pub(crate) fn try_send(&self, first: &[u8], second: &[u8], more: bool) -> io::Result<usize> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.closing || inner.is_failed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let offered = first.len() + second.len();
        let flushed = self.flush(inner)?;
        let known = inner.credit.min(offered);
        inner.credit -= known;
        let (first, second) = skip(first, second, known);
        let may_go_on = flushed && inner.credit == 0 && first.len() + second.len() > 0;
        if !may_go_on || !self.socket.registration().is_writable() {
            return if known > 0 || offered == 0 {
                Ok(known)
            } else {
                would_block()
            };
        }
        match self.send_new(inner, first, second, more) {
            Ok(n) => Ok(known + n),
            Err(_) if known > 0 => Ok(known),
            Err(e) => Err(e),
        }
    }

    /// Encrypts and sends a batch; nothing waits before it.
    fn send_new(
        &self,
        inner: &mut Inner,
        first: &[u8],
        second: &[u8],
        more: bool,
    ) -> io::Result<usize> {
        scratch::outgoing(|out, joined| {
            let (first, second) = if !second.is_empty() && first.len() + second.len() <= RECORD {
                // One record costs less than two.
                joined.clear();
                joined.extend_from_slice(first);
                joined.extend_from_slice(second);
                (joined.as_slice(), &[] as &[u8])
            } else {
                let first = first.get(..BATCH).unwrap_or(first);
                let room = BATCH - first.len();
                (first, second.get(..room).unwrap_or(second))
            };
            let mut pieces = [(0, 0); 2];
            let mut length = 0;
            for (piece, plain) in pieces.iter_mut().zip([first, second]) {
                if plain.is_empty() {
                    continue;
                }
                let room = out.get_mut(length..).unwrap_or_default();
                let Some(made) = inner.process_kept(&mut Job::Encrypt(plain, room)) else {
                    return Err(io::ErrorKind::BrokenPipe.into());
                };
                *piece = (plain.len(), made);
                length += made;
            }
            let cipher = out.get(..length).unwrap_or_default();
            let plain = first.len() + second.len();
            if !inner.is_pending() {
                let sent = if more {
                    self.socket.try_send_more(cipher)
                } else {
                    self.socket.try_send(cipher)
                };
                match sent {
                    Ok(n) if n == length => return Ok(plain),
                    Ok(n) => {
                        inner.keep(cipher, &pieces);
                        inner.sent(n);
                    }
                    Err(e) if is_would_block(&e) => inner.keep(cipher, &pieces),
                    Err(e) => return Err(e),
                }
            } else {
                // The protocol had something of its own to say first.
                inner.keep(cipher, &pieces);
                self.flush(inner)?;
            }
            match std::mem::take(&mut inner.credit) {
                0 => would_block(),
                n => Ok(n),
            }
        })
    }

    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        let inner = self.inner.borrow();
        self.socket.registration().is_readable()
            || (!inner.seen && (!inner.held().is_empty() || inner.end.is_some()))
    }

    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        self.socket.registration().is_writable()
    }

    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.socket.registration().is_dead() || self.inner.borrow().is_failed()
    }

    #[inline]
    pub(crate) fn poll_ready(&self, interest: Interest) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        let registration = self.socket.registration();
        if inner.is_pending() {
            // What waits goes out whoever comes by; the caller's own next write says what is wrong.
            self.flush_quietly(inner);
            if inner.is_pending() && interest == Interest::Read && inner.marks.is_empty() {
                // Nobody else waits for the socket to take it.
                let _ = registration.poll_ready(Interest::Write);
            }
        }
        if interest == Interest::Write {
            return registration.poll_ready(Interest::Write);
        }
        if std::mem::take(&mut inner.tired) {
            let core = current_core();
            core.wake(core.current_task());
            return Poll::Pending;
        }
        if !inner.seen && (!inner.held().is_empty() || inner.end.is_some()) {
            return Poll::Ready(());
        }
        registration.poll_ready(Interest::Read)
    }

    #[inline]
    pub(crate) fn poll_dead(&self) -> Poll<()> {
        if self.inner.borrow().is_failed() {
            return Poll::Ready(());
        }
        self.socket.registration().poll_dead()
    }

    pub(crate) fn watch(&self, task: TaskKey) {
        let inner = &mut *self.inner.borrow_mut();
        inner.watcher = task;
        if !inner.held().is_empty() || inner.end.is_some() {
            current_core().wake(task);
        }
        self.socket.registration().watch(task);
    }

    pub(crate) fn seen(&self) {
        self.inner.borrow_mut().seen = true;
        self.socket.registration().would_block(Interest::Read);
    }

    pub(crate) fn unseen(&self) {
        let inner = &mut *self.inner.borrow_mut();
        inner.seen = false;
        if inner.held().is_empty() && inner.end.is_none() {
            self.socket.registration().assume(Interest::Read);
        }
    }

    /// Is there nothing to read, and the peer still there? What the protocol itself says (tickets that come after the handshake)
    /// is taken in and is nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let registration = self.socket.registration();
        if registration.is_dead() || registration.is_read_ended() {
            return false;
        }
        let mut rounds = 0;
        while inner.held().is_empty() && inner.end.is_none() && registration.is_readable() {
            rounds += 1;
            if rounds > ROUNDS {
                return false;
            }
            match self.receive(inner, &mut []) {
                Ok(_) => self.flush_quietly(inner),
                Err(e) if is_would_block(&e) => {}
                Err(_) => return false,
            }
        }
        if !inner.held().is_empty() || inner.end.is_some() {
            return false;
        }
        if rounds > 0 && inner.watcher != TaskKey::NONE {
            // The event that has just been looked into was the watcher's.
            registration.watch(inner.watcher);
        }
        true
    }

    pub(crate) fn is_read_ended(&self) -> bool {
        self.inner.borrow().end.is_some() || self.socket.registration().is_read_ended()
    }

    pub(crate) fn unsent(&self) -> io::Result<usize> {
        let inner = self.inner.borrow();
        Ok(self.socket.unsent()? + (inner.out.len() - inner.out_at))
    }

    pub(crate) fn shutdown_write(&self) {
        let inner = &mut *self.inner.borrow_mut();
        self.close_notify(inner);
        if !inner.is_pending() {
            self.socket.shutdown_write();
        }
    }

    pub(crate) fn reset_on_close(&self) {
        self.inner.borrow_mut().reset = true;
        self.socket.reset_on_close();
    }

    fn close_notify(&self, inner: &mut Inner) {
        if inner.closing {
            return;
        }
        let failed = inner.is_failed();
        if !failed && !self.is_handshaking(inner) {
            let mut room = [0; 256];
            if let Some(n) = inner.process_kept(&mut Job::CloseNotify(&mut room)) {
                inner
                    .out
                    .extend_from_slice(room.get(..n).unwrap_or_default());
            }
        }
        inner.closing = true;
        // What cannot be sent now is sent when the socket has room, or never.
        let _ = self.flush(inner);
    }
}

impl Drop for TlsStream {
    /// Says `close_notify` as well as it can: not into the middle of a record that waits, and not on another thread than the core.
    fn drop(&mut self) {
        let Ok(mut inner) = self.inner.try_borrow_mut() else {
            return;
        };
        let inner = &mut *inner;
        if inner.reset || inner.closing || !inner.marks.is_empty() || !crate::rt::is_core() {
            return;
        }
        let registration = self.socket.registration();
        if registration.is_writable() && !registration.is_dead() {
            self.close_notify(inner);
        }
    }
}

/// Both pieces without their first `n` bytes.
fn skip<'a>(first: &'a [u8], second: &'a [u8], n: usize) -> (&'a [u8], &'a [u8]) {
    match first.get(n..) {
        Some(first) => (first, second),
        None => (&[], second.get(n - first.len()..).unwrap_or_default()),
    }
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(super) enum HandshakeEnd {
    Io(io::Error),
    Tls(rustls::Error),
    Closed,
}
