//! Where keys and certificates are kept: the trait, and files in a directory.
//!
//! A file is whole or not there: written beside its place, synchronised, renamed, and the directory synchronised. A file
//! that cannot be read as what it should be is moved aside and named in the log; nothing is ever put over it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one file at most: a chain and its key take some 10 KiB.
const FILE_MAX: u64 = 1 << 20;
/// Bytes of a file's name that we make of a name; what is longer is cut and gets a hash. File systems allow 255.
const NAME_MAX: usize = 180;
/// Files that were broken, kept aside per place.
const ASIDE_MAX: u32 = 100;

/// What goes wrong with the store, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {what} {}: {error}{}", path.display(), remedy(error))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others than us get at it.
    #[error(
        "others get at {} (mode {mode:o}), which is for private keys: `chmod go= {}`", path.display(), path.display()
    )]
    Open {
        /// What.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not what was written there.
    #[error("{} is broken ({why}); it is kept as {} and not used", path.display(), kept.display())]
    Broken {
        /// Where it was.
        path: PathBuf,
        /// Why.
        why: String,
        /// Where it is now.
        kept: PathBuf,
    },
    /// Not a name of ours.
    #[error("`{0}` is no name for a stored file")]
    Name(String),
    /// A thread of ours died with it.
    #[error("the work on the store was lost: {0}")]
    Lost(String),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there, what was stored before is untouched"
        }
        io::ErrorKind::PermissionDenied => {
            "; the directory must belong to the user that the proxy runs as"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; name a directory that can be written to",
        _ => "",
    }
}

/// A store of small named things. Calls may take as long as a disk takes: they are made on threads for that.
pub trait Storage: Send + Sync + 'static {
    /// What is there, if anything.
    fn load(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError>;
    /// Puts it there whole, or leaves what was there.
    fn save(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError>;
    /// Takes it away; what is not there is gone already.
    fn remove(&self, place: &Place) -> Result<(), StoreError>;
    /// Moves a broken one aside, and says where and why.
    fn set_aside(&self, place: &Place, why: &str) -> StoreError;
    /// Are we the one who writes here? Asked again until it is so; holds until we end.
    fn own(&self) -> Result<bool, StoreError>;
}

/// Where something is: a folder and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    folder: &'static str,
    file: String,
}

impl Place {
    /// The place of `name` in `folder`. Host names, wildcards, addresses and URLs all have one, and two never share one.
    pub fn new(folder: &'static str, name: &str) -> Self {
        let plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        let file = match name.strip_prefix("*.") {
            Some(rest) if !rest.is_empty() && rest.bytes().all(plain) => format!("_.{rest}"),
            None if !name.is_empty() && name.bytes().all(plain) && !name.starts_with('.') => {
                name.to_owned()
            }
            // Anything else by its readable part and a hash of all of it.
            _ => hashed(name),
        };
        let file = if file.len() > NAME_MAX {
            hashed(name)
        } else {
            file
        };
        Self {
            folder,
            file: format!("{file}.json"),
        }
    }
}

fn hashed(name: &str) -> String {
    let readable: String = name
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() {
                b.to_ascii_lowercase() as char
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    let half = hash.as_ref().iter().take(16);
    let number = half.fold(0_u128, |sum, b| (sum << 8) | u128::from(*b));
    format!("{readable}_{number:032x}")
}

/// A directory of ours.
pub struct Directory {
    root: PathBuf,
    /// Held for as long as we live: the lock ends with the descriptor.
    lock: Mutex<Option<File>>,
    /// Files that were begun.
    written: AtomicU64,
}

impl Directory {
    /// Opens it, and makes it (0700) if it is not there.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        // A service manager makes it readable; what is in it is ours alone.
        private_directory(root, 0o022)?;
        Ok(Self {
            root: root.to_owned(),
            lock: Mutex::new(None),
            written: AtomicU64::new(0),
        })
    }

    fn path(&self, place: &Place) -> PathBuf {
        self.root.join(place.folder).join(&place.file)
    }

    /// Takes away what an end in the middle of a write has left.
    fn sweep(&self) {
        let folders = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten();
        for folder in folders {
            for file in std::fs::read_dir(folder.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                if file.file_name().to_string_lossy().starts_with(".new-") {
                    let _ = std::fs::remove_file(file.path());
                }
            }
        }
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Io { what, path, error }
}

/// `forbidden`: permission bits that it must not have.
fn private_directory(path: &Path, forbidden: u32) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700).recursive(true);
    builder
        .create(path)
        .map_err(io_error("make the directory", path))?;
    let mode = std::fs::metadata(path)
        .map_err(io_error("look at", path))?
        .mode()
        & 0o777;
    if mode & forbidden != 0 {
        return Err(StoreError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("synchronise", path))
}

