//! The cache as an operator sees it: what is stored of an address, why an address is not a hit, what shall be forgotten. All of it
//! by the data path's own router, key and policy.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use narthex_cache::policy::{self, Choice, Slice};
use narthex_cache::store::{Found, Key};
use narthex_cache::{Object, Why, key};
use narthex_config::model::{CacheRule, Route};
use narthex_message::{Head, Index, validate};
use narthex_route::Query;
use narthex_wire::h1::scan::{self, Progress};

pub use narthex_cache::store::{
    Block, Blocked, DiskStats, Full, OpenError, Pattern, Purge, Purged, Stats, seed,
};

use super::keyed;
use crate::explain::{Explained, Question};
use crate::runtime::{Runtime, Shared};

/// Objects of an address that are shown.
const SHOWN: usize = 1_000;

/// Something stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `https`?
    pub https: bool,
    /// The port that clients meant.
    pub port: u16,
    /// It is what the request as it was asked about may get; others have another query, scheme, route ...
    pub is_exact: bool,
    /// Status.
    pub status: u16,
    /// Seconds since the origin made it.
    pub age_s: u32,
    /// Seconds for which it is fresh; below 0: for so long it has been stale.
    pub ttl_s: i64,
    /// It was purged softly.
    pub soft: bool,
    /// All of its body is there.
    pub is_complete: bool,
    /// Bytes of its body that are there.
    pub body: u64,
    /// Bytes of the cache that it takes.
    pub weight: u64,
    /// First and last byte, if it is a part.
    pub part: Option<(u64, u64)>,
    /// Fields by which it varies.
    pub vary: Vec<String>,
    /// Fields of its head that speak of it: type, validators, tags, `Cache-Control`.
    pub fields: Vec<(String, String)>,
}

/// What would become of a request at the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which route takes it.
    pub explained: Explained,
    /// It would be answered from the cache.
    pub is_hit: bool,
    /// One word: `hit`, `stale`, `blocked`, `no-cache-rule`, ... or the reason why not.
    pub word: &'static str,
    /// Why it is not a hit, and what would make it one.
    pub sentence: String,
    /// Keys under which it is looked for, as text.
    pub keys: Vec<String>,
    /// What is stored of its path.
    pub stored: Vec<Stored>,
}

/// Fields that [`Stored::fields`] has, in lower case.
const FIELDS: [&str; 10] = [
    "age",
    "cache-control",
    "cdn-cache-control",
    "content-encoding",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "vary",
];

impl Shared {
    /// What the cache holds and what happened in it.
    pub fn cache_stats(&self) -> Stats {
        self.cache.stats()
    }

    /// Purges. It has taken effect when this returns. With a cache on disk it waits for that.
    pub fn cache_purge(&self, purge: &Purge<'_>, soft: bool) -> std::io::Result<Purged> {
        self.cache.purge(purge, soft)
    }

    /// Keeps what is worth it in a directory, too. Waits for the disk.
    pub fn cache_attach(&self, directory: &Path, size: u64) -> Result<(), OpenError> {
        self.cache.attach(directory, size)
    }

    /// There will be a directory, which another process still has: purges wait for it.
    pub fn cache_expect(&self) {
        self.cache.expect();
    }

    /// There will be none.
    pub fn cache_expect_no_more(&self) {
        self.cache.expect_no_more();
    }

    /// Lets go of the directory. Waits for the disk, until the deadline.
    pub fn cache_release(&self, deadline: Instant) {
        self.cache.release(deadline);
    }

    /// What is on disk and what happened there; none: the cache has no directory.
    pub fn cache_disk(&self) -> Option<DiskStats> {
        self.cache.disk()
    }

    /// Another process serves from now on: what is purged there would not be purged here, so nothing is answered from here any more,
    /// and `PURGE` is refused.
    pub fn hand_over_cache(&self) {
        self.handed_over.store(true, Ordering::Release);
    }

