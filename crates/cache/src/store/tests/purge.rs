//! Purges take effect when they return.

use super::super::purge::RECORDS_MAX;
use super::*;

fn put_tagged(store: &Arc<Store>, at: &str, tags: &[&str]) {
    let mut keep = keep();
    keep.tags = tags.iter().map(|tag| tag.as_bytes().into()).collect();
    lead(store, at)
        .publish(keep, b"", ROOM, Some(0))
        .unwrap()
        .finish();
}

fn there(store: &Store) -> Vec<&'static str> {
    let all = ["a/1", "a/b/1", "a/b/2", "b/1"];
    all.into_iter()
        .filter(|at| ready(store, at).is_some())
        .collect()
}

fn filled() -> Arc<Store> {
    let store = Store::new(MIB);
    put_tagged(&store, "a/1", &["red"]);
    put_tagged(&store, "a/b/1", &["red", "blue"]);
    put_tagged(&store, "a/b/2", &[]);
    put_tagged(&store, "b/1", &["blue"]);
    store
}

#[test]
fn each_kind_covers_what_it_names() {
    let table: [(Purge<'_>, &[&str]); 9] = [
        (Purge::Key(key("a/b/1")), &["a/1", "a/b/2", "b/1"]),
        (Purge::Host("a"), &["b/1"]),
        (Purge::Host("c"), &["a/1", "a/b/1", "a/b/2", "b/1"]),
        (
            Purge::Prefix {
                host: "a",
                path: b"/b/",
            },
            &["a/1", "b/1"],
        ),
        (
            Purge::Prefix {
                host: "b",
                path: b"/b/",
            },
            &["a/1", "a/b/1", "a/b/2", "b/1"],
        ),
        (
            Purge::Path {
                host: "a",
                path: b"/b/1",
            },
            &["a/1", "a/b/2", "b/1"],
        ),
        (Purge::Tag(b"red"), &["a/b/2", "b/1"]),
        (Purge::Tag(b"blue"), &["a/1", "a/b/2"]),
        (Purge::Everything, &[]),
    ];
    for (purge, left) in table {
        for sweep in [false, true] {
            let store = filled();
            store.invalidate(&purge, false);
            if sweep {
                while !store.sweep(1) {}
                assert_eq!(store.stats().objects, left.len(), "{purge:?}");
                assert_eq!(store.stats().purge_records, 0);
            }
            assert_eq!(there(&store), left, "{purge:?}");
            // what comes later is not covered
            for at in ["a/1", "a/b/1", "a/b/2", "b/1"] {
                put_tagged(&store, at, &["red", "blue"]);
            }
            assert_eq!(there(&store).len(), 4, "{purge:?}");
        }
    }
}

#[test]
fn a_soft_purge_makes_stale() {
    for purge in [
        Purge::Key(key("a/1")),
        Purge::Host("a"),
        Purge::Tag(b"red"),
        Purge::Everything,
    ] {
        let store = filled();
        store.invalidate(&purge, true);
        let Found::Ready { object, soft } = find(&store, "a/1", "") else {
            panic!("it is gone")
        };
        assert!(soft, "{purge:?}");
        while !store.sweep(10) {}
        assert!(matches!(
            find(&store, "a/1", ""),
            Found::Ready { soft: true, .. }
        ));
        // asked anew, it is good again
        lead(&store, "a/1").refresh(&object, keep());
        assert!(
            matches!(find(&store, "a/1", ""), Found::Ready { soft: false, .. }),
            "{purge:?}"
        );
    }
}

#[test]
fn a_purge_covers_what_is_being_fetched() {
    let purges = [
        Purge::Key(key("a/x")),
        Purge::Host("a"),
        Purge::Prefix {
            host: "a",
            path: b"/",
        },
        Purge::Path {
            host: "a",
            path: b"/x",
        },
        Purge::Tag(b"red"),
        Purge::Everything,
    ];
    let tagged = || Keep {
        tags: vec![b"red".as_slice().into()],
        ..keep()
    };
    for purge in purges {
        for alone in [false, true] {
            for sweep in [false, true] {
                let store = Store::new(MIB);
                let leader = if alone {
                    store.alone(&key("a/x"), 0)
                } else {
                    lead(&store, "a/x")
                };
                store.invalidate(&purge, false);
                while sweep && !store.sweep(1) {}
                // nobody new follows it, if it is known to be covered
                if !alone && !matches!(purge, Purge::Tag(_)) {
                    assert!(
                        matches!(find(&store, "a/x", ""), Found::Missing { .. }),
                        "{purge:?}"
                    );
                }
                let writer = leader.publish(tagged(), b"", ROOM, None).unwrap();
                assert!(ready(&store, "a/x").is_none(), "{purge:?} {alone} {sweep}");
                writer.finish();
                assert!(ready(&store, "a/x").is_none(), "{purge:?} {alone} {sweep}");
                assert_empty(&store);

                // the head had come, the body had not
                let writer = lead(&store, "a/x")
                    .publish(tagged(), b"", ROOM, None)
                    .unwrap();
                store.invalidate(&purge, false);
                while sweep && !store.sweep(1) {}
                assert!(ready(&store, "a/x").is_none(), "{purge:?}");
                writer.finish();
                assert!(ready(&store, "a/x").is_none(), "{purge:?}");
                assert_empty(&store);
            }
        }
    }
}

#[test]
fn a_soft_purge_covers_what_is_being_fetched() {
    for purge in [Purge::Key(key("a/x")), Purge::Host("a")] {
        let store = Store::new(MIB);
        let leader = lead(&store, "a/x");
        store.invalidate(&purge, true);
        leader.publish(keep(), b"", ROOM, None).unwrap().finish();
        assert!(matches!(
            find(&store, "a/x", ""),
            Found::Ready { soft: true, .. }
        ));
    }
}

#[test]
fn a_cut_object_does_not_bring_back_what_was_purged() {
    let purges = [Purge::Key(key("a/x")), Purge::Host("a")];
    for purge in purges {
        for sweep in [false, true] {
            let store = Store::new(MIB);
            put(&store, "a/x", b"old");
            let writer = lead(&store, "a/x")
                .publish(keep(), b"", ROOM, Some(5))
                .unwrap();
            store.invalidate(&purge, false);
            while sweep && !store.sweep(1) {}
            drop(writer);
            assert!(ready(&store, "a/x").is_none());
        }
    }
}

#[test]
fn a_full_table_purges_more_not_less() {
    let store = Store::new(16 * MIB);
    for at in ["a/1", "b/1", "c/1"] {
        put_tagged(&store, at, &["red"]);
    }
    for n in 0..=RECORDS_MAX {
        let path = format!("/no/{n}");
        store.invalidate(
            &Purge::Prefix {
                host: "a",
                path: path.as_bytes(),
            },
            false,
        );
    }
    // the oldest became a purge of its host
    assert!(ready(&store, "a/1").is_none());
    assert!(ready(&store, "b/1").is_some());
    for n in 0..=RECORDS_MAX {
        store.invalidate(&Purge::Host(&format!("host-{n}")), false);
    }
    // the oldest became a purge of everything
    assert!(ready(&store, "b/1").is_none());
    assert!(store.stats().purge_records <= 3 * RECORDS_MAX + 1);
    put_tagged(&store, "b/1", &[]);
    assert!(ready(&store, "b/1").is_some());
    for n in 0..=RECORDS_MAX {
        store.invalidate(&Purge::Tag(n.to_string().as_bytes()), true);
    }
    assert!(matches!(
        find(&store, "b/1", ""),
        Found::Ready { soft: true, .. }
    ));
    while !store.sweep(1_000) {}
    assert_eq!(store.stats().purge_records, 0);
    assert!(matches!(
        find(&store, "b/1", ""),
        Found::Ready { soft: true, .. }
    ));
}

#[test]
fn a_record_is_kept_while_a_fetch_is_older() {
    let store = Store::new(MIB);
    let leader = lead(&store, "a/x");
    store.invalidate(&Purge::Tag(b"red"), false);
    while !store.sweep(100) {}
    assert_eq!(store.stats().purge_records, 1);
    drop(leader);
    while !store.sweep(100) {}
    assert_eq!(store.stats().purge_records, 0);
}

#[test]
fn what_was_purged_softly_is_so_when_it_comes_back() {
    for purge in [Purge::Key(key("a/x")), Purge::Host("a")] {
        let store = Store::new(MIB);
        put(&store, "a/x", b"old");
        store.invalidate(&purge, true);
        let writer = lead(&store, "a/x").publish(keep(), b"", ROOM, None);
        drop(writer.unwrap());
        assert!(matches!(
            find(&store, "a/x", ""),
            Found::Ready { soft: true, .. }
        ));
    }
}

#[test]
fn a_look_changes_nothing_and_sees_what_requests_see() {
    let store = filled();
    let before = store.stats().counts;
    assert!(matches!(
        store.peek(&key("a/1"), &mut none, 0),
        Found::Ready { soft: false, .. }
    ));
    assert!(matches!(
        store.peek(&key("a/2"), &mut none, 0),
        Found::Missing { vary: false }
    ));
    assert_eq!(store.at("a", b"/b/1", 10).len(), 1);
    assert_eq!(store.at("a", b"/b/1", 0).len(), 0);
    assert_eq!(store.at("a", b"/b", 10).len(), 0);
    assert_eq!(store.stats().counts, before);
    store.invalidate(&Purge::Tag(b"blue"), true);
    assert!(matches!(
        store.peek(&key("a/b/1"), &mut none, 0),
        Found::Ready { soft: true, .. }
    ));
    assert!(store.at("b", b"/1", 10).iter().all(|(_, soft)| *soft));
    store.invalidate(&Purge::Host("a"), false);
    assert!(store.at("a", b"/1", 10).is_empty());
    assert!(matches!(
        store.peek(&key("a/1"), &mut none, 0),
        Found::Missing { .. }
    ));
}

/// Whoever can make an origin change its tags must not make the store forget what is not theirs.
#[test]
fn too_many_versions_purge_nothing() {
    let store = Store::new(MIB);
    put(&store, "a/1", b"kept");
    for n in 0..2 * RECORDS_MAX {
        store.invalidate(&Purge::Version(&n.to_be_bytes()), false);
    }
    assert!(ready(&store, "a/1").is_some());
    assert!(store.stats().purge_records <= RECORDS_MAX);
}
