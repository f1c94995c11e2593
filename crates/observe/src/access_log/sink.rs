//! One access log: its target, its bounds, its counts. What cores hold is a [`LogHandle`].

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::format::Format;
use super::handle::LogHandle;
use super::output::Output;
use super::writer::WriterThread;

/// Bytes that a core gathers before it hands them over.
const CHUNK: usize = 64 * 1024;
/// Smallest chunk, for very small bounds.
const MIN_CHUNK: usize = 512;

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file or FIFO, appended to, made with mode 0640.
    File(PathBuf),
}

/// An access log. A clone is the same log; writing ends when it is closed, or when the last clone and the last handle are gone.
#[derive(Clone, Debug)]
pub struct LogSink {
    shared: Arc<Shared>,
}

/// What sink, handles and writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: LogTarget,
    pub(super) bound: usize,
    pub(super) chunk: usize,
    pub(super) flush_ms: u64,
    /// Bytes handed over and not written yet. Touched once per chunk.
    pub(super) pending: AtomicUsize,
    pub(super) dropped: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) written: AtomicU64,
    /// A reopening is queued already.
    pub(super) reopening: AtomicBool,
    /// Closing took too long: the writer stops waiting for a reader that does not read.
    pub(super) abandoned: AtomicBool,
    /// Only the writer thread locks it.
    pub(super) output: Mutex<Output>,
    pub(super) thread: Arc<WriterThread>,
}

impl LogSink {
    /// Opens a log of which at most `buffer_bytes` wait for the writer (besides one unfinished chunk of at most 64 KiB per
    /// core) and no record longer than `flush`. Regular files share one writer thread; whatever can stall (a pipe, a terminal)
    /// has its own, so that it stalls nobody else.
    pub fn open(target: LogTarget, buffer_bytes: usize, flush: Duration) -> io::Result<Self> {
        let output = Output::open(&target)?;
        let thread = if output.is_regular() {
            WriterThread::for_files()?
        } else {
            WriterThread::start()?
        };
        let shared = Shared {
            target,
            bound: buffer_bytes,
            chunk: (buffer_bytes / 4).clamp(MIN_CHUNK, CHUNK),
            flush_ms: u64::try_from(flush.as_millis()).unwrap_or(u64::MAX),
            pending: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            written: AtomicU64::new(0),
            reopening: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            output: Mutex::new(output),
            thread,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// A core's own front, writing in `format`.
    pub fn handle(&self, format: Arc<Format>) -> LogHandle {
        LogHandle::new(Arc::clone(&self.shared), format)
    }

    /// Where it goes.
    pub fn target(&self) -> &LogTarget {
        &self.shared.target
    }

    /// Opens the file anew (after a rotation), behind everything handed over so far. Returns at once; if the file cannot be
    /// opened the old one stays, an error is counted and the diagnostics log says so. Nothing for standard output and error.
    pub fn reopen(&self) {
        if !self.shared.reopening.swap(true, Relaxed) {
            self.shared.thread.reopen(&self.shared);
        }
    }

    /// Waits until everything handed over before is written; false if it is not within `patience`. Handles flush their
    /// own part ([`LogHandle::flush`]) before.
    pub fn flush(&self, patience: Duration) -> bool {
        self.shared.thread.barrier(patience)
    }

    /// [`Self::flush`] for the last time: a target that still stalls after `patience` loses what waits for it, which is counted.
    /// Drop the handles first.
    pub fn close(self, patience: Duration) -> bool {
        let started = Instant::now();
        let complete = self.flush(patience) && self.shared.pending.load(Relaxed) == 0;
        if !complete {
            self.shared.abandoned.store(true, Relaxed);
            tracing::warn!(
                target = ?self.shared.target,
                bytes = self.pending_bytes(),
                waited = ?started.elapsed(),
                "an access log's target does not take what is written; its last records are given up"
            );
        }
        complete
    }

    /// Records dropped because too many bytes were waiting.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Records lost because writing failed.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// Failed writes and reopenings.
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Relaxed)
    }

    /// Bytes written.
    pub fn written_bytes(&self) -> u64 {
        self.shared.written.load(Relaxed)
    }

    /// Bytes that wait for the writer.
    pub fn pending_bytes(&self) -> usize {
        self.shared.pending.load(Relaxed)
    }
}

impl Shared {
    /// Counts `bytes` against the bound; false if they do not fit. Whatever the bound, something may wait if nothing does.
    pub(super) fn charge(&self, bytes: usize) -> bool {
        let fits = |pending: usize| pending == 0 || pending.saturating_add(bytes) <= self.bound;
        let add = |pending: usize| fits(pending).then(|| pending.saturating_add(bytes));
        self.pending.fetch_update(Relaxed, Relaxed, add).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_record_after_a_torn_one_stands_on_its_own_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let sink = LogSink::open(LogTarget::File(path.clone()), 1 << 20, Duration::ZERO).unwrap();
        let shared = &sink.shared;
        shared.abandoned.store(true, Relaxed);
        let record = format!("{}\n", "x".repeat(40_000));
        shared
            .output
            .lock()
            .unwrap()
            .write(record.repeat(3).as_bytes(), shared);
        let fits = usize::try_from(sink.written_bytes()).unwrap();
        assert!(
            fits > 0 && fits % record.len() != 0,
            "the pipe took {fits} bytes"
        );
        assert_eq!(
            (sink.errors(), sink.lost()),
            (1, 3 - (fits / record.len()) as u64)
        );

        let mut reader = std::fs::File::open(&path).unwrap();
        let mut taken = vec![0; fits];
        reader.read_exact(&mut taken).unwrap();
        shared.output.lock().unwrap().write(b"next\n", shared);
        let mut after = [0; 6];
        reader.read_exact(&mut after).unwrap();
        assert_eq!(&after, b"\nnext\n");
        assert_eq!(sink.errors(), 1);
    }
}
