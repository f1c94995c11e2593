//! Life of the process: reload under load, refused reloads, graceful stop, the admin socket, the access log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "request bytes are written to be read"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use narthex_e2e::kit::attack::{Client, End};
use narthex_e2e::kit::craft::{get, request, sized};
use narthex_e2e::kit::origin::{Origin, Step, answer, echo};
use narthex_e2e::kit::proxy::{Proxy, say};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};
use serde_json::Value;

narthex_e2e::with_1_2_and_8_workers! {
    reload_keeps_pools,
}

/// Keep-alive clients that ask without pause; counts what they got and what failed.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(proxy: &Proxy, clients: usize) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let addr = proxy.addr();
        let threads = (0..clients)
            .map(|n| {
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || client(addr, n, &stop, &done))
            })
            .collect();
        Self {
            stop,
            done,
            threads,
        }
    }

    /// Waits until this many more requests were answered.
    fn progress(&self, n: usize) {
        let goal = self.done.load(Ordering::Relaxed) + n;
        assert!(
            eventually(PATIENCE, || self.done.load(Ordering::Relaxed) >= goal),
            "the load stands still"
        );
    }

    #[track_caller]
    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let failures: Vec<String> = self
            .threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        assert!(
            failures.is_empty(),
            "{} failed requests: {:?}",
            failures.len(),
            failures.first()
        );
        self.done.load(Ordering::Relaxed)
    }
}

/// A connection is renewed only after the server said that it closes it.
fn client(
    addr: std::net::SocketAddr,
    n: usize,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut c = Client::connect(addr);
    while !stop.load(Ordering::Relaxed) && failures.is_empty() {
        let bytes = if n.is_multiple_of(2) {
            get("/load", "")
        } else {
            sized("/load", "", "body")
        };
        c.send(bytes);
        match c.read_response("GET") {
            Ok(r) if r.status == 200 => {
                done.fetch_add(1, Ordering::Relaxed);
                if r.says_close() {
                    c = Client::connect(addr);
                }
            }
            Ok(r) => failures.push(format!("status {}", r.status)),
            Err(f) => failures.push(f.to_string()),
        }
    }
    failures
}

fn config(origin: &Origin, generation: usize) -> String {
    Rig::text(
        origin,
        "",
        "",
        &format!("header response {{ set \"X-Generation\" \"{generation}\" }}\nproxy \"u\""),
    )
}

/// OP-08: in flight and idle connections alike survive; nothing fails.
#[test]
fn reload_under_load() {
    let origin = Origin::start();
    let proxy = Proxy::start(&config(&origin, 0));
    let load = Load::start(&proxy, 4);
    load.progress(100);
    for generation in 1..=6 {
        if generation % 2 == 0 {
            proxy.hup(&config(&origin, generation));
        } else {
            proxy.reload_ok(&config(&origin, generation));
        }
        let want = Some(generation.to_string());
        assert!(
            eventually(PATIENCE, || proxy
                .connect()
                .ask(get("/load", ""))
                .fields
                .get("x-generation")
                == want),
            "generation {generation}"
        );
        load.progress(50);
    }
    load.finish();
}

/// `narthex reload` returns when the new configuration serves.
#[test]
fn reload_returns_when_it_serves() {
    let origin = Origin::start();
    let proxy = Proxy::start(&config(&origin, 0));
    let mut old = proxy.connect();
    assert_eq!(
        old.ask(get("/", "")).fields.get("x-generation").as_deref(),
        Some("0")
    );
    for generation in 1..=10 {
        proxy.reload_ok(&config(&origin, generation));
        let want = Some(generation.to_string());
        assert_eq!(
            proxy.connect().ask(get("/", "")).fields.get("x-generation"),
            want,
            "a new connection"
        );
        let r = old.ask(get("/", ""));
        assert_eq!(
            r.fields.get("x-generation"),
            want,
            "a kept connection: every request takes its own snapshot"
        );
        if r.says_close() {
            old = proxy.connect();
        }
    }
}

