//! The key of a request, and forgetting what an unsafe request has changed.

use std::sync::Arc;

use narthex_cache::policy;
use narthex_cache::store::{self, Key, Purge, Variant};
use narthex_cache::{Store, key};
use narthex_config::model::{Action, CacheRule, Filter, Route};
use narthex_message::field::PROXY_OWNED;
use narthex_message::path::{self, Canonical};
use narthex_message::{Edits, FieldId, FieldSet, Head, ResponseFacts};

use crate::handle::Exchange;
use crate::work::Work;

impl Exchange<'_> {
    /// Puts the key into `work.key`.
    pub(super) fn make_key(&mut self, upstream: usize) {
        let mut out = std::mem::take(&mut self.work.key);
        if let (Some(rule), Some(route)) = (self.cache_rule(), self.route) {
            let parts = key::Parts {
                https: self.identity.https,
                host: self.host.of(&self.work),
                port: self.cache_port(&self.work),
                path: self.path.bytes(&self.work),
                query: self.query.map(|q| q.of(&self.work.input)),
                request: self.head(),
            };
            key::build(&parts, &rule.key, &mut out);
            self.add_place(route, upstream, &mut out);
            self.add_port(&self.work, &mut out);
            self.add_rewritten(&mut out);
        }
        self.work.key_hash = store::hash(&out);
        self.work.key = out;
    }

    /// Of whom it is asked is part of the key: what one route or one share of a split answers is not for another.
    fn add_place(&self, route: usize, upstream: usize, out: &mut Vec<u8>) {
        let route = self.site_config().and_then(|s| s.routes.get(route));
        let cluster = self.rt.clusters.get(upstream);
        place(
            route.map_or("", |r| &r.name),
            cluster.map_or("", |(cluster, _)| cluster.name()),
            out,
        );
    }

    /// And what a rewrite has made of the target: it may depend on more than the target.
    fn add_rewritten(&self, out: &mut Vec<u8>) {
        if let Some(path) = &self.target.path {
            out.push(0);
            out.extend_from_slice(path.as_bytes());
        }
        if let Some(query) = &self.target.query {
            out.extend_from_slice(b"\0?");
            out.extend_from_slice(query.as_deref().unwrap_or_default());
        }
    }

    /// A port that could have been left out, or is written in another way than usual: the origin gets it as it is.
    fn add_port(&self, work: &Work, out: &mut Vec<u8>) {
        let authority = self.facts.map_or(&[][..], |f| f.authority.of(&work.input));
        if !authority.contains(&b':') {
            return;
        }
        let own: &[u8] = if self.identity.https { b"443" } else { b"80" };
        let Some(at) = authority.iter().rposition(|&b| matches!(b, b':' | b']')) else {
            return;
        };
        let (sign, port) = authority
            .split_at_checked(at)
            .map_or((0, &[][..]), |(_, rest)| {
                (
                    rest.first().copied().unwrap_or_default(),
                    rest.get(1..).unwrap_or_default(),
                )
            });
        if sign == b':' && (port == own || port.is_empty() || port.starts_with(b"0")) {
            out.extend_from_slice(b"\0:");
            out.extend_from_slice(port);
        }
    }

    /// The port that the client means: of the authority, else its scheme's own.
    fn cache_port(&self, work: &Work) -> u16 {
        let authority = self.facts.map_or(&[][..], |f| f.authority.of(&work.input));
        let own = if self.identity.https { 443 } else { 80 };
        if !authority.contains(&b':') {
            return own;
        }
        authority
            .rsplit(|&b| b == b':')
            .next()
            .filter(|port| port.len() < authority.len())
            .and_then(narthex_message::validate::decimal)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(own)
    }

    /// The store, the key, and what tells variants apart.
    pub(super) fn with_key<T>(&self, f: impl FnOnce(&Arc<Store>, &Key<'_>, Variant<'_>) -> T) -> T {
        let key = Key {
            bytes: &self.work.key,
            hash: self.work.key_hash,
            host: self.host.of(&self.work),
            path: self.path.bytes(&self.work),
            site: self.site.unwrap_or_default() as u32,
        };
        let (head, rule) = (self.head(), self.cache_rule());
        let mut variant = |names: &[Box<[u8]>], out: &mut Vec<u8>| {
            if let Some(rule) = rule {
                key::variant(names, head, rule, out);
                variant_as_sent(names, &self.work.edits, rule, out);
            }
        };
        f(&self.proxy.shared.cache, &key, &mut variant)
    }

    /// The paths and queries, canonical, that an answer names as its own or as another's.
    pub(super) fn named_by(
        &self,
        work: &Work,
        response: Head<'_>,
        mut each: impl FnMut(FieldId, &[u8], Option<&[u8]>),
    ) {
        let target = policy::Target {
            https: self.identity.https,
            host: self.host.of(work),
            port: self.cache_port(work),
            path: self.path.bytes(work),
        };
        let merge = self.site.is_some_and(|s| self.rt.router.merge_slashes(s));
        policy::locations(&target, response, |id, reference| {
            let (raw, query) = path::split_target(reference);
            let mut out = String::new();
            match path::canonicalise(raw, merge, &mut out) {
                Ok(Canonical::Unchanged) => each(id, raw, query),
                Ok(Canonical::Rewritten) => each(id, out.as_bytes(), query),
                Err(_) => {}
            }
        });
    }

    /// What is stored for the target of an unsafe method is not good any more, nor for what its answer names (RFC 9111 4.4).
    /// `work` has the request.
    pub(super) fn forget_changed(&self, work: &Work, facts: &ResponseFacts, response: Head<'_>) {
        let Some(asked) = self.facts else { return };
        if !policy::invalidates(&asked, facts.status) {
            return;
        }
        // Who may not purge does not purge by an origin that says yes to everything (CA-13).
        if Head::new(&work.input, &work.index).method() == super::purge::PURGE {
            return;
        }
        let path = self.path.bytes(work);
        let query = self.query.map(|q| q.of(&work.input));
        self.forget(work, path, query);
        self.named_by(work, response, |_, path, query| {
            let forgotten = self.forget(work, path, query);
            tracing::trace!(?forgotten, "an answer has named what it changed");
        });
    }

    /// Forgets what a GET of this path has got. How many objects, if that is known.
    pub(super) fn forget(&self, work: &Work, path: &[u8], query: Option<&[u8]>) -> Option<usize> {
        let site = self.site_config()?;
        let host = self.host.of(work);
        let (route, rule, found) = self.cached_route(work, path, query)?;
        let shared = &self.proxy.shared;
        // However many slices there are, whatever a rewrite has made of it: all of the path.
        if rewrites(found) || rule.slice.is_some() {
            shared.cache.invalidate(&Purge::Path { host, path }, false);
            return None;
        }
        let upstreams = upstreams(found);
        let mut objects = 0;
        for upstream in upstreams {
            let bytes = self.key_of_get(work, (path, query), rule, (route, upstream));
            let number = self.site.unwrap_or_default() as u32;
            let key = Key::new(&bytes, host, path, number);
            objects += shared.cache.invalidate(&Purge::Key(key), false).objects;
        }
        tracing::trace!(site = %site.name, "an unsafe request has changed what is cached");
        Some(objects)
    }

    /// The key of a GET of this target, by this route to this upstream, if nothing on the way rewrites it.
    pub(super) fn key_of_get(
        &self,
        work: &Work,
        (path, query): (&[u8], Option<&[u8]>),
        rule: &CacheRule,
        (route, upstream): (usize, usize),
    ) -> Vec<u8> {
        let parts = key::Parts {
            https: self.identity.https,
            host: self.host.of(work),
            port: self.cache_port(work),
            path,
            query,
            request: Head::new(&work.input, &work.index),
        };
        let mut bytes = Vec::new();
        key::build(&parts, &rule.key, &mut bytes);
        self.add_place(route, upstream, &mut bytes);
        self.add_port(work, &mut bytes);
        bytes
    }

    /// The route that a GET of this path takes, if it has a cache.
    pub(super) fn cached_route(
        &self,
        work: &Work,
        path: &[u8],
        query: Option<&[u8]>,
    ) -> Option<(usize, &CacheRule, &Route)> {
        let head = Head::new(&work.input, &work.index);
        let path = std::str::from_utf8(path).ok()?;
        let route = self.with_query_of(head, "GET", path, query, |router, asked| {
            router.route(self.site?, asked).map(|(route, _)| route)
        })?;
        let found = self.site_config()?.routes.get(route)?;
        Some((route, found.settings.cache.as_deref()?, found))
    }
}

