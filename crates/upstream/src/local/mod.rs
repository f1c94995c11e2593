//! The core half: everything here belongs to one core and never leaves it.

mod admit;
mod cluster;
mod lease;
mod pool;
mod queue;
mod reaper;
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
pub use lease::{ConnectError, ConnectErrorKind, Connection, Lease, ServerHandle};

use crate::cluster::Cluster;
use crate::fleet::Fleet;

thread_local! {
    static FLEET: RefCell<Weak<CoreFleet>> = const { RefCell::new(Weak::new()) };
}

/// One core's side of the fleet: its clusters, its idle connections, the task that watches those.
pub struct CoreFleet {
    core: usize,
    fleet: Arc<Fleet>,
    clusters: RefCell<HashMap<u64, Rc<CoreCluster>>>,
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

    fn count_idle(&self, by: isize) {
        self.idle.set(self.idle.get().saturating_add_signed(by));
        if by > 0 && !self.watched.replace(true) {
            // The reaper sleeps without a timer while there is nothing to reap. One wake-up serves for a second or so: a
            // connection that is taken and put back for every request does not wake it for every request.
            rt::current_core().wake(self.reaper.get());
        }
    }
}

/// Asks `core` to close one idle connection to a server, for a request elsewhere that waits for the socket.
fn ask_to_give_up(fleet: &Fleet, core: usize, cluster: u64, endpoint: u64) {
    on_cluster(fleet, core, cluster, move |c| c.give_up_one(endpoint));
}

/// Asks `core` to close one idle connection to any server of an upstream, for a request elsewhere.
fn ask_for_any(fleet: &Fleet, core: usize, cluster: u64) {
    on_cluster(fleet, core, cluster, |c| {
        c.give_up_any();
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
