//! The key of a request, and forgetting what an unsafe request has changed.

use std::sync::Arc;

use narthex_cache::policy;
use narthex_cache::store::{self, Key, Purge, Variant};
use narthex_cache::{Store, key};
use narthex_config::model::{Action, CacheRule, Filter, Route};
use narthex_message::path::{self, Canonical};
use narthex_message::{Head, ResponseFacts};

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
        out.push(0);
        out.extend_from_slice(route.map_or("", |r| &r.name).as_bytes());
        out.push(0);
        if let Some((cluster, _)) = self.rt.clusters.get(upstream) {
            out.extend_from_slice(cluster.name().as_bytes());
        }
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
            }
        };
        f(&self.proxy.shared.cache, &key, &mut variant)
    }

    /// What is stored for the target of an unsafe method is not good any more, nor for what its answer names (RFC 9111 4.4).
    /// `work` has the request.
    pub(super) fn forget_changed(&self, work: &Work, facts: &ResponseFacts, response: Head<'_>) {
        let Some(asked) = self.facts else { return };
        if !policy::invalidates(&asked, facts.status) {
            return;
        }
        let path = self.path.bytes(work);
        let query = self.query.map(|q| q.of(&work.input));
        self.forget(work, path, query);
        let target = policy::Target {
            https: self.identity.https,
            host: self.host.of(work),
            port: self.cache_port(work),
            path,
        };
        let merge = self.site.is_some_and(|s| self.rt.router.merge_slashes(s));
        policy::locations(&target, response, |_, reference| {
            let (raw, query) = path::split_target(reference);
            let mut out = String::new();
            match path::canonicalise(raw, merge, &mut out) {
                Ok(Canonical::Unchanged) => self.forget(work, raw, query),
                Ok(Canonical::Rewritten) => self.forget(work, out.as_bytes(), query),
                Err(_) => {}
            }
        });
    }

    /// Forgets what a GET of this path has got.
    fn forget(&self, work: &Work, path: &[u8], query: Option<&[u8]>) {
        let Some(site) = self.site_config() else {
            return;
        };
        let host = self.host.of(work);
        let Some((route, rule, found)) = self.cached_route(work, path, query) else {
            return;
        };
        let shared = &self.proxy.shared;
        let rewrites = |filter: &Filter| {
            matches!(
                filter,
                Filter::StripPrefix(_)
                    | Filter::AddPrefix(_)
                    | Filter::Rewrite(_)
                    | Filter::RewriteRegex { .. }
            )
        };
        if found.filters.iter().any(rewrites) {
            shared.cache.purge(&Purge::Path { host, path }, false);
            return;
        }
        let upstreams: Vec<usize> = match &found.action {
            Action::Proxy(upstream) => vec![*upstream],
            Action::Split(split) => split.to.iter().map(|(upstream, _)| *upstream).collect(),
            _ => Vec::new(),
        };
        let parts = key::Parts {
            https: self.identity.https,
            host,
            port: self.cache_port(work),
            path,
            query,
            request: Head::new(&work.input, &work.index),
        };
        for upstream in upstreams {
            let mut bytes = Vec::new();
            key::build(&parts, &rule.key, &mut bytes);
            self.add_place(route, upstream, &mut bytes);
            self.add_port(work, &mut bytes);
            let number = self.site.unwrap_or_default() as u32;
            let key = Key::new(&bytes, host, path, number);
            shared.cache.purge(&Purge::Key(key), false);
        }
        tracing::trace!(site = %site.name, "an unsafe request has changed what is cached");
    }

    /// The route that a GET of this path takes, if it has a cache.
    fn cached_route(
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
