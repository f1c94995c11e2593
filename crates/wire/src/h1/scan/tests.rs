//! Tests of the scanner.

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    line: 8192,
    field: 8192,
    head: 32768,
    fields: 100,
};

fn scan(bytes: &[u8]) -> Result<(Progress, Index), Reject> {
    let mut index = Index::default();
    request(bytes, &mut index, &LIMITS).map(|p| (p, index))
}

#[test]
fn a_plain_request() {
    let bytes = b"GET /a?b HTTP/1.1\r\nHost: example.com\r\nX-Y:  z \t\r\nEmpty:\r\n\r\nrest";
    let (progress, index) = scan(bytes).unwrap();
    assert_eq!(progress, Progress::Complete(bytes.len() - 4));
    assert_eq!(index.method.of(bytes), b"GET");
    assert_eq!(index.target.of(bytes), b"/a?b");
    let values: Vec<_> = index
        .fields
        .iter()
        .map(|f| (f.id, f.value.of(bytes)))
        .collect();
    assert_eq!(
        values,
        [
            (FieldId::Host, &b"example.com"[..]),
            (FieldId::Other, &b"z"[..]),
            (FieldId::Other, &b""[..])
        ]
    );
}

#[test]
fn the_same_at_every_split() {
    let bytes = b"\r\nPOST /some/path HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nA: b\tc\r\n\r\n";
    for split in 0..bytes.len() {
        let mut index = Index::default();
        assert_eq!(
            request(&bytes[..split], &mut index, &LIMITS),
            Ok(Progress::Partial),
            "at {split}"
        );
        assert_eq!(
            request(bytes, &mut index, &LIMITS),
            Ok(Progress::Complete(bytes.len())),
            "at {split}"
        );
        assert_eq!(index.fields.len(), 3);
    }
}

#[test]
fn malformed_heads() {
    let cases: &[(&[u8], Reject)] = &[
        (b"GET / HTTP/1.1\nHost: a\n\n", Reject::BareLineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Reject::BareLineEnd),
        (b"GET / HTTP/1.1\r\nX: a\rY: b\r\n\r\n", Reject::BareLineEnd),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Reject::FieldName),
        (b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", Reject::FieldName),
        (b"GET / HTTP/1.1\r\n: a\r\n\r\n", Reject::FieldName),
        (b"GET / HTTP/1.1\r\nFoo\r\n\r\n", Reject::FieldName),
        (b"GET / HTTP/1.1\r\n\x85Foo: a\r\n\r\n", Reject::FieldName),
        (b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", Reject::FieldFold),
        (b"GET / HTTP/1.1\r\n\tX: a\r\n\r\n", Reject::FieldFold),
        (b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", Reject::FieldValue),
        (b"GET / HTTP/1.1\r\nX: a\x7fb\r\n\r\n", Reject::FieldValue),
        (b"GET / HTTP/1.2\r\n\r\n", Reject::Version),
        (b"GET / HTTP/2.0\r\n\r\n", Reject::Version),
        (b"GET / http/1.1\r\n\r\n", Reject::RequestLine),
        (b"GET / HTTP/1.10\r\n\r\n", Reject::RequestLine),
        (b"GET /\r\n", Reject::RequestLine),
        (b"GET  / HTTP/1.1\r\n\r\n", Reject::Target),
        (b"GET / a HTTP/1.1\r\n\r\n", Reject::RequestLine),
        (b"G(T / HTTP/1.1\r\n\r\n", Reject::Method),
        (b" GET / HTTP/1.1\r\n\r\n", Reject::Method),
        (b"GET /\x01 HTTP/1.1\r\n\r\n", Reject::RequestLine),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Reject::Method),
    ];
    for (bytes, reject) in cases {
        assert_eq!(
            scan(bytes).map(|(p, _)| p),
            Err(*reject),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn every_byte_of_a_value_is_judged_at_every_offset() {
    for byte in 0..=255u8 {
        for offset in 0..20 {
            let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
            bytes.extend(std::iter::repeat_n(b'v', offset));
            bytes.push(byte);
            bytes.extend_from_slice(b"vvvvvvvvvvvv\r\n\r\n");
            assert_eq!(
                scan(&bytes).is_ok(),
                narthex_message::edit::is_value_byte(byte),
                "{byte:#x} at {offset}"
            );
        }
    }
}

#[test]
fn limits_are_exact() {
    let limits = HeadLimits {
        line: 40,
        field: 30,
        head: 300,
        fields: 3,
    };
    let try_it = |bytes: &[u8]| request(bytes, &mut Index::default(), &limits);
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(n - 16));
    assert!(try_it(line(40).as_bytes()).is_ok());
    assert_eq!(try_it(line(41).as_bytes()), Err(Reject::TargetTooLong));
    let field = |n: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(n - 3));
    assert!(try_it(field(30).as_bytes()).is_ok());
    assert_eq!(try_it(field(31).as_bytes()), Err(Reject::FieldTooLong));
    let fields = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(n));
    assert!(try_it(fields(3).as_bytes()).is_ok());
    assert_eq!(try_it(fields(4).as_bytes()), Err(Reject::TooManyFields));
}

#[test]
fn responses() {
    let scan = |bytes: &[u8]| {
        let mut index = Index::default();
        response(bytes, &mut index, &LIMITS).map(|p| (p, index.status))
    };
    for good in [
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        b"HTTP/1.0 404 \r\n\r\n",
        b"HTTP/1.1 599\r\n\r\n",
        b"HTTP/1.1 200 \xe4h\r\nA: b\r\n\r\n",
    ] {
        assert_eq!(
            scan(good).unwrap().0,
            Progress::Complete(good.len()),
            "{good:?}"
        );
        for split in 0..good.len() {
            assert_eq!(
                scan(&good[..split]).map(|r| r.0),
                Ok(Progress::Partial),
                "{good:?} at {split}"
            );
        }
    }
    for bad in [
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "junk\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1 999 X\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    ] {
        assert!(scan(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
