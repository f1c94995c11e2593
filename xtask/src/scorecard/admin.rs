//! Calls of the admin API.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// One call, on a connection of its own; the whole answer.
pub fn call(
    admin: &Path,
    method: &str,
    path: &str,
    fields: &str,
    body: &str,
) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(admin)?;
        let fields = format!("Connection: close\r\n{fields}");
        stream.write_all(request(method, path, &fields, body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    talk().map_err(|e| format!("{method} {path}: {e}"))
}

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The value of a metric without labels.
pub fn value<'a>(metrics: &'a str, name: &str) -> &'a str {
    let mut lines = metrics.lines();
    let line = lines.find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_default().trim()
}

/// A connection for many calls.
pub struct Admin {
    stream: BufReader<UnixStream>,
}

impl Admin {
    /// Connects.
    pub fn connect(admin: &Path) -> Result<Self, String> {
        let connect = || -> std::io::Result<Self> {
            let stream = UnixStream::connect(admin)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Self {
                stream: BufReader::new(stream),
            })
        };
        connect().map_err(|e| format!("{}: {e}", admin.display()))
    }

    /// One call; the answer's body. An answer other than 200 is an error.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let asked = request(method, path, "", body);
        let (head, body) = self
            .talk(&asked)
            .map_err(|e| format!("{method} {path}: {e}"))?;
        if head.starts_with("HTTP/1.1 200") {
            Ok(body)
        } else {
            Err(format!("{method} {path}: {head}{body}"))
        }
    }

    fn talk(&mut self, asked: &str) -> std::io::Result<(String, String)> {
        self.stream.get_mut().write_all(asked.as_bytes())?;
        let mut head = String::new();
        let mut length = 0;
        loop {
            let from = head.len();
            if self.stream.read_line(&mut head)? == 0 {
                return Err(std::io::Error::other("the end, instead of an answer"));
            }
            let line = head[from..].trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((head, String::from_utf8_lossy(&body).into_owned()))
    }

    /// A number of `GET /cache`.
    pub fn stats(&mut self) -> Result<Stats, String> {
        Ok(Stats(self.call("GET", "/cache", "")?))
    }
}

/// What the cache holds and what happened in it.
pub struct Stats(String);

impl Stats {
    /// A number; 0 if it is not there.
    pub fn get(&self, name: &str) -> f64 {
        let name = format!("\"{name}\":");
        let rest = self.0.split(&name).nth(1).unwrap_or_default();
        let number = rest.split([',', '}']).next().unwrap_or_default();
        number.trim().parse().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name() {
        let stats = Stats("{\n  \"bytes\": 12,\n  \"evicted_bytes\": 7\n}".into());
        assert_eq!(
            ["bytes", "evicted_bytes", "none"].map(|name| stats.get(name) as u64),
            [12, 7, 0]
        );
        assert_eq!(value("a_b 3\na 4\n", "a"), "4");
    }
}
