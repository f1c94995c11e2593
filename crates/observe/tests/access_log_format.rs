//! Every record is one line, and a JSON one is valid JSON that holds what was given, whatever the bytes are.

#![allow(clippy::unwrap_used)] // a test may fail loudly

use std::net::IpAddr;
use std::sync::Arc;

use narthex_observe::access_log::{
    Escape, FieldKind, Format, Formatter, MAX_FIELD_BYTES, Record, Template, TemplatePart,
    format_record,
};
use proptest::prelude::*;
use serde_json::Value;

fn sample<'a>() -> Record<'a> {
    Record {
        time_ms: 784_111_777_042,
        client: Some("192.0.2.7".parse().unwrap()),
        client_port: 50_123,
        user: b"",
        method: b"GET",
        scheme: "https",
        authority: b"shop.example.com:8443",
        path: b"/api/items",
        query: Some(b"page=2"),
        protocol: "HTTP/1.1",
        status: 200,
        bytes_sent: 5123,
        bytes_received: 0,
        duration_us: 12_034,
        upstream: "api",
        server: "10.0.0.1:8080",
        attempts: 1,
        upstream_us: Some(11_900),
        cache: "hit",
        request_id: b"01HX",
        site: "shop.example.com",
        route: "/api/*",
        outcome: "ok",
        fault: "none",
        reason: "",
        user_agent: b"curl/8.0",
        referer: b"",
        tls: None,
        extras: &[],
    }
}

fn line(format: &Format, record: &Record<'_>) -> Vec<u8> {
    let mut out = b"before\n".to_vec();
    format_record(format, record, &mut out);
    let line = out
        .strip_prefix(b"before\n")
        .unwrap()
        .strip_suffix(b"\n")
        .unwrap()
        .to_vec();
    assert!(
        !line.iter().any(|byte| *byte < 0x20 || *byte == 0x7f),
        "{}",
        String::from_utf8_lossy(&line)
    );
    line
}

fn text(format: &Format, record: &Record<'_>) -> String {
    String::from_utf8(line(format, record)).unwrap()
}

#[test]
fn json_in_full() {
    assert_eq!(
        text(&Format::Json, &sample()),
        concat!(
            r#"{"time":"1994-11-06T08:49:37.042Z","client":"192.0.2.7","client_port":50123,"user":"","method":"GET","#,
            r#""scheme":"https","authority":"shop.example.com:8443","path":"/api/items","query":"page=2","#,
            r#""protocol":"HTTP/1.1","status":200,"bytes_sent":5123,"bytes_received":0,"duration_ms":12.034,"#,
            r#""outcome":"ok","fault":"none","reason":"","site":"shop.example.com","route":"/api/*","upstream":"api","#,
            r#""server":"10.0.0.1:8080","attempts":1,"upstream_ms":11.900,"cache":"hit","request_id":"01HX","user_agent":"curl/8.0","#,
            r#""referer":"","tls":null}"#
        )
    );
}

#[test]
fn json_of_a_connection_that_was_encrypted() {
    let record = Record {
        tls: Some(narthex_observe::access_log::TlsRecord {
            version: "TLSv1.3",
            suite: "TLS13_AES_256_GCM_SHA384",
            sni: "a.example",
            resumed: true,
            client: "CN=\"x\"",
        }),
        ..sample()
    };
    let tls = r#""tls":{"version":"TLSv1.3","suite":"TLS13_AES_256_GCM_SHA384","sni":"a.example","client":"CN=\"x\"","resumed":true}}"#;
    let line = text(&Format::Json, &record);
    assert!(line.ends_with(tls), "{line}");
}

#[test]
fn json_of_what_is_not_there() {
    let record = Record {
        client: None,
        query: None,
        upstream_us: None,
        ..Record::default()
    };
    let value: Value = serde_json::from_slice(&line(&Format::Json, &record)).unwrap();
    assert_eq!(value["client"], "unix:");
    assert_eq!(value["query"], Value::Null);
    assert_eq!(value["upstream_ms"], Value::Null);
    assert_eq!(value["status"], 0);
}

#[test]
fn combined_in_full() {
    assert_eq!(
        text(&Format::Combined, &sample()),
        r#"192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] "GET /api/items?page=2 HTTP/1.1" 200 5123 "-" "curl/8.0""#
    );
    let hostile = Record {
        user: b"a b",
        user_agent: b"\"\r\n\x1b]0;x\x07",
        path: b"/\xc3\xa9",
        ..sample()
    };
    assert_eq!(
        text(&Format::Combined, &hostile),
        concat!(
            r#"192.0.2.7 - a\x20b [06/Nov/1994:08:49:37 +0000] "GET /\xC3\xA9?page=2 HTTP/1.1" 200 5123 "-" "#,
            r#""\x22\x0D\x0A\x1B]0;x\x07""#
        )
    );
}

fn template(parts: &[(&str, FieldKind)]) -> Template {
    let parts = parts.iter().flat_map(|(before, kind)| {
        [
            TemplatePart::Text((*before).to_owned()),
            TemplatePart::Field(*kind),
        ]
    });
    Template::new(parts.collect())
}

