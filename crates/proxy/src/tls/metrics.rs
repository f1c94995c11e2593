//! Metrics of handshakes with clients, per listener.

use narthex_observe::metrics::{Counter, Gauge, Histogram, Registry, Unit};

/// Why a handshake comes to nothing, as `net::tls` says it.
const REASONS: [&str; 15] = [
    "alpn",
    "busy",
    "certificate",
    "challenge",
    "client-certificate",
    "closed",
    "deadline",
    "hello-too-large",
    "incompatible",
    "io",
    "no-certificate",
    "not-tls",
    "peer-refused",
    "protocol",
    "unknown-name",
];

/// Of a listener with TLS.
pub(crate) struct HandshakeMetrics {
    full: Counter,
    resumed: Counter,
    failed: [(&'static str, Counter); REASONS.len()],
    pending: Gauge,
    duration: Histogram,
}

/// A handshake under way.
pub(crate) struct Pending<'m>(&'m Gauge, usize);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.add(self.1, -1);
    }
}

impl HandshakeMetrics {
    pub(crate) fn new(registry: &Registry, listener: &str) -> Self {
        let result = |result: &str| {
            registry.counter(
                "narthex_tls_handshakes_total",
                "TLS handshakes with clients, by listener and result: full, resumed, or why there is no connection.",
                &[("listener", listener), ("result", result)],
            )
        };
        Self {
            full: result("full"),
            resumed: result("resumed"),
            failed: REASONS.map(|reason| (reason, result(reason))),
            pending: registry.gauge(
                "narthex_tls_handshakes_pending",
                "TLS handshakes with clients under way.",
                &[("listener", listener)],
            ),
            duration: registry.histogram(
                "narthex_tls_handshake_duration_seconds",
                "From the first byte of a handshake with a client to its end.",
                &[("listener", listener)],
                Unit::Seconds,
            ),
        }
    }

    pub(crate) fn begin(&self, core: usize) -> Pending<'_> {
        self.pending.add(core, 1);
        Pending(&self.pending, core)
    }

    pub(crate) fn done(&self, core: usize, resumed: bool, micros: u64) {
        let counter = if resumed { &self.resumed } else { &self.full };
        counter.inc(core);
        self.duration.observe(core, micros);
    }

    /// Counts one that came to nothing.
    pub(crate) fn failed(&self, core: usize, reason: &str) {
        if let Some((_, counter)) = self.failed.iter().find(|(r, _)| *r == reason) {
            counter.inc(core);
        }
    }
}
