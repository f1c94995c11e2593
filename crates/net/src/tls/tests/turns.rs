//! What handshakes take of a core; the ClientHello, with hostile bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::kit::client;
use crate::rt::{now_us, spawn, yield_now};
use crate::testing::on_core;
use crate::tls::hello::{Hello, MAX_HELLO, Progress};
use crate::tls::turn::{Place, pending, step};

#[test]
fn places_are_counted_and_given_back() {
    on_core(|| async {
        let places: Vec<_> = (0..3).map_while(|_| Place::take(2)).collect();
        assert_eq!(places.len(), 2);
        assert_eq!(pending(), 2);
        drop(places);
        assert_eq!(pending(), 0);
        assert!(Place::take(2).is_some());
    });
}

#[test]
fn a_turn_has_room_for_a_few_steps() {
    let turns = on_core(|| async {
        let (turns, done) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
        for _ in 0..100 {
            let (turns, done) = (Rc::clone(&turns), Rc::clone(&done));
            spawn(async move {
                step().await;
                // As long as a signature takes, so that turns can be told apart.
                let end = Instant::now() + Duration::from_micros(50);
                while Instant::now() < end {}
                turns.borrow_mut().push(now_us());
                done.set(done.get() + 1);
            });
        }
        while done.get() < 100 {
            yield_now().await;
        }
        turns.take()
    });
    let mut most = 0;
    for turn in &turns {
        most = most.max(turns.iter().filter(|t| *t == turn).count());
    }
    assert_eq!(most, 8, "{turns:?}");
}

fn a_hello() -> Vec<u8> {
    let config = std::sync::Arc::new(client(None));
    let name = "a.example".try_into().unwrap();
    let mut conn = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    conn.write_tls(&mut hello).unwrap();
    hello
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_hello_in_any_pieces_is_decided(
        cuts in proptest::collection::vec(1..600_usize, 1..20),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = a_hello();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        let mut whole = Hello::default();
        whole.push(&bytes);
        let at_once = whole.progress();
        let mut hello = Hello::default();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        let in_pieces = loop {
            let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            hello.push(piece);
            rest = after;
            let progress = hello.progress();
            if progress != Progress::More || rest.is_empty() {
                break progress;
            }
        };
        prop_assert_eq!(&at_once, &in_pieces);
        if at_once == Progress::Whole {
            // Whatever it says, it is read without a panic, and the same both ways.
            let name = |hello: &Hello| hello.asked().map(|asked| asked.name).map_err(|(e, _)| e.to_string());
            prop_assert_eq!(name(&whole), name(&hello));
        }
    }

    #[test]
    fn any_bytes_are_decided(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for prefix in [&[][..], &[22, 3, 1], &[22, 3, 1, 0, 40, 1, 0, 0, 36]] {
            let mut hello = Hello::default();
            hello.push(prefix);
            hello.push(&bytes);
            if hello.progress() == Progress::Whole {
                let _ = hello.asked();
            }
            prop_assert!(hello.room() <= MAX_HELLO);
        }
    }
}
