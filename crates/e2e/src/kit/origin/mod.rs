//! The oracle origin: records every byte it is sent, parses it with a chosen personality, and answers as it is told.
//!
//! Every answer carries `X-Id` (the request's own id, if it had one), `X-Origin`, `X-Conn` and `X-Seq`, so that an answer
//! that reaches the wrong client can be proved. Threads are bounded and joined on drop.

mod crew;
mod parse;
mod script;
mod serve;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use script::{Script, Step, answer, echo};

use super::http::Fields;
use super::sock::{Place, Sock};
use super::{Fnv, PATIENCE};

/// How the origin reads what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Personality {
    /// CRLF only, `chunked` only, one length.
    #[default]
    Strict,
    /// Bare LF ends a line, whitespace before a colon is stripped, any `Transfer-Encoding` with `chunked` in it counts.
    LenientLf,
    /// `Content-Length` wins over `Transfer-Encoding`.
    ClFirst,
}

/// A request as the origin understood it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Connection number, from 0.
    pub conn: usize,
    /// Place on its connection, from 0.
    pub seq: usize,
    /// Method.
    pub method: String,
    /// Request target as received.
    pub target: String,
    /// Protocol as received.
    pub version: String,
    /// Field lines, in order.
    pub fields: Fields,
    /// First MiB of the body.
    pub body: Vec<u8>,
    /// Length of the whole body.
    pub body_len: u64,
    /// Hash of the whole body.
    pub hash: Fnv,
    /// Trailer fields.
    pub trailers: Fields,
    /// The whole message arrived.
    pub complete: bool,
    /// Why the origin could not make sense of the message, if it could not.
    pub garbage: Option<String>,
}

impl Seen {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.fields.get(name)
    }
    /// The request's own id.
    pub fn id(&self) -> Option<String> {
        self.fields.get("x-id")
    }
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("")
    }
}

/// How a connection ended, seen from the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The peer sent FIN.
    Fin,
    /// The peer sent RST.
    Reset,
    /// We ended it.
    Ours,
}

/// A connection's record.
#[derive(Debug, Clone, Default)]
pub struct Conn {
    /// First 4 MiB received.
    pub raw: Vec<u8>,
    /// All bytes received.
    pub received: u64,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    taken: usize,
    conns: Vec<Conn>,
    open: HashMap<usize, Sock>,
    scripts: HashMap<String, Script>,
    queue: VecDeque<Script>,
    default: Option<Script>,
    gates: HashSet<String>,
    /// Bytes sent when a connection is accepted.
    greeting: Option<Vec<u8>>,
    refuse_all: bool,
    /// Most connections at once.
    room: Option<usize>,
    stop: bool,
}

