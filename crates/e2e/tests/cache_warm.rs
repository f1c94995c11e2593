//! How soon a cache on disk answers as before: after a restart, a crash and an upgrade. Short: 20,000 objects; long: 100,000.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::derived;
use narthex_e2e::kit::on_disk::Scene;
use narthex_e2e::kit::sock::{Place, Sock};
use narthex_e2e::kit::{PATIENCE, Rng, card, eventually, full};

/// Clients at the same time.
const CLIENTS: usize = 8;
/// A hit ratio is taken over so long.
const SLICE: Duration = Duration::from_millis(100);
/// As before is: this share of the hit ratio before.
const SHARE: f64 = 0.95;
/// The most that the scorecard allows.
const GOAL: Duration = Duration::from_secs(2);

fn path(n: usize) -> String {
    format!("/{n}/1024")
}

fn connect(scene: &Scene) -> Option<Client> {
    let place = Place::Tcp(scene.proxy.addr());
    Sock::connect(&place, PATIENCE).ok().map(Client::over)
}

/// One answer: whether it came from the cache; none: there was none.
fn is_hit(kept: &mut Option<Client>, scene: &Scene, n: usize) -> Option<bool> {
    let mut client = kept.take().or_else(|| connect(scene))?;
    let path = path(n);
    let answer = derived::ask(&mut client, "h0", &path).ok()?;
    let right = derived::judge(&format!("h0{path}"), &answer).unwrap_or_else(|why| panic!("{why}"));
    *kept = (!answer.says_close()).then_some(client);
    Some(right.is_hit)
}

/// Asks for everything, so often that it is worth keeping.
fn fill(scene: &Scene, objects: usize) {
    for _ in 0..3 {
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut kept = None;
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed) as usize;
                        if n >= objects {
                            return;
                        }
                        is_hit(&mut kept, scene, n).unwrap();
                    }
                });
            }
        });
    }
}

/// Answers over time: when, and whether it came from the cache.
type Seen = Mutex<Vec<(Instant, Option<bool>)>>;

/// Asks for anything while something is done; what was seen until that was as good as `before`.
fn during(scene: &Scene, objects: usize, before: f64, what: impl FnOnce() -> Instant) -> During {
    let (seen, over) = (Seen::default(), AtomicBool::new(false));
    let mut begin = Instant::now();
    let mut took = None;
    std::thread::scope(|scope| {
        for thread in 0..CLIENTS {
            let (seen, over) = (&seen, &over);
            scope.spawn(move || {
                let mut rng = Rng(thread as u64 + 99);
                let mut kept = None;
                while !over.load(Ordering::Relaxed) {
                    let hit = is_hit(&mut kept, scene, rng.below(objects));
                    seen.lock().unwrap().push((Instant::now(), hit));
                }
            });
        }
        begin = what();
        let _ = eventually(PATIENCE * 3, || {
            took = good_after(&seen.lock().unwrap(), begin, before);
            took.is_some()
        });
        over.store(true, Ordering::Relaxed);
    });
    let seen = seen.into_inner().unwrap();
    let failed = seen.iter().filter(|(_, hit)| hit.is_none()).count();
    During { took, failed }
}

struct During {
    /// From the beginning to the end of the first slice that was as good as before.
    took: Option<Duration>,
    failed: usize,
}

fn good_after(seen: &[(Instant, Option<bool>)], begin: Instant, before: f64) -> Option<Duration> {
    (1..1_000).find_map(|slice| {
        let end = begin + SLICE * slice;
        let from = end.checked_sub(SLICE)?;
        if seen.iter().all(|(when, _)| *when < end) {
            return None;
        }
        let within = seen
            .iter()
            .filter(|(when, hit)| *when >= from && *when < end && hit.is_some());
        let (hits, all) = within.fold((0, 0), |(hits, all), (_, hit)| {
            (hits + usize::from(*hit == Some(true)), all + 1)
        });
        (all >= 50 && hits as f64 >= SHARE * before * all as f64).then(|| end - begin)
    })
}

/// The share of hits now.
fn ratio(scene: &Scene, objects: usize) -> f64 {
    let mut rng = Rng(7);
    let mut kept = None;
    let asked = 2_000;
    let hits = (0..asked).filter(|_| is_hit(&mut kept, scene, rng.below(objects)).unwrap());
    hits.count() as f64 / f64::from(asked)
}

#[test]
fn as_good_as_before_in_a_moment() {
    let objects = if full() { 100_000 } else { 20_000 };
    let mut scene = Scene::start("512MiB", "1GiB");
    fill(&scene, objects);
    let before = ratio(&scene, objects);
    assert!(before > 0.99, "{before}");
    let row = |what: &str, during: &During| {
        let took = during.took.unwrap_or_else(|| panic!("{what}: never"));
        let what = format!("{what}, {objects} objects: hits above 95% of before");
        card::at_most(&what, took, GOAL);
    };

    let told = Instant::now();
    assert!(scene.proxy.stop().success());
    card::row(
        &format!("stop, {objects} objects, ms"),
        told.elapsed().as_millis(),
    );
    let begin = Instant::now();
    scene.proxy.start_again();
    let after = during(&scene, objects, before, || begin);
    row("restart", &after);
    assert_eq!(after.failed, 0);

    // an upgrade, of what is partly in memory and partly on disk
    let addr = scene.proxy.addr();
    let admin = scene.proxy.fill_in("unix:@ADMIN@");
    let after = during(&scene, objects, before, || {
        let out = scene
            .proxy
            .command(&["upgrade", "--json", "--admin", &admin]);
        assert!(
            out.status.success(),
            "{addr}: {}",
            narthex_e2e::kit::proxy::say(&out)
        );
        Instant::now()
    });
    row("upgrade", &after);
    assert_eq!(after.failed, 0);
    let pid = scene.proxy.status()["pid"].as_u64().unwrap() as u32;
    scene.proxy.note_successor(pid);

    scene.await_recovered();
    scene.proxy.crash();
    let begin = Instant::now();
    scene.proxy.start_again();
    let after = during(&scene, objects, before, || begin);
    row("crash", &after);
}
