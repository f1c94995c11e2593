//! Frames and states of streams, the known cases of h2spec among them.

use super::*;

/// The known cases of h2spec, sections 3 to 8, and others like them.
#[test]
fn h2_11_frames_that_break_the_rules() {
    let closed = || {
        let mut ours = Ours::server();
        ours.take(&get(1)).unwrap();
        ours.answer(1);
        ours.drain();
        ours.out.clear();
        ours.events.clear();
        ours
    };
    let go = |code: &str| format!("goaway {code}");
    let big = vec![0; 16385];
    let half = |more: Vec<u8>| vec![get(1), more];
    let cases: Vec<(&str, Vec<Vec<u8>>, String)> = vec![
        (
            "4.1 unknown type",
            vec![
                frame(0xbe, 0xff, 0, &[0; 20]),
                frame(kind::PING, 0, 0, &[0; 8]),
            ],
            String::new(),
        ),
        (
            "4.1 reserved bit",
            vec![frame(kind::PING, 0, 0x8000_0000, &[0; 8])],
            String::new(),
        ),
        (
            "4.1 undefined flags",
            vec![frame(kind::PING, 0xfe, 0, &[0; 8])],
            String::new(),
        ),
        (
            "4.2 DATA too large",
            vec![post(1), frame(kind::DATA, 0, 1, &big)],
            format!("head 1, {}", go("frame-size-error")),
        ),
        (
            "4.2 HEADERS too large",
            vec![frame(kind::HEADERS, 4, 1, &big)],
            go("frame-size-error"),
        ),
        (
            "4.2 unknown too large",
            vec![frame(0xbe, 0, 1, &big)],
            go("frame-size-error"),
        ),
        (
            "4.3 no index",
            vec![frame(kind::HEADERS, 5, 1, &[0xff, 0xff])],
            go("compression-error"),
        ),
        (
            "4.3 another stream inside",
            vec![frame(kind::HEADERS, 1, 1, &block(&GET)), get(3)],
            go("protocol-error"),
        ),
        (
            "4.3 a PING inside",
            vec![
                frame(kind::HEADERS, 1, 1, &block(&GET)),
                frame(kind::PING, 0, 0, &[0; 8]),
            ],
            go("protocol-error"),
        ),
        (
            "4.3 unknown inside",
            vec![
                frame(kind::HEADERS, 1, 1, &block(&GET)),
                frame(0xbe, 0, 1, &[]),
            ],
            go("protocol-error"),
        ),
        (
            "5.1 idle: DATA",
            vec![data(1, b"x", true)],
            go("protocol-error"),
        ),
        ("5.1 idle: RST_STREAM", vec![rst(1)], go("protocol-error")),
        (
            "5.1 idle: WINDOW_UPDATE",
            vec![window_update(1, 100)],
            go("protocol-error"),
        ),
        (
            "5.1 idle: CONTINUATION",
            vec![frame(kind::CONTINUATION, 4, 1, &block(&GET))],
            go("protocol-error"),
        ),
        (
            "5.1 half closed: DATA",
            half(data(1, b"x", true)),
            "head 1 end, reset 1 stream-closed by us, rst 1 stream-closed".into(),
        ),
        (
            "5.1 half closed: HEADERS",
            half(get(1)),
            "head 1 end, reset 1 stream-closed by us, rst 1 stream-closed".into(),
        ),
        (
            "5.1 half closed: CONTINUATION",
            half(frame(kind::CONTINUATION, 4, 1, &[])),
            "head 1 end, goaway protocol-error".into(),
        ),
        (
            "5.1.1 even",
            vec![headers(2, &block(&GET), true)],
            go("protocol-error"),
        ),
        (
            "5.1.1 lower",
            vec![get(5), get(3)],
            format!("head 5 end, {}", go("protocol-error")),
        ),
        (
            "5.3.1 HEADERS on itself",
            vec![frame(
                kind::HEADERS,
                0x25,
                1,
                &[&[0, 0, 0, 1, 9][..], &block(&GET)].concat(),
            )],
            RST_PROTOCOL.into(),
        ),
        (
            "5.3.1 PRIORITY on itself",
            vec![frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 9])],
            go("protocol-error"),
        ),
        (
            "5.4.1 GOAWAY behind an error",
            vec![frame(kind::PING, 0, 0, &[0; 7]), get(1)],
            go("frame-size-error"),
        ),
        (
            "6.1 DATA of 0",
            vec![data(0, b"x", false)],
            go("protocol-error"),
        ),
        (
            "6.1 padding as long as the frame",
            vec![post(1), frame(kind::DATA, 9, 1, &[5, 0, 0, 0, 0])],
            format!("head 1, {}", go("protocol-error")),
        ),
        (
            "6.1 padding without length",
            vec![post(1), frame(kind::DATA, 9, 1, &[])],
            format!("head 1, {}", go("frame-size-error")),
        ),
        (
            "6.2 HEADERS of 0",
            vec![headers(0, &block(&GET), true)],
            go("protocol-error"),
        ),
        (
            "6.2 padding too long",
            vec![frame(kind::HEADERS, 0xd, 1, &[9, 0x82])],
            go("protocol-error"),
        ),
        (
            "6.2 priority cut off",
            vec![frame(kind::HEADERS, 0x25, 1, &[0, 0, 0])],
            go("frame-size-error"),
        ),
        (
            "6.3 PRIORITY of 0",
            vec![frame(kind::PRIORITY, 0, 0, &[0; 5])],
            go("protocol-error"),
        ),
        (
            "6.3 PRIORITY too short",
            vec![post(1), frame(kind::PRIORITY, 0, 1, &[0; 4])],
            "head 1, reset 1 frame-size-error by us, rst 1 frame-size-error".into(),
        ),
        ("6.4 RST_STREAM of 0", vec![rst(0)], go("protocol-error")),
        (
            "6.4 RST_STREAM too short",
            vec![post(1), frame(kind::RST_STREAM, 0, 1, &[0; 3])],
            format!("head 1, {}", go("frame-size-error")),
        ),
        (
            "6.5 ACK with payload",
            vec![frame(kind::SETTINGS, 1, 0, &[0; 6])],
            go("frame-size-error"),
        ),
        (
            "6.5 SETTINGS of a stream",
            vec![frame(kind::SETTINGS, 0, 1, &[])],
            go("protocol-error"),
        ),
        (
            "6.5 SETTINGS too short",
            vec![frame(kind::SETTINGS, 0, 0, &[0; 5])],
            go("frame-size-error"),
        ),
        (
            "6.5.2 ENABLE_PUSH 2",
            vec![settings(&[(setting::ENABLE_PUSH, 2)])],
            go("protocol-error"),
        ),
        (
            "6.5.2 window",
            vec![settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)])],
            go("flow-control-error"),
        ),
        (
            "6.5.2 frame size below",
            vec![settings(&[(setting::MAX_FRAME_SIZE, 16383)])],
            go("protocol-error"),
        ),
        (
            "6.5.2 frame size 0",
            vec![settings(&[(setting::MAX_FRAME_SIZE, 0)])],
            go("protocol-error"),
        ),
        (
            "6.5.2 frame size above",
            vec![settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)])],
            go("protocol-error"),
        ),
        (
            "6.5.2 unknown setting",
            vec![settings(&[(0xff, 7)])],
            "settings".into(),
        ),
        (
            "6.6 PUSH_PROMISE",
            vec![frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])],
            go("protocol-error"),
        ),
        (
            "6.7 PING of a stream",
            vec![frame(kind::PING, 0, 1, &[0; 8])],
            go("protocol-error"),
        ),
        (
            "6.7 PING too short",
            vec![frame(kind::PING, 0, 0, &[0; 6])],
            go("frame-size-error"),
        ),
        (
            "6.8 GOAWAY of a stream",
            vec![frame(kind::GOAWAY, 0, 1, &[0; 8])],
            go("protocol-error"),
        ),
        (
            "6.8 GOAWAY too short",
            vec![frame(kind::GOAWAY, 0, 0, &[0; 7])],
            go("frame-size-error"),
        ),
        (
            "6.9 increment of 0",
            vec![window_update(0, 0)],
            go("protocol-error"),
        ),
        (
            "6.9 increment of 0, stream",
            vec![post(1), window_update(1, 0)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error".into(),
        ),
        (
            "6.9 too short",
            vec![frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])],
            go("frame-size-error"),
        ),
        (
            "6.9.1 overflow",
            vec![window_update(0, 0x7fff_ffff)],
            go("flow-control-error"),
        ),
        (
            "6.9.1 overflow, stream",
            vec![post(1), window_update(1, 0x7fff_ffff)],
            "head 1, reset 1 flow-control-error by us, rst 1 flow-control-error".into(),
        ),
        (
            "6.10 CONTINUATION after the end",
            vec![get(1), frame(kind::CONTINUATION, 4, 1, &[])],
            format!("head 1 end, {}", go("protocol-error")),
        ),
        (
            "6.10 CONTINUATION of 0",
            vec![
                frame(kind::HEADERS, 1, 1, &block(&GET)),
                frame(kind::CONTINUATION, 4, 0, &[]),
            ],
            go("protocol-error"),
        ),
        (
            "6.10 several",
            vec![
                frame(kind::HEADERS, 1, 1, &block(&GET[..1])),
                frame(kind::CONTINUATION, 0, 1, &block(&GET[1..2])),
                frame(kind::CONTINUATION, 4, 1, &block(&GET[2..])),
            ],
            "head 1 end".into(),
        ),
        (
            "8.1 second HEADERS without an end",
            vec![post(1), headers(1, &block(&[("x", "y")]), false)],
            "head 1, reset 1 protocol-error by us, rst 1 protocol-error".into(),
        ),
        (
            "8.1 trailers",
            vec![
                post(1),
                data(1, b"x", false),
                headers(1, &block(&[("x", "y")]), true),
            ],
            "head 1, data 1 1, trailers 1".into(),
        ),
        (
            "9218 PRIORITY_UPDATE of a stream",
            vec![frame(kind::PRIORITY_UPDATE, 0, 1, b"\0\0\0\x01u=1")],
            go("protocol-error"),
        ),
        (
            "9218 PRIORITY_UPDATE of nothing",
            vec![frame(kind::PRIORITY_UPDATE, 0, 0, &[0; 4])],
            go("protocol-error"),
        ),
        (
            "9218 PRIORITY_UPDATE too short",
            vec![frame(kind::PRIORITY_UPDATE, 0, 0, &[0; 3])],
            go("frame-size-error"),
        ),
        (
            "HPACK: size update too large",
            vec![frame(kind::HEADERS, 5, 1, &[0x3f, 0xe2, 0x1f])],
            go("compression-error"),
        ),
        (
            "HPACK: size update at the end",
            vec![frame(
                kind::HEADERS,
                5,
                1,
                &[&block(&GET)[..], &[0x20]].concat(),
            )],
            go("compression-error"),
        ),
        (
            "HPACK: three size updates",
            vec![frame(
                kind::HEADERS,
                5,
                1,
                &[&[0x20, 0x20, 0x20][..], &block(&GET)].concat(),
            )],
            go("compression-error"),
        ),
        (
            "HPACK: two size updates",
            vec![frame(
                kind::HEADERS,
                5,
                1,
                &[&[0x20, 0x3f, 0xe1, 0x1f][..], &block(&GET)].concat(),
            )],
            "head 1 end".into(),
        ),
        (
            "HPACK: index 0",
            vec![frame(kind::HEADERS, 5, 1, &[0x80])],
            go("compression-error"),
        ),
        (
            "HPACK: cut off",
            vec![frame(kind::HEADERS, 5, 1, &[0x82, 0x00, 0x05, b'a'])],
            go("compression-error"),
        ),
        (
            "HPACK: an endless integer",
            vec![frame(
                kind::HEADERS,
                5,
                1,
                &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            )],
            go("compression-error"),
        ),
    ];
    for (name, frames, expected) in &cases {
        check(Ours::server, name, frames, expected);
    }
    for (name, frames, expected) in [
        (
            "5.1 closed: DATA",
            vec![data(1, b"x", true)],
            "rst 1 stream-closed",
        ),
        ("5.1 closed: HEADERS", vec![get(1)], "goaway stream-closed"),
        ("5.1 closed: RST_STREAM", vec![rst(1)], ""),
        ("5.1 closed: WINDOW_UPDATE", vec![window_update(1, 1)], ""),
    ] {
        check(closed, name, &frames, expected);
    }
    for (name, bytes, expected) in [
        (
            "3.4 no preface",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "goaway protocol-error",
        ),
        (
            "3.4 no SETTINGS",
            [&PREFACE[..], &get(1)].concat(),
            "goaway protocol-error",
        ),
        (
            "3.4 ACK first",
            [&PREFACE[..], ACK].concat(),
            "goaway protocol-error",
        ),
    ] {
        let new = || Ours::new(Role::Server, Bounds::default());
        check(new, name, &[bytes], expected);
    }
}

