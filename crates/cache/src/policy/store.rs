//! Whether an answer is kept, and what it means (RFC 9111 3).

use std::time::Duration;

use narthex_config::model::{CacheProfile, CacheRule};
use narthex_message::field::HOP_BY_HOP;
use narthex_message::validate::{is_nominated, is_token_byte, tokens};
use narthex_message::{Body, FieldId, FieldSet, Head, Span};

use super::cache_control::{self, Response, Scope};
use super::lines::Lines;
use super::{Exchanged, FOREVER_S, Keep, Meta, Why, date, lifetime, ranges};

/// Names in one `Vary`.
const MAX_VARY: usize = 32;
/// Tags of an object.
pub const MAX_TAGS: usize = 128;
/// Bytes of a tag.
pub const MAX_TAG: usize = 256;

/// Their answers depend on what is in no key: conditions, ranges, the connection, the size of the request (CA-06).
const NEVER: &[u16] = &[
    407, 408, 411, 412, 413, 416, 417, 421, 425, 426, 428, 429, 431,
];
/// In `safe` further ones are the client's doing, too.
const NEVER_SAFE: &[u16] = &[400, 401, 403, 405, 406, 414, 415, 501];

/// Statuses that this cache knows (`must-understand`, RFC 9111 5.2.2.3).
fn is_understood(status: u16) -> bool {
    matches!(
        status,
        200..=206 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 425 | 426 | 428 | 429 | 431 | 451 | 500..=505
    )
}

/// What of the body is known from the head.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extent {
    /// Length of the whole representation.
    pub length: Option<u64>,
    /// Of a 206: first and last byte.
    pub part: Option<(u64, u64)>,
}

/// Is the answer to be kept, and what does it mean? `Err`: why not.
pub fn store(exchanged: &Exchanged<'_>) -> Result<Keep, Why> {
    if exchanged.asked.head {
        return Err(Why::Method);
    }
    if exchanged.asked.no_store {
        return Err(Why::RequestNoStore);
    }
    if exchanged.facts.suspicious {
        return Err(Why::Suspicious);
    }
    let extent = extent(exchanged)?;
    keep(exchanged, exchanged.response, extent)
}

fn extent(exchanged: &Exchanged<'_>) -> Result<Extent, Why> {
    let rule = exchanged.rule;
    let length = match exchanged.facts.body {
        Body::None => Some(0),
        Body::Length(n) => Some(n),
        Body::Chunked | Body::UntilClose => None,
    };
    if length.is_some_and(|n| n > rule.object_max) {
        return Err(Why::TooLarge);
    }
    if exchanged.facts.status != 206 {
        return Ok(Extent { length, part: None });
    }
    if !exchanged.asked.range || is_multipart(exchanged.response) {
        return Err(Why::PartialContent);
    }
    part(exchanged.response, length, rule.profile).ok_or(Why::PartialContent)
}

fn is_multipart(response: Head<'_>) -> bool {
    response.get(FieldId::ContentType).is_some_and(|v| {
        v.get(..9)
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart"))
    })
}

/// What a 206 holds, if its `Content-Range` and its length agree.
fn part(response: Head<'_>, body: Option<u64>, profile: CacheProfile) -> Option<Extent> {
    if response.index.repeated.has(FieldId::ContentRange) {
        return None;
    }
    let (first, last, length) = ranges::content_range(response.get(FieldId::ContentRange)?)?;
    let announced = last - first + 1;
    match body {
        Some(n) if n == announced => {}
        None => {}
        // Fewer bytes than announced, up to the end: they are believed to begin where it says and to end where the
        // representation does. Only where everything that can be read is (`rfc9111`).
        Some(n @ 1..)
            if n < announced && length == Some(last + 1) && profile == CacheProfile::Rfc9111 =>
        {
            return Some(Extent {
                length: Some(first + n),
                part: Some((first, first + n - 1)),
            });
        }
        Some(_) => return None,
    }
    Some(Extent {
        length,
        part: Some((first, last)),
    })
}

/// Not of the stored head: of one connection, or written anew for every answer.
const NOT_STORED: FieldSet = HOP_BY_HOP.union(FieldSet::of(&[
    FieldId::Age,
    FieldId::ContentLength,
    FieldId::Host,
    FieldId::Trailer,
]));

