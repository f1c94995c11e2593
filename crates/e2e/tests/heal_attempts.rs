//! Attempts under faults (OP-03, OP-04, OP-06): origins that are killed, vanish or close their connections under load cost
//! no GET, and no POST arrives twice. Counts are small by default, those of the fault scorecard with `NARTHEX_E2E_FULL=1`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use narthex_e2e::kit::chaos::{Fleet, Order};
use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::load::{Load, Plan, Tally};
use narthex_e2e::kit::origin::{Origin, Script, Step};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, card, eventually, full, workers};

narthex_e2e::with_1_2_and_8_workers! {
    a_silent_server_is_given_up_for_another_attempt,
    a_silent_server_is_left_for_another,
    silence_is_no_reason_unless_asked_for,
    the_last_attempt_has_all_the_time,
    without_a_budget_the_first_attempt_is_the_last,
    nobody_is_given_up_for_an_attempt_that_cannot_be_made,
    all_attempts_together_have_an_end,
    all_attempts_together_end_in_a_connect,
    a_server_that_has_begun_is_not_given_up,
    killed_origin,
    black_hole,
    keep_alive_close,
}

/// Takes a request and never answers.
fn hang() -> Script {
    [Step::ReadBody, Step::AwaitEnd].into()
}

fn rig(upstream: &str) -> Rig {
    let upstream = format!("eject #false\n{upstream}");
    Rig::full(Origin::start(), "", &upstream, "proxy \"u\"")
}

/// A server that is silent for `try-timeout` loses the request to another attempt, if the request may be sent twice.
fn a_silent_server_is_given_up_for_another_attempt() {
    let rig = rig(
        "retry attempts=1 budget=\"100%\" on=\"timeout\" try-timeout=\"200ms\"\ntimeout response=\"900ms\"",
    );
    for (method, status, requests) in [
        ("GET", 200, 2),
        ("PUT", 200, 2),
        ("POST", 504, 1),
        ("PATCH", 504, 1),
    ] {
        rig.origin.take(0);
        rig.origin.next(hang());
        let mut c = rig.connect();
        c.send(request(method, "/", "Content-Length: 3\r\n", "abc"));
        let r = c.read_response(method).unwrap();
        assert_eq!(r.status, status, "{method}");
        let seen = rig.origin.take(requests);
        assert_eq!(seen.len(), requests, "{method}");
        assert!(seen.iter().all(|s| s.body == b"abc"), "{method}");
        assert!(rig.origin.wait_end(seen[0].conn).is_some(), "{method}");
    }
}

/// The other attempt goes to another server.
fn a_silent_server_is_left_for_another() {
    let (silent, well) = (Origin::start(), Origin::start());
    silent.otherwise(hang());
    let proxy = narthex_e2e::kit::proxy::Proxy::start(&narthex_e2e::kit::proxy::Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n server \"{}\"\n server \"{}\"\n balance \"round-robin\"\n eject #false\n\
             retry attempts=1 budget=\"100%\" on=\"timeout\" try-timeout=\"200ms\"\n}}\nsite \"*\" {{ proxy \"u\" }}",
            silent.place(),
            well.place()
        ),
    ));
    for _ in 0..4 {
        assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
    }
    // Each worker takes turns by itself, and the kernel deals out the connections.
    let asked = silent.seen().len();
    assert!(
        if workers::now() == 1 {
            asked == 2
        } else {
            asked <= 4
        },
        "{asked}"
    );
    assert_eq!(well.seen().len(), 4);
}

/// Without `timeout` among the reasons nothing is tried again, and `try-timeout` does not apply.
fn silence_is_no_reason_unless_asked_for() {
    let rig = rig("retry attempts=2 budget=\"100%\" try-timeout=\"100ms\"");
    rig.origin.next([
        Step::ReadBody,
        Step::Pause(Duration::from_millis(300)),
        Step::Echo(200),
    ]);
    assert_eq!(rig.connect().ask(get("/", "")).status, 200);
    assert_eq!(rig.origin.take(1).len(), 1);
}

/// The last attempt has `timeout response`: a server that is slow, but not silent, is waited for.
fn the_last_attempt_has_all_the_time() {
    let rig = rig("retry attempts=1 budget=\"100%\" on=\"timeout\" try-timeout=\"150ms\"");
    rig.origin.otherwise([
        Step::ReadBody,
        Step::Pause(Duration::from_millis(400)),
        Step::Echo(200),
    ]);
    assert_eq!(rig.connect().ask(get("/", "")).status, 200);
    assert_eq!(rig.origin.take(2).len(), 2);
}

