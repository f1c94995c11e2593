//! TLS from clients: certificates by name, versions, resumption, and what the origin gets to know.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;

use std::net::SocketAddr;
use std::process::Command;

use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::tls::{Ca, Kind, Tls, Versions, replace};
use narthex_e2e::kit::{PATIENCE, eventually, show};

/// A proxy whose sites are these names, each with a certificate of its own; an origin behind all.
struct Https {
    proxy: Proxy,
    origin: Origin,
    ca: Ca,
}

fn sites(names: &[&str], origin: &Origin, inside: &str) -> String {
    names.iter().fold(String::new(), |mut text, name| {
        let file = name.replace('*', "any");
        let _ = writeln!(
            text,
            "site \"{name}\" {{ tls cert=\"{file}.pem\" key=\"{file}.key\"; {inside}; proxy \"{}\" }}",
            origin.place()
        );
        text
    })
}

impl Https {
    fn start(names: &[&str], listen: &str) -> Self {
        let (ca, origin) = (Ca::new("root"), Origin::start());
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            ca.leaf(&[name])
                .write(dir.path(), &name.replace('*', "any"));
        }
        let text = Proxy::config(
            &format!("tls {{ {listen} }}"),
            &sites(names, &origin, "merge-slashes #false"),
        );
        let proxy = Proxy::start_in(dir, &text);
        Self { proxy, origin, ca }
    }

    fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }

    fn curl(&self, dir: &std::path::Path, arguments: &[&str]) -> String {
        let root = dir.join("root.pem");
        std::fs::write(&root, self.ca.pem()).unwrap();
        let out = Command::new("curl")
            .args(["-sS", "--cacert"])
            .arg(root)
            .arg("--connect-to")
            .arg(format!("::{}", self.addr()))
            .args(arguments)
            .output()
            .expect("curl is there");
        format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        )
    }
}

/// A request for this host.
fn host(name: &str) -> String {
    get("/", "").replacen("Host: a\r\n", &format!("Host: {name}\r\n"), 1)
}

#[test]
fn a_site_is_served_over_tls() {
    let https = Https::start(&["a.test"], "");
    let tls = Tls::of(&https.ca);
    let (mut client, facts) = tls.connect(https.addr(), "a.test").unwrap();
    assert_eq!(facts.version, "TLSv1_3");
    for _ in 0..3 {
        assert_eq!(client.ask(host("a.test")).status, 200);
    }
    let seen = https.origin.take(3);
    assert_eq!(
        seen[0].header("x-forwarded-proto").as_deref(),
        Some("https")
    );
    let log = https.proxy.access_log_of(3);
    assert_eq!(log[0]["scheme"], "https");
    assert_eq!(log[0]["tls"]["version"], "TLSv1.3");
    assert_eq!(log[0]["tls"]["suite"], facts.suite);
    assert_eq!(log[0]["tls"]["sni"], "a.test");
    assert_eq!(log[0]["tls"]["resumed"], false);
}

#[test]
fn protocols_are_agreed_upon() {
    let https = Https::start(&["a.test"], "");
    let dir = tempfile::tempdir().unwrap();
    for (flag, version, alpn) in [("--http2", "2", "h2"), ("--http1.1", "1.1", "http/1.1")] {
        let said = https.curl(
            dir.path(),
            &[
                flag,
                "-w",
                " %{http_code} %{http_version}",
                "https://a.test/",
            ],
        );
        assert!(said.ends_with(&format!("200 {version}")), "{said}");
        let tls = Tls::new(&[&https.ca], Versions::Both, &[alpn], None);
        let (_, facts) = tls.connect(https.addr(), "a.test").unwrap();
        assert_eq!(facts.alpn.as_deref(), Some(alpn));
        let said = https.curl(
            dir.path(),
            &[
                flag,
                "-w",
                " %{http_code} %{http_version}",
                "https://a.test/",
            ],
        );
        assert!(said.ends_with(&format!("200 {version}")), "{said}");
    }
    let ftp = Tls::new(&[&https.ca], Versions::Both, &["ftp"], None);
    let refused = ftp.connect(https.addr(), "a.test").unwrap_err();
    assert!(
        refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
}

#[test]
fn a_name_finds_its_certificate() {
    let https = Https::start(&["a.test", "*.b.test", "B.b.test"], "");
    for versions in [Versions::Only12, Versions::Only13] {
        let tls = Tls::new(&[&https.ca], versions, &[], None);
        let shown = |name: &str| tls.connect(https.addr(), name).unwrap().1.certificate;
        let (a, any, b) = (shown("a.test"), shown("x.b.test"), shown("b.b.test"));
        assert!(a != any && any != b && a != b);
        // Case is none of a name's business.
        assert_eq!(a, shown("A.TEST"));
        assert_eq!(any, shown("Y.B.test"));
        let unknown = tls.connect(https.addr(), "c.test").unwrap_err();
        assert!(
            unknown.to_string().contains("UnrecognisedName"),
            "{unknown}"
        );
    }
}

#[test]
fn both_kinds_of_keys_are_served() {
    let (ca, origin) = (Ca::new("root"), Origin::start());
    let dir = tempfile::tempdir().unwrap();
    ca.issue(&["a.test"], Kind::Ecdsa, 30)
        .write(dir.path(), "ec");
    ca.issue(&["a.test"], Kind::Rsa, 30)
        .write(dir.path(), "rsa");
    let text = Proxy::config(
        "tls",
        &format!(
            "site \"a.test\" {{ tls cert=\"ec.pem\" key=\"ec.key\"; tls cert=\"rsa.pem\" key=\"rsa.key\"; proxy \"{}\" }}",
            origin.place()
        ),
    );
    let proxy = Proxy::start_in(dir, &text);
    for (signatures, kind) in [
        ("ECDSA+SHA256", "ECDSA"),
        ("RSA-PSS+SHA256:RSA+SHA256", "RSA"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let out = Command::new("openssl")
                .args(["s_client", "-connect", &proxy.addr().to_string()])
                .args(["-servername", "a.test", "-sigalgs", signatures, version])
                .stdin(std::process::Stdio::null())
                .output()
                .expect("openssl is there");
            let said = String::from_utf8_lossy(&out.stdout);
            let wanted = match kind {
                "ECDSA" => "id-ecPublicKey",
                _ => "rsaEncryption",
            };
            assert!(said.contains(wanted), "{signatures} {version}: {said}");
        }
    }
}

#[test]
fn modern_is_1_3_alone() {
    let https = Https::start(&["a.test"], "policy \"modern\"");
    let old = Tls::new(&[&https.ca], Versions::Only12, &[], None);
    assert!(old.connect(https.addr(), "a.test").is_err());
    let new = Tls::new(&[&https.ca], Versions::Both, &[], None);
    // It stays: who leaves at once may be gone before the handshake is over on the other side.
    let (_stays, facts) = new.connect(https.addr(), "a.test").unwrap();
    assert_eq!(facts.version, "TLSv1_3");
    let counted = |result: &str, n: u32| {
        https.proxy.metrics().lines().any(|l| {
            l.starts_with("narthex_tls_handshakes_total")
                && l.ends_with(&format!("result=\"{result}\"}} {n}"))
        })
    };
    assert!(eventually(PATIENCE, || counted("incompatible", 1)));
    assert!(eventually(PATIENCE, || counted("full", 1)));
    let metrics = https.proxy.metrics();
    assert!(
        metrics.contains("narthex_tls_certificate_expiry_seconds{key=\"ECDSA\",name=\"a.test\"}")
    );
}

#[test]
fn an_unknown_name_may_get_the_default() {
    let https = Https::start(&["a.test"], "unknown-name \"default\"");
    let said = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &https.addr().to_string(),
            "-servername",
            "c.test",
        ])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is there");
    assert!(
        String::from_utf8_lossy(&said.stdout).contains("CN = a.test")
            || String::from_utf8_lossy(&said.stdout).contains("CN=a.test")
    );
}

