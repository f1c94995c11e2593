//! The body of a check's answer: as much of it as is looked at, and what must be in it. Pure.

use narthex_config::model::BodyMatch;
use regex_automata::meta;
use regex_automata::util::syntax;

use super::head::Framing;

/// So much of a body is looked at.
pub(super) const WINDOW: usize = 64 << 10;
/// Longest line of a chunk's size, and all trailers together.
const LINE_MAX: usize = 4 << 10;
/// Memory that a compiled expression may take, in bytes.
const COMPILED_MAX: usize = 2 << 20;

/// What must be in the body.
#[derive(Debug)]
pub(super) enum Matcher {
    Contains(Vec<u8>),
    Regex(Box<meta::Regex>),
}

impl Matcher {
    /// The configuration has checked the expression.
    pub(super) fn new(written: &BodyMatch) -> Result<Self, String> {
        match written {
            BodyMatch::Contains(text) => Ok(Self::Contains(text.clone().into_bytes())),
            BodyMatch::Regex(pattern) => meta::Builder::new()
                .configure(
                    meta::Config::new()
                        .nfa_size_limit(Some(COMPILED_MAX))
                        .onepass_size_limit(Some(COMPILED_MAX / 8))
                        .hybrid_cache_capacity(COMPILED_MAX / 8)
                        .utf8_empty(false),
                )
                .syntax(
                    syntax::Config::new()
                        .unicode(false)
                        .utf8(false)
                        .dot_matches_new_line(true),
                )
                .build(pattern)
                .map(|regex| Self::Regex(Box::new(regex)))
                .map_err(|e| format!("the check's expression cannot be used: {e}")),
        }
    }

    /// Is it in the first bytes of a body? `complete`: no more of it is looked at.
    pub(super) fn is_in(&self, body: &[u8], complete: bool) -> bool {
        match self {
            Self::Contains(text) => {
                text.is_empty() || body.windows(text.len()).any(|part| part == text.as_slice())
            }
            // `$` or a negated class may match what is not the end.
            Self::Regex(regex) => complete && regex.is_match(body),
        }
    }
}

/// Where a body is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of data are to come.
    Data(u64),
    /// So many bytes of a chunk are to come.
    Chunk(u64),
    /// The line after a chunk's data.
    ChunkEnd,
    /// The line of a chunk's size.
    Size,
    /// A line after the last chunk.
    Trailer,
    /// Data up to the end of the connection.
    Open,
    Done,
}

/// A body as it comes in.
#[derive(Debug)]
pub(super) struct Body {
    at: At,
    line: Vec<u8>,
    trailers: usize,
    /// So many bytes of the data are looked at.
    window: usize,
    /// They, as far as they have come.
    pub(super) data: Vec<u8>,
    /// Bytes came after the end.
    pub(super) surplus: bool,
}

impl Body {
    pub(super) fn new(framing: Framing, window: usize) -> Self {
        Self {
            at: match framing {
                Framing::Length(0) => At::Done,
                Framing::Length(n) => At::Data(n),
                Framing::Chunked => At::Size,
                Framing::Close => At::Open,
            },
            line: Vec::new(),
            trailers: 0,
            window,
            data: Vec::new(),
            surplus: false,
        }
    }

    /// Has it ended by itself?
    pub(super) fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Has all been seen that is looked at?
    pub(super) fn is_enough(&self) -> bool {
        self.is_done() || self.data.len() >= self.window
    }

    /// Has it an end of its own, which may be within so many bytes?
    pub(super) fn is_short(&self, most: usize) -> bool {
        match self.at {
            At::Data(left) | At::Chunk(left) => left <= most as u64,
            At::Open => false,
            At::Done | At::Size | At::ChunkEnd | At::Trailer => true,
        }
    }

    /// May the connection's end be the body's?
    pub(super) fn ends_with_connection(&self) -> bool {
        self.at == At::Open
    }

