//! Messages: what is malformed, what is too large, how long a body is.

use super::*;

#[test]
fn h2_01_content_length_against_data() {
    let p = |n: &'static str| headers(1, &with(&POST, &[("content-length", n)]), false);
    let trailers = || headers(1, &block(&[("x-sum", "1")]), true);
    for (name, frames, expected) in [
        (
            "equal",
            vec![p("5"), data(1, b"hello", true)],
            "head 1, data 1 5 end",
        ),
        (
            "equal, then empty",
            vec![p("5"), data(1, b"hello", false), data(1, b"", true)],
            "head 1, data 1 5, data 1 0 end",
        ),
        (
            "equal, then trailers",
            vec![p("5"), data(1, b"hello", false), trailers()],
            "head 1, data 1 5, trailers 1",
        ),
        (
            "more than sent",
            vec![p("6"), data(1, b"hello", true)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "less than sent",
            vec![p("4"), data(1, b"hello", true)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "less than sent, open",
            vec![p("4"), data(1, b"hello", false)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "more, empty DATA",
            vec![p("6"), data(1, b"hello", false), data(1, b"", true)],
            "head 1, data 1 5, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "more, trailers",
            vec![p("6"), data(1, b"hello", false), trailers()],
            "head 1, data 1 5, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "more, only trailers",
            vec![p("6"), trailers()],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        ),
        (
            "5 and END_STREAM",
            vec![headers(1, &with(&POST, &[("content-length", "5")]), true)],
            RST_PROTOCOL,
        ),
        (
            "0 and END_STREAM",
            vec![headers(1, &with(&POST, &[("content-length", "0")]), true)],
            "head 1 end",
        ),
        (
            "two",
            vec![headers(
                1,
                &with(&POST, &[("content-length", "5"), ("content-length", "6")]),
                false,
            )],
            RST_PROTOCOL,
        ),
        (
            "two equal",
            vec![headers(
                1,
                &with(&POST, &[("content-length", "5"), ("content-length", "5")]),
                false,
            )],
            RST_PROTOCOL,
        ),
        ("a sign", vec![p("+5")], RST_PROTOCOL),
        ("a list", vec![p("5,5")], RST_PROTOCOL),
        ("empty", vec![p("")], RST_PROTOCOL),
    ] {
        check(Ours::server, name, &frames, expected);
    }
}

#[test]
fn h2_01_content_length_of_responses() {
    let r = |status: &'static str, n: &'static str, end: bool| {
        headers(
            1,
            &block(&[(":status", status), ("content-length", n)]),
            end,
        )
    };
    const WRONG: &str = "reset 1 protocol-error by us, rst 1 protocol-error";
    let client = || Ours::client(false);
    for (name, frames, expected) in [
        (
            "equal",
            vec![r("200", "5", false), data(1, b"hello", true)],
            "head 1, data 1 5 end".to_owned(),
        ),
        (
            "more",
            vec![r("200", "6", false), data(1, b"hello", true)],
            format!("head 1, {WRONG}"),
        ),
        (
            "less",
            vec![r("200", "4", false), data(1, b"hello", true)],
            format!("head 1, {WRONG}"),
        ),
        (
            "5 and END_STREAM",
            vec![r("200", "5", true)],
            WRONG.to_owned(),
        ),
        (
            "304 keeps it",
            vec![r("304", "5", true)],
            "head 1 end".to_owned(),
        ),
        (
            "304 with a body",
            vec![r("304", "5", false), data(1, b"hello", true)],
            format!("head 1, {WRONG}"),
        ),
        (
            "204 with a body",
            vec![
                headers(1, &block(&[(":status", "204")]), false),
                data(1, b"x", true),
            ],
            format!("head 1, {WRONG}"),
        ),
        (
            "DATA before a head",
            vec![data(1, b"x", false)],
            WRONG.to_owned(),
        ),
        (
            "DATA after 103",
            vec![
                headers(1, &block(&[(":status", "103")]), false),
                data(1, b"x", false),
            ],
            format!("head 1, {WRONG}"),
        ),
        (
            "103 that ends",
            vec![headers(1, &block(&[(":status", "103")]), true)],
            WRONG.to_owned(),
        ),
        (
            "101",
            vec![headers(1, &block(&[(":status", "101")]), false)],
            WRONG.to_owned(),
        ),
        (
            "no status",
            vec![headers(1, &block(&[("x", "y")]), true)],
            WRONG.to_owned(),
        ),
        (
            "a method",
            vec![headers(
                1,
                &block(&[(":status", "200"), (":method", "GET")]),
                true,
            )],
            WRONG.to_owned(),
        ),
        (
            "connection",
            vec![headers(
                1,
                &block(&[(":status", "200"), ("connection", "close")]),
                true,
            )],
            WRONG.to_owned(),
        ),
        (
            "te",
            vec![headers(
                1,
                &block(&[(":status", "200"), ("te", "trailers")]),
                true,
            )],
            WRONG.to_owned(),
        ),
        (
            "103, 200 and trailers",
            vec![
                headers(1, &block(&[(":status", "103")]), false),
                headers(1, &block(&[(":status", "200")]), false),
                data(1, b"x", false),
                headers(1, &block(&[("x-sum", "1")]), true),
            ],
            "head 1, head 1, data 1 1, trailers 1".to_owned(),
        ),
    ] {
        check(client, name, &frames, &expected);
    }
    check(
        || Ours::client(true),
        "HEAD",
        &[r("200", "5", true)],
        "head 1 end",
    );
    check(
        || Ours::client(true),
        "HEAD with a body",
        &[r("200", "5", false), data(1, b"hello", true)],
        &format!("head 1, {WRONG}"),
    );
}

#[test]
fn h2_02_to_06_malformed_requests() {
    let cases: &[(&str, Vec<u8>)] = &[
        (
            "transfer-encoding",
            with(&POST, &[("transfer-encoding", "chunked")]),
        ),
        ("connection", with(&GET, &[("connection", "close")])),
        ("keep-alive", with(&GET, &[("keep-alive", "timeout=5")])),
        (
            "proxy-connection",
            with(&GET, &[("proxy-connection", "close")]),
        ),
        ("upgrade", with(&GET, &[("upgrade", "h2c")])),
        ("te: gzip", with(&GET, &[("te", "gzip")])),
        (
            "te: trailers, gzip",
            with(&GET, &[("te", "trailers, gzip")]),
        ),
        ("upper case", with(&GET, &[("Name", "x")])),
        (
            "Transfer-Encoding",
            with(&GET, &[("Transfer-Encoding", "chunked")]),
        ),
        (
            "name with a space",
            with(&GET, &[("transfer-encoding ", "chunked")]),
        ),
        ("name with a space inside", with(&GET, &[("na me", "x")])),
        ("name with a colon", with(&GET, &[("na:me", "x")])),
        ("name with CR LF", with(&GET, &[("a\r\nb", "x")])),
        ("empty name", with(&GET, &[("", "x")])),
        (
            "CR LF",
            with(&GET, &[("foo", "a\r\nTransfer-Encoding: chunked")]),
        ),
        ("LF", with(&GET, &[("foo", "a\nb")])),
        ("NUL", with(&GET, &[("foo", "a\0b")])),
        ("space in front", with(&GET, &[("foo", " a")])),
        ("tab behind", with(&GET, &[("foo", "a\t")])),
        (
            "method with CR LF",
            block(&[
                (":method", "GET / HTTP/1.1\r\nX: y"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ]),
        ),
        (
            "method with a space",
            block(&[
                (":method", "GET /evil"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ]),
        ),
        (
            "path with a space",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/x y"),
                (":authority", "a"),
            ]),
        ),
        (
            "path with CR LF",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/x HTTP/1.1\r\nX: y"),
                (":authority", "a"),
            ]),
        ),
        (
            "empty path",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", ""),
                (":authority", "a"),
            ]),
        ),
        (
            "scheme",
            block(&[
                (":method", "GET"),
                (":scheme", "http://evil/?"),
                (":path", "/"),
                (":authority", "a"),
            ]),
        ),
        (
            "mixed case scheme",
            block(&[
                (":method", "GET"),
                (":scheme", "HttPS"),
                (":path", "/"),
                (":authority", "a"),
            ]),
        ),
        ("two paths", with(&GET, &[(":path", "/")])),
        ("two methods", with(&[(":method", "GET")], &GET)),
        (
            "path behind a field",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                ("x", "y"),
                (":path", "/"),
            ]),
        ),
        ("status", with(&GET, &[(":status", "200")])),
        ("unknown", with(&GET, &[(":foo", "x")])),
        ("just a colon", with(&GET, &[(":", "x")])),
        ("no method", block(&GET[1..])),
        (
            "no scheme",
            block(&[(":method", "GET"), (":path", "/"), (":authority", "a")]),
        ),
        (
            "no path",
            block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
        ),
        ("nothing", Vec::new()),
        (
            "protocol without CONNECT",
            with(&GET, &[(":protocol", "websocket")]),
        ),
        (
            "CONNECT with a path",
            block(&[(":method", "CONNECT"), (":path", "/"), (":authority", "a")]),
        ),
        (
            "CONNECT without authority",
            block(&[(":method", "CONNECT")]),
        ),
    ];
    for (name, block) in cases {
        check(Ours::server, name, &[headers(1, block, true)], RST_PROTOCOL);
    }
    for (name, block) in [
        ("pseudo-field in trailers", block(&[(":path", "/")])),
        (
            "transfer-encoding in trailers",
            block(&[("transfer-encoding", "chunked")]),
        ),
    ] {
        check(
            Ours::server,
            name,
            &[post(1), headers(1, &block, true)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error",
        );
    }
}

