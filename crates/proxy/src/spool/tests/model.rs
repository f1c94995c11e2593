//! The queue against a queue in memory, in random order, with short writes and a disk that fills up.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    /// So many bytes, or as many as there is room for.
    Push(usize),
    Consume(usize),
    Glance,
    /// Until running file work has changed something.
    Wait,
    /// The disk has this much space from now on.
    Space(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![0..200_usize, 0..3 * BLOCK];
    prop_oneof![
        6 => size.clone().prop_map(Op::Push),
        5 => size.prop_map(Op::Consume),
        3 => Just(Op::Glance),
        3 => Just(Op::Wait),
        1 => prop_oneof![0..8 * BLOCK as u64, Just(u64::MAX)].prop_map(Op::Space),
    ]
}

fn check(spool: &Spool<Shaky>, model: &VecDeque<u8>) {
    let (memory, disk) = (spool.memory as u64, spool.disk.size);
    assert_eq!(spool.len(), model.len() as u64);
    assert!(spool.len() + spool.room() as u64 <= memory + disk);
    assert!(spool.room() > 0 || !spool.is_empty(), "stuck");
    let front = spool.front();
    assert!(model.iter().take(front.len()).eq(front), "order");
    let ahead = LOW_WATER + BLOCK;
    let held = spool.ready.len() + spool.disk.unwritten() + spool.pending.len();
    assert!(held <= spool.memory.max(ahead) + 2 * BLOCK, "held {held}");
    assert!(spool.disk.place.0.largest.load(Ordering::Relaxed) <= disk);
}

/// Takes what is at the front, at most `n` bytes.
fn take(spool: &mut Spool<Shaky>, model: &mut VecDeque<u8>, n: usize) {
    let n = n.min(spool.front().len());
    assert!(model.drain(..n).eq(spool.front()[..n].iter().copied()));
    spool.consume(n);
}

async fn run(memory: u64, disk: u64, ops: Vec<Op>) {
    let place = Shaky::new(u64::MAX);
    let plan = Arc::clone(&place.0);
    let mut spool = Spool::at(memory, disk, place);
    let mut model = VecDeque::new();
    let mut pushed = 0;
    for op in ops {
        match op {
            Op::Push(n) => {
                let bytes = bytes(pushed, n.min(spool.room()));
                pushed += bytes.len() as u64;
                spool.push(&bytes);
                model.extend(bytes);
            }
            Op::Consume(n) => take(&mut spool, &mut model, n),
            Op::Glance => drop(glance(&mut spool).await.unwrap()),
            Op::Wait => {
                while glance(&mut spool).await.unwrap() {}
                if spool.disk.writing.is_some() || spool.disk.reading.is_some() {
                    progress(&mut spool).await.unwrap();
                }
            }
            Op::Space(n) => plan.space.store(n, Ordering::Relaxed),
        }
        check(&spool, &model);
    }
    while !spool.is_empty() {
        if spool.front().is_empty() {
            progress(&mut spool).await.unwrap();
        }
        take(&mut spool, &mut model, usize::MAX);
        check(&spool, &model);
    }
    assert!(model.is_empty());
    let error = spool.take_disk_error().map(|e| e.kind());
    assert!(error.is_none() || error == Some(ErrorKind::StorageFull));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_queue(
        memory in prop_oneof![Just(0), 0..4 * BLOCK as u64],
        disk in prop_oneof![Just(0), 0..BLOCK as u64, 0..9 * BLOCK as u64],
        ops in prop::collection::vec(op(), 1..120),
    ) {
        on_core(move || run(memory, disk, ops));
    }
}
