//! Purges on disk: written and synced before they are acknowledged, read before an entry is seen.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::{Head, Secret, join, split};

/// Records; beyond it they become one that covers everything.
pub const PURGES_MAX: usize = 4_096;
/// Bytes of the file at most.
pub const LOG_MAX: u64 = 1024 * 1024;
/// Bytes of a record at most: longer ones become a purge of everything.
const RECORD_MAX: usize = 128 * 1024;

/// What a purge covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Everything.
    All,
    /// One key.
    Key(Vec<u8>),
    /// A host, and what begins with a path.
    Prefix(Vec<u8>, Vec<u8>),
    /// What has a tag.
    Tag(Vec<u8>),
}

impl What {
    fn covers(&self, head: &Head) -> bool {
        match self {
            Self::All => true,
            Self::Key(key) => *key == head.key,
            Self::Prefix(host, path) => {
                head.labels.first() == Some(host)
                    && head.labels.get(1).is_some_and(|own| own.starts_with(path))
            }
            Self::Tag(tag) => head.labels.iter().skip(2).any(|own| own == tag),
        }
    }

    fn parts(&self) -> Vec<Vec<u8>> {
        match self {
            Self::All => vec![vec![0]],
            Self::Key(key) => vec![vec![1], key.clone()],
            Self::Prefix(host, path) => vec![vec![2], host.clone(), path.clone()],
            Self::Tag(tag) => vec![vec![3], tag.clone()],
        }
    }

    fn of_parts(parts: &[Vec<u8>]) -> Option<Self> {
        Some(match parts {
            [kind] if **kind == [0] => Self::All,
            [kind, key] if **kind == [1] => Self::Key(key.clone()),
            [kind, host, path] if **kind == [2] => Self::Prefix(host.clone(), path.clone()),
            [kind, tag] if **kind == [3] => Self::Tag(tag.clone()),
            _ => return None,
        })
    }
}

/// A purge that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Purge {
    sequence: u64,
    soft: bool,
    what: What,
}

/// The file and what is in it.
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    purges: Vec<Purge>,
    /// The last place that was given.
    sequence: u64,
    /// A write failed: the next one writes the file anew.
    is_broken: bool,
}

fn encode(purge: &Purge, secret: &Secret) -> Vec<u8> {
    let mut parts = vec![
        purge.sequence.to_le_bytes().to_vec(),
        vec![u8::from(purge.soft)],
    ];
    parts.extend(purge.what.parts());
    let body = join(&parts);
    let len = (body.len() as u32).to_le_bytes();
    let sum = secret.sum((u64::MAX, 0), &[&len, &body]).to_le_bytes();
    [&len[..], &sum, &body].concat()
}

/// The first record and what is behind it.
fn decode<'a>(bytes: &'a [u8], secret: &Secret) -> Option<(Purge, &'a [u8])> {
    let (len, rest) = bytes.split_at_checked(4)?;
    let (sum, rest) = rest.split_at_checked(8)?;
    let size = u32::from_le_bytes(len.try_into().ok()?) as usize;
    let (body, rest) = rest.split_at_checked(size)?;
    if secret.sum((u64::MAX, 0), &[len, body]).to_le_bytes() != sum {
        return None;
    }
    let parts = split(body)?;
    let sequence = u64::from_le_bytes(parts.first()?.as_slice().try_into().ok()?);
    let soft = **parts.get(1)? == [1];
    let what = What::of_parts(parts.get(2..)?)?;
    Some((
        Purge {
            sequence,
            soft,
            what,
        },
        rest,
    ))
}

impl Log {
    /// Reads it. Whether it is whole: else it is not known what was purged.
    pub fn open(path: &Path, secret: &Secret) -> io::Result<(Self, bool)> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(LOG_MAX + 1).read_to_end(&mut bytes)?;
        let (mut purges, mut rest) = (Vec::new(), bytes.as_slice());
        while purges.len() < PURGES_MAX
            && let Some((purge, behind)) = decode(rest, secret)
        {
            purges.push(purge);
            rest = behind;
        }
        let log = Self {
            path: path.into(),
            file,
            bytes: bytes.len() as u64,
            sequence: purges.last().map_or(0, |purge| purge.sequence),
            purges,
            is_broken: false,
        };
        Ok((log, rest.is_empty()))
    }

    /// The place of the last purge.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Records a purge; it is on disk when this returns its place. After an error it covers nothing, and must not be acknowledged.
    pub fn add(&mut self, what: What, soft: bool, secret: &Secret) -> io::Result<u64> {
        let sequence = self.sequence + 1;
        let mut purge = Purge {
            sequence,
            soft,
            what,
        };
        let mut bytes = encode(&purge, secret);
        let is_full = self.purges.len() >= PURGES_MAX
            || self.bytes + bytes.len() as u64 > LOG_MAX
            || bytes.len() > RECORD_MAX;
        if is_full {
            // hard, as what it stands for may have been
            purge = Purge {
                sequence,
                soft: false,
                what: What::All,
            };
            bytes = encode(&purge, secret);
        }
        if is_full || self.is_broken {
            let kept = if is_full { &[][..] } else { &self.purges[..] };
            let kept = [kept, &[purge.clone()]].concat();
            self.rewrite(&kept, secret)?;
            self.purges = kept;
        } else {
            self.is_broken = true; // until it is whole
            self.file.write_all(&bytes)?;
            self.file.sync_data()?;
            self.is_broken = false;
            self.bytes += bytes.len() as u64;
            self.purges.push(purge);
        }
        self.sequence = sequence;
        Ok(sequence)
    }

    /// A new file, in the place of the old one once it is whole.
    fn rewrite(&mut self, purges: &[Purge], secret: &Secret) -> io::Result<()> {
        let bytes: Vec<u8> = purges.iter().flat_map(|p| encode(p, secret)).collect();
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&new)?;
        file.set_len(0)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(parent) = self.path.parent() {
            File::open(parent)?.sync_all()?;
        }
        (self.file, self.bytes, self.is_broken) = (file, bytes.len() as u64, false);
        Ok(())
    }

    /// Whether a record is covered: not, softly (`Some(true)`), or hard (`Some(false)`).
    pub fn cover(&self, head: &Head) -> Option<bool> {
        let newer = self.purges.iter().rev();
        newer
            .take_while(|purge| purge.sequence > head.born)
            .filter(|purge| purge.what.covers(head))
            .map(|purge| purge.soft)
            .min()
    }
}
