//! A proxy whose cache is in a directory, too, before an origin whose every answer can be checked ([`super::derived`]).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::attack::Client;
use super::derived::{self, Derived, Right};
use super::proxy::Proxy;
use super::{PATIENCE, eventually};

/// A proxy and its origin.
pub struct Scene {
    /// The proxy; first, so that it stops before its origin does.
    pub proxy: Proxy,
    /// The origin.
    pub origin: Derived,
}

/// The configuration: bytes of memory, and what stands in the block of `cache` at the top.
pub fn config(origin: &Derived, memory: &str, tiers: &str) -> String {
    Proxy::config(
        "connections per-client=0",
        &format!(
            "cache memory=\"{memory}\" {{ {tiers} }}\n\
             upstream \"u\" {{ server \"{}\" }}\n\
             site \"*\" {{\n cache {{ purge \"127.0.0.0/8\" }}\n proxy \"u\"\n}}",
            origin.place()
        ),
    )
}

/// A directory below that of the proxy.
pub fn disk(size: &str) -> String {
    format!("disk \"@DIR@/cache\" size=\"{size}\"")
}

impl Scene {
    /// With so much memory, and a directory of this size.
    #[track_caller]
    pub fn start(memory: &str, size: &str) -> Self {
        let origin = Derived::start();
        let proxy = Proxy::start(&config(&origin, memory, &disk(size)));
        let scene = Self { proxy, origin };
        scene.await_recovered();
        scene
    }

    /// The cache's directory.
    pub fn directory(&self) -> PathBuf {
        self.proxy.dir().join("cache")
    }

    /// Asks for `http://h0{path}`; the answer must be right.
    #[track_caller]
    pub fn ask(&self, path: &str) -> Right {
        self.ask_of("h0", path)
    }

    /// The same of another host.
    #[track_caller]
    pub fn ask_of(&self, host: &str, path: &str) -> Right {
        let mut client = self.proxy.connect();
        let answer = derived::ask(&mut client, host, path)
            .unwrap_or_else(|why| panic!("{host}{path}: {why:?}\n{}", self.proxy.stderr()));
        derived::judge(&format!("{host}{path}"), &answer).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Asks for each so often that it is worth keeping, and waits until all of them are on disk. What is in the cache is there already,
    /// by this way or since it was read.
    #[track_caller]
    pub fn keep(&self, paths: &[String]) {
        let before = self.metric("narthex_cache_disk_written_total");
        let new = paths.iter().filter(|path| !self.ask(path).is_hit).count() as u64;
        for _ in 0..2 {
            for path in paths {
                self.ask(path);
            }
        }
        let written = || self.metric("narthex_cache_disk_written_total") - before;
        assert!(
            eventually(PATIENCE, || written() >= new),
            "{} of {new} were written",
            written()
        );
    }

    /// Waits until what was on disk is found.
    #[track_caller]
    pub fn await_recovered(&self) {
        let is = || self.metric("narthex_cache_disk_recovered") == 1;
        assert!(eventually(PATIENCE * 3, is), "{}", self.proxy.stderr());
    }

    /// A series without labels, of the process that answers now; 0 if there is none.
    pub fn metric(&self, series: &str) -> u64 {
        let metrics = self.proxy.metrics();
        let line = metrics
            .lines()
            .find(|l| l.strip_prefix(series).is_some_and(|l| l.starts_with(' ')));
        line.and_then(|l| l.rsplit(' ').next())
            .and_then(|v| v.parse::<f64>().ok())
            .map_or(0, |v| v as u64)
    }

    /// Posts to the admin API.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let answer = self.proxy.admin(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let said = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|e| panic!("{e}: {}", answer.text()));
        (answer.status, said)
    }

    /// Purges over the admin API.
    #[track_caller]
    pub fn purge(&self, what: &Value) {
        let (status, said) = self.post("/cache/purge", what);
        assert_eq!(status, 200, "{what}: {said}");
    }

    /// Takes an address down, or takes that back.
    #[track_caller]
    pub fn block(&self, path: &str) {
        let what = json!({ "url": format!("http://h0{path}"), "reason": "an order" });
        let (status, said) = self.post("/cache/blocks", &what);
        assert_eq!(status, 200, "{said}");
    }

    /// The status that an address is answered with.
    #[track_caller]
    pub fn status(&self, path: &str) -> u16 {
        let mut client = self.proxy.connect();
        let answer = derived::ask(&mut client, "h0", path);
        answer
            .unwrap_or_else(|why| panic!("{path}: {why:?}"))
            .status
    }

    /// Every file of the directory.
    pub fn files(&self) -> Vec<PathBuf> {
        files(&self.directory())
    }

    /// A connection that is kept.
    pub fn connect(&self) -> Client {
        self.proxy.connect()
    }
}

/// Every file of a directory, by name.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// What its files take: by their lengths, and by their blocks.
pub fn used(directory: &Path) -> (u64, u64) {
    let found = files(directory);
    // one may go while we look
    let found = found.iter().filter_map(|path| fs::metadata(path).ok());
    found.fold((0, 0), |(length, blocks), file| {
        (length + file.len(), blocks + file.blocks() * 512)
    })
}
