//! The way into a core from other threads: jobs and wake-ups, behind one lock, announced by an eventfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::event::{EventfdFlags, eventfd};

use super::core::TaskKey;

pub(super) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Inbox {
    jobs: Vec<Job>,
    wakes: Vec<TaskKey>,
}

/// A core, as other threads see it.
pub struct Remote {
    inbox: Mutex<Inbox>,
    /// The eventfd has been written since the last drain; saves a system call per wake-up.
    announced: AtomicBool,
    eventfd: OwnedFd,
}

static CORES: RwLock<Vec<(u16, Arc<Remote>)>> = RwLock::new(Vec::new());

pub(super) fn register(id: u16, remote: &Arc<Remote>) {
    let mut cores = CORES.write().unwrap_or_else(PoisonError::into_inner);
    cores.retain(|(other, _)| *other != id);
    cores.push((id, Arc::clone(remote)));
}

pub(super) fn wake_on(id: u16, task: TaskKey) {
    let cores = CORES.read().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, remote)) = cores.iter().find(|(other, _)| *other == id) {
        remote
            .inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wakes
            .push(task);
        remote.announce();
    }
}

impl Remote {
    pub(super) fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self {
            inbox: Mutex::default(),
            announced: AtomicBool::new(false),
            eventfd,
        })
    }

    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Runs `job` on the core, in the order of the calls. The job may spawn tasks.
    ///
    /// Control-plane use: the number of jobs in flight is bounded by the callers (reload, hand-over of accepted
    /// sockets, answers to what the core itself asked for).
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .jobs
            .push(Box::new(job));
        self.announce();
    }

    fn announce(&self) {
        if !self.announced.swap(true, Ordering::AcqRel) {
            // A full counter means that the core has been told already.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }

    pub(super) fn drain(&self, mut run: impl FnMut(Job), mut wake: impl FnMut(TaskKey)) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.eventfd, &mut count);
        self.announced.store(false, Ordering::Release);
        let inbox = std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        inbox.wakes.into_iter().for_each(&mut wake);
        inbox.jobs.into_iter().for_each(&mut run);
    }
}
