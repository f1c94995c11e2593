//! What the other rooms hold: a counter, a gauge. Cheap to clone, made once per reload, never per request.

use std::fmt;

use super::cells::CellRef;

/// A number that only grows.
#[derive(Clone)]
pub struct Counter(pub(super) CellRef);

impl Counter {
    /// Adds `n` as core `core`. Each core below the registry's number must have one thread; any other number is the row that
    /// all remaining threads share.
    #[inline]
    pub fn add(&self, core: usize, n: u64) {
        self.0.add(core, n);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self, core: usize) {
        self.0.add(core, 1);
    }

    /// Adds `n` from a thread that is no data core.
    pub fn add_shared(&self, n: u64) {
        self.0.add(usize::MAX, n);
    }

    /// The sum over all cores.
    pub fn value(&self) -> u64 {
        self.0.sum()
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counter({})", self.value())
    }
}

/// A number that rises and falls; its value is the sum of every core's part.
#[derive(Clone)]
pub struct Gauge(pub(super) CellRef);

impl Gauge {
    /// Adds `delta`, which may be negative, to this core's part. What one core adds another may take away: only the sum means
    /// something.
    #[inline]
    pub fn add(&self, core: usize, delta: i64) {
        self.0.add(core, delta.cast_unsigned());
    }

    /// Sets this core's part.
    #[inline]
    pub fn set(&self, core: usize, value: i64) {
        self.0.set(core, value.cast_unsigned());
    }

    /// Adds from a thread that is no data core.
    pub fn add_shared(&self, delta: i64) {
        self.0.add(usize::MAX, delta.cast_unsigned());
    }

    /// Sets the part that is no core's: the whole value of a gauge that no core writes.
    pub fn set_shared(&self, value: i64) {
        self.0.set(usize::MAX, value.cast_unsigned());
    }

    /// The sum over all cores.
    pub fn value(&self) -> i64 {
        self.0.sum().cast_signed()
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauge({})", self.value())
    }
}
