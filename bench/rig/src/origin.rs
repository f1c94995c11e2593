//! The origin: `/N` answers N bytes of the alphabet over and over (`/128`, `/10k`, `/64m`, also below any directory); a request
//! with a body is read to its end and answered with two bytes. Below `wait-N` it answers after N milliseconds, below `no-store` it
//! says that the answer is not to be kept.

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
    /// Requests that the origin has had.
    pub asked: u64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            pattern: (b'a'..=b'z').cycle().take(PATTERN).collect(),
            scratch: vec![0; 256 << 10],
            asked: 0,
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
    /// An answer that waits: so long, ns, and what it will be.
    later: Option<(u64, Answer)>,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy)]
struct Answer {
    size: u64,
    no_store: bool,
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
            later: None,
        }
    }

    /// How long its answer waits, ns; said once.
    pub fn waits(&mut self) -> Option<u64> {
        let (wait, _) = self.later.as_mut()?;
        Some(std::mem::take(wait)).filter(|wait| *wait > 0)
    }

    /// The time of its answer has come; `false` ends the connection.
    pub fn speak(&mut self, shared: &mut Shared) -> bool {
        if let Some((_, answer)) = self.later.take() {
            self.give(answer, shared);
        }
        self.ready(shared)
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

    fn take(&mut self, mut bytes: &[u8], shared: &mut Shared) -> bool {
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
    fn heads(&mut self, bytes: &[u8], shared: &mut Shared) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) {
            let Some(end) = http::head_end(rest) else {
                break;
            };
            let head = &rest[..end];
            at += end;
            shared.asked += 1;
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
        let mut answer = Answer {
            size: 2,
            no_store: false,
        };
        let mut wait = 0;
        for name in path.split(|b| *b == b'/').skip(1) {
            let name = std::str::from_utf8(name).unwrap_or_default();
            if let Some(ms) = name.strip_prefix("wait-") {
                wait = ms.parse().unwrap_or(0) * 1_000_000;
            }
            answer.no_store |= name == "no-store";
            answer.size = http::size(name).unwrap_or(2);
        }
        if wait > 0 {
            self.later = Some((wait, answer));
        } else {
            self.give(answer, shared);
        }
    }

    fn give(&mut self, answer: Answer, shared: &Shared) {
        if answer.no_store {
            self.response_head(answer.size, "Cache-Control: no-store\r\n");
        } else {
            self.response_head(answer.size, "");
        }
        if answer.size <= SMALL {
            let body = &shared.pattern[..answer.size as usize];
            self.output.extend_from_slice(body);
        } else {
            self.body_left = answer.size;
            self.body_sent = 0;
        }
    }

    fn small_answer(&mut self, body: &[u8]) {
        self.response_head(body.len() as u64, "");
        self.output.extend_from_slice(body);
    }

    fn response_head(&mut self, length: u64, fields: &str) {
        self.output.extend_from_slice(
            b"HTTP/1.1 200 OK\r\nServer: rig\r\nDate: Mon, 16 Nov 2026 08:00:00 GMT\r\n\
              Content-Type: text/plain; charset=utf-8\r\nETag: \"29a-1f\"\r\nVary: Accept-Encoding\r\nContent-Length: ",
        );
        let _ = write!(self.output, "{length}\r\n{fields}\r\n");
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
