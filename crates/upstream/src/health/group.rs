//! Servers are judged by the others: whoever answers far worse than the group is taken out.

use std::collections::HashMap;
use std::sync::Arc;

use narthex_net::rt;

use crate::clock::millis;
use crate::cluster::Cluster;
use crate::fleet::Fleet;
use crate::outliers::{OutlierRule, judge};

/// The clusters are looked at so often, in milliseconds.
const PACE_MS: u64 = 1_000;

/// What was counted at the beginning of a cluster's present window, by endpoint: all requests, and the bad ones.
struct Window {
    since: u64,
    counts: HashMap<u64, (u64, u64)>,
}

/// Judges the servers of every upstream that has `outliers`, once per its `within`. Runs on one core, for ever.
pub async fn run_outliers(fleet: Arc<Fleet>) {
    let mut windows: HashMap<u64, Window> = HashMap::new();
    loop {
        rt::sleep_until(rt::now_ms().saturating_add(PACE_MS)).await;
        let mut before = std::mem::take(&mut windows);
        for cluster in fleet.clusters() {
            let settings = cluster.settings();
            if !settings.eject.outliers || settings.eject.errors == 0 {
                continue;
            }
            let now = rt::now_ms();
            let window = match before.remove(&cluster.id()) {
                Some(window)
                    if now < window.since.saturating_add(millis(settings.eject.within)) =>
                {
                    window
                }
                Some(window) => look(&cluster, Some(&window), now),
                None => look(&cluster, None, now),
            };
            windows.insert(cluster.id(), window);
        }
    }
}

/// Judges what was counted since the window began, and begins another.
fn look(cluster: &Cluster, window: Option<&Window>, now: u64) -> Window {
    let set = cluster.set();
    let mut rates = Vec::with_capacity(set.members.len());
    let mut counts = HashMap::with_capacity(set.members.len());
    for endpoint in set.members.iter().map(|m| &m.endpoint) {
        let (all, bad) = endpoint.tried_and_bad();
        counts.insert(endpoint.id(), (all, bad));
        // One that was not there when the window began has no rate yet.
        let before = window.and_then(|w| w.counts.get(&endpoint.id()));
        let (all, bad) = before.map_or((0, 0), |(a, b)| {
            (all.saturating_sub(*a), bad.saturating_sub(*b))
        });
        rates.push((all.saturating_sub(bad), all));
    }
    for at in judge(&rates, OutlierRule::DEFAULT) {
        if let (Some(member), Some((ok, all))) = (set.members.get(at), rates.get(at)) {
            let percent = ok.saturating_mul(100) / (*all).max(1);
            member.endpoint.is_outlier(cluster, percent, now);
        }
    }
    Window { since: now, counts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{CoreCounters, Endpoint, State};
    use crate::testkit::{on_core, upstream};

    fn serve(endpoint: &Endpoint, good: u32, bad: u32) {
        let counters = endpoint.counters(0);
        for _ in 0..good + bad {
            CoreCounters::bump(&counters.requests);
        }
        for _ in 0..bad {
            CoreCounters::bump(&counters.bad);
        }
    }

    #[test]
    fn the_worst_is_taken_out_and_what_was_before_the_window_does_not_count() {
        on_core(|| async {
            let fleet = Fleet::new(1);
            let addresses = (1..=3).map(|n| ([127, 0, 0, n], 80).into());
            let cluster = fleet.reconcile(&[upstream("u", addresses)]).remove(0);
            let set = cluster.set();
            let endpoints: Vec<_> = set.members.iter().map(|m| &m.endpoint).collect();
            serve(endpoints[0], 0, 100);
            let now = rt::now_ms();
            let window = look(&cluster, None, now);
            for endpoint in &endpoints {
                serve(endpoint, 100, 0);
            }
            let window = look(&cluster, Some(&window), now);
            assert!(endpoints.iter().all(|e| e.state() == State::Up));
            let epoch = cluster.epoch();
            serve(endpoints[0], 100, 0);
            serve(endpoints[1], 30, 70);
            serve(endpoints[2], 99, 1);
            look(&cluster, Some(&window), now);
            let states: Vec<_> = endpoints.iter().map(|e| e.state()).collect();
            assert_eq!(states, [State::Up, State::Ejected, State::Up]);
            let status = endpoints[1].status();
            assert_eq!(
                status.reason,
                "30% of its requests ended well in the last 10 s, far fewer than elsewhere"
            );
            assert_eq!(status.ejections, 1);
            assert!(cluster.epoch() > epoch, "the cores are told");
        });
    }
}
