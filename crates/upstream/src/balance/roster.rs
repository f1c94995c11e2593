//! Who may be chosen now, and with which share. Pure: what is known of the servers goes in, shares come out.
//!
//! Made when something changed, not for each choice: a policy reads the shares and looks at no server that it does not
//! touch. Ranks are filled from the first on; see [`Rules`].

use super::FULL;
use super::shares::Shares;

/// What shares of several ranks add up to: enough for the smallest weight, small enough to be exact.
const WHOLE: u64 = 1 << 24;

/// What is known of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// May be used, with so much of its weight.
    Available {
        /// 1..=100.
        percent: u8,
    },
    /// Its time of being out is over: one request may try it.
    Due,
    /// It fails, or answers wrongly: used when too little else is left.
    Doubtful,
    /// It cannot be reached: never used.
    Gone,
    /// For who belongs there only.
    Kept,
    /// Never used, by order.
    Closed,
}

/// A server that may be among those to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// 1..=1000.
    pub weight: u32,
    /// What is known of it.
    pub standing: Standing,
    /// A lower one comes first.
    pub rank: u8,
}

/// How ranks are filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// A rank with less than this part of its weight available takes that proportion of what reaches it, and hands on the
    /// rest; in percent. 0: only one with nothing available hands on.
    pub spill_over: u8,
    /// With less than this part of all weight available doubtful servers are used as if they were well; in percent.
    pub panic: u8,
}

/// The shares of now.
#[derive(Debug, Default)]
pub struct Roster {
    /// Of each server; 0 is not chosen.
    pub shares: Shares,
    /// Those that one request may try, by their place in the list.
    pub due: Vec<usize>,
    /// What each would take part with if its rank had its turn.
    pub reserve: Vec<u32>,
    /// What each takes part with when nothing is left.
    pub resort: Vec<u32>,
    /// So little is available that doubtful ones are used, too.
    pub panic: bool,
}

impl Standing {
    fn is_available(self) -> bool {
        matches!(self, Self::Available { .. })
    }

    /// Does its weight count in what there could be?
    fn counts(self) -> bool {
        !matches!(self, Self::Kept | Self::Closed)
    }
}

/// Makes the roster anew. Allocates nothing once it has had as many servers.
pub fn make(candidates: &[Candidate], rules: Rules, into: &mut Roster) {
    let weigh = |among: &dyn Fn(&Candidate) -> bool| -> u64 {
        let among = candidates.iter().filter(|c| among(c));
        among.map(|c| u64::from(c.weight)).sum()
    };
    let all = weigh(&|c| c.standing.counts());
    let available = weigh(&|c| c.standing.is_available());
    into.panic = u128::from(available) * 100 < u128::from(all) * u128::from(rules.panic)
        && candidates.iter().any(|c| c.standing == Standing::Doubtful);
    let panic = into.panic;
    into.reserve.clear();
    into.reserve.extend(candidates.iter().map(|c| {
        match c.standing {
            Standing::Available { percent } => c
                .weight
                .saturating_mul((u32::from(percent) * FULL / 100).max(1)),
            Standing::Doubtful if panic => c.weight.saturating_mul(FULL),
            _ => 0,
        }
    }));
    into.resort.clear();
    into.resort
        .extend(candidates.iter().map(|c| match c.standing {
            Standing::Gone | Standing::Kept | Standing::Closed => 0,
            _ => c.weight.saturating_mul(FULL),
        }));
    let last = fill(candidates, rules, into);
    into.due.clear();
    let due = candidates.iter().enumerate();
    into.due.extend(
        due.filter(|(_, c)| c.standing == Standing::Due && last.is_none_or(|l| c.rank <= l))
            .map(|(i, _)| i),
    );
}

