//! Paced load with a memory: requests go out at times that were fixed before, whatever becomes of the ones before them,
//! and every one has an id of its own and an entry in the [`Tally`].
//!
//! A request's time counts from when it was due, not from when a connection was free for it: a stall is seen by all
//! requests that it held up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::attack::{Client, Why};
use super::sock::{Place, Sock};
use super::{PATIENCE, full, pause};

/// What to send.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Requests a second; 0: each connection sends as soon as it has its answer.
    pub rate: u32,
    /// Connections, each with one request at a time and kept between them.
    pub connections: usize,
    /// Percent of POSTs (with a body of 16 bytes), spread evenly; the others are GETs.
    pub posts: u8,
    /// Where to; `{n}` becomes the number of the request.
    pub path: String,
    /// More field lines, each with its CRLF; `{n}` becomes the number of the request.
    pub fields: String,
    /// Ends by itself after so many.
    pub count: Option<usize>,
    /// Longest silence while an answer is read.
    pub patience: Duration,
}

impl Plan {
    /// GETs of `/` at this rate, over 32 connections, until it is stopped.
    pub fn at(rate: u32) -> Self {
        Self {
            rate,
            connections: 32,
            posts: 0,
            path: "/".into(),
            fields: String::new(),
            count: None,
            patience: PATIENCE,
        }
    }

    /// The rate of the long form of a test (`NARTHEX_E2E_FULL=1`), else that of the short one. `NARTHEX_E2E_RATE` is the most
    /// that a machine can do, if it cannot do all of the long one.
    pub fn sized(short: u32, long: u32) -> Self {
        let most = std::env::var("NARTHEX_E2E_RATE").ok();
        let most = most.and_then(|n| n.parse().ok()).unwrap_or(u32::MAX);
        Self::at(if full() { long.min(most) } else { short })
    }

    /// With this percentage of POSTs.
    #[must_use]
    pub fn posts(mut self, percent: u8) -> Self {
        self.posts = percent;
        self
    }

    /// Over so many connections.
    #[must_use]
    pub fn over(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Ends after so many requests.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    /// To this path.
    #[must_use]
    pub fn to(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// With these field lines, too.
    #[must_use]
    pub fn with(mut self, fields: &str) -> Self {
        fields.clone_into(&mut self.fields);
        self
    }
}

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status, for this request.
    Status(u16),
    /// An answer, but to another request: its `X-Id` is not ours.
    Foreign,
    /// No connection could be made.
    NotConnected,
    /// No whole answer.
    Cut(Why),
}

/// One request's entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number, from 0 in the order in which they were due.
    pub n: usize,
    /// A POST, not a GET.
    pub post: bool,
    /// When it was due, since the start.
    pub due: Duration,
    /// From then to the end of its answer.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The connection had carried another request before.
    pub reused: bool,
    /// Who answered (`X-Origin`).
    pub server: Option<String>,
    /// The proxy's own word, if the answer is its own (`Narthex-Reason`).
    pub reason: Option<String>,
}

impl Entry {
    /// The id that it was sent with.
    pub fn id(&self) -> String {
        id(self.n)
    }
    /// 200, and its own answer.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Status(200)
    }
}

fn id(n: usize) -> String {
    format!("load-{n}")
}

/// Load that is running.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    addr: SocketAddr,
    plan: Plan,
    start: Instant,
    next: AtomicUsize,
    stop: AtomicBool,
    entries: Mutex<Vec<Entry>>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request's number and when it is due, or the end.
    fn next(&self) -> Option<(usize, Duration)> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if self.plan.count.is_some_and(|count| n >= count) {
            return None;
        }
        if self.plan.rate == 0 {
            return Some((n, self.start.elapsed()));
        }
        let due = Duration::from_secs_f64(n as f64 / f64::from(self.plan.rate));
        loop {
            let now = self.start.elapsed();
            if now >= due {
                return Some((n, due));
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            pause(due.saturating_sub(now).min(Duration::from_millis(50)));
        }
    }
}

