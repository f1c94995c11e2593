//! A full file, damaged in hundreds of ways: never a panic, never a misspelt key accepted, always a line and column.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing
#![allow(clippy::format_collect)] // short texts

mod common;

use common::{lines, read};
use narthex_config::Loaded;
use narthex_config::problem::{Severity, render_human, render_json};
use narthex_config::schema::{self, Groups};
use narthex_config::source::FileId;
use narthex_config::syntax::{self, tree::Node};

fn full() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/full.kdl");
    std::fs::read_to_string(path).unwrap()
}

/// A small generator of numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

/// What holds for every file, whatever is in it.
fn sane(what: &str, loaded: &Loaded) {
    for problem in &loaded.problems {
        for span in std::iter::once(problem.span).chain(problem.related.as_ref().map(|r| r.0)) {
            let (line, column) = loaded.sources.line_col(span);
            assert!(line >= 1 && column >= 1, "{what}: {problem:?}");
            assert!(
                !loaded.sources.name(span.file).is_empty(),
                "{what}: {problem:?}"
            );
            let length = loaded.sources.text(span.file).len();
            assert!(
                span.start <= span.end && span.end as usize <= length,
                "{what}: {problem:?}"
            );
        }
        assert!(!problem.message.is_empty(), "{what}");
        assert!(
            problem.help.as_ref().is_none_or(|h| !h.is_empty()),
            "{what}: {problem:?}"
        );
    }
    let errors = loaded
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .count();
    assert_eq!(
        loaded.config.is_none(),
        errors > 0,
        "{what}: {}",
        lines(loaded)
    );
    let _ = (
        render_human(&loaded.problems, &loaded.sources),
        render_json(&loaded.problems, &loaded.sources),
    );
}

fn is_char(text: &str, at: usize, len: usize) -> bool {
    text.is_char_boundary(at) && text.is_char_boundary(at + len)
}

#[test]
fn damaged_bytes() {
    let text = full();
    let mut numbers = Numbers(7);
    let mut refused = 0;
    for round in 0..600 {
        let at = numbers.below(text.len() - 2);
        let mut damaged = text.clone();
        match round % 6 {
            0 if is_char(&text, at, 1) => damaged.replace_range(at..=at, ""),
            1 if is_char(&text, at, 2) => {
                let swapped: String = text[at..at + 2].chars().rev().collect();
                damaged.replace_range(at..at + 2, &swapped);
            }
            2 if is_char(&text, at, 1) => damaged.replace_range(at..=at, &text[at..=at].repeat(2)),
            3 => damaged.truncate((0..=at).rev().find(|a| text.is_char_boundary(*a)).unwrap()),
            4 if is_char(&text, at, 1) => damaged.insert_str(
                at,
                [
                    "{",
                    "}",
                    "\"",
                    "#",
                    "\\",
                    "\0",
                    "é",
                    "9999999999999999999999",
                ][numbers.below(8)],
            ),
            _ => {
                let line = numbers.below(text.lines().count());
                damaged = text
                    .lines()
                    .enumerate()
                    .filter(|(n, _)| *n != line)
                    .map(|(_, l)| format!("{l}\n"))
                    .collect();
            }
        }
        let loaded = read(&damaged);
        sane(&format!("round {round} at {at}"), &loaded);
        refused += usize::from(loaded.config.is_none());
    }
    assert!(refused > 200, "only {refused} of 600 were refused");
}

/// Every key and property of a document, with its span.
fn keys(nodes: &[Node], out: &mut Vec<(usize, usize)>) {
    for node in nodes {
        out.push((node.name.span.start as usize, node.name.span.end as usize));
        out.extend(
            node.props
                .iter()
                .map(|(k, _)| (k.span.start as usize, k.span.end as usize)),
        );
        keys(node.children.as_deref().unwrap_or_default(), out);
    }
}

fn every_name(groups: Groups, out: &mut Vec<&'static str>) {
    for spec in groups.iter().flat_map(|g| g.iter()) {
        out.push(spec.name);
        out.extend(spec.props.iter().map(|p| p.name));
        if !matches!(spec.name, "not" | "any") {
            every_name(spec.children, out);
        }
    }
}

#[test]
fn misspelt_keys() {
    let text = full();
    let document = syntax::parse(FileId::default(), &text, &mut Vec::new());
    let mut spans = Vec::new();
    keys(&document.nodes, &mut spans);
    assert!(spans.len() > 150, "{}", spans.len());
    let mut known = Vec::new();
    every_name(schema::TOP, &mut known);
    let mut tried = 0;
    for (start, end) in spans {
        let key = &text[start..end];
        let middle = start + key.len() / 2;
        let misspellings = [
            format!("{}{}", &text[start..middle], &text[middle + 1..end]),
            format!("{key}x"),
            format!("x{key}"),
            key.chars().rev().collect(),
            key.to_uppercase(),
        ];
        for misspelt in misspellings {
            if misspelt.is_empty() || known.contains(&misspelt.as_str()) {
                continue;
            }
            let mut damaged = text.clone();
            damaged.replace_range(start..end, &misspelt);
            let loaded = read(&damaged);
            sane(&misspelt, &loaded);
            assert!(
                loaded.config.is_none(),
                "`{misspelt}` for `{key}` at byte {start} was accepted"
            );
            let there = loaded.problems.iter().any(|p| {
                p.span.start as usize <= end
                    && p.span.end as usize + 1 >= start
                    && p.severity == Severity::Error
            });
            assert!(
                there,
                "`{misspelt}` for `{key}`: nothing points there:\n{}",
                lines(&loaded)
            );
            tried += 1;
        }
    }
    assert!(tried > 600, "{tried}");
}

#[test]
fn changed_values() {
    let text = full();
    let document = syntax::parse(FileId::default(), &text, &mut Vec::new());
    let mut spans = Vec::new();
    values(&document.nodes, &mut spans);
    for (start, end) in spans {
        for value in [
            "-1",
            "0",
            "1",
            "99999999999999999999",
            "1.5",
            "#true",
            "#null",
            "\"\"",
            "\"x\"",
            "\"10\"",
            "\"{\"",
            "\"/\"",
            "\"é\\u{7f}\"",
            "\"0s\"",
            "\"0B\"",
            "\"0%\"",
        ] {
            let mut damaged = text.clone();
            damaged.replace_range(start..end, value);
            sane(
                &format!("{value} for {}", &text[start..end]),
                &read(&damaged),
            );
        }
    }
}

fn values(nodes: &[Node], out: &mut Vec<(usize, usize)>) {
    for node in nodes {
        let all = node.args.iter().chain(node.props.iter().map(|(_, v)| v));
        out.extend(all.map(|v| (v.span.start as usize, v.span.end as usize)));
        values(node.children.as_deref().unwrap_or_default(), out);
    }
}

#[test]
fn braces_removed() {
    let text = full();
    for (at, _) in text.match_indices(['{', '}']) {
        let mut damaged = text.clone();
        damaged.replace_range(at..=at, "");
        sane(&format!("brace at {at}"), &read(&damaged));
    }
}

#[test]
fn golden_files_cut_short() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for entry in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let input = text.split("// ---- expect").next().unwrap();
        for at in (0..input.len())
            .step_by(7)
            .filter(|a| input.is_char_boundary(*a))
        {
            sane("cut", &read(&input[..at]));
        }
    }
}
