//! Tasks that wait for the same event.

use std::task::Waker;

/// Tasks that may wait for one event; the next one does not wait.
const WAITERS_MAX: usize = 65_536;
/// The first number at which the list is looked through for tasks that are in it twice.
const LOOK_FIRST: usize = 64;

/// Wakers of tasks. One that is dropped stays in the list until the next event, then it is forgotten.
#[derive(Debug)]
pub struct Waiters {
    list: Vec<Waker>,
    /// At this length the list is looked through.
    look_at: usize,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            look_at: LOOK_FIRST,
        }
    }
}

impl Waiters {
    /// Remembers a task. `false`: too many wait.
    ///
    /// A task that is polled for other reasons comes again and again, so doubles are sorted out each time the list has doubled: the
    /// cost of a call stays small with any number of tasks.
    #[must_use]
    pub fn add(&mut self, waker: &Waker) -> bool {
        if self.list.last().is_some_and(|last| last.will_wake(waker)) {
            return true;
        }
        if self.list.len() >= self.look_at {
            self.list.sort_unstable_by_key(|waker| {
                (
                    waker.data().addr(),
                    std::ptr::from_ref(waker.vtable()).addr(),
                )
            });
            self.list.dedup_by(|a, b| a.will_wake(b));
            if self.list.len() >= WAITERS_MAX {
                return false;
            }
            self.look_at = (self.list.len() * 2).clamp(LOOK_FIRST, WAITERS_MAX);
        }
        self.list.push(waker.clone());
        true
    }

    /// All of them, to be woken when no lock is held.
    pub fn take(&mut self) -> Woken {
        self.look_at = LOOK_FIRST;
        Woken(std::mem::take(&mut self.list))
    }
}

/// Tasks for which the event has come.
#[must_use = "they wait"]
pub struct Woken(Vec<Waker>);

impl Woken {
    /// Wakes them.
    pub fn wake(self) {
        for waker in self.0 {
            waker.wake();
        }
    }
}
