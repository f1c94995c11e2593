//! Lines, blocks and indentation.

use std::time::Duration;

use crate::lower::text;

/// A file being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: String,
    depth: usize,
}

impl Writer {
    /// A line.
    pub fn line(&mut self, text: impl AsRef<str>) {
        for _ in 0..self.depth {
            self.out.push_str("    ");
        }
        self.out.push_str(text.as_ref());
        self.out.push('\n');
    }

    /// A block, with an empty line before it at the top level.
    pub fn block(&mut self, head: impl AsRef<str>, body: impl FnOnce(&mut Self)) {
        if self.depth == 0 {
            self.out.push('\n');
        }
        self.line(format!("{} {{", head.as_ref()));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("}");
    }

    pub fn finish(self) -> String {
        self.out
    }
}

/// A quoted string.
pub(super) fn q(text: &str) -> String {
    text::quoted(text)
}

/// A quoted duration.
pub(super) fn time(duration: Duration) -> String {
    format!("\"{}\"", text::duration(duration))
}

/// A size, not quoted.
pub(super) fn size(bytes: u64) -> String {
    text::size(bytes)
}
