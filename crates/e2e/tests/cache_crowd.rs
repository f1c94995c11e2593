//! A thousand clients of one fetch, whose client leaves, whose origin dies or stands still: whatever happens, all of them are
//! answered or cut within the bounds, and the origin hears no more than it must.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::cached::{FRESH, ask, is_hit, stored};
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::origin::{Origin, Step, answer};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually, full, raise_open_files, workers};
use narthex_e2e::with_1_2_and_8_workers;

/// Clients: a thousand, and fewer where only the number of workers is another.
fn crowd_size() -> usize {
    if full() || workers::now() == workers::USUAL {
        1_000
    } else {
        200
    }
}

/// `lock wait`, as it is if nothing says otherwise.
const LOCK_WAIT: Duration = Duration::from_secs(5);

with_1_2_and_8_workers!(
    one_fetch_for_all,
    one_fetch_of_what_was_stale,
    what_is_not_kept_releases_all_at_once,
    the_first_leaves_before_the_head,
    the_first_leaves_in_the_middle,
    an_origin_dies_before_the_head,
    an_origin_dies_each_time,
    an_origin_dies_in_the_middle,
    an_origin_stands_still_in_the_middle,
);

/// An origin whose answers are kept; all clients have one address.
#[track_caller]
fn rig(upstream: &str) -> Rig {
    raise_open_files();
    Rig::full(
        Origin::start(),
        "connections per-client=2000",
        upstream,
        "cache\nproxy \"u\"",
    )
}

/// All ask for it, and the origin has the first one's request; all others wait for that.
fn crowd(rig: &Rig, path: &str) -> Vec<Client> {
    let before = collapsed(rig);
    let mut clients: Vec<Client> = (0..crowd_size()).map(|_| rig.connect()).collect();
    clients[0].send(get(path, ""));
    let has = |seen: &[narthex_e2e::kit::origin::Seen]| seen.iter().any(|s| s.path() == path);
    assert!(rig.origin.wait_for(PATIENCE, has));
    for client in &mut clients[1..] {
        client.send(get(path, ""));
    }
    let all = before + clients.len() - 1;
    assert!(
        eventually(PATIENCE, || collapsed(rig) >= all),
        "{} of {all} wait",
        collapsed(rig)
    );
    clients
}

fn collapsed(rig: &Rig) -> usize {
    let metrics = rig.proxy.metrics();
    let mut lines = metrics.lines();
    let line = lines.find_map(|l| l.strip_prefix("narthex_cache_collapsed_total "));
    line.map_or(0, |n| n.parse().unwrap())
}

/// Requests that the origin has had for it.
fn fetches(rig: &Rig, path: &str) -> usize {
    rig.origin
        .seen()
        .iter()
        .filter(|s| s.path() == path)
        .count()
}

/// A head after a gate, and the body after another.
fn gated(head: &str, rest: &str, then: Step) -> Vec<Step> {
    let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n{FRESH}\r\nhalf");
    vec![
        Step::ReadBody,
        Step::Gate(head.into()),
        Step::Send(bytes.into_bytes()),
        Step::Gate(rest.into()),
        then,
    ]
}

fn rest() -> Step {
    Step::Send(b"rest".to_vec())
}

#[track_caller]
fn all_get(clients: &mut [Client], status: u16, text: &str) {
    for (n, client) in clients.iter_mut().enumerate() {
        let r = client.read_response("GET").unwrap();
        assert_eq!((r.status, r.text().as_str()), (status, text), "client {n}");
    }
}

#[track_caller]
fn within(limit: Duration, what: impl FnOnce()) {
    let begun = Instant::now();
    what();
    assert!(begun.elapsed() < limit, "it took {:?}", begun.elapsed());
}

fn one_fetch_for_all() {
    let rig = rig("");
    rig.origin.on("/t", gated("head", "rest", rest()));
    let mut clients = crowd(&rig, "/t");
    comes_in_halves(&rig, &mut clients, |_| ());
}

/// All have half of it, then something happens, then all of those who are left have the rest.
#[track_caller]
fn comes_in_halves(rig: &Rig, clients: &mut Vec<Client>, between: impl FnOnce(&mut Vec<Client>)) {
    rig.origin.open("head");
    for client in clients.iter_mut() {
        client.read_past(b"half");
    }
    between(clients);
    rig.origin.open("rest");
    for client in clients {
        client.read_past(b"rest");
    }
    assert_eq!(fetches(rig, "/t"), 1);
}

