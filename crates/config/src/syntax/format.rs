//! The canonical way to write a configuration: four spaces a level, one node a line, at most one blank line, comments and
//! the spelling of every value kept.

use super::lexer::{Kind, Lexer, Token};
use crate::problem::{Problem, Severity};
use crate::source::FileId;

const INDENT: &str = "    ";

/// Writes a text the canonical way. Formatting twice changes nothing, and both texts mean the same. A text with
/// mistakes is not touched: the mistakes come back instead (in file 0).
pub fn format(text: &str) -> Result<String, Vec<Problem>> {
    let mut problems = Vec::new();
    super::parse(FileId(0), text, &mut problems);
    if problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
    {
        return Err(problems);
    }
    let mut formatter = Formatter::new(text);
    Ok(formatter.nodes(0).body)
}

/// Walks the tokens of a text that is known to be valid.
struct Formatter<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    token: Token,
}

/// Written nodes.
struct Written {
    /// A comment on the line of the `{`.
    head: Option<String>,
    /// Whole lines.
    body: String,
}

/// What stands between two parts of a node.
#[derive(Default)]
struct Gap {
    /// Block comments.
    comments: Vec<String>,
    /// Whether the line was continued by `\`.
    continued: bool,
    /// The comment behind the `\`.
    line_comment: Option<String>,
}

/// A node while it is written.
#[derive(Default)]
struct Line {
    text: String,
    /// Line comments from places that have none in the canonical form; they go above the node.
    above: Vec<String>,
}

impl<'a> Formatter<'a> {
    fn new(text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let token = lexer.next();
        Self { text, lexer, token }
    }

    fn bump(&mut self) {
        self.token = self.lexer.next();
    }

    /// The token as written, with plain line breaks; goes to the next one.
    fn take(&mut self) -> String {
        let text = self
            .text
            .get(self.token.start..self.token.end)
            .unwrap_or_default();
        self.bump();
        text.replace("\r\n", "\n")
    }

    fn take_line_comment(&mut self) -> String {
        self.take().trim_end().to_owned()
    }

    /// Nodes and comments up to the end of the block; leaves its `}`.
    fn nodes(&mut self, depth: usize) -> Written {
        let mut written = Written {
            head: None,
            body: String::new(),
        };
        let mut breaks = 0;
        loop {
            match self.token.kind {
                Kind::End | Kind::Close => return written,
                Kind::Newline => {
                    breaks += 1;
                    self.bump();
                }
                Kind::LineComment if breaks == 0 && written.body.ends_with('\n') => {
                    written.body.pop();
                    let comment = self.take_line_comment();
                    written.body.push(' ');
                    written.body.push_str(&comment);
                    written.body.push('\n');
                }
                Kind::LineComment
                    if breaks == 0
                        && depth > 0
                        && written.head.is_none()
                        && written.body.is_empty() =>
                {
                    written.head = Some(self.take_line_comment());
                }
                Kind::LineComment => {
                    let comment = self.take_line_comment();
                    push_line(&mut written.body, depth, &comment, &mut breaks);
                }
                Kind::BlockComment { .. } => {
                    let comment = self.take();
                    push_line(&mut written.body, depth, &comment, &mut breaks);
                }
                Kind::Slashdash | Kind::Word | Kind::Str(_) => {
                    let line = self.node(depth);
                    for comment in &line.above {
                        push_line(&mut written.body, depth, comment, &mut breaks);
                    }
                    push_line(&mut written.body, depth, &line.text, &mut breaks);
                }
                _ => self.bump(),
            }
        }
    }

    /// A node, without its indentation and without what ends it.
    fn node(&mut self, depth: usize) -> Line {
        let mut line = Line::default();
        if self.token.kind == Kind::Slashdash {
            line.text.push_str("/-");
            self.bump();
            for comment in self.commented_gap(&mut line) {
                line.above.push(comment);
            }
        }
        line.text.push_str(&self.take());
        loop {
            let gap = self.gap(&mut line);
            match self.token.kind {
                Kind::Newline | Kind::Semicolon | Kind::Close | Kind::End | Kind::LineComment => {
                    line.end_gap(gap);
                    return line;
                }
                Kind::Open => {
                    line.end_gap(gap);
                    line.text.push(' ');
                    self.block(depth, &mut line);
                }
                Kind::Slashdash => {
                    line.write_gap(gap, depth);
                    line.text.push_str("/-");
                    self.bump();
                    let comments = self.commented_gap(&mut line);
                    if self.token.kind == Kind::Open {
                        self.block(depth, &mut line);
                    } else {
                        self.entry(&mut line);
                    }
                    line.push_comments(comments);
                }
                _ => {
                    line.write_gap(gap, depth);
                    self.entry(&mut line);
                }
            }
        }
    }

