//! Problems: what happened, where, what to do.

use crate::source::Span;

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// Legal and surely not meant.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Stable kebab-case word, e.g. `unknown-key`; in `check --json`.
    pub code: &'static str,
    /// One sentence, e.g. `"10sec" is not a duration`.
    pub message: String,
    /// The offending text.
    pub span: Span,
    /// What to do, e.g. `write "10s"`.
    pub help: Option<String>,
    /// Another place that matters, e.g. the route that shadows this one.
    pub related: Option<(Span, String)>,
}
