//! Hears of changes in a directory (inotify).

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A directory that is watched. The directory and not the file: editors, configuration management and container platforms
/// put a new file, or a new link, in the place of the old one.
pub(super) struct Directory(AsyncFd<OwnedFd>);

impl Directory {
    pub(super) fn watch(directory: &Path) -> std::io::Result<Self> {
        use inotify::{CreateFlags, WatchFlags};
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let changes = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, directory, changes)?;
        // Deprecated for what may close its descriptor while it is registered; this one is ours until it is dropped.
        #[expect(deprecated)]
        let registered = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self(registered))
    }

    /// Waits until something in it has changed. True if the file of this name is there now, and whoever wrote it is done.
    pub(super) async fn changed(&self, name: &OsStr) -> std::io::Result<bool> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(self.0.get_ref(), &mut buffer);
            let (mut any, mut done) = (false, false);
            loop {
                match events.next() {
                    Ok(event) => {
                        any = true;
                        let arrives = event.events().intersects(
                            inotify::ReadFlags::CLOSE_WRITE | inotify::ReadFlags::MOVED_TO,
                        );
                        let ours = event
                            .file_name()
                            .is_some_and(|n| n.to_bytes() == name.as_bytes());
                        done |= arrives && ours;
                    }
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if any {
                return Ok(done);
            }
        }
    }
}