#[test]
fn plaintext_and_silence_get_no_answer() {
    let https = Https::start(&["a.test"], "handshake-timeout \"200ms\"; pending 2");
    let mut plain = https.proxy.connect();
    plain.send(host("a.test"));
    let (said, _) = plain.rest();
    assert!(said.starts_with(b"HTTP/1.1 400 "), "{}", show(&said));
    // Two may wait, the third is one beyond; after the deadline there is room again.
    let metric = |name: &str| {
        let metrics = https.proxy.metrics();
        let line = metrics
            .lines()
            .find(|l| l.starts_with(name))
            .map(str::to_owned);
        line.and_then(|l| l.rsplit(' ').next().map(str::to_owned))
    };
    let workers = 64;
    let silent: Vec<_> = (0..=2 * workers).map(|_| https.proxy.connect()).collect();
    assert!(eventually(PATIENCE, || {
        https.proxy.metrics().lines().any(|l| {
            l.starts_with("narthex_tls_handshakes_total")
                && l.contains("\"busy\"")
                && !l.ends_with(" 0")
        })
    }));
    assert!(eventually(PATIENCE, || metric(
        "narthex_tls_handshakes_pending"
    )
    .as_deref()
        == Some("0")));
    drop(silent);
    let tls = Tls::of(&https.ca);
    let (mut client, _) = tls.connect(https.addr(), "a.test").unwrap();
    assert_eq!(client.ask(host("a.test")).status, 200);
}

#[test]
fn check_tells_what_is_wrong_with_files() {
    let https = Https::start(&["a.test"], "");
    let dir = https.proxy.dir().to_owned();
    let config = dir.join("narthex.kdl");
    let check = || {
        let out = https.proxy.command(&["check", config.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&out.stderr) + String::from_utf8_lossy(&out.stdout);
        (out.status.code(), said.into_owned())
    };
    assert_eq!(check().0, Some(0));
    let other = https.ca.leaf(&["a.test"]);
    replace(&dir.join("a.test.key"), &other.key, 0o600);
    let (code, said) = check();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("error[bad-certificate]") && said.contains("does not belong"),
        "{said}"
    );
    replace(&dir.join("a.test.key"), &other.key, 0o640);
    assert!(check().1.contains("chmod 600"));
    https
        .ca
        .issue(&["a.test"], Kind::Ecdsa, -2)
        .write(&dir, "a.test");
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("warning[certificate-date]") && said.contains("expired"),
        "{said}"
    );
}

#[test]
fn a_flood_of_handshakes_leaves_the_others_served() {
    let https = Https::start(&["a.test"], "handshake-timeout \"2s\"; pending 64");
    let tls = Tls::of(&https.ca);
    let (mut victim, _) = tls.connect(https.addr(), "a.test").unwrap();
    let silent: Vec<_> = (0..300).map(|_| https.proxy.connect()).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    // Refused or not: both are work for the proxy.
                    let _ = Tls::of(&https.ca).connect(https.addr(), "a.test");
                }
            });
        }
        for n in 0..200 {
            assert_eq!(victim.ask(host("a.test")).status, 200, "{n}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop(silent);
    let served = || match tls.connect(https.addr(), "a.test") {
        Ok((mut client, _)) => client.ask(host("a.test")).status == 200,
        Err(_) => false,
    };
    assert!(eventually(PATIENCE, served));
}
