//! HTTP/2 with those who are not ours: curl, nghttp, h2load, Python's `h2`, the `h2` crate. And what a connection must bear: large
//! bodies both ways, trailers, interim answers, priorities, drains and reloads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use narthex_e2e::kit::h2::frame::kind;
use narthex_e2e::kit::h2::link::Link;
use narthex_e2e::kit::h2::tools::run;
use narthex_e2e::kit::h2::{Block, Frame, Got, Peer, code};
use narthex_e2e::kit::origin::{Origin, Script, Step, answer, echo};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::tls::{Ca, Tls, Versions};
use narthex_e2e::kit::{Fnv, PATIENCE};

const MIB: usize = 1 << 20;

/// 100 MiB, in blocks that differ from one another in nothing.
fn large() -> (Script, u64, Fnv) {
    let block: Vec<u8> = (0..MIB).map(|i| ((i * 31) ^ (i >> 7)) as u8).collect();
    let mut hash = Fnv::default();
    (0..100).for_each(|_| hash.add(&block));
    let length = 100 * MIB;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let steps = [
        Step::Send(head.into_bytes()),
        Step::SendMany { block, times: 100 },
    ];
    (steps.into(), length as u64, hash)
}

/// Plain, and with a certificate for `localhost`.
struct Both {
    proxy: Proxy,
    origin: Origin,
    ca: Ca,
}

impl Both {
    #[track_caller]
    fn start() -> Self {
        let (ca, origin) = (Ca::new("root"), Origin::start());
        let dir = tempfile::tempdir().unwrap();
        ca.leaf(&["localhost"]).write(dir.path(), "c");
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        let text = Proxy::config(
            "",
            &format!(
                "listen \"127.0.0.1:@PORT2@\" {{ tls }}\n\
                 site \"localhost\" {{ tls cert=\"c.pem\" key=\"c.key\"; proxy \"{0}\" }}\n\
                 site \"*\" {{ tls cert=\"c.pem\" key=\"c.key\"; proxy \"{0}\" }}",
                origin.place()
            ),
        );
        let proxy = Proxy::start_in(dir, &text);
        Self { proxy, origin, ca }
    }
    fn plain(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.addr())
    }
    fn tls(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.proxy.addr2().port())
    }
    fn ca(&self) -> String {
        self.proxy.dir().join("ca.pem").display().to_string()
    }
}

#[test]
fn curl() {
    let both = Both::start();
    let ca = both.ca();
    let body = both.proxy.dir().join("body");
    fs::write(&body, vec![b'u'; 5 * MIB]).unwrap();
    let posted = format!("@{}", body.display());
    for (url, how) in [
        (both.plain("/c"), vec!["--http2-prior-knowledge"]),
        (both.tls("/c"), vec!["--http2", "-4", "--cacert", &ca]),
    ] {
        let with =
            |more: &[&str]| run("curl", &[&["-sSi"], how.as_slice(), more, &[&url]].concat());
        let said = with(&[]);
        assert!(
            said.contains("HTTP/2 200") && said.contains("GET /c len=0"),
            "{said}"
        );
        let said = with(&["--data-binary", &posted]);
        assert!(said.contains(&format!("POST /c len={}", 5 * MIB)), "{said}");
        let said = with(&["-I"]);
        assert!(
            said.contains("HTTP/2 200") && !said.contains("len="),
            "{said}"
        );
        let said = with(&["-X", "PUT", "-T", &body.display().to_string()]);
        assert!(said.contains("PUT /c"), "{said}");
    }
    // `Upgrade: h2c` is HTTP/1's, and is not taken up (RFC 9113 3.1).
    let said = run("curl", &["-sSi", "--http2", &both.plain("/u")]);
    assert!(said.contains("HTTP/1.1 200"), "{said}");
    assert!(
        both.origin
            .seen()
            .iter()
            .all(|s| !s.fields.has("http2-settings"))
    );
}

#[test]
fn nghttp_and_h2load() {
    let both = Both::start();
    let said = run(
        "nghttp",
        &[
            "-v",
            &both.plain("/a"),
            &both.plain("/b"),
            &both.plain("/c"),
        ],
    );
    for path in ["/a", "/b", "/c"] {
        assert!(said.contains(&format!("GET {path} len=0")), "{said}");
    }
    for url in [both.plain("/x"), both.tls("/x")] {
        let said = run("h2load", &["-n", "3000", "-c", "4", "-m", "32", &url]);
        assert!(
            said.contains("3000 succeeded, 0 failed, 0 errored"),
            "{said}"
        );
    }
}

