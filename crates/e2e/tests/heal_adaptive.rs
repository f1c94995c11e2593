//! The limit that follows what an upstream can take: under overload few are at the origin at once and the origin is busy all
//! the same; at healthy load nothing is refused; both are seen from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a test fails by panicking; metrics that are compared are whole numbers"
)]

use std::time::Duration;

use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::load::{Entry, Load, Outcome, Plan};
use narthex_e2e::kit::origin::{Origin, Step};
use narthex_e2e::kit::proxy::{Proxy, say};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};

/// An origin with so many workers that need so long for a request, behind this.
fn rig(workers: usize, limits: &str, origin_workers: usize, time: Duration) -> Rig {
    let origin = Origin::start();
    origin.otherwise([
        Step::ReadBody,
        Step::Work {
            workers: origin_workers,
            time,
        },
        Step::Echo(200),
    ]);
    // An origin that is slow is no origin that fails.
    let limits = format!("{limits}\neject #false");
    let text = Rig::text(&origin, "connections per-client=0", &limits, "proxy \"u\"");
    let text = text.replace("workers 2", &format!("workers {workers}"));
    let proxy = Proxy::start(&format!("{text}\nconnections per-client=0\n"));
    Rig { proxy, origin }
}

/// The value of a series that begins so.
fn metric(proxy: &Proxy, series: &str) -> f64 {
    let metrics = proxy.metrics();
    let line = metrics.lines().find(|l| l.starts_with(series));
    let value = line.and_then(|l| l.rsplit(' ').next());
    value
        .and_then(|v| v.parse().ok())
        .unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
}

const LIMIT: &str = "narthex_upstream_concurrency_limit{upstream=\"u\"}";

/// Sixteen times as many clients as the origin has workers, each asking again as soon as it is answered. Without the limit all
/// of them are at the origin; with it few are, the others wait for a moment at most, and the origin is never without work.
#[test]
fn under_overload_few_are_at_the_origin() {
    const ORIGIN: usize = 4;
    const CLIENTS: usize = 16 * ORIGIN;
    /// Served requests that are looked at together: two seconds, far more than the limit is lowered for while it is looked
    /// what the best time is.
    const BATCH: usize = 400;
    /// Between two looks at the best pace there may be half a minute, and on a machine that is busy with other things one is spoilt.
    const BATCHES: usize = 60;
    for workers in [1, 2, 8] {
        let rig = rig(
            workers,
            "adaptive-concurrency min=2",
            ORIGIN,
            Duration::from_millis(20),
        );
        // The day begins quietly: what the origin's best time is has been seen.
        for _ in 0..50 {
            rig.alive();
        }
        let load = Load::start(rig.proxy.addr(), Plan::at(0).over(CLIENTS));
        // It has to be found first: it begins far above.
        let found = (0..BATCHES).any(|_| {
            rig.origin.take_crowds();
            let from = load.ended();
            let served = |e: &[Entry]| e[from..].iter().filter(|e| e.is_ok()).count();
            assert!(load.wait_for(6 * PATIENCE, |e| served(e) >= BATCH));
            let mut crowds = rig.origin.take_crowds();
            crowds.sort_unstable();
            let at = |share: usize| crowds[(crowds.len() - 1) * share / 100];
            // And whoever comes finds others there: the origin is not kept from its work.
            at(90) <= CLIENTS / 2 && at(50) >= ORIGIN / 2
        });
        let shown = metric(&rig.proxy, LIMIT);
        let tally = load.stop();
        assert!(
            found,
            "{workers} workers, the limit is {shown}: {}",
            tally.brief()
        );
        assert!(!tally.failed().is_empty() && shown <= CLIENTS as f64);
        for entry in tally.failed() {
            assert_eq!(
                (entry.outcome, entry.reason.as_deref()),
                (Outcome::Status(503), Some("upstream-overload")),
                "{workers} workers; {}",
                tally.brief()
            );
        }
        assert!(metric(&rig.proxy, "narthex_upstream_waits_total{upstream=\"u\"}") > 0.0);
        // When the load is over every place has come back.
        let used = "narthex_upstream_concurrency_used{upstream=\"u\"}";
        assert!(eventually(PATIENCE, || metric(&rig.proxy, used) == 0.0));
        rig.alive();
    }
}

