//! What an unsafe request makes unusable (RFC 9111 4.4).

use narthex_message::authority;
use narthex_message::{FieldId, Head, Method, RequestFacts};

/// Does this answer to an unsafe method make what is stored for its target unusable (RFC 9111 4.4)? Methods that are not known are
/// unsafe.
pub fn invalidates(request: &RequestFacts, status: u16) -> bool {
    let safe = matches!(
        request.method,
        Method::Get | Method::Head | Method::Options | Method::Trace
    );
    !safe && (200..400).contains(&status)
}

/// Where a request went.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// `https`?
    pub https: bool,
    /// Canonical host.
    pub host: &'a str,
    /// The port that the client means.
    pub port: u16,
    /// Canonical path.
    pub path: &'a [u8],
}

/// Bytes of a reference that are looked at.
const MAX_REFERENCE: usize = 8192;

/// The paths and queries that `Location` and `Content-Location` name, if they are of the same origin: not yet canonical, to be
/// made so as a request's are. `each` is called at most twice, with the field.
pub fn locations(target: &Target<'_>, response: Head<'_>, mut each: impl FnMut(FieldId, &[u8])) {
    let mut out = Vec::new();
    for id in [FieldId::Location, FieldId::ContentLocation] {
        // Two lines contradict each other; neither is believed.
        if response.index.repeated.has(id) {
            continue;
        }
        if let Some(reference) = response.get(id)
            && resolve(target, reference, &mut out)
        {
            each(id, &out);
        }
    }
}

/// RFC 3986 5.2, for references of the same origin.
fn resolve(target: &Target<'_>, reference: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    if reference.len() > MAX_REFERENCE {
        return false;
    }
    let end = reference
        .iter()
        .position(|b| *b == b'#')
        .unwrap_or(reference.len());
    let reference = reference.get(..end).unwrap_or_default();
    let Some(relative) = of_same_origin(target, reference) else {
        return false;
    };
    let query = relative
        .iter()
        .position(|b| *b == b'?')
        .unwrap_or(relative.len());
    let (path, query) = relative.split_at_checked(query).unwrap_or_default();
    let mut merged = Vec::new();
    let path = match path.first() {
        // An authority without a path, or a reference that is a query only.
        None if reference.len() != relative.len() => b"/",
        None => target.path,
        Some(b'/') => path,
        Some(_) => {
            let directory = target
                .path
                .iter()
                .rposition(|b| *b == b'/')
                .map_or(0, |at| at + 1);
            merged.extend_from_slice(target.path.get(..directory).unwrap_or_default());
            merged.extend_from_slice(path);
            &merged
        }
    };
    without_dots(path, out);
    out.extend_from_slice(query);
    true
}

/// The reference after scheme and authority, if these are the target's.
fn of_same_origin<'r>(target: &Target<'_>, reference: &'r [u8]) -> Option<&'r [u8]> {
    let colon = reference
        .iter()
        .position(|b| matches!(b, b':' | b'/' | b'?'))
        .filter(|at| reference.get(*at) == Some(&b':'));
    let after = match colon {
        Some(at) => {
            let scheme: &[u8] = if target.https { b"https" } else { b"http" };
            let (found, rest) = reference.split_at_checked(at)?;
            if !found.eq_ignore_ascii_case(scheme) {
                return None;
            }
            rest.get(1..).filter(|rest| rest.starts_with(b"//"))?
        }
        None => reference,
    };
    let Some(rest) = after.strip_prefix(b"//") else {
        return Some(after);
    };
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (named, rest) = rest.split_at_checked(end)?;
    let named = authority::parse(named).ok()?;
    let default = if target.https { 443 } else { 80 };
    (named.host.eq_ignore_ascii_case(target.host) && named.port_or(default) == target.port)
        .then_some(rest)
}

