//! Targets of redirects.

use narthex_config::model::{Part, Template, Var};

use crate::template::View;
use crate::url::{Piece, UrlWriter};
use crate::values::Values;

/// Appends the `Location` that `template` makes. False if there is none (nothing in it, more than 64 KiB, or `https://`
/// with an empty host); then nothing is appended.
///
/// What variables hold is encoded for the place where it lands: a capture is path already, a cookie is not. A template
/// that doesn't name a host itself leads to this site, whatever its variables hold: `/{rest}` never becomes `//evil`, and
/// `{query.next}` never `https://evil`.
pub fn location(template: &Template, values: &Values<'_>, out: &mut Vec<u8>) -> bool {
    let mut url = UrlWriter::location();
    compose(template, &View::of(values), &mut url);
    match url.into_location() {
        Some(location) => {
            out.extend_from_slice(&location);
            true
        }
        None => false,
    }
}

/// Writes `template` as a URL.
pub(crate) fn compose(template: &Template, view: &View<'_, '_>, url: &mut UrlWriter) {
    let mut value = Vec::new();
    for (i, part) in template.parts.iter().enumerate() {
        let last = ends_host(template.parts.get(i.saturating_add(1)));
        match part {
            Part::Text(text) => url.text(text),
            Part::Var(Var::Uri) => url.uri(view.path.as_bytes(), view.query, last),
            Part::Var(var) => {
                value.clear();
                view.write(var, &mut value);
                url.value(piece(var), &value, last);
            }
        }
        if url.is_too_long() {
            return;
        }
    }
}

/// Would a host end before this part?
fn ends_host(next: Option<&Part>) -> bool {
    match next {
        None => true,
        Some(Part::Text(text)) => text.starts_with(['/', '?', '#']),
        Some(Part::Var(var)) => matches!(var, Var::Path | Var::Uri),
    }
}

/// How much of a variable is URL already.
pub(crate) fn piece(var: &Var) -> Piece {
    match var {
        Var::Scheme => Piece::Scheme,
        Var::Host | Var::Authority => Piece::Host,
        Var::Path => Piece::Path,
        Var::Query => Piece::Query,
        Var::Capture(_) => Piece::Encoded,
        _ => Piece::Plain,
    }
}

#[cfg(test)]
mod tests;
