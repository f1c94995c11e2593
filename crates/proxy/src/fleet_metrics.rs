//! What upstreams and their servers count themselves, read when the metrics are: nothing of this costs a request anything.

use std::sync::Arc;

use narthex_observe::metrics::{Emit, Kind, Registry};
use narthex_upstream::{Cluster, Endpoint, Fleet, FoundLimit, QueueFigures, State};

/// Servers with series of their own; what the others count is summed under [`OTHERS`].
const SERVERS_MAX: usize = 2_000;
/// Stands for them.
const OTHERS: &str = "others";

type Figure = fn(&Endpoint) -> u64;

/// Of figures that are counted in microseconds and shown in seconds.
const MICROS: f64 = 1e-6;

/// What a queue counts, at a server and at an upstream: the end of the name, the help, and the unit of the figure.
const QUEUE: [(&str, &str, Kind, fn(&QueueFigures) -> u64, f64); 5] = [
    (
        "waiting",
        "Requests that wait for room",
        Kind::Gauge,
        |queue| queue.waiting,
        1.0,
    ),
    (
        "waits_total",
        "Waits that have ended, however, for room",
        Kind::Counter,
        |queue| queue.waited,
        1.0,
    ),
    (
        "wait_seconds_total",
        "How long they were together, the waits for room",
        Kind::Counter,
        |queue| queue.waited_us,
        MICROS,
    ),
    (
        "queue_timeouts_total",
        "Waits that took too long for room",
        Kind::Counter,
        |queue| queue.timeouts,
        1.0,
    ),
    (
        "queue_full_total",
        "Requests that found no place in the queue, or lost it to one of a higher priority, for room",
        Kind::Counter,
        |queue| queue.refused,
        1.0,
    ),
];

/// What the limits that follow the response times are.
const FOUND: [(&str, &str, fn(&FoundLimit) -> u64, f64); 4] = [
    (
        "narthex_upstream_concurrency_limit",
        "Requests that may be under way at an upstream now, by its adaptive limit.",
        |found| found.limit,
        1.0,
    ),
    (
        "narthex_upstream_concurrency_used",
        "Requests that hold a place of an adaptive limit.",
        |found| found.used,
        1.0,
    ),
    (
        "narthex_upstream_concurrency_rtt_seconds",
        "The mean time to a response's head lately, as an adaptive limit sees it.",
        |found| found.pace_us,
        MICROS,
    ),
    (
        "narthex_upstream_concurrency_best_rtt_seconds",
        "The same at best, which it is compared with.",
        |found| found.best_us,
        MICROS,
    ),
];

/// Names, helps and kinds of what each server counts.
const FIGURES: [(&str, &str, Kind, Figure); 7] = [
    (
        "narthex_server_requests_in_flight",
        "Requests under way at a server.",
        Kind::Gauge,
        Endpoint::in_flight,
    ),
    (
        "narthex_server_connections",
        "Sockets to a server, idle or not.",
        Kind::Gauge,
        Endpoint::connections,
    ),
    (
        "narthex_server_idle",
        "Idle connections to a server.",
        Kind::Gauge,
        Endpoint::idle,
    ),
    (
        "narthex_server_requests_total",
        "Requests given to a server.",
        Kind::Counter,
        Endpoint::requests,
    ),
    (
        "narthex_server_failures_total",
        "Requests that failed by a server's fault.",
        Kind::Counter,
        Endpoint::failures,
    ),
    (
        "narthex_server_connects_total",
        "Connections opened to a server.",
        Kind::Counter,
        Endpoint::connects,
    ),
    (
        "narthex_server_ejections_total",
        "Times that a server was taken out for failures.",
        Kind::Counter,
        Endpoint::ejections,
    ),
];

/// Registers all of it.
pub(crate) fn collect(registry: &Registry, fleet: &Arc<Fleet>) {
    for (name, help, kind, read) in FIGURES {
        let fleet = Arc::clone(fleet);
        let collect = move |emit: &mut Emit<'_>| figure(&fleet, read, 1.0, emit);
        registry.collect(name, help, kind, collect);
    }
    for (name, help, kind, read, unit) in QUEUE {
        let all = Arc::clone(fleet);
        registry.collect(
            &format!("narthex_server_{name}"),
            &format!("{help} at a server."),
            kind,
            move |emit| figure(&all, |server| read(&server.queue()), unit, emit),
        );
        let all = Arc::clone(fleet);
        registry.collect(
            &format!("narthex_upstream_{name}"),
            &format!("{help} at an upstream, among all its requests or sockets."),
            kind,
            move |emit| {
                for cluster in all.clusters() {
                    let value = read(&cluster.queue()) as f64 * unit;
                    emit(&[("upstream", cluster.name())], value);
                }
            },
        );
    }
    for (name, help, read, unit) in FOUND {
        let fleet = Arc::clone(fleet);
        registry.collect(name, help, Kind::Gauge, move |emit| {
            for cluster in fleet.clusters() {
                if let Some(found) = cluster.found_limit() {
                    emit(&[("upstream", cluster.name())], read(&found) as f64 * unit);
                }
            }
        });
    }
    let all = Arc::clone(fleet);
    registry.collect(
        "narthex_server_state",
        "1 for the state that a server is in.",
        Kind::Gauge,
        move |emit| states(&all, emit),
    );
    let all = Arc::clone(fleet);
    registry.collect(
        "narthex_health_checks_total",
        "Health checks, by what the answer was.",
        Kind::Counter,
        move |emit| {
            for cluster in all.clusters().iter().filter(|c| is_checked(c)) {
                let (good, bad) = cluster.checked();
                for (result, count) in [("good", good), ("bad", bad)] {
                    let labels = [("upstream", cluster.name()), ("result", result)];
                    emit(&labels, count as f64);
                }
            }
        },
    );
    let all = Arc::clone(fleet);
    registry.collect(
        "narthex_upstream_panic",
        "1 while so little of an upstream is available that servers which look ill are used, too.",
        Kind::Gauge,
        move |emit| {
            for cluster in all.clusters() {
                let panic = f64::from(u8::from(cluster.is_in_panic()));
                emit(&[("upstream", cluster.name())], panic);
            }
        },
    );
    let all = Arc::clone(fleet);
    registry.collect(
        "narthex_health_late_seconds",
        "How far the health checks are behind their calendar.",
        Kind::Gauge,
        move |emit| emit(&[], all.checks_late_ms() as f64 / 1_000.0),
    );
}

