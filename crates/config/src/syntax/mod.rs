//! KDL 2, strict, recovering.
//!
//! [`parse`] reads a text into a [`Document`] and reports every mistake it finds; [`format()`] writes a text the canonical
//! way; [`json`] is the machine form of the same documents.
//!
//! What is valid KDL 2 and refused here, because it is surely not meant: a repeated property (KDL lets the last one win),
//! type annotations, a bare word that ends with `,` or `:`, blocks nested more than [`MAX_DEPTH`] deep, numbers that
//! fit neither 128 bits nor a finite float.

mod chars;
mod format;
pub mod json;
mod lexer;
mod nodes;
mod numbers;
mod parser;
mod strings;
pub mod tree;
mod values;
mod words;

pub use format::format;
pub use nodes::{MAX_DEPTH, TOO_DEEP};
pub use parser::MAX_PROBLEMS;
pub use tree::Document;

use crate::problem::Problem;
use crate::source::{FileId, MAX_FILE_BYTES, Span};
use parser::Parser;

/// Parses a file. Mistakes go to `problems` (at most about [`MAX_PROBLEMS`] per file); what could be understood around them
/// is in the document. Time and memory are linear in the text.
pub fn parse(file: FileId, text: &str, problems: &mut Vec<Problem>) -> Document {
    parse_at_depth(file, text, 0, problems)
}

/// [`parse`] for a text that is included `depth` blocks deep.
pub(crate) fn parse_at_depth(
    file: FileId,
    text: &str,
    depth: usize,
    problems: &mut Vec<Problem>,
) -> Document {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has more than {} MiB", MAX_FILE_BYTES >> 20);
        problems.push(
            Problem::error("file-too-large", Span::new(file, 0, 0), message)
                .with_help("split it and compose the parts with `include`"),
        );
        return Document::default();
    }
    let before = problems.len();
    let mut parser = Parser::new(file, text, problems);
    report_disallowed(&mut parser);
    let nodes = parser.nodes(depth, None);
    let stopped = usize::from(parser.stopped);
    // In the order of the text; that there are too many is said last.
    let end = problems.len() - stopped;
    if let Some(found) = problems.get_mut(before..end) {
        found.sort_by_key(|problem| problem.span.start);
    }
    Document { nodes }
}

/// Code points that may stand nowhere, not even in strings and comments.
fn report_disallowed(parser: &mut Parser<'_, '_>) {
    for (at, character) in parser.text.char_indices() {
        if character == ' '
            || !chars::is_disallowed(character)
            || (at == 0 && character == '\u{FEFF}')
        {
            continue;
        }
        let span = parser.span(at, at + character.len_utf8());
        let message = format!(
            "the invisible character U+{:04X} may not stand in a configuration",
            character as u32
        );
        parser
            .error("disallowed-character", span, message)
            .help(format!(
                "remove it; in a string, write \\u{{{:x}}}",
                character as u32
            ));
        if parser.stopped {
            return;
        }
    }
}
