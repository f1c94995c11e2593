//! A bounded number of sockets, shared by requests and cores.

use super::*;

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
        let held = lease.connect(Priority::Normal).await.unwrap();
        let waiting = Rc::clone(&lease);
        let ended = Rc::new(Cell::new(None));
        let result = Rc::clone(&ended);
        rt::spawn(async move {
            result.set(
                waiting
                    .connect(Priority::Normal)
                    .await
                    .err()
                    .map(|e| e.kind),
            )
        });
        until("one waits", || lease.endpoint().status().waiting == 1).await;
        assert_eq!(
            lease.connect(Priority::Normal).await.unwrap_err().kind,
            ConnectErrorKind::Limit
        );
        until("the wait ends", || ended.get().is_some()).await;
        assert_eq!(ended.get(), Some(ConnectErrorKind::QueueTimeout));
        drop(held);
        assert!(lease.connect(Priority::Normal).await.is_ok());
        assert_eq!(lease.endpoint().status().sockets, 0);
    });
}

#[test]
fn a_released_connection_goes_to_the_one_who_waits_on_this_core() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(limited(origin.address, 1));
        let lease = Rc::new(pick(&cluster));
        let held = lease.connect(Priority::Normal).await.unwrap();
        let _peer = origin.accept();
        let got = Rc::new(RefCell::new(None));
        let (waiting, result) = (Rc::clone(&lease), Rc::clone(&got));
        rt::spawn(
            async move { *result.borrow_mut() = waiting.connect(Priority::Normal).await.ok() },
        );
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
        let held = lease.connect(Priority::Normal).await.unwrap();
        let mut waiting = Box::pin(lease.connect(Priority::Normal));
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
        let connection = lease.connect(Priority::Normal).await.unwrap();
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
        pick(&cluster)
            .connect(Priority::Normal)
            .await
            .unwrap()
            .fresh()
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
                                None => lease.connect(Priority::Normal).await.unwrap(),
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

