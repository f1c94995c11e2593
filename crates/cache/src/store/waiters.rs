//! Tasks that wait for the same event.

use std::collections::HashSet;
use std::task::Waker;

/// Tasks that may wait for one event; the next one does not wait.
const WAITERS_MAX: usize = 65_536;
/// The first number at which the list is looked through for tasks that are in it twice.
const LOOK_FIRST: usize = 64;

/// Wakers of tasks, in the order in which they came: of a crowd that asks at once, who asked first is answered first, and nobody
/// waits for much longer than the event. A task that is dropped stays in the list until the next event, then it is forgotten.
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
            let mut seen = HashSet::with_capacity(self.list.len());
            self.list
                .retain(|waker| seen.insert((waker.data(), std::ptr::from_ref(waker.vtable()))));
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    struct Task(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn all_are_woken_in_the_order_in_which_they_came() {
        const TASKS: usize = 1_000;
        let woken = Arc::new(Mutex::new(Vec::new()));
        // their addresses are in another order
        let mut tasks: Vec<_> = (0..TASKS)
            .map(|n| Arc::new(Task(n, Arc::clone(&woken))))
            .collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(Arc::as_ptr(task)));
        let came: Vec<usize> = tasks.iter().map(|task| task.0).collect();
        let wakers: Vec<Waker> = tasks.into_iter().map(Waker::from).collect();
        let mut waiters = Waiters::default();
        for _ in 0..5 {
            assert!(wakers.iter().all(|waker| waiters.add(waker)));
        }
        waiters.take().wake();
        let mut first = woken.lock().unwrap().clone();
        let all = first.len();
        let mut seen = HashSet::new();
        first.retain(|n| seen.insert(*n));
        assert_eq!(first, came);
        assert!(all < 4 * TASKS, "{all} wake-ups of {TASKS} tasks");
        waiters.take().wake();
        assert_eq!(woken.lock().unwrap().len(), all);
    }
}
