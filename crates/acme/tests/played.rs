//! What Debian's Pebble does not speak: renewal information (RFC 9773) and profiles. The authority is played: it answers what
//! these tests need, believes every signature, and refuses at the end.

#![allow(clippy::unwrap_used)] // helpers of tests may end them

mod kit;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use kit::*;
use narthex_acme::authority::Authority;
use narthex_acme::certificate::Stored;
use narthex_acme::challenge::Kind;
use narthex_acme::encoding::base64;
use narthex_acme::internal;
use narthex_acme::issue::now;
use narthex_acme::store::{Directory, Place, Storage};
use narthex_e2e::kit::tls::Ca;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// The authority.
struct Played {
    dir: tempfile::TempDir,
    port: u16,
    /// Begin and end, in seconds since 1970.
    window: Mutex<(u64, u64)>,
    /// Certificates that it was asked about.
    asked: Mutex<Vec<String>>,
    /// What orders said.
    orders: Mutex<Vec<Value>>,
}

impl Played {
    fn start(window: (u64, u64)) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("roots of the authority's own HTTPS");
        let pair = ca.leaf(&["localhost"]);
        std::fs::write(dir.path().join("roots.pem"), ca.pem()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let played = Arc::new(Self {
            dir,
            port: listener.local_addr().unwrap().port(),
            window: Mutex::new(window),
            asked: Mutex::default(),
            orders: Mutex::default(),
        });
        let this = Arc::clone(&played);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                this.talk(stream, Arc::clone(&config));
            }
        });
        played
    }

    fn authority(&self) -> Authority {
        Authority {
            directory: format!("https://localhost:{}/dir", self.port),
            roots: Some(self.dir.path().join("roots.pem")),
            contact: None,
            external: None,
            profile: Some("shortlived".into()),
        }
    }

    /// One request, then the end.
    fn talk(&self, stream: TcpStream, config: Arc<rustls::ServerConfig>) {
        let connection = rustls::ServerConnection::new(config).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |l| l.parse().unwrap())];
        stream.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = body["payload"].as_str().and_then(base64);
        let said = said.and_then(|s| serde_json::from_slice(&s).ok());
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, fields, answer) = self.answer(path, said.unwrap_or_default());
        let answer = if head.starts_with("head ") {
            String::new()
        } else {
            answer.to_string()
        };
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nConnection: close\r\nReplay-Nonce: n\r\nContent-Type: application/json\r\n\
             {fields}Content-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }

    fn answer(&self, path: &str, said: Value) -> (u16, String, Value) {
        let url = |path: &str| format!("https://localhost:{}{path}", self.port);
        match path {
            "/dir" => {
                let directory = json!({
                    "newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order"),
                    "renewalInfo": url("/ari"), "meta": { "profiles": { "shortlived": "six days" } },
                });
                (200, String::new(), directory)
            }
            "/account" => {
                let fields = format!("Location: {}\r\n", url("/account/1"));
                (201, fields, json!({ "status": "valid" }))
            }
            "/order" => {
                self.orders.lock().unwrap().push(said.clone());
                let fields = format!("Location: {}\r\n", url("/order/1"));
                let order = json!({
                    "status": "ready", "authorizations": [], "identifiers": said["identifiers"],
                    "finalize": url("/finalize"), "replaces": said["replaces"], "profile": said["profile"],
                });
                (201, fields, order)
            }
            "/nonce" => (200, String::new(), Value::Null),
            _ if path.starts_with("/ari/") => {
                self.asked
                    .lock()
                    .unwrap()
                    .push(path["/ari/".len()..].to_owned());
                let (begin, end) = *self.window.lock().unwrap();
                let window =
                    json!({ "suggestedWindow": { "start": time(begin), "end": time(end) } });
                (200, "Retry-After: 3600\r\n".to_owned(), window)
            }
            _ => {
                let why = json!({ "type": "urn:ietf:params:acme:error:unauthorized","detail": "enough\u{1b}[2J\nof it" });
                (403, String::new(), why)
            }
        }
    }
}

/// RFC 3339.
fn time(seconds: u64) -> String {
    let date = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

/// A certificate of this authority's that is good for days, in a store.
fn stored(dir: &tempfile::TempDir, played: &Played) -> Stored {
    let storage = Directory::open(&store(dir)).unwrap();
    let certificate = Stored {
        directory: played.authority().directory,
        ..internal::issue(&storage, "a.example", now()).unwrap()
    };
    let bytes = serde_json::to_vec(&certificate).unwrap();
    storage
        .save(&Place::new("certificates", "a.example"), &bytes)
        .unwrap();
    certificate
}

#[test]
fn a_certificate_is_renewed_when_the_authority_says() {
    let (begin, end) = (now() + 86_400, now() + 2 * 86_400);
    let played = Played::start((begin, end));
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let certificate = stored(&dir, &played);
    let wanted = settings(
        vec![played.authority()],
        vec![public("a.example", &[Kind::Http01])],
    );
    let keeper = Keeper::start(&store(&dir), &plane, wanted.clone());
    // Without a word of it that would be after four days.
    wait("the window", &keeper, || {
        let entry = keeper.board.list().pop()?;
        (begin..=end).contains(&entry.next).then_some(())
    });
    let id = certificate.identifier().unwrap().to_string();
    assert_eq!(*played.asked.lock().unwrap(), [id.to_ascii_lowercase()]);
    assert!(played.orders.lock().unwrap().is_empty(), "not yet");
    // It is remembered.
    keeper.kill();
    *played.window.lock().unwrap() = (now() - 200, now() - 100);
    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    let order = wait("an order", &keeper, || {
        played.orders.lock().unwrap().first().cloned()
    });
    assert_eq!(order["replaces"], id.as_str(), "it says what it replaces");
    assert_eq!(order["profile"], "shortlived");
    let entry = wait("the refusal", &keeper, || {
        keeper.board.list().pop().filter(|e| e.failures > 0)
    });
    let told = entry.last_error.unwrap();
    assert!(
        told.contains("enough [2J of it"),
        "nothing steers a terminal: {told:?}"
    );
    assert!(plane.has("a.example").is_some(), "the old one serves");
}
