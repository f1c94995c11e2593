//! Where a source puts what it has to say: into its upstream, the log and the counters.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use super::delta::Delta;
use super::srv::Place;
use super::thread::Progress;
use crate::cluster::Cluster;
use crate::cluster::found::Origin;

/// Entries that are named in the log at once; more are counted.
const NAMED: usize = 20;
/// Entries that are remembered as named.
const REMEMBERED: usize = 10_000;

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Skipped {
    /// A word for the counter.
    pub(super) reason: &'static str,
    /// Which one.
    pub(super) entry: String,
    /// What is wrong with it.
    pub(super) why: String,
}

/// The way from one source to one upstream.
pub(super) struct Sink {
    cluster: Weak<Cluster>,
    upstream: String,
    origin: Origin,
    label: String,
    progress: Arc<Progress>,
    /// What was left out at the last look.
    left_out: HashSet<Skipped>,
}

impl Sink {
    pub(super) fn new(cluster: &Arc<Cluster>, origin: Origin, progress: Arc<Progress>) -> Self {
        Self {
            cluster: Arc::downgrade(cluster),
            upstream: cluster.name().to_owned(),
            label: origin.label(),
            origin,
            progress,
            left_out: HashSet::new(),
        }
    }

    /// What a list says. Says also that the source works.
    pub(super) fn take(&mut self, delta: Delta) {
        let (Some(cluster), Origin::List(spec)) = (self.cluster.upgrade(), &self.origin) else {
            return;
        };
        let applied = cluster.found(spec, delta);
        let (upstream, source) = (&self.upstream, &self.label);
        if applied.is_change() {
            tracing::info!(
                upstream,
                source,
                added = applied.added,
                removed = applied.removed,
                changed = applied.changed,
                "servers found"
            );
        }
        if applied.skipped > 0 {
            let entries = applied.skipped;
            tracing::warn!(upstream, source, entries, "too many: these are left out");
        }
        self.well();
    }

    /// What the name stood for when somebody looked last: we ourselves, or another process.
    pub(super) fn before(&self) -> Vec<Place> {
        match (self.cluster.upgrade(), &self.origin) {
            (Some(cluster), Origin::Name(name)) => cluster.places_of(name),
            _ => Vec::new(),
        }
    }

    /// What a name stands for.
    pub(super) fn places(&mut self, places: Vec<Place>) {
        let (Some(cluster), Origin::Name(name)) = (self.cluster.upgrade(), &self.origin) else {
            return;
        };
        let addresses: Vec<_> = places.iter().map(|p| p.address).collect();
        if cluster.resolved(name, places) {
            let (upstream, source) = (&self.upstream, &self.label);
            tracing::info!(upstream, source, ?addresses, "servers found by name");
        }
    }

    /// Everything that is left out now. What is new in it is named and counted.
    pub(super) fn left_out(&mut self, now: Vec<Skipped>) {
        let new: Vec<&Skipped> = now.iter().filter(|s| !self.left_out.contains(s)).collect();
        let (upstream, source) = (&self.upstream, &self.label);
        for skipped in new.iter().take(NAMED) {
            let Skipped { reason, entry, why } = skipped;
            tracing::warn!(
                upstream,
                source,
                entry,
                reason,
                why,
                "this entry is left out"
            );
        }
        if new.len() > NAMED {
            let entries = new.len() - NAMED;
            tracing::warn!(
                upstream,
                source,
                entries,
                "so many more entries are left out"
            );
        }
        self.fares(|condition| {
            for skipped in &new {
                condition.skipped(skipped.reason, 1);
            }
        });
        self.left_out = now.into_iter().take(REMEMBERED).collect();
    }

    /// The source works.
    pub(super) fn well(&mut self) {
        let first = self.fares(|condition| !condition.is_answered());
        if self.fares(|condition| condition.set(None)) == Some(true) && first == Some(false) {
            let (upstream, source) = (&self.upstream, &self.label);
            tracing::info!(upstream, source, "the source of servers works again");
        }
        self.progress.ring();
    }

    /// The source fails; what it said last is kept.
    pub(super) fn lost(&mut self, why: &str) {
        if self.fares(|condition| condition.set(Some(why.to_owned()))) == Some(true) {
            let (upstream, source) = (&self.upstream, &self.label);
            tracing::warn!(
                upstream,
                source,
                reason = why,
                "the source of servers fails; the last known servers are kept"
            );
        }
        self.progress.ring();
    }

    fn fares<T>(
        &self,
        change: impl FnOnce(&mut crate::cluster::found::Condition) -> T,
    ) -> Option<T> {
        self.cluster.upgrade()?.fares(&self.origin, change)
    }
}
