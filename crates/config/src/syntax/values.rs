//! Names, arguments and properties, and what was meant when they are written wrong.

use super::lexer::{Kind, Lexer, Quote};
use super::numbers;
use super::parser::Parser;
use super::strings;
use super::tree::{Scalar, Text, Value};
use super::words::is_keyword;
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

    pub(super) fn comma(&mut self, span: Span) {
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
        self.node_space();
        let help = match (name, self.token.kind) {
            (Some(name), Kind::Word | Kind::Str(_) | Kind::Hash) => {
                let (name, value) = (Self::quote(&name.text), Self::quote(self.token_text()));
                format!("write the value behind the name: {name} {value}")
            }
            _ => "write key=value, with a key before the `=`".to_owned(),
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

    pub(super) fn unclosed_string(&mut self, quote: Quote) -> Text {
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
}