/// Decides over `head`, which is the response or, after a 304, the stored head made new.
pub(super) fn keep(exchanged: &Exchanged<'_>, head: Head<'_>, extent: Extent) -> Result<Keep, Why> {
    let rule = exchanged.rule;
    let safe = rule.profile == CacheProfile::Safe;
    let status = head.index.status;
    let (said, targeted) = cache_control::of_response(head, rule.profile);
    permitted(exchanged, &said, status)?;
    let vary = vary(head)?;
    if varies_by_unknown_coding(&vary, head) {
        return Err(Why::Coding);
    }
    let strip_cookies = rule.strip_set_cookie;
    if safe && !strip_cookies && sets_cookie(head, &said) {
        return Err(Why::SetCookie);
    }
    let times = lifetime::Times::of(head, exchanged.sent_ms, exchanged.received_ms);
    let lifetime = lifetime::of(head, &said, targeted, &times, rule)?;

    let (lines, etag) = written(head, &said, strip_cookies, exchanged.received_ms);
    let must_revalidate = said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some();
    let window = |said: Option<u32>, ruled: Option<Duration>| match said {
        _ if must_revalidate => 0,
        Some(said) => said,
        None => ruled.map_or(0, lifetime::seconds),
    };
    let meta = Meta {
        status,
        received_ms: exchanged.received_ms,
        initial_age_s: times.initial_age_s,
        lifetime_s: lifetime.seconds,
        while_revalidate_s: window(said.while_revalidate, rule.stale_while_revalidate),
        if_error_s: window(said.if_error, rule.stale_if_error),
        must_revalidate,
        no_cache: said.no_cache == Scope::All,
        immutable: said.immutable,
        no_transform: said.no_transform,
        heuristic: lifetime.heuristic,
        etag,
        last_modified_s: lines
            .head()
            .get(FieldId::LastModified)
            .filter(|_| !lines.index.repeated.has(FieldId::LastModified))
            .and_then(|v| date::parse(v, exchanged.received_ms / 1000)),
        date_s: times.date_s,
        length: extent.length,
        part: extent.part,
    };
    useful(&meta)?;
    Ok(Keep {
        meta,
        head: lines.bytes,
        vary,
        tags: tags(head, &rule.tags_from),
    })
}

/// May it be stored at all?
fn permitted(exchanged: &Exchanged<'_>, said: &Response, status: u16) -> Result<(), Why> {
    let rule = exchanged.rule;
    if status < 200 || status == 304 || NEVER.contains(&status) {
        return Err(Why::Status);
    }
    if said.must_understand && !is_understood(status) {
        return Err(Why::MustUnderstand);
    }
    // Who says `must-understand` says `no-store` to those who do not understand that (RFC 9111 5.2.2.3).
    if said.no_store && !said.must_understand {
        return Err(Why::NoStore);
    }
    if said.private == Scope::All {
        return Err(Why::Private);
    }
    if exchanged.asked.authorization
        && !(said.public || said.must_revalidate || said.s_maxage.is_some_and(|s| s > 0))
    {
        return Err(Why::Authorization);
    }
    if status >= 400
        && rule.profile == CacheProfile::Safe
        && (NEVER_SAFE.contains(&status) || lifetime::negative(rule, status).is_none())
    {
        return Err(Why::Status);
    }
    Ok(())
}

/// Stale at once, it is of use only if it can be asked about or served stale.
fn useful(meta: &Meta) -> Result<(), Why> {
    let fresh = meta.initial_age_s < meta.lifetime_s && !meta.no_cache;
    let validator = !meta.etag.is_empty() || meta.last_modified_s.is_some();
    let excess = meta.initial_age_s.saturating_sub(meta.lifetime_s);
    let window = meta.while_revalidate_s.max(meta.if_error_s);
    if fresh || validator || (excess < window && !meta.no_cache) {
        Ok(())
    } else if meta.no_cache {
        Err(Why::NoCache)
    } else {
        Err(Why::ZeroLifetime)
    }
}

