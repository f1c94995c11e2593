//! How even each balancing policy is, in figures: computed here without a clock or chance, and compared with the table in
//! `docs/upstreams.md`, so that what is promised is what is done. `NARTHEX_GOLDEN=write` writes the table anew.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing

use std::fmt::Write as _;
use std::path::Path;

use narthex_upstream::balance::least_requests;
use narthex_upstream::balance::ring::{self, Ring};
use narthex_upstream::balance::round_robin;
use narthex_upstream::balance::shares::Shares;

const BEGIN: &str = "<!-- fairness: written by crates/upstream/tests/fairness.rs -->\n";
const END: &str = "<!-- end -->\n";
const KEYS: u32 = 100_000;

/// A generator that is the same everywhere (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A row: policy, what was done, what came of it.
type Row = [String; 3];

fn row(policy: &str, done: &str, figure: String) -> Row {
    [policy.to_owned(), done.to_owned(), figure]
}

/// The largest difference from its part that any server has, in percent of its part.
fn off(counts: &[u64], weights: &[u64]) -> f64 {
    let (all, total) = (counts.iter().sum::<u64>(), weights.iter().sum::<u64>());
    let off = |(count, weight): (&u64, &u64)| {
        let part = all as f64 * *weight as f64 / total as f64;
        (*count as f64 - part).abs() / part * 100.0
    };
    counts.iter().zip(weights).map(off).fold(0.0, f64::max)
}

/// Chooses `n` times; the choices of each.
fn count(servers: usize, n: u64, mut choose: impl FnMut() -> Option<usize>) -> Vec<u64> {
    let mut counts = vec![0; servers];
    for _ in 0..n {
        counts[choose().unwrap()] += 1;
    }
    counts
}

fn turns(rows: &mut Vec<Row>) {
    let weights = [300, 200, 100];
    let mut credit = [0; 3];
    let mut worst = 0f64;
    for _ in 0..100 {
        let counts = count(3, 6, || round_robin::pick(&mut credit, &weights));
        worst = worst.max(off(&counts, &[3, 2, 1]));
    }
    rows.push(row(
        "`round-robin`",
        "weights 3, 2, 1; every run of 6",
        format!("{worst:.1}% off"),
    ));
    let mut credit = [0; 3];
    let counts = count(3, 600, || {
        least_requests::pick_best(&mut credit, &weights, |_| 0)
    });
    rows.push(row(
        "`least-requests`, up to 8 servers",
        "weights 3, 2, 1, nothing in flight, 600 requests",
        format!("{:.1}% off", off(&counts, &[3, 2, 1])),
    ));
}

fn drawn(rows: &mut Vec<Row>) {
    let shares = Shares::of(&[100; 20]);
    for n in [20_000, 2_000_000] {
        let mut numbers = Numbers(7);
        let counts = count(20, n, || shares.draw(numbers.next() & 0xffff_ffff));
        rows.push(row(
            "`random`",
            &format!("20 servers, {n} requests"),
            format!("{:.1}% off", off(&counts, &[1; 20])),
        ));
    }
}

/// Requests that stay: how far the fullest server is above the mean.
fn heaps(rows: &mut Vec<Row>) {
    let shares = Shares::of(&[100; 20]);
    let what = "20 servers, 2,000 requests that stay";
    let mut fullest = |policy: &str, choose: &mut dyn FnMut(&[u64]) -> usize| {
        let mut load = [0u64; 20];
        for _ in 0..2_000 {
            let i = choose(&load);
            load[i] += 1;
        }
        rows.push(row(
            policy,
            what,
            format!(
                "fullest {:.2} of the mean",
                *load.iter().max().unwrap() as f64 / 100.0
            ),
        ));
    };
    let mut numbers = Numbers(11);
    fullest("`random`", &mut |_| {
        shares.draw(numbers.next() & 0xffff_ffff).unwrap()
    });
    let mut numbers = Numbers(11);
    fullest(
        "`least-requests`, `least-time`, more than 8 servers",
        &mut |load| least_requests::pick_of_two(&shares, |i| load[i], numbers.next()).unwrap(),
    );
    let shares = [100; 8];
    let mut credit = [0; 8];
    let mut load = [0u64; 8];
    for _ in 0..804 {
        let i = least_requests::pick_best(&mut credit, &shares, |i| load[i]).unwrap();
        load[i] += 1;
    }
    rows.push(row(
        "`least-requests`, up to 8 servers",
        "8 servers, 804 requests that stay",
        format!(
            "between {} and {}",
            load.iter().min().unwrap(),
            load.iter().max().unwrap()
        ),
    ));
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("10.0.0.{i}:8080")).collect()
}

