//! Buffers of whole bodies: memory first, then a file without a name ("spoon feeding").
//!
//! [`Spool`] is a queue: an origin's answer goes in as fast as it comes, a slow client takes it out. [`body::BodyBuilder`]
//! collects a request, which [`body::SpooledBody`] then replays for every attempt. Both are used by one exchange on one core;
//! the file is touched on the file threads only ([`narthex_net::files`]).
//!
//! The bytes lie in this order, oldest first: `ready` (memory), the file, the block being written, `pending` (memory).

mod blocks;
mod body;
mod disk;

use std::io;
use std::mem;
use std::path::Path;
use std::task::{Context, Poll};

use blocks::Blocks;
pub(crate) use body::{BodyBuilder, BodyReader, SpooledBody};
use disk::{Directory, Disk, Place};

/// Bytes written or read by one job of the file threads. Small in tests, which so meet more block bounds.
const BLOCK: usize = if cfg!(test) { 16 * 1024 } else { 256 * 1024 };
/// Memory that a spool has at least, so that bytes pass even without a disk.
const LEAST_MEMORY: u64 = 16 * 1024;
/// Read from the file when no more than this is ready.
const LOW_WATER: usize = BLOCK / 2;

/// A queue of bytes, in memory up to a bound, then in a file.
///
/// It holds at most `memory + disk` bytes. Of these, at most `memory` are in memory before the file is used; besides, a
/// spool that uses its file holds a block being filled, one being written and one read ahead, 256 KiB each.
pub(crate) struct Spool<P: Place = Directory> {
    memory: usize,
    total: u64,
    ready: Blocks,
    disk: Disk<P>,
    /// The newest bytes, which wait for being a whole block.
    pending: Vec<u8>,
}

impl Spool {
    /// An empty queue; touches nothing yet. Bounds in bytes: a `memory` below 16 KiB counts as that, a `disk` of 0 is none.
    pub(crate) fn new(memory: u64, disk: u64, directory: &Path) -> Self {
        Self::at(memory, disk, Directory::new(directory))
    }
}

impl<P: Place> Spool<P> {
    fn at(memory: u64, disk: u64, place: P) -> Self {
        let memory = memory.max(LEAST_MEMORY);
        Self {
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            total: memory.saturating_add(disk),
            ready: Blocks::default(),
            disk: Disk::new(place, disk),
            pending: Vec::new(),
        }
    }

    /// Bytes that may be pushed now. Grows by [`Spool::consume`] and [`Spool::poll_progress`].
    pub(crate) fn room(&self) -> usize {
        let room = self
            .memory_room()
            .saturating_add(tail_room(&self.disk, &self.pending));
        let free = self.total.saturating_sub(self.len());
        usize::try_from(free).map_or(room, |free| free.min(room))
    }

    /// Appends at most [`Spool::room`] bytes. Never blocks.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "more than there is room for");
        let (now, later) = bytes.split_at(self.memory_room().min(bytes.len()));
        self.ready.push(now);
        self.pending.extend_from_slice(later);
        self.settle();
    }

    /// The oldest bytes, as many as lie together. Empty although [`Spool::len`] is not: they are being read from the file.
    pub(crate) fn front(&self) -> &[u8] {
        self.ready.front()
    }

    /// Takes `n` bytes of [`Spool::front`] away.
    pub(crate) fn consume(&mut self, n: usize) {
        self.ready.consume(n);
        self.settle();
    }

    /// Bytes in the queue, wherever they are.
    pub(crate) fn len(&self) -> u64 {
        (self.ready.len() as u64)
            .saturating_add(self.disk.len())
            .saturating_add(self.pending.len() as u64)
    }

    /// Bytes of memory.
    pub(crate) fn held(&self) -> usize {
        self.ready.held() + self.pending.capacity() + self.disk.held()
    }

    /// Nothing in the queue.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes written to the file so far.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        self.disk.spilled()
    }

    /// The last error of writing, once. The spool goes on in memory; this is for the log.
    pub(crate) fn take_disk_error(&mut self) -> Option<io::Error> {
        self.disk.take_error()
    }

    /// Drives the file. Ready when something has changed ([`Spool::front`] or [`Spool::room`] may have), pending when there
    /// is nothing to do or the task is woken later.
    ///
    /// # Errors
    /// Bytes cannot be read back. A disk that takes no more bytes is no error but a bound reached earlier.
    pub(crate) fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = false;
        while self.step(cx)? {
            moved = true;
        }
        if moved {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// One round. Few are made at a time: nothing is pushed or consumed between them.
    fn step(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = start_write(&mut self.disk, &mut self.pending);
        moved |= self.disk.poll_write(cx);
        if self.ready.len() <= LOW_WATER
            && let Poll::Ready(block) = self.disk.poll_read(cx, BLOCK)
        {
            self.ready.push_block(block?);
            moved = true;
        }
        self.settle();
        Ok(moved)
    }

    /// Bytes that may be added to `ready`: none while something lies behind it, because what comes must go behind that.
    fn memory_room(&self) -> usize {
        if self.disk.len() > 0 || !self.pending.is_empty() {
            return 0;
        }
        self.memory.saturating_sub(self.ready.len())
    }

    /// Brings to the front what need not go through the file (any more).
    fn settle(&mut self) {
        if let Some(block) = self.disk.take_unwritten() {
            self.ready.push_block(block);
        }
        let fits = self.ready.len().saturating_add(self.pending.len()) <= self.memory;
        if self.disk.len() == 0 && !self.pending.is_empty() && (self.ready.is_empty() || fits) {
            self.ready.append(mem::take(&mut self.pending));
        }
        if self.is_empty() {
            self.disk.forgive();
        }
    }
}

/// Bytes that may be added to `pending`.
fn tail_room<P: Place>(disk: &Disk<P>, pending: &[u8]) -> usize {
    if !disk.is_usable() {
        return 0;
    }
    let block = BLOCK.saturating_sub(pending.len());
    let file = disk.free().saturating_sub(pending.len() as u64);
    usize::try_from(file).map_or(block, |file| file.min(block))
}

/// Gives a block to the disk when it is nearly whole (whoever pushes keeps a little of the room in reserve), if the disk has
/// nothing to do; true if so.
fn start_write<P: Place>(disk: &mut Disk<P>, pending: &mut Vec<u8>) -> bool {
    let start = pending.len() >= BLOCK - BLOCK / 16 && disk.is_usable() && disk.is_idle();
    if start {
        disk.write(mem::take(pending));
    } else {
        disk.give_back();
    }
    start
}

#[cfg(test)]
mod tests;