/// What is in flight finishes on the configuration it started with.
#[test]
fn reload_leaves_what_is_in_flight() {
    let origin = Origin::start();
    let block = vec![b'x'; 1 << 16];
    origin.on(
        "/long",
        [
            Step::Send(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 16).into_bytes(),
            ),
            Step::SendMany {
                block: block.clone(),
                times: 32,
            },
            Step::Gate("go".into()),
            Step::SendMany { block, times: 32 },
        ],
    );
    origin.on("/wait", [Step::Gate("go".into()), Step::Echo(200)]);
    let proxy = Proxy::start(&config(&origin, 0));
    let mut download = proxy.connect();
    download.send(get("/long", ""));
    let mut waiting = proxy.connect();
    waiting.send(get("/wait", ""));
    let mut upload = proxy.connect();
    upload.send(request("POST", "/up", "Content-Length: 8\r\n", "some"));
    assert!(origin.wait_heads(3));
    for generation in 1..=3 {
        proxy.reload_ok(&config(&origin, generation));
    }
    origin.open("go");
    upload.send("more");
    let r = download.read_response("GET").unwrap();
    assert_eq!(
        (r.body_len, r.fields.get("x-generation").as_deref()),
        (64 << 16, Some("0"))
    );
    assert_eq!(
        waiting
            .read_response("GET")
            .unwrap()
            .fields
            .get("x-generation")
            .as_deref(),
        Some("0")
    );
    assert_eq!(upload.read_response("POST").unwrap().status, 200);
    assert_eq!(
        origin
            .seen()
            .iter()
            .find(|s| s.target == "/up")
            .unwrap()
            .body,
        b"somemore"
    );
}

/// OP-10: a bad configuration changes nothing and says why.
#[test]
fn bad_reloads_change_nothing() {
    let origin = Origin::start();
    let good = config(&origin, 7);
    let proxy = Proxy::start(&good);
    let load = Load::start(&proxy, 2);
    for bad in [
        "this is not a configuration".to_owned(),
        good.replace("version 1", "version 99"),
        good.replace("proxy \"u\"", "proxy \"nobody\""),
        good.replace("header response", "haeder response"),
        good.replace("server", "srever"),
        format!("{good}\nsite \"*\" {{ proxy \"u\" }}"),
        format!(
            "{good}\nsite \"x.example\" {{ error-page 404 file=\"missing.html\"; proxy \"u\" }}"
        ),
        format!("{good}\nsite \"x.example\" {{ route path-regex=\"(\" {{ proxy \"u\" }} }}"),
        good.replace("workers 2", "workers 0"),
        good.replace("workers 2", "workers 2\nworkers 3"),
        String::new(),
        format!("{good}\nsite \"x.example\" {{"),
        // Taken by this very test's origin.
        format!("{good}\nlisten \"{}\"", origin.place()),
    ] {
        let out = proxy.reload(&bad);
        assert!(!out.status.success(), "accepted: {bad}\n{}", say(&out));
        assert!(
            !out.stderr.is_empty() || !out.stdout.is_empty(),
            "refused in silence: {bad}"
        );
        let r = proxy.connect().ask(get("/", ""));
        assert_eq!(
            (r.status, r.fields.get("x-generation").as_deref()),
            (200, Some("7")),
            "after {bad}"
        );
    }
    proxy.hup("garbage {");
    load.progress(50);
    load.finish();
    proxy.reload_ok(&config(&origin, 8));
    assert_eq!(
        proxy
            .connect()
            .ask(get("/", ""))
            .fields
            .get("x-generation")
            .as_deref(),
        Some("8"),
        "and it can be mended"
    );
}

/// Listeners come and go by reload.
#[test]
fn reload_reconciles_listeners() {
    let origin = Origin::start();
    let one = config(&origin, 0);
    let proxy = Proxy::start(&one);
    let second = format!("{one}\nlisten \"127.0.0.1:@PORT2@\"\n");
    assert!(std::net::TcpStream::connect(proxy.addr2()).is_err());
    proxy.reload_ok(&second);
    let mut kept = Client::connect(proxy.addr2());
    assert_eq!(kept.ask(get("/", "")).status, 200);
    proxy.reload_ok(&one);
    assert!(
        eventually(PATIENCE, || std::net::TcpStream::connect(proxy.addr2())
            .is_err()),
        "a removed listener closes"
    );
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
}

