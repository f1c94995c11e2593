//! Objects in a shard's index, by number.

use std::sync::Arc;

use super::object::Object;
use super::queue::List;

/// No node.
pub const NIL: u32 = u32::MAX;
/// Nodes that are allocated together.
const CHUNK: usize = 64;

const USES: u8 = 0x0F;
const SAVED: u8 = 0x20;
const ASKED: u8 = 0x40;
const SOFT: u8 = 0x80;

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
    /// Uses since it came into its list, whether it was purged softly, was asked to be on disk, and is.
    state: u8,
}

impl Node {
    /// Of an object that is in no list.
    pub fn new(object: Arc<Object>, hash: u32, checked: u32, queue: u16) -> Self {
        Self {
            object: Some(object),
            hash,
            newer: NIL,
            older: NIL,
            sibling: NIL,
            checked,
            queue,
            list: List::None,
            state: 0,
        }
    }

    /// Uses since it came into its list.
    pub fn uses(&self) -> u8 {
        self.state & USES
    }

    /// So many uses.
    pub fn set_uses(&mut self, uses: u8) {
        self.state = (self.state & !USES) | uses.min(USES);
    }

    /// It was purged softly.
    pub fn is_soft(&self) -> bool {
        self.state & SOFT != 0
    }

    /// It was purged softly, or not.
    pub fn set_soft(&mut self, is_soft: bool) {
        self.set(SOFT, is_soft);
    }

    fn set(&mut self, flag: u8, is: bool) {
        self.state = (self.state & !flag) | if is { flag } else { 0 };
    }

    /// It has been found worth a write to disk: not again at each hit.
    pub fn is_asked(&self) -> bool {
        self.state & ASKED != 0
    }

    /// It has, or not.
    pub fn set_asked(&mut self, is_asked: bool) {
        self.set(ASKED, is_asked);
    }

    /// It is on disk.
    pub fn is_saved(&self) -> bool {
        self.state & SAVED != 0
    }

    /// It is, or not.
    pub fn set_saved(&mut self, is_saved: bool) {
        self.set(SAVED, is_saved);
    }

    /// It is not on disk any more, and may be worth it again.
    pub fn unsave(&mut self) {
        self.set(ASKED | SAVED, false);
    }

    /// Somebody has its object besides the index.
    pub fn is_read(&self) -> bool {
        let object = self.object.as_ref();
        object.is_some_and(|object| Arc::strong_count(object) > 1)
    }

    /// Its object is this one.
    pub fn is(&self, object: &Arc<Object>) -> bool {
        self.object
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, object))
    }

    /// Its object has this key.
    pub fn has_key(&self, key: &[u8]) -> bool {
        self.object
            .as_ref()
            .is_some_and(|object| *object.key() == *key)
    }

    /// Bytes of its object.
    pub fn weight(&self) -> u64 {
        self.object.as_ref().map_or(0, |object| object.weight())
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

    /// The nodes of a key, from this one on.
    pub fn chain(&self, first: Option<u32>) -> impl Iterator<Item = u32> {
        std::iter::successors(first, |&at| {
            let sibling = self.get(at).sibling;
            (sibling != NIL).then_some(sibling)
        })
    }

    /// One more.
    pub fn add(&mut self, node: Node) -> u32 {
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

    /// One less, that is in no list and no chain.
    pub fn free(&mut self, node: u32) {
        let next = self.free.unwrap_or(NIL);
        let place = self.get_mut(node);
        place.object = None;
        place.sibling = next;
        place.state = 0;
        self.free = Some(node);
    }
}
