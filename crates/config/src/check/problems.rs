//! The list of problems, bounded.

use std::collections::HashSet;

use crate::problem::{Problem, Severity};
use crate::source::Span;

/// Problems kept; the rest are counted.
pub const MAX_PROBLEMS: usize = 1000;

/// Problems as they are found.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    seen: HashSet<(Span, &'static str)>,
    /// Problems beyond [`MAX_PROBLEMS`].
    pub dropped: usize,
    /// What is not built yet is taken, not refused; see [`crate::schema`].
    pub unbuilt: bool,
    errors: usize,
}

impl Problems {
    /// Errors so far, kept or not.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Adds a problem, once per place and code.
    pub fn push(&mut self, problem: Problem) {
        if problem.severity == Severity::Error {
            self.errors += 1;
        }
        if self.list.len() >= MAX_PROBLEMS {
            self.dropped += 1;
        } else if self.seen.insert((problem.span, problem.code)) {
            self.list.push(problem);
        }
    }

    /// An error.
    pub fn error(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(make(
            Severity::Error,
            code,
            span,
            message.into(),
            help.into(),
        ));
    }

    /// An error with a second place.
    pub fn error_at(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
        related: (Span, &str),
    ) {
        let mut problem = make(Severity::Error, code, span, message.into(), help.into());
        problem.related = Some((related.0, related.1.to_owned()));
        self.push(problem);
    }

    /// A warning.
    pub fn warning(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(make(
            Severity::Warning,
            code,
            span,
            message.into(),
            help.into(),
        ));
    }

    /// A warning with a second place.
    pub fn warning_at(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
        related: (Span, &str),
    ) {
        let mut problem = make(Severity::Warning, code, span, message.into(), help.into());
        problem.related = Some((related.0, related.1.to_owned()));
        self.push(problem);
    }

    /// All of them, in the order of the files.
    pub fn finish(mut self) -> Vec<Problem> {
        if self.dropped > 0 {
            let span = self.list.last().map(|p| p.span).unwrap_or_default();
            let message = format!("{} more problems are not shown", self.dropped);
            let severity = if self.errors > 0 {
                Severity::Error
            } else {
                Severity::Warning
            };
            self.list.push(make(
                severity,
                "too-many-problems",
                span,
                message,
                "mend the ones above first".into(),
            ));
        }
        self.list
            .sort_by_key(|p| (p.span.file, p.span.start, p.span.end));
        self.list
    }
}

fn make(
    severity: Severity,
    code: &'static str,
    span: Span,
    message: String,
    help: String,
) -> Problem {
    let help = (!help.is_empty()).then_some(help);
    Problem {
        severity,
        code,
        message,
        span,
        help,
        related: None,
    }
}
