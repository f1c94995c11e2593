//! One of the parts that the index is made of, under its lock.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;

use super::Found;
use super::fill::Fill;
use super::object::{Key, Names, Object};
use super::purge::{Cover, Purges};
use super::queue::{List, Queue, USES_MAX};
use crate::policy::Why;

/// No node.
pub const NIL: u32 = u32::MAX;
/// Nodes that are allocated together.
const CHUNK: usize = 64;
/// Bytes that the index takes for an object: its node, its place in the table (4 bytes and one, at a load of a half to seven
/// eighths), what remembers it after its eviction.
pub const NODE_WEIGHT: u64 = size_of::<Node>() as u64 + 12;
/// Sites with a quota that have a queue of their own in a shard; further ones share the common one.
const QUEUES_MAX: usize = 1_024;
/// Sets of names in `Vary` that are kept to be shared.
const NAMES_MAX: usize = 16;
/// Answers that could not be stored, remembered in a shard.
const MARKS_MAX: usize = 1_024;
/// Bytes of their keys and variants.
const MARK_BYTES_MAX: usize = 256 * 1024;

/// An object in the index.
pub struct Node {
    /// None: the node is free.
    pub object: Option<Arc<Object>>,
    /// Of the key.
    pub hash: u32,
    /// In its list.
    pub newer: u32,
    /// In its list.
    pub older: u32,
    /// The next object of the same key, older than this one; of a free node, the next free one.
    pub sibling: u32,
    /// No purge up to this one covers it (the sequence's low half).
    pub checked: u32,
    /// Which of the shard's queues.
    pub queue: u16,
    /// Which of its lists.
    pub list: List,
    /// Uses since it came in, and whether it was purged softly.
    pub uses: u8,
}

const USES: u8 = 0x0F;
const SOFT: u8 = 0x80;

impl Node {
    /// Uses since it came into its list.
    pub fn uses(&self) -> u8 {
        self.uses & USES
    }

    /// So many uses.
    pub fn set_uses(&mut self, uses: u8) {
        self.uses = (self.uses & SOFT) | uses;
    }

    /// Somebody has its object besides the index.
    pub fn is_read(&self) -> bool {
        self.object
            .as_ref()
            .is_some_and(|object| Arc::strong_count(object) > 1)
    }

    /// Bytes of its object.
    pub fn weight(&self) -> u64 {
        self.object.as_ref().map_or(0, |object| object.weight())
    }

    fn has_key(&self, key: &[u8]) -> bool {
        self.object
            .as_ref()
            .is_some_and(|object| *object.key == *key)
    }
}

/// Nodes, by number. They grow by a chunk, never by half of themselves.
#[derive(Default)]
pub struct Nodes {
    chunks: Vec<Vec<Node>>,
    free: Option<u32>,
}

impl Nodes {
    /// The node of this number.
    pub fn get(&self, node: u32) -> &Node {
        &self.chunks[node as usize / CHUNK][node as usize % CHUNK]
    }

    /// The node of this number.
    pub fn get_mut(&mut self, node: u32) -> &mut Node {
        &mut self.chunks[node as usize / CHUNK][node as usize % CHUNK]
    }

    /// Numbers are below this.
    pub fn end(&self) -> u32 {
        let last = self.chunks.last().map_or(0, Vec::len);
        (self.chunks.len().saturating_sub(1) * CHUNK + last) as u32
    }

