//! Path filters: strip, add, rewrite by template, rewrite by regular expression.
//!
//! Each takes the path that the steps before it left. What comes out is canonical, or it is refused: a rewrite must not
//! be the way around an access rule of the origin.

use narthex_config::model::{Part, Template, Var};
use narthex_message::{path, query};
use regex_automata::meta::{self, Regex};

use crate::chain::Target;
use crate::interpolate::{self, Piece};
use crate::location::{compose, piece};
use crate::template::View;
use crate::url::{self, UrlWriter};

/// Largest program that a pattern compiles to, bytes; the configuration checks with the same number.
const MAX_PROGRAM: usize = 1 << 20;

/// A rewrite made something that can't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// What is done to a path.
#[derive(Debug, Clone)]
pub(crate) enum PathStep {
    Strip(String),
    Add(String),
    Rewrite(Template),
    Regex(Regex, Vec<Piece>),
}

impl PathStep {
    /// A rewrite by template. One that could never make a canonical path is refused now.
    pub(crate) fn rewrite(template: &Template) -> Result<Self, String> {
        probe(template).map_err(|error| {
            format!(
                "`rewrite \"{}\"` can't make a path: {error}",
                template.source
            )
        })?;
        Ok(Self::Rewrite(template.clone()))
    }

    /// A rewrite by regular expression.
    pub(crate) fn regex(pattern: &str, with: &str) -> Result<Self, String> {
        let config = meta::Config::new()
            .nfa_size_limit(Some(MAX_PROGRAM))
            .onepass_size_limit(Some(MAX_PROGRAM));
        let regex = meta::Builder::new()
            .configure(config)
            .build(pattern)
            .map_err(|error| format!("`rewrite-regex \"{pattern}\"`: {error}"))?;
        let pieces = interpolate::parse(with, &regex)?;
        Ok(Self::Regex(regex, pieces))
    }

    /// Does the step. The target of `OPTIONS *` is no path and stays as it is.
    pub(crate) fn apply(&self, view: &View<'_, '_>) -> Result<Target, Broken> {
        let path = view.path;
        if !path.starts_with('/') {
            return Ok(Target::default());
        }
        match self {
            Self::Strip(prefix) => Ok(only_path(
                path::strip_prefix(path, prefix).map(str::to_owned),
            )),
            Self::Add(prefix) => {
                let mut out = String::new();
                path::join(prefix, path, &mut out);
                checked(only_path(Some(out)))
            }
            Self::Rewrite(template) => {
                let mut url = UrlWriter::target();
                compose(template, view, &mut url);
                finish(url)
            }
            Self::Regex(regex, with) => replace(regex, with, path),
        }
    }
}

fn only_path(path: Option<String>) -> Target {
    Target { path, query: None }
}

/// Replaces every match. Linear: matches don't overlap, and the output is bounded.
fn replace(regex: &Regex, with: &[Piece], path: &str) -> Result<Target, Broken> {
    let mut url = UrlWriter::target();
    let mut done = 0;
    let mut found = false;
    let part = |from: usize, to: usize| path.get(from..to).unwrap_or_default().as_bytes();
    for captures in regex.captures_iter(path) {
        let Some(all) = captures.get_match() else {
            continue;
        };
        found = true;
        url.value(url::Piece::Encoded, part(done, all.start()), true);
        for piece in with {
            match piece {
                Piece::Text(text) => url.text(text),
                Piece::Group(group) => {
                    if let Some(span) = captures.get_group(*group) {
                        url.value(url::Piece::Encoded, part(span.start, span.end), true);
                    }
                }
            }
        }
        done = all.end();
        if url.is_too_long() {
            return Err(Broken);
        }
    }
    if !found {
        return Ok(Target::default());
    }
    url.value(url::Piece::Encoded, part(done, path.len()), true);
    finish(url)
}

fn finish(url: UrlWriter) -> Result<Target, Broken> {
    checked(url.into_target().ok_or(Broken)?)
}

fn checked(target: Target) -> Result<Target, Broken> {
    let path = target.path.as_deref().unwrap_or_default();
    if path.len() > url::MAX_URL || path::require_canonical(path, false).is_err() {
        return Err(Broken);
    }
    if let Some(Some(query)) = &target.query {
        query::validate(query).map_err(|_| Broken)?;
    }
    Ok(target)
}

/// Fills every variable with an `x` and looks at the result. A template that begins with a variable can't be judged
/// without knowing what it holds.
fn probe(template: &Template) -> Result<(), path::PathError> {
    if !matches!(template.parts.first(), Some(Part::Text(_))) {
        return Ok(());
    }
    let mut url = UrlWriter::target();
    for part in &template.parts {
        match part {
            Part::Text(text) => url.text(text),
            Part::Var(Var::Path | Var::Uri) => url.value(url::Piece::Path, b"/x", true),
            Part::Var(var) => url.value(piece(var), b"x", true),
        }
    }
    // Nothing else fails here: the configuration bounds templates to what a target may be.
    let target = url.into_target().ok_or(path::PathError::NotCanonical)?;
    path::require_canonical(target.path.as_deref().unwrap_or_default(), false)
}

#[cfg(test)]
mod tests;