#[test]
fn pythons_h2() {
    let both = Both::start();
    let script = r#"
import socket, sys, h2.connection, h2.events, h2.config
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
c.initiate_connection()
base = [(":scheme", "http"), (":authority", "a")]
body = b"p" * 300000
ids = []
for n in range(20):
    i = c.get_next_available_stream_id()
    c.send_headers(i, [(":method", "GET"), (":path", "/g%d" % n)] + base + [("cookie", "a=%d" % n), ("authorization", "x" * 300)], end_stream=True)
    ids.append(i)
up = c.get_next_available_stream_id()
c.send_headers(up, [(":method", "POST"), (":path", "/up")] + base)
left, got, done = body, {}, set()
while len(done) < 21:
    while left:
        n = min(c.local_flow_control_window(up), c.max_outbound_frame_size, len(left))
        if n == 0: break
        c.send_data(up, left[:n], end_stream=n == len(left)); left = left[n:]
    s.sendall(c.data_to_send())
    d = s.recv(65536)
    if not d: sys.exit("closed early")
    for e in c.receive_data(d):
        if isinstance(e, h2.events.DataReceived):
            got[e.stream_id] = got.get(e.stream_id, b"") + e.data
            c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.StreamEnded): done.add(e.stream_id)
        elif isinstance(e, (h2.events.StreamReset, h2.events.ConnectionTerminated)): sys.exit(repr(e))
for n, i in enumerate(ids): assert b"GET /g%d len=0" % n in got[i], got[i]
assert b"POST /up len=300000" in got[up], got[up]
c.close_connection(); s.sendall(c.data_to_send())
print("all right")
"#;
    let mut child = Command::new("/usr/bin/python3")
        .args(["-", &both.proxy.addr().port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    let said = narthex_e2e::kit::proxy::say(&out);
    assert!(said.contains("all right"), "{said}");
}

/// The `h2` crate, with 50 requests at once.
#[test]
fn the_h2_crate() {
    let rig = Rig::plain();
    let addr = rig.proxy.addr();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answers = runtime.block_on(async move {
        let tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
        let (send, connection) = h2::client::handshake(tcp).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut waiting = Vec::new();
        let mut send = send;
        for n in 0..50 {
            send = send.ready().await.unwrap();
            let request = http::Request::get(format!("http://a/{n}"))
                .body(())
                .unwrap();
            waiting.push(send.send_request(request, true).unwrap().0);
        }
        let mut answers = Vec::new();
        for one in waiting {
            let answer = one.await.unwrap();
            let mut body = answer.into_body();
            let mut text = Vec::new();
            while let Some(part) = body.data().await {
                text.extend_from_slice(&part.unwrap());
            }
            answers.push(String::from_utf8(text).unwrap());
        }
        driver.abort();
        answers
    });
    for (n, text) in answers.iter().enumerate() {
        assert!(text.starts_with(&format!("GET /{n} len=0")), "{text}");
    }
}

/// 100 MiB each way, byte for byte, and little of it is held.
#[test]
fn large_bodies() {
    let both = Both::start();
    let (script, length, hash) = large();
    both.origin.on("/large", script).on("/up", echo(200));
    let tls = Tls::new(&[&both.ca], Versions::Both, &["h2"], None);
    let before = both.proxy.rss_kib();
    for (mut peer, scheme) in [
        (Peer::connect(both.proxy.addr()), "http"),
        (Peer::tls(both.proxy.addr2(), "localhost", &tls), "https"),
    ] {
        let block = |method: &str, path: &str| Block::request_to(method, scheme, "localhost", path);
        let down = peer.ask(block("GET", "/large"));
        assert_eq!(
            (down.body_len, down.hash, down.ended),
            (length, hash, true),
            "{scheme}"
        );
        both.origin.take(0);
        let id = peer.open(block("POST", "/up"), false);
        let part: Vec<u8> = (0..MIB).map(|i| ((i * 31) ^ (i >> 7)) as u8).collect();
        for n in 0..100 {
            assert!(
                peer.body(id, &part, n == 99),
                "{scheme}: {:?}",
                peer.stream(id)
            );
        }
        assert_eq!(peer.answer(id).status(), 200);
        let seen = both.origin.take(1);
        assert_eq!((seen[0].body_len, seen[0].hash), (length, hash), "{scheme}");
        peer.assert_clean();
    }
    let after = both.proxy.rss_kib();
    assert!(after < before + (48 << 10), "{before} KiB, then {after}");
}

#[test]
fn trailers_and_interim_answers() {
    let rig = Rig::plain();
    rig.origin
        .on(
            "/trailers",
            answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"),
        )
        .on(
            "/hints",
            answer("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        );
    let mut peer = Peer::connect(rig.proxy.addr());
    let answer = peer.ask(Block::get("/trailers").field("te", "trailers"));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "abc"));
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers.get("x-sum").as_deref(), Some("6"));
    let answer = peer.ask(Block::get("/hints"));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hi"));
    assert_eq!(answer.interim.len(), 1);
    assert_eq!(answer.interim[0].get(":status").as_deref(), Some("103"));
    assert!(answer.interim[0].has("link"));
    // 100 is sent when the origin sends it, or by the proxy; not before somebody asks.
    let id = peer.open(
        Block::post("/expect")
            .field("expect", "100-continue")
            .field("content-length", "5"),
        false,
    );
    peer.until(|p| !p.streams[&id].interim.is_empty());
    peer.frame(&Frame::data(id, "hello", true));
    let answer = peer.answer(id);
    assert_eq!(answer.status(), 200);
    assert!(answer.text().contains("len=5"), "{}", answer.text());
    // Empty answers and those without a body.
    for (status, method) in [(204, "GET"), (304, "GET"), (200, "HEAD")] {
        rig.origin.on("/none", echo(status));
        let answer = peer.ask(Block::request(method, "/none"));
        assert_eq!(
            (answer.status(), answer.body_len, answer.ended),
            (status, 0, true)
        );
    }
    peer.assert_clean();
}

