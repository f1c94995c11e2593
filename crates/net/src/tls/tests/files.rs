//! What can be wrong with files, and how it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::kit::*;
use crate::tls::problem::ProblemKind;
use crate::tls::server::{Certificate, CertificateFiles, ClientCa, KeyKind};
use crate::tls::tickets::TicketKeys;

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn good_files_are_loaded_and_described() {
    let dir = tempfile::tempdir().unwrap();
    let files = CertificateFiles {
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
        ocsp: None,
    };
    for (rsa, kind) in [(false, KeyKind::Ecdsa), (true, KeyKind::Rsa)] {
        let (cert, key) = CA.pem_for(&["A.example", "*.b.example", "10.0.0.1"], rsa, |params| {
            params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        });
        write(&files.cert, &format!("{cert}{}", CA.pem), 0o644);
        write(&files.key, &key, 0o600);
        let made = Certificate::load(&files).unwrap();
        assert_eq!(made.kind(), kind);
        assert_eq!(made.names(), ["a.example", "*.b.example", "10.0.0.1"]);
        assert_eq!(made.not_after(), 2_208_988_800);
        assert_eq!(made.key().cert.len(), 2);
        assert!(made.problem_at(2_208_988_000, None).is_none());
        let late = made
            .problem_at(2_208_988_800 + 3 * 86_400, Some(&files.cert))
            .unwrap();
        assert_eq!(late.kind, ProblemKind::Expired);
        assert!(
            late.to_string().contains("has expired 3 days ago"),
            "{late}"
        );
        assert_eq!(
            made.problem_at(0, None).unwrap().kind,
            ProblemKind::NotYetValid
        );
    }
}

#[test]
fn every_mistake_says_which_file_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (cert, key) = CA.pem_for(&["a.example"], false, |_| {});
    let (_, other_key) = CA.pem_for(&["a.example"], false, |_| {});
    write(&path("cert"), &cert, 0o644);
    write(&path("key"), &key, 0o600);
    write(&path("exposed"), &key, 0o640);
    write(&path("other"), &other_key, 0o600);
    write(&path("empty"), "", 0o600);
    write(&path("broken"), &cert.replace("MII", "M!I"), 0o600);
    write(&path("half"), &cert[..cert.len() / 2], 0o600);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    write(&path("encrypted"), encrypted, 0o600);
    use ProblemKind::*;
    for (cert, key, kind, blamed, says) in [
        ("none", "key", Missing, "none", "there is no such file"),
        ("cert", "none", Missing, "none", "there is no such file"),
        ("", "key", Unreadable, "", "it is not a file"),
        ("cert", "exposed", KeyExposed, "exposed", "mode 0640"),
        (
            "cert",
            "other",
            KeyMismatch,
            "other",
            "does not belong to the certificate in ",
        ),
        (
            "empty",
            "key",
            Empty,
            "empty",
            "there is no certificate in it",
        ),
        ("key", "key", Empty, "key", "there is no certificate in it"),
        (
            "cert",
            "empty",
            Empty,
            "empty",
            "there is no private key in it",
        ),
        ("broken", "key", Malformed, "broken", "is broken"),
        ("half", "key", Malformed, "half", "is broken"),
        ("cert", "encrypted", Malformed, "encrypted", "passphrase"),
    ] {
        let files = CertificateFiles {
            cert: path(cert),
            key: path(key),
            ocsp: None,
        };
        let problem = Certificate::load(&files).unwrap_err();
        assert_eq!(problem.kind, kind, "{problem}");
        assert_eq!(problem.path, Some(path(blamed)), "{problem}");
        assert!(problem.to_string().contains(says), "{problem}");
        assert!(!problem.remedy.is_empty());
    }
}

#[test]
fn a_certificate_with_an_unknown_critical_extension_is_not_used() {
    // Such as the proof for an authority's challenge: nobody else understands it.
    let (cert, key) = CA.pem_for(&["a.example"], false, |params| {
        let proof = rcgen::CustomExtension::new_acme_identifier(&[7; 32]);
        params.custom_extensions.push(proof);
    });
    let problem = Certificate::from_pem(cert.as_bytes(), key.as_bytes(), None).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Malformed, "{problem}");
}

#[test]
fn authorities_that_cannot_be_read_are_no_authorities() {
    // TL-03.
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write(&path("ca"), &CA.pem, 0o644);
    write(&path("empty"), "# nothing\n", 0o644);
    write(&path("half"), &CA.pem[..CA.pem.len() / 2], 0o644);
    for (ca, crl, kind) in [
        ("none", None, ProblemKind::Missing),
        ("empty", None, ProblemKind::Empty),
        ("half", None, ProblemKind::Malformed),
        ("ca", Some("none"), ProblemKind::Missing),
        ("ca", Some("empty"), ProblemKind::Empty),
        ("ca", Some("ca"), ProblemKind::Empty),
    ] {
        let crl = crl.map(path);
        let problem = ClientCa::load(&path(ca), crl.as_deref()).unwrap_err();
        assert_eq!(problem.kind, kind, "{problem}");
    }
    ClientCa::load(&path("ca"), None).unwrap();
}

#[test]
fn a_shared_secret_is_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    write(&path, &"x".repeat(48), 0o644);
    let problem = TicketKeys::load(&path, 0, 100).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::KeyExposed);
    write(&path, &"x".repeat(48), 0o600);
    TicketKeys::load(&path, 0, 100).unwrap();
}