/// So has one that could not be followed by another, because the budget is spent.
fn without_a_budget_the_first_attempt_is_the_last() {
    let rig = rig("retry attempts=9 budget=\"0%\" on=\"timeout,reset\" try-timeout=\"100ms\"");
    rig.origin.on("/dies", [Step::ReadBody, Step::Reset]);
    rig.origin.otherwise([
        Step::ReadBody,
        Step::Pause(Duration::from_millis(300)),
        Step::Echo(200),
    ]);
    // Three a second are free, over ten seconds, on each core.
    let mut seen = 0;
    for _ in 0..60 {
        for _ in 0..10 * workers::now() {
            assert_eq!(rig.connect().ask(get("/dies", "")).status, 502);
        }
        rig.origin.take(0);
        assert_eq!(rig.connect().ask(get("/", "")).status, 200);
        let now = rig.origin.take(1).len();
        if now == 1 {
            return;
        }
        seen += now;
    }
    panic!("no request was sent once only: {seen} for 60");
}

/// Many that are slow at the same time spend the budget: who finds nothing left of it is waited for, not given up for nobody.
fn nobody_is_given_up_for_an_attempt_that_cannot_be_made() {
    let rig = rig("retry attempts=1 budget=\"0%\" on=\"timeout\" try-timeout=\"100ms\"");
    rig.origin.otherwise([
        Step::ReadBody,
        Step::Pause(Duration::from_millis(300)),
        Step::Echo(200),
    ]);
    // Thirty in ten seconds are free, on each core.
    let together = 40 * workers::now();
    let mut clients: Vec<_> = (0..together)
        .map(|_| {
            let mut client = rig.connect();
            client.send(get("/", ""));
            client
        })
        .collect();
    for client in &mut clients {
        let got = client.read_response("GET");
        assert!(
            got.as_ref().is_ok_and(|r| r.status == 200),
            "{got:?}\n{:?}\n{}",
            rig.proxy.access_log(),
            rig.proxy.metrics()
        );
    }
    let seen = rig.origin.take(together).len();
    assert!((together + 1..together * 2).contains(&seen), "{seen}");
}

/// `within` bounds all attempts together.
fn all_attempts_together_have_an_end() {
    let rig = rig(
        "retry attempts=9 budget=\"100%\" on=\"timeout\" try-timeout=\"200ms\" within=\"500ms\"",
    );
    rig.origin.otherwise(hang());
    let r = rig.connect().ask(get("/", ""));
    assert_eq!(
        (r.status, r.fields.get("narthex-reason").as_deref()),
        (504, Some("response-timeout"))
    );
    // At 0, 200 and 400 ms.
    let seen = rig.origin.take(1).len();
    assert!((1..=3).contains(&seen), "{seen} attempts in 500 ms");
}

