//! When a certificate is renewed, and what happens after a failure. Pure: times, chance and memory are arguments.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest pause after refusals: authorities count failed proofs per hour and name.
const REFUSED_MAX: Duration = Duration::from_hours(6);
/// Longest pause while the authority cannot be reached: asking costs nothing, and it comes back.
const UNREACHABLE_MAX: Duration = Duration::from_mins(10);
/// The part of a life before its end in which nobody waits for the authority's window any more: a twentieth.
const LAST_PART: u64 = 20;
/// After a success, how long that certificate is left alone at least, whatever anybody says: a window that lies in the past, or a
/// certificate whose life is over on the day of its issue, must not be asked for without end.
const REST: Duration = Duration::from_hours(1);
/// Shortest pause once the authority says that we ask too much.
const LIMITED_MIN: Duration = Duration::from_hours(1);

/// What a failure was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The authority looked and said no.
    Refused,
    /// It says that we ask too much.
    Limited,
    /// No answer, or one of a server in trouble.
    Unreachable,
    /// Ours: the store, the DNS record, the configuration.
    Local,
}

/// What is remembered of failures, on disk, so that a restart in a loop does not ask the authority in a loop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Failures since the last success.
    pub failures: u32,
    /// Not before this: seconds since 1970.
    pub not_before: u64,
    /// Which authority is asked next: an index, taken modulo their number.
    pub authority: u32,
    /// Why the last attempt failed.
    pub reason: Option<String>,
}

/// When to renew: a moment of the authority's window, or after two thirds of the life, up to a thirtieth earlier.
/// `chance` is between 0 and 1, and the same for the same certificate.
pub fn due(from: u64, until: u64, window: Option<(u64, u64)>, chance: f64) -> u64 {
    let within = |begin: u64, length: u64| begin + (length as f64 * chance.clamp(0.0, 1.0)) as u64;
    match window {
        // A window that ends with the certificate, or behind it, leaves no time for a failure.
        Some((begin, end)) if begin < end => within(begin, end - begin)
            .min(until.saturating_sub(until.saturating_sub(from) / LAST_PART)),
        _ => {
            let life = until.saturating_sub(from);
            let latest = from + life / 3 * 2;
            within(latest - (life / 30).min(latest), life / 30)
        }
    }
}

impl Memory {
    /// What is remembered of a success at `now`: not even the best reason makes another attempt at once. `until` is when the
    /// certificate ends.
    pub fn content(now: u64, until: u64, first: Duration) -> Self {
        let third = until.saturating_sub(now) / 3;
        let rest = third.clamp(first.min(REST).as_secs(), REST.as_secs());
        Self {
            not_before: now.saturating_add(rest),
            ..Self::default()
        }
    }

    /// When the pause is over. One that is longer than any that is made comes from a clock that has been set back: it is over.
    pub fn pause_until(&self, now: u64) -> u64 {
        let longest = REFUSED_MAX.as_secs() / 4 * 5;
        if self.not_before > now.saturating_add(longest) {
            now
        } else {
            self.not_before
        }
    }

    /// What is remembered after a failure at `now`. Authorities are asked one after another; only when all of them
    /// have failed there is a pause, `first` long at first and doubled each time.
    pub fn after(
        &self,
        cause: Cause,
        reason: &str,
        now: u64,
        authorities: u32,
        first: Duration,
        chance: f64,
    ) -> Self {
        let failures = self.failures.saturating_add(1);
        let authorities = authorities.max(1);
        // Our own trouble is the same with every authority.
        let moves_on = cause != Cause::Local;
        let authority = if moves_on {
            (self.authority + 1) % authorities
        } else {
            self.authority
        };
        let pause = if moves_on && authority != 0 {
            Duration::ZERO
        } else {
            pause(cause, failures.div_ceil(authorities), first, chance)
        };
        Self {
            failures,
            not_before: now.saturating_add(pause.as_secs()),
            authority,
            reason: Some(reason.to_owned()),
        }
    }
}

/// `round` is 1 for the first.
fn pause(cause: Cause, round: u32, first: Duration, chance: f64) -> Duration {
    let doubled = first.saturating_mul(1 << round.saturating_sub(1).min(20));
    let bounded = match cause {
        Cause::Refused | Cause::Local => doubled.min(REFUSED_MAX),
        Cause::Unreachable => doubled.min(UNREACHABLE_MAX),
        Cause::Limited => doubled.clamp(LIMITED_MIN, REFUSED_MAX),
    };
    // Up to a quarter longer, so that many names do not come back at once.
    bounded.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0)
}

