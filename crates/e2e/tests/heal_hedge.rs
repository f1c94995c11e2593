//! Hedging: a request that may be sent twice goes to a second server, too, when the first has not begun to answer in time; the
//! first good answer counts, and the other attempt leaves nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use narthex_e2e::kit::attack::{Client, Response};
use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::origin::{Ended, Origin, Personality, Script, Step};
use narthex_e2e::kit::proxy::Proxy;
use narthex_e2e::kit::{Fnv, PATIENCE, eventually};

const WORKERS: [usize; 3] = [1, 2, 8];

/// Every request that is due gets its second attempt.
const FREE: &str = "hedge after=\"50ms\" budget=\"100%\"\nretry attempts=0 budget=\"100%\"";

/// Takes a request and never answers.
fn hang() -> Script {
    [Step::ReadBody, Step::AwaitEnd].into()
}

/// Answers after this.
fn late(ms: u64, step: Step) -> Script {
    [Step::ReadBody, Step::Pause(Duration::from_millis(ms)), step].into()
}

/// Does this when the test says so.
fn told(step: Step) -> Script {
    [Step::ReadBody, Step::Gate("go".into()), step].into()
}

/// Two servers: all requests go to the first, and to the second only what is sent there besides, or instead.
struct Pair {
    proxy: Proxy,
    first: Origin,
    second: Origin,
}

impl Pair {
    #[track_caller]
    fn start(workers: usize, upstream: &str) -> Self {
        let first = Origin::named("first", Personality::Strict);
        let second = Origin::named("second", Personality::Strict);
        let proxy = Proxy::start(&Self::text(&first, &second, workers, upstream));
        Self {
            proxy,
            first,
            second,
        }
    }

    fn text(first: &Origin, second: &Origin, workers: usize, upstream: &str) -> String {
        Proxy::config(
            "",
            &format!(
                "upstream \"u\" {{\n server \"{}\"\n server \"{}\" priority=1\n eject #false\n{upstream}\n}}\n\
                 site \"*\" {{\n route path=\"/whole\" {{ buffer request=\"64KiB\" disk=\"4MiB\" directory=\"@DIR@\"; proxy \"u\" }}\n proxy \"u\"\n}}",
                first.place(),
                second.place()
            ),
        )
        .replace("workers 2", &format!("workers {workers}"))
    }

    fn ask(&self, path: &str) -> Response {
        self.proxy.connect().ask(get(path, ""))
    }

    fn metric(&self, name: &str) -> u64 {
        metric(&self.proxy, name)
    }

    fn hedges(&self, result: &str) -> u64 {
        self.metric(&format!(
            "narthex_hedges_total{{result=\"{result}\",upstream=\"u\"}}"
        ))
    }

    /// Requests that failed by this server's fault.
    fn failures(&self, origin: &Origin) -> u64 {
        self.metric(&format!(
            "narthex_server_failures_total{{server=\"{}\",upstream=\"u\"}}",
            origin.place()
        ))
    }

    #[track_caller]
    fn await_hedge(&self, result: &str) {
        assert!(
            eventually(PATIENCE, || self.hedges(result) == 1),
            "{result}"
        );
    }

    #[track_caller]
    fn await_failure(&self, origin: &Origin) {
        assert!(eventually(PATIENCE, || self.failures(origin) == 1));
    }

    /// Asks, and has both servers asked before it returns.
    #[track_caller]
    fn ask_both(&self) -> Client {
        let mut c = self.proxy.connect();
        c.send(get("/", ""));
        assert!(self.second.wait_heads(1));
        c
    }

    /// Nothing is under way, nobody waits, and every socket that is left is idle.
    #[track_caller]
    fn assert_at_rest(&self) {
        let rest = eventually(PATIENCE, || {
            let text = self.proxy.metrics();
            [&self.first, &self.second].iter().all(|origin| {
                let of = |figure: &str| {
                    let name = format!(
                        "narthex_server_{figure}{{server=\"{}\",upstream=\"u\"}}",
                        origin.place()
                    );
                    figure_of(&text, &name)
                };
                of("requests_in_flight") == Some(0)
                    && of("waiting") == Some(0)
                    && of("connections") == of("idle")
            })
        });
        assert!(rest, "{}", self.proxy.metrics());
    }
}

