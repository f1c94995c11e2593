//! Which handshakes succeed, and what they come to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::version::{TLS12, TLS13};

use super::kit::*;
use crate::rt::now_ms;
use crate::stream::Stream;
use crate::testing::{PATIENCE, on_core};
use crate::tls::server::{Bundle, Certificate, Policy, Profile, ServerTls, UnknownName};
use crate::tls::{HandshakeError, Version, accept};
use rustls::compress::{
    BROTLI_DECOMPRESSOR, CertDecompressor, DecompressionFailed, ZLIB_DECOMPRESSOR,
};

#[test]
fn both_versions_and_both_kinds_of_keys() {
    for (rsa, ec) in [(true, false), (false, true), (true, true)] {
        let mut parts = parts(vec![("a.example", plain_policy())]);
        parts.certificates = table(rsa, ec);
        let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
        for (offered, version) in [(&TLS12, Version::Tls12), (&TLS13, Version::Tls13)] {
            let mut config = client(Some(offered));
            config.alpn_protocols = vec![b"h2".to_vec()];
            let made = server.exchange(&Arc::new(config), "a.example");
            assert_eq!(made.version, version);
            assert_eq!(made.alpn.as_deref(), Some(&b"h2"[..]));
            assert_eq!(made.sni.as_deref(), Some("a.example"));
            assert!(!made.resumed);
            assert!(made.client.is_none());
            if version == Version::Tls12 {
                // The better key is chosen if there is one.
                assert_eq!(made.suite.contains("_ECDSA_"), ec, "{}", made.suite);
            }
        }
    }
}

#[test]
fn names_find_policies_and_certificates() {
    let server = Server::echo();
    let config = Arc::new(client(None));
    for name in ["a.example", "A.Example", "x.w.example", "127.0.0.1"] {
        let made = server.exchange(&config, name);
        let expected = (name != "127.0.0.1").then(|| name.to_ascii_lowercase());
        assert_eq!(made.sni, expected);
    }
}

#[test]
fn an_unknown_name_is_refused_with_the_right_alert() {
    let server = Server::echo();
    let config = Arc::new(client(None));
    for name in ["c.example", "w.example", "aa.example"] {
        let error = server.tls(&config, name).write_all(b"x").unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        let refused = server.result().unwrap_err();
        assert_eq!(refused.reason(), "unknown-name");
    }
}

#[test]
fn a_site_without_a_certificate_is_refused() {
    let parts = parts(vec![("c.example", plain_policy())]);
    parts.certificates.set_default(None);
    let certificates = Arc::clone(&parts.certificates);
    let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
    let config = Arc::new(client(None));
    server
        .tls(&config, "c.example")
        .write_all(b"x")
        .unwrap_err();
    assert_eq!(server.result().unwrap_err().reason(), "no-certificate");
    // And is served as soon as there is one, without anything else changing.
    let bundle = Bundle::new(vec![CA.certificate(&["c.example"], false)]);
    certificates.set(&[("c.example".to_owned(), bundle)]);
    server.exchange(&config, "c.example");
}

#[test]
fn an_unknown_name_may_get_the_default() {
    let mut parts = parts(vec![]);
    parts.default = Some(plain_policy());
    parts.unknown_name = UnknownName::Default;
    let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
    server.exchange(&Arc::new(client(None)), "b.example");
}

#[test]
fn modern_is_1_3_only() {
    let policy = Policy {
        profile: Profile::Modern,
        ..plain_policy()
    };
    let parts = parts(vec![("a.example", policy)]);
    let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
    server.exchange(&Arc::new(client(Some(&TLS13))), "a.example");
    let old = Arc::new(client(Some(&TLS12)));
    server.tls(&old, "a.example").write_all(b"x").unwrap_err();
    assert_eq!(server.result().unwrap_err().reason(), "incompatible");
}

#[test]
fn another_protocol_inside_is_refused() {
    let server = Server::echo();
    let mut config = client(None);
    config.alpn_protocols = vec![b"smtp".to_vec()];
    let error = server
        .tls(&Arc::new(config), "a.example")
        .write_all(b"x")
        .unwrap_err();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    assert_eq!(server.result().unwrap_err().reason(), "alpn");
}

#[test]
fn a_request_in_the_clear_is_told_so() {
    let server = Server::echo();
    let mut socket = server.connect();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .unwrap();
    let (answer, _) = read_to_end(&mut socket);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    assert!(matches!(server.result(), Err(HandshakeError::NotTls)));
}