    /// Was it?
    pub fn has_handed_over_cache(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// There is no room for anything any more.
    pub fn cache_forget(&self) {
        self.cache.set_memory(0);
    }

    /// Looks at `budget` objects for what purges cover. True: a round has ended, or there is nothing to do.
    pub fn cache_sweep(&self, budget: usize) -> bool {
        self.cache.sweep(budget)
    }

    /// Answers an address with a status from now on, and purges it.
    pub fn block(&self, pattern: Pattern<'_>, blocked: Blocked, now_ms: u64) -> Result<(), Full> {
        self.cache.block(pattern, blocked, now_ms)
    }

    /// As [`Shared::block`], of what was blocked and purged by the process before.
    pub fn block_again(
        &self,
        pattern: Pattern<'_>,
        blocked: Blocked,
        now_ms: u64,
    ) -> Result<(), Full> {
        self.cache.block_again(pattern, blocked, now_ms)
    }

    /// Takes that back. False: it was not so.
    pub fn unblock(&self, pattern: Pattern<'_>) -> bool {
        self.cache.unblock(pattern)
    }

    /// Everything that is blocked.
    pub fn blocks(&self) -> Vec<Block> {
        self.cache.blocks()
    }
}

/// A question as the data path would see the request.
struct Asked<'a> {
    runtime: &'a Runtime,
    shared: &'a Shared,
    explained: &'a Explained,
    method: &'a str,
    client: IpAddr,
    fields: &'a Vec<(String, Vec<u8>)>,
    head: Head<'a>,
    https: bool,
    port: u16,
    now_ms: u64,
}

