//! Weighted round robin, the smooth kind: a server with weight 5 among two with weight 1 is not chosen five times in a
//! row, but in turns, and in any run of `sum of weights` choices each server is chosen exactly `weight` times.
//!
//! Every choice gives each server its weight as credit; the richest is chosen and pays what all were given.

/// Chooses a server. `credit` is the memory: as many zeros as there are servers at the start, or see [`advance`].
pub fn pick(credit: &mut [i64], weights: &[u32]) -> Option<usize> {
    pick_among(credit, weights, |_| true)
}

/// As [`pick`], among the servers that `among` admits; the others neither gain nor pay.
pub(crate) fn pick_among(
    credit: &mut [i64],
    weights: &[u32],
    among: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut total = 0i64;
    let mut best: Option<(usize, i64)> = None;
    for (i, (credit, weight)) in credit.iter_mut().zip(weights).enumerate() {
        if *weight == 0 || !among(i) {
            continue;
        }
        total += i64::from(*weight);
        *credit += i64::from(*weight);
        if best.is_none_or(|(_, most)| *credit > most) {
            best = Some((i, *credit));
        }
    }
    let (chosen, _) = best?;
    if let Some(credit) = credit.get_mut(chosen) {
        *credit -= total;
    }
    Some(chosen)
}

/// Moves a fresh memory `steps` choices on, so that cores that start together do not choose the same server together.
pub fn advance(credit: &mut [i64], weights: &[u32], steps: usize) {
    for _ in 0..steps {
        pick(credit, weights);
    }
}

/// Brings a memory to another sum of weights, so that nobody is owed a burst when the scale of weights changes.
pub fn rescale(credit: &mut [i64], weights: &[u32], old_total: u64, new_total: u64) {
    for (credit, weight) in credit.iter_mut().zip(weights) {
        let scaled = i128::from(*credit) * i128::from(new_total) / i128::from(old_total.max(1));
        let most = i128::from(new_total);
        *credit = match weight {
            0 => 0,
            _ => scaled.clamp(-most, most) as i64,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(weights: &[u32], n: usize) -> Vec<usize> {
        let mut credit = vec![0; weights.len()];
        (0..n)
            .map(|_| pick(&mut credit, weights).unwrap())
            .collect()
    }

    #[test]
    fn is_smooth() {
        assert_eq!(run(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(run(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn no_server_no_choice() {
        assert_eq!(pick(&mut [], &[]), None);
        assert_eq!(pick(&mut [0, 0], &[0, 0]), None);
    }

    #[test]
    fn cores_start_apart() {
        let weights = [100, 100, 100];
        let firsts: Vec<_> = (0..3)
            .map(|core| {
                let mut credit = vec![0; 3];
                advance(&mut credit, &weights, core);
                pick(&mut credit, &weights).unwrap()
            })
            .collect();
        assert_eq!(firsts, [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn is_exact_over_one_round(weights in prop::collection::vec(0u32..20, 1..12)) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let mut counts = vec![0u32; weights.len()];
            for i in run(&weights, total as usize) {
                counts[i] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        /// However the scale of the weights changes, nobody is owed a burst.
        #[test]
        fn another_scale_owes_nobody_a_burst(changes in prop::collection::vec((prop::collection::vec(0u32..=1000, 6), 1u32..=10_000, 1usize..50), 1..20)) {
            let mut credit = vec![0i64; 6];
            let mut old = 0u64;
            for (weights, scale, picks) in &changes {
                let weights: Vec<u32> = weights.iter().map(|w| w * scale).collect();
                let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
                rescale(&mut credit, &weights, old, total);
                old = total;
                for _ in 0..*picks {
                    pick(&mut credit, &weights);
                }
                for c in &credit {
                    prop_assert!(c.unsigned_abs() <= 2 * total.max(1));
                }
            }
        }

        /// Whatever comes and goes, no server's credit runs away: after an absence nobody is owed a burst.
        #[test]
        fn credit_stays_bounded(rounds in prop::collection::vec(prop::collection::vec(0u32..=1000, 6), 1..200)) {
            let mut credit = vec![0i64; 6];
            for weights in &rounds {
                pick(&mut credit, weights);
                for c in &credit {
                    prop_assert!(c.abs() <= 6 * 1000 * 2);
                }
            }
        }
    }
}
