//! `store-compressed`: one gzip answer for all clients, decoded for those that do not take it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use narthex_e2e::kit::attack::{Framing, Response, Why};
use narthex_e2e::kit::cached::{FRESH, ask, is_hit, rig, status};
use narthex_e2e::kit::craft::{get, post, request};
use narthex_e2e::kit::origin::{Step, answer};
use narthex_e2e::kit::rig::Rig;

const RULE: &str = "cache store-compressed=#true";
const GZIP: &str = "Accept-Encoding: gzip, br\r\n";

/// Some lines that compress well, and tell where they are.
fn text(lines: usize) -> Vec<u8> {
    (0..lines)
        .flat_map(|n| format!("line {n} of a page that says much the same\n").into_bytes())
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An answer with this coding.
fn coded(coding: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let coding = if coding.is_empty() {
        String::new()
    } else {
        format!("Content-Encoding: {coding}\r\n")
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{coding}{FRESH}{fields}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn field(r: &Response, name: &str) -> String {
    r.fields.get(name).unwrap_or_default()
}

#[test]
fn one_answer_for_all_clients() {
    let plain = text(2_000);
    for first in ["", GZIP] {
        let rig = rig(RULE);
        let packed = gzip(&plain);
        let fields = "ETag: \"v1\"\r\nVary: Accept-Encoding\r\nAccept-Ranges: bytes\r\n";
        rig.origin.on("/a", answer(coded("gzip", fields, &packed)));
        ask(&rig, "/a", first);
        let seen = rig.one();
        assert_eq!(seen.header("accept-encoding").as_deref(), Some("gzip"));
        for accepts in [
            GZIP,
            "Accept-Encoding: gzip\r\n",
            "Accept-Encoding: zstd, br, GZip;q=0.1\r\n",
            "Accept-Encoding: *\r\n",
        ] {
            let r = ask(&rig, "/a", accepts);
            assert!(is_hit(&r), "{accepts}: {}", status(&r));
            assert_eq!(field(&r, "content-encoding"), "gzip");
            assert_eq!(field(&r, "etag"), "\"v1\"");
            assert_eq!(r.framing, Framing::Length(packed.len() as u64));
            assert_eq!(r.body, packed, "{accepts}");
        }
        for accepts in [
            "",
            "Accept-Encoding: br\r\n",
            "Accept-Encoding: identity\r\n",
            "Accept-Encoding: gzip;q=0\r\n",
            "Accept-Encoding: gzip;q=0, *\r\n",
        ] {
            let r = ask(&rig, "/a", accepts);
            assert!(is_hit(&r), "{accepts}: {}", status(&r));
            assert!(!r.fields.has("content-encoding"), "{accepts}");
            assert!(!r.fields.has("accept-ranges"), "{accepts}");
            assert_eq!(field(&r, "etag"), "W/\"v1\"", "{accepts}");
            assert_eq!(field(&r, "vary").to_lowercase(), "accept-encoding");
            assert_eq!(r.framing, Framing::Chunked);
            assert_eq!(r.body, plain, "{accepts}");
        }
        assert!(rig.origin.take(0).is_empty(), "asked again");
    }
}

#[test]
fn what_is_not_coded_stays_as_it_is() {
    let rig = rig(RULE);
    rig.origin.on("/a", answer(coded("", "", b"plain")));
    for accepts in ["", GZIP] {
        for _ in 0..2 {
            let r = ask(&rig, "/a", accepts);
            assert_eq!(r.text(), "plain");
            assert_eq!(r.framing, Framing::Length(5));
            assert!(!r.fields.has("vary"));
        }
    }
    assert_eq!(rig.origin.take(1).len(), 1);
}

#[test]
fn an_origin_that_forgets_vary_is_corrected() {
    let rig = rig(RULE);
    rig.origin.on("/a", answer(coded("gzip", "", &gzip(b"x"))));
    ask(&rig, "/a", GZIP);
    for accepts in ["", GZIP] {
        let r = ask(&rig, "/a", accepts);
        assert!(is_hit(&r));
        assert_eq!(field(&r, "vary"), "Accept-Encoding");
    }
}

#[test]
fn conditions_and_ranges() {
    let rig = rig(RULE);
    let (plain, packed) = (text(500), gzip(&text(500)));
    let fields = "ETag: \"v1\"\r\nVary: Accept-Encoding\r\n";
    rig.origin.on("/a", answer(coded("gzip", fields, &packed)));
    ask(&rig, "/a", GZIP);
    for (accepts, tag) in [
        ("", "W/\"v1\""),
        ("", "\"v1\""),
        (GZIP, "\"v1\""),
        (GZIP, "W/\"v1\""),
    ] {
        let r = ask(&rig, "/a", &format!("{accepts}If-None-Match: {tag}\r\n"));
        assert_eq!((r.status, r.body_len), (304, 0), "{accepts}{tag}");
        let own = if accepts.is_empty() {
            "W/\"v1\""
        } else {
            "\"v1\""
        };
        assert_eq!(field(&r, "etag"), own);
    }
    // A range of what has no length is the whole; one of the coded bytes is one of them.
    let r = ask(&rig, "/a", "Range: bytes=0-9\r\n");
    assert_eq!((r.status, r.body), (200, plain));
    let r = ask(&rig, "/a", &format!("{GZIP}Range: bytes=0-9\r\n"));
    assert_eq!((r.status, r.body.as_slice()), (206, &packed[..10]));
    let r = ask(&rig, "/a", "If-Range: \"v1\"\r\nRange: bytes=0-9\r\n");
    assert_eq!(r.status, 200);
    assert_eq!(rig.origin.take(1).len(), 1);
}

#[test]
fn heads_and_old_versions() {
    let rig = rig(RULE);
    let plain = text(300);
    rig.origin.on(
        "/a",
        answer(coded("gzip", "ETag: \"v1\"\r\n", &gzip(&plain))),
    );
    ask(&rig, "/a", GZIP);
    let mut client = rig.connect();
    let head = client.ask(request("HEAD", "/a", "", ""));
    assert_eq!((head.status, head.body_len), (200, 0));
    assert!(!head.fields.has("content-encoding"));
    assert!(!head.fields.has("content-length"));
    // The connection is still in step.
    assert_eq!(client.ask(get("/a", "")).body, plain);
    let old = rig.connect().ask("GET /a HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((old.framing, old.body), (Framing::Close, plain.clone()));
    let url = format!("http://{}/a", rig.proxy.addr());
    let mut curl = Command::new("curl");
    let out = curl
        .args(["--silent", "--fail", "--http2-prior-knowledge"])
        .args(["--header", "Host: a", &url])
        .output()
        .expect("curl");
    assert!(out.status.success(), "{out:?}");
    assert_eq!(out.stdout, plain);
    assert_eq!(rig.origin.take(1).len(), 1);
}

#[test]
fn it_is_decoded_while_it_comes() {
    let rig = rig(RULE);
    let plain = text(20_000);
    let packed = gzip(&plain);
    let (now, later) = packed.split_at(packed.len() / 2);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n{FRESH}Content-Length: {}\r\n\r\n",
        packed.len()
    );
    rig.origin.on(
        "/a",
        vec![
            Step::Send([head.as_bytes(), now].concat()),
            Step::Gate("rest".into()),
            Step::Send(later.to_vec()),
        ],
    );
    let mut client = rig.connect();
    client.send(get("/a", ""));
    // Of the first half something is there before the second has come.
    client.read_past(b"line 100 of");
    rig.origin.open("rest");
    let (rest, _) = {
        client.half_close();
        client.rest()
    };
    assert!(rest.ends_with(b"0\r\n\r\n"));
    assert_eq!(ask(&rig, "/a", "").body, plain);
    assert_eq!(rig.origin.take(1).len(), 1);
}

#[test]
fn what_cannot_be_decoded_does_not_look_whole() {
    let plain = text(2_000);
    let good = gzip(&plain);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let half = good[..middle].to_vec();
    let trailing = [&good[..], b"junk"].concat();
    for (name, body) in [
        ("flipped", flipped),
        ("half", half),
        ("trailing", trailing),
        ("none", b"not gzip at all".to_vec()),
    ] {
        let rig = rig(RULE);
        rig.origin.on("/a", answer(coded("gzip", "", &body)));
        ask(&rig, "/a", GZIP);
        let mut client = rig.connect();
        client.send(get("/a", ""));
        let fault = client.read_response("GET").expect_err(name);
        assert!(
            matches!(fault.why, Why::BodyCut | Why::Reset),
            "{name}: {fault:?}"
        );
        // Who takes it as it is decodes it.
        assert_eq!(ask(&rig, "/a", GZIP).body, body, "{name}");
        rig.alive();
    }
    let two = [gzip(b"one "), gzip(b"two")].concat();
    let rig = rig(RULE);
    rig.origin.on("/a", answer(coded("gzip", "", &two)));
    ask(&rig, "/a", GZIP);
    assert_eq!(ask(&rig, "/a", "").text(), "one two");
    // Nothing at all is nothing, in whatever coding it says it is.
    rig.origin.on("/nothing", answer(coded("gzip", "", b"")));
    ask(&rig, "/nothing", GZIP);
    let r = ask(&rig, "/nothing", "");
    assert!(is_hit(&r), "{}", status(&r));
    assert_eq!((r.status, r.framing), (200, Framing::Length(0)));
    rig.origin
        .on("/empty", answer(coded("gzip", "", &gzip(b""))));
    ask(&rig, "/empty", GZIP);
    assert_eq!(ask(&rig, "/empty", "").text(), "");
}

#[test]
fn what_expands_a_thousandfold_takes_no_memory() {
    let rig = Rig::of("", "cache store-compressed=#true\nproxy \"u\"");
    let megabytes = 64u64;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..megabytes {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 100_000);
    rig.origin.on("/a", answer(coded("gzip", "", &bomb)));
    ask(&rig, "/a", GZIP);
    let before = narthex_e2e::kit::h2::cost::rss_kib(rig.proxy.pid());
    let r = ask(&rig, "/a", "");
    assert_eq!(r.body_len, megabytes << 20);
    let after = narthex_e2e::kit::h2::cost::rss_kib(rig.proxy.pid());
    assert!(
        after < before + 16 * 1024,
        "from {before} to {after} KiB for {megabytes} MiB"
    );
}

#[test]
fn what_may_not_be_decoded_or_is_coded_otherwise_is_asked_for() {
    let rig = rig(RULE);
    for (path, coding, fields) in [
        ("/kept", "gzip", "Cache-Control: no-transform\r\n"),
        ("/br", "br", ""),
        ("/two", "gzip, br", ""),
    ] {
        rig.origin
            .on(path, answer(coded(coding, fields, b"as it is")));
        ask(&rig, path, GZIP);
        let r = ask(&rig, path, "Accept-Encoding: zstd\r\n");
        assert!(!is_hit(&r), "{path}: {}", status(&r));
        assert_eq!(r.text(), "as it is");
        let seen = rig.origin.take(2);
        assert_eq!(seen.len(), 2, "{path}");
        // That one is for itself: what it takes is what the origin is told.
        assert_eq!(
            seen[1].header("accept-encoding").as_deref(),
            Some("zstd"),
            "{path}"
        );
    }
}

#[test]
fn other_methods_say_what_the_client_says() {
    let rig = rig(RULE);
    rig.origin.on("/a", answer(coded("", "", b"x")));
    rig.connect()
        .ask(post("Accept-Encoding: br\r\n", "body").replace("/ HTTP", "/a HTTP"));
    let seen = rig.one();
    assert_eq!(seen.header("accept-encoding").as_deref(), Some("br"));
}
