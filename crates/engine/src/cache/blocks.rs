//! Takedowns in the cache's directory, so that no restart forgets them.
//!
//! One file, written whole beside its place, synchronised and renamed before a takedown is acknowledged. Each line has a sum of its
//! own: what is damaged is left out and said, and the rest holds.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use narthex_proxy::Shared;
use narthex_proxy::control::{Block, Blocked, Pattern};
use serde::{Deserialize, Serialize};

/// Bytes of the file at most; it is there twice while it is written anew, and beside a damaged one.
const FILE_MAX: usize = 1024 * 1024;
/// What the directory must have room for beside the records.
pub(super) const ROOM: u64 = 3 * FILE_MAX as u64;
/// First line: what it is, and how many lines follow.
const TITLE: &str = "narthex-blocks 1";
pub(super) const NAME: &str = "blocks";
/// Beside it, while it is written.
const NEW: &str = "blocks.new";
/// A damaged one, for people.
const ASIDE: &str = "blocks.damaged";

/// A takedown as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    host: String,
    path: String,
    prefix: bool,
    status: u16,
    reason: String,
    until_ms: Option<u64>,
}

impl Saved {
    fn of(block: &Block) -> Self {
        Self {
            host: block.host.to_string(),
            // canonical paths are text
            path: String::from_utf8_lossy(&block.path).into_owned(),
            prefix: block.is_prefix,
            status: block.blocked.status,
            reason: block.blocked.reason.to_string(),
            until_ms: block.blocked.until_ms,
        }
    }

    fn pattern(&self) -> Pattern<'_> {
        Pattern {
            host: &self.host,
            path: self.path.as_bytes(),
            is_prefix: self.prefix,
        }
    }
}

/// Takedowns beyond what the file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the takedowns that are kept on disk fill their {FILE_MAX} bytes; take one back, or block a prefix that covers several"
)]
pub(super) struct TooMany;

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    blocks: Vec<Saved>,
    /// Lines that were not what was written.
    damaged: usize,
}

/// FNV-1a: for what a disk does, not for what people do.
fn sum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn line(block: &Saved) -> String {
    // a struct of text and numbers
    let text = serde_json::to_string(block).unwrap_or_default();
    format!("{:016x} {text}\n", sum(&text))
}

fn file_of(blocks: &[Saved]) -> String {
    let mut text = format!("{TITLE} {}\n", blocks.len());
    text.extend(blocks.iter().map(line));
    text
}

fn read(text: &[u8]) -> Known {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let announced = lines
        .next()
        .and_then(|first| first.strip_prefix(TITLE)?.trim().parse().ok());
    let blocks: Vec<Saved> = lines
        .filter_map(|line| {
            let (own, text) = line.split_once(' ')?;
            let is_whole = u64::from_str_radix(own, 16) == Ok(sum(text));
            is_whole.then(|| serde_json::from_str(text).ok())?
        })
        .collect();
    // of a first line that is damaged nothing is known but that something was
    let announced: usize = announced.unwrap_or(blocks.len() + 1);
    Known {
        damaged: announced.saturating_sub(blocks.len()),
        blocks,
    }
}

/// Would one more still have room?
pub(super) fn has_room(
    shared: &Shared,
    pattern: Pattern<'_>,
    blocked: &Blocked,
) -> Result<(), TooMany> {
    let more = Block {
        host: pattern.host.into(),
        path: pattern.path.into(),
        is_prefix: pattern.is_prefix,
        blocked: Arc::new(blocked.clone()),
    };
    let all = shared.blocks();
    let lines = all.iter().chain([&more]).map(|b| line(&Saved::of(b)).len());
    // the first line has a number
    let bytes: usize = lines.sum::<usize>() + TITLE.len() + 24;
    (bytes <= FILE_MAX).then_some(()).ok_or(TooMany)
}

