//! What handshakes take of a core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::rt::{now_us, spawn, yield_now};
use crate::testing::on_core;
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
