//! A certificate with its key: as it is stored, and as a handshake needs it.

use std::sync::Arc;

use instant_acme::CertificateIdentifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

/// Certificates of a chain at most.
const CHAIN_MAX: usize = 10;

/// A certificate and its key in one file: they are never of different ages.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Who issued it: a directory, or [`crate::internal::DIRECTORY`].
    pub directory: String,
    /// The chain, leaf first (PEM).
    pub chain: String,
    /// The key (PEM).
    pub key: String,
    /// When the authority would like it renewed (RFC 9773), in seconds since 1970: begin and end.
    #[serde(default)]
    pub window: Option<(u64, u64)>,
}

/// One that is fit to be served.
#[derive(Clone)]
pub struct Ready {
    /// For handshakes.
    pub certified: Arc<CertifiedKey>,
    /// Valid from, in seconds since 1970.
    pub from: u64,
    /// Valid until.
    pub until: u64,
    /// The issuer's name.
    pub issuer: String,
}

/// Why one is not.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Not PEM, not a certificate.
    #[error("the chain cannot be read: {0}")]
    Chain(String),
    /// Not a key.
    #[error("the key cannot be read: {0}")]
    Key(String),
    /// A pair that is none.
    #[error("the key is of another certificate")]
    Pair,
    /// For others.
    #[error("the certificate is not for {0}")]
    Name(String),
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is none of a log's business.
        write!(f, "Stored({}, {} bytes)", self.directory, self.chain.len())
    }
}

impl Stored {
    /// What it is called when its renewal is spoken of (RFC 9773 section 4.1).
    pub fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        let leaf = CertificateDer::from_pem_slice(self.chain.as_bytes()).ok()?;
        CertificateIdentifier::try_from(&leaf)
            .ok()
            .map(CertificateIdentifier::into_owned)
    }

    /// Reads and checks it: whole, a pair, for `name` (which may be a wildcard).
    pub fn ready(&self, name: &str) -> Result<Ready, Unfit> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .take(CHAIN_MAX + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Unfit::Chain(error.to_string()))?;
        if chain.len() > CHAIN_MAX {
            return Err(Unfit::Chain(format!(
                "it has more than {CHAIN_MAX} certificates"
            )));
        }
        let leaf = chain
            .first()
            .ok_or_else(|| Unfit::Chain("it is empty".to_owned()))?;
        let no_chain = |why: String| Unfit::Chain(why);
        let (_, parsed) =
            x509_parser::parse_x509_certificate(leaf).map_err(|e| no_chain(e.to_string()))?;
        let validity = parsed.validity();
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let (from, until) = (
            seconds(validity.not_before.timestamp()),
            seconds(validity.not_after.timestamp()),
        );
        let issuer = parsed.issuer();
        let common = issuer
            .iter_common_name()
            .next()
            .and_then(|n| n.as_str().ok());
        let issuer = common.map_or_else(|| issuer.to_string(), str::to_owned);

        // A wildcard is asked with a name below it.
        let asked = match name.strip_prefix("*.") {
            Some(rest) => format!("any.{rest}"),
            None => name.to_owned(),
        };
        let no_name = || Unfit::Name(name.to_owned());
        let server = ServerName::try_from(asked).map_err(|_| no_name())?;
        let checked = ParsedCertificate::try_from(leaf).map_err(|e| no_chain(e.to_string()))?;
        rustls::client::verify_server_name(&checked, &server).map_err(|_| no_name())?;

        let certified = pair(chain, &self.key)?;
        Ok(Ready {
            certified: Arc::new(certified),
            from,
            until,
            issuer,
        })
    }
}

/// A chain and its key (PEM), which must belong together.
fn pair(chain: Vec<CertificateDer<'static>>, key: &str) -> Result<CertifiedKey, Unfit> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| Unfit::Key(error.to_string()))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| Unfit::Key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| Unfit::Pair)?;
    Ok(certified)
}
