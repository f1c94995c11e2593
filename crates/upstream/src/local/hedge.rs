//! A second attempt beside a slow first one: whether it may be made, and where.

use narthex_net::rt;

use super::lease::Lease;
use super::{Admission, CoreCluster};
use crate::wish::Wish;

/// Why there is no second attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHedge {
    /// The share of such attempts, or that of retries, is used up.
    OverBudget,
    /// No other server is well, or the upstream has no place for another request.
    NoServer,
}

impl CoreCluster {
    /// A request came that may be hedged: it earns its part of a second attempt.
    pub fn earn_hedge(&self) {
        let mut hedges = self.hedges.get();
        hedges.earn(self.hedge_budget());
        self.hedges.set(hedges);
    }

    /// Chooses a server that is well and that the request was not given yet, for a second attempt, and counts that as a
    /// retry, too. Nothing is waited for, and nothing is spent if it cannot be.
    pub fn hedge(&self, wish: &Wish<'_>) -> Result<(Lease, Admission), NoHedge> {
        let mut hedges = self.hedges.get();
        if !hedges.take(self.hedge_budget()) {
            return Err(NoHedge::OverBudget);
        }
        let retry = self.reserve_retry().ok_or(NoHedge::OverBudget)?;
        let admission = self.try_admit().ok_or(NoHedge::NoServer)?;
        let view = self.view();
        let found = view.another(wish, rt::now_ms());
        let (index, trial) = found.ok_or(NoHedge::NoServer)?;
        let member = view.members.get(index).ok_or(NoHedge::NoServer)?;
        let lease = Lease::new(member.endpoint.clone(), view.clone(), trial);
        retry.spend();
        self.hedges.set(hedges);
        Ok((lease, admission))
    }

    fn hedge_budget(&self) -> u8 {
        let view = self.view.borrow();
        view.settings.hedge.as_ref().map_or(0, |h| h.budget)
    }
}
