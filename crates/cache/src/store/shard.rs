//! One of the parts that the index is made of, under its lock.

use std::sync::Arc;

use hashbrown::HashTable;

use super::Found;
use super::ask::{Ask, Seen, Variant, Wanted};
use super::fill::Fill;
use super::nodes::{NIL, Node, Nodes};
use super::object::{Key, Names, Object};
use super::pending::Pending;
use super::purge::{Cover, Purges};
use super::queue::{List, Queue, USES_MAX};
use super::stats::Counts;
use crate::policy::Why;

/// Bytes that the index takes for an object: its node, its place in the table (4 bytes and one, at a load of a half to seven
/// eighths), what remembers it after its eviction.
pub const NODE_WEIGHT: u64 = size_of::<Node>() as u64 + 12;
/// Bodies up to this are written to disk again because of a new head.
const AGAIN_MAX: u64 = 1024 * 1024;
/// Sets of names in `Vary` that are kept to be shared.
const NAMES_MAX: usize = 16;

/// An answer that could not be stored for this reason makes what was stored before unusable.
pub fn speaks_of_stored(why: Why) -> bool {
    !matches!(
        why,
        Why::Status | Why::Truncated | Why::NoRoom | Why::Authorization | Why::RequestNoStore
    )
}

/// What a shard holds. A cache line of its own: the next shard's lock is another core's.
#[repr(align(128))]
pub struct Shard {
    /// Of a key, its newest object's node.
    keys: HashTable<u32>,
    pub(super) nodes: Nodes,
    objects: usize,
    /// The first: of objects whose site has no quota.
    pub(super) queues: Vec<(Option<u32>, Queue)>,
    pending: Pending,
    names: Vec<Arc<[Box<[u8]>]>>,
    scratch: Vec<u8>,
    pub(super) random: u64,
    /// Where [`Shard::sweep`] goes on.
    swept: u32,
    /// Where the search for objects of a site goes on.
    pub(super) looked: u32,
    /// What happened.
    pub counts: Counts,
}

/// What another object has taken the place of, as long as that is not whole.
pub struct Old {
    /// It.
    pub object: Arc<Object>,
    /// It was purged softly.
    pub is_soft: bool,
}

/// Objects that have left the index, to be dropped when no lock is held.
pub type Gone = Vec<Arc<Object>>;

/// The table's hash, of the half that a node keeps.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            keys: HashTable::new(),
            nodes: Nodes::default(),
            objects: 0,
            queues: vec![(None, Queue::default())],
            pending: Pending::default(),
            names: Vec::new(),
            scratch: Vec::new(),
            random: 0x2545_F491_4F6C_DD1D,
            swept: 0,
            looked: 0,
            counts: Counts::default(),
        }
    }
}

impl Shard {
    /// Objects in it.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// Fetches under way whose head has not come.
    pub fn fills(&self) -> usize {
        self.pending.count()
    }

    /// As [`Shard::find`], for somebody who only wants to know: nothing is counted, and nothing stays longer because of it.
    pub fn peek(&mut self, ask: &Ask<'_>, variant: Variant<'_>, gone: &mut Gone) -> Found {
        let key = ask.key;
        let first = self.first(key.hash, key.bytes);
        let mut value = Vec::new();
        let mut wanted = Wanted::new(variant, &mut value);
        if let Some((node, object)) = self.find_object(first, &mut wanted, ask.purges, gone) {
            let soft = self.nodes.get(node).is_soft();
            return Found::Ready { object, soft };
        }
        let pending = self.pending.find(ask, &mut wanted);
        pending.unwrap_or_else(|| Found::Missing {
            vary: self.first(key.hash, key.bytes).is_some(),
        })
    }

