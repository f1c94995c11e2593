//! What a configuration becomes: [`Runtime`], immutable, swapped whole; and [`Shared`], what outlives every reload.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use narthex_cache::Store;
use narthex_config::model::{self, Config};
use narthex_filter::chain::Chain;
use narthex_net::balance::Balance;
use narthex_net::client_count::ClientCounts;
use narthex_observe::access_log::{LogSink, LogTarget};
use narthex_observe::metrics::Registry;
use narthex_route::Router;
use narthex_upstream::{Cluster, Fleet};
use narthex_wire::h1::scan::HeadLimits;

use crate::cache::{self, CacheMetrics};
use crate::late::Peaks;
use crate::logging;
use crate::metrics::{GlobalMetrics, ListenerMetrics, RouteMetrics};
use crate::relay::Bounds;
use crate::shed::{Memory, Stage};
use crate::tls::{self, Refreshed, Tables, TlsShared};
use crate::{discovery_metrics, fleet_metrics};

/// Clients counted apart at the same time; beyond it a new client's connections count for nobody.
const CLIENTS_MAX: usize = 1_000_000;

/// What outlives every reload, keyed by identity: upstreams with their health and counters, metrics, log writers,
/// connection counts.
pub struct Shared {
    cores: usize,
    registry: Registry,
    fleet: Arc<Fleet>,
    /// By client, on all listeners that have no limit of their own.
    pub(crate) clients: Arc<ClientCounts>,
    balance: Arc<Balance>,
    sinks: Arc<Mutex<HashMap<String, LogSink>>>,
    /// Addresses of listeners, in the order they were first seen: a connection keeps its listener's place in this list
    /// across reloads.
    listener_ids: Mutex<Vec<(model::Address, Door)>>,
    pub(crate) metrics: GlobalMetrics,
    ready: AtomicBool,
    memory: Memory,
    tls: Arc<TlsShared>,
    pub(crate) lateness: Arc<Peaks>,
    pub(crate) cache: Arc<Store>,
    /// Another process has the clients, and the cache.
    pub(crate) handed_over: AtomicBool,
}

impl Shared {
    /// For `cores` data cores, numbered from 0.
    pub fn new(cores: usize) -> Arc<Self> {
        let registry = Registry::new(cores);
        let sinks: Arc<Mutex<HashMap<String, LogSink>>> = Arc::default();
        collect_log_figures(&registry, &sinks);
        let fleet = Fleet::new(cores);
        fleet_metrics::collect(&registry, &fleet);
        discovery_metrics::collect(&registry, &fleet);
        let cache = Store::new(model::CacheStore::default().memory);
        cache::collect(&registry, &cache);
        Arc::new(Self {
            cores,
            metrics: GlobalMetrics::new(&registry),
            fleet,
            clients: ClientCounts::new(CLIENTS_MAX),
            balance: Balance::new(cores),
            sinks,
            listener_ids: Mutex::default(),
            ready: AtomicBool::new(false),
            memory: Memory::new(&registry),
            tls: TlsShared::new(&registry),
            lateness: Peaks::new(cores, &registry),
            cache,
            handed_over: AtomicBool::new(false),
            registry,
        })
    }

    /// Data cores.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Every metric of the process.
    pub fn metrics(&self) -> &Registry {
        &self.registry
    }

    /// Every upstream of the process.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Connections per core.
    pub fn balance(&self) -> &Arc<Balance> {
        &self.balance
    }

    /// Keys of tickets, challenges of certificate authorities, certificates that were obtained.
    pub fn tls(&self) -> &Arc<TlsShared> {
        &self.tls
    }

    /// What the readiness endpoint says.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Ready, and not shedding load?
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !self.is_shedding()
    }

    /// The memory cap, and what is done about it.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Over the memory cap?
    pub fn is_shedding(&self) -> bool {
        self.memory.stage() > Stage::Calm
    }

    /// Reopens every log file (after rotation).
    pub fn reopen_logs(&self) {
        for sink in self
            .sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            sink.reopen();
        }
    }

    /// Waits until what the cores handed over is written.
    pub fn flush_logs(&self, patience: Duration) {
        for sink in self
            .sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            sink.flush(patience);
        }
    }

    /// A listener's place in the list, and the counts of its open connections.
    fn listener(&self, address: &model::Address) -> (u32, Door) {
        let mut known = self
            .listener_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let at = known
            .iter()
            .position(|(a, _)| a == address)
            .unwrap_or_else(|| {
                known.push((address.clone(), Door::new()));
                known.len() - 1
            });
        (
            at as u32,
            known
                .get(at)
                .map_or_else(Door::new, |(_, door)| door.clone()),
        )
    }

    fn sink(&self, log: &model::AccessLog) -> Result<LogSink, BuildError> {
        let key = format!("{:?}", log.target);
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = sinks.get(&key) {
            return Ok(sink.clone());
        }
        let target = match &log.target {
            model::LogTarget::Stdout => LogTarget::Stdout,
            model::LogTarget::Stderr => LogTarget::Stderr,
            model::LogTarget::File(path) => LogTarget::File(path.clone()),
        };
        let sink =
            LogSink::open(target, log.buffer, log.flush).map_err(|source| BuildError::Log {
                target: key.clone(),
                source,
            })?;
        sinks.insert(key, sink.clone());
        Ok(sink)
    }
}