fn one_fetch_of_what_was_stale() {
    let rig = rig("");
    let old = stored("Cache-Control: max-age=0\r\nETag: \"a\"\r\n", "halfrest");
    rig.origin.next(answer(old));
    ask(&rig, "/t", "");
    let fresh = format!("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n{FRESH}\r\n");
    rig.origin.on(
        "/t",
        vec![
            Step::ReadBody,
            Step::Gate("fresh".into()),
            Step::Send(fresh.into_bytes()),
        ],
    );
    let mut clients = crowd(&rig, "/t");
    rig.origin.open("fresh");
    all_get(&mut clients, 200, "halfrest");
    assert_eq!(fetches(&rig, "/t"), 2);
}

/// Nobody waits for another one after the answer that says so.
fn what_is_not_kept_releases_all_at_once() {
    let rig = rig("");
    let own = || stored("Cache-Control: no-store\r\n", "own");
    rig.origin.next(vec![
        Step::ReadBody,
        Step::Gate("first".into()),
        Step::Send(own()),
    ]);
    // None of the others is answered before all of them have asked.
    rig.origin.on(
        "/t",
        vec![
            Step::ReadBody,
            Step::Gate("others".into()),
            Step::Send(own()),
        ],
    );
    let mut clients = crowd(&rig, "/t");
    rig.origin.open("first");
    assert!(rig.origin.wait_heads(clients.len()));
    rig.origin.open("others");
    all_get(&mut clients, 200, "own");
}

fn the_first_leaves_before_the_head() {
    let rig = rig("");
    rig.origin.on("/t", gated("head", "rest", rest()));
    let mut clients = crowd(&rig, "/t");
    clients.remove(0).reset();
    rig.alive();
    rig.origin.open("head");
    rig.origin.open("rest");
    within(LOCK_WAIT, || all_get(&mut clients, 200, "halfrest"));
    assert_eq!(fetches(&rig, "/t"), 1);
}

fn the_first_leaves_in_the_middle() {
    let rig = rig("");
    rig.origin.on("/t", gated("head", "rest", rest()));
    let mut clients = crowd(&rig, "/t");
    comes_in_halves(&rig, &mut clients, |clients| {
        clients.remove(0).reset();
        rig.alive();
    });
    assert!(is_hit(&ask(&rig, "/t", "")));
}

/// The next one of those who wait fetches for the others.
fn an_origin_dies_before_the_head() {
    let rig = rig("retry attempts=0");
    rig.origin
        .next(vec![Step::ReadBody, Step::Gate("die".into()), Step::Reset]);
    rig.origin.on("/t", answer(stored(FRESH, "halfrest")));
    let mut clients = crowd(&rig, "/t");
    rig.origin.open("die");
    assert_eq!(clients.remove(0).read_response("GET").unwrap().status, 502);
    within(LOCK_WAIT, || all_get(&mut clients, 200, "halfrest"));
    assert_eq!(fetches(&rig, "/t"), 2);
}

/// Nobody tries for ever.
fn an_origin_dies_each_time() {
    let rig = rig("retry attempts=0\n eject #false");
    rig.origin.on(
        "/t",
        vec![Step::ReadBody, Step::Gate("die".into()), Step::Reset],
    );
    let mut clients = crowd(&rig, "/t");
    rig.origin.open("die");
    within(LOCK_WAIT + PATIENCE, || {
        for client in &mut clients {
            let r = client.read_response("GET").unwrap();
            assert!(matches!(r.status, 502..=504), "{}", r.status);
        }
    });
    assert!(fetches(&rig, "/t") <= clients.len());
}

fn an_origin_dies_in_the_middle() {
    let rig = rig("");
    rig.origin.next(gated("head", "die", Step::Reset));
    rig.origin.on("/t", answer(stored(FRESH, "anew")));
    are_cut(&rig, || rig.origin.open("die"), PATIENCE);
}

fn an_origin_stands_still_in_the_middle() {
    let bound = Duration::from_secs(1);
    let rig = rig("timeout body=\"1s\"");
    rig.origin.next(gated("head", "never", rest()));
    rig.origin.on("/t", answer(stored(FRESH, "anew")));
    are_cut(&rig, || (), bound + PATIENCE);
}

/// All have half of it; then it dies, and no one believes that this is the whole. The next one fetches anew.
#[track_caller]
fn are_cut(rig: &Rig, die: impl FnOnce(), limit: Duration) {
    let mut clients = crowd(rig, "/t");
    rig.origin.open("head");
    for client in &mut clients {
        client.read_past(b"half");
    }
    die();
    within(limit, || {
        for client in &mut clients {
            let (bytes, _) = client.rest();
            assert_eq!(bytes, b"");
        }
    });
    assert_eq!(fetches(rig, "/t"), 1);
    assert_eq!(ask(rig, "/t", "").text(), "anew");
    assert_eq!(fetches(rig, "/t"), 2);
}
