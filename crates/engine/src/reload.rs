//! A reload: read, check, open what is new, build, then one swap on every core. An error before the swap changes
//! nothing.

use std::sync::Arc;
use std::time::Instant;

use narthex_config::model::{CacheDisk, Config};
use narthex_observe::metrics::{Counter, Gauge};

use crate::cache::directory;
use crate::changes::Changes;
use crate::command::{Phase, Refused, ReloadReport};
use crate::engine::{Active, Engine};
use crate::limits::{self, memory_cap};
use crate::plane::{Runtime, Shared};
use crate::source::Checked;
use crate::start::{open_admin, unix_now};

/// What monitoring learns of reloads.
pub(crate) struct ReloadMetrics {
    successful: Gauge,
    timestamp: Gauge,
    applied: Counter,
    refused: Counter,
    upgraded: Counter,
    rolled_back: Counter,
}

impl ReloadMetrics {
    pub(crate) fn new(shared: &Shared) -> Self {
        let registry = shared.metrics();
        let reloads = "Configuration reloads since the start, by result.";
        let upgrades = |result| {
            registry.counter(
                "narthex_upgrades_total",
                "Binary upgrades since the start of the first process, by result.",
                &[("result", result)],
            )
        };
        let metrics = Self {
            successful: registry.gauge(
                "narthex_config_last_reload_successful",
                "1 if the last reload took effect (or none was asked for), 0 if it was refused.",
                &[],
            ),
            timestamp: registry.gauge(
                "narthex_config_last_reload_timestamp_seconds",
                "When the configuration that serves was loaded, in seconds since 1970.",
                &[],
            ),
            applied: registry.counter(
                "narthex_config_reloads_total",
                reloads,
                &[("result", "applied")],
            ),
            refused: registry.counter(
                "narthex_config_reloads_total",
                reloads,
                &[("result", "refused")],
            ),
            upgraded: upgrades("done"),
            rolled_back: upgrades("rolled-back"),
        };
        metrics.successful.set_shared(1);
        metrics.timestamp.set_shared(unix_now().cast_signed());
        metrics
    }

    /// An upgrade has ended.
    pub(crate) fn upgrade(&self, done: bool) {
        let counter = if done {
            &self.upgraded
        } else {
            &self.rolled_back
        };
        counter.add_shared(1);
    }
}

impl Engine {
    pub(crate) async fn reload(&mut self, why: &'static str) -> Result<ReloadReport, Refused> {
        if self.phase.get() == Phase::Draining {
            return Err(Refused::new(
                "the process is stopping; nothing is reloaded any more",
            ));
        }
        if self.upgrading.is_some() {
            return Err(Refused::new(
                "an upgrade is under way; try again when it is over",
            ));
        }
        let began = Instant::now();
        self.notifier.reloading();
        let result = self
            .try_reload()
            .await
            .map(|(changes, warnings)| ReloadReport {
                changes,
                warnings,
                milliseconds: began.elapsed().as_millis() as u64,
            });
        self.record(why, &result);
        self.notifier.ready(&self.headline());
        result
    }

