//! Filters as written in one block, and how the levels are merged.

use crate::model::Filter;
use crate::raw::Item;
use crate::schema;
use crate::source::Span;

use super::context::Context;
use super::template::{self, Position, Used};
use super::{address, headers, path, regex};

/// A filter as one block wrote it.
#[derive(Debug, Clone)]
pub struct Step {
    /// What.
    pub filter: Filter,
    /// Drops steps of its kind that the levels above wrote.
    pub replace: bool,
    /// Captures it uses, to be bound by the route.
    pub uses: Vec<Used>,
    /// Where.
    pub span: Span,
}

/// Whether this key is a filter.
pub fn is_filter(name: &str) -> bool {
    schema::FILTERS.iter().any(|f| f.name == name)
}

/// The filters of a block, in the order written.
pub fn steps(ctx: &mut Context<'_>, items: &[Item<'_>]) -> Vec<Step> {
    items
        .iter()
        .filter(|i| is_filter(i.name()))
        .filter_map(|i| step(ctx, i))
        .collect()
}

fn step(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Step> {
    let mut uses = Vec::new();
    let filter = filter(ctx, item, &mut uses)?;
    let replace = item.spec.prop("replace").is_some() && item.bool("replace") == Some(true);
    Some(Step {
        filter,
        replace,
        uses,
        span: item.span,
    })
}

fn filter(ctx: &mut Context<'_>, item: &Item<'_>, uses: &mut Vec<Used>) -> Option<Filter> {
    Some(match item.name() {
        "header" => {
            let (side, _) = item.arg_text(0)?;
            match side {
                "response" => Filter::ResponseHeaders(headers::operations(ctx, item, true, uses)),
                _ => Filter::RequestHeaders(headers::operations(ctx, item, false, uses)),
            }
        }
        "allow" => Filter::Allow(address::networks(ctx, item.texts())),
        "deny" => Filter::Deny(address::networks(ctx, item.texts())),
        "strip-prefix" => Filter::StripPrefix(prefix(ctx, item)?),
        "add-prefix" => Filter::AddPrefix(prefix(ctx, item)?),
        "rewrite" => {
            let (text, span) = item.arg_text(0)?;
            if !text.starts_with(['/', '{']) {
                ctx.error(
                    "bad-path",
                    span,
                    format!("\"{text}\" is not a path"),
                    format!("write \"/{text}\""),
                );
                return None;
            }
            Filter::Rewrite(template::parse(ctx, text, span, Position::Request, uses)?)
        }
        "rewrite-regex" => rewrite_regex(ctx, item)?,
        _ => return None,
    })
}

fn prefix(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<String> {
    let (text, span) = item.arg_text(0)?;
    let text = match text.strip_suffix("/*") {
        Some(shorter) if !shorter.is_empty() => {
            ctx.error(
                "bad-path",
                span,
                format!("\"{text}\" is a pattern"),
                format!("write \"{shorter}\""),
            );
            return None;
        }
        _ => text,
    };
    let path = path::literal(ctx, text, span)?;
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        ctx.error(
            "bad-path",
            span,
            format!("`{} \"/\"` does nothing", item.name()),
            "leave it out",
        );
        return None;
    }
    Some(trimmed.to_owned())
}

fn rewrite_regex(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<Filter> {
    let (pattern, span) = item.arg_text(0)?;
    let groups = regex::check(ctx, pattern, span, regex::Use::Rewrite);
    let (with, with_span) = item.text("with")?;
    let groups = groups?;
    check_groups(ctx, with, with_span, pattern, &groups)?;
    Some(Filter::RewriteRegex {
        pattern: pattern.to_owned(),
        with: with.to_owned(),
    })
}

/// `$name` and `$1` must be groups of the pattern: the `regex` crate's rule would put nothing there.
fn check_groups(
    ctx: &mut Context<'_>,
    with: &str,
    span: Span,
    pattern: &str,
    names: &[String],
) -> Option<()> {
    let count = groups_in(pattern);
    for reference in references(with) {
        let known = match reference.parse::<usize>() {
            Ok(n) => n <= count,
            Err(_) => names.iter().any(|n| n == reference),
        };
        if !known {
            let message = format!("the pattern has no group `{reference}`");
            let help = match reference.find(|c: char| !c.is_ascii_digit()) {
                Some(end) if end > 0 => {
                    let (number, rest) = reference.split_at(end);
                    format!("write \"${{{number}}}{rest}\" if the group `{number}` is meant")
                }
                _ => "write a group of the pattern, or `$$` for a dollar sign".to_owned(),
            };
            ctx.error("unknown-group", span, message, help);
            return None;
        }
    }
    Some(())
}

fn groups_in(pattern: &str) -> usize {
    use regex_automata::nfa::thompson::NFA;
    NFA::new(pattern).map_or(0, |nfa| {
        nfa.group_info()
            .group_len(regex_automata::PatternID::ZERO)
            .saturating_sub(1)
    })
}

/// The references of a replacement, as the `regex` crate reads it.
fn references(with: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = with;
    while let Some(at) = rest.find('$') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let end = inner.find('}').unwrap_or(inner.len());
            out.extend(inner.get(..end));
            rest = inner.get(end..).unwrap_or_default();
        } else {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            out.extend(rest.get(..end).filter(|r| !r.is_empty()));
            rest = rest.get(end..).unwrap_or_default();
        }
    }
    out
}

/// Merges levels, outermost first: steps run in the order of the levels; a step with `replace` drops those of its kind
/// that the levels above wrote.
pub fn merge<'s>(levels: &[&'s [Step]]) -> Vec<&'s Step> {
    let mut out: Vec<&'s Step> = Vec::new();
    for level in levels {
        for step in level.iter().filter(|s| s.replace) {
            out.retain(|s| {
                std::mem::discriminant(&s.filter) != std::mem::discriminant(&step.filter)
            });
        }
        out.extend(level.iter());
    }
    out
}
