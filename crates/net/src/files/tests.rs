//! Tests of the file threads.

use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::MetadataExt;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use super::*;
use crate::testing::{PATIENCE, on_core};

fn pool() -> &'static Pool {
    Box::leak(Box::new(Pool::new()))
}

/// Keeps all threads of the pool busy until the sender is dropped.
fn block(pool: &'static Pool) -> mpsc::Sender<()> {
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let (begun, has_begun) = mpsc::channel();
    for _ in 0..THREADS {
        let (held, begun) = (Arc::clone(&held), begun.clone());
        pool.detach(Box::new(move || {
            begun.send(()).unwrap();
            let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }));
    }
    for _ in 0..THREADS {
        has_begun.recv_timeout(PATIENCE).unwrap();
    }
    hold
}

fn poll_once<T>(job: &mut Running<T>) -> Poll<io::Result<T>> {
    Pin::new(job).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_job_runs_on_another_thread_and_wakes_the_task() {
    let (core, elsewhere) = on_core(|| async {
        let here = std::thread::current().id();
        let there = run(|| std::thread::current().id()).await.unwrap();
        (here, there)
    });
    assert_ne!(core, elsewhere);
    // A job is counted after its task was woken.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while figures().finished == 0 {
        assert!(std::time::Instant::now() < deadline, "it was never counted");
        std::thread::yield_now();
    }
}

#[test]
fn a_panic_is_an_error_and_the_threads_stay() {
    on_core(|| async {
        for _ in 0..8 {
            let failed = run(|| panic!("on purpose")).await;
            assert!(failed.unwrap_err().to_string().contains("panicked"));
        }
        assert_eq!(run(|| 7).await.unwrap(), 7);
    });
}

#[test]
fn nothing_runs_before_the_first_poll_or_after_the_drop() {
    let pool = pool();
    let hold = block(pool);
    let runs = Arc::new(AtomicUsize::new(0));
    let count = |runs: &Arc<AtomicUsize>| {
        let runs = Arc::clone(runs);
        move || runs.fetch_add(1, Ordering::SeqCst)
    };
    drop(pool.run(count(&runs)));
    let mut queued = pool.run(count(&runs));
    assert!(poll_once(&mut queued).is_pending());
    assert_eq!(pool.figures().queued, 1);
    drop(queued);
    drop(hold);
    // Jobs begin in their order, so what was queued before this one has had its turn when it begins.
    on_core(move || async move { pool.run(|| ()).await.unwrap() });
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[test]
fn the_queue_is_bounded_and_what_waits_outside_gets_in() {
    let pool = pool();
    let hold = block(pool);
    let jobs = 3 * QUEUE;
    let (told, all) = on_core(move || async move {
        let mut jobs: Vec<_> = (0..jobs).map(|n| pool.run(move || n)).collect();
        jobs.push(pool.run(|| usize::MAX));
        let full = poll_fn(|cx| {
            for job in &mut jobs {
                assert!(Pin::new(job).poll(cx).is_pending());
            }
            // Polled twice is listed once.
            for job in &mut jobs {
                assert!(Pin::new(job).poll(cx).is_pending());
            }
            Poll::Ready(pool.figures())
        })
        .await;
        // A future that is dropped while it waits leaves no trace.
        jobs.pop();
        let after = pool.figures().waiting;
        drop(hold);
        let mut all = Vec::new();
        for job in jobs {
            all.push(pin!(job).await.unwrap());
        }
        ((full.queued, full.waiting, after), all)
    });
    assert_eq!(told, (QUEUE, 2 * QUEUE + 1, 2 * QUEUE));
    assert_eq!(all, (0..jobs).collect::<Vec<_>>());
    assert_eq!(pool.figures().waiting, 0);
}

#[test]
fn a_detached_job_runs_here_when_the_queue_is_full() {
    let pool = pool();
    let hold = block(pool);
    for _ in 0..QUEUE {
        pool.detach(Box::new(|| ()));
    }
    let (tell, told) = mpsc::channel();
    pool.detach(Box::new(move || {
        tell.send(std::thread::current().id()).unwrap();
    }));
    assert_eq!(told.try_recv().unwrap(), std::thread::current().id());
    drop(hold);
}

#[test]
fn a_temporary_file_has_no_name_and_belongs_to_us_alone() {
    let directory = tempfile::tempdir().unwrap();
    for open in [open_unlinked, create_and_unlink] {
        let file = open(directory.path()).unwrap();
        let facts = file.metadata().unwrap();
        assert_eq!(facts.mode() & 0o777, 0o600);
        assert_eq!(facts.nlink(), 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_missing_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert_eq!(
        open_unlinked(&missing).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}
