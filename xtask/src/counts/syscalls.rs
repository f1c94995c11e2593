//! Syscalls per request: counted by the kernel's tracepoint where we may, else by strace.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Workbench, counted};
use crate::{apt, served, sh};

/// How long an instrument may take to attach.
const ATTACH: Duration = Duration::from_millis(700);

/// Counts over about `requests` requests.
pub fn per_request(bench: &Workbench, requests: u64) -> Result<f64, String> {
    let tool = Tool::choose()?;
    let (mut rig, proxy) = bench.start(&[])?;
    let pids = proxy.pids();
    let mut running: Option<Child> = None;
    let mut wrote = String::new();
    let requests = {
        // Both closures need the instrument; a cell lends it to one after the other.
        let running = std::cell::RefCell::new(&mut running);
        let wrote = std::cell::RefCell::new(&mut wrote);
        counted(
            &mut rig,
            &proxy,
            requests,
            || {
                **running.borrow_mut() = Some(tool.attach(&pids)?);
                sh::pause(ATTACH);
                Ok(())
            },
            || {
                if let Some(child) = running.borrow_mut().take() {
                    **wrote.borrow_mut() = finish(child)?;
                }
                Ok(())
            },
        )?
    };
    proxy.stop();
    drop(rig);
    let calls = tool
        .calls(&wrote)
        .ok_or_else(|| format!("{} counted nothing: {wrote}", tool.name()))?;
    Ok(calls / requests)
}

/// Ends an instrument and takes what it wrote.
fn finish(child: Child) -> Result<String, String> {
    served::signal(child.id(), "INT");
    let out = child.wait_with_output().map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&out.stderr).into_owned())
}

#[derive(Debug, Clone, Copy)]
enum Tool {
    Perf,
    Strace,
}

const EVENT: &str = "raw_syscalls:sys_enter";

impl Tool {
    /// perf, if the kernel lets us; strace otherwise.
    fn choose() -> Result<Self, String> {
        let perf = sh::tool("perf").is_some()
            && sh::output(Command::new("perf").args(["stat", "-x,", "-e", EVENT, "true"])).is_ok();
        if perf {
            return Ok(Self::Perf);
        }
        apt::ensure(&[("strace", "strace")])?;
        Ok(Self::Strace)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Strace => "strace",
        }
    }

    fn attach(self, pids: &[u32]) -> Result<Child, String> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut command = Command::new(self.name());
        match self {
            Self::Perf => command.args(["stat", "-x,", "-e", EVENT, "-p", &pids.join(",")]),
            Self::Strace => command
                .args(["-c", "-f"])
                .args(pids.iter().flat_map(|pid| ["-p", pid])),
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", self.name()))
    }

    fn calls(self, text: &str) -> Option<f64> {
        match self {
            // value,unit,event,...
            Self::Perf => text
                .lines()
                .find(|l| l.contains(EVENT))
                .and_then(|l| l.split(',').next()?.parse().ok()),
            // percent, seconds, usecs/call, calls, [errors,] `total`
            Self::Strace => text
                .lines()
                .find(|l| l.trim_end().ends_with(" total"))
                .and_then(|l| l.split_whitespace().nth(3)?.parse().ok()),
        }
        .filter(|calls| *calls > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let perf = "# started\n\n21234,,raw_syscalls:sys_enter,1000,100.00,,\n";
        assert_eq!(Tool::Perf.calls(perf), Some(21_234.0));
        let refused = "<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n";
        assert_eq!(Tool::Perf.calls(refused), None);
        let strace = "% time  seconds  usecs/call  calls  errors syscall\n\
                      60.00  0.1  2  50  epoll_wait\n\
                      100.00    0.002079           1      1042        12 total\n";
        assert_eq!(Tool::Strace.calls(strace), Some(1_042.0));
    }
}
