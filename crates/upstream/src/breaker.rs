//! Passive marking of one server: pure, the time is an argument (monotonic milliseconds).
//!
//! `errors` failures within `within` take the server out for `for_`. Then a single request tries it (half-open): if it
//! succeeds the server returns, slowly; if not it is out again for twice as long, up to ten times `for_`. A server that
//! fails again soon after its return continues the series.

use std::collections::VecDeque;

use narthex_config::model::Eject;
use serde::{Deserialize, Serialize};

use crate::clock::millis;

/// Longest ejection as a multiple of the configured time.
const LONGEST: u64 = 10;
/// Failures remembered at most.
const REMEMBERED: usize = 1_000;
/// A busy server is not taken out for failures that are less than one in so many of its requests.
const RARE: u64 = 20;

/// The rule, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Failures that take the server out; 0 is never.
    pub errors: u32,
    /// The time in which they must fall.
    pub within: u64,
    /// First time out.
    pub out_for: u64,
}

impl From<&Eject> for Rule {
    fn from(eject: &Eject) -> Self {
        Self {
            errors: eject.errors,
            within: millis(eject.within),
            out_for: millis(eject.for_).max(1),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    at: u64,
    /// Requests that the server had been given by then.
    given: u64,
}

/// What is remembered of a server's failures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    failures: VecDeque<Failure>,
    /// End of the present or last time out; 0 is none yet.
    until: u64,
    /// Length of it.
    length: u64,
    /// Out, and no trial has succeeded since.
    open: bool,
    /// Ejections in this series.
    series: u32,
}

impl Breaker {
    /// Notes a failure at `now`, when the server had been given `given` requests in its life. Says until when the server
    /// is to be out, if it is to be; then the caller either applies that and calls [`Breaker::eject`], or leaves it.
    ///
    /// `trial`: the request was sent although the server was out.
    pub fn failure(&mut self, now: u64, given: u64, trial: bool, rule: Rule) -> Option<u64> {
        if rule.errors == 0 {
            return None;
        }
        if self.open {
            // Late news from requests that were under way when the server was taken out says nothing new.
            return trial.then(|| self.next_until(now, rule));
        }
        let keep = (rule.errors as usize).clamp(1, REMEMBERED);
        self.failures.push_back(Failure { at: now, given });
        while self.failures.len() > keep {
            self.failures.pop_front();
        }
        let first = self.failures.front()?;
        let soon = now.saturating_sub(first.at) <= rule.within;
        let often = given.saturating_sub(first.given) <= (keep as u64).saturating_mul(RARE);
        (self.failures.len() == keep && soon && often).then(|| self.next_until(now, rule))
    }

    /// The server is far worse than the others at `now`. Says until when it is to be out, as [`Breaker::failure`] does.
    pub fn outlier(&self, now: u64, rule: Rule) -> Option<u64> {
        (rule.errors > 0 && !self.open).then(|| self.next_until(now, rule))
    }

    fn next_until(&self, now: u64, rule: Rule) -> u64 {
        let factor = if self.continues(now) {
            1u64.checked_shl(self.series)
                .unwrap_or(LONGEST)
                .min(LONGEST)
        } else {
            1
        };
        now.saturating_add(rule.out_for.saturating_mul(factor))
    }

    /// Failing, or returned for a shorter time than it was out.
    fn continues(&self, now: u64) -> bool {
        self.series > 0 && (self.open || now.saturating_sub(self.until) < self.length)
    }

    /// The server is out from `now` until `until`.
    pub fn eject(&mut self, now: u64, until: u64) {
        self.series = if self.continues(now) {
            self.series.saturating_add(1)
        } else {
            1
        };
        self.length = until.saturating_sub(now);
        self.until = until;
        self.open = true;
        self.failures.clear();
    }

    /// A trial succeeded: the server is in again. False if it was not out.
    pub fn success(&mut self) -> bool {
        self.failures.clear();
        std::mem::take(&mut self.open)
    }

