//! What bounds all servers of an upstream together.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, MutexGuard, PoisonError};

use narthex_config::model::{Adaptive, UpstreamRequests};

use super::{Cluster, Settings};
use crate::adaptive::{Bounds, Limiter, Samples};
use crate::clock::monotonic_ms;
use crate::gate::{Gate, QueueFigures};

/// What there is to see of a limit that follows the response times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundLimit {
    /// Requests that may be under way now.
    pub limit: u64,
    /// Requests that are.
    pub used: u64,
    /// How long a response's head took lately, and takes at best, in microseconds; 0: nothing was seen yet.
    pub pace_us: u64,
    /// See [`FoundLimit::pace_us`].
    pub best_us: u64,
}

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
        let requests = &settings.requests;
        let mut limiter = self.limiter();
        match (&requests.adaptive, &mut *limiter) {
            (None, limiter) => *limiter = None,
            (Some(adaptive), Some(limiter)) => limiter.set_bounds(bounds(adaptive)),
            (Some(adaptive), limiter) => {
                *limiter = Some(Limiter::new(bounds(adaptive), monotonic_ms()));
            }
        }
        self.places
            .set_limits(lower_of(requests, limiter.as_ref()), queue);
    }

    /// Takes what a core has seen of the response times; `now` in monotonic milliseconds.
    pub(crate) fn fold(&self, samples: &Samples, now: u64) {
        let settings = self.settings.load();
        let mut limiter = self.limiter();
        let Some(found) = &mut *limiter else { return };
        found.fold(samples, now, RandomState::new().hash_one(now));
        let max = lower_of(&settings.requests, Some(found));
        if max != self.places.max() {
            self.places.set_max(max);
        }
    }

    /// The limit that follows the response times, where there is one.
    pub fn found_limit(&self) -> Option<FoundLimit> {
        let limiter = self.limiter();
        limiter.as_ref().map(|found| FoundLimit {
            limit: self.places.max() as u64,
            used: self.places.used() as u64,
            pace_us: found.pace_us(),
            best_us: found.best_us(),
        })
    }

    /// Its own queues, not those of its servers: of those who wait for a socket, and for a place among its requests.
    pub fn queue(&self) -> QueueFigures {
        self.sockets.figures() + self.places.figures()
    }

    fn limiter(&self) -> MutexGuard<'_, Option<Limiter>> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
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

fn bounds(adaptive: &Adaptive) -> Bounds {
    Bounds {
        min: adaptive.min,
        max: adaptive.max,
        tolerance: adaptive.tolerance,
    }
}

/// The limit of requests: the one that is written or the one that was found, whichever is lower.
fn lower_of(requests: &UpstreamRequests, found: Option<&Limiter>) -> usize {
    match (requests.total, found) {
        (total, None) => total,
        (0, Some(found)) => found.limit(),
        (total, Some(found)) => total.min(found.limit()),
    }
}
