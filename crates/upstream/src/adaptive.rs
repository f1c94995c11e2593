//! A limit of requests under way that follows what an upstream can take. Pure: samples, times and random numbers are
//! arguments.
//!
//! The pace of now, the mean time to a response's head, is compared with the upstream's best one. Slower by no more than the
//! tolerance: there is room, and the limit grows by its square root. Slower by more: requests stand in a queue of the
//! upstream's, and the limit falls in proportion.
//!
//! A best pace that was measured while the upstream was busy is no best one, and an upstream changes. So a limit that is
//! always reached is lowered for a moment, now and then, and what is seen then is the best pace from there on. It is lowered
//! to a part that shrinks what is seen falsely each time, whatever the tolerance. A limit that is not reached is never touched
//! by this: there the best pace follows what is seen.

use std::mem::take;

/// The first limit, if the bounds allow it; it doubles while it is reached and the pace stays good.
const START: f64 = 32.0;
/// A window is at least so long, and as long as one request takes. Milliseconds.
const WINDOW_MS: u64 = 100;
/// And has so many samples.
const WINDOW_LEAST: u64 = 10;
/// The part of the way to where the limit should be that it goes with one window.
const STEP: f64 = 0.5;
/// A better pace counts by so much at once: one lucky window is not the best pace.
const LEARN: f64 = 0.2;
/// The limit falls by so much at most with one window, before [`STEP`].
const STEEPEST: f64 = 0.5;
/// In so many milliseconds a limit that is not used goes most of the way to twice of what is used.
const FADE_MS: f64 = 60_000.0;
/// Between two measurements at a lowered limit: so many times as long as a request takes, within these milliseconds.
const PROBE_TIMES: u64 = 100;
const PROBE_MS: (u64, u64) = (15_000, 600_000);
/// The same while the limit is far from where it should be.
const PROBE_SOON: (u64, u64) = (8, 2_000);

/// Response times of one core, to be [folded](Limiter::fold). Plain numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Samples {
    count: u64,
    /// Of logarithms: one request that takes a thousand times as long counts as ten that take twice as long.
    logs: f64,
    peak: usize,
}

impl Samples {
    /// The head of a response came after so many microseconds; `used` is how many requests were under way.
    pub fn add(&mut self, us: u64, used: usize) {
        self.count = self.count.saturating_add(1);
        self.logs += (us.max(1) as f64).log2();
        self.peak = self.peak.max(used);
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.logs += other.logs;
        self.peak = self.peak.max(other.peak);
    }

    /// The mean in microseconds.
    fn mean(&self) -> f64 {
        (self.logs / self.count.max(1) as f64).exp2()
    }
}

/// What the limit stays within, and what pace is good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Never below; at least 1.
    pub min: usize,
    /// Never above.
    pub max: usize,
    /// Slower than the best pace by so many percent is good.
    pub tolerance: u8,
}

impl Bounds {
    fn clamp(&self, limit: f64) -> f64 {
        let min = self.min.max(1);
        limit.clamp(min as f64, self.max.max(min) as f64)
    }

    fn good(&self) -> f64 {
        1.0 + f64::from(self.tolerance) / 100.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// The limit follows the pace.
    Follow,
    /// It is lowered, and those who came before are still under way until then (milliseconds).
    Drain(u64),
    /// The best pace is measured, until then at most.
    Measure(u64),
}

/// The limit and what it is made from.
#[derive(Debug, Clone)]
pub struct Limiter {
    bounds: Bounds,
    limit: f64,
    /// Nothing has shown yet that it is too high.
    starting: bool,
    /// The pace of the last window and the best one, in microseconds; 0 is none yet.
    pace: f64,
    best: f64,
    window: Samples,
    begun: u64,
    phase: Phase,
    probed: u64,
    next_probe: u64,
}

impl Limiter {
    /// Begins; `now` in monotonic milliseconds, as everywhere here.
    pub fn new(bounds: Bounds, now: u64) -> Self {
        Self {
            bounds,
            limit: bounds.clamp(START),
            starting: true,
            pace: 0.0,
            best: 0.0,
            window: Samples::default(),
            begun: now,
            phase: Phase::Follow,
            probed: now,
            next_probe: u64::MAX,
        }
    }

    /// Takes other bounds; what is known stays known.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.limit = bounds.clamp(self.limit);
    }

    /// The present limit.
    pub fn limit(&self) -> usize {
        match self.phase {
            Phase::Follow => self.limit as usize,
            _ => self.lowered() as usize,
        }
    }

    /// The pace of the last window, in microseconds; 0 is none yet.
    pub fn pace_us(&self) -> u64 {
        self.pace as u64
    }

    /// The best pace, in microseconds; 0 is none yet.
    pub fn best_us(&self) -> u64 {
        self.best as u64
    }

