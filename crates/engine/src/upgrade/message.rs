//! What the two processes of an upgrade say to each other. Unknown fields are passed over, so that a version may say more
//! than the other one knows.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use narthex_net::handover;
use narthex_observe::metrics::Carried;
use narthex_upstream::{FleetCounts, FleetState};
use serde::{Deserialize, Serialize};

/// One parcel's text.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Old to new, with the sockets of which it speaks.
    Manifest(Manifest),
    /// New to old: the configuration is good, the sockets are there, the cores run.
    Prepared(Prepared),
    /// Old to new, with a channel for each older generation that still drains.
    State(Box<State>),
    /// New to old: everything is taken over but the clients.
    Ready,
    /// Old to new: you are the process.
    Go,
    /// New to old, instead of prepared or ready: why not. The new process ends.
    Failed(String),
    /// Old to new, at the end of its drain.
    Last(Box<Last>),
}

/// What the descriptors of the parcel are, in their order.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Manifest {
    /// Version of the old program.
    pub(crate) version: String,
    /// Sockets of listeners, then of admin addresses.
    pub(crate) sockets: Vec<Sockets>,
    /// Names of the sockets that the service manager passed, one descriptor each.
    pub(crate) inherited: Vec<String>,
    /// What cookies are made with where no secret is written.
    pub(crate) cookie_key: Option<[u8; 16]>,
    /// Keys of session tickets where no secret is written.
    pub(crate) ticket_keys: Vec<u8>,
}

/// The sockets of one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sockets {
    /// As configured.
    pub(crate) address: String,
    pub(crate) count: usize,
}

/// What the new process made of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Prepared {
    /// Version of the new program.
    pub(crate) version: String,
    /// Addresses whose sockets it does not use, as the manifest has them.
    pub(crate) left: Vec<String>,
}

/// What survives.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) fleet: FleetState,
    pub(crate) metrics: Carried,
}

/// What the old process counted after it had exported its state.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Last {
    pub(crate) fleet: FleetCounts,
    pub(crate) metrics: Carried,
}

/// Says it. Blocks while the other side does not take it.
pub(crate) fn say(
    channel: &OwnedFd,
    message: &Message,
    sockets: &[BorrowedFd<'_>],
) -> io::Result<()> {
    handover::send(channel, &serde_json::to_vec(message)?, sockets)
}

/// Hears the next message. Blocks until it comes.
pub(crate) fn hear(channel: &OwnedFd) -> io::Result<(Message, Vec<OwnedFd>)> {
    let parcel = handover::receive(channel)?;
    Ok((serde_json::from_slice(&parcel.text)?, parcel.sockets))
}
