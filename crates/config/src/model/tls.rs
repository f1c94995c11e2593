//! TLS: what a handshake is judged by, where certificates come from, how servers are proven.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{HostPattern, Secret};

/// A version of HTTP that a connection may speak.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 (and 1.0).
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    Http2,
}

/// Versions and suites.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq, Hash)]
pub enum TlsLevel {
    /// TLS 1.3, and 1.2 with forward secrecy and authenticated encryption: default.
    #[default]
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

/// TLS of a listener.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct ListenerTls {
    /// For sites that write none of their own.
    pub level: TlsLevel,
    /// From the end of the PROXY header (or accept) to the end of the handshake; 10 s.
    pub handshake_timeout: Duration,
    /// Handshakes under way per core; 256; more are refused.
    pub pending: usize,
    /// A ClientHello whose name no certificate has.
    pub unknown_name: UnknownName,
}

/// What a client gets that asks for a name no certificate has.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub enum UnknownName {
    /// `unrecognized_name`: default. A client that names nobody gets the default certificate.
    #[default]
    Refuse,
    /// The default certificate.
    Default,
}

/// Bounds of HTTP/2 connections from clients; what else bounds a message is in [`super::Limits`].
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Http2Limits {
    /// Streams at once per connection; 100.
    pub streams: u32,
}

/// TLS of a site.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct SiteTls {
    /// Where its certificates come from.
    pub source: CertificateSource,
    /// Its own instead of the listener's.
    pub level: Option<TlsLevel>,
    /// Certificates of clients, if they are asked for.
    pub client: Option<ClientCertificates>,
}

/// Where a site's certificates come from.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum CertificateSource {
    /// Files, at least one pair; several for several kinds of keys.
    Files(Vec<CertificateFiles>),
    /// A public CA. Hosts that cannot have such a certificate ([`can_be_public`]) get one by the local CA.
    Acme(SiteAcme),
    /// The local CA.
    Internal,
}

/// A certificate and its key.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the leaf, then its chain.
    pub certificate: PathBuf,
    /// PEM; readable by its owner only.
    pub key: PathBuf,
    /// An OCSP response (DER) to staple.
    pub ocsp: Option<PathBuf>,
}

/// Certificates of a site by ACME.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct SiteAcme {
    /// Contact of the account; [`Acme::email`] without it.
    pub email: Option<String>,
    /// How control of the names is shown.
    pub challenge: Challenge,
    /// A certificate is obtained at the first handshake that asks for it, if [`Acme::on_demand`] allows the name.
    pub on_demand: bool,
}

/// How control of a name is shown.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub enum Challenge {
    /// DNS-01 for wildcards; else TLS-ALPN-01 or HTTP-01, whichever has a listener: default.
    #[default]
    Auto,
    /// A file over plain HTTP on port 80.
    Http01,
    /// A certificate for `acme-tls/1` on port 443.
    TlsAlpn01,
    /// A TXT record; needs [`Acme::dns`].
    Dns01,
}

/// Certificates of clients.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct ClientCertificates {
    /// Without one the handshake fails.
    pub required: bool,
    /// PEM: who may issue them. Not empty.
    pub ca: PathBuf,
    /// PEM: which are revoked.
    pub crl: Option<PathBuf>,
}

/// `Strict-Transport-Security`, on answers over HTTPS.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Hsts {
    /// 1 year.
    pub max_age: Duration,
    /// `includeSubDomains`.
    pub subdomains: bool,
    /// `preload`.
    pub preload: bool,
}

/// Keys of session tickets.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct TlsTickets {
    /// Of this secret, which several proxies may share; drawn at the start without it.
    pub secret: Option<Secret>,
    /// A key seals for this long, and opens for two times longer; 12 h.
    pub rotate: Duration,
}

/// Certificates by ACME, and the local CA.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Acme {
    /// Contact of the accounts of sites that write none.
    pub email: Option<String>,
    /// Directory of accounts, orders, certificates and the local CA; `/var/lib/narthex`.
    pub storage: PathBuf,
    /// CAs in order: the next one is asked when the ones before fail. Not empty.
    pub authorities: Vec<AcmeAuthority>,
    /// Where TXT records are written.
    pub dns: Option<DnsUpdates>,
    /// Names that may have a certificate at the first handshake.
    pub on_demand: Option<OnDemand>,
}

