//! The choice of a server, passive marking, the retry budget.

use super::*;

#[test]
fn weights_are_exact_under_both_policies() {
    on_core(|| async {
        for balance in [Balance::RoundRobin, Balance::LeastRequests] {
            let mut config = upstream("u", addresses(3));
            config.balance = balance;
            config.servers[0].weight = 3;
            config.servers[1].weight = 2;
            let (_fleet, _core, cluster) = core_of(config);
            assert_eq!(shares(&cluster, 600), [300, 200, 100]);
        }
    });
}

#[test]
fn least_requests_counts_all_cores() {
    let (fleet, clusters) = fleet_of(&[upstream("u", addresses(2))], 2);
    let cluster = Arc::clone(&clusters[0]);
    on_core(move || async move {
        // What another core has under way on the first server.
        let busy = Arc::clone(&cluster.set().members[0].endpoint);
        crate::endpoint::CoreCounters::shift(&busy.counters(1).in_flight, 10);
        let core = CoreFleet::new(0, fleet);
        let cluster = core.adopt(&cluster);
        assert_eq!(shares(&cluster, 10), [0, 10]);
    });
}

#[test]
fn tried_servers_and_backups() {
    on_core(|| async {
        let mut config = upstream("u", addresses(3));
        config.servers[2].backup = true;
        let (_fleet, _core, cluster) = core_of(config);
        assert_eq!(shares(&cluster, 10), [5, 5, 0]);
        let mut tried = Tried::NONE;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let lease = cluster.pick(&Wish::any(&tried, 0)).unwrap();
            seen.push(lease.endpoint().id());
            tried.add(&lease);
        }
        let set = cluster.shared().set();
        assert_eq!(
            seen[2],
            set.members[2].endpoint.id(),
            "the backup comes last"
        );
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3);
        assert!(
            cluster.pick(&Wish::any(&tried, 0)).is_ok(),
            "when all were tried any will do"
        );
    });
}

#[test]
fn no_server_and_no_server_left() {
    on_core(|| async {
        let (_fleet, _core, cluster) = core_of(Upstream::new("empty"));
        assert_eq!(
            cluster.pick(&Wish::any(&Tried::NONE, 0)).unwrap_err(),
            PickError::NoServer
        );
        let (_fleet, _core, cluster) = core_of(upstream("u", addresses(2)));
        let set = cluster.shared().set();
        let set_active = |i: usize, active| {
            set.members[i]
                .endpoint
                .set_active(cluster.shared(), active, Some("test"))
        };
        set_active(0, Active::Gone);
        assert_eq!(shares(&cluster, 10), [0, 10]);
        set_active(1, Active::Unwell);
        assert_eq!(
            shares(&cluster, 10),
            [0, 10],
            "one that answers wrongly is better than none"
        );
        set_active(1, Active::Gone);
        assert_eq!(
            cluster.pick(&Wish::any(&Tried::NONE, 0)).unwrap_err(),
            PickError::AllDown
        );
        set_active(0, Active::Up);
        assert_eq!(shares(&cluster, 10), [10, 0]);
    });
}

#[test]
fn op_07_failing_servers_are_ejected_but_never_all() {
    on_core(|| async {
        let mut config = upstream("u", addresses(4));
        config.eject.errors = 2;
        config.eject.at_most = 100;
        let (_fleet, _core, cluster) = core_of(config);
        for _ in 0..100 {
            pick(&cluster).report(Report::ConnectFailed);
        }
        let states: Vec<_> = cluster
            .shared()
            .set()
            .members
            .iter()
            .map(|m| m.endpoint.state())
            .collect();
        assert_eq!(states.iter().filter(|s| **s == State::Ejected).count(), 3);
        assert_eq!(states.iter().filter(|s| **s == State::Up).count(), 1);
    });
}

