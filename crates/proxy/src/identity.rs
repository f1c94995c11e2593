//! Who the client is: the socket's peer, or what trusted proxies say of it. And what we tell the origin about it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use narthex_config::model::{ForwardedStyle, IpSet};
use narthex_message::validate::tokens;
use narthex_message::{FieldId, Head};
use narthex_net::accept::Peer;

/// Hops looked at in a chain; what is further left is not believed.
const MAX_HOPS: usize = 50;

/// The client of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    /// The client's address; `None` on a unix socket.
    pub(crate) ip: Option<IpAddr>,
    /// Its port, if the peer itself is the client.
    pub(crate) port: u16,
    /// The peer is a trusted proxy.
    pub(crate) trusted_peer: bool,
    /// The client came to the trusted proxy over TLS.
    pub(crate) https: bool,
}

/// The address of a peer.
pub(crate) fn peer_ip(peer: Peer) -> Option<IpAddr> {
    match peer {
        Peer::Tcp(a) => Some(a.ip()),
        Peer::Unix => None,
    }
}

/// Reads who the client is. A unix peer is local, and trusted only if loopback is.
#[inline]
pub(crate) fn identify(peer: Peer, trusted: &IpSet, head: Head<'_>) -> Identity {
    let (ip, port) = match peer {
        Peer::Tcp(a) => (Some(a.ip()), a.port()),
        Peer::Unix => (None, 0),
    };
    let trusted_peer =
        !trusted.is_empty() && trusted.contains(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    if !trusted_peer {
        return Identity {
            ip,
            port,
            trusted_peer,
            https: false,
        };
    }
    let https = head
        .all(FieldId::XForwardedProto)
        .last()
        .is_some_and(|v| v.eq_ignore_ascii_case(b"https"));
    let told = if head.index.present.has(FieldId::XForwardedFor) {
        walk(head, FieldId::XForwardedFor, trusted, parse_hop)
    } else {
        walk(head, FieldId::Forwarded, trusted, forwarded_for)
    };
    match told {
        Some(client) => Identity {
            ip: Some(client),
            port: 0,
            trusted_peer,
            https,
        },
        None => Identity {
            ip,
            port,
            trusted_peer,
            https,
        },
    }
}

/// From right to left, to the first address that is not trusted; a hop that is no address ends the walk.
fn walk(
    head: Head<'_>,
    id: FieldId,
    trusted: &IpSet,
    parse: impl Fn(&[u8]) -> Option<IpAddr>,
) -> Option<IpAddr> {
    let mut last = None;
    let mut left = MAX_HOPS;
    for field in head.index.fields.iter().rev().filter(|f| f.id == id) {
        for hop in field
            .value
            .of(head.bytes)
            .rsplit(|&b| b == b',')
            .map(<[u8]>::trim_ascii)
        {
            let ip = parse(hop)?.to_canonical();
            last = Some(ip);
            left -= 1;
            if !trusted.contains(ip) || left == 0 {
                return last;
            }
        }
    }
    last
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// The `for` of an RFC 7239 element.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    element
        .split(|&b| b == b';')
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| {
            let at = pair.iter().position(|&b| b == b'=')?;
            let (name, value) = pair.split_at(at);
            if !name.eq_ignore_ascii_case(b"for") {
                return None;
            }
            let value = value.get(1..)?;
            let value = value
                .strip_prefix(b"\"")
                .and_then(|v| v.strip_suffix(b"\""))
                .unwrap_or(value);
            parse_hop(value)
        })
}

/// Every octet in digits with a dot behind, and how many bytes that is.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut table = [([0; 4], 0); 256];
    let mut i = 0;
    while i < 256 {
        let n = i as u8;
        let (hundreds, tens, ones) = (b'0' + n / 100, b'0' + n / 10 % 10, b'0' + n % 10);
        table[i] = if n >= 100 {
            ([hundreds, tens, ones, b'.'], 4)
        } else if n >= 10 {
            ([tens, ones, b'.', 0], 3)
        } else {
            ([ones, b'.', 0, 0], 2)
        };
        i += 1;
    }
    table
}

