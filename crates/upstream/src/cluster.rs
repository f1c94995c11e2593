//! One upstream, as the whole process sees it: its settings, its present set of servers, and what both derive from. How
//! the set is made is in [`set`], what it is made of beside what is written in [`found`], what bounds all its servers
//! together in [`limits`].

pub(crate) mod change;
pub(crate) mod found;
mod limits;
pub(crate) mod overlay;
mod set;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use narthex_config::model::{
    Balance, Eject, HealthCheck, Hedge, Ranks, Retry, Server, SlowStart, Sticky, Upstream,
    UpstreamConnections, UpstreamProtocol, UpstreamRequests, UpstreamTimeouts,
};
use narthex_net::dial::DialOptions;

use crate::adaptive::Limiter;
use crate::balance::ring::Ring;
use crate::balance::roster::{self, Candidate, Roster, Rules};
use crate::clock::millis;
use crate::clock::monotonic_ms;
use crate::cluster::overlay::Overlay;
use crate::encryption::Encryption;
use crate::endpoint::{Endpoint, EndpointStatus, Identity};
use crate::fleet::Changes;
use crate::gate::Gate;
use crate::tag::Keys;

use found::Found;
use set::Departed;

pub use found::SourceStatus;
pub use limits::FoundLimit;

/// What the configuration says about an upstream, but for its servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Policy.
    pub balance: Balance,
    /// Which servers come first.
    pub ranks: Ranks,
    /// Where we are, to be compared with [`Member::zone`].
    pub zone: Option<Arc<str>>,
    /// Cookies that keep clients with their server.
    pub sticky: Option<Sticky>,
    /// Active check.
    pub health: Option<HealthCheck>,
    /// Passive marking.
    pub eject: Eject,
    /// The way back to the whole share.
    pub slow_start: SlowStart,
    /// Retries.
    pub retry: Retry,
    /// Second attempts beside slow first ones.
    pub hedge: Option<Hedge>,
    /// Time bounds.
    pub timeouts: UpstreamTimeouts,
    /// Of those, what every request asks for.
    pub ms: Milliseconds,
    /// Connections.
    pub connections: UpstreamConnections,
    /// Requests under way.
    pub requests: UpstreamRequests,
    /// Version of the PROXY header that a new connection begins with.
    pub proxy_protocol: Option<u8>,
    /// Socket options.
    pub dial: DialOptions,
    /// Version of HTTP.
    pub protocol: UpstreamProtocol,
    /// Connections are encrypted, if so.
    pub encryption: Option<Encryption>,
}

/// Some of [`UpstreamTimeouts`] in milliseconds: converted once, not for every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Milliseconds {
    /// From the request's end to the response's head.
    pub response: u64,
    /// Between two pieces of a response's body.
    pub body_idle: u64,
    /// How long a connection is kept.
    pub idle: u64,
}

impl Milliseconds {
    fn of(timeouts: &UpstreamTimeouts) -> Self {
        Self {
            response: millis(timeouts.response),
            body_idle: millis(timeouts.body_idle),
            idle: millis(timeouts.idle),
        }
    }
}

impl Settings {
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            spill_over: self.ranks.spill_over,
            panic: self.ranks.panic,
        }
    }

    /// Takes what concerns us.
    pub fn new(upstream: &Upstream, zone: Option<&Arc<str>>) -> Self {
        Self {
            balance: upstream.balance.clone(),
            ranks: upstream.ranks.clone(),
            zone: zone.cloned(),
            sticky: upstream.sticky.clone(),
            health: upstream.health.clone(),
            eject: upstream.eject.clone(),
            slow_start: upstream.slow_start.clone(),
            retry: upstream.retry.clone(),
            hedge: upstream.hedge.clone(),
            timeouts: upstream.timeouts.clone(),
            ms: Milliseconds::of(&upstream.timeouts),
            connections: upstream.connections.clone(),
            requests: upstream.requests.clone(),
            proxy_protocol: upstream.proxy_protocol,
            dial: DialOptions {
                source: upstream.source,
                keepalive: upstream.tcp_keepalive,
                user_timeout: upstream.tcp_user_timeout,
                mark: upstream.mark,
            },
            protocol: upstream.protocol,
            encryption: None,
        }
    }
}

/// A server in the set.
#[derive(Debug, Clone)]
pub struct Member {
    /// The server.
    pub endpoint: Arc<Endpoint>,
    /// 1..=1000.
    pub weight: u32,
    /// Used only when no other is available.
    pub backup: bool,
    /// 0..=15; a lower one comes first.
    pub priority: u8,
    /// Where it is.
    pub zone: Option<Arc<str>>,
}

impl Member {
    /// As one to choose from, and until when (monotonic ms) this holds if nothing happens.
    pub(crate) fn candidate(&self, settings: &Settings, now: u64) -> (Candidate, u64) {
        let (standing, until) = self.endpoint.standing(now);
        let candidate = Candidate {
            weight: self.weight,
            standing,
            rank: self.rank(settings),
        };
        (candidate, until)
    }

    /// In which order servers are used: by priority and, within it, our own zone first; backups after all others.
    pub fn rank(&self, settings: &Settings) -> u8 {
        let own = settings.zone.is_none() || settings.zone == self.zone;
        let away = settings.ranks.prefer_zone && !own;
        let priority = if self.backup {
            16
        } else {
            self.priority.min(15)
        };
        2 * priority + u8::from(away)
    }
}

