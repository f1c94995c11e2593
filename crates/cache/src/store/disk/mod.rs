//! Objects in files of one directory: what was written is read again after a restart, or it is not there.
//!
//! Every call may wait for the disk: it belongs on a thread of a pool, never on a data core. `docs/cache.md` has the layout.

mod admit;
mod log;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use admit::Sketch;
pub use log::What;
use log::{LOG_MAX, Log};
use record::{ALIGN, FIXED, Fixed, Secret};
pub use record::{BLOCK, Head};

/// Segments that the size is divided into: so much goes at once when a place is needed.
const SEGMENTS: u64 = 32;
/// Of the size, what is not for segments: the log of purges, twice while it is written anew, and the owner's file.
const RESERVE: u64 = 2 * LOG_MAX + 4096;
/// The smallest segment.
const SEGMENT_MIN: u64 = 64 * 1024;
/// The largest: offsets are kept in units of [`ALIGN`] in 32 bits.
const SEGMENT_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// After so many errors one after another nothing is written for [`PAUSE_MS`].
const ERRORS_MAX: u32 = 8;
const PAUSE_MS: u64 = 30_000;
/// Where sums begin that are not of a head.
const OF_BLOCK: u64 = 1 << 63;

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    Taken(PathBuf),
    /// So few bytes are of no use: at least this many.
    TooSmall(u64),
    /// The system says no, to this file.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken(path) => write!(
                f,
                "another process uses the cache directory {}; give each its own",
                path.display()
            ),
            Self::TooSmall(min) => write!(
                f,
                "the cache on disk is too small to be of use; give it at least {min} bytes"
            ),
            Self::Io(path, error) => write!(
                f,
                "cannot use {} for the cache: {error}; it must be a directory that narthex may write to",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// What happened.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records that were not what was written.
    pub corrupt: AtomicU64,
    /// Reads and writes that failed.
    pub errors: AtomicU64,
    /// Objects that were written.
    pub written: AtomicU64,
    /// Segments that went for new ones.
    pub dropped: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A segment's file. Whoever reads it holds it, though it may have gone from the directory.
struct Segment {
    id: u64,
    file: File,
}

/// Where a record is. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u64,
    /// In units of [`ALIGN`].
    unit: u32,
}

impl Place {
    fn full(self) -> (u64, u64) {
        (self.segment, u64::from(self.unit) * ALIGN)
    }
}

#[derive(Default)]
struct Index {
    /// By a hash of the key, newest last.
    places: HashMap<u64, Box<[Place]>>,
    segments: VecDeque<Arc<Segment>>,
}

/// Where the next record goes.
struct Tail {
    /// None: a new segment is needed.
    segment: Option<Arc<Segment>>,
    offset: u64,
    next_id: u64,
    errors: u32,
    paused_until_ms: u64,
}

/// The directory, owned by this process.
pub struct Disk {
    directory: PathBuf,
    /// Locked as long as it is open.
    owner: File,
    secret: Secret,
    segment_size: u64,
    segments_max: usize,
    index: Mutex<Index>,
    tail: Mutex<Tail>,
    log: Mutex<Log>,
    /// The index is whole.
    is_recovered: AtomicBool,
    /// What happened.
    pub counts: Counts,
}

/// A record whose head is what was written.
pub struct Stored {
    /// What stands beside the body.
    pub head: Head,
    /// It was purged softly.
    pub soft: bool,
    /// Bytes of the body.
    pub body: u64,
    segment: Arc<Segment>,
    place: Place,
    begin: u64,
    sums: Vec<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options.open(path)
}

