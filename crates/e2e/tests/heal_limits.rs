//! Limits of connections and requests: they hold over all workers, who waits is served in order, and who cannot be served is
//! told when to come back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking; metrics that are compared are whole numbers"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::{Client, Response};
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::origin::{Origin, Personality, Step};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::sock::Place;
use narthex_e2e::kit::{PATIENCE, card, eventually, pause, workers};

narthex_e2e::with_1_2_and_8_workers! {
    op_descriptors_run_out,
    op_ports_run_out,
}

/// Every route has its priority; `/wait` is answered when the test opens `go`.
const ROUTES: &str = "route path=\"/marker\" { respond 200 \"here\" }
    route path=\"/high\" { priority \"high\"; proxy \"u\" }
    route path=\"/low\" { priority \"low\"; proxy \"u\" }
    route path=\"/*\" { proxy \"u\" }";

/// One place, by each of the limits.
const ONE_PLACE: [(&str, &str); 4] = [
    ("max=1", ""),
    ("total=1", ""),
    ("", "requests max=1"),
    ("", "requests total=1"),
];

fn rig(workers: usize, upstream: &str, global: &str) -> Rig {
    let origin = Origin::start();
    origin.on(
        "/wait",
        [Step::ReadBody, Step::Gate("go".into()), Step::Echo(200)],
    );
    let text = Rig::text(&origin, "", upstream, ROUTES);
    let text = text.replace("workers 2", &format!("workers {workers}"));
    let proxy = Proxy::start(&format!("{text}\n{global}\n"));
    Rig { proxy, origin }
}

/// The sum of a family's series.
fn metric(proxy: &Proxy, family: &str) -> f64 {
    let metrics = proxy.metrics();
    let lines = metrics
        .lines()
        .filter(|l| l.starts_with(&format!("{family}{{")));
    let values = lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// Of the queues of servers and of upstreams together.
fn of_queues(proxy: &Proxy, what: &str) -> f64 {
    let of = |whose: &str| metric(proxy, &format!("narthex_{whose}_{what}"));
    of("server") + of("upstream")
}

/// So many wait, on whatever worker.
#[track_caller]
fn await_waiting(rig: &Rig, n: usize) {
    let waiting = || of_queues(&rig.proxy, "waiting");
    assert!(
        eventually(PATIENCE, || waiting() == n as f64),
        "{} wait, not {n}",
        waiting()
    );
}

fn asked(rig: &Rig, path: &str) -> Client {
    let mut client = rig.connect();
    client.send(get(path, ""));
    client
}

#[track_caller]
fn assert_refused(response: &Response, reason: &str) {
    let field = |name| response.fields.get(name);
    assert_eq!(
        (response.status, field("narthex-reason").as_deref()),
        (503, Some(reason)),
        "{}",
        response.text()
    );
    let seconds = field("retry-after").expect("Retry-After");
    assert!(seconds.parse::<u32>().is_ok_and(|n| n > 0), "{seconds}");
}

/// An origin that counts the requests it has at once.
struct Counting {
    address: SocketAddr,
    peak: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Counting {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            peak: Arc::default(),
            open: Arc::default(),
        };
        let (peak, open) = (Arc::clone(&this.peak), Arc::clone(&this.open));
        std::thread::spawn(move || {
            let inside = Arc::new(AtomicUsize::new(0));
            for stream in listener.incoming().map_while(Result::ok) {
                let (inside, peak) = (Arc::clone(&inside), Arc::clone(&peak));
                let open = Arc::clone(&open);
                open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let _ = Self::serve(&stream, &inside, &peak);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        this
    }

    fn serve(stream: &TcpStream, inside: &AtomicUsize, peak: &AtomicUsize) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
            }
            peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // The others get their chance to be one too many.
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    }
}

/// Four places; clients that ask without a pause, and clients that ask now and then: all are served, and there are never
/// more than four requests at the server.
#[test]
fn the_maximum_holds_and_nobody_starves() {
    const MAX: usize = 4;
    for setting in [
        "connections max=4",
        "connections total=4",
        "requests max=4",
        "requests total=4",
    ] {
        let setting = match setting.strip_prefix("connections") {
            Some(limit) => format!("connections {limit} queue-timeout=\"60s\""),
            None => format!("connections queue-timeout=\"60s\"\n{setting}"),
        };
        for workers in [1, 2, 8, 16] {
            let origin = Counting::start();
            let text = format!(
                "upstream \"u\" {{\n server \"{}\"\n {setting}\n}}\nsite \"*\" {{ proxy \"u\" }}",
                origin.address
            );
            let text = Proxy::config("", &text).replace("workers 2", &format!("workers {workers}"));
            let proxy = Proxy::start(&text);
            serve_all(&proxy);
            let peak = origin.peak.load(Ordering::SeqCst);
            assert!(
                (1..=MAX).contains(&peak),
                "{peak} at once; {setting}, {workers} workers"
            );
            if setting.starts_with("connections ") && !setting.contains("requests") {
                let open = || origin.open.load(Ordering::SeqCst);
                assert!(eventually(PATIENCE, || open() <= MAX), "{} open", open());
            }
        }
    }
}

/// One connection, and so one worker, that asks without a pause, many requests at once; clients on other connections ask now
/// and then, and are served.
#[test]
fn one_busy_worker_starves_nobody() {
    const BURST: usize = 50;
    for setting in ["max=4", "total=4"] {
        for workers in [1, 2, 8, 16] {
            let origin = Counting::start();
            let text = format!(
                "upstream \"u\" {{\n server \"{}\"\n connections {setting} queue-timeout=\"60s\"\n}}\n\
                 site \"*\" {{ proxy \"u\" }}",
                origin.address
            );
            let text = Proxy::config("", &text).replace("workers 2", &format!("workers {workers}"));
            let proxy = Proxy::start(&text);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let mut client = proxy.connect();
                        while !done.load(Ordering::SeqCst) {
                            client.send(get("/busy", "").repeat(BURST));
                            for _ in 0..BURST {
                                assert_eq!(client.read_response("GET").unwrap().status, 200);
                            }
                        }
                    });
                }
                let others: Vec<_> = (0..2 * workers)
                    .map(|_| {
                        scope.spawn(|| {
                            for _ in 0..5 {
                                // Another connection each time: another worker, as it comes.
                                assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
                            }
                        })
                    })
                    .collect();
                let failed = others.into_iter().filter_map(|t| t.join().err()).count();
                done.store(true, Ordering::SeqCst);
                assert_eq!(failed, 0, "{setting}, {workers} workers");
            });
            let peak = origin.peak.load(Ordering::SeqCst);
            assert!((1..=4).contains(&peak), "{peak} at once; {setting}");
            let waiting = || of_queues(&proxy, "waiting");
            assert!(
                eventually(PATIENCE, || waiting() == 0.0),
                "{} wait",
                waiting()
            );
        }
    }
}

