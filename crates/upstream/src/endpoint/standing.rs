//! What a server may be chosen for now, from all that is known of it.

use std::sync::atomic::Ordering;

use narthex_config::model::Order;

use super::{Active, Endpoint};
use crate::balance::roster::Standing;

/// A server on its way back is looked at again so soon, in milliseconds.
const STEP_MS: u64 = 200;

impl Endpoint {
    /// What it may be chosen for, and until when (monotonic ms) this holds if nothing happens.
    pub(crate) fn standing(&self, now: u64) -> (Standing, u64) {
        let until = self.out_until.load(Ordering::Relaxed);
        let is_well = until == 0 && !matches!(self.active(), Active::Unwell | Active::Gone);
        match self.order() {
            Order::Ready => {}
            // Who belongs there finds another server if this one does not work.
            Order::Drain if is_well => return (Standing::Kept, u64::MAX),
            Order::Drain if until > now => return (Standing::Closed, until),
            Order::Drain | Order::Down => return (Standing::Closed, u64::MAX),
        }
        match self.active() {
            Active::Gone => return (Standing::Gone, u64::MAX),
            Active::Unwell => return (Standing::Doubtful, u64::MAX),
            Active::Unchecked | Active::Unknown | Active::Up => {}
        }
        match until {
            0 => match self.ramped(now) {
                Some(percent) => (Standing::Available { percent }, now.saturating_add(STEP_MS)),
                None => (Standing::Available { percent: 100 }, u64::MAX),
            },
            until if until > now => (Standing::Doubtful, until),
            _ => (Standing::Due, u64::MAX),
        }
    }
}
