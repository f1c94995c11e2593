//! The machine form.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod syntax_support;

use narthex_config::problem::Problem;
use narthex_config::source::FileId;
use narthex_config::syntax::json::{from_document, to_document};
use narthex_config::syntax::{Document, parse};
use serde_json::json;
use syntax_support::show;

fn read(text: &str) -> (Document, Vec<Problem>) {
    let mut problems = Vec::new();
    let document = to_document(FileId(0), text, &mut problems);
    (document, problems)
}

/// The JSON means the same as the KDL.
#[track_caller]
fn same(json: &str, kdl: &str) {
    let (document, problems) = read(json);
    assert!(problems.is_empty(), "{json}: {problems:#?}");
    let mut problems = Vec::new();
    let expected = parse(FileId(0), kdl, &mut problems);
    assert!(problems.is_empty(), "{kdl}: {problems:#?}");
    assert_eq!(show(&document.nodes), show(&expected.nodes));
}

#[track_caller]
fn one(text: &str, code: &str, marked: &str) {
    let (_, problems) = read(text);
    assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
    assert_eq!(problems[0].code, code, "{problems:#?}");
    assert_eq!(
        &text[problems[0].span.start as usize..problems[0].span.end as usize],
        marked,
        "{problems:#?}"
    );
}

#[test]
fn the_forms_of_a_node() {
    same("[]", "");
    same(r#"[{"version": 1}]"#, "version 1");
    same(
        r#"[{"compress": ["zstd", "br"]}, {"tls": []}]"#,
        "compress \"zstd\" \"br\"\ntls",
    );
    same(r#"{"version": 1, "tls": [], "a": {}}"#, "version 1\ntls\na");
    same(
        r#"[{"site": {"args": "a.example", "props": {"k": true, "j": null}, "children": [{"proxy": "b"}, {"proxy": "c"}]}}]"#,
        "site \"a.example\" k=#true j=#null {\n proxy \"b\"\n proxy \"c\"\n}",
    );
    same(
        r#"[{"a": {"children": {"b": 1, "c": 2}}}, {"d": {"children": []}}]"#,
        "a { b 1; c 2 }\nd {}",
    );
    same(
        r##"[{"a": [1.5, -2, 1e3, "\u00e9\ud83d\ude00\n\/", {"number": "#-inf"}, null]}]"##,
        "a 1.5 -2 1e3 \"é😀\\n/\" #-inf #null",
    );
}

#[test]
fn numbers_that_json_cannot_write() {
    let kdl = "a #inf #-inf 170141183460469231731687303715884105727 18446744073709551615 -9223372036854775808 2.0\nb #inf\n";
    let document = parse(FileId(0), kdl, &mut Vec::new());
    let written = from_document(&document);
    assert_eq!(
        written[0]["a"][2],
        json!({"number": "170141183460469231731687303715884105727"})
    );
    assert_eq!(written[0]["a"][3], json!(u64::MAX));
    assert_eq!(written[1], json!({"b": [{"number": "#inf"}]}));
    same(&written.to_string(), kdl);
}

#[test]
fn what_is_written() {
    let document = parse(
        FileId(0),
        "a 1\nb\nc 1 2\nd 1 k=2 { e }\nf {}\n",
        &mut Vec::new(),
    );
    assert_eq!(
        from_document(&document),
        json!([
            {"a": 1},
            {"b": []},
            {"c": [1, 2]},
            {"d": {"args": [1], "props": {"k": 2}, "children": [{"e": []}]}},
            {"f": {"children": []}},
        ])
    );
}

#[test]
fn mistakes_have_their_place() {
    one(r#"[{"a": 1, "b": 2}]"#, "json-form", r#"{"a": 1, "b": 2}"#);
    one(r#"["a"]"#, "json-form", r#""a""#);
    one(r#""a""#, "json-form", r#""a""#);
    one(r#"[{"a": {"weight": 2}}]"#, "json-form", r#""weight""#);
    one(r#"[{"a": [[1]]}]"#, "json-form", "[1]");
    one(r#"[{"a": {"props": [1]}}]"#, "json-form", "[1]");
    one(r#"[{"a": {"children": 1}}]"#, "json-form", "1");
    one(
        r#"{"a": 1, "\u0061": 2}"#,
        "repeated-property",
        r#""\u0061""#,
    );
    one(r#"[{"a": 1},]"#, "json-syntax", ",");
    one(r#"[{"a": 01}]"#, "number", "01");
    one("[1\n", "json-syntax", "");
    one("[\"a\n\"]", "unclosed-string", "\"a");
    one("[] x", "json-syntax", "x");
    one("// c\n[]", "json-syntax", "/");
    one(r#"["\ud800"]"#, "json-syntax", "\\");
    one("", "json-syntax", "");
    let (document, problems) = read(r#"[{"a": [[1]]}, 7, {"b": 1}]"#);
    assert_eq!((document.nodes.len(), problems.len()), (2, 2));
}

#[test]
fn spans_point_into_the_json() {
    let text = r#"[{"site": {"args": ["é", 2], "props": {"k": true}}}]"#;
    let (document, _) = read(text);
    let at = |span: narthex_config::source::Span| &text[span.start as usize..span.end as usize];
    let node = &document.nodes[0];
    assert_eq!(at(node.name.span), "\"site\"");
    assert_eq!(at(node.args[0].span), "\"é\"");
    assert_eq!(at(node.props[0].0.span), "\"k\"");
    assert_eq!(at(node.props[0].1.span), "true");
}

#[test]
fn depth_is_bounded() {
    for open in ["[", "{\"a\":", "[{\"a\":{\"children\":"] {
        let (_, problems) = read(&open.repeat(100_000));
        assert_eq!(problems.len(), 1);
    }
    let nested =
        |depth: usize| "[{\"a\":{\"children\":".repeat(depth) + "[]" + &"}}]".repeat(depth);
    assert!(read(&nested(64)).1.is_empty());
    assert_eq!(read(&nested(65)).1[0].code, "too-deep");
}
