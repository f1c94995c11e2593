//! One server's idle connections on one core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use narthex_net::rt::{self, TaskKey};

use super::CoreFleet;
use super::h2::Sessions;
use super::lease::Connection;
use crate::balance::least_time::Recent;
use crate::cluster::{Cluster, Settings};
use crate::endpoint::{CoreCounters, Endpoint};
use crate::gate::Next;

struct Idle {
    connection: Connection,
    /// Monotonic ms from which it is not used any more.
    until: u64,
}

/// After a kept connection died under a request, requests that cannot be sent twice get new ones for so long. Milliseconds.
const RACY: u64 = 60_000;

/// This core's side of a server.
pub(super) struct CoreEndpoint {
    shared: Arc<Endpoint>,
    core: usize,
    fleet: Weak<CoreFleet>,
    /// Connections of HTTP/2.
    pub(super) sessions: Rc<Sessions>,
    /// Oldest in front.
    idle: RefCell<VecDeque<Idle>>,
    /// How long it took lately, as this core saw it.
    pub(super) recent: Cell<Recent>,
    /// Not in the set any more: nothing is kept.
    retired: Cell<bool>,
    /// Until then the server is known to close connections just as they are used. Monotonic ms.
    racy_until: Cell<u64>,
}

impl CoreEndpoint {
    pub(super) fn new(shared: Arc<Endpoint>, core: usize, fleet: Weak<CoreFleet>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            core,
            fleet,
            sessions: Rc::default(),
            idle: RefCell::default(),
            recent: Cell::default(),
            retired: Cell::new(false),
            racy_until: Cell::new(0),
        })
    }

    #[inline]
    pub(super) fn shared(&self) -> &Arc<Endpoint> {
        &self.shared
    }

    pub(super) fn core(&self) -> usize {
        self.core
    }

    pub(super) fn fleet(&self) -> Option<Rc<CoreFleet>> {
        self.fleet.upgrade()
    }

    #[inline]
    pub(super) fn counters(&self) -> &CoreCounters {
        self.shared.counters(self.core)
    }

    /// A kept connection died under a request.
    pub(super) fn raced(&self) {
        self.racy_until.set(rt::now_ms().saturating_add(RACY));
    }

    /// Has that happened lately?
    pub(super) fn is_racy(&self) -> bool {
        rt::now_ms() < self.racy_until.get()
    }

    /// Requests under way of this core.
    pub(super) fn in_flight(&self) -> u64 {
        u64::from(self.counters().in_flight.load(Ordering::Relaxed))
    }

    /// A response's head came after so many microseconds, or was waited for in vain for so long.
    pub(super) fn observe(&self, us: u64) {
        self.recent.set(self.recent.get().with(us, rt::now_ms()));
    }

    /// The newest idle connection that is fit for use.
    #[inline(always)]
    pub(super) fn take_idle(&self, encryption: u64) -> Option<Connection> {
        let now = rt::now_ms();
        loop {
            let idle = self.idle.borrow_mut().pop_back()?;
            self.count(-1);
            // One that was made before the configuration said how is nobody's.
            if idle.connection.encryption == encryption && idle.is_fit(now) {
                return Some(idle.into_use());
            }
        }
    }

    /// Keeps a connection for the next request; or hands it to one that waits; or closes it.
    #[inline(always)]
    pub(super) fn put_idle(
        &self,
        connection: Connection,
        cluster: &Cluster,
        settings: &Settings,
        hint_ms: Option<u64>,
    ) {
        let Some(fleet) = self.fleet.upgrade() else {
            return;
        };
        if is_wanted_by_all(cluster) {
            // The place at the server and the one among all of the upstream's are passed on apart, each to who has waited
            // longest for it. Handing the connection on would serve this server's queue alone.
            return;
        }
        let lifetime = lifetime(settings.ms.idle, hint_ms);
        let keep = !self.retired.get()
            && lifetime > 0
            && self.has_room(settings.connections.idle, fleet.fleet.cores());
        // With a limit on sockets a request may wait for this very connection, whatever the idle cap says.
        let limited = self.shared.sockets.is_limited();
        if !(keep || limited && !self.retired.get()) || !connection.stream.is_quiet() {
            return;
        }
        connection.stream.watch(fleet.reaper.get());
        let until = rt::now_ms().saturating_add(lifetime);
        self.idle.borrow_mut().push_back(Idle { connection, until });
        self.count(1);
        if limited {
            self.pass_on(keep);
        }
        // Whoever waits for any socket of the upstream may have counted on finding this one idle.
        if is_wanted_by_all(cluster) {
            self.drop_newest();
        }
    }

    /// What has just become idle goes to the first who waits for a socket to this server, here or elsewhere.
    fn pass_on(&self, keep: bool) {
        match self.shared.sockets.next(self.core) {
            Next::Nobody if keep => {}
            Next::Nobody | Next::Elsewhere => self.drop_newest(),
            Next::Here(ticket) => {
                // The one that was just put there, however short it may be kept: somebody counts on it.
                let idle = self.idle.borrow_mut().pop_back();
                if let Some(idle) = idle
                    && let Some(fleet) = self.fleet.upgrade()
                {
                    self.count(-1);
                    fleet.hand(self.shared.id(), ticket, idle.into_use());
                }
            }
        }
    }

    fn drop_newest(&self) {
        let idle = self.idle.borrow_mut().pop_back();
        if idle.is_some() {
            self.count(-1);
        }
    }

    /// The connection that was handed over under a ticket.
    pub(super) fn take_handed(&self, ticket: u64) -> Option<Connection> {
        self.fleet.upgrade()?.take_handed(self.shared.id(), ticket)
    }

    /// A core's even share of the cap is its own; more is for whoever comes first. Cores that grow at the same time can
    /// exceed the cap for a moment; the reaper takes that back.
    #[inline]
    fn has_room(&self, cap: usize, cores: usize) -> bool {
        let here = self.idle.borrow().len();
        here < cap / cores || self.shared.idle() < cap as u64
    }

    /// Closes the idle connection that has waited longest.
    pub(super) fn give_up_oldest(&self) -> bool {
        let idle = self.idle.borrow_mut().pop_front();
        let found = idle.is_some();
        if found {
            self.count(-1);
        }
        found || self.sessions.give_up_idle()
    }

    /// Closes what is not fit, and what is above the cap; says how many.
    pub(super) fn sweep(&self, now: u64, cap: usize, cores: usize) -> usize {
        let mut unfit = Vec::new();
        {
            let mut idle = self.idle.borrow_mut();
            if idle.is_empty() {
                return 0;
            }
            let mut kept = VecDeque::with_capacity(idle.len());
            for connection in idle.drain(..) {
                if connection.is_fit(now) {
                    kept.push_back(connection);
                } else {
                    unfit.push(connection);
                }
            }
            *idle = kept;
        }
        self.count(-isize::try_from(unfit.len()).unwrap_or(isize::MAX));
        let mut closed = unfit.len();
        // Closing gives permits back, which may wake others: not inside the borrow.
        drop(unfit);
        while self.shared.idle() > cap as u64
            && self.idle.borrow().len() > cap / cores
            && self.give_up_oldest()
        {
            closed += 1;
        }
        closed
    }

    /// Closes everything and keeps nothing from now on.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.sessions.retire();
        while self.give_up_oldest() {}
    }

    #[inline(always)]
    fn count(&self, by: isize) {
        CoreCounters::shift(&self.counters().idle, i32::try_from(by).unwrap_or(0));
        if let Some(fleet) = self.fleet.upgrade() {
            fleet.count_idle(by);
        }
    }
}

