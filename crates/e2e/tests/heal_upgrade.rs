//! Binary upgrades: a new process takes over the sockets and what is known of the servers, the old one finishes what it
//! has begun, and no client notices. What fails is rolled back, and nobody notices either.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::time::Duration;

use narthex_e2e::kit::attack::{Client, End};
use narthex_e2e::kit::chaos::Fleet;
use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::load::{Load, Plan};
use narthex_e2e::kit::origin::{Origin, Step};
use narthex_e2e::kit::proxy::{ProgramKind, Proxy, is_alive, say};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::sock::Place;
use narthex_e2e::kit::{Fnv, PATIENCE, eventually, full};
use rustix::process::Signal;

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// An origin whose `/ws` is a WebSocket that sends everything back.
fn origin() -> Origin {
    let origin = Origin::start();
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    origin.on("/ws", [Step::Send(switch.into()), Step::Reflect]);
    origin
}

fn config(origin: &Origin) -> String {
    Rig::text(origin, "connections per-client=0", "", "proxy \"u\"")
}

fn websocket(proxy: &Proxy) -> Client {
    let mut client = proxy.connect();
    client.send(get("/ws", HANDSHAKE));
    assert_eq!(client.read_head().unwrap().1, 101);
    client
}

#[track_caller]
fn echoes(client: &mut Client, text: &[u8]) {
    client.send(text);
    assert_eq!(client.read_exactly(text.len()), text);
}

#[test]
fn a_new_process_takes_over_and_the_old_one_ends() {
    let origin = origin();
    let text = config(&origin).replace(
        "version 1\n",
        "version 1\npid-file \"@DIR@/pid\"\nlisten \"unix:@DIR@/front.sock\"\n",
    );
    let mut proxy = Proxy::start(&text);
    let mut kept = proxy.connect();
    assert_eq!(kept.ask(get("/", "")).status, 200);
    let old = proxy.upgrade_ok();
    assert_eq!(proxy.status()["pid"], proxy.pid());
    let named = fs::read_to_string(proxy.dir().join("pid")).unwrap();
    assert_eq!(named.trim(), proxy.pid().to_string());
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
    let front = Place::Unix(proxy.dir().join("front.sock"));
    assert_eq!(Client::to(&front).ask(get("/", "")).status, 200);
    assert!(is_alive(old), "a client is connected to it");
    let last = kept.ask(get("/", ""));
    assert_eq!((last.status, last.says_close()), (200, true));
    drop(kept);
    proxy.await_end_of(old);
    // What the new one serves is not the old one's to remove.
    assert_eq!(Client::to(&front).ask(get("/", "")).status, 200);
    assert_eq!(proxy.status()["draining_before"], 0);
    assert_eq!(fs::read_to_string(proxy.dir().join("pid")).unwrap(), named);
    let new = proxy.pid();
    proxy.signal(Signal::TERM);
    proxy.await_end_of(new);
    let left = |name: &str| proxy.dir().join(name).exists();
    assert!(!left("front.sock") && !left("admin.sock") && !left("pid"));
    proxy.forget_successors();
}

#[test]
fn a_signal_does_the_same() {
    let origin = origin();
    let mut proxy = Proxy::start(&config(&origin));
    let old = proxy.pid();
    proxy.signal(Signal::USR2);
    let new = || proxy.status()["pid"].as_u64().unwrap() as u32;
    assert!(eventually(PATIENCE, || new() != old));
    let new = new();
    proxy.note_successor(new);
    proxy.await_end_of(old);
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
}

