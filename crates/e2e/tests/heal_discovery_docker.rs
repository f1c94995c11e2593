//! Servers from Docker containers: against a real engine where we may start one (root), and against a played one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use narthex_e2e::kit::docker::{Engine, Mood, Played, container};
use narthex_e2e::kit::eventually;
use narthex_e2e::kit::found::{
    LONG, heard, held, metric_becomes, origins, proxy, says, served_by, served_by_nobody, up,
};
use narthex_e2e::kit::load::{Load, Plan};
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::Proxy;
use serde_json::{Value, json};

fn discover(socket: &std::path::Path) -> String {
    format!("discover \"docker\" socket=\"unix:{}\"", socket.display())
}

/// The labels of a container that stands for this origin.
fn labels(origin: &Origin) -> [String; 2] {
    let port = origin.addr().port();
    [
        "narthex.upstream=u".to_owned(),
        format!("narthex.port={port}"),
    ]
}

#[test]
fn a_real_engine_says_who_comes_and_goes() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let origins = origins(3);
    let run = |engine: &Engine, name: &str, image: &str, i: usize| {
        let labels = labels(&origins[i]);
        engine.run(name, image, &labels.each_ref().map(String::as_str));
    };
    run(&engine, "one", "waits", 0);
    engine.run(
        "foreign",
        "waits",
        &["narthex.upstream=other", "narthex.port=9"],
    );
    engine.run(
        "wrong",
        "waits",
        &["narthex.upstream=u", "narthex.port=nine"],
    );
    let proxy = proxy(2, &discover(&engine.socket()));
    served_by(&proxy, &["o1"]);
    says(&proxy, "narthex.port=\\\"nine\\\"");
    metric_becomes(&proxy, "narthex_discovery_skipped_total{", "1");

    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    run(&engine, "two", "waits", 1);
    served_by(&proxy, &["o1", "o2"]);
    engine.docker(&["pause", "one"]);
    served_by(&proxy, &["o2"]);
    engine.docker(&["unpause", "one"]);
    served_by(&proxy, &["o1", "o2"]);
    engine.docker(&["rm", "--force", "one"]);
    served_by(&proxy, &["o2"]);
    // In when its check has said that it is well, out when it says that it is not.
    run(&engine, "three", "checked", 2);
    served_by(&proxy, &["o2", "o3"]);
    engine.docker(&["exec", "three", "/program", "ill"]);
    served_by(&proxy, &["o2"]);
    says(&proxy, "the engine finds the container unhealthy");
    engine.docker(&["exec", "three", "/program", "well"]);
    served_by(&proxy, &["o2", "o3"]);
    // The engine goes; its containers do not.
    engine.kill();
    up(&proxy, "0");
    says(&proxy, "the last known servers are kept");
    served_by(&proxy, &["o2", "o3"]);
    engine.resume();
    up(&proxy, "1");
    served_by(&proxy, &["o2", "o3"]);
    engine.docker(&["kill", "two"]);
    served_by(&proxy, &["o3"]);
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}

/// A container in a network of its own is reached at its own address, and its port is the one it exposes.
#[test]
fn a_real_engine_says_addresses() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.docker(&["network", "create", "--subnet", "10.213.7.0/24", "front"]);
    engine.docker(&["network", "create", "--subnet", "10.213.8.0/24", "back"]);
    let run = |name: &str, more: &[&str]| {
        let first = [
            "run",
            "--detach",
            "--label",
            "narthex.upstream=u",
            "--name",
            name,
            "--network=front",
        ];
        engine.docker(&[&first, more, &["waits", "/program"]].concat());
    };
    run("one", &["--expose", "8080", "--ip", "10.213.7.10"]);
    run(
        "two",
        &[
            "--expose",
            "8080",
            "--expose",
            "8081",
            "--ip",
            "10.213.7.11",
        ],
    );
    let proxy = proxy(2, &discover(&engine.socket()));
    says(&proxy, "exposes 2 ports");
    metric_becomes(&proxy, "narthex_discovery_servers{", "1");
    let listed = || {
        let admin = format!("unix:{}", proxy.dir().join("admin.sock").display());
        let out = proxy.command(&["upstream", "list", "u", "--admin", &admin]);
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert!(
        eventually(LONG, || listed().contains("10.213.7.10:8080")),
        "{}",
        listed()
    );
    // In two networks it must be said which.
    engine.docker(&["network", "connect", "back", "one"]);
    engine.docker(&["restart", "--time", "0", "one"]);
    says(&proxy, "say network= with one of back, front");
}

fn start(workers: usize) -> (tempfile::TempDir, Played, Vec<Origin>, Proxy) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let (engine, origins) = (Played::at(&socket), origins(3));
    engine.set(vec![of("one", &origins[0]), of("two", &origins[1])]);
    let proxy = proxy(workers, &discover(&socket));
    served_by(&proxy, &["o1", "o2"]);
    (dir, engine, origins, proxy)
}

fn of(name: &str, origin: &Origin) -> Value {
    container(name, origin.addr().port())
}

fn follows(workers: usize) {
    let (_dir, engine, origins, proxy) = start(workers);
    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    engine.set(vec![
        json!(null),
        of("two", &origins[1]),
        of("three", &origins[2]),
    ]);
    served_by(&proxy, &["o2", "o3"]);
    metric_becomes(&proxy, "narthex_discovery_skipped_total{", "1");
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    engine.set(Vec::new());
    served_by_nobody(&proxy);
    up(&proxy, "1");
    let asked = engine.asked();
    assert!(
        asked[0].target.starts_with("/events?filters=%7B"),
        "{asked:?}"
    );
    assert!(
        asked[0].target.contains("narthex.upstream%3Du"),
        "{asked:?}"
    );
}

#[test]
fn a_played_engine_one_worker() {
    follows(1);
}

#[test]
fn a_played_engine_two_workers() {
    follows(2);
}

#[test]
fn a_played_engine_eight_workers() {
    follows(8);
}

/// What happened while nobody listened is seen all the same.
#[test]
fn events_that_are_cut_are_heard_anew_and_nothing_is_missed() {
    let (_dir, engine, origins, proxy) = start(2);
    engine.set_silently(vec![of("three", &origins[2])]);
    engine.cut();
    served_by(&proxy, &["o3"]);
    let log = proxy.stderr();
    assert!(log.contains("the source of servers fails"), "{log}");
    up(&proxy, "1");
}

fn holds_through(mood: Mood, why: &str) {
    let (_dir, engine, origins, proxy) = start(2);
    let load = Load::start(proxy.addr(), Plan::sized(200, 2_000));
    engine.mood(mood);
    held(&proxy, &["o1", "o2"], why, || engine.asked().len());
    engine.set_silently(vec![of("three", &origins[2])]);
    engine.mood(Mood::Well);
    heard(&proxy, &["o3"]);
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
}

#[test]
fn docker_chaos_dead() {
    holds_through(Mood::Dead, "the connection broke");
}

#[test]
fn docker_chaos_failing() {
    holds_through(Mood::Failing, "no space left");
}

#[test]
fn docker_chaos_nonsense() {
    holds_through(Mood::Says("[{\"Id\": ".to_owned()), "no JSON array");
}

#[test]
fn docker_chaos_a_giant_answer() {
    let giant = format!("[{}1]", "1, ".repeat(6 << 20));
    holds_through(Mood::Says(giant), "more than 16384 KiB");
}

#[test]
fn docker_chaos_an_event_without_end() {
    holds_through(
        Mood::Babbles("x".repeat(2 << 20)),
        "a line has more than 1024 KiB",
    );
}
