//! What is found is what was written and was not purged, whatever happens to the files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

const SIZE: u64 = RESERVE + SEGMENTS * SEGMENT_MIN;

/// xorshift: each seed is one run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("narthex-disk-{name}-{}", std::process::id());
        // in memory if there is such a place: thousands of syncs take a minute on a slow disk
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        let path = parent.join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self) -> Disk {
        // a process that another test starts has our files, too, until it is what it is to be
        let begun = std::time::Instant::now();
        let disk = loop {
            match Disk::open(&self.0, SIZE) {
                Err(OpenError::Taken(_)) if begun.elapsed().as_secs() < 20 => {
                    std::thread::yield_now();
                }
                opened => break opened.unwrap(),
            }
        };
        disk.recover().unwrap();
        disk
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        files.sort();
        files
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn head(key: u64, version: u64, born: u64) -> Head {
    Head {
        born,
        key: format!("key {key}").into_bytes(),
        variant: Vec::new(),
        labels: vec![
            b"a.example".to_vec(),
            format!("/{key}").into_bytes(),
            format!("tag{}", key % 3).into_bytes(),
        ],
        meta: version.to_le_bytes().to_vec(),
    }
}

/// The body that a version has.
fn body(key: u64, version: u64, len: usize) -> Vec<u8> {
    let mut random = Random(key.wrapping_mul(0x9E37_79B9) ^ (version + 1) << 20 ^ len as u64 | 1);
    (0..len).map(|_| random.below(256) as u8).collect()
}

fn whole(disk: &Disk, stored: &Stored) -> Option<Vec<u8>> {
    let blocks = 0..record::blocks(stored.body);
    let read: Option<Vec<_>> = blocks.map(|n| disk.read(stored, n)).collect();
    read.map(|blocks| blocks.concat())
}

/// What is there of a key: its version. Wrong bytes are a panic.
fn look(disk: &Disk, key: u64) -> Option<u64> {
    let stored = disk.find(format!("key {key}").as_bytes(), |_| true)?;
    let bytes = whole(disk, &stored)?;
    let version = u64::from_le_bytes(stored.head.meta.as_slice().try_into().unwrap());
    assert_eq!(stored.head, head(key, version, stored.head.born));
    assert!(
        bytes == body(key, version, bytes.len()),
        "wrong bytes of {key}"
    );
    assert_eq!(bytes.len() as u64, stored.body);
    Some(version)
}

#[test]
fn what_is_written_is_there_after_a_restart() {
    let dir = Dir::new("restart");
    let disk = dir.open();
    for key in 0..20 {
        assert!(disk.write(&head(key, 1, 0), &body(key, 1, key as usize * 3000), 0));
    }
    assert!(disk.write(&head(3, 2, 0), &body(3, 2, 10), 0));
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
    disk.write(&head(1, 1, 0), b"", 0);
    disk.purge(What::Tag(b"x".to_vec()), false).unwrap();
    assert!(matches!(Disk::open(&dir.0, SIZE), Err(OpenError::Taken(_))));
    assert!(matches!(
        Disk::open(&dir.0, SIZE - 4096),
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
        assert!(disk.write(&head(n, 0, 0), &body(n, 0, len), 0));
        let used: u64 = dir
            .files()
            .iter()
            .map(|f| fs::metadata(f).unwrap().len())
            .sum();
        assert!(used <= SIZE, "{used}");
        assert!(look(&disk, n).is_some());
    }
    assert!(disk.counts.dropped.load(Ordering::Relaxed) > 50);
    let there: Vec<bool> = (0..400).map(|n| look(&disk, n).is_some()).collect();
    assert!(!there[0] && there[399]);
    assert_eq!(there.iter().filter(|is| **is).count(), disk.keys());
    assert!(!disk.write(&head(1, 0, 0), &vec![0; SEGMENT_MIN as usize], 0));
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_record_is_a_miss() {
    let dir = Dir::new("flip");
    let disk = dir.open();
    disk.write(&head(1, 1, 0), &body(1, 1, 700), 0);
    drop(disk);
    let segment = dir
        .files()
        .into_iter()
        .find(|f| segment_id(f).is_some())
        .unwrap();
    let good = fs::read(&segment).unwrap();
    let end = record::head_len(&head(1, 1, 0), 700).unwrap() + 700;
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
    assert_eq!(disk.keys(), 0);
    assert!(disk.write(&head(1, 1, 0), b"", 0));
    assert_eq!(fs::read(dir.0.join("notes.txt")).unwrap(), b"mine");
    drop(disk);
    // a segment that another directory's process wrote
    let other = Dir::new("foreign2");
    other.open();
    let name = "segment-0000000000000000";
    fs::copy(dir.0.join(name), other.0.join(name)).unwrap();
    assert_eq!(other.open().keys(), 0);
}

#[test]
fn a_purge_outlives_the_process_and_a_damaged_log_purges_all() {
    let dir = Dir::new("purge");
    let disk = dir.open();
    for key in 0..9 {
        disk.write(&head(key, 1, 0), &body(key, 1, 100), 0);
    }
    disk.purge(What::Key(b"key 4".to_vec()), false).unwrap();
    disk.purge(What::Tag(b"tag0".to_vec()), false).unwrap();
    disk.purge(What::Prefix(b"a.example".to_vec(), b"/7".to_vec()), true)
        .unwrap();
    // what was fetched before a purge is not written after it
    assert!(!disk.write(&head(3, 2, 1), b"", 0));
    // from the future: no purge would cover it
    assert!(!disk.write(&head(8, 2, 4), b"", 0));
    let expected = |disk: &Disk| {
        for key in 0..9 {
            let is_purged = key % 3 == 0 || key == 4;
            assert_eq!(look(disk, key).is_none(), is_purged, "{key}");
        }
        assert!(disk.find(b"key 7", |_| true).unwrap().soft);
        assert!(!disk.find(b"key 8", |_| true).unwrap().soft);
        assert_eq!(disk.sequence(), 3);
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
                    (disk.keys(), disk.sequence()),
                    (0, 0),
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
    disk.write(&head(1, 1, 0), b"", 0);
    for n in 0..=log::PURGES_MAX as u64 {
        assert!(look(&disk, 1).is_some(), "{n}");
        disk.purge(What::Tag(n.to_le_bytes().to_vec()), false)
            .unwrap();
    }
    assert_eq!(look(&disk, 1), None);
    let sequence = disk.sequence();
    assert!(disk.write(&head(1, 0, sequence), b"", 0));
    drop(disk);
    let disk = dir.open();
    assert_eq!((disk.sequence(), look(&disk, 1)), (sequence, Some(0)));
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
                    disk.purge(What::Key(format!("key {key}").into_bytes()), false)
                        .unwrap();
                    may.remove(&key);
                }
                1 => {
                    let tag = key % 3;
                    disk.purge(What::Tag(format!("tag{tag}").into_bytes()), false)
                        .unwrap();
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
                    assert!(disk.write(&head(key, version, disk.sequence()), &bytes, 0));
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
    let disk = Disk::open(Path::new(&dir), SIZE).unwrap();
    disk.recover().unwrap();
    let mut random = Random(u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for version in 0.. {
        let key = random.below(50);
        if random.below(10) == 0 {
            disk.purge(What::Key(format!("key {key}").into_bytes()), false)
                .unwrap();
            println!("\npurged {key}");
        } else {
            println!("\nwrite {key}");
            let bytes = body(key, version, random.below(60_000) as usize);
            disk.write(&head(key, version, disk.sequence()), &bytes, 0);
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
    let firsts = keys.iter().filter(|key| sketch.see(**key) == 0).count();
    assert!(firsts > 950, "{firsts}");
    assert!(keys.iter().all(|key| sketch.see(*key) > 0));
}

#[test]
fn an_index_entry_is_small() {
    assert_eq!(size_of::<Place>(), 16);
    assert!(size_of::<(u64, Box<[Place]>)>() <= 24);
}

#[test]
fn a_hundred_thousand_entries_are_there_again() {
    const COUNT: u64 = 100_000;
    let dir = Dir::new("hundred");
    let size = 64 * 1024 * 1024;
    let disk = Disk::open(&dir.0, size).unwrap();
    disk.recover().unwrap();
    for key in 0..COUNT {
        assert!(disk.write(&head(key, 1, 0), b"", 0));
    }
    drop(disk);
    let begun = std::time::Instant::now();
    let disk = Disk::open(&dir.0, size).unwrap();
    disk.recover().unwrap();
    println!("100,000 entries read in {:?}", begun.elapsed());
    assert_eq!(disk.keys(), COUNT as usize);
}

/// The other process of [`a_full_disk_is_an_error_that_is_counted`].
#[test]
fn child_on_a_full_disk() {
    let Ok(dir) = std::env::var("NARTHEX_DISK_FULL") else {
        return;
    };
    let disk = Disk::open(&Path::new(&dir).join("cache"), SIZE).unwrap();
    disk.recover().unwrap();
    let write = |key, now_ms| disk.write(&head(key, 1, 0), &body(key, 1, 30_000), now_ms);
    let written = (0..200).filter(|key| write(*key, 0)).count();
    let errors = || disk.counts.errors.load(Ordering::Relaxed);
    assert!((10..40).contains(&written), "{written}");
    assert_eq!(errors(), u64::from(ERRORS_MAX), "then it is paused");
    let found = (0..200).filter(|key| look(&disk, *key).is_some()).count();
    assert_eq!(found, written);
    write(0, PAUSE_MS);
    assert_eq!(errors(), u64::from(ERRORS_MAX) + 1, "and tried again");
    if disk.purge(What::All, false).is_ok() {
        assert!((0..200).all(|key| look(&disk, key).is_none()));
    }
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
