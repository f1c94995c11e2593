//! What the operator has changed while the process runs, laid over what is written and found. Pure; times are monotonic
//! milliseconds.
//!
//! A server is meant by the name it was written with. Where one name stands for several addresses, the name of one of
//! them (`api.internal:80 (10.0.0.1:80)`) means that one, and says more than what is said of the whole name.

mod saved;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use narthex_config::model::{Order, Server};

use crate::clock::millis;

pub use saved::SavedChanges;

/// Changes that one upstream remembers.
pub const MAX_CHANGES: usize = 1_024;
/// Largest weight.
const MAX_WEIGHT: u32 = 1_000;
/// Largest priority.
const MAX_PRIORITY: u8 = 15;
/// Longest name of a zone, in bytes.
const MAX_ZONE: usize = 1_024;

/// What the operator wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// One more server.
    Add(Server),
    /// This server is no longer used.
    Remove(String),
    /// Another weight, another order.
    Set {
        /// Its name.
        server: String,
        /// 1..=1000.
        weight: Option<u32>,
        /// What it may be used for.
        order: Option<Order>,
        /// A drain turns into `down` after so long.
        lasts: Option<Duration>,
    },
    /// Back to what is written and found.
    Reset,
}

/// Why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such server; perhaps this one was meant.
    NoServer(Option<String>),
    /// It would not do, and why.
    Conflict(String),
    /// A value cannot be, and why.
    Invalid(String),
}

/// An edit that was taken: what it was about, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The server's name; empty when it is about all.
    pub server: String,
    /// As a person reads it.
    pub before: String,
    /// The same; equal if there was nothing to do.
    pub after: String,
}

/// One difference from what is written and found.
#[derive(Debug, Clone, PartialEq)]
pub enum Drift {
    /// It is not written.
    Added(Server),
    /// It is written or found, and not used.
    Removed(String),
    /// Another weight than written.
    Weight {
        /// Its name.
        server: String,
        /// The operator's.
        weight: u32,
    },
    /// Another order than written.
    Order {
        /// Its name.
        server: String,
        /// The operator's.
        order: Order,
        /// It turns into `down` then.
        until: Option<u64>,
    },
}

/// What is said of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Laid {
    removed: bool,
    weight: Option<u32>,
    order: Option<(Order, Option<u64>)>,
}

/// Everything that the operator has changed of one upstream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay {
    added: Vec<Server>,
    laid: BTreeMap<String, Laid>,
}

/// The servers of an upstream before the overlay, and the names of what they stand for.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Written and found.
    pub servers: &'a [Server],
    /// Names of single addresses, and the address itself.
    pub addresses: &'a [(String, String)],
}

