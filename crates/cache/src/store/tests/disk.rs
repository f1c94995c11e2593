//! The store with a directory: what comes back from the disk, and what does not.

use std::fs;
use std::time::Instant;

use super::super::disk::testing::Dir;
use super::super::tier::Tier;
use super::*;

pub const SIZE: u64 = 16 * MIB;

/// A store with the directory, which has been read.
pub fn open(dir: &Dir, memory: u64) -> Arc<Store> {
    let store = Store::new(memory);
    dir.take(|| store.attach(&dir.0, SIZE));
    until(|| stats(&store).is_recovered);
    store
}

pub fn stats(store: &Store) -> DiskStats {
    store.disk().unwrap()
}

/// Waits for another thread.
pub fn until(mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
}

/// Asks the disk for a variant. What is there then, and whether it is soft.
pub fn load(store: &Arc<Store>, at: &str, of: &str) -> Option<(Arc<Object>, bool)> {
    let key = key(at);
    if !store.on_disk(&key) {
        return None;
    }
    let lead = store.lead_after(&key, &mut value(of), 0, AGE, None);
    let loading = store.load(lead.ok()?, ROOM).ok()?;
    let mut lead = None;
    until(|| match loading.poll(&mut value(of), &mut context()) {
        Poll::Ready(back) => {
            lead = back;
            true
        }
        Poll::Pending => false,
    });
    if lead.is_some() {
        return None;
    }
    match find(store, at, of) {
        Found::Ready { object, soft } => Some((object, soft)),
        _ => None,
    }
}

/// As a client gets it: from memory or from disk.
pub fn get(store: &Arc<Store>, at: &str, of: &str) -> Option<(Arc<Object>, bool)> {
    match find(store, at, of) {
        Found::Ready { object, soft } => Some((object, soft)),
        _ => load(store, at, of),
    }
}

fn bytes(found: Option<(Arc<Object>, bool)>) -> Option<Vec<u8>> {
    let (object, _) = found?;
    let mut whole = Vec::new();
    while let Some(piece) = object
        .body
        .piece(whole.len() as u64)
        .filter(|p| !p.is_empty())
    {
        whole.extend_from_slice(piece);
    }
    Some(whole)
}

/// Asked for twice, and so on disk.
fn put_saved(store: &Arc<Store>, at: &str, body: &[u8]) {
    let before = stats(store).written;
    put(store, at, body);
    assert!(ready(store, at).is_some());
    until(|| stats(store).written > before);
}

fn save(store: &Arc<Store>, at: &str) {
    let before = stats(store).written;
    assert!(ready(store, at).is_some());
    until(|| stats(store).written > before);
}

fn release(store: &Store) {
    store.release(Instant::now() + Duration::from_secs(20));
    assert!(store.disk().is_none());
}

/// The process ends without a word.
pub fn crash(store: Arc<Store>) {
    // a thread may be about to let go of it
    until(|| Arc::strong_count(&store) == 1);
    drop(store);
}

