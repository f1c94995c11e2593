//! The field table: every field name the proxy knows, as a small number, with what may be done to it.

/// A known field name, or [`FieldId::Other`]. Below 64, so that a set of them is one machine word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the variants are the field names themselves
pub enum FieldId {
    Other = 0,
    Accept,
    AcceptEncoding,
    Age,
    Authorization,
    CacheControl,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentLocation,
    ContentRange,
    ContentType,
    Cookie,
    Date,
    ETag,
    Expect,
    Expires,
    Forwarded,
    Host,
    Http2Settings,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
    KeepAlive,
    LastModified,
    Location,
    Origin,
    Pragma,
    Priority,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    Referer,
    Refresh,
    RetryAfter,
    SecWebSocketKey,
    Server,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Vary,
    Via,
    WwwAuthenticate,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedPrefix,
    XForwardedProto,
    XForwardedServer,
    XForwardedSsl,
    XOriginalUrl,
    XPoweredBy,
    XRealIp,
    XRequestId,
    XRewriteUrl,
    XForwardedUri,
    XForwardedScheme,
}

use FieldId as F;

/// Canonical spelling, by id.
const NAMES: [(FieldId, &str); 62] = [
    (F::Accept, "Accept"),
    (F::AcceptEncoding, "Accept-Encoding"),
    (F::Age, "Age"),
    (F::Authorization, "Authorization"),
    (F::CacheControl, "Cache-Control"),
    (F::Connection, "Connection"),
    (F::ContentEncoding, "Content-Encoding"),
    (F::ContentLength, "Content-Length"),
    (F::ContentLocation, "Content-Location"),
    (F::ContentRange, "Content-Range"),
    (F::ContentType, "Content-Type"),
    (F::Cookie, "Cookie"),
    (F::Date, "Date"),
    (F::ETag, "ETag"),
    (F::Expect, "Expect"),
    (F::Expires, "Expires"),
    (F::Forwarded, "Forwarded"),
    (F::Host, "Host"),
    (F::Http2Settings, "HTTP2-Settings"),
    (F::IfMatch, "If-Match"),
    (F::IfModifiedSince, "If-Modified-Since"),
    (F::IfNoneMatch, "If-None-Match"),
    (F::IfRange, "If-Range"),
    (F::IfUnmodifiedSince, "If-Unmodified-Since"),
    (F::KeepAlive, "Keep-Alive"),
    (F::LastModified, "Last-Modified"),
    (F::Location, "Location"),
    (F::Origin, "Origin"),
    (F::Pragma, "Pragma"),
    (F::Priority, "Priority"),
    (F::ProxyAuthenticate, "Proxy-Authenticate"),
    (F::ProxyAuthorization, "Proxy-Authorization"),
    (F::ProxyConnection, "Proxy-Connection"),
    (F::Range, "Range"),
    (F::Referer, "Referer"),
    (F::Refresh, "Refresh"),
    (F::RetryAfter, "Retry-After"),
    (F::SecWebSocketKey, "Sec-WebSocket-Key"),
    (F::Server, "Server"),
    (F::SetCookie, "Set-Cookie"),
    (F::Te, "TE"),
    (F::Trailer, "Trailer"),
    (F::TransferEncoding, "Transfer-Encoding"),
    (F::Upgrade, "Upgrade"),
    (F::UserAgent, "User-Agent"),
    (F::Vary, "Vary"),
    (F::Via, "Via"),
    (F::WwwAuthenticate, "WWW-Authenticate"),
    (F::XForwardedFor, "X-Forwarded-For"),
    (F::XForwardedHost, "X-Forwarded-Host"),
    (F::XForwardedPort, "X-Forwarded-Port"),
    (F::XForwardedPrefix, "X-Forwarded-Prefix"),
    (F::XForwardedProto, "X-Forwarded-Proto"),
    (F::XForwardedServer, "X-Forwarded-Server"),
    (F::XForwardedSsl, "X-Forwarded-Ssl"),
    (F::XOriginalUrl, "X-Original-URL"),
    (F::XPoweredBy, "X-Powered-By"),
    (F::XRealIp, "X-Real-IP"),
    (F::XRequestId, "X-Request-Id"),
    (F::XRewriteUrl, "X-Rewrite-URL"),
    (F::XForwardedUri, "X-Forwarded-Uri"),
    (F::XForwardedScheme, "X-Forwarded-Scheme"),
];

