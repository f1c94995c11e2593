//! JSON (RFC 8259) with the place of every value, repeated keys refused, depth bounded.

use std::collections::HashSet;

use crate::problem::Problem;
use crate::source::{FileId, MAX_FILE_BYTES, Span};
use crate::syntax::MAX_DEPTH;
use crate::syntax::numbers;
use crate::syntax::parser::Parser;
use crate::syntax::tree::{Scalar, Text};

/// A block costs three levels: its node's object, the body, the list of children.
const MAX_LEVELS: usize = 3 * MAX_DEPTH + 8;

/// A JSON value.
#[derive(Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Scalar),
    String(String),
    Array(Vec<Spanned>),
    Object(Vec<(Text, Spanned)>),
}

/// A JSON value with its place.
#[derive(Debug, PartialEq)]
pub(super) struct Spanned {
    pub(super) json: Json,
    pub(super) span: Span,
}

/// Reads one JSON value that is the whole text.
pub(super) fn read(file: FileId, text: &str) -> Result<Spanned, Problem> {
    let mut reader = Reader { file, text, at: 0 };
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has more than {} MiB", MAX_FILE_BYTES >> 20);
        return Err(Problem::error("file-too-large", reader.span(0, 0), message));
    }
    if text.starts_with('\u{FEFF}') {
        reader.at = '\u{FEFF}'.len_utf8();
    }
    let value = reader.value(0)?;
    reader.blank();
    if reader.at < text.len() {
        return Err(reader.wrong(
            "there is something behind the end of the JSON value",
            "remove it",
        ));
    }
    Ok(value)
}

