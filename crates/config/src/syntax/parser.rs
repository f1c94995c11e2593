//! The parser's ground: the current token, white space between nodes and between entries, reporting, taking up again.

use super::lexer::{Kind, Lexer, Token};
use crate::problem::Problem;
use crate::source::{FileId, Span};

/// After this many problems in one file the rest is not read: they have one cause.
pub const MAX_PROBLEMS: usize = 200;

/// Characters of the file that a message repeats.
const MAX_QUOTED: usize = 60;

/// A block that is open.
#[derive(Clone, Copy)]
pub(super) struct Opener {
    /// Its `{`.
    pub(super) span: Span,
    /// Where its line begins.
    pub(super) line_start: usize,
}

pub(super) struct Parser<'a, 'p> {
    pub(super) text: &'a str,
    pub(super) lexer: Lexer<'a>,
    /// The token to be looked at next.
    pub(super) token: Token,
    /// Where the current line begins.
    pub(super) line_start: usize,
    /// The first `}` whose indentation is not that of its block: when the braces do not balance, the place to look.
    pub(super) suspect: Option<(Span, Span)>,
    /// The rest of the file was swallowed (and reported): missing `}` are not news.
    pub(super) swallowed: bool,
    file: FileId,
    problems: &'p mut Vec<Problem>,
    reported: usize,
    /// Too many mistakes: the end of the file has been reached, whatever the lexer says.
    pub(super) stopped: bool,
}

impl<'a, 'p> Parser<'a, 'p> {
    pub(super) fn new(file: FileId, text: &'a str, problems: &'p mut Vec<Problem>) -> Self {
        let start = Token {
            kind: Kind::Space,
            start: 0,
            end: 0,
        };
        let mut parser = Self {
            text,
            lexer: Lexer::new(text),
            token: start,
            line_start: 0,
            suspect: None,
            swallowed: false,
            file,
            problems,
            reported: 0,
            stopped: false,
        };
        parser.bump();
        parser
    }

    /// Goes to the next token.
    pub(super) fn bump(&mut self) {
        if self.stopped {
            return;
        }
        if self.token.kind == Kind::Newline {
            self.line_start = self.token.end;
        }
        self.token = self.lexer.next();
        if self.token.kind == (Kind::BlockComment { closed: false }) {
            self.unclosed_comment();
        }
    }

    /// Goes on at a byte offset.
    pub(super) fn jump(&mut self, at: usize) {
        self.lexer.seek(at);
        self.bump();
    }

    fn unclosed_comment(&mut self) {
        let start = self.token.start;
        // `path=/*`: a pattern without quotation marks; said better where a value is expected.
        if self
            .text
            .as_bytes()
            .get(..start)
            .is_some_and(|before| before.ends_with(b"="))
        {
            self.token = Token {
                kind: Kind::Stray,
                start,
                end: start + 1,
            };
            self.lexer.seek(start + 1);
            return;
        }
        self.swallowed = true;
        let span = self.span(start, start + 2);
        self.error("unclosed-comment", span, "this comment is never closed")
            .help("close it with `*/`; a pattern like /api/* needs quotation marks: \"/api/*\"");
    }

    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    pub(super) fn token_span(&self) -> Span {
        self.span(self.token.start, self.token.end)
    }

    pub(super) fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    pub(super) fn token_text(&self) -> &'a str {
        self.slice(self.token.start, self.token.end)
    }

    /// Reports an error; help and a related place are added to what is returned.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
    ) -> Report<'_> {
        if self.reported >= MAX_PROBLEMS {
            return Report(None);
        }
        self.reported += 1;
        self.problems.push(Problem::error(code, span, message));
        if self.reported == MAX_PROBLEMS {
            self.give_up(span);
            let last = self.problems.len().checked_sub(2);
            return Report(last.and_then(|last| self.problems.get_mut(last)));
        }
        Report(self.problems.last_mut())
    }

    fn give_up(&mut self, span: Span) {
        self.problems.push(
            Problem::error(
                "too-many-problems",
                span,
                format!("more than {MAX_PROBLEMS} mistakes: the rest was not read"),
            )
            .with_help("repair the first ones and check again"),
        );
        self.swallowed = true;
        self.stopped = true;
        self.token = Token {
            kind: Kind::End,
            start: self.text.len(),
            end: self.text.len(),
        };
    }

    /// Skips what may stand between nodes: white space, line breaks, comments, continued lines.
    pub(super) fn line_space(&mut self) {
        loop {
            match self.token.kind {
                Kind::Space | Kind::Newline | Kind::LineComment | Kind::BlockComment { .. } => {
                    self.bump();
                }
                Kind::Backslash => self.continued_line(),
                _ => return,
            }
        }
    }

    /// Skips what may stand between the parts of a node, and says whether there was anything.
    pub(super) fn node_space(&mut self) -> bool {
        let start = self.token.start;
        loop {
            match self.token.kind {
                Kind::Space | Kind::BlockComment { .. } => self.bump(),
                Kind::Backslash => self.continued_line(),
                _ => return self.token.start != start,
            }
        }
    }

    /// `\`, white space, perhaps a comment, a line break (or the end of the file).
    fn continued_line(&mut self) {
        let backslash = self.token_span();
        self.bump();
        while matches!(self.token.kind, Kind::Space | Kind::BlockComment { .. }) {
            self.bump();
        }
        if self.token.kind == Kind::LineComment {
            self.bump();
        }
        match self.token.kind {
            Kind::Newline => self.bump(),
            Kind::End => {}
            _ => {
                self.error(
                    "stray-character",
                    backslash,
                    "outside of strings, `\\` continues a line and must be its last character",
                )
                .help("put quotation marks around the text that contains it");
            }
        }
    }

    /// Skips to where the line, the statement or the block ends or a block begins.
    pub(super) fn resynchronise(&mut self) {
        while !matches!(
            self.token.kind,
            Kind::Newline | Kind::Semicolon | Kind::Open | Kind::Close | Kind::End
        ) {
            self.bump();
        }
    }

    /// A piece of the file for a message: shortened, so that no message is larger than its line.
    pub(super) fn quote(text: &str) -> String {
        match text.char_indices().nth(MAX_QUOTED) {
            Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
            None => text.to_owned(),
        }
    }
}

/// A problem just reported (or not, when there are too many).
pub(super) struct Report<'r>(Option<&'r mut Problem>);

impl Report<'_> {
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        if let Self(Some(problem)) = self {
            problem.help = Some(help.into());
            return Self(Some(problem));
        }
        self
    }

    pub(super) fn related(self, span: Span, message: impl Into<String>) -> Self {
        if let Self(Some(problem)) = self {
            problem.related = Some((span, message.into()));
            return Self(Some(problem));
        }
        self
    }
}