fn is_checked(cluster: &Cluster) -> bool {
    cluster.settings().health.is_some()
}

/// Calls with every server: its upstream, its name as a label, and whether it has series of its own.
fn each(fleet: &Fleet, mut visit: impl FnMut(&Cluster, &Endpoint, bool)) {
    let mut seen = 0;
    for cluster in fleet.clusters() {
        for member in &cluster.set().members {
            seen += 1;
            visit(&cluster, &member.endpoint, seen <= SERVERS_MAX);
        }
    }
}

fn figure(fleet: &Fleet, read: impl Fn(&Endpoint) -> u64, unit: f64, emit: &mut Emit<'_>) {
    let mut others = None;
    each(fleet, |cluster, endpoint, own| {
        let value = read(endpoint);
        if own {
            let labels = [("upstream", cluster.name()), ("server", endpoint.name())];
            emit(&labels, value as f64 * unit);
        } else {
            *others.get_or_insert(0u64) += value;
        }
    });
    if let Some(value) = others {
        let labels = [("upstream", OTHERS), ("server", OTHERS)];
        emit(&labels, value as f64 * unit);
    }
}

fn states(fleet: &Fleet, emit: &mut Emit<'_>) {
    let mut others: Vec<(State, u64)> = Vec::new();
    each(fleet, |cluster, endpoint, own| {
        let state = endpoint.state();
        if own {
            let labels = [
                ("upstream", cluster.name()),
                ("server", endpoint.name()),
                ("state", state.word()),
            ];
            emit(&labels, 1.0);
        } else if let Some((_, count)) = others.iter_mut().find(|(known, _)| *known == state) {
            *count += 1;
        } else {
            others.push((state, 1));
        }
    });
    for (state, count) in others {
        let labels = [
            ("upstream", OTHERS),
            ("server", OTHERS),
            ("state", state.word()),
        ];
        emit(&labels, count as f64);
    }
}

#[cfg(test)]
mod tests {
    use narthex_config::model::{Server, ServerAddress, Upstream};

    use super::*;

    fn rendered(servers: usize) -> String {
        let fleet = Fleet::new(1);
        let mut upstream = Upstream::new("u");
        upstream.servers = (0..servers)
            .map(|n| {
                let address = ([127, 0, (n >> 8) as u8, n as u8], 80).into();
                Server::new(format!("s{n}"), ServerAddress::Ip(address))
            })
            .collect();
        fleet.reconcile(&[upstream]);
        let registry = Registry::new(1);
        collect(&registry, &fleet);
        let mut text = String::new();
        registry.render_prometheus(&mut text);
        text
    }

    #[test]
    fn every_server_has_its_series() {
        let text = rendered(2);
        for line in [
            "narthex_server_requests_total{server=\"s1\",upstream=\"u\"} 0",
            "narthex_server_state{server=\"s0\",state=\"up\",upstream=\"u\"} 1",
            "narthex_health_late_seconds 0",
            "narthex_server_waiting{server=\"s1\",upstream=\"u\"} 0",
            "narthex_server_wait_seconds_total{server=\"s0\",upstream=\"u\"} 0",
            "narthex_upstream_queue_timeouts_total{upstream=\"u\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains(OTHERS) && !text.contains("_limit{"));
    }

    #[test]
    fn too_many_servers_share_one() {
        let text = rendered(SERVERS_MAX + 5);
        let count = |what: &str| text.lines().filter(|l| l.starts_with(what)).count();
        assert_eq!(count("narthex_server_idle{"), SERVERS_MAX + 1);
        assert_eq!(count("narthex_server_waits_total{"), SERVERS_MAX + 1);
        let others = "narthex_server_state{server=\"others\",state=\"up\",upstream=\"others\"} 5";
        assert!(text.contains(others));
    }
}
