//! TLS from clients: certificates by name, versions, resumption, and what the origin gets to know.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;

use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::{Proxy, say};
use narthex_e2e::kit::tls::{Ca, Kind, Pair, Tls, Versions, replace};

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

    fn status(&self, tls: &Tls, name: &str) -> u16 {
        let (mut client, _) = tls.connect(self.proxy.addr(), name).unwrap();
        client.ask(host(name)).status
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
    let (mut client, facts) = tls.connect(https.proxy.addr(), "a.test").unwrap();
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
}
