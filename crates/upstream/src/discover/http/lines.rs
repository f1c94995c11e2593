//! Lines, out of pieces that end anywhere: pure.

/// Collects pieces and gives lines.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// No line ends between there and here.
    searched: usize,
    longest: usize,
}

impl LineBuffer {
    /// A line has at most `longest` bytes.
    pub(crate) fn new(longest: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            searched: 0,
            longest,
        }
    }

    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole line that says something, without its end.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            let rest = self.bytes.get(self.searched..).unwrap_or_default();
            let end = rest.iter().position(|b| *b == b'\n');
            let line = self.start..end.map_or(self.bytes.len(), |at| self.searched + at);
            if line.len() > self.longest {
                return Err(format!("a line has more than {} KiB", self.longest >> 10));
            }
            self.searched = line.end;
            if end.is_none() {
                return Ok(None);
            }
            self.searched += 1;
            self.start = self.searched;
            let line = self.bytes.get(line).unwrap_or_default().trim_ascii_end();
            if !line.is_empty() {
                return Ok(Some(line.to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Wherever the pieces end, the lines are the same.
        #[test]
        fn pieces_do_not_matter(text in "[ab\r\n]{0,60}", cuts in proptest::collection::vec(0..60_usize, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let mut buffer = LineBuffer::new(100);
            let mut lines = Vec::new();
            for pair in cuts.windows(2) {
                buffer.push(&text.as_bytes()[pair[0]..pair[1]]);
                while let Some(line) = buffer.next().unwrap() {
                    lines.push(String::from_utf8(line).unwrap());
                }
            }
            let ended = text.rsplit_once('\n').map_or("", |(ended, _)| ended);
            let wanted: Vec<&str> = ended.split('\n').map(str::trim_end).filter(|l| !l.is_empty()).collect();
            prop_assert_eq!(lines, wanted);
        }
    }

    #[test]
    fn a_line_is_bounded_with_and_without_its_end() {
        for text in ["abcde\n", "abcde"] {
            let mut buffer = LineBuffer::new(4);
            buffer.push(text.as_bytes());
            assert!(buffer.next().is_err(), "{text:?}");
        }
        let mut buffer = LineBuffer::new(4);
        buffer.push(b"abcd\nab");
        assert_eq!(buffer.next().unwrap().unwrap(), b"abcd");
        assert_eq!(buffer.next().unwrap(), None);
    }
}