impl Load {
    /// Starts.
    pub fn start(addr: SocketAddr, plan: Plan) -> Self {
        let connections = plan.connections.max(1);
        let shared = Arc::new(Shared {
            addr,
            plan,
            start: Instant::now(),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            entries: Mutex::default(),
            more: Condvar::new(),
        });
        let threads = (0..connections)
            .map(|n| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("load-{n}"))
                    .spawn(move || send_all(&shared))
                    .expect("thread")
            })
            .collect();
        Self { shared, threads }
    }

    /// Time since the start, to compare with [`Entry::due`].
    pub fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Requests that have ended.
    pub fn ended(&self) -> usize {
        self.shared.lock().len()
    }

    /// Waits until something holds of the entries so far (in the order of their ends); says whether it did.
    pub fn wait_for(&self, limit: Duration, done: impl Fn(&[Entry]) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut entries = self.shared.lock();
        loop {
            if done(&entries) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // Looks are bounded, because each may go over all entries.
            entries = self
                .shared
                .more
                .wait_timeout(entries, left.min(Duration::from_millis(20)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until so many more requests have ended.
    #[track_caller]
    pub fn wait_more(&self, n: usize) {
        let to = self.ended() + n;
        assert!(
            self.wait_for(PATIENCE * 3, |e| e.len() >= to),
            "only {} of {to} requests have ended",
            self.ended()
        );
    }

    /// Sends nothing more, waits for what is under way.
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits for the end of a plan that has a count.
    pub fn finish(mut self) -> Tally {
        for t in self.threads.drain(..) {
            t.join().expect("load");
        }
        let mut entries = std::mem::take(&mut *self.shared.lock());
        entries.sort_by_key(|e| e.n);
        Tally {
            entries,
            lasted: self.shared.start.elapsed(),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for t in self.threads.drain(..) {
            let _ = t.join();
        }
    }
}

fn send_all(shared: &Shared) {
    let mut kept: Option<Client> = None;
    while let Some((n, due)) = shared.next() {
        let post = is_post(n, shared.plan.posts);
        let reused = kept.is_some();
        let mut entry = Entry {
            n,
            post,
            due,
            took: Duration::ZERO,
            outcome: Outcome::NotConnected,
            reused,
            server: None,
            reason: None,
        };
        if kept.is_none() {
            kept = Sock::connect(&Place::Tcp(shared.addr), shared.plan.patience)
                .ok()
                .map(Client::over);
        }
        if let Some(mut client) = kept.take() {
            client.patience = shared.plan.patience;
            kept = ask(client, &shared.plan, &mut entry);
        }
        entry.took = shared.start.elapsed().saturating_sub(due);
        shared.lock().push(entry);
        shared.more.notify_all();
    }
}

/// Spreads `percent` of POSTs evenly.
fn is_post(n: usize, percent: u8) -> bool {
    let percent = usize::from(percent.min(100));
    (n + 1) * percent / 100 > n * percent / 100
}

/// One request; the connection, if it may carry another.
fn ask(mut client: Client, plan: &Plan, entry: &mut Entry) -> Option<Client> {
    let number = entry.n.to_string();
    let (method, rest) = if entry.post {
        ("POST", "Content-Length: 16\r\n\r\n0123456789abcdef")
    } else {
        ("GET", "\r\n")
    };
    let id = entry.id();
    let path = plan.path.replace("{n}", &number);
    let fields = plan.fields.replace("{n}", &number);
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n{fields}{rest}"
    ));
    match client.read_response(method) {
        Ok(answer) => {
            entry.server = answer.fields.get("x-origin");
            entry.reason = answer.fields.get("narthex-reason");
            let ours = entry.reason.is_some() || answer.fields.get("x-id") == Some(id);
            entry.outcome = if ours {
                Outcome::Status(answer.status)
            } else {
                Outcome::Foreign
            };
            (!answer.says_close()).then_some(client)
        }
        Err(fault) => {
            entry.outcome = Outcome::Cut(fault.why);
            None
        }
    }
}

/// What became of all requests, in the order in which they were due.
#[derive(Debug, Clone)]
pub struct Tally {
    /// One for each request.
    pub entries: Vec<Entry>,
    /// From the start to the end of the last one.
    pub lasted: Duration,
}

impl Tally {
    /// Requests sent.
    pub fn sent(&self) -> usize {
        self.entries.len()
    }

    /// Answered 200, each with its own answer.
    pub fn ok(&self) -> usize {
        self.entries.iter().filter(|e| e.is_ok()).count()
    }

    /// Those that were not.
    pub fn failed(&self) -> Vec<&Entry> {
        self.entries.iter().filter(|e| !e.is_ok()).collect()
    }

    /// Failed GETs.
    pub fn failed_gets(&self) -> Vec<&Entry> {
        self.failed().into_iter().filter(|e| !e.post).collect()
    }

    /// Those whose connection broke instead of carrying an answer.
    pub fn cut(&self) -> usize {
        let cut = |e: &&Entry| matches!(e.outcome, Outcome::Cut(_) | Outcome::NotConnected);
        self.entries.iter().filter(cut).count()
    }

    /// Those that were due in this part of the time.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> Self {
        let entries: Vec<Entry> = self
            .entries
            .iter()
            .filter(|e| e.due >= from && e.due < to)
            .cloned()
            .collect();
        Self {
            entries,
            lasted: to.saturating_sub(from),
        }
    }

    /// Good answers by server.
    pub fn by_server(&self) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for e in self.entries.iter().filter(|e| e.is_ok()) {
            *out.entry(e.server.clone().unwrap_or_default()).or_default() += 1;
        }
        out
    }

    /// The time within which this share (0 to 1) of all requests ended, well or not.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut took: Vec<Duration> = self.entries.iter().map(|e| e.took).collect();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get((last as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Requests a second, from the first one due to the end of the last one.
    pub fn rate(&self) -> f64 {
        let first = self.entries.first().map_or(Duration::ZERO, |e| e.due);
        let last = self.entries.iter().map(|e| e.due + e.took).max();
        let seconds = last.unwrap_or_default().saturating_sub(first);
        self.sent() as f64 / seconds.as_secs_f64().max(1e-9)
    }

    /// All of it in a few lines, for a failure message.
    pub fn brief(&self) -> String {
        let mut ends: BTreeMap<String, usize> = BTreeMap::new();
        for e in &self.entries {
            let method = if e.post { "POST" } else { "GET" };
            let reason = e.reason.as_deref().unwrap_or("");
            *ends
                .entry(format!("{method} {:?} {reason}", e.outcome))
                .or_default() += 1;
        }
        let mut out = format!(
            "{} requests in {:.1?}, p50 {:?}, p99 {:?}; by server {:?}\n",
            self.sent(),
            self.lasted,
            self.quantile(0.5),
            self.quantile(0.99),
            self.by_server()
        );
        for (end, n) in ends {
            let _ = writeln!(out, "  {n:>7} {end}");
        }
        for e in self.failed().iter().take(5) {
            let _ = writeln!(out, "  {e:?}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::origin::{Origin, Step};

    #[test]
    fn posts_are_spread_evenly() {
        for percent in [0, 1, 20, 50, 100] {
            let posts = (0..1_000).filter(|n| is_post(*n, percent)).count();
            assert_eq!(posts, usize::from(percent) * 10);
            let first = (0..100).filter(|n| is_post(*n, percent)).count();
            assert_eq!(first, usize::from(percent));
        }
    }

    #[test]
    fn every_request_has_its_entry() {
        let origin = Origin::start();
        let tally = Load::start(origin.addr(), Plan::at(0).posts(25).over(4).count(80)).finish();
        assert_eq!((tally.sent(), tally.ok()), (80, 80), "{}", tally.brief());
        assert_eq!(tally.by_server().get("o"), Some(&80));
        let seen = origin.seen();
        assert_eq!(seen.iter().filter(|s| s.method == "POST").count(), 20);
        for e in &tally.entries {
            assert_eq!(seen.iter().filter(|s| s.id() == Some(e.id())).count(), 1);
        }
        assert!(tally.entries.iter().any(|e| e.reused));
    }

    #[test]
    fn a_foreign_answer_and_a_cut_one_are_no_good_ones() {
        let origin = Origin::start();
        let send = |s: &str| Step::Send(s.as_bytes().to_vec());
        origin.next([
            Step::ReadBody,
            send("HTTP/1.1 200 OK\r\nX-Id: load-7\r\nContent-Length: 0\r\n\r\n"),
        ]);
        origin.next([
            Step::ReadBody,
            send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"),
            Step::Close,
        ]);
        let tally = Load::start(origin.addr(), Plan::at(0).over(1).count(3)).finish();
        let ends: Vec<Outcome> = tally.entries.iter().map(|e| e.outcome).collect();
        assert_eq!(
            ends,
            [
                Outcome::Foreign,
                Outcome::Cut(Why::BodyCut),
                Outcome::Status(200)
            ]
        );
        assert_eq!((tally.failed_gets().len(), tally.cut()), (2, 1));
    }

    #[test]
    fn a_stall_is_seen_by_all_that_it_holds_up() {
        let origin = Origin::start();
        origin.next([Step::ReadBody, Step::Gate("go".into()), Step::Echo(200)]);
        let load = Load::start(origin.addr(), Plan::at(1_000).over(1).count(20));
        assert!(origin.wait_heads(1));
        // All the others are due by now, and none could be sent.
        while load.elapsed() < Duration::from_millis(50) {
            pause(Duration::from_millis(5));
        }
        assert_eq!(load.ended(), 0);
        origin.open("go");
        let tally = load.finish();
        assert_eq!(tally.ok(), 20);
        assert!(
            tally
                .entries
                .iter()
                .all(|e| e.took + e.due >= Duration::from_millis(50))
        );
    }
}
