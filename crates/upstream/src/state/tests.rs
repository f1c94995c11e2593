use std::net::SocketAddr;

use narthex_config::model::{Discover, Eject, Order, Secret, Server, ServerAddress, Upstream};
use proptest::prelude::*;

use super::*;
use crate::clock::monotonic_ms;
use crate::cluster::overlay::Edit;
use crate::discover::delta::Delta;
use crate::discover::srv::Place;
use crate::endpoint::{Active, CoreCounters, Report};

fn upstream(name: &str, servers: &[u16]) -> Upstream {
    let mut upstream = Upstream::new(name);
    for port in servers {
        let address: SocketAddr = ([127, 0, 0, 1], *port).into();
        let server = Server::new(address.to_string(), ServerAddress::Ip(address));
        upstream.servers.push(server);
    }
    upstream
}

fn named(name: &str, host: &str) -> Upstream {
    let mut upstream = Upstream::new(name);
    let address = ServerAddress::Dns {
        host: host.to_owned(),
        port: 80,
    };
    upstream.servers.push(Server::new(host, address));
    upstream
}

/// A fleet of these upstreams, as a process of so many cores has it after its start.
fn fleet(cores: usize, upstreams: &[Upstream]) -> Arc<Fleet> {
    let fleet = Fleet::new(cores);
    fleet.reconcile(upstreams);
    fleet
}

fn through_json(state: &FleetState) -> FleetState {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}

fn endpoint(fleet: &Fleet, upstream: &str, at: usize) -> Arc<Endpoint> {
    let set = fleet.named(upstream).unwrap().set();
    Arc::clone(&set.members[at].endpoint)
}

fn requests(endpoint: &Endpoint, core: usize, times: usize) {
    for _ in 0..times {
        CoreCounters::bump(&endpoint.counters(core).requests);
    }
}

#[test]
fn an_ejected_server_stays_ejected_and_a_dead_one_dead() {
    let mut upstreams = [upstream("a", &[1, 2, 3]), upstream("b", &[4])];
    upstreams[0].health = Some(crate::testkit::health());
    let old = fleet(2, &upstreams);
    let cluster = old.named("a").unwrap();
    let eject = Eject::default();
    for _ in 0..eject.errors {
        endpoint(&old, "a", 0).failed(&cluster, Report::Timeout, false, monotonic_ms());
    }
    endpoint(&old, "a", 1).set_active(&cluster, Active::Gone, Some("connect: refused"));
    let new = fleet(8, &upstreams);
    assert_eq!(new.import(&through_json(&old.export())), 0);
    assert_eq!(new.status(), old.status());
    let words: Vec<_> = new.status()[0]
        .endpoints
        .iter()
        .map(|e| e.state.word())
        .collect();
    assert_eq!(words, ["ejected", "down", "up"]);
}

#[test]
fn what_is_not_there_any_more_is_left_out() {
    let old = fleet(1, &[upstream("a", &[1, 2]), upstream("b", &[3, 4])]);
    let new = fleet(1, &[upstream("a", &[2, 9])]);
    requests(&endpoint(&old, "a", 1), 0, 7);
    assert_eq!(new.import(&old.export()), 3);
    assert_eq!(endpoint(&new, "a", 0).status().requests, 7);
    assert_eq!(endpoint(&new, "a", 1).status().requests, 0);
}

#[test]
fn found_servers_are_there_at_once() {
    let old = fleet(1, &[named("a", "x.test")]);
    let address = ServerAddress::Dns {
        host: "x.test".to_owned(),
        port: 80,
    };
    let places = [1, 2].map(|n| Place::plain(([10, 0, 0, n], 80).into()));
    old.named("a").unwrap().resolved(&address, places.to_vec());
    requests(&endpoint(&old, "a", 1), 0, 3);
    let new = fleet(1, &[named("a", "x.test")]);
    assert_eq!(new.import(&through_json(&old.export())), 0);
    assert_eq!(new.status()[0].endpoints, old.status()[0].endpoints);
    assert_eq!(new.status()[0].endpoints.len(), 2);
}

