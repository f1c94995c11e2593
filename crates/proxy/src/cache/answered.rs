//! What becomes of an origin's answer: kept, taken as the news that what is stored is good, or passed on.

use std::time::Duration;

use narthex_cache::policy::{self, Exchanged, Keep as Kept};
use narthex_cache::store::{Lead, Room, Writer};
use narthex_cache::{Object, Why, key};
use narthex_config::model::{CacheProfile, CacheRule};
use narthex_message::field::FieldSet;
use narthex_message::{Body, Edits, FieldId, Head, Index, ResponseFacts, Span};
use narthex_net::rt;
use narthex_wire::h1::encode::{self, Keep};

use super::keyed::{ours_alone, variant_as_sent};
use super::{Caching, Shown, coded, read_stored, slices};
use crate::connection::Next;
use crate::downstream::ORIGIN_TELLS;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::work::Work;

/// What the client gets.
pub(crate) enum Turn {
    /// The origin's answer; an object gets its body, too, if there is one.
    Origin(Option<Writer>, Shown),
    /// Something stored, after this exchange.
    Stored,
}

/// What is asked without the client's own words: conditions and ranges, for what is stored is whole.
pub(super) const CONDITIONS: [&str; 6] = [
    "If-None-Match",
    "If-Modified-Since",
    "If-Match",
    "If-Unmodified-Since",
    "If-Range",
    "Range",
];

