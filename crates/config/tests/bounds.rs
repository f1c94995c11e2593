//! Large files: linear work, bounded output.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing
#![allow(clippy::format_collect)] // short texts

mod common;

use std::fmt::Write as _;

use common::{lines, read};

#[test]
fn many_sites() {
    let mut text = String::from("version 1\nlisten \":80\"\n");
    for n in 0..20_000 {
        writeln!(
            text,
            "site \"s{n}.example\" {{ proxy \"10.0.{}.{}:80\" }}",
            n / 250,
            n % 250
        )
        .unwrap();
    }
    let loaded = read(&text);
    assert!(loaded.problems.is_empty());
    let config = loaded.config.unwrap();
    assert_eq!(
        (
            config.sites.len(),
            config.upstreams.len(),
            config.access_logs.len()
        ),
        (20_000, 20_000, 1)
    );
}

#[test]
fn many_routes_and_their_shadows() {
    let mut text = String::from("version 1\nlisten \":80\"\nsite \"*\" {\n");
    for n in 0..5_000 {
        writeln!(text, "route path=\"/a/{n}\" {{ respond 200 }}").unwrap();
        writeln!(
            text,
            "route path=\"/a/{n}\" method=\"M{n}\" {{ respond 200 }}"
        )
        .unwrap();
    }
    text.push_str("}\n");
    let loaded = read(&text);
    assert_eq!(
        loaded.config.as_ref().map(|c| c.sites[0].routes.len()),
        Some(10_000)
    );
    assert_eq!(
        loaded.problems.len(),
        narthex_config::check::MAX_PROBLEMS + 1
    );
    assert!(lines(&loaded).contains("4000 more problems"));
}

#[test]
fn too_many_routes() {
    let routes: String = (0..10_001)
        .map(|n| format!("route path=\"/{n}\" {{ respond 200 }}\n"))
        .collect();
    let loaded = read(&format!(
        "version 1\nlisten \":80\"\nsite \"*\" {{\n{routes}}}\n"
    ));
    assert!(loaded.config.is_none());
    assert!(lines(&loaded).contains("at most 10000 routes"));
}

#[test]
fn too_many_sites() {
    let sites: String = (0..100_001)
        .map(|n| format!("site \"s{n}\" {{ respond 200 }}\n"))
        .collect();
    let loaded = read(&format!("version 1\nlisten \":80\"\n{sites}"));
    assert!(loaded.config.is_none());
    assert!(
        lines(&loaded).contains("more than 100000 sites"),
        "{}",
        lines(&loaded)
    );
}

#[test]
fn one_mistake_in_a_policy_is_told_once() {
    let routes: String = (0..1_000)
        .map(|n| format!("route path=\"/{n}\" {{ use \"p\"; respond 200 }}\n"))
        .collect();
    let loaded = read(&format!(
        "version 1\nlisten \":80\"\npolicy \"p\" {{ header response {{ set \"X\" \"{{idd}}\" }} }}\nsite \"*\" {{\n{routes}}}\n"
    ));
    assert_eq!(loaded.problems.len(), 1, "{}", lines(&loaded));
}

#[test]
fn deep_blocks() {
    let text = format!(
        "version 1\nlisten \":80\"\nsite \"*\" {{ route {{ when {{ {} header \"A\" {} }}; respond 200 }} }}",
        "not { ".repeat(5000),
        "}".repeat(5000)
    );
    let loaded = read(&text);
    assert!(loaded.config.is_none());
}
