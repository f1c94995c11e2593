//! The core half: everything here belongs to one core and never leaves it.

mod admit;
mod cluster;
mod h2;
mod hedge;
mod lease;
mod pool;
mod queue;
mod reaper;
mod sampler;
#[cfg(test)]
mod tests;
mod view;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use narthex_net::rt::{self, TaskKey};

pub use admit::Admission;
pub use cluster::{CoreCluster, PickError, Reserved};
pub use h2::UpstreamStream;
pub use hedge::NoHedge;
pub use lease::{ConnectError, ConnectErrorKind, Connection, Lease, ServerHandle};

use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::fleet::Fleet;

thread_local! {
    static FLEET: RefCell<Weak<CoreFleet>> = const { RefCell::new(Weak::new()) };
}

/// One core's side of the fleet: its clusters, its idle connections, the task that watches those.
pub struct CoreFleet {
    core: usize,
    fleet: Arc<Fleet>,
    clusters: RefCell<HashMap<u64, Rc<CoreCluster>>>,
    /// Connections for requests of this core that wait for one, by server and ticket. Not the server's side of this core has
    /// them: there are two of those while a server that was removed and came back still has requests from before.
    handed: RefCell<HashMap<(u64, u64), Connection>>,
    reaper: Cell<TaskKey>,
    /// Idle connections of this core, all servers together.
    idle: Cell<usize>,
    /// The reaper will look by itself.
    watched: Cell<bool>,
}

impl CoreFleet {
    /// Call it once on each data core; `core` is below [`Fleet::cores`] and unique.
    pub fn new(core: usize, fleet: Arc<Fleet>) -> Rc<Self> {
        fleet.join(core, rt::current_core().remote());
        let this = Rc::new(Self {
            core,
            fleet,
            clusters: RefCell::default(),
            handed: RefCell::default(),
            reaper: Cell::new(TaskKey::NONE),
            idle: Cell::new(0),
            watched: Cell::new(true),
        });
        FLEET.with(|f| *f.borrow_mut() = Rc::downgrade(&this));
        this.reaper
            .set(rt::spawn(reaper::run(Rc::downgrade(&this))));
        this
    }

    /// This core's side of a cluster: the same one for the same cluster, so that idle connections survive a reload.
    pub fn adopt(self: &Rc<Self>, cluster: &Arc<Cluster>) -> Rc<CoreCluster> {
        let mut clusters = self.clusters.borrow_mut();
        let known = clusters
            .entry(cluster.id())
            .or_insert_with(|| CoreCluster::new(Arc::clone(cluster), self));
        Rc::clone(known)
    }

    /// Lets go of clusters that no configuration names and no request uses.
    fn tidy(&self) {
        self.clusters
            .borrow_mut()
            .retain(|_, c| !(c.shared().is_retired() && Rc::strong_count(c) == 1));
    }

    /// Idle connections of this core.
    pub fn idle(&self) -> usize {
        self.idle.get()
    }

    fn hand(&self, endpoint: u64, ticket: u64, connection: Connection) {
        let key = (endpoint, ticket);
        self.handed.borrow_mut().insert(key, connection);
    }

    fn take_handed(&self, endpoint: u64, ticket: u64) -> Option<Connection> {
        self.handed.borrow_mut().remove(&(endpoint, ticket))
    }

    #[inline(always)]
    fn count_idle(&self, by: isize) {
        self.idle.set(self.idle.get().saturating_add_signed(by));
        if by > 0 && !self.watched.replace(true) {
            // The reaper sleeps without a timer while there is nothing to reap. One wake-up serves for a second or so: a
            // connection that is taken and put back for every request does not wake it for every request.
            rt::current_core().wake(self.reaper.get());
        }
    }
}

/// Asks the core with most of them, other than `but`, to close one idle connection to a server, for a request that waits for
/// the socket. A core that has none any more, because another request was before this one, asks on: while somebody waits no
/// connection becomes idle, so this ends.
fn ask_to_give_up(fleet: &Arc<Fleet>, but: usize, cluster: u64, endpoint: &Arc<Endpoint>) {
    let Some(core) = endpoint.most_idle(but) else {
        return;
    };
    let (all, endpoint) = (Arc::clone(fleet), Arc::clone(endpoint));
    on_cluster(fleet, core, cluster, move |c| {
        if !c.give_up_one(endpoint.id()) && endpoint.sockets.is_awaited() {
            ask_to_give_up(&all, core, cluster, &endpoint);
        }
    });
}

/// The same for a connection to any server of an upstream.
fn ask_for_any(fleet: &Arc<Fleet>, but: usize, cluster: &Arc<Cluster>) {
    let Some(core) = cluster.most_idle(but) else {
        return;
    };
    let (all, cluster) = (Arc::clone(fleet), Arc::clone(cluster));
    on_cluster(fleet, core, cluster.id(), move |c| {
        if !c.give_up_any() && cluster.sockets().is_awaited() {
            ask_for_any(&all, core, &cluster);
        }
    });
}

fn on_cluster(
    fleet: &Fleet,
    core: usize,
    cluster: u64,
    work: impl FnOnce(&CoreCluster) + Send + 'static,
) {
    let Some(remote) = fleet.remote(core) else {
        return;
    };
    remote.run(move || {
        let fleet = FLEET.with(|f| f.borrow().upgrade());
        let Some(fleet) = fleet else { return };
        let cluster = fleet.clusters.borrow().get(&cluster).cloned();
        if let Some(cluster) = cluster {
            work(&cluster);
        }
    });
}
