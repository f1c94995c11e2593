//! Outside judges: test data that others wrote about malformed requests, read from where cargo keeps it, held against the
//! reference parser and the proxy. Nothing of it is copied here.
//!
//! `http_desync_guardian` ships tiered requests as YAML: "Severe" must be refused; "Compliant" must pass but for what
//! Narthex refuses on purpose; of the others proxy and model must say the same.
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

use std::path::PathBuf;
use std::process::Command;

use narthex_e2e::kit::model::{self, End};
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::show;
use narthex_e2e::kit::table::{Table, fresh_id};

/// Why Narthex refuses what others call compliant: encoded controls and raw non-ASCII in a path, a fragment, codings
/// other than `chunked`, two `Transfer-Encoding` lines.
const ON_PURPOSE: &[&str] = &["path", "target-bytes", "transfer-coding", "framing"];

/// One case of the package.
#[derive(Debug, Default, Clone)]
struct Case {
    name: String,
    line: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    tier: String,
    reason: String,
}

/// Where cargo unpacked the package, if it did.
fn package() -> Option<PathBuf> {
    let out = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let all: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
    let package = all["packages"]
        .as_array()?
        .iter()
        .find(|p| p["name"] == "http_desync_guardian")?;
    let tests = PathBuf::from(package["manifest_path"].as_str()?)
        .parent()?
        .join("tests");
    tests.is_dir().then_some(tests)
}

/// A scalar of the few kinds that the files use: plain, 'single' and "double quoted" with escapes.
fn scalar(text: &str) -> Vec<u8> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        return inner.replace("''", "'").into_bytes();
    }
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return text
            .split(" #")
            .next()
            .unwrap_or_default()
            .trim()
            .as_bytes()
            .to_vec();
    };
    let mut out = Vec::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend(c.to_string().into_bytes());
            continue;
        }
        let next = chars.next().unwrap_or('\\');
        let digits = match next {
            'x' => 2,
            'u' => 4,
            _ => 0,
        };
        let code: String = chars.by_ref().take(digits).collect();
        let code = u32::from_str_radix(&code, 16).unwrap_or(0);
        match next {
            'x' => out.push(code as u8),
            'u' => out.extend(char::from_u32(code).unwrap_or('?').to_string().into_bytes()),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            '0' => out.push(0),
            'a' => out.push(7),
            'b' => out.push(8),
            'v' => out.push(11),
            'f' => out.push(12),
            'e' => out.push(27),
            other => out.push(other as u8),
        }
    }
    out
}

/// Reads the subset of YAML that the files are written in; `None` if a file is not of that kind.
fn cases(text: &str) -> Vec<Case> {
    let mut all: Vec<Case> = Vec::new();
    let (mut uri, mut method) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let body = line.trim_start();
        let depth = line.len() - body.len();
        if body.starts_with('#') || body.is_empty() {
            continue;
        }
        let (key, value) = body
            .trim_start_matches("- ")
            .split_once(':')
            .unwrap_or((body, ""));
        let item = body.starts_with("- ");
        if item && depth == 0 && key == "name" {
            all.push(Case {
                name: String::from_utf8_lossy(&scalar(value)).into_owned(),
                ..Case::default()
            });
            continue;
        }
        let Some(case) = all.last_mut() else { continue };
        match (depth, key) {
            (2, "uri") => uri = scalar(value),
            (2, "method") => method = scalar(value),
            (2, "version") => {
                let version = scalar(value);
                let space: &[u8] = if version.is_empty() { b"" } else { b" " };
                case.line = [method.as_slice(), b" ", &uri, space, &version].concat();
            }
            (4, "name") if item => case.headers.push((scalar(value), Vec::new())),
            (6, "value") => {
                if let Some(h) = case.headers.last_mut() {
                    h.1 = scalar(value);
                }
            }
            (4, "tier") => case.tier = String::from_utf8_lossy(&scalar(value)).into_owned(),
            (4, "reason") => case.reason = String::from_utf8_lossy(&scalar(value)).into_owned(),
            _ => {}
        }
    }
    all
}

impl Case {
    /// The bytes on the wire: a `Host` if the case has none, and a body where one is announced.
    fn bytes(&self) -> Vec<u8> {
        let mut out = [self.line.as_slice(), b"\r\n"].concat();
        // Tells a late record of one case from the next case's own.
        out.extend_from_slice(format!("X-Id: {}\r\n", fresh_id()).as_bytes());
        if !self
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(b"host"))
        {
            out.extend_from_slice(b"Host: a\r\n");
        }
        for (name, value) in &self.headers {
            out.extend([name.as_slice(), b": ", value, b"\r\n"].concat());
        }
        out.extend_from_slice(b"\r\n");
        let is = |n: &str| {
            self.headers
                .iter()
                .any(|(k, _)| k.eq_ignore_ascii_case(n.as_bytes()))
        };
        if is("transfer-encoding") {
            out.extend_from_slice(b"0\r\n\r\n");
        } else if is("content-length") {
            let length = self
                .headers
                .iter()
                .find(|(k, _)| k.eq_ignore_ascii_case(b"content-length"));
            let n = length
                .and_then(|(_, v)| String::from_utf8_lossy(v).trim().parse::<usize>().ok())
                .unwrap_or(0);
            out.extend(std::iter::repeat_n(b'x', n.min(1 << 20)));
        }
        out
    }
}

#[test]
fn http_desync_guardian_cases() {
    let Some(tests) = package() else {
        println!(
            "NOT RUN: the package `http_desync_guardian` is not in cargo's registry (`cargo fetch` brings it)"
        );
        panic!("outside judge not available; run `cargo fetch` once with a network");
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(tests).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            all.extend(cases(&std::fs::read_to_string(path).unwrap()));
        }
    }
    assert!(all.len() >= 100, "only {} cases were understood", all.len());
    let rig = Rig::plain();
    let mut table = Table::new(&rig);
    let (mut severe, mut compliant, mut other, mut stricter) = (0, 0, 0, Vec::new());
    for case in &all {
        let bytes = case.bytes();
        let outcome = model::read(&bytes);
        let rejected = matches!(outcome.end, End::Reject { .. });
        match case.tier.as_str() {
            "Severe" => {
                severe += 1;
                if !rejected {
                    table.fail(
                        &bytes,
                        &format!(
                            "`{}` is Severe ({}), the model accepts it",
                            case.name, case.reason
                        ),
                    );
                }
            }
            "Compliant" => {
                compliant += 1;
                if let End::Reject { why, .. } = outcome.end {
                    if !ON_PURPOSE.contains(&why) {
                        table.fail(
                            &bytes,
                            &format!("`{}` is compliant, refused as {why}", case.name),
                        );
                    }
                    stricter.push(format!("{} ({why}): {}", case.name, show(&bytes)));
                }
            }
            _ => other += 1,
        }
        table.judge(&bytes);
    }
    println!(
        "http_desync_guardian: {severe} severe, {compliant} compliant, {other} between; stricter than it in {}:",
        stricter.len()
    );
    for s in &stricter {
        println!("  {s}");
    }
    table.finish();
}
