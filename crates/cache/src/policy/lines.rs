//! A head that is being written: HTTP/1 lines and the index over them at once.

use narthex_message::{Field, FieldId, Head, Index, Span};

/// Bytes and index.
#[derive(Default)]
pub struct Lines {
    /// Status line and field lines so far.
    pub bytes: Vec<u8>,
    /// Over them.
    pub index: Index,
}

impl Lines {
    /// Begins a response.
    pub fn response(status: u16, reason: &[u8], room: usize) -> Self {
        let mut lines = Self {
            bytes: Vec::with_capacity(room),
            index: Index::default(),
        };
        lines.bytes.extend_from_slice(b"HTTP/1.1 ");
        decimal(&mut lines.bytes, u64::from(status));
        lines.bytes.push(b' ');
        let from = lines.bytes.len();
        lines.bytes.extend_from_slice(reason);
        lines.index.reason = Span::new(from, lines.bytes.len());
        lines.index.status = status;
        lines.bytes.extend_from_slice(b"\r\n");
        lines
    }

    /// Adds a line; its value's place.
    pub fn push(&mut self, id: FieldId, name: &[u8], value: &[u8]) -> Span {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let name = Span::new(from, self.bytes.len());
        self.bytes.extend_from_slice(b": ");
        let from = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let value = Span::new(from, self.bytes.len());
        self.bytes.extend_from_slice(b"\r\n");
        self.index.push(Field {
            id,
            sloppy: false,
            name,
            value,
            end: self.bytes.len() as u32,
        });
        value
    }

    /// To look at.
    pub fn head(&self) -> Head<'_> {
        Head::new(&self.bytes, &self.index)
    }
}

/// Appends a number.
pub fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (n % 10) as u8;
        n /= 10;
        used += 1;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// The first value of a field (any case) in a stored head, which has no index.
pub fn value_in<'a>(stored: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    stored.split(|b| *b == b'\n').skip(1).find_map(|line| {
        let (found, rest) = line.split_at_checked(name.len())?;
        if !found.eq_ignore_ascii_case(name) {
            return None;
        }
        Some(rest.strip_prefix(b":")?.trim_ascii())
    })
}
