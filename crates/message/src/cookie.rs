//! Cookies, read by name over all `Cookie` fields of a request (HTTP/2 may split one into many, RFC 9113 §8.2.3).
//!
//! Lenient as RFC 6265 §5.4 user agents are: pairs are separated by `;`, whitespace around names and values is cut,
//! what has no `=` is skipped. Values are given as sent, quotes included. Nothing is copied.

/// Every value of the cookie `name` (case-sensitive) in one field's value, in order.
pub fn values<'a>(field: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    field.split(|b| *b == b';').filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at_checked(at)?;
        (key.trim_ascii() == name.as_bytes())
            .then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// The first value of the cookie `name` over several `Cookie` fields.
pub fn first<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &'a str) -> Option<&'a [u8]> {
    fields
        .into_iter()
        .find_map(|field| values(field, name).next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_several_fields() {
        let fields = [&b"a=1; b=2"[..], b"c=3;b=4"];
        assert_eq!(first(fields, "a"), Some(&b"1"[..]));
        assert_eq!(first(fields, "b"), Some(&b"2"[..]));
        assert_eq!(first(fields, "c"), Some(&b"3"[..]));
        assert_eq!(first(fields, "d"), None);
        assert_eq!(first([], "a"), None);
    }

    #[test]
    fn odd_pairs() {
        let field = &b"x; =y;  a = \"q\" ;A=2;a=b=c;;a="[..];
        assert_eq!(
            values(field, "a").collect::<Vec<_>>(),
            vec![&b"\"q\""[..], b"b=c", b""]
        );
        assert_eq!(values(field, "x").count(), 0);
        assert_eq!(values(field, "A").next(), Some(&b"2"[..]));
        assert_eq!(values(b"xa=1", "a").count(), 0);
    }
}
