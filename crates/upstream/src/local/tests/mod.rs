//! The core half on real cores, with real sockets on loopback.

mod affinity;
mod choice;
mod churn;
mod hedge;
mod limits;
mod pool;
mod totals;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use narthex_config::model::{Adaptive, Balance, Priority, Server, ServerAddress, Upstream};
use narthex_net::rt;

use super::*;
use crate::endpoint::{Active, Report, State};
use crate::testkit::{LONGEST, Origin, nobody, on_core, start_core, until, upstream};
use crate::wish::{Tag, Tried, Wish};

fn fleet_of(upstreams: &[Upstream], cores: usize) -> (Arc<Fleet>, Vec<Arc<Cluster>>) {
    let fleet = Fleet::new(cores);
    let clusters = fleet.reconcile(upstreams);
    (fleet, clusters)
}

fn core_of(upstream: Upstream) -> (Arc<Fleet>, Rc<CoreFleet>, Rc<CoreCluster>) {
    let (fleet, clusters) = fleet_of(&[upstream], 1);
    let core = CoreFleet::new(0, Arc::clone(&fleet));
    let cluster = core.adopt(&clusters[0]);
    (fleet, core, cluster)
}

fn pick(cluster: &CoreCluster) -> Lease {
    cluster.pick(&Wish::any(&Tried::NONE, 0)).unwrap()
}

fn addresses(n: u8) -> Vec<SocketAddr> {
    (1..=n)
        .map(|i| SocketAddr::from(([127, 0, 0, i], 9)))
        .collect()
}

fn shares(cluster: &CoreCluster, n: usize) -> Vec<usize> {
    let set = cluster.shared().set();
    let mut counts = vec![0; set.members.len()];
    for _ in 0..n {
        let lease = pick(cluster);
        counts[set
            .members
            .iter()
            .position(|m| m.endpoint.id() == lease.endpoint().id())
            .unwrap()] += 1;
    }
    counts
}

fn limited(address: SocketAddr, max: usize) -> Upstream {
    let mut config = upstream("u", [address]);
    config.connections.max = max;
    config.connections.queue_timeout = LONGEST;
    config
}
