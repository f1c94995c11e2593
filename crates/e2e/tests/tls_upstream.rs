//! TLS to servers: who they must prove to be, who we are to them, and what is said when it cannot be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use narthex_e2e::kit::attack::Response;
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::tls::{Ca, Kind, Pair, TlsOrigin, replace};
use narthex_e2e::kit::{PATIENCE, eventually};

const LOCAL: &str = "127.0.0.1";

fn text(origin: &TlsOrigin, tls: &str, rest: &str) -> String {
    Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n tls {{ {tls} }}\n server \"{}\"\n retry attempts=0\n eject #false\n {rest}\n}}\nsite \"*\" {{ proxy \"u\" }}",
            origin.addr()
        ),
    )
}

fn write(dir: &Path, cas: &[(&str, &Ca)], pairs: &[(&str, &Pair)]) {
    for (name, ca) in cas {
        replace(&dir.join(name), ca.pem(), 0o644);
    }
    for (name, pair) in pairs {
        pair.write(dir, name);
    }
}

/// What is known of the upstream.
fn status(proxy: &Proxy) -> String {
    proxy
        .admin("GET /upstreams/u HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .text()
}

fn ask(proxy: &Proxy) -> Response {
    proxy.connect().ask(get("/", ""))
}

fn reason(answer: &Response) -> String {
    answer.fields.get("narthex-reason").unwrap_or_default()
}

#[test]
fn a_server_must_prove_its_name() {
    let (ca, stranger) = (Ca::new("root"), Ca::new("stranger"));
    let good = ca.leaf(&[LOCAL, "x.internal"]);
    let cases: [(&str, Pair, &str, u16, &str); 8] = [
        ("right", good.clone(), "ca \"ca.pem\"", 200, ""),
        (
            "by name",
            ca.leaf(&["x.internal"]),
            "ca \"ca.pem\"; name \"X.internal\"",
            200,
            "",
        ),
        (
            "other name",
            ca.leaf(&["y.internal"]),
            "ca \"ca.pem\"",
            502,
            "tls-wrong-name",
        ),
        (
            "not this name",
            good.clone(),
            "ca \"ca.pem\"; name \"z.internal\"",
            502,
            "tls-wrong-name",
        ),
        (
            "expired",
            ca.issue(&[LOCAL], Kind::Ecdsa, -3),
            "ca \"ca.pem\"",
            502,
            "tls-expired",
        ),
        (
            "unknown issuer",
            stranger.leaf(&[LOCAL]),
            "ca \"ca.pem\"",
            502,
            "tls-unknown-issuer",
        ),
        (
            "not of the system's",
            good.clone(),
            "",
            502,
            "tls-unknown-issuer",
        ),
        (
            "anybody",
            stranger.leaf(&["evil"]),
            "unsafe-no-verify",
            200,
            "",
        ),
    ];
    for (what, pair, tls, status, word) in cases {
        let origin = TlsOrigin::start(&pair, None, &["http/1.1"]);
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("ca.pem", &ca)], &[]);
        let proxy = Proxy::start_in(dir, &text(&origin, tls, ""));
        let mut client = proxy.connect();
        let answer = client.ask(get("/", ""));
        assert_eq!(
            (answer.status, reason(&answer).as_str()),
            (status, word),
            "{what}"
        );
        let log = proxy.access_log_of(1);
        let outcome = if status == 200 { "ok" } else { "upstream-tls" };
        assert_eq!(log[0]["outcome"], outcome, "{what}");
        if status == 200 {
            assert_eq!(client.ask(get("/", "")).status, 200, "{what}");
            let seen = origin.seen();
            assert_eq!(
                (seen.len(), seen[0].requests),
                (1, 2),
                "{what}: kept and used again"
            );
            let name = tls.contains("name").then(|| "x.internal".to_owned());
            assert_eq!(seen[0].sni, name, "{what}");
        }
    }
}

#[test]
fn we_prove_who_we_are() {
    let (ca, ours) = (Ca::new("root"), Ca::new("ours"));
    let origin = TlsOrigin::start(&ca.leaf(&[LOCAL]), Some(&ours), &[]);
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[("ca.pem", &ca)],
        &[("proxy", &ours.leaf(&["proxy"]))],
    );
    let with = "ca \"ca.pem\"; certificate cert=\"proxy.pem\" key=\"proxy.key\"";
    let proxy = Proxy::start_in(dir, &text(&origin, with, ""));
    assert_eq!(ask(&proxy).status, 200);
    assert!(origin.seen()[0].certificate);
    // Without it, after a reload: the connection from before, which had shown one, is not used.
    proxy.reload_ok(&text(&origin, "ca \"ca.pem\"", ""));
    let answer = ask(&proxy);
    assert_eq!(answer.status, 502, "{}", reason(&answer));
    assert_eq!(origin.seen().iter().map(|s| s.requests).sum::<usize>(), 1);
    proxy.reload_ok(&text(&origin, with, ""));
    assert_eq!(ask(&proxy).status, 200);
}

