//! What an object takes beside its body and head, by the memory that the process has: allocator's share included. In a process of its
//! own, so that nothing else is counted.

use std::time::Duration;

use narthex_cache::policy::{Keep, Meta};
use narthex_cache::store::{Found, Key, Room, Store};
use narthex_message::Span;

/// The one that the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OBJECTS: usize = 100_000;
const BODY: usize = 1024;
const PAGE: usize = 4096;
/// What the page of the cache promises.
const OVERHEAD_MAX: usize = 300;
const ROOM: Room = Room {
    object_max: 1 << 20,
    vary_max: 64,
    quota: None,
};
const VARIANT: &[u8] = b"gzip";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: max-age=3600\r\n\
    ETag: \"5f3e-1a2b3c4d\"\r\nLast-Modified: Sat, 28 Nov 2026 10:00:00 GMT\r\nDate: Sat, 28 Nov 2026 12:00:00 GMT\r\n\r\n";

fn keep() -> Keep {
    Keep {
        meta: Meta {
            status: 200,
            received_ms: 1_000,
            initial_age_s: 0,
            lifetime_s: 3_600,
            while_revalidate_s: 0,
            if_error_s: 0,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
            no_transform: false,
            heuristic: false,
            etag: Span::default(),
            last_modified_s: Some(1),
            date_s: 1,
            length: Some(BODY as u64),
            part: None,
        },
        head: HEAD.to_vec(),
        // as most answers that are compressed for some do
        vary: vec![b"accept-encoding".as_slice().into()],
        tags: Vec::new(),
    }
}

fn with_key<T>(number: usize, f: impl FnOnce(&Key<'_>) -> T) -> T {
    let path = format!("/articles/{number:06}.html");
    let bytes = format!("https\0www.example.com\0443\0{path}");
    f(&Key::new(
        bytes.as_bytes(),
        "www.example.com",
        path.as_bytes(),
        0,
    ))
}

#[test]
fn an_object_takes_less_than_300_bytes_beside_body_and_head() {
    // bytes of memory that the process has
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE
    };
    // nanoseconds that this thread has had a processor
    let processor = || {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        statistics
            .split(' ')
            .next()
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let store = Store::new(1 << 30);
    let body = [7; BODY];
    let before = resident();
    for number in 0..OBJECTS {
        let lead = with_key(number, |key| {
            store.lead(key, &mut |_, _| {}, 0, Duration::from_secs(30))
        });
        let mut writer = lead
            .ok()
            .unwrap()
            .publish(keep(), VARIANT, ROOM, Some(BODY as u64))
            .unwrap();
        writer.push(&body).unwrap();
        writer.finish();
    }
    let stats = store.stats();
    assert_eq!(stats.objects, OBJECTS);
    let payload = BODY + HEAD.len();
    let measured = (resident() - before) / OBJECTS - payload;
    let counted = stats.bytes as usize / OBJECTS - payload;
    println!("beside {payload} bytes of body and head: {measured} measured, {counted} counted");
    assert!(measured < OVERHEAD_MAX, "{measured} bytes");
    // what is counted is what there is
    assert!(
        counted.abs_diff(measured) < 64,
        "{counted} counted, {measured} measured"
    );

    let keys: Vec<Vec<u8>> = (0..OBJECTS)
        .map(|number| with_key(number, |key| key.bytes.to_vec()))
        .collect();
    for among in [1_000, OBJECTS] {
        let keys: Vec<Key<'_>> = keys
            .iter()
            .take(among)
            .map(|bytes| Key::new(bytes, "", b"", 0))
            .collect();
        let start = processor();
        let mut found = 0;
        let rounds = 1_000_000 / among;
        for _ in 0..rounds {
            // not in the order in which they lie
            for at in (0..among).map(|at| at * 7_919 % among) {
                let is_found = matches!(
                    store.find(
                        &keys[at],
                        &mut |_, value| value.extend_from_slice(VARIANT),
                        0
                    ),
                    Found::Ready { .. }
                );
                found += usize::from(is_found);
            }
        }
        assert_eq!(found, rounds * among);
        let each = (processor() - start) / found;
        println!("to find, hold and let go of one of {among}: {each} ns");
    }
}
