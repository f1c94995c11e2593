//! Work for threads: bounded, and whoever has some never waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What waits for a thread.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    max: usize,
}

struct State<T> {
    work: VecDeque<(T, u64)>,
    bytes: u64,
    is_closed: bool,
}

impl<T> Queue<T> {
    /// For so many pieces of work.
    pub fn new(max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                work: VecDeque::new(),
                bytes: 0,
                is_closed: false,
            }),
            wake: Condvar::new(),
            max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, that holds so many bytes, of so many that all may hold; it comes back if there is no place. A single one has a place
    /// however large it is.
    pub fn push(&self, work: T, (bytes, most): (u64, u64)) -> Result<(), T> {
        let mut state = self.state();
        let is_full =
            state.work.len() >= self.max || (!state.work.is_empty() && state.bytes + bytes > most);
        if state.is_closed || is_full {
            return Err(work);
        }
        state.bytes += bytes;
        state.work.push_back((work, bytes));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits for the next one; none: it has been closed, and nothing is left.
    pub fn pop(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some((work, bytes)) = state.work.pop_front() {
                state.bytes -= bytes;
                return Some(work);
            }
            if state.is_closed {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more comes in.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.wake.notify_all();
    }
}