fn serve_all(proxy: &Proxy) {
    let others_left = AtomicUsize::new(12);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(client.ask(get("/busy", "")).status, 200);
                }
            });
        }
        for _ in 0..12 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                for _ in 0..10 {
                    assert_eq!(client.ask(get("/", "")).status, 200);
                }
                if others_left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    done.store(true, Ordering::SeqCst);
                }
            });
        }
    });
}

#[test]
fn without_a_place_and_without_a_queue_it_is_said_at_once() {
    for (connections, requests) in ONE_PLACE {
        for workers in [1, 2, 8] {
            let rig = rig(
                workers,
                &format!("connections {connections} queue=0\n{requests}"),
                "",
            );
            let mut first = asked(&rig, "/wait");
            assert!(rig.origin.wait_heads(1));
            assert_refused(&rig.connect().ask(get("/", "")), "queue-full");
            rig.origin.open("go");
            assert_eq!(first.read_response("GET").unwrap().status, 200);
            // From any worker, whichever of them holds the connection now. Its place may come back after the answer.
            for _ in 0..workers {
                let served = || rig.connect().ask(get("/", "")).status == 200;
                assert!(eventually(PATIENCE, served));
            }
        }
    }
}

#[test]
fn who_waits_too_long_is_told() {
    for (connections, requests) in ONE_PLACE {
        for workers in [1, 2, 8] {
            let limit = format!("connections {connections} queue-timeout=\"100ms\"\n{requests}");
            let rig = rig(workers, &limit, "");
            let mut first = asked(&rig, "/wait");
            assert!(rig.origin.wait_heads(1));
            assert_refused(&rig.connect().ask(get("/", "")), "queue-timeout");
            let counted = [
                "queue_timeouts_total",
                "waits_total",
                "queue_full_total",
                "waiting",
            ];
            let counted = counted.map(|what| of_queues(&rig.proxy, what));
            assert_eq!(counted, [1.0, 1.0, 0.0, 0.0], "{limit}");
            assert!(of_queues(&rig.proxy, "wait_seconds_total") >= 0.09);
            rig.origin.open("go");
            assert_eq!(first.read_response("GET").unwrap().status, 200);
            rig.alive();
        }
    }
}

