//! What answers to other methods than GET mean for a GET: a HEAD's tells of a stored object, a POST's may be what a GET would get.

use narthex_cache::Object;
use narthex_cache::policy::{self, ByHead, Exchanged};
use narthex_cache::store::{Key, Lead, Writer};
use narthex_config::model::Action;
use narthex_message::{Edits, FieldId, Head};

use super::keyed::rewrites;
use crate::handle::Exchange;
use crate::work::Work;

impl Exchange<'_> {
    /// The answer to a HEAD whose GET is stored (RFC 9111 4.3.5). `request` has the HEAD.
    pub(super) fn told_by_head(
        &self,
        object: &std::sync::Arc<Object>,
        lead: Lead,
        exchanged: &Exchanged<'_>,
        (request, naming): (&Work, &Edits),
    ) {
        let index = self.index_of(object);
        let stored = Head::new(object.head(), &index);
        match policy::freshen_by_head(stored, &object.meta(), exchanged) {
            ByHead::Update(keep) => {
                lead.refresh(object, self.as_shown(*keep, naming));
            }
            ByHead::Invalidate => {
                let query = self.query.map(|q| q.of(&request.input));
                self.forget(request, self.path.bytes(request), query);
            }
            ByHead::Nothing => {}
        }
    }

    /// The answer to a POST that names the target as its own place, for GETs to come (RFC 9110 9.3.3). It is younger than what the
    /// POST has made unusable.
    pub(super) fn keep_post(
        &self,
        exchanged: &Exchanged<'_>,
        request: &Work,
        naming: &Edits,
    ) -> Option<Writer> {
        let path = self.path.bytes(request);
        let query = self.query.map(|q| q.of(&request.input));
        let mut same = false;
        self.named_by(request, exchanged.response, |id, its_path, its_query| {
            same |= id == FieldId::ContentLocation && (its_path, its_query) == (path, query);
        });
        let keep = policy::store_post(exchanged, same).ok()?;
        let (route, rule, found) = self.cached_route(request, path, query)?;
        // A GET must take the very same way.
        if self.route != Some(route) || rewrites(found) {
            return None;
        }
        let Action::Proxy(upstream) = found.action else {
            return None;
        };
        let bytes = self.key_of_get(request, (path, query), rule, (route, upstream));
        let number = self.site.unwrap_or_default() as u32;
        let key = Key::new(&bytes, self.host.of(request), path, number);
        let lead = self.proxy.shared.cache.alone(&key, exchanged.received_ms);
        self.publish(lead, keep, exchanged, (request, naming)).ok()
    }
}
