//! Sites that get their certificates by themselves, from a real authority and from our own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::eventually;
use narthex_e2e::kit::found::LONG;
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::pebble::{Asked, Pebble};
use narthex_e2e::kit::proxy::{Proxy, is_alive, say};
use narthex_e2e::kit::tls::{Facts, Tls, Versions};
use rustix::process::Signal;

const NAME: &str = "one.narthex-proxy.net";

/// An authority, an origin, and a place for what is obtained.
struct Scene {
    pebble: Pebble,
    origin: Origin,
    storage: tempfile::TempDir,
    /// Where the proxy shakes hands.
    port: u16,
}

impl Scene {
    fn start() -> Self {
        Self::of(Asked::default())
    }

    /// With an authority that takes its time before it validates.
    fn sleepy() -> Self {
        Self::of(Asked {
            sleepy: true,
            ..Asked::default()
        })
    }

    fn of(asked: Asked) -> Self {
        let pebble = Pebble::start(asked);
        Self {
            port: pebble.ports().1,
            pebble,
            origin: Origin::start(),
            storage: tempfile::tempdir().unwrap(),
        }
    }

    /// A plain listener and one with TLS, where the authority looks, and these sites.
    fn config(&self, sites: &str) -> String {
        let (http, tls) = self.pebble.ports();
        Proxy::config(
            "",
            &format!(
                "listen \"127.0.0.1:{http}\"\nlisten \"127.0.0.1:{tls}\" {{ tls }}\n\
                 acme {{\nemail \"ops@narthex-proxy.net\"\nstorage \"{}\"\nca \"{}\" roots=\"{}\"\n}}\n{sites}",
                self.storage.path().display(),
                self.pebble.directory(),
                self.pebble.roots().display(),
            ),
        )
    }

    /// A site with this `tls`.
    fn site(&self, name: &str, tls: &str) -> String {
        let origin = self.origin.place();
        format!("site \"{name}\" {{ tls {tls}; proxy \"{origin}\" }}\n")
    }

    fn acme(&self, name: &str) -> String {
        self.site(name, "acme=\"ops@narthex-proxy.net\"")
    }

    /// A client that believes the authority.
    fn client(&self) -> Tls {
        believing(&self.pebble.root())
    }
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
    comes_within(LONG, proxy, tls, port, name)
}

