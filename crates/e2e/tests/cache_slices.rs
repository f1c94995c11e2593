//! Large objects in slices, end to end: every byte is checked against what the origin would have said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::time::Duration;

use narthex_e2e::kit::attack::{Client, Response, Why};
use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::h2peer::{self, Ask};
use narthex_e2e::kit::proxy::{Proxy, say};
use narthex_e2e::kit::ranged::{self, Asked, Does, File, Gate, Ranged};
use narthex_e2e::kit::{Fnv, PATIENCE, Rng, eventually, pause};

/// Bytes of a slice in most tests.
const S: u64 = 64 * 1024;
const GIB: u64 = 1 << 30;

/// An origin, and a proxy that caches it in slices.
struct Rig {
    proxy: Proxy,
    origin: Ranged,
}

impl Rig {
    #[track_caller]
    fn of(origin: Ranged, rule: &str) -> Self {
        Self::with(origin, "", &format!("cache slice=\"64KiB\" {rule}"))
    }

    #[track_caller]
    fn with(origin: Ranged, globals: &str, cache: &str) -> Self {
        let site = format!(
            "{globals}\nupstream \"u\" {{ server \"{}\"; retry attempts=0 }}\nsite \"*\" {{\n{cache}\nproxy \"u\"\n}}",
            origin.addr()
        );
        let proxy = Proxy::start(&Proxy::config("", &site));
        Self { proxy, origin }
    }

    fn file(file: File) -> Self {
        Self::of(Ranged::start([("/f", file)]), "")
    }

    fn client(&self) -> Client {
        let mut client = self.proxy.connect();
        client.keep = 8 << 20;
        client
    }

    #[track_caller]
    fn ask(&self, fields: &str) -> Response {
        self.client().ask(get("/f", fields))
    }

    #[track_caller]
    fn range(&self, range: &str) -> Response {
        self.ask(&format!("Range: bytes={range}\r\n"))
    }
}

fn status(r: &Response) -> String {
    r.fields.get("cache-status").unwrap_or_default()
}

fn field(r: &Response, name: &str) -> String {
    r.fields.get(name).unwrap_or_default()
}

/// Is it these bytes of the file, said to be so?
#[track_caller]
fn is_part(r: &Response, file: &File, first: u64, last: u64) {
    let said = format!("bytes {first}-{last}/{}", file.length);
    assert_eq!((r.status, field(r, "content-range")), (206, said));
    assert_eq!(r.body_len, last - first + 1);
    assert!(
        r.hash == ranged::hash(file.seed, first..last + 1),
        "{first}-{last}: other bytes"
    );
}

#[track_caller]
fn is_whole(r: &Response, file: &File) {
    assert_eq!((r.status, r.body_len), (200, file.length));
    assert_eq!(field(r, "content-length"), file.length.to_string());
    assert!(!r.fields.has("content-range"));
    assert!(
        r.hash == ranged::hash(file.seed, 0..file.length),
        "other bytes"
    );
}

/// First bytes of the slices that a representation of this length has.
fn slices(length: u64) -> Vec<Option<u64>> {
    (0..length.div_ceil(S)).map(|n| Some(n * S)).collect()
}

#[test]
fn a_file_comes_in_slices() {
    let file = File::new(1, 5 * S + 1234);
    let rig = Rig::file(file.clone());
    let r = rig.ask("");
    is_whole(&r, &file);
    assert_eq!(field(&r, "etag"), "\"1\"");
    assert_eq!(field(&r, "content-type"), "application/x-test");
    assert_eq!(
        status(&r),
        "Narthex; fwd=uri-miss; fwd-status=206; stored; detail=slice"
    );
    let asked = rig.origin.take();
    let ranges: Vec<_> = asked
        .iter()
        .map(|a| a.range.map(|(first, _)| first))
        .collect();
    assert_eq!(ranges, slices(file.length));
    for (number, asked) in asked.iter().enumerate() {
        let first = number as u64 * S;
        assert_eq!(asked.range, Some((first, first + S - 1)));
        assert_eq!(asked.field("accept-encoding"), Some("identity"));
    }
    // From now on nothing is asked: by whatever version, for whatever part.
    let mut client = rig.client();
    for _ in 0..2 {
        let r = client.ask(get("/f", ""));
        is_whole(&r, &file);
        assert!(
            status(&r).starts_with("Narthex; hit; ttl="),
            "{}",
            status(&r)
        );
        assert!(status(&r).ends_with("; detail=slice"), "{}", status(&r));
        assert_eq!(field(&r, "age"), "0");
    }
    is_part(
        &client.ask(get("/f", "Range: bytes=65530-65540\r\n")),
        &file,
        65530,
        65540,
    );
    let head = client.ask(request("HEAD", "/f", "", ""));
    assert_eq!((head.status, head.body_len), (200, 0));
    assert_eq!(field(&head, "content-length"), file.length.to_string());
    assert!(status(&head).contains("; hit"));
    let old = rig.client().ask("GET /f HTTP/1.0\r\nHost: a\r\n\r\n");
    is_whole(&old, &file);
    let reply = h2peer::ask(rig.proxy.addr(), Ask::get("/f"));
    assert_eq!((reply.status, reply.broken), (200, None));
    assert!(reply.body == ranged::bytes(1, 0..file.length));
    assert_eq!(rig.origin.take_ranges(), []);
}

/// A client without a range begins to get its answer while the first slice comes.
#[test]
fn a_slice_is_sent_while_it_fills() {
    let file = File::new(2, 3 * S);
    let gate = Gate::default();
    let held = gate.clone();
    let serves = file.clone();
    let origin = Ranged::of(move |asked, _| match asked.range {
        Some((0, _)) => Does::Hold(serves.clone(), 1000, held.clone()),
        _ => Does::Serve(serves.clone()),
    });
    let rig = Rig::of(origin, "");
    let mut first = rig.client();
    first.send(get("/f", ""));
    assert_eq!(first.read_head().unwrap().1, 200);
    assert_eq!(first.read_exactly(1000), ranged::bytes(2, 0..1000));
    // One who comes meanwhile follows, wherever it wants to begin.
    let mut second = rig.client();
    second.send(get("/f", "Range: bytes=500-\r\n"));
    assert_eq!(second.read_head().unwrap().1, 206);
    assert_eq!(second.read_exactly(500), ranged::bytes(2, 500..1000));
    // Before half of it is sent nobody asks for the next.
    assert_eq!(rig.origin.take_ranges(), [Some(0)]);
    gate.open();
    let rest = (3 * S - 1000) as usize;
    assert!(first.read_exactly(rest) == ranged::bytes(2, 1000..3 * S));
    assert!(second.read_exactly(rest) == ranged::bytes(2, 1000..3 * S));
    assert_eq!(rig.origin.take_ranges(), [Some(S), Some(2 * S)]);
}

