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

    /// Would a newcomer have to wait?
    pub fn is_full(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        max != 0 && (self.used() >= max || self.waiting() > 0)
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
                        entry.waker.clone_from(cx.waker());
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn poll(wait: &mut Wait) -> Option<Result<Turn, QueueFull>> {
        match Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn first_come_first_served() {
        let sockets = Sockets::new(1, 10);
        let held = sockets.try_acquire().unwrap();
        let (mut a, mut b) = (sockets.wait(0), sockets.wait(1));
        assert!(poll(&mut a).is_none() && poll(&mut b).is_none());
        drop(held);
        assert!(sockets.try_acquire().is_none(), "newcomers do not push in");
        assert!(poll(&mut b).is_none());
        let Some(Ok(Turn::Permit(held))) = poll(&mut a) else {
            panic!("the first has its turn")
        };
        drop(held);
        assert!(matches!(poll(&mut b), Some(Ok(Turn::Permit(_)))));
        assert_eq!((sockets.used(), sockets.waiting()), (0, 0));
    }

    #[test]
    fn a_higher_limit_lets_those_in_who_wait() {
        let sockets = Sockets::new(1, 10);
        let _held = sockets.try_acquire().unwrap();
        let mut a = sockets.wait(0);
        assert!(poll(&mut a).is_none());
        sockets.set_limits(0, 10);
        assert!(matches!(poll(&mut a), Some(Ok(Turn::Permit(_)))));
    }

    #[test]
    fn idle_connections_go_to_their_own_core() {
        let sockets = Sockets::new(1, 10);
        let _held = sockets.try_acquire().unwrap();
        assert_eq!(sockets.next(3), Next::Nobody);
        let mut a = sockets.wait(3);
        assert!(poll(&mut a).is_none());
        assert_eq!(sockets.next(2), Next::Elsewhere);
        let Next::Here(ticket) = sockets.next(3) else {
            panic!("it is the first")
        };
        assert!(matches!(poll(&mut a), Some(Ok(Turn::Handed(t))) if t == ticket));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Acquire,
        Drop(usize),
        Wait(usize),
        Poll(usize),
        Leave(usize),
        Release(usize),
        Limit(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Acquire),
            any::<usize>().prop_map(Step::Drop),
            (0usize..3).prop_map(Step::Wait),
            any::<usize>().prop_map(Step::Poll),
            any::<usize>().prop_map(Step::Leave),
            (0usize..3).prop_map(Step::Release),
            (1usize..5).prop_map(Step::Limit),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn permits_never_leak_and_nobody_waits_beside_a_free_one(steps in steps()) {
            let sockets = Sockets::new(3, 5);
            let mut max = 3;
            let mut permits = Vec::new();
            let mut waits: Vec<Wait> = Vec::new();
            let pick = |at: usize, n: usize| (n > 0).then(|| at % n.max(1));
            for step in steps {
                match step {
                    Step::Acquire => permits.extend(sockets.try_acquire()),
                    Step::Drop(at) => drop(pick(at, permits.len()).map(|at| permits.swap_remove(at))),
                    Step::Wait(core) => {
                        let mut wait = sockets.wait(core);
                        match poll(&mut wait) {
                            None => waits.push(wait),
                            Some(Ok(Turn::Permit(permit))) => permits.push(permit),
                            Some(Ok(Turn::Handed(_))) => prop_assert!(false, "nothing was handed over"),
                            Some(Err(QueueFull)) => prop_assert!(sockets.waiting() == 5),
                        }
                    }
                    Step::Poll(at) => {
                        if let Some(at) = pick(at, waits.len()) {
                            match poll(&mut waits[at]) {
                                None => {}
                                Some(Ok(Turn::Permit(permit))) => {
                                    permits.push(permit);
                                    waits.swap_remove(at);
                                }
                                // The connection's permit went with it: it is still in `permits`.
                                Some(Ok(Turn::Handed(_))) => drop(waits.swap_remove(at)),
                                Some(Err(QueueFull)) => prop_assert!(false, "it is in the queue"),
                            }
                        }
                    }
                    Step::Leave(at) => {
                        if let Some(at) = pick(at, waits.len()) {
                            waits.swap_remove(at).abandoned();
                        }
                    }
                    Step::Release(core) => {
                        if !permits.is_empty() && sockets.next(core) == Next::Elsewhere {
                            permits.pop();
                        }
                    }
                    Step::Limit(new) => {
                        max = new;
                        sockets.set_limits(max, 5);
                    }
                }
                if sockets.waiting() > 0 {
                    prop_assert!(sockets.used() >= max, "somebody waits beside a free permit");
                }
                prop_assert!(sockets.used() >= permits.len());
            }
            for mut wait in waits {
                wait.abandoned();
            }
            drop(permits);
            prop_assert_eq!((sockets.used(), sockets.waiting()), (0, 0));
        }
    }
}
