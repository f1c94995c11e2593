//! A core's scratch buffers for ciphertext: one to receive into, one to encrypt into. Reachable only inside a closure that is not
//! async, as that of [`crate::scratch`], which may be lent at the same time: what is decrypted goes there.

use std::cell::RefCell;

/// Bytes that are received at once. Not a multiple of 64 KiB, as for [`crate::scratch::BULK`].
pub(super) const RECEIVE: usize = 127 * 1024;
/// Plaintext that is encrypted at once: four full records.
pub(super) const BATCH: usize = 64 * 1024;
/// Room for a batch in records, and for what the protocol itself has to say before it.
pub(super) const SEND: usize = BATCH + 8 * 1024;

thread_local! {
    static INCOMING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTGOING: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Lends the buffer for what comes in.
///
/// # Panics
/// When nested: a programming error.
#[inline]
pub(super) fn incoming<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    INCOMING.with(|cell| {
        let mut buffer = cell.borrow_mut();
        if buffer.is_empty() {
            buffer.resize(RECEIVE, 0);
        }
        f(&mut buffer)
    })
}

/// Lends the buffer for what goes out, and an empty one where pieces are joined.
///
/// # Panics
/// When nested: a programming error.
#[inline]
pub(super) fn outgoing<T>(f: impl FnOnce(&mut [u8], &mut Vec<u8>) -> T) -> T {
    OUTGOING.with(|cell| {
        let (buffer, joined) = &mut *cell.borrow_mut();
        if buffer.is_empty() {
            buffer.resize(SEND, 0);
        }
        f(buffer, joined)
    })
}
