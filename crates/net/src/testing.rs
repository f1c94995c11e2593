//! For the tests of this room: a core on a thread of its own, and a limit on how long a test may hang.

use std::future::Future;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::rt::{Core, current_core, spawn};

/// A test that takes longer than this hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A core number that no other test of this process uses at present.
pub(crate) fn core_id() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % 256
}

/// Runs what `make` makes on a new core; gives its result, or fails the test if it panics or hangs.
pub(crate) fn on_core<T, F>(make: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let core = Core::enter(core_id()).unwrap();
        spawn(async move {
            // A panic drops the sender, which the test hears of.
            let stop = StopOnDrop;
            let value = make().await;
            tell.send(value).unwrap();
            drop(stop);
        });
        core.run().unwrap();
    });
    told.recv_timeout(PATIENCE)
        .expect("the core hangs, or its task has panicked (see above)")
}

struct StopOnDrop;

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        current_core().stop();
    }
}

/// Is the descriptor closed on exec?
pub(crate) fn cloexec(fd: &impl std::os::fd::AsFd) -> bool {
    rustix::io::fcntl_getfd(fd)
        .unwrap()
        .contains(rustix::io::FdFlags::CLOEXEC)
}
