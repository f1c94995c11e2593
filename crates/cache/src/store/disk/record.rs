//! A record in a segment: what it looks like, and whether it is what was written.
//!
//! ```text
//! magic 4 | version 4 | segment 8 | offset 8 | born 8 | key 4 | variant 4 | labels 4 | meta 4 | body 8 | sum 8
//! key | variant | labels | meta | a sum for each 64 KiB of the body | body | padding to 64
//! ```
//!
//! Sums are keyed with the directory's secret, so that an origin cannot put into a body what would pass for a record. A record says
//! where it stands: bytes that a disk gives from another place are not valid here.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Bytes of the body under one sum.
pub const BLOCK: usize = 64 * 1024;
/// Bytes before the key.
pub const FIXED: usize = 64;
/// Records begin at a multiple of it.
pub const ALIGN: u64 = 64;
/// Bytes of key, variant, labels and meta, each.
const PART_MAX: usize = 256 * 1024;
const MAGIC: u32 = 0x4E58_4344;
/// Another version is not read.
const VERSION: u32 = 1;

/// What sums are keyed with.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; 16]);

impl Secret {
    /// The sum of these pieces, for one purpose and place.
    pub fn sum(&self, place: (u64, u64), pieces: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u64(place.0);
        hasher.write_u64(place.1);
        for piece in pieces {
            hasher.write(piece);
        }
        hasher.finish()
    }
}

/// What is stored beside a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// The place in the sequence of purges when its fetch began.
    pub born: u64,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// Names of the fields that make a difference and their values, as the store writes them.
    pub variant: Vec<u8>,
    /// Host, path, and tags, for purges.
    pub labels: Vec<Vec<u8>>,
    /// What it means and its HTTP head, as the store writes them.
    pub meta: Vec<u8>,
}

/// The first [`FIXED`] bytes. Lengths are within their bounds; the sum has not been compared.
#[derive(Debug, Clone, Copy)]
pub struct Fixed {
    born: u64,
    key: usize,
    variant: usize,
    labels: usize,
    meta: usize,
    /// Bytes of the body.
    pub body: u64,
    sum: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Blocks of a body.
pub fn blocks(body: u64) -> usize {
    body.div_ceil(BLOCK as u64) as usize
}

impl Fixed {
    /// Of a record that should stand at `place` (segment, offset) and has at most `room` bytes.
    pub fn parse(bytes: &[u8], place: (u64, u64), room: u64) -> Option<Self> {
        let is_ours = u32_at(bytes, 0)? == MAGIC
            && u32_at(bytes, 4)? == VERSION
            && (u64_at(bytes, 8)?, u64_at(bytes, 16)?) == place;
        let part = |at| u32_at(bytes, at).map(|n| n as usize);
        let fixed = Self {
            born: u64_at(bytes, 24)?,
            key: part(32)?,
            variant: part(36)?,
            labels: part(40)?,
            meta: part(44)?,
            body: u64_at(bytes, 48)?,
            sum: u64_at(bytes, 56)?,
        };
        let parts = [fixed.key, fixed.variant, fixed.labels, fixed.meta];
        let is_bounded = parts.iter().all(|&n| n <= PART_MAX) && fixed.body <= room;
        (is_ours && is_bounded && fixed.len() <= room).then_some(fixed)
    }

    /// Bytes before the body.
    pub fn head_len(&self) -> usize {
        FIXED + self.key + self.variant + self.labels + self.meta + blocks(self.body) * 8
    }

    /// Bytes with the padding. A body is never longer than a segment, so that this does not overflow.
    pub fn len(&self) -> u64 {
        (self.head_len() as u64 + self.body).next_multiple_of(ALIGN)
    }

    /// Compares the sum; head and sums of the blocks, if it holds. `bytes`: all before the body.
    pub fn open(
        &self,
        bytes: &[u8],
        place: (u64, u64),
        secret: &Secret,
    ) -> Option<(Head, Vec<u64>)> {
        let (fixed, rest) = bytes.get(..self.head_len())?.split_at_checked(FIXED)?;
        if secret.sum(place, &[fixed.get(..56)?, rest]) != self.sum {
            return None;
        }
        let (key, rest) = rest.split_at_checked(self.key)?;
        let (variant, rest) = rest.split_at_checked(self.variant)?;
        let (labels, rest) = rest.split_at_checked(self.labels)?;
        let (meta, sums) = rest.split_at_checked(self.meta)?;
        let head = Head {
            born: self.born,
            key: key.into(),
            variant: variant.into(),
            labels: split(labels)?,
            meta: meta.into(),
        };
        let sums = (0..blocks(self.body)).map(|n| u64_at(sums, n * 8));
        Some((head, sums.collect::<Option<_>>()?))
    }
}

/// A list as bytes: each with its length.
pub fn join(list: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in list {
        out.extend_from_slice(&(item.len() as u32).to_le_bytes());
        out.extend_from_slice(item);
    }
    out
}

/// The list again.
pub fn split(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let (item, rest) = bytes
            .get(4..)?
            .split_at_checked(u32_at(bytes, 0)? as usize)?;
        list.push(item.into());
        bytes = rest;
    }
    Some(list)
}

/// How long a record is before its body; none: a part is too long.
pub fn head_len(head: &Head, body: u64) -> Option<usize> {
    let labels: usize = head.labels.iter().map(|label| label.len() + 4).sum();
    let parts = [head.key.len(), head.variant.len(), labels, head.meta.len()];
    let is_bounded = parts.iter().all(|&n| n <= PART_MAX);
    is_bounded.then(|| FIXED + parts.iter().sum::<usize>() + blocks(body) * 8)
}

/// All before the body.
pub fn write(head: &Head, body: u64, sums: &[u64], place: (u64, u64), secret: &Secret) -> Vec<u8> {
    let labels = join(&head.labels);
    let mut out = Vec::with_capacity(FIXED + head.key.len() + head.meta.len() + sums.len() * 8);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    for n in [place.0, place.1, head.born] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for part in [&head.key, &head.variant, &labels, &head.meta] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
    }
    out.extend_from_slice(&body.to_le_bytes());
    let fixed = out.clone();
    out.extend_from_slice(&[0; 8]);
    for part in [&head.key, &head.variant, &labels, &head.meta] {
        out.extend_from_slice(part);
    }
    for sum in sums {
        out.extend_from_slice(&sum.to_le_bytes());
    }
    let rest = out.get(FIXED..).unwrap_or_default();
    let sum = secret.sum(place, &[&fixed, rest]).to_le_bytes();
    if let Some(to) = out.get_mut(56..FIXED) {
        to.copy_from_slice(&sum);
    }
    out
}
