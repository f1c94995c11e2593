//! The directory that a store has besides its memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::disk::{Disk, OpenError};

/// What is on disk and what happened there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of the files.
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
    disk: Disk,
    size: u64,
}

impl Tier {
    pub fn open(directory: &Path, size: u64) -> Result<Arc<Self>, OpenError> {
        let disk = Disk::open(directory, size)?;
        Ok(Arc::new(Self { disk, size }))
    }

    pub fn stats(&self) -> DiskStats {
        DiskStats {
            size: self.size,
            objects: self.disk.keys() as u64,
            ..DiskStats::default()
        }
    }

    pub fn release(&self, _deadline: Instant) {
        let _ = self.disk.flush();
    }
}
