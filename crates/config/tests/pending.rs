//! What the language has and the program does not honour yet is refused, and the list of it names only what is there.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing
#![allow(clippy::format_collect)] // short texts

mod common;

use common::{environment, lines};
use narthex_config::{Environment, load_text};

/// Every feature that may be pending, in a file of its own kind; what is refused in it is one problem per feature.
const EVERYTHING: &str = r#"version 1
zone "z"
resolver "10.0.0.53:53"
shed latency="1s"
shutdown upgrade-grace="1h"
tls-tickets secret="file:/run/secrets/tickets"
acme { email "a@b.example"; storage "s"; ca "https://ca.example/d"; dns "exec" program="p"; on-demand "a.example" }
listen ":443" { tls; protocols "h2"; http2 streams=10 }
upstream "a" {
    balance "hash" by="path" bound="25%"
    tls
    protocol "h2"
    spill-over "70%"
    panic-threshold "20%"
    prefer-zone #true
    sticky "s"
    server "10.0.0.1:80" priority=1 zone="z" state="ready"
    server "x.internal" resolve="srv"
    discover "file" path="servers.kdl"
    discover "docker" socket="unix:/run/a.sock" service="s" network="n" port=80
    discover "consul" address="127.0.0.1:8500" tag="t" datacenter="d" token="env:TOKEN"
    discover "etcd" prefix="/a/" user="u" password="env:TOKEN"
    health-check "/" method="GET" port=1 recovery="1s" reuse=#true { header "A" "b"; body contains="x" }
    eject outliers=#true
    slow-start "1s"
    connections total=1
    requests max=1
    adaptive-concurrency min=1
    retry on="timeout" try-timeout="1s" within="1s"
    hedge after="1s"
}
upstream "b" { balance "random"; server "10.0.0.1:80"; health-check "tcp" { send "x"; expect "y" } }
upstream "c" { balance "least-time"; server "10.0.0.1:80" }
site "x.example" { tls "acme" acme="a@b.example" challenge="auto" on-demand=#true; proxy "a" }
site "y.example" { tls "internal"; hsts; proxy "a" }
site "*" { priority "low"; route path="/b" { proxy "b" }; route path="/c" { proxy "c" }; proxy "a" }
"#;

#[test]
fn the_whole_language_is_read() {
    let loaded = environment(|env| load_text("narthex.kdl", EVERYTHING, env));
    assert!(loaded.config.is_some(), "{}", lines(&loaded));
}

#[test]
fn what_is_pending_is_refused_and_nothing_else() {
    let pending = narthex_config::schema::pending_names();
    let loaded = environment(|env| {
        let env = Environment {
            unbuilt: false,
            ..*env
        };
        load_text("narthex.kdl", EVERYTHING, &env)
    });
    let refused: Vec<&str> = loaded
        .problems
        .iter()
        .filter(|p| p.code == "not-built-yet")
        .map(|p| {
            p.message
                .split('`')
                .nth(1)
                .or(p.message.split('"').nth(1))
                .unwrap()
        })
        .map(|name| name.trim_end_matches('='))
        .collect();
    for name in &refused {
        assert!(pending.contains(name), "{name} is refused and not listed");
    }
    for name in &pending {
        assert!(
            refused.contains(name),
            "{name} is listed as pending and was not refused:\n{}",
            lines(&loaded)
        );
    }
    assert_eq!(loaded.config.is_none(), !pending.is_empty());
}

#[test]
fn what_is_pending_is_in_no_schema() {
    let schema = narthex_config::schema::json_schema();
    let upstream = &schema["$defs"]["upstream.block"]["anyOf"][1]["properties"];
    assert!(upstream.get("server").is_some());
    for name in ["sticky", "hedge", "discover"] {
        let pending = narthex_config::schema::pending_names().contains(&name);
        assert_eq!(upstream.get(name).is_none(), pending, "{name}");
    }
}
