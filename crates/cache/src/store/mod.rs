//! Where objects are kept.
//!
//! One store for all cores, in shards with a short lock each that is never held over a wait. An object is immutable and shared:
//! whoever reads it holds it, in the index or not.

mod account;
mod ask;
mod block;
mod body;
pub mod disk;
mod expected;
mod fill;
mod nodes;
mod object;
mod pending;
mod purge;
mod queue;
mod shard;
mod stats;
#[cfg(test)]
mod tests;
mod tier;
mod victims;
mod waiters;
mod with_disk;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use account::{Accounts, Site};
pub use ask::Variant;
use ask::{Ask, Seen};
use block::Blocks;
pub use block::{BLOCKS_MAX, Block, Blocked, Full, Pattern};
pub use body::{Body, Read};
pub use disk::OpenError;
use expected::Expected;
pub use fill::{Fill, Lead, Outcome, Writer};
pub use object::{Key, Object, hash, seed};
pub use purge::{Purge, Purged};
use purge::{Purges, What};
use shard::Shard;
pub use stats::{Counts, Stats};
use tier::Tier;
pub use tier::{DiskStats, Loading};

use crate::policy::Why;

/// Parts of the index, each with a lock.
const SHARDS: usize = 64;
/// Objects that [`Store::at`] looks at under one lock.
const LOOKED: u32 = 4_096;
/// The share of the memory that one object may have: one in so many.
const OBJECT_SHARE: u64 = 4;

/// What is under a key, for a request.
pub enum Found {
    /// An object of the right variant, complete or filling. `soft`: it was purged softly.
    Ready {
        /// It.
        object: Arc<Object>,
        /// Serve it as stale.
        soft: bool,
    },
    /// Somebody fetches it, and its head has not come yet.
    Filling(Arc<Fill>),
    /// The last answer could not be stored.
    HitForMiss(Why),
    /// Nothing. `vary`: something is there, of another variant.
    Missing {
        /// Other variants are there.
        vary: bool,
    },
}

/// Bounds for what one rule stores.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Largest object.
    pub object_max: u64,
    /// Variants of a key.
    pub vary_max: usize,
    /// Bytes of the site.
    pub quota: Option<u64>,
}

/// Objects of the process.
pub struct Store {
    shards: Box<[Mutex<Shard>]>,
    accounts: Accounts,
    purges: Purges,
    blocks: Blocks,
    /// The shard that gives the next victim.
    victim: AtomicUsize,
    sweep: Mutex<Sweep>,
    /// Purges, one after the other; and the directory comes or goes between two of them.
    order: Mutex<()>,
    tier: RwLock<Option<Arc<Tier>>>,
    /// There is one.
    has_disk: AtomicBool,
    /// Or there will be one.
    expected: Expected,
}

/// Where the sweeper is.
#[derive(Debug, Default)]
struct Sweep {
    shard: usize,
    /// A round is under way; at its end records up to this one may go.
    until: Option<u64>,
}

