//! Fresh, stale but good enough, or to be asked for (RFC 9111 4.2, 5.2.1; RFC 5861).

use narthex_config::model::CacheProfile;

use super::{Asked, Choice, FOREVER_S, Meta, Why};

/// Its age (RFC 9111 4.2.3), at most [`FOREVER_S`].
pub fn age_s(meta: &Meta, now_ms: u64) -> u32 {
    let resident = now_ms.saturating_sub(meta.received_ms) / 1000;
    u64::from(meta.initial_age_s)
        .saturating_add(resident)
        .min(u64::from(FOREVER_S)) as u32
}

/// How many seconds it will be fresh; negative: has been stale.
pub fn ttl_s(meta: &Meta, now_ms: u64) -> i64 {
    i64::from(meta.lifetime_s) - i64::from(age_s(meta, now_ms))
}

/// What to do with an object that was found. `soft`: it was purged softly.
#[inline]
pub fn choose(meta: &Meta, asked: &Asked, soft: bool, now_ms: u64) -> Choice {
    let age = age_s(meta, now_ms);
    if meta.no_cache {
        return Choice::Ask(Why::NoCache);
    }
    if asked.no_cache {
        return Choice::Ask(Why::RequestNoCache);
    }
    // `max-age=0` is a reload: it means the origin, also in the second in which the answer came.
    if asked.max_age.is_some_and(|most| age > most || most == 0) {
        return Choice::Ask(if age < meta.lifetime_s && !soft {
            Why::RequestAge
        } else {
            Why::Stale
        });
    }
    if age < meta.lifetime_s && !soft {
        return match asked.min_fresh {
            Some(least) if meta.lifetime_s - age < least => Choice::Ask(Why::RequestAge),
            _ => Choice::Fresh { age_s: age },
        };
    }
    let why = if soft { Why::Purged } else { Why::Stale };
    if meta.must_revalidate || asked.min_fresh.is_some() {
        return Choice::Ask(why);
    }
    let excess = age.saturating_sub(meta.lifetime_s);
    if excess < meta.while_revalidate_s {
        return Choice::Stale {
            age_s: age,
            revalidate: true,
        };
    }
    // A client's patience does not undo a purge.
    match asked.max_stale {
        Some(most) if excess <= most && !soft => Choice::Stale {
            age_s: age,
            revalidate: false,
        },
        _ => Choice::Ask(why),
    }
}

/// How an origin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It said so, with this status.
    Said(u16),
    /// It could not be reached, or what it said is no answer.
    Silent,
}

/// In the profile that allows everything, an origin that cannot be reached is reason enough to serve what has been stale for so long
/// at most: the cache is disconnected (RFC 9111 4.2.4, which sets no bound).
const DISCONNECTED_S: u32 = 86_400;