    /// Objects of a host and a path that no purge covers, among the nodes from `from` on; at most `budget` are looked at. With
    /// each, whether it was purged softly. Where to go on, if that is not the end.
    pub fn at(
        &self,
        (host, path): (&str, &[u8]),
        from: u32,
        budget: u32,
        purges: &Purges,
        found: &mut Vec<(Arc<Object>, bool)>,
    ) -> Option<u32> {
        let end = self.nodes.end();
        let stop = from.saturating_add(budget).min(end);
        for node in (from..stop).map(|node| self.nodes.get(node)) {
            if let Some(object) = &node.object
                && object.path() == path
                && object.host() == host.as_bytes()
            {
                match purges.cover_object(object) {
                    Cover::Hard => {}
                    cover => {
                        let soft = node.is_soft() || cover == Cover::Soft;
                        found.push((Arc::clone(object), soft));
                    }
                }
            }
        }
        (stop < end).then_some(stop)
    }

    /// What is there for a request.
    pub fn find(&mut self, ask: &Ask<'_>, variant: Variant<'_>, gone: &mut Gone) -> Found {
        let key = ask.key;
        let first = self.first(key.hash, key.bytes);
        let mut value = std::mem::take(&mut self.scratch);
        let mut wanted = Wanted::new(variant, &mut value);
        let found = match self.find_object(first, &mut wanted, ask.purges, gone) {
            Some((node, object)) => self.hit(node, object, ask),
            None => match self.pending.find(ask, &mut wanted) {
                Some(found) => {
                    let is_fill = matches!(found, Found::Filling(_));
                    self.counts.followers += u64::from(is_fill);
                    self.counts.passes += u64::from(!is_fill);
                    found
                }
                None => {
                    self.counts.misses += 1;
                    // what was there may have been purged
                    let vary = first.is_some() && self.first(key.hash, key.bytes).is_some();
                    Found::Missing { vary }
                }
            },
        };
        self.scratch = value;
        found
    }

    fn hit(&mut self, node: u32, object: Arc<Object>, ask: &Ask<'_>) -> Found {
        self.counts.hits += 1;
        let node = self.nodes.get_mut(node);
        if ask.has_disk && !node.is_asked() && node.list != List::None && !node.is_soft() {
            node.set_asked(true);
            ask.is_worth_saving.set(true);
        }
        let uses = node.uses();
        if uses < USES_MAX {
            node.set_uses(uses + 1);
        }
        self.counts.filling += u64::from(node.list == List::None);
        Found::Ready {
            object,
            soft: node.is_soft(),
        }
    }

    /// Every object of a key, newest first.
    pub fn all(&self, key: &Key<'_>) -> Vec<Arc<Object>> {
        let chain = self.nodes.chain(self.first(key.hash, key.bytes));
        chain
            .filter_map(|node| self.nodes.get(node).object.clone())
            .collect()
    }

    fn first(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let nodes = &self.nodes;
        let is = |node: &u32| nodes.get(*node).has_key(key);
        self.keys.find(spread(hash as u32), is).copied()
    }

    /// The newest object of a chain that fits, and that no purge covers.
    fn find_object(
        &mut self,
        first: Option<u32>,
        wanted: &mut Wanted<'_, '_>,
        purges: &Purges,
        gone: &mut Gone,
    ) -> Option<(u32, Arc<Object>)> {
        let live = purges.live();
        let mut at = first.unwrap_or(NIL);
        while at != NIL {
            let node = self.nodes.get(at);
            let sibling = node.sibling;
            if let Some(object) = &node.object
                && wanted.is(object.names(), object.variant())
            {
                let object = Arc::clone(object);
                if node.checked == live as u32 || self.check(at, live, purges, gone) {
                    return Some((at, object));
                }
            }
            at = sibling;
        }
        None
    }

    /// Compares a node with the purges. `false`: it is gone.
    fn check(&mut self, at: u32, live: u64, purges: &Purges, gone: &mut Gone) -> bool {
        let node = self.nodes.get_mut(at);
        let Some(object) = &node.object else {
            return false;
        };
        match purges.cover_object(object) {
            Cover::Hard => {
                self.counts.purged += 1;
                gone.extend(self.unlink(at));
                return false;
            }
            Cover::Soft => node.set_soft(true),
            Cover::No => {}
        }
        node.checked = live as u32;
        true
    }