/// A file that is just being written does not take its servers away, nor what is known of them.
#[test]
fn listed_servers_are_there_at_once() {
    let listed = |path: &str| {
        let mut upstream = upstream("a", &[1]);
        let path = path.into();
        upstream.discover.push(Discover::File { path });
        upstream
    };
    let old = fleet(1, &[listed("/a.kdl")]);
    let spec = old.named("a").unwrap().lists().remove(0);
    let mut servers = upstream("", &[2, 3]).servers;
    servers[1].weight = 9;
    servers[1].zone = Some("z".to_owned());
    let entries = servers.into_iter().zip(["k2", "k3"]);
    let entries = entries.map(|(server, key)| (key.to_owned(), server));
    let snapshot = Delta::Snapshot(entries.collect());
    old.named("a").unwrap().found(&spec, snapshot.clone());
    requests(&endpoint(&old, "a", 2), 0, 3);
    let new = fleet(1, &[listed("/a.kdl")]);
    let state = through_json(&old.export());
    assert_eq!(new.import(&state), 0);
    assert_eq!(new.status()[0].endpoints, old.status()[0].endpoints);
    assert_eq!(new.named("a").unwrap().set().members[2].weight, 9);
    let again = new.named("a").unwrap().found(&spec, snapshot);
    assert!(!again.is_change(), "the list says what is known");
    let other = fleet(1, &[listed("/b.kdl")]);
    assert_eq!(other.import(&state), 2, "another file is another list");
}

#[test]
fn what_nobody_knows_is_passed_over_and_what_is_missing_is_as_new() {
    let text = r#"{"later":1,"clusters":[{"name":"a","more":{},"servers":[{"address":"127.0.0.1:1","target":"127.0.0.1:1","mood":"good"}]}]}"#;
    let new = fleet(1, &[upstream("a", &[1])]);
    assert_eq!(new.import(&serde_json::from_str(text).unwrap()), 0);
    assert_eq!(endpoint(&new, "a", 0).status().state.word(), "up");
}

#[test]
fn who_has_left_looks_after_nobody_and_still_shows_all() {
    let fleet = fleet(1, &[upstream("a", &[1])]);
    let id = fleet.named("a").unwrap().id();
    fleet.leave();
    assert!(fleet.clusters().is_empty() && fleet.cluster(id).is_none());
    assert_eq!(fleet.status().len(), 1);
}

/// The new configuration may have no check any more, and nobody to say that the server is well.
#[test]
fn what_a_check_said_is_forgotten_with_the_check() {
    let mut checked = upstream("a", &[1, 2]);
    checked.health = Some(crate::testkit::health());
    let old = fleet(1, &[checked.clone()]);
    let cluster = old.named("a").unwrap();
    endpoint(&old, "a", 0).set_active(&cluster, Active::Gone, Some("connect: refused"));
    for (new, state) in [(checked, "down"), (upstream("a", &[1, 2]), "up")] {
        let new = fleet(1, &[new]);
        new.import(&through_json(&old.export()));
        assert_eq!(endpoint(&new, "a", 0).state().word(), state);
    }
}

/// A server that the operator had changed, and that went from the file with the upgrade, is not changed when it comes back.
#[test]
fn what_is_said_of_a_server_goes_with_it() {
    let change = |fleet: &Fleet, edit| fleet.named("a").unwrap().change(None, edit).unwrap();
    let both = [upstream("a", &[1, 2, 3])];
    let old = fleet(1, &both);
    let set = Edit::Set {
        server: "127.0.0.1:1".to_owned(),
        weight: Some(7),
        order: Some(Order::Drain),
        lasts: None,
    };
    change(&old, set);
    change(&old, Edit::Remove("127.0.0.1:2".to_owned()));
    let state = through_json(&old.export());
    let same = fleet(1, &both);
    same.import(&state);
    assert_eq!(same.named("a").unwrap().drift().len(), 3);
    let without = fleet(1, &[upstream("a", &[3])]);
    without.import(&state);
    assert_eq!(without.named("a").unwrap().drift(), []);
    without.reconcile(&both);
    assert!(
        without.status()[0]
            .endpoints
            .iter()
            .all(|e| ["up", "returning"].contains(&e.state.word()))
    );
}

/// Numbers and words that no process of ours has written.
#[test]
fn a_state_that_cannot_be_harms_nobody() {
    let text = r#"{"clusters":[{"name":"a","changes":{"added":[{"name":"127.0.0.1:9","weight":0,"order":"ready"},
        {"name":"127.0.0.1:8","weight":4294967295,"order":"drain"},{"name":"127.0.0.1:7","weight":1,"priority":200,"order":"ready"},
        {"name":"nonsense","weight":1,"order":"ready"}],"laid":[{"name":"127.0.0.1:1","weight":4294967295,"order":"gone","until":18446744073709551615}]},
        "servers":[{"address":"127.0.0.1:1","target":"127.0.0.1:1","active":255,"trial":255,"returned":18446744073709551615,
        "breaker":{"series":4294967295,"length":18446744073709551615,"until":18446744073709551615},
        "counts":{"requests":18446744073709551615,"failures":18446744073709551615,"connects":18446744073709551615},"ejections":18446744073709551615}]}]}"#;
    let new = fleet(2, &[upstream("a", &[1])]);
    new.import(&serde_json::from_str(text).unwrap());
    let cluster = new.named("a").unwrap();
    assert_eq!(cluster.drift(), []);
    let endpoint = endpoint(&new, "a", 0);
    requests(&endpoint, 0, 3);
    for _ in 0..10 {
        endpoint.failed(&cluster, Report::Timeout, true, monotonic_ms());
    }
    assert_eq!(endpoint.requests(), u64::MAX);
    assert_eq!(new.status()[0].endpoints.len(), 1);
    new.export();
}

