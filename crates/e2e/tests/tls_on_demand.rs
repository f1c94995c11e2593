//! Certificates at the first handshake (TL-11): who gets one, who does not, and what a crowd of strangers costs the others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::eventually;
use narthex_e2e::kit::found::LONG;
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::pebble::{Asked, Pebble};
use narthex_e2e::kit::proxy::{Proxy, free_port, say};
use narthex_e2e::kit::tls::{Ca, Facts, Tls, Versions};
use rustix::process::Signal;

const ZONE: &str = "customers.narthex-proxy.net";

/// Says which names are allowed, and remembers which it was asked for.
#[derive(Clone, Default)]
struct Permission {
    allowed: Arc<Mutex<BTreeSet<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Permission {
    /// Listens there until the test ends. `silent`: takes questions and never answers.
    fn listen(&self, port: u16, silent: bool) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let this = self.clone();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                if silent {
                    kept.push(stream);
                } else {
                    this.answer(stream);
                }
            }
        });
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let name = head.split("domain=").nth(1).unwrap_or_default();
        let name = name.split(' ').next().unwrap_or_default().to_owned();
        let yes = self.allowed.lock().unwrap().contains(&name);
        self.asked.lock().unwrap().push(name);
        let status = if yes { "200 OK" } else { "403 Forbidden" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes());
    }

    fn allow(&self, name: &str) {
        self.allowed.lock().unwrap().insert(name.to_owned());
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// An authority, an origin, somebody who allows names, and a site with a certificate from a file.
struct Scene {
    pebble: Pebble,
    origin: Origin,
    storage: tempfile::TempDir,
    permission: Permission,
    /// Where names are asked for.
    ask: u16,
    /// Of the site with a file.
    ca: Ca,
}

impl Scene {
    fn start() -> Self {
        let scene = Self::unanswered();
        scene.permission.listen(scene.ask, false);
        scene
    }

    /// Nobody listens where names are asked for.
    fn unanswered() -> Self {
        Self {
            pebble: Pebble::start(Asked::default()),
            origin: Origin::start(),
            storage: tempfile::tempdir().unwrap(),
            permission: Permission::default(),
            ask: free_port(),
            ca: Ca::new("files"),
        }
    }

    /// What `on-demand` says when names are asked for.
    fn asking(&self) -> String {
        format!("ask=\"http://127.0.0.1:{}/allowed\"", self.ask)
    }

    fn config(&self, on_demand: &str, hosts: &str) -> String {
        let (http, tls) = self.pebble.ports();
        let files = self.storage.path();
        self.ca.leaf(&["victim.test"]).write(files, "victim");
        let origin = self.origin.place();
        let dir = files.display();
        Proxy::config(
            "",
            &format!(
                "listen \"127.0.0.1:{http}\"\nlisten \"127.0.0.1:{tls}\" {{ tls {{ pending 4 }} }}\n\
                 acme {{\nemail \"ops@narthex-proxy.net\"\nstorage \"{dir}\"\nca \"{}\" roots=\"{}\"\n\
                 on-demand {on_demand}\n}}\n\
                 site \"victim.test\" {{ tls cert=\"{dir}/victim.pem\" key=\"{dir}/victim.key\"; proxy \"{origin}\" }}\n\
                 site {hosts} {{ tls \"acme\" on-demand=#true; proxy \"{origin}\" }}\n",
                self.pebble.directory(),
                self.pebble.roots().display(),
            ),
        )
    }

    fn below_zone(&self, on_demand: &str) -> String {
        self.config(on_demand, &format!("\"*.{ZONE}\""))
    }

    fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.pebble.ports().1).into()
    }

    /// A client that believes the authority.
    fn client(&self) -> Tls {
        Tls::believing(&[&self.pebble.root()], Versions::Both, &[], None)
    }

    fn serves(&self, tls: &Tls, name: &str) -> Option<Facts> {
        served(tls, self.addr(), name)
    }

    fn victim_is_served(&self) -> bool {
        let tls = Tls::new(&[&self.ca], Versions::Both, &[], None);
        served(&tls, self.addr(), "victim.test").is_some()
    }
}

/// A request over TLS that is answered, where the certificate is one that this client believes.
fn served(tls: &Tls, addr: SocketAddr, name: &str) -> Option<Facts> {
    let (mut client, facts) = tls.connect(addr, name).ok()?;
    let request = get("/", "").replacen("Host: a\r\n", &format!("Host: {name}\r\n"), 1);
    (client.ask(request).status == 200).then_some(facts)
}

fn certs(proxy: &Proxy) -> String {
    let admin = format!("unix:{}", proxy.dir().join("admin.sock").display());
    let out = proxy.command(&["certs", "--admin", &admin]);
    assert!(out.status.success(), "{}", say(&out));
    String::from_utf8(out.stdout).unwrap()
}