#[track_caller]
fn comes_within(limit: Duration, proxy: &Proxy, tls: &Tls, port: u16, name: &str) -> Facts {
    let mut facts = None;
    let came = eventually(limit, || {
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
    let mut scene = Scene::start();
    let (tls, port) = (scene.client(), scene.port);
    let names = [NAME, "two.narthex-proxy.net"];
    let sites: String = names.iter().map(|name| scene.acme(name)).collect();
    let text = scene.config(&sites);
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
    for metric in [
        "narthex_certificate_failures{name=\"one.narthex-proxy.net\"} 0",
        "narthex_tls_certificate_expiry_seconds{",
    ] {
        assert!(metrics.contains(metric), "{metrics}");
    }

    // A restart asks nobody, and has them from its first handshake on.
    proxy.signal(Signal::KILL);
    proxy.wait(LONG);
    drop(proxy);
    scene.pebble.kill();
    let proxy = Proxy::start(&text);
    for (name, before) in names.iter().zip(before) {
        let now = served(&tls, port, name).expect("from the first handshake on");
        assert_eq!(now.certificate, before.certificate);
    }

    // So has one that follows a reload, and a name that comes later gets its own.
    scene.pebble.resume();
    let third = "three.narthex-proxy.net";
    let more = format!("{sites}{}", scene.acme(third));
    proxy.reload_ok(&scene.config(&more));
    assert!(served(&tls, port, NAME).is_some());
    comes(&proxy, &scene.client(), port, third);
    // A name that goes is shown to nobody any more.
    proxy.reload_ok(&scene.config(&scene.acme(NAME)));
    assert!(served(&tls, port, NAME).is_some());
    let gone = names[1];
    assert!(eventually(LONG, || served(&tls, port, gone).is_none()));
    assert!(!certs(&proxy, &["--json"]).contains(gone));
    proxy.assert_sane();
}

#[test]
fn tls_alpn_01_alone() {
    let scene = Scene::start();
    let how = "acme=\"ops@narthex-proxy.net\" challenge=\"tls-alpn-01\"";
    let proxy = Proxy::start(&scene.config(&scene.site(NAME, how)));
    comes(&proxy, &scene.client(), scene.port, NAME);
    // Nothing of it is left: `acme-tls/1` is spoken to nobody now.
    let root = scene.pebble.root();
    let prober = Tls::believing(&[&root], Versions::Both, &["acme-tls/1"], None);
    let addr = ([127, 0, 0, 1], scene.port).into();
    assert!(prober.connect(addr, NAME).is_err());
    let log = proxy.access_log();
    assert!(
        log.is_empty() || log.iter().all(|l| l["path"] == "/"),
        "{log:?}"
    );
    proxy.assert_sane();
}

#[test]
fn only_live_tokens_of_the_host_are_answered_here() {
    let scene = Scene::sleepy();
    let how = "acme=\"ops@narthex-proxy.net\" challenge=\"http-01\"";
    let sites = format!("{}site \"*\" {{ respond 418 }}\n", scene.site(NAME, how));
    let proxy = Proxy::start(&scene.config(&sites));
    let ask = |host: &str, path: &str| {
        let request = get(path, "").replacen("Host: a\r\n", &format!("Host: {host}\r\n"), 1);
        proxy.connect().ask(request)
    };
    // Only the authority knows the token: it is taken from what it asks us for.
    let prefix = "/.well-known/acme-challenge/";
    let mut token = String::new();
    let seen = eventually(LONG, || {
        let log = proxy.access_log();
        let paths = log.iter().filter_map(|line| line.get("path")?.as_str());
        let found = paths.into_iter().find(|path| path.starts_with(prefix));
        token = found.unwrap_or_default().to_owned();
        !token.is_empty()
    });
    assert!(seen, "{}", proxy.stderr());
    // Whether it is still live or not: another host, another spelling and another token are never ours.
    for path in [&format!("{prefix}unknown"), prefix, &format!("{token}x")] {
        assert_eq!(ask(NAME, path).status, 200, "from the origin: {path}");
        assert_eq!(scene.origin.take(1).len(), 1);
    }
    for host in ["other.narthex-proxy.net", "x.one.narthex-proxy.net"] {
        assert_eq!(ask(host, &token).status, 418, "{host}");
    }
    comes(&proxy, &scene.client(), scene.port, NAME);
    scene.origin.take(1);
    // The order is done: the token is the origin's again.
    assert_eq!(ask(NAME, &token).status, 200);
    assert_eq!(scene.origin.take(1).len(), 1);
    proxy.assert_sane();
}

#[test]
fn kill_9_in_the_middle_of_an_order() {
    let scene = Scene::sleepy();
    let text = scene.config(&scene.acme(NAME));
    let at = |folder: &str| scene.storage.path().join(format!("{folder}/{NAME}.json"));
    let read = |folder| fs::read_to_string(at(folder)).unwrap_or_default();
    let mut proxy = Proxy::start(&text);
    let ordered = eventually(LONG, || read("orders").contains("/my-order/"));
    assert!(ordered, "{}", proxy.stderr());
    let before: serde_json::Value = serde_json::from_str(&read("orders")).unwrap();
    proxy.signal(Signal::KILL);
    proxy.wait(LONG);
    drop(proxy);
    let proxy = Proxy::start(&text);
    // The authority may have asked while nobody was there to answer: then that order is lost, and the next one is a pause away.
    comes_within(3 * LONG, &proxy, &scene.client(), scene.port, NAME);
    let over = eventually(LONG, || !at("orders").exists());
    assert!(over, "{}", proxy.stderr());
    let stored: serde_json::Value = serde_json::from_str(&read("certificates")).unwrap();
    if !proxy.stderr().contains("no certificate yet") {
        assert_eq!(
            stored["key"], before["key"],
            "the same order was gone on with"
        );
    }
    proxy.assert_sane();
}

#[test]
fn an_upgrade_shows_the_certificate_from_its_first_handshake_on() {
    let scene = Scene::start();
    let (tls, port) = (scene.client(), scene.port);
    let mut proxy = Proxy::start_replaceable(&scene.config(&scene.acme(NAME)));
    let before = comes(&proxy, &tls, port, NAME);
    for _ in 0..2 {
        let old = proxy.upgrade_ok();
        let now = served(&tls, port, NAME).expect("from the first handshake on");
        assert_eq!(now.certificate, before.certificate);
        proxy.await_end_of(old);
    }
    // The store goes over with the sockets, not with the end of the process before, which may drain for an hour.
    let mut slow = proxy.connect();
    let half = "POST / HTTP/1.1\r\nHost: one.narthex-proxy.net\r\nContent-Length: 2\r\n\r\na";
    assert!(slow.send(half));
    let begun = || scene.origin.seen().iter().any(|seen| !seen.complete);
    assert!(eventually(LONG, begun), "its head has arrived");
    let old = proxy.upgrade_ok();
    let later = "two.narthex-proxy.net";
    let sites = format!("{}{}", scene.acme(NAME), scene.acme(later));
    proxy.reload_ok(&scene.config(&sites));
    comes(&proxy, &tls, port, later);
    assert!(is_alive(old), "it drains still");
    assert!(slow.send("b"));
    assert_eq!(slow.read_response("POST").unwrap().status, 200);
    proxy.await_end_of(old);
    proxy.assert_sane();
}

#[test]
fn the_internal_authority() {
    let scene = Scene::start();
    // No public authority may certify the second: ours does.
    let sites = scene.site("c.internal", "\"internal\"") + &scene.acme("d.test");
    let proxy = Proxy::start(&scene.config(&sites));
    let mut root = String::new();
    let file = proxy.dir().join("narthex.kdl");
    let printed = eventually(LONG, || {
        let out = proxy.command(&["trust", "--config", &file.display().to_string()]);
        root = String::from_utf8(out.stdout).unwrap();
        out.status.success()
    });
    assert!(printed, "{}", proxy.stderr());
    assert!(!root.contains("PRIVATE"));
    for name in ["c.internal", "d.test"] {
        comes(&proxy, &believing(&root), scene.port, name);
    }
    proxy.assert_sane();
}

#[test]
fn a_store_that_cannot_be_used_is_said_once_and_ends_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::start();
    let path = scene.storage.path();
    let mode = |mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o777);
    let sites = format!("{}site \"*\" {{ respond 418 }}\n", scene.acme(NAME));
    let proxy = Proxy::start(&scene.config(&sites));
    let told = "chmod go=";
    let said = eventually(LONG, || proxy.stderr().contains(told));
    assert!(said, "{}", proxy.stderr());
    assert_eq!(proxy.connect().ask(get("/", "")).status, 418);
    mode(0o700);
    comes(&proxy, &scene.client(), scene.port, NAME);
    assert_eq!(proxy.stderr().matches(told).count(), 1);
    proxy.assert_sane();
}

