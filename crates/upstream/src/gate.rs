//! A gate: permits for the whole process, and one queue of those who wait for one. Sockets to a server go through one, and
//! requests where they are limited.
//!
//! A permit is a drop guard: whatever way its holder ends, it comes back. While somebody waits a permit goes to the one who
//! has waited longest of the highest class, never to a newcomer. The queue is bounded, and so is the wait (by the caller); a
//! full queue lets the newest of a lower class go for one of a higher.

mod waits;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use narthex_config::model::Priority;

use waits::Waits;

pub use waits::QueueFigures;

const WAITING: u8 = 0;
/// A permit is counted for the one who waits.
const GRANTED: u8 = 1;
/// An idle connection lies ready on its core.
const HANDED: u8 = 2;
/// Its place went to somebody of a higher class.
const EVICTED: u8 = 3;

/// Classes of those who wait.
const CLASSES: usize = 3;

struct Entry {
    ticket: u64,
    core: usize,
    state: Arc<AtomicU8>,
    waker: Waker,
}

/// Who waits: by class, the highest first; within one the longest first.
#[derive(Default)]
struct Queue {
    classes: [VecDeque<Entry>; CLASSES],
    next_ticket: u64,
}

impl Queue {
    fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    fn first(&self) -> Option<&Entry> {
        self.classes.iter().find_map(VecDeque::front)
    }

    fn pop_first(&mut self) -> Option<Entry> {
        self.classes.iter_mut().find_map(VecDeque::pop_front)
    }

    /// The newest of the lowest class below `class`.
    fn pop_below(&mut self, class: usize) -> Option<Entry> {
        let below = self.classes.get_mut(class + 1..)?;
        below.iter_mut().rev().find_map(VecDeque::pop_back)
    }

    fn remove(&mut self, class: usize, ticket: u64) -> Option<Entry> {
        let queue = self.classes.get_mut(class)?;
        let at = queue.iter().position(|e| e.ticket == ticket)?;
        queue.remove(at)
    }
}

/// Permits, and who waits for one.
#[derive(Default)]
pub struct Gate {
    used: AtomicUsize,
    /// 0 is no limit.
    max: AtomicUsize,
    waiting: AtomicUsize,
    queue_max: AtomicUsize,
    queue: Mutex<Queue>,
    waits: Waits,
}

/// The right to one of what the gate counts. Dropping gives it back.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
}

/// Why there is no place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full of those who may not be sent away for this one.
    QueueFull,
    /// The place went to somebody of a higher class.
    Evicted,
}

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
    /// The permit.
    Permit(Permit),
    /// A connection lies ready on this core under the ticket.
    Handed(u64),
}

impl Gate {
    /// `max` permits (0 is no limit) and `queue` requests that may wait.
    pub fn new(max: usize, queue: usize) -> Arc<Self> {
        let gate = Self::default();
        gate.set_limits(max, queue);
        Arc::new(gate)
    }

    /// Changes the limits. A lower one takes effect as permits come back.
    pub fn set_limits(&self, max: usize, queue: usize) {
        self.queue_max.store(queue, Ordering::Relaxed);
        self.set_max(max);
    }

