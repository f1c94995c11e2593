//! The TLS kind of a [`crate::stream::Stream`]: a socket under rustls.
//!
//! What comes in is received into the core's scratch, decrypted there, and put where the caller wants it. What goes out is
//! encrypted into the core's scratch and sent at once. Only what is left over is kept: the beginning of a record, plaintext that
//! did not fit, ciphertext that the kernel did not take. Each is freed when it is empty, so an idle connection owns no buffers.

use std::cell::RefCell;
use std::io;
use std::task::Poll;

use super::scratch::{self, BATCH, RECEIVE};
use super::session::{Conn, End, Job, RECORD, Session};
use crate::rt::{Interest, TaskKey, current_core};
use crate::socket::Socket;

/// Least that is received at once: the largest record, so that what does not fit the caller's buffer is at most one.
const MIN_RECEIVE: usize = RECORD + 512;
/// Receives in one call that bring nothing for the caller (tickets, key updates, empty records) before others have their turn.
const ROUNDS: usize = 4;

struct Inner {
    session: Session,
    reset: bool,
    /// What is held is no news.
    seen: bool,
    /// Much was received that was for nobody: others have their turn first.
    tired: bool,
    /// Who is to hear of the next event while the connection is idle.
    watcher: TaskKey,
}

/// What is held of the session reads as the stream's own.
impl std::ops::Deref for Inner {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl std::ops::DerefMut for Inner {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
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
                session: Session::new(conn, received),
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
        if inner.is_handshaking() && inner.end.is_none() && self.socket.registration().is_readable()
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
            Some(_) if inner.is_handshaking() => return Err(HandshakeEnd::Closed),
            _ => {}
        }
        flushed.map_err(HandshakeEnd::Io)?;
        Ok(!inner.is_handshaking())
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
            let nobody_else = inner.closing || inner.marks.is_empty();
            if inner.is_pending() && interest == Interest::Read && nobody_else {
                // The caller has nothing to write, so he does not wait for room.
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

    /// After a handshake that has failed: our last word is said, and what the peer has sent meanwhile must not turn the close into a
    /// reset that takes it back.
    pub(super) fn give_up(&self) {
        self.shutdown_write();
        discard(&self.socket);
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
        if !failed && !inner.is_handshaking() {
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

/// Takes what has come out of the kernel's hands, up to a bound.
pub(super) fn discard(socket: &Socket) {
    scratch::incoming(|scratch| {
        for _ in 0..ROUNDS {
            if !matches!(socket.try_recv(scratch), Ok(n) if n > 0) {
                return;
            }
        }
    });
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