#[test]
fn templates_fill_in() {
    let format = Format::Template(template(&[
        ("t\n=", FieldKind::TimeMsec),
        (" ", FieldKind::Host),
        (" ", FieldKind::Uri),
        (" ", FieldKind::Referer),
        (" ", FieldKind::DurationMs),
        (" ", FieldKind::Extra(1)),
        (" ", FieldKind::Extra(9)),
        ("\t", FieldKind::TimeClf),
    ]));
    let mut out = Vec::new();
    format_record(
        &format,
        &Record {
            extras: &[b"zero", b"o\"ne"],
            ..sample()
        },
        &mut out,
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "t =784111777.042 shop.example.com /api/items?page=2 - 12.034 o\\x22ne -\t06/Nov/1994:08:49:37 +0000\n"
    );
    let six = Format::Template(template(&[
        ("", FieldKind::Host),
        ("|", FieldKind::ClientIp),
    ]));
    let client: IpAddr = "2001:db8::1".parse().unwrap();
    let record = Record {
        authority: b"[::1]:80",
        client: Some(client),
        ..sample()
    };
    assert_eq!(text(&six, &record), "[::1]|2001:db8::1");
    assert_eq!(
        text(
            &six,
            &Record {
                authority: b"[::1]",
                ..record
            }
        ),
        "[::1]|2001:db8::1"
    );
}

#[test]
fn a_template_that_begins_with_a_brace_is_json() {
    let parts = template(&[
        ("{\"ua\":\"", FieldKind::UserAgent),
        ("\",\"up\":", FieldKind::UpstreamMs),
        ("}", FieldKind::Query),
    ]);
    assert_eq!(parts.escape(), Escape::Json);
    let record = Record {
        user_agent: b"\"\xff\n",
        upstream_us: None,
        query: None,
        ..sample()
    };
    let value: Value = serde_json::from_slice(&line(&Format::Template(parts), &record)).unwrap();
    assert_eq!(value["ua"], "\"\u{fffd}\n");
    assert_eq!(value["up"], Value::Null);
}

#[test]
fn a_megabyte_in_every_field_is_cut() {
    for byte in [b'a', b'"', 0, 0xff, b'\n'] {
        let value = vec![byte; 1 << 20];
        let record = hostile(&value, "x");
        let json = line(&Format::Json, &record);
        let parsed: Value = serde_json::from_slice(&json).unwrap();
        assert!(parsed["path"].as_str().unwrap().ends_with("[cut]"));
        assert!(json.len() < 8 * (MAX_FIELD_BYTES * 6 + 64) + 2048);
        assert!(line(&Format::Combined, &record).len() < 6 * (MAX_FIELD_BYTES * 4 + 64) + 256);
    }
}

/// `value` in every field that a client can fill.
fn hostile<'a>(value: &'a [u8], name: &'a str) -> Record<'a> {
    Record {
        user: value,
        method: value,
        authority: value,
        path: value,
        query: Some(value),
        request_id: value,
        user_agent: value,
        referer: value,
        upstream: name,
        server: name,
        site: name,
        route: name,
        reason: name,
        ..sample()
    }
}

#[test]
fn the_cached_second_follows_the_clock_both_ways() {
    let mut formatter = Formatter::new(Arc::new(Format::Template(template(&[(
        "",
        FieldKind::Time,
    )]))));
    let mut out = Vec::new();
    for time_ms in [0, 999, 1000, 61_001, 5] {
        formatter.write(
            &Record {
                time_ms,
                ..sample()
            },
            &mut out,
        );
    }
    let expected = "1970-01-01T00:00:00.000Z\n1970-01-01T00:00:00.999Z\n1970-01-01T00:00:01.000Z\n\
                    1970-01-01T00:01:01.001Z\n1970-01-01T00:00:00.005Z\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

/// Bytes that are likely to break something.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        Just(b"\r\n".to_vec()),
        Just(b"\x1b[2J".to_vec()),
        Just(b"\"}\\".to_vec()),
        Just("\u{2028}\u{85}\u{202e}".as_bytes().to_vec()),
        Just("gr\u{fc}\u{df}e \u{1f600}".as_bytes().to_vec()),
        Just(b"\xed\xa0\x80\xf0\x9f".to_vec()),
        Just(b"plain text".to_vec()),
    ];
    proptest::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn json_holds_what_was_given(value in junk(), name in any::<String>(), number in any::<u64>()) {
        let record = Record { bytes_sent: number, duration_us: number, ..hostile(&value, &name) };
        let json = line(&Format::Json, &record);
        let parsed: Value = serde_json::from_slice(&json).unwrap();
        let expected = String::from_utf8_lossy(&value);
        for field in ["user", "method", "authority", "path", "query", "request_id", "user_agent", "referer"] {
            prop_assert_eq!(parsed[field].as_str(), Some(&*expected), "{}", field);
        }
        prop_assert_eq!(parsed["site"].as_str(), Some(&*name));
        prop_assert_eq!(parsed["bytes_sent"].as_u64(), Some(number));
        prop_assert_eq!(std::str::from_utf8(&json).unwrap().lines().count(), 1);
        let separators = ['\u{85}', '\u{2028}', '\u{9b}', '\u{202e}'];
        prop_assert!(!std::str::from_utf8(&json).unwrap().contains(separators));
    }

    #[test]
    fn combined_is_printable_ascii_with_its_quotes_in_place(value in junk(), name in any::<String>()) {
        let line = line(&Format::Combined, &hostile(&value, &name));
        prop_assert!(line.iter().all(|byte| (0x20..0x7f).contains(byte)));
        prop_assert_eq!(line.split(|byte| *byte == b'"').count(), 7);
    }
}
