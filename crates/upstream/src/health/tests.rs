//! Checks against real origins.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use narthex_config::model::{BodyMatch, HealthCheck, HttpProbe, Probe, TcpProbe};
use narthex_net::rt;

use super::run::{Bounds, run_within};
use super::run_checks;
use crate::cluster::Cluster;
use crate::endpoint::{Active, Endpoint, State};
use crate::fleet::Fleet;
use crate::testkit::{nobody, on_core, until, upstream};

/// What an origin does after its answer.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Close,
    Keep,
    /// The body is said to be chunked.
    KeepChunked,
}

/// Answers every request with a status that the test can change; 0 is no answer.
struct Patient {
    address: SocketAddr,
    said: Arc<Said>,
}

struct Said {
    status: AtomicU16,
    body: Mutex<Vec<&'static str>>,
    after: After,
    connections: AtomicUsize,
    open: AtomicUsize,
    asked: Mutex<Vec<String>>,
}

impl Patient {
    /// Closes after each answer, which has no length and no body.
    fn start() -> Self {
        Self::with(After::Close, Vec::new())
    }

    /// The body is sent in these pieces.
    fn with(after: After, body: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::new(Said {
            status: AtomicU16::new(200),
            body: Mutex::new(body),
            after,
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        let shared = Arc::clone(&said);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let said = Arc::clone(&shared);
                said.open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    said.serve(stream);
                    said.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, said }
    }

    fn says(&self, status: u16) {
        self.said.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> Vec<String> {
        self.said.asked.lock().unwrap().clone()
    }

    /// Connections now.
    fn open(&self) -> usize {
        self.said.open.load(Ordering::SeqCst)
    }

    fn connections(&self) -> usize {
        self.said.connections.load(Ordering::SeqCst)
    }
}

impl Said {
    fn serve(&self, mut stream: TcpStream) {
        let mut request = vec![0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut request) {
            let text = String::from_utf8_lossy(&request[..n]).into_owned();
            self.asked.lock().unwrap().push(text);
            let status = self.status.load(Ordering::SeqCst);
            if status == 0 {
                continue;
            }
            let body = self.body.lock().unwrap().clone();
            let mut head = format!("HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 {status} X\r\nA: b\r\n");
            if self.after == After::Keep {
                let length = body.concat().len();
                head = format!("{head}Content-Length: {length}\r\n");
            } else if self.after == After::KeepChunked {
                head.push_str("Transfer-Encoding: chunked\r\n");
            }
            for part in std::iter::once(format!("{head}\r\n").as_str()).chain(body) {
                if stream.write_all(part.as_bytes()).is_err() {
                    return;
                }
                // Other reads than one must see it.
                std::thread::yield_now();
            }
            if self.after == After::Close {
                return;
            }
        }
    }
}

fn quick(probe: Probe) -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(10),
        recovery: Duration::from_millis(10),
        timeout: Duration::from_millis(100),
        ..HealthCheck::of(probe)
    }
}

fn path(path: &str) -> HealthCheck {
    quick(Probe::Http(HttpProbe::new(path)))
}

/// A fleet of one upstream with these servers, being checked.
fn checked(
    health: HealthCheck,
    servers: impl IntoIterator<Item = SocketAddr>,
) -> (Arc<Fleet>, Arc<Cluster>, Vec<Arc<Endpoint>>) {
    checked_within(Bounds::of_process(), health, servers)
}

fn checked_within(
    bounds: Bounds,
    health: HealthCheck,
    servers: impl IntoIterator<Item = SocketAddr>,
) -> (Arc<Fleet>, Arc<Cluster>, Vec<Arc<Endpoint>>) {
    let fleet = Fleet::new(1);
    let mut config = upstream("u", servers);
    config.health = Some(health);
    let cluster = fleet.reconcile(&[config]).remove(0);
    let set = cluster.set();
    let endpoints = set.members.iter().map(|m| Arc::clone(&m.endpoint));
    let endpoints = endpoints.collect();
    rt::spawn(run_within(Arc::clone(&fleet), bounds));
    (fleet, cluster, endpoints)
}

