//! What is known of servers, and what it is good for: slow, flapping, failing ones, all down and up again, with their states
//! and reasons in the admin API; and the faults of the scorecard that are health's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use narthex_e2e::kit::chaos::{Fleet, Order};
use narthex_e2e::kit::load::{Entry, Load, Plan, Tally};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::{PATIENCE, card, eventually, full};
use serde_json::Value;

/// A check that is quick to see what happens.
const QUICK: &str =
    "health-check \"/healthz\" interval=\"100ms\" recovery=\"50ms\" timeout=\"1s\" unhealthy=2";

fn admin(proxy: &Proxy, path: &str) -> String {
    proxy
        .admin(&format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        ))
        .text()
        .clone()
}

/// What the admin API says of server `i`.
fn server(proxy: &Proxy, fleet: &Fleet, i: usize) -> Value {
    let text = admin(proxy, "/upstreams/u");
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let address = fleet.addr(i).to_string();
    let servers = all["servers"].as_array().expect("servers").iter();
    let found = servers.clone().find(|s| s["address"] == address.as_str());
    found
        .cloned()
        .unwrap_or_else(|| panic!("{address}: {text}"))
}

fn state(proxy: &Proxy, fleet: &Fleet, i: usize) -> String {
    server(proxy, fleet, i)["state"]
        .as_str()
        .expect("a state")
        .to_owned()
}

#[track_caller]
fn until_state(proxy: &Proxy, fleet: &Fleet, i: usize, states: &[&str]) {
    let reached = eventually(PATIENCE * 3, || {
        states.contains(&state(proxy, fleet, i).as_str())
    });
    assert!(
        reached,
        "s{i} is not {states:?}: {}",
        server(proxy, fleet, i)
    );
}

/// The slow one of three gets far less than its third. In rounds, because what else the machine does lasts for some of them.
fn slow_server(balance: &str) {
    let mut fleet = Fleet::of(3);
    let proxy = fleet.proxy(&format!("balance \"{balance}\""));
    let (rounds, count) = if full() { (5, 15_000) } else { (1, 2_000) };
    let plan = Plan::sized(400, 5_000).count(count);
    let (mut healthy, mut slowed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (rounds, slow) in [(&mut healthy, 0), (&mut slowed, 60)] {
            let slow = Duration::from_millis(slow);
            fleet.tell(0, Order::Delay(slow, slow));
            rounds.push(Load::start(proxy.addr(), plan.clone()).finish());
        }
    }
    let median = |tallies: &[Tally]| {
        let mut p99: Vec<Duration> = tallies.iter().map(|t| t.quantile(0.99)).collect();
        p99.sort_unstable();
        p99[p99.len() / 2]
    };
    card::at_most(
        &format!("p99 with one of three slow, twice that without, {balance}"),
        median(&slowed),
        median(&healthy) * 2,
    );
    let tally = &slowed[slowed.len() - 1];
    card::load(&format!("one of three slow, {balance}"), tally);
    for tally in healthy.iter().chain(&slowed) {
        assert!(tally.failed().is_empty(), "{}", tally.brief());
    }
    let by = tally.by_server();
    let share = by.get("s0").copied().unwrap_or(0);
    card::row(
        &format!("requests at the slow one, {balance}, %"),
        format!("{:.2}", share as f64 * 100.0 / tally.ok() as f64),
    );
    assert!(share * 8 < tally.ok(), "{by:?}");
    proxy.assert_sane();
}

#[test]
fn slow_server_under_least_requests() {
    slow_server("least-requests");
}

#[test]
fn slow_server_under_least_time() {
    slow_server("least-time");
}

