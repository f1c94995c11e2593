//! One connection of the oracle origin.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use super::parse::{self, Framing, Head};
use super::{Ended, Personality, Script, Seen, Shared, Step, echo};
use crate::kit::http::{Fields, hex};
use crate::kit::sock::Sock;
use crate::kit::{Fnv, pause};

/// Body bytes kept of each request.
const KEEP_BODY: usize = 1 << 20;
/// Raw bytes kept of each connection.
const KEEP_RAW: usize = 4 << 20;
/// A script never waits longer than this at a gate.
const GATE: Duration = Duration::from_mins(1);

/// Why the connection is over.
struct Over;

/// What of the current request's body is still to be read.
enum Body {
    Done,
    Length(u64),
    /// Chunked: bytes left in the current chunk, `None` before a chunk line.
    Chunked(Option<u64>),
}

struct Serving<'a> {
    sock: Sock,
    id: usize,
    shared: &'a Shared,
    buf: Vec<u8>,
    /// Index of the current request in the record.
    index: usize,
    body: Body,
    wants_continue: bool,
}

/// Serves a connection until it ends.
pub fn connection(sock: Sock, id: usize, greeting: Option<Vec<u8>>, shared: &Arc<Shared>) {
    let mut c = Serving {
        sock,
        id,
        shared,
        buf: Vec::new(),
        index: 0,
        body: Body::Done,
        wants_continue: false,
    };
    if let Some(bytes) = greeting {
        let _ = c.sock.write_all(&bytes);
    }
    let mut seq = 0;
    while c.one(seq).is_ok() {
        seq += 1;
    }
    shared.update(|s| {
        if let Some(second) = s.open.remove(&id) {
            let _ = second.shutdown(Shutdown::Both);
        }
        if let Some(conn) = s.conns.get_mut(id) {
            conn.ended.get_or_insert(Ended::Ours);
        }
    });
}

