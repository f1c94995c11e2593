//! What is there for a request, and who asks the origin if it is not enough.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use narthex_cache::policy::{self, Choice, Slice};
use narthex_cache::store::{Fill, Lead, Outcome};
use narthex_cache::{Found, Object, Why};
use narthex_config::model::{CacheProfile, CacheRule};
use narthex_message::{Body, Method, RequestFacts};
use narthex_net::rt;

use super::answered::room;
use super::coded::Suits;
use super::{Caching, Shown};
use crate::connection::Next;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::runtime::millis;

/// Looks at the store at most so often for one request: then it goes to the origin by itself.
const ROUNDS: u32 = 4;

/// What a request has been through.
struct Search {
    upstream: usize,
    asked: policy::Asked,
    /// Why the origin is asked, as far as is known.
    why: Why,
    /// It has waited for a fetch.
    waited: bool,
    /// The fetch was made for it.
    ours: bool,
    /// It is to be waited for.
    fill: Option<Arc<Fill>>,
    /// What it asked about.
    doubted: Option<Arc<Object>>,
    /// A HEAD that goes to the origin is about this object.
    head_of: Option<Arc<Object>>,
    /// What is on disk: not asked yet, asked in vain, or in memory now.
    disk: OnDisk,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OnDisk {
    Unasked,
    Asked,
    Loaded,
}

impl Search {
    /// The origin was asked about it, and this has led to nothing else.
    fn is_doubted(&self, object: &Arc<Object>) -> bool {
        let doubted = self.doubted.as_ref();
        doubted.is_some_and(|doubted| Arc::ptr_eq(doubted, object))
    }
}

/// What is to be done now.
enum Step {
    /// Answer from this object.
    Answer(Arc<Object>, u32, Shown),
    /// Say that it is not cached.
    NotCached,
    /// Ask the origin, for all who want the same.
    Lead(Lead, Option<(Arc<Object>, bool)>),
    /// Wait for another's fetch.
    Follow(Arc<Fill>),
    /// Ask the disk, for all who want the same.
    Load(Lead),
    /// Ask the origin, whatever others do.
    Alone,
}

/// What came of waiting for another's fetch.
enum Followed {
    /// Something is there now.
    Look,
    /// It is for each to fetch.
    Alone(Why),
}

impl Exchange<'_> {
    pub(super) fn cache_rule(&self) -> Option<&CacheRule> {
        self.route_config()?.settings.cache.as_deref()
    }

