//! The client of an answer that is fetched for the cache alone: it takes everything at once and says nothing.

use std::io;
use std::rc::Rc;
use std::task::Poll;

use narthex_net::rt::Interest;
use narthex_net::stream::{Stream, Virtual};

struct Nobody;

/// A stream with nobody at its other end.
pub(crate) fn stream() -> Stream {
    Stream::of_many(Rc::new(Nobody))
}

impl Virtual for Nobody {
    fn try_recv(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_peek(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn is_ready(&self, interest: Interest) -> bool {
        matches!(interest, Interest::Write)
    }

    fn poll_ready(&self, interest: Interest) -> Poll<()> {
        if self.is_ready(interest) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn is_held_up(&self) -> bool {
        false
    }

    fn is_dead(&self) -> bool {
        false
    }

    fn seen(&self, _: bool) {}

    fn unsent(&self) -> usize {
        0
    }

    fn held(&self) -> usize {
        0
    }

    fn end(&self) {}

    fn reset(&self) {}
}