fn ring_of(names: &[String]) -> Ring {
    Ring::new(names.iter().map(|n| (n.as_str(), 1)))
}

fn homes(ring: &Ring, away: Option<usize>) -> Vec<usize> {
    let share = |i| u32::from(Some(i) != away);
    (0..KEYS)
        .map(|k| {
            ring.pick(ring::key(&k.to_le_bytes()), share, |_| false)
                .unwrap()
        })
        .collect()
}

fn keys(rows: &mut Vec<Row>) {
    let ten = ring_of(&names(10));
    let before = homes(&ten, None);
    let mut counts = [0u64; 10];
    for i in &before {
        counts[*i] += 1;
    }
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    let mean = f64::from(KEYS) / 10.0;
    rows.push(row(
        "`hash`",
        "10 servers, 100,000 keys",
        format!(
            "between {:.2} and {:.2} of the mean",
            *least as f64 / mean,
            *most as f64 / mean
        ),
    ));
    let moved = |after: &[usize]| before.iter().zip(after).filter(|(a, b)| a != b).count();
    let without = homes(&ten, Some(3));
    assert_eq!(
        moved(&without) as u64,
        counts[3],
        "only the keys of who went"
    );
    rows.push(row(
        "`hash`",
        "one of 10 goes",
        format!(
            "{:.1}% of keys move, all of them its own",
            moved(&without) as f64 * 100.0 / f64::from(KEYS)
        ),
    ));
    let eleven = homes(&ring_of(&names(11)), None);
    assert!(
        before.iter().zip(&eleven).all(|(a, b)| a == b || *b == 10),
        "to the new one only"
    );
    rows.push(row(
        "`hash`",
        "an 11th comes",
        format!(
            "{:.1}% of keys move, all of them to it",
            moved(&eleven) as f64 * 100.0 / f64::from(KEYS)
        ),
    ));
}

/// All ask for one key: how much its server gets before the next takes over.
fn one_hot_key(rows: &mut Vec<Row>) {
    let ten = ring_of(&names(10));
    let mut load = [0u64; 10];
    for sent in 0..1_000 {
        let most = ring::capacity(sent, 1, 10, 25);
        let i = ten
            .pick(ring::key(b"hot"), |_| 1, |i| load[i] >= most)
            .unwrap();
        load[i] += 1;
    }
    rows.push(row(
        "`hash bound=\"25%\"`",
        "10 servers, 1,000 requests in flight, all for one key",
        format!(
            "fullest {:.2} of the mean",
            *load.iter().max().unwrap() as f64 / 100.0
        ),
    ));
}

#[test]
fn the_table_in_the_docs_is_true() {
    let mut rows = Vec::new();
    turns(&mut rows);
    drawn(&mut rows);
    heaps(&mut rows);
    keys(&mut rows);
    one_hot_key(&mut rows);
    let mut table = String::from("| policy | with | figure |\n|---|---|---|\n");
    for [policy, done, figure] in rows {
        writeln!(table, "| {policy} | {done} | {figure} |").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/upstreams.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("the mark of the table's beginning");
    let (written, after) = rest.split_once(END).expect("the mark of its end");
    if std::env::var_os("NARTHEX_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "NARTHEX_GOLDEN=write writes the table anew");
}
