//! Questions to a source over HTTP/1.1: an answer as a whole, or one that goes on, line by line. A connection per question;
//! sizes and times are bounded.

mod lines;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use narthex_config::model::ServerAddress;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

pub(super) use lines::LineBuffer;

use super::follow::Task;
use super::names::Names;

/// Largest answer, and longest line of one, in bytes.
pub(super) const MAX_ANSWER: usize = 16 << 20;
/// From the start of a question to the end of its answer, or to the head of one that goes on.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// One address is tried for so long.
const CONNECT: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 8;
/// Largest head of an answer, and what is read at once of a body.
const BUFFER: usize = 64 << 10;
/// Of an answer that is none: so much is shown.
const SHOWN: usize = 200;
/// A peer that is gone without a word is noticed in less than half a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(5), 3);

type Connection = (Response<Incoming>, SendRequest<Full<Bytes>>, Task);

/// Where the source answers.
pub(super) struct Api {
    names: Rc<Names>,
    at: ServerAddress,
}

/// A question.
pub(super) struct Ask {
    method: Method,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: String,
}

/// A whole answer, with status 200.
pub(super) struct Answer {
    pub(super) fields: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// An answer that goes on.
pub(super) struct Lines {
    body: Incoming,
    buffer: LineBuffer,
    _connection: (SendRequest<Full<Bytes>>, Task),
}

impl Ask {
    pub(super) fn get(target: String) -> Self {
        Self {
            method: Method::GET,
            target,
            fields: Vec::new(),
            body: String::new(),
        }
    }

    /// With a JSON text.
    pub(super) fn post(target: &str, body: String) -> Self {
        Self {
            method: Method::POST,
            target: target.to_owned(),
            fields: vec![("content-type", "application/json".to_owned())],
            body,
        }
    }

    pub(super) fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn request(self, host: &str) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.target)
            .header(HOST, host)
            .header(ACCEPT, "application/json");
        for (name, value) in self.fields {
            // The value may be a secret: it is not shown, and hyper does not show it either.
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                format!("the value for the field `{name}` has characters that no field may have")
            })?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        request
            .body(Full::from(self.body))
            .map_err(|error| format!("cannot ask this: {error}"))
    }
}

impl Api {
    pub(super) fn new(names: Rc<Names>, at: ServerAddress) -> Self {
        Self { names, at }
    }

    /// Asks for an answer that ends, and comes within [`PATIENCE`] and `longer`.
    pub(super) async fn whole(&self, ask: Ask, longer: Duration) -> Result<Answer, String> {
        let answer = async {
            let (response, _sender, _connection) = self.ask(ask).await?;
            let (head, body) = response.into_parts();
            let body = read(body, MAX_ANSWER).await?;
            if head.status != StatusCode::OK {
                return Err(refusal(head.status, &body));
            }
            let fields = head.headers;
            Ok(Answer { fields, body })
        };
        timeout(PATIENCE + longer, answer)
            .await
            .unwrap_or_else(|_| Err("the answer does not come in time".to_owned()))
    }

    /// Asks for an answer that goes on. Its lines have at most `longest` bytes.
    pub(super) async fn lines(&self, ask: Ask, longest: usize) -> Result<Lines, String> {
        let answer = async {
            let (response, sender, connection) = self.ask(ask).await?;
            let (head, body) = response.into_parts();
            if head.status != StatusCode::OK {
                return Err(refusal(head.status, &read(body, BUFFER).await?));
            }
            Ok(Lines {
                body,
                buffer: LineBuffer::new(longest),
                _connection: (sender, connection),
            })
        };
        timeout(PATIENCE, answer)
            .await
            .unwrap_or_else(|_| Err("the answer does not begin in time".to_owned()))
    }

    async fn ask(&self, ask: Ask) -> Result<Connection, String> {
        match &self.at {
            ServerAddress::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|error| format!("cannot connect to {}: {error}", path.display()))?;
                speak(stream, ask.request("localhost")?).await
            }
            ServerAddress::Ip(address) => {
                speak(connect(*address).await?, ask.request(&address.to_string())?).await
            }
            ServerAddress::Dns { host, port } => {
                let stream = self.connect_to(host, *port).await?;
                speak(stream, ask.request(&format!("{host}:{port}"))?).await
            }
            ServerAddress::Srv { name, .. } => Err(format!("{name} has no port")),
        }
    }

    /// The first address of a name that takes a connection.
    async fn connect_to(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let mut known = self.names.follow(host, &[]);
        let known = match known.wait_for(|k| k.answered).await {
            Ok(known) => known.clone(),
            Err(_) => return Err(format!("{host} cannot be resolved")),
        };
        let mut why = known
            .failing
            .unwrap_or_else(|| format!("{host} has no address"));
        for ip in known.addresses.into_iter().take(ADDRESSES) {
            match connect(SocketAddr::new(ip, port)).await {
                Ok(stream) => return Ok(stream),
                Err(refused) => why = refused,
            }
        }
        Err(why)
    }
}

impl Lines {
    /// The next line without its end; `None` when the answer has ended. May be dropped and asked again: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(line) = self.buffer.next()? {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.push(data);
                    }
                }
                Some(Err(error)) => return Err(broken(&error)),
                None => return Ok(None),
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("cannot connect to {address}: {error}")),
        Err(_) => return Err(format!("cannot connect to {address} in time")),
    };
    // Without these it works as well, only a silent end is noticed later.
    let (idle, interval, count) = KEEPALIVE;
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, idle);
    let _ = sockopt::set_tcp_keepintvl(&stream, interval);
    let _ = sockopt::set_tcp_keepcnt(&stream, count);
    Ok(stream)
}

async fn speak<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // What goes wrong with it is told to who waits for the answer.
    let connection = Task::spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await;
    Ok((
        response.map_err(|error| broken(&error))?,
        sender,
        connection,
    ))
}

async fn read(mut body: Incoming, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let data = frame.data_ref().map_or(&[][..], |d| d);
        if bytes.len().saturating_add(data.len()) > most {
            return Err(format!("the answer has more than {} KiB", most >> 10));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// hyper's own words are those of a library: the cause says more.
fn broken(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("the connection broke: {cause}"),
        None => format!("the connection broke: {error}"),
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text
        .trim()
        .chars()
        .take(SHOWN)
        .filter(|c| !c.is_control())
        .collect();
    if text.is_empty() {
        format!("the answer is {status}")
    } else {
        format!("the answer is {status}: {text}")
    }
}

/// A text as part of a target (RFC 3986 section 2.3).
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_exactly_what_was_meant() {
        assert_eq!(encoded("a b/ü?&=#%~"), "a%20b%2F%C3%BC%3F%26%3D%23%25~");
    }

    #[test]
    fn a_secret_that_is_no_field_value_is_not_shown() {
        let ask = Ask::get("/".to_owned()).field("x-token", "geheim\n");
        let why = ask.request("a").unwrap_err();
        assert!(why.contains("x-token") && !why.contains("geheim"), "{why}");
    }

    #[test]
    fn a_refusal_is_one_short_line() {
        let why = refusal(StatusCode::FORBIDDEN, &b"no\nway ".repeat(500));
        assert!(
            why.starts_with("the answer is 403 Forbidden: noway noway"),
            "{why}"
        );
        assert!(why.len() < 250);
    }
}
