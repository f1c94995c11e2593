//! Waiting at a gate: for a place among the requests, for a socket, for a connection that another request has finished with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use narthex_config::model::Priority;
use narthex_net::rt;

use super::lease::{ConnectError, ConnectErrorKind, Connection, Lease, deadline};
use super::{ask_for_any, ask_to_give_up};
use crate::clock::millis;
use crate::cluster::Settings;
use crate::gate::{Gate, Permit, Refused, Turn, Wait};

/// Waits for a permit that nobody hands a connection with, at most `limit` milliseconds.
pub(super) async fn place(
    gate: &Arc<Gate>,
    core: usize,
    priority: Priority,
    limit: u64,
) -> Result<Permit, ConnectError> {
    match turn(gate, gate.wait(core, priority), limit, || ()).await? {
        Turn::Permit(permit) => Ok(permit),
        Turn::Handed(_) => Err(aborted()),
    }
}

/// Waits for a socket among all of the upstream's; has an idle one closed for us, whoever's it is.
pub(super) async fn socket_of_all(
    lease: &Lease,
    priority: Priority,
) -> Result<Permit, ConnectError> {
    let core = lease.endpoint.core();
    let cluster = &lease.view.cluster;
    let gate = cluster.sockets();
    let wait = gate.wait(core, priority).besides(cluster.idle());
    let call = || {
        fence(Ordering::SeqCst);
        if !lease.view.give_up_any()
            && let Some(fleet) = lease.endpoint.fleet()
        {
            ask_for_any(&fleet.fleet, core, cluster);
        }
    };
    match turn(gate, wait, longest(lease.settings()), call).await? {
        Turn::Permit(permit) => Ok(permit),
        Turn::Handed(_) => Err(aborted()),
    }
}

/// Waits for a connection of this core, or for the right to open one.
pub(super) async fn connection(
    lease: &Lease,
    priority: Priority,
) -> Result<Result<Connection, Permit>, ConnectError> {
    let endpoint = lease.endpoint.shared();
    let gate = &endpoint.sockets;
    let mut place = Place {
        wait: gate
            .wait(lease.endpoint.core(), priority)
            .besides(endpoint.idle()),
        lease,
    };
    let call = || call_for_one(lease);
    match turn(gate, &mut place.wait, longest(lease.settings()), call).await? {
        Turn::Permit(permit) => Ok(Err(permit)),
        // Handed over and died since: what it held has been given back, which may serve us or another.
        Turn::Handed(ticket) => match lease.endpoint.take_handed(ticket) {
            Some(connection) => Ok(Ok(connection)),
            None => Err(aborted()),
        },
    }
}

/// How long a request may wait, in milliseconds.
pub(super) fn longest(settings: &Settings) -> u64 {
    millis(settings.connections.queue_timeout)
}

/// Waits at most `limit` milliseconds; `call` is called once, when the place in the queue is visible to those who give
/// something back.
async fn turn(
    gate: &Gate,
    mut wait: impl Future<Output = Result<Turn, Refused>> + Unpin,
    limit: u64,
    mut call: impl FnMut(),
) -> Result<Turn, ConnectError> {
    if limit == 0 {
        gate.note_refusal();
        return Err(full());
    }
    let mut waited = None;
    let turn = std::future::poll_fn(|cx| {
        let polled = std::pin::Pin::new(&mut wait).poll(cx);
        if polled.is_pending() && waited.is_none() {
            waited = Some(Waited {
                gate,
                from: rt::now_us(),
            });
            call();
        }
        polled
    });
    match rt::timeout_at(deadline(limit), turn).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(Refused::QueueFull | Refused::Evicted)) => {
            gate.note_refusal();
            Err(full())
        }
        Err(rt::Elapsed) => {
            gate.note_timeout();
            Err(ConnectError::new(
                ConnectErrorKind::QueueTimeout,
                io::ErrorKind::TimedOut,
            ))
        }
    }
}

/// A wait, counted however it ends.
struct Waited<'a> {
    gate: &'a Gate,
    from: u64,
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.gate.note_wait(rt::now_us().saturating_sub(self.from));
    }
}

/// Has an idle connection to the server closed for us, on the core that has most.
fn call_for_one(lease: &Lease) {
    let endpoint = lease.endpoint.shared();
    fence(Ordering::SeqCst);
    if lease.endpoint.give_up_oldest() {
        return;
    }
    if let Some(fleet) = lease.endpoint.fleet() {
        let (core, cluster) = (lease.endpoint.core(), lease.view.cluster.id());
        ask_to_give_up(&fleet.fleet, core, cluster, endpoint);
    }
}

/// A place in the queue that, when left, passes on what was handed over in the meantime.
struct Place<'a> {
    wait: Wait,
    lease: &'a Lease,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let lease = self.lease;
        if let Some(ticket) = self.wait.abandoned()
            && let Some(connection) = lease.endpoint.take_handed(ticket)
        {
            let (cluster, settings) = (&lease.view.cluster, lease.settings());
            lease.endpoint.put_idle(connection, cluster, settings, None);
        }
    }
}

fn full() -> ConnectError {
    ConnectError::new(ConnectErrorKind::Limit, io::ErrorKind::QuotaExceeded)
}

fn aborted() -> ConnectError {
    ConnectError::new(ConnectErrorKind::Other, io::ErrorKind::ConnectionAborted)
}
