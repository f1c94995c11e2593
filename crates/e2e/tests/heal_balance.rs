//! Who gets which request: every policy with 1, 2 and 8 workers, ranks, the ring, clients that stay.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::format_collect,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use narthex_e2e::kit::attack::Response;
use narthex_e2e::kit::chaos::{Fleet, Order};
use narthex_e2e::kit::load::{Load, Plan, Tally};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::{PATIENCE, eventually, full};

const WORKERS: [usize; 3] = [1, 2, 8];

/// A proxy with so many workers; everything of `upstream "u"` is given.
fn proxy(workers: usize, top: &str, upstream: &str) -> Proxy {
    Proxy::start(&config(workers, top, upstream))
}

fn config(workers: usize, top: &str, upstream: &str) -> String {
    Proxy::config(
        "connections per-client=0",
        &format!("connections per-client=0\n{top}\nupstream \"u\" {{\n{upstream}\n}}\nsite \"*\" {{ proxy \"u\" }}"),
    )
    .replace("workers 2", &format!("workers {workers}"))
}

fn requests() -> usize {
    if full() { 100_000 } else { 4_000 }
}

fn run(proxy: &Proxy, plan: Plan) -> Tally {
    let tally = Load::start(proxy.addr(), plan).finish();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    tally
}

/// Percent of the requests that each server got, in hundredths.
fn percents(tally: &Tally) -> Vec<(String, f64)> {
    let total = tally.ok() as f64;
    let share = |(name, n): (String, usize)| (name, (n as f64 / total * 10_000.0).round() / 100.0);
    tally.by_server().into_iter().map(share).collect()
}

/// One request on a connection of its own; who answered it.
fn ask(proxy: &Proxy, path: &str, fields: &str) -> (String, Response) {
    let r = proxy.connect().ask(format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nX-Id: 1\r\n{fields}Connection: close\r\n\r\n"
    ));
    assert_eq!(r.status, 200, "{}", r.text());
    (r.fields.get("x-origin").unwrap_or_default(), r)
}

fn cookie(r: &Response) -> Option<String> {
    let line = r.fields.get("set-cookie")?;
    Some(line.split(';').next()?.to_owned())
}

/// Weights 3, 2, 1.
fn weighted(fleet: &Fleet) -> String {
    (0..3)
        .map(|i| format!("server \"{}\" weight={}\n", fleet.addr(i), 3 - i))
        .collect()
}

/// By weight, as exactly as the policy says, however many workers there are.
#[test]
fn shares_follow_weight() {
    let fleet = Fleet::of(3);
    let servers = weighted(&fleet);
    for (policy, alone, together) in [
        ("round-robin", 0.1, 1.0),
        ("random", 4.0, 4.0),
        // Requests under way at the same time are spread more evenly than the weights say: that is what it is for. How many
        // there are at the same time, and in which step, is the machine's affair.
        ("least-requests", 0.1, 35.0),
    ] {
        for workers in WORKERS {
            let most_off = if workers == 1 { alone } else { together };
            let proxy = proxy(workers, "", &format!("{servers}balance \"{policy}\""));
            // One at a time on each connection, as many connections as workers: what a policy balances by is equal.
            let tally = run(&proxy, Plan::at(0).over(workers).count(requests()));
            let percents = percents(&tally);
            println!("{policy}, {workers} workers, weights 3:2:1: {percents:?}");
            for ((name, percent), due) in percents.iter().zip([50.0, 33.33, 16.67]) {
                assert!(
                    (percent - due).abs() <= most_off,
                    "{policy} with {workers} workers: {name} has {percent}%, due {due}%"
                );
            }
        }
    }
}

/// A slow server gets less from the policies that look, and its due from those that do not.
#[test]
fn policies_that_look_avoid_a_slow_server() {
    let mut fleet = Fleet::of(3);
    let ms = Duration::from_millis;
    fleet.tell_all(Order::Delay(ms(1), ms(2)));
    // Far slower than a machine with much else to do makes the others.
    fleet.tell(1, Order::Delay(ms(400), ms(500)));
    for (policy, most) in [("least-time", 5.0), ("least-requests", 15.0)] {
        for workers in WORKERS {
            let proxy = proxy(
                workers,
                "",
                &format!("{}balance \"{policy}\"", fleet.servers()),
            );
            let tally = run(&proxy, Plan::at(0).over(32).count(requests()));
            let percents = percents(&tally);
            println!("{policy}, {workers} workers, one of three slow: {percents:?}");
            let slow = percents
                .iter()
                .find(|(n, _)| n == "s1")
                .map_or(0.0, |p| p.1);
            assert!(
                slow <= most,
                "{policy} with {workers} workers: the slow one has {slow}%"
            );
        }
    }
}

