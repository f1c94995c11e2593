//! HPACK (RFC 7541). The decoder has the dynamic table that the peer may count on; the encoder has none.

pub mod decode;
pub mod encode;
pub mod huffman;
pub mod table;

pub use decode::{Decoder, Fault, Line, Sink};
pub use table::Name;

/// Size of the decoder's dynamic table, as every peer assumes it before any SETTINGS (RFC 7541 4.2). We never say another.
pub const TABLE_SIZE: usize = 4096;

#[cfg(test)]
mod tests;
