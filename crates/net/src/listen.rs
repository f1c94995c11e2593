//! Listening: from what the configuration says to sockets that the cores accept from.
//!
//! TCP gets one `SO_REUSEPORT` socket per core, so that no accept queue is shared. Unix and inherited sockets are one
//! socket: one core accepts and deals the connections out ([`crate::balance`]).

mod error;
mod unix;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use narthex_config::model::{Address, Listener, TcpOptions};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::inherited::Inherited;
pub use error::ListenError;
use unix::UnlinkOnDrop;

/// Keepalive probes that may stay unanswered.
const KEEPALIVE_PROBES: u32 = 4;

/// Sockets of one listener, bound and listening.
#[derive(Debug)]
pub struct Bound {
    sockets: Vec<OwnedFd>,
    address: Address,
    ours: bool,
    /// A predecessor still accepts from them.
    adopted: AtomicBool,
    unlink: OnceLock<UnlinkOnDrop>,
}

impl Bound {
    /// What was really bound: the port that the kernel chose, the IPv4 address that stands in for a missing IPv6.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The sockets not yet taken: one per core, or a single one whose connections are dealt out.
    pub fn sockets(&self) -> &[OwnedFd] {
        &self.sockets
    }

    /// Takes the sockets, to give each to its core. Keep the `Bound`: it removes a unix socket's file when dropped.
    pub fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    /// Is nobody else known to hold these sockets? Then an acceptor that ends must empty the queue
    /// ([`crate::accept::AcceptControl::end`]); else it just leaves ([`crate::accept::AcceptControl::leave`]).
    pub fn is_ours(&self) -> bool {
        self.ours
    }

    /// Leaves a unix socket's file where it is: a successor listens on the same socket.
    pub fn keep_path(&self) {
        if let Some(unlink) = self.unlink.get() {
            unlink.disarm();
        }
    }

    /// The predecessor has left what we adopted from it to us: a unix socket's file goes with us from now on.
    pub fn own(&self) {
        if !self.adopted.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Address::Unix(path) = &self.address
            && let Ok(unlink) = UnlinkOnDrop::of(path)
        {
            // What was adopted had none.
            let _ = self.unlink.set(unlink);
        }
    }

    /// Does a predecessor still accept from these sockets?
    pub fn is_adopted(&self) -> bool {
        self.adopted.load(Ordering::Relaxed)
    }

    /// Gives the sockets the options that `listener` asks for, as far as an open socket can change them: those of its
    /// connections, and the backlog.
    pub fn refresh(&self, listener: &Listener) -> io::Result<()> {
        for fd in &self.sockets {
            let socket = SockRef::from(fd);
            if matches!(self.address, Address::Tcp(_)) {
                set_tcp_options(&socket, &listener.tcp)?;
            }
            start(&socket, listener.backlog)?;
        }
        Ok(())
    }
}

/// Takes over the sockets that a predecessor has open for `listener` and still accepts from. They are not changed, and a
/// unix socket's file stays the predecessor's until [`Bound::own`]: whoever gives up leaves everything as it was.
fn adopt(listener: &Listener, sockets: Vec<OwnedFd>) -> Result<Bound, ListenError> {
    let mut address = listener.address.clone();
    for fd in &sockets {
        let socket = SockRef::from(fd);
        if !socket.is_listener().unwrap_or(false) {
            return Err(ListenError::adopted(&listener.name));
        }
        if !same_family_rule(&socket, listener) {
            return Err(ListenError::ipv6_only(&listener.name));
        }
        if let Some(bound) = local_address(&socket) {
            address = Address::Tcp(bound);
        }
    }
    if sockets.is_empty() {
        return Err(ListenError::adopted(&listener.name));
    }
    Ok(Bound {
        sockets,
        address,
        ours: true,
        adopted: AtomicBool::new(true),
        unlink: OnceLock::new(),
    })
}

/// Whether a socket takes IPv4 as well is fixed when it is bound.
fn same_family_rule(socket: &Socket, listener: &Listener) -> bool {
    match local_address(socket) {
        Some(SocketAddr::V6(_)) => socket
            .only_v6()
            .is_ok_and(|only| only == listener.ipv6_only),
        _ => true,
    }
}

/// An address as the configuration has it, to recognise it in another process.
pub fn written(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Inherited(name) => format!("inherited:{name}"),
    }
}

/// Opens what `listener` asks for, for `cores` cores, or adopts what a predecessor has bequeathed for it. Refuses an address that anybody listens on, a second Narthex (whose
/// `SO_REUSEPORT` would otherwise let both in, each with half of the clients) included.
pub fn bind(
    listener: &Listener,
    cores: usize,
    inherited: &mut Inherited,
) -> Result<Bound, ListenError> {
    if let Some(sockets) = inherited.take_bequest(&written(&listener.address)) {
        return adopt(listener, sockets);
    }
    if let Address::Tcp(address) = &listener.address {
        refuse_if_taken(*address, listener)?;
    }
    bind_beside(listener, cores, inherited)
}

