//! The gate against every order of events.

use proptest::prelude::*;

use super::*;

fn poll(wait: &mut Wait) -> Option<Result<Turn, Refused>> {
    match Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(turn) => Some(turn),
        Poll::Pending => None,
    }
}

fn waiting(gate: &Arc<Gate>, core: usize, priority: Priority) -> Wait {
    let mut wait = gate.wait(core, priority);
    assert!(poll(&mut wait).is_none());
    wait
}

fn permit(wait: &mut Wait) -> Permit {
    match poll(wait) {
        Some(Ok(Turn::Permit(permit))) => permit,
        other => panic!("no permit but {other:?}"),
    }
}

#[test]
fn first_come_first_served() {
    let gate = Gate::new(1, 10);
    let held = gate.try_acquire().unwrap();
    let mut a = waiting(&gate, 0, Priority::Normal);
    let mut b = waiting(&gate, 1, Priority::Normal);
    drop(held);
    assert!(gate.try_acquire().is_none(), "newcomers do not push in");
    assert!(poll(&mut b).is_none());
    drop(permit(&mut a));
    drop(permit(&mut b));
    assert_eq!((gate.used(), gate.waiting()), (0, 0));
}

#[test]
fn a_higher_class_goes_first_and_newcomers_of_it_wait_all_the_same() {
    let gate = Gate::new(1, 10);
    let held = gate.try_acquire().unwrap();
    let mut low = waiting(&gate, 0, Priority::Low);
    let mut normal = waiting(&gate, 0, Priority::Normal);
    let mut high = waiting(&gate, 0, Priority::High);
    let mut later = waiting(&gate, 0, Priority::High);
    drop(held);
    drop(permit(&mut high));
    drop(permit(&mut later));
    drop(permit(&mut normal));
    drop(permit(&mut low));
    assert_eq!((gate.used(), gate.waiting()), (0, 0));
}

#[test]
fn a_full_queue_lets_the_newest_of_the_lowest_class_go() {
    let gate = Gate::new(1, 3);
    let held = gate.try_acquire().unwrap();
    let mut normal = waiting(&gate, 0, Priority::Normal);
    let mut older = waiting(&gate, 0, Priority::Low);
    let mut newer = waiting(&gate, 0, Priority::Low);
    let mut refused = gate.wait(0, Priority::Low);
    assert_eq!(poll(&mut refused).unwrap().unwrap_err(), Refused::QueueFull);
    let mut high = waiting(&gate, 0, Priority::High);
    assert_eq!(poll(&mut newer).unwrap().unwrap_err(), Refused::Evicted);
    let mut another = waiting(&gate, 0, Priority::Normal);
    assert_eq!(poll(&mut older).unwrap().unwrap_err(), Refused::Evicted);
    let mut refused = gate.wait(0, Priority::Normal);
    assert_eq!(poll(&mut refused).unwrap().unwrap_err(), Refused::QueueFull);
    assert_eq!(gate.waiting(), 3);
    drop(held);
    drop(permit(&mut high));
    drop(permit(&mut normal));
    drop(permit(&mut another));
    assert_eq!((gate.used(), gate.waiting()), (0, 0));
}

#[test]
fn one_who_was_sent_away_and_does_not_look_leaves_nothing_behind() {
    let gate = Gate::new(1, 1);
    let held = gate.try_acquire().unwrap();
    let low = waiting(&gate, 0, Priority::Low);
    let high = waiting(&gate, 0, Priority::High);
    drop((low, high, held));
    assert_eq!((gate.used(), gate.waiting()), (0, 0));
}

#[test]
fn a_higher_limit_lets_those_in_who_wait() {
    let gate = Gate::new(1, 10);
    let _held = gate.try_acquire().unwrap();
    let mut a = waiting(&gate, 0, Priority::Normal);
    assert!(gate.is_full());
    gate.set_limits(0, 10);
    assert!(!gate.is_full());
    permit(&mut a);
}

