//! The old process's part of an upgrade.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use narthex_net::listen::written;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::child::Successor;
use super::message::{Last, Manifest, Message, Prepared, Sockets, State};
use super::{GENERATIONS, UpgradeReport};
use crate::command::{Phase, Reply};
use crate::drain::{Drain, drain};
use crate::engine::Engine;
use crate::notify::Notifier;

/// Where the answer to the one who asked goes.
pub(crate) type UpgradeReply = Option<Reply<Result<UpgradeReport, String>>>;

/// An upgrade under way.
pub(crate) struct Upgrading {
    reply: UpgradeReply,
    began: Instant,
    timeout: Duration,
    successor: Arc<Successor>,
    prepared: Prepared,
    exported: State,
    answer: JoinHandle<Result<Message, String>>,
}

/// To whom we have handed over, and what it knows of us.
pub(crate) struct HandedOver {
    successor: Arc<Successor>,
    exported: State,
}

impl Upgrading {
    /// Waits for the next word of the new process.
    pub(crate) async fn answer(&mut self) -> Result<Message, String> {
        match tokio::time::timeout_at(self.began + self.timeout, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("talking to the new process failed; report this".to_owned()),
            Err(_) => Err(format!(
                "the new program was not ready within {} s",
                self.timeout.as_secs_f32()
            )),
        }
    }

    fn ask(&mut self, message: Message, sockets: Vec<OwnedFd>) {
        self.answer = ask(&self.successor, message, sockets);
    }
}

fn ask(
    successor: &Arc<Successor>,
    message: Message,
    sockets: Vec<OwnedFd>,
) -> JoinHandle<Result<Message, String>> {
    let successor = Arc::clone(successor);
    tokio::task::spawn_blocking(move || successor.ask(&message, &sockets))
}

impl Engine {
    /// Begins an upgrade; the reply comes when it is over.
    pub(crate) fn begin_upgrade(
        &mut self,
        why: &'static str,
        timeout: Duration,
        reply: UpgradeReply,
    ) {
        match self.start_successor() {
            Ok((successor, manifest, sockets)) => {
                tracing::info!(
                    why,
                    pid = successor.pid(),
                    "upgrade: a new program is started"
                );
                self.upgrading = Some(Upgrading {
                    reply,
                    began: Instant::now(),
                    timeout,
                    answer: ask(&successor, Message::Manifest(manifest), sockets),
                    successor,
                    prepared: Prepared::default(),
                    exported: State::default(),
                });
            }
            Err(problem) => {
                tracing::error!(why, problem, "upgrade refused");
                self.metrics.upgrade(false);
                answer(reply, Err(problem));
            }
        }
    }

    fn start_successor(&self) -> Result<(Arc<Successor>, Manifest, Vec<OwnedFd>), String> {
        if let Some(why) = self.upgrade_hindrance() {
            return Err(why);
        }
        let (manifest, sockets) = self
            .bequest()
            .map_err(|error| format!("the sockets cannot be handed over: {error}"))?;
        let successor = Successor::start()
            .map_err(|error| format!("the new program cannot be started: {error}"))?;
        Ok((successor, manifest, sockets))
    }

    fn upgrade_hindrance(&self) -> Option<String> {
        if self.upgrading.is_some() {
            return Some("an upgrade is under way already".to_owned());
        }
        if self.phase.get() == Phase::Draining {
            return Some("the process is stopping".to_owned());
        }
        if !self.options.upgradable {
            return Some("what was started this way cannot be upgraded; start it anew".to_owned());
        }
        if rustix::process::getpid().is_init() {
            return Some(
                "process 1 cannot be replaced: its end is the container's; start a new container"
                    .to_owned(),
            );
        }
        let draining = self.generations.count();
        (draining >= GENERATIONS).then(|| {
            format!(
                "{draining} processes before this one still drain; wait for one of them, or end it"
            )
        })
    }

