//! Everything at once, and again and again: what a purge has covered is never seen again, and every body is of one answer.

use std::sync::atomic::AtomicU64;
use std::thread;

use super::super::disk::testing::{Dir, Random};
use super::disk::{crash, get, open, stats};
use super::*;

const KEYS: u64 = 24;

/// Of a key.
#[derive(Default)]
struct Clock {
    /// The last answer that an origin has given.
    version: AtomicU64,
    /// Answers up to this one are covered by purges that have returned.
    floor: AtomicU64,
}

fn at(key: u64) -> String {
    format!("h{}/{key}", key % 3)
}

fn content(key: u64, version: u64) -> Vec<u8> {
    let mut random = Random(key << 32 | version << 1 | 1);
    let length = random.below(if version.is_multiple_of(16) {
        200_000
    } else {
        3_000
    });
    let mut body = format!("{version} ").into_bytes();
    body.extend((0..length).map(|_| random.below(256) as u8));
    body
}

/// What a request sees. Which answer; a body that is of none is a panic.
fn version(key: u64, object: &Object) -> Option<u64> {
    let mut body = Vec::new();
    loop {
        // one that still comes is for the reader of another test
        let piece = object.body.piece(body.len() as u64)?;
        if piece.is_empty() {
            break;
        }
        body.extend_from_slice(piece);
    }
    let end = body.iter().position(|byte| *byte == b' ').unwrap();
    let version = std::str::from_utf8(&body[..end]).unwrap().parse().unwrap();
    assert!(body == content(key, version), "wrong bytes of {key}");
    Some(version)
}

fn fetch(store: &Arc<Store>, clock: &Clock, key: u64, random: &mut Random) {
    let at = at(key);
    let Ok(lead) = store.lead(&super::key(&at), &mut none, 0, AGE) else {
        return;
    };
    let version = clock.version.fetch_add(1, Ordering::SeqCst) + 1;
    if random.below(16) == 0 {
        return lead.refuse(Why::NoStore, Duration::ZERO);
    }
    let mut keep = keep();
    keep.tags = vec![format!("tag{}", key % 4).as_bytes().into()];
    let body = content(key, version);
    if let Ok(mut writer) = lead.publish(keep, b"", ROOM, Some(body.len() as u64)) {
        let half = body.len() / 2;
        let _ = writer.push(&body[..half]);
        if random.below(16) > 0 {
            let _ = writer.push(&body[half..]);
            writer.finish();
        }
    }
}

fn purge(store: &Arc<Store>, clocks: &[Clock], key: u64, random: &mut Random) {
    let versions: Vec<u64> = clocks
        .iter()
        .map(|c| c.version.load(Ordering::SeqCst))
        .collect();
    let (at, host) = (at(key), format!("h{}", key % 3));
    let path = format!("/{key}");
    let tag = format!("tag{}", key % 4);
    let (purge, is_covered): (_, Box<dyn Fn(u64) -> bool>) = match random.below(5) {
        0 => (Purge::Host(&host), Box::new(|other| other % 3 == key % 3)),
        1 => (
            Purge::Tag(tag.as_bytes()),
            Box::new(|other| other % 4 == key % 4),
        ),
        2 => {
            let path = path.as_bytes();
            let place = Purge::Path { host: &host, path };
            (place, Box::new(|other| other == key))
        }
        _ => (Purge::Key(super::key(&at)), Box::new(|other| other == key)),
    };
    if random.below(4) == 0 {
        store.purge_soon(&purge, false);
    } else {
        store.purge(&purge, false).unwrap();
    }
    for (key, clock) in clocks
        .iter()
        .enumerate()
        .filter(|(key, _)| is_covered(*key as u64))
    {
        clock.floor.fetch_max(versions[key], Ordering::SeqCst);
    }
}

fn look(store: &Arc<Store>, clock: &Clock, key: u64) -> bool {
    let floor = clock.floor.load(Ordering::SeqCst);
    let Some((object, _)) = get(store, &at(key), "") else {
        return false;
    };
    let version = version(key, &object);
    assert!(
        version.is_none_or(|version| version > floor),
        "{key}: {version:?} after {floor}"
    );
    version.is_some()
}

#[test]
fn nothing_comes_back_after_a_purge_whatever_happens_at_the_same_time() {
    let dir = Dir::new("races");
    let clocks: Vec<Clock> = (0..KEYS).map(|_| Clock::default()).collect();
    let (mut found, mut loaded) = (0, 0);
    for round in 0..12 {
        // room for some of them only
        let store = open(&dir, if round % 2 == 0 { MIB } else { 64 * MIB });
        for key in 0..KEYS {
            found += u64::from(look(&store, &clocks[key as usize], key));
        }
        thread::scope(|scope| {
            for worker in 0..4_u64 {
                let (store, clocks) = (&store, &clocks);
                scope.spawn(move || {
                    let mut random = Random(round << 8 | worker << 1 | 1);
                    for _ in 0..600 {
                        let key = random.below(KEYS);
                        let clock = &clocks[key as usize];
                        match random.below(12) {
                            0..3 => fetch(store, clock, key, &mut random),
                            3 if worker == 0 => purge(store, clocks, key, &mut random),
                            4 if worker == 1 => drop(store.sweep(5)),
                            _ => drop(look(store, clock, key)),
                        }
                    }
                });
            }
        });
        loaded += stats(&store).hits;
        assert_eq!((stats(&store).corrupt, stats(&store).errors), (0, 0));
        assert!(dir.bytes() <= super::disk::SIZE);
        if round % 3 == 0 {
            store.release(std::time::Instant::now() + AGE);
        }
        crash(store);
    }
    println!("{found} found after a restart, {loaded} loaded");
    assert!(found > 20 && loaded > 100, "{found} {loaded}");
}