/// The row of the fault scorecard. Short: 5 upgrades, 15 reloads, 50 WebSockets, 64 MiB up; long: 20, 100, 500, 10 GiB.
#[test]
fn upgrades_and_reloads_under_load() {
    let (upgrades, reloads, sockets, upload) = if full() {
        (20, 5, 500, 10 << 30)
    } else {
        (5, 3, 50, 64 << 20)
    };
    let fleet = Fleet::of(3);
    let origin = origin();
    let long = format!(
        "upstream \"long\" {{ server \"{}\" }}\nsite \"long.test\" {{ proxy \"long\" }}\n",
        origin.place()
    );
    let text = format!(
        "shutdown upgrade-grace=\"1h\"\n{}\n{long}",
        fleet.config("")
    )
    .replacen("shutdown", "version 1\nshutdown", 1)
    .replacen("version 1\nworkers", "workers", 1);
    let mut proxy = Proxy::start(&text);
    let to_long = |request: String| request.replacen("Host: a\r\n", "Host: long.test\r\n", 1);
    let mut tunnels: Vec<Client> = (0..sockets)
        .map(|n| {
            let mut client = proxy.connect();
            client.send(to_long(get("/ws", HANDSHAKE)));
            assert_eq!(client.read_head().unwrap().1, 101, "WebSocket {n}");
            client
        })
        .collect();
    let uploading = Upload::start(&proxy, upload);
    let load = Load::start(proxy.addr(), Plan::sized(200, 5_000).posts(30));
    load.wait_more(50);
    let mut figures = Vec::new();
    for upgrade in 0..upgrades {
        proxy.upgrade_ok();
        load.wait_more(50);
        for _ in 0..reloads {
            proxy.reload_ok(&text);
        }
        load.wait_more(50);
        let (descriptors, threads) = proxy.descriptors_and_threads();
        figures.push((descriptors, threads, proxy.rss_kib()));
        let one = upgrade % tunnels.len();
        echoes(&mut tunnels[one], b"still here");
        // A generation without long connections ends; the first one has them all.
        assert!(
            eventually(PATIENCE * 3, || proxy.status()["draining_before"] == 1),
            "{} generations drain",
            proxy.status()["draining_before"]
        );
    }
    let tally = load.stop();
    assert_eq!(
        (tally.failed().len(), tally.cut()),
        (0, 0),
        "{}",
        tally.brief()
    );
    for client in &mut tunnels {
        echoes(client, b"and at the end");
    }
    let (length, hash) = uploading.finish();
    let seen = origin.seen();
    let seen = seen.iter().find(|s| s.path() == "/upload").unwrap();
    assert_eq!((seen.body_len, seen.hash), (length, hash), "the upload");
    // Flat: the last generation is no larger than the second, but for connections that come and go with the load.
    let (early, late) = (figures[1], figures[figures.len() - 1]);
    assert!(late.0 <= early.0 + 16, "descriptors: {figures:?}");
    assert!(late.1 <= early.1 + 2, "threads: {figures:?}");
    assert!(
        late.2 <= early.2 * 3 / 2 + 4_096,
        "KiB of memory: {figures:?}"
    );
    drop(tunnels);
    let first = proxy.first_pid();
    proxy.await_end_of(first);
}

/// A long upload that goes on piece by piece, on a thread of its own.
struct Upload(std::thread::JoinHandle<(u64, Fnv)>);

impl Upload {
    fn start(proxy: &Proxy, length: u64) -> Self {
        let mut client = proxy.connect();
        Self(std::thread::spawn(move || {
            let fields = format!("Content-Length: {length}\r\n");
            let head = request("POST", "/upload", &fields, "");
            client.send(head.replacen("Host: a\r\n", "Host: long.test\r\n", 1));
            let piece: Vec<u8> = (0..64 << 10).map(|n: u32| (n * 7 % 251) as u8).collect();
            let (mut sent, mut hash) = (0, Fnv::default());
            while sent < length {
                assert!(client.send(&piece), "the upload is cut after {sent}");
                hash.add(&piece);
                sent += piece.len() as u64;
                // Lasts for the whole test, not for a moment of it.
                narthex_e2e::kit::pause(Duration::from_millis(if full() { 0 } else { 10 }));
            }
            assert_eq!(client.read_response("POST").unwrap().status, 200);
            (sent, hash)
        }))
    }

    fn finish(self) -> (u64, Fnv) {
        self.0.join().unwrap()
    }
}

/// Whatever is wrong with the new program: it ends, the old one serves on, and no request is lost.
#[test]
fn what_fails_is_rolled_back() {
    let fleet = Fleet::of(1);
    let good = fleet.config("");
    let mut proxy = Proxy::start_replaceable(&good);
    let load = Load::start(proxy.addr(), Plan::at(100).over(4));
    load.wait_more(20);
    let before = (proxy.status(), proxy.descriptors_and_threads().0);
    let programs = [
        (ProgramKind::Script("exit 1".into()), "exit status: 1"),
        (
            ProgramKind::Script("exec sleep 1000".into()),
            "was not ready within 1",
        ),
        (ProgramKind::Script("kill -9 $$".into()), "signal: 9"),
        (ProgramKind::Rubbish, "cannot be started"),
    ];
    for (program, words) in programs {
        proxy.replace_program(&program);
        refused(&mut proxy, &["--timeout", "1"], words);
    }
    proxy.replace_program(&ProgramKind::Ours);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("{good}\nlisten \"{}\"\n", taken.local_addr().unwrap());
    let configs = [
        ("garbage {".to_owned(), "cannot be served"),
        (
            good.replace("proxy \"u\"", "proxy \"nobody\""),
            "cannot be served",
        ),
        (taken, "is in use"),
    ];
    for (config, words) in configs {
        proxy.change_config(&config);
        refused(&mut proxy, &[], words);
    }
    proxy.change_config(&good);
    let after = proxy.status();
    assert_eq!(
        (&before.0["pid"], &before.0["listeners"]),
        (&after["pid"], &after["listeners"])
    );
    // Every attempt had half a dozen sockets; the load has four connections, and as many to its server.
    let descriptors = proxy.descriptors_and_threads().0;
    assert!(
        descriptors <= before.1 + 12,
        "{} before, {descriptors} after",
        before.1
    );
    let refusals = "narthex_upgrades_total{result=\"rolled-back\"} 7";
    assert!(proxy.metrics().contains(refusals), "{}", proxy.metrics());
    // And it can be mended.
    proxy.reload_ok(&good);
    proxy.upgrade_ok();
    load.wait_more(20);
    let tally = load.stop();
    assert_eq!(
        (tally.failed().len(), tally.cut()),
        (0, 0),
        "{}",
        tally.brief()
    );
}

