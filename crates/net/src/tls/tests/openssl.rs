//! The same against OpenSSL (`openssl s_client`, from Debian).

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::kit::*;
use crate::tls::Version;
use crate::tls::server::ServerTls;

/// OpenSSL's program (Debian: openssl); one that hangs is ended.
fn openssl() -> Command {
    let mut command = Command::new("timeout");
    command.args(["20", "openssl"]);
    command
}

/// Runs a client that says "hello" and waits for it to come back; gives what it prints.
pub(super) fn s_client(server: &Server, options: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &CA.pem).unwrap();
    let mut child = openssl()
        .args(["s_client", "-verify_return_error", "-CAfile"])
        .arg(&ca)
        .args(["-connect", &server.addr.to_string()])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A Q at the beginning of a line ends it, after what is there has been read.
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"hello\nQ\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn versions_keys_and_names() {
    for (rsa, ec, peer) in [
        (true, false, "RSA"),
        (false, true, "ECDSA"),
        (true, true, "ECDSA"),
    ] {
        let mut parts = parts(vec![
            ("a.example", plain_policy()),
            ("*.w.example", plain_policy()),
        ]);
        parts.certificates = table(rsa, ec);
        let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
        for (flag, version) in [("-tls1_2", Version::Tls12), ("-tls1_3", Version::Tls13)] {
            for name in ["a.example", "x.w.example"] {
                let options = [
                    flag,
                    "-servername",
                    name,
                    "-verify_hostname",
                    name,
                    "-alpn",
                    "h2,http/1.1",
                ];
                let printed = s_client(&server, &options);
                assert!(printed.contains("Verify return code: 0 (ok)"), "{printed}");
                assert!(printed.contains("ALPN protocol: h2"), "{printed}");
                let lower = printed.to_lowercase();
                assert!(lower.contains(&peer.to_lowercase()), "{printed}");
                let made = server.result().unwrap();
                assert_eq!(made.version, version);
                assert_eq!(made.sni.as_deref(), Some(name));
            }
        }
        let printed = s_client(&server, &["-servername", "other.example"]);
        assert!(printed.contains("unrecognized name"), "{printed}");
        assert_eq!(server.result().unwrap_err().reason(), "unknown-name");
        let printed = s_client(&server, &["-noservername"]);
        assert!(printed.contains("unrecognized name"), "{printed}");
        server.result().unwrap_err();
    }
}

#[test]
fn a_dot_at_the_end_of_a_name_finds_no_other_policy() {
    // TL-02: neither the default's nor anybody else's.
    let mut parts = parts(vec![("a.example", plain_policy())]);
    parts.default = Some(crate::tls::server::Policy::default());
    let tls = Arc::new(ServerTls::new(parts).unwrap());
    let expected = tls.policy_of(Some("a.example")).unwrap();
    let server = Server::start(tls, echo);
    for version in ["-tls1_2", "-tls1_3"] {
        for name in ["a.example", "A.EXAMPLE", "a.example."] {
            s_client(&server, &[version, "-servername", name]);
            match server.result() {
                Ok(made) => assert_eq!(made.policy, expected, "{name}"),
                Err(e) => assert_eq!(name, "a.example.", "{e}"),
            }
        }
    }
}

#[test]
fn only_an_rsa_client_gets_rsa() {
    let server = Server::echo();
    for (sigalgs, peer) in [
        ("rsa_pss_rsae_sha256", "rsa"),
        ("ecdsa_secp256r1_sha256", "ecdsa"),
    ] {
        let options = ["-servername", "a.example", "-sigalgs", sigalgs];
        let printed = s_client(&server, &options).to_lowercase();
        assert!(printed.contains("verify return code: 0 (ok)"), "{printed}");
        assert!(
            printed.contains(&format!("peer signature type: {peer}")),
            "{printed}"
        );
        server.result().unwrap();
    }
}

#[test]
fn sessions() {
    let server = Server::echo();
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let session = session.to_str().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let _ = std::fs::remove_file(session);
        let name = ["-servername", "a.example"];
        let first = s_client_echo(
            &server,
            &[&[version, "-sess_out", session][..], &name].concat(),
        );
        assert!(!server.result().unwrap().resumed, "{first}");
        let again = s_client_echo(
            &server,
            &[&[version, "-sess_in", session][..], &name].concat(),
        );
        assert!(server.result().unwrap().resumed, "{again}");
        let other = ["-servername", "b.example"];
        let elsewhere = s_client_echo(
            &server,
            &[&[version, "-sess_in", session][..], &other].concat(),
        );
        assert!(!server.result().unwrap().resumed, "{elsewhere}");
    }
}

/// As [`s_client`], but stays until its word has come back, and with it the tickets of TLS 1.3.
fn s_client_echo(server: &Server, options: &[&str]) -> String {
    use std::io::{BufRead, BufReader};
    let mut child = openssl()
        .args(["s_client", "-quiet", "-no_ign_eof", "-connect"])
        .arg(server.addr.to_string())
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    drop(stdin);
    child.wait().unwrap();
    line
}

#[test]
fn key_updates() {
    use std::io::{BufRead, BufReader};
    let server = Server::echo();
    let mut child = openssl()
        .args(["s_client", "-tls1_3", "-servername", "a.example"])
        .args(["-connect", &server.addr.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    for i in 0..4 {
        let word = format!("word {i}");
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
        assert!(lines.any(|line| line.unwrap() == word), "no {word}");
        // An update of its own keys, and one of ours is asked for.
        stdin.write_all(b"K\n").unwrap();
        assert!(told.any(|line| line.unwrap().contains("KEYUPDATE")));
    }
    stdin.write_all(b"Q\n").unwrap();
    drop(stdin);
    child.wait().unwrap();
}
