//! What is found is what was written and was not purged, whatever happens to the files.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::super::purge::{Purge, What};
use super::testing::{Dir, Random};
use super::*;
use crate::policy::Meta;
use crate::store::Key;

const SIZE: u64 = SIZE_MIN;

impl Dir {
    fn open(&self) -> Disk {
        self.open_with(SIZE)
    }

    fn open_with(&self, size: u64) -> Disk {
        let disk = self.take(|| Disk::open(&self.0, size, 0));
        disk.recover().unwrap();
        disk
    }
}

fn key_of(key: u64) -> Vec<u8> {
    format!("key {key}").into_bytes()
}

fn tag_of(key: u64) -> Vec<u8> {
    format!("tag{}", key % 3).into_bytes()
}

fn meta(version: u64) -> Meta {
    Meta {
        received_ms: version,
        ..crate::store::tests::keep().meta
    }
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

fn write_at(disk: &Disk, key: u64, version: u64, born: u64, body: &[u8]) -> bool {
    let path = format!("/{key}");
    let place = (&b"a.example"[..], path.as_bytes());
    let tags = [object::hash(&tag_of(key))];
    let meaning = packed::pack(&meta(version), [].into_iter(), b"", &tags, place);
    let key = key_of(key);
    let parts = Parts {
        born,
        key: &key,
        meaning: &meaning,
        head: HEAD,
    };
    let hash = object::hash(&key);
    let cover = || disk.purges.cover_on_disk(born, hash, place, &tags) == Cover::No;
    disk.write(&parts, (0, &[body]), cover).is_some()
}

fn write(disk: &Disk, key: u64, version: u64, body: &[u8]) -> bool {
    write_at(disk, key, version, disk.purges.sequence(), body)
}

fn purge(disk: &Disk, purge: &Purge<'_>, soft: bool) -> io::Result<()> {
    let (what, sequence) = (What::of(purge), disk.purges.sequence() + 1);
    disk.purges.record_at(what, soft, sequence);
    disk.settled.store(sequence, Ordering::SeqCst);
    let what = Some(what);
    let logged = Logged {
        sequence,
        soft,
        what,
    };
    disk.log(&[logged], true)
}

fn purge_key(disk: &Disk, key: u64) -> io::Result<()> {
    let key = key_of(key);
    purge(disk, &Purge::Key(Key::new(&key, "", b"", 0)), false)
}

/// The body that a version has.
fn body(key: u64, version: u64, len: usize) -> Vec<u8> {
    let mut random = Random(key.wrapping_mul(0x9E37_79B9) ^ (version + 1) << 20 ^ len as u64 | 1);
    (0..len).map(|_| random.below(256) as u8).collect()
}

fn find(disk: &Disk, key: u64) -> Option<Stored> {
    let key = key_of(key);
    let found = disk.find(object::hash(&key), &key).into_iter().next();
    found.filter(|stored| stored.cover != Cover::Hard)
}

/// What is there of a key: its version. Wrong bytes are a panic.
fn look(disk: &Disk, key: u64) -> Option<u64> {
    let stored = find(disk, key)?;
    let mut bytes = vec![0; stored.body() as usize];
    if !disk.read(&stored, 0, &mut bytes) {
        return None;
    }
    let version = stored.meaning.meta.received_ms;
    assert_eq!(
        (stored.head(), &stored.meaning.meta),
        (HEAD, &meta(version))
    );
    assert!(
        bytes == body(key, version, bytes.len()),
        "wrong bytes of {key}"
    );
    Some(version)
}

#[test]
fn what_is_written_is_there_after_a_restart() {
    let dir = Dir::new("restart");
    let disk = dir.open();
    for key in 0..20 {
        assert!(write(&disk, key, 1, &body(key, 1, key as usize * 3000)));
    }
    assert!(write(&disk, 3, 2, &body(3, 2, 10)));
    drop(disk);
    for _ in 0..2 {
        let disk = dir.open();
        for key in 0..20 {
            assert_eq!(
                look(&disk, key),
                Some(if key == 3 { 2 } else { 1 }),
                "{key}"
            );
        }
        assert_eq!(look(&disk, 20), None);
    }
}

#[test]
fn a_directory_has_one_owner_and_is_nobody_elses_to_read() {
    let dir = Dir::new("owner");
    let disk = dir.open();
    write(&disk, 1, 1, b"");
    purge(&disk, &Purge::Tag(b"x"), false).unwrap();
    assert!(matches!(
        Disk::open(&dir.0, SIZE, 0),
        Err(OpenError::Taken(_))
    ));
    assert!(matches!(
        Disk::open(&dir.0, SIZE - 4096, 0),
        Err(OpenError::TooSmall(SIZE))
    ));
    assert_eq!(
        fs::metadata(&dir.0).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(dir.files().len(), 3);
    for file in dir.files() {
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file:?}"
        );
    }
    drop(disk);
    dir.open();
}

