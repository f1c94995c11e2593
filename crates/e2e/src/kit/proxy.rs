//! The proxy under test: the shipped binary, in a directory of its own, on free ports of 127.0.0.1.
//!
//! A configuration is text with placeholders: `@PORT@`, `@PORT2@` (free ports), `@DIR@` (the directory), `@ADMIN@` (path of
//! the admin socket), `@LOG@` (path of the access log).

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::attack::{Client, Response};
use super::sock::{Place, Sock};
use super::{PATIENCE, eventually, pause, show};

/// Head of the configurations that the kit writes.
const PREAMBLE: &str = "version 1\nworkers 2\nadmin \"unix:@ADMIN@\"\naccess-log \"json\" path=\"@LOG@\" flush=\"10ms\"\n";

/// What a service manager does with a socket: from its place as standard input to the first place after the usual three. The
/// process that is told so is the one that the shell becomes.
const PASS_ON: &str =
    "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$@\"";

/// How a started proxy was configured.
#[derive(Debug, Clone)]
pub struct Ports {
    /// `@PORT@`.
    pub first: u16,
    /// `@PORT2@`.
    pub second: u16,
}

/// A running proxy.
pub struct Proxy {
    child: Option<Child>,
    dir: tempfile::TempDir,
    ports: Ports,
    /// What is started: the binary under test, or the test's own place for it.
    program: PathBuf,
    /// The socket that it is given as a service manager would, called `web`.
    passed: Option<TcpListener>,
    /// Processes that took over, the newest last.
    successors: Vec<u32>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Starts with a whole configuration (placeholders are filled in).
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("temporary directory"), config)
    }

    /// Starts in a directory that the test has put files into.
    #[track_caller]
    pub fn start_in(dir: tempfile::TempDir, config: &str) -> Self {
        Self::start_program(dir, config, binary().to_owned(), false)
    }

    /// As [`Proxy::start`], with a program of its own, which the test may replace ([`Proxy::replace_program`]) before
    /// it asks for an upgrade.
    #[track_caller]
    pub fn start_replaceable(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let program = dir.path().join("narthex");
        install(&program, &ProgramKind::Ours);
        Self::start_program(dir, config, program, false)
    }

    /// As [`Proxy::start_replaceable`], in a directory that belongs to this user and group, for a process that does not stay
    /// root.
    #[track_caller]
    pub fn start_for_user(config: &str, uid: u32, gid: u32) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let program = dir.path().join("narthex");
        install(&program, &ProgramKind::Ours);
        std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("chown");
        Self::start_program(dir, config, program, false)
    }

    /// As [`Proxy::start`], with a listening socket for `@PORT@` that it inherits as from systemd: `fd:web`.
    #[track_caller]
    pub fn start_with_socket(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        Self::start_program(dir, config, binary().to_owned(), true)
    }

    /// As [`Proxy::start_with_socket`]; so many clients wait at the socket already.
    #[track_caller]
    pub fn start_with_clients(config: &str, clients: usize) -> (Self, Vec<Client>) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let proxy = Self::prepare(dir, config, binary().to_owned(), true);
        let clients = (0..clients).map(|_| proxy.connect()).collect();
        (proxy.started(), clients)
    }

    #[track_caller]
    fn start_program(
        dir: tempfile::TempDir,
        config: &str,
        program: PathBuf,
        pass_socket: bool,
    ) -> Self {
        Self::prepare(dir, config, program, pass_socket).started()
    }

    fn prepare(dir: tempfile::TempDir, config: &str, program: PathBuf, pass_socket: bool) -> Self {
        let ports = Ports {
            first: free_port(),
            second: free_port(),
        };
        let address = (Ipv4Addr::LOCALHOST, ports.first);
        let passed = pass_socket.then(|| TcpListener::bind(address).expect("a socket to pass on"));
        let p = Self {
            passed,
            child: None,
            dir,
            ports,
            program,
            successors: Vec::new(),
            stderr: Arc::default(),
            readers: Vec::new(),
        };
        p.write_config(config);
        p
    }

    #[track_caller]
    fn started(mut self) -> Self {
        self.spawn();
        self.await_ready();
        self
    }

    /// The usual preamble, a listener with this inside, then this.
    pub fn config(listen: &str, rest: &str) -> String {
        format!("{PREAMBLE}listen \"127.0.0.1:@PORT@\" {{\n{listen}\n}}\n{rest}\n")
    }

    fn write_config(&self, config: &str) {
        fs::write(self.config_path(), self.fill_in(config)).expect("configuration file");
    }

    /// A text with its placeholders filled in.
    pub fn fill_in(&self, text: &str) -> String {
        super::workers::fill_in(text)
            .replace("@PORT@", &self.ports.first.to_string())
            .replace("@PORT2@", &self.ports.second.to_string())
            .replace("@DIR@", &self.dir.path().display().to_string())
            .replace("@ADMIN@", &self.admin_path().display().to_string())
            .replace("@LOG@", &self.log_path().display().to_string())
    }

    fn spawn(&mut self) {
        let (mut command, input) = match &self.passed {
            None => (Command::new(&self.program), Stdio::null()),
            Some(socket) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", PASS_ON, "sh"]).arg(&self.program);
                let socket = socket.try_clone().expect("the socket");
                (shell, Stdio::from(std::os::fd::OwnedFd::from(socket)))
            }
        };
        let mut child = command
            .arg("run")
            .arg("--config")
            .arg(self.config_path())
            .current_dir(self.dir.path())
            .env("RUST_BACKTRACE", "1")
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", binary().display()));
        let out = child.stdout.take().expect("stdout");
        let err = child.stderr.take().expect("stderr");
        self.child = Some(child);
        self.readers.push(collect(out, Arc::clone(&self.stderr)));
        self.readers.push(collect(err, Arc::clone(&self.stderr)));
    }

    #[track_caller]
    fn await_ready(&mut self) {
        let config = fs::read_to_string(self.config_path()).unwrap_or_default();
        let mut places = vec![Place::Tcp(self.addr())];
        // It is opened after the listeners.
        if config.contains(&self.fill_in("unix:@ADMIN@")) {
            places.push(Place::Unix(self.admin_path()));
        }
        let mut exited = None;
        let ok = eventually(PATIENCE, || {
            exited = self
                .child
                .as_mut()
                .and_then(|c| c.try_wait().ok().flatten());
            let answers = |place| Sock::connect(place, Duration::from_millis(200)).is_ok();
            exited.is_some() || places.iter().all(answers)
        });
        if exited.is_some() || !ok {
            self.kill();
            panic!(
                "the proxy did not start ({exited:?}):\n{}\nconfiguration:\n{config}",
                self.stderr()
            );
        }
    }

    /// Where it listens (`@PORT@`).
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.first))
    }

    /// The second address (`@PORT2@`).
    pub fn addr2(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.second))
    }

    /// A new connection to it.
    pub fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id: that of the newest process, after an upgrade.
    pub fn pid(&self) -> u32 {
        let first = || self.child.as_ref().expect("running").id();
        self.successors.last().copied().unwrap_or_else(first)
    }

    /// Puts another program in the place of the one that runs. Only for [`Proxy::start_replaceable`].
    pub fn replace_program(&self, with: &ProgramKind) {
        assert!(self.program.starts_with(self.dir.path()));
        install(&self.program, with);
    }

    /// Writes a new configuration and does not tell the process.
    pub fn change_config(&self, config: &str) {
        self.write_config(config);
    }

    /// Asks for an upgrade, over the admin socket. From then on the kit speaks to the new process.
    pub fn upgrade(&mut self, arguments: &[&str]) -> Output {
        let admin = format!("unix:{}", self.admin_path().display());
        let out = self.command(&[&["upgrade", "--json", "--admin", &admin], arguments].concat());
        let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        let pid = said.pointer("/report/pid").and_then(|p| p.as_u64());
        self.successors.extend(pid.map(|pid| pid as u32));
        out
    }

    /// As [`Proxy::upgrade`], and it must succeed. Gives the process id of the one before.
    #[track_caller]
    pub fn upgrade_ok(&mut self) -> u32 {
        let before = self.pid();
        let out = self.upgrade(&["--timeout", "60"]);
        assert!(
            out.status.success(),
            "upgrade failed: {}\n{}",
            say(&out),
            self.stderr()
        );
        assert_ne!(self.pid(), before, "another process serves");
        before
    }

    /// Learns of a new process that the test did not ask for by [`Proxy::upgrade`].
    pub fn note_successor(&mut self, pid: u32) {
        self.successors.push(pid);
    }

    /// The process that was started first.
    pub fn first_pid(&self) -> u32 {
        self.child.as_ref().expect("started").id()
    }

    /// Every process has ended as the test wanted.
    pub fn forget_successors(&mut self) {
        self.successors.clear();
        self.kill();
    }

    /// How the running process is (`GET /status`).
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let answer =
            self.admin("GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        serde_json::from_str(&answer.text())
            .unwrap_or_else(|e| panic!("status: {e}: {}", answer.text()))
    }

    /// The process's metrics.
    #[track_caller]
    pub fn metrics(&self) -> String {
        self.admin("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .text()
    }

    /// Waits for the end of a process of this proxy.
    #[track_caller]
    pub fn await_end_of(&mut self, pid: u32) {
        let first = self.child.as_mut().filter(|c| c.id() == pid);
        let ended = match first {
            Some(child) => eventually(PATIENCE * 6, || child.try_wait().expect("wait").is_some()),
            None => eventually(PATIENCE * 6, || !is_alive(pid)),
        };
        assert!(ended, "process {pid} does not end:\n{}", self.stderr());
    }

    /// How many descriptors and threads the running process has.
    pub fn descriptors_and_threads(&self) -> (usize, usize) {
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{}/{what}", self.pid())).map_or(0, Iterator::count)
        };
        (count("fd"), count("task"))
    }

    fn config_path(&self) -> PathBuf {
        self.dir.path().join("narthex.kdl")
    }
    fn admin_path(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }
    fn log_path(&self) -> PathBuf {
        self.dir.path().join("access.log")
    }

    /// What it has written to standard error and output so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }

    /// Resident set in KiB (`/proc/<pid>/status`).
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("status");
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .expect("VmRSS");
        line.split_whitespace()
            .nth(1)
            .and_then(|v| v.parse().ok())
            .expect("VmRSS value")
    }

    /// Runs `narthex` with these arguments, in the proxy's directory.
    pub fn command(&self, args: &[&str]) -> Output {
        Command::new(binary())
            .args(args)
            .current_dir(self.dir.path())
            .output()
            .expect("narthex")
    }

    /// Writes a new configuration and asks the running proxy to take it, over its admin socket.
    pub fn reload(&self, config: &str) -> Output {
        self.write_config(config);
        let admin = format!("unix:{}", self.admin_path().display());
        self.command(&["reload", "--admin", &admin])
    }

    /// As [`Proxy::reload`], and it must succeed.
    #[track_caller]
    pub fn reload_ok(&self, config: &str) {
        let out = self.reload(config);
        assert!(out.status.success(), "reload failed: {}", say(&out));
    }

    /// Writes a new configuration and sends SIGHUP.
    pub fn hup(&self, config: &str) {
        self.write_config(config);
        self.signal(rustix::process::Signal::HUP);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("pid");
        rustix::process::kill_process(pid, signal).expect("kill");
    }

    /// One request to the admin socket.
    #[track_caller]
    pub fn admin(&self, request: &str) -> Response {
        Client::to(&Place::Unix(self.admin_path())).ask(request)
    }

    /// Access-log records so far, one JSON value each; every line must be one.
    #[track_caller]
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let whole = text
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        text.get(..whole)
            .unwrap_or_default()
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| {
                serde_json::from_slice(l)
                    .unwrap_or_else(|e| panic!("access log: {e} in {}", show(l)))
            })
            .collect()
    }

    /// Access-log records once there are `n`, or as many as came before patience ended.
    #[track_caller]
    pub fn access_log_of(&self, n: usize) -> Vec<serde_json::Value> {
        eventually(PATIENCE, || self.access_log().len() >= n);
        self.access_log()
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        assert!(
            self.successors.is_empty(),
            "the kit waits for its own child only"
        );
        self.signal(rustix::process::Signal::TERM);
        let status = self.wait(PATIENCE);
        self.assert_sane();
        status
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("running");
        let mut status = None;
        let ended = eventually(limit, || {
            status = child.try_wait().expect("wait");
            status.is_some()
        });
        if !ended {
            self.kill();
            panic!(
                "the proxy did not stop within {limit:?}:\n{}",
                self.stderr()
            );
        }
        self.child = None;
        self.join();
        status.expect("status")
    }

    /// Ends every process of it by SIGKILL, as a crash would.
    #[track_caller]
    pub fn crash(&mut self) {
        self.kill();
        self.assert_sane();
    }

    /// Starts anew after [`Proxy::stop`] or [`Proxy::crash`], with the files that are there.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.spawn();
        self.await_ready();
    }

    /// Nothing that it wrote speaks of a panic.
    #[track_caller]
    pub fn assert_sane(&self) {
        let text = self.stderr();
        assert!(!text.contains("panicked at"), "the proxy panicked:\n{text}");
    }

    fn kill(&mut self) {
        for pid in self.successors.drain(..).filter(|pid| is_alive(*pid)) {
            let signalled = rustix::process::Pid::from_raw(pid.cast_signed()).expect("pid");
            let _ = rustix::process::kill_process(signalled, rustix::process::Signal::KILL);
            // It may answer for a moment longer, and is nobody's to wait for.
            eventually(PATIENCE, || !is_alive(pid));
        }
        if let Some(mut c) = self.child.take() {
            let _ = c.kill();
            let _ = c.wait();
        }
        self.join();
    }

    fn join(&mut self) {
        for r in self.readers.drain(..) {
            let _ = r.join();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(c) = self.child.as_mut() {
            // After an upgrade the first process ends when it has drained.
            let dead = c
                .try_wait()
                .ok()
                .flatten()
                .filter(|_| self.successors.is_empty());
            let newest_dead = self.successors.last().is_some_and(|pid| !is_alive(*pid));
            self.kill();
            if !std::thread::panicking() {
                assert!(
                    dead.is_none(),
                    "the proxy died during the test ({dead:?}):\n{}",
                    self.stderr()
                );
                assert!(
                    !newest_dead,
                    "the new process died during the test:\n{}",
                    self.stderr()
                );
                self.assert_sane();
            }
        }
        if std::thread::panicking() {
            let text = self.stderr();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            eprintln!(
                "--- last lines of the proxy, newest first:\n{}",
                tail.join("\n")
            );
        }
    }
}

