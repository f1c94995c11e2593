//! What goes wrong: authorities that are down or refuse, ends in the middle, several processes, full disks.

#![allow(clippy::unwrap_used)] // helpers of tests may end them

mod kit;

use std::sync::Arc;

use kit::*;
use narthex_acme::challenge::Kind;
use narthex_acme::internal;
use narthex_acme::issue::{now, pending_place};
use narthex_acme::keeper::{Source, Wanted};
use narthex_acme::order::Pending;
use narthex_acme::store::{Directory, Storage};

const HTTP: &[Kind] = &[Kind::Http01];

fn one(name: &str) -> Vec<Wanted> {
    vec![public(name, HTTP)]
}

fn written(dir: &tempfile::TempDir, name: &str) -> Option<Pending> {
    let storage = Directory::open(&store(dir)).unwrap();
    let bytes = storage.load(&pending_place(name)).unwrap()?;
    serde_json::from_slice(&bytes).ok()
}

#[test]
fn an_account_that_is_bound_to_another() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let pebble = Pebble::start(Asked {
        external: Some(("kid-1", KEY)),
        ..Asked::default()
    });
    let plane = Plane::start(&pebble);
    let dir = tempfile::tempdir().unwrap();
    let without = settings(vec![authority(&pebble)], one("a.example"));
    let keeper = Keeper::start(&store(&dir), &plane, without.clone());
    let why = wait("a refusal", &keeper, || {
        keeper.board.list().into_iter().find_map(|e| e.last_error)
    });
    assert!(why.contains("externalAccountRequired"), "{why}");
    let mut with = without;
    with.authorities[0].external = Some(narthex_acme::authority::External {
        id: "kid-1".into(),
        key: narthex_acme::encoding::base64(KEY).unwrap(),
    });
    keeper.settings.send(Arc::new(with)).unwrap();
    wait("a certificate", &keeper, || plane.has("a.example"));
}

#[test]
fn an_end_in_the_middle_of_an_order_is_gone_on_from() {
    // Pebble may look for the answer just while nobody gives it, and give the order up: then there is nothing to go on from.
    assert!((0..5).any(|_| goes_on_from_an_order()));
}

/// False: the authority has given the order up meanwhile.
fn goes_on_from_an_order() -> bool {
    // Pebble sleeps up to 15 s before it validates: there is time to die in.
    let pebble = Pebble::start(Asked {
        sleepy: true,
        ..Asked::default()
    });
    let plane = Plane::start(&pebble);
    let dir = tempfile::tempdir().unwrap();
    let wanted = settings(vec![authority(&pebble)], one("a.example"));
    let keeper = Keeper::start(&store(&dir), &plane, wanted.clone());
    wait("the answer", &keeper, || {
        (!plane.tokens.lock().unwrap().is_empty()).then_some(())
    });
    let before = wait("the order", &keeper, || {
        written(&dir, "a.example").filter(|order| order.url.is_some())
    });
    keeper.kill();
    assert!(
        plane.tokens.lock().unwrap().is_empty(),
        "answers end with us"
    );
    assert!(plane.has("a.example").is_none());

    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    wait("the answer again", &keeper, || {
        (!plane.tokens.lock().unwrap().is_empty()).then_some(())
    });
    if written(&dir, "a.example").as_ref() != Some(&before) {
        return false;
    }
    let stored = wait("a certificate", &keeper, || plane.has("a.example"));
    assert_eq!(stored.key, before.key, "of the order that was begun first");
    true
}

#[test]
fn an_authority_that_was_set_up_anew_gets_a_new_account() {
    let mut pebble = Pebble::start(Asked::default());
    let plane = Plane::start(&pebble);
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = settings(vec![authority(&pebble)], one("a.example"));
    let keeper = Keeper::start(&store(&dir), &plane, wanted.clone());
    wait("a certificate", &keeper, || plane.has("a.example"));
    pebble.kill();
    pebble.resume();
    wanted.wanted.push(public("b.example", HTTP));
    keeper.settings.send(Arc::new(wanted)).unwrap();
    wait("the second", &keeper, || plane.has("b.example"));
}

