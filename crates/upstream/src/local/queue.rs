//! Waiting at a gate: for a place among the requests, for a socket, for a connection that another request has finished with.

use std::io;
use std::sync::atomic::{Ordering, fence};

use narthex_config::model::Priority;
use narthex_net::rt;

use super::lease::{ConnectError, ConnectErrorKind, Connection, Lease, deadline};
use super::{ask_for_any, ask_to_give_up};
use crate::clock::millis;
use crate::cluster::Settings;
use crate::gate::{Permit, Turn, Wait};

/// Waits for a permit that nobody hands a connection with.
pub(super) async fn place(wait: Wait, settings: &Settings) -> Result<Permit, ConnectError> {
    match turn(wait, settings, || ()).await? {
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
    let wait = cluster.sockets().wait(core, priority);
    let call = || {
        fence(Ordering::SeqCst);
        if !lease.view.give_up_any()
            && let Some(fleet) = lease.endpoint.fleet()
        {
            ask_for_any(&fleet.fleet, core, cluster);
        }
    };
    match turn(wait.besides(cluster.idle()), lease.settings(), call).await? {
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
    let mut place = Place {
        wait: endpoint
            .sockets
            .wait(lease.endpoint.core(), priority)
            .besides(endpoint.idle()),
        lease,
    };
    match turn(&mut place.wait, lease.settings(), || call_for_one(lease)).await? {
        Turn::Permit(permit) => Ok(Err(permit)),
        // Handed over and died since: what it held has been given back, which may serve us or another.
        Turn::Handed(ticket) => match lease.endpoint.take_handed(ticket) {
            Some(connection) => Ok(Ok(connection)),
            None => Err(aborted()),
        },
    }
}

/// Waits as long as the queue's timeout allows; `call` is called once, when the place in the queue is visible to those who
/// give something back.
async fn turn(
    mut wait: impl Future<Output = Result<Turn, crate::gate::Refused>> + Unpin,
    settings: &Settings,
    mut call: impl FnMut(),
) -> Result<Turn, ConnectError> {
    let limit = millis(settings.connections.queue_timeout);
    if limit == 0 {
        return Err(full());
    }
    let mut called = false;
    let turn = std::future::poll_fn(|cx| {
        let polled = std::pin::Pin::new(&mut wait).poll(cx);
        if polled.is_pending() && !std::mem::replace(&mut called, true) {
            call();
        }
        polled
    });
    match rt::timeout_at(deadline(limit), turn).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(_refused)) => Err(full()),
        Err(rt::Elapsed) => Err(ConnectError::new(
            ConnectErrorKind::QueueTimeout,
            io::ErrorKind::TimedOut,
        )),
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
