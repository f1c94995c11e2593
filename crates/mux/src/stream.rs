//! One stream, as its exchange sees it: body bytes both ways as on a socket; heads, trailers and the end by name.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::task::Poll;

use narthex_message::Index;
use narthex_net::rt::{self, Interest, TaskKey};
use narthex_net::stream::Virtual;
use narthex_wire::h2::{ErrorCode, Oversize, StreamId, encode};

use crate::session::Session;

/// Memory of a stream that waits for more of its body is given back above this. Bytes.
const KEEP: usize = 16 * 1024;
/// Heads of one answer that wait to be looked at: informational ones and the final one. More than anybody may send.
const HEADS: usize = 64;

/// A head that has come, decoded into the form of HTTP/1's lines.
pub struct Head {
    /// The lines.
    pub bytes: Vec<u8>,
    /// The index over them.
    pub index: Index,
    /// It is too large: what is there is what fitted.
    pub oversize: Option<Oversize>,
}

/// What has come of the peer's message and has not been taken. Of bytes, at most the stream's window.
#[derive(Default)]
struct Received {
    heads: VecDeque<Head>,
    trailers: Option<Head>,
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
    /// Looked at, and not enough.
    seen: bool,
}

/// A stream. Dropping the last handle of who uses it gives its place back ([`MuxStream::release`]).
pub struct MuxStream {
    session: Weak<Session>,
    /// 0: not opened.
    id: Cell<StreamId>,
    /// Ours, and not opened yet.
    reserved: Cell<bool>,
    received: RefCell<Received>,
    /// Bytes of our message that are still to come, if its length is known: the last of them ends it.
    left: Cell<Option<u64>>,
    /// The stream is over, by a reset of either side or the connection's end.
    dead: Cell<Option<ErrorCode>>,
    reader: Cell<TaskKey>,
    writer: Cell<TaskKey>,
}

impl MuxStream {
    fn new(session: &Rc<Session>, id: StreamId, ended: bool) -> Rc<Self> {
        Rc::new(Self {
            session: Rc::downgrade(session),
            id: Cell::new(id),
            reserved: Cell::new(id == 0),
            received: RefCell::new(Received {
                ended,
                ..Received::default()
            }),
            left: Cell::new(None),
            dead: Cell::new(None),
            reader: Cell::default(),
            writer: Cell::default(),
        })
    }

    /// The peer has opened it.
    pub(crate) fn arrived_as(session: &Rc<Session>, id: StreamId, ended: bool) -> Rc<Self> {
        Self::new(session, id, ended)
    }

    /// We are going to open it.
    pub(crate) fn unopened(session: &Rc<Session>) -> Rc<Self> {
        Self::new(session, 0, false)
    }

    /// A head of the answer has come.
    pub(crate) fn arrived(&self, head: Head, end: bool) {
        let mut received = self.received.borrow_mut();
        if received.heads.len() >= HEADS {
            drop(received);
            return self.abort(ErrorCode::ENHANCE_YOUR_CALM);
        }
        received.heads.push_back(head);
        received.ended |= end;
        received.seen = false;
        drop(received);
        wake(&self.reader);
    }

    /// Bytes of the body have come.
    pub(crate) fn push(&self, bytes: &[u8], end: bool) {
        let mut received = self.received.borrow_mut();
        if received.at > 0 {
            let at = std::mem::take(&mut received.at);
            received.bytes.drain(..at);
        }
        received.bytes.extend_from_slice(bytes);
        received.ended |= end;
        received.seen = false;
        drop(received);
        wake(&self.reader);
    }

    /// The message ended with trailers.
    pub(crate) fn ended_with(&self, trailers: Head) {
        self.received.borrow_mut().trailers = Some(trailers);
        self.push(b"", true);
    }

    /// The peer's message has come whole.
    pub(crate) fn has_ended(&self) -> bool {
        self.received.borrow().ended
    }

    /// There is room again for bytes of ours.
    pub(crate) fn writable(&self) {
        wake(&self.writer);
    }

    /// Neither direction moves any more.
    pub(crate) fn kill(&self, code: ErrorCode) {
        if self.dead.get().is_none() {
            self.dead.set(Some(code));
        }
        wake(&self.reader);
        wake(&self.writer);
    }

    /// Why it is over, if it is.
    pub fn ended_by(&self) -> Option<ErrorCode> {
        self.dead.get()
    }

    /// Client: may the stream be opened by extended CONNECT (RFC 8441)? Pending until the server has said so or not.
    pub fn poll_offers_connect(&self) -> Poll<bool> {
        match self.session.upgrade() {
            Some(session) => session.poll_offers_connect(),
            None => Poll::Ready(false),
        }
    }

    /// Client: sends the request's head. False if there was no room: nothing was sent. `length`: of its body, if known.
    pub fn open(self: &Rc<Self>, block: &[u8], length: Option<u64>, head_request: bool) -> bool {
        let Some(session) = self.session.upgrade() else {
            return false;
        };
        if self.reserved.replace(false) {
            session.unreserve();
        }
        self.left.set(length.filter(|n| *n > 0));
        let end = length == Some(0);
        match session.open(self, block, end, head_request) {
            Some(id) => self.id.set(id),
            None => self.dead.set(Some(ErrorCode::REFUSED_STREAM)),
        }
        self.id.get() != 0
    }

