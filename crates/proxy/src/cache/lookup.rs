//! What is there for a request, and who asks the origin if it is not enough.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use narthex_cache::policy::{self, Choice};
use narthex_cache::store::{Fill, Key, Lead, Outcome};
use narthex_cache::{Found, Object, Why, key};
use narthex_config::model::CacheRule;
use narthex_message::Method;
use narthex_net::rt;

use super::{Caching, Shown};
use crate::connection::Next;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::runtime::millis;

/// Looks at the store at most so often for one request: then it goes to the origin by itself.
const ROUNDS: u32 = 4;

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
                let caching = Caching::passing(policy::Asked::default(), why);
                return self.fetch(upstream, caching).await;
            }
        };
        if self.bypasses_cache() {
            return self
                .fetch(upstream, Caching::passing(asked, Why::Bypass))
                .await;
        }
        self.make_key();
        let (mut why, mut waited, mut ours) = (Why::Miss, false, false);
        for _ in 0..ROUNDS {
            let now = rt::wall_ms();
            let found = self.with_key(|store, key, variant| store.find(key, variant, now));
            match found {
                Found::Ready { object, soft } => {
                    let choice = policy::choose(&object.meta, &asked, soft, now);
                    let ttl_s = ttl(&object, now);
                    match choice {
                        Choice::Fresh { age_s } => {
                            let shown = if ours {
                                fetched(why, &object)
                            } else if waited {
                                Shown::Collapsed { ttl_s }
                            } else {
                                Shown::Hit { ttl_s }
                            };
                            return self.answer_stored(&object, &asked, age_s, shown).await;
                        }
                        Choice::Stale { age_s, revalidate } => {
                            if revalidate {
                                self.revalidate_behind(upstream, &object, soft, asked);
                            }
                            let shown = Shown::Stale { ttl_s };
                            return self.answer_stored(&object, &asked, age_s, shown).await;
                        }
                        // What was fetched on our behalf answers us, whatever it says of others.
                        Choice::Ask(_) if ours => {
                            let age_s = age(&object, now);
                            let shown = fetched(why, &object);
                            return self.answer_stored(&object, &asked, age_s, shown).await;
                        }
                        Choice::Ask(reason) => {
                            why = reason;
                            if asked.only_if_cached {
                                return self.answer_not_cached().await;
                            }
                            if waited || !object.body.is_complete() {
                                break;
                            }
                            match self.lead() {
                                Ok(lead) => {
                                    if self.needs_help(&asked) {
                                        let stale = Some((object, soft));
                                        ours = self.fetch_behind(upstream, lead, stale, why);
                                        waited = ours;
                                        if ours {
                                            continue;
                                        }
                                        break;
                                    }
                                    let mut caching = Caching::passing(asked, why);
                                    caching.lead = Some(lead).into();
                                    caching.stale = Some((object, soft));
                                    return self.fetch(upstream, caching).await;
                                }
                                Err(fill) => match self.follow(&fill).await {
                                    Ok(Followed::Look) => waited = true,
                                    Ok(Followed::Alone(reason)) => {
                                        why = reason;
                                        break;
                                    }
                                    Err(failure) => return self.fail(failure).await,
                                },
                            }
                        }
                    }
                }
                Found::Filling(_) if asked.only_if_cached => return self.answer_not_cached().await,
                Found::Filling(fill) => match self.follow(&fill).await {
                    Ok(Followed::Look) => waited = true,
                    Ok(Followed::Alone(reason)) => {
                        why = reason;
                        break;
                    }
                    Err(failure) => return self.fail(failure).await,
                },
                Found::HitForMiss(_) | Found::Missing { .. } if asked.only_if_cached => {
                    return self.answer_not_cached().await;
                }
                Found::HitForMiss(_) => {
                    why = Why::HitForMiss;
                    break;
                }
                Found::Missing { vary } => {
                    why = if vary { Why::VaryMiss } else { Why::Miss };
                    if facts.method == Method::Head {
                        break;
                    }
                    match self.lead() {
                        Ok(lead) if self.needs_help(&asked) && !ours => {
                            ours = self.fetch_behind(upstream, lead, None, why);
                            if !ours {
                                break;
                            }
                        }
                        Ok(lead) => {
                            if self.needs_help(&asked) {
                                break;
                            }
                            let mut caching = Caching::passing(asked, why);
                            caching.lead = Some(lead).into();
                            return self.fetch(upstream, caching).await;
                        }
                        Err(fill) => match self.follow(&fill).await {
                            Ok(Followed::Look) => waited = true,
                            Ok(Followed::Alone(reason)) => {
                                why = reason;
                                break;
                            }
                            Err(failure) => return self.fail(failure).await,
                        },
                    }
                }
            }
        }
        // By itself; what comes may be stored all the same.
        let mut caching = Caching::passing(asked, why);
        if facts.method == Method::Get && !self.needs_help(&asked) {
            let lead = self.with_key(|store, key, _| store.alone(key));
            caching.lead = Some(lead).into();
        }
        self.fetch(upstream, caching).await
    }

    /// An answer to this request as it is may not be what is to be stored.
    fn needs_help(&self, asked: &policy::Asked) -> bool {
        asked.range || asked.conditional || asked.head
    }

    pub(super) fn lead(&mut self) -> Result<Lead, Arc<Fill>> {
        let age = self.cache_rule().map_or(Duration::ZERO, |r| r.lock_age);
        let now = rt::wall_ms();
        self.with_key(|store, key, variant| store.lead(key, variant, now, age))
    }

    /// Puts the key into `work.key`.
    fn make_key(&mut self) {
        let mut out = std::mem::take(&mut self.work.key);
        let parts = key::Parts {
            https: self.identity.https,
            host: self.host.of(&self.work),
            port: self.cache_port(),
            path: self.forwarded_path(),
            query: self.forwarded_query(),
            request: self.head(),
        };
        if let Some(rule) = self.cache_rule() {
            key::build(&parts, &rule.key, &mut out);
        }
        let host = self.proxy.shared.cache_hash(parts.host.as_bytes());
        self.work.key_hash = self.proxy.shared.cache_hash(&out);
        self.work.key_host = host;
        self.work.key = out;
    }

    /// The port that the client means: of the authority, else its scheme's own.
    fn cache_port(&self) -> u16 {
        let authority = self
            .facts
            .map_or(&[][..], |f| f.authority.of(&self.work.input));
        let own = if self.identity.https { 443 } else { 80 };
        authority
            .rsplit(|&b| b == b':')
            .next()
            .filter(|port| port.len() < authority.len())
            .and_then(narthex_message::validate::decimal)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(own)
    }

    fn forwarded_path(&self) -> &[u8] {
        match &self.target.path {
            Some(path) => path.as_bytes(),
            None => self.path.bytes(&self.work),
        }
    }

    fn forwarded_query(&self) -> Option<&[u8]> {
        match &self.target.query {
            Some(query) => query.as_deref(),
            None => self.query.map(|q| q.of(&self.work.input)),
        }
    }

    /// The store, the key, and what tells variants apart.
    pub(super) fn with_key<T>(
        &self,
        f: impl FnOnce(&Arc<narthex_cache::Store>, &Key<'_>, narthex_cache::store::Variant<'_>) -> T,
    ) -> T {
        let key = Key {
            bytes: &self.work.key,
            hash: self.work.key_hash,
            host: self.work.key_host,
            site: self.site.unwrap_or_default() as u32,
        };
        let (head, rule) = (self.head(), self.cache_rule());
        let mut variant = |names: &[Box<[u8]>], out: &mut Vec<u8>| {
            if let Some(rule) = rule {
                key::variant(names, head, rule, out);
            }
        };
        f(&self.proxy.shared.cache, &key, &mut variant)
    }

    /// Waits for another's fetch: for its head.
    async fn follow(&self, fill: &Fill) -> Result<Followed, Failure> {
        let wait = self.cache_rule().map_or(0, |r| millis(r.lock_wait));
        let deadline = rt::now_ms().saturating_add(wait).max(1);
        std::future::poll_fn(|cx| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if let Poll::Ready(outcome) = fill.poll(cx) {
                return Poll::Ready(Ok(match outcome {
                    Outcome::Object(_) | Outcome::Failed => Followed::Look,
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

/// Asked of the origin for this client, by an exchange of its own.
fn fetched(why: Why, object: &Object) -> Shown {
    Shown::Forwarded {
        why,
        status: object.meta.status,
        stored: Ok(()),
    }
}

/// Seconds of age.
pub(super) fn age(object: &Object, now_ms: u64) -> u32 {
    let resident = now_ms.saturating_sub(object.meta.received_ms) / 1_000;
    u32::try_from(resident)
        .unwrap_or(u32::MAX)
        .saturating_add(object.meta.initial_age_s)
        .min(policy::FOREVER_S)
}

/// Seconds of freshness left; negative: stale for so long.
pub(super) fn ttl(object: &Object, now_ms: u64) -> i64 {
    i64::from(object.meta.lifetime_s) - i64::from(age(object, now_ms))
}
