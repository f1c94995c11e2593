//! What frames travel over: a socket (plain, or a client's TLS), or a server's TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::kit::PATIENCE;
use crate::kit::sock::{Place, Sock};
use crate::kit::tls::{Pair, Tls};

/// A connected link.
pub enum Link {
    /// Plain, or TLS whose client we are.
    Sock(Sock),
    /// TLS whose server we are.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// A server's settings: this certificate, these protocols.
pub fn server(pair: &Pair, protocols: &[&str]) -> Arc<ServerConfig> {
    let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("certificate and key");
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}

impl Link {
    /// Plain, to there.
    pub fn plain(addr: SocketAddr) -> Self {
        let sock = Sock::connect(&Place::Tcp(addr), PATIENCE);
        let sock = sock.unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"));
        sock.set_write_timeout(Some(PATIENCE)).expect("timeout");
        Self::Sock(sock)
    }

    /// TLS to there, asking for this name, and what ALPN chose.
    pub fn tls(addr: SocketAddr, name: &str, tls: &Tls) -> io::Result<(Self, Option<String>)> {
        let (client, facts) = tls.connect(addr, name)?;
        Ok((Self::Sock(client.into_sock()), facts.alpn))
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

    /// Longest wait in a read.
    pub fn read_within(&self, limit: Duration) {
        let limit = Some(limit.max(Duration::from_millis(1)));
        match self {
            Self::Sock(s) => s.set_read_timeout(limit),
            Self::Server(s) => s.sock.set_read_timeout(limit),
        }
        .expect("timeout");
    }

    /// Longest wait in a write.
    pub fn write_within(&self, limit: Duration) {
        match self {
            Self::Sock(s) => s.set_write_timeout(Some(limit)),
            Self::Server(s) => s.sock.set_write_timeout(Some(limit)),
        }
        .expect("timeout");
    }

    /// Ends one or both directions of the socket.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Sock(s) => s.shutdown(how),
            Self::Server(s) => s.sock.shutdown(how),
        };
    }

    /// The socket of a client.
    pub fn sock(&self) -> Option<&Sock> {
        match self {
            Self::Sock(s) => Some(s),
            Self::Server(_) => None,
        }
    }
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Sock(s) => s.read(buf),
            Self::Server(s) => s.read(buf),
        }
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Sock(s) => s.write(buf),
            Self::Server(s) => s.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Sock(s) => s.flush(),
            Self::Server(s) => s.flush(),
        }
    }
}