    /// Takes what came.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            match self.at {
                At::Done => {
                    self.surplus = true;
                    return Ok(());
                }
                At::Open => {
                    self.keep(bytes);
                    return Ok(());
                }
                At::Data(left) => {
                    let left = self.data(&mut bytes, left);
                    self.at = if left == 0 { At::Done } else { At::Data(left) };
                }
                At::Chunk(left) => {
                    let left = self.data(&mut bytes, left);
                    self.at = if left == 0 {
                        At::ChunkEnd
                    } else {
                        At::Chunk(left)
                    };
                }
                At::ChunkEnd | At::Size | At::Trailer => self.line(&mut bytes)?,
            }
        }
        Ok(())
    }

    /// Takes at most `left` bytes; says how many are still to come.
    fn data(&mut self, bytes: &mut &[u8], left: u64) -> u64 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (now, later) = bytes.split_at(n);
        self.keep(now);
        *bytes = later;
        left - n as u64
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.window.saturating_sub(self.data.len()).min(bytes.len());
        self.data
            .extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    /// Takes bytes up to the end of a line, and what the line says once it is whole.
    fn line(&mut self, bytes: &mut &[u8]) -> Result<(), &'static str> {
        let end = bytes.iter().position(|b| *b == b'\n');
        let n = end.map_or(bytes.len(), |at| at + 1);
        let (now, later) = bytes.split_at(n);
        self.line.extend_from_slice(now);
        *bytes = later;
        if self.line.len() > LINE_MAX {
            return Err("a chunk of the answer is malformed");
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.at = self.after(
                line.strip_suffix(b"\r\n")
                    .ok_or("a chunk of the answer is malformed")?,
            )?;
        }
        Ok(())
    }

    fn after(&mut self, line: &[u8]) -> Result<At, &'static str> {
        match self.at {
            At::ChunkEnd if line.is_empty() => Ok(At::Size),
            At::Trailer if line.is_empty() => Ok(At::Done),
            At::Trailer => {
                self.trailers += line.len();
                if self.trailers > LINE_MAX {
                    return Err("the answer's trailers are too long");
                }
                Ok(At::Trailer)
            }
            At::Size => {
                let size = line
                    .split(|b| *b == b';')
                    .next()
                    .unwrap_or_default()
                    .trim_ascii();
                let text = std::str::from_utf8(size).unwrap_or_default();
                if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err("a chunk of the answer is malformed");
                }
                match u64::from_str_radix(text, 16) {
                    Ok(0) => Ok(At::Trailer),
                    Ok(n) => Ok(At::Chunk(n)),
                    Err(_) => Err("a chunk of the answer is malformed"),
                }
            }
            _ => Err("a chunk of the answer is malformed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(framing: Framing, text: &[u8], step: usize) -> Result<Body, &'static str> {
        let mut body = Body::new(framing, WINDOW);
        for part in text.chunks(step.max(1)) {
            body.take(part)?;
        }
        Ok(body)
    }

    #[test]
    fn reads_every_framing_however_it_is_split() {
        let chunked = b"4;x=y\r\nWiki\r\n6\r\npedia \r\n0\r\nA: b\r\n\r\n";
        for step in 1..=chunked.len() {
            let body = read(Framing::Chunked, chunked, step).unwrap();
            assert!(body.is_done() && !body.surplus, "{step}");
            assert_eq!(body.data, b"Wikipedia ");
            let body = read(Framing::Length(5), b"abcde", step).unwrap();
            assert!(body.is_done() && !body.surplus);
            assert_eq!(body.data, b"abcde");
            let body = read(Framing::Close, b"abcde", step).unwrap();
            assert!(!body.is_done() && body.ends_with_connection());
        }
        assert!(read(Framing::Length(3), b"abcde", 9).unwrap().surplus);
        assert!(!read(Framing::Length(9), b"abcde", 2).unwrap().is_enough());
        assert!(read(Framing::Length(0), b"", 1).unwrap().is_done());
    }

    #[test]
    fn looks_at_no_more_than_its_window() {
        let long = vec![b'a'; WINDOW + 5_000];
        let body = read(Framing::Close, &long, 1_000).unwrap();
        assert_eq!(body.data.len(), WINDOW);
        assert!(body.is_enough());
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bad in [
            &b"x\r\n"[..],
            b"\r\n",
            b"4\nWiki\r\n",
            b"4\r\nWikipedia\r\n",
            b"+4\r\n",
            b"11111111111111111\r\n",
        ] {
            assert!(read(Framing::Chunked, bad, 1).is_err(), "{bad:?}");
        }
        let endless = vec![b'0'; LINE_MAX + 1];
        assert!(read(Framing::Chunked, &endless, 100).is_err());
    }

    #[test]
    fn finds_what_must_be_in_it() {
        let contains = Matcher::new(&BodyMatch::Contains("ok".to_owned())).unwrap();
        assert!(contains.is_in(b"all is ok here", false));
        assert!(!contains.is_in(b"o", true) && !contains.is_in(b"o k", true));
        let regex = Matcher::new(&BodyMatch::Regex("(?i)status: *up$".to_owned())).unwrap();
        assert!(!regex.is_in(b"STATUS: up", false), "more may follow");
        assert!(regex.is_in(b"\xffSTATUS:   up", true));
        assert!(!regex.is_in(b"status: up and down", true));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1usize..9) {
            for framing in [Framing::Chunked, Framing::Length(50), Framing::Close] {
                let _ = read(framing, &bytes, step);
            }
        }

        #[test]
        fn chunks_come_together(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..10), step in 1usize..50) {
            let mut text = Vec::new();
            for part in &parts {
                text.extend(format!("{:x}\r\n", part.len()).into_bytes());
                text.extend(part);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
            let body = read(Framing::Chunked, &text, step).unwrap();
            prop_assert!(body.is_done() && !body.surplus);
            prop_assert_eq!(body.data, parts.concat());
        }
    }
}
