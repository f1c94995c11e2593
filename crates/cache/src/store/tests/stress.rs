//! Eight threads at once.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const THREADS: u64 = 8;
const OPS: u64 = 25_000;
const KEYS: u64 = 300;
const MEMORY: u64 = MIB / 4;

/// The body of a key's version: every byte is known from the first nine.
fn body_of(number: u64, version: u64) -> Vec<u8> {
    let length = 9 + (number * 131 + version * 17) % 2_000;
    let mut body = vec![number as u8];
    body.extend_from_slice(&version.to_le_bytes());
    body.extend((body.len() as u64..length).map(|at| (at ^ number ^ version) as u8));
    body
}

/// Reads what has come of an object and compares it with what it must be.
fn check(object: &Object, number: u64) {
    let name = format!("host/{number}");
    assert_eq!(*object.key(), *name.as_bytes(), "another key's object");
    let mut read = vec![0; 2_100];
    let mut at = 0;
    while let Poll::Ready(Read::Bytes(count)) =
        object
            .body
            .poll_read(at as u64, &mut read[at..], &mut context())
    {
        at += count;
    }
    if at < 9 {
        return;
    }
    let version = u64::from_le_bytes(read[1..9].try_into().unwrap());
    let expected = body_of(number, version);
    assert_eq!(read[..at], expected[..at], "wrong bytes");
    if object.body.is_complete() {
        assert_eq!(object.body.len(), expected.len() as u64);
    }
}

fn work(store: &Arc<Store>, versions: &AtomicU64, thread: u64) {
    let mut state = thread + 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    };
    let mut writers: Vec<(Writer, Vec<u8>, usize)> = Vec::new();
    let mut read = Vec::new();
    for op in 0..OPS {
        let number = random() % KEYS;
        let name = format!("host/{number}");
        let key = key(&name);
        match store.find(&key, &mut none, op) {
            Found::Ready { object, .. } => {
                check(&object, number);
                if random() % 8 == 0 {
                    read.push((object, number));
                }
            }
            Found::Filling(fill) => {
                if let Poll::Ready(Outcome::Object(object)) = fill.poll(&mut context()) {
                    check(&object, number);
                }
            }
            Found::HitForMiss(_) | Found::Missing { .. } => {
                if let Ok(lead) = store.lead_after(&key, &mut none, op, AGE, None) {
                    let body = body_of(number, versions.fetch_add(1, Ordering::Relaxed));
                    let length = (random() % 2 == 0).then_some(body.len() as u64);
                    match random() % 16 {
                        0 => lead.refuse(Why::NoStore, Duration::from_millis(20)),
                        1 => drop(lead),
                        _ => {
                            if let Ok(writer) = lead.publish(keep(), b"", ROOM, length) {
                                writers.push((writer, body, 0));
                            }
                        }
                    }
                }
            }
        }
        match random() % 64 {
            0 => {
                store.invalidate(&Purge::Key(key), random() % 2 == 0);
            }
            1 if random() % 8 == 0 => {
                store.invalidate(&Purge::Host("host"), random() % 2 == 0);
            }
            2 => drop(store.sweep(50)),
            3 if !writers.is_empty() => drop(writers.swap_remove(0)),
            4 => read.clear(),
            5 => {
                if let Found::Ready { object, .. } = store.find(&key, &mut none, op)
                    && let Ok(lead) = store.lead(&key, &mut none, op, AGE)
                {
                    check(&lead.refresh(&object, keep()), number);
                }
            }
            _ => {}
        }
        while writers.len() > 4 || (random() % 2 == 0 && !writers.is_empty()) {
            let (mut writer, body, at) = writers.swap_remove(0);
            let end = (at + 1 + (random() % 1_000) as usize).min(body.len());
            let _ = writer.push(&body[at..end]);
            if end == body.len() {
                writer.finish();
            } else {
                writers.push((writer, body, end));
            }
        }
        for (object, number) in &read {
            if random() % 16 == 0 {
                check(object, *number);
            }
        }
        if read.len() > 8 {
            read.clear();
        }
    }
}

#[test]
fn never_a_wrong_byte_and_never_too_many() {
    let store = Store::new(MEMORY);
    let versions = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, versions) = (&store, &versions);
            scope.spawn(move || work(store, versions, thread));
        }
    });
    let stats = store.stats();
    assert!(stats.bytes <= MEMORY, "{stats:?}");
    assert_eq!(stats.fills, 0);
    assert!(
        stats.counts.evictions > 0 && stats.counts.hits > 0 && stats.counts.purged > 0,
        "{stats:?}"
    );
    // what is left goes, and nothing is counted any more
    store.invalidate(&Purge::Everything, false);
    for _ in 0..2 {
        while !store.sweep(1_000) {}
    }
    assert_empty(&store);
}