    /// A request of a route with a cache.
    pub(crate) async fn cached(&mut self, upstream: usize) -> Next {
        let Some(facts) = self.facts else {
            return Next::Close;
        };
        let asked = match policy::asks(self.head(), &facts) {
            Ok(asked) => asked,
            Err(why) => {
                // An answer to a POST may be kept, too, and is asked for as for a GET.
                let as_get = RequestFacts {
                    method: Method::Get,
                    body: Body::None,
                    ..facts
                };
                let asked = policy::asks(self.head(), &as_get).ok();
                let mut caching = Caching::passing(asked.unwrap_or_default(), why);
                caching.by_post = asked.is_some() && facts.method == Method::Post;
                return self.fetch(upstream, caching).await;
            }
        };
        self.make_key(upstream);
        // what is purged in the process that has taken over is not purged here
        let is_elsewhere = self.proxy.shared.has_handed_over_cache();
        if self.bypasses_cache() || self.has_unkeyed() || is_elsewhere {
            return self
                .fetch(upstream, Caching::passing(asked, Why::Bypass))
                .await;
        }
        if let Some(size) = self.cache_rule().and_then(|rule| rule.slice) {
            // Boxed: a request of another route does not carry its state.
            let sliced = Box::pin(self.answer_sliced(upstream, asked, size)).await;
            if let Some(next) = sliced {
                return next;
            }
        }
        let mut search = Search {
            upstream,
            asked,
            why: Why::Miss,
            waited: false,
            ours: false,
            fill: None,
            doubted: None,
            head_of: None,
            disk: OnDisk::Unasked,
        };
        for _ in 0..ROUNDS {
            let mut step = self.look(&mut search);
            if let Step::Load(lead) = step {
                // Boxed: a request that does not wait for the disk does not carry its state.
                step = match Box::pin(self.load(lead, &mut search)).await {
                    Ok(Some(step)) => step,
                    Ok(None) => continue,
                    Err(failure) => return self.fail(failure).await,
                };
            }
            match step {
                Step::Answer(object, age_s, shown) => {
                    return self
                        .answer_stored(&object, &search.asked, age_s, shown)
                        .await;
                }
                Step::NotCached => return self.answer_not_cached().await,
                Step::Lead(lead, stale) if self.needs_help(&search.asked) => {
                    let fill = lead.fill();
                    search.doubted = stale.as_ref().map(|(object, _)| Arc::clone(object));
                    if search.ours || !self.fetch_behind(upstream, lead, stale, search.why) {
                        break;
                    }
                    (search.ours, search.waited) = (true, true);
                    // What is stale is there meanwhile, and would be found.
                    search.fill = Some(fill);
                }
                Step::Lead(lead, stale) => {
                    let mut caching = Caching::passing(search.asked, search.why);
                    caching.lead = Some(lead).into();
                    caching.stale = stale;
                    return self.fetch(upstream, caching).await;
                }
                Step::Follow(fill) => match self.follow(&fill, &search.asked).await {
                    Ok(Followed::Look) => search.waited = true,
                    Ok(Followed::Alone(why)) => {
                        search.why = why;
                        break;
                    }
                    Err(failure) => return self.fail(failure).await,
                },
                Step::Load(_) | Step::Alone => break,
            }
        }
        let mut caching = Caching::passing(search.asked, search.why);
        if facts.method == Method::Get
            && (!self.needs_help(&search.asked) || self.keeps_parts(&search.asked))
        {
            // Nobody waits for it; what comes may be stored all the same.
            let now = rt::wall_ms();
            let lead = self.with_key(|store, key, _| store.alone(key, now));
            caching.lead = Some(lead).into();
        } else if let Some(object) = search.head_of {
            let now = rt::wall_ms();
            let lead = self.with_key(|store, key, _| store.alone(key, now));
            caching.lead = Some(lead).into();
            caching.head_of = Some(object);
        }
        self.fetch(upstream, caching).await
    }

    /// Looks at what is there.
    fn look(&mut self, search: &mut Search) -> Step {
        if let Some(fill) = search.fill.take() {
            return Step::Follow(fill);
        }
        let now = rt::wall_ms();
        let found = self.with_key(|store, key, variant| store.find(key, variant, now));
        let only = search.asked.only_if_cached;
        if matches!(found, Found::Missing { .. })
            && let Some(step) = self.look_on_disk(search)
        {
            return step;
        }
        match found {
            Found::Ready { object, soft } => self.choose_stored(search, object, soft, now),
            Found::Filling(_) if only => Step::NotCached,
            Found::Filling(fill) => Step::Follow(fill),
            Found::HitForMiss(_) | Found::Missing { .. } if only => Step::NotCached,
            Found::HitForMiss(why) if !speaks_of(why, &search.asked) => self.miss(search, false),
            Found::HitForMiss(_) => {
                search.why = Why::HitForMiss;
                Step::Alone
            }
            Found::Missing { vary } => self.miss(search, vary),
        }
    }

    /// Nothing is in memory: is it on disk?
    fn look_on_disk(&self, search: &mut Search) -> Option<Step> {
        let is_unasked = search.disk == OnDisk::Unasked;
        if !is_unasked || !self.with_key(|store, key, _| store.on_disk(key)) {
            return None;
        }
        search.disk = OnDisk::Asked;
        Some(match self.lead(None) {
            Ok(lead) => Step::Load(lead),
            Err(_) if search.asked.only_if_cached => Step::NotCached,
            Err(fill) => Step::Follow(fill),
        })
    }

