//! Something that answers HTTP over TCP or a unix socket and is made of a state and a function: the ground of the played
//! sources of servers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::sock::Sock;

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `/path?query`.
    pub target: String,
    /// Fields, names in lower case.
    pub fields: BTreeMap<String, String>,
}

impl Asked {
    /// The value of a parameter, as it stands there.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|p| p.split_once('='));
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// What the function works with.
pub struct Shared<T> {
    state: Mutex<T>,
    changed: Condvar,
    asked: Mutex<Vec<Asked>>,
    open: Mutex<Vec<Sock>>,
}

/// Answers one request; the connection is closed afterwards.
pub type Serve<T> = fn(&Shared<T>, &Asked, &mut Sock) -> io::Result<()>;

/// One that runs; its threads end with the test.
pub struct StandIn<T>(Arc<Shared<T>>);

impl<T: Send + 'static> StandIn<T> {
    /// On a free port of 127.0.0.1.
    pub fn tcp(state: T, serve: Serve<T>) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("stand-in");
        let address = listener.local_addr().expect("local address");
        let accept = move || listener.accept().map(|(s, _)| Sock::Tcp(s));
        (Self::start(state, serve, accept), address)
    }

    /// At a path.
    pub fn unix(path: &Path, state: T, serve: Serve<T>) -> Self {
        let listener = UnixListener::bind(path).expect("stand-in");
        Self::start(state, serve, move || {
            listener.accept().map(|(s, _)| Sock::Unix(s))
        })
    }

    fn start(
        state: T,
        serve: Serve<T>,
        accept: impl Fn() -> io::Result<Sock> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            asked: Mutex::default(),
            open: Mutex::default(),
        });
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok(mut sock) = accept() {
                let shared = Arc::clone(&ours);
                std::thread::spawn(move || {
                    lock(&shared.open).extend(sock.try_clone());
                    if let Ok(asked) = read(&mut sock) {
                        lock(&shared.asked).push(asked.clone());
                        let _ = serve(&shared, &asked, &mut sock);
                    }
                    let _ = sock.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self(shared)
    }

    /// Changes the state, which those who wait see.
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut lock(&self.0.state));
        self.0.changed.notify_all();
    }

    /// Closes every connection, wherever it is.
    pub fn cut(&self) {
        for sock in lock(&self.0.open).drain(..) {
            let _ = sock.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.0.asked).clone()
    }
}

impl<T> Shared<T> {
    /// The state, once it is so, or `limit` is over.
    pub fn when(&self, limit: Duration, is_so: impl Fn(&T) -> bool) -> MutexGuard<'_, T> {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.state);
        while !is_so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// The state now.
    pub fn now(&self) -> MutexGuard<'_, T> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(sock: &mut Sock) -> io::Result<Asked> {
    let mut from = BufReader::new(sock);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let mut asked = Asked {
        target: line.split(' ').nth(1).unwrap_or_default().to_owned(),
        ..Asked::default()
    };
    loop {
        line.clear();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let name = name.to_ascii_lowercase();
        asked.fields.insert(name, value.trim().to_owned());
    }
    let length = asked.fields.get("content-length");
    let length = length.and_then(|l| l.parse().ok()).unwrap_or(0);
    from.take(length).read_to_end(&mut Vec::new())?;
    Ok(asked)
}

/// A whole answer. `fields` are lines with their ends.
pub fn answer(sock: &mut Sock, status: u16, fields: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n"
    );
    sock.write_all(head.as_bytes())?;
    sock.write_all(body.as_bytes())
}
