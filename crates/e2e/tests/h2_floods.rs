//! Attacks on resources over HTTP/2 (catalogue RS-01 to RS-12): each bound at its value and beyond, with somebody else beside it who
//! must not notice, and with what it costs the proxy. `NARTHEX_SECURITY=write` writes that into `docs/security/http2.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use narthex_e2e::kit::h2::cost::Watch;
use narthex_e2e::kit::h2::frame::{flag, kind};
use narthex_e2e::kit::h2::hpack::NEWEST;
use narthex_e2e::kit::h2::{Block, Frame, Got, Peer, code, setting};
use narthex_e2e::kit::origin::{Origin, Step, answer};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, full, pause};

const MIB: u64 = 1024;

fn rig() -> Rig {
    let rig = Rig::plain();
    rig.origin
        .on("/wait", [Step::ReadBody, Step::AwaitEnd])
        .on("/big", answer(big()));
    rig
}

fn big() -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec();
    bytes.resize(bytes.len() + 1_000_000, b'b');
    bytes
}

fn waiting(id: u32) -> Frame {
    Frame::headers(id, Block::get("/wait"), true)
}
fn upload(id: u32) -> Frame {
    Frame::headers(id, Block::post("/p"), false)
}

/// A peer that does not mind numbers: floods number their streams themselves, and answers to them are not looked at.
fn flooder(rig: &Rig) -> Peer {
    Peer::connect(rig.proxy.addr())
}

/// Waits for ENHANCE_YOUR_CALM. A connection that ends without it has ended, too, when it was closed over what it sent.
fn calmed(peer: &mut Peer) -> bool {
    peer.until(|p| !p.goaways.is_empty());
    peer.goaways
        .last()
        .is_some_and(|g| g.1 == code::ENHANCE_YOUR_CALM)
}

/// So many of something pass and a request after them is answered; one more does not.
#[track_caller]
fn edge(what: &str, bound: usize, flood: impl Fn(&mut Peer, usize)) {
    let rig = rig();
    let mut within = flooder(&rig);
    flood(&mut within, bound);
    let answer = {
        let id = 90_001;
        within.stream(id);
        within.frame(&Frame::headers(id, Block::get("/after"), true));
        within.answer(id)
    };
    assert_eq!(
        (answer.status(), within.goaways.len()),
        (200, 0),
        "{bound} of {what} must pass: {answer:?} {:?}",
        within.goaways
    );
    let mut beyond = flooder(&rig);
    flood(&mut beyond, bound + 1);
    assert!(
        calmed(&mut beyond),
        "{} of {what}: {:?}",
        bound + 1,
        beyond.over
    );
    beyond.read_to_end(PATIENCE);
    assert!(beyond.over.is_some(), "{what}: the connection stays open");
    rig.alive();
}

/// Sends runs of frames, one connection after the other, for as long as an attack lasts. Gives how many frames went out and how
/// many connections it took.
fn flood(rig: &Rig, lasting: Duration, mut make: impl FnMut(&mut u32) -> Vec<u8>) -> (u64, u64) {
    let end = Instant::now() + lasting;
    let (mut runs, mut connections) = (0, 0);
    while Instant::now() < end {
        let mut peer = flooder(rig);
        peer.link().write_within(Duration::from_secs(2));
        connections += 1;
        let mut id = 1;
        while Instant::now() < end && peer.send(make(&mut id)) {
            runs += 1;
            // What comes is taken, so that it is the proxy that must end this.
            while let Got::Frame(_) = peer.poll(Duration::ZERO) {}
            peer.streams.clear();
            peer.faults.clear();
            if peer.over.is_some() {
                break;
            }
        }
    }
    (runs, connections)
}

fn lasting() -> Duration {
    Duration::from_secs(if full() { 20 } else { 2 })
}

/// A flood of such runs, watched.
#[track_caller]
fn watched(what: &str, bound: &str, most_kib: u64, make: impl FnMut(&mut u32) -> Vec<u8>) {
    let rig = rig();
    let watch = Watch::begin(&rig, what, bound);
    let (runs, connections) = flood(&rig, lasting(), make);
    println!("{what}: {runs} runs over {connections} connections");
    watch.end(&rig, most_kib);
}

fn times(frame: &Frame, n: usize) -> Vec<u8> {
    frame.bytes().repeat(n)
}

