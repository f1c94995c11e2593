//! What is refused, where, and with which remedy; and that one mistake does not hide the next.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;

use narthex_config::problem::{Problem, render_human};
use narthex_config::source::{FileId, Sources};
use narthex_config::syntax::tree::Scalar;
use narthex_config::syntax::{Document, MAX_PROBLEMS, parse};

fn read(text: &str) -> (Document, Vec<Problem>) {
    let mut problems = Vec::new();
    let document = parse(FileId(0), text, &mut problems);
    (document, problems)
}

/// Expects exactly one problem: its code, the text it underlines, and a part of its help.
#[track_caller]
fn one(text: &str, code: &str, marked: &str, help: &str) -> Document {
    let (document, problems) = read(text);
    assert_eq!(problems.len(), 1, "{text:?}: {problems:#?}");
    let problem = &problems[0];
    assert_eq!(problem.code, code, "{text:?}: {problem:#?}");
    assert_eq!(
        &text[problem.span.start as usize..problem.span.end as usize],
        marked,
        "{text:?}: {problem:#?}"
    );
    let given = problem.help.as_deref().unwrap_or("");
    assert!(
        given.contains(help),
        "{text:?}: help is {given:?}, wanted {help:?}"
    );
    document
}

/// Expects these problems, as `code at line:column`.
#[track_caller]
fn all(text: &str, expected: &[&str]) -> Document {
    let (document, problems) = read(text);
    let mut sources = Sources::default();
    sources.add("t", text);
    let found: Vec<String> = problems
        .iter()
        .map(|problem| {
            let (line, column) = sources.line_col(problem.span);
            format!("{} at {line}:{column}", problem.code)
        })
        .collect();
    assert_eq!(
        found,
        expected,
        "{text:?}\n{}",
        render_human(&problems, &sources)
    );
    document
}

#[test]
fn words_without_their_marks() {
    let document = one("a true", "bare-keyword", "true", "write #true");
    assert_eq!(document.nodes[0].args[0].scalar, Scalar::Bool(true));
    one("a k=false", "bare-keyword", "false", "write #false");
    one("a null", "bare-keyword", "null", "write #null");
    one("a #yes", "keyword", "#yes", "#true");
    one("# comment", "node-name", "#", "`//`");
    one("true 1", "node-name", "true", "name");
}

#[test]
fn units_and_texts_without_quotation_marks() {
    for word in [
        "10s",
        "64KiB",
        "100/s",
        "30%",
        "127.0.0.1:80",
        "10.0.0.0/8",
        "1.5ms",
        "/api/*",
        "/old/{rest*}",
        "a/b/*",
        "http://x:1/y",
    ] {
        let document = one(
            &format!("a {word}\nb"),
            if word.contains('/') {
                "unquoted"
            } else {
                "number"
            },
            word,
            &format!("write \"{word}\""),
        );
        assert_eq!(
            document.nodes[0].args[0].scalar,
            Scalar::String(word.into())
        );
        assert_eq!(document.nodes.len(), 2);
        one(
            &format!("a k={word} {{ b }}"),
            if word.contains('/') {
                "unquoted"
            } else {
                "number"
            },
            word,
            &format!("write \"{word}\""),
        );
    }
    one("a path=/*\nb", "unquoted", "/*", "write \"/*\"");
    one("a foo(bar)", "unquoted", "foo(bar)", "write \"foo(bar)\"");
    one("a k=b=c", "unquoted", "b=c", "write \"b=c\"");
}

#[test]
fn numbers() {
    one("a 1.", "number", "1.", "correct");
    one("a .5", "number", ".5", "correct");
    one("a 0xg", "number", "0xg", "correct");
    one("a 1e400", "number-too-large", "1e400", "smaller");
    one(
        "a 999999999999999999999999999999999999999999",
        "number-too-large",
        "999999999999999999999999999999999999999999",
        "smaller",
    );
    one("80 a", "node-name", "80", "name");
    one("a 1=2", "property-key", "1", "\"1\"");
}

#[test]
fn marks_of_other_languages() {
    one("workers = 4", "stray-equals", "=", "workers 4");
    one("workers=4", "stray-equals", "=", "workers 4");
    one("workers: 4", "name-mark", "workers:", "write `workers`");
    one("a k: \"v\"", "colon", "k:", "k=\"value\"");
    one("a \"x\", \"y\"", "comma", ",", "remove the comma");
    one("a GET, POST", "comma", ",", "remove the comma");
    one("a 1, 2", "comma", ",", "remove the comma");
    one("a \"x\",", "comma", ",", "remove the comma");
    one("a , 1", "comma", ",", "remove the comma");
    one("a [1]", "stray-character", "[1]", "one after the other");
    one(
        "a r\"\\d\"",
        "old-raw-string",
        "r\"\\d\"",
        "write #\"\\d\"#",
    );
    one("a r#\"x\"#", "old-raw-string", "r#\"x\"#", "write #\"x\"#");
    one("a (u8)1", "type-annotation", "(u8)", "remove `(u8)`");
    one("(t)a 1", "type-annotation", "(t)", "remove `(t)`");
    one("a k=(u8)1", "type-annotation", "(u8)", "remove `(u8)`");
    one("a \"x\"\"y\"", "missing-space", "\"y\"", "spaces");
    one("a;;b", "stray-character", ";", "remove");
}

