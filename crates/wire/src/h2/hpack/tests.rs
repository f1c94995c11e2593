//! RFC 7541 appendix C, what Python's `hpack` makes, and whatever anybody may send.

use super::encode;
use super::*;
use narthex_message::FieldId;
use proptest::prelude::*;

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    found: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Sink for Lines {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn line(&mut self, line: Line) -> Result<(), Fault> {
        let name = &self.bytes[line.start..line.start + line.name_len];
        let value = &self.bytes[line.start + line.name_len + 2..line.value_end];
        assert_eq!(&self.bytes[line.value_end..], b"\r\n");
        assert_eq!(Name::of(name), line.name);
        assert_eq!(line.clean, line.name != Name::Bad && table::is_clean(value));
        self.found.push((name.to_vec(), value.to_vec()));
        self.bytes.truncate(line.start);
        Ok(())
    }
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Fault> {
    let mut lines = Lines::default();
    decoder.block(block, &mut lines)?;
    Ok(lines.found)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits.chunks(2).map(|p| p[0] << 4 | p[1]).collect()
}

/// Blocks one after the other: bytes, fields, size of the table then.
fn vectors(blocks: &[(&str, &[(&str, &str)], usize)]) {
    let mut decoder = Decoder::new();
    for (bytes, fields, size) in blocks {
        let found = decode(&mut decoder, &hex(bytes)).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(n, v)| (str::from_utf8(n).unwrap(), str::from_utf8(v).unwrap()))
            .collect();
        assert_eq!(&found[..], *fields);
        assert_eq!(decoder.table_size(), *size);
    }
}

const FIRST: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
];
const SECOND: [(&str, &str); 5] = [
    FIRST[0],
    FIRST[1],
    FIRST[2],
    FIRST[3],
    ("cache-control", "no-cache"),
];
const THIRD: [(&str, &str); 5] = [
    FIRST[0],
    (":scheme", "https"),
    (":path", "/index.html"),
    FIRST[3],
    ("custom-key", "custom-value"),
];

#[test]
fn appendix_c_single_fields() {
    vectors(&[(
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        &[("custom-key", "custom-header")],
        55,
    )]);
    vectors(&[(
        "040c 2f73 616d 706c 652f 7061 7468",
        &[(":path", "/sample/path")],
        0,
    )]);
    vectors(&[(
        "1008 7061 7373 776f 7264 0673 6563 7265 74",
        &[("password", "secret")],
        0,
    )]);
    vectors(&[("82", &[(":method", "GET")], 0)]);
}

#[test]
fn appendix_c_requests() {
    vectors(&[
        (
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            &FIRST,
            57,
        ),
        ("8286 84be 5808 6e6f 2d63 6163 6865", &SECOND, 110),
        (
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            &THIRD,
            164,
        ),
    ]);
    vectors(&[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &FIRST, 57),
        ("8286 84be 5886 a8eb 1064 9cbf", &SECOND, 110),
        (
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            &THIRD,
            164,
        ),
    ]);
}

#[test]
fn appendix_c_responses_with_eviction() {
    const DATE: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    const LOCATION: (&str, &str) = ("location", "https://www.example.com");
    const CACHE: (&str, &str) = ("cache-control", "private");
    let first: &[_] = &[(":status", "302"), CACHE, DATE, LOCATION];
    let second: &[_] = &[(":status", "307"), CACHE, DATE, LOCATION];
    let third: &[_] = &[
        (":status", "200"),
        CACHE,
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        LOCATION,
        ("content-encoding", "gzip"),
        (
            "set-cookie",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ];
    // A table of 256 bytes.
    vectors(&[
        (
            "3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            first,
            222,
        ),
        ("4803 3330 37c1 c0bf", second, 222),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            third,
            215,
        ),
    ]);
    vectors(&[
        (
            "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            first,
            222,
        ),
        ("4883 640e ffc1 c0bf", second, 222),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            third,
            215,
        ),
    ]);
}

#[test]
fn appendix_c_integers() {
    for (value, prefix, expected) in [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")] {
        let mut out = Vec::new();
        encode::integer(value, prefix, 0, &mut out);
        assert_eq!(out, hex(expected));
    }
}