/// Names in `Vary`, lower case, sorted, each once (RFC 9110 12.5.5).
fn vary(head: Head<'_>) -> Result<Vec<Box<[u8]>>, Why> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    for name in head.all(FieldId::Vary).flat_map(tokens) {
        if name.is_empty() {
            continue;
        }
        if name == b"*" || !name.iter().all(|&b| is_token_byte(b)) || names.len() == MAX_VARY {
            return Err(Why::VaryStar);
        }
        names.push(name.to_ascii_lowercase().into());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The normalised `Accept-Encoding` tells apart who takes zstd, br, gzip and deflate. An answer in another coding would go to
/// clients that do not take it.
fn varies_by_unknown_coding(vary: &[Box<[u8]>], head: Head<'_>) -> bool {
    vary.iter().any(|name| **name == *b"accept-encoding")
        && head
            .all(FieldId::ContentEncoding)
            .flat_map(tokens)
            .any(|coding| {
                ![
                    &b"zstd"[..],
                    b"br",
                    b"gzip",
                    b"x-gzip",
                    b"deflate",
                    b"identity",
                    b"",
                ]
                .iter()
                .any(|known| coding.eq_ignore_ascii_case(known))
            })
}

const SET_COOKIE_2: &[u8] = b"set-cookie2";

fn is_set_cookie(id: FieldId, name: &[u8]) -> bool {
    id == FieldId::SetCookie || name.eq_ignore_ascii_case(SET_COOKIE_2)
}

/// Would the stored head set a cookie?
fn sets_cookie(head: Head<'_>, said: &Response) -> bool {
    head.fields().any(|(id, name, _)| {
        is_set_cookie(id, name) && !said.no_cache.names(name) && !said.private.names(name)
    })
}

/// The head as it is stored, and where its entity tag is.
fn written(
    head: Head<'_>,
    said: &Response,
    strip_cookies: bool,
    received_ms: u64,
) -> (Lines, Span) {
    let status = head.index.status;
    let mut lines = Lines::response(
        status,
        head.index.reason.of(head.bytes),
        head.index.scanned.max(256),
    );
    let nominates = head.index.present.has(FieldId::Connection);
    let mut etag = Span::default();
    for (id, name, value) in head.fields() {
        if NOT_STORED.has(id)
            || (nominates && is_nominated(head, id, name))
            || (id == FieldId::Other && name.eq_ignore_ascii_case(b"proxy-authentication-info"))
            // A part says itself which one it is.
            || (id == FieldId::ContentRange && status == 206)
            || (strip_cookies && is_set_cookie(id, name))
            || said.no_cache.names(name)
            || said.private.names(name)
        {
            continue;
        }
        let value = lines.push(id, name, value);
        if id == FieldId::ETag {
            etag = value;
        }
    }
    // Two entity tags are none.
    if lines.index.repeated.has(FieldId::ETag) {
        etag = Span::default();
    }
    if !lines.index.present.has(FieldId::Date) {
        let now = narthex_observe::clock::http_date(received_ms / 1000);
        lines.push(FieldId::Date, b"Date", &now);
    }
    lines.bytes.extend_from_slice(b"\r\n");
    lines.bytes.shrink_to_fit();
    (lines, etag)
}

/// Tags of the fields that name them, each once.
fn tags(head: Head<'_>, fields: &[String]) -> Vec<Box<[u8]>> {
    let mut tags: Vec<Box<[u8]>> = fields
        .iter()
        .flat_map(|field| head.named(field.as_bytes()))
        .flat_map(|value| value.split(|b| matches!(b, b' ' | b',' | b'\t')))
        .filter(|tag| !tag.is_empty() && tag.len() <= MAX_TAG)
        .take(MAX_TAGS)
        .map(Into::into)
        .collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Is more said about tags than is kept?
pub fn loses_tags(head: Head<'_>, fields: &[String]) -> bool {
    let mut count = 0;
    fields
        .iter()
        .flat_map(|field| head.named(field.as_bytes()))
        .flat_map(|value| value.split(|b| matches!(b, b' ' | b',' | b'\t')))
        .filter(|tag| !tag.is_empty())
        .any(|tag| {
            count += 1;
            tag.len() > MAX_TAG || count > MAX_TAGS
        })
}

/// A POST's answer that stands for a GET of the same target (RFC 9110 9.3.3): 200, explicitly fresh, with a `Content-Location`
/// that is the target. `same`: its path and query are the request's, as [`super::locations`] gives them. Only `rfc9111`.
pub fn store_post(exchanged: &Exchanged<'_>, same: bool) -> Result<Keep, Why> {
    let rule: &CacheRule = exchanged.rule;
    if rule.profile == CacheProfile::Safe || !same || exchanged.facts.status != 200 {
        return Err(Why::Method);
    }
    let kept = store(exchanged)?;
    let (said, targeted) = cache_control::of_response(exchanged.response, exchanged.rule.profile);
    let times = lifetime::Times::of(exchanged.response, exchanged.sent_ms, exchanged.received_ms);
    match lifetime::explicit(exchanged.response, &said, targeted, &times) {
        Some(1..=FOREVER_S) => Ok(kept),
        _ => Err(Why::NoLifetime),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