fn last_error(endpoint: &Endpoint) -> String {
    endpoint.status().last_error.unwrap_or_default().0
}

#[test]
fn follows_the_server_through_its_ups_and_downs() {
    on_core(|| async {
        let patient = Patient::start();
        let (fleet, cluster, endpoints) = checked(path("/healthz"), [patient.address]);
        let endpoint = &endpoints[0];
        until("it is up", || endpoint.active() == Active::Up).await;
        let asked = patient.asked().remove(0);
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.contains(&format!("\r\nHost: {}\r\n", patient.address)),
            "{asked}"
        );
        let epoch = cluster.epoch();
        patient.says(500);
        until("it is down", || endpoint.state() == State::Down).await;
        assert_eq!(endpoint.active(), Active::Unwell);
        assert_eq!(last_error(endpoint), "health check: status 500");
        assert_eq!(endpoint.status().reason, "health check: status 500");
        assert!(cluster.epoch() > epoch, "the cores are told");
        patient.says(204);
        until("it returns", || endpoint.state() == State::Returning).await;
        assert_eq!(endpoint.status().reason, "health check: succeeds again");
        patient.says(0);
        until("it is down again", || endpoint.state() == State::Down).await;
        assert_eq!(last_error(endpoint), "health check: no answer in time");
        let (good, bad) = cluster.checked();
        assert!(good >= 3 && bad >= 6, "{good} {bad}");
        // A reload without a check ends it, and what it said no longer counts.
        fleet.reconcile(&[upstream("u", [patient.address])]);
        until("it is unchecked", || endpoint.active() == Active::Unchecked).await;
    });
}

#[test]
fn a_server_that_refuses_is_gone() {
    on_core(|| async {
        let (_fleet, _, endpoints) = checked(path("/"), [nobody()]);
        until("it is gone", || endpoints[0].active() == Active::Gone).await;
        assert!(last_error(&endpoints[0]).starts_with("health check: connect: "));
    });
}

#[test]
fn servers_that_come_later_are_checked_too() {
    on_core(|| async {
        let fleet = Fleet::new(1);
        rt::spawn(run_checks(Arc::clone(&fleet)));
        rt::yield_now().await;
        let patient = Patient::start();
        let mut config = upstream("u", [patient.address]);
        config.health = Some(path("/"));
        let clusters = fleet.reconcile(&[config]);
        let endpoint = Arc::clone(&clusters[0].set().members[0].endpoint);
        until("it is up", || endpoint.active() == Active::Up).await;
    });
}

#[test]
fn the_connection_is_kept_and_now_and_then_renewed() {
    on_core(|| async {
        let patient = Patient::with(After::Keep, vec!["fine"]);
        let bounds = Bounds {
            kept_for: 100,
            ..Bounds::of_process()
        };
        let (_fleet, _, endpoints) = checked_within(bounds, patiently(), [patient.address]);
        // A slow machine may ask so rarely for a while that each is on a connection of its own.
        let kept = || {
            let connections = patient.connections();
            connections >= 3 && patient.asked().len() >= 2 * connections
        };
        until("it was kept, and renewed", kept).await;
        until("it is up", || endpoints[0].active() == Active::Up).await;
    });
}

#[test]
fn a_chunked_answer_keeps_the_connection_too() {
    on_core(|| async {
        let chunks = vec!["4\r\nfi", "ne\r\n0", "\r\n\r\n"];
        let patient = Patient::with(After::KeepChunked, chunks);
        let (_fleet, ..) = checked(patiently(), [patient.address]);
        until("it was asked often", || patient.asked().len() >= 20).await;
        assert_eq!(patient.connections(), 1);
    });
}

/// Asked often, and not given up on a slow machine.
fn patiently() -> HealthCheck {
    HealthCheck {
        timeout: Duration::from_secs(10),
        ..path("/")
    }
}

/// Room for one connection that is kept.
fn one_is_kept() -> Bounds {
    Bounds {
        kept: 1,
        ..Bounds::of_process()
    }
}

