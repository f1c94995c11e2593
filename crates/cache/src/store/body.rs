//! A body: pieces that grow under a lock while it comes, then frozen and read without one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use super::account::{Site, allocated};
use super::waiters::{Waiters, Woken};

/// A body of known length up to this is one piece.
pub const ONE_MAX: u64 = 1024 * 1024;
/// Length of a piece of another body, but for the last one. Not a multiple of 64 KiB: what is sent in such steps costs the kernel up
/// to half as much again, since its segments do not come out even.
pub const PIECE: usize = 254 * 1024;
/// The first allocation of a body whose length is not known; doubled up to [`PIECE`].
const FIRST: usize = 4096;

/// A body: a list of pieces that grows until it is complete, or is cut.
pub struct Body {
    whole: OnceLock<Whole>,
    growing: Mutex<Option<Box<Growing>>>,
    /// Whose bytes they are.
    pub(super) site: Arc<Site>,
}

enum Whole {
    One(Box<[u8]>),
    Many(Box<Many>),
}

struct Many {
    length: u64,
    /// Each of [`PIECE`] bytes, but for the last.
    pieces: Box<[Box<[u8]>]>,
}

/// What is there of a body that still comes.
struct Growing {
    pieces: VecDeque<Vec<u8>>,
    /// Length of a full piece.
    size: usize,
    /// Length of the whole, if known: then its pieces are allocated at once, as they will be.
    known: Option<u64>,
    /// Where the first piece begins: what was before it is gone.
    start: u64,
    length: u64,
    is_cut: bool,
    /// The index has the object.
    is_indexed: bool,
    /// Bytes in the account.
    charged: u64,
    waiters: Waiters,
}

/// What [`Body::append`] did.
pub(super) struct Appended {
    /// Bytes that it took.
    pub count: usize,
    /// Bytes that fit without another allocation.
    pub spare: usize,
    /// Who waits for them.
    pub woken: Woken,
}

/// What a reader of a body that still comes gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes were put into the buffer.
    Bytes(usize),
    /// There are no more.
    End,
    /// It does not come whole.
    Cut,
}

impl Body {
    /// One that will come.
    pub(super) fn new(site: Arc<Site>, length: Option<u64>) -> Self {
        let size = match length {
            Some(length) if length <= ONE_MAX => length as usize,
            _ => PIECE,
        };
        Self {
            whole: OnceLock::new(),
            growing: Mutex::new(Some(Box::new(Growing {
                pieces: VecDeque::new(),
                size: size.max(1),
                known: length,
                start: 0,
                length: 0,
                is_cut: false,
                is_indexed: false,
                charged: 0,
                waiters: Waiters::default(),
            }))),
            site,
        }
    }

    /// One that is there. Its pieces are of [`Body::piece_size`], but for the last.
    pub(super) fn whole(site: Arc<Site>, length: u64, mut pieces: Vec<Box<[u8]>>) -> Self {
        let whole = if pieces.len() <= 1 {
            Whole::One(pieces.pop().unwrap_or_default())
        } else {
            Whole::Many(Box::new(Many {
                length,
                pieces: pieces.into(),
            }))
        };
        site.add(whole.weight());
        Self {
            whole: OnceLock::from(whole),
            growing: Mutex::new(None),
            site,
        }
    }

    /// Length of the pieces of a body.
    pub(super) fn piece_size(length: u64) -> usize {
        if length <= ONE_MAX {
            ONE_MAX as usize
        } else {
            PIECE
        }
    }

    fn growing(&self) -> MutexGuard<'_, Option<Box<Growing>>> {
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that have come.
    pub fn len(&self) -> u64 {
        if let Some(whole) = self.whole.get() {
            return whole.len();
        }
        let length = self.growing().as_ref().map(|growing| growing.length);
        // frozen between the two looks
        length.unwrap_or_else(|| self.whole.get().map_or(0, Whole::len))
    }

    /// Nothing has come.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All have come.
    pub fn is_complete(&self) -> bool {
        self.whole.get().is_some()
    }

