//! Files of certificates, keys and authorities -> data, or what is wrong with them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureAlgorithm};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificates::{Certificate, KeyKind};
use super::identity::hex;
use crate::tls::problem::{Problem, ProblemKind};
use crate::tls::provider;

/// Largest file of certificates, keys or lists that is read: a bundle of all public authorities is a quarter of a MiB, lists of
/// revoked certificates can be long.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Certificates of a chain.
const MAX_CHAIN: usize = 16;

/// Files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// PEM: the certificate, then those that lead to the root.
    pub cert: PathBuf,
    /// PEM: its private key. Only its owner may read it.
    pub key: PathBuf,
    /// DER: an OCSP response to staple.
    pub ocsp: Option<PathBuf>,
}

impl Certificate {
    /// Reads and checks the files of a certificate. One that has expired is no error here ([`Certificate::problem_at`]): it is
    /// better than none.
    pub fn load(files: &CertificateFiles) -> Result<Self, Problem> {
        let chain = read(&files.cert, Secrecy::Public)?;
        let key = read(&files.key, Secrecy::Private)?;
        let ocsp = match &files.ocsp {
            Some(path) => Some(read(path, Secrecy::Public)?),
            None => None,
        };
        make(&chain, Some(&files.cert), &key, Some(&files.key), ocsp)
    }

    /// The same from PEM texts.
    pub fn from_pem(chain: &[u8], key: &[u8], ocsp: Option<Vec<u8>>) -> Result<Self, Problem> {
        make(chain, None, key, None, ocsp)
    }

    /// Has it expired, or does it begin only later? `now` is seconds since 1970; `path` is where it comes from.
    pub fn problem_at(&self, now: i64, path: Option<&Path>) -> Option<Problem> {
        let names = self.names.first().map_or("nobody", String::as_str);
        if now > self.not_after {
            let days = (now - self.not_after) / 86_400;
            return Some(Problem::new(
                path,
                ProblemKind::Expired,
                format!("the certificate for {names} has expired {days} days ago"),
                "replace it; clients refuse it",
            ));
        }
        (now < self.not_before).then(|| {
            Problem::new(
                path,
                ProblemKind::NotYetValid,
                format!("the certificate for {names} is not valid yet"),
                "check the clock of this machine, or use the certificate later",
            )
        })
    }
}

fn make(
    chain_pem: &[u8],
    chain_path: Option<&Path>,
    key_pem: &[u8],
    key_path: Option<&Path>,
    ocsp: Option<Vec<u8>>,
) -> Result<Certificate, Problem> {
    let chain = certificates(chain_pem, chain_path)?;
    let key = private_key(key_pem, key_path)?;
    let signing = provider().key_provider.load_private_key(key).map_err(|e| {
        Problem::new(
            key_path,
            ProblemKind::Malformed,
            format!("the private key cannot be used ({e})"),
            "use a key for ECDSA (P-256, P-384), RSA (2048 bits or more) or Ed25519",
        )
    })?;
    let kind = match signing.algorithm() {
        SignatureAlgorithm::RSA => KeyKind::Rsa,
        SignatureAlgorithm::ED25519 => KeyKind::Ed25519,
        _ => KeyKind::Ecdsa,
    };
    let leaf = chain
        .first()
        .map(|c| c.as_ref().to_vec())
        .unwrap_or_default();
    let mut certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let with = chain_path.map_or_else(String::new, |p| format!(" in {}", p.display()));
            return Err(Problem::new(
                key_path,
                ProblemKind::KeyMismatch,
                format!("the private key does not belong to the certificate{with}"),
                "give the key of that certificate; in the certificate's file its own certificate comes before those of its issuers",
            ));
        }
        // A critical extension that nobody knows, for instance.
        Err(e) => {
            return Err(Problem::new(
                chain_path,
                ProblemKind::Malformed,
                format!("the certificate cannot be used ({e})"),
                "look at it with: openssl x509 -noout -text -in FILE",
            ));
        }
    }
    certified.ocsp = ocsp.filter(|bytes| !bytes.is_empty());
    let Ok((_, parsed)) = X509Certificate::from_der(&leaf) else {
        return Err(broken_certificate(chain_path));
    };
    Ok(Certificate {
        key: Arc::new(certified),
        kind,
        names: names_of(&parsed),
        issuer: parsed.issuer().to_string(),
        serial: hex(parsed.raw_serial()),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

fn certificates(pem: &[u8], path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| broken_certificate(path))?;
    if chain.is_empty() {
        return Err(Problem::new(
            path,
            ProblemKind::Empty,
            "there is no certificate in it",
            "a certificate in PEM form begins with -----BEGIN CERTIFICATE-----",
        ));
    }
    if chain.len() > MAX_CHAIN {
        return Err(Problem::new(
            path,
            ProblemKind::TooLarge,
            format!("it holds {} certificates", chain.len()),
            format!("give the certificate and those of its issuers, {MAX_CHAIN} at most"),
        ));
    }
    Ok(chain)
}

fn broken_certificate(path: Option<&Path>) -> Problem {
    Problem::new(
        path,
        ProblemKind::Malformed,
        "a certificate in it is broken",
        "copy the file again; each certificate lies between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----",
    )
}

fn private_key(pem: &[u8], path: Option<&Path>) -> Result<PrivateKeyDer<'static>, Problem> {
    let text = |needle: &[u8]| pem.windows(needle.len()).any(|w| w == needle);
    if text(b"ENCRYPTED") {
        return Err(Problem::new(
            path,
            ProblemKind::Malformed,
            "the private key is encrypted with a passphrase",
            "decrypt it (openssl pkey -in KEY -out NEW) and let only its owner read it",
        ));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| match e {
        rustls::pki_types::pem::Error::NoItemsFound => Problem::new(
            path,
            ProblemKind::Empty,
            "there is no private key in it",
            "a private key in PEM form begins with -----BEGIN PRIVATE KEY-----",
        ),
        _ => Problem::new(
            path,
            ProblemKind::Malformed,
            "the private key in it is broken",
            "copy the file again, whole",
        ),
    })
}

