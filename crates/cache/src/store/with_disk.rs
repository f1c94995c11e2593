//! The store and its directory: when it has one, what of it is asked, and purges, which concern both.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use super::ask::Ask;
use super::tier::{DiskStats, Loading, Tier};
use super::{Found, Key, Lead, Object, OpenError, Purge, Purged, Room, SHARDS, Store, What};

impl Store {
    fn tier(&self) -> Option<Arc<Tier>> {
        if !self.has_disk.load(Ordering::Relaxed) {
            return None;
        }
        let tier = self.tier.read().unwrap_or_else(PoisonError::into_inner);
        tier.clone()
    }

    /// Keeps what is worth it in a directory, too, within so many bytes; what is there already is found once it has been read, behind
    /// this call. Waits for the disk.
    pub fn attach(self: &Arc<Self>, directory: &Path, size: u64) -> Result<(), OpenError> {
        let tier = Tier::open(directory, size, self.purges.sequence()).inspect_err(|error| {
            if let OpenError::Io(_, error) = error {
                self.expected.fail(error.kind());
            }
        })?;
        for number in 0..SHARDS {
            // of another directory's
            self.shard_at(number).unsave_all();
        }
        {
            let _order = self.order();
            let mut place = self.tier.write().unwrap_or_else(PoisonError::into_inner);
            if place.is_some() {
                return Err(OpenError::Taken(directory.into()));
            }
            self.purges.advance(tier.sequence());
            // nothing is read there yet, and who waits for one of them finds it on its way
            for (what, soft) in self.expected.take() {
                let sequence = self.purges.sequence() + 1;
                tier.purge(what, soft, sequence, (true, false));
                self.purges.advance(sequence);
                tier.settle(sequence);
            }
            *place = Some(Arc::clone(&tier));
            self.has_disk.store(true, Ordering::SeqCst);
            drop(place);
            self.expected.end();
        }
        tier.start(&Arc::downgrade(self)).map_err(|error| {
            self.take_tier();
            tier.close();
            OpenError::Io(directory.into(), error)
        })
    }

    /// A directory will be attached: purges are remembered for it, and acknowledged then.
    pub fn expect(&self) {
        let _order = self.order();
        self.expected.begin();
    }

    /// It will not.
    pub fn expect_no_more(&self) {
        let _order = self.order();
        self.expected.end();
    }

    fn order(&self) -> std::sync::MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_tier(&self) -> Option<Arc<Tier>> {
        let _order = self.order();
        self.has_disk.store(false, Ordering::SeqCst);
        let mut place = self.tier.write().unwrap_or_else(PoisonError::into_inner);
        place.take()
    }

    /// Lets go of the directory: what is worth it is written until the deadline. It goes on in memory only. Waits for the disk.
    pub fn release(&self, deadline: Instant) {
        // whoever still waits for one waits in vain
        self.expected.fail(ErrorKind::NotConnected);
        if let Some(tier) = self.tier() {
            tier.flush(self, deadline);
        }
        if let Some(tier) = self.take_tier() {
            tier.close();
            tier.end();
        }
    }

    /// What is on disk and what happened there; none: there is no directory.
    pub fn disk(&self) -> Option<DiskStats> {
        self.tier().map(|tier| tier.stats())
    }

    /// There may be something on disk under a key.
    pub fn on_disk(&self, key: &Key<'_>) -> bool {
        self.tier().is_some_and(|tier| tier.contains(key.hash))
    }

    /// Asks the disk instead of the origin. The fetch comes back if it cannot be asked.
    pub fn load(&self, lead: Lead, room: Room) -> Result<Loading, Lead> {
        match self.tier() {
            Some(tier) => tier.load(lead, room),
            None => Err(lead),
        }
    }

    /// What was found, or not, says what is worth a write.
    pub(super) fn tell_disk(&self, ask: &Ask<'_>, found: &Found) {
        match found {
            Found::Ready { object, .. } if ask.is_worth_saving.get() => {
                if let Some(tier) = self.tier()
                    && !tier.save(object, self.accounts.total().memory())
                {
                    self.set_saved(ask.key.hash, object, false);
                }
            }
            Found::Missing { .. } => {
                if let Some(tier) = self.tier() {
                    tier.sketch.see(ask.key.hash);
                }
            }
            _ => {}
        }
    }

    /// An object has come whole from the origin: it is written if it was asked for before, or takes the place of one on disk.
    pub(super) fn save_new(&self, hash: u64, object: &Arc<Object>, was_used: bool) {
        let Some(tier) = self.tier() else {
            return;
        };
        let is_there = tier.may_hold(hash);
        if !was_used && !is_there && tier.sketch.count(hash) < 2 {
            return;
        }
        if tier.save(object, self.accounts.total().memory()) {
            self.shard(hash).set_asked(hash, object);
        } else if is_there {
            // what is there is not what was stored last
            self.forget_on_disk(hash);
        }
    }