impl Storage for Directory {
    fn load(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(place);
        let file = match OpenOptions::new().read(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mode = file.metadata().map_err(io_error("look at", &path))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Open { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX)
            .read_to_end(&mut bytes)
            .map_err(io_error("read", &path))?;
        Ok(Some(bytes))
    }

    fn save(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(place);
        if bytes.is_empty() {
            return Err(StoreError::Name(format!("nothing, at {}", path.display())));
        }
        let folder = self.root.join(place.folder);
        let fresh = !folder.exists();
        private_directory(&folder, 0o077)?;
        if fresh {
            sync_directory(&self.root)?;
        }
        // Two writers of one place have a file each; who renames last is who wrote last.
        let n = self.written.fetch_add(1, Ordering::Relaxed);
        let new = folder.join(format!(".new-{n}-{}", place.file));
        let written = write_new(&new, bytes);
        let put = written.and_then(|()| {
            std::fs::rename(&new, &path).map_err(io_error("rename into place", &path))
        });
        if put.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        put.and_then(|()| sync_directory(&folder))
    }

    fn remove(&self, place: &Place) -> Result<(), StoreError> {
        let path = self.path(place);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn set_aside(&self, place: &Place, why: &str) -> StoreError {
        let path = self.path(place);
        for n in 1..=ASIDE_MAX {
            let mut kept = path.clone().into_os_string();
            kept.push(format!(".broken-{n}"));
            let kept = PathBuf::from(kept);
            if kept.exists() {
                continue;
            }
            return match std::fs::rename(&path, &kept) {
                Ok(()) => StoreError::Broken {
                    path,
                    why: why.to_owned(),
                    kept,
                },
                Err(error) => io_error("keep aside the broken", &path)(error),
            };
        }
        io_error("keep aside the broken", &path)(io::Error::other(
            "a hundred of them are kept already; look at why, and remove them",
        ))
    }

    fn own(&self) -> Result<bool, StoreError> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(true);
        }
        let path = self.root.join("lock");
        // An empty lock file is a good one: what counts is who holds it, and the system knows when he is dead.
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open the lock", &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.sweep();
                *held = Some(file);
                Ok(true)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(io_error("lock", &path)(error.into())),
        }
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    // Left over by an end in the middle, or by nobody.
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(io_error("write", path))?;
    file.write_all(bytes).map_err(io_error("write", path))?;
    file.sync_all().map_err(io_error("synchronise", path))
}

/// A store for tasks: typed, and every call on a thread that may wait for a disk.
#[derive(Clone)]
pub struct Store(Arc<dyn Storage>);

impl Store {
    /// Over this one.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self(storage)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Storage) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let storage = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&*storage))
            .await
            .unwrap_or_else(|end| Err(StoreError::Lost(end.to_string())))
    }

    /// What is there. A broken one is moved aside, and is an error once.
    pub async fn load<T: DeserializeOwned + Send + 'static>(
        &self,
        place: Place,
    ) -> Result<Option<T>, StoreError> {
        self.blocking(move |storage| {
            let Some(bytes) = storage.load(&place)? else {
                return Ok(None);
            };
            match serde_json::from_slice(&bytes) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(storage.set_aside(&place, &why_broken(&bytes, &error))),
            }
        })
        .await
    }

    /// As [`Store::load`], for what can be made anew: a broken one is logged and taken as missing.
    pub async fn load_or_none<T: DeserializeOwned + Send + 'static>(
        &self,
        place: Place,
    ) -> Result<Option<T>, StoreError> {
        match self.load(place).await {
            Err(broken @ StoreError::Broken { .. }) => {
                tracing::error!("{broken}");
                Ok(None)
            }
            other => other,
        }
    }

    /// Puts it there.
    pub async fn save<T: Serialize>(&self, place: Place, value: &T) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec_pretty(value)
            .map_err(|error| StoreError::Lost(error.to_string()))?;
        self.blocking(move |storage| storage.save(&place, &bytes))
            .await
    }

    /// Takes it away.
    pub async fn remove(&self, place: Place) -> Result<(), StoreError> {
        self.blocking(move |storage| storage.remove(&place)).await
    }

    /// See [`Storage::own`].
    pub async fn own(&self) -> Result<bool, StoreError> {
        self.blocking(|storage| storage.own()).await
    }
}

fn why_broken(bytes: &[u8], error: &serde_json::Error) -> String {
    if bytes.is_empty() {
        "it is empty".to_owned()
    } else if bytes.iter().all(|b| *b == 0) {
        format!("{} bytes, all of them NUL", bytes.len())
    } else if error.is_eof() {
        "it ends in the middle".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests;
