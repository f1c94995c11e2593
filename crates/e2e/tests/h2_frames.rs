//! Frames and HPACK that break the rules (catalogue H2-11, H2-12): the cases that h2spec has, and some of our own, each with the
//! one answer that RFC 9113 and 7541 want, or the few they allow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use narthex_e2e::kit::attack::End;
use narthex_e2e::kit::h2::frame::{flag, kind};
use narthex_e2e::kit::h2::hpack::NEWEST;
use narthex_e2e::kit::h2::link::Link;
use narthex_e2e::kit::h2::{Block, Frame, Got, PREFACE, Peer, code, huffman, setting};
use narthex_e2e::kit::origin::Step;
use narthex_e2e::kit::rig::Rig;

/// What must come of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    /// The request on stream 1 is answered, and so is one after it.
    Fine,
    /// GOAWAY with one of these codes, and the end of the connection.
    Conn(&'static [u32]),
    /// RST_STREAM of stream 1 with one of these codes; the connection goes on.
    Stream(&'static [u32]),
    /// Either, with one of these codes.
    Either(&'static [u32]),
    /// Stream 1 is answered or reset, or nothing comes of it; the connection goes on.
    Ignored,
}
use Want::{Conn, Either, Fine, Ignored, Stream};

const PROTOCOL: &[u32] = &[code::PROTOCOL];
const SIZE: &[u32] = &[code::FRAME_SIZE];
const FLOW: &[u32] = &[code::FLOW_CONTROL];
const CLOSED: &[u32] = &[code::STREAM_CLOSED];
const CLOSED_OR: &[u32] = &[code::STREAM_CLOSED, code::PROTOCOL];
const COMPRESSION: &[u32] = &[code::COMPRESSION];

struct Cases<'r> {
    rig: &'r Rig,
    rows: usize,
    failures: Vec<String>,
}

impl<'r> Cases<'r> {
    fn new(rig: &'r Rig) -> Self {
        // A request that is under way for as long as the case needs, and one that asks for much.
        rig.origin.on("/wait", [Step::ReadBody, Step::AwaitEnd]);
        Self {
            rig,
            rows: 0,
            failures: Vec::new(),
        }
    }

    /// Frames in one go on a new connection.
    fn frames(&mut self, name: &str, want: Want, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.case(name, want, |peer| {
            peer.send(&bytes);
        });
    }

    /// Anything on a new connection whose stream 1 is known of.
    fn case(&mut self, name: &str, want: Want, attack: impl FnOnce(&mut Peer)) {
        let mut peer = Peer::connect(self.rig.proxy.addr());
        self.judge(name, want, &mut peer, attack);
    }

    fn judge(&mut self, name: &str, want: Want, peer: &mut Peer, attack: impl FnOnce(&mut Peer)) {
        self.rows += 1;
        // A stream of each number that cases use: their answers are no surprise.
        for id in [1, 3, 5, 7] {
            peer.stream(id);
        }
        attack(peer);
        let wrong = self.verdict(&want, peer).err();
        let faults = std::mem::take(&mut peer.faults);
        for why in wrong.into_iter().chain(faults) {
            self.failures.push(format!("{name} ({want:?}): {why}"));
        }
    }

    fn verdict(&self, want: &Want, peer: &mut Peer) -> Result<(), String> {
        let reset = |p: &Peer| p.streams.get(&1).and_then(|s| s.reset);
        match want {
            Conn(codes) => {
                if !peer.until(|p| !p.goaways.is_empty()) {
                    return Err(format!(
                        "no GOAWAY; {:?}, stream reset {:?}",
                        peer.over,
                        reset(peer)
                    ));
                }
                Self::coded(peer.goaways.last().map(|g| g.1), codes)?;
                match peer.read_to_end(Duration::from_secs(5)) {
                    End::Open => Err("the connection stays open".to_owned()),
                    End::Eof | End::Reset => Ok(()),
                }
            }
            Stream(codes) => {
                if !peer.until(|p| reset(p).is_some() || !p.goaways.is_empty()) {
                    return Err(format!("no reset: {:?}", peer.streams.get(&1)));
                }
                if !peer.goaways.is_empty() {
                    return Err(format!("GOAWAY: {:?}", peer.goaways));
                }
                Self::coded(reset(peer), codes)?;
                Self::goes_on(peer)
            }
            Either(codes) => {
                if !peer.until(|p| reset(p).is_some() || !p.goaways.is_empty()) {
                    return Err(format!("neither: {:?}", peer.streams.get(&1)));
                }
                let got = peer.goaways.last().map(|g| g.1);
                Self::coded(got.or_else(|| reset(peer)), codes)?;
                if got.is_none() {
                    Self::goes_on(peer)
                } else {
                    Ok(())
                }
            }
            Fine => {
                if !peer.until(|p| p.streams[&1].is_over()) {
                    return Err(format!("no answer: {:?} {:?}", peer.over, peer.goaways));
                }
                let one = peer.stream(1).clone();
                if one.status() != 200 || !one.ended {
                    return Err(format!("{one:?}"));
                }
                Self::goes_on(peer)
            }
            Ignored => Self::goes_on(peer),
        }
    }

    fn coded(got: Option<u32>, codes: &[u32]) -> Result<(), String> {
        if got.is_some_and(|c| codes.contains(&c)) {
            Ok(())
        } else {
            Err(format!("code {got:?}"))
        }
    }

    /// A new request is answered.
    fn goes_on(peer: &mut Peer) -> Result<(), String> {
        let id = 101;
        peer.stream(id);
        peer.frame(&Frame::headers(id, Block::get("/after"), true));
        peer.until(|p| p.streams[&id].is_over());
        let after = peer.stream(id).clone();
        if after.status() == 200 && peer.pings() {
            Ok(())
        } else {
            Err(format!(
                "does not go on: {after:?} {:?} {:?}",
                peer.goaways, peer.over
            ))
        }
    }

    #[track_caller]
    fn done(self, at_least: usize) {
        println!("{} cases", self.rows);
        assert!(self.rows >= at_least, "{} cases", self.rows);
        assert!(
            self.failures.is_empty(),
            "{} faults in {} cases:\n{}\n{}",
            self.failures.len(),
            self.rows,
            self.failures.join("\n"),
            self.rig.proxy.stderr()
        );
        self.rig.alive();
    }
}

fn get() -> Block {
    Block::get("/x")
}
fn whole(id: u32) -> Frame {
    Frame::headers(id, get(), true)
}
fn begun(id: u32) -> Frame {
    Frame::headers(id, Block::post("/x"), false)
}
/// A request whose answer does not come.
fn waiting(id: u32) -> Frame {
    Frame::headers(id, Block::get("/wait"), true)
}

#[test]
fn h2_11_beginnings_3_4() {
    let rig = Rig::plain();
    let mut t = Cases::new(&rig);
    t.frames("3.4 preface, then a request", Fine, &[whole(1)]);
    // Without a preface it is not HTTP/2 at all; whatever else it is, nobody is served.
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"INVALID CONNECTION PREFACE\r\n\r\n",
        b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n",
    ] {
        let mut peer = Peer::silent(Link::plain(rig.proxy.addr()));
        peer.send(bytes);
        peer.send(Frame::settings(&[]).bytes());
        let end = {
            let mut rest = Vec::new();
            let _ = std::io::Read::read_to_end(peer.link(), &mut rest);
            rest
        };
        assert!(!end.starts_with(b"HTTP/1.1 200"), "{}", end.escape_ascii());
    }
    // The first frame must be SETTINGS.
    for first in [
        whole(1),
        Frame::ping([0; 8]),
        Frame::settings_ack(),
        Frame::window(0, 5),
    ] {
        let mut peer = Peer::silent(Link::plain(rig.proxy.addr()));
        peer.stream(1);
        peer.send(PREFACE);
        peer.frame(&first);
        peer.until(|p| !p.goaways.is_empty());
        assert_eq!(
            peer.goaways.last().map(|g| g.1),
            Some(code::PROTOCOL),
            "{first:?}: {:?}",
            peer.over
        );
    }
    // In pieces, and with what follows in the same segment.
    for piece in [1, 5, 23, 24, 25, 1000] {
        let mut peer = Peer::silent(Link::plain(rig.proxy.addr()));
        peer.stream(1);
        let mut bytes = PREFACE.to_vec();
        bytes.extend(Frame::settings(&[(setting::ENABLE_PUSH, 0)]).bytes());
        bytes.extend(whole(1).bytes());
        peer.send_paced(&bytes, piece, Duration::from_millis(1));
        println!("pieces of {piece}");
        assert_eq!(peer.answer(1).status(), 200, "pieces of {piece}");
    }
    t.done(1);
}

