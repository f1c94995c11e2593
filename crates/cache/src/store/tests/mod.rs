//! What the store promises, one thing per test.

mod block;
mod body;
mod disk;
mod disk_races;
mod evict;
mod expected;
mod fetch;
mod model;
mod purge;
mod stress;

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

pub fn keep() -> Keep {
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

/// Puts an object of a variant: `names` make a difference, the request has `of` in each.
fn put_variant(
    store: &Arc<Store>,
    at: &str,
    names: &[&str],
    of: &str,
    body: &[u8],
) -> Result<(), Why> {
    let mut want = value(of);
    let lead = store.lead(&key(at), &mut want, 0, AGE).ok().unwrap();
    let keep = vary(names);
    let mut variant = Vec::new();
    want(&keep.vary, &mut variant);
    let mut writer = lead.publish(keep, &variant, ROOM, Some(body.len() as u64))?;
    writer.push(body)?;
    writer.finish();
    Ok(())
}

fn find(store: &Store, at: &str, of: &str) -> Found {
    store.find(&key(at), &mut value(of), 0)
}

fn body(found: Found) -> Option<Vec<u8>> {
    match found {
        Found::Ready { object, .. } => object.body.piece(0).map(<[u8]>::to_vec),
        _ => None,
    }
}

/// What a follower of a fetch has got.
fn outcome(fill: &Fill) -> Outcome {
    match fill.poll(&mut context()) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

/// Nothing is counted when nothing is there.
fn assert_empty(store: &Store) {
    let stats = store.stats();
    assert_eq!((stats.objects, stats.bytes, stats.fills), (0, 0, 0));
    assert!(stats.sites.iter().all(|&(_, bytes)| bytes == 0));
}