/// A CA that speaks ACME.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct AcmeAuthority {
    /// URL of its directory.
    pub directory: String,
    /// PEM: whom its own certificate must be issued by; the system's without it.
    pub roots: Option<PathBuf>,
    /// Profile of the orders.
    pub profile: Option<String>,
    /// External account binding.
    pub account: Option<ExternalAccount>,
}

/// External account binding.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct ExternalAccount {
    /// Key id.
    pub key_id: String,
    /// HMAC key, base64url.
    pub key: Secret,
}

/// Where TXT records are written.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum DnsUpdates {
    /// RFC 2136, signed by TSIG.
    Update {
        /// Primary server.
        server: SocketAddr,
        /// Zone; found by asking for its SOA without it.
        zone: Option<String>,
        /// Name of the key.
        key_name: String,
        /// The key, base64.
        key: Secret,
        /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
        algorithm: String,
    },
    /// A program: `PROGRAM add|remove NAME VALUE`.
    Exec(PathBuf),
    /// A POST of `{"action","name","value"}`.
    Webhook {
        /// `http://` or `https://`.
        url: String,
        /// Bearer token.
        token: Option<Secret>,
    },
}

/// Certificates at the first handshake.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct OnDemand {
    /// Asked with `?domain=NAME`: 200 allows it.
    pub ask: Option<String>,
    /// Names that are allowed without asking.
    pub names: Vec<HostPattern>,
    /// New certificates per hour; 100.
    pub per_hour: u32,
    /// The same for the handshakes of one client (per /64 for IPv6); 10.
    pub per_client: u32,
}

/// How connections to an upstream's servers are encrypted.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct UpstreamTls {
    /// Who must have issued a server's certificate.
    pub roots: UpstreamRoots,
    /// Name that is asked for and proven; a server's own without it.
    pub name: Option<String>,
    /// Who we are to it.
    pub certificate: Option<CertificateFiles>,
}

/// Who must have issued a server's certificate.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub enum UpstreamRoots {
    /// One of the system's CAs.
    System,
    /// One of these (PEM).
    File(PathBuf),
    /// Nobody: any certificate is taken (`unsafe-no-verify`).
    Unverified,
}

/// Version of HTTP towards servers.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1: default.
    #[default]
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
    /// What the server chooses by ALPN; without TLS HTTP/1.1.
    Auto,
}

impl UpstreamTls {
    /// Verified by the system's CAs.
    pub fn verified() -> Self {
        Self {
            roots: UpstreamRoots::System,
            name: None,
            certificate: None,
        }
    }
}

impl SiteTls {
    /// With no policy of its own.
    pub fn new(source: CertificateSource) -> Self {
        Self {
            source,
            level: None,
            client: None,
        }
    }
}

impl Default for ListenerTls {
    fn default() -> Self {
        Self {
            level: TlsLevel::Intermediate,
            handshake_timeout: Duration::from_secs(10),
            pending: 256,
            unknown_name: UnknownName::Refuse,
        }
    }
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self { streams: 100 }
    }
}

impl Default for TlsTickets {
    fn default() -> Self {
        Self {
            secret: None,
            rotate: Duration::from_hours(12),
        }
    }
}

impl Default for Acme {
    /// Let's Encrypt.
    fn default() -> Self {
        Self {
            email: None,
            storage: PathBuf::from("/var/lib/narthex"),
            authorities: vec![AcmeAuthority::new(AcmeAuthority::LETS_ENCRYPT)],
            dns: None,
            on_demand: None,
        }
    }
}

impl AcmeAuthority {
    /// Directory of Let's Encrypt.
    pub const LETS_ENCRYPT: &'static str = "https://acme-v02.api.letsencrypt.org/directory";

    /// Without roots, profile and account of its own.
    pub fn new(directory: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            roots: None,
            profile: None,
            account: None,
        }
    }
}

/// Names below these belong to nobody in particular (RFC 2606, 6761, 6762, 8375, 9476).
const PRIVATE_ENDINGS: &[&str] = &[
    "localhost",
    "local",
    "internal",
    "test",
    "example",
    "invalid",
    "alt",
    "onion",
    "home.arpa",
    "lan",
];

/// Can a public CA issue a certificate for this name (lower case, no trailing dot; of a wildcard what is behind `*.`)? Not for
/// addresses, single labels and names that are reserved.
pub fn can_be_public(name: &str) -> bool {
    let address = name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok();
    let private = PRIVATE_ENDINGS.iter().any(|ending| {
        name.strip_suffix(ending)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    !address && !private && name.contains('.')
}