/// The same key goes to the same server; a dead server's keys move, and no others; they return with it.
#[test]
fn a_hash_moves_the_keys_of_the_dead_only() {
    for workers in WORKERS {
        let mut fleet = Fleet::of(5);
        let upstream = format!(
            "{}balance \"hash\" by=\"query:k\" bound=\"0%\"\neject errors=1 for=\"1s\"",
            fleet.servers()
        );
        let proxy = proxy(workers, "", &upstream);
        let map = |proxy: &Proxy| -> HashMap<usize, String> {
            (0..200)
                .map(|k| (k, ask(proxy, &format!("/?k={k}"), "").0))
                .collect()
        };
        let before = map(&proxy);
        assert_eq!(before, map(&proxy), "the same key, the same server");
        let mut counts = BTreeMap::new();
        for server in before.values() {
            *counts.entry(server.clone()).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 5, "{counts:?}");
        fleet.kill(2);
        let after = map(&proxy);
        for (k, server) in &before {
            assert_ne!(after[k], "s2");
            if server != "s2" {
                assert_eq!(server, &after[k], "key {k} moved though its server lives");
            }
        }
        fleet.start(2);
        assert!(
            eventually(PATIENCE, || map(&proxy) == before),
            "the keys return with their server"
        );
    }
}

/// One key only: the bound spreads it.
#[test]
fn a_hot_key_is_bounded() {
    let mut fleet = Fleet::of(4);
    let ms = Duration::from_millis;
    fleet.tell_all(Order::Delay(ms(4), ms(6)));
    for workers in WORKERS {
        let upstream = format!(
            "{}balance \"hash\" by=\"path\" bound=\"25%\"",
            fleet.servers()
        );
        let proxy = proxy(workers, "", &upstream);
        let tally = run(&proxy, Plan::at(0).over(64).count(requests()).to("/hot"));
        let percents = percents(&tally);
        println!("hash with one key, bound 25%, {workers} workers: {percents:?}");
        let most = percents.iter().map(|p| p.1).fold(0.0, f64::max);
        assert!(
            most <= 40.0,
            "one server has {most}% of a key that four share: {percents:?}"
        );
    }
}

/// Priorities, backups and zones, as their servers die one after the other.
#[test]
fn ranks_are_used_in_order() {
    for workers in WORKERS {
        let mut fleet = Fleet::of(4);
        let a = |i| fleet.addr(i);
        let upstream = format!(
            "server \"{}\" zone=\"b\"\nserver \"{}\" zone=\"a\"\nserver \"{}\" priority=1 zone=\"a\"\nserver \"{}\" backup=#true\n\
             eject errors=1 for=\"1m\"\nretry attempts=3",
            a(0),
            a(1),
            a(2),
            a(3)
        );
        let proxy = proxy(workers, "zone \"a\"", &upstream);
        let answers = |proxy: &Proxy| -> Vec<String> {
            let mut all: Vec<String> = (0..20).map(|_| ask(proxy, "/", "").0).collect();
            all.sort();
            all.dedup();
            all
        };
        assert_eq!(answers(&proxy), ["s1"], "our own zone");
        fleet.kill(1);
        assert_eq!(
            answers(&proxy),
            ["s0"],
            "the other zone before the next priority"
        );
        fleet.kill(0);
        assert_eq!(answers(&proxy), ["s2"], "the next priority");
        fleet.kill(2);
        assert_eq!(answers(&proxy), ["s3"], "the backup");
    }
}

/// A priority of which too little is left hands on what its share of `spill-over` does not cover, and takes it back.
#[test]
fn a_weak_priority_spills_over() {
    for workers in WORKERS {
        let mut fleet = Fleet::of(6);
        let servers: String = (0..6)
            .map(|i| format!("server \"{}\" priority={}\n", fleet.addr(i), i / 4))
            .collect();
        let upstream = format!(
            "{servers}balance \"random\"\nspill-over \"100%\"\nslow-start \"0s\"\n\
             health-check \"/healthz\" interval=\"100ms\" recovery=\"50ms\" unhealthy=2"
        );
        let proxy = proxy(workers, "", &upstream);
        let standing = |wanted: [&str; 4]| {
            let seen = || {
                let status = proxy.status();
                let servers = &status["upstreams"][0]["servers"];
                [0, 1, 2, 3].map(|i| servers[i]["state"].as_str().unwrap_or("").to_owned())
            };
            assert!(eventually(PATIENCE, || seen() == wanted), "{:?}", seen());
        };
        let second = || {
            let tally = run(&proxy, Plan::at(0).over(8).count(requests()));
            let by = percents(&tally);
            println!("spill-over of four servers to two, {workers} workers: {by:?}");
            let of_second = by.iter().filter(|(name, _)| name == "s4" || name == "s5");
            of_second.map(|(_, percent)| percent).sum::<f64>()
        };
        standing(["up"; 4]);
        assert!(second() == 0.0, "all of it is there");
        fleet.tell(0, Order::Health(503));
        standing(["down", "up", "up", "up"]);
        let share = second();
        assert!((share - 25.0).abs() < 5.0, "a quarter is missing: {share}%");
        fleet.tell(1, Order::Health(503));
        fleet.tell(2, Order::Health(503));
        standing(["down", "down", "down", "up"]);
        let share = second();
        assert!((share - 75.0).abs() < 5.0, "three quarters: {share}%");
        fleet.tell_all(Order::Health(200));
        standing(["up"; 4]);
        assert!(second() == 0.0, "it has taken everything back");
    }
}

