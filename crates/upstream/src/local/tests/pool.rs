//! Idle connections, and making new ones.

use super::*;

#[test]
fn a_connection_is_used_again() {
    on_core(|| async {
        let origin = Origin::start();
        let (_fleet, core, cluster) = core_of(upstream("u", [origin.address]));
        let lease = pick(&cluster);
        assert!(lease.try_idle().is_none());
        let first = lease.connect(Priority::Normal).await.unwrap();
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
            lease.connect(Priority::Normal).await.unwrap(),
            lease.connect(Priority::Normal).await.unwrap(),
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
                open.push(lease.connect(Priority::Normal).await.unwrap());
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
        let connection = lease.connect(Priority::Normal).await.unwrap();
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
        let connection = lease.connect(Priority::Normal).await.unwrap();
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
        let connection = lease.connect(Priority::Normal).await.unwrap();
        let mut peer = origin.accept();
        peer.write_all(b"response").unwrap();
        let mut response = [0; 8];
        connection.stream.recv(&mut response).await.unwrap();
        assert!(
            connection.stream.is_readable(),
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
        let connection = lease.connect(Priority::Normal).await.unwrap();
        let _peer = origin.accept();
        lease.release(connection, None);
        assert_eq!(core.idle(), 1);
        until("it is too old", || core.idle() == 0).await;
        let connection = lease.connect(Priority::Normal).await.unwrap();
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
            open.push(lease.connect(Priority::Normal).await.unwrap());
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
        let error = pick(&cluster).connect(Priority::Normal).await.unwrap_err();
        assert_eq!(error.kind, ConnectErrorKind::Refused);
        assert!(error.kind.blames_server());
        let mut config = Upstream::new("unix");
        let address = ServerAddress::Unix("/nonexistent/narthex.sock".into());
        config.servers = vec![Server::new("s", address)];
        let (_fleet, _core, cluster) = core_of(config);
        let lease = pick(&cluster);
        assert_eq!(
            lease.connect(Priority::Normal).await.unwrap_err().kind,
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
            match lease.connect(Priority::Normal).await {
                Ok(connection) => held.push(connection),
                Err(error) => break error,
            }
            assert!(held.len() < 10, "the backlog has no end");
        };
        assert_eq!(error.kind, ConnectErrorKind::Timeout);
        assert!(error.kind.blames_server());
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
        config.servers = vec![Server::new("s", address)];
        let (_fleet, core, cluster) = core_of(config);
        let lease = pick(&cluster);
        let connection = lease.connect(Priority::Normal).await.unwrap();
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
fn reload_keeps_pools_and_counters() {
    on_core(|| async {
        let origin = Origin::start();
        let config = upstream("u", [origin.address]);
        let (fleet, core, cluster) = core_of(config.clone());
        let lease = pick(&cluster);
        let connection = lease.connect(Priority::Normal).await.unwrap();
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
        let connection = lease.connect(Priority::Normal).await.unwrap();
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
