//! A file of servers that is watched.
//!
//! Read at the start, when something changes in its directory, and every few seconds for file systems that tell of nothing.
//! A file that is missing or does not parse is a failure of the source: it may be half written.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use narthex_config::model::Server;
use narthex_config::servers::{self, List};

use super::delta::Delta;
use super::inotify::Directory;
use super::sink::{Sink, Skipped};

/// Largest file, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// A look without being told.
const LOOK: Duration = Duration::from_secs(5);
/// The next look at a file that may be half written.
const FRESH: Duration = Duration::from_secs(1);
/// After being told: several changes come together.
const SETTLE: Duration = Duration::from_millis(20);

/// What tells one state of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is known of the file.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// Nothing: it is read as it is.
    Start,
    Read(Stamp),
    Missing,
}

/// What a look found.
enum Look {
    Same,
    /// It was written a moment ago, and nobody has said that the writer is done.
    Fresh,
    Read(Result<List, String>, Before),
}

/// Never returns.
pub(super) async fn run(path: PathBuf, mut sink: Sink) {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    };
    let name = path.file_name().unwrap_or_default().to_owned();
    let mut before = Before::Start;
    let mut done = true;
    let mut watch = None;
    loop {
        // Watched before it is looked at, so that no change falls between.
        if watch.is_none() {
            watch = Directory::watch(&directory).ok();
        }
        let looked_at = path.clone();
        let look = tokio::task::spawn_blocking(move || look(&looked_at, before, done)).await;
        let longest = match look {
            Ok(Look::Read(list, now)) => {
                before = now;
                take(&mut sink, list);
                LOOK
            }
            Ok(Look::Fresh) => FRESH,
            Ok(Look::Same) | Err(_) => LOOK,
        };
        done = wait(&mut watch, &name, longest).await;
    }
}

/// Until the next look. True if the file has been written, or put there, as a whole.
async fn wait(watch: &mut Option<Directory>, name: &OsStr, longest: Duration) -> bool {
    let changed = match watch {
        Some(directory) => tokio::time::timeout(longest, directory.changed(name)).await,
        None => {
            tokio::time::sleep(longest).await;
            return false;
        }
    };
    match changed {
        Ok(Ok(done)) => {
            tokio::time::sleep(SETTLE).await;
            done
        }
        // The directory may be another one by now.
        Err(_) => {
            *watch = None;
            false
        }
        Ok(Err(_)) => {
            *watch = None;
            tokio::time::sleep(longest).await;
            false
        }
    }
}

fn take(sink: &mut Sink, list: Result<List, String>) {
    match list {
        Ok(list) => {
            sink.left_out(list.skipped.into_iter().map(left_out).collect());
            sink.take(Delta::Snapshot(keyed(list.servers)));
        }
        Err(why) => sink.lost(&why),
    }
}

fn left_out(skipped: servers::Skipped) -> Skipped {
    Skipped {
        reason: "invalid",
        entry: skipped.place,
        why: skipped.why,
    }
}

/// In written order, which the number keeps; a server that moves in the file is the same server all the same.
fn keyed(servers: Vec<Server>) -> Vec<(String, Server)> {
    let keyed = |(index, server)| (format!("{index:06}"), server);
    servers.into_iter().enumerate().map(keyed).collect()
}

/// Runs on a thread that may wait for a disk.
fn look(path: &Path, before: Before, done: bool) -> Look {
    let now = match std::fs::metadata(path) {
        Ok(metadata) => stamp(&metadata),
        Err(error) => {
            let why = format!("cannot read the file: {error}");
            return Look::Read(Err(why), Before::Missing);
        }
    };
    let halfway = match before {
        Before::Start => false,
        Before::Read(then) if then == now => return Look::Same,
        // Another file under the name was put there as a whole.
        Before::Read(then) => (then.device, then.inode) == (now.device, now.inode),
        Before::Missing => true,
    };
    if halfway && !done && is_fresh(&now) {
        return Look::Fresh;
    }
    let list = read(path).and_then(|text| servers::read(&path.to_string_lossy(), &text));
    Look::Read(list, Before::Read(now))
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Written in the last second.
fn is_fresh(stamp: &Stamp) -> bool {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    (0..=1).contains(&now.saturating_sub(stamp.modified.0))
}

fn read(path: &Path) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("cannot read the file: {error}");
    // Looked at before it is opened: a pipe would wait for a writer, for ever.
    if !std::fs::metadata(path).map_err(wrong)?.is_file() {
        return Err("this is not a regular file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(wrong)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(wrong)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("the file is larger than {} MiB", MAX_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
}