fn facts(block: &[u8], end: bool) -> Result<(validate::RequestFacts, Ours), Reject> {
    let mut ours = Ours::server();
    ours.take(&headers(1, block, end)).unwrap();
    assert_eq!(ours.events.len(), 1, "{:?}", ours.said());
    validate::request(Head::new(&ours.head.0, &ours.head.1)).map(|f| (f, ours))
}

#[test]
fn h2_07_authority_and_host() {
    for (hosts, expected) in [
        (&[(":authority", "a")][..], Ok(())),
        (&[("host", "a")], Ok(())),
        (&[(":authority", "a"), ("host", "a")], Ok(())),
        (&[(":authority", "a"), ("host", "A:80")], Ok(())),
        (&[(":authority", "a"), ("host", "a.")], Ok(())),
        (
            &[(":authority", "a"), ("host", "b")],
            Err(Reject::HostMismatch),
        ),
        (
            &[(":authority", "a"), ("host", "a"), ("host", "b")],
            Err(Reject::HostMismatch),
        ),
        (
            &[(":authority", "a"), ("host", "a:81")],
            Err(Reject::HostMismatch),
        ),
        (&[("host", "a"), ("host", "a")], Err(Reject::HostRepeated)),
        (&[], Err(Reject::HostMissing)),
    ] {
        let block = block(&[&GET[..3], hosts].concat());
        let got = facts(&block, true).map(|(f, ours)| {
            assert_eq!(f.authority.of(&ours.head.0), b"a");
            let index = &ours.head.1;
            assert_eq!(
                index
                    .fields
                    .iter()
                    .filter(|f| f.id == FieldId::Host)
                    .count(),
                1
            );
        });
        assert_eq!(got, expected, "{hosts:?}");
    }
}

