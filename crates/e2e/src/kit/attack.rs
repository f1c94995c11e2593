//! The byte-exact client: sends what it is told, in the pieces and at the pace it is told, and reads answers with a
//! strict parser of its own. A conformant client would normalise away exactly what must be sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use super::http::{Fields, decimal, field_line, hex};
use super::sock::{Place, Sock};
use super::{Fnv, PATIENCE, pause, show};

/// How the end of a body was told (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body by rule (HEAD, 1xx, 204, 304).
    None,
    /// `Content-Length`.
    Length(u64),
    /// Chunked.
    Chunked,
    /// Until the connection closes.
    Close,
}

/// One final answer, with the interim ones that came before it.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// `1` of `HTTP/1.1`.
    pub minor: u8,
    /// Field lines.
    pub fields: Fields,
    /// How the body ended.
    pub framing: Framing,
    /// The body, at most [`Client::keep`] bytes of it.
    pub body: Vec<u8>,
    /// Length of the whole body.
    pub body_len: u64,
    /// Hash of the whole body.
    pub hash: Fnv,
    /// Trailer fields.
    pub trailers: Fields,
    /// Interim (1xx) answers.
    pub interim: Vec<(u16, Fields)>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// Does it say that the connection ends here?
    pub fn says_close(&self) -> bool {
        self.fields.has_token("connection", "close")
    }
}

/// Why no answer could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The peer closed between messages.
    Eof,
    /// The peer closed inside a head.
    HeadCut,
    /// The peer closed inside a body: the truncation is visible.
    BodyCut,
    /// The peer reset the connection.
    Reset,
    /// Nothing came for too long.
    Timeout,
    /// What came is not HTTP/1.
    Malformed,
}

/// A failed read.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Why.
    pub why: Why,
    /// What is wrong, for a person.
    pub text: String,
    /// The answer as far as it was understood (a cut body).
    pub partial: Option<Box<Response>>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.why, self.text)
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Eof,
    /// RST.
    Reset,
    /// Still open when patience ended.
    Open,
}

/// Everything that came back on a connection.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// Answers in order.
    pub responses: Vec<Response>,
    /// How it ended.
    pub end: End,
    /// What could not be read as an answer, if anything.
    pub fault: Option<Fault>,
}

impl Transcript {
    /// Status codes in order.
    pub fn statuses(&self) -> Vec<u16> {
        self.responses.iter().map(|r| r.status).collect()
    }
}

/// One connection to the proxy.
#[derive(Debug)]
pub struct Client {
    sock: Option<Sock>,
    buf: Vec<u8>,
    /// Longest silence while reading.
    pub patience: Duration,
    /// Body bytes kept per answer; the rest is only counted and hashed.
    pub keep: usize,
    /// Bytes that were read in all.
    pub received: u64,
}

