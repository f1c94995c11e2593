//! The calendar of checks: what is due, and when the next one will be. Pure; the time is an argument.
//!
//! Everything is O(log n), so that 20,000 servers cost no more per check than 20 do.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Number of something that is asked again and again.
pub(super) type CheckId = u64;

/// Hashes a [`CheckId`]: a number that we count up ourselves, which nobody outside can choose.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

/// See [`IdHasher`].
pub(super) type Ids = BuildHasherDefault<IdHasher>;

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // The table looks at the highest bits, too.
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// What is due when. Each entry stands in it at most once.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    by_time: BTreeSet<(u64, CheckId)>,
    times: HashMap<CheckId, u64, Ids>,
}

impl Schedule {
    /// `id` is due at `at`, whatever was known before.
    pub(super) fn put(&mut self, id: CheckId, at: u64) {
        if let Some(old) = self.times.insert(id, at) {
            self.by_time.remove(&(old, id));
        }
        self.by_time.insert((at, id));
    }

    /// `id` is due at `at`, if it is known and was due later. Says whether it is earlier now.
    pub(super) fn soon(&mut self, id: CheckId, at: u64) -> bool {
        match self.times.get(&id) {
            Some(planned) if *planned > at => {
                self.put(id, at);
                true
            }
            _ => false,
        }
    }

    /// `id` is not due any more.
    pub(super) fn remove(&mut self, id: CheckId) {
        if let Some(at) = self.times.remove(&id) {
            self.by_time.remove(&(at, id));
        }
    }

    /// Takes what is due at `now` out, the oldest first, at most `most`; it is put back when it was asked. Says when the
    /// next one is due: not after `now` if some had to be left.
    pub(super) fn due(&mut self, now: u64, most: usize, out: &mut Vec<CheckId>) -> Option<u64> {
        for _ in 0..most {
            match self.by_time.first() {
                Some((at, id)) if *at <= now => {
                    self.times.remove(id);
                    out.push(*id);
                }
                _ => break,
            }
            self.by_time.pop_first();
        }
        self.next()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

/// `time`, one `part`th of it more or less.
pub(super) fn varied(time: u64, part: u64, random: u64) -> u64 {
    let most = time / part;
    (time - most).saturating_add(random % (2 * most + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn due(schedule: &mut Schedule, now: u64, most: usize) -> (Vec<CheckId>, Option<u64>) {
        let mut out = Vec::new();
        let next = schedule.due(now, most, &mut out);
        (out, next)
    }

    #[test]
    fn jitter_is_a_tenth() {
        let all: Vec<_> = (0..1000).map(|random| varied(2_000, 10, random)).collect();
        assert_eq!(all.iter().min(), Some(&1_800));
        assert_eq!(all.iter().max(), Some(&2_200));
        assert_eq!(varied(5, 10, 7), 5);
    }

    #[test]
    fn the_oldest_come_first_and_no_more_than_may() {
        let mut schedule = Schedule::default();
        for (id, at) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
            schedule.put(id, at);
        }
        assert_eq!(due(&mut schedule, 30, 2), (vec![2, 3], Some(30)));
        assert_eq!(due(&mut schedule, 30, 2), (vec![1], Some(40)));
        assert_eq!(due(&mut schedule, 30, 2), (vec![], Some(40)));
        assert_eq!(due(&mut schedule, 40, 0), (vec![], Some(40)));
        assert_eq!(due(&mut schedule, 40, 9), (vec![4], None));
    }

    #[test]
    fn sooner_but_never_later_and_only_what_waits() {
        let mut schedule = Schedule::default();
        schedule.put(1, 50);
        assert!(!schedule.soon(1, 60));
        assert!(schedule.soon(1, 10));
        assert!(!schedule.soon(2, 10), "nobody knows it");
        assert_eq!(due(&mut schedule, 20, 9), (vec![1], None));
        assert!(!schedule.soon(1, 10), "it is being asked");
        schedule.put(1, 30);
        schedule.remove(1);
        assert_eq!(due(&mut schedule, 99, 9), (vec![], None));
    }

    proptest! {
        /// Whatever is put off, hurried and removed: the two halves agree, and everything that is known comes exactly once.
        #[test]
        fn keeps_to_a_simple_model(steps in prop::collection::vec((0u8..4, 0u64..8, 0u64..50), 1..200)) {
            let mut schedule = Schedule::default();
            let mut model: HashMap<u64, u64> = HashMap::new();
            for (what, id, at) in steps {
                match what {
                    0 => {
                        schedule.put(id, at);
                        model.insert(id, at);
                    }
                    1 => {
                        schedule.soon(id, at);
                        model.entry(id).and_modify(|t| *t = (*t).min(at));
                    }
                    2 => {
                        schedule.remove(id);
                        model.remove(&id);
                    }
                    _ => {
                        let (mut taken, next) = due(&mut schedule, at, usize::MAX);
                        let mut expected: Vec<u64> = model.iter().filter(|(_, t)| **t <= at).map(|(i, _)| *i).collect();
                        model.retain(|_, t| *t > at);
                        taken.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(taken, expected);
                        prop_assert_eq!(next, model.values().min().copied());
                    }
                }
                prop_assert_eq!(schedule.times.len(), schedule.by_time.len());
            }
        }

        /// Whoever asks what is due, in whatever steps, asks everything once per interval, a tenth more or less (and the
        /// length of a step).
        #[test]
        fn everything_is_asked_once_per_interval(
            servers in 1u64..50,
            interval in 50u64..500,
            step in 1u64..10,
            seed in any::<u64>(),
        ) {
            let mut schedule = Schedule::default();
            let mut random = seed;
            let mut last: HashMap<u64, u64> = HashMap::new();
            for id in 0..servers {
                schedule.put(id, id % interval);
            }
            let mut out = Vec::new();
            for now in (0..interval * 10).step_by(step as usize) {
                out.clear();
                schedule.due(now, usize::MAX, &mut out);
                for id in &out {
                    if let Some(before) = last.insert(*id, now) {
                        let gap = now - before;
                        prop_assert!(gap >= interval - interval / 10, "{} after {}", now, before);
                        prop_assert!(gap <= interval + interval / 10 + step, "{} after {}", now, before);
                    }
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    schedule.put(*id, now + varied(interval, 10, random >> 33));
                }
            }
            prop_assert_eq!(last.len() as u64, servers);
        }
    }
}
