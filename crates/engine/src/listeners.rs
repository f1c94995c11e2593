//! Listeners over reloads: what stays keeps the very same sockets, what is new is open before anything changes, what is
//! gone lets in everybody who waits before it closes.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use narthex_config::model::{Address, Listener, TcpOptions};
use narthex_net::inherited::Inherited;
use narthex_net::listen::{self, Bound, ListenError};

use crate::accepting::{Cores, Spread, start};
use crate::plane::Runtime;
use crate::workers::{CoreGone, SocketId, Workers};

/// What makes a socket: a listener that differs in nothing of this keeps it.
#[derive(Debug, Clone, PartialEq)]
struct SocketKey {
    address: Address,
    /// Options that are fixed when a TCP socket is opened. A unix socket has none: a second one cannot stand beside it.
    options: Option<(bool, u32, TcpOptions)>,
}

impl SocketKey {
    fn of(listener: &Listener) -> Self {
        let options = match &listener.address {
            Address::Tcp(_) => Some((listener.ipv6_only, listener.backlog, listener.tcp.clone())),
            Address::Unix(_) | Address::Inherited(_) => None,
        };
        Self {
            address: listener.address.clone(),
            options,
        }
    }
}

/// An open socket (one per core, or one for all).
struct Open {
    id: SocketId,
    key: SocketKey,
    /// Removes a unix socket's file when dropped.
    bound: Bound,
    /// The sockets once more, for a successor: the cores have theirs.
    held: Vec<OwnedFd>,
}

/// The open sockets, in the order of the configuration's listeners.
#[derive(Default)]
pub(crate) struct Listeners {
    open: Vec<Open>,
    next: SocketId,
}

/// New sockets, opened and not yet accepting. Dropping it closes them and changes nothing.
pub(crate) struct Prepared {
    /// In the order of the new configuration's listeners.
    slots: Vec<Slot>,
}

enum Slot {
    Keep(SocketId),
    New(Box<Open>),
}

/// What to do with the open sockets, by position. Pure.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// For each wanted listener the open socket it keeps.
    keep: Vec<Option<usize>>,
    /// For each wanted listener without: is there an open socket of the same address that it replaces?
    beside: Vec<bool>,
}

fn plan(open: &[SocketKey], wanted: &[SocketKey]) -> Plan {
    let mut free: Vec<bool> = vec![true; open.len()];
    let mut keep = Vec::with_capacity(wanted.len());
    let mut beside = Vec::with_capacity(wanted.len());
    for key in wanted {
        let same = open
            .iter()
            .zip(&free)
            .position(|(other, free)| *free && other == key);
        if let Some(taken) = same.and_then(|at| free.get_mut(at)) {
            *taken = false;
        }
        keep.push(same);
        beside.push(same.is_none() && open.iter().any(|other| other.address == key.address));
    }
    Plan { keep, beside }
}

impl Listeners {
    /// Opens what is new in `wanted`. On an error everything stays as it was.
    pub(crate) fn prepare(
        &mut self,
        wanted: &[Listener],
        cores: usize,
        inherited: &mut Inherited,
    ) -> Result<Prepared, ListenError> {
        let keys: Vec<SocketKey> = wanted.iter().map(SocketKey::of).collect();
        let open: Vec<SocketKey> = self.open.iter().map(|open| open.key.clone()).collect();
        let plan = plan(&open, &keys);
        let mut slots = Vec::with_capacity(wanted.len());
        for (((listener, key), keep), beside) in
            wanted.iter().zip(keys).zip(plan.keep).zip(plan.beside)
        {
            if let Some(kept) = keep.and_then(|at| self.open.get(at)) {
                set_mode(listener);
                slots.push(Slot::Keep(kept.id));
                continue;
            }
            let bound = if beside {
                listen::bind_beside(listener, cores, inherited)?
            } else {
                listen::bind(listener, cores, inherited)?
            };
            let id = self.next;
            self.next += 1;
            let held = hold(&bound).map_err(|error| ListenError::held(&listener.name, error))?;
            slots.push(Slot::New(Box::new(Open {
                id,
                key,
                bound,
                held,
            })));
        }
        Ok(Prepared { slots })
    }

