//! H1-40 of the catalogue: every way a PROXY header can lie about its length or its client.

use proptest::prelude::*;

use super::*;

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(source: &str, destination: &str) -> Addresses {
    Addresses::Tcp {
        source: socket(source),
        destination: socket(destination),
    }
}

/// A version 2 header with this command, family and block; the length field as told.
fn v2_with(command: u8, family: u8, len: usize, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(len).unwrap().to_be_bytes();
    [&v2::SIGNATURE[..], &[command, family], &len, block].concat()
}

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    v2_with(command, family, block.len(), block)
}

/// The IPv4 block, then `tlvs`.
fn tcp4_and(tlvs: &[u8]) -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[&[192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0, 80], tlvs].concat(),
    )
}

fn accepted(bytes: &[u8]) -> (Addresses, usize) {
    match parse(bytes) {
        Parsed::Header { header, len } => (header.addresses, len),
        other => panic!("{other:?} for {:?}", bytes.escape_ascii().to_string()),
    }
}

fn refused(bytes: &[u8]) -> &'static str {
    match parse(bytes) {
        Parsed::Invalid(reason) => reason,
        other => panic!("{other:?} for {:?}", bytes.escape_ascii().to_string()),
    }
}

#[test]
fn h1_40_version_1_accepted() {
    for (line, expected) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
            tcp("192.0.2.1:8080", "198.51.100.2:80"),
        ),
        (
            "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            tcp("0.0.0.0:0", "255.255.255.255:65535"),
        ),
        (
            "PROXY TCP6 2001:db8::1 2001:DB8::2 1 2\r\n",
            tcp("[2001:db8::1]:1", "[2001:db8::2]:2"),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            tcp("192.0.2.1:1", "[::1]:2"),
        ),
        ("PROXY UNKNOWN\r\n", Addresses::Socket),
        (
            "PROXY UNKNOWN ffff::1 anything at all 99999\r\n",
            Addresses::Socket,
        ),
        ("PROXY UNKNOWN \r\n", Addresses::Socket),
    ] {
        assert_eq!(accepted(line.as_bytes()), (expected, line.len()), "{line}");
        // Fused with what follows: not a byte of it is touched.
        let fused = format!("{line}GET / HTTP/1.1\r\n\r\n");
        assert_eq!(accepted(fused.as_bytes()), (expected, line.len()), "{line}");
    }
}

#[test]
fn h1_40_version_1_refused() {
    for line in [
        "proxy TCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
        "Proxy TCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
        " PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
        "\r\nPROXY TCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
        "PROXY\tTCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.2 8080 80\r\n",
        "PROXY unknown\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 8080 80\r\n",
        "PROXY \r\n",
        "PROXY\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80 1\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.2 8080 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2  8080 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080  80\r\n",
        "PROXY TCP4 192.0.2.1\t198.51.100.2 8080 80\r\n",
        "PROXY TCP4 192.0.02.1 198.51.100.2 8080 80\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 8080 80\r\n",
        "PROXY TCP4 192.0.2 198.51.100.2 8080 80\r\n",
        "PROXY TCP4 0xc0.0.2.1 198.51.100.2 8080 80\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 8080 80\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 8080 80\r\n",
        "PROXY TCP4 ::ffff:192.0.2.1 ::ffff:192.0.2.2 8080 80\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 8080 80\r\n",
        "PROXY TCP6 2001:db8::1%eth0 2001:db8::2 8080 80\r\n",
        "PROXY TCP6 [2001:db8::1] [2001:db8::2] 8080 80\r\n",
        "PROXY TCP6 2001:db8:::1 2001:db8::2 8080 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080 99999999999999999999\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 08080 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 00 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +80 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 80\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 80 8O\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\r\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\rX",
        "PROXY TCP4 192.0.2.1\0 198.51.100.2 8080 80\r\n",
        "PROXY UNKNOWN x\ny\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        refused(line.as_bytes());
    }
    refused(b"PROXY UNKNOWN \xff\r\n");
}

#[test]
fn h1_40_version_1_length() {
    let of_len = |n: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(n - 16));
    assert_eq!(accepted(of_len(107).as_bytes()), (Addresses::Socket, 107));
    assert_eq!(parse(&of_len(107).as_bytes()[..106]), Parsed::Incomplete);
    refused(of_len(108).as_bytes());
    // The decision falls with byte 107 at the latest: a CR there leaves no room for the LF.
    refused(&of_len(108).as_bytes()[..107]);
    refused(&of_len(200).as_bytes()[..107]);
    assert_eq!(parse(&of_len(200).as_bytes()[..106]), Parsed::Incomplete);
    // The longest one that says anything fits.
    let mut longest = Vec::new();
    let widest = socket("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    encode_v1(widest, widest, &mut longest);
    assert_eq!(accepted(&longest).1, longest.len());
}

