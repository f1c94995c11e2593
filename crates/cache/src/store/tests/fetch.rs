//! Who fetches, who follows, what is found.

use super::*;

#[test]
fn what_was_put_is_found_and_nothing_else() {
    let store = Store::new(MIB);
    put(&store, "a/x", b"body of x");
    put(&store, "a/y", b"");
    let object = ready(&store, "a/x").unwrap();
    assert_eq!(object.body.piece(5), Some(&b"of x"[..]));
    assert_eq!(object.body.piece(9), Some(&b""[..]));
    assert_eq!((object.host(), object.path()), (&b"a"[..], &b"/x"[..]));
    assert_eq!(object.meta(), keep().meta);
    assert_eq!(ready(&store, "a/y").unwrap().body.len(), 0);
    assert!(ready(&store, "a/z").is_none());
    let wrong = Key {
        bytes: b"a/z",
        ..key("a/x")
    };
    assert!(matches!(
        store.find(&wrong, &mut none, 0),
        Found::Missing { vary: false }
    ));
}

#[test]
fn one_fetches_and_the_others_follow_while_it_fills() {
    let store = Store::new(MIB);
    let lead = lead(&store, "a/x");
    let Found::Filling(fill) = store.find(&key("a/x"), &mut none, 0) else {
        panic!("nobody fetches")
    };
    assert!(fill.poll(&mut context()).is_pending());
    assert!(lead.is_followed());
    let mut writer = lead.publish(keep(), b"", ROOM, None).unwrap();
    let Poll::Ready(Outcome::Object(object)) = fill.poll(&mut context()) else {
        panic!("no object")
    };
    drop(fill);
    let mut buffer = [0; 16];
    assert!(
        object
            .body
            .poll_read(0, &mut buffer, &mut context())
            .is_pending()
    );
    writer.push(b"first").unwrap();
    assert_eq!(
        object.body.poll_read(0, &mut buffer, &mut context()),
        Poll::Ready(Read::Bytes(5))
    );
    assert!(writer.is_followed());
    assert_eq!(object.body.piece(0), None);
    writer.finish();
    assert_eq!(
        object.body.poll_read(5, &mut buffer, &mut context()),
        Poll::Ready(Read::End)
    );
    assert_eq!(object.body.piece(0), Some(&b"first"[..]));
}

#[test]
fn a_refused_answer_releases_all_and_the_next_ones_pass_for_a_time() {
    let store = Store::new(MIB);
    let leader = lead(&store, "a/x");
    let Err(fill) = store.lead(&key("a/x"), &mut none, 0, AGE) else {
        panic!("two fetch")
    };
    leader.refuse(Why::Private, Duration::from_secs(5));
    assert!(matches!(outcome(&fill), Outcome::Refused(Why::Private)));
    let at = |now_ms| store.find(&key("a/x"), &mut none, now_ms);
    assert!(matches!(at(4_000), Found::HitForMiss(Why::Private)));
    assert!(matches!(at(6_000), Found::Missing { .. }));
    // an answer that can be stored ends it
    put(&store, "a/x", b"body");
    assert!(ready(&store, "a/x").is_some());
}

#[test]
fn a_refusal_takes_out_what_was_there_unless_it_says_nothing_about_it() {
    let store = Store::new(MIB);
    for (why, stays) in [(Why::Status, true), (Why::NoStore, false)] {
        put(&store, "a/x", b"body");
        lead(&store, "a/x").refuse(why, Duration::from_secs(5));
        assert_eq!(ready(&store, "a/x").is_some(), stays, "{why:?}");
    }
}

#[test]
fn a_fetch_that_fails_says_so() {
    let store = Store::new(MIB);
    let leader = lead(&store, "a/x");
    let Err(fill) = store.lead(&key("a/x"), &mut none, 0, AGE) else {
        panic!("two fetch")
    };
    drop(leader);
    assert!(matches!(outcome(&fill), Outcome::Failed));
    assert!(matches!(
        find(&store, "a/x", ""),
        Found::Missing { vary: false }
    ));
    assert_empty(&store);
}

