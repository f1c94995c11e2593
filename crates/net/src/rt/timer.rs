//! The clock, read once per turn, and the coarse timer wheel.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::core::{TaskKey, current_core};

/// One tick; deadlines are met at most one tick late, never early.
const TICK_MS: u64 = 16;
/// Slots of the wheel: a turn of it is about eight seconds; later deadlines go round again.
const SLOTS: usize = 512;
/// Entries that an emptied slot keeps room for: at most 2 MiB for the whole wheel.
const LARGEST_KEPT: usize = 256;
/// Longest sleep in epoll without a timer, so that the cached wall clock stays fresh enough.
const LONGEST_WAIT_MS: i32 = 10_000;

/// Microseconds of the monotonic clock.
pub(super) fn monotonic_us() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (t.tv_sec as u64)
        .wrapping_mul(1_000_000)
        .wrapping_add(t.tv_nsec as u64 / 1_000)
}

fn wall_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_micros() as u64)
}

/// The time came before the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Monotonic milliseconds at the start of this turn.
#[inline]
pub fn now_ms() -> u64 {
    current_core().timers.now_us.get() / 1_000
}

/// Monotonic microseconds at the start of this turn.
#[inline]
pub fn now_us() -> u64 {
    current_core().timers.now_us.get()
}

/// Unix time in milliseconds at the start of this turn.
#[inline]
pub fn wall_ms() -> u64 {
    current_core().timers.wall_ms()
}

/// Completes when the monotonic clock (milliseconds, see [`now_ms`]) reaches `deadline`.
pub async fn sleep_until(deadline: u64) {
    std::future::poll_fn(|_| {
        let core = current_core();
        if core.timers.now_us.get() / 1_000 >= deadline {
            return Poll::Ready(());
        }
        core.arm_current(Timers::tick_of(deadline));
        Poll::Pending
    })
    .await;
}

/// `future`, or [`Elapsed`] when the monotonic clock (milliseconds) reaches `deadline` first. A deadline of 0 is none.
pub fn timeout_at<F: Future>(deadline: u64, future: F) -> TimeoutAt<F> {
    TimeoutAt { future, deadline }
}

/// See [`timeout_at`]. Written by hand: an `async fn` would hold the inner future twice.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct TimeoutAt<F> {
    future: F,
    deadline: u64,
}

impl<F: Future> Future for TimeoutAt<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let deadline = self.deadline;
        // JUSTIFICATION: pin projection without a macro crate.
        // SAFETY: `future` is structurally pinned: it is never moved out of a pinned `TimeoutAt`, there is no `Drop`
        // implementation and no `Unpin` one beside the automatic.
        let future = unsafe { self.map_unchecked_mut(|this| &mut this.future) };
        if let Poll::Ready(value) = future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        poll_deadline(deadline).map(|()| Err(Elapsed))
    }
}

/// For hand-written futures: ready when the clock has reached `deadline` (milliseconds); else the running task is woken then.
/// A deadline of 0 is none.
#[inline]
pub fn poll_deadline(deadline: u64) -> Poll<()> {
    if deadline == 0 {
        return Poll::Pending;
    }
    let core = current_core();
    if core.timers.now_us.get() / 1_000 >= deadline {
        return Poll::Ready(());
    }
    core.arm_current(Timers::tick_of(deadline));
    Poll::Pending
}

#[derive(Clone, Copy)]
pub(super) struct Entry {
    task: TaskKey,
    tick: u64,
}

pub(super) struct Timers {
    pub(super) now_us: Cell<u64>,
    /// Wall clock minus monotonic clock; taken anew about once a second, so that a stepped clock is followed.
    wall_offset_us: Cell<u64>,
    wall_taken_us: Cell<u64>,
    wheel: RefCell<Wheel>,
}

struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// One bit per slot that is not empty: finding the next one looks at eight words, not at every slot.
    occupied: [u64; SLOTS / 64],
    entries: usize,
    /// Next tick to be looked at.
    next: u64,
}

impl Wheel {
    fn insert(&mut self, entry: Entry) {
        // Beyond one turn of the wheel: in the furthest slot, to go round again from there.
        let at = entry.tick.clamp(self.next, self.next + (SLOTS as u64 - 1)) as usize % SLOTS;
        self.slots[at].push(entry);
        self.occupied[at / 64] |= 1 << (at % 64);
        self.entries += 1;
    }

    /// Ticks from `next` to the first slot with an entry.
    fn ahead(&self) -> Option<u64> {
        let start = self.next as usize % SLOTS;
        let words = self.occupied.len();
        (0..=words).find_map(|step| {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            // The word of the start is looked at twice: first from the start on, at last before it.
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            let slot = word * 64 + bits.trailing_zeros() as usize;
            (bits != 0).then(|| ((slot + SLOTS - start) % SLOTS) as u64)
        })
    }

