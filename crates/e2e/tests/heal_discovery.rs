//! Servers that are not written (OP-05): name servers in every mood, SRV records, files. What fails takes nobody away, and
//! requests do not notice what changes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use narthex_e2e::kit::dns::{Dns, Mood, Record};
use narthex_e2e::kit::found::{LONG, heard, held, metric, served_by, up, who};
use narthex_e2e::kit::load::{Load, Plan};
use narthex_e2e::kit::named::{Named as Bind, ZONE};
use narthex_e2e::kit::origin::{Origin, Personality};
use narthex_e2e::kit::proxy::{Proxy, free_port};
use narthex_e2e::kit::{card, eventually, full};

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
    proxy_by(dns.addr(), upstream)
}

fn proxy_by(resolver: SocketAddr, upstream: &str) -> Proxy {
    Proxy::start(&Proxy::config(
        "connections per-client=0",
        &format!(
            "connections per-client=0\nresolver \"{resolver}\"\nupstream \"u\" {{\n{upstream}\nbalance \"round-robin\"\n}}\nsite \"*\" {{ proxy \"u\" }}"
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
    card::load(&format!("name server, {mood:?}"), &tally);
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
    card::load("names with a time to live of 0", &tally);
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
    card::load("500 records", &tally);
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
    card::load("names that change every second", &tally);
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

/// `true` if there is no name server but our own; said, so that it is not taken for a test that passed.
fn no_bind() -> bool {
    let missing = !Bind::is_here();
    if missing {
        eprintln!("skipped: no BIND here (bind9, bind9-dnsutils); `cargo xtask test` installs it");
    }
    missing
}

/// A name server that is not ours: addresses of both families, changes of its zone, its death, a time to live of an hour.
#[test]
fn dns_of_a_real_server_addresses() {
    if no_bind() {
        return;
    }
    let port = free_port();
    let six = Origin::at(
        (Ipv6Addr::LOCALHOST, port).into(),
        "o6",
        Personality::Strict,
    );
    let _origins = ([1, 2, 3].map(|last| origin(last, port)), six);
    let mut bind = Bind::start("api IN A 127.0.0.1\napi IN A 127.0.0.2");
    let name = format!("api.{ZONE}");
    let proxy = proxy_by(bind.addr(), &format!("server \"{name}:{port}\""));
    served_by(&proxy, &["o1", "o2"]);
    let load = Load::start(proxy.addr(), Plan::sized(200, 5_000));
    bind.update(&[
        format!("update delete {name}. A 127.0.0.1"),
        format!("update add {name}. 1 A 127.0.0.3"),
    ]);
    served_by(&proxy, &["o2", "o3"]);
    bind.update(&[format!("update add {name}. 1 AAAA ::1")]);
    served_by(&proxy, &["o2", "o3", "o6"]);
    bind.update(&[format!("update delete {name}. A 127.0.0.2")]);
    served_by(&proxy, &["o3", "o6"]);
    // What a dead one has said last holds; another life of it is heard. The other tests do this with a name server that
    // can be told to, in less time.
    if full() {
        bind.update(&[format!("update delete {name}. A")]);
        served_by(&proxy, &["o6"]);
        let up = |wanted: &str| {
            let seen = || metric(&proxy, "narthex_discovery_up{").as_deref() == Some(wanted);
            assert!(eventually(LONG, seen), "up is not {wanted}");
        };
        bind.kill();
        up("0");
        served_by(&proxy, &["o6"]);
        bind.run();
        up("1");
    }
    bind.update(&[
        format!("update delete {name}. A"),
        format!("update add {name}. 1 A 127.0.0.1"),
    ]);
    served_by(&proxy, &["o1", "o6"]);
    // For an hour nobody asks again.
    let long = |of: &str| {
        [
            format!("update delete {name}. A"),
            format!("update delete {name}. AAAA"),
            format!("update add {name}. 3600 AAAA ::1"),
            format!("update add {name}. 3600 A {of}"),
        ]
    };
    bind.update(&long("127.0.0.2"));
    served_by(&proxy, &["o2", "o6"]);
    let asked = bind.questions(&name);
    bind.update(&long("127.0.0.3"));
    // Three times as long as the time to live before.
    narthex_e2e::kit::pause(Duration::from_secs(3));
    assert_eq!(bind.questions(&name), asked, "it has an hour");
    assert_eq!(who(&proxy), ["o2", "o6"].map(str::to_owned).into());
    let tally = load.stop();
    card::load("BIND: zone updates, kill -9", &tally);
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}

/// The same for SRV: ports, shares and order of a real server, changed while requests run.
#[test]
fn dns_of_a_real_server_srv() {
    if no_bind() {
        return;
    }
    let (first, second) = (free_port(), free_port());
    let _origins = [origin(1, first), origin(2, second), origin(3, second)];
    let bind = Bind::start(&format!(
        "one IN A 127.0.0.1\ntwo IN A 127.0.0.2\nthree IN A 127.0.0.3\n\
         _http._tcp.api IN SRV 10 3 {first} one\n_http._tcp.api IN SRV 10 1 {second} two\n\
         _http._tcp.api IN SRV 20 1 {second} three"
    ));
    let name = format!("_http._tcp.api.{ZONE}");
    let proxy = proxy_by(bind.addr(), &format!("server \"{name}\" resolve=\"srv\""));
    served_by(&proxy, &["o1", "o2"]);
    let load = Load::start(proxy.addr(), Plan::sized(200, 5_000));
    load.wait_more(400);
    // The one of the second order waits until the others are gone from the zone.
    bind.update(&[format!(
        "update delete {name}. SRV 10 3 {first} one.{ZONE}."
    )]);
    served_by(&proxy, &["o2"]);
    bind.update(&[format!(
        "update delete {name}. SRV 10 1 {second} two.{ZONE}."
    )]);
    served_by(&proxy, &["o3"]);
    bind.update(&[
        format!("update delete {name}. SRV"),
        format!("update add {name}. 1 SRV 5 1 {second} two.{ZONE}."),
        format!("update add {name}. 1 SRV 5 1 {second} three.{ZONE}."),
    ]);
    served_by(&proxy, &["o2", "o3"]);
    // The address of a target moves.
    bind.update(&[
        format!("update delete two.{ZONE}. A"),
        format!("update add two.{ZONE}. 1 A 127.0.0.3"),
    ]);
    served_by(&proxy, &["o3"]);
    let tally = load.stop();
    card::load("BIND: SRV records that change", &tally);
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    let by = tally.entries.iter().take(400);
    let ones = by.filter(|e| e.server.as_deref() == Some("o1")).count();
    assert!(
        (280..=320).contains(&ones),
        "{ones} of 400 for a share of 3 in 4"
    );
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
