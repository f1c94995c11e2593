//! One request from start to end. Start reading at [`handle`]: it is the request's life, top to bottom.

mod account;
mod affinity;
mod answer;
mod attempt;
mod buffer;
mod cache;
mod challenge;
mod client_head;
mod connection;
mod context;
mod core;
mod discovery_metrics;
mod downstream;
pub mod explain;
mod fail;
mod fleet_metrics;
mod forward;
mod grpc;
mod grpc_web;
mod h2;
mod handle;
mod hedge;
mod host_cache;
mod identity;
mod late;
mod logging;
mod max_forwards;
mod metrics;
mod record;
mod relay;
mod request_head;
mod runtime;
mod shed;
mod spool;
#[cfg(test)]
mod testkit;
pub mod tls;
mod trailer;
mod tunnel;
mod work;

pub use crate::account::Holding;
pub use crate::cache::control;
pub use crate::core::CoreProxy;
pub use crate::runtime::{BuildError, Runtime, Shared};
pub use crate::shed::{Memory, Stage};
pub use crate::tls::TlsShared;