/// Certificates of authorities. Empty is an error.
pub(crate) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let pem = read(path, Secrecy::Public)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| broken_certificate(Some(path)))?;
    if found.is_empty() {
        return Err(Problem::new(
            Some(path),
            ProblemKind::Empty,
            "there is no authority in it",
            "give a bundle of authorities in PEM form; without one nobody could be verified",
        ));
    }
    let mut roots = RootCertStore::empty();
    for authority in &found {
        roots
            .add(authority.clone())
            .map_err(|_| broken_certificate(Some(path)))?;
    }
    Ok(found)
}

/// Lists of revoked certificates. Empty is an error.
pub(crate) fn crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Problem> {
    let pem = read(path, Secrecy::Public)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Problem::new(
            Some(path),
            ProblemKind::Empty,
            "there is no revocation list in it",
            "a revocation list in PEM form begins with -----BEGIN X509 CRL-----",
        )),
        Err(_) => Err(Problem::new(
            Some(path),
            ProblemKind::Malformed,
            "a revocation list in it is broken",
            "copy the file again, whole",
        )),
    }
}

/// Is it a secret?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Everybody may read it.
    Public,
    /// Its owner alone may.
    Private,
}

/// Reads a file of bounded size.
pub(crate) fn read(path: &Path, secrecy: Secrecy) -> Result<Vec<u8>, Problem> {
    let failed = |e: &io::Error| match e.kind() {
        io::ErrorKind::NotFound => Problem::new(
            Some(path),
            ProblemKind::Missing,
            "there is no such file",
            "check the path; it is relative to the file of the configuration",
        ),
        io::ErrorKind::PermissionDenied => Problem::new(
            Some(path),
            ProblemKind::Unreadable,
            "it may not be read",
            "let the user that starts the proxy read it",
        ),
        _ => Problem::new(
            Some(path),
            ProblemKind::Unreadable,
            format!("it cannot be read ({e})"),
            "check the path and the disk",
        ),
    };
    let mut file = File::open(path).map_err(|e| failed(&e))?;
    let about = file.metadata().map_err(|e| failed(&e))?;
    if !about.is_file() {
        return Err(Problem::new(
            Some(path),
            ProblemKind::Unreadable,
            "it is not a file",
            "give the path of a file in PEM form",
        ));
    }
    if secrecy == Secrecy::Private && about.mode() & 0o077 != 0 {
        return Err(Problem::new(
            Some(path),
            ProblemKind::KeyExposed,
            format!(
                "others than its owner may use this secret (mode {:04o})",
                about.mode() & 0o7777
            ),
            format!("chmod 600 {}", path.display()),
        ));
    }
    let mut bytes = Vec::new();
    let n = file
        .by_ref()
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(&e))?;
    if n as u64 > MAX_FILE {
        return Err(Problem::new(
            Some(path),
            ProblemKind::TooLarge,
            "it is larger than 16 MiB",
            "check that it is the right file",
        ));
    }
    Ok(bytes)
}
