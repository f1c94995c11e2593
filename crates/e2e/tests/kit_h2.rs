//! The kit's HTTP/2 against peers that are neither ours nor the product: nghttp2, curl, the `h2` crate. What they take for
//! right and for wrong, the kit does, too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Write;
use std::fs;

use narthex_e2e::kit::Fnv;
use narthex_e2e::kit::h2::hpack::NEWEST;
use narthex_e2e::kit::h2::link::{Link, server};
use narthex_e2e::kit::h2::origin::pattern;
use narthex_e2e::kit::h2::tools::{Daemon, run};
use narthex_e2e::kit::h2::{Block, Frame, Got, H2Origin, Peer, code, setting};
use narthex_e2e::kit::tls::{Ca, Tls, Versions};

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hello"), "hello\n").unwrap();
    let big: Vec<u8> = (0..3_000_000).map(pattern).collect();
    fs::write(dir.path().join("big"), big).unwrap();
    dir
}

fn exchanges(peer: &mut Peer, scheme: &str) {
    let get = |path: &str| Block::request_to("GET", scheme, "a", path);
    let answer = peer.ask(get("/hello"));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"));
    // Huffman, inserts, references to them, a smaller table and its end.
    let block = Block::new()
        .huffman(true)
        .indexed(2)
        .insert(":path", "/hello");
    let block = block.field(":scheme", scheme).insert(":authority", "a");
    assert_eq!(peer.ask(block).text(), "hello\n");
    let block = Block::new().indexed(2).indexed(NEWEST + 1);
    let again = block
        .field(":scheme", scheme)
        .indexed(NEWEST)
        .never("x", "y");
    assert_eq!(peer.ask(again).text(), "hello\n");
    let block = Block::new().size(0).indexed(2).field(":path", "/hello");
    let block = block.field(":scheme", scheme).named(1, "a");
    assert_eq!(peer.ask(block).text(), "hello\n");
    // In pieces, with padding, with priority.
    let id = peer.fresh();
    peer.stream(id);
    for piece in Frame::header_pieces(id, get("/hello").as_ref(), true, 7) {
        peer.frame(&piece);
    }
    assert_eq!(peer.answer(id).text(), "hello\n");
    let id = peer.fresh();
    peer.stream(id);
    peer.frame(
        &Frame::headers(id, get("/hello"), true)
            .with_priority(0, 15)
            .padded(40),
    );
    assert_eq!(peer.answer(id).status(), 200);
    // Flow control both ways: 3 MB down, 3 MB up.
    let big: Vec<u8> = (0..3_000_000).map(pattern).collect();
    let answer = peer.ask(get("/big"));
    assert_eq!((answer.body_len, answer.hash), (3_000_000, Fnv::of(&big)));
    let id = peer.open(Block::request_to("POST", scheme, "a", "/echo"), false);
    assert!(peer.body(id, &big, true));
    let answer = peer.answer(id);
    assert_eq!((answer.body_len, answer.hash), (3_000_000, Fnv::of(&big)));
    assert_eq!(peer.ask(get("/none")).status(), 404);
    assert!(peer.pings());
    peer.assert_clean();
}

#[test]
fn our_client_and_nghttpd() {
    let dir = site();
    let daemon = Daemon::nghttpd(dir.path(), &["--echo-upload", "--trailer", "x-t: v"]);
    let mut peer = Peer::connect(daemon.addr());
    exchanges(&mut peer, "http");
    let answer = peer.ask(Block::get("/hello"));
    assert_eq!(answer.trailers.unwrap().get("x-t").as_deref(), Some("v"));
}

#[test]
fn our_client_and_nghttpd_over_tls() {
    let dir = site();
    let ca = Ca::new("root");
    ca.leaf(&["localhost"]).write(dir.path(), "c");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let daemon = Daemon::start(
        "nghttpd",
        &[
            "-a",
            "127.0.0.1",
            "--echo-upload",
            "-d",
            &file(""),
            "@PORT@",
            &file("c.key"),
            &file("c.pem"),
        ],
    );
    let tls = Tls::new(&[&ca], Versions::Both, &["h2"], None);
    let mut peer = Peer::tls(daemon.addr(), "localhost", &tls);
    exchanges(&mut peer, "https");
}

/// What is wrong is wrong for nghttpd, too.
#[test]
fn our_wrong_bytes_are_wrong() {
    let dir = site();
    let daemon = Daemon::nghttpd(dir.path(), &[]);
    let get = || Block::get("/hello");
    let cases: Vec<(&str, Vec<u8>, u32)> = vec![
        (
            "an entry that is not there",
            Frame::headers(1, get().indexed(NEWEST), true).bytes(),
            code::COMPRESSION,
        ),
        (
            "entry 0",
            Frame::headers(1, get().indexed(0), true).bytes(),
            code::COMPRESSION,
        ),
        (
            "a table too large",
            Frame::headers(1, Block::new().size(70_000).raw(get()), true).bytes(),
            code::COMPRESSION,
        ),
        (
            "padding too long",
            Frame::headers(1, get(), true).padded_saying(0, 255).bytes(),
            code::PROTOCOL,
        ),
        (
            "an even stream",
            Frame::headers(2, get(), true).bytes(),
            code::PROTOCOL,
        ),
        (
            "DATA of nobody",
            Frame::data(1, "x", true).bytes(),
            code::PROTOCOL,
        ),
        (
            "a PING of seven bytes",
            Frame::new(6, 0, 0, [0; 7]).bytes(),
            code::FRAME_SIZE,
        ),
        (
            "a CONTINUATION of nothing",
            Frame::continuation(1, get(), true).bytes(),
            code::PROTOCOL,
        ),
        ("credit of 0", Frame::window(0, 0).bytes(), code::PROTOCOL),
        (
            "too much credit",
            Frame::window(0, i32::MAX as u32).bytes(),
            code::FLOW_CONTROL,
        ),
    ];
    for (what, bytes, wanted) in cases {
        let mut peer = Peer::connect(daemon.addr());
        peer.send(bytes);
        peer.until(|p| !p.goaways.is_empty());
        assert_eq!(
            peer.goaways.first().map(|g| g.1),
            Some(wanted),
            "{what}: {:?}",
            peer.over
        );
    }
    let mut peer = Peer::connect(daemon.addr());
    let answer = peer.ask(get().field("Upper", "case"));
    assert_eq!((answer.status(), answer.reset), (0, Some(code::PROTOCOL)));
    assert!(peer.pings(), "a stream's error is not the connection's");
    peer.assert_clean();
}

