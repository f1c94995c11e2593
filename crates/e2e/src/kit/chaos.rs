//! Origins as processes of their own (`src/bin/narthex-e2e-origin.rs`): they can be killed with -9, frozen, told to
//! misbehave while requests pass, and have written down every request that reached them before they answered it.
//!
//! For load and death. What one request must look like at the origin is asked of [`super::origin`].

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::proxy::{Proxy, free_port};

/// How an origin behaves from now on.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Answers only after a time between these.
    Delay(Duration, Duration),
    /// Answers with this status (but `/healthz`).
    Status(u16),
    /// Answers `/healthz` with this status.
    Health(u16),
    /// Closes a connection after each answer, at a time between these that the answer does not announce. A request that
    /// comes in between is sometimes answered, and sometimes left unread.
    CloseAfter(Duration, Duration),
    /// Keeps connections open again.
    Keep,
    /// Serves at most so many requests at a time, the others wait; 0: any number.
    Capacity(usize),
    /// Takes no connection (its queue is full, so that connects get no answer) and says nothing on those it has.
    BlackHole(bool),
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delay(a, b) => write!(f, "delay {} {}", a.as_micros(), b.as_micros()),
            Self::Status(n) => write!(f, "status {n}"),
            Self::Health(n) => write!(f, "health {n}"),
            Self::CloseAfter(a, b) => write!(f, "close {} {}", a.as_micros(), b.as_micros()),
            Self::Keep => f.write_str("keep"),
            Self::Capacity(n) => write!(f, "capacity {n}"),
            Self::BlackHole(yes) => write!(f, "hole {}", u8::from(*yes)),
        }
    }
}

/// A number of origins.
pub struct Fleet {
    dir: tempfile::TempDir,
    servers: Vec<Server>,
}

struct Server {
    name: String,
    addr: SocketAddr,
    running: Option<Running>,
}

struct Running {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Fleet {
    /// So many, called `s0`, `s1`, ..., on free ports of 127.0.0.1.
    pub fn of(n: usize) -> Self {
        let mut fleet = Self {
            dir: tempfile::tempdir().expect("temporary directory"),
            servers: Vec::new(),
        };
        for i in 0..n {
            fleet.servers.push(Server {
                name: format!("s{i}"),
                addr: SocketAddr::from(([127, 0, 0, 1], free_port())),
                running: None,
            });
            fleet.start(i);
        }
        fleet
    }

    /// Where it listens.
    pub fn addr(&self, i: usize) -> SocketAddr {
        self.servers[i].addr
    }

    /// `server "..."` for each of them, for inside an `upstream`.
    pub fn servers(&self) -> String {
        let line = |s: &Server| format!(" server \"{}\"\n", s.addr);
        self.servers.iter().map(line).collect()
    }

    /// A proxy in front of them: two workers, `site "*"`, these lines inside `upstream "u"` beside the servers.
    #[track_caller]
    pub fn proxy(&self, upstream: &str) -> Proxy {
        Proxy::start(&self.config(upstream))
    }

    /// The configuration of [`Fleet::proxy`].
    pub fn config(&self, upstream: &str) -> String {
        Proxy::config(
            "connections per-client=0",
            &format!(
                "connections per-client=0\nupstream \"u\" {{\n{}\n{upstream}\n}}\nsite \"*\" {{ proxy \"u\" }}",
                self.servers()
            ),
        )
    }

    /// Kills one with -9 and waits until it is gone. Its connections end with what the kernel makes of it.
    pub fn kill(&mut self, i: usize) {
        if let Some(mut running) = self.servers[i].running.take() {
            running.child.kill().expect("kill");
            running.child.wait().expect("wait");
        }
    }

    /// Starts one that was killed, at its old address, well behaved.
    pub fn start(&mut self, i: usize) {
        let record = self.record(i);
        let server = &mut self.servers[i];
        assert!(server.running.is_none(), "{} runs", server.name);
        let mut child = Command::new(program())
            .args([&server.addr.to_string(), &server.name])
            .arg(record)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", program().display()));
        let mut running = Running {
            orders: child.stdin.take().expect("stdin"),
            answers: BufReader::new(child.stdout.take().expect("stdout")),
            child,
        };
        running.await_answer(&server.name);
        server.running = Some(running);
    }

