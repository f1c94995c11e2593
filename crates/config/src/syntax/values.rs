//! Names, arguments and properties: words and strings, and what was meant when they are written wrong.

use super::chars::{is_newline, is_space};
use super::lexer::{Kind, Lexer, Quote};
use super::numbers::{self, NotNumber};
use super::parser::Parser;
use super::strings;
use super::tree::{Scalar, Text, Value};
use crate::source::Span;

/// What stands between two spaces.
pub(super) enum Entry {
    Argument(Value),
    Property(Text, Value),
    /// Nothing usable; reported.
    None,
}

impl<'a> Parser<'a, '_> {
    /// A node's name.
    pub(super) fn name(&mut self) -> Option<Text> {
        match self.token.kind {
            Kind::Str(quote) => Some(self.string(quote)),
            Kind::Word => {
                let extent = self.word_extent();
                // `name=value`: the name is fine, the `=` is told about next.
                let assigned = self.text.as_bytes().get(self.token.end) == Some(&b'=');
                if extent != self.token.end && !assigned {
                    return self.unquoted_name(extent);
                }
                self.word_name()
            }
            // What went wrong before the name has been reported.
            Kind::Newline | Kind::Semicolon | Kind::Close | Kind::LineComment | Kind::End => None,
            Kind::Open => {
                let span = self.token_span();
                self.error(
                    "misplaced-block",
                    span,
                    "a block needs a name before its `{`",
                )
                .help("write `name {`");
                None
            }
            Kind::Hash => {
                let (span, text) = (self.token_span(), Self::quote(self.token_text()));
                self.error(
                    "node-name",
                    span,
                    format!("a node cannot be called `{text}`"),
                )
                .help("begin the line with a name; a comment begins with `//`");
                self.bump();
                None
            }
            _ => {
                let extent = self.word_extent().max(self.token.end);
                self.unquoted_name(extent)
            }
        }
    }

    fn unquoted_name(&mut self, extent: usize) -> Option<Text> {
        let span = self.span(self.token.start, extent);
        let text = self.slice(self.token.start, extent);
        self.error(
            "node-name",
            span,
            format!("`{}` cannot be a name", Self::quote(text)),
        )
        .help("names are words like `site` or `rate-limit`; anything else needs quotation marks");
        self.jump(extent);
        None
    }

    fn word_name(&mut self) -> Option<Text> {
        let (span, word) = (self.token_span(), self.token_text());
        let bare = word.trim_end_matches([':', ',']);
        if numbers::looks_like_number(word) || is_keyword(word) {
            self.error(
                "node-name",
                span,
                format!("`{}` cannot be a name", Self::quote(word)),
            )
            .help("begin the line with a name, then its values");
        } else if !bare.is_empty() && bare.len() < word.len() {
            self.error(
                "name-mark",
                span,
                format!(
                    "`{}` ends with a mark that does not belong there",
                    Self::quote(word)
                ),
            )
            .help(format!(
                "write `{}`, a space, then the values",
                Self::quote(bare)
            ));
            self.bump();
            return Some(Text {
                text: bare.to_owned(),
                span,
            });
        } else {
            self.bump();
            return Some(Text {
                text: word.to_owned(),
                span,
            });
        }
        self.bump();
        None
    }

    /// An argument or a property. `name` is that of a node without any yet: `name = value` is what other languages write.
    pub(super) fn entry(&mut self, spaced: bool, name: Option<&Text>) -> Entry {
        if self.token.kind == Kind::Word && self.token_text().starts_with(',') {
            self.comma(self.token_span());
            self.bump();
            return Entry::None;
        }
        if !spaced {
            self.glued();
        }
        if self.token.kind == Kind::Equals {
            self.stray_equals(name);
            self.node_space();
            return self.value().map_or(Entry::None, Entry::Argument);
        }
        if matches!(self.token.kind, Kind::Str(_) | Kind::Word) && self.equals_follows() {
            return self.property();
        }
        self.value().map_or(Entry::None, Entry::Argument)
    }

    /// Two values without a space between. The second is read all the same.
    fn glued(&mut self) {
        match self.token.kind {
            // A quotation mark at the end of a word: "not closed" says it better.
            Kind::Str(quote) if !quote.closed => {}
            Kind::Equals => {}
            _ => {
                let span = self.token_span();
                self.missing_space(span);
            }
        }
    }

    pub(super) fn missing_space(&mut self, span: Span) {
        self.error("missing-space", span, "a space is missing before this")
            .help("separate values by spaces");
    }

    fn comma(&mut self, span: Span) {
        self.error(
            "comma",
            span,
            "values are separated by spaces, not by commas",
        )
        .help("remove the comma; if it belongs to the text, put quotation marks around all of it");
    }

    fn stray_equals(&mut self, name: Option<&Text>) {
        let span = self.token_span();
        self.bump();
        let help = match name {
            Some(name) => format!(
                "write the value behind the name: `{} value`",
                Self::quote(&name.text)
            ),
            None => "write `key=value`".to_owned(),
        };
        self.error(
            "stray-equals",
            span,
            "`=` belongs between a property's key and its value",
        )
        .help(help);
    }

    /// Whether `=` comes after the current token. The white space between is read twice, never more.
    fn equals_follows(&self) -> bool {
        let mut lexer: Lexer<'a> = self.lexer.clone();
        loop {
            match lexer.next().kind {
                Kind::Equals => return true,
                Kind::Space | Kind::BlockComment { closed: true } => {}
                Kind::Backslash => {
                    let mut next = lexer.next().kind;
                    while matches!(
                        next,
                        Kind::Space | Kind::BlockComment { .. } | Kind::LineComment
                    ) {
                        next = lexer.next().kind;
                    }
                    if next != Kind::Newline {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }

    fn property(&mut self) -> Entry {
        let key = match self.token.kind {
            Kind::Str(quote) => Some(self.string(quote)),
            _ => self.key(),
        };
        self.node_space();
        self.bump();
        self.node_space();
        match (key, self.value()) {
            (Some(key), Some(value)) => Entry::Property(key, value),
            _ => Entry::None,
        }
    }

    fn key(&mut self) -> Option<Text> {
        let (span, word) = (self.token_span(), self.token_text());
        self.bump();
        if numbers::looks_like_number(word) || is_keyword(word) {
            let shown = Self::quote(word);
            self.error("property-key", span, format!("`{shown}` cannot be a key"))
                .help(format!(
                    "keys are words; if this one is meant, write \"{shown}\""
                ));
            return None;
        }
        Some(Text {
            text: word.to_owned(),
            span,
        })
    }

    /// A value, with its type annotation if it has one. `None` when there is none; reported.
    fn value(&mut self) -> Option<Value> {
        self.type_annotation();
        match self.token.kind {
            Kind::Str(quote) => {
                let text = self.string(quote);
                Some(Value {
                    scalar: Scalar::String(text.text),
                    span: text.span,
                })
            }
            Kind::Word => Some(self.word()),
            Kind::Hash => self.keyword(),
            Kind::Stray if self.token_text() == "/" => Some(self.unquoted(self.word_extent())),
            Kind::Stray => {
                let extent = self.word_extent().max(self.token.end);
                let span = self.span(self.token.start, extent);
                self.error(
                    "stray-character",
                    span,
                    "there are no lists in brackets here",
                )
                .help("write the values one after the other, separated by spaces");
                self.jump(extent);
                None
            }
            Kind::ParenOpen | Kind::ParenClose | Kind::Equals => {
                let (span, text) = (self.token_span(), self.token_text());
                self.error(
                    "stray-character",
                    span,
                    format!("`{text}` does not belong here"),
                )
                .help("put quotation marks around the text that contains it");
                self.bump();
                None
            }
            _ => {
                let at = self.token.start;
                let span = self.span(at, at);
                self.error("missing-value", span, "a value is missing here")
                    .help("write a value, e.g. key=\"value\"");
                None
            }
        }
    }

    /// `(type)`: valid KDL, without a meaning here.
    pub(super) fn type_annotation(&mut self) {
        if self.token.kind != Kind::ParenOpen {
            return;
        }
        let start = self.token.start;
        self.bump();
        self.node_space();
        let named = matches!(self.token.kind, Kind::Str(_) | Kind::Word);
        if named {
            self.bump();
        }
        self.node_space();
        if named && self.token.kind == Kind::ParenClose {
            let span = self.span(start, self.token.end);
            let text = Self::quote(self.slice(start, self.token.end));
            self.error(
                "type-annotation",
                span,
                "type annotations have no meaning here",
            )
            .help(format!("remove `{text}`"));
            self.bump();
            self.node_space();
            return;
        }
        let span = self.span(start, start + 1);
        self.error("stray-character", span, "`(` does not belong here")
            .help("put quotation marks around the text that contains it");
    }

    /// A quoted string in any form; reported when it has no end.
    fn string(&mut self, quote: Quote) -> Text {
        let token = self.token;
        if !quote.closed {
            return self.unclosed_string(quote);
        }
        self.bump();
        let span = self.span(token.start, token.end);
        let mut mistakes = Vec::new();
        let text = strings::decode(self.text, token, quote, &mut |mistake| {
            mistakes.push(mistake);
        });
        for mistake in mistakes {
            let span = self.span(mistake.range.start, mistake.range.end);
            self.error(mistake.code, span, mistake.message)
                .help(mistake.help);
        }
        Text { text, span }
    }

    fn unclosed_string(&mut self, quote: Quote) -> Text {
        let token = self.token;
        let close = format!(
            "{}{}",
            if quote.multi { "\"\"\"" } else { "\"" },
            "#".repeat((quote.hashes as usize).min(20))
        );
        let body = self.slice(token.start + quote.mark(), token.end);
        if quote.multi {
            self.swallowed = true;
            let span = self.span(token.start, token.start + quote.mark());
            self.error("unclosed-string", span, "this string is never closed")
                .help(format!("close it with `{close}`"));
            self.bump();
            return Text {
                text: body.to_owned(),
                span,
            };
        }
        // `site "example.com {`: the brace was meant as one.
        let trimmed = body.trim_end();
        let value = trimmed.strip_suffix('{').unwrap_or(trimmed).trim_end();
        let end = token.end - body.len() + value.len();
        let span = self.span(token.start, end);
        self.error(
            "unclosed-string",
            span,
            "this string is not closed on its line",
        )
        .help(format!(
            "close it with `{close}`; text of several lines stands between \"\"\" and \"\"\""
        ));
        self.jump(end);
        Text {
            text: value.to_owned(),
            span,
        }
    }

    /// `#true`, `#false`, `#null`, `#inf`, `#-inf`, `#nan`.
    fn keyword(&mut self) -> Option<Value> {
        let (span, text) = (self.token_span(), self.token_text());
        let scalar = match text {
            "#true" => Scalar::Bool(true),
            "#false" => Scalar::Bool(false),
            "#null" => Scalar::Null,
            "#inf" => Scalar::Float(f64::INFINITY),
            "#-inf" => Scalar::Float(f64::NEG_INFINITY),
            "#nan" => Scalar::Float(f64::NAN),
            _ => {
                self.error("keyword", span, format!("`{}` is not a keyword", Self::quote(text)))
                    .help("the keywords are #true, #false and #null; a comment begins with `//`, other text needs quotation marks");
                self.bump();
                return None;
            }
        };
        self.bump();
        Some(Value { scalar, span })
    }

    /// A word as a value: a number, an identifier string, or a mistake.
    fn word(&mut self) -> Value {
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
                    format!("`{shown}` is not a number"),
                    format!("values with a unit or other text are quoted: write \"{shown}\""),
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
    fn unquoted(&mut self, extent: usize) -> Value {
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
    fn word_extent(&self) -> usize {
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
fn is_keyword(word: &str) -> bool {
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
