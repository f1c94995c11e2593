//! An origin that speaks HTTP/2: what happens on a connection is a function of the test's, or [`echo`].

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustls::ServerConfig;

use super::link::Link;
use super::peer::{Got, Peer, Stream};
use super::{Block, Frame};
use crate::kit::sock::Sock;

/// A connection as it was accepted, plain or after a handshake, and its number.
pub type Serve = dyn Fn(Link, usize, &Records) + Send + Sync;

/// What requests came: connection, stream, request.
#[derive(Clone, Default)]
pub struct Records(Arc<Mutex<Vec<(usize, u32, Stream)>>>);

impl Records {
    /// One more.
    pub fn add(&self, conn: usize, id: u32, stream: Stream) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((conn, id, stream));
    }
    /// So far.
    pub fn all(&self) -> Vec<(usize, u32, Stream)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A running origin; its threads end with it.
pub struct H2Origin {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepting: Option<JoinHandle<()>>,
    /// What requests came.
    pub records: Records,
}

impl H2Origin {
    /// Serves every connection so.
    pub fn start(
        tls: Option<Arc<ServerConfig>>,
        serve: impl Fn(Link, usize, &Records) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("origin");
        let addr = listener.local_addr().expect("address");
        let stop = Arc::new(AtomicBool::new(false));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let records = Records::default();
        let serve: Arc<Serve> = Arc::new(serve);
        let (stopped, kept, noted) = (Arc::clone(&stop), Arc::clone(&open), records.clone());
        let accepting = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for (conn, tcp) in listener.incoming().enumerate() {
                let Ok(tcp) = tcp else { break };
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let _ = tcp.set_nodelay(true);
                if let Ok(second) = tcp.try_clone() {
                    kept.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(second);
                }
                let (serve, tls, noted) = (Arc::clone(&serve), tls.clone(), noted.clone());
                threads.push(std::thread::spawn(move || {
                    let link = match tls {
                        None => Ok(Link::Sock(Sock::Tcp(tcp))),
                        Some(config) => Link::accept(tcp, config),
                    };
                    if let Ok(link) = link {
                        serve(link, conn, &noted);
                    }
                }));
            }
            for thread in threads {
                let _ = thread.join();
            }
        });
        Self {
            addr,
            stop,
            open,
            accepting: Some(accepting),
            records,
        }
    }

    /// Answers everything, over plain TCP.
    pub fn echo() -> Self {
        Self::start(None, echo)
    }
    /// Answers everything, over TLS.
    pub fn echo_tls(config: Arc<ServerConfig>) -> Self {
        Self::start(Some(config), |link, conn, records| {
            echo(link, conn, records)
        })
    }
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        for tcp in self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = tcp.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

/// A byte of the body that `/bytes/N` is answered with.
pub fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(31) ^ at >> 8) as u8
}

/// Answers each request that has ended: `/bytes/N` with so many bytes of [`pattern`], everything else with what it was, the
/// hash of its body and the id it had. With `te: trailers` an answer has a trailer.
pub fn echo(link: Link, conn: usize, records: &Records) {
    let Some(mut peer) = Peer::serve(link, &[]) else {
        return;
    };
    loop {
        let ended = |(id, s): (&u32, &Stream)| s.ended.then_some(*id);
        let ready = peer.streams.iter().find_map(ended);
        let Some(id) = ready else {
            match peer.read() {
                Got::Frame(_) => continue,
                Got::Quiet if records.all().is_empty() => continue,
                Got::Quiet | Got::End(_) => return,
            }
        };
        let request = peer.stream(id).clone();
        records.add(conn, id, request.clone());
        if request.reset.is_none() && !answer(&mut peer, conn, id, &request) {
            return;
        }
        peer.streams.remove(&id);
    }
}

fn answer(peer: &mut Peer, conn: usize, id: u32, request: &Stream) -> bool {
    let (method, path) = (request.field(":method"), request.field(":path"));
    let (method, path) = (method.unwrap_or_default(), path.unwrap_or_default());
    let mut head = Block::status(200)
        .field("x-conn", conn.to_string())
        .field("x-hash", format!("{:x}", request.hash.0));
    if let Some(id) = request.field("x-id") {
        head = head.field("x-id", id);
    }
    let length = path
        .strip_prefix("/bytes/")
        .and_then(|n| n.parse::<u64>().ok());
    let body: Vec<u8> = match length {
        Some(n) => (0..n).map(pattern).collect(),
        None => format!("{method} {path} len={}\n", request.body_len).into_bytes(),
    };
    head = head.field("content-length", body.len().to_string());
    let trailers = request.field("te").is_some();
    let bare = method == "HEAD";
    if !peer.frame(&Frame::headers(id, head, bare)) || bare {
        return bare;
    }
    let sent = peer.body(id, &body, !trailers);
    if sent && trailers {
        return peer.frame(&Frame::headers(id, Block::new().field("x-sum", "1"), true));
    }
    sent || peer.over.is_none()
}