impl Store {
    /// With so many bytes of memory.
    pub fn new(memory: u64) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            accounts: Accounts::new(memory),
            purges: Purges::default(),
            victim: AtomicUsize::new(0),
            sweep: Mutex::default(),
            blocks: Blocks::default(),
            order: Mutex::default(),
            tier: RwLock::default(),
            has_disk: AtomicBool::new(false),
            expected: Expected::default(),
        })
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.shard_at((hash >> 58) as usize)
    }

    fn shard_at(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<'a>(&'a self, key: &'a Key<'a>, now_ms: u64) -> Ask<'a> {
        Ask {
            key,
            now_ms,
            purges: &self.purges,
            has_disk: self.has_disk.load(Ordering::Relaxed),
            is_worth_saving: Cell::new(false),
        }
    }

    /// What is there for a request. `variant` is called under a lock: it must not come back to the store.
    pub fn find(&self, key: &Key<'_>, variant: Variant<'_>, now_ms: u64) -> Found {
        let mut gone = Vec::new();
        let ask = self.ask(key, now_ms);
        let found = self.shard(key.hash).find(&ask, variant, &mut gone);
        drop(gone); // without the lock
        if ask.has_disk {
            self.tell_disk(&ask, &found);
        }
        found
    }

    /// As [`Store::find`], for somebody who only wants to know: nothing is counted, and nothing stays longer because of it.
    pub fn peek(&self, key: &Key<'_>, variant: Variant<'_>, now_ms: u64) -> Found {
        let mut gone = Vec::new();
        let found = self
            .shard(key.hash)
            .peek(&self.ask(key, now_ms), variant, &mut gone);
        drop(gone); // without the lock
        found
    }

    /// Objects of a host and a path, whatever else is in their keys, `max` at most; with each, whether it was purged softly. It
    /// looks at every object, a few at a time: for people, not for requests.
    pub fn at(&self, host: &str, path: &[u8], max: usize) -> Vec<(Arc<Object>, bool)> {
        let mut found = Vec::new();
        for number in 0..SHARDS {
            let mut from = Some(0);
            while let Some(at) = from
                && found.len() < max
            {
                let place = (host, path);
                from = self
                    .shard_at(number)
                    .at(place, at, LOOKED, &self.purges, &mut found);
            }
        }
        found.truncate(max);
        found
    }

    /// Every object of a key, newest first.
    pub fn get(&self, key: &Key<'_>) -> Vec<Arc<Object>> {
        self.shard(key.hash).all(key)
    }

    /// Fetches beside others, whom it does not keep waiting; what comes is stored all the same.
    pub fn alone(self: &Arc<Self>, key: &Key<'_>, now_ms: u64) -> Lead {
        let mut shard = self.shard(key.hash);
        // the sequence is read under the lock: the sweeper sees the fetch, or it is younger than what the sweeper retires
        let fill = Fill::new(key, self.purges.sequence(), now_ms, None);
        shard.begin_alone(&fill);
        drop(shard);
        Lead::new(Arc::clone(self), fill)
    }

    /// Becomes the one that fetches, or learns who does. `age`: a fetch older than that has no new followers.
    pub fn lead(
        self: &Arc<Self>,
        key: &Key<'_>,
        variant: Variant<'_>,
        now_ms: u64,
        age: Duration,
    ) -> Result<Lead, Arc<Fill>> {
        self.begin(key, variant, now_ms, age, Seen::Whatever)
    }

    /// As [`Store::lead`], unless there is another object by now than the one that was `seen`: then it is the outcome.
    pub fn lead_after(
        self: &Arc<Self>,
        key: &Key<'_>,
        variant: Variant<'_>,
        now_ms: u64,
        age: Duration,
        seen: Option<&Arc<Object>>,
    ) -> Result<Lead, Arc<Fill>> {
        let seen = seen.map_or(Seen::Nothing, Seen::Object);
        self.begin(key, variant, now_ms, age, seen)
    }

    fn begin(
        self: &Arc<Self>,
        key: &Key<'_>,
        variant: Variant<'_>,
        now_ms: u64,
        age: Duration,
        seen: Seen<'_>,
    ) -> Result<Lead, Arc<Fill>> {
        let mut gone = Vec::new();
        let new = |is_followed: bool| {
            Fill::new(
                key,
                self.purges.sequence(),
                now_ms,
                is_followed.then_some(age),
            )
        };
        let led = self
            .shard(key.hash)
            .lead(&self.ask(key, now_ms), variant, seen, new, &mut gone);
        drop(gone);
        led.map(|fill| Lead::new(Arc::clone(self), fill))
    }

    /// From now on with so many bytes of memory.
    pub fn set_memory(&self, bytes: u64) {
        let total = self.accounts.total();
        total.set_memory(bytes);
        while total.is_over() && self.evict(None) {}
    }

    /// The largest object that is stored: one must not take the place of nearly all others.
    fn object_max(&self, room: &Room) -> u64 {
        let share = self.accounts.total().memory() / OBJECT_SHARE;
        room.object_max
            .min(share)
            .min(room.quota.unwrap_or(u64::MAX))
    }

    /// Lets objects go until the bounds hold. `false`: they do not, and what is left is filling or being read.
    fn settle(&self, site: &Site) -> bool {
        while site.is_over() {
            if !self.evict(Some(site.id)) {
                return false;
            }
        }
        while self.accounts.total().is_over() {
            if !self.evict(None) {
                return false;
            }
        }
        true
    }

    /// One object goes, each time from another shard.
    fn evict(&self, site: Option<u32>) -> bool {
        (0..SHARDS).any(|_| {
            let number = self.victim.fetch_add(1, Ordering::Relaxed);
            let victim = self.shard_at(number).evict(site);
            victim.is_some() // and is dropped without the lock
        })
    }

    /// The place of the last purge.
    pub fn purge_sequence(&self) -> u64 {
        self.purges.sequence()
    }

    /// Drops what purges cover: looks at `budget` objects. `true`: a round has ended, and the records are gone that were there when it
    /// began.
    ///
    /// Nothing waits for it; it frees memory, and it keeps the tables short.
    pub fn sweep(&self, budget: usize) -> bool {
        let mut sweep = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = budget.max(1);
        while left > 0 {
            let until = match sweep.until {
                Some(until) => until,
                None if self.purges.live() == 0 => return true,
                None => self.purges.live(),
            };
            let mut gone = Vec::new();
            let swept = self
                .shard_at(sweep.shard)
                .sweep(left, &self.purges, &mut gone);
            drop(gone); // without the lock
            // what is being fetched may turn out to be covered
            sweep.until = Some(until.min(swept.oldest_fill.unwrap_or(u64::MAX)));
            left = left.saturating_sub(swept.looked.max(1));
            sweep.shard += usize::from(swept.is_end);
            if sweep.shard == SHARDS {
                self.purges.retire(sweep.until.unwrap_or(0));
                *sweep = Sweep::default();
                return true;
            }
        }
        false
    }

    /// Answers an address with a status and a reason from now on, and purges what is stored of it. As [`Store::purge`] it may wait.
    pub fn block(&self, pattern: Pattern<'_>, blocked: Blocked, now_ms: u64) -> Result<(), Full> {
        self.blocks.add(pattern, blocked, now_ms)?;
        let path = pattern
            .path
            .split(|&byte| byte == b'?')
            .next()
            .unwrap_or_default();
        let host = pattern.host;
        let purge = if pattern.is_prefix {
            Purge::Prefix { host, path }
        } else {
            Purge::Path { host, path }
        };
        // The block itself keeps it from being served, whatever becomes of the purge.
        let _ = self.purge(&purge, false);
        Ok(())
    }

    /// As [`Store::block`], of what was blocked and purged by the process before.
    pub fn block_again(
        &self,
        pattern: Pattern<'_>,
        blocked: Blocked,
        now_ms: u64,
    ) -> Result<(), Full> {
        self.blocks.add(pattern, blocked, now_ms)
    }

    /// Takes that back. `false`: it was not so.
    pub fn unblock(&self, pattern: Pattern<'_>) -> bool {
        self.blocks.remove(pattern)
    }

    /// What an address is answered with, if it is blocked.
    pub fn blocked(
        &self,
        host: &str,
        path: &[u8],
        query: Option<&[u8]>,
        now_ms: u64,
    ) -> Option<Arc<Blocked>> {
        self.blocks.find(host, path, query, now_ms)
    }

    /// Is nothing blocked?
    #[inline]
    pub fn blocks_nothing(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Everything that is blocked.
    pub fn blocks(&self) -> Vec<Block> {
        self.blocks.list()
    }

    /// What it holds and what happened.
    pub fn stats(&self) -> Stats {
        let total = self.accounts.total();
        let mut stats = Stats {
            bytes: total.bytes(),
            memory: total.memory(),
            purges: self.purges.sequence(),
            purge_records: self.purges.records(),
            blocks: self.blocks.count(),
            sites: self.accounts.sites(),
            ..Stats::default()
        };
        for number in 0..SHARDS {
            let shard = self.shard_at(number);
            stats.objects += shard.objects();
            stats.fills += shard.fills();
            stats.counts.add(&shard.counts);
        }
        stats
    }
}
