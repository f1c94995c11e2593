//! Sites that get their certificates by themselves, from a real authority and from our own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::eventually;
use narthex_e2e::kit::found::LONG;
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::pebble::{Asked, Pebble};
use narthex_e2e::kit::proxy::{Proxy, say};
use narthex_e2e::kit::tls::{Facts, Tls, Versions};
use rustix::process::Signal;

/// A proxy with a plain listener and one with TLS, where the authority looks, and these sites.
fn config(pebble: &Pebble, storage: &Path, sites: &str) -> String {
    let (http, tls) = pebble.ports();
    Proxy::config(
        "",
        &format!(
            "listen \"127.0.0.1:{http}\"\nlisten \"127.0.0.1:{tls}\" {{ tls }}\n\
             acme {{\nemail \"ops@narthex-proxy.net\"\nstorage \"{}\"\nca \"{}\" roots=\"{}\"\n}}\n{sites}",
            storage.display(),
            pebble.directory(),
            pebble.roots().display(),
        ),
    )
}

fn site(name: &str, tls: &str, origin: &Origin) -> String {
    format!(
        "site \"{name}\" {{ tls {tls}; proxy \"{}\" }}\n",
        origin.place()
    )
}

fn acme(name: &str, origin: &Origin) -> String {
    site(name, "acme=\"ops@narthex-proxy.net\"", origin)
}

fn believing(root: &str) -> Tls {
    Tls::believing(&[root], Versions::Both, &[], None)
}

/// A request over TLS that is answered, once it is; where the certificate is one that this client believes.
fn served(tls: &Tls, port: u16, name: &str) -> Option<Facts> {
    let (mut client, facts) = tls.connect(([127, 0, 0, 1], port).into(), name).ok()?;
    let request = get("/", "").replacen("Host: a\r\n", &format!("Host: {name}\r\n"), 1);
    (client.ask(request).status == 200).then_some(facts)
}

#[track_caller]
fn comes(proxy: &Proxy, tls: &Tls, port: u16, name: &str) -> Facts {
    let mut facts = None;
    let came = eventually(LONG, || {
        facts = served(tls, port, name);
        facts.is_some()
    });
    assert!(came, "no certificate for {name}:\n{}", proxy.stderr());
    facts.unwrap()
}

