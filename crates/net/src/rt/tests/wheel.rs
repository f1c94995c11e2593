//! The timer wheel alone.

use std::cell::RefCell;

use proptest::prelude::*;

use crate::rt::core::TaskKey;
use crate::rt::timer::Timers;

const TICK_US: u64 = 16_000;

fn task(slot: u32) -> TaskKey {
    TaskKey {
        slot,
        generation: 0,
    }
}

/// Advances to `now_us`, keeping everything that is not due; the slots that fired, sorted.
fn fired(timers: &Timers, now_us: u64) -> Vec<u32> {
    let fired = RefCell::new(Vec::new());
    timers.advance(now_us, |task, _, due| {
        if due {
            fired.borrow_mut().push(task.slot);
        }
        true
    });
    let mut fired = fired.into_inner();
    fired.sort_unstable();
    fired
}

#[test]
fn never_early_and_at_most_a_tick_late() {
    for start in [0, 1, 15_999, 16_000, 123_456_789] {
        for deadline_ms in [1, 15, 16, 17, 100, 8_191, 8_192, 8_193, 60_000] {
            let timers = Timers::at(start);
            let deadline_us = start / 1_000 * 1_000 + deadline_ms * 1_000;
            timers.insert(task(1), Timers::tick_of(deadline_us / 1_000));
            let mut now = start;
            loop {
                let all = fired(&timers, now);
                if !all.is_empty() {
                    break;
                }
                now += 1_000;
                assert!(
                    now < deadline_us + TICK_US + 1_000,
                    "late: {deadline_ms} from {start}"
                );
            }
            assert!(now >= deadline_us, "early: {deadline_ms} from {start}");
            assert_eq!(timers.entries(), 0);
        }
    }
}

#[test]
fn epoll_sleeps_until_the_next_entry_and_no_longer() {
    let timers = Timers::at(1_000_000);
    assert_eq!(timers.until_next_ms(), 10_000);
    for wait in [20, 500, 3_000, 8_000] {
        let timers = Timers::at(1_000_000);
        timers.insert(task(1), Timers::tick_of(1_000 + wait));
        timers.insert(task(2), Timers::tick_of(1_000 + 60_000));
        let sleep = timers.until_next_ms() as u64;
        assert!((wait..=wait + 17).contains(&sleep), "{wait}: {sleep}");
    }
    // Further than a turn of the wheel: woken once a turn, never past the deadline.
    timers.insert(task(1), Timers::tick_of(1_000 + 60_000));
    let mut now = 1_000_000;
    let mut turns = 0;
    while fired(&timers, now).is_empty() {
        now += timers.until_next_ms() as u64 * 1_000;
        turns += 1;
    }
    assert!((61_000_000..61_017_000).contains(&now), "{now}");
    assert!(turns < 10, "{turns}");
}

#[test]
fn a_sleep_longer_than_the_wheel_misses_nothing() {
    let timers = Timers::at(0);
    for slot in 0..1_000 {
        timers.insert(task(slot), Timers::tick_of(u64::from(slot) * 16 + 1));
    }
    assert_eq!(
        fired(&timers, 3_600_000_000),
        (0..1_000).collect::<Vec<_>>()
    );
    assert_eq!(timers.entries(), 0);
}

#[test]
fn far_deadlines_neither_wrap_nor_spin() {
    let timers = Timers::at(1_000_000);
    timers.insert(task(1), Timers::tick_of(u64::MAX));
    // More than the 2.2 years that 32 bits of ticks hold.
    let years = 5 * 365 * 24 * 3_600 * 1_000_000;
    assert!(fired(&timers, years).is_empty());
    let mut now = years;
    for _ in 0..10 {
        now += timers.until_next_ms() as u64 * 1_000;
        assert!(fired(&timers, now).is_empty());
    }
    assert!(
        now - years > 60_000_000,
        "ten sleeps of less than a minute: {}",
        now - years
    );
    timers.insert(task(2), Timers::tick_of(now / 1_000 + 100));
    assert!(timers.until_next_ms() <= 117);
    assert_eq!(fired(&timers, now + 117_000), [2]);
    assert_eq!(timers.entries(), 1);
}

#[test]
fn entries_of_no_use_leave_when_they_come_by() {
    let timers = Timers::at(0);
    for slot in 0..100 {
        timers.insert(task(slot), Timers::tick_of(3_600_000));
    }
    assert_eq!(timers.entries(), 100);
    timers.advance(9_000_000, |task, _, due| {
        assert!(!due);
        task.slot % 2 == 0
    });
    assert_eq!(timers.entries(), 50);
}

proptest! {
    /// Against a list: the same fire at the same moments, whatever the order of inserts and steps.
    #[test]
    fn as_a_plain_list(
        start in 0_u64..100_000_000,
        steps in prop::collection::vec(
            (prop::collection::vec(0_u64..40_000, 0..6), prop_oneof![0_u64..40, 0_u64..2_000, 0_u64..30_000]),
            1..60,
        ),
    ) {
        let timers = Timers::at(start);
        let mut model: Vec<(u32, u64)> = Vec::new();
        let mut now = start;
        let mut slot = 0;
        for (inserts, step_ms) in steps {
            for after_ms in inserts {
                let tick = Timers::tick_of(now / 1_000 + 1 + after_ms);
                timers.insert(task(slot), tick);
                model.push((slot, tick));
                slot += 1;
            }
            if let Some(first) = model.iter().map(|(_, tick)| tick * 16).min() {
                let wake_at = now / 1_000 + timers.until_next_ms() as u64;
                prop_assert!(wake_at <= first.max(now / 1_000) + 1, "sleeps past {first}: {wake_at}");
            }
            now += step_ms * 1_000;
            let tick_now = now / TICK_US;
            let mut due: Vec<u32> = model.iter().filter(|(_, t)| *t <= tick_now).map(|(s, _)| *s).collect();
            due.sort_unstable();
            model.retain(|(_, t)| *t > tick_now);
            prop_assert_eq!(fired(&timers, now), due);
            prop_assert_eq!(timers.entries(), model.len());
        }
    }
}
