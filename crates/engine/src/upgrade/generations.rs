//! The processes before us that still drain. The channel of each ends with it, and its last counts come over it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::task::AbortHandle;

use super::message::{Last, Message, hear};
use crate::plane::Shared;

/// One that drains, and the task that waits for its end.
struct Draining {
    channel: Arc<OwnedFd>,
    listening: AbortHandle,
}

/// Those that drain.
#[derive(Default)]
pub(crate) struct Generations(Arc<Mutex<Vec<Draining>>>);

impl Generations {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Their channels, to pass them on.
    pub(super) fn channels(&self) -> Vec<Arc<OwnedFd>> {
        let all = self.lock();
        all.iter().map(|d| Arc::clone(&d.channel)).collect()
    }

    /// Waits for the last counts of one, which come when it ends. On the control runtime.
    pub(crate) fn add(&self, channel: OwnedFd, shared: &Arc<Shared>) -> io::Result<()> {
        // One message is all that comes, so what is readable can be read at once. The stream is for its readiness only.
        let readable = UnixStream::from(channel.try_clone()?);
        readable.set_nonblocking(true)?;
        let readable = tokio::net::UnixStream::from_std(readable)?;
        let channel = Arc::new(channel);
        let (from, shared, all) = (
            Arc::clone(&channel),
            Arc::clone(shared),
            Arc::clone(&self.0),
        );
        // Our lock is held until the task is in the list that it removes itself from.
        let mut draining = self.lock();
        let task = tokio::spawn(async move {
            if let Ok(Message::Last(last)) = last_word(&readable, &from).await {
                count(&shared, &last);
            }
            lock(&all).retain(|other| !Arc::ptr_eq(&other.channel, &from));
        });
        draining.push(Draining {
            channel,
            listening: task.abort_handle(),
        });
        Ok(())
    }

    /// Their last counts are another process's to hear.
    pub(super) fn leave(&self) {
        for draining in self.lock().drain(..) {
            draining.listening.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Draining>> {
        lock(&self.0)
    }
}

/// Waits for what comes over a channel, or for its end.
async fn last_word(readable: &tokio::net::UnixStream, channel: &OwnedFd) -> io::Result<Message> {
    loop {
        readable.readable().await?;
        match readable.try_io(Interest::READABLE, || hear(channel)) {
            // Woken for nothing.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            heard => return heard.map(|(message, _)| message),
        }
    }
}

fn lock(all: &Mutex<Vec<Draining>>) -> MutexGuard<'_, Vec<Draining>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(shared: &Shared, last: &Last) {
    shared.metrics().add(&last.metrics);
    shared.fleet().add_counts(&last.fleet);
}
