//! The head: request line, field lines, `Host` (classes H1-14 to H1-23).
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

use narthex_e2e::kit::craft::{EVIL, bare, cases, get, post, request};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::table::{Table, exchange};

/// GHSA-5423 (Traefik, Go, CVE-2025-22871).
#[test]
fn h1_14_bare_lf_and_bare_cr() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for s in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "GET / HTTP/1.1\rHost: a\r\r",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \na\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
        "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\n HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\r / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        t.reject(format!("{s}{EVIL}"));
        // The same behind an accepted request.
        t.reject(format!("{}{s}{EVIL}", get("/first", "")));
    }
    t.accept("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    t.accept(get("/a", "") + "\r\n" + &get("/b", ""));
    t.finish();
}

/// CVE-2019-16869 (Netty), CVE-2023-40518 (OpenLiteSpeed).
#[test]
fn h1_15_whitespace_before_the_colon() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "X-Any",
        "Connection",
    ] {
        let value = match name {
            "Content-Length" => "5",
            "Transfer-Encoding" => "chunked",
            _ => "a",
        };
        for spelled in cases(name) {
            for gap in [" ", "\t", "  ", " \t", "\x0b", "\x0c", "\u{a0}"] {
                t.reject(post(&format!("{spelled}{gap}: {value}\r\n"), EVIL));
            }
        }
        let (left, right) = name.split_at(3);
        for gap in [" ", "\t", "\r", "\x00", "\u{ad}"] {
            t.reject(post(&format!("{left}{gap}{right}: {value}\r\n"), EVIL));
        }
    }
    t.finish();
}

#[test]
fn h1_16_obs_fold_and_leading_whitespace() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for ws in [" ", "\t", "  ", " \t "] {
        t.reject(post(
            &format!("X: a\r\n{ws}Transfer-Encoding: chunked\r\n"),
            EVIL,
        ));
        t.reject(post(&format!("X: a\r\n{ws}b\r\n"), EVIL));
        t.reject(post(&format!("X: a\r\n{ws}\r\n"), EVIL));
        t.reject(bare(
            "GET / HTTP/1.1",
            &format!("{ws}Content-Length: 1\r\nHost: a\r\n"),
            EVIL,
        ));
        t.reject(bare("GET / HTTP/1.1", &format!("{ws}Host: a\r\n"), EVIL));
        t.reject(bare(
            "GET / HTTP/1.1",
            &format!("{ws}\r\nHost: a\r\n"),
            EVIL,
        ));
        t.reject(format!("{ws}GET / HTTP/1.1\r\nHost: a\r\n\r\n{EVIL}"));
        t.reject(format!("GET / HTTP/1.1\r\nHost: a\r\n{ws}\r\n\r\n{EVIL}"));
    }
    t.finish();
}

/// CVE-2023-25725 (HAProxy): an empty name hid the fields after it.
#[test]
fn h1_17_illegal_field_names() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for line in [
        ": x", ":", "Foo", "(x): y", "a,b: c", "a;b: c", "a=b: c", "a@b: c", "a\"b: c", "a/b: c",
        "a[b: c", "a]b: c", "a{b: c", "a}b: c", "a<b: c", "a>b: c", "a?b: c", "a\\b: c", "é: c",
    ] {
        t.reject(post(&format!("{line}\r\nContent-Length: 0\r\n"), EVIL));
        t.reject(post(&format!("Content-Length: 0\r\n{line}\r\n"), EVIL));
    }
    for b in (0..=255_u8).filter(|b| !b.is_ascii_graphic()) {
        let head = [
            b"GET / HTTP/1.1\r\nHost: a\r\nX",
            &[b][..],
            b"Y: z\r\n\r\n",
            EVIL.as_bytes(),
        ]
        .concat();
        t.reject(head);
    }
    t.accept(get("/", "!#$%&'*+-.^`|~09azAZ: ok\r\n"));
    t.finish();
}