/// A window of nothing: the answer waits for each byte of credit.
#[test]
fn our_windows_hold() {
    let dir = site();
    let daemon = Daemon::nghttpd(dir.path(), &[]);
    let mut peer = Peer::with_settings(daemon.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let id = peer.open(Block::get("/hello"), true);
    assert!(peer.until(|p| p.streams[&id].head.is_some()));
    assert!(peer.pings());
    assert_eq!(peer.stream(id).body_len, 0);
    peer.grant(id, 2);
    assert!(peer.until(|p| p.streams[&id].body_len == 2));
    peer.settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    assert_eq!(peer.answer(id).text(), "hello\n");
    peer.assert_clean();
}

#[test]
fn nghttp_curl_and_h2load_and_our_origin() {
    let origin = H2Origin::echo();
    let url = |path: &str| format!("http://{}{path}", origin.addr());
    let said = run(
        "nghttp",
        &[
            "-v",
            "-H",
            "te: trailers",
            &url("/bytes/300000"),
            &url("/two"),
        ],
    );
    assert!(
        said.contains("x-sum: 1") && said.contains("GET /two len=0"),
        "{said}"
    );
    let dir = site();
    let file = dir.path().join("big").display().to_string();
    let hash = Fnv::of(&fs::read(&file).unwrap()).0;
    let said = run("nghttp", &["-v", "-d", &file, &url("/up")]);
    assert!(said.contains(&format!("x-hash: {hash:x}")), "{said}");
    let posted = format!("@{file}");
    let said = run(
        "curl",
        &[
            "-sSi",
            "--http2-prior-knowledge",
            "--data-binary",
            &posted,
            &url("/up"),
        ],
    );
    assert!(
        said.contains("POST /up len=3000000") && said.contains(&format!("{hash:x}")),
        "{said}"
    );
    let said = run("h2load", &["-n", "2000", "-c", "4", "-m", "32", &url("/x")]);
    assert!(
        said.contains("2000 succeeded, 0 failed, 0 errored"),
        "{said}"
    );
}

#[test]
fn curl_and_our_origin_over_tls() {
    let root = Ca::new("root");
    let origin = H2Origin::echo_tls(server(&root.leaf(&["localhost"]), &["h2"]));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), root.pem()).unwrap();
    let ca = dir.path().join("ca.pem").display().to_string();
    let url = format!("https://localhost:{}/tls", origin.addr().port());
    let said = run("curl", &["-sSi", "--http2", "-4", "--cacert", &ca, &url]);
    assert!(
        said.contains("HTTP/2 200") && said.contains("GET /tls len=0"),
        "{said}"
    );
    let tls = Tls::new(&[&root], Versions::Both, &["http/1.1"], None);
    let refused = Link::tls(origin.addr(), "localhost", &tls);
    assert!(refused.is_err(), "no protocol in common");
}

#[test]
fn the_h2_crate_and_our_origin() {
    let origin = H2Origin::echo();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let addr = origin.addr();
    let said = runtime.block_on(async move {
        let tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
        let (send, connection) = h2::client::handshake(tcp).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut send = send.ready().await.unwrap();
        let request = http::Request::get(format!("http://{addr}/bytes/200000"));
        let (answer, _) = send
            .send_request(request.header("te", "trailers").body(()).unwrap(), true)
            .unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        let (mut n, mut said) = (0, String::new());
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            n += part.len();
            body.flow_control().release_capacity(part.len()).unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        write!(said, "{n} {:?}", trailers["x-sum"]).unwrap();
        drop(send);
        driver.abort();
        said
    });
    assert_eq!(said, "200000 \"1\"");
}

/// Our two sides with each other: what one does wrong, the other's account shows.
#[test]
fn the_account_is_strict() {
    let origin = H2Origin::start(None, |link, _, _| {
        let Some(mut peer) = Peer::serve(link, &[]) else {
            return;
        };
        peer.until(|p| p.streams.contains_key(&1));
        let wrong = Block::status(200)
            .field("Upper", "x")
            .field("connection", "close");
        peer.frame(&Frame::headers(1, wrong, false));
        peer.frame(&Frame::data(1, vec![0; 16_000], false));
        peer.frame(&Frame::data(1, vec![0; 16_385], false));
        peer.frame(&Frame::headers(4, Block::status(200), true));
        peer.frame(&Frame::window(0, 0));
        while matches!(peer.read(), Got::Frame(_)) {}
    });
    let mut peer = Peer::connect(origin.addr());
    peer.refills = false;
    peer.open(Block::get("/"), true);
    peer.until(|p| p.count.contains_key(&8));
    for wanted in [
        "name Upper",
        "larger than we allow",
        "nobody began",
        "wrong: WINDOW_UPDATE",
    ] {
        assert!(
            peer.faults.iter().any(|f| f.contains(wanted)),
            "{wanted}: {:#?}",
            peer.faults
        );
    }
}
