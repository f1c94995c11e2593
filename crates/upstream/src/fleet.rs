//! Every upstream of the process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use narthex_config::model::Upstream;
use narthex_net::rt::Remote;

use crate::cluster::{Cluster, ClusterStatus};

/// Tells those who follow the fleet (checks, discovery) that something changed, and gives out numbers.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    version: AtomicU64,
    ids: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Changes {
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn announce(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        let waiting =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Completes when the version is no longer `seen`.
    pub(crate) async fn after(&self, seen: u64) {
        std::future::poll_fn(|cx| {
            if self.version() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.iter().any(|w| w.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            drop(waiting);
            if self.version() == seen {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

#[derive(Default)]
struct Inner {
    clusters: HashMap<String, Arc<Cluster>>,
    /// Names in the latest configuration, in its order.
    current: Vec<String>,
    cores: HashMap<usize, Arc<Remote>>,
}

/// Every upstream, keyed by name. One per process; outlives every reload.
pub struct Fleet {
    cores: usize,
    inner: Mutex<Inner>,
    pub(crate) changes: Arc<Changes>,
}

impl Fleet {
    /// For data cores numbered `0..cores`.
    pub fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self {
            cores: cores.max(1),
            inner: Mutex::default(),
            changes: Arc::default(),
        })
    }

    /// Number of data cores.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Brings the fleet to what a configuration says; the result has the configuration's order. An upstream with the
    /// same name stays the same cluster, a server with the same address in it the same endpoint: health, counters and
    /// connections are kept. Upstreams that are no longer named stay until [`Fleet::forget_unused`].
    pub fn reconcile(&self, upstreams: &[Upstream]) -> Vec<Arc<Cluster>> {
        let mut inner = self.inner();
        inner.current = upstreams.iter().map(|u| u.name.clone()).collect();
        let mut clusters = Vec::with_capacity(upstreams.len());
        for upstream in upstreams {
            let cluster = inner
                .clusters
                .entry(upstream.name.clone())
                .or_insert_with(|| {
                    Arc::new(Cluster::new(
                        self.changes.next_id(),
                        upstream,
                        self.cores,
                        Arc::clone(&self.changes),
                    ))
                });
            cluster.configure(upstream);
            clusters.push(Arc::clone(cluster));
        }
        clusters
    }

    /// Lets go of upstreams that the latest configuration does not name: their checks and look-ups end, and their idle
    /// connections are closed once no request uses them. Call it when the reload has been applied on every core.
    pub fn forget_unused(&self) {
        let mut inner = self.inner();
        let Inner {
            clusters, current, ..
        } = &mut *inner;
        clusters.retain(|name, cluster| {
            let used = current.contains(name);
            if !used {
                cluster.retire();
            }
            used
        });
    }

    /// The upstreams of the latest configuration, in its order.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        let inner = self.inner();
        inner
            .current
            .iter()
            .filter_map(|name| inner.clusters.get(name).cloned())
            .collect()
    }

    /// All there is to see.
    pub fn status(&self) -> Vec<ClusterStatus> {
        self.clusters().iter().map(|c| c.status()).collect()
    }

    pub(crate) fn join(&self, core: usize, remote: Arc<Remote>) {
        self.inner().cores.insert(core, remote);
    }

    /// The way to a core.
    pub(crate) fn remote(&self, core: usize) -> Option<Arc<Remote>> {
        self.inner().cores.get(&core).cloned()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("cores", &self.cores)
            .finish_non_exhaustive()
    }
}
