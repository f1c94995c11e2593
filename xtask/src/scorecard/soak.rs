//! Reloads under load: nothing fails, nothing is reset, long downloads stay whole.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::Client;
use super::{Part, Size, start};
use crate::rig::{Answer, Rig};
use crate::served::Served;
use crate::sh;

const PORT: u16 = 9_111;
const EXTRA: u16 = 9_112;
const ORIGIN: &str = "127.0.0.1:9011";
/// Downloads at a time.
const DOWNLOADS: usize = 3;

/// Every generation differs: in what it answers, in its routes, and every fourth in its listeners.
fn config(generation: usize, work: &Path) -> String {
    let extra = if generation % 4 == 3 {
        format!("listen \"127.0.0.1:{EXTRA}\"\n")
    } else {
        String::new()
    };
    format!(
        "version 1\nworkers 2\naccess-log \"off\"\nadmin \"unix:{}/admin.sock\"\nconnections per-client=0\n\
         listen \"127.0.0.1:{PORT}\" {{\n    connections per-client=0 requests=4000000000\n}}\n{extra}\
         upstream \"be\" {{\n    server \"{ORIGIN}\"\n}}\n\
         site \"*\" {{\n    header response {{ set \"X-Generation\" \"{generation}\" }}\n    \
         route path=\"/only-{generation}\" {{ respond 204 }}\n    proxy \"be\"\n}}\n",
        work.display()
    )
}

/// Does it.
pub fn run(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("reload soak");
    let mut rig = Rig::start("", ORIGIN)?;
    let (mut proxy, file) = start(narthex, work, &config(0, work), PORT)?;
    let quiet = load(&mut rig, size, size.seconds / 4.0, |_| Ok(()))?;

    static STOP: AtomicBool = AtomicBool::new(false);
    STOP.store(false, Ordering::Relaxed);
    let downloads: Vec<_> = (0..DOWNLOADS)
        .map(|_| download(proxy.address, size.clone(), &STOP))
        .collect();
    let mut refused = Vec::new();
    let mut reloads = 0;
    let soaked = load(&mut rig, size, size.seconds, |end| {
        let gap = Duration::from_secs_f64(1.0 / size.reloads);
        while Instant::now() < end {
            reloads += 1;
            sh::write(&file, &config(reloads, work))?;
            if let Err(why) = reload(narthex, work, &proxy, reloads) {
                refused.push(why);
            }
            sh::pause(gap);
        }
        Ok(())
    })?;
    STOP.store(true, Ordering::Relaxed);
    let mut whole = 0;
    for one in downloads {
        match one.join().map_err(|_| "a download panicked")? {
            Ok(n) => whole += n,
            Err(why) => part.faults.push(format!("download: {why}")),
        }
    }
    let dead = proxy.is_dead();
    let log = proxy.tail();
    part.config = file;
    part.row("seconds", size.seconds);
    part.row("reloads", reloads);
    report(&mut part, "quiet", &quiet);
    report(&mut part, "soak", &soaked);
    part.row("long downloads, whole", whole);
    if whole == 0 {
        part.faults.push("no download was whole".into());
    }
    part.zero("reloads refused", refused.len() as f64);
    part.faults.extend(refused.into_iter().take(3));
    if dead || log.contains("panicked at") {
        part.faults
            .push(format!("the proxy did not survive:\n{log}"));
    }
    drop(rig);
    Ok(part)
}

/// The load, with something done beside it until it ends.
fn load(
    rig: &mut Rig,
    size: &Size,
    secs: f64,
    beside: impl FnOnce(Instant) -> Result<(), String>,
) -> Result<Answer, String> {
    rig.order(&format!(
        "load target=127.0.0.1:{PORT} path=/128 conns=64 rate={} gentle=1 warm=0.3 secs={secs}",
        size.rate
    ))?;
    beside(Instant::now() + Duration::from_secs_f64(secs))?;
    rig.answer()
}

fn report(part: &mut Part, name: &str, a: &Answer) {
    let secs = a.get("secs").max(1e-9);
    part.row(
        &format!("{name}: requests/s"),
        format!("{:.0}", a.get("requests") / secs),
    );
    part.row(
        &format!("{name}: p50 / p99 / longest, µs"),
        format!(
            "{:.0} / {:.0} / {:.0}",
            a.get("p50_us"),
            a.get("p99_us"),
            a.get("max_us")
        ),
    );
    part.row(
        &format!("{name}: keep-alive connections ended between requests"),
        a.get("closed"),
    );
    part.zero(
        &format!("{name}: failed requests"),
        a.get("errors") + a.get("not_200"),
    );
    part.zero(&format!("{name}: resets"), a.get("resets"));
    part.zero(&format!("{name}: never answered"), a.get("unfinished"));
    if a.get("requests") == 0.0 {
        part.faults.push(format!("{name}: no request at all"));
    }
}

/// By the command, and every third time by SIGHUP.
fn reload(narthex: &Path, work: &Path, proxy: &Served, n: usize) -> Result<(), String> {
    if n.is_multiple_of(3) {
        proxy.signal("HUP");
        return Ok(());
    }
    let admin = format!("unix:{}/admin.sock", work.display());
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(narthex)
        .args(["reload", "--admin", &admin])
        .output()
        .map_err(|e| e.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "reload {n}: {status}: {}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        ))
    }
}

/// Downloads slowly, over and over, every byte compared; says how many were whole.
fn download(
    address: SocketAddr,
    size: Size,
    stop: &'static AtomicBool,
) -> JoinHandle<Result<u64, String>> {
    const PIECE: usize = 16 << 10;
    std::thread::spawn(move || {
        let whole = AtomicU64::new(0);
        while !stop.load(Ordering::Relaxed) {
            let mut client = Client::connect(address).map_err(|e| e.to_string())?;
            let request = format!("GET /{} HTTP/1.1\r\nHost: soak\r\n\r\n", size.download);
            client.send(request.as_bytes()).map_err(|e| e.to_string())?;
            let head = client.head().map_err(|e| e.to_string())?;
            if head.status != 200 {
                return Err(format!("status {}", head.status));
            }
            let pieces = (head.length / PIECE as u64).max(1);
            let gap = Duration::from_secs_f64(size.download_secs / pieces as f64);
            let mut at = 0_usize;
            client
                .body(head.length, PIECE, |bytes| {
                    let fine = bytes
                        .iter()
                        .enumerate()
                        .all(|(i, b)| usize::from(b - b'a') == (at + i) % 26);
                    at += bytes.len();
                    if !fine {
                        return Err(std::io::Error::other(format!("wrong bytes before {at}")));
                    }
                    // The pace makes it long; once the soak is over it may hurry.
                    if !stop.load(Ordering::Relaxed) {
                        sh::pause(gap);
                    }
                    Ok(())
                })
                .map_err(|e| format!("after {at} bytes: {e}"))?;
            whole.fetch_add(1, Ordering::Relaxed);
        }
        Ok(whole.into_inner())
    })
}