#[test]
fn h2_11_frames_4_to_5() {
    let rig = Rig::plain();
    let mut t = Cases::new(&rig);
    t.frames(
        "4.1 unknown type",
        Fine,
        &[Frame::new(0xff, 0, 0, [0; 8]), whole(1)],
    );
    t.frames(
        "4.1 unknown type on a stream",
        Fine,
        &[
            begun(1),
            Frame::new(0x77, 0xff, 1, [0; 8]),
            Frame::data(1, "", true),
        ],
    );
    t.frames(
        "4.1 undefined flags",
        Fine,
        &[Frame::ping([0; 8]).flags(0xfe), whole(1).flags(0xd2)],
    );
    t.frames(
        "4.1 reserved bit",
        Fine,
        &[
            Frame::new(kind::PING, 0, 1 << 31, [0; 8]),
            Frame::headers(1 | 1 << 31, get(), true),
        ],
    );
    t.frames(
        "4.2 the largest DATA",
        Fine,
        &[begun(1), Frame::data(1, vec![0; 16_384], true)],
    );
    t.frames(
        "4.2 DATA too large",
        Either(SIZE),
        &[begun(1), Frame::data(1, vec![0; 16_385], true)],
    );
    let large = Block::get("/x").field("x", "v".repeat(16_384));
    t.frames(
        "4.2 HEADERS too large",
        Conn(SIZE),
        &[Frame::headers(1, &large, true)],
    );
    t.frames(
        "4.2 SETTINGS too large",
        Conn(SIZE),
        &[Frame::settings(&vec![(0x99, 1); 2731])],
    );
    t.frames(
        "4.2 unknown too large",
        Conn(SIZE),
        &[Frame::new(0x77, 0, 0, vec![0; 16_385])],
    );
    t.case("4.2 a length that is never sent", Conn(SIZE), |p| {
        p.send(begun(1).bytes_saying(0x00ff_ffff));
    });
    t.frames(
        "4.3 a block that is none",
        Conn(COMPRESSION),
        &[Frame::headers(
            1,
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            true,
        )],
    );
    let open = Frame::headers_begin(1, get(), true);
    let last = Frame::continuation(1, Block::new().field("y", "z"), true);
    for (name, between) in [
        ("PRIORITY", Frame::priority(1, 0, 1)),
        ("HEADERS of another", whole(3)),
        ("HEADERS of the same", whole(1)),
        ("DATA", Frame::data(1, "x", true)),
        ("PING", Frame::ping([0; 8])),
        ("SETTINGS", Frame::settings(&[])),
        ("WINDOW_UPDATE", Frame::window(0, 1)),
        ("RST_STREAM", Frame::reset(1, 8)),
        ("GOAWAY", Frame::goaway(0, 0)),
        ("an unknown frame", Frame::new(0x77, 0, 0, [0; 8])),
        (
            "CONTINUATION of another",
            Frame::continuation(3, get(), true),
        ),
        ("CONTINUATION of none", Frame::continuation(0, get(), true)),
    ] {
        t.frames(
            &format!("4.3, 6.2, 6.10 {name} in a block"),
            Conn(PROTOCOL),
            &[open.clone(), between, last.clone()],
        );
    }
    for (name, frame) in [
        ("DATA", Frame::data(1, "x", true)),
        ("RST_STREAM", Frame::reset(1, 8)),
        ("WINDOW_UPDATE", Frame::window(1, 100)),
        ("CONTINUATION", Frame::continuation(1, get(), true)),
    ] {
        t.frames(&format!("5.1 idle: {name}"), Conn(PROTOCOL), &[frame]);
    }
    t.frames(
        "5.1 idle: PRIORITY",
        Fine,
        &[Frame::priority(5, 3, 1), whole(1)],
    );
    t.frames(
        "5.1 half-closed: DATA",
        Either(CLOSED),
        &[waiting(1), Frame::data(1, "x", true)],
    );
    t.frames(
        "5.1 half-closed: HEADERS",
        Either(CLOSED),
        &[waiting(1), whole(1)],
    );
    t.frames(
        "5.1 half-closed: CONTINUATION",
        Conn(CLOSED_OR),
        &[waiting(1), Frame::continuation(1, get(), true)],
    );
    t.frames(
        "5.1 half-closed: WINDOW_UPDATE, PRIORITY",
        Fine,
        &[whole(1), Frame::window(1, 1), Frame::priority(1, 0, 1)],
    );
    t.frames(
        "5.1 half-closed: RST_STREAM",
        Ignored,
        &[waiting(1), Frame::reset(1, code::CANCEL)],
    );
    let after_reset = |f: Frame| [waiting(1), Frame::reset(1, code::CANCEL), f];
    t.frames(
        "5.1 closed by RST: DATA",
        Either(CLOSED),
        &after_reset(Frame::data(1, "x", true)),
    );
    t.frames(
        "5.1 closed by RST: HEADERS",
        Either(CLOSED_OR),
        &after_reset(whole(1)),
    );
    t.frames(
        "5.1 closed by RST: CONTINUATION",
        Conn(CLOSED_OR),
        &after_reset(Frame::continuation(1, get(), true)),
    );
    t.frames(
        "5.1 closed by RST: WINDOW_UPDATE",
        Ignored,
        &after_reset(Frame::window(1, 1)),
    );
    t.frames(
        "5.1 closed by RST: PRIORITY",
        Ignored,
        &after_reset(Frame::priority(1, 0, 1)),
    );
    for (name, frame, want) in [
        ("DATA", Frame::data(1, "x", true), Either(CLOSED)),
        ("HEADERS", whole(1), Either(CLOSED_OR)),
        (
            "CONTINUATION",
            Frame::continuation(1, get(), true),
            Conn(CLOSED_OR),
        ),
        ("PRIORITY", Frame::priority(1, 0, 1), Ignored),
        ("RST_STREAM", Frame::reset(1, 8), Ignored),
        ("WINDOW_UPDATE", Frame::window(1, 9), Ignored),
    ] {
        t.case(&format!("5.1 closed by its end: {name}"), want, |p| {
            p.frame(&whole(1));
            p.answer(1);
            p.frame(&frame);
        });
    }
    t.frames("5.1.1 an even stream", Conn(PROTOCOL), &[whole(2)]);
    t.frames(
        "5.1.1 a smaller stream",
        Conn(CLOSED_OR),
        &[waiting(5), whole(3)],
    );
    t.frames("5.1.1 stream 2^31 - 1", Ignored, &[]);
    t.case("5.1.2 more streams than allowed", Ignored, |p| {
        let most = p
            .said
            .get(&setting::MAX_CONCURRENT_STREAMS)
            .copied()
            .expect("a limit is announced");
        let ids: Vec<u32> = (0..=most).map(|n| 203 + 2 * n).collect();
        for id in &ids {
            p.stream(*id);
        }
        let frames: Vec<Frame> = ids.iter().map(|id| waiting(*id)).collect();
        p.frames(&frames);
        let last = *ids.last().unwrap();
        assert!(
            p.until(|p| p.streams[&last].is_over()),
            "one too many is not refused"
        );
        assert_eq!(p.stream(last).reset, Some(code::REFUSED_STREAM));
        for id in &ids[..ids.len() - 1] {
            assert!(!p.stream(*id).is_over(), "{id}: within the limit");
            p.frame(&Frame::reset(*id, code::CANCEL));
        }
        // `goes_on` uses a smaller number.
        // A place is free when the work for its stream has ended, which is a little after its reset.
        let mut fresh = last;
        let taken = narthex_e2e::kit::eventually(narthex_e2e::kit::PATIENCE, || {
            fresh += 2;
            p.stream(fresh);
            p.frame(&whole(fresh));
            p.until(|p| p.streams[&fresh].is_over())
                && p.stream(fresh).reset != Some(code::REFUSED_STREAM)
        });
        assert!(taken, "no place comes free");
        assert_eq!(p.answer(fresh).status(), 200);
        *p = Peer::connect(rig.proxy.addr());
        p.stream(1);
    });
    // RFC 9113 has no dependencies any more; what RFC 7540 forbade may be ignored; h2spec wants an error.
    t.frames(
        "5.3.1 HEADERS that depend on themselves",
        Ignored,
        &[whole(1).with_priority(1, 1)],
    );
    t.frames(
        "5.3.1 PRIORITY that depends on itself",
        Either(PROTOCOL),
        &[Frame::priority(1, 1, 1)],
    );
    t.case(
        "5.4.1 after an error the connection ends",
        Conn(PROTOCOL),
        |p| {
            p.frames(&[Frame::data(0, "x", true), whole(1)]);
        },
    );
    t.case(
        "5.5 unknown setting, unknown frame, unknown flags",
        Fine,
        |p| {
            p.settings(&[(0xff00, 1)]);
            p.frames(&[Frame::new(0x20, 0xff, 0, [0; 4]), whole(1)]);
        },
    );
    t.done(52);
}

