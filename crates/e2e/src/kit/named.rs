//! A name server that is not ours: BIND (Debian's `bind9`), with one zone that is changed by `nsupdate`. What answers of a real
//! one look like is nothing that [`super::dns`] can say.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::proxy::{free_port, say};
use super::{PATIENCE, eventually};

/// Its zone.
pub const ZONE: &str = "real.test";

/// A running name server.
pub struct Named {
    dir: tempfile::TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl Named {
    /// Is it installed?
    pub fn is_here() -> bool {
        let runs = |program: &str, version: &str| {
            let out = Command::new(program).arg(version).output();
            out.is_ok_and(|out| out.status.success())
        };
        tool("named").is_some_and(|named| runs(&named, "-v")) && runs("nsupdate", "-V")
    }

    /// With these records in its zone, one a line, names relative to the zone.
    pub fn start(records: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = dir.path().display();
        let port = address.port();
        fs::write(
            dir.path().join("named.conf"),
            format!(
                "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
                 pid-file \"{at}/pid\"; session-keyfile \"{at}/session.key\"; recursion no; dnssec-validation no;\n\
                 querylog yes; }};\ncontrols {{ }};\n\
                 zone \"{ZONE}\" {{ type primary; file \"{at}/zone\"; allow-update {{ 127.0.0.1; }}; }};\n"
            ),
        )
        .expect("configuration of the name server");
        fs::write(
            dir.path().join("zone"),
            format!("$TTL 1\n@ IN SOA ns hostmaster 1 60 60 60 1\n@ IN NS ns\nns IN A 127.0.0.1\n{records}\n"),
        )
        .expect("zone");
        let mut named = Self {
            dir,
            address,
            child: None,
        };
        named.run();
        named
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Starts it again after [`Named::kill`]; its zone is as it was.
    #[track_caller]
    pub fn run(&mut self) {
        let log = fs::File::create(self.log_path()).expect("log of the name server");
        let program = tool("named").expect("named");
        let mut child = Command::new(program)
            .args(["-g", "-c"])
            .arg(self.dir.path().join("named.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("named");
        let ready = eventually(PATIENCE, || {
            self.log().contains("all zones loaded") || child.try_wait().ok().flatten().is_some()
        });
        let ended = child.try_wait().ok().flatten();
        self.child = Some(child);
        assert!(ready && ended.is_none(), "{ended:?}: {}", self.log());
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Changes the zone: lines of `nsupdate` (`update add ...`, `update delete ...`), all of them or none.
    #[track_caller]
    pub fn update(&self, lines: &[String]) {
        let port = self.address.port();
        let mut child = Command::new("nsupdate")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsupdate");
        let text = format!(
            "server 127.0.0.1 {port}\nzone {ZONE}\n{}\nsend\n",
            lines.join("\n")
        );
        let mut input = child.stdin.take().expect("stdin");
        input.write_all(text.as_bytes()).expect("lines");
        drop(input);
        let out = child.wait_with_output().expect("nsupdate");
        assert!(out.status.success(), "{lines:?}: {}", say(&out));
    }

    /// Questions for this name since it was started.
    pub fn questions(&self, name: &str) -> usize {
        let asked = format!("query: {name} IN");
        self.log().matches(&asked).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Daemons are not on everybody's path.
fn tool(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
}