#[test]
fn an_old_fetch_has_no_new_followers_and_is_stored_all_the_same() {
    let store = Store::new(MIB);
    let old = lead(&store, "a/x");
    assert!(matches!(
        store.find(&key("a/x"), &mut none, 30_000),
        Found::Filling(_)
    ));
    assert!(matches!(
        store.find(&key("a/x"), &mut none, 30_001),
        Found::Missing { .. }
    ));
    let new = store
        .lead(&key("a/x"), &mut none, 30_001, AGE)
        .ok()
        .unwrap();
    let mut writer = old.publish(keep(), b"", ROOM, None).unwrap();
    writer.push(b"old").unwrap();
    writer.finish();
    assert_eq!(body(find(&store, "a/x", "")).unwrap(), b"old");
    let mut writer = new.publish(keep(), b"", ROOM, None).unwrap();
    writer.push(b"new").unwrap();
    writer.finish();
    assert_eq!(body(find(&store, "a/x", "")).unwrap(), b"new");
    assert_eq!(store.stats().objects, 1);
}

#[test]
fn one_that_fetches_alone_keeps_nobody_waiting() {
    let store = Store::new(MIB);
    let alone = store.alone(&key("a/x"), 0);
    assert_eq!(store.stats().fills, 1);
    assert!(matches!(find(&store, "a/x", ""), Found::Missing { .. }));
    assert!(!alone.is_followed());
    let mut writer = alone.publish(keep(), b"", ROOM, None).unwrap();
    writer.push(b"body").unwrap();
    writer.finish();
    assert_eq!(body(find(&store, "a/x", "")).unwrap(), b"body");
    assert_eq!(store.stats().fills, 0);
}

#[test]
fn variants_of_a_key_are_told_apart() {
    let store = Store::new(MIB);
    put_variant(&store, "a/x", &["accept-language"], "de", b"hallo").unwrap();
    put_variant(&store, "a/x", &["accept-language"], "en", b"hello").unwrap();
    assert_eq!(body(find(&store, "a/x", "de")).unwrap(), b"hallo");
    assert_eq!(body(find(&store, "a/x", "en")).unwrap(), b"hello");
    assert!(matches!(
        find(&store, "a/x", "fr"),
        Found::Missing { vary: true }
    ));
    // the same one again takes the place of the first
    put_variant(&store, "a/x", &["accept-language"], "de", b"servus").unwrap();
    assert_eq!(body(find(&store, "a/x", "de")).unwrap(), b"servus");
    assert_eq!(store.get(&key("a/x")).len(), 2);
    // other names: the newest that fits is taken
    put_variant(&store, "a/x", &["accept"], "en", b"newest").unwrap();
    assert_eq!(body(find(&store, "a/x", "en")).unwrap(), b"newest");
    assert_eq!(body(find(&store, "a/x", "de")).unwrap(), b"servus");
}

#[test]
fn a_follower_gets_an_object_of_another_variant_than_its_own() {
    let store = Store::new(MIB);
    let leader = store
        .lead(&key("a/x"), &mut value("de"), 0, AGE)
        .ok()
        .unwrap();
    let Err(fill) = store.lead(&key("a/x"), &mut value("en"), 0, AGE) else {
        panic!("nobody knows yet that there are variants")
    };
    let _writer = leader.publish(vary(&["v"]), b"v=de", ROOM, None).unwrap();
    let Outcome::Object(object) = outcome(&fill) else {
        panic!("no object")
    };
    assert_eq!(object.variant(), b"v=de");
    // now it is known: each variant is fetched by one
    assert!(store.lead(&key("a/x"), &mut value("en"), 0, AGE).is_ok());
}