#[test]
fn what_was_hit_is_there_after_a_crash_with_all_that_it_means() {
    let dir = Dir::new("store-all");
    let store = open(&dir, 64 * MIB);
    let mut keep = vary(&["accept", "x"]);
    keep.meta.etag = narthex_message::Span::new(23, 26);
    keep.meta.last_modified_s = Some(7);
    keep.meta.part = Some((3, 9));
    keep.meta.length = Some(100);
    keep.meta.must_revalidate = true;
    keep.head = b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\n\r\n".to_vec();
    keep.tags = vec![b"red".as_slice().into(), b"blue".as_slice().into()];
    let (meta, head) = (keep.meta, keep.head.clone());
    let mut want = value("de");
    let lead = store.lead(&key("a/x"), &mut want, 0, AGE).ok().unwrap();
    let mut variant = Vec::new();
    want(&keep.vary, &mut variant);
    let mut writer = lead.publish(keep, &variant, ROOM, Some(7)).unwrap();
    writer.push(b"exactly").unwrap();
    writer.finish();
    // one that is not asked for again, and a body of several pieces
    put(&store, "a/once", b"once");
    let large: Vec<u8> = (0..1_300_000_u32).map(|n| (n % 251) as u8).collect();
    let small_store = Store::new(MIB);
    put(&store, "a/large", &large[..400_000]);
    assert!(body(find(&store, "a/x", "de")).is_some());
    assert!(ready(&store, "a/large").is_some());
    until(|| stats(&store).written == 2);
    crash(store);
    drop(small_store);

    let store = open(&dir, 64 * MIB);
    assert!(ready(&store, "a/x").is_none());
    assert!(load(&store, "a/x", "fr").is_none(), "another variant");
    let (object, soft) = load(&store, "a/x", "de").unwrap();
    assert!(!soft);
    assert_eq!((object.head(), object.meta()), (&head[..], meta));
    assert_eq!(object.variant(), variant);
    assert_eq!(object.vary(), vary(&["accept", "x"]).vary);
    assert_eq!((object.host(), object.path()), (&b"a"[..], &b"/x"[..]));
    assert_eq!(object.key(), b"a/x");
    assert_eq!(object.tags(), [hash(b"red"), hash(b"blue")]);
    assert_eq!(bytes(Some((object, false))).unwrap(), b"exactly");
    assert_eq!(
        bytes(load(&store, "a/large", "")).unwrap(),
        large[..400_000]
    );
    assert!(load(&store, "a/once", "").is_none());
    assert_eq!(stats(&store).hits, 2);
    // it is in memory now, and on disk as before
    assert!(ready(&store, "a/large").is_some());
    assert_eq!((stats(&store).written, stats(&store).admitted), (0, 0));
    store.invalidate(&Purge::Everything, false);
    while !store.sweep(10_000) {}
    release(&store);
    assert_empty(&store);
}

#[test]
fn a_large_body_comes_back_in_pieces() {
    let dir = Dir::new("store-large");
    let store = Store::new(64 * MIB);
    dir.take(|| store.attach(&dir.0, 256 * MIB));
    until(|| stats(&store).is_recovered);
    let large: Vec<u8> = (0..5_300_000_u32).map(|n| (n % 251) as u8).collect();
    put_saved(&store, "a/large", &large);
    crash(store);
    let store = Store::new(64 * MIB);
    dir.take(|| store.attach(&dir.0, 256 * MIB));
    until(|| stats(&store).is_recovered);
    assert_eq!(bytes(load(&store, "a/large", "")).unwrap(), large);
    // one that is too large for the memory is for the origin
    let small = Store::new(8 * MIB);
    crash(store);
    dir.take(|| small.attach(&dir.0, 256 * MIB));
    until(|| stats(&small).is_recovered);
    assert!(load(&small, "a/large", "").is_none());
    assert_eq!(stats(&small).corrupt, 0);
}

#[test]
fn what_was_missed_before_is_written_when_it_comes() {
    let dir = Dir::new("store-admit");
    let store = open(&dir, 64 * MIB);
    for at in ["a/1", "a/2"] {
        assert!(ready(&store, at).is_none());
        put(&store, at, b"x");
    }
    store.invalidate(&Purge::Key(key("a/1")), false);
    assert!(ready(&store, "a/1").is_none());
    put(&store, "a/1", b"y");
    until(|| stats(&store).written == 1);
    crash(store);
    let store = open(&dir, 64 * MIB);
    assert_eq!(bytes(load(&store, "a/1", "")).unwrap(), b"y");
    assert!(!store.on_disk(&key("a/2")));
}

