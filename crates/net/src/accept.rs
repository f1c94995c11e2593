//! Accepting on a core: a bounded batch per turn, a pause when descriptors run out, an end that loses no client.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{SockFilter, SockRef};

use crate::rt::{self, Interest, Registration, TaskKey, current_core};

/// Connections accepted before other tasks have their turn.
const BATCH: usize = 64;
/// Rest after the process or the machine has run out of descriptors or memory.
const PAUSE_MS: u64 = 100;
/// Connections in a row that died in the queue before we rest; each costs a system call and yields nothing.
const FAILURES_BEFORE_PAUSE: usize = 256;
/// How long an ending acceptor waits for handshakes that are under way. Less than the second after which a client
/// repeats its SYN, so that the repetition finds another socket or an honest refusal.
const LAST_HANDSHAKES_MS: u64 = 200;
/// How long an ending acceptor that is out of descriptors waits for some, before it closes a queue that is not empty.
const END_PATIENCE_MS: u64 = 10_000;

/// Who connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// TCP. IPv4-mapped addresses of a dual-stack socket are folded to IPv4.
    Tcp(SocketAddr),
    /// A unix socket; it has no useful address.
    Unix,
}

/// A new connection: non-blocking, close-on-exec, with the options of its listening socket.
#[derive(Debug)]
pub struct Accepted {
    /// The socket. It may go to another core.
    pub fd: OwnedFd,
    /// The other side.
    pub peer: Peer,
}

/// Why nothing was accepted.
#[derive(Debug)]
pub enum AcceptError {
    /// Descriptors or memory have run out: wait, then try again.
    Exhausted(io::Error),
    /// This one connection died in the queue: the next may be well.
    Connection(io::Error),
    /// The listening socket itself is no good.
    Listener(io::Error),
}

impl AcceptError {
    fn of(error: rustix::io::Errno) -> Self {
        use rustix::io::Errno as E;
        match error {
            E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM => Self::Exhausted(error.into()),
            E::BADF | E::INVAL | E::NOTSOCK | E::OPNOTSUPP | E::FAULT => {
                Self::Listener(error.into())
            }
            // ECONNABORTED, EPROTO, EPERM (a firewall), EHOSTUNREACH ...: accept(2) hands on the connection's own error.
            _ => Self::Connection(error.into()),
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // A successor or the service manager may go on with the same socket.
        self.registration.remove(&self.fd);
    }
}

/// A listening socket on its core.
#[derive(Debug)]
pub struct Acceptor {
    registration: Registration,
    fd: OwnedFd,
}

impl Acceptor {
    /// Takes a listening, non-blocking socket onto this core.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let registration = Registration::new(&fd)?;
        // What was queued before the registration is announced by it as well.
        Ok(Self { registration, fd })
    }

    /// The next connection; `None` if the queue is empty (the running task is then not yet registered as waiting).
    pub fn try_accept(&self) -> Result<Option<Accepted>, AcceptError> {
        if !self.registration.is_readable() {
            return Ok(None);
        }
        loop {
            // accept4 gives the address too: no getpeername later.
            match acceptfrom_with(&self.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((fd, address)) => {
                    let peer = address.and_then(|a| SocketAddr::try_from(a).ok());
                    return Ok(Some(Accepted {
                        fd,
                        peer: peer.map_or(Peer::Unix, |a| Peer::Tcp(fold(a))),
                    }));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.registration.would_block(Interest::Read);
                    return Ok(None);
                }
                Err(e) => return Err(AcceptError::of(e)),
            }
        }
    }

    /// The next connection, waiting for it.
    pub async fn accept(&self) -> Result<Accepted, AcceptError> {
        loop {
            if let Some(accepted) = self.try_accept()? {
                return Ok(accepted);
            }
            self.registration.until(Interest::Read).await;
        }
    }

    /// No new client from now on; those in the queue stay. The socket must not be shared with anybody who goes on
    /// listening. True if handshakes under way may still end.
    fn refuse_newcomers(&self) -> bool {
        let tcp = self.is_tcp();
        if tcp {
            self.drop_syns();
        } else {
            // A unix socket that is shut down refuses connect() and keeps its queue. If it cannot: see `drop_syns`.
            let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Read);
        }
        tcp
    }

    /// TCP has no such refusal (`shutdown` empties the queue), so a filter makes the kernel drop what begins a handshake.
    fn drop_syns(&self) {
        /// Byte 13 of the TCP header holds the flags: drop what has SYN and no ACK, let all else pass.
        const FLAGS_OFFSET: u32 = 13;
        const SYN: u32 = 0x02;
        const SYN_ACK: u32 = 0x12;
        let load = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
        let and = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
        let jump_if_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let give = (libc::BPF_RET | libc::BPF_K) as u16;
        let program = [
            SockFilter::new(load, 0, 0, FLAGS_OFFSET),
            SockFilter::new(and, 0, 0, SYN_ACK),
            SockFilter::new(jump_if_equal, 0, 1, SYN),
            SockFilter::new(give, 0, 0, 0),
            SockFilter::new(give, 0, 0, u32::MAX),
        ];
        // A kernel that refuses leaves the short race between the last accept and the close; nothing else to do.
        let _ = SockRef::from(&self.fd).attach_filter(&program);
    }

    fn is_tcp(&self) -> bool {
        matches!(SockRef::from(&self.fd).domain(), Ok(d) if d == socket2::Domain::IPV4 || d == socket2::Domain::IPV6)
    }
}

fn fold(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Running,
    Paused,
    Ending,
    Leaving,
}

/// Steers an [`accept_loop`] from other tasks of the same core. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AcceptControl(Rc<Steering>);

#[derive(Debug)]
struct Steering {
    mode: Cell<Mode>,
    task: Cell<TaskKey>,
}

