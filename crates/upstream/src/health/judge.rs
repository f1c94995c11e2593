//! Somebody who wants to know how a server is: an upstream, with its own idea of how often it must hear a thing.

use std::sync::Arc;

use narthex_config::model::HealthCheck;

use super::tally::{Failure, Tally};
use crate::cluster::Cluster;
use crate::endpoint::{Active, Endpoint};

/// One upstream's interest in a subject.
pub(super) struct Asker {
    pub(super) cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    tally: Tally,
    healthy: u32,
    unhealthy: u32,
}

impl Asker {
    /// What was known of the server, from another check or another process, holds until there is a verdict.
    pub(super) fn new(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        if endpoint.active() == Active::Unchecked {
            endpoint.set_active(cluster, Active::Unknown, None);
        }
        Self {
            tally: Tally::new(endpoint.active()),
            cluster: Arc::clone(cluster),
            endpoint: Arc::clone(endpoint),
            healthy: 1,
            unhealthy: 1,
        }
    }

    /// With these numbers.
    pub(super) fn with(mut self, health: &HealthCheck) -> Self {
        (self.healthy, self.unhealthy) = (health.healthy, health.unhealthy);
        self
    }

    pub(super) fn is(&self, cluster: u64, endpoint: u64) -> bool {
        self.cluster.id() == cluster && self.endpoint.id() == endpoint
    }

    /// Not asked for any more: what the checks said no longer counts.
    pub(super) fn end(&self) {
        if self.cluster.is_left() {
            // Another process looks after it; what we know is still the best we have.
            return;
        }
        self.endpoint
            .set_active(&self.cluster, Active::Unchecked, None);
    }

    pub(super) fn is_well(&self) -> bool {
        self.endpoint.active() == Active::Up
    }

    /// Is it down, with fewer good answers than this?
    pub(super) fn is_behind(&self, cluster: u64, successes: u32) -> bool {
        self.cluster.id() == cluster
            && is_down(self.endpoint.active())
            && self.tally.successes() < successes
    }

    /// Notes an answer. Says how many good ones in a row a server has given that is, or was, down.
    pub(super) fn note(&mut self, answer: Result<(), &Failure>) -> Option<u32> {
        let before = self.endpoint.active();
        let verdict = self.tally.note(answer, self.healthy, self.unhealthy);
        let reason = answer.err().map(Failure::words);
        if self.endpoint.set_active(&self.cluster, verdict, reason) {
            self.tell(is_down(before), verdict, reason.unwrap_or_default());
        }
        (is_down(before) && answer.is_ok()).then(|| self.tally.successes())
    }

    fn tell(&self, was_down: bool, verdict: Active, reason: &str) {
        let (upstream, server) = (self.cluster.name(), self.endpoint.name());
        match verdict {
            Active::Up if was_down => tracing::info!(
                upstream,
                server,
                "server is up: its health check succeeds again"
            ),
            Active::Up => {
                tracing::debug!(upstream, server, "server is up: its health check succeeds");
            }
            Active::Unwell | Active::Gone if !was_down => tracing::warn!(
                upstream,
                server,
                reason,
                "server is down: its health check fails"
            ),
            _ => {}
        }
    }
}

fn is_down(active: Active) -> bool {
    matches!(active, Active::Unwell | Active::Gone)
}