/// CVE-2019-9900 (Envoy).
#[test]
fn h1_18_control_bytes_in_values() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for b in (0..0x20_u8).chain([0x7f]).filter(|b| *b != b'\t') {
        for (before, after) in [
            (&b"X: a"[..], &b"b"[..]),
            (b"X: ", b""),
            (b"X: a", b""),
            (b"X:", b"a"),
            (b"Content-Length: 0", b""),
        ] {
            let line = [before, &[b], after].concat();
            t.reject(
                [
                    b"GET / HTTP/1.1\r\nHost: a\r\n",
                    line.as_slice(),
                    b"\r\n\r\n",
                    EVIL.as_bytes(),
                ]
                .concat(),
            );
        }
        t.reject(
            [
                b"GET / HTTP/1.1\r\nHost: good",
                &[b][..],
                b".evil\r\n\r\n",
                EVIL.as_bytes(),
            ]
            .concat(),
        );
    }
    t.accept(get(
        "/",
        "X: a\tb\r\nY: \"quoted\" (all) ~!@#$%^&*\r\nZ:\r\n",
    ));
    t.finish();
}

/// Bytes above 0x7F in a value are passed on unchanged.
#[test]
fn h1_18_obs_text_passes() {
    let rig = Rig::plain();
    let value: Vec<u8> = (0x80..=0xff).collect();
    rig.connect().ask(
        [
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Text: ",
            value.as_slice(),
            b"\r\n\r\n",
        ]
        .concat(),
    );
    assert_eq!(rig.one().fields.all("x-text"), vec![value.as_slice()]);
}

/// CVE-2021-40346 (HAProxy): a name whose length wrapped an 8-bit field.
#[test]
fn h1_19_long_names() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for n in [254, 255, 256, 257, 269, 270, 271, 512, 4096] {
        t.accept(get("/", &format!("X{}: y\r\n", "a".repeat(n - 1))));
        t.accept(post(
            &format!(
                "Content-Length0{}: 60\r\nContent-Length: 3\r\n",
                "a".repeat(n)
            ),
            "abc",
        ));
    }
    for n in [9000, 65_535, 65_536, 65_537, 131_072] {
        t.reject(get("/", &format!("X{}: y\r\n", "a".repeat(n))));
        t.reject(get("/", &format!("X: {}\r\n", "a".repeat(n))));
    }
    t.finish();
}

/// CVE-2025-30346 (Varnish), CVE-2019-18838 and CVE-2026-47220 (Envoy), CVE-2022-23632 (Traefik).
#[test]
fn h1_20_host() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    t.reject(bare("GET / HTTP/1.1", "", EVIL));
    t.reject(bare("GET / HTTP/1.1", "X: y\r\n", EVIL));
    for pair in [
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nX: y\r\nhost: a\r\n",
        "Host: a\r\nHOST:\r\n",
    ] {
        t.reject(bare("GET / HTTP/1.1", pair, EVIL));
        t.reject(bare("GET / HTTP/1.0", pair, EVIL));
    }
    for host in [
        "",
        " ",
        "a, b",
        "a,b",
        "a@b",
        "user:pw@a",
        "a:80:90",
        "a:99999",
        "a:65536",
        "a:-1",
        "a:+80",
        "a:x",
        "a:80x",
        "[::1",
        "::1",
        "[::1]x",
        "[::g]",
        "[]",
        "a b",
        "a\tb",
        "a/b",
        "/a",
        "a?b",
        "a#b",
        "a\\b",
        "a%41",
        "a%00",
        "a..b",
        ".a",
        "..",
        ".",
        "http://a",
        "a\"b",
        "a<b",
        "a\u{e9}",
        "[::1%eth0]",
        "a^b",
        "a`b",
        "a{b}",
        "a|b",
    ] {
        for name in ["Host", "host", "HOST"] {
            t.reject(bare("GET / HTTP/1.1", &format!("{name}: {host}\r\n"), EVIL));
        }
    }
    for host in [
        "a",
        "A.B.",
        "a.b:80",
        "a:0",
        "a:65535",
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "xn--mnchen-3ya.de",
        "a_b",
        "a-b.c",
    ] {
        t.accept(bare("GET / HTTP/1.1", &format!("Host: {host}\r\n"), ""));
    }
    t.accept("GET / HTTP/1.0\r\n\r\n");
    t.finish();
}

