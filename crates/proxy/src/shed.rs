//! What is given up when memory runs short, in this order: new connections, idle ones, keep-alive, and at last the exchanges
//! that hold most. How far to go is decided elsewhere, by looking at the process ([`Memory::set_stage`]); here it is done.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use narthex_net::rt;
use narthex_observe::metrics::{Counter, Gauge, Registry};

use crate::account::Holding;
use crate::core::CoreProxy;

/// How far the process goes to get below its memory cap. Each stage does what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Below the cap.
    Calm,
    /// New connections are refused; readiness is 503.
    Refuse,
    /// Connections between two requests are closed.
    CloseIdle,
    /// Every answer ends its connection.
    EndKeepAlive,
    /// The exchanges that hold most are ended, largest first.
    Abort,
}

impl Stage {
    /// Its word, for people and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Refuse => "refuse",
            Self::CloseIdle => "idle",
            Self::EndKeepAlive => "keep-alive",
            Self::Abort => "abort",
        }
    }

    /// The one after it, or itself.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Calm => Self::Refuse,
            Self::Refuse => Self::CloseIdle,
            Self::CloseIdle => Self::EndKeepAlive,
            Self::EndKeepAlive | Self::Abort => Self::Abort,
        }
    }

    fn of(n: u8) -> Self {
        match n {
            0 => Self::Calm,
            1 => Self::Refuse,
            2 => Self::CloseIdle,
            3 => Self::EndKeepAlive,
            _ => Self::Abort,
        }
    }
}

/// The memory cap as every core sees it.
pub struct Memory {
    stage: AtomicU8,
    /// Bytes; 0 is none.
    cap: AtomicU64,
    pub(crate) buffered: Gauge,
    shown_stage: Gauge,
    shown_cap: Gauge,
    refused: Counter,
    idle: Counter,
    keep_alive: Counter,
    aborted: Counter,
}

impl Memory {
    pub(crate) fn new(registry: &Registry) -> Self {
        let shed = |stage: Stage| {
            registry.counter(
                "narthex_memory_shed_total",
                "What was given up because memory ran short: connections refused, idle ones closed, keep-alive ended, exchanges aborted.",
                &[("what", stage.word())],
            )
        };
        Self {
            stage: AtomicU8::new(Stage::Calm as u8),
            cap: AtomicU64::new(0),
            buffered: registry.gauge(
                "narthex_memory_buffered_bytes",
                "Memory in buffers that grow with what clients and servers send.",
                &[],
            ),
            shown_stage: registry.gauge(
                "narthex_memory_stage",
                "How far the process goes to get below its memory cap: 0 below it, 1 refuses connections, 2 closes idle ones, 3 ends keep-alive, 4 aborts the largest.",
                &[],
            ),
            shown_cap: registry.gauge(
                "narthex_memory_cap_bytes",
                "The memory cap; 0 is none.",
                &[],
            ),
            refused: shed(Stage::Refuse),
            idle: shed(Stage::CloseIdle),
            keep_alive: shed(Stage::EndKeepAlive),
            aborted: shed(Stage::Abort),
        }
    }

    /// How far the process goes at present.
    #[inline]
    pub fn stage(&self) -> Stage {
        Stage::of(self.stage.load(Ordering::Relaxed))
    }

    /// From now on it goes this far. Cores have to be told of [`Stage::CloseIdle`]: [`CoreProxy::close_idle`].
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
        self.shown_stage.set_shared(stage as i64);
    }

    /// The cap in bytes; 0 is none.
    pub fn cap(&self) -> u64 {
        self.cap.load(Ordering::Relaxed)
    }

    /// Sets the cap in bytes; 0 is none.
    pub fn set_cap(&self, cap: u64) {
        self.cap.store(cap, Ordering::Relaxed);
        self.shown_cap
            .set_shared(i64::try_from(cap).unwrap_or(i64::MAX));
    }

    /// Bytes in buffers that grow with what outsiders send, over all cores; each core's part is exact to 256 KiB at any time,
    /// and to the byte twice a second.
    pub fn buffered(&self) -> u64 {
        u64::try_from(self.buffered.value()).unwrap_or(0)
    }
}

impl CoreProxy {
    /// Refuses a connection, if memory is short.
    pub(crate) fn refuses_new(&self) -> bool {
        self.gives_up(Stage::Refuse, |m| &m.refused)
    }

    /// Closes a connection between two requests, if memory is short.
    pub(crate) fn closes_idle(&self) -> bool {
        self.gives_up(Stage::CloseIdle, |m| &m.idle)
    }

    /// Ends a connection with its answer, if memory is short.
    #[inline]
    pub(crate) fn ends_keep_alive(&self) -> bool {
        self.gives_up(Stage::EndKeepAlive, |m| &m.keep_alive)
    }

    #[inline]
    fn gives_up(&self, from: Stage, counter: impl FnOnce(&Memory) -> &Counter) -> bool {
        let memory = self.shared.memory();
        let gives_up = memory.stage() >= from;
        if gives_up {
            counter(memory).inc(self.core);
        }
        gives_up
    }

    /// Has every idle connection look at the stage again, and gives back what is kept for reuse.
    pub fn close_idle(&self) {
        self.account_for_pool();
        rt::current_core().wake_all();
    }

    /// The `most` exchanges of this core that hold most, largest first.
    pub fn largest(&self, most: usize) -> Vec<Holding> {
        self.ledger.largest(most)
    }

    /// Ends these exchanges, if they are still under way.
    pub fn abort(&self, chosen: &[Holding]) {
        let aborted = self.ledger.condemn(chosen);
        let counter = &self.shared.memory().aborted;
        counter.add(self.core, aborted as u64);
    }
}
