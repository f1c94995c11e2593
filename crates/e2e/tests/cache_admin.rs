//! The cache in an operator's hands: purges of every kind, also of what is still being fetched and under load; what is stored and
//! why something is no hit; takedowns; the method `PURGE`; counters, access log and audit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use narthex_e2e::kit::attack::Response;
use narthex_e2e::kit::craft::{get, request};
use narthex_e2e::kit::origin::{Step, answer};
use narthex_e2e::kit::proxy::say;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::{PATIENCE, eventually};
use serde_json::{Value, json};

narthex_e2e::with_1_2_and_8_workers! {
    nothing_purged_is_served_after_the_acknowledgement,
    a_takedown_is_for_every_core_and_survives_reloads,
    counters_and_the_log_say_what_happened,
}

const FRESH: &str = "Cache-Control: max-age=100\r\n";
const RULE: &str = "cache\nproxy \"u\"";

fn rig(site: &str) -> Rig {
    Rig::of("connections per-client=0", site)
}

fn stored(fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{fields}\r\n{body}").into_bytes()
}

#[track_caller]
fn ask(rig: &Rig, path: &str) -> Response {
    rig.connect().ask(get(path, ""))
}

/// How it was answered, by `Cache-Status`.
#[track_caller]
fn is_hit(r: &Response) -> bool {
    let status = r.fields.get("cache-status").expect("Cache-Status");
    status.contains("; hit") || status.contains("collapsed")
}

