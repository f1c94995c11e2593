//! What Debian's Pebble does not speak or do: renewal information (RFC 9773), profiles, and what an authority that is broken or
//! hostile answers. The authority is played: it answers what these tests need and believes every signature.

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
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData, SignatureAlgorithm};
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
    /// How orders end.
    ending: Mutex<Ending>,
    /// The chain that was made last (PEM).
    made: Mutex<String>,
}

/// How orders end.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// It refuses.
    Refused,
    /// With a certificate that is good for so many seconds from now on; less than none: that ended so long ago.
    Good(i64),
    /// It wants a proof for this name first.
    Proof(&'static str),
}

/// The key of a request.
struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A chain of one for `a.example`, with the key of this request.
fn certify(request: &str, seconds: i64) -> String {
    use x509_parser::prelude::{FromDer, X509CertificationRequest};
    let der = base64(request).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    let info = &request.certification_request_info.subject_pki;
    let key = Requested(info.subject_public_key.data.to_vec());
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let at =
        |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
    let end = now().checked_add_signed(seconds).unwrap();
    // What it is called by when its renewal is spoken of has this in it.
    params.use_authority_key_identifier_extension = true;
    params.not_before = at(now().min(end) - 3_600);
    params.not_after = at(end);
    let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    params.signed_by(&key, &issuer).unwrap().pem()
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
            ending: Mutex::new(Ending::Refused),
            made: Mutex::default(),
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
            // A chain is text.
            answer
                .as_str()
                .map_or_else(|| answer.to_string(), str::to_owned)
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

    fn order(&self, status: &str) -> Value {
        let url = |path: &str| format!("https://localhost:{}{path}", self.port);
        json!({
            "status": status, "authorizations": [url("/authorization")],
            "identifiers": [{ "type": "dns", "value": "a.example" }],
            "finalize": url("/finalize"), "certificate": url("/certificate"),
        })
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
                let mut order = self.order("ready");
                order["replaces"] = said["replaces"].clone();
                order["profile"] = said["profile"].clone();
                (201, fields, order)
            }
            "/order/1" => {
                let proof = matches!(*self.ending.lock().unwrap(), Ending::Proof(_));
                let status = match self.made.lock().unwrap().is_empty() {
                    _ if proof => "pending",
                    true => "ready",
                    false => "valid",
                };
                (200, String::new(), self.order(status))
            }
            "/authorization" => {
                let Ending::Proof(name) = *self.ending.lock().unwrap() else {
                    return (404, String::new(), Value::Null);
                };
                let challenge = json!({
                    "type": "http-01", "url": url("/challenge"), "token": "t0ken", "status": "pending",
                });
                let authorization = json!({
                    "status": "pending", "identifier": { "type": "dns", "value": name },
                    "challenges": [challenge],
                });
                (200, String::new(), authorization)
            }
            "/finalize" if matches!(*self.ending.lock().unwrap(), Ending::Good(_)) => {
                if let Ending::Good(seconds) = *self.ending.lock().unwrap() {
                    let request = said["csr"].as_str().unwrap();
                    *self.made.lock().unwrap() = certify(request, seconds);
                }
                (200, String::new(), self.order("valid"))
            }
            "/certificate" => {
                let chain = std::mem::take(&mut *self.made.lock().unwrap());
                (200, String::new(), chain.into())
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

fn by(played: &Played) -> narthex_acme::keeper::Settings {
    settings(
        vec![played.authority()],
        vec![public("a.example", &[Kind::Http01])],
    )
}

#[test]
fn a_window_that_always_lies_in_the_past_makes_no_order_after_order() {
    let played = Played::start((now() - 200, now() - 100));
    *played.ending.lock().unwrap() = Ending::Good(90 * 86_400);
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::start(&store(&dir), &plane, by(&played));
    let first = wait("a certificate", &keeper, || plane.has("a.example"));
    let entry = wait("the window of it", &keeper, || {
        (!played.asked.lock().unwrap().is_empty()).then_some(())?;
        keeper.board.list().pop().filter(|e| e.issuer.is_some())
    });
    assert!(entry.next > now() + 3_000, "{entry:?}");
    let id = first.identifier().unwrap().to_string();
    assert_eq!(played.asked.lock().unwrap()[0], id.to_ascii_lowercase());
    assert_eq!(played.orders.lock().unwrap().len(), 1);
}

#[test]
fn a_certificate_that_has_ended_is_a_failure_and_takes_no_good_ones_place() {
    let played = Played::start((now() - 200, now() - 100));
    *played.ending.lock().unwrap() = Ending::Good(-600);
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let good = stored(&dir, &played);
    let keeper = Keeper::start(&store(&dir), &plane, by(&played));
    let fails = |n: u32| {
        wait("failures", &keeper, || {
            keeper.board.list().pop().filter(|e| e.failures >= n)
        })
    };
    let why = fails(2).last_error.unwrap();
    assert!(why.contains("has ended already"), "{why}");
    assert_eq!(plane.has("a.example").unwrap().chain, good.chain);
    let orders = played.orders.lock().unwrap().len();
    assert!(orders <= 3, "pauses grow: {orders} orders");
    // Where nothing better is it serves, and is no more asked for than any other failure.
    let dir = tempfile::tempdir().unwrap();
    drop(keeper);
    let plane = Arc::new(Plane::default());
    let keeper = Keeper::start(&store(&dir), &plane, by(&played));
    wait("it", &keeper, || plane.has("a.example"));
    wait("a failure", &keeper, || {
        keeper.board.list().pop().filter(|e| e.failures > 0)
    });
}

#[test]
fn a_proof_for_a_name_that_was_not_ordered_is_not_given() {
    let played = Played::start((0, 0));
    *played.ending.lock().unwrap() = Ending::Proof("victim.example");
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::start(&store(&dir), &plane, by(&played));
    let why = wait("a failure", &keeper, || {
        assert!(plane.tokens.lock().unwrap().is_empty(), "it is answered");
        keeper.board.list().pop()?.last_error
    });
    assert!(
        why.contains("victim.example, which we did not ask for"),
        "{why}"
    );
}