    fn add(&mut self, node: Node) -> u32 {
        if let Some(free) = self.free {
            let place = self.get_mut(free);
            let next = place.sibling;
            *place = node;
            self.free = (next != NIL).then_some(next);
            return free;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let number = self.end();
        if let Some(last) = self.chunks.last_mut() {
            last.push(node);
        }
        number
    }

    fn free(&mut self, node: u32) {
        let next = self.free.unwrap_or(NIL);
        let place = self.get_mut(node);
        place.object = None;
        place.sibling = next;
        place.list = List::None;
        place.uses = 0;
        self.free = Some(node);
    }
}

/// What waits or is to pass, of a key that has no object for it.
struct Pending {
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

/// What happened in a shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Objects found.
    pub hits: u64,
    /// Of them: still filling.
    pub filling: u64,
    /// Nothing found.
    pub misses: u64,
    /// A fetch found whose head had not come.
    pub waits: u64,
    /// Answers that could not be stored.
    pub passes: u64,
    /// Fetches begun.
    pub leads: u64,
    /// Those that went along with a fetch.
    pub followers: u64,
    /// Objects that went for lack of room.
    pub evictions: u64,
    /// Bytes of them.
    pub evicted_bytes: u64,
    /// Objects that a purge covered.
    pub purged: u64,
    /// Objects that did not come whole.
    pub cuts: u64,
    /// Objects that came whole.
    pub stored: u64,
}

impl Counts {
    /// Those of another shard, too.
    pub fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.filling += other.filling;
        self.misses += other.misses;
        self.waits += other.waits;
        self.passes += other.passes;
        self.leads += other.leads;
        self.followers += other.followers;
        self.evictions += other.evictions;
        self.evicted_bytes += other.evicted_bytes;
        self.purged += other.purged;
        self.cuts += other.cuts;
        self.stored += other.stored;
    }
}

/// What a shard holds.
pub struct Shard {
    table: HashTable<u32>,
    nodes: Nodes,
    objects: usize,
    /// The first: of objects whose site has no quota.
    queues: Vec<(u32, Queue)>,
    pending: HashTable<Pending>,
    /// Until when, and of which key: in the order in which they were made.
    marks: VecDeque<(u64, u64)>,
    mark_bytes: usize,
    names: Vec<Arc<[Box<[u8]>]>>,
    scratch: Vec<u8>,
    random: u64,
    /// Where [`Shard::sweep`] goes on.
    swept: u32,
    /// What happened.
    pub counts: Counts,
}

/// Objects that have left the index, to be dropped when no lock is held.
pub type Gone = Vec<Arc<Object>>;

/// Puts together which variant a request wants, of these names.
pub type Variant<'a> = &'a mut dyn FnMut(&[Box<[u8]>], &mut Vec<u8>);

/// The value of a variant, put together once for each set of names.
struct Wanted<'a, 'b> {
    variant: Variant<'a>,
    scratch: &'b mut Vec<u8>,
    made_of: Option<*const Box<[u8]>>,
}

impl Wanted<'_, '_> {
    fn is(&mut self, names: Option<&Arc<[Box<[u8]>]>>, value: &[u8]) -> bool {
        let Some(names) = names else {
            return true;
        };
        self.make(names);
        **self.scratch == *value
    }

    fn make(&mut self, names: &Arc<[Box<[u8]>]>) {
        if self.made_of != Some(names.as_ptr()) {
            self.scratch.clear();
            (self.variant)(names, self.scratch);
            self.made_of = Some(names.as_ptr());
        }
    }
}

fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            nodes: Nodes::default(),
            objects: 0,
            queues: vec![(u32::MAX, Queue::default())],
            pending: HashTable::new(),
            marks: VecDeque::new(),
            mark_bytes: 0,
            names: Vec::new(),
            scratch: Vec::new(),
            random: 0x2545_F491_4F6C_DD1D,
            swept: 0,
            counts: Counts::default(),
        }
    }
}

impl Shard {
    /// Objects in it.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// The place in the sequence of purges of the oldest fetch whose head has not come.
    pub fn oldest_fill(&self) -> Option<u64> {
        let items = self.pending.iter().flat_map(|pending| &pending.items);
        items
            .filter_map(|item| match &item.what {
                What::Fill(fill) => Some(fill.born()),
                What::Mark { .. } => None,
            })
            .min()
    }

    /// Fetches under way whose head has not come.
    pub fn fills(&self) -> usize {
        let items = self.pending.iter().flat_map(|pending| &pending.items);
        items
            .filter(|item| matches!(item.what, What::Fill(_)))
            .count()
    }

