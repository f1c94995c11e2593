//! What an answer means, as bytes: everything of an object that is neither key, head nor body.

use super::record::{u32_at, u64_at};
use crate::policy::Meta;
use narthex_message::Span;

/// Names of fields, tags: of each at most so many.
const MANY_MAX: usize = 4_096;

const MUST_REVALIDATE: u8 = 1;
const NO_CACHE: u8 = 2;
const IMMUTABLE: u8 = 4;
const NO_TRANSFORM: u8 = 8;
const HEURISTIC: u8 = 16;

/// Everything of an object that is neither key, head nor body.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    /// What later decisions need.
    pub meta: Meta,
    /// Names of the fields in `Vary`.
    pub names: Vec<Box<[u8]>>,
    /// Their values, as [`crate::key`] puts them together.
    pub variant: Vec<u8>,
    /// Hashes of its tags.
    pub tags: Vec<u64>,
    /// Canonical host.
    pub host: Box<str>,
    /// Canonical path.
    pub path: Vec<u8>,
}

/// As bytes.
pub fn pack<'a>(
    meta: &Meta,
    names: impl ExactSizeIterator<Item = &'a [u8]>,
    variant: &[u8],
    tags: &[u64],
    (host, path): (&[u8], &[u8]),
) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(128 + variant.len() + tags.len() * 8 + host.len() + path.len());
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    out.push(
        flag(meta.must_revalidate, MUST_REVALIDATE)
            | flag(meta.no_cache, NO_CACHE)
            | flag(meta.immutable, IMMUTABLE)
            | flag(meta.no_transform, NO_TRANSFORM)
            | flag(meta.heuristic, HEURISTIC),
    );
    for n in [
        u32::from(meta.status),
        meta.initial_age_s,
        meta.lifetime_s,
        meta.while_revalidate_s,
        meta.if_error_s,
        meta.etag.start,
        meta.etag.end,
    ] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for n in [meta.received_ms, meta.date_s] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for n in [
        meta.last_modified_s,
        meta.length,
        meta.part.map(|part| part.0),
        meta.part.map(|part| part.1),
    ] {
        out.push(u8::from(n.is_some()));
        out.extend_from_slice(&n.unwrap_or_default().to_le_bytes());
    }
    let mut bytes = |bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    bytes(host);
    bytes(path);
    bytes(variant);
    let tags: Vec<u8> = tags.iter().flat_map(|tag| tag.to_le_bytes()).collect();
    bytes(&tags);
    for name in names {
        bytes(name);
    }
    out
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        u32_at(self.take(4)?, 0)
    }

    fn u64(&mut self) -> Option<u64> {
        u64_at(self.take(8)?, 0)
    }

    /// A number that may be missing, and whether it is there.
    fn maybe(&mut self) -> Option<(bool, u64)> {
        Some((self.byte()? == 1, self.u64()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }
}

/// The meaning again. `head`: the answer's head, in which places are meant.
pub fn unpack(bytes: &[u8], head: &[u8]) -> Option<Meaning> {
    let mut from = Reader(bytes);
    let flags = from.byte()?;
    let is = |flag: u8| flags & flag != 0;
    let status = u16::try_from(from.u32()?).ok()?;
    let (initial_age_s, lifetime_s) = (from.u32()?, from.u32()?);
    let (while_revalidate_s, if_error_s) = (from.u32()?, from.u32()?);
    let etag = Span {
        start: from.u32()?,
        end: from.u32()?,
    };
    let (received_ms, date_s) = (from.u64()?, from.u64()?);
    let some = |(is_there, n): (bool, u64)| is_there.then_some(n);
    let (last_modified_s, length) = (some(from.maybe()?), some(from.maybe()?));
    let (first, last) = (some(from.maybe()?), some(from.maybe()?));
    let meta = Meta {
        status,
        received_ms,
        initial_age_s,
        lifetime_s,
        while_revalidate_s,
        if_error_s,
        must_revalidate: is(MUST_REVALIDATE),
        no_cache: is(NO_CACHE),
        immutable: is(IMMUTABLE),
        no_transform: is(NO_TRANSFORM),
        heuristic: is(HEURISTIC),
        etag,
        last_modified_s,
        date_s,
        length,
        part: first.zip(last),
    };
    let host = std::str::from_utf8(from.bytes()?).ok()?.into();
    let (path, variant) = (from.bytes()?.to_vec(), from.bytes()?.to_vec());
    let (tags, rest) = from.bytes()?.as_chunks::<8>();
    let tags: Vec<u64> = tags.iter().map(|tag| u64::from_le_bytes(*tag)).collect();
    let mut names: Vec<Box<[u8]>> = Vec::new();
    while !from.0.is_empty() {
        names.push(from.bytes()?.into());
        if names.len() > MANY_MAX {
            return None;
        }
    }
    let is_sound = rest.is_empty()
        && tags.len() <= MANY_MAX
        && etag.start <= etag.end
        && etag.end as usize <= head.len();
    is_sound.then_some(Meaning {
        meta,
        names,
        variant,
        tags,
        host,
        path,
    })
}

/// Tells records of a key apart in the index: 0 of an answer that does not vary.
pub fn variant_sum<'a>(names: impl Iterator<Item = &'a [u8]>, variant: &[u8]) -> u32 {
    let mut bytes = Vec::new();
    for name in names {
        bytes.extend_from_slice(name);
        bytes.push(b'\n');
    }
    if bytes.is_empty() {
        return 0;
    }
    bytes.extend_from_slice(variant);
    crate::store::hash(&bytes) as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning() -> Meaning {
        Meaning {
            meta: Meta {
                status: 206,
                received_ms: 1_795_900_000_000,
                initial_age_s: 1,
                lifetime_s: 2,
                while_revalidate_s: 3,
                if_error_s: 4,
                must_revalidate: true,
                no_cache: false,
                immutable: true,
                no_transform: false,
                heuristic: true,
                etag: Span { start: 3, end: 5 },
                last_modified_s: Some(0),
                date_s: 6,
                length: None,
                part: Some((7, 8)),
            },
            names: vec![(*b"accept").into(), (*b"x").into()],
            variant: b"accept=y".to_vec(),
            tags: vec![1, u64::MAX],
            host: "a.example".into(),
            path: b"/x".to_vec(),
        }
    }

    fn packed(m: &Meaning) -> Vec<u8> {
        let names: Vec<&[u8]> = m.names.iter().map(|name| &**name).collect();
        let place = (m.host.as_bytes(), m.path.as_slice());
        pack(&m.meta, names.into_iter(), &m.variant, &m.tags, place)
    }

    #[test]
    fn it_means_the_same_again_and_what_is_cut_means_nothing() {
        let other = Meaning {
            names: Vec::new(),
            variant: Vec::new(),
            tags: Vec::new(),
            ..meaning()
        };
        for m in [meaning(), other] {
            let bytes = packed(&m);
            assert_eq!(unpack(&bytes, b"12345"), Some(m.clone()));
            assert_eq!(unpack(&bytes, b"1234"), None);
            for end in 0..bytes.len() {
                // names may end anywhere between two of them
                assert_ne!(unpack(&bytes[..end], b"12345").as_ref(), Some(&m));
            }
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] = 0xff;
                unpack(&bad, b"12345"); // and does not panic
            }
        }
    }
}
