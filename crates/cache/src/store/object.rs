//! A stored answer, small beside its head and body.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use super::account::allocated;
use super::body::Body;
use crate::policy::{Keep, Meta};
use narthex_message::Span;

/// Names of the fields in `Vary`; none: it does not vary.
pub type Names = Option<Arc<[Box<[u8]>]>>;

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

/// Hash of a key, a host, a tag; another one in each process.
pub fn hash(bytes: &[u8]) -> u64 {
    static SEED: OnceLock<RandomState> = OnceLock::new();
    SEED.get_or_init(RandomState::new).hash_one(bytes)
}

/// A stored answer.
pub struct Object {
    /// Its key.
    pub key: Box<[u8]>,
    /// Head, as HTTP/1.
    pub head: Box<[u8]>,
    /// Body, perhaps still coming.
    pub body: Arc<Body>,
    /// The place in the sequence of purges when its fetch began.
    pub born: u64,
    meta: Packed,
    place: Place,
    more: Option<Box<More>>,
}

/// Where host and path stand in a key.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    host: (u16, u16),
    path: (u16, u16),
}

/// What few objects have.
#[derive(Debug, Default)]
struct More {
    names: Names,
    variant: Box<[u8]>,
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
    pub key: Box<[u8]>,
    pub host: &'a str,
    pub path: &'a [u8],
    pub names: Names,
    pub variant: &'a [u8],
    pub body: Arc<Body>,
    pub born: u64,
}

impl Object {
    pub(super) fn new(made: Made<'_>, keep: &mut Keep) -> Self {
        let place = Place::find(&made.key, made.host, made.path);
        let own = place
            .is_none()
            .then(|| (made.host.into(), made.path.into()));
        let rare = (keep.meta.part.is_some() || own.is_some()).then(|| {
            Box::new(Rare {
                part: keep.meta.part,
                place: own,
            })
        });
        let has_more = made.names.is_some() || !made.variant.is_empty() || !keep.tags.is_empty();
        let more = (has_more || rare.is_some()).then(|| {
            Box::new(More {
                names: made.names,
                variant: made.variant.into(),
                tags: keep.tags.iter().map(|tag| hash(tag)).collect(),
                rare,
            })
        });
        let object = Self {
            key: made.key,
            head: std::mem::take(&mut keep.head).into_boxed_slice(),
            body: made.body,
            born: made.born,
            meta: Packed::new(&keep.meta),
            place: place.unwrap_or_default(),
            more,
        };
        object.body.site.add(object.own_weight());
        object
    }

    /// What it means.
    pub fn meta(&self) -> Meta {
        let part = self.more.as_ref().and_then(|more| more.rare.as_ref()?.part);
        self.meta.unpack(part)
    }

    /// Values of the fields in `Vary`, as [`crate::key`] puts them together.
    pub fn variant(&self) -> &[u8] {
        self.more.as_ref().map_or(&[], |more| &more.variant)
    }

    /// Names of the fields in `Vary`.
    pub fn vary(&self) -> &[Box<[u8]>] {
        self.names().map_or(&[], |names| names)
    }

    pub(super) fn names(&self) -> Option<&Arc<[Box<[u8]>]>> {
        self.more.as_ref().and_then(|more| more.names.as_ref())
    }

    /// Canonical host of its key.
    pub fn host(&self) -> &[u8] {
        match self.own_place() {
            Some((host, _)) => host.as_bytes(),
            None => within(&self.key, self.place.host),
        }
    }

    /// Canonical path of its key.
    pub fn path(&self) -> &[u8] {
        match self.own_place() {
            Some((_, path)) => path,
            None => within(&self.key, self.place.path),
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
            allocated(size_of::<More>())
                + allocated(more.variant.len())
                + allocated(size_of_val(&*more.tags))
                + rare
        });
        allocated(FIXED)
            + allocated(BODY)
            + super::shard::NODE_WEIGHT
            + allocated(self.key.len())
            + allocated(self.head.len())
            + more
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.body.site.sub(self.own_weight());
    }
}

impl Place {
    fn find(key: &[u8], host: &str, path: &[u8]) -> Option<Self> {
        let host = find(key, host.as_bytes(), 0)?;
        let after = usize::from(host.0) + usize::from(host.1);
        let path = find(key, path, after).or_else(|| find(key, path, 0))?;
        Some(Self { host, path })
    }
}

/// Where `part` stands in `bytes`, not before `from`: first byte and length.
fn find(bytes: &[u8], part: &[u8], from: usize) -> Option<(u16, u16)> {
    let rest = bytes.get(from..)?;
    let at = match part.len() {
        0 => 0,
        length => rest.windows(length).position(|window| window == part)?,
    };
    Some((
        u16::try_from(from + at).ok()?,
        u16::try_from(part.len()).ok()?,
    ))
}

fn within(bytes: &[u8], (start, length): (u16, u16)) -> &[u8] {
    let start = usize::from(start);
    bytes
        .get(start..start + usize::from(length))
        .unwrap_or_default()
}

/// [`Meta`] without what is in few, and without room between its fields: there is one in each object.
#[derive(Debug, Clone, Copy)]
struct Packed {
    received_ms: u64,
    date_s: u64,
    /// `u64::MAX`: none.
    last_modified_s: u64,
    /// `u64::MAX`: none.
    length: u64,
    etag: Span,
    initial_age_s: u32,
    lifetime_s: u32,
    while_revalidate_s: u32,
    if_error_s: u32,
    status: u16,
    flags: u8,
}

const MUST_REVALIDATE: u8 = 1;
const NO_CACHE: u8 = 2;
const IMMUTABLE: u8 = 4;
const NO_TRANSFORM: u8 = 8;
const HEURISTIC: u8 = 16;

impl Packed {
    fn new(meta: &Meta) -> Self {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        Self {
            received_ms: meta.received_ms,
            date_s: meta.date_s,
            last_modified_s: meta.last_modified_s.unwrap_or(u64::MAX),
            length: meta.length.unwrap_or(u64::MAX),
            etag: meta.etag,
            initial_age_s: meta.initial_age_s,
            lifetime_s: meta.lifetime_s,
            while_revalidate_s: meta.while_revalidate_s,
            if_error_s: meta.if_error_s,
            status: meta.status,
            flags: flag(meta.must_revalidate, MUST_REVALIDATE)
                | flag(meta.no_cache, NO_CACHE)
                | flag(meta.immutable, IMMUTABLE)
                | flag(meta.no_transform, NO_TRANSFORM)
                | flag(meta.heuristic, HEURISTIC),
        }
    }

    fn unpack(&self, part: Option<(u64, u64)>) -> Meta {
        let some = |value: u64| (value != u64::MAX).then_some(value);
        let is = |flag: u8| self.flags & flag != 0;
        Meta {
            status: self.status,
            received_ms: self.received_ms,
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
            last_modified_s: some(self.last_modified_s),
            date_s: self.date_s,
            length: some(self.length),
            part,
        }
    }
}
