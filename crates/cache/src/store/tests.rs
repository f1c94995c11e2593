//! What the store promises, one thing per test.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::policy::{Keep, Meta};

const AGE: Duration = Duration::from_secs(30);
const ROOM: Room = Room {
    object_max: 1 << 30,
    vary_max: 64,
    quota: None,
};
const MIB: u64 = 1024 * 1024;

fn keep() -> Keep {
    Keep {
        meta: Meta {
            status: 200,
            received_ms: 1_000,
            initial_age_s: 0,
            lifetime_s: 60,
            while_revalidate_s: 0,
            if_error_s: 0,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
            no_transform: false,
            heuristic: false,
            etag: narthex_message::Span::default(),
            last_modified_s: None,
            date_s: 1,
            length: None,
            part: None,
        },
        head: b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        vary: Vec::new(),
        tags: Vec::new(),
    }
}

fn vary(names: &[&str]) -> Keep {
    Keep {
        vary: names.iter().map(|name| name.as_bytes().into()).collect(),
        ..keep()
    }
}

fn key(bytes: &str) -> Key<'_> {
    let (host, path) = bytes.split_at(bytes.find('/').unwrap());
    Key::new(bytes.as_bytes(), host, path.as_bytes(), 0)
}

fn none(_: &[Box<[u8]>], _: &mut Vec<u8>) {}

/// The variant of a request that has this value in whatever makes a difference.
fn value(value: &str) -> impl FnMut(&[Box<[u8]>], &mut Vec<u8>) {
    move |names, out| {
        for name in names {
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    }
}

fn lead(store: &Arc<Store>, at: &str) -> Lead {
    store.lead(&key(at), &mut none, 0, AGE).ok().unwrap()
}

fn put(store: &Arc<Store>, at: &str, body: &[u8]) {
    let mut writer = lead(store, at)
        .publish(keep(), b"", ROOM, Some(body.len() as u64))
        .unwrap();
    writer.push(body).unwrap();
    writer.finish();
}

fn ready(store: &Store, at: &str) -> Option<Arc<Object>> {
    match store.find(&key(at), &mut none, 0) {
        Found::Ready { object, .. } => Some(object),
        _ => None,
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

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
