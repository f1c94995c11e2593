//! What a choice costs, by policy and number of servers: `cargo bench -p narthex-upstream`. Prints; judges nothing.

use std::hint::black_box;
use std::time::Instant;

use narthex_upstream::balance::least_requests;
use narthex_upstream::balance::ring::{self, Ring};
use narthex_upstream::balance::round_robin;
use narthex_upstream::balance::shares::Shares;

const SERVERS: [usize; 4] = [3, 8, 100, 1_000];

/// Nanoseconds of one choice: the best of five runs.
fn time(mut choose: impl FnMut(u64) -> Option<usize>) -> f64 {
    const RUNS: u64 = 5;
    const N: u64 = 100_000;
    let run = |_| {
        let begin = Instant::now();
        for i in 0..N {
            black_box(choose(black_box(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
        }
        begin.elapsed().as_nanos() as f64 / N as f64
    };
    (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
}

fn row(policy: &str, figure: impl Fn(usize) -> Option<f64>) {
    let cells: String = SERVERS
        .map(|n| figure(n).map_or_else(|| "       - |".into(), |ns| format!(" {ns:7.1} |")))
        .concat();
    println!("| {policy:24} |{cells}");
}

fn main() {
    println!("ns per choice");
    println!(
        "| {:24} |{}",
        "servers",
        SERVERS.map(|n| format!(" {n:7} |")).concat()
    );
    row("round-robin", |n| {
        let (mut credit, weights) = (vec![0; n], vec![100; n]);
        Some(time(|_| round_robin::pick(&mut credit, &weights)))
    });
    row("least-requests, all", |n| {
        if !least_requests::scans(n, 1) {
            return None;
        }
        let (mut credit, weights) = (vec![0; n], vec![100; n]);
        Some(time(|r| {
            least_requests::pick_best(&mut credit, &weights, |i| (r >> (i % 60)) & 7)
        }))
    });
    row("two choices", |n| {
        let shares = Shares::of(&vec![100; n]);
        Some(time(|r| {
            least_requests::pick_of_two(&shares, |i| (r >> (i % 60)) & 7, r)
        }))
    });
    row("random", |n| {
        let shares = Shares::of(&vec![100; n]);
        Some(time(|r| shares.draw(r & 0xffff_ffff)))
    });
    row("hash", |n| {
        let names: Vec<String> = (0..n)
            .map(|i| format!("10.0.{}.{}:80", i / 256, i % 256))
            .collect();
        let ring = Ring::new(names.iter().map(|n| (n.as_str(), 1)));
        Some(time(|r| {
            ring.pick(ring::key(&r.to_le_bytes()), |_| 1, |_| false)
        }))
    });
}
