//! Dialling: a non-blocking connect with the options an upstream asks for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::rt::Interest;
use crate::socket::Socket as Connected;
use crate::stream::Stream;

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(a) => a.fmt(f),
            Self::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}

/// Socket options of an upstream connection. Zero durations leave the kernel's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DialOptions {
    /// Local address; the port stays the kernel's choice (`IP_BIND_ADDRESS_NO_PORT`).
    pub source: Option<IpAddr>,
    /// Keepalive probes after this idle time.
    pub keepalive: Duration,
    /// `TCP_USER_TIMEOUT`.
    pub user_timeout: Duration,
    /// `SO_MARK`.
    pub mark: Option<u32>,
}

/// Connects. The caller bounds the time with [`crate::rt::timeout_at`].
pub async fn dial(target: &Target, options: &DialOptions) -> io::Result<Stream> {
    let (socket, address) = match target {
        Target::Tcp(a) => (tcp_socket(*a, options)?, SockAddr::from(*a)),
        Target::Unix(p) => (
            Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?,
            SockAddr::unix(p)?,
        ),
    };
    let pending = match socket.connect(&address) {
        Ok(()) => false,
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => true,
        // EAGAIN on a unix socket means a full backlog: a refusal, not a wait.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Err(e) => return Err(e),
    };
    let stream = Connected::new(socket.into())?;
    if pending {
        stream.registration().until(Interest::Write).await;
        if stream.registration().is_dead() {
            stream.take_error()?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    } else {
        stream.registration().assume(Interest::Write);
    }
    Ok(stream.into())
}

fn tcp_socket(address: SocketAddr, options: &DialOptions) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    if !options.keepalive.is_zero() {
        let interval = (options.keepalive / 4).max(Duration::from_secs(1));
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(options.keepalive)
                .with_interval(interval),
        )?;
    }
    if !options.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if let Some(source) = options.source {
        // Without it (an old kernel) the port is chosen here already, and each can be used once only.
        let _ = crate::sockopt::bind_address_no_port(&socket);
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests;
