//! The one canonical path. Matching, access rules, rewriting, the cache key and forwarding all use this form, so that
//! no resource has two spellings of which only one is guarded.
//!
//! What the canonical form is (RFC 3986 §6.2.2, and stricter where origins are known to disagree):
//!
//! - it starts with `/` and holds only `pchar`, `/` and well-formed `%XX` (RFC 3986 §3.3);
//! - `%XX` of an unreserved character is decoded, every other `%XX` stays and has upper-case hex. `%2F` therefore never
//!   equals `/`;
//! - printable ASCII that RFC 3986 doesn't allow in a path (`" < > [ ] ^ backquote { | }`) is percent-encoded, so that
//!   the raw and the encoded spelling are one;
//! - dot segments are resolved, also when their dots were encoded;
//! - `;parameters` stay; `//` stays unless `merge_slashes` is asked for. A path that begins with `//` is still a path,
//!   never an authority; [`is_network_path`] tells whoever writes it into a `Location`.
//!
//! What is refused, because no two servers agree on it:
//!
//! - control characters, space, `#`, backslash and bytes above 0x7E, raw; controls and backslash, encoded;
//! - `%` without two hex digits;
//! - `..` that climbs above the root. RFC 3986 §5.2.4 would drop it in silence; only attackers write it;
//! - a dot segment in disguise, `..;x` or `..%2F`: some origins cut parameters or decode `%2F` before they resolve dots.
//!
//! Everything here is pure and linear in the length of the path; the output is at most three times the input.

use std::fmt;

/// What [`canonicalise`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canonical {
    /// The input is canonical already; nothing was written.
    Unchanged,
    /// The canonical path is in the output.
    Rewritten,
}

/// Why a path is refused. The client's fault: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathError {
    /// Doesn't begin with `/`, or is empty.
    NoLeadingSlash,
    /// A raw control character (NUL and DEL too).
    Control,
    /// A raw space.
    Space,
    /// A `#`: fragments are never sent (RFC 9112 §3.2.1).
    Fragment,
    /// A `?`: the query must be split off first.
    QueryInPath,
    /// A backslash, raw or as `%5C`.
    Backslash,
    /// A raw byte above 0x7E that isn't DEL.
    NonAscii,
    /// `%` without two hex digits after it.
    BadPercent,
    /// `%00` to `%1F` or `%7F`.
    EncodedControl,
    /// `..` climbs above the root.
    AboveRoot,
    /// `.` or `..` hidden beside `;` or `%2F`.
    HiddenDotSegment,
    /// Well-formed but not canonical, where only the canonical form is accepted.
    NotCanonical,
}

impl PathError {
    /// One word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoLeadingSlash => "path-no-slash",
            Self::Control => "path-control",
            Self::Space => "path-space",
            Self::Fragment => "path-fragment",
            Self::QueryInPath => "path-query",
            Self::Backslash => "path-backslash",
            Self::NonAscii => "path-non-ascii",
            Self::BadPercent => "path-bad-percent",
            Self::EncodedControl => "path-encoded-control",
            Self::AboveRoot => "path-above-root",
            Self::HiddenDotSegment => "path-hidden-dots",
            Self::NotCanonical => "path-not-canonical",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLeadingSlash => "the path does not begin with `/`",
            Self::Control => "the path holds a control character",
            Self::Space => "the path holds a space; write it as `%20`",
            Self::Fragment => "the path holds `#`; a fragment is never sent to a server",
            Self::QueryInPath => "the path holds `?`; the query is not part of it",
            Self::Backslash => "the path holds a backslash, which some servers read as `/`",
            Self::NonAscii => "the path holds a byte outside ASCII; percent-encode it",
            Self::BadPercent => "`%` in the path is not followed by two hex digits",
            Self::EncodedControl => "the path holds an encoded control character",
            Self::AboveRoot => "`..` in the path climbs above the root",
            Self::HiddenDotSegment => "the path hides a dot segment beside `;` or `%2F`",
            Self::NotCanonical => "the path is not in canonical form",
        })
    }
}

impl std::error::Error for PathError {}

/// Nothing to do for this byte.
const PLAIN: u8 = 0;
/// `/`: look at what follows.
const SLASH: u8 = 1;
/// `%`: look at what follows.
const PERCENT: u8 = 2;
/// Printable, but only valid percent-encoded.
const ENCODE: u8 = 3;
/// Never valid.
const REFUSE: u8 = 4;

/// What each byte means in a path.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [REFUSE; 256];
    let mut b = 0x21;
    while b < 0x7F {
        table[b] = class_of(b as u8);
        b += 1;
    }
    table
}

const fn class_of(b: u8) -> u8 {
    match b {
        b'/' => SLASH,
        b'%' => PERCENT,
        b'#' | b'?' | b'\\' => REFUSE,
        b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => ENCODE,
        _ => PLAIN,
    }
}

