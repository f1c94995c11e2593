//! Regular expressions: checked here the way they are built later, by the router and by `rewrite-regex`.

use regex_automata::meta;
use regex_automata::util::syntax;

use crate::source::Span;

use super::context::Context;
use super::place::within;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 4096;
/// Groups of one pattern, beside the whole match.
const MAX_GROUPS: usize = 31;
/// Largest program a pattern may compile to, in bytes.
const MAX_PROGRAM: usize = 1 << 20;
/// Groups within groups.
const MAX_NESTING: u32 = 64;

/// What a pattern is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Matching the whole of a path or value: bytes, so that classes are ASCII.
    Match,
    /// Finding parts of a path to rewrite.
    Rewrite,
}

impl Use {
    fn syntax(self) -> syntax::Config {
        let config = syntax::Config::new().nest_limit(MAX_NESTING);
        match self {
            Self::Match => config.unicode(false).utf8(false).dot_matches_new_line(true),
            Self::Rewrite => config,
        }
    }

    fn parser(self) -> regex_syntax::Parser {
        let text = self == Self::Rewrite;
        regex_syntax::ParserBuilder::new()
            .nest_limit(MAX_NESTING)
            .unicode(text)
            .utf8(text)
            .dot_matches_new_line(!text)
            .build()
    }
}

/// Checks a pattern; its named groups.
pub fn check(ctx: &mut Context<'_>, pattern: &str, span: Span, used: Use) -> Option<Vec<String>> {
    if pattern.len() > MAX_PATTERN {
        let message = format!("this regular expression is longer than {MAX_PATTERN} bytes");
        ctx.error("bad-regex", span, message, "write several routes");
        return None;
    }
    if let Err(error) = used.parser().parse(pattern) {
        let (offset, len, why) = describe(&error);
        let place = within(ctx.sources, span, pattern, offset, len.max(1));
        let message = format!("this regular expression is wrong at offset {offset}: {why}");
        ctx.error("bad-regex", place, message, regex_help(pattern, &error));
        return None;
    }
    let config = meta::Config::new()
        .nfa_size_limit(Some(MAX_PROGRAM))
        .onepass_size_limit(Some(MAX_PROGRAM));
    let built = meta::Builder::new()
        .configure(config)
        .syntax(used.syntax())
        .build(pattern);
    let Ok(regex) = built else {
        let size = MAX_PROGRAM >> 10;
        let message = format!("this regular expression needs more than {size} KiB");
        let help = "make its repetitions smaller, or write several routes";
        ctx.error("bad-regex", span, message, help);
        return None;
    };
    let groups = regex.captures_len().saturating_sub(1);
    if groups > MAX_GROUPS {
        let message = format!(
            "this regular expression has {groups} groups, at most {MAX_GROUPS} are allowed"
        );
        let help = "write `(?:...)` where nothing is captured";
        ctx.error("bad-regex", span, message, help);
        return None;
    }
    let names = regex
        .group_info()
        .pattern_names(regex_automata::PatternID::ZERO);
    Some(names.flatten().map(str::to_owned).collect())
}

fn describe(error: &regex_syntax::Error) -> (usize, usize, String) {
    let (span, why) = match error {
        regex_syntax::Error::Parse(e) => (e.span(), e.kind().to_string()),
        regex_syntax::Error::Translate(e) => (e.span(), e.kind().to_string()),
        other => return (0, 0, other.to_string()),
    };
    let length = span.end.offset.saturating_sub(span.start.offset);
    (span.start.offset, length, why)
}

fn regex_help(pattern: &str, error: &regex_syntax::Error) -> String {
    if ["(?=", "(?!", "(?<=", "(?<!"]
        .iter()
        .any(|look| pattern.contains(look))
    {
        return "look-around is not supported, so that matching takes linear time; use `when` and route order".to_owned();
    }
    match error {
        regex_syntax::Error::Parse(e) if e.kind().to_string().contains("backreference") => {
            "backreferences are not supported, so that matching takes linear time".to_owned()
        }
        regex_syntax::Error::Translate(e) if e.kind().to_string().contains("Unicode") => {
            "paths and values are matched byte by byte: write ASCII classes such as `[a-z]`"
                .to_owned()
        }
        _ => "write regular expressions in raw strings: #\"^/v\\d+/\"#".to_owned(),
    }
}
