//! The checker: one for the process, on one core. It follows the fleet, keeps a calendar of what is to be asked when, and
//! starts a task per check under way.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use narthex_net::rt::{self, TaskKey};

use super::probe::{Asked, ask};
use super::schedule::CheckId;
use super::subjects::{Errand, KEPT_FOR_MS, Subjects};
use super::tally::Failure;
use crate::clock::millis;
use crate::fleet::{Changed, Fleet, Follower};

/// The calendar is looked at on multiples of this, in milliseconds: what is due about now is asked in one turn.
const GRAIN_MS: u64 = 5;
/// Checks under way at most, and the part of them that servers may have which are not known to be well: those take as long as
/// `timeout` says, and must not keep the others from being asked.
const UNDER_WAY: usize = 1_024;
/// Checks under way that every process may have.
const UNDER_WAY_MIN: usize = 64;
/// Of the files that may be open, checks under way have one in so many.
const FILES_UNDER_WAY: u64 = 16;
/// And kept connections one in so many.
const FILES_KEPT: u64 = 8;

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Checks under way.
    pub(super) under_way: usize,
    /// Those of servers that are not known to be well.
    pub(super) doubtful: usize,
    /// Kept connections, unless the process has more descriptors to spare (`Fleet::checks_may_keep`).
    pub(super) kept: usize,
    /// How long, in milliseconds.
    pub(super) kept_for: u64,
}

impl Bounds {
    pub(super) fn of_process() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Self::of(files.unwrap_or(u64::MAX))
    }

    fn of(files: u64) -> Self {
        let share = |part: u64| usize::try_from(files / part).unwrap_or(usize::MAX);
        let under_way = share(FILES_UNDER_WAY).clamp(UNDER_WAY_MIN, UNDER_WAY);
        Self {
            under_way,
            doubtful: under_way / 2,
            kept: share(FILES_KEPT),
            kept_for: KEPT_FOR_MS,
        }
    }
}

struct Checker {
    fleet: Arc<Fleet>,
    subjects: RefCell<Subjects>,
    bounds: Bounds,
    under_way: Cell<usize>,
    doubtful: Cell<usize>,
    task: Cell<TaskKey>,
    /// The calendar has changed, or a place came free.
    nudged: Cell<bool>,
    randomness: RandomState,
    drawn: Cell<u64>,
}

/// Asks every server of every upstream that wants checks. Runs on one core, for ever.
pub async fn run_checks(fleet: Arc<Fleet>) {
    run_within(fleet, Bounds::of_process()).await;
}

/// The same, within these bounds.
pub(super) async fn run_within(fleet: Arc<Fleet>, bounds: Bounds) {
    let checker = Rc::new(Checker {
        subjects: RefCell::new(Subjects::new(bounds.kept, bounds.kept_for)),
        bounds,
        under_way: Cell::new(0),
        doubtful: Cell::new(0),
        task: Cell::new(rt::current_core().current_task()),
        nudged: Cell::new(false),
        randomness: RandomState::new(),
        drawn: Cell::new(0),
        fleet,
    });
    let mut changes = checker.fleet.changes.follow();
    let mut next = 0;
    loop {
        match checker.wait(&mut changes, next).await {
            Some(changed) => checker.follow(changed),
            None => next = checker.start_due(),
        }
    }
}

impl Checker {
    /// Until something changed, or something is due; 0 is nothing.
    async fn wait(&self, changes: &mut Follower, next: u64) -> Option<Changed> {
        let mut change = pin!(changes.next());
        std::future::poll_fn(|cx| {
            if let Poll::Ready(changed) = change.as_mut().poll(cx) {
                // The calendar is looked at afterwards.
                self.nudged.set(true);
                return Poll::Ready(Some(changed));
            }
            if self.nudged.take() {
                return Poll::Ready(None);
            }
            rt::poll_deadline(next).map(|()| None)
        })
        .await
    }

    fn follow(&self, changed: Changed) {
        let mut subjects = self.subjects.borrow_mut();
        let now = rt::now_ms();
        match changed {
            Changed::All => {
                let clusters = self.fleet.clusters();
                subjects.keep_only(&clusters, now);
                for cluster in clusters {
                    subjects.follow(cluster.id(), Some(cluster), now);
                }
            }
            Changed::Clusters(ids) => {
                for id in ids {
                    subjects.follow(id, self.fleet.cluster(id), now);
                }
            }
        }
    }

