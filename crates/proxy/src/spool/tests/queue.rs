//! The queue: where bytes go, and what happens when the disk does not do its part.

use super::*;

const MEMORY: u64 = 2 * BLOCK as u64;
const DISK: u64 = 5 * BLOCK as u64 + 77;

#[test]
fn what_fits_in_memory_touches_no_disk() {
    let place = Shaky::new(u64::MAX);
    let plan = Arc::clone(&place.0);
    on_core(move || async move {
        let mut spool = Spool::at(MEMORY, DISK, place);
        for round in 0..50 {
            spool.push(&bytes(round, MEMORY as usize));
            assert!(!glance(&mut spool).await.unwrap());
            assert_eq!(
                drain(&mut spool).await.unwrap(),
                bytes(round, MEMORY as usize)
            );
        }
        assert_eq!(spool.spilled_bytes(), 0);
    });
    assert_eq!(plan.created.load(Ordering::Relaxed), 0);
}

#[test]
fn no_more_than_both_bounds_fits_and_it_comes_back_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    on_core(move || async move {
        let mut spool = Spool::new(MEMORY, DISK, &path);
        for round in 0..3 {
            let n = fill(&mut spool, round).await;
            assert_eq!(n as u64, MEMORY + DISK);
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
            assert!(drain(&mut spool).await.unwrap() == bytes(round, n));
        }
        assert!(spool.spilled_bytes() >= 3 * 4 * BLOCK as u64);
    });
}

#[test]
fn a_drained_file_gives_its_space_back() {
    let place = Shaky::new(u64::MAX);
    let plan = Arc::clone(&place.0);
    on_core(move || async move {
        let mut spool = Spool::at(MEMORY, DISK, place);
        fill(&mut spool, 0).await;
        drain(&mut spool).await.unwrap();
        glance(&mut spool).await.unwrap();
        while spool.disk.writing.is_some() {
            progress(&mut spool).await.unwrap();
        }
    });
    assert!(plan.cleared.load(Ordering::Relaxed) > 0);
    assert!(plan.largest.load(Ordering::Relaxed) <= DISK);
}

#[test]
fn a_long_stream_never_grows_the_file_beyond_its_bound() {
    let place = Shaky::new(u64::MAX);
    let plan = Arc::clone(&place.0);
    on_core(move || async move {
        let mut spool = Spool::at(MEMORY, DISK, place);
        let mut pushed = fill(&mut spool, 0).await as u64;
        let mut taken = 0;
        // Never drained wholly: the file goes round.
        while taken < 20 * DISK {
            let n = spool.front().len().min(5_000);
            assert_eq!(spool.front()[..n], bytes(taken, n));
            spool.consume(n);
            taken += n as u64;
            if n == 0 {
                progress(&mut spool).await.unwrap();
            }
            let room = spool.room();
            spool.push(&bytes(pushed, room));
            pushed += room as u64;
            glance(&mut spool).await.unwrap();
        }
        assert!(spool.take_disk_error().is_none());
        assert!(spool.spilled_bytes() > 10 * DISK);
    });
    assert!(plan.largest.load(Ordering::Relaxed) <= DISK);
}

#[test]
fn a_full_disk_is_a_bound_reached_earlier() {
    let place = Shaky::new(BLOCK as u64 + 1_000);
    let plan = Arc::clone(&place.0);
    on_core(move || async move {
        let mut spool = Spool::at(MEMORY, DISK, place);
        let n = fill(&mut spool, 0).await;
        assert!((n as u64) < MEMORY + DISK);
        let error = spool.take_disk_error().expect("told once");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(spool.take_disk_error().is_none());
        assert!(drain(&mut spool).await.unwrap() == bytes(0, n));
        // Tried again when everything has been taken.
        plan.space.store(u64::MAX, Ordering::Relaxed);
        let n = fill(&mut spool, 7).await;
        assert_eq!(n as u64, MEMORY + DISK);
        assert!(drain(&mut spool).await.unwrap() == bytes(7, n));
    });
}

#[test]
fn without_a_file_the_memory_still_passes_bytes() {
    let place = Shaky::new(u64::MAX);
    place.0.no_files.store(true, Ordering::Relaxed);
    on_core(move || async move {
        let mut spool = Spool::at(0, DISK, place);
        for round in 0..5 {
            let n = fill(&mut spool, round).await;
            assert!(n as u64 >= LEAST_MEMORY);
            assert!(drain(&mut spool).await.unwrap() == bytes(round, n));
        }
        let error = spool.take_disk_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(spool.spilled_bytes(), 0);
    });
}

#[test]
fn without_a_disk_bound_there_is_only_memory() {
    on_core(|| async {
        let mut spool = Spool::new(MEMORY, 0, Path::new("/nowhere"));
        assert_eq!(fill(&mut spool, 0).await as u64, MEMORY);
        spool.consume(10);
        assert_eq!(spool.room(), 10);
        assert!(spool.take_disk_error().is_none());
    });
}

#[test]
fn bytes_that_cannot_be_read_back_are_an_error() {
    let place = Shaky::new(u64::MAX);
    let plan = Arc::clone(&place.0);
    on_core(move || async move {
        let mut spool = Spool::at(MEMORY, DISK, place);
        fill(&mut spool, 0).await;
        plan.unreadable.store(true, Ordering::Relaxed);
        let error = drain(&mut spool).await.unwrap_err();
        assert_eq!(error.to_string(), "unreadable");
    });
}

#[test]
fn a_spool_may_go_away_in_the_middle_of_a_write() {
    let place = Shaky::new(u64::MAX);
    on_core(move || async move {
        for _ in 0..100 {
            let mut spool = Spool::at(MEMORY, DISK, place.clone());
            spool.push(&bytes(0, spool.room()));
            // The write has begun, or waits for its turn, or is done: whatever the file threads make of it.
            glance(&mut spool).await.unwrap();
        }
        let mut spool = Spool::at(MEMORY, DISK, place);
        let n = fill(&mut spool, 3).await;
        assert!(drain(&mut spool).await.unwrap() == bytes(3, n));
    });
}
