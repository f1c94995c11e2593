//! The clock, read once per turn, and the coarse timer wheel.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::core::{TaskKey, current_core};

/// One tick; deadlines are met at most one tick late, never early.
const TICK_MS: u64 = 16;
/// Slots of the wheel: a turn of it is about eight seconds; later deadlines go round again.
const SLOTS: usize = 512;
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
pub fn now_ms() -> u64 {
    current_core().timers.now_us.get() / 1_000
}

/// Monotonic microseconds at the start of this turn.
pub fn now_us() -> u64 {
    current_core().timers.now_us.get()
}

/// Unix time in milliseconds at the start of this turn.
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
pub async fn timeout_at<F: Future>(deadline: u64, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        if deadline == 0 {
            return Poll::Pending;
        }
        let core = current_core();
        if core.timers.now_us.get() / 1_000 >= deadline {
            return Poll::Ready(Err(Elapsed));
        }
        core.arm_current(Timers::tick_of(deadline));
        Poll::Pending
    })
    .await
}

#[derive(Clone, Copy)]
struct Entry {
    task: TaskKey,
    tick: u32,
}

pub(super) struct Timers {
    now_us: Cell<u64>,
    /// Wall clock minus monotonic clock; taken anew about once a second, so that a stepped clock is followed.
    wall_offset_us: Cell<u64>,
    wall_taken_us: Cell<u64>,
    slots: RefCell<Vec<Vec<Entry>>>,
    entries: Cell<usize>,
    /// Next tick to be looked at.
    next: Cell<u32>,
}

impl Timers {
    pub(super) fn new() -> Self {
        let now = monotonic_us();
        Self {
            now_us: Cell::new(now),
            wall_offset_us: Cell::new(wall_us().wrapping_sub(now)),
            wall_taken_us: Cell::new(now),
            slots: RefCell::new((0..SLOTS).map(|_| Vec::new()).collect()),
            entries: Cell::new(0),
            next: Cell::new(Self::tick_now(now)),
        }
    }

    fn tick_now(now_us: u64) -> u32 {
        (now_us / 1_000 / TICK_MS) as u32
    }

    /// The tick at whose end `deadline_ms` has surely passed.
    fn tick_of(deadline_ms: u64) -> u32 {
        (deadline_ms.div_ceil(TICK_MS) as u32).max(1)
    }

    fn wall_ms(&self) -> u64 {
        self.now_us.get().wrapping_add(self.wall_offset_us.get()) / 1_000
    }

    pub(super) fn insert(&self, task: TaskKey, tick: u32) {
        let next = self.next.get();
        // Beyond one turn of the wheel: in the furthest slot, to go round again from there.
        let at = tick.max(next).min(next.wrapping_add(SLOTS as u32 - 1));
        if let Some(slot) = self.slots.borrow_mut().get_mut(at as usize % SLOTS) {
            slot.push(Entry { task, tick });
            self.entries.set(self.entries.get() + 1);
        }
    }

    /// Milliseconds epoll may sleep.
    pub(super) fn until_next_ms(&self) -> i32 {
        if self.entries.get() == 0 {
            return LONGEST_WAIT_MS;
        }
        let slots = self.slots.borrow();
        let next = self.next.get();
        let ahead = (0..SLOTS as u32).find(|i| {
            slots
                .get(next.wrapping_add(*i) as usize % SLOTS)
                .is_some_and(|s| !s.is_empty())
        });
        let due_ms = u64::from(next.wrapping_add(ahead.unwrap_or(0))) * TICK_MS;
        let now_ms = self.now_us.get() / 1_000;
        // The clock was read before the last turn's work; waking a little early only costs a turn.
        i32::try_from(due_ms.saturating_sub(now_ms).saturating_add(1))
            .map_or(LONGEST_WAIT_MS, |ms| ms.min(LONGEST_WAIT_MS))
    }

    /// Takes the new time and fires what is due.
    pub(super) fn advance(&self, now_us: u64, mut fire: impl FnMut(TaskKey, u32)) {
        self.now_us.set(now_us);
        if now_us.wrapping_sub(self.wall_taken_us.get()) > 1_000_000 {
            self.wall_taken_us.set(now_us);
            self.wall_offset_us.set(wall_us().wrapping_sub(now_us));
        }
        let tick = Self::tick_now(now_us);
        let mut next = self.next.get();
        if next > tick {
            return;
        }
        if self.entries.get() == 0 {
            self.next.set(tick.wrapping_add(1));
            return;
        }
        // After a long sleep one turn of the wheel visits every slot.
        if tick - next >= SLOTS as u32 {
            next = tick - (SLOTS as u32 - 1);
        }
        while next <= tick {
            let due = self
                .slots
                .borrow_mut()
                .get_mut(next as usize % SLOTS)
                .map(std::mem::take);
            next += 1;
            self.next.set(next);
            let Some(mut due) = due else { continue };
            if due.is_empty() {
                continue;
            }
            self.entries.set(self.entries.get() - due.len());
            for entry in due.drain(..) {
                if entry.tick <= tick {
                    fire(entry.task, entry.tick)
                } else {
                    self.insert(entry.task, entry.tick)
                }
            }
            // Give the slot its memory back, unless a burst made it large.
            if due.capacity() <= 4_096
                && let Some(slot) = self.slots.borrow_mut().get_mut((next - 1) as usize % SLOTS)
                && slot.is_empty()
            {
                *slot = due;
            }
        }
    }
}

/// Milliseconds of a duration, for deadlines: `now_ms() + millis(d)`; zero stays zero.
#[allow(dead_code)]
pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
