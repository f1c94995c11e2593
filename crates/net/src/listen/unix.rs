//! A unix socket's file: taken over only when nobody answers on it, removed only while it is ours.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};

/// Removes the socket's file when dropped, if it is still the one that we made.
#[derive(Debug)]
pub(super) struct UnlinkOnDrop {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    armed: AtomicBool,
}

impl UnlinkOnDrop {
    /// For the file that is there now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let made = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            identity: (made.dev(), made.ino()),
            armed: AtomicBool::new(true),
        })
    }

    pub(super) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}

impl Drop for UnlinkOnDrop {
    fn drop(&mut self) {
        if !*self.armed.get_mut() {
            return;
        }
        let ours = self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == ours) {
            // Removed by somebody else in between: just as well.
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn bind(path: &Path, mode: u32) -> io::Result<(Socket, UnlinkOnDrop)> {
    let address = SockAddr::unix(path)?;
    remove_if_stale(path, &address)?;
    let socket = new_socket()?;
    // The mode of the socket's own inode is what bind() gives the file, less the umask: never wider than asked, not
    // even for a moment. The second call gives back what the umask took.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    socket.bind(&address)?;
    let unlink = UnlinkOnDrop::of(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok((socket, unlink))
}

fn new_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
}

fn remove_if_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(_) => {}
    }
    match new_socket()?.connect(address) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full accept queue is an answer too.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(e) => Err(e),
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
    }
}
