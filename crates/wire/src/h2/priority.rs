//! RFC 9218: how urgent a stream is, and whether it shares with others as urgent.

/// Of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority {
    /// 0 is the most urgent, 7 the least.
    pub urgency: u8,
    /// Useful in parts: shares with others of its urgency.
    pub incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self {
            urgency: 3,
            incremental: false,
        }
    }
}

impl Priority {
    /// A `Priority` field's value, over what holds so far. What is not understood changes nothing (RFC 9218 4).
    #[must_use]
    pub fn updated(mut self, value: &[u8]) -> Self {
        for item in value.split(|&b| b == b',').take(16) {
            match item.trim_ascii() {
                [b'u', b'=', u @ b'0'..=b'7'] => self.urgency = u - b'0',
                b"i" | b"i=?1" => self.incremental = true,
                b"i=?0" => self.incremental = false,
                _ => {}
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        for (value, urgency, incremental) in [
            ("", 3, false),
            ("u=0", 0, false),
            ("u=7, i", 7, true),
            ("i=?1,u=1", 1, true),
            ("i, i=?0", 3, false),
            ("u=8", 3, false),
            ("u=-1, i=1", 3, false),
            ("u=2;x, i;y", 3, false),
            ("\"u=1\"", 3, false),
        ] {
            let p = Priority::default().updated(value.as_bytes());
            assert_eq!(
                (p.urgency, p.incremental),
                (urgency, incremental),
                "{value}"
            );
        }
    }
}
