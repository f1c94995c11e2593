//! The cache's directory: made for whom we become, taken at the start, let go at the end, handed on by an upgrade.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use narthex_config::model::{CacheDisk, Identity};
use narthex_proxy::control::OpenError;
use tokio::time::sleep;

use super::{blocks, now_ms};
use crate::plane::Shared;
use crate::privileges;

/// What is worth it may be written for so long when the process ends, or hands over.
pub(crate) const LAST_WRITES: Duration = Duration::from_secs(3);
/// Between two looks whether the process before us has let go of the directory, and after how long that is a wonder.
const LOOK: Duration = Duration::from_millis(10);
const WONDER: Duration = Duration::from_secs(15);
/// Between two looks at a directory that cannot be used.
const AGAIN: Duration = Duration::from_secs(10);

/// The file that says whose the records are.
const OWNER: &str = "owner";
/// Beginnings of the names of the others.
const RECORDS: [&str; 2] = ["segment-", "purges"];

/// Makes the directory, ours alone, and gives it to whom we are about to become.
pub(crate) fn prepare(disk: &CacheDisk, identity: Option<&Identity>) -> Result<(), OpenError> {
    let directory = disk.directory.as_path();
    ours_alone(directory).map_err(|error| OpenError::Io(directory.to_owned(), error))?;
    if let Some(identity) = identity {
        give(directory, identity);
    }
    Ok(())
}

fn ours_alone(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::metadata(directory)?;
    if !found.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    if !is_a_caches(directory)? {
        return Err(io::Error::other(
            "there are files in it that are no cache's",
        ));
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() == own && found.mode() & 0o077 != 0 {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Empty, or with the file that says whose it is. Whoever names a directory of something else by mistake is told so.
fn is_a_caches(directory: &Path) -> io::Result<bool> {
    if directory.join(OWNER).exists() {
        return Ok(true);
    }
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let ours = RECORDS.iter().chain(&["blocks", "lost+found"]);
        if !ours.clone().any(|ours| name.starts_with(ours)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What root has made, or used before, becomes the user's. Only if nobody but root could put anything there.
fn give(directory: &Path, identity: &Identity) {
    let is_roots = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.uid() == 0);
    if !rustix::process::geteuid().is_root() || !is_roots(directory) {
        return;
    }
    // an identity that cannot be resolved is reported where it is assumed
    let Ok(ids) = privileges::resolve(identity) else {
        return;
    };
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = files
        .map(|entry| entry.path())
        .filter(|path| is_roots(path));
    for path in paths.chain([directory.to_owned()]) {
        if let Err(error) = lchown(&path, Some(ids.uid), Some(ids.gid)) {
            tracing::warn!(path = %path.display(), %error, "a file stays root's");
        }
    }
}

/// Takes the directory. Waits for the disk.
pub(crate) fn take(shared: &Shared, disk: &CacheDisk) -> Result<(), OpenError> {
    let records = disk.size.saturating_sub(blocks::ROOM);
    shared.cache_attach(&disk.directory, records)?;
    tracing::info!(directory = %disk.directory.display(), size = disk.size, "the cache is on disk, too");
    Ok(())
}

/// Takes down what was taken down when the directory was last used. With `keep`, beside what is blocked now.
pub(crate) fn recall(shared: &Shared, disk: &CacheDisk, keep: bool) -> Result<(), OpenError> {
    let failed = |error| OpenError::Io(disk.directory.join(blocks::NAME), error);
    let now_ms = now_ms();
    blocks::load(&disk.directory, shared, keep, now_ms).map_err(failed)?;
    if keep && !shared.blocks().is_empty() {
        blocks::save(&disk.directory, shared, now_ms).map_err(failed)?;
    }
    Ok(())
}

/// Takes the directory once the process before us has let go of it. What is purged meanwhile is acknowledged then.
pub(crate) async fn take_after(shared: Arc<Shared>, disk: CacheDisk) {
    let began = Instant::now();
    let (mut wondered, mut told) = (false, false);
    loop {
        let (of, at) = (Arc::clone(&shared), disk.clone());
        let taken = tokio::task::spawn_blocking(move || take(&of, &at)).await;
        match taken {
            Ok(Ok(())) => return,
            Ok(Err(OpenError::Taken(_))) => {
                if began.elapsed() > WONDER && !std::mem::replace(&mut wondered, true) {
                    tracing::warn!(
                        directory = %disk.directory.display(),
                        "the process before this one still has the cache's directory; purges wait for it"
                    );
                }
                sleep(LOOK).await;
            }
            Ok(Err(error)) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%error, "the cache is in memory only; it is tried again");
                }
                sleep(AGAIN).await;
            }
            Err(lost) => match lost.try_into_panic() {
                // the supervisor begins anew
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        }
    }
}

/// Lets go of the directory once what is worth it is written, and, if another process serves, of what is in memory, too. Waits for the
/// disk.
pub(crate) fn let_go(shared: &Shared) {
    let (began, had) = (Instant::now(), shared.cache_disk().is_some());
    shared.cache_release(began + LAST_WRITES);
    if had {
        let milliseconds = began.elapsed().as_millis() as u64;
        tracing::info!(milliseconds, "the cache's directory is let go");
    }
    if shared.has_handed_over_cache() {
        shared.cache_forget();
    }
}

/// Lets go of the directory for good: without us it would not hear of purges, so that nothing of it may be found again. What is taken
/// down stays written.
pub(crate) fn leave(shared: &Shared, disk: &CacheDisk) {
    shared.cache_release(Instant::now());
    shared.cache_expect_no_more();
    // the first is enough: without it the rest is nobody's
    let owner = [disk.directory.join(OWNER)];
    let files = fs::read_dir(&disk.directory)
        .into_iter()
        .flatten()
        .flatten();
    let records = files.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| RECORDS.iter().any(|ours| name.starts_with(ours)))
    });
    for path in owner.into_iter().chain(records) {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::error!(path = %path.display(), %error, "remove it before the cache uses this directory again");
        }
    }
    tracing::info!(directory = %disk.directory.display(), "the cache is in memory only");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(directory: &Path) -> CacheDisk {
        CacheDisk {
            directory: directory.to_owned(),
            size: 8 << 20,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn it_is_made_ours_alone_and_its_parents_are_as_usual() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("var/cache/it");
        prepare(&disk(&directory), None).unwrap();
        assert_eq!(mode(&directory), 0o700);
        assert_ne!(mode(&dir.path().join("var")) & 0o100, 0);
        fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        prepare(&disk(&directory), None).unwrap();
        assert_eq!(mode(&directory), 0o700);
    }

    #[test]
    fn what_is_somebody_elses_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        let error = prepare(&disk(dir.path()), None).unwrap_err().to_string();
        assert!(error.contains("no cache's"), "{error}");
        fs::write(dir.path().join("owner"), "").unwrap();
        prepare(&disk(dir.path()), None).unwrap();
        let file = dir.path().join("owner");
        assert!(prepare(&disk(&file), None).is_err());
    }
}