/// Ranges of all kinds, over both versions: the bytes, the words, and never a slice twice.
#[test]
fn every_range() {
    let file = File::new(3, 7 * S + 77);
    let rig = Rig::file(file.clone());
    let last = file.length - 1;
    let mut client = rig.client();
    for (range, first, end) in [
        ("100000-200000", 100_000, 200_000),
        ("0-0", 0, 0),
        ("65535-65536", 65_535, 65_536),
        ("131072-196607", 131_072, 196_607),
        ("-1", last, last),
        ("-500", last - 499, last),
        ("-99999999999", 0, last),
        ("450000-", 450_000, last),
        ("450000-99999999999999999999", 450_000, last),
    ] {
        is_part(
            &client.ask(get("/f", &format!("Range: bytes={range}\r\n"))),
            &file,
            first,
            end,
        );
    }
    let mut random = Rng(7);
    for round in 0..150 {
        let (a, b) = (
            random.next_u64() % file.length,
            random.next_u64() % file.length,
        );
        let (first, end) = (a.min(b), a.max(b));
        let range = format!("bytes={first}-{end}");
        if round % 3 == 0 {
            let reply = h2peer::ask(rig.proxy.addr(), Ask::get("/f").with("range", &range));
            assert_eq!((reply.status, reply.broken.as_deref()), (206, None));
            let said = format!("bytes {first}-{end}/{}", file.length);
            assert_eq!(reply.field("content-range"), Some(&*said));
            assert!(reply.body == ranged::bytes(3, first..end + 1), "{range}");
        } else {
            is_part(
                &client.ask(get("/f", &format!("Range: {range}\r\n"))),
                &file,
                first,
                end,
            );
        }
    }
    let mut asked = rig.origin.take_ranges();
    asked.sort_unstable();
    assert_eq!(asked, slices(file.length));
    // None of it, and broken ones.
    for (range, code, said) in [
        ("bytes=999999-", 416, format!("bytes */{}", file.length)),
        ("bytes=-0", 416, format!("bytes */{}", file.length)),
        ("bytes=9-1", 200, String::new()),
        ("lines=1-2", 200, String::new()),
    ] {
        let r = rig.ask(&format!("Range: {range}\r\n"));
        assert_eq!(
            (r.status, field(&r, "content-range")),
            (code, said),
            "{range}"
        );
    }
    assert_eq!(rig.origin.take_ranges(), []);
}

/// Several ranges in one answer (RFC 9110 14.6), some in one slice, one over several.
#[test]
fn several_ranges() {
    let file = File::new(4, 6 * S + 5);
    let rig = Rig::file(file.clone());
    let parts = [
        (300_000, 300_009),
        (10, 19),
        (30, 39),
        (60_000, 200_000),
        (393_220, 393_220),
    ];
    let fields = "Range: bytes=300000-300009,10-19,30-39,60000-200000,-1\r\n";
    for _ in 0..2 {
        let r = rig.ask(fields);
        assert_eq!(r.status, 206);
        let kind = field(&r, "content-type");
        let boundary = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let mut want = Vec::new();
        for (first, last) in parts {
            want.extend_from_slice(
                format!("\r\n--{boundary}\r\nContent-Type: application/x-test\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n", file.length).as_bytes(),
            );
            want.extend_from_slice(&ranged::bytes(4, first..last + 1));
        }
        want.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(r.body == want);
        let reply = h2peer::ask(
            rig.proxy.addr(),
            Ask::get("/f").with("range", &fields[7..fields.len() - 2]),
        );
        assert!(reply.body == want);
    }
    let mut asked = rig.origin.take_ranges();
    asked.sort_unstable();
    let want: Vec<_> = [0, 1, 2, 3, 4, 6].map(|n| Some(n * S)).into();
    assert_eq!(asked, want);
    // Too many are as none at all (CA-09).
    let many: Vec<String> = (0..40).map(|n| format!("{}-{}", n * 10, n * 10)).collect();
    is_whole(&rig.range(&many.join(",")), &file);
}

