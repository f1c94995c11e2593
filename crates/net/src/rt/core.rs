//! The executor: a slab of tasks, a queue of those to poll, and the turn that ties it to epoll.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::lateness::Lateness;
use super::reactor::Reactor;
use super::remote::{Job, Remote};
use super::timer::{Timers, monotonic_us};
use super::waker;

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks polled before epoll is asked again, so that no burst of ready tasks starves the sockets.
const POLLS_PER_TURN: usize = 256;

/// Names a task for as long as it lives: slot and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskKey {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl TaskKey {
    /// Names no task.
    pub const NONE: Self = Self {
        slot: u32::MAX,
        generation: 0,
    };
}

impl Default for TaskKey {
    /// [`TaskKey::NONE`]: slot 0 would be somebody.
    fn default() -> Self {
        Self::NONE
    }
}

pub(super) struct Task {
    future: Option<Boxed>,
    generation: u32,
    queued: bool,
    /// Tick of the task's live wheel entry; 0 is none.
    armed: u64,
}

#[derive(Default)]
struct Tasks {
    slots: Vec<Task>,
    free: Vec<u32>,
}

/// One core. Lives as long as its thread and is leaked on purpose: everything on the thread may hold `&'static Core`.
pub struct Core {
    id: u16,
    tasks: RefCell<Tasks>,
    queue: RefCell<VecDeque<TaskKey>>,
    current: Cell<TaskKey>,
    live: Cell<usize>,
    panics: Cell<u64>,
    stopping: Cell<bool>,
    pub(super) reactor: Reactor,
    pub(super) timers: Timers,
    lateness: Lateness,
    remote: Arc<Remote>,
}

thread_local! {
    static CORE: Cell<Option<&'static Core>> = const { Cell::new(None) };
}

#[inline]
pub(super) fn try_core() -> Option<&'static Core> {
    CORE.with(Cell::get)
}

/// The core of this thread.
///
/// # Panics
/// On a thread that is not a core: a programming error, never reached from outside input.
#[inline]
pub fn current_core() -> &'static Core {
    let Some(core) = try_core() else {
        panic!("this must be called on a core")
    };
    core
}

/// Is this thread a core?
pub fn is_core() -> bool {
    try_core().is_some()
}

/// Runs `future` as a task of this core.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> TaskKey {
    current_core().spawn_boxed(Box::pin(future))
}

/// Live tasks of this core.
pub fn spawn_count() -> usize {
    current_core().live.get()
}

/// How late this core is, in milliseconds: the longest that a task had to wait for its turn in this second and the one
/// before. Who has just connected waits as long.
#[inline]
pub fn lateness_ms() -> u64 {
    let core = current_core();
    core.lateness.recent_ms(core.timers.now_us.get())
}

