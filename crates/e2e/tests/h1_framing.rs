//! HTTP/1 framing: where a message ends must have one reading only (classes H1-01 to H1-13).
//!
//! Every row is judged three times: the answers the client gets, the connection that must close after a rejection, and
//! the requests that reach the origin, which must be exactly those that the reference parser predicts.
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

use narthex_e2e::kit::craft::{EVIL, cases, chunked, get, post, request, sized};
use narthex_e2e::kit::origin::{Personality, Step};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::table::{Table, fresh_id};

/// CL.TE: CVE-2020-1944 (ATS), CVE-2020-35863 (hyper).
#[test]
fn h1_01_cl_te() {
    for personality in [
        Personality::Strict,
        Personality::LenientLf,
        Personality::ClFirst,
    ] {
        let rig = Rig::with_personality(personality);
        let mut t = Table::new(&rig);
        for te in cases("Transfer-Encoding") {
            for cl in cases("Content-Length") {
                t.reject(post(&format!("{cl}: 6\r\n{te}: chunked\r\n"), "0\r\n\r\nG"));
                t.reject(post(&format!("{te}: chunked\r\n{cl}: 6\r\n"), "0\r\n\r\nG"));
            }
        }
        t.reject(post(
            "Content-Length: 5\r\nX: y\r\nTransfer-Encoding: chunked\r\n",
            &format!("0\r\n\r\n{EVIL}"),
        ));
        t.reject(
            get("/", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + EVIL,
        );
        t.finish();
    }
}

/// TE.CL, the reverse.
#[test]
fn h1_02_te_cl() {
    let rig = Rig::with_personality(Personality::ClFirst);
    let mut t = Table::new(&rig);
    let nested = "5c\r\nGPOST / HTTP/1.1\r\nContent-Length: 15\r\n\r\nx=1\r\n0\r\n\r\n";
    for method in ["POST", "GET", "OPTIONS", "DELETE", "PUT", "FOO"] {
        t.reject(request(
            method,
            "/",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            nested,
        ));
        t.reject(request(
            method,
            "/",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            nested,
        ));
        t.reject(request(
            method,
            "/",
            "Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
            nested,
        ));
        t.reject(request(
            method,
            "/",
            "Transfer-Encoding: \r\nContent-Length: 4\r\n",
            nested,
        ));
    }
    t.finish();
}

/// TE.TE: CVE-2019-18277 (HAProxy, `\x0bchunked`), CVE-2021-21299 and CVE-2021-32714 (hyper), CVE-2026-2835 (Pingora).
#[test]
fn h1_03_te_te() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for value in [
        "xchunked",
        "chunked,identity",
        "identity, chunked",
        ",chunked",
        "chunked,",
        "chunked, chunked",
        "chunked chunked",
        "\"chunked\"",
        "'chunked'",
        "chunked;q=1",
        "chunked;",
        "",
        " ",
        "\t",
        "identity",
        "gzip",
        "gzip, chunked",
        "deflate",
        "chunked\x0b",
        "\x0bchunked",
        "\x0cchunked",
        "chunked\x0c",
        "chun\x0bked",
        "chunked\x00",
        "\x00chunked",
        "chunked\u{85}",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "chunkеd",
        "chunked\r",
        "\rchunked",
        "chunke",
        "hunked",
        "c hunked",
        "chunked\x7f",
        "chunked\x08",
        "chunked\x1b",
        "chunked/1",
        "=chunked",
        "chunked=",
        "x=chunked",
        "chunked, identity",
        "cow, chunked",
        "chunked, cow",
        "chunked\tidentity",
        "chunked\\",
        "\\chunked",
        "chunked%20",
        "(chunked)",
        "chunked#",
    ] {
        t.reject(post(
            &format!("Transfer-Encoding: {value}\r\n"),
            &format!("0\r\n\r\n{EVIL}"),
        ));
        t.reject(post(
            &format!("Transfer-Encoding:{value}\r\nContent-Length: 5\r\n"),
            &format!("0\r\n\r\n{EVIL}"),
        ));
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nX: y\r\nTransfer-Encoding: cow\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "Transfer-Encoding\r\n : chunked\r\n",
        "Transfer-Encoding :chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\n\rTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\n chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding:\r\n\tchunked\r\n",
        "Transfer-Encoding:\x00chunked\r\n",
        "Transfer\u{a0}Encoding: chunked\r\n",
        "\x00Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding\x00: chunked\r\n",
    ] {
        t.reject(post(lines, &format!("0\r\n\r\n{EVIL}")));
    }
    for right in [
        "chunked",
        "Chunked",
        "CHUNKED",
        " \t chunked \t ",
        "cHuNkEd",
    ] {
        t.accept(post(
            &format!("Transfer-Encoding:{right}\r\n"),
            "3\r\nabc\r\n0\r\n\r\n",
        ));
    }
    t.finish();
}

