//! What KDL 2 allows, one rule at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;

use narthex_config::source::FileId;
use narthex_config::syntax::tree::{Node, Scalar};
use narthex_config::syntax::{Document, parse};

fn read(text: &str) -> Document {
    let mut problems = Vec::new();
    let document = parse(FileId(0), text, &mut problems);
    assert!(problems.is_empty(), "{text:?}: {problems:#?}");
    document
}

/// A document without spans, in a notation of its own: `name arg k=v {children}`.
fn show(nodes: &[Node]) -> String {
    nodes.iter().map(show_node).collect::<Vec<_>>().join("; ")
}

fn show_node(node: &Node) -> String {
    let mut out = node.name.text.clone();
    for value in &node.args {
        let _ = write!(out, " {}", show_scalar(&value.scalar));
    }
    for (key, value) in &node.props {
        let _ = write!(out, " {}={}", key.text, show_scalar(&value.scalar));
    }
    if let Some(children) = &node.children {
        let _ = write!(out, " {{{}}}", show(children));
    }
    out
}

fn show_scalar(scalar: &Scalar) -> String {
    match scalar {
        Scalar::String(text) => format!("{text:?}"),
        Scalar::Integer(number) => number.to_string(),
        Scalar::Float(number) => format!("{number:?}"),
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Null => "null".into(),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(show(&read(text).nodes), expected, "{text:?}");
}

#[test]
fn nodes_and_what_ends_them() {
    check("", "");
    check("\n \n\t\r\n", "");
    check("a", "a");
    check(
        "a\nb\r\nc\rd\u{85}e\u{0B}f\u{0C}g\u{2028}h\u{2029}i",
        "a; b; c; d; e; f; g; h; i",
    );
    check("a;b; c\n", "a; b; c");
    check("a { b; c }", "a {b; c}");
    check("a{b{c}}", "a {b {c}}");
    check("a {}\nb { }\nc {\n}", "a {}; b {}; c {}");
    check("a {\n  b 1\n}; c", "a {b 1}; c");
    check(
        "\"quoted name\" 1\n#\"raw\"# 2\n\"\" 3",
        "quoted name 1; raw 2;  3",
    );
    check("\u{FEFF}a 1", "a 1");
}

#[test]
fn arguments_and_properties() {
    check("a 1 k=2 3 j=\"x\"", "a 1 3 k=2 j=\"x\"");
    check("a k = 1 j= 2 i =3", "a k=1 j=2 i=3");
    check("a \"quoted key\"=1", "a quoted key=1");
    check(
        "a word -dash +plus .dot - + -. ..",
        "a \"word\" \"-dash\" \"+plus\" \".dot\" \"-\" \"+\" \"-.\" \"..\"",
    );
    check(
        "a \u{e9}\u{1F600} <b> a,b x:y a'b",
        "a \"\u{e9}\u{1F600}\" \"<b>\" \"a,b\" \"x:y\" \"a'b\"",
    );
    check("a\u{A0}1\u{3000}2\u{2009}3", "a 1 2 3");
    check(
        "a truely null-ish -infinite",
        "a \"truely\" \"null-ish\" \"-infinite\"",
    );
}

#[test]
fn keywords_and_numbers() {
    check("a #true #false #null k=#true", "a true false null k=true");
    check("a #inf #-inf #nan", "a inf -inf NaN");
    check(
        "a 1 -2 +3 1_000 0xFF -0x1f 0o17 0b1_01",
        "a 1 -2 3 1000 255 -31 15 5",
    );
    check(
        "a 1.5 -2.5e3 1e3 1E-2 1_0.0_1",
        "a 1.5 -2500.0 1000.0 0.01 10.01",
    );
}

#[test]
fn strings() {
    check(
        r#"a "" "x" "\n\r\t\\\"\b\f\s" "\u{e9}\u{1F600}""#,
        "a \"\" \"x\" \"\\n\\r\\t\\\\\\\"\\u{8}\\u{c} \" \"é😀\"",
    );
    check("a \"one \\   \n   two\"", "a \"one two\"");
    check(
        "a #\"^/v\\d+/\"# ##\"say \"#hi\"#\"## #\"\"#",
        "a \"^/v\\\\d+/\" \"say \\\"#hi\\\"#\" \"\"",
    );
    check(
        "a \"// no comment\" \"/* none */\" \"{};\"",
        "a \"// no comment\" \"/* none */\" \"{};\"",
    );
}

#[test]
fn multi_line_strings() {
    check(
        "a \"\"\"\n  one\n    two\n\n  three\n  \"\"\"",
        "a \"one\\n  two\\n\\nthree\"",
    );
    check("a \"\"\"\n\"\"\"", "a \"\"");
    check(
        "a \"\"\"\r\n\tone\r\n   \r\n\ttwo\r\n\t\"\"\"",
        "a \"one\\n\\ntwo\"",
    );
    check(
        "a \"\"\"\n  say \"hi\" \\\"\"\" \\n\n  \"\"\"",
        "a \"say \\\"hi\\\" \\\"\\\"\\\" \\n\"",
    );
    check("a \"\"\"\n  one \\\n     two\n  \"\"\"", "a \"one two\"");
    check("a \"\"\"\n  \\u{e9}\\s\n  \"\"\"", "a \"é \"");
    check(
        "a #\"\"\"\n  raw \\n \"\"\" here\n  \"\"\"#",
        "a \"raw \\\\n \\\"\\\"\\\" here\"",
    );
}

#[test]
fn comments_and_continued_lines() {
    check(
        "// c\na // d\nb /* e */ 1 /* f\n g */ 2\n/* h /* nested */ */ c",
        "a; b 1 2; c",
    );
    check("a \\\n  1 \\ // why\n  2 \\ /* x */ \n 3", "a 1 2 3");
    check("a \\", "a");
    check("a/* tight */1 //", "a 1");
}

#[test]
fn slashdash() {
    check("/-a 1 {\n b\n}\nc", "c");
    check("a /-1 2 /-k=3 j=4", "a 2 j=4");
    check("a /-k=1 k=2", "a k=2");
    check("a /-{ b } { c } /-{ d }", "a {c}");
    check("/- kdl-version 2\na", "a");
    check("/-\n// why\na\nb", "b");
    check("a /-\n 1 2", "a 2");
    check("a { /-b; c }", "a {c}");
}

#[test]
fn the_examples_of_the_manual() {
    let document = read(
        r##"
version 1
listen ":443" { tls }
upstream "api" {
    server "10.0.0.2:8080" weight=2 backup=#true
    retry attempts=2 budget="20%" on="connect,reset,502,503" 
}
site "shop.example.com" "*.shop.example.com" {
    route path="/old/{rest*}" { redirect "/new/{rest}" status=308 }
    route { when { header "X-Beta" "1"; cookie "beta" "on" }; proxy "web-next" }
    route path=#"^/v\d+/"# { split by="cookie:visitor" { to "web" "95%"; to "web-next" "5%" } }
}
"##,
    );
    assert_eq!(document.nodes.len(), 4);
    let routes = document.nodes[3].children.as_ref().unwrap();
    assert_eq!(
        show_node(&routes[2].children.as_ref().unwrap()[0]),
        "split by=\"cookie:visitor\" {to \"web\" \"95%\"; to \"web-next\" \"5%\"}"
    );
}

#[test]
fn spans_cover_exactly_what_was_written() {
    let text = "é \"x\\n\" key=#\"v\"# {\n  child 10 // c\n}\n";
    let document = read(text);
    let at = |span: narthex_config::source::Span| &text[span.start as usize..span.end as usize];
    let node = &document.nodes[0];
    assert_eq!(at(node.span), "é \"x\\n\" key=#\"v\"#");
    assert_eq!(at(node.name.span), "é");
    assert_eq!(at(node.args[0].span), "\"x\\n\"");
    assert_eq!(at(node.props[0].0.span), "key");
    assert_eq!(at(node.props[0].1.span), "#\"v\"#");
    let child = &node.children.as_ref().unwrap()[0];
    assert_eq!(at(child.span), "child 10");
    assert_eq!(at(child.args[0].span), "10");
}

#[test]
fn sixty_four_blocks_are_allowed() {
    let text = "a {".repeat(64) + &"}".repeat(64);
    let mut node = &read(&text).nodes[0];
    let mut depth = 0;
    while let Some(child) = node.children.as_ref().and_then(|children| children.first()) {
        node = child;
        depth += 1;
    }
    assert_eq!(depth, 63);
}

#[test]
fn a_hundred_thousand_sites() {
    let mut text = String::new();
    for number in 0..100_000 {
        let _ = write!(
            text,
            "site \"s{number}.example\" {{\n    proxy \"10.0.0.1:80\"\n}}\n"
        );
    }
    assert_eq!(read(&text).nodes.len(), 100_000);
}
