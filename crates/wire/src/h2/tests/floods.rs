//! What floods cost (RS-01 to RS-11): the bound, and one beyond.

use super::*;

#[test]
fn rs_01_rapid_reset() {
    let pair = |ours: &mut Ours, i: usize| {
        let id = 2 * i as u32 + 1;
        // The session gives up at once.
        if i > 0 {
            ours.conn.release(id - 2);
        }
        [get(id), rst(id)].concat()
    };
    assert_eq!(flood(Ours::server(), 10_000, pair), (100, CALM));
    // Slowly: a thousand in all.
    let slowly = |ours: &mut Ours, i: usize| {
        ours.now += 200;
        pair(ours, i)
    };
    assert_eq!(flood(Ours::server(), 10_000, slowly), (1000, CALM));
    // What the session still works on counts against the limit, however it was reset.
    let mut ours = Ours::server();
    for i in 0..100 {
        ours.take(&[get(2 * i + 1), rst(2 * i + 1)].concat())
            .unwrap();
    }
    ours.take(&get(201)).unwrap();
    assert_eq!(ours.said(), ["rst 201 refused-stream"]);
    assert_eq!(ours.conn.streams(), 100);
    // Once its answer has begun, a client may lose interest as often as it likes.
    let answered = |ours: &mut Ours, i: usize| {
        let id = 2 * i as u32 + 1;
        if i > 0 {
            ours.conn.release(id - 2);
        }
        ours.take(&get(id)).unwrap();
        assert!(ours.conn.head(id, &[0x88], false, ours.now));
        rst(id)
    };
    assert_eq!(flood(Ours::server(), 2000, answered).1, "");
}

#[test]
fn rs_02_made_you_reset() {
    type Primitive = fn(u32) -> Vec<u8>;
    let primitives: [(&str, Primitive); 6] = [
        ("increment of 0", |id| {
            [post(id), window_update(id, 0)].concat()
        }),
        ("overflow", |id| {
            [post(id), window_update(id, 0x7fff_ffff)].concat()
        }),
        ("PRIORITY of a bad length", |id| {
            [post(id), frame(kind::PRIORITY, 0, id, &[0; 4])].concat()
        }),
        ("PRIORITY on itself", |id| {
            let mut payload = id.to_be_bytes().to_vec();
            payload.push(1);
            [post(id), frame(kind::PRIORITY, 0, id, &payload)].concat()
        }),
        ("HEADERS half closed", |id| [get(id), get(id)].concat()),
        ("DATA half closed", |id| {
            [get(id), data(id, b"x", true)].concat()
        }),
    ];
    for (name, primitive) in primitives {
        let one = |ours: &mut Ours, i: usize| {
            let id = 2 * i as u32 + 1;
            if i > 0 {
                ours.conn.release(id - 2);
            }
            primitive(id)
        };
        assert_eq!(flood(Ours::server(), 10_000, one), (50, CALM), "{name}");
        let slowly = |ours: &mut Ours, i: usize| {
            ours.now += 500;
            one(ours, i)
        };
        assert_eq!(flood(Ours::server(), 10_000, slowly), (500, CALM), "{name}");
    }
}

#[test]
fn rs_03_answers_that_nobody_reads() {
    // Nobody takes `out`: within the budget of PINGs, for hours.
    let mut ours = Ours::server();
    let mut n = 0;
    let fatal = loop {
        ours.now += 600;
        if let Err(fatal) = ours.take(&frame(kind::PING, 0, 0, &[0; 8])) {
            break fatal;
        }
        n += 1;
    };
    assert_eq!((n, fatal.code), (1000, ErrorCode::ENHANCE_YOUR_CALM));
    assert!(ours.conn.out.len() < 64 << 10);
}

