//! Servers from a Consul catalogue: against a played agent, for there is no Consul to test with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use narthex_e2e::kit::consul::{Consul, Mood, instance};
use narthex_e2e::kit::eventually;
use narthex_e2e::kit::found::{
    LONG, config, heard, held, metric, metric_becomes, origins, proxy, says, served_by,
    served_by_nobody, up, who,
};
use narthex_e2e::kit::load::{Load, Plan};
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;
use serde_json::{Value, json};

fn discover(consul: &Consul) -> String {
    format!(
        "discover \"consul\" address=\"{}\" service=\"api\"",
        consul.addr()
    )
}

/// The instance of an origin, with an address of its own.
fn of(origin: &Origin) -> Value {
    let port = origin.addr().port();
    instance(&format!("i{port}"), "127.0.0.1", port, 1)
}

fn start(workers: usize) -> (Consul, Vec<Origin>, Proxy) {
    let (consul, origins) = (Consul::start(), origins(3));
    consul.set(vec![of(&origins[0]), of(&origins[1])]);
    let proxy = proxy(workers, &discover(&consul));
    served_by(&proxy, &["o1", "o2"]);
    assert!(eventually(LONG, || waits_at(&consul, "11")));
    (consul, origins, proxy)
}

/// The last question is one that waits for a change after this index.
fn waits_at(consul: &Consul, index: &str) -> bool {
    let asked = consul.asked();
    asked
        .last()
        .is_some_and(|a| a.query("index") == Some(index))
}

fn follows(workers: usize) {
    let (consul, origins, proxy) = start(workers);
    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    // The second by its node's address; two that are none.
    let by_node = instance("node", "", origins[1].addr().port(), 3);
    let bad = [json!({ "Node": 7 }), instance("none", "127.0.0.1", 0, 1)];
    consul.set([vec![by_node], bad.to_vec(), vec![of(&origins[2])]].concat());
    served_by(&proxy, &["o2", "o3"]);
    metric_becomes(&proxy, "narthex_discovery_skipped_total{", "2");
    says(&proxy, "instance 2");
    says(&proxy, "n1/none");
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    consul.set(Vec::new());
    served_by_nobody(&proxy);
    up(&proxy, "1");
}

#[test]
fn consul_says_who_comes_and_goes_one_worker() {
    follows(1);
}

#[test]
fn consul_says_who_comes_and_goes_two_workers() {
    follows(2);
}

#[test]
fn consul_says_who_comes_and_goes_eight_workers() {
    follows(8);
}

/// It is asked with the index of its last answer, and not again and again while nothing happens.
#[test]
fn questions_wait_for_a_change() {
    let (consul, origins, proxy) = start(2);
    let questions = consul.asked().len();
    assert_eq!(questions, 2, "{:?}", consul.asked());
    assert_eq!(consul.asked()[1].query("wait"), Some("60s"));
    consul.set(vec![of(&origins[2])]);
    served_by(&proxy, &["o3"]);
    assert!(eventually(LONG, || waits_at(&consul, "12")));
    assert_eq!(consul.asked().len(), questions + 1);
}

/// An index that goes backwards is no index to wait with.
#[test]
fn an_index_that_goes_backwards_is_begun_anew() {
    let (consul, origins, proxy) = start(2);
    consul.restore(3, vec![of(&origins[2])]);
    served_by(&proxy, &["o3"]);
    let again = || {
        let asked = consul.asked();
        let indexes: Vec<_> = asked.iter().map(|a| a.query("index")).collect();
        indexes.ends_with(&[Some("11"), None, Some("3")])
    };
    assert!(eventually(LONG, again), "{:?}", consul.asked());
    // Zero would not wait: one is the least.
    consul.restore(0, vec![of(&origins[0])]);
    served_by(&proxy, &["o1"]);
    assert!(
        eventually(LONG, || waits_at(&consul, "1")),
        "{:?}",
        consul.asked()
    );
}

fn holds_through(mood: Mood, why: &str) {
    let (consul, origins, proxy) = start(2);
    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    consul.mood(mood);
    held(&proxy, &["o1", "o2"], why, || consul.asked().len());
    consul.set(vec![of(&origins[2])]);
    consul.mood(Mood::Well);
    heard(&proxy, &["o3"]);
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}

