//! What every lowering step carries along.

use std::path::{Path, PathBuf};

use crate::check::Problems;
use crate::model::Origin;
use crate::source::{FileSystem, Sources, Span};

/// What the configuration may ask of the world. It has no clock and no socket.
pub struct Environment<'a> {
    /// Cores, the default of `workers`.
    pub cores: usize,
    /// Environment variables, for `env:NAME`.
    pub var: &'a dyn Fn(&str) -> Option<String>,
    /// Where files come from.
    pub files: &'a dyn FileSystem,
    /// Take what the language has and the program does not honour yet. For tests.
    pub unbuilt: bool,
}

/// What every step carries along.
pub struct Context<'a> {
    /// What was found so far.
    pub problems: Problems,
    /// The world.
    pub env: &'a Environment<'a>,
    /// The texts.
    pub sources: &'a Sources,
    /// Somebody says which names may get a certificate on demand.
    pub on_demand: bool,
}

impl Context<'_> {
    /// Where a span is, for the model.
    pub fn origin(&self, span: Span) -> Origin {
        let (line, _) = self.sources.line_col(span);
        Origin {
            file: self.sources.name(span.file).to_owned(),
            line,
        }
    }

    /// A path written in a file is meant from that file's directory.
    pub fn beside(&self, span: Span, path: &str) -> PathBuf {
        let file = Path::new(self.sources.name(span.file));
        match file.parent() {
            Some(directory) if !Path::new(path).is_absolute() => directory.join(path),
            _ => PathBuf::from(path),
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
        self.problems.error(code, span, message, help);
    }

    /// A warning.
    pub fn warning(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.warning(code, span, message, help);
    }
}

/// Overwrites a default with what was written.
pub fn set<T>(slot: &mut T, written: Option<T>) {
    if let Some(value) = written {
        *slot = value;
    }
}
