//! gRPC by its own library: the Python package `grpcio`, on both sides (`grpc_peer.py`).

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const PEER: &str = include_str!("grpc_peer.py");

/// The Python that has `grpcio`.
fn python() -> PathBuf {
    installed("NARTHEX_GRPC_PYTHON", "grpc-python/bin/python3")
}

/// A file of what the tests need beside the product: of this variable, else where `cargo xtask test` puts it below the target directory.
pub(super) fn installed(variable: &str, below: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    // <target>/<profile>/deps/<test>
    let exe = std::env::current_exe().expect("own path");
    let target = exe.ancestors().nth(3).expect("target directory");
    let place = target.join(below);
    assert!(
        place.exists(),
        "there is no {}: run `cargo xtask test`, which puts it there, or name another one in {variable}",
        place.display()
    );
    place
}

fn peer() -> Command {
    let mut command = Command::new(python());
    // What a user's environment says of proxies is not for us.
    for name in [
        "http_proxy",
        "https_proxy",
        "grpc_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ] {
        command.env_remove(name);
    }
    command.arg("-c").arg(PEER);
    command
}

/// A server of gRPC.
pub struct GrpcServer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl GrpcServer {
    /// Starts.
    pub fn start() -> Self {
        let mut child = peer()
            .arg("server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("its port");
        let port = line.trim().parse();
        Self {
            child,
            input,
            output,
            port: port.unwrap_or_else(|_| panic!("the server said {line:?}")),
        }
    }

    /// Where it listens, as a configuration writes it.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What its health service says of this service from now on (empty: of the server): `SERVING`, `NOT_SERVING`, `UNKNOWN`.
    pub fn set_health(&mut self, service: &str, status: &str) {
        let input = self.input.as_mut().expect("input");
        writeln!(input, "{service} {status}").expect("told");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        assert_eq!(line.trim(), "done");
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays a scenario of a client of gRPC against this address; it must go well.
#[track_caller]
pub fn play(addr: SocketAddr, scenario: &[&str]) {
    let out = peer()
        .args(["client", &addr.to_string()])
        .args(scenario)
        .output()
        .expect("python");
    assert!(
        out.status.success(),
        "{scenario:?}: {}",
        super::proxy::say(&out)
    );
}
