//! What an attack costs: the proxy's memory and CPU while it goes on, and what others notice of it. Rows go to
//! `docs/security/http2.md` when `NARTHEX_SECURITY=write`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Block, Peer};
use crate::kit::attack::Client;
use crate::kit::origin::echo;
use crate::kit::pause;
use crate::kit::rig::Rig;

/// Somebody else, over HTTP/2 and over HTTP/1, with one request after the other on two kept connections.
struct Victim {
    thread: JoinHandle<Vec<(Duration, Option<String>)>>,
}

/// An attack that is being watched.
pub struct Watch {
    what: String,
    bound: String,
    pid: u32,
    begun: Instant,
    cpu: f64,
    rss: u64,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sampler: JoinHandle<()>,
    victims: Vec<Victim>,
}

/// What it came to.
#[derive(Debug, Clone)]
pub struct Cost {
    /// Most memory beyond what was used before, in KiB.
    pub rss_kib: u64,
    /// CPU seconds of the proxy.
    pub cpu: f64,
    /// How long it took.
    pub took: Duration,
    /// Requests of the others.
    pub asked: usize,
    /// Which failed, and why.
    pub failed: Vec<String>,
    /// The longest that one of them waited.
    pub longest: Duration,
}

impl Watch {
    /// Begins: the others ask, memory is looked at.
    #[track_caller]
    pub fn begin(rig: &Rig, what: &str, bound: &str) -> Self {
        rig.origin.on("/victim", echo(200));
        // What the proxy needs for its first requests is not the attack's.
        Peer::connect(rig.proxy.addr()).ask(Block::get("/victim"));
        rig.connect().ask("GET /victim HTTP/1.1\r\nHost: a\r\n\r\n");
        let stop = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(AtomicU64::new(0));
        let pid = rig.proxy.pid();
        let (stopped, top) = (Arc::clone(&stop), Arc::clone(&peak));
        let sampler = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                top.fetch_max(rss_kib(pid), Ordering::SeqCst);
                pause(Duration::from_millis(5));
            }
        });
        let addr = rig.proxy.addr();
        let (first, second) = (Arc::clone(&stop), Arc::clone(&stop));
        let h2 = std::thread::spawn(move || {
            let mut peer = Peer::connect(addr);
            asked_until(&first, move || {
                let answer = peer.ask(Block::get("/victim").field("x-id", "v2"));
                let right = answer.status() == 200 && answer.field("x-id").as_deref() == Some("v2");
                peer.streams.clear();
                (!right).then(|| {
                    format!(
                        "HTTP/2: {} {:?} {}",
                        answer.status(),
                        answer.reset,
                        answer.text()
                    )
                })
            })
        });
        let h1 = std::thread::spawn(move || {
            let mut client = Client::connect(addr);
            asked_until(&second, move || {
                let answer = client.ask("GET /victim HTTP/1.1\r\nHost: a\r\nX-Id: v1\r\n\r\n");
                let right =
                    answer.status == 200 && answer.fields.get("x-id").as_deref() == Some("v1");
                (!right).then(|| format!("HTTP/1.1: {} {}", answer.status, answer.text()))
            })
        });
        Self {
            what: what.to_owned(),
            bound: bound.to_owned(),
            pid,
            begun: Instant::now(),
            cpu: cpu_seconds(pid),
            rss: rss_kib(pid),
            peak,
            stop,
            sampler,
            victims: vec![Victim { thread: h2 }, Victim { thread: h1 }],
        }
    }

    /// Ends: nobody else has noticed, and no more memory than this was used.
    #[track_caller]
    pub fn end(self, rig: &Rig, most_kib: u64) -> Cost {
        let took = self.begun.elapsed();
        // At least a few requests of the others after the attack.
        pause(Duration::from_millis(100));
        self.stop.store(true, Ordering::SeqCst);
        self.sampler.join().expect("sampler");
        self.peak.fetch_max(rss_kib(self.pid), Ordering::SeqCst);
        let mut cost = Cost {
            rss_kib: self.peak.load(Ordering::SeqCst).saturating_sub(self.rss),
            cpu: cpu_seconds(self.pid) - self.cpu,
            took,
            asked: 0,
            failed: Vec::new(),
            longest: Duration::ZERO,
        };
        for victim in self.victims {
            match victim.thread.join() {
                Err(_) => cost
                    .failed
                    .push("one of the others had no answer".to_owned()),
                Ok(answers) => {
                    cost.asked += answers.len();
                    for (took, wrong) in answers {
                        cost.longest = cost.longest.max(took);
                        cost.failed.extend(wrong);
                    }
                }
            }
        }
        // One tells what is wrong as well as a thousand.
        let failed = cost.failed.len();
        row(&self.what, &self.bound, &cost);
        cost.failed.truncate(2);
        assert!(
            failed == 0,
            "{}: {failed} failed: {:#?}\n{}",
            self.what,
            cost.failed,
            rig.proxy.stderr()
        );
        assert!(cost.asked >= 2, "{}: the others did not ask", self.what);
        assert!(
            cost.rss_kib <= most_kib,
            "{}: {} KiB, {most_kib} allowed",
            self.what,
            cost.rss_kib
        );
        rig.alive();
        rig.proxy.assert_sane();
        cost
    }
}

