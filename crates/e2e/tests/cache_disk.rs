//! The cache on disk: what was worth keeping is there after a restart, a crash and an upgrade; what was purged or taken down never
//! comes back; what is damaged, full or somebody else's costs a look at the origin and nothing more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use narthex_e2e::kit::derived::{self, Derived};
use narthex_e2e::kit::on_disk::{Scene, config, disk, files, used};
use narthex_e2e::kit::proxy::{ProgramKind, Proxy, binary, say};
use narthex_e2e::kit::{PATIENCE, Rng, eventually};
use serde_json::json;

narthex_e2e::with_1_2_and_8_workers! {
    what_was_worth_it_is_there_after_a_restart,
    an_upgrade_hands_the_directory_on,
}

/// Paths of objects of many sizes.
fn paths(prefix: &str, n: usize) -> Vec<String> {
    const SIZES: [usize; 6] = [0, 1, 1_000, 16_384, 65_536, 200_001];
    (0..n)
        .map(|i| format!("/{prefix}{i}/{}", SIZES[i % SIZES.len()] + i))
        .collect()
}

/// All of them come from the cache.
#[track_caller]
fn all_hits(scene: &Scene, paths: &[String]) {
    let before = scene.origin.served();
    let misses: Vec<&String> = paths.iter().filter(|p| !scene.ask(p).is_hit).collect();
    assert!(misses.is_empty(), "not found: {misses:?}");
    assert_eq!(scene.origin.served(), before);
}

#[track_caller]
fn reborn(scene: &mut Scene) {
    scene.proxy.start_again();
    scene.await_recovered();
}

#[test]
fn what_was_worth_it_is_there_after_a_restart() {
    let mut scene = Scene::start("16MiB", "64MiB");
    let paths = paths("a", 60);
    for path in &paths {
        scene.ask(path);
        scene.ask(path);
    }
    // what is only in memory is written at a stop
    assert!(scene.proxy.stop().success());
    reborn(&mut scene);
    all_hits(&scene, &paths);
    // at a crash what was written before is there
    let more = self::paths("b", 60);
    scene.keep(&more);
    scene.proxy.crash();
    reborn(&mut scene);
    let word = |path: &str| {
        let what = json!({ "method": "GET", "url": format!("http://h0{path}") });
        let told = scene.post("/cache/look", &what).1;
        told["details"]["word"].as_str().unwrap().to_owned()
    };
    assert_eq!((&*word(&more[7]), &*word("/none")), ("on-disk", "miss"));
    all_hits(&scene, &paths);
    all_hits(&scene, &more);
    assert_eq!(word(&more[7]), "hit");
    assert!(scene.metric("narthex_cache_disk_hits_total") >= 120);
}

/// While requests run: none fails, and what was there is found again.
#[test]
fn an_upgrade_hands_the_directory_on() {
    let mut scene = Scene::start("16MiB", "64MiB");
    let (paths, quiet) = (paths("a", 60), paths("q", 60));
    scene.keep(&paths);
    scene.keep(&quiet);
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let addr = scene.proxy.addr();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (over, asked, paths) = (&over, &asked, &paths);
            scope.spawn(move || {
                let mut n = thread;
                while !over.load(Ordering::Relaxed) {
                    let path = &paths[n % paths.len()];
                    let mut client = narthex_e2e::kit::attack::Client::connect(addr);
                    let answer = derived::ask(&mut client, "h0", path).unwrap();
                    derived::judge(&format!("h0{path}"), &answer).unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                    n += 7;
                }
            });
        }
        let so_far = |n| eventually(PATIENCE, || asked.load(Ordering::Relaxed) > n);
        assert!(so_far(100));
        for _ in 0..3 {
            scene.proxy.upgrade_ok();
            scene.await_recovered();
            assert!(so_far(asked.load(Ordering::Relaxed) + 100));
        }
        over.store(true, Ordering::Relaxed);
    });
    all_hits(&scene, &paths);
    // nobody has asked for these since: the process has never seen their origin
    all_hits(&scene, &quiet);
    // the directory has one owner: it goes on from there
    scene.proxy.crash();
    reborn(&mut scene);
    all_hits(&scene, &paths);
}

