//! What must survive the end of the process, as data: a binary upgrade hands it to the new process. Names identify, as
//! everywhere; what the new configuration does not have is left out.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::cluster::found::{SavedList, SavedName};
use crate::cluster::overlay::SavedChanges;
use crate::endpoint::Endpoint;
use crate::endpoint::state::{Counts, EndpointState};
use crate::fleet::Fleet;

/// The state of every upstream. Unknown fields are passed over and missing ones are as new, so that two versions of the
/// program understand each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetState {
    clusters: Vec<ClusterState>,
}

/// The state of one upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClusterState {
    name: String,
    /// The last answers of name servers.
    pub(crate) names: Vec<SavedName>,
    /// What lists of servers said last.
    lists: Vec<SavedList>,
    pub(crate) servers: Vec<EndpointState>,
    /// What the operator has changed.
    changes: SavedChanges,
}

/// What was counted since a state was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetCounts {
    /// By upstream: address, target, counts.
    clusters: Vec<(String, Vec<(String, String, Counts)>)>,
}

impl Fleet {
    /// Everything, as it is now.
    pub fn export(&self) -> FleetState {
        let clusters = self.all_clusters();
        FleetState {
            clusters: clusters.iter().map(|c| export(c)).collect(),
        }
    }

    /// Takes over what another process knew, before anything uses the fleet; the configuration has been
    /// [reconciled](Fleet::reconcile). Gives the number of servers that it does not have.
    pub fn import(&self, state: &FleetState) -> usize {
        let clusters = self.by_name();
        let mut skipped = 0;
        for from in &state.clusters {
            match clusters.get(&from.name) {
                Some(cluster) => skipped += import(cluster, from),
                None => skipped += from.servers.len(),
            }
        }
        skipped
    }

    /// What was counted since `earlier` was exported.
    pub fn counts_since(&self, earlier: &FleetState) -> FleetCounts {
        let mut before = HashMap::new();
        for cluster in &earlier.clusters {
            for server in &cluster.servers {
                let key = (&*cluster.name, &*server.address, &*server.target);
                before.insert(key, server.counts);
            }
        }
        let mut clusters = Vec::new();
        for cluster in self.all_clusters() {
            let mut servers = Vec::new();
            for member in &cluster.set().members {
                let (address, target) = member.endpoint.names();
                let before = before.get(&(cluster.name(), &*address, &*target));
                let counts = member.endpoint.counts();
                let counts = counts.since(before.copied().unwrap_or_default());
                if !counts.is_none() {
                    servers.push((address, target, counts));
                }
            }
            if !servers.is_empty() {
                clusters.push((cluster.name().to_owned(), servers));
            }
        }
        FleetCounts { clusters }
    }

    /// Adds what another process has counted since it exported its state.
    pub fn add_counts(&self, counts: &FleetCounts) {
        let clusters = self.by_name();
        for (cluster, servers) in &counts.clusters {
            let Some(cluster) = clusters.get(cluster) else {
                continue;
            };
            let endpoints = by_names(cluster);
            for (address, target, counts) in servers {
                if let Some(endpoint) = endpoints.get(&(address.clone(), target.clone())) {
                    endpoint.carry(*counts);
                }
            }
        }
    }

    fn by_name(&self) -> HashMap<String, Arc<Cluster>> {
        let clusters = self.all_clusters().into_iter();
        clusters.map(|c| (c.name().to_owned(), c)).collect()
    }
}

fn export(cluster: &Cluster) -> ClusterState {
    let set = cluster.set();
    ClusterState {
        name: cluster.name().to_owned(),
        names: cluster.save_names(),
        lists: cluster.save_lists(),
        changes: cluster.save_changes(),
        servers: set.members.iter().map(|m| m.endpoint.export()).collect(),
    }
}

/// Gives the number of servers that are not there.
fn import(cluster: &Cluster, state: &ClusterState) -> usize {
    // In this order: a list may have names, and changes may be of either.
    for list in &state.lists {
        cluster.restore_list(list);
    }
    for name in &state.names {
        cluster.restore_name(name);
    }
    cluster.restore_changes(&state.changes);
    let endpoints = by_names(cluster);
    let checked = cluster.settings().health.is_some();
    let mut skipped = 0;
    for server in &state.servers {
        match endpoints.get(&(server.address.clone(), server.target.clone())) {
            Some(endpoint) => endpoint.import(server, checked),
            None => skipped += 1,
        }
    }
    cluster.health_moved();
    skipped
}

fn by_names(cluster: &Cluster) -> HashMap<(String, String), Arc<Endpoint>> {
    let set = cluster.set();
    let endpoints = set.members.iter().map(|m| &m.endpoint);
    endpoints.map(|e| (e.names(), Arc::clone(e))).collect()
}

#[cfg(test)]
mod tests;