/// Pools survive a reload: no connection is opened anew for it.
fn reload_keeps_pools() {
    let origin = Origin::start();
    let proxy = Proxy::start(&config(&origin, 0));
    let mut c = proxy.connect();
    c.ask(get("/", ""));
    for generation in 1..=5 {
        proxy.reload_ok(&config(&origin, generation));
        c.ask(get("/", ""));
    }
    assert_eq!(origin.conns().len(), 1, "the upstream connection was kept");
}

/// OP-22: SIGTERM lets what is in flight finish, refuses the rest, and ends with 0.
#[test]
fn graceful_stop() {
    let rig = Rig::plain();
    rig.origin
        .on("/wait", [Step::Gate("go".into()), Step::Echo(200)]);
    let Rig { mut proxy, origin } = rig;
    let mut idle = proxy.connect();
    assert_eq!(idle.ask(get("/", "")).status, 200);
    let mut waiting: Vec<Client> = (0..20)
        .map(|_| {
            let mut c = proxy.connect();
            c.send(get("/wait", ""));
            c
        })
        .collect();
    assert!(origin.wait_heads(21));
    proxy.signal(rustix::process::Signal::TERM);
    let addr = proxy.addr();
    assert!(
        eventually(PATIENCE, || std::net::TcpStream::connect(addr).is_err()),
        "no new connections"
    );
    origin.open("go");
    for c in &mut waiting {
        let r = c.read_response("GET").unwrap();
        assert_eq!(r.status, 200);
        assert!(r.says_close(), "a draining proxy says that it closes");
    }
    let (rest, end) = idle.rest();
    assert!(rest.is_empty() && end != End::Open);
    let status = proxy.wait(PATIENCE);
    assert!(status.success(), "{status}");
    proxy.assert_sane();
}

/// Who waits at a passed socket before the process is there is dealt to workers that have only just begun, and is served.
#[test]
fn who_came_before_the_workers_is_served() {
    let text = Proxy::config("", "site \"*\" { respond 204 }")
        .replace("workers 2", "workers 8")
        .replace("127.0.0.1:@PORT@", "fd:web");
    for _ in 0..10 {
        let (proxy, clients) = Proxy::start_with_clients(&text, 120);
        for mut client in clients {
            assert_eq!(client.ask(get("/", "")).status, 204);
        }
        assert_eq!(proxy.status()["workers"], 8);
    }
}

#[test]
fn a_stop_without_work_is_quick_and_clean() {
    let mut rig = Rig::plain();
    rig.alive();
    assert!(rig.proxy.stop().success());
}

/// The drain ends: what does not finish in time is cut.
#[test]
fn the_drain_is_bounded() {
    let origin = Origin::start();
    origin.otherwise([Step::AwaitEnd]);
    let mut proxy = Proxy::start(&format!(
        "{}\nshutdown grace=\"300ms\"\n",
        config(&origin, 0)
    ));
    let mut c = proxy.connect();
    c.send(get("/", ""));
    assert!(origin.wait_heads(1));
    proxy.stop();
    assert_ne!(c.rest().1, End::Open);
}

#[test]
fn liveness_and_readiness() {
    let rig = Rig::of("health live=\"/livez\" ready=\"/readyz\"", "respond 404");
    assert_eq!(rig.connect().ask(get("/livez", "")).status, 200);
    // The socket is open a moment before every core serves.
    assert!(eventually(PATIENCE, || rig
        .connect()
        .ask(get("/readyz", ""))
        .status
        == 200));
    assert_eq!(rig.connect().ask(get("/livez/x", "")).status, 404);
    assert!(rig.origin.seen().is_empty());
}

