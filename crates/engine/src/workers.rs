//! The data cores: one thread each, and the way to run something on every one of them.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use narthex_net::rt::{Core, Remote};
use tokio::sync::oneshot;

use crate::accepting::Sockets;
use crate::plane::{CoreProxy, Runtime, Shared};
use crate::supervise::{Policy, Supervisor};

/// Names an open socket for as long as it is open, over reloads.
pub(crate) type SocketId = u64;

/// What a core's thread owns.
pub(crate) struct Worker {
    pub(crate) core: u16,
    pub(crate) proxy: Rc<CoreProxy>,
    pub(crate) sockets: Sockets,
}

thread_local! {
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// A core has ended; the supervisor ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("data core {0} has ended")]
pub struct CoreGone(pub u16);

/// All data cores.
pub(crate) struct Workers {
    cores: Arc<[Arc<Remote>]>,
}

impl Workers {
    /// Starts `count` cores that serve `runtime` and accept nothing yet.
    pub(crate) fn start(
        count: usize,
        shared: &Arc<Shared>,
        runtime: &Arc<Runtime>,
        supervisor: &Supervisor,
    ) -> io::Result<Self> {
        let cores = (0..count)
            .map(|core| start_core(core as u16, shared, runtime, supervisor))
            .collect::<Result<Arc<[_]>, io::Error>>()?;
        Ok(Self { cores })
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.cores.len()
    }

    /// The ways into the cores, in order.
    pub(crate) fn remotes(&self) -> &Arc<[Arc<Remote>]> {
        &self.cores
    }

    /// Runs `job(core)` on every core, each between two turns; returns when all are done, with the answers in order.
    pub(crate) async fn each<T, F, J>(&self, mut job: F) -> Result<Vec<T>, CoreGone>
    where
        T: Send + 'static,
        F: FnMut(u16) -> J,
        J: FnOnce(&Rc<Worker>) -> T + Send + 'static,
    {
        let asked: Vec<_> = (0u16..)
            .zip(self.cores.iter())
            .map(|(core, remote)| (core, ask(remote, job(core))))
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (core, answer) in asked {
            answers.push(answer.await.map_err(|_| CoreGone(core))?);
        }
        Ok(answers)
    }

    /// Runs a task on every core; returns when all are done.
    pub(crate) async fn each_task<F, J, T>(&self, job: F) -> Result<(), CoreGone>
    where
        F: Fn(u16) -> J,
        J: FnOnce(Rc<Worker>) -> T + Send + 'static,
        T: Future<Output = ()> + 'static,
    {
        let asked: Vec<_> = (0u16..)
            .zip(self.cores.iter())
            .map(|(core, remote)| {
                let job = job(core);
                let (reply, answer) = oneshot::channel();
                run_on(remote, move |worker| {
                    let task = job(Rc::clone(worker));
                    narthex_net::rt::spawn(async move {
                        task.await;
                        // Whoever asked may have gone; the work is done all the same.
                        let _ = reply.send(());
                    });
                });
                (core, answer)
            })
            .collect();
        for (core, answer) in asked {
            answer.await.map_err(|_| CoreGone(core))?;
        }
        Ok(())
    }
}

fn ask<T: Send + 'static>(
    remote: &Arc<Remote>,
    job: impl FnOnce(&Rc<Worker>) -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (reply, answer) = oneshot::channel();
    run_on(remote, move |worker| {
        let answer = job(worker);
        // Whoever asked may have gone; the work is done all the same.
        let _ = reply.send(answer);
    });
    answer
}

/// Runs `job` with the worker of this thread, if it is a core's. A job that panics is a job without an answer, not the
/// end of the core.
pub(crate) fn on_core(job: impl FnOnce(&Rc<Worker>)) {
    let worker = WORKER.with(|w| w.borrow().clone());
    let Some(worker) = worker else { return };
    if catch_unwind(AssertUnwindSafe(|| job(&worker))).is_err() {
        tracing::error!("a job of the engine panicked on a core");
    }
}

fn run_on(remote: &Arc<Remote>, job: impl FnOnce(&Rc<Worker>) + Send + 'static) {
    remote.run(move || on_core(job));
}

fn start_core(
    id: u16,
    shared: &Arc<Shared>,
    runtime: &Arc<Runtime>,
    supervisor: &Supervisor,
) -> io::Result<Arc<Remote>> {
    let (started, remote) = std::sync::mpsc::sync_channel(1);
    // Taken by the first run; a core is never run twice, because the process ends with it.
    let parts = Mutex::new(Some((Arc::clone(shared), Arc::clone(runtime), started)));
    supervisor.thread(&format!("narthex-{id}"), Policy::EndProcess, move || {
        let Some((shared, runtime, started)) =
            parts.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return Ok(());
        };
        let core = Core::enter(id)?;
        let worker = Worker {
            core: id,
            proxy: CoreProxy::new(id, shared, runtime),
            sockets: Sockets::default(),
        };
        WORKER.with(|w| *w.borrow_mut() = Some(Rc::new(worker)));
        // The engine waits for this; if it does not, the process is ending.
        let _ = started.send(core.remote());
        core.run()
    })?;
    remote
        .recv()
        .map_err(|_| io::Error::other(format!("data core {id} did not start")))
}