/// How something is purged.
fn cli(scene: &Scene, args: &[&str]) {
    let at = scene.proxy.fill_in("unix:@ADMIN@");
    let out = scene
        .proxy
        .command(&[&["cache", "purge"], args, &["--admin", &at]].concat());
    assert!(out.status.success(), "{}", say(&out));
}

fn method(scene: &Scene, path: &str) {
    let answer = scene
        .connect()
        .ask(format!("PURGE {path} HTTP/1.1\r\nHost: h0\r\n\r\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What is purged is purged, whatever happens the moment after the acknowledgement.
#[test]
fn a_crash_brings_nothing_back_that_was_purged() {
    const PURGED: &str = "/k1/5000";
    type How = fn(&Scene);
    const HOW: [(&str, How, bool); 9] = [
        ("url", |s| cli(s, &["http://h0/k1/5000"]), true),
        ("prefix", |s| cli(s, &["--prefix", "http://h0/k1/"]), true),
        ("tag", |s| cli(s, &["--tag", "t1"]), true),
        ("host", |s| cli(s, &["--host", "h0"]), false),
        ("all", |s| cli(s, &["--all"]), false),
        ("PURGE", |s| method(s, PURGED), true),
        (
            "call",
            |s| s.purge(&json!({ "url": "http://h0/k1/5000" })),
            true,
        ),
        ("block", |s| s.block(PURGED), true),
        (
            "soft",
            |s| s.purge(&json!({ "tag": "t1", "soft": true })),
            true,
        ),
    ];
    let mut scene = Scene::start("8MiB", "32MiB");
    let other = "/k2/5000";
    for (name, how, spares) in HOW {
        let address = format!("h0{PURGED}");
        scene.keep(&[PURGED.to_owned(), other.to_owned()]);
        let version = scene.origin.change(&address);
        assert!(scene.ask(PURGED).is_hit);
        how(&scene);
        scene.proxy.crash();
        reborn(&mut scene);
        if name == "block" {
            assert_eq!(scene.status(PURGED), 451);
            let what = json!({ "url": "http://h0/k1/5000" });
            assert_eq!(scene.post("/cache/unblock", &what).0, 200);
        }
        // asked anew: by the whole, or (soft) by a condition
        let answer = scene.ask(PURGED);
        assert_eq!(answer.version, version, "{name}");
        if spares {
            assert!(scene.ask(other).is_hit, "{name} took more than it should");
        } else {
            assert!(!scene.ask(other).is_hit, "{name}");
        }
        // nor later
        scene.proxy.crash();
        reborn(&mut scene);
        assert_eq!(scene.ask(PURGED).version, version, "{name}, once more");
    }
}

/// A new program that does not become ready has taken nothing: the old one goes on with its directory.
#[test]
fn a_failed_upgrade_changes_nothing() {
    let origin = Derived::start();
    let proxy = Proxy::start_replaceable(&config(&origin, "8MiB", &disk("32MiB")));
    let mut scene = Scene { proxy, origin };
    scene.await_recovered();
    scene.keep(&paths("a", 20));
    let fails = |scene: &mut Scene, told: &str| {
        let out = scene.proxy.upgrade(&["--timeout", "20"]);
        assert!(
            !out.status.success() && say(&out).contains(told),
            "{}",
            say(&out)
        );
        assert_eq!(scene.metric("narthex_cache_disk_recovered"), 1);
    };
    scene
        .proxy
        .replace_program(&ProgramKind::Script("exit 3".to_owned()));
    fails(&mut scene, "ended");
    scene.keep(&paths("b", 20));
    // a program that is good, and a directory that is not
    scene.proxy.replace_program(&ProgramKind::Ours);
    fs::create_dir(scene.proxy.dir().join("letters")).unwrap();
    fs::write(scene.proxy.dir().join("letters/to-anna"), "dear").unwrap();
    let other = "disk \"@DIR@/letters\" size=\"32MiB\"";
    scene
        .proxy
        .change_config(&config(&scene.origin, "8MiB", other));
    fails(&mut scene, "no cache's");
    scene.keep(&paths("c", 20));
    scene
        .proxy
        .change_config(&config(&scene.origin, "8MiB", &disk("32MiB")));
    scene.proxy.crash();
    reborn(&mut scene);
    for prefix in ["a", "b", "c"] {
        all_hits(&scene, &paths(prefix, 20));
    }
}

/// What is purged after an upgrade is not served by the process before, either, and that one is no way to purge.
#[test]
fn the_process_before_answers_nothing_from_its_cache() {
    let mut scene = Scene::start("8MiB", "32MiB");
    let path = "/k/5000";
    scene.keep(&[path.to_owned()]);
    let mut kept: Vec<_> = (0..3).map(|_| scene.connect()).collect();
    for client in &mut kept {
        assert_eq!(derived::ask(client, "h0", path).unwrap().status, 200);
    }
    let version = scene.origin.change(&format!("h0{path}"));
    scene.proxy.upgrade_ok();
    let refused = kept
        .pop()
        .unwrap()
        .ask(format!("PURGE {path} HTTP/1.1\r\nHost: h0\r\n\r\n"));
    assert_eq!((refused.status, refused.says_close()), (503, true));
    scene.await_recovered();
    method(&scene, path);
    for mut client in kept {
        let answer = derived::ask(&mut client, "h0", path).unwrap();
        let right = derived::judge(&format!("h0{path}"), &answer).unwrap();
        assert_eq!((right.version, right.is_hit), (version, false));
    }
    assert_eq!(scene.ask(path).version, version);
}

/// Purges while the directory changes hands are not lost, either.
#[test]
fn a_purge_beside_an_upgrade_holds() {
    let mut scene = Scene::start("8MiB", "32MiB");
    let paths = paths("a", 40);
    for round in 0..3 {
        scene.keep(&paths);
        let versions: Vec<u64> = paths
            .iter()
            .map(|path| scene.origin.change(&format!("h0{path}")))
            .collect();
        let done = AtomicU64::new(0);
        let admin = scene.proxy.fill_in("unix:@ADMIN@");
        let dir = scene.proxy.dir().to_owned();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for path in &paths {
                    // until it is acknowledged: the old process may be the one that is asked, and gone
                    let purged = || {
                        let url = format!("http://h0{path}");
                        let out = Command::new(binary())
                            .args(["cache", "purge", &url, "--admin", &admin])
                            .current_dir(&dir)
                            .output()
                            .unwrap();
                        out.status.success()
                    };
                    assert!(eventually(PATIENCE, purged));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(eventually(PATIENCE, || done.load(Ordering::Relaxed) > 3));
            scene.proxy.upgrade_ok();
        });
        if round == 1 {
            scene.proxy.crash();
            reborn(&mut scene);
        }
        scene.await_recovered();
        for (path, version) in paths.iter().zip(&versions) {
            assert_eq!(scene.ask(path).version, *version, "{path} in round {round}");
        }
    }
}

#[test]
fn a_takedown_outlives_the_process() {
    let mut scene = Scene::start("8MiB", "32MiB");
    let paths = ["/down/10", "/down2/10", "/later/10"];
    scene.block(paths[0]);
    scene.block(paths[1]);
    let check = |scene: &Scene, blocked: &[bool; 3], when: &str| {
        for (path, blocked) in paths.iter().zip(blocked) {
            assert_eq!(scene.status(path) == 451, *blocked, "{path} {when}");
        }
    };
    check(&scene, &[true, true, false], "before");
    scene.proxy.crash();
    reborn(&mut scene);
    check(&scene, &[true, true, false], "after a crash");
    let what = json!({ "url": "http://h0/down/10" });
    assert_eq!(scene.post("/cache/unblock", &what).0, 200);
    scene.proxy.upgrade_ok();
    check(&scene, &[false, true, false], "after an upgrade");
    scene.block(paths[2]);
    scene.proxy.crash();
    reborn(&mut scene);
    check(&scene, &[false, true, true], "after all of it");
    let file = scene.directory().join("blocks");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    // what a disk has damaged is said, and the rest holds
    assert!(scene.proxy.stop().success());
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("/later", "/lated")).unwrap();
    reborn(&mut scene);
    check(&scene, &[false, true, false], "with a damaged line");
    assert!(scene.proxy.stderr().contains("are damaged"));
}

#[test]
fn files_are_ours_alone_and_keep_within_the_size() {
    let scene = Scene::start("4MiB", "12MiB");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&scene.directory()), 0o700);
    let over = AtomicBool::new(false);
    let directory = scene.directory();
    let most = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let (length, blocks) = used(&directory);
                most = (most.0.max(length), most.1.max(blocks));
            }
            most
        });
        for round in 0..3 {
            for path in paths(&format!("r{round}n"), 300) {
                for _ in 0..3 {
                    scene.ask(&path);
                }
                if path.ends_with("07") {
                    scene.purge(&json!({ "url": format!("http://h0{path}") }));
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        looking.join().unwrap()
    });
    assert!(most.0 <= 12 << 20 && most.1 <= 12 << 20, "{most:?}");
    assert!(most.1 > 5 << 20, "next to nothing was written: {most:?}");
    assert!(scene.metric("narthex_cache_disk_dropped_segments_total") > 0);
    for file in scene.files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let at = scene.proxy.fill_in("unix:@ADMIN@");
    let out = scene.proxy.command(&["cache", "stats", "--admin", &at]);
    assert!(say(&out).contains("on disk"), "{}", say(&out));
}

