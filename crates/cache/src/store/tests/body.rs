//! Bodies: whole, growing, too large, cut.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::super::body::{ONE_MAX, PIECE};
use super::*;

struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7) as u8).collect()
}

fn all(body: &Body) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = body
        .piece(all.len() as u64)
        .filter(|piece| !piece.is_empty())
    {
        all.extend_from_slice(piece);
    }
    all
}

#[test]
fn every_length_comes_out_as_it_went_in() {
    let store = Store::new(64 * MIB);
    let edge = PIECE;
    for length in [
        0,
        1,
        4095,
        4096,
        4097,
        edge - 1,
        edge,
        edge + 1,
        3 * edge,
        3 * edge + 5,
        5 * edge,
    ] {
        for known in [None, Some(length as u64)] {
            for chunk in [1_000, 16_384, edge * 2] {
                let expected = bytes(length);
                let mut writer = lead(&store, "a/x")
                    .publish(keep(), b"", ROOM, known)
                    .unwrap();
                let object = Arc::clone(writer.object());
                let mut read = Vec::new();
                let mut buffer = vec![0; 5_000];
                for part in expected.chunks(chunk) {
                    writer.push(part).unwrap();
                    while let Poll::Ready(Read::Bytes(count)) =
                        object
                            .body
                            .poll_read(read.len() as u64, &mut buffer, &mut context())
                    {
                        read.extend_from_slice(&buffer[..count]);
                    }
                    assert_eq!(read.len() as u64, object.body.len());
                }
                writer.finish();
                let end = object
                    .body
                    .poll_read(read.len() as u64, &mut buffer, &mut context());
                assert_eq!(end, Poll::Ready(Read::End));
                assert!(
                    read == expected && all(&object.body) == expected,
                    "{length} {known:?} {chunk}"
                );
                if length as u64 <= ONE_MAX && known.is_some() {
                    assert_eq!(object.body.piece(0).unwrap().len(), length);
                }
                let mut late = vec![0; length + 1];
                let read = object
                    .body
                    .poll_read(1.min(length as u64), &mut late, &mut context());
                assert!(matches!(read, Poll::Ready(Read::Bytes(_) | Read::End)));
            }
        }
    }
    store.invalidate(&Purge::Key(key("a/x")), false);
    assert_empty(&store);
}

#[test]
fn readers_are_woken_once_for_each_piece() {
    let store = Store::new(MIB);
    let mut writer = lead(&store, "a/x")
        .publish(keep(), b"", ROOM, None)
        .unwrap();
    let object = Arc::clone(writer.object());
    let tasks: Vec<Arc<Counted>> = (0..200)
        .map(|_| Arc::new(Counted(AtomicUsize::new(0))))
        .collect();
    let mut buffer = [0; 4];
    for _ in 0..5 {
        for task in &tasks {
            let waker = Waker::from(Arc::clone(task));
            let mut cx = Context::from_waker(&waker);
            assert!(object.body.poll_read(0, &mut buffer, &mut cx).is_pending());
        }
    }
    writer.push(b"x").unwrap();
    // at most once for each time the list was not looked through, at least once
    let woken: Vec<usize> = tasks
        .iter()
        .map(|task| task.0.load(Ordering::Relaxed))
        .collect();
    assert!(
        woken.iter().all(|&count| (1..=3).contains(&count)),
        "{woken:?}"
    );
    drop(writer);
    assert_eq!(
        object.body.poll_read(0, &mut buffer, &mut context()),
        Poll::Ready(Read::Bytes(1))
    );
    assert_eq!(
        object.body.poll_read(1, &mut buffer, &mut context()),
        Poll::Ready(Read::Cut)
    );
    assert!(object.body.is_cut());
}

#[test]
fn a_body_that_does_not_come_whole_is_not_there_and_the_old_one_is() {
    let store = Store::new(MIB);
    put(&store, "a/x", b"old");
    let mut writer = lead(&store, "a/x")
        .publish(keep(), b"", ROOM, Some(10))
        .unwrap();
    let object = Arc::clone(writer.object());
    writer.push(b"new").unwrap();
    assert!(Arc::ptr_eq(&ready(&store, "a/x").unwrap(), &object));
    writer.finish(); // 7 bytes are missing
    assert!(object.body.is_cut() && !object.body.is_complete());
    assert_eq!(body(find(&store, "a/x", "")).unwrap(), b"old");
    assert_eq!(store.stats().counts.cuts, 1);
}

#[test]
fn a_body_longer_than_announced_is_cut() {
    let store = Store::new(MIB);
    let mut writer = lead(&store, "a/x")
        .publish(keep(), b"", ROOM, Some(2))
        .unwrap();
    assert_eq!(writer.push(b"abc"), Err(Why::Truncated));
    assert_eq!(writer.push(b"abc"), Ok(()));
    writer.finish();
    assert_empty(&store);
}

#[test]
fn an_object_that_becomes_too_large_goes_on_through_a_window() {
    let store = Store::new(256 * MIB);
    let room = Room {
        object_max: MIB,
        ..ROOM
    };
    let mut writer = lead(&store, "a/x")
        .publish(keep(), b"", room, None)
        .unwrap();
    let (fast, slow) = (Arc::clone(writer.object()), Arc::clone(writer.object()));
    let chunk = bytes(64 * 1024);
    let mut buffer = vec![0; chunk.len()];
    let mut refused = 0;
    for at in 0..512_u64 {
        refused += usize::from(writer.push(&chunk) == Err(Why::TooLarge));
        let read = fast
            .body
            .poll_read(at * chunk.len() as u64, &mut buffer, &mut context());
        assert_eq!(read, Poll::Ready(Read::Bytes(chunk.len())));
        assert!(buffer == chunk);
    }
    assert_eq!(refused, 1);
    assert!(matches!(
        find(&store, "a/x", ""),
        Found::HitForMiss(Why::TooLarge)
    ));
    assert!(writer.is_followed());
    let bytes = store.stats().bytes;
    assert!(bytes < 9 * MIB, "{bytes} bytes for a window of 8 MiB");
    assert_eq!(
        slow.body.poll_read(0, &mut buffer, &mut context()),
        Poll::Ready(Read::Cut)
    );
    drop((fast, slow));
    assert!(!writer.is_followed());
    drop(writer);
    assert_empty(&store);
}

#[test]
fn what_is_announced_too_large_is_not_begun() {
    let store = Store::new(64 * MIB);
    let room = Room {
        object_max: 10,
        ..ROOM
    };
    let refused = lead(&store, "a/x").publish(keep(), b"", room, Some(11));
    assert_eq!(refused.err(), Some(Why::TooLarge));
    assert!(matches!(
        find(&store, "a/x", ""),
        Found::HitForMiss(Why::TooLarge)
    ));
    // nor what would take more than its share of the memory
    let refused = lead(&store, "a/y").publish(keep(), b"", ROOM, Some(17 * MIB));
    assert_eq!(refused.err(), Some(Why::TooLarge));
}

#[test]
fn of_two_that_fill_one_cut_does_not_bring_back_the_other() {
    let store = Store::new(MIB);
    let writer = |lead: Lead| lead.publish(keep(), b"", ROOM, None).unwrap();
    let first = writer(lead(&store, "a/x"));
    let second = writer(store.alone(&key("a/x"), 0));
    drop(first);
    drop(second);
    assert!(ready(&store, "a/x").is_none());
    assert_empty(&store);
}
