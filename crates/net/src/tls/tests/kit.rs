//! An authority, certificates, a server on a core, clients.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, mpsc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::rt::{Core, Remote, current_core, now_ms, spawn};
use crate::stream::Stream;
use crate::testing::{PATIENCE, core_id};
use crate::tls::challenges::Challenges;
use crate::tls::server::{
    Bundle, Certificate, Certificates, Policy, Profile, ServerTls, ServerTlsParts, UnknownName,
};
use crate::tls::tickets::{ROTATION_S, TicketKeys};
use crate::tls::{H2, HTTP_11, Handshake, HandshakeError, accept};

pub(super) struct Ca {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) der: rustls::pki_types::CertificateDer<'static>,
    pub(super) pem: String,
}

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self {
            der: cert.der().clone(),
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// PEM of a certificate for these names, and of its key.
    pub(super) fn pem_for(
        &self,
        names: &[&str],
        rsa: bool,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a leaf");
        change(&mut params);
        let key = if rsa {
            KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap()
        } else {
            KeyPair::generate().unwrap()
        };
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    pub(super) fn certificate(&self, names: &[&str], rsa: bool) -> Arc<Certificate> {
        let (cert, key) = self.pem_for(names, rsa, |_| {});
        Arc::new(Certificate::from_pem(cert.as_bytes(), key.as_bytes(), None).unwrap())
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }
}

/// The authority of the servers, and what it has issued: made once, RSA keys take their time.
pub(super) static CA: LazyLock<Ca> = LazyLock::new(Ca::new);
static EC: LazyLock<Arc<Certificate>> = LazyLock::new(|| CA.certificate(&NAMES, false));
static RSA: LazyLock<Arc<Certificate>> = LazyLock::new(|| CA.certificate(&NAMES, true));
const NAMES: [&str; 4] = ["a.example", "b.example", "*.w.example", "127.0.0.1"];

pub(super) fn table(rsa: bool, ec: bool) -> Arc<Certificates> {
    let mut all = Vec::new();
    if rsa {
        all.push(Arc::clone(&RSA));
    }
    if ec {
        all.push(Arc::clone(&EC));
    }
    let certificates = Certificates::new();
    let names = NAMES.map(|name| (name.to_owned(), Bundle::new(all.clone())));
    certificates.replace(names, Some(Bundle::new(all)));
    certificates
}

pub(super) fn real_now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub(super) fn plain_policy() -> Policy {
    Policy {
        alpn: vec![H2.to_vec(), HTTP_11.to_vec()],
        ..Policy::default()
    }
}

pub(super) fn parts(policies: Vec<(&str, Policy)>) -> ServerTlsParts {
    ServerTlsParts {
        policies: policies
            .into_iter()
            .map(|(name, policy)| (name.to_owned(), policy))
            .collect(),
        default: None,
        unknown_name: UnknownName::Refuse,
        certificates: table(true, true),
        tickets: TicketKeys::random(real_now_s(), ROTATION_S),
        challenges: Challenges::new(),
        pending: 256,
        on_demand: None,
    }
}

pub(super) fn server_tls() -> Arc<ServerTls> {
    let mut parts = parts(vec![
        ("a.example", plain_policy()),
        ("b.example", plain_policy()),
        ("*.w.example", plain_policy()),
    ]);
    parts.default = Some(plain_policy());
    Arc::new(ServerTls::new(parts).unwrap())
}

/// A server on a core of its own.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    remote: Arc<Remote>,
    results: mpsc::Receiver<Result<Handshake, HandshakeError>>,
    ended: Arc<AtomicBool>,
}

pub(super) struct Limits {
    pub(super) deadline_ms: u64,
    pub(super) send_buffer: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 15_000,
            send_buffer: None,
        }
    }
}

impl Server {
    pub(super) fn start<F>(
        tls: Arc<ServerTls>,
        handle: impl Fn(Stream) -> F + Send + Clone + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::limited(tls, Limits::default(), handle)
    }

    pub(super) fn limited<F>(
        tls: Arc<ServerTls>,
        limits: Limits,
        handle: impl Fn(Stream) -> F + Send + Clone + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let (tell_remote, told_remote) = mpsc::channel();
        std::thread::spawn(move || {
            let core = Core::enter(core_id()).unwrap();
            tell_remote.send(core.remote()).unwrap();
            core.run().unwrap();
        });
        let remote = told_remote.recv_timeout(PATIENCE).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (tell, results) = mpsc::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let (core, stop) = (Arc::clone(&remote), Arc::clone(&ended));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let socket = socket.unwrap();
                socket.set_nonblocking(true).unwrap();
                socket.set_nodelay(true).unwrap();
                if let Some(size) = limits.send_buffer {
                    socket2::SockRef::from(&socket)
                        .set_send_buffer_size(size)
                        .unwrap();
                }
                let (tls, tell, handle) = (Arc::clone(&tls), tell.clone(), handle.clone());
                core.run(move || {
                    spawn(async move {
                        let stream = Stream::new(OwnedFd::from(socket)).unwrap();
                        let deadline = now_ms() + limits.deadline_ms;
                        match accept(stream, &[], &tls, deadline, None).await {
                            Ok((stream, handshake)) => {
                                let _ = tell.send(Ok(handshake));
                                handle(stream).await;
                            }
                            Err(e) => {
                                let _ = tell.send(Err(e));
                            }
                        }
                    });
                });
            }
        });
        Self {
            addr,
            remote,
            results,
            ended,
        }
    }

    pub(super) fn echo() -> Self {
        Self::start(server_tls(), echo)
    }

    /// What the next handshake came to.
    pub(super) fn result(&self) -> Result<Handshake, HandshakeError> {
        self.results.recv_timeout(PATIENCE).unwrap()
    }

    pub(super) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    pub(super) fn tls(&self, config: &Arc<ClientConfig>, name: &str) -> Tls {
        tls_over(self.connect(), config, name)
    }

    /// One exchange; says what the server thinks of it.
    pub(super) fn exchange(&self, config: &Arc<ClientConfig>, name: &str) -> Handshake {
        let mut client = self.tls(config, name);
        client.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        client.conn.send_close_notify();
        let _ = client.flush();
        self.result().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.remote.run(|| current_core().stop());
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.addr);
    }
}

pub(super) type Tls = StreamOwned<ClientConnection, TcpStream>;

pub(super) fn tls_over(socket: TcpStream, config: &Arc<ClientConfig>, name: &str) -> Tls {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::clone(config), name).unwrap(),
        socket,
    )
}

/// Sends back what it gets.
pub(super) async fn echo(stream: Stream) {
    let mut buf = vec![0; 64 * 1024];
    loop {
        match stream.recv(&mut buf).await {
            Ok(0) => return stream.shutdown_write(),
            Ok(n) => {
                if stream.send_all(&buf[..n]).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

pub(super) fn client(profile: Option<&'static rustls::SupportedProtocolVersion>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::clone(crate::tls::provider()));
    let builder = match profile {
        Some(version) => builder.with_protocol_versions(&[version]),
        None => builder.with_protocol_versions(Profile::Intermediate.versions()),
    };
    builder
        .unwrap()
        .with_root_certificates(CA.roots())
        .with_no_client_auth()
}

/// Bytes that are easy to tell apart.
pub(super) fn noise(n: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_u32;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            x as u8
        })
        .collect()
}

/// Reads to the end; says whether that was announced.
pub(super) fn read_to_end(from: &mut impl Read) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let end = from.read_to_end(&mut all).map(|_| ());
    (all, end)
}