#[test]
fn at_the_end_everything_is_written_that_is_worth_it() {
    let dir = Dir::new("store-end");
    let store = open(&dir, 64 * MIB);
    let put = |store: &Arc<Store>, at: &str, body: &str| {
        let mut keep = keep();
        keep.meta.last_modified_s = Some(1); // it can be asked about
        let mut writer = lead(store, at).publish(keep, b"", ROOM, None).unwrap();
        writer.push(body.as_bytes()).unwrap();
        writer.finish();
    };
    for n in 0..300 {
        put(&store, &format!("a/{n}"), &format!("body {n}"));
    }
    // of no use any more
    super::put(&store, "a/over", b"over");
    store.invalidate(&Purge::Key(key("a/7")), true);
    store.invalidate(
        &Purge::Path {
            host: "a",
            path: b"/8",
        },
        false,
    );
    let begun = stats(&store).written;
    assert_eq!(begun, 0);
    release(&store);
    // it goes on in memory, and what it forgets now is forgotten here only
    assert!(ready(&store, "a/9").is_some());
    store.purge(&Purge::Key(key("a/9")), false).unwrap();
    assert!(ready(&store, "a/9").is_none() && load(&store, "a/9", "").is_none());
    let other = open(&dir, 64 * MIB);
    for n in 0..300 {
        let is_there = n != 7 && n != 8;
        let found = bytes(load(&other, &format!("a/{n}"), ""));
        assert_eq!(
            found,
            is_there.then(|| format!("body {n}").into_bytes()),
            "{n}"
        );
    }
    assert!(!other.on_disk(&key("a/over")));
    // no time
    let store = other;
    put(&store, "a/late", "late");
    store.release(Instant::now());
    let store = open(&dir, 64 * MIB);
    assert!(!store.on_disk(&key("a/late")));
}

