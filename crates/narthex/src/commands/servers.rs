//! Servers, changes and the audit as text. Pure.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Heads of the columns; all but the first two and the last are numbers.
const HEADS: [&str; 9] = [
    "SERVER",
    "STATE",
    "SINCE",
    "WEIGHT",
    "IN FLIGHT",
    "WAITING",
    "CONNS",
    "REQUESTS",
    "FAILURES",
];

/// One upstream or several.
pub fn table(value: &Value) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let upstreams: Vec<&Value> = match value {
        Value::Array(upstreams) => upstreams.iter().collect(),
        one => vec![one],
    };
    let mut out = String::new();
    for (index, upstream) in upstreams.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let _ = writeln!(out, "{}{}", text(upstream, "name"), limit(upstream));
        let rows: Vec<Vec<String>> = servers(upstream).map(|server| row(server, now)).collect();
        if rows.is_empty() {
            out.push_str("  no servers: names have not resolved, or to nothing\n");
            continue;
        }
        let reasons = servers(upstream).map(reason);
        write_rows(&mut out, &rows, reasons);
    }
    if upstreams.is_empty() {
        out.push_str("no upstreams\n");
    }
    out
}

fn servers(upstream: &Value) -> impl Iterator<Item = &Value> {
    let list = upstream.get("servers").and_then(Value::as_array);
    list.into_iter().flatten()
}

/// What an adaptive limit is now, and from what; behind the upstream's name.
fn limit(upstream: &Value) -> String {
    let Some(limit) = upstream.get("limit").filter(|limit| limit.is_object()) else {
        return String::new();
    };
    let n = |key| number(limit, key);
    let ms = |key| format!("{}.{} ms", n(key) / 1_000, n(key) % 1_000 / 100);
    format!(
        ": {} of {} requests under way, {} wait; {} to a response's head, {} at best",
        n("used"),
        n("limit"),
        number(upstream, "waiting"),
        ms("rtt_us"),
        ms("best_rtt_us"),
    )
}

/// Why it is as it is, and what went wrong last.
fn reason(server: &Value) -> String {
    let (reason, error) = (text(server, "reason"), text(server, "last_error"));
    match (reason.is_empty(), error.is_empty()) {
        (_, true) => reason,
        (true, false) => format!("last error: {error}"),
        (false, false) => format!("{reason}; last error: {error}"),
    }
}

fn row(server: &Value, now: u64) -> Vec<String> {
    let weight = number(server, "weight");
    let backup = server.get("backup").and_then(Value::as_bool) == Some(true);
    vec![
        text(server, "name"),
        text(server, "state"),
        ago(now.saturating_sub(number(server, "since"))),
        format!("{weight}{}", if backup { " backup" } else { "" }),
        number(server, "in_flight").to_string(),
        number(server, "waiting").to_string(),
        number(server, "connections").to_string(),
        number(server, "requests").to_string(),
        number(server, "failures").to_string(),
    ]
}

fn write_rows(out: &mut String, rows: &[Vec<String>], reasons: impl Iterator<Item = String>) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(HEADS.get(column).map_or(0, |head| head.len()))
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let line = |out: &mut String, cells: &[String]| {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let _ = if column < 2 {
                write!(out, "  {cell:<width$}")
            } else {
                write!(out, "  {cell:>width$}")
            };
        }
    };
    line(out, &HEADS.map(str::to_owned));
    out.push('\n');
    for (row, reason) in rows.iter().zip(reasons) {
        line(out, row);
        if !reason.is_empty() {
            let _ = write!(out, "  {reason}");
        }
        out.push('\n');
    }
}

/// What a change has changed.
pub fn changed(value: &Value) -> String {
    let (upstream, server) = (text(value, "upstream"), text(value, "server"));
    let (before, after) = (text(value, "before"), text(value, "after"));
    let what = if server.is_empty() {
        upstream
    } else {
        format!("{upstream}: {server}")
    };
    if before == after {
        format!("{what}: {after} already\n")
    } else {
        format!("{what}: {before} -> {after}\n")
    }
}

/// Requests at a server, under way or waiting; of a name, at all its addresses.
pub fn under_way(upstream: &Value, server: &str) -> u64 {
    let address = format!("{server} (");
    servers(upstream)
        .filter(|at| {
            let name = text(at, "name");
            name == server || name.starts_with(&address) || text(at, "address") == server
        })
        .map(|at| number(at, "in_flight") + number(at, "waiting"))
        .sum()
}