#[test]
fn a_reload_to_tls_leaves_no_plain_connection() {
    let (ca, plain) = (Ca::new("root"), Origin::start());
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("ca.pem", &ca)], &[]);
    let config = |tls: &str| {
        Proxy::config(
            "",
            &format!(
                "upstream \"u\" {{\n {tls}\n server \"{}\"\n eject #false\n}}\nsite \"*\" {{ proxy \"u\" }}",
                plain.addr()
            ),
        )
    };
    let proxy = Proxy::start_in(dir, &config(""));
    let mut client = proxy.connect();
    assert_eq!(client.ask(get("/", "")).status, 200);
    proxy.reload_ok(&config("tls { ca \"ca.pem\" }"));
    let answer = client.ask(get("/", ""));
    assert_eq!(answer.status, 502);
    assert!(reason(&answer).starts_with("tls-"), "{}", reason(&answer));
    let asked = plain.seen().iter().filter(|s| s.path() == "/").count();
    assert_eq!(asked, 1, "nothing more went in the clear");
}

#[test]
fn checks_are_encrypted_too() {
    let ca = Ca::new("root");
    for (pair, well) in [(ca.leaf(&[LOCAL]), true), (ca.leaf(&["other"]), false)] {
        let origin = TlsOrigin::start(&pair, None, &[]);
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("ca.pem", &ca)], &[]);
        let check = "health-check \"/\" interval=\"50ms\" healthy=1 unhealthy=1";
        let proxy = Proxy::start_in(dir, &text(&origin, "ca \"ca.pem\"", check));
        let state = || status(&proxy);
        if well {
            assert!(eventually(PATIENCE, || origin
                .seen()
                .iter()
                .any(|s| s.requests > 0)));
            assert_eq!(ask(&proxy).status, 200);
        } else {
            assert!(
                eventually(PATIENCE, || state().contains("certificate")),
                "{}",
                state()
            );
            assert_eq!(ask(&proxy).status, 503);
        }
    }
}

#[test]
fn sessions_with_servers_are_resumed() {
    let ca = Ca::new("root");
    let origin = TlsOrigin::start(&ca.leaf(&[LOCAL]), None, &[]);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("ca.pem", &ca)], &[]);
    let config = text(&origin, "ca \"ca.pem\"", "connections idle=0");
    let proxy = Proxy::start_in(dir, &config);
    for _ in 0..3 {
        assert_eq!(ask(&proxy).status, 200);
    }
    proxy.reload_ok(&config);
    assert_eq!(ask(&proxy).status, 200);
    let resumed: Vec<bool> = origin.seen().iter().map(|s| s.resumed).collect();
    assert_eq!(resumed, [false, true, true, true]);
}

#[test]
fn a_server_chooses_its_protocol() {
    for (protocols, told) in [
        ("\"h2\" \"http/1.1\"", "1.1 narthex, 2.0 narthex"),
        ("\"http/1.1\"", "1.1 narthex, 1.1 narthex"),
    ] {
        let (ca, origin) = (Ca::new("root"), Origin::start());
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[], &[("b", &ca.leaf(&["b.test"]))]);
        let behind = Proxy::start_in(
            dir,
            &Proxy::config(
                &format!("tls; protocols {protocols}"),
                &format!(
                    "site \"b.test\" \"*\" {{ tls cert=\"b.pem\" key=\"b.key\"; proxy \"{}\" }}",
                    origin.place()
                ),
            ),
        );
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("ca.pem", &ca)], &[]);
        let front = Proxy::start_in(
            dir,
            &Proxy::config(
                "",
                &format!(
                    "upstream \"u\" {{ tls {{ ca \"ca.pem\"; name \"b.test\" }}; protocol \"auto\"; server \"{}\" }}\nsite \"*\" {{ proxy \"u\" }}",
                    behind.addr()
                ),
            ),
        );
        let mut client = front.connect();
        for _ in 0..3 {
            let answer = client.ask(get("/", ""));
            assert_eq!(answer.status, 200, "{protocols} {}", answer.text());
        }
        let seen = origin.take(3);
        let via = seen[0].fields.all("via").join(&b", "[..]);
        assert_eq!(String::from_utf8_lossy(&via), *told, "{protocols}");
        for record in behind.access_log_of(3) {
            assert_eq!(record["tls"]["sni"], "b.test");
        }
    }
}
