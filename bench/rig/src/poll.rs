//! epoll, and the names of what it watches.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};

/// What a slot of the world is called: slot and generation, so that a late event cannot hit the slot's next owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// Index of the slot.
    pub slot: u32,
    /// How often it was reused.
    pub generation: u32,
}

impl Token {
    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }
    fn unpack(packed: u64) -> Self {
        Self {
            slot: packed as u32,
            generation: (packed >> 32) as u32,
        }
    }
}

/// One epoll instance.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(512),
        })
    }

    /// Watches a socket for both directions, edge by edge; a listener or a pipe (`level`) for input.
    pub fn add(&self, fd: impl AsFd, token: Token, level: bool) -> io::Result<()> {
        let flags = if level {
            EventFlags::IN
        } else {
            EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
        };
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token.pack()),
            flags,
        )?)
    }

    /// Waits at most `limit` and appends what happened to `out`.
    pub fn wait(&mut self, limit: Duration, out: &mut Vec<(Token, EventFlags)>) {
        self.events.clear();
        let limit = rustix::event::Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        // An interrupted wait is an empty one.
        let _ = epoll::wait(&self.epoll, spare, Some(&limit));
        for event in &self.events {
            let (flags, data) = (event.flags, event.data);
            out.push((Token::unpack(data.u64()), flags));
        }
    }
}

fn tcp() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?)
}

/// A listening socket.
pub fn listener(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let fd = tcp()?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    bind(&fd, &address)?;
    listen(&fd, 4096)?;
    Ok(fd)
}

/// A socket on its way to `address`. `abrupt`: closing it resets, which leaves no port in TIME-WAIT.
pub fn dial(address: SocketAddrV4, abrupt: bool) -> io::Result<OwnedFd> {
    let fd = tcp()?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    if abrupt {
        sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?;
    }
    match connect(&fd, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}
