//! The cache: the store, and the rules.

use std::path::PathBuf;

use crate::model::{CacheDisk, CacheKey, CacheProfile, CacheQuery, CacheRule, CacheStore, Config};
use crate::raw::{Item, Val};
use crate::source::Span;

use super::context::{Context, set};
use super::{address, headers, matcher};

/// Names in one list: fields, cookies, parameters, languages.
const MAX_NAMES: usize = 64;

/// Bytes of a slice.
const SLICES: std::ops::RangeInclusive<u64> = 64 << 10..=64 << 20;
/// Smallest size of a cache on disk: below it a segment, which goes as a whole, is next to nothing.
const DISK_MIN: u64 = 8 * 1024 * 1024;

/// The store of the process.
pub fn store(ctx: &mut Context<'_>, item: &Item<'_>, store: &mut CacheStore) {
    set(&mut store.memory, item.bytes("memory"));
    if let Some(disk) = item.child("disk") {
        store.disk = self::disk(ctx, disk);
    }
}

fn disk(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<CacheDisk> {
    let (text, span) = item.arg_text(0)?;
    let directory = PathBuf::from(text);
    let is_absolute = directory.is_absolute() && directory.parent().is_some();
    if !is_absolute {
        ctx.error(
            "bad-directory",
            span,
            format!("\"{text}\" cannot be the directory of a cache"),
            "write a whole path, of a directory that is the cache's alone, such as \"/var/cache/narthex\"",
        );
    }
    let size = item.bytes("size")?;
    if size < DISK_MIN {
        ctx.error(
            "too-small",
            item.prop("size").map_or(item.span, |given| given.span),
            "a cache on disk of this size is of no use",
            format!("write \"{}\" or more", super::text::size(DISK_MIN)),
        );
    }
    is_absolute.then_some(CacheDisk { directory, size })
}

/// Who may write to the cache's directory decides what is served: it must be nobody else's.
pub fn check_directory(ctx: &mut Context<'_>, item: &Item<'_>, config: &Config) {
    let Some((text, span)) = item.child("disk").and_then(|disk| disk.arg_text(0)) else {
        return;
    };
    if config.cache.disk.is_some() && config.acme.storage.starts_with(text) {
        ctx.error(
            "shared-directory",
            span,
            format!("\"{text}\" is where `acme` keeps its keys, or above it"),
            "give the cache a directory of its own, such as \"/var/cache/narthex\"",
        );
    }
}

/// A rule. `None`: nothing is cached.
pub fn rule(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Box<CacheRule>> {
    if !item.switch() {
        return None;
    }
    let mut rule = CacheRule::default();
    if let Some(("rfc9111", _)) = item.text("profile") {
        rule.profile = CacheProfile::Rfc9111;
    }
    rule.ttl = item.duration("ttl");
    rule.ttl_override = item.duration("ttl-override");
    rule.ttl_max = item.duration("ttl-max");
    rule.stale_while_revalidate = item.duration("stale-while-revalidate");
    rule.stale_if_error = item.duration("stale-if-error");
    set(&mut rule.hit_for_miss, item.duration("hit-for-miss"));
    set(&mut rule.object_max, item.bytes("object-max"));
    rule.slice = slice(ctx, item, rule.object_max);
    rule.quota = item.bytes_or_none("quota").flatten();
    set(&mut rule.lock_wait, item.duration("lock-wait"));
    set(&mut rule.lock_age, item.duration("lock-age"));
    set(&mut rule.vary_max, item.int("vary-max"));
    set(&mut rule.strip_set_cookie, item.bool("strip-set-cookie"));
    set(&mut rule.store_compressed, item.bool("store-compressed"));
    set(&mut rule.status_field, item.bool("status-field"));
    if let Some((text, span)) = item.text("tags-from") {
        rule.tags_from = fields(ctx, split(text).map(|name| (name, span)));
    }
    if let (Some(all), Some(max)) = (rule.ttl_override, rule.ttl_max)
        && all > max
    {
        ctx.warning(
            "unused-key",
            item.name_span,
            "`ttl-override=` is longer than `ttl-max=`, which counts",
            "leave one of them out",
        );
    }
    if let Some(key) = item.child("key") {
        rule.key = self::key(ctx, key);
    }
    for negative in item.all("negative") {
        self::negative(negative, &mut rule);
    }
    if let Some(bypass) = item.child("bypass") {
        rule.bypass = matcher::nested(ctx, bypass);
    }
    if let Some(purge) = item.child("purge") {
        rule.purge_from = address::networks(ctx, purge.texts());
    }
    Some(Box::new(rule))
}

/// `slice=`: each one is an object of its own, which has to be kept.
fn slice(ctx: &mut Context<'_>, item: &Item<'_>, object_max: u64) -> Option<u64> {
    let slice = item.bytes("slice")?;
    let span = item.prop("slice").map_or(item.span, |given| given.span);
    if !SLICES.contains(&slice) {
        ctx.error(
            "out-of-range",
            span,
            "`slice=` is out of range",
            "write a size from \"64KiB\" to \"64MiB\", such as \"4MiB\"",
        );
    } else if slice > object_max {
        ctx.error(
            "slice-too-large",
            span,
            "a slice is larger than `object-max=`, so that none would be kept",
            "write a smaller `slice=`, or a larger `object-max=`",
        );
    }
    Some(slice)
}

fn negative(item: &Item<'_>, rule: &mut CacheRule) {
    let Some(ttl) = item.duration("ttl") else {
        return;
    };
    for given in &item.args {
        let Val::Statuses(from, to) = given.val else {
            continue;
        };
        for status in from..=to {
            rule.negative.retain(|(s, _)| *s != status);
            rule.negative.push((status, ttl));
        }
    }
    rule.negative.sort_unstable();
}

fn key(ctx: &mut Context<'_>, item: &Item<'_>) -> CacheKey {
    let mut key = CacheKey::default();
    if let Some(query) = item.child("query") {
        key.query = self::query(ctx, query);
    }
    key.sort_query = item.child("sort-query").is_some_and(Item::switch);
    key.strip_tracking = item.child("strip-tracking").is_some_and(Item::switch);
    key.device = item.child("device").is_some_and(Item::switch);
    if let Some(header) = item.child("header") {
        key.headers = fields(ctx, header.texts());
    }
    if let Some(cookie) = item.child("cookie") {
        for (name, span) in cookie.texts() {
            if headers::is_token(name) {
                key.cookies.push(name.to_owned());
            } else {
                ctx.error(
                    "bad-cookie",
                    span,
                    format!("\"{}\" is not the name of a cookie", name.escape_default()),
                    "write letters, digits, `-` and `_`",
                );
            }
        }
    }
    if let Some(language) = item.child("language") {
        for (name, span) in language.texts() {
            let good = !name.is_empty()
                && name.len() <= 35
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if good {
                key.languages.push(name.to_ascii_lowercase());
            } else {
                ctx.error(
                    "bad-language",
                    span,
                    format!("\"{}\" is not a language", name.escape_default()),
                    "write \"en\" or \"pt-br\"",
                );
            }
        }
    }
    for (list, what) in [
        (&key.headers, "fields"),
        (&key.cookies, "cookies"),
        (&key.languages, "languages"),
    ] {
        bound(ctx, list.len(), what, item.name_span);
    }
    key
}

fn query(ctx: &mut Context<'_>, item: &Item<'_>) -> CacheQuery {
    let names = |text: &str| split(text).map(str::to_owned).collect::<Vec<_>>();
    let (which, only, except) = (item.arg_text(0), item.text("only"), item.text("except"));
    let said = [which.is_some(), only.is_some(), except.is_some()];
    if said.iter().filter(|s| **s).count() > 1 {
        ctx.error(
            "two-queries",
            item.name_span,
            "`query` says twice which parameters count",
            "keep the word, `only=` or `except=`",
        );
        return CacheQuery::All;
    }
    let chosen = match (which, only, except) {
        (Some(("none", _)), ..) => CacheQuery::None,
        (_, Some((text, _)), _) => CacheQuery::Only(names(text)),
        (_, _, Some((text, _))) => CacheQuery::Except(names(text)),
        _ => CacheQuery::All,
    };
    if let CacheQuery::Only(list) | CacheQuery::Except(list) = &chosen {
        bound(ctx, list.len(), "parameters", item.name_span);
    }
    chosen
}

fn bound(ctx: &mut Context<'_>, count: usize, what: &str, span: Span) {
    if count > MAX_NAMES {
        ctx.error(
            "too-many",
            span,
            format!("there are at most {MAX_NAMES} {what} in a key"),
            "leave some out",
        );
    }
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty())
}

fn fields<'a>(ctx: &mut Context<'_>, names: impl Iterator<Item = (&'a str, Span)>) -> Vec<String> {
    let mut out = Vec::new();
    for (name, span) in names {
        if headers::check_name(ctx, name, span) {
            out.push(name.to_owned());
        }
    }
    out
}