fn figure_of(metrics: &str, name: &str) -> Option<u64> {
    let line = metrics.lines().find(|l| l.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let text = proxy.metrics();
    figure_of(&text, name).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// Who has answered.
fn by(r: &Response) -> String {
    r.fields.get("x-origin").unwrap_or_default()
}

/// How it ended, and the word for it.
fn fate(r: &Response) -> (u16, Option<String>) {
    (r.status, r.fields.get("narthex-reason"))
}

/// Asks from `threads` connections at once, each one request after the other.
fn ask_all(proxy: &Proxy, threads: usize, each: usize, check: impl Fn(&Response, &str) + Sync) {
    let addr = proxy.addr();
    std::thread::scope(|scope| {
        for t in 0..threads {
            let check = &check;
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                for n in 0..each {
                    let id = format!("{t}-{n}");
                    let r = client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n\r\n"));
                    check(&r, &id);
                }
            });
        }
    });
}

/// A server that hangs costs the wait and nothing else; its connection is closed, and the log and the metrics know.
#[test]
fn the_other_server_answers() {
    for workers in WORKERS {
        let pair = Pair::start(workers, FREE);
        pair.first.otherwise(hang());
        for n in 0..12 {
            let r = pair.ask("/");
            assert_eq!((r.status, by(&r).as_str()), (200, "second"), "{n}");
        }
        assert_eq!(pair.first.take(12).len(), 12);
        assert_eq!(pair.second.take(12).len(), 12);
        for conn in 0..12 {
            let end = pair.first.wait_end(conn);
            assert!(matches!(end, Some(Ended::Fin | Ended::Reset)), "{end:?}");
        }
        assert_eq!(pair.first.conns().len(), 12, "none is used again");
        for line in pair.proxy.access_log_of(12) {
            assert_eq!(line["attempts"], 2, "{line}");
            assert_eq!(line["server"], pair.second.place(), "{line}");
            assert_eq!(line["outcome"], "ok", "{line}");
        }
        assert_eq!((pair.hedges("won"), pair.hedges("lost")), (12, 0));
        assert_eq!(pair.failures(&pair.first), 0, "slow is no failure");
        pair.assert_at_rest();
    }
}

/// In time is in time: nobody else is asked.
#[test]
fn a_server_that_answers_in_time_is_the_only_one() {
    let pair = Pair::start(2, "hedge after=\"2s\" budget=\"100%\"");
    for _ in 0..20 {
        assert_eq!(by(&pair.ask("/")), "first");
    }
    pair.first.otherwise(late(150, Step::Echo(200)));
    assert_eq!(by(&pair.ask("/")), "first");
    assert!(pair.second.seen().is_empty());
    // And its connections are used again.
    assert!(
        pair.first.conns().len() <= 2,
        "{}",
        pair.first.conns().len()
    );
    pair.assert_at_rest();
}

/// What must not be sent twice is not, and what may be is: whatever it is, whole.
#[test]
fn only_what_may_be_sent_twice() {
    let body = "0123456789abcdef".repeat(20_000);
    for (method, path, twice) in [
        ("GET", "/", true),
        ("HEAD", "/", true),
        ("OPTIONS", "/", true),
        ("DELETE", "/", true),
        ("PUT", "/whole", true),
        ("PUT", "/", false),
        ("POST", "/whole", false),
        ("POST", "/", false),
        ("PATCH", "/whole", false),
        ("BREW", "/", false),
    ] {
        let body = if path == "/whole" { body.as_str() } else { "" };
        let body = if method == "PUT" && path == "/" {
            "abc"
        } else {
            body
        };
        let pair = Pair::start(1, FREE);
        pair.first.otherwise(if twice {
            hang()
        } else {
            late(300, Step::Echo(200))
        });
        let fields = match body.len() {
            0 => String::new(),
            n => format!("Content-Length: {n}\r\n"),
        };
        let mut c = pair.proxy.connect();
        c.send(request(method, path, &fields, body));
        let r = c.read_response(method).unwrap();
        assert_eq!(r.status, 200, "{method} {path}");
        let who = if twice { "second" } else { "first" };
        assert_eq!(by(&r), who, "{method} {path}");
        let seen: Vec<_> = [pair.first.seen(), pair.second.seen()].concat();
        assert_eq!(seen.len(), if twice { 2 } else { 1 }, "{method} {path}");
        for s in seen {
            assert_eq!(s.hash, Fnv::of(body.as_bytes()), "{method} {path}");
        }
        // The connection to the client is as good as any.
        let again = c.ask(get("/", ""));
        assert_eq!(again.status, 200, "{method} {path}");
        pair.assert_at_rest();
    }
}

