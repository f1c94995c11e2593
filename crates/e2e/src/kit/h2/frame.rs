//! Frames, written and read byte by byte (RFC 9113, 4.1). Nothing here minds whether they make sense.

/// Kinds of frames (RFC 9113, 6; RFC 9218, 7).
pub mod kind {
    /// Body bytes.
    pub const DATA: u8 = 0;
    /// Begins a field block.
    pub const HEADERS: u8 = 1;
    /// RFC 7540's priority.
    pub const PRIORITY: u8 = 2;
    /// Ends one stream.
    pub const RST_STREAM: u8 = 3;
    /// Parameters.
    pub const SETTINGS: u8 = 4;
    /// A push.
    pub const PUSH_PROMISE: u8 = 5;
    /// Are you there?
    pub const PING: u8 = 6;
    /// The connection ends.
    pub const GOAWAY: u8 = 7;
    /// Credit.
    pub const WINDOW_UPDATE: u8 = 8;
    /// Goes on with a field block.
    pub const CONTINUATION: u8 = 9;
    /// RFC 9218's priority.
    pub const PRIORITY_UPDATE: u8 = 16;
}

/// Flags.
pub mod flag {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 1;
    /// Of DATA and HEADERS.
    pub const END_STREAM: u8 = 1;
    /// Of HEADERS, CONTINUATION and PUSH_PROMISE.
    pub const END_HEADERS: u8 = 4;
    /// Of DATA, HEADERS and PUSH_PROMISE.
    pub const PADDED: u8 = 8;
    /// Of HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// All 32 bits, with the reserved one.
    pub stream: u32,
    /// What follows the nine bytes.
    pub payload: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let name = names.get(usize::from(self.kind)).copied();
        let name = name.map_or_else(|| format!("kind {}", self.kind), str::to_owned);
        let cut = self.payload.get(..24).unwrap_or(&self.payload);
        write!(
            f,
            "{name} flags={:#x} stream={} {} bytes {}",
            self.flags,
            self.stream,
            self.payload.len(),
            cut.escape_ascii()
        )
    }
}

