//! The overlay as data that outlives the process: a binary upgrade hands it to the new one. Unknown fields are passed over
//! and missing ones are as new, so that two versions of the program understand each other.

use narthex_config::model::{Order, Server, ServerAddress};
use serde::{Deserialize, Serialize};

use super::{Laid, MAX_CHANGES, Overlay, word};

/// Everything that the operator has changed of one upstream. Times are those of the machine's monotonic clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedChanges {
    added: Vec<SavedServer>,
    laid: Vec<SavedLaid>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct SavedServer {
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
}

impl Overlay {
    /// As data.
    pub fn save(&self) -> SavedChanges {
        let added = self.added.iter().map(|server| SavedServer {
            name: server.name.clone(),
            weight: server.weight,
            backup: server.backup,
            priority: server.priority,
            zone: server.zone.clone(),
            order: word(server.order).to_owned(),
        });
        let laid = self.laid.iter().map(|(name, laid)| SavedLaid {
            name: name.clone(),
            removed: laid.removed,
            weight: laid.weight,
            order: laid.order.map(|(order, _)| word(order).to_owned()),
            until: laid.order.and_then(|(_, until)| until),
        });
        SavedChanges {
            added: added.collect(),
            laid: laid.collect(),
        }
    }

    /// From data; what is not understood is left out.
    pub fn restore(saved: &SavedChanges) -> Self {
        let server = |from: &SavedServer| {
            let address = ServerAddress::parse(&from.name).ok()?;
            let mut server = Server::new(&from.name, address);
            server.weight = from.weight;
            server.backup = from.backup;
            server.priority = from.priority;
            server.zone.clone_from(&from.zone);
            server.order = order(&from.order)?;
            Some(server)
        };
        let laid = |from: &SavedLaid| {
            let ordered = from.order.as_deref().and_then(order);
            let laid = Laid {
                removed: from.removed,
                weight: from.weight,
                order: ordered.map(|order| (order, from.until)),
            };
            (laid != Laid::default()).then(|| (from.name.clone(), laid))
        };
        Self {
            added: saved
                .added
                .iter()
                .filter_map(server)
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

fn order(text: &str) -> Option<Order> {
    [Order::Ready, Order::Drain, Order::Down]
        .into_iter()
        .find(|order| word(*order) == text)
}
