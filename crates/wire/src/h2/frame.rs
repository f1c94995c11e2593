//! Frames (RFC 9113 4 and 6): headers read, whole frames written.

use super::conn::StreamId;
use super::error::ErrorCode;

/// Bytes of a frame's header.
pub const HEADER: usize = 9;
/// The largest payload that we take, and the smallest bound that a peer may have for ours (RFC 9113 6.5.2).
pub const MAX_PAYLOAD: usize = 16 << 10;
/// What a client sends before its first frame (RFC 9113 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The highest number of a stream, and the largest window.
pub const MAX_31: u32 = 0x7fff_ffff;

/// Types of frames.
#[allow(missing_docs)] // RFC 9113 6 and RFC 9218 7.1
pub mod kind {
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PRIORITY: u8 = 0x2;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PUSH_PROMISE: u8 = 0x5;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
    pub const CONTINUATION: u8 = 0x9;
    pub const PRIORITY_UPDATE: u8 = 0x10;
}

/// Flags of frames.
#[allow(missing_docs)] // RFC 9113 6
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings.
#[allow(missing_docs)] // RFC 9113 6.5.2, RFC 8441, RFC 9218
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    pub const ENABLE_PUSH: u16 = 0x2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
    pub const NO_RFC7540_PRIORITIES: u16 = 0x9;
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload.
    pub len: usize,
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream; 0 is the connection.
    pub stream: StreamId,
}

impl Header {
    /// Reads one. The reserved bit is ignored.
    #[inline]
    pub fn read(bytes: &[u8; HEADER]) -> Self {
        let [len @ .., _, _, _, _, _, _] = *bytes;
        let [_, _, _, kind, flags, stream @ ..] = *bytes;
        Self {
            len: u32::from_be_bytes([0, len[0], len[1], len[2]]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & MAX_31,
        }
    }

    /// As bytes.
    #[inline]
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let [_, len @ ..] = (self.len as u32).to_be_bytes();
        bytes[..3].copy_from_slice(&len);
        bytes[3] = self.kind;
        bytes[4] = self.flags;
        bytes[5..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }

    /// Has it this flag?
    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame. The payload is at most [`MAX_PAYLOAD`] bytes.
#[inline]
pub fn write(kind: u8, flags: u8, stream: StreamId, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEADER + payload.len());
    out.extend_from_slice(
        &Header {
            len: payload.len(),
            kind,
            flags,
            stream,
        }
        .bytes(),
    );
    out.extend_from_slice(payload);
}

/// SETTINGS.
pub fn settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let header = Header {
        len: settings.len() * 6,
        kind: kind::SETTINGS,
        flags: 0,
        stream: 0,
    };
    out.extend_from_slice(&header.bytes());
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// GOAWAY, without debug data.
pub fn goaway(last: StreamId, code: ErrorCode, out: &mut Vec<u8>) {
    let mut payload = [0; 8];
    let (a, b) = payload.split_at_mut(4);
    a.copy_from_slice(&last.to_be_bytes());
    b.copy_from_slice(&code.0.to_be_bytes());
    write(kind::GOAWAY, 0, 0, &payload, out);
}

/// A header block: HEADERS, and CONTINUATION if it is larger than a frame of the peer may be. `first`, if any, is put in front.
pub fn block(
    stream: StreamId,
    first: Option<u8>,
    block: &[u8],
    end: bool,
    max: usize,
    out: &mut Vec<u8>,
) {
    let end_stream = if end { flag::END_STREAM } else { 0 };
    let prefix = usize::from(first.is_some());
    let (now, mut rest) = block.split_at(block.len().min(max.saturating_sub(prefix)));
    let header = Header {
        len: now.len() + prefix,
        kind: kind::HEADERS,
        flags: end_stream
            | if rest.is_empty() {
                flag::END_HEADERS
            } else {
                0
            },
        stream,
    };
    out.reserve(HEADER + prefix + block.len());
    out.extend_from_slice(&header.bytes());
    out.extend(first);
    out.extend_from_slice(now);
    while !rest.is_empty() {
        let (now, after) = rest.split_at(rest.len().min(max.max(1)));
        rest = after;
        let flags = if rest.is_empty() {
            flag::END_HEADERS
        } else {
            0
        };
        write(kind::CONTINUATION, flags, stream, now, out);
    }
}

/// Four bytes as a number.
#[inline]
pub fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// What remains of a payload without its padding (RFC 9113 6.1); `None` if that is not smaller than the payload.
#[inline]
pub fn unpadded(header: Header, payload: &[u8]) -> Option<&[u8]> {
    if !header.has(flag::PADDED) {
        return Some(payload);
    }
    let (&pad, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(pad))?)
}