const TABLE: usize = 256;
/// Bytes of a name that are looked at: no known one is longer.
pub const NAME_WINDOW: usize = 24;
/// Bit 5 of every byte: set, it folds the case of letters. Spaces, as padding, are the same bits.
const CASE: u64 = 0x2020_2020_2020_2020;

/// A name as three words, case folded, padded with spaces.
type Words = [u64; 3];

/// Bytes of a name that are kept, by its length.
static MASKS: [Words; NAME_WINDOW] = masks();

const fn masks() -> [Words; NAME_WINDOW] {
    let mut masks = [[0; 3]; NAME_WINDOW];
    let mut len = 0;
    while len < NAME_WINDOW {
        let mut k = 0;
        while k < len {
            masks[len][k / 8] |= 0xff << ((k % 8) * 8);
            k += 1;
        }
        len += 1;
    }
    masks
}

/// Spreads the known names over the table without a collision, which the build checks. Found by trying odd numbers at random;
/// a new name may need another (about one in 1,500 will do).
const MULTIPLIER: u64 = 0x5279_161c_26ba_95e3;

/// The name's slot, by its first 16 bytes: no two names share those. Case is folded by setting a bit that all lower-case letters
/// have.
const fn slot(words: &Words) -> usize {
    let mixed = (words[0] | CASE) ^ (words[1] | CASE).rotate_left(21);
    (mixed.wrapping_mul(MULTIPLIER) >> (64 - TABLE.trailing_zeros())) as usize
}

/// A slot of the table.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Known {
    /// In lower case, padded with zeros.
    words: Words,
    /// Bit 5 where a letter stands: what may differ. `-` and digits must be themselves.
    fold: Words,
    len: u8,
    id: FieldId,
}

/// Of a slot without a name: no name is so long.
const NO_LENGTH: u8 = u8::MAX;

const fn build() -> [Known; TABLE] {
    let mut table = [Known {
        words: [0; 3],
        fold: [0; 3],
        len: NO_LENGTH,
        id: F::Other,
    }; TABLE];
    let mut i = 0;
    while i < NAMES.len() {
        let name = NAMES[i].1.as_bytes();
        let mut words = [0; 3];
        let mut fold = [0; 3];
        let mut k = 0;
        while k < name.len() {
            let shift = (k % 8) * 8;
            words[k / 8] |= (name[k].to_ascii_lowercase() as u64) << shift;
            if name[k].is_ascii_alphabetic() {
                fold[k / 8] |= 0x20 << shift;
            }
            k += 1;
        }
        let at = slot(&words);
        assert!(
            matches!(table[at].id, F::Other),
            "two names in one slot: MULTIPLIER must change"
        );
        table[at] = Known {
            words,
            fold,
            len: name.len() as u8,
            id: NAMES[i].0,
        };
        i += 1;
    }
    table
}

/// One name per slot; a name is looked for in its own slot only.
static KNOWN: [Known; TABLE] = build();

/// The id of a name given as raw words, padded with zeros.
#[inline]
fn lookup(raw: &Words, len: usize) -> Option<FieldId> {
    let known = KNOWN.get(slot(raw) & (TABLE - 1))?;
    let is = |word: usize| raw[word] | known.fold[word] == known.words[word];
    // Of names of one length that are no longer than two words the third says nothing. The length counts in any case: a name
    // that ends in a zero is not the one without it.
    let same = is(0) && is(1) && usize::from(known.len) == len && (len <= 16 || is(2));
    same.then_some(known.id)
}