const fn class(b: u8) -> u8 {
    CLASS[b as usize]
}

/// Brings `raw` (a path without its query) to canonical form. `out` is written only for [`Canonical::Rewritten`] and then
/// holds the whole result; its former content is dropped.
///
/// The result is a fixed point: canonicalising it again with the same `merge_slashes` is [`Canonical::Unchanged`].
#[inline(always)]
pub fn canonicalise(
    raw: &[u8],
    merge_slashes: bool,
    out: &mut String,
) -> Result<Canonical, PathError> {
    if scan(raw, merge_slashes)? {
        return Ok(Canonical::Unchanged);
    }
    rewrite(raw, merge_slashes, out)?;
    if out.as_bytes() == raw {
        Ok(Canonical::Unchanged)
    } else {
        Ok(Canonical::Rewritten)
    }
}

/// [`canonicalise`] as text: borrows `raw` when it is canonical already and `out` otherwise.
pub fn canonical<'a>(
    raw: &'a [u8],
    merge_slashes: bool,
    out: &'a mut String,
) -> Result<&'a str, PathError> {
    match canonicalise(raw, merge_slashes, out)? {
        Canonical::Unchanged => std::str::from_utf8(raw).map_err(|_| PathError::NonAscii),
        Canonical::Rewritten => Ok(out),
    }
}

/// Is `path` canonical? Used after a rewrite by template, where a variable may have brought in anything: what is refused
/// or would change is an error, never repaired in silence.
pub fn require_canonical(path: &str, merge_slashes: bool) -> Result<(), PathError> {
    if scan(path.as_bytes(), merge_slashes)? {
        return Ok(());
    }
    let mut out = String::new();
    match canonicalise(path.as_bytes(), merge_slashes, &mut out)? {
        Canonical::Unchanged => Ok(()),
        Canonical::Rewritten => Err(PathError::NotCanonical),
    }
}

/// The canonical form of a path that a person wrote in a configuration: as [`canonicalise`], but text outside ASCII and
/// spaces are percent-encoded first, so that `/café` means what a browser sends for it.
pub fn canonical_written(written: &str, merge_slashes: bool) -> Result<String, PathError> {
    let mut encoded = String::with_capacity(written.len());
    for &b in written.as_bytes() {
        if b == b' ' || b >= 0x80 {
            push_encoded(b, &mut encoded);
        } else {
            encoded.push(char::from(b));
        }
    }
    let mut out = String::new();
    match canonicalise(encoded.as_bytes(), merge_slashes, &mut out)? {
        Canonical::Unchanged => Ok(encoded),
        Canonical::Rewritten => Ok(out),
    }
}

/// One pass over the bytes: `Ok(true)` is surely canonical, `Ok(false)` needs a closer look, an error is final.
#[inline(always)]
fn scan(raw: &[u8], merge_slashes: bool) -> Result<bool, PathError> {
    if raw.first() != Some(&b'/') {
        return Err(PathError::NoLeadingSlash);
    }
    let mut bytes = raw.iter();
    while let Some(&b) = bytes.next() {
        let class = class(b);
        // Apart from the others: a branch that is nearly always taken is cheaper than a jump table.
        if class == PLAIN {
            continue;
        }
        match class {
            SLASH if slash_needs_look(bytes.as_slice(), merge_slashes) => return Ok(false),
            SLASH => {}
            PERCENT => {
                let rest = bytes.as_slice();
                if percent_needs_look(rest)? {
                    return Ok(false);
                }
                bytes = rest.get(2..).unwrap_or_default().iter();
            }
            ENCODE => return Ok(false),
            _ => return Err(refusal(b)),
        }
    }
    Ok(true)
}

/// Could what follows this `/` be a dot segment, plain or hidden, or a slash to merge?
fn slash_needs_look(rest: &[u8], merge_slashes: bool) -> bool {
    match rest.first() {
        Some(b'/') => merge_slashes,
        Some(b'.') => dots_need_look(rest),
        _ => false,
    }
}

/// Of what begins with a dot, `.well-known` needs no look.
fn dots_need_look(rest: &[u8]) -> bool {
    match rest {
        [b'.', b'.', after, ..] | [b'.', after, ..] => matches!(after, b'/' | b'.' | b';' | b'%'),
        _ => true,
    }
}

/// Looks at the two digits after `%`. `false`: they stay as they are.
fn percent_needs_look(rest: &[u8]) -> Result<bool, PathError> {
    let (value, canonical) = percent(rest)?;
    // After an encoded slash a dot may be a hidden dot segment.
    Ok(!canonical || is_unreserved(value) || (value == b'/' && rest.get(2) == Some(&b'.')))
}

