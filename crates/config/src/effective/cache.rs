//! The cache: the store, and a route's rule.

use std::fmt::Write as _;

use crate::model::{CacheKey, CacheProfile, CacheQuery, CacheRule, CacheStore};

use super::networks;
use super::sites::condition;
use super::writer::{Writer, q, size, time};

pub(super) fn store(store: &CacheStore, out: &mut Writer) {
    let head = format!("cache memory=\"{}\"", size(store.memory));
    match &store.disk {
        None => out.line(head),
        Some(disk) => out.block(head, |out| {
            let directory = q(&disk.directory.to_string_lossy());
            out.line(format!("disk {directory} size=\"{}\"", size(disk.size)));
        }),
    }
}

pub(super) fn rule(rule: &CacheRule, out: &mut Writer) {
    let head = head(rule);
    if rule.key == CacheKey::default()
        && rule.negative.is_empty()
        && rule.bypass.is_empty()
        && rule.purge_from.is_empty()
    {
        out.line(head);
        return;
    }
    out.block(head, |out| {
        if rule.key != CacheKey::default() {
            out.block("key", |out| key(&rule.key, out));
        }
        for (status, ttl) in &rule.negative {
            out.line(format!("negative {status} ttl={}", time(*ttl)));
        }
        if !rule.bypass.is_empty() {
            out.block("bypass", |out| {
                rule.bypass.iter().for_each(|c| condition(c, out));
            });
        }
        if !rule.purge_from.is_empty() {
            out.line(format!("purge {}", networks(&rule.purge_from)));
        }
    });
}

fn head(rule: &CacheRule) -> String {
    let mut head = String::from(match rule.profile {
        CacheProfile::Safe => "cache profile=\"safe\"",
        CacheProfile::Rfc9111 => "cache profile=\"rfc9111\"",
    });
    for (name, value) in [
        ("ttl", rule.ttl),
        ("ttl-override", rule.ttl_override),
        ("ttl-max", rule.ttl_max),
        ("stale-while-revalidate", rule.stale_while_revalidate),
        ("stale-if-error", rule.stale_if_error),
        ("hit-for-miss", Some(rule.hit_for_miss)),
        ("lock-wait", Some(rule.lock_wait)),
        ("lock-age", Some(rule.lock_age)),
    ] {
        if let Some(value) = value {
            let _ = write!(head, " {name}={}", time(value));
        }
    }
    if let Some(slice) = rule.slice {
        let _ = write!(head, " slice=\"{}\"", size(slice));
    }
    let _ = write!(
        head,
        " object-max=\"{}\" quota=\"{}\" vary-max={} tags-from={} strip-set-cookie=#{} store-compressed=#{} status-field=#{}",
        size(rule.object_max),
        rule.quota.map_or("none".to_owned(), size),
        rule.vary_max,
        q(&rule.tags_from.join(",")),
        rule.strip_set_cookie,
        rule.store_compressed,
        rule.status_field
    );
    head
}

fn key(key: &CacheKey, out: &mut Writer) {
    let names = |list: &[String]| list.iter().map(|n| q(n)).collect::<Vec<_>>().join(" ");
    match &key.query {
        CacheQuery::All => {}
        CacheQuery::None => out.line("query \"none\""),
        CacheQuery::Only(list) => out.line(format!("query only={}", q(&list.join(",")))),
        CacheQuery::Except(list) => out.line(format!("query except={}", q(&list.join(",")))),
    }
    for (name, on) in [
        ("sort-query", key.sort_query),
        ("strip-tracking", key.strip_tracking),
        ("device", key.device),
    ] {
        if on {
            out.line(name);
        }
    }
    for (name, list) in [
        ("header", &key.headers),
        ("cookie", &key.cookies),
        ("language", &key.languages),
    ] {
        if !list.is_empty() {
            out.line(format!("{name} {}", names(list)));
        }
    }
}