#[test]
fn who_waits_is_served_by_priority() {
    for (connections, requests) in ONE_PLACE {
        for workers in [1, 2, 8] {
            let limit = format!("connections {connections} queue-timeout=\"60s\"\n{requests}");
            let rig = rig(workers, &limit, "");
            let mut first = asked(&rig, "/wait");
            assert!(rig.origin.wait_heads(1));
            let mut waiting = 0;
            let mut clients = ["/low", "/a", "/b", "/high"].map(|path| {
                let client = asked(&rig, path);
                waiting += 1;
                await_waiting(&rig, waiting);
                client
            });
            rig.origin.open("go");
            assert_eq!(first.read_response("GET").unwrap().status, 200);
            for client in &mut clients {
                assert_eq!(client.read_response("GET").unwrap().status, 200);
            }
            let order: Vec<_> = rig
                .origin
                .seen()
                .iter()
                .map(|s| s.path().to_owned())
                .collect();
            assert_eq!(
                order,
                ["/wait", "/high", "/a", "/b", "/low"],
                "{limit}, {workers} workers"
            );
        }
    }
}

#[test]
fn a_full_queue_lets_the_less_important_go() {
    for (connections, requests) in ONE_PLACE {
        for workers in [1, 2, 8] {
            let limit =
                format!("connections {connections} queue=1 queue-timeout=\"60s\"\n{requests}");
            let rig = rig(workers, &limit, "");
            let mut first = asked(&rig, "/wait");
            assert!(rig.origin.wait_heads(1));
            let mut low = asked(&rig, "/low");
            await_waiting(&rig, 1);
            let mut normal = asked(&rig, "/");
            assert_refused(&low.read_response("GET").unwrap(), "queue-full");
            let mut high = asked(&rig, "/high");
            assert_refused(&normal.read_response("GET").unwrap(), "queue-full");
            assert_refused(&rig.connect().ask(get("/", "")), "queue-full");
            let full = || of_queues(&rig.proxy, "queue_full_total") == 3.0;
            assert!(eventually(PATIENCE, full), "{limit}, {workers} workers");
            rig.origin.open("go");
            assert_eq!(first.read_response("GET").unwrap().status, 200);
            assert_eq!(high.read_response("GET").unwrap().status, 200);
            let waits = || of_queues(&rig.proxy, "waits_total") == 3.0;
            assert!(eventually(PATIENCE, waits), "{limit}, {workers} workers");
        }
    }
}

/// Requests for which there was no socket.
fn refused(proxy: &Proxy) -> usize {
    let log = proxy.access_log();
    let refused = log.iter().filter(|r| r["reason"] == "out-of-sockets");
    refused.count()
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// It may be busy for less than half of a second.
#[track_caller]
fn assert_calm(proxy: &Proxy) {
    let before = cpu_ticks(proxy.pid());
    pause(Duration::from_secs(1));
    let used = cpu_ticks(proxy.pid()) - before;
    assert!(used < 50, "{used}% of a core");
}

/// A row of the scorecard.
fn back_to_normal(what: &str, over: Instant) {
    let what = format!("out of {what}, {} workers: back to normal", workers::now());
    card::at_most(&what, over.elapsed(), Duration::from_secs(2));
}

/// Without descriptors nothing spins; with them everything is as before.
fn op_descriptors_run_out() {
    let rig = rig(workers::now(), "", "");
    rig.alive();
    let open = std::fs::read_dir(format!("/proc/{}/fd", rig.proxy.pid())).unwrap();
    let limit = |current: usize| {
        let pid = rig.proxy.pid();
        let nofile = format!("--nofile={current}:");
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &pid.to_string(), &nofile]);
        assert!(prlimit.status().unwrap().success());
    };
    limit(open.count() + 9);
    // As many as can be accepted, and more; each wants a connection to the origin.
    let clients: Vec<Client> = (0..40).map(|_| asked(&rig, "/wait")).collect();
    assert!(eventually(PATIENCE, || refused(&rig.proxy) > 0));
    assert_calm(&rig.proxy);
    rig.origin.open("go");
    drop(clients);
    let over = Instant::now();
    assert!(eventually(PATIENCE, || {
        let mut client = rig.connect();
        client.send(get("/", "Connection: close\r\n"));
        client.read_response("GET").is_ok_and(|r| r.status == 200)
    }));
    back_to_normal("descriptors", over);
    limit(1_024);
    rig.alive();
}

