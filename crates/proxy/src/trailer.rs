//! Trailer sections: the same scanner as for heads, and a short list of what may pass (RFC 9110 6.5). They are held in the form
//! of HTTP/1, whatever they came by.

use narthex_message::field::NOT_IN_TRAILERS;
use narthex_message::validate::is_nominated;
use narthex_message::{FieldId, Head, Index, Reject};
use narthex_mux::MuxStream;
use narthex_wire::h1::encode;
use narthex_wire::h1::scan::{self, HeadLimits, Progress};

use crate::handle::Exchange;
use crate::tls;
use crate::work::Work;

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

/// Takes the section with which a message of HTTP/2 has ended, if it had one, into `held`: as a complete one of HTTP/1, and by
/// the same rules.
pub(crate) fn take_from(
    stream: Option<&MuxStream>,
    limits: &HeadLimits,
    held: &mut Vec<u8>,
) -> Result<(), Reject> {
    held.clear();
    let Some(trailers) = stream.and_then(MuxStream::take_trailers) else {
        return Ok(());
    };
    if trailers.oversize.is_some() {
        return Err(Reject::TrailersTooLarge);
    }
    let (lines, index) = (&trailers.bytes, &trailers.index);
    let mut section = Vec::with_capacity(lines.len() + 2);
    for field in &index.fields {
        line(field.name.of(lines), field.value.of(lines), &mut section);
    }
    section.extend_from_slice(b"\r\n");
    match take(held, &section, limits)? {
        (n, true) if n == section.len() => Ok(()),
        _ => Err(Reject::Trailer),
    }
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

impl Exchange<'_> {
    /// The end of a request in chunks.
    pub(crate) fn end_chunks(&self, work: &Work, out: &mut Vec<u8>) {
        out.extend_from_slice(b"0\r\n");
        self.write_trailers(work, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes those lines of the request's trailers that a server gets. What filters remove or set, what we say ourselves and what
    /// the client's `Connection` names has no way around through them. `work`: has the request in it.
    pub(crate) fn write_trailers(&self, work: &Work, out: &mut Vec<u8>) {
        let (Some(plan), Some(route)) = (self.plan(), self.route_config()) else {
            return;
        };
        if work.request_trailers.is_empty() {
            return;
        }
        let mut index = Index::default();
        let limits = &plan.bounds.trailer_limits;
        let Ok(Progress::Complete(_)) = scan::trailers(&work.request_trailers, &mut index, limits)
        else {
            return;
        };
        let section = Head::new(&work.request_trailers, &index);
        let request = Head::new(&work.input, &work.index);
        let id = &self.rt.runtime.config.request_id;
        encode::each_kept(section, self.kept(&route.settings), &work.edits, |f| {
            let name = f.name.of(section.bytes);
            let ours = self.rt.runtime.tls.asks_clients() && tls::identity::tells(name)
                || id.enabled && name.eq_ignore_ascii_case(id.header.as_bytes());
            if !ours && !is_nominated(request, f.id, name) {
                line(name, f.value.of(section.bytes), out);
            }
        });
    }
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
