//! The cookie that keeps a client with its server: made, and read, without telling where the server is.
//!
//! A value is, in hexadecimal digits: version (1 byte), the server's tag (8), the minute since 1970 in which it was made
//! (4), and a code over all of it and the upstream's name (16). Tag and code are SipHash-2-4 under keys made from the
//! secret; who does not have it can neither make a cookie nor learn an address from one. RFC 6265 sets the form.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher128};

use crate::wish::Tag;

const VERSION: u8 = 1;
const SIGNED: usize = 1 + 8 + 4;
const ALL: usize = SIGNED + 16;
/// A cookie from so many minutes ahead is taken: the clocks of two proxies differ.
const AHEAD: u32 = 5;

/// What the cookies of an upstream are made with.
#[derive(Clone)]
pub struct Keys {
    tag: [u8; 16],
    seal: [u8; 16],
}

/// What a good cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Whose it is.
    pub tag: Tag,
    /// Age in minutes.
    pub age: u32,
}

impl Keys {
    /// From a secret, for the upstream of this name.
    pub fn new(secret: &[u8], upstream: &str) -> Self {
        let of = |what: &[u8]| {
            let mut hasher = SipHasher128::new_with_key(b"narthex sticky 1");
            field(&mut hasher, secret);
            let secret = hasher.finish128().as_bytes();
            let mut hasher = SipHasher128::new_with_key(&secret);
            field(&mut hasher, what);
            field(&mut hasher, upstream.as_bytes());
            hasher.finish128().as_bytes()
        };
        Self {
            tag: of(b"tag"),
            seal: of(b"seal"),
        }
    }

    /// The tag of a server: of its written name and its address.
    pub fn tag(&self, name: &str) -> Tag {
        let mut hasher = SipHasher24::new_with_key(&self.tag);
        hasher.write(name.as_bytes());
        Tag(hasher.finish())
    }

    /// A cookie's value. `now` is in minutes since 1970.
    pub fn seal(&self, tag: Tag, now: u32) -> String {
        let mut bytes = [0u8; ALL];
        let (signed, code) = bytes.split_at_mut(SIGNED);
        let words = [VERSION]
            .into_iter()
            .chain(tag.0.to_be_bytes())
            .chain(now.to_be_bytes());
        for (to, from) in signed.iter_mut().zip(words) {
            *to = from;
        }
        code.copy_from_slice(&self.code(signed));
        let mut text = String::with_capacity(2 * ALL);
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        text
    }

    /// Reads a cookie's value. `None` if we did not make it for this upstream, or it is older than `ttl` minutes.
    pub fn open(&self, text: &[u8], now: u32, ttl: u32) -> Option<Opened> {
        let bytes = unhex(text)?;
        let (signed, code) = bytes.split_at(SIGNED);
        let own = self.code(signed);
        // Without a branch that depends on where the first difference is.
        let differs = own.iter().zip(code).fold(0, |all, (a, b)| all | (a ^ b));
        let (&version, rest) = signed.split_first()?;
        let (tag, made) = rest.split_first_chunk::<8>()?;
        let made = u32::from_be_bytes(*made.first_chunk()?);
        let age = now.saturating_sub(made);
        let good =
            differs == 0 && version == VERSION && age <= ttl && made <= now.saturating_add(AHEAD);
        good.then_some(Opened {
            tag: Tag(u64::from_be_bytes(*tag)),
            age,
        })
    }

    fn code(&self, signed: &[u8]) -> [u8; 16] {
        let mut hasher = SipHasher128::new_with_key(&self.seal);
        hasher.write(signed);
        hasher.finish128().as_bytes()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// A piece with its length, so that two pieces cannot be cut elsewhere.
fn field(hasher: &mut impl Hasher, bytes: &[u8]) {
    hasher.write(&(bytes.len() as u64).to_le_bytes());
    hasher.write(bytes);
}

fn unhex(text: &[u8]) -> Option<[u8; ALL]> {
    let mut bytes = [0u8; ALL];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != ALL || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let mut digits = pair.iter().map(|d| match d {
            b'0'..=b'9' => Some(d - b'0'),
            b'a'..=b'f' => Some(d - b'a' + 10),
            _ => None,
        });
        *byte = digits.next()?? << 4 | digits.next()??;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8] = b"sixteen bytes or more";
    const NOW: u32 = 29_000_000;

    fn keys() -> Keys {
        Keys::new(SECRET, "api")
    }

    #[test]
    fn what_we_made_we_read() {
        let tag = keys().tag("10.0.0.1:80");
        let text = keys().seal(tag, NOW);
        assert_eq!(text.len(), 58);
        let opened = keys().open(text.as_bytes(), NOW + 7, 1440);
        assert_eq!(opened, Some(Opened { tag, age: 7 }));
    }

    #[test]
    fn another_upstream_and_another_secret_do_not() {
        let text = keys().seal(Tag(7), NOW);
        for keys in [
            Keys::new(SECRET, "web"),
            Keys::new(b"another secret here", "api"),
        ] {
            assert_eq!(keys.open(text.as_bytes(), NOW, 1440), None);
            assert_ne!(keys.tag("a"), self::keys().tag("a"));
        }
    }

    #[test]
    fn it_grows_old_and_is_not_from_the_future() {
        let text = keys().seal(Tag(7), NOW);
        assert!(keys().open(text.as_bytes(), NOW + 1440, 1440).is_some());
        assert!(keys().open(text.as_bytes(), NOW + 1441, 1440).is_none());
        assert!(keys().open(text.as_bytes(), NOW - 5, 1440).is_some());
        assert!(keys().open(text.as_bytes(), NOW - 6, 1440).is_none());
    }

    #[test]
    fn every_changed_digit_is_noticed() {
        let text = keys().seal(Tag(0x0123_4567_89ab_cdef), NOW).into_bytes();
        for at in 0..text.len() {
            for other in *b"0123456789abcdefABCDEF;g" {
                let mut forged = text.clone();
                forged[at] = other;
                let opened = keys().open(&forged, NOW, 1440);
                assert_eq!(opened.is_some(), forged == text, "digit {at}");
            }
            assert_eq!(keys().open(&text[..at], NOW, 1440), None);
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_asked(text in prop::collection::vec(any::<u8>(), 0..80), now: u32, ttl: u32) {
            prop_assert_eq!(keys().open(&text, now, ttl), None);
        }
    }
}
