//! What changes about TLS while it serves: certificate files, configuration, the process itself. And what goes with it: the
//! redirect to HTTPS, and browsers that remember it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::tls::{Ca, Pair, Tls, Versions, replace};
use narthex_e2e::kit::{PATIENCE, eventually};

narthex_e2e::with_1_2_and_8_workers! {
    sessions_are_resumed_everywhere,
}

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

fn text(origin: &Origin, before: &str, site: &str) -> String {
    let config = Proxy::config(
        "tls",
        &format!(
            "listen \"127.0.0.1:@PORT2@\" {{ redirect-to-https }}\nsite \"a.test\" {{ tls cert=\"@DIR@/a.pem\" key=\"@DIR@/a.key\"\n{site}\nproxy \"{}\" }}",
            origin.place()
        ),
    );
    config.replacen("version 1\n", &format!("version 1\n{before}\n"), 1)
}

struct Https {
    proxy: Proxy,
    origin: Origin,
    ca: Ca,
}

impl Https {
    fn start(before: &str, site: &str) -> Self {
        let (ca, origin) = (Ca::new("root"), Origin::start());
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().to_owned();
        ca.leaf(&["a.test"]).write(&own, "a");
        let proxy = Proxy::start_in(dir, &text(&origin, before, site));
        let https = Self { proxy, origin, ca };
        assert_eq!(https.shown(&Tls::of(&https.ca)).0, 200);
        https
    }

    /// Status and certificate of a new connection.
    fn shown(&self, tls: &Tls) -> (u16, Vec<u8>) {
        let (mut client, facts) = tls.connect(self.proxy.addr(), "a.test").unwrap();
        (ask(&mut client), facts.certificate)
    }
}

fn ask(client: &mut Client) -> u16 {
    client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status
}

#[test]
fn files_are_picked_up_when_they_change() {
    let https = Https::start("", "");
    let tls = Tls::of(&https.ca);
    let (mut kept, _) = tls.connect(https.proxy.addr(), "a.test").unwrap();
    let (_, first) = https.shown(&tls);
    // The certificate comes before its key: what does not fit together is not used.
    let new = https.ca.leaf(&["a.test"]);
    replace(&https.proxy.dir().join("a.pem"), &new.cert, 0o644);
    let complains = || https.proxy.stderr().contains("cannot be used");
    assert!(eventually(PATIENCE, complains), "{}", https.proxy.stderr());
    assert_eq!(https.shown(&tls), (200, first.clone()));
    replace(&https.proxy.dir().join("a.key"), &new.key, 0o600);
    let fresh = || Tls::of(&https.ca);
    assert!(eventually(PATIENCE, || https.shown(&fresh()).1 != first));
    assert_eq!(ask(&mut kept), 200, "who is there stays");
    // Gone, or open to everybody: the one that was loaded stays.
    let second = https.shown(&fresh()).1;
    std::fs::remove_file(https.proxy.dir().join("a.key")).unwrap();
    let told = || https.proxy.stderr().matches("cannot be used").count();
    assert!(eventually(PATIENCE, || told() >= 2));
    assert_eq!(https.shown(&fresh()), (200, second));
}

#[test]
fn a_reload_reads_files_and_refuses_what_is_wrong() {
    let https = Https::start("", "");
    let fresh = || Tls::of(&https.ca);
    let first = https.shown(&fresh()).1;
    let other = https.ca.leaf(&["a.test"]);
    let dir = https.proxy.dir().to_owned();
    let same = text(&https.origin, "", "");
    let refused = |what: &str, word: &str| {
        let out = https.proxy.reload(&same);
        let said = String::from_utf8_lossy(&out.stderr).into_owned()
            + &String::from_utf8_lossy(&out.stdout);
        assert!(
            !out.status.success() && said.contains(word),
            "{what}: {said}"
        );
        assert_eq!(https.shown(&fresh()), (200, first.clone()), "{what}");
    };
    replace(&dir.join("a.key"), &other.key, 0o600);
    refused("another key", "does not belong");
    replace(&dir.join("a.key"), &other.key, 0o644);
    refused("everybody reads the key", "chmod 600");
    replace(&dir.join("a.key"), "rubbish", 0o600);
    refused("no key", "a.key");
    other.write(&dir, "a");
    https.proxy.reload_ok(&same);
    assert_ne!(https.shown(&fresh()).1, first);
}

