//! How problems look, and where lines and columns are.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use narthex_config::problem::{Problem, render_human, render_human_colored, render_json};
use narthex_config::source::{FileId, Sources, Span};
use serde_json::json;

fn sources() -> Sources {
    let mut sources = Sources::default();
    sources.add(
        "narthex.kdl",
        "version 1\nsite \"é\" {\r\n\thelth-check \"/\"\n}\n",
    );
    sources.add("sites/a.kdl", "a\n日本 x\n");
    sources
}

fn example() -> Problem {
    Problem::error(
        "unknown-key",
        Span::new(FileId(0), 24, 35),
        "unknown key `helth-check`",
    )
    .with_help("did you mean `health-check`?")
    .with_related(Span::new(FileId(1), 9, 10), "it was fine here")
}

#[test]
fn for_people() {
    let warning = Problem::warning(
        "odd",
        Span::new(FileId(1), 2, 8),
        "wide \u{1b}[31mcharacters",
    );
    let expected = "\
error[unknown-key]: unknown key `helth-check`
 --> narthex.kdl:3:2
  |
3 |     helth-check \"/\"
  |     ^^^^^^^^^^^
  = see: it was fine here
 ::: sites/a.kdl:2:4
  |
2 | 日本 x
  |      -
  = help: did you mean `health-check`?

warning[odd]: wide <U+001B>[31mcharacters
 --> sites/a.kdl:2:1
  |
2 | 日本 x
  | ^^^^

1 error, 1 warning
";
    assert_eq!(render_human(&[example(), warning], &sources()), expected);
    assert_eq!(render_human(&[], &sources()), "");
    let colored = render_human_colored(&[example()], &sources());
    assert!(
        colored.contains("\x1b[1;31merror[unknown-key]\x1b[0m"),
        "{colored:?}"
    );
}

#[test]
fn for_machines() {
    assert_eq!(
        render_json(&[example()], &sources()),
        json!([{
            "severity": "error",
            "code": "unknown-key",
            "message": "unknown key `helth-check`",
            "file": "narthex.kdl",
            "line": 3, "column": 2, "end_line": 3, "end_column": 13,
            "help": "did you mean `health-check`?",
            "related": {
                "message": "it was fine here",
                "file": "sites/a.kdl",
                "line": 2, "column": 4, "end_line": 2, "end_column": 5,
            },
        }])
    );
}

#[test]
fn a_line_of_megabytes_is_shown_around_the_place() {
    let mut sources = Sources::default();
    let text = format!("{}here{}", "é".repeat(500_000), "x".repeat(500_000));
    let file = sources.add("one.json", text);
    let problem = Problem::error("x", Span::new(file, 1_000_000, 1_000_004), "m");
    let shown = render_human(&[problem], &sources);
    assert!(shown.len() < 1_000, "{}", shown.len());
    assert!(shown.contains(":1:500001\n"), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    let column = |line: &str, what: &str| {
        line.chars()
            .collect::<Vec<_>>()
            .windows(what.len())
            .position(|part| part.iter().collect::<String>() == what)
    };
    assert_eq!(
        column(lines[3], "here"),
        column(lines[4], "^^^^"),
        "{shown}"
    );
}

#[test]
fn lines_and_columns() {
    let sources = sources();
    let at = |start| sources.line_col(Span::new(FileId(0), start, start));
    assert_eq!(at(0), (1, 1));
    assert_eq!(at(9), (1, 10));
    assert_eq!(at(10), (2, 1));
    assert_eq!(at(18), (2, 8), "columns count characters");
    assert_eq!(at(10_000), (5, 1), "beyond the end");
    assert_eq!(
        sources.line_col(Span::new(FileId(9), 0, 0)),
        (1, 1),
        "unknown file"
    );
    assert_eq!(sources.line_text(FileId(0), 2), "site \"é\" {");
}

#[test]
fn lines_and_columns_agree_with_counting() {
    let text: String = (0..5_000)
        .map(|n| {
            if n % 37 == 0 {
                '\n'
            } else if n % 3 == 0 {
                '日'
            } else {
                'x'
            }
        })
        .collect();
    let mut sources = Sources::default();
    let file = sources.add("t", text.as_str());
    let (mut line, mut column) = (1, 1);
    for (at, character) in text.char_indices() {
        assert_eq!(
            sources.line_col(Span::new(file, at, at)),
            (line, column),
            "{at}"
        );
        (line, column) = if character == '\n' {
            (line + 1, 1)
        } else {
            (line, column + 1)
        };
    }
}
