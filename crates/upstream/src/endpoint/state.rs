//! A server's marks and counts as data, for a process that takes over from this one.

use std::sync::atomic::Ordering;

use narthex_config::model::ServerAddress;
use serde::{Deserialize, Serialize};

use super::{Active, Endpoint};
use crate::breaker::Breaker;

/// What is known of a server. Times are those of the machine's monotonic clock, which both processes read, except
/// where they are said to be Unix time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointState {
    /// As written.
    pub(crate) address: String,
    /// Where it is.
    pub(crate) target: String,
    active: u8,
    out_until: u64,
    trial: u8,
    returned: u64,
    breaker: Breaker,
    /// Unix milliseconds.
    since: u64,
    reason: String,
    ejections: u64,
    /// What, and when in Unix milliseconds.
    last_error: Option<(String, u64)>,
    pub(crate) counts: Counts,
}

/// What a server did since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) connects: u64,
}

impl Counts {
    /// What came after `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
            connects: self.connects.saturating_sub(earlier.connects),
        }
    }

    /// What was carried may be any number.
    fn plus(self, more: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(more.requests),
            failures: self.failures.saturating_add(more.failures),
            connects: self.connects.saturating_add(more.connects),
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// An address as an identity is compared across processes.
fn written(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Ip(address) => address.to_string(),
        ServerAddress::Unix(path) => format!("unix:{}", path.display()),
        ServerAddress::Dns { host, port } => format!("{host}:{port}"),
        ServerAddress::Srv { name, port: None } => format!("srv:{name}"),
        ServerAddress::Srv {
            name,
            port: Some(port),
        } => format!("srv:{name}:{port}"),
    }
}

impl Endpoint {
    /// What names this server in another process: its address as written, and where it is.
    pub(crate) fn names(&self) -> (String, String) {
        (
            written(&self.identity.address),
            self.identity.target.to_string(),
        )
    }

    pub(crate) fn export(&self) -> EndpointState {
        let record = self.record();
        let (address, target) = self.names();
        EndpointState {
            address,
            target,
            active: self.active.load(Ordering::Relaxed),
            out_until: self.out_until.load(Ordering::Relaxed),
            trial: self.trial.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
            breaker: record.breaker.clone(),
            since: record.since,
            reason: record.reason.clone(),
            ejections: record.ejections,
            last_error: record.last_error.clone(),
            counts: self.counts(),
        }
    }

    /// Takes over what another process knew. For a server that nobody uses yet. What checks said counts only if the server
    /// is `checked` here, too: nobody else would ever take it back.
    pub(crate) fn import(&self, state: &EndpointState, checked: bool) {
        let mut record = self.record();
        record.breaker.clone_from(&state.breaker);
        record.since = state.since;
        record.reason.clone_from(&state.reason);
        record.ejections = state.ejections;
        record.last_error.clone_from(&state.last_error);
        let active = if checked {
            Active::from_bits(state.active)
        } else {
            Active::Unchecked
        };
        self.active.store(active as u8, Ordering::Relaxed);
        self.returned.store(state.returned, Ordering::Relaxed);
        // A trial under way is the other process's; when its time is over, one of ours may be made.
        self.trial.store(state.trial.min(1), Ordering::Relaxed);
        self.out_until.store(state.out_until, Ordering::Release);
        drop(record);
        self.carry(state.counts);
    }

    /// Adds what another process has counted.
    pub(crate) fn carry(&self, counts: Counts) {
        let [requests, failures, connects] = &self.carried;
        requests.fetch_add(counts.requests, Ordering::Relaxed);
        failures.fetch_add(counts.failures, Ordering::Relaxed);
        connects.fetch_add(counts.connects, Ordering::Relaxed);
    }

    /// Since the start, over all cores and the processes before this one.
    pub(crate) fn counts(&self) -> Counts {
        let [requests, failures, connects] = &self.carried;
        let mut counts = Counts {
            requests: requests.load(Ordering::Relaxed),
            failures: failures.load(Ordering::Relaxed),
            connects: connects.load(Ordering::Relaxed),
        };
        for core in &self.cores {
            counts = counts.plus(Counts {
                requests: core.requests.load(Ordering::Relaxed),
                failures: core.failures.load(Ordering::Relaxed),
                connects: core.connects.load(Ordering::Relaxed),
            });
        }
        counts
    }
}
