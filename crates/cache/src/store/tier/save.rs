//! From memory to the disk, behind the requests: what was asked for a second time, and at the end what there is time for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::super::disk::{Parts, count, packed};
use super::super::object::hash;
use super::super::{Object, Store};
use super::Tier;

/// Objects that wait to be written stay in memory: of the memory at most one part in so many.
const WAITING_SHARE: u64 = 8;
/// Of the directory, what is written at the end at most: one part in so many. The rest has proved its worth.
const LAST_SHARE: u64 = 2;

impl Tier {
    /// An object in a memory of so many bytes is worth a write. `false`: too many wait, it is for another time.
    pub fn save(&self, object: &Arc<Object>, memory: u64) -> bool {
        let bytes = (object.weight(), memory / WAITING_SHARE);
        let is_taken = self.saves.push(Arc::clone(object), bytes).is_ok();
        count(if is_taken {
            &self.admitted
        } else {
            &self.skipped
        });
        is_taken
    }

    /// The thread that writes.
    pub fn run_saves(&self, store: &Weak<Store>) {
        if self.disk.recover().is_err() {
            // what is there is not found, and nothing is written
            count(&self.disk.counts.errors);
        }
        while let Some(object) = self.saves.pop() {
            if self.is_closing.load(Ordering::Acquire) {
                break;
            }
            let Some(store) = store.upgrade() else {
                break;
            };
            self.write(&store, &object);
        }
    }

    /// Writes an object that is in the index of the store and that no purge covers. How many bytes of the body.
    fn write(&self, store: &Store, object: &Arc<Object>) -> Option<u64> {
        let key = hash(object.key());
        let mut pieces = Vec::new();
        let mut length = 0;
        while let piece = object.body.piece(length)?
            && !piece.is_empty()
        {
            pieces.push(piece);
            length += piece.len() as u64;
        }
        let names = || object.vary().iter().map(|name| &**name);
        let place = (object.host(), object.path());
        let meaning = packed::pack(
            &object.meta(),
            names(),
            object.variant(),
            object.tags(),
            place,
        );
        let parts = Parts {
            born: object.born,
            key: object.key(),
            meaning: &meaning,
            head: object.head(),
        };
        let variant = packed::variant_sum(names(), object.variant());
        let tags = object.tags();
        let may = || {
            store.is_stored(key, object)
                && self
                    .disk
                    .purges
                    .cover_on_disk(object.born, key, place, tags)
                    == super::super::purge::Cover::No
        };
        let gone = self.disk.write(&parts, (variant, &pieces), may);
        if gone.is_some() {
            store.set_saved(key, object, true);
        }
        // what has made room may be worth another write
        for key in gone? {
            store.unsave(key);
        }
        Some(length)
    }

    /// Everything that is worth it and not there yet, the most used first, until the deadline.
    pub(super) fn save_all(&self, store: &Store, deadline: Instant) {
        let mut left = self.disk.size() / LAST_SHARE;
        for object in store.worth_saving() {
            if Instant::now() >= deadline || self.is_closing.load(Ordering::Acquire) {
                break;
            }
            let weight = object.weight();
            if weight > left {
                continue;
            }
            if self.write(store, &object).is_some() {
                left -= weight;
            }
        }
    }
}
