//! What it costs to check many servers, and how soon a change of one of them holds.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::admin::{call, value};
use super::{Part, Size, start};
use crate::procfs;
use crate::rig::Rig;
use crate::sh;

const PORT: u16 = 9_141;
const ORIGIN_PORT: u16 = 9_014;
/// Servers of an upstream.
const SERVERS: usize = 20;
/// The thread that checks.
const THREAD: &str = "narthex-control";
/// Open files of a process that checks nothing, about.
const OTHER_FILES: usize = 21;
/// Until every server has been asked.
const FIRST: Duration = Duration::from_mins(1);

/// Each server has an address of its own in 127.0.0.0/8.
fn server(n: usize) -> String {
    format!(
        "127.{}.{}.{}:{ORIGIN_PORT}",
        1 + (n >> 14),
        (n >> 7) & 127,
        1 + (n & 127)
    )
}

/// What is checked, and how often.
struct Shape {
    upstreams: usize,
    interval_ms: usize,
}

impl Shape {
    fn servers(&self) -> usize {
        self.upstreams * SERVERS
    }

    /// Few clients: what they leave of the open files is for the connections of checks.
    fn config(&self, work: &Path) -> String {
        let mut text = format!(
            "version 1\nworkers 1\nconnections max=1000\naccess-log \"off\"\nadmin \"unix:{}/admin.sock\"\n\
             listen \"127.0.0.1:{PORT}\"\n",
            work.display()
        );
        let mut routes = String::new();
        for u in 0..self.upstreams {
            let _ = writeln!(
                text,
                "upstream \"u{u}\" {{\n    health-check \"/128\" interval=\"{}ms\"",
                self.interval_ms
            );
            for s in 0..SERVERS {
                let _ = writeln!(text, "    server \"{}\"", server(u * SERVERS + s));
            }
            text.push_str("}\n");
            let _ = writeln!(routes, "    route path=\"/u{u}\" {{ proxy \"u{u}\" }}");
        }
        let _ = write!(text, "site \"*\" {{\n{routes}}}\n");
        text
    }
}

/// Does it: with as many servers as there are to be, and with as many as can keep their connections below a limit of 20,000
/// open files, asked so much more often that it comes to as many checks.
pub fn run(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("checks");
    let _origin = Rig::start("", &format!("0.0.0.0:{ORIGIN_PORT}"))?;
    let all = Shape {
        upstreams: size.checked,
        interval_ms: 2_000,
    };
    let kept = Shape {
        upstreams: size.checked * 38 / 100,
        interval_ms: 760,
    };
    look(narthex, work, size, &kept, &mut part)?;
    look(narthex, work, size, &all, &mut part)?;
    Ok(part)
}

fn look(
    narthex: &Path,
    work: &Path,
    size: &Size,
    shape: &Shape,
    part: &mut Part,
) -> Result<(), String> {
    let (proxy, file) = start(narthex, work, &shape.config(work), PORT)?;
    let admin = work.join("admin.sock");
    part.config = file;
    let up = wait_for_all(&admin, shape.upstreams)?;
    let before = Moment::now(&admin, &proxy.pids())?;
    sh::pause(Duration::from_secs_f64(size.check_seconds));
    let after = Moment::now(&admin, &proxy.pids())?;
    let kept = after.files.saturating_sub(OTHER_FILES);
    part.row(
        "servers, asked every",
        format!("{}, {} ms", shape.servers(), shape.interval_ms),
    );
    part.row("upstreams with a good answer", up);
    part.row("open files without those of the process", kept);
    after.since(&before, part);
    let metrics = call(&admin, "GET", "/metrics", "", "")?;
    part.row("behind, s", value(&metrics, "narthex_health_late_seconds"));
    part.row(
        "resident, KiB per server",
        format!("{:.1}", after.resident_kib / shape.servers() as f64),
    );
    change(&admin, part)?;
    reload(&admin, &proxy.pids(), part)?;
    if up != shape.upstreams {
        part.faults.push(format!(
            "{up} of {} upstreams have a server that answers",
            shape.upstreams
        ));
    }
    Ok(())
}

