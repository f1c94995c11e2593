//! The bench rig: a load generator and an origin in **one** single-threaded epoll loop, so that together they take one core
//! and the proxy under test has the other for itself.
//!
//! `rig load [--origin ADDR]` takes commands on standard input, one per line, and answers each with one line of
//! `key=value` pairs (times in microseconds or nanoseconds, as the key says):
//!
//! ```text
//! load target=ADDR path=/128 conns=64 secs=2 [warm=0.5] [count=N] [rate=N] [gentle=1] [fresh=1] [post=BYTES] [steps=1] [watch=PID,PID]
//!      [keys=N] [shuffle=1]       `%` in the path is a number below N then, in turn or by chance
//! idle target=ADDR path=/128 conns=9000 hold=3 [watch=PID,PID]
//! burst target=ADDR path=/128 conns=10000 [watch=PID,PID]   every connection is open before all ask, once, as fast as they can be sent
//! asked                           requests that the origin has had
//! ```
//!
//! `rig oracle --listen ADDR --record FILE` is an origin that writes down the `X-Id` of every request before it answers.

mod client;
mod hist;
mod http;
mod load;
mod oracle;
mod origin;
mod poll;
mod watch;
mod world;

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::process::ExitCode;

/// Options after the mode: `--name value`.
fn options() -> HashMap<String, String> {
    let mut words = std::env::args().skip(2);
    let mut out = HashMap::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        out.insert(name.trim_start_matches("--").to_owned(), value);
    }
    out
}

fn start() -> Result<(), String> {
    let options = options();
    let address = |name: &str| -> Result<SocketAddrV4, String> {
        options
            .get(name)
            .ok_or(format!("--{name} is missing"))?
            .parse()
            .map_err(|_| format!("--{name} wants an IPv4 address and port"))
    };
    watch::raise_open_files();
    match std::env::args().nth(1).as_deref() {
        Some("load") => {
            let origin = if options.contains_key("origin") {
                Some(address("origin")?)
            } else {
                None
            };
            world::serve(origin)
        }
        Some("oracle") => oracle::serve(
            address("listen")?,
            options.get("record").ok_or("--record is missing")?,
        ),
        _ => Err("usage: rig load [--origin ADDR] | rig oracle --listen ADDR --record FILE".into()),
    }
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("rig: {why}");
            ExitCode::FAILURE
        }
    }
}
