//! Host and `:authority`: parsed once, in one canonical form, so that a site has one name however it is spelled.
//!
//! Canonical is: lower case, no trailing dot, IPv6 literals in brackets in their RFC 5952 form, the port a number beside
//! it. The grammar is RFC 9110 §7.2 (`uri-host [ ":" port ]`) with RFC 3986 §3.2.2, less what has only ever served
//! attacks: userinfo, comma (a list), `%` (encoded names and zone ids), empty labels, and an empty host. IDNA is not
//! decoded: `xn--` names are names.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest authority that is looked at, bytes. A DNS name has at most 253; brackets and port fit beside any address.
pub const MAX_AUTHORITY: usize = 255;

/// A checked authority. Two are equal if they name the same host and port, whatever their spelling was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority<'a> {
    /// Lower case, no trailing dot; an IPv6 address in brackets. Borrowed when the input was canonical already.
    pub host: Cow<'a, str>,
    /// As given; `None` when absent or empty (`a:`), which RFC 3986 §3.2.3 holds to be the same.
    pub port: Option<u16>,
    /// The host is an IPv4 address or an IPv6 literal.
    pub is_ip: bool,
}

impl Authority<'_> {
    /// The port, or the scheme's own.
    pub fn port_or(&self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Why an authority is refused. The client's fault: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthorityError {
    /// No host. HTTP/1.1 allows an empty `Host`, but it names no site of ours.
    EmptyHost,
    /// More than [`MAX_AUTHORITY`] bytes.
    TooLong,
    /// A byte that no host name has: control, space, `/ ? # @ , % \ "` and the like, or outside ASCII.
    BadByte,
    /// Two dots in a row, or a dot in front.
    EmptyLabel,
    /// Not a number from 0 to 65535.
    BadPort,
    /// Brackets without an IPv6 address in them, or with a zone id, or with something after them.
    BadAddress,
}

impl AuthorityError {
    /// One word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::EmptyHost => "host-empty",
            Self::TooLong => "host-too-long",
            Self::BadByte => "host-bad-byte",
            Self::EmptyLabel => "host-empty-label",
            Self::BadPort => "host-bad-port",
            Self::BadAddress => "host-bad-address",
        }
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyHost => "the host is empty",
            Self::TooLong => "the host is longer than 255 bytes",
            Self::BadByte => "the host holds a character that no host name has",
            Self::EmptyLabel => {
                "the host has an empty label (two dots in a row, or a dot in front)"
            }
            Self::BadPort => "the port is not a number from 0 to 65535",
            Self::BadAddress => "the brackets in the host hold no IPv6 address",
        })
    }
}

impl std::error::Error for AuthorityError {}

/// Part of a canonical name.
const NAME: u8 = 0;
/// `A` to `Z`: folded.
const UPPER: u8 = 1;
/// `.`: ends a label.
const DOT: u8 = 2;
/// `:`: the port follows.
const COLON: u8 = 3;
/// Never valid.
const REFUSE: u8 = 4;

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

/// RFC 3986 §3.2.2 `reg-name` less `%` and comma.
const fn class_of(b: u8) -> u8 {
    match b {
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => NAME,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => NAME,
        b'A'..=b'Z' => UPPER,
        b'.' => DOT,
        b':' => COLON,
        _ => REFUSE,
    }
}

/// Parses and canonicalises the value of `Host`, `:authority`, or the authority of an absolute-form target. The value
/// must come without surrounding whitespace.
pub fn parse(raw: &[u8]) -> Result<Authority<'_>, AuthorityError> {
    match raw.first() {
        None => Err(AuthorityError::EmptyHost),
        Some(_) if raw.len() > MAX_AUTHORITY => Err(AuthorityError::TooLong),
        Some(b'[') => literal(raw),
        Some(_) => name(raw),
    }
}

/// Is `host` canonical as a host without port? For names written in a configuration.
pub fn is_canonical_host(host: &str) -> bool {
    matches!(parse(host.as_bytes()), Ok(Authority { host: Cow::Borrowed(same), port: None, .. }) if same == host)
}