/// In a network of its own with four ports: see [`ports_run_out`].
fn op_ports_run_out() {
    let possible = Command::new("unshare").args(["-n", "true"]).output();
    if !possible.is_ok_and(|out| out.status.success()) {
        eprintln!("skipped: no network of its own may be made here");
        return;
    }
    let script = "ip link set lo up && sysctl -qw net.ipv4.ip_local_port_range='40000 40003' && \
                  exec timeout 60 \"$0\" --exact --ignored --nocapture ports_run_out";
    let out = Command::new("unshare")
        .args(["-n", "sh", "-c", script])
        .env("WORKERS", workers::now().to_string())
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    println!("{text}");
    assert!(
        out.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
#[ignore = "only in the network that op_ports_run_out makes"]
fn ports_run_out() {
    let number = std::env::var("WORKERS").ok().and_then(|n| n.parse().ok());
    workers::with(number.unwrap_or(workers::USUAL), without_ports);
}

fn without_ports() {
    let origin = Origin::at("127.0.0.1:19999".parse().unwrap(), "o", Personality::Strict);
    origin.on(
        "/wait",
        [Step::ReadBody, Step::Gate("go".into()), Step::Echo(200)],
    );
    let text = Rig::text(&origin, "", "", "proxy \"u\"");
    // Clients come by another way than the ports that are to run out.
    let text = format!("{text}\nlisten \"unix:@DIR@/clients.sock\"\n");
    let proxy = Proxy::start(&text);
    let place = Place::Unix(proxy.dir().join("clients.sock"));
    let ask = |path: &str| {
        let mut client = Client::to(&place);
        client.send(get(path, ""));
        client
    };
    let waiting: Vec<Client> = (0..8).map(|_| ask("/wait")).collect();
    assert!(eventually(PATIENCE, || {
        origin.seen().len() + refused(&proxy) == waiting.len()
    }));
    assert!(refused(&proxy) >= 4, "there were more than four ports");
    assert_refused(&ask("/").read_response("GET").unwrap(), "out-of-sockets");
    assert_calm(&proxy);
    origin.open("go");
    let over = Instant::now();
    for mut client in waiting {
        let response = client.read_response("GET").unwrap();
        if response.status != 200 {
            assert_refused(&response, "out-of-sockets");
        }
    }
    assert!(eventually(PATIENCE, || {
        ask("/").read_response("GET").is_ok_and(|r| r.status == 200)
    }));
    back_to_normal("ports", over);
    // The origin connects to itself when it ends.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 60000").unwrap();
}

/// A worker that comes to its tasks late refuses the least important first, and the most important never.
#[test]
fn a_late_worker_sheds_by_priority() {
    const BURST: usize = 100;
    let rig = rig(1, "", "shed latency=\"1ms\"");
    let done = AtomicBool::new(false);
    let refused = |path: &str| {
        let response = rig.connect().ask(get(path, ""));
        if response.status != 200 {
            assert_refused(&response, "overload");
        }
        response.status != 200
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let burst = get("/marker", "").repeat(BURST);
                while !done.load(Ordering::SeqCst) {
                    let mut client = rig.connect();
                    client.send(&burst);
                    for _ in 0..BURST {
                        if client.read_response("GET").is_err() {
                            break;
                        }
                    }
                }
            });
        }
        let shed = ["/low", "/"].map(|path| eventually(PATIENCE, || refused(path)));
        let high = (0..20).filter(|_| refused("/high")).count();
        done.store(true, Ordering::SeqCst);
        assert_eq!((shed, high), ([true, true], 0));
    });
    let metrics = rig.proxy.metrics();
    for priority in ["low", "normal"] {
        let none = format!("narthex_shed_total{{priority=\"{priority}\"}} 0\n");
        assert!(metrics.contains(none.trim_end_matches("0\n")) && !metrics.contains(&none));
    }
    assert!(eventually(PATIENCE, || {
        metric(&rig.proxy, "narthex_lateness_seconds") >= 0.001
    }));
    for path in ["/low", "/", "/high"] {
        assert!(
            eventually(PATIENCE, || !refused(path)),
            "{path} is still refused"
        );
    }
}