/// The last changes, a line each.
pub fn audit(value: &Value) -> String {
    let mut out = String::new();
    for entry in value.as_array().into_iter().flatten() {
        let _ = write!(
            out,
            "{}  {}  {}",
            moment(number(entry, "at")),
            text(entry, "who"),
            text(entry, "what")
        );
        let (upstream, server) = (text(entry, "upstream"), text(entry, "server"));
        if !upstream.is_empty() {
            let _ = write!(out, "  {upstream} {server}");
        }
        let (before, after) = (text(entry, "before"), text(entry, "after"));
        if !after.is_empty() {
            let _ = write!(out, "  {before} -> {after}");
        }
        let refused = text(entry, "refused");
        if !refused.is_empty() {
            let _ = write!(out, "  refused: {refused}");
        }
        match number(entry, "times") {
            0 | 1 => {}
            times => {
                let _ = write!(out, " ({times} times)");
            }
        }
        out.push('\n');
    }
    if out.is_empty() {
        out.push_str("nothing was changed since the start\n");
    }
    out
}

/// `2026-11-21T10:00:00Z`.
fn moment(at: u64) -> String {
    String::from_utf8_lossy(&narthex_observe::clock::rfc3339(at)).into_owned()
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A text without what would move the terminal.
fn text(value: &Value, key: &str) -> String {
    let text = value.get(key).and_then(Value::as_str).unwrap_or_default();
    text.replace(char::is_control, "\u{fffd}")
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_aligned_and_tells_why() {
        let server = |name: &str, state: &str, requests: u64| {
            json!({"name": name, "state": state, "since": 0, "weight": 1, "backup": false, "in_flight": 0,
                   "waiting": 0, "connections": 3, "requests": requests, "failures": 0, "last_error": null})
        };
        let mut broken = server("b:80", "ejected", 5);
        broken["last_error"] = json!("reset\u{1b}[2J");
        let text = table(
            &json!([{"name": "api", "servers": [server("10.0.0.1:8080", "up", 12_345), broken]}]),
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "api");
        let end = lines[1].find("FAILURES").unwrap() + "FAILURES".len();
        assert_eq!(lines[2].len(), end, "{text}");
        assert!(
            lines[3].ends_with("  last error: reset\u{fffd}[2J"),
            "{text}"
        );
        assert_eq!(
            lines[2].find("12345").unwrap() + 5,
            lines[1].find("REQUESTS").unwrap() + 8
        );
    }

    #[test]
    fn an_adaptive_limit_is_shown_beside_the_name() {
        let mut api = json!({"name": "api", "waiting": 3, "servers": [],
            "limit": {"limit": 57, "used": 12, "rtt_us": 12_345, "best_rtt_us": 980}});
        assert!(table(&api).starts_with(
            "api: 12 of 57 requests under way, 3 wait; 12.3 ms to a response's head, 0.9 ms at best\n"
        ));
        api["limit"] = json!(null);
        assert!(table(&api).starts_with("api\n"));
    }

    #[test]
    fn a_change_says_what_was_and_what_is() {
        let mut value = json!({"upstream": "api", "server": "a:80", "before": "ready, weight 1", "after": "drain, weight 1"});
        assert_eq!(
            changed(&value),
            "api: a:80: ready, weight 1 -> drain, weight 1\n"
        );
        value["before"] = value["after"].clone();
        assert_eq!(changed(&value), "api: a:80: drain, weight 1 already\n");
    }

    #[test]
    fn all_addresses_of_a_name_are_waited_for() {
        let at = |name: &str, address: &str, n: u64| json!({"name": name, "address": address, "in_flight": n, "waiting": 1});
        let upstream = json!({"servers": [
            at("api:80 (10.0.0.1:80)", "10.0.0.1:80", 2),
            at("api:80 (10.0.0.2:80)", "10.0.0.2:80", 4),
            at("api:8080", "10.0.0.3:80", 100),
        ]});
        assert_eq!(under_way(&upstream, "api:80"), 8);
        assert_eq!(under_way(&upstream, "10.0.0.2:80"), 5);
        assert_eq!(under_way(&upstream, "nobody"), 0);
    }

    #[test]
    fn the_audit_tells_who_and_why_not() {
        let list = json!([
            {"at": 0, "who": "uid 0", "what": "PATCH /x", "upstream": "api", "server": "a:80", "before": "up", "after": "down", "refused": null, "times": 1},
            {"at": 0, "who": "127.0.0.1:9", "what": "POST /y", "upstream": "", "server": "", "before": "", "after": "", "refused": "no token", "times": 3},
        ]);
        let text = audit(&list);
        assert!(
            text.contains("uid 0  PATCH /x  api a:80  up -> down\n"),
            "{text}"
        );
        assert!(
            text.contains("POST /y  refused: no token (3 times)\n"),
            "{text}"
        );
    }
}