#[inline]
fn load(window: &[u8; NAME_WINDOW]) -> Words {
    let mut words = [0; 3];
    for (word, chunk) in words.iter_mut().zip(window.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

impl FieldId {
    /// The id of a name in any case. Names with `_` for `-` are not equal here; see [`FieldId::resembling`]. A name that is
    /// found is a valid token.
    pub fn of(name: &[u8]) -> Self {
        let mut window = [0; NAME_WINDOW];
        match window.get_mut(..name.len()) {
            Some(place) => place.copy_from_slice(name),
            None => return F::Other,
        }
        lookup(&load(&window), name.len()).unwrap_or(F::Other)
    }

    /// The id of the known name that is the first `len` bytes of a line's start.
    #[inline]
    pub fn at_start_of(window: &[u8; NAME_WINDOW], len: usize) -> Option<Self> {
        let mask = MASKS.get(len)?;
        let words = load(window);
        lookup(
            &[words[0] & mask[0], words[1] & mask[1], words[2] & mask[2]],
            len,
        )
    }

    /// The id of the known name that a sloppy reader could take `name` for: `_`, `.` and spaces read as `-`.
    pub fn resembling(name: &[u8]) -> Self {
        let mut folded = [0u8; 32];
        let Some(folded) = folded.get_mut(..name.len()) else {
            return F::Other;
        };
        for (to, &from) in folded.iter_mut().zip(name) {
            *to = if matches!(from, b'_' | b'.' | b' ') {
                b'-'
            } else {
                from
            };
        }
        Self::of(folded)
    }

    /// Canonical spelling; empty for [`FieldId::Other`].
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(id, _)| *id == self)
            .map_or("", |(_, name)| name)
    }
}

/// A set of known fields: one bit each. [`FieldId::Other`] is never in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FieldSet(u64);

impl FieldSet {
    /// Nothing.
    pub const EMPTY: Self = Self(0);

    /// The set of these.
    pub const fn of(ids: &[FieldId]) -> Self {
        let mut bits = 0u64;
        let mut i = 0;
        while i < ids.len() {
            bits |= 1 << ids[i] as u8;
            i += 1;
        }
        Self(bits & !1)
    }

    /// Is `id` in it?
    #[inline]
    pub const fn has(self, id: FieldId) -> bool {
        self.0 >> (id as u8) & 1 == 1
    }

    /// The set of `id` alone, if it is in this one.
    #[inline]
    #[must_use]
    pub const fn only(self, id: FieldId) -> Self {
        Self(self.0 & (1 << id as u8))
    }

    /// Adds `id`.
    #[inline]
    pub fn insert(&mut self, id: FieldId) {
        self.0 |= (1 << id as u8) & !1;
    }

    /// Takes `id` out.
    pub fn remove(&mut self, id: FieldId) {
        self.0 &= !(1 << id as u8);
    }

