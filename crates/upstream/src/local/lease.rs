//! One attempt at one server: its count of requests under way, and the way to a connection.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use narthex_config::model::Balance;
use narthex_net::dial::{Target, dial};
use narthex_net::rt;
use narthex_net::stream::Stream;

use super::ask_to_give_up;
use super::pool::CoreEndpoint;
use super::view::View;
use crate::clock::millis;
use crate::cluster::Settings;
use crate::endpoint::{CoreCounters, Endpoint, Report};
use crate::sockets::{Permit, Turn, Wait};

/// A connection to a server. Dropping closes it and gives its place back.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// It has carried a request before: it may die of the keep-alive race.
    pub reused: bool,
    /// Requests that it has carried to a clean end.
    pub requests: u64,
    // After the stream: the socket is closed before its place is free.
    _permit: Permit,
}

impl Connection {
    /// Nothing was sent yet: a PROXY header goes first.
    pub fn fresh(&self) -> bool {
        !self.reused
    }
}

/// What kind of connect failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// Nobody listens.
    Refused,
    /// No answer in time.
    Timeout,
    /// No way there.
    Unreachable,
    /// The server's sockets are all in use and the queue is full, or this machine has no more sockets or ports.
    Limit,
    /// The server's sockets were in use for longer than the queue timeout.
    QueueTimeout,
    /// Something else.
    Other,
}

/// A connect failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {io}", .kind.words())]
pub struct ConnectError {
    /// What kind.
    pub kind: ConnectErrorKind,
    /// What the system said, or our own words.
    pub io: io::Error,
}

impl ConnectErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::Refused => "the server refuses connections",
            Self::Timeout => "the server did not accept in time",
            Self::Unreachable => "the server cannot be reached",
            Self::Limit => "no connection is free",
            Self::QueueTimeout => "no connection came free in time",
            Self::Other => "the connection could not be made",
        }
    }
}

impl ConnectError {
    fn new(kind: ConnectErrorKind, error: impl Into<io::Error>) -> Self {
        Self {
            kind,
            io: error.into(),
        }
    }

    fn from_io(error: io::Error) -> Self {
        let kind = match error
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error)
        {
            // EAGAIN: the backlog of a unix socket is full. ENOENT: nobody has bound it.
            Some(
                rustix::io::Errno::CONNREFUSED
                | rustix::io::Errno::AGAIN
                | rustix::io::Errno::NOENT,
            ) => ConnectErrorKind::Refused,
            Some(rustix::io::Errno::TIMEDOUT) => ConnectErrorKind::Timeout,
            Some(
                rustix::io::Errno::HOSTUNREACH
                | rustix::io::Errno::NETUNREACH
                | rustix::io::Errno::NETDOWN,
            ) => ConnectErrorKind::Unreachable,
            Some(
                rustix::io::Errno::ADDRNOTAVAIL
                | rustix::io::Errno::MFILE
                | rustix::io::Errno::NFILE
                | rustix::io::Errno::NOBUFS
                | rustix::io::Errno::NOMEM,
            ) => ConnectErrorKind::Limit,
            _ => ConnectErrorKind::Other,
        };
        Self { kind, io: error }
    }

    /// Is it the server's fault (then report [`Report::ConnectFailed`]), or a limit of ours?
    pub fn blames_server(&self) -> bool {
        !matches!(
            self.kind,
            ConnectErrorKind::Limit | ConnectErrorKind::QueueTimeout
        )
    }
}

/// An attempt at a server; counts as a request under way there until it is dropped.
pub struct Lease {
    endpoint: Rc<CoreEndpoint>,
    view: Rc<View>,
    /// The server was out when it was chosen.
    trial: bool,
    reported: Cell<bool>,
    dialing: Cell<bool>,
}

impl Lease {
    pub(super) fn new(endpoint: Rc<CoreEndpoint>, view: Rc<View>, trial: bool) -> Self {
        let counters = endpoint.counters();
        CoreCounters::shift(&counters.in_flight, 1);
        CoreCounters::bump(&counters.requests);
        Self {
            endpoint,
            view,
            trial,
            reported: Cell::new(false),
            dialing: Cell::new(false),
        }
    }

