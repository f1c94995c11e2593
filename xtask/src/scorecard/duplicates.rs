//! Ten origins, killed one after the other under POSTs: no origin, and no two of them, ever see a POST twice.
//!
//! Each origin writes a request's id down before it answers, so that a killed one has told what reached it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::http::Client;
use super::{Part, Size, start};
use crate::served::Served;
use crate::{rig, sh};

const PORT: u16 = 9_121;
const ORIGINS: u16 = 10;
const CLIENTS: usize = 32;

fn config() -> String {
    let mut servers = String::new();
    for n in 0..ORIGINS {
        let _ = writeln!(servers, "    server \"{}\"", origin(n));
    }
    format!(
        "version 1\nworkers 2\naccess-log \"off\"\nconnections per-client=0\n\
         listen \"127.0.0.1:{PORT}\" {{\n    connections per-client=0 requests=4000000000\n}}\n\
         upstream \"be\" {{\n{servers}    retry attempts=3 budget=\"100%\" on=\"connect,reset,502,503\"\n}}\n\
         site \"*\" {{\n    proxy \"be\"\n}}\n"
    )
}

fn origin(n: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9_030 + n))
}

/// What one client saw: ids by status; 0 where there was no answer.
type Seen = Vec<(String, u16)>;

/// Does it.
pub fn run(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("no request twice");
    let binary = rig::build()?;
    let mut origins = Vec::new();
    for n in 0..ORIGINS {
        origins.push(oracle(&binary, work, n)?);
    }
    let (mut proxy, file) = start(narthex, work, &config(), PORT)?;
    static STOP: AtomicBool = AtomicBool::new(false);
    STOP.store(false, Ordering::Relaxed);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| client(proxy.address, n, &STOP))
        .collect();
    let gap = Duration::from_millis(size.kill_gap);
    sh::pause(gap);
    for n in (0..ORIGINS).cycle().take(size.kills) {
        let at = usize::from(n);
        origins.remove(at).kill();
        sh::pause(gap);
        origins.insert(at, oracle(&binary, work, n)?);
    }
    sh::pause(gap);
    STOP.store(true, Ordering::Relaxed);
    let mut seen = Seen::new();
    for one in clients {
        seen.extend(one.join().map_err(|_| "a client panicked")?);
    }
    let dead = proxy.is_dead();
    let log = proxy.tail();
    proxy.stop();
    // Killed, so that what they wrote is complete.
    for one in origins {
        one.kill();
    }
    part.config = file;
    judge(&mut part, work, &seen)?;
    part.row("origins killed", size.kills);
    if dead || log.contains("panicked at") {
        part.faults
            .push(format!("the proxy did not survive:\n{log}"));
    }
    Ok(part)
}

fn judge(part: &mut Part, work: &Path, seen: &Seen) -> Result<(), String> {
    let mut times: HashMap<String, usize> = HashMap::new();
    for n in 0..ORIGINS {
        for id in sh::read(&work.join(format!("origin-{n}.ids")))?.lines() {
            *times.entry(id.to_owned()).or_default() += 1;
        }
    }
    let twice: Vec<&String> = times
        .iter()
        .filter(|(_, n)| **n > 1)
        .map(|(id, _)| id)
        .collect();
    let with = |status: u16| seen.iter().filter(|(_, s)| *s == status).count();
    let lost = seen
        .iter()
        .filter(|(id, status)| *status == 200 && !times.contains_key(id))
        .count();
    let others = seen.len() - with(200) - with(502) - with(503) - with(504) - with(0);
    part.row("POSTs sent", seen.len());
    part.row("answered 200", with(200));
    part.row("answered 502, 503, 504", with(502) + with(503) + with(504));
    part.zero("seen twice by origins", twice.len() as f64);
    part.zero("answered 200 and never seen", lost as f64);
    part.zero("not answered at all", with(0) as f64);
    part.zero("answered otherwise", others as f64);
    if with(200) == 0 {
        part.faults.push("no POST came through".into());
    }
    for id in twice.iter().take(5) {
        part.faults
            .push(format!("{id} was seen {} times", times[*id]));
    }
    Ok(())
}

fn oracle(binary: &Path, work: &Path, n: u16) -> Result<Served, String> {
    let mut command = Command::new(binary);
    command
        .args(["oracle", "--listen", &origin(n).to_string(), "--record"])
        .arg(work.join(format!("origin-{n}.ids")));
    Served::start(
        &command,
        "",
        origin(n),
        &work.join(format!("origin-{n}.log")),
    )
}

/// Posts over and over, every id once; a new connection whenever the old one ends.
fn client(address: SocketAddr, number: usize, stop: &'static AtomicBool) -> JoinHandle<Seen> {
    std::thread::spawn(move || {
        let mut seen = Seen::new();
        let mut connection: Option<Client> = None;
        while !stop.load(Ordering::Relaxed) {
            let id = format!("c{number}-{}", seen.len());
            let status = match post(address, &mut connection, &id) {
                Ok(status) => status,
                Err(_) => {
                    connection = None;
                    0
                }
            };
            seen.push((id, status));
        }
        seen
    })
}

/// One POST on the connection there is, or on a new one; the connection stays if it may be used again.
fn post(address: SocketAddr, connection: &mut Option<Client>, id: &str) -> std::io::Result<u16> {
    let mut client = match connection.take() {
        Some(client) => client,
        None => Client::connect(address)?,
    };
    let request =
        format!("POST /x HTTP/1.1\r\nHost: once\r\nX-Id: {id}\r\nContent-Length: 5\r\n\r\nhello");
    client.send(request.as_bytes())?;
    let head = client.head()?;
    client.body(head.length, 4096, |_| Ok(()))?;
    *connection = (!head.closing).then_some(client);
    Ok(head.status)
}