#[test]
fn the_next_authority_is_asked_when_one_is_down() {
    let mut down = Pebble::start(Asked::default());
    down.kill();
    let mut up = Pebble::start(Asked::default());
    let plane = Plane::start(&up);
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = settings(vec![authority(&down), authority(&up)], one("a.example"));
    // Long enough that a pause between the two would fail the test.
    wanted.first_pause = std::time::Duration::from_mins(10);
    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    let stored = wait("a certificate", &keeper, || plane.has("a.example"));
    assert_eq!(stored.directory, authority(&up).directory);
    up.kill();
}

#[test]
fn renewal_and_an_authority_that_is_down_while_the_old_one_serves() {
    // Valid for 30 s: renewed after some 20.
    let mut pebble = Pebble::start(Asked {
        life: Some(30),
        ..Asked::default()
    });
    let plane = Plane::start(&pebble);
    let dir = tempfile::tempdir().unwrap();
    let wanted = settings(vec![authority(&pebble)], one("a.example"));
    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    let first = wait("a certificate", &keeper, || plane.has("a.example"));
    pebble.kill();
    let entry = wait("a failure", &keeper, || {
        keeper.board.list().into_iter().find(|e| e.failures > 0)
    });
    assert!(entry.expires.is_some());
    assert!(
        entry
            .last_error
            .as_deref()
            .unwrap()
            .contains("Connection refused"),
        "{entry:?}"
    );
    assert_eq!(
        plane.has("a.example").as_ref(),
        Some(&first),
        "the old one serves"
    );
    pebble.resume();
    wait("a renewed one", &keeper, || {
        plane.has("a.example").filter(|now| *now != first)
    });
    wait("no trouble any more", &keeper, || {
        let entry = keeper.board.list().pop()?;
        (entry.failures == 0 && entry.last_error.is_none()).then_some(())
    });
}

#[test]
fn failures_are_remembered_over_a_restart() {
    let mut pebble = Pebble::start(Asked::default());
    let plane = Plane::start(&pebble);
    pebble.kill();
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = settings(vec![authority(&pebble)], one("a.example"));
    wanted.first_pause = std::time::Duration::from_mins(5);
    let keeper = Keeper::start(&store(&dir), &plane, wanted.clone());
    let before = wait("a failure", &keeper, || {
        keeper.board.list().pop().filter(|e| e.failures == 1)
    });
    keeper.kill();
    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    let after = wait("the memory", &keeper, || {
        keeper.board.list().pop().filter(|e| e.failures > 0)
    });
    assert_eq!(after, before);
    assert!(after.next > now() + 60, "it waits");
}

#[test]
fn two_processes_on_one_store() {
    let pebble = Pebble::start(Asked::default());
    let plane = Plane::start(&pebble);
    let other = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = settings(vec![authority(&pebble)], one("a.example"));
    let owner = Keeper::start(&store(&dir), &plane, wanted.clone());
    let first = wait("a certificate", &owner, || plane.has("a.example"));
    let second = Keeper::start(&store(&dir), &other, wanted.clone());
    let same = wait("the same one", &second, || other.has("a.example"));
    assert_eq!(same, first);
    // What the owner obtains later, the other one uses as well; it orders nothing itself.
    wanted.wanted.push(public("b.example", HTTP));
    second.settings.send(Arc::new(wanted.clone())).unwrap();
    owner.settings.send(Arc::new(wanted.clone())).unwrap();
    let same = wait("the second", &second, || other.has("b.example"));
    assert_eq!(Some(same), plane.has("b.example"));
    assert!(other.tokens.lock().unwrap().is_empty());
    // The owner ends: the other one takes over, with the answers where the authority looks.
    owner.kill();
    wanted.wanted.push(Wanted {
        name: "c.internal".into(),
        source: Source::Internal,
    });
    second.settings.send(Arc::new(wanted)).unwrap();
    wait("one of its own", &second, || other.has("c.internal"));
}