#[test]
fn h2_10_servers_are_hostile_too() {
    let client = || Ours::client(false);
    for (name, frames, expected) in [
        (
            "PUSH_PROMISE",
            vec![frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])],
            "goaway protocol-error",
        ),
        (
            "ENABLE_PUSH",
            vec![settings(&[(setting::ENABLE_PUSH, 1)])],
            "goaway protocol-error",
        ),
        (
            "a frame size of 0",
            vec![settings(&[(setting::MAX_FRAME_SIZE, 0)])],
            "goaway protocol-error",
        ),
        (
            "HEADERS of an even stream",
            vec![headers(2, &block(&[(":status", "200")]), true)],
            "goaway protocol-error",
        ),
        (
            "HEADERS of an idle stream",
            vec![headers(3, &block(&[(":status", "200")]), true)],
            "goaway protocol-error",
        ),
        (
            "DATA of an idle stream",
            vec![data(3, b"x", true)],
            "goaway protocol-error",
        ),
        (
            "PRIORITY_UPDATE",
            vec![frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1")],
            "goaway protocol-error",
        ),
        (
            "no streams and GOAWAY",
            vec![
                settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]),
                frame(kind::GOAWAY, 0, 0, &[0; 8]),
            ],
            "settings, goaway 0 no-error, reset 1 refused-stream by peer",
        ),
        (
            "refused",
            vec![frame(kind::RST_STREAM, 0, 1, &7u32.to_be_bytes())],
            "reset 1 refused-stream by peer",
        ),
        (
            "GOAWAY above",
            vec![frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])],
            "goaway 1 no-error",
        ),
    ] {
        check(client, name, &frames, expected);
    }
    let mut ours = client();
    ours.take(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]))
        .unwrap();
    assert_eq!(ours.conn.may_open(), 0);
    assert_eq!(ours.conn.open(&block(&GET), true, false, 0), None);
    ours.conn.release(1);
    assert_eq!(ours.conn.open(&block(&GET), true, false, 0), Some(3));
    // Released before its answer: what is under way is ignored, and decoded.
    ours.events.clear();
    ours.take(
        &[
            headers(1, &block(&[(":status", "200")]), false),
            data(1, b"x", true),
        ]
        .concat(),
    )
    .unwrap();
    assert!(ours.events.is_empty());
    assert_eq!(ours.said(), ["rst 1 cancel"]);
}