/// The time for all of them is over while a connection is being opened: that server is the one to blame.
fn all_attempts_together_end_in_a_connect() {
    let mut fleet = Fleet::of(1);
    fleet.tell(0, Order::BlackHole(true));
    let proxy = fleet.proxy("retry within=\"300ms\"");
    let r = proxy.connect().ask(get("/", ""));
    assert_eq!(
        (r.status, r.fields.get("narthex-reason").as_deref()),
        (504, Some("response-timeout"))
    );
    let admin = proxy.admin("GET /upstreams HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(admin.text().contains("connect failed"), "{}", admin.text());
}

/// Once a byte of an answer came, even an interim one, silence ends the request.
fn a_server_that_has_begun_is_not_given_up() {
    let rig = rig(
        "retry attempts=2 budget=\"100%\" on=\"timeout\" try-timeout=\"200ms\"\ntimeout response=\"400ms\"",
    );
    rig.origin.next([
        Step::ReadBody,
        Step::Send(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec()),
        Step::AwaitEnd,
    ]);
    assert_eq!(rig.connect().ask(get("/", "")).status, 504);
    assert_eq!(rig.origin.take(1).len(), 1);
}

/// The name of a row.
fn named(what: &str) -> String {
    format!("{what}, {} workers", workers::now())
}

/// No POST was seen twice, by one origin or by two, and none was answered that nobody saw.
#[track_caller]
fn assert_once(fleet: &Fleet, tally: &Tally) {
    let arrivals = fleet.arrivals();
    let twice = arrivals.twice("POST");
    assert!(twice.is_empty(), "seen twice: {twice:?}\n{}", tally.brief());
    let times = arrivals.times("POST");
    for e in tally.entries.iter().filter(|e| e.post && e.is_ok()) {
        assert!(
            times.contains_key(e.id().as_str()),
            "{} was answered by nobody",
            e.id()
        );
    }
}

/// One of three is killed with -9, comes back, and is killed again: GETs never fail, and of all others only those that were
/// with it when it died.
fn killed_origin() {
    let mut fleet = Fleet::of(3);
    let proxy = fleet.proxy("retry attempts=2 on=\"connect,reset\"");
    let plan = Plan::sized(500, 5_000).posts(20);
    let second = plan.rate as usize;
    let load = Load::start(proxy.addr(), plan);
    load.wait_more(second);
    fleet.kill(1);
    load.wait_more(2 * second);
    let tally = load.stop();
    card::load(&named("kill -9 of one of three"), &tally);
    assert!(tally.failed_gets().is_empty(), "{}", tally.brief());
    assert!(tally.failed().len() <= 5, "{}", tally.brief());
    assert_once(&fleet, &tally);
    let after = tally.entries.iter().skip(2 * second);
    assert!(after.clone().all(|e| e.is_ok()), "{}", tally.brief());
    assert!(after.clone().any(|e| e.post));
}

/// One of three vanishes without a word, connections and all: no GET fails, each is bounded by what it waits for, and the
/// server is out soon.
fn black_hole() {
    // At a low rate few requests meet it, the more so as those who wait there keep others away.
    let errors = if full() { 5 } else { 2 };
    let mut fleet = Fleet::of(3);
    let proxy = fleet.proxy(&format!(
        "timeout connect=\"500ms\" response=\"1s\"\nretry attempts=2 on=\"connect,reset,timeout\" try-timeout=\"500ms\"\n\
         eject errors={errors} within=\"10s\" for=\"1m\"",
    ));
    let plan = Plan::sized(500, 5_000).posts(20).over(400);
    let second = plan.rate as usize;
    let load = Load::start(proxy.addr(), plan);
    load.wait_more(second);
    let vanished = Instant::now();
    fleet.tell(2, Order::BlackHole(true));
    let state = || proxy.status()["upstreams"][0]["servers"][2]["state"].clone();
    assert!(eventually(PATIENCE, || state() == "ejected"), "{}", state());
    let (took, ejected) = (vanished.elapsed(), load.elapsed());
    load.wait_more(2 * second);
    let tally = load.stop();
    let name = named("black hole, one of three");
    card::load(&name, &tally);
    let most = Duration::from_secs(2);
    card::at_most(&format!("{name}: ejected after"), took, most);
    let gets = tally.entries.iter().filter(|e| !e.post);
    let longest = gets.map(|e| e.took).max().unwrap_or_default();
    // One connect that nobody answers, and the answer of another server.
    let most = Duration::from_millis(750);
    card::at_most(&format!("{name}: longest GET"), longest, most);
    assert!(tally.failed_gets().is_empty(), "{}", tally.brief());
    assert_once(&fleet, &tally);
    // POSTs that were with it or on its connections could not be saved; once it is out nobody is sent there.
    let late = tally.between(ejected, Duration::MAX);
    assert!(late.sent() > second / 2, "{}", late.sent());
    assert!(late.failed().is_empty(), "{}", late.brief());
    assert_eq!(state(), "ejected");
}

/// The origins close their connections 0 to 5 ms after each answer, just as the next request is sent on them.
fn keep_alive_close() {
    let mut fleet = Fleet::of(3);
    fleet.tell_all(Order::CloseAfter(Duration::ZERO, Duration::from_millis(5)));
    let proxy = fleet.proxy("eject #false");
    let count = if full() { 200_000 } else { 5_000 };
    let plan = Plan::at(0).posts(50).over(16).count(count);
    let tally = Load::start(proxy.addr(), plan).finish();
    assert_eq!(tally.sent(), count);
    card::load(&named("origins that close after 0 to 5 ms"), &tally);
    assert!(tally.failed_gets().is_empty(), "{}", tally.brief());
    assert_once(&fleet, &tally);
    // A POST that was sent to a connection that died is lost. The first one on each core says of what kind this server is;
    // others do not run the race.
    assert!(tally.failed().len() * 100 < count, "{}", tally.brief());
}
