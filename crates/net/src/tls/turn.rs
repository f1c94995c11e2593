//! What handshakes may take of a core: how many are under way, and how many steps with public keys are made in one turn.

use std::cell::Cell;

use crate::rt::{now_us, yield_now};

/// Steps of handshakes in one turn: a signature takes 0.05 to 1 ms, and requests wait meanwhile.
const STEPS_PER_TURN: u32 = 8;

thread_local! {
    static PENDING: Cell<usize> = const { Cell::new(0) };
    /// The turn, by its clock, and the steps made in it.
    static STEPS: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// Handshakes with clients under way on this core.
pub fn pending() -> usize {
    PENDING.with(Cell::get)
}

/// A place among the handshakes of this core.
#[derive(Debug)]
pub(super) struct Place {
    // A place belongs to its core.
    core: std::marker::PhantomData<*const ()>,
}

impl Place {
    /// One more, if `max` are not there yet.
    pub(super) fn take(max: usize) -> Option<Self> {
        PENDING.with(|pending| {
            let now = pending.get();
            (now < max).then(|| {
                pending.set(now + 1);
                Self {
                    core: std::marker::PhantomData,
                }
            })
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PENDING.with(|pending| pending.set(pending.get().saturating_sub(1)));
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
