//! A certificate authority of our own, for names that no public one may certify: a root that stays, leaves that do not.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

use crate::certificate::Stored;
use crate::store::{Place, Storage, StoreError};

/// What stands for it where a directory does.
pub const DIRECTORY: &str = "internal";
/// Life of the root.
const ROOT_LIFE: Duration = Duration::from_hours(3_650 * 24);
/// Life of a leaf: short, since renewing costs nothing.
const LEAF_LIFE: Duration = Duration::from_hours(7 * 24);
/// Clocks of clients that are behind.
const BEFORE: Duration = Duration::from_hours(1);

/// The root as it is stored.
#[derive(Serialize, Deserialize)]
struct Root {
    name: String,
    certificate: String,
    key: String,
}

/// What goes wrong.
#[derive(Debug, thiserror::Error)]
pub enum InternalError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A root that is there and cannot be used. It is not replaced: every client would have to trust the new one.
    #[error(
        "the root of the internal authority cannot be read ({0}); restore the folder `internal` of the store from a backup, \
         or move it away to have a new root made, which clients must then trust (`narthex trust`)"
    )]
    Root(String),
    /// Making a certificate.
    #[error("cannot make a certificate for {0}: {1}")]
    Make(String, String),
}

fn place() -> Place {
    Place::new(DIRECTORY, "root")
}

/// The root's certificate (PEM), if there is a root yet.
pub fn trust(storage: &dyn Storage) -> Result<Option<String>, InternalError> {
    Ok(load(storage)?.map(|root| root.certificate))
}

fn load(storage: &dyn Storage) -> Result<Option<Root>, InternalError> {
    let Some(bytes) = storage.load(&place())? else {
        return Ok(None);
    };
    let root = serde_json::from_slice(&bytes);
    root.map(Some)
        .map_err(|error| InternalError::Root(error.to_string()))
}

/// A leaf for this name, by the root, which is made if there is none.
pub fn issue(storage: &dyn Storage, name: &str, now: u64) -> Result<Stored, InternalError> {
    let root = match load(storage)? {
        Some(root) => root,
        None => make_root(storage, now)?,
    };
    let wrong = |error: rcgen::Error| InternalError::Root(error.to_string());
    let root_key = KeyPair::from_pem(&root.key).map_err(wrong)?;
    let issuer = Issuer::new(root_params(&root.name), root_key);

    let make = |error: rcgen::Error| InternalError::Make(name.to_owned(), error.to_string());
    let key = KeyPair::generate().map_err(make)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(make)?;
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, LEAF_LIFE);
    let leaf = params.signed_by(&key, &issuer).map_err(make)?;
    Ok(Stored {
        directory: DIRECTORY.to_owned(),
        chain: leaf.pem(),
        key: key.serialize_pem(),
        window: None,
    })
}

fn make_root(storage: &dyn Storage, now: u64) -> Result<Root, InternalError> {
    // Roots of several machines are told apart in a client's list by a few digits.
    let mut id = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut id);
    let id = u32::from_be_bytes(id);
    let name = format!("Narthex internal authority {id:08x}");
    let make = |error: rcgen::Error| InternalError::Make(name.clone(), error.to_string());
    let key = KeyPair::generate().map_err(make)?;
    let mut params = root_params(&name);
    validity(&mut params, now, ROOT_LIFE);
    let certificate = params.self_signed(&key).map_err(make)?;
    let root = Root {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        name,
    };
    let bytes =
        serde_json::to_vec_pretty(&root).map_err(|error| InternalError::Root(error.to_string()))?;
    storage.save(&place(), &bytes)?;
    tracing::warn!(
        name = root.name,
        "the internal authority has a new root; clients trust it after `narthex trust`"
    );
    Ok(root)
}

fn root_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn validity(params: &mut CertificateParams, now: u64, life: Duration) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now);
    params.not_before = now - BEFORE;
    params.not_after = now + life;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Directory;

    #[test]
    fn leaves_are_of_the_one_root() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Directory::open(&dir.path().join("s")).unwrap();
        assert!(trust(&storage).unwrap().is_none());
        let now = 1_800_000_000;
        let one = issue(&storage, "a.internal", now).unwrap();
        let root = trust(&storage).unwrap().unwrap();
        let two = issue(&storage, "*.b.internal", now + 5).unwrap();
        assert_eq!(trust(&storage).unwrap().unwrap(), root, "it stays");
        for (stored, name) in [(one, "a.internal"), (two, "*.b.internal")] {
            let ready = stored.ready(name).unwrap();
            assert!(ready.issuer.starts_with("Narthex internal authority "));
            assert!(ready.until - ready.from < 8 * 86_400);
            verified(&root, &ready, &name.replace('*', "x"), now + 10);
        }
        issue(&storage, "10.0.0.1", now)
            .unwrap()
            .ready("10.0.0.1")
            .unwrap();
        let other = issue(&storage, "a.internal", now).unwrap();
        assert!(other.ready("b.internal").is_err());
    }

    fn verified(root: &str, ready: &crate::certificate::Ready, name: &str, now: u64) {
        use rustls::client::danger::ServerCertVerifier;
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
            .unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            roots.into(),
            provider.into(),
        )
        .build()
        .unwrap();
        let leaf = &ready.certified.cert[0];
        verifier
            .verify_server_cert(
                leaf,
                &[],
                &ServerName::try_from(name.to_owned()).unwrap(),
                &[],
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
            )
            .unwrap();
    }

    #[test]
    fn a_broken_root_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Directory::open(&dir.path().join("s")).unwrap();
        issue(&storage, "a.internal", 1_800_000_000).unwrap();
        let file = dir.path().join("s/internal/root.json");
        for broken in [vec![], vec![0; 700], b"{\"name\": \"x\", \"cert".to_vec()] {
            std::fs::write(&file, &broken).unwrap();
            let error = issue(&storage, "a.internal", 1_800_000_000).unwrap_err();
            assert!(error.to_string().contains("restore"), "{error}");
            assert!(trust(&storage).is_err());
            assert_eq!(std::fs::read(&file).unwrap(), broken);
        }
    }
}
