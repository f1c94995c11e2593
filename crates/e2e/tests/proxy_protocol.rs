//! PROXY protocol on the way in (class H1-40): strict, from configured peers only, first bytes only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "request bytes are written to be read"
)]

use std::time::Duration;

use narthex_e2e::kit::attack::End;
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::rig::Rig;

fn rig() -> Rig {
    Rig::of("proxy-protocol from=\"127.0.0.0/8\"", "proxy \"u\"")
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A version 2 header: command, family, addresses and what follows them.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, body].concat()
}

fn v4_addresses() -> Vec<u8> {
    vec![203, 0, 113, 7, 192, 0, 2, 1, 0x30, 0x39, 0, 80]
}

fn v6_addresses() -> Vec<u8> {
    let mut a = vec![0x20, 0x01, 0x0d, 0xb9];
    a.extend([0; 11]);
    a.push(1);
    let source = a.clone();
    [source.as_slice(), source.as_slice(), &[0x30, 0x39, 0, 80]].concat()
}

/// Sends a header fused with a request; the address that the origin was told, or `None` if the connection was refused.
fn told(rig: &Rig, header: &[u8]) -> Option<String> {
    let mut c = rig.connect();
    c.send([header, get("/", "Connection: close\r\n").as_bytes()].concat());
    let t = c.read_all(&[]);
    assert_ne!(t.end, End::Open);
    match t.responses.as_slice() {
        [r] if r.status == 200 => rig.one().header("x-real-ip"),
        rest => {
            assert!(rest.iter().all(|r| r.status == 400), "{rest:?}");
            assert!(
                rig.origin.take(0).is_empty(),
                "a refused connection's bytes reached the origin"
            );
            None
        }
    }
}