/// An upgrade is one client's conversation with one server.
#[test]
fn an_upgrade_is_never_hedged() {
    let pair = Pair::start(1, FREE);
    pair.first.otherwise(late(300, Step::Echo(200)));
    let r = pair.proxy.connect().ask(get(
        "/",
        "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         Sec-WebSocket-Version: 13\r\n",
    ));
    assert_eq!((r.status, by(&r).as_str()), (200, "first"));
    assert!(pair.second.seen().is_empty());
}

/// However slow everything is, there are not more of them than their share, and one for each worker.
#[test]
fn a_share_of_the_requests() {
    for workers in WORKERS {
        let pair = Pair::start(
            workers,
            "hedge after=\"30ms\" budget=\"5%\"\nretry budget=\"100%\"",
        );
        pair.first.otherwise(late(300, Step::Echo(200)));
        pair.second.otherwise(late(300, Step::Echo(200)));
        ask_all(&pair.proxy, 20, 12, |r, _| assert_eq!(r.status, 200));
        let made = pair.second.seen().len();
        assert!(made >= 1, "{workers} workers: none");
        assert!(made <= workers + 12, "{workers} workers: {made} of 240");
        // One that was answered while its second connected has not been seen there.
        let ended: u64 = ["won", "lost", "failed"]
            .iter()
            .map(|r| pair.hedges(r))
            .sum();
        assert!(
            (made as u64..=workers as u64 + 12).contains(&ended),
            "{ended}"
        );
        assert!(pair.hedges("over-budget") > 0);
        pair.assert_at_rest();
    }
}

/// They are retries, too: where those are used up there are none.
#[test]
fn within_the_budget_of_retries() {
    let pair = Pair::start(
        1,
        "hedge after=\"30ms\" budget=\"100%\"\nretry budget=\"0%\"",
    );
    pair.first.otherwise(late(400, Step::Echo(200)));
    ask_all(&pair.proxy, 20, 3, |r, _| assert_eq!(r.status, 200));
    // Three a second are free, over ten seconds.
    let made = pair.second.seen().len();
    assert!((1..=30).contains(&made), "{made}");
    assert!(pair.hedges("over-budget") > 0);
}

/// A thousand of them leave no permit behind: limits that are just enough for those under way hold to the end, and after.
#[test]
fn nothing_is_left_of_a_thousand() {
    for workers in WORKERS {
        let pair = Pair::start(
            workers,
            &format!("{FREE}\nconnections max=25 queue=50\nrequests max=25 total=50"),
        );
        pair.first.otherwise(hang());
        let block = vec![b'x'; 10_000];
        let mut whole = Fnv::default();
        (0..30).for_each(|_| whole.add(&block));
        pair.second.otherwise([
            Step::ReadBody,
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n".to_vec()),
            Step::SendMany { block, times: 30 },
        ]);
        ask_all(&pair.proxy, 20, 50, |r, id| {
            assert_eq!((r.status, r.hash), (200, whole), "{id}");
        });
        assert_eq!(pair.hedges("won"), 1_000);
        pair.assert_at_rest();
        assert_eq!(
            (pair.first.seen().len(), pair.second.seen().len()),
            (1_000, 1_000)
        );
        // Every loser's connection has ended.
        let ended = |conns: &[narthex_e2e::kit::origin::Conn]| {
            conns.len() == 1_000 && conns.iter().all(|c| c.ended.is_some())
        };
        assert!(pair.first.wait_conns(PATIENCE, ended));
        // As many as before find their places still, wherever a late one is answered.
        pair.first.otherwise(late(20, Step::Echo(200)));
        ask_all(&pair.proxy, 25, 4, |r, id| {
            let mine = r.fields.get("x-id").as_deref() == Some(id);
            assert!(r.status == 200 && (mine || r.hash == whole), "{id}");
        });
        pair.assert_at_rest();
    }
}

