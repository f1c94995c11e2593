//! A request body, whole before the first attempt and read anew by each.

use std::io;
use std::mem;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use narthex_net::files::Running;

use super::blocks::Blocks;
use super::disk::{Directory, Disk, Place, Shared, read_job};
use super::{BLOCK, LOW_WATER, start_write, tail_room};

/// Collects a body: in memory up to a bound, then in a file.
pub(crate) struct BodyBuilder<P: Place = Directory> {
    memory: usize,
    ready: Blocks,
    disk: Disk<P>,
    pending: Vec<u8>,
}

impl BodyBuilder {
    /// An empty body; touches nothing yet. Bounds in bytes; a `disk` of 0 is none.
    pub(crate) fn new(memory: u64, disk: u64, directory: &Path) -> Self {
        Self::at(memory, disk, Directory::new(directory))
    }
}

impl<P: Place> BodyBuilder<P> {
    pub(super) fn at(memory: u64, disk: u64, place: P) -> Self {
        Self {
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            ready: Blocks::default(),
            disk: Disk::new(place, disk),
            pending: Vec::new(),
        }
    }

    /// Bytes that may be pushed now. Grows by [`BodyBuilder::poll_progress`], unless [`BodyBuilder::is_full`].
    pub(crate) fn room(&self) -> usize {
        self.memory_room()
            .saturating_add(tail_room(&self.disk, &self.pending))
    }

    /// No more bytes will ever fit.
    pub(crate) fn is_full(&self) -> bool {
        self.memory_room() == 0 && self.disk.free() <= self.pending.len() as u64
    }

    fn memory_room(&self) -> usize {
        self.memory.saturating_sub(self.ready.len())
    }

    /// Appends at most [`BodyBuilder::room`] bytes. Never blocks.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "more than there is room for");
        let (now, later) = bytes.split_at(self.memory_room().min(bytes.len()));
        self.ready.push(now);
        self.pending.extend_from_slice(later);
    }

    /// Bytes of memory.
    pub(crate) fn held(&self) -> usize {
        self.ready.held() + self.pending.capacity() + self.disk.held()
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        (self.ready.len() as u64)
            .saturating_add(self.disk.len())
            .saturating_add(self.pending.len() as u64)
    }

    /// Drives the file. Ready when there may be more room, pending when there is nothing to do or the task is woken later.
    ///
    /// # Errors
    /// The file does not take the bytes (`StorageFull`, for instance): the body cannot be kept.
    pub(crate) fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = false;
        loop {
            let mut step = start_write(&mut self.disk, &mut self.pending);
            step |= self.disk.poll_write(cx);
            if let Some(error) = self.disk.take_error() {
                return Poll::Ready(Err(error));
            }
            if !step {
                break;
            }
            moved = true;
        }
        if moved {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// The whole body, when everything pushed lies where it stays. The builder is empty afterwards and not used again.
    ///
    /// # Errors
    /// As of [`BodyBuilder::poll_progress`].
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<SpooledBody<P>>> {
        while !self.disk.is_idle() {
            ready!(self.poll_progress(cx))?;
        }
        let len = self.len();
        let (file, file_len) = self.disk.stored_file();
        let held = self.ready.held() + self.pending.capacity();
        Poll::Ready(Ok(SpooledBody(Rc::new(Stored {
            len,
            held,
            memory: mem::take(&mut self.ready).into_blocks(),
            file,
            file_len,
            file_size: self.disk.size,
            tail: mem::take(&mut self.pending),
        }))))
    }
}

struct Stored<P: Place> {
    len: u64,
    /// Bytes of memory.
    held: usize,
    /// First the memory, then the file, then what was too little to be written.
    memory: Vec<Vec<u8>>,
    file: Option<Shared<P::File>>,
    file_len: u64,
    file_size: u64,
    tail: Vec<u8>,
}

/// A whole body. A clone is the same body.
pub(crate) struct SpooledBody<P: Place = Directory>(Rc<Stored<P>>);