/// Lets every other ready task run once.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Core {
    /// Makes this thread a core. `id` is below 256 and unique in the process.
    pub fn enter(id: u16) -> io::Result<&'static Self> {
        let remote = Arc::new(Remote::new()?);
        let reactor = Reactor::new(remote.eventfd())?;
        super::remote::register(id, &remote);
        let core: &'static Self = Box::leak(Box::new(Self {
            id,
            tasks: RefCell::default(),
            queue: RefCell::default(),
            current: Cell::new(TaskKey::NONE),
            live: Cell::new(0),
            panics: Cell::new(0),
            stopping: Cell::new(false),
            reactor,
            timers: Timers::new(),
            lateness: Lateness::default(),
            remote,
        }));
        CORE.with(|c| c.set(Some(core)));
        Ok(core)
    }

    /// This core's number.
    #[inline]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// A way in for other threads.
    pub fn remote(&self) -> Arc<Remote> {
        Arc::clone(&self.remote)
    }

    /// Tasks that panicked since the start.
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Ends [`Core::run`] after the present turn.
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// The task that is being polled.
    #[inline]
    pub fn current_task(&self) -> TaskKey {
        self.current.get()
    }

    /// Turns until [`Core::stop`].
    pub fn run(&self) -> io::Result<()> {
        while !self.stopping.get() {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&self) -> io::Result<()> {
        let polled = self.poll_ready();
        self.lateness.polled(polled, monotonic_us);
        let busy = self.stopping.get() || !self.queue.borrow().is_empty();
        let timeout = if busy { 0 } else { self.timers.until_next_ms() };
        let woken = self.reactor.wait(timeout, |task| self.wake(task))?;
        self.timers.advance(monotonic_us(), |task, tick, due| {
            self.timer_met(task, tick, due)
        });
        if woken {
            self.remote
                .drain(|job| self.run_job(job), |task| self.wake(task));
        }
        let queued = self.queue.borrow().len();
        self.lateness.mark(queued, self.timers.now_us.get());
        Ok(())
    }

    fn run_job(&self, job: Job) {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            self.panics.set(self.panics.get().saturating_add(1));
            tracing::error!(core = self.id, "a job from another thread panicked");
        }
    }

    /// Polls those that are ready, not more than a turn allows; says how many.
    fn poll_ready(&self) -> usize {
        for polled in 0..POLLS_PER_TURN {
            let Some(key) = self.queue.borrow_mut().pop_front() else {
                return polled;
            };
            self.poll_task(key);
        }
        POLLS_PER_TURN
    }

    fn poll_task(&self, key: TaskKey) {
        let Some(mut future) = self.take(key) else {
            return;
        };
        self.current.set(key);
        let waker = waker::make(self.id, key);
        let mut cx = Context::from_waker(&waker);
        // A panic costs its connection, never the core.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        self.current.set(TaskKey::NONE);
        match polled {
            Ok(Poll::Pending) => self.put_back(key, future),
            Ok(Poll::Ready(())) => self.finish(key, future),
            Err(_) => {
                self.panics.set(self.panics.get().saturating_add(1));
                tracing::error!(core = self.id, "a task panicked; its connection is closed");
                self.finish(key, future);
            }
        }
    }

    fn take(&self, key: TaskKey) -> Option<Boxed> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.slots.get_mut(key.slot as usize)?;
        if task.generation != key.generation {
            return None;
        }
        task.queued = false;
        task.future.take()
    }

    fn put_back(&self, key: TaskKey, future: Boxed) {
        if let Some(task) = self.tasks.borrow_mut().slots.get_mut(key.slot as usize) {
            task.future = Some(future);
        }
    }

    fn finish(&self, key: TaskKey, future: Boxed) {
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            self.panics.set(self.panics.get().saturating_add(1));
            tracing::error!(core = self.id, "a task panicked while it was dropped");
        }
        self.free(key);
    }

    fn free(&self, key: TaskKey) {
        let mut tasks = self.tasks.borrow_mut();
        if let Some(task) = tasks.slots.get_mut(key.slot as usize) {
            task.generation = task.generation.wrapping_add(1) & waker::GENERATION_MASK;
            task.armed = 0;
            task.queued = false;
            tasks.free.push(key.slot);
            self.live.set(self.live.get().saturating_sub(1));
        }
    }

    fn spawn_boxed(&self, future: Boxed) -> TaskKey {
        let mut tasks = self.tasks.borrow_mut();
        let slot = match tasks.free.pop() {
            Some(slot) => slot,
            None => {
                tasks.slots.push(Task {
                    future: None,
                    generation: 0,
                    queued: false,
                    armed: 0,
                });
                (tasks.slots.len() - 1) as u32
            }
        };
        let task = &mut tasks.slots[slot as usize];
        task.future = Some(future);
        task.queued = true;
        let key = TaskKey {
            slot,
            generation: task.generation,
        };
        drop(tasks);
        self.live.set(self.live.get() + 1);
        self.queue.borrow_mut().push_back(key);
        key
    }

    /// Queues every task, so that each looks again at what it waits for. Rare: for a change that concerns all.
    pub fn wake_all(&self) {
        let keys: Vec<TaskKey> = {
            let tasks = self.tasks.borrow();
            let live = tasks
                .slots
                .iter()
                .enumerate()
                .filter(|(_, task)| task.future.is_some());
            live.map(|(slot, task)| TaskKey {
                slot: slot as u32,
                generation: task.generation,
            })
            .collect()
        };
        for key in keys {
            self.wake(key);
        }
    }

    /// Queues a task, once.
    #[inline]
    pub fn wake(&self, key: TaskKey) {
        let mut tasks = self.tasks.borrow_mut();
        let Some(task) = tasks.slots.get_mut(key.slot as usize) else {
            return;
        };
        if task.generation == key.generation && !task.queued {
            task.queued = true;
            drop(tasks);
            self.queue.borrow_mut().push_back(key);
        }
    }

    /// Makes sure that the running task is woken at `tick` or before.
    #[inline]
    pub(super) fn arm_current(&self, tick: u64) {
        let key = self.current.get();
        let mut tasks = self.tasks.borrow_mut();
        let Some(task) = tasks.slots.get_mut(key.slot as usize) else {
            return;
        };
        if task.armed != 0 && task.armed <= tick {
            return;
        }
        task.armed = tick;
        drop(tasks);
        self.timers.insert(key, tick);
    }

    /// The wheel has come to an entry; says whether a later one is still of use. One whose task is gone or has armed
    /// an earlier one is not: it would only go round.
    fn timer_met(&self, key: TaskKey, tick: u64, due: bool) -> bool {
        let mut tasks = self.tasks.borrow_mut();
        let Some(task) = tasks.slots.get_mut(key.slot as usize) else {
            return false;
        };
        if task.generation != key.generation || task.armed != tick {
            return false;
        }
        if due {
            task.armed = 0;
            drop(tasks);
            self.wake(key);
        }
        !due
    }
}
