//! Routes that guard a path which may be written with more slashes. `//admin` is another path than `/admin` where slashes
//! are not merged: a route for `/admin/*` does not see it, a later one for everything does, and many servers take the two
//! for the same.
//!
//! What it reports is certain to pass by: regular expressions and later routes with conditions are not examined.

use std::collections::HashMap;

use crate::model::{Action, Filter, PathPattern, Route, Segment};
use crate::source::Span;

use super::Problems;

/// Later routes for one prefix that are looked at.
const LOOKED_AT: usize = 8;

/// Warns of routes that guard, in a site whose slashes are not merged. `spans` are the routes' places, in their order.
pub fn check(problems: &mut Problems, routes: &[Route], spans: &[Span]) {
    let wide = wide(routes);
    for (at, (route, span)) in routes.iter().zip(spans).enumerate() {
        let Some(path) = guarded(route) else { continue };
        let by = ancestors(path).find_map(|prefix| {
            let takes = wide.get(prefix)?;
            let later = takes.get(takes.partition_point(|other| *other <= at)..)?;
            let open = |other: &&usize| routes.get(**other).is_some_and(|r| !guards_as(r, route));
            Some((prefix, *later.iter().take(LOOKED_AT).find(open)?))
        });
        if let Some((prefix, by)) = by
            && let Some(related) = spans.get(by)
        {
            let rest = path.get(prefix.len()..).unwrap_or_default();
            problems.warning_at(
                "slashes-go-around",
                *span,
                format!("\"{prefix}/{rest}\" goes around this route, and many servers take it for \"{path}\""),
                "write `merge-slashes #true` in the site",
                (*related, "this route takes it"),
            );
        }
    }
}

/// The routes that send on every path under a prefix, by that prefix without its last slash; in written order.
fn wide(routes: &[Route]) -> HashMap<String, Vec<usize>> {
    let mut wide: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, route) in routes.iter().enumerate() {
        let sends_on = matches!(route.action, Action::Proxy(_) | Action::Split(_));
        if sends_on
            && route.matcher.conditions.is_empty()
            && let Some(prefix) = under(route)
        {
            wide.entry(prefix).or_default().push(at);
        }
    }
    wide
}

/// What lies above a path, nearest first; the root is empty.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/')
        .filter_map(|(at, _)| path.get(..at))
}

/// The literal path that a route guards: it refuses, or lets only some in.
fn guarded(route: &Route) -> Option<&str> {
    let refuses = matches!(
        route.action,
        Action::Respond {
            status: 400..=499,
            ..
        }
    );
    if !refuses && access(route).next().is_none() {
        return None;
    }
    match route.matcher.path.as_ref()? {
        PathPattern::Exact(path) | PathPattern::Prefix(path) if path != "/" => Some(path),
        _ => None,
    }
}

/// The prefix, without its last slash, under which a route takes every path.
fn under(route: &Route) -> Option<String> {
    match &route.matcher.path {
        None => Some(String::new()),
        Some(PathPattern::Prefix(path)) => Some(path.trim_end_matches('/').to_owned()),
        Some(PathPattern::Segments(segments)) => {
            let (last, before) = segments.split_last()?;
            if !matches!(last, Segment::Rest(_)) {
                return None;
            }
            let mut out = String::new();
            for segment in before {
                let Segment::Literal(text) = segment else {
                    return None;
                };
                out.push('/');
                out.push_str(text);
            }
            Some(out)
        }
        Some(PathPattern::Exact(_) | PathPattern::Regex(_)) => None,
    }
}

/// Does `other` let nobody in whom `route` refuses by address?
fn guards_as(other: &Route, route: &Route) -> bool {
    !matches!(route.action, Action::Respond { .. })
        && access(route).all(|filter| access(other).any(|same| same == filter))
}

fn access(route: &Route) -> impl Iterator<Item = &Filter> {
    route
        .filters
        .iter()
        .filter(|filter| matches!(filter, Filter::Allow(_) | Filter::Deny(_)))
}
