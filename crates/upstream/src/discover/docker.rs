//! Containers of a Docker engine, by their label `narthex.upstream`.
//!
//! The engine's events are listened to, and whatever they say, the list of containers is fetched anew: only the list says
//! networks, ports and health, and it is right even if an event was missed. Containers that run and are healthy, or have no
//! health check, are servers. One that the engine finds unhealthy is left out: it gets no new request, and those under way
//! go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use narthex_config::model::{Server, ServerAddress};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::delta::Delta;
use super::http::{Api, Ask, encoded};
use super::names::Names;
use super::sink::{Sink, Skipped};
use super::source::{Found, place, server};

/// Longest line of the engine's events, in bytes. It has all labels of a container.
const MAX_EVENT: usize = 1 << 20;
/// A look without being told: an engine does not say by label that a container has got another network.
const LOOK: Duration = Duration::from_mins(1);
/// After being told: several changes come together.
const SETTLE: Duration = Duration::from_millis(100);
const ENDED: &str = "the engine's events have ended";
/// Label whose value is the service.
const SERVICE: &str = "narthex.upstream";
/// Beginning of our labels.
const OURS: &str = "narthex.";

/// An engine, and what is wanted of it.
pub(super) struct Engine {
    api: Api,
    service: String,
    network: Option<String>,
    port: Option<u16>,
}

impl Engine {
    pub(super) fn new(
        names: Rc<Names>,
        socket: PathBuf,
        service: String,
        network: Option<String>,
        port: Option<u16>,
    ) -> Self {
        Self {
            api: Api::new(names, ServerAddress::Unix(socket)),
            service,
            network,
            port,
        }
    }

    /// Until the engine, or our way to it, fails.
    pub(super) async fn follow(&self, sink: &mut Sink) -> Result<(), String> {
        let label = format!("{SERVICE}={}", self.service);
        let filters = json!({
            "type": ["container"],
            "label": [&label],
            "event": ["start", "die", "pause", "unpause", "health_status"],
        });
        // Listened to before it is looked at, so that no change falls between.
        let mut events = self.api.lines(ask("/events", &filters), MAX_EVENT).await?;
        loop {
            let list = ask("/containers/json", &json!({ "label": [&label] }));
            let list = self.api.whole(list, Duration::ZERO).await?;
            let found = self.containers(&list.body)?;
            sink.left_out(found.left_out);
            sink.take(Delta::Snapshot(found.servers));

            if let Ok(event) = timeout(LOOK, events.next()).await {
                event?.ok_or(ENDED)?;
                let settled = Instant::now() + SETTLE;
                while let Ok(event) = timeout_at(settled, events.next()).await {
                    event?.ok_or(ENDED)?;
                }
            }
        }
    }

    /// What a list of containers says.
    fn containers(&self, list: &[u8]) -> Result<Found, String> {
        let list: Vec<Value> = serde_json::from_slice(list)
            .map_err(|error| format!("the list of containers is no JSON array: {error}"))?;
        let mut found = Found::default();
        for (index, container) in list.into_iter().enumerate() {
            match Container::deserialize(container) {
                Ok(container) if container.is_candidate() => {
                    let said = self.server(&container).map_err(|(reason, why)| Skipped {
                        reason,
                        entry: container.name(),
                        why,
                    });
                    found.say(container.id, said);
                }
                Ok(_) => {}
                Err(error) => found.left_out.push(Skipped {
                    reason: "invalid",
                    entry: format!("container {}", index + 1),
                    why: format!("this is no description of a container: {error}"),
                }),
            }
        }
        Ok(found)
    }

    fn server(&self, container: &Container) -> Result<Server, (&'static str, String)> {
        if container.is_unhealthy() {
            let why = "the engine finds the container unhealthy".to_owned();
            return Err(("unhealthy", why));
        }
        let invalid = |why| ("invalid", why);
        let host = self.host(container).map_err(|why| ("no-address", why))?;
        let port = self.port(container).map_err(invalid)?;
        let properties = container.properties().map_err(invalid)?;
        server(place(&host, port), properties).map_err(invalid)
    }

