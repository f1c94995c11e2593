//! Servers from etcd: against a real one, with a relay between that cuts and holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use narthex_e2e::kit::etcd::Etcd;
use narthex_e2e::kit::eventually;
use narthex_e2e::kit::found::{
    LONG, metric, metric_becomes, origins, proxy, says, served_by, served_by_nobody, up,
};
use narthex_e2e::kit::load::{Load, Plan};
use narthex_e2e::kit::relay::Relay;

fn discover(at: std::net::SocketAddr) -> String {
    format!("discover \"etcd\" address=\"{at}\" prefix=\"/s/u/\"")
}

fn follows(workers: usize) {
    let (etcd, origins) = (Etcd::start(), origins(3));
    let place = |i: usize| origins[i].place();
    etcd.put("/s/u/a", &place(0));
    etcd.put("/s/u/b", "nonsense");
    etcd.put("/s/ux", &place(2));
    let proxy = proxy(workers, &discover(etcd.addr()));
    served_by(&proxy, &["o1"]);
    let log = proxy.stderr();
    assert!(log.contains("/s/u/b") && log.contains("nonsense"), "{log}");
    let skipped = metric(&proxy, "narthex_discovery_skipped_total{");
    assert_eq!(skipped.as_deref(), Some("1"));

    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    // A bad entry becomes a good one; an object says what the server is.
    etcd.put(
        "/s/u/b",
        &format!("{{\"address\": \"{}\", \"weight\": 2}}", place(1)),
    );
    served_by(&proxy, &["o1", "o2"]);
    etcd.put("/s/u/c", &place(2));
    served_by(&proxy, &["o1", "o2", "o3"]);
    etcd.delete("/s/u/a");
    served_by(&proxy, &["o2", "o3"]);
    // A good one becomes a bad one, and costs only itself.
    etcd.put("/s/u/b", "{\"address\": 7}");
    served_by(&proxy, &["o3"]);
    metric_becomes(&proxy, "narthex_discovery_skipped_total{", "2");
    metric_becomes(&proxy, "narthex_discovery_servers{", "1");
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    etcd.ctl(&["del", "--prefix", "/s/u/"]);
    served_by_nobody(&proxy);
    up(&proxy, "1");
}

#[test]
fn etcd_says_who_comes_and_goes_one_worker() {
    follows(1);
}

#[test]
fn etcd_says_who_comes_and_goes_two_workers() {
    follows(2);
}

#[test]
fn etcd_says_who_comes_and_goes_eight_workers() {
    follows(8);
}

#[test]
fn an_etcd_that_dies_takes_nobody_away_and_is_heard_again() {
    let (mut etcd, origins) = (Etcd::start(), origins(2));
    etcd.put("/s/u/a", &origins[0].place());
    let proxy = proxy(2, &discover(etcd.addr()));
    served_by(&proxy, &["o1"]);
    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    etcd.kill();
    up(&proxy, "0");
    says(&proxy, "the last known servers are kept");
    served_by(&proxy, &["o1"]);
    etcd.resume();
    etcd.put("/s/u/b", &origins[1].place());
    served_by(&proxy, &["o1", "o2"]);
    up(&proxy, "1");
    says(&proxy, "the source of servers works again");
    // One that has lost everything, its revisions too, is believed: it answers.
    etcd.forget();
    etcd.resume();
    etcd.put("/s/u/c", &origins[1].place());
    served_by(&proxy, &["o2"]);
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}

/// An etcd that is not there at the start holds nobody up. It is a name here, one address of which takes no connection.
#[test]
fn an_etcd_that_comes_late_is_heard() {
    let (mut etcd, origins) = (Etcd::start(), origins(1));
    etcd.put("/s/u/a", &origins[0].place());
    etcd.kill();
    let address = format!("localhost:{}", etcd.addr().port());
    let discover = discover(etcd.addr()).replace(&etcd.addr().to_string(), &address);
    let proxy = proxy(2, &discover);
    served_by_nobody(&proxy);
    up(&proxy, "0");
    etcd.resume();
    up(&proxy, "1");
    served_by(&proxy, &["o1"]);
}

