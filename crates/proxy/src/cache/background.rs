//! A fetch without a client: behind a stale answer, or for a client whose own request cannot be sent as it is.

use std::rc::Rc;
use std::sync::Arc;

use narthex_cache::policy::{Asked, Slice};
use narthex_cache::store::Lead;
use narthex_cache::{Object, Why};
use narthex_message::{Body, Method, RequestFacts};
use narthex_net::rt;

use super::{Caching, nobody};
use crate::connection::Client;
use crate::core::{CoreProxy, CoreRuntime};
use crate::handle::{Busy, Exchange};
use crate::work::Work;

/// Fetches without a client under way on one core; beyond that clients go to the origin by themselves.
const MOST: usize = 1_024;

/// One that is under way.
struct Place(Rc<CoreProxy>);

impl Place {
    /// `promised`: a client has been told that it comes, so that it does while the process drains, too.
    fn take(proxy: &Rc<CoreProxy>, promised: bool) -> Option<Self> {
        let fetches = proxy.fetches.get();
        if fetches >= MOST || (proxy.is_draining() && !promised) {
            return None;
        }
        proxy.fetches.set(fetches + 1);
        Some(Self(Rc::clone(proxy)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetches.set(self.0.fetches.get().saturating_sub(1));
    }
}

impl Exchange<'_> {
    /// Asks the origin about a stale object that the client is served meanwhile, if nobody else does.
    pub(super) fn revalidate_behind(&mut self, upstream: usize, object: &Arc<Object>, soft: bool) {
        if let Ok(lead) = self.lead(Some(object)) {
            let stale = Some((Arc::clone(object), soft));
            self.fetch_behind(upstream, lead, stale, Why::Stale);
        }
    }

    /// Fetches for the cache; false: there is no room for it.
    pub(super) fn fetch_behind(
        &self,
        upstream: usize,
        lead: Lead,
        stale: Option<(Arc<Object>, bool)>,
        why: Why,
    ) -> bool {
        let caching = self.caching_behind(lead, stale, why);
        self.begin_behind(upstream, caching, false)
    }

    /// Fetches a slice for the cache; false: there is no room for it.
    pub(super) fn fetch_slice(
        &self,
        upstream: usize,
        slice: Slice,
        lead: Lead,
        stale: Option<(Arc<Object>, bool)>,
        why: Why,
    ) -> bool {
        let mut caching = self.caching_behind(lead, stale, why);
        caching.slice = Some(slice);
        caching.asked.range = true;
        self.begin_behind(upstream, caching, true)
    }

    /// A slice that nothing is known of may be on disk: then the origin is not asked, or not now.
    async fn has_slice_on_disk(&self, caching: &Caching) -> bool {
        let Some(slice) = caching.slice.filter(|_| caching.stale.is_none()) else {
            return false;
        };
        if !self.with_slice(slice, |store, key, _| store.on_disk(key)) {
            return false;
        }
        let Some(lead) = caching.lead.take() else {
            return false;
        };
        match self.bring_from_disk(lead, Some(slice)).await {
            Ok(Err(Some(lead))) => {
                caching.lead.replace(Some(lead));
                false
            }
            // Who waits for it looks again.
            Ok(Ok(()) | Err(None)) | Err(_) => true,
        }
    }

    fn caching_behind(&self, lead: Lead, stale: Option<(Arc<Object>, bool)>, why: Why) -> Caching {
        let mut caching = Caching::passing(Asked::default(), why);
        caching.asked.authorization = self
            .head()
            .index
            .present
            .has(narthex_message::FieldId::Authorization);
        caching.lead = Some(lead).into();
        caching.stale = stale;
        caching.behind = true;
        caching
    }

    fn begin_behind(&self, upstream: usize, caching: Caching, promised: bool) -> bool {
        let Some(facts) = self.facts else {
            return false;
        };
        let Some(place) = Place::take(self.proxy, promised) else {
            return false;
        };
        let client = Client {
            stream: nobody::stream(),
            peer: self.client.peer,
            listener: self.client.listener,
            requests: 1,
            opened_ms: rt::now_ms(),
            input: Vec::new(),
            h2: None,
            tls: self.client.tls.clone(),
        };
        let fetch = Fetch {
            place,
            client,
            upstream,
            caching,
            decided: self.decided(facts),
        };
        rt::spawn(fetch.run());
        true
    }

    /// What is known of the request, for another exchange that asks the same.
    fn decided(&self, facts: RequestFacts) -> Decided {
        let mut work = self.proxy.take_work();
        work.input
            .extend_from_slice(self.work.input.get(..self.work.taken).unwrap_or_default());
        work.taken = work.input.len();
        work.index = self.work.index.clone();
        work.path.push_str(&self.work.path);
        work.edits = self.work.edits.clone();
        work.key.clone_from(&self.work.key);
        work.key_hash = self.work.key_hash;
        Decided {
            work,
            facts: RequestFacts {
                method: Method::Get,
                body: Body::None,
                expects_continue: false,
                ..facts
            },
            identity: self.identity,
            host: self.host.clone(),
            path: self.path.clone(),
            query: self.query,
            target: self.target.clone(),
            rt: Rc::clone(&self.rt),
            index: self.listener,
            site: self.site,
            route: self.route,
            request_id: self.request_id,
            given_id: self.given_id,
        }
    }
}

struct Decided {
    work: Box<Work>,
    /// Of the request: places in it are meant.
    rt: Rc<CoreRuntime>,
    index: usize,
    facts: RequestFacts,
    identity: crate::identity::Identity,
    host: crate::handle::Text,
    path: crate::handle::Text,
    query: Option<narthex_message::Span>,
    target: narthex_filter::chain::Target,
    site: Option<usize>,
    route: Option<usize>,
    request_id: [u8; 32],
    given_id: Option<narthex_message::Span>,
}

struct Fetch {
    place: Place,
    client: Client,
    upstream: usize,
    caching: Caching,
    decided: Decided,
}

impl Fetch {
    async fn run(mut self) {
        let proxy = Rc::clone(&self.place.0);
        let decided = self.decided;
        let Some(mut exchange) = Exchange::of(&proxy, &mut self.client, decided.work) else {
            return;
        };
        exchange.rt = decided.rt;
        exchange.listener = decided.index;
        exchange.facts = Some(decided.facts);
        exchange.identity = decided.identity;
        exchange.host = decided.host;
        exchange.path = decided.path;
        exchange.query = decided.query;
        exchange.target = decided.target;
        exchange.site = decided.site;
        exchange.route = decided.route;
        exchange.request_id = decided.request_id;
        exchange.given_id = decided.given_id;
        let _busy = Busy::new(&proxy);
        if !exchange.has_slice_on_disk(&self.caching).await {
            exchange.fetch(self.upstream, self.caching).await;
        }
        proxy.give_work(exchange.work);
    }
}
