//! Routes that can never match, because an earlier one without further conditions takes everything they could take.
//!
//! Linear: a route is looked up by its path, by each of the path's ancestors and by its whole condition; never against
//! every earlier route. What it reports is certain; overlapping captures and regular expressions are not examined.

use std::collections::HashMap;

use crate::model::{Matcher, PathPattern, Segment};
use crate::source::Span;

use super::Problems;

/// The unconditional routes so far.
#[derive(Debug, Default)]
pub struct Shadows {
    /// Any path.
    all: Taken,
    /// This path and everything under it.
    prefixes: HashMap<String, Taken>,
    /// This pattern, whatever it is.
    same: HashMap<String, Taken>,
    /// Conditional routes by their whole condition.
    whole: HashMap<String, Span>,
}

/// Methods taken on some path, and by whom.
#[derive(Debug, Default)]
struct Taken {
    any: Option<Span>,
    methods: HashMap<String, Span>,
}

impl Taken {
    /// Who takes all of these methods.
    fn by(&self, methods: &[String]) -> Option<Span> {
        if self.any.is_some() {
            return self.any;
        }
        let mut first = None;
        for method in methods {
            first = Some(*self.methods.get(method)?);
        }
        first
    }

    fn add(&mut self, methods: &[String], span: Span) {
        if methods.is_empty() {
            self.any.get_or_insert(span);
        }
        for method in methods {
            self.methods.entry(method.clone()).or_insert(span);
        }
    }
}

impl Shadows {
    /// Warns if `matcher` is shadowed; remembers it.
    pub fn check(&mut self, problems: &mut Problems, matcher: &Matcher, span: Span) {
        if let Some(by) = self.shadowing(matcher) {
            problems.warning_at(
                "shadowed-route",
                span,
                "this route can never match",
                "move it above the other one, or remove it: the first route that matches wins",
                (by, "this route takes every such request before"),
            );
        } else {
            self.remember(matcher, span);
        }
    }

    fn shadowing(&self, matcher: &Matcher) -> Option<Span> {
        let methods = &matcher.methods;
        if let Some(by) = self.all.by(methods) {
            return Some(by);
        }
        if !matcher.conditions.is_empty()
            && let Some(by) = self.whole.get(&whole(matcher))
        {
            return Some(*by);
        }
        let path = matcher.path.as_ref()?;
        if let Some(by) = self.same.get(&shape(path)).and_then(|t| t.by(methods)) {
            return Some(by);
        }
        self.above(&head(path)?, methods)
    }

    /// Looks a path and its ancestors up.
    fn above(&self, head: &str, methods: &[String]) -> Option<Span> {
        let mut at = head;
        loop {
            let key = if at.is_empty() { "/" } else { at };
            if let Some(by) = self.prefixes.get(key).and_then(|t| t.by(methods)) {
                return Some(by);
            }
            if at.is_empty() || at == "/" {
                return None;
            }
            at = at.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }

    fn remember(&mut self, matcher: &Matcher, span: Span) {
        if !matcher.conditions.is_empty() {
            self.whole.insert(whole(matcher), span);
            return;
        }
        let methods = &matcher.methods;
        let Some(path) = &matcher.path else {
            return self.all.add(methods, span);
        };
        self.same.entry(shape(path)).or_default().add(methods, span);
        if let Some(prefix) = as_prefix(path) {
            self.prefixes.entry(prefix).or_default().add(methods, span);
        }
    }
}

/// The path that a pattern matches with everything under it. `/old/{rest*}` is one: the rest may be empty.
fn as_prefix(path: &PathPattern) -> Option<String> {
    match path {
        PathPattern::Prefix(prefix) => Some(prefix.clone()),
        PathPattern::Segments(segments) => {
            let (last, before) = segments.split_last()?;
            let literal = before.iter().all(|s| matches!(s, Segment::Literal(_)));
            let head = (literal && matches!(last, Segment::Rest(_))).then(|| head(path))??;
            Some(if head.is_empty() {
                "/".to_owned()
            } else {
                head
            })
        }
        _ => None,
    }
}

/// The literal beginning of what a pattern matches.
fn head(path: &PathPattern) -> Option<String> {
    match path {
        PathPattern::Exact(path) | PathPattern::Prefix(path) => Some(path.clone()),
        PathPattern::Regex(_) => None,
        PathPattern::Segments(segments) => Some(
            segments
                .iter()
                .map_while(|s| match s {
                    Segment::Literal(text) => Some(format!("/{text}")),
                    _ => None,
                })
                .collect(),
        ),
    }
}

/// The pattern without the names of its captures.
fn shape(path: &PathPattern) -> String {
    match path {
        PathPattern::Exact(path) => format!("={path}"),
        PathPattern::Prefix(prefix) => format!("^{prefix}"),
        PathPattern::Regex(regex) => format!("~{regex}"),
        PathPattern::Segments(segments) => {
            let mut out = String::from("s");
            for segment in segments {
                match segment {
                    Segment::Literal(text) => {
                        out.push('/');
                        out.push_str(text);
                    }
                    Segment::Capture(_) => out.push_str("/{}"),
                    Segment::Rest(_) => out.push_str("/{*}"),
                }
            }
            out
        }
    }
}

fn whole(matcher: &Matcher) -> String {
    let shape = matcher.path.as_ref().map(shape);
    format!("{shape:?} {:?} {:?}", matcher.methods, matcher.conditions)
}
