//! Limits over all servers of an upstream, and limits of requests.

use super::*;

fn totals(servers: &[SocketAddr], total: usize) -> Upstream {
    let mut config = upstream("u", servers.iter().copied());
    config.balance = Balance::RoundRobin;
    config.connections.total = total;
    config.connections.queue_timeout = LONGEST;
    config
}

/// Leases at two different servers.
fn two(cluster: &CoreCluster) -> (Lease, Lease) {
    let first = pick(cluster);
    let second = pick(cluster);
    assert_ne!(first.endpoint().id(), second.endpoint().id());
    (first, second)
}

async fn connect(lease: &Lease) -> Connection {
    lease.connect(Priority::Normal).await.unwrap()
}

#[test]
fn an_idle_connection_to_one_server_makes_room_for_another_server() {
    on_core(|| async {
        let origins = [Origin::start(), Origin::start()];
        let config = totals(&[origins[0].address, origins[1].address], 1);
        let (_fleet, core, cluster) = core_of(config);
        let (first, second) = two(&cluster);
        let connection = connect(&first).await;
        first.release(connection, None);
        assert_eq!(core.idle(), 1);
        let connection = connect(&second).await;
        assert_eq!((core.idle(), cluster.shared().sockets().used()), (0, 1));
        drop(connection);
        assert_eq!(cluster.shared().sockets().used(), 0);
    });
}

#[test]
fn who_waits_for_any_socket_gets_the_one_that_becomes_idle() {
    on_core(|| async {
        let origins = [Origin::start(), Origin::start()];
        let config = totals(&[origins[0].address, origins[1].address], 1);
        let (_fleet, core, cluster) = core_of(config);
        let (first, second) = two(&cluster);
        let held = connect(&first).await;
        let connected = Rc::new(Cell::new(false));
        let result = Rc::clone(&connected);
        rt::spawn(async move {
            let _connection = connect(&second).await;
            result.set(true);
        });
        let sockets = Arc::clone(cluster.shared().sockets());
        until("one waits", || sockets.waiting() == 1).await;
        first.release(held, None);
        until("it is connected", || connected.get()).await;
        until("it is closed", || sockets.used() == 0).await;
        assert_eq!(core.idle(), 0);
    });
}

#[test]
fn an_idle_connection_of_another_core_to_another_server_makes_room() {
    let origins = [Origin::start(), Origin::start()];
    let config = totals(&[origins[0].address, origins[1].address], 1);
    let (fleet, clusters) = fleet_of(&[config], 2);
    let (ready, is_ready) = channel();
    let (done, is_done) = channel::<()>();
    let (fleet_of_first, cluster_of_first) = (Arc::clone(&fleet), Arc::clone(&clusters[0]));
    let first = start_core(move || async move {
        let core = CoreFleet::new(0, fleet_of_first);
        let cluster = core.adopt(&cluster_of_first);
        let lease = pick(&cluster);
        let connection = connect(&lease).await;
        lease.release(connection, None);
        ready.send(lease.endpoint().id()).unwrap();
        until("the other core is through", || is_done.try_recv().is_ok()).await;
        core.idle()
    });
    let idle_at = is_ready.recv_timeout(LONGEST).unwrap();
    let cluster = Arc::clone(&clusters[0]);
    on_core(move || async move {
        let core = CoreFleet::new(1, fleet);
        let cluster = core.adopt(&cluster);
        let (a, b) = two(&cluster);
        let other = if a.endpoint().id() == idle_at { b } else { a };
        connect(&other).await;
    });
    done.send(()).unwrap();
    assert_eq!(first.wait(), 0);
}

#[test]
fn requests_at_a_server_wait_for_a_place_and_the_highest_class_is_first() {
    on_core(|| async {
        let origin = Origin::start();
        let mut config = limited(origin.address, 0);
        config.requests.max = 1;
        let (_fleet, _core, cluster) = core_of(config);
        let first = pick(&cluster);
        assert!(first.try_enter());
        assert!(first.endpoint().is_full());
        let order = Rc::new(RefCell::new(Vec::new()));
        for (n, priority) in [Priority::Low, Priority::High].into_iter().enumerate() {
            let (lease, order) = (pick(&cluster), Rc::clone(&order));
            rt::spawn(async move {
                lease.enter(priority).await.unwrap();
                order.borrow_mut().push(priority);
            });
            let places = Arc::clone(&first.endpoint().places);
            until("it waits", || places.waiting() == n + 1).await;
        }
        let endpoint = Arc::clone(first.endpoint());
        drop(first);
        until("both were served", || order.borrow().len() == 2).await;
        assert_eq!(*order.borrow(), [Priority::High, Priority::Low]);
        until("all have left", || endpoint.places.used() == 0).await;
        assert!(!endpoint.is_full());
    });
}

#[test]
fn requests_at_an_upstream_have_a_bound_and_a_queue_with_an_end() {
    on_core(|| async {
        let origin = Origin::start();
        let mut config = upstream("u", [origin.address]);
        config.requests.total = 2;
        config.connections.queue = 1;
        config.connections.queue_timeout = Duration::from_millis(50);
        let (_fleet, _core, cluster) = core_of(config);
        let held = [cluster.try_admit().unwrap(), cluster.try_admit().unwrap()];
        assert!(cluster.try_admit().is_none());
        let ended = Rc::new(Cell::new(None));
        let (result, waiting) = (Rc::clone(&ended), Rc::clone(&cluster));
        rt::spawn(async move {
            result.set(waiting.admit(Priority::Normal).await.err().map(|e| e.kind));
        });
        let places = Arc::clone(cluster.shared().places());
        until("one waits", || places.waiting() == 1).await;
        let full = cluster.admit(Priority::Normal).await.unwrap_err();
        assert_eq!(full.kind, ConnectErrorKind::Limit);
        until("the wait ends", || ended.get().is_some()).await;
        assert_eq!(ended.get(), Some(ConnectErrorKind::QueueTimeout));
        drop(held);
        assert!(cluster.admit(Priority::Normal).await.is_ok());
        assert_eq!(places.used(), 0);
    });
}

