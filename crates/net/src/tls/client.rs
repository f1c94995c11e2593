//! TLS to servers: whom we believe, who we are, what we speak inside.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::accept::{HandshakeError, drive, suite_name};
use super::problem::{Problem, ProblemKind};
use super::server::load;
use super::server::{Certificate, Profile};
use super::session::Conn;
use super::stream::TlsStream;
use super::{Version, provider};
use crate::stream::Stream;

/// Servers whose sessions are remembered, for each [`ClientTls`].
const SESSIONS: usize = 256;

/// Which authorities a server's certificate must come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// Those of the system.
    #[default]
    System,
    /// Those of a bundle, and no others.
    Bundle(PathBuf),
    /// Nobody's: whoever answers is believed. For tests and for who knows why; everything that is said may be read and changed by
    /// whoever is in between.
    UnsafeNoVerify,
}

/// What [`ClientTls`] is made from.
#[derive(Debug, Clone, Default)]
pub struct ClientTlsParts {
    /// Which authorities a server's certificate must come from.
    pub roots: Roots,
    /// The name that a server's certificate must have, and that is sent (SNI), rather than the one that is dialled.
    pub name: Option<String>,
    /// Who we are, if the server asks.
    pub certificate: Option<Arc<Certificate>>,
    /// Versions and suites.
    pub profile: Profile,
    /// Protocols inside, the preferred one first. A server that speaks another one is an error; one that names none speaks
    /// HTTP/1.1.
    pub alpn: Vec<Vec<u8>>,
}

/// How one upstream is spoken to over TLS. Shared by all cores; sessions are remembered in it, so none is used with other settings.
#[derive(Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Reads the authorities and makes what handshakes need. Reads files: not for a core.
    pub fn new(parts: ClientTlsParts) -> Result<Self, Problem> {
        let name = match parts.name.as_deref() {
            Some(name) => Some(server_name(name).map_err(|_| {
                Problem::new(
                    None,
                    ProblemKind::Malformed,
                    format!("{name:?} is no name of a server"),
                    "give a DNS name or an address, without a port",
                )
            })?),
            None => None,
        };
        let unusable = |e: &dyn std::fmt::Display| {
            Problem::new(
                None,
                ProblemKind::Unusable,
                format!("TLS to the servers cannot be set up ({e})"),
                "check the authorities and the client certificate",
            )
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(parts.profile.versions())
            .map_err(|e| unusable(&e))?;
        let builder = match &parts.roots {
            Roots::System => builder.with_root_certificates(system_roots()?),
            Roots::Bundle(path) => {
                let mut roots = RootCertStore::empty();
                for authority in load::authorities(path)? {
                    roots.add(authority).map_err(|e| unusable(&e))?;
                }
                builder.with_root_certificates(roots)
            }
            Roots::UnsafeNoVerify => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(NoVerify)),
        };
        let mut config = match &parts.certificate {
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(
                rustls::sign::SingleCertAndKey::from(Arc::clone(certificate.key())),
            )),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = parts.alpn;
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }
}

/// What a handshake with a server came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The protocol inside, if the server named one.
    pub alpn: Option<Vec<u8>>,
    /// The version.
    pub version: Version,
    /// The suite, as rustls names it.
    pub suite: &'static str,
    /// Was an earlier session resumed?
    pub resumed: bool,
}

/// A handshake with the server at the other end of `stream`, a socket on which nothing has been said yet. `name` is who it should
/// be (a DNS name or an address), unless the settings name somebody else. The deadline is [`crate::rt::now_ms`] time.
pub async fn connect(
    stream: Stream,
    tls: &ClientTls,
    name: &str,
    deadline_ms: u64,
) -> Result<(Stream, Connected), HandshakeError> {
    let name = match &tls.name {
        Some(name) => name.clone(),
        None => server_name(name)?,
    };
    let Ok(socket) = stream.into_socket() else {
        return Err(HandshakeError::NotASocket);
    };
    let conn = UnbufferedClientConnection::new(Arc::clone(&tls.config), name)
        .map_err(HandshakeError::Tls)?;
    let stream = TlsStream::new(socket, Conn::Client(conn), &[]);
    crate::rt::timeout_at(deadline_ms, drive(&stream))
        .await
        .map_err(|_| HandshakeError::Deadline)??;
    let connected = stream.with_common(|common| Connected {
        alpn: common.alpn_protocol().map(<[u8]>::to_vec),
        version: super::accept::version(common),
        suite: suite_name(common),
        resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    });
    Ok((stream.into(), connected))
}

fn server_name(name: &str) -> Result<ServerName<'static>, HandshakeError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    ServerName::try_from(bare.to_owned()).map_err(|_| HandshakeError::BadName)
}

fn system_roots() -> Result<RootCertStore, Problem> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found
            .errors
            .first()
            .map_or_else(String::new, |e| format!(" ({e})"));
        return Err(Problem::new(
            None,
            ProblemKind::Empty,
            format!("this system has no certificate authorities{why}"),
            "install them (Debian: apt install ca-certificates) or give a bundle with `ca`",
        ));
    }
    Ok(roots)
}

/// Believes everybody. The signature is checked all the same: whoever answers must have the key of what he shows.
#[derive(Debug)]
struct NoVerify;

impl ServerCertVerifier for NoVerify {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
