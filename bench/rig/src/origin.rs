//! The origin: `/N` answers N bytes of the alphabet over and over (`/128`, `/10k`, `/64m`, also below any directory); a request
//! with a body is read to its end and answered with two bytes.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::http;

/// Bytes of the body's pattern: a multiple of the alphabet, so that a body may go on where it stopped, and not one of 64 KiB.
pub const PATTERN: usize = 26 * 9_000;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// The alphabet, over and over.
    pub pattern: Vec<u8>,
    /// Where everything is received.
    pub scratch: Vec<u8>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            pattern: (b'a'..=b'z').cycle().take(PATTERN).collect(),
            scratch: vec![0; 256 << 10],
        }
    }
}

/// One connection from the proxy.
#[derive(Debug)]
pub struct Origin {
    fd: OwnedFd,
    /// Bytes of heads not yet complete.
    input: Vec<u8>,
    /// Heads and small bodies to be sent.
    output: Vec<u8>,
    sent: usize,
    /// Of a long body: what is left, and how much has been sent.
    body_left: u64,
    body_sent: u64,
    /// Of a request's body: what is still to come.
    upload_left: u64,
}

/// Bodies up to here go out together with their head.
const SMALL: u64 = 64 << 10;

impl Origin {
    /// A new one.
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            body_left: 0,
            body_sent: 0,
            upload_left: 0,
        }
    }

    /// Something happened; `false` ends the connection.
    pub fn ready(&mut self, shared: &mut Shared) -> bool {
        let mut drained = false;
        loop {
            match self.flush(shared) {
                // A short read is a drained socket; the next bytes make an event of their own.
                Some(true) if drained => return true,
                Some(true) => {}
                // What is being answered comes first: a client that doesn't read is not read from.
                Some(false) => return true,
                None => return false,
            }
            let got = match recv(&self.fd, &mut shared.scratch[..], RecvFlags::empty()) {
                Ok((0, _)) => return false,
                Ok((got, _)) => got,
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            };
            let scratch = std::mem::take(&mut shared.scratch);
            let fine = self.take(&scratch[..got], shared);
            shared.scratch = scratch;
            if !fine {
                return false;
            }
            drained = got < shared.scratch.len();
        }
    }

    fn take(&mut self, mut bytes: &[u8], shared: &Shared) -> bool {
        if self.upload_left > 0 {
            let now = self.upload_left.min(bytes.len() as u64);
            self.upload_left -= now;
            bytes = &bytes[now as usize..];
            if self.upload_left > 0 {
                return true;
            }
            self.small_answer(b"ok");
        }
        if self.input.is_empty() {
            let used = self.heads(bytes, shared);
            self.input
                .extend_from_slice(&bytes[used.min(bytes.len())..]);
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            let used = self.heads(&input, shared).min(input.len());
            input.drain(..used);
            self.input = input;
        }
        self.input.len() < 64 << 10
    }

    /// Answers every complete head; says how many bytes that took.
    fn heads(&mut self, bytes: &[u8], shared: &Shared) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) {
            let Some(end) = http::head_end(rest) else {
                break;
            };
            let head = &rest[..end];
            at += end;
            match http::content_length(head) {
                Some(length) if length > 0 => {
                    let here = length.min((rest.len() - end) as u64);
                    at += here as usize;
                    self.upload_left = length - here;
                    if self.upload_left > 0 {
                        return at;
                    }
                    self.small_answer(b"ok");
                }
                _ => self.answer(head, shared),
            }
        }
        at
    }

    fn answer(&mut self, head: &[u8], shared: &Shared) {
        let path = http::request_line(head).map_or(&b"/"[..], |(_, path)| path);
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let size = std::str::from_utf8(name)
            .ok()
            .and_then(http::size)
            .unwrap_or(2);
        if size <= SMALL {
            self.small_answer(&shared.pattern[..size as usize]);
        } else {
            self.response_head(size);
            self.body_left = size;
            self.body_sent = 0;
        }
    }

    fn small_answer(&mut self, body: &[u8]) {
        self.response_head(body.len() as u64);
        self.output.extend_from_slice(body);
    }

    fn response_head(&mut self, length: u64) {
        self.output.extend_from_slice(
            b"HTTP/1.1 200 OK\r\nServer: rig\r\nDate: Mon, 16 Nov 2026 08:00:00 GMT\r\n\
              Content-Type: text/plain; charset=utf-8\r\nETag: \"29a-1f\"\r\nVary: Accept-Encoding\r\nContent-Length: ",
        );
        let _ = write!(self.output, "{length}\r\n\r\n");
    }

    /// Sends what there is: all of it (`true`), as much as the kernel takes, or the connection is gone (`None`).
    fn flush(&mut self, shared: &Shared) -> Option<bool> {
        while self.sent < self.output.len() {
            let mut flags = SendFlags::NOSIGNAL;
            if self.body_left > 0 {
                flags |= SendFlags::MORE;
            }
            match send(&self.fd, &self.output[self.sent..], flags) {
                Ok(n) => self.sent += n,
                Err(Errno::AGAIN) => return Some(false),
                Err(_) => return None,
            }
        }
        self.output.clear();
        self.sent = 0;
        while self.body_left > 0 {
            let from = (self.body_sent % PATTERN as u64) as usize;
            let piece = &shared.pattern[from..];
            let now = self.body_left.min(piece.len() as u64) as usize;
            match send(&self.fd, &piece[..now], SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.body_sent += n as u64;
                    self.body_left -= n as u64;
                }
                Err(Errno::AGAIN) => return Some(false),
                Err(_) => return None,
            }
        }
        Some(true)
    }
}
