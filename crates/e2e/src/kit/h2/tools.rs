//! Other people's HTTP/2 programs: nghttp2's (Debian: `nghttp2-server`, `nghttp2-client`), curl, and what else a test names.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::kit::proxy::free_port;
use crate::kit::{PATIENCE, eventually};

/// A server of somebody else's.
pub struct Daemon {
    child: Child,
    addr: SocketAddr,
}

impl Daemon {
    /// Starts it with these arguments, in which `@PORT@` is a free port, and waits until it listens.
    #[track_caller]
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let port = free_port();
        let filled = arguments
            .iter()
            .map(|a| a.replace("@PORT@", &port.to_string()));
        let child = Command::new(program)
            .args(filled)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child =
            child.unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask test` installs it"));
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let daemon = Self { child, addr };
        let up = eventually(PATIENCE, || TcpStream::connect(addr).is_ok());
        assert!(up, "{program} does not listen");
        daemon
    }

    /// `nghttpd` with the files of a directory, plain.
    #[track_caller]
    pub fn nghttpd(files: &Path, more: &[&str]) -> Self {
        let files = files.display().to_string();
        let usual = ["--no-tls", "-a", "127.0.0.1", "-d", &files];
        Self::start("nghttpd", &[&usual, more, &["@PORT@"]].concat())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program said, which must end well within a minute.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let out = Command::new("timeout")
        .args(["60", program])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("timeout (coreutils)");
    let text = crate::kit::proxy::say(&out);
    assert!(out.status.success(), "{program} {arguments:?}: {text}");
    text
}
