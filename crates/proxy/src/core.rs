//! A core's side of the proxy: the configuration as this core sees it, its upstreams, its pools of memory, its log fronts.
//! Nothing here is shared with another core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use narthex_mux::Session;
use narthex_net::accept::Accepted;
use narthex_net::rt;
use narthex_net::stream::Stream;
use narthex_observe::access_log::LogHandle;
use narthex_observe::clock;
use narthex_observe::metrics::Counter;
use narthex_route::Router;
use narthex_upstream::{CoreCluster, CoreFleet};

use crate::account::Ledger;
use crate::cache::nobody;
use crate::connection;
use crate::host_cache::HostCache;
use crate::metrics::{RouteMetrics, UpstreamMetrics};
use crate::runtime::{Runtime, Shared};
use crate::shed::Stage;
use crate::work::Work;

/// Exchanges' memory kept for reuse per core.
const POOLED_WORK: usize = 512;

/// A runtime as one core sees it. A request takes one handle and keeps it to its end.
pub(crate) struct CoreRuntime {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) clusters: Vec<(Rc<CoreCluster>, UpstreamMetrics)>,
    pub(crate) logs: Vec<RefCell<LogHandle>>,
    /// This core's own: a router's regular expressions have scratch memory.
    pub(crate) router: Router,
    pub(crate) hosts: RefCell<HostCache>,
}

/// One core's proxy.
pub struct CoreProxy {
    pub(crate) core: usize,
    pub(crate) shared: Arc<Shared>,
    fleet: Rc<CoreFleet>,
    current: RefCell<Rc<CoreRuntime>>,
    /// The configuration before this one, for connections of listeners that have been removed.
    previous: RefCell<Option<Rc<CoreRuntime>>>,
    work: RefCell<Vec<Box<Work>>>,
    pub(crate) ledger: Ledger,
    draining: Cell<bool>,
    /// HTTP/2 connections, which have to be told of what ends them.
    sessions: RefCell<HashMap<u64, Rc<Session>>>,
    pub(crate) open: Cell<usize>,
    pub(crate) busy: Cell<usize>,
    random: Cell<u64>,
    id_prefix: u64,
    id_next: Cell<u64>,
    date_second: Cell<u64>,
    date: Cell<[u8; 29]>,
    pub(crate) no_site: RouteMetrics,
    failures: RefCell<Vec<(&'static str, &'static str, Counter)>>,
    /// Takes the place of clients that leave.
    pub(crate) nobody: Stream,
    /// Fetches without a client.
    pub(crate) fetches: Cell<usize>,
}

impl CoreProxy {
    /// On the core's own thread.
    pub fn new(core: u16, shared: Arc<Shared>, runtime: Arc<Runtime>) -> Rc<Self> {
        let fleet = CoreFleet::new(usize::from(core), Arc::clone(shared.fleet()));
        let current = Rc::new(CoreRuntime::new(runtime, &fleet, &shared));
        let seed = seed(core);
        let no_site = RouteMetrics::new(shared.metrics(), "none", "none");
        let ledger = Ledger::new(usize::from(core), shared.memory().buffered.clone());
        let proxy = Rc::new(Self {
            core: usize::from(core),
            shared,
            fleet,
            current: RefCell::new(current),
            previous: RefCell::default(),
            work: RefCell::default(),
            ledger,
            draining: Cell::new(false),
            sessions: RefCell::default(),
            open: Cell::new(0),
            busy: Cell::new(0),
            random: Cell::new(seed | 1),
            id_prefix: seed.rotate_left(17) ^ 0x9e37_79b9_7f4a_7c15,
            id_next: Cell::new(seed.wrapping_mul(0xbf58_476d_1ce4_e5b9)),
            date_second: Cell::new(0),
            date: Cell::new([b' '; 29]),
            no_site,
            failures: RefCell::default(),
            nobody: nobody::stream(),
            fetches: Cell::new(0),
        });
        rt::spawn(housekeeping(Rc::downgrade(&proxy)));
        proxy
    }

