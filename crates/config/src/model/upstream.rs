//! An upstream: a named group of servers and how they are used.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{
    Discover, Eject, HealthCheck, Origin, Secret, SlowStart, Template, UpstreamProtocol,
    UpstreamTls,
};

/// A named group of servers.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Upstream {
    /// Name; an anonymous one is named by its address.
    pub name: String,
    /// Policy.
    pub balance: Balance,
    /// Which servers come first.
    pub ranks: Ranks,
    /// Clients stay with their server, if so.
    pub sticky: Option<Sticky>,
    /// Servers in written order.
    pub servers: Vec<Server>,
    /// Where further ones are learnt from, in written order.
    pub discover: Vec<Discover>,
    /// Active check, if any.
    pub health: Option<HealthCheck>,
    /// Passive failure marking.
    pub eject: Eject,
    /// The way back to the whole share.
    pub slow_start: SlowStart,
    /// Retries.
    pub retry: Retry,
    /// A second attempt beside a slow first one, if so.
    pub hedge: Option<Hedge>,
    /// Time bounds.
    pub timeouts: UpstreamTimeouts,
    /// Connections.
    pub connections: UpstreamConnections,
    /// Requests under way.
    pub requests: UpstreamRequests,
    /// Send a PROXY header (version 1 or 2) on each new connection.
    pub proxy_protocol: Option<u8>,
    /// Local address to connect from.
    pub source: Option<IpAddr>,
    /// Keepalive probes on upstream connections; zero is off.
    pub tcp_keepalive: Duration,
    /// `TCP_USER_TIMEOUT`; zero is the kernel's.
    pub tcp_user_timeout: Duration,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// Connections are encrypted, if so.
    pub tls: Option<UpstreamTls>,
    /// Version of HTTP.
    pub protocol: UpstreamProtocol,
    /// Where it was written.
    pub origin: Origin,
}

/// One address.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Server {
    /// As written; the name in logs and metrics.
    pub name: String,
    /// Where.
    pub address: ServerAddress,
    /// 1..=1000; share of requests.
    pub weight: u32,
    /// Used only when no other is available; after every priority.
    pub backup: bool,
    /// 0..=15; a lower one comes first.
    pub priority: u8,
    /// Where it is, to be compared with [`super::Config::zone`].
    pub zone: Option<String>,
    /// What it may be used for.
    pub order: Order,
}

/// What a server may be used for, by the word of the operator.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub enum Order {
    /// For everything: default.
    #[default]
    Ready,
    /// For those who belong to it (sticky) only.
    Drain,
    /// For nothing.
    Down,
}

/// Where a server is.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// A literal address.
    Ip(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// A name, resolved again and again; every address is a server.
    Dns {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
    },
    /// A name whose SRV records say where; resolved again and again, every target's address is a server.
    Srv {
        /// Name of the records.
        name: String,
        /// Port of the name's own addresses, which stand in while it has no SRV record.
        port: Option<u16>,
    },
}

/// Balancing policy.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum Balance {
    /// Weighted (smooth) round robin.
    RoundRobin,
    /// Fewest in-flight requests by weight: default.
    LeastRequests,
    /// Least expected time: recent time to the response head, times requests in flight.
    LeastTime,
    /// By weight and chance.
    Random,
    /// The same key goes to the same server.
    Hash(HashBalance),
}

/// A consistent hash.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct HashBalance {
    /// The key. A request without it is spread by fewest requests.
    pub by: Template,
    /// A server takes at most so much more than the mean of requests in flight, in percent; 25; 0 is no bound.
    pub bound: u8,
}

/// Which servers come first. A rank is a priority (backups are the last) and, within it, our own zone or another.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Ranks {
    /// A rank with less than this share of its weight available hands the rest of its load to the next, in percent; 0:
    /// only one with nothing available does.
    pub spill_over: u8,
    /// With less than this share of all weight available, servers that look ill are used as well, in percent; 20; 0: only
    /// when nothing is available.
    pub panic: u8,
    /// Servers of our own zone come first.
    pub prefer_zone: bool,
}

