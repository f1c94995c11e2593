//! Counters, gauges and histograms for the hot path: one writer per core, no cache line written by two, summed on reading.
//!
//! A series is identified by its name and labels. Registering the same one again (a reload does) gives a handle on the
//! same cells, so counts survive. A registry is bounded: when it is full, series without a living handle make room, and what
//! still does not fit is folded into one series of its family whose labels all say `other`.

mod carry;
mod cells;
mod handle;
mod histogram;
mod process;
mod registry;
mod render;

pub use carry::Carried;
pub use handle::{Counter, Gauge};
pub use histogram::{Histogram, Unit};
pub use registry::{DEFAULT_MAX_SERIES, Emit, Kind, Registry};
