//! The new process's part of an upgrade.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::predecessor::Predecessor;
use crate::cache::directory;
use crate::control;
use crate::engine::Engine;
use crate::pid_file::PidFile;
use crate::start::StartError;
use crate::supervise::Policy;

impl Engine {
    /// Starts what looks after the servers: discovery and checks.
    pub(crate) fn look_after_servers(&mut self) -> Result<(), StartError> {
        let discovery = self.shared.fleet().start_discovery();
        self.discovery = Some(ManuallyDrop::new(discovery.map_err(StartError::Thread)?));
        control::start(self.workers.count(), &self.shared, &self.supervisor)
            .map_err(StartError::Thread)
    }

    /// Takes over from the process before us; returns when we are the process. An error is the end: the old one serves on.
    pub(crate) async fn succeed(&mut self, predecessor: Arc<Predecessor>) -> Result<(), String> {
        let took = self.take_state(&predecessor).await;
        let Ok(older) = took else {
            return took.map(drop).inspect_err(|why| predecessor.refuse(why));
        };
        let from = predecessor.version().to_owned();
        let channel = beside(move || predecessor.take_over()).await?;
        // From here on clients are ours, and errors are no reason to end.
        for channel in older.into_iter().chain([channel]) {
            if let Err(error) = self.generations.add(channel, &self.shared) {
                tracing::warn!(%error, "the last counts of the process before us are lost");
            }
        }
        self.inherited.forget_bequests();
        if let Some(prepared) = &mut self.prepared {
            prepared.own(&self.active.config.listeners);
        }
        for admin in &self.waiting_admin {
            admin.own();
        }
        self.admin
            .send_replace(std::mem::take(&mut self.waiting_admin));
        let path = self.active.config.pid_file.as_deref();
        match path.map(PidFile::take_over).transpose() {
            Ok(file) => self.pid_file = file,
            Err(error) => tracing::error!(%error, "the pid file still names the process before us"),
        }
        self.succeed_in_directory();
        // A drain that the operator ordered for a time may be over.
        self.drains.notify_one();
        self.metrics.upgrade(true);
        tracing::info!(from, "taken over from the process before us");
        Ok(())
    }

    /// The cache's directory is ours once the process before us has let go of it; the takedowns are, as of now.
    fn succeed_in_directory(&mut self) {
        let Some(disk) = self.active.config.cache.disk.clone() else {
            return;
        };
        if let Err(error) = directory::recall(&self.shared, &disk, false) {
            tracing::error!(%error, "takedowns of the last moment are lost");
        }
        let shared = Arc::clone(&self.shared);
        self.taking = Some(
            self.supervisor
                .task("cache directory", Policy::Restart, move || {
                    directory::take_after(Arc::clone(&shared), disk.clone())
                }),
        );
    }

    async fn take_state(
        &mut self,
        predecessor: &Arc<Predecessor>,
    ) -> Result<Vec<std::os::fd::OwnedFd>, String> {
        let unused = predecessor.unused(&self.inherited);
        let asked = Arc::clone(predecessor);
        let (state, older) = beside(move || asked.take_state(unused)).await?;
        self.shared.metrics().add(&state.metrics);
        let skipped = self.shared.fleet().import(&state.fleet);
        if skipped > 0 {
            tracing::info!(skipped, "servers that the configuration no longer has");
        }
        self.look_after_servers()
            .map_err(|error| error.to_string())?;
        Ok(older)
    }
}

/// Runs what waits for the other process beside the control task.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| format!("the process before us: {error}")),
        Err(_) => Err("talking to the process before us failed; report this".to_owned()),
    }
}
