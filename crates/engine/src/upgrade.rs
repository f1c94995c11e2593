//! A binary upgrade: a new process takes over from the old one, and no client notices.
//!
//! Both share the listening sockets themselves, so no queue is ever closed with somebody in it. They talk over a pair of
//! sockets, one parcel ([`narthex_net::handover`]) per line:
//!
//! ```text
//! old                                              new
//!  | starts the program at its own path
//!  |-- manifest, listening sockets ------------->  | checks the configuration, adopts, starts its cores
//!  | <------------------------------- prepared --  |
//!  |-- state, ways to older generations -------->  | takes it, starts checks and discovery
//!  | <---------------------------------- ready --  |
//!  |-- go ------------------------------------->   | accepts; is the process
//!  | accepts nobody any more, drains
//!  |-- what was counted meanwhile -------------->  | adds it
//! ```
//!
//! Until "go" the old process serves as ever, and whatever goes wrong ends the new one and nothing else. After it there is
//! no way back: clients may be with the new one.

mod child;
mod generations;
mod message;
mod new;
mod old;
mod predecessor;

use std::time::Duration;

use serde::Serialize;

pub(crate) use generations::Generations;
pub(crate) use message::Message;
pub(crate) use old::{HandedOver, Upgrading};
pub use predecessor::Predecessor;

/// How long the new process may take, if nobody says.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Processes that may drain at the same time.
const GENERATIONS: usize = 8;
/// How long each process waits for a word of the other one; the old one's patience as a whole is the operator's.
const PATIENCE: Duration = Duration::from_mins(2);
/// Names the process that started us, so that nobody else's standard input is taken for a channel.
const FROM: &str = "NARTHEX_UPGRADE_FROM";

/// An upgrade that took effect.
#[derive(Debug, Clone, Serialize)]
pub struct UpgradeReport {
    /// Process number of the new process.
    pub pid: u32,
    /// Version of its program.
    pub version: String,
    /// Version of the program before.
    pub from: String,
    /// From the request to the moment the new process took over.
    pub milliseconds: u64,
}
