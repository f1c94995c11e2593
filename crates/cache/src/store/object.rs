//! A stored answer, small beside its head and body.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use siphasher::sip::SipHasher13;

use super::account::allocated;
use super::body::Body;
use crate::policy::Meta;
use narthex_message::Span;

/// Names of the fields in `Vary`.
#[derive(Debug, PartialEq, Eq)]
pub struct FieldNames(pub Box<[Box<[u8]>]>);

/// Of an object, which shares them with others (a thin pointer); none: it does not vary.
pub type Names = Option<Arc<FieldNames>>;

/// A key: its bytes (compared whole) and their hash (seeded per process).
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The bytes that tell it from others.
    pub bytes: &'a [u8],
    /// Their hash.
    pub hash: u64,
    /// Canonical host, for purges. It should stand in `bytes` as it is.
    pub host: &'a str,
    /// Canonical path, for purges. It should stand in `bytes` as it is.
    pub path: &'a [u8],
    /// Which site's quota it counts for.
    pub site: u32,
}

impl<'a> Key<'a> {
    /// A key of these bytes.
    pub fn new(bytes: &'a [u8], host: &'a str, path: &'a [u8], site: u32) -> Self {
        Self {
            bytes,
            hash: hash(bytes),
            host,
            path,
            site,
        }
    }
}

/// What hashes are keyed with, and the sums of what is on disk.
static SEED: OnceLock<[u8; 16]> = OnceLock::new();

/// Hashes as the process did that wrote a directory, so that what it wrote is found again; without one, as no other process does.
/// Once, before anything is hashed: afterwards it does nothing.
pub fn seed(directory: Option<&Path>) {
    let known = directory.and_then(super::disk::secret_of);
    let _ = SEED.set(known.unwrap_or_else(random));
}

/// What this process hashes with.
pub(super) fn secret() -> [u8; 16] {
    *SEED.get_or_init(random)
}

/// Nobody can guess it: each half is a keyed hash, by keys from the system.
fn random() -> [u8; 16] {
    let half = || RandomState::new().build_hasher().finish();
    (u128::from(half()) << 64 | u128::from(half())).to_le_bytes()
}

/// Hash of a key, a host, a tag; the same only in processes that have the same [`seed`].
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(SEED.get_or_init(random));
    hasher.write(bytes);
    hasher.finish()
}

/// A stored answer.
pub struct Object {
    /// Head, as HTTP/1, then the key, then the variant: one allocation.
    text: Box<[u8]>,
    /// Body, perhaps still coming.
    pub body: Arc<Body>,
    /// The place in the sequence of purges when its fetch began.
    pub born: u64,
    small: Small,
    names: Names,
    more: Option<Box<More>>,
}

/// What few objects have.
#[derive(Debug, Default)]
struct More {
    tags: Box<[u64]>,
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    part: Option<(u64, u64)>,
    place: Option<(Box<str>, Box<[u8]>)>,
}

/// What an object is filled from.
pub(super) struct Made<'a> {
    pub key: &'a [u8],
    pub host: &'a str,
    pub path: &'a [u8],
    pub names: Names,
    pub variant: &'a [u8],
    /// Hashes of them.
    pub tags: Box<[u64]>,
    pub body: Arc<Body>,
    pub born: u64,
}

impl Object {
    pub(super) fn new(made: Made<'_>, meta: &Meta, mut text: Vec<u8>) -> Self {
        let place = Place::find(made.key, made.host, made.path);
        let own = place
            .is_none()
            .then(|| (made.host.into(), made.path.into()));
        let rare = (meta.part.is_some() || own.is_some()).then(|| {
            Box::new(Rare {
                part: meta.part,
                place: own,
            })
        });
        let more = (!made.tags.is_empty() || rare.is_some()).then(|| {
            Box::new(More {
                tags: made.tags,
                rare,
            })
        });
        let head = text.len() as u32; // a message's head is far below 4 GiB
        let variant = made.variant.len() as u32; // made of such a head
        text.reserve_exact(made.key.len() + made.variant.len());
        text.extend_from_slice(made.key);
        text.extend_from_slice(made.variant);
        let object = Self {
            text: text.into_boxed_slice(),
            body: made.body,
            born: made.born,
            small: Small::new(meta, (head, variant), place.unwrap_or_default()),
            names: made.names,
            more,
        };
        object.body.site.add(object.own_weight());
        object
    }

    /// Head, as HTTP/1.
    pub fn head(&self) -> &[u8] {
        self.parts().0
    }

    /// Its key.
    pub fn key(&self) -> &[u8] {
        self.parts().1
    }

