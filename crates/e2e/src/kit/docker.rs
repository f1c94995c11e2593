//! Docker engines: a real one (Debian: `docker.io`), which needs root, and one that is played from the published API.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::eventually;
use super::found::LONG;
use super::sock::Sock;
use super::stand_in::{Asked, Shared, StandIn, answer};

/// What runs in the containers: it waits; or says whether the container is well; or makes it ill or well.
const PROGRAM: &str = r#"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **word) {
    if (n > 1 && !strcmp(word[1], "check")) return access("/ill", F_OK) == 0;
    if (n > 1 && !strcmp(word[1], "ill")) return close(open("/ill", O_CREAT | O_WRONLY, 0600));
    if (n > 1 && !strcmp(word[1], "well")) return unlink("/ill");
    for (;;) pause();
}
"#;

/// A real engine, with an image `waits` and one `checked` that has a health check.
pub struct Engine {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Engine {
    /// `None` if we are not root: then no engine can run.
    pub fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: no Docker engine can be started");
            return None;
        }
        let mut engine = Self {
            dir: tempfile::tempdir().expect("temporary directory"),
            child: None,
        };
        engine.resume();
        engine.images();
        Some(engine)
    }

    /// Starts it (again), with the containers that run.
    pub fn resume(&mut self) {
        let at = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::create(at("log")).expect("log");
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args([
                "--storage-driver=vfs",
                "--iptables=false",
                "--bridge=none",
                "--live-restore",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("dockerd: install docker.io, or run `cargo xtask test`"));
        let answers = || self.command(&["version"]).is_ok();
        let log = || std::fs::read_to_string(at("log")).unwrap_or_default();
        assert!(
            eventually(LONG, answers),
            "dockerd does not start: {}",
            log()
        );
    }

    /// Ends it; its containers go on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = child.wait();
        }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Runs a container in the machine's network, with these labels.
    #[track_caller]
    pub fn run(&self, name: &str, image: &str, labels: &[&str]) {
        let mut arguments = vec!["run", "--detach", "--network=host", "--name", name];
        for label in labels {
            arguments.extend(["--label", label]);
        }
        arguments.extend([image, "/program"]);
        self.docker(&arguments);
    }

    /// `docker`, which must succeed.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        match self.command(arguments) {
            Ok(said) => said,
            Err(why) => panic!("docker {arguments:?}: {why}"),
        }
    }

    fn images(&self) {
        let at = |name: &str| self.dir.path().join(name);
        std::fs::write(at("program.c"), PROGRAM).expect("program");
        let run = |command: &mut Command| {
            let out = command.current_dir(self.dir.path()).output().expect("run");
            assert!(
                out.status.success(),
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
        };
        run(Command::new("cc").args(["-static", "-O1", "-o", "program", "program.c"]));
        run(Command::new("tar").args(["-cf", "image.tar", "program"]));
        let image = at("image.tar").display().to_string();
        self.docker(&["import", &image, "waits"]);
        let check =
            "HEALTHCHECK --interval=200ms --timeout=10s --retries=1 CMD [\"/program\", \"check\"]";
        self.docker(&["import", "--change", check, &image, "checked"]);
    }

    fn command(&self, arguments: &[&str]) -> Result<String, String> {
        let out = Command::new("docker")
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(arguments)
            .output()
            .expect("docker: install docker.io, or run `cargo xtask test`");
        if out.status.success() {
            Ok(String::from_utf8_lossy(&out.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_none() {
            self.resume();
        }
        if let Ok(all) = self.command(&["ps", "--all", "--quiet"]) {
            for container in all.split_whitespace() {
                let _ = self.command(&["rm", "--force", container]);
            }
        }
        let _ = self.command(&["network", "prune", "--force"]);
        self.kill();
        // What an engine leaves behind, and what would keep the directory.
        for mount in ["exec/netns/default", "data"] {
            let path = self.dir.path().join(mount);
            let _ = Command::new("umount")
                .arg(path)
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// What the played engine does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Closes connections.
    Dead,
    /// Answers 500.
    Failing,
    /// Says this instead of a list.
    Says(String),
    /// Says this in the middle of its events.
    Babbles(String),
}

#[derive(Default)]
struct State {
    containers: Vec<Value>,
    events: usize,
    mood: Mood,
}

/// A played engine.
pub struct Played(StandIn<State>);

impl Played {
    /// Without containers.
    pub fn at(path: &Path) -> Self {
        Self(StandIn::unix(path, State::default(), serve))
    }

    /// These run from now on, which it tells.
    pub fn set(&self, containers: Vec<Value>) {
        self.0.change(|state| {
            state.containers = containers;
            state.events += 1;
        });
    }

    /// These run from now on, which it tells nobody.
    pub fn set_silently(&self, containers: Vec<Value>) {
        self.0.change(|state| state.containers = containers);
    }

    /// What it does from now on.
    pub fn mood(&self, mood: Mood) {
        self.0.change(|state| state.mood = mood);
    }

    /// Cuts every connection, in the middle of its events.
    pub fn cut(&self) {
        self.0.cut();
    }

    /// Questions so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.0.asked()
    }
}

/// A container in the machine's network as the engine's list has it, with a label for its port.
pub fn container(name: &str, port: u16) -> Value {
    json!({
        "Id": format!("{name:0>64}"), "Names": [format!("/{name}")], "Image": "waits", "State": "running",
        "Status": "Up 2 minutes", "Ports": [], "Labels": { "narthex.upstream": "u", "narthex.port": port.to_string() },
        "HostConfig": { "NetworkMode": "host" },
        "NetworkSettings": { "Networks": { "host": { "IPAddress": "", "GlobalIPv6Address": "" } } },
    })
}

fn serve(shared: &Shared<State>, asked: &Asked, sock: &mut Sock) -> io::Result<()> {
    let (mood, containers) = {
        let state = shared.now();
        (state.mood.clone(), state.containers.clone())
    };
    match mood {
        Mood::Dead => Ok(()),
        Mood::Failing => answer(sock, 500, "", "{\"message\":\"no space left\"}"),
        _ if asked.target.starts_with("/events?") => events(shared, sock),
        Mood::Says(body) => answer(sock, 200, "", &body),
        _ => answer(sock, 200, "", &Value::Array(containers).to_string()),
    }
}

/// A line per event, in chunks that end anywhere.
fn events(shared: &Shared<State>, sock: &mut Sock) -> io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut seen = shared.now().events;
    sock.write_all(head.as_bytes())?;
    loop {
        let changed = |s: &State| s.events != seen || s.mood != Mood::Well;
        let state = shared.when(Duration::from_mins(5), changed);
        seen = state.events;
        let event = json!({ "Type": "container", "Action": "start", "Actor": { "ID": "x" } });
        let (text, over) = match &state.mood {
            Mood::Babbles(text) => (text.clone(), true),
            Mood::Dead => return Ok(()),
            mood => (format!("{event}\n"), *mood != Mood::Well),
        };
        drop(state);
        for piece in text.as_bytes().chunks(50_000.min(text.len() / 2 + 1)) {
            write!(sock, "{:x}\r\n", piece.len())?;
            sock.write_all(piece)?;
            sock.write_all(b"\r\n")?;
        }
        if over {
            drop(shared.when(Duration::from_mins(5), |s| s.mood == Mood::Well));
            return Ok(());
        }
    }
}
