//! The data plane as the engine sees it, and what of it the status shows.

use std::sync::Arc;

pub use narthex_proxy::{BuildError, CoreProxy, Holding, Runtime, Shared, Stage};
use narthex_upstream::{Cluster, Member, order_word, run_checks, run_outliers};

use crate::command::{LimitStatus, MemoryStatus, ServerStatus, UpstreamStatus};

/// Starts what runs beside the requests on the control core: health checks, and the judgement of a server by the others.
pub(crate) fn background(shared: &Arc<Shared>) {
    narthex_net::rt::spawn(run_checks(Arc::clone(shared.fleet())));
    narthex_net::rt::spawn(run_outliers(Arc::clone(shared.fleet())));
}

/// What the memory cap is about.
pub(crate) fn memory(shared: &Shared) -> MemoryStatus {
    let memory = shared.memory();
    MemoryStatus {
        cap: memory.cap(),
        resident: crate::shed::resident().unwrap_or(0),
        buffered: memory.buffered(),
        stage: memory.stage().word(),
    }
}

/// Every upstream with its servers.
pub(crate) fn upstreams(shared: &Shared) -> Vec<UpstreamStatus> {
    let all = shared.fleet().clusters();
    all.iter().map(|cluster| shown(cluster)).collect()
}

/// One of them.
pub(crate) fn upstream(shared: &Shared, name: &str) -> Option<UpstreamStatus> {
    shared.fleet().named(name).map(|cluster| shown(&cluster))
}

fn shown(cluster: &Cluster) -> UpstreamStatus {
    // Read first: who changes what he has not seen is told so.
    let tag = crate::change::tag(cluster, cluster.version());
    UpstreamStatus {
        name: cluster.name().to_owned(),
        tag,
        limit: cluster.found_limit().map(|found| LimitStatus {
            limit: found.limit,
            used: found.used,
            rtt_us: found.pace_us,
            best_rtt_us: found.best_us,
        }),
        waiting: cluster.queue().waiting,
        servers: cluster.set().members.iter().map(server).collect(),
    }
}

fn server(member: &Member) -> ServerStatus {
    let endpoint = member.endpoint.status();
    ServerStatus {
        order: order_word(member.endpoint.order()),
        weight: member.weight,
        backup: member.backup,
        priority: member.priority,
        zone: member.zone.as_deref().map(str::to_owned),
        idle: endpoint.idle,
        name: endpoint.name,
        address: endpoint.address,
        state: endpoint.state.word().to_owned(),
        since: endpoint.since / 1000,
        reason: endpoint.reason,
        in_flight: endpoint.in_flight,
        waiting: endpoint.waiting,
        connections: endpoint.sockets,
        requests: endpoint.requests,
        failures: endpoint.failures,
        last_error: endpoint.last_error.map(|(what, _)| what),
    }
}
