//! What it costs to check many servers, and how soon a change of one of them holds.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

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

fn config(upstreams: usize, work: &Path) -> String {
    let mut text = format!(
        "version 1\nworkers 1\naccess-log \"off\"\nadmin \"unix:{}/admin.sock\"\nlisten \"127.0.0.1:{PORT}\"\n",
        work.display()
    );
    let mut routes = String::new();
    for u in 0..upstreams {
        let _ = writeln!(
            text,
            "upstream \"u{u}\" {{\n    health-check \"/128\" interval=\"2s\""
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

/// Does it.
pub fn run(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("checks");
    let _origin = Rig::start("", &format!("0.0.0.0:{ORIGIN_PORT}"))?;
    let (proxy, file) = start(narthex, work, &config(size.checked, work), PORT)?;
    let admin = work.join("admin.sock");
    let begun = Instant::now();
    let mut up = 0;
    while begun.elapsed() < FIRST {
        let metrics = call(&admin, "GET", "/metrics", "", "")?;
        let lines = metrics.lines();
        up = lines
            .filter(|l| {
                l.starts_with("narthex_health_checks_total")
                    && l.contains("good")
                    && !l.ends_with(" 0")
            })
            .count();
        if up == size.checked {
            break;
        }
        sh::pause(Duration::from_millis(100));
    }
    let before = (good(&admin)?, control_ns(&proxy.pids()), Instant::now());
    sh::pause(Duration::from_secs_f64(size.check_seconds));
    let after = (good(&admin)?, control_ns(&proxy.pids()), Instant::now());
    let seconds = (after.2 - before.2).as_secs_f64();
    let checks = (after.0 - before.0).max(1.0);
    let ns = (after.1 - before.1) as f64;
    let metrics = call(&admin, "GET", "/metrics", "", "")?;
    let changed = Instant::now();
    let path = format!("/upstreams/u0/servers/{}", server(0));
    let answer = call(&admin, "PATCH", &path, "If-Match: *\r\n", "{\"weight\":7}")?;
    let took = changed.elapsed();
    let shown = call(&admin, "GET", "/upstreams/u0", "", "")?;
    part.config = file;
    part.row("servers", size.checked * SERVERS);
    part.row("upstreams with a good answer", up);
    part.row("checks a second", format!("{:.0}", checks / seconds));
    part.row(
        "CPU of the checking thread, %",
        format!("{:.1}", ns / seconds / 1e7),
    );
    part.row("CPU per check, us", format!("{:.1}", ns / checks / 1e3));
    part.row("behind, s", value(&metrics, "narthex_health_late_seconds"));
    part.row(
        "a change of one server, ms",
        format!("{:.1}", took.as_secs_f64() * 1e3),
    );
    if up != size.checked {
        part.faults.push(format!(
            "{up} of {} upstreams have a server that answers",
            size.checked
        ));
    }
    if !answer.starts_with("HTTP/1.1 2") || !shown.contains("\"weight\": 7") {
        part.faults
            .push(format!("the change was not taken: {answer}"));
    }
    Ok(part)
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

fn value<'a>(metrics: &'a str, name: &str) -> &'a str {
    let mut lines = metrics.lines();
    let line = lines.find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    line.trim()
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

/// One call of the admin API; the whole answer.
fn call(
    admin: &Path,
    method: &str,
    path: &str,
    fields: &str,
    body: &str,
) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(admin)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{fields}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    talk().map_err(|e| format!("{method} {path}: {e}"))
}
