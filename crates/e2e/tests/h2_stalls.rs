//! HTTP/2 that stands still, or nearly: peers that do not read, read slowly or all at once, and streams that wait for one another.
//! Nobody else may notice, and nothing stays for ever.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::Client;
use narthex_e2e::kit::found::metric;
use narthex_e2e::kit::h2::cost::rss_kib;
use narthex_e2e::kit::h2::{Block, Frame, Got, H2Origin, Peer, code, setting};
use narthex_e2e::kit::origin::{Script, Step, answer};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};

const MIB: usize = 1 << 20;

/// An answer of so many MiB.
fn large(mib: usize) -> Script {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", mib * MIB);
    let steps = [
        Step::Send(head.into_bytes()),
        Step::SendMany {
            block: vec![b'l'; MIB],
            times: mib,
        },
    ];
    steps.into()
}

/// A client whose windows never shut, and that reads when the test says so.
fn open_wide(rig: &Rig) -> Peer {
    let mut peer = Peer::with_settings(
        rig.proxy.addr(),
        &[(setting::INITIAL_WINDOW_SIZE, 0x7fff_0000)],
    );
    peer.grant(0, 0x7000_0000);
    peer
}

/// The first answer has used up the connection's window and waits. More window and a request that the proxy answers itself come
/// together: the second answer has to wait for the first, and must not keep the core from it.
#[test]
fn an_answer_of_our_own_beside_one_that_waits() {
    let rig = Rig::of(
        "",
        "route path=\"/ours\" { respond 404 \"not here\"; }\nproxy \"u\"",
    );
    rig.origin.on("/large", large(2));
    let mut peer = Peer::with_settings(
        rig.proxy.addr(),
        &[(setting::INITIAL_WINDOW_SIZE, 0x7fff_0000)],
    );
    peer.refills = false;
    let first = peer.open(Block::get("/large"), true);
    assert!(peer.until(|p| p.streams[&first].body_len == 65_535));
    for round in 0..8 {
        let second = peer.fresh();
        peer.stream(second);
        peer.granted(0, 100_000);
        peer.frames(&[
            Frame::window(0, 100_000),
            Frame::headers(second, Block::get("/ours"), true),
        ]);
        let answered = peer.until(|p| p.streams[&second].head.is_some());
        assert!(answered, "round {round}: {:?}", peer.over);
    }
    peer.refills = true;
    peer.grant(0, 4 * MIB as u32);
    let whole = peer.answer(first);
    assert_eq!(whole.body_len, 2 * MIB as u64);
    for n in 1..=8 {
        assert_eq!(peer.answer(first + 2 * n).status(), 404);
    }
    peer.assert_clean();
    rig.alive();
}

/// Who says nothing of priorities gets a small answer in the middle of a large one that was asked for first.
#[test]
fn a_small_answer_does_not_wait_for_a_large_one() {
    let rig = Rig::plain();
    rig.origin.on("/large", large(100)).on(
        "/small",
        answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall"),
    );
    let mut peer = Peer::connect(rig.proxy.addr());
    let bulk = peer.open(Block::get("/large"), true);
    assert!(peer.until(|p| p.streams[&bulk].body_len > MIB as u64));
    let small = peer.ask(Block::get("/small"));
    assert_eq!(small.text(), "small");
    let before = peer.stream(bulk).body_len;
    assert!(
        before < 50 * MIB as u64,
        "{before} bytes of the large one went first"
    );
    peer.frame(&Frame::reset(bulk, code::CANCEL));
    assert!(peer.pings());
    peer.assert_clean();
}

/// Does the connection end, although nobody reads it? Seen by what can be written to it.
fn ends_unread(peer: &mut Peer, limit: Duration) -> bool {
    peer.link().write_within(Duration::from_millis(200));
    let ping = Frame::ping([7; 8]).bytes();
    eventually(limit, || {
        let error = peer.link().write(&ping).err();
        error.is_some_and(|e| {
            use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
            matches!(e.kind(), BrokenPipe | ConnectionReset)
        })
    })
}

/// A peer that has broken the rules and reads nothing is not kept until it does.
#[test]
fn the_last_word_waits_for_nobody() {
    let rig = Rig::plain();
    rig.origin.on("/large", large(50));
    let mut peer = open_wide(&rig);
    let id = peer.open(Block::get("/large"), true);
    assert!(peer.until(|p| p.streams[&id].body_len > 0));
    // What sockets take has been taken: the origin is not read any more.
    let mut before = String::new();
    assert!(eventually(PATIENCE, || {
        let now = metric(&rig.proxy, "narthex_memory_buffered_bytes").unwrap_or_default();
        let same = now != "0" && now == before;
        before = now;
        same
    }));
    peer.frame(&Frame::new(6, 0, 1, vec![0; 8]));
    assert!(
        ends_unread(&mut peer, Duration::from_secs(20)),
        "the connection stays"
    );
    rig.alive();
}

