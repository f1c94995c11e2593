//! The account of buffered bytes: what every exchange holds in buffers that grow with what outsiders send, by connection and
//! by core, and who is to go when memory runs short.
//!
//! An account is brought up to date whenever its exchange has to wait: between two waits nobody else runs on the core, and what
//! does not outlast a wait (the scratch buffer) is nobody's. Plain numbers; what other threads may see of them is stored when
//! it has changed by a large step, and twice a second.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::task::{Context, Poll, Waker};

use narthex_observe::metrics::Gauge;

use crate::fail::Failure;

/// An exchange that holds less than this is never chosen: ending it would free next to nothing. Bytes.
const LARGE: usize = 64 * 1024;
/// Other threads see a core's sum when it has changed by this much. Bytes.
const STEP: usize = 256 * 1024;

/// One core's accounts.
pub(crate) struct Ledger {
    core: usize,
    held: Cell<usize>,
    /// Kept for reuse, by no exchange.
    pooled: Cell<usize>,
    shown: Cell<usize>,
    large: RefCell<Large>,
    gauge: Gauge,
}

/// The exchanges that hold much.
#[derive(Default)]
struct Large {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    /// 0: nobody's.
    bytes: usize,
    waker: Option<Waker>,
    condemned: bool,
}

/// An exchange that holds much, as seen from outside its core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Bytes.
    pub bytes: usize,
    slot: u32,
    generation: u32,
}

impl Holding {
    /// One that is nobody's, for tests of whoever chooses.
    pub fn of(bytes: usize) -> Self {
        Self {
            bytes,
            slot: u32::MAX,
            generation: 0,
        }
    }
}

impl Ledger {
    /// Of `core`, whose sum other threads read from `gauge`.
    pub(crate) fn new(core: usize, gauge: Gauge) -> Self {
        Self {
            core,
            held: Cell::new(0),
            pooled: Cell::new(0),
            shown: Cell::new(0),
            large: RefCell::default(),
            gauge,
        }
    }

    /// Opens an exchange's account.
    #[inline]
    pub(crate) fn open(&self) -> Account<'_> {
        Account {
            ledger: self,
            base: Cell::new(0),
            held: Cell::new(0),
            slot: Cell::new(None),
        }
    }

    /// Says how much is kept for reuse, and shows the sum.
    pub(crate) fn set_pooled(&self, bytes: usize) {
        self.pooled.set(bytes);
        self.show();
    }

    /// The `most` exchanges that hold most, largest first.
    pub(crate) fn largest(&self, most: usize) -> Vec<Holding> {
        let large = self.large.borrow();
        let mut found: Vec<Holding> = (0u32..)
            .zip(&large.slots)
            .filter(|(_, slot)| slot.bytes >= LARGE && !slot.condemned)
            .map(|(at, slot)| Holding {
                bytes: slot.bytes,
                slot: at,
                generation: slot.generation,
            })
            .collect();
        found.sort_unstable_by_key(|h| Reverse(h.bytes));
        found.truncate(most);
        found
    }

    /// Has these exchanges end, if they are still the same. Returns how many are.
    pub(crate) fn condemn(&self, chosen: &[Holding]) -> usize {
        let wakers: Vec<Waker> = {
            let mut large = self.large.borrow_mut();
            let mut wakers = Vec::with_capacity(chosen.len());
            for holding in chosen {
                if let Some(slot) = large.slots.get_mut(holding.slot as usize)
                    && slot.generation == holding.generation
                    && slot.bytes > 0
                    && !slot.condemned
                {
                    slot.condemned = true;
                    wakers.extend(slot.waker.clone());
                }
            }
            wakers
        };
        let count = wakers.len();
        wakers.into_iter().for_each(Waker::wake);
        count
    }

    #[inline]
    fn change(&self, before: usize, after: usize) {
        let held = self.held.get().wrapping_add(after).wrapping_sub(before);
        self.held.set(held);
        if held.abs_diff(self.shown.get()) >= STEP {
            self.show();
        }
    }

    /// One relaxed store.
    #[cold]
    fn show(&self) {
        self.shown.set(self.held.get());
        let sum = self.held.get().saturating_add(self.pooled.get());
        self.gauge
            .set(self.core, i64::try_from(sum).unwrap_or(i64::MAX));
    }
}

impl Large {
    fn enter(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        })
    }

    fn leave(&mut self, at: u32) {
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = Slot {
                generation: slot.generation.wrapping_add(1),
                ..Slot::default()
            };
            self.free.push(at);
        }
    }
}

/// What one exchange holds; closed when dropped.
pub(crate) struct Account<'c> {
    ledger: &'c Ledger,
    /// Beside what changes at every step: a body that was taken whole.
    base: Cell<usize>,
    held: Cell<usize>,
    /// Its place among the large ones.
    slot: Cell<Option<u32>>,
}

