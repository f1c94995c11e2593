//! TLS from outside: authorities that issue what a test needs, and a client that says what a handshake came to.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use super::PATIENCE;
use super::attack::Client;
use super::sock::Sock;

/// A client's side of a connection.
pub type TlsSock = StreamOwned<ClientConnection, TcpStream>;

/// Kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA P-256.
    Ecdsa,
    /// RSA, 2048 bits.
    Rsa,
}

/// An authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM: the certificate.
    pub cert: String,
    /// PEM: the key.
    pub key: String,
    serial: Vec<u8>,
}

/// Days from now (negative is before), counted from 1970.
fn days(days: i64) -> Duration {
    let now = UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    Duration::from_secs(now.saturating_add_signed(days * 86_400))
}

impl Ca {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a root").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// PEM of its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// For these names, ECDSA, valid now.
    pub fn leaf(&self, names: &[&str]) -> Pair {
        self.issue(names, Kind::Ecdsa, 30)
    }

    /// For these names (or addresses). The first is the common name, too. Valid until so many days from now.
    pub fn issue(&self, names: &[&str], kind: Kind, until: i64) -> Pair {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        if let Some(first) = names.first() {
            params
                .distinguished_name
                .push(DnType::CommonName, first.as_str());
        }
        params.not_before = date_time_ymd(1970, 1, 1) + days(-40);
        params.not_after = date_time_ymd(1970, 1, 1) + days(until);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL
            .fetch_add(1, Ordering::Relaxed)
            .to_be_bytes()
            .to_vec();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let algorithm = match kind {
            Kind::Ecdsa => &rcgen::PKCS_ECDSA_P256_SHA256,
            Kind::Rsa => &rcgen::PKCS_RSA_SHA256,
        };
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    /// PEM: a list that revokes these, good for a month.
    pub fn crl(&self, revoked: &[&Pair]) -> String {
        self.crl_until(revoked, 30)
    }

    /// The same, good until so many days from now (negative is before).
    pub fn crl_until(&self, revoked: &[&Pair], until: i64) -> String {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(1970, 1, 1) + days(-10),
            next_update: date_time_ymd(1970, 1, 1) + days(until),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|pair| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&pair.serial),
                    revocation_time: date_time_ymd(1970, 1, 1) + days(-10),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        list.pem().expect("PEM")
    }
}

impl Pair {
    /// Writes `NAME.pem` and `NAME.key`, the key for its owner only.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        );
        replace(&cert, &self.cert, 0o644);
        replace(&key, &self.key, 0o600);
        (cert, key)
    }
}

/// Puts a file in another's place, as who replaces certificates should.
pub fn replace(path: &Path, text: &str, mode: u32) {
    use std::io::Write;
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    std::fs::rename(&new, path).expect("renamed");
}

/// What a handshake came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// Of rustls's name.
    pub suite: String,
    /// What was agreed.
    pub alpn: Option<String>,
    /// An earlier session was resumed.
    pub resumed: bool,
    /// The server's certificate, DER.
    pub certificate: Vec<u8>,
}

/// A client's settings. Connections of one share their sessions.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

/// Versions that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    Both,
    /// 1.2 alone.
    Only12,
    /// 1.3 alone.
    Only13,
}

impl Tls {
    /// Believes these authorities.
    pub fn new(authorities: &[&Ca], versions: Versions, alpn: &[&str], who: Option<&Pair>) -> Self {
        let roots: Vec<&str> = authorities.iter().map(|ca| ca.pem()).collect();
        Self::believing(&roots, versions, alpn, who)
    }

    /// Believes these roots (PEM).
    pub fn believing(
        roots: &[&str],
        versions: Versions,
        alpn: &[&str],
        who: Option<&Pair>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = match versions {
            Versions::Both => &[&rustls::version::TLS13, &rustls::version::TLS12],
            Versions::Only12 => &[&rustls::version::TLS12],
            Versions::Only13 => &[&rustls::version::TLS13],
        };
        let mut store = RootCertStore::empty();
        for root in roots {
            let der = CertificateDer::from_pem_slice(root.as_bytes()).expect("PEM");
            store.add(der).expect("a root");
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(store);
        let mut config = match who {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
                builder
                    .with_client_auth_cert(vec![chain], key)
                    .expect("a key that fits")
            }
        };
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Self {
            config: Arc::new(config),
        }
    }