    /// Its address in the network that is meant.
    fn host(&self, container: &Container) -> Result<String, String> {
        let networks = &container.settings.networks;
        let all = || {
            networks
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (name, network) = match &self.network {
            Some(name) => networks.get_key_value(name).ok_or_else(|| {
                format!(
                    "the container is not in the network {name}, but in: {}",
                    all()
                )
            })?,
            None if networks.len() > 1 => {
                return Err(format!(
                    "the container is in several networks: say network= with one of {}",
                    all()
                ));
            }
            None => networks
                .first_key_value()
                .ok_or("the container is in no network")?,
        };
        let network = network.as_ref();
        let known = [network.map(|n| &n.v4), network.map(|n| &n.v6)];
        match known
            .into_iter()
            .flatten()
            .flatten()
            .find(|ip| !ip.is_empty())
        {
            Some(ip) => Ok(ip.clone()),
            // It has the machine's own.
            None if name == "host" => Ok("127.0.0.1".to_owned()),
            None => Err(format!(
                "the container has no address in the network {name}"
            )),
        }
    }

    /// As its label says, or the configuration, or the only one that it exposes.
    fn port(&self, container: &Container) -> Result<u64, String> {
        if let Some(label) = container.labels.get("narthex.port") {
            let port = label.parse().ok().filter(|p| (1..=65_535).contains(p));
            return port.ok_or_else(|| {
                format!(
                    "the label narthex.port=\"{label}\" is no port: write a number from 1 to 65535"
                )
            });
        }
        if let Some(port) = self.port {
            return Ok(port.into());
        }
        let exposed: BTreeSet<u64> = container
            .ports
            .iter()
            .filter(|p| p.kind == "tcp")
            .map(|p| p.private)
            .collect();
        match (exposed.first(), exposed.len()) {
            (Some(port), 1) => Ok(*port),
            (_, n) => Err(format!(
                "the container exposes {n} ports: say which by the label narthex.port, or port="
            )),
        }
    }
}

fn ask(what: &str, filters: &Value) -> Ask {
    Ask::get(format!("{what}?filters={}", encoded(&filters.to_string())))
}

/// What we read of a container. The engine writes `null` for what is empty.
#[derive(Debug, Deserialize)]
struct Container {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Names", default, deserialize_with = "or_null")]
    names: Vec<String>,
    #[serde(rename = "State", default)]
    state: String,
    /// For people: `Up 3 minutes (healthy)`.
    #[serde(rename = "Status", default)]
    status: String,
    #[serde(rename = "Labels", default, deserialize_with = "or_null")]
    labels: BTreeMap<String, String>,
    #[serde(rename = "Ports", default, deserialize_with = "or_null")]
    ports: Vec<Port>,
    #[serde(rename = "NetworkSettings", default, deserialize_with = "or_null")]
    settings: Settings,
}

#[derive(Debug, Deserialize)]
struct Port {
    #[serde(rename = "PrivatePort")]
    private: u64,
    #[serde(rename = "Type", default)]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(rename = "Networks", default, deserialize_with = "or_null")]
    networks: BTreeMap<String, Option<Network>>,
}

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(rename = "IPAddress", default)]
    v4: Option<String>,
    #[serde(rename = "GlobalIPv6Address", default)]
    v6: Option<String>,
}

fn or_null<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Container {
    /// It runs, and its health check has not yet to begin.
    fn is_candidate(&self) -> bool {
        self.state == "running" && !self.status.ends_with("(health: starting)")
    }

    fn is_unhealthy(&self) -> bool {
        self.status.ends_with("(unhealthy)")
    }

    /// For people.
    fn name(&self) -> String {
        match self.names.first() {
            Some(name) => name.trim_start_matches('/').to_owned(),
            None => self.id.chars().take(12).collect(),
        }
    }

    /// What its other labels of ours say.
    fn properties(&self) -> Result<Map<String, Value>, String> {
        let mut properties = Map::new();
        for (label, text) in &self.labels {
            let Some(name) = label.strip_prefix(OURS) else {
                continue;
            };
            let value = match (name, text.as_str()) {
                ("upstream" | "port", _) => continue,
                ("weight" | "priority", text) => match text.parse::<u32>() {
                    Ok(number) => number.into(),
                    Err(_) => return Err(format!("the label {label}=\"{text}\" is no number")),
                },
                ("backup", "true") => true.into(),
                ("backup", "false") => false.into(),
                ("backup", text) => {
                    return Err(format!(
                        "the label {label}=\"{text}\" is neither true nor false"
                    ));
                }
                ("zone", text) => text.into(),
                _ => {
                    return Err(format!(
                        "the label {label} is not known: there are narthex.upstream, port, weight, priority, backup, zone"
                    ));
                }
            };
            properties.insert(name.to_owned(), value);
        }
        Ok(properties)
    }
}

#[cfg(test)]
mod tests;
