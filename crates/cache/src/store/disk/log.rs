//! Purges on disk, and who owns the directory: a record of a purge is written and synced before it is acknowledged.
//!
//! ```text
//! sequence 8 | kind 1, soft 1, 0 2, length 4 | a 8 | b 8 | sum 8
//! ```
//!
//! A record has hashes instead of names, as the tables of [`Purges`] do: it is as long as any other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::record::{Secret, VERSION, u32_at, u64_at};
use crate::store::purge::{Purges, What};

/// Bytes of a record.
pub const RECORD: u64 = 40;
/// What sums of records and of the owner's file are made with, in the place of a segment.
const PURPOSE: u64 = u64::MAX - 1;

/// A purge and its place in the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// Its place.
    pub sequence: u64,
    /// Makes stale only.
    pub soft: bool,
    /// What it covers; none: it only says how far the sequence is.
    pub what: Option<What>,
}

impl Logged {
    fn write(&self, secret: &Secret, out: &mut Vec<u8>) {
        let (kind, length, a, b) = match self.what {
            None => (0, 0, 0, 0),
            Some(What::Everything) => (1, 0, 0, 0),
            Some(What::Host(host)) => (2, 0, host, 0),
            Some(What::Tag(tag) | What::Version(tag)) => (3, 0, tag, 0),
            Some(What::Key(key)) => (4, 0, key, 0),
            Some(What::Path { host, key }) => (5, 0, host, key),
            Some(What::Prefix { host, key, length }) => (6, length, host, key),
        };
        let start = out.len();
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&[kind, u8::from(self.soft), 0, 0]);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&a.to_le_bytes());
        out.extend_from_slice(&b.to_le_bytes());
        let sum = secret.sum((PURPOSE, 0), &[out.get(start..).unwrap_or_default()]);
        out.extend_from_slice(&sum.to_le_bytes());
    }

    fn read(bytes: &[u8], secret: &Secret) -> Option<Self> {
        let (said, sum) = bytes.split_last_chunk::<8>()?;
        if secret.sum((PURPOSE, 0), &[said]) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (length, a, b) = (u32_at(said, 12)?, u64_at(said, 16)?, u64_at(said, 24)?);
        let what = match said.get(8)? {
            0 => None,
            1 => Some(What::Everything),
            2 => Some(What::Host(a)),
            3 => Some(What::Tag(a)),
            4 => Some(What::Key(a)),
            5 => Some(What::Path { host: a, key: b }),
            6 => Some(What::Prefix {
                host: a,
                key: b,
                length,
            }),
            _ => return None,
        };
        Some(Self {
            sequence: u64_at(said, 0)?,
            soft: *said.get(9)? == 1,
            what,
        })
    }
}

/// The file.
pub struct Log {
    path: PathBuf,
    file: File,
    records: u64,
    /// Records that it may have.
    records_max: u64,
    /// A write failed: the next one writes the file anew.
    is_broken: bool,
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options
}

impl Log {
    /// Reads it into `purges`, up to what is not whole: a crash may have cut the last record, which was not acknowledged then. How far
    /// the sequence is.
    pub fn open(
        path: &Path,
        records_max: u64,
        secret: &Secret,
        purges: &Purges,
    ) -> io::Result<(Self, u64)> {
        let mut file = options().open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(super::LOG_MAX).read_to_end(&mut bytes)?;
        let (records, _) = bytes.as_chunks::<{ RECORD as usize }>();
        let mut sequence = 0;
        for logged in records.iter().map_while(|r| Logged::read(r, secret)) {
            if let Some(what) = logged.what {
                purges.record_at(what, logged.soft, logged.sequence);
            }
            sequence = sequence.max(logged.sequence);
        }
        let log = Self {
            path: path.into(),
            file,
            records: records.len() as u64,
            records_max,
            is_broken: true, // until it has been written anew
        };
        Ok((log, sequence))
    }

    /// These need it to be written anew: there is no room for them, or a write has failed.
    pub fn is_full(&self, more: usize) -> bool {
        self.is_broken || self.records + more as u64 > self.records_max
    }

    /// Appends; `is_awaited`: they are on the disk when this returns.
    pub fn append(
        &mut self,
        batch: &[Logged],
        is_awaited: bool,
        secret: &Secret,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        for logged in batch {
            logged.write(secret, &mut bytes);
        }
        self.is_broken = true; // until it is whole
        self.file.write_all(&bytes)?;
        if is_awaited {
            self.file.sync_data()?;
        }
        self.is_broken = false;
        self.records += batch.len() as u64;
        Ok(())
    }

    /// A new file of what `purges` still has, in the place of the old one once it is whole.
    pub fn rewrite(&mut self, purges: &Purges, sequence: u64, secret: &Secret) -> io::Result<()> {
        let mut batch = Vec::new();
        purges.each(|what, soft, sequence| {
            batch.push(Logged {
                sequence,
                soft,
                what: Some(what),
            });
        });
        // where it is cut, everything up to a place in the sequence is there
        batch.sort_unstable_by_key(|logged| logged.sequence);
        batch.push(Logged {
            sequence,
            soft: false,
            what: None,
        });
        self.is_broken = true;
        let mut bytes = Vec::new();
        for logged in &batch {
            logged.write(secret, &mut bytes);
        }
        let new = self.path.with_extension("new");
        let mut file = options().open(&new)?;
        file.set_len(0)?;
        // room for all that it may have, so that a full disk does not keep a purge from being written
        let room = self.records_max * RECORD;
        let _ = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, room);
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(parent) = self.path.parent() {
            File::open(parent)?.sync_all()?;
        }
        (self.file, self.records, self.is_broken) = (file, batch.len() as u64, false);
        Ok(())
    }
}

/// The file that says whose the directory is: the secret, and the last purge that was acknowledged. Locked as long as it is open.
pub struct Owner(pub File);

impl Owner {
    /// Secret and last purge; none: the file is new, or damaged, or of another version.
    pub fn read(&self) -> Option<(Secret, u64)> {
        let mut bytes = [0; 32];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let (secret, rest) = bytes.split_first_chunk::<16>()?;
        let (sequence, sum) = rest.split_first_chunk::<8>()?;
        let secret = Secret(*secret);
        let is_ours = sum_of(&secret, sequence).to_le_bytes() == *sum;
        is_ours.then_some((secret, u64::from_le_bytes(*sequence)))
    }

    /// Writes both. It is not synced: it tells a log that was cut where a record ends from one that is whole, and a log that has been
    /// synced is not cut by a crash.
    pub fn write(&self, secret: &Secret, sequence: u64) -> io::Result<()> {
        let sequence = sequence.to_le_bytes();
        let sum = sum_of(secret, &sequence).to_le_bytes();
        self.0
            .write_all_at(&[&secret.0[..], &sequence, &sum].concat(), 0)
    }
}

fn sum_of(secret: &Secret, sequence: &[u8]) -> u64 {
    secret.sum((PURPOSE, u64::from(VERSION)), &[sequence])
}
