//! What the tests of this room share: a core to run on.

use std::future::Future;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use narthex_net::rt::{Core, current_core, spawn};

/// A test that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_mins(1);

struct StopOnDrop;

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        current_core().stop();
    }
}

/// Runs what `make` makes on a new core; gives its result, or fails the test if it panics or hangs.
pub(crate) fn on_core<T, F>(make: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (tell, told) = mpsc::channel();
    let id = 128 + NEXT.fetch_add(1, Ordering::Relaxed) % 128;
    std::thread::spawn(move || {
        let core = Core::enter(id).unwrap();
        spawn(async move {
            // A panic drops the sender, which the test hears of.
            let _stop = StopOnDrop;
            tell.send(make().await).unwrap();
        });
        core.run().unwrap();
    });
    told.recv_timeout(PATIENCE)
        .expect("the core hangs, or its task has panicked (see above)")
}
