//! The cache, as an operator asks of it: what is stored, why something is not a hit, what shall be forgotten or taken down.

mod blocks;
pub(crate) mod directory;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use narthex_proxy::control::{Blocked, DiskStats, Pattern, Purge, Stats, Stored};
use narthex_proxy::explain::Question;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::command::{ExplainRequest, Explanation};
use crate::plane::{Runtime, Shared};

/// Between two turns of the sweeper.
const SWEEP: Duration = Duration::from_millis(250);
/// Objects that it looks at under one lock, and how many times in a turn.
const LOOKED: usize = 1_024;
const LOOKS: usize = 32;
/// Longest time that an address can be blocked for: a year.
const LONGEST_BLOCK: Duration = Duration::from_hours(24 * 366);
/// Longest address, prefix, host or tag, in bytes.
const LONGEST: usize = 8_192;

/// What to do.
#[derive(Debug, Clone)]
pub enum Ask {
    /// What would become of this request at the cache, and what is stored of its address?
    Look(ExplainRequest),
    /// Forget.
    Purge(PurgeRequest),
    /// Answer an address with a status, and forget it.
    Block(BlockRequest),
    /// Take that back.
    Unblock(UnblockRequest),
}

/// What to forget: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeRequest {
    /// An address: its path, whatever the scheme, port, query, route and variant.
    pub url: Option<String>,
    /// Every address that begins so, whatever its scheme and port.
    pub prefix: Option<String>,
    /// Everything of a host.
    pub host: Option<String>,
    /// Everything with a tag.
    pub tag: Option<String>,
    /// Everything.
    pub everything: bool,
    /// It becomes stale instead of going.
    pub soft: bool,
}

/// What to take down: one of `url` and `prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRequest {
    /// An address. With a query only that one; without, whatever the query.
    #[serde(default)]
    pub url: Option<String>,
    /// Every address that begins so.
    #[serde(default)]
    pub prefix: Option<String>,
    /// 451 or 410.
    #[serde(default = "legal")]
    pub status: u16,
    /// For the list and the log; clients do not see it.
    pub reason: String,
    /// So long, such as `30d`; until it is taken back if absent.
    #[serde(default, rename = "for")]
    pub lasts: Option<String>,
}

fn legal() -> u16 {
    451
}

/// What to take back: one of these, as it was blocked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnblockRequest {
    /// An address.
    pub url: Option<String>,
    /// A beginning of addresses.
    pub prefix: Option<String>,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// What is asked makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It is not there.
    #[error("{0}")]
    Missing(String),
    /// There is no room for one more.
    #[error("{0}")]
    Full(String),
    /// It is done, and a restart may undo it: it could not be written down.
    #[error("{0}")]
    Unwritten(String),
    /// Another process has taken over.
    #[error("another process serves by now; ask again")]
    Elsewhere,
}

impl Ask {
    /// Only a question.
    pub(crate) fn is_look(&self) -> bool {
        matches!(self, Self::Look(_))
    }

    /// Does it. With a cache on disk, whatever changes something waits for that.
    pub(crate) fn answer(
        &self,
        runtime: &Runtime,
        shared: &Shared,
    ) -> Result<Explanation, CacheError> {
        match self {
            Self::Look(request) => look(runtime, shared, request),
            Self::Purge(request) => purge(runtime, shared, request),
            Self::Block(request) => block(runtime, shared, request),
            Self::Unblock(request) => {
                let place = Place::of(runtime, request.url.as_deref(), request.prefix.as_deref())?;
                if !shared.unblock(place.pattern()) {
                    let why = format!(
                        "{place} is not blocked; `narthex cache blocks` lists what is, and it is taken back as it was blocked"
                    );
                    return Err(CacheError::Missing(why));
                }
                write_down(runtime, shared, "unblocked")?;
                Ok(told(
                    format!("unblocked {place}"),
                    json!({ "unblocked": place.to_string() }),
                ))
            }
        }
    }
}

