//! TLS at its edges: a hello in crumbs, bounds met exactly, OCSP as others see it, and a public name on the usual ports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::found::LONG;
use narthex_e2e::kit::h2::{Block, Peer};
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::pebble::{Asked, Pebble};
use narthex_e2e::kit::proxy::{Proxy, say};
use narthex_e2e::kit::tls::{Ca, Tls, Versions};
use narthex_e2e::kit::ws::{OverSocket, OverStream, Pipe, Ws, WsOrigin, accept, closing, op};
use narthex_e2e::kit::{eventually, pause};

/// A proxy with one site.
struct Https {
    proxy: Proxy,
    _origin: Origin,
    ca: Ca,
}

impl Https {
    fn start(listen: &str) -> Self {
        let (ca, origin) = (Ca::new("root"), Origin::start());
        let dir = tempfile::tempdir().unwrap();
        ca.leaf(&["a.test"]).write(dir.path(), "a");
        let site = format!(
            "site \"a.test\" {{ tls cert=\"a.pem\" key=\"a.key\"; proxy \"{}\" }}",
            origin.place()
        );
        // One worker: places are a core's.
        let text =
            Proxy::config(&format!("tls {{ {listen} }}"), &site).replace("workers 2", "workers 1");
        Self {
            proxy: Proxy::start_in(dir, &text),
            _origin: origin,
            ca,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }

    fn is_served(&self) -> bool {
        let Ok((mut client, _)) = Tls::of(&self.ca).connect(self.addr(), "a.test") else {
            return false;
        };
        client.ask(request("a.test")).status == 200
    }

    fn failed(&self, why: &str) -> u64 {
        let end = format!("result=\"{why}\"}} ");
        let metrics = self.proxy.metrics();
        let mut lines = metrics
            .lines()
            .filter(|l| l.starts_with("narthex_tls_handshakes_total"));
        let count = lines.find_map(|l| l.split_once(end.as_str()));
        count.map_or(0, |(_, count)| count.parse().unwrap())
    }
}

fn request(host: &str) -> String {
    get("/", "").replacen("Host: a\r\n", &format!("Host: {host}\r\n"), 1)
}

/// The message of a hello in records of so many bytes.
fn crumbs(hello: &[u8], size: usize) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    let mut out = Vec::new();
    for piece in message.chunks(size) {
        out.extend_from_slice(&header[..3]);
        out.extend_from_slice(&u16::try_from(piece.len()).unwrap().to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// SL-12: what decides on policy and certificate may come in however many records and segments.
#[test]
fn a_hello_in_many_records_and_segments() {
    let https = Https::start("");
    for versions in [Versions::Only12, Versions::Only13] {
        // Bytes of a record, bytes of a segment.
        for (record, segment) in [
            (1, 4_096),
            (1, 61),
            (3, 7),
            (100, 1),
            (1_000, 5),
            (16_000, 1),
        ] {
            let tls = Tls::new(&[&https.ca], versions, &["http/1.1"], None);
            let made = tls.connect_by(https.addr(), "a.test", |connection, tcp| {
                let mut hello = Vec::new();
                connection.write_tls(&mut hello)?;
                for piece in crumbs(&hello, record).chunks(segment) {
                    tcp.write_all(piece)?;
                }
                Ok(())
            });
            let (mut client, facts) = made.unwrap_or_else(|e| panic!("{record} {segment}: {e}"));
            assert_eq!(facts.alpn.as_deref(), Some("http/1.1"));
            assert_eq!(client.ask(request("a.test")).status, 200);
        }
    }
    https.proxy.assert_sane();
}

/// As many as may be under way leave no room, one less leaves room for one more.
#[test]
fn as_many_handshakes_as_may_and_one_beyond() {
    const PENDING: usize = 3;
    let https = Https::start(&format!("pending {PENDING}; handshake-timeout \"60s\""));
    let silent = || TcpStream::connect(https.addr()).unwrap();
    let under_way = |n: usize| {
        let line = "narthex_tls_handshakes_pending";
        eventually(LONG, || {
            let metrics = https.proxy.metrics();
            let mut lines = metrics.lines().filter(|l| l.starts_with(line));
            lines.any(|l| l.ends_with(&format!(" {n}")))
        })
    };
    let mut held: Vec<TcpStream> = (1..PENDING).map(|_| silent()).collect();
    assert!(under_way(PENDING - 1));
    for _ in 0..3 {
        assert!(https.is_served(), "one place is left");
    }
    assert_eq!(https.failed("busy"), 0);
    held.push(silent());
    assert!(under_way(PENDING));
    for n in 1..=3 {
        assert!(!https.is_served());
        assert_eq!(https.failed("busy"), n);
    }
    held.pop();
    assert!(under_way(PENDING - 1));
    assert!(https.is_served());
    https.proxy.assert_sane();
}

/// The time is for the whole handshake: bytes that come meanwhile do not extend it, and it is not cut short.
#[test]
fn a_handshake_has_its_time_and_no_more() {
    const TIME: Duration = Duration::from_secs(2);
    let https = Https::start("handshake-timeout \"2s\"");
    let slow = |wait: Duration| {
        Tls::of(&https.ca).connect_by(https.addr(), "a.test", |connection, tcp| {
            let mut hello = Vec::new();
            connection.write_tls(&mut hello)?;
            let (first, rest) = hello.split_at(hello.len() / 2);
            tcp.write_all(first)?;
            pause(wait);
            tcp.write_all(rest)
        })
    };
    let (mut client, _) = slow(TIME / 2).unwrap();
    assert_eq!(client.ask(request("a.test")).status, 200);
    // A byte now and then keeps nobody in.
    let mut stream = TcpStream::connect(https.addr()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let begun = Instant::now();
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let mut bytes = hello.iter().chain(std::iter::repeat(&7));
    let ended = eventually(LONG, || {
        let _ = bytes.next().map(|b| stream.write_all(&[*b]));
        let mut answer = [0; 1];
        match stream.read(&mut answer) {
            Ok(n) => n == 0,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    });
    assert!(ended);
    assert!(
        begun.elapsed() + Duration::from_millis(100) >= TIME,
        "{:?}",
        begun.elapsed()
    );
    // It is counted when it is over.
    assert!(eventually(LONG, || https.failed("deadline") == 1));
    assert!(https.is_served());
    https.proxy.assert_sane();
}

fn converse(ws: &mut Ws<impl Pipe>) {
    for length in [1, 126, 65_536, 300_000] {
        let text = "x".repeat(length);
        assert!(ws.say(&text));
        assert_eq!(ws.hear(), text);
    }
    assert!(ws.send(op::CLOSE, true, &closing(1000, "done")));
    assert_eq!(ws.message(), Some((op::CLOSE, closing(1000, "done"))));
}

/// Frames both ways, over HTTP/1.1 and over HTTP/2 (RFC 8441), within TLS.
#[test]
fn websocket_over_tls() {
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    let (ca, origin) = (Ca::new("root"), WsOrigin::start());
    let dir = tempfile::tempdir().unwrap();
    ca.leaf(&["a.test"]).write(dir.path(), "a");
    let site = format!(
        "site \"a.test\" {{ tls cert=\"a.pem\" key=\"a.key\"; proxy \"{}\" }}",
        origin.addr()
    );
    let proxy = Proxy::start_in(dir, &Proxy::config("tls", &site));
    for versions in [Versions::Only12, Versions::Only13] {
        let tls = Tls::new(&[&ca], versions, &["http/1.1"], None);
        let (mut client, _) = tls.connect(proxy.addr(), "a.test").unwrap();
        client.send(format!(
            "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        ));
        let answer = client.read_response("GET").unwrap();
        assert_eq!(answer.status, 101, "{}", answer.text());
        assert_eq!(answer.fields.get("sec-websocket-accept"), Some(accept(KEY)));
        let come = client.pending().to_vec();
        converse(&mut Ws::client(OverSocket(client.into_sock()), come));

        let tls = Tls::new(&[&ca], versions, &["h2"], None);
        let mut peer = Peer::tls(proxy.addr(), "a.test", &tls);
        let block = Block::request_to("CONNECT", "https", "a.test", "/ws")
            .field(":protocol", "websocket")
            .field("sec-websocket-version", "13");
        let id = peer.open(block, false);
        peer.until(|p| p.streams[&id].head.is_some() || p.streams[&id].is_over());
        assert_eq!(peer.stream(id).status(), 200);
        converse(&mut Ws::client(OverStream::new(&mut peer, id), Vec::new()));
        peer.assert_clean();
    }
    proxy.assert_sane();
}

#[track_caller]
fn openssl(dir: &Path, arguments: &str) -> String {
    let out = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{arguments}: {}", say(&out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A response of a real responder, seen by a client that is not ours.
#[test]
fn an_ocsp_response_is_stapled() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::write(at.join("ext"), "subjectAltName=DNS:a.test\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        at,
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=root -days 30"),
    );
    openssl(
        at,
        &format!("req {key} -keyout a.key -out a.csr -subj /CN=a.test"),
    );
    openssl(
        at,
        "x509 -req -in a.csr -CA ca.pem -CAkey ca.key -set_serial 0x2001 -days 20 -extfile ext -out a.pem",
    );
    fs::write(
        at.join("index"),
        "V\t491231235959Z\t\t2001\tunknown\t/CN=a.test\n",
    )
    .unwrap();
    openssl(
        at,
        "ocsp -index index -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert a.pem -ndays 3 -respout a.ocsp",
    );
    let text = Proxy::config(
        "tls",
        "site \"a.test\" { tls cert=\"a.pem\" key=\"a.key\" ocsp=\"a.ocsp\"; respond 200 }",
    );
    let proxy = Proxy::start_in(dir, &text);
    let at = proxy.dir();
    let ask = format!(
        "s_client -connect {} -servername a.test -CAfile ca.pem -verify_return_error -status",
        proxy.addr()
    );
    for version in ["-tls1_2", "-tls1_3"] {
        let said = openssl(at, &format!("{ask} {version}"));
        for part in [
            "OCSP Response Status: successful",
            "Cert Status: good",
            "Serial Number: 2001",
        ] {
            assert!(said.contains(part), "{version}: {part}: {said}");
        }
    }
    // Another one in its place is shown without a reload.
    fs::write(
        at.join("index"),
        "R\t491231235959Z\t250101000000Z\t2001\tunknown\t/CN=a.test\n",
    )
    .unwrap();
    openssl(
        at,
        "ocsp -index index -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert a.pem -ndays 3 -respout new",
    );
    fs::rename(at.join("new"), at.join("a.ocsp")).unwrap();
    let followed = eventually(LONG, || {
        openssl(at, &format!("{ask} -tls1_3")).contains("Cert Status: revoked")
    });
    assert!(followed, "{}", proxy.stderr());
    proxy.assert_sane();
}

/// Says to the test below that it is in a network of its own.
const INSIDE: &str = "NARTHEX_E2E_OWN_NETWORK";

/// No `listen`, a public name: it listens on 80 and 443, gets a certificate of an authority that asks there, and redirects.
#[test]
fn a_public_name_on_the_usual_ports() {
    if std::env::var_os(INSIDE).is_some() {
        return on_the_usual_ports();
    }
    // Ports 80 and 443 of this machine may be somebody's: a network of our own has them free.
    let script =
        "ip link set lo up && exec \"$0\" --exact --nocapture a_public_name_on_the_usual_ports";
    let test = std::env::current_exe().unwrap();
    // Built out here.
    let binary = narthex_e2e::kit::proxy::binary();
    let own = Command::new("unshare").args(["-n", "true"]).status();
    if !own.is_ok_and(|status| status.success()) {
        eprintln!("not tried: only root may have a network of its own");
        return;
    }
    let out = Command::new("unshare")
        .args(["-n", "sh", "-c", script])
        .arg(test)
        .env(INSIDE, "1")
        .env("NARTHEX_BIN", binary)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", say(&out));
}

fn on_the_usual_ports() {
    const NAME: &str = "one.narthex-proxy.net";
    let pebble = Pebble::start(Asked {
        usual_ports: true,
        ..Asked::default()
    });
    let (origin, storage) = (Origin::start(), tempfile::tempdir().unwrap());
    let text = format!(
        "version 1\nworkers 2\nadmin \"unix:@ADMIN@\"\n\
         acme {{ email \"ops@narthex-proxy.net\"; storage \"{}\"; ca \"{}\" roots=\"{}\" }}\n\
         site \"{NAME}\" {{ proxy \"{}\" }}\n",
        storage.path().display(),
        pebble.directory(),
        pebble.roots().display(),
        origin.place(),
    );
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("narthex.kdl");
    let admin = dir.path().join("admin.sock");
    fs::write(
        &config,
        text.replace("@ADMIN@", &admin.display().to_string()),
    )
    .unwrap();
    let mut child = Command::new(narthex_e2e::kit::proxy::binary())
        .arg("run")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.path().join("err")).unwrap())
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(dir.path().join("err")).unwrap();
    let tls = Tls::believing(&[&pebble.root()], Versions::Both, &[], None);
    let served = || {
        let made = tls.connect(([127, 0, 0, 1], 443).into(), NAME);
        made.is_ok_and(|(mut client, _)| client.ask(request(NAME)).status == 200)
    };
    let came = eventually(LONG, served);
    let mut location = None;
    if came {
        let mut plain = narthex_e2e::kit::attack::Client::connect(([127, 0, 0, 1], 80).into());
        location = plain.ask(request(NAME)).fields.get("location");
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(came, "{}", said());
    assert_eq!(location, Some(format!("https://{NAME}/")));
}