    /// Takes what a core has seen since it last came. The limit may have moved then.
    pub fn fold(&mut self, samples: &Samples, now: u64, random: u64) {
        self.window.merge(samples);
        match self.phase {
            Phase::Follow if self.is_over(now) => self.follow(now),
            Phase::Follow => {}
            Phase::Drain(until) => {
                self.window = Samples::default();
                if now >= until {
                    self.begun = now;
                    let most = self.pace_ms().saturating_mul(4).saturating_add(2_000);
                    self.phase = Phase::Measure(now.saturating_add(most));
                }
            }
            Phase::Measure(_) if self.is_over(now) => self.measured(now, random),
            Phase::Measure(until) if now >= until => {
                self.next_window(now);
                self.phase = Phase::Follow;
                self.schedule(now, false, random);
            }
            Phase::Measure(_) => {}
        }
    }

    fn is_over(&self, now: u64) -> bool {
        let long = now.saturating_sub(self.begun) >= self.pace_ms().max(WINDOW_MS);
        long && self.window.count >= WINDOW_LEAST
    }

    /// Ends the window; says what was seen, and how long it was.
    fn next_window(&mut self, now: u64) -> (Samples, u64) {
        let long = now.saturating_sub(self.begun);
        self.begun = now;
        (take(&mut self.window), long)
    }

    fn follow(&mut self, now: u64) {
        let (seen, long) = self.next_window(now);
        let peak = seen.peak as f64;
        self.pace = seen.mean();
        if self.best == 0.0 {
            self.best = self.pace;
        }
        let gradient = (self.bounds.good() * self.best / self.pace).clamp(STEEPEST, 1.0);
        if peak < self.limit / 2.0 && gradient >= 1.0 {
            self.rest(peak, long);
            return;
        }
        // Slow although the limit is far: it comes nearer until it is reached, and then the best pace is looked for.
        if self.pace < self.best {
            self.learn();
        }
        let full = peak >= 0.9 * self.limit;
        if self.starting && full && gradient >= 1.0 {
            self.limit = self.bounds.clamp(2.0 * self.limit);
        } else if full || gradient < 1.0 {
            let to = self.limit * gradient + self.limit.sqrt();
            self.limit = self.bounds.clamp(self.limit + STEP * (to - self.limit));
        }
        if self.starting && (gradient < 1.0 || self.limit >= self.bounds.clamp(f64::MAX)) {
            // What was taken for the best pace may be that of a full upstream.
            self.starting = false;
            self.next_probe = now;
        } else if gradient <= 0.6 {
            self.next_probe = self.next_probe.min(self.soon(self.probed));
        }
        if full && now >= self.next_probe && self.lowered() < self.limit {
            // Those under way, and what the cores have seen of them.
            let drained = self.pace_ms().saturating_mul(2).saturating_add(WINDOW_MS);
            self.phase = Phase::Drain(now.saturating_add(drained));
            self.probed = now;
        }
    }

    /// Nobody is kept waiting, by us or by others: what is seen is the upstream's own pace, and a limit so far above it means
    /// nothing.
    fn rest(&mut self, peak: f64, long: u64) {
        self.learn();
        let to = self.bounds.clamp(2.0 * peak);
        if to < self.limit {
            self.limit = to + (self.limit - to) * (-(long as f64) / FADE_MS).exp();
        }
    }

    fn learn(&mut self) {
        self.best *= (self.pace / self.best).powf(LEARN);
    }

    fn measured(&mut self, now: u64, random: u64) {
        let (seen, _) = self.next_window(now);
        let before = std::mem::replace(&mut self.best, seen.mean());
        self.phase = Phase::Follow;
        self.schedule(now, self.best < 0.8 * before, random);
    }

    /// The limit while the best pace is measured: what is seen falsely, because the upstream is busy even so, is less by half
    /// of what it was.
    fn lowered(&self) -> f64 {
        let part = self.limit / (2.0 * self.bounds.good());
        self.bounds.clamp(part.floor())
    }

    fn schedule(&mut self, now: u64, soon: bool, random: u64) {
        self.next_probe = if soon {
            self.soon(now)
        } else {
            let every = self.pace_ms().saturating_mul(PROBE_TIMES);
            let every = every.clamp(PROBE_MS.0, PROBE_MS.1);
            // Three quarters to five quarters: proxies before the same upstream do not measure together.
            let share = 0.75 + 0.5 * (random as f64 / u64::MAX as f64);
            now.saturating_add((every as f64 * share) as u64)
        };
    }

    fn soon(&self, from: u64) -> u64 {
        let (times, least) = PROBE_SOON;
        from.saturating_add(self.pace_ms().saturating_mul(times).max(least))
    }

    fn pace_ms(&self) -> u64 {
        (self.pace / 1_000.0) as u64
    }
}

#[cfg(test)]
mod tests;
