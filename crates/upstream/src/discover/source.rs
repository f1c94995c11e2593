//! One list of servers that is kept elsewhere.

use std::rc::Rc;
use std::time::{Duration, Instant};

use narthex_config::model::{Discover, Server};
use narthex_config::servers;
use serde_json::Value;

use super::backoff::Backoff;
use super::names::Names;
use super::sink::{Sink, Skipped};
use super::{consul, docker, etcd, file};

/// A conversation that took so long was a good one: after its end it is begun anew soon.
const GOOD: Duration = Duration::from_secs(30);

/// Follows a list for as long as it is polled.
pub(super) async fn run(names: Rc<Names>, list: Discover, mut sink: Sink) {
    match list {
        Discover::File { path } => file::run(path, sink).await,
        Discover::Docker {
            socket,
            service,
            network,
            port,
        } => {
            let engine = docker::Engine::new(names, socket, service, network, port);
            keep(&mut sink, async |sink| engine.follow(sink).await).await;
        }
        Discover::Consul {
            address,
            service,
            tag,
            datacenter,
            token,
        } => {
            let agent = consul::Agent::new(names, address, &service, tag, datacenter, token);
            keep(&mut sink, async |sink| agent.follow(sink).await).await;
        }
        Discover::Etcd {
            address,
            prefix,
            login,
        } => {
            let store = etcd::Store::new(names, address, &prefix, login);
            keep(&mut sink, async |sink| store.follow(sink).await).await;
        }
    }
}

/// Begins a conversation with a source anew whenever it ends: at once when it was a good one that had its time, else later
/// and later. `Err` says what is wrong with the source, which takes no server away.
async fn keep(sink: &mut Sink, mut converse: impl AsyncFnMut(&mut Sink) -> Result<(), String>) {
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let ended = converse(sink).await;
        let good = began.elapsed() >= GOOD;
        if good {
            backoff.reset();
        }
        if let Err(why) = &ended {
            sink.lost(why);
        }
        if ended.is_err() || !good {
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

/// What a source says of many servers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// By the source's own keys.
    pub(super) servers: Vec<(String, Server)>,
    pub(super) left_out: Vec<Skipped>,
}

impl Found {
    pub(super) fn say(&mut self, key: String, server: Result<Server, Skipped>) {
        match server {
            Ok(server) => self.servers.push((key, server)),
            Err(skipped) => self.left_out.push(skipped),
        }
    }
}

/// A server with these properties, as a list of servers in JSON would have it.
pub(super) fn server(
    address: String,
    properties: serde_json::Map<String, Value>,
) -> Result<Server, String> {
    let mut entry = properties;
    entry.insert("address".to_owned(), Value::String(address));
    servers::entry(&Value::Object(entry))
}

/// `host:port`, with the brackets that an IPv6 address wants.
pub(super) fn place(host: &str, port: u64) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}
