//! Source texts and places in them.
//!
//! A [`Span`] is a byte range in one file; [`Sources`] turns it into a line and a column. [`Loader`] reads the main file
//! and everything it includes into one document.

mod files;
mod glob;
mod lines;
mod loader;

use std::fmt;

pub use files::{Entry, FileSystem, MemoryFiles, RealFiles};
pub use lines::LineIndex;
pub use loader::{Loaded, Loader};

/// Largest single file, in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// Index into [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A byte range in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Span {
    /// Which file.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes `start..end` of `file`. Offsets are bounded by [`MAX_FILE_BYTES`], so `u32` holds them.
    pub fn new(file: FileId, start: usize, end: usize) -> Self {
        Self {
            file,
            start: start as u32,
            end: end as u32,
        }
    }

    /// From the beginning of `self` to the end of `other`, both in one file.
    pub fn to(self, other: Self) -> Self {
        Self {
            file: self.file,
            start: self.start,
            end: other.end.max(self.start),
        }
    }
}

/// One file's name and text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// As given (or as `include` found it).
    pub name: String,
    /// Its text.
    pub text: String,
    /// Where its lines begin; built when first asked.
    pub lines: LineIndex,
}

impl Source {
    /// A file with its name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            lines: LineIndex::default(),
        }
    }
}

/// All files of one configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Index is [`FileId`].
    pub files: Vec<Source>,
}

/// `file:line:column`, 1-based, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Sources {
    /// Adds a file and says under which id.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        let id = FileId(self.files.len() as u32);
        self.files.push(Source::new(name, text));
        id
    }

    /// The file, unless the id belongs to other sources.
    pub fn get(&self, file: FileId) -> Option<&Source> {
        self.files.get(file.0 as usize)
    }

    /// The file's name; empty for an unknown id.
    pub fn name(&self, file: FileId) -> &str {
        self.get(file).map_or("", |source| source.name.as_str())
    }

    /// The file's text; empty for an unknown id.
    pub fn text(&self, file: FileId) -> &str {
        self.get(file).map_or("", |source| source.text.as_str())
    }

    /// The text under a span; empty when it lies outside.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file)
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }

    /// Line and column (in characters) of the span's beginning, both from 1. Constant time per call after the first.
    pub fn line_col(&self, span: Span) -> (u32, u32) {
        self.offset_line_col(span.file, span.start)
    }

    /// Line and column of one past the span's end, both from 1.
    pub fn end_line_col(&self, span: Span) -> (u32, u32) {
        self.offset_line_col(span.file, span.end)
    }

    /// The span's beginning as `file:line:column`.
    pub fn place(&self, span: Span) -> Place<'_> {
        let (line, column) = self.line_col(span);
        Place {
            file: self.name(span.file),
            line,
            column,
        }
    }

    /// The line in which the span begins, without its line break, and where in it (in bytes).
    pub fn line_around(&self, span: Span) -> (&str, usize) {
        let Some(source) = self.get(span.file) else {
            return ("", 0);
        };
        let (line, start) = source.lines.line_start(&source.text, span.start);
        let text = source.lines.line(&source.text, line);
        (
            text,
            (span.start.saturating_sub(start) as usize).min(text.len()),
        )
    }

    /// The text of a line (from 1), without its line break.
    pub fn line_text(&self, file: FileId, line: u32) -> &str {
        self.get(file)
            .map_or("", |source| source.lines.line(&source.text, line))
    }

    /// A line (from 1) of the file of this name, from its first visible character to its last.
    pub fn line_span(&self, name: &str, line: u32) -> Option<Span> {
        let index = self.files.iter().position(|f| f.name == name)?;
        let file = FileId(u32::try_from(index).ok()?);
        let (whole, text) = (self.text(file), self.line_text(file, line));
        // A line is a part of its file's text.
        let start = (text.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
        let indent = text.len() - text.trim_start().len();
        let end = start + text.trim_end().len();
        Some(Span::new(file, (start + indent).min(end), end))
    }

    fn offset_line_col(&self, file: FileId, offset: u32) -> (u32, u32) {
        self.get(file)
            .map_or((1, 1), |source| source.lines.line_col(&source.text, offset))
    }
}
