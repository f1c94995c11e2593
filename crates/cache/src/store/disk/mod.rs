//! Objects in files of one directory: what was written is read again after a restart, or it is not there.
//!
//! Every call but [`Disk::contains`] may wait for the disk: it belongs on a thread of a pool, never on a data core. `docs/cache.md`
//! has the layout.

mod admit;
mod index;
mod log;
pub mod packed;
mod record;
mod segment;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

pub use admit::Sketch;
use index::{Entry, Index};
pub use log::Logged;
use log::{Log, Owner, RECORD};
pub use packed::Meaning;
use record::{ALIGN, Opened, Secret};
pub use record::{BLOCK, Parts};
use segment::Segment;

use super::object;
use super::purge::{Cover, Purges};

/// Segments that the size is divided into: so much goes at once when a place is needed.
const SEGMENTS: u64 = 32;
/// Of the size, one part in so many is for the log of purges.
const LOG_SHARE: u64 = 64;
/// Bytes of the log, at least and at most.
const LOG_MIN: u64 = 64 * 1024;
const LOG_MAX: u64 = 16 * 1024 * 1024;
/// For the owner's file and what else is small.
const SMALL: u64 = 64 * 1024;
/// Five tables of purges, each record of which may be in the log as a hard one and as a soft one.
/// So many records for each of them leave half of the log for what comes.
const TABLES: u64 = 20;
/// The smallest segment.
const SEGMENT_MIN: u64 = 64 * 1024;
/// The largest: offsets are kept in units of [`ALIGN`] in 32 bits.
const SEGMENT_MAX: u64 = 128 * 1024 * 1024 * 1024;
/// The smallest size.
pub const SIZE_MIN: u64 = 4 * 1024 * 1024;
/// Records of a key whose heads are read for one request.
const HEADS_MAX: usize = 64;
/// A segment has a record for each so many of its bytes at most, and these many in any case: records take memory.
const RECORD_SHARE: u64 = 2_048;
const RECORDS_MIN: u64 = 32_768;
/// After so many errors one after another, or one for lack of space, nothing is written for [`PAUSE`].
const ERRORS_MAX: u32 = 8;
const PAUSE: Duration = Duration::from_secs(30);
/// How far the sequence of purges leaps when a directory is opened: purges that were not acknowledged, and are lost, had no place
/// behind it.
const LEAP: u64 = 1 << 20;

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

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Where the next record goes.
#[derive(Default)]
struct Tail {
    /// None: a new segment is needed.
    segment: Option<Arc<Segment>>,
    /// What is in it.
    entries: Vec<Entry>,
    /// It has a list of its records, which more of them make untrue.
    is_sealed: bool,
    next_id: u32,
    errors: u32,
}

/// The directory, owned by this process.
pub struct Disk {
    directory: PathBuf,
    owner: Owner,
    secret: Secret,
    /// Bytes that there may be.
    size: u64,
    /// Bytes that segments may have.
    room: u64,
    segment_size: u64,
    index: Index,
    segments: RwLock<VecDeque<Arc<Segment>>>,
    tail: Mutex<Tail>,
    paused_until: Mutex<Option<Instant>>,
    log: Mutex<Log>,
    /// What the log says.
    pub purges: Purges,
    /// Purges up to this one have taken effect in memory, too.
    pub settled: AtomicU64,
    /// The index is whole.
    is_recovered: AtomicBool,
    /// Where the fetch of what is being written began in the sequence of purges; the maximum: nothing is.
    writing: AtomicU64,
    /// Hash of its key; it means something as long as something is written.
    writing_key: AtomicU64,
    /// What happened.
    pub counts: Counts,
}

/// A record whose head is what was written.
pub struct Stored {
    /// What it means.
    pub meaning: Meaning,
    /// Whether a purge covers it.
    pub cover: Cover,
    opened: Opened,
    segment: Arc<Segment>,
    offset: u64,
}

impl Stored {
    /// The answer's head.
    pub fn head(&self) -> &[u8] {
        self.opened.head()
    }

