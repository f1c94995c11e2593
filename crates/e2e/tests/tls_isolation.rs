//! Who must show a certificate shows it: not over another site's connection, not by a resumed session, not after a reload.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::tls::{Ca, Pair, Tls, Versions, replace};
use narthex_e2e::kit::{PATIENCE, eventually};

/// `open.test` asks nobody, `mtls.test` asks everybody, `other.test` asks everybody for a certificate of the same CA,
/// `*.wild.test` asks everybody, `maybe.test` asks and goes on without.
struct Sites {
    proxy: Proxy,
    origin: Origin,
    ca: Ca,
    clients: Ca,
}

const NAMES: [&str; 5] = [
    "open.test",
    "mtls.test",
    "other.test",
    "wild.test",
    "maybe.test",
];

fn text(origin: &Origin, closed: bool, crl: &str) -> String {
    let site = |host: &str, file: &str, block: &str| {
        format!(
            "site \"{host}\" {{ tls cert=\"{file}.pem\" key=\"{file}.key\" {block}; proxy \"{}\" }}\n",
            origin.place()
        )
    };
    let must = format!("{{ client-certificate \"required\" ca=\"clients.pem\" {crl} }}");
    let may = "{ client-certificate \"optional\" ca=\"clients.pem\" }";
    let mtls = if closed { must.as_str() } else { "" };
    Proxy::config(
        "tls",
        &[
            site("open.test", "open.test", ""),
            site("mtls.test", "mtls.test", mtls),
            site("other.test", "other.test", mtls),
            site("*.wild.test", "wild.test", mtls),
            site("maybe.test", "maybe.test", may).replacen(
                "; proxy",
                "\nheader request { set \"X-Who\" \"{tls.client.subject} {tls.version}\" }\nproxy",
                1,
            ),
        ]
        .concat(),
    )
}

impl Sites {
    fn start(closed: bool) -> Self {
        let (ca, clients, origin) = (Ca::new("root"), Ca::new("clients"), Origin::start());
        let dir = tempfile::tempdir().unwrap();
        for name in NAMES {
            let names = [name, &format!("*.{name}")];
            ca.leaf(&names).write(dir.path(), name);
        }
        replace(&dir.path().join("clients.pem"), clients.pem(), 0o644);
        let proxy = Proxy::start_in(dir, &text(&origin, closed, ""));
        let sites = Self {
            proxy,
            origin,
            ca,
            clients,
        };
        // The sockets are there before the files are read: it must serve before a test touches those.
        let tls = sites.tls(Versions::Both, None);
        let (mut client, _) = tls.connect(sites.addr(), "open.test").unwrap();
        assert_eq!(ask(&mut client, "open.test"), 200);
        sites.origin.take(1);
        sites
    }

    fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }

    fn tls(&self, versions: Versions, who: Option<&Pair>) -> Tls {
        Tls::new(&[&self.ca], versions, &[], who)
    }
}

/// What comes of a request for this host; 0 if there is no answer.
fn ask(client: &mut Client, host: &str) -> u16 {
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.read_response("GET").map_or(0, |r| r.status)
}

const HOSTS: [&str; 10] = [
    "mtls.test",
    "MTLS.test",
    "mtls.test.",
    "mtls.test:443",
    "mtls.test.:8443",
    "other.test",
    "a.wild.test",
    "A.b.WILD.test.",
    "a.wild.test:1",
    "%6dtls.test",
];

#[test]
fn nobody_gets_in_over_another_sites_connection() {
    let sites = Sites::start(true);
    for versions in [Versions::Only12, Versions::Only13] {
        for sni in ["open.test", "OPEN.test", "maybe.test"] {
            for host in HOSTS {
                let tls = sites.tls(versions, None);
                let (mut client, _) = tls.connect(sites.addr(), sni).unwrap();
                let status = ask(&mut client, host);
                assert!(
                    status == 421 || status == 400,
                    "{versions:?} {sni} -> {host}: {status}"
                );
            }
            // Nor on the second request of a good connection.
            let tls = sites.tls(versions, None);
            let (mut client, _) = tls.connect(sites.addr(), sni).unwrap();
            assert_eq!(ask(&mut client, sni), 200);
            assert_eq!(ask(&mut client, "mtls.test"), 421);
        }
        // The site itself, without a certificate, and with a foreign one.
        let foreign = Ca::new("foreign").leaf(&["eve"]);
        for who in [None, Some(&foreign)] {
            for sni in ["mtls.test", "other.test", "x.wild.test"] {
                let status = match sites.tls(versions, who).connect(sites.addr(), sni) {
                    Ok((mut client, _)) => ask(&mut client, sni),
                    Err(_) => 0,
                };
                assert_eq!(status, 0, "{versions:?} {sni}");
            }
        }
        // With one: its own site, and no other that asks, although the policy is the same.
        let alice = sites.clients.leaf(&["alice"]);
        let tls = sites.tls(versions, Some(&alice));
        for (host, status) in [("mtls.test", 200), ("MTLS.TEST.", 200), ("other.test", 421)] {
            let (mut client, _) = tls.connect(sites.addr(), "mtls.test").unwrap();
            assert_eq!(ask(&mut client, host), status, "{versions:?} {host}");
        }
        let (mut client, _) = tls.connect(sites.addr(), "mtls.test").unwrap();
        assert_eq!(ask(&mut client, "open.test"), 421);
        let (mut client, _) = tls.connect(sites.addr(), "x.wild.test").unwrap();
        assert_eq!(ask(&mut client, "y.wild.test"), 200, "one site, one policy");
    }
    // By address: no name is sent, and there is no site for every host. The same by HTTP/2.
    let here = format!("::{}", sites.addr());
    for (url, version, host, status) in [
        ("https://127.0.0.1/", "--http1.1", "mtls.test", "421"),
        ("https://127.0.0.1/", "--http2", "mtls.test", "421"),
        ("https://open.test/", "--http2", "MTLS.test", "421"),
        ("https://open.test/", "--http2", "a.wild.test", "421"),
        ("https://open.test/", "--http2", "open.test", "200"),
    ] {
        let said = std::process::Command::new("curl")
            .args(["-sk", version, "-o", "/dev/null", "-w", "%{http_code}"])
            .args(["--connect-to", &here, "-H", &format!("Host: {host}"), url])
            .output()
            .expect("curl is there");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(said, status, "{url} {version} {host}");
    }
}

