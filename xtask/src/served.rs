//! A process that serves, pinned to cores, stopped when dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{procfs, sh};

/// How long a start and a stop may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Served {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
}

impl Served {
    /// Starts `command` on the given cores (`taskset` syntax; empty: any) and waits until `address` accepts.
    /// What it says goes to the file `log`.
    pub fn start(
        command: &Command,
        cores: &str,
        address: SocketAddr,
        log: &Path,
    ) -> Result<Self, String> {
        if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return Err(format!("something listens on {address} already"));
        }
        let mut pinned = pin(command, cores);
        let out = File::create(log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
        let err = out.try_clone().map_err(|e| e.to_string())?;
        let child = pinned
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|e| format!("cannot start `{}`: {e}", sh::said(command)))?;
        let mut served = Self {
            child,
            address,
            log: log.to_owned(),
        };
        let mut ended = None;
        let up = sh::eventually(PATIENCE, || {
            ended = served.child.try_wait().ok().flatten();
            ended.is_some()
                || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
        });
        if up && ended.is_none() {
            Ok(served)
        } else {
            Err(format!(
                "`{}` did not start ({ended:?}):\n{}",
                sh::said(command),
                served.tail()
            ))
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It and its children.
    pub fn pids(&self) -> Vec<u32> {
        procfs::tree(self.pid())
    }

    /// Has it ended?
    pub fn is_dead(&mut self) -> bool {
        self.child.try_wait().ok().flatten().is_some()
    }

    /// The last lines it wrote.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Stops it as an operator would, and waits.
    pub fn stop(mut self) {
        self.end("TERM");
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.end("KILL");
    }

    fn end(&mut self, name: &str) {
        if self.is_dead() {
            return;
        }
        let all = self.pids();
        self.signal(name);
        if !sh::eventually(Duration::from_secs(10), || self.is_dead()) {
            for pid in all {
                signal(pid, "KILL");
            }
            let _ = self.child.wait();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end("TERM");
    }
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status();
}

/// The command under `taskset`; itself where there is none, or no such core.
pub fn pin(command: &Command, cores: &str) -> Command {
    let mut out = match sh::tool("taskset") {
        Some(taskset) if !cores.is_empty() && two_cores() => {
            let mut out = Command::new(taskset);
            out.args(["-c", cores]).arg(command.get_program());
            out
        }
        _ => Command::new(command.get_program()),
    };
    out.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => out.env(name, value),
            None => out.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        out.current_dir(dir);
    }
    out
}

/// Are there two cores at least, one for the proxy and one for the rest?
pub fn two_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|n| n.get() >= 2)
}