/// A file system that is really full: nothing is ordered that could not be written down, and what is there stays.
#[test]
fn a_full_disk() {
    let scene = Scene::start();
    let at = scene.storage.path().to_str().unwrap().to_owned();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k,mode=700", "none", &at])
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("not tried: only root may mount a file system");
        return;
    }
    let _mounted = Mounted(at);
    let ballast = scene.storage.path().join("ballast");
    let fill = || {
        let _ = fs::write(&ballast, vec![0; 1 << 16]);
    };
    fill();
    let sites = format!("{}site \"*\" {{ respond 418 }}\n", scene.acme(NAME));
    let mut proxy = Proxy::start(&scene.config(&sites));
    // Both are said: that nothing can be ordered, and that this cannot be remembered. Were it, the pause would outlive us.
    for told in ["make room there", "what failed cannot be remembered"] {
        let said = eventually(LONG, || proxy.stderr().contains(told));
        assert!(said, "{}", proxy.stderr());
    }
    assert_eq!(proxy.connect().ask(get("/", "")).status, 418);
    fs::remove_file(&ballast).unwrap();
    proxy.stop();
    let proxy = Proxy::start(&scene.config(&sites));
    let facts = comes(&proxy, &scene.client(), scene.port, NAME);
    // Full again: what serves stays, on disk and in handshakes.
    fill();
    let again = served(&scene.client(), scene.port, NAME).unwrap();
    assert_eq!(again.certificate, facts.certificate);
    let stored = fs::read(
        scene
            .storage
            .path()
            .join(format!("certificates/{NAME}.json")),
    )
    .unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&stored).is_ok());
    proxy.assert_sane();
}

struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}