#[test]
fn who_has_a_place_among_the_kept_keeps_it() {
    on_core(|| async {
        let patients = [0; 3].map(|_| Patient::with(After::Keep, vec!["fine"]));
        let addresses = patients.each_ref().map(|p| p.address);
        let (_fleet, ..) = checked_within(one_is_kept(), patiently(), addresses);
        until("all were asked often", || {
            patients.iter().all(|p| p.asked().len() >= 30)
        })
        .await;
        let mut connections = patients.each_ref().map(Patient::connections);
        connections.sort_unstable();
        assert!(connections[0] <= 3, "{connections:?}");
        assert!(connections[1] >= 29, "{connections:?}");
    });
}

#[test]
fn the_place_of_a_server_that_is_gone_is_free() {
    on_core(|| async {
        let (first, second) = (
            Patient::with(After::Keep, vec!["fine"]),
            Patient::with(After::Keep, vec!["fine"]),
        );
        let (fleet, ..) = checked_within(one_is_kept(), patiently(), [first.address]);
        until("it was asked", || first.asked().len() >= 5).await;
        let mut config = upstream("v", [second.address]);
        config.health = Some(patiently());
        fleet.reconcile(&[config]);
        fleet.forget_unused();
        until("its connection is closed", || first.open() == 0).await;
        until("the other was asked", || second.asked().len() >= 20).await;
        // The first answers may have come while the place was still taken.
        assert!(second.connections() <= 5);
    });
}

#[test]
fn without_reuse_every_check_connects() {
    on_core(|| async {
        let patient = Patient::with(After::Keep, Vec::new());
        let health = HealthCheck {
            reuse: false,
            ..path("/")
        };
        let (_fleet, ..) = checked(health, [patient.address]);
        until("it was asked often", || patient.asked().len() >= 10).await;
        let asked = patient.asked();
        assert!(patient.connections() >= asked.len());
        assert!(asked[0].contains("\r\nConnection: close\r\n"), "{asked:?}");
    });
}

#[test]
fn a_kept_connection_that_dies_is_no_failure() {
    on_core(|| async {
        // Announces that it stays, and closes without an answer when it is asked a second time.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                if let Ok(1..) = stream.read(&mut request) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let (_fleet, cluster, endpoints) = checked(path("/"), [address]);
        until("it closed some", || dropped.load(Ordering::SeqCst) >= 10).await;
        assert_eq!(endpoints[0].active(), Active::Up);
        assert_eq!(last_error(&endpoints[0]), "");
        assert_eq!(cluster.checked().1, 0);
    });
}

#[test]
fn the_body_must_match_however_it_comes() {
    on_core(|| async {
        for (after, body) in [
            (After::Keep, BodyMatch::Contains("status: ok".to_owned())),
            (After::Close, BodyMatch::Contains("status: ok".to_owned())),
            (After::Keep, BodyMatch::Regex("s:.ok\\.$".to_owned())),
            (After::Close, BodyMatch::Regex("s:.ok\\.$".to_owned())),
        ] {
            let patient = Patient::with(after, vec!["the sta", "tus:", " o", "k."]);
            let health = quick(Probe::Http(HttpProbe {
                body: Some(body),
                ..HttpProbe::new("/")
            }));
            let (_fleet, _, endpoints) = checked(health, [patient.address]);
            until("it is up", || endpoints[0].active() == Active::Up).await;
            *patient.said.body.lock().unwrap() = vec!["the status: not ", "good"];
            until("it is down", || endpoints[0].active() == Active::Unwell).await;
            assert_eq!(
                last_error(&endpoints[0]),
                "health check: the body does not have what is expected"
            );
        }
    });
}