/// The end of a key: of whom it is asked.
pub(super) fn place(route: &str, upstream: &str, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(route.as_bytes());
    out.push(0);
    out.extend_from_slice(upstream.as_bytes());
}

/// The target is rewritten, so that the key is known to a request alone.
pub(super) fn rewrites(route: &Route) -> bool {
    route.filters.iter().any(|filter| {
        matches!(
            filter,
            Filter::StripPrefix(_)
                | Filter::AddPrefix(_)
                | Filter::Rewrite(_)
                | Filter::RewriteRegex { .. }
        )
    })
}

/// Whom a route may ask.
pub(super) fn upstreams(route: &Route) -> Vec<usize> {
    match &route.action {
        Action::Proxy(upstream) => vec![*upstream],
        Action::Split(split) => split.to.iter().map(|(upstream, _)| *upstream).collect(),
        _ => Vec::new(),
    }
}

/// What we say of ourselves to origins, in a profile.
const CAPABILITY: &[u8] = b"Surrogate-Capability:";

/// A variant is told by what the origin is sent: fields that filters set are in no client's head.
pub(super) fn variant_as_sent(
    names: &[Box<[u8]>],
    edits: &Edits,
    rule: &CacheRule,
    out: &mut Vec<u8>,
) {
    for (id, line) in edits.lines() {
        if id == FieldId::AcceptEncoding && rule.store_compressed {
            continue; // ours, and always the same
        }
        if line.starts_with(CAPABILITY) {
            continue; // the same
        }
        let name = line.split(|&b| b == b':').next().unwrap_or_default();
        if names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            out.push(0);
            out.extend_from_slice(line);
        }
    }
}

/// Does an answer vary by what the proxy says of each client, and what is in no key? Then it is nobody else's (RFC 9440 2.4: so
/// an answer by `Client-Cert` says it).
pub(super) fn ours_alone(names: &[Box<[u8]>]) -> bool {
    /// Host and scheme are in the key.
    const KEYED: FieldSet = FieldSet::of(&[FieldId::XForwardedHost, FieldId::XForwardedProto]);
    names.iter().any(|name| {
        let id = FieldId::of(name);
        PROXY_OWNED.without(KEYED).has(id) || name.starts_with(b"client-cert")
    })
}
