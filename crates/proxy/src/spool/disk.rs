//! The file of a spool: a ring of bytes, written and read on the file threads.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use narthex_net::files::{self, Running};

/// Where files come from.
pub(crate) trait Place: Clone + Send + 'static {
    /// What comes from here.
    type File: SpoolFile;
    /// A new, empty file. Blocks.
    fn create(&self) -> io::Result<Self::File>;
}

/// What a spool asks of its file. Everything blocks; reads and writes may be short.
pub(crate) trait SpoolFile: Send + Sync + 'static {
    /// Reads into `bytes` from `at` on.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes from `bytes` at `at`.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Gives all space back.
    fn clear(&self) -> io::Result<()>;
}

impl SpoolFile for File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn clear(&self) -> io::Result<()> {
        self.set_len(0)
    }
}

/// Files without a name in a directory.
#[derive(Clone)]
pub(crate) struct Directory(Arc<Path>);

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self(Arc::from(path))
    }
}

impl Place for Directory {
    type File = File;

    fn create(&self) -> io::Result<File> {
        files::open_unlinked(&self.0)
    }
}

/// A file that is closed on the file threads: to free much space takes the kernel a while.
pub(super) struct Held<F: SpoolFile>(Option<F>);

impl<F: SpoolFile> Drop for Held<F> {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            files::detach(move || drop(file));
        }
    }
}

/// A file that may be shared with jobs.
pub(super) type Shared<F> = Arc<Held<F>>;

#[derive(PartialEq, Eq)]
enum Health {
    Usable,
    /// No space: tried again when the spool has become empty.
    Full,
    /// Any other error: not tried again.
    Lost,
}

/// How a write ended.
pub(super) struct Written<F: SpoolFile> {
    file: Option<Shared<F>>,
    bytes: usize,
    error: Option<io::Error>,
}

/// The file and what is on its way to it. Positions count bytes since the file was last empty; the place in the file is the
/// position modulo `size`, so that the file never grows beyond that.
pub(super) struct Disk<P: Place> {
    pub(super) place: P,
    pub(super) size: u64,
    file: Option<Shared<P::File>>,
    read: u64,
    written: u64,
    /// What a write has not written yet; stays here if it fails.
    block: Arc<Vec<u8>>,
    block_at: usize,
    pub(super) writing: Option<Running<Written<P::File>>>,
    pub(super) reading: Option<(usize, Running<io::Result<Vec<u8>>>)>,
    health: Health,
    error: Option<io::Error>,
    spilled: u64,
}

impl<P: Place> Disk<P> {
    pub(super) fn new(place: P, size: u64) -> Self {
        Self {
            place,
            size,
            file: None,
            read: 0,
            written: 0,
            block: Arc::default(),
            block_at: 0,
            writing: None,
            reading: None,
            health: Health::Usable,
            error: None,
            spilled: 0,
        }
    }

    /// Bytes in the file and on their way to it.
    pub(super) fn len(&self) -> u64 {
        self.stored().saturating_add(self.unwritten() as u64)
    }

    /// Bytes in the file.
    fn stored(&self) -> u64 {
        self.written.saturating_sub(self.read)
    }

    /// Bytes of memory in the blocks that are being written and read.
    pub(super) fn held(&self) -> usize {
        let reading = self.reading.as_ref().map_or(0, |(length, _)| *length);
        self.block.capacity().saturating_add(reading)
    }

    pub(super) fn unwritten(&self) -> usize {
        self.block.len().saturating_sub(self.block_at)
    }

    /// Bytes that may still come.
    pub(super) fn free(&self) -> u64 {
        self.size.saturating_sub(self.len())
    }

    pub(super) fn is_usable(&self) -> bool {
        self.health == Health::Usable
    }

