//! The cache on disk is killed at any moment, again and again, under writes, purges of every kind and segments that make room: no
//! answer has a wrong byte, nothing comes back whose purge was acknowledged, and whoever asks a process that lives is answered. Now and
//! then it is upgraded in between, so that the directory changes hands a moment before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::{Client, Why};
use narthex_e2e::kit::derived::{self, TAGS};
use narthex_e2e::kit::on_disk::{Scene, used};
use narthex_e2e::kit::proxy::say;
use narthex_e2e::kit::sock::{Place, Sock};
use narthex_e2e::kit::{PATIENCE, Rng, card, full, pause};
use serde_json::{Value, json};

/// Addresses.
const KEYS: usize = 2_500;
const HOSTS: usize = 4;
const LETTERS: usize = 8;
/// Bytes on disk at most.
const SIZE: u64 = 12 << 20;
/// Clients, and the time that each leaves between two requests.
const CLIENTS: u64 = 16;
const GAP: Duration = Duration::from_millis(4);

struct Key {
    host: String,
    path: String,
    /// No older version may be served: a purge said so.
    least: AtomicU64,
}

impl Key {
    fn new(n: usize) -> Self {
        let size = match n % 50 {
            0 => 150_000 + n,
            1 => 70_000 + n,
            _ => 300 + (n * 37) % 7_000,
        };
        let letter = char::from(b'a' + (n / HOSTS % LETTERS) as u8);
        Self {
            host: format!("h{}", n % HOSTS),
            path: format!("/{letter}/{n}/{size}"),
            least: AtomicU64::new(1),
        }
    }

    fn address(&self) -> String {
        format!("{}{}", self.host, self.path)
    }
}

/// What the threads of a round share.
struct Round<'a> {
    scene: &'a Scene,
    keys: &'a [Key],
    killed: AtomicBool,
    /// There is an upgrade in it.
    upgrades: bool,
    faults: &'a Mutex<Vec<String>>,
    tally: &'a Tally,
}

#[derive(Default)]
struct Tally {
    asked: AtomicU64,
    hits: AtomicU64,
    purges: AtomicU64,
    most: AtomicU64,
}

impl Round<'_> {
    fn is_over(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push(what);
    }

    fn ask(&self, seed: u64) {
        let mut rng = Rng(seed);
        let mut kept: Option<Client> = None;
        while !self.is_over() {
            pause(GAP);
            // few are asked for often
            let share = (rng.next_u64() % 1_000) as f64 / 1_000.0;
            let key = &self.keys[(share * share * KEYS as f64) as usize % KEYS];
            let least = key.least.load(Ordering::SeqCst);
            let client = match kept.take() {
                Some(client) => Ok(client),
                None => {
                    let place = Place::Tcp(self.scene.proxy.addr());
                    Sock::connect(&place, PATIENCE).map(Client::over)
                }
            };
            let answer = match client {
                Err(_) => Err(Why::Reset),
                Ok(mut client) => {
                    let answer = derived::ask(&mut client, &key.host, &key.path);
                    let goes_on = answer.as_ref().is_ok_and(|a| !a.says_close());
                    kept = goes_on.then_some(client);
                    answer
                }
            };
            let answer = match answer {
                Ok(answer) => answer,
                // it goes with the process
                Err(_) if self.is_over() => return,
                Err(why) => {
                    self.fault(format!("{}: {why:?}", key.address()));
                    continue;
                }
            };
            self.tally.asked.fetch_add(1, Ordering::Relaxed);
            match derived::judge(&key.address(), &answer) {
                Err(why) => self.fault(why),
                Ok(right) if right.version < least => self.fault(format!(
                    "{}: version {}, but {least} was purged to",
                    key.address(),
                    right.version
                )),
                Ok(right) => {
                    let hits = u64::from(right.is_hit);
                    self.tally.hits.fetch_add(hits, Ordering::Relaxed);
                }
            }
        }
    }

    fn purge(&self, seed: u64) {
        let mut rng = Rng(seed);
        while !self.is_over() {
            pause(Duration::from_millis(15));
            let (what, covers) = self.victim(&mut rng);
            let new: Vec<(&Key, u64)> = self
                .keys
                .iter()
                .enumerate()
                .filter(|(n, key)| covers(*n, key))
                .map(|(_, key)| (key, self.scene.origin.change(&key.address())))
                .collect();
            match post(self.scene, &what) {
                Ok(200) => {
                    for (key, version) in new {
                        key.least.fetch_max(version, Ordering::SeqCst);
                    }
                    self.tally.purges.fetch_add(1, Ordering::Relaxed);
                }
                // by the one that has handed over: not acknowledged
                Ok(403 | 503) if self.upgrades => {}
                _ if self.is_over() => return,
                other => self.fault(format!("purge {what}: {other:?}")),
            }
        }
    }

    /// What to purge, and what that covers.
    fn victim(&self, rng: &mut Rng) -> (Value, Box<dyn Fn(usize, &Key) -> bool>) {
        let n = rng.below(KEYS);
        let key = &self.keys[n];
        let host = key.host.clone();
        match rng.below(100) {
            0..60 => (
                json!({ "url": format!("http://{}", key.address()) }),
                Box::new(move |other, _| other == n),
            ),
            60..80 => {
                let tag = n as u64 % TAGS;
                (
                    json!({ "tag": format!("t{tag}") }),
                    Box::new(move |other, _| other as u64 % TAGS == tag),
                )
            }
            80..90 => {
                let beginning = key.path.get(..3).unwrap().to_owned();
                (
                    json!({ "prefix": format!("http://{host}{beginning}") }),
                    Box::new(move |_, key| key.host == host && key.path.starts_with(&beginning)),
                )
            }
            90..98 => (
                json!({ "host": host }),
                Box::new(move |_, key| key.host == host),
            ),
            _ => (json!({ "everything": true }), Box::new(|_, _| true)),
        }
    }

    fn watch(&self) {
        let directory = self.scene.directory();
        while !self.is_over() {
            let (length, blocks) = used(&directory);
            let most = length.max(blocks);
            self.tally.most.fetch_max(most, Ordering::Relaxed);
            if most > SIZE {
                self.fault(format!("{most} bytes on disk, at most {SIZE}"));
            }
            pause(Duration::from_millis(20));
        }
    }
}