fn sessions_are_resumed_everywhere() {
    let https = Https::start("", "");
    for versions in [Versions::Only12, Versions::Only13] {
        let tls = Tls::new(&[&https.ca], versions, &[], None);
        let resumed = || {
            let (mut client, facts) = tls.connect(https.proxy.addr(), "a.test").unwrap();
            assert_eq!(ask(&mut client), 200);
            facts.resumed
        };
        assert!(!resumed());
        for n in 0..16 {
            assert!(resumed(), "{versions:?} {n}");
        }
        https
            .proxy
            .reload_ok(&text(&https.origin, "", "merge-slashes"));
        assert!(resumed(), "{versions:?} after a reload");
    }
}

#[test]
fn an_upgrade_keeps_sessions() {
    for before in ["", "tls-tickets secret=\"file:@DIR@/secret\" rotate=\"1h\""] {
        let (ca, origin) = (Ca::new("root"), Origin::start());
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().to_owned();
        ca.leaf(&["a.test"]).write(&own, "a");
        replace(&own.join("secret"), SECRET, 0o600);
        let mut proxy = Proxy::start_in(dir, &text(&origin, before, ""));
        let tls = Tls::of(&ca);
        let resumed = |proxy: &Proxy| {
            let (mut client, facts) = tls.connect(proxy.addr(), "a.test").unwrap();
            assert_eq!(ask(&mut client), 200);
            facts.resumed
        };
        assert!(!resumed(&proxy));
        assert!(resumed(&proxy));
        let old = proxy.upgrade_ok();
        assert_ne!(old, proxy.pid());
        assert!(resumed(&proxy), "{before:?}");
        proxy.await_end_of(old);
        assert!(resumed(&proxy), "{before:?}");
    }
}

#[test]
fn two_proxies_with_one_secret_share_sessions() {
    let tickets = "tls-tickets secret=\"file:@DIR@/secret\"";
    let ca = Ca::new("root");
    let origin = Origin::start();
    let pair: Pair = ca.leaf(&["a.test"]);
    let start = |secret: &str| {
        let dir = tempfile::tempdir().unwrap();
        pair.write(dir.path(), "a");
        replace(&dir.path().join("secret"), secret, 0o600);
        Proxy::start_in(dir, &text(&origin, tickets, ""))
    };
    let (one, two, stranger) = (
        start(SECRET),
        start(SECRET),
        start(&SECRET.replace('0', "1")),
    );
    let tls = Tls::of(&ca);
    let resumed = |proxy: &Proxy| {
        let (mut client, facts) = tls.connect(proxy.addr(), "a.test").unwrap();
        assert_eq!(ask(&mut client), 200);
        facts.resumed
    };
    assert_eq!(
        [
            resumed(&one),
            resumed(&two),
            resumed(&one),
            resumed(&stranger)
        ],
        [false, true, true, false]
    );
}

#[test]
fn plain_requests_are_redirected_and_browsers_remember() {
    let https = Https::start(
        "",
        "hsts max-age=\"30d\" subdomains=#true; route path=\"/own\" { respond 200 \"x\" }",
    );
    let mut plain = Client::connect(https.proxy.addr2());
    let answer = plain.ask("GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(answer.status, 308);
    let location = |port: &str| Some(format!("https://a.test{port}/x?y=1"));
    let tls = https.proxy.addr().port();
    assert_eq!(answer.fields.get("location"), location(&format!(":{tls}")));
    assert_eq!(answer.fields.get("strict-transport-security"), None);
    let (mut client, _) = Tls::of(&https.ca)
        .connect(https.proxy.addr(), "a.test")
        .unwrap();
    for path in ["/", "/own", "/%2e%2e%00"] {
        let answer = client.ask(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let remembered = answer.fields.get("strict-transport-security");
        let wanted = "max-age=2592000; includeSubDomains".to_owned();
        assert_eq!(remembered, Some(wanted), "{path}: {}", answer.status);
    }
    // Where ports are mapped somebody has to say what clients see.
    for (port, shown) in [(443, ""), (8443, ":8443")] {
        let written = format!("redirect-to-https port={port}");
        let text = self::text(&https.origin, "", "").replace("redirect-to-https", &written);
        https.proxy.reload_ok(&text);
        let mut plain = Client::connect(https.proxy.addr2());
        let answer = plain.ask("GET /x?y=1 HTTP/1.1\r\nHost: a.test:80\r\n\r\n");
        assert_eq!(answer.fields.get("location"), location(shown));
    }
}