/// A registered name or an IPv4 address.
fn name(raw: &[u8]) -> Result<Authority<'_>, AuthorityError> {
    let (host_end, upper) = scan_name(raw)?;
    let (host, after) = raw.split_at_checked(host_end).unwrap_or((raw, &[]));
    let port = port(after)?;
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.is_empty() {
        return Err(AuthorityError::EmptyHost);
    }
    // The scan has seen ASCII only, so this can't fail.
    let host = std::str::from_utf8(host).map_err(|_| AuthorityError::BadByte)?;
    let is_ip = is_ipv4(host);
    let host = if upper {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Ok(Authority { host, port, is_ip })
}

/// Where the host ends, and whether it has upper-case letters.
fn scan_name(raw: &[u8]) -> Result<(usize, bool), AuthorityError> {
    let mut upper = false;
    let mut label_empty = true;
    for (i, &b) in raw.iter().enumerate() {
        match CLASS[usize::from(b)] {
            NAME => label_empty = false,
            UPPER => (upper, label_empty) = (true, false),
            DOT if label_empty => return Err(AuthorityError::EmptyLabel),
            DOT => label_empty = true,
            COLON => return Ok((i, upper)),
            _ => return Err(AuthorityError::BadByte),
        }
    }
    Ok((raw.len(), upper))
}

fn is_ipv4(host: &str) -> bool {
    host.as_bytes().last().is_some_and(u8::is_ascii_digit) && host.parse::<Ipv4Addr>().is_ok()
}

/// `[` IPv6 `]`, maybe with a port.
fn literal(raw: &[u8]) -> Result<Authority<'_>, AuthorityError> {
    let close = memchr::memchr(b']', raw).ok_or(AuthorityError::BadAddress)?;
    let (host, after) = raw
        .split_at_checked(close + 1)
        .ok_or(AuthorityError::BadAddress)?;
    let host = std::str::from_utf8(host).map_err(|_| AuthorityError::BadAddress)?;
    if !matches!(after.first(), None | Some(b':')) {
        return Err(AuthorityError::BadAddress);
    }
    let inner = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or_default();
    let address: Ipv6Addr = inner.parse().map_err(|_| AuthorityError::BadAddress)?;
    let canonical = format!("[{address}]");
    let host = if canonical == host {
        Cow::Borrowed(host)
    } else {
        Cow::Owned(canonical)
    };
    Ok(Authority {
        host,
        port: port(after)?,
        is_ip: true,
    })
}

