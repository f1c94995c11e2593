//! Keys, cookies, ranks and times: what a request wishes, and whom it gets.

use narthex_config::model::{HashBalance, Order, Sticky, Template};

use super::*;
use crate::balance::ring;

fn hash(bound: u8) -> Balance {
    Balance::Hash(HashBalance {
        by: Template::default(),
        bound,
    })
}

fn keyed(cluster: &CoreCluster, key: &str) -> Lease {
    let wish = Wish {
        key: Some(ring::key(key.as_bytes())),
        ..Wish::any(&Tried::NONE, 0)
    };
    cluster.pick(&wish).unwrap()
}

fn tagged(cluster: &CoreCluster, tag: Tag, tried: &Tried) -> Lease {
    let wish = Wish {
        server: Some(tag),
        ..Wish::any(tried, 0)
    };
    cluster.pick(&wish).unwrap()
}

#[test]
fn a_key_stays_until_its_server_goes_or_is_too_busy() {
    on_core(|| async {
        let mut config = upstream("u", addresses(5));
        config.balance = hash(25);
        let (_fleet, _core, cluster) = core_of(config);
        let home = keyed(&cluster, "a").endpoint().id();
        assert!((0..20).all(|_| keyed(&cluster, "a").endpoint().id() == home));
        // The mean of 10 is 2; 3 are allowed.
        let leases: Vec<_> = (0..10).map(|_| keyed(&cluster, "a")).collect();
        let here = leases.iter().filter(|l| l.endpoint().id() == home).count();
        assert_eq!(here, 3, "bounded");
        drop(leases);
        let set = cluster.shared().set();
        let home = set
            .members
            .iter()
            .find(|m| m.endpoint.id() == home)
            .unwrap();
        home.endpoint
            .set_active(cluster.shared(), Active::Gone, Some("test"));
        let next = keyed(&cluster, "a").endpoint().id();
        assert_ne!(next, home.endpoint.id());
        assert!((0..20).all(|_| keyed(&cluster, "a").endpoint().id() == next));
    });
}

#[test]
fn requests_without_a_key_are_spread() {
    on_core(|| async {
        let mut config = upstream("u", addresses(4));
        config.balance = hash(0);
        let (_fleet, _core, cluster) = core_of(config);
        assert_eq!(shares(&cluster, 40), [10; 4]);
    });
}

#[test]
fn a_cookie_holds_while_its_server_drains() {
    on_core(|| async {
        let mut config = upstream("u", addresses(3));
        config.sticky = Some(Sticky::new("s"));
        let (fleet, _core, cluster) = core_of(config.clone());
        let first = pick(&cluster);
        let server = first.endpoint().id();
        let (tag, text) = cluster.seal(&first, 29_000_000).unwrap();
        let opened = cluster.open(text.as_bytes(), 29_000_001).unwrap();
        assert_eq!((opened.tag, opened.age), (tag, 1));
        let at = config
            .servers
            .iter()
            .position(|s| s.name == first.name())
            .unwrap();
        for order in [Order::Ready, Order::Drain] {
            config.servers[at].order = order;
            fleet.reconcile(&[config.clone()]);
            assert!((0..9).all(|_| tagged(&cluster, tag, &Tried::NONE).endpoint().id() == server));
        }
        assert_eq!(shares(&cluster, 10)[at], 0, "nobody new");
        let mut tried = Tried::NONE;
        tried.add(&first);
        assert_ne!(
            tagged(&cluster, tag, &tried).endpoint().id(),
            server,
            "it failed"
        );
        config.servers[at].order = Order::Down;
        fleet.reconcile(&[config.clone()]);
        assert_ne!(tagged(&cluster, tag, &Tried::NONE).endpoint().id(), server);
        for server in &mut config.servers {
            server.order = Order::Down;
        }
        fleet.reconcile(&[config]);
        let none = cluster.pick(&Wish::any(&Tried::NONE, 0)).unwrap_err();
        assert_eq!(none, PickError::AllDown);
    });
}

