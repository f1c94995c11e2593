//! Second attempts: where they may go, what they spend, and what is known of a server that was not waited for.

use narthex_config::model::{Hedge, Order};

use super::*;

fn hedging(servers: u8, budget: u8) -> Upstream {
    let mut config = upstream("u", addresses(servers));
    config.retry.budget = 100;
    config.hedge = Some(Hedge {
        after: Duration::from_millis(1),
        budget,
    });
    config
}

/// The second server's number, if there is one, for a request that the first lease is of.
fn second(cluster: &CoreCluster, first: &Lease) -> Result<u64, NoHedge> {
    let mut tried = Tried::NONE;
    tried.add(first);
    let (lease, _admission) = cluster.hedge(&Wish::any(&tried, 0))?;
    Ok(lease.endpoint().id())
}

#[test]
fn another_server_that_is_well_or_none() {
    on_core(|| async {
        let (_fleet, _core, cluster) = core_of(hedging(3, 100));
        for _ in 0..30 {
            cluster.earn_hedge();
            let first = pick(&cluster);
            assert_ne!(second(&cluster, &first), Ok(first.endpoint().id()));
        }
        let set = cluster.shared().set();
        let endpoint = |i: usize| &set.members[i].endpoint;
        endpoint(0).set_order(Order::Drain);
        endpoint(1).set_active(cluster.shared(), Active::Unwell, Some("test"));
        cluster.shared().health_moved();
        let first = pick(&cluster);
        assert_eq!(first.endpoint().id(), endpoint(2).id());
        cluster.earn_hedge();
        for _ in 0..500 {
            assert_eq!(second(&cluster, &first), Err(NoHedge::NoServer));
        }
        // Nothing was spent for those.
        endpoint(1).set_active(cluster.shared(), Active::Up, None);
        assert_eq!(second(&cluster, &first), Ok(endpoint(1).id()));
    });
}

#[test]
fn a_server_of_the_next_rank_will_do() {
    on_core(|| async {
        let mut config = hedging(2, 100);
        config.servers[1].backup = true;
        let (_fleet, _core, cluster) = core_of(config);
        let set = cluster.shared().set();
        let first = pick(&cluster);
        assert_eq!(second(&cluster, &first), Ok(set.members[1].endpoint.id()));
    });
}

#[test]
fn both_budgets_and_the_limit_of_requests() {
    on_core(|| async {
        let (_fleet, _core, cluster) = core_of(hedging(2, 50));
        let first = pick(&cluster);
        assert!(second(&cluster, &first).is_ok(), "the first is free");
        assert_eq!(second(&cluster, &first), Err(NoHedge::OverBudget));
        cluster.earn_hedge();
        assert_eq!(second(&cluster, &first), Err(NoHedge::OverBudget));
        cluster.earn_hedge();
        assert!(second(&cluster, &first).is_ok());

        let mut config = hedging(2, 100);
        config.retry.budget = 0;
        let (_fleet, _core, cluster) = core_of(config);
        (0..100).for_each(|_| cluster.earn_hedge());
        let first = pick(&cluster);
        let made = (0..100).filter(|_| second(&cluster, &first).is_ok());
        assert_eq!(made.count(), 30, "retries per second, over ten");

        let mut config = hedging(2, 100);
        config.requests.total = 1;
        let (_fleet, _core, cluster) = core_of(config);
        let first = pick(&cluster);
        let _place = cluster.try_admit().unwrap();
        assert_eq!(second(&cluster, &first), Err(NoHedge::NoServer));
    });
}

#[test]
fn who_was_not_waited_for_has_neither_failed_nor_succeeded() {
    on_core(|| async {
        let mut config = hedging(1, 100);
        config.balance = Balance::LeastTime;
        let (_fleet, _core, cluster) = core_of(config);
        let lease = pick(&cluster);
        let expected = |lease: &Lease| lease.endpoint.recent.get().now(rt::now_ms()).unwrap();
        lease.given_up(2_000_000);
        assert!(expected(&lease) > 1_900_000, "silence is slow");
        lease.given_up(1_000);
        assert!(expected(&lease) > 1_900_000, "a short silence is no speed");
        let other = pick(&cluster);
        other.report(Report::Ok);
        drop((lease, other));
        // Two leases, of which one was given up (twice, here).
        assert_eq!(
            cluster.shared().set().members[0].endpoint.tried_and_bad(),
            (0, 0)
        );
    });
}
