//! Words both sides of the kit share: a field list and the strict grammar of RFC 9110.

/// Field lines in order, names as received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(Vec<u8>, Vec<u8>)>);

impl Fields {
    /// Every value of `name` (any case), in order.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.0
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| v.as_slice())
            .collect()
    }
    /// The first value of `name` as text; bytes that are not UTF-8 are replaced.
    pub fn get(&self, name: &str) -> Option<String> {
        self.all(name)
            .first()
            .map(|v| String::from_utf8_lossy(v).into_owned())
    }
    /// Is there a field of this name?
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
    /// Does a list field (RFC 9110, 5.6.1) hold this token, in any case?
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .iter()
            .flat_map(|v| v.split(|b| *b == b','))
            .any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// RFC 9110, 5.6.2.
pub fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// A non-empty token.
pub fn is_token(s: &[u8]) -> bool {
    !s.is_empty() && s.iter().copied().all(is_tchar)
}

/// A byte that may be in a field value (RFC 9110, 5.5): HTAB, SP, visible ASCII, obs-text.
pub fn is_value_byte(b: u8) -> bool {
    b == b'\t' || (b >= 0x20 && b != 0x7f)
}

/// Strips optional whitespace (SP, HTAB) at both ends.
pub fn trim_ows(mut v: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = v {
        v = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = v {
        v = rest;
    }
    v
}

/// `1*20DIGIT` that fits 63 bits, and nothing else.
pub fn decimal(v: &[u8]) -> Option<u64> {
    if v.is_empty() || v.len() > 20 || !v.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut n: u64 = 0;
    for d in v {
        n = n.checked_mul(10)?.checked_add(u64::from(d - b'0'))?;
    }
    i64::try_from(n).is_ok().then_some(n)
}

/// `1*16HEXDIG` that fits 63 bits.
pub fn hex(v: &[u8]) -> Option<u64> {
    if v.is_empty() || v.len() > 16 || !v.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let n = u64::from_str_radix(std::str::from_utf8(v).ok()?, 16).ok()?;
    i64::try_from(n).is_ok().then_some(n)
}

/// Splits one strict field line (without its CRLF): token, colon, value without surrounding whitespace.
pub fn field_line(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = (line.get(..colon)?, trim_ows(line.get(colon + 1..)?));
    (is_token(name) && value.iter().copied().all(is_value_byte))
        .then(|| (name.to_vec(), value.to_vec()))
}