/// One core takes every connection that comes free, as fast as it can; the others still get theirs.
#[test]
fn nobody_starves_beside_a_busy_core() {
    const MAX: usize = 4;
    const ROUNDS: usize = 20;
    for cores in [1, 2, 8, 16] {
        let origin = Origin::start();
        let (fleet, clusters) = fleet_of(&[limited(origin.address, MAX)], cores);
        let others_left = Arc::new(AtomicUsize::new(cores - 1));
        let peak = Arc::new(AtomicUsize::new(0));
        let working: Vec<_> = (0..cores)
            .map(|number| {
                let (fleet, cluster) = (Arc::clone(&fleet), Arc::clone(&clusters[0]));
                let (others_left, peak) = (Arc::clone(&others_left), Arc::clone(&peak));
                start_core(move || async move {
                    let core = CoreFleet::new(number, fleet);
                    let cluster = core.adopt(&cluster);
                    if number == 0 {
                        hammer(&cluster, &others_left, &peak).await;
                    } else {
                        for _ in 0..ROUNDS {
                            one_request(&cluster, &peak).await;
                        }
                        others_left.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for core in working {
            core.wait();
        }
        let peak = peak.load(Ordering::Relaxed);
        assert!((1..=MAX).contains(&peak), "{peak} sockets on {cores} cores");
    }
}

async fn one_request(cluster: &Rc<CoreCluster>, peak: &AtomicUsize) {
    let lease = pick(cluster);
    let connection = match lease.try_idle() {
        Some(connection) => connection,
        None => lease.connect(Priority::Normal).await.unwrap(),
    };
    peak.fetch_max(lease.endpoint().sockets.used(), Ordering::Relaxed);
    rt::yield_now().await;
    lease.release(connection, None);
}

/// More tasks than connections, without a pause, until the others are through.
async fn hammer(
    cluster: &Rc<CoreCluster>,
    others_left: &Arc<AtomicUsize>,
    peak: &Arc<AtomicUsize>,
) {
    let finished = Rc::new(Cell::new(0));
    for _ in 0..8 {
        let (cluster, finished) = (Rc::clone(cluster), Rc::clone(&finished));
        let (others_left, peak) = (Arc::clone(others_left), Arc::clone(peak));
        rt::spawn(async move {
            for round in 0.. {
                one_request(&cluster, &peak).await;
                if others_left.load(Ordering::SeqCst) == 0 && round > 100 {
                    break;
                }
            }
            finished.set(finished.get() + 1);
        });
    }
    until("all are through", || finished.get() == 8).await;
}

/// A server that is removed and comes back has two sides on a core while requests from before are under way; they share one
/// queue.
#[test]
fn a_server_that_was_away_hands_over_to_those_from_before() {
    on_core(|| async {
        let origin = Origin::start();
        let config = limited(origin.address, 2);
        let (fleet, _core, cluster) = core_of(config.clone());
        let before = Rc::new(pick(&cluster));
        let held = before.connect(Priority::Normal).await.unwrap();
        fleet.reconcile(&[upstream("u", [nobody()])]);
        drop(pick(&cluster));
        fleet.reconcile(&[config]);
        let after = pick(&cluster);
        assert_eq!(before.endpoint().id(), after.endpoint().id());
        let other = after.connect(Priority::Normal).await.unwrap();
        let got = Rc::new(RefCell::new(None));
        let (waiting, result) = (Rc::clone(&before), Rc::clone(&got));
        rt::spawn(async move {
            *result.borrow_mut() = Some(waiting.connect(Priority::Normal).await);
        });
        until("one waits", || before.endpoint().waiting() == 1).await;
        after.release(other, None);
        until("the wait ends", || got.borrow().is_some()).await;
        let handed = got.borrow_mut().take().unwrap().unwrap();
        assert!(handed.reused);
        drop((handed, held));
        assert_eq!(before.endpoint().status().sockets, 0);
    });
}

/// Two who wait, and an idle connection on each of two other cores: both are asked for theirs, whoever is asked first.
#[test]
fn every_idle_connection_makes_room_for_somebody() {
    for _ in 0..10 {
        let origin = Origin::start();
        let (fleet, clusters) = fleet_of(&[limited(origin.address, 2)], 3);
        let through = Arc::new(AtomicUsize::new(0));
        let (ready, is_ready) = channel();
        let holding: Vec<_> = [0, 1]
            .into_iter()
            .map(|number| {
                let (fleet, cluster) = (Arc::clone(&fleet), Arc::clone(&clusters[0]));
                let (ready, through) = (ready.clone(), Arc::clone(&through));
                start_core(move || async move {
                    let core = CoreFleet::new(number, fleet);
                    let cluster = core.adopt(&cluster);
                    let lease = pick(&cluster);
                    let connection = lease.connect(Priority::Normal).await.unwrap();
                    lease.release(connection, None);
                    ready.send(core.idle()).unwrap();
                    until("both are through", || through.load(Ordering::SeqCst) == 2).await;
                    core.idle()
                })
            })
            .collect();
        for _ in &holding {
            assert_eq!(is_ready.recv_timeout(LONGEST), Ok(1));
        }
        let (cluster, done) = (Arc::clone(&clusters[0]), Arc::clone(&through));
        on_core(move || async move {
            let core = CoreFleet::new(2, fleet);
            let cluster = core.adopt(&cluster);
            let held = Rc::new(RefCell::new(Vec::new()));
            for _ in 0..2 {
                let (lease, held, done) = (pick(&cluster), Rc::clone(&held), Arc::clone(&done));
                rt::spawn(async move {
                    let connection = lease.connect(Priority::Normal).await.unwrap();
                    held.borrow_mut().push(connection);
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
            until("both have one", || held.borrow().len() == 2).await;
        });
        for core in holding {
            assert_eq!(core.wait(), 0);
        }
    }
}

/// Waits are counted with how they ended, and refusals.
#[test]
fn queues_count_what_becomes_of_those_who_wait() {
    on_core(|| async {
        let origin = Origin::start();
        let mut config = limited(origin.address, 1);
        config.connections.queue = 1;
        config.connections.queue_timeout = Duration::from_millis(50);
        let (_fleet, _core, cluster) = core_of(config);
        let lease = Rc::new(pick(&cluster));
        let held = lease.connect(Priority::Normal).await.unwrap();
        let (waiting, ended) = (Rc::clone(&lease), Rc::new(Cell::new(false)));
        let is_ended = Rc::clone(&ended);
        rt::spawn(async move {
            let _ = waiting.connect(Priority::Normal).await;
            ended.set(true);
        });
        let figures = || lease.endpoint().queue();
        until("one waits", || figures().waiting == 1).await;
        assert!(lease.connect(Priority::Normal).await.is_err());
        until("the wait ends", || is_ended.get()).await;
        let seen = figures();
        assert_eq!(
            (seen.waiting, seen.waited, seen.timeouts, seen.refused),
            (0, 1, 1, 1)
        );
        assert!(seen.waited_us >= 40_000, "{seen:?}");
        drop(held);
        drop(lease.connect(Priority::Normal).await.unwrap());
        assert_eq!(figures(), seen, "who does not wait is not counted");
    });
}