    /// Lets every core serve `runtime` on the prepared sockets: sockets that are gone end first (with the old runtime,
    /// which still knows them), then each core adopts, between two of its turns, and then they accept from what is new.
    pub(crate) async fn commit(
        &mut self,
        prepared: Prepared,
        runtime: &Arc<Runtime>,
        workers: &Workers,
        cores: &Cores,
    ) -> Result<(), CoreGone> {
        let mut old = std::mem::take(&mut self.open);
        let mut fresh = Vec::new();
        for slot in prepared.slots {
            match slot {
                Slot::Keep(id) => self.open.extend(
                    old.iter()
                        .position(|open| open.id == id)
                        .map(|at| old.remove(at)),
                ),
                Slot::New(mut open) => {
                    fresh.push((open.id, open.bound.take_sockets()));
                    self.open.push(*open);
                }
            }
        }
        end(&old, workers).await?;
        drop(old);
        let mut fresh = deal(fresh, workers.count());
        let indices: Arc<[(SocketId, usize)]> = (0..)
            .zip(&self.open)
            .map(|(index, open)| (open.id, index))
            .collect();
        workers
            .each(|_| {
                let runtime = Arc::clone(runtime);
                let indices = Arc::clone(&indices);
                move |worker| {
                    worker.proxy.adopt(runtime);
                    worker.sockets.reindex(&indices);
                }
            })
            .await?;
        // Only now that every core knows the new sockets: whoever accepts may pass a connection on at once.
        workers
            .each(|core| {
                let sockets = fresh
                    .get_mut(core as usize)
                    .map(std::mem::take)
                    .unwrap_or_default();
                let cores = cores.clone();
                move |worker| {
                    for (id, fd, spread) in sockets {
                        if let Err(error) = start(worker, id, fd, spread, &cores) {
                            tracing::error!(%error, "a core cannot accept from a socket");
                        }
                    }
                }
            })
            .await?;
        Ok(())
    }

    /// Hands all sockets over to be closed.
    pub(crate) fn closing(&mut self) -> Closing {
        let open = std::mem::take(&mut self.open);
        Closing(open, Vec::new())
    }

    /// As [`Listeners::closing`], when a successor goes on with all of them but those of the addresses `unused`.
    pub(crate) fn leaving(&mut self, unused: &[String]) -> Closing {
        let open = std::mem::take(&mut self.open);
        let left: Vec<&Open> = open
            .iter()
            .filter(|open| !unused.contains(&listen::written(&open.key.address)))
            .collect();
        for open in &left {
            open.bound.keep_path();
        }
        let left = left.iter().map(|open| open.id).collect();
        Closing(open, left)
    }

    /// Every open socket with the address that the configuration has for it, but for those that a service manager opened.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&Address, &[OwnedFd])> {
        let ours = self.open.iter().filter(|open| open.bound.is_ours());
        ours.map(|open| (&open.key.address, open.held.as_slice()))
    }

    /// Where each listener is bound, in the order of the configuration's listeners.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = String> {
        self.open
            .iter()
            .map(|open| crate::admin_socket::describe(open.bound.address()))
    }
}

impl Prepared {
    /// The process before us has left its sockets to us; they become what the configuration says now.
    pub(crate) fn own(&mut self, listeners: &[Listener]) {
        for (slot, listener) in self.slots.iter().zip(listeners) {
            let Slot::New(open) = slot else { continue };
            if !open.bound.is_adopted() {
                continue;
            }
            open.bound.own();
            set_mode(listener);
            if let Err(error) = open.bound.refresh(listener) {
                tracing::warn!(listener = listener.name, %error, "a socket keeps the options of the process before us");
            }
        }
    }
}

/// Sockets that shall end; those of the second list a successor goes on with.
#[derive(Default)]
pub(crate) struct Closing(Vec<Open>, Vec<SocketId>);

impl Closing {
    /// Accepts nobody any more: lets in everybody who waits, then closes the sockets.
    pub(crate) async fn close(self, workers: &Workers) -> Result<(), CoreGone> {
        end_or_leave(&self.0, &self.1, workers).await
    }
}

/// A unix socket that stays follows a change of its mode.
fn set_mode(listener: &Listener) {
    let Address::Unix(path) = &listener.address else {
        return;
    };
    let mode = std::fs::Permissions::from_mode(listener.mode);
    if let Err(error) = std::fs::set_permissions(path, mode) {
        tracing::warn!(path = %path.display(), %error, "the mode of a unix socket could not be changed");
    }
}

/// One core's part of the new sockets.
type CoreSockets = Vec<(SocketId, OwnedFd, Spread)>;

/// The sockets of a listener a second time.
fn hold(bound: &Bound) -> io::Result<Vec<OwnedFd>> {
    bound.sockets().iter().map(|fd| fd.try_clone()).collect()
}

