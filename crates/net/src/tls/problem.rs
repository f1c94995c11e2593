//! What can be wrong with the files of TLS, as data: which file, what, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with a certificate, a key, a bundle of authorities, a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, if it is one.
    pub path: Option<PathBuf>,
    /// Which kind of mistake.
    pub kind: ProblemKind,
    /// What is wrong, as a sentence without a full stop.
    pub what: String,
    /// What to do about it, as a sentence without a full stop.
    pub remedy: String,
}

/// Kinds of mistakes, for who counts or tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// There is no such file.
    Missing,
    /// It is there and cannot be read.
    Unreadable,
    /// It is larger than any such file should be.
    TooLarge,
    /// Others than the owner may read a private key.
    KeyExposed,
    /// It holds nothing of what it is for.
    Empty,
    /// What it holds is broken, or of a kind that is not supported.
    Malformed,
    /// Private key and certificate do not belong together.
    KeyMismatch,
    /// The certificate is no longer valid.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// What was asked for cannot be done together.
    Unusable,
}

impl Problem {
    pub(crate) fn new(
        path: Option<&Path>,
        kind: ProblemKind,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            path: path.map(Path::to_path_buf),
            kind,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for Problem {}
