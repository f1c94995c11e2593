//! Edge-triggered epoll: one registration per socket for its whole life, readiness remembered per socket.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Poll;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::core::{TaskKey, current_core};

const EVENTS_PER_TURN: usize = 256;
const EVENTFD_TOKEN: u64 = u64::MAX;

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, the end, or an error to read.
    Read,
    /// Room to write, or an error.
    Write,
}

impl Interest {
    #[inline]
    fn bit(self) -> u8 {
        match self {
            Self::Read => READ,
            Self::Write => WRITE,
        }
    }
}

const READ: u8 = 1;
const WRITE: u8 = 2;
/// The peer has shut down its writing side, or an error waits: a short read no longer proves that nothing is left.
const READ_END: u8 = 4;
/// Both directions are gone, or the socket has an error.
const DEAD: u8 = 8;

/// What is known of a socket. It stays where it is for as long as the process lives, as its core does, and serves one socket
/// after the other: who asks of it needs neither the core nor a look-up. Not `Sync`: it never leaves its thread.
#[derive(Debug)]
pub(super) struct Source {
    slot: u32,
    generation: Cell<u32>,
    ready: Cell<u8>,
    reader: Cell<TaskKey>,
    writer: Cell<TaskKey>,
}

/// Sources that are made at once.
const SOURCES_AT_ONCE: u32 = 64;

#[derive(Default)]
struct Sources {
    slots: Vec<&'static Source>,
    free: Vec<&'static Source>,
}

impl Sources {
    fn take(&mut self) -> &'static Source {
        loop {
            match self.free.pop() {
                Some(source) => return source,
                None => self.grow(),
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let from = self.slots.len() as u32;
        let more = (from..from + SOURCES_AT_ONCE).map(|slot| Source {
            slot,
            generation: Cell::new(0),
            ready: Cell::new(0),
            reader: Cell::default(),
            writer: Cell::default(),
        });
        let more: &'static [Source] = more.collect::<Vec<_>>().leak();
        self.slots.extend(more);
        // The lowest numbers are the first to be taken.
        self.free.extend(more.iter().rev());
    }
}

pub(super) struct Reactor {
    epoll: OwnedFd,
    sources: RefCell<Sources>,
    events: RefCell<Vec<Event>>,
    waits: Cell<u64>,
}

impl Reactor {
    pub(super) fn new(eventfd: BorrowedFd<'_>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            eventfd,
            EventData::new_u64(EVENTFD_TOKEN),
            EventFlags::IN,
        )?;
        Ok(Self {
            epoll,
            sources: RefCell::default(),
            events: RefCell::new(Vec::with_capacity(EVENTS_PER_TURN)),
            waits: Cell::new(0),
        })
    }

    /// Sleeps at most `timeout_ms`, wakes the tasks of ready sockets; true if another thread left something.
    pub(super) fn wait(&self, timeout_ms: i32, mut wake: impl FnMut(TaskKey)) -> io::Result<bool> {
        let mut events = self.events.borrow_mut();
        events.clear();
        let timeout = Timespec {
            tv_sec: i64::from(timeout_ms / 1_000),
            tv_nsec: i64::from(timeout_ms % 1_000) * 1_000_000,
        };
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        self.waits.set(self.waits.get().wrapping_add(1));
        let mut remote = false;
        let sources = self.sources.borrow();
        for event in events.iter() {
            let token = event.data.u64();
            if token == EVENTFD_TOKEN {
                remote = true;
            } else if let Some(source) = sources.slots.get(token as u32 as usize)
                && source.generation.get() == (token >> 32) as u32
            {
                source.take_event(event.flags, &mut wake);
            }
        }
        Ok(remote)
    }
}

impl Source {
    #[inline]
    fn take_event(&self, flags: EventFlags, wake: &mut impl FnMut(TaskKey)) {
        let mut ready = self.ready.get();
        if flags.contains(EventFlags::IN) {
            ready |= READ;
        }
        if flags.contains(EventFlags::OUT) {
            ready |= WRITE;
        }
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            ready |= READ | READ_END;
            if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
                ready |= WRITE | DEAD;
            }
        }
        self.ready.set(ready);
        // A reader also wants to hear of the peer's death while it waits for something else on this task.
        if ready & READ != 0 && self.reader.get() != TaskKey::NONE {
            wake(self.reader.replace(TaskKey::NONE));
        }
        if ready & WRITE != 0 && self.writer.get() != TaskKey::NONE {
            wake(self.writer.replace(TaskKey::NONE));
        }
    }
}

