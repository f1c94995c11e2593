//! The end of the line: a file, a FIFO, standard output. Blocking, used by the writer thread only.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::sink::{LogTarget, Shared};

/// Read and write for the owner, read for the group: logs hold addresses and queries.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);
/// How long a stalled target is waited for before it is asked whether it is still wanted.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// An open target.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` for standard output and error, which are borrowed for each write.
    file: Option<File>,
    regular: bool,
    /// The last write ended within a line.
    torn: bool,
    /// Drops that were already spoken of.
    spoken: u64,
}

impl Output {
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        let LogTarget::File(path) = target else {
            return Ok(Self {
                file: None,
                regular: false,
                torn: false,
                spoken: 0,
            });
        };
        let file = open_file(path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "the access log {} cannot be opened: {error}",
                    path.display()
                ),
            )
        })?;
        let regular =
            FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile;
        Ok(Self {
            file: Some(file),
            regular,
            torn: false,
            spoken: 0,
        })
    }

    pub(super) fn is_regular(&self) -> bool {
        self.regular
    }

    /// Opens the target anew; on an error the old one stays.
    pub(super) fn reopen(&mut self, sink: &Shared) {
        if self.file.is_none() {
            return;
        }
        match Self::open(&sink.target) {
            Ok(new) => {
                *self = Self {
                    spoken: self.spoken,
                    ..new
                }
            }
            Err(error) => {
                sink.errors.fetch_add(1, Relaxed);
                tracing::warn!(%error, "the old access log stays open");
            }
        }
    }

    /// Writes whole records. What cannot be written is counted and given up: the log goes on with the next chunk.
    pub(super) fn write(&mut self, records: &[u8], sink: &Shared) {
        let mut rest = records;
        let result = self
            .mend(sink)
            .and_then(|()| self.write_all(&mut rest, sink));
        sink.written
            .fetch_add((records.len() - rest.len()) as u64, Relaxed);
        if let Err(error) = result {
            let (done, _) = records.split_at(records.len() - rest.len());
            self.torn |= !done.is_empty() && !done.ends_with(b"\n");
            let lost = lines(rest);
            sink.errors.fetch_add(1, Relaxed);
            sink.lost.fetch_add(lost, Relaxed);
            crate::warn_throttled!(target = ?sink.target, %error, records = lost, "access-log records could not be written");
        }
        self.speak_of_drops(sink);
    }

    /// Ends a line that an earlier error cut, so that the next record stands on its own.
    fn mend(&mut self, sink: &Shared) -> io::Result<()> {
        if self.torn {
            self.write_all(&mut &b"\n"[..], sink)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Leaves in `rest` what was not written.
    fn write_all(&self, rest: &mut &[u8], sink: &Shared) -> io::Result<()> {
        while !rest.is_empty() {
            match self.write_some(&sink.target, rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => *rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if sink.abandoned.load(Relaxed) => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(Errno::AGAIN) => self.wait(&sink.target),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_some(&self, target: &LogTarget, bytes: &[u8]) -> Result<usize, Errno> {
        self.with_fd(target, |fd| rustix::io::write(fd, bytes))
    }

    /// Waits until the target takes more, or for a moment. An error here shows in the next write.
    fn wait(&self, target: &LogTarget) {
        let _ = self.with_fd(target, |fd| {
            poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&PATIENCE))
        });
    }

    fn with_fd<T>(&self, target: &LogTarget, action: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match (&self.file, target) {
            (Some(file), _) => action(file.as_fd()),
            (None, LogTarget::Stderr) => action(io::stderr().as_fd()),
            (None, _) => action(io::stdout().as_fd()),
        }
    }

    fn speak_of_drops(&mut self, sink: &Shared) {
        let dropped = sink.dropped.load(Relaxed);
        if dropped != self.spoken {
            crate::warn_throttled!(
                target = ?sink.target,
                records = dropped - self.spoken,
                "access-log records were dropped because the target is too slow; a larger buffer helps against bursts only"
            );
            self.spoken = dropped;
        }
    }
}

fn lines(records: &[u8]) -> u64 {
    records
        .split(|byte| *byte == b'\n')
        .count()
        .saturating_sub(1) as u64
}

/// Without blocking: opening a FIFO that nobody reads would else stop the start of the whole proxy.
fn open_file(path: &Path) -> io::Result<File> {
    let flags =
        OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let opened = match rustix::fs::open(path, flags | OFlags::WRONLY, MODE) {
        // a FIFO without a reader: with both ends open here, records wait in it
        Err(Errno::NXIO) => rustix::fs::open(path, flags | OFlags::RDWR, MODE),
        other => other,
    };
    Ok(File::from(opened?))
}
