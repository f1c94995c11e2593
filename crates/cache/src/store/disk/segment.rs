//! A file of records, one behind the other, and at its end, once no more come, a list of them.
//!
//! ```text
//! record | record | ... | an entry of 16 for each: hash 8, variant 4, unit 4 | ... | magic 4 | version 4 | segment 8 | where the
//! entries begin 8 | how many 8 | born 8 | sum 8
//! ```
//!
//! The list is under a sum keyed with the secret. One that is not whole says nothing: then the records themselves are read.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;

use super::index::Entry;
use super::record::{ALIGN, FIXED, Fixed, Opened, Secret, VERSION, u32_at, u64_at};

/// Bytes of an entry of the list.
const ENTRY: u64 = 16;
/// Bytes behind the list.
const TRAILER: u64 = 48;
const MAGIC: u32 = 0x4E58_4346;
/// Read at once where a record begins: all before the body of most, and all of a small one.
const FIRST: usize = 4096;

/// When heads are read one after the other, so much is asked of the disk ahead.
const AHEAD: u64 = 8 * 1024 * 1024;

/// A segment's file. Whoever reads it holds it, though it may have gone from the directory.
pub struct Segment {
    /// Its number: later ones are larger.
    pub id: u32,
    /// Bytes of the file.
    pub length: u64,
    /// Where the next record goes.
    pub end: AtomicU64,
    /// The oldest place in the sequence of purges of what is in it.
    pub born: AtomicU64,
    file: File,
}

fn open(path: &Path, is_new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create_new(is_new)
        .mode(0o600);
    options.open(path)
}

/// Makes it so long, with room for all of it on the disk: that there is none is known now, not in the middle of a record.
fn allocate(file: &File, length: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(length),
        Err(error) => Err(error.into()),
    }
}

impl Segment {
    fn of(file: File, id: u32, length: u64) -> Self {
        Self {
            id,
            length,
            end: AtomicU64::new(0),
            born: AtomicU64::new(u64::MAX),
            file,
        }
    }

    /// A new one.
    pub fn create(path: &Path, id: u32, length: u64) -> io::Result<Self> {
        let file = open(path, true)?;
        if let Err(error) = allocate(&file, length) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Self::of(file, id, length))
    }

    /// One that is there.
    pub fn open(path: &Path, id: u32) -> io::Result<Self> {
        let file = open(path, false)?;
        let length = file.metadata()?.len();
        Ok(Self::of(file, id, length))
    }

    /// Writes at a place.
    pub fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Reads at a place.
    pub fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    /// What stands behind `end` is nothing.
    pub fn erase_from(&self, end: u64) -> io::Result<()> {
        self.file.set_len(end)?;
        allocate(&self.file, self.length)
    }

    /// It is on the disk when this returns.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// A record is in it.
    pub fn note(&self, born: u64) {
        self.born.fetch_min(born, Ordering::AcqRel);
    }

    /// All before the body of the record at an offset, and where the next one is.
    pub fn head(&self, offset: u64, secret: &Secret) -> Option<(Opened, u64)> {
        let place = (u64::from(self.id), offset);
        let room = self.length.checked_sub(offset)?;
        let mut bytes = vec![0; FIRST.min(usize::try_from(room).unwrap_or(FIRST))];
        if bytes.len() < FIXED {
            return None;
        }
        self.read(&mut bytes, offset).ok()?;
        let fixed = Fixed::parse(&bytes, place, room)?;
        if let before = fixed.before()
            && before > bytes.len()
        {
            let there = bytes.len();
            bytes.resize(before, 0);
            self.read(bytes.get_mut(there..)?, offset + there as u64)
                .ok()?;
        }
        let opened = fixed.open(bytes, place, secret)?;
        Some((opened, offset + fixed.len()))
    }

    /// One of this length has room for so many records, the last of which ends here, and for the list of them.
    pub fn holds(length: u64, end: u64, records: usize) -> bool {
        end.saturating_add(records as u64 * ENTRY + TRAILER) <= length
    }

    /// Writes the list of its records, which end at `end`.
    pub fn seal(&self, entries: &[Entry], end: u64, secret: &Secret) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(entries.len() * ENTRY as usize);
        for entry in entries {
            bytes.extend_from_slice(&entry.key.to_le_bytes());
            bytes.extend_from_slice(&entry.variant.to_le_bytes());
            bytes.extend_from_slice(&entry.unit.to_le_bytes());
        }
        let mut trailer = Vec::with_capacity(TRAILER as usize);
        trailer.extend_from_slice(&MAGIC.to_le_bytes());
        trailer.extend_from_slice(&VERSION.to_le_bytes());
        let born = self.born.load(Ordering::Acquire);
        for n in [u64::from(self.id), end, entries.len() as u64, born] {
            trailer.extend_from_slice(&n.to_le_bytes());
        }
        let sum = secret.sum((u64::MAX, self.length), &[&trailer, &bytes]);
        trailer.extend_from_slice(&sum.to_le_bytes());
        self.write(&bytes, end)?;
        self.write(&trailer, self.length.saturating_sub(TRAILER))
    }

    /// Its records, in the order in which they were written, and the end of the last one; `is_listed`: by the list.
    pub fn entries(&self, secret: &Secret) -> (Vec<Entry>, bool) {
        if let Some(entries) = self.listed(secret) {
            return (entries, true);
        }
        let mut entries = Vec::new();
        let (mut offset, mut ahead) = (0, 0);
        loop {
            if offset >= ahead {
                // one read for many heads
                let _ = fadvise(&self.file, offset, NonZero::new(AHEAD), Advice::WillNeed);
                ahead = offset + AHEAD / 2;
            }
            let Some((opened, next)) = self.head(offset, secret) else {
                break;
            };
            let Some(variant) = super::variant_of(&opened) else {
                break;
            };
            self.note(opened.born);
            entries.push(Entry {
                key: crate::store::hash(opened.key()),
                variant,
                segment: self.id,
                unit: (offset / ALIGN) as u32,
            });
            offset = next;
        }
        self.end.store(offset, Ordering::Release);
        (entries, false)
    }

    fn listed(&self, secret: &Secret) -> Option<Vec<Entry>> {
        let mut trailer = [0; TRAILER as usize];
        let at = self.length.checked_sub(TRAILER)?;
        self.read(&mut trailer, at).ok()?;
        let (said, sum) = trailer.split_last_chunk::<8>()?;
        let is_ours = u32_at(said, 0)? == MAGIC
            && u32_at(said, 4)? == VERSION
            && u64_at(said, 8)? == u64::from(self.id);
        let (end, count, born) = (u64_at(said, 16)?, u64_at(said, 24)?, u64_at(said, 32)?);
        let size = count.checked_mul(ENTRY)?;
        if !is_ours || end.checked_add(size)? > at {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.read(&mut bytes, end).ok()?;
        if secret.sum((u64::MAX, self.length), &[said, &bytes]) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (chunks, _) = bytes.as_chunks::<{ ENTRY as usize }>();
        let entries = chunks.iter().map(|chunk| {
            Some(Entry {
                key: u64_at(chunk, 0)?,
                variant: u32_at(chunk, 8)?,
                segment: self.id,
                unit: u32_at(chunk, 12)?,
            })
        });
        let entries = entries.collect::<Option<Vec<_>>>()?;
        self.note(born);
        self.end.store(end, Ordering::Release);
        Some(entries)
    }
}
