//! Least requests: the server with the fewest requests in flight, in proportion to its weight. Also [`super::least_time`],
//! which has another load.
//!
//! Loads are sums over all cores, so asking for one touches as many cache lines as there are cores, lines that the other
//! cores write. Up to a bound (see [`scans`]) all servers are asked and the best is taken; equals take turns by weight, so
//! that one client sending one request at a time still sees the configured shares. Beyond it two servers are drawn by
//! weight and the less loaded one is taken: nearly as even, and it does not send every core to the same server at once.

use super::round_robin;
use super::shares::Shares;

/// Servers up to which all are asked.
const SCAN_SERVERS: usize = 8;
/// Loads (servers times cores) up to which all are asked.
const SCAN_LOADS: usize = 64;

/// Does a choice among so many servers ask every one of them?
pub fn scans(servers: usize, cores: usize) -> bool {
    servers <= SCAN_SERVERS && servers.saturating_mul(cores) <= SCAN_LOADS
}

/// Chooses by asking every server. `credit` as in [`round_robin::pick`].
pub fn pick_best(
    credit: &mut [i64],
    weights: &[u32],
    load: impl Fn(usize) -> u64,
) -> Option<usize> {
    let mut loads = [0u64; SCAN_SERVERS];
    let mut best: Option<(u64, u32)> = None;
    for (i, (weight, slot)) in weights.iter().zip(loads.iter_mut()).enumerate() {
        if *weight == 0 {
            continue;
        }
        *slot = load(i);
        if best.is_none_or(|best| less((*slot, *weight), best)) {
            best = Some((*slot, *weight));
        }
    }
    let best = best?;
    round_robin::pick_among(credit, weights, |i| match (loads.get(i), weights.get(i)) {
        (Some(load), Some(weight)) => !less(best, (*load, *weight)),
        _ => false,
    })
}

/// Chooses the better of two that are drawn by share from `random`.
pub fn pick_of_two(shares: &Shares, load: impl Fn(usize) -> u64, random: u64) -> Option<usize> {
    let first = shares.draw(random >> 32)?;
    let Some(second) = shares.draw_but(first, random) else {
        return Some(first);
    };
    let of = |i: usize| (load(i), shares.get(i));
    Some(if less(of(second), of(first)) {
        second
    } else {
        first
    })
}

/// Is `a` (load, weight) less loaded than `b`?
fn less(a: (u64, u32), b: (u64, u32)) -> bool {
    u128::from(a.0) * u128::from(b.1) < u128::from(b.0) * u128::from(a.1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_least_loaded_by_weight() {
        let pick = |weights: &[u32], loads: &[u64]| {
            pick_best(&mut vec![0; weights.len()], weights, |i| loads[i])
        };
        assert_eq!(pick(&[100, 100], &[3, 2]), Some(1));
        assert_eq!(pick(&[200, 100], &[3, 2]), Some(0));
        assert_eq!(pick(&[200, 0], &[3, 0]), Some(0));
        assert_eq!(pick(&[0, 0], &[3, 0]), None);
        assert_eq!(pick(&[], &[]), None);
    }

    #[test]
    fn equals_take_turns_by_weight() {
        let mut credit = vec![0; 3];
        let mut counts = [0; 3];
        for _ in 0..60 {
            counts[pick_best(&mut credit, &[300, 200, 100], |_| 0).unwrap()] += 1;
        }
        assert_eq!(counts, [30, 20, 10]);
    }

    #[test]
    fn two_choices_share_by_weight_when_idle() {
        let weights: Vec<u32> = (0..20).map(|i| if i == 0 { 500 } else { 100 }).collect();
        let mut counts = [0u32; 20];
        let mut random = 1u64;
        for _ in 0..24_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            counts[pick_of_two(&Shares::of(&weights), |_| 0, random ^ (random >> 29)).unwrap()] +=
                1;
        }
        assert!((4_500..5_500).contains(&counts[0]), "{counts:?}");
        assert!(
            counts[1..].iter().all(|c| (800..1_200).contains(c)),
            "{counts:?}"
        );
    }

    proptest! {
        #[test]
        fn two_choices_never_take_the_unavailable(weights in prop::collection::vec(prop_oneof![Just(0u32), 1..1000u32], 0..40), random: u64) {
            match pick_of_two(&Shares::of(&weights), |_| 1, random) {
                Some(i) => prop_assert!(weights[i] > 0),
                None => prop_assert!(weights.iter().all(|w| *w == 0)),
            }
        }

        #[test]
        fn two_choices_never_take_the_worst(random: u64) {
            let loads = [5, 9, 5, 5, 5, 5, 5, 5, 5, 5];
            prop_assert_ne!(pick_of_two(&Shares::of(&[100; 10]), |i| loads[i], random), Some(1));
        }

        #[test]
        fn the_best_is_never_more_loaded(loads in prop::collection::vec(0u64..50, 1..8), seed in 0usize..50) {
            let weights = vec![100u32; loads.len()];
            let mut credit = vec![0; loads.len()];
            round_robin::advance(&mut credit, &weights, seed);
            let chosen = pick_best(&mut credit, &weights, |i| loads[i]).unwrap();
            prop_assert_eq!(Some(&loads[chosen]), loads.iter().min());
        }
    }
}
