//! Base64: the usual alphabet, padded (RFC 4648 section 4).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    encode_to(bytes, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Encodes, behind what is in `out`.
pub fn encode_to(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let letter = |bits: u32| ALPHABET.get(bits as usize & 63).copied().unwrap_or(b'=');
    let (threes, rest) = bytes.as_chunks::<3>();
    for [a, b, c] in threes {
        let bits = u32::from_be_bytes([0, *a, *b, *c]);
        out.extend([18, 12, 6, 0].map(|shift| letter(bits >> shift)));
    }
    match rest {
        [a] => {
            let bits = u32::from_be_bytes([0, *a, 0, 0]);
            out.extend_from_slice(&[letter(bits >> 18), letter(bits >> 12), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from_be_bytes([0, *a, *b, 0]);
            let letters = [18, 12, 6].map(|shift| letter(bits >> shift));
            out.extend(letters.into_iter().chain([b'=']));
        }
        _ => {}
    }
}

/// `None` if it is no Base64, or was not made by an encoder that fills what is left over with zeros.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (fours, rest) = text.as_bytes().as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(fours.len() * 3);
    for four in fours {
        // Only the last may be padded.
        if !out.len().is_multiple_of(3) {
            return None;
        }
        let (three, n) = decode_four(*four)?;
        out.extend_from_slice(three.get(..n)?);
    }
    Some(out)
}

/// Four letters, of which the last two may be padding: so many of the three bytes.
pub fn decode_four(four: [u8; 4]) -> Option<([u8; 3], usize)> {
    let n = match four {
        [_, _, b'=', b'='] => 1,
        [.., b'='] => 2,
        _ => 3,
    };
    let mut bits = 0;
    for (place, letter) in four.into_iter().enumerate() {
        bits = bits << 6 | if place > n { 0 } else { value(letter)? };
    }
    let [_, three @ ..] = bits.to_be_bytes();
    let left = three.get(n..).unwrap_or_default();
    left.iter().all(|b| *b == 0).then_some((three, n))
}

fn value(letter: u8) -> Option<u32> {
    let at = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_the_rfc_says() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded).as_deref(), Some(plain.as_bytes()));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "Z===", "====", "=", "Zh==", "Zm9=", "Zm9-", "Zg==Zg==",
            "Zg= =", "Zm9v\n",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn what_is_decoded_is_encoded_the_same(text in "[A-Za-z0-9+/=]{0,12}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