#[test]
fn the_deadline_ends_a_silent_client_and_places_are_given_back() {
    let mut parts = parts(vec![("a.example", plain_policy())]);
    parts.pending = 2;
    let tls = Arc::new(ServerTls::new(parts).unwrap());
    let limits = Limits {
        deadline_ms: 300,
        ..Limits::default()
    };
    let server = Server::limited(tls, limits, echo);
    let mut silent = [server.connect(), server.connect()];
    let mut third = server.connect();
    // The third is one too many; the others end with their deadline.
    assert!(matches!(server.result(), Err(HandshakeError::Busy)));
    for _ in 0..2 {
        assert!(matches!(server.result(), Err(HandshakeError::Deadline)));
    }
    for socket in silent.iter_mut().chain([&mut third]) {
        assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0);
    }
    server.exchange(&Arc::new(client(None)), "a.example");
}

#[test]
fn a_hello_that_never_ends_is_refused_at_64_kib() {
    let server = Server::echo();
    let mut socket = server.connect();
    // A message of 60,000 bytes in records of one byte each: more with its headers than is taken.
    let mut bytes = Vec::new();
    let mut message = vec![1, 0, 0xea, 0x60];
    message.resize(60_000, 0);
    for byte in message {
        bytes.extend_from_slice(&[22, 3, 1, 0, 1, byte]);
    }
    let _ = socket.write_all(&bytes);
    assert!(matches!(server.result(), Err(HandshakeError::TooLarge)));
}

