//! HPACK (RFC 7541): a writer that writes what it is told, right or wrong, and a strict reader.

use std::collections::VecDeque;

use super::huffman;
use crate::kit::http::Fields;

/// RFC 7541, appendix A.
#[rustfmt::skip]
pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// Index of the newest entry of the dynamic table.
pub const NEWEST: u64 = 62;

/// A field block in the making. Keeps no table: who inserts knows where it will be.
#[derive(Debug, Clone, Default)]
pub struct Block {
    bytes: Vec<u8>,
    huffman: bool,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Block {
    /// An empty one; strings as they are.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request's four pseudo-fields: `http`, and the host `a`.
    pub fn request(method: &str, path: &str) -> Self {
        Self::request_to(method, "http", "a", path)
    }
    /// Those of any request.
    pub fn request_to(method: &str, scheme: &str, authority: &str, path: &str) -> Self {
        Self::new()
            .field(":method", method)
            .field(":scheme", scheme)
            .field(":authority", authority)
            .field(":path", path)
    }
    /// GET.
    pub fn get(path: &str) -> Self {
        Self::request("GET", path)
    }
    /// POST.
    pub fn post(path: &str) -> Self {
        Self::request("POST", path)
    }
    /// An answer's status.
    pub fn status(status: u16) -> Self {
        Self::new().field(":status", status.to_string())
    }

    /// From here on strings are Huffman-coded, or not.
    pub fn huffman(mut self, on: bool) -> Self {
        self.huffman = on;
        self
    }
    /// A literal that is not put into the table.
    pub fn field(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.raw([0]).string(name.as_ref()).string(value.as_ref())
    }
    /// Several of them.
    pub fn fields(self, all: &[(&str, &str)]) -> Self {
        all.iter().fold(self, |block, (n, v)| block.field(n, v))
    }
    /// A literal that must never be put into a table.
    pub fn never(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.raw([0x10])
            .string(name.as_ref())
            .string(value.as_ref())
    }
    /// A literal that is put into the table.
    pub fn insert(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.raw([0x40])
            .string(name.as_ref())
            .string(value.as_ref())
    }
    /// A literal whose name is that of an entry.
    pub fn named(self, index: u64, value: impl AsRef<[u8]>) -> Self {
        self.number(0, 4, index).string(value.as_ref())
    }
    /// The same, put into the table.
    pub fn insert_named(self, index: u64, value: impl AsRef<[u8]>) -> Self {
        self.number(0x40, 6, index).string(value.as_ref())
    }
    /// An entry of the tables.
    pub fn indexed(self, index: u64) -> Self {
        self.number(0x80, 7, index)
    }
    /// An entry many times over.
    pub fn indexed_times(mut self, index: u64, times: usize) -> Self {
        let one = Self::new().indexed(index);
        for _ in 0..times {
            self.bytes.extend_from_slice(&one.bytes);
        }
        self
    }
    /// The table gets this size.
    pub fn size(self, size: u64) -> Self {
        self.number(0x20, 5, size)
    }
    /// Exactly these bytes.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }
    /// A number with a prefix of so many bits, under these bits.
    pub fn number(mut self, first: u8, prefix: u8, n: u64) -> Self {
        let full = (1_u64 << prefix) - 1;
        if n < full {
            self.bytes.push(first | n as u8);
            return self;
        }
        self.bytes.push(first | full as u8);
        let mut rest = n - full;
        while rest >= 128 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
        self
    }
    /// A string, coded as chosen.
    pub fn string(self, bytes: &[u8]) -> Self {
        if self.huffman {
            self.coded(&huffman::encode(bytes))
        } else {
            self.number(0, 7, bytes.len() as u64).raw(bytes)
        }
    }
    /// A string that says it is Huffman-coded, with exactly these bytes.
    pub fn coded(self, bytes: &[u8]) -> Self {
        self.number(0x80, 7, bytes.len() as u64).raw(bytes)
    }
    /// How long it is so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    /// Is nothing in it?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The strict reader.
#[derive(Debug)]
pub struct Decoder {
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    used: usize,
    size: usize,
    /// What our SETTINGS allow.
    pub allowed: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            used: 0,
            size: 4096,
            allowed: 4096,
        }
    }
}

