//! Purges: records in one sequence, compared with when an object's fetch began. Nothing is scanned before one takes effect.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::object::{Key, Object, hash};

/// Records of hosts, of prefixes and of tags, each.
pub const RECORDS_MAX: usize = 4_096;

/// What is purged.
#[derive(Debug, Clone, Copy)]
pub enum Purge<'a> {
    /// A key, with all its variants.
    Key(Key<'a>),
    /// Everything of a canonical host.
    Host(&'a str),
    /// Everything of a host whose canonical path begins so.
    Prefix {
        /// Canonical host.
        host: &'a str,
        /// First bytes of the path.
        path: &'a [u8],
    },
    /// Everything of a host with this canonical path: whatever the query, and whatever else is in its key.
    Path {
        /// Canonical host.
        host: &'a str,
        /// The path.
        path: &'a [u8],
    },
    /// Everything with a tag.
    Tag(&'a [u8]),
    /// Everything.
    Everything,
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// Its place in the sequence.
    pub sequence: u64,
    /// Of a purge of a key: objects that it covered. Others cover what they cover when it is asked for.
    pub objects: usize,
}

/// Whether a purge covers an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cover {
    /// None does.
    No = 0,
    /// It is stale.
    Soft = 1,
    /// It is not there.
    Hard = 2,
}

/// The last purges of something: their places in the sequence, 0 for none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    hard: u64,
    soft: u64,
}

impl Record {
    pub(super) fn add(&mut self, sequence: u64, soft: bool) {
        let place = if soft { &mut self.soft } else { &mut self.hard };
        *place = sequence.max(*place);
    }

    fn join(&mut self, other: Self) {
        self.hard = self.hard.max(other.hard);
        self.soft = self.soft.max(other.soft);
    }

    fn last(&self) -> u64 {
        self.hard.max(self.soft)
    }

    pub(super) fn cover(&self, born: u64) -> Cover {
        if self.hard > born {
            Cover::Hard
        } else if self.soft > born {
            Cover::Soft
        } else {
            Cover::No
        }
    }
}

#[derive(Debug, Default)]
struct Tables {
    everything: Record,
    hosts: HashMap<u64, Record>,
    tags: HashMap<u64, Record>,
    /// By a hash of host and prefix.
    prefixes: HashMap<u64, Prefix>,
    /// By a hash of host and path: the host's.
    paths: HashMap<u64, (u64, Record)>,
    /// Of a host: lengths of its prefixes, and how many there are of each.
    lengths: HashMap<u64, BTreeMap<usize, usize>>,
}

#[derive(Debug, Clone, Copy)]
struct Prefix {
    host: u64,
    length: usize,
    record: Record,
}

/// The purges that something in the store may still be covered by.
///
/// Hosts, prefixes and tags are compared by their hashes (seeded, 64 bits): if two were the same, something would be purged without
/// need.
#[derive(Debug, Default)]
pub struct Purges {
    sequence: AtomicU64,
    /// The last one that has a record.
    live: AtomicU64,
    /// The last one whose record is not kept any more.
    retired: AtomicU64,
    tables: RwLock<Tables>,
}

impl Purges {
    /// The place of the last purge.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// The last one that has a record: what is younger is not covered.
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// Of purges up to this one there may be no record any more.
    pub fn retired(&self) -> u64 {
        self.retired.load(Ordering::Acquire)
    }

    /// A place in the sequence without a record.
    pub fn count(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Records a purge of more than a key. It takes effect before this returns.
    pub fn record(&self, purge: &Purge<'_>, soft: bool) -> u64 {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let sequence = self.count();
        match *purge {
            Purge::Key(_) => {}
            Purge::Everything => tables.everything.add(sequence, soft),
            Purge::Host(host) => tables.host(hash(host.as_bytes())).add(sequence, soft),
            Purge::Tag(tag) => tables.tag(hash(tag)).add(sequence, soft),
            Purge::Prefix { host, path } => tables.prefix(host, path).add(sequence, soft),
            Purge::Path { host, path } => tables.path(host, path).add(sequence, soft),
        }
        self.live.store(sequence, Ordering::Release);
        sequence
    }

    /// Does a purge cover what was fetched from `born` on?
    pub fn cover(&self, born: u64, host: &[u8], path: &[u8], tags: &[u64]) -> Cover {
        if born >= self.live() {
            return Cover::No;
        }
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.cover(born, host, path, tags)
    }

    /// Does a purge cover an object?
    pub fn cover_object(&self, object: &Object) -> Cover {
        if object.born >= self.live() {
            return Cover::No;
        }
        self.cover(object.born, object.host(), object.path(), object.tags())
    }

    /// Nothing in the store, and nothing that is being fetched, is older than `sequence` and covered: records up to it may go.
    pub fn retire(&self, sequence: u64) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        self.retired.fetch_max(sequence, Ordering::AcqRel);
        tables.retire(sequence);
        self.live.store(tables.last(), Ordering::Release);
    }

    /// Records that are kept.
    pub fn records(&self) -> usize {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.hosts.len()
            + tables.tags.len()
            + tables.prefixes.len()
            + tables.paths.len()
            + usize::from(tables.everything.last() > 0)
    }
}