    /// It will not come whole.
    pub fn is_cut(&self) -> bool {
        self.growing()
            .as_ref()
            .is_some_and(|growing| growing.is_cut)
    }

    /// Of a complete body: what stands from `at` on, in one piece, as much as there is of it. Empty at the end.
    pub fn piece(&self, at: u64) -> Option<&[u8]> {
        self.whole.get().map(|whole| whole.piece(at))
    }

    /// Of any body: copies what has come from `at` on; if that is nothing, the task is woken when there is more.
    pub fn poll_read(&self, at: u64, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<Read> {
        if !self.is_complete()
            && let Some(growing) = self.growing().as_mut()
        {
            return growing.poll_read(at, buffer, cx);
        }
        let Some(whole) = self.whole.get() else {
            return Poll::Ready(Read::Cut); // cannot be: what grows no more is whole
        };
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let copied = copy(whole.piece(at.saturating_add(done as u64)), rest);
            if copied == 0 {
                break;
            }
            done += copied;
        }
        Poll::Ready(match done {
            0 if at >= whole.len() => Read::End,
            _ => Read::Bytes(done),
        })
    }

    /// Bytes that its pieces are counted with.
    pub(super) fn weight(&self) -> u64 {
        match self.whole.get() {
            Some(whole) => whole.weight(),
            None => self.growing().as_ref().map_or(0, |growing| growing.charged),
        }
    }

    /// Counts the allocation that is needed for `more` bytes. [`Body::append`] makes it.
    pub(super) fn reserve(&self, more: usize) {
        if let Some(growing) = self.growing().as_mut() {
            let bytes = growing.next(more).1;
            growing.charged += bytes;
            self.site.add(bytes);
        }
    }

    /// Appends what fits into the last piece. `is_full`: nothing does, and [`Body::reserve`] has counted the next allocation.
    pub(super) fn append(&self, bytes: &[u8], is_full: bool) -> Appended {
        let mut guard = self.growing();
        let Some(growing) = guard.as_mut() else {
            return Appended {
                count: bytes.len(), // into the void: it is whole already
                spare: 0,
                woken: Waiters::default().take(),
            };
        };
        if is_full {
            growing.make_room(bytes.len());
        }
        let part = bytes.get(..growing.spare()).unwrap_or(bytes);
        if let Some(last) = growing.pieces.back_mut() {
            last.extend_from_slice(part);
        }
        growing.length += part.len() as u64;
        Appended {
            count: part.len(),
            spare: growing.spare(),
            woken: growing.waiters.take(),
        }
    }

    /// Lets go of what is further behind the end than `window`.
    pub(super) fn trim(&self, window: u64) {
        let mut guard = self.growing();
        let Some(growing) = guard.as_mut() else {
            return;
        };
        while let Some(first) = growing.pieces.front()
            && growing.start + first.len() as u64 + window <= growing.length
        {
            let bytes = allocated(first.capacity());
            growing.start += first.len() as u64;
            growing.charged -= bytes.min(growing.charged);
            self.site.sub(bytes);
            growing.pieces.pop_front();
        }
    }

    /// It is whole. `false`: it cannot be, since it has been cut or has lost its beginning.
    pub(super) fn freeze(&self) -> bool {
        let mut guard = self.growing();
        if !guard
            .as_ref()
            .is_some_and(|growing| !growing.is_cut && growing.start == 0)
        {
            return false;
        }
        let Some(mut growing) = guard.take() else {
            return false;
        };
        let woken = growing.waiters.take();
        let charged = growing.charged;
        let whole = growing.freeze();
        let weight = whole.weight();
        // under the lock: who finds nothing that grows finds it whole
        let _ = self.whole.set(whole);
        drop(guard);
        if weight > charged {
            self.site.add(weight - charged);
        } else {
            self.site.sub(charged - weight);
        }
        woken.wake();
        true
    }

    /// It does not come whole.
    pub(super) fn cut(&self) {
        let woken = self.growing().as_mut().map(|growing| {
            growing.is_cut = true;
            growing.waiters.take()
        });
        if let Some(woken) = woken {
            woken.wake();
        }
    }

