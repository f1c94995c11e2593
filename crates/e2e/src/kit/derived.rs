//! An origin whose every answer can be checked: a body follows from host, path and version, so that one wrong byte, from whatever
//! cache, is seen. What is at an address changes when the test says so.
//!
//! A path ends with the size of its body: `/anything/1000`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::attack::{Client, Response, Why};
use super::{Fnv, Rng};

/// Serves until it is dropped.
pub struct Derived {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    versions: Mutex<HashMap<String, u64>>,
    served: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn version(&self, address: &str) -> u64 {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.get(address).copied().unwrap_or(1)
    }
}

impl Derived {
    /// On a free port of 127.0.0.1.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("origin");
        let addr = listener.local_addr().expect("address");
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &for_thread));
        Self {
            addr,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where it listens, as a configuration writes it.
    pub fn place(&self) -> String {
        self.addr.to_string()
    }

    /// Requests that it answered.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Something else is at this address from now on (`host` and path, as one text); its version.
    pub fn change(&self, address: &str) -> u64 {
        let versions = &self.shared.versions;
        let mut versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
        let version = versions.entry(address.to_owned()).or_insert(1);
        *version += 1;
        *version
    }
}

impl Drop for Derived {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // wakes `accept`
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        // ends with its connection, which the proxy closes when it ends
        std::thread::spawn(move || serve(stream, &shared));
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut write = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let first = lines.next()?.ok()?;
        let path = first.split(' ').nth(1)?.to_owned();
        let mut host = String::new();
        loop {
            let line = lines.next()?.ok()?;
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("host:") {
                value.trim().clone_into(&mut host);
            }
        }
        let address = format!("{host}{path}");
        let version = shared.version(&address);
        let body = body(&address, version);
        let number = number(&path);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: max-age=100000\r\nSurrogate-Key: t{}\r\n\
             X-Version: {version}\r\nETag: \"{version}\"\r\nContent-Length: {}\r\n\r\n",
            number % TAGS,
            body.len()
        );
        shared.served.fetch_add(1, Ordering::Relaxed);
        write.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}

/// How many tags there are: an answer has the tag `t` with the number in its path, modulo this.
pub const TAGS: u64 = 16;

/// The first number in a path.
fn number(path: &str) -> u64 {
    let mut numbers = path.split(|c: char| !c.is_ascii_digit());
    numbers.find_map(|text| text.parse().ok()).unwrap_or(0)
}

/// What is at an address in a version.
pub fn body(address: &str, version: u64) -> Vec<u8> {
    let size = address.rsplit('/').next().and_then(|n| n.parse().ok());
    let size: usize = size.unwrap_or(100);
    let mut rng = Rng(Fnv::of(address.as_bytes()).0 ^ version.wrapping_mul(0x9e37_79b9));
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        out.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    out.truncate(size);
    out
}

/// An answer that is whole and right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Which version it is.
    pub version: u64,
    /// It came from a cache.
    pub is_hit: bool,
}

/// Looks at an answer.
pub fn judge(address: &str, answer: &Response) -> Result<Right, String> {
    if answer.status != 200 {
        return Err(format!("{address}: {}", answer.status));
    }
    let version = answer.fields.get("x-version").and_then(|v| v.parse().ok());
    let version = version.ok_or_else(|| format!("{address}: no version"))?;
    if answer.body != body(address, version) {
        return Err(format!("{address}: wrong bytes for version {version}"));
    }
    Ok(Right {
        version,
        is_hit: super::cached::is_hit(answer),
    })
}

/// Asks for an address on a connection that is kept.
pub fn ask(client: &mut Client, host: &str, path: &str) -> Result<Response, Why> {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.read_response("GET").map_err(|fault| fault.why)
}