/// Made by root, used by somebody else, also after an upgrade and by who was root before.
#[test]
fn it_belongs_to_whom_the_process_becomes() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root can give up root");
        return;
    }
    let origin = Derived::start();
    let text = config(
        &origin,
        "8MiB",
        "disk \"@DIR@/var/cache/it\" size=\"32MiB\"",
    );
    let user = format!("version 1\nuser \"{NOBODY}\" group=\"{NOBODY}\"\n");
    let proxy = Proxy::start_for_user(&text, NOBODY, NOBODY);
    let mut scene = Scene { proxy, origin };
    let directory = scene.proxy.dir().join("var/cache/it");
    scene.await_recovered();
    let paths = paths("a", 20);
    scene.keep(&paths);
    assert!(scene.proxy.stop().success());
    // the log is root's
    fs::remove_file(scene.proxy.dir().join("access.log")).unwrap();
    scene
        .proxy
        .change_config(&text.replace("version 1\n", &user));
    reborn(&mut scene);
    let owners = || -> Vec<u32> {
        let all = files(&directory).into_iter().chain([directory.clone()]);
        all.map(|path| fs::metadata(path).unwrap().uid()).collect()
    };
    assert!(owners().iter().all(|uid| *uid == NOBODY), "{:?}", owners());
    all_hits(&scene, &paths);
    scene.proxy.upgrade_ok();
    scene.await_recovered();
    scene.keep(&self::paths("b", 20));
    scene.proxy.crash();
    reborn(&mut scene);
    all_hits(&scene, &paths);
}