#[test]
fn h2_12_refused_blocks_are_decoded() {
    let mut ours = Ours::server();
    // Malformed, and it inserts `x: y`; the next one refers to it.
    let mut bad = block(&[(":foo", "x")]);
    bad.extend_from_slice(&[0x40, 1, b'x', 1, b'y']);
    let mut good = block(&GET);
    good.push(0xbe);
    ours.take(&[headers(1, &bad, true), headers(3, &good, true)].concat())
        .unwrap();
    assert_eq!(ours.events, ["head 3 end"]);
    let head = Head::new(&ours.head.0, &ours.head.1);
    assert_eq!(head.named(b"x").next(), Some(&b"y"[..]));
}

#[test]
fn an_end_in_two_steps() {
    let mut ours = Ours::server();
    ours.take(&get(1)).unwrap();
    ours.conn.drain();
    ours.take(&get(3)).unwrap();
    ours.conn.goaway(ErrorCode::NO_ERROR);
    // Beyond it: nothing is taken, nothing is a fault.
    ours.take(&[post(5), data(5, b"x", true)].concat()).unwrap();
    assert_eq!(ours.events, ["head 1 end", "head 3 end"]);
    ours.drain();
    let lasts: Vec<_> = ours
        .out
        .iter()
        .filter(|f| f.0 == kind::GOAWAY)
        .map(|f| frame::word(&f.3).unwrap())
        .collect();
    assert_eq!(lasts, [0x7fff_ffff, 3]);
    ours.answer(1);
    ours.answer(3);
    assert!(ours.conn.is_going() && ours.conn.streams() == 0);
}

#[test]
fn a_released_stream_is_reset_as_it_should_be() {
    let mut ours = Ours::server();
    ours.take(&[post(1), post(3), get(5)].concat()).unwrap();
    // Answered, its body not needed; given up; answered.
    ours.answer(1);
    ours.conn.release(3);
    ours.answer(5);
    assert_eq!(ours.said(), ["rst 1 no-error", "rst 3 cancel"]);
    // What is under way for them is no fault, and its credit comes back.
    ours.take(&[data(1, b"x", true), data(3, b"x", false), rst(3)].concat())
        .unwrap();
    assert_eq!(ours.said(), Vec::<String>::new());
}