impl Overlay {
    /// Nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.laid.is_empty()
    }

    /// Servers that are neither written nor found.
    pub fn added(&self) -> &[Server] {
        &self.added
    }

    /// Is this server, or this address of it, taken away?
    pub fn is_removed(&self, server: &str, address: &str) -> bool {
        [server, address]
            .iter()
            .any(|name| self.laid.get(*name).is_some_and(|laid| laid.removed))
    }

    /// Weight and order of a server at one of its addresses.
    pub fn lay(&self, server: &Server, address: &str) -> (u32, Order) {
        let (mut weight, mut order) = (server.weight, server.order);
        for name in [server.name.as_str(), address] {
            if let Some(laid) = self.laid.get(name) {
                weight = laid.weight.unwrap_or(weight);
                order = laid.order.map_or(order, |(order, _)| order);
            }
        }
        (weight, order)
    }

    /// Does what the operator wants.
    pub fn edit(&mut self, known: Known<'_>, edit: Edit, now: u64) -> Result<Edited, Refusal> {
        // What is at its bound may still change what it has: a server that is drained must come back.
        let before = (self.len() >= MAX_CHANGES).then(|| self.clone());
        let edited = self.make(known, edit, now);
        match before {
            Some(before) if self.len() > before.len() => {
                *self = before;
                Err(Refusal::Conflict(format!(
                    "{MAX_CHANGES} changes are remembered already; write them down and reset"
                )))
            }
            _ => edited,
        }
    }

    fn len(&self) -> usize {
        self.laid.len() + self.added.len()
    }

    fn make(&mut self, known: Known<'_>, edit: Edit, now: u64) -> Result<Edited, Refusal> {
        match edit {
            Edit::Add(server) => self.add(known, server),
            Edit::Remove(server) => {
                let name = self.find(known, &server)?;
                self.remove(known, name)
            }
            Edit::Set {
                server,
                weight,
                order,
                lasts,
            } => {
                if lasts.is_some() && order != Some(Order::Drain) {
                    return Err(Refusal::Invalid(
                        "only a drain can be for a time".to_owned(),
                    ));
                }
                let name = self.find(known, &server)?;
                let until = lasts.map(|lasts| now.saturating_add(millis(lasts)));
                self.set(known, name, weight, order.map(|order| (order, until)))
            }
            Edit::Reset => {
                let before = self.summary();
                *self = Self::default();
                Ok(Edited {
                    server: String::new(),
                    before,
                    after: self.summary(),
                })
            }
        }
    }

    fn add(&mut self, known: Known<'_>, server: Server) -> Result<Edited, Refusal> {
        check_weight(server.weight)?;
        check_place(&server)?;
        let before = self.describe(known, &server.name);
        let there = self
            .servers(known)
            .find(|other| other.address == server.address)
            .cloned();
        match there {
            None => self.added.push(server.clone()),
            Some(other) if self.is_removed(&other.name, "") => {
                check_same(&other, &server)?;
                if let Some(laid) = self.laid.get_mut(&other.name) {
                    laid.removed = false;
                }
                self.say(
                    known,
                    &other.name,
                    Some(server.weight),
                    Some((server.order, None)),
                );
            }
            Some(other) => {
                return Err(Refusal::Conflict(format!(
                    "the server \"{}\" is there already",
                    other.name
                )));
            }
        }
        Ok(Edited {
            before,
            after: self.describe(known, &server.name),
            server: server.name,
        })
    }

    fn remove(&mut self, known: Known<'_>, name: String) -> Result<Edited, Refusal> {
        let before = self.describe(known, &name);
        let another = self
            .servers(known)
            .any(|other| other.name != name && !self.is_removed(&other.name, ""));
        let whole = self.servers(known).any(|other| other.name == name);
        let mut others = known.addresses.iter().map(|(other, _)| other.as_str());
        let address = others
            .clone()
            .any(|other| other != name && entry(other) != name);
        // A name that stands for nobody is no server; where nobody is one, any entry is as good as another.
        let last = if others.any(|other| other == name || entry(other) == name) {
            !address
        } else {
            whole && !another
        };
        if last {
            return Err(Refusal::Conflict(format!(
                "\"{name}\" is the last server; `down` keeps it and sends it nothing"
            )));
        }
        if let Some(at) = self.added.iter().position(|other| other.name == name) {
            self.added.remove(at);
            self.laid.retain(|of, _| *of != name && entry(of) != name);
        } else {
            self.laid.insert(
                name.clone(),
                Laid {
                    removed: true,
                    ..Laid::default()
                },
            );
        }
        Ok(Edited {
            before,
            after: self.describe(known, &name),
            server: name,
        })
    }

    fn set(
        &mut self,
        known: Known<'_>,
        name: String,
        weight: Option<u32>,
        order: Option<(Order, Option<u64>)>,
    ) -> Result<Edited, Refusal> {
        if let Some(weight) = weight {
            check_weight(weight)?;
        }
        let whole = self.named(known, &name).map_or("", |server| &server.name);
        if self.is_removed(whole, &name) {
            return Err(Refusal::Conflict(format!(
                "\"{name}\" is removed; add it again first"
            )));
        }
        let before = self.describe(known, &name);
        self.say(known, &name, weight, order);
        Ok(Edited {
            before,
            after: self.describe(known, &name),
            server: name,
        })
    }

    /// Notes what is said of a server, as far as it is not what is written.
    fn say(
        &mut self,
        known: Known<'_>,
        name: &str,
        weight: Option<u32>,
        order: Option<(Order, Option<u64>)>,
    ) {
        let base = self.named(known, name).map(|server| {
            // What is said of the whole name is the base of what is said of one address.
            if server.name == name {
                return (server.weight, server.order);
            }
            self.lay(server, "")
        });
        let laid = self.laid.entry(name.to_owned()).or_default();
        laid.weight = weight.or(laid.weight);
        laid.order = order.or(laid.order);
        if let Some((weight, order)) = base {
            laid.settle(weight, order);
        }
        if *laid == Laid::default() {
            self.laid.remove(name);
        }
    }

    /// Takes note of what is written now: what it says itself is no change any more, and what is no longer written has
    /// nothing left to change.
    pub fn settle(&mut self, before: &[Server], written: &[Server]) {
        let named = |list: &[Server], name: &str| list.iter().position(|s| s.name == name);
        let (stay, come): (Vec<_>, Vec<_>) = std::mem::take(&mut self.added)
            .into_iter()
            .partition(|added| !written.iter().any(|s| s.address == added.address));
        self.added = stay;
        for server in come {
            let Some(now) = written.iter().find(|s| s.address == server.address) else {
                continue;
            };
            let laid = self.laid.remove(&server.name).unwrap_or_default();
            let laid = Laid {
                removed: false,
                weight: laid.weight.or(Some(server.weight)),
                order: laid.order.or(Some((server.order, None))),
            };
            self.laid.insert(now.name.clone(), laid);
        }
        self.laid.retain(|name, laid| {
            match named(written, name) {
                Some(at) => {
                    if let Some(server) = written.get(at) {
                        laid.settle(server.weight, server.order);
                    }
                }
                None if named(before, entry(name)).is_some()
                    && named(written, entry(name)).is_none() =>
                {
                    return false;
                }
                None => {}
            }
            *laid != Laid::default()
        });
    }

    /// Turns drains whose time is over into `down`: whose. And when the next one is over.
    pub fn expire(&mut self, now: u64) -> (Vec<String>, Option<u64>) {
        let mut over = Vec::new();
        let mut next = None;
        for (name, laid) in &mut self.laid {
            match laid.order {
                Some((_, Some(until))) if until <= now => {
                    laid.order = Some((Order::Down, None));
                    over.push(name.clone());
                }
                Some((_, Some(until))) => {
                    next = Some(next.map_or(until, |soonest: u64| soonest.min(until)));
                }
                _ => {}
            }
        }
        (over, next)
    }

    /// What differs, by server.
    pub fn drift(&self) -> Vec<Drift> {
        let mut lines: Vec<Drift> = self.added.iter().cloned().map(Drift::Added).collect();
        for (name, laid) in &self.laid {
            if laid.removed {
                lines.push(Drift::Removed(name.clone()));
            }
            if let Some(weight) = laid.weight {
                lines.push(Drift::Weight {
                    server: name.clone(),
                    weight,
                });
            }
            if let Some((order, until)) = laid.order {
                lines.push(Drift::Order {
                    server: name.clone(),
                    order,
                    until,
                });
            }
        }
        lines
    }

    /// Every server before removals.
    fn servers<'a>(&'a self, known: Known<'a>) -> impl Iterator<Item = &'a Server> {
        known.servers.iter().chain(&self.added)
    }

    /// The server of this name, or that the address of this name belongs to.
    fn named<'a>(&'a self, known: Known<'a>, name: &str) -> Option<&'a Server> {
        let of = |name: &str| self.servers(known).find(|server| server.name == name);
        of(name).or_else(|| of(entry(name)))
    }

    /// The full name of what the operator means: a server, or one of its addresses by name or by address alone.
    fn find(&self, known: Known<'_>, meant: &str) -> Result<String, Refusal> {
        if let Some(server) = self.servers(known).find(|server| server.name == meant) {
            return Ok(server.name.clone());
        }
        let mut addresses = known
            .addresses
            .iter()
            .filter(|(name, address)| name == meant || address == meant);
        if let (Some((name, _)), None) = (addresses.next(), addresses.next()) {
            return Ok(name.clone());
        }
        let names = self.servers(known).map(|server| server.name.as_str());
        let near = narthex_config::problem::did_you_mean(meant, names);
        Err(Refusal::NoServer(near.map(str::to_owned)))
    }

    /// A server in a few words.
    fn describe(&self, known: Known<'_>, name: &str) -> String {
        match self.named(known, name) {
            Some(server) if !self.is_removed(&server.name, name) => {
                let (weight, order) = self.lay(server, name);
                format!("{}, weight {weight}", word(order))
            }
            _ => "absent".to_owned(),
        }
    }

    fn summary(&self) -> String {
        match self.drift().len() {
            0 => "no changes".to_owned(),
            1 => "1 change".to_owned(),
            n => format!("{n} changes"),
        }
    }
}

