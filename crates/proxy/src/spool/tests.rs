//! Tests of the spool on a real core, with real files and a disk that fails on demand.

mod body;
mod model;
mod queue;

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use tempfile::TempDir;

use super::disk::{Directory, Place, SpoolFile};
use super::*;
use crate::testkit::on_core;

/// A disk with little space, which writes and reads in pieces.
#[derive(Clone)]
struct Shaky(Arc<Plan>);

struct Plan {
    directory: TempDir,
    /// Bytes that the file may have.
    space: AtomicU64,
    unreadable: AtomicBool,
    no_files: AtomicBool,
    created: AtomicU64,
    cleared: AtomicU64,
    /// Largest size the file had.
    largest: AtomicU64,
    noise: AtomicU64,
}

impl Shaky {
    fn new(space: u64) -> Self {
        Self(Arc::new(Plan {
            directory: tempfile::tempdir().unwrap(),
            space: AtomicU64::new(space),
            unreadable: AtomicBool::new(false),
            no_files: AtomicBool::new(false),
            created: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            noise: AtomicU64::new(0x9e37_79b9),
        }))
    }
}

impl Plan {
    /// How much of `n` bytes is done; None is an interruption.
    fn piece(&self, n: usize) -> Option<usize> {
        let next = |x: u64| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let noise = next(self.noise.load(Ordering::Relaxed));
        self.noise.store(noise, Ordering::Relaxed);
        let noise = (noise >> 33) as usize;
        match noise % 8 {
            0 => None,
            1 | 2 => Some(1 + noise % n),
            _ => Some(n),
        }
    }
}

struct ShakyFile(File, Arc<Plan>);

impl Place for Shaky {
    type File = ShakyFile;

    fn create(&self) -> io::Result<ShakyFile> {
        if self.0.no_files.load(Ordering::Relaxed) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        self.0.created.fetch_add(1, Ordering::Relaxed);
        let file = Directory::new(self.0.directory.path()).create()?;
        Ok(ShakyFile(file, Arc::clone(&self.0)))
    }
}

impl SpoolFile for ShakyFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        if self.1.unreadable.load(Ordering::Relaxed) {
            return Err(io::Error::other("unreadable"));
        }
        let n = self.1.piece(bytes.len()).ok_or(ErrorKind::Interrupted)?;
        SpoolFile::read_at(&self.0, &mut bytes[..n], at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let n = self.1.piece(bytes.len()).ok_or(ErrorKind::Interrupted)?;
        let space = self.1.space.load(Ordering::Relaxed).saturating_sub(at);
        let n = n.min(usize::try_from(space).unwrap());
        if n == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        self.1.largest.fetch_max(at + n as u64, Ordering::Relaxed);
        SpoolFile::write_at(&self.0, &bytes[..n], at)
    }

    fn clear(&self) -> io::Result<()> {
        self.1.cleared.fetch_add(1, Ordering::Relaxed);
        self.0.clear()
    }
}

/// Bytes in which every place looks different from its surroundings.
fn bytes(from: u64, n: usize) -> Vec<u8> {
    let byte = |at: u64| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8;
    (from..from + n as u64).map(byte).collect()
}

/// Until something has changed.
async fn progress<P: Place>(spool: &mut Spool<P>) -> io::Result<()> {
    poll_fn(|cx| spool.poll_progress(cx)).await
}

/// One look; false if nothing has changed.
async fn glance<P: Place>(spool: &mut Spool<P>) -> io::Result<bool> {
    poll_fn(|cx| {
        Poll::Ready(match spool.poll_progress(cx) {
            Poll::Ready(result) => result.map(|()| true),
            Poll::Pending => Ok(false),
        })
    })
    .await
}

/// Pushes as much as fits, `from` on, waiting for running writes; how much that was.
async fn fill<P: Place>(spool: &mut Spool<P>, from: u64) -> usize {
    let mut n = 0;
    loop {
        let room = spool.room();
        spool.push(&bytes(from + n as u64, room));
        n += room;
        while glance(spool).await.unwrap() {}
        if spool.room() == 0 {
            if spool.disk.writing.is_none() {
                return n;
            }
            progress(spool).await.unwrap();
        }
    }
}

/// Takes everything out.
async fn drain<P: Place>(spool: &mut Spool<P>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while !spool.is_empty() {
        let front = spool.front().len();
        all.extend_from_slice(spool.front());
        spool.consume(front);
        if front == 0 {
            progress(spool).await?;
        }
    }
    Ok(all)
}
