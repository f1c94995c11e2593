//! A listener: a socket and its protocols, with everything that bounds a client connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{Http2Limits, IpSet, ListenerTls, Origin, Protocol};

/// Where a socket is bound or dialled.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
    /// Inherited from systemd socket activation, by name or by index ("fd:0").
    Inherited(String),
}

/// A socket that accepts clients.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Listener {
    /// As written, e.g. `:80`; the name in logs and metrics.
    pub name: String,
    /// Where to bind. `:80` is `[::]:80` dual stack (falls back to `0.0.0.0:80` on a host without IPv6).
    pub address: Address,
    /// Refuse IPv4 on an IPv6 socket.
    pub ipv6_only: bool,
    /// Mode of a unix socket.
    pub mode: u32,
    /// `listen(2)` backlog; default 4096.
    pub backlog: u32,
    /// Read a PROXY header first, from these peers only.
    pub proxy_protocol: Option<ProxyProtocolIn>,
    /// Bounds on connections of this listener.
    pub connections: ListenerConnections,
    /// Time bounds on a client connection.
    pub timeouts: ClientTimeouts,
    /// Size bounds on what a client sends.
    pub limits: Limits,
    /// Socket options.
    pub tcp: TcpOptions,
    /// Connections are encrypted, if so.
    pub tls: Option<ListenerTls>,
    /// What may be spoken, in order of preference. Not empty.
    pub protocols: Vec<Protocol>,
    /// Bounds of HTTP/2.
    pub http2: Http2Limits,
    /// Answer `GET` on this exact path with 200 while the process lives.
    pub liveness: Option<String>,
    /// Answer `GET` on this exact path with 200 while ready, 503 while draining or shedding.
    pub readiness: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// Bounds on connections of one listener.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct ListenerConnections {
    /// 0: only the process-wide limit applies.
    pub max: usize,
    /// Per client address (per /64 for IPv6) on this listener, instead of the process's limit; 0: the
    /// process's limit applies.
    pub per_client: usize,
    /// Requests before the connection is closed; default 10,000.
    pub requests: u32,
    /// Maximum age of a connection: the answer after it carries `Connection: close`; zero means none.
    pub max_age: Duration,
}

/// Time bounds on a client connection. Zero means none only where said.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct ClientTimeouts {
    /// From the first byte (or accept) to the end of the head, absolute; 10 s, then 408.
    pub header: Duration,
    /// Longest pause inside a request body; 30 s, then 408.
    pub body_idle: Duration,
    /// Longest pause of a client that does not read our answer; 30 s.
    pub send_idle: Duration,
    /// Idle keep-alive connection; 60 s.
    pub keep_alive: Duration,
    /// Bytes per second a request body must reach after `min_rate_after`; 240; 0 is none.
    pub min_rate: u64,
    /// Grace before `min_rate` is asked for; 30 s.
    pub min_rate_after: Duration,
    /// Lingering close: at most this long; 2 s.
    pub linger: Duration,
    /// Lingering close: at most this many bytes; 64 KiB.
    pub linger_bytes: u64,
}

/// Size bounds, the same for every protocol.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Limits {
    /// Request line; 8 KiB, then 414.
    pub request_line: usize,
    /// One field line; 8 KiB, then 431.
    pub field: usize,
    /// Whole head, counted with +32 per field; 32 KiB, then 431.
    pub head: usize,
    /// Field count; 100, then 431.
    pub fields: usize,
    /// Trailer section bytes; 8 KiB.
    pub trailers: usize,
    /// Trailer field count; 32.
    pub trailer_fields: usize,
    /// Chunk extension bytes per line; 256.
    pub chunk_extension: usize,
    /// Response head bytes; 64 KiB, then 502.
    pub response_head: usize,
    /// Response field count; 200, then 502.
    pub response_fields: usize,
    /// 1xx responses passed on per request; 16, then 502.
    pub informational: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: 8 << 10,
            field: 8 << 10,
            head: 32 << 10,
            fields: 100,
            trailers: 8 << 10,
            trailer_fields: 32,
            chunk_extension: 256,
            response_head: 64 << 10,
            response_fields: 200,
            informational: 16,
        }
    }
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            send_idle: Duration::from_secs(30),
            keep_alive: Duration::from_mins(1),
            min_rate: 240,
            min_rate_after: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            linger_bytes: 64 << 10,
        }
    }
}

/// PROXY protocol on the way in.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct ProxyProtocolIn {
    /// Peers that must send it. A connection from another peer is refused unless `optional`.
    pub from: IpSet,
    /// Peers outside `from` are served as plain clients.
    pub optional: bool,
    /// Longest wait for the header; 1 s.
    pub timeout: Duration,
}

/// Socket options of a client connection.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct TcpOptions {
    /// Keepalive probes after this idle time; zero is off; 60 s.
    pub keepalive: Duration,
    /// `TCP_USER_TIMEOUT`; zero is the kernel's; 30 s.
    pub user_timeout: Duration,
}

impl Listener {
    /// A listener with every default.
    pub fn new(name: impl Into<String>, address: Address) -> Self {
        Self {
            name: name.into(),
            address,
            ipv6_only: false,
            mode: 0o660,
            backlog: 4096,
            proxy_protocol: None,
            connections: ListenerConnections::default(),
            timeouts: ClientTimeouts::default(),
            limits: Limits::default(),
            tcp: TcpOptions::default(),
            tls: None,
            protocols: vec![Protocol::Http2, Protocol::Http1],
            http2: Http2Limits::default(),
            liveness: None,
            readiness: None,
            origin: Origin::default(),
        }
    }
}

impl Default for ListenerConnections {
    fn default() -> Self {
        Self {
            max: 0,
            per_client: 0,
            requests: 10_000,
            max_age: Duration::ZERO,
        }
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            keepalive: Duration::from_mins(1),
            user_timeout: Duration::from_secs(30),
        }
    }
}
