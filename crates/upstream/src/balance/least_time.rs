//! Least time: the server that is expected to answer first.
//!
//! Expected is the recent time to a response's head, times the requests that will be under way there, by share. The recent
//! time is a peak that fades: a longer time counts at once, shorter ones draw the mean down over [`FADE_MS`], and so does
//! silence, so that a server that was slow is asked again.

/// A time counts by 1/e after so long, in milliseconds.
pub const FADE_MS: f64 = 10_000.0;

/// Dearer than any that was measured: another request must not go to a server of which nothing is known and that has not
/// answered the first.
const UNKNOWN: u64 = 1 << 40;

/// The recent time of one server, as one core sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recent {
    /// Microseconds; 0 is unknown.
    us: f64,
    /// Monotonic milliseconds of the last measurement.
    at: u64,
}

impl Recent {
    /// A response's head came after `us`, or was waited for in vain for so long.
    #[must_use]
    pub fn with(self, us: u64, now: u64) -> Self {
        let us = us.max(1) as f64;
        let old = self.us;
        let kept = self.kept(now);
        let mean = if old == 0.0 || us > old * kept {
            us
        } else {
            old * kept + us * (1.0 - kept)
        };
        Self { us: mean, at: now }
    }

    /// Microseconds that are expected now; `None` if nothing is known.
    pub fn now(self, now: u64) -> Option<u64> {
        (self.us != 0.0).then(|| ((self.us * self.kept(now)) as u64).max(1))
    }

    fn kept(self, now: u64) -> f64 {
        (-(now.saturating_sub(self.at) as f64) / FADE_MS).exp()
    }
}

/// What one more request would cost at a server with `in_flight` requests, `here` of them of this core.
pub fn cost(recent: Option<u64>, in_flight: u64, here: u64) -> u64 {
    match recent {
        Some(us) => us.saturating_mul(in_flight.saturating_add(1)),
        // The first goes there at once, so that something is known.
        None if here == 0 => 0,
        None => UNKNOWN.saturating_add(in_flight),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn peaks_at_once_and_fades() {
        let recent = Recent::default().with(1_000, 0);
        assert_eq!(recent.now(0), Some(1_000));
        let slow = recent.with(50_000, 10);
        assert_eq!(slow.now(10), Some(50_000), "a longer time counts at once");
        let better = slow.with(1_000, 20);
        assert!(
            better.now(20).unwrap() > 49_000,
            "one good answer is not enough"
        );
        let mut later = slow;
        for i in 0..30_000 {
            later = later.with(1_000, 10 + i);
        }
        assert!(later.now(30_010).unwrap() < 4_000);
        assert!(
            slow.now(30_010).unwrap() < 3_000,
            "silence fades too: it is asked again"
        );
    }

    #[test]
    fn what_is_unknown_is_asked_once() {
        assert_eq!(Recent::default().now(5), None);
        assert!(cost(None, 0, 0) < cost(Some(1), 0, 0));
        assert!(cost(None, 1, 1) > cost(Some(60_000_000), 10, 10));
    }

    proptest! {
        #[test]
        fn stays_between_the_shortest_and_the_longest(times in prop::collection::vec((1u64..10_000_000, 0u64..100), 1..100)) {
            let (mut recent, mut now) = (Recent::default(), 0);
            for (us, step) in &times {
                now += step;
                recent = recent.with(*us, now);
                let expected = recent.now(now).unwrap();
                prop_assert!(expected >= *us && expected <= times.iter().map(|t| t.0).max().unwrap());
            }
        }
    }
}
