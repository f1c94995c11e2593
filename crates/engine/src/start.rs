//! The start, in the order that lets nothing half-done remain: sockets, pid file, privileges, runtime, cores.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use narthex_config::model::{Address, Admin, Config};
use narthex_net::inherited::Inherited;
use narthex_net::limits::raise_nofile;
use narthex_net::listen::ListenError;
use narthex_observe::log::LogControl;
use narthex_proxy::control::{OpenError, seed};
use tokio::sync::{mpsc, watch};

use crate::accepting::Cores;
use crate::admin_socket::{AdminSocket, AdminSocketError, reconcile};
use crate::audit::Audit;
use crate::cache::directory;
use crate::command::{Phase, ReloadStats};
use crate::engine::{Active, Engine};
use crate::handle::{COMMANDS, Handle, PhaseCell};
use crate::limits::memory_cap;
use crate::listeners::Listeners;
use crate::notify::Notifier;
use crate::pid_file::{PidFile, PidFileError};
use crate::plane::{BuildError, Runtime, Shared};
use crate::privileges::IdentityError;
use crate::reload::ReloadMetrics;
use crate::source::Source;
use crate::supervise::Supervisor;
use crate::upgrade::{Generations, Predecessor};
use crate::workers::Workers;
use crate::{limits, obtain, privileges};

/// How to start.
pub struct Options {
    /// Where the configuration came from; read again at a reload.
    pub source: Source,
    /// The running diagnostics log, whose level a reload may change.
    pub log: Option<LogControl>,
    /// Open the usual control socket when the configuration names none.
    pub default_admin: bool,
    /// Would the same command line start a process that can take over?
    pub upgradable: bool,
    /// From whom to take over, with the sockets that it handed over.
    pub predecessor: Option<(Arc<Predecessor>, Inherited)>,
}

/// Why the process does not start. `Display` is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An admin socket could not be opened.
    #[error(transparent)]
    Admin(#[from] AdminSocketError),
    /// The pid file.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// Privileges could not be dropped.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cache's directory cannot be used.
    #[error(transparent)]
    Cache(#[from] OpenError),
    /// The data plane refused the configuration.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The system refused a thread or a descriptor.
    #[error(
        "the system refuses what the cores need ({0}); raise the limits of processes and open files"
    )]
    Thread(io::Error),
}

