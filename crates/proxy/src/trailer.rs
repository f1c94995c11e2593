//! Trailer sections: the same scanner as for heads, and a short list of what may pass (RFC 9110 6.5).

use narthex_message::field::NOT_IN_TRAILERS;
use narthex_message::{FieldId, Index, Reject};
use narthex_wire::h1::scan::{self, HeadLimits, Progress};

/// Gathers a trailer section from `bytes` into `held`. Returns how many bytes belong to it and whether it is complete; a
/// complete one is well-formed and has no name that must not stand there.
pub(crate) fn take(
    held: &mut Vec<u8>,
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<(usize, bool), Reject> {
    let before = held.len();
    held.extend_from_slice(bytes);
    let mut index = Index::default();
    match scan::trailers(held, &mut index, limits).map_err(word)? {
        Progress::Partial => Ok((bytes.len(), false)),
        Progress::Complete(end) => {
            if has_forbidden(held, &index) {
                return Err(Reject::Trailer);
            }
            held.truncate(end);
            Ok((end.saturating_sub(before), true))
        }
    }
}

/// Does a section name what must not stand there?
fn has_forbidden(lines: &[u8], index: &Index) -> bool {
    index.fields.iter().any(|f| {
        let name = f.name.of(lines);
        NOT_IN_TRAILERS.has(f.id) || (f.sloppy && NOT_IN_TRAILERS.has(FieldId::resembling(name)))
    })
}

/// A section that came by HTTP/2, as a complete one of HTTP/1; `None` if it names what must not stand there.
pub(crate) fn of_stream(lines: &[u8], index: &Index) -> Option<Vec<u8>> {
    if has_forbidden(lines, index) {
        return None;
    }
    let mut section = Vec::with_capacity(lines.len() + 2);
    for field in &index.fields {
        section.extend_from_slice(field.name.of(lines));
        section.extend_from_slice(b": ");
        section.extend_from_slice(field.value.of(lines));
        section.extend_from_slice(b"\r\n");
    }
    section.extend_from_slice(b"\r\n");
    Some(section)
}

fn word(reject: Reject) -> Reject {
    match reject {
        Reject::HeadTooLarge | Reject::FieldTooLong | Reject::TooManyFields => {
            Reject::TrailersTooLarge
        }
        Reject::BareLineEnd => Reject::BareLineEnd,
        _ => Reject::Trailer,
    }
}

/// Writes the field lines of a complete section.
pub(crate) fn copy(section: &[u8], limits: &HeadLimits, out: &mut Vec<u8>) {
    let mut index = Index::default();
    if let Ok(Progress::Complete(end)) = scan::trailers(section, &mut index, limits) {
        out.extend_from_slice(section.get(..end.saturating_sub(2)).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        line: 256,
        field: 256,
        head: 1024,
        fields: 4,
    };

    fn all(section: &[u8]) -> Result<(usize, bool), Reject> {
        take(&mut Vec::new(), section, &LIMITS)
    }

    #[test]
    fn good_ones() {
        assert_eq!(all(b"\r\nGET"), Ok((2, true)));
        assert_eq!(all(b"X: y\r\n\r\nGET"), Ok((8, true)));
        assert_eq!(all(b"X: y\r\n"), Ok((6, false)));
        let mut held = Vec::new();
        for byte in b"X: y\r\n\r" {
            assert_eq!(take(&mut held, &[*byte], &LIMITS), Ok((1, false)));
        }
        assert_eq!(take(&mut held, b"\nrest", &LIMITS), Ok((1, true)));
    }

    #[test]
    fn framing_routing_and_identity_have_no_place_there() {
        for name in [
            "Content-Length",
            "host",
            "TRANSFER-ENCODING",
            "X-Forwarded-For",
            "x_forwarded_for",
            "Authorization",
            "Cookie",
            "Connection",
        ] {
            assert_eq!(
                all(format!("{name}: 1\r\n\r\n").as_bytes()),
                Err(Reject::Trailer),
                "{name}"
            );
        }
        assert_eq!(all(b"a: b\n\r\n"), Err(Reject::BareLineEnd));
        assert_eq!(
            all("X: y\r\n".repeat(5).as_bytes()),
            Err(Reject::TrailersTooLarge)
        );
    }
}