/// Written by `tests/hpack_corpus.py`: blocks of one connection after another, with what is in them.
#[test]
fn what_pythons_hpack_makes() {
    let corpus = include_str!("../../../tests/hpack_corpus.txt");
    let mut decoder = Decoder::new();
    let mut found = Vec::new().into_iter();
    let mut fields = 0;
    for line in corpus.lines() {
        match line.split_once(' ') {
            None if line == "connection" => decoder = Decoder::new(),
            Some(("block", block)) => {
                assert_eq!(found.next(), None);
                found = decode(&mut decoder, &hex(block)).unwrap().into_iter();
            }
            Some(("field", field)) => {
                let (name, value) = field.split_once(' ').unwrap();
                assert_eq!(found.next(), Some((hex(name), hex(value))));
                fields += 1;
            }
            _ => {}
        }
    }
    assert_eq!(found.next(), None);
    assert!(fields > 400);
}

#[test]
fn what_we_encode_has_no_memory() {
    let mut out = Vec::new();
    for (name, value) in [
        ("Content-Type", "text/html"),
        ("X-Anything", "~~~"),
        ("Authorization", "secret"),
        ("Accept-Encoding", "gzip, deflate"),
        ("Link", ""),
    ] {
        encode::field(
            FieldId::of(name.as_bytes()),
            name.as_bytes(),
            value.as_bytes(),
            &mut out,
        );
    }
    let mut decoder = Decoder::new();
    assert_eq!(decode(&mut decoder, &out).unwrap().len(), 5);
    assert_eq!(decoder.table_size(), 0);
    // Secrets are marked: nobody on the way keeps them.
    let mut out = Vec::new();
    encode::field(FieldId::Authorization, b"Authorization", b"x", &mut out);
    assert_eq!(out[..2], [0x1f, 23 - 15]);
}

/// One field as an encoder may write it.
fn representation(kind: u8, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push([0x00, 0x10, 0x40][usize::from(kind % 3)]);
    for text in [name, value] {
        if kind & 4 == 0 {
            encode::string(text, out);
        } else {
            encode::integer(text.len(), 7, 0, out);
            out.extend_from_slice(text);
        }
    }
}

proptest! {
    #[test]
    fn round_trip(fields in prop::collection::vec(("[!-~]{0,70}", prop::collection::vec(any::<u8>(), 0..200)), 0..20)) {
        let mut out = Vec::new();
        for (name, value) in &fields {
            encode::field(FieldId::of(name.as_bytes()), name.as_bytes(), value, &mut out);
        }
        let found = decode(&mut Decoder::new(), &out).unwrap();
        let expected: Vec<_> = fields
            .iter()
            .map(|(n, v)| (n.to_ascii_lowercase().into_bytes(), v.clone()))
            .collect();
        prop_assert_eq!(found, expected);
    }

    /// Against the RFC's table, kept as plainly as can be.
    #[test]
    fn the_table_is_the_rfcs(steps in prop::collection::vec((any::<u8>(), "[a-z]{1,4}", 0usize..1500, 0usize..80), 1..60)) {
        let mut decoder = Decoder::new();
        let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (kind, name, len, index) in steps {
            let value = vec![b'a' + kind % 26; len];
            let mut block = Vec::new();
            if kind & 8 == 0 && index < model.len() {
                encode::integer(62 + index, 7, 0x80, &mut block);
                prop_assert_eq!(&decode(&mut decoder, &block).unwrap(), &[model[index].clone()]);
                continue;
            }
            representation(kind, name.as_bytes(), &value, &mut block);
            let field = (name.into_bytes(), value);
            prop_assert_eq!(&decode(&mut decoder, &block).unwrap(), std::slice::from_ref(&field));
            if kind % 3 == 2 {
                model.insert(0, field);
                let size = |m: &[(Vec<u8>, Vec<u8>)]| m.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
                while size(&model) > TABLE_SIZE {
                    model.pop();
                }
                prop_assert_eq!(size(&model), decoder.table_size());
            }
            let mut beyond = Vec::new();
            encode::integer(62 + model.len(), 7, 0x80, &mut beyond);
            prop_assert!(decode(&mut decoder, &beyond).is_err());
        }
    }

    #[test]
    fn any_bytes(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let _ = decode(&mut decoder, &block);
            prop_assert!(decoder.table_size() <= TABLE_SIZE);
        }
    }
}
