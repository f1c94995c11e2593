//! Which of a shard's objects go: the queues of those that share a bound.

use std::sync::Arc;

use super::object::Object;
use super::queue::{List, Queue};
use super::shard::Shard;

/// Sites with a quota that have a queue of their own in a shard; further ones share the common one.
const QUEUES_MAX: usize = 1_024;
/// Nodes that are looked at for objects of a site that stand in the common queue.
const LOOK_MAX: u32 = 256;

impl Shard {
    /// Takes out the least useful object: of a site, or of all.
    pub fn evict(&mut self, site: Option<u32>) -> Option<Arc<Object>> {
        let node = match site {
            Some(site) => self.victim_of(site)?,
            None => {
                let queue = self.any_queue()?;
                self.victim(queue)?
            }
        };
        let weight = self.nodes.get(node).weight();
        let object = self.unlink(node)?;
        self.counts.evictions += 1;
        self.counts.evicted_bytes += weight;
        Some(object)
    }

    fn victim(&mut self, queue: usize) -> Option<u32> {
        let (_, queue) = self.queues.get_mut(queue)?;
        queue.victim(&mut self.nodes)
    }

    /// A site's own queue gives a victim. Objects that came before the site had a quota stand in the common one: some are looked at.
    fn victim_of(&mut self, site: u32) -> Option<u32> {
        if let Some(queue) = self.queue_of(site)
            && let Some(node) = self.victim(queue)
        {
            return Some(node);
        }
        for _ in 0..LOOK_MAX.min(self.nodes.end()) {
            self.looked = (self.looked + 1) % self.nodes.end();
            let node = self.nodes.get(self.looked);
            let is_of = |object: &Arc<Object>| object.site() == site;
            if node.list != List::None && !node.is_read() && node.object.as_ref().is_some_and(is_of)
            {
                return Some(self.looked);
            }
        }
        None
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
        let mut left = (self.random % count.max(1) as u64) as usize;
        self.queues.iter().position(|(_, queue)| {
            let is_in = left < queue.count();
            left = left.saturating_sub(queue.count());
            is_in
        })
    }

    pub fn queue(&mut self, site: u32, has_quota: bool) -> u16 {
        if !has_quota {
            return 0;
        }
        if let Some(at) = self.queue_of(site) {
            return at as u16;
        }
        if self.queues.len() >= QUEUES_MAX {
            return 0;
        }
        self.queues.push((Some(site), Queue::default()));
        (self.queues.len() - 1) as u16
    }

    fn queue_of(&self, site: u32) -> Option<usize> {
        self.queues
            .iter()
            .position(|(other, _)| *other == Some(site))
    }

    pub fn enqueue(&mut self, node: u32) {
        let queue = usize::from(self.nodes.get(node).queue);
        if let Some((_, queue)) = self.queues.get_mut(queue) {
            queue.insert(&mut self.nodes, node);
        }
    }
}
