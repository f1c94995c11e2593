//! An upstream: a named group of servers and how they are used.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Origin;

/// A named group of servers.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Upstream {
    /// Name; an anonymous one is named by its address.
    pub name: String,
    /// Policy.
    pub balance: Balance,
    /// Servers in written order.
    pub servers: Vec<Server>,
    /// Active check, if any.
    pub health: Option<HealthCheck>,
    /// Passive failure marking.
    pub eject: Eject,
    /// Retries.
    pub retry: Retry,
    /// Time bounds.
    pub timeouts: UpstreamTimeouts,
    /// Connections.
    pub connections: UpstreamConnections,
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
    /// Used only when no other is available.
    pub backup: bool,
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
}

/// Balancing policy.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
pub enum Balance {
    /// Weighted (smooth) round robin.
    RoundRobin,
    /// Fewest in-flight requests by weight: default.
    LeastRequests,
}

/// An active HTTP check.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct HealthCheck {
    /// Path asked for.
    pub path: String,
    /// `Host`; the server's name by default.
    pub host: Option<String>,
    /// Between checks, with 10% jitter; 2 s.
    pub interval: Duration,
    /// For one check; 2 s.
    pub timeout: Duration,
    /// Successes in a row that make a server healthy; 2.
    pub healthy: u32,
    /// Failures in a row that make it unhealthy; 3.
    pub unhealthy: u32,
    /// Inclusive status range that is a success; 200..=399.
    pub status: (u16, u16),
}

/// Passive failure marking.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Eject {
    /// Failures (connect, reset, timeout, 5xx by choice) ... 0 switches it off. Default 5.
    pub errors: u32,
    /// ... within this time; 10 s.
    pub within: Duration,
    /// Out for this long (doubling up to 10 times while it keeps failing); 30 s.
    pub for_: Duration,
    /// At most this share of the servers is out by this, in percent; 50.
    pub at_most: u8,
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
    /// Retry an idempotent request on these statuses.
    pub on_status: Vec<u16>,
    /// Request bodies up to this size are kept for another attempt; 64 KiB.
    pub body_max: u64,
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
    /// Requests that may wait for one, per server; 1,000.
    pub queue: usize,
    /// Longest wait; 2 s, then 503.
    pub queue_timeout: Duration,
    /// Idle connections kept per server in the whole process; 256.
    pub idle: usize,
}

impl Upstream {
    /// An upstream with every default and no server.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            balance: Balance::LeastRequests,
            servers: Vec::new(),
            health: None,
            eject: Eject::default(),
            retry: Retry::default(),
            timeouts: UpstreamTimeouts::default(),
            connections: UpstreamConnections::default(),
            proxy_protocol: None,
            source: None,
            tcp_keepalive: Duration::from_mins(1),
            tcp_user_timeout: Duration::from_secs(30),
            mark: None,
            origin: Origin::default(),
        }
    }
}

impl HealthCheck {
    /// A check of `path` with every default.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            host: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            healthy: 2,
            unhealthy: 3,
            status: (200, 399),
        }
    }
}

impl Default for Eject {
    fn default() -> Self {
        Self {
            errors: 5,
            within: Duration::from_secs(10),
            for_: Duration::from_secs(30),
            at_most: 50,
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
            on_status: Vec::new(),
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
            queue: 1000,
            queue_timeout: Duration::from_secs(2),
            idle: 256,
        }
    }
}
