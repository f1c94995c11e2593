//! Version 1: one line of text.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Addresses, Header, Parsed, V1_MAX, fold};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let window = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
        return if window.len() == V1_MAX {
            Parsed::Invalid("the line is too long")
        } else {
            Parsed::Incomplete
        };
    };
    match window.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        // The CR is the last byte we have; if it is the last that may be, the LF would be too many.
        Some([b'\r']) if window.len() < V1_MAX => return Parsed::Incomplete,
        _ => return Parsed::Invalid("the line does not end in CRLF"),
    }
    let line = window
        .get(SIGNATURE.len()..end)
        .and_then(|line| std::str::from_utf8(line).ok());
    match line.map(addresses) {
        Some(Ok(addresses)) => Parsed::Header {
            header: Header {
                version: 1,
                addresses,
                tlvs: 0..0,
            },
            len: end + 2,
        },
        Some(Err(reason)) => Parsed::Invalid(reason),
        None => Parsed::Invalid("the line is not text"),
    }
}

fn addresses(line: &str) -> Result<Addresses, &'static str> {
    // Exactly one space between the parts: an empty part is an error further down.
    let mut parts = line.split(' ');
    match parts.next() {
        // What follows UNKNOWN is to be ignored.
        Some("UNKNOWN") => Ok(Addresses::Socket),
        Some("TCP4") => tcp::<Ipv4Addr>(parts),
        Some("TCP6") => tcp::<Ipv6Addr>(parts),
        _ => Err("the family is none of TCP4, TCP6, UNKNOWN"),
    }
}

fn tcp<'a, Ip: FromStr + Into<std::net::IpAddr>>(
    mut parts: impl Iterator<Item = &'a str>,
) -> Result<Addresses, &'static str> {
    let mut ip = || parts.next()?.parse::<Ip>().ok();
    let (source, destination) = ip().zip(ip()).ok_or("an address is not of the family")?;
    let mut port = || port(parts.next()?);
    let (from, to) = port()
        .zip(port())
        .ok_or("a port is not a number from 0 to 65535")?;
    if parts.next().is_some() {
        return Err("something follows the ports");
    }
    Ok(Addresses::Tcp {
        source: fold(SocketAddr::new(source.into(), from)),
        destination: fold(SocketAddr::new(destination.into(), to)),
    })
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