    /// Bytes of the body.
    pub fn body(&self) -> u64 {
        self.opened.body
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn variant_of(opened: &Opened) -> Option<u32> {
    let meaning = packed::unpack(opened.meaning(), opened.head())?;
    let names = meaning.names.iter().map(|name| &**name);
    Some(packed::variant_sum(names, &meaning.variant))
}

impl Disk {
    /// Takes a directory, which is made if it is not there, for so many bytes. What is in it is read by [`Disk::recover`]. Its
    /// sequence of purges will be beyond `sequence`.
    pub fn open(directory: &Path, size: u64, sequence: u64) -> Result<Self, OpenError> {
        let log_size = (size / LOG_SHARE).clamp(LOG_MIN, LOG_MAX);
        // twice, for it is written anew beside the old one
        let room = size.saturating_sub(2 * log_size + SMALL);
        let segment_size = (room / SEGMENTS).min(SEGMENT_MAX) / ALIGN * ALIGN;
        if size < SIZE_MIN || segment_size < SEGMENT_MIN {
            return Err(OpenError::TooSmall(SIZE_MIN));
        }
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            |error| OpenError::Io(path, error)
        };
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory);
        made.map_err(failed(directory))?;
        let owner_path = directory.join("owner");
        let owner = options().open(&owner_path).map_err(failed(&owner_path))?;
        match owner.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Taken(directory.into())),
            Err(TryLockError::Error(error)) => return Err(failed(&owner_path)(error)),
        }
        let owner = Owner(owner);
        let ours = Secret(object::secret());
        let records_max = log_size / RECORD;
        let tables = usize::try_from(records_max / TABLES).unwrap_or(usize::MAX);
        let log_path = directory.join("purges");
        let read = || {
            let purges = Purges::with_room(tables);
            let (log, last) = Log::open(&log_path, records_max, &ours, &purges)?;
            io::Result::Ok((log, last, purges))
        };
        let known = owner.read().filter(|(secret, _)| *secret == ours);
        let opened = known.and_then(|(_, acknowledged)| {
            let opened = read().ok()?;
            (opened.1 >= acknowledged).then_some(opened)
        });
        let (mut log, last, purges) = match opened {
            Some(opened) => opened,
            None => begin(directory)
                .and_then(|()| read())
                .map_err(failed(directory))?,
        };
        let sequence = last.max(sequence).saturating_add(LEAP);
        purges.advance(sequence);
        log.rewrite(&purges, sequence, &ours)
            .map_err(failed(&log_path))?;
        owner
            .write(&ours, sequence)
            .and_then(|()| owner.0.sync_all())
            .map_err(failed(&owner_path))?;
        Ok(Self {
            directory: directory.into(),
            owner,
            secret: ours,
            size,
            room,
            segment_size,
            index: Index::default(),
            segments: RwLock::default(),
            tail: Mutex::default(),
            paused_until: Mutex::default(),
            log: Mutex::new(log),
            purges,
            settled: AtomicU64::new(0),
            is_recovered: AtomicBool::new(false),
            writing: AtomicU64::new(u64::MAX),
            writing_key: AtomicU64::new(0),
            counts: Counts::default(),
        })
    }

    /// Reads which records there are. Until it is over nothing is found, as a newer record may come yet, and nothing is written.
    pub fn recover(&self) -> io::Result<()> {
        let mut tail = lock(&self.tail);
        let mut ids: Vec<u32> = std::fs::read_dir(&self.directory)?
            .filter_map(|entry| segment_id(&entry.ok()?.path()))
            .collect();
        ids.sort_unstable();
        tail.next_id = ids.last().map_or(0, |id| id.saturating_add(1));
        let mut left = self.room;
        // the newest first: what it has counts
        for (n, &id) in ids.iter().rev().enumerate() {
            let path = self.path(id);
            let segment = Segment::open(&path, id)?;
            let rest = left.checked_sub(segment.length);
            let Some(rest) = rest.filter(|_| segment.length <= SEGMENT_MAX) else {
                std::fs::remove_file(&path)?;
                continue;
            };
            left = rest;
            let segment = Arc::new(segment);
            let (entries, is_listed) = segment.entries(&self.secret);
            self.segments_mut().push_front(Arc::clone(&segment));
            for &entry in entries.iter().rev() {
                self.index.enter(entry);
            }
            if n == 0 && segment.length == self.segment_size {
                let end = segment.end.load(Ordering::Acquire);
                if !is_listed {
                    // what is behind the last record may be half a record: it must not look like one
                    segment.erase_from(end)?;
                }
                (tail.entries, tail.is_sealed) = (entries, is_listed);
                tail.segment = Some(segment);
            }
        }
        self.is_recovered.store(true, Ordering::Release);
        Ok(())
    }

    /// What was there when it was opened has been read.
    pub fn is_recovered(&self) -> bool {
        self.is_recovered.load(Ordering::Acquire)
    }

    fn segments_mut(&self) -> std::sync::RwLockWriteGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn segments(&self) -> std::sync::RwLockReadGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: u32) -> PathBuf {
        self.directory.join(format!("segment-{id:016x}"))
    }

    /// There may be something under a key. Does not wait.
    pub fn contains(&self, key: u64) -> bool {
        self.is_recovered() && self.index.contains(key)
    }

    /// There may be something under a key now, or soon: what was there at the start is not read yet, or it is being written.
    pub fn may_hold(&self, key: u64) -> bool {
        let is_writing = self.writing.load(Ordering::SeqCst) != u64::MAX
            && self.writing_key.load(Ordering::SeqCst) == key;
        // in this order: what has been written meanwhile is in the index
        !self.is_recovered() || is_writing || self.index.contains(key)
    }

    /// The records of a key, newest first, whose heads are what was written. Bodies are compared when they are read.
    pub fn find(&self, hash: u64, key: &[u8]) -> Vec<Stored> {
        let mut found = Vec::new();
        if !self.is_recovered() {
            return found;
        }
        for entry in self.index.newest(hash, HEADS_MAX) {
            let Some(segment) = self.segment(entry.segment) else {
                continue;
            };
            let offset = u64::from(entry.unit) * ALIGN;
            let opened = segment.head(offset, &self.secret);
            let stored = opened.and_then(|(opened, _)| {
                let meaning = packed::unpack(opened.meaning(), opened.head())?;
                Some((opened, meaning))
            });
            let Some((opened, meaning)) = stored else {
                count(&self.counts.corrupt);
                // an older one must not take its place
                self.forget(hash);
                return Vec::new();
            };
            if opened.key() != key {
                continue;
            }
            let place = (meaning.host.as_bytes(), meaning.path.as_slice());
            let mut cover = self
                .purges
                .cover_on_disk(opened.born, hash, place, &meaning.tags);
            if opened.born > self.purges.sequence() {
                cover = Cover::Hard; // no purge could cover it
            }
            found.push(Stored {
                meaning,
                cover,
                opened,
                segment,
                offset,
            });
        }
        found
    }

    fn segment(&self, id: u32) -> Option<Arc<Segment>> {
        let segments = self.segments();
        let at = segments.binary_search_by_key(&id, |s| s.id).ok()?;
        segments.get(at).cloned()
    }

    /// All records of a key. Does not wait.
    pub fn forget(&self, hash: u64) {
        self.index.forget(hash);
    }

    /// Reads blocks of a body from `at` on, which is where a block begins, as many as fit. `false`: they are not what was written, or
    /// cannot be read; the record is forgotten.
    pub fn read(&self, stored: &Stored, at: u64, into: &mut [u8]) -> bool {
        let begin = stored.offset + stored.opened.before();
        let read = stored.segment.read(into, begin + at);
        let is_right = read.is_ok() && {
            let first = (at / BLOCK as u64) as usize;
            let mut blocks = into.chunks(BLOCK).enumerate();
            blocks.all(|(n, block)| stored.opened.sum(first + n) == Some(record::block_sum(block)))
        };
        if !is_right {
            count(if read.is_ok() {
                &self.counts.corrupt
            } else {
                &self.counts.errors
            });
            self.forget(object::hash(stored.opened.key()));
        }
        is_right
    }

    /// Nothing is written for a while.
    pub fn is_paused(&self) -> bool {
        let until = *lock(&self.paused_until);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Writes a record, of which `may` says, once no purge can be forgotten that covers it, whether it may be there. The hashes of
    /// what went to make room; none: it was not written, because it is too large, or writing is paused or failed.
    pub fn write(
        &self,
        parts: &Parts<'_>,
        (variant, body): (u32, &[&[u8]]),
        may: impl FnOnce() -> bool,
    ) -> Option<Vec<u64>> {
        let mut tail = lock(&self.tail);
        if !self.is_recovered() || self.is_paused() {
            return None;
        }
        self.writing_key
            .store(object::hash(parts.key), Ordering::SeqCst);
        self.writing.store(parts.born, Ordering::SeqCst);
        let written = if may() {
            self.append(&mut tail, parts, variant, body)
        } else {
            Ok(None)
        };
        self.writing.store(u64::MAX, Ordering::SeqCst);
        match written {
            Ok(gone) => {
                tail.errors = 0;
                if gone.is_some() {
                    count(&self.counts.written);
                }
                gone
            }
            Err(error) => {
                count(&self.counts.errors);
                tail.errors += 1;
                if tail.errors >= ERRORS_MAX || error.kind() == ErrorKind::StorageFull {
                    tail.errors = 0;
                    *lock(&self.paused_until) = Some(Instant::now() + PAUSE);
                }
                None
            }
        }
    }

    fn append(
        &self,
        tail: &mut Tail,
        parts: &Parts<'_>,
        variant: u32,
        body: &[&[u8]],
    ) -> io::Result<Option<Vec<u64>>> {
        let length: u64 = body.iter().map(|piece| piece.len() as u64).sum();
        let Some(before) = parts.len(length) else {
            return Ok(None);
        };
        let size = (before + length).next_multiple_of(ALIGN);
        let mut gone = Vec::new();
        let has_room = |segment: &Segment, entries: usize| {
            let end = segment.end.load(Ordering::Acquire) + size;
            let most = (segment.length / RECORD_SHARE).max(RECORDS_MIN);
            (entries as u64) < most && Segment::holds(segment.length, end, entries + 1)
        };
        let segment = match &tail.segment {
            Some(segment) if has_room(segment, tail.entries.len()) => Arc::clone(segment),
            _ => {
                if !Segment::holds(self.segment_size, size, 1) {
                    return Ok(None);
                }
                self.next_segment(tail, &mut gone)?
            }
        };
        if tail.is_sealed {
            // what the list says will not be all
            let end = segment.end.load(Ordering::Acquire);
            segment.erase_from(end)?;
            tail.is_sealed = false;
        }
        let offset = segment.end.load(Ordering::Acquire);
        let written = self.put(&segment, offset, parts, (before, length), body);
        if let Err(error) = written {
            // what is there of it must not look like a record to the one that is written next
            if segment.erase_from(offset).is_err() {
                tail.segment = None;
            }
            return Err(error);
        }
        segment.note(parts.born);
        segment.end.store(offset + size, Ordering::Release);
        let entry = Entry {
            key: object::hash(parts.key),
            variant,
            segment: segment.id,
            unit: (offset / ALIGN) as u32,
        };
        tail.entries.push(entry);
        self.index.enter(entry);
        Ok(Some(gone))
    }

    /// The body, then all before it: until that is whole there is no record.
    fn put(
        &self,
        segment: &Segment,
        offset: u64,
        parts: &Parts<'_>,
        (before, length): (u64, u64),
        body: &[&[u8]],
    ) -> io::Result<()> {
        let mut sums = Vec::with_capacity(record::blocks(length));
        let mut at = offset + before;
        // pieces are of whole blocks, but for the last
        for piece in body {
            sums.extend(piece.chunks(BLOCK).map(record::block_sum));
            segment.write(piece, at)?;
            at += piece.len() as u64;
        }
        let place = (u64::from(segment.id), offset);
        segment.write(&parts.write(length, &sums, place, &self.secret), offset)
    }

    /// A new segment, for the oldest if there are as many as may be.
    fn next_segment(&self, tail: &mut Tail, gone: &mut Vec<u64>) -> io::Result<Arc<Segment>> {
        if let Some(segment) = tail.segment.take()
            && !tail.is_sealed
        {
            let end = segment.end.load(Ordering::Acquire);
            // it is a shortcut: without it the records are read
            let _ = segment.seal(&tail.entries, end, &self.secret);
        }
        tail.entries.clear();
        tail.is_sealed = false;
        loop {
            let oldest = {
                let segments = self.segments();
                let used: u64 = segments.iter().map(|segment| segment.length).sum();
                let is_full = used + self.segment_size > self.room;
                segments.front().filter(|_| is_full).cloned()
            };
            let Some(oldest) = oldest else {
                break;
            };
            match std::fs::remove_file(self.path(oldest.id)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            count(&self.counts.dropped);
            self.segments_mut().pop_front();
            gone.extend(self.index.drop_through(oldest.id));
        }
        let id = tail.next_id;
        tail.next_id = id.checked_add(1).ok_or(ErrorKind::StorageFull)?;
        let segment = Arc::new(Segment::create(&self.path(id), id, self.segment_size)?);
        self.segments_mut().push_back(Arc::clone(&segment));
        tail.segment = Some(Arc::clone(&segment));
        Ok(segment)
    }

    /// Writes purges down that have been recorded in [`Disk::purges`]; `is_awaited`: they are on the disk when this returns. If it cannot,
    /// everything that they could cover goes.
    pub fn log(&self, batch: &[Logged], is_awaited: bool) -> io::Result<()> {
        let mut log = lock(&self.log);
        let written = if log.is_full(batch.len()) {
            // first of all: from here on what is about to be written is compared with those up to this one in memory
            let settled = self.settled.load(Ordering::SeqCst);
            self.purges.retire(self.oldest().min(settled));
            let now = self.purges.sequence();
            log.rewrite(&self.purges, now, &self.secret).map(|()| now)
        } else {
            let last = batch.iter().map(|logged| logged.sequence).max();
            log.append(batch, is_awaited, &self.secret)
                .map(|()| last.unwrap_or_default())
        };
        let written = match written {
            Ok(written) => written,
            Err(_) => {
                count(&self.counts.errors);
                self.clear()?;
                let now = self.purges.sequence();
                log.rewrite(&self.purges, now, &self.secret)?;
                now
            }
        };
        if is_awaited {
            self.owner.write(&self.secret, written)?;
        }
        Ok(())
    }

    /// The place in the sequence of purges of the oldest that is on disk, or is about to be.
    fn oldest(&self) -> u64 {
        if !self.is_recovered() {
            return 0;
        }
        let writing = self.writing.load(Ordering::SeqCst);
        let segments = self.segments();
        let born = segments.iter().map(|s| s.born.load(Ordering::Acquire));
        born.min().unwrap_or(u64::MAX).min(writing)
    }

    /// Everything goes.
    fn clear(&self) -> io::Result<()> {
        let mut tail = lock(&self.tail);
        (tail.segment, tail.is_sealed) = (None, false);
        tail.entries.clear();
        self.index.clear();
        loop {
            let Some(oldest) = self.segments().front().cloned() else {
                break;
            };
            // one that stays is known on: its purges must not be forgotten
            match std::fs::remove_file(self.path(oldest.id)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.segments_mut().pop_front();
        }
        File::open(&self.directory)?.sync_all()
    }

    /// What was written is on the disk when this returns, and the next process need not read every record.
    pub fn finish(&self) -> io::Result<()> {
        let mut tail = lock(&self.tail);
        let Some(segment) = tail.segment.clone() else {
            return Ok(());
        };
        if !tail.is_sealed {
            let end = segment.end.load(Ordering::Acquire);
            segment.seal(&tail.entries, end, &self.secret)?;
            tail.is_sealed = true;
        }
        segment.sync()
    }

    /// Another process may have the directory now.
    pub fn unlock(&self) {
        let _ = self.owner.0.unlock();
    }

    /// Records in the index.
    pub fn records(&self) -> usize {
        self.index.len()
    }

    /// Bytes that there may be.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many segments there are, and bytes of them.
    pub fn used(&self) -> (u64, u64) {
        let segments = self.segments();
        let bytes = segments.iter().map(|segment| segment.length).sum();
        (segments.len() as u64, bytes)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// The secret of a directory, whoever uses it now.
pub(super) fn secret_of(directory: &Path) -> Option<[u8; 16]> {
    let owner = Owner(File::open(directory.join("owner")).ok()?);
    owner.read().map(|(secret, _)| secret.0)
}

fn segment_id(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_prefix("segment-")?;
    (name.len() == 16).then(|| u32::from_str_radix(name, 16).ok())?
}

/// Begins anew: what is there is not known to be ours, or it is not known what was purged.
fn begin(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if segment_id(&path).is_some() || matches!(name, Some("purges" | "purges.new")) {
            std::fs::remove_file(&path)?;
        }
    }
    File::open(directory)?.sync_all()
}