    fn block(&mut self, depth: usize, line: &mut Line) {
        self.bump();
        let inner = self.nodes(depth + 1);
        self.bump();
        line.text.push('{');
        if let Some(comment) = &inner.head {
            line.text.push(' ');
            line.text.push_str(comment);
        }
        if inner.head.is_some() || !inner.body.is_empty() {
            line.text.push('\n');
            line.text.push_str(&inner.body);
            line.text.push_str(&INDENT.repeat(depth));
        }
        line.text.push('}');
    }

    /// `value` or `key=value`; comments around the `=` go behind the value.
    fn entry(&mut self, line: &mut Line) {
        line.text.push_str(&self.take());
        let mut ahead = Self {
            text: self.text,
            lexer: self.lexer.clone(),
            token: self.token,
        };
        ahead.gap(&mut Line::default());
        if ahead.token.kind != Kind::Equals {
            return;
        }
        let mut comments = self.inner_gap(line);
        self.bump();
        comments.extend(self.inner_gap(line));
        line.text.push('=');
        line.text.push_str(&self.take());
        line.push_comments(comments);
    }

    /// Between the parts of a node.
    fn gap(&mut self, line: &mut Line) -> Gap {
        let mut gap = Gap::default();
        loop {
            match self.token.kind {
                Kind::Space => self.bump(),
                Kind::BlockComment { .. } => gap.comments.push(self.take()),
                Kind::Backslash => {
                    gap.continued = true;
                    self.bump();
                    self.continued(&mut gap, line);
                }
                _ => return gap,
            }
        }
    }

    /// Behind a `\`, up to and with the line break.
    fn continued(&mut self, gap: &mut Gap, line: &mut Line) {
        loop {
            match self.token.kind {
                Kind::Space => self.bump(),
                Kind::BlockComment { .. } => gap.comments.push(self.take()),
                Kind::LineComment => {
                    let comment = self.take_line_comment();
                    line.above.extend(gap.line_comment.replace(comment));
                }
                Kind::Newline => return self.bump(),
                _ => return,
            }
        }
    }

    /// A gap where the canonical form has none: its block comments.
    fn inner_gap(&mut self, line: &mut Line) -> Vec<String> {
        let gap = self.gap(line);
        line.above.extend(gap.line_comment);
        gap.comments
    }

    /// Behind `/-`, where even line breaks may stand: the block comments.
    fn commented_gap(&mut self, line: &mut Line) -> Vec<String> {
        let mut comments = Vec::new();
        loop {
            comments.extend(self.inner_gap(line));
            match self.token.kind {
                Kind::Newline => self.bump(),
                Kind::LineComment => {
                    let comment = self.take_line_comment();
                    line.above.push(comment);
                }
                _ => return comments,
            }
        }
    }
}

impl Line {
    fn push_comments(&mut self, comments: Vec<String>) {
        for comment in comments {
            self.text.push(' ');
            self.text.push_str(&comment);
        }
    }

    /// The gap before another part: a continued line stays one.
    fn write_gap(&mut self, gap: Gap, depth: usize) {
        self.push_comments(gap.comments);
        if !gap.continued {
            self.text.push(' ');
            return;
        }
        self.text.push_str(" \\");
        if let Some(comment) = gap.line_comment {
            self.text.push(' ');
            self.text.push_str(&comment);
        }
        self.text.push('\n');
        self.text.push_str(&INDENT.repeat(depth + 1));
    }

    /// The gap before a block or the end: the line is not continued.
    fn end_gap(&mut self, gap: Gap) {
        self.push_comments(gap.comments);
        self.above.extend(gap.line_comment);
    }
}

/// A line with its indentation, and one blank line before it where there were some.
fn push_line(body: &mut String, depth: usize, text: &str, breaks: &mut usize) {
    if *breaks > 1 && !body.is_empty() {
        body.push('\n');
    }
    *breaks = 0;
    body.push_str(&INDENT.repeat(depth));
    body.push_str(text);
    body.push('\n');
}
