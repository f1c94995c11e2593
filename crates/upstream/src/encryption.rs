//! How connections to an upstream's servers are encrypted: made when a configuration is loaded, used on every core.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use narthex_config::model::{
    CertificateFiles, ServerAddress, UpstreamProtocol, UpstreamRoots, UpstreamTls,
};
use narthex_net::rt;
use narthex_net::stream::Stream;
use narthex_net::tls::client::{ClientTls, ClientTlsParts, Roots};
use narthex_net::tls::server::{Certificate, CertificateFiles as Files};
use narthex_net::tls::{self, H2, HTTP_11, HandshakeError, Problem};

use crate::endpoint::Endpoint;

/// Largest file that is looked at to tell whether it has changed: none that can be used is larger.
const MAX_FILE: u64 = 16 << 20;

/// How connections to an upstream's servers are encrypted.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// Of what is written and what its files hold; never 0.
    id: u64,
    requests: Arc<ClientTls>,
    /// Health checks speak HTTP/1.1.
    checks: Arc<ClientTls>,
}

impl PartialEq for Encryption {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Encryption {
    /// Reads the files; `before` is used again if nothing has changed, for the sessions that it remembers.
    pub fn new(
        tls: &UpstreamTls,
        protocol: UpstreamProtocol,
        before: Option<&Self>,
    ) -> Result<Self, Problem> {
        let id = id_of(tls, protocol);
        if let Some(before) = before.filter(|b| b.id == id) {
            return Ok(before.clone());
        }
        let alpn: &[&[u8]] = match protocol {
            UpstreamProtocol::Http1 => &[HTTP_11],
            UpstreamProtocol::Http2 => &[H2],
            UpstreamProtocol::Auto => &[H2, HTTP_11],
        };
        Ok(Self {
            id,
            requests: Arc::new(client(tls, alpn)?),
            checks: Arc::new(client(tls, &[HTTP_11])?),
        })
    }

    /// What tells connections apart that were made in different ways; 0 is a plain one.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Shakes hands with a server, for requests. `true`: HTTP/2 was agreed upon.
    pub(crate) async fn begin(
        &self,
        stream: Stream,
        endpoint: &Endpoint,
        deadline: u64,
    ) -> Result<(Stream, bool), HandshakeError> {
        let name = name_of(endpoint);
        let (stream, done) = tls::connect(stream, &self.requests, &name, deadline).await?;
        Ok((stream, done.alpn.as_deref() == Some(H2)))
    }

    /// The same, for a health check. `name` is the server's own.
    pub(crate) async fn begin_check(
        &self,
        stream: Stream,
        name: &str,
    ) -> Result<Stream, HandshakeError> {
        // Whoever asks bounds the time.
        let far = rt::now_ms().saturating_add(60 * 60 * 1_000);
        let (stream, _) = tls::connect(stream, &self.checks, name, far).await?;
        Ok(stream)
    }
}

/// The name that a server must prove, unless another is written.
pub(crate) fn name_of(endpoint: &Endpoint) -> String {
    match &endpoint.identity().address {
        ServerAddress::Ip(address) => address.ip().to_string(),
        ServerAddress::Dns { host, .. } => host.clone(),
        // `_https._tcp.api.internal` is about `api.internal`.
        ServerAddress::Srv { name, .. } => {
            let mut rest = name.as_str();
            while let Some((label, below)) = rest.split_once('.')
                && label.starts_with('_')
            {
                rest = below;
            }
            rest.to_owned()
        }
        ServerAddress::Unix(_) => "localhost".to_owned(),
    }
}

/// Why a handshake failed, in one word.
pub(crate) fn word(error: &HandshakeError) -> &'static str {
    match error.reason() {
        "certificate" => match error.certificate_flaw() {
            "expired" => "tls-expired",
            "name" => "tls-wrong-name",
            "issuer" => "tls-unknown-issuer",
            _ => "tls-certificate",
        },
        "peer-refused" => "tls-refused",
        "closed" | "io" => "tls-closed",
        "alpn" => "tls-alpn",
        "not-tls" => "tls-not-spoken",
        _ => "tls-failed",
    }
}

fn client(tls: &UpstreamTls, alpn: &[&[u8]]) -> Result<ClientTls, Problem> {
    let certificate = match &tls.certificate {
        Some(pair) => Some(Arc::new(Certificate::load(&files(pair))?)),
        None => None,
    };
    ClientTls::new(ClientTlsParts {
        roots: match &tls.roots {
            UpstreamRoots::System => Roots::System,
            UpstreamRoots::File(path) => Roots::Bundle(path.clone()),
            UpstreamRoots::Unverified => Roots::UnsafeNoVerify,
        },
        name: tls.name.clone(),
        certificate,
        alpn: alpn.iter().map(|p| p.to_vec()).collect(),
        ..ClientTlsParts::default()
    })
}

fn files(pair: &CertificateFiles) -> Files {
    Files {
        cert: pair.certificate.clone(),
        key: pair.key.clone(),
        ocsp: pair.ocsp.clone(),
    }
}

fn id_of(tls: &UpstreamTls, protocol: UpstreamProtocol) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{tls:?} {protocol:?}").hash(&mut hasher);
    let mut content = |path: &Path| {
        use std::io::Read;
        let mut bytes = Vec::new();
        if let Ok(file) = std::fs::File::open(path) {
            // What cannot be read is told when it is used.
            let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
        }
        bytes.hash(&mut hasher);
    };
    if let UpstreamRoots::File(path) = &tls.roots {
        content(path);
    }
    if let Some(pair) = &tls.certificate {
        content(&pair.certificate);
        content(&pair.key);
    }
    hasher.finish() | 1
}