#[test]
fn purges_hold_on_disk_after_a_crash() {
    let place = |path: &'static [u8]| Purge::Path { host: "a", path };
    let prefix = Purge::Prefix {
        host: "a",
        path: b"/b/",
    };
    let cases: [(Purge<'_>, &[&str]); 6] = [
        (Purge::Key(key("a/1")), &["a/1"]),
        (place(b"/b/1"), &["a/b/1"]),
        (prefix, &["a/b/1", "a/b/2"]),
        (Purge::Host("b"), &["b/1"]),
        (Purge::Tag(b"tag of a/1"), &["a/1"]),
        (Purge::Everything, &["a/1", "a/b/1", "a/b/2", "b/1"]),
    ];
    for (number, (purge, covered)) in cases.iter().enumerate() {
        for soft in [false, true] {
            for is_loaded in [false, true] {
                let dir = Dir::new(&format!("store-purge-{number}-{soft}-{is_loaded}"));
                let mut store = open(&dir, 64 * MIB);
                for at in ["a/1", "a/b/1", "a/b/2", "b/1"] {
                    let mut keep = keep();
                    keep.tags = vec![format!("tag of {at}").as_bytes().into()];
                    let mut writer = lead(&store, at).publish(keep, b"", ROOM, None).unwrap();
                    writer.push(at.as_bytes()).unwrap();
                    writer.finish();
                    save(&store, at);
                }
                if !is_loaded {
                    crash(store);
                    store = open(&dir, 64 * MIB);
                }
                store.purge(purge, soft).unwrap();
                let check = |store: &Arc<Store>| {
                    for at in ["a/1", "a/b/1", "a/b/2", "b/1"] {
                        let found = get(store, at, "");
                        let seen = found.as_ref().map(|(_, soft)| *soft);
                        let expected = match covered.contains(&at) {
                            true if !soft => None,
                            is_covered => Some(is_covered),
                        };
                        assert_eq!(seen, expected, "{number} {soft} {is_loaded} {at}");
                    }
                };
                check(&store);
                crash(store);
                let store = open(&dir, 64 * MIB);
                check(&store);
                // what comes later is not covered
                put_saved(&store, "a/1", b"new");
                crash(store);
                let store = open(&dir, 64 * MIB);
                assert_eq!(bytes(load(&store, "a/1", "")).unwrap(), b"new");
            }
        }
    }
}

#[test]
fn what_an_answer_makes_unusable_does_not_come_back() {
    let dir = Dir::new("store-refused");
    let store = open(&dir, 64 * MIB);
    for at in ["a/1", "a/2", "a/3"] {
        put_saved(&store, at, b"old");
    }
    lead(&store, "a/1").refuse(Why::NoStore, Duration::ZERO);
    lead(&store, "a/2").refuse(Why::Status, Duration::ZERO);
    store.invalidate(&Purge::Key(key("a/3")), false);
    // nothing waits for these, but for the next purge
    store.purge(&Purge::Host("other"), false).unwrap();
    crash(store);
    let store = open(&dir, 64 * MIB);
    assert!(load(&store, "a/1", "").is_none());
    assert_eq!(bytes(load(&store, "a/2", "")).unwrap(), b"old");
    assert!(load(&store, "a/3", "").is_none());
}

/// Any client that may send unsafe requests can do this.
#[test]
fn what_is_made_unusable_and_was_never_there_costs_the_others_nothing() {
    let dir = Dir::new("store-void");
    let store = open(&dir, 64 * MIB);
    put_saved(&store, "a/kept", b"kept");
    for n in 0..20_000 {
        let at = format!("a/{n}");
        store.invalidate(&Purge::Key(key(&at)), false);
    }
    crash(store);
    let store = open(&dir, 64 * MIB);
    assert_eq!(bytes(load(&store, "a/kept", "")).unwrap(), b"kept");
    store.invalidate(&Purge::Key(key("a/kept")), false);
    assert!(get(&store, "a/kept", "").is_none());
}

#[test]
fn the_newest_answer_is_the_one_that_comes_back() {
    let dir = Dir::new("store-newest");
    let store = open(&dir, 64 * MIB);
    put_saved(&store, "a/x", b"1");
    // without being asked for again: the one on disk is not the last one any more
    put(&store, "a/x", b"2");
    until(|| stats(&store).written == 2);
    assert_eq!(stats(&store).objects, 1);
    crash(store);
    let store = open(&dir, 64 * MIB);
    let (object, _) = load(&store, "a/x", "").unwrap();
    // a 304: the next hit writes the new head
    let mut again = keep();
    again.meta.received_ms = 9_000;
    lead(&store, "a/x").refresh(&object, again);
    drop(object);
    save(&store, "a/x");
    crash(store);
    let store = open(&dir, 64 * MIB);
    let (object, _) = load(&store, "a/x", "").unwrap();
    assert_eq!(object.meta().received_ms, 9_000);
    assert_eq!(object.body.piece(0).unwrap(), b"2");
}

#[test]
fn another_answer_that_has_come_meanwhile_stays() {
    let dir = Dir::new("store-meanwhile");
    let store = open(&dir, 64 * MIB);
    put_saved(&store, "a/x", b"old");
    crash(store);
    let store = open(&dir, 64 * MIB);
    let fetch = lead(&store, "a/x");
    // somebody who did not want to wait
    let other = store.alone(&key("a/x"), 0);
    let mut writer = other.publish(keep(), b"", ROOM, Some(3)).unwrap();
    writer.push(b"new").unwrap();
    let loading = store.load(fetch, ROOM).ok().unwrap();
    until(|| loading.poll(&mut none, &mut context()).is_ready());
    writer.finish();
    assert_eq!(body(find(&store, "a/x", "")).unwrap(), b"new");
}

#[test]
fn a_purge_while_it_is_loaded_is_not_lost() {
    let dir = Dir::new("store-while");
    let mut store = open(&dir, 64 * MIB);
    put_saved(&store, "a/x", b"old");
    for purge in [Purge::Key(key("a/x")), Purge::Host("a")] {
        crash(store);
        store = open(&dir, 64 * MIB);
        let fetch = lead(&store, "a/x");
        store.invalidate(&purge, false);
        if let Ok(loading) = store.load(fetch, ROOM) {
            until(|| loading.poll(&mut none, &mut context()).is_ready());
        }
        assert!(ready(&store, "a/x").is_none());
        assert_empty(&store);
        put_saved(&store, "a/x", b"old");
    }
}

#[test]
fn followers_of_one_who_asks_the_disk_get_the_object() {
    let dir = Dir::new("store-follow");
    let store = open(&dir, 64 * MIB);
    put_saved(&store, "a/x", b"it");
    crash(store);
    let store = open(&dir, 64 * MIB);
    let fetch = lead(&store, "a/x");
    let Found::Filling(fill) = find(&store, "a/x", "") else {
        panic!("nobody fetches");
    };
    // whoever asked goes away
    drop(store.load(fetch, ROOM));
    until(|| fill.poll(&mut context()).is_ready());
    let Outcome::Object(object) = outcome(&fill) else {
        panic!("it has failed");
    };
    assert_eq!(object.body.piece(0).unwrap(), b"it");
    drop(object);
}

#[test]
fn damage_is_a_miss_that_is_counted() {
    let dir = Dir::new("store-damage");
    let store = open(&dir, 64 * MIB);
    let long: Vec<u8> = (0..300_000_u32).map(|n| (n % 249) as u8 + 1).collect();
    put_saved(&store, "a/x", &long);
    release(&store);
    let segment = dir.files().into_iter().find(|file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.starts_with("segment-")
    });
    let segment = segment.unwrap();
    let good = fs::read(&segment).unwrap();
    let used = long.len() + 300;
    // a byte of the head, one of each block of the body
    for at in (40..used).step_by(65_000) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&segment, bad).unwrap();
        let store = open(&dir, 64 * MIB);
        assert!(load(&store, "a/x", "").is_none(), "{at}");
        assert_eq!(stats(&store).corrupt, 1, "{at}");
        assert!(!store.on_disk(&key("a/x")));
        assert_empty(&store);
    }
    fs::write(&segment, good).unwrap();
    let store = open(&dir, 64 * MIB);
    assert_eq!(bytes(load(&store, "a/x", "")).unwrap(), long);
}

