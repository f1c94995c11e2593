//! Writing URLs piece by piece. Each piece is encoded for the place where it lands, so that it can't become another
//! part of the URL: a value never ends a host, starts a query or adds a parameter.

use crate::chain::Target;

/// Longest URL or target that is made from a template, bytes.
pub(crate) const MAX_URL: usize = 64 << 10;

/// Where the next byte lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing decides yet: the beginning, or a scheme.
    Start,
    /// After `scheme://`.
    Authority,
    /// In the path.
    Path,
    /// After `?`.
    Query,
    /// After `#`.
    Fragment,
}

/// What a piece is; decides how much of it is URL already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A scheme.
    Scheme,
    /// A host that was parsed, maybe with a port.
    Host,
    /// A canonical path.
    Path,
    /// A query as it was sent.
    Query,
    /// A piece of a canonical path: percent-encoded.
    Encoded,
    /// Any bytes.
    Plain,
}

/// A URL, or a path and query, in the making.
#[derive(Debug)]
pub(crate) struct UrlWriter {
    out: Vec<u8>,
    place: Place,
    /// It becomes a request target: no scheme, no host, no fragment.
    target: bool,
    /// Where the host begins, if there is one.
    authority: Option<usize>,
    /// Where the query begins, its `?` excluded.
    query: Option<usize>,
    /// There is a `//` without a host behind it.
    hostless: bool,
}

impl UrlWriter {
    /// For a `Location`.
    pub(crate) fn location() -> Self {
        Self::new(Place::Start, false)
    }

    /// For a request target.
    pub(crate) fn target() -> Self {
        Self::new(Place::Path, true)
    }

    fn new(place: Place, target: bool) -> Self {
        Self {
            out: Vec::new(),
            place,
            target,
            authority: None,
            query: None,
            hostless: false,
        }
    }

    /// Has it grown beyond [`MAX_URL`]?
    pub(crate) fn is_too_long(&self) -> bool {
        self.out.len() > MAX_URL
    }

    /// Text that the operator wrote: its delimiters are delimiters. Only what no URL may hold is encoded.
    pub(crate) fn text(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some((&b, after)) = rest.split_first() {
            if self.place == Place::Start {
                rest = self.text_start(rest);
            } else if self.delimiter(b) {
                rest = after;
            } else if self.place == Place::Path && self.target {
                rest = self.text_path(rest);
            } else {
                self.push(b, is_uri);
                rest = after;
            }
        }
    }