/// Makes what is blocked what the file says; with `keep`, beside what is blocked now. A file that is not there says nothing is.
pub(super) fn load(directory: &Path, shared: &Shared, keep: bool, now_ms: u64) -> io::Result<()> {
    let path = directory.join(NAME);
    let mut bytes = Vec::new();
    match File::open(&path) {
        Ok(file) => drop(file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?),
        Err(error) if error.kind() == ErrorKind::NotFound => bytes.extend(file_of(&[]).bytes()),
        Err(error) => return Err(error),
    }
    let Known { blocks, damaged } = read(&bytes);
    if damaged > 0 {
        let aside = directory.join(ASIDE);
        let kept = std::fs::rename(&path, &aside);
        tracing::error!(
            lost = damaged,
            kept = blocks.len(),
            file = %aside.display(),
            is_kept = kept.is_ok(),
            "takedowns in the cache's directory are damaged; block what is missing anew (`narthex cache blocks` lists what holds)"
        );
        // what holds must not wait for the next change to be written
        write(directory, &blocks)?;
    }
    for block in shared.blocks() {
        let saved = Saved::of(&block);
        if !keep && !blocks.iter().any(|b| b.pattern_is(&saved)) {
            shared.unblock(saved.pattern());
        }
    }
    for block in &blocks {
        let blocked = Blocked {
            status: block.status,
            reason: block.reason.as_str().into(),
            until_ms: block.until_ms,
        };
        if let Err(full) = shared.block_again(block.pattern(), blocked, now_ms) {
            tracing::error!(%full, host = block.host, path = block.path, "not taken down again");
        }
    }
    if !blocks.is_empty() {
        tracing::info!(
            blocks = blocks.len(),
            "takedowns of the process before hold"
        );
    }
    Ok(())
}

impl Saved {
    fn pattern_is(&self, other: &Self) -> bool {
        (&self.host, &self.path, self.prefix) == (&other.host, &other.path, other.prefix)
    }
}

/// Writes down what is blocked now. It is on disk when this returns.
pub(super) fn save(directory: &Path, shared: &Shared, now_ms: u64) -> io::Result<()> {
    /// Who writes last has seen what the others have blocked.
    static WRITING: Mutex<()> = Mutex::new(());
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let blocks: Vec<Saved> = shared
        .blocks()
        .iter()
        .filter(|block| block.blocked.until_ms.is_none_or(|until| until > now_ms))
        .map(Saved::of)
        .collect();
    write(directory, &blocks)
}

fn write(directory: &Path, blocks: &[Saved]) -> io::Result<()> {
    let new = directory.join(NEW);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(file_of(blocks).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(path: &str) -> Saved {
        Saved {
            host: "a.test".to_owned(),
            path: path.to_owned(),
            prefix: false,
            status: 451,
            reason: "a \"reason\"\nof two lines".to_owned(),
            until_ms: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let all = [saved("/a"), saved("/b?c=d"), saved("/ü")];
        let text = file_of(&all);
        let read = read(text.as_bytes());
        assert_eq!((read.blocks.as_slice(), read.damaged), (&all[..], 0));
    }

    #[test]
    fn whatever_byte_is_damaged_the_other_lines_hold_and_it_is_noticed() {
        let all = [saved("/a"), saved("/b"), saved("/c")];
        let text = file_of(&all);
        for at in 0..text.len() {
            for bit in [0, 3, 7] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let read = read(&bytes);
                let left = read.blocks.len();
                assert!(read.blocks.iter().all(|b| all.contains(b)), "{at} {bit}");
                // of a line end, two lines
                assert!(left >= 1, "{at} {bit}");
                if left < 3 {
                    assert!(read.damaged > 0, "{at} {bit}");
                }
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_says_so() {
        let text = file_of(&[saved("/a"), saved("/b")]);
        for end in 0..text.len() - 1 {
            let read = read(&text.as_bytes()[..end]);
            assert!(read.damaged > 0, "{end}");
        }
    }
}
