//! Accepting on one core: the loop per socket, and who serves what it accepts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use narthex_net::accept::{AcceptControl, Accepted, Acceptor, accept_loop};
use narthex_net::balance::Balance;
use narthex_net::rt::{self, Remote};
use tokio::sync::oneshot;

use crate::workers::{SocketId, Worker, on_core};

/// A running accept loop.
pub(crate) struct Accepting {
    control: AcceptControl,
    ended: oneshot::Receiver<()>,
}

/// What one core knows of the open sockets.
#[derive(Default)]
pub(crate) struct Sockets {
    /// Loops of this core.
    loops: RefCell<HashMap<SocketId, Vec<Accepting>>>,
    /// For every open socket, whether accepted here or elsewhere: its listener's index in the configuration that this
    /// core serves.
    indices: RefCell<HashMap<SocketId, usize>>,
}

/// How a socket's connections are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Each core has a socket of its own; only what is far above the mean moves.
    OwnQueues,
    /// One queue for all; each connection is dealt to the least loaded core.
    OneQueue,
}

/// The other cores, as an accept loop sees them.
#[derive(Clone)]
pub(crate) struct Cores {
    pub(crate) balance: Arc<Balance>,
    pub(crate) remotes: Arc<[Arc<Remote>]>,
}

impl Sockets {
    /// Says which socket is which listener of the configuration that was just adopted.
    pub(crate) fn reindex(&self, indices: &[(SocketId, usize)]) {
        *self.indices.borrow_mut() = indices.iter().copied().collect();
    }

    fn index(&self, id: SocketId) -> Option<usize> {
        self.indices.borrow().get(&id).copied()
    }

    /// Ends a loop; the returned future completes when everybody in its queue has been let in.
    pub(crate) fn end(&self, id: SocketId, ours: bool) -> impl Future<Output = ()> + use<> {
        let loops = self.loops.borrow_mut().remove(&id).unwrap_or_default();
        async move {
            for accepting in &loops {
                if ours {
                    accepting.control.end();
                } else {
                    accepting.control.leave();
                }
            }
            for accepting in loops {
                // A loop that is gone already has ended, too.
                let _ = accepting.ended.await;
            }
        }
    }
}

/// Begins to accept from `fd` on this core.
pub(crate) fn start(
    worker: &Rc<Worker>,
    id: SocketId,
    fd: OwnedFd,
    spread: Spread,
    cores: &Cores,
) -> io::Result<()> {
    let acceptor = Acceptor::new(fd)?;
    let control = AcceptControl::new();
    let (done, ended) = oneshot::channel();
    let accepting = Accepting {
        control: control.clone(),
        ended,
    };
    let mut loops = worker.sockets.loops.borrow_mut();
    loops.entry(id).or_default().push(accepting);
    drop(loops);
    let receiver = Receiver {
        worker: Rc::clone(worker),
        id,
        spread,
        cores: cores.clone(),
    };
    rt::spawn(async move {
        let on_accept = |accepted| receiver.take(accepted);
        let mut quiet_until = 0;
        let result = accept_loop(acceptor, control, on_accept, |error| {
            if rt::now_ms() < quiet_until {
                return;
            }
            quiet_until = rt::now_ms().saturating_add(SAID_EVERY_MS);
            tracing::warn!(%error, "accepting pauses: out of descriptors or memory; raise LimitNOFILE or lower the connection limits");
        });
        if let Err(error) = result.await {
            tracing::error!(%error, "a listening socket is broken and accepts no more");
        }
        // Nobody may be waiting for the end.
        let _ = done.send(());
    });
    Ok(())
}

/// A want of descriptors shows ten times a second; it is said once in this time, by each core. Milliseconds.
const SAID_EVERY_MS: u64 = 10_000;

struct Receiver {
    worker: Rc<Worker>,
    id: SocketId,
    spread: Spread,
    cores: Cores,
}

impl Receiver {
    fn take(&self, accepted: Accepted) {
        let own = self.worker.core as usize;
        let to = match self.spread {
            Spread::OwnQueues => self.cores.balance.choose(own),
            Spread::OneQueue => self.cores.balance.deal(own),
        };
        let accepted = match self.cores.remotes.get(to) {
            Some(remote) if to != own => match self.hand_over(to, remote, accepted) {
                Ok(()) => return,
                Err(accepted) => accepted,
            },
            _ => accepted,
        };
        serve(&self.worker, self.id, accepted);
    }

    fn hand_over(
        &self,
        to: usize,
        remote: &Arc<Remote>,
        accepted: Accepted,
    ) -> Result<(), Accepted> {
        let id = self.id;
        self.cores
            .balance
            .hand_over(to, remote, accepted, move |accepted| {
                on_core(|worker| serve(worker, id, accepted));
            })
    }
}

/// A socket that this core does not know has been removed, with everybody in its queue served before: dropping the
/// connection is all that is left.
fn serve(worker: &Rc<Worker>, id: SocketId, accepted: Accepted) {
    if let Some(index) = worker.sockets.index(id) {
        worker.proxy.accept(index, accepted);
    }
}