impl Disk {
    /// Takes a directory, which is made if it is not there, for so many bytes. What is in it is read by [`Disk::recover`].
    pub fn open(directory: &Path, size: u64) -> Result<Self, OpenError> {
        let segment_size =
            (size.saturating_sub(RESERVE) / SEGMENTS).min(SEGMENT_MAX) / ALIGN * ALIGN;
        if segment_size < SEGMENT_MIN {
            return Err(OpenError::TooSmall(RESERVE + SEGMENTS * SEGMENT_MIN));
        }
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            |error| OpenError::Io(path, error)
        };
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory);
        made.map_err(failed(directory))?;
        let owner_path = directory.join("owner");
        let owner = open_file(&owner_path).map_err(failed(&owner_path))?;
        match owner.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Taken(directory.into())),
            Err(TryLockError::Error(error)) => return Err(failed(&owner_path)(error)),
        }
        let log_path = directory.join("purges");
        let known = read_owner(&owner, segment_size);
        let opened = known.and_then(|(secret, sequence)| {
            let (log, is_whole) = Log::open(&log_path, &secret).ok()?;
            (is_whole && log.sequence() >= sequence).then_some((secret, log))
        });
        let (secret, log) = match opened {
            Some(opened) => opened,
            None => begin(directory, &owner, segment_size).map_err(failed(directory))?,
        };
        Ok(Self {
            directory: directory.into(),
            owner,
            secret,
            segment_size,
            segments_max: ((size - RESERVE) / segment_size) as usize,
            index: Mutex::default(),
            tail: Mutex::new(Tail {
                segment: None,
                offset: 0,
                next_id: 0,
                errors: 0,
                paused_until_ms: 0,
            }),
            log: Mutex::new(log),
            is_recovered: AtomicBool::new(false),
            counts: Counts::default(),
        })
    }

    /// Reads which records there are. Until it is over nothing is found, as a newer record may come yet, and nothing is written.
    pub fn recover(&self) -> io::Result<()> {
        let mut ids: Vec<u64> = std::fs::read_dir(&self.directory)?
            .filter_map(|entry| segment_id(&entry.ok()?.path()))
            .collect();
        ids.sort_unstable();
        let mut tail = lock(&self.tail);
        tail.next_id = ids.last().map_or(0, |id| id.saturating_add(1));
        let old = ids.len().saturating_sub(self.segments_max);
        for (n, &id) in ids.iter().enumerate() {
            let path = self.path(id);
            let file = open_file(&path)?;
            let length = file.metadata()?.len();
            if n < old || length > self.segment_size {
                std::fs::remove_file(&path)?;
                continue;
            }
            let segment = Arc::new(Segment { id, file });
            lock(&self.index).segments.push_back(Arc::clone(&segment));
            let end = self.scan(&segment);
            if n + 1 == ids.len() {
                // what is behind the last record may be half a record: it must not look like one
                segment.file.set_len(end)?;
                segment.file.set_len(self.segment_size)?;
                (tail.segment, tail.offset) = (Some(segment), end);
            }
        }
        self.is_recovered.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes a segment's records into the index; where they end.
    fn scan(&self, segment: &Arc<Segment>) -> u64 {
        let mut offset = 0;
        while let Some((head, _, fixed)) = self.read_head(segment, offset) {
            self.enter(&head.key, segment.id, offset);
            offset += fixed.len();
        }
        offset
    }

    fn enter(&self, key: &[u8], segment: u64, offset: u64) {
        let place = Place {
            segment,
            unit: (offset / ALIGN) as u32,
        };
        let mut index = lock(&self.index);
        // segments that have gone meanwhile
        let oldest = index.segments.front().map_or(0, |segment| segment.id);
        let places = index.places.entry(self.hash(key)).or_default();
        let live = places.iter().filter(|place| place.segment >= oldest);
        // of one key not more than a few hundred: the oldest goes
        let mut new: Vec<Place> = live.copied().chain([place]).collect();
        let surplus = new.len().saturating_sub(256);
        new.drain(..surplus);
        *places = new.into();
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.secret.sum((0, 0), &[key])
    }

    fn path(&self, id: u64) -> PathBuf {
        self.directory.join(format!("segment-{id:016x}"))
    }

    fn read_head(&self, segment: &Segment, offset: u64) -> Option<(Head, Vec<u64>, Fixed)> {
        let place = (segment.id, offset);
        let room = self.segment_size.checked_sub(offset)?;
        let mut bytes = vec![0; FIXED];
        segment.file.read_exact_at(&mut bytes, offset).ok()?;
        let fixed = Fixed::parse(&bytes, place, room)?;
        bytes.resize(fixed.head_len(), 0);
        let rest = bytes.get_mut(FIXED..)?;
        let at = offset + FIXED as u64;
        segment.file.read_exact_at(rest, at).ok()?;
        let (head, sums) = fixed.open(&bytes, place, &self.secret)?;
        Some((head, sums, fixed))
    }

    /// The newest record of a key that fits and that no purge covers. Its head is what was written; its body is compared when it is
    /// read.
    pub fn find(&self, key: &[u8], mut fits: impl FnMut(&Head) -> bool) -> Option<Stored> {
        if !self.is_recovered.load(Ordering::Acquire) {
            return None;
        }
        let hash = self.hash(key);
        let places = lock(&self.index).places.get(&hash).cloned()?;
        for &place in places.iter().rev() {
            let Some(segment) = self.segment(place.segment) else {
                continue;
            };
            let Some((head, sums, fixed)) = self.read_head(&segment, place.full().1) else {
                count(&self.counts.corrupt);
                self.forget(hash);
                return None;
            };
            if head.key != key || !fits(&head) {
                continue;
            }
            // the newest that fits: an older one is not what was last stored
            let soft = match lock(&self.log).cover(&head) {
                Some(false) => {
                    self.forget(hash);
                    return None;
                }
                cover => cover.is_some(),
            };
            return Some(Stored {
                begin: place.full().1 + fixed.head_len() as u64,
                body: fixed.body,
                head,
                soft,
                segment,
                place,
                sums,
            });
        }
        None
    }

    fn segment(&self, id: u64) -> Option<Arc<Segment>> {
        let index = lock(&self.index);
        let at = index.segments.binary_search_by_key(&id, |s| s.id).ok()?;
        index.segments.get(at).cloned()
    }

    /// All records of a key: an older one must not take the place of one that is not good.
    fn forget(&self, hash: u64) {
        lock(&self.index).places.remove(&hash);
    }

    /// A block of a body, if it is what was written; else the record is forgotten.
    pub fn read(&self, stored: &Stored, block: usize) -> Option<Vec<u8>> {
        let sum = *stored.sums.get(block)?;
        let at = block as u64 * BLOCK as u64;
        let size = stored.body.checked_sub(at)?.min(BLOCK as u64) as usize;
        let mut bytes = vec![0; size];
        let read = stored
            .segment
            .file
            .read_exact_at(&mut bytes, stored.begin + at);
        if read.is_ok() && self.block_sum(stored.place.full(), block, &bytes) == sum {
            return Some(bytes);
        }
        count(if read.is_ok() {
            &self.counts.corrupt
        } else {
            &self.counts.errors
        });
        self.forget(self.hash(&stored.head.key));
        None
    }

    fn block_sum(&self, (segment, offset): (u64, u64), block: usize, bytes: &[u8]) -> u64 {
        // 18 bits for the block, of a segment of at most 16 GiB
        self.secret.sum(
            (OF_BLOCK | segment, (offset << 18) | block as u64),
            &[bytes],
        )
    }

    /// No purge covers it hard, and the next one will be able to.
    fn may_hold(&self, head: &Head) -> bool {
        let log = lock(&self.log);
        head.born <= log.sequence() && log.cover(head) != Some(false)
    }

    /// Writes a record. `false`: it was not, because it is too large, or was purged meanwhile, or writing is paused or failed.
    pub fn write(&self, head: &Head, body: &[u8], now_ms: u64) -> bool {
        let mut tail = lock(&self.tail);
        let is_ready = self.is_recovered.load(Ordering::Acquire);
        if !is_ready || now_ms < tail.paused_until_ms || !self.may_hold(head) {
            return false;
        }
        let Some(before) = record::head_len(head, body.len() as u64) else {
            return false;
        };
        let size = (before as u64 + body.len() as u64).next_multiple_of(ALIGN);
        if size > self.segment_size {
            return false;
        }
        match self.append(&mut tail, head, body, (before as u64, size)) {
            Ok(()) => {
                tail.errors = 0;
                count(&self.counts.written);
                true
            }
            Err(_) => {
                count(&self.counts.errors);
                tail.errors += 1;
                if tail.errors >= ERRORS_MAX {
                    (tail.errors, tail.paused_until_ms) = (0, now_ms.saturating_add(PAUSE_MS));
                }
                false
            }
        }
    }

    fn append(
        &self,
        tail: &mut Tail,
        head: &Head,
        body: &[u8],
        (before, size): (u64, u64),
    ) -> io::Result<()> {
        let segment = match &tail.segment {
            Some(segment) if tail.offset + size <= self.segment_size => Arc::clone(segment),
            _ => self.next_segment(tail)?,
        };
        let place = (segment.id, tail.offset);
        let blocks = body.chunks(BLOCK).enumerate();
        let sums: Vec<u64> = blocks.map(|(n, b)| self.block_sum(place, n, b)).collect();
        let bytes = record::write(head, body.len() as u64, &sums, place, &self.secret);
        // the head last: until it is whole there is no record
        let written = segment
            .file
            .write_all_at(body, place.1 + before)
            .and_then(|()| segment.file.write_all_at(&bytes, place.1));
        if let Err(error) = written {
            // what is there of it must not look like a record to the one that is written next
            let zeroed = segment.file.set_len(place.1);
            if zeroed
                .and_then(|()| segment.file.set_len(self.segment_size))
                .is_err()
            {
                tail.segment = None;
            }
            return Err(error);
        }
        tail.offset += size;
        self.enter(&head.key, place.0, place.1);
        Ok(())
    }

    /// A new segment, for the oldest if there are as many as may be.
    fn next_segment(&self, tail: &mut Tail) -> io::Result<Arc<Segment>> {
        tail.segment = None;
        loop {
            let oldest = {
                let index = lock(&self.index);
                let is_full = index.segments.len() >= self.segments_max;
                index.segments.front().filter(|_| is_full).cloned()
            };
            let Some(oldest) = oldest else {
                break;
            };
            match std::fs::remove_file(self.path(oldest.id)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            count(&self.counts.dropped);
            let mut index = lock(&self.index);
            index.segments.pop_front();
            index.places.retain(|_, places| {
                if places.iter().any(|place| place.segment <= oldest.id) {
                    let live = places.iter().copied().filter(|p| p.segment > oldest.id);
                    *places = live.collect();
                }
                !places.is_empty()
            });
        }
        let id = tail.next_id;
        tail.next_id += 1;
        let path = self.path(id);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path)?;
        if let Err(error) = file.set_len(self.segment_size) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let segment = Arc::new(Segment { id, file });
        lock(&self.index).segments.push_back(Arc::clone(&segment));
        (tail.segment, tail.offset) = (Some(Arc::clone(&segment)), 0);
        Ok(segment)
    }

    /// Purges. It is on disk when this returns its place in the sequence; after an error nothing was purged.
    pub fn purge(&self, what: What, soft: bool) -> io::Result<u64> {
        let mut log = lock(&self.log);
        let sequence = log.add(what, soft, &self.secret)?;
        // a log that is cut off where a record ends would look whole
        write_owner(&self.owner, &self.secret, sequence, self.segment_size)?;
        self.owner.sync_data()?;
        Ok(sequence)
    }

    /// The place of the last purge.
    pub fn sequence(&self) -> u64 {
        lock(&self.log).sequence()
    }

    /// Keys in the index.
    pub fn keys(&self) -> usize {
        lock(&self.index).places.len()
    }

    /// Writes what the system still holds.
    pub fn flush(&self) -> io::Result<()> {
        let segment = lock(&self.tail).segment.clone();
        segment.map_or(Ok(()), |segment| segment.file.sync_data())
    }
}

