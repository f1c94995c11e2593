//! The reference manual, from the table of keys.

/// The reference manual in Markdown.
pub fn reference_markdown() -> String {
    String::new()
}