/// Deals the load out to the ranks; says which is the last that got some.
fn fill(candidates: &[Candidate], rules: Rules, roster: &mut Roster) -> Option<u8> {
    let Roster {
        shares,
        reserve,
        panic,
        ..
    } = roster;
    let usable =
        |c: &Candidate| c.standing.is_available() || *panic && c.standing == Standing::Doubtful;
    let shares = shares.begin();
    shares.resize(candidates.len(), 0);
    let mut rest = WHOLE;
    let mut rank = candidates.iter().map(|c| c.rank).min();
    let mut last = None;
    while let Some(now) = rank {
        let mine = || {
            candidates
                .iter()
                .zip(&*reserve)
                .filter(|(c, _)| c.rank == now)
        };
        let usable: u64 = mine()
            .filter(|(c, _)| usable(c))
            .map(|(c, _)| u64::from(c.weight))
            .sum();
        if usable > 0 {
            let counts = mine().filter(|(c, _)| c.standing.counts());
            let all: u64 = counts.map(|(c, _)| u64::from(c.weight)).sum();
            let take = portion(rest, usable, all, rules.spill_over);
            let whole = take == rest && last.is_none();
            let sum: u64 = mine().map(|(_, r)| u64::from(*r)).sum();
            for (share, (candidate, reserve)) in
                shares.iter_mut().zip(candidates.iter().zip(&*reserve))
            {
                if candidate.rank != now || *reserve == 0 {
                    continue;
                }
                // Nobody else takes part: the weights themselves, so that turns are exact.
                *share = if whole {
                    *reserve
                } else {
                    let part = u128::from(take) * u128::from(*reserve) / u128::from(sum.max(1));
                    u32::try_from(part).unwrap_or(u32::MAX).max(1)
                };
            }
            last = Some(now);
            rest -= take;
            if rest == 0 {
                break;
            }
        }
        rank = candidates.iter().map(|c| c.rank).filter(|r| *r > now).min();
    }
    roster.shares.end();
    last
}