/// A chunked answer is bytes, and nothing of its chunks.
#[test]
fn chunks_are_left_behind() {
    let rig = Rig::plain();
    let chunks: String = (0..500)
        .map(|n| format!("7\r\n{n:07}\r\n"))
        .collect::<Vec<_>>()
        .concat();
    rig.origin.on(
        "/chunks",
        answer(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        )),
    );
    rig.origin.on(
        "/close",
        [
            Step::Send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()),
            Step::Close,
        ],
    );
    let mut peer = Peer::connect(rig.proxy.addr());
    let wanted: String = (0..500)
        .map(|n| format!("{n:07}"))
        .collect::<Vec<_>>()
        .concat();
    let answer = peer.ask(Block::get("/chunks"));
    assert!(answer.text() == wanted && answer.ended, "{}", answer.text());
    assert_eq!(peer.ask(Block::get("/close")).text(), "until the end");
    peer.assert_clean();
}

/// RFC 9218: a small urgent answer does not wait for a large one that is not.
#[test]
fn priorities() {
    let rig = Rig::plain();
    let (script, ..) = large();
    rig.origin.on("/large", script).on("/urgent", echo(200));
    let mut peer = Peer::connect(rig.proxy.addr());
    let bulk = peer.open(Block::get("/large").field("priority", "u=7"), true);
    assert!(peer.until(|p| p.streams[&bulk].body_len > MIB as u64));
    let urgent = peer.open(Block::get("/urgent").field("priority", "u=0"), true);
    let before = peer.stream(bulk).body_len;
    assert!(peer.until(|p| p.streams[&urgent].is_over()));
    let after = peer.stream(bulk).body_len;
    assert_eq!(peer.stream(urgent).status(), 200);
    // What sockets and the outgoing buffer hold already goes first; all of the rest does not.
    assert!(
        after - before < 30 * MIB as u64,
        "{} bytes of the bulk went first",
        after - before
    );
    peer.frame(&Frame::reset(bulk, code::CANCEL));
    assert!(peer.pings());
    peer.assert_clean();
}

