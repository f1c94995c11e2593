//! Who goes, and how many bytes there are.

use std::collections::{BTreeMap, HashMap};

use super::*;

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn put_sized(
    store: &Arc<Store>,
    at: &str,
    length: usize,
    room: Room,
    site: u32,
) -> Result<(), Why> {
    let key = Key { site, ..key(at) };
    let lead = store.lead(&key, &mut none, 0, AGE).ok().unwrap();
    let mut writer = lead.publish(keep(), b"", room, Some(length as u64))?;
    writer.push(&vec![7; length])?;
    writer.finish();
    Ok(())
}

#[test]
fn bytes_stay_within_the_bound() {
    let store = Store::new(4 * MIB);
    let mut random = Random(1);
    for n in 0..5_000 {
        let length = (random.next() % 20_000) as usize;
        put_sized(&store, &format!("a/{n}"), length, ROOM, 0).unwrap();
        assert!(store.stats().bytes <= 4 * MIB);
    }
    let stats = store.stats();
    assert!(stats.bytes > 3 * MIB, "{stats:?}");
    assert_eq!(stats.counts.evictions + stats.objects as u64, 5_000);
    store.set_memory(MIB);
    assert!(store.stats().bytes <= MIB);
    store.set_memory(0);
    assert_empty(&store);
}

#[test]
fn what_is_read_or_filling_is_counted_and_not_evicted() {
    let store = Store::new(MIB);
    put_sized(&store, "a/read", 200_000, ROOM, 0).unwrap();
    let read = ready(&store, "a/read").unwrap();
    let mut filling = lead(&store, "a/fills")
        .publish(keep(), b"", ROOM, Some(200_000))
        .unwrap();
    filling.push(&[1; 1_000]).unwrap();
    for n in 0..200 {
        put_sized(&store, &format!("a/{n}"), 100_000, ROOM, 0).unwrap();
    }
    assert!(store.stats().bytes <= MIB);
    assert!(ready(&store, "a/read").is_some() && ready(&store, "a/fills").is_some());
    // out of the index, and still counted
    store.invalidate(&Purge::Key(key("a/read")), false);
    store.set_memory(0);
    assert!(store.stats().bytes > 400_000);
    assert_eq!(read.body.piece(0).unwrap().len(), 200_000);
    drop((read, filling));
    assert_empty(&store);
}

#[test]
fn without_room_nothing_is_stored() {
    let store = Store::new(MIB);
    let mut held = Vec::new();
    for n in 0..4 {
        let at = format!("a/{n}");
        if put_sized(&store, &at, 250_000, ROOM, 0).is_ok() {
            held.extend(ready(&store, &at));
        }
    }
    assert!(store.stats().bytes <= MIB + 4_096, "{:?}", store.stats());
    assert!(held.len() == 3);
    assert_eq!(put_sized(&store, "a/x", 250_000, ROOM, 0), Err(Why::NoRoom));
    held.clear();
    put_sized(&store, "a/x", 250_000, ROOM, 0).unwrap();
}

#[test]
fn a_site_over_its_quota_gives_its_own_objects() {
    let store = Store::new(16 * MIB);
    let room = Room {
        quota: Some(MIB),
        ..ROOM
    };
    for n in 0..100 {
        put_sized(&store, &format!("b/{n}"), 10_000, ROOM, 2).unwrap();
        // before the site had a quota
        put_sized(&store, &format!("a/old/{n}"), 10_000, ROOM, 1).unwrap();
    }
    for n in 0..500 {
        put_sized(&store, &format!("a/{n}"), 10_000, room, 1).unwrap();
        let sites: HashMap<u32, u64> = store.stats().sites.into_iter().collect();
        assert!(n < 10 || sites[&1] <= MIB, "{n}: {sites:?}");
    }
    assert!((0..100).all(|n| ready(&store, &format!("b/{n}")).is_some()));
    // and with others when there is no room at all
    for n in 0..3_000 {
        put_sized(&store, &format!("c/{n}"), 10_000, ROOM, 3).unwrap();
    }
    assert!(store.stats().bytes <= 16 * MIB);
}

