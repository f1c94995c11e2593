//! What handshakes may take of a core: how many are under way, and how many steps with public keys are made in one turn.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::task::Poll;

use crate::rt::{TaskKey, current_core, now_ms, now_us, yield_now};
use crate::tls::HandshakeError;

/// Steps of handshakes in one turn: a signature takes 0.05 to 1 ms, and requests wait meanwhile.
const STEPS_PER_TURN: u32 = 8;

/// A handshake that has had so much time makes room for another one when there is none, in milliseconds: silence costs nothing, and
/// a few hundred silent clients must not keep everybody else out.
const FAIR_MS: u64 = 1_000;

thread_local! {
    static PENDING: RefCell<Pending> = const { RefCell::new(Pending::new()) };
    /// The turn, by its clock, and the steps made in it.
    static STEPS: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// Handshakes under way, by their numbers: the oldest one first.
struct Pending {
    next: u64,
    taken: BTreeMap<u64, Taken>,
}

impl Pending {
    const fn new() -> Self {
        Self {
            next: 0,
            taken: BTreeMap::new(),
        }
    }
}

struct Taken {
    task: TaskKey,
    since_ms: u64,
}

/// Handshakes with clients under way on this core.
pub fn pending() -> usize {
    PENDING.with(|pending| pending.borrow().taken.len())
}

/// A place among the handshakes of this core.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    // A place belongs to its core.
    core: std::marker::PhantomData<*const ()>,
}

impl Place {
    /// One more for the running task, if `max` are not there yet or the oldest one has had its time: that one has lost its place.
    pub(super) fn take(max: usize) -> Option<Self> {
        let core = current_core();
        let now = now_ms();
        PENDING.with(|pending| {
            let pending = &mut *pending.borrow_mut();
            if pending.taken.len() >= max {
                let oldest = pending.taken.first_entry()?;
                if now.saturating_sub(oldest.get().since_ms) < FAIR_MS {
                    return None;
                }
                core.wake(oldest.remove().task);
            }
            let number = pending.next;
            pending.next += 1;
            let taken = Taken {
                task: core.current_task(),
                since_ms: now,
            };
            pending.taken.insert(number, taken);
            Some(Self {
                number,
                core: std::marker::PhantomData,
            })
        })
    }

    /// Works as long as the place is kept.
    pub(super) async fn while_kept<T>(
        &self,
        work: impl Future<Output = Result<T, HandshakeError>>,
    ) -> Result<T, HandshakeError> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| {
            if self.is_lost() {
                return Poll::Ready(Err(HandshakeError::Busy));
            }
            work.as_mut().poll(context)
        })
        .await
    }

    /// Has somebody else got it?
    fn is_lost(&self) -> bool {
        PENDING.with(|pending| !pending.borrow().taken.contains_key(&self.number))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PENDING.with(|pending| pending.borrow_mut().taken.remove(&self.number));
    }
}

/// Waits for a turn that has room for one more step.
pub(super) async fn step() {
    loop {
        // The clock is read once per turn.
        let now = now_us();
        let (turn, steps) = STEPS.with(Cell::get);
        let steps = if turn == now { steps } else { 0 };
        if steps < STEPS_PER_TURN {
            STEPS.with(|cell| cell.set((now, steps + 1)));
            return;
        }
        yield_now().await;
    }
}