#[test]
fn names_that_go_and_names_that_change_their_source() {
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let internal = |name: &str| Wanted {
        name: name.into(),
        source: Source::Internal,
    };
    let wanted = settings(vec![], vec![internal("a.internal"), internal("b.internal")]);
    let keeper = Keeper::start(&store(&dir), &plane, wanted.clone());
    for name in ["a.internal", "b.internal"] {
        wait(name, &keeper, || plane.has(name));
    }
    let storage = Directory::open(&store(&dir)).unwrap();
    assert!(
        internal::trust(&storage)
            .unwrap()
            .unwrap()
            .starts_with("-----BEGIN CERT")
    );
    let mut fewer = wanted;
    fewer.wanted.pop();
    keeper.settings.send(Arc::new(fewer)).unwrap();
    wait("it goes", &keeper, || {
        plane.has("b.internal").is_none().then_some(())
    });
    assert!(plane.has("a.internal").is_some());
    assert_eq!(keeper.board.list().len(), 1);
}

#[test]
fn a_stored_certificate_that_is_broken_is_obtained_anew_and_kept_aside() {
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let wanted = settings(
        vec![],
        vec![Wanted {
            name: "a.internal".into(),
            source: Source::Internal,
        }],
    );
    let keeper = Keeper::start(&store(&dir), &plane, wanted.clone());
    let first = wait("a certificate", &keeper, || plane.has("a.internal"));
    let file = store(&dir).join("certificates/a.internal.json");
    wait("the file", &keeper, || file.exists().then_some(()));
    keeper.kill();
    std::fs::write(&file, [0; 500]).unwrap();
    plane.served.lock().unwrap().clear();
    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    let second = wait("a new one", &keeper, || plane.has("a.internal"));
    assert_ne!(first, second);
    let kept = store(&dir).join("certificates/a.internal.json.broken-1");
    assert_eq!(std::fs::read(kept).unwrap(), [0; 500]);
}

#[test]
fn what_cannot_be_stored_serves_and_is_stored_as_soon_as_that_can_be_done() {
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    // A folder that is not there and cannot be made.
    let folder = store(&dir).join("certificates");
    Directory::open(&store(&dir)).unwrap();
    std::os::unix::fs::symlink(dir.path().join("no/such"), &folder).unwrap();
    let name = "a.internal".to_owned();
    let source = Source::Internal;
    let keeper = Keeper::start(
        &store(&dir),
        &plane,
        settings(vec![], vec![Wanted { name, source }]),
    );
    let served = wait("it serves", &keeper, || plane.has("a.internal"));
    wait("a failure", &keeper, || {
        let entry = keeper.board.list().pop()?;
        entry
            .last_error?
            .contains("make the directory")
            .then_some(())
    });
    std::fs::remove_file(&folder).unwrap();
    wait("the file", &keeper, || {
        folder.join("a.internal.json").exists().then_some(())
    });
    wait("no trouble any more", &keeper, || {
        keeper.board.list().pop().filter(|e| e.failures == 0)
    });
    assert_eq!(plane.has("a.internal"), Some(served), "that one, no other");
}

#[test]
fn a_name_that_gets_no_certificate_that_is_for_it_is_a_failure_and_no_loop() {
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        // Brackets belong to a `Host`, not to a name.
        name: "[::1]".into(),
        source: Source::Internal,
    };
    let mut settings = settings(vec![], vec![wanted]);
    settings.first_pause = std::time::Duration::from_mins(5);
    let keeper = Keeper::start(&store(&dir), &plane, settings);
    let entry = wait("a failure", &keeper, || {
        keeper.board.list().pop().filter(|e| e.failures > 0)
    });
    assert!(entry.last_error.unwrap().contains("of no use"));
    assert!(entry.next > now() + 60, "it waits");
}