#[test]
fn h2_11_each_frame_6() {
    let rig = Rig::plain();
    let mut t = Cases::new(&rig);
    t.frames("6.1 DATA", Fine, &[begun(1), Frame::data(1, "test", true)]);
    t.frames(
        "6.1 DATA, several",
        Fine,
        &[
            begun(1),
            Frame::data(1, "te", false),
            Frame::data(1, "st", true),
        ],
    );
    t.frames(
        "6.1 DATA with padding",
        Fine,
        &[begun(1), Frame::data(1, "test", true).padded(6)],
    );
    t.frames(
        "6.1 DATA that is padding",
        Fine,
        &[begun(1), Frame::data(1, "", true).padded(255)],
    );
    t.frames(
        "6.1 DATA of stream 0",
        Conn(PROTOCOL),
        &[begun(1), Frame::data(0, "x", true)],
    );
    t.frames(
        "6.1 DATA, padding as long as the frame",
        Conn(PROTOCOL),
        &[begun(1), Frame::data(1, "test", true).padded_saying(0, 5)],
    );
    t.frames(
        "6.1 DATA, padding much longer",
        Conn(PROTOCOL),
        &[begun(1), Frame::data(1, "", true).padded_saying(0, 255)],
    );
    t.frames(
        "6.1 DATA without the length of its padding",
        Conn(&[code::FRAME_SIZE, code::PROTOCOL]),
        &[begun(1), Frame::data(1, "", true).flags(flag::PADDED)],
    );
    t.frames("6.2 HEADERS with padding", Fine, &[whole(1).padded(200)]);
    t.frames(
        "6.2 HEADERS with priority",
        Fine,
        &[whole(1).with_priority(0, 255)],
    );
    t.frames(
        "6.2 HEADERS with both",
        Fine,
        &[whole(1).with_priority(1 << 31 | 5, 0).padded(3)],
    );
    t.frames("6.2 HEADERS of stream 0", Conn(PROTOCOL), &[whole(0)]);
    t.frames(
        "6.2 HEADERS, padding too long",
        Conn(PROTOCOL),
        &[whole(1).padded_saying(0, 255)],
    );
    t.frames(
        "6.2 HEADERS too short for their priority",
        Conn(&[code::FRAME_SIZE, code::PROTOCOL]),
        &[Frame::headers(1, [0, 0, 0], true).flags(flag::PRIORITY)],
    );
    t.frames(
        "6.3 PRIORITY",
        Fine,
        &[
            whole(1),
            Frame::priority(1, 0, 0),
            Frame::priority(1, 1 << 31 | 9, 255),
        ],
    );
    t.frames(
        "6.3 PRIORITY of stream 0",
        Conn(PROTOCOL),
        &[Frame::priority(0, 1, 1)],
    );
    for length in [0, 4, 6] {
        let short = Frame::new(kind::PRIORITY, 0, 1, vec![0; length]);
        t.frames(
            &format!("6.3 PRIORITY of {length} bytes"),
            Either(SIZE),
            &[begun(1), short],
        );
    }
    t.frames(
        "6.4 RST_STREAM of stream 0",
        Conn(PROTOCOL),
        &[Frame::reset(0, 8)],
    );
    for length in [0, 3, 5] {
        let short = Frame::new(kind::RST_STREAM, 0, 1, vec![0; length]);
        t.frames(
            &format!("6.4 RST_STREAM of {length} bytes"),
            Conn(SIZE),
            &[begun(1), short],
        );
    }
    t.frames(
        "6.5 SETTINGS ACK with a payload",
        Conn(SIZE),
        &[Frame::settings(&[(1, 1)]).flags(flag::ACK)],
    );
    t.frames(
        "6.5 SETTINGS of stream 1",
        Conn(PROTOCOL),
        &[Frame::new(kind::SETTINGS, 0, 1, [])],
    );
    t.frames(
        "6.5 SETTINGS of three bytes",
        Conn(SIZE),
        &[Frame::new(kind::SETTINGS, 0, 0, [0; 3])],
    );
    for (name, id, value, want) in [
        ("ENABLE_PUSH 2", setting::ENABLE_PUSH, 2, Conn(PROTOCOL)),
        (
            "INITIAL_WINDOW_SIZE 2^31",
            setting::INITIAL_WINDOW_SIZE,
            1 << 31,
            Conn(FLOW),
        ),
        (
            "MAX_FRAME_SIZE 16383",
            setting::MAX_FRAME_SIZE,
            16_383,
            Conn(PROTOCOL),
        ),
        (
            "MAX_FRAME_SIZE 0",
            setting::MAX_FRAME_SIZE,
            0,
            Conn(PROTOCOL),
        ),
        (
            "MAX_FRAME_SIZE 2^24",
            setting::MAX_FRAME_SIZE,
            1 << 24,
            Conn(PROTOCOL),
        ),
        (
            "MAX_FRAME_SIZE 2^24 - 1",
            setting::MAX_FRAME_SIZE,
            (1 << 24) - 1,
            Fine,
        ),
        (
            "MAX_HEADER_LIST_SIZE 0",
            setting::MAX_HEADER_LIST_SIZE,
            0,
            Ignored,
        ),
        ("HEADER_TABLE_SIZE 0", setting::HEADER_TABLE_SIZE, 0, Fine),
        (
            "HEADER_TABLE_SIZE 2^32 - 1",
            setting::HEADER_TABLE_SIZE,
            u32::MAX,
            Fine,
        ),
        (
            "MAX_CONCURRENT_STREAMS 0",
            setting::MAX_CONCURRENT_STREAMS,
            0,
            Fine,
        ),
        (
            "INITIAL_WINDOW_SIZE 2^31 - 1",
            setting::INITIAL_WINDOW_SIZE,
            i32::MAX as u32,
            Fine,
        ),
        ("unknown", 0xff, 1, Fine),
        ("0", 0, 1, Fine),
    ] {
        t.case(&format!("6.5.2 {name}"), want, |p| {
            p.settings(&[(id, value)]);
            p.frame(&whole(1));
        });
    }
    t.case("6.5.3 the last of several values", Fine, |p| {
        p.settings(&[
            (setting::INITIAL_WINDOW_SIZE, 100),
            (setting::INITIAL_WINDOW_SIZE, 1),
        ]);
        p.refills = false;
        p.frame(&whole(1));
        assert!(p.until(|p| p.streams[&1].body_len > 0));
        assert_eq!(p.stream(1).body_len, 1);
        assert_eq!(p.acks, 2, "SETTINGS are acknowledged");
        p.grant(1, 1000);
        p.settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)]);
    });
    t.frames(
        "6.6 PUSH_PROMISE by a client",
        Conn(PROTOCOL),
        &[begun(1), Frame::push_promise(1, 2, get())],
    );
    t.case("6.7 PING", Fine, |p| {
        assert!(p.pings());
        p.frame(&whole(1));
    });
    t.case("6.7 an acknowledged PING is not answered", Fine, |p| {
        p.frame(&Frame::ping(*b"unwanted").flags(flag::ACK));
        assert!(p.pings());
        assert!(!p.pongs.iter().any(|p| p == b"unwanted"));
        p.frame(&whole(1));
    });
    t.frames(
        "6.7 PING of stream 1",
        Conn(PROTOCOL),
        &[Frame::new(kind::PING, 0, 1, [0; 8])],
    );
    for length in [0, 6, 9] {
        t.frames(
            &format!("6.7 PING of {length} bytes"),
            Conn(SIZE),
            &[Frame::new(kind::PING, 0, 0, vec![0; length])],
        );
    }
    t.frames(
        "6.8 GOAWAY of stream 1",
        Conn(PROTOCOL),
        &[Frame::new(kind::GOAWAY, 0, 1, [0; 8])],
    );
    t.frames(
        "6.8 GOAWAY of seven bytes",
        Conn(SIZE),
        &[Frame::new(kind::GOAWAY, 0, 0, [0; 7])],
    );
    t.frames(
        "6.9 WINDOW_UPDATE 0 of the connection",
        Conn(PROTOCOL),
        &[Frame::window(0, 0)],
    );
    t.frames(
        "6.9 WINDOW_UPDATE 0 of a stream",
        Either(PROTOCOL),
        &[begun(1), Frame::window(1, 0)],
    );
    t.frames(
        "6.9 WINDOW_UPDATE of three bytes",
        Conn(SIZE),
        &[Frame::new(kind::WINDOW_UPDATE, 0, 0, [0; 3])],
    );
    t.case("6.9.1 one byte at a time", Fine, |p| {
        p.refills = false;
        p.settings(&[(setting::INITIAL_WINDOW_SIZE, 1)]);
        p.frame(&whole(1));
        for n in 1..=4 {
            assert!(p.until(|p| p.streams[&1].body_len == n), "byte {n}");
            p.grant(1, 1);
        }
        p.grant(1, 1000);
    });
    t.frames(
        "6.9.1 the connection's window overflows",
        Conn(FLOW),
        &[Frame::window(0, i32::MAX as u32), Frame::window(0, 1)],
    );
    t.frames(
        "6.9.1 a stream's window overflows",
        Stream(FLOW),
        &[
            waiting(1),
            Frame::window(1, i32::MAX as u32),
            Frame::window(1, i32::MAX as u32),
        ],
    );
    t.case(
        "6.9.2 a window that becomes negative, and open again",
        Fine,
        |p| {
            p.refills = false;
            p.settings(&[(setting::INITIAL_WINDOW_SIZE, 3)]);
            p.frame(&whole(1));
            assert!(p.until(|p| p.streams[&1].body_len == 3));
            p.settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
            p.grant(1, 3);
            assert!(p.pings());
            assert_eq!(p.stream(1).body_len, 3, "the window is 0");
            p.settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)]);
        },
    );
    t.case(
        "6.9.2 a window that overflows by SETTINGS",
        Conn(FLOW),
        |p| {
            p.frame(&waiting(1));
            p.grant(1, i32::MAX as u32 - 65_535);
            p.settings(&[(setting::INITIAL_WINDOW_SIZE, 70_000)]);
        },
    );
    let pieces = |n: usize| Frame::header_pieces(1, get().as_ref(), true, get().len().div_ceil(n));
    t.frames("6.10 CONTINUATION", Fine, &pieces(2));
    t.frames("6.10 CONTINUATION, several", Fine, &pieces(5));
    t.frames(
        "6.10 CONTINUATION of a whole block",
        Conn(CLOSED_OR),
        &[waiting(1), Frame::continuation(1, get(), true)],
    );
    t.frames(
        "6.10 CONTINUATION after the last",
        Conn(CLOSED_OR),
        &[
            Frame::headers_begin(1, Block::get("/wait"), true),
            Frame::continuation(1, [], true),
            Frame::continuation(1, [], true),
        ],
    );
    t.frames(
        "6.10 CONTINUATION after DATA",
        Conn(PROTOCOL),
        &[
            begun(1),
            Frame::data(1, "x", false),
            Frame::continuation(1, [], true),
        ],
    );
    t.frames(
        "7 GOAWAY with an unknown code",
        Ignored,
        &[Frame::goaway(0, 0xff)],
    );
    t.frames(
        "7 RST_STREAM with an unknown code",
        Ignored,
        &[waiting(1), Frame::reset(1, 0xff)],
    );
    t.frames(
        "8.1 a second HEADERS without END_STREAM",
        Stream(PROTOCOL),
        &[
            begun(1),
            Frame::headers(1, Block::new().field("x", "y"), false),
        ],
    );
    t.frames(
        "8.4 no push for us",
        Conn(PROTOCOL),
        &[Frame::push_promise(1, 2, get())],
    );
    t.done(66);
}

