//! Every upstream of the process.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker};

use narthex_config::model::Upstream;
use narthex_net::rt::Remote;

use crate::cluster::{Cluster, ClusterStatus};
use crate::discover::NameServers;
use crate::encryption::Encryption;

/// Changed clusters that a follower may have before itself; with more it looks at all.
const NOTED: usize = 1024;

/// Tells those who follow the fleet (checks, discovery) which cluster changed, and gives out numbers.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    ids: AtomicU64,
    /// What cookies are made with where no secret is written; drawn once.
    key: OnceLock<[u8; 16]>,
    followers: Mutex<Vec<Weak<Notes>>>,
}

/// What one follower has not looked at yet.
#[derive(Debug, Default)]
struct Notes(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    clusters: HashSet<u64>,
    all: bool,
    waker: Option<Waker>,
}

/// What changed since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// More than was noted, or it is the first look.
    All,
    /// These, by their numbers; one that the fleet no longer knows is gone.
    Clusters(Vec<u64>),
}

/// Somebody who hears of every change.
#[derive(Debug)]
pub(crate) struct Follower(Arc<Notes>);

impl Changes {
    /// No cluster's number: something else changed.
    pub(crate) const NO_CLUSTER: u64 = 0;

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The secret of cookies where none is written: of this process, and of those that take over from it.
    pub(crate) fn drawn_key(&self) -> [u8; 16] {
        *self.key.get_or_init(|| {
            // Each has keys of its own, from the system's random numbers.
            let half = || RandomState::new().hash_one(self.ids.load(Ordering::Relaxed));
            (u128::from(half()) << 64 | u128::from(half())).to_le_bytes()
        })
    }

    /// The first look is at everything.
    pub(crate) fn follow(&self) -> Follower {
        let notes = Arc::new(Notes::default());
        notes.lock().all = true;
        let mut followers = self.followers();
        followers.retain(|f| f.strong_count() > 0);
        followers.push(Arc::downgrade(&notes));
        Follower(notes)
    }

    /// Settings or servers of this cluster changed, or it is gone.
    pub(crate) fn announce(&self, cluster: u64) {
        for notes in self.followers().iter().filter_map(Weak::upgrade) {
            let mut noted = notes.lock();
            if noted.clusters.len() < NOTED {
                noted.clusters.insert(cluster);
            } else if !noted.clusters.contains(&cluster) {
                noted.all = true;
            }
            if let Some(waker) = noted.waker.take() {
                waker.wake();
            }
        }
    }

    fn followers(&self) -> MutexGuard<'_, Vec<Weak<Notes>>> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Waits for a change; several that come together are told together.
    pub(crate) async fn next(&mut self) -> Changed {
        std::future::poll_fn(|cx| {
            let mut noted = self.0.lock();
            if !noted.all && noted.clusters.is_empty() {
                noted.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let clusters = std::mem::take(&mut noted.clusters);
            Poll::Ready(if std::mem::take(&mut noted.all) {
                Changed::All
            } else {
                Changed::Clusters(clusters.into_iter().collect())
            })
        })
        .await
    }
}

#[derive(Default)]
struct Inner {
    clusters: HashMap<String, Arc<Cluster>>,
    /// The same by number.
    by_id: HashMap<u64, Weak<Cluster>>,
    /// Names in the latest configuration, in its order.
    current: Vec<String>,
    /// Where we are.
    zone: Option<Arc<str>>,
    /// By upstream.
    encryption: HashMap<String, Encryption>,
    cores: HashMap<usize, Arc<Remote>>,
    /// Who knows the addresses of names.
    name_servers: NameServers,
}

/// What there is to see of the checker, all upstreams together.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// How far it is behind, in milliseconds.
    pub(crate) late_ms: AtomicU64,
    /// Connections that it may keep.
    pub(crate) may_keep: AtomicUsize,
}

