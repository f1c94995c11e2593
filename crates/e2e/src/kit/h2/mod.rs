//! HTTP/2 from outside: frames byte by byte ([`frame`]), HPACK as it should and as it should not be written ([`hpack`],
//! [`huffman`]), a peer of either role that keeps a strict account of what the other side does ([`peer`]), an origin made of
//! it ([`origin`]), plain or over TLS ([`link`]).
//!
//! Written from RFC 9113, 7541, 8441 and 9218 alone. It knows nothing of the product's codec, and was held to nghttp2, curl
//! and the `h2` crate before the product spoke HTTP/2 (`tests/kit_h2.rs`).

pub mod cost;
pub mod frame;
pub mod hpack;
pub mod huffman;
pub mod link;
pub mod origin;
pub mod peer;
pub mod tools;

pub use frame::Frame;
pub use hpack::Block;
pub use origin::H2Origin;
pub use peer::{Got, Peer};

/// What a client says first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Error codes (RFC 9113, 7).
pub mod code {
    /// Graceful.
    pub const NO_ERROR: u32 = 0;
    /// A rule was broken.
    pub const PROTOCOL: u32 = 1;
    /// Our own fault.
    pub const INTERNAL: u32 = 2;
    /// A window was overrun or overflowed.
    pub const FLOW_CONTROL: u32 = 3;
    /// SETTINGS were not acknowledged.
    pub const SETTINGS_TIMEOUT: u32 = 4;
    /// A frame for a stream that is closed.
    pub const STREAM_CLOSED: u32 = 5;
    /// A frame of a size that it must not have.
    pub const FRAME_SIZE: u32 = 6;
    /// Not processed; may be sent again.
    pub const REFUSED_STREAM: u32 = 7;
    /// No longer wanted.
    pub const CANCEL: u32 = 8;
    /// HPACK state is lost.
    pub const COMPRESSION: u32 = 9;
    /// A CONNECT's connection failed.
    pub const CONNECT: u32 = 10;
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
    /// Use HTTP/1.1.
    pub const HTTP_1_1_REQUIRED: u32 = 13;
}

/// Settings (RFC 9113, 6.5.2; RFC 8441, 3; RFC 9218, 2.1).
pub mod setting {
    /// HPACK table of the sender of this setting.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// May the server push?
    pub const ENABLE_PUSH: u16 = 2;
    /// Streams that the peer may have open.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// Window of new streams.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// Largest payload.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// Largest list of fields.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// Extended CONNECT is understood.
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
    /// RFC 7540's priorities are not used.
    pub const NO_RFC7540_PRIORITIES: u16 = 9;
}