/// Names that merely resemble `Transfer-Encoding`: they are other fields, and never framing.
#[test]
fn h1_03_names_that_resemble_it() {
    let rig = Rig::with_personality(Personality::LenientLf);
    let mut t = Table::new(&rig);
    for name in [
        "Transfer_Encoding",
        "TransferEncoding",
        "X-Transfer-Encoding",
        "Transfer-Encoding-X",
        "Transfer.Encoding",
    ] {
        t.judge(post(
            &format!("{name}: chunked\r\nContent-Length: 5\r\n"),
            "0\r\n\r\n",
        ));
        t.judge(post(&format!("{name}: chunked\r\n"), EVIL));
    }
    t.finish();
}

/// CVE-2026-2835 (Pingora).
#[test]
fn h1_04_te_in_http_1_0() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for connection in ["", "Connection: keep-alive\r\n", "Connection: close\r\n"] {
        for te in cases("Transfer-Encoding") {
            for cl in ["", "Content-Length: 5\r\n"] {
                t.reject(format!(
                    "POST / HTTP/1.0\r\nHost: a\r\n{connection}{cl}{te}: chunked\r\n\r\n0\r\n\r\n{EVIL}"
                ));
            }
        }
    }
    t.accept("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    t.accept(format!(
        "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi{EVIL}"
    ));
    t.accept("POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi");
    t.finish();
}

/// CVE-2021-32715 (hyper, `+`), CVE-2023-40225 (HAProxy, an empty first line).
#[test]
fn h1_05_content_length_forms() {
    let rig = Rig::with_personality(Personality::ClFirst);
    let mut t = Table::new(&rig);
    for value in [
        "+5",
        "-5",
        "-0",
        "+0",
        "0x5",
        "0X5",
        "5h",
        "h5",
        "5,5",
        "5, 5",
        "5, 6",
        "5,",
        ",5",
        "5;",
        "5 5",
        "5\t5",
        "1_0",
        "5.0",
        "5e0",
        "",
        " ",
        "\t",
        "18446744073709551616",
        "18446744073709551617",
        "18446744073709551621",
        "9223372036854775808",
        "99999999999999999999999999",
        "٥",
        "５",
        "5\x00",
        "\x005",
        "5\x0b",
        "5\r",
        "\"5\"",
        "'5'",
        "(5)",
        "5%",
        "%35",
        "five",
        "0b101",
        "0o5",
        "NaN",
        "Infinity",
        "5\u{a0}",
        "\u{85}5",
        "- 5",
        "+ 5",
        "5-",
        "5+",
    ] {
        for name in ["Content-Length", "content-length"] {
            t.reject(post(
                &format!("{name}: {value}\r\n"),
                &format!("abcde{EVIL}"),
            ));
        }
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 44\r\n",
        "Content-Length: 44\r\nContent-Length: 0\r\n",
        "Content-Length:\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
        "Content-Length: 5\r\ncontent-length: 5\r\n",
        "Content-Length: 5\r\nX: y\r\nCONTENT-LENGTH: 6\r\n",
        "Content-Length: 5\r\nContent-Length: chunked\r\n",
    ] {
        t.reject(post(lines, &format!("abcde{EVIL}")));
    }
    for (value, body) in [
        ("0", ""),
        ("5", "abcde"),
        ("05", "abcde"),
        ("00000000000000000005", "abcde"),
        (" \t5\t ", "abcde"),
    ] {
        t.accept(post(&format!("Content-Length:{value}\r\n"), body) + &get("/next", ""));
    }
    t.finish();
}

