//! Names -> something: exact, then the longest wildcard.

use std::collections::HashMap;

/// A table from names and wildcards to `T`. A name is written as `a.example` or `*.example`.
#[derive(Debug, Clone)]
pub(crate) struct Names<T> {
    exact: HashMap<Box<str>, T>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        }
    }
}

impl<T> Names<T> {
    /// Puts what belongs to a name or wildcard; gives what was there.
    pub(crate) fn insert(&mut self, pattern: &str, value: T) -> Option<T> {
        let pattern = canonical(pattern);
        match pattern.strip_prefix("*.") {
            Some(suffix) => self.wildcard.insert(suffix.into(), value),
            None => self.exact.insert(pattern.into(), value),
        }
    }

    pub(crate) fn remove(&mut self, pattern: &str) -> Option<T> {
        let pattern = canonical(pattern);
        match pattern.strip_prefix("*.") {
            Some(suffix) => self.wildcard.remove(suffix),
            None => self.exact.remove(pattern.as_str()),
        }
    }

    /// Exact, or the longest wildcard, of however many labels. `name` is canonical.
    pub(crate) fn find(&self, name: &str) -> Option<&T> {
        if let Some(found) = self.exact.get(name) {
            return Some(found);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut rest = name;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(found) = self.wildcard.get(suffix) {
                return Some(found);
            }
            rest = suffix;
        }
        None
    }

    /// Exact, and nothing else.
    pub(crate) fn find_exact(&self, name: &str) -> Option<&T> {
        self.exact.get(name)
    }

    /// As a certificate's wildcard is meant: of one label (RFC 9525, section 6.3).
    pub(crate) fn find_one_label(&self, name: &str) -> Option<&T> {
        if let Some(found) = self.exact.get(name) {
            return Some(found);
        }
        let (label, suffix) = name.split_once('.')?;
        if label.is_empty() {
            return None;
        }
        self.wildcard.get(suffix)
    }

    pub(crate) fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    /// Everything, as it is written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, &T)> {
        let exact = self.exact.iter().map(|(n, v)| (n.to_string(), v));
        exact.chain(self.wildcard.iter().map(|(n, v)| (format!("*.{n}"), v)))
    }
}

/// Lower case, without the dot of the root.
pub(crate) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
