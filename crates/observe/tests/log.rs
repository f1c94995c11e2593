//! The diagnostics log as a process writes it. A subscriber is for a whole process, so each case runs this test program again
//! with only [`child`].

#![allow(clippy::unwrap_used)] // a test may fail loudly

use std::process::Command;

use narthex_observe::{log, warn_throttled};

const CASE: &str = "NARTHEX_TEST_LOG";

#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let control = log::init("info", case == "json").unwrap();
    assert!(matches!(
        log::init("info", false),
        Err(log::LogError::AlreadyStarted)
    ));
    tracing::info!(header = %"a\r\nINFO forged\x1b[31m", "first");
    tracing::debug!("hidden");
    assert!(control.set_level("=").is_err());
    control.set_level("log=debug").unwrap();
    tracing::debug!("shown");
    for _ in 0..1000 {
        warn_throttled!(port = 80, "flood");
    }
}

fn lines(case: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CASE, case)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn text_lines_cannot_be_forged() {
    let lines = lines("text");
    assert!(
        lines[0].contains(r"a\r\nINFO forged\x1b[31m") && lines[0].contains("first"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("DEBUG") && lines[1].contains("shown"),
        "{lines:?}"
    );
    let floods = lines.iter().filter(|line| line.contains("flood")).count();
    // two windows, if the test runs across the edge of one
    assert!(
        (5..=10).contains(&floods) && lines.len() == 2 + floods,
        "{lines:?}"
    );
}

#[test]
fn json_lines_are_json() {
    let lines = lines("json");
    let events: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0]["message"], "first");
    assert_eq!(events[0]["header"], "a\r\nINFO forged\u{1b}[31m");
    assert_eq!(events[0]["level"], "INFO");
    assert_eq!(events[1]["message"], "shown");
    assert_eq!(
        (&events[2]["port"], &events[2]["suppressed"]),
        (&80.into(), &0.into())
    );
}
