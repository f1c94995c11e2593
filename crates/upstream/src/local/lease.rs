//! One attempt at one server: its count of requests under way, and the way to a connection.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use narthex_config::model::{Balance, Priority, UpstreamProtocol};
use narthex_net::dial::{Target, dial};
use narthex_net::rt;
use narthex_net::stream::Stream;
use narthex_net::tls::HandshakeError;

use super::h2::{Opening, UpstreamStream};
use super::pool::CoreEndpoint;
use super::queue;
use super::view::View;
use crate::clock::millis;
use crate::cluster::Settings;
use crate::encryption::{self, Encryption};
use crate::endpoint::{CoreCounters, Endpoint, Report};
use crate::gate::Permit;

/// A connection to a server. Dropping closes it and gives its place back.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// It has carried a request before: it may die of the keep-alive race.
    pub reused: bool,
    /// Requests that it has carried to a clean end.
    pub requests: u64,
    /// It is one stream of a connection of HTTP/2: heads and ends go by it.
    pub h2: Option<UpstreamStream>,
    /// How it is encrypted ([`Encryption::id`](crate::Encryption)).
    pub(super) encryption: u64,
    /// Its server chose HTTP/2; nothing was said yet.
    pub(super) agreed_h2: bool,
    // After the stream: the socket is closed before its place is free. At the server, and at the upstream. A stream has none:
    // its connection does.
    permits: Option<[Permit; 2]>,
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
    /// A limit is reached, and the queue has no place for this one.
    Limit,
    /// A limit was reached for longer than the queue timeout.
    QueueTimeout,
    /// The upstream has as many requests as it can take, and there was no room in time.
    Overload,
    /// This machine has no more sockets, ports or memory for them.
    Exhausted,
    /// The server could not be proven, or does not speak TLS as we do; the word says more.
    Tls(&'static str),
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
            Self::Limit => "a limit is reached and the queue is full",
            Self::QueueTimeout => "a limit was reached for longer than the queue timeout",
            Self::Overload => "the upstream has as many requests as it can take",
            Self::Exhausted => "this machine has no more sockets or ports",
            Self::Tls(_) => "no encrypted connection",
            Self::Other => "the connection could not be made",
        }
    }

    /// Is it the server's fault (then report [`Report::ConnectFailed`]), or a limit of ours?
    pub fn blames_server(self) -> bool {
        !matches!(
            self,
            Self::Limit | Self::QueueTimeout | Self::Overload | Self::Exhausted
        )
    }
}

impl ConnectError {
    pub(super) fn new(kind: ConnectErrorKind, error: impl Into<io::Error>) -> Self {
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
            ) => ConnectErrorKind::Exhausted,
            _ => ConnectErrorKind::Other,
        };
        Self { kind, io: error }
    }
}

fn late() -> ConnectError {
    ConnectError::new(ConnectErrorKind::Timeout, io::ErrorKind::TimedOut)
}

/// An attempt at a server; counts as a request under way there until it is dropped.
pub struct Lease {
    pub(super) endpoint: Rc<CoreEndpoint>,
    pub(super) view: Rc<View>,
    /// The server was out when it was chosen.
    trial: bool,
    reported: Cell<bool>,
    dialing: Cell<bool>,
    /// Its place at the server, where requests are limited.
    place: Cell<Option<Permit>>,
}

