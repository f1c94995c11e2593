//! The query, read without building a map: pairs as they were sent, one value by name, percent-decoding on demand.
//!
//! A query is forwarded byte for byte. Only what would break the request line or the log is refused ([`validate`]);
//! `%` not followed by hex digits is common in the wild and passes as it is. Pairs are separated by `&` alone.

use std::borrow::Cow;
use std::fmt;

/// Why a query is refused. The client's fault: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryError {
    /// A control character (NUL and DEL too).
    Control,
    /// A space.
    Space,
    /// A `#`: fragments are never sent (RFC 9112 §3.2.1).
    Fragment,
    /// A byte outside ASCII.
    NonAscii,
}

impl QueryError {
    /// One word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Control => "query-control",
            Self::Space => "query-space",
            Self::Fragment => "query-fragment",
            Self::NonAscii => "query-non-ascii",
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "the query holds a control character",
            Self::Space => "the query holds a space; write it as `%20` or `+`",
            Self::Fragment => "the query holds `#`; a fragment is never sent to a server",
            Self::NonAscii => "the query holds a byte outside ASCII; percent-encode it",
        })
    }
}

impl std::error::Error for QueryError {}

/// Checks a query (without its `?`).
pub fn validate(query: &[u8]) -> Result<(), QueryError> {
    match query
        .iter()
        .find(|b| !matches!(b, 0x21..=0x7E) || **b == b'#')
    {
        None => Ok(()),
        Some(b'#') => Err(QueryError::Fragment),
        Some(b' ') => Err(QueryError::Space),
        Some(0..=0x1F | 0x7F) => Err(QueryError::Control),
        Some(_) => Err(QueryError::NonAscii),
    }
}

/// The pairs of a query as they were sent, undecoded; empty pairs (`&&`) are skipped, a pair without `=` has an empty
/// value. The query's own length, bounded by the limit on the request line, bounds this.
pub fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query
        .split(|b| *b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match memchr::memchr(b'=', pair) {
            Some(at) => (
                pair.get(..at).unwrap_or_default(),
                pair.get(at + 1..).unwrap_or_default(),
            ),
            None => (pair, &[][..]),
        })
}

/// Every value, undecoded, of the parameter whose decoded name is `name`, in order.
pub fn values<'q>(query: &'q [u8], name: &'q str) -> impl Iterator<Item = &'q [u8]> {
    pairs(query)
        .filter(move |(n, _)| decode(n).as_ref() == name.as_bytes())
        .map(|(_, value)| value)
}

/// The first value, decoded, of the parameter whose decoded name is `name`.
pub fn first<'q>(query: &'q [u8], name: &'q str) -> Option<Cow<'q, [u8]>> {
    values(query, name).next().map(decode)
}

/// Decodes `%XX` and `+` (to a space) as forms do. A `%` without two hex digits stands for itself. Borrows when there is
/// nothing to decode. The result may hold any byte, controls included: encode it again before it goes into a head.
pub fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        match (b, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, tail @ ..]) => match byte(*high, *low) {
                Some(value) => {
                    out.push(value);
                    rest = tail;
                }
                None => out.push(b'%'),
            },
            _ => out.push(b),
        }
    }
    Cow::Owned(out)
}

fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        assert_eq!(validate(b"a=%zz&b=%&c=\\\"[]{}|^`"), Ok(()));
        assert_eq!(validate(b"a b"), Err(QueryError::Space));
        assert_eq!(validate(b"a#b"), Err(QueryError::Fragment));
        assert_eq!(validate(b"a\r"), Err(QueryError::Control));
        assert_eq!(validate(b"a\x7f"), Err(QueryError::Control));
        assert_eq!(validate(b"\xc3\xa9"), Err(QueryError::NonAscii));
        assert_eq!(validate(b""), Ok(()));
    }

    #[test]
    fn pairs_as_sent() {
        let got: Vec<_> = pairs(b"a=1&&b&=2&c=x=y&a=%32").collect();
        let want: Vec<(&[u8], &[u8])> = vec![
            (b"a", b"1"),
            (b"b", b""),
            (b"", b"2"),
            (b"c", b"x=y"),
            (b"a", b"%32"),
        ];
        assert_eq!(got, want);
        assert_eq!(pairs(b"").count(), 0);
    }

    #[test]
    fn names_compare_decoded() {
        assert_eq!(first(b"%61=1&a=2", "a").as_deref(), Some(&b"1"[..]));
        assert_eq!(values(b"%61=1&b=3&a=2", "a").count(), 2);
        assert_eq!(first(b"A=1", "a"), None);
        assert_eq!(first(b"a;b=1", "a"), None);
    }

    #[test]
    fn decoding() {
        for (raw, want) in [
            (&b"plain"[..], &b"plain"[..]),
            (b"a+b%20c", b"a b c"),
            (b"%2", b"%2"),
            (b"%", b"%"),
            (b"%%41", b"%A"),
            (b"%zz%C3%a9", b"%zz\xc3\xa9"),
            (b"%00", b"\0"),
        ] {
            assert_eq!(decode(raw).as_ref(), want);
        }
        assert!(matches!(decode(b"x"), Cow::Borrowed(_)));
    }
}