impl<P: Place> Clone for SpooledBody<P> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<P: Place> SpooledBody<P> {
    /// Bytes of the body.
    pub(crate) fn len(&self) -> u64 {
        self.0.len
    }

    /// Bytes of memory, but for what its readers read ahead.
    pub(crate) fn held(&self) -> usize {
        self.0.held
    }

    /// No bytes at all.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Bytes of it in the file.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        self.0.file_len
    }

    /// The body from its begin; any number of readers, one after the other or at once.
    pub(crate) fn reader(&self) -> BodyReader<P> {
        BodyReader {
            left: self.0.len,
            stored: Rc::clone(&self.0),
            block: 0,
            at: 0,
            ahead: Blocks::default(),
            fetched: 0,
            reading: None,
        }
    }
}

/// One reading of a [`SpooledBody`].
pub(crate) struct BodyReader<P: Place = Directory> {
    stored: Rc<Stored<P>>,
    left: u64,
    /// Block of the memory; one past the last stands for the tail.
    block: usize,
    /// Bytes taken of that block, or of the tail.
    at: usize,
    /// Read from the file.
    ahead: Blocks,
    fetched: u64,
    reading: Option<Running<io::Result<Vec<u8>>>>,
}

impl<P: Place> BodyReader<P> {
    /// The next bytes, as many as lie together. Empty although `len` is not: they are being read from the file.
    pub(crate) fn front(&self) -> &[u8] {
        if let Some(block) = self.stored.memory.get(self.block) {
            return block.get(self.at..).unwrap_or_default();
        }
        if !self.ahead.is_empty() || self.fetched < self.stored.file_len {
            return self.ahead.front();
        }
        self.stored.tail.get(self.at..).unwrap_or_default()
    }

    /// Bytes of memory of this reading alone: what it has read ahead.
    pub(crate) fn held(&self) -> usize {
        let reading = if self.reading.is_some() { BLOCK } else { 0 };
        self.ahead.held() + reading
    }

    /// Takes `n` bytes of [`BodyReader::front`].
    pub(crate) fn consume(&mut self, n: usize) {
        let n = n.min(self.front().len());
        self.left = self.left.saturating_sub(n as u64);
        if let Some(block) = self.stored.memory.get(self.block) {
            self.at += n;
            if self.at >= block.len() {
                self.block += 1;
                self.at = 0;
            }
        } else if !self.ahead.is_empty() {
            self.ahead.consume(n);
        } else {
            self.at += n;
        }
    }

    /// Bytes left.
    #[cfg(test)]
    pub(crate) fn len(&self) -> u64 {
        self.left
    }

    /// All has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Reads ahead. Ready when [`BodyReader::front`] may have changed, pending when there is nothing to do or the task is
    /// woken later.
    ///
    /// # Errors
    /// Bytes cannot be read back.
    pub(crate) fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = false;
        while self.poll_read(cx)?.is_ready() {
            moved = true;
        }
        if moved {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reading.is_none() {
            self.reading = self.start_read();
        }
        let Some(job) = &mut self.reading else {
            return Poll::Pending;
        };
        let outcome = ready!(Pin::new(job).poll(cx));
        self.reading = None;
        let block = outcome.flatten()?;
        self.fetched = self.fetched.saturating_add(block.len() as u64);
        self.ahead.push_block(block);
        Poll::Ready(Ok(()))
    }

    /// The next block of the file, when what is at hand before it comes to its end.
    fn start_read(&self) -> Option<Running<io::Result<Vec<u8>>>> {
        let stored = &*self.stored;
        let left = stored.file_len.saturating_sub(self.fetched);
        let early = self.block.saturating_add(1) < stored.memory.len();
        if left == 0 || early || self.ahead.len() > LOW_WATER {
            return None;
        }
        let length = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        let file = stored.file.clone()?;
        Some(read_job(file, self.fetched, stored.file_size, length))
    }
}
