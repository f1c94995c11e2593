//! A head: its bytes and an index over them. No map, no copy; the same form for every protocol version.

use crate::field::{FieldId, FieldSet};

/// A byte range inside a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// From offsets; heads are far below 4 GiB.
    #[inline]
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The bytes; empty if the range does not lie in them.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Is it empty?
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One field line: `name: value CRLF`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Known name, or other.
    pub id: FieldId,
    /// The name has `_`, or another character (`.`) that sloppy readers fold into `-`.
    pub sloppy: bool,
    /// Name.
    pub name: Span,
    /// Value without surrounding white space.
    pub value: Span,
    /// One past the line's CRLF: lines are contiguous, so that runs of them can be copied.
    pub end: u32,
}

/// HTTP version of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2: decoded by HPACK into the form of HTTP/1's lines.
    Http2,
}

/// The index over a head's bytes. Reused from message to message.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Request method (bytes); empty in a response.
    pub method: Span,
    /// Request target as sent; empty in a response.
    pub target: Span,
    /// Status of a response; 0 in a request.
    pub status: u16,
    /// Reason phrase of a response.
    pub reason: Span,
    /// Version.
    pub version: Version,
    /// Field lines in order.
    pub fields: Vec<Field>,
    /// Known fields that occur.
    pub present: FieldSet,
    /// Known fields that occur more than once.
    pub repeated: FieldSet,
    /// Some field is [`Field::sloppy`].
    pub any_sloppy: bool,
    /// Bytes of the head, final CRLF included; where scanning goes on while it is incomplete.
    pub scanned: usize,
    /// The start line has been scanned.
    pub started: bool,
    /// `:scheme` of an HTTP/2 request: `http` or `https`.
    pub scheme: Span,
    /// `:protocol` of an extended CONNECT (RFC 8441), else empty. The method is then `GET`: what it asks for is what HTTP/1.1
    /// asks for with `GET` and `Upgrade`.
    pub protocol: Span,
    /// HTTP/2: the message ended with this head (END_STREAM).
    pub ended: bool,
}

impl Index {
    /// Forgets the message, keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }

    /// Records a field line.
    #[inline]
    pub fn push(&mut self, field: Field) {
        self.repeated = self.repeated.union(self.present.only(field.id));
        self.present.insert(field.id);
        self.any_sloppy |= field.sloppy;
        self.fields.push(field);
    }
}

/// A head: bytes and index together, to look at.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// At least the head's bytes.
    pub bytes: &'a [u8],
    /// The index over them.
    pub index: &'a Index,
}

impl<'a> Head<'a> {
    /// Together.
    #[inline]
    pub fn new(bytes: &'a [u8], index: &'a Index) -> Self {
        Self { bytes, index }
    }

    /// Method.
    #[inline]
    pub fn method(&self) -> &'a [u8] {
        self.index.method.of(self.bytes)
    }

    /// Target as sent.
    #[inline]
    pub fn target(&self) -> &'a [u8] {
        self.index.target.of(self.bytes)
    }

    /// First value of a known field.
    #[inline]
    pub fn get(&self, id: FieldId) -> Option<&'a [u8]> {
        if self.index.present.has(id) {
            self.all(id).next()
        } else {
            None
        }
    }

    /// Every value of a known field, in order.
    #[inline]
    pub fn all(&self, id: FieldId) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, fields): (&'a [u8], &'a [Field]) = (
            self.bytes,
            if self.index.present.has(id) {
                &self.index.fields
            } else {
                &[]
            },
        );
        fields
            .iter()
            .filter(move |f| f.id == id)
            .map(move |f| f.value.of(bytes))
    }

    /// Every value of a field by name, in any case.
    pub fn named<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let bytes = self.bytes;
        self.index
            .fields
            .iter()
            .filter(move |f| f.name.of(bytes).eq_ignore_ascii_case(name))
            .map(move |f| f.value.of(bytes))
    }

    /// As [`Head::named`], if the id of the name is known already.
    #[inline]
    pub fn named_as<'n>(
        &self,
        id: FieldId,
        name: &'n [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let bytes = self.bytes;
        self.index
            .fields
            .iter()
            .filter(move |f| f.id == id)
            .filter(move |f| id != FieldId::Other || f.name.of(bytes).eq_ignore_ascii_case(name))
            .map(move |f| f.value.of(bytes))
    }

    /// Name and value of every field line.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, &'a [u8], &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        self.index
            .fields
            .iter()
            .map(move |f| (f.id, f.name.of(bytes), f.value.of(bytes)))
    }
}