impl Exchange<'_> {
    /// Asks the origin, and answers with what came of it.
    pub(super) async fn fetch(&mut self, upstream: usize, mut caching: Caching) -> Next {
        caching.sent_ms = rt::wall_ms();
        if self.cache_rule().map(|rule| rule.profile) == Some(CacheProfile::Rfc9111) {
            let capability = policy::surrogate::CAPABILITY;
            self.work.edits.set("Surrogate-Capability", capability);
        }
        let leads = caching.lead.borrow().is_some();
        if leads && self.stores_compressed() {
            self.work.edits.set("Accept-Encoding", b"gzip");
        }
        if leads && caching.head_of.is_none() {
            self.ask_for_whole(&caching);
        }
        self.caching = Some(Box::new(caching));
        let next = self.forward(upstream).await;
        let Some(caching) = self.caching.take() else {
            return next;
        };
        self.story.cache = Some(caching.told());
        if caching.again.get() {
            // What is stored is not what the origin speaks of: once more, without condition.
            let mut plain = Caching::passing(caching.asked, Why::Stale);
            plain.lead = caching.lead;
            plain.slice = caching.slice;
            plain.behind = caching.behind;
            plain.sent_ms = rt::wall_ms();
            self.ask_for_whole(&plain);
            self.caching = Some(Box::new(plain));
            let next = self.forward(upstream).await;
            self.story.cache = self.caching.take().map(|caching| caching.told());
            return next;
        }
        let instead = caching.instead.borrow_mut().take();
        match instead {
            Some(_) if caching.behind => next,
            Some((object, shown)) => {
                self.story.failure = None;
                let age_s = policy::age_s(&object.meta(), rt::wall_ms());
                self.answer_stored(&object, &caching.asked, age_s, shown)
                    .await
            }
            None => next,
        }
    }

    /// The origin is asked for all of it, if it is not what is stored.
    fn ask_for_whole(&mut self, caching: &Caching) {
        let mut edits = std::mem::take(&mut self.work.edits);
        // A part may be what is wanted, and kept.
        let part = caching.asked.range && caching.stale.is_none();
        for name in CONDITIONS.iter().filter(|name| !part || **name != "Range") {
            edits.remove(name);
        }
        if let Some((object, _)) = &caching.stale {
            let mut lines = Vec::new();
            if policy::conditional(&object.meta(), object.head(), &mut lines) {
                set_lines(&lines, &mut edits);
            }
        }
        if let Some(slice) = caching.slice {
            slices::ask(slice, &mut edits);
        }
        self.work.edits = edits;
    }

    /// The final head of an origin's answer has come.
    pub(crate) fn turn(
        &self,
        caching: &Caching,
        request: &Work,
        response: Head<'_>,
        facts: &ResponseFacts,
        naming: &Edits,
        intercepted: bool,
    ) -> Turn {
        let why = caching.why.get();
        let forwarded = |stored| Shown::Forwarded {
            why,
            status: facts.status,
            stored,
        };
        let asked = Head::new(&request.input, &request.index);
        self.forget_changed(request, facts, response);
        let Some(rule) = self.cache_rule() else {
            return Turn::Origin(None, forwarded(Err(why)));
        };
        let exchanged = Exchanged {
            request: asked,
            asked: &caching.asked,
            response,
            facts,
            rule,
            sent_ms: caching.sent_ms,
            received_ms: rt::wall_ms(),
        };
        let now = exchanged.received_ms;
        let Some(lead) = caching.lead.take() else {
            let writer = if caching.by_post && !intercepted {
                self.keep_post(&exchanged, request, naming)
            } else {
                None
            };
            let stored = writer.as_ref().map(|_| ()).ok_or(why);
            return Turn::Origin(writer, forwarded(stored));
        };
        if let Some(object) = &caching.head_of {
            self.told_by_head(object, lead, &exchanged, (request, naming));
            return Turn::Origin(None, forwarded(Err(why)));
        }
        if let Some((object, soft)) = &caching.stale {
            if facts.status == 304 {
                let index = self.index_of(object);
                let stored = Head::new(object.head(), &index);
                match policy::freshen(stored, &object.meta(), &exchanged) {
                    Ok(mut keep) => {
                        if caching.slice.is_some() {
                            slices::tag(&mut keep, request);
                        }
                        let mut keep = self.as_shown(keep, naming);
                        if rule.store_compressed {
                            coded::say_vary(stored, &mut keep);
                        }
                        let object = lead.refresh(object, keep);
                        let shown = Shown::Revalidated {
                            ttl_s: policy::ttl_s(&object.meta(), now),
                        };
                        caching.instead.replace(Some((object, shown)));
                    }
                    Err(_) => {
                        caching.lead.replace(Some(lead));
                        caching.again.set(true);
                    }
                }
                return Turn::Stored;
            }
            let failed = policy::Failed::Said(facts.status);
            let (meta, profile) = (object.meta(), rule.profile);
            let serves = policy::serves_on_error(&meta, &caching.asked, failed, profile, now);
            if serves.is_some() && !soft {
                let shown = Shown::StaleOnError {
                    ttl_s: policy::ttl_s(&object.meta(), now),
                };
                caching
                    .instead
                    .replace(Some((std::sync::Arc::clone(object), shown)));
                return Turn::Stored;
            }
        }
        if let Some(slice) = caching.slice {
            return match self.turn_slice(slice, lead, &exchanged, (request, naming), intercepted) {
                Ok(writer) => Turn::Origin(Some(writer), forwarded(Ok(()))),
                Err(why) => Turn::Origin(None, forwarded(Err(why))),
            };
        }
        // In its place the client gets a page of ours, which belongs to no object.
        let kept = if intercepted {
            Err(Why::Status)
        } else {
            policy::store(&exchanged).and_then(for_all)
        };
        match kept {
            Ok(keep) => match self.publish(lead, keep, &exchanged, (request, naming)) {
                Ok(writer) => Turn::Origin(Some(writer), forwarded(Ok(()))),
                Err(why) => Turn::Origin(None, forwarded(Err(why))),
            },
            Err(refused) => {
                // An origin in trouble says nothing about the next answer.
                let time = if facts.status >= 500 {
                    Duration::ZERO
                } else {
                    rule.hit_for_miss
                };
                lead.refuse(refused, time);
                Turn::Origin(None, forwarded(Err(refused)))
            }
        }
    }

    /// An object that fills while the body comes.
    pub(super) fn publish(
        &self,
        lead: Lead,
        keep: Kept,
        exchanged: &Exchanged<'_>,
        (request, naming): (&Work, &Edits),
    ) -> Result<Writer, Why> {
        let mut variant = Vec::new();
        key::variant(&keep.vary, exchanged.request, exchanged.rule, &mut variant);
        variant_as_sent(&keep.vary, &request.edits, exchanged.rule, &mut variant);
        self.publish_as(lead, keep, &variant, exchanged, naming)
    }

    /// As [`Self::publish`], as this variant.
    pub(super) fn publish_as(
        &self,
        lead: Lead,
        keep: Kept,
        variant: &[u8],
        exchanged: &Exchanged<'_>,
        naming: &Edits,
    ) -> Result<Writer, Why> {
        let rule = exchanged.rule;
        let length = match (keep.meta.part, exchanged.facts.body) {
            (Some((first, last)), _) => Some(last.saturating_sub(first).saturating_add(1)),
            (None, Body::None) => Some(0),
            (None, Body::Length(n)) => Some(n),
            (None, Body::Chunked | Body::UntilClose) => None,
        };
        let mut keep = self.as_shown(keep, naming);
        if rule.store_compressed {
            coded::say_vary(exchanged.response, &mut keep);
        }
        lead.publish(keep, variant, room(rule), length)
    }

    /// Where what is in a stored head; it was valid when it was stored.
    pub(super) fn index_of(&self, object: &Object) -> Index {
        let mut index = Index::default();
        read_stored(object.head(), &mut index);
        index
    }

    /// The head as clients may see it: without what tells of the origin, and with our names in it.
    pub(super) fn as_shown(&self, mut keep: Kept, naming: &Edits) -> Kept {
        let hides = self.route_config().is_some_and(|r| r.settings.hide_origin);
        if !hides && naming.is_empty() {
            return keep;
        }
        let mut index = Index::default();
        read_stored(&keep.head, &mut index);
        let head = Head::new(&keep.head, &index);
        let mut fields = Keep::response(false).with(FieldSet::of(&[FieldId::Trailer]));
        if hides {
            fields = fields.without(ORIGIN_TELLS);
        }
        let mut out = Vec::with_capacity(keep.head.len());
        encode::status_line(index.status, index.reason.of(&keep.head), &mut out);
        encode::fields(head, fields, naming, &mut out);
        out.extend_from_slice(b"\r\n");
        read_stored(&out, &mut index);
        let tag = index.fields.iter().find(|f| f.id == FieldId::ETag);
        keep.meta.etag = tag
            .filter(|_| !keep.meta.etag.is_empty())
            .map_or(Span::default(), |f| f.value);
        keep.head = out;
        keep
    }

    /// The origin failed: a stale object stands in, if it may.
    pub(crate) fn stands_in(&self, failure: Failure) -> bool {
        let Some(caching) = &self.caching else {
            return false;
        };
        let Some((object, false)) = &caching.stale else {
            return false;
        };
        let Some(profile) = self.cache_rule().map(|rule| rule.profile) else {
            return false;
        };
        let now = rt::wall_ms();
        let meta = object.meta();
        let failed = match failure {
            Failure::UpstreamStatus(status) => policy::Failed::Said(status),
            _ => policy::Failed::Silent,
        };
        if failure.fault() != "origin"
            || policy::serves_on_error(&meta, &caching.asked, failed, profile, now).is_none()
        {
            return false;
        }
        let shown = Shown::StaleOnError {
            ttl_s: policy::ttl_s(&object.meta(), now),
        };
        caching
            .instead
            .replace(Some((std::sync::Arc::clone(object), shown)));
        true
    }
}

/// What is to be kept, if others may have it.
pub(super) fn for_all(keep: Kept) -> Result<Kept, Why> {
    if ours_alone(&keep.vary) {
        Err(Why::VaryStar)
    } else {
        Ok(keep)
    }
}

/// Bounds for what a rule stores.
pub(super) fn room(rule: &CacheRule) -> Room {
    Room {
        object_max: rule.object_max,
        vary_max: rule.vary_max,
        quota: rule.quota,
    }
}

/// Sets fields of whole lines, `Name: value CRLF` each.
fn set_lines(lines: &[u8], edits: &mut Edits) {
    for line in lines.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut halves = line.splitn(2, |&b| b == b':');
        if let (Some(name), Some(value)) = (halves.next(), halves.next())
            && let Ok(name) = std::str::from_utf8(name)
        {
            edits.set(name, value.trim_ascii());
        }
    }
}