fn collect_log_figures(registry: &Registry, sinks: &Arc<Mutex<HashMap<String, LogSink>>>) {
    let families: [(&str, &str, fn(&LogSink) -> u64); 2] = [
        (
            "narthex_access_log_dropped_total",
            "Access-log records that were not written.",
            LogSink::dropped,
        ),
        (
            "narthex_access_log_errors_total",
            "Failed writes of access logs.",
            LogSink::errors,
        ),
    ];
    for (name, help, read) in families {
        let sinks = Arc::clone(sinks);
        registry.collect(
            name,
            help,
            narthex_observe::metrics::Kind::Counter,
            move |emit| {
                for (target, sink) in sinks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    emit(&[("log", target)], read(sink) as f64);
                }
            },
        );
    }
}

/// Why a checked configuration cannot run here and now.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A log file cannot be opened.
    #[error("cannot open the access log {target}: {source}; check the path and its permissions")]
    Log {
        /// The target as configured.
        target: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The router refused; the check should have found it.
    #[error("routes: {0}")]
    Router(String),
    /// Certificates, keys or CAs cannot be used.
    #[error("{}:{}: {problem}", .origin.file, .origin.line)]
    Tls {
        /// Where the site or listener was written.
        origin: model::Origin,
        /// What is wrong, and what to do.
        problem: narthex_net::tls::Problem,
    },
    /// More than 65,536 of them on one listener.
    #[error("a listener has more TLS policies than can be told apart; let sites share CA bundles")]
    Policies,
    /// A filter refused; the check should have found it.
    #[error("filters: {0}")]
    Filter(String),
}

/// A configuration, ready to serve.
pub struct Runtime {
    pub(crate) config: Arc<Config>,
    pub(crate) router: Router,
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) listeners: Vec<ListenerPlan>,
    pub(crate) sites: Vec<SitePlan>,
    pub(crate) logs: Vec<(LogSink, Arc<logging::LogPlan>)>,
    pub(crate) tls: Tables,
    /// How the line begins that names a request.
    pub(crate) id_start: Box<[u8]>,
}

/// Who is inside by a listener.
#[derive(Clone)]
pub(crate) struct Door {
    /// Its connections, if their number is bounded.
    pub(crate) open: Arc<AtomicUsize>,
    /// Its connections by client, if it has a limit of its own for them.
    pub(crate) clients: Arc<ClientCounts>,
}

impl Door {
    fn new() -> Self {
        Self {
            open: Arc::default(),
            clients: ClientCounts::new(CLIENTS_MAX),
        }
    }
}

/// A listener as the data path uses it.
pub(crate) struct ListenerPlan {
    /// The same for the same address in every configuration.
    pub(crate) id: u32,
    /// Survives reloads.
    pub(crate) door: Door,
    pub(crate) head_limits: HeadLimits,
    pub(crate) bounds: Bounds,
    pub(crate) header_ms: u64,
    pub(crate) keep_alive_ms: u64,
    pub(crate) max_age_ms: u64,
    pub(crate) linger_ms: u64,
    pub(crate) linger_bytes: u64,
    /// HTTP/1 is spoken.
    pub(crate) h1: bool,
    pub(crate) metrics: ListenerMetrics,
}

/// A site as the data path uses it.
pub(crate) struct SitePlan {
    pub(crate) routes: Vec<RoutePlan>,
    /// What the site's requests without a route count as.
    pub(crate) no_route: RouteMetrics,
    /// `Strict-Transport-Security`.
    pub(crate) hsts: Option<String>,
}