impl Engine {
    /// Opens the sockets, becomes who the configuration says, and starts the cores. Nothing is accepted before
    /// [`Engine::run`]. An error leaves nothing behind.
    ///
    /// To be called before any other thread exists: privileges belong to threads, and new ones inherit.
    pub fn start(mut config: Config, mut options: Options) -> Result<(Self, Handle), StartError> {
        narthex_net::limits::avoid_huge_pages();
        let (open_files, _) = raise_nofile();
        let memory = memory_cap(config.memory);
        limits::decide(&mut config, open_files);
        let cores = config.workers.max(1);
        let (predecessor, mut inherited) = match options.predecessor.take() {
            Some((predecessor, bequest)) => (Some(predecessor), bequest),
            None => (None, Inherited::from_env()),
        };
        let mut listeners = Listeners::default();
        let prepared = listeners.prepare(&config.listeners, cores, &mut inherited)?;
        let admin = open_admin(&config, &[], options.default_admin, &mut inherited)?;
        let pid_file = match &predecessor {
            None => config.pid_file.as_deref().map(PidFile::write).transpose()?,
            // It names the process before us for as long as that serves.
            Some(_) => None,
        };
        if let Some(disk) = &config.cache.disk {
            directory::prepare(disk, config.identity.as_ref())?;
        }
        if let Some(identity) = &config.identity {
            if let Some(path) = &config.pid_file {
                privileges::give(path, identity);
            }
            privileges::drop_to(identity)?;
        }

        let config = Arc::new(config);
        seed(config.cache.disk.as_ref().map(|disk| &*disk.directory));
        let shared = Shared::new(cores);
        if let Some(key) = predecessor.as_ref().and_then(|p| p.cookie_key()) {
            shared.fleet().take_cookie_key(key);
        }
        if let Some(predecessor) = &predecessor {
            shared
                .tls()
                .import_tickets(predecessor.ticket_keys().to_vec());
        }
        shared.memory().set_cap(memory);
        obtain::preload(&config, &shared);
        let runtime = Runtime::build(Arc::clone(&config), &shared)?;
        if let Some(disk) = &config.cache.disk {
            // the process before us has the directory for as long as it serves
            match &predecessor {
                None => directory::take(&shared, disk)?,
                Some(_) => shared.cache_expect(),
            }
            directory::recall(&shared, disk, false)?;
        }
        let (supervisor, fatal) = Supervisor::new();
        let workers =
            Workers::start(cores, &shared, &runtime, &supervisor).map_err(StartError::Thread)?;

        let (commands, queue) = mpsc::channel(COMMANDS);
        // Whoever asks is answered by the process before us, for as long as it serves.
        let (admin, waiting_admin) = match &predecessor {
            None => (admin, Vec::new()),
            Some(_) => (Vec::new(), admin),
        };
        let (admin, admin_watch) = watch::channel(admin);
        let phase = Arc::new(PhaseCell::default());
        let audit = Audit::default();
        let handle = Handle {
            commands,
            audit: audit.clone(),
            phase: Arc::clone(&phase),
            shared: Arc::clone(&shared),
            admin: admin_watch,
            supervisor,
            board: Arc::default(),
        };
        let mut engine = Self {
            active: Active { config, runtime },
            cores: Cores {
                balance: Arc::clone(shared.balance()),
                remotes: Arc::clone(workers.remotes()),
            },
            workers: Arc::new(workers),
            metrics: ReloadMetrics::new(&shared),
            shared,
            listeners,
            prepared: Some(prepared),
            inherited,
            admin,
            options,
            notifier: Notifier::from_env(),
            commands: queue,
            fatal,
            phase,
            reloads: ReloadStats {
                last_applied: true,
                loaded_at: unix_now(),
                ..ReloadStats::default()
            },
            started: Instant::now(),
            draining: None,
            open_files,
            discovery: None,
            supervisor: handle.supervisor.clone(),
            audit,
            obtaining: None,
            board: Arc::clone(&handle.board),
            drains: Arc::default(),
            reading: Arc::default(),
            pid_file,
            predecessor,
            waiting_admin,
            generations: Generations::default(),
            upgrading: None,
            handed_over: None,
            hurried: false,
            taking: None,
            letting_go: None,
        };
        engine.spare_for_checks();
        if engine.predecessor.is_none() {
            engine.look_after_servers()?;
        }
        engine.phase.set(Phase::Starting);
        Ok((engine, handle))
    }
}

/// The admin sockets of a configuration; without any the usual one, if it can be had.
pub(crate) fn open_admin(
    config: &Config,
    open: &[Arc<AdminSocket>],
    default_admin: bool,
    inherited: &mut Inherited,
) -> Result<Vec<Arc<AdminSocket>>, AdminSocketError> {
    let identity = config.identity.as_ref();
    if !config.admin.is_empty() || !default_admin {
        return reconcile(open, &config.admin, identity, inherited);
    }
    let Some(path) = usual_admin_paths()
        .into_iter()
        .find(|path| path.parent().is_some_and(prepare_directory))
    else {
        return Ok(Vec::new());
    };
    let usual = Admin {
        address: Address::Unix(path),
        mode: 0o600,
        token: None,
    };
    match reconcile(open, &[usual], identity, inherited) {
        Ok(sockets) => Ok(sockets),
        Err(error) => {
            tracing::warn!(%error, "no control socket: reload by SIGHUP, or name one with `admin`");
            Ok(Vec::new())
        }
    }
}

/// Where the control socket is when the configuration does not say, most likely first.
pub fn usual_admin_paths() -> Vec<PathBuf> {
    let given = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let root = rustix::process::geteuid()
        .is_root()
        .then(|| PathBuf::from("/run"));
    [
        given("RUNTIME_DIRECTORY"),
        root.map(|r| r.join("narthex")),
        given("XDG_RUNTIME_DIR").map(|d| d.join("narthex")),
    ]
    .into_iter()
    .flatten()
    .map(|directory| directory.join("admin.sock"))
    .collect()
}

fn prepare_directory(directory: &std::path::Path) -> bool {
    directory.is_dir() || std::fs::create_dir(directory).is_ok()
}

pub(crate) fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