#[test]
fn h1_40_good_headers() {
    let rig = rig();
    let tlv = |body: Vec<u8>, tail: &[u8]| [body.as_slice(), tail].concat();
    for (header, want) in [
        (
            b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n".to_vec(),
            "203.0.113.7",
        ),
        (
            b"PROXY TCP6 2001:db9::1 2001:db9::2 12345 80\r\n".to_vec(),
            "2001:db9::1",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN whatever it says\r\n".to_vec(), "127.0.0.1"),
        (v2(1, 0x11, &v4_addresses()), "203.0.113.7"),
        (v2(1, 0x21, &v6_addresses()), "2001:db9::1"),
        (v2(0, 0x00, &[]), "127.0.0.1"),
        (v2(0, 0x11, &v4_addresses()), "127.0.0.1"),
        (v2(1, 0x00, &[]), "127.0.0.1"),
        (
            v2(1, 0x11, &tlv(v4_addresses(), &[0x04, 0, 2, 1, 2])),
            "203.0.113.7",
        ),
        (
            v2(1, 0x11, &tlv(v4_addresses(), &[0xE0, 0, 0, 0x04, 0, 1, 9])),
            "203.0.113.7",
        ),
    ] {
        assert_eq!(
            told(&rig, &header).as_deref(),
            Some(want),
            "{}",
            header.escape_ascii()
        );
    }
}

/// CVE-2020-11653 (Varnish), CVE-2024-23324/23327 and CVE-2026-47692 (Envoy), CVE-2025-31698 (ATS).
#[test]
fn h1_40_bad_headers() {
    let rig = rig();
    let tlv = |tail: &[u8]| v2(1, 0x11, &[v4_addresses().as_slice(), tail].concat());
    let mut rows: Vec<Vec<u8>> = [
        "",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 203.0.113.7\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 12345\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 12345 80 x\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 99999 80\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 -1 80\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 +1 80\r\n",
        "PROXY TCP4 2001:db9::1 192.0.2.1 1 80\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.1 1 80\r\n",
        "PROXY TCP4 256.0.0.1 192.0.2.1 1 80\r\n",
        "PROXY TCP4 203.0.113 192.0.2.1 1 80\r\n",
        "PROXY  TCP4 203.0.113.7 192.0.2.1 1 80\r\n",
        "proxy TCP4 203.0.113.7 192.0.2.1 1 80\r\n",
        "PROXY TCP5 203.0.113.7 192.0.2.1 1 80\r\n",
        "PROXY UDP4 203.0.113.7 192.0.2.1 1 80\r\n",
        " PROXY TCP4 203.0.113.7 192.0.2.1 1 80\r\n",
        "\r\nPROXY TCP4 203.0.113.7 192.0.2.1 1 80\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 80\rX\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 80 \r\n",
        "PROXY TCP4 203.0.113.7\t192.0.2.1 1 80\r\n",
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .collect();
    rows.push(format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).into_bytes());
    // Both versions, and the same one twice: only the first bytes are a header.
    rows.push(
        [
            b"PROXY TCP4 203.0.113.7 192.0.2.1 1 80\r\n".as_slice(),
            &v2(1, 0x11, &v4_addresses()),
        ]
        .concat(),
    );
    rows.push(
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1 80\r\nPROXY TCP4 1.1.1.1 192.0.2.1 1 80\r\n".to_vec(),
    );
    // Lengths that don't fit.
    rows.push(v2(1, 0x11, &v4_addresses()[..11]));
    rows.push(v2(1, 0x21, &v4_addresses()));
    rows.push(tlv(&[0x04]));
    rows.push(tlv(&[0x04, 0]));
    rows.push(tlv(&[0x04, 0, 5, 1]));
    rows.push(tlv(&[0x04, 0xff, 0xff, 1]));
    // Version, command, family.
    let mut wrong = v2(1, 0x11, &v4_addresses());
    wrong[12] = 0x11;
    rows.push(wrong.clone());
    wrong[12] = 0x22;
    rows.push(wrong.clone());
    wrong[12] = 0x2f;
    rows.push(wrong);
    let mut failures = Vec::new();
    for header in rows {
        if let Some(address) = told(&rig, &header) {
            failures.push(format!(
                "{} was accepted as {address}",
                header.escape_ascii()
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The header may come in pieces, alone, and with everything behind it; requests after the first need none.
#[test]
fn h1_40_in_pieces() {
    let rig = rig();
    for header in [
        b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n".to_vec(),
        v2(1, 0x11, &v4_addresses()),
    ] {
        let mut c = rig.connect();
        c.send_paced(&header, 1, Duration::from_micros(200));
        for _ in 0..2 {
            assert_eq!(c.ask(get("/", "")).status, 200);
            assert_eq!(
                rig.one().header("x-real-ip").as_deref(),
                Some("203.0.113.7")
            );
        }
    }
}

/// A peer that says nothing is not waited for longer than a second or so.
#[test]
fn h1_40_silence_ends() {
    let rig = rig();
    let mut c = rig.connect();
    c.send("PROXY TC");
    let t = c.read_all(&[]);
    assert_ne!(t.end, End::Open);
}

/// Peers outside the list are refused, and can't choose their address.
#[test]
fn h1_40_untrusted_peers() {
    let rig = Rig::of("proxy-protocol from=\"192.0.2.0/24\"", "proxy \"u\"");
    for header in [&b"PROXY TCP4 6.6.6.6 192.0.2.1 1 80\r\n"[..], b""] {
        let mut c = rig.connect();
        c.send([header, get("/", "Connection: close\r\n").as_bytes()].concat());
        let t = c.read_all(&[]);
        assert!(
            t.statuses().iter().all(|s| *s == 400) && t.end != End::Open,
            "{t:?}"
        );
    }
    assert!(rig.origin.seen().is_empty());
    // Without the setting, a PROXY line is a malformed request line.
    let rig = Rig::plain();
    let mut c = rig.connect();
    c.send(b"PROXY TCP4 6.6.6.6 192.0.2.1 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let t = c.read_all(&[]);
    assert!(
        matches!(t.statuses().as_slice(), [400 | 505]) && t.end != End::Open,
        "{t:?}"
    );
    assert!(rig.origin.seen().is_empty());
}
