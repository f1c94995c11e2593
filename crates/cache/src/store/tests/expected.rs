//! A directory that comes later: another process still has it.

use std::path::Path;
use std::time::Instant;

use super::super::disk::testing::Dir;
use super::disk::{crash, load, open, stats, until};
use super::*;

/// What another process has left on disk.
fn left(dir: &Dir, all: &[&str]) {
    let store = open(dir, 64 * MIB);
    for at in all {
        put(&store, at, b"old");
        assert!(ready(&store, at).is_some());
    }
    until(|| stats(&store).written == all.len() as u64);
    crash(store);
}

#[test]
fn purges_are_acknowledged_with_the_directory_and_hold_there() {
    let dir = Dir::new("expected");
    left(&dir, &["a/purged", "a/invalid", "a/kept"]);
    let store = Store::new(64 * MIB);
    store.expect();
    let path = b"/purged";
    let purged = store.purge_soon(&Purge::Path { host: "a", path }, false);
    store.invalidate(&Purge::Key(key("a/invalid")), false);
    let poll = || store.poll_durable(purged.sequence, &mut context());
    assert!(poll().is_pending());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| store.purge(&Purge::Tag(b"red"), false));
        dir.take(|| store.attach(&dir.0, super::disk::SIZE));
        assert!(waits.join().unwrap().is_ok());
    });
    until(|| matches!(poll(), Poll::Ready(Ok(()))));
    until(|| stats(&store).is_recovered);
    let is_there = |store: &Arc<Store>, at| load(store, at, "").is_some();
    assert!(!is_there(&store, "a/purged") && !is_there(&store, "a/invalid"));
    assert!(is_there(&store, "a/kept"));
    crash(store);
    let store = open(&dir, 64 * MIB);
    assert!(!is_there(&store, "a/purged") && !is_there(&store, "a/invalid"));
    assert!(is_there(&store, "a/kept"));
}

#[test]
fn whoever_waits_in_vain_is_told() {
    let store = Store::new(MIB);
    store.expect();
    let purged = store.purge_soon(&Purge::Everything, false);
    let poll = || store.poll_durable(purged.sequence, &mut context());
    assert!(poll().is_pending());
    let nowhere = Path::new("/dev/null/cache");
    assert!(store.attach(nowhere, super::disk::SIZE).is_err());
    assert!(matches!(poll(), Poll::Ready(Err(_))));
    assert!(store.purge(&Purge::Everything, false).is_err());
    store.release(Instant::now());
    assert!(matches!(poll(), Poll::Ready(Err(_))));
    store.expect_no_more();
    assert!(matches!(poll(), Poll::Ready(Ok(()))));
}

/// What was saved in one directory is not for that in the next.
#[test]
fn another_directory_begins_anew() {
    let (first, second) = (Dir::new("first"), Dir::new("second"));
    let store = open(&first, 64 * MIB);
    put(&store, "a/x", b"x");
    assert!(ready(&store, "a/x").is_some());
    until(|| stats(&store).written == 1);
    store.release(Instant::now());
    second.take(|| store.attach(&second.0, super::disk::SIZE));
    until(|| stats(&store).is_recovered);
    assert!(ready(&store, "a/x").is_some());
    until(|| stats(&store).written == 1);
    store.release(Instant::now());
    crash(store);
    let store = open(&second, 64 * MIB);
    assert!(load(&store, "a/x", "").is_some());
}
