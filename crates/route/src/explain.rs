//! Why this route and not another: the same tests as for a request, told for every route.

use std::fmt;

use crate::condition::Query;
use crate::regexes::Regexes;
use crate::router::{Router, Rule};

/// Which route a request takes, and why the others don't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Index of the site; `None`: no site answers for the host on this listener.
    pub site: Option<usize>,
    /// Index of the route that wins.
    pub route: Option<usize>,
    /// One for each route of the site, in written order.
    pub verdicts: Vec<Verdict>,
}

/// What became of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It takes the request.
    Won,
    /// It would take it too, but this one is written above.
    Shadowed {
        /// The winner.
        by: usize,
    },
    /// The path doesn't match the pattern.
    Path {
        /// The path asked for.
        path: String,
        /// The route's pattern.
        pattern: String,
    },
    /// The method isn't in the list.
    Method {
        /// The method asked for.
        method: String,
        /// The route's list.
        allowed: Vec<String>,
    },
    /// The first condition that doesn't hold, in words.
    Condition(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Won => f.write_str("won"),
            Self::Shadowed { by } => {
                write!(f, "matches too, but route {} above it was first", by + 1)
            }
            Self::Path { path, pattern } => write!(f, "lost: path `{path}` is not `{pattern}`"),
            Self::Method { method, allowed } => {
                write!(f, "lost: method {method} is not {}", allowed.join(" or "))
            }
            Self::Condition(what) => write!(f, "lost: it does not hold that {what}"),
        }
    }
}

impl Router {
    /// Explains what [`Router::find`] answers.
    pub fn explain(&self, listener: usize, q: &Query<'_>) -> Explanation {
        let Some(site) = self.site(listener, q.host) else {
            return Explanation {
                site: None,
                route: None,
                verdicts: Vec::new(),
            };
        };
        let winner = self.route(site, q).map(|(route, _)| route);
        let rules = self.shared.sites.get(site).map_or(&[][..], |s| &s.rules);
        let verdicts = rules.iter().enumerate().map(|(index, rule)| {
            match (lost(rule, q, &self.regexes), winner) {
                (Some(why), _) => why,
                (None, Some(by)) if by != index => Verdict::Shadowed { by },
                (None, _) => Verdict::Won,
            }
        });
        Explanation {
            site: Some(site),
            route: winner,
            verdicts: verdicts.collect(),
        }
    }
}

/// The first thing that keeps a route from taking the request.
fn lost(rule: &Rule, q: &Query<'_>, regexes: &Regexes) -> Option<Verdict> {
    if !rule.pattern.matches(q.path, regexes) {
        return Some(Verdict::Path {
            path: q.path.to_owned(),
            pattern: rule.pattern.to_string(),
        });
    }
    if !rule.methods.take(q.method) {
        let allowed = rule.methods.names().map(str::to_owned).collect();
        return Some(Verdict::Method {
            method: q.method.to_owned(),
            allowed,
        });
    }
    let failed = rule
        .conditions
        .iter()
        .find(|test| !test.holds(q, regexes))?;
    Some(Verdict::Condition(failed.to_string()))
}