fn certs(proxy: &Proxy, arguments: &[&str]) -> String {
    let admin = format!("unix:{}", proxy.dir().join("admin.sock").display());
    let out = proxy.command(&[&["certs", "--admin", &admin], arguments].concat());
    assert!(out.status.success(), "{}", say(&out));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_site_gets_its_certificate_by_itself_and_keeps_it() {
    let (mut pebble, origin) = (Pebble::start(Asked::default()), Origin::start());
    let storage = tempfile::tempdir().unwrap();
    let tls = believing(&pebble.root());
    let port = pebble.ports().1;
    let names = ["one.narthex-proxy.net", "two.narthex-proxy.net"];
    let sites: String = names.iter().map(|name| acme(name, &origin)).collect();
    let text = config(&pebble, storage.path(), &sites);
    let mut proxy = Proxy::start(&text);
    let before = names.map(|name| comes(&proxy, &tls, port, name));
    let told = certs(&proxy, &[]);
    for name in names {
        assert!(
            told.contains(name) && told.contains("issued by  Pebble"),
            "{told}"
        );
    }
    let metrics = proxy.metrics();
    assert!(
        metrics.contains("narthex_certificate_failures{name=\"one.narthex-proxy.net\"} 0"),
        "{metrics}"
    );
    assert!(
        metrics.contains("narthex_tls_certificate_expiry_seconds{"),
        "{metrics}"
    );

    // A restart asks nobody, and has them from its first handshake on.
    proxy.signal(Signal::KILL);
    proxy.wait(LONG);
    drop(proxy);
    pebble.kill();
    let proxy = Proxy::start(&text);
    for (name, before) in names.iter().zip(before) {
        let now = served(&tls, port, name).expect("from the first handshake on");
        assert_eq!(now.certificate, before.certificate);
    }

    // So has one that follows a reload, and a name that comes later gets its own.
    pebble.resume();
    let fresh = believing(&pebble.root());
    proxy.reload_ok(&config(
        &pebble,
        storage.path(),
        &format!("{sites}{}", acme("three.narthex-proxy.net", &origin)),
    ));
    assert!(served(&tls, port, names[0]).is_some());
    comes(&proxy, &fresh, port, "three.narthex-proxy.net");
    // A name that goes is shown to nobody any more.
    proxy.reload_ok(&config(&pebble, storage.path(), &acme(names[0], &origin)));
    assert!(served(&tls, port, names[0]).is_some());
    assert!(served(&tls, port, names[1]).is_none());
    assert!(!certs(&proxy, &["--json"]).contains(names[1]));
    proxy.assert_sane();
}

#[test]
fn tls_alpn_01_without_a_plain_listener() {
    let (pebble, origin) = (Pebble::start(Asked::default()), Origin::start());
    let storage = tempfile::tempdir().unwrap();
    let tls = believing(&pebble.root());
    let name = "one.narthex-proxy.net";
    let sites = site(
        name,
        "acme=\"ops@narthex-proxy.net\" challenge=\"tls-alpn-01\"",
        &origin,
    );
    let proxy = Proxy::start(&config(&pebble, storage.path(), &sites));
    comes(&proxy, &tls, pebble.ports().1, name);
    // Nothing of it is left: `acme-tls/1` is spoken to nobody now.
    let prober = Tls::believing(&[&pebble.root()], Versions::Both, &["acme-tls/1"], None);
    let port = pebble.ports().1;
    assert!(prober.connect(([127, 0, 0, 1], port).into(), name).is_err());
    proxy.assert_sane();
}

#[test]
fn only_live_tokens_of_the_host_are_answered_here() {
    // Pebble takes its time: the token is live while we look.
    let asked = Asked {
        sleepy: true,
        ..Asked::default()
    };
    let (pebble, origin) = (Pebble::start(asked), Origin::start());
    let storage = tempfile::tempdir().unwrap();
    let name = "one.narthex-proxy.net";
    let sites = format!(
        "{}site \"*\" {{ respond 418 }}\n",
        site(
            name,
            "acme=\"ops@narthex-proxy.net\" challenge=\"http-01\"",
            &origin
        )
    );
    let proxy = Proxy::start(&config(&pebble, storage.path(), &sites));
    let ask = |host: &str, path: &str| {
        let request = get(path, "").replacen("Host: a\r\n", &format!("Host: {host}\r\n"), 1);
        proxy.connect().ask(request)
    };
    // The token is in the written order's authority only; it is taken from what the authority asks us for.
    let mut token = None;
    let seen = eventually(LONG, || {
        let log = proxy.access_log();
        token = log.iter().find_map(|line| {
            let path = line.get("path")?.as_str()?.to_owned();
            path.starts_with("/.well-known/acme-challenge/")
                .then_some(path)
        });
        token.is_some()
    });
    assert!(seen, "{}", proxy.stderr());
    let prefix = "/.well-known/acme-challenge/";
    // Whether it is still live or not: another host, another spelling and another token are never ours.
    for (host, path) in [
        (name, format!("{prefix}unknown")),
        (name, prefix.to_owned()),
        (name, format!("{}x", token.as_deref().unwrap())),
    ] {
        let answer = ask(host, &path);
        assert_eq!(answer.status, 200, "from the origin: {path}");
        assert_eq!(origin.take(1).len(), 1);
    }
    for host in ["other.narthex-proxy.net", "x.one.narthex-proxy.net"] {
        assert_eq!(ask(host, token.as_deref().unwrap()).status, 418, "{host}");
    }
    let tls = believing(&pebble.root());
    comes(&proxy, &tls, pebble.ports().1, name);
    // The order is done: the token is the origin's again.
    assert_eq!(ask(name, token.as_deref().unwrap()).status, 200);
    proxy.assert_sane();
}

#[test]
fn kill_9_in_the_middle_of_an_order() {
    let asked = Asked {
        sleepy: true,
        ..Asked::default()
    };
    let (pebble, origin) = (Pebble::start(asked), Origin::start());
    let storage = tempfile::tempdir().unwrap();
    let name = "one.narthex-proxy.net";
    let text = config(&pebble, storage.path(), &acme(name, &origin));
    let order = storage.path().join(format!("orders/{name}.json"));
    let read = || fs::read_to_string(&order).unwrap_or_default();
    let mut proxy = Proxy::start(&text);
    assert!(
        eventually(LONG, || read().contains("/my-order/")),
        "{}",
        proxy.stderr()
    );
    let before: serde_json::Value = serde_json::from_str(&read()).unwrap();
    proxy.signal(Signal::KILL);
    proxy.wait(LONG);
    drop(proxy);
    let proxy = Proxy::start(&text);
    comes(&proxy, &believing(&pebble.root()), pebble.ports().1, name);
    assert!(eventually(LONG, || !order.exists()), "the order is over");
    let stored =
        fs::read_to_string(storage.path().join(format!("certificates/{name}.json"))).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(
        stored["key"], before["key"],
        "the same order was gone on with"
    );
    proxy.assert_sane();
}

#[test]
fn an_upgrade_shows_the_certificate_from_its_first_handshake_on() {
    let (pebble, origin) = (Pebble::start(Asked::default()), Origin::start());
    let storage = tempfile::tempdir().unwrap();
    let tls = believing(&pebble.root());
    let (name, later, port) = (
        "one.narthex-proxy.net",
        "two.narthex-proxy.net",
        pebble.ports().1,
    );
    let text = config(&pebble, storage.path(), &acme(name, &origin));
    let mut proxy = Proxy::start_replaceable(&text);
    let before = comes(&proxy, &tls, port, name);
    for _ in 0..2 {
        let old = proxy.upgrade_ok();
        let now = served(&tls, port, name).expect("from the first handshake on");
        assert_eq!(now.certificate, before.certificate);
        proxy.await_end_of(old);
    }
    // The store has gone over with the sockets.
    let sites = format!("{}{}", acme(name, &origin), acme(later, &origin));
    proxy.reload_ok(&config(&pebble, storage.path(), &sites));
    comes(&proxy, &tls, port, later);
    proxy.assert_sane();
}

#[test]
fn the_internal_authority() {
    let (pebble, origin) = (Pebble::start(Asked::default()), Origin::start());
    let storage = tempfile::tempdir().unwrap();
    let sites = format!(
        "{}{}",
        site("c.internal", "\"internal\"", &origin),
        // No public authority may certify it: ours does.
        acme("d.test", &origin),
    );
    let text = config(&pebble, storage.path(), &sites);
    let proxy = Proxy::start(&text);
    let mut root = String::new();
    let file = proxy.dir().join("narthex.kdl");
    let printed = eventually(LONG, || {
        let out = proxy.command(&["trust", "--config", &file.display().to_string()]);
        root = String::from_utf8(out.stdout).unwrap();
        out.status.success()
    });
    assert!(printed, "{}", proxy.stderr());
    let tls = believing(&root);
    for name in ["c.internal", "d.test"] {
        comes(&proxy, &tls, pebble.ports().1, name);
    }
    assert!(!root.contains("PRIVATE"));
    proxy.assert_sane();
}

#[test]
fn a_store_that_cannot_be_used_is_said_once_and_ends_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let (pebble, origin) = (Pebble::start(Asked::default()), Origin::start());
    let storage = tempfile::tempdir().unwrap();
    let mode = |mode| fs::set_permissions(storage.path(), PermissionsExt::from_mode(mode)).unwrap();
    mode(0o777);
    let name = "one.narthex-proxy.net";
    let sites = format!("{}site \"*\" {{ respond 418 }}\n", acme(name, &origin));
    let proxy = Proxy::start(&config(&pebble, storage.path(), &sites));
    let told = "chmod go=";
    assert!(
        eventually(LONG, || proxy.stderr().contains(told)),
        "{}",
        proxy.stderr()
    );
    assert_eq!(
        proxy.connect().ask(get("/", "")).status,
        418,
        "everything else is served"
    );
    mode(0o700);
    comes(&proxy, &believing(&pebble.root()), pebble.ports().1, name);
    assert_eq!(proxy.stderr().matches(told).count(), 1);
    proxy.assert_sane();
}