#[track_caller]
fn refused(proxy: &mut Proxy, arguments: &[&str], words: &str) {
    let pid = proxy.pid();
    let out = proxy.upgrade(arguments);
    assert_eq!(out.status.code(), Some(1), "{}", say(&out));
    assert!(
        say(&out).contains(words),
        "{words:?} is not in {}",
        say(&out)
    );
    assert_eq!(
        (proxy.pid(), proxy.status()["pid"].as_u64()),
        (pid, Some(u64::from(pid)))
    );
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    assert_eq!(children.unwrap().trim(), "", "nothing of it is left");
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
}

/// What is known of the servers goes with the service, not with the process.
#[test]
fn what_is_known_survives() {
    let fleet = Fleet::of(2);
    let dead = "server \"127.0.0.1:1\"\neject errors=1 for=\"1h\"\nretry attempts=2";
    let mut proxy = fleet.proxy(dead);
    let server = |proxy: &Proxy, name: &str| -> serde_json::Value {
        let status = proxy.status();
        let servers = status["upstreams"][0]["servers"]
            .as_array()
            .unwrap()
            .clone();
        servers.into_iter().find(|s| s["name"] == name).unwrap()
    };
    let ejected = |proxy: &Proxy| server(proxy, "127.0.0.1:1")["state"] == "ejected";
    assert!(eventually(PATIENCE, || {
        assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
        ejected(&proxy)
    }));
    let (name, drained) = (fleet.addr(0).to_string(), fleet.addr(1).to_string());
    let admin = format!("unix:{}", proxy.dir().join("admin.sock").display());
    let out = proxy.command(&["upstream", "drain", "u", &drained, "--admin", &admin]);
    assert!(out.status.success(), "{}", say(&out));
    let before = (server(&proxy, "127.0.0.1:1"), server(&proxy, &name));
    let counted = served(&proxy);
    for _ in 0..2 {
        proxy.upgrade_ok();
        let out = server(&proxy, "127.0.0.1:1");
        for what in ["state", "since", "failures", "last_error"] {
            assert_eq!(out[what], before.0[what], "{what}");
        }
        let requests = |server: &serde_json::Value| server["requests"].as_u64().unwrap();
        assert!(requests(&server(&proxy, &name)) >= requests(&before.1));
        assert!(served(&proxy) >= counted, "counters never fall");
        assert_eq!(server(&proxy, &drained)["state"], "draining");
        for _ in 0..20 {
            assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
        }
        assert!(ejected(&proxy), "nobody tries it before its time");
    }
    assert_eq!(served(&proxy), counted + 40);
}

/// Without a secret of its own the key of the cookies is drawn, and goes with the service.
#[test]
fn a_sticky_client_stays_where_it_is() {
    let fleet = Fleet::of(3);
    let mut proxy = fleet.proxy("sticky \"lb\"");
    let first = proxy.connect().ask(get("/", ""));
    let cookie = first.fields.get("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let place = |proxy: &Proxy| {
        let answer = proxy
            .connect()
            .ask(get("/", &format!("Cookie: {cookie}\r\n")));
        assert!(!answer.fields.has("set-cookie"), "the cookie holds");
        answer.fields.get("x-origin").unwrap()
    };
    let server = place(&proxy);
    for _ in 0..2 {
        proxy.upgrade_ok();
        for _ in 0..5 {
            assert_eq!(place(&proxy), server);
        }
    }
}