/// Clients stay with their server by a signed cookie.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Sticky {
    /// Name of the cookie; by default one that is the upstream's own and does not tell its name.
    pub cookie: String,
    /// Key of the signature; drawn at the start without it.
    pub secret: Option<Secret>,
    /// Good for this long, renewed in use; 1 day.
    pub ttl: Duration,
    /// `Path`; `/`.
    pub path: String,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Secure`.
    pub secure: Secure,
}

/// `SameSite` of a cookie.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
pub enum SameSite {
    /// `Lax`: default.
    Lax,
    /// `Strict`.
    Strict,
    /// `None`, which browsers take with `Secure` only.
    None,
}

/// `Secure` of a cookie.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
pub enum Secure {
    /// When the client came by HTTPS, as far as is known: default.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Retries.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Retry {
    /// Further attempts after the first; 2.
    pub attempts: u32,
    /// Retries as a share of requests, in percent; 20.
    pub budget: u8,
    /// Retry a failed connect (nothing was sent).
    pub on_connect: bool,
    /// Retry an idempotent request when the connection died before any response byte.
    pub on_reset: bool,
    /// Retry an idempotent request whose response did not begin in time.
    pub on_timeout: bool,
    /// Retry an idempotent request on these statuses.
    pub on_status: Vec<u16>,
    /// For one attempt, to its response head, while another may follow; zero is the upstream's response timeout.
    pub try_timeout: Duration,
    /// For all attempts together, to the response head; zero is no bound.
    pub within: Duration,
    /// Request bodies up to this size are kept for another attempt; 64 KiB.
    pub body_max: u64,
}

/// A second attempt beside a slow first one; for idempotent requests without a body, or with one that was taken whole.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Hedge {
    /// When the first has not begun to answer by then, counted from the request's end.
    pub after: Duration,
    /// Second attempts as a share of the requests that could have one, in percent; 5.
    pub budget: u8,
}

/// Time bounds toward a server.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct UpstreamTimeouts {
    /// Connect; 3 s, then 504 (or another server).
    pub connect: Duration,
    /// From the request's end to the response head; 60 s, then 504.
    pub response: Duration,
    /// Longest pause inside a response body, or of a server that does not read; 30 s.
    pub body_idle: Duration,
    /// Idle connection in the pool; 30 s.
    pub idle: Duration,
}

/// Connections to a server.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct UpstreamConnections {
    /// Sockets per server in the whole process; 0 is no limit.
    pub max: usize,
    /// Sockets to all servers of the upstream; 0 is no limit.
    pub total: usize,
    /// Requests that may wait for one, per server; 1,000.
    pub queue: usize,
    /// Longest wait; 2 s, then 503.
    pub queue_timeout: Duration,
    /// Idle connections kept per server in the whole process; 256.
    pub idle: usize,
}

/// Requests under way, in the whole process.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub struct UpstreamRequests {
    /// Per server; 0 is no limit.
    pub max: usize,
    /// For all servers of the upstream; 0 is no limit.
    pub total: usize,
    /// A limit for all servers that is found, not written.
    pub adaptive: Option<Adaptive>,
}

/// Bounds of a limit that is found.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Adaptive {
    /// Never below; 10.
    pub min: usize,
    /// Never above; 10,000.
    pub max: usize,
    /// Slower than the best pace by so many percent is no reason to lower it; 0..=100, 50.
    pub tolerance: u8,
    /// Longest wait for room; 250 ms. Zero: refused at once.
    pub wait: Duration,
}

/// Who waits less.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// First in every queue, never shed for lateness.
    High,
    /// Default.
    #[default]
    Normal,
    /// Last, shed first.
    Low,
}

impl Server {
    /// A server with every default.
    pub fn new(name: impl Into<String>, address: ServerAddress) -> Self {
        Self {
            name: name.into(),
            address,
            weight: 1,
            backup: false,
            priority: 0,
            zone: None,
            order: Order::Ready,
        }
    }
}

impl Upstream {
    /// An upstream with every default and no server.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            balance: Balance::LeastRequests,
            ranks: Ranks::default(),
            sticky: None,
            servers: Vec::new(),
            discover: Vec::new(),
            health: None,
            eject: Eject::default(),
            slow_start: SlowStart::default(),
            retry: Retry::default(),
            hedge: None,
            timeouts: UpstreamTimeouts::default(),
            connections: UpstreamConnections::default(),
            requests: UpstreamRequests::default(),
            proxy_protocol: None,
            source: None,
            tcp_keepalive: Duration::from_mins(1),
            tcp_user_timeout: Duration::from_secs(30),
            mark: None,
            tls: None,
            protocol: UpstreamProtocol::Http1,
            origin: Origin::default(),
        }
    }
}

impl Sticky {
    /// With every default.
    pub fn new(cookie: impl Into<String>) -> Self {
        Self {
            cookie: cookie.into(),
            secret: None,
            ttl: Duration::from_hours(24),
            path: "/".to_owned(),
            same_site: SameSite::Lax,
            secure: Secure::Auto,
        }
    }
}

impl Default for Ranks {
    fn default() -> Self {
        Self {
            spill_over: 0,
            panic: 20,
            prefer_zone: true,
        }
    }
}

impl UpstreamRequests {
    /// Are the requests of all servers together limited?
    pub fn is_limited(&self) -> bool {
        self.total != 0 || self.adaptive.is_some()
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            min: 10,
            max: 10_000,
            tolerance: 50,
            wait: Duration::from_millis(250),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            budget: 20,
            on_connect: true,
            on_reset: true,
            on_timeout: false,
            on_status: Vec::new(),
            try_timeout: Duration::ZERO,
            within: Duration::ZERO,
            body_max: 64 << 10,
        }
    }
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            response: Duration::from_mins(1),
            body_idle: Duration::from_secs(30),
            idle: Duration::from_secs(30),
        }
    }
}

impl Default for UpstreamConnections {
    fn default() -> Self {
        Self {
            max: 0,
            total: 0,
            queue: 1000,
            queue_timeout: Duration::from_secs(2),
            idle: 256,
        }
    }
}
