//! Golden files: a configuration above, what comes of it below.
//!
//! Below the line `// ---- expect` stand, as comments, every problem (`line:column severity code: message`, with its help
//! and its other place indented) and parts of the model (`/json/pointer = value`). `NARTHEX_GOLDEN=write` regenerates
//! what is below the line; which parts of the model are shown is kept.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing
#![allow(clippy::format_collect)] // short texts

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::environment;
use narthex_config::source::Span;
use narthex_config::{Loaded, load_text};

const LINE: &str = "// ---- expect";

fn golden_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "kdl"));
    files.sort();
    files
}

/// `line:column`, with the file's name in front if it is another one.
fn place(loaded: &Loaded, span: Span) -> String {
    loaded
        .sources
        .place(span)
        .to_string()
        .trim_start_matches("narthex.kdl:")
        .to_owned()
}

fn expected(loaded: &Loaded, pointers: &[&str]) -> String {
    let mut out = String::new();
    for problem in &loaded.problems {
        let at = place(loaded, problem.span);
        let (severity, code, message) = (problem.severity.word(), problem.code, &problem.message);
        writeln!(out, "// {at} {severity} {code}: {message}").unwrap();
        if let Some(help) = &problem.help {
            writeln!(out, "//     help: {help}").unwrap();
        }
        if let Some((span, why)) = &problem.related {
            writeln!(out, "//     {} {why}", place(loaded, *span)).unwrap();
        }
    }
    if pointers.is_empty() && loaded.problems.is_empty() {
        out.push_str("// no problems\n");
    }
    let model = loaded
        .config
        .as_ref()
        .map(|c| serde_json::to_value(c).unwrap())
        .unwrap_or_default();
    for pointer in pointers {
        let value = model
            .pointer(pointer)
            .map_or("(nothing)".to_owned(), ToString::to_string);
        writeln!(out, "// {pointer} = {value}").unwrap();
    }
    out
}

#[test]
fn golden() {
    let write = std::env::var("NARTHEX_GOLDEN").is_ok_and(|v| v == "write");
    let mut wrong = Vec::new();
    let (mut problems, mut models) = (0, 0);
    for file in golden_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let (input, below) = text.split_once(LINE).unwrap_or((&text, ""));
        let pointers: Vec<&str> = below
            .lines()
            .filter_map(|l| l.strip_prefix("// /"))
            .map(|l| {
                &below[l.as_ptr() as usize - below.as_ptr() as usize - 1..]
                    [..=l.find(" =").unwrap_or(l.len())]
            })
            .collect();
        let loaded = environment(|env| load_text("narthex.kdl", input, env));
        if pointers.is_empty() {
            problems += 1;
        } else {
            models += 1;
            assert!(
                loaded.config.is_some(),
                "{}: {:#?}",
                file.display(),
                loaded.problems
            );
        }
        let now = format!("{input}{LINE}\n{}", expected(&loaded, &pointers));
        if now != text {
            if write {
                std::fs::write(&file, now).unwrap();
            } else {
                wrong.push(format!(
                    "{}:\n--- expected\n{below}\n--- got\n{}",
                    file.display(),
                    expected(&loaded, &pointers)
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} golden files differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(problems >= 60, "only {problems} golden files of problems");
    assert!(models >= 30, "only {models} golden files of models");
}
