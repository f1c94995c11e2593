//! Problems for people: severity, sentence, place, the source line with the offending text underlined, what to do.

use std::fmt::Write as _;

use super::{Problem, Severity};
use crate::source::{Sources, Span};

/// Columns of a source line that are shown; a longer line is cut around the offending text.
const MAX_WIDTH: usize = 140;
/// A tab is shown as this many spaces.
const TAB: &str = "    ";

/// The problems as text, in the order given, with a count at the end. Empty for no problems.
pub fn render_human(problems: &[Problem], sources: &Sources) -> String {
    Renderer {
        sources,
        colored: false,
        out: String::new(),
    }
    .all(problems)
}

/// [`render_human`] with ANSI colours, for a terminal.
pub fn render_human_colored(problems: &[Problem], sources: &Sources) -> String {
    Renderer {
        sources,
        colored: true,
        out: String::new(),
    }
    .all(problems)
}

struct Renderer<'a> {
    sources: &'a Sources,
    colored: bool,
    out: String,
}

#[derive(Clone, Copy)]
enum Ink {
    Error,
    Warning,
    Frame,
    Strong,
}

impl Renderer<'_> {
    fn all(mut self, problems: &[Problem]) -> String {
        for problem in problems {
            self.problem(problem);
            self.out.push('\n');
        }
        if !problems.is_empty() {
            let count = |severity| {
                problems
                    .iter()
                    .filter(|problem| problem.severity == severity)
                    .count()
            };
            self.out
                .push_str(&summary(count(Severity::Error), count(Severity::Warning)));
            self.out.push('\n');
        }
        self.out
    }

    fn problem(&mut self, problem: &Problem) {
        let ink = match problem.severity {
            Severity::Error => Ink::Error,
            Severity::Warning => Ink::Warning,
        };
        self.ink(
            ink,
            &format!("{}[{}]", problem.severity.word(), problem.code),
        );
        self.ink(Ink::Strong, &format!(": {}", printable(&problem.message)));
        self.out.push('\n');

        let related = problem.related.as_ref();
        let gutter = self
            .gutter(problem.span)
            .max(related.map_or(0, |(span, _)| self.gutter(*span)));
        self.snippet(problem.span, "-->", gutter, '^', ink);
        if let Some((span, message)) = related {
            self.frame(gutter, "= ");
            let _ = writeln!(self.out, "see: {}", printable(message));
            self.snippet(*span, ":::", gutter, '-', Ink::Frame);
        }
        if let Some(help) = &problem.help {
            self.frame(gutter, "= ");
            let _ = writeln!(self.out, "help: {}", printable(help));
        }
    }

    /// `--> file:line:column`, the line, the underline.
    fn snippet(&mut self, span: Span, arrow: &str, gutter: usize, mark: char, ink: Ink) {
        let place = self.sources.place(span);
        let name = printable(place.file);
        self.ink(Ink::Frame, &format!("{:gutter$}{arrow} ", ""));
        let _ = writeln!(self.out, "{name}:{}:{}", place.line, place.column);
        let (text, start) = self.sources.line_around(span);
        if span.start == span.end && text.trim().is_empty() {
            return;
        }
        let cut = Excerpt::of(text, start, start + (span.end - span.start) as usize);
        self.frame(gutter, "|\n");
        self.ink(Ink::Frame, &format!("{:>gutter$} | ", place.line));
        let _ = writeln!(self.out, "{}", cut.line);
        self.frame(gutter, "| ");
        let underline: String = std::iter::repeat_n(mark, cut.marks).collect();
        let _ = write!(self.out, "{:indent$}", "", indent = cut.indent);
        self.ink(ink, &underline);
        self.out.push('\n');
    }

    fn frame(&mut self, gutter: usize, text: &str) {
        self.ink(Ink::Frame, &format!("{:gutter$} {text}", ""));
    }

    fn gutter(&self, span: Span) -> usize {
        self.sources.line_col(span).0.to_string().len()
    }

    fn ink(&mut self, ink: Ink, text: &str) {
        if !self.colored {
            self.out.push_str(text);
            return;
        }
        let code = match ink {
            Ink::Error => "1;31",
            Ink::Warning => "1;33",
            Ink::Frame => "1;34",
            Ink::Strong => "1",
        };
        let _ = write!(self.out, "\x1b[{code}m{text}\x1b[0m");
    }
}

/// The shown part of a line and where the marks go, in terminal columns.
struct Excerpt {
    line: String,
    indent: usize,
    marks: usize,
}

impl Excerpt {
    /// Marks the bytes `start..end` of a line; what lies behind its end is not shown.
    fn of(text: &str, start: usize, end: usize) -> Self {
        let mut excerpt = Self {
            line: String::new(),
            indent: 0,
            marks: 0,
        };
        // Minified JSON is one line of megabytes: show a window that begins a little before the marked text.
        let before = text.get(..start).unwrap_or(text);
        let from = match before.char_indices().rev().nth(MAX_WIDTH / 3) {
            Some((from, _)) if before.chars().rev().nth(MAX_WIDTH * 2 / 3).is_some() => from,
            _ => 0,
        };
        if from > 0 {
            excerpt.line.push_str("...");
            excerpt.indent = 3;
        }
        let mut width = excerpt.indent;
        for (at, character) in text.get(from..).unwrap_or_default().char_indices() {
            if width >= MAX_WIDTH {
                excerpt.line.push_str("...");
                break;
            }
            let written = excerpt.line.len();
            push_printable(&mut excerpt.line, character);
            let shown = excerpt.line.get(written..).unwrap_or_default();
            let added: usize = shown.chars().map(columns).sum();
            width += added;
            if from + at < start {
                excerpt.indent += added;
            } else if from + at < end {
                excerpt.marks += added;
            }
        }
        excerpt.marks = excerpt.marks.max(1);
        excerpt.line.truncate(excerpt.line.trim_end().len());
        excerpt
    }
}

/// Text from outside never moves the cursor of the reader's terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars()
        .for_each(|character| push_printable(&mut out, character));
    out
}

fn push_printable(out: &mut String, character: char) {
    match character {
        '\t' => out.push_str(TAB),
        // Directional marks reorder what is shown; they are named instead.
        '\u{200E}'
        | '\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}'
        | '\u{FEFF}' => {
            let _ = write!(out, "<U+{:04X}>", character as u32);
        }
        character if character.is_control() => {
            let _ = write!(out, "<U+{:04X}>", character as u32);
        }
        character => out.push(character),
    }
}

/// Terminal columns: two for East Asian wide characters and emoji, none for combining marks.
fn columns(character: char) -> usize {
    match character as u32 {
        0x0300..=0x036F | 0x200B..=0x200D | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

fn summary(errors: usize, warnings: usize) -> String {
    let counted = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{count} {word}s")),
    };
    let parts: Vec<String> = [counted(errors, "error"), counted(warnings, "warning")]
        .into_iter()
        .flatten()
        .collect();
    parts.join(", ")
}
