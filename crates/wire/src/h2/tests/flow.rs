//! Windows, credit and whose turn it is.

use super::*;

#[test]
fn rs_09_windows_that_do_not_open() {
    let body = vec![0; 100_000];
    let start = |window: u32| {
        let mut ours = Ours::server();
        ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, window)]))
            .unwrap();
        ours.take(&get(1)).unwrap();
        ours.conn.head(1, &[0x88], false, 0);
        ours
    };
    // Shut from the beginning; an increment now and then is no progress.
    let mut ours = start(0);
    assert_eq!(ours.conn.data(1, &body, true, 0), 0);
    for now in 1..30u64 {
        ours.take(&window_update(1, 1)).unwrap();
        assert_eq!(ours.conn.next_writable(), Some(1));
        assert_eq!(ours.conn.data(1, &body, true, now * 1000), 1);
        assert_eq!(ours.conn.tick(now * 1000), None);
    }
    assert_eq!(ours.conn.next_tick(), Some(30_000));
    let reset = Event::Reset {
        stream: 1,
        code: ErrorCode::CANCEL,
        remote: false,
    };
    assert_eq!(ours.conn.tick(30_000), Some(reset));
    assert_eq!(ours.conn.tick(30_000), None);
    assert_eq!(ours.said(), ["rst 1 cancel"]);
    // 16 KiB is progress.
    let mut ours = start(0);
    assert_eq!(ours.conn.data(1, &body, true, 0), 0);
    ours.take(&window_update(1, 16 << 10)).unwrap();
    assert_eq!(ours.conn.data(1, &body, true, 29_000), 16 << 10);
    assert_eq!(ours.conn.tick(30_000), None);
    assert_eq!(ours.conn.tick(59_000), Some(reset));
    // The connection's window, of which nothing comes.
    let mut ours = start(1 << 20);
    assert_eq!(ours.conn.data(1, &body, true, 0), 65_535);
    assert_eq!(ours.conn.tick(30_000), Some(reset));
    // What waits for others may wait: its own window is open, and the connection moves.
    let mut ours = start(50_000);
    ours.take(&headers(3, &with(&GET, &[("priority", "u=0")]), true))
        .unwrap();
    ours.conn.head(3, &[0x88], false, 0);
    assert_eq!(ours.conn.data(3, &body, true, 0), 50_000);
    assert_eq!(ours.conn.data(1, &body, true, 0), 15_535);
    for i in 1..10u32 {
        let now = u64::from(i) * 20_000;
        ours.take(&[window_update(0, 20_000), window_update(3, 20_000)].concat())
            .unwrap();
        assert_eq!(ours.conn.next_writable(), Some(3));
        assert_eq!(ours.conn.data(3, &body, true, now), 20_000);
        ours.conn.out.clear();
        assert_eq!(ours.conn.tick(now + 9_999), None);
    }
    // A window made smaller than what is under way.
    let mut ours = start(1000);
    assert_eq!(ours.conn.data(1, &body, true, 0), 1000);
    ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]))
        .unwrap();
    ours.take(&window_update(1, 1000)).unwrap();
    assert_eq!(ours.conn.data(1, &body, true, 0), 0);
    ours.take(&window_update(1, 1)).unwrap();
    assert_eq!(ours.conn.data(1, &body, true, 0), 1);
}

