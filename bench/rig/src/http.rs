//! The little HTTP that both sides need: where a head ends, and two of its fields.

/// Bytes of the head, its empty line included.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    // The last line's end is nearly always at the end of what was read, or followed by the body: look for `\n\r\n`.
    bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The value of a field, trimmed.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|b| *b == b'\n').skip(1).find_map(|line| {
        let (n, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        n.eq_ignore_ascii_case(name.as_bytes())
            .then(|| value.trim_ascii())
    })
}

/// `Content-Length`, if it is a number.
pub fn content_length(head: &[u8]) -> Option<u64> {
    std::str::from_utf8(field(head, "content-length")?)
        .ok()?
        .parse()
        .ok()
}

/// The status of a response head.
pub fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// Method and path (without query) of a request head.
pub fn request_line(head: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut words = head.split(|b| matches!(b, b' ' | b'\r'));
    let (method, target) = (words.next()?, words.next()?);
    let path = target.split(|b| *b == b'?').next()?;
    Some((method, path))
}

/// `128`, `10k`, `64m`: bytes.
pub fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = b"GET /10k?x=1 HTTP/1.1\r\nHost: a\r\ncontent-LENGTH:  12 \r\n\r\nbody";
        assert_eq!(head_end(head), Some(head.len() - 4));
        assert_eq!(content_length(head), Some(12));
        assert_eq!(field(head, "host"), Some(&b"a"[..]));
        assert_eq!(request_line(head), Some((&b"GET"[..], &b"/10k"[..])));
        assert_eq!(status(b"HTTP/1.1 204 No"), Some(204));
        assert_eq!(field(head, "get"), None);
    }

    #[test]
    fn sizes() {
        assert_eq!(size("128"), Some(128));
        assert_eq!(size("10k"), Some(10_240));
        assert_eq!(size("64m"), Some(64 << 20));
        assert_eq!(size("x"), None);
    }
}