/// As [`bind`], and shares a TCP address with sockets of the same user that are open already: for a reload that changes
/// the options of a listener, so that the new sockets are open before the old ones end.
pub fn bind_beside(
    listener: &Listener,
    cores: usize,
    inherited: &mut Inherited,
) -> Result<Bound, ListenError> {
    match &listener.address {
        Address::Tcp(address) => bind_tcp(*address, listener, cores.max(1)),
        Address::Unix(path) => bind_unix(path, listener),
        Address::Inherited(name) => take_inherited(name, listener, inherited),
    }
}

fn refuse_if_taken(address: SocketAddr, listener: &Listener) -> Result<(), ListenError> {
    if address.port() == 0 {
        return Ok(());
    }
    match tcp_socket(address, listener, false) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(ListenError::tcp(address, e)),
        // Anything else is met again, and told, by the socket that stays.
        _ => Ok(()),
    }
}

fn bind_tcp(address: SocketAddr, listener: &Listener, cores: usize) -> Result<Bound, ListenError> {
    let (first, asked) = match tcp_socket(address, listener, true) {
        Ok(socket) => (socket, address),
        Err(e) => match without_ipv6(address, listener.ipv6_only, &e) {
            Some(v4) => (
                tcp_socket(v4, listener, true).map_err(|e| ListenError::tcp(v4, e))?,
                v4,
            ),
            None => return Err(ListenError::tcp(address, e)),
        },
    };
    // Port 0 is chosen once; the other cores join the first.
    let bound = local_address(&first).unwrap_or(asked);
    let mut sockets = vec![first];
    while sockets.len() < cores {
        sockets.push(tcp_socket(bound, listener, true).map_err(|e| ListenError::tcp(bound, e))?);
    }
    // Only now: a socket of the group that listens gets its share of clients at once.
    for socket in &sockets {
        start(socket, listener.backlog).map_err(|e| ListenError::tcp(bound, e))?;
    }
    Ok(Bound {
        sockets: sockets.into_iter().map(OwnedFd::from).collect(),
        address: Address::Tcp(bound),
        ours: true,
        adopted: AtomicBool::new(false),
        unlink: OnceLock::new(),
    })
}

/// `[::]` stands for "every address"; on a host without IPv6 that is `0.0.0.0`.
fn without_ipv6(address: SocketAddr, ipv6_only: bool, error: &io::Error) -> Option<SocketAddr> {
    let missing = matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    );
    let any = matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified());
    (missing && any && !ipv6_only)
        .then(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
}

fn local_address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

fn tcp_socket(address: SocketAddr, listener: &Listener, share: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(listener.ipv6_only)?;
    }
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    set_tcp_options(&socket, &listener.tcp)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Options of the connections. Linux copies them from the listening socket to each accepted one, so that no connection
/// costs a system call for them.
fn set_tcp_options(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if !options.keepalive.is_zero() {
        socket.set_tcp_keepalive(&keepalive(options.keepalive))?;
    }
    if !options.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    }
    Ok(())
}

/// First probe after `idle`, the others at a quarter of it; whole seconds, at least one.
fn keepalive(idle: Duration) -> TcpKeepalive {
    let second = Duration::from_secs(1);
    TcpKeepalive::new()
        .with_time(idle.max(second))
        .with_interval((idle / 4).max(second))
        .with_retries(KEEPALIVE_PROBES)
}

fn start(socket: &Socket, backlog: u32) -> io::Result<()> {
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
}

fn bind_unix(path: &Path, listener: &Listener) -> Result<Bound, ListenError> {
    let (socket, unlink) =
        unix::bind(path, listener.mode).map_err(|e| ListenError::unix(path, e))?;
    start(&socket, listener.backlog).map_err(|e| ListenError::unix(path, e))?;
    Ok(Bound {
        sockets: vec![socket.into()],
        address: Address::Unix(path.to_owned()),
        ours: true,
        adopted: AtomicBool::new(false),
        unlink: OnceLock::from(unlink),
    })
}

fn take_inherited(
    name: &str,
    listener: &Listener,
    inherited: &mut Inherited,
) -> Result<Bound, ListenError> {
    let wrap = |e: io::Error| ListenError::inherited(name, inherited.describe(), e);
    let socket = Socket::from(inherited.get(name).map_err(wrap)?);
    if !matches!(socket.r#type(), Ok(kind) if kind == Type::STREAM)
        || !socket.is_listener().map_err(wrap)?
    {
        let text = "it is not a listening stream socket (ListenStream= in the socket unit)";
        return Err(wrap(io::Error::new(io::ErrorKind::InvalidInput, text)));
    }
    socket.set_nonblocking(true).map_err(wrap)?;
    if local_address(&socket).is_some() {
        set_tcp_options(&socket, &listener.tcp).map_err(wrap)?;
    }
    // A second listen() changes the backlog and nothing else.
    start(&socket, listener.backlog).map_err(wrap)?;
    Ok(Bound {
        address: local_address(&socket).map_or_else(|| listener.address.clone(), Address::Tcp),
        sockets: vec![socket.into()],
        ours: false,
        adopted: AtomicBool::new(false),
        unlink: OnceLock::new(),
    })
}

#[cfg(test)]
mod tests;
