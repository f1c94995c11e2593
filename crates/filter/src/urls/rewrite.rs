//! One URL of the origin's, as the client should see it.

use narthex_message::authority;

use super::UrlMap;

/// A URL that names a host, taken apart.
struct Absolute<'u> {
    /// Empty for `//host/path`.
    scheme: &'u [u8],
    /// Without userinfo.
    authority: &'u [u8],
    /// Path, query and fragment.
    tail: &'u [u8],
}

/// How a name stands to the names of the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kin {
    /// One of them.
    Origin,
    /// A domain above one of them.
    Above,
    /// Neither.
    Stranger,
}

impl UrlMap<'_> {
    /// The URL as the client should see it; `None` if it stays as it is.
    pub(super) fn url(&self, url: &[u8]) -> Option<Vec<u8>> {
        let new = match absolute(url) {
            Some(parts) => self.absolute(&parts)?,
            None if url.first() == Some(&b'/') => on_this_site(self.tail(url)?),
            None => return None,
        };
        (new != url).then_some(new)
    }

    fn absolute(&self, url: &Absolute<'_>) -> Option<Vec<u8>> {
        let secure = match url.scheme {
            [] => None,
            s if s.eq_ignore_ascii_case(b"http") || s.eq_ignore_ascii_case(b"ws") => Some(false),
            s if s.eq_ignore_ascii_case(b"https") || s.eq_ignore_ascii_case(b"wss") => Some(true),
            _ => return None,
        };
        if !self.is_origin(url.authority, secure) {
            return None;
        }
        let tail = self.tail(url.tail);
        let tail = tail.as_deref().unwrap_or(url.tail);
        let mut out = Vec::with_capacity(self.public_authority.len() + tail.len() + 8);
        if secure == Some(true) && self.public_scheme == "http" && self.is_public(url.authority) {
            // The origin leads from http to https under the public name. To undo that would be a loop.
            out.extend_from_slice(url.scheme);
            out.extend_from_slice(b"://");
            out.extend_from_slice(url.authority);
        } else if self.public_authority.is_empty() {
            return Some(on_this_site(tail.to_vec()));
        } else {
            if secure.is_some() {
                out.extend_from_slice(self.scheme_like(url.scheme));
                out.push(b':');
            }
            out.extend_from_slice(b"//");
            out.extend_from_slice(self.public_authority.as_bytes());
        }
        out.extend_from_slice(tail);
        Some(out)
    }

    /// The public scheme, of the same family as the origin's.
    fn scheme_like(&self, scheme: &[u8]) -> &[u8] {
        let websocket = scheme.first().is_some_and(|b| matches!(b, b'w' | b'W'));
        match (websocket, self.public_scheme) {
            (true, "https") => b"wss",
            (true, _) => b"ws",
            (false, scheme) => scheme.as_bytes(),
        }
    }

    /// Path, query and fragment with the path as the client knows it; `None` if it stays as it is.
    fn tail(&self, tail: &[u8]) -> Option<Vec<u8>> {
        let end = tail
            .iter()
            .position(|b| matches!(b, b'?' | b'#'))
            .unwrap_or(tail.len());
        let (path, rest) = tail.split_at_checked(end)?;
        let mut out = self.path(path)?;
        out.extend_from_slice(rest);
        Some(out)
    }

    /// The origin's path as the client knows it; `None` if it stays as it is: nothing was stripped or added, the client
    /// can't reach it, or the origin knows the public prefix and has written it itself.
    fn path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let public = self.public_prefix.trim_end_matches('/').as_bytes();
        let upstream = self.upstream_prefix.trim_end_matches('/').as_bytes();
        let inner = if upstream.is_empty() {
            if public.is_empty() || below(path, public).is_some() {
                return None;
            }
            path
        } else {
            below(path, upstream)?
        };
        let mut out = public.to_vec();
        if inner.first() != Some(&b'/') {
            out.push(b'/');
        }
        out.extend_from_slice(inner);
        Some(out)
    }

    /// The path of a cookie as the client knows it, without a `/` at its end (`/a/` doesn't cover `/a`).
    pub(super) fn cookie_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        if path.first() != Some(&b'/') {
            return None;
        }
        let upstream = self.upstream_prefix.trim_end_matches('/').as_bytes();
        let covers_all = !upstream.is_empty() && below(upstream, trim_slash(path)).is_some();
        let mut new = if covers_all {
            let public = self.public_prefix.trim_end_matches('/');
            [public.as_bytes(), b"/"].concat()
        } else {
            on_this_site(self.path(path)?)
        };
        if new.len() > 1
            && new.ends_with(b"/")
            && (covers_all || !path.ends_with(b"/") || path == b"/")
        {
            new.pop();
        }
        (new != path).then_some(new)
    }

    /// Does the origin call itself so? `secure` is the scheme's kind, if there is one.
    fn is_origin(&self, raw: &[u8], secure: Option<bool>) -> bool {
        let Ok(asked) = authority::parse(raw) else {
            return false;
        };
        let default = secure.map(|secure| if secure { 443 } else { 80 });
        self.server_hosts.iter().any(|own| {
            let Ok(own) = authority::parse(own.as_bytes()) else {
                return false;
            };
            // `//host` has the scheme of the page it stands on, which the origin doesn't know: then a missing port fits
            // any.
            own.host == asked.host
                && match (own.port.or(default), asked.port.or(default)) {
                    (Some(own), Some(asked)) => own == asked,
                    _ => true,
                }
        })
    }

    fn is_public(&self, raw: &[u8]) -> bool {
        match (
            authority::parse(raw),
            authority::parse(self.public_authority.as_bytes()),
        ) {
            (Ok(asked), Ok(public)) => asked.host == public.host,
            _ => false,
        }
    }

    /// How a canonical host stands to the names of the origin, ports aside.
    pub(super) fn kin(&self, domain: &str) -> Kin {
        let mut kin = Kin::Stranger;
        for own in self.server_hosts {
            let Ok(own) = authority::parse(own.as_bytes()) else {
                continue;
            };
            if own.host == domain {
                return Kin::Origin;
            }
            if !own.is_ip && is_above(domain, &own.host) {
                kin = Kin::Above;
            }
        }
        kin
    }
}