#[test]
fn rs_04_floods_of_control_frames() {
    let same = |bytes: Vec<u8>| move |_: &mut Ours, _: usize| bytes.clone();
    // One SETTINGS and its acknowledgement have been seen.
    assert_eq!(flood(Ours::server(), 1000, same(settings(&[]))), (8, CALM));
    assert_eq!(flood(Ours::server(), 1000, same(ACK.to_vec())), (8, CALM));
    assert_eq!(
        flood(Ours::server(), 1000, same(frame(kind::PING, 0, 0, &[0; 8]))),
        (20, CALM)
    );
    assert_eq!(
        flood(Ours::server(), 1000, same(frame(kind::PING, 1, 0, &[0; 8]))),
        (20, CALM)
    );
    assert_eq!(
        flood(
            Ours::server(),
            1000,
            same(frame(kind::PRIORITY, 0, 1, &[0; 5]))
        ),
        (100, CALM)
    );
    assert_eq!(
        flood(Ours::server(), 1000, same(frame(0xbe, 0, 0, b"x"))),
        (100, CALM)
    );
    assert_eq!(
        flood(
            Ours::server(),
            1000,
            same(frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"))
        ),
        (100, CALM)
    );
    assert_eq!(
        flood(Ours::server(), 1000, same(window_update(0, 1))),
        (100, CALM)
    );
    // A stream allows for ten more of each.
    let with_stream = || {
        let mut ours = Ours::server();
        ours.take(&get(1)).unwrap();
        ours
    };
    assert_eq!(
        flood(with_stream(), 1000, same(frame(0xbe, 0, 0, b"x"))),
        (110, CALM)
    );
    assert_eq!(
        flood(with_stream(), 1000, same(window_update(1, 1))),
        (110, CALM)
    );
    // In time, everything is allowed that is not a flood.
    let slowly = |ours: &mut Ours, _: usize| {
        ours.now += 1300;
        [
            settings(&[]),
            frame(kind::PING, 0, 0, &[0; 8]),
            frame(0xbe, 0, 0, b"x"),
        ]
        .concat()
    };
    assert_eq!(flood(Ours::server(), 1000, slowly), (1000, ""));
}

#[test]
fn rs_05_empty_frames() {
    let start = || {
        let mut ours = Ours::server();
        ours.take(&post(1)).unwrap();
        ours
    };
    assert_eq!(flood(start(), 1000, |_, _| data(1, b"", false)), (10, CALM));
    // Nothing but padding is empty as well.
    assert_eq!(
        flood(start(), 1000, |_, _| frame(kind::DATA, 8, 1, &[2, 0, 0])),
        (10, CALM)
    );
    assert_eq!(
        flood(start(), 1000, |_, i| data(
            1,
            if i % 10 == 9 { b"x" } else { b"" },
            false
        )),
        (1000, "")
    );
}

#[test]
fn rs_06_continuation() {
    let mut ours = Ours::server();
    ours.take(&frame(kind::HEADERS, 1, 1, &block(&GET)))
        .unwrap();
    let one = |_: &mut Ours, _: usize| frame(kind::CONTINUATION, 0, 1, &block(&[("x", "y")]));
    assert_eq!(flood(ours, 1000, one), (8, CALM));
    // It does not end: it is not waited for.
    let mut ours = Ours::server();
    ours.take(&frame(kind::HEADERS, 1, 1, &block(&GET)))
        .unwrap();
    assert_eq!(ours.conn.next_tick(), Some(30_000));
    assert_eq!(ours.conn.tick(29_999), None);
    assert_eq!(ours.conn.fatal(), None);
    assert_eq!(ours.conn.tick(30_000), None);
    assert_eq!(
        ours.conn.fatal().map(|f| f.code),
        Some(ErrorCode::ENHANCE_YOUR_CALM)
    );
}

#[test]
fn rs_07_hpack_bombs() {
    // A large entry, referred to over and over; small ones; crumbs.
    let large = "v".repeat(3000);
    for (name, value, references) in [
        ("x", large.as_str(), 16_000),
        ("x", "", 16_000),
        ("cookie", "a=b", 16_000),
    ] {
        let mut ours = Ours::server();
        let mut first = block(&GET);
        first.push(0x40);
        hpack::string(name.as_bytes(), &mut first);
        hpack::string(value.as_bytes(), &mut first);
        ours.take(&headers(1, &first, true)).unwrap();
        let mut bomb = block(&GET);
        bomb.extend(std::iter::repeat_n(0xbe, references));
        let fatal = ours.take(&headers(3, &bomb, true)).unwrap_err();
        assert_eq!(fatal.code, ErrorCode::ENHANCE_YOUR_CALM);
        assert!(ours.conn.decoded.bytes.capacity() < 300 << 10);
    }
}

#[test]
fn rs_08_table_size_flips() {
    let mut ours = Ours::server();
    for _ in 0..3 {
        ours.take(&settings(&[
            (setting::HEADER_TABLE_SIZE, 0),
            (setting::HEADER_TABLE_SIZE, u32::MAX),
        ]))
        .unwrap();
    }
    ours.take(&get(1)).unwrap();
    ours.take(&get(3)).unwrap();
    ours.drain();
    ours.out.clear();
    let mut status = Vec::new();
    encode::status(200, &mut status);
    ours.conn.head(1, &status, true, 0);
    ours.conn.head(3, &status, true, 0);
    ours.drain();
    // We use no table, and say so once.
    assert_eq!(ours.out[0].3, [0x20, 0x88]);
    assert_eq!(ours.out[1].3, [0x88]);
}

#[test]
fn rs_10_streams_above_the_limit() {
    let bounds = Bounds {
        streams: 3,
        ..Bounds::default()
    };
    let mut ours = Ours::server_with(bounds);
    for id in [1, 3, 5, 7] {
        ours.take(&post(id)).unwrap();
    }
    assert_eq!(ours.events, ["head 1", "head 3", "head 5"]);
    assert_eq!(ours.said(), ["rst 7 refused-stream"]);
    // Again and again.
    assert_eq!(flood(ours, 1000, |_, i| post(9 + 2 * i as u32)), (49, CALM));
}

#[test]
fn rs_11_fields_without_a_name() {
    let mut ours = Ours::server();
    let fields = vec![("", ""); 50];
    ours.take(&headers(1, &with(&GET, &fields), true)).unwrap();
    assert_eq!(ours.said(), [RST_PROTOCOL]);
}

#[test]
fn a_ping_for_every_data_is_no_flood() {
    // So gRPC's clients measure a way while a message flows.
    let mut ours = Ours::server();
    ours.take(&get(1)).unwrap();
    ours.conn.head(1, &[0x88], false, 0);
    for i in 0..2000 {
        ours.now += 1;
        assert_eq!(ours.conn.data(1, b"message", false, ours.now), 7, "{i}");
        ours.drain();
        let ping = frame(kind::PING, 0, 0, &[0; 8]);
        let windows = [window_update(0, 7), window_update(1, 7)].concat();
        ours.take(&[ping, windows].concat()).unwrap();
    }
    // Without them it is.
    let ping = |_: &mut Ours, _: usize| frame(kind::PING, 0, 0, &[0; 8]);
    ours.now += 20_000;
    assert_eq!(flood(ours, 1000, ping), (20, CALM));
}

#[test]
fn who_gave_up_and_asks_anew_is_refused_and_no_more() {
    let mut ours = Ours::server();
    for round in 0..3 {
        let id = |i: u32| 2 * (150 * round + i) + 1;
        for i in 0..100 {
            ours.take(&get(id(i))).unwrap();
            ours.conn.head(id(i), &[0x88], false, ours.now);
        }
        // All at once: the session has had no time for what was given up.
        let given_up = (0..60).map(|i| rst(id(i)));
        let anew = (100..150).map(|i| get(id(i)));
        ours.take(&given_up.chain(anew).collect::<Vec<_>>().concat())
            .unwrap();
        let refused = ours.said();
        assert_eq!(refused.len(), 50);
        assert!(refused.iter().all(|r| r.ends_with("refused-stream")));
        for i in 0..100 {
            ours.conn.release(id(i));
        }
        ours.said();
    }
    // Places that it has not given up are another matter.
    for i in 0..100 {
        ours.take(&get(1001 + 2 * i)).unwrap();
    }
    let above = |_: &mut Ours, i: usize| get(2001 + 2 * i as u32);
    assert_eq!(flood(ours, 1000, above).1, CALM);
}