    /// Changes the number of permits alone.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.grant(&mut self.lock());
        }
    }

    /// Permits that are out.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit; 0 is none.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What became of those who had to wait, and who waits now.
    pub fn figures(&self) -> QueueFigures {
        self.waits.figures(self.waiting())
    }

    /// A wait has ended, however, after so many microseconds.
    pub(crate) fn note_wait(&self, us: u64) {
        self.waits.ended(us);
    }

    /// It ended because it took too long.
    pub(crate) fn note_timeout(&self) {
        self.waits.timed_out();
    }

    /// There was no place in the queue, or it went to another.
    pub(crate) fn note_refusal(&self) {
        self.waits.refused();
    }

    /// Is there a limit?
    pub fn is_limited(&self) -> bool {
        self.max() != 0
    }

    /// Would a newcomer have to wait?
    pub fn is_full(&self) -> bool {
        let max = self.max();
        max != 0 && (self.used() >= max || self.waiting() > 0)
    }

    /// A permit, if one is free and nobody waits for it.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let free = self.waiting.load(Ordering::SeqCst) == 0 && self.take();
        free.then(|| Permit {
            gate: Arc::clone(self),
        })
    }

    /// Joins the queue, for a request on `core`.
    pub fn wait(self: &Arc<Self>, core: usize, priority: Priority) -> Wait {
        Wait {
            gate: Arc::clone(self),
            core,
            class: match priority {
                Priority::High => 0,
                Priority::Normal => 1,
                Priority::Low => 2,
            },
            besides: 0,
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
        while queue.first().is_some() && self.take() {
            if self.end_first(queue, GRANTED).is_none() {
                self.used.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn end_first(&self, queue: &mut Queue, state: u8) -> Option<u64> {
        let entry = queue.pop_first()?;
        Some(self.end(entry, state))
    }

    /// Tells one who has left the queue how the wait ended.
    fn end(&self, entry: Entry, state: u8) -> u64 {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        entry.state.store(state, Ordering::Release);
        entry.waker.wake();
        entry.ticket
    }

    /// Does anybody wait? Call it after what they may wait for was counted.
    pub fn is_awaited(&self) -> bool {
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Who is to get a connection that has become idle on `core`. Call it after the connection was counted as idle.
    pub fn next(&self, core: usize) -> Next {
        if !self.is_awaited() {
            return Next::Nobody;
        }
        let mut queue = self.lock();
        match queue.first() {
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

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("used", &self.used)
            .field("max", &self.max)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.give_back();
    }
}

/// A place in the queue; leaving early by dropping is safe. After [`Turn::Handed`] or a drop that [`Wait::abandoned`]
/// announces, the connection under the ticket belongs to the caller.
#[derive(Debug)]
pub struct Wait {
    gate: Arc<Gate>,
    core: usize,
    class: usize,
    besides: usize,
    joined: Option<(u64, Arc<AtomicU8>)>,
}

impl Wait {
    /// With so many places in the queue besides: as many as will come free at once, because they are idle somewhere.
    #[must_use]
    pub fn besides(mut self, idle: u64) -> Self {
        self.besides = usize::try_from(idle).unwrap_or(usize::MAX);
        self
    }

    /// Leaves the queue. Some if a connection lies ready under this ticket: the caller must take it.
    pub fn abandoned(&mut self) -> Option<u64> {
        let (ticket, state) = self.joined.take()?;
        let mut queue = self.gate.lock();
        if queue.remove(self.class, ticket).is_some() {
            self.gate.waiting.fetch_sub(1, Ordering::SeqCst);
            // Whoever stands behind may have been passed over on the strength of this place.
            self.gate.grant(&mut queue);
            return None;
        }
        drop(queue);
        match state.load(Ordering::Acquire) {
            GRANTED => {
                self.gate.give_back();
                None
            }
            HANDED => Some(ticket),
            _ => None,
        }
    }

    fn join(&mut self, waker: &Waker) -> Result<(), Refused> {
        let gate = &self.gate;
        let mut queue = gate.lock();
        let most = gate.queue_max.load(Ordering::Relaxed);
        if queue.len() >= most.saturating_add(self.besides) {
            let gone = queue.pop_below(self.class).ok_or(Refused::QueueFull)?;
            gate.end(gone, EVICTED);
        }
        let ticket = queue.next_ticket;
        queue.next_ticket = queue.next_ticket.wrapping_add(1);
        let state = Arc::new(AtomicU8::new(WAITING));
        let entry = Entry {
            ticket,
            core: self.core,
            state: Arc::clone(&state),
            waker: waker.clone(),
        };
        if let Some(class) = queue.classes.get_mut(self.class) {
            class.push_back(entry);
        }
        gate.waiting.fetch_add(1, Ordering::SeqCst);
        gate.grant(&mut queue);
        drop(queue);
        self.joined = Some((ticket, state));
        Ok(())
    }
}

impl Future for Wait {
    type Output = Result<Turn, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.joined.is_none() {
            self.join(cx.waker())?;
        }
        let Some((ticket, state)) = &self.joined else {
            return Poll::Pending;
        };
        let ticket = *ticket;
        let ended = match state.load(Ordering::Acquire) {
            GRANTED => Ok(Turn::Permit(Permit {
                gate: Arc::clone(&self.gate),
            })),
            HANDED => Ok(Turn::Handed(ticket)),
            EVICTED => Err(Refused::Evicted),
            _ => {
                let mut queue = self.gate.lock();
                let mut class = queue.classes.get_mut(self.class).into_iter().flatten();
                match class.find(|e| e.ticket == ticket) {
                    Some(entry) if !entry.waker.will_wake(cx.waker()) => {
                        entry.waker.clone_from(cx.waker());
                    }
                    Some(_) => {}
                    // Ended between the two looks.
                    None => cx.waker().wake_by_ref(),
                }
                return Poll::Pending;
            }
        };
        self.joined = None;
        Poll::Ready(ended)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let left = self.abandoned();
        debug_assert!(left.is_none(), "a connection was handed over to nobody");
    }
}

#[cfg(test)]
mod tests;