#[test]
fn a_session_of_one_policy_opens_nothing_in_another() {
    let sites = Sites::start(true);
    let alice = sites.clients.leaf(&["alice"]);
    for versions in [Versions::Only12, Versions::Only13] {
        let tls = sites.tls(versions, Some(&alice));
        let (mut client, first) = tls.connect(sites.addr(), "mtls.test").unwrap();
        assert_eq!(ask(&mut client, "mtls.test"), 200);
        let (mut client, again) = tls.connect(sites.addr(), "mtls.test").unwrap();
        assert_eq!(
            (first.resumed, again.resumed),
            (false, true),
            "{versions:?}"
        );
        assert_eq!(ask(&mut client, "mtls.test"), 200);
        assert_eq!(ask(&mut client, "other.test"), 421);
    }
    let seen = sites.origin.take(4);
    assert!(seen.iter().all(|s| s.header("client-cert").is_some()));
}

#[test]
fn a_reload_that_closes_a_site_closes_it_for_everybody() {
    let sites = Sites::start(false);
    for versions in [Versions::Only12, Versions::Only13] {
        sites.proxy.reload_ok(&text(&sites.origin, false, ""));
        let tls = sites.tls(versions, None);
        let (mut old, _) = tls.connect(sites.addr(), "mtls.test").unwrap();
        assert_eq!(ask(&mut old, "mtls.test"), 200);
        let (mut resumed, facts) = tls.connect(sites.addr(), "mtls.test").unwrap();
        assert!(facts.resumed, "{versions:?}");
        assert_eq!(ask(&mut resumed, "mtls.test"), 200);
        sites.proxy.reload_ok(&text(&sites.origin, true, ""));
        sites.origin.take(2);
        let before = sites.origin.seen().len();
        for client in [&mut old, &mut resumed] {
            assert_eq!(ask(client, "mtls.test"), 421, "{versions:?}");
        }
        // The session from before, and a new one.
        for _ in 0..2 {
            let status = match tls.connect(sites.addr(), "mtls.test") {
                Ok((mut client, _)) => ask(&mut client, "mtls.test"),
                Err(_) => 0,
            };
            assert_eq!(status, 0, "{versions:?}");
        }
        assert_eq!(sites.origin.seen().len(), before, "nothing went through");
    }
}

#[test]
fn revoked_is_refused() {
    let sites = Sites::start(true);
    let (alice, eve) = (sites.clients.leaf(&["alice"]), sites.clients.leaf(&["eve"]));
    replace(
        &sites.proxy.dir().join("crl.pem"),
        &sites.clients.crl(&[&eve]),
        0o644,
    );
    let crl = "crl=\"crl.pem\"";
    sites.proxy.reload_ok(&text(&sites.origin, true, crl));
    for (who, wanted) in [(&alice, 200), (&eve, 0)] {
        let tls = sites.tls(Versions::Both, Some(who));
        let status = match tls.connect(sites.addr(), "mtls.test") {
            Ok((mut client, _)) => ask(&mut client, "mtls.test"),
            Err(_) => 0,
        };
        assert_eq!(status, wanted);
    }
}