/// A route as the data path uses it.
pub(crate) struct RoutePlan {
    pub(crate) chain: Chain,
    pub(crate) metrics: RouteMetrics,
    /// Of a route with a cache.
    pub(crate) cache: Option<CacheMetrics>,
}

impl Runtime {
    /// Builds everything; changes nothing that serves but the set of known upstreams.
    pub fn build(config: Arc<Config>, shared: &Arc<Shared>) -> Result<Arc<Self>, BuildError> {
        let router = Router::build(&config).map_err(|e| BuildError::Router(e.to_string()))?;
        let mut logs = Vec::with_capacity(config.access_logs.len());
        for log in &config.access_logs {
            logs.push((shared.sink(log)?, Arc::new(logging::LogPlan::of(log))));
        }
        let sites = config
            .sites
            .iter()
            .map(|site| SitePlan::build(site, shared))
            .collect::<Result<_, _>>()?;
        let listeners = config
            .listeners
            .iter()
            .map(|l| ListenerPlan::build(l, shared))
            .collect();
        let tls = Tables::build(&config, &shared.tls, &shared.registry)?;
        shared
            .fleet
            .encrypt(tls::encryptions(&config, &shared.fleet)?);
        shared.cache.set_memory(config.cache.memory);
        shared.fleet.set_zone(config.zone.as_deref());
        shared.fleet.resolve_at(&config.resolver);
        let clusters = shared.fleet.reconcile(&config.upstreams);
        let id_start = [config.request_id.header.as_bytes(), b": "].concat().into();
        let runtime = Arc::new(Self {
            config,
            router,
            clusters,
            listeners,
            sites,
            logs,
            tls,
            id_start,
        });
        shared.tls.serves(&runtime);
        Ok(runtime)
    }

    /// Looks whether files of certificates have changed, and shows what they hold now to new connections. Reads files: not for a
    /// core.
    pub(crate) fn refresh_certificates(&self) -> Vec<Refreshed> {
        self.tls.refresh(&self.config)
    }

    /// The configuration that this was built from.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The matcher of the data path.
    pub fn router(&self) -> &Router {
        &self.router
    }
}

impl SitePlan {
    fn build(site: &model::Site, shared: &Shared) -> Result<Self, BuildError> {
        let routes = site
            .routes
            .iter()
            .map(|route| {
                Ok(RoutePlan {
                    chain: Chain::build(&route.filters)
                        .map_err(|e| BuildError::Filter(e.to_string()))?,
                    metrics: RouteMetrics::new(&shared.registry, &site.name, &route.name),
                    cache: route
                        .settings
                        .cache
                        .as_ref()
                        .map(|_| CacheMetrics::new(&shared.registry, &site.name, &route.name)),
                })
            })
            .collect::<Result<_, BuildError>>()?;
        Ok(Self {
            routes,
            no_route: RouteMetrics::new(&shared.registry, &site.name, "none"),
            hsts: site.hsts.as_ref().map(tls::hsts::value),
        })
    }
}

impl ListenerPlan {
    fn build(listener: &model::Listener, shared: &Shared) -> Self {
        let (limits, t) = (&listener.limits, &listener.timeouts);
        let (id, door) = shared.listener(&listener.address);
        Self {
            id,
            door,
            head_limits: HeadLimits {
                line: limits.request_line,
                field: limits.field,
                head: limits.head,
                fields: limits.fields,
            },
            bounds: Bounds {
                client_body_idle: millis(t.body_idle),
                client_send_idle: millis(t.send_idle),
                min_rate: t.min_rate,
                min_rate_after: millis(t.min_rate_after),
                informational: limits.informational as u32,
                chunk_extension: limits.chunk_extension,
                response_limits: HeadLimits {
                    line: limits.response_head,
                    field: limits.response_head,
                    head: limits
                        .response_head
                        .saturating_add(limits.response_fields * 32),
                    fields: limits.response_fields,
                },
                trailer_limits: HeadLimits {
                    line: 0,
                    field: limits.trailers,
                    head: limits.trailers.saturating_add(limits.trailer_fields * 32),
                    fields: limits.trailer_fields,
                },
            },
            header_ms: millis(t.header),
            keep_alive_ms: millis(t.keep_alive),
            max_age_ms: millis(listener.connections.max_age),
            linger_ms: millis(t.linger),
            linger_bytes: t.linger_bytes,
            h1: listener.protocols.contains(&model::Protocol::Http1),
            metrics: ListenerMetrics::new(&shared.registry, &listener.name),
        }
    }
}

/// Whole milliseconds.
pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