#[test]
fn flapping_server() {
    let mut fleet = Fleet::of(3);
    let proxy = fleet.proxy(&format!(
        "{QUICK}\nretry on=\"connect,reset,503\" attempts=2 budget=\"100%\""
    ));
    (0..3).for_each(|i| until_state(&proxy, &fleet, i, &["up"]));
    let load = Load::start(proxy.addr(), Plan::sized(200, 5_000));
    for _ in 0..4 {
        fleet.tell(0, Order::Status(503));
        fleet.tell(0, Order::Health(503));
        until_state(&proxy, &fleet, 0, &["down"]);
        let down = server(&proxy, &fleet, 0);
        assert_eq!(down["reason"], "health check: status 503", "{down}");
        load.wait_more(20);
        fleet.tell(0, Order::Status(200));
        fleet.tell(0, Order::Health(200));
        until_state(&proxy, &fleet, 0, &["up", "returning"]);
        let up = server(&proxy, &fleet, 0);
        assert_eq!(up["reason"], "health check: succeeds again", "{up}");
    }
    load.wait_more(100);
    let tally = load.stop();
    card::load("flapping, one of three", &tally);
    assert!(tally.failed_gets().is_empty(), "{}", tally.brief());
    // The others were never suspected.
    for i in [1, 2] {
        assert_eq!(state(&proxy, &fleet, i), "up");
    }
    let metrics = admin(&proxy, "/metrics");
    let line = |what: &str| {
        metrics
            .lines()
            .find(|l| l.starts_with(what))
            .map(str::to_owned)
    };
    for what in [
        "narthex_server_state{",
        "narthex_server_requests_total{",
        "narthex_health_checks_total{result=\"bad\",upstream=\"u\"}",
        "narthex_health_late_seconds ",
    ] {
        assert!(line(what).is_some(), "{what}\n{metrics}");
    }
    proxy.assert_sane();
}

#[test]
fn all_down_then_up() {
    const SERVERS: usize = 4;
    const QUEUE: u64 = 10;
    const MAX: u64 = 4;
    let mut fleet = Fleet::of(SERVERS);
    let limits = format!("connections max={MAX} queue={QUEUE}");
    let proxy = fleet.proxy(&format!("{QUICK}\n{limits}"));
    (0..SERVERS).for_each(|i| until_state(&proxy, &fleet, i, &["up"]));
    // They come back so slow that they can just do it, and requests wait for each other.
    let (from, to) = if full() { (5, 9) } else { (40, 60) };
    let busy = Order::Delay(Duration::from_millis(from), Duration::from_millis(to));
    (0..SERVERS).for_each(|i| fleet.kill(i));
    (0..SERVERS).for_each(|i| until_state(&proxy, &fleet, i, &["down"]));
    let load = Load::start(proxy.addr(), Plan::sized(300, 2_000).over(120));
    assert!(
        load.wait_for(PATIENCE, |e| e.iter().any(|e| e.reason.is_some())),
        "requests are answered by us"
    );
    for i in 0..SERVERS {
        fleet.start(i);
        fleet.tell(i, busy);
    }
    let first_good = || load.wait_for(PATIENCE * 3, |e| e.iter().any(Entry::is_ok));
    assert!(first_good(), "nobody comes back");
    let begun = load.elapsed();
    let long = if full() { 10 } else { 3 };
    let mut waiting = 0;
    while load.elapsed() < begun + Duration::from_secs(long) {
        let status = proxy.status();
        for server in status["upstreams"][0]["servers"].as_array().unwrap() {
            waiting = waiting.max(server["waiting"].as_u64().unwrap());
        }
        load.wait_more(20);
    }
    let tally = load.stop();
    // No server has carried more than one and a half times its share since the first good answer.
    let by = tally.by_server();
    let good: usize = by.values().sum();
    let most = by.values().copied().max().unwrap_or(0);
    card::load("four servers, all down, then up", &tally);
    card::row(
        "all down, then up: most at one server, of its share; most in a queue",
        format!(
            "{:.2}; {waiting} of {QUEUE}",
            (most * SERVERS) as f64 / good as f64
        ),
    );
    assert!(most * SERVERS * 2 <= good * 3, "{by:?}");
    assert_eq!(by.len(), SERVERS, "{by:?}");
    // A queue has room for as many more as are idle elsewhere.
    assert!(waiting <= QUEUE + MAX, "{waiting} wait for one server");
    proxy.assert_sane();
}

