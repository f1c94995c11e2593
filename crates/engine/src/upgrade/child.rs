//! The new program as the old process sees it: started, talked to, and ended if it does not become ready.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use narthex_net::handover;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::message::{Message, hear, say};
use super::{FROM, PATIENCE};

/// What belongs to the old process alone. A service manager's watchdog would otherwise not hear the new one.
const NOT_INHERITED: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
/// How long a program that has closed its end of the channel may take to end.
const LAST_BREATH: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The new process.
pub(super) struct Successor {
    child: Mutex<Child>,
    channel: OwnedFd,
    pid: u32,
}

impl Successor {
    /// Starts the program that is at our own path now, with our arguments, environment and directory.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let (channel, theirs) = handover::channel()?;
        handover::set_patience(&channel, Some(PATIENCE))?;
        let mut arguments = std::env::args_os();
        let mut command = Command::new(program()?);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command
            .args(arguments)
            .env(FROM, std::process::id().to_string())
            .stdin(Stdio::from(theirs));
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        let child = command.spawn()?;
        Ok(Arc::new(Self {
            pid: child.id(),
            child: Mutex::new(child),
            channel,
        }))
    }

    /// Its process number.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Says something and waits for the answer. Both block. The error is for the operator.
    pub(super) fn ask(&self, message: &Message, sockets: &[OwnedFd]) -> Result<Message, String> {
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        // Who does not listen may still have said why.
        let said = say(&self.channel, message, &sockets);
        match hear(&self.channel) {
            Ok((Message::Failed(why), _)) => Err(why),
            Ok((answer, _)) => said.map(|()| answer).map_err(|error| error.to_string()),
            Err(error) => Err(match self.ended() {
                Some(status) => format!("the new program ended ({status}) before it was ready"),
                None => format!("the new program does not answer as expected: {error}"),
            }),
        }
    }

    /// Says something that has no answer.
    pub(super) fn tell(&self, message: &Message) -> io::Result<()> {
        say(&self.channel, message, &[])
    }

    /// How it ended, if it did.
    fn ended(&self) -> Option<ExitStatus> {
        let child = Pid::from_raw(self.pid.cast_signed())?;
        let end = pidfd_open(child, PidfdFlags::empty()).ok()?;
        // Whether it ended or time did, is seen next.
        let _ = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&LAST_BREATH));
        self.child().try_wait().ok().flatten()
    }

    /// Ends it at once and buries it. Blocks for a moment.
    pub(super) fn kill(&self) {
        // Whoever waits for its words stops waiting, even if a child of it still has the other end.
        let _ = rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Both);
        let mut child = self.child();
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn program() -> io::Result<PathBuf> {
    Ok(at_its_place(&std::env::current_exe()?))
}

/// A program that was replaced while it runs is shown as `path (deleted)`; what is at the path now is what we want.
fn at_its_place(shown: &Path) -> PathBuf {
    let replaced = shown
        .to_str()
        .filter(|_| !shown.exists())
        .and_then(|path| path.strip_suffix(" (deleted)"));
    replaced.map_or_else(|| shown.to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_program_is_found_at_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("odd (deleted)");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(at_its_place(&odd), odd);
        let gone = dir.path().join("narthex (deleted)");
        assert_eq!(at_its_place(&gone), dir.path().join("narthex"));
        assert_eq!(at_its_place(Path::new("/none")), Path::new("/none"));
    }
}