#[test]
fn what_we_hold_is_bounded_by_windows() {
    // Nothing is given back: a stream's window, then no more.
    let mut ours = Ours::server();
    let mut taken = 0;
    ours.take(&post(1)).unwrap();
    let piece = data(1, &[0; 16 << 10], false);
    while !ours.conn.is_over(1) {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let received = ours.conn.receive(rest, 0).unwrap();
            rest = &rest[received.taken..];
            if let Some(Event::Data { bytes, .. }) = received.event {
                taken += bytes.len();
            }
        }
    }
    let fault = ours.said();
    assert_eq!(taken, 256 << 10);
    assert_eq!(fault, ["rst 1 flow-control-error"]);
    // Given back: credit, for the stream and for the connection; padding by itself.
    let mut ours = Ours::server();
    ours.take(&post(1)).unwrap();
    for _ in 0..1000 {
        let mut padded = vec![255];
        padded.extend_from_slice(&[0; 1000]);
        ours.take(&frame(kind::DATA, flag::PADDED, 1, &padded))
            .unwrap();
        ours.take(&data(1, &[0; 16 << 10], false)).unwrap();
        ours.drain();
    }
    let given = |stream| -> u32 {
        ours.out
            .iter()
            .filter(|f| f.0 == kind::WINDOW_UPDATE && f.2 == stream)
            .map(|f| frame::word(&f.3).unwrap())
            .sum()
    };
    assert!(given(1) > 16_000_000 && given(0) > 16_000_000);
}

#[test]
fn padding_costs_no_credit() {
    let mut ours = Ours::server();
    ours.take(&post(1)).unwrap();
    let mut padded = vec![255];
    padded.extend_from_slice(&[0; 256]);
    for _ in 0..10_000 {
        ours.take(&frame(kind::DATA, flag::PADDED, 1, &padded))
            .unwrap();
        ours.conn.out.clear();
    }
    assert_eq!(ours.body.len(), 10_000);
}

#[test]
fn who_comes_first_waits_for_the_more_urgent() {
    let body = vec![0; 70_000];
    let mut ours = Ours::server();
    for (id, urgency) in [(1, "u=3"), (3, "u=5"), (5, "u=0")] {
        let block = with(&GET, &[("priority", urgency)]);
        ours.take(&headers(id, &block, true)).unwrap();
        ours.conn.head(id, &[0x88], false, 0);
    }
    // The first has used up the connection's window, and wants more of it.
    assert_eq!(ours.conn.data(1, &body, true, 0), 65_535);
    ours.take(&[window_update(0, 1000), window_update(1, 1000)].concat())
        .unwrap();
    assert_eq!(ours.conn.data(3, &body, true, 0), 0);
    assert_eq!(ours.conn.data(5, &body[..10], true, 0), 10);
    assert_eq!(ours.conn.next_writable(), Some(1));
    assert_eq!(ours.conn.data(1, &body, false, 0), 990);
}

#[test]
fn credit_of_bytes_that_nobody_took_comes_back() {
    let mut ours = Ours::server();
    // Ten times the connection's window, by streams that are given up, at once or in the middle of a frame.
    for i in 0..1000u32 {
        let id = 2 * i + 1;
        ours.now += 1000;
        ours.take(&post(id)).unwrap();
        let piece = data(id, &[0; 16 << 10], false);
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let now_here = rest.len().min(10_000);
            let received = ours.conn.receive(&rest[..now_here], ours.now).unwrap();
            rest = &rest[received.taken..];
            if i % 2 == 0 && received.event.is_some() {
                ours.conn.release(id);
            }
        }
        if i % 2 == 1 {
            ours.conn.release(id);
        }
        ours.conn.out.clear();
    }
    assert_eq!(ours.conn.streams(), 0);
}

