//! A limit of requests under way that follows what an upstream can take. Pure: samples, times and random numbers are
//! arguments.
//!
//! The pace of now, the mean time to a response's head, is compared with the upstream's best one. Slower by no more than the
//! tolerance: there is room, and the limit grows by its square root. Slower by more: requests stand in a queue of the
//! upstream's, and the limit falls in proportion.
//!
//! A best pace that was measured while the upstream was busy is no best one, and an upstream changes. So a limit that is
//! always reached is lowered for a moment, now and then, and what is seen then is the best pace from there on. It is lowered
//! to a part that shrinks what is seen falsely each time, whatever the tolerance. A limit that is not reached is not touched
//! by this: there the best pace follows what is seen.
//!
//! But clients that wait for their answers can fill an upstream and never reach a limit that is far too high. So what is seen
//! while more than a few are under way is believed only near to what is known for sure. Beyond that there is a glance: those
//! under way become fewer by a quarter for a moment. No faster then: it is known. Faster: they stood in a queue, and the best
//! pace is measured as above, from those who are under way.

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
/// A limit that falls to this part or less is far from where it should be.
const FAR: f64 = 0.6;
/// In so many milliseconds a limit that is not used goes most of the way to twice of what is used.
const FADE_MS: f64 = 60_000.0;
/// Between two measurements at a lowered limit: so many times as long as a request takes, within these milliseconds.
const PROBE_TIMES: u64 = 100;
const PROBE_MS: (u64, u64) = (15_000, 600_000);
/// The same while the limit is far from where it should be.
const PROBE_SOON: (u64, u64) = (8, 2_000);
/// So many under way at once, or the lowest limit if that is more, are few: a queue of theirs is none to speak of.
const FEW: f64 = 16.0;
/// A pace that is to be doubted has been there for so many windows.
const DOUBTFUL: u32 = 10;
/// Slower than what is known for sure by so little is not to be doubted, whatever the tolerance.
const DOUBT_FROM: f64 = 1.25;
/// A glance leaves this part of those under way.
const GLANCE: f64 = 0.75;
/// And sees what makes the pace so much faster (a logarithm; about half of what a queue of all would), if it is more than
/// chance. So much slower, and it has seen nothing.
const GLANCE_SEES: f64 = 0.19;
/// So many glances have to see none: a machine that stands still for a moment spoils one.
const GLANCES: u32 = 3;

/// Response times of one core, to be [folded](Limiter::fold). Plain numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Samples {
    count: u64,
    /// Of logarithms: one request that takes a thousand times as long counts as ten that take twice as long.
    logs: f64,
    /// Of the squares of these.
    squares: f64,
    peak: usize,
}

impl Samples {
    /// The head of a response came after so many microseconds; `used` is how many requests were under way.
    pub fn add(&mut self, us: u64, used: usize) {
        self.count = self.count.saturating_add(1);
        let log = (us.max(1) as f64).log2();
        self.logs += log;
        self.squares += log * log;
        self.peak = self.peak.max(used);
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.logs += other.logs;
        self.squares += other.squares;
        self.peak = self.peak.max(other.peak);
    }

    /// The mean in microseconds.
    fn mean(&self) -> f64 {
        self.mean_log().exp2()
    }

    fn mean_log(&self) -> f64 {
        self.logs / self.count.max(1) as f64
    }