    /// Stops one in the middle of whatever it does: the kernel still takes connections for it, nobody answers.
    pub fn freeze(&self, i: usize) {
        self.signal(i, Signal::STOP);
    }

    /// Lets a frozen one go on.
    pub fn thaw(&self, i: usize) {
        self.signal(i, Signal::CONT);
    }

    fn signal(&self, i: usize, signal: Signal) {
        let running = self.servers[i].running.as_ref().expect("running");
        let pid = Pid::from_raw(running.child.id().cast_signed()).expect("pid");
        kill_process(pid, signal).expect("kill");
    }

    /// Has one behave differently; returns when it does.
    pub fn tell(&mut self, i: usize, order: Order) {
        let server = &mut self.servers[i];
        let running = server.running.as_mut().expect("running");
        writeln!(running.orders, "{order}").expect("an order");
        running.await_answer(&server.name);
    }

    /// As [`Fleet::tell`], to all.
    pub fn tell_all(&mut self, order: Order) {
        for i in 0..self.servers.len() {
            self.tell(i, order);
        }
    }

    fn record(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("s{i}.ids"))
    }

    /// Every request that has reached any of them, over their deaths; checks (`/healthz`) excluded.
    pub fn arrivals(&self) -> Arrivals {
        let mut all = Vec::new();
        for (i, server) in self.servers.iter().enumerate() {
            for line in fs::read_to_string(self.record(i))
                .unwrap_or_default()
                .lines()
            {
                let words: Vec<&str> = line.split(' ').collect();
                // A line that a killed process has not finished speaks of a request that it did not answer.
                if let [at, method, id] = words[..] {
                    all.push(Arrival {
                        server: server.name.clone(),
                        method: method.to_owned(),
                        id: id.to_owned(),
                        at: Duration::from_micros(at.parse().unwrap_or(0)),
                    });
                }
            }
        }
        all.sort_by_key(|a| a.at);
        Arrivals(all)
    }
}

impl Running {
    #[track_caller]
    fn await_answer(&mut self, name: &str) {
        let mut line = String::new();
        let _ = self.answers.read_line(&mut line);
        assert_eq!(line.trim(), "ok", "origin {name} says {line:?}");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for i in 0..self.servers.len() {
            self.kill(i);
        }
    }
}

/// The program is beside the test's own directory; cargo builds it with the tests.
fn program() -> PathBuf {
    let exe = std::env::current_exe().expect("own path");
    let profile = exe.parent().and_then(Path::parent).expect("profile");
    profile.join("narthex-e2e-origin")
}

/// One request, as an origin wrote it down before it answered.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Whom it reached.
    pub server: String,
    /// Its method.
    pub method: String,
    /// Its `X-Id`; `-` without.
    pub id: String,
    /// When, since 1970, by the machine's clock.
    pub at: Duration,
}

/// All that has arrived, in the order of its times.
#[derive(Debug, Clone)]
pub struct Arrivals(pub Vec<Arrival>);

impl Arrivals {
    /// How often each id has arrived with this method.
    pub fn times(&self, method: &str) -> HashMap<&str, usize> {
        let mut out = HashMap::new();
        for a in self.0.iter().filter(|a| a.method == method) {
            *out.entry(a.id.as_str()).or_default() += 1;
        }
        out
    }

    /// Ids that have arrived more than once with this method.
    pub fn twice(&self, method: &str) -> Vec<&str> {
        let times = self.times(method);
        let mut out: Vec<&str> = times
            .iter()
            .filter(|(_, n)| **n > 1)
            .map(|(id, _)| *id)
            .collect();
        out.sort_unstable();
        out
    }

    /// Requests by server.
    pub fn by_server(&self) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for a in &self.0 {
            *out.entry(a.server.clone()).or_default() += 1;
        }
        out
    }
}
