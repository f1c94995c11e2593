//! As PID 1 of a container: nobody else buries orphans, and no signal has a default action.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::process::{Child, Command, Stdio};

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::proxy::{binary, free_port};
use narthex_e2e::kit::{PATIENCE, eventually};
use rustix::process::{Pid, Signal, kill_process};

/// Ended with the test, whatever happens: `--kill-child` takes the namespace with it.
struct Outer(Child);

impl Drop for Outer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn children(pid: u32) -> Vec<i32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .map(|p| p.parse().unwrap())
        .collect()
}

#[test]
fn orphans_are_buried_and_a_stop_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, config) = (dir.path().join("fifo"), dir.path().join("narthex.kdl"));
    let port = free_port();
    fs::write(
        &config,
        format!(
            "version 1\naccess-log \"off\"\nadmin \"unix:{}/admin.sock\"\n\
             listen \"127.0.0.1:{port}\"\nsite \"*\" {{ respond 200 \"ok\" }}\n",
            dir.path().display()
        ),
    )
    .unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    // The shell becomes the proxy; what it started before is then the proxy's to bury.
    let mut outer = Outer(
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--pid", "--fork"])
            .args(["--kill-child", "sh", "-c", "cat \"$0\" & exec \"$@\""])
            .arg(&fifo)
            .arg(binary())
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert!(
        eventually(PATIENCE, || std::net::TcpStream::connect(addr).is_ok()),
        "it does not start as PID 1"
    );
    let init = children(outer.0.id());
    let [init] = init[..] else {
        panic!("one child was expected: {init:?}")
    };
    let orphans = || children(init.cast_unsigned());
    assert_eq!(orphans().len(), 1, "the orphan waits");
    // Its end: nobody writes any more.
    drop(fs::File::options().write(true).open(&fifo).unwrap());
    assert!(
        eventually(PATIENCE, || orphans().is_empty()),
        "the orphan stays a zombie"
    );
    assert_eq!(Client::connect(addr).ask(get("/", "")).status, 200);

    kill_process(Pid::from_raw(init).unwrap(), Signal::TERM).unwrap();
    let mut status = None;
    assert!(
        eventually(PATIENCE, || {
            status = outer.0.try_wait().unwrap();
            status.is_some()
        }),
        "SIGTERM is not heard as PID 1"
    );
    assert!(status.unwrap().success(), "{status:?}");
}
