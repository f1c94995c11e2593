//! What is worth a write: that which is asked for a second time.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Places; two of them for a key.
const PLACES: usize = 1 << 20;
/// With each miss so many places forget by half, in turn.
const FORGET: usize = 4;

/// How often keys were missed lately, about. 1 MiB.
pub struct Sketch {
    places: Box<[AtomicU8]>,
    seen: AtomicU32,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            places: (0..PLACES).map(|_| AtomicU8::new(0)).collect(),
            seen: AtomicU32::new(0),
        }
    }
}

impl Sketch {
    /// A key of this hash was missed.
    pub fn see(&self, hash: u64) {
        let turn = self.seen.fetch_add(1, Ordering::Relaxed) as usize;
        let from = turn.wrapping_mul(FORGET) % PLACES;
        for place in self.places.iter().skip(from).take(FORGET) {
            place.store(place.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
        for place in self.places_of(hash) {
            let count = place.load(Ordering::Relaxed);
            place.store(count.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// How often it was, at least about.
    pub fn count(&self, hash: u64) -> u8 {
        let places = self.places_of(hash);
        places
            .map(|place| place.load(Ordering::Relaxed))
            .min()
            .unwrap_or(0)
    }

    fn places_of(&self, hash: u64) -> impl Iterator<Item = &AtomicU8> {
        let numbers = [hash, hash >> 32].map(|part| part as usize % PLACES);
        numbers
            .into_iter()
            .filter_map(|number| self.places.get(number))
    }
}
