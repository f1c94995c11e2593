//! The checks: one task per server on the control core, started and ended as the fleet changes.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use narthex_config::model::{HealthCheck, Probe, ServerAddress};
use narthex_net::rt;

use super::probe::{Question, ask};
use super::tally::{Failure, Tally};
use crate::clock::millis;
use crate::cluster::{Cluster, Settings};
use crate::endpoint::{Active, Endpoint};
use crate::fleet::{Changed, Fleet};

/// No check runs more often, in milliseconds.
const INTERVAL_MIN_MS: u64 = 10;

struct Check {
    endpoint: Arc<Endpoint>,
    stop: Rc<Cell<bool>>,
}

/// Keeps a check running for every server of every upstream that asks for one. Runs on one core, for ever.
pub async fn run_checks(fleet: Arc<Fleet>) {
    // By cluster, then by endpoint.
    let mut running: HashMap<u64, HashMap<u64, Check>> = HashMap::new();
    let mut changes = fleet.changes.follow();
    loop {
        match changes.next().await {
            Changed::All => {
                let clusters = fleet.clusters();
                let known: HashSet<u64> = clusters.iter().map(|c| c.id()).collect();
                let gone: Vec<u64> = running.keys().copied().collect();
                for id in gone.into_iter().filter(|id| !known.contains(id)) {
                    follow(&mut running, id, None);
                }
                for cluster in clusters {
                    follow(&mut running, cluster.id(), Some(cluster));
                }
            }
            Changed::Clusters(ids) => {
                for id in ids {
                    follow(&mut running, id, fleet.cluster(id));
                }
            }
        }
    }
}

/// Brings the checks of one cluster to what it wants.
fn follow(running: &mut HashMap<u64, HashMap<u64, Check>>, id: u64, cluster: Option<Arc<Cluster>>) {
    let checked = cluster.filter(|c| !c.is_retired() && c.settings().health.is_some());
    let checks = running.entry(id).or_default();
    let set = checked.as_ref().map(|c| c.set());
    let wanted: HashMap<u64, &Arc<Endpoint>> = set
        .iter()
        .flat_map(|set| &set.members)
        .map(|m| (m.endpoint.id(), &m.endpoint))
        .collect();
    checks.retain(|id, check| wanted.contains_key(id) || check.end());
    if let Some(cluster) = &checked {
        for (id, endpoint) in wanted {
            checks
                .entry(id)
                .or_insert_with(|| Check::start(Arc::clone(cluster), Arc::clone(endpoint)));
        }
    }
    if checks.is_empty() {
        running.remove(&id);
    }
}

impl Check {
    fn start(cluster: Arc<Cluster>, endpoint: Arc<Endpoint>) -> Self {
        let stop = Rc::new(Cell::new(false));
        endpoint.set_active(Active::Unknown, None);
        rt::spawn(check(cluster, Arc::clone(&endpoint), Rc::clone(&stop)));
        Self { endpoint, stop }
    }

    /// Ends the check; its last verdict no longer counts. Always false: it is not kept.
    fn end(&self) -> bool {
        self.stop.set(true);
        self.endpoint.set_active(Active::Unchecked, None);
        false
    }
}

async fn check(cluster: Arc<Cluster>, endpoint: Arc<Endpoint>, stop: Rc<Cell<bool>>) {
    let mut tally = Tally::new();
    let randomness = RandomState::new();
    let mut round = 0u64;
    while !stop.get() {
        let settings = cluster.settings();
        let Some(health) = &settings.health else {
            return;
        };
        let answer = ask_in_time(&settings, health, &endpoint).await;
        if stop.get() {
            return;
        }
        judge(&cluster, &endpoint, &mut tally, answer, health);
        round = round.wrapping_add(1);
        let pause = jittered(
            millis(health.interval).max(INTERVAL_MIN_MS),
            randomness.hash_one(round),
        );
        rt::sleep_until(rt::now_ms().saturating_add(pause)).await;
    }
}

/// `interval`, a tenth more or less.
fn jittered(interval: u64, random: u64) -> u64 {
    let tenth = interval / 10;
    interval - tenth + random % (2 * tenth + 1)
}

async fn ask_in_time(
    settings: &Settings,
    health: &HealthCheck,
    endpoint: &Endpoint,
) -> Result<(), Failure> {
    let Probe::Http(http) = &health.probe else {
        return Err(Failure::Unwell("this check is not built yet".to_owned()));
    };
    let question = Question {
        path: http.path.clone(),
        host: http.host.clone().unwrap_or_else(|| host_of(endpoint)),
        status: http.status.clone(),
        proxy_protocol: settings.proxy_protocol,
    };
    let connected = Cell::new(false);
    let deadline = rt::now_ms().saturating_add(millis(health.timeout).max(1));
    let answer = ask(endpoint.target(), &settings.dial, &question, || {
        connected.set(true);
    });
    match rt::timeout_at(deadline, answer).await {
        Ok(answer) => answer,
        Err(rt::Elapsed) if connected.get() => Err(Failure::Unwell("no answer in time".to_owned())),
        Err(rt::Elapsed) => Err(Failure::Unreachable(
            "connect: no answer in time".to_owned(),
        )),
    }
}

/// The server's name in the configuration.
fn host_of(endpoint: &Endpoint) -> String {
    match &endpoint.identity().address {
        ServerAddress::Ip(address) => address.to_string(),
        ServerAddress::Dns { host, port } => format!("{host}:{port}"),
        ServerAddress::Srv { name, .. } => name.clone(),
        ServerAddress::Unix(_) => "localhost".to_owned(),
    }
}

fn judge(
    cluster: &Cluster,
    endpoint: &Endpoint,
    tally: &mut Tally,
    answer: Result<(), Failure>,
    health: &HealthCheck,
) {
    let before = endpoint.active();
    let verdict = tally.note(answer.as_ref().copied(), health.healthy, health.unhealthy);
    let reason = answer.as_ref().err().map(Failure::words);
    if !endpoint.set_active(verdict, reason) {
        return;
    }
    let was_down = matches!(before, Active::Unwell | Active::Gone);
    let (upstream, server) = (cluster.name(), endpoint.name());
    match verdict {
        Active::Up if was_down => tracing::info!(
            upstream,
            server,
            "server is up: its health check succeeds again"
        ),
        Active::Up => tracing::debug!(upstream, server, "server is up: its health check succeeds"),
        Active::Unwell | Active::Gone if !was_down => {
            tracing::warn!(
                upstream,
                server,
                reason = reason.unwrap_or_default(),
                "server is down: its health check fails"
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_tenth() {
        let all: Vec<_> = (0..1000).map(|random| jittered(2_000, random)).collect();
        assert_eq!(all.iter().min(), Some(&1_800));
        assert_eq!(all.iter().max(), Some(&2_200));
        assert_eq!(jittered(5, 7), 5);
    }
}
