//! Histograms: per core, log-linear buckets for quantiles (four to each power of two, so at most 25% wide) beside the few
//! exact ones that are exported, and a sum. Recording is three relaxed stores.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::carry::CountedHistogram;

/// What is measured. Values are recorded in microseconds or bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Recorded in microseconds, exported in seconds.
    Seconds,
    /// Recorded and exported in bytes.
    Bytes,
}

/// Upper bounds of the exported buckets, inclusive, ascending. Each is at least twice the one before: see [`Ladder`].
const MICROS: [u64; 19] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
];
const BYTES: [u64; 13] = [
    64,
    256,
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
    1 << 30,
];

impl Unit {
    /// Upper bounds of the exported buckets, without the infinite one.
    pub(super) fn bounds(self) -> &'static [u64] {
        match self {
            Self::Seconds => &MICROS,
            Self::Bytes => &BYTES,
        }
    }

    fn ladder(self) -> &'static Ladder {
        static SECONDS: Ladder = Ladder::new(&MICROS);
        static SIZES: Ladder = Ladder::new(&BYTES);
        match self {
            Self::Seconds => &SECONDS,
            Self::Bytes => &SIZES,
        }
    }
}

/// Finds a value's exported bucket without a search: bounds are at least a factor of two apart, so at most one lies within
/// each power of two.
struct Ladder {
    /// For each bit length: the bucket of the smallest value, and the bound within, if there is one.
    steps: [(u8, u64); 65],
}

impl Ladder {
    const fn new(bounds: &[u64]) -> Self {
        let mut steps = [(0, u64::MAX); 65];
        let mut length = 0;
        while length < 65 {
            let lowest = if length == 0 { 0 } else { 1u64 << (length - 1) };
            let mut bucket = 0;
            while bucket < bounds.len() && bounds[bucket] < lowest {
                bucket += 1;
            }
            let bound = if bucket < bounds.len() {
                bounds[bucket]
            } else {
                u64::MAX
            };
            steps[length] = (bucket as u8, bound);
            length += 1;
        }
        Self { steps }
    }

    #[inline]
    fn bucket(&self, value: u64) -> usize {
        let (bucket, bound) = self.steps[(u64::BITS - value.leading_zeros()) as usize];
        usize::from(bucket) + usize::from(value > bound)
    }
}

/// Powers of two that have fine buckets: values from 2^34 on (4.7 hours, 16 GiB) share the last one.
const POWERS: usize = 34;
const FINE: usize = POWERS * 4 - 4 + 1;
const COARSE: usize = 20;

/// The fine bucket of a value: below 4 the value itself, above by its top three bits.
#[inline]
fn fine_bucket(value: u64) -> usize {
    if value < 4 {
        return value as usize;
    }
    let power = value.ilog2();
    let quarter = (value >> (power - 2)) & 3;
    (((power as usize) - 1) * 4 + quarter as usize).min(FINE - 1)
}

/// First value of a fine bucket, and first of the next.
fn fine_range(bucket: usize) -> (u64, u64) {
    let first = |bucket: usize| {
        if bucket < 4 {
            bucket as u64
        } else {
            (4 + (bucket as u64 & 3)) << (bucket / 4 - 1)
        }
    };
    (first(bucket), first(bucket + 1))
}

/// One core's part. Aligned to whole lines, so that no neighbour shares one.
#[repr(align(64))]
struct Row {
    sum: AtomicU64,
    coarse: [AtomicU64; COARSE],
    fine: [AtomicU64; FINE],
}

impl Row {
    fn new() -> Box<Self> {
        Box::new(Self {
            sum: AtomicU64::new(0),
            coarse: std::array::from_fn(|_| AtomicU64::new(0)),
            fine: std::array::from_fn(|_| AtomicU64::new(0)),
        })
    }
}

struct Shared {
    unit: Unit,
    ladder: &'static Ladder,
    cores: usize,
    /// One per core and one for all other threads; made at the first observation, because most series of a big
    /// configuration never see one on most cores.
    rows: Box<[OnceLock<Box<Row>>]>,
}

/// A distribution.
#[derive(Clone)]
pub struct Histogram(Arc<Shared>);

impl Histogram {
    pub(super) fn new(cores: usize, unit: Unit) -> Self {
        let rows = (0..=cores).map(|_| OnceLock::new()).collect();
        Self(Arc::new(Shared {
            unit,
            ladder: unit.ladder(),
            cores,
            rows,
        }))
    }

    /// Records `value` (microseconds or bytes) as core `core`; see [`Counter::add`](super::Counter::add).
    #[inline]
    pub fn observe(&self, core: usize, value: u64) {
        let shared = &*self.0;
        let row = shared.rows[core.min(shared.cores)].get_or_init(Row::new);
        let coarse = &row.coarse[shared.ladder.bucket(value)];
        let fine = &row.fine[fine_bucket(value)];
        if core < shared.cores {
            let add =
                |cell: &AtomicU64, n: u64| cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
            add(&row.sum, value);
            add(coarse, 1);
            add(fine, 1);
        } else {
            row.sum.fetch_add(value, Relaxed);
            coarse.fetch_add(1, Relaxed);
            fine.fetch_add(1, Relaxed);
        }
    }

