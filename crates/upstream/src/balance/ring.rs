//! A consistent hash: servers have points on a ring, a key goes to the first point at or after its own place whose server
//! may be used.
//!
//! A server that may not be used keeps its points: its keys go on to the next, and nobody else's key moves. Places are
//! made from the servers' names alone, so that every proxy with the same servers has the same ring. Hashes are
//! SipHash-1-3 under fixed keys: a client that aims many keys at one server is bounded by the limit on its load.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Points of a server of median weight, at least.
const POINTS: u64 = 256;
/// Of all together; every server has one.
const ALL: u64 = 1 << 18;

/// The places of a set of servers. Immutable; shared by the cores.
#[derive(Debug, Default)]
pub struct Ring {
    /// Sorted by place; the second is the server's place in the list.
    points: Vec<(u64, u32)>,
}

/// The place of a key.
pub fn key(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6e61_7274_6865_7831, 0);
    hasher.write(bytes);
    hasher.finish()
}

impl Ring {
    /// For these servers, names and weights.
    pub fn new<'a>(servers: impl Iterator<Item = (&'a str, u32)> + Clone) -> Self {
        let density = Density::of(
            servers
                .clone()
                .map(|(_, weight)| u64::from(weight))
                .collect(),
        );
        let mut points = Vec::new();
        for (i, (name, weight)) in servers.enumerate() {
            for point in 0..density.points(u64::from(weight)) {
                points.push((place(name, point), u32::try_from(i).unwrap_or(u32::MAX)));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// The server of a key: the first with a share that is not full; if all are, the first with a share.
    pub fn pick(
        &self,
        key: u64,
        share: impl Fn(usize) -> u32,
        full: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let at = self.points.partition_point(|(place, _)| *place < key);
        let (before, after) = self.points.split_at_checked(at)?;
        let mut first = None;
        let mut last_full = None;
        for (_, server) in after.iter().chain(before) {
            let server = *server as usize;
            if last_full == Some(server) || share(server) == 0 {
                continue;
            }
            if !full(server) {
                return Some(server);
            }
            first = first.or(Some(server));
            last_full = Some(server);
        }
        first
    }
}

/// How many points a weight has: in proportion, so that one of a hundredth has a hundredth of the keys. The scale is a power of
/// two and follows the median, so that a server that comes, goes or changes its weight seldom moves it: as long as it stays,
/// nobody else's points change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Density {
    /// Points of this weight: the one or the other is 1.
    of_weight: u64,
    points: u64,
}

impl Density {
    fn of(mut weights: Vec<u64>) -> Self {
        weights.sort_unstable();
        let all: u64 = weights.iter().sum();
        let median = weights.get(weights.len() / 2).copied().unwrap_or(1).max(1);
        let mut density = Self {
            of_weight: 1,
            points: POINTS.div_ceil(median).next_power_of_two(),
        };
        while all.saturating_mul(density.points) / density.of_weight > ALL {
            match density.points {
                1 => density.of_weight *= 2,
                _ => density.points /= 2,
            }
        }
        density
    }

    fn points(self, weight: u64) -> u64 {
        (weight * self.points / self.of_weight).max(1)
    }
}

fn place(name: &str, point: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6e61_7274_6865_7831, 1);
    hasher.write(name.as_bytes());
    hasher.write(&point.to_le_bytes());
    hasher.finish()
}