    /// Waits for the disk. None: look again.
    async fn load(&self, lead: Lead, search: &mut Search) -> Result<Option<Step>, Failure> {
        search.why = Why::Miss;
        let asked = &search.asked;
        let needs_none = asked.head || asked.no_store || self.keeps_parts(asked);
        Ok(match self.bring_from_disk(lead, None).await? {
            Ok(()) => {
                search.disk = OnDisk::Loaded;
                None
            }
            Err(_) if asked.only_if_cached => Some(Step::NotCached),
            // what may not be kept for others is not fetched for them
            Err(_) if needs_none => Some(Step::Alone),
            Err(Some(lead)) => Some(Step::Lead(lead, None)),
            Err(None) => {
                search.why = Why::LockWait;
                Some(Step::Alone)
            }
        })
    }

    /// Brings what is on disk into memory, of a request or of a slice for it. The error: what was asked for is not there, and the fetch
    /// is for the origin; or the disk takes too long, and this request goes on by itself.
    pub(super) async fn bring_from_disk(
        &self,
        lead: Lead,
        slice: Option<Slice>,
    ) -> Result<Result<(), Option<Lead>>, Failure> {
        let Some(rule) = self.cache_rule() else {
            return Ok(Err(Some(lead)));
        };
        let loading = match self.with_key(|store, _, _| store.load(lead, room(rule))) {
            Ok(loading) => loading,
            Err(lead) => return Ok(Err(Some(lead))),
        };
        let wait = millis(rule.lock_wait);
        let deadline = rt::now_ms().saturating_add(wait).max(1);
        std::future::poll_fn(|cx| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            let polled = match slice {
                Some(slice) => self.with_slice(slice, |_, _, variant| loading.poll(variant, cx)),
                None => self.with_key(|_, _, variant| loading.poll(variant, cx)),
            };
            if let Poll::Ready(lead) = polled {
                return Poll::Ready(Ok(lead.map_or(Ok(()), |lead| Err(Some(lead)))));
            }
            rt::poll_deadline(deadline).map(|()| Ok(Err(None)))
        })
        .await
    }

    /// Nothing is there.
    fn miss(&mut self, search: &mut Search, vary: bool) -> Step {
        search.why = if vary { Why::VaryMiss } else { Why::Miss };
        let asked = &search.asked;
        // What may not be kept for others is not fetched for them: they would wait in vain.
        if asked.head || asked.no_store || self.keeps_parts(asked) {
            return Step::Alone;
        }
        match self.lead(None) {
            Ok(lead) => Step::Lead(lead, None),
            Err(fill) => Step::Follow(fill),
        }
    }

    /// An object is there: is it good enough?
    fn choose_stored(
        &mut self,
        search: &mut Search,
        object: Arc<Object>,
        soft: bool,
        now: u64,
    ) -> Step {
        if self.suits(&object) == Suits::Not {
            search.why = Why::VaryMiss;
            return if search.asked.only_if_cached {
                Step::NotCached
            } else {
                Step::Alone
            };
        }
        let meta = object.meta();
        if meta.part.is_some() && !self.has_part(&object, &search.asked) {
            search.why = Why::Part;
            return if search.asked.only_if_cached {
                Step::NotCached
            } else {
                Step::Alone
            };
        }
        let ttl_s = policy::ttl_s(&meta, now);
        match policy::choose(&meta, &search.asked, soft, now) {
            Choice::Fresh { age_s } => {
                let shown = if search.ours {
                    fetched(search.why, &object)
                } else if search.waited {
                    Shown::Collapsed { ttl_s }
                } else if search.disk == OnDisk::Loaded {
                    Shown::Disk { ttl_s }
                } else {
                    Shown::Hit { ttl_s }
                };
                Step::Answer(object, age_s, shown)
            }
            Choice::Stale { age_s, revalidate } => {
                if revalidate && !search.asked.head {
                    self.revalidate_behind(search.upstream, &object, soft);
                }
                Step::Answer(object, age_s, Shown::Stale { ttl_s })
            }
            // The fetch on our behalf has failed.
            Choice::Ask(_) if search.is_doubted(&object) => {
                let profile = self.cache_rule().map(|r| r.profile).unwrap_or_default();
                let failed = policy::Failed::Silent;
                match policy::serves_on_error(&meta, &search.asked, failed, profile, now) {
                    Some(age_s) if !soft => {
                        Step::Answer(object, age_s, Shown::StaleOnError { ttl_s })
                    }
                    _ => Step::Alone,
                }
            }
            // What was fetched on our behalf answers us, whatever it says of others.
            Choice::Ask(_) if search.ours => {
                let age_s = policy::age_s(&meta, now);
                let shown = fetched(search.why, &object);
                Step::Answer(object, age_s, shown)
            }
            Choice::Ask(_) if search.asked.only_if_cached => Step::NotCached,
            Choice::Ask(why) => {
                search.why = why;
                // The origin gets the HEAD; what it says tells of the object.
                if search.asked.head {
                    let tells = object.body.is_complete() && !self.needs_decoding();
                    search.head_of = tells.then_some(object);
                    return Step::Alone;
                }
                if search.waited || search.asked.no_store || !object.body.is_complete() {
                    return Step::Alone;
                }
                match self.lead(Some(&object)) {
                    Ok(lead) => Step::Lead(lead, Some((object, soft))),
                    Err(fill) => Step::Follow(fill),
                }
            }
        }
    }

    /// Has a stored part what is asked for?
    fn has_part(&self, object: &Object, asked: &policy::Asked) -> bool {
        asked.range && policy::part_ranges(self.head(), &object.meta(), object.head()).is_some()
    }

    /// An answer to this request as it is may not be what is to be stored.
    fn needs_help(&self, asked: &policy::Asked) -> bool {
        asked.range || asked.conditional || asked.head || self.needs_decoding()
    }

    /// The part that is asked for is asked of the origin, and kept as a part.
    fn keeps_parts(&self, asked: &policy::Asked) -> bool {
        let Some(rule) = self.cache_rule() else {
            return false;
        };
        let keeps = rule.profile == CacheProfile::Rfc9111 && !rule.store_compressed;
        asked.range && !asked.conditional && keeps
    }

    /// Becomes the one that fetches, unless somebody has put something else there than what was `seen`.
    pub(super) fn lead(&self, seen: Option<&Arc<Object>>) -> Result<Lead, Arc<Fill>> {
        let age = self.cache_rule().map_or(Duration::ZERO, |r| r.lock_age);
        let now = rt::wall_ms();
        self.with_key(|store, key, variant| store.lead_after(key, variant, now, age, seen))
    }

    /// Waits for another's fetch: for its head.
    async fn follow(&self, fill: &Fill, asked: &policy::Asked) -> Result<Followed, Failure> {
        let wait = self.cache_rule().map_or(0, |r| millis(r.lock_wait));
        let deadline = rt::now_ms().saturating_add(wait).max(1);
        std::future::poll_fn(|cx| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if let Poll::Ready(outcome) = fill.poll(cx) {
                return Poll::Ready(Ok(match outcome {
                    Outcome::Object(_) | Outcome::Failed => Followed::Look,
                    Outcome::Refused(why) if !speaks_of(why, asked) => Followed::Look,
                    Outcome::Refused(why) => Followed::Alone(why),
                }));
            }
            rt::poll_deadline(deadline).map(|()| Ok(Followed::Alone(Why::LockWait)))
        })
        .await
    }

    fn bypasses_cache(&self) -> bool {
        let (Some(site), Some(route)) = (self.site, self.route) else {
            return true;
        };
        self.cache_rule().is_some_and(|r| !r.bypass.is_empty())
            && self.with_query(|router, query| router.bypasses_cache(site, route, query))
    }
}

/// Does an answer that was refused for this reason say anything of this request's answer? Another client's `Authorization` does
/// not: one who sends a wrong one would keep everybody from the cache.
pub(super) fn speaks_of(why: Why, asked: &policy::Asked) -> bool {
    match why {
        Why::Authorization => asked.authorization,
        Why::RequestNoStore => asked.no_store,
        _ => true,
    }
}

/// Asked of the origin for this client, by an exchange of its own.
fn fetched(why: Why, object: &Object) -> Shown {
    Shown::Forwarded {
        why,
        status: object.meta().status,
        stored: Ok(()),
    }
}