    /// Who fetches: the one that does already, or `new` from now on, with followers or without. `seen`: the object that does not do; if another one is there
    /// by now, it does.
    pub fn lead(
        &mut self,
        ask: &Ask<'_>,
        variant: Variant<'_>,
        seen: Seen<'_>,
        new: impl FnOnce(bool) -> Arc<Fill>,
        gone: &mut Gone,
    ) -> Result<Arc<Fill>, Arc<Fill>> {
        let mut value = std::mem::take(&mut self.scratch);
        let mut wanted = Wanted::new(variant, &mut value);
        let led = self.lead_or_follow(ask, &mut wanted, seen, new, gone);
        self.scratch = value;
        match led {
            Ok(_) => self.counts.leads += 1,
            Err(_) => self.counts.followers += 1,
        }
        led
    }

    fn lead_or_follow(
        &mut self,
        ask: &Ask<'_>,
        wanted: &mut Wanted<'_, '_>,
        seen: Seen<'_>,
        new: impl FnOnce(bool) -> Arc<Fill>,
        gone: &mut Gone,
    ) -> Result<Arc<Fill>, Arc<Fill>> {
        let key = ask.key;
        let first = self.first(key.hash, key.bytes);
        if !matches!(seen, Seen::Whatever)
            && let Some((node, object)) = self.find_object(first, wanted, ask.purges, gone)
            && !self.nodes.get(node).is_soft()
            && !matches!(seen, Seen::Object(seen) if Arc::ptr_eq(seen, &object))
        {
            return Err(Fill::done_with(object));
        }
        if let Some(fill) = self.pending.fill(ask, wanted) {
            return Err(fill);
        }
        if !self.pending.has_place(key) {
            let fill = new(false);
            self.pending.begin_alone(key.hash, fill.born());
            return Ok(fill);
        }
        // the newest object tells which fields make a difference
        let newest = self.first(key.hash, key.bytes);
        let newest = newest.and_then(|node| self.nodes.get(node).object.as_ref());
        let names = newest.and_then(|object| object.names().cloned());
        let fill = new(true);
        let value = wanted.value(names.as_ref());
        self.pending.begin(key, names.clone(), value, &fill);
        Ok(fill)
    }

    /// A fetch that nobody follows.
    pub fn begin_alone(&mut self, fill: &Fill) {
        self.counts.leads += 1;
        self.pending.begin_alone(fill.key().hash, fill.born());
    }

    /// A fetch is over, or its head has come.
    pub fn end_fill(&mut self, fill: &Arc<Fill>) {
        let key = fill.key();
        if fill.is_alone() {
            self.pending.end_alone(key.hash, fill.born());
        } else {
            self.pending.end(&key, fill);
        }
    }

    /// Whether a purge of its key covers a fetch that has not ended.
    pub fn cover(&self, fill: &Fill) -> Cover {
        if fill.is_alone() {
            self.pending.cover_alone(fill.key().hash, fill.born())
        } else {
            fill.cover()
        }
    }

    /// The answer of a fetch could not be stored: until then nobody waits. What is there goes, or it stays and there is no mark if
    /// the answer says nothing about it.
    pub fn refuse(
        &mut self,
        fill: &Arc<Fill>,
        until_ms: u64,
        why: Why,
        now_ms: u64,
        gone: &mut Gone,
    ) {
        if fill.is_alone() {
            return self.end_fill(fill); // it knows nothing of variants
        }
        let key = &fill.key();
        let Some((names, variant)) = self.pending.end(key, fill) else {
            return;
        };
        if let Some(node) = self.of_variant(key, names.as_ref(), &variant) {
            if !speaks_of_stored(why) {
                return;
            }
            gone.extend(self.unlink(node));
        }
        self.pending
            .mark(key, (names, variant), until_ms, why, now_ms);
    }

    /// An object that left the index while it filled: until then nobody waits for its like.
    pub fn mark_like(
        &mut self,
        key: &Key<'_>,
        object: &Object,
        until_ms: u64,
        why: Why,
        now_ms: u64,
    ) {
        let variant = (object.names().cloned(), object.variant().into());
        self.pending.mark(key, variant, until_ms, why, now_ms);
    }