/// What may be at a program's place.
#[derive(Debug, Clone)]
pub enum ProgramKind {
    /// The binary under test.
    Ours,
    /// A shell script.
    Script(String),
    /// Bytes that are no program.
    Rubbish,
}

/// By a rename, as packages do: what runs keeps its file.
fn install(place: &Path, what: &ProgramKind) {
    use std::os::unix::fs::PermissionsExt;
    let beside = place.with_extension("new");
    match what {
        ProgramKind::Ours => drop(fs::copy(binary(), &beside).expect("a copy of the program")),
        ProgramKind::Script(text) => {
            fs::write(&beside, format!("#!/bin/sh\n{text}\n")).expect("script")
        }
        ProgramKind::Rubbish => fs::write(&beside, b"\x7fELF rubbish").expect("rubbish"),
    }
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).expect("mode");
    fs::rename(&beside, place).expect("rename");
}

/// Does this process run? One that has ended and waits to be buried does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// What a finished command said.
pub fn say(out: &Output) -> String {
    format!(
        "{} {}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

fn collect(mut from: impl Read + Send + 'static, to: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut space = [0_u8; 4096];
        while let Ok(n @ 1..) = from.read(&mut space) {
            let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
            // Enough for any test; a proxy that floods its log must not fill our memory.
            if to.len() < 8 << 20 {
                to.extend_from_slice(space.get(..n).unwrap_or_default());
            }
        }
    })
}

