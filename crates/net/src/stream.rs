//! A stream of bytes on a core: a socket, in the clear or under TLS, or one stream of a connection that carries many.
//!
//! Whoever moves bytes asks no further: the same calls mean the same for every kind. Nothing waits inside a call; readiness is
//! asked for with `poll_readable` and `poll_writable`, which remember the running task.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;

use crate::rt::{Interest, TaskKey};
use crate::socket::Socket;
use crate::tls::stream::TlsStream;

/// One stream of a multiplexed connection, as [`Stream`] shows it. Calls mean what they mean there.
pub trait Virtual {
    /// Takes bytes of the peer's message; `Ok(0)` is its end.
    fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Shows what [`Virtual::try_recv`] would give.
    fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Hands over bytes of our message: as many as there is room for.
    fn try_send(&self, buf: &[u8]) -> io::Result<usize>;
    /// May this direction move now? Does not register anybody.
    fn is_ready(&self, interest: Interest) -> bool;
    /// Ready, or the running task is woken when it becomes so.
    fn poll_ready(&self, interest: Interest) -> Poll<()>;
    /// Does it wait for the others of its connection, rather than for its own peer?
    fn is_held_up(&self) -> bool;
    /// Neither direction moves any more.
    fn is_dead(&self) -> bool;
    /// What is there has been looked at: only more of it is news. Or: it is news again.
    fn seen(&self, seen: bool);
    /// Bytes that we have taken and that have not left.
    fn unsent(&self) -> usize;
    /// Bytes of memory that wait to be received.
    fn held(&self) -> usize;
    /// Our message is complete.
    fn end(&self);
    /// What was said of our message must not look complete.
    fn reset(&self);
}

enum Io {
    Socket(Socket),
    Tls(Box<TlsStream>),
    Virtual(Rc<dyn Virtual>),
}

/// A stream of bytes. Closing is dropping.
pub struct Stream {
    io: Io,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.io {
            Io::Socket(socket) => socket.fmt(f),
            Io::Tls(tls) => tls.fmt(f),
            Io::Virtual(_) => f.write_str("Virtual"),
        }
    }
}