/// As long as one of two may still answer well, nothing has failed.
#[test]
fn one_of_two_may_fail() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Le".to_vec();
    let garbage = b"HTTP/1.1 two hundred\r\n\r\n".to_vec();
    let failing: [(&str, Vec<Step>); 4] = [
        ("reset", vec![Step::Reset]),
        ("status", vec![Step::Echo(503)]),
        ("garbage", vec![Step::Send(garbage)]),
        ("half a head", vec![Step::Send(half), Step::Close]),
    ];
    for (what, steps) in failing {
        for first_fails in [true, false] {
            let pair = Pair::start(
                1,
                "hedge after=\"50ms\" budget=\"100%\"\nretry attempts=1 budget=\"100%\" on=\"503\"",
            );
            let (fails, answers) = if first_fails {
                (&pair.first, &pair.second)
            } else {
                (&pair.second, &pair.first)
            };
            let mut script = vec![Step::ReadBody, Step::Gate("go".into())];
            script.extend(steps.clone());
            fails.otherwise(script);
            answers.otherwise(told(Step::Echo(200)));
            let mut c = pair.ask_both();
            fails.open("go");
            pair.await_failure(fails);
            answers.open("go");
            let r = c.read_response("GET").unwrap();
            let who = if first_fails { "second" } else { "first" };
            assert_eq!((r.status, by(&r).as_str()), (200, who), "{what}, {who}");
            assert_eq!((fails.seen().len(), answers.seen().len()), (1, 1));
            let end = if first_fails { "won" } else { "failed" };
            assert_eq!(pair.hedges(end), 1, "{what}, {who}");
            pair.assert_at_rest();
        }
    }
}

/// A first attempt that times out while the second is under way has failed; the second has its own time.
#[test]
fn each_has_its_own_time() {
    let pair = Pair::start(
        1,
        "hedge after=\"600ms\" budget=\"100%\"\nretry attempts=0\ntimeout response=\"800ms\"",
    );
    pair.first.otherwise(hang());
    pair.second.otherwise(told(Step::Echo(200)));
    let mut c = pair.ask_both();
    pair.await_failure(&pair.first);
    pair.second.open("go");
    let r = c.read_response("GET").unwrap();
    assert_eq!((r.status, by(&r).as_str()), (200, "second"));
    assert_eq!(pair.failures(&pair.second), 0);
    pair.assert_at_rest();
}

/// A server that cannot be reached is no reason to give up the one that can.
#[test]
fn a_second_server_that_is_not_there() {
    let pair = Pair::start(1, FREE);
    pair.first.otherwise(told(Step::Echo(200)));
    let Pair {
        proxy,
        first,
        second,
    } = pair;
    second.kill();
    let mut c = proxy.connect();
    c.send(get("/", ""));
    let failed = "narthex_hedges_total{result=\"failed\",upstream=\"u\"}";
    assert!(eventually(PATIENCE, || metric(&proxy, failed) == 1));
    first.open("go");
    let r = c.read_response("GET").unwrap();
    assert_eq!((r.status, by(&r).as_str()), (200, "first"));
}

