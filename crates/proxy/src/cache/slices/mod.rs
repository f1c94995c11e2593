//! Large objects in slices: an answer is composed of parts that are objects of the store, each fetched for itself and for all.
//!
//! This file decides what the client gets, from the head of the first slice that is needed. `obtain` finds or fetches one slice,
//! `compose` sends what they hold, `rest` goes on without them if there has to be a rest that none holds, `origin` says what becomes of
//! an origin's answer to the question for one.

mod compose;
mod obtain;
mod origin;
mod rest;

use narthex_cache::policy::{self, Asked, Meta, Slice};
use narthex_cache::store::{Found, Key, Purge, Store, Variant};
use narthex_cache::{Object, Why, key};
use narthex_net::rt;
use std::sync::Arc;

use super::hit::Form;
use super::keyed::variant_as_sent;
use super::lookup::speaks_of;
use super::{Caching, Shown};
use crate::connection::Next;
use crate::handle::Exchange;
use crate::work::Work;

use obtain::{Got, Lacks};
pub(super) use origin::{ask, tag};
pub(super) use rest::Rest;

/// Slices that are looked at before it is known which one is the first: a guess, the first of all, the last, and once more if the
/// origin has changed meanwhile.
const LOOKS: u32 = 5;
/// Slices that are looked for for `only-if-cached`; a longer answer is as if it were not there.
const ONLY_MAX: usize = 8_192;

/// What slices are asked for.
#[derive(Clone, Copy)]
struct Wanted {
    upstream: usize,
    asked: Asked,
    size: u64,
    /// The client has been told a length: what is missing cannot be asked for in another way.
    promised: bool,
}

/// Of which version an answer is.
pub(super) struct Version {
    meta: Meta,
    head: Vec<u8>,
}

impl Version {
    fn of(object: &Object) -> Self {
        Self {
            meta: object.meta(),
            head: object.head().to_vec(),
        }
    }

    fn is_of(&self, object: &Object) -> bool {
        policy::same_version((&self.meta, &self.head), (&object.meta(), object.head()))
    }

    /// Was it heard of before that object was?
    fn is_older_than(&self, object: &Object) -> bool {
        self.meta.received_ms < object.meta().received_ms
    }

    /// Is it this slice of it, whole?
    fn has(&self, object: &Object, slice: Slice) -> bool {
        let end = self.meta.length.unwrap_or(0).saturating_sub(1);
        object.meta().part == Some((slice.first(), slice.last().min(end))) && self.is_of(object)
    }
}