/// The answer: is it a hit, the word, the sentence.
type Verdict = (bool, &'static str, String);

impl Runtime {
    /// What would become of a request at the cache; the error says what is wrong with the question.
    pub fn cache_why(
        &self,
        shared: &Shared,
        question: &Question<'_>,
        now_ms: u64,
    ) -> Result<Told, String> {
        let explained = self.explain(question)?;
        let https = question.url.starts_with("https://");
        let raw = raw_request(question, &explained)?;
        let mut index = Index::default();
        let unreadable = || "this is no request: see its method and its header lines".to_owned();
        let limits = self
            .listeners
            .get(explained.listener)
            .map(|plan| plan.head_limits);
        let limits = limits.ok_or_else(|| "there is no listener".to_owned())?;
        match scan::request(&raw, &mut index, &limits) {
            Ok(Progress::Complete(end)) if end == raw.len() => {}
            _ => return Err(unreadable()),
        }
        let head = Head::new(&raw, &index);
        let facts = validate::request(head).map_err(|reject| {
            format!(
                "the request is refused ({}): the proxy answers {}",
                reject.word(),
                reject.status()
            )
        })?;
        let authority = narthex_message::authority::parse(facts.authority.of(&raw));
        let own = if https { 443 } else { 80 };
        let fields: Vec<(String, Vec<u8>)> = question
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
            .collect();
        let asked = Asked {
            runtime: self,
            shared,
            explained: &explained,
            method: question.method,
            client: question.client,
            fields: &fields,
            head,
            https,
            port: authority.map_or(own, |authority| authority.port_or(own)),
            now_ms,
        };
        let keys = asked.keys();
        let (is_hit, word, sentence) = asked.verdict(&facts, &keys);
        Ok(Told {
            is_hit,
            word,
            sentence,
            stored: asked.stored(&keys),
            keys: keys.iter().map(|key| shown(key)).collect(),
            explained,
        })
    }
}

impl Asked<'_> {
    fn route(&self) -> Option<&Route> {
        let site = self.runtime.config.sites.get(self.explained.site?)?;
        site.routes.get(self.explained.route?)
    }

    fn rule(&self) -> Option<&CacheRule> {
        self.route()?.settings.cache.as_deref()
    }

    fn query(&self) -> Option<&[u8]> {
        let target = self.head.target();
        narthex_message::path::split_target(target).1
    }

    /// Every key under which the request may be looked for; none if a rewrite of the route has part in it.
    fn keys(&self) -> Vec<Vec<u8>> {
        let (Some(route), Some(rule)) = (self.route(), self.rule()) else {
            return Vec::new();
        };
        if keyed::rewrites(route) {
            return Vec::new();
        }
        let parts = key::Parts {
            https: self.https,
            host: &self.explained.host,
            port: self.port,
            path: self.explained.path.as_bytes(),
            query: self.query(),
            request: self.head,
        };
        let clusters = &self.runtime.clusters;
        keyed::upstreams(route)
            .into_iter()
            .map(|upstream| {
                let mut key = Vec::new();
                key::build(&parts, &rule.key, &mut key);
                let name = clusters.get(upstream).map_or("", |cluster| cluster.name());
                keyed::place(&route.name, name, &mut key);
                key
            })
            .collect()
    }

    fn stored(&self, keys: &[Vec<u8>]) -> Vec<Stored> {
        let tags = self.rule().map(|rule| rule.tags_from.as_slice());
        let (host, path) = (&self.explained.host, self.explained.path.as_bytes());
        let found = self.shared.cache.at(host, path, SHOWN);
        let mut all: Vec<Stored> = found
            .iter()
            .map(|(object, soft)| Stored {
                is_exact: keys
                    .iter()
                    .any(|key| **key == *object.key() || key::is_slice_of(object.key(), key)),
                soft: *soft,
                ..stored(object, tags.unwrap_or_default(), self.now_ms)
            })
            .collect();
        all.sort_by_key(|stored| (!stored.is_exact, stored.age_s));
        all
    }

    fn verdict(&self, facts: &validate::RequestFacts, keys: &[Vec<u8>]) -> Verdict {
        let e = self.explained;
        let not = |word, sentence: String| (false, word, sentence);
        if let Some(blocked) =
            self.shared
                .cache
                .blocked(&e.host, e.path.as_bytes(), self.query(), self.now_ms)
        {
            return not(
                "blocked",
                format!(
                    "The address is taken down and answered with {} ({}); `narthex cache unblock` takes that back.",
                    blocked.status, blocked.reason
                ),
            );
        }
        let Some(site) = e.site else {
            return not(
                "no-site",
                format!(
                    "No site answers for {}; a site with that host could have a cache.",
                    e.host
                ),
            );
        };
        let (Some(number), Some(route)) = (e.route, self.route()) else {
            return not(
                "no-route",
                "No route takes the request, so that it is answered 404; a route with `cache` could answer it.".to_owned(),
            );
        };
        if keyed::upstreams(route).is_empty() {
            return not(
                "no-origin",
                format!(
                    "The route {} answers by itself; only what comes from an upstream is cached.",
                    route.name
                ),
            );
        }
        let Some(rule) = self.rule() else {
            return not(
                "no-cache-rule",
                format!(
                    "The route {} has no `cache`; with it the answer could be stored.",
                    route.name
                ),
            );
        };
        let because = |why: Why| not(why.word(), why.sentence().to_owned());
        let asked = match policy::asks(self.head, facts) {
            Ok(asked) => asked,
            Err(why) => return because(why),
        };
        let query = Query {
            host: &e.host,
            path: &e.path,
            method: self.method,
            client: self.client,
            query: self.query().unwrap_or_default(),
            fields: self.fields,
        };
        if self.runtime.router().bypasses_cache(site, number, &query) {
            return because(Why::Bypass);
        }
        if keyed::rewrites(route) {
            return not(
                "rewritten",
                format!(
                    "The route {} rewrites its target, which is part of the key, so that only a request itself can tell; `Cache-Status` of an answer says it.",
                    route.name
                ),
            );
        }
        let all: Vec<Verdict> = keys
            .iter()
            .map(|bytes| self.under(bytes, rule, &asked, site))
            .collect();
        let hit = all.iter().find(|(is_hit, ..)| *is_hit);
        hit.or(all.first())
            .cloned()
            .unwrap_or_else(|| because(Why::Miss))
    }

    fn key<'k>(&'k self, bytes: &'k [u8], site: usize) -> Key<'k> {
        let e = self.explained;
        Key::new(bytes, &e.host, e.path.as_bytes(), site as u32)
    }

    fn peek(&self, bytes: &[u8], rule: &CacheRule, site: usize) -> Found {
        let key = self.key(bytes, site);
        let is_slice = key::is_slice(bytes);
        let mut variant = |names: &[Box<[u8]>], out: &mut Vec<u8>| {
            let names: Vec<Box<[u8]>> = names
                .iter()
                .filter(|name| !is_slice || key::varies_slice(name))
                .cloned()
                .collect();
            key::variant(&names, self.head, rule, out);
        };
        self.shared.cache.peek(&key, &mut variant, self.now_ms)
    }

    fn is_on_disk(&self, bytes: &[u8], site: usize) -> bool {
        self.shared.cache.on_disk(&self.key(bytes, site))
    }

    /// What is there under one key; of what is kept in slices, the first that the request needs.
    fn under(&self, bytes: &[u8], rule: &CacheRule, asked: &policy::Asked, site: usize) -> Verdict {
        let because = |why: Why| (false, why.word(), why.sentence().to_owned());
        let mut found = self.peek(bytes, rule, site);
        let mut is_on_disk = self.is_on_disk(bytes, site);
        if let Some(size) = rule.slice
            && !matches!(found, Found::Ready { .. } | Found::Filling(_))
        {
            let mut slice = Vec::new();
            key::slice(bytes, size, key::NO_SLICES, &mut slice);
            if let Found::HitForMiss(why) = self.peek(&slice, rule, site) {
                return because(why);
            }
            let number = Slice::of(policy::first_byte(self.head, None), size).number;
            key::slice(bytes, size, number, &mut slice);
            found = self.peek(&slice, rule, site);
            is_on_disk |= self.is_on_disk(&slice, site);
        }
        match found {
            Found::Ready { object, soft } => {
                let meta = object.meta();
                let part = meta.part.is_some()
                    && !key::is_slice(object.key())
                    && (!asked.range
                        || policy::part_ranges(self.head, &meta, object.head()).is_none());
                if part {
                    return because(Why::Part);
                }
                let ttl = policy::ttl_s(&meta, self.now_ms);
                match policy::choose(&meta, asked, soft, self.now_ms) {
                    Choice::Fresh { age_s } => (
                        true,
                        "hit",
                        format!("It is a hit: {age_s} s old, and fresh for {ttl} s more."),
                    ),
                    Choice::Stale { .. } => (
                        true,
                        "stale",
                        "It is a hit, although stale: `stale-while-revalidate` allows it while the origin is asked anew.".to_owned(),
                    ),
                    Choice::Ask(why) => because(why),
                }
            }
            Found::Filling(_) => (
                true,
                "filling",
                "It is being fetched; a request now would wait for that fetch and be answered from it.".to_owned(),
            ),
            Found::HitForMiss(why) => {
                let (_, word, sentence) = because(why);
                (false, word, format!("The last answer was not stored, and requests pass for a while. {sentence}"))
            }
            Found::Missing { .. } if is_on_disk => (
                false,
                "on-disk",
                "Something is on disk under the key, and not in memory; the next request reads it, and is answered from it unless it is stale, purged or of another variant.".to_owned(),
            ),
            Found::Missing { vary: true } => because(Why::VaryMiss),
            Found::Missing { vary: false } => (
                false,
                Why::Miss.word(),
                "Nothing is stored under the key: it was not asked for yet, or what came was not stored (see `narthex_cache_not_stored_total`), was purged or evicted; the next request finds it if the answer may be stored.".to_owned(),
            ),
        }
    }
}

