//! When a source that failed is asked again: soon at first, then less and less often, never all at the same time.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from 1 s to 30 s, each with up to a fifth less.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    random: RandomState,
}

impl Backoff {
    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: wait so long.
    pub(super) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
        let percent = self.random.hash_one(self.failures) % 21;
        self.failures = self.failures.saturating_add(1);
        whole.saturating_sub(whole / 100 * percent as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound_and_begins_anew() {
        let mut backoff = Backoff::default();
        for whole in [1, 2, 4, 8, 16, 30, 30, 30] {
            let wait = backoff.next();
            let whole = Duration::from_secs(whole);
            assert!(
                wait <= whole && wait >= whole * 79 / 100,
                "{wait:?} of {whole:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
