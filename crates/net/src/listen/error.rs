//! Why a listener could not be opened, in words that say what to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// A listener that could not be opened. `Display` is one sentence for the operator: where, what, and the remedy.
#[derive(Debug)]
pub struct ListenError {
    message: String,
    source: io::Error,
}

impl ListenError {
    pub(super) fn tcp(address: SocketAddr, source: io::Error) -> Self {
        let message = match source.raw_os_error() {
            Some(libc::EADDRINUSE) => {
                format!("{address} is in use (by another process?); stop it or listen elsewhere")
            }
            Some(libc::EACCES | libc::EPERM) if address.port() < 1024 => format!(
                "{address}: a port below 1024 needs a privilege; start as root and let Narthex drop it after binding, \
                 give it CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd unit), let systemd open the socket, \
                 or listen on a port from 1024 up"
            ),
            Some(libc::EADDRNOTAVAIL) => format!(
                "{address}: this machine has no such address; check `ip address`, or set net.ipv4.ip_nonlocal_bind=1 \
                 (net.ipv6.ip_nonlocal_bind=1) if the address arrives later"
            ),
            Some(libc::EAFNOSUPPORT) => {
                format!(
                    "{address}: this machine has no IPv6; listen on an IPv4 address such as 0.0.0.0:{}",
                    address.port()
                )
            }
            _ => format!("{address}: cannot listen: {source}"),
        };
        Self { message, source }
    }

    pub(super) fn adopted(listener: &str) -> Self {
        Self {
            message: format!(
                "listener {listener}: what the process before us handed over is no listening socket; report this"
            ),
            source: io::ErrorKind::InvalidInput.into(),
        }
    }

    /// A socket is open and could not be duplicated for a successor.
    pub fn held(listener: &str, source: io::Error) -> Self {
        Self {
            message: format!(
                "listener {listener}: its socket cannot be kept for an upgrade ({source}); raise the limit of open files"
            ),
            source,
        }
    }

    pub(super) fn ipv6_only(listener: &str) -> Self {
        Self {
            message: format!(
                "listener {listener}: `ipv6-only` has changed, and an open socket cannot follow; reload first, then upgrade"
            ),
            source: io::ErrorKind::InvalidInput.into(),
        }
    }

    pub(super) fn unix(path: &Path, source: io::Error) -> Self {
        let shown = path.display();
        let parent = path.parent().unwrap_or(path).display();
        let message = match source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "unix:{shown} is in use: a process answers on it; stop it or listen elsewhere"
                )
            }
            io::ErrorKind::AlreadyExists => {
                format!(
                    "unix:{shown} exists and is not a socket, so it was left alone; remove it or choose another path"
                )
            }
            io::ErrorKind::NotFound => format!(
                "unix:{shown}: the directory {parent} does not exist; create it (RuntimeDirectory= in a systemd unit)"
            ),
            io::ErrorKind::PermissionDenied => {
                format!(
                    "unix:{shown}: not allowed to create a socket in {parent}; change its owner or mode, or the path"
                )
            }
            io::ErrorKind::InvalidInput => {
                format!(
                    "unix:{shown}: not a possible socket path (at most 107 bytes, no NUL); choose a shorter one"
                )
            }
            _ => format!("unix:{shown}: cannot listen: {source}"),
        };
        Self { message, source }
    }

    pub(super) fn inherited(name: &str, available: String, source: io::Error) -> Self {
        let message = if source.kind() == io::ErrorKind::NotFound {
            format!(
                "no inherited socket is called {name:?}; {available}; see FileDescriptorName= in the socket unit"
            )
        } else {
            format!("inherited socket {name:?} cannot be used: {source}")
        };
        Self { message, source }
    }

    /// What the system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