/// With a `secret` of its own a cookie is good after a restart, and for another proxy; without one a restart forgets.
#[test]
fn a_secret_keeps_clients_over_a_restart() {
    let fleet = Fleet::of(5);
    for workers in WORKERS {
        let start = |secret: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("secret"), "a secret of some length").unwrap();
            let upstream = format!("{}sticky \"cart\" {secret}", fleet.servers());
            Proxy::start_in(dir, &config(workers, "", &upstream))
        };
        for (secret, holds) in [("secret=\"file:@DIR@/secret\"", true), ("", false)] {
            let mut proxy = start(secret);
            let clients: Vec<(String, String)> = (0..10)
                .map(|_| {
                    let (server, r) = ask(&proxy, "/", "");
                    (server, cookie(&r).expect("a cookie"))
                })
                .collect();
            assert!(proxy.stop().success());
            proxy = start(secret);
            for (server, cookie) in &clients {
                let (now, r) = ask(&proxy, "/", &format!("Cookie: {cookie}\r\n"));
                assert_eq!(
                    r.fields.get("set-cookie").is_none(),
                    holds,
                    "{secret}, {workers} workers"
                );
                assert!(!holds || now == *server, "{now} and not {server}");
            }
        }
    }
}

/// A client stays with its server, over other connections and reloads; while the server drains, too; not when it is down.
#[test]
fn clients_stay() {
    for workers in WORKERS {
        let mut fleet = Fleet::of(3);
        let with = |state: &str, fleet: &Fleet| {
            let servers: String = (0..3)
                .map(|i| {
                    let state = if i == 1 { state } else { "ready" };
                    format!("server \"{}\" state=\"{state}\"\n", fleet.addr(i))
                })
                .collect();
            config(
                workers,
                "",
                &format!(
                    "{servers}sticky \"cart\" secret=\"env:STICKY\"\neject errors=1 for=\"1m\""
                ),
            )
            .replace("env:STICKY", "file:@DIR@/secret")
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "a secret of some length").unwrap();
        let proxy = Proxy::start_in(dir, &with("ready", &fleet));
        // One client for each server.
        let mut clients: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..40 {
            let (server, r) = ask(&proxy, "/", "");
            let set = r.fields.get("set-cookie").expect("a cookie");
            assert!(
                set.starts_with("cart=")
                    && set.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"),
                "{set}"
            );
            clients.insert(server, cookie(&r).unwrap());
        }
        assert_eq!(clients.len(), 3);
        let stays = |proxy: &Proxy, server: &str, why: &str| {
            for _ in 0..10 {
                let (now, r) = ask(proxy, "/", &format!("Cookie: a=b; {}\r\n", clients[server]));
                assert_eq!(now, server, "{why}");
                assert_eq!(r.fields.get("set-cookie"), None, "it has it already");
            }
        };
        let all_stay = |proxy: &Proxy, why: &str| {
            for server in clients.keys() {
                stays(proxy, server, why);
            }
        };
        all_stay(&proxy, "with its cookie");
        // Forged and cut ones are nobody's.
        let mine = &clients["s1"];
        for bad in [
            "cart=",
            "cart=x",
            &mine[..mine.len() - 2],
            &mine.replace("cart=01", "cart=02"),
        ] {
            let (_, r) = ask(&proxy, "/", &format!("Cookie: {bad}\r\n"));
            assert!(r.fields.get("set-cookie").is_some(), "{bad} was believed");
        }
        // One of the same name that comes first, of another path or forged, does not take ours away.
        for other in ["cart=x; ", "cart=x\r\nCookie: "] {
            let (server, r) = ask(&proxy, "/", &format!("Cookie: {other}{mine}\r\n"));
            assert_eq!((server.as_str(), r.fields.get("set-cookie")), ("s1", None));
        }
        proxy.reload(&with("drain", &fleet));
        all_stay(&proxy, "while it drains");
        for _ in 0..20 {
            assert_ne!(ask(&proxy, "/", "").0, "s1", "nobody new while it drains");
        }
        let text = with("down", &fleet);
        proxy.reload(&text);
        let (moved, r) = ask(&proxy, "/", &format!("Cookie: {}\r\n", clients["s1"]));
        assert_ne!(moved, "s1");
        assert!(
            cookie(&r).is_some_and(|c| c != clients["s1"]),
            "it is given another"
        );
        stays(&proxy, "s0", "the others stay");
        proxy.reload(&with("ready", &fleet));
        all_stay(&proxy, "its server is back");
        fleet.kill(2);
        let (moved, r) = ask(&proxy, "/", &format!("Cookie: {}\r\n", clients["s2"]));
        assert_ne!(moved, "s2", "its server died");
        assert_ne!(cookie(&r), None);
    }
}