#[test]
fn the_size_is_never_exceeded() {
    let dir = Dir::new("size");
    let disk = dir.open();
    let mut random = Random(7);
    for n in 0..400 {
        let len = random.below(60_000) as usize;
        assert!(write(&disk, n, 0, &body(n, 0, len)));
        assert!(dir.bytes() <= SIZE, "{}", dir.bytes());
        assert!(look(&disk, n).is_some());
    }
    assert!(disk.counts.dropped.load(Ordering::Relaxed) > 50);
    let there: Vec<bool> = (0..400).map(|n| look(&disk, n).is_some()).collect();
    assert!(!there[0] && there[399]);
    assert_eq!(there.iter().filter(|is| **is).count(), disk.records());
    assert!(!write(&disk, 1, 0, &vec![0; disk.segment_size as usize]));
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_record_is_a_miss() {
    let dir = Dir::new("flip");
    let disk = dir.open();
    write(&disk, 1, 1, &body(1, 1, 700));
    drop(disk);
    let segment = dir
        .files()
        .into_iter()
        .find(|f| segment_id(f).is_some())
        .unwrap();
    let good = fs::read(&segment).unwrap();
    let end = good.iter().rposition(|byte| *byte != 0).unwrap();
    for at in 0..end {
        for is_cut in [false, true] {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            bad.truncate(if is_cut { at } else { usize::MAX });
            fs::write(&segment, &bad).unwrap();
            let disk = dir.open();
            assert_eq!(look(&disk, 1), None, "{at} {is_cut}");
            assert_eq!(look(&disk, 1), None);
            drop(disk);
        }
    }
    fs::write(&segment, &good).unwrap();
    assert_eq!(look(&dir.open(), 1), Some(1));
}

#[test]
fn what_is_behind_damage_does_not_come_back_behind_what_is_written_over_it() {
    let dir = Dir::new("behind");
    let disk = dir.open();
    for key in 1..=2 {
        assert!(write(&disk, key, 1, &body(key, 1, 100)));
    }
    drop(disk);
    let mut files = dir.files().into_iter();
    let segment = files.find(|f| segment_id(f).is_some()).unwrap();
    let mut bad = fs::read(&segment).unwrap();
    bad[60] ^= 1;
    fs::write(&segment, bad).unwrap();
    let disk = dir.open();
    assert_eq!((look(&disk, 1), look(&disk, 2)), (None, None));
    // exactly as long
    assert!(write(&disk, 1, 2, &body(1, 2, 100)));
    drop(disk);
    let disk = dir.open();
    assert_eq!((look(&disk, 1), look(&disk, 2)), (Some(2), None));
}

#[test]
fn foreign_files_are_left_alone_or_not_believed() {
    let dir = Dir::new("foreign");
    fs::create_dir(&dir.0).unwrap();
    fs::write(dir.0.join("notes.txt"), "mine").unwrap();
    fs::write(dir.0.join("segment-0000000000000007"), [0xff; 5000]).unwrap();
    fs::write(
        dir.0.join("owner"),
        "something else that is long enough to be one",
    )
    .unwrap();
    let disk = dir.open();
    assert_eq!(disk.records(), 0);
    assert!(write(&disk, 1, 1, b""));
    assert_eq!(fs::read(dir.0.join("notes.txt")).unwrap(), b"mine");
    drop(disk);
    // what another process wrote, which hashes in another way
    assert_eq!(dir.open().records(), 1);
    let owner = Owner(options().open(dir.0.join("owner")).unwrap());
    owner.write(&Secret([7; 16]), 0).unwrap();
    drop(owner);
    let disk = dir.open();
    assert_eq!((disk.records(), disk.used()), (0, (0, 0)));
    assert_eq!(fs::read(dir.0.join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn a_directory_tells_how_to_hash() {
    let dir = Dir::new("seed");
    assert_eq!(secret_of(&dir.0), None);
    dir.open();
    assert_eq!(secret_of(&dir.0), Some(object::secret()));
    fs::write(dir.0.join("owner"), [0; 32]).unwrap();
    assert_eq!(secret_of(&dir.0), None);
}

#[test]
fn a_purge_outlives_the_process_and_a_damaged_log_purges_all() {
    let dir = Dir::new("purge");
    let disk = dir.open();
    for key in 0..9 {
        write(&disk, key, 1, &body(key, 1, 100));
    }
    let before = disk.purges.sequence();
    purge_key(&disk, 4).unwrap();
    purge(&disk, &Purge::Tag(b"tag0"), false).unwrap();
    let place = Purge::Prefix {
        host: "a.example",
        path: b"/7",
    };
    purge(&disk, &place, true).unwrap();
    // what was fetched before a purge is not written after it
    assert!(!write_at(&disk, 3, 2, before, b""));
    let expected = |disk: &Disk| {
        for key in 0..9 {
            let is_purged = key % 3 == 0 || key == 4;
            assert_eq!(look(disk, key).is_none(), is_purged, "{key}");
        }
        assert_eq!(find(disk, 7).unwrap().cover, Cover::Soft);
        assert_eq!(find(disk, 8).unwrap().cover, Cover::No);
        assert!(disk.purges.sequence() >= before + 3);
    };
    expected(&disk);
    drop(disk);
    expected(&dir.open());
    let names: Vec<_> = dir
        .files()
        .iter()
        .map(|f| f.file_name().unwrap().to_owned())
        .collect();
    let saved: Vec<_> = dir.files().iter().map(|f| fs::read(f).unwrap()).collect();
    for file in ["purges", "owner"] {
        let good = fs::read(dir.0.join(file)).unwrap();
        for at in 0..good.len() {
            for is_cut in [false, true] {
                for (name, bytes) in names.iter().zip(&saved) {
                    fs::write(dir.0.join(name), bytes).unwrap();
                }
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                bad.truncate(if is_cut { at } else { usize::MAX });
                fs::write(dir.0.join(file), &bad).unwrap();
                let disk = dir.open();
                assert_eq!(
                    (disk.records(), disk.purges.sequence()),
                    (0, LEAP),
                    "{file} {at} {is_cut}"
                );
            }
        }
    }
}

#[test]
fn more_purges_than_are_kept_become_one_of_everything() {
    let dir = Dir::new("many");
    let disk = dir.open();
    write(&disk, 1, 1, b"");
    let room = SIZE / LOG_SHARE / RECORD / TABLES;
    for n in 0..room {
        purge(&disk, &Purge::Tag(&n.to_le_bytes()), false).unwrap();
        assert!(look(&disk, 1).is_some(), "{n}");
    }
    purge(&disk, &Purge::Tag(b"one more"), false).unwrap();
    assert_eq!(look(&disk, 1), None);
    assert!(write(&disk, 1, 0, b""));
    assert_eq!(look(&disk, 1), Some(0));
    // far more than the log has room for: it is written anew each time it is full
    for n in 0..3 * LOG_MIN / RECORD {
        purge(&disk, &Purge::Tag(&n.to_le_bytes()), n % 2 == 0).unwrap();
        assert!(fs::metadata(dir.0.join("purges")).unwrap().len() <= LOG_MIN);
    }
    assert_eq!(look(&disk, 1), None);
    drop(disk);
    assert_eq!(look(&dir.open(), 1), None);
}

#[test]
fn purges_of_what_has_gone_go_with_it() {
    let dir = Dir::new("retire");
    let disk = dir.open();
    for n in 0..400 {
        if n < 40 {
            purge(&disk, &Purge::Tag(&n.to_string().into_bytes()), false).unwrap();
        }
        assert!(write(&disk, n, 0, &body(n, 0, 30_000)));
    }
    // everything that is there is younger than they are
    assert_eq!(disk.purges.records(), 40);
    for _ in 0..LOG_MIN / RECORD {
        purge(&disk, &Purge::Tag(b"again"), false).unwrap();
    }
    assert_eq!(disk.purges.records(), 1);
    assert_eq!(look(&disk, 399), Some(0));
}

/// Random writes, purges, restarts, and damage to files while nobody has them open.
#[test]
fn a_model_is_never_contradicted() {
    for seed in 1..=40 {
        let dir = Dir::new("model");
        let mut random = Random(0x1234_5678_9ABC_DEF1_u64.wrapping_mul(seed));
        let mut disk = dir.open();
        // of each key, the versions that may be seen: none, or one that no purge has covered
        let mut may: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut is_damaged = false;
        for version in 0..300 {
            let key = random.below(12);
            match random.below(20) {
                0 => {
                    purge_key(&disk, key).unwrap();
                    may.remove(&key);
                }
                1 => {
                    let tag = key % 3;
                    purge(&disk, &Purge::Tag(&tag_of(tag)), false).unwrap();
                    may.retain(|key, _| key % 3 != tag);
                }
                2 | 3 => {
                    drop(disk);
                    let files = dir.files();
                    let file = &files[random.below(files.len() as u64) as usize];
                    let mut bytes = fs::read(file).unwrap();
                    // where something is, more often than not
                    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
                    let at = random.below(used) as usize;
                    match random.below(4) {
                        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                        1 => bytes.truncate(at),
                        _ => {}
                    }
                    fs::write(file, &bytes).unwrap();
                    is_damaged = true;
                    disk = dir.open();
                }
                _ => {
                    let most = if random.below(4) == 0 { 60_000 } else { 2_000 };
                    let len = random.below(most);
                    let bytes = body(key, version, len as usize);
                    assert!(write(&disk, key, version, &bytes));
                    may.entry(key).or_default().push(version);
                }
            }
            let key = random.below(12);
            let versions = may.get(&key).map_or(&[][..], |versions| versions);
            match look(&disk, key) {
                Some(seen) if is_damaged => assert!(versions.contains(&seen), "seed {seed}"),
                Some(seen) => assert_eq!(Some(&seen), versions.last(), "seed {seed}"),
                None => assert!(is_damaged || versions.is_empty(), "seed {seed}"),
            }
        }
    }
}

/// The other process of [`killed_at_any_moment`].
#[test]
fn child_that_writes() {
    let Ok(dir) = std::env::var("NARTHEX_DISK_CHILD") else {
        return;
    };
    object::seed(Some(Path::new(&dir)));
    let disk = Disk::open(Path::new(&dir), SIZE, 0).unwrap();
    disk.recover().unwrap();
    let mut random = Random(u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for version in 0.. {
        let key = random.below(50);
        if random.below(10) == 0 {
            purge_key(&disk, key).unwrap();
            println!("\npurged {key}");
        } else {
            println!("\nwrite {key}");
            let bytes = body(key, version, random.below(60_000) as usize);
            write(&disk, key, version, &bytes);
        }
    }
}

#[test]
fn killed_at_any_moment() {
    let dir = Dir::new("kill");
    let rounds = if std::env::var_os("NARTHEX_E2E_FULL").is_some() {
        200
    } else {
        15
    };
    dir.open();
    let mut random = Random(99);
    let mut found = 0;
    for _ in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_writes", "--nocapture"])
            .env("NARTHEX_DISK_CHILD", &dir.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // acknowledged purges after which nothing of the key was begun
        let mut purged = std::collections::HashSet::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut count, until) = (0, 20 + random.below(150));
        while let Some(Ok(line)) = lines.next() {
            count += 1;
            if count == until {
                child.kill().unwrap(); // SIGKILL; what was printed is read to its end
            }
            if let Some(key) = line.strip_prefix("purged ") {
                purged.insert(key.parse::<u64>().unwrap());
            } else if let Some(key) = line.strip_prefix("write ") {
                purged.remove(&key.parse::<u64>().unwrap());
            }
        }
        child.wait().unwrap();
        let disk = dir.open();
        for key in 0..50 {
            let seen = look(&disk, key);
            found += usize::from(seen.is_some());
            assert!(seen.is_none() || !purged.contains(&key), "{key}");
        }
    }
    assert!(found > rounds, "{found}");
}

#[test]
fn a_second_request_is_told_from_a_first() {
    let sketch = Sketch::default();
    let mut random = Random(5);
    let keys: Vec<u64> = (0..1000).map(|_| random.below(u64::MAX)).collect();
    let firsts = keys.iter().filter(|key| {
        let before = sketch.count(**key);
        sketch.see(**key);
        before == 0
    });
    assert!(firsts.count() > 950);
    let known = || keys.iter().filter(|key| sketch.count(**key) > 0).count();
    assert!(known() > 950);
    // and is forgotten in time, although others were seen meanwhile
    for _ in 0..1_000_000 {
        sketch.see(random.below(u64::MAX));
    }
    assert!(known() < 300, "{}", known());
}

#[test]
fn a_hundred_thousand_entries_are_there_again() {
    const COUNT: u64 = 100_000;
    let dir = Dir::new("hundred");
    let size = 64 * 1024 * 1024;
    let disk = dir.open_with(size);
    for key in 0..COUNT {
        assert!(write(&disk, key, 1, b""));
    }
    let bytes = disk.index.bytes() as u64 / COUNT;
    println!("{bytes} bytes of index for each");
    assert!(bytes <= 100, "{bytes}");
    drop(disk);
    let begun = std::time::Instant::now();
    let disk = dir.open_with(size);
    println!("100,000 entries after a crash in {:?}", begun.elapsed());
    assert_eq!(disk.records(), COUNT as usize);
    disk.finish().unwrap();
    drop(disk);
    let begun = std::time::Instant::now();
    let disk = dir.open_with(size);
    println!("100,000 entries after an end in {:?}", begun.elapsed());
    assert_eq!(disk.records(), COUNT as usize);
    assert!(
        (0..COUNT)
            .step_by(999)
            .all(|key| look(&disk, key) == Some(1))
    );
}

#[test]
fn another_size_keeps_what_has_room() {
    let dir = Dir::new("resize");
    let disk = dir.open_with(4 * SIZE);
    let count = 300;
    for key in 0..count {
        assert!(write(&disk, key, 1, &body(key, 1, 30_000)));
    }
    drop(disk);
    let there = |disk: &Disk| (0..count).filter(|key| look(disk, *key) == Some(1)).count();
    for size in [8 * SIZE, 4 * SIZE] {
        assert_eq!(there(&dir.open_with(size)), count as usize);
    }
    let disk = dir.open();
    let kept = there(&disk);
    assert!((50..150).contains(&kept), "{kept}");
    assert_eq!(look(&disk, count - 1), Some(1));
    assert!(dir.bytes() <= SIZE);
    assert!(write(&disk, 0, 2, b""));
    drop(disk);
    assert_eq!(look(&dir.open(), 0), Some(2));
}

#[test]
fn a_list_of_records_says_the_same_as_the_records() {
    let dir = Dir::new("list");
    let disk = dir.open();
    for n in 0..200 {
        // each key several times
        assert!(write(&disk, n % 60, n, &body(n % 60, n, 9_000)));
    }
    let seen = |disk: &Disk| (0..60).map(|key| look(disk, key)).collect::<Vec<_>>();
    let before = seen(&disk);
    assert!(before.iter().all(Option::is_some));
    disk.finish().unwrap();
    drop(disk);
    let disk = dir.open();
    assert_eq!(seen(&disk), before);
    // what is written behind a list
    assert!(write(&disk, 7, 1_000, b""));
    drop(disk);
    let disk = dir.open();
    assert_eq!(look(&disk, 7), Some(1_000));
    disk.finish().unwrap();
    drop(disk);
    // each damage to it leaves the records
    let last = dir.files().into_iter().rfind(|f| segment_id(f).is_some());
    let last = last.unwrap();
    let good = fs::read(&last).unwrap();
    for back in 1..=200 {
        let mut bad = good.clone();
        let at = bad.len() - back;
        bad[at] ^= 1;
        fs::write(&last, bad).unwrap();
        assert_eq!(look(&dir.open(), 7), Some(1_000), "{back}");
    }
}

/// The other process of [`a_full_disk_is_an_error_that_is_counted`].
#[test]
fn child_on_a_full_disk() {
    let Ok(dir) = std::env::var("NARTHEX_DISK_FULL") else {
        return;
    };
    let disk = Disk::open(&Path::new(&dir).join("cache"), SIZE, 0).unwrap();
    disk.recover().unwrap();
    let put = |key| write(&disk, key, 1, &body(key, 1, 30_000));
    let written = (0..200).filter(|key| put(*key)).count();
    let errors = || disk.counts.errors.load(Ordering::Relaxed);
    assert!((10..40).contains(&written), "{written}");
    assert_eq!((errors(), disk.is_paused()), (1, true));
    let found = (0..200).filter(|key| look(&disk, *key).is_some()).count();
    assert_eq!(found, written);
    // there is room for it once everything that it covers has gone
    fs::write(Path::new(&dir).join("rest"), vec![1; 1 << 20]).unwrap_err();
    purge(&disk, &Purge::Everything, false).unwrap();
    assert!((0..200).all(|key| look(&disk, key).is_none()));
    println!("\nall of it");
}

#[test]
fn a_full_disk_is_an_error_that_is_counted() {
    let dir = Dir::new("full");
    fs::create_dir(&dir.0).unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$NARTHEX_DISK_FULL\" && \
        exec \"$0\" child_on_a_full_disk --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("NARTHEX_DISK_FULL", &dir.0)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("all of it"), "{output:?}");
}