#[test]
fn bytes_before_the_end_of_the_handshake_are_fatal() {
    // TL-05: data in the clear behind the ClientHello.
    let server = Server::echo();
    let config = Arc::new(client(Some(&TLS13)));
    let mut conn = rustls::ClientConnection::new(config, "a.example".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    conn.write_tls(&mut bytes).unwrap();
    bytes.extend_from_slice(&[23, 3, 3, 0, 5]);
    bytes.extend_from_slice(b"GET /");
    let mut socket = server.connect();
    socket.write_all(&bytes).unwrap();
    assert_eq!(server.result().unwrap_err().reason(), "protocol");
}

#[test]
fn the_hello_may_come_in_crumbs() {
    let server = Server::echo();
    for version in [&TLS12, &TLS13] {
        for by_record in [false, true] {
            let config = Arc::new(client(Some(version)));
            let name = "a.example".try_into().unwrap();
            let mut conn = rustls::ClientConnection::new(config, name).unwrap();
            let mut hello = Vec::new();
            conn.write_tls(&mut hello).unwrap();
            let crumbs: Vec<Vec<u8>> = if by_record {
                // Every byte a record, and every record a segment.
                hello[5..]
                    .iter()
                    .map(|b| vec![22, 3, 1, 0, 1, *b])
                    .collect()
            } else {
                hello.iter().map(|b| vec![*b]).collect()
            };
            let mut socket = server.connect();
            for crumb in crumbs {
                socket.write_all(&crumb).unwrap();
            }
            let mut client = rustls::StreamOwned::new(conn, socket);
            client.write_all(b"hello").unwrap();
            let mut got = [0; 5];
            client.read_exact(&mut got).unwrap();
            assert_eq!(server.result().unwrap().sni.as_deref(), Some("a.example"));
        }
    }
}

#[test]
fn the_hello_may_be_cut_anywhere() {
    let server = Server::echo();
    // A short one: without the hybrid group.
    let mut provider = rustls::crypto::CryptoProvider::clone(crate::tls::provider());
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(Profile::Intermediate.versions())
        .unwrap()
        .with_root_certificates(CA.roots())
        .with_no_client_auth();
    let config = Arc::new(config);
    let mut at = 1;
    loop {
        let name = "a.example".try_into().unwrap();
        let mut conn = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut hello = Vec::new();
        conn.write_tls(&mut hello).unwrap();
        let message = &hello[5..];
        if at >= message.len() {
            assert!(at > 150, "a hello of {at} bytes");
            return;
        }
        let mut socket = server.connect();
        for piece in [&message[..at], &message[at..]] {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            socket.write_all(&[22, 3, 1, length[0], length[1]]).unwrap();
            socket.write_all(piece).unwrap();
        }
        let mut client = rustls::StreamOwned::new(conn, socket);
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        server.result().unwrap();
        at += 1;
    }
}

#[test]
fn certificates_are_sent_compressed_and_with_their_ocsp_response() {
    #[derive(Debug)]
    struct Counted(&'static dyn CertDecompressor, AtomicUsize);
    impl CertDecompressor for Counted {
        fn decompress(&self, input: &[u8], output: &mut [u8]) -> Result<(), DecompressionFailed> {
            assert!(input.len() < output.len());
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.decompress(input, output)
        }
        fn algorithm(&self) -> rustls::CertificateCompressionAlgorithm {
            self.0.algorithm()
        }
    }
    let (cert, key) = CA.pem_for(&["a.example"], false, |_| {});
    let staple = b"not looked at by us".repeat(20);
    let stapled = Certificate::from_pem(cert.as_bytes(), key.as_bytes(), Some(staple)).unwrap();
    let parts = parts(vec![("a.example", plain_policy())]);
    let bundle = Bundle::new(vec![Arc::new(stapled)]);
    parts.certificates.set(&[("a.example".to_owned(), bundle)]);
    let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
    for decompressor in [BROTLI_DECOMPRESSOR, ZLIB_DECOMPRESSOR] {
        let counted: &'static Counted =
            Box::leak(Box::new(Counted(decompressor, AtomicUsize::new(0))));
        let mut config = client(Some(&TLS13));
        config.cert_decompressors = vec![counted];
        config.resumption = rustls::client::Resumption::disabled();
        let config = Arc::new(config);
        for _ in 0..2 {
            server.exchange(&config, "a.example");
        }
        assert_eq!(counted.1.load(Ordering::Relaxed), 2);
    }
    let options = ["-servername", "a.example", "-status", "-tls1_2"];
    let printed = super::openssl::s_client(&server, &options);
    // It is there; that it is none is OpenSSL's to say.
    assert!(!printed.contains("no response sent"), "{printed}");
    let plain = Server::echo();
    let printed = super::openssl::s_client(&plain, &options);
    assert!(printed.contains("no response sent"), "{printed}");
}

#[test]
fn a_group_that_was_not_guessed_costs_a_round_trip_only() {
    let server = Server::echo();
    let options = [
        "-servername",
        "a.example",
        "-tls1_3",
        "-groups",
        "P-521:P-256",
    ];
    let printed = super::openssl::s_client(&server, &options);
    assert!(printed.contains("Verify return code: 0 (ok)"), "{printed}");
    assert!(!server.result().unwrap().resumed);
}

#[test]
fn the_hybrid_group_is_preferred() {
    let server = Server::echo();
    let mut client = server.tls(&Arc::new(client(Some(&TLS13))), "a.example");
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let group = client.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    server.result().unwrap();
}

#[test]
fn bytes_that_were_read_before_belong_to_the_hello() {
    // As behind a PROXY header that came in one segment with the hello, or with the half of it.
    for half in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let socket = TcpStream::connect(addr).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut tls = tls_over(socket, &Arc::new(client(None)), "a.example");
            tls.write_all(b"hello").unwrap();
            read_to_end(&mut tls).0
        });
        let mut ours = listener.accept().unwrap().0;
        let mut read = vec![0; if half { 100 } else { 16 * 1024 }];
        let n = ours.read(&mut read).unwrap();
        ours.set_nonblocking(true).unwrap();
        on_core(move || async move {
            let stream = Stream::new(ours.into()).unwrap();
            let accepted = accept(stream, &read[..n], &server_tls(), now_ms() + 10_000, None).await;
            let (stream, handshake) = accepted.unwrap();
            assert_eq!(handshake.sni.as_deref(), Some("a.example"));
            let mut buf = [0; 16];
            let n = stream.recv(&mut buf).await.unwrap();
            stream.send_all(&buf[..n]).await.unwrap();
        });
        assert_eq!(client.join().unwrap(), b"hello");
    }
}

