//! Change at run time: servers come, go, drain and return under load by the admin API and `narthex upstream`, two writers do
//! not overwrite each other, reloads keep what was changed, and the difference from the file is shown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use narthex_e2e::kit::attack::{Client, Response};
use narthex_e2e::kit::chaos::Fleet;
use narthex_e2e::kit::craft::get;
use narthex_e2e::kit::load::{Load, Plan};
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::{Proxy, say};
use narthex_e2e::kit::{PATIENCE, eventually};
use serde_json::Value;

narthex_e2e::with_1_2_and_8_workers! {
    every_change_under_load_loses_nothing,
    two_writers_do_not_overwrite_each_other,
    what_cannot_be_is_refused,
    changes_survive_reloads_and_are_shown_as_drift,
    a_drain_for_a_time_ends_closed,
    a_server_returns_with_a_share_that_grows,
    a_server_of_the_file_may_be_out_of_use,
    changes_are_guarded_and_audited,
    a_unix_socket_can_be_meant,
    changes_are_written_back,
}

/// Requests that show who is used, and who is not.
const ENOUGH: usize = 100;

fn config(lines: &str) -> String {
    let rest = format!(
        "connections per-client=0\nupstream \"u\" {{\n{lines}\nslow-start \"0s\"\n}}\nsite \"*\" {{ proxy \"u\" }}"
    );
    Proxy::config("connections per-client=0", &rest)
}

/// `server` lines for some of them.
fn servers(fleet: &Fleet, which: &[usize]) -> String {
    let line = |i: &usize| format!(" server \"{}\"\n", fleet.addr(*i));
    which.iter().map(line).collect()
}

fn narthex(proxy: &Proxy, args: &[&str]) -> Output {
    let admin = proxy.fill_in("unix:@ADMIN@");
    proxy.command(&[args, &["--admin", &admin]].concat())
}

/// Runs `narthex upstream`, which must succeed, and says what it printed.
#[track_caller]
fn upstream(proxy: &Proxy, args: &[&str]) -> String {
    let out = narthex(proxy, &[&["upstream"], args].concat());
    assert!(out.status.success(), "{args:?}: {}", say(&out));
    String::from_utf8(out.stdout).unwrap()
}

fn call(method: &str, path: &str, fields: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
}

#[track_caller]
fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|e| panic!("{e} in {}", response.text()))
}

/// The servers of `u`, by name: state, order, weight.
fn shown(proxy: &Proxy) -> Vec<(String, String, String, u64)> {
    let answer = proxy.admin(&call("GET", "/upstreams/u", "", ""));
    let value = json(&answer);
    let list = value["servers"].as_array().unwrap().iter();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    list.map(|s| {
        (
            text(&s["name"]),
            text(&s["state"]),
            text(&s["order"]),
            s["weight"].as_u64().unwrap(),
        )
    })
    .collect()
}

/// Who answers requests that are sent from now on.
fn answering(load: &Load) -> Vec<String> {
    let from = load.elapsed();
    let names = std::cell::RefCell::new(Vec::new());
    let enough = load.wait_for(PATIENCE, |entries| {
        let later: Vec<_> = entries.iter().filter(|e| e.due > from).collect();
        if later.len() < ENOUGH {
            return false;
        }
        *names.borrow_mut() = later.iter().filter_map(|e| e.server.clone()).collect();
        true
    });
    assert!(enough, "the load stands still");
    let mut names = names.into_inner();
    names.sort_unstable();
    names.dedup();
    names
}

/// Every change while requests run: it holds for every request that is sent afterwards, and none is lost by it.
fn every_change_under_load_loses_nothing() {
    let fleet = Fleet::of(3);
    let proxy = Proxy::start(&config(&servers(&fleet, &[0, 1])));
    let name = |i: usize| fleet.addr(i).to_string();
    let load = Load::start(proxy.addr(), Plan::sized(500, 5_000).posts(20));
    assert_eq!(answering(&load), ["s0", "s1"]);

    let text = upstream(&proxy, &["add", "u", &name(2), "--weight", "2"]);
    assert_eq!(text, format!("u: {}: absent -> ready, weight 2\n", name(2)));
    assert_eq!(answering(&load), ["s0", "s1", "s2"]);

    let text = upstream(&proxy, &["drain", "u", &name(0), "--wait"]);
    assert!(
        text.ends_with("ready, weight 1 -> drain, weight 1\n"),
        "{text}"
    );
    assert_eq!(answering(&load), ["s1", "s2"]);

    upstream(&proxy, &["down", "u", &name(1)]);
    assert_eq!(answering(&load), ["s2"]);
    let states: Vec<String> = shown(&proxy).into_iter().map(|s| s.1).collect();
    assert_eq!(states, ["draining", "closed", "up"]);

    upstream(&proxy, &["up", "u", &name(1)]);
    let text = upstream(&proxy, &["undrain", "u", &name(0)]);
    assert!(
        text.ends_with("drain, weight 1 -> ready, weight 1\n"),
        "{text}"
    );
    assert_eq!(answering(&load), ["s0", "s1", "s2"]);

    upstream(&proxy, &["weight", "u", &name(0), "7"]);
    upstream(&proxy, &["remove", "u", &name(1)]);
    assert_eq!(answering(&load), ["s0", "s2"]);

    let text = upstream(&proxy, &["reset", "u"]);
    assert_eq!(text, "u: 3 changes -> no changes\n");
    assert_eq!(answering(&load), ["s0", "s1"]);

    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    assert!(fleet.arrivals().twice("POST").is_empty());
}

