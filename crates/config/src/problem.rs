//! Problems: what happened, where, what to do.

mod human;
mod json;
mod suggest;

use crate::source::Span;

pub use human::{render_human, render_human_colored};
pub use json::render_json;
pub use suggest::did_you_mean;

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// Legal and surely not meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
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

impl Problem {
    /// An error without help.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            span,
            help: None,
            related: None,
        }
    }

    /// A warning without help.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, span, message)
        }
    }

    /// With what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With another place that matters.
    #[must_use]
    pub fn with_related(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related = Some((span, message.into()));
        self
    }
}
