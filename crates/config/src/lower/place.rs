//! From a place inside a value to a place in the file.

use crate::source::{Sources, Span};

/// The span of `len` bytes at `offset` of a string's text. Exact when the string is written without escapes; else the
/// whole value.
pub fn within(sources: &Sources, value: Span, text: &str, offset: usize, len: usize) -> Span {
    let written = sources.slice(value);
    let quotes = written.len() - written.trim_start_matches(['#', '"']).len();
    // A text that itself begins with a quote or hash would confuse the count; the whole value is right then too.
    let inside =
        written.get(quotes..).is_some_and(|w| w.starts_with(text)) && !text.starts_with(['#', '"']);
    if !inside || offset > text.len() {
        return value;
    }
    let start = value.start as usize + quotes + offset;
    let end = (start + len).min(value.end as usize).max(start);
    Span::new(value.file, start, end)
}
