//! What a name stands for while its name servers say different things: pure, the time is an argument (monotonic ms).
//!
//! A name server that fails does not take servers away: the last good answer holds. One that says that the name does not
//! exist is believed after a while, for that is also what a zone that is being edited looks like. Each address family has
//! an answer of its own, so that one failing does not take the other's servers away.

use std::net::IpAddr;
use std::time::Duration;

use crate::clock::millis;

/// Servers that a name may stand for, by address family.
const RECORDS: usize = 64;
/// A name that is said not to exist keeps its servers for so long.
const MISSING_MS: u64 = 30_000;
/// Bounds of the time to the next look-up.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_mins(1);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// What a name server said about one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Addresses, and how long they are good for.
    Found(Vec<IpAddr>, Duration),
    /// The name exists and has none.
    Empty,
    /// The name does not exist.
    Missing,
    /// No usable answer.
    Failed,
}

/// One address family of a name.
#[derive(Debug, Default)]
pub(super) struct Held {
    addresses: Vec<IpAddr>,
    /// Since when it has been said to be without addresses.
    missing_since: Option<u64>,
}

impl Held {
    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Takes an answer; says when to ask again.
    pub(super) fn take(&mut self, answer: Answer, now: u64) -> Duration {
        match answer {
            Answer::Found(mut addresses, ttl) => {
                // In an order of their own, so that a name with more records than we take keeps the same servers.
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(RECORDS);
                self.addresses = addresses;
                self.missing_since = None;
                ttl.clamp(SOONEST, LATEST)
            }
            Answer::Failed => AGAIN,
            Answer::Empty | Answer::Missing => {
                let since = *self.missing_since.get_or_insert(now);
                if now.saturating_sub(since) >= MISSING_MS {
                    self.addresses.clear();
                }
                match answer {
                    // A name with addresses of the other family only: the usual case, no hurry.
                    Answer::Empty if self.addresses.is_empty() => LATEST,
                    _ => AGAIN,
                }
            }
        }
    }
}

/// The next look-up of a name, from what its two families say: one with addresses is in no hurry because of the other.
pub(super) fn next(families: [(&Held, Duration); 2]) -> u64 {
    let [v4, v6] = families;
    let after = match (v4.0.addresses.is_empty(), v6.0.addresses.is_empty()) {
        (false, true) => v4.1,
        (true, false) => v6.1,
        // A name without any address is asked about soon: somebody is waiting for it.
        (true, true) => v4.1.min(v6.1).min(AGAIN),
        (false, false) => v4.1.min(v6.1),
    };
    millis(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(n: u8) -> Vec<IpAddr> {
        (0..n).map(|i| IpAddr::from([10, 0, 0, i])).collect()
    }

    fn found(n: u8) -> Answer {
        Answer::Found(ips(n), Duration::from_secs(10))
    }

    #[test]
    fn time_to_live_is_kept_within_bounds() {
        let mut held = Held::default();
        for (ttl, next) in [(0, 1), (1, 1), (17, 17), (86_400, 60)] {
            assert_eq!(
                held.take(Answer::Found(ips(1), Duration::from_secs(ttl)), 0),
                Duration::from_secs(next)
            );
        }
    }

    #[test]
    fn failures_hold_for_ever() {
        let mut held = Held::default();
        held.take(found(2), 0);
        for now in [0, 600_000, 100_000_000] {
            assert_eq!(held.take(Answer::Failed, now), AGAIN);
            assert_eq!(held.addresses(), ips(2));
        }
    }

    #[test]
    fn a_missing_name_holds_for_half_a_minute() {
        for answer in [Answer::Missing, Answer::Empty] {
            let mut held = Held::default();
            held.take(found(2), 0);
            held.take(answer.clone(), 1_000);
            held.take(answer.clone(), 30_999);
            assert_eq!(held.addresses(), ips(2));
            held.take(answer, 31_000);
            assert!(held.addresses().is_empty());
        }
    }

    #[test]
    fn an_answer_ends_the_absence() {
        let mut held = Held::default();
        held.take(found(2), 0);
        held.take(Answer::Missing, 0);
        held.take(found(1), 20_000);
        held.take(Answer::Missing, 31_000);
        assert_eq!(held.addresses(), ips(1));
    }

    #[test]
    fn takes_so_many_and_no_more() {
        let mut held = Held::default();
        held.take(found(200), 0);
        assert_eq!(held.addresses(), ips(64));
    }

    #[test]
    fn the_family_with_addresses_sets_the_pace() {
        let (mut v4, mut v6) = (Held::default(), Held::default());
        let a = v4.take(found(1), 0);
        let b = v6.take(Answer::Failed, 0);
        assert_eq!(next([(&v4, a), (&v6, b)]), 10_000);
        let none = Held::default();
        assert_eq!(next([(&none, LATEST), (&v6, LATEST)]), 5_000);
    }
}
