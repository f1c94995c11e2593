//! Boxed futures whose memory is used again.
//!
//! A future that is as long as a request, and is boxed so that an idle connection does not carry its memory, would cost an
//! allocation per request, of a size for which allocators have no fast way. Here the blocks of those that have ended serve
//! those that begin, most recent first: they are still in the cache.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes of a block: the largest future that fits.
const BLOCK: usize = 4096;
/// Blocks that a thread keeps: 1 MiB.
const KEPT: usize = 256;

#[repr(align(16))]
struct Block(#[allow(dead_code)] MaybeUninit<[u8; BLOCK]>); // memory only; never read as bytes

thread_local! {
    static BLOCKS: RefCell<Vec<Box<Block>>> = const { RefCell::new(Vec::new()) };
}

/// A future in a block of its own.
pub struct Recycled<F> {
    block: ManuallyDrop<Box<Block>>,
    /// As a box owns its content: the future does not move with this.
    _future: PhantomData<Box<F>>,
}

impl<F> Recycled<F> {
    const FITS: () = assert!(
        size_of::<F>() <= BLOCK && align_of::<F>() <= align_of::<Block>(),
        "the future is larger than a block"
    );

    /// Makes a future where it will stay. (A value that is handed over would be copied there.)
    pub fn new(make: impl FnOnce() -> F) -> Self {
        let () = Self::FITS;
        let mut block = BLOCKS
            .with(|blocks| blocks.borrow_mut().pop())
            .unwrap_or_else(|| Box::new(Block(MaybeUninit::uninit())));
        let place = std::ptr::from_mut(&mut *block).cast::<F>();
        // JUSTIFICATION: safe Rust cannot give a box of one type to another type.
        // SAFETY: the block is ours alone, and large and aligned enough for an `F` (checked above). If `make` panics the
        // block is freed as a block, and nothing has been written.
        unsafe { place.write(make()) };
        Self {
            block: ManuallyDrop::new(block),
            _future: PhantomData,
        }
    }

    fn future(&mut self) -> *mut F {
        std::ptr::from_mut(&mut **self.block).cast()
    }
}

impl<F: Future> Future for Recycled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `new` has written an `F`, and only `drop` ends it. It never moves: the block is boxed, stays in this value
        // until the future has been dropped, and nobody is given the future itself; so it may be pinned.
        let future = unsafe { Pin::new_unchecked(&mut *self.future()) };
        future.poll(cx)
    }
}

impl<F> Drop for Recycled<F> {
    fn drop(&mut self) {
        let future = self.future();
        // SAFETY: the future was written by `new`, and is dropped here only. Should that panic, the block is lost, not used
        // again.
        unsafe { future.drop_in_place() };
        // SAFETY: the box is taken out once; the value is not used after its drop.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        // At a thread's end there may be no list any more: then the block is freed.
        let _ = BLOCKS.try_with(|blocks| {
            let mut blocks = blocks.borrow_mut();
            if blocks.len() < KEPT {
                blocks.push(block);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::task::Waker;

    fn poll<F: Future>(future: &mut Recycled<F>) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn blocks() -> usize {
        BLOCKS.with(|b| b.borrow().len())
    }

    #[test]
    fn a_block_serves_one_after_another() {
        let counted = Rc::new(());
        for size in 0..3u8 {
            let mine = Rc::clone(&counted);
            let mut future = Recycled::new(|| async move {
                let array = [size; 100];
                std::future::ready(()).await;
                drop(mine);
                array.iter().map(|&n| usize::from(n)).sum::<usize>()
            });
            assert_eq!(poll(&mut future), Poll::Ready(usize::from(size) * 100));
            drop(future);
            assert_eq!(Rc::strong_count(&counted), 1);
            assert_eq!(blocks(), 1);
        }
    }

    #[test]
    fn what_was_not_polled_to_its_end_is_dropped() {
        let counted = Rc::new(());
        let mine = Rc::clone(&counted);
        let mut future = Recycled::new(|| async move {
            std::future::pending::<()>().await;
            drop(mine);
        });
        assert!(poll(&mut future).is_pending());
        let untouched = Recycled::new({
            let mine = Rc::clone(&counted);
            || async move { drop(mine) }
        });
        assert_eq!(Rc::strong_count(&counted), 3);
        drop((future, untouched));
        assert_eq!(Rc::strong_count(&counted), 1);
    }

    #[test]
    fn no_more_than_the_bound_is_kept() {
        let all: Vec<_> = (0..KEPT + 10)
            .map(|_| Recycled::new(|| std::future::ready(())))
            .collect();
        drop(all);
        assert_eq!(blocks(), KEPT);
    }

    #[test]
    fn a_maker_that_panics_leaves_nothing() {
        let made = std::panic::catch_unwind(|| {
            Recycled::new(|| -> std::future::Ready<()> { panic!("on purpose") })
        });
        assert!(made.is_err());
        assert_eq!(blocks(), 0);
    }
}