/// The least recently used goes: what ours is compared with.
struct Lru {
    memory: u64,
    bytes: u64,
    time: u64,
    by_time: BTreeMap<u64, u64>,
    objects: HashMap<u64, (u64, u64)>,
}

impl Lru {
    fn get(&mut self, key: u64, weight: u64) -> bool {
        self.time += 1;
        let old = self.objects.insert(key, (self.time, weight));
        self.by_time.insert(self.time, key);
        if let Some((time, _)) = old {
            self.by_time.remove(&time);
            return true;
        }
        self.bytes += weight;
        while self.bytes > self.memory {
            let (_, oldest) = self.by_time.pop_first().unwrap();
            self.bytes -= self.objects.remove(&oldest).unwrap().1;
        }
        false
    }
}

/// Hits of a thousand requests: ours, and LRU's. `scans`: so many of a hundred requests are for what nobody asks for again.
fn compare(alpha: f64, scans: u64, requests: usize, objects: u64, share: f64) -> (f64, f64) {
    let mut sums = Vec::new();
    let mut sum = 0.0;
    for rank in 1..=objects {
        sum += (rank as f64).powf(-alpha);
        sums.push(sum);
    }
    let length = |key: u64| 200 + (hash(&key.to_le_bytes()) % 4_000) as usize;
    let mut weights = HashMap::new();
    let scratch = Store::new(MIB);
    let memory = (objects as f64 * 2_700.0 * share) as u64;
    let store = Store::new(memory);
    let mut lru = Lru {
        memory,
        bytes: 0,
        time: 0,
        by_time: BTreeMap::new(),
        objects: HashMap::new(),
    };
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let (mut ours, mut theirs) = (0, 0);
    let body = vec![0; 4_200];
    for request in 0..requests as u64 {
        let key = if random.next() % 100 < scans {
            objects + request
        } else {
            let at = random.unit() * sum;
            sums.partition_point(|&sum| sum < at) as u64
        };
        let bytes = format!("host/a/path/of/some/length/{key}");
        let at = Key::new(bytes.as_bytes(), "host", b"/a/path", 0);
        let weight = *weights.entry(key).or_insert_with(|| {
            put_sized(&scratch, &bytes, length(key), ROOM, 0).unwrap();
            let weight = scratch.stats().bytes;
            scratch.invalidate(&Purge::Key(self::key(&bytes)), false);
            weight
        });
        theirs += usize::from(lru.get(key, weight));
        match store.find(&at, &mut none, 0) {
            Found::Ready { .. } => ours += 1,
            _ => {
                let lead = store.lead(&at, &mut none, 0, AGE).ok().unwrap();
                let length = length(key);
                let mut writer = lead
                    .publish(keep(), b"", ROOM, Some(length as u64))
                    .unwrap();
                writer.push(&body[..length]).unwrap();
                writer.finish();
            }
        }
    }
    let part = |hits: usize| hits as f64 * 100.0 / requests as f64;
    (part(ours), part(theirs))
}

/// `NARTHEX_TRACE=2000000` for the figures in `docs/cache.md`; they are printed.
#[test]
fn more_hits_than_lru_with_and_without_scans() {
    let requests = std::env::var("NARTHEX_TRACE").map_or(40_000, |text| text.parse().unwrap());
    for share in [0.05, 0.2] {
        for alpha in [0.8, 0.9, 1.0, 1.1] {
            for scans in [0, 20] {
                let (ours, theirs) = compare(alpha, scans, requests, requests as u64 / 5, share);
                println!(
                    "room for {share:.2}, Zipf {alpha}, {scans}% scans: {ours:.1}% of hits, LRU {theirs:.1}%"
                );
                assert!(
                    ours > theirs,
                    "{share} {alpha} {scans}: {ours} and {theirs}"
                );
            }
        }
    }
}