/// May a stale object be served because the origin failed (RFC 5861 4)? Its age, if so.
pub fn serves_on_error(
    meta: &Meta,
    asked: &Asked,
    failed: Failed,
    profile: CacheProfile,
    now_ms: u64,
) -> Option<u32> {
    if !matches!(failed, Failed::Silent | Failed::Said(500 | 502 | 503 | 504))
        || meta.must_revalidate
        || meta.no_cache
        || asked.no_cache
    {
        return None;
    }
    let age = age_s(meta, now_ms);
    let excess = age.saturating_sub(meta.lifetime_s);
    let disconnected = match (failed, profile) {
        (Failed::Silent, CacheProfile::Rfc9111) => DISCONNECTED_S,
        _ => 0,
    };
    let said = meta.if_error_s.max(asked.stale_if_error.unwrap_or(0));
    let window = said.max(disconnected);
    let patience = asked.max_stale.is_some_and(|most| excess <= most);
    ((window > 0 && excess <= window) || patience).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::meta;
    use proptest::prelude::*;

    const T: u64 = 1_700_000_000_000;

    fn at(lifetime: u32, change: impl FnOnce(&mut Meta, &mut Asked), seconds: u64) -> Choice {
        let mut m = Meta {
            lifetime_s: lifetime,
            received_ms: T,
            ..meta()
        };
        let mut a = Asked::default();
        change(&mut m, &mut a);
        choose(&m, &a, false, T + seconds * 1000)
    }

    #[test]
    fn by_age() {
        assert_eq!(at(10, |_, _| {}, 0), Choice::Fresh { age_s: 0 });
        assert_eq!(at(10, |_, _| {}, 9), Choice::Fresh { age_s: 9 });
        assert_eq!(at(10, |_, _| {}, 10), Choice::Ask(Why::Stale));
        assert_eq!(
            at(10, |m, _| m.initial_age_s = 5, 4),
            Choice::Fresh { age_s: 9 }
        );
        assert_eq!(
            at(10, |m, _| m.initial_age_s = 5, 5),
            Choice::Ask(Why::Stale)
        );
        assert_eq!(
            at(FOREVER_S, |m, _| m.initial_age_s = FOREVER_S, 5),
            Choice::Ask(Why::Stale)
        );
        // A clock that went backwards makes nothing older.
        assert_eq!(
            choose(
                &Meta {
                    lifetime_s: 1,
                    received_ms: T,
                    ..meta()
                },
                &Asked::default(),
                false,
                0
            ),
            Choice::Fresh { age_s: 0 }
        );
    }

    #[test]
    fn by_request() {
        let ask = |line: &'static str, seconds| {
            at(
                1500,
                |_, a| super::super::cache_control::of_request(std::iter::once(line.as_bytes()), a),
                seconds,
            )
        };
        for (line, seconds, want) in [
            ("no-cache", 0, Choice::Ask(Why::RequestNoCache)),
            ("max-age=0", 0, Choice::Ask(Why::RequestAge)),
            ("max-age=600", 600, Choice::Fresh { age_s: 600 }),
            ("max-age=600", 601, Choice::Ask(Why::RequestAge)),
            ("min-fresh=1500", 0, Choice::Fresh { age_s: 0 }),
            ("min-fresh=1501", 0, Choice::Ask(Why::RequestAge)),
            ("min-fresh=1000", 1000, Choice::Ask(Why::RequestAge)),
            (
                "max-stale=1000",
                2500,
                Choice::Stale {
                    age_s: 2500,
                    revalidate: false,
                },
            ),
            ("max-stale=1000", 2501, Choice::Ask(Why::Stale)),
            (
                "max-stale",
                99_999,
                Choice::Stale {
                    age_s: 99_999,
                    revalidate: false,
                },
            ),
            ("max-stale, max-age=2000", 2001, Choice::Ask(Why::Stale)),
            ("max-stale, min-fresh=1", 1500, Choice::Ask(Why::Stale)),
            // What is stored may be used (RFC 9111 5.2.1.5).
            ("no-store", 0, Choice::Fresh { age_s: 0 }),
        ] {
            assert_eq!(ask(line, seconds), want, "{line} after {seconds}");
        }
        for forbid in [
            |m: &mut Meta| m.must_revalidate = true,
            |m: &mut Meta| m.no_cache = true,
        ] {
            assert!(matches!(
                at(
                    10,
                    |m, a| {
                        forbid(m);
                        a.max_stale = Some(FOREVER_S);
                        m.while_revalidate_s = FOREVER_S;
                    },
                    11
                ),
                Choice::Ask(_)
            ));
        }
    }

    #[test]
    fn while_revalidating() {
        let swr = |seconds| at(10, |m, _| m.while_revalidate_s = 5, seconds);
        assert_eq!(
            swr(10),
            Choice::Stale {
                age_s: 10,
                revalidate: true
            }
        );
        assert_eq!(
            swr(14),
            Choice::Stale {
                age_s: 14,
                revalidate: true
            }
        );
        assert_eq!(swr(15), Choice::Ask(Why::Stale));
        let m = Meta {
            lifetime_s: 10,
            received_ms: T,
            ..meta()
        };
        let soft = |m: &Meta, a: &Asked| choose(m, a, true, T);
        assert_eq!(soft(&m, &Asked::default()), Choice::Ask(Why::Purged));
        assert_eq!(
            soft(
                &m,
                &Asked {
                    max_stale: Some(FOREVER_S),
                    ..Asked::default()
                }
            ),
            Choice::Ask(Why::Purged)
        );
        assert_eq!(
            soft(
                &Meta {
                    while_revalidate_s: 1,
                    ..m
                },
                &Asked::default()
            ),
            Choice::Stale {
                age_s: 0,
                revalidate: true
            }
        );
    }

    #[test]
    fn disconnected() {
        let m = Meta {
            lifetime_s: 10,
            received_ms: T,
            ..meta()
        };
        let a = Asked::default();
        let on = |m: &Meta, failed, profile, s: u64| {
            serves_on_error(m, &a, failed, profile, T + s * 1000)
        };
        let (all, safe) = (CacheProfile::Rfc9111, CacheProfile::Safe);
        let last = u64::from(10 + DISCONNECTED_S);
        assert_eq!(on(&m, Failed::Silent, all, 11), Some(11));
        assert_eq!(on(&m, Failed::Silent, all, last), Some(last as u32));
        assert_eq!(on(&m, Failed::Silent, all, last + 1), None);
        assert_eq!(on(&m, Failed::Said(503), all, 11), None);
        assert_eq!(on(&m, Failed::Silent, safe, 11), None);
        let strict = Meta {
            must_revalidate: true,
            ..m
        };
        assert_eq!(on(&strict, Failed::Silent, all, 11), None);
        let no_cache = Meta {
            no_cache: true,
            ..m
        };
        assert_eq!(on(&no_cache, Failed::Silent, all, 11), None);
    }

    #[test]
    fn on_error() {
        let m = Meta {
            lifetime_s: 10,
            if_error_s: 60,
            received_ms: T,
            ..meta()
        };
        let a = Asked::default();
        let on = |m: &Meta, a: &Asked, failed, s: u64| {
            serves_on_error(m, a, failed, CacheProfile::Safe, T + s * 1000)
        };
        let said = [500, 502, 503, 504].map(Failed::Said);
        for status in said.into_iter().chain([Failed::Silent]) {
            assert_eq!(on(&m, &a, status, 70), Some(70));
            assert_eq!(on(&m, &a, status, 71), None);
        }
        for status in [200, 304, 404, 429, 501, 599] {
            assert_eq!(on(&m, &a, Failed::Said(status), 11), None, "{status}");
        }
        assert_eq!(
            on(&Meta { if_error_s: 0, ..m }, &a, Failed::Silent, 10),
            None
        );
        assert_eq!(
            on(
                &Meta { if_error_s: 0, ..m },
                &Asked {
                    stale_if_error: Some(5),
                    ..a
                },
                Failed::Silent,
                15
            ),
            Some(15)
        );
        assert_eq!(
            on(
                &Meta { if_error_s: 0, ..m },
                &Asked {
                    max_stale: Some(5),
                    ..a
                },
                Failed::Silent,
                15
            ),
            Some(15)
        );
        assert_eq!(
            on(
                &Meta {
                    must_revalidate: true,
                    ..m
                },
                &a,
                Failed::Silent,
                11
            ),
            None
        );
        assert_eq!(
            on(
                &Meta {
                    no_cache: true,
                    ..m
                },
                &a,
                Failed::Silent,
                1
            ),
            None
        );
        assert_eq!(
            on(
                &m,
                &Asked {
                    no_cache: true,
                    ..a
                },
                Failed::Silent,
                11
            ),
            None
        );
    }

    proptest! {
        /// Against the definitions, one by one.
        #[test]
        fn agrees_with_the_definitions(
            lifetime in 0u32..30, initial in 0u32..30, swr in 0u32..10, seconds in 0u64..60,
            must in any::<bool>(), soft in any::<bool>(),
            max_age in proptest::option::of(0u32..30), min_fresh in proptest::option::of(0u32..30), max_stale in proptest::option::of(0u32..30),
        ) {
            let m = Meta { lifetime_s: lifetime, initial_age_s: initial, while_revalidate_s: swr, must_revalidate: must, received_ms: T, ..meta() };
            let a = Asked { max_age, min_fresh, max_stale, ..Asked::default() };
            let age = initial + seconds as u32;
            let young = max_age.is_none_or(|most| most > 0 && age <= most);
            let fresh = lifetime > age && !soft && young && min_fresh.is_none_or(|least| lifetime >= age + least);
            match choose(&m, &a, soft, T + seconds * 1000) {
                Choice::Fresh { age_s } => { prop_assert!(fresh); prop_assert_eq!(age_s, age); }
                Choice::Stale { revalidate, .. } => {
                    prop_assert!(!fresh && !must && young && min_fresh.is_none());
                    prop_assert_eq!(revalidate, age.saturating_sub(lifetime) < swr);
                    prop_assert!(revalidate || (!soft && max_stale.is_some_and(|most| age <= lifetime + most)));
                }
                Choice::Ask(_) => {
                    prop_assert!(!fresh);
                    let allowed = !must && young && min_fresh.is_none() && (soft || age >= lifetime)
                        && (age.saturating_sub(lifetime) < swr || (!soft && max_stale.is_some_and(|most| age <= lifetime + most)));
                    prop_assert!(!allowed);
                }
            }
        }
    }
}