/// CL.0: an origin that answers without reading the body must not have its connection used for anybody else.
/// CVE-2020-35863 (hyper).
#[test]
fn h1_06_cl_0() {
    let rig = Rig::plain();
    rig.origin
        .on("/static", [Step::Echo(200), Step::IgnoreBody]);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\nX-Id: hidden\r\n\r\n";
    // Methods whose bodies servers overlook. An origin that answers a POST without reading its body cannot be told from one
    // that has read it: see docs/decisions/2026-11-21-bodies-that-may-be-overlooked.md.
    for method in ["GET", "DELETE", "OPTIONS", "HEAD"] {
        for body in ["by length", "chunked"] {
            let id = fresh_id();
            let (fields, body) = match body {
                "by length" => (
                    format!("Content-Length: {}\r\n", hidden.len()),
                    hidden.to_owned(),
                ),
                _ => (
                    "Transfer-Encoding: chunked\r\n".to_owned(),
                    format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
                ),
            };
            let mut attacker = rig.connect();
            attacker.send(format!(
                "{method} /static HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n{fields}\r\n{body}"
            ));
            let first = attacker.read_response(method).unwrap();
            assert_eq!(first.fields.get("x-id"), Some(id), "{method}");
            // The victims' answers must be their own, on whatever upstream connection.
            for _ in 0..4 {
                rig.alive();
            }
            attacker.send(get("/again", "Connection: close\r\n"));
            for r in attacker.read_all(&[]).responses {
                assert_ne!(
                    r.fields.get("x-id").as_deref(),
                    Some("hidden"),
                    "{method}: the hidden request was answered"
                );
            }
        }
    }
    // On one connection the hidden request may have been read by the origin; what matters is that nobody got its answer
    // and that nothing was sent on that connection after it.
    let seen = rig.origin.seen();
    for hidden in seen.iter().filter(|s| s.path() == "/hidden") {
        let later = seen
            .iter()
            .any(|s| s.conn == hidden.conn && s.seq > hidden.seq);
        assert!(
            !later,
            "a connection was used again after an origin answered without reading the body"
        );
    }
}

/// 0.CL: a length in an odd spelling is refused, never ignored.
#[test]
fn h1_07_0_cl() {
    let rig = Rig::with_personality(Personality::LenientLf);
    rig.origin.on("/con", [Step::Echo(200), Step::IgnoreBody]);
    let mut t = Table::new(&rig);
    for line in [
        " Content-Length: 23",
        "\tContent-Length: 23",
        "Content-Length\t: 23",
        "Content-Length : 23",
        "Content-Length:\n 23",
        "Content-Length:\r\n 23",
        "Content-Length:\r23",
        "Content-Length\r\n: 23",
        "X: y\r\n Content-Length: 23",
        "Content-Length: \x0b23",
        "Content-Length: \u{a0}23",
        "Content-Length\x00: 23",
        "\x00Content-Length: 23",
        "Content Length: 23",
    ] {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            t.reject(request(method, "/con", &format!("{line}\r\n"), EVIL));
        }
    }
    for method in ["GET", "POST", "DELETE", "OPTIONS", "PATCH"] {
        t.accept(request(method, "/body", "Content-Length: 3\r\n", "abc"));
    }
    t.finish();
}

