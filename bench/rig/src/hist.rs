//! A histogram of times: logarithmic, 32 steps per doubling (3% wide).

const STEPS: u64 = 32;

/// Counts per step.
#[derive(Debug)]
pub struct Hist {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Hist {
    fn default() -> Self {
        Self {
            counts: vec![0; 60 * STEPS as usize],
            total: 0,
            max: 0,
        }
    }
}

fn step(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// Smallest value of a step.
fn floor(step: usize) -> u64 {
    let step = step as u64;
    if step < STEPS {
        return step;
    }
    let shift = step / STEPS - 1;
    (step - shift * STEPS) << shift
}

impl Hist {
    /// Adds a time in nanoseconds.
    pub fn add(&mut self, ns: u64) {
        if let Some(count) = self.counts.get_mut(step(ns)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(ns);
    }

    /// The time that a share of all stays below, in microseconds.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return floor(at) as f64 / 1e3;
            }
        }
        self.max_us()
    }

    /// The longest, in microseconds.
    pub fn max_us(&self) -> f64 {
        self.max as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_floors_agree() {
        for value in (0..200_000).chain([u64::from(u32::MAX), 1 << 40]) {
            let at = step(value);
            assert!(floor(at) <= value && value < floor(at + 1), "{value}");
        }
    }

    #[test]
    fn quantiles_are_within_a_step() {
        let mut h = Hist::default();
        for ms in 1..=1000 {
            h.add(ms * 1_000_000);
        }
        for (share, ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = h.quantile_us(share) / 1e3;
            assert!((got - ms).abs() / ms < 0.04, "{share}: {got}");
        }
    }
}
