//! File work off the data cores: a small pool of threads behind a bounded queue.
//!
//! A core hands over a closure and goes on with other connections; its task is woken when the closure has run. The pool is
//! one per process and starts with the first job. Its queue is bounded: a job that finds it full waits in its own future,
//! so that what waits is bounded by the tasks that there are.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Threads: a disk wants a few requests at a time, the cores want the processor.
const THREADS: usize = 2;
/// Jobs in the queue; more wait in their futures.
const QUEUE: usize = 256;
/// Names tried for a temporary file where the file system has no nameless ones.
const NAMES: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

static POOL: Pool = Pool::new();

/// What the pool is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Jobs in the queue; at most 256.
    pub queued: usize,
    /// Jobs outside, because the queue is full.
    pub waiting: usize,
    /// Jobs being run; at most 2.
    pub running: usize,
    /// Jobs run since the start.
    pub finished: u64,
}

/// The pool's state at this moment, for metrics.
pub fn figures() -> Figures {
    POOL.figures()
}

/// Runs `job` on a thread that may block. Nothing happens before the first poll.
///
/// Dropping the future is always safe: a job that has not begun never runs, one that has begins and ends unheard and its
/// result is dropped over there. An error is the pool's own: no thread could be started, or the job panicked.
pub fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    POOL.run(job)
}

/// Runs `job` on a thread that may block, and nobody waits for it. If the queue is full, it runs here and now.
pub fn detach(job: impl FnOnce() + Send + 'static) {
    POOL.detach(Box::new(job));
}

/// A new file in `directory` for reading and writing, of mode 0600, that has no name and goes away when it is closed. Blocks.
pub fn open_unlinked(directory: &Path) -> io::Result<File> {
    // EXCL: nobody can give it a name afterwards.
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // The file system, or the kernel, does not know nameless files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => create_and_unlink(directory),
        Err(e) => Err(e.into()),
    }
}

fn create_and_unlink(directory: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut refused = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..NAMES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".narthex-{}-{number}", std::process::id()));
        // `create_new` follows no link that somebody may have put there.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(file) => return std::fs::remove_file(&path).map(|()| file),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => refused = e,
            Err(e) => return Err(e),
        }
    }
    Err(refused)
}

struct Pool {
    state: Mutex<State>,
    jobs: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    /// Tasks whose job found the queue full, oldest first.
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
    threads: usize,
    running: usize,
    finished: u64,
}

impl Pool {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                waiting: BTreeMap::new(),
                next_ticket: 0,
                threads: 0,
                running: 0,
                finished: 0,
            }),
            jobs: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> Figures {
        let state = self.lock();
        Figures {
            queued: state.queue.len(),
            waiting: state.waiting.len(),
            running: state.running,
            finished: state.finished,
        }
    }

    fn run<T: Send + 'static>(
        &'static self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Running<T> {
        let slot = Arc::new(Mutex::new(Slot::Wanted(None)));
        let answer = Arc::clone(&slot);
        let job = move || {
            if matches!(*locked(&answer), Slot::Abandoned) {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(job));
            let result = result.map_err(|_| io::Error::other("a job of the file threads panicked"));
            fill(&answer, result);
        };
        Running {
            pool: self,
            slot,
            job: Some(Box::new(job)),
            ticket: None,
        }
    }

    fn detach(&'static self, job: Job) {
        let mut state = self.lock();
        if state.queue.len() < QUEUE && self.has_threads(&mut state).is_ok() {
            self.enqueue(&mut state, job);
        } else {
            drop(state);
            job();
        }
    }

    /// Queues the job, or puts the task on the list of those that wait for room.
    fn submit<T>(&'static self, running: &mut Running<T>, waker: &Waker) -> io::Result<()> {
        let Some(job) = running.job.take() else {
            return Ok(());
        };
        let mut state = self.lock();
        if state.queue.len() < QUEUE {
            if let Some(ticket) = running.ticket.take() {
                state.waiting.remove(&ticket);
            }
            self.has_threads(&mut state)?;
            self.enqueue(&mut state, job);
        } else {
            running.job = Some(job);
            let ticket = *running.ticket.get_or_insert_with(|| {
                state.next_ticket = state.next_ticket.wrapping_add(1);
                state.next_ticket
            });
            state.waiting.insert(ticket, waker.clone());
        }
        Ok(())
    }

    fn enqueue(&self, state: &mut State, job: Job) {
        state.queue.push_back(job);
        self.jobs.notify_one();
    }

    /// Starts what is missing of the threads; an error if there is none at all.
    fn has_threads(&'static self, state: &mut State) -> io::Result<()> {
        while state.threads < THREADS {
            let thread = std::thread::Builder::new().name("files".to_owned());
            match thread.spawn(|| self.work()) {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// A thread's life, which is the process's.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(job) = state.queue.pop_front() else {
                state = self
                    .jobs
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.running += 1;
            // All at once, but only when there is room for many: so nobody is forgotten, and few come in vain.
            let woken = if state.queue.len() <= QUEUE / 2 {
                mem::take(&mut state.waiting)
            } else {
                BTreeMap::new()
            };
            drop(state);
            woken.into_values().for_each(Waker::wake);
            // What a job drops may panic as well; the thread stays.
            let _ = catch_unwind(AssertUnwindSafe(job));
            state = self.lock();
            state.running -= 1;
            state.finished += 1;
        }
    }
}

enum Slot<T> {
    /// Somebody waits, once a waker is here.
    Wanted(Option<Waker>),
    Done(io::Result<T>),
    /// Taken already, or nobody wants it any more.
    Abandoned,
}

fn locked<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fill<T>(slot: &Mutex<Slot<T>>, result: io::Result<T>) {
    let mut place = locked(slot);
    if let Slot::Wanted(waker) = &mut *place {
        let waker = waker.take();
        *place = Slot::Done(result);
        drop(place);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A job of the file threads, as a future. Made by [`run`].
#[must_use = "nothing runs before the first poll"]
pub struct Running<T> {
    pool: &'static Pool,
    slot: Arc<Mutex<Slot<T>>>,
    /// Until it is in the queue.
    job: Option<Job>,
    /// Place among those that wait for room.
    ticket: Option<u64>,
}

impl<T> Future for Running<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let this = &mut *self;
        let mut slot = locked(&this.slot);
        match mem::replace(&mut *slot, Slot::Abandoned) {
            Slot::Done(result) => return Poll::Ready(result),
            Slot::Wanted(_) => *slot = Slot::Wanted(Some(cx.waker().clone())),
            Slot::Abandoned => {
                return Poll::Ready(Err(io::Error::other("the result was taken before")));
            }
        }
        drop(slot);
        match this.pool.submit(this, cx.waker()) {
            Ok(()) => Poll::Pending,
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.pool.lock().waiting.remove(&ticket);
        }
        let result = mem::replace(&mut *locked(&self.slot), Slot::Abandoned);
        drop(result);
    }
}

#[cfg(test)]
mod tests;
