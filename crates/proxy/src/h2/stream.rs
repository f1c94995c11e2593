//! One stream, as its exchange sees it: body bytes both ways as on a socket; heads, trailers and the end by name.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::task::Poll;

use narthex_net::rt::{self, Interest, TaskKey};
use narthex_net::stream::Virtual;
use narthex_wire::h2::{ErrorCode, StreamId, encode};

use super::session::Session;

/// Memory of a stream that waits for more of its body is given back above this. Bytes.
const KEEP: usize = 16 * 1024;

/// What has come of the request's body and has not been taken. At most the stream's window.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
    /// Looked at, and not enough.
    seen: bool,
}

/// A request's stream.
pub(crate) struct ClientStream {
    session: Weak<Session>,
    id: StreamId,
    received: RefCell<Received>,
    /// Bytes of our answer that are still to come, if its length is known: the last of them ends the stream.
    left: Cell<Option<u64>>,
    /// The stream is over, by a reset of either side or the connection's end.
    dead: Cell<bool>,
    reader: Cell<TaskKey>,
    writer: Cell<TaskKey>,
}

impl ClientStream {
    pub(super) fn new(session: &Rc<Session>, id: StreamId, ended: bool) -> Rc<Self> {
        Rc::new(Self {
            session: Rc::downgrade(session),
            id,
            received: RefCell::new(Received {
                ended,
                ..Received::default()
            }),
            left: Cell::new(None),
            dead: Cell::new(false),
            reader: Cell::default(),
            writer: Cell::default(),
        })
    }

    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    /// Bytes of the body have come.
    pub(super) fn push(&self, bytes: &[u8], end: bool) {
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

    /// There is room again for bytes of ours.
    pub(super) fn writable(&self) {
        wake(&self.writer);
    }

    /// Neither direction moves any more.
    pub(super) fn kill(&self) {
        self.dead.set(true);
        wake(&self.reader);
        wake(&self.writer);
    }

    /// An informational head.
    pub(crate) fn inform(&self, block: &[u8]) {
        self.with(|session| session.head(self.id, block, false));
    }

    /// `100 Continue`.
    pub(crate) fn go_on(&self) {
        let mut block = Vec::new();
        encode::status(100, &mut block);
        self.inform(&block);
    }

    /// The answer's head. `length`: of its body, if that is known; nothing of it follows if that is 0.
    pub(crate) fn begin(&self, block: &[u8], length: Option<u64>) {
        self.left.set(length.filter(|n| *n > 0));
        let end = length == Some(0);
        self.with(|session| session.head(self.id, block, end));
    }

    /// The answer is complete, with these trailers if there are any.
    pub(crate) fn finish(&self, trailers: &[u8]) {
        self.with(|session| {
            if trailers.is_empty() {
                session.end(self.id);
            } else {
                session.head(self.id, trailers, true);
            }
        });
    }

    /// The stream ends here, and so that it does not look complete.
    pub(crate) fn abort(&self, code: ErrorCode) {
        self.with(|session| session.reset(self.id, code));
        self.dead.set(true);
    }

    fn with(&self, f: impl FnOnce(&Session)) {
        if let Some(session) = self.session.upgrade() {
            f(&session);
        }
    }

    fn readable(&self) -> bool {
        let received = self.received.borrow();
        self.dead.get() || !received.seen && (received.ended || received.at < received.bytes.len())
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

impl Virtual for ClientStream {
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
            self.with(|session| session.consumed(self.id, n));
        }
        Ok(n)
    }

    fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        if self.dead.get() {
            return Err(gone());
        }
        let received = self.received.borrow();
        let waiting = received.bytes.get(received.at..).unwrap_or_default();
        if waiting.is_empty() && !received.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = waiting.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), waiting.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        let Some(session) = self.session.upgrade().filter(|_| !self.dead.get()) else {
            return Err(gone());
        };
        let left = self.left.get();
        let end = left == Some(buf.len() as u64);
        let n = session.data(self.id, buf, end);
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
                let session = self.session.upgrade();
                self.dead.get() || session.is_none_or(|s| s.writable(self.id))
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

    fn is_dead(&self) -> bool {
        self.dead.get()
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