/// A ClientHello by hand, in one record: version, suites, extensions with their bodies.
fn by_hand(version: u16, suites: &[u16], extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let with_length = |body: &[u8]| [&(body.len() as u16).to_be_bytes()[..], body].concat();
    let mut body = version.to_be_bytes().to_vec();
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    let suites: Vec<u8> = suites.iter().flat_map(|s| s.to_be_bytes()).collect();
    body.extend(with_length(&suites));
    body.extend_from_slice(&[1, 0]);
    let mut all = Vec::new();
    for (kind, inside) in extensions {
        all.extend_from_slice(&kind.to_be_bytes());
        all.extend(with_length(inside));
    }
    body.extend(with_length(&all));
    let mut message = vec![1, 0];
    message.extend(with_length(&body));
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

/// What a hello by hand is answered with: an alert, or the first byte of something else.
fn answered(server: &Server, hello: &[u8]) -> Vec<u8> {
    let mut socket = server.connect();
    socket.write_all(hello).unwrap();
    let mut got = [0; 7];
    socket.read_exact(&mut got).unwrap();
    if got[0] == 21 {
        got.to_vec()
    } else {
        vec![got[0]]
    }
}

#[test]
fn old_versions_and_a_client_that_has_fallen_back_get_their_alerts() {
    let server = Server::echo();
    let name: &[u8] = b"\0\x0c\0\0\x09a.example";
    let groups: &[u8] = &[0, 2, 0, 29];
    let schemes: &[u8] = &[0, 2, 4, 3];
    let usual = [(0, name), (10, groups), (13, schemes)];
    let alert = |what: u8| vec![21, 3, 3, 0, 2, 2, what];
    // TLS 1.1, which knows no schemes; with and without extensions.
    for extensions in [&usual[..2], &[]] {
        assert_eq!(
            answered(&server, &by_hand(0x0302, &[0xc009, 0xc013], extensions)),
            alert(70)
        );
        assert_eq!(server.result().unwrap_err().reason(), "incompatible");
    }
    // TLS 1.2 is spoken; not with one who says that he could do better.
    assert_eq!(answered(&server, &by_hand(0x0303, &[0xc02b], &usual)), [22]);
    assert_eq!(
        answered(&server, &by_hand(0x0303, &[0xc02b, 0x5600], &usual)),
        alert(86)
    );
    // One who names TLS 1.3 has not fallen back: whatever is wrong with this hello, it is not that.
    let both: &[u8] = &[4, 3, 4, 3, 3];
    let with = [usual[0], usual[1], usual[2], (43, both)];
    let said = answered(&server, &by_hand(0x0303, &[0x1301, 0xc02b, 0x5600], &with));
    assert_ne!(said, alert(86));
}

#[test]
fn a_crowd_of_silent_clients_makes_room_for_who_speaks() {
    let mut parts = parts(vec![("a.example", plain_policy())]);
    parts.pending = 8;
    let limits = Limits {
        // Longer than anybody here waits.
        deadline_ms: 10 * 60 * 1_000,
        ..Limits::default()
    };
    let server = Server::limited(Arc::new(ServerTls::new(parts).unwrap()), limits, echo);
    let silent: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let begin = std::time::Instant::now();
    let config = Arc::new(client(None));
    let mut refused = 0;
    while server.tls(&config, "a.example").write_all(b"x").is_err() {
        refused += 1;
        assert!(begin.elapsed() < PATIENCE, "nobody gets in any more");
    }
    // Those that were there first, and had their time; nobody before.
    assert!(
        refused > 0 && begin.elapsed().as_millis() >= 900,
        "{refused}"
    );
    drop(silent);
}

#[test]
fn a_site_is_not_shown_with_anothers_certificate() {
    let parts = parts(vec![
        ("a.example", plain_policy()),
        ("c.example", plain_policy()),
        ("d.x.w.example", plain_policy()),
    ]);
    let certificates = Arc::clone(&parts.certificates);
    let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
    let config = Arc::new(client(None));
    // There is a default, for other names.
    for name in ["c.example", "d.x.w.example"] {
        server.tls(&config, name).write_all(b"x").unwrap_err();
        assert_eq!(
            server.result().unwrap_err().reason(),
            "no-certificate",
            "{name}"
        );
    }
    // A default that is for this name is as good as its own.
    let both = Bundle::new(vec![CA.certificate(&["a.example", "c.example"], false)]);
    certificates.set_default(Some(both));
    server.exchange(&config, "c.example");
}

#[test]
fn who_connects_to_an_address_gets_its_certificate() {
    let mut parts = parts(vec![("a.example", plain_policy())]);
    parts.default = Some(plain_policy());
    let own = CA.certificate(&["127.0.0.1"], false);
    let other = CA.certificate(&["a.example"], false);
    let names = [("127.0.0.1", &own), ("a.example", &other)];
    let names = names.map(|(name, c)| (name.to_owned(), Bundle::new(vec![Arc::clone(c)])));
    // The default is somebody else's.
    parts
        .certificates
        .replace(names, Some(Bundle::new(vec![other])));
    let certificates = Arc::clone(&parts.certificates);
    let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
    let config = Arc::new(client(None));
    assert_eq!(server.exchange(&config, "127.0.0.1").sni, None);
    server.exchange(&config, "a.example");
    // Without one of its own it is the default, as for everybody who names nobody.
    certificates.remove("127.0.0.1");
    let config = Arc::new(client(None));
    let refused = server
        .tls(&config, "127.0.0.1")
        .write_all(b"x")
        .unwrap_err();
    assert!(
        refused.to_string().contains("not valid for name"),
        "{refused}"
    );
}