/// What a client asks for and does not read is not asked for without end.
#[test]
fn heads_that_nobody_reads_are_bounded() {
    let rig = Rig::plain();
    let mut head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n".to_vec();
    for i in 0..4 {
        head.extend_from_slice(format!("x-{i}: {}\r\n", "v".repeat(6_000)).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    rig.origin.on("/heads", answer(head));
    let mut peer = open_wide(&rig);
    let before = rss_kib(rig.proxy.pid());
    let asked = Block::request("HEAD", "/heads");
    peer.link().write_within(Duration::from_secs(3));
    let mut sent = 0;
    for n in 0..3_000u32 {
        // Its streams at once are bounded, too.
        let heads = n.saturating_sub(50) as usize;
        let limit = Duration::from_secs(3);
        if n % 10 == 0 && !rig.origin.wait_for(limit, |seen| seen.len() >= heads) {
            break;
        }
        if !peer.frame(&Frame::headers(2 * n + 1, &asked, true)) {
            break;
        }
        sent += 1;
    }
    let grown = rss_kib(rig.proxy.pid()).saturating_sub(before);
    // 24 KB each: all of them are 70 MiB.
    assert!(
        grown < 40 << 10,
        "{grown} KiB for {sent} requests that nobody reads the answers of"
    );
    // It reads at last, and gets all of it.
    assert!(peer.until(|p| p.streams.len() as u32 >= sent.min(500)));
    rig.alive();
}

/// An answer that took longer than the keep-alive time ends nothing: the time begins with its end.
#[test]
fn idle_time_begins_with_the_end_of_an_answer() {
    let rig = Rig::of("timeout keep-alive=\"1s\"", "proxy \"u\"");
    rig.origin.on(
        "/late",
        [
            Step::Gate("late".into()),
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".to_vec()),
        ],
    );
    let mut peer = Peer::connect(rig.proxy.addr());
    let late = peer.open(Block::get("/late"), true);
    // Nothing is said for longer than that.
    assert!(matches!(
        peer.poll(Duration::from_millis(2_500)),
        Got::Quiet
    ));
    rig.origin.open("late");
    assert_eq!(peer.answer(late).text(), "late");
    assert!(peer.pings());
    assert_eq!(peer.goaways, [], "the connection was just used");
    assert_eq!(peer.ask(Block::get("/again")).status(), 200);
    // And then it ends in its time.
    assert!(peer.until(|p| !p.goaways.is_empty()));
}

/// Clients that do not read their large answers keep nobody's from coming on the same connection to a server.
#[test]
fn others_at_the_same_server_do_not_wait_for_who_does_not_read() {
    let given = Arc::new(AtomicUsize::new(0));
    let so_far = Arc::clone(&given);
    let origin = H2Origin::start(None, move |link, _, _| {
        let Some(mut peer) = Peer::serve(link, &[]) else {
            return;
        };
        let mut open: Vec<(u32, usize)> = Vec::new();
        loop {
            let new = peer.streams.iter().find(|(_, s)| s.ended);
            if let Some((&id, stream)) = new {
                let large = stream.field(":path").as_deref() == Some("/large");
                peer.streams.remove(&id);
                peer.frame(&Frame::headers(id, Block::status(200), false));
                open.push((id, if large { 64 * MIB } else { 5 }));
                continue;
            }
            let mut moved = false;
            open.retain_mut(|(id, left)| {
                let room = usize::try_from(peer.room(*id)).unwrap_or(0);
                let n = room.min(*left).min(16_384);
                if n > 0 {
                    moved = true;
                    *left -= n;
                    so_far.fetch_add(n, Ordering::Relaxed);
                    peer.body(*id, &vec![b'x'; n], *left == 0);
                }
                *left > 0
            });
            let wait = Duration::from_millis(if moved { 0 } else { 100 });
            if let Got::End(_) = peer.poll(wait) {
                return;
            }
        }
    });
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{ server \"{}\"\nprotocol \"h2\" }}\nsite \"*\" {{ proxy \"u\" }}",
            origin.addr()
        ),
    ));
    let slow: Vec<TcpStream> = (0..24)
        .map(|_| {
            let mut tcp = TcpStream::connect(proxy.addr()).unwrap();
            tcp.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            tcp
        })
        .collect();
    // Each has got what its sockets take, and then nothing moves.
    let mut before = (0, Instant::now());
    assert!(eventually(2 * PATIENCE, || {
        let now = given.load(Ordering::Relaxed);
        if now != before.0 {
            before = (now, Instant::now());
        }
        now > 0 && before.1.elapsed() > Duration::from_secs(1)
    }));
    let begun = Instant::now();
    let reply = Client::connect(proxy.addr())
        .ask("GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!((reply.status, reply.text().as_ref()), (200, "xxxxx"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(slow);
}
