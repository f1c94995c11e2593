//! What a key has besides objects: fetches whose head has not come, and marks that the last answer could not be stored.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashTable;

use super::Found;
use super::ask::{Ask, Wanted};
use super::fill::Fill;
use super::object::{FieldNames, Key, Names};
use super::purge::{Cover, Record};

use crate::policy::Why;

/// Marks in a shard; beyond it the oldest goes.
const MARKS_MAX: usize = 1_024;
/// Bytes of their keys and variants.
const MARK_BYTES_MAX: usize = 256 * 1024;

/// Fetches of a key that may be followed; further ones are for themselves.
const FILLS_MAX: usize = 64;

/// Fetches and marks of a shard.
#[derive(Default)]
pub struct Pending {
    /// By the hash of their key: how many fetches there are that nobody follows, and the last purges of it meanwhile.
    alone: HashMap<u64, (usize, Record)>,
    /// When those began in the sequence of purges, and how many did.
    alone_born: BTreeMap<u64, usize>,
    keys: HashTable<Entry>,
    /// Until when, and of which key: in the order in which they were made.
    marks: VecDeque<(u64, u64)>,
    mark_bytes: usize,
}

struct Entry {
    hash: u64,
    key: Box<[u8]>,
    items: Vec<Item>,
}

struct Item {
    names: Names,
    variant: Box<[u8]>,
    what: What,
}

enum What {
    Fill(Arc<Fill>),
    Mark { until_ms: u64, why: Why },
}

impl Pending {
    fn entry(&self, key: &Key<'_>) -> Option<&Entry> {
        self.keys.find(key.hash, |entry| *entry.key == *key.bytes)
    }

    /// A fetch that may be followed, or a mark that still holds.
    pub fn find(&self, ask: &Ask<'_>, wanted: &mut Wanted<'_, '_>) -> Option<Found> {
        let entry = self.entry(ask.key)?;
        entry.items.iter().find_map(|item| match &item.what {
            _ if !wanted.is(item.names.as_ref(), &item.variant) => None,
            What::Fill(fill) => fill
                .may_be_followed(ask.now_ms, ask.purges)
                .then(|| Found::Filling(Arc::clone(fill))),
            What::Mark { until_ms, why } => {
                (*until_ms > ask.now_ms).then_some(Found::HitForMiss(*why))
            }
        })
    }

    /// A fetch that may be followed.
    pub fn fill(&self, ask: &Ask<'_>, wanted: &mut Wanted<'_, '_>) -> Option<Arc<Fill>> {
        let entry = self.entry(ask.key)?;
        let fits = entry.items.iter().find_map(|item| match &item.what {
            What::Fill(fill)
                if wanted.is(item.names.as_ref(), &item.variant)
                    && fill.may_be_followed(ask.now_ms, ask.purges) =>
            {
                Some(fill)
            }
            _ => None,
        });
        fits.cloned()
    }

    /// One more fetch of the key may be followed.
    pub fn has_place(&self, key: &Key<'_>) -> bool {
        let entry = self.entry(key);
        entry.is_none_or(|entry| entry.items.len() < FILLS_MAX)
    }

    /// A fetch begins that nobody follows.
    pub fn begin_alone(&mut self, hash: u64, born: u64) {
        self.alone.entry(hash).or_default().0 += 1;
        *self.alone_born.entry(born).or_default() += 1;
    }