/// Whoever changes what he has not seen is told so.
fn two_writers_do_not_overwrite_each_other() {
    let origins = [Origin::start(), Origin::start()];
    let lines = format!(
        "server \"{}\"\nserver \"{}\"",
        origins[0].place(),
        origins[1].place()
    );
    let proxy = Proxy::start(&config(&lines));
    let tag = || {
        proxy
            .admin(&call("GET", "/upstreams/u", "", ""))
            .fields
            .get("etag")
            .unwrap()
    };
    let server = format!("/upstreams/u/servers/{}", origins[0].place());
    let patch = |tag: &str, body: &str| {
        proxy.admin(&call(
            "PATCH",
            &server,
            &format!("If-Match: {tag}\r\n"),
            body,
        ))
    };

    let seen = tag();
    assert_eq!(tag(), seen, "a look changes nothing");
    let first = patch(&seen, r#"{"weight": 3}"#);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.fields.get("etag").unwrap(), tag());
    let second = patch(&seen, r#"{"weight": 5}"#);
    assert_eq!(second.status, 412, "{}", second.text());
    assert_eq!(second.fields.get("etag").unwrap(), tag(), "says what it is");
    assert_eq!(shown(&proxy)[0].3, 3);
    assert_eq!(patch(&tag(), r#"{"weight": 5}"#).status, 200);
    assert_eq!(patch("*", r#"{"weight": 6}"#).status, 200);
    let blind = proxy.admin(&call("PATCH", &server, "", r#"{"weight": 9}"#));
    assert_eq!(blind.status, 428, "{}", blind.text());
    assert_eq!(shown(&proxy)[0].3, 6);

    // Requests and their figures do not move it; a reload that changes the upstream does.
    let before = tag();
    assert_eq!(proxy.connect().ask(get("/", "")).status, 200);
    assert_eq!(tag(), before);
    proxy.reload_ok(&config(&format!("{lines}\nconnections max=9")));
    assert_ne!(tag(), before);
}

/// What cannot be is refused with its reason, and changes nothing.
fn what_cannot_be_is_refused() {
    let origins = [Origin::start(), Origin::start()];
    let name = origins[0].place().clone();
    let proxy = Proxy::start(&config(&format!(
        "server \"{name}\"\nserver \"{}\"",
        origins[1].place()
    )));
    let before = shown(&proxy);
    let ask = |method: &str, path: &str, body: &str| {
        let r = proxy.admin(&call(method, path, "If-Match: *\r\n", body));
        (r.status, r.text())
    };
    let one = format!("/upstreams/u/servers/{name}");
    let there = format!(r#"{{"address": "{name}"}}"#);
    for (method, path, body, status, says) in [
        (
            "PATCH",
            "/upstreams/uu/servers/x",
            r#"{"weight":1}"#,
            404,
            "no upstream of this name",
        ),
        (
            "PATCH",
            &one[..one.len() - 1],
            r#"{"weight":1}"#,
            404,
            "did you mean",
        ),
        ("PATCH", &one, r#"{"weight":0}"#, 422, "1 to 1000"),
        ("PATCH", &one, r#"{"wieght":2}"#, 422, "wieght"),
        (
            "PATCH",
            &one,
            r#"{"state":"drain","for":"soon"}"#,
            422,
            "not a duration",
        ),
        (
            "PATCH",
            &one,
            r#"{"state":"down","for":"1m"}"#,
            422,
            "only a drain",
        ),
        (
            "POST",
            "/upstreams/u/servers",
            r#"{"address":"nowhere"}"#,
            422,
            "nowhere",
        ),
        ("POST", "/upstreams/u/servers", &there, 409, "there already"),
        (
            "POST",
            "/upstreams/u/servers",
            r#"{"address":"127.0.0.1:9","priority":16}"#,
            422,
            "0 to 15",
        ),
        ("PUT", &one, "{}", 405, "another method"),
        ("DELETE", "/upstreams/u/servers/", "", 404, ""),
    ] {
        let (got, text) = ask(method, path, body);
        assert_eq!(got, status, "{method} {path} {body}: {text}");
        assert!(text.contains(says), "{method} {path} {body}: {text}");
    }
    assert_eq!(shown(&proxy), before);
    assert_eq!(ask("DELETE", &one, "").0, 200);
    let last = format!("/upstreams/u/servers/{}", origins[1].place());
    let (status, text) = ask("DELETE", &last, "");
    assert!(status == 409 && text.contains("the last server"), "{text}");

    let out = narthex(&proxy, &["upstream", "drain", "u", "10.9.9.9:1"]);
    assert_eq!(out.status.code(), Some(1), "{}", say(&out));
    let out = proxy.command(&["upstream", "list", "--admin", "unix:/nonexistent"]);
    assert_eq!(out.status.code(), Some(2), "{}", say(&out));
}

/// A change outlives reloads; what the file then says itself is no change any more; both kinds of difference are shown.
fn changes_survive_reloads_and_are_shown_as_drift() {
    let fleet = Fleet::of(3);
    let file = config(&servers(&fleet, &[0, 1]));
    let proxy = Proxy::start(&file);
    let name = |i: usize| fleet.addr(i).to_string();
    let diff = || {
        let out = narthex(&proxy, &["config", "diff"]);
        (out.status.code(), say(&out))
    };
    assert_eq!(diff().0, Some(0), "{}", diff().1);

    upstream(&proxy, &["drain", "u", &name(0)]);
    upstream(&proxy, &["weight", "u", &name(1), "3"]);
    upstream(&proxy, &["add", "u", &name(2)]);
    let changed = shown(&proxy);
    let (code, text) = diff();
    assert_eq!(code, Some(1), "{text}");
    for line in [
        format!("~ server \"{}\" state=\"drain\"", name(0)),
        format!("~ server \"{}\" weight=3", name(1)),
        format!("+ server \"{}\"", name(2)),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    proxy.reload_ok(&file);
    proxy.reload_ok(&file.replace("proxy \"u\"", "merge-slashes; proxy \"u\""));
    assert_eq!(shown(&proxy), changed, "a reload keeps them");

    // Written down, and loaded: the same servers, and no difference but the drain.
    let lines = format!(
        "server \"{}\"\nserver \"{}\" weight=3\nserver \"{}\"",
        name(0),
        name(1),
        name(2)
    );
    std::fs::write(
        proxy.dir().join("narthex.kdl"),
        proxy.fill_in(&config(&lines)),
    )
    .unwrap();
    let (_, text) = diff();
    assert!(text.contains("edits that are not loaded"), "{text}");
    proxy.reload_ok(&config(&lines));
    assert_eq!(shown(&proxy), changed);
    let (code, text) = diff();
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(text.matches("server").count(), 1, "{text}");
    upstream(&proxy, &["undrain", "u", &name(0)]);
    assert_eq!(diff().0, Some(0), "{}", diff().1);

    // A file that cannot be served is shown as well.
    std::fs::write(proxy.dir().join("narthex.kdl"), "version 1\nsiet \"*\"\n").unwrap();
    let (code, text) = diff();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("siet"), "{text}");
}

/// A drain for a time ends as `down`, over a reload, and the end is in the audit.
fn a_drain_for_a_time_ends_closed() {
    let origins = [Origin::start(), Origin::start()];
    let name = origins[0].place().clone();
    let file = config(&format!(
        "server \"{name}\"\nserver \"{}\"",
        origins[1].place()
    ));
    let proxy = Proxy::start(&file);
    upstream(&proxy, &["drain", "u", &name, "--for", "1s"]);
    assert_eq!(shown(&proxy)[0].1, "draining");
    proxy.reload_ok(&file.replace("proxy \"u\"", "merge-slashes; proxy \"u\""));
    assert!(
        eventually(PATIENCE, || shown(&proxy)[0].1 == "closed"),
        "{:?}",
        shown(&proxy)
    );
    let audit = upstream(&proxy, &["audit"]);
    assert!(audit.contains("the clock  the drain is over"), "{audit}");
}

/// Who was away takes up its share slowly, whatever it was away for.
fn a_server_returns_with_a_share_that_grows() {
    let fleet = Fleet::of(2);
    let file = config(&servers(&fleet, &[0, 1])).replace("slow-start \"0s\"", "slow-start \"1h\"");
    let proxy = Proxy::start(&file);
    let name = fleet.addr(0).to_string();
    let states = || shown(&proxy).into_iter().map(|s| s.1).collect::<Vec<_>>();
    assert_eq!(states(), ["up", "up"], "at the start nobody was away");
    upstream(&proxy, &["down", "u", &name]);
    assert_eq!(states(), ["closed", "up"]);
    upstream(&proxy, &["up", "u", &name]);
    assert_eq!(states(), ["returning", "up"]);
    let load = Load::start(proxy.addr(), Plan::at(500).count(400));
    let tally = load.finish();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    let share = tally.by_server().get("s0").copied().unwrap_or(0);
    assert!(share < 120, "a tenth of the weight: {}", tally.brief());
}

/// `state=` of the file.
fn a_server_of_the_file_may_be_out_of_use() {
    let fleet = Fleet::of(3);
    let file = |states: [&str; 3]| {
        let line = |i: usize| format!("server \"{}\" state=\"{}\"\n", fleet.addr(i), states[i]);
        config(&(0..3).map(line).collect::<String>())
    };
    let proxy = Proxy::start(&file(["down", "ready", "drain"]));
    let load = Load::start(proxy.addr(), Plan::at(300));
    assert_eq!(answering(&load), ["s1"]);
    proxy.reload_ok(&file(["ready", "down", "drain"]));
    assert_eq!(answering(&load), ["s0"]);
    upstream(&proxy, &["undrain", "u", &fleet.addr(2).to_string()]);
    assert_eq!(answering(&load), ["s0", "s2"]);
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());

    upstream(&proxy, &["reset", "u"]);
    // Who comes after the others is not used while one of them is.
    proxy.reload_ok(&config(&servers(&fleet, &[0, 1])));
    let spare = fleet.addr(2).to_string();
    upstream(&proxy, &["add", "u", &spare, "--priority", "1"]);
    let load = Load::start(proxy.addr(), Plan::at(300));
    assert_eq!(answering(&load), ["s0", "s1"]);
    upstream(&proxy, &["down", "u", &fleet.addr(0).to_string()]);
    upstream(&proxy, &["down", "u", &fleet.addr(1).to_string()]);
    assert_eq!(answering(&load), ["s2"]);
    let tally = load.stop();
    assert!(tally.failed().is_empty(), "{}", tally.brief());
    upstream(&proxy, &["reset", "u"]);
    proxy.reload_ok(&file(["down", "down", "down"]));
    let none = proxy.connect().ask(get("/", ""));
    assert_eq!(none.status, 503, "{}", none.text());
    assert_eq!(
        none.fields.get("narthex-reason").as_deref(),
        Some("no-server")
    );
}

/// Over TCP a change needs the token, JSON, and a page of our own; whatever is refused is in the audit, as is what was done.
fn changes_are_guarded_and_audited() {
    let origin = Origin::start();
    let text = config(&format!("server \"{}\"", origin.place()));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "secret").unwrap();
    let tcp = "admin \"127.0.0.1:@PORT2@\" token=\"file:@DIR@/token\"";
    let proxy = Proxy::start_in(dir, &format!("{text}\n{tcp}\n"));
    let before = shown(&proxy);
    let one = format!("/upstreams/u/servers/{}", origin.place());
    let over_tcp = |address: SocketAddr, bytes: String| Client::connect(address).ask(bytes).status;
    let token = "Authorization: Bearer secret\r\n";
    for (method, path, body) in [
        ("PATCH", one.as_str(), r#"{"weight":2}"#),
        ("DELETE", one.as_str(), ""),
        (
            "POST",
            "/upstreams/u/servers",
            r#"{"address":"127.0.0.1:1"}"#,
        ),
        ("DELETE", "/upstreams/u/changes", ""),
    ] {
        let ask = |fields: &str| {
            over_tcp(
                proxy.addr2(),
                call(method, path, &format!("If-Match: *\r\n{fields}"), body),
            )
        };
        assert_eq!(ask(""), 401, "{method} {path} without a token");
        assert_eq!(
            ask("Authorization: Bearer wrong\r\n"),
            401,
            "{method} {path}"
        );
        assert_eq!(
            ask("Origin: http://evil.example\r\n"),
            403,
            "{method} {path}"
        );
        let rebound = call(method, path, "If-Match: *\r\n", body)
            .replace("Host: 127.0.0.1", "Host: evil.example");
        assert_eq!(over_tcp(proxy.addr2(), rebound), 403, "{method} {path}");
        let form = call(method, path, &format!("If-Match: *\r\n{token}"), body)
            .replace("application/json", "text/plain");
        assert_eq!(over_tcp(proxy.addr2(), form), 415, "{method} {path}");
    }
    assert_eq!(shown(&proxy), before);
    let good = call(
        "PATCH",
        &one,
        &format!("If-Match: *\r\n{token}"),
        r#"{"weight":2}"#,
    );
    assert_eq!(over_tcp(proxy.addr2(), good), 200);
    upstream(&proxy, &["weight", "u", &origin.place().clone(), "4"]);

    let audit = json(&proxy.admin(&call("GET", "/audit", "", "")));
    let audit = audit.as_array().unwrap();
    let refused = |why: &str| {
        audit
            .iter()
            .any(|e| e["refused"].as_str().is_some_and(|r| r.contains(why)))
    };
    assert!(
        refused("token") && refused("other web pages") && refused("Host"),
        "{audit:#?}"
    );
    let done: Vec<&Value> = audit.iter().filter(|e| e["refused"].is_null()).collect();
    assert_eq!(done.len(), 2, "{audit:#?}");
    assert!(
        done[0]["who"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{audit:#?}"
    );
    let uid = rustix::process::getuid().as_raw();
    assert!(
        done[1]["who"]
            .as_str()
            .unwrap()
            .starts_with(&format!("uid {uid} (pid ")),
        "{audit:#?}"
    );
    assert_eq!(
        (done[1]["before"].as_str(), done[1]["after"].as_str()),
        (Some("ready, weight 2"), Some("ready, weight 4"))
    );
    // And in the log.
    let logged = |text: &str| eventually(Duration::from_secs(5), || proxy.stderr().contains(text));
    assert!(
        logged("audit") && logged("change refused"),
        "{}",
        proxy.stderr()
    );
}

/// Any name that can be written can be meant.
fn a_unix_socket_can_be_meant() {
    let origin = Origin::start();
    let proxy = Proxy::start(&config(&format!(
        "server \"{}\"\nserver \"unix:@DIR@/app (1).sock\" backup=#true",
        origin.place()
    )));
    let name = proxy.fill_in("unix:@DIR@/app (1).sock");
    upstream(&proxy, &["down", "u", &name]);
    assert_eq!(shown(&proxy)[1].1, "closed");
    upstream(&proxy, &["remove", "u", &name]);
    assert_eq!(shown(&proxy).len(), 1);
    upstream(&proxy, &["add", "u", &name, "--backup"]);
    let list = upstream(&proxy, &["list", "u"]);
    assert!(
        list.contains("app (1).sock") && list.contains("1 backup"),
        "{list}"
    );
}

/// What was changed can be written down: the file then says what serves, and keeps everything else it said.
fn changes_are_written_back() {
    let fleet = Fleet::of(3);
    let name = |i: usize| fleet.addr(i).to_string();
    let lines = format!(
        "server \"{}\" // the first\nserver \"{}\"\n// remarks stay",
        name(0),
        name(1)
    );
    let proxy = Proxy::start(&config(&lines));
    let file = proxy.dir().join("narthex.kdl");
    let before = std::fs::read_to_string(&file).unwrap();
    upstream(&proxy, &["weight", "u", &name(0), "5"]);
    upstream(&proxy, &["remove", "u", &name(1)]);
    upstream(&proxy, &["add", "u", &name(2), "--state", "drain"]);
    let changed = shown(&proxy);

    let out = narthex(&proxy, &["config", "diff", "--write"]);
    assert!(out.status.success(), "{}", say(&out));
    let expected = before
        .replace(
            &format!("\"{}\" //", name(0)),
            &format!("\"{}\" weight=5 //", name(0)),
        )
        .replace(
            &format!("server \"{}\"\n", name(1)),
            &format!("server \"{}\" state=\"drain\"\n", name(2)),
        );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);

    let out = narthex(&proxy, &["reload"]);
    assert!(out.status.success(), "{}", say(&out));
    assert_eq!(shown(&proxy), changed);
    let out = narthex(&proxy, &["config", "diff"]);
    assert!(out.status.success(), "{}", say(&out));

    // A drain that ends by itself is not written, and is named.
    upstream(&proxy, &["drain", "u", &name(0), "--for", "10m"]);
    let out = narthex(&proxy, &["config", "diff", "--write"]);
    assert_eq!(out.status.code(), Some(1), "{}", say(&out));
    assert!(say(&out).contains("ends by itself"), "{}", say(&out));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
}