struct Shared {
    name: String,
    personality: Personality,
    state: Mutex<State>,
    changed: Condvar,
    crew: crew::Crew,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes everyone who waits for it.
    fn update<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let out = f(&mut state);
        self.changed.notify_all();
        out
    }

    /// Waits until `ready` says so, at most `limit`; says whether it did.
    fn wait(&self, limit: Duration, mut ready: impl FnMut(&State) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if ready(&state) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Most connections at once, unless [`Origin::room`] says otherwise; more are closed at accept.
const MAX_CONNECTIONS: usize = 1024;

/// An origin server.
pub struct Origin {
    place: Place,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> std::io::Result<Sock> {
        match self {
            Self::Tcp(l) => {
                let (s, _) = l.accept()?;
                s.set_nodelay(true)?;
                Ok(Sock::Tcp(s))
            }
            Self::Unix(l) => Ok(Sock::Unix(l.accept()?.0)),
        }
    }
}

impl Origin {
    /// A strict origin on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::named("o", Personality::Strict)
    }

    /// With a name (sent as `X-Origin`) and a personality.
    pub fn named(name: &str, personality: Personality) -> Self {
        Self::at("127.0.0.1:0".parse().expect("address"), name, personality)
    }

    /// At an address; port 0 picks one.
    pub fn at(addr: SocketAddr, name: &str, personality: Personality) -> Self {
        let l =
            TcpListener::bind(addr).unwrap_or_else(|e| panic!("origin cannot bind {addr}: {e}"));
        let place = Place::Tcp(l.local_addr().expect("local address"));
        Self::run(Listener::Tcp(l), place, name, personality)
    }

    /// On a unix socket.
    pub fn unix(path: &Path, name: &str) -> Self {
        let l = UnixListener::bind(path)
            .unwrap_or_else(|e| panic!("origin cannot bind {}: {e}", path.display()));
        Self::run(
            Listener::Unix(l),
            Place::from(path),
            name,
            Personality::Strict,
        )
    }

    fn run(listener: Listener, place: Place, name: &str, personality: Personality) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            personality,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            crew: crew::Crew::default(),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::Builder::new()
            .name(format!("origin-{name}"))
            .spawn(move || accept_loop(&listener, &for_thread))
            .expect("thread");
        Self {
            place,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where it listens, as a configuration writes it.
    pub fn place(&self) -> String {
        self.place.to_string()
    }

    /// Its TCP address.
    pub fn addr(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(a) => *a,
            Place::Unix(_) => panic!("this origin listens on a unix socket"),
        }
    }

    /// Answers requests for this path (query ignored) so, from now on.
    pub fn on(&self, path: &str, script: impl Into<Script>) -> &Self {
        self.shared
            .update(|s| s.scripts.insert(path.to_owned(), script.into()));
        self
    }

    /// Answers everything that has no script of its own so.
    pub fn otherwise(&self, script: impl Into<Script>) -> &Self {
        self.shared.update(|s| s.default = Some(script.into()));
        self
    }

    /// Answers the next request so, whatever it asks for; may be called several times.
    pub fn next(&self, script: impl Into<Script>) -> &Self {
        self.shared.update(|s| s.queue.push_back(script.into()));
        self
    }

    /// Sends these bytes on every new connection before anything is read.
    pub fn greet(&self, bytes: &[u8]) -> &Self {
        self.shared.update(|s| s.greeting = Some(bytes.to_vec()));
        self
    }

    /// Resets every new connection at once (`true`), or serves again (`false`).
    pub fn refuse(&self, yes: bool) -> &Self {
        self.shared.update(|s| s.refuse_all = yes);
        self
    }

    /// Takes so many connections at once, from now on.
    pub fn room(&self, connections: usize) -> &Self {
        self.shared.update(|s| s.room = Some(connections));
        self
    }

    /// Opens a gate that scripts wait at.
    pub fn open(&self, gate: &str) {
        self.shared.update(|s| s.gates.insert(gate.to_owned()));
    }

    /// Is a gate open? (A script may open one, too.)
    pub fn wait_gate(&self, gate: &str) -> bool {
        self.shared.wait(PATIENCE, |s| s.gates.contains(gate))
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Requests since the last call, once at least `n` complete ones have come (or patience has ended).
    pub fn take(&self, n: usize) -> Vec<Seen> {
        self.shared
            .wait(PATIENCE, |s| fresh(s).filter(|r| r.complete).count() >= n);
        self.shared.update(|s| {
            let out: Vec<Seen> = fresh(s).cloned().collect();
            s.taken = s.seen.len();
            out
        })
    }

    /// Waits until `n` requests (heads) have come in all.
    pub fn wait_heads(&self, n: usize) -> bool {
        self.shared.wait(PATIENCE, |s| s.seen.len() >= n)
    }

    /// Waits until something holds of the requests so far.
    pub fn wait_for(&self, limit: Duration, what: impl Fn(&[Seen]) -> bool) -> bool {
        self.shared.wait(limit, |s| what(&s.seen))
    }

    /// Records of all connections.
    pub fn conns(&self) -> Vec<Conn> {
        self.shared.lock().conns.clone()
    }

    /// Waits until a connection ended; tells how.
    pub fn wait_end(&self, conn: usize) -> Option<Ended> {
        self.shared.wait(PATIENCE, |s| {
            s.conns.get(conn).is_some_and(|c| c.ended.is_some())
        });
        self.shared.lock().conns.get(conn).and_then(|c| c.ended)
    }

    /// Waits until something holds of the connections' records.
    pub fn wait_conns(&self, limit: Duration, what: impl Fn(&[Conn]) -> bool) -> bool {
        self.shared.wait(limit, |s| what(&s.conns))
    }

    /// Connections open now.
    pub fn open_count(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// For each request that came to a [`Step::Work`] since the last call: how many there were then, itself included.
    pub fn take_crowds(&self) -> Vec<usize> {
        self.shared.crew.take_crowds()
    }

    /// Ends every connection at once, with RST or FIN, and goes on listening.
    pub fn cut(&self, reset: bool) {
        self.shared.update(|s| {
            for (_, sock) in s.open.drain() {
                if reset {
                    sock.linger_zero();
                }
                let _ = sock.shutdown(Shutdown::Both);
            }
        });
    }

    /// Stops listening and ends all connections, as a killed process would.
    pub fn kill(mut self) -> Place {
        self.end();
        self.place.clone()
    }

    fn end(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.shared.update(|s| s.stop = true);
        self.shared.crew.close();
        // Wakes `accept`, which then sees the flag.
        let wake = Sock::connect(&self.place, PATIENCE);
        self.cut(false);
        let _ = acceptor.join();
        drop(wake);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.end();
    }
}

fn fresh(s: &State) -> impl Iterator<Item = &Seen> {
    s.seen.iter().skip(s.taken)
}

fn accept_loop(listener: &Listener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let Ok(sock) = listener.accept() else {
            continue;
        };
        threads.retain(|t| !t.is_finished());
        let (stop, refuse, room) = {
            let s = shared.lock();
            (s.stop, s.refuse_all, s.room.unwrap_or(MAX_CONNECTIONS))
        };
        if stop {
            break;
        }
        if refuse || threads.len() >= room {
            sock.linger_zero();
            continue;
        }
        let Ok(second) = sock.try_clone() else {
            continue;
        };
        let (id, greeting) = shared.update(|s| {
            let id = s.conns.len();
            s.conns.push(Conn::default());
            s.open.insert(id, second);
            (id, s.greeting.clone())
        });
        let shared = Arc::clone(shared);
        let t = std::thread::Builder::new()
            .name(format!("origin-{}-{id}", shared.name))
            .spawn(move || serve::connection(sock, id, greeting, &shared))
            .expect("thread");
        threads.push(t);
    }
    // A connection that was accepted between the flag and here.
    shared.update(|s| {
        for (_, sock) in s.open.drain() {
            let _ = sock.shutdown(Shutdown::Both);
        }
    });
    for t in threads {
        let _ = t.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::attack::{Client, End, Why};
    use crate::kit::model;

    #[test]
    fn records_and_echoes_ids_in_order() {
        let o = Origin::named("one", Personality::Strict);
        let mut c = Client::connect(o.addr());
        c.send(
            "POST /a?q HTTP/1.1\r\nHost: h\r\nX-Id: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n\
             HEAD /b HTTP/1.1\r\nHost: h\r\nX-Id: 2\r\n\r\n",
        );
        c.half_close();
        let t = c.read_all(&["POST", "HEAD"]);
        assert_eq!((t.statuses(), t.end), (vec![200, 200], End::Eof));
        assert_eq!(t.responses[1].fields.get("x-id").as_deref(), Some("2"));
        let seen = o.take(2);
        assert_eq!(
            (
                seen[0].body.as_slice(),
                seen[0].trailers.get("t").as_deref()
            ),
            (&b"abc"[..], Some("v"))
        );
        assert_eq!((seen[1].path(), seen[1].seq, seen[1].conn), ("/b", 1, 0));
        assert_eq!(o.wait_end(0), Some(Ended::Fin));
        assert_eq!(
            model::read(&o.conns()[0].raw).requests.len(),
            2,
            "what was recorded is what was sent"
        );
    }

    #[test]
    fn personalities_disagree_about_both_framings() {
        let bytes = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG";
        let ask = |p| {
            let o = Origin::named("p", p);
            let mut c = Client::connect(o.addr());
            c.send(bytes);
            c.half_close();
            c.read_all(&[]);
            o.seen()
        };
        assert!(ask(Personality::Strict)[0].garbage.is_some());
        assert_eq!(ask(Personality::ClFirst)[0].body, b"0\r\n\r\nG");
        assert!(ask(Personality::LenientLf)[0].body.is_empty());
    }

    #[test]
    fn scripts_die_push_and_wait_as_told() {
        let o = Origin::start();
        o.on(
            "/die",
            [
                Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()),
                Step::Reset,
            ],
        );
        o.on(
            "/cut",
            [
                Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()),
                Step::Close,
            ],
        );
        o.on(
            "/gate",
            [
                Step::Gate("g".into()),
                Step::Echo(201),
                Step::Send(b"surplus".to_vec()),
                Step::Close,
            ],
        );
        let get = |p: &str| format!("GET {p} HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut c = Client::connect(o.addr());
        c.send(get("/die"));
        assert_eq!(c.read_response("GET").unwrap_err().why, Why::Reset);
        let mut c = Client::connect(o.addr());
        c.send(get("/cut"));
        assert_eq!(c.read_response("GET").unwrap_err().why, Why::BodyCut);
        let mut c = Client::connect(o.addr());
        c.send(get("/gate"));
        assert!(o.wait_heads(3));
        assert!(c.pending().is_empty());
        o.open("g");
        assert_eq!(c.read_response("GET").unwrap().status, 201);
        assert_eq!(c.rest().0, b"surplus");
    }

    #[test]
    fn sees_how_a_peer_ends() {
        let o = Origin::start();
        o.otherwise([Step::AwaitEnd]);
        for (n, reset) in [(0, true), (1, false)] {
            let mut c = Client::connect(o.addr());
            c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
            assert!(o.wait_heads(n + 1));
            if reset {
                c.reset();
            } else {
                c.close();
            }
            assert_eq!(
                o.wait_end(n),
                Some(if reset { Ended::Reset } else { Ended::Fin })
            );
        }
    }

    #[test]
    fn a_killed_origin_refuses_and_can_come_back() {
        let o = Origin::start();
        let addr = o.addr();
        o.kill();
        assert!(std::net::TcpStream::connect(addr).is_err());
        let o = Origin::at(addr, "again", Personality::Strict);
        assert_eq!(
            Client::connect(o.addr())
                .ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                .status,
            200
        );
    }
}
