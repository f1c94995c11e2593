//! Answers of a faulty or hostile origin (class H1-32): refused or repaired, never passed on broken, and the connection
//! that brought them is never used again.
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

use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::origin::{Step, answer};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::show;

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Id: poison\r\n\r\npoison";

/// Sends each answer for `/m`, then closes; the client must get what `judge` accepts, the next victim its own answer.
fn matrix(rows: &[(&str, &[u16])]) {
    let rig = Rig::plain();
    let mut failures = Vec::new();
    for (bytes, want) in rows {
        for close in [false, true] {
            let mut steps = vec![Step::ReadBody, Step::Send(bytes.as_bytes().to_vec())];
            if close {
                steps.push(Step::Close);
            } else {
                steps.push(Step::Send(POISON.as_bytes().to_vec()));
            }
            rig.origin.on("/m", steps);
            let before = rig.origin.seen().len();
            let mut c = rig.connect();
            c.send(get("/m", ""));
            match c.read_response("GET") {
                Ok(r) if want.contains(&r.status) && !r.text().contains("poison") => {}
                Ok(r) => failures.push(format!(
                    "{}: got {} {}",
                    show(bytes.as_bytes()),
                    r.status,
                    show(&r.body)
                )),
                Err(f) => failures.push(format!("{}: {f}", show(bytes.as_bytes()))),
            }
            for _ in 0..2 {
                rig.alive();
            }
            let conn = rig.origin.seen().get(before).map(|s| s.conn);
            if rig
                .origin
                .seen()
                .iter()
                .skip(before + 1)
                .any(|s| Some(s.conn) == conn)
            {
                failures.push(format!(
                    "{}: the connection was used again",
                    show(bytes.as_bytes())
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n  {}",
        failures.len(),
        failures.join("\n  ")
    );
}

const BAD: &[u16] = &[502];

/// CVE-2012-1180 and CVE-2013-2070 (nginx), CVE-2022-38150 (Varnish, reason phrase), HAProxy's junk responses.
#[test]
fn h1_32_malformed_status_lines() {
    matrix(&[
        ("garbage\r\n\r\n", BAD),
        ("\r\n\r\n", BAD),
        ("HTTP/1.1\r\n\r\n", BAD),
        ("HTTP/1.1 \r\n\r\n", BAD),
        ("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        (" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("ICY 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 200 OK\rContent-Length: 0\r\r", BAD),
        ("\x16\x03\x01\x00\x01\r\n\r\n", BAD),
        ("SSH-2.0-OpenSSH_9\r\n\r\n", BAD),
    ]);
}

#[test]
fn h1_32_malformed_fields() {
    matrix(&[
        ("HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n", BAD),
        (
            "HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\x1bb\r\nContent-Length: 0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
            BAD,
        ),
        ("HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 0\r\n\r\n", BAD),
        ("HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", BAD),
        ("HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n", BAD),
        (
            "HTTP/1.1 200 OK\r\nnocolon\r\nContent-Length: 0\r\n\r\n",
            BAD,
        ),
        ("HTTP/1.1 200 OK\r\nX(: a\r\nContent-Length: 0\r\n\r\n", BAD),
        (
            "HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n",
            BAD,
        ),
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", BAD),
    ]);
}

#[test]
fn h1_32_malformed_framing() {
    matrix(&[
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            BAD,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", BAD),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2,3\r\n\r\nok", BAD),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", BAD),
        ("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", BAD),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok", BAD),
        ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok", BAD),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
            BAD,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\nok", BAD),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: \r\n\r\n2\r\nok\r\n0\r\n\r\n",
            BAD,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", BAD),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            BAD,
        ),
        // Both framings: the RFC lets a proxy take the chunked one and close, or refuse.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            &[200, 502],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            &[200, 502],
        ),
    ]);
}

/// The head is fine and has been passed on; the body turns out to be broken. The client must see that it is cut.
#[test]
fn h1_32_broken_bodies_are_visible() {
    let rig = Rig::plain();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    let mut failures = Vec::new();
    for rest in [
        "g\r\nxx\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        "0x2\r\nxx\r\n0\r\n\r\n",
        "2\r\nxxx\r\n0\r\n\r\n",
        "2\nxx\r\n0\r\n\r\n",
        "2\r\nxx\n0\r\n\r\n",
        "2 \r\nxx\r\n0\r\n\r\n",
        "\r\n",
        "FFFFFFFFFFFFFFFFF\r\nx\r\n",
        "2;a\n\r\nxx\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n: y\r\n\r\n",
        "2\r\nx",
        "2\r\nxx",
        "",
    ] {
        rig.origin.on(
            "/broken",
            [
                Step::ReadBody,
                Step::Send(format!("{head}{rest}").into_bytes()),
                Step::Close,
            ],
        );
        let mut c = rig.connect();
        c.send(get("/broken", ""));
        match c.read_response("GET") {
            Err(f)
                if f.partial.as_ref().is_none_or(|p| {
                    p.body == b"ok" || p.body == b"okxx" || p.body == b"okx" || p.body.is_empty()
                }) => {}
            Ok(r) if r.status == 502 => {}
            other => failures.push(format!("{rest:?}: {other:?}")),
        }
        rig.alive();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Right answers pass, whatever their form.
#[test]
fn right_answers_pass() {
    let rig = Rig::plain();
    for (bytes, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", "ok"),
        (
            "HTTP/1.1 200 Très bien\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 299 What\r\nContent-Length: 0\r\n\r\n", ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
        ("HTTP/1.1 200 OK\r\nX:\r\nContent-Length:2\r\n\r\nok", "ok"),
    ] {
        rig.origin.on("/ok", answer(bytes));
        let r = rig.connect().ask(get("/ok", ""));
        assert_eq!(r.text(), body, "{bytes:?}");
        rig.alive();
    }
    // Until the connection closes: the end is told in the client's own framing.
    rig.origin.on(
        "/close",
        [
            Step::Send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()),
            Step::Close,
        ],
    );
    let r = rig.connect().ask(get("/close", ""));
    assert_eq!(r.text(), "until the end");
    // To an HTTP/1.0 client nothing is ever chunked.
    rig.origin.on(
        "/chunked",
        answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    );
    let mut c = rig.connect();
    c.send("GET /chunked HTTP/1.0\r\nHost: a\r\n\r\n");
    let r = c.read_response("GET").unwrap();
    assert_eq!(
        (r.text().as_str(), r.fields.has("transfer-encoding")),
        ("ok", false)
    );
}

/// Hop-by-hop fields of the origin are not for the client.
#[test]
fn hop_by_hop_fields_of_the_answer_are_dropped() {
    let rig = Rig::plain();
    rig.origin.on(
        "/hop",
        answer(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\nX-Public: 2\r\n\
             Proxy-Connection: x\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        ),
    );
    let r = rig.connect().ask(get("/hop", ""));
    for name in ["x-private", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!r.fields.has(name), "{name}: {:?}", r.fields);
    }
    assert_eq!(r.fields.get("x-public").as_deref(), Some("2"));
}

/// Too large a head is the origin's fault.
#[test]
fn oversized_answer_heads() {
    let rig = Rig::plain();
    for (n, size) in [(150, 100), (1, 20_000)] {
        let fields: String = (0..n)
            .map(|i| format!("X-{i}: {}\r\n", "v".repeat(size)))
            .collect();
        rig.origin.on(
            "/fits",
            answer(format!(
                "HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"
            )),
        );
        assert_eq!(
            rig.connect().ask(get("/fits", "")).status,
            200,
            "{n} fields of {size}"
        );
    }
    for (n, size) in [(250, 10), (100, 1000), (1, 100_000)] {
        let fields: String = (0..n)
            .map(|i| format!("X-{i}: {}\r\n", "v".repeat(size)))
            .collect();
        rig.origin.on(
            "/big",
            answer(format!(
                "HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"
            )),
        );
        assert_eq!(
            rig.connect().ask(get("/big", "")).status,
            502,
            "{n} fields of {size}"
        );
    }
    // One that never ends.
    rig.origin.on(
        "/endless",
        [
            Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Step::SendMany {
                block: b"X: y\r\n".repeat(100),
                times: 1000,
            },
        ],
    );
    assert_eq!(rig.connect().ask(get("/endless", "")).status, 502);
    rig.alive();
}
