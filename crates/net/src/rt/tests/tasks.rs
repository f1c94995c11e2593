//! Tasks, wake-ups, timers in tasks, other threads, panics.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::rt::*;
use crate::testing::{PATIENCE, core_id, on_core};

/// Suspends until `flag` says so; whoever sets it must wake the task.
async fn flagged(flag: &Cell<bool>) {
    poll_fn(|_| {
        if flag.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

async fn waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

async fn ticks(n: u64) {
    sleep_until(now_ms() + n * 16).await;
}

#[test]
fn tasks_run_in_the_order_of_their_spawns() {
    let order = on_core(|| async {
        let order: Rc<RefCell<Vec<u32>>> = Rc::default();
        for n in 0..10 {
            let order = Rc::clone(&order);
            spawn(async move {
                order.borrow_mut().push(n);
                yield_now().await;
                order.borrow_mut().push(n + 100);
            });
        }
        while order.borrow().len() < 20 {
            yield_now().await;
        }
        order.take()
    });
    assert_eq!(order, (0..10).chain(100..110).collect::<Vec<_>>());
}

#[test]
fn a_task_woken_often_is_polled_once() {
    on_core(|| async {
        let polls = Rc::new(Cell::new(0));
        let counting = Rc::clone(&polls);
        let key = spawn(poll_fn(move |_| {
            counting.set(counting.get() + 1);
            Poll::<()>::Pending
        }));
        yield_now().await;
        assert_eq!(polls.get(), 1);
        for _ in 0..100 {
            current_core().wake(key);
        }
        ticks(2).await;
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn slots_are_reused_and_old_names_are_dead() {
    on_core(|| async {
        let base = spawn_count();
        let first = spawn(async {});
        assert_eq!(spawn_count(), base + 1);
        yield_now().await;
        assert_eq!(spawn_count(), base);
        let polls = Rc::new(Cell::new(0));
        let counting = Rc::clone(&polls);
        let second = spawn(poll_fn(move |_| {
            counting.set(counting.get() + 1);
            Poll::<()>::Pending
        }));
        assert_eq!(second.slot, first.slot);
        assert_ne!(second, first);
        yield_now().await;
        current_core().wake(first);
        current_core().wake(TaskKey::NONE);
        current_core().wake(TaskKey::default());
        ticks(2).await;
        assert_eq!(polls.get(), 1);
        current_core().wake(second);
        yield_now().await;
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn a_task_that_wakes_itself_while_it_ends_does_not_wake_its_successor() {
    on_core(|| async {
        let first = spawn(async {
            waker().await.wake();
        });
        let polls = Rc::new(Cell::new(0));
        let counting = Rc::clone(&polls);
        let next = Rc::new(Cell::new(TaskKey::NONE));
        let telling = Rc::clone(&next);
        // Runs after the first has ended and before its stale entry in the queue.
        spawn(async move {
            telling.set(spawn(poll_fn(move |_| {
                counting.set(counting.get() + 1);
                Poll::<()>::Pending
            })));
        });
        ticks(2).await;
        assert_eq!(next.get().slot, first.slot);
        assert_eq!(polls.get(), 1);
    });
}

#[test]
fn other_threads_wake_tasks() {
    on_core(|| async {
        const THREADS: u32 = 4;
        const ROUNDS: u32 = 500;
        let count = Arc::new(AtomicU32::new(0));
        let done = Rc::new(Cell::new(0));
        for _ in 0..THREADS {
            let (count, done) = (Arc::clone(&count), Rc::clone(&done));
            spawn(async move {
                let mine = Arc::new(AtomicU32::new(0));
                let theirs = Arc::clone(&mine);
                let waker = waker().await;
                let (go, rounds) = mpsc::channel();
                std::thread::spawn(move || {
                    for () in rounds {
                        theirs.fetch_add(1, Ordering::SeqCst);
                        waker.wake_by_ref();
                    }
                });
                // Each round waits for its wake-up: a lost one hangs the test.
                for round in 1..=ROUNDS {
                    go.send(()).unwrap();
                    poll_fn(|_| {
                        if mine.load(Ordering::SeqCst) >= round {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    })
                    .await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                done.set(done.get() + 1);
            });
        }
        while done.get() < THREADS {
            ticks(1).await;
        }
        assert_eq!(count.load(Ordering::Relaxed), THREADS * ROUNDS);
    });
}

#[test]
fn jobs_run_on_the_core_in_order_and_may_spawn() {
    let order = on_core(|| async {
        thread_local! {
            static ORDER: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
        }
        let remote = current_core().remote();
        std::thread::spawn(move || {
            for n in 0..1_000 {
                remote.run(move || ORDER.with_borrow_mut(|order| order.push(n)));
            }
            remote.run(|| {
                spawn(async { ORDER.with_borrow_mut(|order| order.push(1_000)) });
            });
        });
        while ORDER.with_borrow(Vec::len) < 1_001 {
            ticks(1).await;
        }
        ORDER.with_borrow(Clone::clone)
    });
    assert_eq!(order, (0..=1_000).collect::<Vec<_>>());
}

#[test]
fn a_core_without_anything_to_do_hears_of_jobs() {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let core = Core::enter(core_id()).unwrap();
        tell.send(core.remote()).unwrap();
        core.run().unwrap();
    });
    let remote = told.recv_timeout(PATIENCE).unwrap();
    let (ran, answers) = mpsc::channel();
    for n in 0..200 {
        let ran = ran.clone();
        remote.run(move || ran.send(n).unwrap());
        // One at a time, so that the core sleeps in between. It would sleep ten seconds.
        assert_eq!(answers.recv_timeout(Duration::from_secs(5)).unwrap(), n);
    }
    remote.run(|| current_core().stop());
    thread.join().unwrap();
}

#[test]
fn a_stop_from_a_task_does_not_sleep_first() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let core = Core::enter(core_id()).unwrap();
        spawn(async { current_core().stop() });
        core.run().unwrap();
        tell.send(()).unwrap();
    });
    // Less than the ten seconds of a sleep without timers.
    told.recv_timeout(Duration::from_secs(8)).unwrap();
}

/// Panics when dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bomb was dropped");
    }
}

#[test]
fn panics_cost_one_task_only() {
    on_core(|| async {
        let base = spawn_count();
        let survived = Rc::new(Cell::new(0));
        let held = Rc::new(());
        for n in 0..10 {
            let (survived, held) = (Rc::clone(&survived), Rc::clone(&held));
            spawn(async move {
                yield_now().await;
                assert!(n % 2 == 0, "this one panics");
                survived.set(survived.get() + 1);
                drop(held);
            });
        }
        // Its future is dropped after its end, and panics then.
        struct Ends(Option<Bomb>);
        impl Future for Ends {
            type Output = ();
            fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
                assert!(self.0.is_some());
                Poll::Ready(())
            }
        }
        spawn(Ends(Some(Bomb)));
        current_core().remote().run(|| panic!("a job panics"));
        ticks(2).await;
        assert_eq!(survived.get(), 5);
        assert_eq!(
            Rc::strong_count(&held),
            1,
            "what the dead tasks held is free"
        );
        assert_eq!(current_core().panics(), 7);
        assert_eq!(spawn_count(), base);
        assert_ne!(current_core().current_task(), TaskKey::NONE);
    });
}

#[test]
fn sleeps_end_in_order_and_never_early() {
    on_core(|| async {
        let order: Rc<RefCell<Vec<u64>>> = Rc::default();
        let start = now_ms();
        for after in [80, 0, 48, 16, 160, 112] {
            let order = Rc::clone(&order);
            spawn(async move {
                sleep_until(start + after).await;
                assert!(now_ms() >= start + after);
                order.borrow_mut().push(after);
            });
        }
        sleep_until(start + 180).await;
        assert_eq!(*order.borrow(), [0, 16, 48, 80, 112, 160]);
    });
}

#[test]
fn a_shorter_deadline_overtakes_a_longer_one() {
    on_core(|| async {
        let start = now_ms();
        // Arms an hour first, then a tick: the task must be woken for the tick.
        let inner = async {
            assert_eq!(
                timeout_at(start + 32, std::future::pending::<()>()).await,
                Err(Elapsed)
            );
            sleep_until(now_ms() + 16).await;
            7
        };
        let mut inner = std::pin::pin!(inner);
        let value = poll_fn(|cx| {
            assert!(poll_deadline(start + 3_600_000).is_pending());
            inner.as_mut().poll(cx)
        })
        .await;
        assert_eq!(value, 7);
        assert_eq!(timeout_at(now_ms() + 3_600_000, async { 8 }).await, Ok(8));
        assert_eq!(timeout_at(0, async { 9 }).await, Ok(9), "0 is no deadline");
        assert_eq!(
            timeout_at(1, std::future::pending::<()>()).await,
            Err(Elapsed),
            "long past"
        );
        assert!(poll_deadline(0).is_pending());
        assert!(poll_deadline(1).is_ready());
    });
}

#[test]
fn deadlines_moved_a_thousand_times_cost_one_entry() {
    on_core(|| async {
        let before = current_core().timers.entries();
        let flag = Cell::new(false);
        for _ in 0..1_000 {
            // As a connection does for each request.
            flag.set(true);
            timeout_at(now_ms() + 60_000, async {
                yield_now().await;
                flagged(&flag).await;
            })
            .await
            .unwrap();
        }
        assert!(
            current_core().timers.entries() <= before + 1,
            "{}",
            current_core().timers.entries()
        );
    });
}

#[test]
fn a_dead_tasks_timer_wakes_nobody() {
    on_core(|| async {
        let polls = Rc::new(Cell::new(0));
        let first = spawn(async {
            let soon = now_ms() + 32;
            poll_fn(|_| {
                assert!(poll_deadline(soon).is_pending());
                Poll::Ready(())
            })
            .await;
        });
        yield_now().await;
        let counting = Rc::clone(&polls);
        let second = spawn(poll_fn(move |_| {
            counting.set(counting.get() + 1);
            Poll::<()>::Pending
        }));
        assert_eq!(first.slot, second.slot);
        ticks(5).await;
        assert_eq!(polls.get(), 1);
    });
}

#[test]
fn the_clocks_agree() {
    on_core(|| async {
        assert_eq!(now_us() / 1_000, now_ms());
        let real = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64;
        // Within a minute: the time of the turn, on a machine that may be busy.
        assert!(wall_ms().abs_diff(real) < 60_000);
    });
}
