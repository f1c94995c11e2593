//! The core: a single-threaded executor with its own edge-triggered epoll reactor and coarse timer wheel.
//!
//! One core is one thread that runs `!Send` tasks. What makes it small, compared with a general runtime:
//!
//! - a waker is a number (core, generation, slot) and has no reference count: cloning and dropping it cost nothing;
//! - a socket remembers which *task* waits for it, and a woken task polls all it waits for. So combinators that poll
//!   only the child that was woken (`FuturesUnordered` and the like) must not be used on a core;
//! - readiness is remembered per socket: a short read or a full send buffer clears it, so that no system call is made
//!   that would say `EAGAIN`;
//! - timers are per task, not per future: a task keeps at most one live entry in the wheel and is woken early rather
//!   than moved, so that arming a deadline on every request costs a comparison;
//! - the clock is read once per turn.

mod core;
mod lateness;
mod reactor;
mod recycled;
mod remote;
mod timer;
mod waker;

pub use self::core::{
    Core, TaskKey, current_core, is_core, lateness_ms, spawn, spawn_count, yield_now,
};
pub use reactor::{Interest, Registration};
pub use recycled::Recycled;
pub use remote::Remote;
pub use timer::{
    Elapsed, TimeoutAt, now_ms, now_us, poll_deadline, sleep_until, timeout_at, wall_ms,
};

#[cfg(test)]
mod tests;
