//! The chunk decoder (RFC 9112 7.1): strict, without I/O, resumable at every byte.
//!
//! Only CRLF ends a line. Extensions are checked, counted and dropped. What follows the last chunk is handed to the
//! scanner as a trailer section.

use narthex_message::Reject;
use narthex_message::edit::is_value_byte;
use narthex_message::validate::is_token_byte;

/// Bytes of extensions allowed beside 1/16 of the body (CVE-2023-39326).
const EXTENSION_BASE: u64 = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At a chunk's first size digit.
    SizeStart,
    Size,
    /// Behind `;`, before an extension's name.
    NameStart,
    Name,
    /// White space behind a name: `=` or `;` follows.
    NameEnd,
    /// Behind `=`, before a value.
    ValueStart,
    Value,
    Quoted,
    QuotedEscape,
    /// Behind a quoted value.
    QuotedEnd,
    /// White space behind a value: `;` follows.
    ValueEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The last chunk's line is behind; trailer section follows.
    Trailers,
}

/// Decoder of one chunked body.
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    state: State,
    size: u64,
    digits: u8,
    line_extension: usize,
    extension_max: usize,
    extension_total: u64,
    body_total: u64,
}

/// A step of decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first `consumed` bytes are framing only.
    Framing {
        /// Bytes to drop.
        consumed: usize,
    },
    /// After `skip` framing bytes stand `data` body bytes; `consumed` is their sum.
    Data {
        /// Framing bytes in front.
        skip: usize,
        /// Body bytes.
        data: usize,
    },
    /// After `consumed` framing bytes the trailer section begins.
    Trailers {
        /// Bytes to drop.
        consumed: usize,
    },
}

impl ChunkDecoder {
    /// A decoder; `extension_max` bytes of extension are allowed per line.
    pub fn new(extension_max: usize) -> Self {
        Self {
            state: State::SizeStart,
            size: 0,
            digits: 0,
            line_extension: 0,
            extension_max,
            extension_total: 0,
            body_total: 0,
        }
    }

    /// Body bytes so far.
    pub fn body_total(&self) -> u64 {
        self.body_total
    }

    /// Takes the next step over `bytes` (not empty). Call again with what is left.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Reject> {
        let mut at = 0;
        loop {
            if self.state == State::Data {
                let left = bytes.len() - at;
                if left == 0 {
                    return Ok(Step::Framing { consumed: at });
                }
                let data = usize::try_from(self.size).map_or(left, |size| size.min(left));
                self.size -= data as u64;
                self.body_total = self.body_total.saturating_add(data as u64);
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Step::Data { skip: at, data });
            }
            if self.state == State::Trailers {
                return Ok(Step::Trailers { consumed: at });
            }
            let Some(&byte) = bytes.get(at) else {
                return Ok(Step::Framing { consumed: at });
            };
            self.take(byte)?;
            at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Reject> {
        self.state = match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digit(byte)?
            }
            (State::Size | State::Name | State::Value | State::QuotedEnd, b'\r') => State::SizeLf,
            (
                State::Size
                | State::Name
                | State::NameEnd
                | State::Value
                | State::QuotedEnd
                | State::ValueEnd,
                b';',
            ) => self.extension(State::NameStart)?,
            (State::NameStart | State::Name, b) if is_token_byte(b) => {
                self.extension(State::Name)?
            }
            (State::Name | State::NameEnd, b'=') => self.extension(State::ValueStart)?,
            (State::ValueStart | State::Value, b) if is_token_byte(b) => {
                self.extension(State::Value)?
            }
            (State::ValueStart, b'"') => self.extension(State::Quoted)?,
            (State::Quoted, b'"') => self.extension(State::QuotedEnd)?,
            (State::Quoted, b'\\') => self.extension(State::QuotedEscape)?,
            (State::Quoted | State::QuotedEscape, b) if is_value_byte(b) && b < 0x80 => {
                self.extension(State::Quoted)?
            }
            (State::NameStart | State::ValueStart, b' ' | b'\t') => self.extension(self.state)?,
            (State::Name | State::NameEnd, b' ' | b'\t') => self.extension(State::NameEnd)?,
            (State::Value | State::QuotedEnd | State::ValueEnd, b' ' | b'\t') => {
                self.extension(State::ValueEnd)?
            }
            (State::SizeLf, b'\n') => self.line_done(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::DataCr | State::DataLf, _) => return Err(Reject::ChunkEnd),
            (State::SizeStart | State::Size | State::SizeLf, _) => return Err(Reject::ChunkSize),
            _ => return Err(Reject::ChunkExtension),
        };
        Ok(())
    }

    /// `1*HEXDIG`, at most 16 of them, at most 2^63 - 1.
    fn digit(&mut self, byte: u8) -> Result<State, Reject> {
        let value = u64::from((byte as char).to_digit(16).unwrap_or(0));
        if self.state == State::SizeStart {
            self.size = 0;
            self.digits = 0;
            self.line_extension = 0;
        }
        self.digits += 1;
        if self.digits > 16 || self.size >> 59 != 0 {
            return Err(Reject::ChunkSize);
        }
        self.size = self.size << 4 | value;
        Ok(State::Size)
    }

    fn extension(&mut self, next: State) -> Result<State, Reject> {
        self.line_extension += 1;
        self.extension_total += 1;
        if self.line_extension > self.extension_max
            || self.extension_total > EXTENSION_BASE + self.body_total / 16
        {
            return Err(Reject::ChunkExtension);
        }
        Ok(next)
    }

    fn line_done(&self) -> State {
        if self.size == 0 {
            State::Trailers
        } else {
            State::Data
        }
    }
}

