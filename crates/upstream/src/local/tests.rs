//! The core half on real cores, with real sockets on loopback.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use narthex_config::model::{Balance, Server, ServerAddress, Upstream};
use narthex_net::rt;

use super::*;
use crate::endpoint::{Active, Report, State};
use crate::testkit::{LONGEST, Origin, nobody, on_core, start_core, until, upstream};

fn fleet_of(upstreams: &[Upstream], cores: usize) -> (Arc<Fleet>, Vec<Arc<Cluster>>) {
    let fleet = Fleet::new(cores);
    let clusters = fleet.reconcile(upstreams);
    (fleet, clusters)
}

fn core_of(upstream: Upstream) -> (Arc<Fleet>, Rc<CoreFleet>, Rc<CoreCluster>) {
    let (fleet, clusters) = fleet_of(&[upstream], 1);
    let core = CoreFleet::new(0, Arc::clone(&fleet));
    let cluster = core.adopt(&clusters[0]);
    (fleet, core, cluster)
}

fn pick(cluster: &CoreCluster) -> Lease {
    cluster.pick(&Tried::NONE, 0).unwrap()
}

fn addresses(n: u8) -> Vec<SocketAddr> {
    (1..=n)
        .map(|i| SocketAddr::from(([127, 0, 0, i], 9)))
        .collect()
}

fn shares(cluster: &CoreCluster, n: usize) -> Vec<usize> {
    let set = cluster.shared().set();
    let mut counts = vec![0; set.members.len()];
    for _ in 0..n {
        let lease = pick(cluster);
        counts[set
            .members
            .iter()
            .position(|m| m.endpoint.id() == lease.endpoint().id())
            .unwrap()] += 1;
    }
    counts
}

#[test]
fn a_connection_is_used_again() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(upstream("u", [origin.address]));
        let lease = pick(&cluster);
        assert!(lease.try_idle().is_none());
        let first = lease.connect().await.unwrap();
        assert!(first.fresh());
        let mut peer = origin.accept();
        lease.release(first, None);
        assert_eq!(core.idle(), 1);
        let status = lease.endpoint().status();
        assert_eq!(
            (
                status.in_flight,
                status.idle,
                status.sockets,
                status.requests,
                status.connects
            ),
            (1, 1, 1, 1, 1)
        );
        drop(lease);
        let lease = pick(&cluster);
        let again = lease.try_idle().unwrap();
        assert!(again.reused && again.requests == 1);
        again.stream.send_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        peer.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
        drop(again);
        let status = lease.endpoint().status();
        assert_eq!((status.idle, status.sockets), (0, 0));
        let handle = lease.handle();
        drop(lease);
        assert_eq!(handle.name(), origin.address.to_string());
        assert_eq!(
            handle.endpoint().in_flight(),
            0,
            "a handle is not a request"
        );
    });
}

#[test]
fn the_newest_idle_connection_comes_first() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, _core, cluster) = core_of(upstream("u", [origin.address]));
        let lease = pick(&cluster);
        let (old, new) = (
            lease.connect().await.unwrap(),
            lease.connect().await.unwrap(),
        );
        let _peers = (origin.accept(), origin.accept());
        lease.release(old, None);
        lease.release(new, None);
        let mut newest = lease.try_idle().unwrap();
        newest.requests = 100;
        lease.release(newest, None);
        assert_eq!(lease.try_idle().unwrap().requests, 101);
    });
}

#[test]
fn op_04_an_idle_connection_that_the_server_closes_is_dropped_when_it_happens() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(upstream("u", [origin.address]));
        let lease = pick(&cluster);
        for _ in 0..3 {
            let mut open = Vec::new();
            let mut peers = Vec::new();
            for _ in 0..5 {
                open.push(lease.connect().await.unwrap());
                peers.push(origin.accept());
            }
            for connection in open {
                lease.release(connection, None);
            }
            assert_eq!(core.idle(), 5);
            drop(peers.pop());
            until("the closed one is gone", || core.idle() == 4).await;
            drop(peers);
            until("all are gone", || core.idle() == 0).await;
            assert_eq!(lease.endpoint().status().sockets, 0);
        }
    });
}

#[test]
fn h1_34_bytes_on_an_idle_connection_end_it() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(upstream("u", [origin.address]));
        let lease = pick(&cluster);
        let connection = lease.connect().await.unwrap();
        let mut peer = origin.accept();
        lease.release(connection, None);
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        until("the poisoned connection is gone", || core.idle() == 0).await;
        assert!(lease.try_idle().is_none());
        // And it is closed, not only forgotten.
        assert!(matches!(peer.read(&mut [0; 8]), Ok(0) | Err(_)));
    });
}

