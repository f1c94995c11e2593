//! An origin of large representations that exist nowhere: every byte is computed from its place, so that an answer of any part can be
//! checked. It answers ranges and conditions as a good server does, and otherwise what a test wants.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Fnv, PATIENCE, Rng};

/// Bytes that are made at once.
const BLOCK: u64 = 64 * 1024;

/// The bytes in this range of the representation with this seed.
pub fn bytes(seed: u64, range: Range<u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity((range.end - range.start) as usize);
    let mut at = range.start;
    while at < range.end {
        let word = Rng(seed ^ (at / 8).wrapping_mul(0x2545_F491_4F6C_DD1D))
            .next_u64()
            .to_le_bytes();
        let from = (at % 8) as usize;
        let to = 8.min(from + (range.end - at) as usize);
        out.extend_from_slice(&word[from..to]);
        at += (to - from) as u64;
    }
    out
}

/// Their hash, however many there are.
pub fn hash(seed: u64, range: Range<u64>) -> Fnv {
    let mut hash = Fnv::default();
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + BLOCK);
        hash.add(&bytes(seed, at..end));
        at = end;
    }
    hash
}

/// What there is under a path.
#[derive(Debug, Clone)]
pub struct File {
    /// Its bytes are of this seed.
    pub seed: u64,
    /// Its length.
    pub length: u64,
    /// `ETag`, as it stands in the field; empty: none.
    pub etag: String,
    /// Further lines, each with its CRLF.
    pub fields: String,
    /// It knows ranges.
    pub ranges: bool,
}

