//! One slice: from the store, by another's fetch, or by one of ours.

use std::sync::Arc;
use std::task::Poll;

use narthex_cache::policy::{self, Choice, Slice};
use narthex_cache::store::{Fill, Lead, Outcome};
use narthex_cache::{Found, Object, Why};
use narthex_net::rt;

use super::Wanted;
use crate::cache::Shown;
use crate::cache::lookup::speaks_of;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::runtime::millis;

/// Fetches that are followed for one slice of one request.
const ROUNDS: u32 = 4;

/// A slice, complete or filling.
pub(super) struct Got {
    pub(super) object: Arc<Object>,
    pub(super) age_s: u32,
    pub(super) shown: Shown,
    /// The origin gave it, or said that it is good, while this request waited.
    pub(super) is_new: bool,
}

impl Got {
    fn stored(object: Arc<Object>, age_s: u32, shown: Shown) -> Self {
        Self {
            object,
            age_s,
            shown,
            is_new: false,
        }
    }

    fn new(object: Arc<Object>, now: u64, shown: impl FnOnce(i64) -> Shown) -> Self {
        let meta = object.meta();
        Self {
            age_s: policy::age_s(&meta, now),
            shown: shown(policy::ttl_s(&meta, now)),
            object,
            is_new: true,
        }
    }
}

/// Why a slice is not there.
pub(super) enum Lacks {
    /// The origin's answer is not kept.
    Refused(Why),
    /// There was none.
    Failed,
    /// `only-if-cached`.
    NotCached,
    /// The answer ends with this: the client is gone, or the origin has something else by now.
    Ends(Failure),
}

/// A fetch that is under way.
pub(super) struct Under {
    fill: Arc<Fill>,
    /// It was begun for this request.
    is_ours: bool,
    /// The disk is asked first: what it gives may be stale.
    on_disk: bool,
    why: Why,
    /// What it asks about, and whether that was purged softly.
    stale: Option<(Arc<Object>, bool)>,
}

/// How far a slice is.
pub(super) enum Step {
    Here(Got),
    Under(Under),
    Not(Lacks),
}

