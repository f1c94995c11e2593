//! Purges of a store whose directory another process still has. They have taken effect in memory; on disk they do when the directory
//! comes, before anything is read there, and nobody is told before that.

use std::io::{self, ErrorKind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::purge::What;
use super::waiters::Waiters;

/// Purges that are remembered; beyond it they become one of everything on disk.
const PURGES_MAX: usize = 65_536;
/// Longest time that a thread waits for the directory.
const PATIENCE: Duration = Duration::from_secs(20);

/// Purges, and who waits for the directory.
#[derive(Default)]
pub struct Expected {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    /// There will be a directory.
    is_on: bool,
    /// It cannot be had as yet, and why: whoever waits is told.
    failed: Option<ErrorKind>,
    purges: Vec<(What, bool)>,
    waiters: Waiters,
}

impl State {
    /// None: it is to be waited for.
    fn outcome(&self) -> Option<io::Result<()>> {
        match self.failed {
            _ if !self.is_on => Some(Ok(())),
            Some(kind) => Some(Err(kind.into())),
            None => None,
        }
    }
}

impl Expected {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There will be a directory.
    pub fn begin(&self) {
        let mut state = self.state();
        (state.is_on, state.failed) = (true, None);
    }

    /// It is there: what is purged on disk now, before [`Expected::end`].
    pub fn take(&self) -> Vec<(What, bool)> {
        std::mem::take(&mut self.state().purges)
    }

    /// It is there, or it will not come. Whoever waits goes on.
    pub fn end(&self) {
        let mut state = self.state();
        state.is_on = false;
        state.purges.clear();
        let waiters = state.waiters.take();
        drop(state);
        self.over.notify_all();
        waiters.wake();
    }

    /// It cannot be had as yet. Purges are remembered on.
    pub fn fail(&self, why: ErrorKind) {
        let mut state = self.state();
        state.failed = Some(why);
        let waiters = state.waiters.take();
        drop(state);
        self.over.notify_all();
        waiters.wake();
    }

    /// Remembers a purge, if a directory is expected.
    pub fn add(&self, what: What, soft: bool) {
        let mut state = self.state();
        if !state.is_on {
            return;
        }
        if state.purges.len() >= PURGES_MAX {
            state.purges.clear();
            state.purges.push((What::Everything, false));
        }
        state.purges.push((what, soft));
    }

    /// Waits until a directory is expected no more.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        match state.outcome() {
            Some(outcome) => Poll::Ready(outcome),
            None if state.waiters.add(cx.waker()) => Poll::Pending,
            None => Poll::Ready(Err(ErrorKind::ResourceBusy.into())),
        }
    }

    /// The same, on a thread.
    pub fn wait(&self) -> io::Result<()> {
        let waits = |state: &mut State| state.outcome().is_none();
        let (state, _) = self
            .over
            .wait_timeout_while(self.state(), PATIENCE, waits)
            .unwrap_or_else(PoisonError::into_inner);
        state
            .outcome()
            .unwrap_or_else(|| Err(ErrorKind::TimedOut.into()))
    }
}