#[test]
fn further_variants_are_not_stored_until_one_is_over() {
    let store = Store::new(MIB);
    let put = |of: &str, received_ms| {
        let lead = store
            .lead(&key("a/x"), &mut value(of), 0, AGE)
            .ok()
            .unwrap();
        let mut keep = vary(&["v"]);
        keep.meta.received_ms = received_ms;
        let room = Room {
            vary_max: 3,
            ..ROOM
        };
        lead.publish(keep, format!("v={of}").as_bytes(), room, Some(0))
            .map(Writer::finish)
    };
    for of in ["1", "2", "3"] {
        put(of, 1_000).unwrap();
    }
    assert_eq!(put("4", 1_000), Err(Why::Variants));
    assert!(matches!(
        find(&store, "a/x", "4"),
        Found::HitForMiss(Why::Variants)
    ));
    put("2", 1_000).unwrap(); // it is there already
    put("5", 62_000).unwrap(); // their 60 seconds are over
    assert_eq!(store.get(&key("a/x")).len(), 3);
    assert!(body(find(&store, "a/x", "5")).is_some());
}

#[test]
fn fetches_of_one_key_that_may_be_followed_are_bounded() {
    let store = Store::new(MIB);
    put_variant(&store, "a/x", &["v"], "seed", b"").unwrap();
    let leads: Vec<Lead> = (0..100)
        .map(|n| {
            store
                .lead(&key("a/x"), &mut value(&n.to_string()), 0, AGE)
                .ok()
                .unwrap()
        })
        .collect();
    assert_eq!(store.stats().fills, 100);
    assert!(matches!(find(&store, "a/x", "0"), Found::Filling(_)));
    assert!(matches!(find(&store, "a/x", "99"), Found::Missing { .. }));
    drop(leads);
    assert_eq!(store.stats().fills, 0);
}

#[test]
fn a_304_makes_a_new_object_with_the_same_body() {
    let store = Store::new(MIB);
    put(&store, "a/x", b"body");
    let old = ready(&store, "a/x").unwrap();
    let leader = lead(&store, "a/x");
    let Err(fill) = store.lead(&key("a/x"), &mut none, 0, AGE) else {
        panic!("two fetch")
    };
    let mut fresh = keep();
    fresh.head = b"HTTP/1.1 200 OK\r\nAge: 0\r\n\r\n".to_vec();
    let new = leader.refresh(&old, fresh);
    assert!(Arc::ptr_eq(&new.body, &old.body));
    let Outcome::Object(followed) = outcome(&fill) else {
        panic!("no object")
    };
    assert!(Arc::ptr_eq(&followed, &new));
    assert!(Arc::ptr_eq(&ready(&store, "a/x").unwrap(), &new));
    drop((old, new, followed, fill));
    store.invalidate(&Purge::Key(key("a/x")), false);
    assert_empty(&store);
}

#[test]
fn who_comes_late_gets_what_was_fetched_meanwhile() {
    let store = Store::new(MIB);
    put(&store, "a/x", b"old");
    let seen = ready(&store, "a/x").unwrap();
    put(&store, "a/x", b"new");
    let Err(fill) = store.lead_after(&key("a/x"), &mut none, 0, AGE, Some(&seen)) else {
        panic!("it is there")
    };
    assert!(
        matches!(outcome(&fill), Outcome::Object(object) if object.body.piece(0) == Some(b"new"))
    );
    let seen = ready(&store, "a/x").unwrap();
    assert!(
        store
            .lead_after(&key("a/x"), &mut none, 0, AGE, Some(&seen))
            .is_ok()
    );
}

#[test]
fn ten_thousand_follow_one_fetch() {
    let store = Store::new(MIB);
    let leader = lead(&store, "a/x");
    let followers: Vec<Arc<Fill>> = (0..10_000)
        .map(|_| store.lead(&key("a/x"), &mut none, 0, AGE).err().unwrap())
        .collect();
    for fill in &followers {
        assert!(fill.poll(&mut context()).is_pending());
    }
    leader.refuse(Why::NoStore, Duration::ZERO);
    assert!(
        followers
            .iter()
            .all(|fill| matches!(outcome(fill), Outcome::Refused(Why::NoStore)))
    );
    let counts = store.stats().counts;
    assert_eq!((counts.leads, counts.followers), (1, 10_000));
}