/// A socket's place in the reactor. Belongs to the core that made it and must not leave it.
#[derive(Debug)]
pub struct Registration {
    source: &'static Source,
}

impl Registration {
    /// Registers `fd` with this core, for both directions, once.
    pub fn new(fd: impl AsFd) -> io::Result<Self> {
        let reactor = &current_core().reactor;
        let mut sources = reactor.sources.borrow_mut();
        let source = sources.take();
        source.ready.set(0);
        let token = (u64::from(source.generation.get()) << 32) | u64::from(source.slot);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(e) = epoll::add(&reactor.epoll, fd, EventData::new_u64(token), flags) {
            sources.free.push(source);
            return Err(e.into());
        }
        Ok(Self { source })
    }

    #[inline]
    fn ready(&self) -> u8 {
        self.source.ready.get()
    }

    #[inline]
    fn set(&self, bits: u8) {
        self.source.ready.set(self.source.ready.get() | bits);
    }

    #[inline]
    fn clear(&self, bits: u8) {
        self.source.ready.set(self.source.ready.get() & !bits);
    }

    /// May a read find something? Costs no system call.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.ready() & READ != 0
    }

    /// May a write find room? Costs no system call.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.ready() & WRITE != 0
    }

    /// Has the peer closed both directions, reset the connection, or has the socket an error?
    #[inline]
    pub fn is_dead(&self) -> bool {
        self.ready() & DEAD != 0
    }

    /// Has the peer ended its direction (it may still read)?
    #[inline]
    pub fn is_read_ended(&self) -> bool {
        self.ready() & READ_END != 0
    }

    /// Says that a read found less than it had room for. Keeps the readiness if the end is known to follow.
    #[inline]
    pub fn drained(&self) {
        if self.ready() & READ_END == 0 {
            self.clear(READ);
        }
    }

    /// Says that a call returned `EAGAIN`.
    #[inline]
    pub fn would_block(&self, interest: Interest) {
        self.clear(interest.bit());
    }

    /// Claims readiness in this direction until a call says otherwise (a socket that was just made, for instance).
    pub fn assume(&self, interest: Interest) {
        self.set(interest.bit());
    }

    /// Ready when the direction is; else the running task is woken when it becomes so.
    #[inline]
    pub fn poll_ready(&self, interest: Interest) -> Poll<()> {
        if self.ready() & interest.bit() != 0 {
            return Poll::Ready(());
        }
        let waiter = match interest {
            Interest::Read => &self.source.reader,
            Interest::Write => &self.source.writer,
        };
        waiter.set(current_core().current_task());
        Poll::Pending
    }

    /// Ready when the peer is gone in both directions; else the running task is woken at the next read event.
    #[inline]
    pub fn poll_dead(&self) -> Poll<()> {
        if self.is_dead() {
            return Poll::Ready(());
        }
        self.source.reader.set(current_core().current_task());
        Poll::Pending
    }

    /// Lets this task, rather than the running one, hear of the next read event (an idle connection in a pool). If the
    /// socket is readable already there may be no further event, so the task is woken at once.
    #[inline]
    pub fn watch(&self, task: TaskKey) {
        self.source.reader.set(task);
        if self.is_readable() {
            current_core().wake(task);
        }
    }

    /// Ends the events of `fd`, which is what was registered. For a socket that others have open too: as long as one of
    /// them does, closing our descriptor alone would leave it in our epoll.
    pub fn remove(&self, fd: impl AsFd) {
        if let Some(core) = super::core::try_core() {
            // A descriptor that is not there sends no events.
            let _ = epoll::delete(&core.reactor.epoll, fd);
        }
    }

    /// Waits for a direction.
    pub async fn until(&self, interest: Interest) {
        std::future::poll_fn(|_| self.poll_ready(interest)).await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Closing the descriptor removes it from epoll; only the slot is ours to free. On another thread than the core
        // (a core that has ended) there is nothing to free.
        let Some(core) = super::core::try_core() else {
            return;
        };
        let source = self.source;
        source
            .generation
            .set(source.generation.get().wrapping_add(1));
        source.ready.set(0);
        source.reader.set(TaskKey::NONE);
        source.writer.set(TaskKey::NONE);
        core.reactor.sources.borrow_mut().free.push(source);
    }
}
