//! Edits: what filters do to a head. Recorded, read back by later filters, applied once by the writer.

use crate::field::{FieldId, FieldSet};
use crate::head::{Field, Head, Span};

/// A list of edits over a head. Reused from message to message.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// Known fields of the original that are removed.
    removed: FieldSet,
    /// Other fields of the original that are removed: names, in `bytes`.
    removed_names: Vec<Span>,
    /// Lines to append, each `Name: value CRLF` in `bytes`.
    lines: Vec<Field>,
    bytes: Vec<u8>,
}

impl Edits {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.removed = FieldSet::EMPTY;
        self.removed_names.clear();
        self.lines.clear();
        self.bytes.clear();
    }

    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.removed == FieldSet::EMPTY && self.removed_names.is_empty() && self.lines.is_empty()
    }

    /// Removes every line of this name, those added before included.
    pub fn remove(&mut self, name: &str) {
        let id = FieldId::of(name.as_bytes());
        let bytes = &self.bytes;
        self.lines
            .retain(|l| !l.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
        if id == FieldId::Other {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(name.as_bytes());
            self.removed_names.push(Span::new(start, self.bytes.len()));
        } else {
            self.removed.insert(id);
        }
    }

    /// Replaces every line of this name by one.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// Adds a line. A value with a byte that no field value may have is left out: it never reaches the wire. True if added.
    pub fn add(&mut self, name: &str, value: &[u8]) -> bool {
        if !value.iter().all(|&b| is_value_byte(b)) {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(b": ");
        let value_start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let value_end = self.bytes.len();
        self.bytes.extend_from_slice(b"\r\n");
        self.lines.push(Field {
            id: FieldId::of(name.as_bytes()),
            sloppy: false,
            name: Span::new(start, name_end),
            value: Span::new(value_start, value_end),
            end: self.bytes.len() as u32,
        });
        true
    }

    /// Is this line of the original removed?
    #[inline]
    pub fn removes(&self, id: FieldId, name: &[u8]) -> bool {
        if id != FieldId::Other {
            return self.removed.has(id);
        }
        self.removed_names
            .iter()
            .any(|n| n.of(&self.bytes).eq_ignore_ascii_case(name))
    }

    /// Would a sloppy server take this name for one that is removed or set here? `_` and `.` read as `-`.
    pub fn resembles_removed(&self, name: &[u8]) -> bool {
        let fold = |b: u8| {
            if matches!(b, b'_' | b'.') {
                b'-'
            } else {
                b.to_ascii_lowercase()
            }
        };
        let same = |other: &[u8]| {
            other.len() == name.len() && other.iter().zip(name).all(|(&a, &b)| fold(a) == fold(b))
        };
        self.removed.has(FieldId::resembling(name))
            || self.removed_names.iter().any(|n| same(n.of(&self.bytes)))
    }

    /// Known fields of the original that are removed.
    pub fn removed(&self) -> FieldSet {
        self.removed
    }

    /// Does it remove names that are not known?
    pub fn removes_others(&self) -> bool {
        !self.removed_names.is_empty()
    }

    /// The lines to append, `Name: value CRLF` each.
    pub fn lines(&self) -> impl Iterator<Item = (FieldId, &[u8])> {
        self.lines.iter().map(|l| {
            (
                l.id,
                Span {
                    start: l.name.start,
                    end: l.end,
                }
                .of(&self.bytes),
            )
        })
    }

    /// First value of `name` as later filters see it: added lines win over the original.
    pub fn get<'a>(&'a self, head: Head<'a>, name: &[u8]) -> Option<&'a [u8]> {
        if let Some(line) = self
            .lines
            .iter()
            .find(|l| l.name.of(&self.bytes).eq_ignore_ascii_case(name))
        {
            return Some(line.value.of(&self.bytes));
        }
        if self.removes(FieldId::of(name), name) {
            None
        } else {
            head.named(name).next()
        }
    }
}

/// May this byte stand in a field value (RFC 9110 5.5: VCHAR, SP, HTAB, obs-text)?
#[inline]
pub const fn is_value_byte(b: u8) -> bool {
    (b >= 0x20 && b != 0x7f) || b == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Index;

    #[test]
    fn later_filters_see_earlier_edits() {
        let index = Index::default();
        let head = Head::new(b"", &index);
        let mut edits = Edits::default();
        assert!(edits.is_empty());
        edits.set("X-A", b"1");
        edits.add("X-A", b"2");
        assert_eq!(edits.get(head, b"x-a"), Some(&b"1"[..]));
        edits.set("x-a", b"3");
        assert_eq!(
            edits.lines().map(|(_, l)| l).collect::<Vec<_>>(),
            [b"x-a: 3\r\n"]
        );
        edits.remove("X-A");
        assert_eq!(edits.get(head, b"X-A"), None);
        assert!(edits.removes(FieldId::Other, b"x-A"));
    }

    #[test]
    fn a_value_that_would_split_a_message_is_left_out() {
        let mut edits = Edits::default();
        assert!(!edits.add("Location", b"/x\r\nSet-Cookie: a=b"));
        assert_eq!(edits.lines().count(), 0);
    }
}