impl Serving<'_> {
    /// One read into the buffer and the record.
    fn fill(&mut self) -> Result<(), Over> {
        let mut space = [0_u8; 16384];
        let got = self.sock.read(&mut space);
        let id = self.id;
        match got {
            Ok(n) if n > 0 => {
                let bytes = space.get(..n).unwrap_or_default();
                self.buf.extend_from_slice(bytes);
                self.shared.update(|s| {
                    if let Some(c) = s.conns.get_mut(id) {
                        let room = KEEP_RAW.saturating_sub(c.raw.len()).min(n);
                        c.raw
                            .extend_from_slice(bytes.get(..room).unwrap_or_default());
                        c.received += n as u64;
                    }
                });
                Ok(())
            }
            Ok(_) => Err(self.ended(Ended::Fin)),
            Err(_) => Err(self.ended(Ended::Reset)),
        }
    }

    fn ended(&mut self, how: Ended) -> Over {
        let id = self.id;
        self.shared.update(|s| {
            // `open` no longer knows us when the test or a script ended the connection itself.
            let how = if s.open.contains_key(&id) {
                how
            } else {
                Ended::Ours
            };
            if let Some(c) = s.conns.get_mut(id) {
                c.ended.get_or_insert(how);
            }
        });
        Over
    }

    fn line(&mut self) -> Result<Vec<u8>, Over> {
        loop {
            match parse::line(&self.buf, self.shared.personality) {
                Some(Ok((line, used))) => {
                    let line = line.to_vec();
                    self.buf.drain(..used);
                    return Ok(line);
                }
                Some(Err(why)) => return Err(self.garbage(why)),
                None => self.fill()?,
            }
        }
    }

    /// Records that the message makes no sense, and gives the connection up.
    fn garbage(&mut self, why: String) -> Over {
        let (id, index) = (self.id, self.index);
        self.shared.update(|s| {
            if let Some(r) = s
                .seen
                .get_mut(index)
                .filter(|r| r.conn == id && !r.complete)
            {
                r.garbage = Some(why);
            } else {
                s.seen.push(Seen {
                    garbage: Some(why),
                    ..blank(id)
                });
            }
        });
        Over
    }

    fn one(&mut self, seq: usize) -> Result<(), Over> {
        self.index = usize::MAX;
        let head = self.head()?;
        self.body = match head.framing {
            Framing::Length(0) => Body::Done,
            Framing::Length(n) => Body::Length(n),
            Framing::Chunked => Body::Chunked(None),
        };
        self.wants_continue =
            head.fields.has_token("expect", "100-continue") && !matches!(self.body, Body::Done);
        let script = self.record(seq, head);
        for step in &script.0 {
            self.step(step, seq)?;
        }
        self.read_body()
    }

    fn head(&mut self) -> Result<Head, Over> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            match (line.is_empty(), lines.is_empty()) {
                (true, true) => {}
                (true, false) => break,
                (false, _) => lines.push(line),
            }
        }
        parse::head(&lines, self.shared.personality).map_err(|why| self.garbage(why))
    }

    fn record(&mut self, seq: usize, head: Head) -> Script {
        let complete = matches!(self.body, Body::Done);
        let seen = Seen {
            seq,
            method: head.method,
            target: head.target,
            version: head.version,
            fields: head.fields,
            complete,
            ..blank(self.id)
        };
        let path = seen.path().to_owned();
        let (index, script) = self.shared.update(|s| {
            s.seen.push(seen);
            let script = s
                .queue
                .pop_front()
                .or_else(|| s.scripts.get(&path).cloned())
                .or_else(|| s.default.clone());
            (s.seen.len() - 1, script)
        });
        self.index = index;
        script.unwrap_or_else(|| echo(200))
    }

    fn change(&self, f: impl FnOnce(&mut Seen)) {
        let index = self.index;
        self.shared.update(|s| s.seen.get_mut(index).map(f));
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.sock
            .write_all(bytes)
            .map_err(|_| self.ended(Ended::Reset))
    }

    fn step(&mut self, step: &Step, seq: usize) -> Result<(), Over> {
        match step {
            Step::ReadBody => self.read_body(),
            Step::ReadSome(n) => self.read_some(*n),
            Step::IgnoreBody => {
                self.body = Body::Done;
                Ok(())
            }
            Step::Echo(status) => {
                let bytes = self.echo(*status, seq);
                self.send(&bytes)
            }
            Step::Send(bytes) => self.send(bytes),
            Step::SendSlow { bytes, piece, gap } => {
                for part in bytes.chunks((*piece).max(1)) {
                    self.send(part)?;
                    self.pause(*gap)?;
                }
                Ok(())
            }
            Step::SendMany { block, times } => (0..*times).try_for_each(|_| self.send(block)),
            Step::Pause(d) => self.pause(*d),
            Step::Work { workers, time } => {
                self.shared.crew.work(*workers, || pause(*time));
                Ok(())
            }
            Step::Gate(name) => {
                self.shared.wait(GATE, |s| s.stop || s.gates.contains(name));
                if self.shared.lock().stop {
                    Err(Over)
                } else {
                    Ok(())
                }
            }
            Step::Reached(name) => {
                self.shared.update(|s| s.gates.insert(name.clone()));
                Ok(())
            }
            Step::AwaitEnd => loop {
                self.buf.clear();
                self.fill()?;
            },
            Step::Reflect => loop {
                if self.buf.is_empty() {
                    self.fill()?;
                }
                let bytes = std::mem::take(&mut self.buf);
                self.send(&bytes)?;
            },
            Step::HalfClose => {
                let _ = self.sock.shutdown(Shutdown::Write);
                Ok(())
            }
            Step::Close => {
                self.forget();
                let _ = self.sock.shutdown(Shutdown::Both);
                Err(Over)
            }
            Step::Reset => {
                self.forget();
                self.sock.linger_zero();
                Err(Over)
            }
        }
    }

    /// Gives up the second handle, so that closing ours is the end.
    fn forget(&self) {
        let id = self.id;
        self.shared.update(|s| {
            s.open.remove(&id);
            if let Some(c) = s.conns.get_mut(id) {
                c.ended.get_or_insert(Ended::Ours);
            }
        });
    }

    fn pause(&self, d: Duration) -> Result<(), Over> {
        if self.shared.wait(d, |s| s.stop) {
            Err(Over)
        } else {
            Ok(())
        }
    }

    fn read_some(&mut self, n: usize) -> Result<(), Over> {
        let mut have = self
            .shared
            .lock()
            .seen
            .get(self.index)
            .map_or(0, |r| r.body_len) as usize;
        while have < n && !matches!(self.body, Body::Done) {
            self.some_body()?;
            have = self
                .shared
                .lock()
                .seen
                .get(self.index)
                .map_or(0, |r| r.body_len) as usize;
        }
        Ok(())
    }

    fn read_body(&mut self) -> Result<(), Over> {
        while !matches!(self.body, Body::Done) {
            self.some_body()?;
        }
        Ok(())
    }

    /// Makes progress in the body, by whatever is buffered or one read.
    fn some_body(&mut self) -> Result<(), Over> {
        if std::mem::take(&mut self.wants_continue) && self.buf.is_empty() {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match self.body {
            Body::Done => {}
            Body::Length(left) => {
                let left = left - self.consume(left)?;
                self.body = if left == 0 {
                    Body::Done
                } else {
                    Body::Length(left)
                };
            }
            Body::Chunked(Some(left)) => {
                let left = left - self.consume(left)?;
                if left == 0 && !self.line()?.is_empty() {
                    return Err(self.garbage("no CRLF after chunk data".to_owned()));
                }
                self.body = Body::Chunked((left > 0).then_some(left));
            }
            Body::Chunked(None) => {
                let line = self.line()?;
                let digits = if self.shared.personality == Personality::LenientLf {
                    line.split(|b| *b == b';')
                        .next()
                        .unwrap_or_default()
                        .trim_ascii()
                } else {
                    line.as_slice()
                };
                match hex(digits) {
                    None => return Err(self.garbage(format!("chunk line {}", line.escape_ascii()))),
                    Some(0) => {
                        let trailers = self.trailers()?;
                        self.change(|r| r.trailers = trailers);
                        self.body = Body::Done;
                    }
                    Some(n) => self.body = Body::Chunked(Some(n)),
                }
            }
        }
        if matches!(self.body, Body::Done) {
            self.change(|r| r.complete = true);
        }
        Ok(())
    }

    fn trailers(&mut self) -> Result<Fields, Over> {
        let mut out = Fields::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(out);
            }
            match parse::field(&line, self.shared.personality) {
                Some(f) => out.0.push(f),
                None => return Err(self.garbage(format!("trailer line {}", line.escape_ascii()))),
            }
        }
    }

    /// Takes at most `max` body bytes, reading once if there are none.
    fn consume(&mut self, max: u64) -> Result<u64, Over> {
        if self.buf.is_empty() {
            self.fill()?;
        }
        let n = self
            .buf
            .len()
            .min(usize::try_from(max).unwrap_or(usize::MAX));
        let piece: Vec<u8> = self.buf.drain(..n).collect();
        self.change(|r| {
            let room = KEEP_BODY.saturating_sub(r.body.len()).min(n);
            r.body
                .extend_from_slice(piece.get(..room).unwrap_or_default());
            r.body_len += n as u64;
            r.hash.add(&piece);
        });
        Ok(n as u64)
    }

    fn echo(&self, status: u16, seq: usize) -> Vec<u8> {
        let state = self.shared.lock();
        let Some(r) = state.seen.get(self.index) else {
            return Vec::new();
        };
        let id = r.id().unwrap_or_default();
        let body = format!("{} {} len={} id={id}\n", r.method, r.target, r.body_len);
        let framing = match status {
            204 | 304 | 100..200 => String::new(),
            _ => format!(
                "Content-Length: {}\r\nContent-Type: text/plain\r\n",
                body.len()
            ),
        };
        let head = format!(
            "HTTP/1.1 {status} Status\r\n{framing}X-Id: {id}\r\nX-Origin: {}\r\nX-Conn: {}\r\nX-Seq: {seq}\r\n\r\n",
            self.shared.name, self.id
        );
        let bodiless = r.method == "HEAD" || framing.is_empty();
        let body = if bodiless { String::new() } else { body };
        (head + &body).into_bytes()
    }
}

fn blank(conn: usize) -> Seen {
    Seen {
        conn,
        seq: 0,
        method: String::new(),
        target: String::new(),
        version: String::new(),
        fields: Fields::default(),
        body: Vec::new(),
        body_len: 0,
        hash: Fnv::default(),
        trailers: Fields::default(),
        complete: false,
        garbage: None,
    }
}
