//! Words as values: numbers, identifier strings, and what was meant when a word is neither.

use super::chars::{is_newline, is_space};
use super::lexer::{Kind, Quote};
use super::numbers::{self, NotNumber};
use super::parser::Parser;
use super::tree::{Scalar, Value};
use crate::source::Span;

impl Parser<'_, '_> {
    /// A word as a value: a number, an identifier string, or a mistake.
    pub(super) fn word(&mut self) -> Value {
        let (span, word) = (self.token_span(), self.token_text());
        if word == "r" && self.old_raw_string() {
            return self.old_raw_value(span);
        }
        let extent = self.word_extent();
        if extent != self.token.end {
            return self.unquoted(extent);
        }
        if word.ends_with(',') {
            return self.trailing_comma(span, word);
        }
        if word.ends_with(':') {
            return self.trailing_colon(span, word);
        }
        if numbers::looks_like_number(word) {
            return self.number(span, word);
        }
        self.bump();
        if is_keyword(word) {
            let wrong = format!("`{word}` needs a `#` before it");
            self.error("bare-keyword", span, wrong)
                .help(format!("write #{word}, or \"{word}\" if the text is meant"));
            return Value {
                scalar: keyword_value(word),
                span,
            };
        }
        Value {
            scalar: Scalar::String(word.to_owned()),
            span,
        }
    }

    fn number(&mut self, span: Span, word: &str) -> Value {
        let shown = Self::quote(word);
        self.bump();
        let scalar = numbers::parse(word).unwrap_or_else(|why| {
            let (code, message, help) = match why {
                NotNumber::Unit => (
                    "number",
                    format!("`{shown}` is not a number; a value with a unit needs quotation marks"),
                    format!("write \"{shown}\""),
                ),
                NotNumber::Malformed(reason) => (
                    "number",
                    format!("`{shown}` is not a number: {reason}"),
                    format!("correct it, or write \"{shown}\" if the text is meant"),
                ),
                NotNumber::TooLarge => (
                    "number-too-large",
                    format!("`{shown}` is too large"),
                    "write a smaller number".to_owned(),
                ),
            };
            self.error(code, span, message).help(help);
            Scalar::String(word.to_owned())
        });
        Value { scalar, span }
    }

    fn trailing_comma(&mut self, span: Span, word: &str) -> Value {
        let at = span.end.saturating_sub(1);
        self.comma(Span { start: at, ..span });
        self.bump();
        let bare = word.trim_end_matches(',');
        let scalar = match numbers::parse(bare) {
            Ok(number) if numbers::looks_like_number(bare) => number,
            _ => Scalar::String(bare.to_owned()),
        };
        Value {
            scalar,
            span: Span { end: at, ..span },
        }
    }

    fn trailing_colon(&mut self, span: Span, word: &str) -> Value {
        let bare = word.trim_end_matches(':');
        let shown = Self::quote(bare);
        self.error("colon", span, format!("`{}` ends with a colon", Self::quote(word)))
            .help(format!("a property is written {shown}=\"value\"; if the colon belongs to the text, write \"{shown}:\""));
        self.bump();
        Value {
            scalar: Scalar::String(word.to_owned()),
            span,
        }
    }

    /// Text that needs quotation marks: `100/s`, `/api/*`, `http://host`.
    pub(super) fn unquoted(&mut self, extent: usize) -> Value {
        let span = self.span(self.token.start, extent);
        let text = self.slice(self.token.start, extent);
        let shown = Self::quote(text);
        self.error("unquoted", span, format!("`{shown}` needs quotation marks"))
            .help(format!("write \"{shown}\""));
        self.jump(extent);
        Value {
            scalar: Scalar::String(text.to_owned()),
            span,
        }
    }

    /// Whether KDL 1's `r"..."` stands here.
    fn old_raw_string(&self) -> bool {
        matches!(self.lexer.clone().next().kind, Kind::Str(_))
    }

    fn old_raw_value(&mut self, r: Span) -> Value {
        self.bump();
        let token = self.token;
        let mark = if let Kind::Str(quote) = token.kind {
            quote
        } else {
            Quote {
                multi: false,
                hashes: 0,
                closed: true,
            }
        };
        if !mark.closed {
            let text = self.unclosed_string(mark);
            return Value {
                scalar: Scalar::String(text.text),
                span: r.to(text.span),
            };
        }
        let span = r.to(self.token_span());
        let text = self.token_text();
        let fixed = if mark.hashes == 0 {
            format!("#{text}#")
        } else {
            text.to_owned()
        };
        self.error(
            "old-raw-string",
            span,
            "raw strings begin with `#`, not with `r`",
        )
        .help(format!("write {}", Self::quote(&fixed)));
        let body = self.slice(
            token.start + mark.mark(),
            token.end.saturating_sub(mark.mark()),
        );
        self.bump();
        Value {
            scalar: Scalar::String(body.to_owned()),
            span,
        }
    }

    /// Where the text that began with this token ends, if it was meant as one word: at white space, `;`, a quotation mark, a
    /// block or a real comment. Equals the token's end for a proper word. `{name}` belongs to the word.
    pub(super) fn word_extent(&self) -> usize {
        let from = if self.token.kind == Kind::Word {
            self.token.end
        } else {
            self.token.start
        };
        let rest = self.text.get(from..).unwrap_or_default();
        let mut inside = false;
        for (at, character) in rest.char_indices() {
            let ends = match character {
                '{' => {
                    inside = rest.get(at + 1..).is_some_and(has_closing_brace)
                        && at + from > self.token.start;
                    !inside
                }
                '}' => {
                    let ends = !inside;
                    inside = false;
                    ends
                }
                ';' | '"' | '\\' => true,
                '/' if at == 0 && self.token.kind == Kind::Word => self.comment_begins(from),
                // `#"..."#` glued to a word: a string, not part of it.
                '#' => rest
                    .get(at..)
                    .is_some_and(|rest| rest.trim_start_matches('#').starts_with('"')),
                _ => is_space(character) || is_newline(character),
            };
            // `{` directly behind a proper word begins its block.
            if ends || (at == 0 && character == '{') {
                return from + at;
            }
        }
        self.text.len()
    }

    /// Whether a word's end at `at` is followed by a comment that is meant as one.
    fn comment_begins(&self, at: usize) -> bool {
        let mut lexer = self.lexer.clone();
        lexer.seek(at);
        match lexer.next().kind {
            // `http://host` is no comment.
            Kind::LineComment => !self.token_text().ends_with(':'),
            Kind::BlockComment { closed } => closed,
            Kind::Slashdash => true,
            _ => false,
        }
    }
}

fn has_closing_brace(rest: &str) -> bool {
    let end = rest.find(|character: char| {
        !(character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '*' | '.'))
    });
    end.is_some_and(|end| end > 0 && rest.as_bytes().get(end) == Some(&b'}'))
}

/// Words that KDL 2 reserves so that nobody takes them for text.
pub(super) fn is_keyword(word: &str) -> bool {
    matches!(word, "true" | "false" | "null" | "inf" | "-inf" | "nan")
}

fn keyword_value(word: &str) -> Scalar {
    match word {
        "true" => Scalar::Bool(true),
        "false" => Scalar::Bool(false),
        "null" => Scalar::Null,
        _ => Scalar::String(word.to_owned()),
    }
}