/// Fewer clients than the origin has workers: all are served, whatever the limit begins with.
#[test]
fn at_healthy_load_nothing_is_refused() {
    for workers in [1, 2, 8] {
        let rig = rig(
            workers,
            "adaptive-concurrency min=1",
            64,
            Duration::from_millis(5),
        );
        let plan = Plan::at(0).over(24).count(1_500);
        let tally = Load::start(rig.proxy.addr(), plan).finish();
        assert_eq!(
            tally.ok(),
            tally.sent(),
            "{workers} workers; {}",
            tally.brief()
        );
    }
}

/// One place: who finds none waits for a moment, and is told when to come back; the command and the metrics show it.
#[test]
fn who_finds_no_room_is_told_and_the_operator_sees_it() {
    for workers in [1, 2, 8] {
        let rig = rig(
            workers,
            "adaptive-concurrency min=1 max=1 wait=\"100ms\"",
            1,
            Duration::ZERO,
        );
        rig.origin.on(
            "/wait",
            [Step::ReadBody, Step::Gate("go".into()), Step::Echo(200)],
        );
        let mut first = rig.connect();
        first.send(get("/wait", ""));
        assert!(rig.origin.wait_heads(1));
        let refused = rig.connect().ask(get("/", ""));
        let field = |name| refused.fields.get(name);
        assert_eq!(
            (refused.status, field("narthex-reason").as_deref()),
            (503, Some("upstream-overload"))
        );
        assert!(field("retry-after").is_some());
        let admin = rig.proxy.fill_in("unix:@ADMIN@");
        let out = rig
            .proxy
            .command(&["upstream", "list", "u", "--admin", &admin]);
        assert!(
            String::from_utf8_lossy(&out.stdout).starts_with("u: 1 of 1 requests under way"),
            "{}",
            say(&out)
        );
        for (series, value) in [
            (LIMIT, 1.0),
            ("narthex_upstream_concurrency_used{upstream=\"u\"}", 1.0),
            ("narthex_upstream_waiting{upstream=\"u\"}", 0.0),
            ("narthex_upstream_waits_total{upstream=\"u\"}", 1.0),
            ("narthex_upstream_queue_timeouts_total{upstream=\"u\"}", 1.0),
            ("narthex_upstream_queue_full_total{upstream=\"u\"}", 0.0),
        ] {
            assert_eq!(metric(&rig.proxy, series), value, "{series}");
        }
        assert!(
            metric(
                &rig.proxy,
                "narthex_upstream_wait_seconds_total{upstream=\"u\"}"
            ) >= 0.09
        );
        rig.origin.open("go");
        assert_eq!(first.read_response("GET").unwrap().status, 200);
        let served = || rig.connect().ask(get("/", "")).status == 200;
        assert!(eventually(PATIENCE, served));
    }
}

/// What has begun to answer holds no place: downloads and streams do not fill the limit up.
#[test]
fn an_answer_that_goes_on_holds_no_place() {
    for (limits, places) in [
        ("adaptive-concurrency min=1 max=1", 0.0),
        ("adaptive-concurrency min=1 max=1\nrequests total=5", 1.0),
    ] {
        let rig = rig(2, limits, 1, Duration::ZERO);
        rig.origin.on(
            "/stream",
            [
                Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab".to_vec()),
                Step::Gate("go".into()),
                Step::Send(b"cd".to_vec()),
            ],
        );
        let mut stream = rig.connect();
        stream.send(get("/stream", ""));
        assert!(rig.origin.wait_heads(1));
        let used = || {
            metric(
                &rig.proxy,
                "narthex_upstream_concurrency_used{upstream=\"u\"}",
            )
        };
        assert!(eventually(PATIENCE, || used() == places));
        let status = if places == 0.0 { 200 } else { 503 };
        assert!(eventually(PATIENCE, || {
            rig.connect().ask(get("/", "")).status == status
        }));
        rig.origin.open("go");
        assert_eq!(stream.read_response("GET").unwrap().text(), "abcd");
        assert!(eventually(PATIENCE, || used() == 0.0));
    }
}