/// Conditions are answered by the validators of the slices, which are those of the whole.
#[test]
fn conditions() {
    let mut file = File::new(5, 3 * S);
    file.fields
        .push_str("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let rig = Rig::file(file.clone());
    let not_modified = rig.ask("If-None-Match: \"x\", \"5\"\r\n");
    assert_eq!((not_modified.status, not_modified.body_len), (304, 0));
    assert_eq!(rig.origin.take_ranges(), [Some(0)]);
    is_whole(&rig.ask("If-None-Match: \"x\"\r\n"), &file);
    rig.origin.take();
    for (fields, code) in [
        ("If-None-Match: *\r\nRange: bytes=70000-70001\r\n", 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 200),
        ("If-Range: \"5\"\r\nRange: bytes=70000-70001\r\n", 206),
        ("If-Range: \"6\"\r\nRange: bytes=70000-70001\r\n", 200),
        ("If-Range: W/\"5\"\r\nRange: bytes=70000-70001\r\n", 200),
        (
            "If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\nRange: bytes=70000-70001\r\n",
            206,
        ),
        (
            "If-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\nRange: bytes=70000-70001\r\n",
            200,
        ),
    ] {
        let r = rig.ask(fields);
        assert_eq!(r.status, code, "{fields}");
        match code {
            206 => is_part(&r, &file, 70_000, 70_001),
            200 => is_whole(&r, &file),
            _ => assert_eq!(field(&r, "etag"), "\"5\""),
        }
    }
    assert_eq!(rig.origin.take_ranges(), []);
    // On a cold key a condition of a range needs the slice that the range is in, or, if it does not hold, the first.
    let rig = Rig::file(file.clone());
    is_part(
        &rig.ask("If-Range: \"5\"\r\nRange: bytes=140000-140001\r\n"),
        &file,
        140_000,
        140_001,
    );
    assert_eq!(rig.origin.take_ranges(), [Some(2 * S)]);
    is_whole(
        &rig.ask("If-Range: \"6\"\r\nRange: bytes=140000-140001\r\n"),
        &file,
    );
    assert_eq!(rig.origin.take_ranges(), [Some(0), Some(S)]);
}

/// Of what does not know ranges the whole is kept, by the answer that said so.
#[test]
fn an_origin_without_ranges() {
    let file = File {
        ranges: false,
        ..File::new(6, 4 * S + 9)
    };
    let rig = Rig::file(file.clone());
    is_part(&rig.range("100-70000"), &file, 100, 70_000);
    assert_eq!(rig.origin.take_ranges(), [Some(0)]);
    is_whole(&rig.ask(""), &file);
    is_part(&rig.range("-5"), &file, file.length - 5, file.length - 1);
    assert_eq!(rig.origin.take_ranges(), []);
    // Not to be kept: it passes, and nobody tries slices again.
    let file = File {
        fields: "Cache-Control: no-store\r\n".into(),
        ..file
    };
    let rig = Rig::file(file.clone());
    is_whole(&rig.ask(""), &file);
    rig.origin.take();
    for _ in 0..3 {
        is_whole(&rig.ask(""), &file);
    }
    let asked = rig.origin.take();
    assert!(asked.iter().all(|asked| asked.range.is_none()), "{asked:?}");
    assert_eq!(asked.len(), 3);
}

#[test]
fn what_is_small_or_empty() {
    for length in [1, 100, S - 1, S, S + 1] {
        let file = File::new(length, length);
        let rig = Rig::file(file.clone());
        for _ in 0..2 {
            is_whole(&rig.ask(""), &file);
            is_part(&rig.range("0-0"), &file, 0, 0);
            is_part(&rig.range("-1"), &file, length - 1, length - 1);
        }
        assert_eq!(rig.origin.take_ranges(), slices(length), "{length}");
    }
    let empty = File::new(7, 0);
    let rig = Rig::file(empty.clone());
    is_whole(&rig.ask(""), &empty);
    let asked = rig.origin.take_ranges();
    assert_eq!(asked, [Some(0), None]);
    is_whole(&rig.ask(""), &empty);
    assert_eq!(rig.range("0-").status, 416);
    assert_eq!(rig.origin.take_ranges(), []);
    // Without anything to tell versions by, one slice is enough or there is none.
    for (length, etag, whole) in [
        (100, "", false),
        (100, "W/\"a\"", false),
        (S + 1, "", true),
        (S + 1, "W/\"a\"", true),
    ] {
        let file = File {
            etag: etag.into(),
            ..File::new(8, length)
        };
        let rig = Rig::file(file.clone());
        for _ in 0..2 {
            is_whole(&rig.ask(""), &file);
            is_part(&rig.range("5-9"), &file, 5, 9);
        }
        let asked = rig.origin.take_ranges();
        let want = if whole {
            vec![Some(0), None]
        } else {
            vec![Some(0)]
        };
        assert_eq!(asked, want, "{length} {etag}");
    }
    // A date that is old enough is.
    let mut dated = File {
        etag: String::new(),
        ..File::new(9, 2 * S)
    };
    dated
        .fields
        .push_str("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let rig = Rig::file(dated.clone());
    is_whole(&rig.ask(""), &dated);
    assert_eq!(rig.origin.take_ranges(), slices(2 * S));
}

/// A 206 that is not the slice is not taken for one: the whole is asked for, and no byte is wrong.
#[test]
fn strange_parts() {
    let file = File::new(10, 2 * S + 100);
    let part = |range: &str, from: u64, to: u64, more: &str| {
        let body = ranged::bytes(10, from..to);
        let mut out = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: {}\r\nETag: \"10\"\r\nCache-Control: max-age=100\r\n{more}\r\n",
            body.len()
        )
        .into_bytes();
        out.extend_from_slice(&body);
        out
    };
    let multipart = "Content-Type: multipart/byteranges; boundary=x\r\n";
    for (name, answer) in [
        ("another start", part("bytes 1-65536/131172", 1, S + 1, "")),
        ("less", part("bytes 0-65534/131172", 0, S - 1, "")),
        ("more", part("bytes 0-65536/131172", 0, S + 1, "")),
        ("no length", part("bytes 0-65535/*", 0, S, "")),
        ("another unit", part("lines 0-65535/131172", 0, S, "")),
        (
            "other bytes than said",
            part("bytes 0-65535/131172", 0, S - 10, ""),
        ),
        ("several", part("bytes 0-65535/131172", 0, S, multipart)),
        (
            "coded",
            part("bytes 0-65535/131172", 0, S, "Content-Encoding: br\r\n"),
        ),
        (
            "two tags",
            part("bytes 0-65535/131172", 0, S, "ETag: \"x\"\r\n"),
        ),
    ] {
        let serves = file.clone();
        let origin = Ranged::of(move |asked, _| match asked.range {
            Some((0, last)) if last == S - 1 => Does::Send(answer.clone()),
            _ => Does::Serve(File {
                ranges: false,
                ..serves.clone()
            }),
        });
        let rig = Rig::of(origin, "");
        for _ in 0..2 {
            let r = rig.ask("");
            assert!(r.hash == ranged::hash(10, 0..file.length), "{name}");
            is_part(&rig.range("65000-66000"), &file, 65_000, 66_000);
        }
        let asked = rig.origin.take_ranges();
        assert_eq!(asked, [Some(0), None], "{name}");
    }
}

/// Errors are the origin's answer; they are kept only if the rule says so.
#[test]
fn errors() {
    let rig = Rig::of(Ranged::start([]), "");
    for _ in 0..2 {
        let r = rig.range("70000-70001");
        assert_eq!((r.status, r.text().as_str()), (404, "none"));
    }
    assert!(rig.origin.take().len() >= 2);
    let rig = Rig::with(
        Ranged::start([]),
        "",
        "cache slice=\"64KiB\" { negative 404 ttl=\"60s\" }",
    );
    for _ in 0..3 {
        let r = rig.ask("");
        assert_eq!((r.status, r.text().as_str()), (404, "none"));
    }
    assert_eq!(rig.origin.take_ranges(), [Some(0)]);
    let down = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown";
    let rig = Rig::of(Ranged::of(move |_, _| Does::Send(down.to_vec())), "");
    let r = rig.ask("");
    assert_eq!((r.status, r.text().as_str()), (503, "down"));
    let file = File::new(11, 3 * S);
    rig.origin.has(file.clone());
    is_whole(&rig.ask(""), &file);
    let rig = Rig::of(Ranged::of(|_, _| Does::Close), "");
    assert_eq!(rig.ask("").status, 502);
}

/// The last bytes without knowing the length: two requests, the first slice among them. With it, one.
#[test]
fn the_last_bytes() {
    let file = File::new(12, 9 * S + 10);
    let rig = Rig::file(file.clone());
    is_part(
        &rig.range("-500"),
        &file,
        file.length - 500,
        file.length - 1,
    );
    let asked = rig.origin.take_ranges();
    assert_eq!(asked, [Some(0), Some(8 * S), Some(9 * S)]);
    is_part(&rig.range("-5"), &file, file.length - 5, file.length - 1);
    assert_eq!(rig.origin.take_ranges(), []);
    // Beyond the end on a cold key: what the origin says of it, then the length.
    let rig = Rig::file(file.clone());
    let r = rig.range("10000000-");
    assert_eq!(
        (r.status, field(&r, "content-range")),
        (416, format!("bytes */{}", file.length))
    );
    assert_eq!(rig.origin.take_ranges().len(), 2);
    let r = rig.range("20000000-20000001,30000000-");
    assert_eq!(r.status, 416);
    assert_eq!(rig.origin.take_ranges(), []);
}

/// Who seeks in what is larger than the cache costs one slice.
#[test]
fn seeks_in_four_gibibytes() {
    let file = File::new(13, 4 * GIB);
    let rig = Rig::with(
        Ranged::start([("/f", file.clone())]),
        "",
        "cache slice=\"1MiB\"",
    );
    let mib = 1 << 20;
    for at in [3 * GIB + 12_345, GIB - 1000, 7 * mib + 5] {
        is_part(
            &rig.range(&format!("{at}-{}", at + 900)),
            &file,
            at,
            at + 900,
        );
        assert_eq!(rig.origin.take_ranges(), [Some(at / mib * mib)]);
    }
    // An open end, of which the client reads a little.
    let mut client = rig.client();
    client.send(get("/f", "Range: bytes=2147483648-\r\n"));
    let (_, code, fields) = client.read_head().unwrap();
    assert_eq!(code, 206);
    assert_eq!(fields.get("content-length").unwrap(), (2 * GIB).to_string());
    assert!(client.read_exactly(100_000) == ranged::bytes(13, 2 * GIB..2 * GIB + 100_000));
    client.close();
}

narthex_e2e::with_1_2_and_8_workers! {
    many_seek_at_once,
}

/// Fifty clients seek at random, by both versions: no slice is fetched twice, no byte is wrong, and the cache stays within its bound.
fn many_seek_at_once() {
    let file = File::new(14, 4 * GIB);
    let rig = Rig::with(
        Ranged::start([("/f", file.clone())]),
        "cache memory=\"192MiB\"",
        "cache slice=\"256KiB\"",
    );
    let places: Vec<u64> = {
        let mut random = Rng(99);
        (0..60)
            .map(|_| random.next_u64() % (4 * GIB - 600_000))
            .collect()
    };
    std::thread::scope(|scope| {
        for number in 0..50u64 {
            let (rig, file, places) = (&rig, &file, &places);
            scope.spawn(move || {
                let mut random = Rng(number);
                let mut client = rig.client();
                for round in 0..12 {
                    let first = places[random.below(places.len())] + random.next_u64() % 1000;
                    let last = first + random.next_u64() % 500_000;
                    let range = format!("bytes={first}-{last}");
                    if number % 5 == 0 && round % 4 == 0 {
                        let reply =
                            h2peer::ask(rig.proxy.addr(), Ask::get("/f").with("range", &range));
                        assert!(reply.body == ranged::bytes(14, first..last + 1), "{range}");
                    } else {
                        is_part(
                            &client.ask(get("/f", &format!("Range: {range}\r\n"))),
                            file,
                            first,
                            last,
                        );
                    }
                }
            });
        }
    });
    let mut fetched: HashMap<Option<u64>, usize> = HashMap::new();
    for first in rig.origin.take_ranges() {
        *fetched.entry(first).or_default() += 1;
    }
    let twice: Vec<_> = fetched.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(!fetched.contains_key(&None));
    let metrics = rig.proxy.metrics();
    let figure = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or_default() as u64
    };
    assert!(figure("narthex_cache_bytes ") <= 192 << 20);
    assert!(
        rig.proxy.rss_kib() < 400 << 10,
        "{} KiB",
        rig.proxy.rss_kib()
    );
}

