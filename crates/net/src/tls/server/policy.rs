//! A TLS policy: versions, suites, client certificates, ALPN. Its hash is its name.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::certificates::Certificates;
use crate::tls::problem::{Problem, ProblemKind};
use crate::tls::provider;
use crate::tls::tickets::{TicketKeys, Ticketer};

/// Which versions and suites are offered. All suites have forward secrecy and authenticated encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3 alone.
    Modern,
}

/// Authorities of client certificates, and what they have revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCa {
    /// Never empty.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
}

impl ClientCa {
    /// Reads a bundle of authorities, and a file of revocation lists. An empty or broken bundle is an error: it must not
    /// mean that nobody, or everybody, is let in (TL-03).
    pub fn load(ca: &Path, crl: Option<&Path>) -> Result<Self, Problem> {
        Ok(Self {
            authorities: super::load::authorities(ca)?,
            crls: crl.map(super::load::crls).transpose()?.unwrap_or_default(),
        })
    }
}

/// Are clients asked for a certificate?
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// No.
    #[default]
    None,
    /// Yes; one without goes on without an identity. A certificate that does not hold ends the handshake.
    Optional(ClientCa),
    /// Yes, and nobody comes in without.
    Required(ClientCa),
}

/// What a handshake is judged by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Versions and suites.
    pub profile: Profile,
    /// Client certificates.
    pub clients: ClientAuth,
    /// Protocols inside, the preferred one first ([`crate::tls::H2`], [`crate::tls::HTTP_11`]). A client that names others
    /// only gets the alert `no_application_protocol`.
    pub alpn: Vec<Vec<u8>>,
}

/// The hash of a policy, everything in it included: the content of bundles and lists too.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyId([u8; 16]);

impl PolicyId {
    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyId({self})")
    }
}

impl Policy {
    /// Its name.
    pub fn id(&self) -> PolicyId {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"narthex tls policy 1");
        hash.update(&[match self.profile {
            Profile::Intermediate => 1,
            Profile::Modern => 2,
        }]);
        let (mode, ca) = match &self.clients {
            ClientAuth::None => (0, None),
            ClientAuth::Optional(ca) => (1, Some(ca)),
            ClientAuth::Required(ca) => (2, Some(ca)),
        };
        hash.update(&[mode]);
        // Every list says its length, every item too: no two policies are written alike.
        let mut list = |items: &mut dyn ExactSizeIterator<Item = &[u8]>| {
            hash.update(&(items.len() as u64).to_be_bytes());
            for item in items {
                hash.update(&(item.len() as u64).to_be_bytes());
                hash.update(item);
            }
        };
        list(&mut self.alpn.iter().map(Vec::as_slice));
        if let Some(ca) = ca {
            list(&mut ca.authorities.iter().map(AsRef::as_ref));
            list(&mut ca.crls.iter().map(AsRef::as_ref));
        }
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        PolicyId(id)
    }

    /// Does it ask clients for a certificate?
    pub fn asks_clients(&self) -> bool {
        self.clients != ClientAuth::None
    }

    pub(super) fn server_config(
        &self,
        certificates: &Arc<Certificates>,
        tickets: &Arc<TicketKeys>,
    ) -> Result<Arc<ServerConfig>, Problem> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(self.profile.versions())
            .map_err(|e| unusable(&e))?;
        let builder = match &self.clients {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Optional(ca) => {
                builder.with_client_cert_verifier(verifier(ca, false, provider())?)
            }
            ClientAuth::Required(ca) => {
                builder.with_client_cert_verifier(verifier(ca, true, provider())?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(certificates) as _);
        config.alpn_protocols.clone_from(&self.alpn);
        // Sessions live in tickets alone: they work on every core and in every process that has the keys.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Ticketer::new(Arc::clone(tickets), self.id()));
        config.ignore_client_order = true;
        super::compress::set(&mut config);
        // Two tickets, as clients open two connections at once.
        config.send_tls13_tickets = 2;
        Ok(Arc::new(config))
    }
}

impl Profile {
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static INTERMEDIATE: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        static MODERN: &[&SupportedProtocolVersion] = &[&version::TLS13];
        match self {
            Self::Intermediate => INTERMEDIATE,
            Self::Modern => MODERN,
        }
    }
}

fn verifier(
    ca: &ClientCa,
    required: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, Problem> {
    let mut roots = RootCertStore::empty();
    for authority in &ca.authorities {
        roots.add(authority.clone()).map_err(|e| unusable(&e))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !ca.crls.is_empty() {
        // Who gives lists gives them for every authority: what no list speaks of is refused, not believed.
        // So is everybody when they have ended: whoever was revoked since then is on none of them.
        builder = builder
            .with_crls(ca.crls.iter().cloned())
            .enforce_revocation_expiration();
    }
    if !required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|e| unusable(&e))
}

fn unusable(error: &dyn fmt::Display) -> Problem {
    Problem::new(
        None,
        ProblemKind::Unusable,
        format!("the TLS policy cannot be used ({error})"),
        "check the authorities and revocation lists of its client certificates",
    )
}