    /// Believes this authority; both versions, no ALPN, no certificate.
    pub fn of(ca: &Ca) -> Self {
        Self::new(&[ca], Versions::Both, &[], None)
    }

    /// Shakes hands. An error is what the peer's alert, or its silence, means to a client. In TLS 1.3 a refused client
    /// certificate shows only with the first read.
    pub fn connect(&self, addr: SocketAddr, name: &str) -> io::Result<(Client, Facts)> {
        self.connect_by(addr, name, |_, _| Ok(()))
    }

    /// The same, where the hello is sent by `begin`, or as usual if that does not take it.
    pub fn connect_by(
        &self,
        addr: SocketAddr,
        name: &str,
        begin: impl FnOnce(&mut ClientConnection, &mut TcpStream) -> io::Result<()>,
    ) -> io::Result<(Client, Facts)> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        begin(&mut connection, &mut tcp)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let conn = &stream.conn;
        let facts = Facts {
            version: format!("{:?}", conn.protocol_version().expect("a version")),
            suite: format!(
                "{:?}",
                conn.negotiated_cipher_suite().expect("a suite").suite()
            ),
            alpn: conn
                .alpn_protocol()
                .map(|p| String::from_utf8_lossy(p).into_owned()),
            resumed: conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            certificate: conn
                .peer_certificates()
                .and_then(|c| c.first())
                .map(|c| c.as_ref().to_vec())
                .unwrap_or_default(),
        };
        Ok((Client::over(Sock::Tls(Box::new(stream))), facts))
    }
}

/// What a server saw of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeted {
    /// The name that was asked for.
    pub sni: Option<String>,
    /// A client certificate was shown, and held.
    pub certificate: bool,
    /// An earlier session was resumed.
    pub resumed: bool,
    /// Requests on it.
    pub requests: usize,
}

/// A server of HTTP/1.1 over TLS that answers every request with 200 and its name.
pub struct TlsOrigin {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Greeted>>>,
}

impl TlsOrigin {
    /// With this certificate; asks for one of this authority, if there is one. Lives as long as the process.
    pub fn start(pair: &Pair, clients: Option<&Ca>, alpn: &[&str]) -> Self {
        let config = Arc::new(server_config(pair, clients, alpn));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Greeted>>> = Arc::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (config, seen) = (Arc::clone(&config), Arc::clone(&shared));
                std::thread::spawn(move || serve(tcp, config, &seen));
            }
        });
        Self { addr, seen }
    }

    /// `127.0.0.1:PORT`.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every connection whose handshake ended well.
    pub fn seen(&self) -> Vec<Greeted> {
        self.seen.lock().expect("unharmed").clone()
    }
}

fn server_config(pair: &Pair, clients: Option<&Ca>, alpn: &[&str]) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let chain = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            let der = CertificateDer::from_pem_slice(ca.pem.as_bytes()).expect("PEM");
            roots.add(der).expect("a root");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let mut config = builder
        .with_single_cert(vec![chain], key)
        .expect("a key that fits");
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

fn serve(mut tcp: TcpStream, config: Arc<ServerConfig>, seen: &Mutex<Vec<Greeted>>) {
    use std::io::{Read, Write};
    let Ok(mut conn) = ServerConnection::new(config) else {
        return;
    };
    while conn.is_handshaking() {
        if conn.complete_io(&mut tcp).is_err() {
            return;
        }
    }
    let at = {
        let mut seen = seen.lock().expect("unharmed");
        seen.push(Greeted {
            sni: conn.server_name().map(str::to_owned),
            certificate: conn.peer_certificates().is_some(),
            resumed: conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            requests: 0,
        });
        seen.len() - 1
    };
    let mut stream = StreamOwned::new(conn, tcp);
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        if let Some(one) = seen.lock().expect("unharmed").get_mut(at) {
            one.requests += 1;
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if stream
            .write_all(answer)
            .and_then(|()| stream.flush())
            .is_err()
        {
            return;
        }
    }
}