#[test]
fn h1_21_absolute_form_against_host() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for (target, host) in [
        ("http://x/", "y"),
        ("http://x/", "x.y"),
        ("http://x:81/", "x"),
        ("http://x/", "x:81"),
        // The other scheme's port.
        ("http://x:443/", "x"),
        ("http://x/", "x:443"),
        ("https://x:80/", "x"),
        ("https://x/", "x:80"),
        ("http://x?q#f", "x"),
        ("http://?q", "x"),
        ("http://a@x/", "x"),
        ("http://x/", "a"),
        ("http:///", "a"),
        ("http://", "a"),
        ("http:/a", "a"),
        ("http:a", "a"),
        ("ftp://a/", "a"),
        ("http://a b/", "a"),
        ("http://a,b/", "a"),
        ("//a", "b/"),
    ] {
        t.reject(bare(
            &format!("GET {target} HTTP/1.1"),
            &format!("Host: {host}\r\n"),
            EVIL,
        ));
    }
    t.reject(bare("GET http://x/ HTTP/1.1", "", EVIL));
    for (target, host) in [
        ("http://x/", "x"),
        ("http://x/p?q", "X"),
        ("HTTP://x/", "x"),
        ("http://x", "x"),
        // An empty path with a query (RFC 9110 4.2.1); nothing in a query is a path.
        ("http://x?q", "x"),
        ("HTTPS://X?q/../r", "x"),
        ("http://x?", "x"),
        // One authority in two spellings (RFC 9110 4.2.3).
        ("http://x:80/", "x"),
        ("http://x/", "x:80"),
        ("http://X:80/", "x."),
        ("http://x./", "X"),
        ("https://x:443/", "x"),
        ("https://x/", "x:443"),
        ("http://[::1]:80/", "[0::1]"),
    ] {
        t.accept(bare(
            &format!("GET {target} HTTP/1.1"),
            &format!("Host: {host}\r\n"),
            "",
        ));
    }
    t.finish();
    rig.origin.take(0);
    rig.connect()
        .ask("GET http://Example.com/p?q HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let seen = rig.one();
    assert_eq!(
        (seen.target.as_str(), seen.fields.all("host").len()),
        ("/p?q", 1)
    );
    assert!(
        seen.header("host")
            .unwrap()
            .eq_ignore_ascii_case("example.com")
    );
}

/// CVE-2023-45539 (HAProxy), CVE-2021-32779 (Envoy), CVE-2023-47106 (Traefik), CVE-2013-4547 (nginx).
#[test]
fn h1_22_request_target() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for target in [
        "/a#b",
        "/#",
        "/a?b#c",
        "a",
        "*",
        "?",
        "a:80",
        "host:80",
        "",
        "/a b",
        "/a\tb",
        "/\x01",
        "/\x7f",
        "/a\x00b",
        "/\\",
        "\\",
        "/a\\..\\b",
        "/%",
        "/%2",
        "/%zz",
        "/%00",
        "/%0a",
        "/%0d%0a",
        "/%7f",
        "/%5c",
        "/é",
        "*/",
        "/..",
        "/a/../../b",
        "/..;/a",
        "/a%2f..",
    ] {
        t.reject(bare(&format!("GET {target} HTTP/1.1"), "Host: a\r\n", EVIL));
    }
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET",
        "GET /",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        "G@T / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GÉT / HTTP/1.1",
        "\x16\x03\x01\x02",
        "GET\x00 / HTTP/1.1",
        "\"GET\" / HTTP/1.1",
    ] {
        t.reject(bare(line, "Host: a\r\n", EVIL));
    }
    for target in [
        "/",
        "//evil/x",
        "/a//b",
        "/a;b=c",
        "/%41",
        "/%2F",
        "/a?",
        "/?",
        "/a?b?c",
        "/a?%zz",
        "/:@!$&'()*+,;=-._~",
        "/a?http://x/",
    ] {
        t.accept(bare(&format!("GET {target} HTTP/1.1"), "Host: a\r\n", ""));
    }
    t.accept(request("OPTIONS", "*", "", ""));
    t.finish();
}

#[test]
fn h1_23_version() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    for version in [
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/2",
        "HTTP/3.0",
        "HTTP/0.9",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1,1",
        "HTTP/1.1x",
        "http/1.1",
        "Http/1.1",
        "HTTP 1.1",
        "HTTP/1.1.1",
        "HTTP/+1.1",
        "HTTPS/1.1",
        "ICY",
        "HTTP/",
        "H",
    ] {
        t.reject(format!("GET / {version}\r\nHost: a\r\n\r\n{EVIL}"));
    }
    t.reject("GET /\r\n");
    t.reject("GET /\r\n\r\n");
    // Not the beginning of HTTP/2, which is spoken here, too.
    t.reject("PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n");
    t.reject("PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n");
    t.accept("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    t.accept("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    t.finish();
    let r = exchange(&rig, "GET / HTTP/1.0\r\nHost: a\r\n\r\n", false);
    assert_eq!(
        r.responses.len(),
        1,
        "an HTTP/1.0 connection closes after its answer"
    );
}