/// TE.0: a body that was announced reaches the origin with a framing of its own.
#[test]
fn h1_08_te_0() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for method in [
        "OPTIONS", "GET", "HEAD", "DELETE", "POST", "PUT", "PATCH", "PROPFIND", "FOO",
    ] {
        let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
        t.accept(request(
            method,
            "/te0",
            "Transfer-Encoding: chunked\r\n",
            &chunk,
        ));
        t.accept(request(
            method,
            "/te0",
            "Transfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ));
    }
    t.finish();
}

/// CVE-2013-2028 (nginx), CVE-2017-12425 (Varnish), RUSTSEC-2021-0079 (hyper).
#[test]
fn h1_09_chunk_size() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for size in [
        "0x5",
        "0X5",
        "+5",
        "-5",
        " 5",
        "5 ",
        "\t5",
        "5\t",
        "5_0",
        "",
        "5\r",
        "5\r\r",
        "g",
        "5g",
        "5.0",
        "5,5",
        "%35",
        "\"5\"",
        "٥",
        "FFFFFFFFFFFFFFFF0",
        "100000000000000005",
        "10000000000000005",
        "ffffffffffffffff",
        "fffffffffffffffe",
        "8000000000000000",
        "00000000000000005",
        "000000000000000000000005",
        "5\x00",
        "\x005",
        "5\x0b",
        "5h",
        "5;\n",
        "-0",
        "+0",
        "0x0",
        "0x",
    ] {
        t.reject(chunked(
            format!("{size}\r\nhello\r\n0\r\n\r\n{EVIL}").as_bytes(),
        ));
        t.reject(chunked(
            format!("1\r\nx\r\n{size}\r\nhello\r\n0\r\n\r\n{EVIL}").as_bytes(),
        ));
    }
    // In place of the last chunk.
    for last in ["-0", "+0", "0x0", " 0", "0 ", "00000000000000000"] {
        t.reject(chunked(
            format!("5\r\nhello\r\n{last}\r\n\r\n{EVIL}").as_bytes(),
        ));
    }
    for size in ["5", "05", "0000000000000005"] {
        t.accept(chunked(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes()));
    }
    t.accept(chunked(
        b"a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n",
    ));
    t.finish();
}

/// TERM.EXT and EXT.TERM: CVE-2025-55315 (Kestrel), CVE-2024-53868 and CVE-2025-65114 (ATS), CVE-2026-24880 (Tomcat).
#[test]
fn h1_10_chunk_extension() {
    let rig = Rig::with_personality(Personality::LenientLf);
    let mut t = Table::new(&rig);
    for line in [
        "5;\n",
        "5;a\n",
        "5;a\r",
        "5;a\rX",
        "5;a=\"\n\"",
        "5;a=\"\r\"",
        "5;",
        "5;=x",
        "5;a=",
        "5;;a",
        "5;a;;b",
        "5;a=\"x",
        "5;a=x\"",
        "5;a b",
        "5;a=b c",
        "5;\x00",
        "5;a\x00",
        "5;a\x01",
        "5;a=\x7f",
        "5;a=\"\x00\"",
        "5;a=\"\x1b\"",
        "5 ;a",
        "5\t;a",
        "5;(a)",
        "5:a",
        "5,a",
        "5 a",
        "5;a=b=c",
        "5;\u{85}",
        "5;a=\"b\"c",
    ] {
        t.reject(chunked(
            format!("{line}\r\nhello\r\n0\r\n\r\n{EVIL}").as_bytes(),
        ));
        t.reject(chunked(
            format!(
                "5\r\nhello\r\n0{}\r\n\r\n{EVIL}",
                line.trim_start_matches('5')
            )
            .as_bytes(),
        ));
    }
    t.reject(chunked(
        format!("2;\nxx\r\n10\r\n\r\nf\r\n0\r\n\r\n{EVIL}").as_bytes(),
    ));
    for line in [
        "5;a",
        "5;a=b",
        "5;a=\"b\"",
        "5;a=\"b\\\"c\"",
        "5;a;b=c;d=\"e;f\"",
        "5;a=\"\"",
    ] {
        t.accept(chunked(format!("{line}\r\nhello\r\n0\r\n\r\n").as_bytes()));
        t.accept(chunked(
            format!("5\r\nhello\r\n0{}\r\n\r\n", line.trim_start_matches('5')).as_bytes(),
        ));
    }
    t.finish();
    for c in rig.origin.conns() {
        let raw = String::from_utf8_lossy(&c.raw).into_owned();
        assert!(
            !raw.contains(";a"),
            "a chunk extension reached the origin: {raw}"
        );
    }
}

/// TERM.SPILL and SPILL.TERM: CVE-2025-47905 (Varnish, VSV16).
#[test]
fn h1_11_chunk_terminator() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for end in [
        "XX", "\n", "\r", "!!", "", "\n\n", "\r\r\n", "\n\r", " \r\n", "\0\0", "0", "\r\x0b",
        "XXXX", "\rX", "X\r\n",
    ] {
        t.reject(chunked(
            format!("5\r\nhello{end}0\r\n\r\n{EVIL}").as_bytes(),
        ));
    }
    for end in ["\n", "\r\r\n", "X\r\n", "\n\r\n"] {
        t.reject(chunked(
            format!("5\r\nhello\r\n0\r\n{end}{EVIL}").as_bytes(),
        ));
    }
    for line in ["5\n", "5\r", "5\r\r\n", "5\n\r"] {
        t.reject(chunked(
            format!("{line}hello\r\n0\r\n\r\n{EVIL}").as_bytes(),
        ));
    }
    t.finish();
}

