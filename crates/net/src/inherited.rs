//! Sockets that others opened for us: the service manager (systemd socket activation, `sd_listen_fds(3)`), or the process
//! that we take over from.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first number that is passed on.
const FIRST: RawFd = 3;
/// More than anybody passes; bounds what a broken environment can make us do.
const MOST: RawFd = 1024;

/// The inherited sockets, in the order of the units, and what a predecessor bequeathed.
///
/// The former are lent, not given: [`Inherited::get`] hands out a duplicate, so that a listener that a reload removes can come
/// back with the next one and no connection in its queue is lost. The service manager holds them as well.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, OwnedFd)>,
    /// By the address that the predecessor's configuration had.
    bequests: Vec<(String, Vec<OwnedFd>)>,
}

/// Set by the first call that takes the descriptors: they can have one owner only.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Inherited {
    /// No socket at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes what the environment announces (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`). Nothing if it is meant for
    /// another process, and nothing on a second call. To be called before anything else opens a descriptor.
    pub fn from_env() -> Self {
        let vars: BTreeMap<_, _> = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var(name).ok()?)))
            .collect();
        let get = |name| vars.get(name).map_or("", String::as_str);
        let Some(names) = announced(
            get("LISTEN_PID"),
            get("LISTEN_FDS"),
            get("LISTEN_FDNAMES"),
            std::process::id(),
        ) else {
            return Self::none();
        };
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Self::none();
        }
        Self {
            sockets: (FIRST..)
                .zip(names)
                .filter_map(|(fd, name)| Some((name, own(fd)?)))
                .collect(),
            bequests: Vec::new(),
        }
    }

    /// For tests and for a successor that got its sockets another way.
    pub fn from_sockets(sockets: Vec<(String, OwnedFd)>) -> Self {
        Self {
            sockets,
            bequests: Vec::new(),
        }
    }

    /// Adds the sockets that a predecessor has open for `address`; [`crate::listen::bind`] adopts them.
    pub fn bequeath(&mut self, address: String, sockets: Vec<OwnedFd>) {
        self.bequests.push((address, sockets));
    }

    /// Are there sockets of this address that nobody has adopted?
    pub fn has_bequest(&self, address: &str) -> bool {
        self.bequests.iter().any(|(other, _)| other == address)
    }

    /// Closes what nobody has adopted.
    pub fn forget_bequests(&mut self) {
        self.bequests.clear();
    }

    pub(crate) fn take_bequest(&mut self, address: &str) -> Option<Vec<OwnedFd>> {
        let at = self
            .bequests
            .iter()
            .position(|(other, _)| other == address)?;
        Some(self.bequests.remove(at).1)
    }

    /// Name and descriptor of each socket, to pass them on.
    pub fn passed(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.sockets
            .iter()
            .map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }

    /// A duplicate of the socket called `name`, or of number n for `fd:n` and `n` (0 is the first).
    pub fn get(&self, name: &str) -> io::Result<OwnedFd> {
        let by_name = self.sockets.iter().find(|(own, _)| own == name);
        let by_number = || {
            name.strip_prefix("fd:")
                .unwrap_or(name)
                .parse()
                .ok()
                .and_then(|n: usize| self.sockets.get(n))
        };
        let (_, fd) = by_name.or_else(by_number).ok_or(io::ErrorKind::NotFound)?;
        fd.try_clone()
    }

    /// What there is, for a message.
    pub(crate) fn describe(&self) -> String {
        if self.sockets.is_empty() {
            return "none was passed (LISTEN_FDS is not set for this process)".to_owned();
        }
        let names: Vec<String> = self
            .sockets
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        format!("passed were {}", names.join(", "))
    }
}

/// Names of the announced sockets (`unknown` where none is given, as systemd does), or nothing if they are not for us.
fn announced(pid: &str, count: &str, names: &str, own_pid: u32) -> Option<Vec<String>> {
    if pid.parse() != Ok(own_pid) {
        return None;
    }
    let count: RawFd = count.parse().ok().filter(|n| (1..=MOST).contains(n))?;
    let mut given = names.split(':').filter(|_| !names.is_empty());
    Some(
        (0..count)
            .map(|_| {
                given
                    .next()
                    .filter(|n| !n.is_empty())
                    .unwrap_or("unknown")
                    .to_owned()
            })
            .collect(),
    )
}

fn own(fd: RawFd) -> Option<OwnedFd> {
    // JUSTIFICATION: an inherited descriptor arrives as a number in the environment; there is no safe way from it to an
    // owner. Whether it is open is asked of the kernel first, because the environment may lie.
    // SAFETY: the borrow lives for the one call and is never closed by it; a number that is not open yields EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).ok()?;
    debug_assert!(borrowed.as_raw_fd() >= FIRST);
    // SAFETY: the descriptor is open (fcntl succeeded), `TAKEN` makes sure that this is done once in the life of the
    // process, and by the protocol of sd_listen_fds(3) it belongs to the process whose id LISTEN_PID names: us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_only_what_is_meant_for_this_process() {
        assert_eq!(
            announced("7", "2", "web:admin", 7).unwrap(),
            ["web", "admin"]
        );
        assert_eq!(
            announced("7", "3", "web", 7).unwrap(),
            ["web", "unknown", "unknown"]
        );
        assert_eq!(announced("7", "2", "", 7).unwrap(), ["unknown", "unknown"]);
        for (pid, count) in [
            ("8", "1"),
            ("", "1"),
            ("7", ""),
            ("7", "0"),
            ("7", "-1"),
            ("7", "x"),
            ("7", "99999999"),
        ] {
            assert_eq!(announced(pid, count, "", 7), None, "{pid} {count}");
        }
    }

    #[test]
    fn finds_by_name_and_by_number() {
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let inherited = Inherited::from_sockets(vec![("web".into(), fd()), ("1".into(), fd())]);
        for name in ["web", "fd:0", "fd:1", "0", "1"] {
            assert!(inherited.get(name).is_ok(), "{name}");
        }
        for name in ["", "fd:2", "fd:-1", "admin", "fd:"] {
            assert_eq!(
                inherited.get(name).unwrap_err().kind(),
                io::ErrorKind::NotFound,
                "{name}"
            );
        }
        assert!(inherited.describe().contains("\"web\", \"1\""));
        assert!(Inherited::none().describe().contains("none"));
    }
}