    /// The server.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.endpoint.shared()
    }

    /// The server, to remember after the lease has ended (for the access log): no reference count that cores share.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(Rc::clone(&self.endpoint))
    }

    /// The server's name, for logs.
    pub fn name(&self) -> &str {
        self.endpoint.shared().name()
    }

    /// The server's address.
    pub fn target(&self) -> &Target {
        self.endpoint.shared().target()
    }

    /// The settings that this attempt began with.
    pub fn settings(&self) -> &Settings {
        &self.view.settings
    }

    /// The server took so many microseconds to the head of its response, or was silent for so long.
    pub fn latency(&self, us: u64) {
        if self.settings().balance == Balance::LeastTime {
            self.endpoint.observe(us);
        }
    }

    /// The connection was a kept one, and it died before a byte of the answer: nobody's failure, but to be expected again.
    pub fn raced(&self) {
        self.endpoint.raced();
    }

    /// Does the server close kept connections just as they are used? A request that cannot be sent twice takes a new one.
    pub fn is_racy(&self) -> bool {
        self.endpoint.is_racy()
    }

    /// An idle connection, the newest that is fit.
    pub fn try_idle(&self) -> Option<Connection> {
        self.endpoint.take_idle()
    }

    /// A new connection; or, if the server's sockets are all in use, the first that comes free, which may be a reused one.
    /// Dropping the future gives everything back.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        match self.endpoint.shared().sockets.try_acquire() {
            Some(permit) => self.dial(permit).await,
            None => match self.wait().await? {
                Ok(connection) => Ok(connection),
                Err(permit) => self.dial(permit).await,
            },
        }
    }

    /// A connection is being opened: the wait is for the server itself, not for a place at it.
    pub fn is_dialing(&self) -> bool {
        self.dialing.get()
    }

    async fn dial(&self, permit: Permit) -> Result<Connection, ConnectError> {
        let settings = self.settings();
        CoreCounters::bump(&self.endpoint.counters().connects);
        self.dialing.set(true);
        match rt::timeout_at(
            deadline(millis(settings.timeouts.connect)),
            dial(self.target(), &settings.dial),
        )
        .await
        {
            Ok(Ok(stream)) => Ok(Connection {
                stream,
                reused: false,
                requests: 0,
                _permit: permit,
            }),
            Ok(Err(error)) => Err(ConnectError::from_io(error)),
            Err(rt::Elapsed) => Err(ConnectError::new(
                ConnectErrorKind::Timeout,
                io::ErrorKind::TimedOut,
            )),
        }
    }

    /// Waits for a connection of this core, or for the right to open one.
    async fn wait(&self) -> Result<Result<Connection, Permit>, ConnectError> {
        let endpoint = self.endpoint.shared();
        let limit = millis(self.settings().connections.queue_timeout);
        if limit == 0 {
            return Err(ConnectError::new(
                ConnectErrorKind::Limit,
                io::ErrorKind::QuotaExceeded,
            ));
        }
        let mut place = Place {
            wait: endpoint.sockets.wait(self.endpoint.core()),
            lease: self,
        };
        let mut asked = false;
        let turn = std::future::poll_fn(|cx| {
            let polled = std::pin::Pin::new(&mut place.wait).poll(cx);
            if polled.is_pending() && !asked {
                // Only now is the place in the queue visible to those who release.
                asked = true;
                self.call_for_one();
            }
            polled
        });
        match rt::timeout_at(deadline(limit), turn).await {
            Ok(Ok(Turn::Permit(permit))) => Ok(Err(permit)),
            // Handed over and died since: what it held has been given back, which may serve us or another.
            Ok(Ok(Turn::Handed(ticket))) => match self.endpoint.take_handed(ticket) {
                Some(connection) => Ok(Ok(connection)),
                None => Err(ConnectError::new(
                    ConnectErrorKind::Other,
                    io::ErrorKind::ConnectionAborted,
                )),
            },
            Ok(Err(_full)) => Err(ConnectError::new(
                ConnectErrorKind::Limit,
                io::ErrorKind::QuotaExceeded,
            )),
            Err(rt::Elapsed) => Err(ConnectError::new(
                ConnectErrorKind::QueueTimeout,
                io::ErrorKind::TimedOut,
            )),
        }
    }

    /// Has an idle connection closed for us, on the core that has most.
    fn call_for_one(&self) {
        let endpoint = self.endpoint.shared();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.endpoint.give_up_oldest() {
            return;
        }
        if let (Some(core), Some(fleet)) = (
            endpoint.most_idle(self.endpoint.core()),
            self.endpoint.fleet(),
        ) {
            ask_to_give_up(&fleet.fleet, core, self.view.cluster.id(), endpoint.id());
        }
    }

    /// Gives back a connection on which both directions ended exactly on a message boundary; any other must be dropped.
    /// `keep_alive_hint_ms` is what the server said it keeps an idle connection for.
    pub fn release(&self, mut connection: Connection, keep_alive_hint_ms: Option<u64>) {
        connection.requests = connection.requests.saturating_add(1);
        self.endpoint
            .put_idle(connection, self.settings(), keep_alive_hint_ms);
    }

    /// Says how the attempt ended. At most once per attempt; an attempt that the client gave up is not reported.
    pub fn report(&self, report: Report) {
        self.reported.set(true);
        let failed = match report {
            Report::Ok => false,
            Report::Status(status) => self.settings().retry.on_status.contains(&status),
            Report::ConnectFailed | Report::Reset | Report::Timeout | Report::Invalid => true,
        };
        if failed || matches!(report, Report::Status(500..)) {
            CoreCounters::bump(&self.endpoint.counters().bad);
        }
        if failed {
            CoreCounters::bump(&self.endpoint.counters().failures);
            self.endpoint
                .shared()
                .failed(&self.view.cluster, report, self.trial, rt::now_ms());
        } else if self.trial && self.endpoint.shared().is_out() {
            self.endpoint.shared().recovered(&self.view.cluster);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        CoreCounters::shift(&self.endpoint.counters().in_flight, -1);
        if self.trial && !self.reported.get() {
            self.endpoint.shared().trial_abandoned(rt::now_ms());
            self.view.cluster.health_moved();
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("server", &self.name())
            .field("trial", &self.trial)
            .finish_non_exhaustive()
    }
}

/// A server, on its core. Cheap to clone; does not count as a request.
#[derive(Clone)]
pub struct ServerHandle(Rc<CoreEndpoint>);

impl ServerHandle {
    /// The server's name, for logs.
    pub fn name(&self) -> &str {
        self.0.shared().name()
    }

    /// The server.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.0.shared()
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerHandle").field(&self.name()).finish()
    }
}

/// A place in the queue that, when left, passes on what was handed over in the meantime.
struct Place<'a> {
    wait: Wait,
    lease: &'a Lease,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.wait.abandoned()
            && let Some(connection) = self.lease.endpoint.take_handed(ticket)
        {
            self.lease
                .endpoint
                .put_idle(connection, self.lease.settings(), None);
        }
    }
}

/// A time from now as a deadline; none stays none.
fn deadline(after_ms: u64) -> u64 {
    if after_ms == 0 {
        0
    } else {
        rt::now_ms().saturating_add(after_ms)
    }
}