// ---- RS-01

#[test]
fn rs_01_rapid_reset_edge() {
    edge("resets before an answer", 100, |p, n| {
        for i in 0..n as u32 {
            let id = 1 + 2 * i;
            p.stream(id);
            p.frames(&[waiting(id), Frame::reset(id, code::CANCEL)]);
            // The work upstream ends meanwhile: it is not the limit of streams that is tested here.
            pause(Duration::from_millis(3));
        }
    });
}

#[test]
fn rs_01_rapid_reset() {
    watched(
        "RS-01 rapid reset: HEADERS and RST_STREAM",
        "100 in 10 s before an answer, 1,000 in all",
        24 * MIB,
        |id| {
            let pairs = (0..50).flat_map(|_| {
                let this = *id;
                *id += 2;
                [waiting(this), Frame::reset(this, code::CANCEL)]
            });
            pairs.flat_map(|f| f.bytes()).collect()
        },
    );
}

/// Streams that were reset count as long as an origin works for them: no more than the limit are ever under way.
#[test]
fn rs_01_work_under_way_is_bounded() {
    let rig = rig();
    let mut peer = flooder(&rig);
    for i in 0..90_u32 {
        let id = 1 + 2 * i;
        peer.stream(id);
        peer.frames(&[waiting(id), Frame::reset(id, code::CANCEL)]);
    }
    assert!(peer.pings());
    let most = rig.origin.take_crowds().into_iter().max().unwrap_or(0);
    assert!(most <= 100, "{most} at once");
    // What nobody waits for is ended at the origin.
    let ended = rig.origin.wait_conns(PATIENCE, |conns| {
        conns
            .iter()
            .filter(|c| c.received > 0)
            .all(|c| c.ended.is_some())
    });
    assert!(ended, "requests go on for streams that were reset");
}

// ---- RS-02

/// Ways to make the server reset a request that it has taken.
fn primitives(id: u32) -> Vec<(&'static str, Vec<Frame>)> {
    vec![
        (
            "WINDOW_UPDATE of 0",
            vec![waiting(id), Frame::window(id, 0)],
        ),
        (
            "WINDOW_UPDATE that overflows",
            vec![waiting(id), Frame::window(id, i32::MAX as u32)],
        ),
        (
            "PRIORITY of a wrong length",
            vec![waiting(id), Frame::new(kind::PRIORITY, 0, id, [0; 4])],
        ),
        (
            "PRIORITY on itself",
            vec![waiting(id), Frame::priority(id, id, 1)],
        ),
        ("HEADERS on half-closed", vec![waiting(id), waiting(id)]),
        (
            "DATA on half-closed",
            vec![waiting(id), Frame::data(id, "x", true)],
        ),
        (
            "a malformed request",
            vec![Frame::headers(
                id,
                Block::get("/wait").field("Bad", "x"),
                true,
            )],
        ),
        (
            "more than its length",
            vec![
                Frame::headers(id, Block::post("/wait").field("content-length", "1"), false),
                Frame::data(id, "too long", true),
            ],
        ),
    ]
}

#[test]
fn rs_02_made_you_reset_edge() {
    edge("resets that are provoked", 50, |p, n| {
        for i in 0..n as u32 {
            let id = 1 + 2 * i;
            p.stream(id);
            p.frames(&[waiting(id), Frame::window(id, 0)]);
            p.until(|p| p.streams[&id].is_over());
        }
    });
}

/// What a connection may do in all, a window's worth at a time, with somebody else beside it: the last one passes, one more does not.
/// Without `NARTHEX_E2E_FULL` only the first window.
#[track_caller]
fn lifetime(what: &str, a_window: u32, in_all: u32, one: impl Fn(&mut Peer, u32)) {
    let rig = rig();
    let mut peer = flooder(&rig);
    let mut id = 1;
    let mut spend = |peer: &mut Peer, n: u32| {
        for _ in 0..n {
            peer.stream(id);
            one(peer, id);
            peer.streams.clear();
            id += 2;
        }
    };
    let windows = in_all / a_window;
    for window in 1..=if full() { windows } else { 1 } {
        spend(&mut peer, a_window);
        assert!(
            peer.pings(),
            "{what}: ended in window {window}: {:?}",
            peer.goaways
        );
        rig.alive();
        if window < windows && full() {
            pause(Duration::from_millis(10_200));
        }
    }
    if full() {
        // A new window, so that it is not this one's bound.
        pause(Duration::from_millis(10_200));
        spend(&mut peer, 1);
        assert!(
            calmed(&mut peer),
            "{what}: {in_all} and one more: {:?}",
            peer.over
        );
        rig.alive();
    }
}

