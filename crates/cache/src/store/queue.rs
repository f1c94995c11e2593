//! Who goes first: S3-FIFO (Yang and others, SOSP 2023), by bytes.
//!
//! What is new goes through a small queue; only what is asked for again there comes into the main one, so a scan of things that are
//! asked for once passes by. What left the small queue is remembered for a while and comes into the main one directly when it is
//! fetched again. A hit writes at most one byte, and none once it has been counted three times.

use super::nodes::{NIL, Nodes};

/// Share of a shard's bytes for what is new: one in so many.
const SMALL_SHARE: u64 = 10;
/// Uses that are told apart.
pub const USES_MAX: u8 = 3;
/// Uses in the small queue that bring an object into the main one.
const USES_TO_STAY: u8 = 2;
/// Steps in search of a victim before the next one that nobody reads is taken.
const STEPS: usize = 1_024;

/// In which list an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum List {
    /// It fills.
    #[default]
    None,
    /// It is new.
    Small,
    /// It has been asked for again.
    Main,
}

#[derive(Debug)]
struct Ends {
    newest: u32,
    oldest: u32,
    bytes: u64,
    count: usize,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            newest: NIL,
            oldest: NIL,
            bytes: 0,
            count: 0,
        }
    }
}

/// The objects of a shard that share one bound: all without a quota, or those of a site.
#[derive(Debug, Default)]
pub struct Queue {
    small: Ends,
    main: Ends,
    ghosts: Ghosts,
}

impl Queue {
    /// Objects in it.
    pub fn count(&self) -> usize {
        self.small.count + self.main.count
    }

    /// A complete object comes in.
    pub fn insert(&mut self, nodes: &mut Nodes, node: u32) {
        let is_known = self.ghosts.take(nodes.get(node).hash);
        self.push(nodes, node, if is_known { List::Main } else { List::Small });
    }

    fn ends(&mut self, list: List) -> &mut Ends {
        match list {
            List::Small => &mut self.small,
            _ => &mut self.main,
        }
    }

    fn push(&mut self, nodes: &mut Nodes, node: u32, list: List) {
        let weight = nodes.get(node).weight();
        let ends = self.ends(list);
        let second = std::mem::replace(&mut ends.newest, node);
        ends.bytes += weight;
        ends.count += 1;
        if second == NIL {
            ends.oldest = node;
        } else {
            nodes.get_mut(second).newer = node;
        }
        let entry = nodes.get_mut(node);
        entry.list = list;
        entry.set_uses(0);
        entry.newer = NIL;
        entry.older = second;
    }

    /// An object goes out of the list that it is in.
    pub fn remove(&mut self, nodes: &mut Nodes, node: u32) {
        let entry = nodes.get_mut(node);
        let list = std::mem::take(&mut entry.list);
        if list == List::None {
            return;
        }
        let (newer, older, weight) = (entry.newer, entry.older, entry.weight());
        let ends = self.ends(list);
        ends.bytes -= weight.min(ends.bytes);
        ends.count -= 1;
        if newer == NIL {
            ends.newest = older;
        }
        if older == NIL {
            ends.oldest = newer;
        }
        if newer != NIL {
            nodes.get_mut(newer).older = older;
        }
        if older != NIL {
            nodes.get_mut(older).newer = newer;
        }
    }

    /// An object in it has become heavier or lighter.
    pub fn reweigh(&mut self, list: List, before: u64, now: u64) {
        if list != List::None {
            let ends = self.ends(list);
            ends.bytes = (ends.bytes + now).saturating_sub(before);
        }
    }

    /// The one that is to go next, still in its list. None: all are being read.
    pub fn victim(&mut self, nodes: &mut Nodes) -> Option<u32> {
        for step in 0..STEPS + 2 * self.count().min(STEPS) {
            let is_small = self.small.count > 0
                && (self.main.count == 0
                    || self.small.bytes.saturating_mul(SMALL_SHARE)
                        > self.small.bytes + self.main.bytes);
            let list = if is_small { List::Small } else { List::Main };
            let node = self.ends(list).oldest;
            if node == NIL {
                return None;
            }
            let entry = nodes.get(node);
            let (uses, is_read, hash) = (entry.uses(), entry.is_read(), entry.hash);
            // an object that is read now would not free a byte
            let stays =
                is_read || (step < STEPS && uses >= if is_small { USES_TO_STAY } else { 1 });
            if !stays {
                if is_small {
                    let count = self.count();
                    self.ghosts.put(hash, count);
                }
                return Some(node);
            }
            self.remove(nodes, node);
            self.push(nodes, node, List::Main);
            if !is_small && uses > 0 {
                nodes.get_mut(node).set_uses(uses - 1);
            }
        }
        None
    }
}

/// What left the small queue lately: about as many as there are objects. A later one may overwrite an earlier one.
#[derive(Debug, Default)]
struct Ghosts {
    hashes: Vec<u32>,
}

impl Ghosts {
    fn put(&mut self, hash: u32, objects: usize) {
        let size = objects.next_power_of_two().clamp(64, 1 << 24);
        if self.hashes.len() < size {
            let old = std::mem::replace(&mut self.hashes, vec![0; size]);
            for hash in old.into_iter().filter(|&hash| hash != 0) {
                *self.place(hash) = hash;
            }
        }
        *self.place(hash) = hash;
    }

    fn take(&mut self, hash: u32) -> bool {
        if self.hashes.is_empty() {
            return false;
        }
        let place = self.place(hash);
        let is_there = *place == hash && hash != 0;
        if is_there {
            *place = 0;
        }
        is_there
    }

    fn place(&mut self, hash: u32) -> &mut u32 {
        let mask = self.hashes.len() - 1;
        // another mixture than the table's
        let at = (hash.wrapping_mul(0x9E37_79B1) >> 7) as usize & mask;
        &mut self.hashes[at]
    }
}