#[test]
fn h1_34_surplus_bytes_before_the_release_end_it() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(upstream("u", [origin.address]));
        let lease = pick(&cluster);
        let connection = lease.connect().await.unwrap();
        let mut peer = origin.accept();
        peer.write_all(b"response|surplus").unwrap();
        let mut response = [0; 8];
        connection.stream.recv(&mut response).await.unwrap();
        assert_eq!(&response, b"response");
        lease.release(connection, None);
        assert_eq!(core.idle(), 0);
    });
}

#[test]
fn a_response_that_filled_the_buffer_exactly_is_no_surplus() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(upstream("u", [origin.address]));
        let lease = pick(&cluster);
        let connection = lease.connect().await.unwrap();
        let mut peer = origin.accept();
        peer.write_all(b"response").unwrap();
        let mut response = [0; 8];
        connection.stream.recv(&mut response).await.unwrap();
        assert!(
            connection.stream.registration().is_readable(),
            "only the kernel knows that there is no more"
        );
        lease.release(connection, None);
        assert_eq!(core.idle(), 1);
        assert!(lease.try_idle().is_some());
    });
}

#[test]
fn idle_connections_have_an_age_limit() {
    on_core(|| async {
        let origin = Origin::start();
        let mut config = upstream("u", [origin.address]);
        config.timeouts.idle = Duration::from_millis(200);
        let (_fleet, core, cluster) = core_of(config);
        let lease = pick(&cluster);
        let connection = lease.connect().await.unwrap();
        let _peer = origin.accept();
        lease.release(connection, None);
        assert_eq!(core.idle(), 1);
        until("it is too old", || core.idle() == 0).await;
        let connection = lease.connect().await.unwrap();
        lease.release(connection, Some(0));
        assert!(
            lease.try_idle().is_none(),
            "the server keeps no idle connections"
        );
    });
}

#[test]
fn idle_connections_are_capped() {
    on_core(|| async {
        let origin = Origin::start();
        let mut config = upstream("u", [origin.address]);
        config.connections.idle = 2;
        let (_fleet, core, cluster) = core_of(config);
        let lease = pick(&cluster);
        let mut open = Vec::new();
        for _ in 0..4 {
            open.push(lease.connect().await.unwrap());
        }
        for connection in open {
            lease.release(connection, None);
        }
        assert_eq!(core.idle(), 2);
        assert_eq!(lease.endpoint().status().sockets, 2);
    });
}

#[test]
fn failures_to_connect_have_their_names() {
    on_core(|| async {
        let (_fleet, _core, cluster) = core_of(upstream("u", [nobody()]));
        let error = pick(&cluster).connect().await.unwrap_err();
        assert_eq!(error.kind, ConnectErrorKind::Refused);
        assert!(error.blames_server());
        let mut config = Upstream::new("unix");
        let address = ServerAddress::Unix("/nonexistent/narthex.sock".into());
        config.servers = vec![Server {
            name: "s".into(),
            address,
            weight: 1,
            backup: false,
        }];
        let (_fleet, _core, cluster) = core_of(config);
        let lease = pick(&cluster);
        assert_eq!(
            lease.connect().await.unwrap_err().kind,
            ConnectErrorKind::Refused
        );
        assert_eq!(
            lease.endpoint().status().sockets,
            0,
            "a failed connect gives its place back"
        );
    });
}

#[test]
fn op_02_a_server_that_does_not_accept_is_given_up_in_time() {
    on_core(|| async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut config = upstream("u", [listener.local_addr().unwrap()]);
        config.timeouts.connect = Duration::from_millis(50);
        let (_fleet, _core, cluster) = core_of(config);
        let lease = pick(&cluster);
        // What the backlog holds is connected; the next handshake is not answered.
        let mut held = Vec::new();
        let error = loop {
            match lease.connect().await {
                Ok(connection) => held.push(connection),
                Err(error) => break error,
            }
            assert!(held.len() < 10, "the backlog has no end");
        };
        assert_eq!(error.kind, ConnectErrorKind::Timeout);
        assert!(error.blames_server());
        assert_eq!(lease.endpoint().status().sockets, held.len() as u64);
    });
}

