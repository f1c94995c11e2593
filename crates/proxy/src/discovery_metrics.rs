//! How the sources of servers fare, read when the metrics are.

use std::sync::Arc;

use narthex_observe::metrics::{Emit, Kind, Registry};
use narthex_upstream::{Fleet, SourceStatus};

/// Sources with series of their own; those after them have none.
const SOURCES_MAX: usize = 2_000;

type Figure = fn(&SourceStatus) -> f64;

const FIGURES: [(&str, &str, Figure); 3] = [
    (
        "narthex_discovery_up",
        "1 if the last word of a source of servers was a good one.",
        |s| f64::from(u8::from(s.up)),
    ),
    (
        "narthex_discovery_age_seconds",
        "For how long the servers of a source have been out of date; 0 while it is up.",
        |s| s.age_ms as f64 / 1_000.0,
    ),
    (
        "narthex_discovery_servers",
        "Entries that a source has now.",
        |s| s.servers as f64,
    ),
];

/// Registers all of it.
pub(crate) fn collect(registry: &Registry, fleet: &Arc<Fleet>) {
    for (name, help, read) in FIGURES {
        let fleet = Arc::clone(fleet);
        registry.collect(name, help, Kind::Gauge, move |emit| {
            each(&fleet, |upstream, source| {
                let labels = [("upstream", upstream), ("source", source.source.as_str())];
                emit(&labels, read(source));
            });
        });
    }
    let fleet = Arc::clone(fleet);
    registry.collect(
        "narthex_discovery_skipped_total",
        "Entries of a source that were left out, by reason.",
        Kind::Counter,
        move |emit| each(&fleet, |upstream, source| skipped(upstream, source, emit)),
    );
}

fn each(fleet: &Fleet, mut visit: impl FnMut(&str, &SourceStatus)) {
    let mut seen = 0;
    for cluster in fleet.clusters() {
        for source in cluster.sources() {
            if seen == SOURCES_MAX {
                return;
            }
            seen += 1;
            visit(cluster.name(), &source);
        }
    }
}

fn skipped(upstream: &str, source: &SourceStatus, emit: &mut Emit<'_>) {
    for (reason, entries) in &source.skipped {
        let labels = [
            ("upstream", upstream),
            ("source", source.source.as_str()),
            ("reason", *reason),
        ];
        emit(&labels, *entries as f64);
    }
}
