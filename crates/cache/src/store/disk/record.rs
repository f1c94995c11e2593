//! A record in a segment: what it looks like, and whether it is what was written.
//!
//! ```text
//! magic 4 | version 4 | segment 8 | offset 8 | born 8 | key 4 | meaning 4 | head 4 | 0 4 | body 8 | sum 8
//! key | meaning | head | a sum of 4 for each 127 KiB of the body | body | padding to 64
//! ```
//!
//! The sum is keyed with the directory's secret, over all before the body, so that an origin cannot put into a body what would pass for
//! a record. A record says where it stands: bytes that a disk gives from another place are not valid here. Sums of blocks need no
//! key: the list of them is under the keyed one.

use std::hash::Hasher;
use std::ops::Range;

use siphasher::sip::SipHasher13;

/// Bytes of the body under one sum: half a piece of a body in memory.
pub const BLOCK: usize = 127 * 1024;
/// Bytes before the key.
pub const FIXED: usize = 64;
/// Records begin at a multiple of it.
pub const ALIGN: u64 = 64;
/// Bytes of key, meaning and head, each.
const PART_MAX: usize = 256 * 1024;
/// Bytes of a block's sum.
const SUM: usize = 4;
const MAGIC: u32 = 0x4E58_4344;
/// Another version is not read. It is that of [`super::packed`], too.
pub const VERSION: u32 = 2;

/// What sums are keyed with.
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// The sum of a block.
pub fn block_sum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// What is to be written beside a body.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The place in the sequence of purges when its fetch began.
    pub born: u64,
    /// The key's bytes.
    pub key: &'a [u8],
    /// What the answer means, as [`super::packed`] writes it.
    pub meaning: &'a [u8],
    /// The answer's head.
    pub head: &'a [u8],
}

impl Parts<'_> {
    /// Bytes before the body; none: a part is too long.
    pub fn len(&self, body: u64) -> Option<u64> {
        let parts = [self.key.len(), self.meaning.len(), self.head.len()];
        let is_bounded = parts.iter().all(|&n| n <= PART_MAX);
        is_bounded.then(|| (FIXED + parts.iter().sum::<usize>() + blocks(body) * SUM) as u64)
    }

    /// All before the body.
    pub fn write(&self, body: u64, sums: &[u32], place: (u64, u64), secret: &Secret) -> Vec<u8> {
        let parts = [self.key, self.meaning, self.head];
        let mut out = Vec::with_capacity(self.len(body).unwrap_or_default() as usize);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        for n in [place.0, place.1, self.born] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for part in parts {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&body.to_le_bytes());
        let mut fixed = [0; FIXED - 8];
        fixed.copy_from_slice(&out);
        out.extend_from_slice(&[0; 8]);
        for part in parts {
            out.extend_from_slice(part);
        }
        for sum in sums {
            out.extend_from_slice(&sum.to_le_bytes());
        }
        let rest = out.get(FIXED..).unwrap_or_default();
        let sum = secret.sum(place, &[&fixed, rest]).to_le_bytes();
        if let Some(to) = out.get_mut(FIXED - 8..FIXED) {
            to.copy_from_slice(&sum);
        }
        out
    }
}

/// The first [`FIXED`] bytes. Lengths are within their bounds; the sum has not been compared.
#[derive(Debug, Clone, Copy)]
pub struct Fixed {
    /// The place in the sequence of purges when its fetch began.
    pub born: u64,
    key: usize,
    meaning: usize,
    head: usize,
    /// Bytes of the body.
    pub body: u64,
    sum: u64,
}

/// Four bytes as a number.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Eight bytes as a number.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
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
            meaning: part(36)?,
            head: part(40)?,
            body: u64_at(bytes, 48)?,
            sum: u64_at(bytes, 56)?,
        };
        let parts = [fixed.key, fixed.meaning, fixed.head];
        let is_bounded = parts.iter().all(|&n| n <= PART_MAX) && fixed.body <= room;
        (is_ours && is_bounded && fixed.len() <= room).then_some(fixed)
    }

    /// Bytes before the body.
    pub fn before(&self) -> usize {
        FIXED + self.key + self.meaning + self.head + blocks(self.body) * SUM
    }

    /// Bytes with the padding. A body is never longer than a segment, so that this does not overflow.
    pub fn len(&self) -> u64 {
        (self.before() as u64 + self.body).next_multiple_of(ALIGN)
    }

    /// What the bytes before the body are, if the sum holds.
    pub fn open(&self, mut bytes: Vec<u8>, place: (u64, u64), secret: &Secret) -> Option<Opened> {
        bytes.truncate(self.before());
        let (fixed, rest) = bytes.split_at_checked(FIXED)?;
        if bytes.len() != self.before()
            || secret.sum(place, &[fixed.get(..FIXED - 8)?, rest]) != self.sum
        {
            return None;
        }
        let key = FIXED..FIXED + self.key;
        let meaning = key.end..key.end + self.meaning;
        let head = meaning.end..meaning.end + self.head;
        Some(Opened {
            born: self.born,
            body: self.body,
            bytes,
            key,
            meaning,
            head,
        })
    }
}

/// All before the body of a record that is what was written.
pub struct Opened {
    /// The place in the sequence of purges when its fetch began.
    pub born: u64,
    /// Bytes of the body.
    pub body: u64,
    bytes: Vec<u8>,
    key: Range<usize>,
    meaning: Range<usize>,
    head: Range<usize>,
}

impl Opened {
    fn part(&self, part: &Range<usize>) -> &[u8] {
        self.bytes.get(part.clone()).unwrap_or_default()
    }

    /// The key's bytes.
    pub fn key(&self) -> &[u8] {
        self.part(&self.key)
    }

    /// What the answer means, as [`super::packed`] wrote it.
    pub fn meaning(&self) -> &[u8] {
        self.part(&self.meaning)
    }

    /// The answer's head.
    pub fn head(&self) -> &[u8] {
        self.part(&self.head)
    }

    /// The sum of a block.
    pub fn sum(&self, block: usize) -> Option<u32> {
        u32_at(&self.bytes, self.head.end + block.checked_mul(SUM)?)
    }

    /// Bytes before the body.
    pub fn before(&self) -> u64 {
        self.bytes.len() as u64
    }
}
