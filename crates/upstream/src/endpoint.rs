//! One server at one address, as the whole process sees it: what the cores read, and what is counted. How its marks change
//! is in [`marks`], what there is to see of it in [`status`].

mod marks;
mod status;

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narthex_config::model::{Order, Server, ServerAddress};
use narthex_net::dial::Target;

use crate::balance::FULL;
use crate::breaker::Breaker;
use crate::clock::wall_ms;
use crate::sockets::Sockets;

pub use marks::Report;
pub use status::{EndpointStatus, State};

/// A server that comes back takes so long to get its full share, in milliseconds.
const RETURN_MS: u64 = 10_000;
/// Its share at the beginning, in percent.
const RETURN_FROM: u64 = 10;

/// What makes a server the same server after a reload or another DNS answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) address: ServerAddress,
    pub(crate) target: Target,
}

/// Counters of one core: one writer, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CoreCounters {
    pub(crate) in_flight: AtomicU32,
    pub(crate) idle: AtomicU32,
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) connects: AtomicU64,
}

impl CoreCounters {
    /// Adds to a counter that only this core writes: no read-modify-write on the bus.
    pub(crate) fn bump(counter: &AtomicU64) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// As [`CoreCounters::bump`], by `by`, never below zero.
    pub(crate) fn shift(counter: &AtomicU32, by: i32) {
        counter.store(
            counter.load(Ordering::Relaxed).saturating_add_signed(by),
            Ordering::Relaxed,
        );
    }
}

/// What the active check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Active {
    /// No check is configured.
    Unchecked = 0,
    /// Checked, no verdict yet.
    Unknown = 1,
    Up = 2,
    /// It answers, but wrongly or late: used when nothing else is left.
    Unwell = 3,
    /// It cannot be reached: never used.
    Gone = 4,
}

impl Active {
    fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Unknown,
            2 => Self::Up,
            3 => Self::Unwell,
            4 => Self::Gone,
            _ => Self::Unchecked,
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    breaker: Breaker,
    since: u64,
    last_error: Option<(String, u64)>,
}

/// A server at an address. Shared by all cores; kept across reloads.
#[derive(Debug)]
pub struct Endpoint {
    id: u64,
    name: String,
    identity: Identity,
    pub(crate) sockets: Arc<Sockets>,
    /// [`Order`] as a number.
    order: AtomicU8,
    active: AtomicU8,
    /// 0: in. Else out until this monotonic millisecond; from then on whoever moves it on holds the trial.
    out_until: AtomicU64,
    /// A request tries the server although it is out.
    trial: AtomicU8,
    /// When the server came back (monotonic ms); 0 is never.
    returned: AtomicU64,
    cores: Box<[CoreCounters]>,
    record: Mutex<Record>,
}

impl Endpoint {
    pub(crate) fn new(
        id: u64,
        server: &Server,
        target: Target,
        cores: usize,
        sockets: Arc<Sockets>,
    ) -> Self {
        Self {
            id,
            name: Self::name_of(server, &target),
            identity: Identity {
                address: server.address.clone(),
                target,
            },
            sockets,
            order: AtomicU8::new(server.order as u8),
            active: AtomicU8::new(Active::Unchecked as u8),
            out_until: AtomicU64::new(0),
            trial: AtomicU8::new(0),
            returned: AtomicU64::new(0),
            cores: (0..cores.max(1)).map(|_| CoreCounters::default()).collect(),
            record: Mutex::new(Record {
                since: wall_ms(),
                ..Record::default()
            }),
        }
    }

    /// The name of a server at one of its addresses.
    pub(crate) fn name_of(server: &Server, target: &Target) -> String {
        match &server.address {
            ServerAddress::Dns { .. } => format!("{} ({target})", server.name),
            _ => server.name.clone(),
        }
    }

    /// What it may be used for, by the word of the file or the operator.
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            1 => Order::Drain,
            2 => Order::Down,
            _ => Order::Ready,
        }
    }

    pub(crate) fn set_order(&self, order: Order) {
        self.order.store(order as u8, Ordering::Relaxed);
    }

    /// Unique in the process, never reused.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Name for logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.identity.target
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn counters(&self, core: usize) -> &CoreCounters {
        // One set per core; a number out of range shares the last one and costs exactness, never memory.
        &self.cores[core.min(self.cores.len() - 1)]
    }

    /// Requests under way, on all cores.
    pub fn in_flight(&self) -> u64 {
        self.cores
            .iter()
            .map(|c| u64::from(c.in_flight.load(Ordering::Relaxed)))
            .sum()
    }

    /// Idle connections, on all cores.
    pub fn idle(&self) -> u64 {
        self.cores
            .iter()
            .map(|c| u64::from(c.idle.load(Ordering::Relaxed)))
            .sum()
    }

    /// The core, other than `but`, with most idle connections, if there is any.
    pub(crate) fn most_idle(&self, but: usize) -> Option<usize> {
        let idle = self
            .cores
            .iter()
            .map(|c| c.idle.load(Ordering::Relaxed))
            .enumerate();
        idle.filter(|(core, n)| *core != but && *n > 0)
            .max_by_key(|(_, n)| *n)
            .map(|(core, _)| core)
    }

    fn requests(&self) -> u64 {
        self.cores
            .iter()
            .map(|c| c.requests.load(Ordering::Relaxed))
            .sum()
    }

    pub(crate) fn active(&self) -> Active {
        Active::from_bits(self.active.load(Ordering::Relaxed))
    }

    /// Out by passive marking at `now`?
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.out_until.load(Ordering::Relaxed) > now
    }

    /// Out, and the time has come to try it?
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let until = self.out_until.load(Ordering::Relaxed);
        until != 0 && until <= now
    }

    /// The share this server takes part with, for a configured `weight`; 0 if it is out.
    pub(crate) fn share(&self, weight: u32, now: u64) -> u32 {
        if matches!(self.active(), Active::Unwell | Active::Gone)
            || self.is_ejected(now)
            || self.order() != Order::Ready
        {
            return 0;
        }
        let returned = self.returned.load(Ordering::Relaxed);
        if returned != 0 {
            let back = now.saturating_sub(returned);
            if back < RETURN_MS {
                let percent = RETURN_FROM + back * (100 - RETURN_FROM) / RETURN_MS;
                return weight.saturating_mul((percent as u32 * FULL / 100).max(1));
            }
        }
        weight.saturating_mul(FULL)
    }

    /// The share when nothing is left: all but those that cannot be reached.
    pub(crate) fn share_of_last_resort(&self, weight: u32) -> u32 {
        if self.active() == Active::Gone || self.order() != Order::Ready {
            0
        } else {
            weight.saturating_mul(FULL)
        }
    }

    /// Is a good result worth telling [`Endpoint::recovered`]?
    pub(crate) fn is_out(&self) -> bool {
        self.out_until.load(Ordering::Relaxed) != 0
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
