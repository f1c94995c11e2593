//! Who is much worse than the others: pure.
//!
//! The group is measured by its median and by the median distance from it, not by mean and standard deviation: one bad server
//! of three moves those so far that it hides behind itself.

/// What makes a server an outlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierRule {
    /// Servers with enough requests that a judgement needs.
    pub servers: usize,
    /// Requests that are enough.
    pub requests: u64,
    /// So many deviations below the group.
    pub deviations: f64,
    /// And at least so many percent points below it.
    pub points: f64,
}

impl OutlierRule {
    /// The one that is used.
    pub const DEFAULT: Self = Self {
        servers: 3,
        requests: 50,
        deviations: 1.9,
        points: 5.0,
    };
}

/// The median distance of a normal distribution is this part of its standard deviation.
const MEDIAN_TO_DEVIATION: f64 = 1.4826;

/// The places of the outliers, the worst first. `rates` has for every server how many requests went well, and all of them.
pub fn judge(rates: &[(u64, u64)], rule: OutlierRule) -> Vec<usize> {
    let enough = rates.iter().enumerate();
    let mut percent: Vec<(usize, f64)> = enough
        .filter(|(_, (_, all))| *all >= rule.requests.max(1))
        .map(|(at, (ok, all))| (at, (*ok).min(*all) as f64 * 100.0 / *all as f64))
        .collect();
    if percent.len() < rule.servers.max(3) {
        return Vec::new();
    }
    let group = median(percent.iter().map(|(_, rate)| *rate));
    let spread = median(percent.iter().map(|(_, rate)| (rate - group).abs())) * MEDIAN_TO_DEVIATION;
    let bound = group - (spread * rule.deviations).max(rule.points);
    percent.retain(|(_, rate)| *rate < bound);
    percent.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    percent.into_iter().map(|(at, _)| at).collect()
}

/// 0 of nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(0.0);
    let lower = values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0);
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(rates: &[(u64, u64)]) -> Vec<usize> {
        judge(rates, OutlierRule::DEFAULT)
    }

    #[test]
    fn one_of_three_cannot_hide_behind_itself() {
        assert_eq!(judged(&[(100, 100), (0, 100), (100, 100)]), [1]);
        assert_eq!(judged(&[(100, 100), (93, 100), (100, 100)]), [1]);
        assert_eq!(judged(&[(100, 100), (96, 100), (100, 100)]), [0usize; 0]);
    }

    #[test]
    fn two_of_five_do_not_hide_each_other() {
        let rates = [(100, 100), (20, 100), (99, 100), (10, 100), (100, 100)];
        assert_eq!(judged(&rates), [3, 1], "the worst first");
    }

    #[test]
    fn where_all_fail_nobody_is_an_outlier() {
        assert_eq!(judged(&[(0, 100), (0, 100), (0, 100)]), [0usize; 0]);
        assert_eq!(judged(&[(50, 100), (46, 100), (54, 100)]), [0usize; 0]);
        assert_eq!(judged(&[(0, 100), (50, 100), (100, 100)]), [0usize; 0]);
    }

    #[test]
    fn too_few_say_nothing() {
        assert_eq!(judged(&[(100, 100), (0, 100)]), [0usize; 0]);
        assert_eq!(judged(&[(100, 100), (0, 49), (100, 100)]), [0usize; 0]);
        assert_eq!(judged(&[(50, 50), (0, 50), (50, 50), (0, 3)]), [1]);
        assert_eq!(judged(&[]), [0usize; 0]);
    }

    proptest! {
        /// Fewer than half are judged, each of them is worse than the median, and no server twice.
        #[test]
        fn never_the_half(rates in prop::collection::vec((0u64..200, 0u64..200), 0..40)) {
            let out = judged(&rates);
            prop_assert!(out.len() * 2 <= rates.len());
            let mut seen = out.clone();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), out.len());
            prop_assert!(out.iter().all(|at| rates[*at].1 >= 50));
        }
    }
}