/// RFC 3986 5.2.4. The result begins with `/`.
fn without_dots(path: &[u8], out: &mut Vec<u8>) {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut open = false;
    for segment in path
        .split(|b| *b == b'/')
        .skip(usize::from(path.starts_with(b"/")))
    {
        open = match segment {
            b"." => true,
            b".." => {
                segments.pop();
                true
            }
            other => {
                segments.push(other);
                false
            }
        };
    }
    for segment in segments {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if open || out.is_empty() {
        out.push(b'/');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{request, request_facts, response};
    use proptest::prelude::*;

    #[test]
    fn methods_and_statuses() {
        for (method, status, want) in [
            ("POST", 200, true),
            ("PUT", 201, true),
            ("DELETE", 204, true),
            ("PATCH", 302, true),
            ("M-SEARCH", 200, true),
            ("POST", 400, false),
            ("POST", 500, false),
            ("GET", 200, false),
            ("HEAD", 200, false),
            ("OPTIONS", 200, false),
            ("get", 200, true),
        ] {
            let made = request(method, "/", &[]);
            assert_eq!(
                invalidates(&request_facts(made.head()), status),
                want,
                "{method} {status}"
            );
        }
    }

    const HERE: Target<'_> = Target {
        https: true,
        host: "a.example",
        port: 443,
        path: b"/b/c/d",
    };

    fn resolved(reference: &str) -> Option<String> {
        let mut out = b"left over".to_vec();
        resolve(&HERE, reference.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn references() {
        for (reference, want) in [
            ("/x", Some("/x")),
            ("/x?y=1#z", Some("/x?y=1")),
            ("x", Some("/b/c/x")),
            ("./x", Some("/b/c/x")),
            ("../x", Some("/b/x")),
            ("../../../x/..", Some("/")),
            ("x/./y/../z", Some("/b/c/x/z")),
            ("..", Some("/b/")),
            (".", Some("/b/c/")),
            ("?q", Some("/b/c/d?q")),
            ("", Some("/b/c/d")),
            ("#z", Some("/b/c/d")),
            ("x?a/../b", Some("/b/c/x?a/../b")),
            ("x:y/z", None),
            ("./x:y", Some("/b/c/x:y")),
            ("https://a.example/x", Some("/x")),
            ("HTTPS://A.EXAMPLE:443/x", Some("/x")),
            ("https://a.example", Some("/")),
            ("https://a.example?q", Some("/?q")),
            ("//a.example/x", Some("/x")),
            ("http://a.example/x", None),
            ("https://a.example:8443/x", None),
            ("https://b.example/x", None),
            ("https://a.example.b/x", None),
            ("https://u@a.example/x", None),
            ("//b.example/x", None),
            ("https:x", None),
            ("javascript:alert(1)", None),
            ("//", None),
        ] {
            assert_eq!(resolved(reference).as_deref(), want, "{reference}");
        }
        assert_eq!(resolved(&"x".repeat(MAX_REFERENCE + 1)), None);
    }

    #[test]
    fn both_fields() {
        let mut got = Vec::new();
        let made = response(201, &[("Location", "/x"), ("Content-Location", "y")]);
        locations(&HERE, made.head(), |id, place| {
            got.push((id, String::from_utf8(place.to_vec()).unwrap()))
        });
        assert_eq!(
            got,
            [
                (FieldId::Location, "/x".to_owned()),
                (FieldId::ContentLocation, "/b/c/y".to_owned())
            ]
        );
        let made = response(
            201,
            &[
                ("Location", "/x"),
                ("Location", "/y"),
                ("Content-Location", "http://a.example/"),
            ],
        );
        locations(&HERE, made.head(), |id, _| panic!("{id:?}"));
    }

    proptest! {
        #[test]
        fn never_leaves_the_origin(reference in "[a:/?#.@]{0,12}") {
            if let Some(place) = resolved(&reference) {
                prop_assert!(place.starts_with('/'));
                let path = place.split('?').next().unwrap();
                prop_assert!(path.split('/').all(|s| s != "." && s != ".."));
            }
        }
    }
}
