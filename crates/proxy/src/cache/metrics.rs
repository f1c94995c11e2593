//! What a cache is measured by: outcomes per route, written by the cores; what the store counts, read when the metrics are.

use std::sync::Arc;

use narthex_cache::Why;
use narthex_cache::store::{DiskStats, Stats, Store};
use narthex_observe::metrics::{Counter, Histogram, Kind, Registry, Unit};

use super::Shown;

/// Of a route with a cache.
pub(crate) struct CacheMetrics {
    /// By [`Shown::WORDS`].
    outcomes: [Counter; Shown::WORDS.len()],
    from_cache: Counter,
    from_origin: Counter,
    /// One for the process.
    fill: Histogram,
    /// By [`Why::ALL`]; one for the process.
    refused: Vec<Counter>,
}

impl CacheMetrics {
    pub(crate) fn new(registry: &Registry, site: &str, route: &str) -> Self {
        let bytes = |source| {
            registry.counter(
                "narthex_cache_body_bytes_total",
                "Body bytes sent by routes with a cache, by where they came from: the cache or the origin.",
                &[("site", site), ("route", route), ("source", source)],
            )
        };
        Self {
            outcomes: Shown::WORDS.map(|outcome| {
                registry.counter(
                    "narthex_cache_requests_total",
                    "Requests of routes with a cache, by how they were answered.",
                    &[("site", site), ("route", route), ("outcome", outcome)],
                )
            }),
            from_cache: bytes("cache"),
            from_origin: bytes("origin"),
            fill: registry.histogram(
                "narthex_cache_fill_duration_seconds",
                "From asking the origin to the last byte of what was stored, of fetches by a client.",
                &[],
                Unit::Seconds,
            ),
            refused: Why::ALL
                .map(|why| {
                    registry.counter(
                        "narthex_cache_not_stored_total",
                        "Answers of origins that were passed on without being stored, by the reason.",
                        &[("reason", why.word())],
                    )
                })
                .into(),
        }
    }

    /// Counts a request, the body bytes that its client got, and how long the origin took, in microseconds.
    pub(crate) fn ended(&self, core: usize, shown: Shown, body: u64, fetch_us: Option<u64>) {
        if let (Shown::Forwarded { stored: Ok(()), .. }, Some(micros)) = (shown, fetch_us) {
            self.fill.observe(core, micros);
        }
        let word = shown.word();
        let place = Shown::WORDS.iter().position(|known| *known == word);
        if let Some(counter) = place.and_then(|place| self.outcomes.get(place)) {
            counter.inc(core);
        }
        if shown.is_from_cache() {
            self.from_cache.add(core, body);
        } else {
            self.from_origin.add(core, body);
        }
        let place = shown
            .refused()
            .and_then(|refused| Why::ALL.iter().position(|why| *why == refused));
        if let Some(counter) = place.and_then(|place| self.refused.get(place)) {
            counter.inc(core);
        }
    }
}

type Figure = fn(&Stats) -> u64;