impl Decoder {
    /// A whole block.
    pub fn block(&mut self, mut bytes: &[u8]) -> Result<Fields, String> {
        let mut out = Fields::default();
        let mut begun = false;
        while let Some(first) = bytes.first().copied() {
            if first & 0x80 != 0 {
                let entry = number(&mut bytes, 7)?;
                out.0.push(self.entry(entry)?);
            } else if first & 0xe0 == 0x20 {
                if begun {
                    return Err("a change of the table's size after a field".to_owned());
                }
                let size = number(&mut bytes, 5)? as usize;
                if size > self.allowed {
                    return Err(format!("a table of {size}, {} allowed", self.allowed));
                }
                self.size = size;
                self.evict(0);
                continue;
            } else {
                let keeps = first & 0x40 != 0;
                let name = match number(&mut bytes, if keeps { 6 } else { 4 })? {
                    0 => string(&mut bytes)?,
                    index => self.entry(index)?.0,
                };
                let value = string(&mut bytes)?;
                if keeps {
                    let size = name.len() + value.len() + 32;
                    self.evict(size);
                    if size <= self.size {
                        self.used += size;
                        self.table.push_front((name.clone(), value.clone()));
                    }
                }
                out.0.push((name, value));
            }
            begun = true;
        }
        Ok(out)
    }

    fn evict(&mut self, room: usize) {
        while self.used + room > self.size {
            let Some((n, v)) = self.table.pop_back() else {
                return;
            };
            self.used -= n.len() + v.len() + 32;
        }
    }

    fn entry(&self, index: u64) -> Result<(Vec<u8>, Vec<u8>), String> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some((n, v)) = at.checked_sub(1).and_then(|at| STATIC.get(at)) {
            return Ok((n.as_bytes().to_vec(), v.as_bytes().to_vec()));
        }
        let dynamic = at.checked_sub(62).and_then(|at| self.table.get(at));
        dynamic.cloned().ok_or_else(|| format!("no entry {index}"))
    }
}

fn number(bytes: &mut &[u8], prefix: u8) -> Result<u64, String> {
    let (first, mut rest) = bytes.split_first().ok_or("a number without bytes")?;
    let full = (1_u64 << prefix) - 1;
    let mut n = u64::from(*first) & full;
    if n == full {
        for shift in (0..).step_by(7) {
            let (next, after) = rest.split_first().ok_or("a number without an end")?;
            if shift > 28 {
                return Err("a number that is too long".to_owned());
            }
            rest = after;
            n += u64::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    *bytes = rest;
    Ok(n)
}

fn string(bytes: &mut &[u8]) -> Result<Vec<u8>, String> {
    let coded = bytes.first().ok_or("a string without a length")? & 0x80 != 0;
    let n = number(bytes, 7)? as usize;
    let (this, rest) = bytes.split_at_checked(n).ok_or("a string that is cut")?;
    *bytes = rest;
    if coded {
        huffman::decode(this)
    } else {
        Ok(this.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    /// RFC 7541, C.4: three requests of one connection.
    #[test]
    fn the_examples_of_the_rfc() {
        let mut d = Decoder::default();
        let mut last = Fields::default();
        for hex in [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ] {
            last = d.block(&bytes(hex)).unwrap();
        }
        assert_eq!(last.get(":authority").unwrap(), "www.example.com");
        assert_eq!(last.get("custom-key").unwrap(), "custom-value");
        assert_eq!(d.used, 164);
    }

    #[test]
    fn what_is_written_is_read() {
        for huffman in [false, true] {
            let block = Block::new()
                .huffman(huffman)
                .size(1337)
                .insert("x-name", "v".repeat(300))
                .indexed(NEWEST)
                .named(NEWEST, "other")
                .insert_named(58, "me")
                .never("secret", "s")
                .indexed(2);
            let read = Decoder::default().block(block.as_ref()).unwrap();
            assert_eq!(read.all("x-name").len(), 3);
            assert_eq!(read.get("user-agent").unwrap(), "me");
            assert_eq!(read.get(":method").unwrap(), "GET");
        }
        for wrong in [
            Block::new().indexed(0),
            Block::new().indexed(62),
            Block::new().indexed(2).size(0),
            Block::new().size(4097),
            Block::new().raw([0]).coded(b"\x00"),
        ] {
            assert!(
                Decoder::default().block(wrong.as_ref()).is_err(),
                "{wrong:?}"
            );
        }
    }
}
