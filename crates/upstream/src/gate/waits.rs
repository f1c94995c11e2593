//! What became of those who had to wait at a gate. Written only on the way that waits: cores may share a line here.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Waits {
    waited: AtomicU64,
    us: AtomicU64,
    timeouts: AtomicU64,
    refused: AtomicU64,
}

/// The same to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Requests that wait now.
    pub waiting: u64,
    /// Waits that have ended, however.
    pub waited: u64,
    /// How long they were together, in microseconds.
    pub waited_us: u64,
    /// Waits that ended because they took too long.
    pub timeouts: u64,
    /// Requests that found no place in the queue, or lost it to one of a higher priority.
    pub refused: u64,
}

impl Waits {
    pub(super) fn ended(&self, us: u64) {
        self.waited.fetch_add(1, Ordering::Relaxed);
        self.us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn timed_out(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn figures(&self, waiting: usize) -> QueueFigures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        QueueFigures {
            waiting: waiting as u64,
            waited: read(&self.waited),
            waited_us: read(&self.us),
            timeouts: read(&self.timeouts),
            refused: read(&self.refused),
        }
    }
}

impl std::ops::Add for QueueFigures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            waited: self.waited + other.waited,
            waited_us: self.waited_us + other.waited_us,
            timeouts: self.timeouts + other.timeouts,
            refused: self.refused + other.refused,
        }
    }
}
