//! The PROXY protocol, versions 1 and 2: a strict parser without I/O, and an encoder.
//!
//! The header says who the client is, so it is believed only from configured peers; that decision is the caller's. What
//! is decided here is where the header ends, to the byte: whatever is left over is somebody's request.

mod encode;
mod v1;
mod v2;

use std::net::SocketAddr;
use std::ops::Range;

pub use encode::{encode_v1, encode_v1_unknown, encode_v2, encode_v2_local, encode_v2_unknown};

/// Longest version 1 header, CRLF included.
pub const V1_MAX: usize = 107;
/// Longest version 2 header that we take, fixed part included. The protocol allows 64 KiB; nobody needs it.
pub const V2_MAX: usize = v2::FIXED + 4096;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header: read on, at most to [`V2_MAX`] bytes.
    Incomplete,
    /// A header, and how many bytes it takes. The rest belongs to the connection.
    Header {
        /// What it says.
        header: Header,
        /// Bytes to consume.
        len: usize,
    },
    /// No header, or a broken one: close without an answer. The reason is for the log.
    Invalid(&'static str),
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// Who is connected to whom.
    pub addresses: Addresses,
    /// Where in the parsed bytes the extensions are (version 2); checked to be well-formed.
    tlvs: Range<usize>,
}

/// Who is connected to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// `UNKNOWN`, `LOCAL`, unspecified: the addresses of the socket hold.
    Socket,
    /// TCP; IPv4-mapped IPv6 addresses are folded to IPv4.
    Tcp {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// A unix socket on the sender's machine: a client without an address.
    Unix,
}

impl Header {
    /// The value of the first extension of this kind, in the `bytes` that were parsed. Kind 1 is the ALPN, 2 the name that
    /// the client asked for (SNI), 5 a unique id.
    pub fn tlv<'a>(&self, bytes: &'a [u8], kind: u8) -> Option<&'a [u8]> {
        let mut rest = bytes.get(self.tlvs.clone())?;
        while let Some((found, value, next)) = v2::split_tlv(rest) {
            if found == kind {
                return Some(value);
            }
            rest = next;
        }
        None
    }
}

/// Parses what a connection begins with. Give it all bytes from the first one on, each time.
pub fn parse(bytes: &[u8]) -> Parsed {
    if begins(bytes, v1::SIGNATURE) {
        v1::parse(bytes)
    } else if begins(bytes, &v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Parsed::Invalid("no PROXY header")
    }
}

/// Do the two agree as far as both go?
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let n = bytes.len().min(signature.len());
    bytes.get(..n) == signature.get(..n)
}

fn fold(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