fn counted(proxy: &Proxy, result: &str) -> u64 {
    let metrics = proxy.metrics();
    let line = format!("narthex_certificate_demands_total{{result=\"{result}\"}} ");
    let line = metrics.lines().find_map(|l| l.strip_prefix(&line));
    line.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn an_allowed_name_has_its_certificate_at_its_first_handshake() {
    let mut scene = Scene::start();
    let [shop, other] = ["shop", "other"].map(|name| format!("{name}.{ZONE}"));
    let deep = format!("a.b.{ZONE}");
    for name in [&shop, &deep] {
        scene.permission.allow(name);
    }
    let text = scene.below_zone(&scene.asking());
    let mut proxy = Proxy::start(&text);
    let tls = scene.client();
    // The very first handshake waits for it, and so do those that come meanwhile: there is one order.
    let first = std::thread::scope(|scope| {
        let all = [(); 4].map(|()| scope.spawn(|| scene.serves(&tls, &shop)));
        all.map(|one| one.join().unwrap())
    });
    let first = first.map(|facts| facts.unwrap_or_else(|| panic!("{}", proxy.stderr())));
    assert!(first.iter().all(|f| f.certificate == first[0].certificate));
    assert_eq!(scene.permission.asked(), std::slice::from_ref(&shop));
    // A wildcard of sites has any number of labels.
    assert!(scene.serves(&tls, &deep).is_some(), "{}", proxy.stderr());

    // Who is not allowed is refused, and asked for once; who could have no certificate is not asked for at all.
    for _ in 0..3 {
        assert!(scene.serves(&tls, &other).is_none());
    }
    for junk in [
        format!("a_b.{ZONE}"),
        format!("{}.{ZONE}", "x.".repeat(80).trim_end_matches('.')),
    ] {
        let _ = scene.serves(&tls, &junk);
    }
    let asked = scene.permission.asked();
    assert_eq!(
        asked.iter().filter(|name| **name == other).count(),
        1,
        "{asked:?}"
    );
    assert!(!asked.iter().any(|name| name.contains('_')), "{asked:?}");
    assert!(counted(&proxy, "not-allowed") >= 3 && counted(&proxy, "obtained") == 2);
    assert!(certs(&proxy).contains(&shop) && !certs(&proxy).contains(&other));
    assert!(scene.victim_is_served());

    // A restart asks nobody and has it from its first handshake on; so has a reload.
    proxy.signal(Signal::KILL);
    proxy.wait(LONG);
    drop(proxy);
    scene.pebble.kill();
    let before = scene.permission.asked().len();
    let proxy = Proxy::start(&text);
    let now = scene
        .serves(&tls, &shop)
        .expect("from the first handshake on");
    assert_eq!(now.certificate, first[0].certificate);
    proxy.reload_ok(&text.replace("pending 4", "pending 5"));
    assert!(scene.serves(&tls, &shop).is_some());
    assert_eq!(scene.permission.asked().len(), before);
    proxy.assert_sane();
}

#[test]
fn every_host_by_a_list_of_names() {
    let scene = Scene::start();
    let text = scene.config(&format!("\"*.{ZONE}\""), "\"*\"");
    let proxy = Proxy::start(&text);
    let tls = scene.client();
    let name = format!("one.{ZONE}");
    assert!(scene.serves(&tls, &name).is_some(), "{}", proxy.stderr());
    // Everybody else is refused, and not shown the certificate of another site.
    let believing = Tls::new(&[&scene.ca], Versions::Both, &[], None);
    for name in ["two.narthex-proxy.net", ZONE, "localhost", "x.internal"] {
        let refused = believing.connect(scene.addr(), name).err().unwrap();
        let alert = refused.to_string().to_lowercase();
        assert!(alert.contains("unrecogni"), "{name}: {alert}");
    }
    assert!(scene.permission.asked().is_empty());
    assert!(scene.victim_is_served());

    // A name that the configuration does not allow any more is refused. What is stored of it stays for a while: reloads err.
    let before = scene.serves(&tls, &name).unwrap();
    let other = "on-demand \"x.narthex-proxy.net\"";
    proxy.reload_ok(&text.replace(&format!("on-demand \"*.{ZONE}\""), other));
    let gone = eventually(LONG, || scene.serves(&tls, &name).is_none());
    assert!(gone, "{}", proxy.stderr());
    assert!(!certs(&proxy).contains(&name));
    proxy.reload_ok(&text);
    let mut now = None;
    let back = eventually(LONG, || {
        now = scene.serves(&tls, &name);
        now.is_some()
    });
    assert!(back, "{}", proxy.stderr());
    assert_eq!(now.unwrap().certificate, before.certificate);
    proxy.assert_sane();
}

#[test]
fn whoever_allows_names_is_away() {
    let scene = Scene::unanswered();
    let name = format!("one.{ZONE}");
    scene.permission.allow(&name);
    let proxy = Proxy::start(&scene.below_zone(&scene.asking()));
    let tls = scene.client();
    assert!(scene.serves(&tls, &name).is_none());
    let told = "whoever allows names does not answer";
    assert!(
        eventually(LONG, || proxy.stderr().contains(told)),
        "{}",
        proxy.stderr()
    );
    for _ in 0..5 {
        assert!(scene.serves(&tls, &name).is_none());
    }
    assert_eq!(
        proxy.stderr().matches(told).count(),
        1,
        "{}",
        proxy.stderr()
    );
    assert!(scene.victim_is_served());
    // It is no refusal: once somebody is there the name has its certificate.
    scene.permission.listen(scene.ask, false);
    let came = eventually(LONG, || scene.serves(&tls, &name).is_some());
    assert!(came, "{}", proxy.stderr());
    proxy.assert_sane();
}

#[test]
fn budgets_are_kept_and_survive_a_restart() {
    let scene = Scene::start();
    let names = [1, 2, 3].map(|n| format!("n{n}.{ZONE}"));
    let text = scene.below_zone(&format!("\"*.{ZONE}\" per-hour=2"));
    let mut proxy = Proxy::start(&text);
    let tls = scene.client();
    for name in &names[..2] {
        assert!(scene.serves(&tls, name).is_some(), "{}", proxy.stderr());
    }
    assert!(scene.serves(&tls, &names[2]).is_none());
    assert_eq!(counted(&proxy, "rate"), 1);
    assert!(
        proxy
            .stderr()
            .contains("`per-hour` of `on-demand` is spent")
    );
    proxy.stop();
    drop(proxy);
    let proxy = Proxy::start(&text);
    assert!(scene.serves(&tls, &names[2]).is_none());
    // Those who have one are served.
    assert!(scene.serves(&tls, &names[0]).is_some());
    // One client's share.
    proxy.reload_ok(&scene.below_zone(&format!("\"*.{ZONE}\" per-client=1")));
    let (third, fourth) = (&names[2], format!("n4.{ZONE}"));
    let came = eventually(LONG, || scene.serves(&tls, third).is_some());
    assert!(came, "{}", proxy.stderr());
    assert!(scene.serves(&tls, &fourth).is_none());
    assert_eq!(counted(&proxy, "client-rate"), 1);
    proxy.assert_sane();
}

#[test]
fn a_failure_is_remembered() {
    let mut scene = Scene::start();
    let name = format!("one.{ZONE}");
    let text = scene.below_zone(&format!("\"*.{ZONE}\""));
    let tls = scene.client();
    scene.pebble.kill();
    let mut proxy = Proxy::start(&text);
    assert!(scene.serves(&tls, &name).is_none());
    // From now on nobody waits: the next attempt is a minute away.
    for _ in 0..3 {
        assert!(scene.serves(&tls, &name).is_none());
    }
    assert!(counted(&proxy, "failed") >= 3, "{}", proxy.metrics());
    let told = certs(&proxy);
    assert!(told.contains("failed     1 times"), "{told}");
    // A restart does not forget it.
    proxy.stop();
    drop(proxy);
    let proxy = Proxy::start(&text);
    assert!(scene.serves(&tls, &name).is_none());
    assert!(
        certs(&proxy).contains("failed     1 times"),
        "{}",
        certs(&proxy)
    );
    assert!(scene.victim_is_served());
    proxy.assert_sane();
}

/// Strangers ask for names that nobody answers for, on a listener where four handshakes may be under way on each worker.
#[test]
fn a_flood_of_unknown_names_takes_nothing_from_a_site_that_is_known() {
    let scene = Scene::unanswered();
    scene.permission.listen(scene.ask, true);
    let text = scene.below_zone(&scene.asking());
    let proxy = Proxy::start(&text);
    let strangers: Vec<Tls> = (0..8)
        .map(|_| Tls::new(&[&scene.ca], Versions::Only13, &[], None))
        .collect();
    let waiting = || {
        let metrics = proxy.metrics();
        let line = metrics
            .lines()
            .find_map(|l| l.strip_prefix("narthex_tls_handshakes_waiting "));
        line.map_or(0.0, |count| count.parse::<f64>().unwrap())
    };
    std::thread::scope(|scope| {
        let addr = scene.addr();
        let mut flood = Vec::new();
        // One after the other, until more wait than may be under way on both workers; then a crowd.
        for n in 0..40_u32 {
            let tls = &strangers[n as usize % strangers.len()];
            flood.push(scope.spawn(move || served(tls, addr, &format!("s{n}.{ZONE}")).is_some()));
            let waits = n >= 9 || eventually(LONG, || waiting() >= f64::from(n + 1));
            assert!(waits, "{n}: {}", waiting());
        }
        // No more than one client's share.
        let settled = || (9.0..=16.0).contains(&waiting());
        assert!(eventually(LONG, settled), "{}", waiting());
        let mut served = 0;
        while flood.iter().any(|one| !one.is_finished()) {
            assert!(
                scene.victim_is_served(),
                "after {served}: {}",
                proxy.stderr()
            );
            served += 1;
        }
        assert!(served >= 10, "{served}");
        assert!(flood.into_iter().all(|one| !one.join().unwrap()));
    });
    assert!(
        eventually(LONG, || waiting() == 0.0),
        "nobody waits for ever"
    );
    let orders = std::fs::read_dir(scene.storage.path().join("orders"));
    assert_eq!(orders.map_or(0, Iterator::count), 0, "nothing was ordered");
    proxy.assert_sane();
}
