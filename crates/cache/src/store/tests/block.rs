//! Takedowns.

use super::*;

fn blocked(status: u16, until_ms: Option<u64>) -> Blocked {
    Blocked {
        status,
        reason: "order 12".into(),
        until_ms,
    }
}

#[test]
fn an_address_or_a_prefix_is_blocked_until_it_is_taken_back_or_over() {
    let store = Store::new(MIB);
    put(&store, "a/x", b"body");
    put(&store, "a/y", b"body");
    let exact = Pattern {
        host: "a",
        path: b"/x",
        is_prefix: false,
    };
    store.block(exact, blocked(451, Some(1_000)), 0).unwrap();
    let status = |path: &[u8], query: Option<&[u8]>, now_ms| {
        store
            .blocked("a", path, query, now_ms)
            .map(|blocked| blocked.status)
    };
    assert_eq!(status(b"/x", None, 999), Some(451));
    assert_eq!(status(b"/x", Some(b"q=1"), 999), Some(451));
    assert_eq!(status(b"/x", None, 1_000), None);
    assert_eq!(status(b"/xy", None, 0), None);
    assert!(store.blocked("b", b"/x", None, 0).is_none());
    // and what was stored is purged
    assert!(ready(&store, "a/x").is_none() && ready(&store, "a/y").is_some());

    let prefix = Pattern {
        host: "a",
        path: b"/dir/",
        is_prefix: true,
    };
    store.block(prefix, blocked(410, None), 0).unwrap();
    assert_eq!(status(b"/dir/any", None, 0), Some(410));
    assert_eq!(status(b"/dir", None, 0), None);
    let query = Pattern {
        host: "a",
        path: b"/q?id=7",
        is_prefix: false,
    };
    store.block(query, blocked(410, None), 0).unwrap();
    assert_eq!(status(b"/q", Some(b"id=7"), 0), Some(410));
    assert_eq!(status(b"/q", Some(b"id=8"), 0), None);
    assert_eq!(status(b"/q", None, 0), None);
    assert_eq!(store.blocks().len(), 3);
    assert!(store.unblock(prefix) && !store.unblock(prefix));
    assert_eq!(status(b"/dir/any", None, 0), None);
}

#[test]
fn takedowns_are_bounded_and_those_that_are_over_make_place() {
    let store = Store::new(MIB);
    let add = |n: usize, until_ms, now_ms| {
        let path = format!("/{n}");
        let pattern = Pattern {
            host: "a",
            path: path.as_bytes(),
            is_prefix: n.is_multiple_of(2),
        };
        store.block(pattern, blocked(451, until_ms), now_ms)
    };
    for n in 0..BLOCKS_MAX {
        add(n, Some(10), 0).unwrap();
    }
    assert_eq!(add(BLOCKS_MAX, None, 5), Err(Full));
    add(7, Some(10), 5).unwrap(); // it is there already
    add(BLOCKS_MAX, None, 10).unwrap();
    assert_eq!(store.blocks().len(), 1);
}
