//! Bytes in memory, in blocks that are given back one by one as they are taken.

use std::collections::VecDeque;

use super::BLOCK;

/// Smallest block: many small pushes share one.
const SMALLEST: usize = 16 * 1024;

/// A queue of bytes in memory.
#[derive(Default)]
pub(super) struct Blocks {
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first block that have been taken.
    at: usize,
    len: usize,
    /// Memory of all blocks, bytes.
    held: usize,
}

impl Blocks {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn front(&self) -> &[u8] {
        let first = self.queue.front().map_or(&[][..], Vec::as_slice);
        first.get(self.at..).unwrap_or_default()
    }

    /// Takes `n` bytes away, or what there is.
    pub(super) fn consume(&mut self, n: usize) {
        let mut left = n.min(self.len);
        self.len -= left;
        while let Some(first) = self.queue.front() {
            let here = first.len().saturating_sub(self.at);
            if left < here {
                self.at += left;
                return;
            }
            left -= here;
            self.at = 0;
            let gone = self.queue.pop_front();
            self.held -= gone.map_or(0, |b| b.capacity());
        }
    }

    /// Copies bytes in: first into what is left of the last block.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        let spare = self.queue.back().map_or(0, |b| b.capacity() - b.len());
        let (here, rest) = bytes.split_at(spare.min(bytes.len()));
        if let Some(last) = self.queue.back_mut() {
            last.extend_from_slice(here);
        }
        for part in rest.chunks(BLOCK) {
            let mut block = Vec::with_capacity(part.len().max(SMALLEST));
            block.extend_from_slice(part);
            self.held += block.capacity();
            self.queue.push_back(block);
        }
    }

    /// Takes a block as it is.
    pub(super) fn push_block(&mut self, block: Vec<u8>) {
        if !block.is_empty() {
            self.len += block.len();
            self.held += block.capacity();
            self.queue.push_back(block);
        }
    }

    /// As it is, if it is the first; else copied, so that small ones share their memory.
    pub(super) fn append(&mut self, block: Vec<u8>) {
        if self.is_empty() {
            self.push_block(block);
        } else {
            self.push(&block);
        }
    }

    /// The blocks themselves; nothing must have been taken.
    pub(super) fn into_blocks(self) -> Vec<Vec<u8>> {
        self.queue.into()
    }
}