/// A client that reads all of what is larger than the cache: memory stays bounded.
#[test]
fn more_than_the_memory() {
    let file = File::new(15, 96 << 20);
    let rig = Rig::with(
        Ranged::start([("/f", file.clone())]),
        "cache memory=\"16MiB\"",
        "cache slice=\"2MiB\"",
    );
    let before = rig.proxy.rss_kib();
    let r = rig.ask("");
    is_whole(&r, &file);
    let grown = rig.proxy.rss_kib().saturating_sub(before);
    assert!(grown < 60 << 10, "{grown} KiB more");
    assert_eq!(rig.origin.take().len(), 48);
}

/// A slow client has at most one slice fetched ahead of it; one that leaves has none begun.
#[test]
fn nobody_fetches_far_ahead() {
    let size: u64 = 8 << 20;
    let file = File::new(16, 20 * size);
    let rig = Rig::with(
        Ranged::start([("/f", file)]),
        "",
        "cache slice=\"8MiB\" object-max=\"64MiB\"",
    );
    let mut slow = rig.client();
    slow.send(get("/f", ""));
    assert_eq!(slow.read_head().unwrap().1, 200);
    slow.read_exactly(100_000);
    // It reads no more: socket buffers take some, the first slice is fetched whole, and perhaps the next.
    pause(Duration::from_millis(600));
    let asked = rig.origin.seen().len();
    assert!(asked <= 2, "{asked} slices");
    slow.read_exactly(size as usize);
    pause(Duration::from_millis(300));
    let asked = rig.origin.seen().len();
    assert!(asked <= 3, "{asked} slices");
    slow.close();
    pause(Duration::from_millis(300));
    assert!(
        rig.origin.seen().len() <= asked,
        "more was fetched for a client that has left"
    );
}

