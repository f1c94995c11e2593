//! The one task that applies commands, in the order they came.

use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use narthex_acme::board::Board;
use narthex_config::model::Config;
use narthex_net::inherited::Inherited;
use narthex_upstream::Discovery;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::accepting::Cores;
use crate::admin_socket::AdminSocket;
use crate::audit::Audit;
use crate::cache::{self, CacheError, directory};
use crate::certificates;
use crate::change;
use crate::command::{Command, Explanation, ListenerStatus, Phase, ReloadStats, Reply, Status};
use crate::drain::{Drain, Drained, drain};
use crate::explain;
use crate::handle::PhaseCell;
use crate::listeners::{Closing, Listeners, Prepared};
use crate::notify::Notifier;
use crate::obtain::{Demands, Obtaining};
use crate::pid_file::PidFile;
use crate::plane::{self, Runtime, Shared};
use crate::reload::ReloadMetrics;
use crate::shed;
use crate::start::Options;
use crate::supervise::{Fatal, Policy, Supervisor};
use crate::upgrade::{Generations, HandedOver, Message, Predecessor, Upgrading};
use crate::workers::{CoreGone, Worker, Workers};

/// Longest wait for the access logs to be written at the end.
const LAST_LOGS: Duration = Duration::from_secs(2);

/// What serves now.
pub(crate) struct Active {
    pub(crate) config: Arc<Config>,
    pub(crate) runtime: Arc<Runtime>,
}

/// The process, as its one task of control sees it.
pub struct Engine {
    pub(crate) active: Active,
    pub(crate) cores: Cores,
    pub(crate) workers: Arc<Workers>,
    pub(crate) metrics: ReloadMetrics,
    pub(crate) shared: Arc<Shared>,
    pub(crate) listeners: Listeners,
    /// Sockets that are open and wait for [`Engine::run`].
    pub(crate) prepared: Option<Prepared>,
    pub(crate) inherited: Inherited,
    pub(crate) admin: watch::Sender<Vec<Arc<AdminSocket>>>,
    pub(crate) options: Options,
    pub(crate) notifier: Notifier,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) fatal: Fatal,
    pub(crate) phase: Arc<PhaseCell>,
    pub(crate) reloads: ReloadStats,
    pub(crate) started: Instant,
    pub(crate) draining: Option<JoinHandle<Drained>>,
    pub(crate) open_files: u64,
    /// Resolves names until the process ends, which does not wait for a look-up under way.
    pub(crate) discovery: Option<ManuallyDrop<Discovery>>,
    pub(crate) supervisor: Supervisor,
    pub(crate) audit: Audit,
    /// Obtains and renews certificates, once we serve.
    pub(crate) obtaining: Option<Obtaining>,
    /// What is known of them.
    pub(crate) board: Arc<Board>,
    /// Tells that a drain has an end.
    pub(crate) drains: Arc<Notify>,
    /// Held by who compares the files with what serves.
    pub(crate) reading: Arc<Mutex<()>>,
    /// Removed with us.
    pub(crate) pid_file: Option<PidFile>,
    /// From whom we shall take over.
    pub(crate) predecessor: Option<Arc<Predecessor>>,
    /// Admin sockets that the process before us still serves.
    pub(crate) waiting_admin: Vec<Arc<AdminSocket>>,
    /// The processes before us that drain.
    pub(crate) generations: Generations,
    /// Who shall take over from us.
    pub(crate) upgrading: Option<Upgrading>,
    /// Who has taken over from us.
    pub(crate) handed_over: Option<HandedOver>,
    /// Draining after an upgrade, and told to stop since.
    pub(crate) hurried: bool,
    /// Waits for the process before us to let go of the cache's directory.
    pub(crate) taking: Option<JoinHandle<()>>,
    /// Lets go of it.
    pub(crate) letting_go: Option<JoinHandle<()>>,
}

/// How the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Everything in flight was finished, or the grace was over.
    Stopped,
    /// A second signal cut it short.
    Forced,
    /// Something that the process needs has ended.
    Failed(String),
}

impl Exit {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Forced => 130,
            Self::Failed(_) => 1,
        }
    }
}

impl Engine {
    /// Serves until the process is told to stop. Runs on a current-thread tokio runtime.
    pub async fn run(mut self) -> Exit {
        if let Some(predecessor) = self.predecessor.take()
            && let Err(why) = self.succeed(predecessor).await
        {
            return Exit::Failed(why);
        }
        if let Err(gone) = self.begin().await {
            return Exit::Failed(gone.to_string());
        }
        let mut watchdog = self.notifier.watchdog().map(tokio::time::interval);
        loop {
            tokio::select! {
                biased;
                why = self.fatal.next() => return Exit::Failed(why),
                drained = drained(self.draining.as_mut()) => return self.stopped(drained).await,
                answer = successor(self.upgrading.as_mut()) => self.upgrade_goes_on(answer),
                Some(command) = self.commands.recv() => {
                    if let Some(exit) = self.apply(command).await {
                        return exit;
                    }
                }
                () = tick(watchdog.as_mut()) => self.reassure().await,
            }
        }
    }

