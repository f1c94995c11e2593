//! What is cached: the process's store, and a route's rule.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Condition;

/// The store of the process: `cache` at the top of the file.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct CacheStore {
    /// Bytes in memory: bodies, heads and bookkeeping.
    pub memory: u64,
    /// The second tier, if there is one.
    pub disk: Option<CacheDisk>,
}

impl Default for CacheStore {
    fn default() -> Self {
        Self {
            memory: 256 * 1024 * 1024,
            disk: None,
        }
    }
}

/// Objects on disk.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct CacheDisk {
    /// A directory that is the cache's own.
    pub directory: PathBuf,
    /// Bytes on disk at most, bookkeeping included.
    pub size: u64,
}

/// How much of what the RFC allows is done.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq, Default)]
pub enum CacheProfile {
    /// What an operator wants: no answer with `Set-Cookie`, no heuristic freshness, no errors.
    #[default]
    Safe,
    /// Everything that RFC 9111 allows a shared cache.
    Rfc9111,
}

/// A route's rule: `cache` in a route, a policy or a site.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct CacheRule {
    /// How much of what the RFC allows is done.
    pub profile: CacheProfile,
    /// Lifetime of an answer that may be stored and says nothing of its own; none: it is not stored (`safe`).
    pub ttl: Option<Duration>,
    /// Lifetime whatever the origin says, of answers that it lets be stored.
    pub ttl_override: Option<Duration>,
    /// No lifetime is longer.
    pub ttl_max: Option<Duration>,
    /// Answers of these statuses that say nothing of their own are kept so long.
    pub negative: Vec<(u16, Duration)>,
    /// Served stale while it is asked anew, if the origin does not say how long.
    pub stale_while_revalidate: Option<Duration>,
    /// Served stale while the origin fails, if the origin does not say how long.
    pub stale_if_error: Option<Duration>,
    /// How long a key whose answer may not be stored passes without waiting.
    pub hit_for_miss: Duration,
    /// Largest object, in bytes.
    pub object_max: u64,
    /// Large objects are fetched and kept in slices of so many bytes; none: whole.
    pub slice: Option<u64>,
    /// Bytes of all objects of this site in memory; none: no bound but the store's.
    pub quota: Option<u64>,
    /// A follower waits so long for a head.
    pub lock_wait: Duration,
    /// A fetch without a head has no new followers after so long.
    pub lock_age: Duration,
    /// Variants of one key.
    pub vary_max: usize,
    /// Response fields that name tags; `Surrogate-Key` and `Cache-Tag` separate by spaces and commas.
    pub tags_from: Vec<String>,
    /// `Set-Cookie` is taken out of answers that are stored, instead of keeping them from being stored.
    pub strip_set_cookie: bool,
    /// The origin is asked for gzip, which is stored once for all clients, and decoded for those that do not take it.
    pub store_compressed: bool,
    /// Requests for which any of these holds are passed, and their answers not stored.
    pub bypass: Vec<Condition>,
    /// `Cache-Status` on answers (RFC 9211).
    pub status_field: bool,
    /// What the key is made of, beside scheme, host, port, path.
    pub key: CacheKey,
    /// Clients that may say `PURGE`; empty: nobody may.
    pub purge_from: super::IpSet,
}

/// What the key is made of.
#[derive(Debug, Clone, Serialize, PartialEq, Default)]
pub struct CacheKey {
    /// The query.
    pub query: CacheQuery,
    /// Parameters in order of their names.
    pub sort_query: bool,
    /// `utm_*`, `gclid`, `fbclid` and their like are left out.
    pub strip_tracking: bool,
    /// Request fields whose values are part of it.
    pub headers: Vec<String>,
    /// Cookies whose values are part of it.
    pub cookies: Vec<String>,
    /// `phone`, `tablet`, `desktop` by `User-Agent`: part of it.
    pub device: bool,
    /// The best of these languages by `Accept-Language` is part of it.
    pub languages: Vec<String>,
}

/// Which parameters of the query are part of the key.
#[derive(Debug, Clone, Serialize, PartialEq, Default)]
pub enum CacheQuery {
    /// The query as it was sent.
    #[default]
    All,
    /// None.
    None,
    /// These.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

impl Default for CacheRule {
    fn default() -> Self {
        Self {
            profile: CacheProfile::default(),
            ttl: None,
            ttl_override: None,
            ttl_max: None,
            negative: Vec::new(),
            stale_while_revalidate: None,
            stale_if_error: None,
            hit_for_miss: Duration::from_mins(2),
            object_max: 64 * 1024 * 1024,
            slice: None,
            quota: None,
            lock_wait: Duration::from_secs(5),
            lock_age: Duration::from_secs(30),
            vary_max: 64,
            tags_from: vec!["Surrogate-Key".to_owned(), "Cache-Tag".to_owned()],
            strip_set_cookie: false,
            store_compressed: false,
            bypass: Vec::new(),
            status_field: true,
            key: CacheKey::default(),
            purge_from: super::IpSet::default(),
        }
    }
}
