//! Text to tokens. Every byte belongs to exactly one token, in order; nothing is decoded and nothing allocated here.
//!
//! KDL 2 needs no look-back: the first character decides what a token is.

use super::chars::{is_disallowed, is_newline, is_space, is_word, newline_len};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A run of unicode white space (and of code points that are reported elsewhere and otherwise ignored).
    Space,
    /// One line break; `\r\n` is one.
    Newline,
    /// `// ...`, without its line break.
    LineComment,
    /// `/* ... */`, nesting.
    BlockComment { closed: bool },
    /// `\`, outside of strings.
    Backslash,
    /// `/-`.
    Slashdash,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `;`
    Semicolon,
    /// `=`
    Equals,
    /// `(`
    ParenOpen,
    /// `)`
    ParenClose,
    /// Any kind of quoted string.
    Str(Quote),
    /// Identifier string, number, or a word that is neither.
    Word,
    /// `#` and the word behind it: `#true`.
    Hash,
    /// A character that begins nothing: `[`, `]`, a lone `/`.
    Stray,
    /// The end of the text; empty.
    End,
}

/// How a string is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quote {
    /// Between `"""` and `"""`.
    pub(super) multi: bool,
    /// Number of `#` on each side; 0 means that escapes count.
    pub(super) hashes: u32,
    /// Whether the end was found.
    pub(super) closed: bool,
}

impl Quote {
    /// Bytes of the opening (and of the closing) mark.
    pub(super) fn mark(self) -> usize {
        self.hashes as usize + if self.multi { 3 } else { 1 }
    }
}

/// A token: what, and which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Reads tokens from a text.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Continues at another place, which must lie on a character boundary.
    pub(super) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn next(&mut self) -> Token {
        let start = self.at;
        let kind = self.scan();
        Token {
            kind,
            start,
            end: self.at,
        }
    }

    fn scan(&mut self) -> Kind {
        let Some(first) = self.peek() else {
            return Kind::End;
        };
        match first {
            '{' => self.single(Kind::Open),
            '}' => self.single(Kind::Close),
            ';' => self.single(Kind::Semicolon),
            '=' => self.single(Kind::Equals),
            '(' => self.single(Kind::ParenOpen),
            ')' => self.single(Kind::ParenClose),
            '\\' => self.single(Kind::Backslash),
            '"' => self.quoted(),
            '#' => self.hash(),
            '/' => self.slash(),
            '[' | ']' => self.single(Kind::Stray),
            _ if is_newline(first) => {
                self.at += newline_len(self.rest());
                Kind::Newline
            }
            _ if is_blank(first) => {
                self.run(is_blank);
                Kind::Space
            }
            _ => {
                self.run(is_word);
                Kind::Word
            }
        }
    }

    fn slash(&mut self) -> Kind {
        let rest = self.rest();
        if rest.starts_with("//") {
            self.run(|character| !is_newline(character));
            Kind::LineComment
        } else if rest.starts_with("/*") {
            self.block_comment()
        } else if rest.starts_with("/-") {
            self.at += 2;
            Kind::Slashdash
        } else {
            self.single(Kind::Stray)
        }
    }

    fn block_comment(&mut self) -> Kind {
        let mut depth = 0_u32;
        while let Some(first) = self.byte(0) {
            match (first, self.byte(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Kind::BlockComment { closed: true };
                    }
                }
                _ => self.at += 1,
            }
        }
        Kind::BlockComment { closed: false }
    }

    fn hash(&mut self) -> Kind {
        let hashes = self.rest().bytes().take_while(|byte| *byte == b'#').count();
        if self.byte(hashes) == Some(b'"') {
            return self.raw(hashes);
        }
        self.at += hashes;
        self.run(is_word);
        Kind::Hash
    }

    /// `"..."` or `"""..."""`. The single-line form ends unclosed at its line break, so that one missing quote costs one
    /// line.
    fn quoted(&mut self) -> Kind {
        let multi = self.rest().starts_with("\"\"\"");
        self.at += if multi { 3 } else { 1 };
        let mut closed = false;
        while let Some(byte) = self.byte(0) {
            match byte {
                b'"' if !multi => {
                    self.at += 1;
                    closed = true;
                    break;
                }
                b'"' if self.rest().starts_with("\"\"\"") => {
                    self.at += 3;
                    closed = true;
                    break;
                }
                b'\\' => self.skip_escape(),
                _ if multi => self.at += 1,
                _ => match self.peek() {
                    Some(character) if is_newline(character) => break,
                    Some(character) => self.at += character.len_utf8(),
                    None => break,
                },
            }
        }
        Kind::Str(Quote {
            multi,
            hashes: 0,
            closed,
        })
    }

    /// A backslash and what it protects: one character, or all the white space that follows (line breaks included).
    fn skip_escape(&mut self) {
        self.at += 1;
        match self.peek() {
            Some(character) if is_space(character) || is_newline(character) => {
                self.run(|character| is_space(character) || is_newline(character));
            }
            Some(character) => self.at += character.len_utf8(),
            None => {}
        }
    }

    /// `#"..."#` with any number of `#`.
    fn raw(&mut self, hashes: usize) -> Kind {
        self.at += hashes;
        let multi = self.rest().starts_with("\"\"\"");
        let quotes = if multi { 3 } else { 1 };
        self.at += quotes;
        let mut closed = false;
        while let Some(character) = self.peek() {
            if character == '"' {
                let seen = self.rest().bytes().take_while(|byte| *byte == b'"').count();
                let after = self
                    .rest()
                    .bytes()
                    .skip(seen)
                    .take(hashes)
                    .take_while(|byte| *byte == b'#')
                    .count();
                self.at += seen;
                if seen >= quotes && after == hashes {
                    self.at += hashes;
                    closed = true;
                    break;
                }
            } else if !multi && is_newline(character) {
                break;
            } else {
                self.at += character.len_utf8();
            }
        }
        Kind::Str(Quote {
            multi,
            hashes: hashes as u32,
            closed,
        })
    }

    fn single(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest
            .find(|character| !belongs(character))
            .unwrap_or(rest.len());
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }
}

/// White space, and what must not stand in a file at all: reported once by the parser's first pass, then passed over.
fn is_blank(character: char) -> bool {
    is_space(character) || is_disallowed(character)
}