impl Account<'_> {
    /// Adds `bytes` to every later charge.
    pub(crate) fn set_base(&self, bytes: usize) {
        self.base.set(bytes);
    }

    /// To be called where the exchange has to wait: it holds `bytes` now.
    #[inline]
    pub(crate) fn charge(&self, bytes: usize, cx: &Context<'_>) {
        let bytes = bytes.saturating_add(self.base.get());
        self.ledger.change(self.held.replace(bytes), bytes);
        if bytes >= LARGE || self.slot.get().is_some() {
            self.enter(bytes, cx);
        }
    }

    /// Polls `step` unless this exchange is to go; charges what `held` says when it has to wait.
    #[inline]
    pub(crate) fn poll<S, T>(
        &self,
        state: &mut S,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<Result<T, Failure>>,
        held: impl FnOnce(&S) -> usize,
    ) -> Poll<Result<T, Failure>> {
        if self.is_condemned() {
            return Poll::Ready(Err(Failure::Shed));
        }
        let polled = step(state, cx);
        if polled.is_pending() {
            self.charge(held(state), cx);
        }
        polled
    }

    /// Is this exchange to end, for the memory that it holds?
    #[inline]
    pub(crate) fn is_condemned(&self) -> bool {
        self.slot.get().is_some_and(|at| {
            let large = self.ledger.large.borrow();
            large.slots.get(at as usize).is_some_and(|s| s.condemned)
        })
    }

    #[cold]
    fn enter(&self, bytes: usize, cx: &Context<'_>) {
        let mut large = self.ledger.large.borrow_mut();
        let at = self.slot.get().unwrap_or_else(|| large.enter());
        self.slot.set(Some(at));
        if let Some(slot) = large.slots.get_mut(at as usize) {
            // 0 would be nobody's.
            slot.bytes = bytes.max(1);
            match &mut slot.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
    }
}

impl Drop for Account<'_> {
    #[inline]
    fn drop(&mut self) {
        self.ledger.change(self.held.get(), 0);
        if let Some(at) = self.slot.get() {
            self.ledger.large.borrow_mut().leave(at);
            self.ledger.show();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let registry = narthex_observe::metrics::Registry::new(1);
        Ledger::new(0, registry.gauge("held", "", &[]))
    }

    fn charge(account: &Account<'_>, bytes: usize) {
        account.charge(bytes, &Context::from_waker(Waker::noop()));
    }

    #[test]
    fn the_sum_follows_every_account() {
        let ledger = ledger();
        let (a, b) = (ledger.open(), ledger.open());
        charge(&a, 100);
        charge(&b, 3 * STEP);
        charge(&a, 40);
        assert_eq!(ledger.held.get(), 40 + 3 * STEP);
        drop(b);
        assert_eq!(ledger.held.get(), 40);
        a.set_base(1_000);
        charge(&a, 1);
        assert_eq!(ledger.held.get(), 1_001);
        drop(a);
        assert_eq!(ledger.held.get(), 0);
        assert!(ledger.largest(9).is_empty());
    }

    #[test]
    fn others_see_large_steps_at_once_and_small_ones_later() {
        let ledger = ledger();
        let a = ledger.open();
        charge(&a, 100);
        assert_eq!(ledger.gauge.value(), 0);
        ledger.set_pooled(7);
        assert_eq!(ledger.gauge.value(), 107);
        charge(&a, STEP + 100);
        assert_eq!(ledger.gauge.value(), i64::try_from(STEP + 107).unwrap());
        drop(a);
        assert_eq!(ledger.gauge.value(), 7);
    }

    #[test]
    fn the_largest_are_chosen_first_and_small_ones_never() {
        let ledger = ledger();
        let accounts: Vec<_> = [LARGE - 1, 3 * LARGE, LARGE, 2 * LARGE]
            .map(|bytes| {
                let account = ledger.open();
                charge(&account, bytes);
                account
            })
            .into();
        let sizes = |most| -> Vec<usize> {
            let found = ledger.largest(most);
            found.iter().map(|h| h.bytes / LARGE).collect()
        };
        assert_eq!(sizes(9), [3, 2, 1]);
        assert_eq!(sizes(2), [3, 2]);
        assert_eq!(ledger.condemn(&ledger.largest(1)), 1);
        let condemned: Vec<bool> = accounts.iter().map(Account::is_condemned).collect();
        assert_eq!(condemned, [false, true, false, false]);
        assert_eq!(sizes(9), [2, 1], "nobody is chosen twice");
    }

    #[test]
    fn a_place_taken_by_another_is_not_the_one_that_was_chosen() {
        let ledger = ledger();
        let first = ledger.open();
        charge(&first, LARGE);
        let chosen = ledger.largest(1);
        drop(first);
        let second = ledger.open();
        charge(&second, LARGE);
        assert_eq!(ledger.condemn(&chosen), 0);
        assert!(!second.is_condemned());
    }

    #[test]
    fn who_is_to_go_goes_at_the_next_poll() {
        let ledger = ledger();
        let account = ledger.open();
        let mut cx = Context::from_waker(Waker::noop());
        let mut polls = 0;
        let mut poll = |account: &Account<'_>| {
            account.poll(
                &mut polls,
                &mut cx,
                |polls, _| {
                    *polls += 1;
                    Poll::<Result<(), Failure>>::Pending
                },
                |_| 5 * LARGE,
            )
        };
        assert_eq!(poll(&account), Poll::Pending);
        ledger.condemn(&ledger.largest(1));
        assert_eq!(poll(&account), Poll::Ready(Err(Failure::Shed)));
        assert_eq!(polls, 1);
    }
}
