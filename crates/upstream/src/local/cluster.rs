//! The choice of a server.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use narthex_net::rt;

use super::CoreFleet;
use super::lease::Lease;
use super::view::View;
use crate::budget::{Allowance, Budget};
use crate::cluster::{Cluster, Settings};
use crate::tag::Opened;
use crate::wish::{Tag, Wish};

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

/// This core's side of a cluster.
pub struct CoreCluster {
    shared: Arc<Cluster>,
    fleet: Weak<CoreFleet>,
    pub(super) core: usize,
    cores: usize,
    pub(super) view: RefCell<Rc<View>>,
    budget: RefCell<Budget>,
    pub(super) hedges: Cell<Allowance>,
    minimum: Cell<u64>,
}

impl CoreCluster {
    pub(super) fn new(shared: Arc<Cluster>, fleet: &Rc<CoreFleet>) -> Rc<Self> {
        let cores = fleet.fleet.cores();
        let empty = View::none(&shared);
        Rc::new(Self {
            shared,
            fleet: Rc::downgrade(fleet),
            core: fleet.core,
            cores,
            view: RefCell::new(Rc::new(empty)),
            budget: RefCell::default(),
            hedges: Cell::default(),
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
    #[inline]
    pub fn pick(&self, wish: &Wish<'_>) -> Result<Lease, PickError> {
        let now = rt::now_ms();
        let view = self.view();
        if wish.tried.is_empty() {
            self.budget.borrow_mut().request(now);
        }
        if view.members.is_empty() {
            return Err(PickError::NoServer);
        }
        let (index, trial) = view.choose(wish, now).ok_or(PickError::AllDown)?;
        let endpoint = view.members.get(index).map(|m| Rc::clone(&m.endpoint));
        let endpoint = endpoint.ok_or(PickError::AllDown)?;
        Ok(Lease::new(endpoint, view, trial))
    }

    /// Is every server as good as any other for whatever a request brings with it?
    #[inline]
    pub fn is_plain(&self) -> bool {
        let view = self.view.borrow();
        view.version == self.shared.version() && view.is_plain()
    }

    /// Reads a cookie that was made by [`CoreCluster::seal`]; `now` in minutes since 1970.
    pub fn open(&self, cookie: &[u8], now: u32) -> Option<Opened> {
        let view = self.view();
        let sticky = view.settings.sticky.as_ref()?;
        let ttl = u32::try_from(sticky.ttl.as_secs() / 60).unwrap_or(u32::MAX);
        view.sticky.as_ref()?.keys.open(cookie, now, ttl)
    }

    /// What a cookie says to name this server, and its tag; `None` if there are no cookies.
    pub fn seal(&self, lease: &Lease, now: u32) -> Option<(Tag, String)> {
        let view = self.view();
        let keys = &view.sticky.as_ref()?.keys;
        let tag = keys.tag(lease.name());
        Some((tag, keys.seal(tag, now)))
    }

    /// May another request be retried? Counts the retry if so.
    pub fn may_retry(&self) -> bool {
        let percent = self.view.borrow().settings.retry.budget;
        self.budget
            .borrow_mut()
            .try_retry(rt::now_ms(), percent, self.minimum.get())
    }

    /// As [`CoreCluster::may_retry`], before it is known whether a retry will be needed. Whoever gives an attempt up for
    /// another must have that other one for sure.
    pub fn reserve_retry(&self) -> Option<Reserved<'_>> {
        self.may_retry().then(|| Reserved {
            cluster: self,
            second: Some(rt::now_ms() / 1_000),
        })
    }

    #[inline]
    pub(super) fn view(&self) -> Rc<View> {
        let view = self.view.borrow();
        if view.version == self.shared.version() {
            return Rc::clone(&view);
        }
        drop(view);
        self.rebuild()
    }

    #[cold]
    fn rebuild(&self) -> Rc<View> {
        let old = Rc::clone(&self.view.borrow());
        let view = View::of(&self.shared, &old, self.core, self.cores, &self.fleet);
        let view = Rc::new(view);
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

    /// Closes an idle connection to any of its servers.
    pub(super) fn give_up_any(&self) -> bool {
        self.view().give_up_any()
    }

    /// Closes an idle connection to this one.
    pub(super) fn give_up_one(&self, endpoint: u64) -> bool {
        let view = self.view();
        let mut members = view.members.iter();
        members
            .find(|m| m.endpoint.shared().id() == endpoint)
            .is_some_and(|m| m.endpoint.give_up_oldest())
    }
}

impl Drop for CoreCluster {
    fn drop(&mut self) {
        for member in &self.view.borrow().members {
            member.endpoint.retire();
        }
    }
}

/// A retry that is counted; if it is not made, it is given back.
pub struct Reserved<'a> {
    cluster: &'a CoreCluster,
    /// In which it was counted.
    second: Option<u64>,
}

impl Reserved<'_> {
    /// The retry is made.
    pub fn spend(mut self) {
        self.second = None;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(second) = self.second {
            self.cluster.budget.borrow_mut().give_back(second);
        }
    }
}