    /// The first swap: from accepting nothing to serving.
    async fn begin(&mut self) -> Result<(), CoreGone> {
        // The first handshake may ask for a certificate.
        let demands = Demands::of(&self.shared);
        if let Some(prepared) = self.prepared.take() {
            self.listeners
                .commit(prepared, &self.active.runtime, &self.workers, &self.cores)
                .await?;
        }
        let (shared, workers) = (Arc::clone(&self.shared), Arc::clone(&self.workers));
        self.supervisor.task("memory", Policy::Restart, move || {
            shed::watch(Arc::clone(&shared), Arc::clone(&workers))
        });
        let (shared, audit) = (Arc::clone(&self.shared), self.audit.clone());
        let drains = Arc::clone(&self.drains);
        self.supervisor.task("drains", Policy::Restart, move || {
            change::watch_drains(Arc::clone(&shared), audit.clone(), Arc::clone(&drains))
        });
        let shared = Arc::clone(&self.shared);
        self.supervisor
            .task("certificates", Policy::Restart, move || {
                certificates::watch(Arc::clone(&shared))
            });
        let shared = Arc::clone(&self.shared);
        self.supervisor
            .task("cache sweeper", Policy::Restart, move || {
                cache::sweep(Arc::clone(&shared))
            });
        let (shared, config) = (&self.shared, &self.active.config);
        let obtaining = Obtaining::start(&self.supervisor, shared, &self.board, config, demands);
        self.obtaining = Some(obtaining);
        self.phase.set(Phase::Ready);
        self.shared.set_ready(true);
        self.notifier.ready(&self.headline());
        for (listener, address) in self
            .active
            .config
            .listeners
            .iter()
            .zip(self.listeners.addresses())
        {
            tracing::info!(listener = listener.name, address, "listening");
        }
        for admin in self.admin.borrow().iter() {
            tracing::info!(address = admin.describe(), "admin");
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            workers = self.workers.count(),
            "ready"
        );
        Ok(())
    }

    async fn apply(&mut self, command: Command) -> Option<Exit> {
        // An answer that nobody waits for any more is dropped, throughout.
        match command {
            Command::Reload { why, reply } => {
                let result = self.reload(why).await;
                if let Some(reply) = reply {
                    drop(reply.send(result));
                }
            }
            Command::Stop { why, grace } => return self.stop(why, grace),
            Command::Upgrade {
                why,
                timeout,
                reply,
            } => self.begin_upgrade(why, timeout, reply),
            Command::Status(reply) => drop(reply.send(self.status().await)),
            Command::Explain(request, reply) => {
                let told = explain::live(&self.active.runtime, &self.shared, &request);
                drop(reply.send(told));
            }
            Command::Cache(ask, reply) => self.cache(ask, reply),
            Command::ReopenLogs { why } => {
                tracing::info!(why, "access logs are opened anew");
                self.shared.reopen_logs();
            }
            Command::Config(reply) => drop(reply.send(Arc::clone(&self.active.config))),
            Command::Change(change, reply) => drop(reply.send(self.change(change))),
            Command::Drift(reply) => {
                let drift = self.drift();
                tokio::spawn(async move { drop(reply.send(drift.await)) });
            }
        }
        None
    }

    fn cache(&self, ask: cache::Ask, reply: Reply<Result<Explanation, CacheError>>) {
        if ask.is_look() {
            return drop(reply.send(ask.answer(&self.active.runtime, &self.shared)));
        }
        if self.handed_over.is_some() {
            return drop(reply.send(Err(CacheError::Elsewhere)));
        }
        let (runtime, shared) = (Arc::clone(&self.active.runtime), Arc::clone(&self.shared));
        // it may wait for a disk
        tokio::task::spawn_blocking(move || {
            let answer = ask.answer(&runtime, &shared);
            // the process that has taken over meanwhile does not know of it
            let is_ours = !shared.has_handed_over_cache();
            drop(reply.send(if is_ours {
                answer
            } else {
                Err(CacheError::Elsewhere)
            }));
        });
    }

    fn stop(&mut self, why: &'static str, grace: Option<Duration>) -> Option<Exit> {
        self.roll_back("the process is told to stop");
        let grace = grace.unwrap_or(self.active.config.shutdown_grace);
        if self.draining.is_some() && self.is_hurried(why, grace) {
            return None;
        }
        if self.draining.is_some() {
            tracing::warn!(why, "stopping at once; what was in flight is cut");
            return Some(Exit::Forced);
        }
        tracing::info!(
            why,
            grace_seconds = grace.as_secs(),
            "stopping: finishing what is in flight"
        );
        self.phase.set(Phase::Draining);
        self.obtaining = None;
        self.shared.set_ready(false);
        self.notifier.stopping("finishing what is in flight");
        let sockets = self.listeners.closing();
        self.drain_for(sockets, grace);
        None
    }