#[test]
fn h2_08_cookie_crumbs() {
    let (_, ours) = facts(
        &with(
            &GET,
            &[
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("x", "y"),
                ("cookie", ""),
                ("cookie", "c=3"),
            ],
        ),
        true,
    )
    .unwrap();
    let head = Head::new(&ours.head.0, &ours.head.1);
    assert_eq!(
        head.all(FieldId::Cookie).collect::<Vec<_>>(),
        [&b"a=1; b=2; ; c=3"[..]]
    );
    assert_eq!(head.named(b"x").next(), Some(&b"y"[..]));
    // Adjoining ones, as everybody sends them: lines stay contiguous.
    let (_, ours) = facts(
        &with(
            &GET,
            &[
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("cookie", "c=3"),
                ("x", "y"),
            ],
        ),
        true,
    )
    .unwrap();
    let last = ours.head.1.fields.windows(2).last().unwrap().to_vec();
    assert_eq!(last[0].value.of(&ours.head.0), b"a=1; b=2; c=3");
    assert_eq!(last[0].end, last[1].name.start);
    // Counted singly: `:authority` and 99 are allowed, one more is not.
    for (crumbs, expected) in [
        (99, "head 1 end"),
        (100, "head 1 end TooManyFields"),
        (390, "head 1 end TooManyFields"),
    ] {
        let fields = vec![("cookie", "a"); crumbs];
        let frames = [headers(1, &with(&GET, &fields), true)];
        check(Ours::server, "crumbs", &frames, expected);
    }
    let fields = vec![("cookie", "a"); 4000];
    let mut bytes = Vec::new();
    frame::block(1, None, &with(&GET, &fields), true, 16384, &mut bytes);
    check(
        Ours::server,
        "4000 crumbs",
        &[bytes],
        "goaway enhance-your-calm",
    );
}