#[test]
fn with_too_much_to_do_the_origin_is_asked() {
    let dir = Dir::new("store-full");
    let store = Store::new(64 * MIB);
    // nobody works
    let tier = Tier::open(&dir.0, SIZE, 0).unwrap();
    *store.tier.write().unwrap() = Some(Arc::clone(&tier));
    store.has_disk.store(true, Ordering::Relaxed);
    let mut loading = Vec::new();
    let lead = loop {
        let at = format!("a/{}", loading.len());
        match store.load(lead(&store, &at), ROOM) {
            Ok(one) => loading.push(one),
            Err(lead) => break lead,
        }
    };
    assert_eq!((loading.len(), stats(&store).skipped), (1_024, 1));
    drop(lead);
    // nor does what waits to be written take the memory's place
    let body = vec![1; MIB as usize];
    for n in 0..100 {
        put(&store, &format!("b/{n}"), &body);
        assert!(ready(&store, &format!("b/{n}")).is_some());
    }
    assert_eq!(stats(&store).admitted, 7);
    // and what had no place is asked again at its next hit
    let skipped = stats(&store).skipped;
    assert!(ready(&store, "b/99").is_some());
    assert_eq!(stats(&store).skipped, skipped + 1);
    // work that was never done fails like a fetch
    tier.close();
    drop(loading);
}

#[test]
fn what_was_purged_while_it_waited_is_not_written_though_the_purge_is_forgotten() {
    let dir = Dir::new("store-waited");
    let store = Store::new(64 * MIB);
    let tier = Tier::open(&dir.0, SIZE, 0).unwrap();
    *store.tier.write().unwrap() = Some(Arc::clone(&tier));
    store.has_disk.store(true, Ordering::Relaxed);
    for at in ["a/1", "b/1"] {
        put(&store, at, b"x");
        assert!(ready(&store, at).is_some());
    }
    store.invalidate(&Purge::Host("a"), false);
    while !store.sweep(1_000) {}
    // nothing on disk is older
    tier.disk.purges.retire(store.purge_sequence());
    tier.flush(&store, Instant::now());
    tier.run_saves(&Arc::downgrade(&store));
    assert_eq!((stats(&store).written, stats(&store).admitted), (1, 2));
    assert!(store.on_disk(&key("b/1")));
}