fn oldest<T>(table: &HashMap<u64, T>, last: impl Fn(&T) -> u64) -> Option<u64> {
    let oldest = table.iter().min_by_key(|(_, record)| last(record));
    oldest.map(|(key, _)| *key)
}

impl Tables {
    /// The record of a host. Is there no place, the oldest becomes a purge of everything.
    fn host(&mut self, host: u64) -> &mut Record {
        if self.hosts.len() >= RECORDS_MAX
            && !self.hosts.contains_key(&host)
            && let Some(oldest) = oldest(&self.hosts, Record::last)
            && let Some(record) = self.hosts.remove(&oldest)
        {
            self.everything.join(record);
        }
        self.hosts.entry(host).or_default()
    }

    /// The record of a tag; as that of a host.
    fn tag(&mut self, tag: u64) -> &mut Record {
        if self.tags.len() >= RECORDS_MAX
            && !self.tags.contains_key(&tag)
            && let Some(oldest) = oldest(&self.tags, Record::last)
            && let Some(record) = self.tags.remove(&oldest)
        {
            self.everything.join(record);
        }
        self.tags.entry(tag).or_default()
    }

    /// The record of a prefix. Is there no place, the oldest becomes a purge of its host.
    fn prefix(&mut self, host: &str, path: &[u8]) -> &mut Record {
        let host = hash(host.as_bytes());
        let key = prefix_key(host, path);
        if !self.prefixes.contains_key(&key) {
            if self.prefixes.len() >= RECORDS_MAX
                && let Some(oldest) = oldest(&self.prefixes, |prefix| prefix.record.last())
                && let Some(prefix) = self.remove_prefix(oldest)
            {
                self.host(prefix.host).join(prefix.record);
            }
            *self
                .lengths
                .entry(host)
                .or_default()
                .entry(path.len())
                .or_default() += 1;
        }
        let prefix = self.prefixes.entry(key).or_insert(Prefix {
            host,
            length: path.len(),
            record: Record::default(),
        });
        &mut prefix.record
    }

    /// The record of one path. Is there no place, the oldest becomes a purge of its host.
    fn path(&mut self, host: &str, path: &[u8]) -> &mut Record {
        let host = hash(host.as_bytes());
        let key = path_key(host, path);
        if self.paths.len() >= RECORDS_MAX
            && !self.paths.contains_key(&key)
            && let Some(oldest) = oldest(&self.paths, |(_, record)| record.last())
            && let Some((host, record)) = self.paths.remove(&oldest)
        {
            self.host(host).join(record);
        }
        &mut self.paths.entry(key).or_insert((host, Record::default())).1
    }

    fn remove_prefix(&mut self, key: u64) -> Option<Prefix> {
        let prefix = self.prefixes.remove(&key)?;
        if let Some(lengths) = self.lengths.get_mut(&prefix.host) {
            if let Some(count) = lengths.get_mut(&prefix.length) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&prefix.length);
                }
            }
            if lengths.is_empty() {
                self.lengths.remove(&prefix.host);
            }
        }
        Some(prefix)
    }

    fn cover(&self, born: u64, host: &[u8], path: &[u8], tags: &[u64]) -> Cover {
        let mut cover = self.everything.cover(born);
        if !self.tags.is_empty() {
            let records = tags.iter().filter_map(|tag| self.tags.get(tag));
            cover = records.fold(cover, |cover, record| cover.max(record.cover(born)));
        }
        if self.hosts.is_empty() && self.prefixes.is_empty() && self.paths.is_empty() {
            return cover;
        }
        let host = hash(host);
        if let Some(record) = self.hosts.get(&host) {
            cover = cover.max(record.cover(born));
        }
        if let Some((_, record)) = self.paths.get(&path_key(host, path)) {
            cover = cover.max(record.cover(born));
        }
        for &length in self.lengths.get(&host).into_iter().flat_map(BTreeMap::keys) {
            let Some(start) = path.get(..length) else {
                break; // longer ones do not fit, either
            };
            if let Some(prefix) = self.prefixes.get(&prefix_key(host, start)) {
                cover = cover.max(prefix.record.cover(born));
            }
        }
        cover
    }

    fn retire(&mut self, sequence: u64) {
        let is_live = |record: &Record| record.last() > sequence;
        if !is_live(&self.everything) {
            self.everything = Record::default();
        }
        self.hosts.retain(|_, record| is_live(record));
        self.tags.retain(|_, record| is_live(record));
        self.paths.retain(|_, (_, record)| is_live(record));
        let over: Vec<u64> = self
            .prefixes
            .iter()
            .filter(|(_, prefix)| !is_live(&prefix.record))
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            self.remove_prefix(key);
        }
    }

    fn last(&self) -> u64 {
        let hosts = self.hosts.values().map(Record::last);
        let tags = self.tags.values().map(Record::last);
        let prefixes = self.prefixes.values().map(|prefix| prefix.record.last());
        let paths = self.paths.values().map(|(_, record)| record.last());
        let last = hosts
            .chain(tags)
            .chain(prefixes)
            .chain(paths)
            .max()
            .unwrap_or(0);
        last.max(self.everything.last())
    }
}

/// No prefix has the same.
fn path_key(host: u64, path: &[u8]) -> u64 {
    prefix_key(!host, path)
}

fn prefix_key(host: u64, path: &[u8]) -> u64 {
    hash(path) ^ host.rotate_left(32)
}
