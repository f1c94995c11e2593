//! Edge-triggered epoll: one registration per socket for its whole life, readiness remembered in a slab.

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

const READ: u8 = 1;
const WRITE: u8 = 2;
/// The peer has shut down its writing side, or an error waits: a short read no longer proves that nothing is left.
const READ_END: u8 = 4;
/// Both directions are gone, or the socket has an error.
const DEAD: u8 = 8;

pub(super) struct Source {
    generation: u32,
    ready: u8,
    reader: TaskKey,
    writer: TaskKey,
}

#[derive(Default)]
struct Sources {
    slots: Vec<Source>,
    free: Vec<u32>,
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
        let mut sources = self.sources.borrow_mut();
        for event in events.iter() {
            let token = event.data.u64();
            if token == EVENTFD_TOKEN {
                remote = true;
            } else if let Some(source) = sources.slots.get_mut(token as u32 as usize)
                && source.generation == (token >> 32) as u32
            {
                source.take_event(event.flags, &mut wake);
            }
        }
        Ok(remote)
    }
}

impl Source {
    fn take_event(&mut self, flags: EventFlags, wake: &mut impl FnMut(TaskKey)) {
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
        {
            self.ready |= READ;
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.ready |= WRITE;
        }
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            self.ready |= READ_END;
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.ready |= DEAD;
        }
        // A reader also wants to hear of the peer's death while it waits for something else on this task.
        if self.ready & READ != 0 && self.reader != TaskKey::NONE {
            wake(std::mem::replace(&mut self.reader, TaskKey::NONE));
        }
        if self.ready & WRITE != 0 && self.writer != TaskKey::NONE {
            wake(std::mem::replace(&mut self.writer, TaskKey::NONE));
        }
    }
}

/// A socket's place in the reactor. Belongs to the core that made it and must not leave it.
#[derive(Debug)]
pub struct Registration {
    slot: u32,
    /// `!Send`, `!Sync`.
    core: std::marker::PhantomData<*const ()>,
}

impl Registration {
    /// Registers `fd` with this core, for both directions, once.
    pub fn new(fd: impl AsFd) -> io::Result<Self> {
        let reactor = &current_core().reactor;
        let mut sources = reactor.sources.borrow_mut();
        let slot = match sources.free.pop() {
            Some(slot) => slot,
            None => {
                sources.slots.push(Source {
                    generation: 0,
                    ready: 0,
                    reader: TaskKey::NONE,
                    writer: TaskKey::NONE,
                });
                (sources.slots.len() - 1) as u32
            }
        };
        let source = &mut sources.slots[slot as usize];
        source.ready = 0;
        let token = (u64::from(source.generation) << 32) | u64::from(slot);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(e) = epoll::add(&reactor.epoll, fd, EventData::new_u64(token), flags) {
            sources.free.push(slot);
            return Err(e.into());
        }
        Ok(Self {
            slot,
            core: std::marker::PhantomData,
        })
    }

    #[inline]
    fn with<T>(&self, f: impl FnOnce(&mut Source) -> T) -> T {
        f(&mut current_core().reactor.sources.borrow_mut().slots[self.slot as usize])
    }

    #[inline]
    fn ready(&self) -> u8 {
        self.with(|s| s.ready)
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
        self.with(|s| {
            if s.ready & READ_END == 0 {
                s.ready &= !READ;
            }
        });
    }

    /// Says that a call returned `EAGAIN`.
    #[inline]
    pub fn would_block(&self, interest: Interest) {
        self.with(|s| {
            s.ready &= if interest == Interest::Read {
                !READ
            } else {
                !WRITE
            }
        });
    }

    /// Claims readiness in this direction until a call says otherwise (a socket that was just made, for instance).
    pub fn assume(&self, interest: Interest) {
        self.with(|s| {
            s.ready |= if interest == Interest::Read {
                READ
            } else {
                WRITE
            }
        });
    }

    /// Ready when the direction is; else the running task is woken when it becomes so.
    #[inline]
    pub fn poll_ready(&self, interest: Interest) -> Poll<()> {
        let task = current_core().current_task();
        self.with(|s| {
            let (bit, waiter) = match interest {
                Interest::Read => (READ, &mut s.reader),
                Interest::Write => (WRITE, &mut s.writer),
            };
            if s.ready & bit != 0 {
                return Poll::Ready(());
            }
            *waiter = task;
            Poll::Pending
        })
    }

    /// Ready when the peer is gone in both directions; else the running task is woken at the next read event.
    #[inline]
    pub fn poll_dead(&self) -> Poll<()> {
        let task = current_core().current_task();
        self.with(|s| {
            if s.ready & DEAD != 0 {
                return Poll::Ready(());
            }
            s.reader = task;
            Poll::Pending
        })
    }

    /// Lets this task, rather than the running one, hear of the next read event (an idle connection in a pool). If the
    /// socket is readable already there may be no further event, so the task is woken at once.
    #[inline]
    pub fn watch(&self, task: TaskKey) {
        let readable = self.with(|s| {
            s.reader = task;
            s.ready & READ != 0
        });
        if readable {
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
        let mut sources = core.reactor.sources.borrow_mut();
        if let Some(source) = sources.slots.get_mut(self.slot as usize) {
            source.generation = source.generation.wrapping_add(1);
            source.ready = 0;
            source.reader = TaskKey::NONE;
            source.writer = TaskKey::NONE;
            sources.free.push(self.slot);
        }
    }
}