    async fn try_reload(&mut self) -> Result<(Changes, String), Refused> {
        let source = self.options.source.clone();
        let Checked {
            mut config,
            warnings,
        } = blocking(move || source.load()).await??;
        let memory = memory_cap(config.memory);
        limits::decide(&mut config, self.open_files);
        let changes = Changes::between(&self.active.config, &config);
        // What needs a restart stays as it runs; the changes say so.
        config.workers = self.active.config.workers;
        config.identity.clone_from(&self.active.config.identity);
        config.pid_file.clone_from(&self.active.config.pid_file);
        let before = self.active.config.cache.disk.clone();
        if before.is_some() && config.cache.disk.is_some() {
            config.cache.disk.clone_from(&before);
        }

        let cores = self.workers.count();
        let prepared = self
            .listeners
            .prepare(&config.listeners, cores, &mut self.inherited)
            .map_err(Refused::new)?;
        let open = self.admin.borrow().clone();
        let admin = open_admin(
            &config,
            &open,
            self.options.default_admin,
            &mut self.inherited,
        )
        .map_err(Refused::new)?;
        let config = Arc::new(config);
        let runtime = {
            let (config, shared) = (Arc::clone(&config), Arc::clone(&self.shared));
            blocking(move || Runtime::build(config, &shared))
                .await?
                .map_err(Refused::new)?
        };
        self.take_directory(&config).await?;

        self.listeners
            .commit(prepared, &runtime, &self.workers, &self.cores)
            .await
            .map_err(Refused::new)?;
        self.admin.send_replace(admin);
        self.apply_log_level(&config);
        // The old one is dropped here, on the control thread, or with the last request that it serves.
        self.active = Active { config, runtime };
        if let (Some(disk), None) = (before, &self.active.config.cache.disk) {
            self.leave_directory(disk);
        }
        self.spare_for_checks();
        self.shared.memory().set_cap(memory);
        self.shared.fleet().forget_unused();
        if let Some(obtaining) = &self.obtaining {
            obtaining.follow(&self.active.config);
        }
        Ok((changes, warnings))
    }

    /// A cache that shall be on disk from now on. The last step that may refuse the reload.
    async fn take_directory(&mut self, config: &Config) -> Result<(), Refused> {
        let Some(disk) = config.cache.disk.clone() else {
            return Ok(());
        };
        if self.active.config.cache.disk.is_some() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let take = move || {
            directory::prepare(&disk, None)?;
            directory::take(&shared, &disk)?;
            // what is refused is not kept
            directory::recall(&shared, &disk, true)
                .inspect_err(|_| shared.cache_release(std::time::Instant::now()))
        };
        blocking(take).await?.map_err(Refused::new)
    }

    /// A cache that is in memory only from now on. What is on disk would not hear of purges any more, so it goes.
    fn leave_directory(&mut self, disk: CacheDisk) {
        if let Some(taking) = self.taking.take() {
            taking.abort();
        }
        let shared = Arc::clone(&self.shared);
        let work = move || directory::leave(&shared, &disk);
        self.letting_go = Some(tokio::task::spawn_blocking(work));
    }

    fn record(&mut self, why: &'static str, result: &Result<ReloadReport, Refused>) {
        match result {
            Ok(report) => {
                self.reloads.applied += 1;
                self.reloads.loaded_at = unix_now();
                self.reloads.last_problems = None;
                self.metrics.applied.add_shared(1);
                self.metrics
                    .timestamp
                    .set_shared(self.reloads.loaded_at.cast_signed());
                let changes = report.changes.to_string();
                tracing::info!(
                    why,
                    milliseconds = report.milliseconds,
                    changes = changes.trim_end(),
                    "reloaded"
                );
            }
            Err(refused) => {
                self.reloads.refused += 1;
                self.reloads.last_problems = Some(refused.problems.clone());
                self.metrics.refused.add_shared(1);
                tracing::error!(
                    why,
                    problems = refused.brief(),
                    "reload refused; the old configuration serves on"
                );
            }
        }
        self.reloads.last_applied = result.is_ok();
        self.metrics
            .successful
            .set_shared(i64::from(result.is_ok()));
    }

    /// Tells the health checks how many connections they may keep.
    pub(crate) fn spare_for_checks(&self) {
        let clients = self.active.config.connections_max;
        let kept = limits::checks_kept(clients, self.open_files);
        self.shared.fleet().checks_may_keep(kept);
    }

    fn apply_log_level(&self, config: &narthex_config::model::Config) {
        if config.log.level == self.active.config.log.level {
            return;
        }
        if let Some(Err(error)) = self
            .options
            .log
            .as_ref()
            .map(|log| log.set_level(&config.log.level))
        {
            tracing::warn!(%error, "the log level stays as it was");
        }
    }
}

/// Runs what computes for long beside the control task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refused::new("reading the configuration failed; report this"))
}
