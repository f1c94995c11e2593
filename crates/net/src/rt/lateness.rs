//! How late a core is: the time from when a task could run until it ran.
//!
//! One mark goes through the queue of tasks at a time. It is set behind those that wait when a turn's events have come, and
//! when the last of those has been polled its age is what somebody who has connected then had to wait. A mark with one task
//! before it is not measured: the core was idle, and the clock is not read for it.

use std::cell::Cell;

/// Less is nothing. Microseconds.
const LEAST_US: u64 = 1_000;
const SECOND_US: u64 = 1_000_000;

/// The peaks of this second and of the one before.
#[derive(Default)]
pub(super) struct Lateness {
    /// Tasks in front of the mark; 0 is no mark.
    ahead: Cell<usize>,
    /// When the mark was set, in monotonic microseconds.
    from: Cell<u64>,
    alone: Cell<bool>,
    second: Cell<u64>,
    peak: Cell<u64>,
    before: Cell<u64>,
}

impl Lateness {
    /// Sets the mark behind `queued` tasks, if there is none.
    #[inline]
    pub(super) fn mark(&self, queued: usize, now_us: u64) {
        if self.ahead.get() == 0 {
            self.ahead.set(queued);
            self.from.set(now_us);
            self.alone.set(queued == 1);
        }
    }

    /// So many tasks have been polled; `clock` gives the monotonic microseconds.
    #[inline]
    pub(super) fn polled(&self, tasks: usize, clock: impl FnOnce() -> u64) {
        let ahead = self.ahead.get();
        let left = ahead.saturating_sub(tasks);
        self.ahead.set(left);
        if ahead > 0 && left == 0 && !self.alone.get() {
            self.note(clock());
        }
    }

    fn note(&self, now_us: u64) {
        let late = now_us.saturating_sub(self.from.get());
        if late >= LEAST_US {
            self.turn(now_us / SECOND_US);
            self.peak.set(self.peak.get().max(late));
        }
    }

    fn turn(&self, second: u64) {
        match second.saturating_sub(self.second.get()) {
            0 => return,
            1 => self.before.set(self.peak.get()),
            _ => self.before.set(0),
        }
        self.peak.set(0);
        self.second.set(second);
    }

    /// The peak of this second and the one before, in milliseconds.
    #[inline]
    pub(super) fn recent_ms(&self, now_us: u64) -> u64 {
        if self.peak.get() | self.before.get() == 0 {
            return 0;
        }
        self.turn(now_us / SECOND_US);
        self.peak.get().max(self.before.get()) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: fn() -> u64 = || panic!("the clock is not to be read");

    #[test]
    fn the_age_of_the_mark_when_all_before_it_have_run() {
        let late = Lateness::default();
        late.mark(300, 5_000_000);
        late.polled(256, NEVER);
        // A mark that is on its way stays where it is.
        late.mark(900, 5_100_000);
        late.polled(256, || 5_200_000);
        assert_eq!(late.recent_ms(5_200_000), 200);
    }

    #[test]
    fn one_task_alone_is_not_measured() {
        let late = Lateness::default();
        late.mark(0, 0);
        late.polled(0, NEVER);
        late.mark(1, 0);
        late.polled(1, NEVER);
        assert_eq!(late.recent_ms(9_000_000), 0);
    }

    #[test]
    fn a_peak_is_remembered_for_a_second_and_no_longer_than_two() {
        let late = Lateness::default();
        let measure = |from: u64, took: u64| {
            late.mark(2, from);
            late.polled(2, || from + took);
        };
        measure(1_000_000, 70_000);
        measure(1_500_000, 20_000);
        measure(1_700_000, 900);
        assert_eq!(late.recent_ms(1_900_000), 70);
        assert_eq!(late.recent_ms(2_900_000), 70);
        measure(2_950_000, 30_000);
        assert_eq!(late.recent_ms(3_000_000), 30);
        assert_eq!(late.recent_ms(4_000_000), 0);
        measure(5_000_000, 40_000);
        assert_eq!(late.recent_ms(60_000_000), 0);
    }
}
