//! The static table (RFC 7541 appendix A) and the decoder's dynamic one. Both remember what a name means, so that a field that
//! comes by its index is not looked at again.

use super::TABLE_SIZE;
use narthex_message::FieldId;
use narthex_message::edit::is_value_byte;
use narthex_message::validate::is_lower_token_byte;
use std::collections::VecDeque;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names themselves
pub enum Name {
    Authority,
    Method,
    Path,
    Scheme,
    Status,
    Protocol,
    /// Begins with a colon and is none of these.
    OtherPseudo,
    /// A regular one; `sloppy` as in [`narthex_message::Field`].
    Field {
        id: FieldId,
        sloppy: bool,
    },
    /// Empty, or with a byte that no name has in HTTP/2.
    Bad,
}

impl Name {
    /// Of these bytes.
    pub fn of(name: &[u8]) -> Self {
        match name {
            [b':', ..] => match name {
                b":authority" => Self::Authority,
                b":method" => Self::Method,
                b":path" => Self::Path,
                b":scheme" => Self::Scheme,
                b":status" => Self::Status,
                b":protocol" => Self::Protocol,
                _ => Self::OtherPseudo,
            },
            [] => Self::Bad,
            _ if name.iter().all(|&b| is_lower_token_byte(b)) => Self::Field {
                id: FieldId::of(name),
                sloppy: name.iter().any(|&b| b == b'_' || b == b'.'),
            },
            _ => Self::Bad,
        }
    }
}

/// May this be a field's value (RFC 9113 8.2.1)? No CR, LF, NUL or other control but HTAB, and no white space around it.
#[inline]
pub fn is_clean(value: &[u8]) -> bool {
    let white = |b: &u8| matches!(b, b' ' | b'\t');
    value.iter().all(|&b| is_value_byte(b))
        && !value.first().is_some_and(white)
        && !value.last().is_some_and(white)
}

/// An entry: the line `name: value CRLF` with what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Known<'t> {
    /// What the name is.
    pub name: Name,
    /// The value may be one.
    pub clean: bool,
    /// The whole line.
    pub line: &'t [u8],
    /// Length of its name.
    pub name_len: usize,
}

/// An entry of the static table.
struct Static {
    line: &'static [u8],
    name_len: usize,
    name: Name,
}

macro_rules! statics {
    ($($kind:tt $name:literal $value:literal)*) => {
        [$(Static {
            line: concat!($name, ": ", $value, "\r\n").as_bytes(),
            name_len: $name.len(),
            name: statics!(@ $kind),
        }),*]
    };
    (@ [$id:ident]) => { Name::Field { id: FieldId::$id, sloppy: false } };
    (@ ($pseudo:ident)) => { Name::$pseudo };
}

#[rustfmt::skip]
static STATIC: [Static; 61] = statics! {
    (Authority) ":authority" ""
    (Method) ":method" "GET"
    (Method) ":method" "POST"
    (Path) ":path" "/"
    (Path) ":path" "/index.html"
    (Scheme) ":scheme" "http"
    (Scheme) ":scheme" "https"
    (Status) ":status" "200"
    (Status) ":status" "204"
    (Status) ":status" "206"
    (Status) ":status" "304"
    (Status) ":status" "400"
    (Status) ":status" "404"
    (Status) ":status" "500"
    [Other] "accept-charset" ""
    [AcceptEncoding] "accept-encoding" "gzip, deflate"
    [Other] "accept-language" ""
    [Other] "accept-ranges" ""
    [Accept] "accept" ""
    [Other] "access-control-allow-origin" ""
    [Age] "age" ""
    [Other] "allow" ""
    [Authorization] "authorization" ""
    [CacheControl] "cache-control" ""
    [Other] "content-disposition" ""
    [ContentEncoding] "content-encoding" ""
    [Other] "content-language" ""
    [ContentLength] "content-length" ""
    [ContentLocation] "content-location" ""
    [ContentRange] "content-range" ""
    [ContentType] "content-type" ""
    [Cookie] "cookie" ""
    [Date] "date" ""
    [ETag] "etag" ""
    [Expect] "expect" ""
    [Expires] "expires" ""
    [Other] "from" ""
    [Host] "host" ""
    [IfMatch] "if-match" ""
    [IfModifiedSince] "if-modified-since" ""
    [IfNoneMatch] "if-none-match" ""
    [IfRange] "if-range" ""
    [IfUnmodifiedSince] "if-unmodified-since" ""
    [LastModified] "last-modified" ""
    [Other] "link" ""
    [Location] "location" ""
    [Other] "max-forwards" ""
    [ProxyAuthenticate] "proxy-authenticate" ""
    [ProxyAuthorization] "proxy-authorization" ""
    [Range] "range" ""
    [Referer] "referer" ""
    [Refresh] "refresh" ""
    [RetryAfter] "retry-after" ""
    [Server] "server" ""
    [SetCookie] "set-cookie" ""
    [Other] "strict-transport-security" ""
    [TransferEncoding] "transfer-encoding" ""
    [UserAgent] "user-agent" ""
    [Vary] "vary" ""
    [Via] "via" ""
    [WwwAuthenticate] "www-authenticate" ""
};

