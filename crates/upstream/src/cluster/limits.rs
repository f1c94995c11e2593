//! What bounds all servers of an upstream together.

use std::sync::Arc;

use super::{Cluster, Settings};
use crate::gate::Gate;

impl Cluster {
    /// Sockets to all its servers. Counted with and without a limit.
    pub fn sockets(&self) -> &Arc<Gate> {
        &self.sockets
    }

    /// Requests at all its servers. Counted only where they are limited.
    pub fn places(&self) -> &Arc<Gate> {
        &self.places
    }

    pub(super) fn apply_limits(&self, settings: &Settings) {
        let queue = settings.connections.queue;
        self.sockets.set_limits(settings.connections.total, queue);
        self.places.set_limits(settings.requests.total, queue);
    }

    /// Idle connections to its servers, on all cores.
    pub(crate) fn idle(&self) -> u64 {
        let set = self.set.load();
        set.members.iter().map(|m| m.endpoint.idle()).sum()
    }

    /// The core, other than `but`, with most idle connections to servers of this upstream, if there is any.
    pub(crate) fn most_idle(&self, but: usize) -> Option<usize> {
        let set = self.set.load();
        let idle =
            |core: usize| -> u64 { set.members.iter().map(|m| m.endpoint.idle_on(core)).sum() };
        let cores = (0..self.cores).filter(|core| *core != but);
        cores
            .map(|core| (idle(core), core))
            .filter(|(n, _)| *n > 0)
            .max()
            .map(|(_, core)| core)
    }
}