    /// What is there for a request.
    pub fn find(
        &mut self,
        key: &Key<'_>,
        variant: Variant<'_>,
        now_ms: u64,
        purges: &Purges,
        gone: &mut Gone,
    ) -> Found {
        let first = self.first(key);
        if let Some((node, object)) = self.find_object(first, variant, purges, gone) {
            self.counts.hits += 1;
            let entry = self.nodes.get_mut(node);
            let uses = entry.uses();
            if uses < USES_MAX {
                entry.set_uses(uses + 1);
            }
            if entry.list == List::None {
                self.counts.filling += 1;
            }
            let soft = entry.uses & SOFT != 0;
            return Found::Ready { object, soft };
        }
        match self.find_pending(key, variant, now_ms, purges) {
            Some(found) => found,
            None => {
                self.counts.misses += 1;
                Found::Missing {
                    vary: first.is_some() && self.first(key).is_some(),
                }
            }
        }
    }

    /// Every object of a key.
    pub fn all(&self, key: &Key<'_>) -> Vec<Arc<Object>> {
        let mut all = Vec::new();
        let mut at = self.first(key).unwrap_or(NIL);
        while at != NIL {
            let node = self.nodes.get(at);
            all.extend(node.object.clone());
            at = node.sibling;
        }
        all
    }

    fn first(&self, key: &Key<'_>) -> Option<u32> {
        let nodes = &self.nodes;
        self.table
            .find(spread(key.hash as u32), |&node| {
                nodes.get(node).has_key(key.bytes)
            })
            .copied()
    }