#[test]
fn urgent_streams_first_and_equal_ones_in_turn() {
    let body = vec![0; 1 << 20];
    let mut ours = Ours::server();
    ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]))
        .unwrap();
    let request = |id, priority| headers(id, &with(&GET, &[("priority", priority)]), true);
    for (id, priority) in [(1, "u=5"), (3, "u=3, i"), (5, "u=3, i"), (7, "u=0")] {
        ours.take(&request(id, priority)).unwrap();
        ours.conn.head(id, &[0x88], false, 0);
    }
    // Nobody may: the connection's window is used up by another.
    ours.take(&get(9)).unwrap();
    ours.conn.head(9, &[0x88], false, 0);
    assert_eq!(ours.conn.data(9, &body, false, 0), 65_535);
    ours.conn.release(9);
    for id in [1, 3, 5, 7] {
        assert_eq!(ours.conn.data(id, &body, false, 0), 0);
    }
    ours.conn.out.clear();
    assert_eq!(ours.conn.next_writable(), None);
    ours.take(&window_update(0, 1 << 29)).unwrap();
    ours.conn.out.clear();
    // The most urgent fills what there is.
    assert_eq!(ours.conn.next_writable(), Some(7));
    assert_eq!(ours.conn.next_writable(), None);
    assert_eq!(ours.conn.data(7, &body, false, 0), 128 << 10);
    ours.conn.out.clear();
    assert_eq!(ours.conn.next_writable(), Some(7));
    // It has no more; the next ones take turns.
    assert_eq!(ours.conn.data(7, b"x", true, 0), 1);
    let mut order = Vec::new();
    for _ in 0..2 {
        ours.conn.out.clear();
        let mut named = Vec::new();
        while let Some(id) = ours.conn.next_writable() {
            named.push(id);
        }
        for id in named {
            order.push((id, ours.conn.data(id, &body, false, 0)));
        }
    }
    assert_eq!(
        order[..3],
        [(3, 16 << 10), (5, 16 << 10), (1, (96 << 10) - 18)]
    );
    // PRIORITY_UPDATE changes its mind.
    ours.take(&frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=0"))
        .unwrap();
    ours.conn.out.clear();
    assert_eq!(ours.conn.next_writable(), Some(1));
}

#[test]
fn who_was_refused_is_not_ready_before_its_name_is_called() {
    let body = vec![0; 100_000];
    let mut ours = Ours::server();
    ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]))
        .unwrap();
    ours.take(&get(1)).unwrap();
    ours.conn.head(1, &[0x88], false, 0);
    assert_eq!(ours.conn.data(1, &body, true, 0), 65_535);
    // More comes of the connection's window, and another request, before the first has had its turn.
    ours.take(&[window_update(0, 1 << 20), get(3)].concat())
        .unwrap();
    ours.conn.head(3, &[0x88], false, 0);
    assert_eq!(ours.conn.data(3, b"mine", true, 0), 0);
    // Nothing has gone out since it came.
    assert!(!ours.conn.is_held_up(3));
    // Who calls it ready would have it try again for ever, and the first never get its turn.
    assert_eq!(ours.conn.writable(3), 0);
    assert_eq!(ours.conn.next_writable(), Some(1));
    assert_eq!(ours.conn.next_writable(), Some(3));
    assert_eq!(ours.conn.writable(3), (128 << 10) - ours.conn.out.len());
    assert_eq!(ours.conn.data(3, b"mine", true, 0), 4);
    assert!(!ours.conn.is_held_up(3));
}

#[test]
fn who_is_held_up_by_others_is_not_slow() {
    let body = vec![0; 100_000];
    let mut ours = Ours::server();
    ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]))
        .unwrap();
    for (id, priority) in [(1, "u=7"), (3, "u=0")] {
        let block = with(&GET, &[("priority", priority)]);
        ours.take(&headers(id, &block, true)).unwrap();
        ours.conn.head(id, &[0x88], false, 0);
    }
    assert_eq!(ours.conn.data(3, &body, false, 0), 65_535);
    assert_eq!(ours.conn.data(1, &body, false, 0), 0);
    assert!(ours.conn.is_held_up(1));
    // Each of the two is to move by 16 KiB, or the other in its place.
    let mut more = |n: u32| {
        ours.take(&window_update(0, n)).unwrap();
        assert_eq!(ours.conn.next_writable(), Some(3));
        while ours.conn.next_writable().is_some() {}
        assert_eq!(ours.conn.data(3, &body, false, 0), n as usize);
        ours.conn.out.clear();
        ours.conn.is_held_up(1)
    };
    assert!(more(32 << 10));
    assert!(!more((32 << 10) - 1));
    // Its own window is its peer's.
    ours.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]))
        .unwrap();
    assert!(!ours.conn.is_held_up(1));
}

