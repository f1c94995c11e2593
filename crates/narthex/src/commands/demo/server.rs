//! A very small HTTP/1.1 server for loopback: one thread per connection, heads only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Connections at a time; more are closed at once.
const CONNECTIONS: usize = 128;
/// Longest head.
const HEAD: u64 = 32 << 10;
/// Longest body that is read past.
const BODY: u64 = 1 << 20;
/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_secs(90);

/// A request's head.
pub struct Request {
    /// Method.
    pub method: String,
    /// Path, without query.
    pub path: String,
    /// Header lines as they came.
    pub headers: Vec<(String, String)>,
}

/// An answer.
pub struct Reply {
    /// Status and its reason.
    pub status: &'static str,
    /// `Content-Type`.
    pub kind: &'static str,
    /// Body.
    pub body: String,
}

/// Connections that are open, so that a kill reaches them.
#[derive(Default)]
pub struct Open {
    streams: Mutex<Vec<(usize, TcpStream)>>,
    next: AtomicUsize,
}

impl Open {
    /// Cuts all of them.
    pub fn cut(&self) {
        for (_, stream) in self
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            // The peer may be faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn add(&self, stream: &TcpStream) -> Option<usize> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= CONNECTIONS {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        streams.push((id, stream.try_clone().ok()?));
        Some(id)
    }

    fn remove(&self, id: usize) {
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(other, _)| *other != id);
    }
}

/// Accepts until the listener fails or `goes_on` says no (asked after each accept).
pub fn accept(
    listener: &TcpListener,
    open: &Arc<Open>,
    answer: &Arc<dyn Fn(&Request) -> Reply + Send + Sync>,
    goes_on: impl Fn() -> bool,
) {
    for stream in listener.incoming() {
        if !goes_on() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Some(id) = open.add(&stream) else {
            continue;
        };
        let (open_here, answer) = (Arc::clone(open), Arc::clone(answer));
        let thread = std::thread::Builder::new()
            .name("demo-connection".to_owned())
            .spawn(move || {
                // A connection that fails is a connection that ends.
                let _ = serve(stream, &*answer);
                open_here.remove(id);
            });
        if thread.is_err() {
            open.remove(id);
        }
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some((request, length)) = read(&mut reader)? {
        std::io::copy(
            &mut (&mut reader).take(length.min(BODY)),
            &mut std::io::sink(),
        )?;
        let reply = answer(&request);
        let close = length > BODY;
        let body = if request.method == "HEAD" {
            ""
        } else {
            &reply.body
        };
        let text = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{}\r\n{body}",
            reply.status,
            reply.kind,
            reply.body.len(),
            if close { "Connection: close\r\n" } else { "" },
        );
        stream.write_all(text.as_bytes())?;
        if close {
            break;
        }
    }
    Ok(())
}

/// The next head and the length of its body; `None` at the end. The proxy in front sends well-formed requests, and
/// chunked bodies are nothing that this demo asks for.
fn read(reader: &mut impl BufRead) -> std::io::Result<Option<(Request, u64)>> {
    let mut limited = reader.take(HEAD);
    let mut line = String::new();
    if limited.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        if limited.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    Ok(Some((
        Request {
            method,
            path,
            headers,
        },
        length,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_and_the_end_seen() {
        let mut text =
            &b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"
                [..];
        let (request, length) = read(&mut text).unwrap().unwrap();
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), length),
            ("POST", "/a", 3)
        );
        assert_eq!(request.headers[0], ("Host".to_owned(), "x".to_owned()));
        text = &text[3..];
        assert_eq!(read(&mut text).unwrap().unwrap().0.method, "GET");
        assert!(read(&mut text).unwrap().is_none());
    }
}
