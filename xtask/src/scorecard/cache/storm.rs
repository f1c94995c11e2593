//! Hits while much is purged, none of it theirs, and just after everything was made stale.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{PROXY_CORE, RIG_CORE, all_answered, asked, config};
use crate::rig::{Answer, Rig};
use crate::scorecard::admin::Admin;
use crate::scorecard::{Part, Size, start_on};
use crate::sh;

const PORT: u16 = 9_161;
const ORIGIN: &str = "127.0.0.1:9016";
/// Addresses that are asked for.
const KEYS: u64 = 1_000;
/// Calls of the admin API per second.
const CALLS: f64 = 1_000.0;

const SITE: &str = "    cache ttl=\"1h\" stale-while-revalidate=\"1h\"\n";

/// The n-th call.
type Call = fn(u64) -> (&'static str, &'static str, String);

fn nothing(_: u64) -> (&'static str, &'static str, String) {
    ("GET", "/health/live", String::new())
}

/// Of all kinds in turn, of hosts that nobody asks for.
fn purge(n: u64) -> (&'static str, &'static str, String) {
    let what = match n % 4 {
        0 => format!("{{\"url\":\"http://other-{n}.example/a/{n}\"}}"),
        1 => format!("{{\"tag\":\"tag-{n}\"}}"),
        2 => format!("{{\"prefix\":\"http://other-{n}.example/p{n}\"}}"),
        _ => format!("{{\"host\":\"other-{n}.example\"}}"),
    };
    ("POST", "/cache/purge", what)
}

/// Does it.
pub fn run(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("purge storm");
    let mut rig = Rig::start(RIG_CORE, ORIGIN)?;
    let text = config(
        work,
        (PORT, ORIGIN),
        "workers 1\ncache memory=\"256MiB\"\n",
        SITE,
    );
    let (proxy, file) = start_on(PROXY_CORE, narthex, work, &text, PORT)?;
    part.config = file;
    let load = format!("load target={} path=/storm/%/1k keys={KEYS}", proxy.address);
    let admin = work.join("admin.sock");
    rig.ask(&format!("{load} warm=0 count={}", 2 * KEYS))?;
    let fetched = asked(&mut rig)?;
    let full = rig.ask(&format!("{load} shuffle=1 secs={}", size.hit_seconds / 5.0))?;
    let can = full.get("requests") / full.get("secs").max(1e-9);
    let rate = if size.hit_rate > 0.0 {
        size.hit_rate
    } else {
        (can / 4.0).round()
    };
    part.row(
        "hits a second that it can do, asked for a second",
        format!("{can:.0}, {rate:.0}"),
    );
    let load = format!("{load} shuffle=1 rate={rate} secs={}", size.hit_seconds);
    let quiet = rig.ask(&load)?;
    row(&mut part, "hits, nothing else", &quiet);
    for (what, call) in [
        ("hits beside calls that do nothing", nothing as Call),
        ("hits beside purges", purge),
    ] {
        let caller = Caller::start(&admin, call);
        let seen = rig.ask(&load)?;
        let called = caller.stop()?;
        row(&mut part, what, &seen);
        part.row(&format!("{what}: calls a second"), format!("{called:.0}"));
    }
    // No purge was of what is asked for.
    let fetches = asked(&mut rig)? - fetched;
    part.zero("fetches meanwhile", fetches as f64);
    rig.order(&load)?;
    sh::pause(Duration::from_secs_f64(size.hit_seconds / 2.0));
    let all = "{\"everything\":true,\"soft\":true}";
    Admin::connect(&admin)?.call("POST", "/cache/purge", all)?;
    let seen = rig.answer()?;
    row(
        &mut part,
        "hits, and everything made stale amid them",
        &seen,
    );
    let fetches = asked(&mut rig)? - fetched;
    part.row("fetches after that", fetches);
    if !(1..=KEYS).contains(&fetches) {
        part.faults
            .push(format!("{fetches} fetches of {KEYS} stale objects"));
    }
    Ok(part)
}

fn row(part: &mut Part, what: &str, a: &Answer) {
    all_answered(part, what, a);
    part.row(
        &format!("{what}: p50 / p99 / p999 / longest, µs; a second"),
        format!(
            "{:.0} / {:.0} / {:.0} / {:.0}; {:.0}",
            a.get("p50_us"),
            a.get("p99_us"),
            a.get("p999_us"),
            a.get("max_us"),
            a.get("requests") / a.get("secs").max(1e-9)
        ),
    );
}

/// Calls the admin API at a rate until it is stopped.
struct Caller {
    thread: JoinHandle<Result<f64, String>>,
}

static STOP: AtomicBool = AtomicBool::new(false);

impl Caller {
    fn start(admin: &Path, call: Call) -> Self {
        STOP.store(false, Ordering::Relaxed);
        let admin: PathBuf = admin.to_owned();
        Self {
            thread: std::thread::spawn(move || {
                let mut admin = Admin::connect(&admin)?;
                let begun = Instant::now();
                let mut n = 0;
                while !STOP.load(Ordering::Relaxed) {
                    while (n as f64) < begun.elapsed().as_secs_f64() * CALLS {
                        let (method, path, body) = call(n);
                        admin.call(method, path, &body)?;
                        n += 1;
                    }
                    sh::pause(Duration::from_millis(1));
                }
                Ok(n as f64 / begun.elapsed().as_secs_f64())
            }),
        }
    }

    /// How many calls a second there were.
    fn stop(self) -> Result<f64, String> {
        STOP.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the caller panicked")?
    }
}