/// Is `domain` a parent of `host`?
pub(super) fn is_above(domain: &str, host: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.ends_with('.'))
}

/// Takes a URL with a host apart. Backslashes are slashes, as browsers read them.
fn absolute(url: &[u8]) -> Option<Absolute<'_>> {
    let (scheme, rest) = match url {
        [b'/' | b'\\', b'/' | b'\\', rest @ ..] => (&[][..], rest),
        _ => {
            let colon = url.iter().position(|b| *b == b':')?;
            let (scheme, rest) = url.split_at_checked(colon)?;
            match rest {
                [b':', b'/' | b'\\', b'/' | b'\\', rest @ ..] => (scheme, rest),
                _ => return None,
            }
        }
    };
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'\\' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, tail) = rest.split_at_checked(end)?;
    Some(Absolute {
        scheme,
        authority: authority.rsplit(|b| *b == b'@').next()?,
        tail,
    })
}

/// `path` below `prefix` (which has no `/` at its end), segment by segment.
fn below<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(prefix)?;
    matches!(rest, [] | [b'/', ..]).then_some(rest)
}

fn trim_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// A path that a browser can't take for `//host`: what was before its slashes may have been cut off.
fn on_this_site(mut path: Vec<u8>) -> Vec<u8> {
    let slashes = path
        .iter()
        .take_while(|b| matches!(b, b'/' | b'\\'))
        .count();
    if slashes != 1 || path.first() != Some(&b'/') {
        path.splice(..slashes, *b"/");
    }
    path
}