/// A drain: GOAWAY, what is under way is answered, nothing new, then the end.
#[test]
fn drains() {
    let mut rig = Rig::plain();
    rig.origin.on(
        "/slow",
        [
            Step::Reached("here".into()),
            Step::Gate("go".into()),
            Step::Echo(200),
        ],
    );
    let mut peer = Peer::connect(rig.proxy.addr());
    assert_eq!(peer.ask(Block::get("/before")).status(), 200);
    let slow = peer.open(Block::get("/slow"), true);
    assert!(rig.origin.wait_gate("here"));
    rig.proxy.signal(rustix::process::Signal::TERM);
    assert!(
        peer.until(|p| !p.goaways.is_empty()),
        "no GOAWAY at a drain"
    );
    let (last, why) = peer.goaways[0];
    assert_eq!(why, code::NO_ERROR);
    assert!(last >= slow, "GOAWAY {last} gives up stream {slow}");
    rig.origin.open("go");
    assert_eq!(peer.answer(slow).status(), 200, "what was under way");
    assert_ne!(
        peer.read_to_end(PATIENCE),
        narthex_e2e::kit::attack::End::Open
    );
    peer.assert_clean();
    let status = rig.proxy.wait(PATIENCE);
    assert!(status.success(), "{status}");
}

/// Reloads disturb nobody; one that takes the listener away says GOAWAY.
#[test]
fn reloads() {
    let origin = Origin::start();
    origin.on("/slow", [Step::Gate("go".into()), Step::Echo(200)]);
    let text = |extra: &str| Rig::text(&origin, "", "", &format!("{extra}\nproxy \"u\""));
    let second = "listen \"127.0.0.1:@PORT2@\"\n";
    let proxy = Proxy::start(&(text("") + second));
    let mut kept = Peer::connect(proxy.addr());
    let mut leaving = Peer::connect(proxy.addr2());
    let slow = [
        kept.open(Block::get("/slow"), true),
        leaving.open(Block::get("/slow"), true),
    ];
    assert!(origin.wait_heads(2));
    proxy.reload_ok(&(text("header response { set \"X-New\" \"1\" }") + second));
    assert_eq!(
        kept.ask(Block::get("/a")).field("x-new").as_deref(),
        Some("1"),
        "the new configuration"
    );
    assert!(kept.goaways.is_empty() && leaving.goaways.is_empty());
    proxy.reload_ok(&text(""));
    assert!(
        leaving.until(|p| !p.goaways.is_empty()),
        "its listener is gone"
    );
    assert_eq!(leaving.goaways[0].1, code::NO_ERROR);
    origin.open("go");
    assert_eq!(kept.answer(slow[0]).status(), 200);
    assert_eq!(leaving.answer(slow[1]).status(), 200);
    assert_ne!(
        leaving.read_to_end(PATIENCE),
        narthex_e2e::kit::attack::End::Open
    );
    assert_eq!(kept.ask(Block::get("/b")).field("x-new"), None);
    assert!(kept.goaways.is_empty());
    kept.assert_clean();
    leaving.assert_clean();
}

/// So many requests, then GOAWAY, and none of them is lost.
#[test]
fn requests_of_a_connection() {
    let rig = Rig::of("connections requests=20", "proxy \"u\"");
    let mut peer = Peer::connect(rig.proxy.addr());
    let mut answered = 0;
    for _ in 0..40 {
        if !peer.goaways.is_empty() {
            break;
        }
        let id = peer.open(Block::get("/n"), true);
        peer.until(|p| p.streams[&id].is_over());
        if peer.stream(id).status() == 200 {
            answered += 1;
        } else {
            let reset = peer.stream(id).reset;
            assert_eq!(reset, Some(code::REFUSED_STREAM), "{answered} answered");
        }
        while let Got::Frame(_) = peer.poll(std::time::Duration::from_millis(5)) {}
    }
    assert!((20..=22).contains(&answered), "{answered} answered");
    assert_eq!(peer.goaways[0].1, code::NO_ERROR);
    assert_ne!(
        peer.read_to_end(PATIENCE),
        narthex_e2e::kit::attack::End::Open
    );
    peer.assert_clean();
}

