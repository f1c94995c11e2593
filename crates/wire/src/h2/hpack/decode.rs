//! The decoder: a whole block to lines `name: value CRLF`, written where they are to stay.

use super::huffman;
use super::table::{Known, Name, Table, is_clean};

/// What takes the lines of a block.
pub trait Sink {
    /// Where the next line is written, at the end.
    fn bytes(&mut self) -> &mut Vec<u8>;
    /// A line has been written.
    fn line(&mut self, line: Line) -> Result<(), Fault>;
}

/// A line at the end of the sink's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// What the name is.
    pub name: Name,
    /// Name and value may be what they are; else the message is malformed.
    pub clean: bool,
    /// Offset of the line, and of its name.
    pub start: usize,
    /// Length of the name; the value is two bytes behind it.
    pub name_len: usize,
    /// Offset behind the value; the line ends two bytes later.
    pub value_end: usize,
}

/// Why the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The block is not HPACK: both sides' tables differ from here on (RFC 9113 4.3).
    Compression(&'static str),
    /// The block is an attack.
    Calm(&'static str),
}

/// The decoder of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// A name as a block has it.
#[derive(Clone, Copy)]
struct Named {
    name: Name,
    len: usize,
}

impl Decoder {
    /// With an empty table.
    pub fn new() -> Self {
        Self {
            table: Table::new(),
        }
    }

    /// Size of the dynamic table (RFC 7541 4.1).
    pub fn table_size(&self) -> usize {
        self.table.size()
    }

    /// Decodes a whole block.
    pub fn block(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), Fault> {
        let mut rest = self.size_updates(block)?;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                rest = self.indexed(rest, sink)?;
            } else if first & 0x40 != 0 {
                rest = self.literal(rest, 6, sink)?;
            } else if first & 0x20 != 0 {
                return Err(Fault::Compression("a table size update behind a field"));
            } else {
                rest = self.literal(rest, 4, sink)?;
            }
        }
        Ok(())
    }

    /// At most two, in front of everything (RFC 7541 4.2).
    fn size_updates<'b>(&mut self, block: &'b [u8]) -> Result<&'b [u8], Fault> {
        let mut rest = block;
        for _ in 0..2 {
            if rest.first().is_none_or(|b| b & 0xe0 != 0x20) {
                break;
            }
            let (size, after) = integer(rest, 5)?;
            if !self.table.resize(size) {
                return Err(Fault::Compression("a table larger than we allow"));
            }
            rest = after;
        }
        Ok(rest)
    }

    #[inline]
    fn indexed<'b>(&mut self, rest: &'b [u8], sink: &mut impl Sink) -> Result<&'b [u8], Fault> {
        let (index, rest) = integer(rest, 7)?;
        let known = self
            .table
            .get(index)
            .ok_or(Fault::Compression("an index without an entry"))?;
        let bytes = sink.bytes();
        let start = bytes.len();
        bytes.extend_from_slice(known.line);
        let value_end = bytes.len().saturating_sub(2);
        sink.line(Line {
            name: known.name,
            clean: known.clean,
            start,
            name_len: known.name_len,
            value_end,
        })?;
        Ok(rest)
    }

    /// A literal; with a prefix of six bits it is also inserted.
    fn literal<'b>(
        &mut self,
        rest: &'b [u8],
        prefix: u32,
        sink: &mut impl Sink,
    ) -> Result<&'b [u8], Fault> {
        let bytes = sink.bytes();
        let start = bytes.len();
        let (named, rest) = self.name(rest, prefix, bytes)?;
        bytes.extend_from_slice(b": ");
        let value_at = bytes.len();
        let rest = string(rest, bytes)?;
        let value_end = bytes.len();
        let clean = named.name != Name::Bad && is_clean(bytes.get(value_at..).unwrap_or_default());
        bytes.extend_from_slice(b"\r\n");
        if prefix == 6 {
            self.table.insert(Known {
                name: named.name,
                clean,
                line: bytes.get(start..).unwrap_or_default(),
                name_len: named.len,
            });
        }
        sink.line(Line {
            name: named.name,
            clean,
            start,
            name_len: named.len,
            value_end,
        })?;
        Ok(rest)
    }

    fn name<'b>(
        &self,
        rest: &'b [u8],
        prefix: u32,
        bytes: &mut Vec<u8>,
    ) -> Result<(Named, &'b [u8]), Fault> {
        let (index, rest) = integer(rest, prefix)?;
        let start = bytes.len();
        if index == 0 {
            let rest = string(rest, bytes)?;
            let name = bytes.get(start..).unwrap_or_default();
            return Ok((
                Named {
                    name: Name::of(name),
                    len: name.len(),
                },
                rest,
            ));
        }
        let known = self
            .table
            .get(index)
            .ok_or(Fault::Compression("an index without an entry"))?;
        bytes.extend_from_slice(known.line.get(..known.name_len).unwrap_or_default());
        Ok((
            Named {
                name: known.name,
                len: known.name_len,
            },
            rest,
        ))
    }
}

/// An integer with a prefix of so many bits (RFC 7541 5.1); below 2^28 and in at most five bytes.
#[inline]
fn integer(bytes: &[u8], prefix: u32) -> Result<(usize, &[u8]), Fault> {
    const SHORT: Fault = Fault::Compression("the block ends too early");
    let (&first, mut rest) = bytes.split_first().ok_or(SHORT)?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value < mask {
        return Ok((value, rest));
    }
    for shift in [0u32, 7, 14, 21] {
        let (&byte, after) = rest.split_first().ok_or(SHORT)?;
        rest = after;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value, rest));
        }
    }
    Err(Fault::Compression("an integer too large"))
}

/// A string literal (RFC 7541 5.2).
#[inline]
fn string<'b>(bytes: &'b [u8], out: &mut Vec<u8>) -> Result<&'b [u8], Fault> {
    let coded = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let (len, rest) = integer(bytes, 7)?;
    let (text, rest) = rest
        .split_at_checked(len)
        .ok_or(Fault::Compression("the block ends too early"))?;
    if !coded {
        out.extend_from_slice(text);
    } else if !huffman::decode(text, out) {
        return Err(Fault::Compression("no Huffman code"));
    }
    Ok(rest)
}
