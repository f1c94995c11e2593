//! Path patterns and literal paths, in the canonical form that requests are matched in.

use crate::model::{PathPattern, Segment};
use crate::source::Span;
use std::fmt::Write as _;

use super::context::Context;
use super::template;

/// Longest path in a configuration, in bytes.
const MAX_PATH: usize = 4096;
/// Segments of one pattern, and names it may capture: what the router takes.
const MAX_SEGMENTS: usize = 64;
pub(super) const MAX_CAPTURES: usize = 16;

/// Reads a literal path.
pub fn literal(ctx: &mut Context<'_>, text: &str, span: Span) -> Option<String> {
    check(ctx, text, span)?;
    Some(encode(text))
}

/// Reads `/exact`, `/under/*`, `/u/{id}/x`, `/old/{rest*}`; also the names it captures.
pub fn pattern(
    ctx: &mut Context<'_>,
    text: &str,
    span: Span,
) -> Option<(PathPattern, Vec<String>)> {
    if text == "*" {
        ctx.error(
            "bad-path",
            span,
            "\"*\" is not a path pattern",
            "leave `path=` out to match every path",
        );
        return None;
    }
    check(ctx, text, span)?;
    if let Some(prefix) = text.strip_suffix("/*")
        && !prefix.contains(['*', '{', '}'])
    {
        let prefix = if prefix.is_empty() {
            "/".to_owned()
        } else {
            encode(prefix)
        };
        return Some((PathPattern::Prefix(prefix), Vec::new()));
    }
    if !text.contains(['*', '{', '}']) {
        return Some((PathPattern::Exact(encode(text)), Vec::new()));
    }
    segments(ctx, text, span)
}

fn check(ctx: &mut Context<'_>, text: &str, span: Span) -> Option<()> {
    let problem = if !text.starts_with('/') {
        Some((
            format!("\"{text}\" does not begin with `/`"),
            format!("write \"/{text}\""),
        ))
    } else if text.len() > MAX_PATH {
        Some((
            format!("this path is longer than {MAX_PATH} bytes"),
            "use a shorter one".to_owned(),
        ))
    } else if let Some((path, _)) = text.split_once(['?', '#']) {
        Some((
            format!("\"{text}\" has a query"),
            format!("write \"{path}\" and `when {{ query \"name\" \"value\" }}`"),
        ))
    } else if text.matches('/').count() > MAX_SEGMENTS {
        Some((
            format!("this path has more than {MAX_SEGMENTS} segments"),
            "use a shorter one, or `/*`".to_owned(),
        ))
    } else if text.contains('\\') || text.chars().any(char::is_control) {
        Some((
            "this path has a backslash or a control character; such requests are refused"
                .to_owned(),
            "leave it out; a path has forward slashes".to_owned(),
        ))
    } else if has_dots(text) {
        Some((
            format!("\"{text}\" has dot segments; requests have them resolved"),
            "write the resolved path".to_owned(),
        ))
    } else {
        percent_problem(text)
    };
    match problem {
        None => Some(()),
        Some((message, help)) => {
            ctx.error("bad-path", span, message, help);
            None
        }
    }
}

/// Dot segments, plain or hidden behind a parameter or an encoded slash.
fn has_dots(text: &str) -> bool {
    let part = |p: &str| matches!(p.split(';').next(), Some("." | ".."));
    text.split('/').flat_map(|s| s.split("%2F")).any(part)
}

/// Requests are matched with unreserved characters decoded and hexadecimal digits in upper case; so are patterns.
fn percent_problem(text: &str) -> Option<(String, String)> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes
            .get(at + 1..at + 3)
            .filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits.and_then(|d| std::str::from_utf8(d).ok()) else {
            return Some((
                format!("\"{text}\" has a `%` without two hexadecimal digits"),
                "write \"%25\" for a percent sign".into(),
            ));
        };
        let byte = u8::from_str_radix(digits, 16).unwrap_or(b'%');
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            return Some((
                format!("\"%{digits}\" never comes: requests are matched with it decoded"),
                format!("write \"{}\"", char::from(byte)),
            ));
        }
        if digits.bytes().any(|b| b.is_ascii_lowercase()) {
            return Some((
                format!("\"%{digits}\" never comes: requests are matched in upper case"),
                format!("write \"%{}\"", digits.to_ascii_uppercase()),
            ));
        }
        if byte < b' ' || byte == 0x7f || byte == b'\\' {
            return Some((
                format!("\"%{digits}\" never comes: such requests are refused"),
                "leave it out".into(),
            ));
        }
    }
    None
}

