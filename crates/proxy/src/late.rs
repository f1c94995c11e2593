//! Lateness: a core that comes to its tasks too late takes no more work than it must. Connections are accepted all the same, so
//! that a client learns when to come back. Shedding for memory is in [`crate::shed`].

use narthex_config::model::{Config, Priority};
use narthex_net::rt;

use crate::runtime::millis;

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

#[cfg(test)]
mod tests {
    use super::*;

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
