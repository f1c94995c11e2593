//! The thread of discovery, from outside.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::follow::follow;
use crate::fleet::Fleet;

/// Rings when a source has said something.
#[derive(Default)]
pub(super) struct Progress {
    news: Mutex<u64>,
    more: Condvar,
}

impl Progress {
    pub(super) fn ring(&self) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        *news = news.wrapping_add(1);
        self.more.notify_all();
    }

    /// Waits for `condition`, which is looked at whenever a source has said something.
    fn wait(&self, longest: Duration, condition: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + longest;
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let seen = *news;
            drop(news);
            if condition() {
                return true;
            }
            news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            while *news == seen {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                let waited = self.more.wait_timeout(news, left);
                news = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// The running discovery. Dropping it ends its thread.
pub struct Discovery {
    fleet: Arc<Fleet>,
    progress: Arc<Progress>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Discovery {
    /// Starts the thread. Does not wait for any answer.
    pub fn start(fleet: &Arc<Fleet>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()?;
        let stop = Arc::new(Notify::new());
        let progress = Arc::new(Progress::default());
        let (followed, stopped, told) =
            (Arc::clone(fleet), Arc::clone(&stop), Arc::clone(&progress));
        let body = move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = follow(followed, told) => {}
                    () = stopped.notified() => {}
                }
            });
            // A file system that hangs holds nobody up.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("narthex-discovery".to_owned())
            .spawn(body)?;
        Ok(Self {
            fleet: Arc::clone(fleet),
            progress,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits until every source of the fleet has said something, good or bad; at most `longest`. False if that was not
    /// enough. Not to be called on a data core.
    pub fn wait_for_answers(&self, longest: Duration) -> bool {
        self.progress.wait(longest, || {
            self.fleet.clusters().iter().all(|c| c.is_settled())
        })
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of discovery had panicked");
        }
    }
}
