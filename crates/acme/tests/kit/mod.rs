//! A data plane that is small enough to be a test's: it answers challenges of a real authority and remembers certificates.

// Each program of tests uses its part; helpers of tests may end them.
#![allow(dead_code, clippy::unwrap_used, clippy::missing_panics_doc)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use narthex_acme::authority::Authority;
use narthex_acme::board::Board;
use narthex_acme::certificate::Stored;
use narthex_acme::challenge::{Answers, CertifiedKey, Kind};
use narthex_acme::keeper::{Parts, Settings, Sink, Source, Wanted};
use narthex_acme::store::Directory;
#[allow(unused_imports)]
pub use narthex_e2e::kit::pebble::{Asked, Pebble};

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_mins(1);

/// An authority, as the room knows it.
pub fn authority(pebble: &Pebble) -> Authority {
    Authority {
        directory: pebble.directory(),
        roots: Some(pebble.roots()),
        contact: Some("ops@a.example".into()),
        external: None,
        profile: None,
    }
}

/// Answers and certificates, as a data plane would have them.
#[derive(Default)]
pub struct Plane {
    pub tokens: Mutex<HashMap<(String, String), String>>,
    pub proofs: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    pub served: Mutex<HashMap<String, Stored>>,
    /// Tokens that were asked for.
    pub asked: Mutex<Vec<String>>,
}

impl Answers for Plane {
    fn put_token(&self, host: &str, token: &str, answer: &str) {
        let key = (host.to_owned(), token.to_owned());
        self.tokens.lock().unwrap().insert(key, answer.to_owned());
    }
    fn take_token(&self, host: &str, token: &str) {
        self.tokens
            .lock()
            .unwrap()
            .remove(&(host.to_owned(), token.to_owned()));
    }
    fn put_certificate(&self, name: &str, certificate: Arc<CertifiedKey>) {
        self.proofs
            .lock()
            .unwrap()
            .insert(name.to_owned(), certificate);
    }
    fn take_certificate(&self, name: &str) {
        self.proofs.lock().unwrap().remove(name);
    }
}

impl Sink for Plane {
    fn install(&self, name: &str, certificate: &Stored) {
        self.served
            .lock()
            .unwrap()
            .insert(name.to_owned(), certificate.clone());
    }
    fn remove(&self, name: &str) {
        self.served.lock().unwrap().remove(name);
    }
}

#[derive(Debug)]
struct Single(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Single {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Plane {
    /// Listens where this authority validates.
    pub fn start(pebble: &Pebble) -> Arc<Self> {
        let plane = Arc::new(Self::default());
        let (http, tls) = pebble.ports();
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, http)).unwrap();
        let tls = TcpListener::bind((Ipv4Addr::LOCALHOST, tls)).unwrap();
        let this = Arc::clone(&plane);
        std::thread::spawn(move || http.incoming().flatten().for_each(|s| this.http(s)));
        let this = Arc::clone(&plane);
        std::thread::spawn(move || tls.incoming().flatten().for_each(|s| this.handshake(s)));
        plane
    }

    fn http(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let token = head
            .split(' ')
            .nth(1)
            .and_then(|p| p.strip_prefix("/.well-known/acme-challenge/"));
        let host = head
            .lines()
            .find_map(|l| l.strip_prefix("Host: "))
            .unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default().to_owned();
        let token = token.unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(token.clone());
        let answer = self.tokens.lock().unwrap().get(&(host, token)).cloned();
        let (status, body) = match &answer {
            Some(answer) => ("200 OK", answer.as_str()),
            None => ("404 Not Found", ""),
        };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
    }

    fn handshake(&self, mut stream: TcpStream) {
        // Pebble asks for one name at a time, and so do these tests.
        let Some(certified) = self.proofs.lock().unwrap().values().next().cloned() else {
            return;
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut config = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Single(certified)));
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let mut connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let _ = connection.complete_io(&mut stream);
    }

    pub fn has(&self, name: &str) -> Option<Stored> {
        self.served.lock().unwrap().get(name).cloned()
    }
}

/// A keeper that runs, on a thread of its own.
pub struct Keeper {
    pub board: Arc<Board>,
    pub settings: tokio::sync::watch::Sender<Arc<Settings>>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Keeper {
    pub fn start(store: &Path, plane: &Arc<Plane>, settings: Settings) -> Self {
        let board = Arc::new(Board::default());
        let parts = Parts {
            storage: Arc::new(Directory::open(store).unwrap()),
            answers: plane.clone(),
            sink: plane.clone(),
            board: Arc::clone(&board),
        };
        let (sender, receiver) = tokio::sync::watch::channel(Arc::new(settings));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (_sender, on_demand) = tokio::sync::watch::channel(Arc::default());
                tokio::select! {
                    () = narthex_acme::keeper::run(parts, receiver, on_demand) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            board,
            settings: sender,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Ends it wherever it is.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn public(name: &str, kinds: &[Kind]) -> Wanted {
    Wanted {
        name: name.into(),
        source: Source::Public {
            kinds: kinds.to_vec(),
            contact: None,
        },
    }
}

pub fn settings(authorities: Vec<Authority>, wanted: Vec<Wanted>) -> Settings {
    Settings {
        wanted,
        authorities,
        dns: None,
        dns_settle: Duration::ZERO,
        first_pause: Duration::from_secs(1),
    }
}

/// Waits for something, looking again and again.
#[track_caller]
pub fn wait<T>(what: &str, keeper: &Keeper, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < LONG, "{what}: {:#?}", keeper.board.list());
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Where a store may be in this directory.
pub fn store(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("store")
}
