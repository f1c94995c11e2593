//! What a core last saw of a cluster, and whom it may choose now.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use narthex_config::model::Balance;

use super::CoreFleet;
use super::pool::CoreEndpoint;
use super::sampler::Sampler;
use crate::balance::ring::{self, Ring};
use crate::balance::roster::{self, Candidate, Roster, Standing};
use crate::balance::shares::Shares;
use crate::balance::{least_requests, least_time, round_robin};
use crate::cluster::{Cluster, Settings};
use crate::tag::Keys;
use crate::wish::{Tag, Tried, Wish};

/// Counters up to which the requests under way are summed for each choice; with more, once a millisecond.
const SUMMED: usize = 256;

pub(super) struct CoreMember {
    pub(super) endpoint: Rc<CoreEndpoint>,
    weight: u32,
    rank: u8,
}

/// What this core last saw of the cluster.
pub(super) struct View {
    pub(super) version: u64,
    pub(super) cluster: Arc<Cluster>,
    pub(super) settings: Rc<Settings>,
    pub(super) members: Vec<CoreMember>,
    pub(super) sticky: Option<StickyView>,
    /// Where the limit of requests follows the response times.
    pub(super) sampler: Option<Rc<Sampler>>,
    choice: RefCell<Choice>,
    ring: Option<Arc<Ring>>,
    core: usize,
    cores: usize,
    /// Servers may be full.
    limited: bool,
    scans: bool,
    /// Requests under way at all servers, and the millisecond in which they were summed.
    summed: Cell<(u64, u64)>,
}

/// Cookies that name a server.
pub(super) struct StickyView {
    pub(super) keys: Keys,
    tags: HashMap<Tag, usize>,
}

/// What choices are made from.
#[derive(Default)]
struct Choice {
    epoch: u64,
    /// Monotonic ms from which the roster is stale.
    until: u64,
    roster: Roster,
    candidates: Vec<Candidate>,
    /// Memory of the policy, and the sum of shares that it is for.
    credit: Vec<i64>,
    credit_total: u64,
    /// Room for the shares of one choice.
    scratch: Shares,
}

/// Whom a choice is among, when it is not simply among those on the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// On the roster, untried.
    Roster,
    /// Of this rank, untried.
    Rank(u8),
    /// Tried, but well.
    Again,
    /// All but those that cannot be reached; untried. Passive marks and failing checks are weaker evidence than an error
    /// page is a certainty.
    LastResort,
    /// The same, tried.
    LastResortAgain,
}

impl View {
    /// Closes an idle connection to any of the servers.
    pub(super) fn give_up_any(&self) -> bool {
        self.members.iter().any(|m| m.endpoint.give_up_oldest())
    }

    /// Before the first look: not any version that the cluster can have.
    pub(super) fn none(cluster: &Arc<Cluster>) -> Self {
        Self {
            version: u64::MAX,
            cluster: Arc::clone(cluster),
            settings: Rc::new((*cluster.settings()).clone()),
            members: Vec::new(),
            sticky: None,
            sampler: None,
            choice: RefCell::default(),
            ring: None,
            core: 0,
            cores: 1,
            limited: false,
            scans: true,
            summed: Cell::default(),
        }
    }

    /// As the cluster is now. What `old` knew of the servers that stay is kept.
    pub(super) fn of(
        cluster: &Arc<Cluster>,
        old: &Self,
        core: usize,
        cores: usize,
        fleet: &Weak<CoreFleet>,
    ) -> Self {
        // Read before the rest: if the cluster moves on meanwhile the next look builds again.
        let version = cluster.version();
        // A copy per core: no reference count that cores share.
        let settings = Rc::new((*cluster.settings()).clone());
        let set = cluster.set();
        let known: HashMap<u64, usize> = old.ids().zip(0..).collect();
        let before = old.choice.borrow();
        let mut members = Vec::with_capacity(set.members.len());
        let mut choice = Choice {
            credit_total: before.credit_total,
            ..Choice::default()
        };
        for member in &set.members {
            let at = known.get(&member.endpoint.id()).copied();
            let endpoint = match at.and_then(|at| old.members.get(at)) {
                Some(member) => Rc::clone(&member.endpoint),
                None => CoreEndpoint::new(Arc::clone(&member.endpoint), core, Weak::clone(fleet)),
            };
            let credit = at.and_then(|at| before.credit.get(at).copied());
            choice.credit.push(credit.unwrap_or(0));
            members.push(CoreMember {
                endpoint,
                weight: member.weight,
                rank: member.rank(&settings),
            });
        }
        drop(before);
        let stays: HashSet<u64> = set.members.iter().map(|m| m.endpoint.id()).collect();
        for gone in &old.members {
            if !stays.contains(&gone.endpoint.shared().id()) {
                gone.endpoint.retire();
            }
        }
        let sticky = cluster.sticky_keys().map(|keys| StickyView {
            tags: (members.iter().zip(0..))
                .map(|(m, i)| (keys.tag(m.endpoint.shared().name()), i))
                .collect(),
            keys,
        });
        Self {
            version,
            cluster: Arc::clone(cluster),
            sticky,
            sampler: (settings.requests.adaptive.is_some())
                .then(|| old.sampler.clone().unwrap_or_default()),
            choice: RefCell::new(choice),
            ring: set.ring.clone(),
            core,
            cores,
            limited: (settings.connections.max | settings.requests.max) != 0 && members.len() > 1,
            scans: least_requests::scans(members.len(), cores),
            summed: Cell::default(),
            settings,
            members,
        }
    }