#[test]
fn rs_01_rapid_reset_in_all() {
    lifetime("resets before an answer", 100, 1_000, |p, id| {
        p.frames(&[waiting(id), Frame::reset(id, code::CANCEL)]);
        pause(Duration::from_millis(3));
    });
}

#[test]
fn rs_02_made_you_reset_in_all() {
    lifetime("resets that are provoked", 50, 500, |p, id| {
        p.frames(&[waiting(id), Frame::window(id, 0)]);
        p.until(|p| p.streams[&id].is_over());
    });
}

#[test]
fn rs_02_made_you_reset() {
    let mut turn = 0_usize;
    watched(
        "RS-02 MadeYouReset: eight ways to provoke a reset",
        "50 in 10 s, 500 in all",
        24 * MIB,
        |id| {
            turn += 1;
            let mut out = Vec::new();
            for _ in 0..50 {
                let all = primitives(*id);
                *id += 2;
                let which = turn % all.len();
                out.extend(all[which].1.iter().flat_map(Frame::bytes));
            }
            out
        },
    );
}

// ---- RS-03

/// Nobody reads: what the proxy has to say is bounded, and it does not wait forever.
#[test]
fn rs_03_nobody_reads() {
    let rig = rig();
    let watch = Watch::begin(
        &rig,
        "RS-03 provoked frames that are not read",
        "1,000 frames or 64 KiB wait, then closed",
    );
    let kinds: [Vec<u8>; 3] = [
        times(&Frame::ping(*b"unread!!"), 100),
        times(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 5)]), 100),
        [
            times(&Frame::new(kind::PRIORITY, 0, 1, [0; 4]), 50),
            times(&Frame::window(1, 0), 50),
        ]
        .concat(),
    ];
    for run in &kinds {
        for _ in 0..10 {
            let mut peer = flooder(&rig);
            peer.link().sock().unwrap().small_receive_buffer(2048);
            peer.link().write_within(Duration::from_secs(1));
            peer.frame(&waiting(1));
            let sent = (0..20_000).take_while(|_| peer.send(run)).count();
            assert!(
                sent < 20_000,
                "two million frames were taken from somebody who does not read"
            );
        }
    }
    watch.end(&rig, 24 * MIB);
}

// ---- RS-04

#[test]
fn rs_04_ping_edge() {
    edge("PING", 20, |p, n| {
        drop_bool(p.send(times(&Frame::ping([7; 8]), n)))
    });
}
#[test]
fn rs_04_settings_edge() {
    // The greeting's own and the acknowledgement of the proxy's are SETTINGS, too.
    edge("SETTINGS", 8, |p, n| {
        (0..n).for_each(|_| drop_bool(p.settings(&[])))
    });
}
#[test]
fn rs_04_priority_edge() {
    edge("PRIORITY", 100, |p, n| {
        drop_bool(p.send(times(&Frame::priority(1, 0, 1), n)))
    });
    edge("PRIORITY_UPDATE", 100, |p, n| {
        drop_bool(p.send(times(&Frame::priority_update(1, "u=1"), n)))
    });
    edge("unknown frames", 100, |p, n| {
        drop_bool(p.send(times(&Frame::new(0x77, 0, 0, [0; 4]), n)))
    });
}
#[test]
fn rs_04_window_update_edge() {
    edge("WINDOW_UPDATE", 100, |p, n| {
        drop_bool(p.send(times(&Frame::window(0, 1), n)))
    });
}
fn drop_bool(_: bool) {}