/// A window of ours that is overrun.
#[test]
fn h2_11_our_windows() {
    let rig = Rig::plain();
    let mut t = Cases::new(&rig);
    // The origin reads nothing, so that nothing is given back but what waits in between.
    rig.origin.on("/full", [Step::Gate("never".into())]);
    // What the sockets on the way to the origin take is given back; beyond that it is too much.
    let overrun = |p: &mut Peer, frame: &Frame| {
        p.frame(&Frame::headers(1, Block::post("/full"), false));
        for sent in (0_usize..).take_while(|n| *n < 1_000_000) {
            let gone = !p.frame(frame);
            if sent.is_multiple_of(16) {
                while matches!(p.poll(Duration::ZERO), Got::Frame(_)) {}
            }
            if gone || p.streams[&1].reset.is_some() || !p.goaways.is_empty() {
                return;
            }
        }
    };
    t.case("6.9 a stream's window is overrun", Either(FLOW), |p| {
        overrun(p, &Frame::data(1, vec![0; 16_384], false));
    });
    t.done(1);
}

#[test]
fn h2_12_hpack() {
    let rig = Rig::plain();
    let mut t = Cases::new(&rig);
    let ok = |name: &str, block: Block, t: &mut Cases<'_>| {
        t.frames(name, Fine, &[Frame::headers(1, &block, true)])
    };
    ok(
        "2.3.3 static entries",
        Block::new().indexed(2).indexed(6).indexed(4).named(1, "a"),
        &mut t,
    );
    for huffman in [false, true] {
        let b = || get().huffman(huffman);
        ok(
            "6.2.1 inserted",
            b().insert("x-a", "b").insert_named(58, "ua"),
            &mut t,
        );
        ok(
            "6.2.2 not inserted",
            b().field("x-a", "b").named(58, "ua"),
            &mut t,
        );
        ok("6.2.3 never", b().never("x-a", "b"), &mut t);
        ok(
            "6.1 inserted and used",
            b().insert("x-a", "b")
                .indexed(NEWEST)
                .named(NEWEST, "c")
                .insert_named(NEWEST, "d")
                .indexed(NEWEST),
            &mut t,
        );
    }
    ok(
        "4.2 sizes at the beginning",
        Block::new().size(0).size(4096).raw(get()),
        &mut t,
    );
    ok(
        "4.4 an entry larger than the table",
        get().insert("x", "v".repeat(5000)),
        &mut t,
    );
    ok(
        "5.1 an integer in more bytes than it needs",
        get()
            .raw([0, 0x7f, 0x80, 0x80, 0x00])
            .raw([b'x'; 127])
            .raw([1, b'v']),
        &mut t,
    );
    let mut wrong = |name: &str, block: Block| {
        t.frames(name, Conn(COMPRESSION), &[Frame::headers(1, &block, true)])
    };
    wrong("2.3.3 an entry that is not there", get().indexed(NEWEST));
    wrong(
        "2.3.3 an entry far away",
        get().indexed(u64::from(u32::MAX)),
    );
    wrong("2.3.3 a name that is not there", get().named(NEWEST, "v"));
    wrong(
        "2.3.3 a name that is not there, inserted",
        get().insert_named(70, "v"),
    );
    wrong(
        "2.3.3 an entry that has been evicted",
        get().insert("a", "b").size(0),
    );
    wrong("4.2 a size at the end", get().size(100));
    wrong("4.2 a size in the middle", get().size(0).field("x", "y"));
    wrong(
        "5.1 an integer that is too large",
        get().raw([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    );
    wrong("5.1 an integer without an end", get().raw([0xff, 0x80]));
    wrong(
        "5.1 an integer of zeros without an end",
        get().raw([0xff]).raw([0x80; 40]).raw([0]),
    );
    wrong("5.2 a string that is cut", get().raw([0, 5, b'x']));
    wrong(
        "5.2 a string of 2^32 bytes",
        get().raw([0, 0x7f, 0x81, 0xff, 0xff, 0xff, 0x0f]),
    );
    wrong(
        "5.2 padding of a whole byte",
        get()
            .raw([0])
            .string(b"x")
            .coded(&[huffman::encode(b"aaaaa").as_slice(), &[0xff]].concat()),
    );
    wrong(
        "5.2 padding of zeros",
        get().raw([0]).string(b"x").coded(&[0x18]),
    );
    wrong(
        "5.2 an end of string",
        get()
            .raw([0])
            .string(b"x")
            .coded(&huffman::encode_symbols([97, huffman::END, 98])),
    );
    wrong("6.1 entry 0", get().indexed(0));
    wrong(
        "6.3 a table larger than allowed",
        Block::new().size(4097).raw(get()),
    );
    wrong("6.3 a table of 2^32", Block::new().size(1 << 31).raw(get()));
    wrong("8.1 trailers that are none", get().raw([0x40]));
    // A block whose request is refused is still part of the state.
    t.case("4.3 refused blocks count", Ignored, |p| {
        p.frame(&Frame::headers(
            1,
            get().insert("x-a", "kept").field("Bad", "name"),
            true,
        ));
        assert_eq!(p.answer(1).reset, Some(code::PROTOCOL));
        p.frame(&Frame::headers(3, get().indexed(NEWEST), true));
        assert_eq!(p.answer(3).status(), 200);
        p.frames(&[
            waiting(5),
            Frame::reset(5, 8),
            Frame::headers(7, get().indexed(NEWEST), true),
        ]);
        assert_eq!(p.answer(7).status(), 200);
    });
    let seen = rig.origin.seen();
    assert!(
        seen.iter()
            .filter(|s| s.header("x-a").as_deref() == Some("kept"))
            .count()
            >= 2
    );
    t.done(32);
}

/// Random bytes after a good beginning, and good bytes with some of them changed: the process lives, and everybody else is served.
#[test]
fn h2_12_random_bytes() {
    use narthex_e2e::kit::Rng;
    let rig = Rig::plain();
    let mut rng = Rng(0x4832);
    let good = [
        Frame::headers(
            1,
            get()
                .insert("x-a", "b")
                .huffman(true)
                .field("x-c", "some value"),
            false,
        ),
        Frame::data(1, "hello", false).padded(3),
        Frame::settings(&[
            (setting::INITIAL_WINDOW_SIZE, 1000),
            (setting::HEADER_TABLE_SIZE, 100),
        ]),
        Frame::window(1, 100),
        Frame::ping([1; 8]),
        Frame::headers(1, Block::new().field("x-t", "v"), true),
        Frame::priority(3, 1, 9),
        Frame::headers_begin(3, Block::get("/"), true),
        Frame::continuation(3, Block::new().indexed(NEWEST), true),
        Frame::reset(3, 8),
    ];
    let good: Vec<u8> = good.iter().flat_map(Frame::bytes).collect();
    let rounds = if narthex_e2e::kit::full() { 5000 } else { 400 };
    for round in 0..rounds {
        let mut bytes = good.clone();
        for _ in 0..=rng.below(6) {
            match rng.below(3) {
                0 => {
                    let at = rng.below(bytes.len());
                    bytes[at] = rng.next_u64() as u8;
                }
                1 => drop(bytes.remove(rng.below(bytes.len()))),
                _ => bytes.insert(rng.below(bytes.len()), rng.next_u64() as u8),
            }
        }
        let mut peer = Peer::connect(rig.proxy.addr());
        for id in 0..8 {
            peer.stream(id);
        }
        peer.send(&bytes);
        peer.half_close();
        let end = peer.read_to_end(Duration::from_secs(10));
        assert_ne!(end, End::Open, "round {round}: {}", bytes.escape_ascii());
        if round % 50 == 0 {
            rig.alive();
        }
    }
    rig.alive();
}
