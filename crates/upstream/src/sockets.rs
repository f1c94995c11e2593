//! The number of sockets to one server, in the whole process, and the queue of requests that wait for one.
//!
//! A permit is a drop guard: whatever way its connection ends, it comes back. While somebody waits a permit goes to the
//! one who waits longest, never to a newcomer. The queue is bounded, and so is the wait (by the caller).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

const WAITING: u8 = 0;
/// A permit is counted for the one who waits.
const GRANTED: u8 = 1;
/// An idle connection lies ready on its core.
const HANDED: u8 = 2;

struct Entry {
    ticket: u64,
    core: usize,
    state: Arc<AtomicU8>,
    waker: Waker,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    next_ticket: u64,
}

/// Sockets to one server.
#[derive(Default)]
pub struct Sockets {
    used: AtomicUsize,
    /// 0 is no limit.
    max: AtomicUsize,
    waiting: AtomicUsize,
    queue_max: AtomicUsize,
    queue: Mutex<Queue>,
}

/// The right to have one socket. Dropping gives it back.
#[derive(Debug)]
pub struct Permit {
    sockets: Arc<Sockets>,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// Who is to get a connection that somebody has finished with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nobody waits: keep it.
    Nobody,
    /// The holder of this ticket, on this core: give it to them.
    Here(u64),
    /// Somebody on another core: close it, and the permit goes there.
    Elsewhere,
}

/// What a wait ended with.
#[derive(Debug)]
pub enum Turn {
    /// A socket may be opened.
    Permit(Permit),
    /// A connection lies ready on this core under the ticket.
    Handed(u64),
}

impl Sockets {
    /// `max` sockets (0 is no limit) and `queue` requests that may wait.
    pub fn new(max: usize, queue: usize) -> Arc<Self> {
        let sockets = Self::default();
        sockets.set_limits(max, queue);
        Arc::new(sockets)
    }

    /// Changes the limits. A lower one takes effect as sockets close.
    pub fn set_limits(&self, max: usize, queue: usize) {
        self.queue_max.store(queue, Ordering::Relaxed);
        self.max.store(max, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.grant(&mut self.lock());
        }
    }

    /// Sockets open or being opened.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Is there a limit?
    pub fn is_limited(&self) -> bool {
        self.max.load(Ordering::Relaxed) != 0
    }

    /// A permit, if one is free and nobody waits for it.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let free = self.waiting.load(Ordering::SeqCst) == 0 && self.take();
        free.then(|| Permit {
            sockets: Arc::clone(self),
        })
    }

    /// Joins the queue, for a request on `core`.
    pub fn wait(self: &Arc<Self>, core: usize) -> Wait {
        Wait {
            sockets: Arc::clone(self),
            core,
            joined: None,
        }
    }

    fn take(&self) -> bool {
        let max = self.max.load(Ordering::SeqCst);
        let room = |used: usize| (max == 0 || used < max).then(|| used + 1);
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, room)
            .is_ok()
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
        // A newcomer to the queue writes `waiting` and then reads `used`; here it is the other way round. In the one
        // order that all threads agree on, one of the two sees the other.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.grant(&mut self.lock());
        }
    }

    /// Gives what is free to those who wait.
    fn grant(&self, queue: &mut Queue) {
        while !queue.entries.is_empty() && self.take() {
            if self.end_first(queue, GRANTED).is_none() {
                self.used.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn end_first(&self, queue: &mut Queue, state: u8) -> Option<u64> {
        let entry = queue.entries.pop_front()?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        entry.state.store(state, Ordering::Release);
        entry.waker.wake();
        Some(entry.ticket)
    }

    /// Who is to get a connection that has become idle on `core`. Call it after the connection was counted as idle.
    pub fn next(&self, core: usize) -> Next {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return Next::Nobody;
        }
        let mut queue = self.lock();
        match queue.entries.front() {
            None => Next::Nobody,
            Some(first) if first.core == core => match self.end_first(&mut queue, HANDED) {
                Some(ticket) => Next::Here(ticket),
                None => Next::Nobody,
            },
            Some(_) => Next::Elsewhere,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets")
            .field("used", &self.used)
            .field("max", &self.max)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.sockets.give_back();
    }
}

/// A place in the queue; leaving early by dropping is safe. After [`Turn::Handed`] or a drop that [`Wait::abandoned`]
/// announces, the connection under the ticket belongs to the caller.
#[derive(Debug)]
pub struct Wait {
    sockets: Arc<Sockets>,
    core: usize,
    joined: Option<(u64, Arc<AtomicU8>)>,
}

impl Wait {
    /// Leaves the queue. Some if a connection lies ready under this ticket: the caller must take it.
    pub fn abandoned(&mut self) -> Option<u64> {
        let (ticket, state) = self.joined.take()?;
        let mut queue = self.sockets.lock();
        if let Some(at) = queue.entries.iter().position(|e| e.ticket == ticket) {
            queue.entries.remove(at);
            self.sockets.waiting.fetch_sub(1, Ordering::SeqCst);
            // Whoever stands behind may have been passed over on the strength of this place.
            self.sockets.grant(&mut queue);
            return None;
        }
        drop(queue);
        match state.load(Ordering::Acquire) {
            GRANTED => {
                self.sockets.give_back();
                None
            }
            HANDED => Some(ticket),
            _ => None,
        }
    }

    fn join(&mut self, waker: &Waker) -> Result<(), QueueFull> {
        let mut queue = self.sockets.lock();
        if queue.entries.len() >= self.sockets.queue_max.load(Ordering::Relaxed) {
            return Err(QueueFull);
        }
        let ticket = queue.next_ticket;
        queue.next_ticket = queue.next_ticket.wrapping_add(1);
        let state = Arc::new(AtomicU8::new(WAITING));
        queue.entries.push_back(Entry {
            ticket,
            core: self.core,
            state: Arc::clone(&state),
            waker: waker.clone(),
        });
        self.sockets.waiting.fetch_add(1, Ordering::SeqCst);
        self.joined = Some((ticket, state));
        self.sockets.grant(&mut queue);
        Ok(())
    }
}

impl Future for Wait {
    type Output = Result<Turn, QueueFull>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.joined.is_none() {
            self.join(cx.waker())?;
        }
        let Some((ticket, state)) = &self.joined else {
            return Poll::Pending;
        };
        let ticket = *ticket;
        match state.load(Ordering::Acquire) {
            GRANTED => {
                self.joined = None;
                Poll::Ready(Ok(Turn::Permit(Permit {
                    sockets: Arc::clone(&self.sockets),
                })))
            }
            HANDED => {
                self.joined = None;
                Poll::Ready(Ok(Turn::Handed(ticket)))
            }
            _ => {
                let mut queue = self.sockets.lock();
                match queue.entries.iter_mut().find(|e| e.ticket == ticket) {
                    Some(entry) if !entry.waker.will_wake(cx.waker()) => {
                        entry.waker = cx.waker().clone()
                    }
                    Some(_) => {}
                    // Ended between the two looks.
                    None => cx.waker().wake_by_ref(),
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let left = self.abandoned();
        debug_assert!(left.is_none(), "a connection was handed over to nobody");
    }
}
