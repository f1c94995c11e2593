//! The thread that resolves names, and publishes what it finds into the server sets.
//!
//! The resolver library needs tokio, so this thread runs a small tokio runtime of its own. Nothing on the data path ever
//! waits for it: it stores new server sets, which cores notice by their version.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::RecordType;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use super::hold::{Answer, Held, next};
use super::system::{Asker, NameServers, ask, routable};
use crate::clock::monotonic_ms;
use crate::fleet::{Changed, Fleet};

/// How often the hosts file is read for a name that it knows.
const HOSTS: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Progress {
    /// Names that have had their first answer, good or bad.
    answered: Mutex<HashSet<String>>,
    more: Condvar,
}

impl Progress {
    fn answered(&self) -> MutexGuard<'_, HashSet<String>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running resolver. Dropping it ends its thread.
pub struct Discovery {
    fleet: Arc<Fleet>,
    progress: Arc<Progress>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Discovery {
    /// Starts the thread. Does not wait for any answer.
    pub fn start(fleet: &Arc<Fleet>, servers: NameServers) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = Arc::new(Notify::new());
        let progress = Arc::new(Progress::default());
        let (followed, stopped, told) =
            (Arc::clone(fleet), Arc::clone(&stop), Arc::clone(&progress));
        let body = move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = follow(followed, servers, told) => {}
                    () = stopped.notified() => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("narthex-dns".to_owned())
            .spawn(body)?;
        Ok(Self {
            fleet: Arc::clone(fleet),
            progress,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits until every name of the fleet has had its first answer, good or bad; at most `longest`. False if that was not
    /// enough. Not to be called on a data core.
    pub fn wait_for_answers(&self, longest: Duration) -> bool {
        let names = hosts(&self.fleet);
        let deadline = Instant::now() + longest;
        let mut answered = self.progress.answered();
        while !names.iter().all(|name| answered.contains(name)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            answered = self
                .progress
                .more
                .wait_timeout(answered, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the name resolution thread had panicked");
        }
    }
}

fn hosts(fleet: &Fleet) -> HashSet<String> {
    fleet
        .clusters()
        .iter()
        .flat_map(|c| c.dns_names())
        .map(|(host, _)| host)
        .collect()
}

/// Shared by the tasks of this thread.
struct State {
    fleet: Arc<Fleet>,
    asker: RefCell<Asker>,
    found: RefCell<HashMap<String, Vec<IpAddr>>>,
    /// Names, and the clusters that have them.
    users: RefCell<HashMap<String, HashSet<u64>>>,
    progress: Arc<Progress>,
}

/// Keeps one task for every name, as the fleet changes.
async fn follow(fleet: Arc<Fleet>, servers: NameServers, progress: Arc<Progress>) {
    let mut changes = fleet.changes.follow();
    let state = Rc::new(State {
        fleet,
        asker: RefCell::new(Asker::new(servers)),
        found: RefCell::default(),
        users: RefCell::default(),
        progress,
    });
    let mut running: HashMap<String, AbortHandle> = HashMap::new();
    let mut names: HashMap<u64, HashSet<String>> = HashMap::new();
    loop {
        let changed = match changes.next().await {
            Changed::Clusters(ids) => ids,
            Changed::All => {
                let clusters = state.fleet.clusters();
                let known: HashSet<u64> = clusters.iter().map(|c| c.id()).collect();
                known
                    .into_iter()
                    .chain(names.keys().copied())
                    .collect::<HashSet<_>>()
                    .into_iter()
                    .collect()
            }
        };
        for id in changed {
            let wanted: HashSet<String> = state
                .fleet
                .cluster(id)
                .map(|c| c.dns_names().into_iter().map(|(host, _)| host).collect())
                .unwrap_or_default();
            let had = names.remove(&id).unwrap_or_default();
            for host in had.difference(&wanted) {
                if state.leave(host, id)
                    && let Some(task) = running.remove(host)
                {
                    task.abort();
                }
            }
            for host in &wanted {
                state.join(host, id);
                // A name that is known already may be new to this upstream.
                state.publish_to(host, id);
                let task = running.entry(host.clone());
                task.or_insert_with_key(|host| {
                    spawn_local(resolve(Rc::clone(&state), host.clone())).abort_handle()
                });
            }
            if !wanted.is_empty() {
                names.insert(id, wanted);
            }
        }
    }
}

impl State {
    fn join(&self, host: &str, cluster: u64) {
        let mut users = self.users.borrow_mut();
        users.entry(host.to_owned()).or_default().insert(cluster);
    }

    /// The cluster has this name no more. True if nobody has.
    fn leave(&self, host: &str, cluster: u64) -> bool {
        let mut users = self.users.borrow_mut();
        let Some(clusters) = users.get_mut(host) else {
            return true;
        };
        clusters.remove(&cluster);
        if !clusters.is_empty() {
            return false;
        }
        users.remove(host);
        self.found.borrow_mut().remove(host);
        self.progress.answered().remove(host);
        true
    }

    fn publish(&self, host: &str) {
        let users: Vec<u64> = self
            .users
            .borrow()
            .get(host)
            .map(|clusters| clusters.iter().copied().collect())
            .unwrap_or_default();
        for cluster in users {
            self.publish_to(host, cluster);
        }
    }

    fn publish_to(&self, host: &str, cluster: u64) {
        let Some(addresses) = self.found.borrow().get(host).cloned() else {
            return;
        };
        let Some(cluster) = self.fleet.cluster(cluster) else {
            return;
        };
        for (name, port) in cluster.dns_names() {
            if name == host {
                cluster.resolved(host, port, addresses.clone());
            }
        }
    }

    fn take(&self, host: &str, addresses: Vec<IpAddr>) {
        self.found
            .borrow_mut()
            .insert(host.to_owned(), routable(addresses));
        self.publish(host);
        self.answered(host);
    }

    fn answered(&self, host: &str) {
        if self.progress.answered().insert(host.to_owned()) {
            self.progress.more.notify_all();
        }
    }
}

async fn resolve(state: Rc<State>, host: String) {
    let (mut v4, mut v6) = (Held::default(), Held::default());
    let mut failing = false;
    loop {
        let known = state.asker.borrow().known(&host);
        if let Some(addresses) = known {
            state.take(&host, addresses);
            tokio::time::sleep(HOSTS).await;
            continue;
        }
        let resolver = state.asker.borrow_mut().resolver();
        let ((a, why), (aaaa, _)) = match resolver {
            Some(resolver) => tokio::join!(
                ask(&resolver, &host, RecordType::A),
                ask(&resolver, &host, RecordType::AAAA)
            ),
            None => (
                (
                    Answer::Failed,
                    Some("no name server is configured".to_owned()),
                ),
                (Answer::Failed, None),
            ),
        };
        let works = [&a, &aaaa]
            .iter()
            .any(|answer| matches!(answer, Answer::Found(..)));
        tell(&host, works, &mut failing, why);
        let heard = [&a, &aaaa]
            .iter()
            .any(|answer| !matches!(answer, Answer::Failed));
        let now = monotonic_ms();
        let after = (v4.take(a, now), v6.take(aaaa, now));
        let pause = next([(&v4, after.0), (&v6, after.1)]);
        if heard {
            state.take(
                &host,
                v4.addresses()
                    .iter()
                    .chain(v6.addresses())
                    .copied()
                    .collect(),
            );
        } else {
            state.answered(&host);
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Once per change for the worse or the better.
fn tell(host: &str, works: bool, failing: &mut bool, why: Option<String>) {
    if works && *failing {
        tracing::info!(host, "the name resolves again");
    } else if !works && !*failing {
        tracing::warn!(
            host,
            reason = why.unwrap_or_default(),
            "the name does not resolve; the last known servers are kept"
        );
    }
    *failing = !works;
}