/// Takedowns outlive the process if there is a directory.
fn write_down(runtime: &Runtime, shared: &Shared, done: &str) -> Result<(), CacheError> {
    let Some(disk) = &runtime.config().cache.disk else {
        return Ok(());
    };
    blocks::save(&disk.directory, shared, now_ms()).map_err(|error| unwritten(done, &error))
}

fn unwritten(done: &str, error: &std::io::Error) -> CacheError {
    CacheError::Unwritten(format!(
        "{done}, but that cannot be written to the cache's directory, so that a restart would undo it: {error}"
    ))
}

fn told(text: String, details: serde_json::Value) -> Explanation {
    Explanation { text, details }
}

fn look(
    runtime: &Runtime,
    shared: &Shared,
    request: &ExplainRequest,
) -> Result<Explanation, CacheError> {
    let question = Question {
        method: &request.method,
        url: &request.url,
        headers: &request.headers,
        client: request.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        listener: request.listener.as_deref(),
    };
    let told = runtime
        .cache_why(shared, &question, now_ms())
        .map_err(CacheError::Invalid)?;
    let e = &told.explained;
    let config = runtime.config();
    let site = e.site.and_then(|site| config.sites.get(site));
    let route = site.and_then(|site| site.routes.get(e.route?));
    let rule = route.and_then(|route| route.settings.cache.as_ref());
    let stored: Vec<_> = told.stored.iter().map(object).collect();
    let details = json!({
        "hit": told.is_hit,
        "word": told.word,
        "sentence": told.sentence,
        "host": e.host,
        "path": e.path,
        "site": site.map(|site| &site.name),
        "route": route.map(|route| &route.name),
        "origin": route.map(|route| format!("{}:{}", route.origin.file, route.origin.line)),
        "rule": rule,
        "keys": told.keys,
        "objects": stored,
    });
    let mut text = format!("{}\n", told.sentence);
    if let Some(site) = site {
        let _ = writeln!(text, "site      {}", site.name);
    }
    if let Some(route) = route {
        let (file, line) = (&route.origin.file, route.origin.line);
        let _ = writeln!(text, "route     {}  ({file}:{line})", route.name);
    }
    if let Some(rule) = rule {
        let _ = writeln!(
            text,
            "rule      cache {}",
            format!("{:?}", rule.profile).to_lowercase()
        );
    }
    for key in &told.keys {
        let _ = writeln!(text, "key       {key}");
    }
    let _ = writeln!(text, "stored    {} of this path", told.stored.len());
    Ok(self::told(text, details))
}

fn object(stored: &Stored) -> serde_json::Value {
    let fields: serde_json::Map<String, serde_json::Value> = stored
        .fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), json!(value)))
        .collect();
    json!({
        "scheme": if stored.https { "https" } else { "http" },
        "port": stored.port,
        "exact": stored.is_exact,
        "status": stored.status,
        "age_seconds": stored.age_s,
        "ttl_seconds": stored.ttl_s,
        "soft": stored.soft,
        "complete": stored.is_complete,
        "body_bytes": stored.body,
        "weight_bytes": stored.weight,
        "part": stored.part,
        "vary": stored.vary,
        "fields": fields,
    })
}

