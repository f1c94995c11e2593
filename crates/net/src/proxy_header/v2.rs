//! Version 2: binary, with extensions (TLVs).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Header, Parsed, V2_MAX, fold};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
pub(super) const FIXED: usize = 16;

pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;
pub(super) const UNSPECIFIED: u8 = 0x00;
pub(super) const TCP4: u8 = 0x11;
pub(super) const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
/// Two paths of 108 bytes.
const UNIX_LEN: usize = 216;

/// The extension with a CRC-32C of the whole header.
const TLV_CRC32C: u8 = 0x03;

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    // Each byte is judged as soon as it is here.
    match bytes.get(12) {
        Some(&(LOCAL | PROXY)) => {}
        Some(command) if command >> 4 != 2 => return Parsed::Invalid("the version is not 2"),
        Some(_) => return Parsed::Invalid("the command is neither LOCAL nor PROXY"),
        None => return Parsed::Incomplete,
    }
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Parsed::Incomplete;
    };
    let [.., command, family, high, low] = *fixed;
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > V2_MAX {
        return Parsed::Invalid("the header is longer than 4 KiB");
    }
    let Some(header) = bytes.get(..len) else {
        return Parsed::Incomplete;
    };
    match addresses(header, command, family) {
        Ok((addresses, tlvs_at)) => Parsed::Header {
            header: Header {
                version: 2,
                addresses,
                tlvs: tlvs_at..len,
            },
            len,
        },
        Err(reason) => Parsed::Invalid(reason),
    }
}

/// The addresses, and where the extensions begin.
fn addresses(header: &[u8], command: u8, family: u8) -> Result<(Addresses, usize), &'static str> {
    // A health check of the sender, or a client it knows nothing about: the block is skipped unread, as the protocol says.
    if command == LOCAL || family == UNSPECIFIED {
        return Ok((Addresses::Socket, header.len()));
    }
    let short = "the header is too short for its addresses";
    let block = header.get(FIXED..).unwrap_or_default();
    let (addresses, size) = match family {
        TCP4 => (tcp4(block).ok_or(short)?, 12),
        TCP6 => (tcp6(block).ok_or(short)?, 36),
        UNIX_STREAM if block.len() < UNIX_LEN => return Err(short),
        UNIX_STREAM => (Addresses::Unix, UNIX_LEN),
        0x12 | 0x22 | 0x32 => return Err("datagrams are announced on a stream"),
        _ => return Err("the address family is unknown"),
    };
    check_tlvs(header, FIXED + size)?;
    Ok((addresses, FIXED + size))
}

fn tcp4(block: &[u8]) -> Option<Addresses> {
    let (source, rest) = block.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    let (from, to) = ports(rest)?;
    Some(Addresses::Tcp {
        source: SocketAddr::new(Ipv4Addr::from(*source).into(), from),
        destination: SocketAddr::new(Ipv4Addr::from(*destination).into(), to),
    })
}

fn tcp6(block: &[u8]) -> Option<Addresses> {
    let (source, rest) = block.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (from, to) = ports(rest)?;
    Some(Addresses::Tcp {
        source: fold(SocketAddr::new(Ipv6Addr::from(*source).into(), from)),
        destination: fold(SocketAddr::new(Ipv6Addr::from(*destination).into(), to)),
    })
}

fn ports(rest: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *rest.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Kind, value and rest of the first extension; `None` at the end, or if it is longer than what is there.
pub(super) fn split_tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    Some((*kind, value, rest))
}

/// The extensions must fill what is left exactly, and a checksum among them must be right.
fn check_tlvs(header: &[u8], at: usize) -> Result<(), &'static str> {
    let mut rest = header.get(at..).unwrap_or_default();
    while !rest.is_empty() {
        let (kind, value, next) =
            split_tlv(rest).ok_or("an extension is longer than the header")?;
        if kind == TLV_CRC32C {
            let sum = value
                .try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| "the checksum has not four bytes")?;
            let value_at = header.len() - next.len() - value.len();
            if sum != crc32c_with_zeroes(header, value_at) {
                return Err("the checksum is wrong");
            }
        }
        rest = next;
    }
    Ok(())
}

/// CRC-32C of `header`, with zeroes in place of the four bytes at `zeroes`. Bit by bit: the header is short and rare.
fn crc32c_with_zeroes(header: &[u8], zeroes: usize) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for (at, byte) in header.iter().enumerate() {
        let byte = if (zeroes..zeroes + 4).contains(&at) {
            0
        } else {
            *byte
        };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
pub(super) fn checksum(header: &[u8], value_at: usize) -> u32 {
    crc32c_with_zeroes(header, value_at)
}
