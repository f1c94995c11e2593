//! One server at one address, as the whole process sees it: what the cores read, and what is counted. How its marks change
//! is in [`marks`], what there is to see of it in [`status`].

mod marks;
mod ramp;
mod standing;
pub(crate) mod state;
mod status;

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narthex_config::model::{Order, Server, ServerAddress, SlowStart};
use narthex_net::dial::Target;

use crate::breaker::Breaker;
use crate::clock::{monotonic_ms, wall_ms};
use crate::gate::{Gate, QueueFigures};

use ramp::Ramp;

pub use marks::Report;
pub use status::{EndpointStatus, State};

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
    /// Failures, and answers of 500 and more.
    pub(crate) bad: AtomicU64,
    /// Attempts that were ended because another answered first: nothing is known of how they would have ended.
    pub(crate) given_up: AtomicU64,
    pub(crate) connects: AtomicU64,
}

impl CoreCounters {
    /// Adds to a counter that only this core writes: no read-modify-write on the bus.
    #[inline]
    pub(crate) fn bump(counter: &AtomicU64) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// As [`CoreCounters::bump`], by `by`, never below zero.
    #[inline]
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
    pub(crate) fn from_bits(bits: u8) -> Self {
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
    /// Why it is what it is since then.
    reason: String,
    ejections: u64,
    last_error: Option<(String, u64)>,
}

/// A server at an address. Shared by all cores; kept across reloads.
#[derive(Debug)]
pub struct Endpoint {
    id: u64,
    name: String,
    identity: Identity,
    /// Sockets to it.
    pub(crate) sockets: Arc<Gate>,
    /// Requests at it, where they are limited.
    pub(crate) places: Arc<Gate>,
    /// [`Order`] as a number.
    order: AtomicU8,
    active: AtomicU8,
    /// 0: in. Else out until this monotonic millisecond; from then on whoever moves it on holds the trial.
    out_until: AtomicU64,
    /// A request tries the server although it is out.
    trial: AtomicU8,
    /// When the server came back, or was added beside others (monotonic ms); 0 is never.
    returned: AtomicU64,
    ramp: Ramp,
    cores: Box<[CoreCounters]>,
    /// Requests, failures and connects of the processes before this one.
    carried: [AtomicU64; 3],
    record: Mutex<Record>,
}

impl Endpoint {
    pub(crate) fn new(
        id: u64,
        server: &Server,
        target: Target,
        cores: usize,
        sockets: Arc<Gate>,
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
            places: Gate::new(0, 0),
            active: AtomicU8::new(Active::Unchecked as u8),
            out_until: AtomicU64::new(0),
            trial: AtomicU8::new(0),
            returned: AtomicU64::new(0),
            ramp: Ramp::default(),
            cores: (0..cores.max(1)).map(|_| CoreCounters::default()).collect(),
            carried: Default::default(),
            record: Mutex::new(Record {
                since: wall_ms(),
                ..Record::default()
            }),
        }
    }

    /// The name of a server at one of its addresses.
    pub(crate) fn name_of(server: &Server, target: &Target) -> String {
        match &server.address {
            ServerAddress::Dns { .. } | ServerAddress::Srv { .. } => {
                format!("{} ({target})", server.name)
            }
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

    /// Whoever may be used again takes up its share slowly, as after any other absence.
    pub(crate) fn set_order(&self, order: Order) {
        if self.order.swap(order as u8, Ordering::Relaxed) == order as u8 {
            return;
        }
        if order == Order::Ready {
            self.begin_ramp(monotonic_ms());
        }
        self.record().changed("by order".to_owned());
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

    #[inline]
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

    /// Idle connections of one core.
    pub(crate) fn idle_on(&self, core: usize) -> u64 {
        u64::from(self.counters(core).idle.load(Ordering::Relaxed))
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

    fn sum(&self, counter: impl Fn(&CoreCounters) -> &AtomicU64) -> u64 {
        self.cores
            .iter()
            .map(|c| counter(c).load(Ordering::Relaxed))
            .sum()
    }

    /// Requests given to it since the start.
    pub fn requests(&self) -> u64 {
        self.counts().requests
    }

    /// Failed ones among them.
    pub fn failures(&self) -> u64 {
        self.counts().failures
    }

    /// Connections opened.
    pub fn connects(&self) -> u64 {
        self.counts().connects
    }

    /// Times that it was taken out for failures.
    pub fn ejections(&self) -> u64 {
        self.record().ejections
    }

    /// Sockets, idle or not.
    pub fn connections(&self) -> u64 {
        self.sockets.used() as u64
    }

    /// Requests that wait for a socket or a place.
    pub fn waiting(&self) -> u64 {
        self.queue().waiting
    }

    /// Its queues: of those who wait for a socket, and for a place among its requests.
    pub fn queue(&self) -> QueueFigures {
        self.sockets.figures() + self.places.figures()
    }

    /// Requests that it was given and left to end, and those of them that ended badly.
    pub(crate) fn tried_and_bad(&self) -> (u64, u64) {
        let given = self.sum(|c| &c.requests);
        (given.saturating_sub(self.given_up()), self.sum(|c| &c.bad))
    }

    /// Requests that were taken from it because another server answered first.
    pub(crate) fn given_up(&self) -> u64 {
        self.sum(|c| &c.given_up)
    }

    pub(crate) fn active(&self) -> Active {
        Active::from_bits(self.active.load(Ordering::Relaxed))
    }

    /// Out by passive marking at `now`?
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.out_until.load(Ordering::Relaxed) > now
    }

    /// In its ramp: the part of its share that it has now, in percent.
    pub(crate) fn ramped(&self, now: u64) -> Option<u8> {
        match self.returned.load(Ordering::Relaxed) {
            0 => None,
            returned => self.ramp.percent(now.saturating_sub(returned)),
        }
    }

    /// How it takes up its load.
    pub(crate) fn set_ramp(&self, slow_start: &SlowStart) {
        self.ramp.set(slow_start);
    }

    /// It was added beside servers that are at work.
    pub(crate) fn begin_ramp(&self, now: u64) {
        self.returned.store(now, Ordering::Relaxed);
    }

    /// Would another request have to wait?
    pub(crate) fn is_full(&self) -> bool {
        self.places.is_full() || self.sockets.is_full() && self.idle() == 0
    }

    /// Is a good result worth telling [`Endpoint::recovered`]?
    pub(crate) fn is_out(&self) -> bool {
        self.out_until.load(Ordering::Relaxed) != 0
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
