//! What frames travel over: a socket, or TLS over one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::tls::server_name;
use crate::kit::PATIENCE;
use crate::kit::sock::{Place, Sock};

/// A connected link.
pub enum Link {
    /// Prior knowledge, or HTTP/1.
    Plain(Sock),
    /// We are the client.
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// We are the server.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Link {
    /// Plain, to there.
    pub fn plain(addr: SocketAddr) -> Self {
        let sock = Sock::connect(&Place::Tcp(addr), PATIENCE);
        let sock = sock.unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"));
        sock.set_write_timeout(Some(PATIENCE)).expect("timeout");
        Self::Plain(sock)
    }

    /// TLS to there, asking for this name. The handshake is complete.
    pub fn tls(addr: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let mut tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let mut session =
            ClientConnection::new(config, server_name(name)).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Self::Client(Box::new(StreamOwned::new(session, tcp))))
    }

    /// TLS over an accepted socket.
    pub fn accept(mut tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        tcp.set_read_timeout(Some(PATIENCE))?;
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Self::Server(Box::new(StreamOwned::new(session, tcp))))
    }

    /// What ALPN chose.
    pub fn protocol(&self) -> Option<String> {
        let chosen = match self {
            Self::Plain(_) => None,
            Self::Client(s) => s.conn.alpn_protocol(),
            Self::Server(s) => s.conn.alpn_protocol(),
        };
        chosen.map(|p| String::from_utf8_lossy(p).into_owned())
    }

    /// Longest wait in a read.
    pub fn read_within(&self, limit: Duration) {
        let limit = Some(limit.max(Duration::from_millis(1)));
        match self {
            Self::Plain(s) => s.set_read_timeout(limit),
            Self::Client(s) => s.sock.set_read_timeout(limit),
            Self::Server(s) => s.sock.set_read_timeout(limit),
        }
        .expect("timeout");
    }

    /// Longest wait in a write.
    pub fn write_within(&self, limit: Duration) {
        match self {
            Self::Plain(s) => s.set_write_timeout(Some(limit)),
            Self::Client(s) => s.sock.set_write_timeout(Some(limit)),
            Self::Server(s) => s.sock.set_write_timeout(Some(limit)),
        }
        .expect("timeout");
    }

    /// Ends one or both directions of the socket.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Plain(s) => s.shutdown(how),
            Self::Client(s) => s.sock.shutdown(how),
            Self::Server(s) => s.sock.shutdown(how),
        };
    }

    /// The socket of a plain link.
    pub fn sock(&self) -> Option<&Sock> {
        match self {
            Self::Plain(s) => Some(s),
            Self::Client(_) | Self::Server(_) => None,
        }
    }
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.read(buf),
            Self::Client(s) => s.read(buf),
            Self::Server(s) => s.read(buf),
        }
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.write(buf),
            Self::Client(s) => s.write(buf),
            Self::Server(s) => s.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.flush(),
            Self::Client(s) => s.flush(),
            Self::Server(s) => s.flush(),
        }
    }
}