impl Default for AcceptControl {
    fn default() -> Self {
        Self(Rc::new(Steering {
            mode: Cell::new(Mode::Running),
            task: Cell::new(TaskKey::NONE),
        }))
    }
}

impl AcceptControl {
    /// A control for one loop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts nothing until [`AcceptControl::resume`]; clients wait in the kernel's queue.
    pub fn pause(&self) {
        self.change(Mode::Paused);
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.change(Mode::Running);
    }

    /// Takes no new handshakes, accepts whoever is through, then closes the socket. For sockets that are ours alone: a
    /// closed queue would reset the clients in it.
    pub fn end(&self) {
        self.change(Mode::Ending);
    }

    /// Stops at once and leaves the queue to the others that hold the same socket (a successor, the service manager).
    pub fn leave(&self) {
        self.change(Mode::Leaving);
    }

    /// An end is final, except that one may leave instead.
    fn change(&self, to: Mode) {
        let from = self.0.mode.get();
        if from == Mode::Leaving || (from == Mode::Ending && to != Mode::Leaving) {
            return;
        }
        self.0.mode.set(to);
        current_core().wake(self.0.task.get());
    }

    fn mode(&self) -> Mode {
        self.0.mode.get()
    }

    /// Waits until `ready` says so, looking again at every wake-up and change.
    async fn until(&self, mut ready: impl FnMut(Mode) -> bool) {
        std::future::poll_fn(|_| {
            self.0.task.set(current_core().current_task());
            if ready(self.mode()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits for `ms`, or until told to end or leave.
    async fn rest(&self, ms: u64) {
        let before = self.mode();
        let changed =
            self.until(|now| now != before && matches!(now, Mode::Ending | Mode::Leaving));
        // Time running out is what we wait for.
        let _ = rt::timeout_at(rt::now_ms() + ms, changed).await;
    }
}

/// Accepts until told to end: at most 64 connections per turn, then other tasks run. Connections that died in the queue
/// are passed over; `on_exhausted` hears of every rest for want of descriptors or memory (count it, close idle
/// connections). Returns early only if the listening socket is broken.
pub async fn accept_loop(
    acceptor: Acceptor,
    control: AcceptControl,
    mut on_accept: impl FnMut(Accepted),
    mut on_exhausted: impl FnMut(&io::Error),
) -> io::Result<()> {
    let mut failures = 0;
    loop {
        match control.mode() {
            Mode::Leaving => return Ok(()),
            Mode::Ending => {
                return finish(&acceptor, &control, &mut on_accept, &mut on_exhausted).await;
            }
            Mode::Paused => control.until(|mode| mode != Mode::Paused).await,
            Mode::Running => match batch(&acceptor, &control, &mut failures, &mut on_accept)? {
                Batch::More => rt::yield_now().await,
                Batch::Empty => wait_for_clients(&acceptor, &control).await,
                Batch::Exhausted(e) => {
                    on_exhausted(&e);
                    control.rest(PAUSE_MS).await;
                }
            },
        }
    }
}

async fn wait_for_clients(acceptor: &Acceptor, control: &AcceptControl) {
    let ready =
        |mode| mode != Mode::Running || acceptor.registration.poll_ready(Interest::Read).is_ready();
    control.until(ready).await;
}

enum Batch {
    More,
    Empty,
    Exhausted(io::Error),
}

fn batch(
    acceptor: &Acceptor,
    control: &AcceptControl,
    failures: &mut usize,
    on_accept: &mut impl FnMut(Accepted),
) -> io::Result<Batch> {
    let mode = control.mode();
    for _ in 0..BATCH {
        // `on_accept` may have reached a limit and paused us.
        if control.mode() != mode {
            return Ok(Batch::More);
        }
        match acceptor.try_accept() {
            Ok(Some(accepted)) => {
                *failures = 0;
                on_accept(accepted);
            }
            Ok(None) => return Ok(Batch::Empty),
            Err(AcceptError::Exhausted(e)) => return Ok(Batch::Exhausted(e)),
            Err(AcceptError::Connection(e)) => {
                *failures += 1;
                if *failures >= FAILURES_BEFORE_PAUSE {
                    *failures = 0;
                    return Ok(Batch::Exhausted(e));
                }
            }
            Err(AcceptError::Listener(e)) => return Err(e),
        }
    }
    Ok(Batch::More)
}

/// Serves everyone who has been let in, so that closing the socket resets nobody.
async fn finish(
    acceptor: &Acceptor,
    control: &AcceptControl,
    on_accept: &mut impl FnMut(Accepted),
    on_exhausted: &mut impl FnMut(&io::Error),
) -> io::Result<()> {
    let mut failures = 0;
    let mut close_at = rt::now_ms();
    if acceptor.refuse_newcomers() {
        close_at += LAST_HANDSHAKES_MS;
    }
    // The queue itself must say that it is empty: an event may not have been told yet.
    acceptor.registration.assume(Interest::Read);
    let give_up_at = close_at + END_PATIENCE_MS;
    while control.mode() != Mode::Leaving {
        match batch(acceptor, control, &mut failures, on_accept)? {
            Batch::More => rt::yield_now().await,
            Batch::Empty if rt::now_ms() >= close_at => return Ok(()),
            Batch::Empty => {
                let more = control.until(|mode| {
                    mode == Mode::Leaving
                        || acceptor.registration.poll_ready(Interest::Read).is_ready()
                });
                // After the deadline one more look is taken, above.
                let _ = rt::timeout_at(close_at, more).await;
                acceptor.registration.assume(Interest::Read);
            }
            Batch::Exhausted(e) => {
                on_exhausted(&e);
                if rt::now_ms() >= give_up_at {
                    return Err(e);
                }
                control.rest(PAUSE_MS).await;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
