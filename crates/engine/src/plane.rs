//! The data plane as the engine sees it, and what of it the status shows.

use std::sync::Arc;

pub use narthex_proxy::{BuildError, CoreProxy, Holding, Runtime, Shared, Stage};
use narthex_upstream::{EndpointStatus, run_checks};

use crate::command::{MemoryStatus, ServerStatus, UpstreamStatus};

/// Starts what runs beside the requests on the control core: health checks.
pub(crate) fn background(shared: &Arc<Shared>) {
    narthex_net::rt::spawn(run_checks(Arc::clone(shared.fleet())));
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
    let all = shared.fleet().status().into_iter();
    all.map(|cluster| UpstreamStatus {
        name: cluster.name,
        servers: cluster.endpoints.into_iter().map(server).collect(),
    })
    .collect()
}

fn server(endpoint: EndpointStatus) -> ServerStatus {
    ServerStatus {
        name: endpoint.name,
        address: endpoint.address,
        state: endpoint.state.word().to_owned(),
        since: endpoint.since / 1000,
        in_flight: endpoint.in_flight,
        waiting: endpoint.waiting,
        connections: endpoint.sockets,
        requests: endpoint.requests,
        failures: endpoint.failures,
        last_error: endpoint.last_error.map(|(what, _)| what),
    }
}