#[test]
fn strings() {
    one("a \"x\nb", "unclosed-string", "\"x", "close it with `\"`");
    one(
        "a #\"x\nb",
        "unclosed-string",
        "#\"x",
        "close it with `\"#`",
    );
    one(
        "a {\n b \"\"\"\n c\n}\nd",
        "unclosed-string",
        "\"\"\"",
        "close it with `\"\"\"`",
    );
    one("a \"^/v\\d\"", "escape", "\\d", "raw string");
    one("a \"\\u{110000}\"", "escape", "\\u{110000}", "hexadecimal");
    one("a \"\\u{d800}\"", "escape", "\\u{d800}", "hexadecimal");
    one("a \"\\u12\"", "escape", "\\u", "between braces");
    one("a \"\"\"x\"\"\"", "multi-line-string", "\"\"\"", "\"...\"");
    one(
        "a \"\"\"\n  x\n  y\"\"\"",
        "multi-line-string",
        "  y",
        "line of its own",
    );
    one(
        "a \"\"\"\n  x\n y\n  \"\"\"",
        "multi-line-string",
        " ",
        "indent",
    );
    one(
        "a \"\"\"\n  one \\\n   two\n  bad \\q\n  \"\"\"",
        "escape",
        "\\q",
        "raw string",
    );
    one(
        "a \"\u{202E}\"",
        "disallowed-character",
        "\u{202E}",
        "\\u{202e}",
    );
    one("a \u{7}1", "disallowed-character", "\u{7}", "remove it");
    one("a /* x\nb", "unclosed-comment", "/*", "*/");
}

#[test]
fn blocks() {
    one("a {\n b {\n  c\n}\n", "unclosed-block", "{", "`}`");
    one("a {\n b\n", "unclosed-block", "{", "`}`");
    one(
        "a\n{\n b\n}\n",
        "misplaced-block",
        "{",
        "end of the line of `a`",
    );
    one("{ b }", "misplaced-block", "{", "name {");
    one("a }\nb", "stray-close", "}", "remove");
    one("a { } b", "after-block", "b", "new line");
    one("a { } { }", "second-block", "{", "one block");
    one("a k=", "missing-value", "", "key=");
    one("a k=1 k=2", "repeated-property", "k", "keep one");
    one("a /-", "stray-character", "/-", "directly before");
    one("a \\ b", "stray-character", "\\", "quotation");
}

#[test]
fn unbalanced_braces_name_the_line_of_the_opener() {
    let text = "site \"a\" {\n    route {\n        proxy \"x\"\n}\nsite \"b\" {\n}\n";
    let (_, problems) = read(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!(
        problems[0].span.start as usize,
        text.find("route {").unwrap() + 6
    );
    assert_eq!(
        problems[0].related.as_ref().unwrap().0.start as usize,
        text.find("\n}").unwrap() + 1
    );
}

#[test]
fn a_block_on_the_next_line_still_belongs_to_its_node() {
    let document = one("a 1\n{\n b\n}\nc", "misplaced-block", "{", "`a`");
    assert_eq!(document.nodes[0].children.as_ref().unwrap().len(), 1);
    assert_eq!(document.nodes.len(), 2);
}

#[test]
fn a_missing_quotation_mark_does_not_swallow_the_block() {
    let document = one(
        "site \"x.example {\n    proxy \"y\"\n}\nb",
        "unclosed-string",
        "\"x.example",
        "close",
    );
    assert_eq!(document.nodes[0].children.as_ref().unwrap().len(), 1);
    assert_eq!(document.nodes.len(), 2);
}

#[test]
fn one_mistake_does_not_hide_the_next() {
    let document = all(
        "listen 80x\nsite \"a {\n    compress true, 10s\n    path=/x k=1 k=2\n    proxy \"b\\q\" }\n}\n80\nok 1\n",
        &[
            "number at 1:8",
            "unclosed-string at 2:6",
            "comma at 3:18",
            "number at 3:20",
            "stray-equals at 4:9",
            "unquoted at 4:10",
            "repeated-property at 4:17",
            "escape at 5:13",
            "stray-close at 6:1",
            "node-name at 7:1",
        ],
    );
    assert_eq!(document.nodes.last().unwrap().name.text, "ok");
}

#[test]
fn depth_is_bounded_without_recursion() {
    for depth in [65, 2_000, 500_000] {
        let text = "a {".repeat(depth) + &"}".repeat(depth) + "\nb";
        let (document, problems) = read(&text);
        assert_eq!(problems.len(), 1, "{depth}: {problems:#?}");
        assert_eq!(problems[0].code, "too-deep");
        assert_eq!(document.nodes.len(), 2);
    }
    let (_, problems) = read(&"a {".repeat(500_000));
    assert_eq!(
        problems
            .iter()
            .map(|problem| problem.code)
            .collect::<Vec<_>>(),
        ["too-deep", "unclosed-block"]
    );
    let (_, problems) = read(&"/*".repeat(1_000_000));
    assert_eq!(problems.len(), 1);
}

#[test]
fn problems_are_bounded() {
    let (_, problems) = read(&"a true\n".repeat(100_000));
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    assert_eq!(problems.last().unwrap().code, "too-many-problems");
    let (_, problems) = read(&format!("a {}", "\u{7}".repeat(100_000)));
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
}

#[test]
fn messages_stay_short_whatever_the_text() {
    let word = "9x".repeat(100_000);
    for text in [
        format!("a {word}"),
        format!("{word} a"),
        format!("a {word}=1"),
        format!("a /{word}"),
        format!("a #{word}"),
    ] {
        let (_, problems) = read(&text);
        assert!(!problems.is_empty());
        let mut sources = Sources::default();
        sources.add("t", text.as_str());
        assert!(render_human(&problems, &sources).len() < 2_000);
    }
}

#[test]
fn many_properties_with_one_repeated() {
    let mut text = String::from("a");
    for number in 0..10_000 {
        let _ = write!(text, " k{number}={number}");
    }
    text += " k5000=1 k0=1";
    let (document, problems) = read(&text);
    assert_eq!(problems.len(), 2);
    assert_eq!(document.nodes[0].props.len(), 10_000);
}
