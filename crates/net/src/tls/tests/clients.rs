//! Clients that say who they are.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{
    CertificateRevocationListParams, DnType, KeyIdMethod, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use super::kit::*;
use crate::tls::server::{ClientAuth, ClientCa, ClientIdentity, Policy, ServerTls};
use crate::tls::{HandshakeError, Version};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn identified(
    ca: &Ca,
    serial: u64,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    with(ca, version, |params| {
        params.distinguished_name.push(DnType::CommonName, "Ada");
        params.serial_number = Some(SerialNumber::from(serial));
        params
            .subject_alt_names
            .push(SanType::URI("spiffe://example/ada".try_into().unwrap()));
        params
            .subject_alt_names
            .push(SanType::Rfc822Name("ada@example".try_into().unwrap()));
    })
}

/// A client with a certificate like this.
fn with(
    ca: &Ca,
    version: &'static SupportedProtocolVersion,
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> Arc<ClientConfig> {
    let (cert, key) = ca.pem_for(&["client.example"], false, change);
    let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::clone(crate::tls::provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(CA.roots());
    Arc::new(builder.with_client_auth_cert(vec![cert], key).unwrap())
}

fn bundle(ca: &Ca, crl: Option<&str>) -> ClientCa {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, &ca.pem).unwrap();
    let list = dir.path().join("crl.pem");
    if let Some(crl) = crl {
        std::fs::write(&list, crl).unwrap();
    }
    ClientCa::load(&path, crl.is_some().then_some(&list)).unwrap()
}

fn server(clients: ClientAuth) -> Server {
    let policy = Policy {
        clients,
        ..plain_policy()
    };
    let parts = parts(vec![("a.example", policy)]);
    Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo)
}

/// In TLS 1.3 a client hears of the refusal only after it believes to be through.
fn refused(server: &Server, config: &Arc<ClientConfig>) -> HandshakeError {
    let mut client = server.tls(config, "a.example");
    let written = client.write_all(b"hello").and_then(|()| client.flush());
    let read = client.read(&mut [0; 5]);
    assert!(written.is_err() || read.is_err() || matches!(read, Ok(0)));
    server.result().unwrap_err()
}

#[test]
fn an_identity_is_what_the_certificate_says() {
    let ca = Ca::new();
    for clients in [
        ClientAuth::Required(bundle(&ca, None)),
        ClientAuth::Optional(bundle(&ca, None)),
    ] {
        let server = server(clients);
        for version in VERSIONS {
            let config = identified(&ca, 0x0abc, version);
            for resumed in [false, true] {
                let made = server.exchange(&config, "a.example");
                assert_eq!(made.resumed, resumed);
                let who = made.client.unwrap();
                assert_eq!(who.common_name.as_deref(), Some("Ada"));
                assert!(who.subject.contains("CN=Ada"), "{}", who.subject);
                assert_eq!(who.serial, "0abc");
                assert_eq!(who.dns, ["client.example"]);
                assert_eq!(who.uris, ["spiffe://example/ada"]);
                assert_eq!(who.emails, ["ada@example"]);
                assert_eq!(who.fingerprint.len(), 64);
            }
        }
    }
}

#[test]
fn nobody_comes_in_without_a_certificate_or_with_anothers() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let required = server(ClientAuth::Required(bundle(&ca, None)));
    let optional = server(ClientAuth::Optional(bundle(&ca, None)));
    for version in VERSIONS {
        let nobody = Arc::new(client(Some(version)));
        assert_eq!(refused(&required, &nobody).reason(), "client-certificate");
        assert!(optional.exchange(&nobody, "a.example").client.is_none());
        let other = identified(&stranger, 1, version);
        for server in [&required, &optional] {
            assert_eq!(refused(server, &other).reason(), "client-certificate");
        }
    }
    let made = required.exchange(&identified(&ca, 1, &TLS13), "a.example");
    assert_eq!(made.version, Version::Tls13);
}

#[test]
fn who_is_revoked_stays_out() {
    let ca = Ca::new();
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2036, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(66),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let pem = list.signed_by(&ca.issuer).unwrap().pem().unwrap();
    let server = server(ClientAuth::Required(bundle(&ca, Some(&pem))));
    for version in VERSIONS {
        server.exchange(&identified(&ca, 65, version), "a.example");
        let error = refused(&server, &identified(&ca, 66, version));
        assert!(error.to_string().contains("Revoked"), "{error}");
    }
    // Without the list the same client comes in: it is the list that keeps it out.
    let lax = self::server(ClientAuth::Required(bundle(&ca, None)));
    lax.exchange(&identified(&ca, 66, &TLS13), "a.example");
}

#[test]
fn a_list_of_another_authority_lets_nobody_in() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut names = rcgen::CertificateParams::new(Vec::new()).unwrap();
    names.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    names.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    names
        .distinguished_name
        .push(DnType::CommonName, "somebody else");
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(names, key);
    drop(other);
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2036, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let pem = list.signed_by(&issuer).unwrap().pem().unwrap();
    let server = server(ClientAuth::Required(bundle(&ca, Some(&pem))));
    let error = refused(&server, &identified(&ca, 65, &TLS13));
    assert_eq!(error.reason(), "client-certificate");
}

#[test]
fn a_name_with_a_nul_is_nobodys() {
    // TL-04.
    let ca = Ca::new();
    let der = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let (cert, _) = ca.pem_for(&["good.example"], false, |params| change(params));
        CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()
    };
    let who = ClientIdentity::of(&der(&|params| {
        for name in [
            "spiffe://good\0.evil",
            "spiffe://line\nbreak",
            "spiffe://fine",
        ] {
            let name = SanType::URI(name.try_into().unwrap());
            params.subject_alt_names.push(name);
        }
    }));
    assert_eq!(who.unwrap().uris, ["spiffe://fine"]);
    let nobody = ClientIdentity::of(&der(&|params| {
        params.distinguished_name.push(DnType::CommonName, "a\0b");
    }));
    assert_eq!(nobody, None);
    assert_eq!(
        ClientIdentity::of(&CertificateDer::from(vec![1, 2, 3])),
        None
    );
}

#[test]
fn a_session_does_not_outlive_the_certificate_it_was_begun_with() {
    let ca = Ca::new();
    let server = server(ClientAuth::Required(bundle(&ca, None)));
    for version in VERSIONS {
        let end = real_now_s() + 2;
        let end_date = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(end);
        let config = with(&ca, version, |params| params.not_after = end_date);
        let begin = std::time::Instant::now();
        // Resumed again and again: each session makes a new one.
        let end = loop {
            let mut client = server.tls(&config, "a.example");
            let _ = client
                .write_all(b"x")
                .and_then(|()| client.read_exact(&mut [0]));
            match server.result() {
                Ok(made) => assert!(made.client.is_some()),
                Err(end) => break end,
            }
            assert!(begin.elapsed() < crate::testing::PATIENCE, "for ever");
        };
        assert_eq!(end.reason(), "client-certificate");
        assert_eq!(end.certificate_flaw(), "expired", "{end}");
    }
}
