//! Certificates that come while a handshake waits for them. This room asks a [`Desk`]; who stands behind it, and whether a name
//! may have a certificate at all, is decided elsewhere, off the cores.
//!
//! A handshake that waits holds no place among those under way: strangers who ask for names that nobody knows take nothing from
//! the sites that have certificates.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwapOption;

/// Handshakes of the process that wait for a certificate. Each keeps its ClientHello, some 2 KiB.
pub const WAITING_MAX: usize = 256;
/// How long a handshake waits for its certificate, in milliseconds; its own deadline stands still meanwhile.
pub const WAIT_MS: u64 = 30_000;

/// Who takes what is asked for. Called on a core: it must not wait.
type Clerk = Box<dyn Fn(Asked) + Send + Sync>;

/// Where handshakes ask. One per process.
#[derive(Default)]
pub struct Desk {
    clerk: ArcSwapOption<Clerk>,
    waiting: AtomicUsize,
}

/// A name that a handshake waits for.
#[derive(Debug)]
pub struct Asked {
    /// Canonical, and otherwise as the client wrote it.
    pub name: String,
    /// The client.
    pub client: Option<IpAddr>,
    /// Where the answer goes; dropping it says no.
    pub reply: Reply,
}

/// The way back to a handshake that waits.
#[derive(Debug)]
pub struct Reply(Arc<Slot>);

#[derive(Debug)]
struct Slot(Mutex<State>);

#[derive(Debug)]
enum State {
    Waits(Option<Waker>),
    Done(bool),
    /// The client has gone, or has waited long enough.
    Gone,
}

impl Desk {
    /// From now on this one is asked; `None`: nobody, every name is refused.
    pub fn serve(&self, clerk: Option<Clerk>) {
        self.clerk.store(clerk.map(Arc::new));
    }

    /// Handshakes that wait at present.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Asks for a name. `None`: as many wait as may.
    pub(super) fn ask(self: &Arc<Self>, name: &str, client: Option<IpAddr>) -> Option<Waiting> {
        let place = Place(Arc::clone(self));
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return None;
        }
        let slot = Arc::new(Slot(Mutex::new(State::Waits(None))));
        let asked = Asked {
            name: name.to_owned(),
            client,
            reply: Reply(Arc::clone(&slot)),
        };
        // Without a clerk it is dropped, which answers it.
        if let Some(clerk) = &*self.clerk.load() {
            clerk(asked);
        }
        Some(Waiting {
            slot,
            _place: place,
        })
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, came: bool) {
        let mut state = self.lock();
        if let State::Waits(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Done(came);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Reply {
    /// The certificate is in the table, or there will be none for now.
    pub fn answer(self, came: bool) {
        self.0.fill(came);
    }

    /// Does nobody wait for it any more?
    pub fn is_gone(&self) -> bool {
        matches!(*self.0.lock(), State::Gone)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.0.fill(false);
    }
}

/// One of [`WAITING_MAX`].
#[derive(Debug)]
struct Place(Arc<Desk>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A handshake's side: has the certificate come?
#[derive(Debug)]
pub(super) struct Waiting {
    slot: Arc<Slot>,
    _place: Place,
}

impl Future for Waiting {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.slot.lock();
        if let State::Done(came) = *state {
            return Poll::Ready(came);
        }
        *state = State::Waits(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.slot.lock() = State::Gone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(waiting: &mut Waiting) -> Poll<bool> {
        Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn answers_arrive_and_silence_is_a_no() {
        let desk = Arc::<Desk>::default();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let mut refused = desk.ask("a.example", None).unwrap();
        assert_eq!(poll(&mut refused), Poll::Ready(false), "nobody is there");
        let into = Arc::clone(&kept);
        desk.serve(Some(Box::new(move |asked| {
            into.lock().unwrap().push(asked)
        })));
        let mut waiting = [(); 3].map(|()| desk.ask("a.example", None).unwrap());
        assert!(waiting.iter_mut().all(|w| poll(w).is_pending()));
        let mut asked = std::mem::take(&mut *kept.lock().unwrap());
        asked.pop().unwrap().reply.answer(true);
        drop(asked.pop());
        let [mut first, mut second, mut third] = waiting;
        assert!(poll(&mut first).is_pending() && !asked[0].reply.is_gone());
        assert_eq!(poll(&mut second), Poll::Ready(false));
        assert_eq!(poll(&mut third), Poll::Ready(true));
        drop(first);
        assert!(asked[0].reply.is_gone());
    }

    #[test]
    fn no_more_wait_than_may() {
        let desk = Arc::<Desk>::default();
        desk.serve(Some(Box::new(std::mem::forget)));
        let mut all: Vec<_> = (0..WAITING_MAX)
            .map(|_| desk.ask("a.example", None).unwrap())
            .collect();
        assert!(desk.ask("a.example", None).is_none());
        all.pop();
        assert_eq!(desk.waiting(), WAITING_MAX - 1);
        assert!(desk.ask("a.example", None).is_some());
    }
}