/// What ALPN agreed on is what is spoken (TL-09); who offers nothing that we speak is told so.
#[test]
fn tl_09_alpn() {
    let both = Both::start();
    let offers = |alpn: &[&str]| Tls::new(&[&both.ca], Versions::Both, alpn, None);
    let chosen = |alpn: &[&str]| {
        let link = Link::tls(both.proxy.addr2(), "localhost", &offers(alpn));
        link.map(|(_, alpn)| alpn)
    };
    assert_eq!(chosen(&["h2", "http/1.1"]).unwrap().as_deref(), Some("h2"));
    assert_eq!(
        chosen(&["http/1.1", "h2"]).unwrap().as_deref(),
        Some("h2"),
        "ours is the order"
    );
    assert_eq!(chosen(&["http/1.1"]).unwrap().as_deref(), Some("http/1.1"));
    for foreign in [&["ftp"][..], &["h2c"], &["smtp", "imap"]] {
        assert!(chosen(foreign).is_err(), "{foreign:?}");
    }
    // HTTP/2 on what was to be HTTP/1.1, and the other way round.
    let (link, _) = Link::tls(both.proxy.addr2(), "localhost", &offers(&["http/1.1"])).unwrap();
    let mut peer = Peer::silent(link);
    peer.send([narthex_e2e::kit::h2::PREFACE, &Frame::settings(&[]).bytes()].concat());
    peer.read_to_end(PATIENCE);
    assert_eq!(
        peer.count.get(&kind::SETTINGS),
        None,
        "HTTP/2 without its ALPN"
    );
    let (link, _) = Link::tls(both.proxy.addr2(), "localhost", &offers(&["h2"])).unwrap();
    let mut peer = Peer::silent(link);
    peer.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(
        peer.until(|p| p.goaways.iter().any(|g| g.1 == code::PROTOCOL)),
        "{:?}",
        peer.over
    );
    assert!(both.origin.seen().is_empty());
}

/// A scheme that is not the connection's.
#[test]
fn schemes_are_those_of_the_connection() {
    let both = Both::start();
    let tls = Tls::new(&[&both.ca], Versions::Both, &["h2"], None);
    let mut secure = Peer::tls(both.proxy.addr2(), "localhost", &tls);
    let mut plain = Peer::connect(both.proxy.addr());
    for (peer, right, wrong) in [
        (&mut secure, "https", "http"),
        (&mut plain, "http", "https"),
    ] {
        let ask = |scheme: &str| Block::request_to("GET", scheme, "localhost", "/s");
        assert_eq!(peer.ask(ask(right)).status(), 200);
        let answer = peer.ask(ask(wrong));
        assert!(
            answer.reset == Some(code::PROTOCOL) || answer.status() == 400,
            "{wrong}: {answer:?}"
        );
        assert!(peer.pings());
    }
}

/// Requests for a site whose handshake was another's are misdirected (TL-02), on a connection that goes on for its own.
#[test]
fn tl_02_coalesced_connections() {
    let (ca, origin) = (Ca::new("root"), Origin::start());
    let dir = tempfile::tempdir().unwrap();
    for name in ["open.test", "mtls.test"] {
        ca.leaf(&["open.test", "mtls.test"]).write(dir.path(), name);
    }
    fs::write(dir.path().join("clients.pem"), Ca::new("clients").pem()).unwrap();
    let site = |name: &str, block: &str| {
        let place = origin.place();
        format!(
            "site \"{name}\" {{ tls cert=\"{name}.pem\" key=\"{name}.key\" {block}; proxy \"{place}\" }}\n"
        )
    };
    let must = "{ client-certificate \"required\" ca=\"clients.pem\" }";
    let text = Proxy::config("tls", &(site("open.test", "") + &site("mtls.test", must)));
    let proxy = Proxy::start_in(dir, &text);
    let tls = Tls::new(&[&ca], Versions::Both, &["h2"], None);
    let mut peer = Peer::tls(proxy.addr(), "open.test", &tls);
    let ask = |peer: &mut Peer, authority: &str| {
        peer.ask(Block::request_to("GET", "https", authority, "/"))
    };
    assert_eq!(ask(&mut peer, "open.test").status(), 200);
    for authority in ["mtls.test", "MTLS.test", "mtls.test.", "mtls.test:443"] {
        let answer = ask(&mut peer, authority);
        let refused = answer.reset == Some(code::PROTOCOL) || answer.status() == 400;
        assert!(answer.status() == 421 || refused, "{authority}: {answer:?}");
    }
    assert_eq!(ask(&mut peer, "mtls.test").status(), 421);
    assert_eq!(ask(&mut peer, "open.test").status(), 200);
    assert!(
        origin
            .seen()
            .iter()
            .all(|s| s.header("host").as_deref() == Some("open.test"))
    );
    peer.assert_clean();
}
