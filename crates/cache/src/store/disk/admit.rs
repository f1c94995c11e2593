//! What is worth a write: that which is asked for a second time.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Places; two of them for a key.
const PLACES: usize = 1 << 16;
/// After so many first requests all is forgotten by half.
const PERIOD: u32 = PLACES as u32;

/// How often keys were seen lately, about. 64 KiB.
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
    /// A key of this hash is seen: how often it was before, at least about.
    pub fn see(&self, hash: u64) -> u8 {
        if self.seen.fetch_add(1, Ordering::Relaxed) % PERIOD == PERIOD - 1 {
            for place in &self.places {
                place.store(place.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
        let places = [hash, hash >> 32].map(|part| self.places.get(part as usize % PLACES));
        let before = places.iter().flatten().map(|place| {
            let count = place.load(Ordering::Relaxed);
            place.store(count.saturating_add(1), Ordering::Relaxed);
            count
        });
        before.min().unwrap_or(0)
    }
}
