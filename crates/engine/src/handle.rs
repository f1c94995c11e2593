//! The way to the engine: a bounded channel of commands, and what may be read without asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use narthex_acme::board::{Board, Entry};
use narthex_config::model::Config;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin_socket::AdminSocket;
use crate::audit::Audit;
use crate::cache::{Ask, CacheError};
use crate::change::{Change, ChangeError, Changed};
use crate::command::{
    Command, ExplainRequest, Explanation, Phase, Refused, ReloadReport, Status, UpstreamStatus,
};
use crate::drift::Drift;
use crate::plane::Shared;
use crate::supervise::Supervisor;
use crate::upgrade::{self, UpgradeReport};

/// Commands that may wait.
pub(crate) const COMMANDS: usize = 64;

/// The engine has ended; nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct Stopped;

/// Why a reload did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The new configuration cannot be used; the old one serves on.
    #[error("{}", .0.problems)]
    Refused(Refused),
    /// Too late.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Where the process is in its life, for all to read.
#[derive(Debug, Default)]
pub(crate) struct PhaseCell(AtomicU8);

impl PhaseCell {
    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

/// A way to the engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) phase: Arc<PhaseCell>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) admin: watch::Receiver<Vec<Arc<AdminSocket>>>,
    pub(crate) supervisor: Supervisor,
    pub(crate) audit: Audit,
    pub(crate) board: Arc<Board>,
}

impl Handle {
    /// Every certificate that is obtained by itself.
    pub fn certificates(&self) -> Vec<Entry> {
        self.board.list()
    }

    /// Queues a command, waiting for room.
    pub async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }

    /// Reads the files again and serves what they say; returns when every core does.
    pub async fn reload(&self, why: &'static str) -> Result<ReloadReport, ReloadError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Reload {
            why,
            reply: Some(reply),
        })
        .await?;
        answer
            .await
            .map_err(|_| Stopped)?
            .map_err(ReloadError::Refused)
    }

    /// Begins a graceful stop. The second time, the process ends at once.
    pub async fn stop(&self, why: &'static str, grace: Option<Duration>) -> Result<(), Stopped> {
        self.send(Command::Stop { why, grace }).await
    }

    /// Lets a new program take over; the inner error says why that was rolled back, or refused.
    pub async fn upgrade(
        &self,
        why: &'static str,
        timeout: Duration,
    ) -> Result<Result<UpgradeReport, String>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Upgrade {
            why,
            timeout,
            reply: Some(reply),
        })
        .await?;
        answer.await.map_err(|_| Stopped)
    }

    /// How the process is.
    pub async fn status(&self) -> Result<Status, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Status(reply)).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// What would happen to a request; the inner error says what is wrong with the question.
    pub async fn explain(
        &self,
        request: ExplainRequest,
    ) -> Result<Result<Explanation, String>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Explain(request, reply)).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// Asks the cache, or changes what it holds; the inner error says why not.
    pub async fn cache(&self, ask: Ask) -> Result<Result<Explanation, CacheError>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Cache(ask, reply)).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// The configuration that serves.
    pub async fn config(&self) -> Result<Arc<Config>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Config(reply)).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// Changes the servers of an upstream; the inner error says why not.
    pub async fn change(&self, change: Change) -> Result<Result<Changed, ChangeError>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Change(change, reply)).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// What differs between what serves and what is written.
    pub async fn drift(&self) -> Result<Drift, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Drift(reply)).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// Who changed what.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Where the process is in its life.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// What outlives reloads: metrics and servers.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The servers of every upstream.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        crate::plane::upstreams(&self.shared)
    }

    /// One upstream and its servers.
    pub fn upstream(&self, name: &str) -> Result<UpstreamStatus, ChangeError> {
        let status = crate::plane::upstream(&self.shared, name);
        status.ok_or_else(|| crate::change::unknown(&self.shared, name))
    }

    /// The admin sockets that shall be served now.
    pub fn admin_sockets(&self) -> watch::Receiver<Vec<Arc<AdminSocket>>> {
        self.admin.clone()
    }

    /// Is this one of them? Not after a reload that closed it or gave it other rules.
    pub fn serves(&self, socket: &Arc<AdminSocket>) -> bool {
        self.admin
            .borrow()
            .iter()
            .any(|other| Arc::ptr_eq(other, socket))
    }

    /// The list of everything long-lived.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Returns when the engine has ended.
    pub async fn closed(&self) {
        self.commands.closed().await;
    }

    pub(crate) fn request_reload(&self, why: &'static str) {
        self.request(Command::Reload { why, reply: None });
    }

    pub(crate) fn request_stop(&self, why: &'static str) {
        self.request(Command::Stop { why, grace: None });
    }

    pub(crate) fn request_upgrade(&self, why: &'static str) {
        self.request(Command::Upgrade {
            why,
            timeout: upgrade::TIMEOUT,
            reply: None,
        });
    }

    pub(crate) fn request_reopen_logs(&self, why: &'static str) {
        self.request(Command::ReopenLogs { why });
    }

    fn request(&self, command: Command) {
        if let Err(error) = self.commands.try_send(command) {
            tracing::warn!(%error, "the engine has too much to do to hear a signal; send it again");
        }
    }
}