    /// The object of exactly this variant.
    fn of_variant(
        &self,
        key: &Key<'_>,
        names: Option<&Arc<[Box<[u8]>]>>,
        variant: &[u8],
    ) -> Option<u32> {
        let mut chain = self.nodes.chain(self.first(key.hash, key.bytes));
        chain.find(|&node| {
            let object = self.nodes.get(node).object.as_ref();
            object.is_some_and(|object| object.names() == names && object.variant() == variant)
        })
    }

    fn of_object(&self, hash: u64, object: &Arc<Object>) -> Option<u32> {
        let mut chain = self.nodes.chain(self.first(hash, object.key()));
        chain.find(|&node| self.nodes.get(node).is(object))
    }

    /// The same names as others have, in one place.
    pub fn share(&mut self, names: Vec<Box<[u8]>>) -> Names {
        if names.is_empty() {
            return None;
        }
        if let Some(known) = self.names.iter().find(|known| ***known == *names) {
            return Some(Arc::clone(known));
        }
        let names: Arc<[Box<[u8]>]> = names.into();
        if self.names.len() >= NAMES_MAX {
            self.names.remove(0);
        }
        self.names.push(Arc::clone(&names));
        Some(names)
    }

    /// An object comes in that fills, or is complete, unless a purge covers it already. The one of the same variant that was there.
    pub fn insert(
        &mut self,
        key: &Key<'_>,
        object: &Arc<Object>,
        vary_max: usize,
        has_quota: bool,
        (purges, cover): (&Purges, Cover),
        gone: &mut Gone,
    ) -> Result<Option<Old>, Why> {
        let live = purges.live();
        let cover = cover.max(purges.cover_object(object));
        if cover == Cover::Hard {
            return Ok(None);
        }
        let same = self.of_variant(key, object.names(), object.variant());
        if same.is_none() {
            self.make_place(key, object, vary_max, gone)?;
        }
        self.pending.unmark(key, object.names(), object.variant());
        let old = same.and_then(|node| {
            let is_soft = self.nodes.get(node).is_soft();
            let object = self.unlink(node)?;
            Some(Old { object, is_soft })
        });
        let queue = self.queue(object.site(), has_quota);
        let mut node = Node::new(Arc::clone(object), key.hash as u32, live as u32, queue);
        node.set_soft(cover == Cover::Soft);
        let node = self.nodes.add(node);
        self.objects += 1;
        let nodes = &mut self.nodes;
        let hash = spread(key.hash as u32);
        let first = self
            .keys
            .find_mut(hash, |&other| nodes.get(other).has_key(key.bytes));
        match first {
            Some(first) => nodes.get_mut(node).sibling = std::mem::replace(first, node),
            None => {
                let hasher = |node: &u32| spread(nodes.get(*node).hash);
                self.keys.insert_unique(hash, node, hasher);
            }
        }
        if object.body.is_complete() {
            self.enqueue(node);
        } else {
            object.body.set_indexed(true);
        }
        Ok(old)
    }

    /// One more variant has a place: there are not too many, or the oldest of those that are over goes.
    fn make_place(
        &mut self,
        key: &Key<'_>,
        new: &Object,
        vary_max: usize,
        gone: &mut Gone,
    ) -> Result<(), Why> {
        let chain: Vec<u32> = self.nodes.chain(self.first(key.hash, key.bytes)).collect();
        if chain.len() < vary_max.max(1) {
            return Ok(());
        }
        let now_ms = new.meta().received_ms;
        let over = chain.into_iter().rev().find(|&node| {
            let node = self.nodes.get(node);
            let object = node.object.as_ref();
            node.list != List::None && object.is_some_and(|object| object.is_over(now_ms))
        });
        let node = over.ok_or(Why::Variants)?;
        gone.extend(self.unlink(node));
        Ok(())
    }

    /// An object has come whole. Whether it was asked for while it came; none: it is not in the index.
    pub fn complete(&mut self, hash: u64, object: &Arc<Object>) -> Option<bool> {
        self.counts.stored += 1;
        let node = self.of_object(hash, object)?;
        let was_used = self.nodes.get(node).uses() > 0;
        if self.nodes.get(node).list == List::None {
            self.enqueue(node);
        }
        Some(was_used)
    }

