//! One server at one address, as the whole process sees it.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narthex_config::model::{Server, ServerAddress};
use narthex_net::dial::Target;

use crate::balance::FULL;
use crate::breaker::{Breaker, Rule, most_out};
use crate::clock::{monotonic_ms, wall_ms};
use crate::cluster::Cluster;
use crate::sockets::Sockets;

/// A server that comes back takes so long to get its full share, in milliseconds.
const RETURN_MS: u64 = 10_000;
/// Its share at the beginning, in percent.
const RETURN_FROM: u64 = 10;
/// A trial of an ejected server that nobody has heard of for so long may be repeated by another request.
const TRIAL_MS: u64 = 10_000;

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

/// How an attempt ended, for passive marking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Well.
    Ok,
    /// With this status; a failure if the upstream retries on it.
    Status(u16),
    /// The connect failed by the server's fault: see [`crate::ConnectError::blames_server`].
    ConnectFailed,
    /// The connection died before the response was complete. Not for a reused connection that died before any byte of
    /// a response: that is the race of keep-alive, nobody's fault.
    Reset,
    /// The response did not come in time.
    Timeout,
    /// What came is not a response.
    Invalid,
}

impl Report {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Status(_) => "failing status",
            Self::ConnectFailed => "connect failed",
            Self::Reset => "connection reset",
            Self::Timeout => "response timeout",
            Self::Invalid => "invalid response",
        }
    }
}

/// A server's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In use (checked and well, or not checked).
    Up,
    /// In use; the first check has not ended.
    Unknown,
    /// In use with a growing share after it was out.
    Returning,
    /// Out by passive marking.
    Ejected,
    /// One request tries it.
    Trial,
    /// Out by the active check.
    Down,
}

impl State {
    /// For logs, metrics and status pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::Returning => "returning",
            Self::Ejected => "ejected",
            Self::Trial => "trial",
            Self::Down => "down",
        }
    }
}