impl Frame {
    /// Any frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        Self {
            kind,
            flags,
            stream,
            payload,
        }
    }

    /// SETTINGS.
    pub fn settings(values: &[(u16, u32)]) -> Self {
        let pair = |(id, v): &(u16, u32)| [&id.to_be_bytes()[..], &v.to_be_bytes()].concat();
        Self::new(
            kind::SETTINGS,
            0,
            0,
            values.iter().flat_map(pair).collect::<Vec<u8>>(),
        )
    }
    /// The acknowledgement of SETTINGS.
    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, [])
    }
    /// PING.
    pub fn ping(what: [u8; 8]) -> Self {
        Self::new(kind::PING, 0, 0, what)
    }
    /// GOAWAY.
    pub fn goaway(last: u32, code: u32) -> Self {
        let both = [last.to_be_bytes(), code.to_be_bytes()].concat();
        Self::new(kind::GOAWAY, 0, 0, both)
    }
    /// WINDOW_UPDATE.
    pub fn window(stream: u32, more: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, more.to_be_bytes())
    }
    /// RST_STREAM.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }
    /// PRIORITY as RFC 7540 had it.
    pub fn priority(stream: u32, on: u32, weight: u8) -> Self {
        let payload = [&on.to_be_bytes()[..], &[weight]].concat();
        Self::new(kind::PRIORITY, 0, stream, payload)
    }
    /// PRIORITY_UPDATE.
    pub fn priority_update(stream: u32, value: &str) -> Self {
        let payload = [&stream.to_be_bytes()[..], value.as_bytes()].concat();
        Self::new(kind::PRIORITY_UPDATE, 0, 0, payload)
    }
    /// A whole block in one HEADERS.
    pub fn headers(stream: u32, block: impl AsRef<[u8]>, end: bool) -> Self {
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        Self::new(kind::HEADERS, flags, stream, block.as_ref())
    }
    /// HEADERS without END_HEADERS: CONTINUATION follows.
    pub fn headers_begin(stream: u32, block: impl AsRef<[u8]>, end: bool) -> Self {
        let flags = if end { flag::END_STREAM } else { 0 };
        Self::new(kind::HEADERS, flags, stream, block.as_ref())
    }
    /// CONTINUATION, the last one or not.
    pub fn continuation(stream: u32, block: impl AsRef<[u8]>, last: bool) -> Self {
        let flags = if last { flag::END_HEADERS } else { 0 };
        Self::new(kind::CONTINUATION, flags, stream, block.as_ref())
    }
    /// DATA.
    pub fn data(stream: u32, bytes: impl AsRef<[u8]>, end: bool) -> Self {
        let flags = if end { flag::END_STREAM } else { 0 };
        Self::new(kind::DATA, flags, stream, bytes.as_ref())
    }
    /// PUSH_PROMISE.
    pub fn push_promise(stream: u32, promised: u32, block: impl AsRef<[u8]>) -> Self {
        let payload = [&promised.to_be_bytes()[..], block.as_ref()].concat();
        Self::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, payload)
    }

    /// A block in pieces of `piece` bytes: HEADERS and as many CONTINUATION as it takes.
    pub fn header_pieces(stream: u32, block: &[u8], end: bool, piece: usize) -> Vec<Self> {
        let mut parts = block.chunks(piece.max(1)).peekable();
        let first = parts.next().unwrap_or_default();
        let mut all = vec![match parts.peek() {
            None => Self::headers(stream, first, end),
            Some(_) => Self::headers_begin(stream, first, end),
        }];
        while let Some(part) = parts.next() {
            all.push(Self::continuation(stream, part, parts.peek().is_none()));
        }
        all
    }

    /// With so many bytes of padding, announced as they are.
    pub fn padded(self, n: u8) -> Self {
        self.padded_saying(n, n)
    }
    /// With so many bytes of padding, and another number announced.
    pub fn padded_saying(mut self, n: u8, said: u8) -> Self {
        self.flags |= flag::PADDED;
        self.payload.insert(0, said);
        self.payload.resize(self.payload.len() + usize::from(n), 0);
        self
    }
    /// HEADERS with RFC 7540's five bytes of priority.
    pub fn with_priority(mut self, on: u32, weight: u8) -> Self {
        self.flags |= flag::PRIORITY;
        self.payload
            .splice(0..0, on.to_be_bytes().into_iter().chain([weight]));
        self
    }
    /// With these flags besides.
    pub fn flags(mut self, more: u8) -> Self {
        self.flags |= more;
        self
    }
    /// Without these flags.
    pub fn without(mut self, flags: u8) -> Self {
        self.flags &= !flags;
        self
    }
    /// With another payload.
    pub fn payload(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.payload = bytes.into();
        self
    }

    /// As bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_saying(self.payload.len())
    }
    /// As bytes, with another length announced.
    pub fn bytes_saying(&self, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).expect("24 bits").to_be_bytes();
        let mut out = Vec::with_capacity(9 + self.payload.len());
        out.extend_from_slice(&length[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }

    /// Is this flag set?
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
    /// Big-endian 32 bits of the payload, 0 when they are not there.
    pub fn u32_at(&self, at: usize) -> u32 {
        let four = self.payload.get(at..at + 4);
        four.map_or(0, |b| u32::from_be_bytes(b.try_into().expect("four")))
    }
    /// The payload without padding and priority.
    pub fn content(&self) -> Result<&[u8], String> {
        let mut rest = self.payload.as_slice();
        if self.has(flag::PADDED) {
            let (n, after) = rest.split_first().ok_or("no length of padding")?;
            let kept = after.len().checked_sub(usize::from(*n));
            rest = &after[..kept.ok_or("more padding than payload")?];
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            rest = rest.get(5..).ok_or("no priority")?;
        }
        Ok(rest)
    }
    /// The pairs of SETTINGS.
    pub fn pairs(&self) -> Vec<(u16, u32)> {
        let pair = |c: &[u8]| {
            (
                u16::from_be_bytes([c[0], c[1]]),
                u32::from_be_bytes([c[2], c[3], c[4], c[5]]),
            )
        };
        self.payload.chunks_exact(6).map(pair).collect()
    }

    /// The first frame of these bytes and how many it took; `None` when it is not all there.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let head = bytes.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = bytes.get(9..9 + length)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((Self::new(head[3], head[4], stream, payload), 9 + length))
    }
}

/// Several frames as one run of bytes.
pub fn run<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Vec<u8> {
    frames.into_iter().flat_map(Frame::bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let f = Frame::data(7, b"hello", true).padded(3);
        let bytes = f.bytes();
        assert_eq!(
            bytes,
            b"\x00\x00\x09\x00\x09\x00\x00\x00\x07\x03hello\0\0\0"
        );
        assert!(Frame::parse(&bytes[..bytes.len() - 1]).is_none());
        let (read, n) = Frame::parse(&bytes).unwrap();
        assert_eq!((&read, n), (&f, bytes.len()));
        assert_eq!(read.content().unwrap(), b"hello");
        let pieces = Frame::header_pieces(1, b"abcde", false, 2);
        let parts: Vec<_> = pieces.iter().map(|p| (p.kind, p.flags)).collect();
        assert_eq!(parts, [(1, 0), (9, 0), (9, 4)]);
    }
}
