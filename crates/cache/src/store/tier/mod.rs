//! The directory that a store has besides its memory: who reads and writes there, and what.
//!
//! Data cores look into its index and leave work for its threads; they never wait. `load` brings an object into memory, `save` writes
//! one behind the requests, `journal` writes purges down.

mod journal;
mod load;
mod queue;
mod save;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use journal::Journal;
pub use load::Loading;
use load::Work;
use queue::Queue;

use super::disk::{Disk, Logged, OpenError, Sketch};
use super::purge::What;
use super::{Object, Store};

/// Threads that read.
const READERS: usize = 4;
/// Pieces of work that wait; further ones are left out.
const WAITING_MAX: usize = 1_024;

/// What is on disk and what happened there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of the files with records.
    pub bytes: u64,
    /// Bytes that there may be.
    pub size: u64,
    /// Records that can be found.
    pub objects: u64,
    /// What was there at the start has been read.
    pub is_recovered: bool,
    /// Files with records.
    pub segments: u64,
    /// Records written, since the start.
    pub written: u64,
    /// Records that were not what was written.
    pub corrupt: u64,
    /// Reads and writes that failed.
    pub errors: u64,
    /// Files that made room for new ones.
    pub dropped: u64,
    /// Objects that were read instead of asking the origin.
    pub hits: u64,
    /// Objects that were found worth a write.
    pub admitted: u64,
    /// Reads and writes that were left out, since too many waited.
    pub skipped: u64,
    /// After errors nothing is written for a while.
    pub paused: bool,
}

/// The directory, as long as the store has it.
pub struct Tier {
    /// Its files.
    pub disk: Disk,
    /// What was missed lately.
    pub sketch: Sketch,
    loads: Queue<Work>,
    saves: Queue<Arc<Object>>,
    journal: Journal,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// It is about to be let go of: nothing is loaded any more.
    is_closing: AtomicBool,
    hits: AtomicU64,
    admitted: AtomicU64,
    skipped: AtomicU64,
}

impl Tier {
    /// Takes a directory. Its sequence of purges goes on beyond `sequence`.
    pub fn open(directory: &Path, size: u64, sequence: u64) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(Self {
            disk: Disk::open(directory, size, sequence)?,
            sketch: Sketch::default(),
            loads: Queue::new(WAITING_MAX),
            saves: Queue::new(WAITING_MAX),
            journal: Journal::default(),
            threads: Mutex::default(),
            is_closing: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }))
    }

    /// Starts its threads. The one that writes reads first what there is.
    pub fn start(self: &Arc<Self>, store: &Weak<Store>) -> io::Result<()> {
        for number in 0..READERS {
            self.spawn(&format!("cache-disk-{number}"), Self::run_loads)?;
        }
        self.spawn("cache-disk-log", |tier| tier.journal.run(&tier.disk))?;
        let store = Weak::clone(store);
        self.spawn("cache-disk-save", move |tier| tier.run_saves(&store))
    }

    fn spawn(
        self: &Arc<Self>,
        name: &str,
        run: impl FnOnce(&Self) + Send + 'static,
    ) -> io::Result<()> {
        let tier = Arc::clone(self);
        let builder = Builder::new().name(name.to_owned());
        let thread = builder.spawn(move || run(&tier))?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread);
        Ok(())
    }

    /// Its sequence of purges.
    pub fn sequence(&self) -> u64 {
        self.disk.purges.sequence()
    }

    /// There may be something under a key now, or soon.
    pub fn may_hold(&self, key: u64) -> bool {
        self.disk.may_hold(key)
    }

    /// There may be something under a key.
    pub fn contains(&self, key: u64) -> bool {
        self.disk.contains(key)
    }

    /// A purge takes effect on what is on disk, and is written down behind this call; not if it is of a key under which there is
    /// nothing, and `if_there`: then it holds for what is about to be written, until [`Tier::settle`].
    pub fn purge(
        &self,
        what: What,
        soft: bool,
        sequence: u64,
        (is_awaited, if_there): (bool, bool),
    ) {
        if let What::Key(key) = what {
            // before it is looked: a write that begins now sees it, one that has begun is seen
            self.disk.purges.hold_key(key, soft, sequence);
            if if_there && !self.disk.may_hold(key) {
                return;
            }
        }
        self.disk.purges.record_at(what, soft, sequence);
        match what {
            What::Key(key) if !soft => self.disk.forget(key),
            What::Version(_) => return, // it need not outlive the process
            _ => {}
        }
        let logged = Logged {
            sequence,
            soft,
            what: Some(what),
        };
        self.journal.add(logged, is_awaited);
    }

    /// Purges up to this one have taken effect in memory, too.
    pub fn settle(&self, sequence: u64) {
        self.disk.settled.fetch_max(sequence, Ordering::SeqCst);
        self.disk.purges.release_key();
    }

    /// Purges on their way to the disk.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What there is and what happened.
    pub fn stats(&self) -> DiskStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.disk.counts;
        let (segments, bytes) = self.disk.used();
        DiskStats {
            bytes,
            size: self.disk.size(),
            objects: self.disk.records() as u64,
            is_recovered: self.disk.is_recovered(),
            segments,
            written: load(&counts.written),
            corrupt: load(&counts.corrupt),
            errors: load(&counts.errors),
            dropped: load(&counts.dropped),
            hits: load(&self.hits),
            admitted: load(&self.admitted),
            skipped: load(&self.skipped),
            paused: self.disk.is_paused(),
        }
    }

    /// Writes what is worth it until the deadline. Then nothing is loaded or saved any more.
    pub fn flush(&self, store: &Store, deadline: Instant) {
        self.saves.close();
        self.save_all(store, deadline);
    }

    /// Its threads end when what they have is done.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.loads.close();
        self.saves.close();
        self.journal.close();
    }

    /// Waits for that, and lets go of the directory.
    pub fn end(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
        if self.disk.finish().is_err() {
            super::disk::count(&self.disk.counts.errors);
        }
        self.disk.unlock();
    }
}