#[test]
fn rs_04_floods() {
    for (name, bound, frame) in [
        ("PING", "20 in 10 s", Frame::ping([1; 8])),
        (
            "PING ACK",
            "20 in 10 s",
            Frame::ping([1; 8]).flags(flag::ACK),
        ),
        (
            "SETTINGS",
            "10 in 10 s",
            Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 77)]),
        ),
        ("SETTINGS ACK", "10 in 10 s", Frame::settings_ack()),
        (
            "PRIORITY",
            "100 + 10 per stream, in 10 s",
            Frame::priority(1, 0, 1),
        ),
        (
            "PRIORITY_UPDATE",
            "100 + 10 per stream, in 10 s",
            Frame::priority_update(1, "u=1"),
        ),
        (
            "WINDOW_UPDATE",
            "100 + 10 per DATA sent",
            Frame::window(0, 1),
        ),
        (
            "unknown frames",
            "100 + 10 per stream, in 10 s",
            Frame::new(0xf0, 0, 0, [0; 16]),
        ),
        (
            "RST_STREAM again and again",
            "100 in 10 s",
            Frame::reset(1, 8),
        ),
    ] {
        let run = times(&frame, 500);
        let mut first = true;
        watched(&format!("RS-04 flood of {name}"), bound, 24 * MIB, |_| {
            if std::mem::take(&mut first) {
                // Some kinds need a stream that was there.
                return [waiting(1).bytes(), run.clone()].concat();
            }
            run.clone()
        });
    }
}

// ---- RS-05

#[test]
fn rs_05_empty_frames_edge() {
    edge("empty DATA", 10, |p, n| {
        p.frame(&upload(1));
        p.send(times(&Frame::data(1, "", false), n));
    });
    edge("empty DATA with padding", 10, |p, n| {
        p.frame(&upload(1));
        p.send(times(&Frame::data(1, "", false).padded(1), n));
    });
}

#[test]
fn rs_05_empty_frames() {
    let run = times(&Frame::data(1, "", false), 1000);
    watched("RS-05 empty DATA", "10 in a row", 24 * MIB, |id| {
        let begin = if *id == 1 {
            upload(1).bytes()
        } else {
            Vec::new()
        };
        *id = 3;
        [begin, run.clone()].concat()
    });
    let empty = times(&Frame::continuation(1, [], false), 1000);
    watched(
        "RS-05 empty HEADERS and CONTINUATION",
        "8 of a block, 10 in a row",
        24 * MIB,
        |id| {
            let begin = if *id == 1 {
                Frame::headers_begin(1, [], false).bytes()
            } else {
                Vec::new()
            };
            *id = 3;
            [begin, empty.clone()].concat()
        },
    );
}

// ---- RS-06

#[test]
fn rs_06_continuation_edge() {
    for (n, fine) in [(8, true), (9, false), (12, false)] {
        let rig = rig();
        let mut peer = flooder(&rig);
        peer.stream(1);
        let block = Block::get("/x").field("x", "v".repeat(200));
        let mut frames = vec![Frame::headers_begin(1, &block, true)];
        for i in 1..=n {
            frames.push(Frame::continuation(1, Block::new().field("x", "y"), i == n));
        }
        peer.frames(&frames);
        if fine {
            assert_eq!(peer.answer(1).status(), 200, "{n} CONTINUATION");
        } else {
            assert!(calmed(&mut peer), "{n} CONTINUATION: {:?}", peer.over);
        }
    }
}

#[test]
fn rs_06_continuation_flood() {
    let entry = Block::new().field("x", "v".repeat(16_000));
    let run = times(&Frame::continuation(1, &entry, false), 10);
    watched(
        "RS-06 CONTINUATION without an end",
        "8 of a block",
        24 * MIB,
        |id| {
            let begin = if *id == 1 {
                Frame::headers_begin(1, Block::get("/x"), false).bytes()
            } else {
                Vec::new()
            };
            *id = 3;
            [begin, run.clone()].concat()
        },
    );
}

// ---- RS-07