#[test]
fn asks_with_method_and_fields_at_another_port() {
    on_core(|| async {
        let patient = Patient::with(After::Keep, Vec::new());
        let health = HealthCheck {
            port: Some(patient.address.port()),
            ..quick(Probe::Http(HttpProbe {
                method: "OPTIONS".to_owned(),
                host: Some("api".to_owned()),
                headers: vec![("X-Check".to_owned(), "1".to_owned())],
                status: vec![(401, 401)],
                ..HttpProbe::new("/h")
            }))
        };
        patient.says(401);
        let (_fleet, _, endpoints) = checked(health, [nobody()]);
        until("it is up", || endpoints[0].active() == Active::Up).await;
        let asked = patient.asked().remove(0);
        assert!(asked.starts_with("OPTIONS /h HTTP/1.1\r\nHost: api\r\n"));
        assert!(asked.contains("\r\nX-Check: 1\r\n"), "{asked}");
    });
}

#[test]
fn tcp_sends_and_expects() {
    on_core(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut ping = [0; 6];
                if stream.read_exact(&mut ping).is_ok() && &ping == b"PING\r\n" {
                    let _ = stream.write_all(b"+PO");
                    std::thread::yield_now();
                    let _ = stream.write_all(b"NG\r\n");
                }
            }
        });
        let health = |expect: Option<&str>| {
            quick(Probe::Tcp(TcpProbe {
                send: expect.map(|_| "PING\r\n".to_owned()),
                expect: expect.map(str::to_owned),
            }))
        };
        let (_one, _, good) = checked(health(Some("+PONG")), [address]);
        let (_two, _, bad) = checked(health(Some("+PANG")), [address]);
        let (_three, _, open) = checked(health(None), [address]);
        let (_four, _, closed) = checked(health(None), [nobody()]);
        until("it is up", || good[0].active() == Active::Up).await;
        until("it is down", || bad[0].active() == Active::Unwell).await;
        assert_eq!(
            last_error(&bad[0]),
            "health check: the answer is not what is expected"
        );
        until("a connection is enough", || open[0].active() == Active::Up).await;
        until("nobody is there", || closed[0].active() == Active::Gone).await;
    });
}

#[test]
fn one_question_is_asked_once_for_all_who_want_to_know() {
    on_core(|| async {
        let patient = Patient::with(After::Keep, Vec::new());
        let health = |unhealthy| HealthCheck {
            unhealthy,
            interval: Duration::from_mins(1),
            recovery: Duration::from_mins(1),
            timeout: Duration::from_secs(5),
            ..HealthCheck::new("/")
        };
        let fleet = Fleet::new(1);
        let configs: Vec<_> = (1..=20)
            .map(|n| {
                let mut config = upstream(&format!("u{n}"), [patient.address]);
                config.health = Some(health(n));
                config
            })
            .collect();
        let clusters = fleet.reconcile(&configs);
        let first = |c: &Arc<Cluster>| Arc::clone(&c.set().members[0].endpoint);
        let endpoints: Vec<_> = clusters.iter().map(first).collect();
        rt::spawn(run_checks(Arc::clone(&fleet)));
        until("all are up", || {
            endpoints.iter().all(|e| e.active() == Active::Up)
        })
        .await;
        assert_eq!(patient.asked().len(), 1);
        // One that stays behind keeps being asked about; the others do not count any more.
        fleet.reconcile(&configs[..1]);
        fleet.forget_unused();
        let left = || {
            endpoints[1..]
                .iter()
                .all(|e| e.active() == Active::Unchecked)
        };
        until("the others are left", left).await;
        assert_eq!(endpoints[0].active(), Active::Up);
    });
}

#[test]
fn another_check_keeps_what_was_known() {
    on_core(|| async {
        let patient = Patient::start();
        patient.says(500);
        let (fleet, _, endpoints) = checked(path("/"), [patient.address]);
        until("it is down", || endpoints[0].state() == State::Down).await;
        let mut config = upstream("u", [patient.address]);
        config.health = Some(HealthCheck {
            unhealthy: 1_000,
            ..path("/other")
        });
        fleet.reconcile(&[config]);
        let other = || patient.asked().iter().any(|a| a.starts_with("GET /other"));
        until("the other check runs", other).await;
        assert_eq!(endpoints[0].state(), State::Down);
        patient.says(200);
        until("it is back", || endpoints[0].active() == Active::Up).await;
    });
}