#[test]
fn h1_40_version_2_accepted() {
    let v4 = tcp("192.0.2.1:8080", "198.51.100.2:80");
    let mut six = [0; 36];
    six[10] = 0xff;
    six[11] = 0xff;
    six[12..16].copy_from_slice(&[192, 0, 2, 9]);
    six[31] = 1;
    six[35] = 80;
    for (bytes, expected) in [
        (tcp4_and(b""), v4),
        (tcp4_and(b"\x04\0\0"), v4),
        (tcp4_and(b"\x02\0\x0bexample.com\x05\0\x02id"), v4),
        (v2(0x21, 0x21, &six), tcp("192.0.2.9:0", "[::1]:80")),
        (v2(0x21, 0x31, &[b'/'; 216]), Addresses::Unix),
        (v2(0x21, 0x00, b""), Addresses::Socket),
        (v2(0x21, 0x00, b"whatever"), Addresses::Socket),
        (v2(0x20, 0x00, b""), Addresses::Socket),
        // LOCAL: the socket's address holds, whatever else it says.
        (v2(0x20, 0x11, &[9; 12]), Addresses::Socket),
        (v2(0x20, 0x11, b"shrt"), Addresses::Socket),
        (v2(0x20, 0xff, b"\x02\xff\xff"), Addresses::Socket),
        (v2(0x20, 0x00, &[0; 4096]), Addresses::Socket),
    ] {
        assert_eq!(accepted(&bytes), (expected, bytes.len()));
        let fused = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(accepted(&fused), (expected, bytes.len()));
    }
}

#[test]
fn h1_40_version_2_refused() {
    for (bytes, why) in [
        (v2(0x11, 0x11, &[0; 12]), "version"),
        (v2(0x31, 0x11, &[0; 12]), "version"),
        (v2(0x22, 0x11, &[0; 12]), "command"),
        (v2(0x21, 0x11, &[0; 11]), "too short"),
        (v2(0x21, 0x11, b""), "too short"),
        (v2(0x21, 0x21, &[0; 35]), "too short"),
        (v2(0x21, 0x31, &[0; 215]), "too short"),
        (v2(0x21, 0x12, &[0; 12]), "datagrams"),
        (v2(0x21, 0x22, &[0; 36]), "datagrams"),
        (v2(0x21, 0x32, &[0; 216]), "datagrams"),
        (v2(0x21, 0x41, &[0; 12]), "family"),
        (v2(0x21, 0x10, &[0; 12]), "family"),
        (v2(0x21, 0x13, &[0; 12]), "family"),
        (v2(0x21, 0x01, &[0; 12]), "family"),
        // Extensions: longer than the header, a stump of one, the length beyond.
        (tcp4_and(b"\x02\0\x0cexample.com"), "longer than the header"),
        (
            tcp4_and(b"\x02\xff\xffexample.com"),
            "longer than the header",
        ),
        (tcp4_and(b"\x02\0"), "longer than the header"),
        (tcp4_and(b"\x02"), "longer than the header"),
        (tcp4_and(b"\x04\0\0\x04"), "longer than the header"),
        // The fixed part alone decides.
        (v2_with(0x21, 0x11, 4097, b""), "4 KiB"),
        (v2_with(0x20, 0x00, 65_535, b""), "4 KiB"),
    ] {
        assert!(refused(&bytes).contains(why), "{why}: {}", refused(&bytes));
    }
    // An extension may not reach into the payload behind the header.
    let fused = [
        &tcp4_and(b"\x02\0\x0cexample.com")[..],
        b"XGET / HTTP/1.1\r\n\r\n",
    ]
    .concat();
    assert!(refused(&fused).contains("longer than the header"));
    // Wrong from the first byte that differs.
    refused(b"\r\n\r\n\0\r\nQUIX");
    refused(b"\r\n\r\n\0\r\nQUIT\n\x31");
    refused(b"\r\n\rX");
}