    /// Takes the entries of the next tick's slot and goes on to the one after.
    fn take_next(&mut self) -> Vec<Entry> {
        let at = self.next as usize % SLOTS;
        self.next += 1;
        self.occupied[at / 64] &= !(1 << (at % 64));
        let due = std::mem::take(&mut self.slots[at]);
        self.entries -= due.len();
        due
    }

    /// Puts back what the slot of `tick`, just passed, held and is not due. What is more than a turn of the wheel away
    /// stays in the slot, which comes round last. An emptied slot keeps its memory, unless a burst made it large.
    fn put_back(&mut self, mut later: Vec<Entry>, tick: u64) {
        let furthest = tick + SLOTS as u64;
        for entry in later.extract_if(.., |entry| entry.tick < furthest) {
            self.insert(entry);
        }
        let at = tick as usize % SLOTS;
        if !later.is_empty() {
            self.occupied[at / 64] |= 1 << (at % 64);
            self.entries += later.len();
        } else if later.capacity() > LARGEST_KEPT {
            return;
        }
        // Empty until now: nothing is armed while the entries are met.
        self.slots[at] = later;
    }
}

impl Timers {
    pub(super) fn new() -> Self {
        Self::at(monotonic_us())
    }

    /// A wheel whose clock says `now` (microseconds).
    pub(super) fn at(now: u64) -> Self {
        Self {
            now_us: Cell::new(now),
            wall_offset_us: Cell::new(wall_us().wrapping_sub(now)),
            wall_taken_us: Cell::new(now),
            wheel: RefCell::new(Wheel {
                slots: (0..SLOTS).map(|_| Vec::new()).collect(),
                occupied: [0; SLOTS / 64],
                entries: 0,
                next: Self::tick_now(now),
            }),
        }
    }

    fn tick_now(now_us: u64) -> u64 {
        now_us / 1_000 / TICK_MS
    }

    /// The tick at whose begin `deadline_ms` has surely passed; never 0, which stands for none.
    pub(super) fn tick_of(deadline_ms: u64) -> u64 {
        // No clock gets near the bound; it keeps the sums of the wheel from overflowing.
        deadline_ms.div_ceil(TICK_MS).clamp(1, u64::MAX >> 8)
    }

    fn wall_ms(&self) -> u64 {
        self.now_us.get().wrapping_add(self.wall_offset_us.get()) / 1_000
    }

    pub(super) fn insert(&self, task: TaskKey, tick: u64) {
        self.wheel.borrow_mut().insert(Entry { task, tick });
    }

    /// Entries in the wheel, live and stale.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.wheel.borrow().entries
    }

    /// Milliseconds epoll may sleep.
    pub(super) fn until_next_ms(&self) -> i32 {
        let wheel = self.wheel.borrow();
        let Some(ahead) = wheel.ahead() else {
            return LONGEST_WAIT_MS;
        };
        let due_ms = (wheel.next + ahead).saturating_mul(TICK_MS);
        // The clock was read before this turn's work, so the sleep ends late by as much: less than a clock reading
        // before every sleep is worth. A millisecond more, because the clock's fraction was cut off.
        let wait = due_ms
            .saturating_sub(self.now_us.get() / 1_000)
            .saturating_add(1);
        i32::try_from(wait).map_or(LONGEST_WAIT_MS, |ms| ms.min(LONGEST_WAIT_MS))
    }

    /// Takes the new time and meets what is due, and what comes by on its way round. `meet` is told whether the entry is
    /// due and says whether one that is not stays.
    pub(super) fn advance(&self, now_us: u64, mut meet: impl FnMut(TaskKey, u64, bool) -> bool) {
        self.now_us.set(now_us);
        if now_us.wrapping_sub(self.wall_taken_us.get()) > 1_000_000 {
            self.wall_taken_us.set(now_us);
            self.wall_offset_us.set(wall_us().wrapping_sub(now_us));
        }
        let now = Self::tick_now(now_us);
        let mut wheel = self.wheel.borrow_mut();
        if wheel.entries == 0 {
            wheel.next = wheel.next.max(now + 1);
            return;
        }
        // After a long sleep one turn of the wheel visits every slot.
        wheel.next = wheel.next.max((now + 1).saturating_sub(SLOTS as u64));
        while wheel.next <= now {
            let tick = wheel.next;
            let mut met = wheel.take_next();
            drop(wheel);
            met.retain(|entry| {
                let due = entry.tick <= now;
                meet(entry.task, entry.tick, due) && !due
            });
            wheel = self.wheel.borrow_mut();
            wheel.put_back(met, tick);
        }
    }
}

/// Milliseconds of a duration, for deadlines: `now_ms() + millis(d)`; zero stays zero.
#[allow(dead_code)]
pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
