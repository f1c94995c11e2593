//! Lateness: a core that comes to its tasks too late takes no more work than it must. Connections are accepted all the same, so
//! that a client learns when to come back. Shedding for memory is in [`crate::shed`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use narthex_config::model::{Config, Priority};
use narthex_net::rt;
use narthex_observe::metrics::{Kind, Registry};
use narthex_upstream::monotonic_ms;

use crate::runtime::millis;

/// A peak is seen for as long as this, and for twice as long at most: scrapes are further apart than seconds.
const SPAN_MS: u64 = 30_000;

/// Is a request of this priority refused, because its core is late?
#[inline]
pub(crate) fn refuses(config: &Config, priority: Priority) -> bool {
    let late = rt::lateness_ms();
    late > 0 && is_too_late(late, millis(config.shed_latency), priority)
}

/// `bound` is what the configuration says; 0 is none. Milliseconds.
fn is_too_late(late: u64, bound: u64, priority: Priority) -> bool {
    bound > 0
        && match priority {
            Priority::High => false,
            Priority::Normal => late >= 2 * bound,
            Priority::Low => late >= bound,
        }
}

/// How late each core was lately, for who looks from outside. Each core writes its own, now and then.
pub(crate) struct Peaks(Box<[Peak]>);

/// Of this span of time and the one before. Milliseconds.
#[derive(Default)]
struct Peak {
    span: AtomicU64,
    highest: AtomicU64,
    before: AtomicU64,
}

impl Peaks {
    /// For so many cores; `narthex_lateness_seconds` shows them.
    pub(crate) fn new(cores: usize, registry: &Registry) -> Arc<Self> {
        let peaks = Arc::new(Self((0..cores).map(|_| Peak::default()).collect()));
        let shown = Arc::clone(&peaks);
        registry.collect(
            "narthex_lateness_seconds",
            "The longest that a task of a core had to wait for its turn, within the last half minute to minute.",
            Kind::Gauge,
            move |emit| {
                let now = monotonic_ms();
                for (core, peak) in shown.0.iter().enumerate() {
                    let late = peak.read(now) as f64 / 1_000.0;
                    emit(&[("core", &core.to_string())], late);
                }
            },
        );
        peaks
    }

    /// This core was so late at most since it last came.
    pub(crate) fn note(&self, core: usize, late_ms: u64, now_ms: u64) {
        if let Some(peak) = self.0.get(core) {
            peak.note(late_ms, now_ms);
        }
    }
}

impl Peak {
    fn note(&self, late: u64, now: u64) {
        let span = now / SPAN_MS;
        let (highest, before) = self.at(span);
        self.before.store(before, Ordering::Relaxed);
        self.highest.store(highest.max(late), Ordering::Relaxed);
        self.span.store(span, Ordering::Relaxed);
    }

    fn read(&self, now: u64) -> u64 {
        let (highest, before) = self.at(now / SPAN_MS);
        highest.max(before)
    }

    /// The peaks of a span and of the one before it.
    fn at(&self, span: u64) -> (u64, u64) {
        let highest = self.highest.load(Ordering::Relaxed);
        match span.saturating_sub(self.span.load(Ordering::Relaxed)) {
            0 => (highest, self.before.load(Ordering::Relaxed)),
            1 => (0, highest),
            _ => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_shown_for_a_span_or_two() {
        let registry = Registry::new(2);
        let peaks = Peaks::new(2, &registry);
        let now = 100 * SPAN_MS;
        let late = |at| peaks.0[1].read(at);
        peaks.note(1, 70, now + 100);
        peaks.note(1, 20, now + 600);
        assert_eq!(late(now + 700), 70);
        peaks.note(1, 30, now + SPAN_MS);
        assert_eq!(late(now + SPAN_MS), 70);
        assert_eq!(late(now + 2 * SPAN_MS), 30);
        assert_eq!(late(now + 3 * SPAN_MS), 0);
        // A core that does not exist, and one that was never late.
        peaks.note(7, 90, now);
        let mut text = String::new();
        registry.render_prometheus(&mut text);
        let line = "narthex_lateness_seconds{core=\"0\"} 0";
        assert!(
            text.contains(line) && !text.contains("core=\"7\""),
            "{text}"
        );
    }

    #[test]
    fn low_goes_first_then_normal_and_high_never() {
        let refused = |late, bound| {
            [Priority::High, Priority::Normal, Priority::Low]
                .map(|priority| is_too_late(late, bound, priority))
        };
        assert_eq!(refused(999, 1_000), [false; 3]);
        assert_eq!(refused(1_000, 1_000), [false, false, true]);
        assert_eq!(refused(1_999, 1_000), [false, false, true]);
        assert_eq!(refused(2_000, 1_000), [false, true, true]);
        assert_eq!(refused(u64::MAX, 1_000), [false, true, true]);
        assert_eq!(refused(u64::MAX, 0), [false; 3], "switched off");
    }
}