#[test]
fn admin_endpoints() {
    let rig = Rig::plain();
    rig.connect().ask(get("/counted", ""));
    let get = |path: &str| {
        rig.proxy.admin(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
    };
    let metrics = get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("narthex_"), "{}", metrics.text());
    for path in ["/status", "/upstreams"] {
        let r = get(path);
        assert_eq!(r.status, 200, "{path}");
        let _: Value =
            serde_json::from_slice(&r.body).unwrap_or_else(|e| panic!("{path}: {e}: {}", r.text()));
    }
    assert!(get("/config").text().contains("site"));
    assert_eq!(get("/health/live").status, 200);
    assert_eq!(get("/nonsense").status, 404);
    // The public listener never reaches it (AC-12).
    for path in ["/metrics", "/status", "/reload", "/config"] {
        let r = rig
            .connect()
            .ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!(
            r.text().starts_with("GET /"),
            "{path} was answered by the origin: {}",
            r.text()
        );
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(rig.proxy.dir().join("admin.sock"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

/// AC-12: browsers can't be made to command it.
#[test]
fn admin_over_tcp_is_guarded() {
    let origin = Origin::start();
    let proxy = Proxy::start(&format!(
        "{}\nadmin \"127.0.0.1:@PORT2@\"\n",
        config(&origin, 0)
    ));
    let ask = |bytes: &str| Client::connect(proxy.addr2()).ask(bytes).status;
    assert_eq!(ask("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), 200);
    for bytes in [
        "POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
        "POST /stop HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
        "POST /reload HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n",
        "GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n",
    ] {
        let status = ask(bytes);
        assert!((400..500).contains(&status), "{status} for {bytes}");
    }
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
}

/// One record per request, whatever became of it.
#[test]
fn access_log_tells_every_outcome() {
    let rig = Rig::full(
        Origin::start(),
        "",
        "timeout response=\"300ms\"\nretry attempts=0",
        "route path=\"/fixed\" { respond 200 \"hi\" }\nproxy \"u\"",
    );
    rig.origin
        .on("/500", echo(500))
        .on("/bad", answer("garbage\r\n\r\n"))
        .on("/hang", [Step::AwaitEnd])
        .on(
            "/cut",
            [
                Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()),
                Step::Close,
            ],
        );
    let mut expected = Vec::new();
    for (path, status) in [
        ("/ok", 200),
        ("/500", 500),
        ("/bad", 502),
        ("/hang", 504),
        ("/fixed", 200),
    ] {
        let r = rig.connect().ask(get(path, "User-Agent: kit\r\n"));
        assert_eq!(r.status, status, "{path}");
        expected.push((path, u64::from(status), r.fields.get("narthex-reason")));
    }
    let mut c = rig.connect();
    c.send(get("/cut", ""));
    assert!(c.read_response("GET").is_err());
    let mut c = rig.connect();
    c.send("GET /broken HTTP/1.1\r\nHost : a\r\n\r\n");
    let refused = c.read_response("GET").unwrap();
    let records = rig.proxy.access_log_of(7);
    assert_eq!(records.len(), 7, "{records:#?}");
    let of = |path: &str| {
        records
            .iter()
            .find(|r| r["path"] == path)
            .unwrap_or_else(|| panic!("no record of {path}: {records:#?}"))
    };
    for (path, status, reason) in expected {
        let r = of(path);
        assert_eq!(r["status"], status, "{r}");
        assert_eq!(r["client"], "127.0.0.1", "{r}");
        assert_eq!(r["method"], "GET", "{r}");
        assert_eq!(r["user_agent"], "kit", "{r}");
        assert_eq!(
            r["reason"].as_str().unwrap_or_default(),
            reason.unwrap_or_default(),
            "{r}"
        );
        let fault = match status {
            502 | 504 => "origin",
            _ => "none",
        };
        let got = r["fault"].as_str().unwrap_or_default();
        assert!(
            got == fault
                || (fault == "origin" && !got.is_empty() && got != "none" && got != "client"),
            "{path}: fault {got}"
        );
        assert!(r["duration_ms"].is_number(), "{r}");
    }
    assert_eq!(of("/ok")["outcome"], "ok");
    assert_eq!(of("/ok")["upstream"], "u");
    assert_eq!(of("/ok")["attempts"], 1);
    assert_ne!(of("/cut")["outcome"], "ok", "a cut answer is no success");
    let last = records
        .iter()
        .find(|r| r["status"] == u64::from(refused.status) && r["status"] == 400)
        .unwrap();
    assert_eq!(
        last["reason"].as_str(),
        refused.fields.get("narthex-reason").as_deref()
    );
    assert_eq!(last["fault"], "client");
}

/// AC-13: whatever is in a request, its record is one line of valid JSON (the kit parses each).
#[test]
fn access_log_can_not_be_injected() {
    let rig = Rig::plain();
    let mut n = 0;
    for value in [
        "\"quoted\"",
        "back\\slash",
        "{\"status\":200}",
        "a\tb",
        "é",
        "%0d%0a{}",
        "</script>",
        "'; drop",
        "\u{2028}",
        "\u{feff}",
    ] {
        rig.connect().ask(get(
            "/log",
            &format!("User-Agent: {value}\r\nReferer: {value}\r\n"),
        ));
        rig.connect().ask(get(
            &format!(
                "/{}",
                value
                    .replace(|c: char| !c.is_ascii_graphic() || c == '\\', "_")
                    .replace('%', "%25")
            ),
            "",
        ));
        n += 2;
    }
    let bytes: Vec<u8> = (0x80..=0xff).collect();
    rig.connect().ask(
        [
            b"GET /bytes HTTP/1.1\r\nHost: a\r\nUser-Agent: ",
            bytes.as_slice(),
            b"\r\n\r\n",
        ]
        .concat(),
    );
    n += 1;
    for junk in [
        &b"\x1b[31mGET / HTTP/1.1\r\n\r\n"[..],
        b"GET /\x1b]0;x\x07 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"GET /a\"b HTTP/1.1\r\nHost : a\r\n\r\n",
    ] {
        let mut c = rig.connect();
        c.send(junk);
        c.read_all(&[]);
    }
    let records = rig.proxy.access_log_of(n);
    assert!(records.len() >= n, "{} records of {n}", records.len());
    let raw = std::fs::read(rig.proxy.dir().join("access.log")).unwrap();
    assert!(
        raw.iter()
            .all(|b| *b == b'\n' || (*b >= 0x20 && *b != 0x7f)),
        "a control byte in the log"
    );
    assert!(std::str::from_utf8(&raw).is_ok());
}

/// The log is reopened on SIGUSR1, so that it can be rotated.
#[test]
fn access_log_reopens() {
    let rig = Rig::plain();
    rig.connect().ask(get("/before", ""));
    rig.proxy.access_log_of(1);
    let log = rig.proxy.dir().join("access.log");
    std::fs::rename(&log, rig.proxy.dir().join("access.log.1")).unwrap();
    rig.proxy.signal(rustix::process::Signal::USR1);
    let mut asked = 0;
    assert!(
        eventually(PATIENCE, || {
            asked += 1;
            rig.connect().ask(get("/after", ""));
            rig.proxy.access_log().iter().any(|r| r["path"] == "/after")
        }),
        "nothing in the new file after {asked} requests"
    );
}

/// Commands against the running process.
#[test]
fn commands_ask_the_running_process() {
    let rig = Rig::plain();
    let admin = format!("unix:{}", rig.proxy.dir().join("admin.sock").display());
    let out = rig.proxy.command(&["status", "--admin", &admin]);
    assert!(
        out.status.success() && !out.stdout.is_empty(),
        "{}",
        say(&out)
    );
    let out = rig.proxy.command(&["check", "narthex.kdl"]);
    assert!(out.status.success(), "{}", say(&out));
    let out = rig.proxy.command(&["check", "nobody.kdl"]);
    assert_eq!(out.status.code(), Some(2), "{}", say(&out));
    let out = rig
        .proxy
        .command(&["reload", "--admin", "unix:/nonexistent/narthex.sock"]);
    assert_eq!(out.status.code(), Some(2), "{}", say(&out));
}