    /// Head, key and variant.
    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let head = self.small.head as usize;
        let (head, rest) = self.text.split_at_checked(head).unwrap_or_default();
        let key = rest.len().saturating_sub(self.small.variant as usize);
        let (key, variant) = rest.split_at_checked(key).unwrap_or_default();
        (head, key, variant)
    }

    /// What it means.
    #[inline]
    pub fn meta(&self) -> Meta {
        let part = self.more.as_ref().and_then(|more| more.rare.as_ref()?.part);
        self.small.meta(part)
    }

    /// Values of the fields in `Vary`, as [`crate::key`] puts them together.
    pub fn variant(&self) -> &[u8] {
        self.parts().2
    }

    /// Names of the fields in `Vary`.
    pub fn vary(&self) -> &[Box<[u8]>] {
        self.names().map_or(&[], |names| &names.0)
    }

    pub(super) fn names(&self) -> Option<&Arc<FieldNames>> {
        self.names.as_ref()
    }

    /// Canonical host of its key.
    pub fn host(&self) -> &[u8] {
        match self.own_place() {
            Some((host, _)) => host.as_bytes(),
            None => within(self.key(), self.small.host()),
        }
    }

    /// Canonical path of its key.
    pub fn path(&self) -> &[u8] {
        match self.own_place() {
            Some((_, path)) => path,
            None => within(self.key(), self.small.path()),
        }
    }

    /// Hashes of its tags.
    pub(super) fn tags(&self) -> &[u64] {
        self.more.as_ref().map_or(&[], |more| &more.tags)
    }

    fn own_place(&self) -> Option<&(Box<str>, Box<[u8]>)> {
        self.more.as_ref()?.rare.as_ref()?.place.as_ref()
    }

    /// It is stale, and no grace is left.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        let meta = self.meta();
        let age_s = now_ms.saturating_sub(meta.received_ms) / 1_000 + u64::from(meta.initial_age_s);
        let grace_s = meta.while_revalidate_s.max(meta.if_error_s);
        age_s > u64::from(meta.lifetime_s) + u64::from(grace_s)
    }

    /// It is fresh, or the origin can be asked whether it still is the one.
    pub(super) fn is_useful(&self, now_ms: u64) -> bool {
        let meta = self.meta();
        !self.is_over(now_ms) || !meta.etag.is_empty() || meta.last_modified_s.is_some()
    }

    /// Number of the site it counts for.
    pub fn site(&self) -> u32 {
        self.body.site.id
    }

    /// Bytes that it takes, with its body and its place in the index.
    pub fn weight(&self) -> u64 {
        self.own_weight() + self.body.weight()
    }

    /// Without the body's bytes.
    fn own_weight(&self) -> u64 {
        const COUNTS: usize = 2 * size_of::<usize>();
        const FIXED: usize = size_of::<Object>() + COUNTS;
        const BODY: usize = size_of::<Body>() + COUNTS;
        let more = self.more.as_ref().map_or(0, |more| {
            let rare = more.rare.as_ref().map_or(0, |rare| {
                let place = rare.place.as_ref();
                allocated(size_of::<Rare>())
                    + place.map_or(0, |(host, path)| {
                        allocated(host.len()) + allocated(path.len())
                    })
            });
            allocated(size_of::<More>()) + allocated(size_of_val(&*more.tags)) + rare
        });
        allocated(FIXED)
            + allocated(BODY)
            + super::shard::NODE_WEIGHT
            + allocated(self.text.len())
            + more
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.body.site.sub(self.own_weight());
    }
}

/// Where host and path stand in a key: first byte and length.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    host: (u8, u8),
    path: (u16, u16),
}

impl Place {
    fn find(key: &[u8], host: &str, path: &[u8]) -> Option<Self> {
        let host = find(key, host.as_bytes(), 0)?;
        let path = find(key, path, host.0 + host.1).or_else(|| find(key, path, 0))?;
        Some(Self {
            host: (host.0.try_into().ok()?, host.1.try_into().ok()?),
            path: (path.0.try_into().ok()?, path.1.try_into().ok()?),
        })
    }
}

/// Where `part` stands in `bytes`, not before `from`: first byte and length.
fn find(bytes: &[u8], part: &[u8], from: usize) -> Option<(usize, usize)> {
    let rest = bytes.get(from..)?;
    let at = match part.len() {
        0 => 0,
        length => rest.windows(length).position(|window| window == part)?,
    };
    Some((from + at, part.len()))
}

fn within(bytes: &[u8], (start, length): (usize, usize)) -> &[u8] {
    bytes.get(start..start + length).unwrap_or_default()
}

/// [`Meta`] and [`Place`] without what is in few objects and without gaps: there is one in each object.
///
/// Times and lengths have 48 bits, dates 40 (year 36,812); what does not fit is as large as can be, which is of no difference to
/// anybody.
#[derive(Debug, Clone, Copy)]
struct Small {
    /// Length of the head.
    head: u32,
    /// Length of the variant.
    variant: u32,
    etag: Span,
    initial_age_s: u32,
    lifetime_s: u32,
    while_revalidate_s: u32,
    if_error_s: u32,
    received_ms: u32,
    length: u32,
    date_s: u32,
    last_modified_s: u32,
    received_ms_high: u16,
    length_high: u16,
    path: (u16, u16),
    status: u16,
    date_s_high: u8,
    last_modified_s_high: u8,
    host: (u8, u8),
    flags: u8,
}