#[test]
fn idle_connections_go_to_their_own_core() {
    let gate = Gate::new(1, 10);
    let _held = gate.try_acquire().unwrap();
    assert_eq!(gate.next(3), Next::Nobody);
    let mut a = waiting(&gate, 3, Priority::Normal);
    assert_eq!(gate.next(2), Next::Elsewhere);
    let Next::Here(ticket) = gate.next(3) else {
        panic!("it is the first")
    };
    assert!(matches!(poll(&mut a), Some(Ok(Turn::Handed(t))) if t == ticket));
}

#[test]
fn the_queue_has_room_for_what_is_idle_elsewhere() {
    let gate = Gate::new(1, 0);
    let held = gate.try_acquire().unwrap();
    let mut refused = gate.wait(0, Priority::High);
    assert_eq!(poll(&mut refused).unwrap().unwrap_err(), Refused::QueueFull);
    let mut a = gate.wait(0, Priority::Normal).besides(1);
    assert!(poll(&mut a).is_none());
    let mut b = gate.wait(0, Priority::Normal).besides(1);
    assert_eq!(poll(&mut b).unwrap().unwrap_err(), Refused::QueueFull);
    drop(held);
    permit(&mut a);
}

#[derive(Debug, Clone)]
enum Step {
    Acquire,
    Drop(usize),
    Wait(usize, Priority),
    Leave(usize),
    Release(usize),
    Limit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let priority = prop_oneof![
        Just(Priority::High),
        Just(Priority::Normal),
        Just(Priority::Low)
    ];
    let step = prop_oneof![
        Just(Step::Acquire),
        any::<usize>().prop_map(Step::Drop),
        (any::<usize>(), priority).prop_map(|(core, priority)| Step::Wait(core, priority)),
        any::<usize>().prop_map(Step::Leave),
        any::<usize>().prop_map(Step::Release),
        (1usize..5).prop_map(Step::Limit),
    ];
    prop::collection::vec(step, 1..200)
}

/// One who waits, as the test remembers it.
struct Waiter {
    wait: Wait,
    core: usize,
    /// Class, then place in it.
    rank: (Priority, usize),
}

/// A gate and all that is known of it.
struct Model {
    gate: Arc<Gate>,
    cores: usize,
    max: usize,
    queue: usize,
    permits: Vec<Permit>,
    waiters: Vec<Waiter>,
    joined: usize,
}

impl Model {
    fn new(cores: usize) -> Self {
        let (max, queue) = (3, 5);
        Self {
            gate: Gate::new(max, queue),
            cores,
            max,
            queue,
            permits: Vec::new(),
            waiters: Vec::new(),
            joined: 0,
        }
    }

    fn step(&mut self, step: Step) {
        let at = |at: usize, n: usize| (n > 0).then(|| at % n.max(1));
        match step {
            Step::Acquire => {
                let permit = self.gate.try_acquire();
                assert!(permit.is_none() || self.waiters.is_empty(), "it pushed in");
                self.permits.extend(permit);
            }
            Step::Drop(n) => {
                drop(at(n, self.permits.len()).map(|at| self.permits.swap_remove(at)));
            }
            Step::Wait(core, priority) => self.join(core % self.cores, priority),
            Step::Leave(n) => {
                if let Some(at) = at(n, self.waiters.len()) {
                    let mut left = self.waiters.swap_remove(at);
                    assert_eq!(left.wait.abandoned(), None);
                }
            }
            Step::Release(core) => self.release(core % self.cores),
            Step::Limit(max) => {
                self.max = max;
                self.gate.set_limits(max, self.queue);
            }
        }
        self.settle();
    }

    fn join(&mut self, core: usize, priority: Priority) {
        let full = self.waiters.len() >= self.queue;
        let lowest = self.waiters.iter().map(|w| w.rank).max();
        let mut wait = self.gate.wait(core, priority);
        match poll(&mut wait) {
            Some(Ok(Turn::Permit(permit))) => self.permits.push(permit),
            Some(Err(Refused::QueueFull)) => {
                assert!(full && lowest.is_some_and(|(class, _)| class <= priority));
            }
            None => {
                if full {
                    self.evict(lowest.unwrap(), priority);
                }
                self.joined += 1;
                let rank = (priority, self.joined);
                self.waiters.push(Waiter { wait, core, rank });
            }
            other => panic!("a newcomer got {other:?}"),
        }
    }

