//! What names and lists of servers say for an upstream, how they fare, and how it comes into the server set.

use std::collections::{BTreeMap, HashMap, HashSet};

use narthex_config::model::{Discover, Server, ServerAddress};

use super::Cluster;
use crate::clock::monotonic_ms;
use crate::discover::delta::{Applied, Delta, Entries};
use crate::discover::srv::Place;

mod saved;

pub(crate) use saved::{SavedList, SavedName};

/// Where servers of an upstream come from, beside its own lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// A name, of whatever line.
    Name(ServerAddress),
    /// A list.
    List(Discover),
}

/// How a source of servers fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// `name:api.internal:80`, `srv:_http._tcp.api`, `file:servers.kdl`, `docker:api`, `consul:api`, `etcd:/services/api/`.
    pub source: String,
    /// Its last word was a good one.
    pub up: bool,
    /// What is wrong with it, if it is not up.
    pub why: Option<String>,
    /// For how long its state has been out of date, in milliseconds; 0 while it is up.
    pub age_ms: u64,
    /// Entries it has now.
    pub servers: usize,
    /// Entries that were left out since the start, by reason.
    pub skipped: Vec<(&'static str, u64)>,
}

/// How it fares, as kept.
#[derive(Debug)]
pub(crate) struct Condition {
    answered: bool,
    lost: Option<String>,
    /// Since when it has nothing good to say (monotonic ms).
    since: u64,
    skipped: BTreeMap<&'static str, u64>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            answered: false,
            lost: Some("no answer yet".to_owned()),
            since: monotonic_ms(),
            skipped: BTreeMap::new(),
        }
    }
}

impl Condition {
    /// It has nothing good to say, or it works. True if that is new.
    pub(crate) fn set(&mut self, lost: Option<String>) -> bool {
        let first = !std::mem::replace(&mut self.answered, true);
        let turned = lost.is_some() != self.lost.is_some();
        if turned {
            self.since = monotonic_ms();
        }
        self.lost = lost;
        turned || (first && self.lost.is_some())
    }

    /// It has said something, good or bad.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    pub(crate) fn skipped(&mut self, reason: &'static str, entries: u64) {
        *self.skipped.entry(reason).or_default() += entries;
    }

    fn status(&self, source: String, servers: usize) -> SourceStatus {
        SourceStatus {
            source,
            up: self.lost.is_none(),
            why: self.lost.clone(),
            age_ms: match self.lost {
                Some(_) => monotonic_ms().saturating_sub(self.since),
                None => 0,
            },
            servers,
            skipped: self.skipped.iter().map(|(r, n)| (*r, *n)).collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) places: Vec<Place>,
    condition: Condition,
}

#[derive(Debug)]
pub(super) struct Listed {
    spec: Discover,
    pub(super) entries: Entries,
    condition: Condition,
    /// Entries that say what another one says already, as of the last look.
    doubled: HashSet<String>,
}

/// All of it, of one upstream.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of the configuration.
    pub(super) lists: Vec<Listed>,
    /// By what is written.
    pub(super) names: HashMap<ServerAddress, Named>,
}

impl Found {
    /// The lists of a configuration; those that stay keep what they have. True if that is a change.
    pub(super) fn configure(&mut self, lists: &[Discover]) -> bool {
        if self.lists.iter().map(|l| &l.spec).eq(lists) {
            return false;
        }
        let mut known = std::mem::take(&mut self.lists);
        for spec in lists {
            let same = known.iter().position(|l| l.spec == *spec);
            // Asked in another way, e.g. with a new token: what it said holds until it says something.
            let alike = |l: &Listed| label(&l.spec) == label(spec) && !lists.contains(&l.spec);
            let at = same.or_else(|| known.iter().position(alike));
            let before = at.map(|at| known.swap_remove(at));
            self.lists.push(match before {
                Some(before) if before.spec == *spec => before,
                before => Listed {
                    spec: spec.clone(),
                    entries: before.map(|b| b.entries).unwrap_or_default(),
                    condition: Condition::default(),
                    doubled: HashSet::new(),
                },
            });
        }
        true
    }