    /// Forgets everything (an active check has seen the server come back).
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// How many of `servers` may be out by passive marking: `at_most` percent, at least one, never all.
pub fn most_out(servers: usize, at_most: u8) -> usize {
    if at_most == 0 {
        return 0;
    }
    (servers.saturating_mul(usize::from(at_most)) / 100)
        .max(1)
        .min(servers.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = Rule {
        errors: 3,
        within: 10_000,
        out_for: 30_000,
    };

    fn fail(b: &mut Breaker, now: u64, trial: bool) -> Option<u64> {
        let until = b.failure(now, now, trial, RULE)?;
        b.eject(now, until);
        Some(until)
    }

    #[test]
    fn takes_out_after_so_many_within() {
        let mut b = Breaker::default();
        assert_eq!(b.failure(1_000, 0, false, RULE), None);
        assert_eq!(b.failure(2_000, 1, false, RULE), None);
        assert_eq!(b.failure(3_000, 2, false, RULE), Some(33_000));
    }

    #[test]
    fn failures_far_apart_do_not_count() {
        let mut b = Breaker::default();
        for i in 0..20 {
            assert_eq!(b.failure(i * 6_000, i, false, RULE), None);
        }
    }

    #[test]
    fn rare_failures_of_a_busy_server_do_not_count() {
        let mut b = Breaker::default();
        for i in 0..20 {
            assert_eq!(b.failure(i, i * 1_000, false, RULE), None);
        }
        assert_eq!(b.failure(21, 19_001, false, RULE), None);
        assert_eq!(b.failure(22, 19_002, false, RULE), Some(30_022));
    }

    #[test]
    fn zero_switches_it_off() {
        let mut b = Breaker::default();
        let off = Rule { errors: 0, ..RULE };
        assert!((0..100).all(|i| b.failure(i, i, false, off).is_none()));
    }

    #[test]
    fn doubles_up_to_ten_times_and_starts_over() {
        let mut b = Breaker::default();
        for i in 0..2 {
            assert_eq!(fail(&mut b, i, false), None);
        }
        let mut until = fail(&mut b, 2, false).unwrap();
        assert_eq!(until, 30_002);
        for factor in [2, 4, 8, 10, 10] {
            let trial = until + 5;
            until = fail(&mut b, trial, true).unwrap();
            assert_eq!(until - trial, 30_000 * factor);
        }
        assert!(b.success());
        assert!(!b.success());
        let much_later = until + 1_000_000;
        for i in 0..2 {
            assert_eq!(fail(&mut b, much_later + i, false), None);
        }
        assert_eq!(
            fail(&mut b, much_later + 2, false),
            Some(much_later + 30_002)
        );
    }

    #[test]
    fn failing_soon_after_the_return_continues_the_series() {
        let mut b = Breaker::default();
        let until = (0..3).find_map(|i| fail(&mut b, i, false)).unwrap();
        assert!(b.success());
        let back = until + 100;
        let again = (0..3).find_map(|i| fail(&mut b, back + i, false)).unwrap();
        assert_eq!(again, back + 2 + 60_000);
    }

    #[test]
    fn late_failures_change_nothing() {
        let mut b = Breaker::default();
        let until = (0..3).find_map(|i| fail(&mut b, i, false)).unwrap();
        assert_eq!(fail(&mut b, until - 1, false), None);
        assert_eq!(fail(&mut b, until + 1, false), None);
    }

    #[test]
    fn never_all() {
        assert_eq!(most_out(1, 100), 0);
        assert_eq!(most_out(0, 50), 0);
        assert_eq!(most_out(2, 50), 1);
        assert_eq!(most_out(3, 10), 1);
        assert_eq!(most_out(10, 50), 5);
        assert_eq!(most_out(10, 100), 9);
        assert_eq!(most_out(10, 0), 0);
    }

    proptest! {
        #[test]
        fn never_out_longer_than_ten_times(times in prop::collection::vec((0u64..100_000, any::<bool>(), any::<bool>()), 1..200)) {
            let mut b = Breaker::default();
            let mut now = 0;
            for (step, trial, works) in times {
                now += step;
                if works {
                    b.success();
                } else if let Some(until) = fail(&mut b, now, trial) {
                    prop_assert!(until > now && until - now <= 300_000);
                }
            }
        }
    }
}