/// When both have failed the client is told how the last one did.
#[test]
fn both_may_fail() {
    let reset = || told(Step::Reset);
    let cases = [
        ("reset", reset(), reset(), 502, "origin-closed"),
        ("silent", hang(), hang(), 504, "response-timeout"),
        ("silent, reset", hang(), reset(), 504, "response-timeout"),
        ("reset, silent", reset(), hang(), 504, "response-timeout"),
    ];
    for (what, first, second, status, word) in cases {
        for other_way in [false, true] {
            let pair = Pair::start(1, &format!("{FREE}\ntimeout response=\"2s\""));
            pair.first.otherwise(first.clone());
            pair.second.otherwise(second.clone());
            let mut c = pair.ask_both();
            let (one, two) = if other_way {
                (&pair.second, &pair.first)
            } else {
                (&pair.first, &pair.second)
            };
            one.open("go");
            if what == "reset" {
                pair.await_failure(one);
            }
            two.open("go");
            let r = c.read_response("GET").unwrap();
            assert_eq!(fate(&r), (status, Some(word.into())), "{what}");
            let line = &pair.proxy.access_log_of(1)[0];
            assert_eq!(
                (&line["attempts"], &line["reason"]),
                (&2.into(), &word.into())
            );
            assert_eq!((pair.failures(one), pair.failures(two)), (1, 1), "{what}");
            pair.assert_at_rest();
        }
    }
}

/// A page that would be tried again is passed on when there is nobody left to do better.
#[test]
fn the_last_answer_is_an_answer() {
    let pair = Pair::start(
        1,
        "hedge after=\"50ms\" budget=\"100%\"\nretry attempts=0 budget=\"100%\" on=\"503\"",
    );
    pair.first.otherwise(told(Step::Echo(503)));
    pair.second.otherwise(told(Step::Echo(503)));
    let mut c = pair.ask_both();
    pair.first.open("go");
    pair.await_failure(&pair.first);
    pair.second.open("go");
    let r = c.read_response("GET").unwrap();
    assert_eq!((r.status, by(&r).as_str()), (503, "second"));
}

/// All attempts together have an end, hedged or not; blamed is who had the time.
#[test]
fn the_time_for_all_is_kept() {
    let pair = Pair::start(
        1,
        "hedge after=\"100ms\" budget=\"100%\"\nretry budget=\"100%\" within=\"400ms\"",
    );
    pair.first.otherwise(hang());
    pair.second.otherwise(hang());
    let begun = Instant::now();
    assert_eq!(fate(&pair.ask("/")), (504, Some("response-timeout".into())));
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(
        (pair.failures(&pair.first), pair.failures(&pair.second)),
        (1, 0)
    );
    pair.assert_at_rest();
}

/// A server that has said anything has begun to answer; and interim answers of a second server arrive, in order.
#[test]
fn interim_answers() {
    let hints = || Step::Send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec());
    let pair = Pair::start(1, "hedge after=\"400ms\" budget=\"100%\"");
    pair.first.otherwise([
        Step::ReadBody,
        hints(),
        Step::Pause(Duration::from_millis(700)),
        Step::Echo(200),
    ]);
    let r = pair.ask("/");
    assert_eq!((r.status, by(&r).as_str()), (200, "first"));
    assert_eq!(r.interim.len(), 1);
    assert!(pair.second.seen().is_empty());

    pair.first.otherwise(hang());
    pair.second.otherwise([
        Step::ReadBody,
        hints(),
        Step::Pause(Duration::from_millis(50)),
        hints(),
        Step::Echo(200),
    ]);
    let r = pair.ask("/");
    assert_eq!((r.status, by(&r).as_str()), (200, "second"));
    assert_eq!(r.interim.len(), 2);
    pair.assert_at_rest();
}