/// Writes an address; IPv4 by hand, it is on every request.
pub(crate) fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => {
            let mut text = [0u8; 16];
            let mut at = 0;
            for octet in v4.octets() {
                let (digits, len) = OCTETS[usize::from(octet)];
                // The next octet overwrites what is too much of this one.
                if let Some(place) = text.get_mut(at..).and_then(|t| t.first_chunk_mut::<4>()) {
                    *place = digits;
                }
                at += usize::from(len);
            }
            out.extend_from_slice(text.get(..at.saturating_sub(1)).unwrap_or_default());
        }
        IpAddr::V6(v6) => {
            use std::io::Write;
            let _ = write!(out, "{v6}");
        }
    }
}

/// Writes the forwarding headers. A trusted peer's chain is continued from the client on; nothing to the left of it, and
/// nothing that an untrusted client said, is passed on.
#[inline(always)]
pub(crate) fn write_forwarding(
    style: ForwardedStyle,
    identity: &Identity,
    peer: Peer,
    authority: &[u8],
    head: Head<'_>,
    out: &mut Vec<u8>,
) {
    let proto: &[u8] = if identity.https { b"https" } else { b"http" };
    if matches!(style, ForwardedStyle::XForwarded | ForwardedStyle::Both) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        let chain = out.len();
        write_chain(identity, peer, head, out);
        let chain = chain..out.len();
        out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
        out.extend_from_slice(proto);
        // What a trusted peer said is passed on as it is; HTTP/1.0 may name no host.
        let told = identity.trusted_peer && head.index.present.has(FieldId::XForwardedHost);
        if !told && !authority.is_empty() {
            out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
            out.extend_from_slice(authority);
        }
        if let Some(ip) = identity.ip {
            out.extend_from_slice(b"\r\nX-Real-IP: ");
            if identity.trusted_peer {
                write_ip(ip, out)
            } else {
                out.extend_from_within(chain)
            }
        }
        out.extend_from_slice(b"\r\n");
    }
    if matches!(style, ForwardedStyle::Forwarded | ForwardedStyle::Both) {
        out.extend_from_slice(b"Forwarded: for=");
        match identity.ip {
            Some(IpAddr::V6(v6)) => {
                out.extend_from_slice(b"\"[");
                write_ip(IpAddr::V6(v6), out);
                out.extend_from_slice(b"]\"");
            }
            Some(ip) => write_ip(ip, out),
            None => out.extend_from_slice(b"unknown"),
        }
        if !authority.is_empty() {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(authority);
            out.push(b'"');
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(proto);
        out.extend_from_slice(b"\r\n");
    }
}

/// `client, proxy, proxy`: the believed part of the chain, the peer last.
#[inline]
fn write_chain(identity: &Identity, peer: Peer, head: Head<'_>, out: &mut Vec<u8>) {
    let peer = peer_ip(peer);
    if let (true, Some(client)) = (identity.trusted_peer, identity.ip)
        && peer != Some(client)
    {
        let hops: Vec<IpAddr> = head
            .all(FieldId::XForwardedFor)
            .flat_map(tokens)
            .map_while_last(MAX_HOPS)
            .into_iter()
            .filter_map(parse_hop)
            .collect();
        let from = hops
            .iter()
            .rposition(|ip| ip.to_canonical() == client)
            .unwrap_or(hops.len());
        if from == hops.len() {
            write_ip(client, out);
            out.extend_from_slice(b", ");
        }
        for ip in hops.get(from..).unwrap_or_default() {
            write_ip(ip.to_canonical(), out);
            out.extend_from_slice(b", ");
        }
    }
    match peer {
        Some(ip) => write_ip(ip, out),
        None => out.extend_from_slice(b"unix"),
    }
}

