//! A route's condition.

use crate::model::{CertificatePart, Condition, Matcher, PathPattern, ValueMatch};
use crate::raw::Item;
use crate::source::Span;

use super::context::Context;
use super::{address, headers, path, regex};

/// Conditions of one route, nested ones counted.
const MAX_CONDITIONS: usize = 256;
/// Conditions within conditions.
const MAX_DEPTH: usize = 16;

/// A matcher and the names its path captures.
#[derive(Debug, Default)]
pub struct Read {
    /// When.
    pub matcher: Matcher,
    /// What templates may use.
    pub captures: Vec<String>,
    /// The path as written.
    pub written: Option<String>,
    /// Something was wrong with it: nothing may be concluded from what it matches.
    pub broken: bool,
}

/// Reads `path=`, `path-regex=`, `method=` and `when`.
pub fn read(ctx: &mut Context<'_>, item: &Item<'_>) -> Read {
    let before = ctx.problems.errors();
    let mut out = Read::default();
    read_path(ctx, item, &mut out);
    if let Some((text, span)) = item.text("method") {
        out.matcher.methods = methods(ctx, text, span);
    }
    for when in item.all("when") {
        if when.children.is_empty() {
            empty(ctx, when);
        }
        conditions(ctx, &when.children, &mut out.matcher.conditions);
    }
    let count = out.matcher.conditions.iter().map(size).sum::<usize>();
    if count > MAX_CONDITIONS {
        let message = format!("this route has more than {MAX_CONDITIONS} conditions");
        ctx.error(
            "too-many",
            item.name_span,
            message,
            "use a regular expression, or several routes",
        );
    }
    if out.matcher.conditions.iter().map(height).max() > Some(MAX_DEPTH) {
        let message = format!("these conditions are nested more than {MAX_DEPTH} deep");
        ctx.error("too-many", item.name_span, message, "write several routes");
    }
    out.broken = ctx.problems.errors() != before;
    out
}

fn empty(ctx: &mut Context<'_>, item: &Item<'_>) {
    let message = format!("this `{}` holds no condition", item.name());
    ctx.error(
        "empty-block",
        item.name_span,
        message,
        "write `header`, `cookie`, `query`, `client`, `not` or `any` in its block",
    );
}

/// Levels below a condition.
fn height(condition: &Condition) -> usize {
    match condition {
        Condition::Not(inner) => 1 + height(inner),
        Condition::Any(all) => 1 + all.iter().map(height).max().unwrap_or(0),
        _ => 0,
    }
}

fn size(condition: &Condition) -> usize {
    match condition {
        Condition::Not(inner) => 1 + size(inner),
        Condition::Any(all) => 1 + all.iter().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn read_path(ctx: &mut Context<'_>, item: &Item<'_>, out: &mut Read) {
    if let Some((text, span)) = item.text("path") {
        out.written = Some(text.to_owned());
        if let Some((pattern, captures)) = path::pattern(ctx, text, span) {
            out.matcher.path = Some(pattern);
            out.captures = captures;
        }
    }
    let Some((text, span)) = item.text("path-regex") else {
        return;
    };
    if item.text("path").is_some() {
        ctx.error(
            "two-paths",
            span,
            "a route has one path",
            "keep `path=` or `path-regex=`",
        );
        return;
    }
    out.written = Some(text.to_owned());
    let Some(names) = regex::check(ctx, text, span, regex::Use::Match) else {
        return;
    };
    for (index, name) in names.iter().enumerate() {
        let before = names.get(..index).unwrap_or_default();
        if path::check_capture(ctx, name, span, before).is_none() {
            return;
        }
    }
    out.matcher.path = Some(PathPattern::Regex(text.to_owned()));
    out.captures = names;
}

fn methods(ctx: &mut Context<'_>, text: &str, span: Span) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for method in text.split(',').map(str::trim) {
        let offset = method.as_ptr() as usize - text.as_ptr() as usize;
        let place = super::place::within(ctx.sources, span, text, offset, method.len().max(1));
        if !headers::is_token(method) {
            ctx.error(
                "bad-method",
                place,
                format!("\"{}\" is not a method", method.escape_default()),
                "write \"GET\", or \"GET,POST\"",
            );
        } else if method.bytes().any(|b| b.is_ascii_lowercase())
            && is_standard(&method.to_ascii_uppercase())
        {
            let help = format!("write \"{}\"", method.to_ascii_uppercase());
            ctx.error(
                "bad-method",
                place,
                format!("methods are case-sensitive; \"{method}\" never comes"),
                help,
            );
        } else if out.iter().any(|m| m == method) {
            ctx.warning(
                "duplicate-method",
                place,
                format!("\"{method}\" is there twice"),
                "keep one of them",
            );
        } else {
            out.push(method.to_owned());
        }
    }
    out
}

fn is_standard(method: &str) -> bool {
    [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ]
    .contains(&method)
}

fn conditions(ctx: &mut Context<'_>, items: &[Item<'_>], out: &mut Vec<Condition>) {
    for item in items {
        out.extend(condition(ctx, item));
    }
}

