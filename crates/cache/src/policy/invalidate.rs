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