/// The request's head as a client of HTTP/1.1 would send it.
fn raw_request(question: &Question<'_>, explained: &Explained) -> Result<Vec<u8>, String> {
    let rest = question.url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let mut target = explained.path.clone();
    let without_fragment = rest.split('#').next().unwrap_or_default();
    if let Some((_, query)) = without_fragment.split_once('?') {
        target.push('?');
        target.push_str(query);
    }
    let mut raw = format!("{} {target} HTTP/1.1\r\n", question.method);
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    if !question.headers.iter().any(|(name, _)| is_host(name)) {
        let _ = write!(raw, "Host: {authority}\r\n");
    }
    for (name, value) in question.headers {
        if value.contains(['\r', '\n']) || name.contains(['\r', '\n']) {
            return Err(format!("the header line \"{name}\" has a line feed in it"));
        }
        let _ = write!(raw, "{name}: {value}\r\n");
    }
    raw.push_str("\r\n");
    Ok(raw.into_bytes())
}

fn stored(object: &Object, tags: &[String], now_ms: u64) -> Stored {
    let meta = object.meta();
    let (https, port) = key::origin(object.key()).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let head = text(object.head());
    let is_shown = |name: &str| {
        FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field))
            || tags.iter().any(|field| name.eq_ignore_ascii_case(field))
    };
    Stored {
        https,
        port,
        is_exact: false,
        status: meta.status,
        age_s: policy::age_s(&meta, now_ms),
        ttl_s: policy::ttl_s(&meta, now_ms),
        soft: false,
        is_complete: object.body.is_complete(),
        body: object.body.len(),
        weight: object.weight(),
        part: meta.part,
        vary: object.vary().iter().map(|name| text(name)).collect(),
        fields: head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| is_shown(name))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
    }
}

/// A key as text; what is no text as `.`, so that nothing of it moves a terminal.
fn shown(key: &[u8]) -> String {
    let (head, rest) = key.split_at_checked(3).unwrap_or((key, &[]));
    let origin = key::origin(head).unwrap_or_default();
    let mut out = format!("{}:{} ", if origin.0 { "https" } else { "http" }, origin.1);
    let letter = |byte: &u8| {
        if byte.is_ascii_graphic() {
            char::from(*byte)
        } else {
            '.'
        }
    };
    out.extend(rest.iter().map(letter));
    out
}
