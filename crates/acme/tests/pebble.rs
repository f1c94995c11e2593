//! Certificates from a real ACME server.

#![allow(clippy::unwrap_used)] // helpers of tests may end them

mod kit;

use std::time::Duration;

use kit::*;
use narthex_acme::challenge::Kind;

fn serial(stored: &narthex_acme::certificate::Stored) -> String {
    stored.identifier().unwrap().to_string()
}

#[test]
fn http_01() {
    let pebble = Pebble::start(Asked::default());
    let plane = Plane::start(&pebble);
    let dir = tempfile::tempdir().unwrap();
    let names = [
        "a.example",
        "b.example",
        "c.example",
        "d.example",
        "e.example",
        "f.example",
    ];
    let wanted = names.map(|name| public(name, &[Kind::Http01])).to_vec();
    let mut once = settings(vec![authority(&pebble)], wanted.clone());
    // All begin together, and none may fail once: there is no time for a second attempt.
    once.first_pause = Duration::from_hours(1);
    let keeper = Keeper::start(&store(&dir), &plane, once);
    for name in names {
        let stored = wait(name, &keeper, || plane.has(name));
        let ready = stored.ready(name).unwrap();
        assert!(
            ready.issuer.starts_with("Pebble Intermediate CA"),
            "{}",
            ready.issuer
        );
        assert!(ready.certified.cert.len() > 1, "the chain is there");
    }
    let listed = wait("the list", &keeper, || {
        let list = keeper.board.list();
        list.iter().all(|e| e.expires.is_some()).then_some(list)
    });
    assert_eq!(listed.len(), names.len());
    for entry in &listed {
        assert_eq!((entry.failures, &entry.last_error), (0, &None));
        assert!(entry.next < entry.expires.unwrap());
    }
    assert!(
        plane.tokens.lock().unwrap().is_empty(),
        "no answer stays behind"
    );
    assert!(
        std::fs::read_dir(store(&dir).join("orders"))
            .unwrap()
            .next()
            .is_none()
    );
    assert_eq!(
        std::fs::read_dir(store(&dir).join("accounts"))
            .unwrap()
            .count(),
        1
    );

    // A restart asks nobody: everything is there.
    let before = plane.has("a.example").unwrap();
    keeper.kill();
    drop(pebble);
    plane.served.lock().unwrap().clear();
    let nobody = settings(vec![], wanted);
    let keeper = Keeper::start(&store(&dir), &plane, nobody);
    let after = wait("the stored one", &keeper, || plane.has("a.example"));
    assert_eq!(serial(&before), serial(&after));
}

#[test]
fn tls_alpn_01() {
    let pebble = Pebble::start(Asked::default());
    let plane = Plane::start(&pebble);
    let dir = tempfile::tempdir().unwrap();
    let wanted = vec![public("a.example", &[Kind::TlsAlpn01])];
    let keeper = Keeper::start(
        &store(&dir),
        &plane,
        settings(vec![authority(&pebble)], wanted),
    );
    wait("a certificate", &keeper, || plane.has("a.example"));
    assert!(
        plane.asked.lock().unwrap().is_empty(),
        "nobody asked over HTTP"
    );
    assert!(
        plane.proofs.lock().unwrap().is_empty(),
        "no proof stays behind"
    );
}

#[test]
fn strict_and_with_half_of_all_nonces_refused() {
    let pebble = Pebble::start(Asked {
        strict: true,
        nonce_reject: 50,
        ..Asked::default()
    });
    let plane = Plane::start(&pebble);
    let dir = tempfile::tempdir().unwrap();
    let wanted = ["a.example", "b.example"]
        .map(|name| public(name, &[Kind::Http01]))
        .to_vec();
    let keeper = Keeper::start(
        &store(&dir),
        &plane,
        settings(vec![authority(&pebble)], wanted),
    );
    for name in ["a.example", "b.example"] {
        wait(name, &keeper, || plane.has(name));
    }
}
