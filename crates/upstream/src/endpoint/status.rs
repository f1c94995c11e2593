//! What there is to see of a server.

use std::sync::atomic::Ordering;

use narthex_config::model::Order;

use super::{Active, Endpoint};
use crate::clock::monotonic_ms;

/// A server's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In use (checked and well, or not checked).
    Up,
    /// In use; the first check has not ended.
    Unknown,
    /// In use with a growing share after it was out.
    Returning,
    /// Out by passive marking.
    Ejected,
    /// One request tries it.
    Trial,
    /// Out by the active check.
    Down,
    /// Nobody new, by order.
    Draining,
    /// Not used, by order.
    Closed,
}

impl State {
    /// For logs, metrics and status pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::Returning => "returning",
            Self::Ejected => "ejected",
            Self::Trial => "trial",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Closed => "closed",
        }
    }
}

/// What there is to see of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointStatus {
    /// As written; with the address for one of several that a DNS name stands for.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Its state.
    pub state: State,
    /// Unix time in milliseconds of the last change of state.
    pub since: u64,
    /// Why it changed then; empty if it never did.
    pub reason: String,
    /// Requests under way.
    pub in_flight: u64,
    /// Idle connections.
    pub idle: u64,
    /// Sockets, idle or not.
    pub sockets: u64,
    /// Requests that wait for a socket or a place.
    pub waiting: u64,
    /// Requests given to it since the start.
    pub requests: u64,
    /// Failed ones among them.
    pub failures: u64,
    /// Connections opened.
    pub connects: u64,
    /// Times that it was taken out for failures.
    pub ejections: u64,
    /// The last failure, what and when (Unix milliseconds).
    pub last_error: Option<(String, u64)>,
}

impl Endpoint {
    /// Its state now.
    pub fn state(&self) -> State {
        match self.order() {
            Order::Drain => return State::Draining,
            Order::Down => return State::Closed,
            Order::Ready => {}
        }
        let now = monotonic_ms();
        match self.active() {
            Active::Unwell | Active::Gone => return State::Down,
            Active::Unknown if !self.is_out() => return State::Unknown,
            _ => {}
        }
        match self.out_until.load(Ordering::Relaxed) {
            0 if self.ramped(now).is_some() => State::Returning,
            0 => State::Up,
            _ if self.trial.load(Ordering::Relaxed) != 0 => State::Trial,
            until if until <= now => State::Trial,
            _ => State::Ejected,
        }
    }

    /// All there is to see.
    pub fn status(&self) -> EndpointStatus {
        let record = self.record();
        EndpointStatus {
            name: self.name.clone(),
            address: self.identity.target.to_string(),
            state: self.state(),
            since: record.since,
            reason: if self.order() == Order::Ready {
                record.reason.clone()
            } else {
                "by order".to_owned()
            },
            in_flight: self.in_flight(),
            idle: self.idle(),
            sockets: self.connections(),
            waiting: self.waiting(),
            requests: self.requests(),
            failures: self.failures(),
            connects: self.connects(),
            ejections: record.ejections,
            last_error: record.last_error.clone(),
        }
    }
}