#[test]
fn what_is_known_survives_a_reload() {
    let mut fleet = Fleet::of(3);
    let lines = |more: &str| {
        format!("{QUICK}\neject errors=3 for=\"60s\"\nretry on=\"503\" budget=\"100%\"\n{more}")
    };
    let proxy = fleet.proxy(&lines(""));
    (0..3).for_each(|i| until_state(&proxy, &fleet, i, &["up"]));
    fleet.tell(0, Order::Health(500));
    fleet.tell(1, Order::Status(503));
    until_state(&proxy, &fleet, 0, &["down"]);
    let load = Load::start(proxy.addr(), Plan::at(200));
    until_state(&proxy, &fleet, 1, &["ejected"]);
    let before = [0, 1].map(|i| server(&proxy, &fleet, i));
    assert_eq!(before[1]["reason"], "it keeps failing: failing status");
    // The same servers, with other settings: of the upstream, and of the check.
    proxy.reload_ok(&fleet.config(&lines("timeout connect=\"1s\"")));
    let check = lines("").replace("interval=\"100ms\"", "interval=\"200ms\"");
    proxy.reload_ok(&fleet.config(&check));
    load.wait_more(50);
    for (i, before) in before.iter().enumerate() {
        let now = server(&proxy, &fleet, i);
        for what in ["state", "reason", "since"] {
            assert_eq!(now[what], before[what], "{now}");
        }
    }
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    // And the new check is the one that sees the server come back.
    fleet.tell(0, Order::Health(200));
    until_state(&proxy, &fleet, 0, &["up", "returning"]);
    proxy.assert_sane();
}

#[test]
fn the_worst_of_the_group_is_taken_out() {
    let mut fleet = Fleet::of(3);
    let proxy = fleet.proxy("balance \"round-robin\"\neject within=\"1s\" for=\"60s\"");
    fleet.tell(2, Order::Status(500));
    // No failure counts by itself: nobody retries on 500.
    let load = Load::start(proxy.addr(), Plan::sized(300, 2_000));
    until_state(&proxy, &fleet, 2, &["ejected"]);
    let reason = server(&proxy, &fleet, 2)["reason"].to_string();
    assert!(reason.contains("0% of its requests ended well"), "{reason}");
    load.stop();
    for i in [0, 1] {
        assert_eq!(state(&proxy, &fleet, i), "up");
    }
    // Switched off, a server may be as bad as it likes.
    let mut fleet = Fleet::of(3);
    let proxy = fleet.proxy("balance \"round-robin\"\neject within=\"1s\" outliers=#false");
    fleet.tell(2, Order::Status(500));
    let load = Load::start(proxy.addr(), Plan::at(300));
    load.wait_more(900);
    load.stop();
    assert_eq!(state(&proxy, &fleet, 2), "up");
}

#[test]
fn checks_ask_with_fields_and_look_at_bodies() {
    let fleet = Fleet::of(1);
    let check = |inside: &str| {
        format!(
            "health-check \"/healthz\" interval=\"100ms\" recovery=\"50ms\" unhealthy=1 {{ header \"X-Check\" \"1\"\n{inside} }}"
        )
    };
    let proxy = fleet.proxy(&check("body contains=\"certainly not in it\""));
    until_state(&proxy, &fleet, 0, &["down"]);
    let down = server(&proxy, &fleet, 0);
    assert_eq!(
        down["reason"],
        "health check: the body does not have what is expected"
    );
    proxy.reload_ok(&fleet.config(&check("body regex=\"(?s).*\"")));
    until_state(&proxy, &fleet, 0, &["up", "returning"]);
    proxy.reload_ok(&fleet.config(
        "health-check \"tcp\" interval=\"100ms\" timeout=\"200ms\" unhealthy=1 { expect \"+OK\" }",
    ));
    // It says nothing of its own accord, so that the check ends by its time.
    until_state(&proxy, &fleet, 0, &["down"]);
    proxy.assert_sane();
}