/// The new process.
fn upgrade(scene: &Scene) -> u32 {
    let admin = scene.proxy.fill_in("unix:@ADMIN@");
    let args = ["upgrade", "--json", "--timeout", "60", "--admin", &admin];
    let out = scene.proxy.command(&args);
    let said: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let pid = said.pointer("/report/pid").and_then(Value::as_u64);
    pid.unwrap_or_else(|| panic!("{}", say(&out))) as u32
}

/// A purge; the answer's status.
fn post(scene: &Scene, what: &Value) -> Result<u16, Why> {
    let place = Place::Unix(scene.proxy.dir().join("admin.sock"));
    let mut client = Client::over(Sock::connect(&place, PATIENCE).map_err(|_| Why::Reset)?);
    let body = what.to_string();
    client.send(format!(
        "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = client.read_response("POST").map_err(|fault| fault.why)?;
    Ok(answer.status)
}

/// Short: 20 times; long: 200.
#[test]
fn killed_again_and_again() {
    let rounds = if full() { 200 } else { 20 };
    let mut scene = Scene::start("3MiB", "12MiB");
    let keys: Vec<Key> = (0..KEYS).map(Key::new).collect();
    let (faults, tally) = (Mutex::default(), Tally::default());
    let (mut written, mut found, mut dropped, mut corrupt) = (0, 0, 0, 0);
    let mut lasted = Duration::ZERO;
    let mut rng = Rng(20_26);
    for round in 0..rounds {
        let began = Instant::now();
        let this = Round {
            scene: &scene,
            keys: &keys,
            killed: AtomicBool::new(false),
            upgrades: round % 5 == 4,
            faults: &faults,
            tally: &tally,
        };
        let lives = Duration::from_millis(200 + rng.next_u64() % 1_300);
        let (mut pids, seed) = (vec![scene.proxy.pid()], rng.next_u64());
        std::thread::scope(|scope| {
            for n in 0..CLIENTS {
                let this = &this;
                scope.spawn(move || this.ask(seed ^ n));
            }
            scope.spawn(|| this.purge(seed));
            scope.spawn(|| this.watch());
            pause(lives);
            if this.upgrades {
                pids.push(upgrade(&scene));
                pause(Duration::from_millis(rng.next_u64() % 300));
            }
            written += scene.metric("narthex_cache_disk_written_total");
            found += scene.metric("narthex_cache_disk_hits_total");
            dropped += scene.metric("narthex_cache_disk_dropped_segments_total");
            corrupt += scene.metric("narthex_cache_disk_corrupt_total");
            lasted += began.elapsed();
            this.killed.store(true, Ordering::SeqCst);
            for pid in &pids {
                let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
                // the one before may have ended
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        for pid in pids.split_off(1) {
            scene.proxy.note_successor(pid);
        }
        scene.proxy.crash();
        let found = faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = String::new();
        for fault in found.iter().take(10) {
            let _ = writeln!(told, "{fault}");
        }
        assert!(
            found.is_empty(),
            "round {round}: {} faults:\n{told}",
            found.len()
        );
        drop(found);
        scene.proxy.start_again();
    }
    let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
    card::row(
        "killed under load: times, requests, from the cache, from disk",
        format!(
            "{rounds}, {}, {}, {found}",
            of(&tally.asked),
            of(&tally.hits)
        ),
    );
    card::row(
        "killed under load: written (a second), purges, segments dropped, damaged records met",
        format!(
            "{written} ({:.0}), {}, {dropped}, {corrupt}",
            written as f64 / lasted.as_secs_f64(),
            of(&tally.purges)
        ),
    );
    card::row(
        "killed under load: most bytes on disk, of",
        format!("{} of {SIZE}", of(&tally.most)),
    );
    assert!(
        found > 100 && written > 1_000 && dropped > 0,
        "hardly any use of the disk: {found} found, {written} written, {dropped} dropped"
    );
}