/// A chance that is always the same for the same name and certificate.
pub fn chance(name: &str, salt: u64) -> f64 {
    let text = format!("{name} {salt}");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let number = hash
        .as_ref()
        .iter()
        .take(4)
        .fold(0_u32, |sum, b| (sum << 8) | u32::from(*b));
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn two_thirds_of_a_life_and_a_little_earlier() {
        assert_eq!(due(0, 90 * DAY, None, 1.0), 60 * DAY);
        assert_eq!(due(0, 90 * DAY, None, 0.0), 57 * DAY);
        // Six days, as the short ones are.
        assert_eq!(due(100, 100 + 6 * DAY, None, 1.0), 100 + 4 * DAY);
        assert_eq!(due(50, 40, None, 0.5), 50);
        assert_eq!(due(0, 0, None, 0.5), 0);
    }

    #[test]
    fn the_authoritys_window_goes_first() {
        let window = Some((10 * DAY, 12 * DAY));
        assert_eq!(due(0, 90 * DAY, window, 0.0), 10 * DAY);
        assert_eq!(due(0, 90 * DAY, window, 0.5), 11 * DAY);
        assert_eq!(due(0, 90 * DAY, window, 1.0), 12 * DAY);
        // Never so late that there is no time left for a failure; a window that is none is none.
        assert_eq!(due(0, 5 * DAY, window, 0.5), 5 * DAY - 5 * DAY / 20);
        let never = Some((253_370_764_800, 253_402_300_799));
        assert_eq!(due(0, 90 * DAY, never, 1.0), 90 * DAY - 90 * DAY / 20);
        assert_eq!(due(0, 90 * DAY, Some((3, 3)), 1.0), 60 * DAY);
    }

    #[test]
    fn pauses_double_and_are_remembered() {
        let mut memory = Memory::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            memory = memory.after(Cause::Refused, "no", 1_000, 1, MINUTE, 0.0);
            pauses.push(memory.not_before - 1_000);
        }
        assert_eq!(pauses[..4], [60, 120, 240, 480]);
        assert_eq!(pauses[11], REFUSED_MAX.as_secs());
        assert_eq!(memory.failures, 12);
        assert_eq!(memory.reason.as_deref(), Some("no"));
        let later = memory.after(Cause::Unreachable, "down", 1_000, 1, MINUTE, 1.0);
        assert_eq!(later.not_before - 1_000, UNREACHABLE_MAX.as_secs() * 5 / 4);
        let limited = Memory::default().after(Cause::Limited, "slow", 0, 1, MINUTE, 0.0);
        assert_eq!(limited.not_before, LIMITED_MIN.as_secs());
    }

    #[test]
    fn a_success_is_left_alone_for_a_while() {
        let rest = |until| Memory::content(1_000, until, MINUTE).not_before - 1_000;
        assert_eq!(rest(1_000 + 90 * DAY), 3_600);
        assert_eq!(rest(1_000 + 900), 300);
        // It has ended already, or nearly.
        assert_eq!(rest(10), 60);
        assert_eq!(rest(1_030), 60);
        assert_eq!(Memory::content(1_000, 5_000, MINUTE).failures, 0);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_leave_a_pause_of_years() {
        let now = 1_800_000_000;
        let ahead = now + 9 * 365 * DAY;
        let memory = Memory::default().after(Cause::Unreachable, "down", ahead, 1, MINUTE, 1.0);
        assert_eq!(memory.pause_until(now), now);
        assert_eq!(memory.pause_until(ahead), memory.not_before);
        let mut longest = Memory::default();
        for _ in 0..20 {
            longest = longest.after(Cause::Refused, "no", now, 1, MINUTE, 1.0);
        }
        assert_eq!(
            longest.pause_until(now),
            longest.not_before,
            "no real one is cut"
        );
    }

    #[test]
    fn the_next_authority_is_asked_at_once_and_after_the_last_there_is_a_pause() {
        let step =
            |memory: &Memory| memory.after(Cause::Unreachable, "down", 1_000, 3, MINUTE, 0.0);
        let one = step(&Memory::default());
        assert_eq!((one.authority, one.not_before), (1, 1_000));
        let two = step(&one);
        assert_eq!((two.authority, two.not_before), (2, 1_000));
        let three = step(&two);
        assert_eq!((three.authority, three.not_before), (0, 1_060));
        let local = one.after(Cause::Local, "disk", 1_000, 3, MINUTE, 0.0);
        assert_eq!((local.authority, local.not_before), (1, 1_060));
    }
}