/// What follows the host: nothing, or `:` and digits.
fn port(after: &[u8]) -> Result<Option<u16>, AuthorityError> {
    match after {
        [] | [b':'] => Ok(None),
        [b':', digits @ ..] => number(digits).map(Some).ok_or(AuthorityError::BadPort),
        _ => Err(AuthorityError::BadPort),
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |n, d| match d {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u16::from(d - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(raw: &str) -> (String, Option<u16>, bool) {
        let a = parse(raw.as_bytes()).unwrap_or_else(|e| panic!("{raw:?} refused: {e}"));
        (a.host.into_owned(), a.port, a.is_ip)
    }

    #[test]
    fn canonical_names_are_borrowed() {
        for raw in [
            "example.com",
            "a",
            "xn--bcher-kva.example",
            "10.0.0.1",
            "[::1]",
            "a_b.c",
            "example.com:8080",
        ] {
            assert!(
                matches!(parse(raw.as_bytes()).unwrap().host, Cow::Borrowed(_)),
                "{raw}"
            );
        }
    }

    #[test]
    fn ac02_every_spelling_is_one_host() {
        for raw in [
            "example.com",
            "EXAMPLE.com",
            "example.COM.",
            "Example.Com.:",
            "example.com:",
        ] {
            assert_eq!(ok(raw), ("example.com".into(), None, false), "{raw}");
        }
        for raw in [
            "example.com:80",
            "EXAMPLE.COM.:80",
            "example.com:080",
            "example.com:00080",
        ] {
            assert_eq!(ok(raw), ("example.com".into(), Some(80), false), "{raw}");
        }
    }

    #[test]
    fn ac02_addresses() {
        assert_eq!(ok("127.0.0.1:8080"), ("127.0.0.1".into(), Some(8080), true));
        assert_eq!(ok("127.0.0.1."), ("127.0.0.1".into(), None, true));
        assert_eq!(ok("127.1"), ("127.1".into(), None, false));
        assert_eq!(ok("010.0.0.1"), ("010.0.0.1".into(), None, false));
        for raw in ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::0.0.0.1]"] {
            assert_eq!(ok(raw), ("[::1]".into(), None, true), "{raw}");
        }
        assert_eq!(
            ok("[2001:DB8::A]:443"),
            ("[2001:db8::a]".into(), Some(443), true)
        );
    }

    #[test]
    fn h1_20_refused() {
        use AuthorityError::*;
        let long = "a".repeat(256);
        let cases = [
            ("", EmptyHost),
            (":80", EmptyHost),
            (":", EmptyHost),
            (".", EmptyLabel),
            (".a", EmptyLabel),
            ("a..b", EmptyLabel),
            ("a..", EmptyLabel),
            ("a, b", BadByte),
            ("a,b", BadByte),
            ("a@b", BadByte),
            ("a/b", BadByte),
            ("a\\b", BadByte),
            ("a?b", BadByte),
            ("a#b", BadByte),
            ("a b", BadByte),
            (" a", BadByte),
            ("a\t", BadByte),
            ("a\0", BadByte),
            ("a%2eb", BadByte),
            ("a\"b", BadByte),
            ("b\u{fc}cher", BadByte),
            ("a]", BadByte),
            ("a:80:90", BadPort),
            ("a:99999", BadPort),
            ("a:65536", BadPort),
            ("a:+80", BadPort),
            ("a:-1", BadPort),
            ("a: 80", BadPort),
            ("a:80 ", BadPort),
            ("a:8a", BadPort),
            ("a:80,b", BadPort),
            ("a:80@b", BadPort),
            ("::1", EmptyHost),
            ("[::1", BadAddress),
            ("[]", BadAddress),
            ("[::1]a", BadAddress),
            ("[::1].", BadAddress),
            ("[::1%25eth0]", BadAddress),
            ("[::1%eth0]", BadAddress),
            ("[v1.a]", BadAddress),
            ("[127.0.0.1]", BadAddress),
            ("[[::1]]", BadAddress),
            ("[::1]:99999", BadPort),
            (long.as_str(), TooLong),
        ];
        for (raw, why) in cases {
            match parse(raw.as_bytes()) {
                // Two faults at once may be told as either; `::1` begins with an empty host and has a bad port.
                Err(e) => assert!(e == why || raw == "::1", "{raw:?}: {e:?}, wanted {why:?}"),
                Ok(a) => panic!("{raw:?} accepted as {a:?}"),
            }
        }
    }

    #[test]
    fn port_edges() {
        assert_eq!(ok("a:0").1, Some(0));
        assert_eq!(ok("a:65535").1, Some(65535));
        assert_eq!(parse(b"a").unwrap().port_or(443), 443);
        assert_eq!(parse(b"A.:81").unwrap().to_string(), "a:81");
    }

    #[test]
    fn the_longest_is_accepted() {
        assert_eq!(ok(&"a".repeat(MAX_AUTHORITY)).0.len(), MAX_AUTHORITY);
    }

    #[test]
    fn canonical_hosts() {
        for good in ["a.b", "[::1]", "10.0.0.1"] {
            assert!(is_canonical_host(good), "{good}");
        }
        for bad in ["A.b", "a.b.", "a:80", "[::0]", "", "a:"] {
            assert!(!is_canonical_host(bad), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_is_a_fixed_point(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            if let Ok(first) = parse(&raw) {
                let text = first.to_string();
                let again = parse(text.as_bytes()).unwrap();
                proptest::prop_assert_eq!(&first, &again);
                proptest::prop_assert!(matches!(again.host, Cow::Borrowed(_)));
            }
        }

        #[test]
        fn plausible_names_are_fixed_points(raw in "[a-zA-Z0-9.:\\[\\]-]{0,20}") {
            if let Ok(first) = parse(raw.as_bytes()) {
                let text = first.to_string();
                proptest::prop_assert_eq!(&first, &parse(text.as_bytes()).unwrap());
            }
        }
    }
}