#[test]
fn a_directory_has_one_process() {
    let scene = Scene::start("8MiB", "32MiB");
    let text = config(&scene.origin, "8MiB", &disk("32MiB"));
    let text = scene
        .proxy
        .fill_in(&text)
        .replace(&scene.proxy.addr().to_string(), "127.0.0.1:0")
        .replace("admin.sock", "admin2.sock");
    let second = scene.proxy.dir().join("second.kdl");
    fs::write(&second, text).unwrap();
    let out = scene
        .proxy
        .command(&["run", "--config", second.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(1), "{}", say(&out));
    let told = "another process uses the cache directory";
    assert!(say(&out).contains(told), "{}", say(&out));
    assert!(!scene.ask("/a/10").is_hit && scene.ask("/a/10").is_hit);
}

#[test]
fn a_directory_that_cannot_be_used_is_a_refused_start() {
    let scene = Scene::start("8MiB", "32MiB");
    let dir = scene.proxy.dir().to_owned();
    fs::write(dir.join("file"), "").unwrap();
    fs::create_dir(dir.join("letters")).unwrap();
    fs::write(dir.join("letters/to-anna"), "dear").unwrap();
    for (name, told) in [("file", "cannot use"), ("letters", "no cache's")] {
        let tiers = format!("disk \"@DIR@/{name}\" size=\"32MiB\"");
        let text = scene
            .proxy
            .fill_in(&config(&scene.origin, "8MiB", &tiers))
            .replace(&scene.proxy.addr().to_string(), "127.0.0.1:0")
            .replace("admin.sock", "admin2.sock");
        let second = dir.join("second.kdl");
        fs::write(&second, text).unwrap();
        let out = scene
            .proxy
            .command(&["run", "--config", second.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(1), "{}", say(&out));
        assert!(say(&out).contains(told), "{}", say(&out));
    }
    assert_eq!(
        fs::read_to_string(dir.join("letters/to-anna")).unwrap(),
        "dear"
    );
}

#[test]
fn a_reload_begins_and_ends_the_use_of_a_directory() {
    let origin = Derived::start();
    let in_memory = config(&origin, "8MiB", "");
    let proxy = Proxy::start(&in_memory.replace("{  }", ""));
    let mut scene = Scene { proxy, origin };
    let text = |scene: &Scene, tiers: &str| config(&scene.origin, "8MiB", tiers);
    // one that cannot be used changes nothing
    fs::write(scene.proxy.dir().join("file"), "").unwrap();
    let wrong = "disk \"@DIR@/file\" size=\"32MiB\"";
    let out = scene.proxy.reload(&text(&scene, wrong));
    assert_eq!(out.status.code(), Some(1), "{}", say(&out));
    scene.proxy.reload_ok(&text(&scene, &disk("32MiB")));
    scene.await_recovered();
    let paths = paths("a", 20);
    scene.keep(&paths);
    // another size or place waits for the next start, and this is said
    let out = scene.proxy.reload(&text(&scene, &disk("64MiB")));
    assert!(
        out.status.success() && say(&out).contains("until a restart"),
        "{}",
        say(&out)
    );
    assert_eq!(scene.metric("narthex_cache_disk_recovered"), 1);
    scene.proxy.crash();
    reborn(&mut scene);
    all_hits(&scene, &[]);
    scene.keep(&paths);
    // without it: it is nobody's, and what was on it would not hear of purges
    scene.proxy.reload_ok(&in_memory.replace("{  }", ""));
    let segments = |scene: &Scene| {
        files(&scene.directory())
            .iter()
            .filter(|path| path.to_string_lossy().contains("segment"))
            .count()
    };
    assert!(eventually(PATIENCE, || segments(&scene) == 0));
    let address = format!("h0{}", paths[0]);
    let version = scene.origin.change(&address);
    scene.purge(&json!({ "url": format!("http://{address}") }));
    scene.proxy.reload_ok(&text(&scene, &disk("64MiB")));
    scene.await_recovered();
    assert_eq!(scene.ask(&paths[0]).version, version);
    scene.keep(&paths);
    assert!(scene.proxy.stop().success());
    reborn(&mut scene);
    all_hits(&scene, &paths);
}

/// One damage to the files of a proxy that has ended.
fn damage(rng: &mut Rng, files: &[std::path::PathBuf]) -> String {
    let file = &files[rng.below(files.len())];
    let length = fs::metadata(file).unwrap().len();
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    if length == 0 {
        return format!("{name} is empty");
    }
    let at = rng.next_u64() % length;
    match rng.below(4) {
        0 => {
            open.set_len(at).unwrap();
            format!("{name} is cut at {at}")
        }
        1 => {
            let zeros = vec![0; (length - at).min(4096) as usize];
            open.write_all_at(&zeros, at).unwrap();
            format!("{name} has zeros at {at}")
        }
        _ => {
            let mut byte = [0];
            // a place with something in it, if there is one near
            let at = (at..length.min(at + 100_000))
                .find(|at| open.read_exact_at(&mut byte, *at).is_ok() && byte != [0])
                .unwrap_or(at);
            open.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= 1 << rng.below(8);
            open.write_all_at(&byte, at).unwrap();
            format!("{name} has another bit at {at}")
        }
    }
}

/// Damaged files, wherever and however: no wrong byte, nothing purged comes back, and it is served.
#[test]
fn damage_costs_a_look_at_the_origin() {
    let rounds = if narthex_e2e::kit::full() { 60 } else { 12 };
    let mut scene = Scene::start("4MiB", "32MiB");
    let mut rng = Rng(4711);
    let paths = paths("a", 80);
    let mut versions = vec![1; paths.len()];
    let mut hits = 0;
    for round in 0..rounds {
        for path in &paths {
            scene.ask(path);
            scene.ask(path);
        }
        let n = rng.below(paths.len());
        let address = format!("h0{}", paths[n]);
        versions[n] = scene.origin.change(&address);
        scene.purge(&json!({ "url": format!("http://{address}") }));
        if round % 2 == 0 {
            scene.proxy.stop();
        } else {
            scene.proxy.crash();
        }
        let mut all = scene.files();
        all.retain(|path| !path.ends_with("notes"));
        let what = damage(&mut rng, &all);
        if round == 3 {
            fs::write(scene.directory().join("notes"), "not ours").unwrap();
            fs::write(scene.directory().join("segment-x"), "no number").unwrap();
        }
        reborn(&mut scene);
        for (path, version) in paths.iter().zip(&versions) {
            let answer = scene.ask(path);
            hits += usize::from(answer.is_hit);
            assert!(answer.version >= *version, "{path} of {what}");
        }
    }
    assert!(hits > rounds * paths.len() / 4, "{hits} hits only");
    let notes = fs::read_to_string(scene.directory().join("notes"));
    assert_eq!(notes.unwrap(), "not ours");
}

/// Of another version, or of another secret: begun anew, and not a word of it is served.
#[test]
fn files_of_another_version_are_not_read() {
    let mut scene = Scene::start("8MiB", "32MiB");
    let paths = paths("a", 30);
    scene.keep(&paths);
    scene.proxy.stop();
    for file in scene.files() {
        if file.to_string_lossy().contains("segment") {
            let open = OpenOptions::new().write(true).open(file).unwrap();
            open.write_all_at(&99_u32.to_le_bytes(), 4).unwrap();
        }
    }
    reborn(&mut scene);
    let served = scene.origin.served();
    for path in &paths {
        scene.ask(path);
    }
    assert!(scene.origin.served() > served);
    scene.keep(&self::paths("b", 5));
}

/// While it runs: what cannot be read is fetched, and counted.
#[test]
fn what_cannot_be_read_is_fetched() {
    let scene = Scene::start("4MiB", "64MiB");
    let paths = paths("a", 200);
    scene.keep(&paths);
    for file in scene.files() {
        if file.to_string_lossy().contains("segment") {
            let open = OpenOptions::new().write(true).open(file).unwrap();
            open.set_len(100).unwrap();
        }
    }
    for path in &paths {
        scene.ask(path);
    }
    let trouble = scene.metric("narthex_cache_disk_errors_total")
        + scene.metric("narthex_cache_disk_corrupt_total");
    assert!(trouble > 0);
}

/// Says to the test below that it has file systems of its own.
const INSIDE: &str = "NARTHEX_E2E_OWN_MOUNTS";

/// A file system that is really full: everybody is served, errors are counted, and it goes on when there is room.
#[test]
fn a_full_disk() {
    if std::env::var_os(INSIDE).is_some() {
        return on_a_full_disk();
    }
    let user: &[&str] = if rustix::process::geteuid().is_root() {
        &["-m"]
    } else {
        &["-m", "--map-root-user"]
    };
    let out = Command::new("unshare")
        .args(user)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "a_full_disk"])
        .env(INSIDE, "1")
        .env("NARTHEX_BIN", binary())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", say(&out));
}