    /// Starts what is due and may be; says when to look again, 0 if a change or a place that comes free will tell.
    fn start_due(self: &Rc<Self>) -> u64 {
        let now = rt::now_ms();
        let mut due = Vec::new();
        let mut subjects = self.subjects.borrow_mut();
        let spare = self.fleet.checks.may_keep.load(Ordering::Relaxed);
        subjects.kept_max = self.bounds.kept.max(spare);
        let late = subjects.late(now);
        self.fleet.checks.late_ms.store(late, Ordering::Relaxed);
        let free = self.bounds.under_way.saturating_sub(self.under_way.get());
        let well = subjects.well.due(now, free, &mut due);
        let free = free
            .saturating_sub(due.len())
            .min(self.bounds.doubtful.saturating_sub(self.doubtful.get()));
        let doubtful = subjects.doubtful.due(now, free, &mut due);
        let errands: Vec<Errand> = due
            .into_iter()
            .filter_map(|id| subjects.begin(id, now))
            .collect();
        drop(subjects);
        for errand in errands {
            self.under_way.set(self.under_way.get() + 1);
            if errand.doubtful {
                self.doubtful.set(self.doubtful.get() + 1);
            }
            rt::spawn(check(Rc::clone(self), errand));
        }
        // What is still due waits for a place, and whoever gives one back wakes us.
        let next = [well, doubtful]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min();
        next.map_or(0, |at| at.next_multiple_of(GRAIN_MS))
    }

    fn nudge(&self) {
        if !self.nudged.replace(true) {
            rt::current_core().wake(self.task.get());
        }
    }

    fn random(&self) -> u64 {
        self.drawn.set(self.drawn.get().wrapping_add(1));
        self.randomness.hash_one(self.drawn.get())
    }
}

/// A place among the checks under way; whatever way the check ends, it is given back, and the server is asked again.
struct Turn {
    checker: Rc<Checker>,
    id: CheckId,
    doubtful: bool,
    asked: Option<Asked>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let checker = &self.checker;
        let was_full = checker.under_way.get() >= checker.bounds.under_way
            || checker.doubtful.get() >= checker.bounds.doubtful;
        checker
            .under_way
            .set(checker.under_way.get().saturating_sub(1));
        if self.doubtful {
            checker
                .doubtful
                .set(checker.doubtful.get().saturating_sub(1));
        }
        let asked = self.asked.take().unwrap_or_else(|| Asked {
            verdict: Err(Failure::Unwell("the check did not end".to_owned())),
            keep: None,
            fresh: true,
        });
        let random = checker.random();
        let mut subjects = checker.subjects.borrow_mut();
        let sooner = subjects.ended(self.id, asked, rt::now_ms(), random);
        drop(subjects);
        if was_full || sooner {
            checker.nudge();
        }
    }
}

async fn check(checker: Rc<Checker>, errand: Errand) {
    let mut turn = Turn {
        checker,
        id: errand.id,
        doubtful: errand.doubtful,
        asked: None,
    };
    let key = &errand.key;
    let connected = Cell::new(false);
    let failed = |failure| Asked {
        verdict: Err(failure),
        keep: None,
        fresh: true,
    };
    turn.asked = Some(match &*errand.question {
        Err(words) => failed(Failure::Unwell(words.clone())),
        Ok(question) => {
            let deadline = rt::now_ms().saturating_add(millis(key.health().timeout).max(1));
            let answer = ask(question, key, errand.kept, &connected);
            match rt::timeout_at(deadline, answer).await {
                Ok(asked) => asked,
                Err(rt::Elapsed) if connected.get() => {
                    failed(Failure::Unwell("no answer in time".to_owned()))
                }
                Err(rt::Elapsed) => failed(Failure::Unreachable(
                    "connect: no answer in time".to_owned(),
                )),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_the_open_files() {
        let small = Bounds::of(256);
        assert_eq!((small.under_way, small.doubtful, small.kept), (64, 32, 32));
        let large = Bounds::of(1 << 20);
        assert_eq!((large.under_way, large.doubtful), (1_024, 512));
        assert_eq!(large.kept, 1 << 17);
    }
}