    /// Both.
    #[must_use]
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// In both.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Hop-by-hop fields (RFC 9110 7.6.1): about one connection, never forwarded as they came.
pub const HOP_BY_HOP: FieldSet = FieldSet::of(&[
    F::Connection,
    F::KeepAlive,
    F::ProxyConnection,
    F::Te,
    F::TransferEncoding,
    F::Upgrade,
    F::Http2Settings,
    F::ProxyAuthenticate,
    F::ProxyAuthorization,
]);

/// What tells a message's length or destination: always written from the model.
pub const FRAMING: FieldSet =
    FieldSet::of(&[F::ContentLength, F::TransferEncoding, F::Host, F::Trailer]);

/// What the proxy says about the client: the client's own copies are removed, in every spelling, before anything else.
pub const PROXY_OWNED: FieldSet = FieldSet::of(&[
    F::Forwarded,
    F::XForwardedFor,
    F::XForwardedHost,
    F::XForwardedPort,
    F::XForwardedPrefix,
    F::XForwardedProto,
    F::XForwardedScheme,
    F::XForwardedServer,
    F::XForwardedSsl,
    F::XForwardedUri,
    F::XOriginalUrl,
    F::XRealIp,
    F::XRewriteUrl,
    F::XRequestId,
]);

/// Of these, what a trusted peer says and we do not say anew: it knows how the client reached it, we do not.
pub const BELIEVED: FieldSet = FieldSet::of(&[
    F::XForwardedHost,
    F::XForwardedPort,
    F::XForwardedPrefix,
    F::XForwardedScheme,
    F::XForwardedServer,
    F::XForwardedSsl,
]);

/// Fields that `Connection` may nominate without effect: losing them changes length, routing, identity or meaning
/// (RFC 9110 7.6.1 asks senders not to; CVE-2022-45059 is what happens otherwise).
pub const NOT_NOMINABLE: FieldSet = FRAMING.union(PROXY_OWNED).union(FieldSet::of(&[
    F::Authorization,
    F::CacheControl,
    F::ContentEncoding,
    F::ContentLocation,
    F::ContentRange,
    F::ContentType,
    F::Cookie,
    F::Date,
    F::ETag,
    F::Expect,
    F::Origin,
    F::Range,
    F::SetCookie,
    F::Vary,
    F::Via,
    F::WwwAuthenticate,
    F::Accept,
    F::AcceptEncoding,
    F::Referer,
    F::UserAgent,
    F::Location,
]));

/// Names that must not stand in a trailer section (RFC 9110 6.5.1): framing, routing, authentication, caching,
/// conditions, content meaning.
pub const NOT_IN_TRAILERS: FieldSet = NOT_NOMINABLE.union(HOP_BY_HOP).union(FieldSet::of(&[
    F::Age,
    F::Expires,
    F::IfMatch,
    F::IfModifiedSince,
    F::IfNoneMatch,
    F::IfRange,
    F::IfUnmodifiedSince,
    F::LastModified,
    F::Pragma,
    F::Refresh,
    F::RetryAfter,
]));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for (id, name) in NAMES {
            assert_eq!(FieldId::of(name.as_bytes()), id);
            assert_eq!(FieldId::of(name.to_ascii_lowercase().as_bytes()), id);
            assert_eq!(FieldId::of(name.to_ascii_uppercase().as_bytes()), id);
            assert_eq!(FieldId::resembling(name.replace('-', "_").as_bytes()), id);
            assert_eq!(id.name(), name);
            assert!((id as u8) < 64);
        }
    }

    #[test]
    fn one_wrong_byte_makes_a_stranger() {
        for (id, name) in NAMES {
            for at in 0..name.len() {
                for byte in 0..=255u8 {
                    let mut bytes = name.as_bytes().to_vec();
                    bytes[at] = byte;
                    let found = FieldId::of(&bytes);
                    let same = bytes.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(found == id, same, "{name} with {byte:#x} at {at}");
                    assert!(
                        found == F::Other || found.name().as_bytes().eq_ignore_ascii_case(&bytes)
                    );
                }
            }
        }
    }

    #[test]
    fn strangers_are_other() {
        for name in [
            "",
            "x",
            "Hos",
            "Hostt",
            "Content-Lengt",
            "X-Forwarded-Fo\u{0}",
            "X-Forwarded-For\u{0}",
            "Host\u{0}",
            "Content_Length",
        ] {
            assert_eq!(FieldId::of(name.as_bytes()), F::Other, "{name}");
            let mut window = *b"\0: not a part of the name\0"
                .first_chunk::<NAME_WINDOW>()
                .unwrap();
            window[..name.len()].copy_from_slice(name.as_bytes());
            assert_eq!(
                FieldId::at_start_of(&window, name.len()),
                None,
                "{name} at a start"
            );
        }
        for len in 0..=u8::MAX {
            assert_eq!(FieldId::at_start_of(&[0; NAME_WINDOW], len.into()), None);
        }
        assert!(!FieldSet::of(&[F::Other]).has(F::Other));
    }
}
