//! The overlay as data that outlives the process: a binary upgrade hands it to the new one. Unknown fields are passed over
//! and missing ones are as new, so that two versions of the program understand each other.

use narthex_config::model::{Order, Server, ServerAddress};
use serde::{Deserialize, Serialize};

use super::{Laid, MAX_CHANGES, Overlay, check_place, check_weight, entry, word};

/// Everything that the operator has changed of one upstream. Times are those of the machine's monotonic clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedChanges {
    added: Vec<SavedServer>,
    laid: Vec<SavedLaid>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SavedServer {
    name: String,
    weight: u32,
    backup: bool,
    priority: u8,
    zone: Option<String>,
    order: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct SavedLaid {
    name: String,
    removed: bool,
    weight: Option<u32>,
    order: Option<String>,
    until: Option<u64>,
    /// The server is one of the configuration's.
    written: bool,
}

impl SavedServer {
    pub(crate) fn of(server: &Server) -> Self {
        Self {
            name: server.name.clone(),
            weight: server.weight,
            backup: server.backup,
            priority: server.priority,
            zone: server.zone.clone(),
            order: word(server.order).to_owned(),
        }
    }

    /// `None` if it cannot be.
    pub(crate) fn server(&self) -> Option<Server> {
        let address = ServerAddress::parse(&self.name).ok()?;
        let mut server = Server::new(&self.name, address);
        server.weight = self.weight;
        server.backup = self.backup;
        server.priority = self.priority;
        server.zone.clone_from(&self.zone);
        server.order = order(&self.order)?;
        (check_weight(server.weight).is_ok() && check_place(&server).is_ok()).then_some(server)
    }
}

impl Overlay {
    /// As data, by a process whose configuration has these servers.
    pub fn save(&self, written: &[Server]) -> SavedChanges {
        let added = self.added.iter().map(SavedServer::of);
        let laid = self.laid.iter().map(|(name, laid)| SavedLaid {
            name: name.clone(),
            removed: laid.removed,
            weight: laid.weight,
            order: laid.order.map(|(order, _)| word(order).to_owned()),
            until: laid.order.and_then(|(_, until)| until),
            written: has(written, name),
        });
        SavedChanges {
            added: added.collect(),
            laid: laid.collect(),
        }
    }

    /// From data, for a configuration with these servers; what is not understood is left out. So is what is said of a server
    /// that the other process's configuration had and this one has not: it would be found changed should it ever come back.
    pub fn restore(saved: &SavedChanges, written: &[Server]) -> Self {
        let laid = |from: &SavedLaid| {
            let ordered = from.order.as_deref().and_then(order);
            if from.written && !has(written, &from.name) {
                return None;
            }
            let laid = Laid {
                removed: from.removed,
                weight: from.weight.filter(|weight| check_weight(*weight).is_ok()),
                order: ordered.map(|order| (order, from.until)),
            };
            (laid != Laid::default()).then(|| (from.name.clone(), laid))
        };
        Self {
            added: saved
                .added
                .iter()
                .filter_map(SavedServer::server)
                .take(MAX_CHANGES)
                .collect(),
            laid: saved
                .laid
                .iter()
                .filter_map(laid)
                .take(MAX_CHANGES)
                .collect(),
        }
    }
}

/// Is the server, or the one that this address belongs to, among these?
fn has(servers: &[Server], name: &str) -> bool {
    servers
        .iter()
        .any(|server| server.name == name || server.name == entry(name))
}

fn order(text: &str) -> Option<Order> {
    [Order::Ready, Order::Drain, Order::Down]
        .into_iter()
        .find(|order| word(*order) == text)
}
