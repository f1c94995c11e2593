//! The fault harness itself: origins that die, vanish and misbehave do what the tests that use them believe.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::net::TcpStream;
use std::time::Duration;

use narthex_e2e::kit::attack::{Client, Why};
use narthex_e2e::kit::chaos::{Fleet, Order};
use narthex_e2e::kit::load::{Load, Outcome, Plan};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Id: one\r\n\r\n";

#[test]
fn a_killed_origin_has_told_what_reached_it() {
    let mut fleet = Fleet::of(2);
    fleet.tell(
        0,
        Order::Delay(Duration::from_mins(1), Duration::from_mins(1)),
    );
    let mut c = Client::connect(fleet.addr(0));
    c.send("POST / HTTP/1.1\r\nHost: a\r\nX-Id: lost\r\nContent-Length: 2\r\n\r\nhi");
    while fleet.arrivals().0.is_empty() {
        std::thread::yield_now();
    }
    fleet.kill(0);
    assert!(matches!(
        c.read_response("POST").unwrap_err().why,
        Why::Eof | Why::Reset
    ));
    assert!(TcpStream::connect(fleet.addr(0)).is_err());
    fleet.start(0);
    for i in [0, 1] {
        let r =
            Client::connect(fleet.addr(i)).ask(GET.replace("one", "lost").replace("GET", "POST"));
        assert_eq!((r.status, r.text()), (200, format!("s{i}")));
    }
    let arrivals = fleet.arrivals();
    assert_eq!(arrivals.times("POST").get("lost"), Some(&3));
    assert_eq!(arrivals.twice("POST"), ["lost"]);
    assert_eq!(arrivals.by_server()["s0"], 2);
}

#[test]
fn a_black_hole_says_nothing_and_can_come_back() {
    let mut fleet = Fleet::of(1);
    let mut kept = Client::connect(fleet.addr(0));
    assert_eq!(kept.ask(GET).status, 200);
    fleet.tell(0, Order::BlackHole(true));
    let limit = Duration::from_millis(300);
    let error = TcpStream::connect_timeout(&fleet.addr(0), limit).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    kept.send(GET);
    kept.patience = limit;
    assert_eq!(kept.read_response("GET").unwrap_err().why, Why::Timeout);
    fleet.tell(0, Order::BlackHole(false));
    assert_eq!(Client::connect(fleet.addr(0)).ask(GET).status, 200);
}

#[test]
fn a_frozen_origin_is_connected_to_and_silent() {
    let fleet = Fleet::of(1);
    fleet.freeze(0);
    let mut c = Client::connect(fleet.addr(0));
    c.send(GET);
    c.patience = Duration::from_millis(200);
    assert_eq!(c.read_response("GET").unwrap_err().why, Why::Timeout);
    fleet.thaw(0);
    c.patience = Duration::from_secs(10);
    assert_eq!(c.read_response("GET").unwrap().status, 200);
}

#[test]
fn an_origin_closes_after_its_answers_and_changes_its_status() {
    let mut fleet = Fleet::of(1);
    fleet.tell(
        0,
        Order::CloseAfter(Duration::ZERO, Duration::from_millis(5)),
    );
    let tally = Load::start(fleet.addr(0), Plan::at(0).over(4).count(400)).finish();
    // Without a proxy that knows how to handle it, the race is lost sometimes and won sometimes.
    assert!(tally.cut() > 0 && tally.ok() > 200, "{}", tally.brief());
    assert!(tally.entries.iter().any(|e| e.is_ok() && e.reused));
    fleet.tell(0, Order::Keep);
    fleet.tell(0, Order::Status(503));
    let tally = Load::start(fleet.addr(0), Plan::at(0).over(4).count(40)).finish();
    let busy = |e: &&_| matches!(e, Outcome::Status(503));
    assert_eq!(
        tally
            .entries
            .iter()
            .map(|e| e.outcome)
            .filter(|o| busy(&o))
            .count(),
        40
    );
    let mut c = Client::connect(fleet.addr(0));
    assert_eq!(c.ask(GET.replace("GET /", "GET /healthz")).status, 200);
    fleet.tell(0, Order::Health(500));
    assert_eq!(c.ask(GET.replace("GET /", "GET /healthz")).status, 500);
    let checks = fleet.arrivals().0.iter().filter(|a| a.id == "one").count();
    assert_eq!(checks, 0, "checks are not written down");
}

#[test]
fn an_origin_serves_no_more_at_a_time_than_its_capacity() {
    let mut fleet = Fleet::of(1);
    fleet.tell(0, Order::Capacity(1));
    fleet.tell(
        0,
        Order::Delay(Duration::from_millis(5), Duration::from_millis(5)),
    );
    let tally = Load::start(fleet.addr(0), Plan::at(0).over(8).count(40)).finish();
    assert_eq!(tally.ok(), 40);
    // Eight at once through one door.
    assert!(
        tally.lasted >= Duration::from_millis(200),
        "{}",
        tally.brief()
    );
}