/// A port nobody listens on, below the range that the kernel gives to outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = (std::process::id().wrapping_mul(131) % 12_000) as u16;
    for _ in 0..2000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + base.wrapping_add(step) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// The binary under test: `NARTHEX_BIN`, else the one beside this test, brought up to date by one `cargo build`.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("NARTHEX_BIN") {
            return PathBuf::from(path);
        }
        // <target>/<profile>/deps/<test>
        let exe = std::env::current_exe().expect("own path");
        let profile = exe
            .parent()
            .and_then(Path::parent)
            .expect("target directory")
            .to_owned();
        build(&profile);
        profile.join("narthex")
    })
}

/// Cargo's own lock makes concurrent callers wait; an up-to-date build costs a fraction of a second.
fn build(profile: &Path) {
    let target = profile.parent().expect("target directory");
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo
        .args([
            "build",
            "--quiet",
            "-p",
            "narthex",
            "--bin",
            "narthex",
            "--target-dir",
        ])
        .arg(target);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.file_name().is_some_and(|n| n == "release") {
        cargo.arg("--release");
    }
    for attempt in 0..3 {
        let out = cargo.output().expect("cargo");
        if out.status.success() {
            return;
        }
        assert!(attempt < 2, "cannot build narthex: {}", say(&out));
        pause(Duration::from_secs(1));
    }
}