proptest! {
    /// Whatever happened: the state after taking it over is the state, and so are the counts after the last ones.
    #[test]
    fn a_state_taken_over_is_the_state(
        happened in prop::collection::vec((0usize..5, 0u8..6, 0u64..100_000), 0..60),
        later in prop::collection::vec((0usize..5, 1usize..9), 0..10),
        cores in 1usize..9,
    ) {
        let mut checked = upstream("a", &[1, 2, 3, 4, 5]);
        checked.health = Some(crate::testkit::health());
        let upstreams = [checked];
        let old = fleet(2, &upstreams);
        let cluster = old.named("a").unwrap();
        for (at, what, when) in happened {
            let endpoint = endpoint(&old, "a", at);
            let now = monotonic_ms() + when;
            match what {
                0 | 1 => endpoint.failed(&cluster, Report::ConnectFailed, what == 1, now),
                2 => endpoint.recovered(&cluster),
                3 => drop(endpoint.enter(now)),
                4 => drop(endpoint.set_active(&cluster, Active::from_bits((when % 5) as u8), Some("x"))),
                _ => requests(&endpoint, at, when as usize % 50),
            }
        }
        let state = old.export();
        let new = fleet(cores, &upstreams);
        prop_assert_eq!(new.import(&through_json(&state)), 0);
        prop_assert_eq!(new.export(), state.clone());
        for (at, times) in later {
            requests(&endpoint(&old, "a", at), 1, times);
            requests(&endpoint(&new, "a", at), 0, 1);
            new.add_counts(&FleetCounts::default());
            endpoint(&old, "a", at).carry(Counts { failures: 1, ..Counts::default() });
        }
        let last = old.counts_since(&state);
        let before: Vec<_> = new.status()[0].endpoints.iter().map(|e| (e.requests, e.failures)).collect();
        new.add_counts(&last);
        for (at, (requests, failures)) in before.into_iter().enumerate() {
            let (old, new) = (&old.status()[0].endpoints[at], &new.status()[0].endpoints[at]);
            let was = &state.clusters[0].servers[at].counts;
            prop_assert_eq!(new.requests, requests + old.requests - was.requests);
            prop_assert_eq!(new.failures, failures + old.failures - was.failures);
        }
    }
}

#[test]
fn what_lists_said_crosses_and_what_is_no_longer_asked_does_not() {
    let list = |service: &str| Discover::Consul {
        address: ServerAddress::Ip(([127, 0, 0, 1], 8500).into()),
        service: service.to_owned(),
        tag: None,
        datacenter: None,
        token: Some(Secret::new("env:TOKEN", "geheim")),
    };
    let mut upstream = Upstream::new("a");
    upstream.discover = vec![list("one"), list("two")];
    let old = fleet(1, std::slice::from_ref(&upstream));
    let cluster = old.named("a").unwrap();
    for (service, port) in [("one", 1), ("two", 2)] {
        let mut server = Server::new(
            format!("127.0.0.1:{port}"),
            ServerAddress::Ip(([127, 0, 0, 1], port).into()),
        );
        server.weight = 7;
        let delta = Delta::Snapshot(vec![(format!("n/{service}"), server)]);
        cluster.found(&list(service), delta);
    }
    let state = through_json(&old.export());
    assert!(!serde_json::to_string(&state).unwrap().contains("geheim"));

    upstream.discover.remove(0);
    let new = fleet(1, &[upstream]);
    new.import(&state);
    let set = new.named("a").unwrap().set();
    assert_eq!(set.members.len(), 1);
    assert_eq!(set.members[0].endpoint.name(), "127.0.0.1:2");
    assert_eq!(set.members[0].weight, 7);
    // It has said nothing itself yet.
    assert!(!new.named("a").unwrap().sources()[0].up);
}
