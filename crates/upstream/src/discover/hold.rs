//! What a name stands for while its name servers say different things: pure, the time is an argument (monotonic ms).
//!
//! A name server that fails does not take servers away: the last good answer holds. One that says that the name does not
//! exist is believed after a while, for that is also what a zone that is being edited looks like. Each type of record has
//! an answer of its own, so that one failing does not take the other's servers away.

use std::time::Duration;

use super::backoff::Backoff;
use crate::clock::millis;

/// A name that is said not to exist keeps its servers for so long.
pub(super) const MISSING_MS: u64 = 30_000;
/// Bounds of the time to the next look-up.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_hours(1);
/// While the name is said not to exist.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// A name with addresses of the other family only: the usual case, no hurry.
const EMPTY: Duration = Duration::from_mins(1);

/// What a name server said about one type of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// Records, and how long they are good for.
    Found(Vec<T>, Duration),
    /// The name exists and has none.
    Empty,
    /// The name does not exist.
    Missing,
    /// No usable answer.
    Failed,
}

/// The records of one type of a name, at most `RECORDS`.
#[derive(Debug)]
pub(super) struct Held<T, const RECORDS: usize> {
    records: Vec<T>,
    /// Records of the last answer beyond the bound.
    cut: usize,
    /// Since when it has been said to be without records.
    missing_since: Option<u64>,
    backoff: Backoff,
}

impl<T, const RECORDS: usize> Default for Held<T, RECORDS> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            cut: 0,
            missing_since: None,
            backoff: Backoff::default(),
        }
    }
}

impl<T: Ord, const RECORDS: usize> Held<T, RECORDS> {
    /// With records that somebody has heard before.
    pub(super) fn of(mut records: Vec<T>) -> Self {
        records.sort_unstable();
        records.truncate(RECORDS);
        Self {
            records,
            ..Self::default()
        }
    }

    /// That there are no records is believed.
    pub(super) fn is_gone(&self, now: u64) -> bool {
        self.missing_since
            .is_some_and(|since| now.saturating_sub(since) >= MISSING_MS)
    }

    /// In an order of their own.
    pub(super) fn records(&self) -> &[T] {
        &self.records
    }

    /// How many records of the last answer are left out, because it had too many.
    pub(super) fn cut(&self) -> usize {
        self.cut
    }

    /// Takes an answer; says when to ask again.
    pub(super) fn take(&mut self, answer: Answer<T>, now: u64) -> Duration {
        if !matches!(answer, Answer::Failed) {
            self.backoff.reset();
        }
        match answer {
            Answer::Found(mut records, ttl) => {
                // Sorted, so that a name with more records than we take keeps the same servers.
                records.sort_unstable();
                records.dedup();
                self.cut = records.len().saturating_sub(RECORDS);
                records.truncate(RECORDS);
                self.records = records;
                self.missing_since = None;
                ttl.clamp(SOONEST, LATEST)
            }
            Answer::Failed => self.backoff.next(),
            Answer::Empty | Answer::Missing => {
                let since = *self.missing_since.get_or_insert(now);
                if now.saturating_sub(since) >= MISSING_MS {
                    self.records.clear();
                    self.cut = 0;
                }
                match answer {
                    Answer::Empty if self.records.is_empty() => EMPTY,
                    _ => AGAIN,
                }
            }
        }
    }
}

/// The next look-up of a name, from what its two families say: one with addresses is in no hurry because of the other.
pub(super) fn next(families: [(bool, Duration); 2]) -> u64 {
    let [(four, after_four), (six, after_six)] = families;
    let after = match (four, six) {
        (true, false) => after_four,
        (false, true) => after_six,
        // A name without any address is asked about soon: somebody is waiting for it.
        (false, false) => after_four.min(after_six).min(AGAIN),
        (true, true) => after_four.min(after_six),
    };
    millis(after)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    type Addresses = Held<IpAddr, 64>;

    fn ips(n: u8) -> Vec<IpAddr> {
        (0..n).map(|i| IpAddr::from([10, 0, 0, i])).collect()
    }

    fn found(n: u8) -> Answer<IpAddr> {
        Answer::Found(ips(n), Duration::from_secs(10))
    }

    #[test]
    fn time_to_live_is_kept_within_bounds() {
        let mut held = Addresses::default();
        for (ttl, next) in [(0, 1), (1, 1), (17, 17), (600, 600), (86_400, 3_600)] {
            assert_eq!(
                held.take(Answer::Found(ips(1), Duration::from_secs(ttl)), 0),
                Duration::from_secs(next)
            );
        }
    }

    #[test]
    fn failures_hold_for_ever_and_are_asked_about_less_and_less_often() {
        let mut held = Addresses::default();
        held.take(found(2), 0);
        let mut last = Duration::ZERO;
        for now in [0, 600_000, 100_000_000, 100_000_001, 100_000_002] {
            let wait = held.take(Answer::Failed, now);
            assert!(wait > last && wait <= Duration::from_secs(30), "{wait:?}");
            last = wait;
            assert_eq!(held.records(), ips(2));
        }
        held.take(found(2), 0);
        assert!(held.take(Answer::Failed, 0) <= Duration::from_secs(1));
    }

    #[test]
    fn a_missing_name_holds_for_half_a_minute() {
        for answer in [Answer::Missing, Answer::Empty] {
            let mut held = Addresses::default();
            held.take(found(2), 0);
            held.take(answer.clone(), 1_000);
            held.take(answer.clone(), 30_999);
            assert_eq!(held.records(), ips(2));
            held.take(answer, 31_000);
            assert!(held.records().is_empty());
        }
    }

    #[test]
    fn an_answer_ends_the_absence() {
        let mut held = Addresses::default();
        held.take(found(2), 0);
        held.take(Answer::Missing, 0);
        held.take(found(1), 20_000);
        held.take(Answer::Missing, 31_000);
        assert_eq!(held.records(), ips(1));
    }

    #[test]
    fn takes_so_many_and_no_more() {
        let mut held = Addresses::default();
        held.take(found(200), 0);
        assert_eq!((held.records(), held.cut()), (&*ips(64), 136));
        held.take(found(2), 0);
        assert_eq!(held.cut(), 0);
    }

    #[test]
    fn the_family_with_addresses_sets_the_pace() {
        let (ten, one) = (Duration::from_secs(10), Duration::from_secs(1));
        assert_eq!(next([(true, ten), (false, one)]), 10_000);
        assert_eq!(next([(false, one), (true, ten)]), 10_000);
        assert_eq!(next([(true, ten), (true, one)]), 1_000);
        assert_eq!(next([(false, EMPTY), (false, LATEST)]), 5_000);
    }
}
