//! Where lines begin. A line ends at `\n` (so `\r\n` too), as editors count.

use std::sync::OnceLock;

/// A character count is kept for every block of this many bytes, so that a column in a line of megabytes (minified JSON)
/// is found without counting from its beginning.
const BLOCK: usize = 1024;

/// Line starts and character counts of one text, built when first asked.
#[derive(Debug, Clone, Default)]
pub struct LineIndex(OnceLock<Table>);

#[derive(Debug, Clone, Default)]
struct Table {
    /// Byte offset of each line's first byte.
    starts: Vec<u32>,
    /// Characters that begin before byte `i * BLOCK`.
    chars: Vec<u32>,
}

/// An index is a cache: it never makes two sources differ.
impl PartialEq for LineIndex {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LineIndex {}

impl LineIndex {
    /// Line and column of a byte offset, from 1. `text` must be the same at every call.
    pub(super) fn line_col(&self, text: &str, offset: u32) -> (u32, u32) {
        let table = self.table(text);
        let (line, start) = self.line_start(text, offset);
        let column =
            chars_before(table, text, offset).saturating_sub(chars_before(table, text, start));
        (line, column + 1)
    }

    /// The line (from 1) that contains a byte offset, and the offset of its first byte.
    pub(super) fn line_start(&self, text: &str, offset: u32) -> (u32, u32) {
        let table = self.table(text);
        let line = table
            .starts
            .partition_point(|start| *start <= offset)
            .max(1);
        (
            line as u32,
            table.starts.get(line - 1).copied().unwrap_or(0),
        )
    }

    /// The text of a line (from 1), without its line break.
    pub(super) fn line<'a>(&self, text: &'a str, line: u32) -> &'a str {
        let table = self.table(text);
        let index = (line as usize).saturating_sub(1);
        let Some(start) = table.starts.get(index).copied() else {
            return "";
        };
        let end = table
            .starts
            .get(index + 1)
            .map_or(text.len(), |next| *next as usize);
        let line = text.get(start as usize..end).unwrap_or_default();
        line.strip_suffix('\n')
            .map_or(line, |line| line.strip_suffix('\r').unwrap_or(line))
    }

    fn table(&self, text: &str) -> &Table {
        self.0.get_or_init(|| Table::build(text))
    }
}

impl Table {
    fn build(text: &str) -> Self {
        let mut starts = vec![0];
        let mut chars = Vec::with_capacity(text.len() / BLOCK + 1);
        let mut seen = 0;
        for (number, block) in text.as_bytes().chunks(BLOCK).enumerate() {
            chars.push(seen);
            for (at, byte) in block.iter().enumerate() {
                seen += u32::from(is_char_start(*byte));
                if *byte == b'\n' {
                    starts.push((number * BLOCK + at + 1) as u32);
                }
            }
        }
        Self { starts, chars }
    }
}

fn chars_before(table: &Table, text: &str, offset: u32) -> u32 {
    let offset = (offset as usize).min(text.len());
    let block = (offset / BLOCK).min(table.chars.len().saturating_sub(1));
    let base = table.chars.get(block).copied().unwrap_or(0);
    let rest = text
        .as_bytes()
        .get(block * BLOCK..offset)
        .unwrap_or_default();
    base + rest.iter().filter(|byte| is_char_start(**byte)).count() as u32
}

/// Every byte of UTF-8 but a continuation byte begins a character.
fn is_char_start(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}