    /// One step of text before anything is decided.
    fn text_start<'t>(&mut self, rest: &'t [u8]) -> &'t [u8] {
        if let Some(host) = rest.strip_prefix(b"//") {
            let after_scheme = self.out.len() > 1 && self.out.ends_with(b":");
            // `//name` says another host on purpose; `//{variable}` would leave the choice to the client.
            let network = self.out.is_empty()
                && matches!(host.first(), Some(b) if b.is_ascii_alphanumeric() || *b == b'[');
            if after_scheme || network {
                self.out.extend_from_slice(b"//");
                self.place = Place::Authority;
                self.authority = Some(self.out.len());
                return host;
            }
        }
        let Some((&b, after)) = rest.split_first() else {
            return rest;
        };
        if b == b'/' {
            self.out.push(b);
            self.place = Place::Path;
        } else if !self.delimiter(b) {
            self.push(b, is_uri);
        }
        after
    }

    /// One step of text in the path of a target: brought to canonical form where that's a matter of spelling.
    fn text_path<'t>(&mut self, rest: &'t [u8]) -> &'t [u8] {
        if let [b'%', high, low, after @ ..] = rest
            && let Some(value) = hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l)
        {
            self.push(value, is_unreserved);
            return after;
        }
        let Some((&b, after)) = rest.split_first() else {
            return rest;
        };
        self.push(b, is_path);
        after
    }

    /// Takes `b` if it is a delimiter that ends this place.
    fn delimiter(&mut self, b: u8) -> bool {
        let next = match (b, self.place) {
            (b'/', Place::Authority) => Place::Path,
            (b'?', Place::Start | Place::Authority | Place::Path) => Place::Query,
            (b'#', place) if place != Place::Fragment && !self.target => Place::Fragment,
            _ => return false,
        };
        self.leave_authority();
        self.out.push(b);
        if next == Place::Query {
            self.query = Some(self.out.len());
        }
        self.place = next;
        true
    }

    fn leave_authority(&mut self) {
        if self.place == Place::Authority {
            self.hostless |= self.authority == Some(self.out.len());
        }
    }

    /// What a variable holds. `last` says that the host, if this is in it, ends right after this piece.
    pub(crate) fn value(&mut self, piece: Piece, value: &[u8], last: bool) {
        match (self.place, piece) {
            (Place::Start, Piece::Scheme) => self.extend(value, is_unreserved),
            (Place::Start | Place::Authority, Piece::Host) => self.extend(value, is_host),
            (Place::Start, Piece::Plain) => self.value_start(value),
            (Place::Start | Place::Authority, Piece::Path) => self.value_path(value),
            (Place::Start, _) => {
                self.place = Place::Path;
                self.extend(value, is_path);
            }
            (Place::Authority, _) => self.value_authority(value, last),
            (Place::Path, Piece::Path | Piece::Query | Piece::Encoded) => {
                self.extend(value, is_path);
            }
            (Place::Query, Piece::Query) if self.target => self.out.extend_from_slice(value),
            (Place::Query | Place::Fragment, Piece::Query) => self.extend(value, is_uri_no_hash),
            (Place::Query | Place::Fragment, Piece::Encoded) => {
                self.extend(value, |b| is_parameter(b) || b == b'%');
            }
            (Place::Query | Place::Fragment, _) => self.extend(value, is_parameter),
            (Place::Path, _) => self.extend(value, is_component),
        }
    }

    /// Path and query together: in a path both are what they were, elsewhere they are one value.
    pub(crate) fn uri(&mut self, path: &[u8], query: Option<&[u8]>, last: bool) {
        if matches!(self.place, Place::Query | Place::Fragment) {
            self.value(Piece::Plain, path, last);
            if let Some(query) = query {
                self.value(Piece::Plain, b"?", last);
                self.value(Piece::Plain, query, last);
            }
            return;
        }
        self.value(Piece::Path, path, last);
        if let Some(query) = query {
            self.delimiter(b'?');
            self.value(Piece::Query, query, last);
        }
    }

    /// A value that makes the whole URL: its delimiters count, but it never leads to another host (see `finish`).
    fn value_start(&mut self, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        if value.first() != Some(&b'/') {
            self.out.push(b'/');
        }
        self.place = Place::Path;
        for &b in value {
            if !self.delimiter(b) {
                self.push(b, is_uri);
            }
        }
    }

    fn value_path(&mut self, value: &[u8]) {
        if self.place == Place::Authority && value.first() != Some(&b'/') {
            self.delimiter(b'/');
        }
        self.leave_authority();
        self.place = Place::Path;
        self.extend(value, is_path);
    }

    /// A value in a host: `https://{region}.example.com`. It may be a label or several, never what ends the host, unless
    /// the host ends here anyway. `https://example.com{rest}` must not become `https://example.com.evil.example`: a value
    /// that would lengthen a finished name goes to the path.
    fn value_authority(&mut self, value: &[u8], last: bool) {
        let host = self
            .out
            .get(self.authority.unwrap_or_default()..)
            .unwrap_or_default();
        let lengthens = match host.last() {
            None | Some(b'.' | b':') => false,
            Some(b'-') => !value
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'-'),
            Some(_) => true,
        };
        if last && lengthens && !value.is_empty() {
            if value.first() != Some(&b'/') {
                self.delimiter(b'/');
            }
            self.place = Place::Path;
            return self.extend(value, is_path);
        }
        for &b in value {
            if last && b == b'/' && self.place == Place::Authority {
                self.delimiter(b);
            } else if self.place == Place::Path {
                self.push(b, is_path);
            } else {
                self.push(b, is_unreserved);
            }
        }
    }

    fn extend(&mut self, value: &[u8], keep: fn(u8) -> bool) {
        for &b in value {
            self.push(b, keep);
        }
    }

    fn push(&mut self, b: u8, keep: fn(u8) -> bool) {
        if keep(b) {
            self.out.push(b);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            self.out.extend_from_slice(&[
                b'%',
                DIGITS[usize::from(b >> 4)],
                DIGITS[usize::from(b & 15)],
            ]);
        }
    }

    /// The finished `Location`, or `None` if there is none: empty, too long, or `https://` without a host (which a
    /// browser would fill with the first segment of the path). What names no host by the template's own words stays on
    /// this site: it begins with exactly one `/`.
    pub(crate) fn into_location(mut self) -> Option<Vec<u8>> {
        self.leave_authority();
        if self.hostless || self.out.is_empty() || self.is_too_long() {
            return None;
        }
        if self.authority.is_none() && !matches!(self.out.first(), Some(b'?' | b'#')) {
            let slashes = self.out.iter().take_while(|b| **b == b'/').count();
            self.out.splice(..slashes, *b"/");
        }
        Some(self.out)
    }

    /// The finished target: path, and the query if a `?` was written (`Some(None)` if nothing came after it). `None` if
    /// it is too long.
    pub(crate) fn into_target(mut self) -> Option<Target> {
        if self.is_too_long() {
            return None;
        }
        let query = self.query.map(|at| {
            let query = self.out.split_off(at);
            self.out.pop();
            (!query.is_empty()).then_some(query)
        });
        Some(Target {
            path: Some(String::from_utf8(self.out).ok()?),
            query,
        })
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

/// A parsed host and port.
const fn is_host(b: u8) -> bool {
    is_unreserved(b) || is_sub_delimiter(b) || matches!(b, b'[' | b']' | b':')
}

const fn is_sub_delimiter(b: u8) -> bool {
    matches!(
        b,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

/// A path with its slashes and what is percent-encoded in it (RFC 3986 §3.3).
const fn is_path(b: u8) -> bool {
    is_unreserved(b) || is_sub_delimiter(b) || matches!(b, b':' | b'@' | b'/' | b'%')
}

/// Anything that a URL may hold (RFC 3986 §2).
const fn is_uri(b: u8) -> bool {
    is_path(b) || matches!(b, b'?' | b'#' | b'[' | b']')
}

const fn is_uri_no_hash(b: u8) -> bool {
    is_uri(b) && b != b'#'
}

/// One segment of a path, of any bytes. `:` and `,` spare addresses and lists.
const fn is_component(b: u8) -> bool {
    is_unreserved(b) || matches!(b, b':' | b',')
}

/// The value of one parameter. `/` means nothing in a query.
const fn is_parameter(b: u8) -> bool {
    is_component(b) || b == b'/'
}
