//! What differs between what serves and what is written: the operator's changes, and edits that are not loaded yet.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use narthex_config::model::Order;
use narthex_upstream::{Drift as Change, monotonic_ms, order_word};
use serde::{Deserialize, Serialize};

use crate::changes::Changes;
use crate::engine::Engine;
use crate::limits;
use crate::plane::Shared;
use crate::source::{Checked, Source};

/// All that differs.
#[derive(Debug, Clone, Serialize)]
pub struct Drift {
    /// Where the configuration comes from.
    pub source: String,
    /// Its file, from the root; none if it comes from the command line.
    pub file: Option<PathBuf>,
    /// Changes made while the process runs.
    pub changes: Vec<Line>,
    /// What a reload would change, if anything.
    pub unloaded: Option<Changes>,
    /// The same as a person reads it; empty if nothing.
    pub unloaded_text: String,
    /// Why a reload would be refused, if it would.
    pub problems: Option<String>,
}

/// One change made while the process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Name of the upstream.
    pub upstream: String,
    /// Name of the server.
    pub server: String,
    /// `added`, `removed`, `weight` or `state`.
    pub change: String,
    /// The weight, of `added` and `weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The order, of `added` and `state`: `ready`, `drain` or `down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Seconds until a drain turns into `down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// Of `added`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Of `added`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Of `added`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Drift {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.unloaded.is_none() && self.problems.is_none()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change.as_str() {
            "added" => "+",
            "removed" => "-",
            _ => "~",
        };
        write!(f, "{sign} server \"{}\"", self.server)?;
        if let Some(weight) = self.weight.filter(|w| self.change != "added" || *w != 1) {
            write!(f, " weight={weight}")?;
        }
        if self.backup {
            f.write_str(" backup=#true")?;
        }
        if let Some(priority) = self.priority {
            write!(f, " priority={priority}")?;
        }
        if let Some(zone) = &self.zone {
            write!(f, " zone=\"{zone}\"")?;
        }
        if let Some(state) = &self.state {
            write!(f, " state=\"{state}\"")?;
        }
        if let Some(seconds) = self.seconds_left {
            write!(f, " (down in {seconds} s)")?;
        }
        Ok(())
    }
}

impl Engine {
    /// Compares with the file as it is now, beside the control task.
    pub(crate) fn drift(&self) -> impl Future<Output = Drift> + Send + 'static {
        let source = self.options.source.clone();
        let (active, shared) = (Arc::clone(&self.active.config), Arc::clone(&self.shared));
        let open_files = self.open_files;
        let turn = Arc::clone(&self.reading);
        async move {
            // One reads the files at a time, however many ask.
            let _turn = turn.lock().await;
            let name = source.to_string();
            let file = match &source {
                Source::File(path) => std::path::absolute(path).ok(),
                Source::Text { .. } => None,
            };
            let loaded = tokio::task::spawn_blocking(move || source.load()).await;
            let (unloaded, problems) = match loaded {
                Ok(Ok(Checked { mut config, .. })) => {
                    limits::decide(&mut config, open_files);
                    let changes = Changes::between(&active, &config);
                    ((!changes.is_empty()).then_some(changes), None)
                }
                Ok(Err(refused)) => (None, Some(refused.problems)),
                Err(_) => (
                    None,
                    Some("reading the configuration failed; report this".to_owned()),
                ),
            };
            Drift {
                source: name,
                file,
                changes: lines(&shared),
                unloaded_text: unloaded
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                unloaded,
                problems,
            }
        }
    }
}

/// The operator's changes of every upstream.
fn lines(shared: &Shared) -> Vec<Line> {
    let now = monotonic_ms();
    let clusters = shared.fleet().clusters();
    let of = |cluster: &Arc<narthex_upstream::Cluster>| {
        let name = cluster.name().to_owned();
        let drift = cluster.drift();
        drift
            .into_iter()
            .map(move |change| line(&name, change, now))
    };
    clusters.iter().flat_map(of).collect()
}

fn line(upstream: &str, change: Change, now: u64) -> Line {
    let blank = |server: String, change: &str| Line {
        upstream: upstream.to_owned(),
        server,
        change: change.to_owned(),
        weight: None,
        state: None,
        seconds_left: None,
        backup: false,
        priority: None,
        zone: None,
    };
    match change {
        Change::Added(server) => Line {
            weight: Some(server.weight),
            state: (server.order != Order::Ready).then(|| order_word(server.order).to_owned()),
            backup: server.backup,
            priority: (server.priority > 0).then_some(server.priority),
            zone: server.zone,
            ..blank(server.name, "added")
        },
        Change::Removed(server) => blank(server, "removed"),
        Change::Weight { server, weight } => Line {
            weight: Some(weight),
            ..blank(server, "weight")
        },
        Change::Order {
            server,
            order,
            until,
        } => Line {
            state: Some(order_word(order).to_owned()),
            seconds_left: until.map(|until| until.saturating_sub(now).div_ceil(1_000)),
            ..blank(server, "state")
        },
    }
}

#[cfg(test)]
mod tests {
    use narthex_config::model::{Server, ServerAddress};

    use super::*;

    #[test]
    fn a_line_reads_as_it_would_be_written() {
        let mut server = Server::new("a:80", ServerAddress::parse("a:80").unwrap());
        let text = |change| line("u", change, 1_000).to_string();
        assert_eq!(text(Change::Added(server.clone())), "+ server \"a:80\"");
        server.weight = 2;
        server.zone = Some("z".to_owned());
        server.order = Order::Drain;
        assert_eq!(
            text(Change::Added(server)),
            "+ server \"a:80\" weight=2 zone=\"z\" state=\"drain\""
        );
        assert_eq!(text(Change::Removed("a:80".into())), "- server \"a:80\"");
        let order = Change::Order {
            server: "a:80".into(),
            order: Order::Drain,
            until: Some(3_500),
        };
        assert_eq!(
            text(order),
            "~ server \"a:80\" state=\"drain\" (down in 3 s)"
        );
    }
}
