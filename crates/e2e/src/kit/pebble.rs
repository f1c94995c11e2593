//! A real certificate authority (Debian: `pebble`) with a name server of its own (`pebble-challtestsrv`) that says 127.0.0.1 to
//! everything. It validates on ports that are free when it starts, and forgets everything when it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::eventually;
use super::found::LONG;
use super::proxy::free_port;
use super::tls::{Ca, Tls};

/// What it is started with.
#[derive(Debug, Default, Clone)]
pub struct Asked {
    /// `-strict`.
    pub strict: bool,
    /// Good nonces that are refused, in percent.
    pub nonce_reject: u32,
    /// Key id and key of external accounts, which are then required.
    pub external: Option<(&'static str, &'static str)>,
    /// A name server instead of its own.
    pub dns: Option<SocketAddr>,
    /// Lets it sleep for up to 15 s before it validates, as it does by default.
    pub sleepy: bool,
    /// Life of its certificates, in seconds.
    pub life: Option<u64>,
    /// It validates on ports 80 and 443, as authorities do.
    pub usual_ports: bool,
}

/// A process of ours, ended with its owner.
pub struct Running(Child);

impl Running {
    /// Starts it; `package` is the Debian package that has it.
    #[track_caller]
    pub fn start(command: &mut Command, package: &str) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|e| {
            panic!("{command:?}: {e}: install {package}, or run `cargo xtask test`")
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The authority.
pub struct Pebble {
    dir: tempfile::TempDir,
    ca: Ca,
    asked: Asked,
    port: u16,
    management: u16,
    http: u16,
    tls: u16,
    dns: u16,
    names: u16,
    process: Option<Running>,
    _names: Running,
}

/// Waits until something listens there.
#[track_caller]
pub fn listening(port: u16) {
    let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    assert!(eventually(LONG, open), "nobody listens on {port}");
}

impl Pebble {
    /// Starts it.
    #[track_caller]
    pub fn start(asked: Asked) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ca = Ca::new("roots of the authority's own HTTPS");
        ca.leaf(&["localhost"]).write(dir.path(), "localhost");
        fs::write(dir.path().join("roots.pem"), ca.pem()).expect("roots");
        let (dns, names) = (free_port(), free_port());
        let server = Running::start(
            Command::new("pebble-challtestsrv")
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .args(["-defaultIPv6", "", "-dns01", &format!("127.0.0.1:{dns}")])
                .args(["-management", &format!("127.0.0.1:{names}")]),
            "pebble",
        );
        listening(names);
        let (http, tls) = if asked.usual_ports {
            (80, 443)
        } else {
            (free_port(), free_port())
        };
        let mut pebble = Self {
            dir,
            ca,
            asked,
            port: free_port(),
            management: free_port(),
            http,
            tls,
            dns,
            names,
            process: None,
            _names: server,
        };
        pebble.resume();
        pebble
    }

    /// Starts it (again).
    #[track_caller]
    pub fn resume(&mut self) {
        let asked = &self.asked;
        let mut pebble = serde_json::json!({
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": self.dir.path().join("localhost.pem"),
            "privateKey": self.dir.path().join("localhost.key"),
            "httpPort": self.http,
            "tlsPort": self.tls,
            "externalAccountBindingRequired": asked.external.is_some(),
        });
        if let Some(settings) = pebble.as_object_mut() {
            if let Some((id, key)) = asked.external {
                let keys = serde_json::json!({ id: key });
                settings.insert("externalAccountMACKeys".to_owned(), keys);
            }
            if let Some(life) = asked.life {
                settings.insert("certificateValidityPeriod".to_owned(), life.into());
            }
        }
        let config = self.dir.path().join("pebble.json");
        fs::write(&config, serde_json::json!({ "pebble": pebble }).to_string()).expect("settings");
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, self.dns));
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&config);
        command.args(["-dnsserver", &asked.dns.unwrap_or(own).to_string()]);
        if asked.strict {
            command.arg("-strict");
        }
        if !asked.sleepy {
            command.env("PEBBLE_VA_NOSLEEP", "1");
        }
        command.env("PEBBLE_WFE_NONCEREJECT", asked.nonce_reject.to_string());
        command.env("PEBBLE_AUTHZREUSE", "0");
        self.process = Some(Running::start(&mut command, "pebble"));
        listening(self.port);
        listening(self.management);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Roots (PEM) of its own HTTPS.
    pub fn roots(&self) -> PathBuf {
        self.dir.path().join("roots.pem")
    }

    /// The root (PEM) of what it issues; another one after each start.
    #[track_caller]
    pub fn root(&self) -> String {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.management));
        let (mut client, _) = Tls::of(&self.ca).connect(addr, "localhost").expect("TLS");
        let answer =
            client.ask("GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        answer.text()
    }

    /// Where it asks for tokens, and where it shakes hands.
    pub fn ports(&self) -> (u16, u16) {
        (self.http, self.tls)
    }

    /// Port of its name server's management: `/set-txt` and others.
    pub fn names(&self) -> u16 {
        self.names
    }

    /// One call to that.
    #[track_caller]
    pub fn tell_names(&self, path: &str, body: &str) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.names)).expect("connect");
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