    /// An object comes in from the disk, unless another one of its variant has come meanwhile. `false`: that is so.
    pub fn insert_stored(
        &mut self,
        key: &Key<'_>,
        object: &Arc<Object>,
        (vary_max, has_quota): (usize, bool),
        cover: (&Purges, Cover),
        gone: &mut Gone,
    ) -> Result<bool, Why> {
        let names = object.names();
        if self.of_variant(key, names, object.variant()).is_some() {
            return Ok(false);
        }
        self.insert(key, object, vary_max, has_quota, cover, gone)?;
        if let Some(node) = self.of_object(key.hash, object) {
            let node = self.nodes.get_mut(node);
            node.set_asked(true);
            node.set_saved(true);
        }
        Ok(true)
    }

    /// An object is in the index, whole, and not covered by a purge.
    pub fn is_stored(&self, hash: u64, object: &Arc<Object>, purges: &Purges) -> bool {
        let node = self.of_object(hash, object).map(|n| self.nodes.get(n));
        let is_good = node.is_some_and(|node| node.list != List::None && !node.is_soft());
        is_good && purges.cover_object(object) == Cover::No
    }

    /// An object is on disk, or it is to be asked again whether it is worth it.
    pub fn set_saved(&mut self, hash: u64, object: &Arc<Object>, is_saved: bool) {
        if let Some(node) = self.of_object(hash, object) {
            let node = self.nodes.get_mut(node);
            node.set_asked(is_saved);
            node.set_saved(is_saved);
        }
    }

    /// It has been found worth a write.
    pub fn set_asked(&mut self, hash: u64, object: &Arc<Object>) {
        if let Some(node) = self.of_object(hash, object) {
            self.nodes.get_mut(node).set_asked(true);
        }
    }

    /// What has this hash is not on disk any more.
    pub fn unsave(&mut self, hash: u64) {
        let Self { keys, nodes, .. } = self;
        for &first in keys.iter_hash(spread(hash as u32)) {
            let mut at = first;
            while at != NIL {
                let node = nodes.get_mut(at);
                if node.hash == hash as u32 {
                    node.unsave();
                }
                at = node.sibling;
            }
        }
    }

    /// Nothing is on disk.
    pub fn unsave_all(&mut self) {
        for node in 0..self.nodes.end() {
            self.nodes.get_mut(node).unsave();
        }
    }

    /// Objects that are not on disk and worth it, each with how useful it is.
    pub fn worth_saving(&self, purges: &Purges, now_ms: u64, found: &mut Vec<(u8, Arc<Object>)>) {
        for node in (0..self.nodes.end()).map(|node| self.nodes.get(node)) {
            if let Some(object) = &node.object
                && node.list != List::None
                && !node.is_soft()
                && !node.is_saved()
                && object.is_useful(now_ms)
                && purges.cover_object(object) == Cover::No
            {
                let is_main = u8::from(node.list == List::Main);
                found.push((node.uses() + is_main * (USES_MAX + 1), Arc::clone(object)));
            }
        }
    }

    /// Takes an object out that did not come whole. The one in whose place it came is there again (CA-10), unless a purge has
    /// covered either.
    pub fn restore(
        &mut self,
        key: &Key<'_>,
        cut: &Arc<Object>,
        old: Option<Old>,
        purges: &Purges,
        gone: &mut Gone,
    ) {
        let Some(node) = self.of_object(key.hash, cut) else {
            gone.extend(old.map(|old| old.object));
            return;
        };
        let entry = self.nodes.get(node);
        let (is_soft, has_quota) = (entry.is_soft(), entry.queue != 0);
        gone.extend(self.unlink(node));
        let Some(old) = old else {
            return;
        };
        if old.object.born >= purges.retired() {
            let is_soft = is_soft || old.is_soft;
            let cover = if is_soft { Cover::Soft } else { Cover::No };
            let cover = (purges, cover);
            let _ = self.insert(key, &old.object, usize::MAX, has_quota, cover, gone);
        }
        gone.push(old.object);
    }