impl Exchange<'_> {
    /// Obtains a slice: its head is there then. `begun`: it was looked for before.
    pub(super) async fn slice(
        &mut self,
        wanted: &Wanted,
        slice: Slice,
        begun: Option<Step>,
    ) -> Result<Got, Lacks> {
        let mut step = match begun {
            Some(step) => step,
            None => self.look_for_slice(wanted, slice, false),
        };
        for _ in 0..ROUNDS {
            let under = match step {
                Step::Here(got) => return Ok(got),
                Step::Not(lacks) => return Err(lacks),
                Step::Under(under) => under,
            };
            let outcome = self.wait_for_slice(wanted, &under).await?;
            let now = rt::wall_ms();
            match outcome {
                None => return Err(Lacks::Refused(Why::LockWait)),
                Some(Outcome::Object(_) | Outcome::Failed) if under.on_disk => {}
                Some(Outcome::Object(object)) if under.is_ours => {
                    let is_same =
                        |(stale, _): &(Arc<Object>, bool)| Arc::ptr_eq(&stale.body, &object.body);
                    let is_good_again = under.stale.as_ref().is_some_and(is_same);
                    let status = object.meta().status;
                    return Ok(Got::new(object, now, |ttl_s| {
                        if is_good_again {
                            Shown::Revalidated { ttl_s }
                        } else {
                            Shown::Forwarded {
                                why: under.why,
                                status,
                                stored: Ok(()),
                            }
                        }
                    }));
                }
                // Of another variant it is looked for anew.
                Some(Outcome::Object(object)) if object.vary().is_empty() => {
                    return Ok(Got::new(object, now, |ttl_s| Shown::Collapsed { ttl_s }));
                }
                Some(Outcome::Refused(why)) if under.is_ours || speaks_of(why, &wanted.asked) => {
                    return Err(Lacks::Refused(why));
                }
                Some(Outcome::Failed) => {
                    if let Some(got) = self.slice_stands_in(wanted, under.stale, now) {
                        return Ok(got);
                    }
                    if under.is_ours {
                        return Err(Lacks::Failed);
                    }
                }
                Some(_) => {}
            }
            step = self.look_for_slice(wanted, slice, !under.on_disk);
        }
        Err(Lacks::Refused(Why::LockWait))
    }

    /// Looks what is there of a slice, and begins to fetch it if that will not do. `waited`: for another's fetch, before.
    pub(super) fn look_for_slice(&self, wanted: &Wanted, slice: Slice, waited: bool) -> Step {
        let now = rt::wall_ms();
        let only = wanted.asked.only_if_cached && !wanted.promised;
        let found = self.with_slice(slice, |store, key, variant| store.find(key, variant, now));
        let (stale, why) = match found {
            Found::Ready { object, soft } => {
                let meta = object.meta();
                let ttl_s = policy::ttl_s(&meta, now);
                match policy::choose(&meta, &wanted.asked, soft, now) {
                    Choice::Fresh { age_s } if waited => {
                        return Step::Here(Got::stored(object, age_s, Shown::Collapsed { ttl_s }));
                    }
                    Choice::Fresh { age_s } => {
                        return Step::Here(Got::stored(object, age_s, Shown::Hit { ttl_s }));
                    }
                    Choice::Stale { age_s, revalidate } => {
                        if revalidate {
                            let stale = Some((Arc::clone(&object), soft));
                            self.lead_slice(wanted, slice, Some(&object), stale, Why::Stale);
                        }
                        return Step::Here(Got::stored(object, age_s, Shown::Stale { ttl_s }));
                    }
                    Choice::Ask(_) if only => return Step::Not(Lacks::NotCached),
                    // The origin is giving it at this moment.
                    Choice::Ask(_) if !object.body.is_complete() => {
                        return Step::Here(Got::new(object, now, |ttl_s| Shown::Collapsed {
                            ttl_s,
                        }));
                    }
                    Choice::Ask(why) => (Some((object, soft)), why),
                }
            }
            _ if only => return Step::Not(Lacks::NotCached),
            Found::Filling(fill) => {
                return Step::Under(Under {
                    fill,
                    is_ours: false,
                    // it may be a stale one that another brings from there
                    on_disk: self.with_slice(slice, |store, key, _| store.on_disk(key)),
                    why: Why::Miss,
                    stale: None,
                });
            }
            // What was promised is asked for all the same.
            Found::HitForMiss(why) if !wanted.promised && speaks_of(why, &wanted.asked) => {
                return Step::Not(Lacks::Refused(why));
            }
            Found::HitForMiss(_) => (None, Why::HitForMiss),
            Found::Missing { vary: true } => (None, Why::VaryMiss),
            Found::Missing { vary: false } => (None, Why::Miss),
        };
        let seen = stale.as_ref().map(|(object, _)| Arc::clone(object));
        self.lead_slice(wanted, slice, seen.as_ref(), stale, why)
    }

    /// Fetches a slice, unless another does or something else is there than what was `seen`.
    fn lead_slice(
        &self,
        wanted: &Wanted,
        slice: Slice,
        seen: Option<&Arc<Object>>,
        stale: Option<(Arc<Object>, bool)>,
        why: Why,
    ) -> Step {
        let now = rt::wall_ms();
        let age = self
            .cache_rule()
            .map(|rule| rule.lock_age)
            .unwrap_or_default();
        let led: Result<Lead, Arc<Fill>> = self.with_slice(slice, |store, key, variant| {
            store.lead_after(key, variant, now, age, seen)
        });
        let on_disk = stale.is_none() && self.with_slice(slice, |store, key, _| store.on_disk(key));
        let (fill, is_ours) = match led {
            Err(fill) => (fill, false),
            Ok(lead) => {
                let fill = lead.fill();
                let asks = stale.clone();
                if !self.fetch_slice(wanted.upstream, slice, lead, asks, why) {
                    return Step::Not(Lacks::Failed);
                }
                (fill, true)
            }
        };
        Step::Under(Under {
            fill,
            is_ours,
            on_disk,
            why,
            stale,
        })
    }

    /// Waits for the head of a slice; none: not any longer.
    async fn wait_for_slice(
        &self,
        wanted: &Wanted,
        under: &Under,
    ) -> Result<Option<Outcome>, Lacks> {
        // Our own takes as long as the origin may take.
        let deadline = match self.cache_rule() {
            Some(rule) if under.on_disk || (!wanted.promised && !under.is_ours) => {
                rt::now_ms().saturating_add(millis(rule.lock_wait)).max(1)
            }
            _ => 0,
        };
        std::future::poll_fn(|cx| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Lacks::Ends(Failure::ClientGone)));
            }
            if let Poll::Ready(outcome) = under.fill.poll(cx) {
                return Poll::Ready(Ok(Some(outcome)));
            }
            if deadline == 0 {
                return Poll::Pending;
            }
            rt::poll_deadline(deadline).map(|()| Ok(None))
        })
        .await
    }

    /// The origin failed: what is stale, if it may be served then.
    fn slice_stands_in(
        &self,
        wanted: &Wanted,
        stale: Option<(Arc<Object>, bool)>,
        now: u64,
    ) -> Option<Got> {
        let (object, false) = stale? else {
            return None;
        };
        let (meta, profile) = (object.meta(), self.cache_rule()?.profile);
        let failed = policy::Failed::Silent;
        let age_s = policy::serves_on_error(&meta, &wanted.asked, failed, profile, now)?;
        let ttl_s = policy::ttl_s(&meta, now);
        Some(Got::stored(object, age_s, Shown::StaleOnError { ttl_s }))
    }
}
