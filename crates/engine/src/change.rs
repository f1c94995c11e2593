//! Changes of servers while requests run: what can be asked, and how it is done.

use std::sync::Arc;
use std::time::Duration;

use narthex_config::problem::did_you_mean;
use narthex_upstream::{Cluster, Refusal, monotonic_ms};
use serde::Serialize;
use tokio::sync::Notify;

pub use narthex_config::model::{Order, Server, ServerAddress};
pub use narthex_config::raw::value::parse_duration as duration;
pub use narthex_upstream::Edit;

use crate::audit::{Audit, Deed, Who};
use crate::command::Phase;
use crate::engine::Engine;
use crate::plane::Shared;

/// Longest time that a drain can be for.
pub const LONGEST_DRAIN: Duration = Duration::from_hours(24 * 30);

/// A change of one upstream.
#[derive(Debug, Clone)]
pub struct Change {
    /// Name of the upstream.
    pub upstream: String,
    /// Only if it is at this tag; `None`: whatever it is.
    pub expect: Option<Vec<String>>,
    /// What.
    pub edit: Edit,
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Name of the upstream.
    pub upstream: String,
    /// Name of the server; empty when it is about all.
    pub server: String,
    /// What it was.
    pub before: String,
    /// What it is; the same if there was nothing to do.
    pub after: String,
    /// The upstream's tag from now on.
    pub tag: String,
}

/// Why a change was not made. `Display` is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such upstream.
    #[error("there is no upstream of this name{}", meant(.0.as_deref()))]
    NoUpstream(Option<String>),
    /// No such server.
    #[error("the upstream has no such server{}", meant(.0.as_deref()))]
    NoServer(Option<String>),
    /// Somebody else was first.
    #[error("the upstream has changed meanwhile; look again (it is at {0} now)")]
    Stale(String),
    /// It would not do.
    #[error("{0}")]
    Conflict(String),
    /// A value cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Too late.
    #[error("the process is stopping; nothing is changed any more")]
    Stopping,
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}

/// The tag of an upstream: moves on with its settings and servers, and is of this process only.
pub fn tag(cluster: &Cluster, version: u64) -> String {
    format!("{}-{}-{version}", nonce(), cluster.id())
}

/// A word that no other process has.
fn nonce() -> &'static str {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::OnceLock;
    static NONCE: OnceLock<String> = OnceLock::new();
    NONCE.get_or_init(|| {
        format!(
            "{:08x}",
            RandomState::new().hash_one(std::process::id()) as u32
        )
    })
}

impl Engine {
    pub(crate) fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        if self.phase.get() == Phase::Draining {
            return Err(ChangeError::Stopping);
        }
        if self.upgrading.is_some() {
            return Err(ChangeError::Conflict(
                "an upgrade is under way; try again when it is over".to_owned(),
            ));
        }
        let ends = matches!(&change.edit, Edit::Set { lasts: Some(_), .. });
        let changed = apply(&self.shared, change)?;
        if ends {
            self.drains.notify_one();
        }
        Ok(changed)
    }
}

fn apply(shared: &Shared, change: Change) -> Result<Changed, ChangeError> {
    let fleet = shared.fleet();
    let Some(cluster) = fleet.named(&change.upstream) else {
        return Err(unknown(shared, &change.upstream));
    };
    let version = cluster.version();
    let expect = match &change.expect {
        None => None,
        Some(tags) if tags.contains(&tag(&cluster, version)) => Some(version),
        Some(_) => return Err(ChangeError::Stale(tag(&cluster, version))),
    };
    match cluster.change(expect, change.edit) {
        Ok((edited, version)) => Ok(Changed {
            upstream: change.upstream,
            server: edited.server,
            before: edited.before,
            after: edited.after,
            tag: tag(&cluster, version),
        }),
        Err(narthex_upstream::ChangeError::Stale(now)) => {
            Err(ChangeError::Stale(tag(&cluster, now)))
        }
        Err(narthex_upstream::ChangeError::Refused(refusal)) => Err(match refusal {
            Refusal::NoServer(near) => ChangeError::NoServer(near),
            Refusal::Conflict(why) => ChangeError::Conflict(why),
            Refusal::Invalid(why) => ChangeError::Invalid(why),
        }),
    }
}

/// There is no upstream of this name; perhaps another was meant.
pub(crate) fn unknown(shared: &Shared, name: &str) -> ChangeError {
    let all = shared.fleet().clusters();
    let near = did_you_mean(name, all.iter().map(|cluster| cluster.name()));
    ChangeError::NoUpstream(near.map(str::to_owned))
}

/// Closes servers when the time of their drain is over. One per process; `drains` tells of a new one.
pub(crate) async fn watch_drains(shared: Arc<Shared>, audit: Audit, drains: Arc<Notify>) {
    loop {
        let now = monotonic_ms();
        let mut next: Option<u64> = None;
        for cluster in shared.fleet().clusters() {
            let (over, soonest) = cluster.end_drains(now);
            next = next.into_iter().chain(soonest).min();
            for server in over {
                audit.note(Deed {
                    who: Who::Clock,
                    what: "the drain is over".to_owned(),
                    upstream: cluster.name().to_owned(),
                    server,
                    before: "drain".to_owned(),
                    after: "down".to_owned(),
                    refused: None,
                });
            }
        }
        let wait = next.map(|next| Duration::from_millis(next.saturating_sub(now)));
        tokio::select! {
            () = drains.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
