//! What a store holds and what happened in it.

/// What happened, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects found.
    pub hits: u64,
    /// Of them: still filling.
    pub filling: u64,
    /// Nothing found.
    pub misses: u64,
    /// Requests that were told to wait for another's fetch.
    pub followers: u64,
    /// Requests that passed, since the last answer could not be stored.
    pub passes: u64,
    /// Fetches begun.
    pub leads: u64,
    /// Objects that came whole.
    pub stored: u64,
    /// Objects that did not come whole.
    pub cuts: u64,
    /// Objects that left while they filled, for lack of room.
    pub left: u64,
    /// Objects that went for lack of room.
    pub evictions: u64,
    /// Bytes of them.
    pub evicted_bytes: u64,
    /// Objects that a purge took out.
    pub purged: u64,
}

impl Counts {
    /// Those of another shard, too.
    pub fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.filling += other.filling;
        self.misses += other.misses;
        self.followers += other.followers;
        self.passes += other.passes;
        self.leads += other.leads;
        self.stored += other.stored;
        self.cuts += other.cuts;
        self.left += other.left;
        self.evictions += other.evictions;
        self.evicted_bytes += other.evicted_bytes;
        self.purged += other.purged;
    }
}

/// What a store holds and what happened in it.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Objects in the index.
    pub objects: usize,
    /// Bytes of all objects, also of those that left the index and are still read.
    pub bytes: u64,
    /// Bytes that there may be.
    pub memory: u64,
    /// Fetches under way whose head has not come.
    pub fills: usize,
    /// What happened, since the start.
    pub counts: Counts,
    /// The place of the last purge: how many there were.
    pub purges: u64,
    /// Purges whose records are still kept.
    pub purge_records: usize,
    /// Addresses that are blocked.
    pub blocks: usize,
    /// Bytes of each site, by its number.
    pub sites: Vec<(u32, u64)>,
}