/// Names, helps and kinds of what the store counts.
const FIGURES: [(&str, &str, Kind, Figure); 14] = [
    (
        "narthex_cache_objects",
        "Objects in the cache.",
        Kind::Gauge,
        |stats| stats.objects as u64,
    ),
    (
        "narthex_cache_bytes",
        "Bytes of the cache, heads and bookkeeping included.",
        Kind::Gauge,
        |stats| stats.bytes,
    ),
    (
        "narthex_cache_memory_bytes",
        "Bytes that the cache may have.",
        Kind::Gauge,
        |stats| stats.memory,
    ),
    (
        "narthex_cache_fills",
        "Fetches under way whose head has not come.",
        Kind::Gauge,
        |stats| stats.fills as u64,
    ),
    (
        "narthex_cache_blocks",
        "Addresses that are blocked.",
        Kind::Gauge,
        |stats| stats.blocks as u64,
    ),
    (
        "narthex_cache_purge_records",
        "Purges whose records are kept until the sweeper has been everywhere.",
        Kind::Gauge,
        |stats| stats.purge_records as u64,
    ),
    (
        "narthex_cache_fetches_total",
        "Fetches begun for the cache.",
        Kind::Counter,
        |stats| stats.counts.leads,
    ),
    (
        "narthex_cache_collapsed_total",
        "Requests that waited for the fetch of another.",
        Kind::Counter,
        |stats| stats.counts.followers,
    ),
    (
        "narthex_cache_stored_total",
        "Objects that came whole.",
        Kind::Counter,
        |stats| stats.counts.stored,
    ),
    (
        "narthex_cache_cut_total",
        "Objects that did not come whole, and were taken out.",
        Kind::Counter,
        |stats| stats.counts.cuts,
    ),
    (
        "narthex_cache_evictions_total",
        "Objects that went for lack of room.",
        Kind::Counter,
        |stats| stats.counts.evictions,
    ),
    (
        "narthex_cache_evicted_bytes_total",
        "Bytes of the objects that went for lack of room.",
        Kind::Counter,
        |stats| stats.counts.evicted_bytes,
    ),
    (
        "narthex_cache_purges_total",
        "Purges.",
        Kind::Counter,
        |stats| stats.purges,
    ),
    (
        "narthex_cache_purged_total",
        "Objects that purges took out.",
        Kind::Counter,
        |stats| stats.counts.purged,
    ),
];

type OnDisk = fn(&DiskStats) -> u64;

/// The same of what is on disk; nothing is said of a cache without a directory.
const DISK_FIGURES: [(&str, &str, Kind, OnDisk); 13] = [
    (
        "narthex_cache_disk_objects",
        "Objects on disk that can be found.",
        Kind::Gauge,
        |stats| stats.objects,
    ),
    (
        "narthex_cache_disk_bytes",
        "Bytes of the cache's files.",
        Kind::Gauge,
        |stats| stats.bytes,
    ),
    (
        "narthex_cache_disk_size_bytes",
        "Bytes that they may have.",
        Kind::Gauge,
        |stats| stats.size,
    ),
    (
        "narthex_cache_disk_segments",
        "Files with objects.",
        Kind::Gauge,
        |stats| stats.segments,
    ),
    (
        "narthex_cache_disk_recovered",
        "1 if what was there at the start has been read.",
        Kind::Gauge,
        |stats| u64::from(stats.is_recovered),
    ),
    (
        "narthex_cache_disk_paused",
        "1 if nothing is written for a while, after errors.",
        Kind::Gauge,
        |stats| u64::from(stats.paused),
    ),
    (
        "narthex_cache_disk_hits_total",
        "Objects that were read instead of asking the origin.",
        Kind::Counter,
        |stats| stats.hits,
    ),
    (
        "narthex_cache_disk_admitted_total",
        "Objects that were found worth a write.",
        Kind::Counter,
        |stats| stats.admitted,
    ),
    (
        "narthex_cache_disk_written_total",
        "Objects that were written.",
        Kind::Counter,
        |stats| stats.written,
    ),
    (
        "narthex_cache_disk_skipped_total",
        "Reads and writes that were left out, since too many waited.",
        Kind::Counter,
        |stats| stats.skipped,
    ),
    (
        "narthex_cache_disk_dropped_segments_total",
        "Files that made room for new ones.",
        Kind::Counter,
        |stats| stats.dropped,
    ),
    (
        "narthex_cache_disk_errors_total",
        "Reads and writes that failed.",
        Kind::Counter,
        |stats| stats.errors,
    ),
    (
        "narthex_cache_disk_corrupt_total",
        "Records that were not what was written, and were not used.",
        Kind::Counter,
        |stats| stats.corrupt,
    ),
];

/// Registers all of it.
pub(crate) fn collect(registry: &Registry, store: &Arc<Store>) {
    for (name, help, kind, read) in DISK_FIGURES {
        let store = Arc::clone(store);
        registry.collect(name, help, kind, move |emit| {
            if let Some(stats) = store.disk() {
                emit(&[], read(&stats) as f64);
            }
        });
    }
    for (name, help, kind, read) in FIGURES {
        let store = Arc::clone(store);
        registry.collect(name, help, kind, move |emit| {
            emit(&[], read(&store.stats()) as f64);
        });
    }
}