/// What there is to see of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointStatus {
    /// As written; with the address for one of several that a DNS name stands for.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Its state.
    pub state: State,
    /// Unix time in milliseconds of the last change of state.
    pub since: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Idle connections.
    pub idle: u64,
    /// Sockets, idle or not.
    pub sockets: u64,
    /// Requests that wait for a socket.
    pub waiting: u64,
    /// Requests given to it since the start.
    pub requests: u64,
    /// Failed ones among them.
    pub failures: u64,
    /// Connections opened.
    pub connects: u64,
    /// The last failure, what and when (Unix milliseconds).
    pub last_error: Option<(String, u64)>,
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
        let name = match &server.address {
            ServerAddress::Dns { .. } => format!("{} ({target})", server.name),
            _ => server.name.clone(),
        };
        Self {
            id,
            name,
            identity: Identity {
                address: server.address.clone(),
                target,
            },
            sockets,
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
        if matches!(self.active(), Active::Unwell | Active::Gone) || self.is_ejected(now) {
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
        if self.active() == Active::Gone {
            0
        } else {
            weight.saturating_mul(FULL)
        }
    }

    /// Call when the server was chosen: is it out, so that this request is its trial? `Err` if another request is.
    pub(crate) fn enter(&self, now: u64) -> Result<bool, ()> {
        let until = self.out_until.load(Ordering::Relaxed);
        if until == 0 {
            return Ok(false);
        }
        if until > now {
            return Err(());
        }
        let moved = self.out_until.compare_exchange(
            until,
            now.saturating_add(TRIAL_MS),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if moved.is_err() {
            return Err(());
        }
        self.trial.store(1, Ordering::Relaxed);
        Ok(true)
    }

    /// The request that tried the server ended without a verdict: let another try.
    pub(crate) fn trial_abandoned(&self, now: u64) {
        if self.trial.swap(0, Ordering::Relaxed) != 0 {
            self.out_until.store(now, Ordering::Release);
        }
    }

    /// Is a good result worth telling [`Endpoint::recovered`]?
    pub(crate) fn is_out(&self) -> bool {
        self.out_until.load(Ordering::Relaxed) != 0
    }

    /// A trial succeeded.
    pub(crate) fn recovered(&self, cluster: &Cluster) {
        let mut record = self.record();
        if record.breaker.success() || self.is_out() {
            self.come_back(&mut record);
            drop(record);
            tracing::info!(
                upstream = cluster.name(),
                server = self.name,
                "server is back: a trial request succeeded"
            );
        }
    }

    fn come_back(&self, record: &mut Record) {
        self.returned.store(monotonic_ms(), Ordering::Relaxed);
        self.trial.store(0, Ordering::Relaxed);
        self.out_until.store(0, Ordering::Release);
        record.since = wall_ms();
    }

    /// A failure that the server is to blame for.
    pub(crate) fn failed(&self, cluster: &Cluster, report: Report, trial: bool, now: u64) {
        let settings = cluster.settings();
        let mut record = self.record();
        let what = match report {
            Report::Status(status) => format!("status {status}"),
            other => other.word().to_owned(),
        };
        record.last_error = Some((what, wall_ms()));
        let Some(until) =
            record
                .breaker
                .failure(now, self.requests(), trial, Rule::from(&settings.eject))
        else {
            return;
        };
        let turn = cluster.ejecting();
        let set = cluster.set();
        let others = set
            .members
            .iter()
            .filter(|m| m.endpoint.id != self.id && m.endpoint.is_ejected(now))
            .count();
        if others >= most_out(set.members.len(), settings.eject.at_most) {
            if trial {
                // It stays in, for want of others; the next request is a trial again.
                self.out_until.store(now, Ordering::Release);
                self.trial.store(0, Ordering::Relaxed);
            }
            return;
        }
        record.breaker.eject(now, until);
        record.since = wall_ms();
        self.trial.store(0, Ordering::Relaxed);
        self.out_until.store(until, Ordering::Release);
        drop(turn);
        drop(record);
        let seconds = until.saturating_sub(now).div_ceil(1_000);
        tracing::warn!(
            upstream = cluster.name(),
            server = self.name,
            reason = report.word(),
            seconds,
            "server is taken out: it keeps failing"
        );
    }

    /// The active check came to a verdict, or has ended. Says whether anything changed.
    pub(crate) fn set_active(&self, active: Active, error: Option<&str>) -> bool {
        let old = Active::from_bits(self.active.swap(active as u8, Ordering::Relaxed));
        let mut record = self.record();
        if let Some(error) = error {
            record.last_error = Some((format!("health check: {error}"), wall_ms()));
        }
        if old == active {
            return false;
        }
        record.since = wall_ms();
        if active == Active::Up && matches!(old, Active::Unwell | Active::Gone) {
            record.breaker.reset();
            self.come_back(&mut record);
        }
        true
    }

    /// Its state now.
    pub fn state(&self) -> State {
        let now = monotonic_ms();
        match self.active() {
            Active::Unwell | Active::Gone => return State::Down,
            Active::Unknown if !self.is_out() => return State::Unknown,
            _ => {}
        }
        let returned = self.returned.load(Ordering::Relaxed);
        match self.out_until.load(Ordering::Relaxed) {
            0 if returned != 0 && now.saturating_sub(returned) < RETURN_MS => State::Returning,
            0 => State::Up,
            _ if self.trial.load(Ordering::Relaxed) != 0 => State::Trial,
            until if until <= now => State::Trial,
            _ => State::Ejected,
        }
    }

    /// All there is to see.
    pub fn status(&self) -> EndpointStatus {
        let record = self.record();
        EndpointStatus {
            name: self.name.clone(),
            address: self.identity.target.to_string(),
            state: self.state(),
            since: record.since,
            in_flight: self.in_flight(),
            idle: self.idle(),
            sockets: self.sockets.used() as u64,
            waiting: self.sockets.waiting() as u64,
            requests: self.requests(),
            failures: self
                .cores
                .iter()
                .map(|c| c.failures.load(Ordering::Relaxed))
                .sum(),
            connects: self
                .cores
                .iter()
                .map(|c| c.connects.load(Ordering::Relaxed))
                .sum(),
            last_error: record.last_error.clone(),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