fn purge(
    runtime: &Runtime,
    shared: &Shared,
    request: &PurgeRequest,
) -> Result<Explanation, CacheError> {
    let given = [
        request.url.is_some(),
        request.prefix.is_some(),
        request.host.is_some(),
        request.tag.is_some(),
        request.everything,
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        let why = "say what to purge by exactly one of url, prefix, host, tag and everything";
        return Err(CacheError::Invalid(why.to_owned()));
    }
    let place = match (&request.url, &request.prefix) {
        (None, None) => None,
        (url, prefix) => Some(Place::of(runtime, url.as_deref(), prefix.as_deref())?),
    };
    let host = request.host.as_deref().map(canonical_host).transpose()?;
    let what = if let Some(place) = &place {
        place.purge()
    } else if let Some(host) = &host {
        Purge::Host(host)
    } else if let Some(tag) = &request.tag {
        if tag.is_empty() || tag.len() > LONGEST {
            return Err(CacheError::Invalid("a tag has 1 to 8192 bytes".to_owned()));
        }
        Purge::Tag(tag.as_bytes())
    } else {
        Purge::Everything
    };
    let purged = shared
        .cache_purge(&what, request.soft)
        .map_err(|error| unwritten("purged in memory", &error))?;
    let name = match (&place, &host, &request.tag) {
        (Some(place), ..) => place.whole_path(),
        (_, Some(host), _) => format!("host {host}"),
        (.., Some(tag)) => format!("tag {}", printable(tag)),
        _ => "everything".to_owned(),
    };
    let how = if request.soft {
        "purged softly (what is stored is stale)"
    } else {
        "purged"
    };
    let details = json!({ "purged": name, "soft": request.soft, "sequence": purged.sequence });
    Ok(told(format!("{how}: {name}"), details))
}

fn block(
    runtime: &Runtime,
    shared: &Shared,
    request: &BlockRequest,
) -> Result<Explanation, CacheError> {
    let invalid = |why: &str| Err(CacheError::Invalid(why.to_owned()));
    if !matches!(request.status, 451 | 410) {
        return invalid("the status is 451 (for legal reasons) or 410 (gone for good)");
    }
    if request.reason.trim().is_empty() {
        return invalid("say why: a takedown without a reason is one that nobody dares take back");
    }
    let place = Place::of(runtime, request.url.as_deref(), request.prefix.as_deref())?;
    let lasts = match request.lasts.as_deref().map(crate::change::duration) {
        None => None,
        Some(Ok(lasts)) if lasts <= LONGEST_BLOCK => Some(lasts),
        Some(Ok(_)) => {
            return invalid(
                "a block is for a year at most; leave `for` out to block until you say otherwise",
            );
        }
        Some(Err(why)) => return Err(CacheError::Invalid(why)),
    };
    let now_ms = now_ms();
    let blocked = Blocked {
        status: request.status,
        reason: printable(&request.reason).into(),
        until_ms: lasts.map(|lasts| now_ms.saturating_add(millis(lasts))),
    };
    let until = blocked.until_ms.map(|ms| ms / 1_000);
    if runtime.config().cache.disk.is_some() {
        blocks::has_room(shared, place.pattern(), &blocked)
            .map_err(|full| CacheError::Full(full.to_string()))?;
    }
    shared
        .block(place.pattern(), blocked, now_ms)
        .map_err(|full| CacheError::Full(full.to_string()))?;
    write_down(runtime, shared, "blocked")?;
    // once more, and until it is written: what is blocked no more must not be what was stored before
    shared
        .cache_purge(&place.purge(), false)
        .map_err(|error| unwritten("blocked", &error))?;
    let status = request.status;
    let text = format!("blocked with {status}, and purged: {place}");
    let details = json!({ "blocked": place.to_string(), "status": status, "until": until });
    Ok(told(text, details))
}

/// Everything that is blocked.
pub fn blocks(shared: &Shared) -> serde_json::Value {
    let now_ms = now_ms();
    let mut all = shared.blocks();
    all.retain(|block| block.blocked.until_ms.is_none_or(|until| until > now_ms));
    all.sort_by(|a, b| (&a.host, &a.path).cmp(&(&b.host, &b.path)));
    let all: Vec<_> = all
        .iter()
        .map(|block| {
            json!({
                "host": block.host,
                "path": String::from_utf8_lossy(&block.path),
                "prefix": block.is_prefix,
                "status": block.blocked.status,
                "reason": block.blocked.reason,
                "until": block.blocked.until_ms.map(|ms| ms / 1_000),
            })
        })
        .collect();
    json!(all)
}