/// What a rank takes of what reaches it.
fn portion(rest: u64, usable: u64, all: u64, spill_over: u8) -> u64 {
    let (usable, wanted) = (
        u128::from(usable) * 100,
        u128::from(all) * u128::from(spill_over),
    );
    if usable >= wanted {
        return rest;
    }
    let part = u128::from(rest) * usable / wanted;
    u64::try_from(part).unwrap_or(rest).min(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UP: Standing = Standing::Available { percent: 100 };

    fn candidate(weight: u32, standing: Standing, rank: u8) -> Candidate {
        Candidate {
            weight,
            standing,
            rank,
        }
    }

    fn roster(candidates: &[Candidate], spill_over: u8, panic: u8) -> Roster {
        let mut roster = Roster::default();
        make(candidates, Rules { spill_over, panic }, &mut roster);
        roster
    }

    /// Percent of the load that each rank gets when of each rank so many of ten servers are available.
    fn load(up: &[u32], spill_over: u8) -> Vec<u64> {
        let mut candidates = Vec::new();
        for (rank, up) in up.iter().enumerate() {
            for i in 0..10 {
                let standing = if i < *up { UP } else { Standing::Gone };
                candidates.push(candidate(1, standing, rank as u8));
            }
        }
        let roster = roster(&candidates, spill_over, 0);
        let of = |rank: usize| -> u64 {
            let servers = roster.shares.list().iter().skip(rank * 10).take(10);
            servers.map(|s| u64::from(*s)).sum()
        };
        let loads: Vec<u64> = (0..up.len()).map(of).collect();
        let total: u64 = loads.iter().sum();
        loads
            .iter()
            .map(|l| (l * 100 + total / 2).checked_div(total).unwrap_or(0))
            .collect()
    }

    #[test]
    fn without_spill_over_a_rank_is_used_while_it_has_anything() {
        assert_eq!(load(&[10, 10], 0), [100, 0]);
        assert_eq!(load(&[1, 10], 0), [100, 0]);
        assert_eq!(load(&[0, 10], 0), [0, 100]);
        assert_eq!(load(&[0, 0, 3], 0), [0, 0, 100]);
        assert_eq!(load(&[0, 0], 0), [0, 0]);
    }

    #[test]
    fn with_spill_over_a_weak_rank_hands_on_in_proportion() {
        assert_eq!(load(&[10, 10], 70), [100, 0]);
        assert_eq!(load(&[7, 10], 70), [100, 0]);
        assert_eq!(load(&[6, 10], 70), [86, 14]);
        assert_eq!(load(&[3, 10], 70), [43, 57]);
        assert_eq!(load(&[0, 10], 70), [0, 100]);
        assert_eq!(load(&[5, 5, 10], 100), [50, 25, 25]);
        // Nobody is left to hand on to: all is dealt out in the same proportion.
        assert_eq!(load(&[3, 1], 100), [81, 19]);
    }

    #[test]
    fn weights_stay_as_they_are_in_a_rank_that_takes_all() {
        let r = roster(
            &[
                candidate(3, UP, 0),
                candidate(1, UP, 0),
                candidate(9, UP, 1),
            ],
            0,
            20,
        );
        assert_eq!(r.shares.list(), [300, 100, 0]);
        assert_eq!(r.reserve, [300, 100, 900]);
    }

    #[test]
    fn ramps_cancel_out_when_all_return() {
        let back = Standing::Available { percent: 10 };
        let r = roster(
            &[
                candidate(1, back, 0),
                candidate(1, back, 0),
                candidate(1, UP, 1),
            ],
            70,
            20,
        );
        assert_eq!(r.shares.list(), [10, 10, 0]);
    }

    #[test]
    fn panic_takes_the_doubtful_and_nobody_else() {
        let doubtful = candidate(1, Standing::Doubtful, 0);
        let mut servers = vec![doubtful; 6];
        servers[0].standing = UP;
        let r = roster(&servers, 0, 20);
        assert!(r.panic, "a sixth is less than a fifth");
        assert_eq!(r.shares.list(), [100; 6]);
        let r = roster(&servers[..3], 0, 20);
        assert!(!r.panic, "a third is not");
        assert_eq!(r.shares.list(), [100, 0, 0]);
        servers[1].standing = Standing::Gone;
        servers[2].standing = Standing::Kept;
        servers[3].standing = Standing::Closed;
        let r = roster(&servers, 0, 80);
        assert_eq!(r.shares.list(), [100, 0, 0, 0, 100, 100]);
        let r = roster(&servers, 0, 0);
        assert!(!r.panic);
        assert_eq!(r.resort, [100, 0, 0, 0, 100, 100]);
    }

    #[test]
    fn a_backup_is_not_tried_while_it_is_not_needed() {
        let due = Standing::Due;
        let r = roster(
            &[
                candidate(1, UP, 0),
                candidate(1, due, 0),
                candidate(1, due, 32),
            ],
            0,
            20,
        );
        assert_eq!(r.due, [1]);
        let r = roster(
            &[candidate(1, Standing::Gone, 0), candidate(1, due, 32)],
            0,
            20,
        );
        assert_eq!(r.due, [1]);
    }

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![
            4 => (1u8..=100).prop_map(|percent| Standing::Available { percent }),
            1 => Just(Standing::Due),
            1 => Just(Standing::Doubtful),
            1 => Just(Standing::Gone),
            1 => Just(Standing::Kept),
            1 => Just(Standing::Closed),
        ]
    }

    proptest! {
        #[test]
        fn whatever_stands_how(
            servers in prop::collection::vec((1u32..=1000, standing(), 0u8..4), 0..30),
            spill_over in 0u8..=100,
            panic in 0u8..=100,
        ) {
            let candidates: Vec<_> = servers.iter().map(|(w, s, r)| candidate(*w, *s, *r)).collect();
            let r = roster(&candidates, spill_over, panic);
            let shares = r.shares.list();
            prop_assert_eq!(shares.len(), candidates.len());
            for (c, share) in candidates.iter().zip(shares) {
                let may = match c.standing {
                    Standing::Available { .. } => true,
                    Standing::Doubtful => r.panic,
                    _ => false,
                };
                prop_assert!(may || *share == 0, "{c:?} has {share}");
            }
            let some = candidates.iter().any(|c| c.standing.is_available());
            prop_assert!(!some || shares.iter().any(|s| *s > 0), "somebody is available and nobody is chosen");
            // A rank is used only if everyone before it is, as far as it can be.
            let used = |rank: u8| candidates.iter().zip(shares).any(|(c, s)| c.rank == rank && *s > 0);
            let able = |rank: u8| candidates.iter().zip(&r.reserve).any(|(c, s)| c.rank == rank && *s > 0);
            for rank in 1..4 {
                prop_assert!(!used(rank) || (0..rank).all(|r| used(r) || !able(r)));
            }
            // In a rank the shares are in proportion to what takes part.
            for (a, x) in candidates.iter().zip(shares).zip(&r.reserve) {
                for (b, y) in candidates.iter().zip(shares).zip(&r.reserve) {
                    if a.0.rank == b.0.rank && *a.1 > 1_000 && *b.1 > 1_000 {
                        let (p, q) = (f64::from(*a.1) / f64::from(*b.1), f64::from(*x) / f64::from(*y));
                        prop_assert!((p / q - 1.0).abs() < 0.01, "{p} {q}");
                    }
                }
            }
        }
    }
}