/// The last `n` items.
trait LastOf: Iterator + Sized {
    fn map_while_last(self, n: usize) -> Vec<Self::Item> {
        let mut kept = std::collections::VecDeque::with_capacity(n);
        for item in self {
            if kept.len() == n {
                kept.pop_front();
            }
            kept.push_back(item);
        }
        kept.into()
    }
}
impl<I: Iterator> LastOf for I {}

#[cfg(test)]
mod tests {
    use super::*;
    use narthex_message::Index;
    use narthex_wire::h1::scan::{self, HeadLimits};

    const LIMITS: HeadLimits = HeadLimits {
        line: 8192,
        field: 8192,
        head: 32768,
        fields: 100,
    };

    fn told(fields: &str, peer: &str) -> (Option<IpAddr>, String) {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut index = Index::default();
        scan::request(bytes.as_bytes(), &mut index, &LIMITS).unwrap();
        let head = Head::new(bytes.as_bytes(), &index);
        let trusted = IpSet(vec![
            "10.0.0.0/8".parse().unwrap(),
            "::1/128".parse().unwrap(),
        ]);
        let peer = Peer::Tcp(SocketAddr::new(peer.parse().unwrap(), 1234));
        let identity = identify(peer, &trusted, head);
        let mut out = Vec::new();
        write_chain(&identity, peer, head, &mut out);
        (identity.ip, String::from_utf8(out).unwrap())
    }

    #[test]
    fn addresses_are_written_as_the_library_writes_them() {
        for octet in 0..=255u8 {
            for ip in [
                Ipv4Addr::new(octet, 0, 0, 0),
                Ipv4Addr::new(0, octet, 255, 10),
                Ipv4Addr::new(255, 255, 255, octet),
            ] {
                let mut out = Vec::new();
                write_ip(ip.into(), &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), ip.to_string());
            }
        }
    }

    #[test]
    fn the_client_is_the_first_untrusted_from_the_right() {
        let ip = |s: &str| Some(s.parse::<IpAddr>().unwrap());
        for (fields, peer, client, chain) in [
            ("", "192.0.2.9", "192.0.2.9", "192.0.2.9"),
            (
                "X-Forwarded-For: 1.1.1.1\r\n",
                "192.0.2.9",
                "192.0.2.9",
                "192.0.2.9",
            ),
            (
                "X-Forwarded-For: 1.1.1.1\r\n",
                "10.0.0.1",
                "1.1.1.1",
                "1.1.1.1, 10.0.0.1",
            ),
            (
                "X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.2\r\n",
                "10.0.0.1",
                "1.1.1.1",
                "1.1.1.1, 10.0.0.2, 10.0.0.1",
            ),
            (
                "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.1.1.1\r\n",
                "10.0.0.1",
                "1.1.1.1",
                "1.1.1.1, 10.0.0.1",
            ),
            (
                "X-Forwarded-For: ::ffff:1.1.1.1\r\n",
                "10.0.0.1",
                "1.1.1.1",
                "1.1.1.1, 10.0.0.1",
            ),
            (
                "X-Forwarded-For: [2001:db8::1]:80\r\n",
                "10.0.0.1",
                "2001:db8::1",
                "2001:db8::1, 10.0.0.1",
            ),
            (
                "X-Forwarded-For: 10.0.0.5\r\n",
                "10.0.0.1",
                "10.0.0.5",
                "10.0.0.5, 10.0.0.1",
            ),
            (
                "X-Forwarded-For: unknown\r\n",
                "10.0.0.1",
                "10.0.0.1",
                "10.0.0.1",
            ),
            ("X-Forwarded-For: \r\n", "10.0.0.1", "10.0.0.1", "10.0.0.1"),
            (
                "Forwarded: for=6.6.6.6, for=\"[2001:db8::1]:7\";proto=https\r\n",
                "::1",
                "2001:db8::1",
                "2001:db8::1, ::1",
            ),
        ] {
            assert_eq!(
                told(fields, peer),
                (ip(client), chain.to_owned()),
                "{fields:?} from {peer}"
            );
        }
    }
}
