//! The choice of a server.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use narthex_config::model::Balance;
use narthex_net::rt;

use super::CoreFleet;
use super::lease::Lease;
use super::pool::CoreEndpoint;
use crate::balance::{FULL, least_requests, round_robin};
use crate::budget::Budget;
use crate::cluster::{Cluster, Settings};
use crate::wish::{Tried, Wish};

/// Retries per second that every upstream may make besides its share, in the whole process.
const RETRIES_PER_SECOND: usize = 3;

/// Why there is no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// The upstream has none: its names have not resolved, or to nothing.
    #[error("the upstream has no server: its name does not resolve")]
    NoServer,
    /// The active check says of each that it cannot be reached.
    #[error("every server of the upstream is down")]
    AllDown,
}

pub(super) struct CoreMember {
    pub(super) endpoint: Rc<CoreEndpoint>,
    weight: u32,
    backup: bool,
}

/// What this core last saw of the cluster.
pub(super) struct View {
    version: u64,
    pub(super) cluster: Arc<Cluster>,
    pub(super) settings: Rc<Settings>,
    members: Vec<CoreMember>,
    /// Memory of the policy.
    credit: RefCell<Vec<i64>>,
    /// Room for the shares of one choice.
    shares: RefCell<Vec<u32>>,
    scans: bool,
}

/// Whom a choice is among, in this order.
#[derive(Debug, Clone, Copy)]
enum Round {
    /// Available, untried, not a backup.
    Primary,
    /// Available, untried, a backup.
    Backup,
    /// Available, tried.
    Again,
    /// All but those that cannot be reached; untried. Passive marks and failing checks are weaker evidence than an error
    /// page is a certainty.
    LastResort,
    /// The same, tried.
    LastResortAgain,
}

/// This core's side of a cluster.
pub struct CoreCluster {
    shared: Arc<Cluster>,
    fleet: Weak<CoreFleet>,
    core: usize,
    cores: usize,
    view: RefCell<Rc<View>>,
    budget: RefCell<Budget>,
    minimum: Cell<u64>,
}

impl CoreCluster {
    pub(super) fn new(shared: Arc<Cluster>, fleet: &Rc<CoreFleet>) -> Rc<Self> {
        let cores = fleet.fleet.cores();
        let empty = View {
            // Not any version that the cluster can have: the first look builds the view.
            version: u64::MAX,
            cluster: Arc::clone(&shared),
            settings: Rc::new((*shared.settings()).clone()),
            members: Vec::new(),
            credit: RefCell::default(),
            shares: RefCell::default(),
            scans: true,
        };
        Rc::new(Self {
            shared,
            fleet: Rc::downgrade(fleet),
            core: fleet.core,
            cores,
            view: RefCell::new(Rc::new(empty)),
            budget: RefCell::default(),
            minimum: Cell::new(RETRIES_PER_SECOND.div_ceil(cores) as u64),
        })
    }