/// CVE-2023-39326 (Go): much extension, little body.
#[test]
fn h1_12_chunk_extension_amplification() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    t.reject(chunked(
        format!("5;a={}\r\nhello\r\n0\r\n\r\n{EVIL}", "x".repeat(64 << 10)).as_bytes(),
    ));
    t.reject(chunked(
        format!("5;a={}\r\nhello\r\n0\r\n\r\n{EVIL}", "x".repeat(400)).as_bytes(),
    ));
    t.finish();
    // 1-byte chunks, each with 200 bytes of extension: refused long before the sender is done.
    let mut c = rig.connect();
    c.send(post("Transfer-Encoding: chunked\r\n", ""));
    let block = format!("1;a={}\r\nx\r\n", "y".repeat(197)).repeat(100);
    let sent = (0..5000).take_while(|_| c.send(&block)).count();
    assert!(sent < 5000, "100 MB of chunk extensions were swallowed");
    let seen = rig.origin.seen();
    assert!(
        seen.iter().all(|s| s.body_len < 1000),
        "the body was cut early"
    );
    rig.alive();
}

/// CVE-2024-35161 (ATS), CVE-2026-40898 (quic-go).
#[test]
fn h1_13_trailer_section() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for line in [
        "Content-Length: 50",
        "content-length: 0",
        "Host: evil",
        "HOST: a",
        "Transfer-Encoding: chunked",
        "transfer-encoding: x",
        "Authorization: Basic x",
        "Cookie: a=b",
        "Cache-Control: no-store",
        "Connection: close",
        "Expect: 100-continue",
        "Trailer: x",
        "TE: trailers",
        "Upgrade: h2c",
        "Range: bytes=0-1",
        "If-Match: *",
        "If-None-Match: *",
        "Content-Encoding: gzip",
        "Content-Type: a/b",
        "a: b\n",
        "a: b\r",
        "a\r\n b",
        " a: b",
        ": x",
        "a",
        "a b: c",
        "a : b",
        "a: \x00",
        "a: \x01",
        "\u{85}a: b",
        "a: b\nContent-Length: 3",
    ] {
        t.reject(chunked(
            format!("3\r\nabc\r\n0\r\n{line}\r\n\r\n{EVIL}").as_bytes(),
        ));
    }
    t.reject(chunked(
        format!("3\r\nabc\r\n0\r\nT: {}\r\n\r\n{EVIL}", "x".repeat(9000)).as_bytes(),
    ));
    t.reject(chunked(
        format!("3\r\nabc\r\n0\r\n{}\r\n{EVIL}", "T: x\r\n".repeat(40)).as_bytes(),
    ));
    for line in ["X-Sum: 1", "X-Sum: 1\r\nX-Other: 2", "X-Empty:"] {
        t.accept(chunked(
            format!("3\r\nabc\r\n0\r\n{line}\r\n\r\n").as_bytes(),
        ));
    }
    t.finish();
    // Endless trailers end by themselves.
    let mut c = rig.connect();
    c.send(chunked(b"3\r\nabc\r\n0\r\n"));
    let block = "T: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(1000);
    assert!(
        (0..1000).take_while(|_| c.send(&block)).count() < 1000,
        "endless trailers were swallowed"
    );
    rig.alive();
}

/// A declared body is consumed exactly, whatever is in it, and what follows is the next request.
#[test]
fn bodies_end_where_they_say() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for method in ["GET", "POST", "DELETE", "OPTIONS", "PUT", "HEAD"] {
        let fields = format!("Content-Length: {}\r\n", EVIL.len());
        t.accept(request(method, "/x", &fields, EVIL) + &get("/y", "") + &sized("/z", "", "zzz"));
        t.accept(request(method, "/x", "Content-Length: 0\r\n", "") + &get("/y", ""));
    }
    // A byte after the body belongs to the next request line.
    t.accept(request("POST", "/x", "Content-Length: 0\r\n", "X") + &get("/y", ""));
    t.finish();
}