    /// It is over, or its head has come.
    pub fn end_alone(&mut self, hash: u64, born: u64) {
        if let Some((count, _)) = self.alone.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.alone.remove(&hash);
            }
        }
        if let Some(count) = self.alone_born.get_mut(&born) {
            *count -= 1;
            if *count == 0 {
                self.alone_born.remove(&born);
            }
        }
    }

    /// A purge of its key covers it.
    pub fn cover_alone(&self, hash: u64, born: u64) -> Cover {
        let alone = self.alone.get(&hash);
        alone.map_or(Cover::No, |(_, record)| record.cover(born))
    }

    /// The place in the sequence of purges of the oldest fetch whose head has not come.
    pub fn oldest(&self) -> Option<u64> {
        let alone = self.alone_born.first_key_value().map(|(born, _)| *born);
        self.fills().map(|fill| fill.born()).chain(alone).min()
    }

    /// Fetches whose head has not come.
    pub fn count(&self) -> usize {
        self.fills().count() + self.alone_born.values().sum::<usize>()
    }

    /// A fetch begins.
    pub fn begin(&mut self, key: &Key<'_>, names: Names, variant: &[u8], fill: &Arc<Fill>) {
        let item = Item {
            names,
            variant: variant.into(),
            what: What::Fill(Arc::clone(fill)),
        };
        self.add(key, item);
    }

    fn add(&mut self, key: &Key<'_>, item: Item) {
        let entry = self.keys.entry(
            key.hash,
            |entry| *entry.key == *key.bytes,
            |entry| entry.hash,
        );
        let entry = entry.or_insert_with(|| Entry {
            hash: key.hash,
            key: key.bytes.into(),
            items: Vec::new(),
        });
        entry.into_mut().items.push(item);
    }

    /// A fetch is over, or its head has come. Which variant it was for.
    pub fn end(&mut self, key: &Key<'_>, fill: &Arc<Fill>) -> Option<(Names, Box<[u8]>)> {
        let mut ended = None;
        self.retain(key, |item| {
            let is = matches!(&item.what, What::Fill(other) if Arc::ptr_eq(other, fill));
            if is {
                ended = Some((item.names.take(), std::mem::take(&mut item.variant)));
            }
            !is
        });
        ended
    }

    /// The answer for a variant could not be stored: until then nobody waits.
    pub fn mark(
        &mut self,
        key: &Key<'_>,
        (names, variant): (Names, Box<[u8]>),
        until_ms: u64,
        why: Why,
        now_ms: u64,
    ) {
        self.unmark(key, names.as_ref(), &variant);
        if until_ms <= now_ms {
            return;
        }
        self.mark_bytes += key.bytes.len() + variant.len();
        self.marks.push_back((until_ms, key.hash));
        let what = What::Mark { until_ms, why };
        self.add(
            key,
            Item {
                names,
                variant,
                what,
            },
        );
        while let Some(&(until, hash)) = self.marks.front()
            && (until <= now_ms || self.marks.len() > MARKS_MAX || self.mark_bytes > MARK_BYTES_MAX)
        {
            self.marks.pop_front();
            self.expire(until, hash);
        }
    }

    /// A mark's time is over, or its place is needed.
    fn expire(&mut self, until: u64, hash: u64) {
        let found = self.keys.find(hash, |entry| entry.hash == hash);
        let Some(bytes) = found.map(|entry| entry.key.clone()) else {
            return;
        };
        let key = Key {
            bytes: &bytes,
            hash,
            host: "",
            path: &[],
            site: 0,
        };
        self.retain(
            &key,
            |item| !matches!(item.what, What::Mark { until_ms, .. } if until_ms == until),
        );
    }

    /// An answer of this variant is there: its marks are gone, and those that were made before it was known what makes a difference.
    pub fn unmark(&mut self, key: &Key<'_>, names: Option<&Arc<FieldNames>>, variant: &[u8]) {
        self.retain(key, |item| {
            let is_same = item.names.as_ref() == names && *item.variant == *variant;
            matches!(item.what, What::Fill(_)) || (item.names.is_some() && !is_same)
        });
    }

    /// A purge of a key: marks go, fetches are covered.
    pub fn purge(&mut self, key: &Key<'_>, soft: bool, sequence: u64) {
        if let Some((_, record)) = self.alone.get_mut(&key.hash) {
            record.add(sequence, soft);
        }
        self.retain(key, |item| match &item.what {
            What::Fill(fill) => {
                fill.purge(soft);
                true
            }
            What::Mark { .. } => false,
        });
    }

    fn retain(&mut self, key: &Key<'_>, mut keep: impl FnMut(&mut Item) -> bool) {
        let found = self
            .keys
            .find_entry(key.hash, |entry| *entry.key == *key.bytes);
        let Ok(mut entry) = found else {
            return;
        };
        let mark_bytes = &mut self.mark_bytes;
        entry.get_mut().items.retain_mut(|item| {
            let stays = keep(item);
            if !stays && let What::Mark { .. } = item.what {
                *mark_bytes -= key.bytes.len() + item.variant.len();
            }
            stays
        });
        if entry.get().items.is_empty() {
            entry.remove();
        }
    }

    fn fills(&self) -> impl Iterator<Item = &Arc<Fill>> {
        let items = self.keys.iter().flat_map(|entry| &entry.items);
        items.filter_map(|item| match &item.what {
            What::Fill(fill) => Some(fill),
            What::Mark { .. } => None,
        })
    }
}
