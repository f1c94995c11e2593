//! Asking the running process: one HTTP/1.1 request over its admin socket, and where that socket is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use narthex_config::model::Address;
use narthex_engine::Source;

use crate::args::AdminArgs;

/// A reload of very many sites takes a while; nothing else does.
const PATIENCE: Duration = Duration::from_mins(2);
/// Largest answer.
const ANSWER: u64 = 64 << 20;

/// Where a process answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(String),
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Body.
    pub body: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

impl Place {
    /// `unix:/path`, `/path`, `127.0.0.1:9180`, `:9180`, `http://127.0.0.1:9180`.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::Unix(path.into());
        }
        if text.starts_with('/') || text.starts_with("./") {
            return Self::Unix(text.into());
        }
        let address = text
            .strip_prefix("http://")
            .unwrap_or(text)
            .trim_end_matches('/');
        match address.strip_prefix(':') {
            Some(port) => Self::Tcp(format!("127.0.0.1:{port}")),
            None => Self::Tcp(address.to_owned()),
        }
    }

    fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Unix(path) => Some(Self::Unix(path.clone())),
            Address::Tcp(address) if address.ip().is_unspecified() => {
                Some(Self::Tcp(format!("127.0.0.1:{}", address.port())))
            }
            Address::Tcp(address) => Some(Self::Tcp(address.to_string())),
            Address::Inherited(_) => None,
        }
    }
}

/// Where the process may be, most likely first.
pub fn places(admin: &AdminArgs, config: Option<&Path>) -> Vec<Place> {
    if let Some(text) = &admin.admin {
        return vec![Place::parse(text)];
    }
    if let Some(text) = std::env::var("NARTHEX_ADMIN")
        .ok()
        .filter(|text| !text.is_empty())
    {
        return vec![Place::parse(&text)];
    }
    let file = config
        .map(Path::to_owned)
        .or_else(crate::serve::usual_config);
    let loaded = file.and_then(|file| Source::File(file).examine().config);
    let mut places: Vec<Place> = loaded
        .iter()
        .flat_map(|config| &config.admin)
        .filter_map(|admin| Place::of(&admin.address))
        .collect();
    // A unix socket may do all; a TCP address perhaps only read.
    places.sort_by_key(|place| matches!(place, Place::Tcp(_)));
    places.extend(
        narthex_engine::start::usual_admin_paths()
            .into_iter()
            .map(Place::Unix),
    );
    places.push(Place::Unix("/run/narthex/admin.sock".into()));
    places.dedup();
    places
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Method.
    pub method: &'a str,
    /// Path.
    pub path: &'a str,
    /// `Accept`.
    pub accept: &'a str,
    /// JSON.
    pub body: Option<&'a str>,
    /// The tag of what is to be changed.
    pub if_match: Option<&'a str>,
}

/// Asks the first process that answers.
pub fn ask(
    places: &[Place],
    method: &str,
    path: &str,
    accept: &str,
    body: Option<&str>,
) -> Result<Answer, String> {
    let question = Question {
        method,
        path,
        accept,
        body,
        if_match: None,
    };
    put(places, &question)
}

/// Asks the first process that answers.
pub fn put(places: &[Place], question: &Question<'_>) -> Result<Answer, String> {
    let mut tried = Vec::new();
    for place in places {
        match exchange(place, question) {
            Ok(answer) => return Ok(answer),
            Err(error) => tried.push(format!("  {place}: {}", reason(&error))),
        }
    }
    Err(format!(
        "no running process answers:\n{}\nname its admin address with --admin, or start one with `narthex run`",
        tried.join("\n")
    ))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "only its owner may connect; try with sudo".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "it does not answer in time".to_owned()
        }
        _ => error.to_string(),
    }
}

fn exchange(place: &Place, question: &Question<'_>) -> io::Result<Answer> {
    let token = std::env::var("NARTHEX_ADMIN_TOKEN")
        .ok()
        .filter(|token| !token.bytes().any(|b| b < 0x20));
    match place {
        Place::Unix(socket) => {
            let mut stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(
                &mut stream,
                &request(question, "localhost", token.as_deref()),
            )
        }
        Place::Tcp(address) => {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(&mut stream, &request(question, address, token.as_deref()))
        }
    }
}

fn request(question: &Question<'_>, host: &str, token: Option<&str>) -> String {
    let Question {
        method,
        path,
        accept,
        body,
        if_match,
    } = *question;
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n"
    );
    if let Some(token) = token {
        text.extend(["Authorization: Bearer ", token, "\r\n"]);
    }
    if let Some(tag) = if_match {
        text.extend(["If-Match: \"", tag, "\"\r\n"]);
    }
    if let Some(body) = body {
        text.extend([
            "Content-Type: application/json\r\nContent-Length: ",
            &body.len().to_string(),
            "\r\n",
        ]);
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    text
}

fn talk(stream: &mut (impl Read + Write), request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::other("what answers there is no Narthex"))
}

/// The process answers with a length and closes: the body is all that follows the head.
fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_in_every_spelling() {
        assert_eq!(Place::parse("unix:/run/x"), Place::Unix("/run/x".into()));
        assert_eq!(Place::parse("/run/x"), Place::Unix("/run/x".into()));
        assert_eq!(
            Place::parse("127.0.0.1:9180"),
            Place::Tcp("127.0.0.1:9180".into())
        );
        assert_eq!(Place::parse(":9180"), Place::Tcp("127.0.0.1:9180".into()));
        assert_eq!(
            Place::parse("http://localhost:9180/"),
            Place::Tcp("localhost:9180".into())
        );
    }

    #[test]
    fn a_request_says_what_the_guard_asks_for() {
        let question = Question {
            method: "POST",
            path: "/reload",
            accept: "application/json",
            body: Some("{}"),
            if_match: Some("a-1-2"),
        };
        let text = request(&question, "127.0.0.1:9180", Some("t"));
        assert!(text.contains("\r\nIf-Match: \"a-1-2\"\r\n"), "{text}");
        assert!(text.contains("\r\nHost: 127.0.0.1:9180\r\n"), "{text}");
        assert!(text.contains("\r\nAuthorization: Bearer t\r\n"), "{text}");
        assert!(
            text.ends_with("Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
            "{text}"
        );
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = parse(b"HTTP/1.1 422 Unprocessable\r\nA: b\r\n\r\n{}\r\n\r\nx").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 422,
                body: "{}\r\n\r\nx".into()
            }
        );
        for bad in [
            &b"SSH-2.0-x\r\n"[..],
            b"HTTP/1.1 2\r\n\r\n",
            b"",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn nobody_there_is_said_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let places = [Place::Unix(dir.path().join("none"))];
        let why = ask(&places, "GET", "/status", "text/plain", None).unwrap_err();
        assert!(
            why.contains("there is no such socket") && why.contains("--admin"),
            "{why}"
        );
    }
}