/// Heads that come in pieces are waited for, and the one that is whole first counts.
#[test]
fn heads_in_pieces() {
    let slow = |gap| {
        told(Step::SendSlow {
            bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
            piece: 6,
            gap: Duration::from_millis(gap),
        })
    };
    for (first, second, won) in [(slow(300), slow(5), true), (slow(5), hang(), false)] {
        let pair = Pair::start(1, FREE);
        pair.first.otherwise(first);
        pair.second.otherwise(second);
        let mut c = pair.ask_both();
        pair.first.open("go");
        pair.second.open("go");
        let r = c.read_response("GET").unwrap();
        assert_eq!((r.status, r.text().as_str()), (200, "abc"));
        let (lost, end) = if won {
            (&pair.first, "won")
        } else {
            (&pair.second, "lost")
        };
        assert!(lost.wait_end(0).is_some());
        assert_eq!(pair.hedges(end), 1);
        pair.assert_at_rest();
    }
}

/// A client that leaves takes both with it.
#[test]
fn a_client_that_leaves() {
    let pair = Pair::start(2, FREE);
    pair.first.otherwise(hang());
    pair.second.otherwise(hang());
    let mut c = pair.ask_both();
    c.reset();
    assert!(pair.first.wait_end(0).is_some());
    assert!(pair.second.wait_end(0).is_some());
    pair.assert_at_rest();
    assert_eq!(pair.hedges("abandoned"), 1);
}

/// A second attempt that waits for a connection leaves the queue when the first is answered.
#[test]
fn the_queue_is_left() {
    let pair = Pair::start(
        1,
        "hedge after=\"50ms\" budget=\"100%\"\nretry budget=\"100%\"\nconnections max=1 queue-timeout=\"20s\"",
    );
    pair.first.on("/hold", [Step::ReadBody, Step::Reset]);
    pair.second.on("/hold", told(Step::Echo(200)));
    pair.first
        .otherwise([Step::ReadBody, Step::Gate("answer".into()), Step::Echo(200)]);
    let mut hold = pair.proxy.connect();
    hold.send(get("/hold", ""));
    assert!(pair.second.wait_heads(1));
    let mut c = pair.proxy.connect();
    c.send(get("/", ""));
    let waiting = format!(
        "narthex_server_waiting{{server=\"{}\",upstream=\"u\"}}",
        pair.second.place()
    );
    assert!(eventually(PATIENCE, || pair.metric(&waiting) == 1));
    pair.first.open("answer");
    assert_eq!(by(&c.read_response("GET").unwrap()), "first");
    assert!(eventually(PATIENCE, || pair.metric(&waiting) == 0));
    assert_eq!(pair.hedges("lost"), 1);
    pair.second.open("go");
    assert_eq!(by(&hold.read_response("GET").unwrap()), "second");
    assert_eq!(pair.second.seen().len(), 1);
    pair.assert_at_rest();
}

/// With nobody to ask the first is waited for.
#[test]
fn nobody_else_is_there() {
    let pair = Pair::start(1, FREE);
    pair.first.otherwise(told(Step::Echo(200)));
    let text =
        Pair::text(&pair.first, &pair.second, 1, FREE).replace("priority=1", "state=\"down\"");
    pair.proxy.reload_ok(&text);
    let mut c = pair.proxy.connect();
    c.send(get("/", ""));
    pair.await_hedge("no-server");
    pair.first.open("go");
    assert_eq!(by(&c.read_response("GET").unwrap()), "first");
    assert!(pair.second.seen().is_empty());
}

/// The cookie is that of who has answered; and a client that has one stays where it is, however slow that is.
#[test]
fn cookies() {
    let pair = Pair::start(1, "hedge after=\"400ms\" budget=\"100%\"\nsticky \"s\"");
    pair.first.next(hang());
    let r = pair.ask("/");
    assert_eq!(by(&r), "second");
    let cookie = |r: &Response| {
        let set = r.fields.get("set-cookie").unwrap();
        set.split(';').next().unwrap().to_owned()
    };
    let of_second = cookie(&r);
    let of_first = cookie(&pair.ask("/"));
    assert_ne!(of_first, of_second);
    pair.first.otherwise(late(700, Step::Echo(200)));
    pair.second.otherwise(late(700, Step::Echo(200)));
    for (cookie, who) in [(of_second, "second"), (of_first, "first")] {
        let r = pair
            .proxy
            .connect()
            .ask(get("/", &format!("Cookie: {cookie}\r\n")));
        assert_eq!(by(&r), who);
        assert_eq!(r.fields.get("set-cookie"), None);
    }
    assert_eq!(pair.hedges("won"), 1);
}

