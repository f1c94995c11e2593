//! Socket and process options that no safe wrapper of ours knows.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Leaves the choice of the local port to `connect`, which can use a port again for another destination. Without it, a
/// socket bound to a source address takes a port for itself, and 28,000 connections are the end.
pub(crate) fn bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set_int(socket: &impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // JUSTIFICATION: neither rustix nor socket2 offers the option.
    // SAFETY: the descriptor is borrowed, so it is open for the call; the pointer and the length describe a live integer,
    // which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Bytes that the kernel holds for the peer: not sent, or sent and not acknowledged.
pub(crate) fn unsent(socket: &impl AsFd) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // JUSTIFICATION: `SIOCOUTQ` has no safe wrapper in rustix or socket2.
    // SAFETY: the descriptor is borrowed, so it is open for the call; the pointer is to a live integer, which the kernel
    // writes and nothing else uses during the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 {
        Ok(usize::try_from(bytes).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `PR_SET_THP_DISABLE` for this process.
pub(crate) fn disable_huge_pages() -> bool {
    let (on, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // JUSTIFICATION: rustix has no wrapper for this option.
    // SAFETY: the call takes integers only and changes how later page faults are served, nothing that is mapped already.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, none, none, none) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    #[test]
    fn the_port_is_chosen_by_connect() {
        for (address, domain) in [("127.0.0.1:0", Domain::IPV4), ("[::1]:0", Domain::IPV6)] {
            let address: SocketAddr = address.parse().unwrap();
            let Ok(listener) = std::net::TcpListener::bind(address) else {
                continue;
            };
            let port = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap().port();
            let socket = Socket::new(domain, Type::STREAM, None).unwrap();
            bind_address_no_port(&socket).unwrap();
            socket.bind(&address.into()).unwrap();
            assert_eq!(port(&socket), 0, "{address}");
            socket
                .connect(&listener.local_addr().unwrap().into())
                .unwrap();
            assert_ne!(port(&socket), 0);
        }
    }

    #[test]
    fn an_error_is_told() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(
            bind_address_no_port(&file).unwrap_err().raw_os_error(),
            Some(libc::ENOTSOCK)
        );
    }
}
