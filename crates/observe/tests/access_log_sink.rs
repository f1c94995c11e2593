//! The way of a record from a core to the disk: nothing lost at shutdown, rotation, full disks, readers that stall.

#![allow(clippy::unwrap_used)] // a test may fail loudly

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use narthex_observe::access_log::{Format, LogSink, LogTarget, Record};

const PATIENCE: Duration = Duration::from_secs(20);

fn open(path: &Path, buffer: usize) -> LogSink {
    LogSink::open(
        LogTarget::File(path.to_owned()),
        buffer,
        Duration::from_secs(1),
    )
    .unwrap()
}

fn record(id: &str) -> Record<'_> {
    Record {
        time_ms: 1_000_000,
        request_id: id.as_bytes(),
        path: b"/",
        ..Record::default()
    }
}

fn json() -> Arc<Format> {
    Arc::new(Format::Json)
}

fn ids(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(id).collect()
}

fn id(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value["request_id"].as_str().unwrap().to_owned()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::yield_now();
    }
}

fn fifo(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    path
}

/// Reads a FIFO's lines in a thread, so that a test can wait for them with a deadline.
fn reader(path: PathBuf) -> Receiver<String> {
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(fs::File::open(path).unwrap()).lines() {
            if send.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    lines
}

#[test]
fn many_cores_many_records_none_lost_at_shutdown() {
    const CORES: usize = 4;
    const EACH: usize = 5000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let sink = open(&path, 64 << 20);
    thread::scope(|scope| {
        for core in 0..CORES {
            let mut handle = sink.handle(json());
            scope.spawn(move || {
                for n in 0..EACH {
                    handle.log(&record(&format!("{core}-{n}")));
                }
            });
        }
    });
    let after = sink.clone();
    assert!(sink.close(PATIENCE));
    let mut found = ids(&path);
    assert_eq!(found.len(), CORES * EACH);
    for core in 0..CORES {
        let prefix = format!("{core}-");
        let own: Vec<_> = found
            .iter()
            .filter(|id| id.starts_with(&prefix))
            .cloned()
            .collect();
        let expected: Vec<_> = (0..EACH).map(|n| format!("{core}-{n}")).collect();
        assert_eq!(own, expected, "in order");
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), CORES * EACH);
    assert_eq!(
        (
            after.dropped(),
            after.lost(),
            after.errors(),
            after.pending_bytes()
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(after.written_bytes(), fs::metadata(&path).unwrap().len());
}

#[test]
fn files_are_not_for_everyone_and_are_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    for round in ["1", "2"] {
        let sink = open(&path, 1 << 20);
        sink.handle(json()).log(&record(round));
        assert!(sink.close(PATIENCE));
    }
    assert_eq!(ids(&path), ["1", "2"]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

#[test]
fn a_record_waits_no_longer_than_the_flush_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let sink = open(&path, 1 << 20);
    let mut handle = sink.handle(json());
    assert_eq!(handle.due_ms(), None);
    handle.log(&record("a"));
    assert_eq!(handle.due_ms(), Some(1_001_000));
    handle.flush_if_due(1_000_999);
    assert!(sink.flush(PATIENCE));
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    handle.flush_if_due(1_001_000);
    assert!(sink.flush(PATIENCE));
    assert_eq!(ids(&path), ["a"]);
    assert_eq!(handle.due_ms(), None);
    // a clock that went back does not hold records for ever
    handle.log(&record("b"));
    handle.flush_if_due(5);
    assert!(sink.flush(PATIENCE));
    assert_eq!(ids(&path), ["a", "b"]);
}

#[test]
fn rotation_divides_the_records_at_the_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (
        dir.path().join("access.log"),
        dir.path().join("access.log.1"),
    );
    let sink = open(&path, 1 << 20);
    let mut handle = sink.handle(json());
    handle.log(&record("before"));
    handle.flush();
    fs::rename(&path, &old).unwrap();
    sink.reopen();
    sink.reopen();
    handle.log(&record("after"));
    drop(handle);
    assert!(sink.close(PATIENCE));
    assert_eq!(ids(&old), ["before"]);
    assert_eq!(ids(&path), ["after"]);
}

#[test]
fn a_reopening_that_fails_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let sink = open(&logs.join("access.log"), 1 << 20);
    let moved = dir.path().join("moved");
    fs::rename(&logs, &moved).unwrap();
    sink.reopen();
    sink.handle(json()).log(&record("a"));
    let after = sink.clone();
    assert!(sink.close(PATIENCE));
    assert_eq!(after.errors(), 1);
    assert_eq!(ids(&moved.join("access.log")), ["a"]);
}