#[test]
fn a_process_that_takes_over_reads_the_cookies() {
    on_core(|| async {
        let mut config = upstream("u", addresses(1));
        config.sticky = Some(Sticky::new("s"));
        let (old, _core, cluster) = core_of(config.clone());
        let (_, text) = cluster.seal(&pick(&cluster), 7).unwrap();
        let (new, clusters) = fleet_of(&[config], 1);
        assert!(new.adopt_sticky_key(old.sticky_key()));
        assert!(!new.adopt_sticky_key([1; 16]), "once");
        let core = CoreFleet::new(0, new);
        assert!(core.adopt(&clusters[0]).open(text.as_bytes(), 7).is_some());
    });
}

#[test]
fn another_attempt_goes_down_the_ranks() {
    on_core(|| async {
        let mut config = upstream("u", addresses(4));
        config.servers[0].priority = 1;
        config.servers[1].backup = true;
        config.servers[3].zone = Some("far".into());
        config.servers[2].zone = Some("near".into());
        let fleet = Fleet::new(1);
        fleet.set_zone(Some("near"));
        let clusters = fleet.reconcile(&[config.clone()]);
        let core = CoreFleet::new(0, Arc::clone(&fleet));
        let cluster = core.adopt(&clusters[0]);
        let mut tried = Tried::NONE;
        let mut names = Vec::new();
        for _ in 0..4 {
            let lease = cluster.pick(&Wish::any(&tried, 0)).unwrap();
            tried.add(&lease);
            names.push(lease.name().to_owned());
        }
        let due: Vec<_> = [2, 3, 0, 1]
            .map(|i: usize| config.servers[i].name.clone())
            .into();
        assert_eq!(names, due);
    });
}

#[test]
fn least_time_goes_where_it_is_answered_sooner() {
    on_core(|| async {
        let mut config = upstream("u", addresses(3));
        config.balance = Balance::LeastTime;
        let (_fleet, _core, cluster) = core_of(config.clone());
        let slow = config.servers[1].name.clone();
        for _ in 0..30 {
            let lease = pick(&cluster);
            lease.latency(if lease.name() == slow { 50_000 } else { 500 }, None);
        }
        assert_eq!(shares(&cluster, 40)[1], 0);
    });
}

#[test]
fn many_servers_share_by_chance() {
    on_core(|| async {
        for balance in [Balance::Random, Balance::LeastRequests] {
            let mut config = upstream("u", addresses(40));
            config.balance = balance;
            config.servers[0].weight = 10;
            let (_fleet, _core, cluster) = core_of(config);
            let set = cluster.shared().set();
            let mut first = 0;
            let mut random = 1u64;
            for _ in 0..4_900 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let wish = Wish::any(&Tried::NONE, random ^ (random >> 29));
                let lease = cluster.pick(&wish).unwrap();
                first += usize::from(lease.endpoint().id() == set.members[0].endpoint.id());
            }
            assert!((800..1_250).contains(&first), "{first} of 4900, due 1000");
        }
    });
}

#[test]
fn few_that_are_left_are_not_left_alone() {
    on_core(|| async {
        let (_fleet, _core, cluster) = core_of(upstream("u", addresses(6)));
        let set = cluster.shared().set();
        for (i, member) in set.members.iter().enumerate().skip(1) {
            let active = if i == 5 { Active::Gone } else { Active::Unwell };
            member
                .endpoint
                .set_active(cluster.shared(), active, Some("test"));
        }
        assert_eq!(shares(&cluster, 50), [10, 10, 10, 10, 10, 0]);
        assert!(cluster.shared().is_in_panic());
        set.members[1]
            .endpoint
            .set_active(cluster.shared(), Active::Up, None);
        assert!(!cluster.shared().is_in_panic());
        let counts = shares(&cluster, 110);
        assert_eq!(
            counts[2..],
            [0; 4],
            "a third is available: no panic: {counts:?}"
        );
    });
}