/// Writes the size line of a chunk.
pub fn size_line(size: usize, out: &mut Vec<u8>) {
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut left = size;
    loop {
        at -= 1;
        if let Some(d) = digits.get_mut(at) {
            *d = b"0123456789abcdef".get(left & 15).copied().unwrap_or(b'0');
        }
        left >>= 4;
        if left == 0 || at == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in pieces of `piece` bytes: body, and what follows the last chunk's line.
    fn decode(input: &[u8], piece: usize) -> Result<Option<(Vec<u8>, Vec<u8>)>, Reject> {
        let mut decoder = ChunkDecoder::new(256);
        let mut body = Vec::new();
        let mut done = false;
        let mut rest = Vec::new();
        for part in input.chunks(piece) {
            let mut part = part;
            while !part.is_empty() && !done {
                part = match decoder.step(part)? {
                    Step::Framing { consumed } => &part[consumed..],
                    Step::Data { skip, data } => {
                        body.extend_from_slice(&part[skip..skip + data]);
                        &part[skip + data..]
                    }
                    Step::Trailers { consumed } => {
                        done = true;
                        &part[consumed..]
                    }
                };
            }
            if done {
                rest.extend_from_slice(part);
            }
        }
        // The decoder may stand right behind the last line without having been asked again.
        let done = done || decoder.state == State::Trailers;
        Ok(done.then_some((body, rest)))
    }

    #[test]
    fn the_same_in_pieces_of_any_size() {
        let input =
            b"5\r\nhello\r\n6;a=b;c=\"q;\\\"\"\r\n world\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        for piece in 1..=input.len() {
            let (body, rest) = decode(input, piece).unwrap().unwrap();
            assert_eq!(body, b"hello world0123456789");
            assert_eq!(rest, b"X: y\r\n\r\n");
        }
    }

    #[test]
    fn every_malformed_form_is_refused() {
        for bad in [
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n",
            "-5\r\nhello",
            " 5\r\nhello",
            "5 \r\nhello",
            "5_0\r\n",
            "\r\n",
            "5\r\r\nhello",
            "5\nhello\r\n0\r\n\r\n",
            "5;\nhello\r\n",
            "5;a\rX\r\nhello",
            "5;a=\"\n\"\r\nhello",
            "FFFFFFFFFFFFFFFF0\r\n",
            "100000000000000005\r\n",
            "8000000000000000\r\n",
            "00000000000000005\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello!!\r\n",
            "g\r\n",
            "5\0\r\nhello",
            "5;\x01\r\nhello",
            "5\r\nhello\r0\r\n\r\n",
            "5;a=\"\x7f\"\r\n",
        ] {
            for piece in 1..=bad.len() {
                assert!(
                    decode(bad.as_bytes(), piece).is_err(),
                    "{bad:?} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn extensions_follow_the_grammar() {
        for good in [
            "5;a",
            "5;a=b",
            "5;a=\"b;c\\\" \x7e\"",
            "5; a = b ; c",
            "5;a;b;c=d",
        ] {
            let body = format!("{good}\r\nhello\r\n0;z\r\n\r\n");
            assert_eq!(
                decode(body.as_bytes(), 3).unwrap().unwrap().0,
                b"hello",
                "{good}"
            );
        }
        for bad in [
            "5;",
            "5;;a",
            "5;a b",
            "5;=b",
            "5;a==b",
            "5;a=",
            "5;a ",
            "5;a=b ",
            "5;a=\"b\"c",
            "5;a=\"b",
            "5;\u{e4}",
            "5;a=\"\u{e4}\"",
            "5;a=}x{",
        ] {
            let body = format!("{bad}\r\nhello\r\n0\r\n\r\n");
            assert_eq!(
                decode(body.as_bytes(), 4096),
                Err(Reject::ChunkExtension),
                "{bad}"
            );
        }
    }

    #[test]
    fn extensions_are_bounded() {
        let long = format!("1;{}\r\nx\r\n", "e".repeat(256));
        assert_eq!(decode(long.as_bytes(), 4096), Err(Reject::ChunkExtension));
        let many = format!("1;{}\r\nx\r\n", "e".repeat(200)).repeat(60);
        assert_eq!(decode(many.as_bytes(), 4096), Err(Reject::ChunkExtension));
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for size in [0usize, 1, 9, 10, 15, 16, 255, 256, 65_536, usize::MAX] {
            let mut out = Vec::new();
            size_line(size, &mut out);
            assert_eq!(out, format!("{size:x}\r\n").into_bytes());
        }
    }
}