/// What a request's canonical path has percent-encoded: everything that is no `pchar` or slash.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn segments(ctx: &mut Context<'_>, text: &str, span: Span) -> Option<(PathPattern, Vec<String>)> {
    let parts: Vec<&str> = text.get(1..)?.split('/').collect();
    let mut out = Vec::with_capacity(parts.len());
    let mut captures: Vec<String> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        match segment(part, last) {
            Ok(segment) => {
                if let Segment::Capture(name) | Segment::Rest(name) = &segment {
                    check_capture(ctx, name, span, &captures)?;
                    captures.push(name.clone());
                }
                out.push(segment);
            }
            Err((message, help)) => {
                ctx.error("bad-path", span, format!("\"{text}\": {message}"), help);
                return None;
            }
        }
    }
    Some((PathPattern::Segments(out), captures))
}

/// A capture's name must be free.
pub fn check_capture(
    ctx: &mut Context<'_>,
    name: &str,
    span: Span,
    taken: &[String],
) -> Option<()> {
    let problem = if taken.iter().any(|t| t == name) {
        Some((
            format!("`{{{name}}}` is captured twice"),
            "give each capture a name of its own".to_owned(),
        ))
    } else if taken.len() >= MAX_CAPTURES {
        Some((
            format!("this path captures more than {MAX_CAPTURES} names"),
            "capture less".to_owned(),
        ))
    } else if template::is_variable(name) {
        Some((
            format!("`{{{name}}}` is a variable already"),
            format!("choose another name, such as `{{{name}_part}}`"),
        ))
    } else {
        None
    };
    let Some((message, help)) = problem else {
        return Some(());
    };
    ctx.error("bad-capture", span, message, help);
    None
}

fn segment(part: &str, last: bool) -> Result<Segment, (String, String)> {
    if let Some(name) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
        let (name, rest) = match name.strip_suffix('*') {
            Some(name) => (name, true),
            None => (name, false),
        };
        if !template::is_capture_name(name) {
            return Err((
                format!("`{{{name}}}` is not a name"),
                "write letters, digits, `_` and `-`, such as `{id}`".into(),
            ));
        }
        return match (rest, last) {
            (true, false) => Err((
                format!("`{{{name}*}}` takes the rest, so it stands last"),
                format!("write `{{{name}}}` for one segment"),
            )),
            (true, true) => Ok(Segment::Rest(name.to_owned())),
            (false, _) => Ok(Segment::Capture(name.to_owned())),
        };
    }
    if part.contains(['{', '}']) {
        return Err((
            format!("`{part}` mixes text and a capture"),
            "a capture is a whole segment: `/{name}/`; else use `path-regex`".into(),
        ));
    }
    if part.contains('*') {
        return Err(match (part, last) {
            ("*", true) => (
                "`/*` cannot follow a capture".into(),
                "write `/{rest*}`".into(),
            ),
            ("*", false) => (
                "`*` stands only at the end".into(),
                "write a capture such as `{name}` for one segment".into(),
            ),
            _ => (
                "`*` is a whole segment, at the end".into(),
                "write `/*` for everything below, or use `path-regex`".into(),
            ),
        });
    }
    Ok(Segment::Literal(encode(part)))
}

/// The pattern as the language writes it.
pub fn text(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(prefix) if prefix == "/" => "/*".to_owned(),
        PathPattern::Prefix(prefix) => format!("{prefix}/*"),
        PathPattern::Regex(regex) => regex.clone(),
        PathPattern::Segments(segments) => segments
            .iter()
            .map(|s| match s {
                Segment::Literal(text) => format!("/{text}"),
                Segment::Capture(name) => format!("/{{{name}}}"),
                Segment::Rest(name) => format!("/{{{name}*}}"),
            })
            .collect(),
    }
}