#[test]
fn streams_of_a_peer_that_says_nothing_of_urgency_share() {
    let body = vec![0; 1 << 20];
    let turns = |settled: &[(u16, u32)], priority: Option<&'static str>| {
        let mut ours = Ours::server();
        let windows = [&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)], settled].concat();
        ours.take(&[settings(&windows), window_update(0, 1 << 29)].concat())
            .unwrap();
        for id in [1, 3] {
            let more: Vec<_> = priority.map(|p| ("priority", p)).into_iter().collect();
            ours.take(&headers(id, &with(&GET, &more), true)).unwrap();
            ours.conn.head(id, &[0x88], false, 0);
        }
        ours.drain();
        assert_eq!(ours.conn.data(1, &body, false, 0), 128 << 10);
        assert_eq!(ours.conn.data(3, &body, false, 0), 0);
        let mut named = Vec::new();
        for _ in 0..2 {
            ours.conn.out.clear();
            let next = ours.conn.next_writable().unwrap();
            named.push(next);
            while ours.conn.next_writable().is_some() {}
            ours.conn.data(next, &body, false, 0);
        }
        named
    };
    assert_eq!(turns(&[], None), [3, 1]);
    // Who has said so wants them one after the other (RFC 9218 10).
    assert_eq!(turns(&[], Some("u=3")), [1, 1]);
    assert_eq!(turns(&[(setting::NO_RFC7540_PRIORITIES, 1)], None), [1, 1]);
}

#[test]
fn a_slow_reader_does_not_stand_still() {
    let mut ours = Ours::server();
    ours.take(&get(1)).unwrap();
    ours.conn.head(1, &[0x88], false, 0);
    assert_eq!(ours.conn.data(1, &vec![0; 70_000], true, 0), 65_535);
    ours.conn.moved(29_000);
    assert_eq!(ours.conn.next_tick(), Some(59_000));
    assert_eq!(ours.conn.tick(58_999), None);
    assert!(ours.conn.tick(59_000).is_some());
}

#[test]
fn a_connection_that_is_over_has_no_time() {
    let mut ours = Ours::server();
    // A header block that does not end.
    ours.take(&frame(kind::HEADERS, 0, 1, &[0x82])).unwrap();
    assert_eq!(ours.conn.next_tick(), Some(30_000));
    assert_eq!(ours.conn.tick(30_000), None);
    assert!(ours.conn.fatal().is_some());
    // Else a session whose last word cannot leave would look again and again.
    assert_eq!(ours.conn.next_tick(), None);
}

#[test]
fn streams_grow_within_what_they_have_together() {
    let bounds = Bounds {
        growth: 300 << 10,
        connection_window: (1 << 30, 1 << 30),
        ..Bounds::default()
    };
    let mut ours = Ours::server_with(bounds);
    let fill = |ours: &mut Ours, id: u32| {
        ours.take(&post(id)).unwrap();
        // What flows through makes its window larger.
        for _ in 0..300 {
            ours.take(&data(id, &[0; 16 << 10], false)).unwrap();
            ours.drain();
        }
        // And what nobody takes stops at it.
        let mut held = 0;
        let piece = data(id, &[0; 16 << 10], false);
        loop {
            let received = ours.conn.receive(&piece, 0).unwrap();
            if ours.conn.is_over(id) {
                ours.take(&piece[received.taken..]).unwrap();
                ours.drain();
                return held >> 10;
            }
            held += 16 << 10;
        }
    };
    let first: u32 = fill(&mut ours, 1);
    let second = fill(&mut ours, 3);
    // Less than half a window may be on its way back to the peer.
    assert!((300..=556).contains(&first), "{first}");
    assert!((128..=256).contains(&second), "{second}");
    // The first is gone, and what it had is free.
    ours.conn.release(1);
    let third = fill(&mut ours, 5);
    assert!((300..=556).contains(&third), "{third}");
}