    /// The shared side.
    pub fn shared(&self) -> &Arc<Cluster> {
        &self.shared
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// The present settings.
    pub fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.view().settings)
    }

    /// Chooses a server for an attempt and counts the request there.
    pub fn pick(&self, wish: &Wish<'_>) -> Result<Lease, PickError> {
        let (tried, random) = (wish.tried, wish.random);
        let now = rt::now_ms();
        let view = self.view();
        if tried.is_empty() {
            self.budget.borrow_mut().request(now);
        }
        if view.members.is_empty() {
            return Err(PickError::NoServer);
        }
        for round in [
            Round::Primary,
            Round::Backup,
            Round::Again,
            Round::LastResort,
            Round::LastResortAgain,
        ] {
            if let Some((index, trial)) = self.choose(&view, round, tried, random, now)
                && let Some(member) = view.members.get(index)
            {
                let endpoint = Rc::clone(&member.endpoint);
                return Ok(Lease::new(endpoint, view, trial));
            }
        }
        Err(PickError::AllDown)
    }

    fn choose(
        &self,
        view: &View,
        round: Round,
        tried: &Tried,
        random: u64,
        now: u64,
    ) -> Option<(usize, bool)> {
        // One server, and nothing to weigh.
        if let ([only], Round::Primary) = (view.members.as_slice(), round)
            && let endpoint = only.endpoint.shared()
            && only.share(round, tried, now) > 0
            && let Ok(trial) = endpoint.enter(now)
        {
            return Some((0, trial));
        }
        let mut shares = view.shares.borrow_mut();
        shares.clear();
        let mut due = None;
        for (i, member) in view.members.iter().enumerate() {
            let share = member.share(round, tried, now);
            shares.push(share);
            if share > 0 && due.is_none() && member.endpoint.shared().is_due(now) {
                due = Some(i);
            }
        }
        loop {
            // A trial that is due comes first: requests that hang at the server must not keep it from being tried.
            let index = match due.take() {
                Some(due) => due,
                None => self.decide(view, &shares, random)?,
            };
            let endpoint = view.members.get(index)?.endpoint.shared();
            if matches!(round, Round::LastResort | Round::LastResortAgain) {
                return Some((index, endpoint.is_out()));
            }
            if let Ok(trial) = endpoint.enter(now) {
                return Some((index, trial));
            }
            // Another core has just taken the trial of this server.
            *shares.get_mut(index)? = 0;
        }
    }

    fn decide(&self, view: &View, shares: &[u32], random: u64) -> Option<usize> {
        if let [only] = shares {
            return (*only > 0).then_some(0);
        }
        let mut credit = view.credit.borrow_mut();
        let load = |i: usize| {
            view.members
                .get(i)
                .map_or(0, |m| m.endpoint.shared().in_flight())
        };
        match &view.settings.balance {
            Balance::RoundRobin => round_robin::pick(&mut credit, shares),
            // The policies that the language does not take yet are served as the default.
            _ if view.scans => least_requests::pick_best(&mut credit, shares, load),
            _ => least_requests::pick_of_two(shares, load, random),
        }
    }

    /// May another request be retried? Counts the retry if so.
    pub fn may_retry(&self) -> bool {
        let percent = self.view.borrow().settings.retry.budget;
        self.budget
            .borrow_mut()
            .try_retry(rt::now_ms(), percent, self.minimum.get())
    }

    /// Would [`CoreCluster::may_retry`] allow it now?
    pub fn could_retry(&self) -> bool {
        let percent = self.view.borrow().settings.retry.budget;
        self.budget
            .borrow_mut()
            .has_retry(rt::now_ms(), percent, self.minimum.get())
    }

    fn view(&self) -> Rc<View> {
        let view = self.view.borrow();
        if view.version == self.shared.version() {
            return Rc::clone(&view);
        }
        drop(view);
        self.rebuild()
    }

    fn rebuild(&self) -> Rc<View> {
        // Read before the rest: if the cluster moves on meanwhile the next look builds again.
        let version = self.shared.version();
        // A copy per core: no reference count that cores share.
        let settings = Rc::new((*self.shared.settings()).clone());
        let set = self.shared.set();
        let old = self.view.replace_with(|old| Rc::clone(old));
        let known = |id: u64| {
            old.members
                .iter()
                .position(|m| m.endpoint.shared().id() == id)
        };
        let mut members = Vec::with_capacity(set.members.len());
        let mut credit = Vec::with_capacity(set.members.len());
        for member in &set.members {
            let at = known(member.endpoint.id());
            let endpoint = match at.and_then(|at| old.members.get(at)) {
                Some(member) => Rc::clone(&member.endpoint),
                None => CoreEndpoint::new(
                    Arc::clone(&member.endpoint),
                    self.core,
                    Weak::clone(&self.fleet),
                ),
            };
            credit.push(
                at.and_then(|at| old.credit.borrow().get(at).copied())
                    .unwrap_or(0),
            );
            members.push(CoreMember {
                endpoint,
                weight: member.weight,
                backup: member.backup,
            });
        }
        if old.members.is_empty() {
            let weights: Vec<u32> = members
                .iter()
                .map(|m| if m.backup { 0 } else { m.weight * FULL })
                .collect();
            round_robin::advance(&mut credit, &weights, self.core);
        }
        for gone in &old.members {
            if !members
                .iter()
                .any(|m| Rc::ptr_eq(&m.endpoint, &gone.endpoint))
            {
                gone.endpoint.retire();
            }
        }
        let view = Rc::new(View {
            version,
            cluster: Arc::clone(&self.shared),
            settings,
            scans: least_requests::scans(members.len(), self.cores),
            shares: RefCell::new(Vec::with_capacity(members.len())),
            credit: RefCell::new(credit),
            members,
        });
        self.view.replace(Rc::clone(&view));
        view
    }

    /// Closes what has died, ended or grown old among the idle connections; says how many.
    pub(super) fn sweep(&self, now: u64) -> usize {
        let view = self.view();
        view.members
            .iter()
            .map(|m| {
                m.endpoint
                    .sweep(now, view.settings.connections.idle, self.cores)
            })
            .sum()
    }

    pub(super) fn give_up_one(&self, endpoint: u64) {
        let view = self.view();
        if let Some(member) = view
            .members
            .iter()
            .find(|m| m.endpoint.shared().id() == endpoint)
        {
            member.endpoint.give_up_oldest();
        }
    }
}

impl Drop for CoreCluster {
    fn drop(&mut self) {
        for member in &self.view.borrow().members {
            member.endpoint.retire();
        }
    }
}

impl CoreMember {
    fn share(&self, round: Round, tried: &Tried, now: u64) -> u32 {
        let endpoint = self.endpoint.shared();
        let tried = tried.contains(endpoint.id());
        match round {
            Round::Primary if tried || self.backup => 0,
            Round::Backup if tried || !self.backup => 0,
            Round::Again if !tried => 0,
            Round::LastResort if tried => 0,
            Round::Primary | Round::Backup | Round::Again => endpoint.share(self.weight, now),
            Round::LastResort | Round::LastResortAgain => {
                endpoint.share_of_last_resort(self.weight)
            }
        }
    }
}