impl Lease {
    #[inline]
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
            place: Cell::new(None),
        }
    }

    /// The server.
    #[inline]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.endpoint.shared()
    }

    /// The server, to remember after the lease has ended (for the access log): no reference count that cores share.
    #[inline]
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

    /// Has the upstream no other server?
    pub fn is_alone(&self) -> bool {
        self.view.members.len() < 2
    }

    /// The settings that this attempt began with.
    #[inline]
    pub fn settings(&self) -> &Settings {
        &self.view.settings
    }

    /// The server took so many microseconds to the head of its response, which has this status, or was silent for so long.
    #[inline]
    pub fn latency(&self, us: u64, status: Option<u16>) {
        if self.settings().balance == Balance::LeastTime {
            self.endpoint.observe(us);
        }
        if let Some(sampler) = &self.view.sampler
            && !status.is_some_and(|s| s >= 500 || s == 429)
        {
            // What was refused, or failed, says nothing of how long it takes.
            sampler.add(&self.view.cluster, us);
        }
    }

    /// Another server answered first, and this one, silent for so many microseconds, is not waited for. Nothing is said of how
    /// it would have ended; what is expected of its time may only grow by it.
    pub fn given_up(&self, silent_us: u64) {
        CoreCounters::bump(&self.endpoint.counters().given_up);
        let expected = self.endpoint.recent.get().now(rt::now_ms());
        if expected.is_none_or(|us| us < silent_us) {
            self.latency(silent_us, None);
        }
    }

    /// The connection was a kept one, and it died before a byte of the answer: nobody's failure, but to be expected again.
    pub fn raced(&self) {
        self.endpoint.raced();
    }

    /// Does the server close kept connections just as they are used? A request that cannot be sent twice takes a new one.
    #[inline]
    pub fn is_racy(&self) -> bool {
        self.endpoint.is_racy()
    }

    /// An idle connection, the newest that is fit.
    #[inline(always)]
    pub fn try_idle(&self) -> Option<Connection> {
        if self.speaks_h2() {
            return self.try_stream();
        }
        self.endpoint.take_idle(self.encryption())
    }

    #[inline]
    fn encryption(&self) -> u64 {
        let encryption = self.settings().encryption.as_ref();
        encryption.map_or(0, Encryption::id)
    }

    /// Is HTTP/2 spoken with this server?
    #[inline]
    pub fn speaks_h2(&self) -> bool {
        match self.settings().protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Auto => {
                self.settings().encryption.is_some() && self.endpoint.sessions.was_agreed()
            }
        }
    }

    /// A stream of a connection that has room.
    fn try_stream(&self) -> Option<Connection> {
        let encryption = self.encryption();
        let (h2, stream, reused) = self.endpoint.sessions.stream(encryption)?;
        Some(Connection {
            stream,
            reused,
            requests: 0,
            h2: Some(h2),
            encryption,
            agreed_h2: true,
            permits: None,
        })
    }

    /// A stream; of a new connection, if those that there are have no room.
    async fn connect_h2(&self, priority: Priority) -> Result<Connection, ConnectError> {
        let sessions = &self.endpoint.sessions;
        let longest = queue::longest(self.settings()).max(millis(self.settings().timeouts.connect));
        let until = deadline(longest);
        loop {
            if let Some(connection) = self.try_stream() {
                return Ok(connection);
            }
            if let Some(opening) = sessions.begin_opening() {
                let Some(connection) = self.connect_or_stream(priority).await? else {
                    continue;
                };
                if self.settings().protocol == UpstreamProtocol::Auto && !connection.agreed_h2 {
                    // It did before.
                    sessions.agree(false);
                    return Ok(connection);
                }
                self.start_session(connection, Some(opening));
                continue;
            }
            self.dialing.set(sessions.is_empty());
            let mut seen = false;
            let news = std::future::poll_fn(|_| sessions.poll_news(&mut seen));
            if rt::timeout_at(until, news).await.is_err() {
                return Err(ConnectError::new(
                    ConnectErrorKind::QueueTimeout,
                    io::ErrorKind::TimedOut,
                ));
            }
        }
    }

    fn start_session(&self, mut connection: Connection, opening: Option<Opening>) {
        if let Some(permits) = connection.permits.take() {
            let idle = self.settings().ms.idle;
            let sessions = &self.endpoint.sessions;
            sessions.start(
                connection.stream,
                permits,
                idle,
                connection.encryption,
                opening,
            );
        }
    }

    /// A new connection; `None` if a stream came free while there was no socket to be had for one.
    async fn connect_or_stream(
        &self,
        priority: Priority,
    ) -> Result<Option<Connection>, ConnectError> {
        let sessions = &self.endpoint.sessions;
        self.dialing.set(false);
        let mut connecting = std::pin::pin!(self.connect_h1(priority));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(connected.map(Some));
            }
            if self.dialing.get() {
                return Poll::Pending;
            }
            if sessions.has_room(self.encryption()) {
                return Poll::Ready(Ok(None));
            }
            let _ = sessions.poll_news(&mut false);
            Poll::Pending
        })
        .await
    }

    /// Takes a place among the server's requests, if they are not limited or one is free.
    #[inline]
    pub fn try_enter(&self) -> bool {
        if self.settings().requests.max == 0 {
            return true;
        }
        let place = self.endpoint.shared().places.try_acquire();
        let entered = place.is_some();
        self.place.set(place);
        entered
    }

    /// A connection is being opened: the wait is for the server itself, not for a place at it.
    pub fn is_dialing(&self) -> bool {
        self.dialing.get()
    }

    /// Waits for a place among the server's requests. Dropping the future gives everything back.
    pub async fn enter(&self, priority: Priority) -> Result<(), ConnectError> {
        if !self.try_enter() {
            let (gate, core) = (&self.endpoint.shared().places, self.endpoint.core());
            let longest = queue::longest(self.settings());
            let place = queue::place(gate, core, priority, longest).await?;
            self.place.set(Some(place));
        }
        Ok(())
    }

    /// A new connection; or, if the server's sockets are all in use, the first that comes free, which may be a reused one.
    /// Dropping the future gives everything back.
    pub async fn connect(&self, priority: Priority) -> Result<Connection, ConnectError> {
        if self.speaks_h2() {
            return Box::pin(self.connect_h2(priority)).await;
        }
        let connection = self.connect_h1(priority).await?;
        if !connection.agreed_h2 {
            return Ok(connection);
        }
        self.endpoint.sessions.agree(true);
        self.start_session(connection, self.endpoint.sessions.begin_opening());
        Box::pin(self.connect_h2(priority)).await
    }

    async fn connect_h1(&self, priority: Priority) -> Result<Connection, ConnectError> {
        let here = match self.endpoint.shared().sockets.try_acquire() {
            Some(permit) => permit,
            None => match queue::connection(self, priority).await? {
                Ok(connection) if connection.encryption == self.encryption() => {
                    return Ok(connection);
                }
                // Made before the configuration said how: its place is ours.
                Ok(mut connection) => match connection.permits.take() {
                    Some([here, _]) => here,
                    None => return Ok(connection),
                },
                Err(permit) => permit,
            },
        };
        let of_all = match self.view.cluster.sockets().try_acquire() {
            Some(permit) => permit,
            None => queue::socket_of_all(self, priority).await?,
        };
        self.dial([here, of_all]).await
    }

    async fn dial(&self, permits: [Permit; 2]) -> Result<Connection, ConnectError> {
        let settings = self.settings();
        CoreCounters::bump(&self.endpoint.counters().connects);
        self.dialing.set(true);
        let until = deadline(millis(settings.timeouts.connect));
        let stream = match rt::timeout_at(until, dial(self.target(), &settings.dial)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(ConnectError::from_io(error)),
            Err(rt::Elapsed) => return Err(late()),
        };
        let (stream, agreed_h2) = match &settings.encryption {
            None => (stream, false),
            Some(encryption) => Box::pin(self.encrypt(encryption, stream, until)).await?,
        };
        Ok(Connection {
            stream,
            reused: false,
            requests: 0,
            h2: None,
            encryption: self.encryption(),
            agreed_h2,
            permits: Some(permits),
        })
    }

    async fn encrypt(
        &self,
        encryption: &Encryption,
        stream: Stream,
        until: u64,
    ) -> Result<(Stream, bool), ConnectError> {
        let endpoint = self.endpoint.shared();
        let error = match encryption.begin(stream, endpoint, until).await {
            Ok((_, false)) if self.settings().protocol == UpstreamProtocol::Http2 => {
                return Err(ConnectError::new(
                    ConnectErrorKind::Tls("tls-alpn"),
                    io::Error::other("the server does not speak HTTP/2"),
                ));
            }
            Ok(done) => return Ok(done),
            Err(HandshakeError::Deadline) => return Err(late()),
            Err(error) => error,
        };
        tracing::debug!(server = endpoint.name(), %error, "no encrypted connection");
        Err(ConnectError::new(
            ConnectErrorKind::Tls(encryption::word(&error)),
            io::Error::other(error),
        ))
    }

    /// Gives back a connection on which both directions ended exactly on a message boundary; any other must be dropped.
    /// `keep_alive_hint_ms` is what the server said it keeps an idle connection for.
    #[inline(always)]
    pub fn release(&self, mut connection: Connection, keep_alive_hint_ms: Option<u64>) {
        if connection.h2.is_some() {
            return;
        }
        connection.requests = connection.requests.saturating_add(1);
        self.endpoint.put_idle(
            connection,
            &self.view.cluster,
            self.settings(),
            keep_alive_hint_ms,
        );
    }

    /// Says how the attempt ended. At most once per attempt; an attempt that the client gave up is not reported.
    #[inline]
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

/// A time from now as a deadline; none stays none.
pub(super) fn deadline(after_ms: u64) -> u64 {
    if after_ms == 0 {
        0
    } else {
        rt::now_ms().saturating_add(after_ms)
    }
}
