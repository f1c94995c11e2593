//! Servers that are not written (OP-05): name servers in every mood, SRV records, files. What fails takes nobody away, and
//! requests do not notice what changes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::net::Ipv4Addr;
use std::time::Instant;

use narthex_e2e::kit::dns::{Dns, Mood, Record};
use narthex_e2e::kit::eventually;
use narthex_e2e::kit::found::{LONG, heard, held, metric, served_by, up};
use narthex_e2e::kit::load::{Load, Plan};
use narthex_e2e::kit::origin::{Origin, Personality};
use narthex_e2e::kit::proxy::{Proxy, free_port};

/// Three origins on one port of three addresses, a name server that knows the first two, and a proxy.
struct Named {
    proxy: Proxy,
    dns: Dns,
    _origins: Vec<Origin>,
}

fn a(last: u8) -> Record {
    Record::A(Ipv4Addr::new(127, 0, 0, last))
}

fn origin(last: u8, port: u16) -> Origin {
    let place = (Ipv4Addr::new(127, 0, 0, last), port).into();
    Origin::at(place, &format!("o{last}"), Personality::Strict)
}

fn named() -> Named {
    let port = free_port();
    let origins = [1, 2, 3].map(|last| origin(last, port)).into();
    let dns = Dns::start();
    dns.set("api.test", vec![a(1), a(2)]);
    let proxy = proxy(&dns, &format!("server \"api.test:{port}\""));
    Named {
        proxy,
        dns,
        _origins: origins,
    }
}

fn proxy(dns: &Dns, upstream: &str) -> Proxy {
    Proxy::start(&Proxy::config(
        "",
        &format!(
            "resolver \"{}\"\nupstream \"u\" {{\n{upstream}\nbalance \"round-robin\"\n}}\nsite \"*\" {{ proxy \"u\" }}",
            dns.addr()
        ),
    ))
}

/// While the name server is in this mood, the servers stay and the loss is said; afterwards its new word is taken.
fn holds_through(mood: Mood) {
    let named = named();
    let proxy = &named.proxy;
    served_by(proxy, &["o1", "o2"]);
    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    named.dns.mood(mood);
    held(proxy, &["o1", "o2"], "u", || named.dns.questions());
    named.dns.set("api.test", vec![a(2), a(3)]);
    named.dns.mood(Mood::Well);
    heard(proxy, &["o2", "o3"]);
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}

#[test]
fn dns_chaos_nxdomain() {
    holds_through(Mood::Missing);
}

#[test]
fn dns_chaos_servfail() {
    holds_through(Mood::Failing);
}

#[test]
fn dns_chaos_silence() {
    holds_through(Mood::Silent);
}

/// A time to live of zero is a second: no look-up per request.
#[test]
fn dns_chaos_time_to_live_zero() {
    let named = named();
    named.dns.ttl(0);
    served_by(&named.proxy, &["o1", "o2"]);
    let (begin, asked) = (Instant::now(), named.dns.questions());
    let load = Load::start(named.proxy.addr(), Plan::sized(500, 5_000));
    assert!(eventually(LONG, || named.dns.questions() >= asked + 8));
    load.wait_more(500);
    let tally = load.stop();
    let (questions, seconds) = (named.dns.questions() - asked, begin.elapsed().as_secs());
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    // Two address families, once a second.
    assert!(
        questions as u64 <= 2 * (seconds + 2),
        "{questions} questions in {seconds} s"
    );
}

/// 500 records come by TCP; 64 of them are taken, the others counted.
#[test]
fn dns_chaos_five_hundred_records() {
    let port = free_port();
    let _origin = Origin::at(
        (Ipv4Addr::UNSPECIFIED, port).into(),
        "all",
        Personality::Strict,
    );
    let dns = Dns::start();
    let records = (0..500_u16).map(|i| {
        let [high, low] = i.to_be_bytes();
        Record::A(Ipv4Addr::new(127, 1, high, low))
    });
    dns.set("api.test", records.collect());
    let proxy = proxy(&dns, &format!("server \"api.test:{port}\""));
    served_by(&proxy, &["all"]);
    let load = Load::start(proxy.addr(), Plan::at(0).count(500));
    let tally = load.finish();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    let servers = metric(&proxy, "narthex_discovery_servers{");
    assert_eq!(servers.as_deref(), Some("64"));
    let skipped = metric(&proxy, "narthex_discovery_skipped_total{");
    assert_eq!(skipped.as_deref(), Some("1"));
    assert!(proxy.stderr().contains("436 records"), "{}", proxy.stderr());
}

/// Another answer every second: requests go on, and a server that comes back is the same one.
#[test]
fn dns_chaos_a_flap_a_second() {
    let named = named();
    named.dns.ttl(0);
    named
        .dns
        .alternate("api.test", vec![vec![a(1)], vec![a(2), a(3)]]);
    let load = Load::start(named.proxy.addr(), Plan::sized(200, 5_000));
    let flaps = || {
        let log = named.proxy.stderr();
        log.matches("servers found by name").count()
    };
    assert!(eventually(LONG, || flaps() >= 6), "{} flaps", flaps());
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}

/// Ports, weights and order are the records'.
#[test]
fn srv_records_say_ports_and_shares() {
    let (first, second) = (free_port(), free_port());
    let _origins = [origin(1, first), origin(2, second)];
    let dns = Dns::start();
    dns.set("one.test", vec![a(1)]);
    dns.set("two.test", vec![a(2)]);
    let srv = |weight, port, target: &str| Record::Srv {
        priority: 10,
        weight,
        port,
        target: target.to_owned(),
    };
    let name = "_http._tcp.api.test";
    dns.set(
        name,
        vec![srv(3, first, "one.test"), srv(1, second, "two.test")],
    );
    let proxy = proxy(&dns, &format!("server \"{name}\" resolve=\"srv\""));
    served_by(&proxy, &["o1", "o2"]);
    dns.set(name, vec![srv(1, second, "two.test")]);
    served_by(&proxy, &["o2"]);
}

/// A file is read at the start and followed; a bad entry costs only itself, a broken file nothing.
#[test]
fn a_file_of_servers_is_followed() {
    let (one, two) = (
        Origin::named("one", Personality::Strict),
        Origin::named("two", Personality::Strict),
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("servers.kdl");
    let put = |text: &str| {
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    put(&format!(
        "server \"{}\"\nserver \"nonsense\"\n",
        one.place()
    ));
    let proxy = Proxy::start_in(
        dir,
        &Proxy::config(
            "",
            "upstream \"u\" { discover \"file\" path=\"servers.kdl\"; balance \"round-robin\" }\nsite \"*\" { proxy \"u\" }",
        ),
    );
    served_by(&proxy, &["one"]);
    let log = proxy.stderr();
    assert!(log.contains("line 2") && log.contains("nonsense"), "{log}");
    let skipped = metric(&proxy, "narthex_discovery_skipped_total{");
    assert_eq!(skipped.as_deref(), Some("1"));

    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    put(&format!(
        "server \"{}\"\nserver \"{}\"\n",
        one.place(),
        two.place()
    ));
    served_by(&proxy, &["one", "two"]);
    put("server \"127.0.0.1:1");
    up(&proxy, "0");
    served_by(&proxy, &["one", "two"]);
    put(&format!("server \"{}\"\n", two.place()));
    served_by(&proxy, &["two"]);
    up(&proxy, "1");
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}