#[test]
fn op_06_an_ejected_server_is_tried_by_one_and_returns_slowly() {
    on_core(|| async {
        let mut config = upstream("u", addresses(2));
        config.balance = Balance::RoundRobin;
        config.eject.errors = 1;
        config.eject.for_ = Duration::from_millis(50);
        let (_fleet, _core, cluster) = core_of(config);
        let failing = pick(&cluster);
        let endpoint = Arc::clone(failing.endpoint());
        failing.report(Report::Reset);
        assert_eq!(endpoint.state(), State::Ejected);
        assert_eq!(endpoint.status().last_error.unwrap().0, "connection reset");
        until("its time is over", || endpoint.state() == State::Trial).await;
        let mut leases: Vec<_> = (0..20).map(|_| pick(&cluster)).collect();
        let at = leases
            .iter()
            .position(|l| l.endpoint().id() == endpoint.id())
            .unwrap();
        assert_eq!(
            leases
                .iter()
                .filter(|l| l.endpoint().id() == endpoint.id())
                .count(),
            1,
            "a single trial"
        );
        // A trial that ends without a verdict leaves the chance to another.
        drop(leases.swap_remove(at));
        until("another tries", || {
            pick(&cluster).endpoint().id() == endpoint.id()
        })
        .await;
        leases.clear();
        until("it has succeeded", || {
            let lease = pick(&cluster);
            lease.report(Report::Ok);
            endpoint.state() == State::Returning
        })
        .await;
        let counts = shares(&cluster, 110);
        let mine = cluster
            .shared()
            .set()
            .members
            .iter()
            .position(|m| m.endpoint.id() == endpoint.id())
            .unwrap();
        assert!((1..=30).contains(&counts[mine]), "{counts:?}");
    });
}

#[test]
fn a_failed_trial_ejects_for_longer() {
    on_core(|| async {
        let mut config = upstream("u", addresses(2));
        config.eject.errors = 1;
        config.eject.for_ = Duration::from_millis(20);
        let (_fleet, _core, cluster) = core_of(config);
        let failing = pick(&cluster);
        let endpoint = Arc::clone(failing.endpoint());
        failing.report(Report::Timeout);
        for _ in 0..3 {
            until("it has failed its trial", || {
                let lease = pick(&cluster);
                let mine = lease.endpoint().id() == endpoint.id();
                lease.report(if mine { Report::Timeout } else { Report::Ok });
                mine
            })
            .await;
            assert_eq!(endpoint.state(), State::Ejected);
        }
    });
}

#[test]
fn statuses_count_where_the_upstream_retries_on_them() {
    on_core(|| async {
        let mut config = upstream("u", addresses(2));
        config.eject.errors = 1;
        config.retry.on_status = vec![503];
        let (_fleet, _core, cluster) = core_of(config);
        let lease = pick(&cluster);
        lease.report(Report::Status(500));
        assert_eq!(lease.endpoint().state(), State::Up);
        lease.report(Report::Status(503));
        assert_eq!(lease.endpoint().state(), State::Ejected);
    });
}

#[test]
fn op_03_retries_have_a_budget() {
    on_core(|| async {
        let mut config = upstream("u", addresses(1));
        config.retry.budget = 10;
        let (_fleet, _core, cluster) = core_of(config);
        for _ in 0..1_000 {
            drop(pick(&cluster));
        }
        let granted = (0..1_000).take_while(|_| cluster.may_retry()).count();
        assert_eq!(
            granted, 130,
            "a tenth of a thousand, and three a second for ten seconds"
        );
    });
}

#[test]
fn cores_do_not_run_in_step() {
    let mut config = upstream("u", addresses(4));
    config.balance = Balance::RoundRobin;
    let (fleet, clusters) = fleet_of(&[config], 4);
    let mut firsts: Vec<_> = (0..4)
        .map(|number| {
            let (fleet, cluster) = (Arc::clone(&fleet), Arc::clone(&clusters[0]));
            on_core(move || async move {
                let core = CoreFleet::new(number, fleet);
                pick(&core.adopt(&cluster)).endpoint().id()
            })
        })
        .collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), 4);
}
