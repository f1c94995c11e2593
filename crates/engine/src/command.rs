//! What can be asked of the engine, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use narthex_config::model::Config;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::cache::{self, CacheError};
use crate::change::{Change, ChangeError, Changed};
use crate::changes::Changes;
use crate::drift::Drift;
use crate::supervise::Entry;
use crate::upgrade::UpgradeReport;

/// Where an answer goes. Nobody waiting for it is fine.
pub type Reply<T> = oneshot::Sender<T>;

/// One thing to do. Commands are done one at a time, in the order they came.
#[derive(Debug)]
pub enum Command {
    /// Read the files again and serve what they say.
    Reload {
        /// Who asked, for the log.
        why: &'static str,
        /// What changed, or why nothing did.
        reply: Option<Reply<Result<ReloadReport, Refused>>>,
    },
    /// Stop gracefully; the second time, at once.
    Stop {
        /// Who asked, for the log.
        why: &'static str,
        /// Instead of the configured grace.
        grace: Option<Duration>,
    },
    /// Let a new program take over.
    Upgrade {
        /// Who asked, for the log.
        why: &'static str,
        /// How long it may take until it is ready.
        timeout: Duration,
        /// To whom we have handed over, or why not.
        reply: Option<Reply<Result<UpgradeReport, String>>>,
    },
    /// How are you?
    Status(Reply<Status>),
    /// What would happen to this request?
    Explain(ExplainRequest, Reply<Result<Explanation, String>>),
    /// Ask the cache, or change what it holds.
    Cache(cache::Ask, Reply<Result<Explanation, CacheError>>),
    /// Open the access logs anew (after a rotation).
    ReopenLogs {
        /// Who asked, for the log.
        why: &'static str,
    },
    /// The configuration that serves.
    Config(Reply<Arc<Config>>),
    /// Change the servers of an upstream.
    Change(Change, Reply<Result<Changed, ChangeError>>),
    /// What differs between what serves and what is written?
    Drift(Reply<Drift>),
}

/// A reload that took effect.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadReport {
    /// What differs from before.
    pub changes: Changes,
    /// Warnings of the check, as a person reads them; may be empty.
    pub warnings: String,
    /// From the request to the moment every core had adopted it.
    pub milliseconds: u64,
}

/// A reload that did not. What served before serves on.
#[derive(Debug, Clone, Serialize)]
pub struct Refused {
    /// Every problem, as a person reads it.
    pub problems: String,
    /// The same for machines, when they are problems of the files; else null.
    pub details: serde_json::Value,
}

impl Refused {
    /// One problem that is not in the files.
    pub fn new(problem: impl std::fmt::Display) -> Self {
        Self {
            problems: problem.to_string(),
            details: serde_json::Value::Null,
        }
    }

    /// One line for a log: the first errors with their places, and how many more there are.
    pub fn brief(&self) -> String {
        const SHOWN: usize = 3;
        let text = |problem: &serde_json::Value, key: &str| {
            problem.get(key).and_then(|v| v.as_str()).map(str::to_owned)
        };
        let number = |problem: &serde_json::Value, key: &str| {
            problem.get(key).and_then(serde_json::Value::as_u64)
        };
        let all = self
            .details
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let errors: Vec<String> = all
            .iter()
            .filter(|problem| text(problem, "severity").as_deref() == Some("error"))
            .filter_map(|problem| {
                let (file, message) = (text(problem, "file")?, text(problem, "message")?);
                let (line, column) = (number(problem, "line")?, number(problem, "column")?);
                Some(format!("{file}:{line}:{column}: {message}"))
            })
            .collect();
        match errors.len() {
            0 => self.problems.trim_end().to_owned(),
            n if n <= SHOWN => errors.join("; "),
            n => format!(
                "{}; and {} more",
                errors.get(..SHOWN).unwrap_or_default().join("; "),
                n - SHOWN
            ),
        }
    }
}

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not serving yet.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what is in flight.
    Draining,
}

impl Phase {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// How the process is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    /// Process number.
    pub pid: u32,
    /// Phase of life.
    pub phase: Phase,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Where the configuration comes from.
    pub source: String,
    /// Reloads since the start.
    pub reloads: ReloadStats,
    /// Data cores.
    pub workers: usize,
    /// Client connections per core.
    pub connections: Vec<usize>,
    /// Sockets that accept clients, as `name address`.
    pub listeners: Vec<ListenerStatus>,
    /// The memory cap and what is used.
    pub memory: MemoryStatus,
    /// Sites and routes.
    pub sites: usize,
    /// All routes of all sites.
    pub routes: usize,
    /// Named groups of servers.
    pub upstreams: Vec<UpstreamStatus>,
    /// Processes before this one that still drain after an upgrade.
    pub draining_before: usize,
    /// Everything long-lived that runs.
    pub tasks: Vec<Entry>,
}