/// The secret of a directory, whoever uses it now.
pub(super) fn secret_of(directory: &Path) -> Option<[u8; 16]> {
    let owner = File::open(directory.join("owner")).ok()?;
    let mut secret = [0; 16];
    owner.read_exact_at(&mut secret, 0).ok()?;
    Some(secret)
}

fn segment_id(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_prefix("segment-")?;
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok())?
}

/// Secret, and the last purge that was acknowledged; none: the file is new, damaged, or the segments have another size.
fn read_owner(owner: &File, segment_size: u64) -> Option<(Secret, u64)> {
    let mut bytes = [0; 32];
    owner.read_exact_at(&mut bytes, 0).ok()?;
    let (secret, rest) = bytes.split_first_chunk::<16>()?;
    let (sequence, sum) = rest.split_first_chunk::<8>()?;
    let secret = Secret(*secret);
    let is_ours = secret
        .sum((u64::MAX, segment_size), &[sequence])
        .to_le_bytes()
        == *sum;
    is_ours.then_some((secret, u64::from_le_bytes(*sequence)))
}

fn write_owner(owner: &File, secret: &Secret, sequence: u64, segment_size: u64) -> io::Result<()> {
    let sequence = sequence.to_le_bytes();
    let sum = secret
        .sum((u64::MAX, segment_size), &[&sequence])
        .to_le_bytes();
    owner.write_all_at(&[&secret.0[..], &sequence, &sum].concat(), 0)
}

/// Begins anew: what is there is not known to be ours, or it is not known what was purged.
fn begin(directory: &Path, owner: &File, segment_size: u64) -> io::Result<(Secret, Log)> {
    owner.set_len(0)?;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if segment_id(&path).is_some() || matches!(name, Some("purges" | "purges.new")) {
            std::fs::remove_file(&path)?;
        }
    }
    let mut secret = Secret([0; 16]);
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut secret.0)?;
    let (log, _) = Log::open(&directory.join("purges"), &secret)?;
    write_owner(owner, &secret, 0, segment_size)?;
    owner.sync_all()?;
    File::open(directory)?.sync_all()?;
    Ok((secret, log))
}