impl Laid {
    /// Forgets what is written anyway.
    fn settle(&mut self, weight: u32, order: Order) {
        if self.weight == Some(weight) {
            self.weight = None;
        }
        if self.order == Some((order, None)) {
            self.order = None;
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer(None) => f.write_str("the upstream has no such server"),
            Self::NoServer(Some(near)) => {
                write!(
                    f,
                    "the upstream has no such server; did you mean \"{near}\"?"
                )
            }
            Self::Conflict(why) | Self::Invalid(why) => f.write_str(why),
        }
    }
}

fn check_weight(weight: u32) -> Result<(), Refusal> {
    if (1..=MAX_WEIGHT).contains(&weight) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "a weight is 1 to {MAX_WEIGHT}; to send nothing, use the state \"drain\" or \"down\""
    )))
}

fn check_place(server: &Server) -> Result<(), Refusal> {
    if server.priority > MAX_PRIORITY {
        return Err(Refusal::Invalid(format!(
            "a priority is 0 to {MAX_PRIORITY}; a lower one comes first"
        )));
    }
    let zone = server.zone.as_deref().unwrap_or_default();
    if zone.len() > MAX_ZONE || zone.chars().any(char::is_control) {
        return Err(Refusal::Invalid(
            "this zone has control characters or is too long".to_owned(),
        ));
    }
    Ok(())
}

/// A server that is written takes its place as it is written.
fn check_same(written: &Server, wanted: &Server) -> Result<(), Refusal> {
    let other = [
        ("backup", wanted.backup && !written.backup),
        (
            "priority",
            wanted.priority != 0 && wanted.priority != written.priority,
        ),
        ("zone", wanted.zone.is_some() && wanted.zone != written.zone),
    ];
    match other.iter().find(|(_, other)| *other) {
        Some((what, _)) => Err(Refusal::Conflict(format!(
            "\"{}\" is written or found with another {what}, which cannot be changed here; add it without",
            written.name
        ))),
        None => Ok(()),
    }
}

/// The name of the server that a single address belongs to; of a server, its own.
fn entry(name: &str) -> &str {
    name.split_once(" (").map_or(name, |(server, _)| server)
}

/// An order's word, as it is written.
pub fn word(order: Order) -> &'static str {
    match order {
        Order::Ready => "ready",
        Order::Drain => "drain",
        Order::Down => "down",
    }
}

#[cfg(test)]
mod tests;
