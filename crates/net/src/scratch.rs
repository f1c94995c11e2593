//! One scratch buffer per core. Reachable only inside a closure that is not async, so nothing of it crosses an `.await`.

use std::cell::RefCell;

/// Room in front of what is read, so that a head can be written right-aligned before a body that is already there.
pub const HEADROOM: usize = 80 * 1024;
/// Bytes asked for in one bulk read. Not a multiple of 64 KiB on purpose: those cost up to double on loopback.
pub const BULK: usize = 127 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the core's scratch buffer: `HEADROOM + BULK` bytes of leftover content.
///
/// # Panics
/// When nested: a programming error.
#[inline]
pub fn with<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with(|cell| {
        let mut buffer = cell.borrow_mut();
        if buffer.is_empty() {
            buffer.resize(HEADROOM + BULK, 0);
        }
        f(&mut buffer)
    })
}
