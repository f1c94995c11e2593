//! Every input of `fuzz/corpus` through its target, and a fixed sweep of small mutations of each: what the fuzzers know is
//! checked on stable, by everyone, every time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use narthex_e2e::kit::Rng;
use narthex_fuzz_targets::{TARGETS, Target};

/// Mutations of each input.
const MUTATIONS: usize = 200;

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|f| f.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn target(name: &str) -> Target {
    TARGETS.iter().find(|(n, _)| *n == name).unwrap().1
}

/// Runs one input; a failure says which bytes.
fn run(target: Target, bytes: &[u8], from: &Path) {
    let held = catch_unwind(AssertUnwindSafe(|| target(bytes))).is_ok();
    assert!(held, "{}: {}", from.display(), bytes.escape_ascii());
}

fn replay(name: &str) {
    let target = target(name);
    let all = corpus(name);
    assert!(!all.is_empty(), "no corpus for {name}");
    let mut rng = Rng(0x006e_6172_7468_6578);
    for (path, bytes) in &all {
        run(target, bytes, path);
        for _ in 0..MUTATIONS {
            run(target, &mutated(bytes, &mut rng), path);
        }
    }
}

/// A byte changed, doubled or dropped, a few times over; or the end cut off.
fn mutated(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    const LIKELY: &[u8] = b"\r\n \t:;,/%.\0\x7f\x80\"{}0fF";
    let mut out = bytes.to_vec();
    for _ in 0..=rng.below(3) {
        if out.is_empty() {
            break;
        }
        let at = rng.below(out.len());
        match rng.below(5) {
            0 => out[at] = LIKELY[rng.below(LIKELY.len())],
            1 => out[at] = rng.next_u64() as u8,
            2 => out.insert(at, LIKELY[rng.below(LIKELY.len())]),
            3 => drop(out.remove(at)),
            _ => out.truncate(at),
        }
    }
    out
}

#[test]
fn head() {
    replay("head");
}

#[test]
fn chunked() {
    replay("chunked");
}

#[test]
fn proxy_header() {
    replay("proxy_header");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn url() {
    replay("url");
}

#[test]
fn differential() {
    replay("differential");
}

#[test]
fn hpack() {
    replay("hpack");
}

#[test]
fn h2_server() {
    replay("h2_server");
}

#[test]
fn h2_client() {
    replay("h2_client");
}

#[test]
fn cache_policy() {
    replay("cache_policy");
}

#[test]
fn cache_key() {
    replay("cache_key");
}

#[test]
fn grpc_web() {
    replay("grpc_web");
}
