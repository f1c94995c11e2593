//! What the program may rely on. Every value here has been checked; nothing here is optional that the program needs.
//!
//! Merging of levels (listener, site, `use`d policy, route) has already happened: a [`Route`] carries its complete
//! filter list in evaluation order and its complete settings.

pub mod cache;
pub mod discover;
pub mod filter;
pub mod health;
pub mod listener;
pub mod site;
pub mod template;
pub mod tls;
pub mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

pub use cache::*;
pub use discover::Discover;
pub use filter::{Filter, HeaderAction, HeaderOp};
pub use health::*;
pub use listener::{
    Address, ClientTimeouts, Limits, Listener, ListenerConnections, ProxyProtocolIn, TcpOptions,
};
pub use site::*;
pub use template::{Part, Template, TlsVar, Var};
pub use tls::*;
pub use upstream::*;

/// A whole checked configuration.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Config {
    /// Data cores; one single-threaded runtime each. At least 1, at most 256.
    pub workers: usize,
    /// Whom to become after binding. `None` stays who we are.
    pub identity: Option<Identity>,
    /// Cap on accounted memory (buffers, queues, later the cache).
    pub memory: MemoryCap,
    /// Client connections in the whole process; 0 means "80% of half the open-file limit", decided at start.
    pub connections_max: usize,
    /// Client connections per client address (per /64 for IPv6), over all listeners without a limit of their own; 0 means no
    /// limit.
    pub connections_per_client: usize,
    /// How long a stop waits for what is in flight.
    pub shutdown_grace: Duration,
    /// How long a process that was replaced by an upgrade waits for what is in flight.
    pub upgrade_grace: Duration,
    /// Load is shed while a core is later than this; zero is never.
    pub shed_latency: Duration,
    /// Where we are, to be compared with [`Server::zone`].
    pub zone: Option<String>,
    /// Name servers; empty: the system's.
    pub resolver: Vec<SocketAddr>,
    /// Peers whose `Forwarded`/`X-Forwarded-*` we believe.
    pub trusted_proxies: IpSet,
    /// `X-Request-Id`.
    pub request_id: RequestId,
    /// Diagnostics log.
    pub log: Log,
    /// Every access log that some site uses. Index is the identity.
    pub access_logs: Vec<AccessLog>,
    /// Admin and control sockets.
    pub admin: Vec<Admin>,
    /// Sockets, in written order.
    pub listeners: Vec<Listener>,
    /// Named groups of servers, plus one anonymous per literal `proxy "address"` (deduplicated by address).
    pub upstreams: Vec<Upstream>,
    /// Sites in written order.
    pub sites: Vec<Site>,
    /// Keys of session tickets.
    pub tls_tickets: TlsTickets,
    /// Certificates by ACME, and the local CA.
    pub acme: Acme,
    /// Where answers are cached.
    pub cache: CacheStore,
    /// Written after start, removed at exit.
    pub pid_file: Option<PathBuf>,
}

/// User and group names or numbers, as written; resolved by the engine.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Identity {
    /// User name or uid.
    pub user: String,
    /// Group name or gid; the user's own group when absent.
    pub group: Option<String>,
}

/// Cap on accounted memory.
#[derive(Debug, Clone, Copy, Serialize, PartialEq)]
pub enum MemoryCap {
    /// Percent of the cgroup's limit (of physical memory without one).
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

/// Handling of `X-Request-Id`.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct RequestId {
    /// Make one and send it upstream and to the client.
    pub enabled: bool,
    /// Header name; default `X-Request-Id`.
    pub header: String,
    /// Keep the one a *trusted* peer sent (at most 128 token characters); others are always replaced.
    pub trust: bool,
}

/// Diagnostics log on standard error.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Log {
    /// A `tracing` filter, such as `info` or `narthex_upstream=debug,info`.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// One access log.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct AccessLog {
    /// How a record is written.
    pub format: AccessLogFormat,
    /// Where to.
    pub target: LogTarget,
    /// Bytes that may wait for the writer; beyond it records are dropped and counted.
    pub buffer: usize,
    /// Longest time a record waits in the buffer.
    pub flush: Duration,
}

/// Shape of an access-log record.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// NCSA combined.
    Combined,
    /// A template with variables.
    Template(Template),
}

/// Where a log goes.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to, reopened on SIGUSR1.
    File(PathBuf),
}

/// An admin and control socket.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Admin {
    /// A unix socket, or a TCP address (then it is read-only unless `token` is set).
    pub address: Address,
    /// Mode of the unix socket; default 0600.
    pub mode: u32,
    /// Bearer token for changing calls over TCP. Never printed.
    pub token: Option<Secret>,
}

/// A secret's value. `Debug`, `Display` and `Serialize` show only where it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    reference: String,
    value: String,
}

impl Secret {
    /// `reference` is what the file says (`env:X`, `file:/p`), `value` what it resolves to.
    pub fn new(reference: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            reference: reference.into(),
            value: value.into(),
        }
    }
    /// Where it came from, as the file says it. Safe to print.
    pub fn reference(&self) -> &str {
        &self.reference
    }
    /// The value itself. Use it, never print it.
    pub fn expose(&self) -> &str {
        &self.value
    }
}
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.reference)
    }
}
impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.reference)
    }
}

/// A set of addresses and networks. IPv4-mapped IPv6 is folded to IPv4 before asking.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub struct IpSet(pub Vec<IpNet>);

impl IpSet {
    /// Is `ip` in the set?
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|n| n.contains(&ip))
    }
    /// No network at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where in the files something was written; carried to logs, `explain` and errors.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Default)]
pub struct Origin {
    /// File name as given.
    pub file: String,
    /// 1-based line.
    pub line: u32,
}

impl Default for Config {
    /// One worker, every default, nothing to listen on and nothing to serve.
    fn default() -> Self {
        Self {
            workers: 1,
            identity: None,
            memory: MemoryCap::Percent(75),
            connections_max: 0,
            connections_per_client: 1000,
            shutdown_grace: Duration::from_secs(30),
            upgrade_grace: Duration::from_hours(1),
            shed_latency: Duration::from_secs(1),
            zone: None,
            resolver: Vec::new(),
            trusted_proxies: IpSet::default(),
            request_id: RequestId::default(),
            log: Log::default(),
            access_logs: Vec::new(),
            admin: Vec::new(),
            listeners: Vec::new(),
            upstreams: Vec::new(),
            sites: Vec::new(),
            tls_tickets: TlsTickets::default(),
            acme: Acme::default(),
            cache: CacheStore::default(),
            pid_file: None,
        }
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self {
            enabled: true,
            header: "X-Request-Id".to_owned(),
            trust: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            json: false,
        }
    }
}

impl Default for AccessLog {
    /// JSON to standard output.
    fn default() -> Self {
        Self {
            format: AccessLogFormat::Json,
            target: LogTarget::Stdout,
            buffer: 1 << 20,
            flush: Duration::from_secs(1),
        }
    }
}
