//! Follows the fleet: starts a task for every source of every upstream, and ends those that are no longer wanted.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use narthex_config::model::{Discover, ServerAddress};
use tokio::task::{AbortHandle, spawn_local};

use super::named;
use super::names::Names;
use super::sink::Sink;
use super::source;
use super::thread::Progress;
use crate::cluster::Cluster;
use crate::cluster::found::Origin;
use crate::fleet::{Changed, Fleet};

/// Ends when it is dropped.
pub(super) struct Task(AbortHandle);

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The sources of one upstream.
#[derive(Default)]
struct Sources {
    names: HashMap<ServerAddress, Task>,
    lists: Vec<(Discover, Task)>,
}

/// Never returns.
pub(super) async fn follow(fleet: Arc<Fleet>, progress: Arc<Progress>) {
    let mut changes = fleet.changes.follow();
    let names = Names::new(fleet.name_servers());
    let mut running: HashMap<u64, Sources> = HashMap::new();
    loop {
        let changed: HashSet<u64> = match changes.next().await {
            Changed::Clusters(ids) => ids.into_iter().collect(),
            Changed::All => {
                let known = fleet.clusters();
                let known = known.iter().map(|c| c.id());
                known.chain(running.keys().copied()).collect()
            }
        };
        names.ask_at(fleet.name_servers());
        for id in changed {
            match fleet.cluster(id).filter(|c| !c.is_retired()) {
                None => drop(running.remove(&id)),
                Some(cluster) => {
                    running
                        .entry(id)
                        .or_default()
                        .follow(&cluster, &names, &progress);
                }
            }
        }
        // What is new may need no answer: those who wait for answers look again.
        progress.ring();
    }
}

impl Sources {
    fn follow(&mut self, cluster: &Arc<Cluster>, names: &Rc<Names>, progress: &Arc<Progress>) {
        let sink = |origin| Sink::new(cluster, origin, Arc::clone(progress));
        let wanted = cluster.names();
        self.names.retain(|name, _| wanted.contains(name));
        for name in wanted {
            self.names.entry(name).or_insert_with_key(|name| {
                let sink = sink(Origin::Name(name.clone()));
                Task::spawn(named::run(Rc::clone(names), name.clone(), sink))
            });
        }
        let wanted = cluster.lists();
        self.lists.retain(|(spec, _)| wanted.contains(spec));
        for spec in wanted {
            if !self.lists.iter().any(|(known, _)| *known == spec) {
                let sink = sink(Origin::List(spec.clone()));
                let task = Task::spawn(source::run(Rc::clone(names), spec.clone(), sink));
                self.lists.push((spec, task));
            }
        }
    }
}
