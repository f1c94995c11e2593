//! Binary upgrades: a new process takes over the sockets and what is known of the servers, the old one finishes what it
//! has begun, and no client notices. What fails is rolled back, and nobody notices either.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::{Client, End};
use narthex_e2e::kit::chaos::{Fleet, Order};
use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::load::{Load, Plan, Tally};
use narthex_e2e::kit::origin::{Origin, Step};
use narthex_e2e::kit::proxy::{ProgramKind, Proxy, is_alive, say};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::sock::Place;
use narthex_e2e::kit::{Fnv, PATIENCE, card, eventually, full, pause, raise_open_files};
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

#[track_caller]
fn nothing_lost(tally: &Tally) {
    assert_eq!(
        (tally.failed().len(), tally.cut()),
        (0, 0),
        "{}",
        tally.brief()
    );
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
    raise_open_files();
    let fleet = Fleet::of(3);
    let origin = origin();
    origin.room(sockets + 100);
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
    let (mut upgrading, mut reloading) = (Duration::ZERO, Duration::ZERO);
    for upgrade in 0..upgrades {
        let began = Instant::now();
        proxy.upgrade_ok();
        upgrading = upgrading.max(began.elapsed());
        uploading.may_go_on(upload * (upgrade as u64 + 1) / upgrades as u64);
        load.wait_more(50);
        for _ in 0..reloads {
            let began = Instant::now();
            proxy.reload_ok(&text);
            reloading = reloading.max(began.elapsed());
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
    let (length, hash) = uploading.finish();
    let tally = load.stop();
    card::row(
        "upgrades, reloads, WebSockets, bytes uploaded",
        format!("{upgrades}, {}, {sockets}, {length}", upgrades * reloads),
    );
    card::load("beside them", &tally);
    card::row("resets and refused connections", tally.cut());
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    card::row(
        "longest upgrade / reload, by the command, ms",
        format!("{:.0} / {:.0}", ms(upgrading), ms(reloading)),
    );
    nothing_lost(&tally);
    for client in &mut tunnels {
        echoes(client, b"and at the end");
    }
    card::row("WebSockets that still echo", tunnels.len());
    let seen = origin.seen();
    let seen = seen.iter().find(|s| s.path() == "/upload").unwrap();
    assert_eq!((seen.body_len, seen.hash), (length, hash), "the upload");
    // Flat: the last generation is no larger than the second, but for connections that come and go with the load.
    let (early, late) = (figures[1], figures[figures.len() - 1]);
    card::row(
        "descriptors, threads, KiB of memory: second generation / last",
        format!("{early:?} / {late:?}"),
    );
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

/// A long upload on a thread of its own, which lasts for the whole test: it goes on as far as it may.
struct Upload {
    thread: std::thread::JoinHandle<(u64, Fnv)>,
    may: Arc<AtomicU64>,
}

impl Upload {
    fn start(proxy: &Proxy, length: u64) -> Self {
        let mut client = proxy.connect();
        let may = Arc::new(AtomicU64::new(0));
        let so_far = Arc::clone(&may);
        let thread = std::thread::spawn(move || {
            let fields = format!("Content-Length: {length}\r\n");
            let head = request("POST", "/upload", &fields, "");
            client.send(head.replacen("Host: a\r\n", "Host: long.test\r\n", 1));
            let piece: Vec<u8> = (0..64 << 10).map(|n: u32| (n * 7 % 251) as u8).collect();
            let (mut sent, mut hash) = (0, Fnv::default());
            while sent < length {
                if sent >= so_far.load(Ordering::SeqCst) {
                    pause(Duration::from_millis(5));
                }
                assert!(client.send(&piece), "the upload is cut after {sent}");
                hash.add(&piece);
                sent += piece.len() as u64;
            }
            client.patience = PATIENCE * 6;
            assert_eq!(client.read_response("POST").unwrap().status, 200);
            (sent, hash)
        });
        Self { thread, may }
    }

    /// Up to so many bytes without a pause; beyond them slowly.
    fn may_go_on(&self, to: u64) {
        self.may.store(to, Ordering::SeqCst);
    }

    fn finish(self) -> (u64, Fnv) {
        self.may_go_on(u64::MAX);
        self.thread.join().unwrap()
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
    nothing_lost(&load.stop());
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

fn servers(proxy: &Proxy) -> Vec<serde_json::Value> {
    let status = proxy.status();
    let servers = status["upstreams"][0]["servers"].as_array().unwrap();
    servers.clone()
}

/// A server that its check has found down is not asked to prove it again: it is down from the first moment.
#[test]
fn who_is_down_stays_down() {
    let mut fleet = Fleet::of(2);
    let check = |interval: &str| {
        format!(
            "health-check \"/healthz\" interval=\"{interval}\" recovery=\"{interval}\" timeout=\"100ms\" unhealthy=2"
        )
    };
    let mut proxy = fleet.proxy(&check("100ms"));
    fleet.tell(0, Order::Health(503));
    let state = |proxy: &Proxy, i: usize| servers(proxy)[i]["state"].as_str().unwrap().to_owned();
    let settled =
        |proxy: &Proxy| (state(proxy, 0), state(proxy, 1)) == ("down".into(), "up".into());
    assert!(eventually(PATIENCE, || settled(&proxy)));
    let before = servers(&proxy);
    // The new process is in no hurry to ask: what it says is what it was told.
    proxy.change_config(&fleet.config(&check("1h")));
    for _ in 0..2 {
        proxy.upgrade_ok();
        let now = servers(&proxy);
        for i in [0, 1] {
            for what in ["state", "reason", "since"] {
                assert_eq!(now[i][what], before[i][what], "{what} of s{i}");
            }
        }
        for _ in 0..20 {
            let answer = proxy.connect().ask(get("/", ""));
            assert_eq!(answer.fields.get("x-origin").as_deref(), Some("s1"));
        }
    }
    // And one that asks sees it come back.
    fleet.tell(0, Order::Health(200));
    proxy.change_config(&fleet.config(&check("100ms")));
    proxy.upgrade_ok();
    let back = || ["up", "returning"].contains(&state(&proxy, 0).as_str());
    assert!(eventually(PATIENCE, back), "{:?}", servers(&proxy));
}

/// Servers that were added, changed and removed at run time are so after an upgrade, and can be given back to the file.
#[test]
fn changes_at_run_time_cross() {
    let mut fleet = Fleet::of(6);
    let lines = |which: &[usize], fleet: &Fleet| -> String {
        let line = |i: &usize| format!("server \"{}\"\n", fleet.addr(*i));
        which.iter().map(line).collect()
    };
    let text = Proxy::config(
        "connections per-client=0",
        &format!(
            "connections per-client=0\nupstream \"u\" {{\n{}slow-start \"0s\"\n}}\nsite \"*\" {{ proxy \"u\" }}",
            lines(&[0, 1, 2], &fleet)
        ),
    );
    let mut proxy = Proxy::start(&text);
    let names = [0, 1, 2, 3, 4, 5].map(|i| fleet.addr(i).to_string());
    let name = |i: usize| names[i].clone();
    let change = |proxy: &Proxy, args: &[&str]| {
        let admin = proxy.fill_in("unix:@ADMIN@");
        let out = proxy.command(&[&["upstream"], args, &["--admin", &admin]].concat());
        assert!(out.status.success(), "{args:?}: {}", say(&out));
    };
    change(&proxy, &["add", "u", &name(3), "--weight", "2"]);
    change(&proxy, &["add", "u", &name(4), "--state", "drain"]);
    change(&proxy, &["add", "u", &name(5), "--backup"]);
    change(&proxy, &["remove", "u", &name(0)]);
    change(&proxy, &["weight", "u", &name(1), "3"]);
    change(&proxy, &["down", "u", &name(2)]);
    let shown = |proxy: &Proxy| -> Vec<String> {
        let what = ["name", "state", "order", "weight", "backup", "priority"];
        let one = |s: &serde_json::Value| what.map(|what| s[what].to_string()).join(" ");
        servers(proxy).iter().map(one).collect()
    };
    let written = shown(&proxy);
    assert_eq!(written.len(), 5, "{written:#?}");
    let answering = |proxy: &Proxy| {
        let ask = |_| proxy.connect().ask(get("/", "")).fields.get("x-origin");
        (0..40).filter_map(ask).collect::<BTreeSet<String>>()
    };
    let load = Load::start(proxy.addr(), Plan::at(100).over(4));
    for _ in 0..2 {
        proxy.upgrade_ok();
        assert_eq!(shown(&proxy), written);
        assert_eq!(answering(&proxy), ["s1", "s3"].map(str::to_owned).into());
        proxy.reload_ok(&text);
        assert_eq!(shown(&proxy), written, "nor does a reload forget them");
    }
    nothing_lost(&load.stop());
    fleet.kill(1);
    fleet.kill(3);
    let backup = || answering(&proxy) == ["s5".to_owned()].into();
    assert!(eventually(PATIENCE, backup), "the backup that was added");
    change(&proxy, &["reset", "u"]);
    let left: Vec<String> = servers(&proxy)
        .iter()
        .map(|s| s["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(left, names[..3]);
}

/// A socket that the service manager passed is passed on, and on; it is nobody's to close.
#[test]
fn a_passed_socket_is_passed_on() {
    let origin = origin();
    let text = config(&origin).replace("listen \"127.0.0.1:@PORT@\"", "listen \"fd:web\"");
    let mut proxy = Proxy::start_with_socket(&text);
    let mut tunnel = websocket(&proxy);
    let load = Load::start(proxy.addr(), Plan::at(200).posts(30));
    for _ in 0..3 {
        proxy.upgrade_ok();
        proxy.reload_ok(&text);
        load.wait_more(40);
    }
    // Without a listener of its name it is kept, for the configuration of another day.
    let second = text.replace("fd:web", "127.0.0.1:@PORT2@");
    nothing_lost(&load.stop());
    proxy.change_config(&second);
    proxy.upgrade_ok();
    assert_eq!(Client::connect(proxy.addr2()).ask(get("/", "")).status, 200);
    proxy.change_config(&text);
    proxy.upgrade_ok();
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
    echoes(&mut tunnel, b"all the time");
}

/// Started by root, who is then given up: the new process is started without root, and can still open a port below 1024.
#[test]
fn an_upgrade_needs_no_root() {
    /// `nobody` and `nogroup`, by number everywhere.
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give up root");
        return;
    }
    let origin = origin();
    let text = config(&origin).replace(
        "version 1\n",
        &format!("version 1\nuser \"{NOBODY}\" group=\"{NOBODY}\"\npid-file \"@DIR@/pid\"\nlisten \"unix:@DIR@/front.sock\"\n"),
    );
    let mut proxy = Proxy::start_for_user(&text, NOBODY, NOBODY);
    let is_nobody = |proxy: &Proxy| {
        let ids = || -> Vec<String> {
            let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
            let lines = status.lines();
            let ids = lines.filter(|l| l.starts_with("Uid:") || l.starts_with("Gid:"));
            ids.flat_map(|l| l.split_whitespace().skip(1).map(str::to_owned))
                .collect()
        };
        // A socket is open a moment before root is given up.
        let given_up = || ids() == vec![NOBODY.to_string(); 8];
        assert!(eventually(PATIENCE, given_up), "{:?}", ids());
    };
    is_nobody(&proxy);
    let mut tunnel = websocket(&proxy);
    let load = Load::start(proxy.addr(), Plan::at(200).posts(30));
    for _ in 0..2 {
        proxy.upgrade_ok();
        is_nobody(&proxy);
        load.wait_more(40);
    }
    let low = (600..1_024)
        .map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|place| std::net::TcpListener::bind(place).is_ok())
        .unwrap();
    proxy.change_config(&format!("{text}\nlisten \"{low}\"\n"));
    proxy.upgrade_ok();
    is_nobody(&proxy);
    assert_eq!(Client::connect(low).ask(get("/", "")).status, 200);
    let front = Place::Unix(proxy.dir().join("front.sock"));
    assert_eq!(Client::to(&front).ask(get("/", "")).status, 200);
    let named = fs::read_to_string(proxy.dir().join("pid")).unwrap();
    assert_eq!(named.trim(), proxy.pid().to_string());
    nothing_lost(&load.stop());
    echoes(&mut tunnel, b"all the time");
    drop(tunnel);
    let last = proxy.pid();
    proxy.signal(Signal::TERM);
    proxy.await_end_of(last);
    let left = |name: &str| proxy.dir().join(name).exists();
    assert!(!left("front.sock") && !left("admin.sock") && !left("pid"));
    proxy.forget_successors();
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
    nothing_lost(&load.stop());
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