impl Client {
    /// Connects to an address.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::to(&Place::Tcp(addr))
    }

    /// Connects to a place.
    pub fn to(place: &Place) -> Self {
        let sock = Sock::connect(place, PATIENCE)
            .unwrap_or_else(|e| panic!("cannot connect to {place}: {e}"));
        Self::over(sock)
    }

    /// Over a socket that is connected already.
    pub fn over(sock: Sock) -> Self {
        sock.set_write_timeout(Some(PATIENCE))
            .expect("write timeout");
        Self {
            sock: Some(sock),
            buf: Vec::new(),
            patience: PATIENCE,
            keep: 1 << 20,
            received: 0,
        }
    }

    /// The socket.
    pub fn sock(&mut self) -> &mut Sock {
        self.sock
            .as_mut()
            .expect("the connection was ended by the test")
    }

    /// The socket, for who goes on with it alone. Nothing may have been read that was not taken.
    pub fn into_sock(mut self) -> Sock {
        assert!(self.buf.is_empty(), "bytes would be lost");
        self.sock
            .take()
            .expect("the connection was ended by the test")
    }

    /// Our own address.
    pub fn local(&mut self) -> SocketAddr {
        self.sock().local().expect("TCP")
    }

    /// Sends bytes; the peer may have closed already, which is not an error of the attack. Says whether all went out.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.sock().write_all(bytes.as_ref()).is_ok()
    }

    /// Sends bytes in pieces that end at these offsets, with a pause between them.
    pub fn send_split(&mut self, bytes: &[u8], at: &[usize], gap: Duration) -> bool {
        let mut from = 0;
        for to in at.iter().copied().chain([bytes.len()]) {
            let to = to.clamp(from, bytes.len());
            if !self.send(bytes.get(from..to).unwrap_or_default()) {
                return false;
            }
            if to < bytes.len() {
                pause(gap);
            }
            from = to;
        }
        true
    }

    /// Sends bytes `piece` at a time with a pause after each.
    pub fn send_paced(&mut self, bytes: &[u8], piece: usize, gap: Duration) -> bool {
        for part in bytes.chunks(piece.max(1)) {
            if !self.send(part) {
                return false;
            }
            pause(gap);
        }
        true
    }

    /// Ends our direction only.
    pub fn half_close(&mut self) {
        self.sock().say_end();
        let _ = self.sock().shutdown(Shutdown::Write);
    }

    /// Ends the connection with RST.
    pub fn reset(&mut self) {
        if let Some(s) = self.sock.take() {
            s.linger_zero();
        }
    }

    /// Ends the connection with FIN.
    pub fn close(&mut self) {
        self.sock = None;
    }

    /// Sends one request and reads its answer.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        self.send(request);
        let head = request.starts_with(b"HEAD ");
        match self.read_response(if head { "HEAD" } else { "GET" }) {
            Ok(r) => r,
            Err(f) => panic!("no answer to {}: {f}", show(request)),
        }
    }

    /// Reads the next final answer; `method` is that of the request (HEAD has no body).
    pub fn read_response(&mut self, method: &str) -> Result<Response, Fault> {
        let mut interim = Vec::new();
        loop {
            let (minor, status, fields) = self.read_head()?;
            if (100..200).contains(&status) && status != 101 {
                interim.push((status, fields));
                continue;
            }
            let framing = framing_of(method, status, &fields).map_err(malformed)?;
            let mut r = Response {
                status,
                minor,
                fields,
                framing,
                body: Vec::new(),
                body_len: 0,
                hash: Fnv::default(),
                trailers: Fields::default(),
                interim,
            };
            return match self.read_body(&mut r) {
                Ok(()) => Ok(r),
                Err(mut f) => {
                    f.partial = Some(Box::new(r));
                    Err(f)
                }
            };
        }
    }

    /// Reads one head, interim or final.
    pub fn read_head(&mut self) -> Result<(u8, u16, Fields), Fault> {
        let line = self.read_line(true)?;
        let (minor, status) =
            status_line(&line).ok_or_else(|| malformed(format!("status line {}", show(&line))))?;
        Ok((minor, status, self.read_fields()?))
    }

    /// Reads answers until the connection ends or goes silent. `methods` are those of the requests, in order (GET for
    /// those not named).
    pub fn read_all(&mut self, methods: &[&str]) -> Transcript {
        let mut responses = Vec::new();
        loop {
            let method = methods.get(responses.len()).copied().unwrap_or("GET");
            match self.read_response(method) {
                Ok(r) => {
                    let tunnel = r.status == 101;
                    responses.push(r);
                    if tunnel {
                        return Transcript {
                            responses,
                            end: End::Open,
                            fault: None,
                        };
                    }
                }
                Err(f) => {
                    let (end, fault) = match f.why {
                        Why::Eof => (End::Eof, None),
                        Why::Reset if f.partial.is_none() => (End::Reset, None),
                        Why::Reset => (End::Reset, Some(f)),
                        Why::Timeout if self.buf.is_empty() => (End::Open, None),
                        Why::Timeout => (End::Open, Some(f)),
                        Why::HeadCut | Why::BodyCut => (End::Eof, Some(f)),
                        Why::Malformed => (self.drain_to_end(), Some(f)),
                    };
                    return Transcript {
                        responses,
                        end,
                        fault,
                    };
                }
            }
        }
    }

    /// Waits for the end of the connection; anything that still comes is returned in `Err`-less form beside it.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.fill() {
                Ok(_) => {}
                Err(f) => {
                    let end = match f.why {
                        Why::Reset => End::Reset,
                        Why::Timeout => End::Open,
                        _ => End::Eof,
                    };
                    return (std::mem::take(&mut self.buf), end);
                }
            }
        }
    }

    /// Exactly `n` raw bytes (tunnels).
    #[track_caller]
    pub fn read_exactly(&mut self, n: usize) -> Vec<u8> {
        while self.buf.len() < n {
            if let Err(f) = self.fill() {
                panic!("wanted {n} bytes, have {}: {f}", show(&self.buf));
            }
        }
        self.buf.drain(..n).collect()
    }

    /// Raw bytes up to and with the first `mark`.
    #[track_caller]
    pub fn read_past(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buf.windows(mark.len()).position(|w| w == mark) {
                return self.buf.drain(..at + mark.len()).collect();
            }
            if let Err(f) = self.fill() {
                panic!("wanted {}, have {}: {f}", show(mark), show(&self.buf));
            }
        }
    }

    /// Is nothing to be read for this long, the connection being open?
    pub fn silent_for(&mut self, d: Duration) -> bool {
        let old = std::mem::replace(&mut self.patience, d);
        let r = self.fill();
        self.patience = old;
        matches!(r, Err(f) if f.why == Why::Timeout)
    }

    /// Bytes received and not yet understood.
    pub fn pending(&self) -> &[u8] {
        &self.buf
    }

    fn drain_to_end(&mut self) -> End {
        self.rest().1
    }

    /// One read; everything goes to the buffer.
    fn fill(&mut self) -> Result<usize, Fault> {
        let patience = self.patience;
        let Some(sock) = self.sock.as_mut() else {
            return Err(fault(Why::Eof, "ended by the test"));
        };
        let end = Instant::now() + patience;
        let mut space = [0_u8; 16384];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(fault(
                    Why::Timeout,
                    format!("nothing for {patience:?}; pending: {}", show(&self.buf)),
                ));
            }
            sock.set_read_timeout(Some(left))
                .map_err(|e| fault(Why::Reset, e.to_string()))?;
            match sock.read(&mut space) {
                Ok(0) => {
                    return Err(fault(
                        Why::Eof,
                        format!("closed; pending: {}", show(&self.buf)),
                    ));
                }
                Ok(n) => {
                    self.received += n as u64;
                    self.buf
                        .extend_from_slice(space.get(..n).unwrap_or_default());
                    return Ok(n);
                }
                Err(e) => match e.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    _ => return Err(fault(Why::Reset, e.to_string())),
                },
            }
        }
    }

    /// One CRLF-terminated line, without it. `first`: nothing of a message was read yet.
    fn read_line(&mut self, first: bool) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(at) = self.buf.iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buf.drain(..=at).collect();
                line.pop();
                if line.pop() != Some(b'\r') {
                    return Err(malformed(format!("bare LF after {}", show(&line))));
                }
                return Ok(line);
            }
            let empty = self.buf.is_empty();
            self.fill().map_err(|mut f| {
                if f.why == Why::Eof && !(first && empty) {
                    f.why = Why::HeadCut;
                }
                f
            })?;
        }
    }

    fn read_fields(&mut self) -> Result<Fields, Fault> {
        let mut fields = Fields::default();
        loop {
            let line = self.read_line(false)?;
            if line.is_empty() {
                return Ok(fields);
            }
            fields.0.push(
                field_line(&line)
                    .ok_or_else(|| malformed(format!("field line {}", show(&line))))?,
            );
        }
    }

    fn take(&mut self, r: &mut Response, mut n: u64) -> Result<(), Fault> {
        while n > 0 {
            if self.buf.is_empty() {
                self.fill().map_err(cut)?;
            }
            let have = self.buf.len().min(usize::try_from(n).unwrap_or(usize::MAX));
            self.store(r, have);
            n -= have as u64;
        }
        Ok(())
    }

    fn store(&mut self, r: &mut Response, have: usize) {
        let piece: Vec<u8> = self.buf.drain(..have).collect();
        r.hash.add(&piece);
        r.body_len += have as u64;
        let room = self.keep.saturating_sub(r.body.len()).min(have);
        r.body
            .extend_from_slice(piece.get(..room).unwrap_or_default());
    }

    fn read_body(&mut self, r: &mut Response) -> Result<(), Fault> {
        match r.framing {
            Framing::None => Ok(()),
            Framing::Length(n) => self.take(r, n),
            Framing::Chunked => loop {
                let line = self.read_line(false).map_err(cut)?;
                let size =
                    hex(&line).ok_or_else(|| malformed(format!("chunk line {}", show(&line))))?;
                if size == 0 {
                    r.trailers = self.read_fields().map_err(cut)?;
                    return Ok(());
                }
                self.take(r, size)?;
                let end = self.read_line(false).map_err(cut)?;
                if !end.is_empty() {
                    return Err(malformed(format!("after chunk data: {}", show(&end))));
                }
            },
            Framing::Close => loop {
                let n = self.buf.len();
                self.store(r, n);
                match self.fill() {
                    Ok(_) => {}
                    Err(f) if f.why == Why::Eof => return Ok(()),
                    Err(f) => return Err(cut(f)),
                }
            },
        }
    }
}

