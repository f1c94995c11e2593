//! Connections per core, and who takes the next one.
//!
//! `SO_REUSEPORT` deals clients out by a hash: with long-lived connections a core can end up with far more than its
//! share. A core that is well above the mean passes what it accepts to the least loaded one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::accept::Accepted;
use crate::rt::Remote;

/// Hand-overs under way to one core; beyond it the acceptor keeps what it has accepted.
const MOST_IN_FLIGHT: usize = 256;
/// A core that has less than this many connections above the mean keeps its own.
const SLACK: usize = 8;

/// One core's figures, alone on its cache lines (two: processors prefetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load {
    /// Written by its core only.
    open: AtomicUsize,
    /// Written by everybody, at hand-overs only.
    coming: AtomicUsize,
}

impl Load {
    fn total(&self) -> usize {
        self.open.load(Ordering::Relaxed) + self.coming.load(Ordering::Relaxed)
    }
}

/// Connections of every core; shared by all.
#[derive(Debug)]
pub struct Balance {
    loads: Box<[Load]>,
}

impl Balance {
    /// For `cores` cores, numbered from 0.
    pub fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self {
            loads: (0..cores).map(|_| Load::default()).collect(),
        })
    }

    /// A connection has opened on `core`. To be called on that core.
    pub fn on_open(&self, core: usize) {
        self.change(core, 1);
    }

    /// A connection of `core` has closed. To be called on that core.
    pub fn on_close(&self, core: usize) {
        self.change(core, usize::MAX);
    }

    fn change(&self, core: usize, by: usize) {
        if let Some(load) = self.loads.get(core) {
            // One writer: no read-modify-write, no locked instruction.
            load.open.store(
                load.open.load(Ordering::Relaxed).wrapping_add(by),
                Ordering::Relaxed,
            );
        }
    }

    /// Connections open on `core`.
    pub fn open(&self, core: usize) -> usize {
        self.loads
            .get(core)
            .map_or(0, |load| load.open.load(Ordering::Relaxed))
    }

    /// Connections open on all cores.
    pub fn total(&self) -> usize {
        self.loads
            .iter()
            .map(|load| load.open.load(Ordering::Relaxed))
            .sum()
    }

    /// Who serves what `core` has accepted on its own socket: itself, unless it is more than a quarter, and at least
    /// eight connections, above the mean; then the least loaded core.
    pub fn choose(&self, core: usize) -> usize {
        let total: usize = self.loads.iter().map(Load::total).sum();
        let mean = total / self.loads.len().max(1);
        let mine = self.loads.get(core).map_or(0, Load::total);
        if mine > mean + (mean / 4).max(SLACK) {
            self.least(core)
        } else {
            core
        }
    }

    /// Who serves what `core` has accepted on a socket that all share: the least loaded core, itself among equals.
    pub fn deal(&self, core: usize) -> usize {
        self.least(core)
    }

    fn least(&self, core: usize) -> usize {
        let mine = (self.loads.get(core).map_or(usize::MAX, Load::total), core);
        // Beginning behind `core` deals equals out in turn.
        let others = (1..self.loads.len()).map(|step| (core + step) % self.loads.len());
        let totals = others.filter_map(|other| Some((self.loads.get(other)?.total(), other)));
        totals
            .fold(
                mine,
                |best, other| if other.0 < best.0 { other } else { best },
            )
            .1
    }

    /// Passes `accepted` to core `to`, where `serve` runs with it (and calls [`Balance::on_open`]). Gives it back if too
    /// many are under way to that core: keep it then.
    pub fn hand_over(
        self: &Arc<Self>,
        to: usize,
        remote: &Remote,
        accepted: Accepted,
        serve: impl FnOnce(Accepted) + Send + 'static,
    ) -> Result<(), Accepted> {
        let Some(permit) = Coming::enter(self, to) else {
            return Err(accepted);
        };
        remote.run(move || {
            serve(accepted);
            drop(permit);
        });
        Ok(())
    }
}

/// A hand-over under way; ends when dropped, be it with the core that was to run it.
struct Coming {
    balance: Arc<Balance>,
    core: usize,
}

impl Coming {
    fn enter(balance: &Arc<Balance>, core: usize) -> Option<Self> {
        let load = balance.loads.get(core)?;
        if load.coming.fetch_add(1, Ordering::Relaxed) >= MOST_IN_FLIGHT {
            load.coming.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self {
            balance: Arc::clone(balance),
            core,
        })
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(load) = self.balance.loads.get(self.core) {
            load.coming.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(loads: &[usize]) -> Arc<Balance> {
        let balance = Balance::new(loads.len());
        for (core, n) in loads.iter().enumerate() {
            (0..*n).for_each(|_| balance.on_open(core));
        }
        balance
    }

    #[test]
    fn stays_until_well_above_the_mean() {
        // Few connections: eight above the mean are tolerated.
        assert_eq!(with(&[8, 0]).choose(0), 0);
        assert_eq!(with(&[16, 0]).choose(0), 0);
        assert_eq!(with(&[17, 0]).choose(0), 1);
        // Many: a quarter above the mean. 1250 of a mean of 1000 stays.
        assert_eq!(with(&[1250, 750]).choose(0), 0);
        assert_eq!(with(&[1251, 750]).choose(0), 1);
        assert_eq!(with(&[1251, 750]).choose(1), 1);
        assert_eq!(with(&[100, 40, 10, 50]).choose(0), 2);
    }

    #[test]
    fn odd_numbers_of_cores() {
        assert_eq!(with(&[1000]).choose(0), 0);
        assert_eq!(with(&[]).choose(3), 3);
        assert_eq!(with(&[5, 5]).choose(9), 9, "an unknown core keeps its own");
    }

    #[test]
    fn deals_a_shared_socket_evenly() {
        let balance = Balance::new(4);
        for _ in 0..400 {
            let core = balance.deal(0);
            balance.on_open(core);
        }
        assert_eq!([0, 1, 2, 3].map(|c| balance.open(c)), [100; 4]);
        balance.on_close(2);
        assert_eq!(balance.deal(0), 2);
        assert_eq!(balance.total(), 399);
    }

    #[test]
    fn hand_overs_are_bounded_and_counted() {
        let balance = Balance::new(2);
        let permits: Vec<_> = (0..MOST_IN_FLIGHT)
            .map(|_| Coming::enter(&balance, 1).unwrap())
            .collect();
        assert!(Coming::enter(&balance, 1).is_none());
        assert!(Coming::enter(&balance, 7).is_none(), "no such core");
        // What is under way counts, so that a burst does not all go to one core.
        assert_eq!(balance.deal(1), 0);
        drop(permits);
        assert_eq!(balance.deal(1), 1);
        assert!(Coming::enter(&balance, 1).is_some());
    }
}
