//! The reference for the one canonical path (RFC 3986, 6.2.2, and stricter), step by step instead of in one pass.

/// What a path must look like at the origin; `None` if it must be refused.
pub fn canonical_path(raw: &[u8]) -> Option<Vec<u8>> {
    let mut done: Vec<Vec<u8>> = Vec::new();
    let segments: Vec<&[u8]> = raw.strip_prefix(b"/")?.split(|b| *b == b'/').collect();
    let last = segments.len() - 1;
    for (i, segment) in segments.iter().enumerate() {
        let segment = normal_segment(segment)?;
        match segment.as_slice() {
            b"." | b".." => {
                if segment == b".." {
                    done.pop()?;
                }
                // A dot segment at the end names a directory: the path ends with a slash.
                if i == last {
                    done.push(Vec::new());
                }
            }
            s if hides_dots(s) => return None,
            _ => done.push(segment),
        }
    }
    Some(
        done.iter()
            .flat_map(|s| [b"/", s.as_slice()].concat())
            .collect(),
    )
}

/// Decodes unreserved characters, writes hex in upper case, encodes what RFC 3986 does not allow.
fn normal_segment(raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = raw.iter();
    while let Some(b) = bytes.next() {
        let (value, encoded) = match b {
            b'%' => {
                let digits = [*bytes.next()?, *bytes.next()?];
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                (
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?,
                    true,
                )
            }
            _ => (*b, false),
        };
        let unreserved = value.is_ascii_alphanumeric() || b"-._~".contains(&value);
        let plain = unreserved || (!encoded && b"!$&'()*+,;=:@".contains(&value));
        let forbidden = value < 0x20 || value == 0x7f || value == b'\\';
        if forbidden || (!encoded && (value >= 0x80 || b" #?".contains(&value))) {
            return None;
        }
        if plain {
            out.push(value);
        } else {
            out.extend_from_slice(format!("%{value:02X}").as_bytes());
        }
    }
    Some(out)
}

/// Would a server that cuts `;parameters` or decodes `%2F` see a dot segment?
fn hides_dots(segment: &[u8]) -> bool {
    let text = String::from_utf8_lossy(segment).replace("%2F", "/");
    text.split('/')
        .any(|part| matches!(part.split(';').next(), Some("." | "..")))
}

/// A whole origin-form target: path made canonical, query untouched.
pub fn canonical_target(raw: &[u8]) -> Option<Vec<u8>> {
    let end = raw.iter().position(|b| *b == b'?').unwrap_or(raw.len());
    let (path, query) = raw.split_at(end);
    let fine = |b: &u8| (0x21..0x7f).contains(b) && *b != b'#';
    if !query.iter().all(fine) {
        return None;
    }
    Some([canonical_path(path)?.as_slice(), query].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_decodes_and_refuses() {
        let canon = |s: &str| canonical_target(s.as_bytes()).map(|v| String::from_utf8(v).unwrap());
        for (raw, want) in [
            ("/", Some("/")),
            ("/a/./b/../c", Some("/a/c")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/..", Some("/")),
            ("/a/b/.", Some("/a/b/")),
            ("/%61%2f%7e", Some("/a%2F~")),
            ("//a//b", Some("//a//b")),
            ("/a|b", Some("/a%7Cb")),
            ("/a?b=%zz\\|", Some("/a?b=%zz\\|")),
            ("/..", None),
            ("/a/..;/b", None),
            ("/a%2f..", None),
            ("/%", None),
            ("/%5c", None),
            ("/\\", None),
            ("/%00", None),
            ("/a b", None),
            ("a", None),
        ] {
            assert_eq!(canon(raw).as_deref(), want, "{raw}");
        }
    }
}
