//! A map that is built once and then only read: `(owner, bytes) -> u32`, open addressing, keys verified byte for byte.
//!
//! Two users: hosts (the owner says exact or wildcard) and path segments (the owner is the parent node). A request can
//! choose what it asks for but never what is stored, so a plain fast hash is enough: the longest probe is decided by the
//! configuration.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// A power of two of slots, at most half of them used; empty if there are no entries.
    slots: Vec<Slot>,
    /// All keys, one after the other.
    bytes: Vec<u8>,
    /// Entries.
    used: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Upper half of the hash, with the lowest bit set; 0 marks an empty slot.
    tag: u32,
    owner: u32,
    start: u32,
    len: u32,
    value: u32,
}

impl Table {
    /// The value for `key` of `owner`.
    #[inline]
    pub(crate) fn get(&self, owner: u32, key: &[u8]) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let hash = hash(owner, key);
        let tag = tag(hash);
        let mut at = hash as usize & mask;
        // Ends at an empty slot: at least half are.
        loop {
            let slot = self.slots.get(at)?;
            if slot.tag == 0 {
                return None;
            }
            if slot.tag == tag && slot.owner == owner && self.key(slot) == key {
                return Some(slot.value);
            }
            at = (at + 1) & mask;
        }
    }

    /// Stores `value` for `key` of `owner`, in place of what was stored before.
    pub(crate) fn insert(&mut self, owner: u32, key: &[u8], value: u32) {
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let Some(mask) = self.slots.len().checked_sub(1) else {
            return;
        };
        let hash = hash(owner, key);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get(at).copied() {
            if slot.tag == 0 {
                let start = self.bytes.len() as u32;
                self.bytes.extend_from_slice(key);
                let new = Slot {
                    tag: tag(hash),
                    owner,
                    start,
                    len: key.len() as u32,
                    value,
                };
                self.slots[at] = new;
                self.used += 1;
                return;
            }
            if slot.owner == owner && self.key(&slot) == key {
                self.slots[at].value = value;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn key(&self, slot: &Slot) -> &[u8] {
        let start = slot.start as usize;
        self.bytes
            .get(start..start + slot.len as usize)
            .unwrap_or_default()
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(8);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
        for slot in old.into_iter().filter(|s| s.tag != 0) {
            let mut at = hash(slot.owner, self.key(&slot)) as usize & (size - 1);
            while self.slots[at].tag != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

/// Eight bytes at a time through a widening multiplication whose halves are folded together.
#[inline]
fn hash(owner: u32, key: &[u8]) -> u64 {
    const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
    const STEP: u64 = 0xD6E8_FEB8_6659_FD93;
    let mut h = SEED ^ (u64::from(owner) << 32 | key.len() as u64);
    let (words, tail) = key.as_chunks::<8>();
    for word in words {
        h = fold(h ^ u64::from_le_bytes(*word), STEP);
    }
    let mut last = 0;
    for b in tail {
        last = last << 8 | u64::from(*b);
    }
    fold(fold(h ^ last, STEP), SEED)
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    wide as u64 ^ (wide >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_stored_and_nothing_else() {
        let mut table = Table::default();

        assert_eq!(table.get(0, b"a"), None);
        for i in 0..5_000u32 {
            table.insert(i % 7, format!("key-{i}").as_bytes(), i);
        }
        for i in 0..5_000u32 {
            let key = format!("key-{i}");
            assert_eq!(table.get(i % 7, key.as_bytes()), Some(i));
            assert_eq!(table.get(7, key.as_bytes()), None);
        }
        assert_eq!(table.get(0, b"key-5000"), None);
        assert_eq!(table.used, 5_000);
    }

    #[test]
    fn a_second_value_replaces_the_first() {
        let mut table = Table::default();

        table.insert(1, b"", 1);
        table.insert(1, b"", 2);
        assert_eq!((table.get(1, b""), table.used), (Some(2), 1));
    }

    #[test]
    fn keys_that_differ_in_zeros_only_are_two() {
        let mut table = Table::default();

        table.insert(0, b"\0", 1);
        table.insert(0, b"\0\0", 2);
        assert_eq!(
            (
                table.get(0, b"\0"),
                table.get(0, b"\0\0"),
                table.get(0, b"")
            ),
            (Some(1), Some(2), None)
        );
    }
}
