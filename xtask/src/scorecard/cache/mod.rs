//! The cache under much of something: clients at once, purges, objects.

pub mod many;
pub mod stampede;
pub mod storm;

use std::path::Path;

use super::Part;
use crate::rig::{Answer, Rig};

/// One worker, which has core 1; the generator has core 0.
const PROXY_CORE: &str = "1";
const RIG_CORE: &str = "0";

/// A proxy of one origin whose answers are kept; `top` and `site` are more lines of the file and of the site.
fn config(work: &Path, (port, origin): (u16, &str), top: &str, site: &str) -> String {
    format!(
        "version 1\naccess-log \"off\"\nadmin \"unix:{}/admin.sock\"\nconnections max=40000 per-client=0\n{top}\
         listen \"127.0.0.1:{port}\" {{\n    backlog 4096\n    connections per-client=0 requests=4000000000\n    \
         timeout keep-alive=\"1h\"\n}}\n\
         upstream \"be\" {{\n    server \"{origin}\"\n    connections idle=10000\n    timeout idle=\"1h\"\n}}\n\
         site \"*\" {{\n{site}    proxy \"be\"\n}}\n",
        work.display()
    )
}

/// Requests that the origin has had.
fn asked(origin: &mut Rig) -> Result<u64, String> {
    Ok(origin.ask("asked")?.get("asked") as u64)
}

/// Nothing failed, was answered otherwise, or was never answered.
fn all_answered(part: &mut Part, what: &str, a: &Answer) {
    let bad = a.get("errors") + a.get("not_200") + a.get("unfinished") + a.get("closed");
    if bad > 0.0 || a.get("requests") == 0.0 {
        part.faults.push(format!("{what}: {}", a.json()));
    }
}

/// Times as milliseconds.
fn times_ms(a: &Answer, names: &[&str]) -> String {
    let one = |name: &&str| format!("{:.1}", a.get(name) / 1e3);
    names.iter().map(one).collect::<Vec<_>>().join(" / ")
}

/// CPU of the proxy per request, µs.
fn cpu_us(a: &Answer) -> f64 {
    a.get("cpu_ns") / 1e3 / a.get("requests").max(1.0)
}