/// The origin changes while an answer is under way: its client sees that it is cut, and the next one gets the new version whole.
#[test]
fn a_change_in_the_middle() {
    for h2 in [false, true] {
        let (old, new) = (File::new(17, 4 * S), File::new(18, 4 * S));
        let (first, then) = (old.clone(), new.clone());
        let origin = Ranged::of(move |asked, _| {
            let is_old = asked.range.is_some_and(|(first, _)| first < 2 * S);
            Does::Serve(if is_old { first.clone() } else { then.clone() })
        });
        let rig = Rig::of(origin, "");
        if h2 {
            let reply = h2peer::ask(rig.proxy.addr(), Ask::get("/f"));
            assert!(reply.broken.is_some());
            assert!(reply.body == ranged::bytes(17, 0..reply.body.len() as u64));
        } else {
            let mut client = rig.client();
            client.send(get("/f", ""));
            let fault = client.read_response("GET").unwrap_err();
            assert!(matches!(fault.why, Why::BodyCut | Why::Reset), "{fault}");
            let came = fault.partial.unwrap();
            assert!(came.body_len <= 2 * S);
            assert!(came.hash == ranged::hash(17, 0..came.body_len));
        }
        let log = rig.proxy.access_log_of(1);
        assert_eq!(log[0]["reason"], "origin-changed", "{log:?}");
        rig.origin.has(new.clone());
        rig.origin.take();
        is_whole(&rig.ask(""), &new);
        // What was stored of the old version is gone, of the new one it is not.
        assert_eq!(rig.origin.take_ranges(), [Some(0), Some(S), Some(3 * S)]);
    }
}

/// Slices of an older version that are there still are found unfit, fetched anew, and not mixed.
#[test]
fn older_slices_are_not_mixed() {
    let (old, new) = (File::new(19, 4 * S), File::new(20, 4 * S));
    let rig = Rig::file(old.clone());
    is_part(&rig.range("140000-140001"), &old, 140_000, 140_001);
    rig.origin.has(new.clone());
    rig.origin.take();
    is_whole(&rig.ask(""), &new);
    assert_eq!(rig.origin.take_ranges(), slices(4 * S));
    is_whole(&rig.ask(""), &new);
    assert_eq!(rig.origin.take_ranges(), []);
    // Before the head is out the answer begins anew with what the origin has now.
    let rig = Rig::file(old.clone());
    is_part(&rig.range("5-6"), &old, 5, 6);
    let longer = File::new(21, 6 * S);
    rig.origin.has(longer.clone());
    rig.origin.take();
    let r = rig.range("-10");
    is_part(&r, &longer, longer.length - 10, longer.length - 1);
    assert!(rig.origin.take().len() <= 4);
    is_whole(&rig.ask(""), &longer);
}

/// A shorter version, while the stored length says more.
#[test]
fn a_file_that_has_become_shorter() {
    let (old, new) = (File::new(22, 6 * S), File::new(23, 2 * S + 7));
    let rig = Rig::file(old.clone());
    is_part(&rig.range("0-5"), &old, 0, 5);
    rig.origin.has(new.clone());
    // The length is known from a slice that is fresh; the origin says that there are not so many bytes.
    let r = rig.range("-10");
    is_part(&r, &new, new.length - 10, new.length - 1);
    is_whole(&rig.ask(""), &new);
}

/// A file that is stale when it comes, and can be asked about.
fn stale(seed: u64, length: u64) -> File {
    File {
        fields: "Cache-Control: max-age=10\r\nAge: 20\r\n".into(),
        ..File::new(seed, length)
    }
}

/// Stale slices are asked about one by one.
#[test]
fn stale_slices_are_revalidated() {
    let file = stale(24, 3 * S);
    let rig = Rig::file(file.clone());
    is_whole(&rig.ask(""), &file);
    for _ in 0..2 {
        rig.origin.take();
        let r = rig.ask("");
        is_whole(&r, &file);
        let said = status(&r);
        assert!(said.contains("fwd=stale; fwd-status=304; stored"), "{said}");
        let asked = rig.origin.take();
        assert_eq!(asked.len(), 3);
        for (number, asked) in asked.iter().enumerate() {
            assert_eq!(asked.field("if-none-match"), Some("\"24\""));
            assert_eq!(asked.range.map(|(first, _)| first), Some(number as u64 * S));
            assert_eq!(asked.field("if-range"), None);
        }
    }
    // It has changed: the answer is of the new version from its first byte on.
    let new = stale(25, 3 * S + 9);
    rig.origin.has(new.clone());
    is_whole(&rig.ask(""), &new);
}

#[test]
fn stale_slices_are_served_as_the_rule_says() {
    let file = stale(26, 3 * S);
    let with = |rule: &str| {
        let rig = Rig::of(Ranged::start([("/f", file.clone())]), rule);
        is_whole(&rig.ask(""), &file);
        rig.origin.take();
        rig
    };
    let rig = with("stale-while-revalidate=\"1m\" stale-if-error=\"1m\"");
    let r = rig.ask("");
    is_whole(&r, &file);
    let said = status(&r);
    assert!(said.starts_with("Narthex; hit; ttl=-"), "{said}");
    assert!(rig.origin.wait(3));
    // The origin is gone.
    let rig = with("stale-if-error=\"1m\"");
    rig.origin.becomes(|_, _| Does::Close);
    let r = rig.ask("");
    is_whole(&r, &file);
    assert!(status(&r).contains("detail=stale"), "{}", status(&r));
    // And without leave to serve what is stale it is not.
    let rig = with("");
    rig.origin.becomes(|_, _| Does::Close);
    assert_eq!(rig.ask("").status, 502);
}