#[test]
fn servers_on_unix_sockets() {
    on_core(|| async {
        let path =
            std::env::temp_dir().join(format!("narthex-upstream-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut config = Upstream::new("unix");
        let address = ServerAddress::Unix(path.clone());
        config.servers = vec![Server {
            name: "s".into(),
            address,
            weight: 1,
            backup: false,
        }];
        let (_fleet, core, cluster) = core_of(config);
        let lease = pick(&cluster);
        let connection = lease.connect().await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        connection.stream.send_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        peer.read_exact(&mut said).unwrap();
        lease.release(connection, None);
        assert_eq!(core.idle(), 1);
        drop(peer);
        until("its end is noticed", || core.idle() == 0).await;
        std::fs::remove_file(&path).unwrap();
    });
}

#[test]
fn at_the_limit_requests_queue_and_the_queue_is_bounded() {
    on_core(|| async {
        let origin = Origin::start();
        let mut config = upstream("u", [origin.address]);
        config.connections.max = 1;
        config.connections.queue = 1;
        config.connections.queue_timeout = Duration::from_millis(50);
        let (_fleet, _core, cluster) = core_of(config);
        let lease = Rc::new(pick(&cluster));
        let held = lease.connect().await.unwrap();
        let waiting = Rc::clone(&lease);
        let ended = Rc::new(Cell::new(None));
        let result = Rc::clone(&ended);
        rt::spawn(async move { result.set(waiting.connect().await.err().map(|e| e.kind)) });
        until("one waits", || lease.endpoint().status().waiting == 1).await;
        assert_eq!(
            lease.connect().await.unwrap_err().kind,
            ConnectErrorKind::Limit
        );
        until("the wait ends", || ended.get().is_some()).await;
        assert_eq!(ended.get(), Some(ConnectErrorKind::QueueTimeout));
        drop(held);
        assert!(lease.connect().await.is_ok());
        assert_eq!(lease.endpoint().status().sockets, 0);
    });
}

fn limited(address: SocketAddr, max: usize) -> Upstream {
    let mut config = upstream("u", [address]);
    config.connections.max = max;
    config.connections.queue_timeout = LONGEST;
    config
}

#[test]
fn a_released_connection_goes_to_the_one_who_waits_on_this_core() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(limited(origin.address, 1));
        let lease = Rc::new(pick(&cluster));
        let held = lease.connect().await.unwrap();
        let _peer = origin.accept();
        let got = Rc::new(RefCell::new(None));
        let (waiting, result) = (Rc::clone(&lease), Rc::clone(&got));
        rt::spawn(async move { *result.borrow_mut() = waiting.connect().await.ok() });
        until("one waits", || lease.endpoint().status().waiting == 1).await;
        lease.release(held, None);
        until("it has a connection", || got.borrow().is_some()).await;
        assert!(got.borrow().as_ref().unwrap().reused);
        assert_eq!((core.idle(), lease.endpoint().status().sockets), (0, 1));
    });
}

#[test]
fn one_who_leaves_the_queue_passes_on_what_was_handed_over() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(limited(origin.address, 1));
        let lease = Rc::new(pick(&cluster));
        let held = lease.connect().await.unwrap();
        let mut waiting = Box::pin(lease.connect());
        std::future::poll_fn(|cx| {
            assert!(waiting.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        lease.release(held, None);
        drop(waiting);
        assert_eq!((core.idle(), lease.endpoint().status().sockets), (1, 1));
        assert!(lease.try_idle().is_some());
    });
}

#[test]
fn an_idle_connection_of_another_core_makes_room() {
    let origin = Origin::start();
    let (fleet, clusters) = fleet_of(&[limited(origin.address, 1)], 2);
    let (ready, is_ready) = channel();
    let (done, is_done) = channel::<()>();
    let (fleet_of_first, cluster_of_first) = (Arc::clone(&fleet), Arc::clone(&clusters[0]));
    let first = start_core(move || async move {
        let core = CoreFleet::new(0, fleet_of_first);
        let cluster = core.adopt(&cluster_of_first);
        let lease = pick(&cluster);
        let connection = lease.connect().await.unwrap();
        lease.release(connection, None);
        ready.send(core.idle()).unwrap();
        until("the other core is through", || is_done.try_recv().is_ok()).await;
        core.idle()
    });
    assert_eq!(is_ready.recv_timeout(LONGEST), Ok(1));
    let cluster = Arc::clone(&clusters[0]);
    let fresh = on_core(move || async move {
        let core = CoreFleet::new(1, fleet);
        let cluster = core.adopt(&cluster);
        pick(&cluster).connect().await.unwrap().fresh()
    });
    assert!(fresh);
    done.send(()).unwrap();
    assert_eq!(first.wait(), 0);
}