#[test]
fn what_is_not_limited_is_not_counted() {
    on_core(|| async {
        let (_fleet, _core, cluster) = core_of(upstream("u", [nobody()]));
        let lease = pick(&cluster);
        let _admission = cluster.try_admit().unwrap();
        assert!(lease.try_enter());
        assert_eq!(cluster.shared().places().used(), 0);
        assert_eq!(lease.endpoint().places.used(), 0);
    });
}

/// Those who wait at one server do not hand its connection to each other for ever, past those who wait for any.
#[test]
fn one_servers_queue_does_not_keep_another_server_from_the_total() {
    on_core(|| async {
        let origins = [Origin::start(), Origin::start()];
        let mut config = totals(&[origins[0].address, origins[1].address], 1);
        config.connections.max = 1;
        let (_fleet, _core, cluster) = core_of(config);
        let (first, second) = two(&cluster);
        let held = connect(&first).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let ask = |lease: Lease, name: &'static str| {
            let order = Rc::clone(&order);
            rt::spawn(async move {
                let connection = connect(&lease).await;
                order.borrow_mut().push(name);
                lease.release(connection, None);
            });
        };
        ask(second, "second");
        let sockets = Arc::clone(cluster.shared().sockets());
        until("one waits for any", || sockets.waiting() == 1).await;
        let mut picked = std::iter::repeat_with(|| pick(&cluster)).take(4);
        let same = picked.find(|l| l.endpoint().id() == first.endpoint().id());
        ask(same.unwrap(), "first again");
        until("one waits for the server", || {
            first.endpoint().waiting() == 1
        })
        .await;
        first.release(held, None);
        until("both were served", || order.borrow().len() == 2).await;
        assert_eq!(*order.borrow(), ["second", "first again"]);
    });
}

fn adaptive(address: SocketAddr, min: usize, max: usize, wait: Duration) -> Upstream {
    let mut config = upstream("u", [address]);
    config.requests.adaptive = Some(Adaptive {
        min,
        max,
        wait,
        ..Adaptive::default()
    });
    config
}

#[test]
fn who_finds_no_room_below_a_found_limit_waits_for_a_moment() {
    on_core(|| async {
        let moment = Duration::from_millis(50);
        let config = adaptive(nobody(), 1, 1, moment);
        let (fleet, _core, cluster) = core_of(config.clone());
        let held = cluster.try_admit().unwrap();
        assert!(cluster.try_admit().is_none());
        let ended = cluster.admit(Priority::Normal).await.unwrap_err();
        assert_eq!(ended.kind, ConnectErrorKind::Overload);
        let seen = cluster.shared().queue();
        assert_eq!((seen.waited, seen.timeouts, seen.refused), (1, 1, 0));
        // Or not at all.
        fleet.reconcile(&[adaptive(nobody(), 1, 1, Duration::ZERO)]);
        let ended = cluster.admit(Priority::Normal).await.unwrap_err();
        assert_eq!(ended.kind, ConnectErrorKind::Overload);
        // The written limit is the lower one: it has its own word.
        let mut both = adaptive(nobody(), 5, 9, moment);
        both.requests.total = 1;
        fleet.reconcile(&[both]);
        let ended = cluster.admit(Priority::Normal).await.unwrap_err();
        assert_eq!(ended.kind, ConnectErrorKind::QueueTimeout);
        drop(held);
        drop(cluster.admit(Priority::Normal).await.unwrap());
        assert_eq!(cluster.shared().places().used(), 0);
    });
}

#[test]
fn a_found_limit_follows_what_the_cores_see() {
    on_core(|| async {
        let (fleet, _core, cluster) = core_of(adaptive(nobody(), 10, 1_000, Duration::ZERO));
        let limit = |cluster: &CoreCluster| cluster.shared().found_limit().unwrap();
        assert_eq!(limit(&cluster).limit, 32);
        let held: Vec<_> = std::iter::repeat_with(|| cluster.try_admit())
            .map_while(|admitted| admitted)
            .collect();
        assert_eq!((held.len(), limit(&cluster).used), (32, 32));
        let lease = pick(&cluster);
        until("it has grown", || {
            // What was refused, or failed, came soon and says nothing.
            lease.latency(1, Some(503));
            lease.latency(1, Some(429));
            lease.latency(2_000, Some(200));
            limit(&cluster).limit > 32
        })
        .await;
        let seen = limit(&cluster);
        assert!((1_900..=2_100).contains(&seen.pace_us), "{seen:?}");
        // A reload with other bounds keeps what was found; one without forgets it.
        fleet.reconcile(&[adaptive(nobody(), 10, 999, Duration::ZERO)]);
        assert_eq!(limit(&cluster), seen);
        fleet.reconcile(&[upstream("u", [nobody()])]);
        assert!(cluster.shared().found_limit().is_none());
        drop(pick(&cluster));
        let unlimited = cluster.try_admit();
        drop(held);
        assert_eq!(cluster.shared().places().used(), 0);
        drop(unlimited);
    });
}