    /// Puts `new` into the place of `old`, if that is still there and whole. What is to be dropped.
    pub fn replace(
        &mut self,
        hash: u64,
        old: &Arc<Object>,
        new: &Arc<Object>,
        (purges, cover): (&Purges, Cover),
    ) -> Option<Arc<Object>> {
        let node = self.of_object(hash, old)?;
        let live = purges.live();
        let cover = cover.max(purges.cover_object(new));
        if cover == Cover::Hard {
            return self.unlink(node);
        }
        let entry = self.nodes.get_mut(node);
        if entry.list == List::None {
            return None; // its writer will look for the old one
        }
        let before = entry.weight();
        let old = entry.object.replace(Arc::clone(new));
        entry.checked = live as u32;
        entry.set_soft(cover == Cover::Soft);
        // on disk it has its old head: a small one is written again soon, another one at the end
        entry.set_saved(false);
        if new.body.len() <= AGAIN_MAX {
            entry.set_asked(false);
        }
        let (list, queue, now) = (entry.list, usize::from(entry.queue), entry.weight());
        if let Some((_, queue)) = self.queues.get_mut(queue) {
            queue.reweigh(list, before, now);
        }
        old
    }

    /// Takes a node out of everything.
    pub(super) fn unlink(&mut self, node: u32) -> Option<Arc<Object>> {
        let entry = self.nodes.get(node);
        let object = entry.object.clone()?;
        let (hash, sibling) = (spread(entry.hash), entry.sibling);
        if let Some((_, queue)) = self.queues.get_mut(usize::from(entry.queue)) {
            queue.remove(&mut self.nodes, node);
        }
        let nodes = &mut self.nodes;
        let first = self
            .keys
            .find_entry(hash, |&other| nodes.get(other).has_key(object.key()));
        if let Ok(mut first) = first {
            if *first.get() != node {
                let mut chain = nodes.chain(Some(*first.get()));
                let before = chain.find(|&other| nodes.get(other).sibling == node);
                drop(chain);
                if let Some(before) = before {
                    nodes.get_mut(before).sibling = sibling;
                }
            } else if sibling == NIL {
                first.remove();
            } else {
                *first.get_mut() = sibling;
            }
        }
        self.nodes.free(node);
        self.objects -= 1;
        object.body.set_indexed(false);
        Some(object)
    }

    /// A purge of one key. How many objects it covers.
    pub fn purge(&mut self, key: &Key<'_>, soft: bool, sequence: u64, gone: &mut Gone) -> usize {
        let first = self.first(key.hash, key.bytes);
        let nodes: Vec<u32> = self.nodes.chain(first).collect();
        for &node in &nodes {
            if soft {
                self.nodes.get_mut(node).set_soft(true);
            } else {
                self.counts.purged += 1;
                gone.extend(self.unlink(node));
            }
        }
        self.pending.purge(key, soft, sequence);
        nodes.len()
    }

    /// Looks through at most `budget` nodes from where it stopped.
    pub fn sweep(&mut self, budget: usize, purges: &Purges, gone: &mut Gone) -> Swept {
        let live = purges.live();
        let end = self.nodes.end();
        let budget = u32::try_from(budget).unwrap_or(u32::MAX);
        let stop = self.swept.saturating_add(budget).min(end);
        let looked = stop.saturating_sub(self.swept) as usize;
        for node in self.swept..stop {
            if self.nodes.get(node).object.is_some() {
                self.check(node, live, purges, gone);
            }
        }
        let is_end = stop == end;
        self.swept = if is_end { 0 } else { stop };
        Swept {
            looked,
            is_end,
            oldest_fill: self.pending.oldest(),
        }
    }
}

/// What a step of [`Shard::sweep`] did.
pub struct Swept {
    /// Nodes that it looked at.
    pub looked: usize,
    /// It came to the end, and begins again.
    pub is_end: bool,
    /// The place in the sequence of purges of the oldest fetch whose head has not come.
    pub oldest_fill: Option<u64>,
}