    /// No block is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.writing.is_none() && self.unwritten() == 0
    }

    pub(super) fn spilled(&self) -> u64 {
        self.spilled
    }

    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// A full disk may have space again.
    pub(super) fn forgive(&mut self) {
        if self.health == Health::Full {
            self.health = Health::Usable;
        }
    }

    /// Writes a block, which must fit, behind what there is; needs [`Disk::is_idle`] and [`Disk::poll_write`].
    pub(super) fn write(&mut self, block: Vec<u8>) {
        self.block = Arc::new(block);
        self.block_at = 0;
        self.start(true);
    }

    /// Gives the space of a drained file back. Its bytes have been read, or there were none.
    pub(super) fn give_back(&mut self) {
        if self.is_idle() && self.stored() == 0 && self.written > 0 && self.is_usable() {
            self.start(false);
        }
    }

    fn start(&mut self, create: bool) {
        let clear = self.stored() == 0 && self.written > 0;
        if clear {
            self.read = 0;
            self.written = 0;
        }
        let (place, file) = (self.place.clone(), self.file.clone());
        let (block, at, size) = (Arc::clone(&self.block), self.written, self.size);
        self.writing = Some(files::run(move || {
            let opened = match file {
                Some(file) => Some(file),
                None if create => match place.create() {
                    Ok(file) => Some(Arc::new(Held(Some(file)))),
                    Err(e) => {
                        return Written {
                            file: None,
                            bytes: 0,
                            error: Some(e),
                        };
                    }
                },
                None => None,
            };
            let Some(inner) = opened.as_ref().and_then(|held| held.0.as_ref()) else {
                return Written {
                    file: opened,
                    bytes: 0,
                    error: None,
                };
            };
            if clear {
                // Space that does not come back is written again all the same.
                let _ = inner.clear();
            }
            let (bytes, error) = write_ring(inner, &block, at, size);
            Written {
                file: opened,
                bytes,
                error,
            }
        }));
    }

    /// True when a write has come to its end, good or bad.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(job) = &mut self.writing else {
            return false;
        };
        let Poll::Ready(outcome) = Pin::new(job).poll(cx) else {
            return false;
        };
        self.writing = None;
        let error = match outcome {
            Ok(done) => {
                self.file = done.file.or_else(|| self.file.take());
                self.written = self.written.saturating_add(done.bytes as u64);
                self.spilled = self.spilled.saturating_add(done.bytes as u64);
                self.block_at = self.block_at.saturating_add(done.bytes);
                done.error
            }
            // The job itself broke: none of its bytes count as written.
            Err(e) => Some(e),
        };
        if let Some(error) = error {
            self.health = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    Health::Full
                }
                _ => Health::Lost,
            };
            self.error = Some(error);
        }
        if self.unwritten() == 0 {
            self.block = Arc::default();
            self.block_at = 0;
        }
        true
    }

    /// The block that could not be written, once everything before it has been read.
    pub(super) fn take_unwritten(&mut self) -> Option<Vec<u8>> {
        if self.writing.is_some() || self.stored() > 0 || self.unwritten() == 0 {
            return None;
        }
        let at = mem::take(&mut self.block_at);
        let block = mem::take(&mut self.block);
        block.get(at..).map(<[u8]>::to_vec)
    }

    /// The oldest bytes of the file, at most `most`; only then are they out of it. Pending also when there are none.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<Vec<u8>>> {
        if self.reading.is_none() {
            let here = usize::try_from(self.stored()).map_or(most, |n| n.min(most));
            let (Some(file), true) = (&self.file, here > 0) else {
                return Poll::Pending;
            };
            let job = read_job(Arc::clone(file), self.read, self.size, here);
            self.reading = Some((here, job));
        }
        let Some((length, job)) = &mut self.reading else {
            return Poll::Pending;
        };
        let length = *length as u64;
        let Poll::Ready(outcome) = Pin::new(job).poll(cx) else {
            return Poll::Pending;
        };
        self.reading = None;
        let block = outcome.flatten()?;
        self.read = self.read.saturating_add(length);
        Poll::Ready(Ok(block))
    }

    /// The file, if there is one, and how many bytes are in it.
    pub(super) fn stored_file(&self) -> (Option<Shared<P::File>>, u64) {
        (self.file.clone(), self.written)
    }
}

/// Reads `length` bytes from position `at` of a ring of `size` bytes.
pub(super) fn read_job<F: SpoolFile>(
    file: Shared<F>,
    at: u64,
    size: u64,
    length: usize,
) -> Running<io::Result<Vec<u8>>> {
    files::run(move || {
        let inner = file.0.as_ref().ok_or(ErrorKind::NotFound)?;
        let mut block = vec![0; length];
        read_ring(inner, &mut block, at, size).map(|()| block)
    })
}

/// Place of a position in the file, and how many of `length` bytes lie there in one piece.
fn span(at: u64, size: u64, length: usize) -> (u64, usize) {
    let offset = at.checked_rem(size).unwrap_or(0);
    let piece = usize::try_from(size.saturating_sub(offset)).map_or(length, |n| n.min(length));
    (offset, piece)
}

/// Bytes written, and why not all.
fn write_ring<F: SpoolFile>(
    file: &F,
    bytes: &[u8],
    at: u64,
    size: u64,
) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let (offset, piece) = span(at.saturating_add(done as u64), size, rest.len());
        match file.write_at(rest.get(..piece).unwrap_or_default(), offset) {
            Ok(0) => return (done, Some(ErrorKind::WriteZero.into())),
            Ok(n) => done += n.min(piece),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return (done, Some(e)),
        }
    }
    (done, None)
}

fn read_ring<F: SpoolFile>(file: &F, bytes: &mut [u8], at: u64, size: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let (offset, piece) = span(at.saturating_add(done as u64), size, rest.len());
        match file.read_at(rest.get_mut(..piece).unwrap_or_default(), offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => done += n.min(piece),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
