//! `Refresh: 5; url=...`: where the URL is, by the rules of browsers (HTML, "shared declarative refresh steps"), a little
//! more lenient so that no spelling is missed.

use super::UrlMap;

impl UrlMap<'_> {
    /// The value with its URL as the client should see it; `None` if it stays as it is.
    pub(super) fn refresh(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (start, end) = url(value)?;
        let new = self.url(value.get(start..end)?)?;
        let mut out = value.get(..start)?.to_vec();
        out.extend_from_slice(&new);
        out.extend_from_slice(value.get(end..)?);
        Some(out)
    }
}

/// Where the URL begins and ends: after the time, `;` or `,` or space, maybe `url =`, maybe in quotes.
fn url(value: &[u8]) -> Option<(usize, usize)> {
    let after_time = skip(value, |b| b.is_ascii_digit() || b == b'.' || is_space(b));
    let rest = match after_time {
        [b';' | b',', rest @ ..] => rest,
        _ if after_time.len() < value.len() => after_time,
        _ => return None,
    };
    let rest = unnamed(skip(rest, is_space));
    let rest = match rest {
        [quote @ (b'"' | b'\''), rest @ ..] => {
            let end = rest.iter().position(|b| b == quote);
            let start = value.len().checked_sub(rest.len())?;
            return Some((start, start + end.unwrap_or(rest.len())));
        }
        _ => rest,
    };
    Some((value.len().checked_sub(rest.len())?, value.len()))
}

/// Without `url =` in front.
fn unnamed(rest: &[u8]) -> &[u8] {
    let Some((name, after)) = rest.split_at_checked(3) else {
        return rest;
    };
    match skip(after, is_space) {
        [b'=', url @ ..] if name.eq_ignore_ascii_case(b"url") => skip(url, is_space),
        _ => rest,
    }
}

fn skip(mut bytes: &[u8], over: impl Fn(u8) -> bool) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !over(*first) {
            break;
        }
        bytes = rest;
    }
    bytes
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}