/// An entry of the dynamic table; its line is in the table's bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u32,
    name_len: u16,
    line_len: u16,
    name: Name,
    clean: bool,
}

impl Entry {
    /// RFC 7541 4.1: 32 beside name and value, of which the line's colon, space and end have four.
    fn size(&self) -> usize {
        usize::from(self.line_len) + 28
    }
}

/// The dynamic table. No memory before its first entry.
#[derive(Debug, Default)]
pub struct Table {
    /// Lines, the oldest first.
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    /// At most this size, which the peer's encoder has chosen.
    max: usize,
}

impl Table {
    /// Empty, of the default size.
    pub fn new() -> Self {
        Self {
            max: TABLE_SIZE,
            ..Self::default()
        }
    }

    /// The entry of an index from the wire: 1 to 61 static, then dynamic, the newest first.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Known<'_>> {
        let index = index.checked_sub(1)?;
        if let Some(known) = STATIC.get(index) {
            return Some(Known {
                name: known.name,
                clean: true,
                line: known.line,
                name_len: known.name_len,
            });
        }
        let back = index.checked_sub(STATIC.len())?.checked_add(1)?;
        let entry = self.entries.get(self.entries.len().checked_sub(back)?)?;
        let at = entry.at as usize;
        Some(Known {
            name: entry.name,
            clean: entry.clean,
            line: self.bytes.get(at..at + usize::from(entry.line_len))?,
            name_len: usize::from(entry.name_len),
        })
    }

    /// A size update; false if it is more than we allow.
    pub fn resize(&mut self, max: usize) -> bool {
        if max > TABLE_SIZE {
            return false;
        }
        self.max = max;
        self.evict(0);
        true
    }

    /// Size by RFC 7541 4.1.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Makes room for `needed`.
    fn evict(&mut self, needed: usize) {
        while self.size + needed > self.max {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.size -= oldest.size();
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    /// Inserts a line. One that is larger than the table empties it (RFC 7541 4.4).
    pub fn insert(&mut self, known: Known<'_>) {
        let needed = known.line.len() + 28;
        self.evict(needed);
        if needed > self.max {
            return;
        }
        if self.bytes.len() + known.line.len() > 2 * TABLE_SIZE {
            self.compact();
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(known.line);
        // Lengths are below the table's size.
        self.entries.push_back(Entry {
            at,
            name_len: known.name_len as u16,
            line_len: known.line.len() as u16,
            name: known.name,
            clean: known.clean,
        });
        self.size += needed;
    }

    /// Moves the lines that are still there to the front.
    fn compact(&mut self) {
        let gone = self.entries.front().map_or(0, |e| e.at);
        self.bytes.drain(..(gone as usize).min(self.bytes.len()));
        for entry in &mut self.entries {
            entry.at -= gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(line: &[u8]) -> Known<'_> {
        let name_len = line.iter().position(|&b| b == b':').unwrap();
        Known {
            name: Name::of(&line[..name_len]),
            clean: true,
            line,
            name_len,
        }
    }

    #[test]
    fn what_the_static_table_says_of_a_name_is_so() {
        for (i, entry) in STATIC.iter().enumerate() {
            let name = &entry.line[..entry.name_len];
            assert_eq!(Name::of(name), entry.name, "{}", i + 1);
        }
    }

    #[test]
    fn the_oldest_go_and_memory_stays_bounded() {
        let mut table = Table::new();
        for i in 0..100_000u32 {
            let line = format!("x-{i}: {}\r\n", "v".repeat(i as usize % 300));
            table.insert(known(line.as_bytes()));
            assert!(table.size() <= TABLE_SIZE);
            assert_eq!(table.get(62).unwrap().line, line.as_bytes());
            assert!(table.bytes.len() <= 2 * TABLE_SIZE && table.entries.len() <= TABLE_SIZE / 32);
        }
        assert!(table.resize(0));
        assert!(table.get(62).is_none() && table.size() == 0);
        assert!(!table.resize(TABLE_SIZE + 1));
    }

    #[test]
    fn an_entry_of_the_whole_table_and_one_byte_more() {
        let mut table = Table::new();
        table.insert(known(
            format!("a: {}\r\n", "v".repeat(TABLE_SIZE - 33)).as_bytes(),
        ));
        assert_eq!(table.size(), TABLE_SIZE);
        table.insert(known(
            format!("a: {}\r\n", "v".repeat(TABLE_SIZE - 32)).as_bytes(),
        ));
        assert_eq!(table.size(), 0);
        assert!(
            table.get(62).is_none() && table.get(0).is_none() && table.get(usize::MAX).is_none()
        );
    }
}