#[track_caller]
fn admin(rig: &Rig, method: &str, path: &str, body: &str) -> (u16, Value) {
    let r = rig.proxy.admin(&format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let value = serde_json::from_slice(&r.body).unwrap_or_else(|e| panic!("{e}: {}", r.text()));
    (r.status, value)
}

#[track_caller]
fn purge(rig: &Rig, what: &Value) {
    let (status, said) = admin(rig, "POST", "/cache/purge", &what.to_string());
    assert_eq!(status, 200, "{what}: {said}");
}

/// Runs `narthex cache`: its exit code and what it printed.
#[track_caller]
fn narthex(rig: &Rig, args: &[&str]) -> (i32, String) {
    let at = rig.proxy.fill_in("unix:@ADMIN@");
    let out = rig
        .proxy
        .command(&[&["cache"], args, &["--admin", &at]].concat());
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let code = out.status.code().unwrap_or_else(|| panic!("{}", say(&out)));
    (code, text + &String::from_utf8_lossy(&out.stderr))
}

fn metric(rig: &Rig, series: &str) -> u64 {
    let metrics = rig.proxy.metrics();
    let line = metrics.lines().find(|l| l.starts_with(series));
    line.and_then(|l| l.rsplit(' ').next())
        .and_then(|v| v.parse().ok())
        .unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
}

/// Every kind of purge that covers `http://a/k/x` with the tag `red`.
fn kinds() -> [Value; 5] {
    [
        json!({ "url": "http://a/k/x" }),
        json!({ "prefix": "http://a/k/" }),
        json!({ "host": "A" }),
        json!({ "tag": "red" }),
        json!({ "everything": true }),
    ]
}

const RED: &str = "Cache-Control: max-age=100\r\nSurrogate-Key: blue red\r\n";

#[test]
fn each_kind_of_purge_takes_what_it_names_and_no_more() {
    let rig = rig(RULE);
    rig.origin.on("/other", answer(stored(FRESH, "other")));
    rig.origin.on("/k/x", answer(stored(RED, "x")));
    for what in kinds() {
        ask(&rig, "/k/x");
        ask(&rig, "/other");
        assert!(is_hit(&ask(&rig, "/k/x")) && is_hit(&ask(&rig, "/other")));
        purge(&rig, &what);
        assert!(!is_hit(&ask(&rig, "/k/x")), "{what}");
        let spared =
            what.get("url").is_some() || what.get("prefix").is_some() || what.get("tag").is_some();
        assert_eq!(is_hit(&ask(&rig, "/other")), spared, "{what}");
    }
    // Of a path, whatever the query; written in another way it is the same path.
    ask(&rig, "/k/x?a=1");
    assert!(is_hit(&ask(&rig, "/k/x?a=1")));
    purge(&rig, &json!({ "url": "https://A:444/k/%78?b=2" }));
    assert!(!is_hit(&ask(&rig, "/k/x?a=1")));
    // What covers nothing is no failure.
    purge(&rig, &json!({ "tag": "green" }));
    purge(&rig, &json!({ "host": "b" }));
    assert!(is_hit(&ask(&rig, "/k/x?a=1")));
}

/// What is being fetched when it is purged reaches who asked for it, and nobody else: before its head and inside its body.
#[test]
fn what_fills_is_purged_too() {
    let rig = rig(RULE);
    for (n, what) in kinds().into_iter().enumerate() {
        for in_body in [true, false] {
            let gate = format!("g{n}{in_body}");
            let (first, rest) = if in_body {
                (&b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=100\r\nSurrogate-Key: red\r\n\r\nhalf"[..], &b"rest"[..])
            } else {
                (&b""[..], &b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=100\r\nSurrogate-Key: red\r\n\r\nhalfrest"[..])
            };
            rig.origin.on("/k/x", answer(stored(RED, "new")));
            rig.origin.next([
                Step::ReadBody,
                Step::Send(first.to_vec()),
                Step::Reached(format!("at{gate}")),
                Step::Gate(gate.clone()),
                Step::Send(rest.to_vec()),
            ]);
            purge(&rig, &json!({ "everything": true }));
            let mut slow = rig.connect();
            assert!(slow.send(get("/k/x", "")));
            assert!(rig.origin.wait_gate(&format!("at{gate}")));
            if in_body {
                slow.read_past(b"half");
            }
            purge(&rig, &what);
            let r = ask(&rig, "/k/x");
            assert_eq!((r.text().as_str(), is_hit(&r)), ("new", false), "{what}");
            rig.origin.open(&gate);
            if in_body {
                assert_eq!(slow.read_exactly(4), b"rest");
            } else {
                assert_eq!(slow.read_response("GET").unwrap().text(), "halfrest");
            }
            let r = ask(&rig, "/k/x");
            assert_eq!((r.text().as_str(), is_hit(&r)), ("new", true), "{what}");
        }
    }
}

#[test]
fn a_soft_purge_makes_stale_and_serves_on() {
    let rig = rig(RULE);
    let swr = "Cache-Control: max-age=100, stale-while-revalidate=100\r\nSurrogate-Key: red\r\n";
    for (n, mut what) in kinds().into_iter().enumerate() {
        purge(&rig, &json!({ "everything": true }));
        rig.origin.on("/k/x", answer(stored(swr, "old")));
        ask(&rig, "/k/x");
        rig.origin.take(1);
        let gate = format!("new{n}");
        rig.origin.on(
            "/k/x",
            [
                Step::ReadBody,
                Step::Gate(gate.clone()),
                Step::Send(stored(swr, "new")),
            ],
        );
        what["soft"] = json!(true);
        purge(&rig, &what);
        for _ in 0..3 {
            let r = ask(&rig, "/k/x");
            assert_eq!((r.text().as_str(), is_hit(&r)), ("old", true), "{what}");
        }
        assert!(rig.origin.wait_heads(1));
        rig.origin.open(&gate);
        assert!(eventually(PATIENCE, || ask(&rig, "/k/x").text() == "new"));
        assert_eq!(rig.origin.take(1).len(), 1, "{what}");
    }
    // Without that leave the origin is asked with what it said of it.
    rig.origin.on(
        "/e",
        answer(stored("Cache-Control: max-age=100\r\nETag: \"v\"\r\n", "e")),
    );
    ask(&rig, "/e");
    purge(&rig, &json!({ "url": "http://a/e", "soft": true }));
    let (_, why) = admin(
        &rig,
        "POST",
        "/cache/look",
        r#"{"method":"GET","url":"http://a/e"}"#,
    );
    assert_eq!(why["details"]["word"], "purged", "{why}");
    rig.origin.take(1);
    rig.origin.on(
        "/e",
        answer("HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n\r\n"),
    );
    assert_eq!(ask(&rig, "/e").text(), "e");
    assert_eq!(rig.one().header("if-none-match").as_deref(), Some("\"v\""));
}

fn nothing_purged_is_served_after_the_acknowledgement() {
    let rig = rig(RULE);
    let floor = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    rig.origin.on("/k/x", answer(stored(RED, "0")));
    std::thread::scope(|scope| {
        let load = || {
            let mut client = rig.connect();
            while !over.load(Ordering::SeqCst) {
                let least = floor.load(Ordering::SeqCst);
                let r = client.ask(get("/k/x", ""));
                let body: usize = r.text().parse().unwrap();
                if body < least {
                    over.store(true, Ordering::SeqCst);
                    panic!("{body} is served after the purge of what was before {least}");
                }
                served.fetch_add(1, Ordering::SeqCst);
            }
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        for round in 1..=40 {
            let what = &kinds()[round % 5];
            rig.origin
                .on("/k/x", answer(stored(RED, &round.to_string())));
            purge(&rig, what);
            floor.store(round, Ordering::SeqCst);
            let seen = served.load(Ordering::SeqCst);
            assert!(eventually(PATIENCE, || {
                served.load(Ordering::SeqCst) > seen + 8 || over.load(Ordering::SeqCst)
            }));
        }
        over.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert!(metric(&rig, "narthex_cache_purges_total") >= 40);
    // The sweeper has been everywhere: no record is left.
    assert!(eventually(PATIENCE, || metric(
        &rig,
        "narthex_cache_purge_records"
    ) == 0));
}

fn a_takedown_is_for_every_core_and_survives_reloads() {
    let text = "cache\nroute path=\"/plain/*\" { cache #false; proxy \"u\" }\nproxy \"u\"";
    let rig = rig(text);
    rig.origin.otherwise(answer(stored(FRESH, "x")));
    assert_eq!(ask(&rig, "/p/1").status, 200);
    let blocked = |path: &str, status: u16| {
        for _ in 0..10 {
            let r = ask(&rig, path);
            assert_eq!(r.status, status, "{path}");
            assert!(status == 200 || !r.text().contains("order"), "{}", r.text());
        }
    };
    let (code, said) = narthex(&rig, &["block", "http://a/p/1", "--reason", "order 12"]);
    assert_eq!(code, 0, "{said}");
    blocked("/p/1", 451);
    blocked("/p/1?q=1", 451);
    blocked("/p/%31", 451);
    blocked("/p/10", 200);
    // On a route without a cache, too, for everything that begins so.
    let (code, said) = narthex(
        &rig,
        &[
            "block",
            "--prefix",
            "http://a/plain/",
            "--status",
            "410",
            "--reason",
            "gone",
            "--for",
            "1h",
        ],
    );
    assert_eq!(code, 0, "{said}");
    blocked("/plain/a", 410);
    blocked("/plainer", 200);
    let (_, why) = admin(
        &rig,
        "POST",
        "/cache/look",
        r#"{"method":"GET","url":"http://a/p/1"}"#,
    );
    assert_eq!(why["details"]["word"], "blocked", "{why}");
    let (code, list) = narthex(&rig, &["blocks"]);
    assert_eq!(code, 0);
    assert!(
        list.contains("a/p/1  451  until it is taken back: order 12"),
        "{list}"
    );
    assert!(list.contains("a/plain/...  410  until 1"), "{list}");
    rig.proxy.reload_ok(&Rig::text(
        &rig.origin,
        "connections per-client=0",
        "",
        text,
    ));
    blocked("/p/1", 451);
    assert_eq!(narthex(&rig, &["unblock", "http://a/p/1"]).0, 0);
    blocked("/p/1", 200);
    let (code, said) = narthex(&rig, &["unblock", "http://a/p/1"]);
    assert_eq!(code, 1);
    assert!(said.contains("is not blocked"), "{said}");
    // One that ends by itself.
    let short = json!({ "url": "http://a/p/2", "reason": "r", "for": "300ms" });
    assert_eq!(
        admin(&rig, "POST", "/cache/blocks", &short.to_string()).0,
        200
    );
    assert!(eventually(PATIENCE, || ask(&rig, "/p/2").status == 200));
    for wrong in [
        json!({ "url": "http://a/p", "reason": "r", "status": 404 }),
        json!({ "url": "http://a/p", "reason": " " }),
        json!({ "url": "a/p", "reason": "r" }),
        json!({ "reason": "r" }),
        json!({ "url": "http://a/p", "prefix": "http://a/", "reason": "r" }),
        json!({ "url": "http://a/p", "reason": "r", "for": "soon" }),
    ] {
        assert_eq!(
            admin(&rig, "POST", "/cache/blocks", &wrong.to_string()).0,
            422,
            "{wrong}"
        );
    }
}

fn counters_and_the_log_say_what_happened() {
    let rig = rig(RULE);
    rig.origin.on("/a", answer(stored(FRESH, "12345")));
    rig.origin
        .on("/n", answer(stored("Cache-Control: no-store\r\n", "no")));
    for _ in 0..3 {
        ask(&rig, "/a");
    }
    ask(&rig, "/n");
    rig.connect()
        .ask(get("/z", "Cache-Control: only-if-cached\r\n"));
    let log = rig.proxy.access_log_of(5);
    let words: Vec<&str> = log.iter().map(|r| r["cache"].as_str().unwrap()).collect();
    let mut sorted = words.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        ["hit", "hit", "miss", "not-cached", "pass"],
        "{words:?}"
    );
    let metrics = rig.proxy.metrics();
    let outcome = |outcome: &str| {
        let line = metrics.lines().find(|l| {
            l.starts_with("narthex_cache_requests_total{")
                && l.contains(&format!("outcome=\"{outcome}\""))
        });
        line.and_then(|l| l.rsplit(' ').next()).map(str::to_owned)
    };
    assert_eq!(outcome("hit").as_deref(), Some("2"));
    assert_eq!(outcome("miss").as_deref(), Some("1"));
    assert_eq!(outcome("pass").as_deref(), Some("1"));
    assert_eq!(outcome("not-cached").as_deref(), Some("1"));
    let bytes = |source: &str| {
        let line = metrics.lines().find(|l| {
            l.starts_with("narthex_cache_body_bytes_total{")
                && l.contains(&format!("source=\"{source}\""))
        });
        line.and_then(|l| l.rsplit(' ').next()).map(str::to_owned)
    };
    assert_eq!(bytes("cache").as_deref(), Some("10"));
    assert!(
        metrics.contains("narthex_cache_not_stored_total{reason=\"no-store\"} 1"),
        "{metrics}"
    );
    assert_eq!(metric(&rig, "narthex_cache_objects"), 1);
    let (status, stats) = admin(&rig, "GET", "/cache", "");
    assert_eq!(status, 200);
    assert_eq!(
        (&stats["objects"], &stats["stored"]),
        (&json!(1), &json!(1)),
        "{stats}"
    );
    assert_eq!(stats["hits"], 2, "{stats}");
    let (code, text) = narthex(&rig, &["stats"]);
    assert_eq!(code, 0);
    assert!(text.contains("objects    1\n"), "{text}");
    // The origin is gone: no answer.
    rig.origin.on("/gone", [Step::ReadBody, Step::Reset]);
    assert_eq!(ask(&rig, "/gone").status, 502);
    let log = rig.proxy.access_log_of(6);
    assert_eq!(log.last().unwrap()["cache"], "no-answer");
}

#[test]
fn routes_without_a_cache_say_nothing_of_one() {
    let rig = rig("proxy \"u\"");
    ask(&rig, "/a");
    assert_eq!(rig.proxy.access_log_of(1)[0]["cache"], "");
    assert!(!rig.proxy.metrics().contains("narthex_cache_requests_total"));
    let (code, said) = narthex(&rig, &["why", "http://a/a"]);
    assert_eq!(code, 1);
    assert!(said.contains("has no `cache`"), "{said}");
}

/// One sentence for each, by the data path's own router, key and policy; looking changes nothing.
#[test]
fn why_says_what_would_make_it_a_hit() {
    let rig = rig("route path=\"/fixed\" { respond 200 \"x\" }\n\
         cache { bypass { cookie \"session\" present=#true }; key { query except=\"utm\" } }\nproxy \"u\"");
    rig.origin.on(
        "/a",
        answer(stored(
            "Cache-Control: max-age=100\r\nETag: \"v1\"\r\nVary: Accept-Language\r\nSurrogate-Key: red\r\n",
            "body",
        )),
    );
    rig.origin.on(
        "/private",
        answer(stored("Cache-Control: private\r\n", "p")),
    );
    rig.origin.on(
        "/stale",
        answer(stored("Cache-Control: max-age=0\r\nETag: \"a\"\r\n", "s")),
    );
    for path in ["/a", "/private", "/stale"] {
        ask(&rig, path);
    }
    let before = admin(&rig, "GET", "/cache", "").1;
    let word = |args: &[&str]| {
        let (code, text) = narthex(&rig, &[&["why", "--json"], args].concat());
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let details = &value["details"];
        assert_eq!(code, i32::from(details["hit"] != true), "{text}");
        assert!(
            details["sentence"].as_str().unwrap().ends_with('.'),
            "{text}"
        );
        details["word"].as_str().unwrap().to_owned()
    };
    for (args, expected) in [
        (&["http://a/a"][..], "hit"),
        (&["http://a/a?utm=1"], "hit"),
        (&["http://a/a?x=1"], "miss"),
        (&["https://a/a"], "miss"),
        (&["http://a:81/a"], "miss"),
        (&["http://a/a", "-H", "Accept-Language: de"], "vary-miss"),
        (&["http://a/a", "-H", "Cookie: session=1"], "bypass"),
        (
            &["http://a/a", "-H", "Cache-Control: no-cache"],
            "request-no-cache",
        ),
        (&["http://a/a", "--method", "POST"], "method"),
        (&["http://a/private"], "private"),
        (&["http://a/stale"], "stale"),
        (&["http://a/never"], "miss"),
        (&["http://a/fixed"], "no-origin"),
    ] {
        assert_eq!(word(args), expected, "{args:?}");
    }
    let (code, text) = narthex(&rig, &["get", "http://a/a"]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "http://a:80/a  200  ",
        "4 bytes of body",
        "etag: \"v1\"",
        "surrogate-key: red",
        "fresh for ",
    ] {
        assert!(text.to_lowercase().contains(part), "{part} in {text}");
    }
    assert_eq!(narthex(&rig, &["get", "http://a/never"]).0, 1);
    assert_eq!(narthex(&rig, &["why", "a/never"]).0, 1);
    assert_eq!(
        admin(&rig, "GET", "/cache", "").1,
        before,
        "looking has changed something"
    );
}

#[test]
fn what_cannot_be_is_refused_and_all_is_audited() {
    let rig = rig(RULE);
    rig.origin.on("/a", answer(stored(FRESH, "a")));
    ask(&rig, "/a");
    for wrong in [
        "{}",
        r#"{"url":"http://a/a","everything":true}"#,
        r#"{"url":"/a"}"#,
        r#"{"host":"a/b"}"#,
        r#"{"tag":""}"#,
        r#"{"everything":true,"sotf":true}"#,
        "no",
    ] {
        let (status, said) = admin(&rig, "POST", "/cache/purge", wrong);
        assert_eq!(status, 422, "{wrong}: {said}");
    }
    assert!(is_hit(&ask(&rig, "/a")));
    let (code, said) = narthex(&rig, &["purge", "http://a/a", "--soft"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("purged softly"), "{said}");
    let (_, audit) = admin(&rig, "GET", "/audit", "");
    let last = audit.as_array().unwrap().last().unwrap();
    assert_eq!(last["what"], "POST /cache/purge");
    assert!(last["after"].as_str().unwrap().contains("a/a"), "{last}");
    assert!(last["who"].as_str().unwrap().starts_with("uid "), "{last}");
    assert!(last["refused"].is_null());
    let refused = audit
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| !e["refused"].is_null());
    assert!(refused.count() > 0, "{audit}");
}

/// CA-13: only clients of `purge` may say `PURGE`; from others it goes to the origin as any method, and what is stored stays.
#[test]
fn ca_13_who_may_purge() {
    let rule = |from: &str| format!("cache {{ {from} }}\nproxy \"u\"");
    for (from, allowed) in [
        ("", false),
        ("purge \"10.0.0.0/8\"", false),
        ("purge \"10.0.0.0/8\" \"127.0.0.1\"", true),
    ] {
        let rig = rig(&rule(from));
        rig.origin.otherwise(answer(stored(FRESH, "x")));
        let say = |path: &str| rig.connect().ask(request("PURGE", path, "", ""));
        if allowed {
            assert_eq!(say("/x").status, 404);
        }
        ask(&rig, "/x");
        ask(&rig, "/x?q");
        let heads = rig.origin.take(2).len();
        assert_eq!(heads, 2);
        let r = say("/x");
        assert_eq!(r.status, 200);
        assert_eq!(
            r.text().starts_with("purged a/x: 1 object"),
            allowed,
            "{}",
            r.text()
        );
        assert_eq!(is_hit(&ask(&rig, "/x")), !allowed, "{from}");
        assert_eq!(is_hit(&ask(&rig, "/x?q")), !allowed, "{from}");
        if allowed {
            // With a body it is not what is meant.
            let seen = rig.origin.seen().iter().any(|s| s.method == "PURGE");
            assert!(!seen);
            assert_eq!(say("/x").status, 200);
            assert_eq!(say("/x").status, 404);
        } else {
            assert!(rig.origin.wait_for(Duration::from_secs(5), |seen| {
                seen.iter().any(|s| s.method == "PURGE")
            }));
        }
    }
}