/// The servers of an upstream at one moment.
#[derive(Debug, Default)]
pub struct ServerSet {
    /// In written order; the addresses of a DNS name in the order of their numbers.
    pub members: Vec<Member>,
    /// Their places, if the policy is a hash.
    pub ring: Option<Arc<Ring>>,
}

/// What there is to see of an upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Its servers.
    pub endpoints: Vec<EndpointStatus>,
    /// What its servers are learnt from.
    pub sources: Vec<SourceStatus>,
}

#[derive(Debug, Default)]
struct Source {
    servers: Vec<Server>,
    /// Laid over what is written and found.
    overlay: Overlay,
    found: Found,
    endpoints: HashMap<Identity, Arc<Endpoint>>,
    departed: Departed,
    /// Everything that says which servers there are has said so once.
    begun: bool,
}

/// An upstream. Shared by all cores; kept across reloads under its name.
#[derive(Debug)]
pub struct Cluster {
    id: u64,
    name: String,
    cores: usize,
    settings: ArcSwap<Settings>,
    set: ArcSwap<ServerSet>,
    /// Moves when `settings` or `set` do.
    version: AtomicU64,
    /// Moves when the health or the order of a server does.
    epoch: AtomicU64,
    /// Sockets to all its servers.
    sockets: Arc<Gate>,
    /// Requests at all its servers, where they are limited.
    places: Arc<Gate>,
    /// What their limit follows, where it follows something.
    limiter: Mutex<Option<Limiter>>,
    retired: AtomicBool,
    left: AtomicBool,
    source: Mutex<Source>,
    ejecting: Mutex<()>,
    changes: Arc<Changes>,
    pub(crate) checks: CheckCounts,
}

/// Answers to health checks, by what they were. Written by the checker alone.
#[derive(Debug, Default)]
pub(crate) struct CheckCounts {
    pub(crate) good: AtomicU64,
    pub(crate) bad: AtomicU64,
}

impl Cluster {
    pub(crate) fn new(id: u64, upstream: &Upstream, cores: usize, changes: Arc<Changes>) -> Self {
        Self {
            id,
            name: upstream.name.clone(),
            cores,
            settings: ArcSwap::from_pointee(Settings::new(upstream, None)),
            set: ArcSwap::default(),
            version: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            sockets: Gate::new(0, 0),
            places: Gate::new(0, 0),
            limiter: Mutex::default(),
            retired: AtomicBool::new(false),
            left: AtomicBool::new(false),
            source: Mutex::default(),
            ejecting: Mutex::default(),
            changes,
            checks: CheckCounts::default(),
        }
    }

    /// Unique in the process, never reused.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The present settings.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The present servers.
    pub fn set(&self) -> Arc<ServerSet> {
        self.set.load_full()
    }

    /// Moves on whenever settings or servers change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Moves on whenever the standing of a server may have changed: its health, its order.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The standing of a server has changed. Nobody is told; the cores see it at their next choice.
    pub(crate) fn health_moved(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Health checks of its servers that went well, and those that did not.
    pub fn checked(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.checks.good), read(&self.checks.bad))
    }

    /// Another process looks after its servers from now on.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.changes.announce(self.id);
    }

    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// No configuration names it any more.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.changes.announce(self.id);
    }

    /// What cookies are made with, if there are any.
    pub(crate) fn sticky_keys(&self) -> Option<Keys> {
        let settings = self.settings.load();
        let secret = &settings.sticky.as_ref()?.secret;
        Some(match secret {
            Some(secret) => Keys::new(secret.expose().as_bytes(), &self.name),
            None => Keys::new(&self.changes.drawn_key(), &self.name),
        })
    }

    /// One at a time decides whether another server may be taken out.
    pub(crate) fn ejecting(&self) -> MutexGuard<'_, ()> {
        self.ejecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a configuration says.
    pub(crate) fn configure(
        &self,
        upstream: &Upstream,
        zone: Option<&Arc<str>>,
        encryption: Option<&Encryption>,
    ) {
        self.retired.store(false, Ordering::Release);
        let settings = Settings {
            encryption: encryption.cloned(),
            ..Settings::new(upstream, zone)
        };
        let mut source = self.source();
        let same = **self.settings.load() == settings;
        let lists = source.found.configure(&upstream.discover);
        if same && !lists && source.servers == upstream.servers {
            return;
        }
        self.settings.store(Arc::new(settings));
        let Source {
            servers, overlay, ..
        } = &mut *source;
        overlay.settle(servers, &upstream.servers);
        servers.clone_from(&upstream.servers);
        self.rebuild(&mut source);
    }

    /// So little is available that servers which look ill are used, too.
    pub fn is_in_panic(&self) -> bool {
        let settings = self.settings.load();
        let now = monotonic_ms();
        let set = self.set.load();
        let candidates: Vec<Candidate> = set
            .members
            .iter()
            .map(|m| m.candidate(&settings, now).0)
            .collect();
        let mut roster = Roster::default();
        roster::make(&candidates, settings.rules(), &mut roster);
        roster.panic
    }

    /// All there is to see.
    pub fn status(&self) -> ClusterStatus {
        let endpoints = self
            .set
            .load()
            .members
            .iter()
            .map(|m| m.endpoint.status())
            .collect();
        ClusterStatus {
            name: self.name.clone(),
            endpoints,
            sources: self.sources(),
        }
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