#[test]
fn a_watch_that_is_cut_is_begun_anew_and_misses_nothing() {
    let (etcd, origins) = (Etcd::start(), origins(2));
    etcd.put("/s/u/a", &origins[0].place());
    let relay = Relay::to(etcd.addr());
    let proxy = proxy(2, &discover(relay.addr()));
    served_by(&proxy, &["o1"]);
    // While nobody watches.
    relay.hold(Some("POST"));
    relay.cut();
    up(&proxy, "0");
    etcd.put("/s/u/b", &origins[1].place());
    etcd.delete("/s/u/a");
    served_by(&proxy, &["o1"]);
    relay.hold(None);
    served_by(&proxy, &["o2"]);
    up(&proxy, "1");
}

/// Between the reading and the watch everything is compacted: the revision that is asked for is no more.
#[test]
fn a_compacted_revision_is_read_anew() {
    let (etcd, origins) = (Etcd::start(), origins(2));
    etcd.put("/s/u/a", &origins[0].place());
    let relay = Relay::to(etcd.addr());
    relay.hold(Some("POST /v3/watch"));
    let proxy = proxy(2, &discover(relay.addr()));
    served_by(&proxy, &["o1"]);
    assert!(eventually(LONG, || relay.held() == 1));
    etcd.put("/s/u/b", &origins[1].place());
    etcd.delete("/s/u/a");
    etcd.put("/other", "1");
    let revision = etcd.ctl(&["get", "/other", "--write-out=json"]);
    let revision: serde_json::Value = serde_json::from_str(&revision).unwrap();
    let revision = revision.pointer("/header/revision").unwrap().to_string();
    etcd.ctl(&["compaction", &revision]);
    served_by(&proxy, &["o1"]);
    relay.hold(None);
    served_by(&proxy, &["o2"]);
    // It was no failure, and it is watched again.
    let log = proxy.stderr();
    assert!(!log.contains("the source of servers fails"), "{log}");
    etcd.put("/s/u/a", &origins[0].place());
    served_by(&proxy, &["o1", "o2"]);
}

#[test]
fn a_login_is_needed_if_etcd_wants_one_and_is_never_shown() {
    let (mut etcd, origins) = (Etcd::start(), origins(2));
    etcd.put("/s/u/a", &origins[0].place());
    etcd.protect("narthex", "geheim-1", "/s/u/");
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("password");
    let discover = format!(
        "{} user=\"narthex\" password=\"file:{}\"",
        discover(etcd.addr()),
        secret.display()
    );
    std::fs::write(&secret, "geheim-2\n").unwrap();
    let wrong = proxy(2, &discover);
    up(&wrong, "0");
    says(&wrong, "invalid user ID or password");
    std::fs::write(&secret, "geheim-1\n").unwrap();
    let right = proxy(2, &discover);
    served_by(&right, &["o1"]);
    etcd.put("/s/u/b", &origins[1].place());
    served_by(&right, &["o1", "o2"]);
    for proxy in [&wrong, &right] {
        let shown = format!("{}{}", proxy.stderr(), proxy.metrics());
        assert!(!shown.contains("geheim"), "{shown}");
    }
    let plain = proxy(2, &self::discover(etcd.addr()));
    up(&plain, "0");
    says(&plain, "user name is empty");
}

/// More keys than are taken: so many are, in their order, and the others are counted.
#[test]
fn a_giant_prefix_is_cut() {
    let (etcd, origins) = (Etcd::start(), origins(1));
    // In transactions: a process of `etcdctl` per key would take minutes.
    let puts = |from: usize| -> String {
        let put = |i| format!("put /s/u/{i:06} 127.{}.{}.1:9\n", 1 + i / 250, i % 250);
        (from..from + 100).map(put).collect()
    };
    etcd.put("/s/u/+", &origins[0].place());
    for from in (0..10_100).step_by(100) {
        etcd.transact(&puts(from));
    }
    let proxy = proxy(2, &format!("{}\neject #false", discover(etcd.addr())));
    metric_becomes(&proxy, "narthex_discovery_servers{", "10000");
    up(&proxy, "1");
    says(&proxy, "101 keys");
    let skipped = metric(&proxy, "narthex_discovery_skipped_total{");
    assert_eq!(skipped.as_deref(), Some("1"));
    // When some of them go, those that were left out come in.
    etcd.ctl(&["del", "/s/u/000000", "/s/u/010000"]);
    metric_becomes(&proxy, "narthex_discovery_servers{", "101");
    etcd.ctl(&["del", "/s/u/0", "/s/u/1"]);
    metric_becomes(&proxy, "narthex_discovery_servers{", "1");
    served_by(&proxy, &["o1"]);
}
