//! What a route's path captured: spans into the canonical path, kept inline.

/// Most captures of one route.
pub const MAX_CAPTURES: usize = 16;

/// One captured piece of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Index into the route's capture names.
    pub name: u16,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// What a route's path captured, at most [`MAX_CAPTURES`]. Still percent-encoded, as the path is.
#[derive(Clone, Copy, Default)]
pub struct Captures {
    len: u8,
    spans: [Span; MAX_CAPTURES],
}

impl Captures {
    /// The spans, in the order of the names (a group of a regular expression that took no part is left out).
    pub fn spans(&self) -> &[Span] {
        self.spans.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The text that the name with this index captured in `path`.
    pub fn text<'p>(&self, path: &'p str, name: usize) -> Option<&'p str> {
        let span = self.spans().iter().find(|s| usize::from(s.name) == name)?;
        path.get(span.start as usize..span.end as usize)
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// One more; beyond the bound it is dropped, which the build has excluded.
    pub(crate) fn push(&mut self, name: usize, start: usize, end: usize) {
        if let Some(slot) = self.spans.get_mut(usize::from(self.len)) {
            *slot = Span {
                name: name as u16,
                start: start as u32,
                end: end as u32,
            };
            self.len += 1;
        }
    }
}

impl std::fmt::Debug for Captures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.spans().fmt(f)
    }
}

impl PartialEq for Captures {
    fn eq(&self, other: &Self) -> bool {
        self.spans() == other.spans()
    }
}

impl Eq for Captures {}
