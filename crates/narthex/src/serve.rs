//! Serving: what `run`, `proxy` and `demo` have in common.

use std::path::PathBuf;
use std::sync::Arc;

use narthex_engine::signals::Signals;
use narthex_engine::supervise::Policy;
use narthex_engine::upgrade::Predecessor;
use narthex_engine::{Engine, Handle, Options, Source};

use crate::exit::{Exit, complain, say, show};

/// Where the configuration is when nobody says, most likely first.
const USUAL: [&str; 2] = ["narthex.kdl", "/etc/narthex/narthex.kdl"];

/// The first of the usual files that exists.
pub fn usual_config() -> Option<PathBuf> {
    USUAL.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// The file that was named, or the usual one; says what is missing.
pub fn config_file(named: Option<&PathBuf>) -> Result<PathBuf, Exit> {
    if let Some(path) = named.cloned().or_else(usual_config) {
        return Ok(path);
    }
    complain(format!(
        "no configuration: neither {} exists; write one (the smallest: `version 1`, `listen \":8080\"`, \
         `site \"*\" {{ proxy \"127.0.0.1:3000\" }}`), or name it with --config",
        USUAL.join(" nor ")
    ));
    Err(Exit::Usage)
}

/// How to serve.
pub struct Serve {
    /// Where the configuration comes from.
    pub source: Source,
    /// Open the usual control socket when the configuration names none.
    pub default_admin: bool,
    /// Would the same command line start a process that can take over?
    pub upgradable: bool,
    /// Said when it serves.
    pub welcome: Option<String>,
    /// The same, on standard error.
    pub hint: Option<String>,
    /// Instead of the level of the configuration.
    pub log_level: Option<&'static str>,
}

/// Serves until told to stop.
pub fn serve(serve: Serve) -> Exit {
    // First of all: it is our standard input.
    let predecessor = match Predecessor::from_env() {
        Ok(predecessor) => predecessor,
        Err(error) => return failed(format!("taking over from the process before: {error}")),
    };
    let before = predecessor.as_ref().map(|(before, _)| Arc::clone(before));
    let refuse = |why: &dyn std::fmt::Display| {
        if let Some(before) = &before {
            before.refuse(why);
        }
    };
    let outcome = serve.source.examine();
    if !outcome.human.is_empty() {
        show(&outcome.human);
    }
    let Some(config) = outcome.config else {
        let what = format!("{} cannot be served; nothing was started", serve.source);
        refuse(&format!("{what}:\n{}", outcome.human));
        complain(what);
        return if outcome.readable {
            Exit::No
        } else {
            Exit::Usage
        };
    };
    let level = serve.log_level.unwrap_or(&config.log.level);
    let log = match narthex_observe::log::init(level, config.log.json) {
        Ok(log) => Some(log),
        Err(error) => {
            complain(error);
            None
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(format!("the system refuses a control thread: {error}")),
    };
    let inside = runtime.enter();
    // Before any socket is open: whoever sees us listen may send a signal at once.
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return failed(format!("signals cannot be handled: {error}")),
    };
    let options = Options {
        source: serve.source,
        log,
        default_admin: serve.default_admin,
        upgradable: serve.upgradable,
        predecessor,
    };
    let (engine, handle) = match Engine::start(config, options) {
        Ok(started) => started,
        Err(error) => {
            refuse(&error);
            return failed(error);
        }
    };
    drop(inside);
    let exit = runtime.block_on(async move {
        background(&handle, signals);
        if let Some(welcome) = serve.welcome {
            say(welcome);
        }
        if let Some(hint) = serve.hint {
            show(&hint);
        }
        drop(handle);
        engine.run().await
    });
    // Tasks that still answer an admin client are cut: the process is over.
    runtime.shutdown_background();
    match exit {
        narthex_engine::Exit::Stopped => Exit::Ok,
        narthex_engine::Exit::Forced => Exit::Forced,
        narthex_engine::Exit::Failed(why) => failed(why),
    }
}

fn failed(why: impl std::fmt::Display) -> Exit {
    complain(why);
    Exit::No
}

fn background(handle: &Handle, signals: Signals) {
    let supervisor = handle.supervisor();
    let for_signals = handle.clone();
    let mut signals = Some(signals);
    supervisor.task("signals", Policy::EndProcess, move || {
        let (signals, handle) = (signals.take(), for_signals.clone());
        async move {
            if let Some(signals) = signals {
                signals.run(handle).await;
            }
        }
    });
    let for_admin = handle.clone();
    supervisor.task("admin", Policy::Restart, move || {
        narthex_admin::run(for_admin.clone())
    });
}
