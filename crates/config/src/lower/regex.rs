//! Regular expressions: checked here, built again by who uses them.

use regex_automata::meta;
use regex_automata::util::syntax;

use crate::source::Span;

use super::context::Context;
use super::place::within;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 4096;
/// Largest program a pattern may compile to, in bytes.
pub const MAX_PROGRAM: usize = 1 << 20;

/// Checks a pattern; its named groups.
pub fn check(ctx: &mut Context<'_>, pattern: &str, span: Span) -> Option<Vec<String>> {
    if pattern.len() > MAX_PATTERN {
        let message = format!("this regular expression is longer than {MAX_PATTERN} bytes");
        ctx.error("bad-regex", span, message, "write several routes");
        return None;
    }
    if let Err(error) = regex_syntax::Parser::new().parse(pattern) {
        let (offset, len, why) = describe(&error);
        let place = within(ctx.sources, span, pattern, offset, len.max(1));
        let message = format!("this regular expression is wrong at offset {offset}: {why}");
        ctx.error("bad-regex", place, message, regex_help(pattern, &error));
        return None;
    }
    let config = meta::Config::new()
        .nfa_size_limit(Some(MAX_PROGRAM))
        .onepass_size_limit(Some(MAX_PROGRAM));
    match meta::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new())
        .build(pattern)
    {
        Ok(regex) => Some(
            regex
                .group_info()
                .pattern_names(regex_automata::PatternID::ZERO)
                .flatten()
                .map(str::to_owned)
                .collect(),
        ),
        Err(_) => {
            let help = "make its repetitions smaller, or write several routes";
            ctx.error(
                "bad-regex",
                span,
                format!(
                    "this regular expression needs more than {} KiB",
                    MAX_PROGRAM >> 10
                ),
                help,
            );
            None
        }
    }
}

fn describe(error: &regex_syntax::Error) -> (usize, usize, String) {
    match error {
        regex_syntax::Error::Parse(e) => {
            let s = e.span();
            (
                s.start.offset,
                s.end.offset.saturating_sub(s.start.offset),
                e.kind().to_string(),
            )
        }
        regex_syntax::Error::Translate(e) => {
            let s = e.span();
            (
                s.start.offset,
                s.end.offset.saturating_sub(s.start.offset),
                e.kind().to_string(),
            )
        }
        other => (0, 0, other.to_string()),
    }
}

fn regex_help(pattern: &str, error: &regex_syntax::Error) -> String {
    if pattern.contains("(?=")
        || pattern.contains("(?!")
        || pattern.contains("(?<=")
        || pattern.contains("(?<!")
    {
        return "look-around is not supported, so that matching takes linear time; use `when` and route order".to_owned();
    }
    match error {
        regex_syntax::Error::Parse(e) if e.kind().to_string().contains("backreference") => {
            "backreferences are not supported, so that matching takes linear time".to_owned()
        }
        _ => "write regular expressions in raw strings: #\"^/v\\d+/\"#".to_owned(),
    }
}
