//! Response times as one core sees them, on their way to the limit that follows them.

use std::cell::Cell;

use narthex_net::rt;

use crate::adaptive::Samples;
use crate::cluster::Cluster;

/// A core brings what it has seen this often, in milliseconds: the lock of the limit is not taken per request.
const EVERY_MS: u64 = 50;
/// What has lain about for longer says nothing of now.
const STALE_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Sampler {
    samples: Cell<Samples>,
    /// When they are brought (monotonic ms).
    due: Cell<u64>,
}

impl Sampler {
    /// The head of a response came after so many microseconds.
    pub(super) fn add(&self, cluster: &Cluster, us: u64) {
        let now = rt::now_ms();
        let mut samples = self.samples.take();
        if now > self.due.get().saturating_add(STALE_MS) {
            samples = Samples::default();
        }
        // And this one, whose place has been given back.
        samples.add(us, cluster.places().used().saturating_add(1));
        if now >= self.due.get() {
            cluster.fold(&samples, now);
            samples = Samples::default();
            self.due.set(now.saturating_add(EVERY_MS));
        }
        self.samples.set(samples);
    }
}