    /// Takes a new configuration; what is under way keeps the one it has.
    pub fn adopt(&self, runtime: Arc<Runtime>) {
        let new = Rc::new(CoreRuntime::new(runtime, &self.fleet, &self.shared));
        let old = self.current.replace(new);
        for log in &old.logs {
            log.borrow_mut().flush();
        }
        let lost = |old: &CoreRuntime, new: &CoreRuntime| {
            old.runtime
                .listeners
                .iter()
                .any(|l| new.listener(l.id).is_none())
        };
        if lost(&old, &self.runtime()) {
            self.previous.replace(Some(old));
            self.wake_sessions();
        }
    }

    /// Serves a connection that was accepted on listener number `listener` of the present configuration.
    pub fn accept(self: &Rc<Self>, listener: usize, accepted: Accepted) {
        let id = self.runtime().runtime.listeners.get(listener).map(|l| l.id);
        if let Some(id) = id {
            rt::spawn(connection::serve(Rc::clone(self), id, accepted));
        }
    }

    /// The configuration for a connection of this listener, its index there, and whether the listener still exists.
    #[inline]
    pub(crate) fn runtime_for(&self, listener: u32) -> Option<(Rc<CoreRuntime>, usize, bool)> {
        let current = self.current.borrow();
        if let Some(index) = current.listener(listener) {
            return Some((Rc::clone(&current), index, true));
        }
        let previous = self.previous.borrow();
        let previous = previous.as_ref()?;
        previous
            .listener(listener)
            .map(|index| (Rc::clone(previous), index, false))
    }

    /// How long a connection of this listener may say nothing: before its first request, or between two. Milliseconds.
    #[inline]
    pub(crate) fn idle_ms(&self, listener: u32, first: bool) -> Option<u64> {
        let of = |rt: &CoreRuntime| {
            let plan = rt.runtime.listeners.get(rt.listener(listener)?)?;
            Some(if first {
                plan.header_ms
            } else {
                plan.keep_alive_ms
            })
        };
        let now = of(&self.current.borrow());
        now.or_else(|| of(self.previous.borrow().as_ref()?))
    }

    /// From now on every answer ends its connection.
    pub fn drain(&self) {
        self.draining.set(true);
        self.wake_sessions();
    }

    fn wake_sessions(&self) {
        for session in self.sessions.borrow().values() {
            session.look();
        }
    }

    /// An HTTP/2 connection is told of a drain and of its listener's end, as long as the result lives.
    pub(crate) fn list_session(self: &Rc<Self>, session: &Rc<Session>) -> Listed {
        let id = self.id_next.get();
        self.id_next.set(id.wrapping_add(1));
        self.sessions.borrow_mut().insert(id, Rc::clone(session));
        Listed {
            proxy: Rc::clone(self),
            id,
        }
    }

    /// Is this core draining?
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Client connections that are open.
    pub fn connections(&self) -> usize {
        self.open.get()
    }

    /// Requests and tunnels under way.
    pub fn in_flight(&self) -> usize {
        self.busy.get()
    }

    /// Hands over what the access logs of this core hold.
    pub fn flush_logs(&self) {
        for log in &self.runtime().logs {
            log.borrow_mut().flush();
        }
    }

    pub(crate) fn runtime(&self) -> Rc<CoreRuntime> {
        Rc::clone(&self.current.borrow())
    }

