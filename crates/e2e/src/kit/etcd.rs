//! A real etcd (Debian: `etcd-server`, and `etcd-client` to speak to it), one member, in a directory of its own.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use super::eventually;
use super::found::LONG;
use super::proxy::free_port;

/// A running member.
pub struct Etcd {
    dir: tempfile::TempDir,
    client: u16,
    peer: u16,
    child: Option<Child>,
    /// `user:password` for [`Etcd::ctl`].
    login: Option<String>,
}

impl Etcd {
    /// Empty.
    pub fn start() -> Self {
        let mut etcd = Self {
            dir: tempfile::tempdir().expect("temporary directory"),
            client: free_port(),
            peer: free_port(),
            child: None,
            login: None,
        };
        etcd.resume();
        etcd
    }

    /// Starts it (again), with what it had.
    pub fn resume(&mut self) {
        let client = format!("http://{}", self.addr());
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let log = std::fs::File::create(self.dir.path().join("log")).expect("log");
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(["--name", "one", "--initial-cluster", &format!("one={peer}")])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("etcd: install etcd-server, or run `cargo xtask test`"));
        let healthy = || self.command(&["endpoint", "health"]).is_ok();
        assert!(
            eventually(LONG, healthy),
            "etcd does not start: {}",
            self.log()
        );
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.client))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Loses all that it had.
    pub fn forget(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.path().join("data")).expect("data");
    }

    /// `etcdctl`, which must succeed.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        match self.command(arguments) {
            Ok(said) => said,
            Err(why) => panic!("etcdctl {arguments:?}: {why}"),
        }
    }

    /// Puts a value.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", key, value]);
    }

    /// Deletes a key.
    #[track_caller]
    pub fn delete(&self, key: &str) {
        self.ctl(&["del", key]);
    }

    /// Does several things (`put K V` lines) at once.
    #[track_caller]
    pub fn transact(&self, lines: &str) {
        let mut child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.addr().to_string(), "txn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("etcdctl: install etcd-client, or run `cargo xtask test`");
        // No condition, what is done, nothing else.
        let text = format!("\n{lines}\n\n");
        let written = child
            .stdin
            .take()
            .map(|mut to| to.write_all(text.as_bytes()));
        assert!(
            written.is_some_and(|w| w.is_ok()),
            "etcdctl txn takes no text"
        );
        assert!(
            child.wait().is_ok_and(|s| s.success()),
            "etcdctl txn failed"
        );
    }

    /// Nobody may ask any more without a login: `root`, and this user, who may read these keys.
    #[track_caller]
    pub fn protect(&mut self, user: &str, password: &str, prefix: &str) {
        self.ctl(&["user", "add", "root:root"]);
        self.ctl(&["role", "add", "reader"]);
        self.ctl(&[
            "role",
            "grant-permission",
            "--prefix=true",
            "reader",
            "read",
            prefix,
        ]);
        self.ctl(&["user", "add", &format!("{user}:{password}")]);
        self.ctl(&["user", "grant-role", user, "reader"]);
        self.ctl(&["user", "grant-role", "root", "root"]);
        self.ctl(&["auth", "enable"]);
        self.login = Some("root:root".to_owned());
    }

    fn command(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg("--endpoints")
            .arg(self.addr().to_string());
        if let Some(login) = &self.login {
            command.args(["--user", login]);
        }
        let out = command.args(arguments).output();
        let out = out.expect("etcdctl: install etcd-client, or run `cargo xtask test`");
        if out.status.success() {
            Ok(String::from_utf8_lossy(&out.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
