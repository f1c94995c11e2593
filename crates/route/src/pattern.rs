//! A route's path pattern, compiled: does it match a path, and what does it capture?

use std::fmt;

use narthex_config::model::{PathPattern, Segment};
use narthex_message::path;

use crate::captures::{Captures, MAX_CAPTURES};
use crate::regexes::{Collector, Regexes};

/// Most segments of one pattern; bounds the depth of the tree.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// A compiled pattern. Texts are canonical.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// Every path, and `*`.
    All,
    /// This path.
    Exact(Box<str>),
    /// This path and all below; no slash at the end, empty for the root.
    Prefix(Box<str>),
    /// Segment by segment.
    Segments(Box<[Piece]>),
    /// Expression by id, with the group number of each capture name.
    Regex(u32, Box<[u32]>, Box<str>),
}

/// One segment.
#[derive(Debug)]
pub(crate) enum Piece {
    /// This text.
    Literal(Box<str>),
    /// One that isn't empty.
    Capture(Box<str>),
    /// All that is left.
    Rest(Box<str>),
}

impl Pattern {
    /// Compiles what is configured; also gives the capture names, in the order of their indices.
    pub(crate) fn build(
        written: Option<&PathPattern>,
        merge_slashes: bool,
        regexes: &mut Collector,
    ) -> Result<(Self, Vec<Box<str>>), String> {
        match written {
            None => Ok((Self::All, Vec::new())),
            Some(PathPattern::Exact(p)) => Ok((
                Self::Exact(bounded(text(p, merge_slashes)?)?.into()),
                Vec::new(),
            )),
            Some(PathPattern::Prefix(p)) => {
                let canonical = bounded(text(p, merge_slashes)?)?;
                Ok((
                    Self::Prefix(canonical.trim_end_matches('/').into()),
                    Vec::new(),
                ))
            }
            Some(PathPattern::Segments(segments)) => segmented(segments),
            Some(PathPattern::Regex(r)) => {
                let id = regexes
                    .add(r)
                    .map_err(|e| format!("the regular expression `{r}` is refused: {e}"))?;
                let (groups, names): (Vec<u32>, Vec<Box<str>>) =
                    regexes.names(id).into_iter().unzip();
                Ok((
                    Self::Regex(id, groups.into(), r.as_str().into()),
                    checked_names(names)?,
                ))
            }
        }
    }

    /// Does the whole pattern match? The tree answers the same for many patterns at once.
    pub(crate) fn matches(&self, path: &str, regexes: &Regexes) -> bool {
        match self {
            Self::All => true,
            Self::Exact(p) => **p == *path,
            Self::Prefix(p) => path
                .strip_prefix(&**p)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Segments(pieces) => walk(pieces, path, &mut Captures::default()),
            Self::Regex(id, ..) => path.starts_with('/') && regexes.matches(*id, path.as_bytes()),
        }
    }

    /// What a matching `path` captures.
    pub(crate) fn captures(&self, path: &str, regexes: &Regexes) -> Captures {
        let mut captures = Captures::default();
        match self {
            Self::Segments(pieces) => {
                walk(pieces, path, &mut captures);
            }
            Self::Regex(id, groups, _) if !groups.is_empty() => {
                let slots = regexes.groups(*id, path.as_bytes());
                for (name, group) in groups.iter().enumerate() {
                    let at = *group as usize * 2;
                    if let Some([Some(start), Some(end)]) = slots.get(at..at + 2) {
                        captures.push(name, start.get(), end.get());
                    }
                }
            }
            _ => {}
        }
        captures
    }
}

/// Matches segment by segment, noting captures on the way.
fn walk(pieces: &[Piece], path: &str, captures: &mut Captures) -> bool {
    let Some(mut rest) = path.strip_prefix('/').map(Some) else {
        return false;
    };
    let mut name = 0;
    for piece in pieces {
        let start = rest.map_or(path.len(), |r| path.len() - r.len());
        if let Piece::Rest(_) = piece {
            captures.push(name, start, path.len());
            return true;
        }
        let Some(text) = rest else { return false };
        let (segment, after) = text
            .split_once('/')
            .map_or((text, None), |(s, a)| (s, Some(a)));
        match piece {
            Piece::Literal(want) if **want != *segment => return false,
            Piece::Capture(_) if segment.is_empty() => return false,
            Piece::Capture(_) => {
                captures.push(name, start, start + segment.len());
                name += 1;
            }
            _ => {}
        }
        rest = after;
    }
    rest.is_none()
}

/// The canonical form of a written path.
fn text(written: &str, merge_slashes: bool) -> Result<String, String> {
    path::canonical_written(written, merge_slashes)
        .map_err(|e| format!("the path `{written}` can never match: {e}"))
}

fn bounded(path: String) -> Result<String, String> {
    if path.matches('/').count() > MAX_SEGMENTS {
        return Err(format!("the path has more than {MAX_SEGMENTS} segments"));
    }
    Ok(path)
}

fn segmented(segments: &[Segment]) -> Result<(Pattern, Vec<Box<str>>), String> {
    if segments.len() > MAX_SEGMENTS {
        return Err(format!("the path has more than {MAX_SEGMENTS} segments"));
    }
    if segments.is_empty() {
        return Err("the path has no segments".to_owned());
    }
    let mut names: Vec<Box<str>> = Vec::new();
    let mut pieces = Vec::with_capacity(segments.len());
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        pieces.push(match segment {
            Segment::Literal(text) => Piece::Literal(literal(text)?),
            Segment::Rest(name) if !last => {
                return Err(format!("`{{{name}*}}` takes the rest and must be last"));
            }
            Segment::Rest(name) => Piece::Rest(name.as_str().into()),
            Segment::Capture(name) => Piece::Capture(name.as_str().into()),
        });
        if let Segment::Rest(name) | Segment::Capture(name) = segment {
            names.push(name.as_str().into());
        }
    }
    Ok((Pattern::Segments(pieces.into()), checked_names(names)?))
}

/// One literal segment in canonical form.
fn literal(written: &str) -> Result<Box<str>, String> {
    let canonical = text(&format!("/{written}"), false)?;
    match canonical.strip_prefix('/') {
        Some(segment) if !segment.contains('/') && (segment.is_empty() == written.is_empty()) => {
            Ok(segment.into())
        }
        _ => Err(format!("`{written}` is not one segment of a path")),
    }
}

fn checked_names(names: Vec<Box<str>>) -> Result<Vec<Box<str>>, String> {
    if names.len() > MAX_CAPTURES {
        return Err(format!(
            "{} captures, at most {MAX_CAPTURES} are allowed",
            names.len()
        ));
    }
    match names
        .iter()
        .enumerate()
        .find(|(i, name)| names.iter().take(*i).any(|n| n == *name))
    {
        Some((_, twice)) => Err(format!("the capture `{twice}` is there twice")),
        None => Ok(names),
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Exact(p) => f.write_str(p),
            Self::Prefix(p) => write!(f, "{p}/*"),
            Self::Regex(_, _, written) => write!(f, "~ {written}"),
            Self::Segments(pieces) => pieces.iter().try_for_each(|piece| match piece {
                Piece::Literal(text) => write!(f, "/{text}"),
                Piece::Capture(name) => write!(f, "/{{{name}}}"),
                Piece::Rest(name) => write!(f, "/{{{name}*}}"),
            }),
        }
    }
}
