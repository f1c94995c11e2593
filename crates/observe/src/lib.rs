//! What the proxy says about itself: metrics, access logs, diagnostics, and the clock's written forms.
//!
//! This room imports no other. What happens on a data core is lock-free and allocation-free in the steady state;
//! reading (a scrape, a status page) and writing to disk happen on other threads.

pub mod access_log;
pub mod clock;
pub mod log;
pub mod metrics;

/// For [`warn_throttled!`], so that its callers need not import the same version themselves.
#[doc(hidden)]
pub use tracing;