#[test]
fn consul_chaos_dead() {
    holds_through(Mood::Dead, "the connection broke");
}

#[test]
fn consul_chaos_without_a_leader() {
    holds_through(Mood::Failing, "No cluster leader");
}

#[test]
fn consul_chaos_silent() {
    holds_through(Mood::Silent, "the connection broke");
}

#[test]
fn consul_chaos_nonsense() {
    holds_through(Mood::Says("{\"x\": [".to_owned()), "no JSON array");
}

#[test]
fn consul_chaos_a_giant_answer() {
    let giant = format!("[{}1]", "1, ".repeat(6 << 20));
    holds_through(Mood::Says(giant), "more than 16384 KiB");
}

/// To a token that may see nothing Consul says that there is nothing.
#[test]
fn consul_chaos_a_token_that_may_see_nothing() {
    holds_through(Mood::Hiding, "service:read");
}

#[test]
fn ten_thousand_instances_are_taken_and_no_more() {
    let (consul, _origins, proxy) = start(2);
    let many = (0..10_005).map(|i| {
        instance(
            &format!("i{i:05}"),
            &format!("127.1.{}.{}", i / 250, i % 250),
            9,
            1,
        )
    });
    consul.set(many.collect());
    metric_becomes(&proxy, "narthex_discovery_servers{", "10000");
    metric_becomes(&proxy, "narthex_discovery_skipped_total{", "5");
    up(&proxy, "1");
}

#[test]
fn what_is_asked_is_what_is_written_and_the_token_is_not_shown() {
    let (consul, origins) = (Consul::start(), origins(1));
    consul.set(vec![of(&origins[0])]);
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "geheim-1\n").unwrap();
    let proxy = proxy(
        2,
        &format!(
            "discover \"consul\" address=\"{}\" service=\"a b/c\" tag=\"v&2\" datacenter=\"dc1\" token=\"file:{}\"",
            consul.addr(),
            token.display()
        ),
    );
    served_by(&proxy, &["o1"]);
    let asked = consul.asked();
    assert_eq!(
        asked[0].target,
        "/v1/health/service/a%20b%2Fc?passing=true&tag=v%262&dc=dc1"
    );
    assert_eq!(asked[0].fields["x-consul-token"], "geheim-1");
    consul.mood(Mood::Says("geheim-1".to_owned()));
    up(&proxy, "0");
    let shown = format!(
        "{}{}{}",
        proxy.stderr(),
        proxy.metrics(),
        String::from_utf8_lossy(
            &proxy
                .command(&["config", "show", "--effective", "--config", "narthex.kdl"])
                .stdout
        )
    );
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(shown.contains("token=\"file:"), "{shown}");
    let skipped = metric(&proxy, "narthex_discovery_skipped_total{");
    assert_eq!(skipped, None);
}

/// What a source said last survives a new token and a new process, though the source answers neither.
#[test]
fn a_reload_and_an_upgrade_while_consul_is_dead_take_nobody_away() {
    let (consul, origins) = (Consul::start(), origins(2));
    consul.set(vec![of(&origins[0])]);
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "one").unwrap();
    let discover = format!("{} token=\"file:{}\"", discover(&consul), token.display());
    let mut proxy = proxy(2, &discover);
    served_by(&proxy, &["o1"]);
    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    consul.mood(Mood::Dead);
    up(&proxy, "0");
    std::fs::write(&token, "two").unwrap();
    proxy.reload_ok(&config(2, &discover));
    assert_eq!(who(&proxy), ["o1".to_owned()].into());
    assert!(eventually(LONG, || consul
        .asked()
        .last()
        .is_some_and(|a| a.fields["x-consul-token"] == "two")));
    let old = proxy.upgrade_ok();
    assert_eq!(who(&proxy), ["o1".to_owned()].into());
    proxy.await_end_of(old);
    up(&proxy, "0");
    consul.set(vec![of(&origins[1])]);
    consul.mood(Mood::Well);
    served_by(&proxy, &["o2"]);
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}
