//! A stream socket, TCP or unix, with the few operations that an attack needs beyond reading and writing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(a) => write!(f, "{a}"),
            Self::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}

impl From<SocketAddr> for Place {
    fn from(a: SocketAddr) -> Self {
        Self::Tcp(a)
    }
}

impl From<&Path> for Place {
    fn from(p: &Path) -> Self {
        Self::Unix(p.to_owned())
    }
}

/// A connected stream.
#[derive(Debug)]
pub enum Sock {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<super::tls::TlsSock>),
}

impl Sock {
    /// Connects within `limit`.
    pub fn connect(place: &Place, limit: Duration) -> io::Result<Self> {
        match place {
            Place::Tcp(a) => {
                let s = TcpStream::connect_timeout(a, limit)?;
                s.set_nodelay(true)?;
                Ok(Self::Tcp(s))
            }
            Place::Unix(p) => Ok(Self::Unix(UnixStream::connect(p)?)),
        }
    }

    /// A second handle to the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(s) => s.try_clone().map(Self::Tcp),
            Self::Unix(s) => s.try_clone().map(Self::Unix),
            Self::Tls(_) => Err(io::Error::other("there is one handle to a TLS connection")),
        }
    }

    /// Ends one or both directions.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.shutdown(how),
            Self::Unix(s) => s.shutdown(how),
            Self::Tls(s) => s.sock.shutdown(how),
        }
    }

    /// Says that nothing more comes, where that is said: in TLS.
    pub fn say_end(&mut self) {
        if let Self::Tls(s) = self {
            s.conn.send_close_notify();
            let _ = s.flush();
        }
    }

    /// Longest wait in a read; `None` waits forever.
    pub fn set_read_timeout(&self, d: Option<Duration>) -> io::Result<()> {
        let d = d.map(|d| d.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(s) => s.set_read_timeout(d),
            Self::Unix(s) => s.set_read_timeout(d),
            Self::Tls(s) => s.sock.set_read_timeout(d),
        }
    }

    /// Longest wait in a write; `None` waits forever.
    pub fn set_write_timeout(&self, d: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.set_write_timeout(d),
            Self::Unix(s) => s.set_write_timeout(d),
            Self::Tls(s) => s.sock.set_write_timeout(d),
        }
    }

    /// Closing this socket (its last handle) sends RST instead of FIN.
    pub fn linger_zero(&self) {
        let tcp = match self {
            Self::Tcp(s) => Some(s),
            Self::Tls(s) => Some(&s.sock),
            Self::Unix(_) => None,
        };
        if let Some(s) = tcp {
            rustix::net::sockopt::set_socket_linger(s.as_fd(), Some(Duration::ZERO))
                .expect("SO_LINGER");
        }
    }

    /// Makes the kernel take only about this much unread data.
    pub fn small_receive_buffer(&self, bytes: usize) {
        if let Self::Tcp(s) = self {
            rustix::net::sockopt::set_socket_recv_buffer_size(s.as_fd(), bytes).expect("SO_RCVBUF");
        }
    }

    /// Our own address, for TCP.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(s) => s.local_addr().ok(),
            Self::Unix(_) => None,
            Self::Tls(s) => s.sock.local_addr().ok(),
        }
    }
}

impl Read for Sock {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(buf),
            Self::Unix(s) => s.read(buf),
            Self::Tls(s) => s.read(buf),
        }
    }
}

impl Write for Sock {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.write(buf),
            Self::Unix(s) => s.write(buf),
            Self::Tls(s) => s.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        if let Self::Tls(s) = self {
            return s.flush();
        }
        Ok(())
    }
}