    /// Does a request's affinity matter?
    pub(super) fn is_plain(&self) -> bool {
        self.sticky.is_none() && !matches!(self.settings.balance, Balance::Hash(_))
    }

    fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.iter().map(|m| m.endpoint.shared().id())
    }

    /// The place of a server, and whether the request is its trial.
    #[inline]
    pub(super) fn choose(&self, wish: &Wish<'_>, now: u64) -> Option<(usize, bool)> {
        let mut choice = self.choice.borrow_mut();
        let choice = &mut *choice;
        let epoch = self.cluster.epoch();
        if choice.epoch != epoch || now >= choice.until {
            self.call_roll(choice, epoch, now);
        }
        if let Some(tag) = wish.server
            && let Some(index) = self.find(tag, choice, wish.tried, now)
        {
            return Some((index, false));
        }
        if wish.tried.is_empty()
            && !self.limited
            && choice.roster.due.is_empty()
            && let Some(index) = self.decide(&choice.roster.shares, &mut choice.credit, wish, now)
            && let Some(trial) = self.enter(index, choice.roster.panic, now)
        {
            return Some((index, trial));
        }
        self.choose_with_care(choice, wish, now)
    }

    /// Makes the roster anew.
    #[cold]
    fn call_roll(&self, choice: &mut Choice, epoch: u64, now: u64) {
        choice.epoch = epoch;
        choice.until = u64::MAX;
        choice.candidates.clear();
        for member in &self.members {
            let (standing, until) = member.endpoint.shared().standing(now);
            choice.until = choice.until.min(until);
            choice.candidates.push(Candidate {
                weight: member.weight,
                standing,
                rank: member.rank,
            });
        }
        roster::make(
            &choice.candidates,
            self.settings.rules(),
            &mut choice.roster,
        );
        let shares = &choice.roster.shares;
        let (old, new) = (choice.credit_total, shares.total());
        if new != 0 && old != new {
            round_robin::rescale(&mut choice.credit, shares.list(), old, new);
            choice.credit_total = new;
        }
        if new != 0 && old == 0 {
            // Cores that start together do not choose the same server together.
            round_robin::advance(&mut choice.credit, shares.list(), self.core);
        }
    }

    /// The server that a cookie names, if it can be used.
    fn find(&self, tag: Tag, choice: &Choice, tried: &Tried, now: u64) -> Option<usize> {
        let index = *self.sticky.as_ref()?.tags.get(&tag)?;
        let usable = matches!(
            choice.candidates.get(index)?.standing,
            Standing::Available { .. } | Standing::Kept
        );
        let endpoint = self.members.get(index)?.endpoint.shared();
        (usable && !tried.contains(endpoint.id()) && endpoint.enter(now).is_ok()).then_some(index)
    }

    /// Takes the server, unless it has just gone out, or another core has just taken its trial.
    #[inline]
    fn enter(&self, index: usize, at_any_rate: bool, now: u64) -> Option<bool> {
        let endpoint = self.members.get(index)?.endpoint.shared();
        match endpoint.enter(now) {
            Ok(trial) => Some(trial),
            Err(()) => at_any_rate.then(|| endpoint.is_out()),
        }
    }

    /// When somebody is due, was tried or may be full, or nobody is left.
    #[cold]
    fn choose_with_care(
        &self,
        choice: &mut Choice,
        wish: &Wish<'_>,
        now: u64,
    ) -> Option<(usize, bool)> {
        // A trial that is due comes first: requests that hang at the server must not keep it from being tried.
        for index in &choice.roster.due {
            let untried = self.members.get(*index).is_some_and(|m| !m.was(wish.tried));
            if untried && let Some(true) = self.enter(*index, false, now) {
                return Some((*index, true));
            }
        }
        if let Some(found) = self.untried(choice, wish, now) {
            return Some(found);
        }
        [Round::Again, Round::LastResort, Round::LastResortAgain]
            .into_iter()
            .find_map(|round| self.round(round, choice, wish, now))
    }

    /// The place of a server that is well and was not tried, if there is one: for a second attempt beside one under way, which
    /// is worth neither a trial nor a last resort.
    #[cold]
    pub(super) fn another(&self, wish: &Wish<'_>, now: u64) -> Option<(usize, bool)> {
        let mut choice = self.choice.borrow_mut();
        let epoch = self.cluster.epoch();
        if choice.epoch != epoch || now >= choice.until {
            self.call_roll(&mut choice, epoch, now);
        }
        self.untried(&mut choice, wish, now)
    }

    /// Among those that are well and were not tried, the ranks in their order.
    fn untried(&self, choice: &mut Choice, wish: &Wish<'_>, now: u64) -> Option<(usize, bool)> {
        if let Some(found) = self.round(Round::Roster, choice, wish, now) {
            return Some(found);
        }
        let mut rank = choice.candidates.iter().map(|c| c.rank).min();
        while let Some(this) = rank {
            if let Some(found) = self.round(Round::Rank(this), choice, wish, now) {
                return Some(found);
            }
            let later = choice.candidates.iter().map(|c| c.rank);
            rank = later.filter(|r| *r > this).min();
        }
        None
    }

    fn round(
        &self,
        round: Round,
        choice: &mut Choice,
        wish: &Wish<'_>,
        now: u64,
    ) -> Option<(usize, bool)> {
        let Choice {
            roster,
            candidates,
            credit,
            scratch,
            ..
        } = choice;
        let share = |i: usize, member: &CoreMember| {
            let tried = member.was(wish.tried);
            let of = |list: &[u32]| list.get(i).copied().unwrap_or(0);
            match round {
                Round::Roster if !tried => of(roster.shares.list()),
                Round::Rank(rank)
                    if !tried && candidates.get(i).is_some_and(|c| c.rank == rank) =>
                {
                    of(&roster.reserve)
                }
                Round::Again if tried => of(&roster.reserve),
                Round::LastResort if !tried => of(&roster.resort),
                Round::LastResortAgain if tried => of(&roster.resort),
                _ => 0,
            }
        };
        let members = || self.members.iter().enumerate();
        let list = scratch.begin();
        list.extend(members().map(|(i, m)| share(i, m)));
        if self.limited {
            let full: Vec<usize> = members()
                .filter(|(i, m)| {
                    list.get(*i).is_some_and(|s| *s > 0) && m.endpoint.shared().is_full()
                })
                .map(|(i, _)| i)
                .collect();
            // If all are full the queue of any will do.
            if full.len() < list.iter().filter(|s| **s > 0).count() {
                for i in full {
                    list[i] = 0;
                }
            }
        }
        scratch.end();
        let last = matches!(round, Round::LastResort | Round::LastResortAgain);
        while let Some(index) = self.decide(scratch, credit, wish, now) {
            if let Some(trial) = self.enter(index, last || roster.panic, now) {
                return Some((index, trial));
            }
            scratch.remove(index);
        }
        None
    }

    /// The policy.
    #[inline]
    fn decide(
        &self,
        shares: &Shares,
        credit: &mut [i64],
        wish: &Wish<'_>,
        now: u64,
    ) -> Option<usize> {
        if let [only] = shares.list() {
            return (*only > 0).then_some(0);
        }
        let of = |i: usize| self.members.get(i).map(|m| &m.endpoint);
        let in_flight = |i: usize| of(i).map_or(0, |e| e.shared().in_flight());
        match &self.settings.balance {
            Balance::RoundRobin => round_robin::pick(credit, shares.list()),
            Balance::Random => shares.draw(wish.random >> 32),
            Balance::LeastTime => {
                let cost = |i: usize| {
                    of(i).map_or(0, |e| {
                        let recent = e.recent.get().now(now);
                        least_time::cost(recent, e.shared().in_flight(), e.in_flight())
                    })
                };
                self.least(shares, credit, cost, wish.random)
            }
            Balance::Hash(hash) => match (wish.key, &self.ring) {
                (Some(key), Some(ring)) => {
                    if hash.bound == 0 {
                        return ring.pick(key, |i| shares.get(i), |_| false);
                    }
                    let all = self.all_in_flight(now);
                    let most = |i| ring::capacity(all, shares.get(i), shares.total(), hash.bound);
                    ring.pick(key, |i| shares.get(i), |i| in_flight(i) >= most(i))
                }
                _ => self.least(shares, credit, in_flight, wish.random),
            },
            Balance::LeastRequests => self.least(shares, credit, in_flight, wish.random),
        }
    }

    fn least(
        &self,
        shares: &Shares,
        credit: &mut [i64],
        load: impl Fn(usize) -> u64,
        random: u64,
    ) -> Option<usize> {
        if self.scans {
            least_requests::pick_best(credit, shares.list(), load)
        } else {
            least_requests::pick_of_two(shares, load, random)
        }
    }

    /// Requests under way at all servers.
    fn all_in_flight(&self, now: u64) -> u64 {
        let (at, sum) = self.summed.get();
        if at == now && self.members.len().saturating_mul(self.cores) > SUMMED {
            return sum;
        }
        let servers = self.members.iter().map(|m| m.endpoint.shared());
        let sum = servers.map(|e| e.in_flight()).sum();
        self.summed.set((now, sum));
        sum
    }
}

impl CoreMember {
    fn was(&self, tried: &Tried) -> bool {
        tried.contains(self.endpoint.shared().id())
    }
}