    /// Every listening socket, and what it is.
    fn bequest(&self) -> std::io::Result<(Manifest, Vec<OwnedFd>)> {
        let mut manifest = Manifest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cookie_key: Some(self.shared.fleet().cookie_key()),
            ticket_keys: self.shared.tls().export_tickets(),
            ..Manifest::default()
        };
        let mut sockets = Vec::new();
        for (address, held) in self.listeners.held() {
            manifest.sockets.push(Sockets {
                address: written(address),
                count: held.len(),
            });
            for fd in held {
                sockets.push(fd.try_clone()?);
            }
        }
        for admin in self.admin.borrow().iter().filter(|a| a.is_ours()) {
            manifest.sockets.push(Sockets {
                address: written(&admin.config.address),
                count: 1,
            });
            sockets.push(admin.as_fd().try_clone_to_owned()?);
        }
        for (name, fd) in self.inherited.passed() {
            manifest.inherited.push(name.to_owned());
            sockets.push(fd.try_clone_to_owned()?);
        }
        Ok((manifest, sockets))
    }

    /// The new process has answered, or failed.
    pub(crate) fn upgrade_goes_on(&mut self, answer: Result<Message, String>) {
        match answer {
            Ok(Message::Prepared(prepared)) => self.give_state(prepared),
            Ok(Message::Ready) => self.hand_over(),
            Ok(_) => self.roll_back("the new program says something else than expected"),
            Err(why) => self.roll_back(&why),
        }
    }

    fn give_state(&mut self, prepared: Prepared) {
        let state = State {
            fleet: self.shared.fleet().export(),
            metrics: self.shared.metrics().carry(),
        };
        let channels = self.generations.channels();
        let channels: Result<Vec<_>, _> = channels.iter().map(|c| c.try_clone()).collect();
        let Ok(channels) = channels else {
            return self.roll_back("out of descriptors");
        };
        if let Some(upgrading) = &mut self.upgrading {
            upgrading.prepared = prepared;
            upgrading.exported = state.clone();
            upgrading.ask(Message::State(Box::new(state)), channels);
        }
    }

    /// The point of no return.
    fn hand_over(&mut self) {
        let Some(upgrading) = self.upgrading.take() else {
            return;
        };
        let (successor, prepared) = (&upgrading.successor, &upgrading.prepared);
        // Before it speaks for itself: the service manager hears the main process only.
        self.notifier.main_process(successor.pid());
        if let Err(error) = successor.tell(&Message::Go) {
            self.notifier.main_process(std::process::id());
            self.upgrading = Some(upgrading);
            return self.roll_back(&format!("the new program has gone: {error}"));
        }
        self.notifier = Notifier::none();
        if let Some(file) = self.pid_file.take() {
            file.leave();
        }
        for admin in self.admin.send_replace(Vec::new()) {
            admin.keep_path();
        }
        self.generations.leave();
        self.shared.fleet().leave();
        self.shared.hand_over_cache();
        self.let_go_of_directory();
        self.phase.set(Phase::Draining);
        let grace = self.active.config.upgrade_grace;
        let sockets = self.listeners.leaving(&prepared.left);
        let (left, everybody_left) = oneshot::channel();
        let how = Drain {
            grace,
            idle_may_stay: true,
            left: Some(left),
        };
        self.draining = Some(tokio::spawn(drain(Arc::clone(&self.workers), sockets, how)));
        let report = UpgradeReport {
            pid: successor.pid(),
            version: prepared.version.clone(),
            from: env!("CARGO_PKG_VERSION").to_owned(),
            milliseconds: upgrading.began.elapsed().as_millis() as u64,
        };
        tracing::info!(
            pid = report.pid,
            version = report.version,
            milliseconds = report.milliseconds,
            grace_seconds = grace.as_secs(),
            "upgraded: the new process serves; finishing what is in flight"
        );
        let reply = upgrading.reply;
        tokio::spawn(async move {
            // Then whoever connects after the answer meets the new process.
            let _ = everybody_left.await;
            answer(reply, Ok(report));
        });
        // Whoever takes the sockets answers challenges: the store is his.
        self.obtaining = None;
        self.handed_over = Some(HandedOver {
            successor: upgrading.successor,
            exported: upgrading.exported,
        });
    }

    /// Ends the new process; nothing else has happened.
    pub(crate) fn roll_back(&mut self, why: &str) {
        let Some(upgrading) = self.upgrading.take() else {
            return;
        };
        upgrading.successor.kill();
        self.metrics.upgrade(false);
        tracing::error!(
            pid = upgrading.successor.pid(),
            problem = why,
            "upgrade rolled back; this process serves on"
        );
        answer(upgrading.reply, Err(why.to_owned()));
    }

    /// Tells the new process what was counted since it took over. At the very end.
    pub(crate) async fn tell_last_counts(&mut self) {
        let Some(HandedOver {
            successor,
            exported,
        }) = self.handed_over.take()
        else {
            return;
        };
        let last = Last {
            fleet: self.shared.fleet().counts_since(&exported.fleet),
            metrics: self.shared.metrics().carry().since(&exported.metrics),
        };
        let told =
            tokio::task::spawn_blocking(move || successor.tell(&Message::Last(Box::new(last))));
        if let Ok(Err(error)) = told.await {
            tracing::warn!(%error, "the new process does not take our last counts");
        }
    }
}

fn answer(reply: UpgradeReply, result: Result<UpgradeReport, String>) {
    if let Some(reply) = reply {
        // Nobody waiting for it is fine.
        drop(reply.send(result));
    }
}
