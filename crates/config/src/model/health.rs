//! How a server's health is known: active checks, passive marks, the way back.

use std::time::Duration;

use serde::Serialize;

/// An active check.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Asked at this port of the server's address instead of its own.
    pub port: Option<u16>,
    /// Between checks of a healthy server, with 10% jitter; 2 s.
    pub interval: Duration,
    /// Between checks of an unhealthy one; 500 ms, at most `interval`.
    pub recovery: Duration,
    /// For one check; 2 s.
    pub timeout: Duration,
    /// Successes in a row that make a server healthy; 2.
    pub healthy: u32,
    /// Failures in a row that make it unhealthy; 3.
    pub unhealthy: u32,
    /// The connection is kept for the next check while the server is healthy.
    pub reuse: bool,
}

/// What a check asks.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A request.
    Http(HttpProbe),
    /// A connection, and perhaps some bytes.
    Tcp(TcpProbe),
    /// A call of `grpc.health.v1.Health/Check`.
    Grpc(GrpcProbe),
}

/// A request as a check.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// `GET`.
    pub method: String,
    /// Path asked for, with its query.
    pub path: String,
    /// `Host`; the server's name by default.
    pub host: Option<String>,
    /// Further fields: name and value.
    pub headers: Vec<(String, String)>,
    /// Inclusive ranges of statuses that are a success, sorted; 200..=399.
    pub status: Vec<(u16, u16)>,
    /// What the first 64 KiB of the body must have in them.
    pub body: Option<BodyMatch>,
}

/// What a body must have in it.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash)]
pub enum BodyMatch {
    /// This text.
    Contains(String),
    /// A match of this regular expression (bytes, linear time).
    Regex(String),
}

/// A call of gRPC's health service as a check.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq, Hash)]
pub struct GrpcProbe {
    /// The service asked about, at most 256 bytes; empty is the server as a whole.
    pub service: String,
    /// `:authority`; the server's name by default.
    pub host: Option<String>,
}

/// A connection as a check.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq, Hash)]
pub struct TcpProbe {
    /// Sent when the connection is open; at most 4 KiB.
    pub send: Option<String>,
    /// What the answer must begin with; at most 4 KiB. Without it the connection is enough.
    pub expect: Option<String>,
}

/// Passive failure marking.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Eject {
    /// Failures (connect, reset, timeout, 5xx by choice) ... 0 switches passive marking off. Default 5.
    pub errors: u32,
    /// ... within this time; 10 s.
    pub within: Duration,
    /// Out for this long (doubling up to 10 times while it keeps failing); 30 s.
    pub for_: Duration,
    /// At most this share of the servers is out by this, in percent; 50.
    pub at_most: u8,
    /// Also when a server's rate of success is far below the group's.
    pub outliers: bool,
}

/// How a server takes up its load when it comes back or is added.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct SlowStart {
    /// Until it has its whole share; 10 s; zero is at once.
    pub over: Duration,
    /// The share it begins with, in percent of its weight; 10.
    pub from: u8,
}

impl HealthCheck {
    /// A check of `path` with every default.
    pub fn new(path: impl Into<String>) -> Self {
        Self::of(Probe::Http(HttpProbe::new(path)))
    }

    /// A check with every default.
    pub fn of(probe: Probe) -> Self {
        Self {
            probe,
            port: None,
            interval: Duration::from_secs(2),
            recovery: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            healthy: 2,
            unhealthy: 3,
            reuse: true,
        }
    }
}

impl HttpProbe {
    /// `GET path`.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.into(),
            host: None,
            headers: Vec::new(),
            status: vec![(200, 399)],
            body: None,
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
            outliers: true,
        }
    }
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            over: Duration::from_secs(10),
            from: 10,
        }
    }
}
