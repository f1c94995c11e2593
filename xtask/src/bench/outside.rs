//! Load generators of others, for what the rig does not speak: `h2load` for HTTP/2, `wrk` for TLS.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::peers::{GRPC, Peer};
use super::scenario::Scenario;
use crate::procfs;
use crate::rig::Answer;
use crate::served::{self, Served};
use crate::{apt, sh};

/// A message of gRPC of seven bytes.
const MESSAGE: &str = "\0\0\0\0\x07message";

/// `h2load` warms up for so long before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Makes sure that the generators are there.
pub fn prepare(scenarios: &[Scenario]) -> Result<(), String> {
    if scenarios.iter().any(|s| s.order.starts_with("h2load")) {
        apt::ensure(&[("h2load", "nghttp2-client")])?;
    }
    if scenarios.iter().any(|s| s.order.starts_with("wrk")) {
        apt::ensure(&[("wrk", "wrk")])?;
    }
    Ok(())
}

/// Makes the certificate that the configurations name.
pub fn certificate(work: &Path) -> Result<(), String> {
    apt::ensure(&[("openssl", "openssl")])?;
    let (cert, key) = (work.join("cert.pem"), work.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext"])
        .arg("subjectAltName=DNS:localhost,IP:127.0.0.1")
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert);
    sh::output(&mut openssl)?;
    // HAProxy wants both in one file.
    let both = [sh::read(&cert)?, sh::read(&key)?].concat();
    sh::write(&work.join("both.pem"), &both)?;
    for file in ["key.pem", "both.pem"] {
        sh::output(Command::new("chmod").arg("600").arg(work.join(file)))?;
    }
    Ok(())
}

/// A server that answers every call of gRPC with one message: nghttp2's, on the core of the load generator.
pub fn grpc_server(work: &Path) -> Result<Served, String> {
    apt::ensure(&[("nghttpd", "nghttp2-server")])?;
    let dir = work.join("grpc").join("bench.Echo");
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    sh::write(&dir.join("Say.grpc"), MESSAGE)?;
    let types = work.join("mime.types");
    sh::write(&types, "application/grpc grpc\n")?;
    sh::write(&work.join("call"), MESSAGE)?;
    let address = GRPC.parse().map_err(|e| format!("{GRPC}: {e}"))?;
    let mut nghttpd = Command::new("nghttpd");
    nghttpd
        .args(["--no-tls", "--trailer", "grpc-status: 0", "--htdocs"])
        .arg(work.join("grpc"))
        .arg("--mime-types-file")
        .arg(&types)
        .arg("9005");
    Served::start(&nghttpd, "0", address, &work.join("nghttpd.log"))
}

/// One round.
pub fn one(
    peer: Peer,
    proxy: &Served,
    s: &Scenario,
    (dur, work): (f64, &Path),
) -> Result<Answer, String> {
    let get = |key: &str| {
        let mut words = s.order.split_whitespace();
        words.find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    };
    let need = |key: &str| get(key).ok_or_else(|| format!("`{}` has no {key}", s.order));
    let to = need("to")?;
    let (scheme, port) = match to {
        "tls" => ("https", peer.address().port() + 10),
        _ => ("http", peer.address().port() + 20),
    };
    let url = format!("{scheme}://127.0.0.1:{port}{}", need("path")?);
    let secs = dur.max(1.0).ceil();
    let mut command;
    let warm = s.order.starts_with("h2load");
    if warm {
        command = Command::new("h2load");
        command
            .args(["-t1", "-c", need("conns")?, "-m", need("streams")?])
            .args(["-D", &secs.to_string(), "--warm-up-time=1"]);
        if s.grpc {
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
            command.arg("-d").arg(work.join("call"));
        }
    } else {
        command = Command::new("wrk");
        command
            .args(["-t1", "-c", need("conns")?, "-d", &format!("{secs}s")])
            .arg("--latency");
        if get("close").is_some() {
            command.args(["-H", "Connection: close"]);
        }
    }
    command.arg(url);
    let pids = proxy.pids();
    let cpu = || -> u64 { procfs::thread_times(&pids).iter().map(|(_, ns)| ns).sum() };
    let child = served::pin(&command, "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", sh::said(&command)))?;
    if warm {
        sh::pause(WARM_UP);
    }
    let (before, begun) = (cpu(), Instant::now());
    let ended = |child: Child| child.wait_with_output().map_err(|e| e.to_string());
    let (output, spent, took);
    if warm {
        // It goes on to report when its window is over.
        sh::pause(Duration::from_secs_f64(secs));
        (spent, took) = (cpu().saturating_sub(before), begun.elapsed());
        output = ended(child)?;
    } else {
        output = ended(child)?;
        (spent, took) = (cpu().saturating_sub(before), begun.elapsed());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let seen = if warm { h2load(&text) } else { wrk(&text) };
    let (mut requests, errors) =
        seen.ok_or_else(|| format!("{} said: {text}", sh::said(&command)))?;
    if warm {
        // Its own window and ours are not the same to the millisecond.
        requests *= took.as_secs_f64() / secs;
    }
    Ok(Answer::of(&[
        ("requests", requests),
        ("errors", errors),
        ("cpu_ns", spent as f64),
        ("secs", took.as_secs_f64()),
    ]))
}

/// Requests that succeeded, and those that did not.
fn h2load(text: &str) -> Option<(f64, f64)> {
    let line = text.lines().find_map(|l| l.strip_prefix("requests: "))?;
    let number = |word: &str| {
        let part = line.split(", ").find_map(|p| p.strip_suffix(word))?;
        part.trim().parse::<f64>().ok()
    };
    Some((number("succeeded")?, number("failed")?))
}

/// The same.
fn wrk(text: &str) -> Option<(f64, f64)> {
    let requests = text.lines().find_map(|l| {
        let (n, rest) = l.trim().split_once(' ')?;
        rest.starts_with("requests in")
            .then(|| n.parse::<f64>().ok())?
    })?;
    let bad = text
        .lines()
        .find_map(|l| l.trim().strip_prefix("Non-2xx or 3xx responses: "));
    Some((requests, bad.and_then(|n| n.parse().ok()).unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn their_words_are_understood() {
        let said = "finished in 2.00s\nrequests: 100 total, 100 started, 90 done, 88 succeeded, 2 failed, 0 errored, 0 timeout\n";
        assert_eq!(h2load(said), Some((88.0, 2.0)));
        let said = "  1234 requests in 2.00s, 1MB read\n  Non-2xx or 3xx responses: 7\n";
        assert_eq!(wrk(said), Some((1234.0, 7.0)));
        assert_eq!(wrk("nothing"), None);
    }
}