    /// How far the mean of the logarithms may be off: its variance.
    fn variance(&self) -> f64 {
        let count = self.count.max(1) as f64;
        let spread = self.squares / count - self.mean_log() * self.mean_log();
        spread.max(0.0) / count
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
    Drain(u64, Look),
    /// The pace at the lowered limit is measured, until then at most.
    Measure(u64, Look),
}

/// Why the limit is lowered for a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    /// And to what.
    limit: f64,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Why {
    /// It is time to.
    Due,
    /// Doubt: a glance, when so many are under way.
    Glance(f64),
    /// A glance has seen a queue.
    Queue,
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
    /// The best pace for sure: measured, or seen while few were under way; 0 is none yet.
    sure: f64,
    /// Windows in a row that showed a pace which may be that of a queue, and what was in them.
    doubts: u32,
    doubted: Samples,
    /// Glances in a row that saw no queue.
    glances: u32,
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
            sure: 0.0,
            doubts: 0,
            doubted: Samples::default(),
            glances: 0,
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
            Phase::Drain(_, look) | Phase::Measure(_, look) => {
                self.bounds.clamp(look.limit.min(self.limit)) as usize
            }
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
            Phase::Drain(until, look) => {
                self.window = Samples::default();
                if now >= until {
                    self.begun = now;
                    let most = self.pace_ms().saturating_mul(4).saturating_add(2_000);
                    self.phase = Phase::Measure(now.saturating_add(most), look);
                }
            }
            Phase::Measure(_, look) if self.is_over(now) => self.looked(look, now, random),
            Phase::Measure(until, _) if now >= until => {
                self.next_window(now);
                self.phase = Phase::Follow;
                self.trust();
                self.schedule(now, false, random);
            }
            Phase::Measure(..) => {}
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
        let gradient = self.gradient();
        let full = peak >= 0.9 * self.limit;
        if full {
            self.trust();
        } else {
            self.doubt(&seen, now);
        }
        if peak < self.limit / 2.0 && gradient >= 1.0 {
            self.rest(peak, long);
            return;
        }
        // Slow although the limit is far: it comes nearer until it is reached, and then the best pace is looked for.
        if self.pace < self.best {
            self.learn();
        }
        if self.starting && full && gradient >= 1.0 {
            self.limit = self.bounds.clamp(2.0 * self.limit);
        } else if full || gradient < 1.0 {
            // What is not reached does not grow: it would not come down to where it is.
            let more = if full { self.limit.sqrt() } else { 0.0 };
            let to = self.limit * gradient + more;
            self.limit = self.bounds.clamp(self.limit + STEP * (to - self.limit));
        }
        if self.starting && (gradient < 1.0 || self.limit >= self.bounds.clamp(f64::MAX)) {
            // What was taken for the best pace may be that of a full upstream.
            self.starting = false;
            self.next_probe = now;
        } else if gradient <= FAR {
            self.next_probe = self.next_probe.min(self.soon(self.probed));
        }
        if full && now >= self.next_probe {
            self.lower(self.limit, Why::Due, now);
        }
    }

    /// The part of the limit that the pace leaves of it.
    fn gradient(&self) -> f64 {
        (self.bounds.good() * self.best / self.pace).clamp(STEEPEST, 1.0)
    }

    /// The limit is not reached. Is the best pace the upstream's own?
    fn doubt(&mut self, seen: &Samples, now: u64) {
        let peak = seen.peak as f64;
        if peak <= self.bounds.clamp(FEW) {
            self.sure = if self.sure == 0.0 {
                self.pace
            } else {
                nearer(self.sure, self.pace)
            };
            return self.trust();
        }
        if self.sure > 0.0 && self.best <= self.bounds.good().max(DOUBT_FROM) * self.sure {
            return self.trust();
        }
        self.doubts = self.doubts.saturating_add(1);
        self.doubted.merge(seen);
        if self.doubts >= DOUBTFUL && now >= self.soon(self.probed) {
            self.lower(peak, Why::Glance(peak), now);
        }
    }

    fn trust(&mut self) {
        self.doubts = 0;
        self.doubted = Samples::default();
    }

    /// Begins to look with fewer than `from`, if the bounds allow it.
    fn lower(&mut self, from: f64, why: Why, now: u64) {
        let limit = match why {
            Why::Glance(_) => self.bounds.clamp((GLANCE * from).floor()),
            Why::Due | Why::Queue => self.lowered(from),
        };
        if limit >= from {
            return;
        }
        // Those under way, and what the cores have seen of them.
        let drained = self.pace_ms().saturating_mul(2).saturating_add(WINDOW_MS);
        let look = Look { limit, why };
        self.phase = Phase::Drain(now.saturating_add(drained), look);
        self.probed = now;
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
        self.best = nearer(self.best, self.pace);
    }

    /// What the lowered limit has shown.
    fn looked(&mut self, look: Look, now: u64, random: u64) {
        let (seen, _) = self.next_window(now);
        let pace = seen.mean();
        self.phase = Phase::Follow;
        if let Why::Glance(peak) = look.why {
            let slower = seen.mean_log() - self.doubted.mean_log();
            let chance = 2.0 * (seen.variance() + self.doubted.variance()).sqrt();
            let clear = chance.max(GLANCE_SEES);
            self.trust();
            if slower < -clear {
                self.lower(peak, Why::Queue, now);
            } else if slower < clear {
                self.glances = self.glances.saturating_add(1);
                if self.glances >= GLANCES {
                    self.know(pace);
                }
            }
            // Slower with fewer: the load has changed meanwhile, and the doubt begins anew.
            return;
        }
        let before = self.best;
        self.know(pace);
        // One look at a limit that had still far to fall shows little.
        let far = self.gradient() <= FAR || self.best < 0.8 * before;
        self.schedule(now, far, random);
    }

    fn know(&mut self, pace: f64) {
        self.best = pace;
        self.sure = pace;
        self.glances = 0;
    }

    /// The limit while the best pace is measured: what is seen falsely, because the upstream is busy even so, is less by half
    /// of what it was.
    fn lowered(&self, from: f64) -> f64 {
        let part = from / (2.0 * self.bounds.good());
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

/// A part of the way from one pace to another.
fn nearer(from: f64, to: f64) -> f64 {
    from * (to / from).powf(LEARN)
}

#[cfg(test)]
mod tests;