fn on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let mount = |options: &str| {
        let out = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&cache)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", say(&out));
    };
    mount("size=6m,mode=700");
    let origin = Derived::start();
    let proxy = Proxy::start_in(dir, &config(&origin, "4MiB", &disk("32MiB")));
    let scene = Scene { proxy, origin };
    scene.await_recovered();
    for round in 0..3 {
        for path in paths(&format!("r{round}n"), 150) {
            for _ in 0..3 {
                scene.ask(&path);
            }
        }
    }
    assert!(scene.metric("narthex_cache_disk_errors_total") > 0);
    // purged or refused; what was acknowledged holds
    let path = &paths("r2n", 150)[149];
    scene.ask(path);
    let version = scene.origin.change(&format!("h0{path}"));
    let url = json!({ "url": format!("http://h0{path}") });
    let (status, said) = scene.post("/cache/purge", &url);
    assert!(matches!(status, 200 | 507), "{status} {said}");
    if status == 200 {
        assert_eq!(scene.ask(path).version, version);
    }
    scene.proxy.assert_sane();
    mount("remount,size=64m");
    // writing is tried again after a pause
    let written = scene.metric("narthex_cache_disk_written_total");
    let mut round = 0;
    let goes_on = eventually(PATIENCE * 6, || {
        round += 1;
        for path in paths(&format!("l{round}n"), 10) {
            scene.ask(&path);
            scene.ask(&path);
        }
        scene.metric("narthex_cache_disk_written_total") > written
    });
    assert!(goes_on);
    scene.purge(&json!({ "everything": true }));
    // so that the directory can be removed
    let _ = Command::new("umount").arg("-l").arg(&cache).status();
}