impl Stream {
    /// Takes a connected (or connecting), non-blocking socket onto this core.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            io: Io::Socket(Socket::new(fd)?),
        })
    }

    /// One of many streams of a connection.
    pub fn of_many(stream: Rc<dyn Virtual>) -> Self {
        Self {
            io: Io::Virtual(stream),
        }
    }

    /// Reads what is there. `WouldBlock` without a system call if nothing was announced; `Ok(0)` is the end (`buf` must
    /// not be empty).
    #[inline]
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.io {
            Io::Socket(socket) => socket.try_recv(buf),
            Io::Tls(tls) => tls.try_recv(buf),
            Io::Virtual(stream) => stream.try_recv(buf),
        }
    }

    /// Looks at what is there without taking it. Asks the kernel even if nothing was announced.
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.io {
            Io::Socket(socket) => socket.try_peek(buf),
            Io::Tls(tls) => tls.try_peek(buf),
            Io::Virtual(stream) => stream.try_peek(buf),
        }
    }

    /// Writes what fits now; `WouldBlock` if nothing does. What was not taken is offered again, unchanged.
    #[inline]
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        match &self.io {
            Io::Socket(socket) => socket.try_send(buf),
            Io::Tls(tls) => tls.try_send(buf, &[], false),
            Io::Virtual(stream) => stream.try_send(buf),
        }
    }

    /// As [`Stream::try_send`], and says that more follows at once.
    pub fn try_send_more(&self, buf: &[u8]) -> io::Result<usize> {
        match &self.io {
            Io::Socket(socket) => socket.try_send_more(buf),
            Io::Tls(tls) => tls.try_send(buf, &[], true),
            Io::Virtual(stream) => stream.try_send(buf),
        }
    }

    /// Writes what fits now of `first` and then `second`, in one system call.
    pub fn try_send_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        match &self.io {
            Io::Socket(socket) => socket.try_send_two(first, second),
            Io::Tls(tls) => tls.try_send(first, second, false),
            Io::Virtual(stream) => {
                let n = stream.try_send(first)?;
                if n < first.len() {
                    return Ok(n);
                }
                match stream.try_send(second) {
                    Ok(more) => Ok(n + more),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(n),
                    Err(e) => Err(e),
                }
            }
        }
    }

    /// As [`Stream::try_send_two`], of all parts where one system call takes them as they are; else of the first two.
    pub fn try_send_parts(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if let Io::Socket(socket) = &self.io {
            return socket.try_send_parts(parts);
        }
        let mut parts = parts.iter().map(|part| &**part);
        let first = parts.next().unwrap_or_default();
        self.try_send_two(first, parts.next().unwrap_or_default())
    }

    /// May a read find something? Costs no system call.
    #[inline]
    pub fn is_readable(&self) -> bool {
        match &self.io {
            Io::Socket(socket) => socket.registration().is_readable(),
            Io::Tls(tls) => tls.is_readable(),
            Io::Virtual(stream) => stream.is_ready(Interest::Read),
        }
    }

    /// Is it known that a read would find nothing? Of a socket alone: what else is read may be in our own memory.
    #[inline]
    pub fn is_drained(&self) -> bool {
        match &self.io {
            Io::Socket(socket) => !socket.registration().is_readable(),
            Io::Tls(_) | Io::Virtual(_) => false,
        }
    }

    /// May a write find room? Costs no system call.
    #[inline]
    pub fn is_writable(&self) -> bool {
        match &self.io {
            Io::Socket(socket) => socket.registration().is_writable(),
            Io::Tls(tls) => tls.is_writable(),
            Io::Virtual(stream) => stream.is_ready(Interest::Write),
        }
    }

    /// Is it not the peer's reading that a write waits for, but other streams of the same connection? That one's own clock runs.
    pub fn is_held_up(&self) -> bool {
        match &self.io {
            Io::Socket(_) | Io::Tls(_) => false,
            Io::Virtual(stream) => stream.is_held_up(),
        }
    }

    /// Has the peer closed both directions, reset the connection, or is it broken?
    #[inline]
    pub fn is_dead(&self) -> bool {
        match &self.io {
            Io::Socket(socket) => socket.registration().is_dead(),
            Io::Tls(tls) => tls.is_dead(),
            Io::Virtual(stream) => stream.is_dead(),
        }
    }

    /// Ready when a read may find something; else the running task is woken when it may.
    #[inline]
    pub fn poll_readable(&self) -> Poll<()> {
        self.poll_ready(Interest::Read)
    }

    /// Ready when a write may find room; else the running task is woken when it may.
    #[inline]
    pub fn poll_writable(&self) -> Poll<()> {
        self.poll_ready(Interest::Write)
    }

    #[inline]
    fn poll_ready(&self, interest: Interest) -> Poll<()> {
        match &self.io {
            Io::Socket(socket) => socket.registration().poll_ready(interest),
            Io::Tls(tls) => tls.poll_ready(interest),
            Io::Virtual(stream) => stream.poll_ready(interest),
        }
    }

    /// Completes when the peer has closed both directions or reset the connection.
    #[inline]
    pub fn poll_dead(&self) -> Poll<()> {
        match &self.io {
            Io::Socket(socket) => socket.registration().poll_dead(),
            Io::Tls(tls) => tls.poll_dead(),
            Io::Virtual(stream) => {
                if stream.is_dead() {
                    return Poll::Ready(());
                }
                // Its death is a read event.
                let _ = stream.poll_ready(Interest::Read);
                Poll::Pending
            }
        }
    }

    /// Waits until a read may find something.
    pub async fn readable(&self) {
        std::future::poll_fn(|_| self.poll_readable()).await;
    }

    /// Waits until a write may find room.
    pub async fn writable(&self) {
        std::future::poll_fn(|_| self.poll_writable()).await;
    }

    /// Reads into `buf`, waiting for the first byte.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_recv(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable().await,
                done => return done,
            }
        }
    }

    /// Writes all of `buf`.
    pub async fn send_all(&self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.try_send(buf) {
                Ok(n) => buf = buf.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// An idle connection in a pool: `task`, rather than the running one, hears of the next read event; at once if there is
    /// something already.
    #[inline]
    pub fn watch(&self, task: TaskKey) {
        match &self.io {
            Io::Socket(socket) => socket.registration().watch(task),
            Io::Tls(tls) => tls.watch(task),
            // Of a connection that carries many, others see the end.
            Io::Virtual(_) => {}
        }
    }

    /// What is there has been looked at ([`Stream::try_peek`]) and is not enough: only more of it is news.
    pub fn seen(&self) {
        match &self.io {
            Io::Socket(socket) => socket.registration().would_block(Interest::Read),
            Io::Tls(tls) => tls.seen(),
            Io::Virtual(stream) => stream.seen(true),
        }
    }

    /// What was looked at is still there to be read.
    pub fn unseen(&self) {
        match &self.io {
            Io::Socket(socket) => socket.registration().assume(Interest::Read),
            Io::Tls(tls) => tls.unseen(),
            Io::Virtual(stream) => stream.seen(false),
        }
    }

    /// Is there nothing to read, and the peer still there? After a message that filled its buffer exactly only the kernel
    /// knows: it is asked.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        match &self.io {
            Io::Socket(socket) => socket.is_quiet(),
            Io::Tls(tls) => tls.is_quiet(),
            Io::Virtual(stream) => !stream.is_dead() && !stream.is_ready(Interest::Read),
        }
    }

    /// As [`Stream::is_quiet`], as far as it is known without a system call.
    #[inline]
    pub fn is_idle(&self) -> bool {
        match &self.io {
            Io::Socket(socket) => {
                let registration = socket.registration();
                !registration.is_dead() && !registration.is_readable()
            }
            // A ticket that has come meanwhile is no data: it is taken in.
            Io::Tls(tls) => tls.is_quiet(),
            Io::Virtual(stream) => !stream.is_dead() && !stream.is_ready(Interest::Read),
        }
    }

    /// Has the peer ended its direction (it may still read)?
    pub fn is_read_ended(&self) -> bool {
        match &self.io {
            Io::Socket(socket) => socket.registration().is_read_ended(),
            Io::Tls(tls) => tls.is_read_ended(),
            Io::Virtual(stream) => stream.is_dead(),
        }
    }

    /// Bytes that wait for the peer: not sent, or sent and not acknowledged.
    pub fn unsent(&self) -> io::Result<usize> {
        match &self.io {
            Io::Socket(socket) => socket.unsent(),
            Io::Tls(tls) => tls.unsent(),
            Io::Virtual(stream) => Ok(stream.unsent()),
        }
    }

    /// Bytes of memory that wait to be received, here and not in the kernel.
    #[inline]
    pub fn held(&self) -> usize {
        match &self.io {
            // What TLS holds is bounded by a record, and is not counted.
            Io::Socket(_) | Io::Tls(_) => 0,
            Io::Virtual(stream) => stream.held(),
        }
    }

    /// Ends our direction; the peer may still send.
    pub fn shutdown_write(&self) {
        match &self.io {
            Io::Socket(socket) => socket.shutdown_write(),
            Io::Tls(tls) => tls.shutdown_write(),
            Io::Virtual(stream) => stream.end(),
        }
    }

    /// Makes the coming close a reset, for a message that must not look complete.
    pub fn reset_on_close(&self) {
        match &self.io {
            Io::Socket(socket) => socket.reset_on_close(),
            Io::Tls(tls) => tls.reset_on_close(),
            Io::Virtual(stream) => stream.reset(),
        }
    }

    /// The socket, if it is one in the clear.
    pub fn socket(&self) -> Option<&Socket> {
        match &self.io {
            Io::Socket(socket) => Some(socket),
            Io::Tls(_) | Io::Virtual(_) => None,
        }
    }

    /// Bytes of memory that a stream under TLS has in buffers.
    #[cfg(test)]
    pub(crate) fn buffered(&self) -> usize {
        match &self.io {
            Io::Tls(tls) => tls.buffered(),
            Io::Socket(_) | Io::Virtual(_) => 0,
        }
    }

    /// The socket alone, for a layer over it.
    pub fn into_socket(self) -> Result<Socket, Self> {
        match self.io {
            Io::Socket(socket) => Ok(socket),
            io => Err(Self { io }),
        }
    }
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self {
            io: Io::Socket(socket),
        }
    }
}

impl From<TlsStream> for Stream {
    fn from(stream: TlsStream) -> Self {
        Self {
            io: Io::Tls(Box::new(stream)),
        }
    }
}