/// Whoever was revoked since the list has ended is not on it: nobody of its authority comes in, and the log says why.
#[test]
fn a_list_that_has_ended_lets_nobody_in() {
    let sites = Sites::start(true);
    let alice = sites.clients.leaf(&["alice"]);
    let list = sites.proxy.dir().join("crl.pem");
    let crl = "crl=\"crl.pem\"";
    let serve = |until, mode: &str| {
        replace(&list, &sites.clients.crl_until(&[], until), 0o644);
        let text = text(&sites.origin, true, crl).replace("\"required\"", mode);
        sites.proxy.reload_ok(&text);
        let tls = sites.tls(Versions::Both, Some(&alice));
        match tls.connect(sites.addr(), "mtls.test") {
            Ok((mut client, _)) => ask(&mut client, "mtls.test"),
            Err(_) => 0,
        }
    };
    let told = "a list of revoked certificates (`crl=`) has ended";
    assert_eq!(serve(1, "\"required\""), 200);
    assert!(!sites.proxy.stderr().contains(told));
    for mode in ["\"required\"", "\"optional\""] {
        assert_eq!(serve(-1, mode), 0, "{mode}");
    }
    let said = eventually(PATIENCE, || sites.proxy.stderr().contains(told));
    assert!(said, "{}", sites.proxy.stderr());
    assert_eq!(sites.proxy.stderr().matches(told).count(), 1);
    // The next one is enough.
    assert_eq!(serve(1, "\"required\""), 200);
}

#[test]
fn the_origin_hears_of_a_certificate_from_us_alone() {
    let sites = Sites::start(true);
    let lies = "Client-Cert: :AAAA:\r\nX-Forwarded-Client-Cert: Hash=1\r\nX-SSL-Client-Verify: SUCCESS\r\nX-Mine: 1\r\n";
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n{lies}\r\n");
    let alice = sites.clients.leaf(&["alice"]);
    let with = sites.tls(Versions::Both, Some(&alice));
    let without = sites.tls(Versions::Both, None);
    for (tls, sni, told) in [
        (&without, "open.test", false),
        (&without, "maybe.test", false),
        (&with, "maybe.test", true),
        (&with, "mtls.test", true),
    ] {
        let (mut client, _) = tls.connect(sites.addr(), sni).unwrap();
        assert_eq!(client.ask(request(sni)).status, 200);
        let seen = sites.origin.seen().pop().unwrap();
        let certificate = seen.header("client-cert");
        assert_eq!(certificate.is_some(), told, "{sni}");
        assert!(certificate.is_none_or(|c| c.starts_with(":MII") && c.ends_with(':')));
        assert_eq!(seen.header("x-forwarded-client-cert"), None);
        assert_eq!(seen.header("x-ssl-client-verify"), None);
        assert_eq!(seen.header("x-mine").as_deref(), Some("1"));
        if sni == "maybe.test" {
            let who = if told { "CN=alice TLSv1.3" } else { "TLSv1.3" };
            let said = seen.header("x-who").unwrap();
            assert_eq!(said.trim(), who);
        }
    }
    let log = sites.proxy.access_log_of(5);
    // Each worker writes its own: in whatever order.
    let named = log.iter().filter(|l| l["tls"]["client"] == "CN=alice");
    assert_eq!(named.count(), 2);
}

#[test]
fn a_ca_that_cannot_be_read_opens_nothing() {
    let sites = Sites::start(true);
    for bundle in ["", "no certificate\n"] {
        replace(&sites.proxy.dir().join("clients.pem"), bundle, 0o644);
        let refused = sites.proxy.reload(&text(&sites.origin, true, ""));
        assert!(!refused.status.success(), "an empty CA file must not pass");
        let tls = sites.tls(Versions::Both, None);
        let status = match tls.connect(sites.addr(), "mtls.test") {
            Ok((mut client, _)) => ask(&mut client, "mtls.test"),
            Err(_) => 0,
        };
        assert_eq!(status, 0);
    }
}

/// Who a client has proved to be decides its route, over HTTP/1 and HTTP/2, by every spelling of what is compared.
#[test]
fn routes_by_client_certificates() {
    let (ca, clients) = (Ca::new("root"), Ca::new("clients"));
    let dir = tempfile::tempdir().unwrap();
    ca.leaf(&["maybe.test"]).write(dir.path(), "maybe");
    replace(&dir.path().join("clients.pem"), clients.pem(), 0o644);
    let proxy = Proxy::start_in(
        dir,
        &Proxy::config(
            "tls",
            "site \"maybe.test\" {\n\
             tls cert=\"maybe.pem\" key=\"maybe.key\" { client-certificate \"optional\" ca=\"clients.pem\" }\n\
             route { when { client-certificate \"subject\" regex=#\".*CN=alice.*\"# }; respond 200 \"alice\" }\n\
             route { when { client-certificate }; respond 200 \"known\" }\n\
             route { when { client-certificate \"fingerprint\" regex=#\".*\"# }; respond 200 \"never\" }\n\
             route { respond 200 \"nobody\" }\n}",
        ),
    );
    let (alice, bob) = (clients.leaf(&["alice"]), clients.leaf(&["bob"]));
    for (who, expected) in [
        (Some(&alice), "alice"),
        (Some(&bob), "known"),
        (None, "nobody"),
    ] {
        for versions in [Versions::Only12, Versions::Only13] {
            let tls = Tls::new(&[&ca], versions, &[], who);
            let (mut client, _) = tls.connect(proxy.addr(), "maybe.test").unwrap();
            let r = client.ask("GET / HTTP/1.1\r\nHost: maybe.test\r\n\r\n");
            assert_eq!((r.status, r.text().as_str()), (200, expected));
        }
    }
}
