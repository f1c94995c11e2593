//! One request from start to end. Start reading at [`handle`]: it is the request's life, top to bottom.

mod answer;
mod connection;
mod core;
mod downstream;
pub mod explain;
mod fail;
mod forward;
mod handle;
mod identity;
mod logging;
mod metrics;
mod record;
mod relay;
mod runtime;
#[allow(dead_code, unused_imports)] // taken into use by the relay
mod spool;
mod trailer;
mod tunnel;
mod work;

pub use crate::core::CoreProxy;
pub use crate::runtime::{BuildError, Runtime, Shared};
