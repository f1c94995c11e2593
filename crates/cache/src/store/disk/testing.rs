//! What tests of the disk share.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::OpenError;

/// xorshift: each seed is one run.
pub struct Random(pub u64);

impl Random {
    /// The next number below this.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }
}

/// A directory that goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    /// Another one for each name.
    pub fn new(name: &str) -> Self {
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

    /// Opens it as soon as nobody has it.
    pub fn take<T>(&self, open: impl Fn() -> Result<T, OpenError>) -> T {
        // a process that another test starts has our files, too, until it is what it is to be
        let begun = Instant::now();
        loop {
            match open() {
                Err(OpenError::Taken(_)) if begun.elapsed().as_secs() < 20 => {
                    std::thread::yield_now();
                }
                opened => return opened.unwrap(),
            }
        }
    }

    /// Of all files.
    pub fn bytes(&self) -> u64 {
        let files = self.files();
        files.iter().map(|f| fs::metadata(f).unwrap().len()).sum()
    }

    /// By name.
    pub fn files(&self) -> Vec<PathBuf> {
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