    /// Records from a thread that is no data core.
    pub fn observe_shared(&self, value: u64) {
        self.observe(usize::MAX, value);
    }

    /// What is measured.
    pub fn unit(&self) -> Unit {
        self.0.unit
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.coarse().iter().sum()
    }

    /// The sum of all values, in microseconds or bytes.
    pub fn sum(&self) -> u64 {
        self.rows()
            .fold(0, |sum, row| sum.wrapping_add(row.sum.load(Relaxed)))
    }

    /// The value below which the share `q` (0 to 1) of all values lies, to within a bucket (25%); `None` without values.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let mut fine = [0u64; FINE];
        for row in self.rows() {
            for (sum, cell) in fine.iter_mut().zip(&row.fine) {
                *sum += cell.load(Relaxed);
            }
        }
        quantile_of(&fine, q)
    }

    /// Values per exported bucket (not cumulated), the infinite one last.
    pub(super) fn coarse(&self) -> [u64; COARSE] {
        let mut sums = [0u64; COARSE];
        for row in self.rows() {
            for (sum, cell) in sums.iter_mut().zip(&row.coarse) {
                *sum += cell.load(Relaxed);
            }
        }
        sums
    }

    /// What was recorded, for another process.
    pub(super) fn counted(&self) -> CountedHistogram {
        let mut counted = CountedHistogram {
            bytes: self.0.unit == Unit::Bytes,
            sum: self.sum(),
            ..CountedHistogram::default()
        };
        for row in self.rows() {
            gather(&mut counted.coarse, &row.coarse);
            gather(&mut counted.fine, &row.fine);
        }
        counted
    }

    /// Adds what another process has recorded, to the row that is no core's.
    pub(super) fn add(&self, counted: &CountedHistogram) {
        let Some(row) = self.0.rows.get(self.0.cores) else {
            return;
        };
        if counted.bytes != (self.0.unit == Unit::Bytes) {
            return;
        }
        let row = row.get_or_init(Row::new);
        row.sum.fetch_add(counted.sum, Relaxed);
        spread(&row.coarse, &counted.coarse);
        spread(&row.fine, &counted.fine);
    }

    /// True if this is the only reference to the series.
    pub(super) fn unused(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some()
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0
            .rows
            .iter()
            .filter_map(|row| row.get().map(|row| &**row))
    }
}

fn gather(into: &mut BTreeMap<usize, u64>, cells: &[AtomicU64]) {
    for (bucket, cell) in cells.iter().enumerate() {
        let count = cell.load(Relaxed);
        if count > 0 {
            *into.entry(bucket).or_default() += count;
        }
    }
}

fn spread(cells: &[AtomicU64], counts: &BTreeMap<usize, u64>) {
    for (bucket, count) in counts {
        if let Some(cell) = cells.get(*bucket) {
            cell.fetch_add(*count, Relaxed);
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram(count {}, sum {})", self.count(), self.sum())
    }
}

/// Finds the bucket that holds the rank and interpolates within it.
fn quantile_of(fine: &[u64], q: f64) -> Option<u64> {
    let count: u64 = fine.iter().sum();
    if count == 0 {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * count as f64;
    let mut below = 0u64;
    for (bucket, &here) in fine.iter().enumerate() {
        if here > 0 && (below + here) as f64 >= rank {
            let (low, high) = fine_range(bucket);
            let share = ((rank - below as f64) / here as f64).clamp(0.0, 1.0);
            return Some(low + (share * (high - 1 - low) as f64) as u64);
        }
        below += here;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_far_enough_apart_for_the_ladder() {
        for bounds in [Unit::Seconds.bounds(), Unit::Bytes.bounds()] {
            assert!(bounds.windows(2).all(|pair| pair[1] >= 2 * pair[0]));
            assert!(bounds.len() < COARSE);
        }
    }

    #[test]
    fn fine_buckets_meet_without_gaps() {
        for bucket in 0..FINE - 1 {
            let (low, next) = fine_range(bucket);
            assert_eq!(fine_bucket(low), bucket);
            assert_eq!(fine_bucket(next - 1), bucket);
            assert_eq!(fine_bucket(next), bucket + 1);
        }
        assert_eq!(fine_bucket(u64::MAX), FINE - 1);
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let histogram = Histogram::new(2, Unit::Seconds);
        assert_eq!(histogram.quantile(0.5), None);
        for value in 1..=1000u64 {
            histogram.observe((value % 2) as usize, value * 1000);
        }
        for (q, exact) in [(0.5, 500_000.0), (0.9, 900_000.0), (0.99, 990_000.0)] {
            let found = histogram.quantile(q).unwrap() as f64;
            assert!(
                (found / exact - 1.0).abs() < 0.25,
                "{q}: {found} for {exact}"
            );
        }
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.sum(), 500_500_000);
    }

    proptest! {
        #[test]
        fn the_ladder_equals_a_search(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            for unit in [Unit::Seconds, Unit::Bytes] {
                let searched = unit.bounds().partition_point(|bound| *bound < value);
                prop_assert_eq!(unit.ladder().bucket(value), searched);
            }
        }

        #[test]
        fn a_value_lies_in_its_fine_bucket(value in 0u64..(1 << 34)) {
            let (low, next) = fine_range(fine_bucket(value));
            prop_assert!(low <= value && value < next);
        }
    }
}