/// Blocks that are small and decode to much. Each on as many streams as there may be, with answers that may not be sent.
#[test]
fn rs_07_bombs() {
    let large = |b: Block| b.insert("x", "v".repeat(4000));
    let small = |b: Block| b.insert("x", "");
    let crumb = |b: Block| b.insert("cookie", "a");
    let named: [(&str, &dyn Fn(Block) -> Block, usize); 6] = [
        ("an entry of 4 KiB 16,000 times", &large, 16_000),
        ("an entry of 33 bytes 100,000 times", &small, 100_000),
        ("a cookie's crumb 100,000 times", &crumb, 100_000),
        ("an entry of 4 KiB 30 times", &large, 30),
        ("an entry of 33 bytes 90 times", &small, 90),
        ("a cookie's crumb 90 times", &crumb, 90),
    ];
    for (name, insert, times) in named {
        let rig = rig();
        let watch = Watch::begin(
            &rig,
            &format!("RS-07 bomb: {name}, 100 streams, window 0"),
            "100 fields; 32 KiB with 32 a field; beyond four times of it the connection",
        );
        for _ in 0..4 {
            let mut peer =
                Peer::with_settings(rig.proxy.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
            peer.link().write_within(Duration::from_secs(2));
            for i in 0..100_u32 {
                let id = 1 + 2 * i;
                peer.stream(id);
                let block = if i == 0 {
                    insert(Block::get("/big"))
                } else {
                    Block::get("/big")
                };
                let block = block.indexed_times(NEWEST, times);
                let pieces = Frame::header_pieces(id, block.as_ref(), true, 16_000);
                if !peer.frames(&pieces) {
                    break;
                }
                while let Got::Frame(_) = peer.poll(Duration::ZERO) {}
            }
            for _ in 0..10 {
                if !peer.grant(1, 1) {
                    break;
                }
                peer.poll(Duration::from_millis(20));
            }
            if times > 1000 {
                assert!(
                    calmed(&mut peer) || peer.over.is_some(),
                    "{name}: it goes on"
                );
            }
        }
        watch.end(&rig, 48 * MIB);
    }
}

/// The limits of a head, of HTTP/2 as of HTTP/1: at the limit it passes, beyond it 431, and the connection goes on.
#[test]
fn rs_07_limits_of_a_head() {
    let rig = rig();
    let mut peer = flooder(&rig);
    // Host is one of the fields.
    for (fields, status) in [(99, 200), (100, 431)] {
        let block = (0..fields).fold(Block::get("/x"), |b, _| b.field("x", "y"));
        assert_eq!(peer.ask(block).status(), status, "{fields} fields");
    }
    let value = |n: usize| Block::get("/x").field("x", "v".repeat(n));
    assert_eq!(peer.ask(value(8000)).status(), 200);
    assert_eq!(peer.ask(value(9000)).status(), 431, "one field");
    let heavy = |n: usize| (0..n).fold(Block::get("/x"), |b, _| b.insert("x", "v".repeat(2000)));
    let sized = |p: &mut Peer, n: usize| {
        let id = p.fresh();
        p.stream(id);
        p.frames(&Frame::header_pieces(id, heavy(n).as_ref(), true, 16_000));
        p.until(|p| p.streams[&id].is_over() || !p.goaways.is_empty());
        p.stream(id).status()
    };
    assert_eq!(sized(&mut peer, 15), 200);
    assert_eq!(sized(&mut peer, 17), 431);
    assert!(peer.pings(), "431 is an answer, not an end");
    peer.assert_clean();
    let long = Block::get(&format!("/{}", "p".repeat(9000)));
    assert_eq!(peer.ask(long).status(), 414);
}

// ---- RS-08

#[test]
fn rs_08_table_size_churn() {
    let mut large = false;
    watched(
        "RS-08 HEADER_TABLE_SIZE back and forth",
        "10 SETTINGS in 10 s; our table stays empty",
        24 * MIB,
        |id| {
            large = !large;
            let size = if large { u32::MAX } else { 0 };
            let mut bytes = Frame::settings(&[(setting::HEADER_TABLE_SIZE, size)]).bytes();
            bytes.extend(
                Frame::headers(
                    *id,
                    Block::new()
                        .size(if large { 4096 } else { 0 })
                        .raw(Block::get("/x")),
                    true,
                )
                .bytes(),
            );
            *id += 2;
            bytes
        },
    );
}

// ---- RS-09

/// Answers that may not be sent: an origin is not read beyond what buffers hold, however many streams there are.
#[test]
fn rs_09_zero_windows() {
    let rig = rig();
    let watch = Watch::begin(
        &rig,
        "RS-09 100 answers of 1 MB, window 0, a byte now and then, 4 connections",
        "128 KiB of outgoing buffer; 30 s without 16 KiB",
    );
    let mut peers: Vec<Peer> = (0..4)
        .map(|_| Peer::with_settings(rig.proxy.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]))
        .collect();
    for peer in &mut peers {
        peer.refills = false;
        for i in 0..100_u32 {
            peer.stream(1 + 2 * i);
            peer.frame(&Frame::headers(1 + 2 * i, Block::get("/big"), true));
        }
    }
    for round in 0..40_u32 {
        for peer in &mut peers {
            peer.grant(1 + 2 * round, 1);
            while let Got::Frame(_) = peer.poll(Duration::from_millis(5)) {}
        }
    }
    for peer in &peers {
        peer.assert_clean();
        assert!(
            peer.streams.values().map(|s| s.body_len).sum::<u64>() <= 40,
            "beyond the windows"
        );
    }
    watch.end(&rig, 100 * MIB);
}

