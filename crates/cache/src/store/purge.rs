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
    /// What has this tag, and need not be there: if too many come, the oldest is forgotten. For versions that whoever uses them
    /// compares all the same.
    Version(&'a [u8]),
    /// Everything.
    Everything,
}

/// What is purged, by hashes: as the tables have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Everything.
    Everything,
    /// A host.
    Host(u64),
    /// A tag.
    Tag(u64),
    /// A tag that need not be there.
    Version(u64),
    /// A key.
    Key(u64),
    /// One path of a host.
    Path {
        /// The host.
        host: u64,
        /// Host and path.
        key: u64,
    },
    /// What begins so.
    Prefix {
        /// The host.
        host: u64,
        /// Host and beginning.
        key: u64,
        /// Bytes of the beginning.
        length: u32,
    },
}

impl What {
    /// Of a purge.
    pub fn of(purge: &Purge<'_>) -> Self {
        match *purge {
            Purge::Everything => Self::Everything,
            Purge::Host(host) => Self::Host(hash(host.as_bytes())),
            Purge::Tag(tag) => Self::Tag(hash(tag)),
            Purge::Version(tag) => Self::Version(hash(tag)),
            Purge::Key(key) => Self::Key(key.hash),
            Purge::Path { host, path } => {
                let host = hash(host.as_bytes());
                let key = path_key(host, path);
                Self::Path { host, key }
            }
            Purge::Prefix { host, path } => {
                let host = hash(host.as_bytes());
                Self::Prefix {
                    host,
                    key: prefix_key(host, path),
                    length: u32::try_from(path.len()).unwrap_or(u32::MAX),
                }
            }
        }
    }
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// Its place in the sequence.
    pub sequence: u64,
    /// Of a purge of a key: objects in memory that it covered, or one on disk. Others cover what they cover when it is asked for.
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
    /// Records of a table.
    max: usize,
    everything: Record,
    hosts: HashMap<u64, Record>,
    tags: HashMap<u64, Record>,
    /// Of what is on disk only: what is in memory is purged in its shard.
    keys: HashMap<u64, Record>,
    /// Tags whose records may be forgotten.
    versions: HashMap<u64, Record>,
    /// A key that is being purged, while it is not known whether there is anything on disk under it.
    held: Option<(u64, Record)>,
    /// By a hash of host and prefix.
    prefixes: HashMap<u64, Prefix>,
    /// By a hash of host and path: the host's.
    paths: HashMap<u64, (u64, Record)>,
    /// Of a host: lengths of its prefixes, and how many there are of each.
    lengths: HashMap<u64, BTreeMap<u32, usize>>,
}

#[derive(Debug, Clone, Copy)]
struct Prefix {
    host: u64,
    length: u32,
    record: Record,
}

/// The purges that something in the store may still be covered by.
///
/// Hosts, prefixes and tags are compared by their hashes (seeded, 64 bits): if two were the same, something would be purged without
/// need.
#[derive(Debug)]
pub struct Purges {
    sequence: AtomicU64,
    /// The last one that has a record.
    live: AtomicU64,
    /// The last one whose record is not kept any more.
    retired: AtomicU64,
    tables: RwLock<Tables>,
}

impl Default for Purges {
    fn default() -> Self {
        Self::with_room(RECORDS_MAX)
    }
}

impl Purges {
    /// With room for so many records in each table.
    pub fn with_room(max: usize) -> Self {
        Self {
            sequence: AtomicU64::new(0),
            live: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            tables: RwLock::new(Tables {
                max,
                ..Tables::default()
            }),
        }
    }

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

    /// The sequence is so far, at least.
    pub fn advance(&self, sequence: u64) {
        self.sequence.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Records a purge at its place in the sequence. It takes effect before this returns.
    pub fn record_at(&self, what: What, soft: bool, sequence: u64) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        self.advance(sequence);
        tables.place(what).add(sequence, soft);
        self.live.fetch_max(sequence, Ordering::AcqRel);
    }

    /// As [`Purges::record_at`], of a key, until [`Purges::release_key`]: it takes no place in a table.
    pub fn hold_key(&self, key: u64, soft: bool, sequence: u64) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        self.advance(sequence);
        let mut record = Record::default();
        record.add(sequence, soft);
        tables.held = Some((key, record));
        self.live.fetch_max(sequence, Ordering::AcqRel);
    }

    /// That is over.
    pub fn release_key(&self) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.held = None;
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

    /// Does a purge cover what is on disk under a key, and was fetched from `born` on?
    pub fn cover_on_disk(
        &self,
        born: u64,
        key: u64,
        (host, path): (&[u8], &[u8]),
        tags: &[u64],
    ) -> Cover {
        if born >= self.live() {
            return Cover::No;
        }
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let held = tables.held.filter(|(held, _)| *held == key);
        let of_key = tables.keys.get(&key).copied().into_iter();
        let of_key = of_key.chain(held.map(|(_, record)| record));
        let cover = of_key.map(|record| record.cover(born)).max();
        cover
            .unwrap_or(Cover::No)
            .max(tables.cover(born, host, path, tags))
    }

    /// Every record that is kept: what it covers, whether softly, and its place.
    pub fn each(&self, mut each: impl FnMut(What, bool, u64)) {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.each(|what, record| {
            for (soft, sequence) in [(false, record.hard), (true, record.soft)] {
                if sequence > 0 {
                    each(what, soft, sequence);
                }
            }
        });
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
            + tables.versions.len()
            + tables.prefixes.len()
            + tables.paths.len()
            + tables.keys.len()
            + usize::from(tables.everything.last() > 0)
    }
}

