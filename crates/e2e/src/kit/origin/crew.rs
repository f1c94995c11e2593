//! An origin's workers: so many requests are worked at, the others wait for one of them, and the origin remembers how many it
//! had at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct State {
    working: usize,
    crowd: usize,
    crowds: Vec<usize>,
    closed: bool,
}

/// Who works, and who waits for that.
#[derive(Debug, Default)]
pub(super) struct Crew {
    state: Mutex<State>,
    free: Condvar,
}

impl Crew {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one of so many workers, and has it do this.
    pub(super) fn work(&self, workers: usize, job: impl FnOnce()) {
        let mut state = self.lock();
        state.crowd += 1;
        let crowd = state.crowd;
        state.crowds.push(crowd);
        while state.working >= workers && !state.closed {
            state = self
                .free
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.working += 1;
        drop(state);
        job();
        let mut state = self.lock();
        state.working -= 1;
        state.crowd -= 1;
        drop(state);
        self.free.notify_one();
    }

    /// Nobody waits any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.free.notify_all();
    }

    /// For each request that came to work since the last call: how many there were then, itself included.
    pub(super) fn take_crowds(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().crowds)
    }
}