#[test]
fn the_last_segment_goes_and_what_is_in_memory_is_written_again() {
    let dir = Dir::new("store-again");
    let store = open(&dir, 64 * MIB);
    put_saved(&store, "a/hot", b"hot");
    // more than there is room for
    let body = vec![7; 400_000];
    for n in 0..60 {
        put(&store, &format!("a/{n}"), &body);
        save(&store, &format!("a/{n}"));
    }
    assert!(stats(&store).dropped > 0);
    assert!(dir.bytes() <= SIZE);
    assert!(!store.on_disk(&key("a/hot")));
    save(&store, "a/hot");
    crash(store);
    let store = open(&dir, 64 * MIB);
    assert_eq!(bytes(load(&store, "a/hot", "")).unwrap(), b"hot");
}

#[test]
fn one_directory_at_a_time() {
    let dir = Dir::new("store-one");
    let store = open(&dir, MIB);
    assert!(matches!(
        store.attach(&dir.0, SIZE),
        Err(OpenError::Taken(_))
    ));
    let other = Dir::new("store-one-other");
    assert!(matches!(
        store.attach(&other.0, SIZE),
        Err(OpenError::Taken(_))
    ));
    let second = Store::new(MIB);
    assert!(matches!(
        second.attach(&dir.0, SIZE),
        Err(OpenError::Taken(_))
    ));
    // a purge that was made without a directory, and one with
    second.purge(&Purge::Host("a"), false).unwrap();
    let before = store.purge(&Purge::Host("a"), false).unwrap();
    release(&store);
    dir.take(|| second.attach(&dir.0, SIZE));
    assert!(second.purge_sequence() > before.sequence);
    // what was on the disk of another directory
    put_saved(&second, "a/x", b"x");
    release(&second);
    dir.take(|| second.attach(&other.0, SIZE));
    until(|| stats(&second).is_recovered);
    save(&second, "a/x");
    let purged = second.purge_soon(&Purge::Host("b"), true);
    until(|| {
        second
            .poll_durable(purged.sequence, &mut context())
            .is_ready()
    });
}

/// Times for the page; `NARTHEX_DISK_TIMES` names a directory on the disk that is measured, and makes it as many as there are to be.
#[test]
fn how_long_it_takes() {
    let real = std::env::var_os("NARTHEX_DISK_TIMES");
    let dir = match &real {
        Some(path) => Dir(std::path::Path::new(path).join("narthex-times")),
        None => Dir::new("store-times"),
    };
    let (size, entries) = if real.is_some() {
        (4096 * MIB, 100_000)
    } else {
        (64 * MIB, 1_000)
    };
    let open = || {
        let store = Store::new(1024 * MIB);
        let begun = Instant::now();
        dir.take(|| store.attach(&dir.0, size));
        until(|| stats(&store).is_recovered);
        println!(
            "{} entries read after {:?}",
            stats(&store).objects,
            begun.elapsed()
        );
        store
    };
    let body = |length: usize| (0..length).map(|n| (n % 251) as u8).collect::<Vec<_>>();
    let store = open();
    let sizes = [
        1024,
        100 * 1024,
        if real.is_some() { 10 << 20 } else { 1 << 20 },
    ];
    for length in sizes {
        for n in 0..20 {
            put_saved(&store, &format!("a/{length}/{n}"), &body(length));
        }
    }
    let small = body(10 * 1024);
    let begun = Instant::now();
    for n in 0..entries {
        put_saved(&store, &format!("b/{n}"), &small);
    }
    println!("{entries} of 10 KiB written in {:?}", begun.elapsed());
    crash(store);
    let store = open();
    assert_eq!(stats(&store).objects, entries + 60);
    release(&store);
    let store = open();
    for length in sizes {
        let mut times: Vec<Duration> = (0..20)
            .map(|n| {
                let begun = Instant::now();
                assert!(load(&store, &format!("a/{length}/{n}"), "").is_some());
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("{length} bytes loaded in {:?}", times[10]);
    }
    assert_eq!(stats(&store).hits, 60);
}