/// What clients take as codings makes no difference to slices; other fields in `Vary` do.
#[test]
fn variants() {
    let mut file = File::new(27, 2 * S);
    file.fields.push_str("Vary: Accept-Encoding, X-Kind\r\n");
    let rig = Rig::file(file.clone());
    for fields in [
        "",
        "Accept-Encoding: gzip\r\n",
        "Accept-Encoding: br, zstd\r\n",
    ] {
        is_whole(&rig.ask(fields), &file);
    }
    assert_eq!(rig.origin.take_ranges(), slices(2 * S));
    let other = File {
        seed: 28,
        etag: "\"28\"".into(),
        ..file.clone()
    };
    let (one, two) = (file.clone(), other.clone());
    rig.origin.becomes(move |asked, _| {
        Does::Serve(if asked.field("x-kind").is_some() {
            two.clone()
        } else {
            one.clone()
        })
    });
    for _ in 0..2 {
        is_whole(&rig.ask("X-Kind: b\r\n"), &other);
        is_whole(&rig.ask(""), &file);
    }
    assert_eq!(rig.origin.take_ranges(), slices(2 * S));
}

/// A slice that does not come whole is fetched again, and the answer goes on where it stopped.
#[test]
fn a_slice_that_breaks_off() {
    let file = File::new(29, 4 * S);
    let serves = file.clone();
    let origin = Ranged::of(move |_, before| match before {
        0 | 2 => Does::Cut(serves.clone(), 40_000),
        _ => Does::Serve(serves.clone()),
    });
    let rig = Rig::of(origin, "");
    is_whole(&rig.ask(""), &file);
    is_whole(&rig.ask(""), &file);
    // And if it never comes whole, the answer does not look as if it had.
    let serves = file.clone();
    rig.origin
        .becomes(move |_, _| Does::Cut(serves.clone(), 10_000));
    rig.proxy.command(&["cache", "purge", "--all"]);
    let mut client = rig.client();
    client.send(get("/f", ""));
    let fault = client.read_response("GET").unwrap_err();
    let came = fault.partial.unwrap();
    assert!(came.body_len < file.length && came.hash == ranged::hash(29, 0..came.body_len));
}

/// Purges cover slices as they go: by address, host and tag, also in the middle of an answer; unsafe methods, too.
#[test]
fn purges() {
    let mut file = File::new(30, 40 * S);
    file.fields.push_str("Surrogate-Key: film reel\r\n");
    let rig = Rig::file(file.clone());
    let url = format!("http://a:{}/f", rig.proxy.addr().port());
    is_whole(&rig.ask(""), &file);
    for (how, target) in [
        (None, url.as_str()),
        (Some("--host"), "a"),
        (Some("--tag"), "reel"),
        (Some("--prefix"), url.as_str()),
        (Some("--all"), ""),
    ] {
        rig.origin.take();
        is_part(&rig.range("70000-70001"), &file, 70_000, 70_001);
        assert_eq!(rig.origin.take_ranges(), [], "{how:?}");
        let words: Vec<&str> = ["cache", "purge"]
            .into_iter()
            .chain(how)
            .chain(Some(target).filter(|t| !t.is_empty()))
            .collect();
        let out = rig.proxy.command(&words);
        assert!(out.status.success(), "{}", say(&out));
        is_part(&rig.range("70000-70001"), &file, 70_000, 70_001);
        assert_eq!(rig.origin.take_ranges(), [Some(S)], "{how:?}");
    }
    // In the middle: what follows is fetched anew.
    is_whole(&rig.ask(""), &file);
    rig.origin.take();
    let mut client = rig.client();
    client.send(get("/f", ""));
    client.read_head().unwrap();
    client.read_exactly(1000);
    rig.proxy.command(&["cache", "purge", &url]);
    let rest = client.read_exactly((40 * S - 1000) as usize);
    assert!(rest == ranged::bytes(30, 1000..40 * S));
    is_whole(&rig.ask(""), &file);
    assert_eq!(
        {
            let mut all = rig.origin.take_ranges();
            all.sort_unstable();
            all.dedup();
            all
        },
        slices(40 * S)
    );
    // An unsafe method that goes well.
    let new = File {
        seed: 31,
        etag: "\"31\"".into(),
        ..file.clone()
    };
    let serves = new.clone();
    rig.origin
        .becomes(move |asked, _| match asked.method.as_str() {
            "POST" => Does::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
            _ => Does::Serve(serves.clone()),
        });
    is_part(&rig.range("5-9"), &file, 5, 9);
    assert_eq!(
        rig.client()
            .ask(request("POST", "/f", "Content-Length: 0\r\n", ""))
            .status,
        204
    );
    is_part(&rig.range("5-9"), &new, 5, 9);
    is_part(&rig.range("70000-70001"), &new, 70_000, 70_001);
}

/// `only-if-cached` is answered if everything is there, and otherwise not at all.
#[test]
fn only_if_cached() {
    let file = File::new(32, 4 * S);
    let rig = Rig::file(file.clone());
    assert_eq!(rig.ask("Cache-Control: only-if-cached\r\n").status, 504);
    is_part(&rig.range("0-100000"), &file, 0, 100_000);
    rig.origin.take();
    is_part(
        &rig.ask("Cache-Control: only-if-cached\r\nRange: bytes=60000-70000\r\n"),
        &file,
        60_000,
        70_000,
    );
    assert_eq!(
        rig.ask("Cache-Control: only-if-cached\r\nRange: bytes=60000-200000\r\n")
            .status,
        504
    );
    assert_eq!(rig.ask("Cache-Control: only-if-cached\r\n").status, 504);
    assert_eq!(rig.origin.take_ranges(), []);
    // A reload asks about every slice, and nothing may be stored for who says so.
    is_whole(&rig.ask("Cache-Control: no-cache\r\n"), &file);
    let asked = rig.origin.take();
    assert_eq!(asked.len(), 4);
    assert_eq!(
        asked
            .iter()
            .filter(|a| a.field("if-none-match").is_some())
            .count(),
        2
    );
    is_whole(&rig.ask("Cache-Control: no-store\r\n"), &file);
    assert_eq!(rig.origin.take_ranges(), [None]);
}

