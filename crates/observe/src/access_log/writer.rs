//! The writer thread and its queue. Cores lock the queue once per chunk, and the writer only to take all that is in it.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::sink::Shared;

/// Room behind a chunk for the record that fills it.
const HEADROOM: usize = 4 * 1024;
/// Empty buffers kept for reuse.
const SPARE: usize = 64;
/// Larger ones (after giant records) are not kept.
const SPARE_BYTES: usize = 128 * 1024;

enum Job {
    Chunk(Arc<Shared>, Vec<u8>),
    Reopen(Arc<Shared>),
    /// Answers when everything before it is done.
    Barrier(SyncSender<()>),
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    spare: Vec<Vec<u8>>,
    /// The writer sleeps: whoever adds a job wakes it. While it does not, no core pays for the system call.
    asleep: bool,
    stopped: bool,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    ready: Condvar,
}

/// A running writer. It ends, after all its jobs, when the last sink that uses it is gone.
pub(super) struct WriterThread {
    queue: Arc<Queue>,
}

impl WriterThread {
    /// A thread for one target.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let queue = Arc::new(Queue::default());
        let of_thread = Arc::clone(&queue);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || run(&of_thread))?;
        Ok(Arc::new(Self { queue }))
    }

    /// The process's one thread for regular files.
    pub(super) fn for_files() -> io::Result<Arc<Self>> {
        static FILES: Mutex<Weak<WriterThread>> = Mutex::new(Weak::new());
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = files.upgrade() {
            return Ok(running);
        }
        let started = Self::start()?;
        *files = Arc::downgrade(&started);
        Ok(started)
    }

    /// An empty buffer for chunks of this size.
    pub(super) fn buffer(&self, chunk: usize) -> Vec<u8> {
        self.lock()
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(chunk + HEADROOM))
    }

    /// Queues the buffer's bytes, which are charged already, and leaves it empty and without memory. Small chunks of one sink are
    /// joined, so that a queue of them holds no more memory than bytes.
    pub(super) fn submit(&self, sink: &Arc<Shared>, buffer: &mut Vec<u8>) {
        let mut jobs = self.lock();
        match jobs.waiting.back_mut() {
            Some(Job::Chunk(of, last))
                if Arc::ptr_eq(of, sink) && last.capacity() - last.len() >= buffer.len() =>
            {
                last.extend_from_slice(buffer);
                let spent = std::mem::take(buffer);
                jobs.keep(spent);
            }
            _ => {
                jobs.waiting
                    .push_back(Job::Chunk(Arc::clone(sink), std::mem::take(buffer)));
                self.queue.ready.notify_one();
            }
        }
    }

    pub(super) fn reopen(&self, sink: &Arc<Shared>) {
        self.push(Job::Reopen(Arc::clone(sink)));
    }

    /// Waits until all that is queued is done; false if that takes longer.
    pub(super) fn barrier(&self, patience: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        self.push(Job::Barrier(done));
        wait.recv_timeout(patience).is_ok()
    }

    fn push(&self, job: Job) {
        self.queue.add(self.lock(), job);
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.queue.lock()
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.lock().stopped = true;
        self.queue.ready.notify_one();
    }
}

impl std::fmt::Debug for WriterThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WriterThread({} jobs)", self.lock().waiting.len())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, mut jobs: MutexGuard<'_, Jobs>, job: Job) {
        jobs.waiting.push_back(job);
        let asleep = std::mem::replace(&mut jobs.asleep, false);
        // unlocked first, or the writer would wake only to wait for the lock
        drop(jobs);
        if asleep {
            self.ready.notify_one();
        }
    }

    /// Swaps `batch`, which is empty, with all that waits; false when there is nothing and never will be.
    fn take(&self, batch: &mut VecDeque<Job>, spent: &mut Vec<Vec<u8>>) -> bool {
        let mut jobs = self.lock();
        for buffer in spent.drain(..) {
            jobs.keep(buffer);
        }
        while jobs.waiting.is_empty() {
            if jobs.stopped {
                return false;
            }
            jobs.asleep = true;
            jobs = self
                .ready
                .wait(jobs)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(batch, &mut jobs.waiting);
        true
    }
}

impl Jobs {
    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE && buffer.capacity() <= SPARE_BYTES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

fn run(queue: &Queue) {
    let mut batch = VecDeque::new();
    let mut spent = Vec::new();
    while queue.take(&mut batch, &mut spent) {
        for job in batch.drain(..) {
            match job {
                Job::Chunk(sink, buffer) => {
                    write(&sink, &buffer);
                    spent.push(buffer);
                }
                Job::Reopen(sink) => {
                    // before the file is opened: a rotation after this moment needs another one
                    sink.reopening
                        .store(false, std::sync::atomic::Ordering::Relaxed);
                    sink.output
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .reopen(&sink);
                }
                Job::Barrier(done) => drop(done.try_send(())),
            }
        }
    }
}

fn write(sink: &Shared, records: &[u8]) {
    sink.output
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write(records, sink);
    sink.pending
        .fetch_sub(records.len(), std::sync::atomic::Ordering::Relaxed);
}
