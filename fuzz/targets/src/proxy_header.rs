//! The PROXY protocol: the same answer however the bytes arrive, an end that is a real one, and addresses that are written
//! are read back.

use narthex_net::proxy_header::{Addresses, Parsed, V1_MAX, V2_MAX, encode_v1, encode_v2, parse};

/// The target.
pub fn proxy_header(data: &[u8]) {
    let whole = parse(data);
    match &whole {
        Parsed::Header { header, len } => {
            let max = if header.version == 1 { V1_MAX } else { V2_MAX };
            assert!(*len <= data.len() && *len <= max);
            for kind in 0..=255 {
                let _ = header.tlv(data, kind);
            }
            // Exactly its own bytes suffice, one less doesn't, and what follows is not looked at.
            let own = data.get(..*len).unwrap_or_default();
            assert_eq!(parse(own), whole);
            for shorter in 0..own.len() {
                let part = own.get(..shorter).unwrap_or_default();
                assert_eq!(parse(part), Parsed::Incomplete, "{shorter} of {len} bytes");
            }
            if let Addresses::Tcp {
                source,
                destination,
            } = header.addresses
            {
                back(source, destination);
            }
        }
        Parsed::Incomplete => assert!(data.len() < V2_MAX, "no header is that long"),
        Parsed::Invalid(why) => assert!(!why.is_empty()),
    }
}

fn back(source: std::net::SocketAddr, destination: std::net::SocketAddr) {
    if source.is_ipv4() != destination.is_ipv4() {
        // One family per header; a writer must decide, and v2 says "unspecified" then.
        return;
    }
    for encode in [encode_v1, encode_v2] {
        let mut out = Vec::new();
        encode(source, destination, &mut out);
        let Parsed::Header { header, len } = parse(&out) else {
            panic!("our own header is not read back: {}", out.escape_ascii());
        };
        assert_eq!(len, out.len());
        assert_eq!(
            header.addresses,
            Addresses::Tcp {
                source,
                destination
            }
        );
    }
}