    /// What is on disk under a key is not good any more.
    pub(super) fn forget_on_disk(&self, hash: u64) {
        if let Some(tier) = self.tier()
            && tier.may_hold(hash)
        {
            let _order = self.order();
            let sequence = self.purges.sequence() + 1;
            tier.purge(What::Key(hash), false, sequence, (false, true));
            self.purges.advance(sequence);
            tier.settle(sequence);
        }
    }

    /// An object is in the index and not covered by a purge.
    pub(super) fn is_stored(&self, hash: u64, object: &Arc<Object>) -> bool {
        self.shard(hash).is_stored(hash, object, &self.purges)
    }

    /// An object is on disk, or it is to be asked again whether it is worth it.
    pub(super) fn set_saved(&self, hash: u64, object: &Arc<Object>, is_saved: bool) {
        self.shard(hash).set_saved(hash, object, is_saved);
    }

    /// What has this hash is not on disk any more.
    pub(super) fn unsave(&self, hash: u64) {
        self.shard(hash).unsave(hash);
    }

    /// What is not on disk and worth it, the most used first.
    pub(super) fn worth_saving(&self) -> impl Iterator<Item = Arc<Object>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let mut found = Vec::new();
        for number in 0..SHARDS {
            self.shard_at(number)
                .worth_saving(&self.purges, now_ms, &mut found);
        }
        found.sort_by_key(|(uses, _)| std::cmp::Reverse(*uses));
        found.into_iter().map(|(_, object)| object)
    }

    /// Purges. It has taken effect when this returns, for what is being fetched, too, and no crash undoes it: with a directory this
    /// waits for the disk. After an error it holds as long as the process.
    pub fn purge(&self, purge: &Purge<'_>, soft: bool) -> io::Result<Purged> {
        let (purged, mut tier) = self.begin_purge(purge, soft, (true, false));
        if tier.is_none() {
            self.expected.wait()?;
            tier = self.tier();
        }
        if let Some(tier) = tier {
            tier.journal().wait(purged.sequence)?;
        }
        Ok(purged)
    }

    /// As [`Store::purge`], without waiting for the disk: [`Store::poll_durable`] does.
    pub fn purge_soon(&self, purge: &Purge<'_>, soft: bool) -> Purged {
        self.begin_purge(purge, soft, (true, false)).0
    }

    /// As [`Store::purge`], for what an origin's answer has made unusable: nobody waits for the disk.
    pub fn invalidate(&self, purge: &Purge<'_>, soft: bool) -> Purged {
        self.begin_purge(purge, soft, (false, true)).0
    }

    fn begin_purge(
        &self,
        purge: &Purge<'_>,
        soft: bool,
        how: (bool, bool),
    ) -> (Purged, Option<Arc<Tier>>) {
        let what = What::of(purge);
        let order = self.order();
        let tier = self.tier();
        let sequence = self.purges.sequence() + 1;
        // on disk first: a fetch that begins behind this purge in memory must not find there what it covers
        let is_on_disk = match (&tier, what) {
            (Some(tier), What::Key(key)) => tier.contains(key),
            _ => false,
        };
        match &tier {
            Some(tier) => tier.purge(what, soft, sequence, how),
            None => self.expected.add(what, soft),
        }
        let mut gone = Vec::new();
        let objects = if let Purge::Key(key) = purge {
            self.purges.advance(sequence);
            let mut shard = self.shard(key.hash);
            let objects = shard.purge(key, soft, sequence, &mut gone);
            objects.max(usize::from(is_on_disk))
        } else {
            self.purges.record_at(what, soft, sequence);
            0
        };
        if let Some(tier) = &tier {
            tier.settle(sequence);
        }
        drop(order);
        (Purged { sequence, objects }, tier)
    }

    /// Waits until no crash undoes the purges up to this one.
    pub fn poll_durable(&self, sequence: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.tier() {
            Some(tier) => tier.journal().poll(sequence, cx),
            // it comes while we look: the task is woken, and looks again
            None => match self.expected.poll(cx) {
                Poll::Ready(Ok(())) => match self.tier() {
                    Some(tier) => tier.journal().poll(sequence, cx),
                    None => Poll::Ready(Ok(())),
                },
                waits => waits,
            },
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let place = self.tier.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(tier) = place.take() {
            // not waited for: this may be one of its threads
            tier.close();
        }
    }
}