/// The most requests that a server with `share` of `total` may have under way, counting the new one, when `in_flight` are
/// under way in all: its part, and `bound` percent more.
pub fn capacity(in_flight: u64, share: u32, total: u64, bound: u8) -> u64 {
    let all = u128::from(in_flight) + 1;
    let most = all * u128::from(share) * (100 + u128::from(bound));
    u64::try_from(most.div_ceil(u128::from(total.max(1)) * 100)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("10.0.0.{i}:80")).collect()
    }

    fn ring(names: &[String]) -> Ring {
        Ring::new(names.iter().map(|n| (n.as_str(), 1)))
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000u32).map(|i| key(&i.to_le_bytes()))
    }

    fn pick(ring: &Ring, key: u64) -> usize {
        ring.pick(key, |_| 1, |_| false).unwrap()
    }

    #[test]
    fn a_server_that_may_not_be_used_moves_its_own_keys_only() {
        let ring = ring(&names(5));
        let mut moved = [0; 5];
        for key in keys() {
            let (before, after) = (
                pick(&ring, key),
                ring.pick(key, |i| u32::from(i != 2), |_| false).unwrap(),
            );
            if before == 2 {
                moved[after] += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert_eq!(moved[2], 0);
        assert!(
            moved.iter().filter(|m| **m > 500).count() == 4,
            "its keys are spread over all others: {moved:?}"
        );
    }

    #[test]
    fn a_new_server_takes_its_part_and_moves_nothing_else() {
        let (five, six) = (ring(&names(5)), ring(&names(6)));
        let mut taken = 0;
        for key in keys() {
            match pick(&six, key) {
                5 => taken += 1,
                same => assert_eq!(same, pick(&five, key)),
            }
        }
        assert!((2_600..4_100).contains(&taken), "{taken} of 20,000");
    }

    #[test]
    fn the_order_of_the_servers_does_not_matter() {
        let forward = names(4);
        let mut backward = forward.clone();
        backward.reverse();
        let (a, b) = (ring(&forward), ring(&backward));
        assert!(keys().all(|key| forward[pick(&a, key)] == backward[pick(&b, key)]));
    }

    #[test]
    fn keys_follow_weight() {
        let names = names(3);
        let ring = Ring::new(names.iter().map(String::as_str).zip([3, 2, 1]));
        let mut counts = [0; 3];
        for key in keys() {
            counts[pick(&ring, key)] += 1;
        }
        for (count, part) in counts.iter().zip([10_000, 6_667, 3_333]) {
            assert!(i32::abs(count - part) < part / 6, "{counts:?}");
        }
    }

    fn weighted(names: &[String], weights: &[u32]) -> Ring {
        Ring::new(
            names
                .iter()
                .map(String::as_str)
                .zip(weights.iter().copied()),
        )
    }

    /// Percent of all places, not of a sample of keys.
    fn parts(ring: &Ring, n: usize) -> Vec<f64> {
        let mut parts = vec![0.0; n];
        let last = ring.points.last().unwrap().0;
        let mut before = i128::from(last) - (1i128 << 64);
        for (place, server) in &ring.points {
            parts[*server as usize] += (i128::from(*place) - before) as f64 / 2f64.powi(64) * 100.0;
            before = i128::from(*place);
        }
        parts
    }

    #[test]
    fn a_small_weight_is_a_small_part() {
        for (weights, most) in [
            (&[100, 100, 1][..], 2.0),
            (&[1_000, 1], 0.5),
            (&[1_000, 1_000, 1_000, 10], 1.0),
        ] {
            let names = names(weights.len());
            let parts = parts(&weighted(&names, weights), weights.len());
            let last = parts.last().unwrap();
            assert!(*last > 0.0 && *last < most, "{weights:?}: {parts:?}");
        }
        let mut weights = vec![1; 101];
        weights[0] = 1_000;
        let parts = parts(&weighted(&names(101), &weights), 101);
        assert!((85.0..95.0).contains(&parts[0]), "{}", parts[0]);
    }

    /// `docs/performance.md`: 6% off, one standard deviation.
    #[test]
    fn equal_servers_have_about_equal_parts() {
        for weight in [1, 100] {
            let n = 400;
            let parts = parts(&weighted(&names(n), &vec![weight; n]), n);
            let even = 100.0 / n as f64;
            let square: f64 = parts.iter().map(|p| (p / even - 1.0).powi(2)).sum();
            let off = (square / n as f64).sqrt();
            assert!((0.045..0.075).contains(&off), "{weight}: {off}");
        }
    }

    #[test]
    fn a_canary_moves_nobody_elses_keys() {
        let names = names(4);
        let before = weighted(&names[..3], &[100, 100, 100]);
        for weight in [1, 5, 50, 100] {
            let after = weighted(&names, &[100, 100, 100, weight]);
            for key in keys() {
                match pick(&after, key) {
                    3 => {}
                    same => assert_eq!(same, pick(&before, key)),
                }
            }
        }
    }

    #[test]
    fn another_weight_moves_keys_to_and_from_that_server_only() {
        let names = names(5);
        let before = weighted(&names, &[100; 5]);
        for weight in [1, 50, 99, 200, 1_000] {
            let after = weighted(&names, &[100, 100, weight, 100, 100]);
            for key in keys() {
                let (old, new) = (pick(&before, key), pick(&after, key));
                assert!(old == new || old == 2 || new == 2, "{weight}");
            }
        }
    }

    #[test]
    fn many_servers_have_a_bounded_ring() {
        for weight in [1, 7, 100, 1_000] {
            let names = names(20_000);
            let ring = weighted(&names, &vec![weight; 20_000]);
            assert!(ring.points.len() <= ALL as usize && ring.points.len() >= 20_000);
        }
        assert_eq!(Ring::default().pick(7, |_| 1, |_| false), None);
    }

    proptest! {
        /// One key only, which is the worst: no server ever has more than its part and the bound.
        #[test]
        fn load_is_bounded(n in 1usize..20, requests in 1u64..500, bound in 1u8..=100, key: u64) {
            let ring = ring(&names(n));
            let mut load = vec![0u64; n];
            for sent in 0..requests {
                let most = capacity(sent, 1, n as u64, bound);
                let i = ring.pick(key, |_| 1, |i| load[i] >= most).unwrap();
                load[i] += 1;
                let mean = (sent + 1) as f64 / n as f64;
                prop_assert!(load[i] as f64 <= (mean * (1.0 + f64::from(bound) / 100.0)).ceil());
            }
            prop_assert_eq!(load.iter().sum::<u64>(), requests);
        }

        #[test]
        fn when_all_are_full_the_first_takes_it(key: u64) {
            let ring = ring(&names(7));
            prop_assert_eq!(ring.pick(key, |_| 1, |_| true), ring.pick(key, |_| 1, |_| false));
            prop_assert_eq!(ring.pick(key, |_| 0, |_| false), None);
        }
    }
}
