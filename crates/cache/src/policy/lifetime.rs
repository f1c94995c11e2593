//! Age on arrival and freshness lifetime (RFC 9111 4.2).

use std::time::Duration;

use narthex_config::model::{CacheProfile, CacheRule};
use narthex_message::{FieldId, Head};

use super::cache_control::{Response, seconds as delta_seconds};
use super::{FOREVER_S, Why, date};

/// A guessed lifetime is a tenth of the time since the last change, and at most a week.
const HEURISTIC_MOST_S: u64 = 7 * 86_400;

/// When a response was made and how old it was when it came.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// `Date`, or when it was received.
    pub date_s: u64,
    /// Corrected initial age (RFC 9111 4.2.3).
    pub initial_age_s: u32,
    /// When it was received, in seconds.
    pub received: u64,
}

impl Times {
    /// Of a response.
    pub fn of(head: Head<'_>, sent_ms: u64, received_ms: u64) -> Self {
        let received_s = received_ms / 1000;
        let date_s = head
            .get(FieldId::Date)
            .and_then(|v| date::parse(v, received_s))
            .unwrap_or(received_s);
        let apparent = received_s.saturating_sub(date_s);
        let delay = received_ms.saturating_sub(sent_ms) / 1000;
        let corrected = u64::from(age(head)).saturating_add(delay);
        Self {
            date_s,
            initial_age_s: apparent.max(corrected).min(u64::from(FOREVER_S)) as u32,
            received: received_s,
        }
    }
}

/// `Age` in seconds. Of several lines or a list the first member counts, and one that is no number does not (RFC 9111 5.1).
/// What follows a `;` is passed over as a parameter: a number before it says more about the age than nothing does.
fn age(head: Head<'_>) -> u32 {
    head.all(FieldId::Age)
        .flat_map(|line| line.split(|b| *b == b','))
        .map(|member| member.split(|b| *b == b';').next().unwrap_or(member))
        .map(<[u8]>::trim_ascii)
        .find(|member| !member.is_empty())
        .and_then(delta_seconds)
        .unwrap_or(0)
}

/// How long a response is fresh.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// In seconds of age.
    pub seconds: u32,
    /// It is a guess.
    pub heuristic: bool,
}

/// What the response says itself: `s-maxage`, `max-age`, `Expires`, in this order.
pub fn explicit(head: Head<'_>, said: &Response, targeted: bool, times: &Times) -> Option<u32> {
    said.s_maxage.or(said.max_age).or_else(|| {
        if targeted {
            return None;
        }
        // Of several the earliest; one that is no date has passed (RFC 9111 5.3).
        head.all(FieldId::Expires)
            .map(|v| date::parse(v, times.received).unwrap_or(0))
            .min()
            .map(|at| at.saturating_sub(times.date_s).min(u64::from(FOREVER_S)) as u32)
    })
}

/// The rule's lifetime for answers of this status that say nothing of their own.
pub fn negative(rule: &CacheRule, status: u16) -> Option<Duration> {
    rule.negative
        .iter()
        .find(|(s, _)| *s == status)
        .map(|(_, ttl)| *ttl)
}

/// Whole seconds, at most [`FOREVER_S`].
pub fn seconds(duration: Duration) -> u32 {
    duration.as_secs().min(u64::from(FOREVER_S)) as u32
}

/// RFC 9110 15.1, without those that `Why::Status` is for.
fn is_heuristically_cacheable(status: u16) -> bool {
    matches!(
        status,
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// The lifetime by response and rule.
pub fn of(
    head: Head<'_>,
    said: &Response,
    targeted: bool,
    times: &Times,
    rule: &CacheRule,
) -> Result<Lifetime, Why> {
    let status = head.index.status;
    let explicit = explicit(head, said, targeted, times);
    let open = said.public || is_heuristically_cacheable(status);
    let most = rule.ttl_max.map_or(FOREVER_S, seconds);
    let origins = |seconds: u32, heuristic| {
        Ok(Lifetime {
            seconds: seconds.min(most),
            heuristic,
        })
    };
    // The operator's times count from when it came, however old it was then.
    let operators = |ttl: Duration| {
        let ttl = seconds(ttl).min(most);
        Ok(Lifetime {
            seconds: ttl.saturating_add(times.initial_age_s).min(FOREVER_S),
            heuristic: false,
        })
    };
    if status < 400
        && let Some(ttl) = rule.ttl_override
        && (open || explicit.is_some())
    {
        return operators(ttl);
    }
    if let Some(explicit) = explicit {
        return origins(explicit, false);
    }
    if let Some(ttl) = negative(rule, status) {
        return operators(ttl);
    }
    if status < 400
        && open
        && let Some(ttl) = rule.ttl
    {
        return operators(ttl);
    }
    if rule.profile == CacheProfile::Safe || !open {
        return Err(if open { Why::NoLifetime } else { Why::Status });
    }
    match head
        .get(FieldId::LastModified)
        .and_then(|v| date::parse(v, times.received))
    {
        Some(changed) => {
            let tenth = times.date_s.saturating_sub(changed) / 10;
            origins(tenth.min(HEURISTIC_MOST_S) as u32, true)
        }
        // Fresh for no time, but it may be asked about with an entity tag.
        None if head.index.present.has(FieldId::ETag)
            || said.no_cache != super::cache_control::Scope::None =>
        {
            origins(0, true)
        }
        None => Err(Why::NoLifetime),
    }
}