#[test]
fn many_workers_on_many_cores_share_few_sockets() {
    const CORES: usize = 16;
    const WORKERS: usize = 2;
    const ROUNDS: usize = 50;
    const MAX: usize = 4;
    let origin = Origin::start();
    let (fleet, clusters) = fleet_of(&[limited(origin.address, MAX)], CORES);
    let peak = Arc::new(AtomicUsize::new(0));
    let cores: Vec<_> = (0..CORES)
        .map(|number| {
            let (fleet, cluster, peak) = (
                Arc::clone(&fleet),
                Arc::clone(&clusters[0]),
                Arc::clone(&peak),
            );
            start_core(move || async move {
                let core = CoreFleet::new(number, fleet);
                let cluster = core.adopt(&cluster);
                let finished = Rc::new(Cell::new(0));
                for worker in 0..WORKERS {
                    let (cluster, peak, finished) =
                        (Rc::clone(&cluster), Arc::clone(&peak), Rc::clone(&finished));
                    rt::spawn(async move {
                        for round in 0..ROUNDS {
                            let lease = pick(&cluster);
                            let connection = match lease.try_idle() {
                                Some(connection) => connection,
                                None => lease.connect().await.unwrap(),
                            };
                            peak.fetch_max(lease.endpoint().sockets.used(), Ordering::Relaxed);
                            rt::yield_now().await;
                            // Some end badly.
                            if (round + worker) % 7 == 0 {
                                drop(connection);
                            } else {
                                lease.release(connection, None);
                            }
                        }
                        finished.set(finished.get() + 1);
                    });
                }
                until("every worker is through", || finished.get() == WORKERS).await;
                // This core's idle connections close with it; the other cores may wait for them.
                drop(cluster);
                drop(core);
            })
        })
        .collect();
    for core in cores {
        core.wait();
    }
    assert!(
        (1..=MAX).contains(&peak.load(Ordering::Relaxed)),
        "{peak:?}"
    );
    let status = clusters[0].set().members[0].endpoint.status();
    assert_eq!(
        (
            status.in_flight,
            status.waiting,
            status.sockets,
            status.idle
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(status.requests, (CORES * WORKERS * ROUNDS) as u64);
}

#[test]
fn reload_keeps_pools_and_counters() {
    on_core(|| async {
        let origin = Origin::start();
        let config = upstream("u", [origin.address]);
        let (fleet, core, cluster) = core_of(config.clone());
        let lease = pick(&cluster);
        let connection = lease.connect().await.unwrap();
        lease.release(connection, None);
        drop(lease);
        let mut changed = config.clone();
        changed.servers.push(crate::testkit::server(nobody()));
        changed.servers[0].weight = 7;
        changed.timeouts.response = Duration::from_secs(7);
        let again = fleet.reconcile(&[Upstream::new("other"), changed.clone()]);
        assert!(Arc::ptr_eq(&again[1], cluster.shared()));
        let adopted = core.adopt(&again[1]);
        assert!(Rc::ptr_eq(&adopted, &cluster));
        assert_eq!(adopted.settings().timeouts.response, Duration::from_secs(7));
        assert_eq!(core.idle(), 1);
        let set = again[1].set();
        assert_eq!(set.members[0].weight, 7);
        assert_eq!(set.members[0].endpoint.status().requests, 1);
        // A server that goes takes its connections with it.
        changed.servers.remove(0);
        fleet.reconcile(&[changed]);
        until("its idle connections are closed", || core.idle() == 0).await;
        assert_eq!(set.members[0].endpoint.status().sockets, 0);
    });
}

#[test]
fn a_forgotten_upstream_closes_its_connections_when_nobody_uses_it() {
    on_core(|| async {
        let origin = Origin::start();
        let (fleet, core, cluster) = core_of(upstream("u", [origin.address]));
        let lease = pick(&cluster);
        let connection = lease.connect().await.unwrap();
        lease.release(connection, None);
        fleet.reconcile(&[]);
        fleet.forget_unused();
        assert!(lease.try_idle().is_some_and(|c| {
            lease.release(c, None);
            true
        }));
        drop(lease);
        drop(cluster);
        until("the pool is closed", || core.idle() == 0).await;
    });
}

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
            let lease = cluster.pick(&tried, 0).unwrap();
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
            cluster.pick(&tried, 0).is_ok(),
            "when all were tried any will do"
        );
    });
}

#[test]
fn no_server_and_no_server_left() {
    on_core(|| async {
        let (_fleet, _core, cluster) = core_of(Upstream::new("empty"));
        assert_eq!(
            cluster.pick(&Tried::NONE, 0).unwrap_err(),
            PickError::NoServer
        );
        let (_fleet, _core, cluster) = core_of(upstream("u", addresses(2)));
        let set = cluster.shared().set();
        let set_active =
            |i: usize, active| set.members[i].endpoint.set_active(active, Some("test"));
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
            cluster.pick(&Tried::NONE, 0).unwrap_err(),
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
