//! What was found, as data: another process goes on with it, even if the source does not answer there.

use narthex_config::model::{Discover, ServerAddress};
use narthex_config::servers;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cluster, Named};
use crate::discover::delta::Delta;
use crate::discover::srv::Place;

/// A name's last good answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SavedName {
    name: String,
    port: Option<u16>,
    srv: bool,
    places: Vec<Place>,
}

impl SavedName {
    fn of(name: &ServerAddress, named: &Named) -> Option<Self> {
        let (name, port, srv) = match name {
            ServerAddress::Dns { host, port } => (host, Some(*port), false),
            ServerAddress::Srv { name, port } => (name, *port, true),
            ServerAddress::Ip(_) | ServerAddress::Unix(_) => return None,
        };
        (!named.places.is_empty()).then(|| Self {
            name: name.clone(),
            port,
            srv,
            places: named.places.clone(),
        })
    }

    fn address(&self) -> ServerAddress {
        let name = self.name.clone();
        if self.srv {
            return ServerAddress::Srv {
                name,
                port: self.port,
            };
        }
        ServerAddress::Dns {
            host: name,
            port: self.port.unwrap_or_default(),
        }
    }
}

/// What a list said last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SavedList {
    /// The list as configured, secrets by their references.
    list: Value,
    /// Servers by the source's keys, as a list in JSON has them.
    servers: Vec<(String, Value)>,
}

impl Cluster {
    /// The last answers of name servers, for another process.
    pub(crate) fn save_names(&self) -> Vec<SavedName> {
        let source = self.source();
        let names = source.found.names.iter();
        let mut saved: Vec<SavedName> = names.filter_map(|(n, of)| SavedName::of(n, of)).collect();
        saved.sort_by(|a, b| (&a.name, a.port).cmp(&(&b.name, b.port)));
        saved
    }

    /// Takes over what another process has heard.
    pub(crate) fn restore_name(&self, saved: &SavedName) {
        self.resolved(&saved.address(), saved.places.clone());
    }

    /// What lists said last, for another process.
    pub(crate) fn save_lists(&self) -> Vec<SavedList> {
        let source = self.source();
        let said = source.found.lists.iter().filter(|l| l.entries.len() > 0);
        said.map(|list| SavedList {
            list: written(&list.spec),
            servers: list
                .entries
                .iter()
                .map(|(key, server)| (key.clone(), servers::plain(server)))
                .collect(),
        })
        .collect()
    }

    /// Takes over what another process has heard, until the source says something itself.
    pub(crate) fn restore_list(&self, saved: &SavedList) {
        let lists = self.lists();
        let Some(spec) = lists.iter().find(|spec| written(spec) == saved.list) else {
            return;
        };
        // One that this version does not understand is left out, like any other.
        let server =
            |(key, plain): &(String, Value)| Some((key.clone(), servers::entry(plain).ok()?));
        let servers = saved.servers.iter().filter_map(server).collect();
        self.found(spec, Delta::Snapshot(servers));
    }
}

fn written(spec: &Discover) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}