/// Requests that the site has served, by the metrics.
fn served(proxy: &Proxy) -> u64 {
    let metrics = proxy.metrics();
    let lines = metrics
        .lines()
        .filter(|l| l.starts_with("narthex_requests_total"));
    lines
        .map(|l| l.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

/// The last counts of each process reach whoever serves by then.
#[test]
fn what_an_old_process_counts_is_not_lost() {
    let origin = origin();
    let mut proxy = Proxy::start(&config(&origin));
    let mut kept: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = proxy.connect();
            assert_eq!(client.ask(get("/", "")).status, 200);
            proxy.upgrade_ok();
            client
        })
        .collect();
    assert_eq!(proxy.status()["draining_before"], 3);
    assert_eq!(served(&proxy), 3);
    for client in &mut kept {
        assert_eq!(client.ask(get("/", "")).status, 200);
    }
    drop(kept);
    assert!(eventually(
        PATIENCE * 3,
        || proxy.status()["draining_before"] == 0
    ));
    assert_eq!(served(&proxy), 6);
    let requests = &proxy.status()["upstreams"][0]["servers"][0]["requests"];
    assert_eq!(requests, 6);
}

/// More workers, fewer workers, listeners that come and go: all with the new process.
#[test]
fn the_configuration_may_change_with_it() {
    let origin = origin();
    let one = config(&origin);
    let mut proxy = Proxy::start(&one);
    let load = Load::start(proxy.addr(), Plan::at(100));
    for workers in [1, 4, 2] {
        proxy.change_config(&one.replace("workers 2", &format!("workers {workers}")));
        proxy.upgrade_ok();
        load.wait_more(30);
        assert_eq!(proxy.status()["workers"], workers);
    }
    proxy.change_config(&format!("{one}\nlisten \"127.0.0.1:@PORT2@\"\n"));
    proxy.upgrade_ok();
    assert_eq!(Client::connect(proxy.addr2()).ask(get("/", "")).status, 200);
    // An option that an open socket can take on.
    proxy.change_config(&one.replace(
        "connections per-client=0",
        "connections per-client=0\nbacklog 77",
    ));
    proxy.upgrade_ok();
    let gone = || std::net::TcpStream::connect(proxy.addr2()).is_err();
    assert!(eventually(PATIENCE, gone), "the second listener is gone");
    load.wait_more(30);
    let tally = load.stop();
    assert_eq!(
        (tally.failed().len(), tally.cut()),
        (0, 0),
        "{}",
        tally.brief()
    );
}

/// Long exchanges have `upgrade-grace`, and not more.
#[test]
fn the_grace_of_an_upgrade_ends() {
    let origin = origin();
    let text = format!("{}\nshutdown upgrade-grace=\"1s\"\n", config(&origin));
    let mut proxy = Proxy::start(&text);
    let mut tunnel = websocket(&proxy);
    let old = proxy.upgrade_ok();
    echoes(&mut tunnel, b"within the grace");
    proxy.await_end_of(old);
    assert_ne!(tunnel.rest().1, End::Open);
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
}

/// A process that drains after an upgrade may be told to hurry.
#[test]
fn an_old_process_can_be_stopped() {
    let origin = origin();
    let text = format!("{}\nshutdown grace=\"1s\"\n", config(&origin));
    let mut proxy = Proxy::start(&text);
    let mut tunnel = websocket(&proxy);
    let old = proxy.upgrade_ok();
    echoes(&mut tunnel, b"still here");
    let pid = rustix::process::Pid::from_raw(old.cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    proxy.await_end_of(old);
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
}

/// While the new program gets ready: reloads wait for another time, and a stop ends both.
#[test]
fn an_upgrade_under_way_gives_way_to_a_stop() {
    let origin = origin();
    let mut proxy = Proxy::start_replaceable(&config(&origin));
    let marker = proxy.dir().join("started");
    let script = format!(
        "echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 1000",
        marker.display()
    );
    proxy.replace_program(&ProgramKind::Script(script));
    proxy.signal(Signal::USR2);
    assert!(eventually(PATIENCE, || marker.exists()));
    let successor: u32 = fs::read_to_string(&marker).unwrap().trim().parse().unwrap();
    let out = proxy.reload(&config(&origin));
    assert!(
        say(&out).contains("an upgrade is under way"),
        "{}",
        say(&out)
    );
    let out = proxy.upgrade(&[]);
    assert!(say(&out).contains("under way already"), "{}", say(&out));
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
    assert!(proxy.stop().success());
    assert!(!is_alive(successor));
}

/// The old process does not take what was never handed to it: standard input that only looks the part.
#[test]
fn a_stray_variable_changes_nothing() {
    let origin = origin();
    let proxy = Proxy::start(&config(&origin));
    let out = std::process::Command::new(narthex_e2e::kit::proxy::binary())
        .args(["run", "--config", "/nonexistent.kdl"])
        .env("NARTHEX_UPGRADE_FROM", std::process::id().to_string())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", say(&out));
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
}
