//! Writing headers, for upstreams that want them.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::v2;

/// Appends a version 1 header for a TCP client. Addresses of different families are both written as IPv6.
pub fn encode_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (from, to) = (source.port(), destination.port());
    // Writing to a vector cannot fail.
    let _ = match same_family(source.ip(), destination.ip()) {
        Pair::V4(s, d) => write!(out, "PROXY TCP4 {s} {d} {from} {to}\r\n"),
        Pair::V6(s, d) => write!(out, "PROXY TCP6 {s} {d} {from} {to}\r\n"),
    };
}

/// Appends a version 1 header for a client without a TCP address.
pub fn encode_v1_unknown(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PROXY UNKNOWN\r\n");
}

/// Appends a version 2 header for a TCP client. Addresses of different families are both written as IPv6.
pub fn encode_v2(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    match same_family(source.ip(), destination.ip()) {
        Pair::V4(s, d) => {
            begin(v2::PROXY, v2::TCP4, 12, out);
            out.extend_from_slice(&s.octets());
            out.extend_from_slice(&d.octets());
        }
        Pair::V6(s, d) => {
            begin(v2::PROXY, v2::TCP6, 36, out);
            out.extend_from_slice(&s.octets());
            out.extend_from_slice(&d.octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Appends a version 2 header for a client without a TCP address.
pub fn encode_v2_unknown(out: &mut Vec<u8>) {
    begin(v2::PROXY, v2::UNSPECIFIED, 0, out);
}

/// Appends a version 2 header for a connection of our own, such as a health check.
pub fn encode_v2_local(out: &mut Vec<u8>) {
    begin(v2::LOCAL, v2::UNSPECIFIED, 0, out);
}

fn begin(command: u8, family: u8, len: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&v2::SIGNATURE);
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&len.to_be_bytes());
}

enum Pair {
    V4(std::net::Ipv4Addr, std::net::Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

fn same_family(source: IpAddr, destination: IpAddr) -> Pair {
    match (source.to_canonical(), destination.to_canonical()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => Pair::V4(s, d),
        (s, d) => Pair::V6(as_v6(s), as_v6(d)),
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}