/// Who does not take an answer loses it, however small the steps are in which he pretends to.
#[test]
fn rs_09_stalled_streams_end() {
    let rig = rig();
    let mut peer = Peer::with_settings(rig.proxy.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let (still, drip) = (
        peer.open(Block::get("/big"), true),
        peer.open(Block::get("/big"), true),
    );
    peer.refills = false;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(50)
        && !(peer.stream(still).is_over() && peer.stream(drip).is_over())
    {
        peer.grant(drip, 1);
        peer.read_to_end(Duration::from_millis(900));
    }
    for id in [still, drip] {
        let s = peer.stream(id).clone();
        assert!(
            s.reset.is_some(),
            "stream {id} after {:?}: {s:?}, connection {:?} {:?}",
            begun.elapsed(),
            peer.over,
            peer.goaways
        );
    }
    assert!(begun.elapsed() > Duration::from_secs(20), "too early");
    let fine = peer.open(Block::get("/after"), true);
    peer.grant(fine, 10_000);
    assert_eq!(peer.answer(fine).status(), 200, "the connection goes on");
}

// ---- RS-10

/// Requests that never end: they hold little, and others are served.
#[test]
fn rs_10_streams_without_an_end() {
    let connections = if full() { 500 } else { 40 };
    narthex_e2e::kit::raise_open_files();
    // Requests that never end are for an origin of their own: how many connections it has room for is not the question.
    let other = Origin::start();
    let rig = Rig::of(
        "",
        &format!(
            "route path=\"/p\" {{ proxy \"{}\" }}\nproxy \"u\"",
            other.place()
        ),
    );
    let watch = Watch::begin(
        &rig,
        &format!("RS-10 100 uploads without an end on each of {connections} connections"),
        "100 streams a connection; timers of a body",
    );
    let mut peers = Vec::new();
    for _ in 0..connections {
        let mut peer = flooder(&rig);
        let begun: Vec<Frame> = (0..100_u32)
            .map(|i| {
                Frame::headers(
                    1 + 2 * i,
                    Block::post("/p").field("content-length", "1000000"),
                    false,
                )
            })
            .collect();
        (0..100).for_each(|i| drop(peer.stream(1 + 2 * i).clone()));
        peer.frames(&begun);
        let some = (0..100_u32).map(|i| Frame::data(1 + 2 * i, vec![0; 100], false).bytes());
        peer.send(some.flatten().collect::<Vec<u8>>());
        peers.push(peer);
    }
    for peer in &mut peers {
        assert!(peer.pings(), "{:?}", peer.goaways);
    }
    watch.end(&rig, 40 * MIB + connections * 2 * MIB);
}

// ---- RS-11, RS-12

#[test]
fn rs_11_empty_names() {
    watched(
        "RS-11 fields without names",
        "malformed: 50 provoked resets in 10 s",
        24 * MIB,
        |id| {
            let mut out = Vec::new();
            for _ in 0..50 {
                let block = Block::get("/x").huffman(*id % 4 == 1);
                let block = (0..40).fold(block, |b, _| b.insert("", ""));
                out.extend(Frame::headers(*id, block, true).bytes());
                *id += 2;
            }
            out
        },
    );
}

#[test]
fn rs_12_priority_trees() {
    let mut n = 1_u32;
    watched(
        "RS-12 trees of priorities",
        "100 + 10 per stream, in 10 s; no tree is kept",
        24 * MIB,
        |_| {
            let mut out = Vec::new();
            for _ in 0..1000 {
                n = ((n + 2) % (1 << 30)) | 1;
                out.extend(Frame::priority(n, n.wrapping_sub(2) | 1 << 31, 7).bytes());
            }
            out
        },
    );
}
