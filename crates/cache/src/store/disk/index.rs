//! Where records are, by the hash of their key. The rest is read from the record itself.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;

/// Parts, each with a lock that is held shortly.
const SHARDS: usize = 64;

/// Where a record is. 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Hash of the key.
    pub key: u64,
    /// Which of its variants, about.
    pub variant: u32,
    /// The segment.
    pub segment: u32,
    /// Offset in it, in units of [`super::record::ALIGN`].
    pub unit: u32,
}

impl Entry {
    fn place(&self) -> (u32, u32) {
        (self.segment, self.unit)
    }
}

/// Of each variant of each key, the newest record.
pub struct Index {
    shards: Box<[Mutex<HashTable<Entry>>]>,
    count: AtomicUsize,
    /// Segments before it have gone.
    oldest: AtomicU32,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            oldest: AtomicU32::new(0),
        }
    }
}

impl Index {
    fn shard(&self, key: u64) -> MutexGuard<'_, HashTable<Entry>> {
        // bits that the table does not look at
        let number = (key >> 40) as usize % SHARDS;
        self.shards[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_live(&self, entry: &Entry) -> bool {
        entry.segment >= self.oldest.load(Ordering::Acquire)
    }

    /// Is there anything of this hash?
    pub fn contains(&self, key: u64) -> bool {
        let shard = self.shard(key);
        let is = |entry: &Entry| entry.key == key && self.is_live(entry);
        shard.find(key, is).is_some()
    }

    /// The newest records of a hash, at most so many.
    pub fn newest(&self, key: u64, max: usize) -> Vec<Entry> {
        let shard = self.shard(key);
        let all = shard.iter_hash(key).filter(|entry| entry.key == key);
        let mut all: Vec<Entry> = all.filter(|entry| self.is_live(entry)).copied().collect();
        drop(shard);
        all.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.place()));
        all.truncate(max);
        all
    }

    /// A record is there. A newer one of the same variant stays.
    pub fn enter(&self, new: Entry) {
        let mut shard = self.shard(new.key);
        let is = |entry: &Entry| entry.key == new.key && entry.variant == new.variant;
        match shard.find_mut(new.key, is) {
            Some(entry) if entry.place() < new.place() => *entry = new,
            Some(_) => {}
            None => {
                shard.insert_unique(new.key, new, |entry| entry.key);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// All records of a hash go.
    pub fn forget(&self, key: u64) {
        let mut shard = self.shard(key);
        while let Ok(entry) = shard.find_entry(key, |entry| entry.key == key) {
            entry.remove();
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Everything goes.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            self.count.fetch_sub(shard.len(), Ordering::Relaxed);
            shard.clear();
        }
    }

    /// Segments up to this one have gone. The hashes of what was in them.
    pub fn drop_through(&self, segment: u32) -> Vec<u64> {
        self.oldest
            .fetch_max(segment.saturating_add(1), Ordering::AcqRel);
        let mut gone = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = gone.len();
            shard.retain(|entry| {
                let stays = entry.segment > segment;
                if !stays {
                    gone.push(entry.key);
                }
                stays
            });
            self.count.fetch_sub(gone.len() - before, Ordering::Relaxed);
        }
        gone
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Bytes that it takes: places in the tables, empty ones included, and a byte beside each.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().unwrap().allocation_size())
            .sum()
    }
}
