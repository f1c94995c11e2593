//! The data path's metrics: counters with one writer per core, registered once per name and kept across reloads.

use narthex_config::model::Priority;
use narthex_observe::metrics::{Counter, Gauge, Histogram, Registry, Unit};

/// Of a route: requests by status class, and how long they took.
pub(crate) struct RouteMetrics {
    classes: [Counter; 6],
    pub(crate) duration: Histogram,
}

impl RouteMetrics {
    pub(crate) fn new(registry: &Registry, site: &str, route: &str) -> Self {
        let class = |code: &str| {
            registry.counter(
                "narthex_requests_total",
                "Requests, by site, route and status class.",
                &[("site", site), ("route", route), ("code", code)],
            )
        };
        Self {
            classes: [
                class("none"),
                class("1xx"),
                class("2xx"),
                class("3xx"),
                class("4xx"),
                class("5xx"),
            ],
            duration: registry.histogram(
                "narthex_request_duration_seconds",
                "From the first byte of a request to the last of its response.",
                &[("site", site), ("route", route)],
                Unit::Seconds,
            ),
        }
    }

    /// Counts a request.
    pub(crate) fn ended(&self, core: usize, status: u16, micros: u64) {
        if let Some(counter) = self
            .classes
            .get(usize::from(status / 100))
            .or(self.classes.first())
        {
            counter.inc(core);
        }
        self.duration.observe(core, micros);
    }
}

/// Of an upstream, per core handle.
pub(crate) struct UpstreamMetrics {
    pub(crate) duration: Histogram,
    pub(crate) retries: Counter,
    /// Where there are any.
    pub(crate) hedges: Option<HedgeMetrics>,
}

/// How a second attempt beside a slow first one ended, once it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HedgeEnd {
    /// It answered first, or was the one that was left.
    Won,
    /// The first answered before it.
    Lost,
    /// It could not be made, or died.
    Failed,
    /// The client left, or memory ran short.
    Abandoned,
    /// It was not made: its share was used up.
    OverBudget,
    /// It was not made: no other server is well.
    NoServer,
}

impl HedgeEnd {
    const ALL: [(Self, &str); 6] = [
        (Self::Won, "won"),
        (Self::Lost, "lost"),
        (Self::Failed, "failed"),
        (Self::Abandoned, "abandoned"),
        (Self::OverBudget, "over-budget"),
        (Self::NoServer, "no-server"),
    ];
}

/// Of an upstream that hedges.
pub(crate) struct HedgeMetrics([(HedgeEnd, Counter); HedgeEnd::ALL.len()]);

impl HedgeMetrics {
    fn new(registry: &Registry, upstream: &str) -> Self {
        Self(HedgeEnd::ALL.map(|(end, result)| {
            let labels = [("upstream", upstream), ("result", result)];
            let counter = registry.counter(
                "narthex_hedges_total",
                "Second attempts that were due beside a slow first one, by how they ended; over-budget and no-server were not made.",
                &labels,
            );
            (end, counter)
        }))
    }

    /// Counts one.
    pub(crate) fn ended(&self, core: usize, end: HedgeEnd) {
        if let Some((_, counter)) = self.0.iter().find(|(e, _)| *e == end) {
            counter.inc(core);
        }
    }
}

impl UpstreamMetrics {
    pub(crate) fn new(registry: &Registry, upstream: &str, hedges: bool) -> Self {
        let labels = [("upstream", upstream)];
        Self {
            hedges: hedges.then(|| HedgeMetrics::new(registry, upstream)),
            duration: registry.histogram(
                "narthex_upstream_duration_seconds",
                "From the start of the last attempt to the end of its response.",
                &labels,
                Unit::Seconds,
            ),
            retries: registry.counter(
                "narthex_upstream_retries_total",
                "Attempts after the first.",
                &labels,
            ),
        }
    }
}

/// Of a listener.
pub(crate) struct ListenerMetrics {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
}

impl ListenerMetrics {
    pub(crate) fn new(registry: &Registry, listener: &str) -> Self {
        let labels = [("listener", listener)];
        Self {
            accepted: registry.counter(
                "narthex_connections_accepted_total",
                "Client connections accepted.",
                &labels,
            ),
            refused: registry.counter(
                "narthex_connections_refused_total",
                "Client connections closed at once, by a limit or for want of a PROXY header.",
                &labels,
            ),
        }
    }
}

/// Of the process.
pub(crate) struct GlobalMetrics {
    pub(crate) connections: Gauge,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    /// Refused because the core is late: `low` and `normal`.
    shed: [Counter; 2],
    registry: Registry,
}

impl GlobalMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            connections: registry.gauge(
                "narthex_connections",
                "Client connections that are open.",
                &[],
            ),
            bytes_in: registry.counter(
                "narthex_request_body_bytes_total",
                "Request body bytes taken from clients.",
                &[],
            ),
            bytes_out: registry.counter(
                "narthex_response_bytes_total",
                "Response bytes given to clients.",
                &[],
            ),
            shed: ["low", "normal"].map(|priority| {
                registry.counter(
                    "narthex_shed_total",
                    "Requests refused because their core was late, by priority.",
                    &[("priority", priority)],
                )
            }),
            registry: registry.clone(),
        }
    }

    /// Counts a request that was refused because its core is late.
    pub(crate) fn shed(&self, core: usize, priority: Priority) {
        let [low, normal] = &self.shed;
        match priority {
            Priority::High => {}
            Priority::Normal => normal.inc(core),
            Priority::Low => low.inc(core),
        }
    }

    /// The counter of a reason word.
    pub(crate) fn failures(&self, reason: &'static str, fault: &'static str) -> Counter {
        self.registry.counter(
            "narthex_failures_total",
            "Requests that did not end well, by reason and whose fault it was.",
            &[("reason", reason), ("fault", fault)],
        )
    }
}