/// Where the store does not take a slice, the client's own exchange brings the rest: the promise of the head is kept.
#[test]
fn the_rest_without_slices() {
    // Stored for everybody: the first. The others are for one who is known, and may not be stored.
    let file = File::new(33, 4 * S + 11);
    let rig = Rig::file(file.clone());
    is_part(&rig.range("0-9"), &file, 0, 9);
    rig.origin.take();
    let mut client = rig.client();
    for _ in 0..2 {
        is_whole(
            &client.ask(get("/f", "Authorization: Basic eA==\r\n")),
            &file,
        );
    }
    let reply = h2peer::ask(
        rig.proxy.addr(),
        Ask::get("/f").with("authorization", "Basic eA=="),
    );
    assert_eq!((reply.status, reply.broken), (200, None));
    assert!(reply.body == ranged::bytes(33, 0..file.length));
    let asked = rig.origin.take();
    let rests = asked
        .iter()
        .filter(|a| a.range == Some((S, file.length - 1)))
        .count();
    assert_eq!(rests, 3, "{asked:?}");
    let log = rig.proxy.access_log_of(4);
    // Of two workers one may write first.
    let whole: Vec<_> = log
        .iter()
        .filter(|line| line["bytes_sent"] == file.length)
        .collect();
    assert_eq!(whole.len(), 3, "{log:?}");
    for line in whole {
        assert_eq!(
            (&line["status"], &line["outcome"]),
            (&200.into(), &"ok".into())
        );
    }
    // If the origin has something else by then, or nothing, the answer is cut.
    let unlike: [fn(&Asked) -> Does; 4] = [
        |_| Does::Serve(File::new(34, 4 * S + 11)),
        |_| Does::Close,
        |_| Does::Send(ranged::NOT_FOUND.to_vec()),
        |_| {
            Does::Send(
                b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno"
                    .to_vec(),
            )
        },
    ];
    for does in unlike {
        let rig = Rig::file(file.clone());
        is_part(&rig.range("0-9"), &file, 0, 9);
        rig.origin.becomes(move |asked, _| does(asked));
        let mut client = rig.client();
        client.send(get("/f", "Authorization: Basic eA==\r\n"));
        let fault = client.read_response("GET").unwrap_err();
        let came = fault.partial.unwrap();
        assert_eq!((came.status, came.body_len), (200, S));
        assert!(came.hash == ranged::hash(33, 0..S));
    }
}

/// Clients that hold more slices than there is room for: everybody is served.
#[test]
fn no_room() {
    let mib = 1 << 20;
    let file = File::new(35, 12 * mib);
    let rig = Rig::with(
        Ranged::start([("/f", file.clone())]),
        "cache memory=\"8MiB\"",
        "cache slice=\"2MiB\"",
    );
    let mut slow: Vec<Client> = (0..8)
        .map(|number| {
            let mut client = rig.client();
            client.send(get("/f", &format!("Range: bytes={}-\r\n", number * mib)));
            client
        })
        .collect();
    for (number, client) in slow.iter_mut().enumerate() {
        let first = number as u64 * mib;
        assert_eq!(client.read_head().unwrap().1, 206);
        assert!(client.read_exactly(50_000) == ranged::bytes(35, first..first + 50_000));
    }
    for (number, client) in slow.iter_mut().enumerate() {
        let first = number as u64 * mib + 50_000;
        let rest = client.read_exactly((file.length - first) as usize);
        assert!(
            Fnv::of(&rest) == ranged::hash(35, first..file.length),
            "{number}"
        );
    }
    let bytes = || {
        let metrics = rig.proxy.metrics();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("narthex_cache_bytes "))
            .unwrap_or_default();
        line.rsplit(' ')
            .next()
            .and_then(|n| n.parse::<f64>().ok())
            .unwrap_or(f64::MAX)
    };
    assert!(
        eventually(PATIENCE, || bytes() <= (8 * mib) as f64),
        "{}",
        bytes()
    );
}

/// A client waits for another's fetch of a slice as for any other: at most `lock-wait`, before it has got a head.
#[test]
fn another_fetch_that_hangs() {
    let file = File::new(36, 3 * S);
    let gate = Gate::default();
    let (held, serves) = (gate.clone(), file.clone());
    let origin = Ranged::of(move |_, before| {
        if before == 0 {
            held.pass();
        }
        Does::Serve(serves.clone())
    });
    let rig = Rig::of(origin, "lock-wait=\"1s\"");
    let mut first = rig.client();
    first.send(get("/f", ""));
    assert!(rig.origin.wait(1));
    is_part(&rig.range("10-20"), &file, 10, 20);
    assert_eq!(rig.origin.seen()[1].range, Some((10, 20)), "for itself");
    gate.open();
    is_whole(&first.read_response("GET").unwrap(), &file);
}

/// What an operator is told of slices: `cache why`, `cache get`.
#[test]
fn seen_by_an_operator() {
    let file = File::new(37, 3 * S);
    let rig = Rig::file(file.clone());
    let url = "http://a/f".to_owned();
    let why = |more: &[&str]| {
        let words: Vec<&str> = ["cache", "why", &url].iter().chain(more).copied().collect();
        say(&rig.proxy.command(&words))
    };
    assert!(why(&[]).contains("Nothing is stored"), "{}", why(&[]));
    is_part(&rig.range("70000-70001"), &file, 70_000, 70_001);
    assert!(why(&[]).contains("Nothing is stored"), "{}", why(&[]));
    let range = why(&["-H", "Range: bytes=70000-70001"]);
    assert!(range.contains("It is a hit"), "{range}");
    let shown = say(&rig.proxy.command(&["cache", "get", &url]));
    assert!(
        shown.contains("65536 bytes of body (65536 to 131071)"),
        "{shown}"
    );
    rig.origin.has(File {
        ranges: false,
        fields: "Cache-Control: private\r\n".into(),
        ..file.clone()
    });
    is_whole(&rig.ask(""), &file);
    assert!(why(&[]).contains("private"), "{}", why(&[]));
}