    /// The index has taken its object in, or has let it go.
    pub(super) fn set_indexed(&self, is_indexed: bool) {
        if !self.is_complete()
            && let Some(growing) = self.growing().as_mut()
        {
            growing.is_indexed = is_indexed;
        }
    }

    /// It still comes, and the index has its object.
    pub(super) fn is_indexed(&self) -> bool {
        self.growing()
            .as_ref()
            .is_some_and(|growing| growing.is_indexed)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.site.sub(self.weight());
    }
}

impl Whole {
    fn len(&self) -> u64 {
        match self {
            Self::One(bytes) => bytes.len() as u64,
            Self::Many(many) => many.length,
        }
    }

    fn piece(&self, at: u64) -> &[u8] {
        match self {
            Self::One(bytes) => from(bytes, at),
            Self::Many(many) => {
                let number = usize::try_from(at / PIECE as u64).unwrap_or(usize::MAX);
                from(
                    many.pieces.get(number).map_or(&[], |piece| piece),
                    at % PIECE as u64,
                )
            }
        }
    }

    fn weight(&self) -> u64 {
        match self {
            Self::One(bytes) => allocated(bytes.len()),
            Self::Many(many) => {
                let pieces: u64 = many.pieces.iter().map(|piece| allocated(piece.len())).sum();
                pieces + allocated(size_of_val(&*many.pieces)) + allocated(size_of::<Many>())
            }
        }
    }
}

impl Growing {
    fn poll_read(&mut self, at: u64, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<Read> {
        let Some(mut at) = at.checked_sub(self.start) else {
            return Poll::Ready(Read::Cut); // too slow: it is gone
        };
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let number = usize::try_from(at / self.size as u64).unwrap_or(usize::MAX);
            let piece = self.pieces.get(number).map_or(&[][..], |piece| piece);
            let copied = copy(from(piece, at % self.size as u64), rest);
            if copied == 0 {
                break;
            }
            done += copied;
            at += copied as u64;
        }
        if done > 0 {
            return Poll::Ready(Read::Bytes(done));
        }
        if self.is_cut || !self.waiters.add(cx.waker()) {
            return Poll::Ready(Read::Cut);
        }
        Poll::Pending
    }

    fn spare(&self) -> usize {
        let last = self.pieces.back();
        last.map_or(0, |last| last.capacity().min(self.size) - last.len())
    }

    /// The capacity of the last piece, or of a new one, after an allocation for `more` bytes, and how much heavier that is.
    fn next(&self, more: usize) -> (usize, u64) {
        let fresh = match self.known {
            Some(known) => {
                let left = known.saturating_sub(self.length).min(self.size as u64);
                (left as usize).max(more.min(self.size))
            }
            None => more.next_power_of_two().clamp(FIRST, self.size),
        };
        match self.pieces.back() {
            Some(last) if last.len() < self.size => {
                let wanted = last.len().saturating_add(more).next_power_of_two();
                let capacity = wanted.min(self.size);
                (
                    capacity,
                    allocated(capacity).saturating_sub(allocated(last.capacity())),
                )
            }
            Some(_) if self.known.is_none() => (self.size, allocated(self.size)),
            _ => (fresh, allocated(fresh)),
        }
    }

    fn make_room(&mut self, more: usize) {
        let capacity = self.next(more).0;
        let size = self.size;
        match self.pieces.back_mut() {
            Some(last) if last.len() < size => {
                last.reserve_exact(capacity.saturating_sub(last.len()))
            }
            _ => self.pieces.push_back(Vec::with_capacity(capacity)),
        }
    }

    fn freeze(self) -> Whole {
        let mut pieces = self.pieces;
        if pieces.len() <= 1 {
            return Whole::One(pieces.pop_front().unwrap_or_default().into_boxed_slice());
        }
        Whole::Many(Box::new(Many {
            length: self.length,
            pieces: pieces.into_iter().map(Vec::into_boxed_slice).collect(),
        }))
    }
}

fn from(bytes: &[u8], at: u64) -> &[u8] {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    bytes.get(at..).unwrap_or_default()
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let length = from.len().min(to.len());
    to[..length].copy_from_slice(&from[..length]);
    length
}
