//! Names -> certificates. Exchanged while connections go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::names::{self, Names};

/// How exactly the last use of a certificate is known, in seconds.
pub const USE_STEP: u64 = 600;

/// Kind of a certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA, of any curve.
    Ecdsa,
    /// RSA.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

/// A certificate chain with its private key, and what is told about it. Made by [`Certificate::load`] or
/// [`Certificate::from_pem`].
#[derive(Debug, Clone)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) kind: KeyKind,
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    pub(super) serial: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Certificate {
    /// Chain, key and OCSP staple, as rustls takes them.
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Kind of its key.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The DNS names and addresses that it is for, as written in it; `*.` included.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Who has issued it, as a distinguished name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its serial number, in hexadecimal digits.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Valid from, in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Valid until, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// Certificates for one name: usually one, or one of each kind of key.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    certificates: Vec<Arc<Certificate>>,
    /// Seconds since 1970; of certificates that come on demand. Copies share it.
    used: Arc<AtomicU64>,
}

impl Bundle {
    /// Certificates for one name. What is smaller and faster is preferred: Ed25519, then ECDSA, then RSA; of one kind the
    /// one that is valid longest.
    pub fn new(mut certificates: Vec<Arc<Certificate>>) -> Self {
        let rank = |c: &Certificate| match c.kind {
            KeyKind::Ed25519 => 0,
            KeyKind::Ecdsa => 1,
            KeyKind::Rsa => 2,
        };
        certificates.sort_by_key(|c| (rank(c), std::cmp::Reverse(c.not_after)));
        Self {
            certificates,
            used: Arc::default(),
        }
    }

    /// When a handshake asked for it last, to [`USE_STEP`]; 0 for never. Told of certificates that come on demand.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// All of them, the preferred one first.
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }

    /// The first whose key can sign in a way that the client knows.
    fn choose(&self, schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let found = self
            .certificates
            .iter()
            .find(|c| c.key.key.choose_scheme(schemes).is_some());
        // Without any, rustls says what is wrong better than we would.
        found
            .or(self.certificates.first())
            .map(|c| Arc::clone(&c.key))
    }
}

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The name or wildcard it serves; empty for the default.
    pub name: String,
    /// Kind of its key.
    pub kind: KeyKind,
    /// Who has issued it.
    pub issuer: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

#[derive(Debug, Clone, Default)]
struct Table {
    names: Names<Arc<Bundle>>,
    default: Option<Arc<Bundle>>,
}

/// The table of certificates, shared by all listeners and cores. Reading takes no lock; a change makes a new table and touches
/// no connection.
#[derive(Debug, Default)]
pub struct Certificates {
    table: ArcSwap<Table>,
}

impl Certificates {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Exchanges everything: names and wildcards (`a.example`, `*.example`: one label, as in certificates), and what is shown to
    /// who names nobody, or somebody unknown where that is allowed.
    pub fn replace(
        &self,
        names: impl IntoIterator<Item = (String, Bundle)>,
        default: Option<Bundle>,
    ) {
        let mut table = Table {
            default: default.map(Arc::new),
            ..Table::default()
        };
        for (name, bundle) in names {
            table.names.insert(&name, Arc::new(bundle));
        }
        self.table.store(Arc::new(table));
    }

    /// Exchanges the certificates of some names; the others stay.
    pub fn set(&self, names: &[(String, Bundle)]) {
        let names: Vec<(&str, Arc<Bundle>)> = names
            .iter()
            .map(|(name, bundle)| (name.as_str(), Arc::new(bundle.clone())))
            .collect();
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            for (name, bundle) in &names {
                table.names.insert(name, Arc::clone(bundle));
            }
            table
        });
    }

    /// Exchanges what is shown to who names nobody.
    pub fn set_default(&self, bundle: Option<Bundle>) {
        let bundle = bundle.map(Arc::new);
        self.table.rcu(|table| Table {
            names: table.names.clone(),
            default: bundle.clone(),
        });
    }

    /// Takes a name's certificates away.
    pub fn remove(&self, name: &str) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            table.names.remove(name);
            table
        });
    }

    /// What a name is shown: its own, its wildcard's, the default.
    pub fn find(&self, name: Option<&str>) -> Option<Arc<Bundle>> {
        let table = self.table.load();
        name.and_then(|name| table.names.find_one_label(name))
            .or(table.default.as_ref())
            .cloned()
    }

    /// Does it have something for this name: its own, its wildcard's, or a default that is for it?
    pub(crate) fn serves(&self, name: &str) -> bool {
        let table = self.table.load();
        if table.names.find_one_label(name).is_some() {
            return true;
        }
        let wildcard = name.split_once('.').map(|(_, zone)| zone);
        let is_for = |own: &String| {
            own == name || (wildcard.is_some() && own.strip_prefix("*.") == wildcard)
        };
        table
            .default
            .iter()
            .flat_map(|bundle| &bundle.certificates)
            .any(|certificate| certificate.names.iter().any(is_for))
    }

    /// What exactly this name has, no wildcard and no default.
    pub(crate) fn own(&self, name: &str) -> Option<Arc<Bundle>> {
        self.table.load().names.find_exact(name).cloned()
    }

    /// Has this name a certificate of its own, or a wildcard's?
    pub(in crate::tls) fn has(&self, name: &str) -> bool {
        self.table.load().names.find_one_label(name).is_some()
    }

    /// The same, and remembers that it is used.
    pub(in crate::tls) fn note_use(&self, name: &str, now: u64) -> bool {
        let table = self.table.load();
        let Some(bundle) = table.names.find_one_label(name) else {
            return false;
        };
        // Cores write it seldom, since all of them read it.
        if bundle.used().saturating_add(USE_STEP) <= now {
            bundle.used.store(now, Ordering::Relaxed);
        }
        true
    }

    /// Names in the table.
    pub fn len(&self) -> usize {
        self.table.load().names.len()
    }

    /// Is there nothing in it, not even a default?
    pub fn is_empty(&self) -> bool {
        let table = self.table.load();
        table.names.len() == 0 && table.default.is_none()
    }

    /// When each certificate ends, by name. For metrics and warnings, not for the data path.
    pub fn expiries(&self) -> Vec<Expiry> {
        let table = self.table.load();
        let default = table.default.iter().map(|b| (String::new(), b));
        let mut all: Vec<Expiry> = table
            .names
            .iter()
            .chain(default)
            .flat_map(|(name, bundle)| {
                bundle.certificates.iter().map(move |c| Expiry {
                    name: name.clone(),
                    kind: c.kind,
                    issuer: c.issuer.clone(),
                    not_after: c.not_after,
                })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name).then(a.not_after.cmp(&b.not_after)));
        all
    }
}

impl ResolvesServerCert for Bundle {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.signature_schemes())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(names::canonical);
        self.find(name.as_deref())?
            .choose(hello.signature_schemes())
    }
}
