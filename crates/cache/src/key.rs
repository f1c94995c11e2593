//! What tells one answer from another: the key's bytes, and a request's variant of a key.
//!
//! Every part is written with its length, so that no two requests with different parts give the same bytes. Both are as long as the
//! request's parts together, which the limits on a head bound; whoever keeps them keeps a seeded hash beside them.

use std::borrow::Cow;

use narthex_config::model::{CacheKey, CacheProfile, CacheQuery, CacheRule};
use narthex_message::{FieldId, Head, cookie, query};

mod classes;
mod normal;

/// What a key is made of.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// `https`?
    pub https: bool,
    /// Canonical host.
    pub host: &'a str,
    /// The port that the client means.
    pub port: u16,
    /// Canonical path, as it is forwarded.
    pub path: &'a [u8],
    /// Query, as it was sent.
    pub query: Option<&'a [u8]>,
    /// The request's head.
    pub request: Head<'a>,
}

/// Puts the key's bytes into `out`, which is cleared first. Different parts never give the same bytes (CA-01, CA-03). Keys under
/// different rules are not to be compared: a reload that changes what a key is made of begins with an empty cache.
pub fn build(parts: &Parts<'_>, rule: &CacheKey, out: &mut Vec<u8>) {
    out.clear();
    out.push(u8::from(parts.https));
    out.extend_from_slice(&parts.port.to_be_bytes());
    put(out, parts.host.as_bytes());
    put(out, parts.path);
    put_query(parts.query, rule, out);
    for name in &rule.headers {
        let id = FieldId::of(name.as_bytes());
        put_field(id, name.as_bytes(), parts.request, CacheProfile::Safe, out);
    }
    for name in &rule.cookies {
        put_all(
            parts
                .request
                .all(FieldId::Cookie)
                .flat_map(|field| cookie::values(field, name)),
            out,
        );
    }
    if rule.device {
        out.push(classes::device(parts.request) as u8);
    }
    if !rule.languages.is_empty() {
        let best = classes::language(parts.request, &rule.languages);
        put(out, best.unwrap_or_default().as_bytes());
    }
}

/// Scheme and port of a key that [`build`] made, for people.
pub fn origin(key: &[u8]) -> Option<(bool, u16)> {
    let (head, _) = key.split_first_chunk::<3>()?;
    let [scheme, high, low] = *head;
    Some((scheme & !SLICED != 0, u16::from_be_bytes([high, low])))
}

/// In a key's first byte: it is a slice's.
const SLICED: u8 = 2;
/// Bytes that tell which slice it is.
const WHICH: usize = 16;
/// No slice has this number: under it is noted that there are none.
pub const NO_SLICES: u64 = u64::MAX;

/// The key of a slice of what has this `key`. Nothing that a request says makes another key the same: the first byte tells that it
/// is one, and the last ones are which.
pub fn slice(key: &[u8], size: u64, number: u64, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(key);
    if let Some(first) = out.first_mut() {
        *first |= SLICED;
    }
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
}

/// Is it the key of a slice?
pub fn is_slice(key: &[u8]) -> bool {
    key.first().is_some_and(|first| first & SLICED != 0)
}

/// Is the first the key of a slice of what has the second?
pub fn is_slice_of(slice: &[u8], key: &[u8]) -> bool {
    let (Some((first, rest)), Some((own_first, own_rest))) =
        (slice.split_first(), key.split_first())
    else {
        return false;
    };
    *first == *own_first | SLICED
        && rest
            .strip_prefix(own_rest)
            .is_some_and(|which| which.len() == WHICH)
}

/// A slice is asked for in our own words: by these fields of the request it does not vary.
pub fn varies_slice(name: &[u8]) -> bool {
    !name.eq_ignore_ascii_case(b"accept-encoding") && !name.eq_ignore_ascii_case(b"range")
}

/// The tag of all slices of one version of what has this key: of this length, and with this entity tag or, without one, last changed
/// then. No tag of an origin is the same: in none of them is a 0.
pub fn version_tag(
    key: &[u8],
    length: Option<u64>,
    etag: &[u8],
    changed_s: Option<u64>,
) -> Box<[u8]> {
    let changed_s = changed_s.filter(|_| etag.is_empty()).unwrap_or_default();
    let mut tag = b"\0version\0".to_vec();
    tag.extend_from_slice(&length.unwrap_or(u64::MAX).to_be_bytes());
    tag.extend_from_slice(&changed_s.to_be_bytes());
    tag.extend_from_slice(etag);
    tag.push(0);
    tag.extend_from_slice(key);
    tag.into()
}

