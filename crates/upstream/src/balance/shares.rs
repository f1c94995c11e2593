//! Shares, with their sums, so that drawing one by chance need not walk over all.

/// One share per server; 0 is not chosen.
#[derive(Debug, Default)]
pub struct Shares {
    list: Vec<u32>,
    /// Of each server and all before it.
    sums: Vec<u64>,
}

impl Shares {
    /// These.
    pub fn of(list: &[u32]) -> Self {
        let mut shares = Self::default();
        shares.begin().extend_from_slice(list);
        shares.end();
        shares
    }

    /// The empty list, to be filled; then [`Shares::end`].
    pub fn begin(&mut self) -> &mut Vec<u32> {
        self.list.clear();
        &mut self.list
    }

    /// The list is complete.
    pub fn end(&mut self) {
        self.sums.clear();
        let mut sum = 0u64;
        self.sums.extend(self.list.iter().map(|share| {
            sum += u64::from(*share);
            sum
        }));
    }

    /// One per server.
    pub fn list(&self) -> &[u32] {
        &self.list
    }

    /// Of one server.
    pub fn get(&self, i: usize) -> u32 {
        self.list.get(i).copied().unwrap_or(0)
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// A server has no share any more.
    pub fn remove(&mut self, i: usize) {
        if let Some(share) = self.list.get_mut(i) {
            *share = 0;
        }
        self.end();
    }

    /// Draws a server; `random` has 32 bits.
    pub fn draw(&self, random: u64) -> Option<usize> {
        self.at(place(random, self.total()))
    }

    /// Draws a server that is not `but`; `random` has 32 bits.
    pub fn draw_but(&self, but: usize, random: u64) -> Option<usize> {
        let share = u64::from(self.get(but));
        let rest = self.total().checked_sub(share).filter(|rest| *rest > 0)?;
        let at = place(random, rest);
        let before = self.sums.get(but)?.saturating_sub(share);
        self.at(if at < before { at } else { at + share })
    }

    fn at(&self, at: u64) -> Option<usize> {
        let i = self.sums.partition_point(|sum| *sum <= at);
        (i < self.sums.len()).then_some(i)
    }
}

/// A multiplication instead of a remainder: no division, and the bias is below total / 2^32.
fn place(random: u64, total: u64) -> u64 {
    ((u128::from(random & 0xffff_ffff) * u128::from(total)) >> 32) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn draws_what_has_a_share(list in prop::collection::vec(prop_oneof![Just(0u32), 1..1000u32], 0..40), random: u64) {
            let shares = Shares::of(&list);
            match shares.draw(random) {
                Some(i) => {
                    prop_assert!(list[i] > 0);
                    match shares.draw_but(i, random >> 32) {
                        Some(other) => prop_assert!(other != i && list[other] > 0),
                        None => prop_assert!(list.iter().enumerate().all(|(j, s)| j == i || *s == 0)),
                    }
                }
                None => prop_assert!(list.iter().all(|s| *s == 0)),
            }
        }
    }

    #[test]
    fn each_place_belongs_to_one_server() {
        let shares = Shares::of(&[2, 0, 3]);
        let drawn: Vec<_> = (0..5).map(|at| shares.at(at).unwrap()).collect();
        assert_eq!(drawn, [0, 0, 2, 2, 2]);
        assert_eq!(shares.at(5), None);
        // Without the first the places are those of the last.
        let step = (1 << 32) / 3 + 1;
        assert!((0..3).all(|i| shares.draw_but(0, i * step) == Some(2)));
        assert!((0..2).all(|i| shares.draw_but(2, i << 31) == Some(0)));
    }
}