impl Exchange<'_> {
    /// Answers from slices. `None`: nothing was answered, and it is to be treated as if there were none.
    pub(super) async fn answer_sliced(
        &mut self,
        upstream: usize,
        asked: Asked,
        size: u64,
    ) -> Option<Next> {
        // Who wants nothing stored would end in the middle, where the stored slices do.
        if asked.no_store || self.is_whole(size, &asked) {
            return None;
        }
        let wanted = Wanted {
            upstream,
            asked,
            size,
            promised: false,
        };
        let mut at = policy::first_byte(self.head(), self.known_length(size));
        let mut version: Option<Version> = None;
        let mut first_shown = None;
        for _ in 0..LOOKS {
            let slice = Slice::of(at, size);
            if asked.head && !self.is_there(&wanted, slice) {
                return None; // the origin gets the HEAD
            }
            let got = match self.slice(&wanted, slice, None).await {
                Ok(got) => got,
                Err(Lacks::Ends(failure)) => return Some(self.fail(failure).await),
                Err(Lacks::NotCached) => return Some(self.answer_not_cached().await),
                Err(Lacks::Refused(_)) if self.is_whole(size, &asked) => return None,
                // Perhaps there are not so many: the first one tells.
                Err(Lacks::Refused(Why::NoRanges)) if slice.number > 0 => {
                    at = 0;
                    continue;
                }
                Err(Lacks::Refused(Why::NoRanges)) => return None,
                Err(Lacks::Refused(why)) => return Some(self.without_slices(&wanted, why).await),
                Err(Lacks::Failed) => return Some(self.without_slices(&wanted, Why::Miss).await),
            };
            let shown = got.shown.worse_than(first_shown);
            first_shown = Some(shown);
            if got.object.meta().part.is_none() {
                // An error that the rule keeps.
                let object = &got.object;
                return Some(
                    self.answer_stored(object, &asked, got.age_s, got.shown)
                        .await,
                );
            }
            if let Some(before) = version.take()
                && !before.is_of(&got.object)
            {
                // One of them is over: once more, without it.
                if got.is_new || before.is_older_than(&got.object) {
                    self.forget_version(&before);
                } else {
                    self.forget_version(&Version::of(&got.object));
                }
                continue;
            }
            let form = self.form(&got.object, &asked);
            let needed = match &form {
                Form::Whole | Form::Decoded => 0,
                Form::Part(from, _) => *from,
                Form::Parts(parts) => parts.first().map_or(0, |(from, _)| *from),
                Form::NotModified | Form::Failed | Form::Unsatisfiable => at,
            };
            if Slice::of(needed, size) == slice {
                if asked.only_if_cached && !self.has_all(&wanted, &form, &got.object) {
                    return Some(self.answer_not_cached().await);
                }
                return Some(self.answer_from(wanted, got, &form, shown).await);
            }
            version = Some(Version::of(&got.object));
            at = needed;
        }
        Some(self.without_slices(&wanted, Why::Miss).await)
    }

    /// Asks the origin what the client asks, for this client alone.
    async fn without_slices(&mut self, wanted: &Wanted, why: Why) -> Next {
        if wanted.asked.only_if_cached {
            return self.answer_not_cached().await;
        }
        let caching = Caching::passing(wanted.asked, why);
        self.fetch(wanted.upstream, caching).await
    }

    /// Answers with this head, and what slices hold.
    async fn answer_from(&mut self, wanted: Wanted, got: Got, form: &Form, shown: Shown) -> Next {
        let keep = self.drain_at_hand() && self.keeps_alive();
        let mut out = std::mem::take(&mut self.work.down);
        out.clear();
        let follows = self.write_stored_head(&got.object, form, got.age_s, shown, keep, &mut out);
        self.story.cache = Some(shown);
        let sent = match (follows, form) {
            (None, _) => self.send_counted(&out).await,
            (Some(_), Form::Parts(parts)) => self.compose(wanted, got, parts, true, &mut out).await,
            (Some((from, to)), _) => {
                let part = [(from, to.saturating_sub(1))];
                self.compose(wanted, got, &part, false, &mut out).await
            }
        };
        self.work.down = out;
        self.after_stored(sent, keep)
    }

    /// It is kept whole, or has been found not to be kept in slices.
    fn is_whole(&self, size: u64, asked: &Asked) -> bool {
        let now = rt::wall_ms();
        let whole = self.with_key(|store, key, variant| store.peek(key, variant, now));
        if matches!(whole, Found::Ready { .. } | Found::Filling(_)) {
            return true;
        }
        let none = Slice {
            number: key::NO_SLICES,
            size,
        };
        let mark = self.with_slice(none, |store, key, variant| store.peek(key, variant, now));
        matches!(mark, Found::HitForMiss(why) if speaks_of(why, asked))
    }

    /// The length of the whole, if the first slice is there: to guess by.
    fn known_length(&self, size: u64) -> Option<u64> {
        let now = rt::wall_ms();
        let first = Slice::of(0, size);
        match self.with_slice(first, |store, key, variant| store.peek(key, variant, now)) {
            Found::Ready { object, .. } => object.meta().part.and(object.meta().length),
            _ => None,
        }
    }

    /// A slice is there, and good enough.
    fn is_there(&self, wanted: &Wanted, slice: Slice) -> bool {
        let now = rt::wall_ms();
        match self.with_slice(slice, |store, key, variant| store.peek(key, variant, now)) {
            Found::Ready { object, soft } => {
                let choice = policy::choose(&object.meta(), &wanted.asked, soft, now);
                !matches!(choice, policy::Choice::Ask(_))
            }
            _ => false,
        }
    }

    /// Everything that an answer needs is there.
    fn has_all(&self, wanted: &Wanted, form: &Form, object: &Object) -> bool {
        let whole;
        let parts: &[(u64, u64)] = match form {
            Form::Whole | Form::Decoded => {
                whole = [(0, object.meta().length.unwrap_or(0).saturating_sub(1))];
                &whole
            }
            Form::Part(from, to) => {
                whole = [(*from, *to)];
                &whole
            }
            Form::Parts(parts) => parts,
            Form::NotModified | Form::Failed | Form::Unsatisfiable => &[],
        };
        let pieces = parts
            .iter()
            .flat_map(|&(first, last)| policy::pieces(first, last, wanted.size));
        let mut looked = 0;
        for piece in pieces {
            looked += 1;
            if looked > ONLY_MAX || !self.is_there(wanted, piece.slice) {
                return false;
            }
        }
        true
    }

    /// The origin has another version by now: no slice of this one is good any more.
    fn forget_version(&self, version: &Version) {
        self.forget_version_of(&self.work, &version.meta, &version.head);
    }

    /// The same, of the request in `work`, by the meaning and the head of one slice.
    fn forget_version_of(&self, work: &Work, meta: &Meta, head: &[u8]) {
        let tag = origin::version_tag(work, meta, head);
        self.proxy
            .shared
            .cache
            .invalidate(&Purge::Version(&tag), false);
    }

    /// The store, the key of a slice, and what tells variants apart.
    pub(super) fn with_slice<T>(
        &self,
        slice: Slice,
        f: impl FnOnce(&Arc<Store>, &Key<'_>, Variant<'_>) -> T,
    ) -> T {
        self.with_slice_of(&self.work, slice, f)
    }

    /// The same, of the request in `work`.
    fn with_slice_of<T>(
        &self,
        work: &Work,
        slice: Slice,
        f: impl FnOnce(&Arc<Store>, &Key<'_>, Variant<'_>) -> T,
    ) -> T {
        let mut bytes = Vec::with_capacity(work.key.len() + 16);
        key::slice(&work.key, slice.size, slice.number, &mut bytes);
        let site = self.site.unwrap_or_default() as u32;
        let key = Key::new(&bytes, self.host.of(work), self.path.bytes(work), site);
        let mut variant =
            |names: &[Box<[u8]>], out: &mut Vec<u8>| self.slice_variant(work, names, out);
        f(&self.proxy.shared.cache, &key, &mut variant)
    }

    /// Which variant of a slice the request in `work` wants.
    fn slice_variant(&self, work: &Work, names: &[Box<[u8]>], out: &mut Vec<u8>) {
        let names: Vec<Box<[u8]>> = names
            .iter()
            .filter(|name| key::varies_slice(name))
            .cloned()
            .collect();
        if let Some(rule) = self.cache_rule() {
            let head = narthex_message::Head::new(&work.input, &work.index);
            key::variant(&names, head, rule, out);
            variant_as_sent(&names, &work.edits, rule, out);
        }
    }
}