/// The values of the request's fields `names` (lower case), normalised, put into `out`, which is cleared first: which variant it
/// wants. Fields that are not there are told from empty ones.
pub fn variant(names: &[Box<[u8]>], request: Head<'_>, rule: &CacheRule, out: &mut Vec<u8>) {
    out.clear();
    for name in names {
        let id = FieldId::of(name);
        // The origin is always asked for the same.
        if id == FieldId::AcceptEncoding && rule.store_compressed {
            continue;
        }
        put_field(id, name, request, rule.profile, out);
    }
}

/// Does a client take gzip?
pub fn takes_gzip(request: Head<'_>) -> bool {
    normal::encodings(request.all(FieldId::AcceptEncoding)) & normal::GZIP != 0
}

/// A length and that many bytes. 127 and below take one byte.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, mut n: usize) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Each of them, and an end that no length can be taken for.
fn put_all<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for value in values {
        out.push(1);
        put(out, value);
    }
    out.push(0);
}

/// A request's field: 0 if it is not there, else 1 and its normal form.
fn put_field(
    id: FieldId,
    name: &[u8],
    request: Head<'_>,
    profile: CacheProfile,
    out: &mut Vec<u8>,
) {
    let mut lines = request.named_as(id, name).peekable();
    if lines.peek().is_none() {
        out.push(0);
        return;
    }
    out.push(1);
    match id {
        FieldId::AcceptEncoding => out.push(normal::encodings(lines)),
        // Every line counts as it is: their order may be known to the origin, their number too.
        FieldId::Cookie => put_all(lines, out),
        FieldId::Other if name.eq_ignore_ascii_case(b"accept-language") => {
            let mut value = Vec::new();
            normal::languages(lines, profile, &mut value);
            put(out, &value);
        }
        _ => {
            let first = lines.next().unwrap_or_default();
            // Mostly one line with nothing to bring into a form: as it is, without a copy.
            if lines.peek().is_none() && (profile == CacheProfile::Safe || !first.contains(&b',')) {
                put(out, first);
                return;
            }
            let mut value = Vec::new();
            normal::list(std::iter::once(first).chain(lines), profile, &mut value);
            put(out, &value);
        }
    }
}

/// 0 for no query, else 1 and the query by the rule.
fn put_query(sent: Option<&[u8]>, rule: &CacheKey, out: &mut Vec<u8>) {
    let sent = match (sent, &rule.query) {
        (None, _) | (_, CacheQuery::None) => {
            out.push(0);
            return;
        }
        (Some(sent), _) => sent,
    };
    let filters = rule.strip_tracking || rule.query != CacheQuery::All;
    if !filters && !rule.sort_query {
        out.push(1);
        put(out, sent);
        return;
    }
    let mut pairs: Vec<&[u8]> = sent
        .split(|b| *b == b'&')
        .filter(|pair| !filters || (!pair.is_empty() && is_kept(name_of(pair), rule)))
        .collect();
    if rule.sort_query {
        // Stable: equal names keep their order, which forms give a meaning.
        pairs.sort_by(|a, b| name_of(a).cmp(name_of(b)));
    }
    // With a filter nothing left is the same as nothing sent.
    if filters && pairs.is_empty() {
        out.push(0);
        return;
    }
    out.push(1);
    put_number(out, pairs.len());
    for pair in pairs {
        put(out, pair);
    }
}

fn name_of(pair: &[u8]) -> &[u8] {
    let end = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
    pair.get(..end).unwrap_or_default()
}

fn is_kept(name: &[u8], rule: &CacheKey) -> bool {
    let name: Cow<'_, [u8]> = query::decode(name);
    let listed = |names: &[String]| names.iter().any(|n| n.as_bytes() == &*name);
    if rule.strip_tracking && is_tracking(&name) {
        return false;
    }
    match &rule.query {
        CacheQuery::All => true,
        CacheQuery::None => false,
        CacheQuery::Only(names) => listed(names),
        CacheQuery::Except(names) => !listed(names),
    }
}

/// Parameters that advertisers add, and that no page answers to.
const TRACKING: &[&str] = &[
    "__hsfp",
    "__hssc",
    "__hstc",
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "_openstat",
    "dclid",
    "epik",
    "fbclid",
    "gad_source",
    "gbraid",
    "gclid",
    "gclsrc",
    "hsCtaTracking",
    "igsh",
    "igshid",
    "irclickid",
    "li_fat_id",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "ml_subscriber",
    "ml_subscriber_hash",
    "msclkid",
    "oly_anon_id",
    "oly_enc_id",
    "rb_clickid",
    "s_cid",
    "s_kwcid",
    "srsltid",
    "ttclid",
    "twclid",
    "vero_conv",
    "vero_id",
    "wbraid",
    "wickedid",
    "yclid",
    "ysclid",
];

fn is_tracking(name: &[u8]) -> bool {
    name.starts_with(b"utm_") || TRACKING.iter().any(|known| known.as_bytes() == name)
}

#[cfg(test)]
mod tests;
