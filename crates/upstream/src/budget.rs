//! The retry budget: retries are a bounded share of the requests of the last ten seconds, so that a failing upstream is
//! not hit with a multiple of its load. And the hedge budget, a share of all requests. Pure; one of each per core.

/// Seconds of memory.
const WINDOW: u64 = 10;

/// Requests and retries of the last ten seconds, by second.
#[derive(Debug, Default)]
pub struct Budget {
    seconds: [(u32, u32); WINDOW as usize],
    /// The second that is being counted.
    now: u64,
    requests: u64,
    retries: u64,
}

impl Budget {
    /// Counts a request (not its retries). `now_ms` is monotonic.
    #[inline]
    pub fn request(&mut self, now_ms: u64) {
        self.turn(now_ms / 1_000);
        self.requests += 1;
        let at = (self.now % WINDOW) as usize;
        if let Some(second) = self.seconds.get_mut(at) {
            second.0 = second.0.saturating_add(1);
        }
    }

    /// May a request be retried? If so the retry is counted. `percent` of the requests, and `minimum` a second besides.
    pub fn try_retry(&mut self, now_ms: u64, percent: u8, minimum: u64) -> bool {
        if !self.has_retry(now_ms, percent, minimum) {
            return false;
        }
        self.retries += 1;
        let at = (self.now % WINDOW) as usize;
        if let Some(second) = self.seconds.get_mut(at) {
            second.1 = second.1.saturating_add(1);
        }
        true
    }

    /// A retry that was counted in this second, of the monotonic clock, was not made.
    pub fn give_back(&mut self, second: u64) {
        if second.saturating_add(WINDOW) <= self.now {
            return;
        }
        let at = (second % WINDOW) as usize;
        if let Some(second) = self.seconds.get_mut(at).filter(|s| s.1 > 0) {
            second.1 -= 1;
            self.retries = self.retries.saturating_sub(1);
        }
    }

    /// Would [`Budget::try_retry`] allow one now?
    fn has_retry(&mut self, now_ms: u64, percent: u8, minimum: u64) -> bool {
        self.turn(now_ms / 1_000);
        let share = self.requests.saturating_mul(u64::from(percent)) / 100;
        self.retries < share + minimum.saturating_mul(WINDOW)
    }

    fn turn(&mut self, second: u64) {
        if second <= self.now {
            return;
        }
        let passed = (second - self.now).min(WINDOW);
        for i in 0..passed {
            let at = ((second - i) % WINDOW) as usize;
            if let Some(old) = self.seconds.get_mut(at) {
                self.requests = self.requests.saturating_sub(u64::from(old.0));
                self.retries = self.retries.saturating_sub(u64::from(old.1));
                *old = (0, 0);
            }
        }
        self.now = second;
    }
}

/// What a second attempt costs; a request earns its percent of it.
const HEDGE: u32 = 100;

/// What so many requests earn can be saved up, and one second attempt in any case.
const SAVING: u32 = 200;

/// The hedge budget. Requests earn it and second attempts spend it, so that their number is never more than one and the share
/// of the requests so far, however slow everything is; no clock, so that an upstream with few requests has its share, too.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    saved: u32,
}

impl Default for Allowance {
    /// For the first.
    fn default() -> Self {
        Self { saved: HEDGE }
    }
}

impl Allowance {
    /// Counts a request.
    pub fn earn(&mut self, percent: u8) {
        let earned = u32::from(percent.min(100));
        self.saved = (self.saved + earned).min((earned * SAVING).max(HEDGE));
    }

    /// May a second attempt be made? If so it is paid for. With a share of nothing there is none.
    pub fn take(&mut self, percent: u8) -> bool {
        let left = self.saved.checked_sub(HEDGE).filter(|_| percent > 0);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retries(b: &mut Budget, now: u64, percent: u8, minimum: u64) -> usize {
        (0..10_000)
            .take_while(|_| b.try_retry(now, percent, minimum))
            .count()
    }

    #[test]
    fn a_share_of_the_requests_and_a_minimum() {
        let mut b = Budget::default();
        for _ in 0..1_000 {
            b.request(5_000);
        }
        assert!(b.has_retry(5_000, 20, 3));
        assert_eq!(retries(&mut b, 5_000, 20, 3), 230);
        assert_eq!(retries(&mut b, 14_999, 20, 3), 0);
        assert!(!b.has_retry(14_999, 20, 3));
        assert_eq!(retries(&mut b, 15_000, 20, 3), 30);
    }

    #[test]
    fn what_was_not_used_comes_back() {
        let mut b = Budget::default();
        assert_eq!(retries(&mut b, 5_000, 0, 3), 30);
        b.give_back(5);
        assert_eq!(retries(&mut b, 6_000, 0, 3), 1);
        // Its second is over: it has come back by itself.
        assert_eq!(retries(&mut b, 15_000, 0, 3), 29);
        b.give_back(5);
        assert_eq!(retries(&mut b, 15_000, 0, 3), 0);
        assert_eq!(retries(&mut b, 16_000, 0, 3), 1);
    }

    #[test]
    fn nothing_at_all_when_switched_off() {
        let mut b = Budget::default();
        b.request(0);
        assert_eq!(retries(&mut b, 0, 0, 0), 0);
    }

    #[test]
    fn second_attempts_are_a_share_and_one() {
        let mut a = Allowance::default();
        let made = (0..1_000).filter(|_| {
            a.earn(5);
            a.take(5)
        });
        assert_eq!(made.count(), 51);
        for _ in 0..1_000_000 {
            a.earn(5);
        }
        assert_eq!((0..100).filter(|_| a.take(5)).count(), 10);
        assert!(!Allowance::default().take(0));
    }

    proptest! {
        #[test]
        fn never_more_than_their_share_and_one(steps in prop::collection::vec((0u32..200, 0u32..50), 1..100), percent in 0u8..=100) {
            let mut a = Allowance::default();
            let (mut requests, mut made) = (0u64, 0u64);
            for (came, wanted) in steps {
                (0..came).for_each(|_| a.earn(percent));
                requests += u64::from(came);
                made += (0..wanted).filter(|_| a.take(percent)).count() as u64;
                prop_assert!(made <= 1 + requests * u64::from(percent) / 100);
            }
        }

        #[test]
        fn never_above_the_share(steps in prop::collection::vec((0u64..3_000, 0u32..50, 0u32..50), 1..100)) {
            let mut b = Budget::default();
            let mut now = 0;
            let mut log: Vec<(u64, u64, u64)> = Vec::new();
            for (step, requests, wanted) in steps {
                now += step;
                for _ in 0..requests {
                    b.request(now);
                }
                let granted = (0..wanted).filter(|_| b.try_retry(now, 20, 1)).count() as u64;
                log.push((now / 1_000, u64::from(requests), granted));
                let recent = log.iter().filter(|(s, _, _)| now / 1_000 - s < WINDOW);
                let (requests, retries) = recent.fold((0, 0), |(a, b), (_, q, r)| (a + q, b + r));
                // The share is of the requests known when the retry is asked for, so old requests leave later than it.
                let all: u64 = log.iter().filter(|(s, _, _)| now / 1_000 - s < 2 * WINDOW).map(|(_, q, _)| q).sum();
                prop_assert!(retries <= all / 5 + WINDOW, "{requests} {retries}");
            }
        }
    }
}
