//! Base64 (RFC 4648 sections 4 and 5) of what operators write: keys of TSIG and of external accounts.

/// Characters of a written key at most.
const TEXT_MAX: usize = 4096;

/// The bytes of either alphabet, with padding or without; `None` if it is neither.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    if text.len() > TEXT_MAX || text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for c in text.bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn both_alphabets() {
        assert_eq!(base64("").as_deref(), Some(&b""[..]));
        assert_eq!(base64("Zg==").as_deref(), Some(&b"f"[..]));
        assert_eq!(base64("Zm8").as_deref(), Some(&b"fo"[..]));
        assert_eq!(base64("Zm9vYmFy\n").as_deref(), Some(&b"foobar"[..]));
        assert_eq!(base64("-_+/"), base64("+/-_"));
        for wrong in ["Z", "Zg==Zg", "Zm 9", "Zä"] {
            assert_eq!(base64(wrong), None, "{wrong}");
        }
    }
}