/// Digests of a part's content are not those of another part (RFC 9530 2).
#[test]
fn digests_of_parts() {
    let mut file = File::new(38, 2 * S);
    file.fields.push_str(
        "Content-Digest: sha-256=:AA==:\r\nContent-MD5: x\r\nRepr-Digest: sha-256=:BB==:\r\n",
    );
    let rig = Rig::file(file.clone());
    for r in [rig.ask(""), rig.range("5-6"), rig.range("5-6,9-9")] {
        assert!(!r.fields.has("content-digest") && !r.fields.has("content-md5"));
        assert!(r.fields.has("repr-digest"));
    }
}

/// `PURGE` of a client that may, and a reload with another size of slices.
#[test]
fn purge_by_a_client_and_other_sizes() {
    let file = File::new(39, 3 * S);
    let rig = Rig::of(
        Ranged::start([("/f", file.clone())]),
        "{ purge \"127.0.0.1\" }",
    );
    is_whole(&rig.ask(""), &file);
    let purged = rig.client().ask(request("PURGE", "/f", "", ""));
    assert_eq!(purged.status, 200, "{}", purged.text());
    rig.origin.take();
    is_whole(&rig.ask(""), &file);
    assert_eq!(rig.origin.take_ranges(), slices(3 * S));
    let config = Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\" }}\nsite \"*\" {{\ncache slice=\"128KiB\"\nproxy \"u\"\n}}",
            rig.origin.addr()
        ),
    );
    rig.proxy.reload_ok(&config);
    is_whole(&rig.ask(""), &file);
    assert_eq!(rig.origin.take_ranges(), [Some(0), Some(2 * S)]);
}

/// A process that drains keeps its promises: slices that a head has told of are fetched to the last.
#[test]
fn an_answer_outlives_a_drain() {
    let file = File::new(40, 300 * S);
    let mut rig = Rig::file(file.clone());
    let mut client = rig.client();
    client.send(get("/f", ""));
    assert_eq!(client.read_head().unwrap().1, 200);
    let begun = client.read_exactly(1000);
    rig.proxy.signal(rustix::process::Signal::TERM);
    let rest = client.read_exactly((file.length - 1000) as usize);
    assert!([begun, rest].concat() == ranged::bytes(40, 0..file.length));
    assert!(rig.proxy.wait(PATIENCE).success());
}

/// An origin that says of one slice after the other another thing: whatever comes, no byte is of another version than the first.
#[test]
fn versions_that_flap() {
    let files = [File::new(41, 6 * S), File::new(42, 6 * S)];
    let serves = files.clone();
    let origin = Ranged::of(move |_, before| {
        let mut random = Rng(before as u64);
        Does::Serve(serves[random.below(2)].clone())
    });
    let rig = Rig::of(origin, "");
    let mut random = Rng(5);
    for _ in 0..60 {
        let first = random.next_u64() % (3 * S);
        let last = first + random.next_u64() % (3 * S);
        let mut client = rig.client();
        client.send(get("/f", &format!("Range: bytes={first}-{last}\r\n")));
        let r = match client.read_response("GET") {
            Ok(r) => r,
            Err(fault) => match fault.partial {
                Some(partial) => *partial,
                None => continue,
            },
        };
        assert_eq!(r.status, 206);
        let seed = field(&r, "etag").trim_matches('"').parse().unwrap();
        assert!(
            r.hash == ranged::hash(seed, first..first + r.body_len),
            "mixed"
        );
    }
}

/// The same from an origin that speaks HTTP/2: slices, and the rest without them.
#[test]
fn an_origin_of_http2() {
    let file = File::new(43, 5 * S + 3);
    let origin = Ranged::start([("/f", file.clone())]);
    let behind = Proxy::start(&Proxy::config(
        "",
        &format!("site \"*\" {{ proxy \"{}\" }}", origin.addr()),
    ));
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\"; protocol \"h2\" }}\nsite \"*\" {{ cache slice=\"64KiB\"; proxy \"u\" }}",
            behind.addr()
        ),
    ));
    let rig = Rig { proxy, origin };
    is_part(&rig.range("5-6"), &file, 5, 6);
    is_whole(&rig.ask("Authorization: Basic eA==\r\n"), &file);
    let asked = rig.origin.take();
    let rest = (S, file.length - 1);
    assert!(
        asked.iter().any(|asked| asked.range == Some(rest)),
        "{asked:?}"
    );
    is_whole(&rig.ask(""), &file);
    is_part(
        &rig.range("-70000"),
        &file,
        file.length - 70_000,
        file.length - 1,
    );
    assert_eq!(rig.origin.take_ranges(), slices(file.length)[1..]);
}

/// Slices are on disk as other objects are: after a restart they are found there, and what is stale is asked about.
#[test]
fn slices_outlive_the_process() {
    const DISK: &str = "cache memory=\"64MiB\" { disk \"@DIR@/cache\" size=\"64MiB\" }";
    let fresh = File::new(60, 4 * S + 77);
    for (file, asked) in [(fresh, 0), (stale(61, 3 * S), 3)] {
        let origin = Ranged::start([("/f", file.clone())]);
        let mut rig = Rig::with(origin, DISK, "cache slice=\"64KiB\"");
        is_whole(&rig.ask(""), &file);
        assert!(rig.proxy.stop().success());
        rig.proxy.start_again();
        let recovered = || {
            let metrics = rig.proxy.metrics();
            metrics.contains("narthex_cache_disk_recovered 1")
        };
        assert!(eventually(PATIENCE, recovered));
        rig.origin.take();
        for _ in 0..2 {
            let r = rig.range(&format!("10-{}", S + 9));
            is_part(&r, &file, 10, S + 9);
        }
        is_whole(&rig.ask(""), &file);
        let seen = rig.origin.take();
        if asked == 0 {
            assert!(seen.is_empty(), "{seen:?}");
        }
        // Never anything but a question about what is there.
        assert!(seen.len() >= asked, "{seen:?}");
        for seen in seen {
            let tag = format!("\"{}\"", file.seed);
            assert_eq!(seen.field("if-none-match"), Some(tag.as_str()));
        }
    }
}