/// A new configuration while two are under way, without hedging and without the second server: both go on.
#[test]
fn a_reload_in_the_middle() {
    for who in ["first", "second"] {
        let pair = Pair::start(2, FREE);
        pair.first.otherwise(told(Step::Echo(200)));
        pair.second.otherwise(told(Step::Echo(200)));
        let mut c = pair.ask_both();
        let text = Pair::text(&pair.first, &pair.second, 2, "").replace(
            &format!("server \"{}\" priority=1", pair.second.place()),
            "",
        );
        pair.proxy.reload_ok(&text);
        let (answers, other) = match who {
            "first" => (&pair.first, &pair.second),
            _ => (&pair.second, &pair.first),
        };
        answers.open("go");
        let r = c.read_response("GET").unwrap();
        assert_eq!((r.status, by(&r).as_str()), (200, who));
        // It looks up, and nobody is there any more.
        other.open("go");
        assert!(other.wait_end(0).is_some());
    }
}

/// A stop waits for the two as for any request.
#[test]
fn a_stop_in_the_middle() {
    let mut pair = Pair::start(1, FREE);
    pair.first.otherwise(hang());
    pair.second.otherwise(told(Step::Echo(200)));
    let mut c = pair.ask_both();
    pair.proxy.signal(rustix::process::Signal::TERM);
    assert!(
        eventually(PATIENCE, || std::net::TcpStream::connect(pair.proxy.addr())
            .is_err()),
        "it stops accepting"
    );
    pair.second.open("go");
    let r = c.read_response("GET").unwrap();
    assert_eq!((r.status, r.says_close()), (200, true));
    assert!(pair.proxy.wait(PATIENCE).success());
}

/// A kept connection of the second server that dies as it is used is nobody's failure: the first is waited for.
#[test]
fn the_race_of_a_kept_connection() {
    let pair = Pair::start(1, FREE);
    // The first hangs once, so that a connection to the second is kept.
    pair.first.next(hang());
    assert_eq!(by(&pair.ask("/")), "second");
    pair.first.otherwise(told(Step::Echo(200)));
    pair.second.otherwise([Step::ReadBody, Step::Close]);
    let mut c = pair.proxy.connect();
    c.send(get("/", ""));
    pair.await_hedge("failed");
    pair.first.open("go");
    assert_eq!(by(&c.read_response("GET").unwrap()), "first");
    assert_eq!(pair.second.conns().len(), 1);
    assert_eq!(pair.failures(&pair.second), 0);
    pair.assert_at_rest();
}

/// Each of the two connections says first for whom it is.
#[test]
fn proxy_headers() {
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, second) = (listen(), listen());
    let proxy = Proxy::start(&Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n server \"{}\"\n server \"{}\" priority=1\n proxy-protocol 1\n{FREE}\n}}\n\
             site \"*\" {{ proxy \"u\" }}",
            first.local_addr().unwrap(),
            second.local_addr().unwrap()
        ),
    ));
    let taken = |listener: &TcpListener| {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let lines: Vec<String> = lines
            .map(Result::unwrap)
            .take_while(|l| !l.is_empty())
            .collect();
        (stream, lines)
    };
    let mut c = proxy.connect();
    let port = c.local().port();
    c.send(get("/", ""));
    let (mut silent, asked) = taken(&first);
    let (mut answers, besides) = taken(&second);
    for lines in [&asked, &besides] {
        let header = format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}",
            proxy.addr().port()
        );
        assert_eq!((&lines[0], lines[1].as_str()), (&header, "GET / HTTP/1.1"));
    }
    answers
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        .unwrap();
    assert_eq!(c.read_response("GET").unwrap().text(), "hi");
    // Neither is used again.
    for stream in [&mut silent, &mut answers] {
        let mut end = Vec::new();
        let _ = stream.read_to_end(&mut end);
        assert!(end.is_empty());
    }
}
