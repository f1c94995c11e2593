//! Purges on their way to the disk: those that have come meanwhile are written together, with one sync.

use std::io::{self, ErrorKind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::super::disk::{Disk, Logged};
use super::super::purge::What;
use super::super::waiters::Waiters;

/// Purges that wait; beyond it they become one of everything on disk.
const PENDING_MAX: usize = 65_536;

#[derive(Default)]
struct State {
    pending: Vec<Logged>,
    /// Somebody waits for the last of them.
    is_awaited: bool,
    /// The place of the last one that came.
    last: u64,
    /// Up to this one they are on the disk.
    durable: u64,
    /// Up to this one it could not be done, and why.
    failed: (u64, Option<ErrorKind>),
    is_closed: bool,
    /// No more is written.
    is_ended: bool,
    waiters: Waiters,
}

/// Purges on their way.
#[derive(Default)]
pub struct Journal {
    state: Mutex<State>,
    /// There is something to do.
    wake: Condvar,
    /// Something has been done.
    done: Condvar,
}

impl Journal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, later than all before it.
    pub fn add(&self, logged: Logged, is_awaited: bool) {
        let mut state = self.state();
        if state.pending.len() >= PENDING_MAX {
            state.pending.clear();
            state.pending.push(Logged {
                sequence: logged.sequence,
                soft: false,
                what: Some(What::Everything),
            });
        }
        state.last = logged.sequence;
        state.is_awaited |= is_awaited;
        state.pending.push(logged);
        drop(state);
        self.wake.notify_one();
    }

    /// Whether no crash undoes the purges up to this one; none: it is under way.
    fn outcome(state: &State, sequence: u64) -> Option<io::Result<()>> {
        // a place behind the last one is of a purge that concerns nothing on disk
        let sequence = sequence.min(state.last);
        if state.durable >= sequence {
            return Some(Ok(()));
        }
        match state.failed {
            (failed, Some(kind)) if failed >= sequence => Some(Err(kind.into())),
            _ => state.is_ended.then(|| Err(ErrorKind::NotConnected.into())),
        }
    }

    /// Waits for it.
    pub fn poll(&self, sequence: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        match Self::outcome(&state, sequence) {
            Some(outcome) => Poll::Ready(outcome),
            None if state.waiters.add(cx.waker()) => Poll::Pending,
            None => Poll::Ready(Err(ErrorKind::ResourceBusy.into())),
        }
    }

    /// Waits for it, on a thread.
    pub fn wait(&self, sequence: u64) -> io::Result<()> {
        let mut state = self.state();
        loop {
            if let Some(outcome) = Self::outcome(&state, sequence) {
                return outcome;
            }
            state = self
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes what comes until it is closed.
    pub fn run(&self, disk: &Disk) {
        let mut state = self.state();
        loop {
            if state.pending.is_empty() {
                if state.is_closed {
                    break;
                }
                state = self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let batch = std::mem::take(&mut state.pending);
            let is_awaited = std::mem::take(&mut state.is_awaited);
            drop(state);
            let last = batch.last().map_or(0, |logged| logged.sequence);
            let written = disk.log(&batch, is_awaited);
            state = self.state();
            match written {
                // what was not awaited is on the disk with the next one that is, at the latest
                Ok(()) => state.durable = last,
                Err(error) => state.failed = (last, Some(error.kind())),
            }
            self.tell(&mut state);
        }
        state.is_ended = true;
        self.tell(&mut state);
    }

    fn tell(&self, state: &mut State) {
        self.done.notify_all();
        state.waiters.take().wake();
    }

    /// What is there is written, and no more comes.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.wake.notify_all();
    }
}