fn oldest<T>(table: &HashMap<u64, T>, last: impl Fn(&T) -> u64) -> Option<u64> {
    let oldest = table.iter().min_by_key(|(_, record)| last(record));
    oldest.map(|(key, _)| *key)
}

/// The record of something. Is there no place, the oldest becomes a purge of `all`.
fn record_of<'a>(
    table: &'a mut HashMap<u64, Record>,
    key: u64,
    max: usize,
    all: &mut Record,
) -> &'a mut Record {
    if table.len() >= max
        && !table.contains_key(&key)
        && let Some(oldest) = oldest(table, Record::last)
        && let Some(record) = table.remove(&oldest)
    {
        all.join(record);
    }
    table.entry(key).or_default()
}

impl Tables {
    fn place(&mut self, what: What) -> &mut Record {
        match what {
            What::Everything => &mut self.everything,
            What::Host(host) => self.host(host),
            What::Tag(tag) => record_of(&mut self.tags, tag, self.max, &mut self.everything),
            What::Version(tag) => {
                let mut forgotten = Record::default();
                record_of(&mut self.versions, tag, self.max, &mut forgotten)
            }
            What::Key(key) => record_of(&mut self.keys, key, self.max, &mut self.everything),
            What::Path { host, key } => self.path(host, key),
            What::Prefix { host, key, length } => self.prefix(host, key, length),
        }
    }

    fn host(&mut self, host: u64) -> &mut Record {
        record_of(&mut self.hosts, host, self.max, &mut self.everything)
    }

    /// The record of a prefix. Is there no place, the oldest becomes a purge of its host.
    fn prefix(&mut self, host: u64, key: u64, length: u32) -> &mut Record {
        if !self.prefixes.contains_key(&key) {
            if self.prefixes.len() >= self.max
                && let Some(oldest) = oldest(&self.prefixes, |prefix| prefix.record.last())
                && let Some(prefix) = self.remove_prefix(oldest)
            {
                self.host(prefix.host).join(prefix.record);
            }
            let lengths = self.lengths.entry(host).or_default();
            *lengths.entry(length).or_default() += 1;
        }
        let prefix = self.prefixes.entry(key).or_insert(Prefix {
            host,
            length,
            record: Record::default(),
        });
        &mut prefix.record
    }

    /// The record of one path. Is there no place, the oldest becomes a purge of its host.
    fn path(&mut self, host: u64, key: u64) -> &mut Record {
        if self.paths.len() >= self.max
            && !self.paths.contains_key(&key)
            && let Some(oldest) = oldest(&self.paths, |(_, record)| record.last())
            && let Some((host, record)) = self.paths.remove(&oldest)
        {
            self.host(host).join(record);
        }
        &mut self.paths.entry(key).or_insert((host, Record::default())).1
    }

    /// But for versions, which need not outlive the process.
    fn each(&self, mut each: impl FnMut(What, Record)) {
        each(What::Everything, self.everything);
        let hosts = self.hosts.iter();
        hosts.for_each(|(host, record)| each(What::Host(*host), *record));
        let tags = self.tags.iter();
        tags.for_each(|(tag, record)| each(What::Tag(*tag), *record));
        let keys = self.keys.iter();
        keys.for_each(|(key, record)| each(What::Key(*key), *record));
        for (&key, &(host, record)) in &self.paths {
            each(What::Path { host, key }, record);
        }
        for (&key, prefix) in &self.prefixes {
            let &Prefix { host, length, .. } = prefix;
            each(What::Prefix { host, key, length }, prefix.record);
        }
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
        if !self.versions.is_empty() {
            let records = tags.iter().filter_map(|tag| self.versions.get(tag));
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
            let Some(start) = path.get(..length as usize) else {
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
        self.versions.retain(|_, record| is_live(record));
        self.keys.retain(|_, record| is_live(record));
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
        let mut last = 0;
        self.each(|_, record| last = record.last().max(last));
        let versions = self.versions.values().map(Record::last);
        versions.max().unwrap_or(0).max(last)
    }
}

/// No prefix has the same.
fn path_key(host: u64, path: &[u8]) -> u64 {
    prefix_key(!host, path)
}

fn prefix_key(host: u64, path: &[u8]) -> u64 {
    hash(path) ^ host.rotate_left(32)
}