    /// Everything that lists have.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.lists.iter().flat_map(|l| l.entries.servers())
    }

    /// Every name that the set needs; those that stay keep what they have.
    pub(super) fn needs(&mut self, names: HashSet<ServerAddress>) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            self.names.entry(name).or_default();
        }
    }

    /// These entries, by list, stand for servers that are there already.
    pub(super) fn doubled(&mut self, upstream: &str, now: Vec<HashSet<String>>) {
        let now = now.into_iter().chain(std::iter::repeat_with(HashSet::new));
        for (list, now) in self.lists.iter_mut().zip(now) {
            for server in now.difference(&list.doubled) {
                list.condition.skipped("duplicate", 1);
                tracing::warn!(
                    upstream,
                    source = label(&list.spec),
                    server,
                    "this entry is left out: the server is in the upstream already"
                );
            }
            list.doubled = now;
        }
    }

    fn condition(&mut self, origin: &Origin) -> Option<&mut Condition> {
        match origin {
            Origin::Name(name) => self.names.get_mut(name).map(|n| &mut n.condition),
            Origin::List(spec) => self.list(spec).map(|l| &mut l.condition),
        }
    }

    fn list(&mut self, spec: &Discover) -> Option<&mut Listed> {
        self.lists.iter_mut().find(|l| l.spec == *spec)
    }

    fn status(&self) -> Vec<SourceStatus> {
        let mut names: Vec<SourceStatus> = self
            .names
            .iter()
            .map(|(name, n)| n.condition.status(name_label(name), n.places.len()))
            .collect();
        names.sort_by(|a, b| a.source.cmp(&b.source));
        let lists = self
            .lists
            .iter()
            .map(|l| l.condition.status(label(&l.spec), l.entries.len()));
        names.into_iter().chain(lists).collect()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.lists.iter().all(|l| l.condition.answered)
            && self.names.values().all(|n| n.condition.answered)
    }
}

impl Cluster {
    /// The names that are to be resolved.
    pub(crate) fn names(&self) -> HashSet<ServerAddress> {
        if self.is_retired() {
            return HashSet::new();
        }
        self.source().found.names.keys().cloned().collect()
    }

    /// The lists that are to be followed.
    pub(crate) fn lists(&self) -> Vec<Discover> {
        if self.is_retired() {
            return Vec::new();
        }
        let source = self.source();
        source.found.lists.iter().map(|l| l.spec.clone()).collect()
    }

    /// Every source has said something, good or bad.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_retired() || self.source().found.is_settled()
    }

    /// Takes over what a list says.
    pub(crate) fn found(&self, spec: &Discover, delta: Delta) -> Applied {
        let mut source = self.source();
        let Some(list) = source.found.list(spec) else {
            return Applied::default();
        };
        let applied = list.entries.apply(delta);
        if applied.skipped > 0 {
            list.condition.skipped("too-many", applied.skipped as u64);
        }
        if applied.is_change() {
            self.rebuild(&mut source);
        }
        applied
    }

    /// Takes over what a name stands for. True if that is a change.
    pub(crate) fn resolved(&self, name: &ServerAddress, places: Vec<Place>) -> bool {
        let mut source = self.source();
        let Some(named) = source.found.names.get_mut(name) else {
            return false;
        };
        if named.places == places {
            return false;
        }
        named.places = places;
        self.rebuild(&mut source);
        true
    }

    /// What a name stands for now.
    pub(crate) fn places_of(&self, name: &ServerAddress) -> Vec<Place> {
        let source = self.source();
        let named = source.found.names.get(name);
        named.map(|n| n.places.clone()).unwrap_or_default()
    }

    /// Changes how a source fares.
    pub(crate) fn fares<T>(
        &self,
        origin: &Origin,
        change: impl FnOnce(&mut Condition) -> T,
    ) -> Option<T> {
        self.source().found.condition(origin).map(change)
    }

    /// How its sources fare.
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.source().found.status()
    }
}

impl Origin {
    /// Its name in logs and metrics.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Name(name) => name_label(name),
            Self::List(spec) => label(spec),
        }
    }
}

fn name_label(name: &ServerAddress) -> String {
    match name {
        ServerAddress::Dns { host, port } => format!("name:{host}:{port}"),
        ServerAddress::Srv { name, .. } => format!("srv:{name}"),
        ServerAddress::Ip(_) | ServerAddress::Unix(_) => "address".to_owned(),
    }
}

fn label(spec: &Discover) -> String {
    let what = match spec {
        Discover::File { path } => path.display().to_string(),
        Discover::Docker { service, .. } | Discover::Consul { service, .. } => service.clone(),
        Discover::Etcd { prefix, .. } => prefix.clone(),
    };
    format!("{}:{what}", spec.word())
}

/// Is it a name, and not yet a place?
pub(super) fn is_name(server: &Server) -> bool {
    matches!(
        server.address,
        ServerAddress::Dns { .. } | ServerAddress::Srv { .. }
    )
}