fn fault(why: Why, text: impl Into<String>) -> Fault {
    Fault {
        why,
        text: text.into(),
        partial: None,
    }
}

fn malformed(text: impl Into<String>) -> Fault {
    fault(Why::Malformed, text)
}

fn cut(mut f: Fault) -> Fault {
    if matches!(f.why, Why::Eof | Why::HeadCut) {
        f.why = Why::BodyCut;
    }
    f
}

fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let rest = rest.strip_prefix(b" ")?;
    let (code, reason) = rest.split_at_checked(3)?;
    let known =
        minor.is_ascii_digit() && code.iter().all(u8::is_ascii_digit) && reason.starts_with(b" ");
    known.then_some(())?;
    Some((minor - b'0', std::str::from_utf8(code).ok()?.parse().ok()?))
}

/// RFC 9112, 6.3, and stricter: two lengths or both framings are an error of the sender.
fn framing_of(method: &str, status: u16, fields: &Fields) -> Result<Framing, String> {
    let (te, cl) = (
        fields.all("transfer-encoding"),
        fields.all("content-length"),
    );
    if te.len() + cl.len() > 1 {
        return Err(format!(
            "{} Transfer-Encoding and {} Content-Length lines",
            te.len(),
            cl.len()
        ));
    }
    if (100..200).contains(&status) || status == 204 {
        return if te.is_empty() && cl.is_empty() {
            Ok(Framing::None)
        } else {
            Err(format!("framing on a {status}"))
        };
    }
    let bodiless = method == "HEAD" || status == 304;
    let framing = match (te.first(), cl.first()) {
        (Some(v), _) if v.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (Some(v), _) => return Err(format!("Transfer-Encoding: {}", show(v))),
        (None, Some(v)) => {
            Framing::Length(decimal(v).ok_or_else(|| format!("Content-Length: {}", show(v)))?)
        }
        (None, None) => Framing::Close,
    };
    Ok(if bodiless { Framing::None } else { framing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn serve(bytes: &[u8]) -> Client {
        let (a, mut b) = UnixStream::pair().unwrap();
        b.write_all(bytes).unwrap();
        drop(b);
        Client::over(Sock::Unix(a))
    }

    #[test]
    fn reads_by_length_chunks_and_close() {
        let mut c = serve(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 200 \r\n\
              Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest",
        );
        assert_eq!(c.read_response("GET").unwrap().body, b"hi");
        let r = c.read_response("GET").unwrap();
        assert_eq!(
            (
                r.body.as_slice(),
                r.interim[0].0,
                r.trailers.get("t").as_deref()
            ),
            (&b"abc"[..], 103, Some("x"))
        );
        assert_eq!(c.read_response("GET").unwrap().body, b"rest");
        assert_eq!(c.read_response("GET").unwrap_err().why, Why::Eof);
    }

    #[test]
    fn truncation_is_told_apart_from_an_end() {
        for (bytes, why) in [
            (
                &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"[..],
                Why::BodyCut,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                Why::BodyCut,
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Le", Why::HeadCut),
            (b"", Why::Eof),
            (b"HTTP/1.1 200 OK\nA: b\r\n\r\n", Why::Malformed),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
                Why::Malformed,
            ),
            (
                b"HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n",
                Why::Malformed,
            ),
        ] {
            assert_eq!(
                serve(bytes).read_response("GET").unwrap_err().why,
                why,
                "{}",
                show(bytes)
            );
        }
    }

    #[test]
    fn head_has_no_body() {
        let mut c = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(c.read_response("HEAD").unwrap().framing, Framing::None);
        assert_eq!(c.read_response("GET").unwrap().status, 304);
    }
}
