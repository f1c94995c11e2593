//! A connected socket on a core: TCP or unix, non-blocking, registered once. What everybody uses is [`crate::stream::Stream`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::rt::{Interest, Registration};

/// A connected stream socket. Closing is dropping.
#[derive(Debug)]
pub struct Socket {
    // Before the descriptor: a slot must be free before its number can come back.
    registration: Registration,
    fd: OwnedFd,
}

impl Socket {
    /// Takes a connected (or connecting), non-blocking socket onto this core.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let registration = Registration::new(&fd)?;
        Ok(Self { registration, fd })
    }

    /// Its place in the reactor.
    #[inline]
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Reads what is there. `WouldBlock` without a system call if nothing was announced; `Ok(0)` is the end (`buf` must
    /// not be empty).
    #[inline]
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.registration.is_readable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        loop {
            match rustix::net::recv(&self.fd, &mut *buf, RecvFlags::empty()) {
                Ok((n, _)) => {
                    if n < buf.len() && n > 0 {
                        self.registration.drained();
                    }
                    return Ok(n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.registration.would_block(Interest::Read);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Looks at what is there without taking it. Asks the kernel even if nothing was announced.
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buf, RecvFlags::PEEK) {
                Ok((n, _)) => return Ok(n),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.registration.would_block(Interest::Read);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Writes what fits now; `WouldBlock` if nothing does.
    #[inline]
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.send_flags(buf, SendFlags::NOSIGNAL)
    }

    /// As [`Socket::try_send`], and says that more follows at once (`MSG_MORE`).
    pub fn try_send_more(&self, buf: &[u8]) -> io::Result<usize> {
        self.send_flags(buf, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    /// Writes what fits now of `first` and then `second`, in one system call.
    pub fn try_send_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.try_send_parts(&[io::IoSlice::new(first), io::IoSlice::new(second)])
    }

    /// Writes what fits now of these, one after the other, in one system call.
    pub fn try_send_parts(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if !self.registration.is_writable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        loop {
            let mut none = rustix::net::SendAncillaryBuffer::default();
            match rustix::net::sendmsg(&self.fd, parts, &mut none, SendFlags::NOSIGNAL) {
                Ok(n) => {
                    if n < offered {
                        self.registration.would_block(Interest::Write);
                    }
                    return Ok(n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.registration.would_block(Interest::Write);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(e) => return Err(self.send_failed(e)),
            }
        }
    }

    #[inline]
    fn send_flags(&self, buf: &[u8], flags: SendFlags) -> io::Result<usize> {
        if !self.registration.is_writable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        loop {
            match rustix::net::send(&self.fd, buf, flags) {
                Ok(n) => {
                    if n < buf.len() {
                        self.registration.would_block(Interest::Write);
                    }
                    return Ok(n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.registration.would_block(Interest::Write);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(e) => return Err(self.send_failed(e)),
            }
        }
    }

    /// The peer has reset the connection. What it said before is still there to be read, whether or not its event has
    /// come yet.
    #[cold]
    fn send_failed(&self, error: rustix::io::Errno) -> io::Error {
        self.registration.assume(Interest::Read);
        error.into()
    }

    /// Bytes that the kernel holds for the peer: not sent, or sent and not acknowledged.
    pub fn unsent(&self) -> io::Result<usize> {
        crate::sockopt::unsent(&self.fd)
    }

    /// Is there nothing to read, and the peer still there? Asks the kernel where only it knows.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        let registration = &self.registration;
        if registration.is_dead() || registration.is_read_ended() {
            return false;
        }
        if !registration.is_readable() {
            return true;
        }
        // `try_peek` notes what it finds.
        matches!(self.try_peek(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// The address that the peer has connected to.
    pub fn local_ip(&self) -> Option<std::net::IpAddr> {
        let address = socket2::SockRef::from(&self.fd).local_addr().ok()?;
        address.as_socket().map(|address| address.ip())
    }

    /// Ends our direction; the peer may still send.
    pub fn shutdown_write(&self) {
        // The peer may be gone already: then there is nothing to end.
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
    }

    /// Makes the coming close a reset, for a message that must not look complete.
    pub fn reset_on_close(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.fd, Some(std::time::Duration::ZERO));
    }

    /// The error that the socket holds, if any.
    pub fn take_error(&self) -> io::Result<()> {
        match rustix::net::sockopt::socket_error(&self.fd) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) | Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