/// What stands for "none" in 48 and in 40 bits.
const NONE_48: u64 = (1 << 48) - 1;
const NONE_40: u64 = (1 << 40) - 1;

#[inline]
fn join(low: u32, high: u64) -> u64 {
    u64::from(low) | (high << 32)
}

const MUST_REVALIDATE: u8 = 1;
const NO_CACHE: u8 = 2;
const IMMUTABLE: u8 = 4;
const NO_TRANSFORM: u8 = 8;
const HEURISTIC: u8 = 16;

impl Small {
    fn new(meta: &Meta, (head, variant): (u32, u32), place: Place) -> Self {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let received_ms = meta.received_ms.min(NONE_48);
        let length = meta
            .length
            .map_or(NONE_48, |length| length.min(NONE_48 - 1));
        let date_s = meta.date_s.min(NONE_40);
        let last_modified_s = meta
            .last_modified_s
            .map_or(NONE_40, |date| date.min(NONE_40 - 1));
        Self {
            head,
            variant,
            etag: meta.etag,
            initial_age_s: meta.initial_age_s,
            lifetime_s: meta.lifetime_s,
            while_revalidate_s: meta.while_revalidate_s,
            if_error_s: meta.if_error_s,
            received_ms: received_ms as u32,
            length: length as u32,
            date_s: date_s as u32,
            last_modified_s: last_modified_s as u32,
            received_ms_high: (received_ms >> 32) as u16,
            length_high: (length >> 32) as u16,
            path: place.path,
            status: meta.status,
            date_s_high: (date_s >> 32) as u8,
            last_modified_s_high: (last_modified_s >> 32) as u8,
            host: place.host,
            flags: flag(meta.must_revalidate, MUST_REVALIDATE)
                | flag(meta.no_cache, NO_CACHE)
                | flag(meta.immutable, IMMUTABLE)
                | flag(meta.no_transform, NO_TRANSFORM)
                | flag(meta.heuristic, HEURISTIC),
        }
    }

    fn host(&self) -> (usize, usize) {
        (usize::from(self.host.0), usize::from(self.host.1))
    }

    fn path(&self) -> (usize, usize) {
        (usize::from(self.path.0), usize::from(self.path.1))
    }

    #[inline]
    fn meta(&self, part: Option<(u64, u64)>) -> Meta {
        let is = |flag: u8| self.flags & flag != 0;
        let length = join(self.length, self.length_high.into());
        let last_modified_s = join(self.last_modified_s, self.last_modified_s_high.into());
        Meta {
            status: self.status,
            received_ms: join(self.received_ms, self.received_ms_high.into()),
            initial_age_s: self.initial_age_s,
            lifetime_s: self.lifetime_s,
            while_revalidate_s: self.while_revalidate_s,
            if_error_s: self.if_error_s,
            must_revalidate: is(MUST_REVALIDATE),
            no_cache: is(NO_CACHE),
            immutable: is(IMMUTABLE),
            no_transform: is(NO_TRANSFORM),
            heuristic: is(HEURISTIC),
            etag: self.etag,
            last_modified_s: (last_modified_s != NONE_40).then_some(last_modified_s),
            date_s: join(self.date_s, self.date_s_high.into()),
            length: (length != NONE_48).then_some(length),
            part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_means_and_where_its_address_stands_survive() {
        let meta = |value: u64, some: Option<u64>| Meta {
            status: 206,
            received_ms: value,
            initial_age_s: u32::MAX,
            lifetime_s: 1,
            while_revalidate_s: 2,
            if_error_s: 3,
            must_revalidate: true,
            no_cache: false,
            immutable: true,
            no_transform: false,
            heuristic: true,
            etag: Span { start: 7, end: 9 },
            last_modified_s: some,
            date_s: value.min(NONE_40),
            length: some,
            part: Some((4, u64::MAX)),
        };
        for (value, some) in [
            (0, None),
            (1 << 39, Some(0)),
            (1_795_900_000_000, Some(1 << 33)),
        ] {
            let meta = meta(value, some);
            let place = Place::find(b"https a.example 443 /x/y?z", "a.example", b"/x/y").unwrap();
            let small = Small::new(&meta, (5, 0), place);
            assert_eq!(small.meta(meta.part), meta);
            assert_eq!((small.host(), small.path()), ((6, 9), (20, 4)));
        }
        // a class of the allocator
        assert!(size_of::<Object>() + 2 * size_of::<usize>() <= 128);
        assert!(Place::find(b"another key", "a.example", b"/x").is_none());
        assert!(Place::find(&vec![b'/'; 70_000], "/", &vec![b'/'; 69_000]).is_none());
    }
}