/// Does somebody wait for a socket to any server of the upstream?
#[inline]
fn is_wanted_by_all(cluster: &Cluster) -> bool {
    cluster.sockets().is_limited() && cluster.sockets().is_awaited()
}

impl Idle {
    #[inline(always)]
    fn into_use(self) -> Connection {
        let mut connection = self.connection;
        connection.stream.watch(TaskKey::NONE);
        connection.reused = true;
        connection
    }

    /// Anything that a server says on an idle connection, its end included, makes it unusable: what comes next would be
    /// read as the answer to somebody's request. Costs no system call.
    #[inline(always)]
    fn is_fit(&self, now: u64) -> bool {
        now < self.until && self.connection.stream.is_idle()
    }
}

/// How long a connection may be idle: the configured time, or less than the server says (`Keep-Alive: timeout`), so that
/// we are the one who closes.
#[inline]
fn lifetime(configured: u64, hint_ms: Option<u64>) -> u64 {
    let hint = hint_ms.map_or(u64::MAX, |hint| {
        if hint >= 2_000 {
            hint - 1_000
        } else {
            hint / 2
        }
    });
    configured.min(hint)
}

#[cfg(test)]
mod tests {
    use super::lifetime;

    #[test]
    fn we_close_first() {
        assert_eq!(lifetime(30_000, None), 30_000);
        assert_eq!(lifetime(30_000, Some(5_000)), 4_000);
        assert_eq!(lifetime(30_000, Some(1_000)), 500);
        assert_eq!(lifetime(30_000, Some(0)), 0);
        assert_eq!(lifetime(30_000, Some(60_000)), 30_000);
    }
}