/// Gives each core its own socket of a group. Of fewer sockets than cores (one for all, or a predecessor had fewer cores)
/// the connections are dealt out; they begin at another core each time. Of more, cores have several.
fn deal(fresh: Vec<(SocketId, Vec<OwnedFd>)>, cores: usize) -> Vec<CoreSockets> {
    let mut dealt: Vec<CoreSockets> = (0..cores).map(|_| Vec::new()).collect();
    for (id, sockets) in fresh {
        let (spread, first) = if sockets.len() == 1 || sockets.len() < cores {
            (Spread::OneQueue, id as usize % cores.max(1))
        } else {
            (Spread::OwnQueues, 0)
        };
        for (number, fd) in sockets.into_iter().enumerate() {
            if let Some(core) = dealt.get_mut((first + number) % cores.max(1)) {
                core.push((id, fd, spread));
            }
        }
    }
    dealt
}

async fn end(gone: &[Open], workers: &Workers) -> Result<(), CoreGone> {
    end_or_leave(gone, &[], workers).await
}

async fn end_or_leave(gone: &[Open], left: &[SocketId], workers: &Workers) -> Result<(), CoreGone> {
    if gone.is_empty() {
        return Ok(());
    }
    let ids: Arc<[(SocketId, bool)]> = gone
        .iter()
        .map(|open| (open.id, open.bound.is_ours() && !left.contains(&open.id)))
        .collect();
    workers
        .each_task(|_| {
            let ids = Arc::clone(&ids);
            move |worker| {
                let loops: Vec<_> = ids
                    .iter()
                    .map(|(id, ours)| worker.sockets.end(*id, *ours))
                    .collect();
                async move {
                    for ended in loops {
                        ended.await;
                    }
                }
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16, backlog: u32) -> SocketKey {
        let mut listener = Listener::new("x", Address::Tcp(([127, 0, 0, 1], port).into()));
        listener.backlog = backlog;
        SocketKey::of(&listener)
    }

    #[test]
    fn what_is_the_same_is_kept_in_any_order() {
        let plan = plan(&[key(1, 9), key(2, 9)], &[key(2, 9), key(1, 9)]);
        assert_eq!(plan.keep, [Some(1), Some(0)]);
    }

    #[test]
    fn another_option_opens_a_socket_beside_the_old_one() {
        let plan = plan(&[key(1, 9)], &[key(1, 10), key(3, 9)]);
        assert_eq!(
            (plan.keep, plan.beside),
            (vec![None, None], vec![true, false])
        );
    }

    #[test]
    fn one_socket_serves_one_listener() {
        let plan = plan(&[key(1, 9)], &[key(1, 9), key(1, 9)]);
        assert_eq!(
            (plan.keep, plan.beside),
            (vec![Some(0), None], vec![false, true])
        );
    }

    #[test]
    fn a_unix_socket_is_kept_whatever_its_mode() {
        let mut listener = Listener::new("x", Address::Unix("/run/x".into()));
        let before = SocketKey::of(&listener);
        listener.mode = 0o600;
        assert_eq!(before, SocketKey::of(&listener));
    }

    #[test]
    fn sockets_are_dealt_to_the_cores() {
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let dealt = deal(vec![(0, vec![fd(), fd()]), (1, vec![fd()])], 2);
        let ids = |core: &CoreSockets| {
            core.iter()
                .map(|(id, _, spread)| (*id, *spread))
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&dealt[0]), [(0, Spread::OwnQueues)]);
        assert_eq!(
            ids(&dealt[1]),
            [(0, Spread::OwnQueues), (1, Spread::OneQueue)]
        );
        assert_eq!(deal(vec![(5, vec![fd()])], 1)[0].len(), 1);
    }

    #[test]
    fn a_predecessor_may_have_had_more_cores_or_fewer() {
        let fds = |n: usize| -> Vec<OwnedFd> {
            let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
            (0..n).map(|_| fd()).collect()
        };
        let counts = |sockets, cores| -> Vec<usize> {
            let dealt = deal(vec![(0, fds(sockets))], cores);
            dealt.iter().map(Vec::len).collect()
        };
        assert_eq!(counts(5, 2), [3, 2]);
        assert_eq!(counts(2, 4), [1, 1, 0, 0]);
        let spread = |sockets, cores| deal(vec![(0, fds(sockets))], cores)[0][0].2;
        assert_eq!(spread(2, 4), Spread::OneQueue);
        assert_eq!(spread(4, 2), Spread::OwnQueues);
    }
}