    /// The newest object of a chain that fits.
    fn find_object(
        &mut self,
        first: Option<u32>,
        variant: Variant<'_>,
        purges: &Purges,
        gone: &mut Gone,
    ) -> Option<(u32, Arc<Object>)> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut wanted = Wanted {
            variant,
            scratch: &mut scratch,
            made_of: None,
        };
        let live = purges.live();
        let mut at = first.unwrap_or(NIL);
        let mut found = None;
        while at != NIL {
            let node = self.nodes.get(at);
            let sibling = node.sibling;
            if let Some(object) = &node.object
                && wanted.is(object.names(), object.variant())
            {
                if node.checked == live as u32 {
                    found = Some((at, Arc::clone(object)));
                    break;
                }
                if self.check(at, live, purges, gone) {
                    found = self.nodes.get(at).object.clone().map(|object| (at, object));
                    break;
                }
            }
            at = sibling;
        }
        self.scratch = scratch;
        found
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
            Cover::Soft => node.uses |= SOFT,
            Cover::No => {}
        }
        node.checked = live as u32;
        true
    }

    fn find_pending(
        &mut self,
        key: &Key<'_>,
        variant: Variant<'_>,
        now_ms: u64,
        purges: &Purges,
    ) -> Option<Found> {
        let pending = self
            .pending
            .find(key.hash, |pending| *pending.key == *key.bytes)?;
        let mut wanted = Wanted {
            variant,
            scratch: &mut self.scratch,
            made_of: None,
        };
        for item in &pending.items {
            if !wanted.is(item.names.as_ref(), &item.variant) {
                continue;
            }
            match &item.what {
                What::Fill(fill) if fill.may_be_followed(now_ms, purges) => {
                    self.counts.waits += 1;
                    return Some(Found::Filling(Arc::clone(fill)));
                }
                What::Mark { until_ms, why } if *until_ms > now_ms => {
                    self.counts.passes += 1;
                    return Some(Found::HitForMiss(*why));
                }
                _ => {}
            }
        }
        None
    }

    /// Who fetches: the one that does, or `new` from now on. `seen`: the object that does not do; if another one is there, it does.
    pub fn lead(
        &mut self,
        key: &Key<'_>,
        variant: Variant<'_>,
        now_ms: u64,
        seen: Option<Option<&Arc<Object>>>,
        purges: &Purges,
        new: impl FnOnce() -> Arc<Fill>,
        gone: &mut Gone,
    ) -> Result<Arc<Fill>, Arc<Fill>> {
        let first = self.first(key);
        if let Some(seen) = seen
            && let Some((_, object)) = self.find_object(first, variant, purges, gone)
            && seen.is_none_or(|seen| !Arc::ptr_eq(seen, &object))
        {
            return Err(Fill::done_with(object));
        }
        if let Some(Found::Filling(fill)) = self.find_pending(key, variant, now_ms, purges) {
            self.counts.waits -= 1;
            self.counts.followers += 1;
            return Err(fill);
        }
        // the newest object tells which fields make a difference
        let first = self
            .first(key)
            .and_then(|node| self.nodes.get(node).object.clone());
        let names = first.and_then(|object| object.names().cloned());
        self.scratch.clear();
        if let Some(names) = &names {
            variant(names, &mut self.scratch);
        }
        let fill = new();
        let item = Item {
            names,
            variant: self.scratch.as_slice().into(),
            what: What::Fill(Arc::clone(&fill)),
        };
        self.counts.leads += 1;
        self.add_pending(key.hash, key.bytes, item);
        Ok(fill)
    }

    fn add_pending(&mut self, hash: u64, key: &[u8], item: Item) {
        let entry =
            self.pending
                .entry(hash, |pending| *pending.key == *key, |pending| pending.hash);
        entry
            .or_insert_with(|| Pending {
                hash,
                key: key.into(),
                items: Vec::new(),
            })
            .into_mut()
            .items
            .push(item);
    }

    /// A fetch is over, or its head has come. Which variant it was for, if the index still knows it.
    pub fn end_fill(
        &mut self,
        hash: u64,
        key: &[u8],
        fill: &Arc<Fill>,
    ) -> Option<(Names, Box<[u8]>)> {
        let mut ended = None;
        self.retain(hash, key, |item| {
            let is = matches!(&item.what, What::Fill(other) if Arc::ptr_eq(other, fill));
            if is {
                ended = Some((item.names.take(), std::mem::take(&mut item.variant)));
            }
            !is
        });
        ended
    }

    fn retain(&mut self, hash: u64, key: &[u8], mut keep: impl FnMut(&mut Item) -> bool) {
        let Ok(mut entry) = self
            .pending
            .find_entry(hash, |pending| *pending.key == *key)
        else {
            return;
        };
        let pending = entry.get_mut();
        let length = pending.key.len();
        let mark_bytes = &mut self.mark_bytes;
        pending.items.retain_mut(|item| {
            let stays = keep(item);
            if !stays && let What::Mark { .. } = item.what {
                *mark_bytes -= length + item.variant.len();
            }
            stays
        });
        if pending.items.is_empty() {
            entry.remove();
        }
    }

    /// The answer for a variant could not be stored: until then nobody waits. If an object is there that `stays`, nothing happens.
    pub fn mark(
        &mut self,
        fill: (&Arc<Fill>, &Key<'_>),
        until_ms: u64,
        why: Why,
        now_ms: u64,
        gone: &mut Gone,
    ) {
        let (fill, key) = fill;
        let Some((names, variant)) = self.end_fill(key.hash, key.bytes, fill) else {
            return;
        };
        if let Some(node) = self.of_variant(key, names.as_ref(), &variant) {
            if matches!(why, Why::Status | Why::Truncated | Why::NoRoom) {
                return;
            }
            gone.extend(self.unlink(node));
        }
        if until_ms <= now_ms {
            return;
        }
        self.retain(key.hash, key.bytes, |item| {
            matches!(item.what, What::Fill(_)) || item.names != names || item.variant != variant
        });
        self.mark_bytes += key.bytes.len() + variant.len();
        self.marks.push_back((until_ms, key.hash));
        let what = What::Mark { until_ms, why };
        let item = Item {
            names,
            variant,
            what,
        };
        self.add_pending(key.hash, key.bytes, item);
        while let Some(&(until, hash)) = self.marks.front()
            && (until <= now_ms || self.marks.len() > MARKS_MAX || self.mark_bytes > MARK_BYTES_MAX)
        {
            self.marks.pop_front();
            self.unmark(until, hash);
        }
    }

    fn unmark(&mut self, until: u64, hash: u64) {
        let found = self.pending.find(hash, |pending| pending.hash == hash);
        let Some(key) = found.map(|pending| pending.key.clone()) else {
            return;
        };
        self.retain(
            hash,
            &key,
            |item| !matches!(item.what, What::Mark { until_ms, .. } if until_ms == until),
        );
    }

    /// The object of exactly this variant.
    fn of_variant(
        &self,
        key: &Key<'_>,
        names: Option<&Arc<[Box<[u8]>]>>,
        variant: &[u8],
    ) -> Option<u32> {
        self.chain(self.first(key)).find(|&at| {
            self.nodes
                .get(at)
                .object
                .as_ref()
                .is_some_and(|object| object.names() == names && object.variant() == variant)
        })
    }

    fn of_object(&self, hash: u64, object: &Arc<Object>) -> Option<u32> {
        let nodes = &self.nodes;
        let first = self
            .table
            .find(spread(hash as u32), |&node| {
                nodes.get(node).has_key(&object.key)
            })
            .copied();
        self.chain(first).find(|&at| {
            let node = self.nodes.get(at);
            node.object
                .as_ref()
                .is_some_and(|other| Arc::ptr_eq(other, object))
        })
    }

    fn chain(&self, first: Option<u32>) -> impl Iterator<Item = u32> {
        std::iter::successors(first, |&at| {
            let sibling = self.nodes.get(at).sibling;
            (sibling != NIL).then_some(sibling)
        })
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
    ) -> Result<Option<Arc<Object>>, Why> {
        let live = purges.live();
        let cover = cover.max(purges.cover_object(object));
        if cover == Cover::Hard {
            return Ok(None);
        }
        let names = object.names();
        let same = self.of_variant(key, names, object.variant());
        if same.is_none() && self.chain(self.first(key)).count() >= vary_max.max(1) {
            return Err(Why::Variants);
        }
        self.retain(key.hash, key.bytes, |item| {
            let is_other = item.names.as_ref() != names || *item.variant != *object.variant();
            matches!(item.what, What::Fill(_)) || (item.names.is_some() && is_other)
        });
        let old = same.and_then(|node| self.unlink(node));
        let queue = self.queue(object.site(), has_quota);
        let node = self.nodes.add(Node {
            object: Some(Arc::clone(object)),
            hash: key.hash as u32,
            newer: NIL,
            older: NIL,
            sibling: NIL,
            checked: live as u32,
            queue,
            list: List::None,
            uses: if cover == Cover::Soft { SOFT } else { 0 },
        });
        self.objects += 1;
        let nodes = &mut self.nodes;
        let found = self.table.find_mut(spread(key.hash as u32), |&other| {
            nodes.get(other).has_key(key.bytes)
        });
        match found {
            Some(first) => nodes.get_mut(node).sibling = std::mem::replace(first, node),
            None => {
                self.table
                    .insert_unique(spread(key.hash as u32), node, |&node| {
                        spread(nodes.get(node).hash)
                    });
            }
        }
        if object.body.is_complete() {
            self.enqueue(node);
        } else {
            object.body.set_indexed(true);
        }
        Ok(old)
    }

    fn queue(&mut self, site: u32, has_quota: bool) -> u16 {
        if !has_quota {
            return 0;
        }
        if let Some(at) = self.queues.iter().position(|(other, _)| *other == site) {
            return at as u16;
        }
        if self.queues.len() >= QUEUES_MAX {
            return 0;
        }
        self.queues.push((site, Queue::default()));
        (self.queues.len() - 1) as u16
    }

    fn enqueue(&mut self, node: u32) {
        let queue = usize::from(self.nodes.get(node).queue);
        if let Some((_, queue)) = self.queues.get_mut(queue) {
            queue.insert(&mut self.nodes, node);
        }
    }

    /// An object has come whole.
    pub fn complete(&mut self, hash: u64, object: &Arc<Object>) {
        self.counts.stored += 1;
        if let Some(node) = self.of_object(hash, object)
            && self.nodes.get(node).list == List::None
        {
            self.enqueue(node);
        }
    }

    /// Takes an object out that did not come whole; the one in whose place it came is there again (CA-10), unless a purge has
    /// covered either.
    pub fn restore(
        &mut self,
        key: &Key<'_>,
        cut: &Arc<Object>,
        old: Option<Arc<Object>>,
        purges: &Purges,
        gone: &mut Gone,
    ) {
        self.counts.cuts += 1;
        let Some(node) = self.of_object(key.hash, cut) else {
            gone.extend(old);
            return;
        };
        let entry = self.nodes.get(node);
        let (is_soft, has_quota) = (entry.uses & SOFT != 0, entry.queue != 0);
        gone.extend(self.unlink(node));
        let Some(old) = old else {
            return;
        };
        if old.born >= purges.retired() {
            let cover = if is_soft { Cover::Soft } else { Cover::No };
            let _ = self.insert(key, &old, usize::MAX, has_quota, (purges, cover));
        }
        gone.push(old);
    }

    /// Puts `new` into the place of `old`, if that is still there. What is to be dropped.
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
        let before = entry.weight();
        let old = entry.object.replace(Arc::clone(new));
        entry.checked = live as u32;
        entry.uses &= USES;
        if cover == Cover::Soft {
            entry.uses |= SOFT;
        }
        let (list, queue, now) = (entry.list, usize::from(entry.queue), entry.weight());
        if let Some((_, queue)) = self.queues.get_mut(queue) {
            queue.reweigh(list, before, now);
        }
        old
    }

    /// Takes a node out of everything.
    fn unlink(&mut self, node: u32) -> Option<Arc<Object>> {
        let queue = usize::from(self.nodes.get(node).queue);
        if let Some((_, queue)) = self.queues.get_mut(queue) {
            queue.remove(&mut self.nodes, node);
        }
        let object = self.nodes.get(node).object.clone()?;
        let hash = spread(self.nodes.get(node).hash);
        let sibling = self.nodes.get(node).sibling;
        let nodes = &mut self.nodes;
        if let Ok(mut entry) = self
            .table
            .find_entry(hash, |&other| nodes.get(other).has_key(&object.key))
        {
            let mut at = *entry.get();
            if at != node {
                while nodes.get(at).sibling != node && nodes.get(at).sibling != NIL {
                    at = nodes.get(at).sibling;
                }
                nodes.get_mut(at).sibling = sibling;
            } else if sibling == NIL {
                entry.remove();
            } else {
                *entry.get_mut() = sibling;
            }
        }
        self.nodes.free(node);
        self.objects -= 1;
        object.body.set_indexed(false);
        Some(object)
    }

    /// Takes out the least useful object: of a site, or of all.
    pub fn evict(&mut self, site: Option<u32>) -> Option<Arc<Object>> {
        let at = match site {
            Some(site) => self.queues.iter().position(|(other, _)| *other == site)?,
            None => self.any_queue()?,
        };
        let (_, queue) = self.queues.get_mut(at)?;
        let node = queue.victim(&mut self.nodes)?;
        let weight = self.nodes.get(node).weight();
        let object = self.unlink(node)?;
        self.counts.evictions += 1;
        self.counts.evicted_bytes += weight;
        Some(object)
    }

    /// A queue, each as often as it has objects.
    fn any_queue(&mut self) -> Option<usize> {
        if self.queues.len() == 1 {
            return Some(0);
        }
        let count: usize = self.queues.iter().map(|(_, queue)| queue.count()).sum();
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let mut at = (self.random % count.max(1) as u64) as usize;
        self.queues.iter().position(|(_, queue)| {
            let is_in = at < queue.count();
            at = at.wrapping_sub(if is_in { 0 } else { queue.count() });
            is_in
        })
    }

    /// A purge of one key. How many objects it covers.
    pub fn purge(&mut self, key: &Key<'_>, soft: bool, gone: &mut Gone) -> usize {
        let nodes: Vec<u32> = self.chain(self.first(key)).collect();
        for &node in &nodes {
            if soft {
                self.nodes.get_mut(node).uses |= SOFT;
            } else {
                self.counts.purged += 1;
                gone.extend(self.unlink(node));
            }
        }
        self.retain(key.hash, key.bytes, |item| match &item.what {
            What::Fill(fill) => {
                fill.purge(soft);
                true
            }
            What::Mark { .. } => false,
        });
        nodes.len()
    }

    /// Looks through at most `budget` nodes from where it stopped. How many it looked at, and whether it came to the end.
    pub fn sweep(&mut self, budget: usize, purges: &Purges, gone: &mut Gone) -> (usize, bool) {
        let live = purges.live();
        let end = self.nodes.end();
        let stop = self.swept.saturating_add(budget as u32).min(end);
        let looked = (stop - self.swept) as usize;
        for node in self.swept..stop {
            if self.nodes.get(node).object.is_some() {
                self.check(node, live, purges, gone);
            }
        }
        self.swept = if stop == end { 0 } else { stop };
        (looked, stop == end)
    }
}
