//! A client of its own for the scorecard: one request at a time, everything looked at.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A response's head.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub length: u64,
    /// The connection ends after it.
    pub closing: bool,
    /// Bytes of the head itself.
    pub bytes: usize,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            input: Vec::new(),
        })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads a response's head.
    pub fn head(&mut self) -> std::io::Result<Head> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if self.more(4096)? == 0 {
                return Err(broken("the end, instead of a response"));
            }
        };
        let head: Vec<u8> = self.input.drain(..end).collect();
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let field = |name: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        Ok(Head {
            status: text
                .get(9..12)
                .and_then(|s| s.parse().ok())
                .ok_or_else(|| broken("no status line"))?,
            length: field("content-length")
                .and_then(|v| v.parse().ok())
                .ok_or_else(|| broken("no length"))?,
            closing: field("connection") == Some("close"),
            bytes: end,
        })
    }

    /// Reads a body, `piece` bytes at a time, handing each to `look`.
    pub fn body(
        &mut self,
        length: u64,
        piece: usize,
        mut look: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.input.is_empty() && self.more(piece)? == 0 {
                return Err(broken(&format!("the end, {left} bytes before the body's")));
            }
            if self.input.len() as u64 > left {
                return Err(broken("more bytes than the body has"));
            }
            left -= self.input.len() as u64;
            look(&self.input)?;
            self.input.clear();
        }
        Ok(())
    }

    fn more(&mut self, piece: usize) -> std::io::Result<usize> {
        let mut space = vec![0; piece];
        let n = self.stream.read(&mut space)?;
        self.input.extend(space.get(..n).unwrap_or_default());
        Ok(n)
    }
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::other(what)
}