/// Until every upstream has a good answer, or the time is over: how many have one.
fn wait_for_all(admin: &Path, upstreams: usize) -> Result<usize, String> {
    let begun = Instant::now();
    loop {
        let metrics = call(admin, "GET", "/metrics", "", "")?;
        let good = metrics.lines().filter(|l| {
            l.starts_with("narthex_health_checks_total") && l.contains("good") && !l.ends_with(" 0")
        });
        let up = good.count();
        if up == upstreams || begun.elapsed() >= FIRST {
            return Ok(up);
        }
        sh::pause(Duration::from_millis(100));
    }
}

/// A reload of the same file asks nobody again.
fn reload(admin: &Path, pids: &[u32], part: &mut Part) -> Result<(), String> {
    let before = Moment::now(admin, pids)?;
    let answer = call(admin, "POST", "/reload", "", "")?;
    sh::pause(Duration::from_secs(1));
    let after = Moment::now(admin, pids)?;
    let rate = (after.checks - before.checks) / (after.at - before.at).as_secs_f64();
    part.row("checks a second after a reload", format!("{rate:.0}"));
    if !answer.starts_with("HTTP/1.1 2") {
        part.faults.push(format!("the reload failed: {answer}"));
    }
    Ok(())
}

fn change(admin: &Path, part: &mut Part) -> Result<(), String> {
    let changed = Instant::now();
    let path = format!("/upstreams/u0/servers/{}", server(0));
    let answer = call(admin, "PATCH", &path, "If-Match: *\r\n", "{\"weight\":7}")?;
    let took = changed.elapsed();
    let shown = call(admin, "GET", "/upstreams/u0", "", "")?;
    part.row(
        "a change of one server, ms",
        format!("{:.1}", took.as_secs_f64() * 1e3),
    );
    if !answer.starts_with("HTTP/1.1 2") || !shown.contains("\"weight\": 7") {
        part.faults
            .push(format!("the change was not taken: {answer}"));
    }
    Ok(())
}

/// What the checks had cost so far.
struct Moment {
    at: Instant,
    checks: f64,
    ns: u64,
    files: usize,
    resident_kib: f64,
}

impl Moment {
    fn now(admin: &Path, pids: &[u32]) -> Result<Self, String> {
        let files = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        Ok(Self {
            checks: good(admin)?,
            ns: control_ns(pids),
            at: Instant::now(),
            files: pids.iter().map(files).sum(),
            resident_kib: procfs::resident(pids) as f64 / 1024.0,
        })
    }

    fn since(&self, before: &Self, part: &mut Part) {
        let seconds = (self.at - before.at).as_secs_f64();
        let checks = (self.checks - before.checks).max(1.0);
        let ns = (self.ns - before.ns) as f64;
        part.row("checks a second", format!("{:.0}", checks / seconds));
        part.row(
            "CPU of the checking thread, %",
            format!("{:.1}", ns / seconds / 1e7),
        );
        part.row("CPU per check, us", format!("{:.1}", ns / checks / 1e3));
    }
}

/// Good answers so far.
fn good(admin: &Path) -> Result<f64, String> {
    let metrics = call(admin, "GET", "/metrics", "", "")?;
    let lines = metrics.lines();
    let lines =
        lines.filter(|l| l.starts_with("narthex_health_checks_total") && l.contains("good"));
    Ok(lines
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}

/// CPU time of the thread that checks, ns.
fn control_ns(pids: &[u32]) -> u64 {
    let times = procfs::thread_times(pids);
    let is_control = |id: u64| {
        pids.iter().any(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"));
            comm.is_ok_and(|comm| comm.trim() == THREAD)
        })
    };
    times
        .iter()
        .filter(|(id, _)| is_control(*id))
        .map(|(_, ns)| ns)
        .sum()
}