/// What the cache holds and what happened in it.
pub fn stats(shared: &Shared) -> serde_json::Value {
    let Stats {
        objects,
        bytes,
        memory,
        fills,
        counts,
        purges,
        purge_records,
        blocks,
        ..
    } = shared.cache_stats();
    json!({
        "objects": objects,
        "bytes": bytes,
        "memory": memory,
        "fills": fills,
        "hits": counts.hits,
        "misses": counts.misses,
        "hits_filling": counts.filling,
        "collapsed": counts.followers,
        "hit_for_miss": counts.passes,
        "fetches": counts.leads,
        "stored": counts.stored,
        "cut": counts.cuts,
        "left": counts.left,
        "evictions": counts.evictions,
        "evicted_bytes": counts.evicted_bytes,
        "purges": purges,
        "purge_records": purge_records,
        "purged": counts.purged,
        "blocks": blocks,
        "disk": shared.cache_disk().map(|disk| on_disk(&disk)),
    })
}

fn on_disk(disk: &DiskStats) -> serde_json::Value {
    json!({
        "objects": disk.objects,
        "bytes": disk.bytes,
        "size": disk.size,
        "segments": disk.segments,
        "recovered": disk.is_recovered,
        "paused": disk.paused,
        "hits": disk.hits,
        "admitted": disk.admitted,
        "written": disk.written,
        "skipped": disk.skipped,
        "dropped": disk.dropped,
        "errors": disk.errors,
        "corrupt": disk.corrupt,
    })
}

/// Drops what purges cover, a little at a time, for as long as the process runs.
pub(crate) async fn sweep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for _ in 0..LOOKS {
            if shared.cache_sweep(LOOKED) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// An address or a beginning of addresses, in canonical form.
struct Place {
    host: String,
    path: String,
    /// `path` with `?` and the query, if there was one.
    target: String,
    is_prefix: bool,
}

impl Place {
    fn of(runtime: &Runtime, url: Option<&str>, prefix: Option<&str>) -> Result<Self, CacheError> {
        let (url, is_prefix) = match (url, prefix) {
            (Some(url), None) => (url, false),
            (None, Some(prefix)) => (prefix, true),
            _ => {
                let why = "name an address by exactly one of url and prefix";
                return Err(CacheError::Invalid(why.to_owned()));
            }
        };
        if url.len() > LONGEST {
            return Err(CacheError::Invalid("the address is too long".to_owned()));
        }
        let e = runtime
            .explain(&Question {
                method: "GET",
                url,
                headers: &[],
                client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                listener: None,
            })
            .map_err(CacheError::Invalid)?;
        let target = if url.contains('?') {
            format!("{}?{}", e.path, e.query)
        } else {
            e.path.clone()
        };
        Ok(Self {
            host: e.host,
            path: e.path,
            target,
            is_prefix,
        })
    }

    fn pattern(&self) -> Pattern<'_> {
        Pattern {
            host: &self.host,
            path: self.target.as_bytes(),
            is_prefix: self.is_prefix,
        }
    }

    fn purge(&self) -> Purge<'_> {
        let (host, path) = (self.host.as_str(), self.path.as_bytes());
        if self.is_prefix {
            Purge::Prefix { host, path }
        } else {
            Purge::Path { host, path }
        }
    }

    /// As a purge means it: without a query.
    fn whole_path(&self) -> String {
        let more = if self.is_prefix { "..." } else { "" };
        printable(&format!("{}{}{more}", self.host, self.path))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = if self.is_prefix { "..." } else { "" };
        f.write_str(&printable(&format!("{}{}{more}", self.host, self.target)))
    }
}

/// Nothing of it moves a terminal or begins a line.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

fn canonical_host(host: &str) -> Result<String, CacheError> {
    narthex_proxy::explain::host(host).map_err(CacheError::Invalid)
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