#[test]
fn h1_40_both_versions_in_a_row() {
    let one = b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\r\n";
    let two = tcp4_and(b"");
    // The second is payload: no request of any protocol begins like this, so it is refused there.
    assert_eq!(accepted(&[&one[..], &two].concat()).1, one.len());
    assert_eq!(accepted(&[&two[..], one].concat()).1, two.len());
    assert_eq!(accepted(&[&one[..], one].concat()).1, one.len());
}

#[test]
fn every_prefix_is_incomplete() {
    let mut headers = vec![
        tcp4_and(b"\x02\0\x0bexample.com"),
        v2(0x20, 0, b"abc"),
        v2(0x21, 0x31, &[0; 216]),
    ];
    headers.push(b"PROXY TCP6 ::1 ::2 1 2\r\n".to_vec());
    headers.push(b"PROXY UNKNOWN\r\n".to_vec());
    for header in headers {
        for n in 0..header.len() {
            assert_eq!(
                parse(&header[..n]),
                Parsed::Incomplete,
                "{n} of {:?}",
                header.escape_ascii().to_string()
            );
        }
        accepted(&header);
    }
}

#[test]
fn extensions_are_found() {
    let bytes = tcp4_and(b"\x04\0\x01x\x02\0\x0bexample.com\x02\0\x05other\x05\0\0");
    let Parsed::Header { header, .. } = parse(&bytes) else {
        panic!()
    };
    assert_eq!(header.tlv(&bytes, 2), Some(&b"example.com"[..]));
    assert_eq!(header.tlv(&bytes, 5), Some(&b""[..]));
    assert_eq!(header.tlv(&bytes, 1), None);
    assert_eq!(header.tlv(b"", 2), None);
    // LOCAL has none, whatever its block looks like.
    let bytes = v2(0x20, 0x11, b"\x02\0\x01x");
    let Parsed::Header { header, .. } = parse(&bytes) else {
        panic!()
    };
    assert_eq!(header.tlv(&bytes, 2), None);
}

#[test]
fn a_checksum_is_checked() {
    // The check value of CRC-32C.
    assert_eq!(v2::checksum(b"123456789", 100), 0xe306_9283);
    let mut bytes = tcp4_and(b"\x02\0\x01x\x03\0\x04\0\0\0\0\x04\0\0");
    let at = bytes.len() - 7;
    let sum = v2::checksum(&bytes, at);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    accepted(&bytes);
    // Every byte, except the kind that makes it a checksum.
    for broken in (16..bytes.len()).filter(|b| *b != at - 3) {
        let mut bytes = bytes.clone();
        bytes[broken] ^= 0x40;
        refused(&bytes);
    }
    assert!(refused(&tcp4_and(b"\x03\0\x03abc")).contains("four bytes"));
}

#[test]
fn clients_without_an_address() {
    let encode: [fn(&mut Vec<u8>); 3] = [encode_v1_unknown, encode_v2_unknown, encode_v2_local];
    for encode in encode {
        let mut bytes = b"before".to_vec();
        encode(&mut bytes);
        assert_eq!(accepted(&bytes[6..]), (Addresses::Socket, bytes.len() - 6));
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    any::<SocketAddr>().prop_map(|a| SocketAddr::new(a.ip(), a.port()))
}

proptest! {
    #[test]
    fn what_is_written_is_read(source in any_address(), destination in any_address(), rest: Vec<u8>) {
        let expected = Addresses::Tcp { source: fold(source), destination: fold(destination) };
        for encode in [encode_v1, encode_v2] {
            let mut bytes = Vec::new();
            encode(source, destination, &mut bytes);
            let len = bytes.len();
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(accepted(&bytes), (expected, len));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_read_beyond(
        start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", b"PROXY TCP6 ", &v2::SIGNATURE,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20", b"\r\n\r\n\0\r\nQUIT\n\x20\x21\x01"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start, &rest].concat();
        let all = parse(&bytes);
        if let Parsed::Header { header, len } = &all {
            prop_assert!(*len <= bytes.len());
            let _ = header.tlv(&bytes, 2);
            // Nothing behind the header has a say, and nothing less is a header.
            prop_assert_eq!(parse(&bytes[..*len]), all.clone());
            prop_assert_eq!(parse(&bytes[..*len - 1]), Parsed::Incomplete);
        }
        // Once refused, more bytes do not help; a header stays the same header.
        for n in 0..bytes.len() {
            match parse(&bytes[..n]) {
                Parsed::Incomplete => {}
                decided => {
                    prop_assert_eq!(&decided, &all);
                    break;
                }
            }
        }
    }
}