    fn drain_for(&mut self, sockets: Closing, grace: Duration) {
        let how = Drain {
            grace,
            idle_may_stay: false,
            left: None,
        };
        self.draining = Some(tokio::spawn(drain(Arc::clone(&self.workers), sockets, how)));
    }

    /// The first word to stop a process that drains after an upgrade gives it the grace of a stop. False if that was said.
    fn is_hurried(&mut self, why: &'static str, grace: Duration) -> bool {
        if self.handed_over.is_none() || std::mem::replace(&mut self.hurried, true) {
            return false;
        }
        tracing::info!(
            why,
            grace_seconds = grace.as_secs(),
            "stopping: another process serves already; finishing what is in flight"
        );
        if let Some(longer) = self.draining.take() {
            longer.abort();
        }
        self.drain_for(Closing::default(), grace);
        true
    }

    async fn stopped(&mut self, drained: Drained) -> Exit {
        match drained {
            Drained::Done => tracing::info!("stopped"),
            Drained::GraceOver(connections) => {
                tracing::warn!(connections, "stopped: the grace was over");
            }
        }
        let flushed = self
            .workers
            .each(|_| |worker: &Rc<Worker>| worker.proxy.flush_logs());
        if tokio::time::timeout(LAST_LOGS, flushed).await.is_err() {
            tracing::warn!("a core does not answer; its last access-log records are lost");
        }
        self.shared.flush_logs(LAST_LOGS);
        self.let_go_of_directory();
        if let Some(letting_go) = self.letting_go.take()
            && tokio::time::timeout(directory::LAST_WRITES * 2, letting_go)
                .await
                .is_err()
        {
            tracing::warn!("the disk does not answer; a part of the cache is lost");
        }
        self.tell_last_counts().await;
        Exit::Stopped
    }

    /// Lets go of the cache's directory, beside the control task. The second time there is nothing to do.
    pub(crate) fn let_go_of_directory(&mut self) {
        if let Some(taking) = self.taking.take() {
            taking.abort();
        }
        let is_over = |work: &JoinHandle<()>| work.is_finished();
        if self.letting_go.as_ref().is_none_or(is_over) {
            let shared = Arc::clone(&self.shared);
            let work = move || directory::let_go(&shared);
            self.letting_go = Some(tokio::task::spawn_blocking(work));
        }
    }

    /// Tells the service manager that we live, if every core answers.
    async fn reassure(&mut self) {
        let answers = self.workers.each(|_| |_: &_| ());
        let patience = self.notifier.watchdog().unwrap_or(Duration::from_secs(1));
        match tokio::time::timeout(patience, answers).await {
            Ok(Ok(_)) => self.notifier.alive(),
            Ok(Err(_)) | Err(_) => tracing::error!(
                "a core does not answer; the service manager is not told that we live"
            ),
        }
    }

    /// One line about what serves.
    pub(crate) fn headline(&self) -> String {
        let config = &self.active.config;
        format!(
            "serving {} on {}, {} from {}",
            count(config.sites.len(), "site"),
            count(config.listeners.len(), "listener"),
            count(config.upstreams.len(), "upstream"),
            self.options.source
        )
    }

    async fn status(&self) -> Status {
        let config = &self.active.config;
        let connections = self
            .workers
            .each(|_| |worker: &Rc<Worker>| worker.proxy.connections());
        let listeners = config.listeners.iter().zip(self.listeners.addresses());
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            phase: self.phase.get(),
            uptime_seconds: self.started.elapsed().as_secs(),
            source: self.options.source.to_string(),
            reloads: self.reloads.clone(),
            workers: self.workers.count(),
            connections: connections.await.unwrap_or_default(),
            listeners: listeners
                .map(|(l, address)| ListenerStatus {
                    name: l.name.clone(),
                    address,
                })
                .collect(),
            memory: plane::memory(&self.shared),
            sites: config.sites.len(),
            routes: config.sites.iter().map(|site| site.routes.len()).sum(),
            upstreams: plane::upstreams(&self.shared),
            draining_before: self.generations.count(),
            tasks: self.supervisor.list(),
        }
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

async fn drained(drain: Option<&mut JoinHandle<Drained>>) -> Drained {
    match drain {
        // A drain that panics is one that found nothing to wait for.
        Some(drain) => drain.await.unwrap_or(Drained::Done),
        None => std::future::pending().await,
    }
}

async fn successor(upgrading: Option<&mut Upgrading>) -> Result<Message, String> {
    match upgrading {
        Some(upgrading) => upgrading.answer().await,
        None => std::future::pending().await,
    }
}

async fn tick(watchdog: Option<&mut tokio::time::Interval>) {
    match watchdog {
        Some(watchdog) => drop(watchdog.tick().await),
        None => std::future::pending().await,
    }
}
