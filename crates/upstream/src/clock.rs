//! The clock for threads that are not cores: the same monotonic clock that the cores read once per turn.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Monotonic milliseconds, comparable with [`narthex_net::rt::now_ms`].
pub fn monotonic_ms() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (t.tv_sec as u64)
        .wrapping_mul(1_000)
        .wrapping_add(t.tv_nsec as u64 / 1_000_000)
}

/// Unix time in milliseconds.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

/// Whole milliseconds of a duration.
pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