/// Reloads since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReloadStats {
    /// That took effect.
    pub applied: u64,
    /// That were refused.
    pub refused: u64,
    /// Did the last one take effect? True before the first.
    pub last_applied: bool,
    /// Seconds since 1970 of the configuration that serves.
    pub loaded_at: u64,
    /// Problems of the last one, when it was refused.
    pub last_problems: Option<String>,
}

/// The memory cap, and what counts against it. Bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MemoryStatus {
    /// The cap; 0 is none.
    pub cap: u64,
    /// Of the process, by the kernel's account, without what is shared with files.
    pub resident: u64,
    /// In buffers that grow with what clients and servers send, by our own account.
    pub buffered: u64,
    /// How far the process goes to get below the cap: `calm`, `refuse`, `idle`, `keep-alive`, `abort`.
    pub stage: &'static str,
}

/// A socket that accepts clients.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerStatus {
    /// As written.
    pub name: String,
    /// Where it is bound.
    pub address: String,
}

/// A named group of servers.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamStatus {
    /// Name.
    pub name: String,
    /// Moves on with its settings and servers; `If-Match` of a change.
    pub tag: String,
    /// Its adaptive limit, if it has one.
    pub limit: Option<LimitStatus>,
    /// Requests that wait for room at the upstream, before those of its servers.
    pub waiting: u64,
    /// Its servers.
    pub servers: Vec<ServerStatus>,
}

/// A limit of requests that follows the response times.
#[derive(Debug, Clone, Serialize)]
pub struct LimitStatus {
    /// Requests that may be under way now.
    pub limit: u64,
    /// Requests that are.
    pub used: u64,
    /// The mean time to a response's head lately, in microseconds; 0: nothing was seen yet.
    pub rtt_us: u64,
    /// The same at best.
    pub best_rtt_us: u64,
}

/// One server.
#[derive(Debug, Clone, Serialize)]
pub struct ServerStatus {
    /// As written.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// In one word.
    pub state: String,
    /// What it may be used for, by the word of the file or the operator: `ready`, `drain`, `down`.
    pub order: &'static str,
    /// Its share of requests.
    pub weight: u32,
    /// Used only when no other is available.
    pub backup: bool,
    /// 0..=15; a lower one comes first.
    pub priority: u8,
    /// Where it is, if that is known.
    pub zone: Option<String>,
    /// Seconds since 1970 of the last change of state.
    pub since: u64,
    /// Why it changed then; empty if it never did.
    pub reason: String,
    /// Requests in flight.
    pub in_flight: u64,
    /// Requests that wait for a connection or a place.
    pub waiting: u64,
    /// Open connections.
    pub connections: u64,
    /// Idle ones among them.
    pub idle: u64,
    /// Requests since the start.
    pub requests: u64,
    /// Failures among them.
    pub failures: u64,
    /// The last failure.
    pub last_error: Option<String>,
}

/// A request to explain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Method.
    pub method: String,
    /// Absolute URL.
    pub url: String,
    /// Header lines.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The client's address; 127.0.0.1 if absent.
    #[serde(default)]
    pub client: Option<std::net::IpAddr>,
    /// Name of the listener it arrives on; the one with the URL's port if absent.
    #[serde(default)]
    pub listener: Option<String>,
}

/// What would happen to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// As a person reads it.
    pub text: String,
    /// For machines.
    pub details: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_in_the_log() {
        let problem = |line: u32, severity: &str| serde_json::json!({"file": "a.kdl", "line": line, "column": 1, "message": "no", "severity": severity});
        let refused = |details| Refused {
            problems: "long\ntext\n".to_owned(),
            details,
        };
        let two = refused(serde_json::json!([
            problem(1, "error"),
            problem(2, "warning"),
            problem(3, "error")
        ]));
        assert_eq!(two.brief(), "a.kdl:1:1: no; a.kdl:3:1: no");
        let five: Vec<_> = (1..=5).map(|n| problem(n, "error")).collect();
        assert!(
            refused(five.into())
                .brief()
                .ends_with("a.kdl:3:1: no; and 2 more")
        );
        assert_eq!(
            Refused::new("the port is taken").brief(),
            "the port is taken"
        );
    }
}
