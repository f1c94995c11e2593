//! Telling the service manager how we are (`sd_notify(3)`): a datagram of `NAME=value` lines to `$NOTIFY_SOCKET`.
//!
//! Without a service manager every call does nothing.

use std::fmt::Write as _;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager.
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_env() -> Self {
        Self::new(|name| std::env::var(name).ok(), std::process::id())
    }

    /// Tells nobody: another process speaks for the service now.
    pub fn none() -> Self {
        Self {
            socket: None,
            watchdog: None,
        }
    }

    fn new(env: impl Fn(&str) -> Option<String>, pid: u32) -> Self {
        let socket = env("NOTIFY_SOCKET").and_then(|path| {
            let address = address(&path)?;
            Some((UnixDatagram::unbound().ok()?, address))
        });
        let watchdog = watchdog(
            env("WATCHDOG_USEC").as_deref(),
            env("WATCHDOG_PID").as_deref(),
            pid,
        );
        Self { socket, watchdog }
    }

    /// How often the service manager wants to hear from us, halved, as `sd_watchdog_enabled(3)` advises.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Serving.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}\n", one_line(status)));
    }

    /// A reload begins; `ready` ends it (`Type=notify-reload`).
    pub fn reloading(&self) {
        let mut text = String::from("RELOADING=1\n");
        let _ = writeln!(text, "MONOTONIC_USEC={}", monotonic_us());
        self.send(&text);
    }

    /// Another process is the service's main process from now on.
    pub fn main_process(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}\n"));
    }

    /// Stopping.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}\n", one_line(status)));
    }

    /// Still alive.
    pub fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    fn send(&self, text: &str) {
        let Some((socket, address)) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::debug!(%error, "the service manager's socket does not take our state");
        }
    }
}

fn address(path: &str) -> Option<SocketAddr> {
    match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name.as_bytes()).ok(),
        None if path.starts_with('/') => SocketAddr::from_pathname(path).ok(),
        None => None,
    }
}

fn watchdog(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec / 2))
}

/// A line break in a value would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn monotonic_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(now.tv_nsec / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let text = path.to_str().unwrap().to_owned();
        let notifier = Notifier::new(
            move |name| (name == "NOTIFY_SOCKET").then(|| text.clone()),
            1,
        );
        (dir, manager, notifier)
    }

    fn receive(manager: &UnixDatagram) -> String {
        let mut buffer = [0u8; 256];
        let n = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_ready_and_one_line_of_status() {
        let (_dir, manager, notifier) = pair();
        notifier.ready("serving\nMAINPID=1");
        assert_eq!(receive(&manager), "READY=1\nSTATUS=serving MAINPID=1\n");
    }

    #[test]
    fn a_reload_carries_the_monotonic_clock() {
        let (_dir, manager, notifier) = pair();
        notifier.reloading();
        let text = receive(&manager);
        let stamp = text
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap()
            .trim_end();
        assert!(stamp.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn nobody_listens_and_nothing_happens() {
        Notifier::new(|_| None, 1).ready("x");
        Notifier::new(|_| Some("relative".to_owned()), 1).ready("x");
    }

    #[test]
    fn the_watchdog_is_for_the_named_process() {
        assert_eq!(
            watchdog(Some("2000000"), None, 7),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            watchdog(Some("2000000"), Some("7"), 7),
            Some(Duration::from_secs(1))
        );
        assert_eq!(watchdog(Some("2000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("0"), None, 7), None);
        assert_eq!(watchdog(Some("soon"), None, 7), None);
    }
}