    #[inline]
    pub(crate) fn take_work(&self) -> Box<Work> {
        self.work.borrow_mut().pop().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn give_work(&self, mut work: Box<Work>) {
        let mut pool = self.work.borrow_mut();
        if pool.len() < POOLED_WORK {
            work.reset();
            pool.push(work);
        }
    }

    /// Memory kept for reuse, bytes; none of it stays while memory is short.
    pub(crate) fn account_for_pool(&self) {
        let mut pool = self.work.borrow_mut();
        if self.shared.memory().stage() >= Stage::CloseIdle {
            *pool = Vec::new();
        }
        self.ledger.set_pooled(pool.iter().map(|w| w.held()).sum());
    }

    /// A number for choices; not for secrets.
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// 32 hexadecimal digits, unique in practice: a random prefix per core and a scrambled count.
    pub(crate) fn request_id(&self) -> [u8; 32] {
        let n = self.id_next.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.id_next.set(n);
        let mut z = n;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let mut id = [0u8; 32];
        let (high, low) = id.split_at_mut(16);
        hex(self.id_prefix ^ n.rotate_left(32), high);
        hex(z, low);
        id
    }

    /// `Date`, made once a second.
    pub(crate) fn date(&self) -> [u8; 29] {
        let second = rt::wall_ms() / 1_000;
        if second != self.date_second.get() {
            self.date_second.set(second);
            self.date.set(clock::http_date(second));
        }
        self.date.get()
    }

    /// Counts a request that did not end well.
    pub(crate) fn failed(&self, reason: &'static str, fault: &'static str) {
        let mut known = self.failures.borrow_mut();
        if let Some((_, _, counter)) = known.iter().find(|(r, f, _)| *r == reason && *f == fault) {
            counter.inc(self.core);
            return;
        }
        let counter = self.shared.metrics.failures(reason, fault);
        counter.inc(self.core);
        known.push((reason, fault, counter));
    }
}

/// See [`CoreProxy::list_session`].
pub(crate) struct Listed {
    proxy: Rc<CoreProxy>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.proxy.sessions.borrow_mut().remove(&self.id);
    }
}

impl CoreRuntime {
    fn new(runtime: Arc<Runtime>, fleet: &Rc<CoreFleet>, shared: &Shared) -> Self {
        let clusters = runtime
            .clusters
            .iter()
            .map(|cluster| {
                let hedges = cluster.settings().hedge.is_some();
                (
                    fleet.adopt(cluster),
                    UpstreamMetrics::new(shared.metrics(), cluster.name(), hedges),
                )
            })
            .collect();
        let logs = runtime
            .logs
            .iter()
            .map(|(sink, plan)| RefCell::new(sink.handle(Arc::clone(&plan.format))))
            .collect();
        let router = runtime.router.clone();
        Self {
            runtime,
            clusters,
            logs,
            router,
            hosts: RefCell::default(),
        }
    }

    #[inline]
    fn listener(&self, id: u32) -> Option<usize> {
        // The usual case first: few listeners, in an unchanged order.
        self.runtime.listeners.iter().position(|l| l.id == id)
    }
}

/// 16 hexadecimal digits, eight at a time: nibbles are spread to bytes, then moved into `0`-`9` and `a`-`f`.
fn hex(n: u64, out: &mut [u8]) {
    let spread = |half: u32| {
        let mut x = u64::from(half.swap_bytes());
        x = (x | x << 16) & 0x0000_ffff_0000_ffff;
        x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
        x = ((x & 0x000f_000f_000f_000f) << 8) | ((x >> 4) & 0x000f_000f_000f_000f);
        let letters = ((x + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        (x + 0x3030_3030_3030_3030 + letters * 0x27).to_le_bytes()
    };
    let (high, low) = out.split_at_mut(8.min(out.len()));
    high.copy_from_slice(&spread((n >> 32) as u32));
    low.copy_from_slice(&spread(n as u32));
}

/// Differs between cores and starts.
fn seed(core: u16) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u16(core);
    hasher.finish()
}

/// Twice a second, while the core lives: hands over aged log records, and brings the account of memory up to date.
async fn housekeeping(proxy: std::rc::Weak<CoreProxy>) {
    loop {
        let now = rt::now_ms();
        let Some(proxy) = proxy.upgrade() else { return };
        for log in &proxy.runtime().logs {
            log.borrow_mut().flush_if_due(now);
        }
        proxy.account_for_pool();
        let late = &proxy.shared.lateness;
        late.note(proxy.core, rt::lateness_ms(), now);
        drop(proxy);
        rt::sleep_until(now + 500).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits() {
        for n in [
            0,
            1,
            0x0123_4567_89ab_cdef,
            0xfedc_ba98_7654_3210,
            u64::MAX,
            0x9e37_79b9_7f4a_7c15,
        ] {
            let mut out = [0u8; 16];
            hex(n, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), format!("{n:016x}"));
        }
    }
}