impl File {
    /// Of this length, with a strong tag of its seed, for a hundred seconds.
    pub fn new(seed: u64, length: u64) -> Self {
        Self {
            seed,
            length,
            etag: format!("\"{seed}\""),
            fields: "Cache-Control: max-age=100\r\n".to_owned(),
            ranges: true,
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Range`, if it is one of one part with both ends.
    pub range: Option<(u64, u64)>,
    /// Its head.
    pub head: String,
}

impl Asked {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// What is done with a request.
#[derive(Debug, Clone)]
pub enum Does {
    /// What a good server does with this file.
    Serve(File),
    /// The same, but the connection ends after so many bytes of the body.
    Cut(File, u64),
    /// The same, but after so many bytes of the body it waits for this gate.
    Hold(File, u64, Gate),
    /// Exactly this.
    Send(Vec<u8>),
    /// The connection ends.
    Close,
}

/// A door that a test opens.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Whoever waits goes on, and whoever comes.
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open, or for too long.
    pub fn pass(&self) {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.0
                .1
                .wait_timeout_while(open, PATIENCE * 3, |open| !*open),
        );
    }
}

type Handler = dyn Fn(&Asked, usize) -> Does + Send + Sync;

struct State {
    seen: Mutex<Vec<Asked>>,
    changed: Condvar,
    handler: Mutex<Arc<Handler>>,
}

/// The server.
pub struct Ranged {
    addr: SocketAddr,
    state: Arc<State>,
}

impl Ranged {
    /// With these files; others are 404.
    pub fn start(files: impl IntoIterator<Item = (&'static str, File)>) -> Self {
        let files: BTreeMap<&str, File> = files.into_iter().collect();
        Self::of(move |asked, _| {
            match files.get(asked.path.split('?').next().unwrap_or_default()) {
                Some(file) => Does::Serve(file.clone()),
                None => Does::Send(NOT_FOUND.to_vec()),
            }
        })
    }

    /// Which does this with a request; with each, how many there have been before.
    pub fn of(handler: impl Fn(&Asked, usize) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("address");
        let state = Arc::new(State {
            seen: Mutex::default(),
            changed: Condvar::new(),
            handler: Mutex::new(Arc::new(handler)),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(socket, &state));
            }
        });
        Self { addr, state }
    }

    /// From now on this is done.
    pub fn becomes(&self, handler: impl Fn(&Asked, usize) -> Does + Send + Sync + 'static) {
        *self.state.handler.lock().expect("handler") = Arc::new(handler);
    }

    /// From now on this file is everywhere.
    pub fn has(&self, file: File) {
        self.becomes(move |_, _| Does::Serve(file.clone()));
    }

    /// Its address, for `server`.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Asked> {
        self.state.seen.lock().expect("seen").clone()
    }

    /// Forgets what was asked, and gives it.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.seen.lock().expect("seen"))
    }

    /// First bytes of the ranges that were asked for; forgotten then.
    pub fn take_ranges(&self) -> Vec<Option<u64>> {
        self.take()
            .iter()
            .map(|asked| asked.range.map(|(first, _)| first))
            .collect()
    }

    /// Waits until so many requests have been seen since they were forgotten.
    pub fn wait(&self, count: usize) -> bool {
        let end = Instant::now() + PATIENCE;
        let mut seen = self.state.seen.lock().expect("seen");
        while seen.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            seen = self.state.changed.wait_timeout(seen, left).expect("seen").0;
        }
        true
    }
}

/// Nothing is there.
pub const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone";

fn serve(mut socket: TcpStream, state: &State) {
    let _ = socket.set_nodelay(true);
    let mut input = Vec::new();
    while let Some(head) = read_head(&mut socket, &mut input) {
        let Some(asked) = parse(&head) else { return };
        let handler = Arc::clone(&state.handler.lock().expect("handler"));
        let before = {
            let mut seen = state.seen.lock().expect("seen");
            seen.push(asked.clone());
            state.changed.notify_all();
            seen.len() - 1
        };
        let done = match handler(&asked, before) {
            Does::Serve(file) => give(&mut socket, &asked, &file, u64::MAX, None),
            Does::Cut(file, after) => give(&mut socket, &asked, &file, after, None),
            Does::Hold(file, after, gate) => give(&mut socket, &asked, &file, after, Some(&gate)),
            Does::Send(bytes) => socket.write_all(&bytes),
            Does::Close => return,
        };
        if done.is_err() {
            return;
        }
    }
}

fn read_head(socket: &mut TcpStream, input: &mut Vec<u8>) -> Option<String> {
    let mut block = [0; 4096];
    loop {
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = input.drain(..end + 4).collect();
            return String::from_utf8(head).ok();
        }
        let n = socket.read(&mut block).ok().filter(|n| *n > 0)?;
        input.extend_from_slice(&block[..n]);
    }
}

fn parse(head: &str) -> Option<Asked> {
    let mut words = head.lines().next()?.split(' ');
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        range: None,
        head: head.to_owned(),
    };
    asked.range = asked.field("range").and_then(|value| {
        let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
        let last = if last.is_empty() {
            u64::MAX
        } else {
            last.parse().ok()?
        };
        Some((first.parse().ok()?, last))
    });
    Some(asked)
}

/// The answer of a good server, up to `after` bytes of the body; then the end, or the rest behind a gate.
fn give(
    socket: &mut TcpStream,
    asked: &Asked,
    file: &File,
    after: u64,
    gate: Option<&Gate>,
) -> io::Result<()> {
    let mut fields = file.fields.clone();
    if !file.etag.is_empty() {
        let _ = write!(fields, "ETag: {}\r\n", file.etag);
        if asked.field("if-none-match") == Some(&file.etag) {
            return socket
                .write_all(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").as_bytes());
        }
    }
    let length = file.length;
    let (status, range) = match asked.range.filter(|_| file.ranges) {
        Some((first, _)) if first >= length => {
            let head = format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{length}\r\nContent-Length: 0\r\n\r\n"
            );
            return socket.write_all(head.as_bytes());
        }
        Some((first, last)) => {
            let end = last.saturating_add(1).min(length);
            let _ = write!(
                fields,
                "Content-Range: bytes {first}-{}/{length}\r\n",
                end - 1
            );
            ("206 Partial Content", first..end)
        }
        None => ("200 OK", 0..length),
    };
    let count = range.end - range.start;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/x-test\r\nContent-Length: {count}\r\n{fields}\r\n"
    );
    let mut out = head.into_bytes();
    if asked.method == "HEAD" {
        return socket.write_all(&out);
    }
    let stop = range.start.saturating_add(after).min(range.end);
    let mut at = range.start;
    while at < range.end {
        if at == stop {
            socket.write_all(&out)?;
            out.clear();
            match gate {
                Some(gate) => gate.pass(),
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        let bound = if at < stop { stop } else { range.end };
        let end = bound.min(at + BLOCK);
        out.extend_from_slice(&bytes(file.seed, at..end));
        socket.write_all(&out)?;
        out.clear();
        at = end;
    }
    socket.write_all(&out)
}
