//! `Domain` and `Path` of a `Set-Cookie`, read as browsers do (RFC 6265 section 5.2): parts are cut at `;` whatever
//! quotes say, white space around names and values doesn't count, names are of any case.

use narthex_message::authority;

use super::UrlMap;
use super::rewrite::{Kin, is_above};

/// What becomes of an attribute.
enum Fate {
    Keep,
    Drop,
    Replace(Vec<u8>),
}

impl UrlMap<'_> {
    /// The cookie as the client should see it; `None` if it stays as it is.
    pub(super) fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut parts = value.split(|b| *b == b';');
        let pair = parts.next()?;
        let fixed_path = is_host_cookie(pair);
        let mut out = pair.to_vec();
        let mut changed = false;
        for part in parts {
            let (name, raw) = split(part);
            let fate = match name.trim_ascii() {
                n if n.eq_ignore_ascii_case(b"domain") => self.domain(unquote(raw)),
                n if n.eq_ignore_ascii_case(b"path") && !fixed_path => self
                    .cookie_path(unquote(raw))
                    .map_or(Fate::Keep, Fate::Replace),
                _ => Fate::Keep,
            };
            changed |= !matches!(fate, Fate::Keep);
            match fate {
                Fate::Drop => {}
                Fate::Keep => {
                    out.push(b';');
                    out.extend_from_slice(part);
                }
                Fate::Replace(new) => {
                    out.push(b';');
                    out.extend_from_slice(name);
                    out.push(b'=');
                    out.extend_from_slice(&new);
                }
            }
        }
        changed.then_some(out)
    }

    /// A name of the origin becomes the public one; a domain above it, or a public name that no cookie can be set for
    /// (an address, a single label), makes a cookie of the public host alone.
    fn domain(&self, raw: &[u8]) -> Fate {
        let Some(domain) = canonical_domain(raw) else {
            return Fate::Keep;
        };
        let public = authority::parse(self.public_authority.as_bytes()).ok();
        if let Some(public) = &public
            && (public.host == domain || !public.is_ip && is_above(&domain, &public.host))
        {
            return Fate::Keep;
        }
        match (self.kin(&domain), public) {
            (Kin::Stranger, _) => Fate::Keep,
            (Kin::Origin, Some(public)) if !public.is_ip && public.host.contains('.') => {
                Fate::Replace(public.host.as_bytes().to_vec())
            }
            _ => Fate::Drop,
        }
    }
}

/// The host of a `Domain`: without the dot in front, IPv6 in brackets.
fn canonical_domain(raw: &[u8]) -> Option<String> {
    let raw = raw.strip_prefix(b".").unwrap_or(raw);
    let bracketed;
    let raw = if raw.contains(&b':') && raw.first() != Some(&b'[') {
        bracketed = [b"[", raw, b"]"].concat();
        bracketed.as_slice()
    } else {
        raw
    };
    Some(authority::parse(raw).ok()?.host.into_owned())
}

/// A `__Host-` cookie has the path `/` and no other, or it isn't set at all.
fn is_host_cookie(pair: &[u8]) -> bool {
    pair.trim_ascii_start()
        .get(..7)
        .is_some_and(|name| name.eq_ignore_ascii_case(b"__Host-"))
}

/// Name and value of an attribute, untrimmed.
fn split(part: &[u8]) -> (&[u8], &[u8]) {
    match part.iter().position(|b| *b == b'=') {
        Some(at) => (
            part.get(..at).unwrap_or_default(),
            part.get(at + 1..).unwrap_or_default(),
        ),
        None => (part, &[]),
    }
}

/// Without white space and quotes around it.
fn unquote(raw: &[u8]) -> &[u8] {
    let raw = raw.trim_ascii();
    match raw {
        [b'"', inner @ .., b'"'] => inner.trim_ascii(),
        _ => raw,
    }
}