#[test]
fn h2_09_extended_connect() {
    const CONNECT: [(&str, &str); 5] = [
        (":method", "CONNECT"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a"),
        (":protocol", "websocket"),
    ];
    let (facts_of, ours) = facts(&with(&CONNECT, &[("content-length", "5")]), false).unwrap();
    assert_eq!(facts_of.method, validate::Method::Get);
    assert_eq!(facts_of.body, Body::None);
    assert_eq!(
        facts_of.upgrade.map(|u| u.of(&ours.head.0)),
        Some(&b"websocket"[..])
    );
    assert_eq!(facts_of.path.of(&ours.head.0), b"/chat");
    let off = || {
        Ours::server_with(Bounds {
            extended_connect: false,
            ..Bounds::default()
        })
    };
    check(
        off,
        "not offered",
        &[headers(1, &block(&CONNECT), false)],
        RST_PROTOCOL,
    );
    let connect = block(&[(":method", "CONNECT"), (":authority", "a:443")]);
    assert_eq!(facts(&connect, false).err(), Some(Reject::Connect));
}

#[test]
fn bodies_of_requests() {
    for (fields, end, expected) in [
        (&[][..], true, Body::None),
        (&[], false, Body::Chunked),
        (&[("content-length", "7")], false, Body::Length(7)),
        (&[("content-length", "0")], true, Body::Length(0)),
    ] {
        let (facts, _) = facts(&with(&POST, fields), end).unwrap();
        assert_eq!(facts.body, expected);
        assert!(facts.keep_alive && facts.upgrade.is_none());
    }
    let (facts, _) = facts(&with(&GET, &[("te", "trailers")]), true).unwrap();
    assert!(facts.trailers);
}

#[test]
fn oversize_is_answered_and_four_times_is_not() {
    let limits = Bounds::default().head;
    let long = |n: usize| "v".repeat(n);
    let path = |n: usize| -> Vec<u8> {
        let path = format!("/{}", long(n - 1));
        block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", &path),
            (":authority", "a"),
        ])
    };
    let field = |n: usize| -> Vec<u8> {
        let value = long(n - 3);
        block(&[GET.as_slice(), &[("x", value.as_str())]].concat())
    };
    let many = |n: usize, len: usize| -> Vec<u8> {
        let value = long(len);
        block(&[GET.as_slice(), &vec![("x", value.as_str()); n]].concat())
    };
    for (name, block, expected) in [
        ("path at the bound", path(limits.line), "head 1 end"),
        (
            "path beyond",
            path(limits.line + 1),
            "head 1 end TargetTooLong",
        ),
        ("field at the bound", field(limits.field), "head 1 end"),
        (
            "field beyond",
            field(limits.field + 1),
            "head 1 end FieldTooLong",
        ),
        ("99 fields", many(99, 1), "head 1 end"),
        ("100 fields", many(100, 1), "head 1 end TooManyFields"),
        ("head beyond", many(9, 4000), "head 1 end HeadTooLarge"),
        ("four times", many(36, 4000), "goaway enhance-your-calm"),
    ] {
        // In as many frames as it needs.
        let mut bytes = Vec::new();
        frame::block(1, None, &block, true, 16384, &mut bytes);
        check(Ours::server, name, &[bytes], expected);
    }
}
