//! Signals become commands. As PID 1 nobody else does it for us: default actions do not apply, and orphans are ours to
//! bury.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Handle;

/// The signals we listen to. Made on the control runtime before the process says that it is ready.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
    upgrade: Signal,
    child: Option<Signal>,
}

impl Signals {
    /// Takes the signals over.
    pub fn install() -> io::Result<Self> {
        let init = rustix::process::getpid().is_init();
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
            child: if init {
                Some(signal(SignalKind::child())?)
            } else {
                None
            },
        })
    }

    /// Turns them into commands, until the engine is gone.
    pub async fn run(mut self, handle: Handle) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => handle.request_reload("SIGHUP"),
                _ = self.terminate.recv() => handle.request_stop("SIGTERM"),
                _ = self.interrupt.recv() => handle.request_stop("SIGINT"),
                _ = self.reopen.recv() => handle.request_reopen_logs("SIGUSR1"),
                _ = self.upgrade.recv() => handle.request_upgrade("SIGUSR2"),
                () = received(self.child.as_mut()) => reap(),
                () = handle.closed() => return,
            }
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

fn reap() {
    while let Ok(Some((pid, _))) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
        tracing::debug!(pid = pid.as_raw_nonzero().get(), "an orphan was reaped");
    }
}