fn asked_until(
    stop: &AtomicBool,
    mut ask: impl FnMut() -> Option<String>,
) -> Vec<(Duration, Option<String>)> {
    let mut answers = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let wrong = ask();
        answers.push((begun.elapsed(), wrong));
        // A visitor, not a load.
        pause(Duration::from_millis(5));
    }
    answers
}

/// Resident set of a process.
pub fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let value = line.and_then(|l| l.split_whitespace().nth(1));
    value.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// CPU seconds of a process, its own and the kernel's for it.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = |n| after.split(' ').nth(n).and_then(|t| t.parse::<f64>().ok());
    // Linux counts hundredths of a second here, on every machine that we run on.
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

/// Shows a row, and writes it down if that was asked for.
fn row(what: &str, bound: &str, cost: &Cost) {
    let victim = match cost.failed.len() {
        0 => format!("none: {} requests", cost.asked),
        n => format!("{n} of {} failed", cost.asked),
    };
    let line = format!(
        "| {what} | {bound} | {:.1} MiB | {:.2} s in {:.1} s | {victim}, longest {:.0} ms |",
        cost.rss_kib as f64 / 1024.0,
        cost.cpu,
        cost.took.as_secs_f64(),
        cost.longest.as_secs_f64() * 1e3,
    );
    println!("{line}");
    if std::env::var_os("NARTHEX_SECURITY").is_some_and(|v| v == "write") {
        write(what, &line);
    }
}

/// Puts a row in the place of the one with the same first cell, or at its place in the order.
fn write(what: &str, line: &str) {
    static WRITING: Mutex<()> = Mutex::new(());
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security/http2.md");
    let text = fs::read_to_string(&page).expect("docs/security/http2.md");
    let mut lines: Vec<&str> = text.lines().collect();
    let begin = lines
        .iter()
        .position(|l| *l == "<!-- rows -->")
        .expect("a place for rows")
        + 1;
    let end = lines
        .iter()
        .position(|l| *l == "<!-- end of rows -->")
        .expect("their end");
    let mut rows: Vec<&str> = lines.drain(begin..end).collect();
    let (head, mut body) = (rows.drain(..2).collect::<Vec<_>>(), rows);
    body.retain(|l| !l.starts_with(&format!("| {what} |")));
    body.push(line);
    body.sort_unstable();
    lines.splice(begin..begin, head.into_iter().chain(body));
    fs::write(&page, lines.join("\n") + "\n").expect("docs/security/http2.md");
}
