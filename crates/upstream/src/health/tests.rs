//! Checks against a real origin.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use narthex_config::model::HealthCheck;
use narthex_net::rt;

use super::run_checks;
use crate::endpoint::{Active, State};
use crate::fleet::Fleet;
use crate::testkit::{nobody, on_core, until, upstream};

/// Answers every request with a status that the test can change; 0 is no answer.
struct Patient {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Patient {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (now, heard) = (Arc::clone(&status), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = vec![0; 1024];
                let n = stream.read(&mut request).unwrap_or(0);
                request.truncate(n);
                *heard.lock().unwrap() = request;
                match now.load(Ordering::SeqCst) {
                    0 => silent.push(stream),
                    status => {
                        let _ = write!(
                            stream,
                            "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 {status} X\r\nA: b\r\n\r\n"
                        );
                    }
                }
            }
        });
        Self {
            address,
            status,
            asked,
        }
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn quick(path: &str) -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(10),
        timeout: Duration::from_millis(100),
        ..HealthCheck::new(path)
    }
}

#[test]
fn follows_the_server_through_its_ups_and_downs() {
    on_core(|| async {
        let patient = Patient::start();
        let fleet = Fleet::new(1);
        let mut config = upstream("u", [patient.address]);
        config.health = Some(quick("/healthz"));
        let clusters = fleet.reconcile(&[config.clone()]);
        let endpoint = Arc::clone(&clusters[0].set().members[0].endpoint);
        rt::spawn(run_checks(Arc::clone(&fleet)));
        until("it is up", || endpoint.active() == Active::Up).await;
        let asked = String::from_utf8(patient.asked.lock().unwrap().clone()).unwrap();
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.contains(&format!("\r\nHost: {}\r\n", patient.address)),
            "{asked}"
        );
        patient.says(500);
        until("it is down", || endpoint.state() == State::Down).await;
        assert_eq!(endpoint.active(), Active::Unwell);
        assert_eq!(
            endpoint.status().last_error.unwrap().0,
            "health check: status 500"
        );
        patient.says(204);
        until("it returns", || endpoint.state() == State::Returning).await;
        patient.says(0);
        until("it is down again", || endpoint.state() == State::Down).await;
        assert_eq!(
            endpoint.status().last_error.unwrap().0,
            "health check: no answer in time"
        );
        // A reload without a check ends it, and what it said no longer counts.
        config.health = None;
        fleet.reconcile(&[config]);
        until("it is unchecked", || endpoint.active() == Active::Unchecked).await;
    });
}

#[test]
fn a_server_that_refuses_is_gone() {
    on_core(|| async {
        let fleet = Fleet::new(1);
        let mut config = upstream("u", [nobody()]);
        config.health = Some(quick("/"));
        let clusters = fleet.reconcile(&[config]);
        rt::spawn(run_checks(Arc::clone(&fleet)));
        let endpoint = Arc::clone(&clusters[0].set().members[0].endpoint);
        until("it is gone", || endpoint.active() == Active::Gone).await;
        assert!(
            endpoint
                .status()
                .last_error
                .unwrap()
                .0
                .starts_with("health check: connect: ")
        );
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
        config.health = Some(quick("/"));
        let clusters = fleet.reconcile(&[config]);
        let endpoint = Arc::clone(&clusters[0].set().members[0].endpoint);
        until("it is up", || endpoint.active() == Active::Up).await;
    });
}