#[test]
fn a_full_disk_is_counted_and_does_not_stop_the_log() {
    let sink = open(Path::new("/dev/full"), 1 << 20);
    let mut handle = sink.handle(json());
    for round in 1..=3u64 {
        handle.log(&record("a"));
        handle.log(&record("b"));
        handle.flush();
        assert!(sink.flush(PATIENCE));
        assert_eq!(
            (sink.errors(), sink.lost(), sink.pending_bytes()),
            (round, round * 2, 0)
        );
    }
    assert_eq!((sink.dropped(), sink.written_bytes()), (0, 0));
}

#[test]
fn a_stalled_reader_costs_records_but_neither_memory_nor_time() {
    const RECORDS: u64 = 5000;
    const BOUND: usize = 16 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir);
    let sink = open(&path, BOUND);
    let mut handle = sink.handle(json());
    for n in 0..RECORDS {
        handle.log(&record(&n.to_string()));
        handle.flush_if_due(1_000_000 + n * 10_000);
        assert!(sink.pending_bytes() <= BOUND);
    }
    assert!(sink.dropped() > RECORDS / 2, "{} dropped", sink.dropped());
    // another log goes on meanwhile
    let other = dir.path().join("other.log");
    let lively = open(&other, 1 << 20);
    lively.handle(json()).log(&record("x"));
    assert!(lively.close(PATIENCE));
    assert_eq!(ids(&other), ["x"]);
    // when the reader wakes up it gets all that was not dropped, whole and in order
    let kept = RECORDS - sink.dropped();
    drop(handle);
    let lines = reader(path);
    let mut last = None;
    for _ in 0..kept {
        let n: u64 = id(&lines.recv_timeout(PATIENCE).unwrap()).parse().unwrap();
        assert!(last < Some(n));
        last = Some(n);
    }
    assert!(sink.close(PATIENCE));
    assert!(lines.try_recv().is_err());
}

#[test]
fn closing_does_not_wait_for_ever_and_counts_what_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir);
    let sink = open(&path, 1 << 20);
    let mut handle = sink.handle(json());
    for n in 0..1000 {
        handle.log(&record(&n.to_string()));
    }
    drop(handle);
    let after = sink.clone();
    assert!(!sink.close(Duration::from_millis(1)));
    until("the writer gives up", || after.pending_bytes() == 0);
    assert!(
        after.lost() > 0 && after.lost() < 1000,
        "{} lost",
        after.lost()
    );
}

#[test]
fn giant_records_pass_a_small_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let sink = open(&path, 100);
    let mut handle = sink.handle(json());
    let long = vec![0xff; 1 << 20];
    handle.log(&Record {
        user_agent: &long,
        ..record("giant")
    });
    assert!(sink.flush(PATIENCE));
    handle.log(&record("small"));
    drop(handle);
    assert!(sink.close(PATIENCE));
    assert_eq!(ids(&path), ["giant", "small"]);
}

#[test]
fn what_cannot_be_opened_is_said_with_its_name() {
    let target = LogTarget::File("/nonexistent/access.log".into());
    let error = LogSink::open(target, 1, Duration::ZERO)
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent/access.log"), "{error}");
}