/// Every upstream, keyed by name. One per process; outlives every reload.
pub struct Fleet {
    cores: usize,
    inner: Mutex<Inner>,
    pub(crate) checks: Checks,
    left: AtomicBool,
    pub(crate) changes: Arc<Changes>,
}

impl Fleet {
    /// For data cores numbered `0..cores`.
    pub fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self {
            cores: cores.max(1),
            inner: Mutex::default(),
            checks: Checks::default(),
            left: AtomicBool::new(false),
            changes: Arc::default(),
        })
    }

    /// Names are asked of these from now on; of the system's name servers if there are none.
    pub fn resolve_at(&self, servers: &[SocketAddr]) {
        self.inner().name_servers = match servers {
            [] => NameServers::System,
            some => NameServers::At(some.to_vec()),
        };
        self.changes.announce(Changes::NO_CLUSTER);
    }

    pub(crate) fn name_servers(&self) -> NameServers {
        self.inner().name_servers.clone()
    }

    /// Number of data cores.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Where we are, for the choice of servers; it takes effect with the next [`Fleet::reconcile`].
    pub fn set_zone(&self, zone: Option<&str>) {
        self.inner().zone = zone.map(Arc::from);
    }

    /// How connections to the servers of these upstreams are encrypted; it takes effect with the next [`Fleet::reconcile`]. Those that
    /// are not named speak in the clear.
    pub fn encrypt(&self, by_upstream: HashMap<String, Encryption>) {
        self.inner().encryption = by_upstream;
    }

    /// How connections to the servers of this upstream are encrypted now.
    pub fn encryption(&self, upstream: &str) -> Option<Encryption> {
        self.inner().encryption.get(upstream).cloned()
    }

    /// The secret of cookies where none is written: whoever takes over from this process goes on with it.
    pub fn sticky_key(&self) -> [u8; 16] {
        self.changes.drawn_key()
    }

    /// Goes on with another process's secret. False if our own was used already.
    pub fn adopt_sticky_key(&self, key: [u8; 16]) -> bool {
        self.changes.key.set(key).is_ok()
    }

    /// Brings the fleet to what a configuration says; the result has the configuration's order. An upstream with the
    /// same name stays the same cluster, a server with the same address in it the same endpoint: health, counters and
    /// connections are kept. Upstreams that are no longer named stay until [`Fleet::forget_unused`].
    pub fn reconcile(&self, upstreams: &[Upstream]) -> Vec<Arc<Cluster>> {
        let mut inner = self.inner();
        inner.current = upstreams.iter().map(|u| u.name.clone()).collect();
        let mut clusters = Vec::with_capacity(upstreams.len());
        let Inner {
            clusters: known,
            by_id,
            zone,
            encryption,
            ..
        } = &mut *inner;
        for upstream in upstreams {
            let cluster = known.entry(upstream.name.clone()).or_insert_with(|| {
                let changes = Arc::clone(&self.changes);
                let id = changes.next_id();
                let cluster = Arc::new(Cluster::new(id, upstream, self.cores, changes));
                by_id.insert(id, Arc::downgrade(&cluster));
                cluster
            });
            cluster.configure(upstream, zone.as_ref(), encryption.get(&upstream.name));
            clusters.push(Arc::clone(cluster));
        }
        clusters
    }

    /// Lets go of upstreams that the latest configuration does not name: their checks and look-ups end, and their idle
    /// connections are closed once no request uses them. Call it when the reload has been applied on every core.
    pub fn forget_unused(&self) {
        let mut inner = self.inner();
        let Inner {
            clusters,
            by_id,
            current,
            ..
        } = &mut *inner;
        let current: HashSet<&String> = current.iter().collect();
        clusters.retain(|name, cluster| {
            let used = current.contains(name);
            if !used {
                by_id.remove(&cluster.id());
                cluster.retire();
            }
            used
        });
    }

    /// The upstreams that checks and discovery look after: those of the latest configuration, in its order, and none once
    /// that is [left](Fleet::leave) to another process.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        if self.is_left() {
            return Vec::new();
        }
        self.all_clusters()
    }

    /// Leaves checks and discovery to another process, for good. What is known of the servers stays as it is.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
        for cluster in self.all_clusters() {
            cluster.leave();
        }
    }

    /// Looks another process after the servers?
    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    pub(crate) fn all_clusters(&self) -> Vec<Arc<Cluster>> {
        let inner = self.inner();
        inner
            .current
            .iter()
            .filter_map(|name| inner.clusters.get(name).cloned())
            .collect()
    }

    /// The upstream of this name, while a configuration has it.
    pub fn named(&self, name: &str) -> Option<Arc<Cluster>> {
        let inner = self.inner();
        let cluster = inner.clusters.get(name)?;
        (!cluster.is_retired()).then(|| Arc::clone(cluster))
    }

    /// The upstream of this number, while a configuration names it.
    pub(crate) fn cluster(&self, id: u64) -> Option<Arc<Cluster>> {
        if self.is_left() {
            return None;
        }
        self.inner().by_id.get(&id).and_then(Weak::upgrade)
    }

    /// How far the health checks are behind their calendar, in milliseconds.
    pub fn checks_late_ms(&self) -> u64 {
        self.checks.late_ms.load(Ordering::Relaxed)
    }

    /// Health checks may keep so many connections, or an eighth of the open files if that is more.
    pub fn checks_may_keep(&self, connections: usize) {
        self.checks.may_keep.store(connections, Ordering::Relaxed);
    }

    /// All there is to see.
    pub fn status(&self) -> Vec<ClusterStatus> {
        self.all_clusters().iter().map(|c| c.status()).collect()
    }

    /// What cookies are made with where no secret is written.
    pub fn cookie_key(&self) -> [u8; 16] {
        self.changes.drawn_key()
    }

    /// Takes over another process's [`Fleet::cookie_key`], before anything has asked for ours.
    pub fn take_cookie_key(&self, key: [u8; 16]) {
        // One that was drawn already has been used already, and stays.
        let _ = self.changes.key.set(key);
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn look(follower: &mut Follower) -> Option<Changed> {
        match pin!(follower.next()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(changed) => Some(changed),
            Poll::Pending => None,
        }
    }

    fn upstreams(n: usize) -> Vec<Upstream> {
        let name = |i| Upstream::new(format!("u{i}"));
        (0..n).map(name).collect()
    }

    #[test]
    fn a_follower_hears_of_what_changed_and_of_nothing_else() {
        let fleet = Fleet::new(1);
        let mut all = upstreams(100);
        let clusters = fleet.reconcile(&all);
        let mut follower = fleet.changes.follow();
        assert_eq!(look(&mut follower), Some(Changed::All));
        assert_eq!(look(&mut follower), None);
        all[7].connections.max = 9;
        fleet.reconcile(&all);
        let seven = Changed::Clusters(vec![clusters[7].id()]);
        assert_eq!(look(&mut follower), Some(seven));
        assert_eq!(look(&mut follower), None);
    }

    #[test]
    fn what_is_gone_is_told_and_no_longer_known() {
        let fleet = Fleet::new(1);
        let clusters = fleet.reconcile(&upstreams(3));
        let mut follower = fleet.changes.follow();
        look(&mut follower);
        fleet.reconcile(&upstreams(2));
        fleet.forget_unused();
        let gone = clusters[2].id();
        assert_eq!(look(&mut follower), Some(Changed::Clusters(vec![gone])));
        assert!(fleet.cluster(gone).is_none() && fleet.named("u2").is_none());
        assert!(fleet.cluster(clusters[1].id()).is_some() && fleet.named("u1").is_some());
    }

    #[test]
    fn too_many_changes_are_a_look_at_everything() {
        let changes = Changes::default();
        let mut follower = changes.follow();
        look(&mut follower);
        for id in 0..=NOTED as u64 {
            changes.announce(id);
        }
        assert_eq!(look(&mut follower), Some(Changed::All));
        assert_eq!(look(&mut follower), None);
    }
}