struct Reader<'a> {
    file: FileId,
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, level: usize) -> Result<Spanned, Problem> {
        self.blank();
        let start = self.at;
        if level > MAX_LEVELS {
            return Err(self.wrong("values are nested too deep", "move inner parts out"));
        }
        let json = match self.peek() {
            Some('{') => self.object(level)?,
            Some('[') => self.array(level)?,
            Some('"') => Json::String(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Spanned {
            json,
            span: self.span(start, self.at),
        })
    }

    fn array(&mut self, level: usize) -> Result<Json, Problem> {
        self.at += 1;
        let mut items = Vec::new();
        if self.closes(']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(level + 1)?);
            if self.closes(']') {
                return Ok(Json::Array(items));
            }
            self.comma(']')?;
        }
    }

    fn object(&mut self, level: usize) -> Result<Json, Problem> {
        self.at += 1;
        let mut members: Vec<(Text, Spanned)> = Vec::new();
        let mut keys: HashSet<String> = HashSet::new();
        if self.closes('}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.blank();
            let start = self.at;
            if self.peek() != Some('"') {
                return Err(self.wrong(
                    "a key in quotation marks is missing here",
                    "write \"key\": value",
                ));
            }
            let text = self.string()?;
            let key = Text {
                text,
                span: self.span(start, self.at),
            };
            if !keys.insert(key.text.clone()) {
                return Err(repeated(&key, &members));
            }
            self.blank();
            if self.peek() != Some(':') {
                return Err(self.wrong("a `:` is missing behind the key", "write \"key\": value"));
            }
            self.at += 1;
            members.push((key, self.value(level + 1)?));
            if self.closes('}') {
                return Ok(Json::Object(members));
            }
            self.comma('}')?;
        }
    }

    fn closes(&mut self, close: char) -> bool {
        self.blank();
        let closes = self.peek() == Some(close);
        self.at += usize::from(closes);
        closes
    }

    fn comma(&mut self, close: char) -> Result<(), Problem> {
        if self.peek() != Some(',') {
            return Err(self.wrong(
                &format!("a `,` or `{close}` is missing here"),
                "separate the parts by commas",
            ));
        }
        let comma = self.at;
        self.at += 1;
        self.blank();
        if self.peek() == Some(close) {
            self.at = comma;
            return Err(self.wrong("JSON has no comma behind the last part", "remove it"));
        }
        Ok(())
    }

    fn word(&mut self) -> Result<Json, Problem> {
        for (word, json) in [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(json);
            }
        }
        if self.rest().starts_with("//") || self.rest().starts_with("/*") {
            return Err(self.wrong(
                "JSON has no comments",
                "remove it, or write the configuration as KDL",
            ));
        }
        Err(self.wrong(
            "a JSON value is missing here",
            "write a string in quotation marks, a number, true, false, null, [...] or {...}",
        ))
    }

    fn number(&mut self) -> Result<Json, Problem> {
        let start = self.at;
        let rest = self.rest();
        let length = rest
            .find(|part: char| !matches!(part, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        let digits = word.strip_prefix('-').unwrap_or(word);
        let padded = digits.len() > 1
            && digits.starts_with('0')
            && digits.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        let number = numbers::parse(word)
            .ok()
            .filter(|_| !padded && numbers::looks_like_number(word));
        let Some(number) = number else {
            let span = self.span(start, start + length);
            return Err(Problem::error(
                "number",
                span,
                format!("`{}` is not a number in JSON", Parser::quote(word)),
            )
            .with_help("write digits, or a string in quotation marks"));
        };
        self.at += length;
        Ok(Json::Number(number))
    }

    fn string(&mut self) -> Result<String, Problem> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let Some(end) = rest.find(|next: char| next == '"' || next == '\\' || next < ' ')
            else {
                return Err(self.unclosed(start));
            };
            out.push_str(rest.get(..end).unwrap_or_default());
            self.at += end;
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some('\\') => self.escape(&mut out)?,
                Some('\n' | '\r') => return Err(self.unclosed(start)),
                _ => {
                    return Err(self.wrong(
                        "a control character may not stand in a string",
                        "write it as an escape, e.g. \\t",
                    ));
                }
            }
        }
    }

    fn unclosed(&self, start: usize) -> Problem {
        let line = self.text.get(start..).unwrap_or_default();
        let length = line.find(['\n', '\r']).unwrap_or(line.len());
        Problem::error(
            "unclosed-string",
            self.span(start, start + length),
            "this string is not closed on its line",
        )
        .with_help("close it with `\"`")
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Problem> {
        let rest = self.rest();
        let (character, length) = match rest.as_bytes().get(1) {
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'b') => ('\u{08}', 2),
            Some(b'f') => ('\u{0C}', 2),
            Some(b'"') => ('"', 2),
            Some(b'\\') => ('\\', 2),
            Some(b'/') => ('/', 2),
            Some(b'u') => match unicode(rest) {
                Some(found) => found,
                None => {
                    return Err(self.wrong(
                        "this is not the number of a Unicode character",
                        "write \\u and four hexadecimal digits",
                    ));
                }
            },
            _ => return Err(self.wrong("this is not an escape", "write `\\\\` for a backslash")),
        };
        out.push(character);
        self.at += length;
        Ok(())
    }

    fn blank(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// A problem with the character at hand.
    fn wrong(&self, message: &str, help: &str) -> Problem {
        let end = self.at + self.peek().map_or(0, char::len_utf8);
        Problem::error("json-syntax", self.span(self.at, end), message).with_help(help)
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }
}

fn repeated(key: &Text, members: &[(Text, Spanned)]) -> Problem {
    let first = members
        .iter()
        .find(|(seen, _)| seen.text == key.text)
        .map_or(key.span, |(seen, _)| seen.span);
    Problem::error(
        "repeated-property",
        key.span,
        format!("`{}` is set twice", Parser::quote(&key.text)),
    )
    .with_help("keep one of them; nodes that repeat are written as an array of objects")
    .with_related(first, "first set here")
}

/// `\uXXXX`, or two of them for a character beyond the first 65,536: the character and the bytes used.
fn unicode(rest: &str) -> Option<(char, usize)> {
    let first = unit(rest)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = rest
        .get(6..)
        .filter(|next| next.starts_with("\\u"))
        .and_then(unit)?;
    let pair = [first as u16, second as u16];
    let character = char::decode_utf16(pair).next()?.ok()?;
    Some((character, 12))
}

fn unit(escape: &str) -> Option<u32> {
    let digits = escape
        .get(2..6)
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}