    /// Client: the next head of the answer.
    pub fn take_head(&self) -> Option<Head> {
        self.received.borrow_mut().heads.pop_front()
    }

    /// The trailers, once the message has ended.
    pub fn take_trailers(&self) -> Option<Head> {
        self.received.borrow_mut().trailers.take()
    }

    /// An informational head.
    pub fn inform(&self, block: &[u8]) {
        self.head(block, false);
    }

    /// `100 Continue`.
    pub fn go_on(&self) {
        let mut block = Vec::new();
        encode::status(100, &mut block);
        self.inform(&block);
    }

    /// The answer's head. `length`: of its body, if that is known; nothing of it follows if that is 0.
    pub fn begin(&self, block: &[u8], length: Option<u64>) {
        self.left.set(length.filter(|n| *n > 0));
        self.head(block, length == Some(0));
    }

    /// Our message is complete, with these trailers if there are any.
    pub fn finish(&self, trailers: &[u8]) {
        if trailers.is_empty() {
            self.with(|session| {
                session.connection().end(self.id.get(), rt::now_ms());
                session.tell();
            });
        } else {
            self.head(trailers, true);
        }
    }

    /// The stream ends here, and so that it does not look complete.
    pub fn abort(&self, code: ErrorCode) {
        self.with(|session| {
            session.connection().reset(self.id.get(), code);
            session.tell();
        });
        self.kill(code);
    }

    /// Nobody works for it any more: its place is free.
    pub fn release(&self) {
        if self.reserved.replace(false)
            && let Some(session) = self.session.upgrade()
        {
            session.unreserve();
            session.free();
        }
        self.with(|session| session.release(self.id.get()));
    }

    fn head(&self, block: &[u8], end: bool) {
        self.with(|session| {
            let now = rt::now_ms();
            session.connection().head(self.id.get(), block, end, now);
            session.tell();
        });
    }

    fn with(&self, f: impl FnOnce(&Session)) {
        if let Some(session) = self.session.upgrade().filter(|_| self.id.get() != 0) {
            f(&session);
        }
    }

    fn readable(&self) -> bool {
        let received = self.received.borrow();
        let news =
            received.ended || received.at < received.bytes.len() || !received.heads.is_empty();
        self.dead.get().is_some() || !received.seen && news
    }
}

fn wake(waiter: &Cell<TaskKey>) {
    let task = waiter.take();
    if task != TaskKey::NONE {
        rt::current_core().wake(task);
    }
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Virtual for MuxStream {
    fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.try_peek(buf)?;
        let mut received = self.received.borrow_mut();
        received.at += n;
        if received.at >= received.bytes.len() {
            received.at = 0;
            if received.bytes.capacity() > KEEP {
                received.bytes = Vec::new();
            } else {
                received.bytes.clear();
            }
        }
        drop(received);
        if n > 0 {
            self.with(|session| {
                let mut connection = session.connection();
                connection.consumed(self.id.get(), n);
                let credit = !connection.out.is_empty();
                drop(connection);
                if credit {
                    session.tell();
                }
            });
        }
        Ok(n)
    }

    fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let received = self.received.borrow();
        let waiting = received.bytes.get(received.at..).unwrap_or_default();
        if waiting.is_empty() && !received.ended {
            // What has come before the end is worth having.
            return Err(if self.dead.get().is_some() {
                gone()
            } else {
                io::ErrorKind::WouldBlock.into()
            });
        }
        let n = waiting.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), waiting.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        let Some(session) = self.session.upgrade().filter(|_| self.dead.get().is_none()) else {
            return Err(gone());
        };
        let left = self.left.get();
        let end = left == Some(buf.len() as u64);
        let n = session
            .connection()
            .data(self.id.get(), buf, end, rt::now_ms());
        session.tell();
        if n == 0 && !buf.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.left
            .set(left.map(|left| left.saturating_sub(n as u64)));
        Ok(n)
    }

    fn is_ready(&self, interest: Interest) -> bool {
        match interest {
            Interest::Read => self.readable(),
            Interest::Write => {
                let room = |s: Rc<Session>| s.connection().writable(self.id.get()) > 0;
                self.dead.get().is_some() || self.session.upgrade().is_none_or(room)
            }
        }
    }

    fn poll_ready(&self, interest: Interest) -> Poll<()> {
        // Noted in any case: being woken once too often does no harm.
        let task = rt::current_core().current_task();
        match interest {
            Interest::Read => self.reader.set(task),
            Interest::Write => self.writer.set(task),
        }
        if self.is_ready(interest) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn is_held_up(&self) -> bool {
        let others = |s: Rc<Session>| s.connection().is_held_up(self.id.get());
        self.dead.get().is_none() && self.session.upgrade().is_some_and(others)
    }

    fn is_dead(&self) -> bool {
        self.dead.get().is_some()
    }

    fn seen(&self, seen: bool) {
        self.received.borrow_mut().seen = seen;
    }

    fn unsent(&self) -> usize {
        0
    }

    fn held(&self) -> usize {
        self.received.borrow().bytes.capacity()
    }

    fn end(&self) {
        self.finish(b"");
    }

    fn reset(&self) {
        self.abort(ErrorCode::INTERNAL_ERROR);
    }
}
