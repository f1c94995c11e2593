//! Generated documents and a notation without spans, for all tests of the syntax.

// Not every test uses everything.
#![allow(dead_code)]

use std::fmt::Write as _;

use narthex_config::syntax::tree::{Node, Scalar};
use proptest::prelude::*;

/// A document without spans.
pub fn show(nodes: &[Node]) -> String {
    nodes.iter().map(show_node).collect()
}

fn show_node(node: &Node) -> String {
    let mut out = format!("{:?}", node.name.text);
    for value in &node.args {
        let _ = write!(out, " {}", show_scalar(&value.scalar));
    }
    for (key, value) in &node.props {
        let _ = write!(out, " {:?}={}", key.text, show_scalar(&value.scalar));
    }
    if let Some(children) = &node.children {
        let _ = write!(out, " {{{}}}", show(children));
    }
    out + ";"
}

fn show_scalar(scalar: &Scalar) -> String {
    match scalar {
        Scalar::String(text) => format!("{text:?}"),
        Scalar::Integer(number) => number.to_string(),
        Scalar::Float(number) => format!("{number:e}"),
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Null => "null".into(),
    }
}

fn pick(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(choices).prop_map(str::to_owned)
}

/// White space that must be there.
fn gap() -> impl Strategy<Value = String> {
    pick(&[
        " ",
        " ",
        " ",
        "\t",
        "  ",
        " /* c */ ",
        "/* a /* b */ */",
        " \\\n",
        " \\ // c\n  ",
        "\u{A0}",
        " /*\n*/ ",
    ])
}

/// White space that may be missing.
fn maybe_gap() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => gap()]
}

fn string() -> impl Strategy<Value = String> {
    let quoted = pick(&[
        r#""""#,
        r#""x y""#,
        r#""a\\b\"c""#,
        r#""\u{e9}\n\t\s""#,
        "\"a \\   b\"",
        "\"a\\\n   b\"",
        "\"// {};\"",
        "\"\u{e9}\u{3000}\"",
    ]);
    let raw = pick(&["#\"^/v\\d+$\"#", "##\"a \"# b\"##", "#\"\"#", "#\"a\"\"#"]);
    let multi = pick(&[
        "\"\"\"\n  a\n    b\n\n  c\n  \"\"\"",
        "\"\"\"\n\"\"\"",
        "\"\"\"\r\n\ta \"q\" \\n\r\n \t\r\n\tb\r\n\t\"\"\"",
        "\"\"\"\n  a \\\n     b\n  \"\"\"",
        "\"\"\"\n \\u{41}\\\\\n \"\"\"",
        "#\"\"\"\n  a \\n\n   \"\"\" b\n  \"\"\"#",
    ]);
    prop_oneof![3 => quoted, 2 => raw, 1 => multi]
}

fn word() -> impl Strategy<Value = String> {
    let fixed = pick(&[
        "a",
        "route",
        "rate-limit",
        "-x",
        "+",
        "-",
        ".x",
        "-.x",
        "<b>",
        "a.b",
        "a:b",
        "a,b",
        "\u{e9}",
        "truex",
        "r",
        "\u{1F600}",
    ]);
    prop_oneof![2 => fixed, 1 => "[a-z_][a-z0-9_.:!?*%&|~^$@'+-]{0,6}[a-z0-9]"]
        .prop_filter("reserved", |word| {
            !matches!(word.as_str(), "true" | "false" | "null" | "inf" | "nan")
        })
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f32>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| format!("{number:?}")),
        pick(&[
            "0",
            "-0",
            "+1_000_",
            "0x1F_f",
            "-0b10",
            "0o17",
            "1_0.0_1e+1_0",
            "1E-3",
            "00012",
            "-0.0"
        ]),
    ]
}

fn value() -> impl Strategy<Value = String> {
    let keyword = pick(&["#true", "#false", "#null", "#inf", "#-inf", "#nan"]);
    prop_oneof![string(), word(), number(), keyword]
}

fn entry() -> impl Strategy<Value = String> {
    let key = prop_oneof![3 => word(), 1 => string()];
    let property = (key, maybe_gap(), maybe_gap(), value())
        .prop_map(|(key, a, b, value)| format!("{key}{a}={b}{value}"));
    let plain = prop_oneof![3 => value(), 2 => property];
    let slashdash = pick(&["", "", "", "", "/-", "/- ", "/-\n", "/- /* c */ // d\n"]);
    (slashdash, plain).prop_map(|(slashdash, plain)| slashdash + &plain)
}

fn node(children: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let name = prop_oneof![3 => word(), 1 => string()];
    let slashdash = pick(&["", "", "", "", "", "/-", "/- ", "/-\n\n"]);
    let entries =
        prop::collection::vec((gap(), entry()).prop_map(|(gap, entry)| gap + &entry), 0..4);
    // The peer wants a space between a word and `/-{`.
    let block = (maybe_gap(), pick(&["", "", "", " /-"]), children)
        .prop_map(|(gap, slashdash, children)| format!("{gap}{slashdash}{{{children}}}"));
    (
        slashdash,
        name,
        entries,
        prop::option::of(block),
        maybe_gap(),
    )
        .prop_map(|(slashdash, name, entries, block, gap)| {
            format!(
                "{slashdash}{name}{}{}{gap}",
                entries.concat(),
                block.unwrap_or_default()
            )
        })
}

/// Well-formed documents.
pub fn document() -> impl Strategy<Value = String> {
    let leaf = Just(String::new()).boxed();
    leaf.prop_recursive(5, 64, 5, |inner| {
        let end = pick(&[
            "\n", ";", " // c\n", "\r\n", "\u{85}", "\u{2028}", "\n\n\n", ";\n",
        ]);
        let before = pick(&["", "", " ", "\n", "/* c */", "// c\n", "\\\n"]);
        prop::collection::vec((before, node(inner.boxed()), end), 1..6).prop_map(|nodes| {
            nodes
                .into_iter()
                .map(|(before, node, end)| before + &node + own_end(&node, &end))
                .collect()
        })
    })
}

/// The peer refuses a `;` behind a node that is commented out.
fn own_end<'a>(node: &str, end: &'a str) -> &'a str {
    if node.starts_with("/-") && end.starts_with(';') {
        "\n"
    } else {
        end
    }
}

/// Mostly wrong documents.
pub fn soup() -> impl Strategy<Value = String> {
    let piece = pick(&[
        "a", "b", "a=", "=", "1", "-", "10s", "\"x\"", "\"", "#", "#\"", "\"#", "\"\"\"", "#true",
        "true", "{", "}", ";", "\n", " ", " ", "\\", "/-", "/*", "*/", "//", "/", "(", ")", "[",
        "\u{FEFF}", "\u{7}", "\\\n", "\t", ".5", "0x", "\u{85}", "\\u{41}",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}
