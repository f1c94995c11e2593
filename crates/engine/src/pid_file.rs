//! The pid file: written when the sockets are open, removed at the end, replaced only when its owner is gone.

use std::io;
use std::path::{Path, PathBuf};

/// A pid file that is ours; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

/// Why there is no pid file.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another process holds it.
    #[error(
        "{path} names process {pid}, which is running; stop it first, or choose another pid-file"
    )]
    Running {
        /// The file.
        path: PathBuf,
        /// The process.
        pid: u32,
    },
    /// It cannot be written.
    #[error("cannot write the pid file {path}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl PidFile {
    /// Writes our process number to `path`.
    pub fn write(path: &Path) -> Result<Self, PidFileError> {
        if let Some(pid) = owner(path).filter(|pid| *pid != std::process::id() && is_running(*pid))
        {
            return Err(PidFileError::Running {
                path: path.to_owned(),
                pid,
            });
        }
        Self::take_over(path)
    }

    /// Writes our process number to `path`, whoever it names: we take over from that process.
    pub fn take_over(path: &Path) -> Result<Self, PidFileError> {
        std::fs::write(path, format!("{}\n", std::process::id())).map_err(|error| {
            PidFileError::Write {
                path: path.to_owned(),
                error,
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl PidFile {
    /// Leaves the file as it is: a successor writes its own number.
    pub fn leave(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if owner(&self.path) != Some(std::process::id()) {
            return;
        }
        // After the privileges are dropped the directory may be closed to us; an empty file then names nobody.
        if std::fs::remove_file(&self.path).is_err() {
            let _ = std::fs::write(&self.path, b"");
        }
    }
}

fn owner(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("narthex.pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(owner(&path), Some(std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_successor_takes_it_over_and_the_one_before_leaves_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("narthex.pid");
        std::fs::write(&path, "1\n").unwrap();
        let file = PidFile::take_over(&path).unwrap();
        assert_eq!(owner(&path), Some(std::process::id()));
        file.leave();
        assert!(path.exists());
    }

    #[test]
    fn a_running_owner_is_respected_and_a_dead_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("narthex.pid");
        std::fs::write(&path, "1\n").unwrap();
        assert!(matches!(
            PidFile::write(&path),
            Err(PidFileError::Running { pid: 1, .. })
        ));
        // Above the kernel's largest pid (2^22): nobody.
        std::fs::write(&path, "4194305\n").unwrap();
        assert!(PidFile::write(&path).is_ok());
    }
}