fn condition(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Condition> {
    match item.name() {
        "client" => Some(Condition::Client(address::networks(ctx, item.texts()))),
        "not" => {
            let mut inner = nested(ctx, item);
            // "not all of these": the model has no "all", which is "not any not".
            let one = if inner.len() == 1 {
                inner.pop()?
            } else {
                let negated = inner
                    .into_iter()
                    .map(|c| Condition::Not(Box::new(c)))
                    .collect();
                return Some(Condition::Any(negated));
            };
            Some(Condition::Not(Box::new(one)))
        }
        "any" => Some(Condition::Any(nested(ctx, item))),
        "client-certificate" => {
            let part = match item.arg_text(0) {
                Some(("issuer", _)) => CertificatePart::Issuer,
                Some(("serial", _)) => CertificatePart::Serial,
                Some(("fingerprint", _)) => CertificatePart::Fingerprint,
                _ => CertificatePart::Subject,
            };
            Some(Condition::Certificate(part, value(ctx, item)?))
        }
        name => {
            let (field, span) = item.arg_text(0)?;
            let value = value(ctx, item)?;
            let field = field.to_owned();
            Some(match name {
                "header" => {
                    if !headers::check_name(ctx, &field, span) {
                        return None;
                    }
                    Condition::Header(field, value)
                }
                "cookie" => {
                    if !headers::is_token(&field) {
                        let message =
                            format!("\"{}\" is not a cookie's name", field.escape_default());
                        ctx.error(
                            "bad-cookie-name",
                            span,
                            message,
                            "write a name such as \"session\"",
                        );
                        return None;
                    }
                    Condition::Cookie(field, value)
                }
                _ => Condition::Query(field, value),
            })
        }
    }
}

/// The conditions in a block.
pub fn nested(ctx: &mut Context<'_>, item: &Item<'_>) -> Vec<Condition> {
    if item.children.is_empty() {
        empty(ctx, item);
    }
    let mut inner = Vec::new();
    conditions(ctx, &item.children, &mut inner);
    inner
}

fn value(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<ValueMatch> {
    let mut found: Vec<(ValueMatch, Span)> = Vec::new();
    if let Some((text, span)) = item.arg_text(1) {
        found.push((ValueMatch::Exact(text.to_owned()), span));
    }
    if let Some((text, span)) = item.text("prefix") {
        found.push((ValueMatch::Prefix(text.to_owned()), span));
    }
    if let Some((text, span)) = item.text("regex") {
        regex::check(ctx, text, span, regex::Use::Match)?;
        found.push((ValueMatch::Regex(text.to_owned()), span));
    }
    if let Some(present) = item.bool("present") {
        let span = item.prop("present").map_or(item.span, |g| g.span);
        if present {
            found.push((ValueMatch::Present, span));
        } else {
            let line = format!(
                "not {{ {} \"{}\" }}",
                item.name(),
                item.arg_text(0).map_or("", |a| a.0)
            );
            ctx.error(
                "bad-condition",
                span,
                "absence is the opposite of presence",
                format!("write `{line}`"),
            );
            return None;
        }
    }
    if let Some((_, span)) = found.get(1) {
        ctx.error(
            "bad-condition",
            *span,
            "a condition compares in one way",
            "keep one of the value, prefix=, regex= and present=",
        );
        return None;
    }
    Some(found.pop().map_or(ValueMatch::Present, |(v, _)| v))
}
