//! How a server takes up its load when it comes back or is added.

use std::sync::atomic::{AtomicU64, Ordering};

use narthex_config::model::SlowStart;

use crate::clock::millis;

/// A [`SlowStart`] that the cores read: milliseconds, and in the lowest byte the percentage it begins with.
#[derive(Debug, Default)]
pub(super) struct Ramp(AtomicU64);

impl Ramp {
    pub(super) fn set(&self, slow_start: &SlowStart) {
        let over = millis(slow_start.over).min(u64::from(u32::MAX));
        let word = over << 8 | u64::from(slow_start.from.clamp(1, 100));
        self.0.store(word, Ordering::Relaxed);
    }

    /// The part of its share that a server has `back` milliseconds after its return, in percent; `None` when that is all.
    pub(super) fn percent(&self, back: u64) -> Option<u8> {
        let word = self.0.load(Ordering::Relaxed);
        let (over, from) = (word >> 8, word & 0xff);
        let grown = (100 - from.min(100))
            .saturating_mul(back)
            .checked_div(over)?;
        (back < over).then(|| (from + grown).clamp(1, 100) as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ramp(over_ms: u64, from: u8) -> Ramp {
        let ramp = Ramp::default();
        ramp.set(&SlowStart {
            over: Duration::from_millis(over_ms),
            from,
        });
        ramp
    }

    #[test]
    fn grows_from_its_beginning_to_all() {
        let ramp = ramp(10_000, 10);
        assert_eq!(ramp.percent(0), Some(10));
        assert_eq!(ramp.percent(5_000), Some(55));
        assert_eq!(ramp.percent(9_999), Some(99));
        assert_eq!(ramp.percent(10_000), None);
        assert_eq!(ramp.percent(u64::MAX), None);
    }

    #[test]
    fn none_is_at_once() {
        assert_eq!(ramp(0, 10).percent(0), None);
        assert_eq!(Ramp::default().percent(0), None);
        assert_eq!(ramp(10, 0).percent(0), Some(1), "never nothing");
    }
}
