//! What a connection costs that only waits.

use std::path::Path;

use super::{Part, Size, start};
use crate::rig::{self, Rig};

const PORT: u16 = 9_131;
const ORIGIN: &str = "127.0.0.1:9013";

fn config() -> String {
    format!(
        "version 1\nworkers 1\naccess-log \"off\"\nconnections max=40000 per-client=0\n\
         listen \"127.0.0.1:{PORT}\" {{\n    connections per-client=0\n    timeout keep-alive=\"1h\"\n}}\n\
         upstream \"be\" {{\n    server \"{ORIGIN}\"\n}}\nsite \"*\" {{\n    proxy \"be\"\n}}\n"
    )
}

/// Does it.
pub fn run(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("idle connections");
    let mut rig = Rig::start("", ORIGIN)?;
    let (proxy, file) = start(narthex, work, &config(), PORT)?;
    // What is allocated once per process is not a connection's: a short load first.
    rig.ask(&format!(
        "load target={} path=/128 conns=32 warm=0 count=2000",
        proxy.address
    ))?;
    let a = rig.ask(&format!(
        "idle target={} path=/128 conns={} hold=1 {}",
        proxy.address,
        size.idle,
        rig::watch(&proxy.pids())
    ))?;
    let bytes = (a.get("after_bytes") - a.get("before_bytes")) / size.idle as f64;
    part.config = file;
    part.row("connections", a.get("open"));
    part.row("bytes per connection", format!("{bytes:.0}"));
    part.row("CPU while idle, ms/s", a.get("idle_cpu_ns") / 1e6);
    part.zero("failed", a.get("errors"));
    if bytes > size.idle_bytes {
        part.faults.push(format!(
            "{bytes:.0} bytes per idle connection, at most {}",
            size.idle_bytes
        ));
    }
    Ok(part)
}
