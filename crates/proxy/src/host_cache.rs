//! The sites of the hosts asked for last: clients of a keep-alive connection, and most others, name one of few hosts again
//! and again, in the same spelling.

/// Entries; each host has one place.
const PLACES: usize = 16;
/// Longest authority that is remembered, bytes.
const LONGEST: usize = 64;

/// What a raw authority came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// The authority's first bytes that are the canonical host.
    pub(crate) host_len: usize,
    /// The site that answers for it.
    pub(crate) site: Option<usize>,
}

struct Place {
    raw: [u8; LONGEST],
    len: usize,
    listener: usize,
    known: Known,
}

/// A few authorities as they were sent, and what they came to. For one core and one configuration. A host that is not
/// canonical as it is sent is not remembered.
#[derive(Default)]
pub(crate) struct HostCache {
    places: [Option<Box<Place>>; PLACES],
}

impl HostCache {
    /// What `raw` came to on this listener, if it was seen last in its place.
    pub(crate) fn get(&self, listener: usize, raw: &[u8]) -> Option<Known> {
        let place = self.places.get(place_of(raw))?.as_deref()?;
        let same = place.listener == listener && place.raw.get(..place.len) == Some(raw);
        same.then_some(place.known)
    }

    /// Remembers it, in place of whatever was there.
    pub(crate) fn put(&mut self, listener: usize, raw: &[u8], known: Known) {
        let mut bytes = [0; LONGEST];
        let Some(room) = bytes.get_mut(..raw.len()) else {
            return;
        };
        room.copy_from_slice(raw);
        let new = Place {
            raw: bytes,
            len: raw.len(),
            listener,
            known,
        };
        // The memory of what was there is used again: hosts that come and go cost no allocation each.
        match self.places.get_mut(place_of(raw)) {
            Some(Some(place)) => **place = new,
            Some(empty) => *empty = Some(Box::new(new)),
            None => {}
        }
    }
}

/// By length and two bytes in which hosts differ.
fn place_of(raw: &[u8]) -> usize {
    let at = |i: usize| raw.get(i).copied().map_or(0, usize::from);
    let half = raw.len() / 2;
    (raw.len() ^ at(half) ^ (at(half / 2) << 1)) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_by_listener_and_spelling() {
        let mut cache = HostCache::default();
        let known = Known {
            host_len: 3,
            site: Some(7),
        };
        assert_eq!(cache.get(0, b"a.b:80"), None);
        cache.put(0, b"a.b:80", known);
        assert_eq!(cache.get(0, b"a.b:80"), Some(known));
        assert_eq!(cache.get(1, b"a.b:80"), None);
        assert_eq!(cache.get(0, b"a.B:80"), None);
        assert_eq!(cache.get(0, b"a.b:8"), None);
        assert_eq!(cache.get(0, b""), None);
    }

    #[test]
    fn a_long_one_is_not_remembered() {
        let mut cache = HostCache::default();
        let known = Known {
            host_len: LONGEST + 1,
            site: None,
        };
        cache.put(0, &[b'a'; LONGEST + 1], known);
        assert_eq!(cache.get(0, &[b'a'; LONGEST + 1]), None);
        cache.put(0, &[b'a'; LONGEST], known);
        assert_eq!(cache.get(0, &[b'a'; LONGEST]), Some(known));
    }
}