/// The byte that the two hex digits at the start of `rest` stand for, and whether they are upper case.
fn percent(rest: &[u8]) -> Result<(u8, bool), PathError> {
    let [high, low, ..] = rest else {
        return Err(PathError::BadPercent);
    };
    let value = hex(*high)
        .zip(hex(*low))
        .map(|(h, l)| h << 4 | l)
        .ok_or(PathError::BadPercent)?;
    match value {
        0..=0x1F | 0x7F => Err(PathError::EncodedControl),
        b'\\' => Err(PathError::Backslash),
        _ => Ok((
            value,
            !high.is_ascii_lowercase() && !low.is_ascii_lowercase(),
        )),
    }
}

const fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// RFC 3986 §2.3.
const fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// Why a byte of class [`REFUSE`] is refused.
const fn refusal(b: u8) -> PathError {
    match b {
        b' ' => PathError::Space,
        b'#' => PathError::Fragment,
        b'?' => PathError::QueryInPath,
        b'\\' => PathError::Backslash,
        0..=0x1F | 0x7F => PathError::Control,
        _ => PathError::NonAscii,
    }
}

/// The slow way: segment by segment into `out`.
fn rewrite(raw: &[u8], merge_slashes: bool, out: &mut String) -> Result<(), PathError> {
    out.clear();
    out.reserve(raw.len());
    out.push('/');
    // Everything of `out` before this is finished segments and ends with `/`.
    let mut segment = 1;
    let mut i = 1;
    while let Some(&b) = raw.get(i) {
        i += 1;
        match class(b) {
            PLAIN => out.push(char::from(b)),
            SLASH => end_segment(out, &mut segment, merge_slashes, true)?,
            PERCENT => {
                let (value, _) = percent(raw.get(i..).unwrap_or_default())?;
                i += 2;
                if is_unreserved(value) {
                    out.push(char::from(value));
                } else {
                    push_encoded(value, out);
                }
            }
            ENCODE => push_encoded(b, out),
            _ => return Err(refusal(b)),
        }
    }
    end_segment(out, &mut segment, merge_slashes, false)
}

/// The segment from `*start` to the end of `out` is complete; `more` says that a `/` follows it.
fn end_segment(
    out: &mut String,
    start: &mut usize,
    merge_slashes: bool,
    more: bool,
) -> Result<(), PathError> {
    let text = out.get(*start..).unwrap_or_default();
    match text {
        "." => out.truncate(*start),
        ".." => {
            let above = parent(out, *start).ok_or(PathError::AboveRoot)?;
            out.truncate(above);
            *start = above;
        }
        "" if merge_slashes => {}
        _ if hides_dots(text) => return Err(PathError::HiddenDotSegment),
        _ if more => {
            out.push('/');
            *start = out.len();
        }
        _ => {}
    }
    Ok(())
}

/// Where the segment before the one at `start` begins; `None` at the root.
fn parent(out: &str, start: usize) -> Option<usize> {
    let before = out.get(..start.checked_sub(1)?)?;
    before.rfind('/').map(|slash| slash + 1)
}

/// Is some part of this segment, once parameters are cut off and `%2F` is taken for `/`, a dot segment?
fn hides_dots(segment: &str) -> bool {
    segment.starts_with('.') && is_dots(cut(segment))
        || segment.contains("%2F") && segment.split("%2F").any(|part| is_dots(cut(part)))
}

fn cut(part: &str) -> &str {
    part.split(';').next().unwrap_or_default()
}

fn is_dots(part: &str) -> bool {
    matches!(part, "." | "..")
}

fn push_encoded(b: u8, out: &mut String) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    out.push('%');
    out.push(DIGITS[usize::from(b >> 4)]);
    out.push(DIGITS[usize::from(b & 15)]);
}

/// Splits an origin-form target (RFC 9112 §3.2.1) at its first `?`. `None` is no query, which differs from an empty one.
/// Validates nothing: [`canonicalise`] the path and [`crate::query::validate`] the query.
#[inline]
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target).and_then(|at| target.split_at_checked(at)) {
        Some((path, query)) => (path, query.get(1..)),
        None => (target, None),
    }
}

/// Does the path begin with `//`, so that a browser would read it as `//host/...` in a `Location`?
pub fn is_network_path(path: &str) -> bool {
    path.starts_with("//")
}

/// `path` below `prefix`, segment by segment: `/api` strips `/api/x` to `/x` and `/api` to `/`, and leaves `/apix` alone
/// (`None`). Both are canonical; so is the result. A `/` at the end of `prefix` makes no difference.
pub fn strip_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    match path.strip_prefix(prefix.trim_end_matches('/'))? {
        "" => Some("/"),
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

/// Writes `prefix` followed by `path` to `out`, with one `/` between them. Canonical if both are.
pub fn join(prefix: &str, path: &str, out: &mut String) {
    out.clear();
    out.push_str(prefix.strip_suffix('/').unwrap_or(prefix));
    if !path.starts_with('/') {
        out.push('/');
    }
    out.push_str(path);
}