    /// The newest of the lowest class has been sent away, for one of a higher.
    fn evict(&mut self, rank: (Priority, usize), by: Priority) {
        assert!(rank.0 > by);
        let at = self.waiters.iter().position(|w| w.rank == rank).unwrap();
        let mut gone = self.waiters.swap_remove(at);
        assert_eq!(poll(&mut gone.wait).unwrap().unwrap_err(), Refused::Evicted);
    }

    /// A connection becomes idle; its permit stays with it.
    fn release(&mut self, core: usize) {
        if self.permits.is_empty() {
            return;
        }
        let first = self.waiters.iter().min_by_key(|w| w.rank);
        let expected = first.map(|w| (w.core, w.rank));
        match (self.gate.next(core), expected) {
            (Next::Nobody, None) => {}
            (Next::Elsewhere, Some((other, _))) if other != core => drop(self.permits.pop()),
            (Next::Here(ticket), Some((here, rank))) if here == core => {
                let at = self.waiters.iter().position(|w| w.rank == rank).unwrap();
                let mut first = self.waiters.swap_remove(at);
                let handed = poll(&mut first.wait);
                assert!(matches!(handed, Some(Ok(Turn::Handed(t))) if t == ticket));
            }
            (next, expected) => panic!("{next:?} where {expected:?} stands first"),
        }
    }

    /// Takes what was granted, and looks whether everything is as it must be.
    fn settle(&mut self) {
        self.waiters.sort_by_key(|w| w.rank);
        let mut still = Vec::new();
        for mut waiter in self.waiters.drain(..) {
            match poll(&mut waiter.wait) {
                None => still.push(waiter),
                Some(Ok(Turn::Permit(permit))) => {
                    assert!(still.is_empty(), "served before one who stood before it");
                    self.permits.push(permit);
                }
                other => panic!("one who waits got {other:?}"),
            }
        }
        self.waiters = still;
        let gate = &self.gate;
        assert_eq!(gate.waiting(), self.waiters.len());
        assert_eq!(gate.used(), self.permits.len(), "a permit leaked");
        assert!(
            self.waiters.is_empty() || gate.used() >= self.max,
            "somebody waits beside a free permit"
        );
        assert!(self.waiters.len() <= self.queue);
    }

    fn end(self) {
        drop(self.waiters);
        drop(self.permits);
        assert_eq!((self.gate.used(), self.gate.waiting()), (0, 0));
    }
}

proptest! {
    #[test]
    fn permits_never_leak_and_nobody_waits_beside_a_free_one(
        steps in steps(),
        cores in prop_oneof![Just(1usize), Just(2), Just(8)],
    ) {
        let mut model = Model::new(cores);
        for step in steps {
            let before = model.gate.used();
            let limit = model.max;
            model.step(step);
            // A lowered limit lets those go on who are inside.
            prop_assert!(model.gate.used() <= before.max(limit).max(model.max));
        }
        model.end();
    }
}

/// Threads that take and give back as fast as they can: the maximum holds, everybody gets through, nothing is left.
#[test]
fn threads_never_hold_more_than_the_maximum() {
    const MAX: usize = 4;
    for threads in [1usize, 2, 8] {
        let gate = Gate::new(MAX, 1_000);
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for core in 0..threads {
                let (gate, inside) = (&gate, &inside);
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let permit = through(gate, core, round);
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < MAX);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!((gate.used(), gate.waiting()), (0, 0));
    }
}

fn through(gate: &Arc<Gate>, core: usize, round: usize) -> Permit {
    if let Some(permit) = gate.try_acquire() {
        return permit;
    }
    let priority = [Priority::High, Priority::Normal, Priority::Low][round % 3];
    loop {
        let mut wait = gate.wait(core, priority);
        // Some leave before their turn.
        for look in 0.. {
            match poll(&mut wait) {
                Some(Ok(Turn::Permit(permit))) => return permit,
                Some(other) => panic!("{other:?}"),
                None if look == 3 && round.is_multiple_of(5) => break,
                None => std::thread::yield_now(),
            }
        }
    }
}
