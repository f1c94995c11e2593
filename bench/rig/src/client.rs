//! One connection of the load generator.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use crate::http;
use crate::origin::Shared;

/// What a connection's turn led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing yet.
    Wait,
    /// It is connected.
    Connected,
    /// A response is complete.
    Answered {
        /// Its status.
        status: u16,
        /// The server will close.
        closing: bool,
    },
    /// It ended while nothing was asked.
    Closed,
    /// It ended where it must not.
    Failed(Failure),
}

/// How it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// A reset.
    Reset,
    /// The end, in the middle of an answer or before it.
    Cut,
    /// An answer that is not one: no length, or more bytes than it has.
    Malformed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Idle,
    Head,
    Body { left: u64 },
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    fd: OwnedFd,
    phase: Phase,
    /// Of the request: what has been sent of its head, and what is left of its body.
    head_sent: usize,
    upload_left: u64,
    /// An incomplete response head.
    input: Vec<u8>,
    status: u16,
    closing: bool,
    /// When the request was due, ns.
    pub since: u64,
    /// What it asks for, of the keys there are.
    pub key: u64,
    /// Body and head bytes received.
    pub received: u64,
}

impl Client {
    /// On its way.
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            phase: Phase::Connecting,
            head_sent: 0,
            upload_left: 0,
            input: Vec::new(),
            status: 0,
            closing: false,
            since: 0,
            key: 0,
            received: 0,
        }
    }

    /// Is a request under way?
    pub fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Head | Phase::Body { .. })
    }

    /// Begins a request.
    pub fn ask(&mut self, request: &[u8], upload: u64, since: u64, shared: &Shared) -> Turn {
        self.phase = Phase::Head;
        self.head_sent = 0;
        self.upload_left = upload;
        self.since = since;
        self.send(request, shared)
    }

    /// Something happened.
    pub fn ready(&mut self, writable: bool, request: &[u8], shared: &mut Shared) -> Turn {
        if self.phase == Phase::Connecting {
            if !writable {
                return Turn::Wait;
            }
            return match sockopt::socket_error(&self.fd) {
                Ok(Ok(())) => {
                    self.phase = Phase::Idle;
                    Turn::Connected
                }
                _ => Turn::Failed(Failure::Connect),
            };
        }
        if writable && self.is_busy() {
            let turn = self.send(request, shared);
            if turn != Turn::Wait {
                return turn;
            }
        }
        self.receive(shared)
    }

    fn send(&mut self, request: &[u8], shared: &Shared) -> Turn {
        while self.head_sent < request.len() || self.upload_left > 0 {
            let sent = if self.head_sent < request.len() {
                let mut flags = SendFlags::NOSIGNAL;
                if self.upload_left > 0 {
                    flags |= SendFlags::MORE;
                }
                send(&self.fd, &request[self.head_sent..], flags).inspect(|n| self.head_sent += n)
            } else {
                let now = self.upload_left.min(shared.pattern.len() as u64) as usize;
                send(&self.fd, &shared.pattern[..now], SendFlags::NOSIGNAL)
                    .inspect(|n| self.upload_left -= *n as u64)
            };
            match sent {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Turn::Wait,
                Err(_) => return Turn::Failed(Failure::Reset),
            }
        }
        Turn::Wait
    }

    fn receive(&mut self, shared: &mut Shared) -> Turn {
        loop {
            let got = match recv(&self.fd, &mut shared.scratch[..], RecvFlags::empty()) {
                Ok((0, _)) if self.is_busy() => return Turn::Failed(Failure::Cut),
                Ok((0, _)) => return Turn::Closed,
                Ok((got, _)) => got,
                Err(Errno::AGAIN) => return Turn::Wait,
                Err(_) => return Turn::Failed(Failure::Reset),
            };
            self.received += got as u64;
            let turn = self.take(&shared.scratch[..got]);
            // A short read is a drained socket; the next bytes make an event of their own.
            if turn != Turn::Wait || got < shared.scratch.len() {
                return turn;
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Turn {
        match self.phase {
            Phase::Body { left } => self.body(left, bytes.len() as u64),
            Phase::Head if self.input.is_empty() => match self.head(bytes) {
                Some(turn) => turn,
                None => {
                    self.input.extend_from_slice(bytes);
                    Turn::Wait
                }
            },
            Phase::Head => {
                let mut input = std::mem::take(&mut self.input);
                input.extend_from_slice(bytes);
                let turn = self.head(&input);
                if turn.is_none() {
                    self.input = input;
                }
                turn.unwrap_or(Turn::Wait)
            }
            Phase::Connecting | Phase::Idle => Turn::Failed(Failure::Malformed),
        }
    }

    /// `None`: not complete.
    fn head(&mut self, bytes: &[u8]) -> Option<Turn> {
        let end = http::head_end(bytes)?;
        let head = &bytes[..end];
        let (Some(status), Some(length)) = (http::status(head), http::content_length(head)) else {
            return Some(Turn::Failed(Failure::Malformed));
        };
        self.status = status;
        self.closing =
            http::field(head, "connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
        Some(self.body(length, (bytes.len() - end) as u64))
    }

    fn body(&mut self, left: u64, got: u64) -> Turn {
        if got > left {
            return Turn::Failed(Failure::Malformed);
        }
        if got < left {
            self.phase = Phase::Body { left: left - got };
            return Turn::Wait;
        }
        self.phase = Phase::Idle;
        Turn::Answered {
            status: self.status,
            closing: self.closing,
        }
    }
}
